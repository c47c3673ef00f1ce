"""What the server does not take, and for how long it waits: sizes, space, memory, slow heads, idle peers, draining."""

import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from contract.peers import LAST_CHUNK, Background, Cut, Peer, check_refusal, chunk
from contract.server import Certificate, Relay, Server, running
from harness import until

LIMIT = 100 << 10
BOUNDARY = "x1d8f"
FORM = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
SLACK = 3.0  # seconds by which a busy machine may be late


def form(data: bytes) -> bytes:
    """A form with a long field and one file."""
    return (
        (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="a"\r\n\r\n{"y" * LIMIT}\r\n'
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
        ).encode()
        + data
        + f"\r\n--{BOUNDARY}--\r\n".encode()
    )


def check_cut(receiver: Peer) -> None:
    """The receiver has a part, and sees that it is not the whole."""
    assert receiver.head().status == 200
    with pytest.raises((Cut, ConnectionResetError)):
        receiver.answer()


# 413


@pytest.fixture(scope="module")
def limited(serve: Callable[..., Server]) -> Server:
    """Takes files of 100 KiB."""
    return serve("--store", "memory", "--store", "disk:{folder}/store", "--max-pipe-size", "100K", "--get-ttl", "0.2")


@pytest.fixture(params=["memory-tcp", "memory-tls", "disk-tcp", "disk-tls"])
def small(request: pytest.FixtureRequest, limited: Server) -> Relay:
    """Both stores over both ends."""
    store, ends = str(request.param).split("-")
    return Relay(limited, store, ends)


def target(relay: Relay, key: str) -> str:
    """Where to send so that it goes to the store."""
    return f"{key}?store={relay.store}" + ("&ttl=0" if relay.keeps else "")


def test_a_file_that_is_announced_as_too_large(small: Relay, key: str) -> None:
    """413 before the body, with the limit in the text; the key is free."""
    sender = small.connect().put(target(small, key), b"", "Expect: 100-continue", length=LIMIT + 1)
    answer = sender.answer()
    check_refusal(answer, 413, str(LIMIT))
    assert answer.interim == ()
    assert small.server.gauge("pipes") == 0


@pytest.mark.parametrize("way", ["length", "chunked", "form"])
def test_the_largest_file_that_is_taken(small: Relay, key: str, way: str) -> None:
    """A file of exactly the limit is fine, however it comes; in a form only the file counts."""
    data = random.Random(30).randbytes(LIMIT)
    receiver = small.connect().get(key)
    small.wait_for_waiters(1)
    sender = small.connect()
    if way == "length":
        sender.put(target(small, key), data)
    elif way == "chunked":
        sender.put_chunked(target(small, key), [data])
    else:
        sender.ask("POST", target(small, key), FORM, body=form(data))
    assert receiver.answer().body == data
    assert sender.answer().status == (201 if small.keeps else 200)


@pytest.mark.parametrize("way", ["chunked", "form"])
def test_a_file_that_turns_out_to_be_too_large(small: Relay, key: str, way: str) -> None:
    """413 on the way; its receivers are cut, and nothing of it stays."""
    data = random.Random(30).randbytes(LIMIT + 1)
    receiver = small.connect().get(key)
    small.wait_for_waiters(1)
    sender = small.connect()
    if way == "chunked":
        sender.put_chunked(target(small, key), [data[:1000], data[1000:]])
    else:
        sender.ask("POST", target(small, key), FORM, body=form(data))
    check_refusal(sender.answer(), 413, str(LIMIT))
    check_cut(receiver)
    assert small.server.gauge("pipes") == 0


# 507


@pytest.fixture(scope="module")
def full(serve: Callable[..., Server]) -> Relay:
    """A disk store of 1 MiB."""
    server = serve("--store", "disk:{folder}/store:cap=1M", "--get-ttl", "0.2", "--put-ttl", "20")
    return Relay(server, "disk", "tcp")


