"""What the store that keeps does beyond the contract: files, folders, threads and their faults."""

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import LogEvent, formatEvent
from unit.disks import KIB, MIB, RING, Disk, out_of_cache

from beam.errors import BeamError, SenderLost, StoreFailed, StoreFull, Unavailable
from beam.quota import Quota
from beam.store import House
from beam.store.disk import DiskStore
from beam.store.late import STEP
from beam.store.memory import HISTORY, WINDOW
from beam.testing import MEMORY, Bench, Rehearsal, in_reactor, some_bytes, until

GONE = SenderLost("The sender left before the end.")
WORTH_IT = RING // 4  # bytes that are written at once in a small ring: half of its window


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A store whose calls run by hand; in the end nothing may be left."""
    disk = Disk(tmp_path / "data", 4 << 20)
    yield disk
    disk.check_empty()
    disk.store.stop()


@pytest.fixture
def cold(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page cache has nothing."""
    out_of_cache(monkeypatch)


def mode(path: Path) -> int:
    """The permissions of ``path``."""
    return stat.S_IMODE(path.stat().st_mode)


# Folders.


def test_a_missing_folder_is_made_and_is_private(tmp_path: Path) -> None:
    """Nobody else on the machine can read what lies there."""
    before = os.umask(0)
    try:
        disk = Disk(tmp_path / "var" / "lib" / "beam", 1 << 20)
        rehearsal = disk.send(10)
    finally:
        os.umask(before)
    folders = [disk.path, *disk.path.glob("server-*"), *disk.path.glob("server-*/*/")]
    assert len(folders) == 5
    assert [mode(folder) for folder in folders if folder.is_dir()] == [0o700] * 5
    assert [mode(file) for file in disk.path.rglob("*") if file.is_file()] == [0o600] * 3
    rehearsal.abort(GONE)
    disk.check_empty()
    disk.store.stop()


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    """What the operator has set up stays."""
    tmp_path.chmod(0o750)
    disk = Disk(tmp_path, 1 << 20)
    assert mode(tmp_path) == 0o750
    disk.store.stop()


def test_a_stopped_store_leaves_nothing_of_its_own(tmp_path: Path) -> None:
    """Neither a folder nor a thread."""
    threads = set(threading.enumerate())
    disk = Disk(tmp_path, 1 << 20)
    (tmp_path / "notes.txt").write_text("not ours")
    disk.store.stop()
    disk.store.stop()
    assert sorted(each.name for each in tmp_path.iterdir()) == [".lock", "notes.txt"]
    assert set(threading.enumerate()) == threads


