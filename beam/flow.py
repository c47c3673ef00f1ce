"""Chunks of a file as Flow.js names them: parameters become a chunk with its place, or a sentence for who sent them.

The parameters are those of flow.js 2 and of its forerunner resumable.js.  A number that cannot be is refused, never
bent; an identifier is compared with others and nothing else, so that it may be any text.
"""

import re
from collections.abc import Mapping

from attrs import frozen

from beam.errors import BadRequest

OF_A_FILE = ("flowTotalChunks", "flowChunkSize", "flowIdentifier", "flowFilename")
PARAMETERS = (
    *OF_A_FILE,
    *("flowTotalSize", "flowChunkNumber", "flowCurrentChunkSize", "flowRelativePath", "flowChunkDigest"),
)
MOST_CHUNKS = 1_000_000
MISSING = "The parameter {} is missing; it is a field of the form that stands before the file, or in the query."
LARGEST = 1 << 53  # bytes
LONGEST = 1024  # characters of an identifier or a name


@frozen
class Plan:
    """What all chunks of one file agree on.

    :param chunks: how many there are.
    :param chunk_size: bytes of each but the last.
    :param size: bytes of the file, if they say so.
    """

    identifier: str
    filename: str
    chunks: int
    chunk_size: int
    size: int | None = None

    def agrees(self, other: "Plan") -> bool:
        """Whether both are of one file."""
        mine = (self.identifier, self.filename, self.chunks, self.chunk_size)
        theirs = (other.identifier, other.filename, other.chunks, other.chunk_size)
        return mine == theirs and (None in (self.size, other.size) or self.size == other.size)

    @property
    def notes(self) -> dict[str, str]:
        """What ``plan_of`` makes the same again of."""
        values = (self.chunks, self.chunk_size, self.identifier, self.filename, self.size)
        named = zip((*OF_A_FILE, "flowTotalSize"), values, strict=True)
        return {name: str(value) for name, value in named if value is not None}


@frozen
class Chunk:
    """One chunk of a file.

    :param number: from 1 on.
    :param length: bytes; ``None`` for a last chunk that does not say how long it is.
    """

    plan: Plan
    number: int
    length: int | None

    @property
    def start(self) -> int:
        """Offset of its first byte in the file."""
        return (self.number - 1) * self.plan.chunk_size

    @property
    def is_last(self) -> bool:
        """Whether it ends the file."""
        return self.number == self.plan.chunks

    def check(self, length: int) -> None:
        """Whether it can have ``length`` bytes.

        :raises BadRequest: it cannot.
        """
        if self.length is not None and length != self.length:
            raise BadRequest(f"Chunk {self.number} has {length} bytes and should have {self.length}; send it again.")
        longest = 2 * self.plan.chunk_size - 1  # Flow.js lets it have the rest, so that none is short
        if self.length is None and not least(self.plan) <= length <= longest:
            raise BadRequest(
                f"The last chunk has {length} bytes; it has {least(self.plan)} to {longest}, as flowChunkSize has it."
            )


def least(plan: Plan) -> int:
    """Bytes that the last chunk has at least: an empty file is one empty chunk."""
    return 0 if plan.chunks == 1 else 1


def number(given: Mapping[str, str], name: str, smallest: int = 1) -> int | None:
    """The parameter ``name``, if it is there.

    :raises BadRequest: it is no whole number, or below ``smallest``.
    """
    text = given.get(name)
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,15}", text) or int(text) < smallest:
        raise BadRequest(f"The parameter {name} is a whole number of at least {smallest}, in digits.")
    return int(text)


def plan_of(given: Mapping[str, str]) -> Plan:
    """What ``given`` says of the whole file.

    :raises BadRequest: something is missing, or cannot be.
    """
    for name in OF_A_FILE:
        if not given.get(name):
            raise BadRequest(MISSING.format(name))
    for name in ("flowIdentifier", "flowFilename"):
        if len(given[name]) > LONGEST:
            raise BadRequest(f"The parameter {name} is longer than {LONGEST} characters; choose a shorter one.")
    chunks, chunk_size = number(given, "flowTotalChunks") or 0, number(given, "flowChunkSize") or 0
    if chunks > MOST_CHUNKS:
        raise BadRequest(f"The file has more than {MOST_CHUNKS} chunks; choose larger ones.")
    if chunks * chunk_size > LARGEST:
        raise BadRequest("No disk holds so many chunks (flowTotalChunks) of such a size (flowChunkSize).")
    size = number(given, "flowTotalSize", 0)
    plan = Plan(given["flowIdentifier"], given["flowFilename"], chunks, chunk_size, size)
    if size is not None and not least(plan) <= size - (chunks - 1) * chunk_size < 2 * chunk_size:
        raise BadRequest(
            f"A file of {size} bytes (flowTotalSize) does not make {chunks} chunks (flowTotalChunks) of {chunk_size} "
            "bytes (flowChunkSize), of which the last may be shorter, or longer by less than one."
        )
    return plan


def chunk_of(given: Mapping[str, str], known: int | None = None) -> Chunk:
    """The chunk that ``given`` describes.

    :param known: bytes of the file, if an earlier chunk has told.
    :raises BadRequest: something is missing, or cannot be.
    """
    plan = plan_of(given)
    found = number(given, "flowChunkNumber")
    if found is None:
        raise BadRequest(MISSING.format("flowChunkNumber"))
    if found > plan.chunks:
        raise BadRequest(f"There is no chunk {found} (flowChunkNumber) of {plan.chunks} (flowTotalChunks).")
    size = plan.size if plan.size is not None else known
    length: int | None = plan.chunk_size
    if found == plan.chunks:
        length = None if size is None else size - (plan.chunks - 1) * plan.chunk_size
    chunk = Chunk(plan, found, length)
    said = number(given, "flowCurrentChunkSize", 0)
    if said is not None:
        chunk.check(said)
        return Chunk(plan, found, said)
    return chunk
