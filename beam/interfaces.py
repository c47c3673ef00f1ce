"""The seams of beam: what a store gives, and what drains it.

A byte goes ``IIntake.room`` -> ``IIntake.commit`` -> ``IReader.peek`` -> ``IReader.advance``; nothing but "pause" and
"resume" travels back, by Twisted's ``IPushProducer``.  All offsets and lengths are bytes from the start of the body.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from zope.interface import Attribute, Interface

from beam.errors import BeamError
from beam.quota import Quota

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IPushProducer, IReactorTime


class ISink(Interface):
    """Whatever drains an ``IReader``: a download connection, the disk's writer, a forward.

    All three are called from the reactor thread.  After ``body_complete`` or ``body_failed`` none is called again.
    """

    def bytes_available() -> None:
        """``peek`` came back empty before, and has bytes now."""

    def body_complete() -> None:
        """The body is whole and this reader has advanced to its end."""

    def body_failed(error: BeamError) -> None:
        """The body will never be whole: cut the receiver."""


class IReader(Interface):
    """One receiver's cursor on a spool."""

    position: int = Attribute("offset of the next byte that this reader gives")

    def attach(sink: ISink) -> None:
        """Begin, or go on with another: ``sink`` hears at once what is already so."""

    def peek() -> memoryview:
        """The contiguous bytes that are there at ``position``; empty when there are none for now.

        The view is valid until the next call into the spool.
        """

    def advance(n: int) -> None:
        """``n`` bytes of the last ``peek`` have been taken."""

    def close() -> None:
        """This receiver is gone, or has all it wants.  May be called again."""


class IIntake(Interface):
    """Where one producer puts bytes: it asks for ``room`` and commits.

    It is told by ``pauseProducing`` and ``resumeProducing`` when there is no room and when there is some again.
    """

    head: int = Attribute("offset behind the newest byte")
    paused: bool = Attribute("whether the producer has to wait for room")

    def registerProducer(producer: "IPushProducer", streaming: bool) -> None:
        """``producer`` fills this spool from now on; ``streaming`` must be true."""

    def unregisterProducer() -> None:
        """Nobody fills this spool any more."""

    def room() -> memoryview:
        """A writable view of the bytes behind ``head``; empty when the producer has to wait.

        Valid until the next call into the spool.
        """

    def overwritten(n: int) -> None:
        """The first ``n`` bytes of the last ``room`` have been written, of which fewer will be committed.

        What they took the place of is gone.
        """

    def commit(n: int) -> None:
        """The first ``n`` bytes of the last ``room`` are bytes of the body now."""


class ISpool(IIntake):
    """The bytes of one transfer, between ``base`` and ``head``; ended by exactly one of ``finish`` and ``abort``."""

    base: int = Attribute("offset of the oldest byte that a new reader can get")

    def finish() -> "Deferred[None]":
        """The body is whole.  Fires when the store has it in safety; never, if it fails (see ``IStore.create``)."""

    def abort(error: BeamError) -> None:
        """The body will never be whole: readers hear ``body_failed(error)``; everything is let go."""

    def open(position: int, holds: bool) -> IReader:
        """A reader at ``position``, which may lie beyond ``head``: the bytes before it are then passed over.

        ``holds`` says whether the sender has to wait for this reader in a store that does not keep.

        :raises Gone: the byte at ``position`` is no longer there.
        """

    def release() -> None:
        """No new reader will come: let everything go when the last reader has closed.  May be called again."""


class IStore(Interface):
    """Makes spools and owns their quota.  It is started before the first spool and stopped after the last."""

    keeps: bool = Attribute("true: a transfer is done when it is stored; false: when delivered")

    def start() -> None:
        """Get ready, and remove what a crash left behind.

        :raises BeamError: it cannot work, with a sentence for the operator.
        """

    def stop() -> None:
        """Let everything go; every spool has ended before."""

    def create(length: int | None, failed: Callable[[BeamError], None]) -> ISpool:
        """A spool for a body of ``length`` bytes (``None``: not known before its end).

        ``failed`` is called when the store cannot go on with this spool; the caller aborts it.

        :raises StoreFull: a store that keeps has no space for it.
        :raises Unavailable: there is no memory or no descriptor for it now.
        """

    def usage() -> int:
        """Bytes that count against the store's quota now."""


