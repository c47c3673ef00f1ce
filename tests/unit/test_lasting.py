"""Bodies that outlive their server: what was told to be safe is there at the next start, and all else is gone."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from unit.disks import MIB, RING, Disk
from unit.test_stores import at_once

from beam.errors import BeamError, SenderLost, Unavailable
from beam.interfaces import IFound, IHouse, IStore
from beam.quota import Quota
from beam.store.disk import DiskStore
from beam.testing import Rehearsal, StoreContract, some_bytes

GONE = SenderLost("The sender left before the end.")
STOPPED = Unavailable("This server stops.")
WORTH_IT = RING // 4
DATA = some_bytes(5 * MIB + 12_345)


class AsStore:
    """A store whose every spool is a lasting one, for those who know of no other.

    :ivar record: what is written of the next spool.
    :ivar found: what the next spool goes on with, if anything.
    """

    def __init__(self, store: DiskStore) -> None:
        self.record = b"what is to be known"
        self.store = store
        self.found: IFound | None = None

    def create(self, length: int | None, failed: Callable[[BeamError], None]) -> Any:
        """See ``IStore``."""
        found, self.found = self.found, None
        if found is not None:
            return found.open(length, failed, lambda: self.record)
        return self.store.create_lasting(length, failed, lambda: self.record)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


class TestLastingIsAStore(StoreContract):
    """Nothing is different for those who send and receive."""

    cap = 2 << 20

    def make_store(self, house: IHouse, tmp_path: Path) -> IStore:
        store: Any = AsStore(DiskStore(tmp_path / "data", house, Quota(2 << 20), 64 << 10, 64 << 10))
        return store

    def test_provides_the_interfaces(self) -> None:  # type: ignore[override]
        """``test_interfaces`` has it."""


class TestLastingAtOnce(TestLastingIsAStore):
    """Every answer of the disk comes within the call that asks for it."""

    def make_store(self, house: IHouse, tmp_path: Path) -> IStore:
        store: Any = AsStore(DiskStore(tmp_path / "data", house, Quota(2 << 20), 64 << 10, 64 << 10, at_once))
        return store


class Server(Disk):
    """A server's life, which may end in any way; all of one test's share a folder."""

    def __init__(self, path: Path, cap: int = 64 * MIB, **more: Any) -> None:
        super().__init__(path, cap, **more)
        self.lasting: Any = AsStore(self.store)

    def begin(self, data: bytes = DATA, known: bool = True, found: IFound | None = None, sent: int = 0) -> Rehearsal:
        """Begin to send ``data``, or go on with what was ``found``, from ``sent``."""
        self.lasting.found = found
        body = Rehearsal(self.lasting, data, known=known)
        body.sent = body.spool.head
        assert body.sent <= sent
        return body

    def send_to(self, body: Rehearsal, upto: int | None = None) -> None:
        """Send on, until ``upto`` bytes are written as far as a writer would, or all."""
        body.feed(upto)
        while self.offload.waiting:
            self.offload.run()

    def save(self, body: Rehearsal, record: bytes = b"saved") -> None:
        """Save a record, and wait for it."""
        self.lasting.record = record
        saved: list[None] = []
        spool: Any = body.spool
        spool.save().addCallback(saved.append)
        self.offload.run_all()
        assert saved == [None]

    def finish(self, body: Rehearsal) -> None:
        """Say that the body is whole, and wait until it is safe."""
        body.finish()
        self.offload.run_all()
        assert body.safe

    def die(self) -> None:
        """End as a crash does: nothing more is run, nothing is removed, and the system lets go of the lock."""
        self.offload.waiting.clear()
        home = self.store._home
        os.close(home._lock)
        home._own, home._lock = None, -1
        self.store._pool.stop()

    def found(self) -> IFound:
        """The only one that was found."""
        (found,) = self.store.recover()
        return found

    def nothing_found(self) -> None:
        """Nothing was left, and no trace of it is."""
        assert self.store.recover() == []
        assert self.files() == []
        self.check_empty()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the servers of a test have their folders."""
    return tmp_path / "data"


def test_over_three_servers(path: Path) -> None:
    """The first begins it, the second ends it, the third gives it away."""
    one = Server(path)
    body = one.begin()
    drain = body.open()
    one.save(body)
    one.send_to(body, 3 * MIB)
    spool: Any = body.spool
    spool.suspend(STOPPED)
    assert drain.error is STOPPED
    one.offload.run_all()
    one.store.stop()
    two = Server(path)
    found = two.found()
    assert (found.size, found.record) == (3 * MIB, b"saved")
    body = two.begin(found=found, sent=found.size)
    early, late = body.open(), body.open(2 * MIB + 5)
    two.send_to(body)
    two.finish(body)
    assert early.complete and late.complete
    assert two.data().read_bytes() == DATA
    two.save(body, b"newer")
    spool = body.spool
    spool.suspend(STOPPED)
    two.store.stop()
    three = Server(path)
    found = three.found()
    body = three.begin(found=found, sent=len(DATA))
    assert body.sent == len(DATA)
    drain = body.open()
    three.finish(body)
    three.offload.run_all()
    assert drain.complete
    body.spool.release()
    drain.close()
    three.nothing_found()
    three.store.stop()
