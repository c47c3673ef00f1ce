"""Requests that cannot be: each gets a clear answer before its body is read, and nothing of it is taken."""

import json
import random
from pathlib import Path
from urllib.parse import quote

import pytest
from contract.peers import LAST_CHUNK, Background, Cut, Peer, check_refusal, chunk
from contract.server import Relay, Server
from harness import until

METHODS = "GET, HEAD, POST, PUT, OPTIONS"

BAD_KEYS = {
    "empty segment": "/a//b",
    "empty segment at the end": "/a/",
    "empty segment at the start": "//a",
    "empty segment, encoded": "/a%2F%2fb",
    "dot": "/./a",
    "dot at the end": "/a/.",
    "two dots": "/a/../b",
    "two dots, encoded": "/%2e%2E/a",
    "two dots behind an encoded slash": "/a%2f..",
    "NUL": "/a%00b",
    "line feed": "/a%0ab",
    "C0 control": "/a%1fb",
    "DEL": "/a%7fb",
    "C1 control": "/a%c2%85b",
    "override of direction": "/a%e2%80%aeb",
    "isolate of direction": "/a%e2%81%a6b",
    "no hexadecimal": "/%zz",
    "half an escape": "/a%4",
    "a lone percent sign": "/a%",
    "a double percent sign": "/%%41",
    "no UTF-8, encoded": "/a%ff",
    "no UTF-8, raw": "/a\udcff",
    "overlong UTF-8": "/a%c0%af",
    "surrogate": "/a%ed%a0%80",
    "513 bytes": "/" + "a" * 513,
    "514 bytes in 257 characters": "/" + "%c3%bc" * 257,
}


@pytest.mark.parametrize("target", BAD_KEYS.values(), ids=BAD_KEYS)
def test_a_bad_key_is_refused(plain: Relay, target: str) -> None:
    """Neither a send nor a receive may use it, and a client that asks first never sends its body."""
    sent = plain.connect().ask("PUT", target, "Expect: 100-continue", "Content-Length: 3").answer()
    check_refusal(sent, 400)
    assert sent.interim == ()
    check_refusal(plain.connect().get(target).answer(), 400)
    assert plain.connect().ask("HEAD", target).answer().status == 400
    assert plain.connect().ask("OPTIONS", target).answer().status == 400


SAME_KEYS = {
    "512 bytes": ("/" + "a" * 512, "/" + "a" * 512),
    "512 bytes in 256 characters": ("/" + "%c3%bc" * 256, "/" + "ü" * 256),
    "a slash, encoded": ("/a%2fb", "/a/b"),
    "raw UTF-8": ("/grüße", "/gr%C3%BC%c3%9fe"),
    "a space": ("/a%20b", "/a%20b"),
    "a plus is a plus": ("/a+b", "/a%2Bb"),
    "a percent sign": ("/100%25", "/100%25"),
    "three dots": ("/...", "/.%2e."),
    "much punctuation": ("/a;b=c:d@e,f!g$h&i'(j)*~_-.", "/a;b=c:d@e,f!g$h&i'(j)*~_-."),
    "nearly reserved": ("/-a/favicon.ico", "/-a/favicon.ico"),
    "absolute": ("http://beam.test/absolute", "/absolute"),
}


@pytest.mark.parametrize(("one", "other"), SAME_KEYS.values(), ids=SAME_KEYS)
def test_keys_are_compared_decoded(plain: Relay, one: str, other: str) -> None:
    """However a key is written, it is the same key."""
    receiver = plain.connect().get(other)
    plain.wait_for_waiters(1)
    assert plain.connect().put(one, b"found").answer().status == 200
    assert receiver.answer().body == b"found"


def test_keys_are_not_normalised(plain: Relay) -> None:
    """Two ways to write an umlaut are two keys, and so are two cases."""
    receivers = [plain.connect().get(target) for target in ("/u%cc%88", "/X")]
    plain.wait_for_waiters(2)
    for target in ("/%c3%bc?wait=0", "/x?wait=0"):
        check_refusal(plain.connect().put(target, b"lost").answer(), 504)
    assert all(receiver.hears_nothing() for receiver in receivers)


