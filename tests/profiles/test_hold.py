"""``--profile hold`` does what the first Beam does, without the faults that are known of it.

What is written here as a difference is one on purpose: the original forgets a name when its download begins, says
"completed" to a sender whose receiver has left, and does not notice a sender that leaves while it waits.
"""

import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from contract.peers import LAST_CHUNK, Answer, Background, Curl, Cut, Peer, chunk, close_all
from harness import BOUND, Server, free_port, twist, until

NOTHING = "No active upload stream for this file"
IN_USE = "An upload is already in progress for this filename"
COMPLETED = "Upload completed successfully\n"
DATA = b"0123456789abcdefghij"
LARGE = 40 << 20  # bytes: more than the ring and both systems' buffers hold

_numbers = itertools.count(1)


@pytest.fixture
def key() -> str:
    """A path that no other test uses."""
    return f"/file-{next(_numbers)}.bin"


def cleaned(server: Server) -> Iterator[Server]:
    """``server``, with nothing left behind the test."""
    before = server.descriptors()
    yield server
    close_all()
    server.until_clean(before)


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server("--profile", "hold", log=tmp_path_factory.mktemp("hold") / "log") as server:
        yield server


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server("--profile", "hold:resume-timeout=0.5", log=tmp_path_factory.mktemp("hold") / "log") as server:
        yield server


@pytest.fixture(scope="module")
def mounting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    mounts = ("--mount", "/h=hold:resume-timeout=0.5", "--mount", "/c=claim")
    with Server(*mounts, log=tmp_path_factory.mktemp("hold") / "log") as server:
        yield server


@pytest.fixture
def server(patient: Server) -> Iterator[Server]:
    """The profile as it is."""
    yield from cleaned(patient)


@pytest.fixture
def hasty(impatient: Server) -> Iterator[Server]:
    """The profile, with little time for a receiver to come back."""
    yield from cleaned(impatient)


@pytest.fixture
def mounted(mounting: Server) -> Iterator[Server]:
    """The profiles hold and claim on mounts, beside the default profile."""
    yield from cleaned(mounting)


# Who talks to the server.


def peer(server: Server) -> Peer:
    return Peer(server.connect())


def slow_peer(server: Server) -> Peer:
    """A connection whose system takes little before its program reads."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    connection.connect(("127.0.0.1", server.port))
    return Peer(connection)


def ask(server: Server, method: str, target: str, *fields: str) -> Answer:
    """One request on a connection of its own."""
    asking = peer(server)
    try:
        answer = asking.ask(method, target, *fields).answer()
    finally:
        asking.close()
    assert answer["server"].startswith("beam/")
    return answer


def wait_for_offer(server: Server, path: str) -> None:
    """Wait until somebody sends to ``path``."""
    until(lambda: ask(server, "HEAD", path).status == 200, f"somebody sends to {path}")


def offer(server: Server, path: str, body: bytes = DATA, length: int | None = None) -> Peer:
    """A sender of ``body``, which may be a part of the ``length`` bytes that it announces."""
    sender = peer(server).put(path, body, length=length)
    wait_for_offer(server, path)
    return sender


def receive(server: Server, path: str, *fields: str) -> Answer:
    return ask(server, "GET", path, *fields)


def check_text(answer: Answer, status: int, text: str) -> None:
    """``answer`` is this text for people; whether a refusal's line has an end is not said."""
    assert (answer.status, answer.text.rstrip("\n")) == (status, text.rstrip("\n"))
    assert answer["content-type"].startswith("text/plain")


def check_completed(sender: Peer) -> None:
    """``sender`` hears that the receiver has it all."""
    answer = sender.answer()
    assert (answer.status, answer.text) == (200, COMPLETED)
    assert answer["content-type"].startswith("text/plain")
    assert answer["server"].startswith("beam/")


def form(body: bytes, filename: str = "of-the-form.txt", content_type: str = "text/x-form") -> bytes:
    """``body`` as the file of a form with the boundary ``edge``."""
    part = f'Content-Disposition: form-data; name="file"; filename="{filename}"\r\nContent-Type: {content_type}\r\n\r\n'
    return b"--edge\r\n" + part.encode() + body + b"\r\n--edge--\r\n"


FORM = "Content-Type: multipart/form-data; boundary=edge"
WAYS: dict[str, Callable[[Peer, str, str], Peer]] = {
    "length": lambda sender, method, path: sender.ask(method, path, body=DATA),
    "chunked": lambda sender, method, path: sender.ask(method, path, "Transfer-Encoding: chunked").send(
        chunk(DATA[:7]) + chunk(DATA[7:]) + LAST_CHUNK
    ),
    "form": lambda sender, method, path: sender.ask(method, path, FORM, body=form(DATA)),
    "HTTP/1.0": lambda sender, method, path: sender.ask(method, path, body=DATA, version="1.0"),
}


# A file passes.


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_sender_waits_for_its_receiver(method: str, way: str, server: Server, key: str) -> None:
    """The sender hears nothing before a receiver has come, and then that it is completed."""
    sender = WAYS[way](peer(server), method, key)
    wait_for_offer(server, key)
    assert sender.hears_nothing()
    answer = receive(server, key)
    assert (answer.status, answer.body) == (200, DATA)
    check_completed(sender)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_an_empty_file_is_a_file(chunked: bool, server: Server, key: str) -> None:
    sender = peer(server).put_chunked(key, []) if chunked else peer(server).put(key, b"")
    wait_for_offer(server, key)
    answer = receive(server, key)
    assert (answer.status, answer.body) == (200, b"")
    check_completed(sender)


