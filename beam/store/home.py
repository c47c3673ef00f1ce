"""The folder of one server below the path that several may share, and what dead servers left there.

The folder is locked while the server runs.  What is in ``incoming/`` and ``kept/`` ends with it; what is in
``lasting/`` and has a record stays, and belongs to whichever server starts next.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from beam.store.places import Folder, Incoming, sync_folder

KINDS = ("incoming", "kept", "lasting")


class Home:
    """A server's own folder below ``root``.  Everything here blocks, but only for as long as names take."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._own: Path | None = None
        self._lock = -1

    @property
    def own(self) -> Path:
        """The folder, while it is claimed."""
        assert self._own is not None, "the store has not been started"
        return self._own

    def claim(self) -> None:
        """Make the folder, move into it what dead servers left to last, and remove what else they left.

        :raises OSError: it cannot be; nothing that lasts has been lost.
        """
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._gate():
            dead = [each for each in self._root.glob("server-*") if is_dead(each)]
            try:
                own = self._make()
                for server in dead:
                    for folder in saved_in(server):
                        os.rename(folder, own / "lasting" / folder.name)
                for folder in (own / "lasting", own, self._root):
                    sync_folder(folder)
                for server in dead:
                    shutil.rmtree(server)
            except OSError:
                self._let_go()
                raise

    def leave(self) -> None:
        """Remove the folder, but for what lasts, and let it go."""
        if self._own is None:
            return
        with suppress(OSError), self._gate():
            saved = {folder.name for folder in saved_in(self._own)}
            for each in [*(self._own / "lasting").iterdir(), *self._own.iterdir()]:
                if each.name == "lock":
                    each.unlink()
                elif each.name not in saved and not (saved and each.name == "lasting"):
                    shutil.rmtree(each, ignore_errors=True)
            if not saved:
                self._own.rmdir()
        self._let_go()

    def incoming(self) -> Incoming:
        """A place for a body that ends with this server."""
        name = secrets.token_hex(16)
        return Incoming(self.own / "incoming" / name, self.own / "kept" / name)

    def folder(self) -> Folder:
        """A place for a body that outlives it."""
        return self._folder(secrets.token_hex(16))

    def saved(self) -> list[Folder]:
        """The bodies that are here to last."""
        return [self._folder(path.name) for path in saved_in(self.own)]

    def _folder(self, name: str) -> Folder:
        return Folder(self.own / "lasting" / name, self.own / "incoming" / name)

    @contextmanager
    def _gate(self) -> Iterator[None]:
        """Held for a moment, so that no server takes another's new folder for one that a crash left behind."""
        gate = os.open(self._root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(gate, fcntl.LOCK_EX)
            yield
        finally:
            os.close(gate)

    def _make(self) -> Path:
        own = self._own = self._root / f"server-{secrets.token_hex(8)}"
        own.mkdir(mode=0o700)
        self._lock = os.open(own / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        for kind in KINDS:
            (own / kind).mkdir(mode=0o700)
        return own

    def _let_go(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
        self._own, self._lock = None, -1


def is_dead(server: Path) -> bool:
    """Whether the server of this folder runs no more: a lock of its that can be had says so."""
    try:
        lock = os.open(server / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


def saved_in(server: Path) -> list[Path]:
    """The bodies of a server that are there to last: what has no record, or no file, is nothing."""
    return [path.parent for path in server.glob("lasting/*/record") if (path.parent / "data").exists()]
