"""Where senders and receivers meet: one transfer a key, and bounded queues."""

from types import SimpleNamespace
from typing import cast

import pytest
from attrs import define

from beam.deadlines import Deadline
from beam.errors import (
    BeamError,
    Claimed,
    Established,
    KeyInUse,
    NotFound,
    Outcome,
    ReceiversDiffer,
    TooManyReceivers,
    Unavailable,
    Underway,
)
from beam.interfaces import ISpool
from beam.options import SendOptions
from beam.peers import IReceiver
from beam.policy import Policy, Rival
from beam.rendezvous import BROKEN_FOR, CLAIMED_FOR, REMEMBERED, Rendezvous, Waiting
from beam.transfer import State, Transfer


def a_transfer(
    key: str = "k", started: float = 0.0, state: State = State.WAITING, options: SendOptions | None = None
) -> Transfer:
    """A transfer of nobody under ``key``."""
    return Transfer(
        key=key,
        options=options or SendOptions(),
        etag='"e"',
        started=started,
        state=state,
        spool=cast(ISpool, None),
        keeps=False,
    )


def wait(rendezvous: Rendezvous, key: str, receiver: IReceiver) -> Waiting:
    """``receiver`` waits a second."""
    waiting = Waiting(1.0, Deadline(lambda now: None))
    rendezvous.wait(key, receiver, waiting)
    return waiting


def receivers(n: int) -> list[IReceiver]:
    """``n`` of them; who they are does not matter here."""
    return [cast(IReceiver, object()) for _ in range(n)]


def test_one_transfer_a_key() -> None:
    """The second sender is refused until the first has ended."""
    rendezvous = Rendezvous(Policy())
    first, second = a_transfer(), a_transfer()
    assert rendezvous.admit("k", SendOptions()) is None
    rendezvous.begin(first)
    with pytest.raises(KeyInUse):
        rendezvous.admit("k", SendOptions())
    assert rendezvous.transfers == {"k": first}
    assert rendezvous.admit("other", SendOptions()) is None
    rendezvous.end(first, 1.0)
    rendezvous.begin(second)
    assert rendezvous.transfers == {"k": second}


def test_an_old_transfer_cannot_free_the_key_of_a_new_one() -> None:
    """Whoever ends twice, ends once."""
    rendezvous = Rendezvous(Policy())
    old, new = a_transfer(), a_transfer()
    rendezvous.begin(old)
    rendezvous.end(old, 1.0)
    rendezvous.begin(new)
    rendezvous.end(old, 2.0)
    assert rendezvous.transfers == {"k": new}


def test_receivers_wait_in_the_order_in_which_they_came() -> None:
    """And are forgotten one by one, without a trace."""
    rendezvous = Rendezvous(Policy())
    first, second, other, stranger = receivers(4)
    waits = [wait(rendezvous, key, receiver) for key, receiver in (("k", first), ("k", second), ("other", other))]
    assert list(rendezvous.waiting["k"]) == [first, second]
    assert rendezvous.waiters == 3
    assert rendezvous.forget("k", stranger) is rendezvous.forget("nothing", first) is None
    assert rendezvous.waiters == 3
    assert rendezvous.forget("k", first) is waits[0]
    assert rendezvous.forget("k", first) is None
    assert rendezvous.forget("k", second) is waits[1]
    assert rendezvous.forget("other", other) is waits[2]
    assert (rendezvous.waiters, rendezvous.waiting) == (0, {})


def test_a_key_has_only_so_many_waiters() -> None:
    """Above the limit of a key: 503, and no trace of the one refused."""
    rendezvous = Rendezvous(Policy(max_waiting_per_key=2))
    first, second, third = receivers(3)
    wait(rendezvous, "k", first)
    wait(rendezvous, "k", second)
    with pytest.raises(Unavailable):
        wait(rendezvous, "k", third)
    assert (rendezvous.waiters, len(rendezvous.waiting["k"])) == (2, 2)
    wait(rendezvous, "other", third)
    rendezvous.forget("k", first)
    wait(rendezvous, "k", first)


def test_all_keys_have_only_so_many_waiters() -> None:
    """Above the limit of all: 503, and no key appears."""
    rendezvous = Rendezvous(Policy(max_waiting=3))
    for i, receiver in enumerate(receivers(3)):
        wait(rendezvous, str(i), receiver)
    (late,) = receivers(1)
    with pytest.raises(Unavailable):
        wait(rendezvous, "k", late)
    assert "k" not in rendezvous.waiting
    assert rendezvous.waiters == 3


