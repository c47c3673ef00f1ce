"""Transfers that go on to a target, story by story: the broker's side, with a target that does what it is told."""

from typing import cast

import pytest
from attrs import evolve
from twisted.internet.defer import Deferred
from unit.actors import HISTORY, POLICY, WINDOW, KeptSpool, Receiver, Sender, Stage
from zope.interface import implementer
from zope.interface.verify import verifyObject

from beam.errors import BeamError, Forwarded, ForwardFailed, NoReceiver, Outcome, SenderLost, Unavailable
from beam.interfaces import IForwardTarget, IReader, ISink
from beam.options import SendOptions
from beam.policy import Policy, Reply
from beam.transfer import Forward, Offer, Span, State, Transfer

PATIENT = evolve(POLICY, forward_timeout=8)
RING = WINDOW + HISTORY


@implementer(IForwardTarget, ISink)
class Target:
    """Takes what it is given: at once if ``eager``, else when ``take`` is called; answers when it is told to.

    :ivar refusal: with what it fails as soon as it is started.
    :ivar on_its_way: bytes that it read and that are said to be under way.
    """

    host = "bucket.example"
    name = "the bucket"

    def __init__(self, eager: bool = True, answers: bool = False, refusal: BeamError | None = None) -> None:
        self.eager = eager
        self.answers = answers  # 2xx as soon as it has it all
        self.refusal = refusal
        self.reader: IReader | None = None
        self.length: int | None = None
        self.content_type = ""
        self.got = bytearray()
        self.complete = False
        self.error: BeamError | None = None
        self.on_its_way = 0
        self.cuts = 0
        self.answer: Deferred[None] = Deferred()

    @property
    def started(self) -> bool:
        """Whether its forward has begun."""
        return self.reader is not None

    def start(self, reader: IReader, length: int | None, content_type: str | None) -> Deferred[None]:
        assert self.reader is None, "a forward begins once"
        self.reader, self.length, self.content_type = reader, length, content_type or ""
        if self.refusal is not None:
            self.answer.errback(self.refusal)
        else:
            reader.attach(self)
        return self.answer

    def take(self, most: int = 1 << 30) -> int:
        """Take what is there; how many bytes."""
        assert self.reader is not None
        taken = 0
        while taken < most and not self.answer.called and not self.complete:
            piece = bytes(self.reader.peek()[: most - taken])
            if not piece:
                break
            self.got += piece
            taken += len(piece)
            self.reader.advance(len(piece))
        return taken

    def say_yes(self) -> None:
        """2xx."""
        assert self.complete, "no target has all before that"
        self.answer.callback(None)

    def say_no(self) -> ForwardFailed:
        """Not 2xx; with what it failed."""
        error = ForwardFailed("The forward target bucket.example answered 403: Denied.", Forwarded.REFUSED)
        self.answer.errback(error)
        return error

    def bytes_available(self) -> None:
        assert not self.answer.called, "its reader was not closed"
        if self.eager:
            self.take()

    def body_complete(self) -> None:
        assert not self.answer.called and not self.complete
        self.complete = True
        if self.answers:
            self.say_yes()

    def body_failed(self, error: BeamError) -> None:
        assert not self.answer.called
        self.error = error
        self.answer.errback(error)

    def untaken(self) -> int:
        return self.on_its_way

    def cut(self) -> None:
        assert self.reader is not None, "only one that has begun can be cut"
        self.cuts += 1
        assert self.cuts == 1
        if not self.answer.called:
            self.answer.errback(ForwardFailed("The connection is closed.", Forwarded.UNREACHABLE))


class ForwardingSender(Sender):
    """Sends bytes that go on, and may send on as soon as there is room, as a connection does that has some."""

    def __init__(
        self,
        stage: Stage,
        key: str,
        n: int,
        options: SendOptions,
        known: bool,
        forward: Forward | None,
        hasty: bool = False,
    ) -> None:
        self.forward = forward
        self.hasty = hasty
        super().__init__(stage, key, n, options, known)

    def admit(self, options: SendOptions, length: int | None) -> None:
        self.transfer = self.stage.broker.send(self.key, options, length, self, self.forward)
        self.stage.senders.append(self)

    @property
    def target(self) -> Target:
        """Where its bytes go."""
        assert self.forward is not None
        return cast(Target, self.forward.target)

    def offer(self) -> None:
        """Say what comes."""
        length = len(self.data) if self.known else None
        self.stage.broker.offer(self.transfer, Offer(length=length, content_type="text/x-test"))

    def send_all(self) -> None:
        """Everything, and the end."""
        self.send()
        self.finish()

    def resumeProducing(self) -> None:
        super().resumeProducing()
        if self.hasty and not self.gone:
            self.send()

    def transfer_ended(self, transfer: Transfer) -> None:
        """What a sender hears of a forward agrees with the outcome."""
        forward = self.forward
        if forward is not None and transfer.outcome is None:
            assert forward.outcome is not None, "the sender is told before the forward has ended"
        if forward is not None and transfer.outcome in (Outcome.DELIVERED, Outcome.STORED):
            assert not forward.failed, "the outcome is a success, and the sender hears of a failure"
        if transfer.outcome is not Outcome.FORWARD_FAILED or transfer.error is not None:
            super().transfer_ended(transfer)
            return
        assert transfer is self.transfer and forward is not None
        assert forward.failed and (transfer.deliveries or transfer.keeps), "whoever has it has it all the same"
        self.told += 1
        assert self.told == 1, "a sender has one answer"
        assert transfer.key not in self.stage.broker.rendezvous.transfers
        self.then()


