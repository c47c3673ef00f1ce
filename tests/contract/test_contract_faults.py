"""Peers that break off, in every state of a transfer: nobody takes a part for the whole, and nothing is left."""

import contextlib
import random
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from contract.peers import LAST_CHUNK, Background, Curl, Cut, Peer, check_refusal, chunk
from contract.server import Relay, Server
from harness import until

BOUNDARY = "x1d8f"
FORM = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
FILE_PART = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'.encode()
FORM_END = f"\r\n--{BOUNDARY}--\r\n".encode()
SOON = 6.0  # seconds in which a peer's end that the network shows is noticed


@pytest.fixture(scope="module")
def brittle(serve: Callable[..., Server]) -> Server:
    """Waits for nobody to come back for long."""
    return serve(
        *("--store", "memory", "--store", "disk:{folder}/store", "--resume-timeout", "0.5"),
        *("--put-ttl", "0.5", "--get-ttl", "0.1", "--get-wait-timeout", "30"),
    )


@pytest.fixture(scope="module")
def patient(serve: Callable[..., Server]) -> Server:
    """Waits for longer than the time between two looks at a sender."""
    return serve("--store", "memory", "--resume-timeout", "2.5")


@pytest.fixture
def relay(request: pytest.FixtureRequest, brittle: Server) -> Relay:
    """Both stores."""
    store, ends = str(request.param).split("-")
    return Relay(brittle, store, ends)


@pytest.fixture
def holding(request: pytest.FixtureRequest, brittle: Server) -> Relay:
    """The store that holds."""
    return Relay(brittle, "memory", str(request.param).removeprefix("memory-"))


def target(relay: Relay, key: str) -> str:
    """Where to send so that it goes to the store."""
    return f"{key}?store={relay.store}"


def check_cut(receiver: Peer) -> None:
    """The receiver's connection ends before its answer does."""
    assert receiver.head().status in (200, 206)
    with pytest.raises((Cut, ConnectionResetError)):
        receiver.answer()


def begin(relay: Relay, key: str, way: str, data: bytes, more: bool = True) -> Peer:
    """A sender that has sent ``data`` of a file, and owes more of it."""
    sender = relay.connect()
    if way == "length":
        return sender.put(target(relay, key), data, length=len(data) + (10 if more else 0))
    if way == "chunked":
        return sender.put_chunked(target(relay, key), [data], ends=False)
    body = FILE_PART + data
    length = f"Content-Length: {len(body) + len(FORM_END) + (10 if more else 0)}"
    return sender.ask("POST", target(relay, key), FORM, length).send(body)


# Senders that die.


@pytest.mark.parametrize("way", ["length", "chunked", "form"])
def test_a_killed_sender_and_real_receivers(relay: Relay, key: str, tmp_path: Path, way: str) -> None:
    """``kill -9`` of the sending curl in the middle: each receiving curl ends with 18, and has a part."""
    file = tmp_path / "file"
    file.write_bytes(random.Random(40).randbytes(30_000_000))
    receivers = [relay.curl("-fo", tmp_path / str(i), relay.url(key)) for i in range(3)]
    relay.wait_for_waiters(3)
    option, what = {"length": ("-T", str(file)), "chunked": ("-T", "-"), "form": ("-F", f"file=@{file}")}[way]
    sender = relay.curl(
        *("--limit-rate", "5M", option, what, relay.url(target(relay, key))), stdin=file if way == "chunked" else None
    )
    until(lambda: all(size_of(tmp_path / str(i)) > 100_000 for i in range(3)), "bytes flow")
    sender.kill()
    for i, receiver in enumerate(receivers):
        done = receiver.done()
        assert done.code == 18, done
        part = (tmp_path / str(i)).read_bytes()
        assert len(part) < 30_000_000
        assert file.read_bytes().startswith(part)
    assert relay.ask("HEAD", key).status == 404


