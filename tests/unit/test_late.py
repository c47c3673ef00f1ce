"""Receivers behind the ring: they share what was read, each gets exactly its bytes, and all memory comes back."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.logger import LogEvent
from unit.disks import MIB, ByHand, Calls, Disk, out_of_cache

from beam.errors import SenderLost, StoreFailed
from beam.store.blob import BLOCK
from beam.store.late import SMALL_STEP, STEP
from beam.store.memory import SHARE
from beam.testing import Drain, Rehearsal, some_bytes

GONE = SenderLost("The sender left before the end.")
DATA = some_bytes(5 * STEP + 12_345)
WINDOW = 2 * MIB
NEVER = 1 << 40


@pytest.fixture(params=["around the cache", "through it"])
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Disk]:
    """A store whose reads all leave the thread, whichever way they go; in the end nothing may be left."""
    if request.param == "through it":
        monkeypatch.setattr("beam.store.blob.LARGE", NEVER)
    monkeypatch.setattr("beam.store.blob.GRACE", float("inf"))
    out_of_cache(monkeypatch)
    disk = Disk(tmp_path / "data", 64 * MIB, memory=64 * MIB, window=WINDOW, history=0)
    yield disk
    disk.check_empty()
    disk.store.stop()


@pytest.fixture
def body(disk: Disk) -> Iterator[Rehearsal]:
    """A body that is kept; in the end its receivers close."""
    body = disk.keep(DATA)
    assert disk.memory.used == 0, "the ring is gone"
    yield body
    for drain in body.drains:
        drain.close()
    body.spool.release()
    disk.offload.run_all()


def everything(disk: Disk, *drains: Drain) -> None:
    """Each takes all that is left for it."""
    while not all(drain.ended for drain in drains):
        before = sum(len(drain.got) for drain in drains)
        for drain in drains:
            drain.take()
        running = len(disk.offload.waiting)
        disk.offload.run_all()
        assert running or sum(len(drain.got) for drain in drains) > before, "nothing moves any more"
    assert all(drain.complete for drain in drains)


# They share.


def test_those_at_the_same_place_share_one_read(disk: Disk, body: Rehearsal) -> None:
    """Thirty that begin together cost the disk and the memory as much as one."""
    drains = [body.open() for _ in range(30)]
    reads = 0
    while not all(drain.complete for drain in drains):
        assert len(disk.offload.waiting) == 1
        disk.offload.run()
        reads += 1
        assert disk.memory.used <= 2 * STEP
    assert reads <= len(DATA) // STEP + 2  # one more, where the way changes at the ragged end


def test_one_behind_finds_the_block(disk: Disk, body: Rehearsal) -> None:
    """As long as the first is in it, wherever in it the second begins."""
    first = body.open(eager=False)
    first.take()
    disk.offload.run()
    first.take(1000)
    for position in (0, 1, 999, 1000, STEP - 1):
        drain = body.open(position, eager=False)
        assert drain.take(1) == 1
        drain.close()
    assert not disk.offload.waiting
    assert disk.memory.used == STEP


def test_one_ahead_of_the_block_has_its_own(disk: Disk, body: Rehearsal) -> None:
    """And each comes to the other's in time, or reads on; all of it is right."""
    drains = [body.open(position, eager=False) for position in (0, STEP, 3 * STEP + 17)]
    for drain in drains:
        drain.take()
    assert len(disk.offload.waiting) == 3
    assert disk.memory.used == 3 * STEP
    everything(disk, *drains)


def test_those_who_wait_are_told_together(disk: Disk, body: Rehearsal) -> None:
    """In the order in which they came, once each, although the first reads on at once."""
    told: list[int] = []
    drains = [body.open(position, eager=False) for position in (0, 10, STEP - 1, 0)]
    for number, drain in enumerate(drains):
        drain.take()
        drain.take()  # who asks twice is told once
        drain.told = 0
        drain.eager = True
        drain.on_bytes = partial(told.append, number)
    assert len(disk.offload.waiting) == 1
    disk.offload.run()
    assert told == [0, 1, 2, 3]
    assert [drain.told for drain in drains] == [1, 1, 1, 1]
    assert [len(drain.got) for drain in drains] == [STEP, STEP - 10, 1, STEP]
    assert len(disk.offload.waiting) == 1, "all wait for the next"


def test_the_first_that_is_told_may_close_the_others(disk: Disk, body: Rehearsal) -> None:
    """They hear nothing any more."""
    drains = [body.open(eager=False) for _ in range(3)]
    for drain in drains:
        drain.take()
        drain.told = 0

    def close_all() -> None:
        for drain in drains:
            drain.close()

    drains[0].on_bytes = close_all
    disk.offload.run()
    assert [drain.told for drain in drains] == [1, 0, 0]
    assert disk.memory.used == 0


