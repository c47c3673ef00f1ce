"""Sending and receiving under a key, as the description of beam has them.

What the operator has chosen is in it: the options with their caps, the names of the stores, whether a secret is asked.
"""

from beam.digests import DIGESTS
from beam.errors import (
    BeamError,
    DigestMismatch,
    Established,
    Forbidden,
    ForwardFailed,
    Gone,
    KeyInUse,
    KeyTooLong,
    LengthRequired,
    MalformedForm,
    MissingKey,
    NoFile,
    NoReceiver,
    NotFound,
    OffsetDiffers,
    PartRefused,
    PreconditionFailed,
    RangeNotSatisfiable,
    ReceiverLost,
    Reserved,
    SenderLost,
    ServiceWorkerRefused,
    StoreFailed,
    StoreFull,
    TakenOver,
    TooLarge,
    Unauthorized,
    UnsupportedMediaType,
)
from beam.interfaces import IForwardingStore
from beam.options import FORWARDS
from beam.policy import Keys, Policy
from beam.web.download import NotModified
from beam.web.fields import LONGEST_KEY
from beam.web.openapi.own import ALLOW
from beam.web.openapi.pieces import (
    COUNT,
    NUMBER,
    SECONDS,
    STRING,
    Node,
    content,
    field,
    header,
    meaning,
    operation,
    parameter,
    query,
    refusals,
    response,
    words,
    written,
)
from beam.web.pages import OF_A_RECEIVE, OF_A_SEND
from beam.web.scope import Scope

TAG = "transfers"
CONTROL = r"\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069"
SEGMENT = rf"(?!\.{{1,2}}(?:/|$))[^/{CONTROL}]+"
KEY = rf"^(?!(?:-|api)(?:/|$)|favicon\.ico$|robots\.txt$){SEGMENT}(?:/{SEGMENT})*$"
ETAG = header("of this transfer; for `If-Range` and `If-Match`")
DIGEST = header("what was computed or announced, as `sha-256=:BASE64:` (RFC 9530)", required=False)
LENGTH = header("bytes, if they are known", NUMBER, required=False)
OF_A_FILE: Node = {
    "ETag": ETAG,
    "Accept-Ranges": header("`bytes`", {"const": "bytes"}),
    "Content-Disposition": header("`attachment`, with the file name (RFC 6266)"),
    "Content-Length": LENGTH,
    "Content-Encoding": header("the sender's", required=False),
    "Last-Modified": header("the sender's", required=False),
    "X-Piping": header("the sender's", required=False),
    "Repr-Digest": DIGEST,
    "Cache-Control": header("`no-store`"),
    "X-Content-Type-Options": header("`nosniff`"),
    "X-Robots-Tag": header("`none`"),
}
OF_A_SENDER = (
    field("Content-Disposition", "its file name, if there is no `name`"),
    field("Content-Encoding", "for the receivers"),
    field("Last-Modified", "for the receivers"),
    field("X-Piping", "for the receivers"),
    field(
        "Repr-Digest",
        "checked before anybody is told that the file is whole (RFC 9530); `sha-512` too. `Content-Digest` means the "
        "same",
        written("digest", "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"),  # of nothing
    ),
)
FILE: Node = {"type": "string", "contentMediaType": "application/octet-stream"}
FORM: Node = {"type": "object", "properties": {"file": FILE}, "required": ["file"]}
BODY = {**content("*/*"), **content("multipart/form-data", schema=FORM)}
OF_A_PART: Node = {
    "Upload-Offset": header("bytes that are here: where to go on", NUMBER),
    "Upload-Complete": header("`?1` if they are all, else `?0`", words("?0", "?1")),
    "Upload-Length": header("of all of them, if that is known", NUMBER, required=False),
}
SEND_ERRORS: tuple[type[BeamError], ...] = (
    Reserved,
    MissingKey,
    KeyTooLong,
    PartRefused,
    MalformedForm,
    NoFile,
    NotFound,
    KeyInUse,
    OffsetDiffers,
    TakenOver,
    TooLarge,
    UnsupportedMediaType,
    DigestMismatch,
    StoreFailed,
    ReceiverLost,
    NoReceiver,
    StoreFull,
    Forbidden,
)