@pytest.mark.parametrize("where", ["file", "file/below"])
def test_a_folder_that_cannot_be_made(tmp_path: Path, where: str) -> None:
    """Told in one sentence, which names the folder."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreFailed) as caught:
        Disk(tmp_path / where, 1 << 20)
    assert str(tmp_path / where) in caught.value.sentence
    assert caught.value.sentence.endswith(".") and "\n" not in caught.value.sentence


def test_a_folder_that_is_not_writable() -> None:
    """Told at the start, and not to the first sender."""
    folder = Path(tempfile.mkdtemp())  # not below tmp_path, which only its owner can enter
    am_root = os.geteuid() == 0
    try:
        folder.chmod(0o555)
        if am_root:
            os.seteuid(65534)  # to root everything is writable
        with pytest.raises(StoreFailed, match=rf"{folder} cannot be used: Permission denied\.$"):
            Disk(folder, 1 << 20)
    finally:
        if am_root:
            os.seteuid(0)
        shutil.rmtree(folder)


# Leftovers.


CRASH = """
import sys
from pathlib import Path
from twisted.internet.task import Clock
from beam.quota import Quota
from beam.store import House
from beam.store.disk import DiskStore
store = DiskStore(Path(sys.argv[1]), House(Clock(), Quota(1 << 20)), Quota(1 << 20), 1 << 16, 1 << 16)
store.start()
spool = store.create(1000, print)
spool.room()[:10] = b"0123456789"
spool.commit(10)
print("ready", flush=True)
sys.stdin.read()
"""


def a_server(path: Path) -> "subprocess.Popen[bytes]":
    """Another server's process that has a store at ``path``, with a body in it."""
    process = subprocess.Popen([sys.executable, "-c", CRASH, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def kill(process: "subprocess.Popen[bytes]") -> None:
    """As a crash does."""
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_leftovers_of_a_crash_are_removed_and_only_those(tmp_path: Path) -> None:
    """A server that runs keeps its folder, and what is nobody's stays."""
    crashed, alive = a_server(tmp_path), a_server(tmp_path)
    folders = {each.name for each in tmp_path.glob("server-*")}
    assert len(folders) == 2
    kill(crashed)
    (tmp_path / "server-of-old").mkdir()  # crashed before it had its lock
    (tmp_path / "server-of-old" / "incoming").mkdir()
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "kept.bin").write_bytes(b"kept")
    disk = Disk(tmp_path, 1 << 20)
    left = {each.name for each in tmp_path.glob("server-*")}
    assert len(left & folders) == 1, "the living one's stays, the dead one's does not"
    assert len(left) == 2
    assert "server-of-old" not in left
    assert (tmp_path / "files" / "kept.bin").read_bytes() == b"kept"
    assert len(list(tmp_path.glob("server-*/incoming/*"))) == 1, "the living one's body"
    disk.store.stop()
    kill(alive)
    second = Disk(tmp_path, 1 << 20)
    assert len(list(tmp_path.glob("server-*"))) == 1
    second.store.stop()
    assert sorted(each.name for each in tmp_path.iterdir()) == [".lock", "files"]


def test_two_servers_may_share_a_folder(tmp_path: Path) -> None:
    """Neither touches what is the other's, whoever starts or stops first."""
    one, two = Disk(tmp_path, 1 << 20), Disk(tmp_path, 1 << 20)
    body = one.send(WORTH_IT)
    body.feed()
    two.store.stop()
    three = Disk(tmp_path, 1 << 20)
    one.offload.run_all()
    body.finish()
    one.offload.run_all()
    assert body.safe
    assert body.spool.open(0, True).peek() or one.offload.waiting
    one.offload.run_all()
    body.spool.abort(GONE)
    one.check_empty()
    one.store.stop()
    three.store.stop()


# Files.


def test_a_file_is_incoming_until_it_is_whole(disk: Disk) -> None:
    """Whoever looks into the folder sees no part among the whole ones."""
    body = disk.send(WORTH_IT)
    body.feed()
    disk.offload.run_all()
    assert disk.files() == ["incoming"]
    body.finish()
    assert (body.safe, disk.files()) == (False, ["incoming"])
    disk.offload.run_all()
    assert (body.safe, disk.files()) == (True, ["kept"])
    assert disk.file().read_bytes() == body.data
    body.spool.release()
    assert disk.files() == []


def test_the_quota_counts_until_the_last_reader_has_closed(disk: Disk) -> None:
    """The file has no name any more, and yet it takes its space."""
    body = disk.send(300 * KIB)
    body.feed()
    disk.offload.run_all()
    body.finish()
    disk.offload.run_all()
    reader, other = body.open(eager=False), body.open(eager=False)
    body.spool.release()
    assert disk.files() == []
    other.close()
    assert disk.store.usage() == 300 * KIB
    while not reader.complete:
        reader.take()
        disk.offload.run_all()
    assert disk.store.usage() == 300 * KIB
    reader.close()
    assert disk.store.usage() == 0


def test_a_body_of_unknown_length_is_charged_in_steps_and_settled(disk: Disk) -> None:
    """What was charged in advance is given back at the end."""
    body = disk.send(100 * KIB, known=False)
    assert disk.store.usage() == 0
    body.feed()
    disk.offload.run_all()
    assert disk.store.usage() >= 100 * KIB
    body.finish()
    disk.offload.run_all()
    assert disk.store.usage() == 100 * KIB
    body.spool.release()


@pytest.mark.parametrize("n", [0, 1, 1000, (1 << 20) + 1])
def test_a_body_of_known_length_is_charged_its_length(disk: Disk, n: int) -> None:
    """Many small bodies at once do not fill the quota with what they will never send."""
    body = disk.send(n)
    assert disk.store.usage() == n
    body.abort(GONE)


def test_a_length_that_does_not_fit_takes_nothing(disk: Disk) -> None:
    """Refused before a file is made; what two bodies announce is counted for both."""
    with pytest.raises(StoreFull, match="no space"):
        disk.send((4 << 20) + 1)
    disk.check_empty()
    body = disk.send(3 << 20)
    assert disk.store.usage() == 3 << 20
    with pytest.raises(StoreFull):
        disk.send((1 << 20) + 1)
    other = disk.send(1 << 20)
    assert disk.files() == ["incoming"] * 2
    other.abort(GONE)
    body.abort(GONE)


def test_without_memory_for_a_ring_no_file_is_made(disk: Disk) -> None:
    """503 is not a full disk."""
    disk.memory.take(disk.memory.free)
    with pytest.raises(Unavailable):
        disk.send(WORTH_IT)
    assert disk.files() == [] and disk.store.usage() == 0
    disk.memory.give(disk.memory.used)


# A disk that is slow.


def test_a_slow_disk_holds_the_sender(disk: Disk) -> None:
    """Memory stays bounded; the sender goes on when bytes have been written."""
    body = disk.send(5 * RING)
    drain = body.open()
    body.feed()
    assert body.waits
    assert body.sent <= RING
    assert len(drain.got) == body.sent, "a receiver near the head does not wait for the disk"
    while body.sent < 5 * RING:
        before = body.sent
        disk.offload.run()
        assert body.sent - before <= RING
    assert disk.memory.used <= RING
    body.finish()
    disk.offload.run_all()
    assert drain.complete and body.safe
    drain.close()
    body.spool.release()


def test_one_write_runs_at_a_time(disk: Disk) -> None:
    """However small the pieces are that come meanwhile; they go together in the next."""
    body = disk.send(2 * WORTH_IT)
    for upto in range(64, 2 * WORTH_IT + 1, 64):
        body.feed(upto)
        assert len(disk.offload.waiting) == (1 if upto >= WORTH_IT else 0)
    disk.offload.run()
    assert len(disk.offload.waiting) == 1
    disk.offload.run()
    assert not disk.offload.waiting
    body.finish()
    disk.offload.run_all()
    assert disk.file().read_bytes() == body.data
    body.spool.release()


@pytest.mark.usefixtures("cold")
def test_a_slow_receiver_holds_nobody(disk: Disk) -> None:
    """Each has its own pace: the one near the head reads the ring, the late one the file."""
    body = disk.send(24 * RING)
    slow, quick = body.open(eager=False), body.open()
    body.feed()
    while body.sent < 24 * RING:
        disk.offload.run()
    body.finish()
    disk.offload.run_all()
    assert quick.complete and body.safe and not slow.got
    slow.take()
    assert len(disk.offload.waiting) == 1, "one read at a time, off the reactor's thread"
    while not slow.complete:
        disk.offload.run()
        slow.take()
        assert len(disk.offload.waiting) <= 1
    slow.close()
    quick.close()
    body.spool.release()


# The writer waits until it is worth it.


@pytest.fixture
def wide(tmp_path: Path) -> Iterator[Disk]:
    """A store whose rings are as an operator's."""
    disk = Disk(tmp_path / "wide", 64 * MIB, memory=1 << 30, window=WINDOW, history=HISTORY)
    yield disk
    disk.check_empty()
    disk.store.stop()


@pytest.mark.parametrize("known", [True, False], ids=["known-length", "unknown-length"])
def test_what_comes_slowly_is_written_by_the_megabyte(wide: Disk, known: bool) -> None:
    """A receiver has each byte at once from the ring; the disk is asked once for each megabyte, and for the rest."""
    body = wide.send(3 * MIB + 12_345, known=known)
    drain = body.open()
    written = 0
    for upto in range(10_000, len(body.data), 10_000):
        body.feed(upto)
        assert len(drain.got) == upto
        assert len(wide.offload.waiting) == (1 if upto - written >= MIB else 0)
        if wide.offload.waiting:
            wide.offload.run()
            written = upto - upto % 4096 if goes_around(wide) else upto
    body.feed()
    assert not wide.offload.waiting and not body.pauses
    body.finish()
    wide.offload.run()
    assert wide.files() == ["incoming"]
    wide.offload.run_all()
    assert drain.complete and body.safe
    assert wide.file().read_bytes() == body.data
    body.spool.release()
    drain.close()


def goes_around(disk: Disk) -> bool:
    """Whether the writes of the only body have gone around the page cache: they end at a block then."""
    (file,) = disk.path.glob("server-*/incoming/*")
    return file.stat().st_size % 4096 == 0


@pytest.mark.parametrize("known", [True, False], ids=["known-length", "unknown-length"])
@pytest.mark.parametrize("length", [1, 1000, 256 * KIB + 1, MIB - 1])
def test_a_small_body_is_written_when_it_is_whole(wide: Disk, length: int, known: bool) -> None:
    """In one step, however it came; its sender does not wait for the disk before that."""
    body = wide.send(length, known, step=1000)
    body.feed()
    assert body.sent == length and not body.pauses and not wide.offload.waiting
    body.finish()
    assert len(wide.offload.waiting) == 1
    wide.offload.run()
    wide.offload.run()
    assert body.safe and wide.file().read_bytes() == body.data
    body.spool.release()


def test_a_tiny_ring_holds_no_sender_for_a_write_that_waits(tmp_path: Path) -> None:
    """Where the memory allows a ring of 256K and no more, a megabyte would never come together."""
    disk = Disk(tmp_path / "tiny", 64 * MIB, memory=256 * KIB, window=WINDOW, history=HISTORY)
    body = disk.send(2 * MIB + 17, step=1000)
    body.feed()
    while body.sent < len(body.data):
        assert body.waits and len(disk.offload.waiting) == 1
        disk.offload.run()
    assert disk.memory.used == 256 * KIB
    body.finish()
    disk.offload.run_all()
    assert body.safe and disk.file().read_bytes() == body.data
    body.spool.release()
    disk.check_empty()
    disk.store.stop()


@given(
    length=st.integers(0, 700 * KIB),
    known=st.booleans(),
    memory=st.sampled_from([256 * KIB, 300 * KIB, 4 * MIB, 64 * MIB]),
    window=st.integers(1, 300 * KIB) | st.sampled_from([4095, 4096, 256 * KIB]),
    history=st.sampled_from([0, 1, 1000, 100 * KIB, 512 * KIB]),
    step=st.integers(1000, 200 * KIB),
    seed=st.integers(0, 1 << 32),
)
def test_a_sender_that_waits_waits_for_a_write(
    tmp_path_factory: pytest.TempPathFactory,
    length: int,
    known: bool,
    memory: int,
    window: int,
    history: int,
    step: int,
    seed: int,
) -> None:
    """Whatever the sizes of rings and pieces: it is never held while the disk has nothing to do."""
    random = Random(seed)
    length = min(length, 200 * window)  # a ring of one byte takes one write for each
    disk = Disk(tmp_path_factory.mktemp("disk"), 4 * MIB, memory=memory, window=window, history=history)
    body = disk.send(length, known, step)
    upto = 0
    while body.sent < length:
        upto = min(length, max(upto, body.sent) + random.randrange(1, 2 * step))
        body.feed(upto)
        assert not body.waits or disk.offload.waiting, "the sender waits, and nobody writes"
        if disk.offload.waiting and (body.waits or random.random() < 0.3):
            disk.offload.run()
    body.finish()
    disk.offload.run_all()
    assert body.safe and disk.file().read_bytes() == body.data
    body.spool.release()
    disk.check_empty()
    disk.store.stop()


@pytest.mark.parametrize("n", [MIB, 2 * MIB, 3 * MIB])
def test_a_body_that_ends_with_a_write(wide: Disk, n: int) -> None:
    """Nothing is left to write when its end is told: it is kept, and nothing more."""
    body = wide.send(n, known=False)
    for upto in range(MIB, n + 1, MIB):
        body.feed(upto)
        assert len(wide.offload.waiting) == 1
        wide.offload.run()
    assert not wide.offload.waiting
    (file,) = wide.path.glob("server-*/incoming/*")
    assert file.stat().st_size == n
    body.finish()
    assert len(wide.offload.waiting) == 1
    wide.offload.run()
    assert body.safe and wide.file().read_bytes() == body.data
    body.spool.release()


@pytest.mark.parametrize("rest", [0, 1, 4096, 5000, MIB])
def test_a_body_that_ends_while_a_write_is_in_flight(wide: Disk, rest: int) -> None:
    """The rest, however little, is written behind it, and then the file is kept."""
    body = wide.send(MIB + rest, known=False)
    body.feed(MIB)
    body.feed()
    body.finish()
    assert len(wide.offload.waiting) == 1, "one write at a time"
    wide.offload.run()
    assert wide.files() == ["incoming"]
    wide.offload.run_all()
    assert body.safe and wide.file().read_bytes() == body.data
    assert wide.store.usage() == MIB + rest
    body.spool.release()


@pytest.mark.parametrize("writes", [0, 1], ids=["the write in flight", "the rest"])
@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, StoreFull), (errno.EIO, StoreFailed)])
def test_a_write_that_fails_when_the_body_has_ended(
    wide: Disk, writes: int, number: int, kind: type[BeamError], logged: list[LogEvent]
) -> None:
    """The sender hears of it once, and never that its body is safe; nothing is left."""
    body = wide.send(MIB + 5000, known=False)
    drain = body.open(eager=False)
    body.feed(MIB)
    body.feed()
    body.finish()
    for _ in range(writes):
        wide.offload.run()
    wide.offload.fail(number)
    assert [type(error) for error in body.failures] == [kind]
    assert not wide.offload.waiting and not body.safe
    body.abort(body.failures[0])
    assert drain.error is body.failures[0]
    assert len(logged) == (1 if kind is StoreFailed else 0)
    logged.clear()


