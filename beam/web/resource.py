"""The resource tree: which scope a request belongs to, and whether it is a send, a receive, or for the server itself.

Errors that a request meets before it has become a send or a receive are answered here.
"""

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote, unquote

from attrs import evolve
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from beam import __version__
from beam.errors import (
    BadRequest,
    BeamError,
    MethodNotAllowed,
    Reserved,
    ServiceWorkerRefused,
    UnknownMethod,
)
from beam.transfer import NOBODY_CAME, Transfer
from beam.web.answer import accepts, admit_mistake, answer, refuse
from beam.web.cors import answer_preflight, is_preflight, permit
from beam.web.download import Download, head
from beam.web.fields import GOOD_KEY, checked_key, path_of, query_of
from beam.web.files.api import Files, serve
from beam.web.own import HTML, OWN
from beam.web.pages import landing_page
from beam.web.rate import Limiter
from beam.web.request import StreamingRequest
from beam.web.scope import Scope
from beam.web.send import send
from beam.web.status import show_status, stream_status
from beam.web.tus.fields import FOLDER
from beam.web.tus.requests import tus
from beam.web.words import WORDS

METHODS = {b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"DELETE", b"PATCH", b"TRACE", b"CONNECT"}
READ_ONLY = ("GET", "HEAD", "OPTIONS")
PREVIEWERS = re.compile(
    "WhatsApp|Slackbot|Twitterbot|facebookexternalhit|TelegramBot|Discordbot|LinkedInBot|SkypeUriPreview|Applebot|"
    "Googlebot|bingbot",
    re.IGNORECASE,
)
Service = Callable[[StreamingRequest, Scope, str, dict[str, list[str]]], None]
SERVICES: Mapping[str, Service] = {FOLDER: tus}  # own paths that are more than pages, by their folder


def is_person(request: StreamingRequest) -> bool:
    """Whether a browser navigates here, or a previewer looks: they get a page and take nothing."""
    agent = request.getHeader("user-agent") or ""
    mode = request.getHeader("sec-fetch-mode")
    if PREVIEWERS.search(agent):
        return True
    if mode is not None:
        return mode == "navigate" and accepts(request, "text/html")
    return accepts(request, "text/html") and agent.startswith("Mozilla")


def is_api(scope: Scope, path: str) -> bool:
    """Whether ``path`` (decoded, without its first slash) is one of those for programs."""
    own = OWN.get(scope.policy.pages)
    return own is not None and "api" in own.folders and not scope.prefix and path.split("/")[0] == "api"