class ForwardStage(Stage):
    """A stage whose senders may have targets."""

    def __init__(self, policy: Policy = PATIENT) -> None:
        super().__init__(policy)
        self.broker.observers.append(self.forward_is_over)

    @staticmethod
    def forward_is_over(transfer: Transfer, now: float) -> None:
        """Whoever hears of an outcome finds that of the forward."""
        forward = transfer.forward
        if forward is not None:
            assert (forward.reader is None) == (forward.outcome is None)
            assert (forward.error is None) == (forward.outcome in (None, Forwarded.FORWARDED))

    def admit(
        self,
        target: Target | None = None,
        n: int = 100,
        options: SendOptions | None = None,
        *,
        known: bool = True,
        spooled: bool = False,
        best_effort: bool = False,
        key: str = "k",
        hasty: bool = False,
    ) -> ForwardingSender:
        """A sender of ``n`` bytes that go on to ``target``.

        :raises BeamError: it is refused.
        """
        options = options or (SendOptions("disk") if spooled else SendOptions("memory", wait=self.policy.put_wait))
        forward = Forward(target or Target(), spooled, best_effort)
        return ForwardingSender(self, key, n, options, known, forward, hasty)

    def forward(
        self,
        target: Target | None = None,
        n: int = 100,
        options: SendOptions | None = None,
        *,
        known: bool = True,
        spooled: bool = False,
        best_effort: bool = False,
        key: str = "k",
        hasty: bool = False,
    ) -> ForwardingSender:
        """One that says at once what it sends."""
        sender = self.admit(
            target, n, options, known=known, spooled=spooled, best_effort=best_effort, key=key, hasty=hasty
        )
        sender.offer()
        return sender

    def deadlines(self) -> int:
        """The deadlines that somebody still needs."""
        forwardings = [life.forwarding for life in self.broker._lives.values()]
        return super().deadlines() + sum(each is not None and each.deadline.at < float("inf") for each in forwardings)

    def _check_patience(self, transfer: Transfer) -> None:
        """A forward that runs has a deadline, and the transfer none; else all is as without one."""
        forward, life = transfer.forward, self.broker._lives[transfer]
        if life.forwarding is not None:
            assert forward is not None and (life.forwarding.deadline.at < float("inf")) == forward.running
        if forward is not None and forward.reader is None and transfer.offer is None and not transfer.keeps:
            assert life.sending._watch.at < float("inf"), "nobody waits for a sender that has not said what it sends"
            return
        if forward is None or not forward.running:
            super()._check_patience(transfer)
            return
        assert life.timeout.at == float("inf"), "time goes by for receivers that nobody waits for"
        served = [each for each in self.broker.deliveries if each.transfer is transfer]
        assert all(each.deadline.at < float("inf") for each in served)
        assert transfer.receiving == sum(not each.span.look for each in served)
        assert transfer.state is State.KEPT or life.sending._watch.at < float("inf")

    def check(self) -> None:
        """What holds at any time."""
        super().check()
        for sender in self.senders:
            if isinstance(sender, ForwardingSender) and sender.forward is not None:
                target, spool = sender.target, sender.transfer.spool
                assert bytes(target.got) == sender.data[: len(target.got)], "these are another sender's bytes"
                if sender.forward.running and not sender.transfer.keeps:
                    assert spool.base <= len(target.got), "bytes that a target waits for were overwritten"

    def check_empty(self) -> None:
        """Everything has ended: nothing is left of it."""
        super().check_empty()
        forwarded = 0
        for sender in self.senders:
            if isinstance(sender, ForwardingSender) and sender.forward is not None:
                forwarded += len(sender.target.got)
                assert sender.target.started == (sender.forward.outcome is not None)
        assert self.broker.bytes_forwarded == forwarded


def gathering(readers: int, wait: float = POLICY.put_wait) -> SendOptions:
    """Options of a send that asks for ``readers``."""
    return SendOptions("memory", readers=readers, wait=wait)


def has_all(target: Target, sender: Sender) -> bool:
    """Whether ``target`` has all of what ``sender`` sent, and knows it."""
    return target.complete and bytes(target.got) == sender.data


def delivered(sender: Sender, receiver: Receiver) -> bool:
    """Whether ``receiver`` has all of what ``sender`` sent, and knows it."""
    return receiver.delivered is True and bytes(receiver.got) == sender.data


def outcome_of(sender: ForwardingSender) -> tuple[Outcome | None, Forwarded | None]:
    """How the transfer ended, and its forward."""
    assert sender.forward is not None
    return sender.transfer.outcome, sender.forward.outcome


def keep(sender: ForwardingSender) -> None:
    """The disk has it."""
    cast(KeptSpool, sender.transfer.spool).deferred.callback(None)


def test_the_target_of_these_tests_is_one() -> None:
    """It has the shape of any other."""
    verifyObject(IForwardTarget, Target())
    verifyObject(ISink, Target())


# The beginning.


def test_it_begins_when_the_sender_is_admitted() -> None:
    """No receiver is needed, and no byte."""
    stage = ForwardStage()
    target = Target()
    sender = stage.admit(target)
    assert not target.started, "it is not yet known what comes"
    stage.check()
    sender.offer()
    assert (target.started, target.length, target.content_type) == (True, 100, "text/x-test")
    stage.check()
    sender.send(30)
    assert len(target.got) == 30
    sender.send_all()
    target.say_yes()
    stage.check_empty()


def test_a_length_that_is_not_known() -> None:
    """The target hears so."""
    stage = ForwardStage()
    sender = stage.forward(Target(answers=True), 1000, known=False)
    assert sender.target.started and sender.target.length is None
    sender.send_all()
    assert has_all(sender.target, sender)
    stage.check_empty()


