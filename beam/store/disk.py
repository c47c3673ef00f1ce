"""The store that keeps: one file a transfer, in a folder of this server's own.

Here they are made and found again.  Where their names are says ``beam.store.home``; the bytes are moved by
``beam.store.file``.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.plugin import IPlugin
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from beam.errors import BeamError, StoreFailed, StoreFull
from beam.interfaces import IFound, IHouse, ILastingSpool, ILastingStore, IStoreMaker
from beam.quota import Quota
from beam.store import arguments
from beam.store.blob import BLOCK, Blob, Offload, refused
from beam.store.file import DiskSpool
from beam.store.found import Found, find, open_file
from beam.store.home import Home
from beam.store.journal import Journal
from beam.store.lasting import KeptSpool, Lasting, LastingSpool
from beam.store.memory import RingSpool, ring_sizes
from beam.store.pieces import PieceSpool
from beam.store.places import NEW, LastingPlace
from beam.values import size

THREADS = 8

T = TypeVar("T")


@implementer(ILastingStore)
class DiskStore:
    """Files below ``path``, at most ``quota.cap`` bytes of them.

    :param offload: runs blocking calls; by default in a pool of threads.
    """

    keeps = True

    def __init__(
        self, path: Path, house: IHouse, quota: Quota, window: int, history: int, offload: Offload | None = None
    ) -> None:
        self._root = path
        self._home = Home(path)
        self._house = house
        self._memory = house.memory
        self._quota = quota
        self._window = window
        self._history = history
        self._pool = ThreadPool(0, THREADS, name="beam-disk")
        self._offload: Offload = offload or self._in_pool
        self._found: list[Found] = []

    def _in_pool(self, call: Callable[[], T], /) -> "Deferred[T]":
        reactor: Any = self._house.reactor
        return deferToThreadPool(reactor, self._pool, call)

    def start(self) -> None:
        try:
            self._home.claim()
        except OSError as error:
            raise StoreFailed(f"The folder {self._root} cannot be used: {error.strerror}.") from error
        self._found = find(self._home.saved(), self._quota, self._go_on)
        self._pool.start()

    def stop(self) -> None:
        if self._pool.started:
            self._pool.stop()
            self._home.leave()

    def recover(self) -> list[IFound]:
        found, self._found = self._found, []
        return list(found)

    def create(self, length: int | None, failed: Callable[[BeamError], None]) -> DiskSpool:
        place = self._home.incoming()
        self._check_space(length)
        ring = self._ring(length)
        with refused(ring.release):
            fd = os.open(place.path, NEW, 0o600)
        return DiskSpool(ring, self._blob(fd, length), place, self._memory, self._offload, failed)

    def create_lasting(
        self, length: int | None, failed: Callable[[BeamError], None], record: Callable[[], bytes]
    ) -> LastingSpool:
        folder = self._home.folder()
        self._check_space(length)
        ring = self._ring(length)
        with refused(ring.release, folder.remove):
            fd = folder.make()
        place = LastingPlace(folder, record)
        return LastingSpool(ring, self._blob(fd, length), place, self._memory, self._offload, failed)

    def create_pieces(
        self, length: int | None, failed: Callable[[BeamError], None], record: Callable[[], bytes]
    ) -> PieceSpool:
        folder = self._home.folder()
        self._check_space(length)
        with refused(folder.remove):
            fd = folder.make(in_pieces=True)
        place = LastingPlace(folder, record)
        return self._pieces(self._blob(fd, length), place, Journal(folder.journal), length, failed)

    def _go_on(
        self, found: Found, length: int | None, failed: Callable[[BeamError], None], record: Callable[[], bytes], /
    ) -> ILastingSpool:
        """The spool of what was found; it goes on where the file ends."""
        place = LastingPlace(found.folder, record, saved=True)
        spool: Lasting
        if found.journal is not None:
            with refused():
                fd = open_file(found.folder.data, None)
            spool = self._pieces(found.hand_over(fd, found.size, length), place, found.journal, length, failed)
        elif length is not None and found.size >= length:
            with refused():
                fd = open_file(found.folder.data, length)
            spool = KeptSpool(length, found.hand_over(fd, length, length), place, self._memory, self._offload, failed)
        else:
            begun = found.size % BLOCK  # bytes of the last block, which is written again with the rest of it
            ring = self._ring(length, found.size - begun)
            with refused(ring.release):
                fd = open_file(found.folder.data, None)
                ring.commit(os.preadv(fd, [ring.room()[:begun]], found.size - begun))
            blob = found.hand_over(fd, found.size - begun, length)
            spool = LastingSpool(ring, blob, place, self._memory, self._offload, failed)
        spool.recorded = found.record
        return spool

    def _pieces(
        self,
        blob: Blob,
        place: LastingPlace,
        journal: Journal,
        length: int | None,
        failed: Callable[[BeamError], None],
    ) -> PieceSpool:
        return PieceSpool(blob, place, journal, self._memory, self._offload, failed, length, self._window)

    def _check_space(self, length: int | None) -> None:
        if length is not None and length > self._quota.free:
            raise StoreFull(
                "The disk store of this server has no space for this file; try again later or send a smaller one."
            )

    def _ring(self, length: int | None, origin: int = 0) -> RingSpool:
        return RingSpool(self._memory, length, self._window, self._history, origin=origin)

    def _blob(self, fd: int, length: int | None) -> Blob:
        blob = Blob(fd, self._quota)
        blob.charge(length or 0)
        return blob

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