def size_of(path: Path) -> int:
    """Bytes of a file that may not be there."""
    return path.stat().st_size if path.exists() else 0


END_SENDER = {"closes": Peer.close, "resets": Peer.reset}


@pytest.mark.parametrize("end", END_SENDER.values(), ids=END_SENDER)
@pytest.mark.parametrize("way", ["length", "chunked", "form"])
def test_a_sender_that_dies_in_the_middle(relay: Relay, key: str, way: str, end: Callable[[Peer], None]) -> None:
    """The receivers get what came, and are cut; the key is free at once."""
    receivers = [relay.connect().get(key), relay.connect().get(key, version="1.0")]
    relay.wait_for_waiters(2)
    sender = begin(relay, key, way, b"abc")
    assert [receiver.take(3) for receiver in receivers] == [b"abc", b"abc"]
    end(sender)
    for receiver in receivers:
        check_cut(receiver)
    relay.server.wait_for("pipes", 0, SOON)


@pytest.mark.parametrize("way", ["length", "chunked", "form"])
def test_a_sender_that_dies_before_its_last_byte(relay: Relay, key: str, way: str) -> None:
    """All the bytes but no end: the receiver must not believe that it has the whole."""
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    sender = begin(relay, key, way, b"x" * 100_000, more=way == "length")
    assert len(receiver.take(100_000)) == 100_000
    sender.close()
    check_cut(receiver)


@pytest.mark.parametrize("way", ["chunked", "form"])
def test_an_old_receiver_without_a_length_is_reset(relay: Relay, key: str, way: str) -> None:
    """Where only the connection's end tells that the file has ended, a broken file ends in a reset."""
    receiver = relay.connect().get(key, version="1.0")
    relay.wait_for_waiters(1)
    sender = begin(relay, key, way, b"abc")
    assert receiver.take(3) == b"abc"
    sender.close()
    with pytest.raises((ConnectionResetError, Cut)):  # Cut: a reset of TLS is its end without a close_notify
        receiver.everything()


@pytest.mark.parametrize("way", ["chunked", "form"])
def test_an_old_curl_without_a_length_ends_with_an_error(relay: Relay, key: str, tmp_path: Path, way: str) -> None:
    """``curl -0`` ends with an error when the sender of a chunked file dies."""
    receiver = relay.curl("-0", "--no-alpn", "-N", "-fo", tmp_path / "out", relay.url(key))
    relay.wait_for_waiters(1)
    sender = begin(relay, key, way, b"abc")
    until(lambda: size_of(tmp_path / "out") == 3, "the bytes have come")
    sender.close()
    done = receiver.done()
    assert done.code == 56, done


@pytest.mark.parametrize("end", END_SENDER.values(), ids=END_SENDER)
@pytest.mark.parametrize("way", ["length", "chunked", "form"])
def test_a_sender_that_dies_before_any_receiver(relay: Relay, key: str, way: str, end: Callable[[Peer], None]) -> None:
    """The key is free as soon as the sender has gone."""
    sender = begin(relay, key, way, b"abc")
    relay.wait_for_offer(key)
    end(sender)
    relay.server.wait_for("pipes", 0, SOON)
    assert relay.server.files() == []


def test_a_sender_that_dies_in_the_head_of_its_form(relay: Relay, key: str) -> None:
    """What fails before its file has begun has not happened: the receivers go on waiting for the next sender."""
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    sender = relay.connect().ask("POST", target(relay, key), FORM, "Content-Length: 1000").send(FILE_PART[:20])
    relay.server.wait_for("active_uploads", 1)
    sender.close()
    relay.server.wait_for("pipes", 0, SOON)
    assert receiver.hears_nothing()
    sent = relay.connect().put(target(relay, key), b"abc")
    assert receiver.answer().body == b"abc"
    assert sent.answer().status == (201 if relay.keeps else 200)


