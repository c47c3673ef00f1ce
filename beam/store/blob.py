"""One open file of the disk store: its descriptors, its quota, and the way of large steps around the page cache.

A page of the cache costs more than all else that a byte meets here, and pushes out what others keep there.  So the
store's large steps go straight between the ring and the disk (``O_DIRECT``) while the disk is fast; everything else,
and everything of a disk or a file system that is not up to it, goes through the cache.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Protocol, TypeVar

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from beam.errors import BeamError, StoreFailed, StoreFull, Unavailable
from beam.quota import Quota

BLOCK = 4096  # bytes to which memory, offset and length of what goes around the cache are aligned
LARGE = 1 << 20  # bytes of a step that is worth it
CACHED_STEP = 256 << 10  # bytes that are written into the cache at a time: larger pages come from colder memory
SLOWEST = 50e6  # bytes per second that a disk has to take or give
GRACE = 0.5  # seconds that it may be behind them
UNABLE = {errno.EINVAL, errno.EOPNOTSUPP, errno.EMFILE, errno.ENFILE}  # the file system, or the process
CLOSED_OFF = {errno.ENOENT, errno.EACCES, errno.EPERM}  # there is no /proc, or it is not for us
NOT_AROUND = UNABLE | CLOSED_OFF  # the cache takes it then
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

log = Logger()
T = TypeVar("T")


class Offload(Protocol):
    """Runs a blocking call elsewhere; its ``Deferred`` fires in the reactor's thread."""

    def __call__(self, call: Callable[[], T], /) -> "Deferred[T]": ...


def failure_of(failure: Failure) -> BeamError:
    """What a failed call on a file means for the transfer; the details go to the log, not to the peer."""
    error = failure.value
    if isinstance(error, BeamError):
        return error
    if isinstance(error, OSError) and error.errno in FULL:
        return StoreFull("The disk of this server is full; try again later or send a smaller file.")
    log.failure("a file of the disk store could not be used", failure=failure)
    return StoreFailed("This server could not use its disk; the operator finds the reason in the log.")


@contextmanager
def refused(*undo: Callable[[], None]) -> Iterator[None]:
    """Turn what the system says while a file is made or opened into a refusal, behind ``undo``."""
    try:
        yield
    except OSError as error:
        for each in undo:
            each()
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise Unavailable("This server has no file descriptors left; try again later.") from None
        raise failure_of(Failure(error)) from None


@define(eq=False)
class Blob:
    """One file and those who use it: the descriptor and the quota are given back when the last one has let go.

    :param around: bytes at the start of the file, whole blocks, that need not be in the cache.
    :param path: of a file that sleeps: it has a descriptor only while somebody uses it, and its quota until the end.
    """

    fd: int
    quota: Quota
    charged: int = 0
    _around: int = 0
    path: Path | None = None
    users: int = field(init=False, default=0)
    _fast: bool = field(init=False, default=True)  # whether the disk is; once it is not, it stays so
    _behind: float = field(init=False, default=0)  # seconds that it is behind what is fast

    def hold(self) -> None:
        """One more uses the descriptor.

        :raises OSError: a file that sleeps cannot be opened.
        """
        if self.path is not None and not self.users:
            self.fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        self.users += 1

    def drop(self) -> None:
        """One fewer uses the descriptor."""
        self.users -= 1
        if not self.users:
            os.close(self.fd)
            if self.path is None:
                self.give_back()

    def give_back(self) -> None:
        """Nobody will use it any more."""
        self.quota.give(self.charged)
        self.charged = 0

    def charge(self, size: int, ahead: int = 0) -> None:
        """The file grows to ``size`` bytes; ``ahead`` are charged with them if there are so many.

        :raises StoreFull: the quota does not allow it.
        """
        if size > self.charged:
            step = max(size - self.charged, min(ahead, self.quota.free))
            if not self.quota.take(step):
                raise StoreFull("The disk store of this server is full; try again later or send a smaller file.")
            self.charged += step

    def settle(self, size: int) -> None:
        """The file is whole with ``size`` bytes: give back what was charged in advance."""
        self.quota.give(self.charged - size)
        self.charged = size

    # These block, and belong into a thread; one that writes at a time and place, and any that read.

    def write(self, view: memoryview, position: int) -> int:
        """Write a step of ``view``; how many bytes it took."""
        whole = len(view) - len(view) % BLOCK
        if self._fast and whole and position == self._around and (position or whole >= LARGE):
            n = self._go_around(lambda fd: os.pwrite(fd, view[:whole], position))
            if n is not None:
                self._around += n
                self._fast = self._fast and n % BLOCK == 0
                return n
        done = 0
        while done < len(view):
            done += os.pwrite(self.fd, view[done : done + CACHED_STEP], position + done)
        return done

    def sync(self) -> None:
        """What has been written is on the disk when this returns."""
        os.fdatasync(self.fd)

    def read(self, memory: memoryview, start: int) -> int:
        """Fill ``memory`` with what lies at ``start``, both aligned; how many bytes that is."""
        if self._went_around(start):
            n = self._go_around(lambda fd: os.preadv(fd, [memory[: self._around - start]], start))
            if n is not None:
                return n
        return os.preadv(self.fd, [memory], start)

    def _went_around(self, start: int) -> bool:
        return self._fast and self._around - start >= BLOCK

    def _go_around(self, move: Callable[[int], int]) -> int | None:
        """What ``move`` does with a descriptor that goes around the cache; ``None`` if that cannot be."""
        began = monotonic()
        try:
            # Only for the moment: a kept file has one descriptor.
            fd = os.open(f"/proc/self/fd/{self.fd}", os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC)
            try:
                n = move(fd)
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno not in NOT_AROUND:
                raise
            self._fast = False
            return None
        self._behind = max(0, self._behind + monotonic() - began - n / SLOWEST)
        if self._behind > GRACE:
            self._fast = False
        return n

    # This does not block.

    def read_cached(self, memory: memoryview, start: int) -> int:
        """As ``read``, but no more than the page cache has."""
        if self._went_around(start):
            return 0
        try:
            return os.preadv(self.fd, [memory], start, os.RWF_NOWAIT)
        except OSError:  # it has nothing, or the file system cannot say
            return 0