# Reserved paths.


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/-/health",
        "/-/my-file",
        "/favicon.ico",
        "/robots.txt",
        "/%2d/x",
        "/favicon%2Eico",
    ],
)
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_send_to_a_reserved_path_is_refused(plain: Relay, method: str, target: str) -> None:
    """It says so before the body is sent, and shows what a good key looks like; encoding does not help."""
    answer = plain.connect().ask(method, target, "Expect: 100-continue", "Content-Length: 3").answer()
    check_refusal(answer, 400, "reserved", "example, /")
    assert answer.interim == ()


@pytest.mark.parametrize(
    ("target", "status", "kind", "text"),
    [
        ("/", 200, "text/html; charset=utf-8", "curl --fail-with-body -T"),
        ("/-/help", 200, "text/plain; charset=utf-8", "curl -fo FILE http://beam.test/KEY"),
        ("/-/version", 200, "text/plain; charset=utf-8", "beam "),
        ("/-/health", 200, "text/plain; charset=utf-8", "ok\n"),
        ("/robots.txt", 200, "text/plain; charset=utf-8", "Disallow: /\n"),
        ("/-/nothing", 404, "text/plain; charset=utf-8", "/-/help"),
    ],
)
def test_what_is_beams_own(plain: Relay, target: str, status: int, kind: str, text: str) -> None:
    """The page, the help as text, the version and the health; HEAD says the same without the text."""
    answer = plain.ask("GET", target)
    assert (answer.status, answer["content-type"]) == (status, kind)
    assert text in answer.text
    head = plain.ask("HEAD", target)
    assert (head.status, head["content-type"], head.body) == (status, kind, b"")


def test_the_page_masks_keys(plain: Relay, key: str) -> None:
    """The page lists what runs, but whoever looks at it does not learn the keys."""
    secret = f"{key}-secret-word"
    sender = plain.connect().put(secret, b"12345", length=20_480)
    plain.wait_for_offer(secret)
    page = plain.ask("GET", "/").text
    assert "waiting" in page
    assert "20.0 KiB" in page
    assert "secret" not in page
    sender.close()


# Options.

BAD_FOR_MEMORY = {
    "unknown": "reader=2",
    "unknown, without a value": "fast",
    "readers: zero": "readers=0",
    "readers: negative": "readers=-1",
    "readers: a sign": "readers=%2B1",
    "readers: a fraction": "readers=1.5",
    "readers: empty": "readers=",
    "readers: a word": "readers=two",
    "readers: underscores": "readers=1_0",
    "readers: other digits": "readers=%D9%A1",
    "readers: twice": "readers=1&readers=1",
    "wait: negative": "wait=-1",
    "wait: nan": "wait=nan",
    "wait: infinite": "wait=inf",
    "wait: an exponent": "wait=1e1",
    "wait: empty": "wait=",
    "wait: underscores": "wait=1_0",
    "wait: a space": "wait=+1",
    "wait: twice": "wait=1&wait=1",
    "digest: unknown": "digest=md5",
    "digest: empty": "digest=",
    "digest: twice": "digest=sha-256&digest=sha-256",
    "name: twice": "name=a&name=b",
    "store: unknown": "store=tape",
    "store: a configuration": "store=disk:/var/x",
    "store: a class": "store=memory:cap=1T",
    "a bad escape": "wait=%zz",
    "no UTF-8": "name=%ff",
}
BAD_FOR_DISK = {
    "downloads: zero": "downloads=0",
    "downloads: negative": "downloads=-1",
    "downloads: a word": "downloads=x",
    "downloads: twice": "downloads=1&downloads=1",
    "ttl: negative": "ttl=-1",
    "ttl: nan": "ttl=nan",
    "ttl: empty": "ttl=",
    "ttl: underscores": "ttl=1_0",
    "ttl: twice": "ttl=1&ttl=2",
}


def check_bad_options(relay: Relay, key: str, query: str, *words: str) -> None:
    """A send with ``query`` is refused before its body is sent, and leaves the key free."""
    answer = relay.connect().ask("PUT", f"{key}?{query}", "Expect: 100-continue", "Content-Length: 3").answer()
    check_refusal(answer, 400, *words)
    assert answer.interim == ()
    assert relay.server.gauge("pipes") == 0


