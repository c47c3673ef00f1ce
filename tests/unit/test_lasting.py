"""Bodies that outlive their server: what was told to be safe is there at the next start, and all else is gone."""

import errno
import os
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.logger import LogEvent
from unit.disks import KIB, MIB, error_of, out_of_cache
from unit.servers import STOPPED, Lasting, Server, folder, killed_at, watched
from unit.test_stores import at_once
from zope.interface.verify import verifyObject

from beam.errors import BeamError, SenderLost, StoreFailed, StoreFull, Unavailable
from beam.interfaces import IFound, IHouse, ILastingSpool, ILastingStore, IStore
from beam.quota import Quota
from beam.store.blob import BLOCK, LARGE
from beam.store.disk import DiskStore
from beam.store.memory import HISTORY, WINDOW
from beam.testing import StoreContract, some_bytes

GONE = SenderLost("The sender left before the end.")
DATA = some_bytes(3 * MIB + 12_345)


class TestLasting(StoreContract):
    """Nothing is different for those who send and receive."""

    cap = 2 << 20

    def make_store(self, house: IHouse, tmp_path: Path) -> IStore:
        return Lasting(DiskStore(tmp_path / "data", house, Quota(2 << 20), 64 << 10, 64 << 10))


class TestLastingAtOnce(StoreContract):
    """Nor if every answer of the disk comes within the call that asks for it."""

    cap = 2 << 20

    def make_store(self, house: IHouse, tmp_path: Path) -> IStore:
        return Lasting(DiskStore(tmp_path / "data", house, Quota(2 << 20), 64 << 10, 64 << 10, at_once))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the servers of a test have their folders."""
    return tmp_path / "data"


def saved(path: Path, data: bytes = DATA, sent: int | None = None, known: bool = True) -> None:
    """A server has been here, and has left ``data`` up to ``sent``."""
    server = Server(path)
    body = server.begin(data, known)
    server.save(body.spool)
    server.send(body, sent)
    server.suspend(body.spool)
    server.store.stop()


def forget(server: Server) -> None:
    """Nothing is found, and nothing is left."""
    assert server.store.recover() == []
    server.end()


def test_the_interfaces(path: Path) -> None:
    """The store, its spools, and what it finds."""
    saved(path, sent=1000)
    server = Server(path)
    verifyObject(ILastingStore, server.store)
    found = server.found()
    verifyObject(IFound, found)
    spool = found.open(None, server.failures.append, bytes)
    verifyObject(ILastingSpool, spool)
    spool.abort(GONE)
    server.end()


# One after another.


def test_over_three_servers(path: Path) -> None:
    """The first begins it, the second ends it, the third gives it away."""
    one = Server(path)
    body = one.begin(DATA)
    drain = body.open()
    one.save(body.spool, b"first")
    one.send(body, 2 * MIB)
    one.suspend(body.spool)
    assert drain.error is STOPPED
    one.store.stop()
    two = Server(path)
    found = two.found()
    assert (found.record, found.size) == (b"first", 2 * MIB)
    body = two.begin(DATA, found=found)
    assert body.sent == 2 * MIB
    early, late = body.open(), body.open(MIB + 5)
    two.send(body)
    two.lasting.record = b"second"
    two.finish(body)
    assert early.complete and late.complete
    two.die()  # what is safe needs no goodbye
    three = Server(path)
    found = three.found()
    assert (found.record, found.size) == (b"second", len(DATA))
    assert three.memory.used == 0
    body = three.begin(DATA, found=found)
    drain = body.open()
    three.offload.run_all()
    assert drain.got == DATA
    three.finish(body)
    assert drain.complete
    drain.close()
    body.spool.release()
    forget(three)


@pytest.mark.parametrize("known", [True, False], ids=["known-length", "unknown-length"])
@pytest.mark.parametrize("sent", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, LARGE, LARGE + 5000, len(DATA) - 1, len(DATA)])
def test_it_goes_on_where_its_file_ends(path: Path, sent: int, known: bool) -> None:
    """To the byte; a receiver that was in the middle of the rest waits for it."""
    saved(path, DATA, sent, known)
    server = Server(path, memory=1 << 30, window=WINDOW, history=HISTORY)
    found = server.found()
    assert found.size == sent
    assert server.store.usage() == sent
    body = server.begin(DATA, known, found)
    assert body.sent == sent
    drains = [body.open(position) for position in (0, max(0, sent - 1), sent, body.sent)]
    server.send(body)
    server.finish(body)
    assert all(drain.complete for drain in drains)
    assert server.data().read_bytes() == DATA
    assert server.store.usage() == len(DATA)
    for drain in drains:
        drain.close()
    body.spool.release()
    server.offload.run_all()
    forget(server)


def test_what_was_large_goes_around_the_cache_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes and reads."""
    saved(path, DATA, 2 * MIB)
    server = Server(path, memory=1 << 30, window=WINDOW, history=HISTORY)
    body = server.begin(DATA, found=server.found())
    ways: list[bool] = []
    go_around = type(body.spool._blob)._go_around  # type: ignore[attr-defined]

    def watched(self: Any, move: Any) -> int | None:
        done: int | None = go_around(self, move)
        ways.append(done is not None)
        return done

    monkeypatch.setattr("beam.store.blob.Blob._go_around", watched)
    out_of_cache(monkeypatch)
    drain = body.open()
    server.send(body)
    server.finish(body)
    assert drain.complete
    assert len(ways) >= 3
    drain.close()
    body.spool.release()
    server.end()


