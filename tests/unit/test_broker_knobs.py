"""What becomes of a transfer where the operator has turned a knob, story by story."""

from collections.abc import Callable

import pytest
from attrs import evolve
from unit.actors import POLICY, Receiver, Sender, Stage

from beam.errors import (
    BeamError,
    Claimed,
    Established,
    KeyInUse,
    NotFound,
    Outcome,
    ReceiversDiffer,
    Replaced,
    TooLarge,
    TooManyReceivers,
)
from beam.options import SendOptions
from beam.peers import News
from beam.policy import Reply, Rival
from beam.rendezvous import CLAIMED_FOR
from beam.transfer import Span, State

CAME, BEGUN, WHOLE, LEFT = News.CAME, News.BEGUN, News.WHOLE, News.LEFT
REPLACING = evolve(POLICY, rival=Rival.REPLACES)
BUFFERING = evolve(POLICY, rival=Rival.REPLACES, reply=Reply.BUFFERED, claims=True)


def exactly(readers: int, wait: float = POLICY.put_wait) -> SendOptions:
    """Options of a send to ``readers`` and to nobody else."""
    return SendOptions("memory", readers=readers, exact=True, wait=wait)


def delivered(sender: Sender, receiver: Receiver) -> bool:
    """Whether ``receiver`` has all of what ``sender`` sent, and knows it."""
    return receiver.delivered is True and bytes(receiver.got) == sender.data


def send_all(sender: Sender) -> None:
    """Everything, and the end."""
    sender.send()
    sender.finish()


# As many receivers as were asked for, and none after them.


@pytest.mark.parametrize("readers", [1, 2, 3])
@pytest.mark.parametrize("first", ["sender", "receivers"])
def test_exactly_so_many(readers: int, first: str) -> None:
    """They start together, in either order; one more is refused at once and disturbs nobody."""
    stage = Stage()
    if first == "sender":
        sender = stage.offer(n=500, options=exactly(readers))
    receivers = [stage.receive() for _ in range(readers)]
    if first == "receivers":
        sender = stage.offer(n=500, options=exactly(readers))
    assert all(receiver.delivery is not None for receiver in receivers)
    with pytest.raises(Established):
        stage.receive()
    stage.check()
    send_all(sender)
    assert all(delivered(sender, receiver) for receiver in receivers)
    assert (sender.transfer.deliveries, sender.transfer.left) == (readers, 0)
    with pytest.raises(NotFound):
        stage.receive(wait=0)
    stage.check_empty()


@pytest.mark.parametrize("readers", [1, 2])
def test_more_wait_than_were_asked_for(readers: int) -> None:
    """The first ones are served; the surplus hears that everybody is there."""
    stage = Stage()
    receivers = [stage.receive() for _ in range(readers + 2)]
    sender = stage.offer(options=exactly(readers))
    send_all(sender)
    assert [delivered(sender, each) for each in receivers] == [True] * readers + [False] * 2
    assert all(isinstance(each.refused, Established) for each in receivers[readers:])
    stage.check_empty()


def test_the_surplus_asks_again_at_once() -> None:
    """It is refused once more, and nobody is served twice."""
    stage = Stage()
    first, late = stage.receive(), stage.receive()
    again: list[BeamError] = []

    def ask_again() -> None:
        with pytest.raises(BeamError) as caught:
            stage.receive()
        again.append(caught.value)

    late.then = ask_again
    sender = stage.offer(options=exactly(1))
    assert [type(each) for each in again] == [Established]
    send_all(sender)
    assert delivered(sender, first) and sender.transfer.deliveries == 1
    stage.check_empty()


def test_one_that_leaves_while_they_gather() -> None:
    """It counts no more, and its place is free."""
    stage = Stage()
    sender = stage.offer(options=exactly(2))
    stage.receive().leave()
    one = stage.receive()
    assert one.waiting
    two = stage.receive()
    send_all(sender)
    assert delivered(sender, one) and delivered(sender, two)
    stage.check_empty()


