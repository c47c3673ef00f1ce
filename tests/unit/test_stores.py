"""The contract suite over every store that beam brings along."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from twisted.internet.defer import Deferred, execute

from beam.interfaces import IHouse, IStore
from beam.quota import Quota
from beam.store import make_store
from beam.store.disk import DiskStore
from beam.store.memory import MemoryStore
from beam.testing import StoreContract

T = TypeVar("T")


def at_once(call: Callable[[], T], /) -> "Deferred[T]":
    """An offload for the disk store that does not leave the thread."""
    return execute(call)


class TestMemory(StoreContract):
    """A ring that wraps many times."""

    capacity = 128 << 10

    def make_store(self, house: IHouse, tmp_path: Path) -> IStore:
        return MemoryStore(house.memory, 64 << 10, 64 << 10)


class TestMemoryWithoutHistory(StoreContract):
    """A ring in which nothing stays behind the slowest receiver."""

    capacity = 64 << 10

    def make_store(self, house: IHouse, tmp_path: Path) -> IStore:
        return MemoryStore(house.memory, 64 << 10, 0)


class TestMemoryThatGrows(StoreContract):
    """A ring that begins small."""

    capacity = 1 << 20

    def make_store(self, house: IHouse, tmp_path: Path) -> IStore:
        return MemoryStore(house.memory, 512 << 10, 512 << 10)


class TestMemoryAsOperatorsWriteIt(StoreContract):
    """As the command line makes it: rings that the memory keeps small."""

    capacity = 2 << 20  # an eighth of the memory

    def make_store(self, house: IHouse, tmp_path: Path) -> IStore:
        return make_store("memory:window=4M:history=12M", house)[1]


class TestDisk(StoreContract):
    """Files, written and read in threads."""

    cap = 2 << 20

    def make_store(self, house: IHouse, tmp_path: Path) -> IStore:
        return DiskStore(tmp_path / "data", house, Quota(2 << 20), 64 << 10, 64 << 10)


class TestDiskAsOperatorsWriteIt(StoreContract):
    """As the command line makes it."""

    cap = 4 << 20

    def make_store(self, house: IHouse, tmp_path: Path) -> IStore:
        return make_store(f"disk:{tmp_path}/data:cap=4M", house)[1]


class TestDiskAtOnce(StoreContract):
    """Every answer of the disk comes within the call that asks for it."""

    cap = 2 << 20

    def make_store(self, house: IHouse, tmp_path: Path) -> IStore:
        return DiskStore(tmp_path / "data", house, Quota(2 << 20), 64 << 10, 64 << 10, at_once)
