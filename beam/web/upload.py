"""Sending: a request's body goes into a spool, and the outcome becomes the answer.

The way of a byte here: a direct end receives it straight into the spool, else ``received`` gathers what one read of
the socket brings and ``flush`` copies it there; both go through one ``Body``.  What the spool has no room for stays in
``_pieces``, and the connection is paused meanwhile.
"""

from collections import deque
from typing import Any, TypeGuard
from urllib.parse import quote

from twisted.internet.defer import ensureDeferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from beam.body import Body
from beam.broker import Broker
from beam.errors import BadRequest, BeamError, Forwarded, ForwardFailed
from beam.interfaces import IForwardTarget
from beam.peers import ISender
from beam.policy import SendOptions, send_options
from beam.target import Target
from beam.transfer import Forward, Offer, Transfer
from beam.web.answer import admit_mistake, answer, refuse
from beam.web.direct import DirectUpload
from beam.web.fields import announced_digests, digest_field, filename_in, is_control, is_whole, safe_filename
from beam.web.form import FilePart, FormDecoder, is_form
from beam.web.forward import TargetPut, forward_headers, target_of
from beam.web.request import StreamingRequest
from beam.web.resolve import resolve

READ = 112 << 10  # bytes that one read brings at most; above 128K malloc would map and unmap each
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"


def field(request: StreamingRequest, name: str) -> str | None:
    """The value of a header that is given once, as text."""
    value = request.getHeader(name)
    return None if value is None else str(value)


def is_clean(value: str | None) -> TypeGuard[str]:
    """Whether ``value`` can be a field of the receivers' responses."""
    return bool(value) and not any(is_control(character) for character in value or "")


def send(request: StreamingRequest, broker: Broker, key: str, query: dict[str, list[str]]) -> None:
    """Take what ``request`` sends under ``key``.

    :raises BeamError: the refusal.
    """
    options = send_options(query, broker.policy, {name: store.keeps for name, store in broker.stores.items()})
    content_range = field(request, "content-range")
    if content_range is not None and not is_whole(content_range):
        raise BadRequest("A part of a file cannot be sent; send it whole, without Content-Range.")
    announced = announced_digests(
        [
            value
            for name in ("repr-digest", "content-digest")
            for value in request.requestHeaders.getRawHeaders(name, [])
        ]
    )
    content_type = field(request, "content-type") or ""
    upload: Upload
    if is_form(content_type):
        if announced:
            raise BadRequest("A digest field of a form would cover the form, not the file; leave it out.")
        upload = FormUpload(request, broker, key, options, FormDecoder(content_type))
    else:
        upload = Upload(request, broker, key, options)
    named = (query.get("store") or [next(iter(broker.stores))])[0]
    found = target_of(request, broker.policy, broker.stores[named], key, upload.file_length(), options)
    if found is None:
        upload.begin(announced)
    else:
        headers = forward_headers(request, not is_form(content_type))
        request.hold()  # a name may have to be resolved before the sender is admitted
        ensureDeferred(forward(request, broker, upload, announced, *found, headers))


async def forward(
    request: StreamingRequest,
    broker: Broker,
    upload: "Upload",
    announced: dict[str, bytes],
    target: Target,
    own: bool,
    headers: dict[bytes, list[bytes]],
) -> None:
    """Begin ``upload``, whose file goes on to ``target``.

    :param own: whether that is the operator's address.
    """
    gone: list[bool] = []
    request.on_lost(lambda: gone.append(True), lambda: False)
    try:
        policy = broker.policy
        addresses = await resolve(broker.clock, target, own or policy.allow_forward_private, policy.forward_timeout)
        if not gone:
            upload.begin(announced, TargetPut(broker.clock, policy, target, addresses, headers, own))
    except BeamError as error:
        if not gone:
            refuse(request, error)
    except Exception:  # as in ``Root.render``, which has returned
        if not gone:
            admit_mistake(request)
    request.go_on()