@pytest.mark.parametrize("query", BAD_FOR_MEMORY.values(), ids=BAD_FOR_MEMORY)
def test_a_bad_option_is_refused(plain: Relay, key: str, query: str) -> None:
    """No option is guessed at: what is unknown, doubled or no number is refused."""
    check_bad_options(plain, key, query)


@pytest.mark.parametrize("query", BAD_FOR_DISK.values(), ids=BAD_FOR_DISK)
def test_a_bad_option_of_a_store_that_keeps_is_refused(disk_server: Server, key: str, query: str) -> None:
    """The same for what only a store that keeps understands."""
    check_bad_options(Relay(disk_server, "disk", "tcp"), key, query)


def test_an_option_above_its_cap_is_refused_with_the_cap(plain: Relay, disk_server: Server, key: str) -> None:
    """Who asks for too long a time is told how long it may be; the cap itself may be asked for."""
    check_bad_options(plain, key, "wait=3600.1", "3600")
    keeping = Relay(disk_server, "disk", "tcp")
    check_bad_options(keeping, key, "ttl=86401", "86400")
    check_refusal(plain.ask("GET", f"{key}?wait=3601"), 400, "3600")
    sender = plain.connect().put(f"{key}?wait=3600", b"1", "Expect: 100-continue", length=10)
    assert sender.first_status() == 100


@pytest.mark.parametrize("option", ["downloads=1", "ttl=5"])
def test_an_option_of_a_store_that_keeps_is_refused_by_one_that_holds(plain: Relay, key: str, option: str) -> None:
    """Memory keeps nothing, and says so."""
    check_bad_options(plain, key, option, option.partition("=")[0], "memory")


@pytest.mark.parametrize("option", ["readers=2", "wait=5"])
def test_an_option_of_a_store_that_holds_is_refused_by_one_that_keeps(
    disk_server: Server, key: str, option: str
) -> None:
    """Disk waits for nobody, and says so."""
    check_bad_options(Relay(disk_server, "disk", "tcp"), key, option, option.partition("=")[0], "disk")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("wait", ["-1", "nan", "", "1_0", "x", "1&wait=1"])
def test_a_receiver_with_a_bad_wait_is_refused(plain: Relay, key: str, method: str, wait: str) -> None:
    """A bad value of a known option is refused for receivers too."""
    assert plain.ask(method, f"{key}?wait={wait}").status == 400


def test_a_receiver_with_unknown_options_is_served(plain: Relay, key: str) -> None:
    """Links collect options on their way; they do no harm."""
    receiver = plain.connect().get(f"{key}?utm_source=mail&fbclid=1&x")
    plain.wait_for_waiters(1)
    sender = plain.connect().put(key, b"abc", length=6)
    assert receiver.take(3) == b"abc"
    assert plain.ask("HEAD", f"{key}?utm_source=mail").status == 200
    assert sender.send(b"def").answer().status == 200
    assert receiver.answer().body == b"def"


# Heads that two parsers could read in two ways.