@pytest.mark.parametrize("n", [100, 500], ids=["whole", "coming"])
def test_the_only_one_leaves_and_comes_back(n: int) -> None:
    """The place that it left is its own for a while; once it is taken, nobody else may come."""
    stage = Stage()
    receiver = stage.receive(eager=False)
    sender = stage.offer(n=n, options=exactly(1))
    sender.send()
    receiver.take(20)
    receiver.leave()
    again = stage.receive(span=Span(20))
    with pytest.raises(Established):
        stage.receive()
    send_all(sender)
    assert bytes(receiver.got + again.got) == sender.data
    assert (sender.transfer.deliveries, sender.transfer.left) == (1, 0)
    stage.check_empty()


def test_one_of_two_leaves_and_wants_to_come_back() -> None:
    """As long as the other is served nobody may join; the other is not disturbed."""
    stage = Stage()
    staying, leaving = stage.receive(), stage.receive(eager=False)
    sender = stage.offer(n=500, options=exactly(2))
    sender.send()
    leaving.take(10)
    leaving.leave()
    with pytest.raises(Established):
        stage.receive(span=Span(10))
    send_all(sender)
    assert delivered(sender, staying)
    assert (sender.transfer.deliveries, sender.transfer.left) == (1, 1)
    stage.check_empty()


def test_a_look_is_none_of_them() -> None:
    """It takes nobody's place before they are there, and is refused like everybody else afterwards."""
    stage = Stage()
    sender = stage.offer(options=exactly(1))
    sender.send()
    look = stage.receive(span=Span(0, 10, look=True))
    assert look.delivered and sender.transfer.state is State.WAITING
    receiver = stage.receive()
    with pytest.raises(Established):
        stage.receive(span=Span(0, 10, look=True))
    sender.finish()
    assert delivered(sender, receiver)
    stage.check_empty()


def test_too_few_of_them() -> None:
    """The sender's time is over, and those who wait go on waiting for another."""
    stage = Stage()
    sender = stage.offer(options=exactly(2, wait=7))
    receiver = stage.receive(wait=9)
    stage.wait(7)
    assert stage.outcomes() == [Outcome.EXPIRED] and receiver.waiting
    sender = stage.offer(options=exactly(1))
    send_all(sender)
    assert delivered(sender, receiver)
    stage.check_empty()


# A company: receivers that say how many they are to be.


def test_a_company_gathers() -> None:
    """Sender and receivers agree on their number, whoever comes first."""
    stage = Stage()
    one = stage.receive(company=2)
    with pytest.raises(ReceiversDiffer):
        stage.receive(company=3)
    with pytest.raises(ReceiversDiffer):
        stage.send(options=exactly(3))
    sender = stage.offer(options=exactly(2))
    with pytest.raises(ReceiversDiffer):
        stage.receive(company=1)
    two = stage.receive(company=2)
    send_all(sender)
    assert delivered(sender, one) and delivered(sender, two)
    stage.check_empty()


def test_a_company_is_complete() -> None:
    """One more is refused while they wait; who leaves makes room."""
    stage = Stage()
    one, two = stage.receive(company=2), stage.receive(company=2)
    with pytest.raises(TooManyReceivers):
        stage.receive(company=2)
    one.leave()
    three = stage.receive(company=2)
    sender = stage.offer(options=exactly(2))
    send_all(sender)
    assert delivered(sender, two) and delivered(sender, three)
    stage.check_empty()


# A sender that takes the place of another.


@pytest.mark.parametrize("sent", [0, 50, 100], ids=["nothing", "half", "whole"])
def test_a_sender_is_replaced(sent: int) -> None:
    """It hears so, once; whoever comes gets what the new one sends."""
    stage = Stage(REPLACING)
    old = stage.offer()
    old.send(sent)
    if sent == 100:
        old.finish()
    new = stage.offer(n=70)
    assert isinstance(old.transfer.error, Replaced) and old.told == 1
    assert stage.outcomes() == [Outcome.CANCELLED]
    stage.check()
    receiver = stage.receive()
    send_all(new)
    assert delivered(new, receiver)
    stage.check_empty()


def test_a_sender_that_is_served_is_not_replaced() -> None:
    """Neither while its receiver takes, nor while that one may come back."""
    stage = Stage(REPLACING)
    receiver = stage.receive(eager=False)
    sender = stage.offer(n=500)
    sender.send()
    receiver.take(10)
    with pytest.raises(KeyInUse):
        stage.send()
    receiver.leave()
    with pytest.raises(KeyInUse):
        stage.send()
    again = stage.receive(span=Span(10))
    send_all(sender)
    assert bytes(receiver.got + again.got) == sender.data
    stage.check_empty()