def ended(rendezvous: Rendezvous, key: str, now: float, left: int = 0, receiving: int = 0) -> None:
    """A transfer under ``key`` that has ended at ``now``."""
    transfer = a_transfer(key, now - 1)
    rendezvous.begin(transfer)
    transfer.left, transfer.receiving, transfer.outcome = left, receiving, Outcome.SENDER_LOST
    rendezvous.end(transfer, now)


@pytest.mark.parametrize(("left", "receiving", "mistrusted"), [(0, 0, False), (1, 0, True), (0, 1, True)])
def test_a_resume_behind_a_broken_transfer_is_mistrusted(left: int, receiving: int, mistrusted: bool) -> None:
    """If some receiver has a part only, whatever comes under the key for five minutes may be another file."""
    rendezvous = Rendezvous(Policy())
    ended(rendezvous, "k", 10.0, left, receiving)
    assert rendezvous.mistrusted(a_transfer("k", 11.0)) is mistrusted
    assert rendezvous.mistrusted(a_transfer("k", 10.0 + BROKEN_FOR - 0.01)) is mistrusted
    assert not rendezvous.mistrusted(a_transfer("k", 10.0 + BROKEN_FOR))
    assert not rendezvous.mistrusted(a_transfer("other", 11.0))


def test_broken_keys_cannot_fill_the_memory() -> None:
    """The oldest is forgotten first; one that breaks again counts as new."""
    rendezvous = Rendezvous(Policy())
    for i in range(REMEMBERED):
        ended(rendezvous, str(i), 10.0, left=1)
    ended(rendezvous, "0", 11.0, left=1)
    ended(rendezvous, "last", 12.0, left=1)
    assert rendezvous.mistrusted(a_transfer("0", 13.0))
    assert not rendezvous.mistrusted(a_transfer("1", 13.0))
    assert rendezvous.mistrusted(a_transfer("2", 13.0))
    assert rendezvous.mistrusted(a_transfer("last", 13.0))


# Who may meet whom.


@define(eq=False)
class Guest:
    """A receiver of which only the size of its company matters."""

    company: int | None


def guest(company: int | None) -> IReceiver:
    """A receiver that says how many they are to be, or nothing."""
    return cast(IReceiver, Guest(company))


def exactly(readers: int) -> SendOptions:
    """Options of a send to ``readers`` and to nobody else."""
    return SendOptions(readers=readers, exact=True)


def meeting(
    policy: Policy, state: State | None, options: SendOptions, companies: tuple[int | None, ...]
) -> tuple[Rendezvous, Transfer | None]:
    """A rendezvous with a transfer in ``state`` under the key, if in one, and with those who wait for it."""
    rendezvous = Rendezvous(policy)
    transfer = None if state is None else a_transfer(state=state, options=options)
    if transfer is not None:
        rendezvous.begin(transfer)
    for company in companies:
        wait(rendezvous, "k", guest(company))
    return rendezvous, transfer


BUSY = [State.FLOWING, State.ENDING]
LEFT = [State.FORSAKEN, State.STRANDED]
ALONE = [State.WAITING, State.HELD]
KEEPING = [State.STORING, State.KEPT]


@pytest.mark.parametrize("rival", list(Rival))
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("state", list(State))
def test_a_second_sender(rival: Rival, exact: bool, state: State) -> None:
    """It is told that everybody is there before it is told that the key is in use; it replaces only one that is alone.

    Those who wait are asked last.
    """
    rendezvous, transfer = meeting(Policy(rival=rival), state, SendOptions(exact=exact), (3,))
    expected: type[BeamError] = KeyInUse
    if exact and state in BUSY:
        expected = Underway
    elif rival is Rival.REPLACES and state in ALONE:
        expected = ReceiversDiffer
    with pytest.raises(expected) as caught:
        rendezvous.admit("k", exactly(2))
    assert type(caught.value) is expected
    if expected is ReceiversDiffer:
        assert rendezvous.admit("k", exactly(3)) is transfer
    assert rendezvous.transfers == {"k": transfer}, "to ask changes nothing"


