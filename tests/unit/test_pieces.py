"""Bodies that come in pieces: in any order, several at once, given up and sent again, over crashes."""

import errno
import os
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from twisted.logger import LogEvent
from unit.disks import KIB, MIB, error_of, out_of_cache
from unit.servers import STOPPED, Server, folder, killed_at, watched
from zope.interface import implementer
from zope.interface.verify import verifyObject

from beam.errors import BeamError, SenderLost, StoreFailed, StoreFull, Unavailable
from beam.interfaces import IPieceSpool, ISpool
from beam.store.journal import Journal
from beam.testing import Drain, Rehearsal, some_bytes

GONE = SenderLost("The sender left before the end.")
DATA = some_bytes(3 * MIB + 12_345)
OTHER = some_bytes(len(DATA), seed=1)
SIZE = 100 * KIB  # of a piece
LENGTH = 5 * SIZE + 777


@implementer(IPushProducer)
class Filler:
    """Whoever fills one piece of ``data``, and keeps every rule."""

    def __init__(self, spool: IPieceSpool, start: int, length: int, data: bytes = DATA) -> None:
        self.start, self.stop = start, start + length
        self.data = data
        self.at = self.upto = start
        self.failures: list[BeamError] = []
        self.safe = False
        self.over = False
        self.waits = False
        self.piece = spool.piece(start, length, self.failures.append)
        self.piece.registerProducer(self, True)

    def feed(self, n: int | None = None) -> None:
        """Send ``n`` bytes more, or all, as there is room."""
        self.upto = self.stop if n is None else min(self.stop, self.at + n)
        self.go_on()

    def go_on(self) -> None:
        """Send what was asked for."""
        while self.at < self.upto and not self.waits and not self.over and not self.failures:
            room = self.piece.room()
            if not room:
                assert self.piece.paused
                self.waits = True
                return
            n = min(len(room), self.upto - self.at, 30_000)
            room[:n] = self.data[self.at : self.at + n]
            self.at += n
            self.piece.commit(n)

    def pauseProducing(self) -> None:
        self.waits = True

    def resumeProducing(self) -> None:
        assert not self.over
        self.waits = False
        self.go_on()

    def stopProducing(self) -> None:
        self.waits = True

    def finish(self) -> None:
        """Say that the piece is whole."""
        assert self.at == self.stop
        self.over = True
        finished: Deferred[None] = self.piece.finish()
        finished.addCallback(self._is_safe)

    def _is_safe(self, _: None) -> None:
        self.safe = True

    def abort(self) -> None:
        """Give it up."""
        self.over = True
        self.piece.abort(GONE)


class Body(Rehearsal):
    """Those who read a body in pieces."""

    def __init__(self, spool: IPieceSpool, data: bytes = DATA[:LENGTH]) -> None:
        self.data = data
        self.spool = spool
        self.drains = []
        self.finished = None
        self.safe = False
        self.sent = len(data)


def put(server: Server, spool: IPieceSpool, start: int, length: int, data: bytes = DATA) -> Filler:
    """Send a piece, and wait until it is there."""
    filler = Filler(spool, start, length, data)
    filler.feed()
    server.offload.run_all()
    filler.finish()
    server.offload.run_all()
    assert filler.safe and spool.has(start, length)
    return filler


