"""A sender that may come back, story by story: it is there, or away, and its transfer goes on without it."""

from unittest.mock import Mock

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred
from unit.actors import HISTORY, POLICY, WINDOW, KeptSpool, LastingSpool, Sender, Stage

from beam.errors import (
    Draining,
    KeyInUse,
    NotFound,
    OffsetDiffers,
    Outcome,
    ReceiverLost,
    Removed,
    Replaced,
    RequestTimeout,
    SenderLost,
    StoreFull,
    Suspended,
    TakenOver,
)
from beam.options import SendOptions
from beam.peers import News
from beam.policy import Reply, Rival
from beam.sending import TICK
from beam.transfer import BODY_IS_COMING, Span, State

AWAY = 4.0  # seconds for which these senders may be away
MEMORY = SendOptions("memory", wait=POLICY.put_wait, resume=AWAY)
DISK = SendOptions("disk", resume=AWAY)
COMING = sorted(BODY_IS_COMING)


def is_in(sender: Sender, state: State) -> bool:
    """Whether its transfer is in ``state`` now."""
    return sender.transfer.state is state


def fired(deferred: "Deferred[None]") -> bool:
    """Whether it has."""
    return bool(deferred.called)


def finish(sender: Sender) -> None:
    """The rest, and the end."""
    sender.send()
    sender.finish()


def in_state(stage: Stage, state: State, n: int = 60) -> Sender:
    """A sender that may come back, of a transfer that is in ``state``."""
    keeps = state in (State.STORING, State.KEPT)
    sender = stage.offer(n=n, options=DISK if keeps else MEMORY)
    sender.send(10)
    receiver = stage.receive(eager=False) if state not in (State.WAITING, State.HELD) and not keeps else None
    if receiver is not None:
        receiver.take(5)
    if state in (State.FORSAKEN, State.STRANDED) and receiver is not None:
        receiver.leave()
    if state not in BODY_IS_COMING:
        finish(sender)
    assert sender.transfer.state is state
    stage.check()
    return sender


def get_all(stage: Stage, sender: Sender) -> None:
    """Whoever is there takes all; if nobody is, somebody comes and does."""
    receivers = [each for each in stage.receivers if not each.over] or [stage.receive(span=Span(5))]
    for receiver in receivers:
        receiver.eager = True
        receiver.take()
    if not sender.whole:
        finish(stage.backs[-1] if stage.backs else sender)
    for receiver in receivers:
        assert receiver.delivered and bytes(receiver.got) == sender.data[receiver.span.start :]


def end_well(stage: Stage, sender: Sender) -> None:
    """The transfer ends as it should, and nothing is left."""
    stage.check()
    get_all(stage, sender)
    stage.wait(60)
    assert stage.outcomes() == [Outcome.STORED if sender.transfer.keeps else Outcome.DELIVERED]
    stage.check_empty()


# Away.


@pytest.mark.parametrize("state", COMING)
def test_it_breaks_off_and_comes_back(state: State) -> None:
    """The transfer stays in its state; who receives notices nothing but that no byte comes."""
    stage = Stage()
    sender = in_state(stage, state)
    sender.leave()
    stage.check()
    stage.wait(AWAY - 0.5)
    assert sender.transfer.state is state and sender.told == 0
    assert not any(receiver.error or receiver.was_cut for receiver in stage.receivers)
    back = stage.come_back(sender)
    stage.wait(1)
    assert sender.lives, "the time that it had runs no more"
    back.send(20)
    get_all(stage, sender)
    stage.wait(60)
    assert stage.outcomes() == [Outcome.STORED if sender.transfer.keeps else Outcome.DELIVERED]
    assert (sender.told, back.told) == (0, 1)
    stage.check_empty()


@pytest.mark.parametrize("state", COMING)
def test_its_time_is_over(state: State) -> None:
    """Not a moment earlier; receivers are cut with what happened, and the key is free."""
    stage = Stage()
    sender = in_state(stage, state)
    sender.leave()
    stage.wait(AWAY - 0.5)
    assert sender.lives
    stage.wait(0.5)
    assert stage.outcomes() == [Outcome.SENDER_LOST] and isinstance(sender.transfer.error, SenderLost)
    for receiver in stage.receivers:
        assert isinstance(receiver.error, SenderLost) == (state is State.FLOWING)
    stage.check_empty()
    stage.send().leave()