def test_a_file_for_which_there_is_no_space(full: Relay, key: str) -> None:
    """507 before the body; what fits is taken afterwards, and again when it has gone."""
    answer = full.connect().put(key, b"", "Expect: 100-continue", length=(1 << 20) + 1).answer()
    check_refusal(answer, 507)
    assert answer.interim == ()
    data = b"x" * (1 << 20)
    for i in range(2):
        assert full.connect().put(f"{key}/{i}", data).answer().status == 201
        check_refusal(full.connect().put(f"{key}/other", b"1").answer(), 507)
        assert full.ask("GET", f"{key}/{i}").body == data
        full.server.wait_for("disk_usage", 0)


def test_the_space_runs_out_on_the_way(full: Relay, key: str) -> None:
    """507 when the space is used up; receivers are cut, and the space is free again at once."""
    receiver = full.connect().get(key)
    full.wait_for_waiters(1)
    sender = full.connect().put_chunked(key, [random.Random(31).randbytes(2 << 20)], ends=False)
    check_refusal(sender.answer(), 507)
    check_cut(receiver)
    full.server.wait_for("disk_usage", 0)
    assert full.server.files() == []
    assert full.connect().put(f"{key}?ttl=0", b"x" * (1 << 20)).answer().status == 201


def test_files_that_come_share_the_space(full: Relay, key: str) -> None:
    """A file that was admitted has its space: one that comes meanwhile cannot take it away."""
    first = full.connect().put(f"{key}/1?ttl=0", b"x" * 1000, length=700_000)
    full.wait_for_offer(f"{key}/1")
    check_refusal(full.connect().put(f"{key}/2", b"", length=700_000).answer(), 507)
    assert first.send(b"x" * 699_000).answer().status == 201


# 503: memory


@pytest.fixture(scope="module")
def poor(serve: Callable[..., Server]) -> Relay:
    """1 MiB of memory for all transfers."""
    return Relay(serve("--store", "memory:cap=1M", "--resume-timeout", "1"), "memory", "tcp")


def test_the_memory_is_used_up(poor: Relay, key: str) -> None:
    """503 with Retry-After before the body when not even a small ring is left; later it goes again."""
    senders = [poor.connect().put(f"{key}/{i}", b"x" * 1000, length=10 << 20) for i in range(4)]
    poor.server.wait_for("pipes", 4)
    answer = poor.connect().put(f"{key}/4", b"", "Expect: 100-continue", length=10 << 20).answer()
    check_refusal(answer, 503)
    assert int(answer["retry-after"]) > 0
    assert answer.interim == ()
    assert poor.server.gauge("memory_usage") <= 1 << 20
    senders[0].close()
    poor.server.wait_for("pipes", 3)
    receiver = poor.connect().get(f"{key}/4")
    sender = poor.connect().put(f"{key}/4", b"abc")
    assert receiver.answer().body == b"abc"
    assert sender.answer().status == 200


def test_large_files_pass_through_little_memory(poor: Relay, key: str) -> None:
    """A file of many times the cap is delivered, and the cap is kept."""
    data = random.Random(32).randbytes(50 << 20)
    used = []
    receivers = [poor.connect().get(key) for _ in range(2)]
    poor.wait_for_waiters(2)
    sending = Background(lambda: poor.connect().put(key, data).answer())
    taking = [Background(receiver.answer) for receiver in receivers]
    poor.server.wait_for("active_downloads", 2)
    while poor.server.gauge("pipes"):
        used.append(poor.server.gauge("memory_usage"))
    assert [each.result().body == data for each in taking] == [True, True]
    assert sending.result().status == 200
    assert max(used) <= 1 << 20


# 503: waiting receivers


@pytest.fixture(scope="module")
def busy(serve: Callable[..., Server]) -> Relay:
    """Three may wait, two of them for the same key."""
    return Relay(serve("--max-waiting", "3", "--max-waiting-per-key", "2"), "memory", "tcp")


