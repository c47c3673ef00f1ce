"""The store that keeps: one file a transfer, in a folder of this server's own.

The folder is locked while the server runs: files are in ``incoming/`` until they are whole, then in ``kept/``.  The
bytes are moved by ``beam.store.file``.
"""

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.plugin import IPlugin
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from beam.errors import BeamError, StoreFailed, StoreFull, Unavailable
from beam.interfaces import IHouse, IStore, IStoreMaker
from beam.quota import Quota
from beam.store import arguments
from beam.store.blob import Blob, Offload, failure_of
from beam.store.file import DiskSpool
from beam.store.memory import RingSpool, ring_sizes
from beam.values import size

THREADS = 8

T = TypeVar("T")


@implementer(IStore)
class DiskStore:
    """Files below ``path``, at most ``quota.cap`` bytes of them.

    :param offload: runs blocking calls; by default in a pool of threads.
    """

    keeps = True

    def __init__(
        self, path: Path, house: IHouse, quota: Quota, window: int, history: int, offload: Offload | None = None
    ) -> None:
        self._root = path
        self._house = house
        self._quota = quota
        self._window = window
        self._history = history
        self._pool = ThreadPool(0, THREADS, name="beam-disk")
        self._offload: Offload = offload or self._in_pool
        self._own: Path | None = None
        self._lock = -1

    def _in_pool(self, call: Callable[[], T], /) -> "Deferred[T]":
        reactor: Any = self._house.reactor
        return deferToThreadPool(reactor, self._pool, call)

    def start(self) -> None:
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Held for a moment, so that no server takes another's new folder for one that a crash left behind.
            gate = os.open(self._root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(gate, fcntl.LOCK_EX)
                self._remove_leftovers()
                self._own = self._root / f"server-{secrets.token_hex(8)}"
                for folder in (self._own, self._own / "incoming", self._own / "kept"):
                    folder.mkdir(mode=0o700)
                self._lock = os.open(self._own / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            finally:
                os.close(gate)
        except OSError as error:
            raise StoreFailed(f"The folder {self._root} cannot be used: {error.strerror}.") from error
        self._pool.start()

    def _remove_leftovers(self) -> None:
        """Remove the folders of servers that run no more: a lock of theirs that can be had says so."""
        for folder in self._root.glob("server-*"):
            try:
                lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                shutil.rmtree(folder)
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            except BlockingIOError:
                pass
            finally:
                os.close(lock)

    def stop(self) -> None:
        if self._own is not None:
            self._pool.stop()
            shutil.rmtree(self._own, ignore_errors=True)
            os.close(self._lock)
            self._own = None

    def create(self, length: int | None, failed: Callable[[BeamError], None]) -> DiskSpool:
        assert self._own is not None, "the store has not been started"
        if length is not None and length > self._quota.free:
            raise StoreFull(
                "The disk store of this server has no space for this file; try again later or send a smaller one."
            )
        ring = RingSpool(self._house.memory, length, self._window, self._history)
        name = secrets.token_hex(16)
        path = self._own / "incoming" / name
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            ring.release()
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise Unavailable("This server has no file descriptors left; try again later.") from None
            raise failure_of(Failure(error)) from None
        blob = Blob(path, fd, self._quota)
        blob.charge(length or 0)
        return DiskSpool(ring, blob, self._house.memory, self._own / "kept" / name, self._offload, failed)

    def usage(self) -> int:
        return self._quota.used


@implementer(IPlugin, IStoreMaker)
class DiskStoreMaker:
    """``disk:PATH:cap=10G:window=4M:history=12M``"""

    prefix = "disk"

    def make(self, text: str, house: IHouse) -> DiskStore:
        options = arguments(text, "path", path=str, cap=size, window=size, history=size)
        path, cap = options.get("path") or house.disk_path, options.get("cap", house.disk_cap)
        window, history = ring_sizes(options)
        assert isinstance(path, str) and isinstance(cap, int)
        if not path:
            raise ValueError("a path is missing: write disk:PATH, such as disk:/var/lib/beam, or give --data-dir")
        return DiskStore(Path(path), house, Quota(cap), window, history)