def test_no_space_for_what_waits_to_be_written(tmp_path: Path) -> None:
    """The sender hears of it when the bytes come, and not when they are written."""
    disk = Disk(tmp_path / "full", MIB, memory=1 << 30, window=WINDOW, history=HISTORY)
    body = disk.send(2 * MIB, known=False)
    body.feed(MIB)
    disk.offload.run_all()
    assert not body.failures
    body.feed(MIB + 1)
    assert [type(error) for error in body.failures] == [StoreFull]
    assert not disk.offload.waiting
    body.abort(body.failures[0])
    disk.check_empty()
    disk.store.stop()


# Ends in the middle of something.


def test_an_abort_while_a_write_is_in_flight(disk: Disk) -> None:
    """The file is gone at once; its descriptor and its quota when the thread is done with it, and not before."""
    body = disk.send(300 * KIB)
    drain = body.open()
    body.feed()
    body.abort(GONE)
    assert drain.error is GONE
    assert disk.files() == []
    assert disk.store.usage() > 0, "the thread still writes"
    disk.offload.run_all()  # it must find its descriptor, and not another's
    disk.check_empty()
    assert not body.failures


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_an_abort_while_a_write_fails(disk: Disk, number: int, logged: list[LogEvent]) -> None:
    """Nobody is told what nobody wants to know any more."""
    body = disk.send(WORTH_IT)
    body.feed()
    body.abort(GONE)
    disk.offload.fail(number)
    assert not body.failures
    logged.clear()