PUT = b"PUT %b HTTP/1.1\r\nHost: beam.test\r\n"
MALFORMED = {
    "two lengths": PUT + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "two equal lengths": PUT + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "two equal lengths in one": PUT + b"Content-Length: 3, 3\r\n\r\nabc",
    "a length and a coding": PUT + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a coding and a length": PUT + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "a negative length": PUT + b"Content-Length: -3\r\n\r\nabc",
    "a length with a sign": PUT + b"Content-Length: +3\r\n\r\nabc",
    "a length in words": PUT + b"Content-Length: three\r\n\r\nabc",
    "a hexadecimal length": PUT + b"Content-Length: 0x3\r\n\r\nabc",
    "a length with an underscore": PUT + b"Content-Length: 1_0\r\n\r\nabc",
    "a length with a fraction": PUT + b"Content-Length: 3.0\r\n\r\nabc",
    "an empty length": PUT + b"Content-Length:\r\n\r\nabc",
    "a length in other digits": PUT + "Content-Length: ٣\r\n\r\nabc".encode(),
    "bare line feeds": PUT.replace(b"\r\n", b"\n") + b"Content-Length: 3\n\nabc",
    "a bare line feed behind the request line": PUT.replace(b"\r\n", b"\n", 1) + b"Content-Length: 3\r\n\r\nabc",
    "a bare line feed behind a header": PUT + b"Content-Length: 3\nX: y\r\n\r\nabc",
    "a bare line feed at the end": PUT + b"Content-Length: 3\r\n\nabc",
    "a bare carriage return": PUT + b"X: a\rb\r\nContent-Length: 3\r\n\r\nabc",
    "a folded header": PUT + b"X: a\r\n b\r\nContent-Length: 3\r\n\r\nabc",
    "a folded length": PUT + b"Content-Length:\r\n 3\r\n\r\nabc",
    "a folded first header": b"PUT %b HTTP/1.1\r\n Host: beam.test\r\nContent-Length: 3\r\n\r\nabc",
    "a space before a colon": PUT + b"Content-Length : 3\r\n\r\nabc",
    "a tab before a colon": PUT + b"Content-Length\t: 3\r\n\r\nabc",
    "a header without a colon": PUT + b"Content-Length\r\n\r\nabc",
    "a header without a name": PUT + b": 3\r\nContent-Length: 3\r\n\r\nabc",
    "a NUL in a header": PUT + b"X: a\0b\r\nContent-Length: 3\r\n\r\nabc",
    "no Host": b"PUT %b HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
    "two Hosts": PUT + b"Host: beam.test\r\nContent-Length: 3\r\n\r\nabc",
    "a coding in HTTP/1.0": PUT.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "no version": b"PUT %b\r\nHost: beam.test\r\n\r\n",
    "two spaces": b"PUT  %b HTTP/1.1\r\nHost: beam.test\r\n\r\n",
    "a space in the target": b"PUT %b x HTTP/1.1\r\nHost: beam.test\r\n\r\n",
    "no slash": b"PUT x%b HTTP/1.1\r\nHost: beam.test\r\n\r\n",
    "another protocol": b"PUT %b ICAP/1.0\r\nHost: beam.test\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_head_is_refused(plain: Relay, key: str, request_bytes: bytes) -> None:
    """What somebody else could read otherwise is not read at all."""
    answer = plain.connect().send(request_bytes % key.encode()).answer()
    check_refusal(answer, 400)
    assert answer["connection"] == "close"
    assert plain.server.gauge("pipes") == 0


def test_nothing_is_read_behind_a_malformed_head(plain: Relay, key: str) -> None:
    """The connection is closed after the refusal, and what came behind the head is no request."""
    behind = b"GET /-/version HTTP/1.1\r\nHost: beam.test\r\n\r\n"
    peers = {name: plain.connect().send(data % key.encode() + behind) for name, data in MALFORMED.items()}
    for name, peer in peers.items():
        heard = peer.everything()
        assert heard.startswith(b"HTTP/1.1 400 ") and heard.count(b"HTTP/1.1 ") == 1, name


def test_a_malformed_head_is_refused_over_every_transport(plain: Relay, key: str) -> None:
    """The head is checked in one place, whatever the connection."""
    peers = [plain.server.connect(ends).send(MALFORMED["a folded length"] % key.encode()) for ends in ("tls", "unix")]
    for peer in peers:
        check_refusal(peer.answer(), 400)
    assert all(peer.is_closed() for peer in peers)


def test_a_malformed_second_head_is_refused(plain: Relay, key: str) -> None:
    """A connection that went well so far is checked like a new one."""
    peer = plain.connect().get(f"{key}?wait=0").send(MALFORMED["a space before a colon"] % key.encode())
    check_refusal(peer.answer(), 404)
    check_refusal(peer.answer(), 400)
    assert peer.is_closed()


BAD_CHUNKS = {
    "no number": b"zz\r\nabc\r\n",
    "a sign": b"+3\r\nabc\r\n",
    "negative": b"-3\r\nabc\r\n",
    "a prefix": b"0x3\r\nabc\r\n",
    "an underscore": b"1_0\r\nabcdefghijklmnop\r\n",
    "empty": b"\r\nabc\r\n",
    "longer than said": b"3\r\nabcdef\r\n",
    "a bare line feed": b"3\nabc\r\n0\r\n\r\n",
    "an endless size": b"0" * 5000,
}


def test_a_bad_chunk_is_refused_and_cuts_the_receivers(relay: Relay, key: str) -> None:
    """The sender reads what is wrong, the connection is closed, and no receiver takes the part for the whole."""
    bodies = {
        f"{name}, {i}": first + data
        for name, data in BAD_CHUNKS.items()
        for i, first in enumerate((b"", chunk(b"good")))
    }
    receivers = {name: relay.connect().get(f"{key}/{quote(name)}") for name in bodies}
    relay.wait_for_waiters(len(receivers))
    senders = {name: relay.connect().put_chunked(f"{key}/{quote(name)}", [], ends=False) for name in bodies}
    for name, sender in senders.items():
        sender.send(bodies[name] + b"3\r\nabc\r\n0\r\n\r\n")
    for name, sender in senders.items():
        check_refusal(sender.answer(), 400, "chunk")
        assert receivers[name].head().status == 200, name
        with pytest.raises((Cut, ConnectionResetError)):
            print(name, receivers[name].answer())
    assert all(sender.is_closed() for sender in senders.values())


def test_extensions_and_trailers_of_chunks_are_passed_over(relay: Relay, key: str) -> None:
    """What RFC 9112 lets a sender add is no part of the file."""
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    sender = relay.connect().put_chunked(key, [], ends=False)
    sender.send(b'3;name="a;b"\r\nabc\r\n003\r\ndef\r\n0;last\r\nX-Trailer: yes\r\n\r\n')
    assert sender.answer().status == (201 if relay.keeps else 200)
    assert receiver.answer().body == b"abcdef"


def test_empty_lines_before_a_request_are_passed_over(plain: Relay, key: str) -> None:
    """RFC 9112, 2.2: some old clients send one behind a body."""
    peer = plain.connect().send(b"\r\n").get(f"{key}?wait=0")
    check_refusal(peer.answer(), 404)


# Methods, codings and expectations.


@pytest.mark.parametrize("method", ["DELETE", "PATCH", "TRACE"])
def test_a_method_that_a_key_does_not_take(plain: Relay, key: str, method: str) -> None:
    """405 names those that it takes."""
    answer = plain.ask(method, key)
    check_refusal(answer, 405)
    assert set(answer["allow"].split(", ")) == set(METHODS.split(", "))


@pytest.mark.parametrize("target", ["/", "/-/health"])
def test_a_method_that_beams_own_paths_do_not_take(plain: Relay, target: str) -> None:
    """405 names those that such a path takes."""
    answer = plain.ask("DELETE", target)
    check_refusal(answer, 405)
    assert set(answer["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


@pytest.mark.parametrize("method", ["BREW", "get", "PROPFIND"])
def test_a_method_that_nobody_knows(plain: Relay, key: str, method: str) -> None:
    """501, because methods are case-sensitive words of a known list."""
    check_refusal(plain.ask(method, key), 501, "method")


def test_a_coding_that_nobody_knows(plain: Relay, key: str) -> None:
    """501, and the connection is closed, because nobody knows where the body ends."""
    peers = []
    for coding in ("gzip", "gzip, chunked", "identity", "chunked, chunked"):
        peers.append(plain.connect().ask("PUT", key, f"Transfer-Encoding: {coding}").send(b"3\r\nabc\r\n0\r\n\r\n"))
        check_refusal(peers[-1].answer(), 501, "chunked")
    assert all(peer.is_closed() for peer in peers)


def test_an_expectation_that_nobody_knows(plain: Relay, key: str) -> None:
    """417 says which one is known."""
    peer = plain.connect().ask("PUT", key, "Expect: a-miracle", "Content-Length: 3")
    check_refusal(peer.answer(), 417, "100-continue")
    assert plain.server.gauge("pipes") == 0


@pytest.mark.parametrize("target", ["*", "/some/key"])
def test_options_names_the_methods(plain: Relay, target: str) -> None:
    """OPTIONS is 204 with Allow, and opens nothing to other origins."""
    answer = plain.ask("OPTIONS", target, "Origin: https://elsewhere.test", "Access-Control-Request-Method: PUT")
    assert (answer.status, answer.body) == (204, b"")
    assert set(answer["allow"].split(", ")) == set(METHODS.split(", "))
    assert not [name for name, _ in answer.fields if name.startswith("access-control")]


def test_the_asterisk_is_for_options_only(plain: Relay) -> None:
    """Any other method is told so in a sentence, and what follows its head is its body and no request."""
    hidden = b"GET /-/version HTTP/1.1\r\nHost: beam.test\r\n\r\n"
    peers = []
    for method in ("GET", "PUT", "DELETE"):
        peers.append(plain.connect().ask(method, "*", f"Content-Length: {len(hidden)}").send(hidden))
        answer = peers[-1].answer()
        assert answer.status in (400, 405)
        check_refusal(answer, answer.status)
    assert all(peer.is_closed() for peer in peers)


def test_a_head_of_nearly_64_kib_is_taken(plain: Relay, key: str) -> None:
    """Cookies and tokens are long nowadays."""
    fields = [f"X-Field-{i}: {'x' * 6000}" for i in range(10)]
    check_refusal(plain.ask("GET", f"{key}?wait=0", *fields), 404)


def test_a_head_larger_than_64_kib_is_refused(plain: Relay, key: str) -> None:
    """431 in a sentence, whether it is one header or many."""
    peers = []
    for fields in ([f"X: {'x' * 70_000}"], [f"X-{i}: {'x' * 1000}" for i in range(70)]):
        for method in ("GET", "PUT"):
            peers.append(plain.connect().ask(method, key, *fields))
            check_refusal(peers[-1].answer(), 431, "65536")
    assert all(peer.is_closed() for peer in peers)


def test_a_head_that_never_ends_is_refused(plain: Relay) -> None:
    """It is not gathered for ever: 431 comes although the head has no end."""
    peer = plain.connect().send(b"GET /x HTTP/1.1\r\nX: " + b"x" * 70_000)
    check_refusal(peer.answer(), 431)
    assert peer.is_closed()


# Errors for programs.


def test_an_error_is_json_for_who_prefers_it(plain: Relay, key: str) -> None:
    """A program reads the status and the sentence from JSON."""
    answer = plain.ask("GET", f"{key}?wait=0", "Accept: application/json")
    assert (answer.status, answer["content-type"]) == (404, "application/json")
    error = json.loads(answer.body)
    assert error == {"error": error["error"], "status": 404}
    assert error["error"] == plain.ask("GET", f"{key}?wait=0").text.rstrip("\n")


def test_an_error_is_text_for_a_browser(plain: Relay, key: str) -> None:
    """Who takes HTML as well is a person."""
    check_refusal(plain.ask("PUT", f"{key}?x=y", "Accept: text/html, application/json;q=0.9"), 400)


@pytest.mark.parametrize(
    ("fields", "status"),
    [(["Expect: a-miracle", "Content-Length: 3"], 417), (["Transfer-Encoding: gzip"], 501)],
)
def test_an_error_of_the_head_is_json_too(plain: Relay, key: str, fields: list[str], status: int) -> None:
    """A program reads every refusal of a request that could be read."""
    answer = plain.connect().ask("PUT", key, "Accept: application/json", *fields).answer()
    assert (answer.status, answer["content-type"]) == (status, "application/json")
    assert json.loads(answer.body)["status"] == status


# Before the body.


def test_the_sender_may_go_on_before_any_receiver_is_there(relay: Relay, key: str) -> None:
    """100 Continue comes at admission: the body can be on its way while the receiver is still being told of it."""
    sender = relay.connect().put(key, b"", "Expect: 100-continue", length=3)
    assert sender.first_status() == 100
    sender.send(b"abc")
    answer = relay.connect().get(key).answer()
    assert answer.body == b"abc"
    assert sender.answer().interim == (100,)


def test_an_expectation_is_known_in_any_case(plain: Relay, key: str) -> None:
    """RFC 9110, 10.1.1: it is case-insensitive."""
    assert plain.connect().put(key, b"", "expect: 100-Continue", length=3).first_status() == 100


def test_an_old_client_gets_no_interim_answer(plain: Relay, key: str) -> None:
    """RFC 9110, 15.2: an HTTP/1.0 client would take 100 for the answer."""
    receiver = plain.connect().get(key)
    plain.wait_for_waiters(1)
    sender = plain.connect().put(key, b"abc", "Expect: 100-continue", version="1.0")
    assert receiver.answer().body == b"abc"
    assert sender.answer().interim == ()


@pytest.mark.parametrize("expects", [True, False], ids=["expect", "no expect"])
def test_of_ten_senders_one_wins(relay: Relay, key: str, expects: bool) -> None:
    """Ten start at once: one may go on, nine read 409 before they have sent a byte of their bodies."""
    peers = [relay.connect() for _ in range(10)]
    for peer in peers:
        peer.ask("PUT", key, "Content-Length: 1000000", *(["Expect: 100-continue"] if expects else []))
    relay.server.wait_for("pipes", 1)
    receiver = relay.connect().get(key)
    winners = [peer for peer in peers if may_go_on(peer, expects)]
    assert len(winners) == 1
    winner = winners[0]
    for loser in (peer for peer in peers if peer is not winner):
        answer = loser.answer()
        check_refusal(answer, 409, "in use")
        assert answer.interim == ()
    data = random.Random(9).randbytes(1_000_000)
    winner.send(data)
    assert receiver.answer().body == data
    assert winner.answer().status == (201 if relay.keeps else 200)


def may_go_on(peer: Peer, expects: bool) -> bool:
    """Whether this sender may go on."""
    return peer.first_status() == 100 if expects else peer.hears_nothing()


@pytest.mark.parametrize("expects", [True, False], ids=["expect", "no expect"])
def test_of_ten_curls_one_wins(relay: Relay, key: str, tmp_path: Path, expects: bool) -> None:
    """Nine people read that the key is in use; with Expect, none of them has sent a byte of the file."""
    file = tmp_path / "file"
    file.write_bytes(random.Random(10).randbytes(30_000_000))
    fields = [] if expects else ["-H", "Expect:"]
    senders = [
        relay.curl("--fail-with-body", "-w", "%{http_code} %{size_upload}", "-T", file, *fields, relay.url(key))
        for _ in range(10)
    ]
    until(lambda: sum(sender.process.poll() is not None for sender in senders) >= 9, "nine know that they have lost")
    receiver = relay.curl("-fo", tmp_path / "out", relay.url(f"{key}?wait=20"))
    done = [sender.done() for sender in senders]
    assert receiver.done().code == 0
    assert (tmp_path / "out").read_bytes() == file.read_bytes()
    winners = [each for each in done if each.code == 0]
    losers = [each for each in done if each.code != 0]
    assert len(winners) == 1, done
    for loser in losers:
        sentence, _, figures = loser.out.partition("\n")
        status, uploaded = figures.split()
        assert (loser.code, status) == (22, "409"), loser
        assert "in use" in sentence
        assert int(uploaded) < (1 if expects else 30_000_000)


def send_at_once(relay: Relay, target: str) -> Peer:
    """A sender that does not ask and sends half a megabyte behind its head."""
    return relay.connect().put(target, b"x" * 500_000)


def send_chunked_at_once(relay: Relay, target: str) -> Peer:
    """The same in chunks."""
    return relay.connect().put_chunked(target, [b"x" * 1000] * 500)


def test_a_refused_body_does_not_destroy_the_answer(holding: Relay, key: str) -> None:
    """Who has sent the body already can still read why it was refused; then the connection is closed."""
    senders = [send(holding, f"{key}?what=ever") for send in (send_at_once, send_chunked_at_once) for _ in range(4)]
    for sender in senders:
        answer = sender.answer()
        check_refusal(answer, 400)
        assert answer["connection"] == "close"
    assert all(sender.is_closed() for sender in senders)


def test_a_refused_body_without_end_is_not_read_for_ever(plain: Relay, key: str) -> None:
    """After the refusal about 1 MiB is read, then the connection is closed, however much is still sent."""
    sender = plain.connect().put(f"{key}?what=ever", b"", length=1 << 30)
    assert sender.first_status() == 400
    sent = Background(lambda: endless(sender))
    assert sent.result(15) < 64 << 20


def test_a_refused_body_that_does_not_come_is_not_awaited(plain: Relay, key: str) -> None:
    """After the refusal the connection is closed within a moment, although the body has not come."""
    sender = plain.connect().put(f"{key}?what=ever", b"", length=1000)
    check_refusal(sender.answer(), 400)
    assert sender.is_closed()


def endless(sender: Peer) -> int:
    """Send until the connection breaks; how many bytes that took."""
    sent = 0
    try:
        while True:
            sent += sender.socket.send(b"x" * 65536)
    except OSError:
        return sent


# Bodies that are no bodies.


def test_a_put_without_a_length_is_an_empty_file(relay: Relay, key: str) -> None:
    """RFC 9112, 6.3: a request without a length has no body."""
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    sent = relay.connect().ask("PUT", key).answer()
    assert sent.text in ("delivered 0 bytes to 1 receiver\n", "stored 0 bytes, kept for 4 s\n")
    received = receiver.answer()
    assert (received.status, received["content-length"], received.body) == (200, "0", b"")


def test_the_whole_as_a_content_range_is_a_plain_put(relay: Relay, key: str) -> None:
    """``curl -C - -T`` says so when it starts at 0."""
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    sent = relay.connect().put(key, b"0123456789", "Content-Range: bytes 0-9/10").answer()
    assert sent.status == (201 if relay.keeps else 200)
    assert receiver.answer().body == b"0123456789"


@pytest.mark.parametrize("content_range", ["bytes 0-4/10", "bytes 0-9/*", "bytes */10", "x"])
def test_a_part_as_a_content_range_is_refused(plain: Relay, key: str, content_range: str) -> None:
    """A part must not be taken for the whole."""
    answer = plain.connect().put(key, b"", "Expect: 100-continue", f"Content-Range: {content_range}", length=5).answer()
    check_refusal(answer, 400, "resume" if content_range == "bytes 0-4/10" else "Content-Range")
    assert answer.interim == ()


@pytest.mark.parametrize("framing", ["Content-Length: 30", "Transfer-Encoding: chunked"])
def test_the_body_of_a_get_is_no_request(relay: Relay, key: str, framing: str) -> None:
    """A receiver may send a body; it means nothing, and nothing in it is taken for a request."""
    body = b"GET /-/version HTTP/1.1\r\nX: y\r\n"[:30]
    receiver = relay.connect().get(key, framing).send(chunk(body) + LAST_CHUNK if "chunked" in framing else body)
    relay.wait_for_waiters(1)
    sender = relay.connect().put(key, b"abc")
    answer = receiver.answer()
    assert (answer.status, answer.body) == (200, b"abc")
    assert sender.answer().status == (201 if relay.keeps else 200)
    if answer.get("connection") == "close":
        assert receiver.is_closed()
    else:
        assert receiver.get("/-/version").answer().text.startswith("beam ")


@pytest.mark.parametrize("garbage", [b"NO REQUEST\r\n\r\n", b"\n\n", b"\0" * 100])
def test_garbage_behind_a_receive_does_not_get_into_the_file(relay: Relay, key: str, garbage: bytes) -> None:
    """What a receiver sends behind its request is refused behind the file, never within it."""
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    sender = relay.connect().put(key, b"abc", length=6)
    assert receiver.take(3) == b"abc"
    receiver.send(garbage)
    assert receiver.hears_nothing()
    sender.send(b"def")
    assert receiver.answer().body == b"def"
    assert sender.answer().status == (201 if relay.keeps else 200)


def test_nothing_is_there(plain: Relay, key: str) -> None:
    """A receiver that does not wait hears so at once; HEAD never waits."""
    check_refusal(plain.ask("GET", f"{key}?wait=0"), 404)
    head = plain.ask("HEAD", key)
    assert (head.status, head.body) == (404, b"")


def test_a_chunked_end_in_the_middle_of_a_pipelined_head(plain: Relay, key: str) -> None:
    """Whatever the packets, the body ends where its last chunk does."""
    receiver = plain.connect().get(key)
    plain.wait_for_waiters(1)
    sender = plain.connect().put_chunked(key, [b"abc"], ends=False)
    assert receiver.take(3) == b"abc"
    sender.send(LAST_CHUNK + b"GET /-/ver")
    assert receiver.answer().body == b""
    assert sender.answer().status == 200
    sender.send(b"sion HTTP/1.1\r\nHost: beam.test\r\n\r\n")
    assert sender.answer().text.startswith("beam ")
