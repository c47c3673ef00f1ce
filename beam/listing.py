"""Lists of files: which of them are asked for, in which order, and which page of them.

Pure: a file is a value here, and a page is made of values.  Whoever answers turns both into JSON.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from attrs import frozen

from beam.errors import BadRequest
from beam.options import one
from beam.values import count

MOST_PER_PAGE = 1000
PER_PAGE = 50


@frozen
class File:
    """What is told of one file.

    :param size: bytes; ``None`` while nobody knows.
    :param created: seconds since 1970, when its first byte was asked for.
    :param received: bytes from its start that can be read.
    """

    id: str
    filename: str
    size: int | None
    content_type: str | None
    created: float
    received: int
    complete: bool

    def shown(self) -> dict[str, object]:
        """As JSON has it."""
        created = datetime.fromtimestamp(self.created, UTC).isoformat(timespec="milliseconds")
        return {
            "id": self.id,
            "filename": self.filename,
            "size": self.size,
            "content_type": self.content_type,
            "created": created.replace("+00:00", "Z"),
            "received": self.received,
            "complete": self.complete,
        }


ORDERS: Mapping[str, Callable[[File], Any]] = {
    "created": lambda file: file.created,
    "filename": lambda file: file.filename.casefold(),
    "size": lambda file: -1 if file.size is None else file.size,
    "content_type": lambda file: (file.content_type or "").lower(),
}
OPTIONS = ("page", "per_page", "sort", "filename", "content_type", "complete")


@frozen
class Wanted:
    """Which files, in which order, and which page of them.

    :param filename: what is part of their names, whatever the case.
    :param content_type: as it is, or ``image/*``.
    """

    page: int = 1
    per_page: int = PER_PAGE
    sort: str = "-created"
    filename: str = ""
    content_type: str | None = None
    complete: bool | None = None

    def has(self, file: File) -> bool:
        """Whether ``file`` is one of them."""
        kind = (file.content_type or "").partition(";")[0].strip().lower()
        return (
            self.filename.casefold() in file.filename.casefold()
            and self.complete in (None, file.complete)
            and (self.content_type is None or matches(kind, self.content_type))
        )


def matches(kind: str, wanted: str) -> bool:
    """Whether the media type ``kind`` is ``wanted``, which may end with ``/*``."""
    wanted = wanted.strip().lower()
    return kind.startswith(wanted[:-1]) if wanted.endswith("/*") else kind == wanted


@frozen
class Page:
    """One page.

    :param total: files on all pages.
    :param links: the queries of other pages, by their relation (RFC 8288): first, prev, next and last.
    """

    files: Sequence[File]
    total: int
    links: Mapping[str, str]


def wanted_of(query: Mapping[str, Sequence[str]]) -> Wanted:
    """What ``query`` asks for.

    :raises BadRequest: it has an option that there is not, or one whose value cannot be.
    """
    unknown = sorted(query.keys() - set(OPTIONS))
    if unknown:
        raise BadRequest(f"There is no option {unknown[0][:40]!r} of the list; there are {', '.join(OPTIONS)}.")
    sort = one(query, "sort") or "-created"
    if sort.removeprefix("-") not in ORDERS:
        raise BadRequest(f"The option sort is one of {', '.join(ORDERS)}, perhaps with a minus in front.")
    complete = one(query, "complete")
    if complete not in (None, "true", "false"):
        raise BadRequest("The option complete is true or false.")
    return Wanted(
        page=counted(query, "page", 1),
        per_page=counted(query, "per_page", PER_PAGE, MOST_PER_PAGE),
        sort=sort,
        filename=one(query, "filename") or "",
        content_type=one(query, "content_type"),
        complete=None if complete is None else complete == "true",
    )


def counted(query: Mapping[str, Sequence[str]], name: str, default: int, most: int | None = None) -> int:
    """The option ``name``.

    :raises BadRequest: it is no number, less than one or more than ``most``.
    """
    text = one(query, name)
    try:
        value = default if text is None else count(text)
    except ValueError as error:
        raise BadRequest(f"The option {name}: {error}.") from None
    if most is not None and value > most:
        raise BadRequest(f"The option {name} is at most {most}.")
    return value


def page_of(files: Sequence[File], wanted: Wanted, query: Mapping[str, Sequence[str]]) -> Page:
    """The page of ``files`` that is wanted; an empty one behind the last.

    :param query: that of the request, of which those of the other pages differ in their number only.
    """
    found = sorted(filter(wanted.has, files), key=lambda file: file.id)  # so that equal ones have their order, too
    found.sort(key=ORDERS[wanted.sort.removeprefix("-")], reverse=wanted.sort.startswith("-"))
    last = max(1, -(-len(found) // wanted.per_page))
    pages = {"first": 1, "prev": min(wanted.page - 1, last), "next": wanted.page + 1, "last": last}
    given = {name: values[-1] for name, values in query.items()}
    links = {
        relation: urlencode({**given, "page": page, "per_page": wanted.per_page})
        for relation, page in pages.items()
        if 1 <= page <= last
    }
    start = (wanted.page - 1) * wanted.per_page
    return Page(found[start : start + wanted.per_page], len(found), links)
