"""``--profile drop`` answers as file-pipe does: each line of its behaviour, and its defects that beam has not.

Everything is over real HTTP with a real server.  Where beam differs from file-pipe on purpose, the test says so.
"""

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from contract.peers import LAST_CHUNK, Answer, Background, Cut, Peer, chunk, close_all
from forward.targets import ScriptedTarget, accept, late, never_answers, refusing_port
from harness import BOUND, Server, curl, free_port, read_all, twist, until

BARE = (
    *("LISTEN", "DATA_DIR", "MAX_DISK", "MAX_PIPE_SIZE", "PUT_TTL", "GET_TTL", "GET_WAIT_TIMEOUT"),
    *("METRICS_ADDR", "ALLOW_FORWARD", "FORWARD_TIMEOUT"),
)
CLEAN = {name: value for name, value in os.environ.items() if name not in BARE and not name.startswith("BEAM_")}
FOREVER = ":get-wait=0.3:put-ttl=3600:get-ttl=3600"  # nothing that is kept goes while the tests run
PATIENT = ":get-wait=60:put-ttl=3600:get-ttl=3600"  # and no receiver that waits
AT_ONCE = 10.0  # seconds on a busy machine for what the original does after 30
DATA = b"0123456789"
NOT_THERE = "key not found"
TAKEN = "key already exists"
FULL = "disk quota exceeded, try again later"

_running: list[Server] = []


@pytest.fixture(autouse=True)
def everybody_leaves() -> Iterator[None]:
    """Behind each test its connections are closed, and every server that still runs has noticed it."""
    yield
    close_all()
    for server in _running:
        if server.process.poll() is None:
            until_idle(server)


# The server.


def drop(folder: Path, knobs: str = "", *flags: str) -> Server:
    """A server with the profile; ``knobs`` begin with a colon."""
    flags = ("--profile", f"drop{knobs}", "--data-dir", str(folder / "data"), "--resume-timeout", "0.3", *flags)
    _running.append(Server(*flags, log=folder / "log", env=CLEAN))
    return _running[-1]


def until_idle(server: Server) -> None:
    """Until nobody sends, receives or waits."""
    moving = ("active_uploads", "active_downloads", "key_waiters", "active_forwards")
    until(lambda: not any(server.gauges()[name] for name in moving), "nothing moves")


def check_nothing_left(server: Server, folder: Path, descriptors: int) -> None:
    """Only kept files are open beside what was; two signals end the server well, and it leaves no file."""
    close_all()
    until_idle(server)
    until(lambda: server.descriptors() <= descriptors + server.gauges()["pipes"], "the descriptors are closed")
    server.signal(signal.SIGTERM)
    until(lambda: "draining" in server.log.read_text(), "the first signal is heard")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert not list((folder / "data").glob("server-*"))
    log = server.log.read_text()
    assert "Traceback" not in log and '"log_failure"' not in log


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Keeps everything for longer than the tests run, and lets nobody wait for long."""
    folder = tmp_path_factory.mktemp("drop")
    with drop(folder, FOREVER) as started:
        before = started.descriptors()
        yield started
        check_nothing_left(started, folder, before)


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Keeps everything, and lets receivers wait, for longer than the tests run."""
    folder = tmp_path_factory.mktemp("patient")
    with drop(folder, PATIENT) as started:
        before = started.descriptors()
        yield started
        check_nothing_left(started, folder, before)


def connect(server: Server, receive_buffer: int | None = None) -> Peer:
    """A new connection."""
    if receive_buffer is None:
        return Peer(server.connect())
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.connect(("127.0.0.1", server.port))
    return Peer(connection)


def heard(peer: Peer) -> Answer:
    """The whole answer on a connection that is not used again."""
    answer = peer.answer()
    assert answer["server"].startswith("beam/")
    peer.close()
    return answer


def ask(server: Server, method: str, target: str, *fields: str, body: bytes = b"") -> Answer:
    """The answer to a request on a connection of its own."""
    return heard(connect(server).ask(method, target, *fields, body=body))


def get(server: Server, target: str, *fields: str) -> Answer:
    """The answer to a GET."""
    return ask(server, "GET", target, *fields)


def put(server: Server, target: str, body: bytes = DATA, *fields: str) -> Answer:
    """The answer to a PUT of known length."""
    return heard(connect(server).put(target, body, *fields))


def check_stored(answer: Answer) -> None:
    """The sender hears 200 and no word."""
    assert (answer.status, answer.body) == (200, b""), answer


def check_error(answer: Answer, status: int, text: str) -> None:
    """The status, and the text as it stands."""
    assert (answer.status, answer.text.removesuffix("\n")) == (status, text), answer
    assert answer["content-type"].startswith("text/plain")


def check_cut(receiver: Peer) -> None:
    """The answer ends before its end."""
    assert receiver.head().status == 200
    with pytest.raises((Cut, ConnectionResetError)):
        receiver.answer()


def check_free(server: Server, key: str, bound: float = AT_ONCE) -> None:
    """Another file is taken under ``key`` soon, and is what receivers get."""
    until(lambda: put(server, key, b"the next").status == 200, f"{key} is free", bound)
    assert get(server, key).body == b"the next"


# The ways to send.

BOUNDARY = "x1d8f"
FORM = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
FORM_END = f"\r\n--{BOUNDARY}--\r\n".encode()
REPORT = 'form-data; name="file"; filename="report.pdf"'
WAYS = ("length", "chunked", "form", "form in chunks")


def part(data: bytes, disposition: str = REPORT, *fields: str) -> bytes:
    """A part of a form, without its end."""
    head = "\r\n".join([f"--{BOUNDARY}", f"Content-Disposition: {disposition}", *fields, "", ""])
    return head.encode() + data


def form(*parts: bytes) -> bytes:
    """A form of ``parts``."""
    return b"\r\n".join(parts) + FORM_END


def put_form(server: Server, key: str, *parts: bytes) -> Answer:
    """The answer to a form."""
    return put(server, key, form(*parts), FORM)


def begin(server: Server, key: str, way: str, data: bytes, size: int) -> Peer:
    """A sender that has sent ``data``, the beginning of a file of ``size`` bytes."""
    sender = connect(server)
    match way:
        case "length":
            return sender.put(key, data, length=size)
        case "chunked":
            return sender.put_chunked(key, [data] if data else [], ends=False)
        case "form":
            length = len(part(b"")) + size + len(FORM_END)
            return sender.ask("PUT", key, FORM, f"Content-Length: {length}").send(part(data))
        case _:
            return sender.put_chunked(key, [part(data)], FORM, ends=False)


def go_on(sender: Peer, way: str, data: bytes) -> None:
    """Send more of the file."""
    sender.send(chunk(data) if way in ("chunked", "form in chunks") else data)


def finish(sender: Peer, way: str) -> Answer:
    """End the file; what the sender hears."""
    match way:
        case "chunked":
            sender.send(LAST_CHUNK)
        case "form":
            sender.send(FORM_END)
        case "form in chunks":
            sender.send(chunk(FORM_END) + LAST_CHUNK)
        case _:
            pass
    return sender.answer()


def send(server: Server, key: str, way: str, data: bytes) -> Answer:
    """Send a whole file."""
    return finish(begin(server, key, way, data, len(data)), way)


def waiting(server: Server, *targets: str) -> list[Peer]:
    """Receivers that wait for a sender."""
    before = server.gauges()["key_waiters"]
    receivers = [connect(server).get(target) for target in targets]
    until(lambda: server.gauges()["key_waiters"] == before + len(targets), "the receivers wait")
    return receivers


# Methods.


@pytest.mark.parametrize("target", ["/some-file", "/", "/" + "k" * 600])
@pytest.mark.parametrize("method", ["POST", "DELETE", "PATCH", "OPTIONS", "HEAD"])
def test_only_put_and_get_are_taken(method: str, target: str, server: Server) -> None:
    """Any other method is 405, whatever its key (difference: the original looks at the key first)."""
    answer = ask(server, method, target)
    assert (answer.status, answer["allow"]) == (405, "GET, PUT")
    if method == "HEAD":
        assert not answer.body
    else:
        check_error(answer, 405, "only PUT and GET are supported")


def test_a_method_that_nobody_knows(server: Server) -> None:
    """Is 405 as well."""
    answer = ask(server, "BREW", "/some-file")
    check_error(answer, 405, "only PUT and GET are supported")
    assert answer["allow"] == "GET, PUT"


@pytest.mark.parametrize("method", ["POST", "DELETE", "PATCH", "OPTIONS", "HEAD"])
def test_another_method_does_nothing_to_a_file(method: str, server: Server, key: str) -> None:
    """It neither describes, changes nor removes what is there."""
    check_stored(put(server, key))
    assert ask(server, method, key).status == 405
    assert get(server, key).body == DATA


def test_a_form_with_post_is_refused(server: Server, key: str, tmp_path: Path) -> None:
    """Plain ``curl -F`` fails as with the original; nothing of it is stored."""
    (tmp_path / "file").write_bytes(DATA)
    with curl("-w", "%{http_code}", "-F", f"f=@{tmp_path / 'file'}", server.url(key)) as sender:
        out, _ = sender.communicate(timeout=BOUND)
    assert out.replace(b"\n", b"") == b"only PUT and GET are supported405"
    check_error(get(server, key), 404, NOT_THERE)


# Keys.

SAME = {
    "one slash": ("/same-1", "/same-1"),
    "two slashes": ("//same-2", "/same-2"),
    "many slashes": ("/same-3", "////same-3"),
    "segments": ("/same-4/a/b.txt", "/same-4/a/b.txt"),
    "two slashes and segments": ("//same-5/a", "/same-5/a"),
    "queries": ("/same-6?a=b", "/same-6?c"),
    "a query and none": ("/same-7?", "/same-7"),
    "escapes (difference)": ("/same-8%61", "/same-8a"),
    "an escaped space": ("/same%209", "/same%209"),
    "an escaped slash": ("/same-10%2Fa", "/same-10/a"),
    "an escaped slash before it": ("/%2Fsame-11", "/same-11"),
    "UTF-8": ("/same-gr%C3%BC%C3%9Fe", "/same-gr\u00fc\u00dfe"),
    "dots": ("/same-12/../a", "/same-12/../a"),
    "a slash behind it": ("/same-13/", "/same-13/"),
    "an empty segment": ("/same-14//a", "///same-14//a"),
}


@pytest.mark.parametrize(("sent", "fetched"), SAME.values(), ids=SAME)
def test_the_same_key(sent: str, fetched: str, server: Server) -> None:
    """The path without its leading slashes, decoded, and without the query."""
    check_stored(put(server, sent))
    check_error(put(server, fetched), 409, TAKEN)
    assert get(server, fetched).body == DATA