def test_a_kept_file_is_not_replaced() -> None:
    """What a store keeps has its key until its time is over."""
    stage = Stage(REPLACING)
    stage.store()
    with pytest.raises(KeyInUse):
        stage.send()
    stage.wait(POLICY.put_ttl)
    stage.send().leave()
    stage.check_empty()


@pytest.mark.parametrize("reason", ["too large", "no receiver"])
def test_nobody_is_replaced_by_one_that_is_refused(reason: str) -> None:
    """Who cannot send takes no place."""
    stage = Stage(evolve(REPLACING, max_pipe_size=200))
    old = stage.offer(n=100)
    options = SendOptions("memory", wait=0 if reason == "no receiver" else 5)
    with pytest.raises(TooLarge if reason == "too large" else BeamError):
        stage.send(n=201 if reason == "too large" else 100, options=options)
    receiver = stage.receive()
    send_all(old)
    assert delivered(old, receiver)
    stage.check_empty()


def test_a_replaced_sender_sends_again_at_once() -> None:
    """Its next one is replaced in turn: the newest has the key, and each is told once."""
    stage = Stage(REPLACING)
    old, again = stage.offer(), list[Sender]()
    old.then = lambda: again.append(stage.offer(n=50))
    new = stage.offer(n=70)
    assert [isinstance(each.transfer.error, Replaced) for each in (old, *again, new)] == [True, True, False]
    stage.check()
    receiver = stage.receive()
    send_all(new)
    assert delivered(new, receiver)
    stage.check_empty()


def test_receivers_wait_on_when_their_sender_is_replaced() -> None:
    """They are served by the new one, as soon as that has all it asked for."""
    stage = Stage(REPLACING)
    one = stage.receive(wait=3)
    stage.offer(options=exactly(2))
    stage.wait(5)
    new = stage.offer(n=70, options=exactly(2))
    stage.wait(5)
    assert one.waiting
    two = stage.receive()
    send_all(new)
    assert delivered(new, one) and delivered(new, two)
    stage.check_empty()


# A sender that hears of it when its last byte is in the store.


def test_a_sender_is_told_when_its_body_is_buffered() -> None:
    """It may leave then; the file waits for its receiver."""
    stage = Stage(BUFFERING)
    sender = stage.offer()
    sender.send()
    assert sender.told == 0
    sender.finish()
    assert (sender.told, sender.transfer.state) == (1, State.HELD)
    sender.gone = True
    stage.wait(POLICY.put_wait - 1)
    assert delivered(sender, stage.receive())
    assert stage.outcomes() == [Outcome.DELIVERED]
    assert sender.told == 1
    stage.check_empty()


def test_a_buffered_file_expires() -> None:
    """Its time runs from the start of the send; nobody is told a second time."""
    stage = Stage(BUFFERING)
    sender = stage.store_held()
    stage.wait(POLICY.put_wait)
    assert stage.outcomes() == [Outcome.EXPIRED] and sender.told == 1
    with pytest.raises(NotFound):
        stage.receive(wait=0)
    stage.check_empty()


def test_a_sender_lost_before_its_body_is_buffered() -> None:
    """What is not whole is not buffered, whoever is receiving it."""
    stage = Stage(BUFFERING)
    receiver = stage.receive()
    sender = stage.offer()
    sender.send(60)
    sender.leave()
    assert receiver.delivered is False and stage.outcomes() == [Outcome.SENDER_LOST]
    stage.check_empty()


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_receiver_lost_behind_the_answer(comes_back: bool) -> None:
    """It may come back for a while; if it does not, the transfer ends without a second answer."""
    stage = Stage(BUFFERING)
    sender = stage.store_held()
    sender.gone = True
    receiver = stage.receive(eager=False)
    receiver.take(40)
    receiver.leave()
    assert sender.transfer.state is State.STRANDED
    stage.wait(POLICY.resume_timeout - 1)
    if comes_back:
        assert bytes(receiver.got + stage.receive(span=Span(40)).got) == sender.data
    stage.wait(1)
    assert stage.outcomes() == [Outcome.DELIVERED if comes_back else Outcome.RECEIVER_LOST]
    assert sender.told == 1
    stage.check_empty()


