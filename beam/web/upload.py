"""Sending: a request's body goes into a spool, and the outcome becomes the answer.

The way of a byte here: a direct end receives it straight into the spool, else ``received`` gathers what one read of
the socket brings and ``flush`` copies it there; both go through one ``Body``.  What the spool has no room for stays in
``_pieces``, and the connection is paused meanwhile.
"""

import re
from collections import deque
from collections.abc import Callable
from hmac import compare_digest
from math import inf
from typing import Any, TypeGuard

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from beam.body import Body
from beam.deadlines import Deadline
from beam.errors import BadRequest, BeamError, NoFile, RequestTimeout, Unauthorized
from beam.interfaces import IForwardTarget
from beam.options import SendOptions
from beam.peers import ISender, News
from beam.policy import Naming
from beam.throttle import PacedSpool
from beam.transfer import Forward, Offer, Transfer
from beam.web.answer import refuse
from beam.web.direct import DirectUpload
from beam.web.fields import attachment, filename_in, has_control, safe_filename
from beam.web.form import FilePart, FormDecoder, FormField
from beam.web.media import type_check
from beam.web.reply import REPLIES
from beam.web.request import StreamingRequest
from beam.web.scope import Scope

READ = 112 << 10  # bytes that one read brings at most; above 128K malloc would map and unmap each
FIELDS = ("authentication", "file-size")  # of a form, before its file
HTML = re.compile(r"\s*text/html\s*(?=;|$)", re.IGNORECASE)
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"


def field(request: StreamingRequest, name: str) -> str | None:
    """The value of a header that is given once, as text."""
    value = request.getHeader(name)
    return None if value is None else str(value)


def is_clean(value: str | None) -> TypeGuard[str]:
    """Whether ``value`` can be a field of the receivers' responses."""
    return value is not None and value != "" and not has_control(value)