OTHER = {
    "capitals": ("/other-1", "/OTHER-1"),
    "a segment more": ("/other-2", "/other-2/a"),
    "a segment less": ("/other-3/a", "/other-3"),
    "a part of it": ("/other-44", "/other-4"),
    "a slash behind it": ("/other-5/", "/other-5"),
    "an empty segment": ("/other-6//a", "/other-6/a"),
    "dots": ("/other-7/../a", "/a"),
}


@pytest.mark.parametrize(("sent", "fetched"), OTHER.values(), ids=OTHER)
def test_another_key(sent: str, fetched: str, server: Server) -> None:
    """Nothing else is the same."""
    check_stored(put(server, sent))
    check_error(get(server, fetched), 404, NOT_THERE)


@pytest.mark.parametrize(
    "target", ["/-/health", "/-/help", "/-/version", "/-/x", "/api/x", "/favicon.ico", "/robots.txt", "/index.html"]
)
def test_no_key_is_reserved(target: str, server: Server) -> None:
    """What are pages elsewhere are ordinary keys here."""
    check_error(get(server, target), 404, NOT_THERE)
    check_stored(put(server, target))
    answer = get(server, target)
    assert (answer.status, answer.body) == (200, DATA)


@pytest.mark.parametrize("target", ["/", "//", "///", "/?a=b", "/%2F"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_an_empty_key(method: str, target: str, server: Server) -> None:
    """There is no page at the root."""
    check_error(ask(server, method, target, "Accept: text/html"), 400, "missing key in path")


def test_an_empty_key_is_refused_with_a_body_too(server: Server) -> None:
    """A form as well, before anything is made of it."""
    check_error(put(server, "/"), 400, "missing key in path")
    check_error(put_form(server, "/", part(DATA)), 400, "missing key in path")


@pytest.mark.parametrize(
    "key", ["a" * 512, "b/" * 255 + "bb", "%63" * 512, "%C3%BC" * 256, "////" + "d" * 512], ids=lambda key: key[:6]
)
def test_a_key_of_512_bytes(key: str, server: Server) -> None:
    """The bytes are counted as they are decoded, without the leading slashes."""
    check_stored(put(server, f"/{key}"))
    assert get(server, f"/{key}").body == DATA


@pytest.mark.parametrize("key", ["a" * 513, "b/" * 256 + "b", "%C3%BC" * 256 + "x"], ids=lambda key: key[:6])
def test_a_longer_key(key: str, server: Server) -> None:
    """Is refused to both sides at once."""
    check_error(put(server, f"/{key}"), 400, "key exceeds 512 bytes")
    check_error(get(server, f"/{key}"), 400, "key exceeds 512 bytes")


@pytest.mark.parametrize("target", ["/bad%zz", "/bad%", "/bad%00", "/bad%0A", "/bad%FF"])
def test_a_key_that_is_refused_everywhere(target: str, server: Server) -> None:
    """A bad escape, a control, and what is not UTF-8 (difference: the original takes any bytes)."""
    for answer in (put(server, target), get(server, target)):
        assert answer.status == 400
        assert answer["content-type"].startswith("text/plain")


# The query.

QUERIES = (
    *("ttl=x", "ttl=0", "wait=zz", "wait=0", "wait=30", "readers=0", "readers=9", "downloads=0", "downloads=1"),
    *("store=nowhere", "digest=sha-256", "digest=x", "forward=x", "download", "nonsense", "%zz", "a=1&a=2", "?"),
)


@pytest.mark.parametrize("query", QUERIES)
def test_the_query_does_nothing(query: str, server: Server, key: str) -> None:
    """Options of beam's, good or bad, mean nothing to a sender or a receiver; the file stays."""
    answer = put(server, f"{key}?{query}")
    check_stored(answer)
    assert answer.get("repr-digest") is None
    for _ in range(2):
        answer = get(server, f"{key}?{query}")
        assert (answer.status, answer.body, answer["content-length"]) == (200, DATA, "10")
        assert answer.get("repr-digest") is None
    check_error(put(server, f"{key}?{query}"), 409, TAKEN)


def test_the_query_names_no_file(server: Server, key: str) -> None:
    """Nor does ``?name=``."""
    check_stored(put(server, f"{key}?name=x.txt"))
    assert get(server, f"{key}?name=x.txt").get("content-disposition") is None


@pytest.mark.parametrize("query", ["wait=600", "wait=0", "wait=zz"])
def test_the_query_changes_no_wait(query: str, server: Server, key: str) -> None:
    """A receiver waits for the time that the operator has set."""
    began = time.monotonic()
    check_error(get(server, f"{key}?{query}"), 404, NOT_THERE)
    assert time.monotonic() - began >= 0.29


# PUT.


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
@pytest.mark.parametrize("way", WAYS)
def test_a_file_is_stored_without_a_receiver(way: str, size: int, server: Server, key: str) -> None:
    """200 and no word as soon as it is stored; whoever comes later gets it, and its length."""
    data = random.Random(size).randbytes(size)
    check_stored(send(server, key, way, data))
    for _ in range(2):
        answer = get(server, key)
        assert (answer.status, answer.body == data, answer["content-length"]) == (200, True, str(size))


def test_a_put_without_a_length_is_an_empty_file(server: Server, key: str) -> None:
    """Neither Content-Length nor chunks."""
    check_stored(ask(server, "PUT", key))
    answer = get(server, key)
    assert (answer.status, answer.body, answer["content-length"]) == (200, b"", "0")


@pytest.mark.parametrize("how", ["-T FILE", "-T -", "-X PUT -F", "-0 -T FILE"])
def test_curl_sends_and_fetches(how: str, server: Server, key: str, tmp_path: Path) -> None:
    """As people do it with the original."""
    file, out = tmp_path / "file", tmp_path / "out"
    file.write_bytes(random.Random(how).randbytes(2_000_000))
    arguments = {
        "-T FILE": ("-T", str(file)),
        "-T -": ("-T", "-"),
        "-X PUT -F": ("-X", "PUT", "-F", f"any=@{file}"),
        "-0 -T FILE": ("-0", "-T", str(file)),
    }[how]
    with file.open("rb") as stdin, curl("-f", *arguments, server.url(key), stdin=stdin) as sender:
        said, _ = sender.communicate(timeout=BOUND)
        assert (sender.returncode, said) == (0, b"")
    with curl("-f", "-o", str(out), server.url(key)) as receiver:
        assert receiver.wait(BOUND) == 0
    assert out.read_bytes() == file.read_bytes()


@pytest.mark.parametrize("way", WAYS)
def test_a_key_that_is_kept(way: str, server: Server, key: str) -> None:
    """A second sender gets 409, also behind a download, and the first file stays as it is."""
    check_stored(put(server, key, b"the first"))
    for _ in range(2):
        check_error(send(server, key, way, b"the second"), 409, TAKEN)
        assert get(server, key).body == b"the first"


@pytest.mark.parametrize("way", WAYS)
def test_a_key_under_which_somebody_sends(way: str, server: Server, key: str) -> None:
    """A second sender gets 409 although no byte of the first has come, and disturbs nobody."""
    sender = begin(server, key, way, b"", len(DATA))
    until(lambda: server.gauges()["active_uploads"] == 1, "the sender has begun")
    check_error(put(server, key, b"the second"), 409, TAKEN)
    go_on(sender, way, DATA)
    check_stored(finish(sender, way))
    assert get(server, key).body == DATA


def test_a_refusal_comes_before_the_body(server: Server, key: str) -> None:
    """A sender that asks with Expect hears 409 and no 100."""
    check_stored(put(server, key))
    sender = connect(server).put(key, b"", "Expect: 100-continue", length=1 << 40)
    assert sender.first_status() == 409
    check_error(sender.answer(), 409, TAKEN)


def test_one_of_many_senders_wins(server: Server, key: str) -> None:
    """Of those who come at the same time one is taken, and its bytes are what is kept."""
    bodies = [bytes([65 + i]) * 100_000 for i in range(8)]
    senders = [Background(lambda body=body: put(server, key, body)) for body in bodies]  # type: ignore[misc]
    statuses = [sender.result().status for sender in senders]
    assert sorted(statuses) == [200] + [409] * 7
    assert get(server, key).body == bodies[statuses.index(200)]


def test_a_connection_is_used_again(server: Server, key: str) -> None:
    """Sends, receives and refusals follow on one connection (difference: the original closes it each time)."""
    peer = connect(server)
    check_stored(peer.put(key, DATA).answer())
    check_stored(peer.put_chunked(f"{key}/2", [DATA, DATA]).answer())
    check_stored(peer.put(f"{key}/3", form(part(DATA)), FORM).answer())
    assert peer.get(f"{key}/2").answer().body == DATA * 2
    check_error(peer.get(f"{key}/4").answer(), 404, NOT_THERE)
    assert peer.get(f"{key}/3").answer().body == DATA


# Forms.

FIRST = {
    "a file": part(DATA),
    "a file of any name": part(DATA, 'form-data; name="any name"; filename="x"'),
    "a text field": part(DATA, 'form-data; name="text"'),
    "a field without a name": part(DATA, "form-data"),
    "a field called file-size": part(DATA, 'form-data; name="file-size"'),
    "a field with a type": part(DATA, 'form-data; name="text"', "Content-Type: text/x-y"),
}


@pytest.mark.parametrize("first", FIRST.values(), ids=FIRST)
def test_the_first_part_is_the_file(first: bytes, server: Server, key: str) -> None:
    """Whatever it is called, with a file name or without; the others are passed over."""
    check_stored(put_form(server, key, first, part(b"the second"), part(b"3", 'form-data; name="text"')))
    answer = get(server, key)
    assert (answer.body, answer["content-length"]) == (DATA, "10")


def test_an_empty_first_part(server: Server, key: str) -> None:
    """Is an empty file, not the next part."""
    check_stored(put_form(server, key, part(b"", 'form-data; name="text"'), part(b"the second")))
    assert get(server, key).body == b""


@pytest.mark.parametrize("data", [b"\r\n", b"\r\n--", b"--x1d8", b"\r\n--x1d8", b"x\r\n\r\n--\r\n" * 3])
def test_bytes_that_look_like_a_boundary(data: bytes, server: Server, key: str) -> None:
    """Are bytes of the file."""
    check_stored(put_form(server, key, part(data)))
    assert get(server, key).body == data


@pytest.mark.parametrize("body", [f"--{BOUNDARY}--\r\n".encode(), b"preamble\r\n" + f"--{BOUNDARY}--\r\n".encode()])
def test_a_form_without_a_part(body: bytes, server: Server, key: str) -> None:
    """Is refused, and the key is free at once."""
    check_error(put(server, key, body, FORM), 400, "multipart body contains no fields")
    check_stored(put(server, key))


def malformed(*more: bytes) -> bytes:
    """A good first part, and something behind it."""
    return part(DATA) + b"".join(more)


NEXT = f"\r\n--{BOUNDARY}\r\n".encode()
MALFORMED = {
    "no form at all": b"no form at all",
    "another boundary": b"--other\r\n\r\n\r\n--other--\r\n",
    "a part without a header": f"--{BOUNDARY}\r\nno header\r\n\r\nabc".encode() + FORM_END,
    "an endless header": f"--{BOUNDARY}\r\nX-Long: ".encode() + b"y" * 200_000,
    "no end": malformed(),
    "no end behind the first part": malformed(NEXT),
    "half an end": malformed(FORM_END[:-4]),
    "garbage behind the first part": malformed(NEXT, b"\0garbage\r\n\r\nx", FORM_END),
    "garbage behind a boundary": malformed(NEXT[:-2], b"garbage\r\n", FORM_END),
    "a second part without an end": malformed(NEXT, b'Content-Disposition: form-data; name="a"\r\n\r\nb'),
}


@pytest.mark.parametrize("way", ["length", "chunked"])
@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_form(body: bytes, way: str, server: Server, key: str) -> None:
    """Is refused wherever its fault is (the original looks no further than the first part); its key is free at once."""
    sender = connect(server)
    answer = heard(sender.put(key, body, FORM) if way == "length" else sender.put_chunked(key, [body], FORM))
    assert answer.status == 400, answer
    assert re.fullmatch(r"multipart parse error: \S[^\n]+\n?", answer.text)
    assert answer["content-type"].startswith("text/plain")
    check_stored(put(server, key, b"the next"))
    assert get(server, key).body == b"the next"


@pytest.mark.parametrize("type_", ["multipart/form-data", "multipart/form-data; boundary="])
def test_a_form_without_a_boundary(type_: str, server: Server, key: str) -> None:
    """Is malformed too."""
    answer = put(server, key, form(part(DATA)), f"Content-Type: {type_}")
    assert (answer.status, answer.text[:23]) == (400, "multipart parse error: ")
    check_stored(put(server, key))


def test_a_receiver_of_a_form_that_turns_out_malformed(server: Server, key: str) -> None:
    """Who is being served when the fault shows is cut."""
    sender = begin(server, key, "form in chunks", DATA, 10)
    receiver = connect(server).get(key)
    assert receiver.take(len(DATA)) == DATA
    sender.send(chunk(NEXT + b"\0garbage\r\n\r\n") + LAST_CHUNK)
    assert sender.answer().status == 400
    check_cut(receiver)
    check_free(server, key)


@pytest.mark.parametrize("body", [MALFORMED["no form at all"], f"--{BOUNDARY}--\r\n".encode()])
def test_a_receiver_does_not_notice_a_form_that_has_not_begun(body: bytes, tmp_path: Path, key: str) -> None:
    """It goes on waiting, and gets the next file."""
    with drop(tmp_path, ":get-wait=30") as server:
        (receiver,) = waiting(server, key)
        assert put(server, key, body, FORM).status == 400
        assert receiver.hears_nothing()
        check_stored(put(server, key))
        assert receiver.answer().body == DATA


def test_the_answer_to_a_form_waits_for_its_end(server: Server, key: str) -> None:
    """What follows the first part is read before the sender hears 200, and the connection stays in step."""
    sender = connect(server)
    head, rest = part(DATA) + NEXT, b'Content-Disposition: form-data; name="b"\r\n\r\nsecond' + FORM_END
    sender.ask("PUT", key, FORM, f"Content-Length: {len(head) + len(rest)}").send(head)
    until(lambda: server.gauges()["active_uploads"] == 1, "the sender has begun")
    assert sender.hears_nothing()
    sender.send(rest)
    check_stored(sender.answer())
    assert sender.get(key).answer().body == DATA


def test_what_stands_around_the_parts(server: Server, key: str) -> None:
    """A preamble and an epilogue are allowed and are not the file (RFC 2046)."""
    check_stored(put(server, key, b"preamble\r\n" + form(part(DATA)) + b"epilogue", FORM))
    assert get(server, key).body == DATA


# GET.


def test_nothing_is_there(server: Server, key: str) -> None:
    """A receiver waits for a sender, then hears 404; a sender that comes later is not for it."""
    began = time.monotonic()
    check_error(get(server, key), 404, NOT_THERE)
    assert time.monotonic() - began >= 0.29
    check_stored(put(server, key))
    assert get(server, key).body == DATA


@pytest.mark.parametrize("way", WAYS)
def test_receivers_come_first(way: str, patient: Server, key: str) -> None:
    """All who wait get the whole file, and are told what a later one would be."""
    data = random.Random(way).randbytes(300_000)
    receivers = waiting(patient, *[key] * 5)
    check_stored(send(patient, key, way, data))
    for receiver in receivers:
        answer = receiver.answer()
        assert (answer.status, answer.body == data) == (200, True)


def test_receivers_wait_on_for_a_sender_that_is_there(tmp_path: Path) -> None:
    """The time of waiting ends when a sender comes, although no byte has come yet."""
    with drop(tmp_path, ":get-wait=2") as server:
        receivers = waiting(server, *[f"/{number}" for number in range(len(WAYS))])
        senders = [begin(server, f"/{number}", way, b"", len(DATA)) for number, way in enumerate(WAYS)]
        until(lambda: server.gauges()["active_uploads"] == len(WAYS), "the senders have begun")
        time.sleep(2.5)
        for way, sender in zip(WAYS, senders, strict=True):
            go_on(sender, way, DATA)
            check_stored(finish(sender, way))
        assert [receiver.answer().body for receiver in receivers] == [DATA] * len(WAYS)


@pytest.mark.parametrize("way", WAYS)
def test_bytes_come_as_they_are_sent(way: str, patient: Server, key: str) -> None:
    """Each is seen before the next is sent; who comes in between gets all from the first on."""
    receivers = waiting(patient, key)
    sender = begin(patient, key, way, b"", len(DATA))
    for n in range(1, len(DATA) + 1):
        go_on(sender, way, DATA[n - 1 : n])
        for receiver in receivers:
            assert receiver.take(1) == DATA[n - 1 : n]
        receivers.append(connect(patient).get(key))
        assert receivers[-1].take(n) == DATA[:n]
    check_stored(finish(sender, way))
    for receiver in receivers:
        assert receiver.answer().body == b""


@pytest.mark.parametrize("way", WAYS)
def test_a_late_receiver_gets_all(way: str, server: Server, key: str) -> None:
    """However much has come before it."""
    data = random.Random(way).randbytes(20 << 20)
    sender = begin(server, key, way, data[: 19 << 20], len(data))
    until(lambda: server.gauges()["disk_usage"] > 18 << 20, "most of it has come")
    receivers = [connect(server).get(key) for _ in range(3)]
    taking = [Background(receiver.answer) for receiver in receivers]
    go_on(sender, way, data[19 << 20 :])
    check_stored(finish(sender, way))
    assert [each.result().body == data for each in taking] == [True] * 3
    assert get(server, key).body == data


def test_an_old_receiver(server: Server, key: str) -> None:
    """HTTP/1.0 gets the length, or the end of the connection."""
    check_stored(put(server, key))
    receiver = connect(server).get(key, version="1.0")
    answer = receiver.answer()
    assert (answer.body, answer["content-length"]) == (DATA, "10")
    sender = begin(server, f"{key}/2", "chunked", DATA, 10)
    receiver = connect(server).get(f"{key}/2", version="1.0")
    assert receiver.take(10) == DATA
    finish(sender, "chunked")
    assert receiver.answer().get("transfer-encoding") is None
    assert receiver.is_closed()


def test_a_receiver_that_leaves_disturbs_nobody(patient: Server, key: str) -> None:
    """Neither the sender nor the other receiver, and the file is kept."""
    data = random.Random(5).randbytes(8 << 20)
    one, other = waiting(patient, key, key)
    sender = begin(patient, key, "length", data[:1000], len(data))
    assert one.take(1000) == other.take(1000) == data[:1000]
    one.reset()
    taking = Background(other.answer)
    go_on(sender, "length", data[1000:])
    check_stored(finish(sender, "length"))
    assert taking.result().body == data[1000:]
    assert get(patient, key).body == data


def test_the_only_receiver_leaves(patient: Server, key: str) -> None:
    """The sender goes on and hears 200."""
    (receiver,) = waiting(patient, key)
    sender = begin(patient, key, "chunked", DATA, 20)
    assert receiver.take(10) == DATA
    receiver.reset()
    until(lambda: patient.gauges()["active_downloads"] == 0, "the receiver has left")
    time.sleep(0.6)  # longer than the time to come back
    go_on(sender, "chunked", DATA)
    check_stored(finish(sender, "chunked"))
    assert get(patient, key).body == DATA * 2


def test_a_receiver_that_stands_still_holds_nobody_back(server: Server, key: str) -> None:
    """The upload runs at the disk's pace, and so does another receiver."""
    data = random.Random(6).randbytes(24 << 20)
    sender = begin(server, key, "length", data[:1000], len(data))
    slow = connect(server, receive_buffer=4096).get(key)
    assert slow.take(10) == data[:10]
    go_on(sender, "length", data[1000:])
    check_stored(finish(sender, "length"))
    assert get(server, key).body == data
    slow.close()


# What comes with the file.

TYPES = ("text/plain", "Text/PLAIN; Charset=X", "nonsense", 'application/x-a;b="c d"')


@pytest.mark.parametrize("type_", TYPES)
def test_the_type_of_a_raw_body(type_: str, server: Server, key: str) -> None:
    """Reaches receivers letter by letter."""
    check_stored(put(server, key, DATA, f"Content-Type: {type_}"))
    assert get(server, key)["content-type"] == type_


@pytest.mark.parametrize("type_", TYPES)
def test_the_type_of_a_part(type_: str, server: Server, key: str) -> None:
    """Too (the original writes it in small letters, and drops one that it does not know)."""
    check_stored(put_form(server, key, part(DATA, REPORT, f"Content-Type: {type_}"), part(b"2", REPORT)))
    assert get(server, key)["content-type"] == type_


@pytest.mark.parametrize("way", WAYS)
def test_no_type(way: str, server: Server, key: str) -> None:
    """None was sent: none is made up, neither of the form's."""
    check_stored(send(server, key, way, DATA))
    assert get(server, key).get("content-type") is None


def test_a_type_of_a_text_field(server: Server, key: str) -> None:
    """A field without a file name has its type as well."""
    check_stored(put_form(server, key, part(DATA, 'form-data; name="a"', "Content-Type: text/x-y")))
    answer = get(server, key)
    assert (answer["content-type"], answer.get("content-disposition")) == ("text/x-y", None)


@pytest.mark.parametrize("first", ["sender", "receiver"])
def test_a_raw_body_tells_its_length_at_once(first: str, patient: Server, key: str) -> None:
    """Also while most of it is still to come."""
    receivers = waiting(patient, key) if first == "receiver" else []
    sender = begin(patient, key, "length", DATA[:3], 10)
    receivers = receivers or [connect(patient).get(key)]
    assert receivers[0].take(3) == DATA[:3]
    assert receivers[0].head()["content-length"] == "10"
    go_on(sender, "length", DATA[3:])
    check_stored(finish(sender, "length"))
    assert receivers[0].answer().body == DATA[3:]


@pytest.mark.parametrize("first", ["sender", "receiver"])
@pytest.mark.parametrize("way", ["chunked", "form", "form in chunks"])
def test_no_other_body_tells_a_length_while_it_comes(way: str, first: str, patient: Server, key: str) -> None:
    """A form's own length is never the file's; once it is whole the length is known."""
    receivers = waiting(patient, key) if first == "receiver" else []
    sender = begin(patient, key, way, DATA[:3], 10)
    receivers = receivers or [connect(patient).get(key)]
    assert receivers[0].take(3) == DATA[:3]
    head = receivers[0].head()
    assert (head.get("content-length"), head["transfer-encoding"]) == (None, "chunked")
    go_on(sender, way, DATA[3:])
    check_stored(finish(sender, way))
    assert receivers[0].answer().body == DATA[3:]
    assert get(patient, key)["content-length"] == "10"


@pytest.mark.parametrize("size", [0, 1000, 20 << 20])
def test_a_receiver_that_waits_for_a_form(size: int, patient: Server, key: str) -> None:
    """Gets the part whole with its own headers (the original: the form's length, no name, no type, no end)."""
    data = random.Random(size).randbytes(size)
    (receiver,) = waiting(patient, key)
    taking = Background(receiver.answer)
    check_stored(put_form(patient, key, part(data, REPORT, "Content-Type: application/pdf"), part(b"x" * 50_000)))
    answer = taking.result()
    assert (answer.status, answer.body == data) == (200, True)
    assert answer.get("content-length") in (None, str(size))
    assert answer["content-type"] == "application/pdf"
    assert answer["content-disposition"].startswith('attachment; filename="report.pdf"')


def test_the_head_of_a_form_that_comes_in_pieces(patient: Server, key: str) -> None:
    """A receiver hears nothing before the part's headers are there, and then the right ones."""
    (receiver,) = waiting(patient, key)
    head = part(b"", REPORT, "Content-Type: application/pdf")
    sender = connect(patient).put_chunked(key, [head[:20]], FORM, ends=False)
    assert receiver.hears_nothing()
    sender.send(chunk(head[20:-2]))
    assert receiver.hears_nothing()
    sender.send(chunk(head[-2:] + DATA + FORM_END) + LAST_CHUNK)
    check_stored(sender.answer())
    answer = receiver.answer()
    assert (answer.body, answer["content-type"]) == (DATA, "application/pdf")
    assert answer["content-disposition"].startswith('attachment; filename="report.pdf"')


def name_of(answer: Answer) -> str | None:
    """The name under which the file is saved, if the answer gives one; both ways of writing it must be safe."""
    value = answer.get("content-disposition")
    if value is None:
        return None
    match = re.fullmatch(r"attachment; filename=\"([^\"\\]*)\"; filename\*=UTF-8''([^;\s]+)", value, re.ASCII)
    assert match, value
    assert not re.search(r"[\x00-\x1f\x7f-\xff/\\]", match[1])
    return unquote(match[2], errors="strict")


NAMES = {
    "plain": ('filename="report.pdf"', "report.pdf"),
    "a space": ('filename="my report.pdf"', "my report.pdf"),
    "without quotes": ("filename=report.pdf", "report.pdf"),
    "a quote": ('filename="a\\"b.txt"', 'a"b.txt'),
    "a semicolon": ('filename="a;b.txt"', "a;b.txt"),
    "a path": ('filename="../../x.txt"', "x.txt"),
    "a path of Windows": ('filename="C:\\dir\\x.txt"', "x.txt"),
    "an escaped backslash": ('filename="C:\\\\dir\\\\x.txt"', "x.txt"),
    "a tab": ('filename="a\tb.txt"', "ab.txt"),
    "controls": ('filename="a\x01b\x1fc\x7fd.txt"', "abcd.txt"),
    "a control above ASCII": ('filename="a\u0085b.txt"', "ab.txt"),
    "not ASCII": ('filename="gr\u00fc\u00dfe.txt"', "gr\u00fc\u00dfe.txt"),
    "escaped": ("filename*=UTF-8''gr%C3%BC%C3%9Fe.txt", "gr\u00fc\u00dfe.txt"),
}


@pytest.mark.parametrize(("field", "name"), NAMES.values(), ids=NAMES)
def test_the_name_in_a_form(field: str, name: str, server: Server, key: str) -> None:
    """Comes through whole but for what is not safe (the original refuses controls, and doubles backslashes)."""
    check_stored(put_form(server, key, part(DATA, f'form-data; name="f"; {field}')))
    answer = get(server, key)
    assert (answer.body, name_of(answer)) == (DATA, name)


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="report.pdf"', "report.pdf"),
        ("inline; filename=report.pdf", "report.pdf"),
        ("attachment; filename*=UTF-8''gr%C3%BC%C3%9Fe.txt", "gr\u00fc\u00dfe.txt"),
        ("attachment", None),
        ("inline", None),
    ],
)
def test_the_name_that_a_raw_body_gives(disposition: str, name: str | None, server: Server, key: str) -> None:
    """In its Content-Disposition, if there is one with a name (difference: the original does not look)."""
    check_stored(put(server, key, DATA, f"Content-Disposition: {disposition}"))
    assert name_of(get(server, key)) == name


