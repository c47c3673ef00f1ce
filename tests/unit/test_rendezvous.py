"""Where senders and receivers meet: one transfer a key, and bounded queues."""

from typing import cast

import pytest

from beam.errors import KeyInUse, Outcome, Unavailable
from beam.interfaces import ISpool
from beam.options import SendOptions
from beam.peers import IReceiver
from beam.policy import Policy
from beam.rendezvous import BROKEN_FOR, REMEMBERED, Rendezvous
from beam.transfer import State, Transfer


def a_transfer(key: str = "k", started: float = 0.0) -> Transfer:
    """A transfer of nobody under ``key``."""
    return Transfer(
        key=key,
        options=SendOptions(),
        etag='"e"',
        started=started,
        state=State.WAITING,
        spool=cast(ISpool, None),
        keeps=False,
    )


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
    rendezvous.wait("k", first)
    rendezvous.wait("k", second)
    rendezvous.wait("other", other)
    assert list(rendezvous.waiting["k"]) == [first, second]
    assert rendezvous.waiters == 3
    rendezvous.forget("k", stranger)
    rendezvous.forget("nothing", first)
    assert rendezvous.waiters == 3
    for key, receiver in (("k", first), ("k", first), ("k", second), ("other", other)):
        rendezvous.forget(key, receiver)
    assert (rendezvous.waiters, rendezvous.waiting) == (0, {})


def test_a_key_has_only_so_many_waiters() -> None:
    """Above the limit of a key: 503, and no trace of the one refused."""
    rendezvous = Rendezvous(Policy(max_waiting_per_key=2))
    first, second, third = receivers(3)
    rendezvous.wait("k", first)
    rendezvous.wait("k", second)
    with pytest.raises(Unavailable):
        rendezvous.wait("k", third)
    assert (rendezvous.waiters, len(rendezvous.waiting["k"])) == (2, 2)
    rendezvous.wait("other", third)
    rendezvous.forget("k", first)
    rendezvous.wait("k", first)


def test_all_keys_have_only_so_many_waiters() -> None:
    """Above the limit of all: 503, and no key appears."""
    rendezvous = Rendezvous(Policy(max_waiting=3))
    for i, receiver in enumerate(receivers(3)):
        rendezvous.wait(str(i), receiver)
    (late,) = receivers(1)
    with pytest.raises(Unavailable):
        rendezvous.wait("k", late)
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