def test_a_body_that_is_longer_than_it_may_be(path: Path) -> None:
    """It is cut: what the caller knows, counts."""
    saved(path, DATA[:10_000], known=False)
    server = Server(path)
    body = server.begin(DATA[:9000], found=server.found())
    assert body.sent == 9000
    server.finish(body)
    assert server.data().read_bytes() == DATA[:9000]
    body.spool.release()
    server.end()


def test_age_is_that_of_the_last_byte(path: Path) -> None:
    """Whatever is written of it since, and however often it is found; a clock that was set back makes none older."""
    saved(path, DATA, 10_000)
    (file,) = path.glob("server-*/lasting/*/data")
    for age in (1000, -1000):
        os.utime(file, (0, file.stat().st_mtime - age))
        server = Server(path)
        found = server.found()
        assert max(0, age) <= found.age < max(0, age) + 60
        body = server.begin(DATA, found=found)
        server.save(body.spool)
        server.suspend(body.spool)
        server.store.stop()
        (file,) = path.glob("server-*/lasting/*/data")
    server = Server(path)
    server.found().remove()
    server.end()


def test_what_was_found_stays_until_it_is_removed(path: Path) -> None:
    """A server that does not ask for it leaves it to the next."""
    saved(path, DATA, 10_000)
    for _ in range(3):
        server = Server(path)
        assert server.store.usage() == 10_000
        server.store.stop()
    server = Server(path)
    found = server.found()
    assert server.store.recover() == []
    found.remove()
    found.remove()
    forget(server)


def test_a_clean_stop_keeps_what_lasts_and_nothing_else(path: Path) -> None:
    """Neither what is not saved, nor what does not last."""
    server = Server(path)
    kept, unsaved = server.begin(DATA), server.begin(DATA)
    server.save(kept.spool)
    server.send(kept, 5000)
    server.send(unsaved, 5000)
    for body in (kept, unsaved):
        cast(Any, body.spool).suspend(STOPPED)
    server.offload.run_all()
    assert server.store.usage() == server.memory.used == 0
    server.store.stop()
    left = sorted(each.relative_to(path).parts[1:] for each in path.rglob("server-*/**/*") if each.is_file())
    assert [parts[-1] for parts in left] == ["data", "record"]
    assert [each.name for each in path.glob("server-*/*")] == ["lasting"]
    server = Server(path)
    server.found().remove()
    forget(server)


def test_two_servers_share_a_folder(path: Path) -> None:
    """Neither takes what the other still has; whoever starts next takes what both left."""
    one, two = Server(path), Server(path)
    bodies = [server.begin(DATA) for server in (one, two)]
    for server, body in zip((one, two), bodies, strict=True):
        server.save(body.spool)
        server.send(body, 10_000)
    three = Server(path)
    assert three.store.recover() == []
    three.store.stop()
    one.suspend(bodies[0].spool)
    one.store.stop()
    four = Server(path)
    assert four.found().size == 10_000
    two.suspend(bodies[1].spool)
    two.store.stop()
    five = Server(path)
    assert five.found().size == 10_000, "the other's is the fourth's now"
    four.store.stop()
    five.store.stop()
    six = Server(path)
    found = six.store.recover()
    assert len(found) == 2 and six.store.usage() == 20_000
    for each in found:
        each.remove()
    forget(six)


