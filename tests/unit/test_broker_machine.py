"""Senders, receivers, targets, stores and time in any order: everything ends, once, and nothing is left of it."""

from collections.abc import Callable
from contextlib import suppress
from typing import cast

from attrs import evolve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.defer import Deferred
from unit.actors import POLICY, KeptSpool, Receiver, Sender
from unit.test_forwarding import PATIENT, ForwardingSender, ForwardStage, Target

from beam.errors import BeamError, Claimed, Forwarded, OffsetDiffers, Outcome, PreconditionFailed, Replaced
from beam.options import SendOptions
from beam.policy import Reply, Rival
from beam.transfer import NOBODY_CAME, Forward, Span, Transfer

KEYS = st.sampled_from(["a", "b"])
SPANS = st.one_of(
    st.just(Span()),
    st.just(Span()),
    st.just(Span()),
    st.builds(Span, start=st.integers(1, 400)),
    st.builds(lambda start, n: Span(start, start + n, look=True), st.integers(0, 300), st.integers(0, 50)),
)
SIZES = st.sampled_from([0, 1, 30, 100, 400])
STEPS = st.sampled_from([1, 20, 100, 1000])
MOSTLY = st.sampled_from([True, True, True, False])
PICK = st.integers(0, 9)
AWAY = st.sampled_from([None, None, 2, 9])


