"""Parts of a file, live or kept: ranges, looks, and receivers that come back."""

import random
import subprocess
import time
from pathlib import Path

import pytest
from contract.peers import LAST_CHUNK, Background, Curl, Cut, Peer, check_refusal, chunk
from contract.server import Relay
from harness import until

DATA = b"0123456789abcdefghij"


def send_part(relay: Relay, key: str, n: int, *fields: str) -> Peer:
    """A sender of ``DATA`` that has sent ``n`` bytes, all of which have come."""
    sender = relay.connect().put(key, DATA[:n], *fields, length=len(DATA))
    until(lambda: f"{n} bytes of {len(DATA)} bytes" in relay.ask("GET", "/").text, f"{n} bytes have come")
    return sender


def keep(relay: Relay, key: str, chunked: bool = False) -> str:
    """Send ``DATA`` to a store that keeps it; its ETag."""
    sender = relay.connect()
    assert (sender.put_chunked(key, [DATA]) if chunked else sender.put(key, DATA)).answer().status == 201
    return relay.ask("HEAD", key)["etag"]


SERVED = {
    "from the middle": ("bytes=5-", "bytes 5-19/20", DATA[5:]),
    "from the start": ("bytes=0-", "bytes 0-19/20", DATA),
    "the last byte": ("bytes=19-", "bytes 19-19/20", DATA[19:]),
    "closed": ("bytes=2-4", "bytes 2-4/20", DATA[2:5]),
    "one byte": ("bytes=0-0", "bytes 0-0/20", DATA[:1]),
    "closed, beyond the end": ("bytes=15-99", "bytes 15-19/20", DATA[15:]),
    "closed, the whole": ("bytes=0-19", "bytes 0-19/20", DATA),
    "suffix": ("bytes=-3", "bytes 17-19/20", DATA[17:]),
    "suffix, longer than the file": ("bytes=-99", "bytes 0-19/20", DATA),
    "in capitals": ("Bytes=5-", "bytes 5-19/20", DATA[5:]),
}
IGNORED = {
    "several": "bytes=0-1,3-4",
    "another unit": "lines=1-2",
    "backwards": "bytes=5-2",
    "empty": "bytes=-",
    "no number": "bytes=a-b",
    "negative": "bytes=-5-9",
}
BEYOND = ["bytes=20-", "bytes=20-25", "bytes=999-", "bytes=-0"]


@pytest.mark.parametrize(("field", "content_range", "body"), SERVED.values(), ids=SERVED)
def test_a_range_of_a_live_transfer(relay: Relay, key: str, field: str, content_range: str, body: bytes) -> None:
    """A part of a file that is still being sent: what has come, and then what comes."""
    sender = send_part(relay, key, 10)
    receiver = relay.connect().get(key, f"Range: {field}")
    sender.send(DATA[10:])
    answer = receiver.answer()
    assert (answer.status, answer["content-range"], answer.body) == (206, content_range, body)
    assert answer["content-length"] == str(len(body))
    assert answer["accept-ranges"] == "bytes"
    if not content_range.endswith("19/20"):  # a look; somebody has to receive it
        assert relay.connect().get(key).answer().body == DATA
    assert sender.answer().status == (201 if relay.keeps else 200)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize(("field", "content_range", "body"), SERVED.values(), ids=SERVED)
def test_a_range_of_a_kept_file(
    keeping: Relay, key: str, field: str, content_range: str, body: bytes, chunked: bool
) -> None:
    """A part of a file that has come, again and again on one connection."""
    downloads = 3 if content_range.endswith("19/20") else 1  # a part that ends before the end is none
    keep(keeping, f"{key}?ttl=60&downloads={downloads}", chunked)
    peer = keeping.connect()
    for _ in range(2):
        answer = peer.get(key, f"Range: {field}").answer()
        assert (answer.status, answer["content-range"], answer.body) == (206, content_range, body)
    peer.get(key).answer()


@pytest.mark.parametrize("field", IGNORED.values(), ids=IGNORED)
def test_a_range_that_is_none_is_ignored(keeping: Relay, key: str, field: str) -> None:
    """RFC 9110, 14.2: what is no range, or more than we serve, gets the whole file."""
    keep(keeping, key)
    answer = keeping.ask("GET", key, f"Range: {field}")
    assert (answer.status, answer.get("content-range"), answer.body) == (200, None, DATA)


