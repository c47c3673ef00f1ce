"""The pieces that a description of an HTTP interface is made of (OpenAPI 3.1), as small functions.

What belongs here knows OpenAPI and how beam tells of errors; it knows no path.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from beam.errors import (
    BadRequest,
    BeamError,
    ExpectationFailed,
    HeadTooLarge,
    MethodNotAllowed,
    NotImplementedHere,
    RangeNotSatisfiable,
    RequestTimeout,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from beam.web.head import VersionNotSupported

Node = dict[str, Any]  # a piece of the document, as JSON will have it

STRING: Node = {"type": "string"}
NUMBER: Node = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
SECONDS: Node = {"type": "number", "minimum": 0, "multipleOf": 0.001}
COUNT: Node = {"type": "integer", "minimum": 1, "maximum": 999_999_999}

# What any request may meet: it is malformed, late, too large or one too many; the server is about to stop, or fails.
ALWAYS: tuple[type[BeamError], ...] = (
    BadRequest,
    RequestTimeout,
    ExpectationFailed,
    TooManyRequests,
    HeadTooLarge,
    BeamError,
    NotImplementedHere,
    Unavailable,
    VersionNotSupported,
)


# How some headers are written, as regular expressions of ECMA-262.
FORMATS = {
    "range": "^bytes=([0-9]{1,18}-[0-9]{0,18}|-[0-9]{1,18})$",
    "digest": "^sha-256=:[A-Za-z0-9+/]{43}=:$",
    "content-range": "^bytes [0-9]{1,18}-[0-9]{1,18}/[0-9]{1,18}$",
    "upload-checksum": "^(sha1 [A-Za-z0-9+/]{27}=|sha256 [A-Za-z0-9+/]{43}=|crc32 [A-Za-z0-9+/]{6}==)$",
}


def written(name: str, *examples: str) -> Node:
    """A string in one of the ``FORMATS``."""
    found: Node = {"type": "string", "format": name, "pattern": FORMATS[name]}
    return {**found, "examples": list(examples)} if examples else found


def ref(name: str) -> Node:
    """The schema ``name`` of the components."""
    return {"$ref": f"#/components/schemas/{name}"}


def words(*known: str) -> Node:
    """A string that is one of ``known``."""
    return {"type": "string", "enum": list(known)}


def parameter(name: str, where: str, text: str, schema: Node, required: bool = False) -> Node:
    """A parameter.

    :param where: ``path``, ``query`` or ``header``.
    """
    return {"name": name, "in": where, "description": text, "required": required or where == "path", "schema": schema}


def query(name: str, text: str, schema: Node, required: bool = False) -> Node:
    """A parameter of the query."""
    return parameter(name, "query", text, schema, required)


def field(name: str, text: str, schema: Node = STRING, required: bool = False) -> Node:
    """A header of the request."""
    return parameter(name, "header", text, schema, required)


def header(text: str, schema: Node = STRING, required: bool = True) -> Node:
    """A header of a response; ``required`` if it is always there."""
    return {"description": text, "required": required, "schema": schema}


def content(*types: str, schema: Node | None = None) -> Node:
    """Bodies of these media types; without a schema, any bytes."""
    return {each: {"schema": schema} if schema is not None else {} for each in types}


def response(text: str, body: Node | None = None, headers: Node | None = None, links: Node | None = None) -> Node:
    """An answer."""
    found: Node = {"description": text}
    for name, value in (("headers", headers), ("content", body), ("links", links)):
        if value:
            found[name] = value
    return found


def operation(
    name: str,
    tag: str,
    summary: str,
    responses: Mapping[int, Node],
    *,
    text: str = "",
    parameters: Iterable[Node] = (),
    body: Node | None = None,
    needs_body: bool = False,
    security: list[Node] | None = None,
) -> Node:
    """What one method of a path does.

    :param name: the ``operationId``.
    :param body: of the request, by media type.
    """
    found: Node = {"operationId": name, "tags": [tag], "summary": summary}
    for key, value in (("description", text), ("parameters", list(parameters)), ("security", security)):
        if value:
            found[key] = value
    if body is not None:
        found["requestBody"] = {"content": body, "required": needs_body}
    found["responses"] = {str(status): responses[status] for status in sorted(responses)}
    return found


SENTENCE = {**content("text/plain", schema=STRING), **content("application/json", schema=ref("Error"))}
PROBLEM = {**content("application/problem+json", schema=ref("Problem")), **SENTENCE}  # below /api
RETRY_AFTER = header("seconds after which to try again", NUMBER)
OF_STATUS: dict[int, Node] = {
    Unauthorized.status: {"WWW-Authenticate": header("`Bearer`", {"const": "Bearer"})},
    MethodNotAllowed.status: {"Allow": header("the methods that this path takes")},
    RangeNotSatisfiable.status: {
        "Content-Range": header("`bytes */N`, where N is the length", {"type": "string", "pattern": r"^bytes \*/\d+$"})
    },
    TooManyRequests.status: {
        "Retry-After": RETRY_AFTER,
        "RateLimit-Limit": header("requests that an address may make in a window", NUMBER),
        "RateLimit-Remaining": header("how many of them are left", NUMBER),
        "RateLimit-Reset": header("seconds to the end of the window", NUMBER),
    },
    Unavailable.status: {"Retry-After": RETRY_AFTER},
}


def meaning(error: type[BeamError]) -> str:
    """What ``error`` says of itself, as a sentence."""
    if error is BeamError:
        return "The server could not do its work; the operator finds why in the log."
    first = (error.__doc__ or "").partition("\n")[0]
    text = first.partition(": ")[2] or error.__name__
    return text[0].upper() + text[1:]


def refusal(errors: Iterable[type[BeamError]], body: Node) -> Node:
    """The answer that tells of ``errors``, which have one status."""
    texts = dict.fromkeys(map(meaning, errors))
    (status,) = {each.status for each in errors}
    return response(" ".join(texts), body, OF_STATUS.get(status))


def of_status(status: int, errors: Iterable[type[BeamError]]) -> list[type[BeamError]]:
    """Those of ``errors`` that have ``status``."""
    return [each for each in errors if each.status == status]


def common() -> dict[str, Node]:
    """The answers of which every operation speaks, by their names among the components."""
    shapes = ("Sentence", SENTENCE), ("Problem", PROBLEM)
    statuses = {each.status for each in ALWAYS}
    return {f"{name}{status}": refusal(of_status(status, ALWAYS), body) for name, body in shapes for status in statuses}


def refusals(*errors: type[BeamError], body: Node = SENTENCE) -> dict[int, Node]:
    """The answers that tell of ``errors`` and of what any request may meet, by status."""
    found: dict[int, Node] = {}
    for status in {each.status for each in (*errors, *ALWAYS)}:
        own = of_status(status, errors)
        name = f"{'Sentence' if body is SENTENCE else 'Problem'}{status}"
        found[status] = (
            refusal([*own, *of_status(status, ALWAYS)], body) if own else {"$ref": f"#/components/responses/{name}"}
        )
    return found
