"""Where a file of the disk store has its name, and what keeps it there when it is whole.

A body for a server's life is in ``incoming/`` and then in ``kept/``.  One that outlives the server has a folder of its
own from the start, with a record that is never seen half.  The names are random; the bytes are moved elsewhere.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Protocol

from attrs import define, field, frozen

from beam.store.blob import Blob

NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
FILES = ("record", "record.new", "pieces", "data")


class Place(Protocol):
    """Where one file has its name."""

    def keeping(self, blob: Blob) -> Callable[[], None]:
        """What a thread has to do when the file is whole."""

    def remove(self) -> None:
        """Take the file out of its folder; those who use it can go on.  May be called again."""


@frozen
class Incoming:
    """A file that lasts as long as its server: at ``path`` until it is whole, then at ``kept``."""

    path: Path
    kept: Path

    def keeping(self, blob: Blob) -> Callable[[], None]:
        return lambda: os.rename(self.path, self.kept)

    def remove(self) -> None:
        # In this order nothing is left, whatever a thread that keeps it does meanwhile.
        self.path.unlink(missing_ok=True)
        self.kept.unlink(missing_ok=True)


@frozen
class Folder:
    """The folder of one lasting body.

    :param gone: where it is put to be removed.
    """

    path: Path
    gone: Path

    @property
    def data(self) -> Path:
        """The body."""
        return self.path / "data"

    @property
    def record(self) -> Path:
        """What is to be known of it."""
        return self.path / "record"

    @property
    def journal(self) -> Path:
        """What has come of it, if it comes in pieces."""
        return self.path / "pieces"

    def make(self, in_pieces: bool = False) -> int:
        """Make it, with an empty file; the descriptor of that."""
        self.path.mkdir(mode=0o700)
        if in_pieces:
            os.close(os.open(self.journal, NEW, 0o600))
        return os.open(self.data, NEW, 0o600)

    def write_record(self, content: bytes) -> None:
        """Put ``content`` in the place of the record, in one step, and wait until the disk has it.  Blocks."""
        new = self.path / "record.new"
        first = not self.record.exists()
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(new, self.record)
        sync_folder(self.path)
        if first:
            sync_folder(self.path.parent)

    def remove(self) -> None:
        """Let the body be forgotten, in one step; a thread that writes its record meanwhile finds no folder."""
        where = self.gone
        try:
            os.rename(self.path, where)
        except FileNotFoundError:
            return
        except OSError:
            where = self.path  # without its record it is nobody's either
        # By name, because a server without descriptors can look into no folder.
        with suppress(OSError):  # the next start removes what is left
            for name in FILES:
                (where / name).unlink(missing_ok=True)
            where.rmdir()


@define(eq=False)
class LastingPlace:
    """The folder of a body that outlives the server, and its record.

    :param source: gives the record as it is now; called in the reactor's thread.
    :param saved: whether there is a record, or soon will be.
    """

    folder: Folder
    source: Callable[[], bytes]
    saved: bool = False
    _asked: int = field(init=False, default=0)
    _written: int = field(init=False, default=0)
    _lock: Lock = field(init=False, factory=Lock)

    def saving(self, first: Callable[[], None] | None = None) -> Callable[[], None]:
        """What a thread has to do so that the record is as it is now; ``first`` has to be done before."""
        content = self.source()
        self.saved = True
        self._asked += 1
        number = self._asked

        def save() -> None:
            with self._lock:
                if first is not None:
                    first()
                if number > self._written:  # else a newer one is there
                    self.folder.write_record(content)
                    self._written = number

        return save

    def keeping(self, blob: Blob) -> Callable[[], None]:
        return self.saving(first=blob.sync)

    def remove(self) -> None:
        self.folder.remove()


def sync_folder(path: Path) -> None:
    """Wait until the disk has what has been named, renamed and removed in ``path``.  Blocks."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
