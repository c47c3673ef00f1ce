"""Transfers that go well: whoever comes first, however it is sent, everybody has the sender's bytes."""

import hashlib
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import frozen
from contract.peers import LAST_CHUNK, Background, Curl, Peer, chunk
from contract.server import Relay

SIZES = {"0": 0, "1": 1, "1MB": 1_000_000, "50MB": 50_000_000}
OTHER_SIZES = {"20MB": 20_000_000}
WAYS = ("length", "chunked", "form")
BOUNDARY = "-----------------------1d8f"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


@frozen
class Sample:
    """A file and what it holds."""

    path: Path
    size: int
    sha256: str

    @classmethod
    def create(cls, path: Path, size: int) -> "Sample":
        """A file of ``size`` bytes that do not repeat."""
        data = random.Random(size).randbytes(size)
        path.write_bytes(data)
        return cls(path, size, hashlib.sha256(data).hexdigest())


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sample]:
    """Files of every size."""
    folder = tmp_path_factory.mktemp("samples")
    return {name: Sample.create(folder / f"file{name}", size) for name, size in (SIZES | OTHER_SIZES).items()}


def sha256(path: Path) -> str:
    """The digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def send(relay: Relay, way: str, sample: Sample, key: str) -> Curl:
    """Start a curl that sends ``sample`` as people do."""
    option, what = {"length": ("-T", str(sample.path)), "chunked": ("-T", "-"), "form": ("-F", f"file=@{sample.path}")}[
        way
    ]
    stdin = sample.path if way == "chunked" else None
    return relay.curl("--fail-with-body", option, what, relay.url(key), stdin=stdin)


def check_sent(relay: Relay, sender: Curl, size: int, receivers: str = "1 receiver") -> None:
    """The sender was told what became of its file."""
    done = sender.done()
    if relay.keeps:
        assert (done.code, done.out) == (0, f"stored {size} bytes, kept for 4 s\n"), done
    else:
        assert (done.code, done.out) == (0, f"delivered {size} bytes to {receivers}\n"), done


def form(data: bytes, filename: str = "x.bin", ends: bool = True) -> bytes:
    """A form with one file."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n\r\n'
    return head.encode() + data + (f"\r\n--{BOUNDARY}--\r\n".encode() if ends else b"")