def test_a_receiver_of_old_http_gets_everything(server: Server, key: str) -> None:
    """Without chunks the end of the connection is the end of the file."""
    sender = peer(server).put_chunked(key, [DATA[:5]], ends=False)
    wait_for_offer(server, key)
    receiver = peer(server).get(key, version="1.0")
    assert receiver.take(5) == DATA[:5]
    sender.send(chunk(DATA[5:]) + LAST_CHUNK)
    answer = receiver.answer()
    assert (answer.status, answer.body) == (200, DATA[5:])
    check_completed(sender)


def test_bytes_pass_as_they_come(server: Server, key: str) -> None:
    """Each byte is there before the next one is sent."""
    sender = peer(server).put_chunked(key, [], ends=False)
    wait_for_offer(server, key)
    receiver = peer(server).get(key)
    for value in range(32):
        sender.send(chunk(bytes([value])))
        assert receiver.take(1) == bytes([value])
    sender.send(LAST_CHUNK)
    assert receiver.answer().body == b""
    check_completed(sender)


def test_curl_on_both_sides(server: Server, key: str, tmp_path: Path) -> None:
    """Both end with 0, the sender prints the answer, and the file is the same under the name of its key."""
    data = random.Random(1).randbytes(3 << 20)
    (tmp_path / "sent").write_bytes(data)
    sender = Curl("-f", "-T", tmp_path / "sent", server.url(key))
    wait_for_offer(server, key)
    receiver = Curl("-f", "-OJ", "--output-dir", tmp_path, server.url(key))
    assert receiver.done().code == 0
    done = sender.done()
    assert (done.code, done.out) == (0, COMPLETED)
    assert (tmp_path / key.strip("/")).read_bytes() == data


def test_a_form_of_curl(server: Server, key: str, tmp_path: Path) -> None:
    """``curl -F`` sends a file too; its name and type are those of the form."""
    (tmp_path / "name.txt").write_bytes(DATA)
    sender = Curl("-f", "-F", "other=field", "-F", f"file=@{tmp_path / 'name.txt'};type=text/x-sent", server.url(key))
    wait_for_offer(server, key)
    answer = receive(server, key)
    assert answer.body == DATA
    assert answer["content-type"] == "text/x-sent"
    assert 'attachment; filename="name.txt"' in answer["content-disposition"]
    assert sender.done().out == COMPLETED


def test_continue_is_sent_at_admission(server: Server, key: str) -> None:
    """A sender that asks may send before there is a receiver."""
    sender = peer(server).ask("PUT", key, "Expect: 100-continue", f"Content-Length: {len(DATA)}")
    assert sender.first_status() == 100
    sender.send(DATA)
    wait_for_offer(server, key)
    assert receive(server, key).body == DATA
    check_completed(sender)


HEADERS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "no type": ((), {"content-type": "application/octet-stream"}),
    "a type": (("Content-Type: text/x-own; charset=latin-1",), {"content-type": "text/x-own; charset=latin-1"}),
    "HTML": (("Content-Type: text/html",), {"content-type": "text/html", "x-content-type-options": "nosniff"}),
    "an encoding": (("Content-Encoding: gzip",), {"content-encoding": "gzip"}),
    "a date": (
        ("Last-Modified: Wed, 21 Oct 2026 07:28:00 GMT",),
        {"last-modified": "Wed, 21 Oct 2026 07:28:00 GMT"},
    ),
    "a remark": (("X-Piping: a remark",), {"x-piping": "a remark"}),
    "a name": (
        ('Content-Disposition: inline; filename="../own.txt"',),
        {"content-disposition": "attachment; filename=\"own.txt\"; filename*=UTF-8''own.txt"},
    ),
    "what each download has": ((), {"accept-ranges": "bytes", "cache-control": "no-store", "x-robots-tag": "none"}),
}


@pytest.mark.parametrize(("sent", "expected"), HEADERS.values(), ids=HEADERS)
def test_what_comes_with_the_file(sent: tuple[str, ...], expected: dict[str, str], server: Server, key: str) -> None:
    """A difference: the original tells the receiver a name, but no type and no length."""
    sender = peer(server).put(key, DATA, *sent)
    wait_for_offer(server, key)
    answer = receive(server, key)
    assert {name: answer.get(name) for name in expected} == expected
    assert answer["content-length"] == str(len(DATA))
    assert answer["etag"]
    check_completed(sender)


NAMES = {
    "one segment": ("/named-{}.txt", "attachment; filename=\"named-{0}.txt\"; filename*=UTF-8''named-{0}.txt"),
    "several segments": ("/team/2026/{}.pdf", "attachment; filename=\"{0}.pdf\"; filename*=UTF-8''{0}.pdf"),
    "not ASCII": ("/na%C3%AFve-{}", "attachment; filename=\"na_ve-{0}\"; filename*=UTF-8''na%C3%AFve-{0}"),
    "a quote": ("/a%22b-{}", "attachment; filename=\"a_b-{0}\"; filename*=UTF-8''a%22b-{0}"),
}