def test_a_sender_that_dies_while_readers_gather(holding: Relay, key: str) -> None:
    """The one who came for ``readers=2`` goes on waiting."""
    receiver = holding.connect().get(key)
    holding.wait_for_waiters(1)
    sender = holding.connect().put(f"{key}?readers=2", b"abc")
    holding.wait_for_offer(key)
    sender.reset()
    holding.server.wait_for("pipes", 0, SOON)
    assert receiver.hears_nothing()
    sent = holding.connect().put(key, b"next")
    assert receiver.answer().body == b"next"
    assert sent.answer().status == 200


# Senders that die while they are paused.


def fill(relay: Relay, key: str, query: str = "") -> tuple[Peer, int]:
    """A sender without a receiver that has sent until nothing went any more."""
    sender = relay.connect().put(f"{key}?store=memory{query}", b"", length=1 << 40)
    sent = sender.fill(bytes(96 << 20))
    assert sent < 96 << 20, "the server has taken more than it can hold"
    return sender, sent


def test_a_paused_sender_that_is_reset(holding: Relay, key: str) -> None:
    """A reset is noticed within seconds although nothing is read from the connection."""
    sender, _ = fill(holding, key)
    sender.reset()
    holding.server.wait_for("pipes", 0, SOON)


def test_a_paused_sender_whose_end_can_be_seen(holding: Relay, key: str) -> None:
    """So is an orderly end that comes right behind the bytes that the system holds."""
    sender = holding.connect().put(key, b"", length=1 << 40)
    sender.send(bytes((16 << 20) + 50_000))
    until(lambda: stands_still(holding, 16 << 20), "the ring is full")
    sender.close()
    holding.server.wait_for("pipes", 0, SOON)


def stands_still(relay: Relay, n: int) -> bool:
    """Whether ``n`` bytes are in memory, and no more come for a moment."""
    if relay.server.gauge("memory_usage") < n:
        return False
    before = relay.server.metrics()["beam_bytes_in_total"]
    time.sleep(0.1)  # the moment
    return relay.server.metrics()["beam_bytes_in_total"] == before


def test_a_paused_sender_whose_end_cannot_be_seen(holding: Relay, key: str) -> None:
    """Behind a full window nobody can see the end: the wait ends it, and nothing of it is left."""
    sender, _ = fill(holding, key, "&wait=2")
    sender.close()
    holding.server.wait_for("pipes", 0, 2 + SOON)


def test_killed_curls_that_were_paused(brittle: Server, key: str, tmp_path: Path) -> None:
    """The same with a real program, killed while it waits for a receiver."""
    file = tmp_path / "file"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 30)
    relays = [Relay(brittle, "memory", ends) for ends in ("tcp", "tls")]
    senders = [relay.curl("-T", file, relay.url(f"{key}/{relay.ends}?wait=4")) for relay in relays]
    until(lambda: stands_still(relays[0], 32 << 20), "the rings are full")
    for sender in senders:
        assert sender.process.poll() is None
        sender.kill()
    brittle.wait_for("pipes", 0, 4 + SOON)


def test_a_paused_sender_that_dies_beside_a_slow_receiver(holding: Relay, key: str) -> None:
    """The receiver gets what was there, and is cut."""
    receiver = holding.connect(receive_buffer=4096).get(key)
    holding.wait_for_waiters(1)
    sender, _ = fill(holding, key)
    sender.reset()
    assert receiver.head().status == 200
    with pytest.raises((Cut, ConnectionResetError)):
        Background(receiver.answer).result()
    holding.server.wait_for("pipes", 0, SOON)


# Senders that have sent everything and wait.


def test_a_living_sender_that_has_ended_its_side(brittle: Server, key: str) -> None:
    """It is asked with 102 Processing while it waits, and gets its answer when a receiver has come."""
    for ends in ("tcp", "unix"):
        relay = Relay(brittle, "memory", ends)
        sender = relay.connect().put(key, b"abc").half_close()
        assert sender.first_status() == 102
        assert relay.ask("GET", key).body == b"abc"
        answer = sender.answer()
        assert answer.text == "delivered 3 bytes to 1 receiver\n"
        assert set(answer.interim) == {102}


