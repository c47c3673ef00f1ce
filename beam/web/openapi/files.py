"""The files API, as the description of beam has it; its routes are those of ``beam.web.files.api``."""

from beam.errors import (
    BeamError,
    DigestMismatch,
    Forbidden,
    KeyInUse,
    MalformedForm,
    NoFile,
    NotFound,
    PartRefused,
    StoreFailed,
    StoreFull,
    TooLarge,
    Unauthorized,
    UnsupportedMediaType,
)
from beam.flow import LONGEST, MOST_CHUNKS
from beam.listing import MOST_PER_PAGE, ORDERS, PER_PAGE
from beam.policy import Policy
from beam.web.files.file import JSON, PREFIX
from beam.web.openapi.keys import BODY, CONTROL, FILE, OF_A_SENDER, option, reading, security
from beam.web.openapi.own import options
from beam.web.openapi.pieces import (
    COUNT,
    NUMBER,
    PROBLEM,
    RETRY_AFTER,
    STRING,
    Node,
    content,
    field,
    header,
    operation,
    parameter,
    query,
    ref,
    refusals,
    response,
    words,
    written,
)
from beam.web.pages import OF_A_SEND
from beam.web.scope import Scope

TAG = "files"
SCHEMAS: Node = {
    "File": {
        "type": "object",
        "required": ["id", "filename", "size", "content_type", "created", "received", "complete"],
        "properties": {
            "id": {"type": "string", "format": "uuid"},
            "filename": STRING,
            "size": {"type": ["integer", "null"], "description": "bytes; null while nobody knows"},
            "content_type": {"type": ["string", "null"]},
            "created": {"type": "string", "format": "date-time"},
            "received": {"type": "integer", "description": "bytes from its start that can be read"},
            "complete": {"type": "boolean"},
        },
    },
    "Message": {"type": "object", "required": ["message"], "properties": {"message": STRING}},
}
A_FILE = content(JSON, schema=ref("File"))
A_FILE_OR_A_MESSAGE = content(JSON, schema={"anyOf": [ref("File"), ref("Message")]})
NAME: Node = {"type": "string", "minLength": 1, "maxLength": LONGEST}
FILENAME = rf"^[^/\\\\{CONTROL}]*[^/\\\\\s.{CONTROL}][^/\\\\{CONTROL}]*$"  # not of dots and spaces only
# Of Flow.js: whether a chunk must have it, what it says, how it is written.
FLOW: dict[str, tuple[bool, str, Node]] = {
    "flowChunkNumber": (True, "which chunk, from 1 on", COUNT),
    "flowTotalChunks": (True, "how many there are", {**COUNT, "maximum": MOST_CHUNKS}),
    "flowChunkSize": (True, "bytes of each but the last", COUNT),
    "flowIdentifier": (True, "what all chunks of a file have in common, and those of no other", NAME),
    "flowFilename": (True, "the name of the file", NAME),
    "flowTotalSize": (False, "bytes of the file", NUMBER),
    "flowCurrentChunkSize": (False, "bytes of this chunk", NUMBER),
    "flowRelativePath": (False, "nobody looks at it", STRING),
    "flowChunkDigest": (False, "of this chunk, as in `Content-Digest`", written("digest")),
}
TAKING: tuple[type[BeamError], ...] = (
    MalformedForm,
    NoFile,
    TooLarge,
    UnsupportedMediaType,
    DigestMismatch,
    StoreFailed,
    StoreFull,
)
OF_ONE = ("downloadFile", "showFile", "renameFile", "deleteFile")


def files(scope: Scope) -> dict[str, Node]:
    """Its paths."""
    id = parameter("id", "path", "of a file", {"type": "string", "format": "uuid"})
    policy = scope.policy
    return {
        PREFIX: {"get": listing(""), "head": listing("Head"), "options": abilities("files")},
        f"{PREFIX}/upload": {"post": upload(scope), "options": abilities("uploadFile")},
        f"{PREFIX}/upload/chunked": {
            "get": probe(""),
            "head": probe("Head"),
            "post": upload_chunk(policy),
            "options": abilities("chunk"),
        },
        f"{PREFIX}/{{id}}": {
            "parameters": [id],
            "get": download(policy),
            "head": show(policy),
            "patch": rename(policy),
            "delete": delete(policy),
            "options": abilities("file"),
        },
    }


def abilities(name: str) -> Node:
    """OPTIONS."""
    return options(name, TAG, PROBLEM)


def refused(*errors: type[BeamError], policy: Policy | None = None) -> dict[int, Node]:
    """The answers that tell of ``errors``.

    :param policy: where those who change something may have to show a secret.
    """
    asks = policy is not None and policy.auth is not None
    return refusals(*errors, *((Unauthorized,) if asks else ()), body=PROBLEM)