@pytest.mark.parametrize("field", BEYOND)
def test_a_range_beyond_the_end(relay: Relay, key: str, field: str) -> None:
    """416 says how long the file is, live or kept, and takes nothing."""
    sender = send_part(relay, key, 10)
    answer = relay.ask("GET", key, f"Range: {field}")
    check_refusal(answer, 416, "20")
    assert answer["content-range"] == "bytes */20"
    sender.send(DATA[10:])
    if relay.keeps:
        assert sender.answer().status == 201
        assert relay.ask("GET", key, f"Range: {field}")["content-range"] == "bytes */20"
        relay.ask("GET", key)
    else:
        assert relay.connect().get(key).answer().body == DATA
        assert sender.answer().text == "delivered 20 bytes to 1 receiver\n"


def test_a_range_of_an_empty_file(keeping: Relay, key: str) -> None:
    """curl may resume what was empty: it gets nothing, and no error that it could not understand."""
    assert keeping.connect().put(key, b"").answer().status == 201
    answer = keeping.ask("GET", key, "Range: bytes=0-")
    assert answer.status in (200, 416)
    if answer.status == 200:
        assert answer.body == b""
    answer = keeping.ask("GET", key, "Range: bytes=5-")
    assert (answer.status, answer["content-range"]) == (416, "bytes */0")


# Unknown lengths.


def test_an_open_range_of_unknown_length(relay: Relay, key: str) -> None:
    """A live file of unknown length answers with the very large value of RFC 8673."""
    sender = relay.connect().put_chunked(key, [DATA[:10]], ends=False)
    relay.wait_for_offer(key)
    receiver = relay.connect().get(key, "Range: bytes=5-")
    head = receiver.head()
    assert (head.status, head["content-range"]) == (206, "bytes 5-9007199254740991/*")
    assert receiver.take(5) == DATA[5:10]
    sender.send(chunk(DATA[10:]) + LAST_CHUNK)
    assert receiver.answer().body == DATA[10:]
    assert sender.answer().status == (201 if relay.keeps else 200)


def test_a_range_that_begins_beyond_what_has_come_waits(relay: Relay, key: str) -> None:
    """It is answered when its first byte is there, whether or not the length is known."""
    for i, sender in enumerate(
        (
            relay.connect().put(f"{key}/0", DATA[:5], length=20),
            relay.connect().put_chunked(f"{key}/1", [DATA[:5]], ends=False),
        )
    ):
        relay.wait_for_offer(f"{key}/{i}")
        receiver = relay.connect().get(f"{key}/{i}", "Range: bytes=10-")
        relay.server.wait_for("active_downloads", 1)
        sender.send(chunk(DATA[5:15]) if i else DATA[5:15])
        assert receiver.take(5) == DATA[10:15]
        assert receiver.head()["content-range"] == ("bytes 10-9007199254740991/*" if i else "bytes 10-19/20")
        sender.send(chunk(DATA[15:]) + LAST_CHUNK if i else DATA[15:])
        assert receiver.answer().body == DATA[15:]
        assert sender.answer().status == (201 if relay.keeps else 200)


def test_a_range_that_the_end_comes_before(relay: Relay, key: str) -> None:
    """If the file ends before the range begins, the answer is 416 with the length, and it does not count."""
    sender = relay.connect().put_chunked(key, [DATA[:5]], ends=False)
    relay.wait_for_offer(key)
    receiver = relay.connect().get(key, "Range: bytes=10-")
    relay.server.wait_for("active_downloads", 1)
    sender.send(chunk(DATA[5:8]) + LAST_CHUNK)
    answer = receiver.answer()
    check_refusal(answer, 416, "8")
    assert answer["content-range"] == "bytes */8"
    assert relay.connect().get(key).answer().body == DATA[:8]
    assert sender.answer().status == (201 if relay.keeps else 200)


@pytest.mark.parametrize("how", ["lost", "malformed"])
def test_a_range_that_never_comes(relay: Relay, key: str, how: str) -> None:
    """Whoever waits for it is told that the sender failed: neither this server nor the receiver did."""
    sender = relay.connect().put_chunked(key, [b"abc"], ends=False)
    relay.wait_for_offer(key)
    receiver = relay.connect().get(key, "Range: bytes=100-")
    assert receiver.hears_nothing()
    if how == "lost":
        sender.reset()
    else:
        sender.send(b"no chunk\r\n")
    check_refusal(receiver.answer(), 502)


