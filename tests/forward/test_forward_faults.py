"""Targets that fail: the sender hears how, the receivers are never cut for it, and nothing hangs."""

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen
from contract.peers import Peer, chunk
from forward.conftest import Serve
from forward.support import (
    BODY,
    FORWARDS,
    SHORT,
    SIZE,
    TIMES,
    TYPE,
    Receiver,
    Sender,
    begin,
    forwards,
    logged,
    resident,
    send,
    sha256,
    zeros,
)
from forward.targets import (
    XML,
    Behaviour,
    End,
    Exchange,
    ScriptedTarget,
    cuts,
    early,
    late,
    never_answers,
    never_reads,
    reads_then_stops,
    redirects,
    refusing_port,
    s3_error,
    silent_close,
)
from harness import Server, until

MOST_RESIDENT = 100 << 20
HALF = len(SHORT) // 2
DENIED = s3_error("AccessDenied", "Access Denied", AWSAccessKeyId="AKIAHIDDEN", StringToSign="hidden")
DENIAL = "answered 403: AccessDenied: Access Denied."


def early_chunked(then_reads: bool) -> Behaviour:
    """A 403 of S3 right behind the head, chunked and kept open; the body is read on or not."""

    def run(exchange: Exchange) -> None:
        exchange.answer(403, DENIED, [XML], chunked=True)
        if then_reads:
            exchange.read()
        exchange.watch()

    return Behaviour("early(403, chunked)", run)


@frozen
class Fault:
    """What a target does, and what the sender and the counter have of it.  Without a behaviour nobody listens."""

    behaviour: Behaviour | None
    says: str
    word: str


FAULTS = {
    "refuses to connect": Fault(None, "could not be reached", "unreachable"),
    "never reads": Fault(never_reads, "stood still for 1 seconds", "stalled"),
    "reads and stops": Fault(reads_then_stops(), "stood still for 1 seconds", "stalled"),
    "403 at once, stops": Fault(early(403, DENIED, [XML]), DENIAL, "refused"),
    "403 at once, reads": Fault(early(403, DENIED, [XML], "reads"), DENIAL, "refused"),
    "403 at once, closes": Fault(early(403, DENIED, [XML], "closes"), DENIAL, "refused"),
    "403 at once, chunked, stops": Fault(early_chunked(False), DENIAL, "refused"),
    "403 at once, chunked, reads": Fault(early_chunked(True), DENIAL, "refused"),
    "200 at once": Fault(early(200), "answered 200 before the file had ended", "refused"),
    "500 late": Fault(late(500, b"out of  order\n"), "answered 500: out of order.", "refused"),
    "404 late, nothing said": Fault(late(404), "answered 404.", "refused"),
    "resets at once": Fault(cuts(), "closed the connection before it had answered", "unreachable"),
    "resets midway": Fault(cuts(1 << 20), "closed the connection before it had answered", "unreachable"),
    "silent close": Fault(silent_close, "closed the connection before it had answered", "unreachable"),
    "never answers": Fault(never_answers, "stood still for 1 seconds", "stalled"),
}
each_fault = pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())


@contextlib.contextmanager
def faulty(fault: Fault) -> Iterator[str]:
    """The address of a target that does it."""
    if fault.behaviour is None:
        with refusing_port() as port:
            yield f"http://127.0.0.1:{port}/k"
    else:
        with ScriptedTarget(fault.behaviour) as target:
            yield target.url("/k")


def check_failure(text: str, fault: Fault) -> None:
    """The sender is told how the target failed, and no more."""
    assert fault.says in text, text
    assert text.startswith(("The forward target 127.0.0.1 ", "The forward to 127.0.0.1 ")), text
    assert "HIDDEN" not in text.upper()


@each_fault
def test_the_sender_hears_how_the_target_failed(fault: Fault, beam: Server, file: Path) -> None:
    """502 in good time; the log and the counter have the word."""
    before = forwards(beam).get(fault.word, 0)
    with faulty(fault) as url, logged(beam, outcome="forward-failed", forward=f"127.0.0.1:{fault.word}"):
        began = time.monotonic()
        check_failure(send(beam, "/k", file, to=url, status=502), fault)
        assert time.monotonic() - began < 5
    assert forwards(beam)[fault.word] == before + 1


