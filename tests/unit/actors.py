"""Senders, receivers and a store for tests of the broker: no sockets, and everything that they are told is checked."""

from collections.abc import Callable
from itertools import count
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from zope.interface import implementer

from beam.broker import Broker, Life
from beam.deadlines import Deadline
from beam.errors import BeamError, Outcome, StoreFull
from beam.interfaces import IFound, ILastingSpool, ILastingStore, ISink
from beam.options import SendOptions
from beam.peers import IDelivery, IReceiver, ISender, News
from beam.policy import Policy, Reply
from beam.quota import Quota
from beam.store.memory import MemoryStore
from beam.store.spool import EMPTY, Reader, Spool
from beam.testing import some_bytes
from beam.transfer import BODY_IS_COMING, Offer, Span, State, Transfer

WINDOW = HISTORY = 64
POLICY = Policy(
    put_ttl=10,
    get_ttl=3,
    get_wait=5,
    put_wait=20,
    resume_timeout=6,
    idle_timeout=16,
    min_rate=1,
    max_waiting_per_key=50,
)


def deadlines_of(life: Life) -> list[Deadline]:
    """Those of a transfer's state and of its sender."""
    return [life.timeout, life.sending._watch, life.sending._absence]


class KeptSpool(Spool):
    """A whole body in memory."""

    def __init__(self, store: "KeepingStore") -> None:
        super().__init__()
        self.store = store
        self.bytes = bytearray()
        self.place = bytearray()
        self.full = store.full
        self.deferred: Deferred[None] = Deferred()

    @property
    def head(self) -> int:  # type: ignore[override]
        return len(self.bytes)

    def room(self) -> memoryview:
        if self.full:
            self._paused = True
            return EMPTY
        self.place = bytearray(50)
        return memoryview(self.place)

    def take(self, n: int) -> None:
        self.bytes += self.place[:n]
        self.store.quota.take(n)

    def bytes_at(self, reader: Reader) -> memoryview:
        return memoryview(bytes(self.bytes[reader.position :]))

    def secured(self) -> "Deferred[None]":
        if self.store.at_once:
            self.deferred.callback(None)
        return self.deferred

    def let_go(self) -> None:
        self.store.quota.give(len(self.bytes))


@implementer(ILastingSpool)
class LastingSpool(KeptSpool):
    """One that would outlive the server; ``record`` gives what is written of it."""

    def __init__(self, store: "KeepingStore", record: Callable[[], bytes]) -> None:
        super().__init__(store)
        self.record = record
        self.saving: Deferred[None] = Deferred()
        store.spools.append(self)

    def save(self) -> "Deferred[None]":
        self.store.log.append("save")
        self.store.records.append(self.record())
        self.saving = Deferred()
        if self.store.at_once:
            self.saving.callback(None)
        return self.saving

    def secured(self) -> "Deferred[None]":
        self.store.log.append("finish")
        self.store.records.append(self.record())
        return super().secured()

    def settle(self) -> "Deferred[None]":
        return succeed(None)

    def suspend(self, error: BeamError) -> None:
        self.store.log.append("suspend")
        super().abort(error)

    def abort(self, error: BeamError) -> None:
        self.store.log.append("abort")
        super().abort(error)


@implementer(ILastingStore)
class KeepingStore:
    """A store that keeps.

    :ivar at_once: whether a whole body is safe at once, or when a test fires its spool's ``deferred``.
    :ivar records: what was written of its spools.
    """

    keeps = True

    def __init__(self) -> None:
        self.quota = Quota(1 << 30)
        self.at_once = True
        self.full = False  # whether the next spool has no room
        self.log: list[str] = []
        self.records: list[bytes] = []
        self.spools: list[LastingSpool] = []

    def start(self) -> None:
        self.log.append("start")

    def stop(self) -> None:
        self.log.append("stop")

    def create(self, length: int | None, failed: Callable[[BeamError], None]) -> KeptSpool:
        return KeptSpool(self)

    def create_lasting(
        self, length: int | None, failed: Callable[[BeamError], None], record: Callable[[], bytes]
    ) -> LastingSpool:
        self.log.append("lasting")
        return LastingSpool(self, record)

    def create_pieces(
        self, length: int | None, failed: Callable[[BeamError], None], record: Callable[[], bytes]
    ) -> Any:
        self.log.append("pieces")
        return LastingSpool(self, record)

    def recover(self) -> list[IFound]:
        return []

    def usage(self) -> int:
        return self.quota.used


