"""A few bytes read back from a spool: at once, as they come, as many as there are, or not at all."""

import pytest
from twisted.internet.defer import Deferred
from unit.actors import KeepingStore, KeptSpool

from beam.errors import BeamError, SenderLost
from beam.excerpt import excerpt

LOST = SenderLost("gone")


def commit(spool: KeptSpool, data: bytes) -> None:
    """``data`` comes."""
    spool.room()[: len(data)] = data
    spool.commit(len(data))


def read(spool: KeptSpool, start: int, stop: int) -> list[bytes | BaseException]:
    """What comes of reading, as soon as it does."""
    found: list[bytes | BaseException] = []
    reading = Deferred.fromCoroutine(excerpt(spool, start, stop))
    reading.addCallbacks(found.append, lambda failure: found.append(failure.value))
    return found


@pytest.mark.parametrize(("start", "stop", "bytes_"), [(0, 3, b"abc"), (2, 4, b"cd"), (1, 1, b""), (3, 2, b"")])
def test_what_is_there(start: int, stop: int, bytes_: bytes) -> None:
    """It comes at once, and nobody reads on."""
    spool = KeptSpool(KeepingStore())
    commit(spool, b"abcdef")
    assert read(spool, start, stop) == [bytes_]
    spool.release()
    assert spool.store.quota.used == 0


def test_what_comes() -> None:
    """It is waited for, over however many steps."""
    spool = KeptSpool(KeepingStore())
    found = read(spool, 1, 5)
    for data in (b"ab", b"cd", b"ef"):
        assert not found
        commit(spool, data)
    assert found == [b"bcde"]


def test_what_ends_before() -> None:
    """As many as there are."""
    spool = KeptSpool(KeepingStore())
    commit(spool, b"abc")
    found = read(spool, 0, 10)
    spool.finish()
    assert found == [b"abc"]


def test_what_will_never_come() -> None:
    """The error that ended the body."""
    spool = KeptSpool(KeepingStore())
    found = read(spool, 0, 10)
    error: BeamError = LOST
    spool.abort(error)
    assert found == [LOST]
