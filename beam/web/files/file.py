"""Files of the files API: listed, read, renamed and deleted; and what is told of each.

A file is a transfer of a scope of its own, whose key is the file's id and which stays until somebody deletes it.  So
reading one, whole or in parts, kept or still coming, is what ``beam.web.download`` does anyway.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any
from uuid import uuid4

from attrs import evolve
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.defer import ensureDeferred

from beam.broker import Broker
from beam.deadlines import Deadline
from beam.errors import (
    BadRequest,
    BeamError,
    Gone,
    NotFound,
    RequestTimeout,
    ServiceWorkerRefused,
    StoreFailed,
    TooLarge,
    Unavailable,
    UnsupportedMediaType,
)
from beam.listing import File, page_of, wanted_of
from beam.transfer import Transfer
from beam.web.answer import answer, refuse
from beam.web.download import Download, head
from beam.web.fields import attachment, safe_filename
from beam.web.reply import FinalReply
from beam.web.request import StreamingRequest
from beam.web.scope import Scope
from beam.web.send import send

PREFIX = "/api/files"
JSON = "application/json"
LONGEST_BODY = 64 << 10  # bytes of JSON that are read
DELETED = "Somebody has deleted this file."

Query = Mapping[str, Sequence[str]]


def tell(request: StreamingRequest, status: int, told: object, headers: Mapping[str, str] | None = None) -> None:
    """Answer with ``told`` as JSON."""
    answer(request, status, json.dumps(told, ensure_ascii=False) + "\n", headers, JSON)


def file_of(transfer: Transfer) -> File:
    """What is told of ``transfer``, whose sender has said what it sends."""
    offer = transfer.offer
    assert offer is not None
    return File(
        id=transfer.key,
        filename=offer.filename,
        size=transfer.length if transfer.length is not None else offer.length,
        content_type=offer.content_type,
        created=transfer.created,
        received=transfer.spool.head,
        complete=transfer.is_whole and transfer.saved,
    )


def find(broker: Broker, id: str) -> Transfer:
    """The file.

    :raises NotFound: there is none.
    """
    transfer = broker.rendezvous.transfers.get(id)
    if transfer is None or transfer.offer is None:
        raise NotFound(f"There is no file with this id; GET {PREFIX} lists those that are here.")
    return transfer


class FileReply(FinalReply):
    """Tells the sender of a file what has become of it."""

    def end(self, transfer: Transfer) -> None:
        """Tell of it, or why there is none."""
        if transfer.error is not None:
            refuse(self._request, transfer.error)
        else:
            tell(self._request, 201, file_of(transfer).shown(), {"location": f"{PREFIX}/{transfer.key}"})


def upload(request: StreamingRequest, scope: Scope, query: dict[str, list[str]]) -> None:
    """Take a file, as a form or as it is."""
    send(request, scope, str(uuid4()), query, FileReply(request, scope))


def show_list(request: StreamingRequest, scope: Scope, query: Query) -> None:
    """Tell of the files that are asked for."""
    wanted = wanted_of(query)
    transfers = scope.broker.rendezvous.transfers.values()
    page = page_of([file_of(each) for each in transfers if each.offer is not None], wanted, query)
    links = ", ".join(f'<{PREFIX}?{query}>; rel="{relation}"' for relation, query in page.links.items())
    headers = {"x-total-count": str(page.total), "link": links}
    tell(request, 200, [each.shown() for each in page.files], headers)


def download(request: StreamingRequest, scope: Scope, id: str) -> None:
    """Give the file, or the part of it that is asked for."""
    find(scope.broker, id)
    if request.getHeader("service-worker") == "script":
        raise ServiceWorkerRefused("What is sent here cannot be the service worker of a page.")
    Download(request, scope.broker, id).begin({})


def show_head(request: StreamingRequest, scope: Scope, id: str) -> None:
    """Tell what a download would bring."""
    find(scope.broker, id)
    head(request, scope.broker, id, {})


def delete(request: StreamingRequest, scope: Scope, id: str) -> None:
    """Let the file go; whoever reads it reads on, unless it was still coming."""
    scope.broker.remove(find(scope.broker, id), Gone(DELETED))
    answer(request, 204, "")


def change(request: StreamingRequest, scope: Scope, id: str) -> None:
    """Give the file another name."""
    find(scope.broker, id)
    kind = (request.field("content-type") or "").partition(";")[0].strip().lower()
    if kind not in (JSON, "application/merge-patch+json"):
        raise UnsupportedMediaType(f"What is to be changed is told as {JSON}.")

    def told(changes: object) -> None:
        ensureDeferred(rename(request, scope.broker, id, new_name(changes)))

    Told(request, scope.broker, told).begin()


def new_name(changes: object) -> str:
    """The name that the file shall have.

    :raises BadRequest: ``changes`` tell of none, or of more.
    """
    name: Any = changes.get("filename") if isinstance(changes, dict) and len(changes) == 1 else None
    if not isinstance(name, str) or not is_text(name) or not safe_filename(name):
        raise BadRequest('The name of a file can be changed, and nothing else: write {"filename": "NAME"}.')
    return safe_filename(name)


def is_text(name: str) -> bool:
    """Whether ``name`` has characters only: JSON can write halves of them."""
    return not any("\ud800" <= each <= "\udfff" for each in name)


async def rename(request: StreamingRequest, broker: Broker, id: str, name: str) -> None:
    """Answer when the new name is safe."""
    try:
        transfer = find(broker, id)
        assert transfer.offer is not None
        if transfer.is_whole and not transfer.saved:
            raise Unavailable("The end of the file is being written; try again in a moment.", 1)
        transfer.offer = evolve(transfer.offer, filename=name, disposition=attachment(name))
        if transfer.saved:  # else the name is written with the rest
            await broker.save(transfer).addTimeout(broker.policy.idle_timeout, broker.clock)
        tell(request, 200, file_of(transfer).shown())
    except DeferredTimeout:
        refuse(request, StoreFailed("The new name could not be written; the file may have been deleted."))
    except BeamError as error:
        refuse(request, error)


class Told:
    """A small body of JSON.

    :param done: is given what it says; raises ``BeamError``.
    """

    def __init__(self, request: StreamingRequest, broker: Broker, done: Callable[[object], None]) -> None:
        self._request = request
        self._broker = broker
        self._done = done
        self._data = b""
        self._limit = Deadline(lambda _: self.broken(RequestTimeout("The body did not come in time; send it again.")))

    def begin(self) -> None:
        """Take the body."""
        self._request.on_lost(self._end, lambda: self._request.body_is_whole)
        self._broker.at(self._limit, self._broker.clock.seconds() + self._broker.policy.idle_timeout)
        self._request.take_body(self)

    def _end(self) -> None:
        self._broker.at(self._limit, inf)

    def received(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > LONGEST_BODY:
            self.broken(TooLarge(f"The body has more than {LONGEST_BODY} bytes; send less."))

    def ended(self) -> None:
        self._end()
        try:
            self._done(json.loads(self._data))
        except BeamError as error:
            refuse(self._request, error)
        except (ValueError, RecursionError):
            refuse(self._request, BadRequest("The body is no JSON."))

    def broken(self, error: BeamError) -> None:
        self._end()
        refuse(self._request, error)