class Stage:
    """A broker with a clock that stands still until it is told, a store that holds and one that keeps."""

    def __init__(self, policy: Policy = POLICY) -> None:
        self.clock = Clock()
        self.memory = Quota(1 << 20)
        self.keeping = KeepingStore()
        self.broker = Broker(
            self.clock, policy, {"memory": MemoryStore(self.memory, WINDOW, HISTORY), "disk": self.keeping}
        )
        self.policy = policy
        self.ended: list[tuple[Transfer, float]] = []
        self.broker.observers.append(lambda transfer, now: self.ended.append((transfer, now)))
        self.senders: list[Sender] = []
        self.backs: list[Back] = []
        self.seeds = count(1)
        self.receivers: list[Receiver] = []
        for store in self.broker.stores.values():
            store.start()

    @property
    def now(self) -> float:
        """Seconds on the clock."""
        return float(self.clock.seconds())

    def wait(self, seconds: float) -> None:
        """Let time pass, second by second."""
        while seconds > 0:
            self.stall(min(1.0, seconds))
            seconds -= 1.0

    def stall(self, seconds: float) -> None:
        """Let time pass all at once."""
        self.clock.advance(seconds)
        assert self.broker.deadlines.next() > self.now, "a deadline has passed and nothing happened"

    def send(self, key: str = "k", n: int = 100, options: SendOptions | None = None, known: bool = True) -> "Sender":
        """Admit a sender of ``n`` bytes.

        :raises BeamError: it is refused.
        """
        return Sender(self, key, n, options or SendOptions(store="memory", wait=self.policy.put_wait), known)

    def offer(self, key: str = "k", n: int = 100, options: SendOptions | None = None, known: bool = True) -> "Sender":
        """Admit a sender that says at once what it sends."""
        sender = self.send(key, n, options, known)
        sender.offer()
        return sender

    def store(self, key: str = "k", n: int = 100, **more: float | None) -> "Sender":
        """A body of ``n`` bytes that is kept."""
        downloads, ttl = more.get("downloads"), more.get("ttl")
        options = SendOptions(store="disk", downloads=None if downloads is None else int(downloads), ttl=ttl)
        sender = self.offer(key, n, options)
        sender.send()
        sender.finish()
        return sender

    def store_held(self, key: str = "k", n: int = 100) -> "Sender":
        """A body of ``n`` bytes that is whole and that nobody has come for."""
        sender = self.offer(key, n)
        sender.send()
        sender.finish()
        return sender

    def receive(
        self,
        key: str = "k",
        span: Span | None = None,
        eager: bool = True,
        wait: float = 5,
        company: int | None = None,
    ) -> "Receiver":
        """A receiver.

        :raises BeamError: it is refused at once.
        """
        receiver = Receiver(self, key, span or Span(), eager, company)
        self.receivers.append(receiver)
        try:
            self.broker.receive(key, receiver, wait)
        except BeamError:
            self.receivers.remove(receiver)
            raise
        return receiver

    def claim(self, sender: "Sender") -> str:
        """A receiver takes what ``sender`` sends to an address of its own."""
        address = f"{self.senders.index(sender)}/{sender.key}"
        self.broker.claim(sender.transfer, address)
        return address

    def outcomes(self) -> list[Outcome | None]:
        """How the transfers ended, in order."""
        return [transfer.outcome for transfer, _ in self.ended]

    def lines(self, sender: "Sender") -> list["Sender"]:
        """The connections of ``sender``."""
        return [sender, *(each for each in self.backs if each.transfer is sender.transfer)]

    def come_back(self, sender: "Sender", offset: int | None = None) -> "Back":
        """``sender`` goes on by another connection, at the end of what is there if not at ``offset``.

        :raises BeamError: it is refused.
        """
        return Back(sender, sender.sent if offset is None else offset)

    def deadlines(self) -> int:
        """The deadlines that somebody still needs."""
        broker = self.broker
        needed = [each for life in broker._lives.values() for each in deadlines_of(life)]
        needed += [delivery.deadline for delivery in broker.deliveries]
        needed += [waiting.over for waits in broker.rendezvous.waiting.values() for waiting in waits.values()]
        return sum(each.at < float("inf") for each in needed)

    def check(self) -> None:
        """What holds at any time."""
        broker, rendezvous = self.broker, self.broker.rendezvous
        assert len(broker.deadlines) == self.deadlines(), "a deadline is pending that nobody needs"
        calls = self.clock.getDelayedCalls()
        assert len(calls) == (1 if len(broker.deadlines) else 0), "one timer serves all deadlines"
        if calls:
            assert calls[0].getTime() <= max(self.now, broker.deadlines.next()) + 1e-6, "the timer comes too late"
        assert rendezvous.transfers.keys() == {sender.transfer.key for sender in self.senders if sender.lives}
        assert set(broker._lives) == set(rendezvous.transfers.values())
        waiting = [receiver for receiver in self.receivers if receiver.waiting]
        assert rendezvous.waiters == len(waiting) == sum(map(len, rendezvous.waiting.values()))
        waits = {receiver: each for some in rendezvous.waiting.values() for receiver, each in some.items()}
        assert set(waits) == set(waiting)
        assert len(broker.deliveries) == sum(receiver.delivery is not None for receiver in self.receivers)
        for transfer in rendezvous.transfers.values():
            self._check_patience(transfer)
        for receiver, each in waits.items():
            assert isinstance(receiver, Receiver)
            found = rendezvous.transfers.get(receiver.key)
            if found is None:
                assert each.over.at < float("inf"), "a receiver waits for ever"
            elif found.offer is not None:
                assert each.over.at == float("inf"), "a receiver gives up while its sender waits for it"
        for sender in (*self.senders, *self.backs):
            sender.check()
        for receiver in self.receivers:
            receiver.check()

    def _check_patience(self, transfer: Transfer) -> None:
        """Every state has a deadline, or a patience with somebody."""
        never, life = float("inf"), self.broker._lives[transfer]
        served = [each for each in self.broker.deliveries if each.transfer is transfer]
        assert all(each.deadline.at < never for each in served)
        assert transfer.receiving == sum(not each.span.look for each in served)
        match transfer.state:
            case State.WAITING | State.HELD | State.FORSAKEN | State.STRANDED:
                assert life.timeout.at < never
            case State.FLOWING | State.ENDING:
                assert transfer.receiving > 0
            case State.KEPT:
                assert transfer.receiving > 0 or life.timeout.at < never
        (first,) = [each for each in self.senders if each.transfer is transfer]
        there = [each for each in self.lines(first) if not each.left]
        sending = life.sending
        if sending.told:
            assert sending.sender is None
        elif there:
            assert [sending.sender] == there, "one connection sends, and the others know that they do not"
            assert sending._watch.at < never and sending._absence.at == never
        else:
            assert sending.sender is None and sending._watch.at == never
            coming = transfer.state in BODY_IS_COMING
            assert (sending._absence.at < never) == coming, "a sender that is away has a time to come back"

    def check_empty(self) -> None:
        """Everything has ended: nothing is left of it."""
        self.check()
        broker = self.broker
        assert not broker.rendezvous.transfers and not broker.rendezvous.waiting and not broker.deliveries
        assert broker.rendezvous.waiters == 0
        assert len(broker.deadlines) == 0
        assert self.clock.getDelayedCalls() == []
        assert self.memory.used == 0
        assert self.keeping.usage() == 0
        assert len(self.ended) == len(self.senders), "each transfer has one outcome"
        assert broker.bytes_in == sum(len(sender.sent_bytes) for sender in self.senders)
        assert broker.bytes_out == sum(len(receiver.got) for receiver in self.receivers)
        for sender in (*self.senders, *self.backs):
            assert sender.told == (not sender.left), "each sender has one answer, if it is there to hear it"
        assert all(receiver.over for receiver in self.receivers)


