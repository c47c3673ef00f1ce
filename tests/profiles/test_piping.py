"""``--profile piping`` answers as the original Piping Server does: scene by scene, and in the checks of its checker.

The answers of the original stand in ``piping.json``.  Compared are, in the order in which they are heard, statuses,
versions, headers (as sets of names and values), bodies, progress lines, silences, and whether an answer was whole.
How a connection ends is compared where a scene waits for it, and closed and reset are the same.
"""

import json
import random
import re
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from attrs import frozen
from harness import Server
from profiles.playing import RECORDING, Connection, Heard, digest, leave_all, play
from profiles.scenes import CHUNKED, LAST_CHUNK, SCENES, chunk, get, post, put, request

RECORDED: dict[str, Heard] = json.loads(RECORDING.read_text())["scenes"] if RECORDING.exists() else {}


@frozen
class More:
    """A header that some of beam's answers have and the original's have not."""

    name: str
    value: str  # a regular expression
    where: Callable[[Heard], bool]  # asked with the original's answer
    reason: str


def every(theirs: Heard) -> bool:
    """Whether it is an answer."""
    return True


def is_download(theirs: Heard) -> bool:
    """Whether it is that of a receiver who is served."""
    return "x-robots-tag" in theirs["headers"]


def is_live(theirs: Heard) -> bool:
    """Whether it comes bit by bit: a download, or what a sender hears."""
    return is_download(theirs) or "transfer-encoding" in theirs["headers"]


def has_no_type(theirs: Heard) -> bool:
    """Whether it is a sentence of which the original does not say what it is."""
    return bool(theirs["status"] == 405)


def is_not_for_pages(theirs: Heard) -> bool:
    """Whether the original keeps it from pages of other origins."""
    return "access-control-allow-origin" not in theirs["headers"]


# Where beam differs from the original on purpose: headers that it has besides, and scenes, with their reasons.
MORE = (
    More("server", r"beam/\S+", every, "ours"),
    More("x-content-type-options", "nosniff", every, "a browser shall not find HTML in what was sent as text"),
    More("cache-control", "no-store", every, "what went through once shall not stay in a cache"),
    More("content-security-policy", "sandbox", is_download, "our pages share the origin with what strangers send"),
    More("x-accel-buffering", "no", is_live, "nginx would swallow the flow control"),
    More("content-type", "text/plain", has_no_type, "a sentence says what it is"),
    More("access-control-allow-origin", r"\*", is_not_for_pages, "pages may read every answer"),
)


@frozen
class Differs:
    """What is different in a scene: the number of the hearing and what of it, and why."""

    hearings: str
    reason: str
    perhaps: str = ""  # what differs besides when the network is quick


