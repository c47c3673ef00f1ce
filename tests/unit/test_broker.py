"""What becomes of a transfer, story by story."""

import pytest
from attrs import evolve
from unit.actors import HISTORY, POLICY, WINDOW, KeptSpool, Receiver, Sender, Stage

from beam.errors import (
    BeamError,
    Gone,
    KeyInUse,
    NoReceiver,
    NotFound,
    Outcome,
    PreconditionFailed,
    ReceiverLost,
    RequestTimeout,
    SenderLost,
    StoreFull,
    TooLarge,
    Unavailable,
)
from beam.options import SendOptions
from beam.transfer import Span, State


def held(**options: float) -> SendOptions:
    """Options of a send into the store that holds."""
    return SendOptions("memory", readers=int(options.get("readers", 1)), wait=options.get("wait", POLICY.put_wait))


def delivered(sender: Sender, receiver: Receiver) -> bool:
    """Whether ``receiver`` has all of what ``sender`` sent, and knows it."""
    return receiver.delivered is True and bytes(receiver.got) == sender.data


def send_all(sender: Sender) -> None:
    """Everything, and the end."""
    sender.send()
    sender.finish()


# Delivery.


@pytest.mark.parametrize("n", [0, 1, 100, 10_000])
@pytest.mark.parametrize("first", ["sender", "receiver"])
def test_one_to_one(n: int, first: str) -> None:
    """In either order; the sender hears of it when the receiver has the last byte."""
    stage = Stage()
    if first == "receiver":
        receiver = stage.receive()
        sender = stage.offer(n=n)
    else:
        sender = stage.offer(n=n)
        receiver = stage.receive()
    stage.check()
    sender.send()
    assert sender.told == 0
    sender.finish()
    assert delivered(sender, receiver)
    assert stage.outcomes() == [Outcome.DELIVERED]
    stage.check_empty()


def test_the_sender_may_be_done_before_anybody_comes() -> None:
    """A small body waits in the ring."""
    stage = Stage()
    sender = stage.offer(n=100)
    send_all(sender)
    assert (sender.transfer.state, sender.told) == (State.HELD, 0)
    stage.wait(POLICY.put_wait - 1)
    receiver = stage.receive()
    assert delivered(sender, receiver)
    assert stage.outcomes() == [Outcome.DELIVERED]
    stage.check_empty()


def test_the_sender_waits_for_the_last_receiver() -> None:
    """Every receiver that is being served counts."""
    stage = Stage()
    quick, slow = stage.receive(), stage.receive(eager=False)
    sender = stage.offer(n=50)
    send_all(sender)
    assert delivered(sender, quick) and sender.told == 0
    slow.take(49)
    stage.wait(1)
    assert sender.told == 0
    slow.take(1)
    assert delivered(sender, slow)
    assert (sender.transfer.deliveries, sender.transfer.left) == (2, 0)
    assert sender.transfer.peers == [quick.peer, slow.peer]
    stage.check_empty()


def test_one_that_leaves_early_does_not_disturb_the_others() -> None:
    """And is told of in the answer."""
    stage = Stage()
    staying, leaving = stage.receive(), stage.receive(eager=False)
    sender = stage.offer(n=500)
    sender.send()
    assert sender.sent < 500, "the slowest sets the pace"
    leaving.leave()
    send_all(sender)
    assert delivered(sender, staying)
    assert (sender.transfer.deliveries, sender.transfer.left) == (1, 1)
    assert stage.outcomes() == [Outcome.DELIVERED]
    stage.check_empty()


def test_a_late_one_gets_the_first_byte_or_is_refused() -> None:
    """As long as the ring has it; then 410, and never other bytes."""
    stage = Stage()
    sender = stage.offer(n=1000)
    first = stage.receive()
    sender.send(WINDOW + HISTORY)
    late = stage.receive()
    assert bytes(late.got) == sender.data[: WINDOW + HISTORY]
    sender.send(1)
    with pytest.raises(Gone):
        stage.receive()
    resumed = stage.receive(span=Span(1))
    send_all(sender)
    assert delivered(sender, first) and delivered(sender, late) and resumed.delivered
    stage.check_empty()