@define(eq=False)
class File:
    """What a sender sends, by however many connections.

    :ivar sent: bytes of it that went into the spool.
    :ivar whole: whether the sender has said that this was all.
    """

    data: bytes
    sent: int = 0
    whole: bool = False


@implementer(ISender, IPushProducer)
class Sender:
    """Sends bytes that no other sends.

    :ivar gone: whether its connection is broken, which the broker may have to find out.
    :ivar left: whether the broker knows, or has cut it: the transfer goes on without this connection.
    :ivar told: how often it was told how its part ended.
    """

    transfer: Transfer

    def __init__(self, stage: Stage, key: str, n: int, options: SendOptions, known: bool) -> None:
        self.stage = stage
        self.key = key
        self.known = known
        self.file = File(some_bytes(n, seed=next(stage.seeds)))
        self.gone = False
        self.left = False
        self.left_at = 0.0  # seconds, when it did
        self.held = False
        self.told = 0
        self.paused = False
        self.was_cut: BeamError | None = None
        self.then: Callable[[], object] = lambda: None  # what it does when it is told, or cut
        self.news: list[News] = []
        self.admit(options, n if known else None)
        if not self.left and not self.told:
            self.transfer.spool.registerProducer(self, True)

    def admit(self, options: SendOptions, length: int | None) -> None:
        """Ask the broker.

        :raises BeamError: the refusal.
        """
        self.transfer = self.stage.broker.send(self.key, options, length, self)
        self.stage.senders.append(self)

    @property
    def data(self) -> bytes:
        """What it sends."""
        return self.file.data

    @property
    def sent(self) -> int:
        """Bytes of it that went into the spool."""
        return self.file.sent

    @property
    def whole(self) -> bool:
        """Whether the sender has said that this was all."""
        return self.file.whole

    @property
    def returns(self) -> bool:
        """Whether it may come back."""
        return self.transfer.options.resume is not None

    @property
    def is_done(self) -> bool:
        """Whether the store has all it needs of one that may come back, so that it may as well leave."""
        return self.returns and self.whole and self.transfer.keeps

    @property
    def lives(self) -> bool:
        """Whether its transfer has not ended."""
        return self.transfer.outcome is None

    @property
    def sent_bytes(self) -> bytes:
        """What went into the spool."""
        return self.data[: self.sent]

    @property
    def may_send(self) -> bool:
        """Whether the spool takes what it sends, as far as it was told."""
        return self.lives and not self.left and not self.paused

    def heard(self, news: News) -> None:
        assert not self.told and not self.left, "news behind the answer"
        self.news.append(news)

    def offer(self) -> None:
        """Say what comes."""
        self.stage.broker.offer(self.transfer, Offer(length=len(self.data) if self.known else None))

    def send(self, most: int = 1 << 30) -> int:
        """Send on, if the spool lets us; how many bytes."""
        before = self.sent
        while self.may_send and self.sent < len(self.data) and self.sent - before < most:
            view = self.transfer.spool.room()
            if not view:
                break
            n = min(len(view), len(self.data) - self.sent, most - (self.sent - before))
            view[:n] = self.data[self.sent : self.sent + n]
            self.file.sent += n
            self.transfer.spool.commit(n)
        return self.sent - before

    def finish(self) -> None:
        """That was all."""
        assert self.sent == len(self.data) and not self.left
        self.file.whole = True
        self.stage.broker.whole(self.transfer, {})

    def leave(self) -> None:
        """The connection breaks."""
        self.gone = True
        if self.is_done:
            return
        if not self.left and self.returns and self.lives and not self.told:
            self.left, self.left_at = True, self.stage.now
        self.stage.broker.lost(self.transfer, self)

    def fill_disk(self) -> None:
        """The store cannot go on."""
        self.stage.broker.fail(self.transfer, StoreFull("full"))

    def transfer_ended(self, transfer: Transfer) -> None:
        assert transfer is self.transfer and not self.left
        self.told += 1
        assert self.told == 1, "a sender has one answer"
        if transfer.outcome is None:
            assert self.whole and transfer.whole_at is not None
            assert transfer.state is State.KEPT if transfer.keeps else self.stage.policy.reply is Reply.BUFFERED
        else:
            assert (transfer.error is None) == (transfer.outcome in (Outcome.DELIVERED, Outcome.STORED))
            assert transfer.key not in self.stage.broker.rendezvous.transfers, "the key is free before anybody is told"
        self.then()

    def cut(self, error: BeamError) -> None:
        assert self.returns, "it does not come back, so that nobody takes its place"
        assert self.was_cut is None and not self.left and not self.told
        self.left, self.left_at, self.was_cut = True, self.stage.now, error
        self.then()

    def was_held(self) -> bool:
        return self.held

    def moved(self) -> int:
        return self.transfer.spool.head

    def peer_gone(self) -> bool:
        assert self.lives and not self.left, "nobody asks for a sender that the transfer goes on without"
        return self.gone and not self.is_done

    def pauseProducing(self) -> None:
        assert not self.left, "it fills the spool no more"
        self.paused = True

    def resumeProducing(self) -> None:
        assert not self.left, "it fills the spool no more"
        self.paused = False

    def stopProducing(self) -> None:
        self.paused = True

    def check(self) -> None:
        """What holds at any time."""
        spool = self.transfer.spool
        if self.lives:
            assert spool.head == self.sent
            if not self.transfer.keeps:
                assert spool.head - spool.base <= WINDOW + HISTORY
        assert self.news.count(News.BEGUN) <= 1 and self.news.count(News.WHOLE) <= 1
        if News.LEFT in self.news and not self.transfer.keeps and not isinstance(self, Back):
            assert News.BEGUN in self.news[: self.news.index(News.LEFT)], "nobody leaves before it has begun"


