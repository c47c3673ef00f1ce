"""The whole HTTP interface of beam for programs: an OpenAPI 3.1 document, written beside the routes.

A room for each kind of paths; what the code knows (statuses, options, caps, stores) comes from there and is not said
twice.  ``tests/openapi`` asks a running server whether it is true.
"""

from beam import __version__
from beam.web.openapi import files, keys, own, tus
from beam.web.openapi.pieces import Node, common
from beam.web.scope import Scope

TEXT = (
    "beam carries a file from a sender to its receivers while it is still being sent. "
    "An error is one sentence that says what happened and what to do; it is JSON for those whose `Accept` has "
    "`application/json` and not `text/html`. A path that does not take a method answers 405 with `Allow`. "
    "Where the operator limits the rate of requests, every answer has the three `RateLimit` headers that are shown "
    "with 429; where pages of other origins are allowed, their preflights are answered on every path (Fetch, 3.3)."
)
TAGS = {
    keys.TAG: "Send under a key, receive under the same; either side may come first.",
    tus.TAG: "Uploads that go on where they broke off, and can be received meanwhile (tus 1.0.0).",
    files.TAG: "Files that stay until somebody deletes them, which can be sent in chunks; errors are as in RFC 9457.",
    own.TAG: "Pages, and what watches the server asks for.",
}
ERROR = {
    "type": "object",
    "required": ["error", "status"],
    "properties": {
        "error": {"type": "string", "description": "what happened, and what to do"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
    },
}


PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"const": "about:blank"},
        "title": {"type": "string", "description": "the name of the status"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "what happened, and what to do"},
    },
}


def document(scope: Scope) -> Node:
    """What ``scope`` answers, as OpenAPI 3.1."""
    components: Node = {"schemas": {"Error": ERROR, "Problem": PROBLEM}, "responses": common()}
    paths = {**keys.keys(scope), **tus.uploads(scope)}
    tags = dict(TAGS)
    if scope.files is not None:
        paths |= files.files(scope.files)
        components["schemas"] |= files.SCHEMAS
    else:
        del tags[files.TAG]
    if scope.policy.auth is not None:
        components["securitySchemes"] = {
            "secret": {"type": "http", "scheme": "bearer", "description": "the secret that the operator has set"}
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": "beam", "version": __version__, "description": TEXT, "license": {"name": "MIT"}},
        "servers": [{"url": scope.prefix or "/"}],
        "tags": [{"name": name, "description": text} for name, text in tags.items()],
        "paths": {**paths, **own.pages()},
        "components": components,
    }
