"""What the fields of tus 1.0.0 say."""

import base64
import binascii
import re

from beam.digests import CHECKSUMS
from beam.errors import BadRequest, WrongType
from beam.web.request import StreamingRequest

VERSION = "1.0.0"
FOLDER = "-/tus"  # in front of the names of uploads
PART = "application/offset+octet-stream"
NUMBER = re.compile("[0-9]{1,18}")


def number(request: StreamingRequest, field: str) -> int | None:
    """The value of a header that is a number, if it is given.

    :raises BadRequest: it is none.
    """
    values = request.requestHeaders.getRawHeaders(field, [])
    if len(values) > 1 or not all(map(NUMBER.fullmatch, values)):
        raise BadRequest(f"{field} is not a number of bytes; it has digits only, once.")
    return int(values[0]) if values else None


def announced_length(request: StreamingRequest) -> int | None:
    """The length of a new upload; ``None`` if it is told later.

    :raises BadRequest: neither is said, or both.
    """
    length, deferred = number(request, "Upload-Length"), request.field("upload-defer-length")
    if deferred not in (None, "1") or (length is None) == (deferred is None):
        raise BadRequest("An upload has either Upload-Length or Upload-Defer-Length: 1.")
    return length


def metadata_of(text: str) -> dict[str, str]:
    """What ``Upload-Metadata`` says: names, and values that were base64.

    :raises BadRequest: it is malformed.
    """
    found: dict[str, str] = {}
    for pair in text.split(",") if text.strip() else ():
        name, _, value = pair.strip().partition(" ")
        try:
            decoded = base64.b64decode(value.strip(), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise BadRequest("Upload-Metadata is malformed; it reads NAME BASE64, with commas between.") from None
        if not name or not name.isascii() or name in found:
            raise BadRequest("Upload-Metadata has an empty name, or one twice, or one that is not ASCII.")
        found[name] = decoded
    return found


def checksum_of(request: StreamingRequest) -> dict[str, bytes]:
    """What ``Upload-Checksum`` says, by the name of its algorithm; nothing if it is not there.

    :raises BadRequest: it is malformed, or the algorithm is unknown.
    """
    text = request.field("upload-checksum")
    if text is None:
        return {}
    name, _, value = text.partition(" ")
    if name not in CHECKSUMS:
        raise BadRequest(f"The algorithm of Upload-Checksum is one of {', '.join(CHECKSUMS)}.")
    try:
        checksum = base64.b64decode(value, validate=True)
    except binascii.Error:
        checksum = b""
    if len(checksum) != len(CHECKSUMS[name]().digest()):
        raise BadRequest("Upload-Checksum is malformed; it reads ALGORITHM BASE64, and is as long as that algorithm's.")
    return {name: checksum}


def check_type(request: StreamingRequest) -> None:
    """Whether the body is a part.

    :raises WrongType: it is not.
    """
    if request.field("content-type") != PART:
        raise WrongType(f"A part of an upload has Content-Type: {PART}.")
