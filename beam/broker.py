"""The broker joins senders, receivers and stores, and sees to it that everything ends.

Events come in here (a body is whole, a receiver left, a deadline has come); the table in ``beam.transfer`` says what
follows, and this file does it.  The only mutable hub, and the owner of the one timer.  No byte passes through it.
"""

from collections.abc import Callable, Mapping
from math import inf

from attrs import define, evolve
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from beam.alarm import Alarm
from beam.deadlines import Deadline, Deadlines
from beam.delivery import Delivery, Forwarding
from beam.errors import (
    BeamError,
    Draining,
    Established,
    Forwarded,
    ForwardFailed,
    NoReceiver,
    NotFound,
    Outcome,
    Replaced,
    Suspended,
    TakenOver,
    TooLarge,
)
from beam.interfaces import IFound, ILastingSpool, IStore
from beam.making import Maker
from beam.options import SendOptions
from beam.peers import IReceiver, ISender, News
from beam.policy import Policy, Reply
from beam.record import Record
from beam.rendezvous import HAS_RECEIVERS, Rendezvous, Waiting
from beam.sending import TAKEN_OVER, Sending
from beam.throttle import Shaper
from beam.transfer import NOBODY_CAME, Event, Forward, Offer, Span, State, Transfer

PEERS_IN_LOG = 8
DRAINING = "This server is about to stop; try again in a moment."
PARTING = "This server was stopped; send the file again in a moment."
GOES_ON = "This server was stopped; the file can go on where it is when it is back."


@define(eq=False)
class Life:
    """What a transfer needs of us while it lasts."""

    sending: Sending
    timeout: Deadline  # of its state
    forwarding: Forwarding | None = None  # since it began


