"""The sender's body on its way into a spool: its length, its limit, its digests and its type.

Every kind of upload end, direct or not, fills a spool through a ``Body``; so these rules stand once.  A body may come
in parts, each by a request of its own.
"""

from collections import deque
from collections.abc import Mapping
from typing import Protocol

from beam.digests import HASHES
from beam.errors import BadRequest, DigestMismatch, TooLarge
from beam.interfaces import IIntake

EMPTY = memoryview(b"")


class Check(Protocol):
    """Looks at a body as it comes."""

    filename: str

    def take(self, data: memoryview) -> None:
        """``data`` comes next.

        :raises BeamError: the body is refused.
        """

    def end(self) -> None:
        """That was all.

        :raises BeamError: the body is refused.
        """


class Body:
    """Counts and checks what goes into ``intake``.

    :param length: bytes that were announced, or ``None``.
    :param limit: bytes that the operator allows, or ``None``.
    :param announced: digests that the sender announced (RFC 9530): they must be right before the end is told.
    :param asked: the algorithm that the sender asked for, if any.
    :param doubted: whether ``length`` is only what the sender says, and no framing shows it.
    :param check: what it has to pass before anybody has the whole.
    :ivar received: bytes that came, of all parts.
    """

    def __init__(
        self,
        intake: IIntake,
        length: int | None,
        limit: int | None,
        announced: Mapping[str, bytes],
        asked: str | None,
        doubted: bool = False,
        check: Check | None = None,
    ) -> None:
        self.intake = intake
        self.length = length
        self.limit = limit
        self.received = intake.head
        self._until = length  # where the part that comes ends, if that is known
        self._announced = announced
        self._hashes = {name: HASHES[name]() for name in {*announced, *([asked] if asked else [])}}
        self._check = check
        self._withholds = doubted or bool(announced) or check is not None
        self._last = b""  # the byte that is withheld until digests, length and type are right
        self._view = EMPTY

    def begin_part(self, length: int | None) -> None:
        """A part begins, of ``length`` bytes if that is known.

        :raises BadRequest: it has more than is missing.
        """
        self.received -= len(self._last)  # the last part broke off before its end was told: this byte comes again
        self._last = b""
        end = None if length is None else self.received + length
        if end is not None and self.length is not None and end > self.length:
            raise BadRequest(f"The part ends at {end}, behind the {self.length} bytes of the file; send it again.")
        self._until = self.length if end is None else end

    @property
    def is_whole(self) -> bool:
        """Whether as many bytes came as were announced."""
        return self.received == self.length

    @property
    def missing(self) -> int | None:
        """Bytes that the part lacks, if that is known."""
        return None if self._until is None else self._until - self.received

    def named(self, filename: str) -> None:
        """The file has a name, on which its type may depend."""
        if self._check is not None:
            self._check.filename = filename

    def room(self) -> memoryview:
        """A writable view for what comes next: never more than is missing; empty when the sender has to wait."""
        view = self.intake.room()
        if self._until is not None:
            view = view[: self.missing]
        if self._hashes or self._withholds:
            self._view = view
        return view

    def overwritten(self, n: int) -> None:
        """The first ``n`` bytes of the last ``room`` were written, of which fewer come in."""
        self.intake.overwritten(n)

    def commit(self, n: int) -> None:
        """The first ``n`` bytes of the last ``room`` came in.

        :raises TooLarge: they are more than the operator allows.
        :raises BeamError: the check refuses them.
        """
        self.received += n
        if self.limit is not None and self.received > self.limit:
            raise TooLarge(f"The file is larger than the {self.limit} bytes that this server takes.")
        if self._withholds and self.received == self.length and n:
            n -= 1
            self._last = bytes(self._view[n : n + 1])
        self._look_at(self._view[:n])
        self._view = EMPTY
        if n:
            self.intake.commit(n)

    def _look_at(self, data: memoryview) -> None:
        for each in self._hashes.values():
            each.update(data)
        if self._check is not None:
            self._check.take(data)

    def write(self, pieces: deque[bytes | memoryview]) -> None:
        """Copy of ``pieces`` what there is room for; the rest stays in them.

        :raises TooLarge: they are more than the operator allows.
        :raises BadRequest: they are more than were announced.
        """
        while pieces:
            if self.missing == 0:
                raise BadRequest(f"The file has more than the {self._until} bytes that were announced; send it again.")
            view = self.room()
            if not view:
                return
            filled = 0
            while pieces and filled < len(view):
                piece = pieces.popleft()
                n = min(len(piece), len(view) - filled)
                if n < len(piece):
                    pieces.appendleft(memoryview(piece)[n:])
                    piece = memoryview(piece)[:n]
                view[filled : filled + n] = piece
                filled += n
            self.commit(filled)

    def check_part(self, length: int | None) -> None:
        """A part has come, of ``length`` bytes if that was announced.

        :raises BadRequest: fewer bytes came.
        """
        if length is not None and self.missing:
            raise BadRequest(f"The body ends at {self.received} where {self._until} was announced; send it again.")

    def end(self) -> dict[str, bytes]:
        """Everything has come.  The digests by name; the spool is not finished yet.

        :raises BadRequest: fewer bytes came than were announced.
        :raises DigestMismatch: an announced digest is not right.
        :raises BeamError: the check refuses it.
        """
        if self.length is not None and self.received != self.length:
            raise BadRequest(f"The body has {self.received} bytes where {self.length} were announced; send it again.")
        self._look_at(memoryview(self._last))
        digests = {name: each.digest() for name, each in self._hashes.items()}
        for name, value in self._announced.items():
            if digests[name] != value:
                raise DigestMismatch(f"The {name} digest of what arrived is not the announced one; send it again.")
        if self._check is not None:
            self._check.end()
        if self._last:
            self.intake.room()[:1] = self._last
            self.intake.commit(1)
        return digests
