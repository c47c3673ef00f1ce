"""What a sender hears: at the end, or as it happens.

A reply is told when its transfer is admitted, what happens to it, and how it ends.
"""

from collections.abc import Callable
from math import inf
from typing import Protocol
from urllib.parse import quote

from beam.deadlines import Deadline
from beam.errors import BeamError, Forwarded, ForwardFailed, Outcome
from beam.peers import News
from beam.policy import Policy, Reply
from beam.transfer import Transfer
from beam.web.answer import answer, refuse
from beam.web.fields import digest_field
from beam.web.request import StreamingRequest
from beam.web.scope import Scope

INFO = {
    News.CAME: "[INFO] A receiver was connected.",
    News.BEGUN: "[INFO] Start sending to {n} receiver(s)!",
    News.WHOLE: "[INFO] Sent successfully!",
    News.LEFT: "[INFO] A receiver aborted.",
}
WAITING = "[INFO] Waiting for {n} receiver(s)..."
CONNECTED = "[INFO] {k} receiver(s) has/have been connected."
RECEIVED = "[INFO] All receiver(s) was/were received successfully."
MOMENT = 1.0  # seconds between 100 Continue and the head of an early answer
ABORTED = "[INFO] All receiver(s) was/were aborted halfway."


class SenderReply(Protocol):
    """The answer to a send."""

    def begin(self, transfer: Transfer, continued: bool) -> None:
        """``transfer`` is admitted.

        :param continued: whether the client was told just now to send its body.
        """

    def heard(self, news: News) -> None:
        """As in ``ISender``."""

    def end(self, transfer: Transfer) -> None:
        """As in ``ISender.transfer_ended``, if the connection is still there."""

    def parted(self, transfer: Transfer) -> None:
        """This request brought a part of the body of ``transfer``; others bring the rest."""

    def dismiss(self, error: BeamError) -> None:
        """The transfer goes on without this connection, for the reason that ``error`` gives."""

    def leave(self) -> None:
        """It is not: nobody hears anything any more."""


def verdict(transfer: Transfer, policy: Policy) -> tuple[BeamError | None, str]:
    """How the sender's part ended: with which error, if with one, and in words if not."""
    error, forward, done = transfer.error, transfer.forward, ""
    if error is None:
        done = success(transfer, policy)
        if forward is not None and forward.error is not None:
            if forward.failed:
                error = ForwardFailed(f"{forward.error.sentence} But this server {done}.", Forwarded.REFUSED)
            done += f", not forwarded: {forward.error.sentence.rstrip('.')}"
    return error, done


def success(transfer: Transfer, policy: Policy) -> str:
    """What was done with a body that was stored, delivered or forwarded."""
    length, forward = transfer.length, transfer.forward
    if transfer.keeps:
        ttl = transfer.options.ttl if transfer.options.ttl is not None else policy.put_ttl
        done = f"stored {length} bytes, kept for {ttl:g} s"
    elif transfer.outcome is None:
        done = f"stored {length} bytes, {'to be claimed once' if transfer.claimed_at is None else 'claimed'}"
    elif transfer.deliveries or forward is None:
        receivers = "1 receiver" if transfer.deliveries == 1 else f"{transfer.deliveries} receivers"
        done = f"delivered {length} bytes to {receivers}"
    else:
        return f"forwarded {length} bytes to {forward.target.name}"
    if transfer.left and transfer.outcome is not None:
        done += f", {transfer.left} left early"
    if forward is not None and forward.outcome is Forwarded.FORWARDED:
        done += f", forwarded to {forward.target.name}"
    return done


class FinalReply:
    """One status and one sentence, when it is known how it went."""

    def __init__(self, request: StreamingRequest, scope: Scope) -> None:
        self._request = request
        self._scope = scope

    def begin(self, transfer: Transfer, continued: bool) -> None:
        """Nothing is said yet."""

    def heard(self, news: News) -> None:
        """Nothing is said yet."""

    def end(self, transfer: Transfer) -> None:
        """Answer."""
        error, done = verdict(transfer, self._scope.policy)
        if error is not None:
            refuse(self._request, error)
            return
        headers = {"repr-digest": digest_field(transfer.digests)} if transfer.digests else {}
        text, status = self._request.words.done, 200
        if text is None:
            text = f"{done}\n"
            if transfer.keeps:
                status, headers["location"] = 201, f"{self._scope.prefix}/{quote(transfer.key)}"
        answer(self._request, status, text, headers)

    def parted(self, transfer: Transfer) -> None:
        """Tell where it goes on."""
        offset = transfer.spool.head
        text = f"received {offset} of {transfer.length} bytes\n"
        answer(self._request, 202, text, {"upload-offset": str(offset), "upload-complete": "?0"})

    def dismiss(self, error: BeamError) -> None:
        """Say so."""
        refuse(self._request, error)

    def leave(self) -> None:
        """Nothing was to come."""