@pytest.mark.parametrize("target", ["/unnamed-1", "/unnamed/2.txt"])
@pytest.mark.parametrize("live", [False, True])
def test_no_name(live: bool, target: str, server: Server) -> None:
    """None was sent: there is no Content-Disposition, and the key is no name."""
    target = f"{target}{live}"
    sender = begin(server, target, "length", DATA, 11)
    if live:
        assert connect(server).get(target).head().get("content-disposition") is None
    go_on(sender, "length", b"x")
    check_stored(finish(sender, "length"))
    assert get(server, target).get("content-disposition") is None


@pytest.mark.parametrize("disposition", ['form-data; name="x.txt"', 'form-data; name="x.txt"; filename=""'])
def test_no_name_in_a_form(disposition: str, server: Server, key: str) -> None:
    """The field's name is no file name, nor is an empty one."""
    check_stored(put_form(server, key, part(DATA, disposition), part(b"2", REPORT)))
    assert get(server, key).get("content-disposition") is None


def test_what_else_comes_with_the_file(server: Server, key: str) -> None:
    """As docs/http.md says: what the sender said of the bytes, and what keeps caches and browsers from harm."""
    fields = ("Content-Encoding: gzip", "Last-Modified: Sat, 21 Nov 2026 06:00:00 GMT", "X-Piping: a")
    check_stored(put(server, key, DATA, *fields))
    answer = get(server, key)
    for field in (*fields, "Cache-Control: no-store", "X-Content-Type-Options: nosniff", "X-Robots-Tag: none"):
        name, _, value = field.partition(": ")
        assert answer[name] == value


