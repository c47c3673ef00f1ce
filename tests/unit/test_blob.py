"""One file of the disk store: what goes around the page cache is what was meant, and so is what does not."""

import errno
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from unit.disks import KIB, MIB, Calls, error_of, is_direct

from beam.quota import Quota
from beam.store.blob import BLOCK, GRACE, LARGE, SLOWEST, Blob
from beam.testing import some_bytes

FALLS_BACK = [errno.EINVAL, errno.EOPNOTSUPP]
NOT_OPENED = [*FALLS_BACK, errno.EMFILE, errno.ENFILE, errno.ENOENT, errno.EACCES, errno.EPERM]
FAULTS = [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO]
DATA = some_bytes(6 * MIB)
FAST = LARGE / SLOWEST  # seconds that a step may take


def memory_of(n: int, shift: int = 0) -> memoryview:
    """``n`` bytes of memory that begin ``shift`` bytes behind the start of a page."""
    return memoryview(mmap.mmap(-1, max(1, n + shift)))[shift : shift + n]


class Opened:
    """A blob, and what has been written to it."""

    def __init__(self, path: Path) -> None:
        self.quota = Quota(1 << 40)
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self.path = path
        self.blob = Blob(self.fd, self.quota)
        self.blob.hold()
        self.size = 0

    def write(self, n: int, shift: int = 0) -> int:
        """Offer the next ``n`` bytes of ``DATA``; how many were taken."""
        memory = memory_of(n, shift)
        memory[:] = DATA[self.size : self.size + n]
        taken = self.blob.write(memory, self.size)
        assert 0 < taken <= n
        self.size += taken
        return taken

    def write_all(self, n: int, shift: int = 0) -> None:
        """Write on until ``n`` more bytes are there."""
        end = self.size + n
        while self.size < end:
            self.write(end - self.size, shift)

    def read(self, start: int, n: int) -> int:
        """Read ``n`` bytes at ``start``, and compare; how many there were."""
        memory = memory_of(n)
        got = self.blob.read(memory, start)
        assert bytes(memory[:got]) == DATA[start : min(start + got, self.size)]
        return got

    def read_cached(self, start: int, n: int) -> int:
        """As ``read``, from the page cache alone."""
        memory = memory_of(n)
        got = self.blob.read_cached(memory, start)
        assert bytes(memory[:got]) == DATA[start : min(start + got, self.size)]
        return got

    def check(self) -> None:
        """Every byte is there, whoever asks."""
        assert self.path.read_bytes() == DATA[: self.size]
        at = 0
        while at < self.size:
            start = at - at % BLOCK
            got = self.read(start, MIB)
            assert start + got > at
            at = start + got
        assert at == self.size


@contextmanager
def opened(path: Path) -> Iterator[Opened]:
    """A blob that is used as long as this lasts."""
    one = Opened(path)
    try:
        yield one
    finally:
        one.blob.drop()
        path.unlink()


@pytest.fixture
def new(tmp_path: Path) -> Iterator[Opened]:
    """A new blob."""
    with opened(tmp_path / "blob") as one:
        yield one


def refuses(folder: Path) -> bool:
    """Whether the file system of ``folder`` has no way around the cache."""
    path = folder / "probe"
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o600)
        try:
            return os.pwrite(fd, memory_of(BLOCK), 0) != BLOCK
        finally:
            os.close(fd)
    except OSError:
        return True
    finally:
        path.unlink(missing_ok=True)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Calls:
    """Who watches the system's calls; a test that asks for it needs a file system with a way around the cache."""
    if refuses(tmp_path):
        pytest.skip("this file system has no way around the page cache")
    return Calls(monkeypatch)


# Which way.


def test_large_steps_go_around_and_the_ragged_end_does_not(new: Opened, calls: Calls) -> None:
    """The cache takes what is less than a block, and only that."""
    assert new.write(2 * LARGE) == 2 * LARGE
    assert new.write(LARGE + BLOCK + 17) == LARGE + BLOCK
    assert new.write(17) == 17
    assert calls.written == [
        (True, 0, 2 * LARGE),
        (True, 2 * LARGE, LARGE + BLOCK),
        (False, 3 * LARGE + BLOCK, 17),
    ]
    new.check()
    assert [around for around, _, _ in calls.read] == [True] * 4 + [False]


