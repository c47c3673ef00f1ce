"""Stores as operators write them: ``NAME=PREFIX:value:name=value``."""

from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.plugin import getPlugins
from zope.interface.verify import verifyObject

from beam.interfaces import IStore, IStoreMaker
from beam.policy import size
from beam.quota import Quota
from beam.store import House, arguments, make_store
from beam.store.disk import DiskStore
from beam.store.memory import MemoryStore


def a_house(disk_path: str = "") -> House:
    """A house without a reactor that runs."""
    return House(Clock(), Quota(1 << 30), disk_path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("cap=1G", {"cap": 1 << 30}),
        ("/var/lib/beam", {"path": "/var/lib/beam"}),
        ("/var/lib/beam:cap=1K", {"path": "/var/lib/beam", "cap": 1024}),
        ("path=/x:cap=2", {"path": "/x", "cap": 2}),
        ("cap=2:path=/x=y", {"cap": 2, "path": "/x=y"}),
        (r"/a\:b:cap=2", {"path": "/a:b", "cap": 2}),
        (r"path=C\:\x", {"path": r"C:\x"}),
    ],
)
def test_arguments(text: str, found: dict[str, object]) -> None:
    """The shape of Twisted's endpoint strings."""
    assert arguments(text, "path", path=str, cap=size) == found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("colour=red", "'colour' is not one of path, cap"),
        ("/x:/y", "'/y' is not one of"),
        ("cap=1:/x", "'/x' is not one of"),
        ("/x:path=/y", "path is given twice"),
        ("cap=1:cap=1", "cap is given twice"),
        ("cap=much", "is not a size"),
        ("cap=", "is not a size"),
        ("cap", "'cap' is not one of|is not a size"),
        ("cap=1:", "'' is not one of"),
        ("=x", "'' is not one of"),
    ],
)
def test_bad_arguments(text: str, says: str) -> None:
    """One line that says what is wrong."""
    if text == "cap":
        assert arguments(text, "path", path=str, cap=size) == {"path": "cap"}
        return
    with pytest.raises(ValueError, match=says):
        arguments(text, "path", path=str, cap=size)


def test_a_value_without_a_name_where_none_may_be() -> None:
    """Memory has no first value."""
    with pytest.raises(ValueError, match="'/x' is not one of window"):
        arguments("/x", None, window=size)


@pytest.mark.parametrize(
    ("text", "name", "kind"),
    [
        ("memory", "memory", MemoryStore),
        ("memory:", "memory", MemoryStore),
        ("memory:window=1M:history=0:cap=64M", "memory", MemoryStore),
        ("fast=memory:window=256K", "fast", MemoryStore),
        ("disk:/x", "disk", DiskStore),
        ("archive=disk:/x:cap=1G", "archive", DiskStore),
    ],
)
def test_stores(text: str, name: str, kind: type) -> None:
    """A store and its name: given, or the word before the colon."""
    found, store = make_store(text, a_house())
    assert (found, type(store)) == (name, kind)
    verifyObject(IStore, store)


def test_makers_are_plugins() -> None:
    """Both are found as any third party's is."""
    makers = {maker.prefix: maker for maker in getPlugins(IStoreMaker)}
    assert {"memory", "disk"} <= makers.keys()
    for maker in makers.values():
        verifyObject(IStoreMaker, maker)


def test_the_cap_of_the_memory_is_that_of_all_rings() -> None:
    """What the store's string says wins over the flag."""
    house = a_house()
    make_store("memory:cap=64M", house)
    assert house.memory.cap == 64 << 20
    make_store("memory", house)
    assert house.memory.cap == 64 << 20


def test_the_path_of_a_disk_may_come_from_a_flag(tmp_path: Path) -> None:
    """``--data-dir``, and what the store's string says wins."""
    for text, path in (("disk", tmp_path / "flag"), (f"disk:{tmp_path}/string", tmp_path / "string")):
        store = make_store(text, a_house(f"{tmp_path}/flag"))[1]
        store.start()
        store.stop()
        assert path.is_dir()
        path.joinpath(".lock").unlink()
        path.rmdir()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no store ''; installed are disk, forward, memory"),
        ("tape:/dev/st0", "no store 'tape'"),
        ("x=tape", "no store 'tape'"),
        ("Memory", "no store 'Memory'"),
        ("memory:/x", "store memory: "),
        ("memory:window=1", "store memory: window is at least 256K"),
        ("memory:window=0", "window is at least"),
        ("memory:cap=1K", "cap is at least 256K"),
        ("memory:window=-1", "is not a size"),
        ("disk", "store disk: a path is missing"),
        ("disk:", "a path is missing"),
        ("disk:cap=1G", "a path is missing"),
        ("disk:/x:cap=-1", "is not a size"),
        ("disk:/x:window=0", "window is at least"),
        ("disk:/x:window=1K", "window is at least"),
    ],
)
def test_stores_that_cannot_be(text: str, says: str) -> None:
    """Refused before anything is bound, in a sentence for the operator."""
    with pytest.raises(ValueError, match=says) as caught:
        make_store(text, a_house())
    assert "\n" not in str(caught.value)
