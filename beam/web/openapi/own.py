"""The server's own pages, as the description of beam has them; their routes are those of ``beam.web.own``."""

from beam.errors import BeamError, NotFound
from beam.web.docs import FILES
from beam.web.openapi.pieces import (
    PROBLEM,
    SENTENCE,
    STRING,
    Node,
    content,
    header,
    operation,
    parameter,
    refusals,
    response,
    words,
)

TAG = "about this server"
ALLOW = header("the methods that this path takes")
HTML = content("text/html", schema=STRING)
TEXT = content("text/plain", schema=STRING)
NOTHING = response("Nothing.")


def pages() -> dict[str, Node]:
    """Every path that answers with a page, and only reads."""
    file = parameter("file", "path", "a part of Swagger UI", words(*FILES))
    return {
        "/": page("front", "What runs now, and how to use it", response("A page.", HTML)),
        "/-/help": page("help", "The curl lines", response("They.", TEXT)),
        "/-/version": page(
            "version",
            "What runs",
            response("`beam` and a number.", content("text/plain", schema={"pattern": "^beam "})),
        ),
        "/-/health": page("health", "Whether something new is taken", response("It is.", TEXT)),
        "/favicon.ico": page("icon", "No icon", NOTHING, status=204),
        "/robots.txt": page("robots", "Nobody may crawl this server", response("The rules.", TEXT)),
        "/api/openapi.json": page(
            "openapi",
            "This description",
            response("OpenAPI 3.1.", content("application/json", schema={"type": "object", "required": ["openapi"]})),
            shape=PROBLEM,
        ),
        "/api/docs": page("docs", "This description, for people", response("Swagger UI.", HTML), shape=PROBLEM),
        "/api/docs/{file}": page(
            "docsFile",
            "What that page needs",
            response("A file.", content("text/css", "text/javascript")),
            NotFound,
            shape=PROBLEM,
            parameters=[file],
        ),
    }


def page(
    name: str,
    summary: str,
    found: Node,
    *errors: type[BeamError],
    status: int = 200,
    shape: Node = SENTENCE,
    parameters: list[Node] | None = None,
) -> Node:
    """A path that takes GET, HEAD and OPTIONS."""
    responses = {**refusals(*errors, body=shape), status: found}
    return {
        **({"parameters": parameters} if parameters else {}),
        "get": operation(name, TAG, summary, responses),
        "head": operation(f"{name}Head", TAG, f"{summary}: the head only", responses),
        "options": options(name, TAG, shape, *errors),
    }


def options(name: str, tag: str, shape: Node, *errors: type[BeamError]) -> Node:
    """The method OPTIONS."""
    responses = {**refusals(*errors, body=shape), 204: response("They are in `Allow`.", headers={"Allow": ALLOW})}
    return operation(f"{name}Options", tag, "Which methods this path takes", responses)
