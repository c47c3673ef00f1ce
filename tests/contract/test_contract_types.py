"""Files are taken or refused for what they are, whatever their senders say that they are."""

import random
from collections.abc import Callable

import pytest
from contract.peers import Background, Cut, Peer, check_refusal
from contract.server import Relay, Server

BOUNDARY = "x1d8f"
FORM = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
NOISE = random.Random(60).randbytes(300_000)
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + NOISE
ELF = b"\x7fELF\2\1\1" + bytes(9) + NOISE
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"/>'


@pytest.fixture(scope="module")
def gallery(serve: Callable[..., Server]) -> Server:
    """Takes images, but none that can have scripts."""
    flags = ("--allow-types", "image/*, application/pdf", "--deny-types", "image/svg+xml", "--deny-types", "image/gif")
    return serve("--store", "memory", "--store", "disk:{folder}/store", "--get-ttl", "0.2", "--put-ttl", "3", *flags)


@pytest.fixture(params=["memory-tcp", "memory-tls", "memory-haproxy", "disk-tcp", "disk-tls"])
def images(request: pytest.FixtureRequest, gallery: Server) -> Relay:
    """Both stores over all kinds of ends."""
    store, ends = str(request.param).split("-")
    return Relay(gallery, store, ends)


def send(relay: Relay, key: str, way: str, data: bytes) -> Peer:
    """Send ``data`` as an image, which it may not be."""
    peer, target = relay.connect(), f"{key}?store={relay.store}"
    match way:
        case "length":
            peer.put(target, data, "Content-Type: image/png")
        case "chunked":
            steps = [data[i : i + 20_000] for i in range(0, len(data), 20_000)] or [data]
            peer.put_chunked(target, [step for step in steps if step], "Content-Type: image/png")
        case "form":
            disposition = 'Content-Disposition: form-data; name="f"; filename="f.png"'
            head = f"--{BOUNDARY}\r\n{disposition}\r\nContent-Type: image/png\r\n\r\n"
            peer.ask("POST", target, FORM, body=head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode())
    return peer


WAYS = pytest.mark.parametrize("way", ["length", "chunked", "form"])


@WAYS
def test_what_is_allowed(images: Relay, key: str, way: str) -> None:
    """It passes whole, with the sender's type."""
    receiver = images.connect().get(f"{key}?wait=20")
    images.wait_for_waiters(1)
    sender = send(images, key, way, PNG)
    answer = receiver.answer()
    assert answer.body == PNG and answer["content-type"] == "image/png"
    assert sender.answer().status == (201 if images.keeps else 200)


@WAYS
@pytest.mark.parametrize(
    ("data", "kind"),
    [(ELF, "application/x-executable"), (SVG, "image/svg.xml"), (NOISE, "application/octet-stream"), (b"a", "text")],
    ids=["elf", "svg", "noise", "byte"],
)
def test_what_is_not(images: Relay, key: str, way: str, data: bytes, kind: str) -> None:
    """415 with what it is and what is taken; its receiver has not the whole, and nothing is kept."""
    receiver = images.connect().get(f"{key}?wait=20")
    images.wait_for_waiters(1)
    receiving = Background(lambda: what_came(receiver))
    check_refusal(send(images, key, way, data).answer(), 415, kind.replace(".", "+"), "image/*", "but image/svg+xml")
    got = receiving.result()
    if way == "length":
        assert len(got) < len(data)
    assert data.startswith(got) and len(got) < 200_000
    assert images.server.gauge("pipes") == 0
    images.server.wait_for("disk_usage", 0)
    assert images.server.files() == []
    assert images.ask("GET", f"{key}?wait=0").status == 404


def what_came(receiver: Peer) -> bytes:
    """What a receiver gets before it is cut."""
    got = b""
    try:
        while piece := receiver.take(1):
            got += piece
            if len(got) > 1 << 20:
                break
    except (Cut, ConnectionResetError):
        return got
    raise AssertionError("this receiver takes the part for the whole")


def test_the_sender_hears_before_it_has_sent_everything(gallery: Server, key: str) -> None:
    """The first bytes are enough."""
    relay = Relay(gallery, "memory", "tcp")
    sender = relay.connect().put(key, ELF[:5000], "Content-Type: image/png", length=1 << 30)
    check_refusal(sender.answer(), 415, "application/x-executable")


@pytest.mark.parametrize(("name", "status"), [("empty.png", 201), ("empty.txt", 415), ("empty", 415)])
def test_an_empty_file_is_what_its_name_says(gallery: Server, key: str, name: str, status: int) -> None:
    """There is nothing else to go by."""
    relay = Relay(gallery, "disk", "tcp")
    assert relay.connect().put(f"{key}?store=disk&name={name}", b"").answer().status == status


def test_the_outcome_has_a_word(gallery: Server, key: str) -> None:
    """In the log and in the metrics."""
    relay = Relay(gallery, "memory", "tcp")
    assert relay.connect().put(key, SVG).answer().status == 415
    assert "transfer type-refused" in gallery.log.read_text()
    assert gallery.get_metrics("/metrics").text.count('outcome="type-refused"')