def test_what_began_around_goes_on_in_small_steps(new: Opened, calls: Calls) -> None:
    """A block is enough then: mixing the ways costs more."""
    for n in (LARGE, BLOCK, 3 * BLOCK):
        assert new.write(n) == n
    assert calls.ways == [True] * 3
    new.check()


@pytest.mark.parametrize("first", [1, BLOCK, LARGE - 1])
def test_what_began_small_stays_in_the_cache(new: Opened, calls: Calls, first: int) -> None:
    """Small files are not worth a second descriptor."""
    assert new.write(first) == first
    assert new.write(2 * LARGE) == 2 * LARGE
    assert not any(calls.ways)
    assert calls.opens == 0
    new.check()


def test_behind_a_ragged_step_the_cache_goes_on(new: Opened, calls: Calls) -> None:
    """What follows lies at no block's start."""
    new.write(LARGE)
    new.write(17)
    assert new.write(2 * LARGE) == 2 * LARGE
    assert calls.ways[0] and not any(calls.ways[1:])
    new.check()


def test_memory_at_no_blocks_start(new: Opened, calls: Calls) -> None:
    """The system refuses it or not; the bytes are there, and stay right."""
    new.write_all(LARGE, shift=1)
    new.write_all(LARGE)
    new.check()


# Where the file system refuses.


@pytest.mark.parametrize("number", NOT_OPENED)
@pytest.mark.parametrize("before", [0, 1, 2])
def test_no_second_descriptor(new: Opened, calls: Calls, number: int, before: int) -> None:
    """The cache takes it, and nobody asks again."""
    calls.opened = [*[None] * before, error_of(number)]
    for n in (2 * LARGE, LARGE, LARGE + 17):
        assert new.write(n) == n
    assert calls.opens == before + 1
    assert calls.ways[:before] == [True] * before and not any(calls.ways[before:])
    new.check()
    assert not any(around for around, _, _ in calls.read)


@pytest.mark.parametrize("number", NOT_OPENED)
def test_no_second_descriptor_for_a_read(new: Opened, calls: Calls, number: int) -> None:
    """The cache reads it, and nobody asks again."""
    new.write(2 * LARGE)
    calls.opened = [error_of(number)]
    new.check()
    assert calls.opens == 2
    assert not any(around for around, _, _ in calls.read)


@pytest.mark.parametrize("number", FALLS_BACK)
@pytest.mark.parametrize("before", [0, 1, 3])
def test_a_write_that_is_refused(new: Opened, calls: Calls, number: int, before: int) -> None:
    """It is written all the same, and everything behind it, through the cache; what went around is still there."""
    calls.wrote = [*[None] * before, error_of(number)]
    for _ in range(5):
        assert new.write(LARGE) == LARGE
    assert new.write(17) == 17
    assert [n for around, _, n in calls.written if around] == [LARGE] * before + [-1]
    assert calls.opens == before + 1
    new.check()
    assert not any(around for around, _, _ in calls.read)


