"""One key's life as a table: every path ends, in one word, once."""

from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from beam import errors
from beam.errors import (
    BeamError,
    Forwarded,
    ForwardFailed,
    OffsetDiffers,
    Outcome,
    StoreFull,
    TooManyRequests,
    Unavailable,
)
from beam.interfaces import ISpool
from beam.options import SendOptions
from beam.transfer import BODY_IS_COMING, NOBODY_CAME, TABLE, Event, State, Transfer

REFUSALS = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, BeamError)]


def a_transfer(state: State = State.WAITING) -> Transfer:
    """A transfer in ``state``, of nobody."""
    return Transfer(
        key="k",
        options=SendOptions(),
        etag='"e"',
        started=0.0,
        state=state,
        spool=cast(ISpool, None),
        keeps=state in (State.STORING, State.KEPT),
    )


def reachable(start: State) -> set[State]:
    """The states that lie behind ``start``, itself among them."""
    found, new = {start}, [start]
    while new:
        state = new.pop()
        for (before, _), after in TABLE.items():
            if before is state and isinstance(after, State) and after not in found:
                found.add(after)
                new.append(after)
    return found


def test_every_state_can_be_reached() -> None:
    """From the two states in which transfers begin; a store that holds never keeps."""
    assert reachable(State.WAITING) | reachable(State.STORING) == set(State)
    assert not reachable(State.WAITING) & reachable(State.STORING)


@pytest.mark.parametrize("state", State)
def test_every_state_can_end(state: State) -> None:
    """No state is a trap: a time-out or the loss of a peer leads out of it, over others if need be."""
    ends = {
        TABLE.get((each, event)) for each in reachable(state) for event in (Event.TIMEOUT, Event.LOST, Event.SERVED)
    }
    assert any(isinstance(end, Outcome) for end in ends)


@pytest.mark.parametrize("state", [State.WAITING, State.HELD, State.FORSAKEN, State.STRANDED, State.KEPT])
def test_a_state_in_which_nobody_moves_bytes_ends_with_its_deadline(state: State) -> None:
    """Where no peer can be impatient, time alone ends the transfer."""
    assert isinstance(TABLE[state, Event.TIMEOUT], Outcome)


@pytest.mark.parametrize("state", sorted(BODY_IS_COMING))
def test_a_sender_lost_before_the_end_ends_it(state: State) -> None:
    """Nothing that is not whole is ever delivered."""
    assert TABLE[state, Event.LOST] is Outcome.SENDER_LOST


@pytest.mark.parametrize("state", [State.ENDING, State.STRANDED, State.KEPT])
def test_a_sender_lost_behind_the_end_ends_nothing(state: State) -> None:
    """Who has a part of a whole body, or stored one, can have the rest of it."""
    assert TABLE[state, Event.LOST] is state


def test_delivered_comes_behind_the_whole_body() -> None:
    """No receiver's success counts before the body is whole."""
    before = [state for (state, _), after in TABLE.items() if after in (Outcome.DELIVERED, Outcome.STORED)]
    assert set(before) == {State.HELD, State.ENDING, State.STRANDED, State.KEPT}
    assert not BODY_IS_COMING & set(before)


def test_the_groups_of_states() -> None:
    """``WHOLE`` is possible exactly where the body is coming."""
    assert {state for state, event in TABLE if event is Event.WHOLE} == BODY_IS_COMING
    assert {state for state, event in TABLE if (state, Event.TIMEOUT) in TABLE and state in NOBODY_CAME} == NOBODY_CAME


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.__name__)
def test_every_error_is_an_answer(refusal: type[BeamError]) -> None:
    """A status, one word and a sentence; 503 says when to come back."""
    what = "What happened; what to do."
    further: dict[type[BeamError], Any] = {ForwardFailed: Forwarded.REFUSED, OffsetDiffers: 5, TooManyRequests: 5}
    error = refusal(what, further[refusal]) if refusal in further else refusal(what)
    assert error.sentence == str(error) == "What happened; what to do."
    assert 400 <= error.status < 600
    assert isinstance(error.outcome, Outcome)
    if error.status == 503:
        assert int(error.headers["Retry-After"]) > 0


def test_words_are_words() -> None:
    """Outcomes read the same in the log, the metrics and the reply."""
    assert all(str(each) == each.value and each.value.replace("-", "").islower() for each in Outcome)


class TransferMachine(RuleBasedStateMachine):
    """A transfer that takes whatever happens to it."""

    @initialize(start=st.sampled_from([State.WAITING, State.STORING]))
    def begin(self, start: State) -> None:
        self.transfer = a_transfer(start)
        self.state: State = start
        self.outcome: Outcome | None = None
        self.error: BeamError | None = None

    @rule(event=st.sampled_from(Event))
    def happens(self, event: Event) -> None:
        after = TABLE.get((self.state, event))
        if self.outcome is not None or after is None:
            with pytest.raises(KeyError):
                self.transfer.on(event)
        elif isinstance(after, State):
            assert self.transfer.on(event) is False
            self.state = after
        else:
            assert self.transfer.on(event) is True
            self.outcome = after

    @rule(error=st.sampled_from([StoreFull("full"), Unavailable("stopped")]))
    def fails(self, error: BeamError) -> None:
        if self.outcome is not None:
            with pytest.raises(KeyError):
                self.transfer.fail(error)
        else:
            self.transfer.fail(error)
            self.outcome, self.error = error.outcome, error

    @invariant()
    def agrees(self) -> None:
        assert self.transfer.state is self.state
        assert self.transfer.outcome is self.outcome
        assert self.transfer.error is self.error


TransferMachine.TestCase.settings = settings(deadline=None, max_examples=80, stateful_step_count=15)
TestTransfer = TransferMachine.TestCase
