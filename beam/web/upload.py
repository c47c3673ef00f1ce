"""Sending: a request's body goes into a spool, and the outcome becomes the answer.

The way of a byte here: a direct end receives it straight into the spool, else ``received`` gathers what one read of
the socket brings and ``flush`` copies it there; both go through one ``Body``.  What the spool has no room for stays in
``_pieces``, and the connection is paused meanwhile.
"""

from collections import deque
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from beam.body import Body
from beam.errors import BadRequest, BeamError
from beam.interfaces import IForwardTarget
from beam.options import SendOptions
from beam.paced import PacedIntake
from beam.peers import ISender, News
from beam.policy import Policy
from beam.transfer import Forward, Offer, Transfer
from beam.web.direct import DirectUpload
from beam.web.fields import Part, filename_in
from beam.web.media import type_check
from beam.web.offer import offer_of
from beam.web.reply import REPLIES, SenderReply
from beam.web.request import StreamingRequest
from beam.web.scope import Scope
from beam.web.secret import check_secret

READ = 112 << 10  # bytes that one read brings at most; above 128K malloc would map and unmap each
PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"


def body_of(transfer: Transfer, policy: Policy, announced: dict[str, bytes], doubted: bool = False) -> Body:
    """The body of ``transfer``, as far as it is there; parameters as those of ``Body``.

    :raises UnsupportedMediaType: what is there is of a type that is not taken.
    """
    check = type_check(policy)
    if check is not None and transfer.offer is not None:
        check.filename = transfer.offer.filename
        check.take(memoryview(transfer.start)[: transfer.spool.head])
    return Body(
        transfer.spool,
        transfer.length,
        policy.max_pipe_size,
        announced,
        transfer.options.digest,
        doubted,
        check,
    )