def test_a_receiver_that_is_served_when_the_sender_is_told() -> None:
    """A slow one does not keep the sender."""
    stage = Stage(BUFFERING)
    slow = stage.receive(eager=False)
    sender = stage.offer(n=50)
    send_all(sender)
    assert sender.told == 1 and sender.lives
    sender.gone = True
    for _ in range(50):
        stage.wait(1)
        slow.take(1)
    assert delivered(sender, slow) and stage.outcomes() == [Outcome.DELIVERED]
    stage.check_empty()


def test_a_buffered_file_is_replaced() -> None:
    """Nobody has come for it: the newer one takes its place, and the older sender hears nothing more."""
    stage = Stage(BUFFERING)
    old, new = stage.store_held(), stage.store_held(n=70)
    assert isinstance(old.transfer.error, Replaced) and old.told == 1
    assert delivered(new, stage.receive())
    stage.check_empty()


def test_a_sender_that_is_told_sends_again_at_once() -> None:
    """What it has just sent is replaced by what comes next; only that is delivered."""
    stage = Stage(BUFFERING)
    first, again = stage.offer(), list[Sender]()
    first.then = lambda: again.append(stage.offer(n=70))
    send_all(first)
    assert isinstance(first.transfer.error, Replaced) and first.told == 1
    stage.check()
    send_all(again[0])
    assert delivered(again[0], stage.receive())
    stage.check_empty()


# A receiver that takes the file to an address of its own.


@pytest.mark.parametrize("sent", [0, 50, 100], ids=["nothing", "half", "whole"])
def test_a_file_is_claimed(sent: int) -> None:
    """It is served at its new address only; under its key somebody else may send."""
    stage = Stage(BUFFERING)
    sender = stage.offer()
    sender.send(sent)
    if sent == 100:
        sender.finish()
    address = stage.claim(sender)
    stage.check()
    with pytest.raises(Claimed):
        stage.receive(wait=0)
    receiver = stage.receive(address, wait=0)
    if sent < 100:
        send_all(sender)
    assert delivered(sender, receiver) and sender.told == 1
    for key, error in (("k", Claimed), (address, NotFound)):
        with pytest.raises(error):
            stage.receive(key, wait=0)
    stage.check_empty()


def test_a_claim_is_remembered_for_an_hour() -> None:
    """Then the key is as if nothing had been there."""
    stage = Stage(BUFFERING)
    sender = stage.store_held()
    stage.wait(5)
    assert stage.receive(stage.claim(sender)).delivered
    stage.stall(CLAIMED_FOR - 1)
    with pytest.raises(Claimed):
        stage.receive(wait=0)
    stage.stall(1)
    with pytest.raises(NotFound):
        stage.receive(wait=0)
    stage.check_empty()


def test_a_claimed_file_that_nobody_fetches() -> None:
    """It expires when it would have without the claim, and its key says that it was claimed."""
    stage = Stage(BUFFERING)
    sender = stage.store_held()
    stage.wait(POLICY.put_wait - 5)
    address = stage.claim(sender)
    stage.wait(4.5)
    assert sender.lives
    stage.wait(0.5)
    assert stage.outcomes() == [Outcome.EXPIRED] and sender.told == 1
    for key, error in (("k", Claimed), (address, NotFound)):
        with pytest.raises(error):
            stage.receive(key, wait=0)
    stage.check_empty()


def test_a_key_whose_file_was_claimed_is_free() -> None:
    """The next file under it is another transfer, which replaces nobody and may be claimed in turn."""
    stage = Stage(BUFFERING)
    old = stage.store_held()
    old_address = stage.claim(old)
    new = stage.store_held(n=70)
    assert old.lives and new.lives
    new_address = stage.claim(new)
    stage.check()
    assert delivered(old, stage.receive(old_address)) and delivered(new, stage.receive(new_address))
    stage.check_empty()


@pytest.mark.parametrize("end", [Sender.leave, Sender.fill_disk], ids=["lost", "disk full"])
def test_a_claimed_file_whose_sender_fails(end: Callable[[Sender], None]) -> None:
    """Its receiver is cut; the key and the address are free, and the one remembers the claim."""
    stage = Stage(BUFFERING)
    sender = stage.offer()
    address = stage.claim(sender)
    receiver = stage.receive(address)
    sender.send(60)
    end(sender)
    assert receiver.delivered is False and sender.told == 1
    with pytest.raises(Claimed):
        stage.receive(wait=0)
    with pytest.raises(NotFound):
        stage.receive(address, wait=0)
    stage.check_empty()