GUESS = "the length of a form's file is not known before its end; the original guesses it, and is wrong with two parts"
NOW_KNOWN = "a body that is whole before its receiver comes has a known length"
RAW_PATH = "a sentence names the path as it was asked for"
HTML_IS_HTML = "text/html is made text/plain however it is written"
KNOWS = "Allow names what the path takes"
SCENES_THAT_DIFFER = {
    "reserved_percent_encoded": Differs(
        "0 more, 0 headers, 0 lines, 0 status", "a reserved path is reserved however it is encoded"
    ),
    "method_propfind": Differs("0 headers", KNOWS),
    "delete_index": Differs("0 headers", KNOWS),
    "head": Differs("0 headers", KNOWS),
    "patch_with_body": Differs("0 headers", KNOWS),
    "head_leaves_the_sender": Differs("1 headers", KNOWS),
    "method_delete": Differs("0 headers", KNOWS),
    "method_patch": Differs("0 headers", KNOWS),
    "method_trace": Differs("0 headers", KNOWS),
    "form_with_a_file": Differs("0 headers", GUESS),
    "form_with_a_text_field": Differs("0 headers", GUESS),
    "form_with_html": Differs("0 headers", GUESS),
    "form_headers_of_the_request_do_not_count": Differs("0 headers", GUESS),
    "form_with_an_empty_file": Differs("0 headers", GUESS),
    "form_two_receivers": Differs("0 headers, 1 headers", GUESS),
    "form_streams": Differs("0 headers", GUESS),
    "form_two_parts": Differs(
        "0 headers", "with the length that is guessed its receivers wait for bytes that never come", ", 2 silence"
    ),
    "expect_continue_refused": Differs("0 interim", "a refusal comes before the body is asked for"),
    "chunked_sender_first": Differs("1 headers", NOW_KNOWN),
    "empty_without_length": Differs("1 headers", NOW_KNOWN),
    "type_html_spaces": Differs("0 headers", HTML_IS_HTML),
    "type_html_upper": Differs("0 headers", HTML_IS_HTML),
    "headers_that_are_not_forwarded": Differs(
        "0 headers", "who says that a body is compressed, and of when it is, means it"
    ),
    "type_empty": Differs("0 headers", "an empty Content-Type is none"),
    "sender_spoils_a_chunk": Differs("3 body", "a sender hears what was wrong before it is cut"),
    "sender_leaves_an_old_receiver": Differs(
        "1 whole", "what was cut must not look whole: HTTP/1.0 without a length ends with a reset"
    ),
    "form_sender_leaves": Differs("0 headers, 1 silence", "a receiver whose sender is gone is cut"),
    "one_of_two_receivers_leaves": Differs("4 silence, 5 body, 5 whole, 6 lines", "the others go on when one leaves"),
    "percent_encoded_otherwise": Differs("1 silence, 2 silence", "paths are compared after percent-decoding"),
    "percent_that_is_no_escape": Differs("0 body, 0 headers", "a bad escape is refused"),
    "sender_leaves_before_a_byte": Differs(
        "1 headers, 1 http, 1 interim, 1 status", "the head comes as soon as it is known"
    ),
    "path_slash_twice_in_front": Differs("0 body, 0 headers", RAW_PATH),
    "path_slash_twice_in_front_only": Differs("0 body, 0 headers", RAW_PATH),
    "path_dots": Differs("0 body, 0 headers", RAW_PATH),
    "path_quote": Differs("0 body, 0 headers", RAW_PATH),
    "path_dots_above": Differs("0 body, 0 headers", RAW_PATH),
    "path_fragment": Differs("0 body, 0 headers", RAW_PATH),
}


def differences(expected: Heard, heard: Heard, more: tuple[More, ...] = MORE) -> dict[str, str]:
    """In what ``heard`` is not as ``expected``: hearing and what of it, and the two."""
    found: dict[str, str] = {}
    for step, (theirs, ours) in enumerate(zip(expected["heard"], heard["heard"], strict=True)):
        if theirs.get("headers") is not None and ours.get("headers") is not None:
            theirs, ours = dict(theirs), dict(ours)
            wrong = without(ours, [each for each in more if each.where(theirs)])
            if wrong:
                found[f"{step} more"] = "\n".join(wrong)
        for what in sorted(theirs.keys() | ours.keys()):
            if theirs.get(what) != ours.get(what):
                where = f"{theirs['who']} {theirs['act']}"
                found[f"{step} {what}"] = f"{where}: {what} is {ours.get(what)!r}, not {theirs.get(what)!r}"
    return found