@implementer(ISender, IPushProducer)
class Upload:
    """A raw body.

    :param reply: what the sender hears, if not what the policy says.
    :param part: what the request brings of the file, if it says so.
    """

    doubts_length = False  # whether the length is only what the sender says

    def __init__(
        self,
        request: StreamingRequest,
        scope: Scope,
        key: str,
        options: SendOptions,
        reply: SenderReply | None = None,
        part: Part | None = None,
    ) -> None:
        self._request = request
        self._broker = scope.broker
        self._policy = scope.policy
        self._key = key
        self._options = options
        self._part = part
        self._reply = reply or REPLIES[scope.policy.reply](request, scope)
        self._pieces: deque[bytes | memoryview] = deque()  # of the body, not yet in the spool
        self._ended = False
        self._half_closed = False
        self._left = False  # the connection is lost, and the broker knows
        self._told = False  # how its part ended
        self._flow: Any = request.transport  # what is paused and resumed
        self._connection = request.connection
        self._direct: DirectUpload | None = None
        self._paced: PacedIntake | None = None  # what the body goes through, if it has to keep a pace

    def file_length(self) -> int | None:
        """Bytes of the file, if the head tells."""
        return self._request.length if self._part is None else self._part.total

    def check_secret(self, shown: str | None) -> None:
        """Whether the sender may send.

        :raises Unauthorized: it may not.
        """
        check_secret(self._policy, shown)

    def begin(self, announced: dict[str, bytes], target: IForwardTarget | None = None) -> None:
        """Ask to be admitted, and take the body.

        :param target: where the file goes on to, if anywhere.
        :raises BeamError: the refusal.
        """
        options, length = self._options, self.file_length()
        forward = None
        if target is not None:
            forward = Forward(target, "spool" in options.forward, "best-effort" in options.forward)
        transfer = self._broker.send(self._key, options, length, self, forward)
        transfer.body = body_of(transfer, self._policy, announced, doubted=self.doubts_length and length is not None)
        if self._part is not None:
            transfer.body.begin_part(self._part.stop)
        self.fill(transfer, transfer.body)

    def fill(self, transfer: Transfer, body: Body) -> None:
        """Take what the request brings of ``body``."""
        request = self._request
        self._transfer, self._body = transfer, body
        self._unpaced = body.intake
        throttle = self._broker.shaper.throttle(self._policy, request)
        if throttle is not None:
            self._paced = body.intake = PacedIntake(body.intake, throttle)
        body.intake.registerProducer(self, True)
        if self._connection is not None:
            self._connection.after_read = self.flush
            self._connection.bufferSize = READ
        request.on_lost(self._lost, self._survives_half_close)
        self._reply.begin(transfer, request.send_continue())
        self.admitted()
        if transfer.outcome is None:
            request.take_body(self)

    def admitted(self) -> None:
        """Tell who waits what comes, and read the socket directly if that is possible."""
        request = self._request
        disposition = request.field("content-disposition") or ""
        offer = self.described(filename_in(disposition), request.field("content-type"), disposition)
        if request.length == 0 and self._part is None:
            try:
                self._body.end()  # a receiver of nothing has it all as soon as its head comes
            except BeamError as error:
                self._fail(error)
                return
        self.offer(offer)
        self.read_directly()

    def read_directly(self) -> None:
        """Read the socket without Twisted, if that is possible."""
        request = self._request
        way = request.way()
        is_framed = request.length is not None or self._body.missing is None  # chunks have to fit where bytes do
        if way is not None and is_framed and not request.body_is_whole and self._transfer.outcome is None:
            self._direct = DirectUpload(way, request.framing(), self._body, self._broker.clock, self._fail)
            self._flow = self._direct

    def described(self, filename: str | None, content_type: str | None, disposition: str) -> Offer:
        """What the file's headers say of it."""
        transfer, length = self._transfer, self.file_length()
        offer = offer_of(self._request, self._policy, transfer, length, filename, content_type, disposition)
        self._body.named(offer.filename)
        return offer

    def offer(self, offer: Offer) -> None:
        """The file's headers are known."""
        self._broker.offer(self._transfer, offer)
        if self._transfer.options.resume is not None:
            self._broker.save(self._transfer)

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
            self._leave_pace()
            self.settle()
        except BeamError as error:
            self._fail(error)

    def settle(self) -> None:
        """All that this request brings is in the spool.

        :raises BeamError: it is not right.
        """
        if self.is_last():
            self._broker.whole(self._transfer, self._body.end())
        else:
            self._body.check_part(self._request.length)
            self._broker.settle(self._transfer).addCallback(self._part_is_safe)

    def _part_is_safe(self, _: None) -> None:
        """The request may be answered, unless another connection has taken its place meanwhile."""
        if self._transfer.outcome is None and not self._told:
            self._leave()
            if not self._left:
                self._reply.parted(self._transfer)

    def is_last(self) -> bool:
        """Whether the body is whole with what this request brought."""
        return self._body.is_whole or self._body.length is None or self._transfer.options.resume is None

    def _fail(self, error: BeamError) -> None:
        """A sender that can come back may send again what was malformed."""
        can_be_mended = isinstance(error, BadRequest) and not self._body.is_whole
        if can_be_mended and self._transfer.options.resume is not None:
            self.cut(error)
        else:
            self._broker.fail(self._transfer, error)

    def _leave(self) -> None:
        """The transfer goes on without this connection."""
        self._detach()
        self._pieces.clear()
        self._told = True
        self._broker.lost(self._transfer, self)

    def cut(self, error: BeamError) -> None:
        if not self._told:
            self._leave()
            if not self._left:
                self._reply.dismiss(error)

    # Flow control, called by the spool.

    def pauseProducing(self) -> None:
        if not self._ended:
            self._flow.pauseProducing()

    def resumeProducing(self) -> None:
        self.flush()
        if not self._pieces:
            if self._ended:
                self._finish()
            elif not self._body.intake.paused:
                self._flow.resumeProducing()

    def stopProducing(self) -> None:
        """The spool has ended; ``transfer_ended`` does the rest."""

    # The connection and the outcome.

    def _leave_pace(self) -> None:
        """What is still to be written has come already."""
        if self._paced is not None:
            self._paced.close()
            self._body.intake = self._unpaced
            self._paced = None

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
            self._broker.lost(self._transfer, self)

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

    def was_held(self) -> bool:
        return self._paced is not None and self._paced.was_held()

    def moved(self) -> int:
        return self._body.received

    def peer_gone(self) -> bool:
        if self._is_done or self._left:
            return False
        if self._half_closed and self._request.clientproto == b"HTTP/1.1":
            self._request.interim(PROCESSING)  # a dead peer answers with a reset
        if self._request.body_is_whole:
            return self._request.peer_gone(0)
        missing = None if self._request.length is None else self._body.missing
        return self._request.peer_gone(1 if missing is None else missing - sum(map(len, self._pieces)))

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
