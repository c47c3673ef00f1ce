"""Servers that come one after another on one folder, and the ways in which they end."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest
from unit.disks import MIB, Disk
from zope.interface import implementer

from beam.errors import BeamError, Unavailable
from beam.interfaces import IFound, ILastingSpool, IPieceSpool, IStore
from beam.store.disk import DiskStore
from beam.testing import Rehearsal

STOPPED = Unavailable("This server stops.")
CALLS = ["open", "rename", "fsync", "fdatasync", "pwrite", "unlink", "rmdir", "mkdir", "ftruncate", "truncate", "utime"]


@implementer(IStore)
class Lasting:
    """A store whose every spool is a lasting one, for those who know of no other.

    :ivar record: what is written of its spools.
    :ivar found: what the next spool goes on with, if anything.
    """

    keeps = True

    def __init__(self, store: DiskStore) -> None:
        self.store = store
        self.record = b"what is to be known"
        self.found: IFound | None = None
        self.start, self.stop, self.usage = store.start, store.stop, store.usage

    def create(self, length: int | None, failed: Callable[[BeamError], None]) -> ILastingSpool:
        """See ``IStore.create``."""
        found, self.found = self.found, None
        begin = self.store.create_lasting if found is None else found.open
        return begin(length, failed, lambda: self.record)


class Server(Disk):
    """One server's life; its spools are lasting ones."""

    def __init__(self, path: Path, cap: int = 64 * MIB, **more: Any) -> None:
        super().__init__(path, cap, **more)
        self.lasting = Lasting(self.store)
        self.failures: list[BeamError] = []  # of bodies in pieces

    def begin(self, data: bytes, known: bool = True, found: IFound | None = None) -> Rehearsal:
        """Begin to send ``data``, or go on with what was ``found``."""
        self.lasting.found = found
        body = Rehearsal(cast(IStore, self.lasting), data, known=known)
        body.sent = body.spool.head
        return body

    def pieces(self, length: int | None, found: IFound | None = None) -> IPieceSpool:
        """A body in pieces, or the one that was ``found``."""
        begin = self.store.create_pieces if found is None else found.open
        spool = begin(length, self.failures.append, lambda: self.lasting.record)
        assert IPieceSpool.providedBy(spool)
        return spool

    def send(self, body: Rehearsal, upto: int | None = None) -> None:  # type: ignore[override]
        """Send on; what a writer writes of it is written."""
        body.feed(upto)
        self.offload.run_all()

    def save(self, spool: Any, record: bytes = b"saved") -> None:
        """Save a record, and wait for it."""
        self.lasting.record = record
        saved: list[None] = []
        spool.save().addCallback(saved.append)
        self.offload.run_all()
        assert saved == [None]

    def finish(self, body: Rehearsal) -> None:
        """Say that a body is whole, and wait until it is safe."""
        body.finish()
        self.offload.run_all()
        assert body.safe

    def suspend(self, spool: Any) -> None:
        """Let a body wait for the next server; nothing else is left of it here."""
        spool.suspend(STOPPED)
        self.offload.run_all()
        assert self.store.usage() == self.memory.used == 0

    def die(self) -> None:
        """End as a crash does: what waits is never run, nothing is removed, the system takes locks and descriptors."""
        self.offload.waiting.clear()
        home = self.store._home
        for fd in descriptors_below(home.own):
            os.close(fd)
        home._own, home._lock = None, -1
        self.store._pool.stop()

    def found(self) -> IFound:
        """The only one that was found."""
        (found,) = self.store.recover()
        return found

    def data(self) -> Path:
        """The only body there that lasts."""
        (file,) = self.path.glob("server-*/lasting/*/data")
        return file

    def end(self) -> None:
        """Stop, with nothing left."""
        self.check_empty()
        self.store.stop()
        assert sorted(each.name for each in self.path.iterdir()) == [".lock"]


def descriptors_below(path: Path) -> set[int]:
    """The open descriptors of what lies below ``path``, or did."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that lists
            if os.readlink(f"/proc/self/fd/{fd}").startswith(str(path)):
                found.add(int(fd))
    return found


class Killed(BaseException):
    """The process is no more."""


@contextmanager
def killed_at(path: Path, step: int) -> Iterator[list[str]]:
    """The process ends before the call of the system with this number, of those that change a disk.

    Gives the calls that were made.  Behind it no descriptor of what lies below ``path`` is open.
    """
    made: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, counted(name, getattr(os, name), made, step))
        with suppress(Killed):
            yield made
    for fd in descriptors_below(path):
        os.close(fd)


def counted(name: str, call: Callable[..., Any], made: list[str], step: int) -> Callable[..., Any]:
    """``call``, which ends the process if its number is ``step``."""

    def wrapped(*args: Any, **more: Any) -> Any:
        if len(made) >= step:  # and everything behind it
            raise Killed(name)
        made.append(name)
        return call(*args, **more)

    return wrapped


@contextmanager
def watched(*names: str) -> Iterator[list[str]]:
    """What is called of these calls of the system, each with the name of the file."""
    made: list[str] = []

    def watch(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(target: Any, *args: Any, **more: Any) -> Any:
            path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else str(target)
            made.append(f"{name} {os.path.basename(path)}")
            return call(target, *args, **more)

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setattr(os, name, watch(name, getattr(os, name)))
        yield made


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for one example of a property."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)