def without(heard: Heard, more: list[More]) -> list[str]:
    """Take the headers ``more`` out; complaints about those that are not there."""
    headers = dict(heard["headers"])
    heard["headers"] = headers
    values = {each: headers.pop(each.name, []) for each in more}
    return [
        f"{each.name} is {values[each]}, not {each.value}: {each.reason}"
        for each in more
        if len(values[each]) != 1 or not re.fullmatch(each.value, values[each][0])
    ]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the profile."""
    with Server("--profile", "piping", log=tmp_path_factory.mktemp("piping") / "log") as server:
        yield server


@pytest.fixture
def server(started: Server) -> Iterator[Server]:
    """The server, with nothing left behind the test."""
    before = started.descriptors()
    yield started
    leave_all()
    started.until_clean(before)


def test_the_recording_is_that_of_the_scenes() -> None:
    """A scene that has changed is recorded again."""
    assert {name: each["script"] for name, each in RECORDED.items()} == {
        name: digest(each) for name, each in SCENES.items()
    }
    assert set(SCENES_THAT_DIFFER) <= set(SCENES)


@pytest.mark.parametrize("name", SCENES)
def test_a_scene(name: str, server: Server) -> None:
    """Everybody hears what they hear from the original, unless it is in the table."""
    found = differences(RECORDED[name], play(SCENES[name], server.port), () if SCENES[name].page else MORE)
    differs = SCENES_THAT_DIFFER.get(name, Differs("", ""))
    assert ", ".join(found) in (differs.hearings, differs.hearings + differs.perhaps), "\n".join(
        f"{where} {what}" for where, what in found.items()
    )


def test_the_page_without_scripts_takes_its_path_as_text(server: Server) -> None:
    """What stands in the query of /noscript becomes the form's target and no markup; only our own style is applied."""
    connection = Connection(server.port)
    connection.ask(get("/noscript?path=%22%3E%3Cscript%3Ealert(1)%3C/script%3E&mode=text", "Connection: close"))
    answer = connection.answer()
    assert "<script" not in answer["body"]
    assert answer["headers"]["content-security-policy"] == ["default-src 'none'; style-src 'nonce-...'"]
    connection.leave()


# The checks of piping-server-check, as far as no scene is one.


def sent(port: int, *pieces: bytes) -> Connection:
    """A connection on which a request was begun."""
    connection = Connection(port)
    connection.ask(b"".join(pieces))
    return connection


def transfers(port: int, path: str, body: bytes = b"the body") -> None:
    """A receiver that comes first, and a sender: the body goes through."""
    receiver = sent(port, get(path))
    time.sleep(0.05)
    sender = sent(port, post(path, body))
    answer = receiver.answer()
    assert (answer["status"], answer["body"], answer["whole"]) == (200, body.decode(), True)
    assert sender.answer()["whole"]
    receiver.leave()
    sender.leave()


def check_post_cancel_post(port: int) -> None:
    """A second later the path of a sender that left is free; both hear 200 while nobody receives."""
    first = sent(port, post("/post-cancel-post", b"first"))
    assert first.head()["status"] == 200
    first.leave()
    time.sleep(1)
    second = sent(port, post("/post-cancel-post", b"second"))
    assert second.head()["status"] == 200
    second.leave()


def check_get_cancel_get(port: int) -> None:
    """A receiver is held for three seconds and leaves; three seconds later the path is like new."""
    receiver = sent(port, get("/get-cancel-get"))
    assert receiver.silence(3.0)["silence"]
    receiver.leave()
    time.sleep(3)
    transfers(port, "/get-cancel-get")


def check_service_worker_registration_is_rejected_soon(port: int) -> None:
    """Within a second, with a status 4xx."""
    began = time.monotonic()
    receiver = sent(port, get("/check-service-worker", "Service-Worker: script"))
    assert 400 <= receiver.answer()["status"] < 500
    assert time.monotonic() - began < 1
    receiver.leave()


def check_the_sender_hears_before_there_is_a_receiver(port: int) -> None:
    """The head comes before the body is whole, and the second sender is rejected without its body."""
    for method in ("PUT", "POST"):
        began = time.monotonic()
        first = sent(port, request(method, "/check-first", CHUNKED), chunk(b"begin"))
        assert first.head()["status"] == 200
        second = sent(port, request(method, "/check-first", CHUNKED))
        assert 400 <= second.answer()["status"] < 500
        assert time.monotonic() - began < 5
        second.leave()
        receiver = sent(port, get("/check-first"))
        first.send(chunk(b" and end") + LAST_CHUNK)
        assert receiver.answer()["body"] == "begin and end"
        assert first.rest()["whole"]
        receiver.leave()
        first.leave()
        transfers(port, "/check-first")


def check_every_byte_is_seen_before_the_next_is_sent(port: int) -> None:
    """All 256 values, one by one, and an end."""
    sender = sent(port, request("POST", "/check-bytes", CHUNKED))
    assert sender.head()["status"] == 200
    receiver = sent(port, get("/check-bytes"))
    for value in range(256):
        sender.send(chunk(bytes([value])))
        assert receiver.take(1) == bytes([value])
    sender.send(LAST_CHUNK)
    assert receiver.rest() == {"body": "", "whole": True}
    assert sender.rest()["whole"]
    sender.leave()
    receiver.leave()


