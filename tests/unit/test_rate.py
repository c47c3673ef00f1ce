"""How many requests an address may make, and what it is told of it."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from attrs import define, field

from beam.errors import TooManyRequests
from beam.web import rate
from beam.web.rate import Limiter, neighbourhood, rates, shown

START = 1_700_000_040.25  # a moment after a minute has begun


@define
class Asked:
    """A request, as far as it is counted."""

    peer: str
    headers: dict[str, str] = field(factory=dict)

    def setHeader(self, name: str, value: str) -> None:
        """As in ``Request``."""
        self.headers[name] = value


class World:
    """A limiter, and a clock that stands still until it is told."""

    def __init__(self, text: str) -> None:
        self.now = START
        self.limiter = Limiter(rates(text))

    def ask(self, peer: str = "192.0.2.1") -> tuple[bool, int, int, int]:
        """A request: whether it is taken, and what is said of limit, remaining and reset."""
        asked: Any = Asked(peer)
        taken = True
        try:
            self.limiter.count(asked)
        except TooManyRequests as error:
            taken = False
            assert error.status == 429
            assert error.headers["Retry-After"] == asked.headers["ratelimit-reset"]
        limit, remaining, reset = (int(asked.headers[f"ratelimit-{name}"]) for name in ("limit", "remaining", "reset"))
        return taken, limit, remaining, reset

    def ask_often(self, n: int, peer: str = "192.0.2.1") -> int:
        """How many of ``n`` requests are taken."""
        return sum(self.ask(peer)[0] for _ in range(n))

    @property
    def counts(self) -> int:
        """How many are kept."""
        return len(self.limiter._counts.expirations)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], World]:
    """A limiter of some rates, and its clock."""

    def make(text: str) -> World:
        made = World(text)
        monkeypatch.setattr(time, "time", lambda: made.now)
        return made

    return make


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("100/minute", ["100 requests per minute"]),
        ("1/second", ["1 request per second"]),
        ("100 per 2 hours", ["100 requests per 2 hours"]),
        (
            "5/second;100/minute; 1000/day",
            ["5 requests per second", "100 requests per minute", "1000 requests per day"],
        ),
    ],
)
def test_rates(text: str, words: list[str]) -> None:
    """As ``limits`` reads them, and as they are told to who exceeds them."""
    assert [shown(each) for each in rates(text)] == words


@pytest.mark.parametrize(
    "text",
    ["", "100", "/minute", "100/minut", "100/fortnight", "-1/minute", "0/minute", "1.5/second", "5/second;", "x"],
)
def test_rates_that_are_none(text: str) -> None:
    """They are refused in a sentence that shows how to write one."""
    with pytest.raises(ValueError, match="is not a rate: write such as 100/minute"):
        rates(text)


@pytest.mark.parametrize(
    ("peer", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
    ],
)
def test_with_whom_a_client_is_counted(peer: str, counted: str) -> None:
    """Alone, but those of one IPv6 network together."""
    assert neighbourhood(peer) == counted


def test_requests_up_to_the_rate(world: Callable[[str], World]) -> None:
    """Each is told what is left, and the first one too many when to come back."""
    one = world("3/minute")
    assert [one.ask() for _ in range(5)] == [
        (True, 3, 2, 60),
        (True, 3, 1, 60),
        (True, 3, 0, 60),
        (False, 3, 0, 60),
        (False, 3, 0, 60),
    ]


def test_addresses_are_counted_apart(world: Callable[[str], World]) -> None:
    """One that asks too often disturbs no other."""
    one = world("2/minute")
    assert one.ask_often(10) == 2
    assert one.ask_often(10, "192.0.2.2") == 2
    assert one.ask_often(10, "2001:db8::1") == 2
    assert one.ask_often(10, "2001:db8::2") == 0
    assert one.ask_often(10, "2001:db8:0:1::1") == 2


def test_who_comes_back_when_told_is_taken(world: Callable[[str], World]) -> None:
    """However often it asked, whenever it came; and no sooner than a second before."""
    one = world("7/minute")
    for step in range(40):
        one.now += step * 1.37
        while (said := one.ask())[0]:
            pass
        one.now += said[3] - 1
        assert not one.ask()[0] or said[3] == 1
        one.now += 1
        assert one.ask()[0]


def test_no_more_than_the_rate_in_any_window(world: Callable[[str], World]) -> None:
    """A burst at the end of one window and one at the beginning of the next are not twice as many."""
    one = world("100/minute")
    one.now += 59
    assert one.ask_often(200) == 100
    one.now += 2
    assert one.ask_often(200) == 3  # it is reckoned as if the burst had been spread over its window
    one.now += 120
    assert one.ask_often(200) == 100


def test_what_is_refused_does_not_count(world: Callable[[str], World]) -> None:
    """Who asks on and on is let in as soon as who waits."""
    one = world("2/minute")
    assert one.ask_often(2) == 2
    refused = 0
    while not one.ask()[0]:
        refused += 1
        one.now += 0.5
    assert refused in (120, 121)


def test_several_rates(world: Callable[[str], World]) -> None:
    """The narrowest is told; what one refuses counts against none."""
    one = world("2/second;3/minute")
    assert [one.ask() for _ in range(3)] == [(True, 2, 1, 1), (True, 2, 0, 1), (False, 2, 0, 1)]
    one.now += 2
    assert one.ask() == (True, 3, 0, 58)
    assert one.ask() == (False, 3, 0, 58)


def test_no_thread_is_started() -> None:
    """Neither by the first request nor by later ones."""
    before = set(threading.enumerate())
    limiter = Limiter(rates("100/minute"))
    assert set(threading.enumerate()) == before
    for i in range(300):
        asked: Any = Asked(f"192.0.2.{i % 200}")
        limiter.count(asked)
        assert set(threading.enumerate()) == before


def test_addresses_are_forgotten(world: Callable[[str], World]) -> None:
    """Whatever number of them has come, only those of the last two windows are kept, and some."""
    one = world("5/second;10/minute")
    for i in range(20_000):
        one.ask(f"10.0.{i >> 8}.{i & 255}")
        one.now += 0.1
    assert one.counts < 3 * 2 * 600 * 2


def test_a_flood_of_addresses_is_forgotten_too(world: Callable[[str], World], monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded, even if all of them come at once."""
    monkeypatch.setattr(rate, "MOST", 3000)
    one = world("5/hour")
    most = 0
    for i in range(10_000):
        one.ask(f"10.0.{i >> 8}.{i & 255}")
        most = max(most, one.counts)
    assert 2000 < most <= 3001


def test_a_clock_that_is_set_shuts_nobody_out(world: Callable[[str], World]) -> None:
    """Neither a day ahead nor two days back."""
    one = world("2/minute")
    for step in 86400, -2 * 86400, 120:
        assert one.ask_often(9) == 2
        one.now += step
    assert one.ask_often(9) == 2