def test_too_many_receivers_wait(busy: Relay, key: str) -> None:
    """503 with Retry-After for one too many on a key, and for one too many in all."""
    waiting = [busy.connect().get(f"{key}/a?wait=60") for _ in range(2)]
    busy.wait_for_waiters(2)
    refused = [busy.ask("GET", f"{key}/a?wait=60")]
    waiting.append(busy.connect().get(f"{key}/b?wait=60"))
    busy.wait_for_waiters(3)
    refused.append(busy.ask("GET", f"{key}/c?wait=60"))
    for answer in refused:
        check_refusal(answer, 503)
        assert int(answer["retry-after"]) > 0
    sender = busy.connect().put(f"{key}/a", b"abc")
    assert [waiting[i].answer().body for i in range(2)] == [b"abc"] * 2
    assert sender.answer().status == 200


# 408: heads


@pytest.fixture(scope="module")
def strict(serve: Callable[..., Server]) -> Server:
    """Gives a request head 0.7 s."""
    return serve("--header-timeout", "0.7")


def test_a_slow_head(strict: Server) -> None:
    """408 with a sentence, and the connection is closed."""
    began = time.monotonic()
    peers = [strict.connect(ends).send(b"GET /x HTTP/1.1\r\nHost: bea") for ends in ("tcp", "tls", "unix")]
    for peer in peers:
        check_refusal(peer.answer(), 408, "0.7 seconds")
        assert 0.65 < time.monotonic() - began < 0.7 + SLACK
    assert all(peer.is_closed() for peer in peers)


def test_a_head_that_drips(strict: Server) -> None:
    """A byte now and then does not buy more time."""
    peer = strict.connect()
    began = time.monotonic()
    stop = threading.Event()

    def drip() -> None:
        for byte in b"GET /x HTTP/1.1\r\nX-Long: " + b"y" * 1000:
            if stop.wait(0.05):
                return
            try:
                peer.send(bytes([byte]))
            except OSError:
                return

    dripping = Background(drip)
    check_refusal(peer.answer(), 408)
    assert 0.6 < time.monotonic() - began < 0.7 + SLACK
    stop.set()
    dripping.result()


def test_a_connection_that_says_nothing(strict: Server) -> None:
    """It is closed; there is nobody to tell."""
    peer = strict.connect()
    began = time.monotonic()
    assert peer.is_closed()
    assert time.monotonic() - began < 0.7 + SLACK


def test_a_slow_second_head(strict: Server, key: str) -> None:
    """The head of a later request has the same time."""
    peer = strict.connect().get("/-/version").send(b"GET /x HTTP")
    assert peer.answer().status == 200
    check_refusal(peer.answer(), 408)


def test_a_body_may_take_longer_than_a_head(strict: Server, key: str) -> None:
    """The time is for the head only; bodies, and receivers that wait, have times of their own."""
    receiver = strict.connect().get(f"{key}?wait=20")
    strict.wait_for("key_waiters", 1)
    assert receiver.hears_nothing(1.0)
    sender = strict.connect().put(key, b"abc", length=6)
    assert receiver.take(3) == b"abc"
    assert receiver.hears_nothing(1.0)
    sender.send(b"def")
    assert receiver.answer().body == b"def"
    assert sender.answer().status == 200


def test_a_slow_head_behind_a_receive_does_not_get_into_the_file(strict: Server, key: str) -> None:
    """A head that a receiver begins while it receives is refused behind the file, never within it."""
    receivers = [strict.connect(ends).get(f"{key}?wait=20") for ends in ("tcp", "tls")]
    strict.wait_for("key_waiters", 2)
    sender = strict.connect().put(key, b"abc", length=6)
    for receiver in receivers:
        assert receiver.take(3) == b"abc"
        receiver.send(b"GET /x HTTP")
    assert receivers[0].hears_nothing(1.0)
    sender.send(b"def")
    for receiver in receivers:
        assert receiver.answer().body == b"def"
    assert sender.answer().status == 200
    for receiver in receivers:
        check_refusal(receiver.answer(), 408)


# Idle peers


