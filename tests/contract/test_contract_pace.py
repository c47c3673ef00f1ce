"""The pace that the operator sets: of one connection, and of all that one address has."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from contract.peers import Background, Peer
from contract.server import Relay, Server

MEGABYTE = 1 << 20
RATE = 256 << 10
DATA = random.Random(50).randbytes(MEGABYTE)
BOUNDARY = "x1d8f"
FORM = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
LATE = 30.0  # seconds that a busy machine may take for what takes four
FLAGS = ("--store", "memory", "--store", "disk:{folder}/store", "--get-ttl", "0.2", "--put-ttl", "2")


@pytest.fixture(scope="module")
def slow(serve: Callable[..., Server]) -> Server:
    """256 KiB a second for each connection; nobody may be idle for a second, nor slower than a mebibyte a second."""
    return serve(*FLAGS, "--bandwidth", "256K", "--idle-timeout", "1", "--min-rate", "1M", "--resume-timeout", "1")


@pytest.fixture(scope="module")
def shared(serve: Callable[..., Server]) -> Server:
    """512 KiB a second for all connections of an address."""
    return serve(*FLAGS, "--bandwidth-per-address", "512K", "--idle-timeout", "1", "--resume-timeout", "1")


@contextmanager
def takes(least: float) -> Iterator[None]:
    """What is inside takes ``least`` seconds, and not too many more."""
    began = time.monotonic()
    yield
    assert least <= time.monotonic() - began < LATE


def form(data: bytes) -> bytes:
    """A form with one file."""
    return b"".join(
        (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'.encode(),
            data,
            f"\r\n--{BOUNDARY}--\r\n".encode(),
        )
    )


def sent(relay: Relay, key: str, way: str, data: bytes = DATA) -> Background[int]:
    """Send ``data``; the status of the answer."""

    def send() -> int:
        peer = relay.connect()
        path = f"{key}?store={relay.store}"
        if way == "length":
            peer.put(path, data)
        elif way == "chunked":
            peer.put_chunked(path, [data[i : i + 50_000] for i in range(0, len(data), 50_000)])
        else:
            peer.ask("POST", path, FORM, body=form(data))
        return peer.answer().status

    return Background(send)


@pytest.mark.parametrize(
    ("ends", "way"),
    [
        ("tcp", "length"),
        ("tls", "length"),
        ("tcp", "chunked"),
        ("tls", "chunked"),
        ("tcp", "form"),
        ("haproxy", "form"),
    ],
)
def test_a_sender_and_its_receiver(slow: Server, key: str, ends: str, way: str) -> None:
    """Each at the pace, from memory, however the bytes come; nobody who keeps it is too slow or idle."""
    relay = Relay(slow, "memory", ends)
    receivers = [relay.connect().get(f"{key}?wait=20") for _ in range(2)]
    relay.wait_for_waiters(2)
    with takes(3):
        sending = sent(relay, key, way)
        taking = [Background(receiver.answer) for receiver in receivers]
        assert [each.result().body == DATA for each in taking] == [True, True]
        assert sending.result() == 200


@pytest.mark.parametrize("ends", ["tcp", "tls", "haproxy", "unix"])
def test_a_receiver_of_a_file_that_is_kept(slow: Server, key: str, ends: str) -> None:
    """It is sent at the pace, and the file is then there for others, each with a pace of its own; so are parts."""
    relay = Relay(slow, "disk", ends)
    with takes(3):
        assert sent(relay, key, "length").result() == 201
    with takes(3):
        taking = [Background(relay.connect().get(key, *fields).answer) for fields in ((), ("Range: bytes=100000-",))]
        assert relay.ask("HEAD", key)["content-length"] == str(MEGABYTE)
        assert [each.result().body for each in taking] == [DATA, DATA[100_000:]]


def test_what_is_small_is_there_at_once(slow: Server, key: str) -> None:
    """Files below the burst, on one connection after the other."""
    relay = Relay(slow, "disk", "tcp")
    began = time.monotonic()
    for i in range(5):
        assert relay.connect().put(f"{key}/{i}?store=disk&ttl=5&downloads=1", b"small").answer().status == 201
        assert relay.ask("GET", f"{key}/{i}").body == b"small"
    assert time.monotonic() - began < 3


def test_one_connection_after_another_body(slow: Server, key: str) -> None:
    """A connection that is used again has no new burst for each of its files."""
    relay = Relay(slow, "disk", "tcp")
    peer = relay.connect()
    with takes(3):
        for i in range(32):
            assert peer.put(f"{key}/{i}?store=disk&ttl=0", DATA[: 32 << 10]).answer().status == 201


def test_a_peer_that_is_idle_at_the_pace(slow: Server, key: str) -> None:
    """One that could go on and does not is cut all the same."""
    relay = Relay(slow, "memory", "tcp")
    receiver = relay.connect().get(f"{key}?wait=20")
    relay.wait_for_waiters(1)
    sender = relay.connect().put(key, DATA[: 100 << 10], length=MEGABYTE)
    assert receiver.take(100 << 10) == DATA[: 100 << 10]
    assert sender.answer().status == 408
    assert receiver.is_closed()


@pytest.mark.parametrize("ends", ["tcp", "tls"])
def test_receivers_of_one_address_share(shared: Server, key: str, ends: str) -> None:
    """Two get together what one may have, and each its part of it."""
    relay = Relay(shared, "disk", ends)
    assert sent(relay, key, "length").result() == 201
    ends_at: list[float] = []

    def take() -> bytes:
        body = relay.connect().get(key).answer().body
        ends_at.append(time.monotonic())
        return body

    with takes(3):
        assert [each.result() for each in [Background(take) for _ in range(2)]] == [DATA, DATA]
    assert ends_at[1] - ends_at[0] < 2


def test_senders_of_one_address_share(shared: Server, key: str) -> None:
    """Also two that send, and one that sends and one that receives."""
    relay = Relay(shared, "disk", "tcp")
    with takes(3):
        assert [each.result() for each in [sent(relay, f"{key}/{i}", "chunked") for i in range(2)]] == [201, 201]
    receiver = Background(Peer.answer.__get__(relay.connect().get(f"{key}/0")))
    with takes(3):
        assert sent(relay, f"{key}/2", "length").result() == 201
        assert receiver.result().body == DATA


def test_a_unix_socket_has_no_address(shared: Server, key: str) -> None:
    """What comes through it is not held back by a pace of addresses."""
    relay = Relay(shared, "disk", "unix")
    began = time.monotonic()
    assert sent(relay, key, "length").result() == 201
    assert time.monotonic() - began < 1.8