class Back(Sender):
    """Another connection of ``first``, which goes on at ``offset``."""

    def __init__(self, first: Sender, offset: int) -> None:
        self.first = first
        self.offset = offset
        super().__init__(first.stage, first.key, 0, first.transfer.options, first.known)

    def admit(self, options: SendOptions, length: int | None) -> None:
        self.file, self.transfer = self.first.file, self.first.transfer
        self.stage.backs.append(self)
        try:
            self.stage.broker.resume(self.transfer, self, self.offset)
        except BeamError:
            self.stage.backs.remove(self)
            raise


@implementer(IReceiver, ISink)
class Receiver:
    """Takes what it is given: at once if ``eager``, else when ``take`` is called."""

    def __init__(self, stage: Stage, key: str, span: Span, eager: bool, company: int | None = None) -> None:
        self.stage = stage
        self.key = key
        self.span = span
        self.eager = eager
        self.peer = f"receiver-{len(stage.receivers)}"
        self.company = company
        self.waiting = True
        self.delivery: IDelivery | None = None
        self.got = bytearray()
        self.delivered: bool | None = None
        self.refused: BeamError | None = None
        self.was_cut: BeamError | None = None
        self.error: BeamError | None = None
        self.choice: BeamError | None = None  # what it raises when it is to choose
        self.sender: Sender | None = None
        self.then: Callable[[], object] = lambda: None  # what it does when it is over

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return not self.waiting and self.delivery is None

    def choose(self, transfer: Transfer) -> Span:
        assert not self.over
        if self.choice is not None:
            raise self.choice
        return self.span

    def serve(self, delivery: IDelivery) -> None:
        assert self.delivery is None and self.delivered is None and self.refused is None
        assert delivery.transfer.offer is not None, "nobody is served before it is known what"
        self.waiting = False
        self.delivery = delivery
        (self.sender,) = [each for each in self.stage.senders if each.transfer is delivery.transfer]
        assert delivery.transfer.key == self.key
        if self.span.stop == self.span.start:
            self._done(True)
        else:
            delivery.reader.attach(self)

    def refuse(self, error: BeamError) -> None:
        assert self.refused is None and self.delivery is None and self.delivered is None
        assert isinstance(error, BeamError)
        self.waiting = False
        self.refused = error
        self.then()

    def untaken(self) -> int:
        return 0

    def cut(self, error: BeamError) -> None:
        assert self.delivery is not None, "only one that is served can be cut"
        self.was_cut = error
        self._done(False)

    def _done(self, whole: bool) -> None:
        delivery, self.delivery = self.delivery, None
        assert delivery is not None
        self.delivered = whole
        delivery.done(whole)
        delivery.done(whole)  # may be said again
        self.then()

    def take(self, most: int = 1 << 30) -> int:
        """Take what is there; how many bytes."""
        taken = 0
        while self.delivery is not None and taken < most:
            assert self.sender is not None
            view = self.delivery.reader.peek()
            if self.span.look and self.span.stop is not None:
                view = view[: self.span.stop - self.span.start - len(self.got)]
            if not view:
                break
            piece = bytes(view[: most - taken])
            at = self.span.start + len(self.got)
            assert piece == self.sender.data[at : at + len(piece)], "these are another sender's bytes"
            self.got += piece
            taken += len(piece)
            self.delivery.reader.advance(len(piece))
            if self.span.look and self.delivery is not None and self.span.start + len(self.got) == self.span.stop:
                self._done(True)
        return taken

    def leave(self) -> None:
        """The connection breaks."""
        if self.waiting:
            self.waiting = False
            self.stage.broker.leave(self.key, self)
        elif self.delivery is not None:
            self._done(False)

    def bytes_available(self) -> None:
        assert self.delivery is not None
        if self.eager:
            self.take()

    def body_complete(self) -> None:
        assert self.delivery is not None and self.sender is not None
        assert self.sender.whole, "a clean end, and the body is not whole"
        assert bytes(self.got) == self.sender.data[self.span.start :]
        self._done(not self.span.look)

    def body_failed(self, error: BeamError) -> None:
        assert self.delivery is not None
        self.error = error
        self._done(False)

    def check(self) -> None:
        """What holds at any time."""
        if self.delivery is not None:
            spool, position = self.delivery.transfer.spool, self.delivery.reader.position
            assert position == self.span.start + len(self.got)
            if not self.span.look and self.delivery.transfer.outcome is None:
                assert spool.base <= position, "bytes that a receiver waits for were overwritten"