@pytest.mark.parametrize("state", [State.HELD, State.ENDING, State.STRANDED])
def test_it_leaves_behind_the_last_byte(state: State) -> None:
    """Its body is whole: it has no time to come back, and the receivers have theirs."""
    stage = Stage()
    sender = in_state(stage, state)
    sender.leave()
    stage.check()
    if state is State.ENDING:
        stage.wait(POLICY.idle_timeout - 4)
        assert sender.lives
    else:
        stage.wait(AWAY + 1)
    end_well(stage, sender)
    assert sender.told == 0


@pytest.mark.parametrize(("state", "outcome"), [(State.HELD, Outcome.EXPIRED), (State.STRANDED, Outcome.RECEIVER_LOST)])
def test_it_leaves_behind_the_last_byte_and_nobody_comes(state: State, outcome: Outcome) -> None:
    """The deadline of the state is what counts."""
    stage = Stage()
    sender = in_state(stage, state)
    sender.leave()
    stage.wait(POLICY.put_wait if state is State.HELD else POLICY.resume_timeout)
    assert stage.outcomes() == [outcome]
    stage.check_empty()


def test_it_is_told_that_its_body_is_kept() -> None:
    """And is nobody's sender any more: it can neither break off nor come back."""
    stage = Stage()
    sender = in_state(stage, State.KEPT)
    assert sender.told == 1
    sender.leave()
    stage.check()
    stage.broker.dismiss(sender.transfer)
    assert sender.was_cut is None and sender.lives
    with pytest.raises(OffsetDiffers):
        stage.come_back(sender)
    end_well(stage, sender)


@pytest.mark.parametrize("accident", ["leaves", "is dismissed", "is asked too often"])
def test_it_leaves_while_the_disk_still_works(accident: str) -> None:
    """All of it has come: it is not lost for that."""
    stage = Stage()
    stage.keeping.at_once = False
    sender = stage.offer(options=DISK)
    finish(sender)
    assert is_in(sender, State.STORING)
    if accident == "leaves":
        sender.leave()
    elif accident == "is dismissed":
        stage.broker.dismiss(sender.transfer)
        assert sender.was_cut is None
    else:
        stage.wait(POLICY.idle_timeout + 1)
        assert isinstance(sender.was_cut, RequestTimeout)
    stage.check()
    with pytest.raises(OffsetDiffers, match="is whole"):
        stage.come_back(sender)
    spool = sender.transfer.spool
    assert isinstance(spool, KeptSpool)
    spool.deferred.callback(None)
    assert is_in(sender, State.KEPT)
    stage.wait(AWAY + 1)
    end_well(stage, sender)


def test_it_waits_for_its_receiver_while_it_is_away() -> None:
    """The time for the first receiver runs on: it is over first."""
    stage = Stage()
    sender = stage.offer(options=evolve(MEMORY, wait=3))
    sender.leave()
    stage.wait(3)
    assert stage.outcomes() == [Outcome.EXPIRED]
    stage.check_empty()


def test_every_receiver_has_left_while_it_is_away() -> None:
    """Their time to come back runs on, too."""
    stage = Stage()
    sender = in_state(stage, State.FLOWING)
    options = evolve(MEMORY, resume=POLICY.resume_timeout + 5)
    sender.transfer.options = options
    sender.leave()
    stage.receivers[0].leave()
    assert is_in(sender, State.FORSAKEN)
    stage.wait(POLICY.resume_timeout)
    assert stage.outcomes() == [Outcome.RECEIVER_LOST] and isinstance(sender.transfer.error, ReceiverLost)
    stage.check_empty()


def test_it_breaks_off_as_often_as_it_likes() -> None:
    """Each time it has all of its time; the file arrives once and whole."""
    stage = Stage()
    receiver = stage.receive()
    sender = stage.offer(n=500, options=MEMORY)
    now: Sender = sender
    while sender.sent < 500:
        now.send(60)
        now.leave()
        stage.check()
        stage.wait(AWAY - 1)
        now = stage.come_back(sender)
    now.finish()
    assert receiver.delivered and bytes(receiver.got) == sender.data
    assert [each.told for each in (sender, *stage.backs)] == [0] * len(stage.backs) + [1]
    stage.check_empty()


