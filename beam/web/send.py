"""A send: what its head asks for is checked, and its body becomes an upload.

The way of a request here: ``send`` makes of it an ``Upload`` or refuses it; where the file also goes on to a target,
``forward`` finds that first, while the connection holds what comes.
"""

from twisted.internet.defer import ensureDeferred

from beam.broker import Broker
from beam.errors import BadRequest, BeamError, PartRefused
from beam.options import send_options
from beam.target import Target
from beam.web.answer import admit_mistake, refuse
from beam.web.fields import announced_digests, is_whole
from beam.web.form import is_form
from beam.web.forward import TargetPut, forward_headers, target_of
from beam.web.request import StreamingRequest
from beam.web.resolve import resolve
from beam.web.scope import Scope
from beam.web.upload import FormUpload, Upload, field


def send(request: StreamingRequest, scope: Scope, key: str, query: dict[str, list[str]]) -> None:
    """Take what ``request`` sends under ``key``.

    :raises BeamError: the refusal.
    """
    broker, policy = scope.broker, scope.policy
    content_range = field(request, "content-range")
    if content_range is not None and not (policy.parts and is_whole(content_range)):
        raise PartRefused("A part of a file cannot be sent; send it whole, without Content-Range.")
    options = scope.options if not query else send_options(query, policy, scope.stores)
    announced = announced_digests(
        [
            value
            for name in ("repr-digest", "content-digest")
            for value in request.requestHeaders.getRawHeaders(name, [])
        ]
    )
    content_type = field(request, "content-type") or ""
    upload: Upload
    if is_form(content_type):
        if announced:
            raise BadRequest("A digest field of a form would cover the form, not the file; leave it out.")
        upload = FormUpload(request, scope, key, options, content_type)
    else:
        upload = Upload(request, scope, key, options)
    upload.check_secret(bearer(request))
    named = query.get("store", []) if "store" in policy.options else []
    store = broker.stores[named[0] if named else next(iter(broker.stores))]
    found = target_of(request, policy, store, key, upload.file_length(), options)
    if found is None:
        upload.begin(announced)
    else:
        headers = forward_headers(request, not is_form(content_type))
        request.hold()  # a name may have to be resolved before the sender is admitted
        ensureDeferred(forward(request, broker, upload, announced, *found, headers))


def bearer(request: StreamingRequest) -> str | None:
    """The token that ``request`` shows, if it does (RFC 6750, section 2.1)."""
    scheme, _, token = (field(request, "authorization") or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


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