def keys(scope: Scope) -> dict[str, Node]:
    """The path of every key."""
    policy = scope.policy
    methods = {
        "PUT": send(scope, "send", "Send a file"),
        "POST": send(scope, "sendByPost", "Send a file; the same as PUT"),
        "GET": receive(scope),
        "HEAD": describe(scope),
        "OPTIONS": options(),
    }
    known = {name.lower(): found for name, found in methods.items() if name in policy.methods}
    return {"/{key}": {"parameters": [key(policy)], **known}}


def key(policy: Policy) -> Node:
    """What a path may be."""
    schema: Node = {"type": "string", "minLength": 1, "maxLength": LONGEST_KEY, "examples": ["report-2026.pdf"]}
    if policy.keys is Keys.STRICT:
        schema["pattern"] = KEY
    text = f"any path that is not reserved: 1 to {LONGEST_KEY} bytes of UTF-8; slashes may stand in it as they are"
    return parameter("key", "path", text, schema)


def options_of_a_send(scope: Scope) -> list[str]:
    """Those that can be used here: some need a store of one kind, some need that forwarding is allowed."""
    keeps = set(scope.stores.values())
    wanting = {"readers": False in keeps, "wait": False in keeps, "ttl": True in keeps, "downloads": True in keeps}
    wanting["forward"] = forwards(scope)
    return [name for name in OF_A_SEND if name in scope.policy.options and wanting.get(name, True)]


def forwards(scope: Scope) -> bool:
    """Whether files can go on to another server."""
    stores = scope.broker.stores.values()
    return bool(scope.policy.allow_forward) or any(map(IForwardingStore.providedBy, stores))


def option(scope: Scope, name: str, texts: dict[str, str]) -> Node:
    """An option of the query, with what ``/-/help`` says of it."""
    policy = scope.policy
    away = max(policy.upload_ttl if keeps else policy.sender_resume for keeps in scope.stores.values())
    schemas: dict[str, Node] = {
        "store": words(*scope.stores),
        "readers": COUNT,
        "n": COUNT,
        "downloads": COUNT,
        "ttl": {**SECONDS, "maximum": policy.max_ttl},
        "wait": {**SECONDS, "maximum": policy.max_wait},
        "name": {"type": "string", "minLength": 1},
        "digest": words(*DIGESTS),
        "resume": {"anyOf": [{"const": ""}, {**SECONDS, "minimum": 0.001, "maximum": away}]},
        "forward": words(*sorted(FORWARDS), ",".join(sorted(FORWARDS))),
    }
    text = texts[name].split(maxsplit=1)[1].format(stores=", ".join(scope.stores))
    return query(name, text, schemas.get(name, STRING))


def send(scope: Scope, name: str, summary: str) -> Node:
    """PUT and POST."""
    policy = scope.policy
    headers: Node = {"Repr-Digest": DIGEST}
    link: Node = {"parameters": {"key": "$request.path.key"}}
    links = {each: {"operationId": each, **link} for each in ("receive", "describe")}
    done = content("text/plain", schema=STRING)
    responses: dict[int, Node] = {}
    if not all(scope.stores.values()):
        responses[200] = response("The receivers have it.", done, headers)
    if any(scope.stores.values()):
        headers = {**headers, "Location": header("the path under which it lies")}
        responses[201] = response("It is stored, and kept for the time that is told.", done, headers, links)
    errors = SEND_ERRORS
    resumes = policy.parts and "resume" in policy.options
    if resumes:
        of_a_part = {each: OF_A_PART[each] for each in ("Upload-Offset", "Upload-Complete")}
        responses[202] = response("A part of it is here; the next begins at the offset.", done, of_a_part)
    fields = list(OF_A_SENDER)
    if resumes:
        part = "the part that is sent, where it is not all; the first one is sent with `resume` (RFC 9110, 14.4)"
        fields.append(field("Content-Range", part, written("content-range", "bytes 0-3/8")))
    if forwards(scope):
        errors = (*errors, LengthRequired, ForwardFailed)
        fields.append(field("X-Forward-Url", "where the file goes on to while it comes"))
    if policy.auth is not None:
        errors = (*errors, Unauthorized)
    found = refusals(*errors)
    if resumes:
        found[409]["headers"] = {"Upload-Offset": {**OF_A_PART["Upload-Offset"], "required": False}}
    return operation(
        name,
        TAG,
        summary,
        {**found, **responses},
        text="The answer comes when it is known how it went: delivered, or stored. Of a form, the first part that has "
        "a file name is the file.",
        parameters=[*(option(scope, each, OF_A_SEND) for each in options_of_a_send(scope)), *fields],
        body=BODY,
        security=security(policy),
    )