def test_a_sender_that_is_to_come() -> None:
    """A transfer may begin without one: it has the same time to come."""
    stage = Stage()
    transfer = stage.broker.send("k", MEMORY, 3, None)
    assert len(stage.broker.deadlines) == 2
    stage.clock.advance(AWAY - 0.5)
    assert stage.ended == []
    stage.clock.advance(0.5)
    assert transfer.outcome is Outcome.SENDER_LOST
    assert not stage.clock.getDelayedCalls()


# Back.


@pytest.mark.parametrize("state", COMING)
@pytest.mark.parametrize("offset", [0, 9, 11, 100, 1000])
@pytest.mark.parametrize("there", [True, False])
def test_it_comes_back_at_another_place(state: State, offset: int, there: bool) -> None:
    """It hears where to go on, and nobody is disturbed: neither who sends nor the time of one that is away."""
    stage = Stage()
    sender = in_state(stage, state)
    if not there:
        sender.leave()
        stage.wait(AWAY - 1)
    with pytest.raises(OffsetDiffers, match="goes on at 10") as caught:
        stage.come_back(sender, offset)
    assert caught.value.headers["Upload-Offset"] == "10"
    assert sender.was_cut is None
    stage.check()
    if there:
        end_well(stage, sender)
    else:
        stage.wait(1)
        assert stage.outcomes() == [Outcome.SENDER_LOST]
        stage.check_empty()


@pytest.mark.parametrize("state", [State.HELD, State.ENDING, State.STRANDED, State.KEPT])
@pytest.mark.parametrize("offset", [0, 59, 60])
def test_it_comes_back_to_what_is_whole(state: State, offset: int) -> None:
    """There is nothing to go on with; the one that waits for the outcome keeps its place."""
    stage = Stage()
    sender = in_state(stage, state)
    with pytest.raises(OffsetDiffers, match="is whole") as caught:
        stage.come_back(sender, offset)
    assert caught.value.headers["Upload-Offset"] == "60"
    end_well(stage, sender)
    assert sender.told == 1 and sender.was_cut is None


@pytest.mark.parametrize("state", COMING)
def test_it_takes_the_place_of_one_that_is_still_there(state: State) -> None:
    """That one is cut, once, and hears nothing else; when its connection breaks nobody minds."""
    stage = Stage()
    sender = in_state(stage, state)
    back = stage.come_back(sender)
    assert isinstance(sender.was_cut, TakenOver)
    stage.check()
    sender.leave()
    stage.wait(AWAY + 1)
    assert sender.lives and back.was_cut is None
    end_well(stage, sender)
    assert (sender.told, back.told) == (0, 1)


def test_one_that_waits_for_room_is_replaced() -> None:
    """The newer one is told when there is some, and nobody else is."""
    stage = Stage()
    sender = stage.offer(n=1000, options=MEMORY)
    sender.send()
    assert sender.sent == WINDOW + HISTORY and sender.paused
    back = stage.come_back(sender)
    assert back.send() == 0
    receiver = stage.receive(eager=False)
    while not sender.whole:
        receiver.take(50)
        back.paused = False
        back.send()
        if sender.sent == 1000:
            back.finish()
    receiver.take()
    assert receiver.delivered and bytes(receiver.got) == sender.data
    stage.check_empty()


def test_one_that_was_replaced_is_asked_for_no_more() -> None:
    """Also if the newer one fills nothing yet: what it brings may lie elsewhere until it is checked."""
    stage = Stage()
    sender = stage.offer(n=1000, options=MEMORY)
    sender.send()
    assert sender.paused
    stage.broker.resume(sender.transfer, Mock(), sender.sent)
    receiver = stage.receive()
    assert len(receiver.got) == sender.sent and sender.paused
    stage.broker.stop()


def test_it_is_dismissed() -> None:
    """Somebody asks where it goes on: who sends is cut, and the time runs anew."""
    stage = Stage()
    sender = in_state(stage, State.FLOWING)
    stage.broker.dismiss(sender.transfer)
    assert isinstance(sender.was_cut, TakenOver)
    stage.check()
    stage.wait(AWAY - 1)
    stage.broker.dismiss(sender.transfer)
    stage.wait(1)
    assert stage.outcomes() == [Outcome.SENDER_LOST], "nobody is there: the time runs on as it did"
    assert sender.told == 0
    stage.check_empty()