def test_a_living_sender_of_chunks_that_has_ended_its_side(brittle: Server, key: str) -> None:
    """The same when only its last chunk told that it was all."""
    relay = Relay(brittle, "memory", "tcp")
    sender = relay.connect().put_chunked(key, [b"abc"]).half_close()
    assert sender.first_status() == 102
    assert relay.ask("GET", key).body == b"abc"
    assert sender.answer().text == "delivered 3 bytes to 1 receiver\n"


def test_an_old_sender_that_has_ended_its_side(brittle: Server, key: str) -> None:
    """HTTP/1.0 knows no interim answers: it is not asked, and gets its answer."""
    relay = Relay(brittle, "memory", "tcp")
    sender = relay.connect().put(key, b"abc", version="1.0").half_close()
    relay.wait_for_offer(key)
    assert sender.hears_nothing(1.5)
    assert relay.ask("GET", key).body == b"abc"
    answer = sender.answer()
    assert (answer.text, answer.interim) == ("delivered 3 bytes to 1 receiver\n", ())


def test_who_has_not_ended_its_side_is_not_asked(brittle: Server, key: str) -> None:
    """102 comes only after the end of the sender's side."""
    relay = Relay(brittle, "memory", "tcp")
    sender = relay.connect().put(key, b"abc")
    relay.wait_for_offer(key)
    assert sender.hears_nothing(1.5)
    assert relay.ask("GET", key).body == b"abc"
    assert sender.answer().interim == ()


@pytest.mark.parametrize("end", END_SENDER.values(), ids=END_SENDER)
@pytest.mark.parametrize("way", ["length", "chunked", "form"])
def test_a_dead_sender_that_had_sent_everything(
    holding: Relay, key: str, way: str, end: Callable[[Peer], None]
) -> None:
    """Nobody is left to be told: its key is free within seconds."""
    sender = holding.connect()
    if way == "length":
        sender.put(key, b"abc")
    elif way == "chunked":
        sender.put_chunked(key, [b"abc"])
    else:
        sender.ask("POST", key, FORM, body=FILE_PART + b"abc" + FORM_END)
    holding.wait_for_offer(key)
    holding.server.wait_for("active_uploads", 0)
    end(sender)
    holding.server.wait_for("pipes", 0, SOON)


def test_a_killed_curl_that_had_sent_everything(holding: Relay, key: str, tmp_path: Path) -> None:
    """The same with a real program."""
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    sender = holding.curl("-T", file, holding.url(key))
    holding.wait_for_offer(key)
    holding.server.wait_for("active_uploads", 0)
    sender.kill()
    holding.server.wait_for("pipes", 0, SOON)


def test_a_sender_that_leaves_while_its_whole_body_is_being_delivered(holding: Relay, key: str) -> None:
    """The body is whole: the receiver gets all of it, although nobody is left to be told."""
    data = random.Random(41).randbytes(5 << 20)
    receivers = []
    for i, end in enumerate(END_SENDER.values()):
        receivers.append(holding.connect(receive_buffer=4096).get(f"{key}/{i}"))
        holding.wait_for_waiters(1)
        sender = holding.connect().put(f"{key}/{i}", data)
        holding.server.wait_for("active_uploads", 0)
        end(sender)
    time.sleep(1.5)  # the server looks at its senders once a second
    for receiver in receivers:
        assert Background(receiver.answer).result().body == data
    holding.server.wait_for("pipes", 0, SOON)


