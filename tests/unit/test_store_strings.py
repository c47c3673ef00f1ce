"""Stores as operators write them: ``NAME=PREFIX:value:name=value``."""

from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.plugin import getPlugins
from zope.interface.verify import verifyObject

from beam.errors import BadRequest
from beam.interfaces import IForwardingStore, IStore, IStoreMaker
from beam.quota import Quota
from beam.store import House, arguments, make_store
from beam.store.disk import DiskStore
from beam.store.forward import ForwardStore
from beam.store.memory import MemoryStore
from beam.target import parse_target
from beam.values import size


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
        ("forward:https://bucket.example/{key}", "forward", ForwardStore),
        ("backup=forward:http://127.0.0.1:9000/a/{key}?sig=x:y=z", "backup", ForwardStore),
    ],
)
def test_stores(text: str, name: str, kind: type) -> None:
    """A store and its name: given, or the word before the colon."""
    found, store = make_store(text, a_house())
    assert (found, type(store)) == (name, kind)
    verifyObject(IStore, store)


def test_makers_are_plugins() -> None:
    """All are found as any third party's is."""
    makers = {maker.prefix: maker for maker in getPlugins(IStoreMaker)}
    assert {"memory", "disk", "forward"} <= makers.keys()
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
        ("forward", "store forward: The forward address is no URL"),
        ("forward:", "The forward address is no URL"),
        ("forward:{key}", "The forward address is no URL"),
        ("forward:bucket.example/{key}", "The forward address is no URL"),
        ("forward:ftp://bucket.example/{key}", "must begin with http:// or https://"),
        ("forward:https://u:p@bucket.example/{key}", "has a user name"),
        ("forward:https://bucket.example:0/{key}", "The port of the forward address"),
        ("forward:https://bucket.example/{key}#x", "The forward address is no URL"),
        ("forward:https://bucket.example/{key}/{name}", "The forward address is no URL"),
        ("forward:https://bucket.example/", "needs {key} in its path"),
        ("forward:https://bucket.example/key", "needs {key} in its path"),
        ("forward:https://bucket.example/{KEY}", "The forward address is no URL"),
        ("forward:https://{key}.example/", "needs {key} in its path"),
        ("forward:https://{key}.example/{key}", "needs {key} in its path"),
        ("forward:https://bucket.example:{key}/{key}", "The forward address is no URL"),
        ("forward:{key}://bucket.example/{key}", "must begin with http"),
        ("forward:https://*.example/{key}", "The forward address is no URL"),
    ],
)
def test_stores_that_cannot_be(text: str, says: str) -> None:
    """Refused before anything is bound, in a sentence for the operator."""
    with pytest.raises(ValueError, match=says) as caught:
        make_store(text, a_house())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "key", "url"),
    [
        ("https://h/{key}", "k", "https://h/k"),
        ("https://h/{key}", "a/b", "https://h/a/b"),
        ("https://h/in/{key}.bin", "a b", "https://h/in/a%20b.bin"),
        ("https://h/{key}", "ü€", "https://h/%C3%BC%E2%82%AC"),
        ("https://h/{key}", "a?b#c&d=e", "https://h/a%3Fb%23c%26d%3De"),
        ("https://h/{key}", "a%2e%2e", "https://h/a%252e%252e"),
        ("https://h/{key}", "%2e%2e/x", "https://h/%252e%252e/x"),
        ("https://h/{key}", "\\..\\x", "https://h/%5C..%5Cx"),
        ("https://h/{key}", "@evil.test", "https://h/%40evil.test"),
        ("https://h/{key}", "://a@b", "https://h/%3A//a%40b"),
        ("https://h/{key}", "{key}", "https://h/%7Bkey%7D"),
        ("https://h/{key}", "a\r\nHost: evil", "https://h/a%0D%0AHost%3A%20evil"),
        ("https://h/{key}/{key}?a={key}&b=c", "d/e", "https://h/d/e/d/e?a=d%2Fe&b=c"),
        ("https://h/up?name={key}", "a/../b&c=d#e", "https://h/up?name=a%2F..%2Fb%26c%3Dd%23e"),
        ("https://h/{key}?sig=a%2Fb:c=d", "k", "https://h/k?sig=a%2Fb:c=d"),
        ("HTTP://H:0080/{key}", "K", "http://h/K"),
    ],
)
def test_where_a_store_that_forwards_sends_a_key(text: str, key: str, url: str) -> None:
    """A key stays in its place: whatever it holds, it is neither another host nor another option."""
    store = make_store(f"forward:{text}", a_house())[1]
    verifyObject(IForwardingStore, store)
    assert not store.keeps
    assert isinstance(store, ForwardStore)
    assert parse_target(store.url(key)).url == url


def test_a_key_that_makes_the_address_too_long() -> None:
    """Refused as an address that a sender names is."""
    store = make_store("forward:https://h/in/{key}", a_house())[1]
    assert isinstance(store, ForwardStore)
    with pytest.raises(BadRequest):
        parse_target(store.url("x" * 4096))


def test_a_store_that_forwards_shares_the_memory() -> None:
    """Its rings are memory's."""
    house = a_house()
    store = make_store("forward:https://h/{key}", house)[1]
    spool = store.create(None, lambda error: None)
    assert store.usage() == house.memory.used > 0
    spool.abort(BadRequest("over"))
    assert house.memory.used == 0