@pytest.mark.parametrize("state", [State.HELD, State.ENDING])
def test_one_whose_body_is_whole_is_not_dismissed(state: State) -> None:
    """It waits for the outcome."""
    stage = Stage()
    sender = in_state(stage, state)
    stage.broker.dismiss(sender.transfer)
    assert sender.was_cut is None
    end_well(stage, sender)
    assert sender.told == 1


def test_a_stranger_does_not_take_the_key() -> None:
    """A sender that is away still has it."""
    stage = Stage()
    sender = stage.offer(options=MEMORY)
    sender.leave()
    with pytest.raises(KeyInUse):
        stage.send()
    end_well(stage, sender) if stage.come_back(sender) else None


def test_one_that_is_away_is_replaced() -> None:
    """Where a newer sender takes the key; nobody is told, for nobody is there."""
    stage = Stage(evolve(POLICY, rival=Rival.REPLACES))
    old = stage.offer(options=MEMORY)
    old.leave()
    new = stage.offer(n=50, options=MEMORY)
    assert isinstance(old.transfer.error, Replaced) and old.told == 0
    stage.check()
    stage.wait(AWAY + 1)
    assert new.lives, "the time of the old one is over, which is nothing to the new one"
    finish(new)
    assert stage.receive().delivered
    stage.check_empty()


# Our patience.


def test_one_that_says_nothing_is_away() -> None:
    """It is told so, and may come back: nobody has failed yet."""
    stage = Stage()
    receiver = stage.receive()
    sender = stage.offer(options=MEMORY)
    sender.send(10)
    stage.wait(POLICY.idle_timeout - 1)
    assert not sender.left
    stage.wait(3)
    assert isinstance(sender.was_cut, RequestTimeout) and sender.lives and receiver.error is None
    stage.check()
    back = stage.come_back(sender)
    stage.wait(POLICY.idle_timeout - 2)
    assert back.was_cut is None, "patience begins anew with it"
    end_well(stage, sender)


def test_patience_begins_anew_with_each_connection() -> None:
    """Silence of the one before is none of this one."""
    stage = Stage()
    sender = stage.offer(options=evolve(MEMORY, wait=100))
    stage.wait(POLICY.idle_timeout - 2)
    sender.leave()
    back = stage.come_back(sender)
    stage.wait(POLICY.idle_timeout - 2)
    assert back.was_cut is None
    back.leave()
    stage.wait(AWAY)
    stage.check_empty()


def test_one_that_says_nothing_and_does_not_come_back() -> None:
    """It was lost, and not idle."""
    stage = Stage()
    sender = stage.offer(options=evolve(MEMORY, wait=100))
    sender.send(10)
    stage.wait(POLICY.idle_timeout + AWAY + 3)
    assert stage.outcomes() == [Outcome.SENDER_LOST]
    stage.check_empty()


@pytest.mark.parametrize("why", ["no room", "pace"])
def test_one_that_cannot_send_is_not_silent(why: str) -> None:
    """Neither does one that is held back lose its place."""
    stage = Stage()
    sender = stage.offer(n=500, options=evolve(MEMORY, wait=200))
    if why == "no room":
        sender.send()
    else:
        sender.held = True
    stage.wait(5 * POLICY.idle_timeout)
    assert sender.was_cut is None
    sender.leave()
    stage.wait(AWAY)
    stage.check_empty()


# Receivers meanwhile.


def test_receivers_come_and_go_while_it_is_away() -> None:
    """They get what there is, wait for the rest, and are told of to nobody."""
    stage = Stage()
    sender = stage.offer(options=MEMORY)
    sender.send(40)
    sender.leave()
    one = stage.receive()
    assert bytes(one.got) == sender.data[:40] and sender.transfer.state is State.FLOWING
    two, look = stage.receive(), stage.receive(span=Span(10, 20, look=True))
    assert look.delivered
    one.leave()
    two.leave()
    assert is_in(sender, State.FORSAKEN)
    three = stage.receive(span=Span(40))
    stage.check()
    back = stage.come_back(sender)
    finish(back)
    assert three.delivered and sender.news == [] and back.news == [News.WHOLE]
    stage.check_empty()