@pytest.mark.parametrize("way", ["length", "chunked"])
@pytest.mark.parametrize("missing", [0, 1], ids=["whole", "a byte is missing"])
def test_a_sender_that_ends_tls_behind_its_bytes(brittle: Server, key: str, way: str, missing: int) -> None:
    """What one packet brings before the end counts: a whole body is delivered, and a part is no file."""
    relay = Relay(brittle, "memory", "tls")
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    sender, data = relay.connect(), b"x" * 1000
    if way == "length":
        sender.put(key, b"", length=len(data) + missing)
    else:
        sender.put_chunked(key, [], ends=False)
        data = chunk(data) + LAST_CHUNK[: len(LAST_CHUNK) - missing]
    brittle.wait_for("active_uploads", 1)
    sender.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    sender.send(data)
    with contextlib.suppress(ssl.SSLWantReadError):
        sender.socket.unwrap()  # type: ignore[union-attr,unused-ignore]
    sender.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
    assert receiver.take(1000) == b"x" * 1000
    if missing:
        check_cut(receiver)
    else:
        assert receiver.answer().body == b""


def test_a_sender_that_leaves_while_its_receiver_is_away(patient: Server, key: str) -> None:
    """The body is whole and the only receiver has left: after --resume-timeout everything is let go."""
    senders = []
    for i, ends in enumerate(("tcp", "tcp", "tls", "tls")):
        relay = Relay(patient, "memory", ends)
        receiver = relay.connect().get(f"{key}/{i}")
        relay.wait_for_waiters(1)
        senders.append(relay.connect().put(f"{key}/{i}", b"abc", length=6))
        assert receiver.take(3) == b"abc"
        receiver.close()
        patient.wait_for("active_downloads", 0)
        senders[i].send(b"def")
        patient.wait_for("active_uploads", 0)
    for sender in senders[::2]:
        sender.close()
    for sender in senders[1::2]:
        sender.reset()
    patient.wait_for("pipes", 0, 2.5 + SOON)


def test_a_receiver_comes_back_when_the_sender_has_left(patient: Server, key: str) -> None:
    """The body was whole: who comes back in time gets the rest, although the sender has gone."""
    relay = Relay(patient, "memory", "tcp")
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    sender = relay.connect().put(key, b"abc", length=6)
    assert receiver.take(3) == b"abc"
    receiver.close()
    patient.wait_for("active_downloads", 0)
    sender.send(b"def")
    patient.wait_for("active_uploads", 0)
    sender.close()
    time.sleep(1.3)  # the server looks at its senders once a second
    assert relay.ask("GET", key, "Range: bytes=3-").body == b"def"
    patient.wait_for("pipes", 0)


# Receivers that leave.


@pytest.mark.parametrize("end", END_SENDER.values(), ids=END_SENDER)
def test_a_receiver_that_leaves_while_it_waits(relay: Relay, key: str, end: Callable[[Peer], None]) -> None:
    """It is forgotten at once, and cannot take a transfer with it that comes later."""
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    end(receiver)
    relay.server.wait_for("key_waiters", 0, SOON)
    sender = relay.connect().put(target(relay, key), b"abc")
    if relay.keeps:
        assert sender.answer().status == 201
    assert relay.connect().get(key).answer().body == b"abc"
    if not relay.keeps:
        assert sender.answer().text == "delivered 3 bytes to 1 receiver\n"


def test_a_receiver_that_ends_its_side_has_left(brittle: Server, key: str) -> None:
    """A half-close is how a dead receiver looks: it is not kept, whether it waits or receives."""
    relay = Relay(brittle, "memory", "tcp")
    relay.connect().get(key).half_close()
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    sender = relay.connect().put(key, b"abc", length=6)
    assert receiver.take(3) == b"abc"
    receiver.half_close()
    relay.server.wait_for("active_downloads", 0, SOON)
    check_refusal(sender.answer(), 502)


