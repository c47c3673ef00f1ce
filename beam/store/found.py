"""What former servers left to last, as it is found at the start."""

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from attrs import define, field
from twisted.logger import Logger
from zope.interface import implementer

from beam.errors import BeamError, StoreFull
from beam.interfaces import IFound, ILastingSpool
from beam.quota import Quota
from beam.store.blob import BLOCK, LARGE, Blob
from beam.store.journal import Journal
from beam.store.places import Folder

log = Logger()


class Opens(Protocol):
    """Goes on with what was found."""

    def __call__(
        self, found: "Found", length: int | None, failed: Callable[[BeamError], None], record: Callable[[], bytes], /
    ) -> ILastingSpool: ...


@implementer(IFound)
@define(eq=False)
class Found:
    """A body that a former server left; it counts against ``quota`` from the start.

    :param journal: what has come of it, if it comes in pieces.
    """

    folder: Folder
    quota: Quota
    opens: Opens
    record: bytes
    size: int
    age: float
    journal: Journal | None
    charged: int = field(init=False, default=0)

    def charge(self, n: int) -> None:
        """``n`` bytes are here, whether there is space for them or not."""
        self.quota.owe(n)
        self.charged = n

    def hand_over(self, fd: int, size: int, length: int | None) -> Blob:
        """The file, which goes on at ``size``, with what was charged for it.

        Space for all of ``length`` is charged if it is there; otherwise for what comes, when it comes.
        """
        blob = Blob(fd, self.quota, self.charged, size - size % BLOCK if size >= LARGE else 0)
        self.charged = 0
        with suppress(StoreFull):
            blob.charge(length or 0)
        return blob

    def open(
        self, length: int | None, failed: Callable[[BeamError], None], record: Callable[[], bytes]
    ) -> ILastingSpool:
        """See ``IFound.open``."""
        return self.opens(self, length, failed, record)

    def start(self, n: int) -> bytes:
        """See ``IFound.start``."""
        with self.folder.data.open("rb") as file:
            return file.read(min(n, self.size))

    def remove(self) -> None:
        """See ``IFound.remove``."""
        self.folder.remove()
        self.quota.give(self.charged)
        self.charged = 0


def find(folders: Iterable[Folder], quota: Quota, opens: Opens) -> list[Found]:
    """What lies in ``folders``; what cannot be read stays there, and the log has the reason.  Blocks."""
    found = []
    for folder in folders:
        try:
            data = folder.data.stat()
            record = folder.record.read_bytes()
            journal = Journal.read(folder.journal, data.st_size) if folder.journal.exists() else None
        except OSError:
            log.failure("{folder} cannot be read, and stays as it is", folder=folder.path)
            continue
        # The wall clock is the only one that goes on while no server runs; it may have been set back.
        age = max(0.0, time.time() - data.st_mtime)
        size = data.st_size if journal is None else journal.there.end
        found.append(Found(folder, quota, opens, record, size, age, journal))
        found[-1].charge(data.st_size if journal is None else journal.there.total)
    return found


def open_file(path: Path, size: int | None) -> int:
    """A descriptor of the file at ``path``, which is cut to ``size``, if given; when its last byte came stays known."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        before = os.fstat(fd)
        if size is not None and before.st_size != size:
            os.ftruncate(fd, size)
            os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))
    except OSError:
        os.close(fd)
        raise
    return fd
