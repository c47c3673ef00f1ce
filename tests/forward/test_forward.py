"""A file goes on to another server while it is being sent: what the target gets, when, and what the sender hears."""

import threading
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from contract.peers import A_WHILE, LAST_CHUNK, Peer, chunk
from forward.conftest import Serve
from forward.support import (
    BODY,
    SHORT,
    SIZE,
    TIMES,
    TYPE,
    Receiver,
    Sender,
    begin,
    forwards,
    logged,
    send,
    sha256,
)
from forward.targets import Behaviour, Exchange, ScriptedTarget, created, late, slow
from harness import Server, until

HALF = len(SHORT) // 2
WAYS = ("raw", "chunked", "form")


class Gate:
    """Answers 200 behind the body, once it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.behaviour = Behaviour("gate", self._run)

    def _run(self, exchange: Exchange) -> None:
        exchange.read()
        assert self.opened.wait(20)
        exchange.answer(200)


# What the target gets.


def test_the_target_gets_a_plain_put_of_the_file(beam: Server, file: Path) -> None:
    """The URL as it was written, Host, length and type, what the sender asked for, and nothing of the sender's own."""
    path = "/a%2Fb//c~%7E+x'()%20?q=%20+&&y=%2B~#".rstrip("#")
    with ScriptedTarget() as target:
        own = ("-H", "Authorization: Bearer mine", "-H", "Cookie: a=b", "-H", "X-Own: 1", "-H", "User-Agent: mine")
        given = ("-H", "X-Forward-Header-X-Amz-Acl: private", "-H", "x-forward-header-authorization: Basic dGhlaXJz")
        text = send(beam, "/k", file, *own, *given, to=target.url(path))
        assert "127.0.0.1" in text
        assert f"{SIZE} bytes" in text
        request = target.request()
        assert request.line == f"PUT {path} HTTP/1.1".encode()
        assert request.sha256 == sha256(BODY)
        assert request.whole
        found = {name.decode().lower(): value.decode() for name, value in request.headers}
        assert len(found) == len(request.headers)
        assert found.pop("connection", "close") == "close"
        assert found == {
            "host": f"127.0.0.1:{target.port}",
            "content-length": str(SIZE),
            "content-type": TYPE,
            "x-amz-acl": "private",
            "authorization": "Basic dGhlaXJz",
        }


def test_a_header_for_the_target_stands_before_the_senders_own(beam: Server, short: Path) -> None:
    """``X-Forward-Header-Content-Type`` is what the target gets; the receivers get the sender's."""
    with ScriptedTarget() as target:
        send(beam, "/k", short, "-H", "X-Forward-Header-Content-Type: text/plain", to=target.url())
        assert target.request().all("Content-Type") == ["text/plain"]


def test_the_bytes_of_a_forwarded_header_are_the_senders(beam: Server) -> None:
    """UTF-8 in a value arrives as it was sent, and repeated headers arrive each."""
    fields = [f"X-Forward-Header-X-Name: {name}" for name in ("grüße", "two")]
    with ScriptedTarget() as target:
        assert begin(beam, "/k", *fields, length=1, to=target.url()).send(b"x").answer().status == 200
        assert [value.encode("latin-1").decode() for value in target.request().all("X-Name")] == ["grüße", "two"]


def test_an_empty_file_is_forwarded(beam: Server, tmp_path: Path) -> None:
    """Its length is known: it is zero."""
    (tmp_path / "empty").write_bytes(b"")
    with ScriptedTarget(created) as target:
        send(beam, "/k", tmp_path / "empty", to=target.url())
        assert target.request().length == 0
        assert target.request().whole


@pytest.mark.parametrize("how", ["chunked", "form"])
def test_a_file_of_unknown_length_goes_by_the_disk(how: str, beam: Server, file: Path, tmp_path: Path) -> None:
    """With ``forward=spool`` the target gets length and type; a receiver gets the file meanwhile."""
    with ScriptedTarget() as target, logged(beam, outcome="stored", forward="127.0.0.1:forwarded"):
        receiver = Receiver(beam, "/k", tmp_path / "got")
        text = send(beam, "/k?forward=spool", file, to=target.url(), how=how, status=201)
        assert "forwarded to 127.0.0.1" in text
        receiver.check(BODY)
        assert (target.request().length, target.request().get("Content-Type")) == (SIZE, TYPE)
        assert target.request().sha256 == sha256(BODY)
        assert not target.request().chunked


def test_a_spooled_forward_begins_behind_the_whole_body(beam: Server) -> None:
    """The target hears nothing before."""
    with ScriptedTarget() as target:
        sender = begin(beam, "/k?forward=spool", length=None, to=target.url()).send(chunk(SHORT))
        time.sleep(A_WHILE)
        assert not target.connections
        sender.send(LAST_CHUNK)
        assert sender.answer().status == 201
        assert target.request().sha256 == sha256(SHORT)