@pytest.mark.parametrize(("path", "disposition"), NAMES.values(), ids=NAMES)
def test_the_name_is_that_of_the_path(path: str, disposition: str, server: Server) -> None:
    """As an attachment; a difference: a key may have several segments."""
    number = next(_numbers)
    sender = offer(server, path.format(number))
    assert receive(server, path.format(number))["content-disposition"] == disposition.format(number)
    check_completed(sender)


BROWSERS = {
    "a navigation": ("User-Agent: Mozilla/5.0", "Accept: text/html,*/*", "Sec-Fetch-Mode: navigate"),
    "an old navigation": ("User-Agent: Mozilla/5.0", "Accept: text/html,*/*"),
    "a previewer": ("User-Agent: WhatsApp/2.23",),
    "another previewer": ("User-Agent: Slackbot-LinkExpanding 1.0", "Accept: text/html"),
}


@pytest.mark.parametrize("fields", BROWSERS.values(), ids=BROWSERS)
def test_there_is_no_landing_page(fields: tuple[str, ...], server: Server, key: str) -> None:
    """A browser gets what curl gets: the text when nothing is there, and the bytes."""
    check_text(receive(server, key, *fields), 404, NOTHING)
    sender = offer(server, key)
    answer = receive(server, key, *fields)
    assert (answer.status, answer.body) == (200, DATA)
    assert answer["content-type"] == "application/octet-stream"
    assert answer["content-disposition"].startswith("attachment")
    check_completed(sender)


# Nothing there, and options.

IGNORED = [
    "wait=5",
    "wait=3600",
    "wait=zz",
    "wait=-1",
    "wait=99999999",
    "wait=1&wait=2",
    "readers=2",
    "readers=0",
    "n=3",
    "download",
    "nonsense",
    "=",
    "wait=%zz",
    "%ff=1",
]
IGNORED_FROM_SENDERS = [
    *IGNORED,
    "wait=0",
    "ttl=5",
    "downloads=1",
    "store=nowhere",
    "name=other.txt",
    "name=",
    "digest=sha-256",
    "digest=md5",
    "forward=spool",
]


def test_nothing_there_is_404_at_once(server: Server, key: str) -> None:
    answer = receive(server, key)
    check_text(answer, 404, NOTHING)
    assert answer["x-content-type-options"] == "nosniff"


def test_nothing_there_as_json(server: Server, key: str) -> None:
    answer = receive(server, key, "Accept: application/json")
    assert (answer.status, answer["content-type"]) == (404, "application/json")
    assert json.loads(answer.body) == {"error": NOTHING, "status": 404}


@pytest.mark.parametrize("query", IGNORED)
def test_options_of_a_receiver_are_ignored(query: str, server: Server, key: str) -> None:
    """Nobody waits, whatever is asked for; with a sender there, the file comes."""
    check_text(receive(server, f"{key}?{query}"), 404, NOTHING)
    assert server.gauges()["key_waiters"] == 0
    sender = offer(server, key)
    assert receive(server, f"{key}?{query}").body == DATA
    check_completed(sender)


@pytest.mark.parametrize("query", IGNORED_FROM_SENDERS)
def test_options_of_a_sender_are_ignored(query: str, server: Server, key: str) -> None:
    """It waits, one receiver is enough, and the name is that of the path."""
    sender = offer(server, f"{key}?{query}")
    assert sender.hears_nothing()
    answer = receive(server, key)
    assert (answer.status, answer.body, answer.get("repr-digest")) == (200, DATA, None)
    assert f'filename="{key.strip("/")}"' in answer["content-disposition"]
    reply = sender.answer()
    assert (reply.status, reply.text, reply.get("repr-digest")) == (200, COMPLETED, None)


def test_a_receiver_that_came_too_early_is_not_remembered(server: Server, key: str) -> None:
    """The earliest version held the receiver; here the sender waits for another one."""
    early = peer(server).get(key)
    check_text(early.answer(), 404, NOTHING)
    sender = offer(server, key)
    assert sender.hears_nothing()
    assert early.get(key).answer().body == DATA  # the connection is as good as a new one
    check_completed(sender)


def test_head_takes_nothing(server: Server, key: str) -> None:
    assert ask(server, "HEAD", key).status == 404
    sender = offer(server, key)
    answer = ask(server, "HEAD", key)
    assert (answer.status, answer["content-length"], answer.body) == (200, str(len(DATA)), b"")
    assert sender.hears_nothing()
    assert receive(server, key).body == DATA
    check_completed(sender)


def test_a_look_takes_nothing(server: Server, key: str) -> None:
    """As in beam: a range that ends before the end is no delivery."""
    sender = offer(server, key)
    answer = receive(server, key, "Range: bytes=0-3")
    assert (answer.status, answer.body) == (206, DATA[:4])
    assert sender.hears_nothing()
    assert receive(server, key).body == DATA
    check_completed(sender)


# The wait of the sender.

# A monotonic clock that goes on by as many seconds as the file says.
CLOCK = """
import os, sys, time
from pathlib import Path
real, mark = time.monotonic, Path({mark!r})
time.monotonic = lambda: real() + (float(mark.read_text()) if mark.exists() else 0)
from twisted.application.twist._twist import Twist
sys.argv[0] = "twist"
Twist.main()
"""