def test_counters_count() -> None:
    """Bytes in and out are those of transfers that have ended."""
    stage = Stage()
    one, two = stage.receive(), stage.receive(span=Span(40))
    sender = stage.offer(n=100)
    sender.send(60)
    assert (stage.broker.bytes_in, stage.broker.bytes_out) == (0, 0)
    sender.send()
    sender.finish()
    assert (stage.broker.bytes_in, stage.broker.bytes_out) == (100, 160)
    assert one.delivered and two.delivered
    stage.check_empty()


# Admission.


def test_ten_senders_at_once() -> None:
    """One wins; nine are refused, and take nothing."""
    stage = Stage()
    winner = stage.send()
    used = stage.memory.used
    for _ in range(9):
        with pytest.raises(KeyInUse):
            stage.send()
    assert stage.memory.used == used
    other = stage.send("other")
    winner.leave()
    again = stage.send()
    for sender in (other, again):
        sender.leave()
    stage.check_empty()


def test_a_file_that_is_too_large() -> None:
    """Known from its length: refused before there is a spool; exactly the limit is not too large."""
    stage = Stage(evolve(POLICY, max_pipe_size=100))
    with pytest.raises(TooLarge, match=r"101 bytes.*100"):
        stage.send(n=101)
    assert stage.memory.used == 0
    stage.send(n=100).leave()
    stage.send(n=101, known=False).leave()
    stage.check_empty()


def test_no_memory_for_a_ring() -> None:
    """503, and the key is free."""
    stage = Stage()
    stage.memory.cap = WINDOW + HISTORY
    sender = stage.send("a", n=1000)
    with pytest.raises(Unavailable):
        stage.send("b", n=1000)
    sender.leave()
    stage.send("b", n=1000).leave()
    stage.check_empty()


def test_a_sender_that_does_not_wait() -> None:
    """``wait=0``: 504 at once, unless enough receivers are there already."""
    stage = Stage()
    with pytest.raises(NoReceiver):
        stage.send(options=held(wait=0))
    one = stage.receive()
    with pytest.raises(NoReceiver):
        stage.send(options=held(wait=0, readers=2))
    two = stage.receive()
    sender = stage.offer(options=held(wait=0, readers=2))
    send_all(sender)
    assert delivered(sender, one) and delivered(sender, two)
    stage.check_empty()


def test_too_many_receivers_wait() -> None:
    """503 above the limit; who leaves makes room."""
    stage = Stage(evolve(POLICY, max_waiting_per_key=2))
    first, second = stage.receive(), stage.receive()
    with pytest.raises(Unavailable):
        stage.receive()
    stage.receive("other").leave()
    first.leave()
    third = stage.receive()
    second.leave()
    third.leave()
    stage.check_empty()


# Waiting.


def test_a_receiver_waits_as_long_as_it_said() -> None:
    """Then 404, once; one that does not wait hears it at once."""
    stage = Stage()
    with pytest.raises(NotFound):
        stage.receive(wait=0)
    receiver = stage.receive(wait=3)
    stage.wait(2.5)
    assert receiver.waiting
    stage.wait(0.5)
    assert isinstance(receiver.refused, NotFound)
    stage.check_empty()


def test_a_receiver_that_leaves_is_forgotten() -> None:
    """Nobody is told anything later."""
    stage = Stage()
    receiver = stage.receive(wait=3)
    receiver.leave()
    stage.check_empty()
    stage.wait(5)
    assert receiver.refused is None


def test_a_receiver_waits_while_its_sender_does() -> None:
    """Once a sender is there, it is the sender's patience that counts."""
    stage = Stage()
    receiver = stage.receive(wait=3)
    sender = stage.offer(options=held(readers=2))
    stage.wait(10)
    assert receiver.waiting
    stage.receive()
    send_all(sender)
    assert delivered(sender, receiver)
    stage.check_empty()