def listing(more: str) -> Node:
    """GET and HEAD of all files."""
    headers = {
        "X-Total-Count": header("files on all pages", NUMBER),
        "Link": header("the first, previous, next and last page (RFC 8288)"),
    }
    page = response("One page.", content(JSON, schema={"type": "array", "items": ref("File")}), headers)
    return operation(
        f"listFiles{more}",
        TAG,
        "The files that are here, and those that are coming",
        {**refused(), 200: page},
        parameters=[
            query("page", "from 1 on", COUNT),
            query("per_page", f"{PER_PAGE} if it is not said", {**COUNT, "maximum": MOST_PER_PAGE}),
            query(
                "sort",
                "`-created` if it is not said; the minus turns it around",
                words(*(f"{sign}{name}" for sign in ("", "-") for name in ORDERS)),
            ),
            query("filename", "a part of the name, in small or capital letters", STRING),
            query("content_type", "a media type, or all of a kind, such as `image/*`", STRING),
            query("complete", "whether they are whole", words("true", "false")),
        ],
    )


def upload(scope: Scope) -> Node:
    """POST of a whole file."""
    policy = scope.policy
    headers = {"Location": header("the path of the file")}
    links = {each: {"operationId": each, "parameters": {"id": "$response.body#/id"}} for each in OF_ONE}
    return operation(
        "uploadFile",
        TAG,
        "Send a file in one piece",
        {
            **refused(*TAKING, PartRefused, Forbidden, policy=policy),
            201: response("It is here, and safe.", A_FILE, headers, links),
        },
        text="Of a form, the first part that has a file name is the file.",
        parameters=[*(option(scope, each, OF_A_SEND) for each in OF_A_SEND if each in policy.options), *OF_A_SENDER],
        body=BODY,
        security=security(policy),
    )


def probe(more: str) -> Node:
    """GET and HEAD of a chunk."""
    return operation(
        f"probeChunk{more}",
        TAG,
        "Whether a chunk is here",
        {**refused(KeyInUse), 200: response("It is.", A_FILE_OR_A_MESSAGE), 204: response("It is not.")},
        parameters=[query(name, text, schema, needed) for name, (needed, text, schema) in FLOW.items()],
    )


def upload_chunk(policy: Policy) -> Node:
    """POST of a chunk."""
    fields = {name: {**schema, "description": text} for name, (_, text, schema) in FLOW.items()}
    form: Node = {"type": "object", "properties": {**fields, "file": FILE}, "required": ["file"]}
    digest = field("Content-Digest", "of this chunk, where it is sent as it is (RFC 9530)", written("digest"))
    found = refused(*TAKING, KeyInUse, policy=policy)
    found[409]["headers"] = {"Retry-After": {**RETRY_AFTER, "required": False}}
    return operation(
        "uploadChunk",
        TAG,
        "Send a chunk of a file, as Flow.js does",
        {
            **found,
            200: response("It was here before.", A_FILE_OR_A_MESSAGE),
            201: response("It is here; the file, if it was the last that lacked.", A_FILE_OR_A_MESSAGE),
        },
        text="The parameters stand in the query, or in the form before the file. Chunks may come in any order, and "
        "several at a time. The last one is as long as what is left, which may be less than `flowChunkSize`, or more "
        "by less than that.",
        parameters=[*(query(name, text, schema) for name, (_, text, schema) in FLOW.items()), digest],
        body={**content("*/*"), **content("multipart/form-data", schema=form)},
        security=security(policy),
    )


def download(policy: Policy) -> Node:
    """GET of a file."""
    fields, responses, errors = reading(policy)
    return operation(
        "downloadFile", TAG, "A file, also while it comes", {**refused(*errors), **responses}, parameters=fields
    )


def show(policy: Policy) -> Node:
    """HEAD of a file."""
    fields, responses, errors = reading(policy)
    found = {**refused(*errors), 200: responses[200], 304: responses[304]}
    return operation("showFile", TAG, "What a download would bring", found, parameters=fields[:2])


def rename(policy: Policy) -> Node:
    """PATCH of a file."""
    changes: Node = {
        "type": "object",
        "properties": {"filename": {**STRING, "maxLength": 255, "pattern": FILENAME}},
        "required": ["filename"],
        "additionalProperties": False,
    }
    return operation(
        "renameFile",
        TAG,
        "Give a file another name",
        {
            **refused(NotFound, UnsupportedMediaType, TooLarge, StoreFailed, StoreFull, policy=policy),
            200: response("It has it.", A_FILE),
        },
        body=content(JSON, "application/merge-patch+json", schema=changes),
        needs_body=True,
        security=security(policy),
    )


def delete(policy: Policy) -> Node:
    """DELETE of a file."""
    return operation(
        "deleteFile",
        TAG,
        "Let a file go",
        {**refused(NotFound, policy=policy), 204: response("It is gone; who reads it reads on.")},
        security=security(policy),
    )
