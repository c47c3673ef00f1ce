"""How transfers begin: in which spool, and what of a former server goes on."""

from collections.abc import Callable
from math import inf

import pytest
from attrs import define, evolve, field
from twisted.internet.task import Clock
from unit.actors import POLICY, File, KeepingStore, KeptSpool, LastingSpool, Sender, Stage
from zope.interface import implementer

from beam.broker import Broker
from beam.errors import BeamError, OffsetDiffers, Outcome, StoreFailed, Unavailable
from beam.interfaces import IFound
from beam.making import Maker
from beam.options import SendOptions
from beam.quota import Quota
from beam.record import Record, decode
from beam.store.memory import MemoryStore, RingSpool
from beam.testing import some_bytes
from beam.transfer import Offer, State, Transfer

AWAY = 8.0
DATA = some_bytes(60)
RECORD = Record(
    scope="s",
    key="k",
    etag='"e"',
    created=17.5,
    options=SendOptions("disk", resume=AWAY),
    offer=Offer(60, "text/plain"),
    length=60,
    upload="u",
    notes={"metadata": "m"},
)


def a_maker(lasts: bool = False, failed: Callable[[Transfer, BeamError], None] = lambda *_: None) -> Maker:
    """One with a store that holds and one that keeps."""
    clock = Clock()
    clock.advance(5)
    stores = {"memory": MemoryStore(Quota(1 << 20), 64, 64), "disk": KeepingStore()}
    return Maker(clock, evolve(POLICY, lasts=lasts), stores, "s", failed)


def make(maker: Maker, options: SendOptions, in_pieces: bool = False) -> Transfer:
    """A transfer of 60 bytes."""
    return maker.make("k", options, 60, None, "u", {"metadata": "m"}, in_pieces)


@pytest.mark.parametrize("lasts", [True, False])
@pytest.mark.parametrize("resume", [None, AWAY])
@pytest.mark.parametrize("store", ["memory", "disk"])
def test_in_which_spool(store: str, resume: float | None, lasts: bool) -> None:
    """One that outlives the server if the operator or the sender wants it so, and the store can."""
    transfer = make(a_maker(lasts), SendOptions(store, resume=resume))
    kind = RingSpool if store == "memory" else LastingSpool if lasts or resume else KeptSpool
    assert transfer.spool.__class__.__name__ == kind.__name__
    assert transfer.keeps == (store == "disk")
    assert transfer.state is (State.STORING if transfer.keeps else State.WAITING)
    assert (transfer.key, transfer.upload, transfer.notes, transfer.length) == ("k", "u", {"metadata": "m"}, 60)
    assert transfer.started == 5 and transfer.created > 1e9 and not transfer.saved


@pytest.mark.parametrize("in_pieces", [True, False])
def test_in_pieces(in_pieces: bool) -> None:
    """Where it is asked for."""
    maker = a_maker()
    make(maker, SendOptions("disk", resume=AWAY), in_pieces)
    store = maker._stores["disk"]
    assert isinstance(store, KeepingStore) and store.log == ["pieces" if in_pieces else "lasting"]


def test_etags_differ() -> None:
    """From each other, and from those of another server."""
    maker = a_maker()
    tags = [make(each, SendOptions("memory")).etag for each in (maker, maker, a_maker())]
    assert len(set(tags)) == 3 and all(tag[0] == tag[-1] == '"' for tag in tags)


def test_what_a_spool_tells_and_asks() -> None:
    """It fails the transfer that it is of, and its record is that of the transfer as it is then."""
    failed: list[tuple[Transfer, BeamError]] = []
    maker = a_maker(failed=lambda *each: failed.append(each))
    transfer = make(maker, SendOptions("disk", resume=AWAY))
    transfer.offer, spool = Offer(), transfer.spool
    assert isinstance(spool, LastingSpool)
    assert not decode(spool.record()).whole
    transfer.is_whole = True
    record = decode(spool.record())
    assert record.whole and record.scope == "s" and record.etag == transfer.etag
    ears, _ = maker._ears(lambda: transfer)
    error = StoreFailed("broken")
    ears(error)
    assert failed == [(transfer, error)]


# What a former server left.


@implementer(IFound)
@define(eq=False)
class Found:
    """The first ``size`` bytes of a body.

    :ivar log: what was done with it.
    """

    stage: Stage
    size: int = 20
    age: float = 0.0
    refusal: BeamError | None = None
    record: bytes = b""
    log: list[str] = field(factory=list)
    lengths: list[int | None] = field(factory=list)

    def start(self, n: int) -> bytes:
        return DATA[: min(n, self.size)]

    def open(
        self, length: int | None, failed: Callable[[BeamError], None], record: Callable[[], bytes]
    ) -> LastingSpool:
        self.log.append("open")
        self.lengths.append(length)
        if self.refusal is not None:
            raise self.refusal
        spool = LastingSpool(self.stage.keeping, record)
        spool.bytes += DATA[: self.size]
        self.stage.keeping.quota.take(self.size)
        return spool

    def remove(self) -> None:
        self.log.append("remove")


class Former(Sender):
    """The sender of what was found: its connection broke when that server ended."""

    def __init__(self, stage: Stage, transfer: Transfer) -> None:
        self.transfer = transfer
        super().__init__(stage, transfer.key, 0, transfer.options, True)

    def admit(self, options: SendOptions, length: int | None) -> None:
        self.file = File(DATA, self.transfer.spool.head)
        self.left = True
        self.stage.senders.append(self)


def restored(stage: Stage, found: Found, record: Record = RECORD) -> Transfer:
    """What goes on."""
    stage.broker.restore(found, record, stage.keeping)
    (transfer,) = stage.broker.rendezvous.transfers.values()
    return transfer