@pytest.fixture(scope="module")
def impatient(serve: Callable[..., Server]) -> Server:
    """Gives up a peer that could move bytes and moves none for a second, or too few while others wait."""
    return serve(
        *("--store", "memory", "--store", "disk:{folder}/store", "--idle-timeout", "1", "--min-rate", "1M"),
        *("--resume-timeout", "0.5", "--get-ttl", "0.2", "--put-ttl", "0.2"),
    )


@pytest.fixture
def hasty(impatient: Server) -> list[Relay]:
    """Both stores over both ends: what takes time is done with all of them at once."""
    return [Relay(impatient, store, ends) for store in ("memory", "disk") for ends in ("tcp", "tls")]


def path(relay: Relay, key: str) -> str:
    """A key of its own for each of them."""
    return f"{key}/{relay.store}-{relay.ends}"


def join(hasty: list[Relay], key: str, receive_buffer: int | None = None) -> list[Peer]:
    """A receiver that waits at each."""
    receivers = [relay.connect(receive_buffer).get(path(relay, key)) for relay in hasty]
    hasty[0].server.wait_for("key_waiters", len(receivers))
    return receivers


def begin(hasty: list[Relay], key: str, data: bytes, length: int) -> list[Peer]:
    """A sender that has begun at each."""
    return [relay.connect().put(target(relay, path(relay, key)), data, length=length) for relay in hasty]


def check_sent(hasty: list[Relay], senders: list[Peer]) -> None:
    """All of them have sent their files."""
    for relay, sender in zip(hasty, senders, strict=True):
        assert sender.answer().status == (201 if relay.keeps else 200)


def test_an_idle_sender(hasty: list[Relay], key: str) -> None:
    """408 for a sender that could send and does not; its receivers are cut."""
    receivers = join(hasty, key)
    senders = begin(hasty, key, b"abc", 6)
    for receiver in receivers:
        assert receiver.take(3) == b"abc"
    for sender, receiver in zip(senders, receivers, strict=True):
        check_refusal(sender.answer(), 408)
        check_cut(receiver)
    assert hasty[0].server.gauge("pipes") == 0


def test_an_idle_sender_that_was_asked_to_go_on(hasty: list[Relay], key: str) -> None:
    """The same for one that reads 100 Continue and never begins."""
    senders = []
    for relay in hasty:
        fields = "Expect: 100-continue"
        senders.append(relay.connect().put(target(relay, path(relay, key)), b"", fields, length=6))
        assert senders[-1].first_status() == 100
    for sender in senders:
        check_refusal(sender.answer(), 408)


def test_a_sender_that_drips_is_not_idle(hasty: list[Relay], key: str) -> None:
    """Slow is not idle: a byte now and then is enough."""
    receivers = join(hasty, key)
    senders = begin(hasty, key, b"", 6)
    for byte in b"abcdef":
        for sender, receiver in zip(senders, receivers, strict=True):
            sender.send(bytes([byte]))
            assert receiver.take(1) == bytes([byte])
        assert byte == ord("f") or receivers[0].hears_nothing(0.4)
    check_sent(hasty, senders)


def test_who_has_to_wait_is_not_idle(hasty: list[Relay], key: str) -> None:
    """Neither a receiver without a sender, nor a paused sender without a receiver, nor one whose body is whole."""
    receivers = join(hasty, key)
    holding = [relay for relay in hasty if not relay.keeps]
    data = random.Random(33).randbytes(40 << 20)
    sending = []
    whole = []
    for relay in holding:
        one, two = path(relay, f"{key}/1"), path(relay, f"{key}/2")
        paused = relay.connect()
        sending.append(Background(lambda paused=paused, one=one: paused.put(one, data).answer()))  # type: ignore[misc]
        whole.append(relay.connect().put(two, b"abc"))
        relay.wait_for_offer(one)
        relay.wait_for_offer(two)
    assert receivers[0].hears_nothing(1.8)
    assert all(receiver.hears_nothing(0.01) for receiver in receivers)
    assert all(sender.hears_nothing(0.01) for sender in whole)
    for i, relay in enumerate(holding):
        assert Background(lambda relay=relay: relay.ask("GET", path(relay, f"{key}/1"))).result().body == data  # type: ignore[misc]
        assert sending[i].result().status == 200
        assert relay.ask("GET", path(relay, f"{key}/2")).body == b"abc"
        assert whole[i].answer().status == 200