@implementer(ISender, IPushProducer)
class Upload:
    """A raw body."""

    def __init__(self, request: StreamingRequest, scope: Scope, key: str, options: SendOptions) -> None:
        self._request = request
        self._broker = scope.broker
        self._policy = scope.policy
        self._key = key
        self._options = options
        self._reply = REPLIES[scope.policy.reply](request, scope)
        self._pieces: deque[bytes | memoryview] = deque()  # of the body, not yet in the spool
        self._ended = False
        self._half_closed = False
        self._left = False  # the connection is lost, and the broker knows
        self._told = False  # how it ended
        self._flow: Any = request.transport  # what is paused and resumed
        self._connection = request.connection
        self._direct: DirectUpload | None = None
        self._check = type_check(scope.policy)
        self._paced: PacedSpool | None = None  # what the body goes through, if it has to keep a pace

    def file_length(self) -> int | None:
        """Bytes of the file, if the head tells."""
        return self._request.length

    def check_secret(self, shown: str | None) -> None:
        """Whether the sender may send.

        :raises Unauthorized: it may not.
        """
        secret = self._policy.auth
        if secret is not None and not compare_digest((shown or "").encode(), secret.encode()):
            raise Unauthorized("A sender has to show the secret of this server, as a bearer token.")

    def begin(self, announced: dict[str, bytes], target: IForwardTarget | None = None) -> None:
        """Ask to be admitted, and take the body.

        :param target: where the file goes on to, if anywhere.
        :raises BeamError: the refusal.
        """
        request, broker, options = self._request, self._broker, self._options
        length = self.file_length()
        forward = None
        if target is not None:
            forward = Forward(target, "spool" in options.forward, "best-effort" in options.forward)
        self._transfer = broker.send(self._key, options, length, self, forward)
        spool = self._transfer.spool
        throttle = broker.shaper.throttle(self._policy, request)
        if throttle is not None:
            self._paced = spool = PacedSpool(spool, throttle)
            self._transfer.sender_held = self._paced.was_held
        self._body = Body(
            spool,
            length,
            self._policy.max_pipe_size,
            announced,
            options.digest,
            doubted=length is not None and length != request.length,
            check=self._check,
        )
        spool.registerProducer(self, True)
        if self._connection is not None:
            self._connection.after_read = self.flush
            self._connection.bufferSize = READ
        request.on_lost(self._lost, self._survives_half_close)
        self._reply.begin(self._transfer, request.send_continue())
        self.admitted()
        if self._transfer.outcome is None:
            request.take_body(self)

    def admitted(self) -> None:
        """Tell who waits what comes, and read the socket directly if that is possible."""
        request = self._request
        disposition = field(request, "content-disposition") or ""
        filename = filename_in(disposition)
        self._named(filename)
        if request.length == 0:
            try:
                self._body.end()  # a receiver of nothing has it all as soon as its head comes
            except BeamError as error:
                self._fail(error)
                return
        self.offer(filename, field(request, "content-type"), disposition)
        way = request.way()
        if way is not None and not request.body_is_whole and self._transfer.outcome is None:
            self._direct = DirectUpload(way, request.framing(), self._body, self._broker.clock, self._fail)
            self._flow = self._direct

    def _named(self, filename: str | None) -> str:
        """The file's name, which its type may depend on."""
        name = safe_filename(self._options.name or filename or self._key.split("/")[-1])
        if self._check is not None:
            self._check.filename = name
        return name

    def offer(self, filename: str | None, content_type: str | None, disposition: str) -> None:
        """The file's headers are known."""
        request, policy = self._request, self._policy
        name = self._named(filename)
        if policy.naming is Naming.VERBATIM:
            shown = disposition if is_clean(disposition) else None
        else:
            shown = attachment(name) if filename or policy.naming is Naming.ATTACHMENT else None
        kind = content_type if is_clean(content_type) else policy.default_type
        if policy.html_as_text and kind is not None:
            kind = HTML.sub("text/plain", kind, count=1)
        offer = Offer(
            length=self.file_length(),
            content_type=kind,
            content_encoding=field(request, "content-encoding"),
            last_modified=field(request, "last-modified"),
            filename=name,
            disposition=shown,
            x_piping=tuple(request.requestHeaders.getRawHeaders("x-piping", [])),
            peer=request.peer,
        )
        self._broker.offer(self._transfer, offer)

    # The body, as it comes.

    def received(self, data: bytes) -> None:
        self.take(data)

    def take(self, data: bytes) -> None:
        """Bytes of the file."""
        self._pieces.append(data)
        if self._connection is None or not self._connection.in_read:
            self.flush()

    def flush(self) -> None:
        """Copy what has come into the spool, and pause the connection if there is no room."""
        if self._pieces and self._transfer.outcome is None:
            try:
                self._body.write(self._pieces)
            except BeamError as error:
                self._fail(error)
                return
            if self._pieces and self._transfer.outcome is None:
                self._flow.pauseProducing()

    def ended(self) -> None:
        self.flush()
        self._ended = True
        if self._direct is not None:
            self._direct.detach()
        if not self._pieces:
            self._finish()

    def broken(self, error: BeamError) -> None:
        self._fail(error)

    def check_end(self) -> None:
        """The body has ended; is it right?

        :raises BeamError: it is not.
        """

    def _finish(self) -> None:
        if self._transfer.outcome is not None:
            return
        self._request.resume_reading()
        try:
            self.check_end()
            digests = self._body.end()
        except BeamError as error:
            self._fail(error)
        else:
            self._leave_pace()
            self._broker.whole(self._transfer, digests)

    def _fail(self, error: BeamError) -> None:
        self._broker.fail(self._transfer, error)

    # Flow control, called by the spool.

    def pauseProducing(self) -> None:
        if not self._ended:
            self._flow.pauseProducing()

    def resumeProducing(self) -> None:
        self.flush()
        if not self._pieces:
            if self._ended:
                self._finish()
            elif not self._body.spool.paused:
                self._flow.resumeProducing()

    def stopProducing(self) -> None:
        """The spool has ended; ``transfer_ended`` does the rest."""

    # The connection and the outcome.

    def _leave_pace(self) -> None:
        if self._paced is not None:
            self._paced.close()

    def _detach(self) -> None:
        self._leave_pace()
        if self._connection is not None:
            self._connection.after_read = None
        if self._direct is not None:
            self._direct.detach()

    def _lost(self) -> None:
        self._left = True
        self._detach()
        if not self._is_done:
            self._broker.lost(self._transfer)

    @property
    def _is_done(self) -> bool:
        """Whether the store has all it needs of the sender, which may leave."""
        return self._told or (self._ended and self._transfer.keeps)

    def _survives_half_close(self) -> bool:
        """A sender whose body is whole may have ended its side; a killed one looks the same, and is asked.

        One that has the head of its answer cannot be asked any more, and is taken for gone.
        """
        self._half_closed = self._request.body_is_whole and not self._request.startedWriting
        return self._half_closed and not self.peer_gone()

    def peer_gone(self) -> bool:
        if self._is_done or self._left:
            return False
        if self._half_closed and self._request.clientproto == b"HTTP/1.1":
            self._request.interim(PROCESSING)  # a dead peer answers with a reset
        if self._request.body_is_whole:
            return self._request.peer_gone(0)
        length = self._body.length
        return self._request.peer_gone(
            1 if length is None else length - self._body.received - sum(map(len, self._pieces))
        )

    def heard(self, news: News) -> None:
        if not self._left:
            self._reply.heard(news)

    def transfer_ended(self, transfer: Transfer) -> None:
        self._detach()
        self._told = True
        self._pieces.clear()
        if self._left:
            self._reply.leave()
        else:
            self._reply.end(transfer)