@pytest.mark.parametrize(
    ("options", "companies", "differs"),
    [
        (exactly(1), (1,), None),
        (exactly(2), (2, 2), None),
        (exactly(2), (None, None, None), None),
        (exactly(2), (None, 2), None),
        (SendOptions(exact=True), (1,), None),
        (SendOptions(exact=True), (2,), "2 but 1"),
        (exactly(1), (2,), "2 but 1"),
        (exactly(3), (None, 2), "2 but 3"),
        (SendOptions(readers=3), (2,), None),
    ],
)
def test_a_sender_and_a_company(options: SendOptions, companies: tuple[int | None, ...], differs: str | None) -> None:
    """An exact sender has to want as many as those who wait say they are; who says nothing agrees with all."""
    rendezvous, _ = meeting(Policy(), None, options, companies)
    if differs is None:
        assert rendezvous.admit("k", options) is None
    else:
        with pytest.raises(ReceiversDiffer, match=f"should be {differs}"):
            rendezvous.admit("k", options)


@pytest.mark.parametrize("company", [None, 1, 2])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("state", list(State))
def test_a_receiver_of_a_transfer(company: int | None, exact: bool, state: State) -> None:
    """While an exact transfer is served nobody joins it; else it is the company that has to be of the right size."""
    rendezvous, _ = meeting(Policy(), state, SendOptions(exact=exact), ())
    if exact and state in BUSY:
        expected: type[BeamError] | None = Established
    else:
        expected = ReceiversDiffer if company == 2 else None
    if expected is None:
        rendezvous.greet("k", guest(company))
    else:
        with pytest.raises(expected):
            rendezvous.greet("k", guest(company))


@pytest.mark.parametrize(
    ("needed", "companies", "company", "refusal"),
    [
        (None, (), 1, None),
        (None, (), 7, None),
        (None, (), None, None),
        (None, (2,), 2, None),
        (None, (2,), 3, ReceiversDiffer),
        (None, (2, 2), 2, TooManyReceivers),
        (None, (2, 2), 3, ReceiversDiffer),
        (None, (2, 2), None, None),
        (None, (None,), 2, None),
        (None, (None, 2), 2, TooManyReceivers),
        (None, (None, 2), 3, ReceiversDiffer),
        (None, (None,), 1, TooManyReceivers),
        (2, (), 2, None),
        (2, (), 1, ReceiversDiffer),
        (2, (2,), 2, None),
        (2, (2, 2), 2, TooManyReceivers),
        (2, (2, 2), 1, ReceiversDiffer),
        (3, (2,), 2, ReceiversDiffer),
        (3, (2,), 3, None),
    ],
)
def test_a_receiver_and_its_company(
    needed: int | None, companies: tuple[int | None, ...], company: int | None, refusal: type[BeamError] | None
) -> None:
    """The sender says how many they are, else the first that does; a wrong number is told before one too many."""
    rendezvous, _ = meeting(Policy(), None if needed is None else State.WAITING, exactly(needed or 1), companies)
    before = rendezvous.waiters
    if refusal is None:
        rendezvous.greet("k", guest(company))
    else:
        with pytest.raises(refusal):
            rendezvous.greet("k", guest(company))
    assert rendezvous.waiters == before, "to ask is not to wait"


def test_a_company_of_another_key() -> None:
    """Who waits elsewhere is none of it."""
    rendezvous, _ = meeting(Policy(), None, exactly(1), (2, 2))
    rendezvous.greet("other", guest(1))
    assert rendezvous.admit("other", exactly(5)) is None


# What was claimed.


def claimed(rendezvous: Rendezvous, key: str, address: str, now: float) -> Transfer:
    """A transfer under ``key`` that a receiver takes to ``address``."""
    transfer = a_transfer(key)
    rendezvous.begin(transfer)
    rendezvous.move(transfer, address, now)
    return transfer


def test_a_claimed_transfer_is_at_its_address() -> None:
    """And at no other; when it ends, the address is free, and its key still tells."""
    rendezvous = Rendezvous(Policy())
    transfer = claimed(rendezvous, "k", "secret", 10.0)
    assert rendezvous.transfers == {"secret": transfer}
    assert (transfer.key, transfer.claimed_at) == ("secret", "k")
    assert rendezvous.claimed("k", 10.0) is transfer
    assert rendezvous.claimed("secret", 10.0) is None
    rendezvous.end(transfer, 20.0)
    assert rendezvous.transfers == {}
    assert rendezvous.claimed("k", 20.0) is transfer


@pytest.mark.parametrize(
    ("key", "age", "error"),
    [
        ("k", 0.0, Claimed),
        ("k", CLAIMED_FOR - 0.01, Claimed),
        ("k", CLAIMED_FOR, NotFound),
        ("secret", 0.0, NotFound),
        ("other", 0.0, NotFound),
    ],
)
def test_why_there_is_nothing(key: str, age: float, error: type[BeamError]) -> None:
    """For an hour a key tells that its file was claimed."""
    rendezvous = Rendezvous(Policy())
    rendezvous.end(claimed(rendezvous, "k", "secret", 10.0), 11.0)
    assert type(rendezvous.nothing(key, 10.0 + age)) is error