def test_an_abort_before_the_rename(disk: Disk) -> None:
    """A sender that leaves at the very end leaves no file."""
    body = disk.send(WORTH_IT)
    body.feed()
    disk.offload.run_all()
    body.finish()
    assert len(disk.offload.waiting) == 1
    body.abort(GONE)
    disk.offload.run_all()
    assert not body.failures and not body.safe


def test_an_abort_behind_the_rename(disk: Disk) -> None:
    """Nor if the thread was quicker, and only its answer is late."""
    body = disk.send(WORTH_IT)
    body.feed()
    disk.offload.run_all()
    body.finish()
    call, deferred = disk.offload.waiting.pop()
    call()
    assert disk.files() == ["kept"]
    body.abort(GONE)
    deferred.callback(None)
    assert disk.files() == []


def late_reader(disk: Disk, size: int) -> tuple[Rehearsal, Any]:
    """A whole body, and a reader that waits for its first bytes from the file."""
    body = disk.keep(some_bytes(size))
    drain = body.open(eager=False)
    drain.take()
    assert len(disk.offload.waiting) == 1
    return body, drain


@pytest.mark.usefixtures("cold")
def test_an_abort_while_a_read_is_in_flight(disk: Disk) -> None:
    """The receiver is cut once; what is read then is nobody's."""
    body, drain = late_reader(disk, 300 * KIB)
    body.abort(GONE)
    assert drain.error is GONE
    disk.offload.run_all()


