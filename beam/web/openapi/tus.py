"""Resumable uploads by tus 1.0.0, as the description of beam has them; their routes are in ``beam.web.tus``."""

from beam.digests import CHECKSUMS
from beam.errors import (
    BeamError,
    ChecksumMismatch,
    Forbidden,
    Gone,
    KeyInUse,
    NoReceiver,
    NotFound,
    OffsetDiffers,
    ReceiverLost,
    Reserved,
    StoreFailed,
    StoreFull,
    TakenOver,
    TooLarge,
    Unauthorized,
    UnsupportedMediaType,
    UnsupportedVersion,
    WrongType,
)
from beam.web.openapi.keys import option, options_of_a_send, security
from beam.web.openapi.pieces import (
    NUMBER,
    Node,
    content,
    field,
    header,
    operation,
    parameter,
    refusals,
    response,
    written,
)
from beam.web.pages import OF_A_SEND
from beam.web.scope import Scope
from beam.web.tus.fields import FOLDER, PART, VERSION

TAG = "tus"
RESUMABLE = {"Tus-Resumable": header("the version", {"const": VERSION})}
OFFSET = {"Upload-Offset": header("bytes that are here", NUMBER)}
EXPIRES = {"Upload-Expires": header("until when it can go on, while it is not whole (an HTTP date)", required=False)}
A_PART = content(PART)
SAYS_VERSION = field("Tus-Resumable", "the version", {"type": "string", "const": VERSION}, required=True)
CHECKSUM = field("Upload-Checksum", "of the part: nobody sees it before it is right", written("upload-checksum"))
PART_ERRORS: tuple[type[BeamError], ...] = (
    WrongType,
    UnsupportedMediaType,
    TooLarge,
    ChecksumMismatch,
    TakenOver,
    StoreFailed,
    StoreFull,
    ReceiverLost,
    NoReceiver,
)


def refused(scope: Scope, *errors: type[BeamError]) -> dict[int, Node]:
    """The answers that tell of ``errors``, and of what every request of tus may meet."""
    secret = () if scope.policy.auth is None else (Unauthorized,)
    found = refusals(*errors, *secret, UnsupportedVersion)
    found[412]["headers"] = {"Tus-Version": header("the one that is spoken here", {"const": VERSION})}
    if OffsetDiffers in errors:
        found[409]["headers"] = {"Upload-Offset": {**OFFSET["Upload-Offset"], "required": False}}
    return found


def uploads(scope: Scope) -> dict[str, Node]:
    """The two paths of tus."""
    name = parameter("id", "path", "as `Location` gave it", {"type": "string", "pattern": "^[0-9a-f]{32}$"})
    return {
        f"/{FOLDER}": {"post": create(scope), "options": options(scope, "uploadOptions")},
        f"/{FOLDER}/{{id}}": {
            "parameters": [name],
            "head": tell(scope),
            "patch": take(scope),
            "delete": remove(scope),
            "options": options(scope, "oneUploadOptions"),
        },
    }


def create(scope: Scope) -> Node:
    """POST."""
    fields = [
        SAYS_VERSION,
        field("Upload-Length", "bytes of the file", {**NUMBER, "examples": [4]}),
        field("Upload-Defer-Length", "the length is told later", {"type": "string", "const": "1"}),
        field(
            "Upload-Metadata",
            "names and values in base64, with commas between: `filename`, `filetype`, and `key`, under which receivers "
            "ask for the file while it comes; a random one if it is left out",
            {"type": "string", "format": "upload-metadata", "examples": ["filename cmVwb3J0LnBkZg==,key cmVwb3J0"]},
        ),
        CHECKSUM,
    ]
    if any(scope.stores.values()):
        text = "`partial`, of which nobody knows the key; or `final;` and the paths of such, with spaces between"
        fields.append(field("Upload-Concat", text, {"type": "string", "pattern": "^(partial|final;.*)$"}))
    headers = {
        **RESUMABLE,
        "Location": header("the path of the upload"),
        "Content-Location": header("the path at which the file can be received", required=False),
        "Upload-Offset": {**OFFSET["Upload-Offset"], "required": False},
        **EXPIRES,
    }
    return operation(
        "beginUpload",
        TAG,
        "Begin an upload, perhaps with its first part",
        {**refused(scope, Reserved, KeyInUse, *PART_ERRORS), 201: response("It has begun.", headers=headers)},
        text="Either `Upload-Length` or `Upload-Defer-Length: 1`. Extensions: creation, creation-with-upload, "
        "creation-defer-length, termination, checksum, expiration; concatenation where a store keeps.",
        parameters=[*(option(scope, each, OF_A_SEND) for each in options_of_a_send(scope)), *fields],
        body=A_PART,
        security=security(scope.policy),
    )


def tell(scope: Scope) -> Node:
    """HEAD."""
    headers = {
        **RESUMABLE,
        "Upload-Offset": {**OFFSET["Upload-Offset"], "required": False},  # none while it is joined
        "Upload-Length": header("bytes of the file", NUMBER, required=False),
        "Upload-Defer-Length": header("`1`: the length is not known yet", {"const": "1"}, required=False),
        "Upload-Metadata": header("as it was sent", required=False),
        "Upload-Concat": header("as it was sent", required=False),
        **EXPIRES,
        "Cache-Control": header("`no-store`"),
    }
    return operation(
        "uploadOffset",
        TAG,
        "How far an upload is; a part that still comes ends here",
        {**refused(scope, NotFound, Gone), 200: response("It is there, or has ended well.", headers=headers)},
        parameters=[SAYS_VERSION],
    )


def take(scope: Scope) -> Node:
    """PATCH."""
    return operation(
        "continueUpload",
        TAG,
        "Send the next part",
        {
            **refused(scope, NotFound, Gone, Forbidden, OffsetDiffers, *PART_ERRORS),
            204: response(
                "It is here; of the last part: how it went is known.", headers={**RESUMABLE, **OFFSET, **EXPIRES}
            ),
        },
        parameters=[
            SAYS_VERSION,
            field("Upload-Offset", "where it begins: the end of what is here", NUMBER, required=True),
            field("Upload-Length", "bytes of the file, if it was not told before", NUMBER),
            CHECKSUM,
        ],
        body=A_PART,
        needs_body=True,
        security=security(scope.policy),
    )


def remove(scope: Scope) -> Node:
    """DELETE."""
    return operation(
        "endUpload",
        TAG,
        "End an upload; its receivers are cut",
        {**refused(scope, NotFound, Gone), 204: response("It has ended.", headers=RESUMABLE)},
        parameters=[SAYS_VERSION],
        security=security(scope.policy),
    )


def options(scope: Scope, name: str) -> Node:
    """OPTIONS."""
    headers = {
        **RESUMABLE,
        "Tus-Version": header("the versions that are spoken", {"const": VERSION}),
        "Tus-Extension": header("the extensions"),
        "Tus-Checksum-Algorithm": header("for `Upload-Checksum`", {"const": ",".join(CHECKSUMS)}),
        "Tus-Max-Size": header("bytes of the largest file that is taken, if there is a limit", NUMBER, required=False),
    }
    return operation(
        name,
        TAG,
        "What is spoken here",
        {**refusals(), 204: response("In the headers.", headers=headers)},
    )
