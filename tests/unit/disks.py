"""What tests of the disk store share: calls that run by hand, a started store, and the system's calls under watch."""

import fcntl
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from beam.interfaces import IHouse
from beam.quota import Quota
from beam.store import House
from beam.store.disk import DiskStore
from beam.testing import MEMORY, Rehearsal, some_bytes

KIB = 1 << 10
MIB = 1 << 20
RING = 128 * KIB


class ByHand:
    """An offload whose calls run when a test says so, or fail as it says."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def __call__(self, call: Callable[[], Any], /) -> "Deferred[Any]":
        deferred: Deferred[Any] = Deferred()
        self.waiting.append((call, deferred))
        return deferred

    def run(self, i: int = 0) -> None:
        """Run the oldest call, or the one that has waited for ``i`` others."""
        call, deferred = self.waiting.pop(i)
        try:
            result = call()
        except OSError as error:
            deferred.errback(error)
        else:
            deferred.callback(result)

    def run_all(self) -> None:
        """Run calls until there are none."""
        while self.waiting:
            self.run()

    def fail(self, number: int) -> None:
        """The oldest call fails with ``number``, an ``errno``."""
        self.fail_with(OSError(number, os.strerror(number)))

    def fail_with(self, error: Exception, i: int = 0) -> None:
        """The oldest call fails, or the one that has waited for ``i`` others."""
        self.waiting.pop(i)[1].errback(error)


class Disk:
    """A started store in a folder of a test's own."""

    def __init__(
        self,
        path: Path,
        cap: int,
        offload: ByHand | None = None,
        house: IHouse | None = None,
        memory: int = MEMORY,
        window: int = RING // 2,
        history: int = RING // 2,
    ) -> None:
        self.path = path
        self.memory = Quota(memory)
        self.quota = Quota(cap)
        self.offload = offload or ByHand()
        self.store = DiskStore(path, house or House(Clock(), self.memory), self.quota, window, history, self.offload)
        self.store.start()

    def send(self, n: int, known: bool = True, step: int = 1 << 16) -> Rehearsal:
        """Begin to send ``n`` bytes."""
        return Rehearsal(self.store, some_bytes(n), step, known)

    def keep(self, data: bytes) -> Rehearsal:
        """Send all of ``data``, and wait until it is kept."""
        body = Rehearsal(self.store, data)
        body.feed()
        while body.sent < len(data):
            self.offload.run()
        body.finish()
        self.offload.run_all()
        assert body.safe
        return body

    def files(self) -> list[str]:
        """The bodies that lie there, by folder."""
        return sorted(each.parent.name for each in self.path.glob("server-*/*/*"))

    def file(self) -> Path:
        """The only file that is kept there."""
        (file,) = self.path.glob("server-*/kept/*")
        return file

    def check_empty(self) -> None:
        """Nothing is left of any body."""
        assert self.files() == []
        assert self.store.usage() == self.quota.used == 0
        assert self.memory.used == 0
        assert not self.offload.waiting


def is_direct(fd: int) -> bool:
    """Whether what goes through ``fd`` goes around the page cache."""
    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT)


def error_of(number: int) -> OSError:
    """What the system says with ``number``, an ``errno``."""
    return OSError(number, os.strerror(number))


def out_of_cache(patch: pytest.MonkeyPatch) -> None:
    """From now on the page cache has nothing of any file: every read leaves the reactor's thread."""
    preadv = os.preadv

    def reads(fd: int, buffers: Any, offset: int, flags: int = 0) -> int:
        if flags & os.RWF_NOWAIT:
            raise BlockingIOError
        return preadv(fd, buffers, offset, flags)

    patch.setattr(os, "preadv", reads)


class Calls:
    """Stands before the system's calls: what went around the page cache, and what not.

    :param opened: what the next opens around the cache end with.
    :param wrote: what the next writes around the cache do: fail, or take no more bytes than this.
    :ivar written: of each write, whether it went around, its offset, and how many bytes it took; ``read`` likewise.
    """

    def __init__(
        self,
        patch: pytest.MonkeyPatch,
        opened: Iterable[OSError | None] = (),
        wrote: Iterable[OSError | int | None] = (),
    ) -> None:
        self.opened, self.wrote = list(opened), list(wrote)
        self.opens = 0
        self.written: list[tuple[bool, int, int]] = []
        self.read: list[tuple[bool, int, int]] = []
        self.seconds = 0.0  # that a write or a read around the cache takes
        self.now = 0.0
        self._open, self._pwrite, self._preadv = os.open, os.pwrite, os.preadv
        patch.setattr(os, "open", self._opens)
        patch.setattr(os, "pwrite", self._writes)
        patch.setattr(os, "preadv", self._reads)
        patch.setattr("beam.store.blob.monotonic", lambda: self.now)

    def _opens(self, path: Any, flags: int, *args: Any, **more: Any) -> int:
        if flags & os.O_DIRECT:
            self.opens += 1
            error = self.opened.pop(0) if self.opened else None
            if error is not None:
                raise error
        return self._open(path, flags, *args, **more)

    def _writes(self, fd: int, data: Any, offset: int) -> int:
        around = is_direct(fd)
        if around:
            self.now += self.seconds
            answer = self.wrote.pop(0) if self.wrote else None
            if isinstance(answer, OSError):
                self.written.append((around, offset, -1))
                raise answer
            if answer is not None:
                n = min(answer, len(data))
                whole = n - n % 512
                taken = self._pwrite(fd, data[:whole], offset) if whole else 0
                if whole < n:  # the system takes it so from a disk that ends there; this one does not
                    self._ragged(fd, data[whole:n], offset + whole)
                    taken = n
                self.written.append((around, offset, taken))
                return taken
        n = self._pwrite(fd, data, offset)
        self.written.append((around, offset, n))
        return n

    def _ragged(self, fd: int, data: Any, offset: int) -> None:
        other = self._open(f"/proc/self/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
        try:
            assert self._pwrite(other, data, offset) == len(data)
        finally:
            os.close(other)

    def _reads(self, fd: int, buffers: Any, offset: int, flags: int = 0) -> int:
        around = is_direct(fd)
        if around:
            self.now += self.seconds
        n = self._preadv(fd, buffers, offset, flags)
        self.read.append((around, offset, n))
        return n

    @property
    def ways(self) -> list[bool]:
        """Of each write, whether it went around."""
        return [around for around, _, _ in self.written]