def test_one_that_joins_those_who_wait(disk: Disk, body: Rehearsal) -> None:
    """At a place that the read was not begun for, but comes to."""
    first, second = body.open(eager=False), body.open(STEP // 2, eager=False)
    first.take()
    second.take()
    second.eager = True
    assert len(disk.offload.waiting) == 1
    disk.offload.run()
    assert len(second.got) == STEP // 2
    everything(disk, first, second)


def test_what_the_cache_has_is_there_at_once(tmp_path: Path) -> None:
    """No thread, no wait."""
    disk = Disk(tmp_path / "data", 64 * MIB)
    body = disk.keep(DATA[: 2 * STEP + 1])
    drain = body.open()
    assert drain.complete and not disk.offload.waiting
    drain.close()
    body.spool.release()
    disk.check_empty()
    disk.store.stop()


def test_a_part_that_the_cache_has_is_given_first(disk: Disk, body: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is read when it is asked for."""
    preadv = os.preadv

    def some(fd: int, buffers: list[memoryview], offset: int, flags: int = 0) -> int:
        if flags & os.RWF_NOWAIT:
            return preadv(fd, [buffers[0][: 3 * BLOCK]], offset) if offset < 8 * BLOCK else 0
        return preadv(fd, buffers, offset, flags)

    monkeypatch.setattr(os, "preadv", some)
    monkeypatch.setattr("beam.store.blob.Blob._went_around", lambda self, start: False)
    drain = body.open()
    assert len(drain.got) == 9 * BLOCK
    assert len(disk.offload.waiting) == 1
    everything(disk, drain)


@pytest.mark.parametrize("position", [1, 17, BLOCK - 1, STEP + BLOCK + 1, 5 * STEP - 1])
def test_one_in_the_middle_of_a_block_goes_around_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, position: int
) -> None:
    """Whichever byte a receiver begins with: its file is read as it was written."""
    calls = Calls(monkeypatch)
    disk = Disk(tmp_path / "data", 64 * MIB, memory=64 * MIB, window=WINDOW, history=0)
    body = disk.keep(DATA)
    drain = body.open(position)
    everything(disk, drain)
    drain.close()
    body.spool.release()
    disk.store.stop()
    if not any(calls.ways):
        pytest.skip("this file system has no way around the page cache")
    ragged = len(DATA) - len(DATA) % BLOCK
    assert [around for around, start, _ in calls.read] == [start < ragged for _, start, _ in calls.read]
    assert all(start % BLOCK == 0 for _, start, _ in calls.read)


# Memory.


def test_blocks_are_not_more_than_receivers(disk: Disk, body: Rehearsal) -> None:
    """However they move: a block that all have left is the next one's."""
    random = Random(1)
    drains = [body.open(random.randrange(len(DATA)), eager=False) for _ in range(4)]
    while not all(drain.complete for drain in drains):
        random.choice(drains).take(random.randrange(1, STEP))
        if disk.offload.waiting and random.random() < 0.5:
            disk.offload.run(random.randrange(len(disk.offload.waiting)))
        assert disk.memory.used <= len(drains) * STEP
    for drain in drains:
        drain.close()
    assert disk.memory.used == 0


def test_when_one_leaves_its_block_goes(disk: Disk, body: Rehearsal) -> None:
    """And with it those that lie there for nobody."""
    drains = [body.open(number * STEP, eager=False) for number in range(3)]
    for drain in drains:
        drain.take()
    disk.offload.run_all()
    assert disk.memory.used == 3 * STEP
    drains[0].take(STEP)
    drains[0].take(1)  # it is where the second is now, and has left its block
    assert disk.memory.used == 3 * STEP
    drains[2].close()
    assert disk.memory.used == STEP
    drains[1].close()
    assert disk.memory.used == STEP
    drains[0].close()
    assert disk.memory.used == 0


@pytest.mark.parametrize(
    ("free", "large"), [(0, 0), (STEP, 0), (SHARE * STEP - 1, 0), (SHARE * STEP, 1), (SHARE * STEP + STEP, 2)]
)
def test_memory_that_is_used_up(disk: Disk, body: Rehearsal, free: int, large: int) -> None:
    """Small blocks, which are not charged, leave senders their part; and what comes out is right."""
    kept = disk.memory.free - free
    disk.memory.take(kept)
    drains = [body.open(position, eager=False) for position in (0, STEP + 17, 2 * STEP - 1, 3 * STEP)]
    for drain in drains:
        drain.take()
    assert disk.memory.used == kept + large * STEP
    disk.offload.run_all()
    sizes = []
    for drain in drains:
        sizes.append(len(drain.reader.peek()))
        assert 0 < sizes[-1] <= STEP
    assert sum(size > SMALL_STEP for size in sizes) <= large
    everything(disk, *drains)
    for drain in drains:
        drain.close()
    disk.memory.give(kept)
    assert disk.memory.used == 0


def test_small_blocks_are_shared_too(disk: Disk, body: Rehearsal) -> None:
    """Where the memory is used up, sharing matters most."""
    kept = disk.memory.free
    disk.memory.take(kept)
    drains = [body.open() for _ in range(20)]
    while not all(drain.complete for drain in drains):
        assert len(disk.offload.waiting) == 1
        disk.offload.run()
    disk.memory.give(kept)


def test_one_that_has_caught_up_needs_no_block(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads the ring from there, perhaps for hours."""
    body = Rehearsal(disk.store, DATA)
    body.feed(3 * STEP)
    while body.sent < 3 * STEP or disk.offload.waiting:
        disk.offload.run()
    ring = disk.memory.used
    assert body.spool.base == 0
    drain = body.open(pace=1000)
    assert disk.memory.used == ring + STEP
    disk.offload.run_all()
    assert len(drain.got) == 3 * STEP, "it is at the head"
    assert disk.memory.used == ring
    body.feed()
    disk.offload.run_all()
    body.finish()
    disk.offload.run_all()
    assert drain.complete
    drain.close()
    body.spool.release()


# Ends in the middle of something.


def test_one_that_leaves_while_a_read_is_in_flight(disk: Disk, body: Rehearsal) -> None:
    """The others are told as if it had never been there."""
    gone, other = body.open(eager=False), body.open(eager=False)
    gone.take()
    other.take()
    gone.told = other.told = 0
    gone.close()
    disk.offload.run()
    assert (gone.told, other.told) == (0, 1)
    everything(disk, other)


def test_all_leave_while_a_read_is_in_flight(disk: Disk, body: Rehearsal) -> None:
    """Its block counts until the thread is done with it, which must not write into another's memory."""
    drains = [body.open(eager=False) for _ in range(3)]
    for drain in drains:
        drain.take()
        drain.close()
    assert disk.memory.used == STEP
    again = body.open(STEP, eager=False)
    again.take()
    assert disk.memory.used == 2 * STEP
    disk.offload.run()
    assert disk.memory.used == STEP
    everything(disk, again)


def test_one_comes_for_a_read_that_all_have_left(disk: Disk, body: Rehearsal) -> None:
    """It is not read again."""
    first = body.open(eager=False)
    first.take()
    first.close()
    second = body.open(100, eager=False)
    second.take()
    assert len(disk.offload.waiting) == 1
    everything(disk, second)


def test_one_that_has_no_sink_while_a_read_is_in_flight(disk: Disk, body: Rehearsal) -> None:
    """It is told of what is there when it has one again."""
    drain = body.open(eager=False)
    drain.take()
    reader: Any = drain.reader
    reader.sink = None
    disk.offload.run()
    drain.told = 0
    reader.attach(drain)
    assert drain.told == 1
    everything(disk, drain)


def test_an_abort_while_reads_are_in_flight(disk: Disk, body: Rehearsal) -> None:
    """Each is cut once, at once; the file and the memory go when the threads are done."""
    drains = [body.open(number * STEP, eager=False) for number in range(4)]
    for drain in drains:
        drain.take()
    assert len(disk.offload.waiting) == 4
    disk.offload.run()  # this one has bytes at hand
    body.abort(GONE)
    assert [drain.error for drain in drains] == [GONE] * 4
    assert disk.store.usage() == len(DATA) and disk.memory.used == 3 * STEP
    disk.offload.run(1)
    disk.offload.fail_with(StoreFailed("This disk is gone."))
    assert disk.store.usage() == len(DATA) and disk.memory.used == STEP
    disk.offload.run()
    disk.check_empty()


def test_a_release_while_reads_are_in_flight(disk: Disk, body: Rehearsal) -> None:
    """Those who read go on to the end, although the file has no name any more."""
    drains = [body.open(number * STEP, eager=False) for number in range(3)]
    for drain in drains:
        drain.take()
    body.spool.release()
    assert disk.files() == []
    everything(disk, *drains)


# Faults.


def test_a_failed_read_cuts_those_who_waited_and_nobody_else(
    disk: Disk, body: Rehearsal, logged: list[LogEvent]
) -> None:
    """Neither who reads elsewhere, nor who comes behind, nor the transfer."""
    waited = [body.open(position, eager=False) for position in (0, 1000)]
    left = body.open(eager=False)
    elsewhere = body.open(2 * STEP, eager=False)
    idle = body.open(eager=False)
    for drain in (*waited, left, elsewhere):
        drain.take()
    left.close()
    assert len(disk.offload.waiting) == 2
    disk.offload.fail(errno.EIO)
    assert [type(drain.error) for drain in waited] == [StoreFailed] * 2
    assert elsewhere.error is idle.error is left.error is None
    assert len(logged) == 1, "one read, one line"
    logged.clear()
    assert disk.memory.used == STEP
    everything(disk, elsewhere, idle, body.open())
    assert not body.failures


@pytest.mark.parametrize("left", [0, 1, BLOCK, BLOCK + 1, STEP - 1, STEP, STEP + 1, len(DATA) - 1])
def test_a_file_that_is_shorter_than_it_was(disk: Disk, body: Rehearsal, left: int) -> None:
    """Each has what is left, and then an error in a sentence: not the end, and no wrong byte."""
    os.truncate(disk.file(), left)
    positions = {position for position in (0, 1, left - 1, left, left + 1, 2 * STEP) if 0 <= position < len(DATA)}
    drains = [body.open(position) for position in sorted(positions)]
    disk.offload.run_all()
    for drain in drains:
        assert isinstance(drain.error, StoreFailed) and not drain.complete
        assert drain.error.sentence.endswith(".") and str(disk.path) not in drain.error.sentence
        if drain.start < left:
            # One who waits for the same block as one behind the end may be cut with it, some bytes early.
            assert left - drain.start - BLOCK < len(drain.got) <= left - drain.start
        else:
            assert not drain.got
    assert disk.memory.used == 0
    assert not body.failures


def test_a_file_that_is_cut_while_it_is_read(disk: Disk, body: Rehearsal) -> None:
    """Who has a block already keeps it; what follows is an error."""
    drain = body.open(eager=False)
    drain.take()
    disk.offload.run()
    os.truncate(disk.file(), 100)
    assert drain.take() == STEP
    disk.offload.run_all()
    assert isinstance(drain.error, StoreFailed)


def test_a_disk_that_grows_slow(disk: Disk, body: Rehearsal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest comes through the cache, and is the same."""
    calls = Calls(monkeypatch)
    calls.seconds = 1.0  # a second for each step
    monkeypatch.setattr("beam.store.blob.GRACE", 0.5)
    drain = body.open()
    disk.offload.run_all()
    assert drain.complete
    assert sum(around for around, _, _ in calls.read) <= 1


# Everything together.


class Receivers(RuleBasedStateMachine):
    """A body on its way into the file, and late receivers who come, take, wait and leave as they like.

    Every receiver compares each byte (``Drain``); what the cache has, which call ends first and how much memory there
    is, is left to chance.
    """

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.folder = tempfile.TemporaryDirectory()
        self.random = Random(0)
        self.drains: list[Drain] = []
        self.kept = 0
        self.lost = 0

    @initialize(around=st.booleans(), memory=st.sampled_from([1, 4, 40]), seed=st.integers(0, 1 << 32))
    def begin(self, around: bool, memory: int, seed: int) -> None:
        """The store is there, and a sender."""
        self.random = Random(seed)
        self.warm = self.random.choice([0.0, 0.3, 1.0])
        self.patch.setattr("beam.store.blob.GRACE", float("inf"))
        if not around:
            self.patch.setattr("beam.store.blob.LARGE", NEVER)
        preadv = os.preadv

        def reads(fd: int, buffers: list[memoryview], offset: int, flags: int = 0) -> int:
            """The cache has a part, or nothing."""
            if not flags & os.RWF_NOWAIT:
                return preadv(fd, buffers, offset, flags)
            if self.random.random() >= self.warm:
                raise BlockingIOError
            return preadv(fd, [buffers[0][: self.random.choice([BLOCK, 5 * BLOCK, STEP])]], offset)

        self.patch.setattr(os, "preadv", reads)
        path = Path(self.folder.name)
        self.disk = Disk(path, 8 * MIB, memory=memory * MIB, window=WINDOW, history=0)
        self.offload: ByHand = self.disk.offload
        self.body = Rehearsal(self.disk.store, DATA, step=self.random.choice([10_000, 1 << 16, 1 << 20]))

    @rule(n=st.integers(1, 2 * STEP))
    def send(self, n: int) -> None:
        """The sender goes on, as far as there is room."""
        if not self.body.over:
            self.body.feed(max(self.body.upto, min(len(DATA), self.body.sent + n)))
            if self.body.sent == len(DATA):
                self.body.finish()

    @rule(kind=st.sampled_from(["start", "any", "edge", "same"]), eager=st.booleans(), pace=st.integers(1000, STEP))
    def come(self, kind: str, eager: bool, pace: int) -> None:
        """One more receiver, at some place."""
        if len(self.living()) < 8:
            place: dict[str, Callable[[], int]] = {
                "start": lambda: 0,
                "any": lambda: self.random.randrange(len(DATA)),
                "edge": lambda: self.random.randrange(5) * STEP + self.random.choice([0, 1, BLOCK - 1, BLOCK]),
                "same": lambda: self.random.choice([each.reader.position for each in self.living()] or [0]),
            }
            self.drains.append(self.body.open(place[kind](), eager, pace))

    @precondition(lambda self: self.living())
    @rule(n=st.integers(1, STEP + 1))
    def take(self, n: int) -> None:
        """One takes what there is."""
        self.random.choice(self.living()).take(n)

    @precondition(lambda self: self.living())
    @rule()
    def leave(self) -> None:
        """One has enough."""
        self.random.choice(self.living()).close()

    @precondition(lambda self: self.offload.waiting)
    @rule(times=st.integers(1, 4))
    def run_one(self, times: int) -> None:
        """A thread is done, whichever."""
        for _ in range(min(times, len(self.offload.waiting))):
            self.offload.run(self.random.randrange(len(self.offload.waiting)))

    @precondition(lambda self: self.body.safe and self.offload.waiting)
    @rule()
    def lose_one(self) -> None:
        """A read fails; the file is written, so that it can be nothing else."""
        before = self.errors()
        i = self.random.randrange(len(self.offload.waiting))
        self.offload.fail_with(StoreFailed("This sector is gone."), i)
        self.lost += self.errors() - before

    @rule()
    def use_up(self) -> None:
        """Others take the memory, or give it back."""
        if self.kept:
            self.disk.memory.give(self.kept)
            self.kept = 0
        else:
            self.kept = self.disk.memory.free
            self.disk.memory.take(self.kept)

    def living(self) -> list[Drain]:
        """Those who want something."""
        return [drain for drain in self.drains if not drain.ended]

    def errors(self) -> int:
        """How many have been cut."""
        return sum(drain.error is not None for drain in self.drains)

    @invariant()
    def memory_is_bounded(self) -> None:
        """A block for each that reads or has come to its end, and for each read in flight; and the ring."""
        if hasattr(self, "disk"):
            open_ones = sum(not drain.closed for drain in self.drains)
            blocks = open_ones + len(self.offload.waiting)
            assert 0 <= self.disk.memory.used - self.kept <= WINDOW + blocks * STEP
            assert self.disk.memory.used <= self.disk.memory.cap
            assert self.errors() == self.lost, "nobody is cut but by a read that failed"
            assert not self.body.failures

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        """While no call runs, who wants a byte that has been sent finds it or causes a read."""
        if hasattr(self, "disk") and not self.offload.waiting:
            assert not self.body.waits, "the sender waits, and nobody writes"

    def teardown(self) -> None:
        """All who are still there get all, or are cut; and then nothing is left."""
        try:
            if hasattr(self, "disk"):
                self.end()
        finally:
            self.patch.undo()
            self.folder.cleanup()

    def end(self) -> None:
        if self.random.random() < 0.25:
            living = self.living()
            self.body.abort(GONE)
            assert [drain.error for drain in living] == [GONE] * len(living)
        else:
            self.serve_all()
        for drain in self.drains:
            drain.close()
        self.body.spool.release()
        while self.offload.waiting:
            self.offload.run(self.random.randrange(len(self.offload.waiting)))
        self.disk.memory.give(self.kept)
        self.disk.check_empty()
        self.disk.store.stop()

    def serve_all(self) -> None:
        while not self.body.safe:
            self.body.feed()
            if self.body.sent == len(DATA) and not self.body.over:
                self.body.finish()
            if self.offload.waiting:
                self.offload.run(self.random.randrange(len(self.offload.waiting)))
        if self.random.random() < 0.5:
            self.body.spool.release()
        everything(self.disk, *self.living())


TestReceivers = Receivers.TestCase
TestReceivers.settings = settings(max_examples=60, stateful_step_count=40)