def test_it_goes_on() -> None:
    """As the same file, for those who send and those who receive; it is saved already."""
    stage = Stage()
    found = Found(stage)
    transfer = restored(stage, found)
    assert found.log == ["open"] and found.lengths == [60]
    assert (transfer.key, transfer.etag, transfer.created, transfer.upload) == ("k", '"e"', 17.5, "u")
    assert (transfer.notes, transfer.offer, transfer.options) == (RECORD.notes, RECORD.offer, RECORD.options)
    assert (transfer.state, transfer.length, transfer.saved) == (State.STORING, 60, True)
    assert transfer.started == stage.now and not transfer.is_whole
    assert stage.broker.rendezvous.upload("u") is transfer
    spool = transfer.spool
    assert isinstance(spool, LastingSpool) and decode(spool.record()) == evolve(RECORD, scope="")
    stage.broker.stop()
    assert transfer.outcome is Outcome.SUSPENDED


def test_its_store_has_another_name() -> None:
    """The operator's of today counts."""
    stage = Stage()
    stage.broker.stores = {"renamed": stage.keeping}
    transfer = restored(stage, Found(stage))
    assert transfer.options == evolve(RECORD.options, store="renamed")
    stage.broker.stop()


@pytest.mark.parametrize("age", [0.0, 3.0, AWAY - 0.5])
def test_its_sender_has_the_rest_of_its_time(age: float) -> None:
    """That of the last byte counts, and goes on while no server runs."""
    stage = Stage()
    transfer = restored(stage, Found(stage, age=age))
    stage.clock.advance(AWAY - age - 0.25)
    assert stage.ended == []
    stage.clock.advance(0.25)
    assert transfer.outcome is Outcome.SENDER_LOST
    assert not stage.clock.getDelayedCalls() and stage.keeping.usage() == 0


@pytest.mark.parametrize("age", [AWAY, AWAY + 1, inf])
def test_its_time_was_over(age: float) -> None:
    """It is removed."""
    stage = Stage()
    found = Found(stage, age=age)
    stage.broker.restore(found, RECORD, stage.keeping)
    assert found.log == ["remove"] and not stage.broker.rendezvous.transfers


@pytest.mark.parametrize("whole", [True, False])
def test_its_key_is_taken(whole: bool) -> None:
    """Whoever has it keeps it."""
    stage = Stage()
    first = restored(stage, Found(stage))
    found = Found(stage, 60)
    stage.broker.restore(found, evolve(RECORD, etag='"other"', whole=whole), stage.keeping)
    assert found.log == ["remove"] and list(stage.broker.rendezvous.transfers.values()) == [first]
    stage.broker.stop()


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("resume", [AWAY, None])
def test_it_was_whole(told: bool, resume: float | None) -> None:
    """It is kept from now on, whatever its age; also if the server ended before it could say so."""
    if not told and resume is None:
        return
    stage = Stage()
    found = Found(stage, 60, age=1000.0 if told else 1.0)
    digests = {"sha-256": b"d"}
    record = evolve(RECORD, whole=told, digests=digests, options=SendOptions("disk", resume=resume))
    transfer = restored(stage, found, record)
    assert transfer.state is State.KEPT and transfer.is_whole and transfer.digests == digests
    assert stage.keeping.log[-1] == "finish"
    stage.clock.advance(POLICY.put_ttl - 0.5)
    assert stage.ended == []
    stage.clock.advance(0.5)
    assert transfer.outcome is Outcome.STORED and not stage.clock.getDelayedCalls()


def test_its_length_is_not_known() -> None:
    """Its sender goes on; nobody takes what is there for the whole."""
    stage = Stage()
    found = Found(stage)
    transfer = restored(stage, found, evolve(RECORD, length=None, offer=Offer()))
    assert found.lengths == [None] and transfer.length is None and transfer.state is State.STORING
    stage.broker.stop()


def test_nothing_of_it_had_come() -> None:
    """An upload of unknown length that has not begun is not whole."""
    stage = Stage()
    transfer = restored(stage, Found(stage, 0), evolve(RECORD, length=None))
    assert transfer.state is State.STORING
    stage.broker.stop()


def test_it_cannot_be_opened() -> None:
    """Nothing of it is here, and it stays where it is."""
    stage = Stage()
    found = Found(stage, refusal=Unavailable("no memory"))
    with pytest.raises(Unavailable):
        stage.broker.restore(found, RECORD, stage.keeping)
    assert found.log == ["open"] and not stage.broker.rendezvous.transfers
    assert not stage.broker.deadlines and not stage.clock.getDelayedCalls()


def test_a_broker_finds_its_own() -> None:
    """By its name, which is in every record."""
    stage = Stage()
    broker = Broker(stage.clock, POLICY, {"disk": stage.keeping}, "mine")
    transfer = broker.send("k", SendOptions("disk", resume=AWAY), 60, None)
    broker.offer(transfer, Offer())
    broker.save(transfer)
    assert decode(stage.keeping.records[-1]).scope == "mine"
    broker.stop()


def test_it_is_received_and_gone_on_with() -> None:
    """Whoever comes has what was there, and then the rest; the sender hears that it is kept."""
    stage = Stage()
    sender = Former(stage, restored(stage, Found(stage)))
    stage.check()
    receiver = stage.receive()
    assert bytes(receiver.got) == DATA[:20]
    with pytest.raises(OffsetDiffers, match="goes on at 20"):
        stage.come_back(sender, 0)
    stage.wait(AWAY - 1)
    back = stage.come_back(sender)
    back.send()
    stage.wait(2)
    back.finish()
    assert back.told == 1 and sender.transfer.state is State.KEPT
    assert receiver.delivered and bytes(receiver.got) == DATA
    stage.wait(60)
    stage.check_empty()