def pass_time(mark: Path, seconds: float) -> None:
    """From now on the server's clock is so much ahead."""
    mark.with_suffix(".new").write_text(str(seconds))
    mark.with_suffix(".new").replace(mark)


@pytest.mark.parametrize("profile", ["hold", "hold:put-wait=forever"])
@pytest.mark.parametrize("size", [len(DATA), LARGE], ids=["small", "large"])
def test_the_wait_has_no_bound(size: int, profile: str, tmp_path: Path, key: str) -> None:
    """A week later the sender still waits, whether its body is whole or held back; nor does --max-wait bound it."""
    mark, data = tmp_path / "mark", random.Random(2).randbytes(size)
    command = (sys.executable, "-c", CLOCK.format(mark=str(mark)))
    with Server("--profile", profile, "--max-wait", "1", log=tmp_path / "log", command=command) as server:
        before = server.descriptors()
        sender = peer(server).ask("PUT", key, f"Content-Length: {size}")
        sent = sender.fill(data)
        assert (sent < size) == (size == LARGE)
        wait_for_offer(server, key)
        for seconds in (301, 3601, 7 * 86400):
            pass_time(mark, seconds)
            for _ in range(3):
                assert ask(server, "HEAD", key).status == 200
        assert sender.hears_nothing()
        sending = Background(lambda: sender.send(data[sent:]))
        assert receive(server, key).body == data
        sending.result()
        check_completed(sender)
        close_all()
        server.until_clean(before)


@pytest.mark.parametrize(
    "flags", [("--profile", "hold:put-wait=0.3"), ("--profile", "hold", "--put-wait-timeout", "0.3")], ids=" ".join
)
def test_a_bound_that_the_operator_gives_holds(flags: tuple[str, ...], tmp_path: Path, key: str) -> None:
    """As a knob of the profile or as a flag: then nobody came, and the key is free."""
    with Server(*flags, log=tmp_path / "log") as server:
        before = server.descriptors()
        assert peer(server).put(key, DATA).answer().status == 504
        check_text(receive(server, key), 404, NOTHING)
        close_all()
        server.until_clean(before)


def test_a_sender_is_held_back_until_its_receiver_comes(server: Server, key: str) -> None:
    """Without a receiver no more is taken than the ring holds; then every byte arrives."""
    data = random.Random(3).randbytes(LARGE)
    sender = peer(server).ask("PUT", key, f"Content-Length: {LARGE}")
    sent = sender.fill(data)
    assert 0 < sent < LARGE - (4 << 20)
    assert server.gauges()["memory_usage"] <= 16 << 20
    sending = Background(lambda: sender.send(data[sent:]))
    assert receive(server, key).body == data
    sending.result()
    check_completed(sender)


def test_the_sender_hears_nothing_before_the_receiver_has_it_all(server: Server, key: str) -> None:
    """A receiver that takes nothing for a while holds the answer back."""
    data = random.Random(4).randbytes(LARGE)
    sender = peer(server)
    sending = Background(lambda: sender.put(key, data))
    wait_for_offer(server, key)
    receiver = slow_peer(server).get(key)
    taken = receiver.take(1000)
    assert sender.hears_nothing(0.5)
    assert taken + receiver.answer().body == data
    sending.result()
    check_completed(sender)


# One sender at a time.


def refused(server: Server, path: str) -> None:
    """Other senders are refused under ``path``: whole or not, and before the body if they ask."""
    for method in ("PUT", "POST"):
        other = peer(server).ask(method, path, body=b"other")
        check_text(other.answer(), 409, IN_USE)
    asking = peer(server).ask("PUT", path, "Expect: 100-continue", "Content-Length: 1000000")
    assert asking.first_status() == 409
    check_text(asking.answer(), 409, IN_USE)


def test_a_second_sender_is_refused_while_the_first_waits(server: Server, key: str) -> None:
    sender = offer(server, key)
    refused(server, key)
    assert sender.hears_nothing()
    assert receive(server, key).body == DATA
    check_completed(sender)


def test_a_second_sender_is_refused_while_the_first_sends(server: Server, key: str) -> None:
    """A difference: the original takes a second one as soon as the download has begun."""
    sender = offer(server, key, DATA[:10], len(DATA))
    receiver = peer(server).get(key)
    assert receiver.take(10) == DATA[:10]
    refused(server, key)
    sender.send(DATA[10:])
    assert receiver.answer().body == DATA[10:]
    check_completed(sender)


def test_a_second_sender_is_refused_while_the_receiver_is_awaited_back(server: Server, key: str) -> None:
    sender = offer(server, key, DATA[:10], len(DATA))
    receiver = peer(server).get(key)
    assert receiver.take(10) == DATA[:10]
    receiver.reset()
    until(lambda: server.gauges()["active_downloads"] == 0, "the receiver has left")
    refused(server, key)
    sender.send(DATA[10:])
    assert receive(server, key, "Range: bytes=10-").body == DATA[10:]
    check_completed(sender)


def test_a_refusal_as_json(server: Server, key: str) -> None:
    sender = offer(server, key)
    answer = peer(server).put(key, b"other", "Accept: application/json").answer()
    assert (answer.status, json.loads(answer.body)) == (409, {"error": IN_USE, "status": 409})
    assert receive(server, key).body == DATA
    check_completed(sender)


