"""A server that ends while a sender is away, or in the middle of its file: by a signal, by two, or killed."""

import signal
from collections.abc import Callable

import pytest
from contract.peers import check_refusal
from contract.server import Relay, Server
from resume.support import (
    BODY,
    begin,
    check_end,
    check_sent,
    crash,
    drain,
    ended,
    go_on,
    is_cut,
    offset,
    receive,
    start_again,
    wait_for_offset,
    wait_for_records,
)

Serve = Callable[..., Server]
NOT_YET = "?0"


def test_draining_waits_for_a_sender_that_is_away(serve: Serve, key: str) -> None:
    """It is a transfer that runs: its sender may come back and finish; nobody else may begin."""
    for store in ("memory", "disk:{folder}/store"):
        server = serve("--store", store, "--get-wait-timeout", "30", "--put-ttl", "1")
        relay = Relay(server, store.partition(":")[0], "tcp")
        receivers = receive(relay, key)
        begin(relay, f"{key}?resume=20", BODY, 1000).close()
        drain(relay.server)
        assert relay.connect().put(f"{key}-other?resume", b"abc").answer().status == 503
        check_end(relay, go_on(relay, key, BODY, 1000), receivers, BODY)
        assert ended(relay.server) == 0


def test_draining_does_not_wait_for_ever(serve: Serve, key: str) -> None:
    """``--drain-timeout`` ends it: the receivers are cut, the exit is clean."""
    relay = Relay(serve("--store", "memory", "--get-wait-timeout", "30", "--drain-timeout", "0.5"), "memory", "tcp")
    receivers = receive(relay, key)
    begin(relay, f"{key}?resume=20", BODY, 1000).close()
    drain(relay.server)
    assert ended(relay.server) == 0
    assert all(is_cut(receiver) for receiver in receivers)


FLAGS_OF_DISK = ("--store", "disk:{folder}/store", "--get-wait-timeout", "30", "--put-ttl", "1", "--get-ttl", "0.05")


def end_by_kill(server: Server) -> None:
    """As the system does that has no memory left."""
    crash(server)


def end_by_signals(server: Server) -> None:
    """As an impatient operator does."""
    drain(server)
    server.process.send_signal(signal.SIGTERM)
    assert ended(server) == 0
    start_again(server)


def end_by_drain(server: Server) -> None:
    """As a patient operator does."""
    drain(server)
    assert ended(server) == 0
    start_again(server)


@pytest.mark.parametrize(
    ("end", "away"), [(end_by_kill, True), (end_by_kill, False), (end_by_signals, False), (end_by_drain, True)]
)
def test_an_upload_outlives_the_server(serve: Serve, key: str, end: Callable[[Server], None], away: bool) -> None:
    """On disk: HEAD says what is in the file, the ETag is the same, and both sides go on."""
    server = serve(*FLAGS_OF_DISK, "--drain-timeout", "0.5", "--resume-timeout", "5")
    relay = Relay(server, "disk", "tcp")
    receivers = receive(relay, key)
    sender = begin(relay, f"{key}?resume&name=a%20name", BODY, 1_000_000, "Content-Type: image/x-test")
    (etag,) = {receiver.head()["etag"] for receiver in receivers}
    got = [receiver.take(n) for receiver, n in zip(receivers, (1_000_000, 500_000, 10), strict=True)]
    if away:
        sender.close()
    wait_for_records(server)
    end(server)
    assert all(is_cut(receiver) for receiver in receivers)
    head = relay.ask("HEAD", key)
    here = int(head["upload-offset"])
    assert 0 <= here <= 1_000_000
    assert (head["etag"], head["upload-length"], head["upload-complete"]) == (etag, "3000000", NOT_YET)
    assert head["content-type"] == "image/x-test"
    assert "a name" in head["content-disposition"]
    back = [relay.connect().get(key, f"Range: bytes={len(part)}-", f"If-Range: {etag}") for part in got]
    check_sent(relay, go_on(relay, key, BODY, here), len(BODY))
    for part, receiver in zip(got, back, strict=True):
        answer = receiver.answer()
        assert answer.status == 206
        assert part + answer.body == BODY


def test_a_server_that_is_killed_again_and_again(serve: Serve, key: str) -> None:
    """Three times: no byte is told of that is not in the file, and the file is whole in the end."""
    relay = Relay(serve(*FLAGS_OF_DISK), "disk", "tcp")
    relay.connect().put(f"{key}?resume", BODY[:100_000], length=len(BODY))
    wait_for_offset(relay, key, 100_000)
    wait_for_records(relay.server)
    for n in range(1, 4):
        crash(relay.server)
        here = offset(relay, key)
        there = n * 500_000
        go_on(relay, key, BODY, here, sent=there)
        wait_for_offset(relay, key, there)
        look = relay.connect().get(key, f"Range: bytes=0-{there - 1}")
        assert look.answer().body == BODY[:there]
    receiver = relay.connect().get(key)
    check_end(relay, go_on(relay, key, BODY, offset(relay, key)), [receiver], BODY)


def test_the_time_goes_on_while_the_server_is_down(serve: Serve, key: str) -> None:
    """An upload whose time is up when the server starts is removed; its key is free."""
    relay = Relay(serve(*FLAGS_OF_DISK), "disk", "tcp")
    begin(relay, f"{key}?resume=0.3", BODY, 1000)
    wait_for_records(relay.server)
    crash(relay.server)  # takes longer than that
    relay.server.wait_for("pipes", 0)
    check_refusal(go_on(relay, key, BODY, 1000).answer(), 404)
    check_sent(relay, relay.connect().put(key, b"abc"), 3)


def test_an_upload_below_a_prefix_that_is_not_served(serve: Serve, key: str) -> None:
    """It waits on the disk, and the log says why; when the prefix is served again, it goes on."""
    server = serve(*FLAGS_OF_DISK, "--mount", "/m=beam")
    relay, place = Relay(server, "disk", "tcp"), f"/m{key}"
    begin(relay, f"{place}?resume", BODY, 1000).close()
    wait_for_records(server)
    server.flags.remove("--mount")
    server.flags.remove("/m=beam")
    crash(server)
    assert relay.ask("HEAD", place).status == 404
    assert "stays on the disk as it is: it belongs to /m, which is not served now" in server.log.read_text()
    server.flags += ["--mount", "/m=beam"]
    crash(server)
    here = offset(relay, place)
    assert here <= 1000
    check_end(relay, go_on(relay, place, BODY, here), [relay.connect().get(place)], BODY)


def test_a_plain_upload_does_not_outlive_the_server(serve: Serve, key: str) -> None:
    """Nobody said that he would come back: the next start removes it."""
    relay = Relay(serve(*FLAGS_OF_DISK), "disk", "tcp")
    relay.connect().put(key, BODY[:1000], length=len(BODY))
    relay.wait_for_offer(key)
    crash(relay.server)
    assert relay.ask("HEAD", key).status == 404