class BrokerMachine(RuleBasedStateMachine):
    """Whatever peers do, and whenever they do it."""

    @initialize(
        at_once=st.booleans(),
        rival=st.sampled_from(list(Rival)),
        reply=st.sampled_from([Reply.END, Reply.BUFFERED]),
    )
    def begin(self, at_once: bool, rival: Rival, reply: Reply) -> None:
        self.stage = ForwardStage(evolve(PATIENT, rival=rival, reply=reply))
        self.replaces, self.buffers = rival is Rival.REPLACES, reply is Reply.BUFFERED
        self.stage.keeping.at_once = at_once
        self.stage.broker.observers.append(self.ended)
        self.last_byte: dict[Transfer, float] = {}
        self.reason = ""

    def living(self) -> list[Sender]:
        """The senders whose transfers have not ended."""
        return [sender for sender in self.stage.senders if sender.lives]

    def line(self, pick: int) -> Sender:
        """The connection of a living sender that came last."""
        sender = self.living()[pick % len(self.living())]
        return self.stage.lines(sender)[-1]

    def returning(self) -> list[Sender]:
        """The living senders that may come back."""
        return [sender for sender in self.living() if sender.returns]

    def listening(self) -> list[Receiver]:
        """The receivers that wait or are served."""
        return [receiver for receiver in self.stage.receivers if not receiver.over]

    def ended(self, transfer: Transfer, now: float) -> None:
        """Whether there was a reason for it to end so."""
        (sender,) = [each for each in self.stage.senders if each.transfer is transfer]
        forward = transfer.forward
        forwarded = forward is not None and forward.outcome is Forwarded.FORWARDED
        if transfer.outcome in (Outcome.DELIVERED, Outcome.STORED):
            assert forward is None or forwarded or (forward.best_effort and forward.error is not None)
        match transfer.outcome:
            case Outcome.DELIVERED:
                assert sender.whole and transfer.receiving == 0 and not transfer.keeps
                assert transfer.deliveries > 0 or forwarded
            case Outcome.FORWARD_FAILED:
                assert forward is not None and forward.error is not None and not forward.best_effort
                if transfer.error is None:
                    assert sender.whole and (transfer.keeps or transfer.deliveries > 0)
                else:
                    assert transfer.error is forward.error and not transfer.keeps
                    assert transfer.receiving == transfer.deliveries == 0
            case Outcome.STORED:
                assert sender.whole and transfer.keeps and transfer.whole_at is not None
                spent = transfer.options.downloads is not None and transfer.deliveries >= transfer.options.downloads
                assert spent or (not transfer.receiving and now >= transfer.due(POLICY))
            case Outcome.EXPIRED:
                assert transfer.state in NOBODY_CAME and now >= transfer.started + transfer.options.wait
                assert transfer.deliveries == transfer.left == 0 and not forwarded
            case Outcome.SENDER_LOST:
                lines, resume = self.stage.lines(sender), transfer.options.resume
                if resume is None:
                    assert sender.gone
                else:
                    assert all(line.left for line in lines) and transfer.whole_at is None
                    assert now >= max(line.left_at for line in lines) + resume
                if self.buffers and not transfer.keeps and forward is None:
                    assert not sender.whole, "its sender was told that it need not stay"
            case Outcome.SENDER_IDLE:
                # A body that is whole and not yet safe waits for the disk, which may stand still for as long.
                assert transfer.options.resume is None
                assert transfer.whole_at is None and now >= self.last_byte[transfer] + POLICY.idle_timeout
            case Outcome.RECEIVER_LOST:
                assert transfer.left_at is not None and now >= transfer.left_at + POLICY.resume_timeout
                assert not transfer.deliveries and transfer.receiving == 0 and not forwarded
            case Outcome.STORE_FULL:
                assert self.reason == "full"
            case Outcome.CANCELLED if isinstance(transfer.error, Replaced):
                assert self.replaces and transfer.state in NOBODY_CAME and transfer.claimed_at is None
            case Outcome.CANCELLED:
                drains = self.stage.broker.drained is not None
                only_forwarded = forward is not None and forward.best_effort and forward.error is not None
                assert self.reason == "stop" or (drains and only_forwarded)
            case Outcome.SUSPENDED:
                assert transfer.saved and transfer.keeps
                assert self.reason == "stop" or self.stage.broker.drained is not None
            case _:
                raise AssertionError(f"{transfer.outcome} has no reason here")

    def admit(
        self,
        key: str,
        n: int,
        options: SendOptions,
        known: bool,
        offers: bool,
        again: bool,
        forward: Callable[[], Forward | None] = lambda: None,
    ) -> Sender | None:
        """A sender, if it is admitted; one that begins ``again`` sends the next body as soon as it has its answer."""
        rendezvous = self.stage.broker.rendezvous
        taken = rendezvous.transfers.get(key)
        replaces = self.replaces and taken is not None and taken.state in NOBODY_CAME
        companies = {each.company for each in rendezvous.waiting.get(key, ())} if options.exact else set()
        conflict = (taken is not None and not replaces) or not companies <= {None, options.needed}
        try:
            sender = ForwardingSender(self.stage, key, n, options, known, forward(), hasty=n == 400)
        except BeamError as error:
            if self.stage.broker.drained is None and not replaces:  # the one replaced may have the key again
                assert (error.status == 409) == conflict
            return None
        assert not conflict
        self.last_byte[sender.transfer] = self.stage.now
        if again:
            sender.then = lambda: self.admit(key, n, options, known, offers, False, forward)
        if offers:
            sender.offer()
        return sender

    @rule(
        key=KEYS,
        n=SIZES,
        options=st.builds(
            SendOptions,
            st.just("memory"),
            readers=st.sampled_from([1, 1, 2]),
            exact=st.booleans(),
            wait=st.integers(1, 20),
            resume=AWAY,
        ),
        known=st.booleans(),
        offers=MOSTLY,
        again=st.booleans(),
    )
    def send(self, key: str, n: int, options: SendOptions, known: bool, offers: bool, again: bool) -> None:
        self.admit(key, n, options, known, offers, again)

    @rule(
        key=KEYS,
        n=SIZES,
        downloads=st.sampled_from([None, 1, 2]),
        ttl=st.sampled_from([None, None, 0, 1, 7]),
        resume=AWAY,
        offers=MOSTLY,
        again=st.booleans(),
    )
    def store(
        self,
        key: str,
        n: int,
        downloads: int | None,
        ttl: int | None,
        resume: int | None,
        offers: bool,
        again: bool,
    ) -> None:
        self.admit(key, n, SendOptions("disk", downloads=downloads, ttl=ttl, resume=resume), True, offers, again)

    @precondition(lambda self: self.returning())
    @rule(pick=PICK, beside=st.sampled_from([0, 0, 0, -1, 1, 1000]), again=st.booleans())
    def come_back(self, pick: int, beside: int, again: bool) -> None:
        """At the right place or ``beside`` it; one that is cut may come back ``again`` at once."""
        sender = self.returning()[pick % len(self.returning())]
        right = beside == 0 and not sender.whole
        try:
            back = self.stage.come_back(sender, sender.sent + beside)
        except OffsetDiffers as error:
            assert not right and error.headers["Upload-Offset"] == str(sender.sent)
            return
        assert right
        if again:
            back.then = lambda: self.come_back_again(sender)

    def come_back_again(self, sender: Sender) -> None:
        """The next request of a connection that has its answer."""
        if sender.lives:
            with suppress(OffsetDiffers):
                self.stage.come_back(sender)

    @precondition(lambda self: self.returning())
    @rule(pick=PICK)
    def dismiss(self, pick: int) -> None:
        """Somebody asks where the file goes on."""
        sender = self.returning()[pick % len(self.returning())]
        line = self.stage.lines(sender)[-1]
        self.stage.broker.dismiss(sender.transfer)
        assert line.left or sender.whole or not sender.lives

    @precondition(lambda self: self.living())
    @rule(pick=PICK)
    def save(self, pick: int) -> None:
        """The server shall find it again."""
        transfer = self.line(pick).transfer
        if transfer.offer is not None:
            self.stage.broker.save(transfer)

    @rule(
        key=KEYS,
        n=SIZES,
        options=st.one_of(
            st.builds(SendOptions, st.just("memory"), st.sampled_from([None, None, 1, 2]), wait=st.integers(0, 20)),
            st.builds(
                SendOptions, st.just("disk"), downloads=st.sampled_from([None, 1]), ttl=st.sampled_from([None, 1])
            ),
        ),
        kind=st.sampled_from(["", "", "spool"]),
        best_effort=st.booleans(),
        eager=MOSTLY,
        offers=MOSTLY,
        again=st.booleans(),
    )
    def forward(
        self,
        key: str,
        n: int,
        options: SendOptions,
        kind: str,
        best_effort: bool,
        eager: bool,
        offers: bool,
        again: bool,
    ) -> None:
        spooled = options.store == "disk" and kind == "spool"
        self.admit(key, n, options, True, offers, again, lambda: Forward(Target(eager), spooled, best_effort))

    def targets(self) -> list[Target]:
        """Those that have begun and not ended."""
        forwards = [sender.transfer.forward for sender in self.living()]
        return [cast(Target, each.target) for each in forwards if each is not None and each.running]

    @precondition(lambda self: self.targets())
    @rule(pick=PICK, n=STEPS)
    def target_takes(self, pick: int, n: int) -> None:
        self.targets()[pick % len(self.targets())].take(n)

    @precondition(lambda self: self.targets())
    @rule(pick=PICK, well=MOSTLY)
    def target_answers(self, pick: int, well: bool) -> None:
        """2xx when it has it all, else another answer."""
        target = self.targets()[pick % len(self.targets())]
        if not well:
            target.say_no()
        elif target.complete:
            target.say_yes()

    @precondition(lambda self: self.living())
    @rule(pick=PICK)
    def offer(self, pick: int) -> None:
        sender = self.living()[pick % len(self.living())]
        if sender.transfer.offer is None:
            sender.offer()

    def send_on(self, sender: Sender, n: int) -> None:
        """Send if it can, and remember when it did."""
        if not sender.gone and not sender.whole and sender.send(n):
            self.last_byte[sender.transfer] = self.stage.now

    @precondition(lambda self: self.living())
    @rule(pick=PICK, n=STEPS)
    def more(self, pick: int, n: int) -> None:
        self.send_on(self.line(pick), n)

    @precondition(lambda self: self.living())
    @rule(pick=PICK)
    def finish(self, pick: int) -> None:
        """Send the rest, and say that it was all, if all could be sent; the disk has it later, at the next call."""
        sender = self.line(pick)
        if sender.whole and sender.transfer.keeps:
            deferred = cast(KeptSpool, sender.transfer.spool).deferred
            if not deferred.called:
                deferred.callback(None)
        if sender.gone or sender.left or sender.whole:
            return
        if sender.transfer.offer is None:
            sender.offer()
        self.send_on(sender, 1000)
        if sender.lives and not sender.left and sender.sent == len(sender.data):
            sender.finish()

    @precondition(lambda self: self.living())
    @rule(pick=PICK, accident=st.sampled_from(["leaves", "is cut off", "store full"]))
    def lose_sender(self, pick: int, accident: str) -> None:
        sender = self.line(pick)
        if accident == "store full":
            self.reason = "full"
            sender.fill_disk()
            self.reason = ""
        elif accident == "leaves" and not sender.told:
            sender.leave()
        else:
            sender.gone = True

    @rule(
        key=KEYS,
        span=SPANS,
        eager=MOSTLY,
        wait=st.integers(0, 10),
        company=st.sampled_from([None, None, None, 1, 2]),
        fetches=MOSTLY,
        picky=st.sampled_from([False] * 9 + [True]),
        again=st.booleans(),
    )
    def receive(
        self,
        key: str,
        span: Span,
        eager: bool,
        wait: int,
        company: int | None,
        fetches: bool,
        picky: bool,
        again: bool,
    ) -> None:
        """At the key, or at an address to which somebody took what was sent there."""
        addresses = [
            each.transfer.key for each in self.living() if each.transfer.claimed_at is not None and each.key == key
        ]
        if fetches and addresses:
            key = addresses[0]
        receiver = Receiver(self.stage, key, span, eager, company)
        if picky:
            receiver.choice = PreconditionFailed("another file")
        if again:
            receiver.then = lambda: self.receive_again(key, span, eager)
        self.stage.receivers.append(receiver)
        try:
            self.stage.broker.receive(key, receiver, wait)
        except BeamError as error:
            assert receiver.delivery is None and receiver.refused is None
            assert not isinstance(error, Claimed) or key not in self.stage.broker.rendezvous.transfers
            self.stage.receivers.remove(receiver)

    def receive_again(self, key: str, span: Span, eager: bool) -> None:
        """The next request of the same connection."""
        with suppress(BeamError):
            self.stage.receive(key, span, eager)

    def claimable(self) -> list[Sender]:
        """The senders whose files a receiver may take to an address of its own."""
        return [
            each for each in self.living() if each.transfer.state in NOBODY_CAME and each.transfer.claimed_at is None
        ]

    @precondition(lambda self: self.claimable())
    @rule(pick=PICK)
    def claim(self, pick: int) -> None:
        self.stage.claim(self.claimable()[pick % len(self.claimable())])

    @precondition(lambda self: self.listening())
    @rule(pick=PICK, n=STEPS)
    def take(self, pick: int, n: int) -> None:
        self.listening()[pick % len(self.listening())].take(n)

    @precondition(lambda self: self.listening())
    @rule(pick=PICK)
    def lose_receiver(self, pick: int) -> None:
        self.listening()[pick % len(self.listening())].leave()

    @rule(seconds=st.sampled_from([0.5, 0.5, 1.0, 1.0, 2.0, 3.0, 6.0, 20.0]), at_once=st.booleans())
    def wait(self, seconds: float, at_once: bool) -> None:
        """Time passes: second by second, or all at once, as after a stall."""
        if at_once:
            self.stage.stall(seconds)
        else:
            self.stage.wait(seconds)

    @precondition(lambda self: self.stage.broker.drained is None and len(self.stage.senders) > 3)
    @rule()
    def drain(self) -> None:
        self.reason = "stop"
        drained: list[None] = []
        self.stage.broker.drain().addCallback(drained.append)
        self.reason = ""
        assert bool(drained) == (not self.stage.broker.rendezvous.transfers and not self.stage.broker.deliveries)

    @precondition(lambda self: self.stage.broker.drained is not None)
    @rule()
    def cut(self) -> None:
        self.reason = "stop"
        self.stage.broker.cut()
        self.reason = ""
        assert not self.stage.broker.rendezvous.transfers
        assert not self.stage.broker.deliveries

    @invariant()
    def holds(self) -> None:
        self.stage.check()
        for sender in self.stage.senders:
            transfer = sender.transfer
            if transfer.options.exact:
                assert max(transfer.receiving, transfer.deliveries) <= transfer.options.needed
            if sender.lives and transfer.saved and self.stage.broker.drained is not None:
                there = any(not line.left and not line.told for line in self.stage.lines(sender))
                assert there or transfer.receiving, "nobody waits for what goes on at the next start"

    def teardown(self) -> None:
        """Nobody does anything any more, and everything ends by itself."""
        if not hasattr(self, "stage"):
            return
        for sender in (*self.stage.senders, *self.stage.backs):
            sender.then = lambda: None
        for receiver in self.stage.receivers:
            receiver.then = lambda: None
        for _ in range(300):
            if not self.stage.clock.getDelayedCalls():
                break
            self.stage.wait(1.0)
            self.stage.check()
        self.stage.check_empty()
        drained: Deferred[None] = self.stage.broker.drain()
        assert drained.called


BrokerMachine.TestCase.settings = settings(
    deadline=None, max_examples=300, stateful_step_count=40, report_multiple_bugs=False
)
TestBroker = BrokerMachine.TestCase