class FormUpload(Upload):
    """A form: its first file is the transfer, which begins when that part's headers are there.

    Where fields may stand before the file, it is admitted only then: they say who sends, and how much.
    """

    def __init__(
        self, request: StreamingRequest, scope: Scope, key: str, options: SendOptions, content_type: str
    ) -> None:
        super().__init__(request, scope, key, options)
        self._fields: dict[str, str] = {}
        self._awaited: Callable[[], None] | None = None  # admits it
        self._limit = Deadline(lambda _: self._fail(RequestTimeout("The file of the form did not come in time.")))
        known = FIELDS if scope.policy.form_fields else ()
        self._decoder = FormDecoder(content_type, scope.policy.any_part, known)

    def check_secret(self, shown: str | None) -> None:
        if shown is not None or not self._policy.form_fields:
            super().check_secret(shown)
            self._fields["authentication"] = shown or ""

    def begin(self, announced: dict[str, bytes], target: IForwardTarget | None = None) -> None:
        if self._policy.form_fields:
            self._awaited = lambda: super(FormUpload, self).begin(announced, target)
            self._broker.at(self._limit, self._broker.clock.seconds() + self._policy.idle_timeout)
            self._request.on_lost(self._await_no_more, lambda: False)
            self._request.take_body(self)
        else:
            super().begin(announced, target)

    def file_length(self) -> int | None:
        text = self._fields.get("file-size")
        if text is None:
            return None
        if not re.fullmatch("[0-9]{1,18}", text):
            raise BadRequest("The field file-size of the form is not a number of bytes; it has digits only.")
        return int(text)

    def admitted(self) -> None:
        """The file's headers come later."""

    def received(self, data: bytes) -> None:
        try:
            for event in self._decoder.feed(data):
                if isinstance(event, FormField):
                    self._fields.setdefault(event.name, event.value)
                elif isinstance(event, FilePart):
                    if self._awaited is not None:
                        super().check_secret(self._fields.get("authentication"))
                        self._awaited()
                        self._await_no_more()
                    if self._transfer.outcome is None:
                        self.offer(event.filename, event.content_type, event.disposition)
                elif self._transfer.outcome is None:
                    self.take(event)
        except BeamError as error:
            self._fail(error)

    def _await_no_more(self) -> None:
        self._awaited = None
        self._broker.at(self._limit, inf)

    def ended(self) -> None:
        if self._awaited is None:
            super().ended()
        else:
            self._fail(NoFile("There is no file in the form; send one with curl -F file=@FILE."))

    def _fail(self, error: BeamError) -> None:
        if self._awaited is None:
            super()._fail(error)
        else:
            self._await_no_more()
            refuse(self._request, error)

    def check_end(self) -> None:
        self._decoder.end()