def test_curl_hears_of_a_refusal(server: Server, key: str, tmp_path: Path) -> None:
    """With a large file too it prints the text, and ends with 22."""
    with (tmp_path / "large").open("wb") as file:
        file.truncate(LARGE)
    sender = offer(server, key)
    other = Curl("--fail-with-body", "-T", tmp_path / "large", server.url(key)).done()
    assert (other.code, other.out.rstrip("\n")) == (22, IN_USE)
    assert receive(server, key).body == DATA
    check_completed(sender)


# One receiver at a time.


def test_a_second_receiver_finds_nothing(server: Server, key: str) -> None:
    """While one is being served, and behind the end; the first is not disturbed."""
    sender = offer(server, key, DATA[:10], len(DATA))
    receiver = peer(server).get(key)
    assert receiver.take(10) == DATA[:10]
    check_text(receive(server, key), 404, NOTHING)
    check_text(receive(server, key, "Range: bytes=5-"), 404, NOTHING)
    check_text(receive(server, f"{key}?wait=5"), 404, NOTHING)
    sender.send(DATA[10:])
    assert receiver.answer().body == DATA[10:]
    check_completed(sender)
    check_text(receive(server, key), 404, NOTHING)


def test_of_two_receivers_at_once_one_is_served(server: Server, key: str) -> None:
    """Each byte goes to one of them only."""
    sender = offer(server, key, DATA[:10], len(DATA))
    receivers = [peer(server).get(key) for _ in range(5)]
    assert sorted(receiver.head().status for receiver in receivers) == [200, 404, 404, 404, 404]
    sender.send(DATA[10:])
    bodies = [receiver.answer().body for receiver in receivers if receiver.head().status == 200]
    assert bodies == [DATA]
    check_completed(sender)


def test_the_key_is_free_behind_the_end(server: Server, key: str) -> None:
    """Again and again, on the same connections."""
    sender, receiver = peer(server), peer(server)
    for body in (b"first", b"second one", b"third"):
        sender.put(key, body)
        wait_for_offer(server, key)
        answer = receiver.get(key).answer()
        assert (answer.status, answer.body) == (200, body)
        check_completed(sender)
        check_text(receive(server, key), 404, NOTHING)


def test_many_transfers_at_once(server: Server) -> None:
    """Each receiver gets what was sent under its name."""
    bodies = {f"/many-{next(_numbers)}": random.Random(n).randbytes(1000 * n) for n in range(1, 31)}
    senders = [peer(server).put(path, body) for path, body in bodies.items()]
    for path in bodies:
        wait_for_offer(server, path)
    assert server.gauges()["pipes"] == len(bodies)
    receivers = {path: peer(server).get(path) for path in reversed(bodies)}
    assert {path: receiver.answer().body for path, receiver in receivers.items()} == bodies
    for sender in senders:
        check_completed(sender)


# A receiver that leaves.


def test_a_receiver_that_breaks_off_comes_back(server: Server, key: str) -> None:
    """It gets the rest as 206, the sender goes on, and hears that it is completed."""
    sender = offer(server, key, DATA[:10], len(DATA))
    receiver = peer(server).get(key)
    assert receiver.take(10) == DATA[:10]
    receiver.reset()
    until(lambda: server.gauges()["active_downloads"] == 0, "the receiver has left")
    assert sender.hears_nothing()
    again = peer(server).get(key, "Range: bytes=10-")
    assert (again.head().status, again.head()["content-range"]) == (206, "bytes 10-19/20")
    check_text(receive(server, key), 404, NOTHING)  # it is the one that is served
    sender.send(DATA[10:])
    assert again.answer().body == DATA[10:]
    check_completed(sender)


def test_no_byte_is_lost_when_receivers_break_off(server: Server, key: str) -> None:
    """Neither those in the buffers: each comes back for what the one before has not read."""
    data = random.Random(5).randbytes(LARGE)
    sender = peer(server)
    sending = Background(lambda: sender.put(key, data))
    wait_for_offer(server, key)
    got = b""
    for part in (1 << 20, 3, 7 << 20):
        receiver = peer(server).get(key, *([f"Range: bytes={len(got)}-"] if got else []))
        got += receiver.take(part)
        receiver.reset()
        until(lambda: server.gauges()["active_downloads"] == 0, "the receiver has left")
    answer = receive(server, key, f"Range: bytes={len(got)}-")
    assert answer.status == 206
    assert got + answer.body == data
    sending.result()
    check_completed(sender)


def test_a_receiver_that_starts_anew_gets_everything(server: Server, key: str) -> None:
    """Without Range it is served from the beginning, as long as that is there."""
    sender = offer(server, key, DATA[:10], len(DATA))
    receiver = peer(server).get(key)
    assert receiver.take(10) == DATA[:10]
    receiver.reset()
    until(lambda: server.gauges()["active_downloads"] == 0, "the receiver has left")
    again = peer(server).get(key)
    assert again.take(10) == DATA[:10]
    sender.send(DATA[10:])
    assert (again.head().status, again.answer().body) == (200, DATA[10:])
    check_completed(sender)