def test_a_receiver_that_waits_for_others_while_it_is_away() -> None:
    """The one that comes to complete them starts it, whether the sender is there or not."""
    stage = Stage()
    sender = stage.offer(options=evolve(MEMORY, readers=2))
    sender.send(40)
    one = stage.receive(wait=1)
    sender.leave()
    stage.wait(2)
    assert one.waiting
    two = stage.receive()
    assert one.delivery is not None and bytes(two.got) == sender.data[:40]
    finish(stage.come_back(sender))
    assert one.delivered and two.delivered
    stage.check_empty()


def test_a_receiver_that_waits_when_its_time_is_over() -> None:
    """It goes on waiting, for as long as it said, for another sender."""
    stage = Stage()
    sender = stage.offer(options=evolve(MEMORY, readers=2))
    receiver = stage.receive(wait=3)
    sender.leave()
    stage.wait(AWAY)
    assert stage.outcomes() == [Outcome.SENDER_LOST] and receiver.waiting
    stage.wait(3)
    assert isinstance(receiver.refused, NotFound)
    stage.check_empty()


def test_receivers_that_have_all_that_came_are_not_idle() -> None:
    """There is nothing to take while the sender is away; one that has something and takes nothing is cut."""
    stage = Stage()
    sender = stage.offer(options=evolve(MEMORY, resume=3 * POLICY.idle_timeout))
    quick, slow = stage.receive(), stage.receive(eager=False)
    sender.send(40)
    sender.leave()
    stage.wait(POLICY.idle_timeout + 4)
    assert isinstance(slow.was_cut, RequestTimeout) and quick.was_cut is None
    stage.wait(POLICY.idle_timeout + 4)
    finish(stage.come_back(sender))
    assert quick.delivered
    stage.check_empty()


def test_downloads_that_were_asked_for_are_over_while_it_is_away() -> None:
    """What is not whole is not downloaded, however often somebody has all that came."""
    stage = Stage()
    sender = stage.offer(options=SendOptions("disk", downloads=1, resume=AWAY))
    sender.send(40)
    receiver = stage.receive()
    sender.leave()
    stage.wait(1)
    finish(stage.come_back(sender))
    assert receiver.delivered and stage.outcomes() == [Outcome.STORED]
    stage.check_empty()


def test_one_that_is_told_when_its_body_is_buffered() -> None:
    """The connection that brought the last byte is."""
    stage = Stage(evolve(POLICY, reply=Reply.BUFFERED))
    sender = stage.offer(options=MEMORY)
    sender.send(10)
    sender.leave()
    back = stage.come_back(sender)
    finish(back)
    assert (back.told, back.news, sender.told) == (1, [News.WHOLE], 0)
    stage.check()
    assert stage.receive().delivered
    stage.check_empty()


# The end from elsewhere.


@pytest.mark.parametrize("state", COMING)
@pytest.mark.parametrize("error", [StoreFull("full"), Removed("taken back")])
@pytest.mark.parametrize("there", [True, False])
def test_it_ends_from_elsewhere(state: State, error: StoreFull | Removed, there: bool) -> None:
    """A full store, or whoever may end it: who is there hears it, and no time of it is left."""
    stage = Stage()
    sender = in_state(stage, state)
    if not there:
        sender.leave()
    stage.broker.fail(sender.transfer, error)
    assert sender.told == there
    stage.check_empty()


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("state", list(State))
def test_no_late_timer_touches_what_comes_next(state: State, resume: bool) -> None:
    """Under the same key, with the same times, a moment later."""
    stage = Stage()
    old = in_state(stage, state)
    if resume and state in BODY_IS_COMING:
        old.leave()
    stage.wait(2.5)
    stage.broker.fail(old.transfer, StoreFull("full"))
    new = stage.offer(n=50, options=evolve(MEMORY, resume=3 * POLICY.put_wait))
    new.send(10)
    new.leave()
    stage.wait(POLICY.put_wait - 0.5)
    assert new.lives
    stage.wait(0.5)
    assert stage.outcomes() == [Outcome.STORE_FULL, Outcome.EXPIRED]
    stage.check_empty()


# Stopping.


