"""How things end: the outcome words of a transfer, and the refusals.

An error is its answer: each class knows its HTTP status (RFC 9110, section 15), the outcome that a running transfer
gets when the error ends it, and a sentence that a user can act on.  ``beam.web.answer`` is the one place where they
become responses.  What does not belong here: anything that knows a socket, a header's syntax or a page.
"""

from collections.abc import Mapping
from enum import StrEnum


class Outcome(StrEnum):
    """The one word with which a transfer ends; the same in the reply, the log, the metrics and the tests."""

    DELIVERED = "delivered"  # at least one receiver got the whole body
    STORED = "stored"  # the store kept the whole body for as long as it was asked to
    EXPIRED = "expired"  # nobody came for it in time
    SENDER_LOST = "sender-lost"  # the sender's connection broke before its body was whole
    SENDER_IDLE = "sender-idle"  # the sender could send and did not
    RECEIVER_LOST = "receiver-lost"  # every receiver left, and none came back in time
    TOO_LARGE = "too-large"
    BAD_BODY = "bad-body"  # a form without a file, a broken chunk
    DIGEST_MISMATCH = "digest-mismatch"
    TYPE_REFUSED = "type-refused"  # a file of a kind that the operator does not allow
    STORE_FULL = "store-full"
    STORE_FAILED = "store-failed"
    FORWARD_FAILED = "forward-failed"  # the target that the sender depends on did not take it
    CANCELLED = "cancelled"  # the operator or a shutdown ended it
    SUSPENDED = "suspended"  # the server stopped; it goes on at its next start


class Forwarded(StrEnum):
    """The one word with which a forward ends."""

    FORWARDED = "forwarded"  # the target has it all, and said so
    REFUSED = "refused"  # the target answered something else
    UNREACHABLE = "unreachable"  # no connection, or none that lasted
    STALLED = "stalled"  # it took nothing, or said nothing, for too long
    CUT = "cut"  # the transfer ended before


class BeamError(Exception):
    """A refusal or a failure that has an answer.

    :param sentence: what happened and what to do about it; no newline, no path of the server.
    :param headers: response headers that belong to the answer, such as ``Retry-After``.
    """

    status = 500
    outcome = Outcome.CANCELLED

    def __init__(self, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.headers: Mapping[str, str] = headers or {}


class BadRequest(BeamError):
    """400: the request cannot be understood."""

    status = 400
    outcome = Outcome.BAD_BODY


class MissingKey(BadRequest):
    """400: the path names no file."""


class KeyTooLong(BadRequest):
    """400: the path names one at too great length."""


class Reserved(BadRequest):
    """400: the path is the server's own."""


class PartRefused(BadRequest):
    """400: a part of a file cannot be sent (RFC 9110, 14.5)."""


class MalformedForm(BadRequest):
    """400: the body is no form."""


class NoFile(BadRequest):
    """400: there is no file in the form."""


class ServiceWorkerRefused(BadRequest):
    """400: what strangers send must not become the service worker of this origin."""


class Unauthorized(BeamError):
    """401: the sender has to show a secret (RFC 6750, section 3)."""

    status = 401

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, {"WWW-Authenticate": "Bearer"})


class Forbidden(BeamError):
    """403: the operator does not allow it."""

    status = 403


class NotFound(BeamError):
    """404: nothing is there."""

    status = 404


class MethodNotAllowed(BeamError):
    """405: this path does not take the method."""

    status = 405


class RequestTimeout(BeamError):
    """408: the peer took too long to say something."""

    status = 408
    outcome = Outcome.SENDER_IDLE


class KeyInUse(BeamError):
    """409: another transfer has the key."""

    status = 409


class Underway(KeyInUse):
    """409: another transfer has the key, and its receivers are there."""


class Established(BeamError):
    """409: everybody whom this transfer waited for is there, and nobody else may come."""

    status = 409


class TooManyReceivers(BeamError):
    """409: as many receivers as were asked for wait already."""

    status = 409


class ReceiversDiffer(BeamError):
    """409: sender and receivers do not agree on how many receivers there are to be."""

    status = 409


class Replaced(BeamError):
    """409: another sender has taken the key."""

    status = 409