def test_curl_resumes(server: Server, key: str, tmp_path: Path) -> None:
    """``curl -C -`` makes the part whole."""
    data = random.Random(6).randbytes(8 << 20)
    (tmp_path / "sent").write_bytes(data)
    sender = Curl("-f", "-T", tmp_path / "sent", server.url(key))
    wait_for_offer(server, key)
    first = peer(server).get(key)
    (tmp_path / "got").write_bytes(first.take(1 << 20))
    first.reset()
    until(lambda: server.gauges()["active_downloads"] == 0, "the receiver has left")
    assert Curl("-f", "-C", "-", "-o", tmp_path / "got", server.url(key)).done().code == 0
    assert (tmp_path / "got").read_bytes() == data
    assert sender.done().out == COMPLETED


@pytest.mark.parametrize("leave", [Peer.close, Peer.reset], ids=["closes", "resets"])
def test_a_receiver_that_leaves_is_no_success(leave: Callable[[Peer], None], hasty: Server, key: str) -> None:
    """A difference: the original tells the sender of a receiver that has left that it is completed."""
    sender = offer(hasty, key, DATA[:10], len(DATA))
    receiver = peer(hasty).get(key)
    assert receiver.take(10) == DATA[:10]
    leave(receiver)
    check_left(sender)
    check_text(receive(hasty, key), 404, NOTHING)


def test_a_receiver_that_leaves_a_large_file_is_no_success(hasty: Server, key: str) -> None:
    """Nor when the sender is held back and the receiver's buffers are full."""
    sender = peer(hasty)
    sending = Background(lambda: sender.put(key, bytes(LARGE)))
    wait_for_offer(hasty, key)
    receiver = slow_peer(hasty).get(key)
    assert receiver.take(1000) == bytes(1000)
    receiver.close()
    check_left(sender)
    sender.close()
    with suppress(OSError):  # it was still sending when it was refused
        sending.result()
    check_text(receive(hasty, key), 404, NOTHING)


def check_left(sender: Peer) -> None:
    """``sender`` hears that its receiver has left."""
    answer = sender.answer()
    assert answer.status == 502
    assert answer["content-type"].startswith("text/plain")
    assert "completed" not in answer.text


def test_a_key_is_free_again_when_nobody_came_back(hasty: Server, key: str) -> None:
    """The next transfer under it is like any other."""
    sender = offer(hasty, key, DATA[:10], len(DATA))
    receiver = peer(hasty).get(key)
    receiver.take(10)
    receiver.close()
    assert sender.answer().status == 502
    again = offer(hasty, key, b"another")
    assert receive(hasty, key).body == b"another"
    check_completed(again)


def test_the_flag_for_coming_back_holds_here_too(tmp_path: Path, key: str) -> None:
    """``--resume-timeout`` is a knob of every profile."""
    with Server("--profile", "hold", "--resume-timeout", "0.3", log=tmp_path / "log") as server:
        before = server.descriptors()
        sender = offer(server, key, DATA[:10], len(DATA))
        receiver = peer(server).get(key)
        receiver.take(10)
        receiver.close()
        assert sender.answer().status == 502
        close_all()
        server.until_clean(before)


# A sender that leaves.


@pytest.mark.parametrize("leave", [Peer.close, Peer.reset], ids=["closes", "resets"])
@pytest.mark.parametrize("sent", [10, len(DATA)], ids=["part", "whole"])
def test_a_sender_that_leaves_while_it_waits_frees_the_key(
    sent: int, leave: Callable[[Peer], None], server: Server, key: str
) -> None:
    """A difference: the original does not notice."""
    leave(offer(server, key, DATA[:sent], len(DATA)))
    check_free(server, key)


@pytest.mark.parametrize(
    ("leave", "profile"), [(Peer.close, "hold:put-wait=2"), (Peer.reset, "hold")], ids=["closes", "resets"]
)
def test_a_sender_that_leaves_while_it_is_held_back_frees_the_key(
    leave: Callable[[Peer], None], profile: str, tmp_path: Path, key: str
) -> None:
    """A close waits behind the bytes that nobody reads, so that its key is free when the wait is over, or they are."""
    with Server("--profile", profile, log=tmp_path / "log") as server:
        before = server.descriptors()
        sender = peer(server).ask("PUT", key, f"Content-Length: {LARGE}")
        assert sender.fill(bytes(LARGE)) < LARGE
        leave(sender)
        check_free(server, key)
        close_all()
        server.until_clean(before)


def test_a_receiver_of_a_sender_that_closed_while_it_was_held_back(tmp_path: Path, key: str) -> None:
    """It is cut, and the key is free."""
    with Server("--profile", "hold", log=tmp_path / "log") as server:
        sender = peer(server).ask("PUT", key, f"Content-Length: {LARGE}")
        assert sender.fill(bytes(LARGE)) < LARGE
        sender.close()
        with pytest.raises(Cut):
            receive(server, key)
        check_free(server, key)
        close_all()


def check_free(server: Server, path: str) -> None:
    """Nobody sends to ``path`` soon, and another sender can."""
    until(lambda: ask(server, "HEAD", path).status == 404, f"{path} is free")
    check_text(receive(server, path), 404, NOTHING)
    again = offer(server, path, b"another")
    assert receive(server, path).body == b"another"
    check_completed(again)


def test_a_curl_that_is_killed_while_it_waits_frees_the_key(server: Server, key: str, tmp_path: Path) -> None:
    (tmp_path / "sent").write_bytes(DATA)
    sender = Curl("-f", "-T", tmp_path / "sent", server.url(key))
    wait_for_offer(server, key)
    sender.kill()
    check_free(server, key)