# The quota.


def test_what_was_found_counts_whether_it_fits_or_not(path: Path) -> None:
    """Nothing more comes in until it is gone; what goes on takes what it needs when it is there."""
    saved(path, DATA, MIB)
    server = Server(path, cap=MIB // 2)
    assert server.store.usage() == MIB
    with pytest.raises(StoreFull):
        server.begin(b"a")
    other = server.begin(b"a", known=False)
    server.send(other)
    assert [type(error) for error in other.failures] == [StoreFull]
    other.abort(GONE)
    body = server.begin(DATA, found=server.found())
    server.send(body, MIB + 1)
    assert [type(error) for error in body.failures] == [StoreFull]
    body.abort(GONE)
    server.end()


@pytest.mark.parametrize("cap", [MIB - 1, MIB, 2 * MIB, len(DATA) - 1, len(DATA), 64 * MIB])
@pytest.mark.parametrize("known", [True, False], ids=["known-length", "unknown-length"])
def test_the_quota_is_exact(path: Path, cap: int, known: bool) -> None:
    """However much of a body it allows."""
    saved(path, DATA, MIB)
    server = Server(path, cap=cap)
    body = server.begin(DATA, known, server.found())
    server.send(body)
    assert bool(body.failures) == (cap < len(DATA))
    assert server.store.usage() <= max(cap, MIB)
    if body.failures:
        body.abort(body.failures[0])
    else:
        server.finish(body)
        assert server.store.usage() == len(DATA)
        body.spool.release()
    server.end()


def test_no_memory_to_go_on(path: Path) -> None:
    """It can be opened later."""
    saved(path, DATA, MIB)
    server = Server(path)
    found = server.found()
    server.memory.take(server.memory.free)
    with pytest.raises(Unavailable):
        server.begin(DATA, found=found)
    server.memory.give(server.memory.used)
    body = server.begin(DATA, found=found)
    assert body.sent == MIB
    body.abort(GONE)
    server.end()


# Records.


def test_records_overtake_nobody(path: Path) -> None:
    """The last one that was asked for is the one that stays, whichever thread is quicker."""
    server = Server(path)
    body = server.begin(DATA)
    spool: Any = body.spool
    done: list[int] = []
    for number in range(4):
        server.lasting.record = b"%d" % number
        spool.save().addCallback(lambda _, number=number: done.append(number))
    server.offload.run(1)
    server.offload.run(2)
    server.offload.run_all()
    assert done == [1, 3, 0, 2]
    assert server.data().with_name("record").read_bytes() == b"3"
    body.abort(GONE)
    server.end()


@pytest.mark.parametrize("how", ["abort", "release"])
def test_a_record_that_comes_too_late(path: Path, how: str) -> None:
    """A body that has been let go is not brought back by a thread that still writes about it."""
    server = Server(path)
    body = server.begin(DATA)
    spool: Any = body.spool
    if how == "abort":
        spool.save()
        body.abort(GONE)
    else:
        server.send(body)
        server.finish(body)
        spool.save()
        spool.release()
    assert server.files() == []
    server.offload.run_all()
    spool.save()
    assert not body.failures
    server.end()


@pytest.mark.parametrize("call", ["open", "fsync", "rename"])
@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, StoreFull), (errno.EIO, StoreFailed)])
def test_a_record_that_cannot_be_written(
    path: Path, call: str, number: int, kind: type, logged: list[LogEvent]
) -> None:
    """The caller hears of it; the one before it stays as it was."""
    server = Server(path)
    body = server.begin(DATA)
    server.save(body.spool, b"before")

    def broken(*args: object, **more: object) -> None:
        raise error_of(number)

    server.lasting.record = b"behind"
    spool: Any = body.spool
    told: list[None] = []
    spool.save().addCallback(told.append)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, call, broken)
        server.offload.run_all()
    assert [type(error) for error in body.failures] == [kind] and not told
    assert server.data().with_name("record").read_bytes() == b"before"
    body.abort(body.failures[0])
    assert len(logged) == (kind is StoreFailed)
    logged.clear()
    server.end()


def test_the_disk_has_each_step_before_the_next(path: Path) -> None:
    """Not even a power cut leaves a record of what is not there."""
    server = Server(path)
    body = server.begin(DATA[:1000])
    name = server.data().parent.name
    server.send(body)
    with watched("pwrite", "fdatasync", "fsync", "rename") as made:
        server.finish(body)
    assert made == [
        "pwrite data",
        "fdatasync data",
        "fsync record.new",
        "rename record.new",
        f"fsync {name}",
        "fsync lasting",
    ]
    body.spool.release()
    server.end()