def test_a_new_transfer_under_a_claimed_key() -> None:
    """What was claimed there is forgotten, and its end does not touch the new one."""
    rendezvous = Rendezvous(Policy())
    old, new = claimed(rendezvous, "k", "secret", 10.0), a_transfer()
    assert rendezvous.admit("k", SendOptions()) is None
    rendezvous.begin(new)
    assert rendezvous.claimed("k", 11.0) is None
    assert rendezvous.transfers == {"k": new, "secret": old}
    rendezvous.end(old, 12.0)
    assert rendezvous.transfers == {"k": new}
    rendezvous.end(new, 13.0)
    assert type(rendezvous.nothing("k", 13.0)) is NotFound


def test_a_key_that_is_claimed_twice() -> None:
    """The later claim counts, for an hour of its own."""
    rendezvous = Rendezvous(Policy())
    claimed(rendezvous, "k", "one", 10.0)
    second = claimed(rendezvous, "k", "two", 100.0)
    assert rendezvous.claimed("k", 99.0 + CLAIMED_FOR) is second
    assert rendezvous.claimed("k", 100.0 + CLAIMED_FOR) is None


def test_claimed_keys_cannot_fill_the_memory() -> None:
    """The oldest is forgotten first; one that is claimed again counts as new."""
    rendezvous = Rendezvous(Policy())
    for i in range(REMEMBERED):
        claimed(rendezvous, str(i), f"at {i}", 10.0)
    claimed(rendezvous, "0", "again", 11.0)
    claimed(rendezvous, "last", "at last", 12.0)
    assert [key for key in ("0", "1", "2", "last") if rendezvous.claimed(key, 13.0) is None] == ["1"]


# A sender that finds its transfer again.


def test_an_upload_is_found_by_its_name() -> None:
    """While it lives, and when it has ended; by no other name, and not by none."""
    rendezvous = Rendezvous(Policy())
    transfer, other = a_transfer(), a_transfer("other")
    transfer.upload = "u"
    rendezvous.begin(transfer)
    rendezvous.begin(other)
    assert rendezvous.upload("u") is transfer
    assert rendezvous.upload("") is None and rendezvous.upload("k") is None
    rendezvous.end(transfer, 1.0)
    rendezvous.end(other, 1.0)
    assert rendezvous.upload("u") is transfer and rendezvous.upload("") is None
    assert "k" not in rendezvous.transfers


def test_an_upload_whose_file_was_claimed() -> None:
    """Its sender finds it wherever it is."""
    rendezvous = Rendezvous(Policy(claims=True))
    transfer = a_transfer()
    transfer.upload = "u"
    rendezvous.begin(transfer)
    rendezvous.move(transfer, "address", 1.0)
    assert rendezvous.upload("u") is transfer
    rendezvous.end(transfer, 2.0)
    assert rendezvous.upload("u") is transfer


def test_uploads_are_not_remembered_for_ever() -> None:
    """The oldest of the past is forgotten first; one that lives never is."""
    rendezvous = Rendezvous(Policy())
    living = a_transfer("living")
    living.upload = "living"
    rendezvous.begin(living)
    for i in range(REMEMBERED + 1):
        transfer = a_transfer()
        transfer.upload = str(i)
        rendezvous.begin(transfer)
        rendezvous.end(transfer, 1.0)
    assert rendezvous.upload("0") is None and rendezvous.upload("1") is not None
    assert rendezvous.upload(str(REMEMBERED)) is not None and rendezvous.upload("living") is living


def test_a_key_that_its_own_sender_can_go_on_with() -> None:
    """Who begins anew hears where it goes on."""
    rendezvous = Rendezvous(Policy())
    transfer = a_transfer("key", options=SendOptions(resume=60))
    transfer.spool = cast(ISpool, SimpleNamespace(head=7))
    rendezvous.begin(transfer)
    with pytest.raises(KeyInUse, match="go on with") as refused:
        rendezvous.admit("key", SendOptions())
    assert refused.value.headers == {"Upload-Offset": "7"}
    transfer.is_whole = True
    with pytest.raises(KeyInUse, match="another transfer"):
        rendezvous.admit("key", SendOptions())