def test_a_sender_that_says_nothing_of_its_file() -> None:
    """A form without a file has not happened for those who wait: they go on waiting, for as long as they said."""
    stage = Stage()
    sender = stage.send()
    receiver = stage.receive(wait=3)
    stage.wait(10)
    assert receiver.waiting, "there is a sender, and nothing is known of its file yet"
    sender.leave()
    assert receiver.waiting
    stage.wait(2)
    assert receiver.waiting
    stage.wait(1)
    assert isinstance(receiver.refused, NotFound)
    stage.check_empty()


def test_nobody_comes() -> None:
    """504 to the sender when its time is over, and not a moment earlier; the key is free then."""
    stage = Stage()
    sender = stage.offer(options=held(wait=7))
    stage.wait(6.5)
    assert sender.told == 0
    stage.wait(0.5)
    assert stage.outcomes() == [Outcome.EXPIRED]
    assert isinstance(sender.transfer.error, NoReceiver)
    stage.check_empty()
    stage.send().leave()


def test_nobody_comes_for_a_body_that_is_whole() -> None:
    """The time runs from the start, not from the last byte."""
    stage = Stage()
    sender = stage.offer(n=10, options=held(wait=7))
    stage.wait(5)
    send_all(sender)
    stage.wait(2)
    assert stage.outcomes() == [Outcome.EXPIRED]
    stage.check_empty()


def test_too_few_receivers() -> None:
    """``readers=3`` and two come: nobody gets a byte; 504, and the two wait on for the next sender."""
    stage = Stage()
    sender = stage.offer(options=held(readers=3, wait=7))
    one, two = stage.receive(wait=9), stage.receive(wait=4)
    sender.send()
    stage.wait(7)
    assert stage.outcomes() == [Outcome.EXPIRED]
    assert one.waiting and two.waiting
    stage.wait(4)
    assert one.waiting and isinstance(two.refused, NotFound)
    sender = stage.offer(n=10)
    send_all(sender)
    assert delivered(sender, one)
    stage.check_empty()


def test_enough_receivers_start_together() -> None:
    """One that leaves before counts no more; those who come after the start join at once."""
    stage = Stage()
    sender = stage.offer(options=held(readers=2))
    stage.receive().leave()
    one = stage.receive()
    sender.send()
    assert one.waiting
    two = stage.receive()
    assert one.delivery is not None and two.delivery is not None
    three = stage.receive()
    sender.finish()
    assert all(delivered(sender, each) for each in (one, two, three))
    stage.check_empty()


def test_a_receiver_that_wants_another_file() -> None:
    """It is refused with its own reason, waiting or not; nobody else notices."""
    stage = Stage()
    picky = stage.receive()
    picky.choice = PreconditionFailed("another file")
    receiver = stage.receive()
    sender = stage.offer()
    assert picky.refused is picky.choice
    send_all(sender)
    assert delivered(sender, receiver)
    stage.check_empty()


# Looks.


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_look_counts_for_nothing(when: str) -> None:
    """A part that ends before the end is served, and neither delivers the file nor keeps the sender from expiring."""
    stage = Stage()
    if when == "before":
        look = stage.receive(span=Span(10, 20, look=True))
        sender = stage.offer(options=held(wait=7))
    else:
        sender = stage.offer(options=held(wait=7))
        look = stage.receive(span=Span(10, 20, look=True))
    send_all(sender)
    assert look.delivered and bytes(look.got) == sender.data[10:20]
    assert (sender.transfer.state, sender.transfer.receiving, sender.transfer.deliveries) == (State.HELD, 0, 0)
    stage.wait(7)
    assert stage.outcomes() == [Outcome.EXPIRED]
    stage.check_empty()


def test_a_look_is_served_while_others_gather() -> None:
    """It is none of the receivers that ``readers`` asks for."""
    stage = Stage()
    sender = stage.offer(options=held(readers=2))
    sender.send()
    look, one = stage.receive(span=Span(0, 1, look=True)), stage.receive()
    assert look.delivered and one.waiting
    two = stage.receive()
    sender.finish()
    assert delivered(sender, one) and delivered(sender, two)
    stage.check_empty()