class Root(Resource):
    """Every path of a listener.

    :param scope: whose keys are those below no prefix of ``mounts``.
    :param limiter: of the requests of each address, if there is one.
    :param files: those of the files API, where a store can keep them.
    :raises ValueError: a policy names words or pages that there are not.
    """

    isLeaf = True

    def __init__(
        self, scope: Scope, mounts: Sequence[Scope], limiter: Limiter | None = None, files: Files | None = None
    ) -> None:
        super().__init__()
        self._limiter = limiter
        self._files = files
        if files is not None:
            scope = evolve(scope, files=files.scope)
        self._scopes = [*sorted(mounts, key=lambda each: -len(each.prefix)), scope]
        for policy in (each.policy for each in self._scopes):
            for name, chosen, table in (("words", policy.words, WORDS), ("pages", policy.pages, OWN)):
                if chosen not in table:
                    raise ValueError(f"the knob {name} is one of {', '.join(table)}")

    def render(self, request: StreamingRequest) -> int:
        """Dispatch ``request``, whose body may still be coming."""
        request.responseHeaders.setRawHeaders("server", [f"beam/{__version__}"])
        raw = request.path.decode("ascii", "replace")
        path = unquote(raw)
        scope = next(each for each in self._scopes if f"{path}/".startswith(f"{each.prefix}/"))
        request.words = WORDS["files" if is_api(scope, path[1:]) else scope.policy.words]
        request.below = (raw if raw.startswith(scope.prefix) else path).removeprefix(scope.prefix)
        own, cors = OWN[scope.policy.pages], scope.policy.cors
        permitted = bool(cors) and permit(request, cors, own.sharing)
        try:
            if self._limiter is not None and unquote(request.below)[1:] not in own.unlimited:
                self._limiter.count(request)
            if permitted and not own.sharing.always and is_preflight(request):
                answer_preflight(request, own.sharing)
            else:
                self._dispatch(request, scope)
        except BeamError as error:
            refuse(request, error)
        except Exception:  # the client must not wait for ever
            admit_mistake(request)
        return NOT_DONE_YET

    def _dispatch(self, request: StreamingRequest, scope: Scope) -> None:
        methods = scope.policy.methods
        method = request.method.decode("ascii")
        if request.method not in METHODS:
            raise UnknownMethod("This server does not know the method.", {"allow": ", ".join(methods)})
        if request.uri == b"*":
            if method != "OPTIONS":
                raise BadRequest("The asterisk is a target for OPTIONS only; ask for a path.")
            self._options(request, scope, methods)
            return
        path = path_of(request.path).removeprefix(scope.prefix[1:]).removeprefix("/" if scope.prefix else "")
        own = OWN[scope.policy.pages]
        query = query_of(request.uri.partition(b"?")[2], scope.policy.strict)
        is_own = own.has(path)
        if is_api(scope, path) and path not in own.pages:
            serve(request, self._files, path, query)
            return
        for folder, service in SERVICES.items() if is_own else ():
            if f"{path}/".startswith(f"{folder}/"):
                service(request, scope, path.removeprefix(folder).removeprefix("/"), query)
                return
        if is_own and method in ("PUT", "POST"):
            raise Reserved(f"This path is reserved; choose another key: {GOOD_KEY}.")
        allowed = READ_ONLY if is_own else methods
        if method not in allowed:
            names = ", ".join(allowed)
            raise MethodNotAllowed(f"This path takes {names}.", {"allow": names})
        key = "" if is_own else checked_key(path, scope.policy.keys)
        if method == "OPTIONS":
            self._options(request, scope, allowed)
        elif is_own:
            own.show(request, scope, path)
        elif method in ("PUT", "POST"):
            send(request, scope, key, query)
        elif method == "HEAD":
            head(request, scope.broker, key, query)
        else:
            self._receive(request, scope, key, query)

    def _options(self, request: StreamingRequest, scope: Scope, allowed: Sequence[str]) -> None:
        sharing = OWN[scope.policy.pages].sharing
        if scope.policy.cors and sharing.always:
            answer_preflight(request, sharing)
        else:
            answer(request, 204, "", {"allow": ", ".join(allowed)})

    def _receive(self, request: StreamingRequest, scope: Scope, key: str, query: dict[str, list[str]]) -> None:
        if request.getHeader("service-worker") == "script":
            raise ServiceWorkerRefused("What is sent here cannot be the service worker of a page.")
        policy, broker = scope.policy, scope.broker
        transfer = broker.rendezvous.transfers.get(key)
        claimed = transfer is not None and transfer.claimed_at is not None
        if "stream" in query and "stream" in policy.options:
            stream_status(request, scope, key)
        elif "status" in query and "status" in policy.options:
            show_status(request, scope, key)
        elif policy.landing and not claimed and "download" not in query and is_person(request):
            self._show_page(request, scope, key, transfer)
        elif policy.claims and not claimed and transfer is not None and transfer.state in NOBODY_CAME:
            self._claim(request, scope, transfer)
        else:
            Download(request, broker, key).begin(query)

    def _show_page(self, request: StreamingRequest, scope: Scope, key: str, transfer: Transfer | None) -> None:
        """Show what is here, and take nothing."""
        rendezvous, now = scope.broker.rendezvous, scope.broker.clock.seconds()
        if transfer is None and rendezvous.claimed(key, now) is not None:
            raise rendezvous.nothing(key, now)
        found = transfer is not None and transfer.offer is not None
        page = landing_page(scope.base(request), scope.prefix, key, transfer, scope.policy.claims)
        request.responseHeaders.addRawHeader("vary", "accept, user-agent, sec-fetch-mode")
        headers = {"x-robots-tag": "none"}
        answer(request, 200 if found else 404, page, headers, HTML)

    def _claim(self, request: StreamingRequest, scope: Scope, transfer: Transfer) -> None:
        """Send the receiver to an address that only it knows (RFC 9110, 15.4.8)."""
        name = transfer.offer.filename if transfer.offer is not None else ""
        address = f"{secrets.token_hex(16)}/{name or 'file'}"
        scope.broker.claim(transfer, address)
        answer(request, 307, "", {"location": f"{scope.prefix}/{quote(address)}"})
