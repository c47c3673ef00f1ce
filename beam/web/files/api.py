"""The files API: its routes, as a table, and the way from a request to one of them.

Errors have one shape here (RFC 9457).  Whoever changes something shows the operator's secret, if there is one.
"""

from collections.abc import Callable

from attrs import field, frozen

from beam.broker import DRAINING
from beam.errors import Draining, MethodNotAllowed, NotFound
from beam.web.answer import answer
from beam.web.files.assembly import Assemblies
from beam.web.files.chunk import probe, upload_chunk
from beam.web.files.file import PREFIX, change, delete, download, show_head, show_list, upload
from beam.web.request import StreamingRequest
from beam.web.scope import Scope
from beam.web.secret import bearer, check_secret

NO_STORE = "The files API needs a disk store, which this server does not have: start it with --store disk:PATH."
NOTHING = f"Nothing is at this path; the files are at {PREFIX}."
READING = ("GET", "HEAD", "OPTIONS")


@frozen
class Files:
    """The files of one server.

    :param scope: theirs alone: each transfer of it is a file.
    """

    scope: Scope
    assemblies: Assemblies = field(init=False)

    @assemblies.default
    def _assemblies(self) -> Assemblies:
        return Assemblies(self.scope.broker)


@frozen
class Asked:
    """A request that has found its route.

    :param id: what stands in the place of ``{id}``, if there is one.
    """

    request: StreamingRequest
    files: Files
    query: dict[str, list[str]]
    id: str


@frozen
class Route:
    """What answers a method at the paths of a pattern."""

    method: str
    path: str
    answer: Callable[[Asked], None]


def _scoped(function: Callable[[StreamingRequest, Scope, str], None]) -> Callable[[Asked], None]:
    return lambda asked: function(asked.request, asked.files.scope, asked.id)


def _queried(function: Callable[[StreamingRequest, Scope, dict[str, list[str]]], None]) -> Callable[[Asked], None]:
    return lambda asked: function(asked.request, asked.files.scope, asked.query)


def _probe(asked: Asked) -> None:
    probe(asked.request, asked.files.assemblies, asked.query)


def _upload_chunk(asked: Asked) -> None:
    upload_chunk(asked.request, asked.files.scope, asked.files.assemblies, asked.query)


ROUTES = (  # the literal ones first
    Route("GET", PREFIX, _queried(show_list)),
    Route("HEAD", PREFIX, _queried(show_list)),
    Route("POST", f"{PREFIX}/upload", _queried(upload)),
    Route("GET", f"{PREFIX}/upload/chunked", _probe),
    Route("HEAD", f"{PREFIX}/upload/chunked", _probe),
    Route("POST", f"{PREFIX}/upload/chunked", _upload_chunk),
    Route("GET", f"{PREFIX}/{{id}}", _scoped(download)),
    Route("HEAD", f"{PREFIX}/{{id}}", _scoped(show_head)),
    Route("DELETE", f"{PREFIX}/{{id}}", _scoped(delete)),
    Route("PATCH", f"{PREFIX}/{{id}}", _scoped(change)),
)


def serve(request: StreamingRequest, files: Files | None, path: str, query: dict[str, list[str]]) -> None:
    """Answer ``request`` of ``path`` (decoded, without its first slash).

    :param files: ``None`` where no store lasts.
    :raises BeamError: the refusal.
    """
    if files is None:
        raise NotFound(NO_STORE)
    method = request.method.decode("ascii")
    pattern, id = matched(f"/{path}")
    routes = {each.method: each for each in ROUTES if each.path == pattern}
    allowed = ", ".join([*routes, "OPTIONS"])
    if method == "OPTIONS":
        answer(request, 204, "", {"allow": allowed})
        return
    if method not in routes:
        raise MethodNotAllowed(f"This path takes {allowed}.", {"allow": allowed})
    if files.scope.broker.drained is not None:  # what is kept waits for the next start
        raise Draining(DRAINING)
    if method not in READING:
        check_secret(files.scope.policy, bearer(request))
    routes[method].answer(Asked(request, files, query, id))


def matched(path: str) -> tuple[str, str]:
    """The pattern that ``path`` matches first, and what stands in the place of its ``{id}``.

    :raises NotFound: it matches none.
    """
    for route in ROUTES:
        start, parameter, _ = route.path.partition("{id}")
        id = path.removeprefix(start)
        if path == route.path or (parameter and path.startswith(start) and id and "/" not in id):
            return route.path, id
    raise NotFound(NOTHING)