BROWSERS = {
    "a link": ("Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Accept: text/html"),
    "an old browser": ("User-Agent: Mozilla/5.0", "Accept: text/html,*/*;q=0.8"),
    "a previewer": ("User-Agent: WhatsApp/2.23", "Accept: */*"),
}


@pytest.mark.parametrize("fields", BROWSERS.values(), ids=BROWSERS)
def test_a_browser_gets_the_bytes(fields: tuple[str, ...], server: Server, key: str) -> None:
    """There are no pages, neither for what is there nor for what is not."""
    check_error(get(server, key, *fields), 404, NOT_THERE)
    check_stored(put(server, key, DATA, "Content-Type: text/html"))
    answer = get(server, key, *fields)
    assert (answer.status, answer["content-type"], answer.body) == (200, "text/html", DATA)


@pytest.mark.parametrize(
    ("method", "target", "status", "text"),
    [
        ("GET", "/nothing-here", 404, NOT_THERE),
        ("PUT", "/", 400, "missing key in path"),
        ("DELETE", "/x", 405, "only PUT and GET are supported"),
    ],
)
def test_errors_in_json(method: str, target: str, status: int, text: str, server: Server) -> None:
    """For those who ask for it, and only for them (difference: the original knows no JSON)."""
    answer = ask(server, method, target, "Accept: application/json")
    assert (answer.status, answer["content-type"]) == (status, "application/json")
    assert json.loads(answer.text) == {"error": text, "status": status}
    check_error(ask(server, method, target, "Accept: application/json, text/html"), status, text)


# Ranges (difference: the original has none).


@pytest.mark.parametrize(
    ("field", "content_range", "body"),
    [
        ("bytes=5-", "bytes 5-9/10", DATA[5:]),
        ("bytes=2-4", "bytes 2-4/10", DATA[2:5]),
        ("bytes=-3", "bytes 7-9/10", DATA[7:]),
        ("bytes=0-99", "bytes 0-9/10", DATA),
    ],
)
@pytest.mark.parametrize("live", [False, True])
def test_a_range(live: bool, field: str, content_range: str, body: bytes, server: Server, key: str) -> None:
    """A part of a file that is kept, or that is still being sent."""
    sender = begin(server, key, "length", DATA[:8], 10)
    receiver = connect(server)
    if live:
        receiver.get(key, f"Range: {field}")
    go_on(sender, "length", DATA[8:])
    check_stored(finish(sender, "length"))
    if not live:
        receiver.get(key, f"Range: {field}")
    answer = receiver.answer()
    assert (answer.status, answer["content-range"], answer.body) == (206, content_range, body)


def test_a_range_beyond_the_end(server: Server, key: str) -> None:
    """416 tells the length."""
    check_stored(put(server, key))
    answer = get(server, key, "Range: bytes=10-")
    assert (answer.status, answer["content-range"]) == (416, "bytes */10")


def test_conditions(server: Server, key: str) -> None:
    """The tag is the same for all receivers of a file; it works in If-Match, If-None-Match and If-Range."""
    check_stored(put(server, key))
    check_stored(put(server, f"{key}/2"))
    first, again, other = get(server, key), get(server, key), get(server, f"{key}/2")
    tag = first["etag"]
    assert first["accept-ranges"] == "bytes"
    assert tag == again["etag"] != other["etag"]
    assert get(server, key, f"If-Match: {tag}").body == DATA
    assert get(server, key, 'If-Match: "other"').status == 412
    assert get(server, key, f"If-None-Match: {tag}").status == 304
    assert get(server, key, "Range: bytes=5-", f"If-Range: {tag}").body == DATA[5:]
    assert get(server, key, "Range: bytes=5-", 'If-Range: "other"').body == DATA