def security(policy: Policy) -> list[Node] | None:
    """What a sender has to show."""
    return None if policy.auth is None else [{"secret": []}]


def reading(policy: Policy) -> tuple[list[Node], dict[int, Node], tuple[type[BeamError], ...]]:
    """What every GET of a file has in common: headers that say which part is wanted, answers, and errors."""
    fields = [
        field("If-Match", "the ETag that must still be there, or `*`"),
        field("If-None-Match", "the ETag of what the receiver has: 304 if that is still kept"),
    ]
    errors: tuple[type[BeamError], ...] = (
        NotFound,
        Gone,
        PreconditionFailed,
        ServiceWorkerRefused,
        SenderLost,
    )
    responses = {
        200: response("The file, while it comes.", content("*/*"), OF_A_FILE),
        304: response(meaning(NotModified), headers={"ETag": ETAG}),
    }
    if policy.parts:
        errors = (*errors, RangeNotSatisfiable)
        fields += [
            field("Range", "what is wanted; of a running transfer too", written("range", "bytes=0-", "bytes=0-99")),
            field("If-Range", "the ETag of what was got of it before"),
        ]
        part = header("`bytes N-M/LENGTH`; where the length is not known, it is `*` (RFC 8673)")
        responses[206] = response("A part of it.", content("*/*"), {**OF_A_FILE, "Content-Range": part})
    return fields, responses, errors


def receive(scope: Scope) -> Node:
    """GET."""
    policy = scope.policy
    fields, responses, errors = reading(policy)
    responses[200] = response("The file, while it comes; or a page about it, for browsers.", content("*/*"))
    if policy.exact:
        errors = (*errors, Established)
    if policy.claims:
        responses[307] = response("It is at an address that only you know.", headers={"Location": header("that")})
    found = refusals(Reserved, MissingKey, KeyTooLong, *errors)
    found[404]["content"] = {**found[404]["content"], **content("text/html", schema=STRING)}
    asked = [option(scope, each, OF_A_RECEIVE) for each in OF_A_RECEIVE if each in policy.options]
    if "download" in policy.options:
        asked.append(query("download", "give the file to browsers too, and no page", STRING))
    return operation(
        "receive",
        TAG,
        "Receive a file",
        {**found, **responses},
        text="It may come before the sender does. The bytes come as they are sent; if the file cannot come whole, the "
        "connection is broken.",
        parameters=[*asked, *fields],
    )


def describe(scope: Scope) -> Node:
    """HEAD."""
    progress = {name: {**each, "required": False} for name, each in OF_A_PART.items()}  # of one that can be resumed
    fields, responses, _ = reading(scope.policy)
    responses[200] = response("It is there.", content("*/*"), {**OF_A_FILE, **progress})
    return operation(
        "describe",
        TAG,
        "What a GET would bring, without taking it",
        {
            **refusals(Reserved, MissingKey, KeyTooLong, NotFound, Gone, PreconditionFailed),
            **{status: responses[status] for status in (200, 304)},
        },
        parameters=fields[:2],
    )


def options() -> Node:
    """OPTIONS."""
    return operation(
        "options",
        TAG,
        "Which methods this path takes",
        {
            **refusals(Reserved, MissingKey, KeyTooLong),
            204: response("They are in `Allow`.", headers={"Allow": ALLOW}),
        },
    )