@pytest.mark.usefixtures("cold")
def test_a_receiver_that_leaves_while_a_read_is_in_flight(disk: Disk) -> None:
    """What is read then is nobody's."""
    body, drain = late_reader(disk, 300 * KIB)
    drain.close()
    body.spool.release()
    assert disk.store.usage() > 0
    disk.offload.run_all()


# Faults of the disk.


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_fails_the_transfer(disk: Disk, number: int) -> None:
    """507 for this one, nothing left of it, and the others go on."""
    other = disk.send(100 * KIB)
    other.feed()
    disk.offload.run_all()
    body = disk.send(5 * RING)
    drain = body.open()
    body.feed()
    disk.offload.run()
    disk.offload.fail(number)
    (error,) = body.failures
    assert isinstance(error, StoreFull) and error.status == 507
    body.abort(error)
    assert drain.error is error and not drain.complete
    disk.offload.run_all()
    assert disk.files() == ["incoming"]
    other.finish()
    disk.offload.run_all()
    assert other.safe and not other.failures
    other.spool.release()


def test_a_disk_that_is_full_in_the_middle_of_a_write(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part is written, as the system does it, and then nothing more."""
    written: list[int] = []
    pwrite = os.pwrite

    def short(fd: int, data: memoryview, offset: int) -> int:
        if sum(written) >= 100_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        assert offset == sum(written), "it goes on where it stopped"
        written.append(pwrite(fd, data[:30_000], offset))
        return written[-1]

    monkeypatch.setattr(os, "pwrite", short)
    body = disk.send(5 * RING)
    drain = body.open()
    body.feed()
    disk.offload.run_all()
    assert 100_000 <= sum(written) < 130_000
    (error,) = body.failures
    assert isinstance(error, StoreFull)
    body.abort(error)
    assert drain.error is error


def test_short_writes_are_continued(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that takes less than it was given gets the rest."""
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:7_001], offset))
    body = disk.send(100_000)
    body.feed()
    disk.offload.run_all()
    body.finish()
    disk.offload.run_all()
    assert disk.file().read_bytes() == body.data
    body.spool.release()