def test_a_download_that_broke_off_is_resumed(server: Server, key: str, tmp_path: Path) -> None:
    """``curl -C -`` goes on where it was."""
    data = random.Random(8).randbytes(2_000_000)
    check_stored(put(server, key, data))
    (tmp_path / "out").write_bytes(data[:700_000])
    with curl("-f", "-C", "-", "-o", str(tmp_path / "out"), server.url(key)) as receiver:
        assert receiver.wait(BOUND) == 0
    assert (tmp_path / "out").read_bytes() == data


def test_a_resume_does_not_meet_another_file(server: Server, key: str) -> None:
    """Behind a sender that died, the rest of the next file is not taken for the rest of that one."""
    sender = begin(server, key, "length", DATA[:5], 10)
    receiver = connect(server).get(key)
    assert receiver.take(5) == DATA[:5]
    sender.close()
    check_cut(receiver)
    until(lambda: put(server, key, b"abcdefghij").status == 200, "the next file is there", AT_ONCE)
    assert get(server, key, "Range: bytes=5-").status == 412
    assert get(server, key).body == b"abcdefghij"


# Senders that fail.

ENDS = {"closes": Peer.close, "resets": Peer.reset}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("way", WAYS)
def test_a_sender_dies(way: str, end: Callable[[Peer], None], server: Server, key: str) -> None:
    """Receivers are cut, new and old ones; the key is free at once, and nothing of the file is there."""
    sender = begin(server, key, way, DATA, 20)
    receivers = [connect(server).get(key), connect(server).get(key, version="1.0")]
    for receiver in receivers:
        assert receiver.take(10) == DATA
    usage = server.gauges()["disk_usage"]
    end(sender)
    for receiver in receivers:
        check_cut(receiver)
    until(lambda: server.gauges()["disk_usage"] < usage, "its place on the disk is free", AT_ONCE)
    check_error(get(server, key), 404, NOT_THERE)
    check_free(server, key)


@pytest.mark.parametrize("way", WAYS)
def test_a_sender_dies_for_whom_somebody_waited(way: str, patient: Server, key: str) -> None:
    """The same for receivers that were there before it."""
    receivers = waiting(patient, key, key)
    sender = begin(patient, key, way, DATA, 20)
    for receiver in receivers:
        assert receiver.take(10) == DATA
    sender.close()
    for receiver in receivers:
        check_cut(receiver)
    check_free(patient, key)


@pytest.mark.parametrize("way", WAYS)
def test_a_sender_dies_before_its_last_byte(way: str, server: Server, key: str) -> None:
    """All the bytes may be there, but not their end: no receiver believes it has the whole."""
    sender = begin(server, key, way, DATA, 11 if way == "length" else 10)
    receiver = connect(server).get(key)
    assert receiver.take(10) == DATA
    sender.close()
    check_cut(receiver)
    check_error(get(server, key), 404, NOT_THERE)


@pytest.mark.parametrize("way", WAYS)
def test_a_sender_dies_alone(way: str, server: Server, key: str) -> None:
    """Without any receiver: the key is free, and a receiver finds nothing (the original: 200 and a part)."""
    sender = begin(server, key, way, DATA, 20)
    until(lambda: server.gauges()["active_uploads"] == 1, "the sender has begun")
    sender.close()
    until(lambda: server.gauges()["active_uploads"] == 0, "the sender has gone", AT_ONCE)
    check_error(get(server, key), 404, NOT_THERE)
    check_stored(put(server, key))


@pytest.mark.parametrize("way", ["-T FILE", "-T -", "-F"])
def test_curls_see_that_the_sender_died(way: str, server: Server, key: str, tmp_path: Path) -> None:
    """A killed sender: the receiving curl ends with 18, and has a part."""
    file, out = tmp_path / "file", tmp_path / "out"
    data = random.Random(9).randbytes(20_000_000)
    file.write_bytes(data)
    arguments = {"-T FILE": ("-T", str(file)), "-T -": ("-T", "-"), "-F": ("-X", "PUT", "-F", f"f=@{file}")}[way]
    with (
        file.open("rb") as stdin,
        curl("--limit-rate", "4M", *arguments, server.url(key), stdin=stdin) as sender,
        curl("-f", "-N", "-o", str(out), server.url(key)) as receiver,
    ):
        until(lambda: out.exists() and out.stat().st_size > 100_000, "bytes flow")
        sender.kill()
        assert receiver.wait(BOUND) == 18
    assert data.startswith(out.read_bytes())
    assert out.stat().st_size < len(data)


