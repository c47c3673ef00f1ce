"""A send: what its head asks for is checked, and its body becomes an upload.

The way of a request here: ``send`` makes of it an ``Upload`` or refuses it; where the file also goes on to a target,
``forward`` finds that first, while the connection holds what comes.
"""

from collections.abc import Mapping

from twisted.internet.defer import ensureDeferred

from beam.broker import Broker
from beam.errors import BadRequest, BeamError, KeyInUse, NotFound, PartRefused
from beam.options import SendOptions, send_options
from beam.policy import Policy
from beam.target import Target
from beam.transfer import Transfer
from beam.web.answer import admit_mistake, refuse
from beam.web.fields import Part, announced_digests, part_in
from beam.web.form import is_form
from beam.web.form_upload import FormUpload
from beam.web.forward import TargetPut, forward_headers, target_of
from beam.web.part import PartUpload
from beam.web.reply import SenderReply
from beam.web.request import StreamingRequest
from beam.web.resolve import resolve
from beam.web.scope import Scope
from beam.web.secret import bearer
from beam.web.upload import Upload


def send(
    request: StreamingRequest,
    scope: Scope,
    key: str,
    query: dict[str, list[str]],
    reply: SenderReply | None = None,
) -> None:
    """Take what ``request`` sends under ``key``.

    :param reply: what the sender hears, if not what the policy says.
    :raises BeamError: the refusal.
    """
    broker, policy = scope.broker, scope.policy
    options = scope.options if not query else send_options(query, policy, scope.stores)
    part = part_of(request, policy)
    transfer = broker.rendezvous.transfers.get(key)
    if part is not None and transfer is not None and transfer.options.resume is not None:
        back = PartUpload(request, scope, transfer)
        back.check_secret(bearer(request))
        back.go_on(part.start, part.total, part.stop)
        return
    if part is not None and part.start:
        raise nothing_to_go_on_with(transfer)
    if part is not None and options.resume is None and not part.is_whole:
        raise PartRefused("The first part of a file has to say that others follow; send it with ?resume.")
    announced = announced_digests(
        [
            value
            for name in ("repr-digest", "content-digest")
            for value in request.requestHeaders.getRawHeaders(name, [])
        ]
    )
    content_type = request.field("content-type") or ""
    upload: Upload
    if options.resume is not None:
        check_resumable(announced, options, scope.stores, is_form(content_type))
    if is_form(content_type):
        if announced:
            raise BadRequest("A digest field of a form would cover the form, not the file; leave it out.")
        upload = FormUpload(request, scope, key, options, content_type, reply)
    else:
        upload = Upload(request, scope, key, options, reply, part)
    upload.check_secret(bearer(request))
    named = query.get("store", []) if "store" in policy.options else []
    store = broker.stores[named[0] if named else next(iter(broker.stores))]
    found = target_of(request, policy, store, key, upload.file_length(), options)
    if found is None:
        upload.begin(announced)
    elif options.resume is not None:
        raise BadRequest("A file that is forwarded goes on in one piece; leave out the option resume.")
    else:
        headers = forward_headers(request, not is_form(content_type))
        request.hold()  # a name may have to be resolved before the sender is admitted
        ensureDeferred(forward(request, broker, upload, announced, *found, headers))


def part_of(request: StreamingRequest, policy: Policy) -> Part | None:
    """The part of a file that ``request`` says it brings.

    :raises PartRefused: it says it in a way that cannot be, or where parts are not taken.
    """
    content_range = request.field("content-range")
    if content_range is None:
        return None
    part = part_in(content_range)
    if part is None or not policy.parts or not (part.is_whole or "resume" in policy.options):
        raise PartRefused("A part of a file cannot be sent so; send it whole, without Content-Range.")
    if request.length not in (None, part.stop - part.start):
        raise BadRequest("Content-Range and Content-Length do not agree; send the file again.")
    return part


def nothing_to_go_on_with(transfer: Transfer | None) -> BeamError:
    """Why a part finds no transfer that waits for it."""
    if transfer is None:
        return NotFound("Nothing waits here for the rest of a file; send it from its start, with ?resume.")
    return KeyInUse("What is sent here cannot be resumed; it was not begun with ?resume.")


def check_resumable(announced: dict[str, bytes], options: SendOptions, stores: Mapping[str, bool], form: bool) -> None:
    """Whether what a sender asks for can be had by one that may come back.

    :raises BadRequest: it cannot.
    """
    if form:
        raise BadRequest("A form cannot be resumed; send the file itself, with curl -T.")
    if stores[options.store] and (announced or options.digest):
        raise BadRequest(
            "A digest would be lost when this server restarts; leave out the digest, or the option resume."
        )


async def forward(
    request: StreamingRequest,
    broker: Broker,
    upload: Upload,
    announced: dict[str, bytes],
    target: Target,
    own: bool,
    headers: dict[bytes, list[bytes]],
) -> None:
    """Begin ``upload``, whose file goes on to ``target``.

    :param own: whether that is the operator's address.
    """
    gone: list[bool] = []
    request.on_lost(lambda: gone.append(True), lambda: False)
    try:
        policy = broker.policy
        addresses = await resolve(broker.clock, target, own or policy.allow_forward_private, policy.forward_timeout)
        if not gone:
            upload.begin(announced, TargetPut(broker.clock, policy, target, addresses, headers, own))
    except BeamError as error:
        if not gone:
            refuse(request, error)
    except Exception:  # as in ``Root.render``, which has returned
        if not gone:
            admit_mistake(request)
    request.go_on()
