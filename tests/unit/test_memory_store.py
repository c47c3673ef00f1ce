"""What the store that holds does beyond the contract: rings that grow, and memory that is shared."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam.errors import Gone, SenderLost, Unavailable
from beam.quota import Quota
from beam.store.memory import GROWTH, HISTORY, SMALLEST_RING, WINDOW, MemoryStore, RingSpool
from beam.testing import Rehearsal, some_bytes

GONE = SenderLost("The sender left before the end.")


@pytest.fixture
def memory() -> Iterator[Quota]:
    """Memory that is all given back in the end."""
    quota = Quota(1 << 30)
    yield quota
    assert quota.used == 0


def ring(memory: Quota, length: int | None = None, window: int = WINDOW, history: int = HISTORY) -> RingSpool:
    """A spool as an operator's store makes it."""
    return MemoryStore(memory, window, history).create(length, lambda error: pytest.fail(error.sentence))


def fill(spool: RingSpool, n: int) -> int:
    """Send ``n`` bytes if there is room; how many went."""
    sent = 0
    while sent < n:
        view = spool.room()
        if not view:
            break
        step = min(len(view), n - sent)
        spool.commit(step)
        sent += step
    return sent


@pytest.mark.parametrize("length", [0, 1, 1000, SMALLEST_RING - 1, SMALLEST_RING])
def test_a_small_body_takes_no_more_than_itself(memory: Quota, length: int) -> None:
    """Small transfers do not pay for a large ring."""
    spool = ring(memory, length)
    assert memory.used == length
    assert fill(spool, length + 1) == length
    spool.abort(GONE)