def test_the_record_that_is_synced_is_whole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it waits in Python's memory then."""
    server = Server(path)
    body = server.begin(DATA[:1000])
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_size))
    server.save(body.spool, b"r" * 100)
    assert synced[0] == 100
    monkeypatch.undo()
    body.abort(GONE)
    server.end()


def test_what_came_is_written_when_nobody_sends(path: Path) -> None:
    """However little it is; whoever waits for that hears of it when the file has it, also if there is nothing to do."""
    server = Server(path)
    body = server.begin(DATA)
    server.send(body, 1000)
    spool = cast(ILastingSpool, body.spool)
    assert not server.offload.waiting and server.data().stat().st_size == 0
    spool.unregisterProducer()
    assert server.offload.waiting
    settled: list[None] = []
    spool.settle().addCallback(settled.append)
    assert not settled
    server.offload.run_all()
    assert settled == [None] and server.data().read_bytes() == DATA[:1000]
    spool.settle().addCallback(settled.append)
    assert settled == [None, None] and not server.offload.waiting
    body.abort(GONE)
    server.end()


def test_who_waits_for_what_came_needs_no_other_reason_to_write(path: Path) -> None:
    """A part has come, and its sender may be there still."""
    server = Server(path)
    body = server.begin(DATA)
    server.send(body, 1000)
    settled: list[None] = []
    cast(ILastingSpool, body.spool).settle().addCallback(settled.append)
    server.offload.run_all()
    assert settled == [None] and server.data().read_bytes() == DATA[:1000]
    body.abort(GONE)
    server.end()


# Ends.


def test_without_a_record_nothing_stays(path: Path) -> None:
    """Nobody would know what it is: neither behind a crash, nor when it is suspended."""
    server = Server(path)
    body, other = server.begin(DATA), server.begin(DATA)
    server.send(body, MIB)
    server.send(other, MIB)
    cast(Any, body.spool).suspend(STOPPED)
    assert len(list(path.glob("server-*/lasting/*"))) == 1
    server.die()
    server = Server(path)
    forget(server)


@pytest.mark.parametrize("missing", ["record", "data"])
def test_a_half_that_was_left(path: Path, missing: str) -> None:
    """A record without its file and a file without its record are nothing."""
    saved(path, DATA, MIB)
    (file,) = path.glob(f"server-*/lasting/*/{missing}")
    file.unlink()
    forget(Server(path))


def test_a_body_that_cannot_be_read_stays(path: Path, monkeypatch: pytest.MonkeyPatch, logged: list[LogEvent]) -> None:
    """The others are found, the log says why this is not, and the next server may have more luck."""
    saved(path, DATA, 1000)

    def broken(self: Path) -> bytes:
        raise error_of(errno.EIO)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", broken)
        server = Server(path)
    assert server.store.recover() == [] and server.store.usage() == 0
    assert len(logged) == 1
    logged.clear()
    server.store.stop()
    server = Server(path)
    server.found().remove()
    forget(server)


@pytest.mark.parametrize("running", [False, True], ids=["idle", "while a write runs"])
@pytest.mark.parametrize("order", [0, 1], ids=["in order", "the other way round"])
def test_a_suspended_body_has_all_that_came(path: Path, running: bool, order: int) -> None:
    """Also what waited in memory to be written."""
    server = Server(path)
    body = server.begin(DATA)
    server.save(body.spool)
    server.send(body, MIB)
    body.feed(MIB + (100_000 if running else 1000))
    assert bool(server.offload.waiting) == running
    came = body.sent
    cast(Any, body.spool).suspend(STOPPED)
    while server.offload.waiting:
        server.offload.run(min(order, len(server.offload.waiting) - 1))
    assert not body.failures
    assert server.store.usage() == server.memory.used == 0
    server.store.stop()
    server = Server(path)
    found = server.found()
    assert found.size == came
    assert server.data().read_bytes() == DATA[:came]
    found.remove()
    forget(server)