@pytest.mark.parametrize("store", ["memory", "disk"])
@each_fault
def test_a_receiver_gets_the_file_whatever_the_target_does(
    fault: Fault, store: str, beam: Server, file: Path, tmp_path: Path
) -> None:
    """The whole file; the sender hears of both."""
    with faulty(fault) as url, logged(beam, outcome="forward-failed", deliveries=1, left=0):
        receiver = Receiver(beam, "/k", tmp_path / "got")
        text = send(beam, f"/k?store={store}", file, to=url, status=502)
        check_failure(text, fault)
        assert ("delivered" if store == "memory" else "stored") + f" {SIZE} bytes" in text
        receiver.check(BODY)


@pytest.mark.parametrize("name", ["refuses to connect", "reads and stops", "403 at once, stops", "500 late"])
@pytest.mark.parametrize("how", ["raw", "chunked", "form"])
def test_best_effort_lets_the_receivers_decide(name: str, how: str, beam: Server, file: Path, tmp_path: Path) -> None:
    """200 as without a forward, and what became of it."""
    fault = FAULTS[name]
    with faulty(fault) as url:
        receiver = Receiver(beam, "/k", tmp_path / "got")
        both = "best-effort" if how == "raw" else "spool,best-effort"
        text = send(beam, f"/k?forward={both}", file, to=url, how=how, status=200 if how == "raw" else 201)
        receiver.check(BODY)
        assert f"{SIZE} bytes" in text
        assert ", not forwarded: The forward t" in text
        assert fault.says.rstrip(".") in text


def test_best_effort_without_receivers_is_a_send_without_forward(beam: Server, short: Path) -> None:
    """Once the forward has failed, a receiver that comes within ``wait`` gets the file; else the wait ends."""
    with faulty(FAULTS["refuses to connect"]) as url:
        text = send(beam, "/k?forward=best-effort&wait=0.3", short, to=url, status=504)
        assert "0.3 seconds" in text
        sender = Sender(beam, "/k?forward=best-effort&wait=10", short, to=url)
        until(lambda: beam.gauges()["pipes"] == 1 and beam.gauges()["active_uploads"] == 0, "the body is there")
        assert Peer(beam.connect()).get("/k").answer().body == SHORT
        reply = sender.reply()
        assert reply.status == 200
        assert "1 receiver, not forwarded: " in reply.text