def test_a_look_that_is_overtaken() -> None:
    """It does not hold the sender: its bytes go, and it hears that they are gone."""
    stage = Stage()
    receiver, look = stage.receive(), stage.receive(span=Span(0, 400, look=True), eager=False)
    sender = stage.offer(n=500)
    send_all(sender)
    assert delivered(sender, receiver)
    assert stage.outcomes() == [Outcome.DELIVERED]
    look.take()
    assert isinstance(look.error, Gone)
    stage.check_empty()


def test_a_look_that_takes_nothing() -> None:
    """It cannot keep the memory of a transfer that has ended."""
    stage = Stage()
    receiver, look = stage.receive(), stage.receive(span=Span(0, 10, look=True), eager=False)
    sender = stage.offer(n=50)
    send_all(sender)
    assert delivered(sender, receiver) and stage.memory.used > 0
    stage.wait(2 * POLICY.idle_timeout)
    assert isinstance(look.was_cut, RequestTimeout)
    stage.check_empty()


# Senders that go.


def test_a_sender_lost_in_the_middle() -> None:
    """Every receiver is cut, also one that has all that came; the key is free at once."""
    stage = Stage()
    quick, slow = stage.receive(), stage.receive(eager=False)
    sender = stage.offer()
    sender.send(60)
    sender.leave()
    for receiver in (quick, slow):
        assert receiver.delivered is False and isinstance(receiver.error, SenderLost)
    assert stage.outcomes() == [Outcome.SENDER_LOST]
    stage.check_empty()
    stage.send().leave()


@pytest.mark.parametrize("sent", [0, 50, 100])
def test_a_sender_lost_before_anybody_came(sent: int) -> None:
    """Whole or not, nobody can have it; the key is free at once."""
    stage = Stage()
    sender = stage.offer()
    sender.send(sent)
    if sent == 100:
        sender.finish()
    sender.leave()
    assert stage.outcomes() == [Outcome.SENDER_LOST]
    stage.check_empty()


def test_a_sender_lost_behind_the_end() -> None:
    """Its body is whole, and is delivered."""
    stage = Stage()
    receiver = stage.receive(eager=False)
    sender = stage.offer(n=50)
    send_all(sender)
    sender.leave()
    receiver.take()
    assert delivered(sender, receiver)
    assert stage.outcomes() == [Outcome.DELIVERED]
    stage.check_empty()


@pytest.mark.parametrize("n", [10, 1000])
@pytest.mark.parametrize("served", [False, True])
def test_a_sender_that_dies_silently(n: int, served: bool) -> None:
    """Noticed within two seconds, also while it is paused."""
    stage = Stage()
    sender = stage.offer(n=n)
    receiver = stage.receive(eager=False) if served else None
    sender.send()
    assert sender.sent == min(n, WINDOW if served else WINDOW + HISTORY)
    sender.gone = True
    stage.wait(2)
    assert stage.outcomes() == [Outcome.SENDER_LOST]
    assert receiver is None or receiver.delivered is False
    stage.check_empty()


def test_a_sender_that_sends_nothing() -> None:
    """408 when it could send for too long and did not; its receivers are cut."""
    stage = Stage()
    receiver = stage.receive()
    sender = stage.offer()
    sender.send(10)
    stage.wait(POLICY.idle_timeout - 1)
    sender.send(10)
    stage.wait(POLICY.idle_timeout - 1)
    assert sender.told == 0
    stage.wait(POLICY.idle_timeout + 2)
    assert stage.outcomes() == [Outcome.SENDER_IDLE]
    assert isinstance(sender.transfer.error, RequestTimeout)
    assert receiver.error is sender.transfer.error
    stage.check_empty()


def test_a_sender_that_is_paused_is_not_idle() -> None:
    """It waits for its receiver, for as long as that one takes something."""
    stage = Stage()
    receiver = stage.receive(eager=False)
    sender = stage.offer(n=500)
    sender.send()
    paused = longest = 0
    for _ in range(10 * int(POLICY.idle_timeout)):
        stage.wait(1)
        receiver.take(1)
        paused = 0 if sender.send() else paused + 1
        longest = max(longest, paused)
    assert longest > POLICY.idle_timeout
    assert sender.told == 0
    receiver.eager = True
    receiver.take()
    send_all(sender)
    assert delivered(sender, receiver)
    stage.check_empty()