class Broker:
    """The hub of one namespace of keys.

    :param clock: its ``seconds`` must not jump; the entry point sees to that.
    :param stores: by name; the first is the default.  Whoever made them starts and stops them.
    :param name: by which its records are found again; no other broker of the server has it.
    :param shaper: keeps the pace of connections and addresses; its own, if it shares none with others.
    """

    def __init__(
        self,
        clock: IReactorTime,
        policy: Policy,
        stores: Mapping[str, IStore],
        name: str = "",
        shaper: Shaper | None = None,
    ) -> None:
        self.name = name
        self.clock = clock
        self.policy = policy
        self.stores = stores
        self.shaper = shaper or Shaper(clock)
        self.rendezvous = Rendezvous(policy)
        self.deliveries: dict[Delivery, None] = {}
        self.observers: list[Callable[[Transfer, float], None]] = []
        self.drained: Deferred[None] | None = None
        self.bytes_in = 0  # of transfers that have ended
        self.bytes_out = 0
        self.bytes_forwarded = 0  # by forwards that have ended
        self._alarm = Alarm(clock)
        self._maker = Maker(clock, policy, stores, name, self.fail)
        self._lives: dict[Transfer, Life] = {}

    @property
    def deadlines(self) -> Deadlines:
        """All that is due."""
        return self._alarm.deadlines

    def at(self, deadline: Deadline, when: float) -> None:
        """``deadline`` is due at ``when`` (seconds of the clock)."""
        self._alarm.set(deadline, when)

    # The sender's side.

    def send(
        self,
        key: str,
        options: SendOptions,
        length: int | None,
        sender: ISender | None,
        forward: Forward | None = None,
        upload: str = "",
        notes: Mapping[str, str] | None = None,
        in_pieces: bool = False,
    ) -> Transfer:
        """Admit a sender, or refuse it.  Receivers are served once ``offer`` has been called.

        :param length: bytes of the body, if known.
        :param sender: ``None`` if it comes later, by ``resume``.
        :param forward: where it goes on to, if anywhere.
        :param upload: a name by which the sender finds its transfer again, if that is not the key.
        :param notes: as in ``Transfer``.
        :param in_pieces: whether the body is filled in pieces, by ``IPieceSpool``.
        :raises BeamError: the refusal.
        """
        if self.drained is not None:
            raise Draining(DRAINING)
        self.rendezvous.admit(key, options)  # a key in use is told before any other reason, and nobody is replaced yet
        limit = self.policy.max_pipe_size
        if limit is not None and length is not None and length > limit:
            raise TooLarge(f"The file has {length} bytes; this server takes {limit} at most.")
        store = self.stores[options.store]
        somebody = len(self.rendezvous.waiting.get(key, ())) >= options.needed
        somebody = somebody or (forward is not None and options.readers is None)
        if options.wait == 0 and not store.keeps and not somebody:
            raise NoReceiver("No receiver is there; start one first, or send with a longer wait.")
        while (replaced := self.rendezvous.admit(key, options)) is not None:
            self.fail(replaced, Replaced("Another upload has taken this path."))  # its sender may ask again at once
        transfer = self._maker.make(key, options, length, forward, upload, notes or {}, in_pieces)
        self._begin(transfer)
        sending = self._lives[transfer].sending
        if sender is not None:
            sending.come(sender)
        elif options.resume is not None:
            sending.go(options.resume)
        return transfer

    def _begin(self, transfer: Transfer) -> None:
        self.rendezvous.begin(transfer)
        timeout = Deadline(lambda _: self._happened(transfer, Event.TIMEOUT))
        self._lives[transfer] = Life(Sending(self, transfer), timeout)
        self._set_deadline(transfer)

    def restore(self, found: IFound, record: Record, store: IStore) -> None:
        """Go on with what a former server left: its sender may come back, and whoever wants it be served.

        :param store: where it was found, one of the broker's, perhaps by another name than then.
        :raises Unavailable: there is no memory or no descriptor for it now.
        """
        resume = record.options.resume
        left = inf if record.whole else (self.policy.upload_ttl if resume is None else resume) - found.age
        if left <= 0 or record.key in self.rendezvous.transfers:
            found.remove()
            return
        (name,) = [name for name, each in self.stores.items() if each is store]
        transfer = self._maker.remake(found, evolve(record, options=evolve(record.options, store=name)))
        self._begin(transfer)
        if transfer.spool.head == record.length:
            self.whole(transfer, record.digests)
        else:
            self._lives[transfer].sending.go(left)

    def offer(self, transfer: Transfer, offer: Offer) -> None:
        """The sender has said what it sends: serve whoever waits."""
        transfer.offer = offer
        self._invite(transfer)
        self._look_whether_to_forward(transfer)

    def save(self, transfer: Transfer) -> "Deferred[None]":
        """See to it that ``transfer`` outlives the server as it is now, where the store can do that.

        Fires when it does.
        """
        if not ILastingSpool.providedBy(transfer.spool):
            return succeed(None)
        transfer.saved = True
        return transfer.spool.save()

    def settle(self, transfer: Transfer) -> "Deferred[None]":
        """Fires when what came of ``transfer`` is as safe as its store makes it; never, if the transfer ends before."""
        spool = transfer.spool
        return spool.settle() if ILastingSpool.providedBy(spool) else succeed(None)

    def resume(self, transfer: Transfer, sender: ISender, offset: int) -> None:
        """``sender`` goes on with ``transfer``; one that is still there loses its place.

        What that one does when it hears so comes before the return: ``sender`` may have been cut, or told of the end.

        :raises OffsetDiffers: its file does not end at ``offset``.
        """
        transfer.check_offset(offset)
        self._lives[transfer].sending.come(sender)

    def dismiss(self, transfer: Transfer) -> None:
        """Nobody sends ``transfer`` any more, for now; it ends here until somebody resumes it."""
        sender = self._lives[transfer].sending.sender
        if sender is not None and not transfer.is_whole:
            self.away(transfer)
            sender.cut(TakenOver(TAKEN_OVER))

    def away(self, transfer: Transfer) -> None:
        """The sender has left, and has from now on the time that it asked for to come back."""
        assert transfer.options.resume is not None, "the sender said that it may come back"
        self._lives[transfer].sending.go(transfer.options.resume)
        self._let_rest()

    def whole(self, transfer: Transfer, digests: Mapping[str, bytes]) -> None:
        """The last byte of the body is in the spool."""
        transfer.digests.update(digests)
        transfer.length = transfer.spool.head
        transfer.is_whole = True

        if transfer.keeps:
            transfer.spool.finish().addCallback(lambda _: self._secured(transfer))
        else:
            self._secured(transfer)
            transfer.spool.finish()

    def _secured(self, transfer: Transfer) -> None:
        """The whole body is where the store wants it."""
        if transfer.outcome is None:
            transfer.whole_at = self.clock.seconds()
            transfer.saved = ILastingSpool.providedBy(transfer.spool)
            self._happened(transfer, Event.WHOLE)
            self._tell(transfer, News.WHOLE)
            if transfer.outcome is None:
                self._look_whether_to_forward(transfer)
                self._look_whether_to_tell(transfer)
                self._look_whether_spent(transfer)
            self._let_rest()

    def lost(self, transfer: Transfer, sender: ISender) -> None:
        """The connection of ``sender`` broke, or has brought its part."""
        if transfer.outcome is None and self._lives[transfer].sending.sender is sender:
            if transfer.options.resume is None:
                self._happened(transfer, Event.LOST)
            else:
                self.away(transfer)

    def absence(self, transfer: Transfer) -> float:
        """Seconds that the sender of ``transfer`` has to come back, from now on or from when it leaves."""
        left = self._lives[transfer].sending.due - self.clock.seconds()
        return left if left < inf else transfer.options.resume or 0

    def given_up(self, transfer: Transfer) -> None:
        """The sender has not come back in time."""
        self._happened(transfer, Event.LOST)

    def fail(self, transfer: Transfer, error: BeamError) -> None:
        """End ``transfer`` with ``error``, if it has not ended."""
        if transfer.outcome is None:
            transfer.fail(error)
            self._end(transfer)

    def remove(self, transfer: Transfer, error: BeamError) -> None:
        """Nobody is to have ``transfer`` any more; who reads what is kept reads on to its end.

        :param error: what its sender and its receivers hear, if it is not whole.
        """
        if transfer.state is State.KEPT:
            self._happened(transfer, Event.SPENT)
        else:
            self.fail(transfer, error)

    def _tell(self, transfer: Transfer, news: News) -> None:
        life = self._lives.get(transfer)
        if life is not None:
            life.sending.tell(news)

    def _look_whether_to_tell(self, transfer: Transfer) -> None:
        """Tell the sender that its body is stored, if that is what it waits for, and forwarded if it was to be."""
        life = self._lives.get(transfer)
        stored = transfer.whole_at is not None and (transfer.keeps or self.policy.reply is Reply.BUFFERED)
        forwarded = transfer.forward is None or transfer.forward.outcome is not None
        if life is not None and stored and forwarded:
            life.sending.tell_end()

    # The receiver's side.

    def receive(self, key: str, receiver: IReceiver, wait: float) -> None:
        """``receiver`` wants what is sent under ``key``; if nothing is there it waits ``wait`` seconds.

        :raises BeamError: the refusal, if it comes at once.
        """
        transfer = self.rendezvous.transfers.get(key)
        self.rendezvous.greet(key, receiver)
        if transfer is not None and transfer.offer is not None and not self._gathers(transfer):
            span = receiver.choose(transfer)
            self._tell(transfer, News.CAME)
            delivery = self._join(transfer, receiver, span)
            self._look_whether_to_forward(transfer)
            receiver.serve(delivery)
            return
        if self.drained is not None:
            raise Draining(DRAINING)
        if transfer is None and wait == 0:
            raise self.rendezvous.nothing(key, self.clock.seconds())
        over = Deadline(lambda _: self._give_up(key, receiver))
        self.rendezvous.wait(key, receiver, Waiting(wait, over))
        if transfer is None:
            self.at(over, self.clock.seconds() + wait)
            return
        self._tell(transfer, News.CAME)
        if transfer.offer is not None:
            self._invite(transfer)

    def claim(self, transfer: Transfer, address: str) -> None:
        """A receiver claims ``transfer``, which nobody is served from: it moves to ``address``."""
        now = self.clock.seconds()
        key = transfer.key
        self.rendezvous.move(transfer, address, now)
        self._let_wait(key, now)

    def leave(self, key: str, receiver: IReceiver) -> None:
        """A receiver that waits is gone."""
        waiting = self.rendezvous.forget(key, receiver)
        if waiting is not None:
            self.at(waiting.over, inf)

    def _let_wait(self, key: str, now: float) -> None:
        """Nothing is at ``key`` any more: who waits there does so for as long as it said."""
        for waiting in self.rendezvous.waiting.get(key, {}).values():
            self.at(waiting.over, now + waiting.seconds)

    def _give_up(self, key: str, receiver: IReceiver) -> None:
        self.leave(key, receiver)
        receiver.refuse(NotFound("Nothing came in time; start the sender, or wait longer with ?wait=SECONDS."))

    @staticmethod
    def _gathers(transfer: Transfer) -> bool:
        """Whether it still waits for several receivers."""
        return transfer.state in NOBODY_CAME and transfer.options.needed > 1

    def _invite(self, transfer: Transfer) -> None:
        """Serve those who wait for ``transfer``, if they are enough; looks are served in any case.

        Whoever is answered here may ask again at once: all are taken out of the waiting ones first.
        """
        chosen: list[tuple[IReceiver, Span]] = []
        looks: list[tuple[IReceiver, Span]] = []
        refused: list[tuple[IReceiver, BeamError]] = []
        for receiver, waiting in list(self.rendezvous.waiting.get(transfer.key, {}).items()):
            self.at(waiting.over, inf)  # from now on it waits as long as the sender does
            try:
                span = receiver.choose(transfer)
                (looks if span.look else chosen).append((receiver, span))
            except BeamError as error:
                refused.append((receiver, error))
        needed = transfer.options.needed
        if transfer.state in NOBODY_CAME and len(chosen) < needed:
            chosen = []
        if transfer.options.exact:
            refused += [(receiver, Established(HAS_RECEIVERS)) for receiver, _ in chosen[needed:]]
            del chosen[needed:]
        for receiver, _ in (*chosen, *looks, *refused):
            self.leave(transfer.key, receiver)
        deliveries = []
        for receiver, span in (*chosen, *looks):
            try:
                deliveries.append(self._join(transfer, receiver, span))
            except BeamError as error:
                refused.append((receiver, error))
        self._look_whether_to_forward(transfer)  # it needs the first byte, which a quick receiver may take away
        for delivery in deliveries:
            delivery.receiver.serve(delivery)
        for receiver, reason in refused:
            receiver.refuse(reason)

    def _join(self, transfer: Transfer, receiver: IReceiver, span: Span) -> Delivery:
        """Give ``receiver`` a reader.

        :raises Gone: the bytes that it wants are no longer there.
        """
        reader = transfer.spool.open(span.start, not span.look)
        delivery = Delivery(self, transfer, receiver, reader, span)
        self.deliveries[delivery] = None
        if not span.look:
            transfer.receiving += 1
            if len(transfer.peers) < PEERS_IN_LOG:
                transfer.peers.append(receiver.peer)
            if span.start and transfer.left:
                transfer.left -= 1  # it is back
            begins = transfer.state in NOBODY_CAME
            self._happened(transfer, Event.JOINED)
            if begins:
                self._tell(transfer, News.BEGUN)
        return delivery

    def delivered(self, delivery: Delivery, whole: bool) -> None:
        """A receiver is done with its part."""
        if delivery not in self.deliveries:
            return
        del self.deliveries[delivery]
        self.at(delivery.deadline, inf)
        transfer, now = delivery.transfer, self.clock.seconds()
        taken = max(0, delivery.reader.position - delivery.span.start)
        transfer.bytes_out += taken
        if transfer.outcome is not None:
            self.bytes_out += taken
        delivery.reader.close()
        if not delivery.span.look:
            transfer.receiving -= 1
            if whole:
                transfer.deliveries += 1
                transfer.served_at = now
            else:
                transfer.left += 1
                transfer.left_at = now
                self._tell(transfer, News.LEFT)
            if transfer.outcome is None:
                self._after_delivery(transfer)
        self._let_rest()

    def _after_delivery(self, transfer: Transfer) -> None:
        if transfer.receiving == 0:
            if not transfer.delivered:
                self._happened(transfer, Event.DESERTED)
            elif transfer.keeps or transfer.forward is None or not transfer.forward.running:
                self._happened(transfer, Event.SERVED)
        self._look_whether_spent(transfer)

    def _look_whether_spent(self, transfer: Transfer) -> None:
        """End what is kept when it was downloaded as often as was asked for."""
        downloads, forward = transfer.options.downloads, transfer.forward
        if forward is not None and forward.outcome is None:
            return
        if transfer.state is State.KEPT and downloads is not None and transfer.deliveries >= downloads:
            self._happened(transfer, Event.SPENT)

    # Forwards.

    def _look_whether_to_forward(self, transfer: Transfer) -> None:
        """Begin the forward of ``transfer``: when it is admitted, or its receivers are there, or its body is whole."""
        forward = transfer.forward
        if forward is None or forward.reader is not None or forward.outcome is not None or transfer.outcome is not None:
            return
        gathers = transfer.options.readers and transfer.state in NOBODY_CAME
        if transfer.state is State.KEPT if forward.spooled else not gathers:
            forwarding = self._lives[transfer].forwarding = Forwarding(self, transfer, forward)
            forwarding.begin()
            if transfer.outcome is None:
                self._set_deadline(transfer)

    def forwarded(self, transfer: Transfer) -> None:
        """The forward of ``transfer`` has ended, well or not.  No receiver is cut for it."""
        forward = transfer.forward
        assert forward is not None
        self.bytes_forwarded += forward.sent
        if transfer.outcome is not None:
            return
        self._look_whether_to_tell(transfer)
        if transfer.keeps:
            self._set_deadline(transfer)
            self._look_whether_spent(transfer)
        elif transfer.receiving == 0:
            if transfer.delivered:
                self._happened(transfer, Event.SERVED)
            elif forward.failed and not transfer.left and forward.error is not None:
                self.fail(transfer, forward.error)
            elif self.drained is not None and transfer.state in NOBODY_CAME:
                self.fail(transfer, Draining(DRAINING))
            else:
                self._set_deadline(transfer)

    # What follows.

    def _happened(self, transfer: Transfer, event: Event) -> None:
        """Take ``event`` to the table and do what follows."""
        if transfer.outcome is not None:
            return
        if transfer.on(event):
            self._end(transfer)
        else:
            self._set_deadline(transfer)

    def _set_deadline(self, transfer: Transfer) -> None:
        self.at(self._lives[transfer].timeout, transfer.due(self.policy))

    def _end(self, transfer: Transfer) -> None:
        """The outcome is set: free the key, let everything go, tell everybody."""
        now = self.clock.seconds()
        forward = transfer.forward
        if transfer.outcome in (Outcome.DELIVERED, Outcome.STORED):
            if forward is not None and forward.failed:
                transfer.outcome = Outcome.FORWARD_FAILED  # the receivers have it all the same
        elif transfer.error is None:
            transfer.error = transfer.reason()
        life = self._lives.pop(transfer)
        if life.forwarding is not None:
            life.forwarding.cut(ForwardFailed("The transfer ended before the forward did.", Forwarded.CUT))
        self.at(life.timeout, inf)
        life.sending.stop()
        self.rendezvous.end(transfer, now)
        self._let_wait(transfer.key, now)
        self.bytes_in += transfer.spool.head
        self.bytes_out += transfer.bytes_out
        if transfer.error is None:
            transfer.spool.release()
        elif transfer.outcome is Outcome.SUSPENDED and ILastingSpool.providedBy(transfer.spool):
            transfer.spool.suspend(transfer.error)
        else:
            transfer.spool.abort(transfer.error)
        life.sending.tell_end()
        for observer in self.observers:
            observer(transfer, now)
        self._look_whether_drained()

    # Stopping.

    def drain(self) -> Deferred[None]:
        """Take nothing new; fires when what runs and what is kept has ended."""
        if self.drained is None:
            self.drained = Deferred()
            for transfer in list(self.rendezvous.transfers.values()):
                forwarded = transfer.forward is not None and transfer.forward.running
                if transfer.state in NOBODY_CAME and not forwarded and not self._lives[transfer].sending.told:
                    self.fail(transfer, Draining(DRAINING))
            for key, receivers in list(self.rendezvous.waiting.items()):
                for receiver in list(receivers):
                    self.leave(key, receiver)
                    receiver.refuse(Draining(DRAINING))
            self._let_rest()
        return self.drained

    def cut(self) -> None:
        """End everything now."""
        for transfer in list(self.rendezvous.transfers.values()):
            self.fail(transfer, Suspended(GOES_ON) if transfer.saved else Draining(PARTING))
        for delivery in list(self.deliveries):
            delivery.receiver.cut(Draining(DRAINING))

    def _let_rest(self) -> None:
        """While the server drains, nobody waits for what goes on at its next start."""
        for transfer, life in list(self._lives.items()) if self.drained is not None else ():
            if transfer.saved and life.sending.sender is None and not transfer.receiving:
                self.fail(transfer, Suspended(GOES_ON))
        self._look_whether_drained()

    def _look_whether_drained(self) -> None:
        if self.drained is not None and not (self.drained.called or self.rendezvous.transfers or self.deliveries):
            self.drained.callback(None)

    def stop(self) -> None:
        """End everything, and let go of the clock."""
        self.drain()
        self.cut()
        self._alarm.stop()