def test_a_look_that_the_end_comes_within(relay: Relay, key: str) -> None:
    """The answer's head has promised more than the file has: the connection is cut, and nothing is made up."""
    sender = relay.connect().put_chunked(key, [DATA[:5]], ends=False)
    relay.wait_for_offer(key)
    look = relay.connect().get(key, "Range: bytes=2-9")
    assert look.take(3) == DATA[2:5]
    assert (look.head().status, look.head()["content-length"]) == (206, "8")
    sender.send(chunk(DATA[5:8]) + LAST_CHUNK)
    assert look.take(3) == DATA[5:8]
    with pytest.raises((Cut, ConnectionResetError)):
        Background(look.answer).result(5)
    assert relay.connect().get(key).answer().body == DATA[:8]
    assert sender.answer().status == (201 if relay.keeps else 200)


def test_a_waiting_receiver_with_a_range(relay: Relay, key: str) -> None:
    """A range may be asked for before there is anything."""
    receiver = relay.connect().get(key, "Range: bytes=5-")
    relay.wait_for_waiters(1)
    sender = relay.connect().put(key, DATA)
    answer = receiver.answer()
    assert (answer.status, answer["content-range"], answer.body) == (206, "bytes 5-19/20", DATA[5:])
    assert sender.answer().status == (201 if relay.keeps else 200)


# Looks.


def test_a_look_does_not_satisfy_the_senders_wait(holding: Relay, key: str) -> None:
    """A player that asks for the first byte is no receiver: the sender hears 504 as if nobody had come."""
    sender = holding.connect().put(f"{key}?wait=0.5", DATA)
    holding.wait_for_offer(key)
    look = holding.connect().get(key, "Range: bytes=0-0").answer()
    assert (look.status, look.body) == (206, b"0")
    check_refusal(sender.answer(), 504)


def test_a_look_is_not_counted(holding: Relay, key: str) -> None:
    """Looks before and during the transfer are not receivers in the sender's answer."""
    sender = send_part(holding, key, 10)
    looks = [holding.connect().get(key, f"Range: bytes={i}-{i}").answer().body for i in (0, 9)]
    receiver = holding.connect().get(key)
    assert receiver.take(10) == DATA[:10]
    looks.append(holding.connect().get(key, "Range: bytes=1-1").answer().body)
    sender.send(DATA[10:])
    assert receiver.answer().body == DATA[10:]
    assert sender.answer().text == "delivered 20 bytes to 1 receiver\n"
    assert looks == [b"0", b"9", b"1"]


def test_a_look_does_not_hold_the_sender(holding: Relay, key: str) -> None:
    """One who looks at a part and reads nothing of it does not keep the others from their file."""
    data = random.Random(11).randbytes(48 << 20)
    look = holding.connect(receive_buffer=4096).get(key, f"Range: bytes=0-{len(data) - 2}")
    receiver = holding.connect().get(key)
    holding.wait_for_waiters(2)
    sender = holding.connect()
    sending = Background(lambda: sender.put(key, data).answer())
    assert Background(receiver.answer).result().body == data
    assert sending.result().text == f"delivered {len(data)} bytes to 1 receiver\n"
    with pytest.raises((Cut, ConnectionResetError)):
        Background(look.answer).result()


def test_a_look_at_what_comes_is_served(relay: Relay, key: str) -> None:
    """A look may wait for its bytes, and another one may follow on the same connection."""
    look = relay.connect().get(key, "Range: bytes=12-13")
    relay.wait_for_waiters(1)
    sender = send_part(relay, key, 10)
    sender.send(DATA[10:15])
    assert look.answer().body == DATA[12:14]
    assert look.get(key, "Range: bytes=1-2").answer().body == DATA[1:3]
    sender.send(DATA[15:])
    assert relay.connect().get(key).answer().body == DATA
    assert sender.answer().status == (201 if relay.keeps else 200)


# If-Range.


@pytest.mark.parametrize("right", [True, False])
def test_if_range(keeping: Relay, key: str, right: bool) -> None:
    """The part of this file, or the whole of another: never the part of another."""
    tag = keep(keeping, f"{key}?ttl=60&downloads=1")
    condition = tag if right else '"other"'
    answer = keeping.ask("GET", key, "Range: bytes=5-", f"If-Range: {condition}")
    assert (answer.status, answer.body) == ((206, DATA[5:]) if right else (200, DATA))


def test_if_range_of_a_live_transfer(relay: Relay, key: str) -> None:
    """The same while the file is being sent."""
    sender = send_part(relay, key, 10)
    tag = relay.ask("HEAD", key)["etag"]
    part = relay.connect().get(key, "Range: bytes=5-", f"If-Range: {tag}")
    whole = relay.connect().get(key, "Range: bytes=5-", 'If-Range: "other"')
    assert (part.take(5), whole.take(10)) == (DATA[5:10], DATA[:10])
    sender.send(DATA[10:])
    assert [peer.answer().status for peer in (part, whole)] == [206, 200]
    assert sender.answer().status == (201 if relay.keeps else 200)