class ILastingSpool(ISpool):
    """A spool whose bytes outlive the server, once its record has been saved."""

    def save() -> "Deferred[None]":
        """Write the record as it is now; ``finish`` does so too.  Fires when it is synced.

        If it cannot be, the spool fails (see ``IStore.create``); one that is whole and safe stays as it is, and this
        fails with a ``BeamError``.
        """

    def settle() -> "Deferred[None]":
        """Fires when all that has come would be there if the server were killed; never, if the spool fails before."""

    def suspend(error: BeamError) -> None:
        """As ``abort`` for those who read and fill, but what was saved stays for the next start.

        Of what no record was saved for, nothing stays.
        """


class IPieceSpool(ILastingSpool):
    """A spool that is filled in pieces, in any order: readers see what is contiguous."""

    def has(start: int, length: int) -> bool:
        """Whether these bytes are there."""

    def piece(start: int, length: int, failed: Callable[[BeamError], None]) -> ISpool:
        """What one producer fills with the bytes from ``start`` to ``start + length``.

        None of them is there yet, or on its way in another piece.  Only its producer's side is used: ``finish`` fires
        when the bytes are synced, and only then they are there; ``abort`` does nothing any more then.  ``failed`` is
        called when this piece cannot go on, also because the spool has ended; whoever fills it aborts it.

        :raises StoreFull: there is no space for it.
        :raises Unavailable: there is no memory for it now.
        """


class IFound(Interface):
    """A lasting spool that a former server left."""

    record: bytes = Attribute("as it was saved last")
    size: int = Attribute("bytes that are there, from the start of the body")
    age: float = Attribute("seconds since the last byte came")

    def start(n: int) -> bytes:
        """Its first ``n`` bytes, or as many as are there."""

    def open(length: int | None, failed: Callable[[BeamError], None], record: Callable[[], bytes]) -> ILastingSpool:
        """Go on with it; parameters and refusals as those of ``ILastingStore.create_lasting``.

        ``head`` is then where to go on: at ``length`` if it is whole, and it is to be finished; otherwise at ``size``
        or a little before.  One that was filled in pieces is an ``IPieceSpool`` again.
        """

    def remove() -> None:
        """Let it go for ever."""


class ILastingStore(IStore):
    """A store that keeps, whose spools can outlive the server: the second capability of a store."""

    def create_lasting(
        length: int | None, failed: Callable[[BeamError], None], record: Callable[[], bytes]
    ) -> ILastingSpool:
        """As ``create``; ``record`` gives what is to be known of the body, each time it is written.

        :raises StoreFull: as in ``create``.
        :raises Unavailable: as in ``create``.
        """

    def create_pieces(
        length: int | None, failed: Callable[[BeamError], None], record: Callable[[], bytes]
    ) -> IPieceSpool:
        """As ``create_lasting``, for a body whose pieces come in any order."""

    def recover() -> list[IFound]:
        """What former servers left, each to be opened or removed.  Called once, after ``start``."""


class IForwardTarget(Interface):
    """Whoever takes a body on to another server."""

    host: str = Attribute("all that the log shows of the address")
    name: str = Attribute("what the sender reads of it")

    def start(reader: IReader, length: int | None, content_type: str | None) -> "Deferred[None]":
        """Drain ``reader``, whose body has ``length`` bytes, if that is known.

        Fires when the target has said that it has it all; fails with ``ForwardFailed``, or with the ``BeamError`` that
        ended the body.
        """

    def untaken() -> int:
        """Bytes that were read for the target and that it is not known to have yet."""

    def cut() -> None:
        """Break off, so that the target does not take the part for the whole."""


class IForwardingStore(IStore):
    """A store whose bodies all go on to a target of the operator's; its spools hold."""

    def url(key: str) -> str:
        """The address to which the body under ``key`` goes."""


class IHouse(Interface):
    """What every store may use."""

    reactor: "IReactorTime" = Attribute("for timers and threads")
    memory: Quota = Attribute("the bytes that the rings of all stores share")
    disk_path: str = Attribute("where a disk store lies if its string does not say")
    disk_cap: int = Attribute("bytes that it may keep if its string does not say")


class IStoreMaker(Interface):
    """A plug-in that makes a store from the string that an operator wrote (``twisted.plugin``)."""

    prefix: str = Attribute("what stands before the first colon")

    def make(arguments: str, house: IHouse) -> IStore:
        """The store that ``arguments`` (all behind the first colon) describe.

        :raises ValueError: the string says something that cannot be, with a sentence for the operator.
        """