def test_a_sender_that_has_sent_all_may_half_close(server: Server, key: str) -> None:
    """It has not left: it still hears how it ended."""
    sender = offer(server, key).half_close()
    assert receive(server, key).body == DATA
    check_completed(sender)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("leave", [Peer.close, Peer.reset], ids=["closes", "resets"])
def test_a_sender_that_dies_midway_cuts_its_receiver(
    leave: Callable[[Peer], None], chunked: bool, server: Server, key: str
) -> None:
    """What came of the file has no clean end, and the key is free."""
    sender = peer(server)
    if chunked:
        sender.put_chunked(key, [DATA[:10]], ends=False)
    else:
        sender.put(key, DATA[:10], length=len(DATA))
    wait_for_offer(server, key)
    receiver = peer(server).get(key)
    assert receiver.take(10) == DATA[:10]
    leave(sender)
    with pytest.raises(Cut):
        receiver.answer()
    check_free(server, key)


def test_a_receiver_of_old_http_sees_the_cut(server: Server, key: str) -> None:
    """Where no length and no chunk tells it, the connection is reset."""
    sender = peer(server).put_chunked(key, [DATA[:10]], ends=False)
    wait_for_offer(server, key)
    receiver = peer(server).get(key, version="1.0")
    assert receiver.take(10) == DATA[:10]
    sender.reset()
    with pytest.raises(ConnectionResetError):
        receiver.answer()


def test_curl_sees_the_cut(server: Server, key: str, tmp_path: Path) -> None:
    """The receiver's curl ends with 18."""
    sender = offer(server, key, DATA[:10], len(DATA))
    receiver = Curl("-f", "-o", tmp_path / "got", server.url(key))
    until(lambda: server.gauges()["active_downloads"] == 1, "the receiver is served")
    sender.close()
    assert receiver.done().code == 18


# The page, and beam's own paths.


def test_the_dashboard_lists_the_keys_in_clear(server: Server) -> None:
    """Anybody may look; names are escaped, and those that have ended are gone."""
    paths = [f"/listed-{next(_numbers)}", f"/listed-%3Cscript%3E-{next(_numbers)}"]
    senders = [offer(server, path) for path in paths]
    answer = receive(server, "/")
    assert (answer.status, answer["content-type"]) == (200, "text/html; charset=utf-8")
    assert paths[0].strip("/") in answer.text
    assert paths[1].strip("/").replace("%3C", "&lt;").replace("%3E", "&gt;") in answer.text
    assert "<script" not in answer.text
    for path, sender in zip(paths, senders, strict=True):
        assert receive(server, path).body == DATA
        check_completed(sender)
    assert "listed-" not in receive(server, "/").text


def test_the_dashboard_lists_what_runs(server: Server, key: str) -> None:
    """A transfer is on the page until its end."""
    sender = offer(server, key, DATA[:10], len(DATA))
    receiver = peer(server).get(key)
    assert receiver.take(10) == DATA[:10]
    assert key.strip("/") in receive(server, "/").text
    sender.send(DATA[10:])
    receiver.answer()
    check_completed(sender)
    assert key.strip("/") not in receive(server, "/").text


OWN = {
    "/-/health": (200, "ok\n"),
    "/favicon.ico": (204, ""),
    "/robots.txt": (200, "User-agent: *\nDisallow: /\n"),
}


@pytest.mark.parametrize("path", OWN)
def test_beams_own_paths(path: str, server: Server) -> None:
    answer = receive(server, path)
    assert (answer.status, answer.text) == OWN[path]


def test_version_and_help(server: Server) -> None:
    assert receive(server, "/-/version").text.startswith("beam ")
    assert "curl" in receive(server, "/-/help").text


@pytest.mark.parametrize("path", ["/", "/-/health", "/favicon.ico", "/robots.txt", "//x", "/a/../b"])
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_path_that_is_no_key_takes_no_file(method: str, path: str, server: Server) -> None:
    assert peer(server).ask(method, path, body=DATA).answer().status == 400


@pytest.mark.parametrize("method", ["DELETE", "PATCH"])
def test_other_methods_do_nothing(method: str, server: Server, key: str) -> None:
    """405 says which there are; the sender goes on waiting."""
    sender = offer(server, key)
    answer = ask(server, method, key)
    assert answer.status == 405
    assert {"GET", "HEAD", "PUT", "POST"} <= set(answer["allow"].split(", "))
    assert receive(server, key).body == DATA
    check_completed(sender)


# The operator.


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, key: str) -> None:
    """The limits of the server hold here too."""
    with Server("--profile", "hold", "--max-pipe-size", "10", log=tmp_path / "log") as server:
        before = server.descriptors()
        assert peer(server).put(key, DATA).answer().status == 413
        sender = offer(server, key, DATA[:10])
        assert receive(server, key).body == DATA[:10]
        check_completed(sender)
        close_all()
        server.until_clean(before)


def test_the_first_signal_drains(tmp_path: Path) -> None:
    """What runs ends as it should, senders that nobody has come for and new ones hear 503, and the server ends."""
    with Server("--profile", "hold", log=tmp_path / "log") as server:
        waiting = offer(server, "/waiting")
        sender = offer(server, "/running", DATA[:10], len(DATA))
        receiver = peer(server).get("/running")
        assert receiver.take(10) == DATA[:10]
        server.signal(signal.SIGTERM)
        assert waiting.answer().status == 503
        assert peer(server).put("/late", DATA).answer().status == 503
        assert receive(server, "/-/health").status == 503
        sender.send(DATA[10:])
        assert receiver.answer().body == DATA[10:]
        check_completed(sender)
        close_all()
        assert server.wait() == 0


