"""What every unit test must leave behind: nothing."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted  # type: ignore[import-untyped,unused-ignore]
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from zope.interface import implementer


def descriptors() -> set[str]:
    """The open descriptors of this process, each with what it is."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
        except FileNotFoundError:  # the one that lists
            continue
    return found


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    """The failures that have been logged; a test that wants one takes it out."""
    failures: list[LogEvent] = []

    @implementer(ILogObserver)
    class Observer:
        def __call__(self, event: LogEvent) -> None:
            if event.get("isError") or "log_failure" in event:
                failures.append(event)

    observer = Observer()
    globalLogPublisher.addObserver(observer)
    yield failures
    globalLogPublisher.removeObserver(observer)


@pytest.fixture(autouse=True)
def nothing_left(logged: list[LogEvent]) -> Iterator[None]:
    """A test fails that left a logged failure, a timer in the reactor or an open descriptor."""
    from twisted.internet import reactor

    clock: Any = reactor
    if not clock.running:  # it opens descriptors of its own when it starts
        pytest_twisted.blockon(deferLater(clock, 0))
    before = descriptors()
    yield
    assert [formatEvent(event) for event in logged] == []
    assert [str(call) for call in clock.getDelayedCalls()] == []
    assert descriptors() - before == set()