# Receivers that go.


def test_every_receiver_leaves() -> None:
    """The sender is held for a while, then hears 502."""
    stage = Stage()
    receiver = stage.receive(eager=False)
    sender = stage.offer(n=500)
    sender.send()
    receiver.take(10)
    receiver.leave()
    assert sender.transfer.state is State.FORSAKEN
    stage.wait(POLICY.resume_timeout - 0.5)
    assert sender.told == 0
    stage.wait(0.5)
    assert stage.outcomes() == [Outcome.RECEIVER_LOST]
    assert isinstance(sender.transfer.error, ReceiverLost)
    stage.check_empty()


@pytest.mark.parametrize("n", [100, 500])
def test_a_receiver_comes_back(n: int) -> None:
    """It gets the rest; the file is delivered once, and nobody has left early."""
    stage = Stage()
    receiver = stage.receive(eager=False)
    sender = stage.offer(n=n)
    sender.send()
    if n == 100:
        receiver.take(60)
        send_all(sender)
    receiver.take(10)
    receiver.leave()
    stage.wait(POLICY.resume_timeout - 1)
    again = stage.receive(span=Span(len(receiver.got)))
    if not sender.whole:
        send_all(sender)
    assert bytes(receiver.got + again.got) == sender.data
    assert (sender.transfer.deliveries, sender.transfer.left) == (1, 0)
    assert stage.outcomes() == [Outcome.DELIVERED]
    stage.check_empty()


def test_a_receiver_that_comes_back_beyond_all_that_came() -> None:
    """A sender that waits for it goes on."""
    stage = Stage()
    sender = stage.offer(n=500)
    sender.send()
    receiver = stage.receive(span=Span(400))
    while sender.sent < 500:
        assert sender.send(), "the sender waits for the receiver, and the receiver for the sender"
    sender.finish()
    assert receiver.delivered and bytes(receiver.got) == sender.data[400:]
    stage.check_empty()


def test_a_receiver_that_takes_nothing() -> None:
    """It is cut when it could have taken something for too long; then the sender hears of it."""
    stage = Stage()
    receiver = stage.receive(eager=False)
    sender = stage.offer(n=500)
    sender.send()
    stage.wait(POLICY.idle_timeout - 1)
    assert receiver.delivered is None
    stage.wait(4)
    assert isinstance(receiver.was_cut, RequestTimeout)
    stage.wait(POLICY.resume_timeout + 1)
    assert stage.outcomes() == [Outcome.RECEIVER_LOST]
    stage.check_empty()


def test_a_receiver_with_nothing_to_take_is_not_idle() -> None:
    """It waits for its sender."""
    stage = Stage()
    receiver = stage.receive(eager=False)
    sender = stage.offer(n=500)
    for _ in range(5):
        stage.wait(POLICY.idle_timeout - 2)
        sender.send(10)
        receiver.take()
    assert receiver.was_cut is None
    sender.leave()
    stage.check_empty()


@pytest.mark.parametrize("alone", [False, True])
def test_a_receiver_that_takes_too_little(alone: bool) -> None:
    """It is cut if others wait for it, and has its pace if it is alone."""
    stage = Stage(evolve(POLICY, min_rate=10))
    slow = stage.receive(eager=False)
    other = None if alone else stage.receive()
    sender = stage.offer(n=20_000)
    for _ in range(4 * int(POLICY.idle_timeout)):
        sender.send(100)
        stage.wait(1)
        slow.take(2)
    if other is None:
        assert slow.was_cut is None
        slow.leave()
    else:
        assert isinstance(slow.was_cut, RequestTimeout)
        send_all(sender)
        assert delivered(sender, other)
    stage.wait(POLICY.resume_timeout)
    stage.check_empty()