# Either side may come first.


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("way", WAYS)
def test_the_sender_comes_first(
    relay: Relay, key: str, samples: dict[str, Sample], tmp_path: Path, way: str, size: str
) -> None:
    """Who fetches a file that somebody sends already, or has sent to disk, has the same bytes."""
    sample, out = samples[size], tmp_path / "out"
    sender = send(relay, way, sample, key)
    if relay.keeps:
        check_sent(relay, sender, sample.size)
    else:
        relay.wait_for_offer(key)
    receiver = relay.curl("-fo", out, relay.url(key)).done()
    assert receiver.code == 0, receiver
    assert sha256(out) == sample.sha256
    if not relay.keeps:
        check_sent(relay, sender, sample.size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("way", WAYS)
def test_the_receiver_comes_first(
    relay: Relay, key: str, samples: dict[str, Sample], tmp_path: Path, way: str, size: str
) -> None:
    """Who fetches a file that nobody sends yet waits for it, and has the same bytes."""
    sample, out = samples[size], tmp_path / "out"
    receiver = relay.curl("-fo", out, relay.url(key))
    relay.wait_for_waiters(1)
    check_sent(relay, send(relay, way, sample, key), sample.size)
    done = receiver.done()
    assert done.code == 0, done
    assert sha256(out) == sample.sha256


@pytest.mark.parametrize("way", WAYS)
def test_four_receivers(relay: Relay, key: str, samples: dict[str, Sample], tmp_path: Path, way: str) -> None:
    """Four who wait for one file all have it."""
    sample = samples["20MB"]
    receivers = [relay.curl("-fo", tmp_path / str(i), relay.url(key)) for i in range(4)]
    relay.wait_for_waiters(4)
    check_sent(relay, send(relay, way, sample, key), sample.size, "4 receivers")
    for i, receiver in enumerate(receivers):
        done = receiver.done()
        assert done.code == 0, done
        assert sha256(tmp_path / str(i)) == sample.sha256


# Late joiners.


@pytest.mark.parametrize("way", ("length", "chunked"))
def test_a_late_joiner_from_memory_gets_all_of_it(holding: Relay, key: str, way: str) -> None:
    """Who comes while a file is being sent gets it from byte 0, if the ring still has byte 0."""
    data = random.Random(1).randbytes(9 << 20)
    early = holding.connect().get(key)
    sender, rest = start_sending(holding, key, data, 5 << 20, way)
    assert early.take(5 << 20) == data[: 5 << 20]
    late = holding.connect().get(key)
    assert late.take(5 << 20) == data[: 5 << 20]
    sending = Background(lambda: sender.send(rest).answer())
    both = [Background(peer.answer) for peer in (early, late)]
    assert [each.result().body == data[5 << 20 :] for each in both] == [True, True]
    assert sending.result().text == f"delivered {len(data)} bytes to 2 receivers\n"


@pytest.mark.parametrize("way", ("length", "chunked"))
def test_a_late_joiner_from_memory_is_told_that_it_is_too_late(holding: Relay, key: str, way: str) -> None:
    """Who comes when the ring has lost byte 0 gets 410 and never other bytes; the others are not disturbed."""
    data = random.Random(2).randbytes(18 << 20)
    early = holding.connect().get(key)
    taking = Background(lambda: early.take(17 << 20))
    sender, rest = start_sending(holding, key, data, 17 << 20, way)
    assert taking.result() == data[: 17 << 20]
    late = holding.ask("GET", key)
    assert late.status == 410
    assert late.text.count("\n") == 1
    sending = Background(lambda: sender.send(rest).answer())
    assert early.answer().body == data[17 << 20 :]
    assert sending.result().text == f"delivered {len(data)} bytes to 1 receiver\n"


@pytest.mark.parametrize("way", ("length", "chunked"))
def test_a_late_joiner_from_disk_gets_all_of_it(keeping: Relay, key: str, way: str) -> None:
    """Who comes at any time while a file goes to disk gets it from byte 0, and its end as it comes."""
    data = random.Random(3).randbytes(40 << 20)
    sender, rest = start_sending(keeping, key, data, 38 << 20, way)
    late = keeping.connect().get(key)
    assert Background(lambda: late.take(38 << 20)).result() == data[: 38 << 20]
    sender.send(rest)
    assert late.answer().body == data[38 << 20 :]
    assert sender.answer().status == 201


def start_sending(relay: Relay, key: str, data: bytes, first: int, way: str) -> tuple[Peer, bytes]:
    """A sender that has sent ``first`` bytes, and what it still has to send."""
    sender = relay.connect()
    if way == "length":
        return sender.put(key, data[:first], length=len(data)), data[first:]
    sender.put_chunked(key, [data[:first]], ends=False)
    return sender, chunk(data[first:]) + LAST_CHUNK


# HTTP/1.0.


def test_an_http_1_0_receiver_of_known_length(relay: Relay, key: str) -> None:
    """An old client gets the length, and the connection is closed behind the file."""
    receiver = relay.connect().get(key, version="1.0")
    relay.wait_for_waiters(1)
    relay.connect().put(key, b"0123456789").answer()
    answer = receiver.answer()
    assert (answer.status, answer.body, answer["content-length"]) == (200, b"0123456789", "10")
    assert receiver.is_closed()


def test_an_http_1_0_receiver_of_unknown_length(relay: Relay, key: str) -> None:
    """An old client knows no chunks: the file ends with the connection."""
    receiver = relay.connect().get(key, version="1.0")
    relay.wait_for_waiters(1)
    relay.connect().put_chunked(key, [b"01234", b"56789"]).answer()
    head, _, body = receiver.everything().partition(b"\r\n\r\n")
    assert body == b"0123456789"
    assert b"transfer-encoding" not in head.lower()


def test_an_http_1_0_receiver_is_not_kept_waiting_by_keep_alive(relay: Relay, key: str, tmp_path: Path) -> None:
    """``curl -0`` ends when the file ends."""
    receiver = relay.curl("-0", "-fo", tmp_path / "out", relay.url(key))
    relay.wait_for_waiters(1)
    relay.connect().put_chunked(key, [b"01234", b"56789"]).answer()
    assert receiver.done().code == 0
    assert (tmp_path / "out").read_bytes() == b"0123456789"


@pytest.mark.parametrize("size", ("0", "1", "1MB"))
def test_an_http_1_0_sender(relay: Relay, key: str, samples: dict[str, Sample], size: str) -> None:
    """An old client that sends its length is a sender like any other."""
    sample = samples[size]
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    sender = relay.curl("-0", "--fail-with-body", "-T", sample.path, relay.url(key))
    assert hashlib.sha256(receiver.answer().body).hexdigest() == sample.sha256
    check_sent(relay, sender, sample.size)


# Connections that are used again.


def test_a_connection_carries_several_transfers(relay: Relay, key: str) -> None:
    """Sender and receiver keep their connections for transfer after transfer, of every kind."""
    sender, receiver = relay.connect(), relay.connect()
    data = random.Random(4).randbytes(300_000)
    for i, put in enumerate((known_length, chunked, known_length, as_form, known_length, empty)):
        receiver.get(f"{key}/{i}")
        expected = put(sender, f"{key}/{i}", data)
        received = receiver.answer()
        assert (received.status, received.body) == (200, expected)
        assert sender.answer().status == (201 if relay.keeps else 200)


def known_length(sender: Peer, key: str, data: bytes) -> bytes:
    """Send ``data`` with its length; what the receiver is to get."""
    sender.put(key, data)
    return data


def chunked(sender: Peer, key: str, data: bytes) -> bytes:
    """Send ``data`` in chunks; what the receiver is to get."""
    sender.put_chunked(key, [data[:7], data[7:200_000], data[200_000:]])
    return data


def as_form(sender: Peer, key: str, data: bytes) -> bytes:
    """Send ``data`` as a form; what the receiver is to get."""
    sender.ask("POST", key, f"Content-Type: {FORM}", body=form(data))
    return data


def empty(sender: Peer, key: str, data: bytes) -> bytes:
    """Send nothing; what the receiver is to get."""
    sender.put(key, b"")
    return b""


def test_a_small_request_behind_a_large_send_is_heard(relay: Relay, key: str) -> None:
    """However the system gathered the bytes while they came in bulk, the connection's next request is heard."""
    data = random.Random(12).randbytes(20 << 20)
    receiver, sender = relay.connect().get(key), relay.connect()
    relay.wait_for_waiters(1)
    sending = Background(lambda: sender.put(key, data).answer())
    assert Background(receiver.answer).result().body == data
    assert sending.result().status == (201 if relay.keeps else 200)
    assert sender.get("/-/version").answer().status == 200


def test_a_connection_can_be_used_after_a_refusal(relay: Relay, key: str) -> None:
    """A 404 does not cost the connection."""
    peer = relay.connect()
    assert peer.get(f"{key}?wait=0").answer().status == 404
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    assert peer.put(key, b"abc").answer().status == (201 if relay.keeps else 200)
    assert receiver.answer().body == b"abc"


def test_connection_close_is_honoured(relay: Relay, key: str) -> None:
    """A client that asks for the connection to be closed sees it closed, behind the whole answer."""
    receiver = relay.connect().get(key, "Connection: close")
    relay.wait_for_waiters(1)
    sender = relay.connect().put(key, b"abc", "Connection: close")
    assert sender.answer().status == (201 if relay.keeps else 200)
    assert receiver.answer().body == b"abc"
    assert sender.is_closed()
    assert receiver.is_closed()


def test_pipelined_sends(relay: Relay, key: str) -> None:
    """Requests that come in one packet are answered in order, and no byte of one lands in another."""
    receivers = [relay.connect().get(f"{key}/{i}") for i in range(2)]
    relay.wait_for_waiters(2)
    peer = relay.connect()
    head = "PUT {} HTTP/1.1\r\nHost: beam.test\r\n{}\r\n\r\n"
    peer.send(
        head.format(f"{key}/0", "Content-Length: 10").encode()
        + b"GET / HTTP"
        + head.format(f"{key}/1", "Transfer-Encoding: chunked").encode()
        + chunk(b"PUT / HTTP/1.1\r\n\r\n")
        + LAST_CHUNK
        + b"GET /-/version HTTP/1.1\r\nHost: beam.test\r\n\r\n"
    )
    assert receivers[0].answer().body == b"GET / HTTP"
    assert receivers[1].answer().body == b"PUT / HTTP/1.1\r\n\r\n"
    success = 201 if relay.keeps else 200
    assert [peer.answer().status for _ in range(2)] == [success, success]
    assert peer.answer().text.startswith("beam ")


def test_pipelined_receives(relay: Relay, key: str) -> None:
    """Two receives that come in one packet are served one behind the other."""
    peer = relay.connect()
    peer.send(
        f"GET {key}/0 HTTP/1.1\r\nHost: beam.test\r\n\r\nGET {key}/1 HTTP/1.1\r\nHost: beam.test\r\n\r\n".encode()
    )
    relay.wait_for_waiters(1)
    first, second = (relay.connect().put(f"{key}/{i}", bytes([65 + i]) * 100_000) for i in range(2))
    assert peer.answer().body == b"A" * 100_000
    assert peer.answer().body == b"B" * 100_000
    assert first.answer().status == second.answer().status == (201 if relay.keeps else 200)


def test_a_large_send_pipelined_behind_a_receive(relay: Relay, key: str) -> None:
    """A send that waits its turn behind a receive arrives whole, although its bytes come while the receive waits."""
    data = random.Random(5).randbytes(20 << 20)
    peer = relay.connect().get(f"{key}/first")
    relay.wait_for_waiters(1)
    sending = Background(lambda: peer.put(f"{key}/second", data))
    receiver = relay.connect().get(f"{key}/second")
    relay.wait_for_waiters(2)
    first = relay.connect().put(f"{key}/first", b"1")
    assert peer.answer().body == b"1"
    assert first.answer().status == (201 if relay.keeps else 200)
    assert Background(receiver.answer).result().body == data
    sending.result()
    assert peer.answer().status == (201 if relay.keeps else 200)


# Bytes are visible at once.


def begin_with_length(sender: Peer, key: str, data: bytes) -> None:
    """Begin a send whose length is known."""
    sender.put(key, b"", length=len(data))


def begin_in_chunks(sender: Peer, key: str, data: bytes) -> None:
    """Begin a chunked send."""
    sender.put_chunked(key, [], ends=False)


def begin_in_one_chunk(sender: Peer, key: str, data: bytes) -> None:
    """Begin a chunked send that is one large chunk."""
    sender.put_chunked(key, [], ends=False).send(b"%x\r\n" % len(data))


def begin_in_a_form(sender: Peer, key: str, data: bytes) -> None:
    """Begin a form, up to its file."""
    sender.ask("POST", key, f"Content-Type: {FORM}", f"Content-Length: {len(form(data))}").send(form(b"", ends=False))


@pytest.mark.parametrize(
    ("begin", "each", "end"),
    [
        pytest.param(begin_with_length, bytes, b"", id="length"),
        pytest.param(begin_in_chunks, chunk, LAST_CHUNK, id="chunks"),
        pytest.param(begin_in_one_chunk, bytes, b"\r\n" + LAST_CHUNK, id="one-chunk"),
        pytest.param(begin_in_a_form, bytes, f"\r\n--{BOUNDARY}--\r\n".encode(), id="form"),
    ],
)
def test_each_byte_is_visible_before_the_next_is_sent(
    relay: Relay, key: str, begin: Callable[[Peer, str, bytes], None], each: Callable[[bytes], bytes], end: bytes
) -> None:
    """No byte waits in beam for company: who follows a log sees each letter as it is written."""
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    sender = relay.connect()
    data = b"tail -f\nlog -- x"
    begin(sender, key, data)
    for byte in data:
        sender.send(each(bytes([byte])))
        assert receiver.take(1) == bytes([byte])
    sender.send(end)
    assert receiver.answer().body == b""
    assert sender.answer().status == (201 if relay.keeps else 200)


@pytest.mark.parametrize("size", (10, 300_000))
def test_a_sender_of_chunks_may_pause_anywhere(relay: Relay, key: str, size: int) -> None:
    """What has come of a chunk is seen at once, wherever in it or between two the sender pauses."""
    data = random.Random(7).randbytes(2 * size + 9)
    one, two, number = data[:size], data[size : 2 * size], b"%x" % size
    pauses = [
        (number[:1], b""),
        (number[1:] + b";x", b""),
        (b"=y\r", b""),
        (b"\n", b""),
        (one[:3], one[:3]),
        (one[3:-1], one[3:-1]),
        (one[-1:], one[-1:]),
        (b"\r", b""),
        (b"\n" + number + b"\r\n" + two + b"\r\n9\r\n" + data[-9:-8], two + data[-9:-8]),
        (data[-8:] + b"\r\n0", data[-8:]),
        (b"\r\nA: b\r\n\r", b""),
    ]
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    sender = relay.connect().put_chunked(key, [], ends=False)
    for wire, visible in pauses:
        sender.send(wire)
        if visible:
            assert receiver.take(len(visible)) == visible
        else:
            time.sleep(0.01)  # a read of its own for what nobody can see
    sender.send(b"\n")
    assert receiver.answer().body == b""
    assert sender.answer().status == (201 if relay.keeps else 200)


@pytest.mark.parametrize("way", ("length", "chunked"))
def test_one_slow_receiver_among_several(relay: Relay, key: str, way: str) -> None:
    """It takes little at a time, and some of it late: all of them have the same bytes."""
    data = random.Random(8).randbytes(9 << 20)
    receivers = [relay.connect(receive_buffer=16 << 10).get(key), *(relay.connect().get(key) for _ in range(2))]
    relay.wait_for_waiters(3)
    sender, rest = start_sending(relay, key, data, 100_000, way)
    sending = Background(lambda: sender.send(rest).answer())
    fast = [Background(receiver.answer) for receiver in receivers[1:]]
    sipped = b""
    for _ in range(10):
        sipped += receivers[0].take(10_000)
        time.sleep(0.02)  # slower than the others
    slow = Background(receivers[0].answer)
    assert sipped + slow.result().body == data
    assert [each.result().body == data for each in fast] == [True, True]
    assert sending.result().status == (201 if relay.keeps else 200)


# A UNIX socket.


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("store", ("memory", "disk"))
def test_over_a_unix_socket(
    request: pytest.FixtureRequest, key: str, samples: dict[str, Sample], tmp_path: Path, store: str, way: str
) -> None:
    """Sender and receiver on a UNIX socket, as a front proxy uses it."""
    relay = Relay(request.getfixturevalue(f"{store}_server"), store, "unix")
    sample, out = samples["20MB"], tmp_path / "out"
    receiver = relay.curl("-fo", out, relay.url(key))
    relay.wait_for_waiters(1)
    check_sent(relay, send(relay, way, sample, key), sample.size)
    done = receiver.done()
    assert done.code == 0, done
    assert sha256(out) == sample.sha256


def test_from_one_kind_of_end_to_every_other(plain: Relay, key: str) -> None:
    """A sender over any of them reaches receivers over TCP, TLS, a UNIX socket and a proxy, all with the same bytes."""
    data = random.Random(6).randbytes(6 << 20)
    kinds = ("tcp", "tls", "unix", "haproxy")
    for sending in kinds:
        path = f"{key}/{sending}"
        receivers = [plain.server.connect(ends).get(path) for ends in kinds]
        plain.wait_for_waiters(len(kinds))
        sender = plain.server.connect(sending)
        sent = Background(lambda sender=sender, path=path: sender.put(path, data).answer())  # type: ignore[misc]
        received = [Background(receiver.answer) for receiver in receivers]
        assert all(each.result().body == data for each in received)
        assert sent.result().text == f"delivered {len(data)} bytes to {len(kinds)} receivers\n"
