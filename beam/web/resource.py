"""The resource tree: which request is a send, which a receive, and which is for beam itself.

Errors that a request meets before it has become a send or a receive are answered here.
"""

import re
from urllib.parse import quote

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from beam import __version__
from beam.broker import Broker
from beam.errors import BadRequest, BeamError, MethodNotAllowed, NotFound, NotImplementedHere
from beam.web.answer import accepts, admit_mistake, answer, refuse
from beam.web.download import Download, head
from beam.web.fields import GOOD_KEY, checked_key, path_of, query_of
from beam.web.pages import front_page, help_text, landing_page
from beam.web.request import StreamingRequest
from beam.web.upload import send

METHODS = {b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"DELETE", b"PATCH", b"TRACE", b"CONNECT"}
ALLOWED = "GET, HEAD, POST, PUT, OPTIONS"
READ_ONLY = "GET, HEAD, OPTIONS"
PREVIEWERS = re.compile(
    "WhatsApp|Slackbot|Twitterbot|facebookexternalhit|TelegramBot|Discordbot|LinkedInBot|SkypeUriPreview|Applebot|"
    "Googlebot|bingbot",
    re.IGNORECASE,
)
HTML = "text/html; charset=utf-8"


def is_reserved(path: str) -> bool:
    """Whether ``path`` (decoded, without its first slash) is beam's own."""
    return path in ("", "favicon.ico", "robots.txt") or path.split("/")[0] in ("-", "api")


def is_look_of_a_person(request: StreamingRequest) -> bool:
    """Whether a browser navigates here, or a previewer looks: they get a page and take nothing."""
    agent = request.getHeader("user-agent") or ""
    mode = request.getHeader("sec-fetch-mode")
    if PREVIEWERS.search(agent):
        return True
    if mode is not None:
        return mode == "navigate" and accepts(request, "text/html")
    return accepts(request, "text/html") and agent.startswith("Mozilla")


def base_of(request: StreamingRequest) -> str:
    """This server's address as the client wrote it."""
    scheme = "https" if request.isSecure() else "http"
    host = request.requestHeaders.getRawHeaders("host", ["localhost"])[0]
    return f"{scheme}://{quote(host, safe=':[]@.-_~')}"


class Root(Resource):
    """Every path of the server."""

    isLeaf = True

    def __init__(self, broker: Broker) -> None:
        super().__init__()
        self._broker = broker

    def render(self, request: StreamingRequest) -> int:
        """Dispatch ``request``, whose body may still be coming."""
        request.responseHeaders.setRawHeaders("server", [f"beam/{__version__}"])
        try:
            self._dispatch(request)
        except BeamError as error:
            if error.status == 304:
                answer(request, 304, "", error.headers)
            else:
                refuse(request, error)
        except Exception:  # the client must not wait for ever
            admit_mistake(request)
        return NOT_DONE_YET

    def _dispatch(self, request: StreamingRequest) -> None:
        if request.method not in METHODS:
            raise NotImplementedHere("This server does not know the method.")
        if request.uri == b"*":
            if request.method != b"OPTIONS":
                raise BadRequest("The asterisk is a target for OPTIONS only; ask for a path.")
            self._options(request, ALLOWED)
            return
        path = path_of(request.path)
        query = query_of(request.uri.partition(b"?")[2])
        if is_reserved(path):
            self._own(request, path)
        elif request.method == b"OPTIONS":
            checked_key(path)
            self._options(request, ALLOWED)
        elif request.method in (b"PUT", b"POST"):
            send(request, self._broker, checked_key(path), query)
        elif request.method == b"HEAD":
            head(request, self._broker, checked_key(path), query)
        elif request.method == b"GET":
            self._receive(request, checked_key(path), query)
        else:
            raise MethodNotAllowed(f"This path takes {ALLOWED}.", {"allow": ALLOWED})

    def _options(self, request: StreamingRequest, allowed: str) -> None:
        answer(request, 204, "", {"allow": allowed})

    def _receive(self, request: StreamingRequest, key: str, query: dict[str, list[str]]) -> None:
        if "download" not in query and is_look_of_a_person(request):
            transfer = self._broker.rendezvous.transfers.get(key)
            found = transfer is not None and transfer.offer is not None
            headers = {"x-robots-tag": "none", "vary": "accept, user-agent, sec-fetch-mode"}
            answer(request, 200 if found else 404, landing_page(base_of(request), key, transfer), headers, HTML)
        else:
            Download(request, self._broker, key).begin(query)

    def _own(self, request: StreamingRequest, path: str) -> None:
        """What is beam's own."""
        broker = self._broker
        if request.method in (b"PUT", b"POST"):
            raise BadRequest(f"This path is reserved; choose another key: {GOOD_KEY}.")
        if request.method == b"OPTIONS":
            self._options(request, READ_ONLY)
            return
        if request.method not in (b"GET", b"HEAD"):
            raise MethodNotAllowed(f"This path takes {READ_ONLY}.", {"allow": READ_ONLY})
        match path:
            case "":
                answer(request, 200, front_page(base_of(request), broker), kind=HTML)
            case "-/help":
                answer(request, 200, help_text(base_of(request), broker))
            case "-/version":
                answer(request, 200, f"beam {__version__}\n")
            case "-/health":
                if broker.drained is not None:
                    answer(request, 503, "draining\n", {"retry-after": "5"})
                else:
                    answer(request, 200, "ok\n")
            case "favicon.ico":
                answer(request, 204, "")
            case "robots.txt":
                answer(request, 200, "User-agent: *\nDisallow: /\n")
            case _ if path.split("/")[0] == "api":
                raise NotFound("The files API is not served here.")
            case _:
                raise NotFound("Nothing is at this path; /-/help tells how to use this server.")