def test_a_failed_forward_lets_a_receiver_come_back(beam: Server, file: Path, tmp_path: Path) -> None:
    """A receiver that joins behind the failure is one of the receivers."""
    with ScriptedTarget(cuts(1 << 20)) as target:
        first = Receiver(beam, "/k", tmp_path / "first")
        sender = begin(beam, "/k", f"Content-Type: {TYPE}", length=SIZE, to=target.url()).send(BODY[: SIZE // 4])
        until(lambda: beam.gauges()["active_forwards"] == 0, "the forward has failed")
        sender.send(BODY[SIZE // 4 :])
        first.check(BODY)
        answer = sender.answer()
        assert answer.status == 502
        assert "delivered" in answer.text


# The target's answer.


def test_of_another_answer_at_most_200_printable_characters(beam: Server, short: Path) -> None:
    """No control character, and not the whole of it."""
    said = b"\x1b[31mno\x00\xff " + b"long " * 10_000
    with ScriptedTarget(late(418, said, [("Content-Type", "text/plain")])) as target:
        text = send(beam, "/k", short, to=target.url(), status=502).removesuffix("\n")
        excerpt = text.partition("answered 418: ")[2].removesuffix(".")
        assert text.isprintable()
        assert excerpt.startswith("[31mno")
        assert 150 < len(excerpt) <= 200


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure(status: int, beam: Server, short: Path) -> None:
    """Where it points to is never asked."""
    with ScriptedTarget() as other, ScriptedTarget(redirects(other.url("/stolen"), status)) as target:
        assert f"answered {status}" in send(beam, "/k", short, to=target.url(), status=502)
        assert not other.connections
        assert len(target.requests) == 1


@pytest.mark.parametrize("name", FAULTS)
def test_nothing_is_told_of_the_operators_target(name: str, serve: Serve, file: Path) -> None:
    """502, without its status, its words, its host, or what is wrong with it."""
    with faulty(FAULTS[name]) as url:
        server = serve("--store", f"forward:{url}/{{key}}?secret=abcdef", *TIMES)
        reply = Sender(server, "/a", file).reply()
        assert reply.status == 502
        for word in ("127.0.0.1", "403", "500", "404", "200", "Denied", "order", url[-7:], "abcdef"):
            assert word not in reply.text
        assert "abcdef" not in server.log.read_text()


@pytest.mark.parametrize("behaviour", [early(403, DENIED, [XML]), early_chunked(False), early_chunked(True)], ids=str)
def test_an_early_refusal_reaches_a_sender_that_has_more_to_send(behaviour: Behaviour, beam: Server) -> None:
    """The sender stands still in the middle of its body, and hears it all the same, well before any timeout."""
    with ScriptedTarget(behaviour) as target:
        sender = begin(beam, "/k", length=len(SHORT), to=target.url()).send(SHORT[:HALF])
        sender.socket.settimeout(0.8)
        answer = sender.answer()
        assert (answer.status, DENIAL in answer.text) == (502, True), answer
        target.connection().wait_until_ended(2)


@pytest.mark.parametrize("ends", [False, True], ids=["open", "closes"])
def test_a_refusal_without_an_end_is_one(ends: bool, beam: Server) -> None:
    """Its body ends with the connection, if ever; the sender's body ends meanwhile.  The status is told."""

    def run(exchange: Exchange) -> None:
        exchange.read(HALF)
        exchange._wire.socket.sendall(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\nbecause")
        time.sleep(0.3)  # the body goes on coming
        if ends:
            exchange.finish()
        exchange.watch()

    with ScriptedTarget(Behaviour("endless", run)) as target:
        sender = begin(beam, "/k", length=len(SHORT), to=target.url()).send(SHORT[:HALF])
        target.request().wait_until_read(HALF)
        time.sleep(0.1)  # what the target says comes first
        answer = sender.send(SHORT[HALF:]).answer()
        assert answer.status == 502
        assert "answered 403: because" in answer.text


@pytest.mark.parametrize("ends", [False, True], ids=["open", "closes"])
def test_an_unfinished_refusal_is_told_although_the_target_reads_on(ends: bool, beam: Server, file: Path) -> None:
    """A part of the refusal's body came early, and the target takes the whole file all the same."""

    def run(exchange: Exchange) -> None:
        exchange.read(1)
        exchange._wire.socket.sendall(b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\nbecause")
        exchange.read()
        if ends:
            exchange.finish()
        exchange.watch()

    with ScriptedTarget(Behaviour("unfinished", run)) as target:
        assert "answered 403: because" in send(beam, "/k", file, to=target.url(), status=502)


@pytest.mark.parametrize("statuses", [(102,), (100,), (102, 100)], ids=str)
def test_an_interim_answer_is_none(statuses: tuple[int, ...], beam: Server) -> None:
    """1xx in the middle of the body, or behind it, changes nothing (RFC 9110, 15.2)."""
    interim = b"".join(b"HTTP/1.1 %d Interim\r\n\r\n" % status for status in statuses)

    def run(exchange: Exchange) -> None:
        exchange.read(HALF)
        exchange._wire.socket.sendall(interim)
        exchange.read()
        exchange._wire.socket.sendall(interim)
        exchange.answer(201)

    with ScriptedTarget(Behaviour("interim", run)) as target:
        sender = begin(beam, "/k", length=len(SHORT), to=target.url()).send(SHORT[:HALF])
        target.request().wait_until_read(HALF)
        time.sleep(0.1)  # what the target says comes first
        answer = sender.send(SHORT[HALF:]).answer()
        assert answer.status == 200, answer


def test_an_answer_that_is_no_http_is_a_failure(beam: Server, short: Path) -> None:
    """502, and nothing of it."""

    def run(exchange: Exchange) -> None:
        exchange.read()
        exchange._wire.socket.sendall(b"220 mail.example ESMTP\r\n\r\n")
        exchange.watch()

    with ScriptedTarget(Behaviour("smtp", run)) as target:
        assert "ESMTP" not in send(beam, "/k", short, to=target.url(), status=502)


# Time.


def test_connecting_is_bounded(beam: Server, short: Path) -> None:
    """A listener whose queue is full does not answer; the sender hears so after the timeout."""
    with contextlib.ExitStack() as open_:
        listener = open_.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = open_.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        time.sleep(0.1)  # until its queue is full
        began = time.monotonic()
        text = send(beam, "/k", short, to=f"http://127.0.0.1:{listener.getsockname()[1]}/", status=502)
        assert 0.9 < time.monotonic() - began < 3
        assert "127.0.0.1" in text


@pytest.mark.parametrize("own", [False, True], ids=["length", "chunked"])
def test_a_stalled_target_and_a_fast_sender(own: bool, serve: Serve, tmp_path: Path) -> None:
    """Gigabytes are offered; the memory stays what it is, and the sender hears 502."""
    times = ("--forward-timeout", "2")
    with ScriptedTarget(reads_then_stops()) as target:
        store = ("--store", f"forward:{target.url('/{key}')}") if own else FORWARDS
        server = serve(*store, *times)
        most = 0
        sender = Sender(
            server, "/k", zeros(tmp_path, 4 << 30), to=None if own else target.url(), how="chunked" if own else "raw"
        )
        while sender.curl.process.poll() is None:
            most = max(most, resident(server))
            time.sleep(0.05)
        reply = sender.reply()
        assert reply.status == 502, reply
        assert 0 < most < MOST_RESIDENT
        assert target.request().size == 1 << 20


# Senders that die.


@pytest.mark.parametrize("receives", [False, True], ids=["alone", "with a receiver"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_dead_sender_cuts_the_targets_request(chunked: bool, receives: bool, serve: Serve, tmp_path: Path) -> None:
    """No whole body arrives, also where only its framing could tell."""
    with ScriptedTarget() as target, contextlib.ExitStack() as receivers:
        server = serve("--store", f"forward:{target.url('/{key}')}", "--get-wait-timeout", "10")
        if receives:
            receiver = Receiver(server, "/k", tmp_path / "got")
            receivers.callback(lambda: check_code(receiver, 18))
        sender = begin(server, "/k", length=None if chunked else len(SHORT))
        sender.send(chunk(SHORT[:HALF]) if chunked else SHORT[:HALF])
        target.request().wait_until_read(HALF)
        with logged(server, outcome="sender-lost", forward="127.0.0.1:cut"):
            sender.close()
        target.connection().wait_until_ended()
        assert not target.request().whole
        assert target.request().answered is None


def check_code(receiver: Receiver, code: int) -> None:
    """Its curl ends with ``code``."""
    assert receiver.curl.done().code == code


def test_a_sender_that_dies_while_the_target_thinks_is_noticed(serve: Serve, short: Path) -> None:
    """The body was whole; the target's request is cut long before the timeout."""
    with ScriptedTarget(never_answers) as target:
        server = serve(*FORWARDS, "--forward-timeout", "60")
        sender = Sender(server, "/k", short, to=target.url())
        target.request().wait_until_whole()
        sender.curl.kill()
        assert target.connection().wait_until_ended(5) in (End.CLOSED, End.RESET)


def test_a_body_with_a_wrong_digest_does_not_arrive_whole(beam: Server) -> None:
    """The sender hears 422, and the target does not see an end."""
    with ScriptedTarget() as target:
        wrong = "Repr-Digest: sha-256=:" + "A" * 43 + "=:"
        sender = begin(beam, "/k", wrong, length=len(SHORT), to=target.url()).send(SHORT)
        assert sender.answer().status == 422
        target.connection().wait_until_ended()
        assert not any(request.whole for request in target.requests)
        assert sha256(SHORT) not in [request.sha256 for request in target.requests]