def test_a_receiver_that_takes_nothing(hasty: list[Relay], key: str, tmp_path: Path) -> None:
    """It is cut, also when it is the only one; then the sender hears that nobody has it, or that it is stored."""
    file = tmp_path / "file"
    file.write_bytes(random.Random(34).randbytes(30 << 20))
    receivers = join(hasty, key, 4096)
    senders = [
        relay.curl("--fail-with-body", "-T", file, relay.url(target(relay, path(relay, key)))) for relay in hasty
    ]
    hasty[0].server.wait_for("active_downloads", 4)
    hasty[0].server.wait_for("active_downloads", 0, 1 + 2 * SLACK)
    for relay, sender in zip(hasty, senders, strict=True):
        done = sender.done()
        if relay.keeps:
            assert (done.code, done.out) == (0, f"stored {30 << 20} bytes, kept for 0 s\n")
        else:
            assert done.code == 22, done
            assert "Every receiver left" in done.out
            assert "502" in done.err
    for receiver in receivers:
        with pytest.raises((Cut, ConnectionResetError)):
            Background(receiver.answer).result()


@pytest.mark.parametrize("store", ["memory", "disk"])
@pytest.mark.parametrize("ends", ["tcp", "tls"])
def test_a_slow_receiver_beside_a_fast_one(impatient: Server, key: str, store: str, ends: str) -> None:
    """From memory the slow one is cut when others wait for it; from disk nobody waits for anybody."""
    relay = Relay(impatient, store, ends)
    data = random.Random(35).randbytes(48 << 20)
    fast, slow = relay.connect(), relay.connect(receive_buffer=4096)
    for receiver in (fast, slow):
        receiver.get(key)
    relay.wait_for_waiters(2)
    sender = relay.connect()
    sending = Background(lambda: sender.put(f"{key}?store={relay.store}", data).answer())
    stop = threading.Event()

    def sip() -> int:
        taken = 0
        while not stop.wait(0.1):
            try:
                taken += len(slow.take(2000))
            except (Cut, OSError):
                break
        return taken

    sipping = Background(sip)
    began = time.monotonic()
    assert Background(fast.answer).result().body == data
    took = time.monotonic() - began
    answer = sending.result()
    stop.set()
    assert sipping.result() < len(data)
    if relay.keeps:
        assert answer.status == 201
        assert took < 1 + SLACK
    else:
        assert answer.text == f"delivered {len(data)} bytes to 1 receiver, 1 left early\n"
        assert took > 0.9


def test_a_slow_receiver_that_is_alone(hasty: list[Relay], key: str) -> None:
    """Nobody waits for it, and it takes bytes all the time: it has as long as it needs."""
    data = random.Random(36).randbytes(20 << 20)
    receivers = join(hasty, key, 65536)
    senders = [relay.connect() for relay in hasty]
    sending = [
        Background(lambda i=i, relay=relay: senders[i].put(target(relay, path(relay, key)), data).answer())  # type: ignore[misc]
        for i, relay in enumerate(hasty)
    ]
    taken = [bytearray() for _ in hasty]
    began = time.monotonic()
    while time.monotonic() < began + 2.2:
        for i, receiver in enumerate(receivers):
            taken[i] += receiver.take(25_000)
        time.sleep(0.1)  # slow, but not idle
    for i, relay in enumerate(hasty):
        rest = Background(receivers[i].answer).result().body
        assert bytes(taken[i]) + rest == data, relay
        assert sending[i].result().status == (201 if relay.keeps else 200)


