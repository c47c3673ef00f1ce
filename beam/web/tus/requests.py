"""Resumable uploads by the protocol tus 1.0.0: <https://tus.io/protocols/resumable-upload>.

An upload is a transfer like any other, whose sender is there while a PATCH runs and away between two of them; its key
is what receivers ask for, and its name below ``/-/tus`` what its sender knows.
"""

from collections.abc import Callable, Mapping

from beam.digests import CHECKSUMS
from beam.errors import BadRequest, Forbidden, Gone, MethodNotAllowed, NotFound, Removed, UnsupportedVersion
from beam.transfer import Transfer
from beam.web.answer import answer
from beam.web.part import CheckedPart, PartUpload
from beam.web.request import StreamingRequest
from beam.web.scope import Scope
from beam.web.secret import bearer, check_secret
from beam.web.tus.creation import CONCAT, METADATA, create
from beam.web.tus.fields import VERSION, check_type, checksum_of, number
from beam.web.tus.reply import TusReply, progress

EXTENSIONS = ("creation", "creation-with-upload", "creation-defer-length", "termination", "checksum", "expiration")


def tus(request: StreamingRequest, scope: Scope, path: str, query: dict[str, list[str]]) -> None:
    """Answer ``request``, which is for the upload named ``path``, or for all of them.

    :raises BeamError: the refusal.
    """
    method = request.field("x-http-method-override") or request.method.decode("ascii")
    request.setHeader("tus-resumable", VERSION)
    if method == "OPTIONS":
        tell_abilities(request, scope)
        return
    allowed = tuple(METHODS) if path else ("POST",)
    if method not in allowed:
        names = ", ".join((*allowed, "OPTIONS"))
        raise MethodNotAllowed(f"This path takes {names}.", {"allow": names})
    if request.field("tus-resumable") != VERSION:
        raise UnsupportedVersion(
            f"This server speaks tus {VERSION}; send Tus-Resumable: {VERSION}.", {"tus-version": VERSION}
        )
    if method != "HEAD":
        check_secret(scope.policy, bearer(request))
    if not path:
        create(request, scope, query)
        return
    transfer = scope.broker.rendezvous.upload(path)
    if transfer is None:
        raise NotFound("There is no such upload; begin one with POST.")
    is_of_use = transfer.error is None and transfer.notes.get(CONCAT) != "partial"  # a part that is gone joins nothing
    if transfer.outcome is not None and not (method == "HEAD" and is_of_use):
        raise Gone("This upload has ended; begin another.")
    METHODS[method](request, scope, transfer)


def tell_abilities(request: StreamingRequest, scope: Scope) -> None:
    """Answer OPTIONS."""
    limit = scope.policy.max_pipe_size
    headers = {
        "tus-version": VERSION,
        "tus-extension": ",".join((*EXTENSIONS, *(("concatenation",) if any(scope.stores.values()) else ()))),
        "tus-checksum-algorithm": ",".join(CHECKSUMS),
        **({} if limit is None else {"tus-max-size": str(limit)}),
    }
    answer(request, 204, "", headers)


def tell_offset(request: StreamingRequest, scope: Scope, transfer: Transfer) -> None:
    """Answer HEAD: the offset stays as it is told, because a part that still comes ends here."""
    is_final = transfer.notes.get(CONCAT, "").startswith("final")
    if transfer.outcome is None and not is_final:
        scope.broker.dismiss(transfer)
    headers = progress(transfer, None if transfer.is_whole else scope.broker.absence(transfer))
    if transfer.length is None:
        headers["upload-defer-length"] = "1"
    else:
        headers["upload-length"] = str(transfer.length)
    for field, note in (("upload-metadata", METADATA), ("upload-concat", CONCAT)):
        if transfer.notes.get(note):
            headers[field] = transfer.notes[note]
    if not transfer.is_whole and is_final:
        del headers["upload-offset"]
    answer(request, 200, "", headers)


def take_part(request: StreamingRequest, scope: Scope, transfer: Transfer) -> None:
    """Answer PATCH.

    :raises BeamError: the refusal.
    """
    if transfer.notes.get(CONCAT, "").startswith("final"):
        raise Forbidden("This upload is joined from others; send those.")
    check_type(request)
    offset = number(request, "Upload-Offset")
    if offset is None:
        raise BadRequest("A part has Upload-Offset: where it begins.")
    total, checksum = number(request, "Upload-Length"), checksum_of(request)
    reply = TusReply(request, 204)
    if checksum:
        CheckedPart(request, scope, transfer, reply, checksum).go_on(offset, total)
    else:
        PartUpload(request, scope, transfer, reply).go_on(offset, total)


def remove(request: StreamingRequest, scope: Scope, transfer: Transfer) -> None:
    """Answer DELETE."""
    scope.broker.fail(transfer, Removed("The sender has taken this file back."))
    answer(request, 204, "")


METHODS: Mapping[str, Callable[[StreamingRequest, Scope, Transfer], None]] = {
    "HEAD": tell_offset,
    "PATCH": take_part,
    "DELETE": remove,
}