# Bytes that are gone.


def test_a_range_whose_bytes_are_gone(holding: Relay, key: str) -> None:
    """Memory keeps the newest bytes only: an older range is 410, a newer one is served."""
    data = random.Random(12).randbytes(24 << 20)
    early = holding.connect().get(key)
    sender = holding.connect()
    taking = Background(lambda: early.take(22 << 20))
    sender.put(key, data[: 22 << 20], length=len(data))
    assert taking.result() == data[: 22 << 20]
    check_refusal(holding.ask("GET", key, "Range: bytes=1000000-"), 410)
    check_refusal(holding.ask("GET", key, "Range: bytes=0-0"), 410)
    late = holding.connect().get(key, f"Range: bytes={20 << 20}-")
    assert late.take(2 << 20) == data[20 << 20 : 22 << 20]
    sender.send(data[22 << 20 :])
    assert early.answer().body == late.answer().body == data[22 << 20 :]
    assert sender.answer().text == f"delivered {len(data)} bytes to 2 receivers\n"


# Receivers that come back.


def wait_for_size(path: Path, size: int, curl: Curl) -> None:
    """Wait until curl has written ``size`` bytes to ``path``."""
    until(lambda: path.exists() and path.stat().st_size >= size, f"{path} has {size} bytes")
    assert curl.process.poll() is None


@pytest.mark.parametrize("way", ["length", "chunked", "form"])
def test_a_killed_curl_comes_back(relay: Relay, key: str, tmp_path: Path, way: str) -> None:
    """A receiver killed in the middle goes on with ``curl -C -`` where it was; the sender hears of one receiver."""
    file, out = tmp_path / "file", tmp_path / "out"
    file.write_bytes(random.Random(13).randbytes(30_000_000))
    receiver = relay.curl("-fo", out, "--limit-rate", "8M", relay.url(key))
    relay.wait_for_waiters(1)
    option, what = {"length": ("-T", str(file)), "chunked": ("-T", "-"), "form": ("-F", f"file=@{file}")}[way]
    target = key if relay.keeps else f"{key}?wait=60"
    sender = relay.curl("--fail-with-body", option, what, relay.url(target), stdin=file if way == "chunked" else None)
    wait_for_size(out, 2_000_000, receiver)
    receiver.kill()
    relay.server.wait_for("active_downloads", 0)
    had = out.stat().st_size
    assert had < 30_000_000
    back = relay.curl("-fo", out, "-C", "-", relay.url(key)).done()
    assert back.code == 0, back
    assert out.read_bytes() == file.read_bytes()
    done = sender.done()
    if relay.keeps:
        assert (done.code, done.out) == (0, "stored 30000000 bytes, kept for 4 s\n")
    else:
        assert (done.code, done.out) == (0, "delivered 30000000 bytes to 1 receiver\n")


def test_a_receiver_comes_back_behind_the_senders_last_byte(holding: Relay, key: str) -> None:
    """The sender has sent all; its only receiver breaks off before the end and still gets the rest."""
    receiver = holding.connect().get(key)
    sender = send_part(holding, key, 10)
    assert receiver.take(10) == DATA[:10]
    receiver.close()
    holding.server.wait_for("active_downloads", 0)
    sender.send(DATA[10:])
    holding.server.wait_for("active_uploads", 0)
    back = holding.connect().get(key, "Range: bytes=10-").answer()
    assert (back.status, back.body) == (206, DATA[10:])
    assert sender.answer().text == "delivered 20 bytes to 1 receiver\n"


def test_the_sender_is_paused_while_its_last_receiver_is_away(holding: Relay, key: str) -> None:
    """Nothing that the receiver has not had is overwritten while it is away, however much the sender could send."""
    data = random.Random(14).randbytes(96 << 20)
    receiver = holding.connect().get(key)
    sender = holding.connect()
    sending = Background(lambda: sender.put(key, data).answer())
    first = Background(lambda: receiver.take(3_000_000)).result()
    receiver.close()
    holding.server.wait_for("active_downloads", 0)
    until(lambda: stands_still(holding), "the sender is paused")
    back = holding.connect().get(key, "Range: bytes=3000000-")
    rest = Background(back.answer).result()
    assert rest.status == 206
    assert first + rest.body == data
    assert sending.result().text == f"delivered {len(data)} bytes to 1 receiver\n"


def stands_still(relay: Relay) -> bool:
    """Whether nothing comes in for a moment."""
    before = relay.server.metrics()["beam_bytes_in_total"]
    time.sleep(0.2)  # the moment
    return relay.server.metrics()["beam_bytes_in_total"] == before


