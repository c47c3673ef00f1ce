"""Receiving: a reader of a spool becomes a response.

The way of a byte here: a direct end sends it from the spool's own memory, if the connection is a plain one; else a
``SpoolProducer`` writes it to the request.  Both end in ``_ended``.
"""

from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure
from zope.interface import implementer

from beam.broker import Broker
from beam.errors import (
    BeamError,
    Gone,
    PreconditionFailed,
    RangeNotSatisfiable,
    SenderLost,
    StoreFailed,
    Unavailable,
)
from beam.interfaces import ISink
from beam.options import capped_seconds, company
from beam.paced import PacedReader
from beam.peers import IDelivery, IReceiver
from beam.policy import Naming, Policy
from beam.producer import SpoolProducer
from beam.transfer import Span, State, Transfer
from beam.web.answer import refuse
from beam.web.direct import DirectDownload
from beam.web.fields import UNKNOWN_LAST, digest_field, matches, span_of
from beam.web.request import StreamingRequest
from beam.web.transport import NOT_WORTH_A_WAIT, VANISHED, set_patience
from beam.web.ways import Way

POLL = 0.002  # seconds between two looks at what is unacknowledged
POLLS = 10
RARELY = 0.1  # seconds between two looks at what we still have to write


class NotModified(BeamError):
    """304: the receiver has it already (RFC 9110, 15.4.5)."""

    status = 304


def describe(request: StreamingRequest, transfer: Transfer, policy: Policy) -> None:
    """Set the headers that tell of ``transfer``, for GET and HEAD alike."""
    offer = transfer.offer
    assert offer is not None
    fields = {
        "content-type": offer.content_type,
        "content-encoding": offer.content_encoding,
        "content-disposition": offer.disposition,
        # What a browser may show, and not only save, must not act as a page of ours.
        "content-security-policy": None if policy.naming is Naming.ATTACHMENT else "sandbox",
        "last-modified": offer.last_modified,
        "etag": transfer.etag if policy.parts else None,
        "accept-ranges": "bytes" if policy.parts else None,
        "cache-control": "no-store",
        "x-accel-buffering": "no",
        "x-content-type-options": "nosniff",
        "x-robots-tag": "none",
        "repr-digest": digest_field(transfer.digests) or None,
    }
    for name, value in fields.items():
        if value is not None:
            request.setHeader(name, value)
    if offer.x_piping:
        request.responseHeaders.setRawHeaders("x-piping", list(offer.x_piping))
        if policy.cors and not request.responseHeaders.hasHeader("access-control-expose-headers"):
            request.setHeader("access-control-expose-headers", "X-Piping")


def check_conditions(request: StreamingRequest, transfer: Transfer) -> None:
    """``If-Match`` and ``If-None-Match`` (RFC 9110, 13.1).

    :raises PreconditionFailed: the receiver wants another file than this.
    :raises NotModified: the receiver has this file.
    """
    wanted, had = request.getHeader("if-match"), request.getHeader("if-none-match")
    if wanted is not None and not matches(wanted, transfer.etag):
        raise PreconditionFailed(
            "Another file is here now than the one that If-Match names; ask for it from the start."
        )
    if had is not None and transfer.state is State.KEPT and matches(had, transfer.etag):
        raise NotModified("", {"etag": transfer.etag})


def wait_of(query: dict[str, list[str]], policy: Policy) -> float:
    """For how many seconds a receiver waits.

    :raises BadRequest: it asks for more than it may, or for no number.
    """
    asked = query if "wait" in policy.options else {}
    return capped_seconds(asked, "wait", policy.get_wait, policy.max_wait)


def progress_of(transfer: Transfer) -> dict[str, str]:
    """How much of a resumable body is here, in the fields of draft-ietf-httpbis-resumable-upload."""
    fields = {"upload-offset": str(transfer.spool.head), "upload-complete": f"?{transfer.is_whole:d}"}
    return fields if transfer.length is None else {**fields, "upload-length": str(transfer.length)}