def check_a_form_of_eight_mebibytes(port: int) -> None:
    """Both headers of the part reach the receiver byte for byte, and the file does."""
    body = random.Random(8).randbytes(8 << 20)
    disposition, type_ = 'form-data; name="input_data"', "application/octet-stream"
    fields = f"Content-Disposition: {disposition}\r\nContent-Type: {type_}\r\n\r\n"
    form = b"--check\r\n" + fields.encode() + body + b"\r\n--check--\r\n"
    receiver = sent(port, get("/check-form"))
    time.sleep(0.05)
    sender = Connection(port)
    ask = post("/check-form", form, "Content-Type: multipart/form-data; boundary=check")
    sending = threading.Thread(target=sender.ask, args=(ask,), daemon=True)
    sending.start()
    head = receiver.head()
    assert head["headers"]["content-disposition"] == [disposition]
    assert head["headers"]["content-type"] == [type_]
    taken = receiver.take(len(body))
    sending.join(10)
    assert taken == body
    assert receiver.rest()["whole"]
    assert sender.answer()["whole"]
    receiver.leave()
    sender.leave()


def check_ten_transfers_at_once(port: int) -> None:
    """Senders and receivers come together, in any order."""
    paths = [f"/check-at-once-{number}" for number in range(10)]
    bodies = {path: random.Random(path).randbytes(1000) for path in paths}
    # Each connects before any of them asks.
    connections = {(path, who): Connection(port) for path in paths for who in ("sender", "receiver")}
    asks = [(connections[path, "receiver"], get(path)) for path in paths]
    asks += [(connections[path, "sender"], post(path, bodies[path])) for path in paths]
    random.Random(10).shuffle(asks)
    for connection, data in asks:
        connection.ask(data)
    for path in paths:
        assert connections[path, "receiver"].answer()["body"] == bodies[path].decode("latin-1")
        assert connections[path, "sender"].answer()["whole"]
    for connection in connections.values():
        connection.leave()


def check_a_long_transfer_of_chunks(port: int, seconds: float = 2.0) -> None:
    """Random chunks for some seconds: the beginning is there while the sender sends, and the whole at the end."""
    sender = sent(port, request("POST", "/check-long", CHUNKED))
    assert sender.head()["status"] == 200
    receiver = sent(port, get("/check-long"))
    made = random.Random(11)
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        data = made.randbytes(made.randrange(1, 1 << 16))
        sender.send(chunk(data))
        assert receiver.take(len(data)) == data
    sender.send(LAST_CHUNK)
    assert receiver.rest() == {"body": "", "whole": True}
    assert sender.rest()["whole"]
    sender.leave()
    receiver.leave()


def check_old_http(port: int) -> None:
    """HTTP/1.0 on both sides, either first, and the path again at once."""
    for first in ("sender", "receiver", "sender"):
        both = {
            "sender": (Connection(port), put("/check-old", b"old", version="1.0")),
            "receiver": (Connection(port), get("/check-old", version="1.0")),
        }
        for name in sorted(both, key=lambda name: name != first):
            connection, data = both[name]
            connection.ask(data)
            time.sleep(0.05)
        assert both["receiver"][0].answer()["body"] == "old"
        assert both["sender"][0].answer()["whole"]
        for connection, _ in both.values():
            connection.leave()


CHECKS: tuple[Callable[[int], None], ...] = (
    check_post_cancel_post,
    check_get_cancel_get,
    check_service_worker_registration_is_rejected_soon,
    check_the_sender_hears_before_there_is_a_receiver,
    check_every_byte_is_seen_before_the_next_is_sent,
    check_a_form_of_eight_mebibytes,
    check_ten_transfers_at_once,
    check_a_long_transfer_of_chunks,
    check_old_http,
)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_a_check(check: Callable[[int], None], server: Server) -> None:
    """What the public checker of the protocol checks, and no scene does."""
    check(server.port)