def test_a_read_that_is_refused(new: Opened, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read all the same, and the next is not tried."""
    new.write(2 * LARGE)
    preadv, refused = os.preadv, list[int]()

    def refuse(fd: int, buffers: list[memoryview], offset: int, flags: int = 0) -> int:
        if is_direct(fd):
            refused.append(offset)
            raise error_of(errno.EINVAL)
        return preadv(fd, buffers, offset, flags)

    monkeypatch.setattr(os, "preadv", refuse)
    new.check()
    assert refused == [0]


# Faults are told.


@pytest.mark.parametrize("number", FAULTS)
@pytest.mark.parametrize("before", [0, 1])
def test_a_fault_on_the_way_around(new: Opened, calls: Calls, number: int, before: int) -> None:
    """The cache would hide a full or a broken disk until nobody asks any more."""
    calls.wrote = [*[None] * before, error_of(number)]
    for _ in range(before):
        new.write(LARGE)
    with pytest.raises(OSError) as caught:
        new.write(LARGE)
    assert caught.value.errno == number
    assert calls.ways == [True] * (before + 1), "nothing was tried behind it"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_fault_of_the_second_descriptor(new: Opened, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A disk that fails at the open has failed."""
    Calls(monkeypatch, opened=[error_of(number)])
    with pytest.raises(OSError) as caught:
        new.write(LARGE)
    assert caught.value.errno == number


@pytest.mark.parametrize("number", [*FAULTS, errno.EINVAL])
@pytest.mark.parametrize("done", [0, 300 * KIB])
def test_a_fault_in_the_cache(new: Opened, monkeypatch: pytest.MonkeyPatch, number: int, done: int) -> None:
    """Told as well, also if a part has been written."""
    pwrite = os.pwrite

    def broken(fd: int, data: memoryview, offset: int) -> int:
        if offset >= done:
            raise error_of(number)
        return pwrite(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", broken)
    with pytest.raises(OSError) as caught:
        new.write(LARGE - 1)
    assert caught.value.errno == number


@pytest.mark.parametrize("around", [True, False])
def test_a_read_that_fails(new: Opened, calls: Calls, monkeypatch: pytest.MonkeyPatch, around: bool) -> None:
    """Told; but the cache, which is asked first, has just nothing then."""
    new.write(LARGE if around else LARGE - 1)

    def broken(*args: object) -> int:
        raise error_of(errno.EIO)

    monkeypatch.setattr(os, "preadv", broken)
    assert new.read_cached(0, MIB) == 0
    with pytest.raises(OSError) as caught:
        new.read(0, MIB)
    assert caught.value.errno == errno.EIO


# A disk that is slow.


def test_a_write_that_took_long(new: Opened, calls: Calls) -> None:
    """It counts; everything behind it goes through the cache, also what is read."""
    new.write(LARGE)
    calls.seconds = FAST + GRACE + 0.1
    assert new.write(LARGE) == LARGE
    calls.seconds = 0.0
    new.write_all(2 * LARGE + 17)
    assert calls.ways[:2] == [True, True] and not any(calls.ways[2:])
    new.check()
    assert not any(around for around, _, _ in calls.read)


def test_a_read_that_took_long(new: Opened, calls: Calls) -> None:
    """It counts; and the writer too stays away from a disk that is slow for readers."""
    new.write(2 * LARGE)
    calls.seconds = FAST + GRACE + 0.1
    assert new.read(0, MIB) == MIB
    calls.seconds = 0.0
    new.check()
    new.write_all(2 * LARGE)
    new.check()
    assert calls.ways[:1] == [True] and not any(calls.ways[1:])
    assert [around for around, _, _ in calls.read] == [True] + [False] * (len(calls.read) - 1)


def test_a_disk_that_falls_behind(new: Opened, calls: Calls) -> None:
    """What many steps are late adds up."""
    calls.seconds = FAST + 0.4 * GRACE
    for _ in range(5):
        new.write(LARGE)
    assert calls.ways[:3] == [True] * 3 and not any(calls.ways[3:])
    new.check()


def test_a_disk_that_catches_up(new: Opened, calls: Calls) -> None:
    """One that stands still for a moment is not slow."""
    for _ in range(2):
        calls.seconds = 0.9 * GRACE
        new.write(BLOCK if calls.ways else LARGE)
        calls.seconds = 0.0
        for _ in range(30):
            new.read(0, MIB)
    assert all(calls.ways) and all(around for around, _, _ in calls.read)


def test_almost_slow_is_fast(new: Opened, calls: Calls) -> None:
    """However long it goes on."""
    new.write(4 * LARGE)
    calls.seconds = 0.99 * FAST
    for _ in range(200):
        assert new.read(LARGE, LARGE) == LARGE
    assert all(around for around, _, _ in calls.read)


def test_slow_stays_slow_whoever_is_done_last(new: Opened, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quick write that was in flight while a read took long does not bring the disk back."""
    new.write(LARGE)
    pwrite = os.pwrite

    def write(fd: int, data: memoryview, offset: int) -> int:
        monkeypatch.setattr(os, "pwrite", pwrite)
        before, calls.seconds = calls.now, FAST + GRACE + 0.1
        new.read(0, MIB)
        calls.now, calls.seconds = before, 0.0
        return pwrite(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", write)
    assert new.write(LARGE) == LARGE
    assert new.write(LARGE) == LARGE
    assert calls.ways == [True, True] + [False] * 4
    new.check()


# Reads.


@pytest.mark.parametrize(
    ("start", "n", "got", "around"),
    [
        (0, MIB, MIB, True),
        (0, 64 * KIB, 64 * KIB, True),
        (MIB, MIB, MIB, True),
        (2 * MIB - BLOCK, MIB, BLOCK, True),  # as far as they went around
        (MIB + BLOCK, MIB, MIB - BLOCK, True),
        (2 * MIB, MIB, BLOCK + 17, False),  # behind them
        (2 * MIB + BLOCK, MIB, 17, False),
        (2 * MIB, 64, 64, False),
        (2 * MIB + 2 * BLOCK, MIB, 0, False),  # behind the end
        (8 * MIB, MIB, 0, False),
    ],
)
def test_reads_at_the_edges(new: Opened, calls: Calls, start: int, n: int, got: int, around: bool) -> None:
    """No read crosses from one way into the other; behind the end there is nothing."""
    new.write(2 * LARGE)
    new.write(17)
    new.write(BLOCK)  # in the cache, and the end is ragged
    assert calls.ways == [True, False, False]
    assert new.read_cached(start, n) in ((0,) if around else range(got + 1))
    calls.read.clear()
    assert new.read(start, n) == got
    assert calls.read == [(around, start, got)]


@pytest.mark.parametrize("left", [0, 1, BLOCK, BLOCK + 1, LARGE - 1, LARGE + 512])
def test_a_file_that_has_been_cut(new: Opened, calls: Calls, left: int) -> None:
    """A read gives what is left, and not what was."""
    new.write(2 * LARGE)
    os.truncate(new.path, left)
    assert new.read(0, 2 * LARGE) == left


def test_the_cache_is_asked_without_waiting(new: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that blocks happens in the reactor's thread; a file system that cannot say has nothing."""
    new.write(1000)
    flags_seen: list[int] = []

    def unable(fd: int, buffers: object, offset: int, flags: int = 0) -> int:
        flags_seen.append(flags)
        raise error_of(errno.EOPNOTSUPP)

    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", unable)
        assert new.read_cached(0, BLOCK) == 0
    assert flags_seen == [os.RWF_NOWAIT]
    assert new.read(0, BLOCK) == 1000


# Short writes.


@pytest.mark.parametrize("taken", [BLOCK, LARGE - BLOCK])
def test_a_short_write_that_ends_at_a_block(new: Opened, calls: Calls, taken: int) -> None:
    """The rest goes around too."""
    calls.wrote = [taken, None, taken]
    assert new.write(2 * LARGE) == taken
    new.write_all(LARGE - taken)
    new.write_all(2 * LARGE)
    assert all(calls.ways)
    new.check()


@pytest.mark.parametrize("taken", [1, 512, BLOCK - 1, BLOCK + 512, LARGE - 1])
@pytest.mark.parametrize("before", [0, 1])
def test_a_short_write_that_does_not(new: Opened, calls: Calls, taken: int, before: int) -> None:
    """The cache takes the rest, and gives it all."""
    calls.wrote = [*[None] * before, taken]
    for _ in range(before):
        new.write(LARGE)
    assert new.write(LARGE) == taken
    new.write_all(2 * LARGE)
    assert calls.ways[: before + 1] == [True] * (before + 1) and not any(calls.ways[before + 1 :])
    new.check()
    assert not any(around for around, _, _ in calls.read)


def test_short_writes_into_the_cache(new: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step is whole when it returns."""
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:7001], offset))
    assert new.write(LARGE - 1) == LARGE - 1
    new.check()


# Descriptors.


def descriptors_of(path: Path) -> int:
    """How many descriptors of this process are ``path``."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{fd}") == str(path)
        except FileNotFoundError:
            continue
    return found


@pytest.mark.parametrize("fault", [None, errno.EINVAL, errno.EIO], ids=str)
def test_a_file_has_one_descriptor(tmp_path: Path, calls: Calls, fault: int | None) -> None:
    """The second lasts for a step, however that ends; the first until the last one has let go."""
    one = Opened(tmp_path / "blob")
    one.blob.charge(LARGE)
    one.blob.hold()
    one.write(LARGE)
    assert descriptors_of(one.path) == 1
    if fault is not None:
        calls.wrote = [error_of(fault)]
        try:
            one.write(LARGE)
        except OSError as error:
            assert error.errno == fault == errno.EIO
    one.blob.drop()
    assert descriptors_of(one.path) == 1 and one.quota.used == LARGE
    one.check()
    one.blob.drop()
    assert descriptors_of(one.path) == 0 and one.quota.used == 0


def test_a_file_without_a_name_goes_around_too(new: Opened, calls: Calls) -> None:
    """Its second descriptor is opened by the first: a name may be another's by then, or nobody's."""
    new.path.rename(new.path.with_name("kept"))
    new.path.write_bytes(b"another's")
    new.write(LARGE)
    new.path.with_name("kept").unlink()
    new.write(LARGE)
    assert calls.ways == [True, True]
    assert new.read(LARGE, MIB) == MIB
    assert new.path.read_bytes() == b"another's"


# Everything together.


SIZES = (
    st.integers(1, 300 * KIB)
    | st.integers(0, 60).map(lambda n: max(1, n * BLOCK))
    | st.builds(lambda n, off: max(1, n * BLOCK + off), st.integers(0, 60), st.sampled_from([-1, 1, 512, 17]))
)
SHIFTS = st.sampled_from([0, 0, 0, 1, 512, BLOCK - 1])
ANSWERS = st.one_of(
    st.none(),
    st.integers(1, 100 * KIB),
    st.integers(1, 20).map(lambda n: n * BLOCK),
    st.sampled_from(FALLS_BACK).map(error_of),
)


@settings(max_examples=150)
@given(
    steps=st.lists(st.tuples(SIZES, SHIFTS), min_size=1, max_size=12),
    large=st.sampled_from([BLOCK, 4 * BLOCK, 50 * KIB, 1 << 40]),
    opened_with=st.none() | st.sampled_from(NOT_OPENED).map(error_of),
    answers=st.lists(ANSWERS, max_size=6) | st.just([]),
    slow=st.sampled_from([0.0, 0.0, GRACE / 4, 2 * GRACE]),
    reads=st.lists(st.tuples(st.integers(0, 600), st.integers(1, 70)), max_size=12),
)
@example([(LARGE, 0), (LARGE + 17, 0)], LARGE, None, [], 0.0, [(0, 256), (255, 256), (257, 256)])
def test_every_mixture(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[int, int]],
    large: int,
    opened_with: OSError | None,
    answers: list[int | OSError | None],
    slow: float,
    reads: list[tuple[int, int]],
) -> None:
    """Sizes, alignments, refusals, short writes, a disk that is slow for some: each byte is right, whoever reads."""
    folder = tmp_path_factory.mktemp("blobs")
    with opened(folder / "blob") as one, pytest.MonkeyPatch.context() as patch:
        patch.setattr("beam.store.blob.LARGE", large)
        calls = Calls(patch, opened=[opened_with], wrote=answers)
        todo = list(reads)
        for number, (n, shift) in enumerate(steps):
            calls.seconds = slow if number % 3 == 2 else 0.0
            end = one.size + min(n, len(DATA) - one.size)
            while one.size < end:
                one.write(end - one.size, shift)
                if todo:
                    block, blocks = todo.pop()
                    one.read_cached(block * BLOCK, blocks * BLOCK)
                    one.read(block * BLOCK, blocks * BLOCK)
        one.check()
        assert opened_with is None or calls.opens <= 1, "who was refused does not ask again"
    assert list(folder.iterdir()) == []