def head(request: StreamingRequest, broker: Broker, key: str, query: dict[str, list[str]]) -> None:
    """Answer HEAD: what a GET would bring, without taking it.

    :raises BeamError: what a GET would be refused with at once.
    """
    wait_of(query, broker.policy)
    transfer = broker.rendezvous.transfers.get(key)
    if transfer is None or transfer.offer is None:
        raise broker.rendezvous.nothing(key, broker.clock.seconds())
    check_conditions(request, transfer)
    describe(request, transfer, broker.policy)
    if transfer.length is not None:
        request.setHeader("content-length", str(transfer.length))
    if transfer.options.resume is not None:
        for name, value in progress_of(transfer).items():
            request.setHeader(name, value)
    request.write(b"")
    request.conclude()


@implementer(IReceiver, ISink)
class Download:
    """One GET, from its wait to its last byte."""

    def __init__(self, request: StreamingRequest, broker: Broker, key: str) -> None:
        self.peer = request.peer
        self.company: int | None = None
        self._request = request
        self._broker = broker
        self._key = key
        self._range_used = False
        self._delivery: IDelivery | None = None
        self._way: Way | None = None
        self._direct: DirectDownload | None = None
        self._framed = True  # whether the response's framing shows that something is missing
        self._poll: IDelayedCall | None = None
        self._is_patient = False  # whether the system is

    def begin(self, query: dict[str, list[str]]) -> None:
        """Wait for the transfer, or join it.

        :raises BeamError: the refusal, if it comes at once.
        """
        policy = self._broker.policy
        self.company = company(query, policy, 'Invalid query parameter "n"')
        wait = wait_of(query, policy)
        self._request.on_lost(self._lost, self._half_closed)
        self._broker.receive(self._key, self, wait)

    def choose(self, transfer: Transfer) -> Span:
        request, length = self._request, transfer.length
        check_conditions(request, transfer)
        field, condition = request.getHeader("range"), request.getHeader("if-range")
        if not self._broker.policy.parts:
            field = None
        span = span_of(field, length) if field is not None else None
        if condition is not None:
            assert transfer.offer is not None
            if condition.strip() not in (transfer.etag, transfer.offer.last_modified):
                span = None
        if span is None:
            return Span()
        if length is not None and span.start >= length:
            if length == 0 and span.start == 0:
                return Span()
            raise RangeNotSatisfiable(
                f"The range begins beyond the end; the file has {length} bytes.", {"content-range": f"bytes */{length}"}
            )
        if condition is None and span.start and not span.look and self._broker.rendezvous.mistrusted(transfer):
            raise PreconditionFailed(
                "A new file has come under this key since one that broke off; get it from the start, or send If-Range."
            )
        self._range_used = True
        return span

    def serve(self, delivery: IDelivery) -> None:
        self._delivery = delivery
        throttle = self._broker.shaper.throttle(self._broker.policy, self._request)
        if throttle is not None:
            delivery.reader = PacedReader(delivery.reader, throttle)
        transfer, connection = delivery.transfer, self._request.connection
        if connection is not None and (transfer.length is None or transfer.length > NOT_WORTH_A_WAIT):
            # A receiver may keep its window shut for as long as our own patience lasts.
            set_patience(connection.getHandle(), self._broker.policy.idle_timeout + VANISHED)
            self._is_patient = True
        if transfer.length is None and delivery.span.start > transfer.spool.head:
            delivery.reader.attach(self)  # whether there is such a byte will be seen
        else:
            self._start()

    # As a sink, until the first byte of a range of unknown length is there.

    def bytes_available(self) -> None:
        self._start()

    def body_complete(self) -> None:
        length = self._started_delivery.transfer.spool.head
        self.body_failed(
            RangeNotSatisfiable(
                f"The range begins beyond the end; the file has {length} bytes.", {"content-range": f"bytes */{length}"}
            )
        )

    def body_failed(self, error: BeamError) -> None:
        self._started_delivery.done(False)
        if not isinstance(error, Gone | RangeNotSatisfiable | StoreFailed | Unavailable):
            error = SenderLost(error.sentence)  # what the sender did wrong, this receiver did not
        self.refuse(error)

    @property
    def _started_delivery(self) -> IDelivery:
        assert self._delivery is not None, "not served yet"
        return self._delivery

    def _start(self) -> None:
        """Send the response's head, and let an end do the rest."""
        request, delivery = self._request, self._started_delivery
        transfer, span = delivery.transfer, delivery.span
        length = transfer.length
        describe(request, transfer, self._broker.policy)
        stop = span.stop if span.stop is not None else length
        if self._range_used:
            last = stop - 1 if stop is not None else UNKNOWN_LAST
            request.setResponseCode(206)
            request.setHeader("content-range", f"bytes {span.start}-{last}/{'*' if length is None else length}")
        if stop is not None:
            request.setHeader("content-length", str(stop - span.start))
        self._framed = stop is not None or request.clientproto == b"HTTP/1.1"
        request.write(b"")
        limit = stop - span.start if span.look and stop is not None else None
        self._way = request.way()
        if self._way is not None and self._framed:
            self._direct = DirectDownload(self._way, delivery.reader, limit, stop is None, self._ended)
            self._direct.start()
        else:
            producer = SpoolProducer(delivery.reader, limit)
            producer.feed(request).addCallbacks(self._ended, self._failed)

    def _failed(self, failure: Failure) -> None:
        error = failure.value
        self._ended(error if isinstance(error, BeamError) else Gone("The delivery broke off."))

    def _ended(self, error: BeamError | None) -> None:
        """The last byte was handed over, or the body was cut short."""
        if error is not None:
            self.cut(error)
        else:
            if self._way is not None and not self._way.connection.disconnected:
                self._way.flush()
            self._settle(POLLS)

    def _settle(self, polls: int) -> None:
        """Count the delivery when the system has the bytes, and the peer most of them as far as can be told soon."""
        self._poll = None
        connection = self._request.connection
        if connection is None or connection.is_settled() or not (polls or connection.has_pending()):
            self._count()
        else:
            # The first look comes right behind the reactor's next write; a receiver that stalls is looked at rarely.
            delay = 0 if polls == POLLS else POLL if polls else RARELY
            self._poll = self._broker.clock.callLater(delay, self._settle, max(0, polls - 1))

    def _count(self) -> None:
        """The receiver has it all."""
        connection = self._request.connection
        if self._is_patient and connection is not None and not connection.disconnected:
            set_patience(connection.getHandle(), VANISHED)
        self._request.conclude()
        self._started_delivery.done(True)

    # How it ends otherwise.

    def _stop(self) -> None:
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None
        if self._direct is not None:
            self._direct.detach()

    def _half_closed(self) -> bool:
        """A receiver that ends its side has left, unless it has everything: many close as soon as they do."""
        if not self._is_settled():
            return False
        self._stop()
        self._count()
        return True

    def _is_settled(self) -> bool:
        """Whether the last byte was written, and the peer has it."""
        connection = self._request.connection
        return self._poll is not None and connection is not None and connection.is_settled()

    def _lost(self) -> None:
        has_all = self._is_settled()
        self._stop()
        self._broker.leave(self._key, self)
        if self._delivery is not None:
            self._delivery.done(has_all)

    def refuse(self, error: BeamError) -> None:
        refuse(self._request, error)

    def untaken(self) -> int:
        connection = self._request.connection
        return 0 if connection is None else connection.untaken()

    def cut(self, error: BeamError) -> None:
        self._stop()
        request: Any = self._request
        if request.producer is not None:
            request.unregisterProducer()
        if request.startedWriting:
            request.abort(self._framed)
            self._started_delivery.done(False)
        else:
            self.body_failed(error)
