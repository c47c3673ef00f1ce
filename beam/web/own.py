"""The server's own paths, a table for each kind of them: what is there instead of a key."""

import json
import secrets
from collections.abc import Callable, Mapping
from functools import lru_cache

from attrs import frozen

from beam import __version__
from beam.errors import NotFound
from beam.web.answer import answer
from beam.web.cors import PIPING, SHARING, Sharing
from beam.web.docs import FILES, show_docs, show_file
from beam.web.openapi import document
from beam.web.pages import front_page, help_text, noscript_page, piping_help, piping_page
from beam.web.request import StreamingRequest
from beam.web.scope import Scope

HTML = "text/html; charset=utf-8"
Page = Callable[[StreamingRequest, Scope], None]


@frozen
class Own:
    """Paths (decoded, without their first slash) that are no keys.

    :param pages: what is at each of them.
    :param folders: first segments of which everything below is the server's own, and what it says to a stranger.
    :param unlimited: those of the pages that may be asked for as often as one likes.
    :param sharing: what pages of other origins are told, where some are allowed.
    """

    pages: Mapping[str, Page] = {}
    folders: Mapping[str, str] = {}
    unlimited: frozenset[str] = frozenset()
    sharing: Sharing = SHARING

    def has(self, path: str) -> bool:
        """Whether ``path`` is no key."""
        return path in self.pages or path.split("/")[0] in self.folders

    def show(self, request: StreamingRequest, scope: Scope, path: str) -> None:
        """Answer a GET or HEAD of ``path``.

        :raises NotFound: nothing is there.
        """
        if path not in self.pages:
            raise NotFound(self.folders[path.split("/")[0]])
        self.pages[path](request, scope)


def front(request: StreamingRequest, scope: Scope) -> None:
    """What runs, and how to use it."""
    answer(request, 200, front_page(scope.base(request), scope.broker), kind=HTML)


def help_(request: StreamingRequest, scope: Scope) -> None:
    """How to use this server."""
    answer(request, 200, help_text(scope.base(request), scope.broker))


def version(request: StreamingRequest, scope: Scope) -> None:
    """Which version runs."""
    answer(request, 200, f"beam {__version__}\n")


def health(request: StreamingRequest, scope: Scope) -> None:
    """Whether it takes something new."""
    if scope.broker.drained is not None:
        answer(request, 503, "draining\n", {"retry-after": "5"})
    else:
        answer(request, 200, "ok\n")


def nothing(request: StreamingRequest, scope: Scope) -> None:
    """No icon."""
    answer(request, 204, "")


def robots(request: StreamingRequest, scope: Scope) -> None:
    """Nothing here is for search engines."""
    answer(request, 200, "User-agent: *\nDisallow: /\n")


def openapi(request: StreamingRequest, scope: Scope) -> None:
    """All of this, for programs."""
    answer(request, 200, described(scope), kind="application/json")


@lru_cache(maxsize=16)
def described(scope: Scope) -> str:
    """The description of ``scope``: it takes a while to make, and stays the same."""
    return json.dumps(document(scope))


def piping_front(request: StreamingRequest, scope: Scope) -> None:
    """A page to send and receive with."""
    _page(request, piping_page(scope.base(request)))


def noscript(request: StreamingRequest, scope: Scope) -> None:
    """A form that sends to the path of the query."""
    query = {name: values[-1].decode(errors="replace") for name, values in (request.args or {}).items()}
    _page(request, noscript_page(scope.prefix, query.get(b"path", ""), query.get(b"mode", "")))


def _page(request: StreamingRequest, text: str) -> None:
    nonce = secrets.token_urlsafe(16)
    headers = {"content-security-policy": f"default-src 'none'; style-src 'nonce-{nonce}'"}
    answer(request, 200, text.replace("<style>", f'<style nonce="{nonce}">'), headers, "text/html")


def piping_usage(request: StreamingRequest, scope: Scope) -> None:
    """How to use this server with curl."""
    answer(request, 200, piping_help(scope.base(request)))


def no_robots(request: StreamingRequest, scope: Scope) -> None:
    """Nothing."""
    answer(request, 404, "")


OWN: Mapping[str, Own] = {
    "beam": Own(
        {
            "": front,
            "-/help": help_,
            "-/version": version,
            "-/health": health,
            "favicon.ico": nothing,
            "robots.txt": robots,
            "api/openapi.json": openapi,
            "api/docs": show_docs,
            **{f"api/docs/{name}": show_file(name) for name in FILES},
        },
        {
            "-": "Nothing is at this path; /-/help tells how to use this server.",
            "api": "The files API is not served here, but at /api of the same server.",
        },
        unlimited=frozenset({"-/health"}),
    ),
    "piping": Own(
        {
            "": piping_front,
            "noscript": noscript,
            "version": version,
            "help": piping_usage,
            "favicon.ico": nothing,
            "robots.txt": no_robots,
        },
        sharing=PIPING,
    ),
    "none": Own(),
}