def test_a_receiver_may_come_back_twice(relay: Relay, key: str) -> None:
    """Each time from where it was."""
    got = b""
    sender = send_part(relay, key, 10)
    for n in (3, 4):
        receiver = relay.connect().get(key, *([f"Range: bytes={len(got)}-"] if got else []))
        got += receiver.take(n)
        receiver.close()
        relay.server.wait_for("active_downloads", 0)
    sender.send(DATA[10:])
    receiver = relay.connect().get(key, f"Range: bytes={len(got)}-")
    assert got + receiver.answer().body == DATA
    answer = sender.answer()
    assert answer.status == (201 if relay.keeps else 200)
    if not relay.keeps:
        assert answer.text == "delivered 20 bytes to 1 receiver\n"


# A resume that would meet another file.


def break_off(relay: Relay, key: str) -> None:
    """A transfer of which a receiver has a part only."""
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    sender = relay.connect().put(key, DATA[:10], length=len(DATA))
    assert receiver.take(10) == DATA[:10]
    sender.close()
    with pytest.raises((Cut, ConnectionResetError)):
        receiver.answer()
    relay.server.wait_for("pipes", 0)


def test_a_resume_that_would_meet_another_file(relay: Relay, key: str) -> None:
    """After a transfer that broke off, a bare resume of the next one is 412; with If-Range it gets the new file."""
    break_off(relay, key)
    other = DATA[::-1]
    sender = relay.connect().put(key, other[:10], length=20)
    relay.wait_for_offer(key)
    check_refusal(relay.ask("GET", key, "Range: bytes=10-"), 412, "If-Range")
    fine = [
        relay.connect().get(key, "Range: bytes=10-", 'If-Range: "old"'),
        relay.connect().get(key, "Range: bytes=0-"),
        relay.connect().get(key),
    ]
    for receiver in fine:
        assert receiver.take(10) == other[:10]
    sender.send(other[10:])
    assert [receiver.answer().status for receiver in fine] == [200, 206, 200]
    assert sender.answer().status == (201 if relay.keeps else 200)


def test_curl_does_not_join_two_files(relay: Relay, key: str, tmp_path: Path) -> None:
    """``curl -fC -`` after a break ends with an error and leaves what it had as it was."""
    break_off(relay, key)
    out = tmp_path / "out"
    out.write_bytes(DATA[:10])
    sender = relay.connect().put(key, b"x" * 20)
    relay.wait_for_offer(key)
    done = relay.curl("-fo", out, "-C", "-", relay.url(key)).done()
    assert done.code == 22
    assert "412" in done.err
    assert out.read_bytes() == DATA[:10]
    assert relay.connect().get(key).answer().body == b"x" * 20
    assert sender.answer().status == (201 if relay.keeps else 200)


def test_a_waiting_resume_that_would_meet_another_file(holding: Relay, key: str) -> None:
    """The same for a resume that waits for a sender; the other receivers are served."""
    break_off(holding, key)
    waits, plain = holding.connect().get(key, "Range: bytes=10-"), holding.connect().get(key)
    holding.wait_for_waiters(2)
    sender = holding.connect().put(key, DATA)
    check_refusal(waits.answer(), 412)
    assert plain.answer().body == DATA
    assert sender.answer().text == "delivered 20 bytes to 1 receiver\n"


def test_a_resume_after_whole_deliveries_is_trusted(relay: Relay, key: str) -> None:
    """The rule is for keys under which something broke off, and for no other."""
    for _ in range(2):
        receiver = relay.connect().get(key, "Range: bytes=10-")
        relay.wait_for_waiters(1)
        sender = relay.connect().put(key, DATA)
        assert receiver.answer().status == 206
        assert sender.answer().status == (201 if relay.keeps else 200)
        relay.server.wait_for("pipes", 0)


def test_wget_resumes(relay: Relay, key: str, tmp_path: Path) -> None:
    """``wget -c`` continues a kept or live file of known length like curl does."""
    if relay.ends == "haproxy":
        pytest.skip("wget is no proxy")
    sender = send_part(relay, key, 20)
    out = tmp_path / "out"
    out.write_bytes(DATA[:7])
    authority = f"--ca-certificate={relay.server.certificate.certificate}"
    command = ["wget", "-q", "-c", "-t", "1", "-T", "15", authority, "-O", str(out), relay.url(key)]
    try:
        subprocess.run(command, check=True, timeout=20)
    except FileNotFoundError:
        pytest.skip("there is no wget here")
    assert out.read_bytes() == DATA
    assert sender.answer().status == (201 if relay.keeps else 200)