def test_a_broken_disk_fails_the_transfer(disk: Disk, logged: list[LogEvent]) -> None:
    """500; the operator finds the reason in the log, the peer no path."""
    body = disk.send(WORTH_IT)
    body.feed()
    disk.offload.fail(errno.EIO)
    (error,) = body.failures
    assert isinstance(error, StoreFailed) and error.status == 500
    assert str(disk.path) not in error.sentence
    (event,) = logged
    assert "could not be used" in formatEvent(event)
    logged.clear()
    body.abort(error)


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, StoreFull), (errno.EIO, StoreFailed)])
def test_a_file_that_cannot_be_kept(disk: Disk, number: int, kind: type[BeamError], logged: list[LogEvent]) -> None:
    """The last step may fail too; the sender does not hear that its body is safe."""
    body = disk.send(WORTH_IT)
    drain = body.open(eager=False)
    body.feed()
    disk.offload.run_all()
    body.finish()
    disk.offload.fail(number)
    (error,) = body.failures
    assert isinstance(error, kind)
    assert not body.safe
    body.abort(error)
    assert drain.error is error
    logged.clear()


@pytest.mark.usefixtures("cold")
def test_a_file_that_cannot_be_read(disk: Disk, logged: list[LogEvent]) -> None:
    """That receiver is cut; the others and the transfer go on."""
    body, drain = late_reader(disk, 300 * KIB)
    other = body.open(eager=False)
    disk.offload.fail(errno.EIO)
    assert isinstance(drain.error, StoreFailed)
    assert not body.failures
    logged.clear()
    while not other.complete:
        other.take()
        disk.offload.run_all()
    other.close()
    body.spool.release()