def test_the_only_receiver_leaves_in_the_middle(relay: Relay, key: str) -> None:
    """The sender is told 502 after --resume-timeout; a store that keeps does not mind."""
    senders = []
    began = time.monotonic()
    for i, end in enumerate(END_SENDER.values()):
        receiver = relay.connect().get(f"{key}/{i}")
        relay.wait_for_waiters(1)
        senders.append(relay.connect().put(target(relay, f"{key}/{i}"), b"abc", length=6))
        assert receiver.take(3) == b"abc"
        end(receiver)
    for i, sender in enumerate(senders):
        if relay.keeps:
            relay.server.wait_for("active_downloads", 0)
            assert sender.send(b"def").answer().status == 201
            assert relay.ask("GET", f"{key}/{i}").body == b"abcdef"
        else:
            check_refusal(sender.answer(), 502, "left")
            assert time.monotonic() - began > 0.45


def test_the_only_receiver_leaves_before_the_last_byte(holding: Relay, key: str) -> None:
    """Nobody has the whole file, so the sender is not told that somebody has."""
    receiver = holding.connect().get(key)
    holding.wait_for_waiters(1)
    sender = holding.connect().put(key, b"x" * 99_999, length=100_000)
    assert len(receiver.take(99_999)) == 99_999
    receiver.close()
    holding.server.wait_for("active_downloads", 0)
    sender.send(b"x")
    check_refusal(sender.answer(), 502)


@pytest.mark.parametrize("way", ["length", "chunked", "form"])
def test_curl_reads_why_nobody_has_its_file(holding: Relay, key: str, tmp_path: Path, way: str) -> None:
    """All receivers leave in the middle of a large file: the sending curl prints the sentence and ends with 22."""
    file = tmp_path / "file"
    file.write_bytes(random.Random(42).randbytes(60_000_000))
    receivers = [holding.connect().get(key) for _ in range(2)]
    holding.wait_for_waiters(2)
    option, what = {"length": ("-T", str(file)), "chunked": ("-T", "-"), "form": ("-F", f"file=@{file}")}[way]
    sender = holding.curl("--fail-with-body", option, what, holding.url(key), stdin=file if way == "chunked" else None)
    for receiver in receivers:
        assert len(receiver.take(100_000)) == 100_000
    for receiver in receivers:
        receiver.reset()
    done = sender.done()
    assert done.code == 22, done
    assert "receiver left" in done.out
    assert done.out.endswith("\n")
    assert "502" in done.err


def test_a_receiver_that_leaves_does_not_disturb_the_others(relay: Relay, key: str, tmp_path: Path) -> None:
    """Two of four real receivers are killed in the middle: the other two get everything."""
    file = tmp_path / "file"
    file.write_bytes(random.Random(43).randbytes(30_000_000))
    receivers = [relay.curl("-fo", tmp_path / str(i), "--limit-rate", "25M", relay.url(key)) for i in range(4)]
    relay.wait_for_waiters(4)
    sender = relay.curl("--fail-with-body", "-T", file, relay.url(target(relay, key)))
    until(lambda: all(size_of(tmp_path / str(i)) > 1_000_000 for i in range(4)), "bytes flow")
    for receiver in receivers[:2]:
        receiver.kill()
    for i in (2, 3):
        done = receivers[i].done()
        assert done.code == 0, done
        assert (tmp_path / str(i)).read_bytes() == file.read_bytes()
    done = sender.done()
    assert done.code == 0, done
    if not relay.keeps:
        assert done.out == "delivered 30000000 bytes to 2 receivers, 2 left early\n"


def test_both_die(relay: Relay, key: str) -> None:
    """Sender and receivers at once, in either order."""
    for order in (0, 1):
        receiver = relay.connect().get(f"{key}/{order}")
        relay.wait_for_waiters(1)
        sender = relay.connect().put(target(relay, f"{key}/{order}"), b"abc", length=1000)
        assert receiver.take(3) == b"abc"
        for peer in (receiver, sender)[:: 1 if order else -1]:
            peer.close()
        relay.server.wait_for("pipes", 0, SOON)
        relay.server.wait_for("active_downloads", 0, SOON)