def test_a_disk_that_is_full_when_a_body_is_suspended(path: Path) -> None:
    """The sender will be told of less."""
    server = Server(path)
    body = server.begin(DATA)
    server.save(body.spool)
    server.send(body, MIB)
    body.feed(MIB + 1000)
    cast(Any, body.spool).suspend(STOPPED)
    server.offload.fail(errno.ENOSPC)
    assert server.store.usage() == server.memory.used == 0
    server.store.stop()
    server = Server(path)
    assert server.found().size == MIB
    server.store.stop()


def test_a_body_may_be_suspended_while_it_is_kept(path: Path) -> None:
    """What was not yet safe is there as far as it came."""
    server = Server(path)
    body = server.begin(DATA)
    server.save(body.spool)
    server.send(body)
    body.finish()
    server.suspend(body.spool)
    server.store.stop()
    server = Server(path)
    assert server.found().size == len(DATA)
    server.store.stop()


def test_removed_while_it_is_read(path: Path) -> None:
    """Those who read go on; the name is gone at once, and a crash does not bring it back."""
    server = Server(path)
    body = server.begin(DATA)
    server.send(body)
    server.finish(body)
    drain = body.open(eager=False)
    drain.take(1000)
    body.spool.release()
    assert server.files() == []
    assert server.store.usage() == len(DATA)
    while not drain.complete:
        drain.take()
        server.offload.run_all()
    drain.close()
    forget(server)


def test_suspended_while_it_is_read(path: Path) -> None:
    """Those who read are cut, whatever is in flight."""
    server = Server(path)
    body = server.begin(DATA)
    server.send(body)
    server.finish(body)
    drains = [body.open(eager=False) for _ in range(2)]
    with pytest.MonkeyPatch.context() as patch:
        out_of_cache(patch)
        drains[0].take()
    server.suspend(body.spool)
    assert [drain.error for drain in drains] == [STOPPED] * 2
    body.spool.release()
    assert server.files() == ["lasting"]
    server.store.stop()
    server = Server(path)
    assert server.found().size == len(DATA)
    server.store.stop()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE, errno.EACCES])
@pytest.mark.parametrize("call", ["open", "mkdir"])
@pytest.mark.parametrize("pieces", [False, True])
def test_a_folder_that_cannot_be_made(path: Path, call: str, number: int, pieces: bool, logged: list[LogEvent]) -> None:
    """The sender is refused, and nothing is left."""
    server = Server(path)

    def broken(*args: object, **more: object) -> None:
        raise error_of(number)

    kind = {errno.ENOSPC: StoreFull, errno.EMFILE: Unavailable, errno.EACCES: StoreFailed}[number]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, call, broken)
        with pytest.raises(kind):
            if pieces:
                server.pieces(1000)
            else:
                server.begin(DATA)
    logged.clear()
    server.end()