class EarlyReply:
    """200 at once, and a line for each thing that happens.

    To HTTP/1.0, which knows no chunks, all of it comes at the end.  Behind a ``100 Continue`` it comes a moment later:
    HAProxy 2.6 takes a final answer before the body for the end, and would cut the sender without a word.  nginx 1.22
    passes nothing more of a body on behind the head of its answer; ``early_after`` is for it.
    """

    def __init__(self, request: StreamingRequest, scope: Scope) -> None:
        self._request = request
        self._broker = scope.broker
        self._policy = scope.policy
        self._may_open = request.clientproto == b"HTTP/1.1"
        self._open = False  # whether the head of the answer has gone
        self._lines: list[str] = []  # what was said before
        self._n = 1
        self._begun = False
        self._whole = False
        self._beat = Deadline(self._wait_on)

    def begin(self, transfer: Transfer, continued: bool) -> None:
        """Say that it waits, and who is there already."""
        self._n = transfer.options.needed
        self._say(WAITING)
        there = len(self._broker.rendezvous.waiting.get(transfer.key, ()))
        if there:
            self._say(CONNECTED.format(k=there))
        now = self._broker.clock.seconds()
        delay = max(self._policy.early_after, MOMENT if continued else 0)
        if self._may_open and delay:
            self._broker.at(self._beat, now + delay)
        elif self._may_open:
            self._answer(now)

    def _answer(self, now: float) -> None:
        """Begin the answer."""
        request = self._request
        request.setResponseCode(200)
        request.setHeader("content-type", request.words.kind)
        request.setHeader("x-content-type-options", "nosniff")
        request.setHeader("cache-control", "no-store")
        request.setHeader("x-accel-buffering", "no")
        self._open = True
        request.write("".join(self._lines).encode())
        self._broker.at(self._beat, inf if self._begun else now + self._policy.heartbeat)

    def _wait_on(self, now: float) -> None:
        """Say that it waits: a proxy shall not take the connection for a dead one."""
        if not self._open:
            self._answer(now)
        else:
            self._say(WAITING)
            self._broker.at(self._beat, now + self._policy.heartbeat)

    def heard(self, news: News) -> None:
        """Say so, in the order in which a sender would expect it."""
        if news is News.WHOLE:
            self._whole = True
            if self._may_open and not self._open:
                self._answer(self._broker.clock.seconds())
        if news is not News.WHOLE or self._begun:
            self._say(INFO[news])
        if news is News.BEGUN:
            self._begun = True
            if self._open:
                self._broker.at(self._beat, inf)
            if self._whole:
                self._say(INFO[News.WHOLE])

    def end(self, transfer: Transfer) -> None:
        """Say how it went.  What is neither delivered nor left breaks off, so that a script can see it."""
        self.leave()
        error, done = verdict(transfer, self._policy)
        if transfer.outcome is Outcome.RECEIVER_LOST:
            self._say(ABORTED)
        elif error is None:
            self._say(RECEIVED if transfer.deliveries and not transfer.left else f"[INFO] {done}")
        else:
            self.dismiss(error)
            return
        self._close(200)

    def _close(self, status: int) -> None:
        if self._open:
            self._request.conclude()
        else:
            answer(self._request, status, "".join(self._lines))

    def parted(self, transfer: Transfer) -> None:
        """Say where it goes on."""
        self.leave()
        self._say(f"[INFO] received {transfer.spool.head} of {transfer.length} bytes")
        self._close(202)

    def dismiss(self, error: BeamError) -> None:
        """Say so, and break off."""
        self.leave()
        if self._open:
            self._say(self._request.words.of(error)[1])
            self._request.abort(True)
        else:
            refuse(self._request, error)

    def leave(self) -> None:
        """No line comes by itself any more."""
        self._broker.at(self._beat, inf)

    def _say(self, line: str) -> None:
        text = line.replace("{n}", str(self._n)) + "\n"
        if self._open:
            self._request.write(text.encode())
        else:
            self._lines.append(text)


REPLIES: dict[Reply, Callable[[StreamingRequest, Scope], SenderReply]] = {
    Reply.END: FinalReply,
    Reply.BUFFERED: FinalReply,
    Reply.EARLY: EarlyReply,
}