@pytest.mark.parametrize("store", ["memory", "disk"])
def test_a_forward_beside_receivers(store: str, beam: Server, file: Path, tmp_path: Path) -> None:
    """Two receivers and the target get the same, and the reply names all of them."""
    with ScriptedTarget() as target, logged(beam, deliveries=2, forward="127.0.0.1:forwarded"):
        receivers = [Receiver(beam, "/k", tmp_path / f"got{n}") for n in range(2)]
        many = "" if store == "disk" else "&readers=2"
        text = send(beam, f"/k?store={store}{many}", file, to=target.url(), status=201 if store == "disk" else 200)
        assert "forwarded to 127.0.0.1" in text
        if store == "memory":
            assert "2 receivers" in text
        for receiver in receivers:
            receiver.check(BODY)
        assert target.request().sha256 == sha256(BODY)


# When it begins and ends.


def test_a_forward_begins_at_admission_and_satisfies_wait(beam: Server) -> None:
    """Also ``wait=0`` with nobody there; the gauge shows it, and its counter the bytes while they go."""
    with ScriptedTarget() as target:
        before = beam.gauges()["bytes_forwarded_total"]
        sender = begin(beam, "/k?wait=0", length=len(SHORT), to=target.url()).send(SHORT[:HALF])
        target.request().wait_until_read(HALF)
        assert beam.gauges()["active_forwards"] == 1
        assert beam.gauges()["bytes_forwarded_total"] - before == HALF
        assert sender.send(SHORT[HALF:]).answer().status == 200
        until(lambda: beam.gauges()["bytes_forwarded_total"] - before == len(SHORT), "all of it is counted")


def test_a_wait_does_not_end_what_is_being_forwarded(beam: Server, short: Path) -> None:
    """The target takes longer than the sender would wait for a receiver."""
    with ScriptedTarget(slow(100_000)) as target:
        text = send(beam, "/k?wait=0.2", short, to=target.url())
        assert text == f"forwarded {len(SHORT)} bytes to 127.0.0.1\n"


def test_with_readers_a_forward_begins_when_they_are_there(beam: Server, short: Path, tmp_path: Path) -> None:
    """Not with the first of two."""
    with ScriptedTarget() as target:
        sender = Sender(beam, "/k?readers=2", short, to=target.url())
        until(lambda: beam.gauges()["pipes"] == 1, "the sender is there")
        first = Receiver(beam, "/k", tmp_path / "first")
        time.sleep(A_WHILE)
        assert not target.connections
        second = Peer(beam.connect()).get("/k")
        assert second.answer().body == SHORT
        first.check(SHORT)
        assert sender.reply().status == 200
        assert target.request().sha256 == sha256(SHORT)


def test_readers_that_do_not_come_are_not_replaced_by_a_forward(beam: Server, short: Path) -> None:
    """``readers=1`` with nobody there ends as without a forward, and the target hears nothing."""
    with ScriptedTarget() as target:
        send(beam, "/k?readers=1&wait=0.1", short, to=target.url(), status=504)
        assert not target.connections


def test_the_reply_waits_for_the_target(beam: Server, tmp_path: Path) -> None:
    """The receiver has it all, and the sender hears nothing before the target has answered."""
    gate = Gate()
    with ScriptedTarget(gate.behaviour) as target:
        receiver = Receiver(beam, "/k", tmp_path / "got")
        sender = begin(beam, "/k", f"Content-Type: {TYPE}", length=len(SHORT), to=target.url()).send(SHORT)
        receiver.check(SHORT)
        target.request().wait_until_whole()
        assert sender.hears_nothing()
        gate.opened.set()
        assert sender.answer().text == f"delivered {len(SHORT)} bytes to 1 receiver, forwarded to 127.0.0.1\n"


def test_the_pace_is_also_the_targets(beam: Server, file: Path, tmp_path: Path) -> None:
    """A slow target slows the sender and the receiver; both get everything."""
    with ScriptedTarget(slow(16e6)) as target:
        receiver = Receiver(beam, "/k", tmp_path / "got")
        began = time.monotonic()
        send(beam, "/k", file, to=target.url())
        assert time.monotonic() - began > 0.9 * SIZE / 16e6
        receiver.check(BODY)
        assert target.request().sha256 == sha256(BODY)


def test_a_2xx_of_the_target_counts_as_a_delivery(beam: Server, short: Path) -> None:
    """In the reply, the log and the metrics; the key is free behind it."""
    with ScriptedTarget(late(204)) as target:
        before = forwards(beam).get("forwarded", 0)
        for n in range(2):
            with logged(beam, outcome="delivered", deliveries=0, forward="127.0.0.1:forwarded"):
                assert send(beam, "/k", short, to=target.url()) == f"forwarded {len(SHORT)} bytes to 127.0.0.1\n"
            assert forwards(beam)["forwarded"] == before + n + 1


