"""Pages of other origins: which of them may send and receive, and what a browser is told of it (Fetch, section 3.3).

No cookie and no password of a browser's is ever asked for, so ``Access-Control-Allow-Credentials`` is never said; a
page shows the secret of a sender in a header that it sets itself.
"""

from collections.abc import Mapping, Sequence

from attrs import frozen

from beam.web.answer import answer
from beam.web.request import StreamingRequest

ANY = "*"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
READ = (
    *("Accept", "Authorization", "Content-Digest", "Content-Disposition", "Content-Encoding", "Content-Range"),
    *("Content-Type", "If-Match", "If-None-Match", "If-Range", "Last-Modified", "Range", "Repr-Digest"),
    *("Tus-Resumable", "Upload-Checksum", "Upload-Concat", "Upload-Defer-Length", "Upload-Length", "Upload-Metadata"),
    *("Upload-Offset", "X-Forward-Url", "X-HTTP-Method-Override", "X-Piping"),
    *("X-Request-ID", "X-Requested-With"),  # which nobody reads, and libraries for browsers send
)
SAID = (
    *("Accept-Ranges", "Allow", "Content-Disposition", "Content-Encoding", "Content-Length", "Content-Location"),
    *("Content-Range", "ETag", "Last-Modified", "Link", "Location", "RateLimit-Limit", "RateLimit-Remaining"),
    *("RateLimit-Reset", "Repr-Digest", "Retry-After", "Tus-Checksum-Algorithm", "Tus-Extension", "Tus-Max-Size"),
    *("Tus-Resumable", "Tus-Version", "Upload-Complete", "Upload-Concat", "Upload-Defer-Length", "Upload-Expires"),
    *("Upload-Length", "Upload-Metadata", "Upload-Offset", "WWW-Authenticate", "X-Piping", "X-Total-Count"),
)


@frozen
class Sharing:
    """What a server shares with pages.

    :param preflight: headers of the answer to a preflight.
    :param status: of that answer.
    :param exposed: headers of every other answer that a page may read, if they are named beforehand.
    :param always: whether each OPTIONS is taken for a preflight, after its path and method were judged.
    """

    preflight: Mapping[str, str]
    status: int = 204
    exposed: str | None = None
    always: bool = False


SHARING = Sharing(
    {
        "access-control-allow-methods": ", ".join(METHODS),
        "access-control-allow-headers": ", ".join(READ),
        "access-control-max-age": "86400",
    },
    exposed=", ".join(SAID),
)
PIPING = Sharing(
    {
        "access-control-allow-methods": "GET, HEAD, POST, PUT, OPTIONS",
        "access-control-allow-headers": "Content-Type, Content-Disposition, X-Piping",
        "access-control-expose-headers": "Access-Control-Allow-Headers",
        "access-control-max-age": "86400",
    },
    status=200,
    always=True,
)


def permit(request: StreamingRequest, origins: Sequence[str], sharing: Sharing) -> bool:
    """Say in the answer to ``request``, whatever it will be, that its page may read it; whether it may.

    :param origins: whose pages may.
    """
    origin = request.getHeader("origin")
    if ANY in origins:
        request.setHeader("access-control-allow-origin", ANY)
    else:
        request.setHeader("vary", "Origin")
        if origin is None or origin not in origins:
            return False
        request.setHeader("access-control-allow-origin", origin)
    if origin is not None and sharing.exposed is not None:
        request.setHeader("access-control-expose-headers", sharing.exposed)
    return True


def is_preflight(request: StreamingRequest) -> bool:
    """Whether a browser asks if a page may send another request."""
    headers = request.requestHeaders
    asks = headers.hasHeader("origin") and headers.hasHeader("access-control-request-method")
    return asks and request.method == b"OPTIONS"


def answer_preflight(request: StreamingRequest, sharing: Sharing) -> None:
    """Say what a page may send, on every path: what is refused is refused when it comes."""
    headers = dict(sharing.preflight)
    if request.getHeader("access-control-request-private-network") == "true":
        headers["access-control-allow-private-network"] = "true"
    answer(request, sharing.status, "", headers)