def test_a_form_is_claimed_before_its_file_has_begun() -> None:
    """Its receiver waits at the address for what comes, and nobody at the key gets it."""
    stage = Stage(BUFFERING)
    sender = stage.send()
    waiting = stage.receive(wait=3)
    receiver = stage.receive(stage.claim(sender), wait=0)
    stage.check()
    stage.wait(3)
    assert isinstance(waiting.refused, NotFound) and receiver.waiting
    sender.offer()
    send_all(sender)
    assert delivered(sender, receiver)
    stage.check_empty()


def test_those_who_wait_when_a_file_is_claimed() -> None:
    """The file has gone without them: they wait for as long as they said, and not for ever."""
    stage = Stage(BUFFERING)
    sender = stage.offer(options=exactly(2))
    receiver = stage.receive(wait=3)
    address = stage.claim(sender)
    stage.check()
    stage.wait(3)
    assert isinstance(receiver.refused, BeamError)
    one, two = stage.receive(address), stage.receive(address)
    send_all(sender)
    assert delivered(sender, one) and delivered(sender, two)
    stage.check_empty()


# What a sender hears while its transfer lasts.


Step = Callable[[Stage, Sender], object]


def comes(stage: Stage, sender: Sender) -> object:
    """A receiver that takes what there is."""
    return stage.receive()


def idles(stage: Stage, sender: Sender) -> object:
    """A receiver that takes nothing."""
    return stage.receive(eager=False)


def leaves(stage: Stage, sender: Sender) -> None:
    """The receiver that came last."""
    stage.receivers[-1].leave()


def comes_back(stage: Stage, sender: Sender) -> object:
    """A receiver that has the first byte."""
    return stage.receive(span=Span(1))


def sends(stage: Stage, sender: Sender) -> None:
    """Everything, and the end."""
    send_all(sender)


@pytest.mark.parametrize(
    ("readers", "there", "steps", "news"),
    [
        (1, 0, [comes, sends], [CAME, BEGUN, WHOLE]),
        (1, 1, [sends], [BEGUN, WHOLE]),
        (1, 0, [sends, comes], [WHOLE, CAME, BEGUN]),
        (2, 0, [comes, comes, sends], [CAME, CAME, BEGUN, WHOLE]),
        (2, 1, [comes, sends], [CAME, BEGUN, WHOLE]),
        (2, 2, [sends], [BEGUN, WHOLE]),
        (2, 1, [sends, comes], [WHOLE, CAME, BEGUN]),
        (2, 1, [idles, leaves, sends], [CAME, BEGUN, LEFT, WHOLE]),
        (2, 1, [idles, sends, leaves], [CAME, BEGUN, WHOLE, LEFT]),
        (2, 0, [idles, leaves, comes, comes, sends], [CAME, CAME, CAME, BEGUN, WHOLE]),
        (1, 0, [idles, leaves, comes_back, sends], [CAME, BEGUN, LEFT, CAME, WHOLE]),
    ],
)
def test_news(readers: int, there: int, steps: list[Step], news: list[News]) -> None:
    """In the order in which it happens, and nothing behind the answer; of those who were there first nobody tells."""
    stage = Stage()
    for _ in range(there):
        stage.receive()
    sender = stage.offer(n=50, options=exactly(readers))
    for step in steps:
        assert sender.told == 0
        step(stage, sender)
        stage.check()
    assert (sender.told, sender.news) == (1, news)
    stage.check_empty()


def test_no_news_behind_the_answer() -> None:
    """Who was told when its body was buffered hears nothing of its receivers."""
    stage = Stage(BUFFERING)
    sender = stage.store_held()
    assert sender.news == [WHOLE]
    receiver = stage.receive(eager=False)
    receiver.leave()
    assert stage.receive().delivered
    assert (sender.told, sender.news) == (1, [WHOLE])
    stage.check_empty()


def test_news_of_a_look() -> None:
    """Somebody came; nothing has begun by that, and nobody has left when it is over."""
    stage = Stage()
    sender = stage.offer()
    stage.receive(span=Span(0, 1, look=True), eager=False).leave()
    assert sender.news == [CAME]
    sender.leave()
    stage.check_empty()