# Keeping.


def test_a_body_is_stored() -> None:
    """The sender hears of it when the store has it in safety; it is kept for its time, and then gone."""
    stage = Stage()
    stage.keeping.at_once = False
    sender = stage.store()
    assert (sender.told, sender.transfer.state) == (0, State.STORING)
    spool = sender.transfer.spool
    assert isinstance(spool, KeptSpool)
    spool.deferred.callback(None)
    assert (sender.told, sender.transfer.state, sender.transfer.outcome) == (1, State.KEPT, None)
    stage.wait(POLICY.put_ttl - 0.5)
    with pytest.raises(KeyInUse):
        stage.send()
    stage.wait(0.5)
    assert stage.outcomes() == [Outcome.STORED]
    assert sender.told == 1
    with pytest.raises(NotFound):
        stage.receive(wait=0)
    stage.check_empty()


def test_a_body_that_has_been_fetched_goes_sooner() -> None:
    """``get_ttl`` after the end of the last complete download."""
    stage = Stage()
    sender = stage.store()
    stage.wait(5)
    assert delivered(sender, stage.receive())
    stage.wait(2)
    assert delivered(sender, stage.receive())
    stage.wait(POLICY.get_ttl - 0.5)
    assert sender.lives
    stage.wait(0.5)
    assert stage.outcomes() == [Outcome.STORED]
    stage.check_empty()


def test_a_body_stays_while_somebody_receives_it() -> None:
    """However long it takes, as long as something is taken."""
    stage = Stage()
    sender = stage.store()
    slow = stage.receive(eager=False)
    for _ in range(100):
        stage.wait(1)
        slow.take(1)
    assert delivered(sender, slow)
    stage.wait(POLICY.get_ttl)
    assert stage.outcomes() == [Outcome.STORED]
    stage.check_empty()


@pytest.mark.parametrize("ttl", [0, 1, 50])
def test_a_time_of_its_own(ttl: int) -> None:
    """``ttl`` stands in place of both times."""
    stage = Stage()
    sender = stage.store(ttl=ttl)
    if ttl:
        stage.wait(ttl - 0.5)
        assert delivered(sender, stage.receive())
        assert sender.lives
        stage.wait(0.5)
    else:
        stage.wait(0.001)
    assert stage.outcomes() == [Outcome.STORED]
    stage.check_empty()


def test_a_number_of_downloads() -> None:
    """The key is free with the last of them; who still receives gets the rest, and only whole ones count."""
    stage = Stage()
    sender = stage.store(downloads=2)
    slow, left = stage.receive(eager=False), stage.receive(eager=False)
    left.leave()
    assert delivered(sender, stage.receive())
    assert sender.lives
    assert delivered(sender, stage.receive())
    assert stage.outcomes() == [Outcome.STORED]
    new = stage.store(n=77)
    assert stage.keeping.usage() == 177
    slow.take()
    assert delivered(sender, slow) and slow.sender is sender
    assert stage.keeping.usage() == 77
    stage.wait(POLICY.put_ttl)
    assert new.transfer.outcome is Outcome.STORED
    stage.check_empty()


def test_a_broken_download_can_be_resumed() -> None:
    """A receiver that lost its connection finds the file for as long as it may come back."""
    stage = Stage()
    sender = stage.store(ttl=2)
    receiver = stage.receive(eager=False)
    receiver.take(30)
    stage.wait(3)
    receiver.leave()
    stage.wait(POLICY.resume_timeout - 0.5)
    again = stage.receive(span=Span(30))
    assert bytes(receiver.got + again.got) == sender.data
    assert sender.transfer.left == 0
    stage.wait(1)
    assert stage.outcomes() == [Outcome.STORED]
    stage.check_empty()


def test_a_sender_lost_while_its_body_is_stored() -> None:
    """What is not whole is not kept."""
    stage = Stage()
    sender = stage.offer(options=SendOptions("disk"))
    receiver = stage.receive()
    sender.send(60)
    sender.leave()
    assert receiver.delivered is False
    assert stage.outcomes() == [Outcome.SENDER_LOST]
    stage.check_empty()