def test_a_ring_grows_as_it_fills(memory: Quota) -> None:
    """Memory is charged for what is used, up to the whole ring and not a byte more."""
    spool = ring(memory)
    assert memory.used == SMALLEST_RING
    sent = 0
    while step := fill(spool, GROWTH // 4):
        sent += step
        assert sent <= memory.used <= sent + 2 * GROWTH
    assert sent == memory.used == WINDOW + HISTORY
    spool.abort(GONE)


def test_a_ring_is_no_larger_than_the_body(memory: Quota) -> None:
    """A body of 3 MB needs no 16."""
    spool = ring(memory, 3_000_000)
    assert fill(spool, 4_000_000) == 3_000_000
    assert memory.used == 3_000_000
    spool.abort(GONE)


def test_a_ring_that_has_wrapped_grows_no_more(memory: Quota) -> None:
    """Its bytes would change their places."""
    spool = ring(memory)
    reader = spool.open(0, True)
    fill(spool, SMALLEST_RING)
    while memory.used < WINDOW:
        reader.advance(len(reader.peek()))
        fill(spool, SMALLEST_RING)
    before = memory.used
    memory.cap = before  # now it cannot
    for _ in range(100):
        while view := reader.peek():
            reader.advance(len(view))
        fill(spool, SMALLEST_RING)
    memory.cap = 1 << 30  # now it could again
    for _ in range(100):
        while view := reader.peek():
            reader.advance(len(view))
        fill(spool, SMALLEST_RING)
    assert memory.used == before
    reader.close()
    spool.abort(GONE)


@pytest.mark.parametrize("cap", [1 << 20, 16 << 20, 64 << 20])
def test_one_transfer_takes_at_most_an_eighth_of_what_is_free(cap: int) -> None:
    """The first does not leave the next with nothing."""
    memory = Quota(cap)
    spools: list[RingSpool] = []
    for _ in range(4):
        free = memory.free
        spools.append(ring(memory))
        fill(spools[-1], 64 << 20)
        assert 0 < free - memory.free <= max(SMALLEST_RING, free // 8)
    for spool in spools:
        spool.abort(GONE)
    assert memory.used == 0


def test_when_the_memory_is_used_up() -> None:
    """The next is refused with 503 and takes nothing; when one has ended there is room again."""
    memory = Quota(3 * SMALLEST_RING)
    spools = [ring(memory), ring(memory), ring(memory)]
    for length in (None, SMALLEST_RING, 1):
        with pytest.raises(Unavailable, match="memory") as caught:
            ring(memory, length)
        assert caught.value.headers["Retry-After"]
    ring(memory, 0).abort(GONE)  # an empty file fits always
    assert memory.used == memory.cap
    spools[0].abort(GONE)
    ring(memory).abort(GONE)
    for spool in spools[1:]:
        spool.abort(GONE)
    assert memory.used == 0


def test_a_ring_that_the_cap_keeps_small_gives_up_history_first() -> None:
    """The window stays as large as the ring allows."""
    memory = Quota(SMALLEST_RING)
    spool = ring(memory)
    reader = spool.open(0, True)
    assert fill(spool, 1 << 30) == SMALLEST_RING
    spool.abort(GONE)
    reader.close()
    assert memory.used == 0


def test_any_number_of_transfers_stays_below_the_cap() -> None:
    """However large the bodies are and however slow the receivers."""
    memory = Quota(20 << 20)
    spools: list[RingSpool] = []
    with pytest.raises(Unavailable):
        while True:
            spools.append(ring(memory, 1 << 40 if len(spools) % 2 else None))
            spools[-1].open(0, True)
            fill(spools[-1], 1 << 30)
            assert memory.used == sum(spool.window.capacity for spool in spools) <= memory.cap
    assert len(spools) > 20
    for spool in spools:
        spool.abort(GONE)
    assert memory.used == 0


def test_a_waiting_sender_is_not_woken_for_crumbs(memory: Quota) -> None:
    """It goes on when a good part of the window is free; small steps cost more than they bring."""
    rehearsal = Rehearsal(MemoryStore(memory, WINDOW, HISTORY), some_bytes(3 * WINDOW))
    drain = rehearsal.open(eager=False)
    rehearsal.feed()
    assert rehearsal.waits
    while rehearsal.sent < len(rehearsal.data):
        drain.take(1000)
    assert rehearsal.pauses <= 3 * WINDOW // (64 << 10)
    rehearsal.finish()
    drain.take()
    assert drain.complete
    drain.close()
    rehearsal.spool.release()


@settings(deadline=None, max_examples=150)
@given(
    window=st.integers(1, 300),
    history=st.integers(0, 900),
    length=st.integers(0, 1200),
    known=st.booleans(),
    pace=st.integers(1, 400),
    late=st.booleans(),
)
def test_no_window_stops_a_body(window: int, history: int, length: int, known: bool, pace: int, late: bool) -> None:
    """Whatever the operator chooses: everything comes through, and the sender is never a window ahead."""
    memory = Quota(1 << 20)
    rehearsal = Rehearsal(MemoryStore(memory, window, history), some_bytes(length), step=97, known=known)
    if late:
        rehearsal.feed()
        assert rehearsal.sent == min(length, window + history), "before a receiver comes the ring fills up"
    drain = rehearsal.open(eager=False)
    rehearsal.feed()
    while len(drain.got) < length:
        if not late:
            assert rehearsal.sent - len(drain.got) <= window
        assert drain.take(pace), "the sender waits for the receiver, and the receiver for the sender"
    rehearsal.finish()
    assert drain.complete
    drain.close()
    rehearsal.spool.release()
    assert memory.used == 0


def test_a_spool_that_has_ended_has_no_room(memory: Quota) -> None:
    """Who was in the middle of filling it finds that out without an accident."""
    spool = ring(memory)
    fill(spool, 1000)
    spool.abort(GONE)
    assert len(spool.room()) == 0


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 200_000), st.floats(0, 1)), min_size=1, max_size=40))
def test_who_writes_more_than_comes_in_spoils_nothing(steps: list[tuple[int, float]]) -> None:
    """The lines between chunks lie in the room for a moment: what a late reader may have is not there."""
    quota = Quota(1 << 30)
    spool = ring(quota, None, SMALLEST_RING, SMALLEST_RING)
    body = some_bytes(40 * 200_000)
    reader, sent = spool.open(0, True), 0
    for written, share in steps:
        view = spool.room()[:written]
        n = int(len(view) * share)
        view[:] = b"\r" * len(view)
        view[:n] = body[sent : sent + n]
        spool.overwritten(len(view))
        spool.commit(n)
        sent += n
        reader.advance(len(reader.peek()))
        late, found = spool.open(spool.base, False), b""
        assert spool.base <= max(0, reader.position - SMALLEST_RING)
        while piece := late.peek():
            found += piece
            late.advance(len(piece))
        late.close()
        assert found == body[sent - len(found) : sent]
    spool.abort(GONE)
    assert quota.used == 0


@settings(deadline=None)
@given(
    origin=st.integers(0, 3 << 20),
    rest=st.integers(0, 3 << 20),
    known=st.booleans(),
    pace=st.integers(1 << 14, 1 << 20),
)
def test_a_ring_that_begins_in_the_middle(origin: int, rest: int, known: bool, pace: int) -> None:
    """It is as if the body began there: no memory for what lies before, and no byte of that."""
    quota = Quota(1 << 30)
    body = some_bytes(origin + rest)
    spool = RingSpool(quota, len(body) if known else None, SMALLEST_RING, SMALLEST_RING, origin=origin)
    assert (spool.base, spool.head) == (origin, origin)
    assert quota.used == (min(rest, SMALLEST_RING) if known else SMALLEST_RING)
    with pytest.raises(Gone):
        spool.open(origin - 1, True)
    reader, got = spool.open(origin, True), bytearray()
    while len(got) < rest:
        view = spool.room()[: origin + rest - spool.head]
        view[:] = body[spool.head : spool.head + len(view)]
        spool.commit(len(view))
        piece = bytes(reader.peek()[:pace])
        assert piece
        got += piece
        reader.advance(len(piece))
        assert origin <= spool.base <= reader.position
    assert got == body[origin:]
    spool.abort(GONE)
    assert quota.used == 0
