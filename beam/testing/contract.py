"""What every store does, as tests."""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
import pytest_twisted  # type: ignore[import-untyped,unused-ignore]
from zope.interface.verify import verifyObject

from beam.errors import Gone, StoreFull, Unavailable
from beam.interfaces import IHouse, IReader, ISpool, IStore
from beam.quota import Quota
from beam.store import House
from beam.testing.rehearsal import MEMORY, Bench, Drain, some_bytes, until

Test = TypeVar("Test", bound=Callable[..., Any])


def in_reactor(test: Test) -> Test:
    """Run the coroutine function ``test`` in the reactor that pytest-twisted drives."""
    return cast(Test, pytest_twisted.ensureDeferred(test))


class StoreContract:
    """What every store does.  Subclass it, and say how yours is made.

    Each test starts a store of its own and stops it; at its end nothing may count against a quota any more.

    :cvar capacity: the most bytes that lie between ``base`` and ``head`` in a store that lets go of old ones; ``None``
        if a reader can always begin at the first byte.
    :cvar cap: the most bytes that the store takes in all; ``None`` if it is not bounded by the bodies in it.
    """

    capacity: int | None = None
    cap: int | None = None

    def make_store(self, house: IHouse, tmp_path: Path) -> IStore:
        """Your store, not started.

        :param house: the reactor that runs, and memory for rings.
        :param tmp_path: a folder of this test's own.
        """
        raise NotImplementedError("say in make_store how your store is made")

    @property
    def size(self) -> int:
        """Bytes of a body that is too large for the ring."""
        return 300_001 if self.capacity is None else 3 * self.capacity + 17

    @asynccontextmanager
    async def bench(self, tmp_path: Path) -> AsyncIterator[Bench]:
        """A started store; behind it everything must have been given back."""
        from twisted.internet import reactor

        clock: Any = reactor
        house = House(clock, Quota(MEMORY))
        store = self.make_store(house, tmp_path)
        store.start()
        bench = Bench(store, house)
        try:
            yield bench
            for rehearsal in bench.rehearsals:
                for drain in rehearsal.drains:
                    assert bytes(drain.got) == drain.everything[: len(drain.got)]
            await bench.everything_is_back()
        finally:
            store.stop()

    # The interfaces.

    @in_reactor
    async def test_provides_the_interfaces(self, tmp_path: Path) -> None:
        """The store, its spools and their readers have all that ``beam.interfaces`` asks for."""
        async with self.bench(tmp_path) as bench:
            verifyObject(IStore, bench.store)
            assert isinstance(bench.store.keeps, bool)
            rehearsal = bench.rehearse(b"abc")
            verifyObject(ISpool, rehearsal.spool)
            verifyObject(IReader, rehearsal.open().reader)
            rehearsal.abort(Unavailable("the test is over"))

    @in_reactor
    async def test_can_be_stopped_without_a_spool(self, tmp_path: Path) -> None:
        """A server that carried nothing stops like any other."""
        async with self.bench(tmp_path) as bench:
            assert bench.store.usage() == 0

    # Bytes.

    @pytest.mark.parametrize("known", [True, False], ids=["known-length", "unknown-length"])
    @pytest.mark.parametrize("size", [0, 1, 2, 1000, 65536, None])
    @in_reactor
    async def test_what_goes_in_comes_out(self, tmp_path: Path, size: int | None, known: bool) -> None:
        """A receiver that is there from the start gets the file, of whatever size, and hears its end once."""
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(some_bytes(self.size if size is None else size), known=known)
            drain = rehearsal.open()
            await rehearsal.feed_all()
            rehearsal.finish()
            await until(lambda: drain.complete, "the end of the body")
            await until(lambda: rehearsal.safe, "the Deferred of finish")
            assert not rehearsal.failures
            await rehearsal.close()

    @pytest.mark.parametrize("step", [1, 7, 1000, 1 << 20])
    @in_reactor
    async def test_bytes_may_come_in_steps_of_any_size(self, tmp_path: Path, step: int) -> None:
        """A sender that dribbles and one that floods end with the same file."""
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(some_bytes(min(self.size, 700 * step)), step=step)
            drain = rehearsal.open()
            await rehearsal.feed_all()
            rehearsal.finish()
            await until(lambda: drain.complete, "the end of the body")
            await rehearsal.close()

    @in_reactor
    async def test_each_byte_is_there_at_once(self, tmp_path: Path) -> None:
        """What has been sent can be received although no more follows."""
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(some_bytes(1000))
            drain = rehearsal.open()
            for upto in (1, 2, 10, 999):
                await rehearsal.feed_to(upto)
                await drain.gets(upto)
            rehearsal.abort(Unavailable("the test is over"))

    @in_reactor
    async def test_receivers_may_have_different_paces(self, tmp_path: Path) -> None:
        """Three receivers take the body in sips, gulps and whole, and each gets it."""
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(some_bytes(self.size))
            sips = rehearsal.open(eager=False, pace=977)
            gulps = rehearsal.open(eager=False, pace=50_000)
            rehearsal.open(pace=1 << 20)
            rehearsal.feed()

            def all_took() -> bool:
                sips.take(20 * 977)
                gulps.take(50_000)
                if rehearsal.sent == len(rehearsal.data) and rehearsal.finished is None:
                    rehearsal.finish()
                return all(drain.complete for drain in rehearsal.drains)

            await until(all_took, "three receivers to get it all")
            await rehearsal.close()

    @in_reactor
    async def test_two_bodies_do_not_mix(self, tmp_path: Path) -> None:
        """No byte of one transfer reaches a receiver of another."""
        async with self.bench(tmp_path) as bench:
            one = bench.rehearse(some_bytes(self.size, seed=1), step=4999)
            two = bench.rehearse(some_bytes(self.size + 1, seed=2), step=5001)
            drains = [one.open(), two.open()]
            for upto in range(0, self.size, self.size // 20):
                one.feed(upto)
                two.feed(upto)
            for rehearsal in (one, two):
                await rehearsal.feed_all()
                rehearsal.finish()
            await until(lambda: all(drain.complete for drain in drains), "the end of both")
            await one.close()
            await two.close()

    @in_reactor
    async def test_usage_counts_what_lies_there(self, tmp_path: Path) -> None:
        """An operator sees what a body takes."""
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(some_bytes(40_000))
            rehearsal.open(eager=False)
            await rehearsal.feed_all()
            await rehearsal.finish_safely()
            assert bench.store.usage() >= 40_000
            await rehearsal.close()

    # Flow control.

    @in_reactor
    async def test_a_sender_waits_for_room_and_goes_on(self, tmp_path: Path) -> None:
        """A sender is never asked for more than fits, and is asked again when there is room."""
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(some_bytes(self.size))
            drain = rehearsal.open(eager=False)
            rehearsal.feed()
            if self.capacity is not None:
                assert rehearsal.waits, "the sender has to wait for a receiver that takes nothing"
                assert rehearsal.spool.paused

            def took_all() -> bool:
                if self.capacity is not None:
                    assert rehearsal.spool.base <= drain.reader.position, "the receiver's bytes were overwritten"
                    assert rehearsal.spool.head - rehearsal.spool.base <= self.capacity
                drain.take(max(3001, self.size // 200))
                if rehearsal.sent == len(rehearsal.data) and rehearsal.finished is None:
                    rehearsal.finish()
                return drain.complete

            await until(took_all, "the end of the body")
            if self.capacity is not None:
                assert rehearsal.pauses
            await rehearsal.close()

    @in_reactor
    async def test_before_the_first_receiver_the_store_fills_up(self, tmp_path: Path) -> None:
        """A sender may begin before anybody is there; the first receiver misses nothing."""
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(some_bytes(self.size))
            rehearsal.feed()
            if self.capacity is not None:
                assert rehearsal.waits and rehearsal.spool.base == 0
                assert rehearsal.spool.head <= self.capacity
            else:
                await rehearsal.feed_all()
            drain = rehearsal.open()
            await rehearsal.feed_all()
            rehearsal.finish()
            await until(lambda: drain.complete, "the end of the body")
            await rehearsal.close()

    @in_reactor
    async def test_the_slowest_receiver_holds_the_sender_until_it_leaves(self, tmp_path: Path) -> None:
        """When one that takes nothing leaves, the others go on."""
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(some_bytes(self.size))
            stuck = rehearsal.open(eager=False)
            quick = rehearsal.open()
            rehearsal.feed()
            if self.capacity is not None:
                assert rehearsal.waits and not quick.complete
            stuck.close()
            await rehearsal.feed_all()
            rehearsal.finish()
            await until(lambda: quick.complete, "the end of the body")
            await rehearsal.close()

    @in_reactor
    async def test_one_that_looks_does_not_hold_the_sender(self, tmp_path: Path) -> None:
        """A reader that does not hold is overtaken: it gets its bytes, or hears that they are gone."""
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(some_bytes(self.size))
            look = rehearsal.open(eager=False, holds=False)
            drain = rehearsal.open()
            await rehearsal.feed_all()
            rehearsal.finish()
            await until(lambda: drain.complete, "the end of the body")
            await until(lambda: look.take() or look.ended, "an answer for the one that looks")
            if look.error is not None:
                assert self.capacity is not None and isinstance(look.error, Gone)
            await rehearsal.close()

    @pytest.mark.parametrize("beyond", [0, 1, 1000])
    @in_reactor
    async def test_a_receiver_beyond_a_waiting_sender_lets_it_go_on(self, tmp_path: Path, beyond: int) -> None:
        """A sender that waits for a receiver goes on when one comes, also if it has all that is there."""
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(some_bytes(self.size))
            rehearsal.feed()
            if self.capacity is None:
                await rehearsal.feed_all()
            position = min(rehearsal.spool.head + beyond, self.size)
            drain = rehearsal.open(position)
            await rehearsal.feed_all()
            rehearsal.finish()
            await until(lambda: drain.complete, "the rest of the body")
            assert drain.start == position
            await rehearsal.close()

    # Receivers that come late, come back, or ask for a part.

    @in_reactor
    async def test_one_that_comes_late_gets_all_or_is_refused(self, tmp_path: Path) -> None:
        """Bytes that are gone are refused, never answered with others."""
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(some_bytes(self.size))
            rehearsal.open()
            for upto in range(0, self.size, self.size // 16):
                await rehearsal.feed_to(upto)
                for position in {0, rehearsal.spool.base, max(0, rehearsal.spool.base - 1), upto // 2}:
                    if position < rehearsal.spool.base:
                        with pytest.raises(Gone):
                            rehearsal.open(position)
                    else:
                        rehearsal.open(position, pace=10_000)
            if self.capacity is None:
                assert rehearsal.spool.base == 0
            else:
                assert rehearsal.spool.base > 0
            await rehearsal.feed_all()
            rehearsal.finish()
            await until(lambda: all(drain.complete for drain in rehearsal.drains), "all of them to get the rest")
            await rehearsal.close()

    @in_reactor
    async def test_one_that_comes_after_the_end(self, tmp_path: Path) -> None:
        """A body that is whole is served until it is released, from wherever the store still has it."""
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(some_bytes(self.size))
            first = rehearsal.open()
            await rehearsal.feed_all()
            await rehearsal.finish_safely()
            await until(lambda: first.complete, "the first receiver to get it all")
            base = rehearsal.spool.base
            if self.capacity is None:
                assert base == 0
            for position in (base, base + 1, self.size - 1, self.size):
                rehearsal.open(position, pace=10_000)
            await until(lambda: all(drain.complete for drain in rehearsal.drains), "all of them to get the rest")
            await rehearsal.close()

    @in_reactor
    async def test_the_last_one_can_come_back(self, tmp_path: Path) -> None:
        """When the last receiver has left, nothing behind its place is lost until another comes."""
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(some_bytes(self.size))
            drain = rehearsal.open(eager=False)
            rehearsal.feed()
            await drain.takes(self.size // 2)
            drain.close()
            again = rehearsal.open(self.size // 2)
            await rehearsal.feed_all()
            rehearsal.finish()
            await until(lambda: again.complete, "the rest of the body")
            await rehearsal.close()

    @in_reactor
    async def test_a_range_that_begins_beyond_waits_for_its_first_byte(self, tmp_path: Path) -> None:
        """The bytes before it are passed over; looking twice changes nothing."""
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(some_bytes(self.size), step=1009)
            drain = rehearsal.open(self.size - 10)
            follower = rehearsal.open()
            for _ in range(3):
                assert not drain.reader.peek()
            rehearsal.feed(1009)
            for _ in range(3):
                assert not drain.reader.peek()
            assert drain.told == 0
            await rehearsal.feed_all()
            rehearsal.finish()
            await until(lambda: drain.complete and follower.complete, "the end of the body")
            await rehearsal.close()

    @in_reactor
    async def test_a_range_that_begins_beyond_the_end_fails(self, tmp_path: Path) -> None:
        """It never looks like an empty rest; one that begins at the end is empty."""
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(some_bytes(100), known=False)
            beyond = rehearsal.open(101)
            exact = rehearsal.open(100)
            await rehearsal.feed_all()
            assert not exact.ended and not beyond.ended
            rehearsal.finish()
            await until(lambda: beyond.ended and exact.ended, "an answer for both")
            assert beyond.error is not None and not beyond.complete
            assert exact.complete and exact.error is None
            await rehearsal.close()

    # The end.

    @in_reactor
    async def test_the_end_is_not_told_before_it_is_known(self, tmp_path: Path) -> None:
        """All announced bytes are not yet a whole body: a digest may turn out wrong."""
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(some_bytes(1000))
            drain = rehearsal.open()
            await rehearsal.feed_all()
            await drain.gets(1000)
            assert not drain.ended
            rehearsal.finish()
            await until(lambda: drain.complete, "the end of the body")
            await rehearsal.close()

    @pytest.mark.parametrize("looks", [False, True], ids=["does-nothing", "looks-again"])
    @in_reactor
    async def test_one_that_waited_elsewhere_hears_the_end(self, tmp_path: Path, looks: bool) -> None:
        """A receiver that took the last byte and was held up by its own socket hears of the end nevertheless."""
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(some_bytes(1000))
            drain = rehearsal.open(eager=False)
            await rehearsal.feed_all()
            await drain.takes(1000)
            rehearsal.finish()
            if looks and not drain.ended:
                assert not drain.reader.peek()
            await until(lambda: drain.complete, "the end of the body")
            await rehearsal.close()

    @in_reactor
    async def test_the_end_waits_for_the_slow(self, tmp_path: Path) -> None:
        """Each receiver hears the end when it has taken the last byte."""
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(some_bytes(5000))
            slow, quick = rehearsal.open(eager=False), rehearsal.open()
            await rehearsal.feed_all()
            rehearsal.finish()
            await until(lambda: quick.complete, "the end for the quick one")
            assert not slow.ended
            await slow.takes(4999)
            assert not slow.ended
            await until(lambda: slow.take() or slow.complete, "the last byte")
            await until(lambda: slow.complete, "the end for the slow one")
            await rehearsal.close()

    @in_reactor
    async def test_an_abort_cuts_everybody(self, tmp_path: Path) -> None:
        """No receiver takes a part for the whole: not one that has all that came, nor one that is behind."""
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(some_bytes(self.size))
            drains = [rehearsal.open(), rehearsal.open(eager=False), rehearsal.open(self.size)]
            rehearsal.feed(self.size // 3)
            late = rehearsal.open(rehearsal.spool.head, attach=False)
            error = Unavailable("the sender has left")
            rehearsal.abort(error)
            await until(lambda: all(drain.ended for drain in drains), "all of them to hear of it")
            assert [drain.error for drain in drains] == [error] * 3
            late.reader.attach(late)
            await until(lambda: late.error is error, "the one that was not attached yet to hear of it")
            with pytest.raises(Gone):
                rehearsal.spool.open(rehearsal.spool.head, True)
            await bench.everything_is_back()
            await rehearsal.close()

    @in_reactor
    async def test_an_abort_before_the_first_byte(self, tmp_path: Path) -> None:
        """A sender that leaves at once leaves nothing behind."""
        async with self.bench(tmp_path) as bench:
            bench.rehearse(b"abc").abort(Unavailable("the sender has left"))
            with_reader = bench.rehearse(b"abc", known=False)
            drain = with_reader.open()
            with_reader.abort(Unavailable("the sender has left"))
            assert drain.error is not None
            await bench.everything_is_back()

    @in_reactor
    async def test_an_abort_of_a_waiting_sender(self, tmp_path: Path) -> None:
        """A sender that is told to wait can leave too, and is told nothing more."""
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(some_bytes(self.size))
            drain = rehearsal.open(eager=False)
            rehearsal.feed()
            drain.take(1000)
            rehearsal.abort(Unavailable("the sender has left"))
            assert not drain.complete and drain.error is not None
            await bench.everything_is_back()

    @in_reactor
    async def test_an_abort_after_the_end(self, tmp_path: Path) -> None:
        """The server may give up a whole body whose receivers do not take it: who has not got it all is cut."""
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(some_bytes(30_000))
            slow, quick = rehearsal.open(eager=False), rehearsal.open()
            await rehearsal.feed_all()
            rehearsal.finish()
            await until(lambda: quick.complete, "the end for the quick one")
            error = Unavailable("this server stops")
            rehearsal.abort(error)
            assert slow.error is error
            assert quick.error is None
            await rehearsal.close()
            await bench.everything_is_back()

    @in_reactor
    async def test_a_release_lets_the_readers_finish(self, tmp_path: Path) -> None:
        """The quota counts until the last one has closed; nobody new is let in meanwhile."""
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(some_bytes(50_000))
            drain, other = rehearsal.open(eager=False), rehearsal.open(eager=False)
            await rehearsal.feed_all()
            await rehearsal.finish_safely()
            rehearsal.spool.release()
            rehearsal.spool.release()
            with pytest.raises(Gone):
                rehearsal.spool.open(0, True)
            other.close()
            assert bench.store.usage() > 0
            await until(lambda: drain.take() or drain.complete, "all bytes")
            await until(lambda: drain.complete, "the end of the body")
            assert bench.store.usage() > 0, "the reader has not been closed yet"
            drain.close()
            await bench.everything_is_back()

    @in_reactor
    async def test_a_release_without_readers(self, tmp_path: Path) -> None:
        """Nothing is left of a body that nobody reads."""
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(some_bytes(50_000))
            drain = rehearsal.open()
            await rehearsal.feed_all()
            await rehearsal.finish_safely()
            drain.close()
            assert bench.store.usage() > 0
            rehearsal.spool.release()
            await bench.everything_is_back()

    # Readers that leave.

    @in_reactor
    async def test_closing_twice(self, tmp_path: Path) -> None:
        """A reader may be closed by its connection and by its transfer."""
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(some_bytes(1000))
            drain, other = rehearsal.open(), rehearsal.open()
            drain.close()
            drain.close()
            await rehearsal.feed_all()
            rehearsal.finish()
            await until(lambda: other.complete, "the end for the other one")
            assert drain.told == 0
            await rehearsal.close()
            await rehearsal.close()

    @in_reactor
    async def test_closing_while_being_told_of_bytes(self, tmp_path: Path) -> None:
        """Receivers that leave in the middle of a call, alone or all together, disturb nobody."""
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(some_bytes(self.size), step=5003)
            leaving, left, staying = rehearsal.open(), rehearsal.open(), rehearsal.open()

            def leave() -> None:
                leaving.close()
                left.close()

            leaving.on_bytes = leave
            await rehearsal.feed_all()
            rehearsal.finish()
            await until(lambda: staying.complete, "the end for the one that stays")
            assert leaving.told == 1 and not left.complete
            await rehearsal.close()

    @pytest.mark.parametrize("fails", [False, True], ids=["finish", "abort"])
    @in_reactor
    async def test_closing_while_being_told_of_the_end(self, tmp_path: Path, fails: bool) -> None:
        """The first that hears of the end may close them all and let the body go."""
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(some_bytes(1000))
            drains = [rehearsal.open() for _ in range(3)]

            def leave() -> None:
                for each in drains:
                    each.close()

            for drain in drains:
                drain.on_end = leave
            await rehearsal.feed_all()
            await until(lambda: all(len(drain.got) == 1000 for drain in drains), "all bytes")
            if fails:
                rehearsal.abort(Unavailable("the sender has left"))
                await until(lambda: all(drain.ended for drain in drains), "all of them to leave")
                assert not any(drain.complete for drain in drains)
            else:
                await rehearsal.finish_safely()
                await until(lambda: all(drain.ended for drain in drains), "all of them to leave")
                rehearsal.spool.release()

    @in_reactor
    async def test_another_sink_can_go_on(self, tmp_path: Path) -> None:
        """Who decides what to answer and who sends the bytes need not be one."""
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(some_bytes(1000))
            first = rehearsal.open(eager=False)
            rehearsal.feed(500)
            await until(lambda: first.told, "the first sink to be told of bytes")
            second = Drain(rehearsal, first.reader, True, 100)
            rehearsal.drains[0] = second
            first.reader.attach(second)
            told = first.told
            await rehearsal.feed_all()
            rehearsal.finish()
            await until(lambda: second.complete, "the end of the body")
            assert first.told == told and not first.ended
            await rehearsal.close()

    # Limits.

    @in_reactor
    async def test_a_body_that_does_not_fit_is_refused(self, tmp_path: Path) -> None:
        """A length that is too large is refused before a byte is taken, and takes nothing."""
        if self.cap is None:
            pytest.skip("this store is not bounded by the bodies in it")
        async with self.bench(tmp_path) as bench:
            with pytest.raises(StoreFull):
                bench.store.create(self.cap + 1, lambda error: None)
            assert bench.store.usage() == 0
            small = bench.rehearse(some_bytes(1000))
            await small.feed_all()
            await until(lambda: bench.store.usage() >= 1000, "usage() to count what has come")
            with pytest.raises(StoreFull):
                bench.store.create(self.cap - 999, lambda error: None)
            small.abort(Unavailable("the test is over"))
            await bench.everything_is_back()
            fits = bench.rehearse(bytes(self.cap))
            fits.abort(Unavailable("the test is over"))

    @in_reactor
    async def test_a_body_that_grows_too_large_fails(self, tmp_path: Path) -> None:
        """The transfer hears of it, and nothing but it fails."""
        if self.cap is None:
            pytest.skip("this store is not bounded by the bodies in it")
        async with self.bench(tmp_path) as bench:
            small = bench.rehearse(some_bytes(1000))
            small.feed(999)
            drain = small.open()
            rehearsal = bench.rehearse(some_bytes(2 * self.cap), known=False)
            cut = rehearsal.open()
            failed = rehearsal.failures
            rehearsal.feed()
            await until(lambda: failed, "the store to say that it is full")
            assert isinstance(failed[0], StoreFull)
            rehearsal.abort(failed[0])
            assert not cut.complete
            assert cut.error is failed[0]
            await rehearsal.close()
            await until(lambda: bench.store.usage() <= (self.cap or 0) // 2, "what the body took to be given back")
            await small.feed_all()
            small.finish()
            await until(lambda: drain.complete, "the end of the other body")
            assert not small.failures
            await small.close()

    # Everything at once.

    @pytest.mark.parametrize("seed", range(12))
    @in_reactor
    async def test_any_order_of_events(self, tmp_path: Path, seed: int) -> None:
        """Receivers come, take, look, leave and come back at random, and the body is finished or given up."""
        chance = random.Random(seed)
        async with self.bench(tmp_path) as bench:
            rehearsal = bench.rehearse(
                some_bytes(self.size, seed), chance.choice([999, 10_007, 1 << 20]), seed % 2 == 0
            )
            fails = seed % 4 == 3
            end = chance.randrange(self.size) if fails else self.size
            for _ in range(300):
                event = chance.randrange(8)
                living = [drain for drain in rehearsal.drains if not drain.ended]
                if event < 2:
                    rehearsal.feed(min(end, rehearsal.sent + chance.randrange(1, 1 + self.size // 10)))
                elif event == 2 and len(living) < 5:
                    position = chance.randrange(rehearsal.spool.base, rehearsal.spool.head + 2000)
                    rehearsal.open(min(position, self.size), chance.random() < 0.5, chance.randrange(1000, 100_000))
                elif event == 3 and living and chance.random() < 0.3:
                    chance.choice(living).close()
                elif event == 4 and living:
                    chance.choice(living).reader.peek()
                elif living:
                    chance.choice(living).take(chance.randrange(1, 100_000))
                rehearsal.check()
                if self.capacity is not None:
                    assert rehearsal.spool.head - rehearsal.spool.base <= self.capacity
                    for drain in rehearsal.drains:
                        assert drain.ended or drain.reader.position >= rehearsal.spool.base

            def everybody_has_it() -> bool:
                for drain in rehearsal.drains:
                    drain.take(50_000)
                return rehearsal.sent == end

            if not any(not drain.ended for drain in rehearsal.drains):
                rehearsal.open(rehearsal.spool.base)
            rehearsal.feed(end)
            await until(everybody_has_it, "room for all of the body")
            living = [drain for drain in rehearsal.drains if not drain.ended]
            assert not any(drain.complete for drain in rehearsal.drains)
            if fails:
                error = Unavailable("the sender has left")
                rehearsal.abort(error)
                assert all(drain.error is error for drain in living)
            else:
                rehearsal.finish()
                await until(
                    lambda: everybody_has_it() and all(drain.ended for drain in living), "all of them to get it"
                )
                assert all(drain.complete for drain in living)
                await until(lambda: rehearsal.safe, "the Deferred of finish")
            await rehearsal.close()