@implementer(ISender, IPushProducer)
class Upload:
    """A raw body."""

    def __init__(self, request: StreamingRequest, broker: Broker, key: str, options: SendOptions) -> None:
        self._request = request
        self._broker = broker
        self._key = key
        self._options = options
        self._pieces: deque[bytes | memoryview] = deque()  # of the body, not yet in the spool
        self._ended = False
        self._half_closed = False
        self._left = False  # the connection is lost, and the broker knows
        self._flow: Any = request.transport  # what is paused and resumed
        self._connection = request.connection
        self._direct: DirectUpload | None = None

    def file_length(self) -> int | None:
        """Bytes of the file, if the head tells."""
        return self._request.length

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
        self._body = Body(self._transfer.spool, length, broker.policy.max_pipe_size, announced, self._options.digest)
        self._transfer.spool.registerProducer(self, True)
        if self._connection is not None:
            self._connection.after_read = self.flush
            self._connection.bufferSize = READ
        request.on_lost(self._lost, self._survives_half_close)
        self.admitted()
        if self._transfer.outcome is None:
            request.take_body(self)

    def admitted(self) -> None:
        """Tell who waits what comes, and read the socket directly if that is possible."""
        request = self._request
        if request.length == 0:
            try:
                self._body.end()  # a receiver of nothing has it all as soon as its head comes
            except BeamError as error:
                self._fail(error)
                return
        disposition = field(request, "content-disposition") or ""
        self.offer(filename_in(disposition), field(request, "content-type"))
        if request.direct is not None and request.length and self._transfer.outcome is None:
            self._direct = DirectUpload(request.direct, self._body, self._broker.clock, self._bypassed, self._fail)
            self._flow = self._direct

    def offer(self, filename: str | None, content_type: str | None) -> None:
        """The file's headers are known."""
        request = self._request
        name = self._options.name or filename or self._key.split("/")[-1]
        offer = Offer(
            length=self.file_length(),
            content_type=content_type if is_clean(content_type) else "application/octet-stream",
            content_encoding=field(request, "content-encoding"),
            last_modified=field(request, "last-modified"),
            filename=safe_filename(name),
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

    def _bypassed(self) -> None:
        """The direct end has read the last byte."""
        assert self._direct is not None
        self._request.bypassed(self._direct.count)

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
            elif not self._transfer.spool.paused:
                self._flow.resumeProducing()

    def stopProducing(self) -> None:
        """The spool has ended; ``transfer_ended`` does the rest."""

    # The connection and the outcome.

    def _detach(self) -> None:
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
        return self._ended and self._transfer.keeps

    def _survives_half_close(self) -> bool:
        """A sender whose body is whole may have ended its side; a killed one looks the same, and is asked."""
        self._half_closed = self._request.body_is_whole
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

    def transfer_ended(self, transfer: Transfer) -> None:
        self._detach()
        self._pieces.clear()
        if self._left:
            return
        error, forward, report = transfer.error, transfer.forward, ""
        if forward is not None and forward.error is not None and error is None:
            if forward.failed:
                done = self.success(transfer)
                error = ForwardFailed(f"{forward.error.sentence} But this server {done}.", Forwarded.REFUSED)
            report = f", not forwarded: {forward.error.sentence.rstrip('.')}"
        if error is not None:
            refuse(self._request, error)
            return
        headers = {"repr-digest": digest_field(transfer.digests)} if transfer.digests else {}
        if transfer.keeps:
            headers["location"] = "/" + quote(transfer.key)
        answer(self._request, 201 if transfer.keeps else 200, f"{self.success(transfer)}{report}\n", headers)

    def success(self, transfer: Transfer) -> str:
        """What the sender reads when its body was stored, delivered or forwarded."""
        length, forward = transfer.length, transfer.forward
        if transfer.keeps:
            ttl = self._options.ttl if self._options.ttl is not None else self._broker.policy.put_ttl
            done = f"stored {length} bytes, kept for {ttl:g} s"
        elif transfer.deliveries or forward is None:
            receivers = "1 receiver" if transfer.deliveries == 1 else f"{transfer.deliveries} receivers"
            done = f"delivered {length} bytes to {receivers}"
        else:
            return f"forwarded {length} bytes to {forward.target.name}"
        if transfer.left and not transfer.keeps:
            done += f", {transfer.left} left early"
        if forward is not None and forward.outcome is Forwarded.FORWARDED:
            done += f", forwarded to {forward.target.name}"
        return done


class FormUpload(Upload):
    """A form: its first file is the transfer, which begins when that part's headers are there."""

    def __init__(
        self, request: StreamingRequest, broker: Broker, key: str, options: SendOptions, decoder: FormDecoder
    ) -> None:
        super().__init__(request, broker, key, options)
        self._decoder = decoder

    def file_length(self) -> int | None:
        return None

    def admitted(self) -> None:
        """The file's headers come later."""

    def received(self, data: bytes) -> None:
        try:
            for event in self._decoder.feed(data):
                if self._transfer.outcome is not None:
                    return
                if isinstance(event, FilePart):
                    self.offer(event.filename, event.content_type)
                else:
                    self.take(event)
        except BadRequest as error:
            self._fail(error)

    def check_end(self) -> None:
        self._decoder.end()
