"""How many requests an address may make: above it they are refused with 429, before anything else is done for them.

It is said in ``RateLimit-Limit``, ``RateLimit-Remaining`` and ``RateLimit-Reset``, as in
draft-ietf-httpapi-ratelimit-headers up to -06: that is what clients read.  Later drafts put all of it into one field,
``RateLimit``, in another form each (-07, -08), and clients of the one misread the other.
"""

import time
from ipaddress import ip_network
from math import ceil
from threading import Timer

from limits import RateLimitItem, parse_many
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from beam.errors import TooManyRequests
from beam.web.proxies import address
from beam.web.request import StreamingRequest

NEIGHBOURS = 64  # bits of an IPv6 address that tell clients apart: who has one address has the other 2**64
FEW = 1024  # counts that are never worth a look for old ones
MOST = 100_000  # counts that there may be, some 30 MB


def rates(text: str) -> tuple[RateLimitItem, ...]:
    """Rates from ``100/minute``, or several with semicolons between: ``5/second;100/minute;1000/2 hours``.

    :raises ValueError: they are none.
    """
    try:
        found = tuple(parse_many(text))
    except ValueError:
        found = ()
    if not found or any(each.amount < 1 for each in found):
        raise ValueError(f"{text!r} is not a rate: write such as 100/minute, or several as 5/second;100/minute")
    return found


def shown(rate: RateLimitItem) -> str:
    """``rate`` in words."""
    unit, n = rate.GRANULARITY.name, rate.multiples
    return f"{rate.amount} request{'s' * (rate.amount > 1)} per {unit if n == 1 else f'{n} {unit}s'}"


def neighbourhood(peer: str) -> str:
    """What ``peer`` is counted with: itself, or its network if it is an IPv6 address."""
    found = address(peer.partition("%")[0])
    if found is None or found.version == 4:
        return peer if found is None else str(found)
    return str(ip_network((int(found), NEIGHBOURS), strict=False))


class NoThread(Timer):
    """Stands where the storage looks whether its thread runs: it says yes, and there is none.

    The thread would be started for almost every request, go over all counts, and meet the reactor in the middle of
    its own look at them.
    """

    def __init__(self) -> None:
        super().__init__(0, lambda: None)

    def is_alive(self) -> bool:
        return True


class Limiter:
    """Counts the requests of each address, in windows that slide: two numbers for each, however many requests.

    The windows are those of the system's clock; when it is set, the counts begin anew.

    :param rates: none of which may be exceeded.
    """

    def __init__(self, rates: tuple[RateLimitItem, ...]) -> None:
        self._rates = rates
        self._counts = MemoryStorage()
        self._counts.timer.cancel()
        self._counts.timer.join()
        self._counts.timer = NoThread()
        self._windows = SlidingWindowCounterRateLimiter(self._counts)
        self._enough = FEW

    def count(self, request: StreamingRequest) -> None:
        """Count ``request``, and tell in its answer what is left.  One that is refused does not count.

        :raises TooManyRequests: its address has made as many as it may.
        """
        whose = neighbourhood(request.peer)
        refused = not all(self._windows.test(rate, whose) for rate in self._rates)
        if not refused:
            self._forget()
            for rate in self._rates:
                self._windows.hit(rate, whose)
        now = time.time()
        known = ((rate, self._windows.get_window_stats(rate, whose)) for rate in self._rates)
        rate, window = min(known, key=lambda each: (each[1].remaining, -each[1].reset_time))
        seconds = max(1, ceil(window.reset_time - now))
        request.setHeader("ratelimit-limit", str(rate.amount))
        request.setHeader("ratelimit-remaining", str(window.remaining))
        request.setHeader("ratelimit-reset", str(seconds))
        if refused:
            raise TooManyRequests(
                f"This server takes {shown(rate)} from an address; come back in {seconds} second{'s' * (seconds > 1)}.",
                seconds,
            )

    def _forget(self) -> None:
        """Drop what is over, whenever there is twice as much as was left the last time; if that is not enough, all."""
        expirations = self._counts.expirations
        if len(expirations) < self._enough:
            return
        now = time.time()
        for key in [key for key, end in expirations.items() if end <= now]:
            self._counts.clear(key)
        if len(expirations) > MOST // 2:
            self._counts.reset()
        self._enough = max(FEW, 2 * len(expirations))