@pytest.mark.parametrize("n", [0, 1, 100, 10_000])
@pytest.mark.parametrize("first", ["sender", "receivers"])
@pytest.mark.parametrize("readers", [1, 2, 3])
def test_it_begins_when_as_many_readers_are_there_as_were_asked_for(n: int, first: str, readers: int) -> None:
    """And not before: the sender asked for them."""
    stage = ForwardStage()
    target = Target(answers=True)
    receivers = [stage.receive() for _ in range(readers if first == "receivers" else 0)]
    sender = stage.forward(target, n, gathering(readers))
    for _ in range(readers if first == "sender" else 0):
        assert not target.started
        stage.check()
        receivers.append(stage.receive())
    assert target.started, "the readers are there and the forward is not begun"
    assert target.length == n
    stage.check()
    sender.send_all()
    assert has_all(target, sender) and all(delivered(sender, receiver) for receiver in receivers)
    assert outcome_of(sender) == (Outcome.DELIVERED, Forwarded.FORWARDED)
    stage.check_empty()


@pytest.mark.parametrize("readers", [1, 2])
def test_a_look_is_no_reader(readers: int) -> None:
    """Whoever only looks begins nothing."""
    stage = ForwardStage()
    sender = stage.forward(Target(answers=True), 100, gathering(readers))
    sender.send(100)
    look = stage.receive(span=Span(0, 10, look=True))
    assert bytes(look.got) == sender.data[:10]
    assert not sender.target.started
    stage.check()
    stage.wait(POLICY.put_wait)
    assert outcome_of(sender) == (Outcome.EXPIRED, None)
    stage.check_empty()


@pytest.mark.parametrize("readers", [1, 2])
def test_receivers_that_take_at_once_leave_the_first_byte_for_the_target(readers: int) -> None:
    """The ring is full when they come, and the sender has more; nothing is overwritten that the target has to get."""
    stage = ForwardStage()
    sender = stage.forward(Target(answers=True), 10 * RING, gathering(readers), hasty=True)
    sender.send()
    assert sender.sent == RING
    receivers = [stage.receive() for _ in range(readers)]
    assert sender.target.started
    sender.send_all()
    assert has_all(sender.target, sender) and all(delivered(sender, receiver) for receiver in receivers)
    stage.check_empty()


def test_readers_that_do_not_come() -> None:
    """It expires as without a target, which hears nothing."""
    stage = ForwardStage()
    sender = stage.forward(options=gathering(2))
    stage.receive(wait=60)
    sender.send_all()
    stage.wait(POLICY.put_wait - 1)
    assert stage.outcomes() == []
    stage.wait(1)
    assert outcome_of(sender) == (Outcome.EXPIRED, None)
    assert not sender.target.started and not sender.target.cuts
    stage.receivers[0].leave()
    stage.check_empty()


def test_when_it_is_stored() -> None:
    """A spooled forward knows the length, and begins when the store has the body in safety."""
    stage = ForwardStage()
    stage.keeping.at_once = False
    sender = stage.forward(n=300, spooled=True, known=False)
    receiver = stage.receive()
    sender.send_all()
    stage.check()
    assert bytes(receiver.got) == sender.data and not sender.target.started
    keep(sender)
    assert (sender.target.started, sender.target.length, sender.target.complete) == (True, 300, True)
    assert bytes(sender.target.got) == sender.data
    sender.target.say_yes()
    stage.wait(POLICY.put_ttl)
    assert outcome_of(sender) == (Outcome.STORED, Forwarded.FORWARDED)
    stage.check_empty()


# Waiting.


def test_a_target_is_somebody() -> None:
    """A sender that waits for nobody is admitted."""
    stage = ForwardStage()
    with pytest.raises(NoReceiver):
        stage.offer(options=SendOptions("memory", wait=0))
    sender = stage.forward(Target(answers=True), options=SendOptions("memory", wait=0))
    stage.wait(3)
    sender.send_all()
    assert outcome_of(sender) == (Outcome.DELIVERED, Forwarded.FORWARDED)
    stage.check_empty()


def test_a_target_is_none_of_the_readers_that_were_asked_for() -> None:
    """``readers`` counts receivers."""
    stage = ForwardStage()
    with pytest.raises(NoReceiver):
        stage.forward(options=gathering(1, wait=0))
    assert stage.memory.used == 0
    stage.receive()
    sender = stage.forward(Target(answers=True), options=gathering(1, wait=0))
    sender.send_all()
    assert outcome_of(sender) == (Outcome.DELIVERED, Forwarded.FORWARDED)
    stage.check_empty()


@pytest.mark.parametrize("wait", [0, 2])
def test_a_sender_that_says_later_what_it_sends(wait: float) -> None:
    """A form's file begins behind its head: a target that is there is waited for by nobody."""
    stage = ForwardStage()
    sender = stage.admit(Target(answers=True), options=SendOptions("memory", wait=wait), known=False)
    stage.wait(wait + 1)
    assert sender.lives, "nobody was to wait for a receiver"
    sender.offer()
    sender.send_all()
    assert outcome_of(sender) == (Outcome.DELIVERED, Forwarded.FORWARDED)
    stage.check_empty()


def test_nobody_has_to_come_while_it_runs() -> None:
    """The wait for a receiver ends nothing that goes on to a target."""
    stage = ForwardStage()
    sender = stage.forward(n=1000)
    for _ in range(10):
        sender.send(100)
        stage.wait(POLICY.put_wait / 4)
        stage.check()
    assert sender.lives
    sender.finish()
    stage.wait(PATIENT.forward_timeout - 1)
    sender.target.say_yes()
    assert outcome_of(sender) == (Outcome.DELIVERED, Forwarded.FORWARDED)
    stage.check_empty()