def test_two_curls_are_killed_in_full_flow(relay: Relay, key: str, tmp_path: Path) -> None:
    """The same with real programs."""
    file = tmp_path / "file"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 30)
    for first in (0, 1):
        path = f"{key}/{first}"
        receiver = relay.curl("-fo", "/dev/null", "--limit-rate", "50M", relay.url(path))
        relay.wait_for_waiters(1)
        sender = relay.curl("-T", file, relay.url(target(relay, path)))
        before = relay.server.metrics()["beam_bytes_out_total"]
        until(lambda before=before: relay.server.metrics()["beam_bytes_out_total"] > before + 1e7, "bytes flow")  # type: ignore[misc]
        peers: list[Curl] = [receiver, sender]
        peers[first].kill()
        peers[1 - first].kill()
        relay.server.wait_for("pipes", 0, SOON)


# Bodies that are not what they seem.


def test_a_body_that_is_shorter_than_announced(brittle: Server, key: str) -> None:
    """A sender that ends its side too early has not sent a file."""
    for store in ("memory", "disk"):
        relay = Relay(brittle, store, "tcp")
        receiver = relay.connect().get(key)
        relay.wait_for_waiters(1)
        sender = relay.connect().put(target(relay, key), b"abc", length=6)
        assert receiver.take(3) == b"abc"
        sender.half_close()
        check_cut(receiver)
        brittle.wait_for("pipes", 0, SOON)


def test_a_body_that_is_longer_than_announced(relay: Relay, key: str) -> None:
    """The receiver gets what was announced; the rest is no request, and is refused."""
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    sender = relay.connect().put(target(relay, key), b"abcdef and more\r\n\r\n", length=6)
    assert receiver.answer().body == b"abcdef"
    assert sender.answer().status == (201 if relay.keeps else 200)
    check_refusal(sender.answer(), 400)


def send_form(relay: Relay, key: str, body: bytes) -> Peer:
    """A form of known length, all of it sent."""
    return relay.connect().ask("POST", target(relay, key), FORM, body=body)


NO_FILE = {
    "fields only": f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--{BOUNDARY}--\r\n'.encode(),
    "no parts": f"--{BOUNDARY}--\r\n".encode(),
    "an empty file name": FILE_PART.replace(b'filename="f"', b'filename=""') + b"abc" + FORM_END,
}


@pytest.mark.parametrize("body", NO_FILE.values(), ids=NO_FILE)
def test_a_form_without_a_file(relay: Relay, key: str, body: bytes) -> None:
    """400 says what is missing; its receivers have seen nothing of it, and go on waiting."""
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    check_refusal(send_form(relay, key, body).answer(), 400, "no file in the form")
    assert receiver.hears_nothing()
    sent = relay.connect().put(target(relay, key), b"abc")
    assert receiver.answer().body == b"abc"
    assert sent.answer().status == (201 if relay.keeps else 200)


@pytest.mark.parametrize("body", [b"", b"no form at all", b"x" * 100_000, b"--other\r\n\r\n\r\n--other--\r\n"])
def test_a_body_that_is_no_form(relay: Relay, key: str, body: bytes) -> None:
    """400, and a receiver that waits does not notice."""
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    sender = relay.connect().put(target(relay, key), body, FORM)
    check_refusal(sender.answer(), 400, "form")
    assert receiver.hears_nothing()


@pytest.mark.parametrize("missing", [FORM_END, FORM_END[2:], FORM_END[-4:]], ids=["all of it", "most", "its dashes"])
def test_a_form_without_an_end(relay: Relay, key: str, missing: bytes) -> None:
    """400, and the receivers are cut: nobody knows whether that was all."""
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    body = (FILE_PART + b"abcdef" + FORM_END).removesuffix(missing)
    check_refusal(send_form(relay, key, body).answer(), 400, "end")
    check_cut(receiver)