def test_a_store_that_never_has_it_in_safety() -> None:
    """Even a disk that stands still holds no key for ever, and nobody hears of a success."""
    stage = Stage()
    stage.keeping.at_once = False
    sender = stage.store()
    stage.wait(2 * POLICY.idle_timeout + 2)
    assert stage.outcomes() != [] and sender.transfer.error is not None
    spool = sender.transfer.spool
    assert isinstance(spool, KeptSpool)
    spool.deferred.callback(None)
    assert sender.told == 1
    stage.check_empty()


def test_a_store_that_fails() -> None:
    """That transfer ends with the reason, and nothing but it."""
    stage = Stage()
    other, other_receiver = stage.offer("other"), stage.receive("other")
    receiver = stage.receive()
    sender = stage.offer(options=SendOptions("disk"))
    sender.send(60)
    sender.fill_disk()
    sender.fill_disk()
    assert isinstance(receiver.error, StoreFull)
    assert stage.outcomes() == [Outcome.STORE_FULL]
    send_all(other)
    assert delivered(other, other_receiver)
    stage.check_empty()


# Timers.


def test_a_late_timer_touches_no_newer_transfer() -> None:
    """Whatever was due for an old transfer is not done to the next one under its key."""
    for age in (0.0, 0.5, 1.0, 6.5, 7.0, 19.0, 20.0):
        stage = Stage()
        old = stage.offer(options=held(wait=7))
        stage.wait(min(age, 6.5))
        old.leave()
        new = stage.offer(n=10, options=held(wait=15))
        stage.wait(14.5)
        assert new.told == 0
        receiver = stage.receive()
        send_all(new)
        assert delivered(new, receiver)
        assert stage.outcomes() == [Outcome.SENDER_LOST, Outcome.DELIVERED]
        stage.check_empty()


@pytest.mark.parametrize("seconds", [1.0, 7.0, 20.0, 1000.0, 1e6])
@pytest.mark.parametrize("served", [False, True])
@pytest.mark.parametrize("kept", [False, True])
def test_a_clock_that_jumps(seconds: float, served: bool, kept: bool) -> None:
    """Everything is due at once, as after a stall: each transfer still ends once, and nothing is left."""
    stage = Stage()
    senders = [stage.store(str(i)) if kept else stage.offer(str(i), options=held(wait=1)) for i in range(5)]
    if served:
        for sender in senders:
            stage.receive(sender.key, eager=False)
            sender.send(50)
    for _ in range(5):
        stage.stall(seconds)
        stage.check()
    stage.wait(100)
    assert len(stage.ended) == 5
    stage.check_empty()


def test_one_timer_serves_all() -> None:
    """A thousand transfers and receivers cost the reactor one delayed call."""
    stage = Stage(evolve(POLICY, put_wait=500))
    senders = [stage.offer(f"s{i}") for i in range(500)]
    receivers = [stage.receive(f"r{i}", wait=1 + i % 50) for i in range(500)]
    stage.check()
    assert len(stage.clock.getDelayedCalls()) == 1
    for sender in senders:
        sender.leave()
    stage.wait(51)
    assert all(receiver.refused for receiver in receivers)
    stage.check_empty()


# Peers that answer at once: the next request of their connection may be there already.


def test_a_sender_that_sends_again_at_once() -> None:
    """Who waits for the second body waits as long as its sender does."""
    stage = Stage()
    receiver = stage.receive(wait=3)
    first = stage.offer(options=held(readers=2))
    again: list[Sender] = []
    first.then = lambda: again.append(stage.offer(options=held(readers=2)))
    first.leave()
    stage.check()
    stage.wait(5)
    assert receiver.waiting
    other = stage.receive()
    send_all(again[0])
    assert delivered(again[0], receiver) and delivered(again[0], other)
    stage.check_empty()