@pytest.mark.parametrize("left", [0, 1, STEP - 1, STEP, STEP + 1])
def test_a_file_that_is_shorter_than_it_was(disk: Disk, left: int) -> None:
    """A receiver never takes the part that is left for the whole."""
    body = disk.keep(some_bytes(STEP + 1000))
    os.truncate(disk.file(), left)
    drain = body.open()
    disk.offload.run_all()
    assert isinstance(drain.error, StoreFailed)
    assert not drain.complete
    assert bytes(drain.got) == body.data[:left]
    drain.close()
    body.spool.release()


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EMFILE, Unavailable),
        (errno.ENFILE, Unavailable),
        (errno.EACCES, StoreFailed),
    ],
)
def test_a_file_that_cannot_be_made(
    disk: Disk, number: int, kind: type[BeamError], monkeypatch: pytest.MonkeyPatch, logged: list[LogEvent]
) -> None:
    """The sender is refused with the right status, and the memory of the ring is given back."""

    def refuse(*args: object, **more: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        with pytest.raises(BeamError) as caught:
            disk.send(WORTH_IT)
    assert type(caught.value) is kind
    assert str(disk.path) not in caught.value.sentence
    assert len(logged) == (1 if kind is StoreFailed else 0)
    logged.clear()
    disk.check_empty()


# A disk that is full in earnest.


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A file system of one megabyte and no quota; where none can be mounted, a folder and a quota of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "beam-test", str(folder)]
    mounted = os.geteuid() == 0 and subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0
    yield folder, 64 << 20 if mounted else 1 << 20
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("known", [True, False], ids=["known-length", "unknown-length"])
@in_reactor
async def test_a_disk_that_is_really_full(small_disk: tuple[Path, int], known: bool) -> None:
    """In threads, with the system's own answer: ``failed`` once, no file left, and then there is room again."""
    from twisted.internet import reactor

    clock: Any = reactor
    folder, cap = small_disk
    house = House(clock, Quota(MEMORY))
    store = DiskStore(folder, house, Quota(cap), RING // 2, RING // 2)
    store.start()
    try:
        bench = Bench(store, house)
        body = bench.rehearse(some_bytes(3 << 20), known=known and cap > 3 << 20)
        drain = body.open()
        body.feed()
        await until(lambda: body.failures, "the store to say that the disk is full")
        assert [type(error) for error in body.failures] == [StoreFull]
        body.abort(body.failures[0])
        assert drain.error is body.failures[0] and len(drain.got) < len(body.data)
        await bench.everything_is_back()
        assert [each for each in folder.rglob("*/*") if each.parent.name in ("incoming", "kept")] == []
        again = bench.rehearse(some_bytes(500 * KIB))
        drain = again.open()
        await again.feed_all()
        await again.finish_safely()
        await until(lambda: drain.complete, "the end of the next body")
        await again.close()
        await bench.everything_is_back()
    finally:
        store.stop()