def test_a_receiver_that_leaves_does_not_end_the_forward(beam: Server) -> None:
    """The target's 2xx is a delivery: the sender hears 200."""
    with ScriptedTarget() as target:
        receiver = beam.request("GET /k?wait=10 HTTP/1.1")
        until(lambda: beam.gauges()["key_waiters"] == 1, "the receiver waits")
        sender = begin(beam, "/k", length=len(SHORT), to=target.url()).send(SHORT[:HALF])
        target.request().wait_until_read(HALF)
        receiver.close()
        until(lambda: beam.gauges()["active_downloads"] == 0, "the receiver has left")
        answer = sender.send(SHORT[HALF:]).answer()
        assert answer.status == 200, answer
        assert target.request().whole


def test_a_connection_goes_on_behind_a_forward(beam: Server) -> None:
    """Requests that were sent at once behind each other are each answered, also behind a refused one."""
    with ScriptedTarget() as target:
        sender = begin(beam, "/k", length=0, to="http://u@x/").ask("GET", "/none?wait=0")
        assert (sender.answer().status, sender.answer().status) == (400, 404)
        sender = begin(beam, "/k", length=3, to=target.url()).send(b"abc")
        sender.put("/k", b"defg", f"X-Forward-Url: {target.url()}").ask("GET", "/none?wait=0")
        assert [sender.answer().status for _ in range(3)] == [200, 200, 404]
        assert [request.sha256 for request in target.requests] == [sha256(b"abc"), sha256(b"defg")]


# The operator's own address.


@pytest.fixture(scope="module")
def chain(started: Serve) -> tuple[tuple[str, ...], Server]:
    """A server, and the flags of one whose every send goes on to that."""
    second = started("--store", "memory", *TIMES)
    return ("--store", f"forward:{second.url('/in/{key}')}", "--store", "memory", *TIMES), second


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("key", ["k", "a b/ü+~%25/x'y", "q?&=#"])
def test_a_chain_of_two(
    key: str, how: str, chain: tuple[tuple[str, ...], Server], serve: Serve, file: Path, tmp_path: Path
) -> None:
    """A receiver at the second server, and one at the first, get the file and its type, whatever the key."""
    flags, second = chain
    first, second = serve(*flags), serve("--store", "memory", *TIMES)
    path = "/" + quote(key)
    far = Receiver(second, "/in" + path, tmp_path / "far")
    with logged(first, outcome="delivered", forward="127.0.0.1:forwarded"), logged(second, deliveries=1):
        near = Receiver(first, path, tmp_path / "near") if key == "k" else None
        text = send(first, path, file, how=how)
        assert "127.0.0.1" not in text
        far.check(BODY)
        if near is not None:
            near.check(BODY)


def test_a_key_is_percent_encoded_in_the_operators_address(serve: Serve, short: Path) -> None:
    """In the path slashes stay, in the query they do not; nothing of a key becomes a part of the URL."""
    with ScriptedTarget() as target:
        server = serve("--store", f"forward:http://127.0.0.1:{target.port}/d/{{key}}?k={{key}}&x=1", *TIMES)
        send(server, "/a%20b/%C3%BC+~%3Fx%23y%26z%25", short)
        key = "a%20b/%C3%BC%2B~%3Fx%23y%26z%25"
        assert target.request().target.decode() == f"/d/{key}?k={key.replace('/', '%2F')}&x=1"


def test_a_sender_may_name_the_store_that_forwards(serve: Serve, short: Path) -> None:
    """It is a store like others; sends to another one do not go on."""
    with ScriptedTarget() as target:
        server = serve("--store", "memory", "--store", f"forward:{target.url('/{key}')}", *TIMES)
        send(server, "/k?wait=0", short, status=504)
        assert not target.connections
        send(server, "/k?wait=0&store=forward", short)
        assert target.request().target == b"/k"


def test_a_receiver_in_the_chain_is_cut_with_its_sender(
    chain: tuple[tuple[str, ...], Server], serve: Serve, tmp_path: Path
) -> None:
    """The sender at the first server dies; the receiver at the second one does not see a whole file."""
    flags, second = chain
    first, second = serve(*flags), serve("--store", "memory", *TIMES)
    receiver = Receiver(second, "/in/k", tmp_path / "got")
    sender = begin(first, "/k", length=None).send(chunk(SHORT))
    until(lambda: (tmp_path / "got").exists() and (tmp_path / "got").stat().st_size > 0, "something has come")
    sender.close()
    assert receiver.curl.done().code == 18