def test_a_drain_refuses_one_that_nobody_came_for() -> None:
    """As it does any other."""
    stage = Stage()
    sender = in_state(stage, State.WAITING)
    sender.leave()
    drained = stage.broker.drain()
    assert isinstance(sender.transfer.error, Draining) and not isinstance(sender.transfer.error, Suspended)
    assert fired(drained) and sender.told == 0
    stage.check_empty()


@pytest.mark.parametrize("state", [State.FLOWING, State.FORSAKEN])
@pytest.mark.parametrize("comes_back", [True, False])
def test_a_drain_waits_for_one_that_is_away(state: State, comes_back: bool) -> None:
    """For as long as it may be; one that comes back in time goes on."""
    stage = Stage()
    sender = in_state(stage, state)
    sender.leave()
    drained = stage.broker.drain()
    stage.wait(AWAY - 1)
    assert not fired(drained)
    if comes_back:
        stage.come_back(sender)
        get_all(stage, sender)
        assert stage.outcomes() == [Outcome.DELIVERED]
    else:
        stage.wait(1)
        assert stage.outcomes() == [Outcome.SENDER_LOST]
    assert fired(drained)
    stage.check_empty()


def lasting(stage: Stage, saved: bool = True) -> Sender:
    """A sender to the store that keeps, which may come back even behind a restart if it is ``saved``."""
    sender = stage.offer(options=DISK)
    assert isinstance(sender.transfer.spool, LastingSpool)
    sender.send(10)
    if saved:
        stage.broker.save(sender.transfer)
    stage.keeping.log.clear()
    return sender


@pytest.mark.parametrize("away", [True, False])
@pytest.mark.parametrize("saved", [True, False])
@pytest.mark.parametrize("drains", [True, False])
def test_a_stop_suspends_what_was_saved(away: bool, saved: bool, drains: bool) -> None:
    """It goes on at the next start; whoever is there hears so.  What was not saved is gone."""
    stage = Stage()
    sender = lasting(stage, saved)
    if away:
        sender.leave()
    if drains:
        assert stage.broker.drain().called == (away and saved)
    stage.broker.stop()
    assert stage.outcomes() == [Outcome.SUSPENDED if saved else Outcome.CANCELLED]
    assert isinstance(sender.transfer.error, Suspended) == saved
    assert stage.keeping.log == ["suspend" if saved else "abort"]
    assert sender.told == (not away)
    stage.check_empty()


def test_a_drain_waits_for_who_sends() -> None:
    """When it breaks off nobody waits for it any more: that is for the next server."""
    stage = Stage()
    sender = lasting(stage)
    drained = stage.broker.drain()
    sender.send(10)
    stage.wait(3)
    assert not fired(drained)
    sender.leave()
    assert fired(drained) and stage.outcomes() == [Outcome.SUSPENDED] and stage.keeping.log == ["suspend"]
    stage.check_empty()


def test_a_drain_waits_for_who_receives() -> None:
    """Whoever is served may take what there is; then it is suspended."""
    stage = Stage()
    sender = lasting(stage)
    receiver = stage.receive(eager=False)
    sender.leave()
    drained = stage.broker.drain()
    stage.wait(1)
    assert not fired(drained)
    receiver.take(3)
    receiver.leave()
    assert fired(drained) and stage.outcomes() == [Outcome.SUSPENDED] and stage.keeping.log == ["suspend"]
    stage.check_empty()


def test_a_look_does_not_keep_a_drain_from_suspending() -> None:
    """It is none of those whom anybody waits for."""
    stage = Stage()
    sender = lasting(stage)
    stage.receive(span=Span(0, 20, look=True), eager=False)
    sender.leave()
    assert stage.broker.drain().called
    assert stage.outcomes() == [Outcome.SUSPENDED]
    stage.check_empty()


@pytest.mark.parametrize("resume", [True, False])
def test_what_is_kept_is_suspended(resume: bool) -> None:
    """If files are to outlive the server, or this one was to."""
    stage = Stage(evolve(POLICY, lasts=not resume))
    sender = stage.offer(options=DISK if resume else SendOptions("disk"))
    finish(sender)
    assert stage.broker.drain().called and sender.told == 1
    assert stage.outcomes() == [Outcome.SUSPENDED] and stage.keeping.log == ["start", "lasting", "finish", "suspend"]
    stage.check_empty()