FAILURES: dict[str, Callable[[Peer, str], Peer]] = {
    "a bad chunk": lambda peer, key: peer.put_chunked(key, [DATA], ends=False).send(b"no number\r\n"),
    "a wrong digest": lambda peer, key: peer.put(key, DATA, "Repr-Digest: sha-256=:AAAA:"),
    "a part of a file": lambda peer, key: peer.put(key, DATA, "Content-Range: bytes 5-14/20"),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_failed_upload_frees_its_key(failure: Callable[[Peer, str], Peer], server: Server, key: str) -> None:
    """Whatever was wrong with it (the original blocks the key for half a minute)."""
    answer = heard(failure(connect(server), key))
    assert 400 <= answer.status < 500
    check_error(get(server, key), 404, NOT_THERE)
    check_free(server, key)


# For how long a file is kept.


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Keeps files for a second and a half, both behind the upload and behind a download."""
    with drop(tmp_path_factory.mktemp("brief"), ":get-wait=0.3:put-ttl=1.5:get-ttl=1.5") as started:
        yield started


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Keeps files for an hour, but for a second and a half only behind a download."""
    with drop(tmp_path_factory.mktemp("fetched"), ":get-wait=0.3:put-ttl=3600:get-ttl=1.5") as started:
        yield started


@pytest.fixture
def brief_clean(brief: Server) -> Iterator[Server]:
    """The server that forgets soon, and behind the test has forgotten everything."""
    before = brief.descriptors()
    yield brief
    close_all()
    brief.until_clean(before)


def test_the_times_that_nobody_sets(tmp_path: Path) -> None:
    """A receiver waits 5 seconds; a file goes 5 seconds behind its download, long before its 30."""
    with drop(tmp_path) as server:
        check_stored(put(server, "/fetched"))
        assert get(server, "/fetched").body == DATA
        fetched = time.monotonic()
        check_error(get(server, "/nothing"), 404, NOT_THERE)
        assert time.monotonic() - fetched >= 4.9
        until(lambda: put(server, "/fetched").status == 200, "the file goes behind its download", 20)
        check_error(put(server, "/fetched"), 409, TAKEN)


def test_a_file_that_nobody_fetches(brief_clean: Server, key: str) -> None:
    """Is kept for its time behind the upload; after that receivers hear 404 and a sender is taken."""
    check_stored(put(brief_clean, key, b"the first"))
    stored = time.monotonic()
    check_error(put(brief_clean, key), 409, TAKEN)
    until(lambda: not brief_clean.gauges()["pipes"], "the file goes")
    assert time.monotonic() - stored >= 1.3
    assert brief_clean.gauges()["disk_usage"] == 0
    check_error(get(brief_clean, key), 404, NOT_THERE)
    check_free(brief_clean, key)


def test_the_time_begins_behind_the_upload(brief_clean: Server, key: str) -> None:
    """An upload that takes longer than all times is not disturbed, late receivers get all, and it is kept then."""
    sender = begin(brief_clean, key, "chunked", DATA, 20)
    early = connect(brief_clean).get(key)
    assert early.take(10) == DATA
    time.sleep(3.5)
    check_error(put(brief_clean, key), 409, TAKEN)
    late = connect(brief_clean).get(key)
    assert late.take(10) == DATA
    go_on(sender, "chunked", DATA)
    check_stored(finish(sender, "chunked"))
    check_error(put(brief_clean, key), 409, TAKEN)
    assert [each.answer().body for each in (early, late)] == [DATA, DATA]


def test_the_time_begins_behind_the_download(brief_clean: Server, key: str) -> None:
    """Nothing goes while somebody receives, however slowly; the time runs from the end (the original: the start)."""
    data = random.Random(10).randbytes(12 << 20)
    check_stored(put(brief_clean, key, data))
    slow = connect(brief_clean, receive_buffer=4096).get(key)
    assert slow.take(1000) == data[:1000]
    time.sleep(3.5)
    check_error(put(brief_clean, key), 409, TAKEN)
    assert get(brief_clean, key).body == data
    time.sleep(2)
    check_error(put(brief_clean, key), 409, TAKEN)
    assert Background(slow.answer).result().body == data[1000:]
    check_error(put(brief_clean, key), 409, TAKEN)
    assert get(brief_clean, key).body == data
    check_free(brief_clean, key)


def test_each_download_makes_it_stay(fetched: Server, key: str) -> None:
    """The time runs from the last one; behind it the file goes, long before its hour."""
    check_stored(put(fetched, key))
    began = time.monotonic()
    while time.monotonic() - began < 3.5:
        assert get(fetched, key).body == DATA
        time.sleep(0.2)
    check_free(fetched, key)


def test_a_download_that_breaks_off_takes_nothing(fetched: Server, key: str) -> None:
    """Nor does a look at a part: only a whole download lets the file go (the original: any)."""
    data = random.Random(11).randbytes(12 << 20)
    check_stored(put(fetched, key, data))
    slow = connect(fetched, receive_buffer=4096).get(key)
    assert slow.take(1000) == data[:1000]
    slow.reset()
    assert get(fetched, key, "Range: bytes=0-9").body == data[:10]
    time.sleep(3)
    check_error(put(fetched, key), 409, TAKEN)
    assert get(fetched, key).body == data
    check_free(fetched, key)


def test_an_old_timer_does_not_end_the_next_file(tmp_path: Path, key: str) -> None:
    """The time of a file that has gone is not the time of the next one under its key."""
    with drop(tmp_path, ":get-wait=0.3:put-ttl=3:get-ttl=0.2") as server:
        check_stored(put(server, key, b"the first"))
        began = time.monotonic()
        assert get(server, key).body == b"the first"
        time.sleep(1.5)
        check_stored(put(server, key, b"the second"))
        time.sleep(max(0, began + 3.3 - time.monotonic()))
        check_error(put(server, key), 409, TAKEN)
        assert get(server, key).body == b"the second"


def test_for_ever(tmp_path: Path) -> None:
    """A receiver may wait ``forever``; what the profile's text says stands before the flag."""
    with drop(tmp_path, ":get-wait=forever", "--get-wait-timeout", "0.1") as server:
        (receiver,) = waiting(server, "/k")
        assert receiver.hears_nothing(1)
        check_stored(put(server, "/k"))
        assert receiver.answer().body == DATA


def test_a_flag_sets_the_times_too(tmp_path: Path) -> None:
    """As a knob does."""
    flags = ("--put-ttl", "0.3", "--get-wait-timeout", "0.3")
    with drop(tmp_path, "", *flags) as server:
        check_stored(put(server, "/k"))
        until(lambda: put(server, "/k").status == 200, "the file goes", 15)
        began = time.monotonic()
        check_error(get(server, "/none"), 404, NOT_THERE)
        assert time.monotonic() - began < 4


# Limits.

LIMIT = 1024


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Takes files of a KiB."""
    with drop(tmp_path_factory.mktemp("limited"), FOREVER, "-P", "1K", "--header-timeout", "1") as started:
        yield started


@pytest.mark.parametrize("way", WAYS)
def test_a_file_of_the_largest_size(way: str, limited: Server, key: str) -> None:
    """Is taken; of a form the file counts."""
    check_stored(send(limited, key, way, b"x" * LIMIT))
    assert get(limited, key).body == b"x" * LIMIT


@pytest.mark.parametrize("way", WAYS)
def test_a_larger_file(way: str, limited: Server, key: str) -> None:
    """Is 413, and its key free at once."""
    answer = send(limited, key, way, b"x" * (LIMIT + 1))
    assert answer.status == 413, answer
    assert answer["content-type"].startswith("text/plain")
    check_error(get(limited, key), 404, NOT_THERE)
    check_stored(put(limited, key))


def test_a_larger_file_is_refused_before_its_body(limited: Server, key: str) -> None:
    """If it tells its length and asks."""
    sender = connect(limited).put(key, b"", "Expect: 100-continue", length=LIMIT + 1)
    assert sender.first_status() == 413


@pytest.mark.parametrize("way", ["chunked", "form in chunks"])
def test_a_file_that_grows_too_large(way: str, limited: Server, key: str) -> None:
    """Its receivers are cut."""
    sender = begin(limited, key, way, DATA, 0)
    receiver = connect(limited).get(key)
    assert receiver.take(10) == DATA
    go_on(sender, way, b"x" * LIMIT)
    assert sender.answer().status == 413
    check_cut(receiver)
    check_free(limited, key)


def test_a_head_that_does_not_come(limited: Server) -> None:
    """Is given up after the time for it."""
    peer = connect(limited).send(b"GET /x HTTP/1.1\r\nHost: ")
    assert peer.answer().status == 408


QUOTA = 1 << 20


def takes(server: Server, key: str, size: int) -> bool:
    """Whether a file of that size would be taken now; the sender asks and leaves."""
    sender = connect(server).put(key, b"", "Expect: 100-continue", length=size)
    status = sender.first_status()
    if status != 100:
        check_error(sender.answer(), 503, FULL)
    sender.close()
    return status == 100


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Keeps at most a MiB, each file for two seconds."""
    with drop(tmp_path_factory.mktemp("small"), ":get-wait=0.3:put-ttl=2:get-ttl=0.3", "-D", "1M") as started:
        yield started


@pytest.fixture
def quota(small: Server) -> Server:
    """The server that keeps a MiB, and keeps nothing yet."""
    until(lambda: not small.gauges()["disk_usage"], "the disk is empty")
    return small


def test_a_file_as_large_as_the_quota(quota: Server, key: str) -> None:
    """Fits; a byte more does not, and is refused before it is sent."""
    assert not takes(quota, key, QUOTA + 1)
    check_stored(put(quota, key, bytes(QUOTA)))
    check_error(put(quota, f"{key}/2", b"x"), 503, FULL)


@pytest.mark.parametrize("way", WAYS)
def test_files_together_above_the_quota(way: str, quota: Server, key: str) -> None:
    """The second is refused and its key free at once; there is place when the first has gone."""
    check_stored(put(quota, key, bytes(700_000)))
    check_error(send(quota, f"{key}/2", way, bytes(700_000)), 503, FULL)
    until(lambda: takes(quota, f"{key}/2", 700_000), "there is place")


@pytest.mark.parametrize("way", ["chunked", "form in chunks"])
def test_a_file_that_grows_above_the_quota(way: str, quota: Server, key: str) -> None:
    """Its receivers are cut; its key and its place are free at once."""
    sender = begin(quota, key, way, DATA, 0)
    receiver = connect(quota).get(key)
    assert receiver.take(10) == DATA
    go_on(sender, way, bytes(QUOTA))
    check_error(sender.answer(), 503, FULL)
    check_cut(receiver)
    until(lambda: takes(quota, key, QUOTA), "there is place", AT_ONCE)


def test_a_sender_that_dies_gives_its_place_back(quota: Server, key: str) -> None:
    """At once."""
    sender = begin(quota, key, "length", DATA, QUOTA)
    until(lambda: quota.gauges()["disk_usage"] == QUOTA, "the place is taken")
    check_error(put(quota, f"{key}/2", b"x"), 503, FULL)
    sender.close()
    until(lambda: takes(quota, key, QUOTA), "there is place", AT_ONCE)


@pytest.mark.parametrize("end", ["reads on", "leaves"])
def test_the_quota_is_held_while_a_receiver_reads(end: str, tmp_path: Path, key: str) -> None:
    """The bytes count until the last receiver has gone (the original forgets them when the time is over)."""
    size = 12 << 20
    with drop(tmp_path, ":get-wait=0.3:put-ttl=0.5:get-ttl=0.3", "--max-disk", "16M") as server:
        check_stored(put(server, key, bytes(size)))
        slow = connect(server, receive_buffer=4096).get(key)
        assert slow.take(1000) == bytes(1000)
        time.sleep(2)
        assert server.gauges()["disk_usage"] == size
        assert not takes(server, f"{key}/2", size)
        if end == "leaves":
            slow.reset()
        else:
            assert Background(slow.answer).result().body == bytes(size - 1000)
        until(lambda: takes(server, f"{key}/2", size), "there is place")


def test_no_descriptors_are_left(tmp_path: Path) -> None:
    """A file that cannot be opened is 503; the server goes on, and takes files again when others have gone."""
    folder = tmp_path / "data"
    flags = ("--profile", "drop:get-wait=0.3:put-ttl=3600:get-ttl=0.1", "--data-dir", str(folder))
    with Server(*flags, log=tmp_path / "log", env=CLEAN, most_descriptors=110) as server:
        answers = (unless_reset(put, server, f"/{n}") for n in range(300))
        refused = next((answer for answer in answers if answer and answer.status != 200), None)
        assert refused is not None
        assert refused.status == 503
        assert refused["content-type"].startswith("text/plain")
        until(lambda: unless_reset(get, server, "/0"), "a file is fetched")
        until(lambda: stored(unless_reset(put, server, "/again")), "there are descriptors")
        answer = until(lambda: unless_reset(get, server, "/again"), "the file is fetched")
        assert answer is not None
        assert answer.body == DATA


def unless_reset(call: Callable[[Server, str], Answer], server: Server, path: str) -> Answer | None:
    """What is heard, if there is a descriptor for the connection."""
    try:
        return call(server, path)
    except (ConnectionResetError, Cut):
        return None


def stored(answer: Answer | None) -> bool:
    """Whether the sender heard 200."""
    return answer is not None and answer.status == 200


def test_the_disk_is_full(small_disk: Path, tmp_path: Path, key: str) -> None:
    """503 as with the original, below the quota too; nothing of the file stays, and the next that fits is taken."""
    with drop(tmp_path, PATIENT, "--data-dir", str(small_disk / "data")) as server:
        (receiver,) = waiting(server, key)
        sender = connect(server).put_chunked(key, [bytes(100)], ends=False)
        assert receiver.take(100) == bytes(100)
        sending = Background(lambda: sender.fill(chunk(bytes(8 << 20))))
        cut = Background(lambda: check_cut(receiver))
        answer = sender.answer()
        assert answer.status == 503, answer
        assert answer["content-type"].startswith("text/plain")
        cut.result()
        sender.close()
        with contextlib.suppress(OSError):
            sending.result()
        check_free(server, key)


def test_the_store_does_not_work(tmp_path: Path, key: str) -> None:
    """A folder that has gone is 500 without a secret, and the server goes on."""
    with drop(tmp_path, FOREVER) as server:
        for folder in (tmp_path / "data").glob("server-*/incoming"):
            folder.rmdir()
        answer = put(server, key)
        assert answer.status == 500
        assert answer["content-type"].startswith("text/plain")
        assert str(tmp_path) not in answer.text and "Traceback" not in answer.text
        check_error(get(server, key), 404, NOT_THERE)


# The folder.


def test_two_servers_share_a_folder(tmp_path: Path) -> None:
    """The second removes neither the first one's files nor a stranger's (the original removes every ``pipe-*``)."""
    stranger = tmp_path / "data" / "pipe-of-somebody"
    stranger.parent.mkdir()
    stranger.write_text("mine")
    with drop(tmp_path, FOREVER) as one:
        check_stored(put(one, "/k"))
        flags = ("--profile", "drop", "--data-dir", str(tmp_path / "data"))
        with Server(*flags, log=tmp_path / "log2", env=CLEAN) as two:
            assert get(one, "/k").body == DATA
            check_stored(put(two, "/k", b"another"))
            two.signal(signal.SIGKILL)
            two.wait()
        assert get(one, "/k").body == DATA
    assert stranger.read_text() == "mine"


def test_a_killed_server_leaves_nothing_behind_the_next(tmp_path: Path) -> None:
    """What it kept is removed at the next start, and not served."""
    with drop(tmp_path, FOREVER) as server:
        check_stored(put(server, "/k"))
        server.signal(signal.SIGKILL)
        server.wait()
    left = set((tmp_path / "data").glob("server-*"))
    assert left
    with drop(tmp_path, FOREVER) as server:
        assert not left & set((tmp_path / "data").glob("server-*"))
        check_error(get(server, "/k"), 404, NOT_THERE)


def test_no_name_of_a_file_is_on_the_disk(tmp_path: Path) -> None:
    """Neither the key nor the file's name."""
    with drop(tmp_path, FOREVER) as server:
        check_stored(put_form(server, "/secret-key", part(DATA, 'form-data; name="a"; filename="secret-name"')))
        names = [str(path.relative_to(tmp_path)) for path in (tmp_path / "data").rglob("*")]
        assert names
        assert "secret" not in " ".join(names)


# Stopping.


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_drains(first: signal.Signals, tmp_path: Path) -> None:
    """Senders are refused, what is there is served and finished; the second signal ends it at once."""
    with drop(tmp_path, ":get-wait=30:put-ttl=3600:get-ttl=3600") as server:
        check_stored(put(server, "/kept"))
        (receiver,) = waiting(server, "/waited-for")
        sender = begin(server, "/running", "chunked", DATA, 20)
        early = connect(server).get("/running")
        assert early.take(10) == DATA
        server.signal(first)
        until(lambda: server.gauges()["draining"] == 1, "it drains")
        assert receiver.answer().status == 503
        for answer in (put(server, "/new"), put_form(server, "/new", part(DATA)), put(server, "/kept")):
            check_error(answer, 503, "server is draining")
            assert answer["retry-after"]
        assert get(server, "/nothing").status == 503
        assert get(server, "/kept").body == DATA
        late = connect(server).get("/running")
        assert late.take(10) == DATA
        go_on(sender, "chunked", DATA)
        check_stored(finish(sender, "chunked"))
        assert [each.answer().body for each in (early, late)] == [DATA, DATA]
        assert get(server, "/running").body == DATA * 2
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    assert not list((tmp_path / "data").glob("server-*"))
    assert "Traceback" not in server.log.read_text()


def test_a_drain_ends_with_the_last_file(tmp_path: Path) -> None:
    """One signal is enough: the server ends when the times of its files are over."""
    with drop(tmp_path, ":put-ttl=1:get-ttl=1") as server:
        check_stored(put(server, "/k"))
        server.signal(signal.SIGTERM)
        until(lambda: server.gauges()["draining"] == 1, "it drains")
        assert get(server, "/k").body == DATA
        assert server.wait() == 0


def test_a_second_signal_cuts(tmp_path: Path) -> None:
    """A receiver in the middle of a file sees that it has not the whole."""
    with drop(tmp_path, FOREVER) as server:
        sender = begin(server, "/k", "chunked", DATA, 20)
        receiver = connect(server).get("/k")
        assert receiver.take(10) == DATA
        server.signal(signal.SIGTERM)
        until(lambda: server.gauges()["draining"] == 1, "it drains")
        server.signal(signal.SIGINT)
        check_cut(receiver)
        assert server.wait() == 0
        assert isinstance(sender.socket, socket.socket)
        read_all(sender.socket)


# Metrics.


def test_health(server: Server) -> None:
    """The metrics listener says that the server lives."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/health", timeout=BOUND) as answer:
        assert (answer.status, answer.read().strip()) == (200, b"ok")


NUMBERS = ("pipes", "disk_usage", "key_waiters", "active_uploads", "active_downloads", "draining")


def numbers(server: Server) -> dict[str, str]:
    """The metrics that have the original's names."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=BOUND) as answer:
        return dict(re.findall(rf"^({'|'.join(NUMBERS)}) (\S+)$", answer.read().decode(), re.MULTILINE))


def until_numbers(server: Server, **not_zero: float) -> None:
    """Until the metrics say this, and nothing else."""
    expected = {**dict.fromkeys(NUMBERS, 0.0), **not_zero}

    def so() -> bool:
        return {name: float(value) for name, value in numbers(server).items()} == expected

    until(so, f"{expected}: {numbers(server)}", AT_ONCE)


def test_metrics_are_whole_numbers(server: Server) -> None:
    """As the original writes them, so that a shell can count with them: no ``1.31e+08``."""
    assert all(re.fullmatch(r"\d+", value) for value in numbers(server).values()), numbers(server)
    assert numbers(server).keys() == set(NUMBERS)


def test_metrics(tmp_path: Path) -> None:
    """The original's names beside beam's: what is kept, waits, comes and goes."""
    with drop(tmp_path, ":get-wait=60:put-ttl=3600:get-ttl=3600") as server:
        until_numbers(server)
        (receiver,) = waiting(server, "/nothing")
        until_numbers(server, key_waiters=1)
        receiver.close()
        until_numbers(server)
        sender = begin(server, "/k", "length", DATA, 20)
        until_numbers(server, pipes=1, active_uploads=1, disk_usage=20)
        receiver = connect(server).get("/k")
        assert receiver.take(10) == DATA
        until_numbers(server, pipes=1, active_uploads=1, disk_usage=20, active_downloads=1)
        go_on(sender, "length", DATA)
        check_stored(finish(sender, "length"))
        assert receiver.answer().body == DATA
        until_numbers(server, pipes=1, disk_usage=20)
        gauges = server.gauges()
        assert (gauges["pipes"], gauges["disk_usage"], gauges["draining"]) == (1, 20, 0)


# Forwarding.


@pytest.fixture(scope="module")
def forwarding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Forwards anywhere."""
    flags = ("--allow-forward", "any", "--allow-forward-private", "--forward-timeout", "1")
    with drop(tmp_path_factory.mktemp("forwarding"), PATIENT, *flags) as started:
        yield started


def test_a_file_is_forwarded(forwarding: Server, key: str) -> None:
    """With its length and type; the sender hears no word, and receivers get the file too."""
    with ScriptedTarget(accept, keep=True) as target:
        fields = (f"X-Forward-Url: {target.url('/there?a=b')}", "Content-Type: text/x-y")
        check_stored(put(forwarding, key, DATA, *fields))
        request = target.request()
        assert request.line == b"PUT /there?a=b HTTP/1.1"
        assert (request.body, request.length, request.get("Content-Type")) == (DATA, 10, "text/x-y")
    assert get(forwarding, key).body == DATA


def test_a_target_that_refuses(forwarding: Server, key: str) -> None:
    """The sender hears 502; receivers, early and late, get the whole file all the same, as with the original."""
    (receiver,) = waiting(forwarding, key)
    with ScriptedTarget(late(403)) as target:
        answer = put(forwarding, key, DATA, f"X-Forward-Url: {target.url()}")
    assert (answer.status, answer.text[:16]) == (502, "forward failed: ")
    assert answer["content-type"].startswith("text/plain")
    assert receiver.answer().body == DATA
    assert get(forwarding, key).body == DATA


def test_a_target_that_is_not_there(forwarding: Server, key: str) -> None:
    """The same."""
    with refusing_port() as port:
        answer = put(forwarding, key, DATA, f"X-Forward-Url: http://127.0.0.1:{port}/")
    assert (answer.status, answer.text[:16]) == (502, "forward failed: ")


def test_a_target_that_says_nothing(forwarding: Server, key: str) -> None:
    """The time for a forward ends it (the original's older source waits for ever)."""
    with ScriptedTarget(never_answers) as target:
        answer = put(forwarding, key, DATA, f"X-Forward-Url: {target.url()}")
    assert (answer.status, answer.text[:16]) == (502, "forward failed: ")


def test_a_forward_that_nobody_allows(server: Server, key: str) -> None:
    """Is refused before anything is stored (the original's older source forwards anywhere)."""
    with ScriptedTarget(accept) as target:
        assert put(server, key, DATA, f"X-Forward-Url: {target.url()}").status == 403
        assert not target.connections
    check_stored(put(server, key))


@pytest.mark.parametrize("way", ["chunked", "form"])
def test_a_forward_without_a_length(way: str, forwarding: Server, key: str) -> None:
    """Is 411: S3 would refuse it (the original's older source sends chunks)."""
    with ScriptedTarget(accept) as target:
        where = f"X-Forward-Url: {target.url()}"
        peer = connect(forwarding)
        if way == "chunked":
            peer.put_chunked(key, [DATA], where)
        else:
            peer.put(key, form(part(DATA)), FORM, where)
        assert heard(peer).status == 411


# The environment.

GOOD = {
    "MAX_DISK": "64K",
    "MAX_PIPE_SIZE": "48K",
    "PUT_TTL": "4",
    "GET_TTL": "0.2",
    "GET_WAIT_TIMEOUT": "0.2",
    "ALLOW_FORWARD": "http://127.0.0.1:*/open/*",
    "FORWARD_TIMEOUT": "0.5",
}
USELESS = {
    "MAX_DISK": "1G",
    "MAX_PIPE_SIZE": "1G",
    "PUT_TTL": "600",
    "GET_TTL": "600",
    "GET_WAIT_TIMEOUT": "600",
    "ALLOW_FORWARD": "https://nowhere.example/*",
    "FORWARD_TIMEOUT": "600",
}
WHERE = {
    "a bare name": ("bare",),
    "BEAM_ before a bare name": ("beam", "bare"),
    "a flag before both": ("flag", "beam", "bare"),
}


class Surrounded(Server):
    """A server that is told everything by flags, by ``BEAM_`` variables or by bare ones.

    :param where: the first has the good values, the others have useless ones.
    """

    def __init__(self, folder: Path, where: tuple[str, ...]) -> None:
        self.log = folder / "log"
        self.data, self.other_data = folder / "data", folder / "other"
        self._where = where
        self._start = self._begin
        self._begin()

    def _begin(self) -> None:
        self.port, self.metrics_port, self.other_port, self.other_metrics_port = (free_port() for _ in range(4))
        good, useless = (
            {
                **values,
                "LISTEN": f"127.0.0.1:{port}",
                "METRICS_ADDR": f"127.0.0.1:{metrics_port}",
                "DATA_DIR": str(data),
            }
            for values, port, metrics_port, data in (
                (GOOD, self.port, self.metrics_port, self.data),
                (USELESS, self.other_port, self.other_metrics_port, self.other_data),
            )
        )
        assert good.keys() == set(BARE)
        flags: list[str] = []
        env = {**CLEAN, "BEAM_ALLOW_FORWARD_PRIVATE": "1"}
        for where, values in zip(self._where, (good, useless, useless), strict=False):
            for name, value in values.items():
                if where == "flag":
                    flags += [f"--{name.lower().replace('_', '-')}", value]
                else:
                    env[name if where == "bare" else f"BEAM_{name}"] = value
        with self.log.open("wb") as output:
            command = [twist(), "beam", "--profile", "drop", *flags]
            self.process = subprocess.Popen(command, stdout=output, stderr=output, env=env)


@pytest.fixture(scope="module", params=list(WHERE.values()), ids=list(WHERE))
def surrounded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surrounded]:
    """A server whose good values stand in one place, and useless ones in those behind it."""
    started = Surrounded(tmp_path_factory.mktemp("surrounded"), request.param)
    try:  # also if it never comes up where it is looked for
        started.wait_until_up()
        yield started
    finally:
        started.__exit__(None, None, None)


def is_listening(port: int) -> bool:
    """Whether somebody accepts on ``port``."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def check_listen(server: Surrounded, key: str) -> None:
    """It listens there and nowhere else."""
    check_stored(put(server, key))
    assert not is_listening(server.other_port)


def check_metrics_addr(server: Surrounded, key: str) -> None:
    """So do the metrics."""
    assert server.gauges()["draining"] == 0
    assert not is_listening(server.other_metrics_port)


def check_data_dir(server: Surrounded, key: str) -> None:
    """The files are there."""
    check_stored(put(server, key))
    assert list(server.data.glob("server-*/kept/*"))
    assert not server.other_data.exists()


def check_max_disk(server: Surrounded, key: str) -> None:
    """Two files do not fit."""
    check_stored(put(server, key, bytes(40 << 10)))
    check_error(put(server, f"{key}/2", bytes(40 << 10)), 503, FULL)


def check_max_pipe_size(server: Surrounded, key: str) -> None:
    """A file is too large."""
    assert put(server, key, bytes(50 << 10)).status == 413


def check_put_ttl(server: Surrounded, key: str) -> None:
    """A file goes sooner than the default says."""
    check_stored(put(server, key))
    until(lambda: put(server, key).status == 200, "the file goes", 20)


def check_get_ttl(server: Surrounded, key: str) -> None:
    """A file that was fetched goes before an older one that was not."""
    check_stored(put(server, f"{key}/older"))
    check_stored(put(server, key))
    assert get(server, key).body == DATA
    until(lambda: put(server, key).status == 200, "the file goes", 20)
    check_error(put(server, f"{key}/older"), 409, TAKEN)


def check_get_wait_timeout(server: Surrounded, key: str) -> None:
    """A receiver waits for less than the default."""
    began = time.monotonic()
    check_error(get(server, key), 404, NOT_THERE)
    assert time.monotonic() - began < 4


def check_allow_forward(server: Surrounded, key: str) -> None:
    """What the pattern says is allowed, and nothing else."""
    with ScriptedTarget(accept) as target:
        check_stored(put(server, key, DATA, f"X-Forward-Url: {target.url('/open/x')}"))
        assert put(server, f"{key}/2", DATA, f"X-Forward-Url: {target.url('/closed/x')}").status == 403


def check_forward_timeout(server: Surrounded, key: str) -> None:
    """A forward ends sooner than the default says."""
    with ScriptedTarget(never_answers) as target:
        assert put(server, key, DATA, f"X-Forward-Url: {target.url('/open/x')}").status == 502


CHECKS: dict[str, Callable[[Surrounded, str], None]] = {
    "LISTEN": check_listen,
    "DATA_DIR": check_data_dir,
    "MAX_DISK": check_max_disk,
    "MAX_PIPE_SIZE": check_max_pipe_size,
    "PUT_TTL": check_put_ttl,
    "GET_TTL": check_get_ttl,
    "GET_WAIT_TIMEOUT": check_get_wait_timeout,
    "METRICS_ADDR": check_metrics_addr,
    "ALLOW_FORWARD": check_allow_forward,
    "FORWARD_TIMEOUT": check_forward_timeout,
}


@pytest.mark.parametrize("name", BARE)
def test_a_variable(name: str, surrounded: Surrounded, key: str) -> None:
    """Each of the original's variables works; the same with BEAM_ stands before it, and a flag before both."""
    CHECKS[name](surrounded, key)


def refusal(server: Server) -> str:
    """The one line with which a server refuses to start."""
    try:
        assert server.wait() == 1
    finally:
        server.__exit__(None, None, None)
    (line,) = server.log.read_text().splitlines()
    return line


def trap(**more: str) -> dict[str, str]:
    """Bare names with values that nobody could read."""
    bad = dict.fromkeys(("MAX_DISK", "MAX_PIPE_SIZE", "PUT_TTL", "GET_TTL", "GET_WAIT_TIMEOUT"), "bad")
    return {**CLEAN, **bad, "FORWARD_TIMEOUT": "bad", "ALLOW_FORWARD": "any", "LISTEN": "bad", **more}


@pytest.mark.parametrize("prefix", ["", "/d"], ids=["the default profile", "a mount of drop beside it"])
def test_bare_names_mean_nothing_elsewhere(prefix: str, tmp_path: Path) -> None:
    """Only ``--profile drop`` reads them: not the default profile, with a mount or without."""
    flags = ("--store", f"disk:{tmp_path / 'data'}", *(("--mount", "/d=drop") if prefix else ()))
    flags += ("--data-dir", str(tmp_path / "mounted"), "--allow-forward-private")
    unread = {"DATA_DIR": str(tmp_path / "unread"), "METRICS_ADDR": "bad"}
    with Server(*flags, log=tmp_path / "log", env=trap(**unread)) as server:
        assert put(server, f"{prefix}/k").status == (200 if prefix else 201)
        assert get(server, f"{prefix}/k").body == DATA
        waiting(server, f"{prefix}/nothing")
        with ScriptedTarget(accept) as target:
            assert put(server, f"{prefix}/f", DATA, f"X-Forward-Url: {target.url()}").status == 403
    assert not (tmp_path / "unread").exists()


def test_data_dir_is_no_folder_of_the_default_profile(tmp_path: Path) -> None:
    """A disk store without a folder is an error there, whatever the bare name says."""
    server = Server("--store", "disk", log=tmp_path / "log", env={**CLEAN, "DATA_DIR": str(tmp_path / "data")})
    assert "disk" in refusal(server)
    assert not (tmp_path / "data").exists()


def test_the_profile_itself_as_a_variable(tmp_path: Path) -> None:
    """``BEAM_PROFILE`` is ``--profile``, and the bare names are read."""
    env = {**CLEAN, "BEAM_PROFILE": "drop", "MAX_PIPE_SIZE": "1K", "DATA_DIR": str(tmp_path / "data")}
    with Server(log=tmp_path / "log", env=env) as server:
        check_stored(put(server, "/k", bytes(1024)))
        assert put(server, "/l", bytes(1025)).status == 413


BAD_STARTS: dict[str, tuple[str, dict[str, str], str]] = {
    "an unknown profile": ("nothing", {}, "nothing"),
    "an unknown knob": ("drop:colour=red", {}, "colour"),
    "a bad knob": ("drop:put-ttl=soon", {}, "soon"),
    "a bad bare variable": ("drop", {"PUT_TTL": "soon"}, "soon"),
}


@pytest.mark.parametrize(("profile", "env", "word"), BAD_STARTS.values(), ids=BAD_STARTS)
def test_a_bad_start(profile: str, env: dict[str, str], word: str, tmp_path: Path) -> None:
    """Is told in one line, with exit status 1."""
    flags = ("--profile", profile, "--data-dir", str(tmp_path / "data"))
    assert word in refusal(Server(*flags, log=tmp_path / "log", env={**CLEAN, **env}))


# Beside the default profile.


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The default profile, with two mounts of drop."""
    folder = tmp_path_factory.mktemp("both")
    flags = ("--mount", f"/d=drop{FOREVER}", "--mount", f"/e=drop{PATIENT}", "--data-dir", str(folder / "data"))
    with Server(*flags, log=folder / "log", env=CLEAN) as started:
        _running.append(started)
        before = started.descriptors()
        yield started
        check_nothing_left(started, folder, before)


def test_a_mount_has_keys_of_its_own(both: Server) -> None:
    """The same key may be in use under each mount and at the root."""
    check_stored(put(both, "/d/x", b"of the one"))
    assert get(both, "/x?wait=0").status == 404
    check_stored(put(both, "/e/x", b"of the other"))
    check_stored(put(both, "/e/y"))
    check_error(get(both, "/d/y"), 404, NOT_THERE)
    sender = connect(both).put("/x", b"of beam")
    until(lambda: both.gauges()["pipes"] >= 3, "all three are there")
    assert get(both, "/d/x").body == b"of the one"
    assert get(both, "/e/x").body == b"of the other"
    assert get(both, "/x").body == b"of beam"
    assert sender.answer().text == "delivered 7 bytes to 1 receiver\n"
    check_error(put(both, "/d/x"), 409, TAKEN)


def test_a_receiver_waits_under_its_mount(both: Server) -> None:
    """For a sender of that mount and no other."""
    (receiver,) = waiting(both, "/e/waited-for")
    check_stored(put(both, "/d/waited-for"))
    assert receiver.hears_nothing()
    check_stored(put(both, "/e/waited-for", b"this"))
    assert receiver.answer().body == b"this"


@pytest.mark.parametrize("target", ["/d/", "/d//", "/d/?a=b"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_an_empty_key_under_a_mount(method: str, target: str, both: Server) -> None:
    """Is refused as it is at the root of the profile."""
    check_error(ask(both, method, target), 400, "missing key in path")


def test_keys_under_a_mount(both: Server) -> None:
    """Are what stands behind the prefix: none is reserved, and 512 bytes of it are taken."""
    for key in ("-/health", "api/x", "favicon.ico", "a/b", "%C3%BC", "k" * 512):
        check_stored(put(both, f"/d/{key}"))
        assert get(both, f"/d/{key}").body == DATA
    check_stored(put(both, "/d//slashes"))
    assert get(both, "/d/slashes").body == DATA
    check_error(put(both, "/d/" + "k" * 513), 400, "key exceeds 512 bytes")


def test_the_rules_of_a_mount(both: Server) -> None:
    """Methods, query, forms and browsers are drop's there, and beam's elsewhere."""
    answer = ask(both, "POST", "/d/rules")
    check_error(answer, 405, "only PUT and GET are supported")
    assert answer["allow"] == "GET, PUT"
    check_stored(put(both, "/d/rules?ttl=x", form(part(DATA, 'form-data; name="text"')), FORM))
    assert get(both, "/d/rules?wait=x", *BROWSERS["a link"]).body == DATA
    assert put(both, "/rules?ttl=x").status == 400
    assert get(both, "/-/health").body.strip() == b"ok"
    assert b"<html" in get(both, "/", *BROWSERS["a link"]).body.lower()


@pytest.mark.parametrize("target", ["/dx", "/D/x", "/x/d/x"])
def test_what_is_not_under_the_mount(target: str, both: Server) -> None:
    """A prefix is whole segments, as they are written."""
    check_stored(put(both, f"/d{target}", DATA))
    answer = get(both, f"{target}?wait=0")
    assert answer.status == 404
    assert NOT_THERE not in answer.text


def test_a_flag_holds_under_a_mount(tmp_path: Path) -> None:
    """The times of the command line are the mount's too."""
    flags = ("--mount", "/d=drop", "--put-ttl", "0.3", "--get-wait-timeout", "0.3", "-P", "1K")
    with Server(*flags, "--data-dir", str(tmp_path / "data"), log=tmp_path / "log", env=CLEAN) as server:
        check_stored(put(server, "/d/k"))
        until(lambda: put(server, "/d/k").status == 200, "the file goes", 15)
        assert put(server, "/d/large", bytes(1025)).status == 413
        began = time.monotonic()
        check_error(get(server, "/d/nothing"), 404, NOT_THERE)
        assert time.monotonic() - began < 4


def test_a_listener_with_the_profile(tmp_path: Path) -> None:
    """Has the profile's rules and keys of its own."""
    port = free_port()
    flags = ("--listen", f"drop@127.0.0.1:{port}", "--get-wait-timeout", "0.3", "--data-dir", str(tmp_path / "data"))
    with Server(*flags, log=tmp_path / "log", env=CLEAN) as server:
        beside = Peer(socket.create_connection(("127.0.0.1", port), timeout=BOUND))
        check_stored(beside.put("/k", DATA).answer())
        assert beside.get("/k").answer().body == DATA
        assert beside.ask("POST", "/k").answer().status == 405
        assert get(server, "/k?wait=0").status == 404
        sender = connect(server).put("/k", b"of beam")
        assert get(server, "/k").body == b"of beam"
        assert sender.answer().status == 200