def all_pieces(length: int = LENGTH, size: int = SIZE) -> list[tuple[int, int]]:
    """Start and length of each."""
    return [(start, min(size, length - start)) for start in range(0, length, size)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the servers of a test have their folders."""
    return tmp_path / "data"


def test_the_interfaces(path: Path) -> None:
    """The body, and each piece."""
    server = Server(path)
    spool = server.pieces(LENGTH)
    verifyObject(IPieceSpool, spool)
    assert not spool.room()
    filler = Filler(spool, 0, 1)
    verifyObject(ISpool, filler.piece)
    filler.abort()
    spool.abort(GONE)
    server.end()


@pytest.mark.parametrize("known", [True, False], ids=["known-length", "unknown-length"])
@pytest.mark.parametrize("seed", range(4))
def test_any_order(path: Path, seed: int, known: bool) -> None:
    """Receivers see what is there without a hole, from wherever they read; the last piece completes them all."""
    server = Server(path)
    spool = server.pieces(LENGTH if known else None)
    body = Body(spool)
    drains = [body.open(position) for position in (0, 1, SIZE, LENGTH - 1)]
    order = all_pieces()
    Random(seed).shuffle(order)
    there: set[int] = set()
    for start, length in order:
        assert not spool.has(start, length) and not spool.has(start, 1)
        put(server, spool, start, length)
        there |= set(range(start, start + length, 1))
        head = next((offset for offset in range(LENGTH) if offset not in there), LENGTH)
        assert spool.head == head and spool.base == 0
        server.offload.run_all()
        assert len(drains[0].got) == head
    body.finish()
    server.offload.run_all()
    assert body.safe and all(drain.complete for drain in drains)
    assert server.store.usage() == LENGTH
    assert server.data().read_bytes() == body.data
    assert server.memory.used == 0
    for drain in drains:
        drain.close()
    spool.release()
    server.end()


def test_several_at_once(path: Path) -> None:
    """Each at its own pace, none waits for another; the memory is bounded for each."""
    server = Server(path, window=64 * KIB)
    spool = server.pieces(LENGTH)
    fillers = [Filler(spool, *piece) for piece in all_pieces()]
    random = Random(0)
    while not all(filler.safe for filler in fillers):
        filler = random.choice(fillers)
        if filler.at < filler.stop:
            filler.feed(random.randrange(1, 50_000))
        elif not filler.over:
            filler.finish()
        if server.offload.waiting and random.random() < 0.5:
            server.offload.run(random.randrange(len(server.offload.waiting)))
        assert server.memory.used <= len(fillers) * 64 * KIB
    assert spool.head == LENGTH and server.memory.used == 0
    assert server.data().read_bytes() == DATA[:LENGTH]
    spool.abort(GONE)
    server.end()


@pytest.mark.parametrize("n", [1, 4095, 4096, 300 * KIB, MIB + 1])
def test_pieces_of_any_size(path: Path, n: int) -> None:
    """One byte, or more than a window."""
    server = Server(path)
    spool = server.pieces(None)
    put(server, spool, n, n)
    assert spool.head == 0
    put(server, spool, 0, n)
    assert spool.head == 2 * n == server.store.usage()
    spool.abort(GONE)
    server.end()


def test_an_empty_body(path: Path) -> None:
    """It has no piece."""
    server = Server(path)
    body = Body(server.pieces(0), b"")
    drain = body.open()
    body.finish()
    server.offload.run_all()
    assert drain.complete and body.safe
    drain.close()
    body.spool.release()
    server.end()


def test_errors_of_the_caller(path: Path) -> None:
    """A piece that is there, one that is on its way, one beyond the end, and an end with a hole."""
    server = Server(path)
    spool = server.pieces(LENGTH)
    put(server, spool, SIZE, SIZE)
    filler = Filler(spool, 0, 10)
    for start, length in ((SIZE, 1), (5, 10), (SIZE - 1, 2), (0, 0), (LENGTH - 1, 2), (-1, 2)):
        with pytest.raises(AssertionError):
            spool.piece(start, length, server.failures.append)
    with pytest.raises(AssertionError):
        spool.finish()
    with pytest.raises(AssertionError):
        filler.piece.finish()
    filler.abort()
    with pytest.raises(AssertionError):
        spool.finish()
    spool.abort(GONE)
    server.end()


def test_a_reader_sees_no_hole(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it read with the first piece says nothing of the second, which came when the block was there already."""
    out_of_cache(monkeypatch)
    server = Server(path)
    spool = server.pieces(LENGTH)
    body = Body(spool)
    put(server, spool, 2 * SIZE, LENGTH - 2 * SIZE)
    put(server, spool, 0, 1000)
    drain = body.open(eager=False)
    drain.take(10)
    server.offload.run_all()
    assert drain.take(10) == 10
    put(server, spool, 1000, 2 * SIZE - 1000)
    while drain.take() or server.offload.waiting:
        server.offload.run_all()
    assert drain.got == body.data
    body.finish()
    server.offload.run_all()
    assert drain.complete
    drain.close()
    spool.release()
    server.end()


# Given up.


@pytest.mark.parametrize("calls", range(5), ids=lambda n: f"behind {n} calls")
@pytest.mark.parametrize("whole", [False, True], ids=["in the middle", "whole"])
@pytest.mark.parametrize("late", [False, True], ids=["", "the old one is the last to be written"])
def test_a_piece_that_was_given_up_and_comes_again(path: Path, calls: int, whole: bool, late: bool) -> None:
    """Whatever was in flight of the old one, the new one's bytes are there; and no crash brings the old ones back."""
    server = Server(path)
    spool = server.pieces(None)
    server.save(spool)
    old = Filler(spool, 0, SIZE, OTHER)
    old.feed(None if whole else SIZE // 2)
    for _ in range(calls):
        if old.at == old.stop and not old.over and not server.offload.waiting:
            old.finish()
        if server.offload.waiting:
            server.offload.run()
    if old.safe:  # it was there before
        spool.abort(GONE)
        server.end()
        return
    if whole and old.at == old.stop and not old.over:
        old.finish()
    old.abort()
    old.abort()
    assert not spool.has(0, 1) and spool.head == 0
    new = Filler(spool, 0, SIZE)
    new.feed()
    while server.offload.waiting:
        server.offload.run(len(server.offload.waiting) - 1 if late else 0)
    new.finish()
    while server.offload.waiting:
        server.offload.run(len(server.offload.waiting) - 1 if late else 0)
    assert new.safe and not old.safe and not old.failures
    assert server.data().read_bytes()[:SIZE] == DATA[:SIZE]
    assert server.store.usage() == SIZE
    server.die()
    server = Server(path)
    found = server.found()
    assert found.size == SIZE and server.data().read_bytes()[:SIZE] == DATA[:SIZE]
    found.remove()
    server.end()


def test_a_piece_that_was_given_up_behind_its_line(path: Path) -> None:
    """Its line is struck out, before another is written in its place."""
    server = Server(path)
    spool = server.pieces(None)
    server.save(spool)
    old = Filler(spool, 0, SIZE, OTHER)
    old.feed()
    server.offload.run_all()
    old.finish()
    while len(server.offload.waiting) != 1 or not journal_of(server).read_bytes():
        call, deferred = server.offload.waiting.pop(0)
        result = call()
        if journal_of(server).read_bytes():
            break
        deferred.callback(result)
    old.abort()
    new = Filler(spool, 0, SIZE)
    new.feed()
    assert not server.offload.waiting, "it waits for the old one"
    deferred.callback(None)
    assert len(server.offload.waiting) == 1
    server.offload.run()
    assert Journal.read(journal_of(server), SIZE).there.total == 0
    server.offload.run_all()
    new.finish()
    server.offload.run_all()
    assert new.safe and Journal.read(journal_of(server), SIZE).there.total == SIZE
    spool.abort(GONE)
    server.end()


def test_a_line_that_cannot_be_struck_out(path: Path, logged: list[LogEvent]) -> None:
    """The body fails: its journal says what is not so."""
    server = Server(path)
    spool = server.pieces(None)
    filler = Filler(spool, 0, SIZE)
    filler.feed()
    server.offload.run_all()
    filler.finish()
    call, deferred = server.offload.waiting.pop(0)
    call()
    filler.abort()
    deferred.callback(None)
    server.offload.fail(errno.EIO)
    assert [type(error) for error in server.failures] == [StoreFailed]
    assert len(logged) == 1
    logged.clear()
    spool.abort(server.failures[0])
    server.end()


def journal_of(server: Server) -> Path:
    """The journal of the only body."""
    return server.data().with_name("pieces")


@pytest.mark.parametrize("how", ["abort", "suspend"])
def test_the_end_of_the_body_ends_its_pieces(path: Path, how: str) -> None:
    """Whoever fills one hears of it, and finds no more room; what is in flight harms nobody."""
    server = Server(path)
    spool = server.pieces(LENGTH)
    server.save(spool)
    drain = Body(spool).open()
    put(server, spool, 0, SIZE)
    idle, writing, ending = (Filler(spool, (2 + i) * SIZE, SIZE) for i in range(3))
    writing.feed()
    server.offload.run()
    ending.feed()
    while ending.at < ending.stop:
        server.offload.run()
    ending.finish()
    getattr(spool, how)(STOPPED)
    assert drain.error is STOPPED
    for filler in (idle, writing, ending):
        assert filler.failures == [STOPPED]
        assert not filler.piece.room()
        filler.abort()
    server.offload.run_all()
    assert server.store.usage() == server.memory.used == 0
    server.store.stop()
    server = Server(path)
    if how == "suspend":
        found = server.found()
        assert found.size == SIZE and server.store.usage() >= SIZE
        found.remove()
    server.end()


def test_who_ends_the_body_when_it_hears_of_the_end(path: Path) -> None:
    """Hears of it once."""
    server = Server(path)
    spool = server.pieces(LENGTH)
    heard: list[BeamError] = []

    def end(error: BeamError) -> None:
        heard.append(error)
        spool.abort(error)

    for start, length in all_pieces():
        spool.piece(start, length, end)
    spool.abort(GONE)
    assert heard == [GONE] * len(all_pieces())
    server.end()


# Faults.


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, StoreFull), (errno.EIO, StoreFailed)])
@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
@pytest.mark.parametrize("whole", [False, True])
def test_a_disk_error_fails_that_piece(
    path: Path, number: int, kind: type, call: str, whole: bool, logged: list[LogEvent]
) -> None:
    """And nothing else; it may come again."""
    server = Server(path)
    spool = server.pieces(LENGTH)
    server.save(spool)
    other, filler = Filler(spool, SIZE, SIZE), Filler(spool, 0, SIZE)
    filler.feed(None if whole or call != "pwrite" else SIZE // 2)
    if call != "pwrite":
        server.offload.run_all()
        filler.finish()

    def broken(*args: object) -> int:
        raise error_of(number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, call, broken)
        server.offload.run_all()
    assert [type(error) for error in filler.failures] == [kind]
    filler.abort()
    assert not server.failures and not other.failures and not spool.has(0, 1)
    logged.clear()
    other.feed()
    server.offload.run_all()
    other.finish()
    put(server, spool, 0, SIZE)
    server.offload.run_all()
    assert other.safe and spool.head == 2 * SIZE
    server.die()
    server = Server(path)
    assert server.found().size == 2 * SIZE
    server.store.stop()


def test_a_line_of_which_a_part_was_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its piece fails, and the next line does not begin with what is left of it."""
    server = Server(path)
    spool = server.pieces(None)
    server.save(spool)
    filler = Filler(spool, SIZE, SIZE)
    filler.feed()
    server.offload.run_all()
    filler.finish()
    pwrite, ftruncate = os.pwrite, os.ftruncate
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, data[:8], at))
    monkeypatch.setattr(os, "ftruncate", lambda fd, size: error_of(errno.EIO))
    server.offload.run_all()
    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(os, "ftruncate", ftruncate)
    assert [type(error) for error in filler.failures] == [StoreFull]
    assert journal_of(server).read_bytes() == b"102400 1"
    filler.abort()
    put(server, spool, 0, 9)
    server.die()
    server = Server(path)
    found = server.found()
    assert found.size == 9 and server.store.usage() == 9
    found.remove()
    server.end()


def test_a_line_that_may_not_be_on_the_disk(path: Path, logged: list[LogEvent]) -> None:
    """It is taken back: its piece has failed."""
    server = Server(path)
    spool = server.pieces(None)
    server.save(spool)
    filler = Filler(spool, 0, SIZE)
    filler.feed()
    server.offload.run_all()
    filler.finish()
    fdatasync = os.fdatasync

    def broken(fd: int) -> None:
        if os.readlink(f"/proc/self/fd/{fd}").endswith("pieces"):
            raise error_of(errno.EIO)
        fdatasync(fd)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        server.offload.run_all()
    assert [type(error) for error in filler.failures] == [StoreFailed]
    logged.clear()
    filler.abort()
    server.die()
    server = Server(path)
    found = server.found()
    assert found.size == 0
    found.remove()
    server.end()


def test_the_disk_has_the_bytes_before_their_line(path: Path) -> None:
    """Not even a power cut leaves a line of what is not there."""
    server = Server(path)
    spool = server.pieces(None)
    with watched("pwrite", "fdatasync") as made:
        put(server, spool, 0, 1000)
    assert made == ["pwrite data", "fdatasync data", "pwrite pieces", "fdatasync pieces"]
    spool.abort(GONE)
    server.end()


def test_the_quota(path: Path) -> None:
    """A length that is known counts at once; otherwise each piece, from its beginning until it is given up."""
    server = Server(path, cap=3 * SIZE)
    with pytest.raises(StoreFull):
        server.pieces(3 * SIZE + 1)
    assert server.files() == []
    known = server.pieces(SIZE)
    spool = server.pieces(None)
    assert server.store.usage() == SIZE
    filler, other = Filler(known, 0, SIZE), Filler(spool, SIZE, 2 * SIZE)
    assert server.store.usage() == 3 * SIZE
    with pytest.raises(StoreFull):
        Filler(spool, 0, 1)
    filler.abort()
    assert server.store.usage() == 3 * SIZE
    other.feed()
    other.abort()
    assert server.store.usage() == 3 * SIZE, "a thread still writes it"
    server.offload.run_all()
    assert server.store.usage() == SIZE
    put(server, spool, 0, 2 * SIZE)
    known.abort(GONE)
    assert server.store.usage() == 2 * SIZE
    spool.abort(GONE)
    server.end()


def test_no_memory_for_a_piece(path: Path) -> None:
    """It is refused, and takes nothing; the body goes on."""
    server = Server(path)
    spool = server.pieces(None)
    server.memory.take(server.memory.free)
    with pytest.raises(Unavailable):
        Filler(spool, 0, SIZE)
    assert server.store.usage() == 0
    server.memory.give(server.memory.used)
    put(server, spool, 0, SIZE)
    spool.abort(GONE)
    server.end()


# The journal.


@pytest.mark.parametrize("known", [True, False], ids=["known-length", "unknown-length"])
def test_a_torn_journal(path: Path, known: bool) -> None:
    """Wherever it was torn: the pieces whose lines are whole are there, and the others may come."""
    server = Server(path)
    spool = server.pieces(LENGTH if known else None)
    server.save(spool)
    for start, length in reversed(all_pieces()):
        put(server, spool, start, length)
    content = journal_of(server).read_bytes()
    server.die()
    for left in range(len(content), -1, -7):
        (file,) = path.glob("server-*/lasting/*/pieces")
        file.write_bytes(content[:left])
        lines = content[:left].count(b"\n")
        server = Server(path)
        spool = server.pieces(LENGTH if known else None, server.found())
        assert [spool.has(*piece) for piece in reversed(all_pieces())] == [
            number < lines for number in range(len(all_pieces()))
        ]
        server.suspend(spool)
        server.store.stop()
    server = Server(path)
    spool = server.pieces(LENGTH if known else None, server.found())
    body = Body(spool)
    drain = body.open()
    for piece in all_pieces():
        put(server, spool, *piece)
    body.finish()
    server.offload.run_all()
    assert drain.complete and body.safe
    server.die()
    server = Server(path)
    found = server.found()
    assert found.size == LENGTH
    body = Body(server.pieces(LENGTH, found))
    drain = body.open()
    body.finish()
    server.offload.run_all()
    assert drain.complete
    drain.close()
    body.spool.release()
    server.end()


@pytest.mark.parametrize(
    ("content", "end", "good"),
    [
        (b"", 0, 0),
        (b"0 10\n10 10\n", 20, 11),
        (b"0 10\n10 10", 10, 5),
        (b"0 10\nnonsense\n10 10\n", 10, 5),
        (b"0 10\n10 91\n10 10\n", 10, 5),  # behind the end of the file
        (b"0 10\n10 0\n", 10, 5),
        (b"0 10\n0 -10\n", 0, 11),
        (b"0 10\n0 -10\n0 20\n", 20, 16),
        (b"0 10\n0 -9\n10 10\n", 10, 5),
        (b"5 -9\n0 10\n", 0, 0),
        (b"0 10\n\n10 10\n", 10, 5),
        (b"\0\0\0\0\0\n0 10\n", 0, 0),
    ],
)
def test_what_of_a_journal_is_believed(tmp_path: Path, content: bytes, end: int, good: int) -> None:
    """Lines that make sense, up to the first that does not; the rest is cut off."""
    file = tmp_path / "pieces"
    file.write_bytes(content)
    journal = Journal.read(file, 100)
    assert journal.there.end == end
    assert file.read_bytes() == content[:good]
    journal.note(50, 7)
    assert file.read_bytes() == content[:good] + b"50 7\n"
    assert Journal.read(file, 100).there.covers(50, 57)


def life(path: Path, told: list[tuple[int, int]]) -> None:
    """A server takes pieces; ``told`` are those that it said are there."""
    server = Server(path)
    spool = server.pieces(LENGTH)
    server.save(spool)
    for piece in reversed(all_pieces()):
        old = Filler(spool, *piece, OTHER)
        old.feed()
        old.abort()
        put(server, spool, *piece)
        told.append(piece)
    body = Body(spool)
    server.lasting.record = b"whole"
    body.finish()
    server.offload.run_all()
    assert body.safe
    told.append((0, LENGTH))
    server.suspend(spool)
    server.store.stop()


def test_killed_before_any_call(tmp_path: Path) -> None:
    """What was said to be there is, whenever the server ends."""
    step = 0
    while True:
        path, told = tmp_path / str(step), list[tuple[int, int]]()
        with killed_at(path, step) as made:
            life(path, told)
        server = Server(path)
        for found in server.store.recover():
            spool = server.pieces(LENGTH, found)
            content = server.data().read_bytes()
            for start, length in all_pieces():
                if spool.has(start, length):
                    assert content[start : start + length] == DATA[start : start + length]
            assert all(spool.has(*piece) for piece in told)
            assert found.record == b"whole" or (0, LENGTH) not in told
            spool.abort(GONE)
            told.clear()
        assert not told
        server.end()
        if len(made) < step:
            break
        step += 1
    assert step > 40


# Everything together.


class Pieces(RuleBasedStateMachine):
    """Pieces that come, stop, fail and come again with other bytes, receivers, and servers that die and stop."""

    @initialize(seed=st.integers(0, 1 << 32), known=st.booleans(), window=st.sampled_from([1000, 64 * KIB]))
    def begin(self, seed: int, known: bool, window: int) -> None:
        """The first server."""
        self.random = Random(seed)
        self.length = LENGTH if known else None
        self.window = window
        self.there: dict[tuple[int, int], bytes] = {}  # what was said to be there
        self.maybe: set[tuple[int, int]] = set()
        self.fillers: list[Filler] = []
        self.drains: list[Drain] = []
        self.folder = folder()
        self.path = self.folder.__enter__()
        self.server = Server(self.path, window=window)
        self.spool = self.server.pieces(self.length)
        self.body = Body(self.spool)
        self.server.save(self.spool)

    def coming(self) -> list[Filler]:
        return [filler for filler in self.fillers if not filler.safe and not filler.failures]

    def look(self) -> None:
        for filler in self.fillers:
            if filler.safe:
                self.there[filler.start, filler.stop - filler.start] = filler.data

    @rule(number=st.integers(0, len(all_pieces()) - 1))
    def come(self, number: int) -> None:
        """A sender of one more piece, with bytes that nobody else sends if it will give up."""
        piece = all_pieces()[number]
        if not self.spool.has(*piece) and all(each.start != piece[0] for each in self.coming()):
            self.fillers.append(Filler(self.spool, *piece, DATA if self.random.random() < 0.6 else OTHER))

    @precondition(lambda self: self.coming())
    @rule(n=st.integers(1, SIZE))
    def send(self, n: int) -> None:
        """One goes on; one that has the wrong bytes never ends."""
        filler = self.random.choice(self.coming())
        if filler.over:
            return
        filler.feed(n)
        if filler.at == filler.stop and filler.data is DATA:
            filler.finish()

    @precondition(lambda self: self.coming())
    @rule()
    def give_up(self) -> None:
        """One goes."""
        filler = self.random.choice(self.coming())
        filler.abort()
        self.fillers.remove(filler)

    @rule(position=st.integers(0, LENGTH))
    def read(self, position: int) -> None:
        """A receiver comes."""
        if len(self.drains) < 4:
            self.drains.append(self.body.open(position, pace=50_000))

    @precondition(lambda self: self.server.offload.waiting)
    @rule(times=st.integers(1, 5))
    def run_some(self, times: int) -> None:
        """Threads are done, whichever."""
        for _ in range(min(times, len(self.server.offload.waiting))):
            self.server.offload.run(self.random.randrange(len(self.server.offload.waiting)))
        self.look()

    @rule(clean=st.booleans())
    def restart(self, clean: bool) -> None:
        """The next server."""
        self.look()
        if clean:
            cast(Any, self.spool).suspend(STOPPED)
            self.server.offload.run_all()
            assert self.server.memory.used == self.server.store.usage() == 0
            self.server.store.stop()
        else:
            self.server.die()
        self.fillers, self.drains = [], []
        self.server = Server(self.path, window=self.window)
        self.spool = self.server.pieces(self.length, self.server.found())
        self.body = Body(self.spool)

    @invariant()
    def what_is_there_is_right(self) -> None:
        """Byte for byte, and it is all that was promised."""
        if hasattr(self, "server"):
            content = self.server.data().read_bytes()
            for start, length in all_pieces():
                if self.spool.has(start, length):
                    assert content[start : start + length] == DATA[start : start + length]
                else:
                    assert (start, length) not in self.there
            assert not self.server.failures
            if not self.server.offload.waiting:
                assert not any(filler.waits and not filler.failures for filler in self.coming())
                for drain in self.drains:
                    assert drain.error is None
                    assert drain.start + len(drain.got) == max(drain.start, self.spool.head)

    def teardown(self) -> None:
        """All that is missing comes, and everybody has it."""
        if not hasattr(self, "server"):
            return
        for filler in self.coming():
            filler.abort()
        self.server.offload.run_all()
        for piece in all_pieces():
            if not self.spool.has(*piece):
                put(self.server, self.spool, *piece)
        self.server.offload.run_all()
        self.body.finish()
        self.server.offload.run_all()
        assert self.body.safe and all(drain.complete for drain in self.drains)
        for drain in self.drains:
            drain.close()
        self.spool.release()
        self.server.end()
        self.folder.__exit__(None, None, None)


TestPieces = Pieces.TestCase
TestPieces.settings = settings(max_examples=60, stateful_step_count=40)