# What a store is asked for.


def test_what_is_saved() -> None:
    """Only where a store can do it; what was written is how the transfer was then."""
    stage = Stage()
    held, kept = stage.offer("a", options=MEMORY), stage.offer("b", options=SendOptions("disk"))
    for sender in (held, kept):
        assert stage.broker.save(sender.transfer).called and not sender.transfer.saved
    assert stage.keeping.records == []
    sender = stage.offer("c", options=DISK)
    stage.keeping.at_once = False
    saving = stage.broker.save(sender.transfer)
    assert sender.transfer.saved and not fired(saving) and len(stage.keeping.records) == 1
    for each in (held, kept, sender):
        each.leave()
    stage.wait(AWAY)
    stage.check_empty()


@pytest.mark.parametrize("paused", [True, False])
@pytest.mark.parametrize("served", [True, False])
def test_one_that_dies_silently_is_cut(paused: bool, served: bool) -> None:
    """What of it has still not been read must not come in when another connection goes on."""
    stage = Stage()
    receiver = stage.receive(eager=False) if served else None
    sender = stage.offer(n=1000, options=MEMORY)
    sender.send(1000 if paused else 10)
    assert sender.paused == paused
    sender.gone = True
    stage.wait(2 * TICK)
    assert sender.was_cut is not None and sender.lives
    stage.check()
    back = stage.come_back(sender)
    assert receiver is None or receiver.error is None
    back.leave()
    stage.wait(AWAY)
    assert stage.outcomes() == [Outcome.SENDER_LOST]
    stage.check_empty()


def test_one_that_dies_behind_the_last_byte_is_cut() -> None:
    """Its file is delivered, and nobody hears of it."""
    stage = Stage()
    receiver = stage.receive(eager=False)
    sender = stage.offer(n=50, options=MEMORY)
    finish(sender)
    sender.gone = True
    stage.wait(2 * TICK)
    stage.check()
    receiver.take()
    assert receiver.delivered and sender.told == 0
    stage.check_empty()


# One that is cut, and what its connection brings next.


@pytest.mark.parametrize("sends", [0, 5])
def test_one_that_is_cut_comes_back_at_once(sends: int) -> None:
    """The last one to come has the place; the other, which has not begun yet, is cut in its turn."""
    stage = Stage()
    sender = stage.offer(options=MEMORY)
    sender.send(10)
    sender.then = lambda: stage.come_back(sender).send(sends)
    other = stage.come_back(sender)
    last = stage.backs[-1]
    assert isinstance(other.was_cut, TakenOver) and not last.left and sender.sent == 10 + sends
    stage.check()
    end_well(stage, sender)


def test_one_that_is_cut_ends_the_transfer() -> None:
    """It is over once, and the one that took its place hears how."""
    stage = Stage()
    sender = stage.offer(options=MEMORY)
    sender.then = lambda: stage.broker.fail(sender.transfer, Removed("taken back"))
    assert stage.come_back(sender).told == 1
    assert stage.outcomes() == [Outcome.CANCELLED]
    stage.check_empty()


@pytest.mark.parametrize("what", ["ends", "comes back"])
def test_one_that_is_dismissed_does_something(what: str) -> None:
    """It may come back at once, and may end what it sent."""
    stage = Stage()
    sender = stage.offer(options=MEMORY)
    if what == "ends":
        sender.then = lambda: stage.broker.fail(sender.transfer, Removed("taken back"))
    else:
        sender.then = lambda: stage.come_back(sender)
    stage.broker.dismiss(sender.transfer)
    stage.check()
    if what == "ends":
        stage.check_empty()
    else:
        stage.wait(AWAY + 1)
        assert stage.backs[0].was_cut is None
        end_well(stage, sender)


def test_a_drain_waits_for_the_last_byte() -> None:
    """Then the file is safe, and its sender knows: what is kept is for the next server."""
    stage = Stage()
    sender = lasting(stage)
    drained = stage.broker.drain()
    finish(sender)
    assert sender.told == 1
    assert fired(drained) and stage.outcomes() == [Outcome.SUSPENDED] and stage.keeping.log == ["finish", "suspend"]
    stage.check_empty()