WRONG = [
    ("--profile", "no-such-profile"),
    ("--profile", "hold:no-such-knob=1"),
    ("--profile", "hold:put-wait=soon"),
    ("--profile", "hold:put-wait"),
    ("--mount", "/h=no-such-profile"),
    ("--mount", "hold"),
]


@pytest.mark.parametrize("flags", WRONG, ids=" ".join)
def test_a_profile_that_cannot_be_is_told_in_one_line(flags: tuple[str, str]) -> None:
    """On standard error, with exit status 1, before anything is bound."""
    listen = ("--listen", f"127.0.0.1:{free_port()}")
    found = subprocess.run([twist(), "beam", *listen, *flags], capture_output=True, text=True, timeout=BOUND)
    assert found.returncode == 1
    assert found.stderr.count("\n") == 1
    assert flags[0] in found.stderr


@pytest.mark.parametrize("by", ["flag", "variable"])
def test_the_profile_comes_from_a_variable_too(by: str, tmp_path: Path, key: str) -> None:
    """``BEAM_PROFILE`` is as good as ``--profile``."""
    flags = ("--profile", "hold") if by == "flag" else ()
    env = {**os.environ, **({"BEAM_PROFILE": "hold"} if by == "variable" else {})}
    with Server(*flags, log=tmp_path / "log", env=env) as server:
        check_text(receive(server, key), 404, NOTHING)


# On mounts and listeners.


def test_a_mount_has_keys_of_its_own(mounted: Server, key: str) -> None:
    """The same name on three mounts is three files, each with the manners of its profile."""
    senders = {path: peer(mounted).put(path, path.encode()) for path in (key, f"/h{key}", f"/c{key}")}
    for path in senders:
        wait_for_offer(mounted, path)
    assert mounted.gauges()["pipes"] == 3
    assert senders[f"/c{key}"].answer().text == f"stored {len(key) + 2} bytes, to be claimed once\n"
    for path in (key, f"/h{key}"):
        answer = receive(mounted, path)
        assert (answer.status, answer.body) == (200, path.encode())
        assert f'filename="{key.strip("/")}"' in answer["content-disposition"]
    check_completed(senders[f"/h{key}"])
    assert senders[key].answer().text == f"delivered {len(key)} bytes to 1 receiver\n"
    location = receive(mounted, f"/c{key}")["location"]
    assert receive(mounted, location).body == f"/c{key}".encode()


def test_a_mount_answers_as_its_profile(mounted: Server, key: str) -> None:
    """404 at once, 409, and 502 after the time of the mount."""
    check_text(receive(mounted, f"/h{key}?wait=zz"), 404, NOTHING)
    sender = offer(mounted, f"/h{key}", DATA[:10], len(DATA))
    refused(mounted, f"/h{key}")
    receiver = peer(mounted).get(f"/h{key}")
    assert receiver.take(10) == DATA[:10]
    check_text(receive(mounted, f"/h{key}"), 404, NOTHING)
    receiver.close()
    assert sender.answer().status == 502


def test_beside_a_mount_the_default_holds(mounted: Server) -> None:
    """A key that only begins like the mount is none of it."""
    path = f"/hx{next(_numbers)}"
    sender = offer(mounted, path)
    assert receive(mounted, f"{path}?wait=zz").status == 400
    assert receive(mounted, path).body == DATA
    assert sender.answer().text == f"delivered {len(DATA)} bytes to 1 receiver\n"


def test_the_dashboard_of_a_mount(mounted: Server) -> None:
    """It lists the keys of the mount in clear, and the page of the server does not."""
    path = f"/h/mounted-{next(_numbers)}"
    sender = offer(mounted, path)
    answer = receive(mounted, "/h/")
    assert (answer.status, answer["content-type"]) == (200, "text/html; charset=utf-8")
    assert path.removeprefix("/h/") in answer.text
    assert path.removeprefix("/h/") not in receive(mounted, "/").text
    assert receive(mounted, path).body == DATA
    check_completed(sender)


def test_a_listener_has_keys_of_its_own(tmp_path: Path, key: str) -> None:
    """``--listen hold@...`` serves the profile there, and the default elsewhere."""
    port = free_port()
    with Server("--listen", f"hold@127.0.0.1:{port}", log=tmp_path / "log") as server:
        before = server.descriptors()

        def there() -> Peer:
            return Peer(socket.create_connection(("127.0.0.1", port), timeout=BOUND))

        sender = there().put(key, b"held")
        until(lambda: there().ask("HEAD", key, "Connection: close").answer().status == 200, "somebody sends")
        check_text(there().put(key, DATA).answer(), 409, IN_USE)
        assert ask(server, "HEAD", key).status == 404
        plain = offer(server, key, b"plain")
        assert there().get(key).answer().body == b"held"
        check_completed(sender)
        assert receive(server, key).body == b"plain"
        assert plain.answer().text == "delivered 5 bytes to 1 receiver\n"
        close_all()
        server.until_clean(before)