def test_a_start_that_fails_loses_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be taken over is still there for the next one."""
    saved(path, DATA, 1000)
    rename = os.rename

    def broken(*args: Any) -> None:
        raise error_of(errno.EIO)

    monkeypatch.setattr(os, "rename", broken)
    with pytest.raises(StoreFailed):
        Server(path)
    monkeypatch.setattr(os, "rename", rename)
    server = Server(path)
    assert server.found().size == 1000
    server.store.stop()


# Crashes.


def life(path: Path, known: bool, told: list[str]) -> None:
    """A server begins a body, saves it twice, ends it, and removes another; ``told`` is what it has promised."""
    server = Server(path)
    told.append("started")
    other = server.begin(DATA[:5000])
    server.save(other.spool, b"other")
    told.append("other")
    body = server.begin(DATA[: 100 * KIB], known)
    server.save(body.spool, b"one")
    told.append("one")
    server.send(body, 60 * KIB)
    server.save(body.spool, b"two")
    told.append("two")
    told.append("removing")
    other.abort(GONE)
    told.append("removed")
    server.send(body)
    server.lasting.record = b"three"
    server.finish(body)
    told.append("three")
    cast(Any, body.spool).suspend(STOPPED)
    server.offload.run_all()
    server.store.stop()
    told.append("stopped")


@pytest.mark.parametrize("known", [True, False], ids=["known-length", "unknown-length"])
def test_killed_before_any_call(tmp_path: Path, known: bool) -> None:
    """Before each call of the system that changes the disk, in the first server's life and in the next one's start."""
    step = 0
    while True:
        path, told = tmp_path / str(step), list[str]()
        with killed_at(path, step) as made:
            life(path, known, told)
        check_left(path, told)
        if len(made) < step:
            break
        step += 1
    assert told[-1] == "stopped" and step > 40


def check_left(path: Path, told: list[str]) -> None:
    """What was promised is there, and nothing half; also if the next servers are killed while they start."""
    for step in range(0, 25, 4):
        with killed_at(path, step):
            Server(path).store.stop()
    server = Server(path)
    found = {each.record: each for each in server.store.recover()}
    charged = server.store.usage()
    assert charged == sum(each.size for each in found.values())
    if "other" in told and "removing" not in told:
        assert found[b"other"].size == 0
    if "removed" in told:
        assert b"other" not in found
    found.pop(b"other", None)
    promised = [word for word in told if word in ("one", "two", "three")]
    names = [b"one", b"two", b"three"]
    if promised:
        ((record, last),) = found.items()
        assert names.index(record) >= len(promised) - 1
        assert record != b"three" or last.size == 100 * KIB
        body = server.begin(DATA[: 100 * KIB], found=last)
        drain = body.open()
        server.send(body)
        server.finish(body)
        assert drain.complete
        drain.close()
        body.spool.release()
    else:
        for each in found.values():
            each.remove()
    assert {each.read_bytes() for each in path.glob("server-*/lasting/*/record")} <= {b"other"}
    server.store.stop()


@settings(max_examples=60)
@given(
    length=st.integers(0, 400 * KIB),
    cuts=st.lists(st.integers(0, 400 * KIB), min_size=1, max_size=4),
    known=st.booleans(),
    window=st.sampled_from([1000, 4096, 64 * KIB]),
    history=st.sampled_from([0, 1000, 64 * KIB]),
    clean=st.booleans(),
)
def test_any_number_of_servers(
    length: int, cuts: list[int], known: bool, window: int, history: int, clean: bool
) -> None:
    """A body that is interrupted again and again is the same in the end, for everybody."""
    data = DATA[:length]
    with folder() as path:
        for number, cut in enumerate([*sorted(cuts), length]):
            server = Server(path, window=window, history=history)
            found = server.found() if number else None
            body = server.begin(data, known, found)
            assert body.sent <= (found.size if found else 0)
            server.save(body.spool)
            drains = [body.open(position) for position in {0, length // 2, body.sent}]
            server.send(body, min(cut, length))
            if cut == length and number == len(cuts):
                break
            if clean:
                server.suspend(body.spool)
                server.store.stop()
            else:
                server.die()
        server.finish(body)
        assert all(drain.complete for drain in drains)
        assert server.data().read_bytes() == data
        for drain in drains:
            drain.close()
        body.spool.release()
        server.end()


def test_a_body_that_is_safe_has_a_descriptor_while_it_is_read(path: Path) -> None:
    """There may be more of them than descriptors, before a restart and behind it."""
    one = Server(path)
    before = len(os.listdir("/proc/self/fd"))
    body = one.begin(DATA)
    one.send(body)
    one.finish(body)
    assert len(os.listdir("/proc/self/fd")) == before
    drain = body.open()
    assert len(os.listdir("/proc/self/fd")) == before + 1
    one.offload.run_all()
    assert drain.got == DATA
    drain.close()
    assert len(os.listdir("/proc/self/fd")) == before
    one.die()
    two = Server(path)
    body = two.begin(DATA, found=two.found())
    two.finish(body)
    assert two.memory.used == 0, "what is whole needs no ring"
    assert len(os.listdir("/proc/self/fd")) == before
    drain = body.open()
    body.spool.release()
    two.offload.run_all()
    assert drain.got == DATA
    drain.close()
    assert two.quota.used == 0
    forget(two)


def test_a_body_that_is_safe_outlives_a_word_on_it_that_cannot_be_written(path: Path, logged: list[LogEvent]) -> None:
    """Whoever wanted the word hears of it; the body stays."""
    server = Server(path)
    body = server.begin(DATA)
    server.send(body)
    server.lasting.record = b"before"
    server.finish(body)
    spool: Any = body.spool
    refused: list[BeamError] = []
    spool.save().addErrback(lambda failure: refused.append(failure.value))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(error_of(errno.ENOSPC)))
        server.offload.run_all()
    assert [type(each) for each in refused] == [StoreFull] and not body.failures
    assert server.data().with_name("record").read_bytes() == b"before"
    drain = body.open()
    server.offload.run_all()
    assert drain.got == DATA
    drain.close()
    body.spool.release()
    server.end()
