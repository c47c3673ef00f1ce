"""What becomes of a transfer, as JSON: once, or a line every half second until its end."""

import json
from datetime import UTC, datetime, timedelta

from twisted.internet.task import LoopingCall

from beam.transfer import Transfer
from beam.web.answer import answer
from beam.web.request import StreamingRequest
from beam.web.scope import Scope

EVERY = 0.5  # seconds between two lines


def find(scope: Scope, key: str) -> Transfer:
    """The transfer at ``key``, or the one that was claimed there.

    :raises BeamError: there is none.
    """
    rendezvous, now = scope.broker.rendezvous, scope.broker.clock.seconds()
    transfer = rendezvous.transfers.get(key) or rendezvous.claimed(key, now)
    if transfer is None:
        raise rendezvous.nothing(key, now)
    return transfer


def upload_of(transfer: Transfer) -> str:
    """How far the sender is."""
    if transfer.whole_at is not None:
        return "Complete"
    return "InProgress" if transfer.outcome is None else "Failed"


def download_of(transfer: Transfer) -> str:
    """How far the receiver is."""
    if transfer.deliveries:
        return "Complete"
    if transfer.outcome is not None:
        return "Failed"
    if transfer.receiving:
        return "InProgress"
    return "Paused" if transfer.left else "NotStarted"


def status_of(scope: Scope, transfer: Transfer) -> str:
    """One line of JSON."""
    broker, offer = scope.broker, transfer.offer
    running = sum(each.reader.position - each.span.start for each in broker.deliveries if each.transfer is transfer)
    age = timedelta(seconds=broker.clock.seconds() - transfer.started)
    status = {
        "file_name": offer.filename if offer is not None else "",
        "path": transfer.key if transfer.claimed_at is None else transfer.claimed_at,
        "file_size": transfer.length,
        "received": transfer.spool.head,
        "sent": transfer.bytes_out + running,
        "upload": upload_of(transfer),
        "download": download_of(transfer),
        "created": (datetime.now(UTC) - age).isoformat(timespec="seconds"),
    }
    return json.dumps(status) + "\n"


def show_status(request: StreamingRequest, scope: Scope, key: str) -> None:
    """Answer with the status.

    :raises BeamError: there is nothing at ``key``.
    """
    answer(request, 200, status_of(scope, find(scope, key)), kind="application/json")


def stream_status(request: StreamingRequest, scope: Scope, key: str) -> None:
    """Answer with a line at once and every half second, up to the one that tells the end.

    :raises BeamError: there is nothing at ``key``.
    """
    transfer = find(scope, key)
    request.setHeader("content-type", "application/x-ndjson")
    request.setHeader("cache-control", "no-store")
    request.setHeader("x-accel-buffering", "no")

    def line() -> None:
        request.write(status_of(scope, transfer).encode())
        if "Failed" in (upload_of(transfer), download_of(transfer)) or transfer.deliveries:
            lines.stop()
            request.conclude()

    lines = LoopingCall(line)
    lines.clock = scope.broker.clock
    request.on_lost(lines.stop, lambda: False)
    lines.start(EVERY)