def test_a_refused_receiver_that_asks_again_at_once() -> None:
    """Its second request is the one that was missing; everybody is served once."""
    stage = Stage()
    picky, other = stage.receive(), stage.receive()
    picky.choice = PreconditionFailed("another file")
    again: list[Receiver] = []
    picky.then = lambda: again.append(stage.receive())
    sender = stage.offer(options=held(readers=2))
    stage.check()
    send_all(sender)
    assert delivered(sender, other) and delivered(sender, again[0])
    stage.check_empty()


def test_a_receiver_that_is_done_at_once() -> None:
    """Those who were promised to start with it are served nevertheless."""
    stage = Stage()
    sender = stage.offer(n=0, options=held(readers=2))
    send_all(sender)
    one, two = stage.receive(), stage.receive()
    assert delivered(sender, one) and delivered(sender, two)
    assert sender.transfer.deliveries == 2
    stage.check_empty()


# Stopping.


def test_drain() -> None:
    """What runs and what is kept may finish; everything else is refused, and nothing new begins."""
    stage = Stage()
    running, receiver = stage.offer("running", n=500), stage.receive("running")
    kept = stage.store("kept")
    waiting, alone = stage.receive("nothing"), stage.offer("alone")
    drained: list[None] = []
    stage.broker.drain().addCallback(drained.append)
    assert isinstance(waiting.refused, Unavailable)
    assert isinstance(alone.transfer.error, Unavailable) and alone.told == 1
    for refused in (lambda: stage.send("new"), lambda: stage.receive("new"), lambda: stage.receive("new", wait=0)):
        with pytest.raises(BeamError) as caught:
            refused()
        assert isinstance(caught.value, Unavailable)
    late = stage.receive("kept")
    assert delivered(kept, late)
    send_all(running)
    assert delivered(running, receiver) and not drained
    stage.wait(POLICY.get_ttl)
    assert drained == [None]
    assert stage.broker.drain().called
    stage.check_empty()


def test_drain_with_many_that_go_on() -> None:
    """All that the next server goes on with is let go, however much it is, and what is being read is waited for."""
    stage = Stage()
    senders = [stage.store(str(i)) for i in range(2000)]
    for sender in senders:
        sender.transfer.saved = True
    receiver = stage.receive("1999", eager=False)
    drained: list[None] = []
    stage.broker.drain().addCallback(drained.append)
    assert stage.outcomes() == [Outcome.SUSPENDED] * 1999
    assert not drained
    receiver.take()
    assert receiver.delivered
    assert stage.outcomes() == [Outcome.SUSPENDED] * 2000
    assert drained == [None]


def test_drain_with_nothing_to_do() -> None:
    """At once."""
    stage = Stage()
    assert stage.broker.drain().called
    stage.check_empty()


def test_drain_waits_for_the_last_byte() -> None:
    """A transfer may have ended while somebody still reads what is left of it."""
    stage = Stage()
    stage.store(downloads=1)
    slow = stage.receive(eager=False)
    assert stage.receive().delivered
    drained: list[None] = []
    stage.broker.drain().addCallback(drained.append)
    assert drained == []
    slow.take()
    assert drained == [None]
    stage.check_empty()


def test_cut() -> None:
    """Everything ends now: senders hear 503, receivers are cut."""
    stage = Stage()
    running, receiver = stage.offer("running", n=500), stage.receive("running", eager=False)
    kept, slow = stage.store("kept", downloads=1), stage.receive("kept", eager=False)
    behind = stage.receive("kept", eager=False)
    assert stage.receive("kept").delivered
    assert kept.transfer.outcome is Outcome.STORED
    stage.broker.cut()
    assert isinstance(running.transfer.error, Unavailable)
    assert receiver.delivered is False and slow.delivered is False and behind.delivered is False
    assert stage.outcomes() == [Outcome.STORED, Outcome.CANCELLED]
    stage.check_empty()


def test_a_broker_that_stops() -> None:
    """It leaves no timer behind, and the stores to whoever started them."""
    stage = Stage()
    stage.offer("a")
    stage.store("b")
    stage.receive("b", eager=False)
    stage.receive("c")
    stage.broker.stop()
    assert stage.keeping.log == ["start"]
    stage.check_empty()