# Success.


@pytest.mark.parametrize("n", [0, 1, 100, 10_000])
def test_a_target_alone_is_a_delivery(n: int) -> None:
    """When it has said so, and not when it has the bytes."""
    stage = ForwardStage()
    sender = stage.forward(n=n)
    sender.send_all()
    assert has_all(sender.target, sender)
    stage.wait(1)
    assert (sender.transfer.state, sender.told) == (State.HELD, 0)
    stage.check()
    sender.target.say_yes()
    assert outcome_of(sender) == (Outcome.DELIVERED, Forwarded.FORWARDED)
    assert (sender.told, sender.transfer.deliveries, sender.target.cuts) == (1, 0, 0)
    assert sender.transfer.error is None
    stage.check_empty()


@pytest.mark.parametrize("n", [0, 100, 10_000])
@pytest.mark.parametrize("last", ["target", "receivers"])
@pytest.mark.parametrize("best_effort", [True, False])
def test_a_target_and_receivers(n: int, last: str, best_effort: bool) -> None:
    """The sender waits for whoever is last."""
    stage = ForwardStage()
    sender = stage.forward(n=n, best_effort=best_effort)
    quick, slow = stage.receive(), stage.receive(eager=last == "target" or n == 0)
    while sender.sent < n:
        sender.send()
        slow.take(20)
    sender.finish()
    stage.check()
    if last == "target" or n == 0:
        assert delivered(sender, quick) and delivered(sender, slow)
        stage.wait(POLICY.resume_timeout + 1)
        assert sender.told == 0
        sender.target.say_yes()
    else:
        sender.target.say_yes()
        stage.check()
        assert sender.told == 0 and slow.delivered is None
        slow.take()
    assert delivered(sender, slow)
    assert outcome_of(sender) == (Outcome.DELIVERED, Forwarded.FORWARDED)
    assert (sender.told, sender.transfer.deliveries) == (1, 2)
    stage.check_empty()


def test_a_late_receiver_while_the_target_answers() -> None:
    """It is served from the ring, and waited for."""
    stage = ForwardStage()
    sender = stage.forward()
    sender.send_all()
    late = stage.receive(eager=False)
    sender.target.say_yes()
    assert sender.told == 0
    late.take()
    assert delivered(sender, late)
    assert outcome_of(sender) == (Outcome.DELIVERED, Forwarded.FORWARDED)
    stage.check_empty()


def test_the_target_sets_the_pace() -> None:
    """A target that takes nothing holds the sender, and takes every byte in the end."""
    stage = ForwardStage()
    sender = stage.forward(Target(eager=False, answers=True), n=1000)
    sender.send()
    assert sender.sent < 1000 and sender.paused
    while sender.sent < 1000:
        assert sender.target.take(10)
        sender.send()
        stage.check()
    sender.finish()
    sender.target.take()
    assert has_all(sender.target, sender)
    stage.check_empty()


# Failure.


@pytest.mark.parametrize("sent", [0, 50, 100])
@pytest.mark.parametrize("whole", [True, False])
def test_a_failure_with_nobody_there(sent: int, whole: bool) -> None:
    """The sender hears at once what the target said; the key is free."""
    stage = ForwardStage()
    sender = stage.forward(n=sent if whole else 101)
    sender.send(sent)
    if whole:
        sender.finish()
    error = sender.target.say_no()
    assert outcome_of(sender) == (Outcome.FORWARD_FAILED, Forwarded.REFUSED)
    assert sender.transfer.error is error and sender.told == 1
    assert sender.target.cuts == 0
    stage.check_empty()


@pytest.mark.parametrize("receivers", [0, 1])
def test_a_failure_as_soon_as_it_begins(receivers: int) -> None:
    """No connection: known before ``start`` has returned."""
    stage = ForwardStage()
    error = ForwardFailed("No address.", Forwarded.UNREACHABLE)
    served = [stage.receive() for _ in range(receivers)]
    sender = stage.forward(Target(refusal=error))
    if receivers:
        assert sender.told == 0
        sender.send_all()
        assert all(delivered(sender, receiver) for receiver in served)
    assert outcome_of(sender) == (Outcome.FORWARD_FAILED, Forwarded.UNREACHABLE)
    stage.check_empty()