def test_a_receiver_with_nothing_to_take_is_not_idle(hasty: list[Relay], key: str) -> None:
    """A slow sender is no fault of its receivers'."""
    receivers = join([*hasty, *hasty], key)
    senders = begin(hasty, key, b"", 4)
    for byte in b"abcd":
        for sender in senders:
            sender.send(bytes([byte]))
        assert [receiver.take(1) for receiver in receivers] == [bytes([byte])] * 8
        assert byte == ord("d") or receivers[0].hears_nothing(0.6)
    check_sent(hasty, senders)


# Draining


def test_a_server_that_is_about_to_stop(certificate: Certificate, key: str) -> None:
    """After the first signal: 503 with Retry-After for what begins and what waits; what runs is finished; exit 0."""
    server = Server(certificate, "--store", "memory", "--drain-timeout", "20")
    try:
        receiver, waiting = server.connect().get(f"{key}/runs"), server.connect().get(f"{key}/waits?wait=60")
        server.wait_for("key_waiters", 2)
        sender = server.connect().put(f"{key}/runs", b"abc", length=6)
        assert receiver.take(3) == b"abc"
        held = server.connect().put(f"{key}/held", b"abc")
        server.wait_for("pipes", 2)
        later, health = server.connect(), server.connect()
        server.process.send_signal(signal.SIGTERM)
        refused = [waiting.answer(), held.answer()]
        assert server.gauge("draining") == 1
        expecting = later.put(f"{key}/new", b"", "Expect: 100-continue", length=3).answer()
        assert expecting.interim == ()
        refused.append(expecting)
        refused.append(server.connect().get(f"{key}/new").answer())
        for answer in refused:
            check_refusal(answer, 503)
            assert int(answer["retry-after"]) > 0
        assert health.get("/-/health").answer().status == 503
        joiner = server.connect().get(f"{key}/runs")
        assert joiner.take(3) == b"abc"
        sender.send(b"def")
        assert (receiver.answer().body, joiner.answer().body) == (b"def", b"def")
        assert sender.answer().text == "delivered 6 bytes to 2 receivers\n"
        running.remove(server)
        assert server.process.wait(10) == 0
    finally:
        server.stop()


def test_one_connection_too_many(certificate: Certificate) -> None:
    """503 with Retry-After, in a sentence; when one has left, the next is served."""
    server = Server(certificate, "--max-connections", "5")
    try:
        peers = [server.connect() for _ in range(5)]
        for peer in peers:
            assert peer.get("/-/version").answer().status == 200
        late = server.connect()
        answer = late.answer()
        check_refusal(answer, 503)
        assert int(answer["retry-after"]) > 0
        assert late.is_closed()
        peers[0].close()
        until(lambda: answers(server), "there is room again")
        for peer in peers:
            peer.close()
    finally:
        server.stop()


def answers(server: Server) -> bool:
    """Whether a new connection is served."""
    peer = server.connect()
    try:
        return peer.get("/-/version").answer().status == 200
    except (Cut, OSError):
        return False
    finally:
        peer.close()


def test_dead_peers_are_looked_for(plain: Relay, key: str) -> None:
    """Each accepted connection has keep-alive probes, so that a waiting peer that vanished is noticed."""
    receiver = plain.connect().get(key)
    plain.wait_for_waiters(1)
    mine = receiver.socket.getsockname()[1]
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    theirs = f"0100007F:{plain.server.port:04X}", f"0100007F:{mine:04X}"
    timers = [row[5].partition(":")[0] for row in rows if (row[1], row[2]) == theirs]
    assert timers == ["02"], "the kernel runs a keep-alive timer"


def test_chunks_go_on_after_a_limit_was_met(small: Relay, key: str) -> None:
    """A refused sender may send what it had begun to; it can read its answer all the same."""
    sender = small.connect().put_chunked(target(small, key), [b"x" * LIMIT, b"x"], ends=False)
    assert sender.first_status() == 413
    sender.send(chunk(b"x" * 1000) + LAST_CHUNK)
    check_refusal(sender.answer(), 413)
