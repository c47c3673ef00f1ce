"""Forwarding: where a send goes on to, and the PUT that takes it there.

The way of a byte here: a ``Body`` of ``beam.web.wire`` writes it to Twisted's HTTP client, which treq drives, on a
connection to an address that was resolved and checked once, before the sender was admitted.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import treq
from treq.client import HTTPClient
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ConnectError
from twisted.logger import Logger
from zope.interface import implementer

from beam.errors import BadRequest, BeamError, Forwarded, ForwardFailed, LengthRequired
from beam.interfaces import IForwardingStore, IForwardTarget, IReader, IStore
from beam.options import SendOptions
from beam.policy import Policy
from beam.target import NEVER_FORWARDED, Target, check_allowed, excerpt, parse_target
from beam.web.request import StreamingRequest
from beam.web.wire import LONGEST_ANSWER, SOON, Answer, AnsweredEarly, Line

PREFIX = "x-forward-header-"

log = Logger()


def forward_headers(request: StreamingRequest, is_raw: bool) -> dict[bytes, list[bytes]]:
    """The headers for the target: the sender's Content-Type, and what it gave as ``X-Forward-Header-NAME``.

    :param is_raw: whether the body is the file; a form's type is not that of its file.
    :raises BadRequest: one of them is the connection's own.
    """
    found: dict[bytes, list[bytes]] = {}
    if is_raw:
        found[b"content-type"] = list(request.requestHeaders.getRawHeaders(b"content-type", []))[:1]
    for name, values in request.requestHeaders.getAllRawHeaders():
        lower = name.decode("ascii").lower()
        if lower.startswith(PREFIX):
            lower = lower.removeprefix(PREFIX)
            if not lower or lower in NEVER_FORWARDED:
                raise BadRequest(f"The header {name.decode('ascii')} cannot be forwarded; leave it out.")
            found[lower.encode()] = list(values)
    return found


def target_of(
    request: StreamingRequest, policy: Policy, store: IStore, key: str, length: int | None, options: SendOptions
) -> tuple[Target, bool] | None:
    """Where the body of ``request`` goes on to, and whether that address is the operator's; ``None`` if it does not.

    :param store: the one that the sender named, or the default.
    :param length: of the file, if the head tells.
    :raises BeamError: it may not go there, or cannot.
    """
    values = request.requestHeaders.getRawHeaders("x-forward-url", [])
    if len(values) > 1:
        raise BadRequest("The header X-Forward-Url is given twice; give it once.")
    if values:
        target = parse_target(values[0])
        check_allowed(target, policy.allow_forward)
        if length is None and "spool" not in options.forward:
            raise LengthRequired(
                "A forward needs the length of the file before its first byte; send it with a Content-Length, or with "
                "?forward=spool."
            )
        return target, False
    if IForwardingStore.providedBy(store):
        forwarding: Any = store
        return parse_target(forwarding.url(key)), True
    if options.forward:
        raise BadRequest("The option forward needs the header X-Forward-Url.")
    return None


@implementer(IForwardTarget)
class TargetPut:
    """One PUT to ``target``.

    :param addresses: of ``beam.web.resolve``.
    :param private: whether the address is the operator's own, of which the sender hears nothing.
    """

    def __init__(
        self,
        reactor: Any,
        policy: Policy,
        target: Target,
        addresses: list[str],
        headers: Mapping[bytes, list[bytes]],
        private: bool,
    ) -> None:
        self.host = target.host
        self.name = "the server behind this one" if private else target.host
        self._reactor = reactor
        self._target = target
        self._has_address = bool(addresses)
        self._headers = dict(headers)
        self._private = private
        self._line = Line(reactor, target, addresses, self._headers, policy.forward_timeout)
        self._running: Deferred[None] | None = None

    def start(self, reader: IReader, length: int | None, content_type: str | None) -> Deferred[None]:
        if content_type is not None:  # a form's file says what it is later
            self._headers.setdefault(b"content-type", [content_type.encode()])
        self._running = ensureDeferred(self._put(reader, length))
        return self._running

    def untaken(self) -> int:
        return self._line.untaken()

    def cut(self) -> None:
        if self._running is not None:
            self._running.cancel()
        self._line.hang_up()

    async def _put(self, reader: IReader, length: int | None) -> None:
        try:
            if not self._has_address:
                raise self._failure("has no known address", Forwarded.UNREACHABLE)
            response = await HTTPClient(self._line).put(
                self._target.url,
                data=self._line.body(reader, length),
                allow_redirects=False,
                unbuffered=True,
                reactor=self._reactor,
            )
            if not 200 <= response.code < 300:
                raise self._refusal(await self._read(response))
        except BeamError:
            raise
        except Exception as error:
            raise self._reason(error) from None
        finally:
            self._line.hang_up()

    async def _read(self, response: Any) -> Answer:
        """A refusal, with as much of its body as comes soon."""
        parts: list[bytes] = []

        def take(data: bytes) -> None:
            parts.append(data)
            if sum(map(len, parts)) > LONGEST_ANSWER:
                self._line.hang_up()

        with suppress(Exception):  # however it ends, it is the answer that counts
            await treq.collect(response, take).addTimeout(SOON, self._reactor)
        kind = ",".join(response.headers.getRawHeaders("content-type", []))
        return Answer(response.code, kind, b"".join(parts)[:LONGEST_ANSWER])

    # What a failure says.

    def _refusal(self, answer: Answer) -> ForwardFailed:
        if not answer.status:
            return self._failure("sent something that is no HTTP", Forwarded.REFUSED)
        text = f"answered {answer.status}"
        if answer.status < 300:
            text += " before the file had ended"
        said = excerpt(answer.kind, answer.body)
        return self._failure(f"{text}: {said}" if said else text, Forwarded.REFUSED)

    def _reason(self, error: Exception) -> BeamError:
        """What an exception of Twisted's client means."""
        inner = getattr(error, "reasons", None)
        while inner:
            error = inner[0].value
            inner = getattr(error, "reasons", None)
        if isinstance(error, BeamError):
            return error
        if isinstance(error, AnsweredEarly):
            return self._refusal(error.answer)
        if isinstance(error, ConnectError):
            return self._failure("could not be reached", Forwarded.UNREACHABLE)
        if type(error).__module__.startswith(("OpenSSL", "service_identity")):
            return self._failure("did not show a valid certificate", Forwarded.UNREACHABLE)
        return self._failure("closed the connection before it had answered", Forwarded.UNREACHABLE)

    def _failure(self, text: str, how: Forwarded) -> ForwardFailed:
        if self._private:
            log.warn("the forward target {host} {text}", host=self.host, text=text)
            return ForwardFailed("The server behind this one did not take the file; try again later.", how)
        return ForwardFailed(f"The forward target {self.host} {text}.", how)