@pytest.mark.parametrize("n", [1, 100, 10_000])
def test_a_failure_with_receivers_there(n: int) -> None:
    """None is cut for it; they finish, and the outcome is that of the forward."""
    stage = ForwardStage()
    quick, slow = stage.receive(), stage.receive(eager=False)
    sender = stage.forward(n=n)
    sender.send(n // 2)
    sender.target.say_no()
    stage.check()
    assert sender.told == 0 and quick.was_cut is quick.error is None
    while sender.sent < n:
        sender.send()
        slow.take()
    sender.finish()
    slow.take()
    assert delivered(sender, quick) and delivered(sender, slow)
    assert outcome_of(sender) == (Outcome.FORWARD_FAILED, Forwarded.REFUSED)
    assert sender.transfer.error is None, "whoever received it has it all"
    assert (sender.told, sender.transfer.deliveries) == (1, 2)
    stage.check_empty()


def test_a_failure_behind_the_last_receiver() -> None:
    """They have it, and the sender has to hear of the forward nevertheless."""
    stage = ForwardStage()
    receiver = stage.receive()
    sender = stage.forward()
    sender.send_all()
    assert delivered(sender, receiver) and sender.told == 0
    sender.target.say_no()
    assert outcome_of(sender) == (Outcome.FORWARD_FAILED, Forwarded.REFUSED)
    assert sender.transfer.error is None
    stage.check_empty()


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_failure_and_then_the_receiver_leaves(comes_back: bool) -> None:
    """It may come back as without a forward."""
    stage = ForwardStage()
    receiver = stage.receive(eager=False)
    sender = stage.forward(n=WINDOW)
    sender.send_all()
    receiver.take(40)
    sender.target.say_no()
    receiver.leave()
    stage.check()
    stage.wait(POLICY.resume_timeout - 1)
    assert sender.lives
    if comes_back:
        again = stage.receive(span=Span(40))
        assert again.delivered
        assert outcome_of(sender) == (Outcome.FORWARD_FAILED, Forwarded.REFUSED)
    else:
        stage.wait(1)
        assert sender.told == 1 and sender.transfer.error is not None
    stage.check_empty()


def test_a_receiver_just_left_when_the_target_failed() -> None:
    """It may come back for as long as any other."""
    stage = ForwardStage()
    receiver = stage.receive()
    sender = stage.forward()
    sender.send(40)
    receiver.leave()
    stage.wait(POLICY.resume_timeout - 2)
    sender.target.say_no()
    stage.check()
    stage.wait(1)
    again = stage.receive(span=Span(40))
    sender.send_all()
    assert again.delivered
    assert outcome_of(sender) == (Outcome.FORWARD_FAILED, Forwarded.REFUSED)
    stage.check_empty()


def test_every_receiver_left_long_before_the_target_failed() -> None:
    """Nobody is waited for any more."""
    stage = ForwardStage()
    receiver = stage.receive()
    sender = stage.forward()
    sender.send(40)
    receiver.leave()
    stage.wait(POLICY.resume_timeout + 1)
    assert sender.lives
    sender.target.say_no()
    stage.wait(0.001)
    assert sender.told == 1 and sender.transfer.error is not None
    stage.check_empty()


# A best effort.


def test_a_best_effort_that_failed_leaves_the_receivers_to_decide() -> None:
    """The outcome is theirs; what the target said stays for the answer."""
    stage = ForwardStage()
    receiver = stage.receive()
    sender = stage.forward(best_effort=True)
    sender.send(50)
    error = sender.target.say_no()
    sender.send_all()
    assert delivered(sender, receiver)
    assert outcome_of(sender) == (Outcome.DELIVERED, Forwarded.REFUSED)
    assert sender.forward is not None and sender.forward.error is error
    assert sender.transfer.error is None
    stage.check_empty()


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("after", [5, 10, 25])
def test_a_best_effort_that_failed_with_nobody_there(whole: bool, after: int) -> None:
    """The sender waits again for a receiver, for as long as it said when it came."""
    stage = ForwardStage()
    sender = stage.forward(n=after if whole else after + 1, best_effort=True)
    for _ in range(after):
        sender.send(1)
        stage.wait(1)
    if whole:
        sender.finish()
    assert sender.lives
    sender.target.say_no()
    stage.check()
    if after < POLICY.put_wait:
        stage.wait(POLICY.put_wait - after - 1)
        assert sender.lives
        stage.wait(1)
    else:
        stage.wait(0.001)
    assert outcome_of(sender) == (Outcome.EXPIRED, Forwarded.REFUSED)
    assert isinstance(sender.transfer.error, NoReceiver)
    stage.check_empty()


def test_a_receiver_comes_behind_a_best_effort_that_failed() -> None:
    """As it would to a sender without a target."""
    stage = ForwardStage()
    sender = stage.forward(best_effort=True)
    sender.send_all()
    sender.target.say_no()
    stage.wait(POLICY.put_wait - 1)
    receiver = stage.receive()
    assert delivered(sender, receiver)
    assert outcome_of(sender) == (Outcome.DELIVERED, Forwarded.REFUSED)
    stage.check_empty()


def test_a_best_effort_that_failed_gives_the_ring_back() -> None:
    """A target that is gone holds nobody."""
    stage = ForwardStage()
    receiver = stage.receive()
    sender = stage.forward(Target(eager=False), 1000, best_effort=True)
    sender.send()
    assert sender.sent < 1000
    sender.target.say_no()
    sender.send_all()
    assert delivered(sender, receiver)
    stage.check_empty()


# Receivers that leave.


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("best_effort", [True, False])
def test_nobody_has_to_come_back_while_it_runs(whole: bool, best_effort: bool) -> None:
    """Every receiver left before the end: the target is enough."""
    stage = ForwardStage()
    receiver = stage.receive(eager=False)
    sender = stage.forward(n=WINDOW, best_effort=best_effort)
    sender.send(50)
    if whole:
        sender.send_all()
    receiver.leave()
    assert sender.transfer.state is (State.STRANDED if whole else State.FORSAKEN)
    stage.check()
    stage.wait(POLICY.resume_timeout + 1)
    assert sender.lives and sender.told == 0
    if not whole:
        sender.send_all()
    sender.target.say_yes()
    assert outcome_of(sender) == (Outcome.DELIVERED, Forwarded.FORWARDED)
    assert (sender.transfer.deliveries, sender.transfer.left) == (0, 1)
    stage.check_empty()


def test_one_that_comes_back_while_it_runs() -> None:
    """It is one more receiver again."""
    stage = ForwardStage()
    receiver = stage.receive()
    sender = stage.forward()
    sender.send(50)
    receiver.leave()
    stage.wait(POLICY.resume_timeout + 1)
    again = stage.receive(span=Span(50))
    sender.send_all()
    sender.target.say_yes()
    assert again.delivered
    assert outcome_of(sender) == (Outcome.DELIVERED, Forwarded.FORWARDED)
    assert (sender.transfer.deliveries, sender.transfer.left) == (1, 0)
    stage.check_empty()


def test_the_last_receiver_leaves_behind_the_target() -> None:
    """The target has it: nobody has to come back."""
    stage = ForwardStage()
    receiver = stage.receive(eager=False)
    sender = stage.forward(n=WINDOW)
    sender.send_all()
    sender.target.say_yes()
    assert sender.told == 0
    receiver.leave()
    assert outcome_of(sender) == (Outcome.DELIVERED, Forwarded.FORWARDED)
    assert (sender.transfer.deliveries, sender.transfer.left) == (0, 1)
    stage.check_empty()


@pytest.mark.parametrize("forwards", [True, False])
def test_a_receiver_holds_the_target_no_longer_than_another_receiver(forwards: bool) -> None:
    """One below the least rate is cut where a target waits for it, too, and only there."""
    policy = evolve(PATIENT, min_rate=10)
    stage = ForwardStage(policy)
    receiver = stage.receive(eager=False)
    sender = stage.forward(n=10_000) if forwards else stage.offer(n=10_000)
    for _ in range(round(policy.idle_timeout) + 2):
        sender.send()
        receiver.take(1)
        stage.wait(1)
    assert (receiver.was_cut is not None) == forwards
    sender.leave()
    stage.check_empty()


# Senders that leave.


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("best_effort", [True, False])
@pytest.mark.parametrize("how", ["told", "seen", "idle", "full"])
def test_a_target_is_cut_with_its_sender(eager: bool, best_effort: bool, how: str) -> None:
    """It must not take the part for the whole; the outcome is the sender's."""
    stage = ForwardStage()
    receiver = stage.receive()
    sender = stage.forward(Target(eager), best_effort=best_effort)
    sender.send(50)
    match how:
        case "told":
            sender.leave()
        case "seen":
            sender.gone = True
            stage.wait(1)
        case "idle":
            while sender.lives and stage.now < 4 * POLICY.idle_timeout:
                stage.wait(1)
                sender.target.take(1)
        case "full":
            sender.fill_disk()
    expected = {"idle": Outcome.SENDER_IDLE, "full": Outcome.STORE_FULL}.get(how, Outcome.SENDER_LOST)
    assert outcome_of(sender) == (expected, Forwarded.CUT)
    assert sender.target.cuts == 1 and not sender.target.complete
    assert receiver.error is sender.transfer.error
    stage.check_empty()


def test_a_sender_that_leaves_while_its_target_answers() -> None:
    """Nobody is left to hear it."""
    stage = ForwardStage()
    sender = stage.forward()
    sender.send_all()
    sender.leave()
    assert outcome_of(sender) == (Outcome.SENDER_LOST, Forwarded.CUT)
    assert sender.target.cuts == 1
    assert isinstance(sender.transfer.error, SenderLost)
    stage.check_empty()


def test_a_sender_that_leaves_a_whole_body_with_receivers() -> None:
    """They go on, and so does the target."""
    stage = ForwardStage()
    receiver = stage.receive(eager=False)
    sender = stage.forward(n=WINDOW)
    sender.send_all()
    sender.leave()
    receiver.take()
    assert delivered(sender, receiver) and sender.target.cuts == 0
    sender.target.say_yes()
    assert outcome_of(sender) == (Outcome.DELIVERED, Forwarded.FORWARDED)
    stage.check_empty()


# Stopping.


@pytest.mark.parametrize("sent", [0, 50, 100])
@pytest.mark.parametrize("succeeds", [True, False])
def test_a_forward_that_runs_may_end_while_the_server_stops(sent: int, succeeds: bool) -> None:
    """Nothing new is taken meanwhile."""
    stage = ForwardStage()
    sender = stage.forward()
    sender.send(sent)
    if sent == 100:
        sender.finish()
    drained: list[None] = []
    stage.broker.drain().addCallback(drained.append)
    assert sender.lives and not drained
    with pytest.raises(Unavailable):
        stage.forward(key="other")
    stage.wait(3)
    stage.check()
    if succeeds:
        if sent < 100:
            sender.send_all()
        sender.target.say_yes()
        assert outcome_of(sender) == (Outcome.DELIVERED, Forwarded.FORWARDED)
    else:
        sender.target.say_no()
        assert outcome_of(sender) == (Outcome.FORWARD_FAILED, Forwarded.REFUSED)
    assert drained and sender.target.cuts == 0
    stage.check_empty()


def test_a_forward_that_has_not_begun_does_not_begin_while_the_server_stops() -> None:
    """Its readers will not come any more."""
    stage = ForwardStage()
    sender = stage.forward(options=gathering(2))
    unsaid = stage.admit(key="form", known=False)
    drained = stage.broker.drain()
    assert outcome_of(sender) == outcome_of(unsaid) == (Outcome.CANCELLED, None)
    assert drained.called and not sender.target.started and not unsaid.target.started
    stage.check_empty()


def test_what_is_being_stored_is_forwarded_while_the_server_stops() -> None:
    """The sender was promised both."""
    stage = ForwardStage()
    sender = stage.forward(spooled=True)
    sender.send(50)
    drained: list[None] = []
    stage.broker.drain().addCallback(drained.append)
    sender.send_all()
    stage.wait(1)
    assert sender.target.started and sender.told == 0 and not drained
    sender.target.say_yes()
    assert sender.told == 1
    stage.wait(POLICY.put_ttl)
    assert drained
    assert outcome_of(sender) == (Outcome.STORED, Forwarded.FORWARDED)
    stage.check_empty()


@pytest.mark.parametrize("spooled", [True, False])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("how", ["cut", "stop"])
def test_everything_is_cut(spooled: bool, whole: bool, how: str) -> None:
    """The target, too, if it has begun."""
    stage = ForwardStage()
    sender = stage.forward(spooled=spooled)
    sender.send(50)
    if whole:
        sender.send_all()
    began = whole or not spooled
    if how == "cut":
        stage.broker.cut()
    else:
        stage.broker.stop()
    assert outcome_of(sender) == (Outcome.CANCELLED, Forwarded.CUT if began else None)
    assert sender.target.cuts == began
    stage.check_empty()


# Patience.


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("whole", [True, False])
def test_a_target_that_takes_nothing(known: bool, whole: bool) -> None:
    """Is given up in time, and the sender hears how long it was waited for."""
    stage = ForwardStage()
    sender = stage.forward(Target(eager=False), 50 if whole else 1000, known=known)
    sender.send()
    if whole:
        sender.finish()
    stage.wait(PATIENT.forward_timeout - 1)
    assert sender.lives
    stage.wait(2)
    assert outcome_of(sender) == (Outcome.FORWARD_FAILED, Forwarded.STALLED)
    assert isinstance(sender.transfer.error, ForwardFailed) and "8 seconds" in sender.transfer.error.sentence
    assert sender.target.cuts == 1
    stage.check_empty()


def test_what_lies_in_a_buffer_has_not_been_taken() -> None:
    """The system takes megabytes for a peer that is dead."""
    stage = ForwardStage()
    sender = stage.forward(n=1000)
    for _ in range(round(PATIENT.forward_timeout)):
        assert sender.lives
        sender.target.on_its_way += sender.send(10)
        stage.wait(1)
    assert outcome_of(sender) == (Outcome.FORWARD_FAILED, Forwarded.STALLED)
    stage.check_empty()


def test_a_target_that_does_not_answer() -> None:
    """It has it all, and says nothing."""
    stage = ForwardStage()
    sender = stage.forward()
    sender.send_all()
    stage.wait(PATIENT.forward_timeout - 1)
    assert sender.lives
    stage.wait(PATIENT.forward_timeout + 2)
    assert outcome_of(sender) == (Outcome.FORWARD_FAILED, Forwarded.STALLED)
    assert sender.target.complete and sender.target.cuts == 1
    stage.check_empty()


def test_a_slow_target_is_waited_for() -> None:
    """As long as it moves: there is no least rate for it."""
    stage = ForwardStage(evolve(PATIENT, min_rate=1000))
    sender = stage.forward(Target(eager=False, answers=True), n=WINDOW)
    sender.send_all()
    while len(sender.target.got) < WINDOW:
        assert sender.lives
        stage.wait(PATIENT.forward_timeout - 1)
        sender.target.take(10)
    assert outcome_of(sender) == (Outcome.DELIVERED, Forwarded.FORWARDED)
    stage.check_empty()


def test_a_slow_sender_is_not_its_target() -> None:
    """Who has nothing to take is not impatiently looked at."""
    stage = ForwardStage()
    sender = stage.forward(n=50)
    for _ in range(5):
        stage.wait(POLICY.idle_timeout - 1)
        assert sender.send(10) == 10
    assert sender.lives
    sender.finish()
    stage.wait(PATIENT.forward_timeout - 2)
    sender.target.say_yes()
    assert outcome_of(sender) == (Outcome.DELIVERED, Forwarded.FORWARDED)
    stage.check_empty()


@pytest.mark.parametrize("best_effort", [True, False])
def test_receivers_survive_a_target_that_stalls(best_effort: bool) -> None:
    """They were held by it, and go on."""
    stage = ForwardStage()
    receiver = stage.receive()
    sender = stage.forward(Target(eager=False), 1000, best_effort=best_effort)
    sender.send()
    assert sender.sent < 1000
    stage.wait(PATIENT.forward_timeout + 1)
    assert sender.lives
    sender.send_all()
    assert delivered(sender, receiver)
    expected = Outcome.DELIVERED if best_effort else Outcome.FORWARD_FAILED
    assert outcome_of(sender) == (expected, Forwarded.STALLED)
    stage.check_empty()


# A store that keeps.


@pytest.mark.parametrize("spooled", [True, False])
def test_what_is_kept_is_told_of_when_it_is_forwarded(spooled: bool) -> None:
    """And the key lasts as long as any other's, however long the forward takes."""
    stage = ForwardStage()
    sender = stage.forward(options=SendOptions("disk"), spooled=spooled)
    sender.send_all()
    assert sender.transfer.state is State.KEPT
    stage.check()
    stage.wait(PATIENT.forward_timeout - 1)
    assert sender.told == 0
    early = stage.receive()
    assert delivered(sender, early)
    assert sender.told == 0
    sender.target.say_yes()
    assert sender.told == 1 and sender.lives
    stage.check()
    late = stage.receive()
    assert delivered(sender, late)
    stage.wait(POLICY.put_ttl)
    assert outcome_of(sender) == (Outcome.STORED, Forwarded.FORWARDED)
    assert sender.told == 1
    stage.check_empty()


def test_what_is_buffered_is_told_of_when_it_is_forwarded() -> None:
    """The body is whole before the target has it all, and waits for its receiver behind it."""
    stage = ForwardStage(evolve(PATIENT, reply=Reply.BUFFERED))
    sender = stage.forward(n=100)
    sender.send_all()
    assert sender.told == 0
    sender.target.say_yes()
    assert sender.told == 1


def test_what_is_kept_is_kept_while_it_is_forwarded() -> None:
    """Its times are over before its forward is."""
    stage = ForwardStage()
    sender = stage.forward(Target(eager=False), n=100, spooled=True, options=SendOptions("disk", ttl=1))
    sender.send_all()
    for _ in range(10):
        stage.wait(2)
        sender.target.take(10)
        assert sender.lives
    stage.check()
    sender.target.say_yes()
    stage.wait(0.001)
    assert sender.told == 1
    assert outcome_of(sender) == (Outcome.STORED, Forwarded.FORWARDED)
    stage.check_empty()


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("first", ["download", "body"])
@pytest.mark.parametrize("spooled", [True, False])
def test_the_last_download_does_not_cut_the_forward(at_once: bool, first: str, spooled: bool) -> None:
    """A key is spent when it was downloaded as often as was asked for, and forwarded."""
    stage = ForwardStage()
    stage.keeping.at_once = at_once
    receivers = [stage.receive()] if first == "download" else []
    sender = stage.forward(options=SendOptions("disk", downloads=1), spooled=spooled)
    sender.send_all()
    if not at_once:
        keep(sender)
    if not receivers:
        receivers.append(stage.receive())
    assert delivered(sender, receivers[0])
    assert sender.target.cuts == 0, "a receiver ended the forward"
    assert sender.lives and sender.told == 0
    stage.check()
    sender.target.say_yes()
    assert outcome_of(sender) == (Outcome.STORED, Forwarded.FORWARDED)
    stage.check_empty()


@pytest.mark.parametrize("spooled", [True, False])
@pytest.mark.parametrize("best_effort", [True, False])
def test_what_is_kept_is_kept_when_the_forward_failed(spooled: bool, best_effort: bool) -> None:
    """The sender hears of it, and receivers get the file nevertheless."""
    stage = ForwardStage()
    sender = stage.forward(options=SendOptions("disk"), spooled=spooled, best_effort=best_effort)
    sender.send_all()
    sender.target.say_no()
    assert sender.told == 1 and sender.lives
    assert sender.forward is not None and sender.forward.failed == (not best_effort)
    stage.check()
    receiver = stage.receive()
    assert delivered(sender, receiver)
    stage.wait(POLICY.put_ttl)
    expected = Outcome.STORED if best_effort else Outcome.FORWARD_FAILED
    assert outcome_of(sender) == (expected, Forwarded.REFUSED)
    assert sender.transfer.error is None
    stage.check_empty()


def test_a_forward_that_fails_while_it_is_stored() -> None:
    """The sender sends on, and hears of it when its body is kept."""
    stage = ForwardStage()
    stage.keeping.at_once = False
    sender = stage.forward(options=SendOptions("disk"))
    sender.send(50)
    sender.target.say_no()
    stage.check()
    assert sender.lives and sender.told == 0
    sender.send_all()
    assert sender.told == 0
    keep(sender)
    assert sender.told == 1 and sender.transfer.state is State.KEPT
    stage.wait(POLICY.put_ttl)
    assert outcome_of(sender) == (Outcome.FORWARD_FAILED, Forwarded.REFUSED)
    stage.check_empty()


def test_a_target_of_what_is_kept_that_stalls() -> None:
    """The sender hears of it, and the file is kept."""
    stage = ForwardStage()
    sender = stage.forward(Target(eager=False), spooled=True)
    sender.send_all()
    stage.wait(PATIENT.forward_timeout + 1)
    assert (sender.told, sender.target.cuts, sender.lives) == (1, 1, True)
    stage.wait(POLICY.put_ttl)
    assert outcome_of(sender) == (Outcome.FORWARD_FAILED, Forwarded.STALLED)
    stage.check_empty()


def test_a_sender_that_leaves_what_it_stored() -> None:
    """The forward goes on: the store has all that it needs."""
    stage = ForwardStage()
    sender = stage.forward(spooled=True)
    sender.send_all()
    sender.leave()
    stage.check()
    assert sender.lives and sender.target.cuts == 0
    sender.target.say_yes()
    stage.wait(POLICY.put_ttl)
    assert outcome_of(sender) == (Outcome.STORED, Forwarded.FORWARDED)
    stage.check_empty()


@pytest.mark.parametrize("spooled", [True, False])
def test_a_sender_that_leaves_what_is_not_yet_stored(spooled: bool) -> None:
    """The target is cut, or never hears of it."""
    stage = ForwardStage()
    sender = stage.forward(options=SendOptions("disk"), spooled=spooled)
    sender.send(50)
    sender.leave()
    assert outcome_of(sender) == (Outcome.SENDER_LOST, None if spooled else Forwarded.CUT)
    assert sender.target.cuts == (not spooled)
    stage.check_empty()


# What is left.


def test_bytes_are_counted_when_a_forward_has_ended() -> None:
    """Those that a target that failed took, too."""
    stage = ForwardStage()
    one, other = stage.forward(n=100), stage.forward(n=100, key="other")
    one.send_all()
    other.send(30)
    assert stage.broker.bytes_forwarded == 0
    one.target.say_yes()
    assert stage.broker.bytes_forwarded == 100
    other.target.say_no()
    assert stage.broker.bytes_forwarded == 130
    stage.check_empty()


def test_the_next_under_the_key_has_a_forward_of_its_own() -> None:
    """The late answer of a target that was cut reaches nobody."""
    stage = ForwardStage()
    first = stage.forward()
    first.send(10)
    first.then = lambda: stage.forward(Target(answers=True))
    first.leave()
    second = stage.senders[-1]
    assert isinstance(second, ForwardingSender) and second is not first
    stage.check()
    stage.wait(PATIENT.forward_timeout)
    second.send_all()
    assert outcome_of(first) == (Outcome.SENDER_LOST, Forwarded.CUT)
    assert outcome_of(second) == (Outcome.DELIVERED, Forwarded.FORWARDED)
    stage.check_empty()