def test_a_chunked_form_without_an_end(relay: Relay, key: str) -> None:
    """The same when the form's length was not known."""
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    sender = relay.connect().put_chunked(target(relay, key), [FILE_PART + b"abc"], FORM, ends=False)
    assert receiver.take(3) == b"abc"
    sender.send(LAST_CHUNK)
    check_refusal(sender.answer(), 400, "end")
    check_cut(receiver)


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Disposition: form-data; name=f; filename=f\r\nX-Long: " + b"y" * (1 << 20),
        b"Content-Disposition: form-data; name=f; filename=" + b"y" * (1 << 20),
        b"".join(b"X-%d: y\r\n" % i for i in range(100_000)),
    ],
    ids=["one header", "a file name", "many headers"],
)
def test_a_part_header_of_1_mb(relay: Relay, key: str, head: bytes) -> None:
    """400 long before it is all there; memory does not grow with it."""
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    body = f"--{BOUNDARY}\r\n".encode() + head + b"\r\n\r\nabc" + FORM_END
    sender = relay.connect().ask("POST", target(relay, key), FORM, f"Content-Length: {len(body)}")
    sending = Background(lambda: sender.fill(body))
    check_refusal(sender.answer(), 400, "form")
    sender.close()
    with contextlib.suppress(OSError):
        sending.result()
    assert receiver.hears_nothing()


def test_the_rest_of_a_refused_form_comes_late(relay: Relay, key: str) -> None:
    """It is read by nobody, also while the closing connection waits for the peer's last word."""
    body = f"--{BOUNDARY}\r\nno header\r\n\r\nabc".encode() + FORM_END
    sender = relay.connect().ask("POST", target(relay, key), FORM, f"Content-Length: {len(body)}")
    sender.send(body[:-1])
    assert sender.first_status() == 400
    time.sleep(1.5)  # the server has ended the request by now
    with contextlib.suppress(OSError):
        sender.send(body[-1:] + b"GET / HTTP/1.1\r\nHost: beam.test\r\n\r\n")
    check_refusal(sender.answer(), 400, "form")
    assert sender.is_closed()


def test_a_part_header_that_is_malformed(relay: Relay, key: str) -> None:
    """400 for a part that is no part."""
    body = f"--{BOUNDARY}\r\nno header\r\n\r\nabc".encode() + FORM_END
    check_refusal(send_form(relay, key, body).answer(), 400, "form")


def test_a_chunk_that_breaks_off(relay: Relay, key: str) -> None:
    """A sender that dies inside of a chunk has sent the bytes that came, and no file."""
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    sender = relay.connect().put_chunked(target(relay, key), [b"abc"], ends=False).send(chunk(b"defghi")[:-4])
    assert receiver.take(7) == b"abcdefg"
    sender.close()
    check_cut(receiver)


# Everything at once.


def test_many_broken_transfers_leave_nothing(brittle: Server, key: str) -> None:
    """Whoever breaks off, and whenever: afterwards the server is as it was."""
    chance = random.Random(44)
    for i in range(250):
        relay = Relay(brittle, chance.choice(["memory", "disk"]), "tcp")
        peers = [relay.connect().get(f"{key}/{i}?wait=1") for _ in range(chance.randrange(3))]
        way = chance.choice(["length", "chunked", "form"])
        peers.append(
            begin(relay, f"{key}/{i}", way, b"x" * chance.choice([0, 1, 1000, 300_000]), chance.random() < 0.8)
        )
        chance.shuffle(peers)
        for peer in peers:
            if chance.random() < 0.3:
                peer.hears_nothing(0.005)
            chance.choice([Peer.close, Peer.reset])(peer)
    for gauge in ("pipes", "key_waiters", "active_downloads"):
        brittle.wait_for(gauge, 0)
    outcomes = {name: value for name, value in brittle.metrics().items() if name.startswith("beam_transfers_total")}
    assert sum(outcomes.values()) >= 200, outcomes