class OffsetDiffers(BeamError):
    """409: a sender goes on at another place than where its file ends here."""

    status = 409

    def __init__(self, sentence: str, offset: int) -> None:
        super().__init__(sentence, {"Upload-Offset": str(offset)})


class TakenOver(BeamError):
    """409: the sender goes on with its file by another connection."""

    status = 409


class Gone(BeamError):
    """410: the bytes asked for were there and are no more."""

    status = 410


class Removed(Gone):
    """410: it was taken back."""


class Claimed(Gone):
    """410: another receiver has the file."""


class WrongType(BeamError):
    """415: what is sent is not of the media type that this path takes."""

    status = 415


class LengthRequired(BeamError):
    """411: the forward target has to be told the length (RFC 9110, 15.5.12)."""

    status = 411


class PreconditionFailed(BeamError):
    """412: ``If-Match`` does not hold, or a resume would meet another file (RFC 9110, 13.1)."""

    status = 412


class TooLarge(BeamError):
    """413: the body is larger than the operator allows."""

    status = 413
    outcome = Outcome.TOO_LARGE


class UnsupportedMediaType(BeamError):
    """415: the file is not of a type that the operator allows (RFC 9110, 15.5.16)."""

    status = 415
    outcome = Outcome.TYPE_REFUSED


class RangeNotSatisfiable(BeamError):
    """416: the range begins beyond the end (RFC 9110, 15.5.17)."""

    status = 416


class ExpectationFailed(BeamError):
    """417: an expectation other than ``100-continue`` (RFC 9110, 10.1.1)."""

    status = 417


class DigestMismatch(BeamError):
    """422: the announced digest is not the one that arrived (RFC 9530)."""

    status = 422
    outcome = Outcome.DIGEST_MISMATCH


class ChecksumMismatch(BeamError):
    """460: a part is not what its checksum says (tus 1.0.0, checksum)."""

    status = 460


class UnsupportedVersion(BeamError):
    """412: the client speaks another version of tus (tus 1.0.0, version)."""

    status = 412


class TooManyRequests(BeamError):
    """429: the client's address has made as many requests as it may (RFC 6585, section 4).

    :param retry_after: seconds after which it may make another.
    """

    status = 429

    def __init__(self, sentence: str, retry_after: int) -> None:
        super().__init__(sentence, {"Retry-After": str(retry_after)})


class HeadTooLarge(BeamError):
    """431: the request head exceeds the limit."""

    status = 431


class StoreFailed(BeamError):
    """500: the store could not do its work; the log has the reason."""

    outcome = Outcome.STORE_FAILED


class NotImplementedHere(BeamError):
    """501: a method or a transfer coding that nobody knows."""

    status = 501


class UnknownMethod(NotImplementedHere):
    """501: a method that nobody knows (RFC 9110, 15.6.2)."""


class ReceiverLost(BeamError):
    """502: every receiver left before the end."""

    status = 502
    outcome = Outcome.RECEIVER_LOST


class ForwardFailed(BeamError):
    """502: the forward target did not take the file; the sentence has its status and the start of its answer."""

    status = 502
    outcome = Outcome.FORWARD_FAILED

    def __init__(self, sentence: str, how: Forwarded) -> None:
        super().__init__(sentence)
        self.how = how


class Unavailable(BeamError):
    """503: draining, or a limit of the server is reached; always with ``Retry-After``."""

    status = 503

    def __init__(self, sentence: str, retry_after: int = 5) -> None:
        super().__init__(sentence, {"Retry-After": str(retry_after)})


class Draining(Unavailable):
    """503: the server is about to stop."""


class Suspended(Draining):
    """503: the server is about to stop, and goes on with this transfer when it is back."""

    outcome = Outcome.SUSPENDED


class NoReceiver(BeamError):
    """504: no receiver came in time."""

    status = 504
    outcome = Outcome.EXPIRED


class StoreFull(BeamError):
    """507: the disk store is full (RFC 4918, 11.5)."""

    status = 507
    outcome = Outcome.STORE_FULL


class SenderLost(BeamError):
    """502: the sender broke off, and what a receiver waits for does not come; those that have a head are cut."""

    status = 502
    outcome = Outcome.SENDER_LOST
