"""What a sender says of its file, as its receivers get it."""

import re
from typing import TypeGuard

from beam.policy import Naming, Policy
from beam.transfer import Offer, Transfer
from beam.web.fields import attachment, has_control, safe_filename
from beam.web.request import StreamingRequest

HTML = re.compile(r"\s*text/html\s*(?=;|$)", re.IGNORECASE)


def is_clean(value: str | None) -> TypeGuard[str]:
    """Whether ``value`` can be a field of the receivers' responses."""
    return value is not None and value != "" and not has_control(value)


def offer_of(
    request: StreamingRequest,
    policy: Policy,
    transfer: Transfer,
    length: int | None,
    filename: str | None,
    content_type: str | None,
    disposition: str,
) -> Offer:
    """The offer of ``transfer``.

    :param length: bytes of the body, if known.
    :param filename: as the sender gives it, if it does.
    :param disposition: the sender's ``Content-Disposition``.
    """
    name = safe_filename(transfer.options.name or filename or transfer.key.split("/")[-1])
    if policy.naming is Naming.VERBATIM:
        shown = disposition if is_clean(disposition) else None
    else:
        shown = attachment(name) if filename or policy.naming is Naming.ATTACHMENT else None
    kind = content_type if is_clean(content_type) else policy.default_type
    if policy.html_as_text and kind is not None:
        kind = HTML.sub("text/plain", kind, count=1)
    return Offer(
        length=length,
        content_type=kind,
        content_encoding=request.field("content-encoding"),
        last_modified=request.field("last-modified"),
        filename=name,
        disposition=shown,
        x_piping=tuple(request.requestHeaders.getRawHeaders("x-piping", [])),
        peer=request.peer,
    )
