"""``--profile claim`` does what ByteBeam does, without the faults that are known of it.

What is written here as a difference is one on purpose: the original answers a wrong secret with 200 and an empty body,
loses bytes when a receiver comes back, keeps files without an end, and does not tell a sender that it was replaced.
"""

import itertools
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from contract.peers import LAST_CHUNK, Answer, Background, Curl, Cut, Peer, chunk, close_all
from harness import BOUND, Server, free_port, until

NOTHING = "Not found"
CLAIMED = "File already downloaded"
TAKEN = "Another upload has taken this path."
SECRET = "s3cret-of-mine"
RIGHT = f"Authorization: Bearer {SECRET}"
DATA = b"0123456789abcdefghij"
STORED = f"stored {len(DATA)} bytes, to be claimed once\n"
LARGE = 40 << 20  # bytes: more than a window of a mebibyte and both systems' buffers hold
ADDRESS = re.compile(r"/([A-Za-z0-9_-]{16,})/([^/?#]+)")

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


def running(folder: pytest.TempPathFactory, *flags: str) -> Iterator[Server]:
    """A server for the module."""
    with Server(*flags, log=folder.mktemp("claim") / "log") as server:
        yield server


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    # What a test that failed has left is gone before the next one looks whether there is anything.
    yield from running(tmp_path_factory, "--profile", "claim:put-wait=20")


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from running(tmp_path_factory, "--profile", "claim:put-wait=20:resume-timeout=0.5")


@pytest.fixture(scope="module")
def guarding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from running(tmp_path_factory, "--profile", "claim:put-wait=20", "--auth", SECRET)


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from running(tmp_path_factory, "--profile", "claim:put-wait=20", "--store", "buffer=memory:window=1M")


@pytest.fixture(scope="module")
def mounting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    yield from running(tmp_path_factory, "--mount", "/c=claim:put-wait=20", "--mount", "/h=hold")


@pytest.fixture
def server(plain: Server) -> Iterator[Server]:
    """The profile as it is."""
    yield from cleaned(plain)


@pytest.fixture
def hasty(hurried: Server) -> Iterator[Server]:
    """The profile, with little time for a receiver to come back."""
    yield from cleaned(hurried)


@pytest.fixture
def guarded(guarding: Server) -> Iterator[Server]:
    """The profile, with a secret."""
    yield from cleaned(guarding)


@pytest.fixture
def narrow(tight: Server) -> Iterator[Server]:
    """The profile, with a window of a mebibyte."""
    yield from cleaned(tight)


@pytest.fixture
def mounted(mounting: Server) -> Iterator[Server]:
    """The profiles claim and hold on mounts, beside the default profile."""
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


def ask(server: Server, method: str, target: str, *fields: str, body: bytes = b"") -> Answer:
    """One request on a connection of its own."""
    asking = peer(server)
    try:
        answer = asking.ask(method, target, *fields, body=body).answer()
    finally:
        asking.close()
    assert answer["server"].startswith("beam/")
    return answer


def get(server: Server, target: str, *fields: str) -> Answer:
    return ask(server, "GET", target, *fields)


def check_text(answer: Answer, status: int, text: str) -> None:
    """``answer`` is this text for people; whether a refusal's line has an end is not said."""
    assert (answer.status, answer.text.rstrip("\n")) == (status, text.rstrip("\n"))
    assert answer["content-type"].startswith("text/plain")


def check_stored(answer: Answer, size: int = len(DATA), claimed: bool = False) -> None:
    """The sender hears that the file waits for its receiver, or is claimed already."""
    what = "claimed" if claimed else "to be claimed once"
    assert (answer.status, answer.text) == (200, f"stored {size} bytes, {what}\n")
    assert answer["content-type"].startswith("text/plain")
    assert answer["server"].startswith("beam/")


def store(server: Server, path: str, body: bytes = DATA, *fields: str) -> None:
    """Send a file; it waits for its receiver."""
    check_stored(peer(server).put(path, body, *fields).answer(), len(body))


def address(server: Server, path: str, *fields: str) -> str:
    """Claim what is at ``path``: the address where it is from now on."""
    answer = get(server, path, *fields)
    assert answer.status == 307, answer
    assert answer["cache-control"] == "no-store"
    return answer["location"]


def take(server: Server, path: str) -> bytes:
    """Claim what is at ``path``, and get it."""
    answer = get(server, address(server, path))
    assert answer.status == 200, answer
    return answer.body


def begin(server: Server, path: str, n: int = 10) -> Peer:
    """A sender that has sent ``n`` bytes of ``DATA``, all of which have come."""
    sender = peer(server).put(path, DATA[:n], length=len(DATA))
    until(lambda: received(server, path) == n, f"{n} bytes have come")
    return sender


def status(server: Server, target: str) -> dict[str, Any]:
    """What ``?status`` tells, with the types that it has."""
    answer = get(server, f"{target}?status=true")
    assert (answer.status, answer["content-type"].split(";")[0]) == (200, "application/json")
    found = json.loads(answer.body)
    check_status(found)
    return dict(found)


def received(server: Server, path: str) -> int | None:
    """Bytes that have come, if something is there."""
    answer = get(server, f"{path}?status=true")
    return None if answer.status == 404 else int(json.loads(answer.body)["received"])


def check_status(found: Any) -> None:
    """``found`` has every field of a status, and no other."""
    assert set(found) == {
        *("file_name", "path", "file_size", "received", "sent", "upload", "download", "created"),
    }
    assert isinstance(found["file_name"], str)
    assert isinstance(found["path"], str)
    assert found["file_size"] is None or type(found["file_size"]) is int
    assert type(found["received"]) is int
    assert type(found["sent"]) is int
    assert found["upload"] in ("InProgress", "Complete", "Failed")
    assert found["download"] in ("NotStarted", "InProgress", "Paused", "Complete", "Failed")
    created = datetime.fromisoformat(found["created"])
    assert created.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - created) < timedelta(minutes=10)


def line(watcher: Peer) -> dict[str, Any]:
    """The next line of a stream of statuses."""
    text = b""
    while not text.endswith(b"\n"):
        byte = watcher.take(1)
        assert byte, f"the stream has ended behind {text!r}"
        text += byte
    found = json.loads(text)
    check_status(found)
    return dict(found)


def form(
    body: bytes,
    *fields: tuple[str, str],
    after: tuple[tuple[str, str], ...] = (),
    filename: str = "of-the-form.txt",
    content_type: str = "text/x-form",
) -> bytes:
    """``fields``, and then ``body`` as the file, of a form with the boundary ``edge``.

    :param after: fields behind the file.
    """

    def part(name: str, value: str) -> bytes:
        return f'--edge\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()

    head = f'Content-Disposition: form-data; name="file"; filename="{filename}"\r\nContent-Type: {content_type}\r\n\r\n'
    file = b"--edge\r\n" + head.encode() + body + b"\r\n"
    return b"".join([*(part(*each) for each in fields), file, *(part(*each) for each in after), b"--edge--\r\n"])


FORM = "Content-Type: multipart/form-data; boundary=edge"
WAYS: dict[str, Callable[[Peer, str, str], Peer]] = {
    "length": lambda sender, method, path: sender.ask(method, path, body=DATA),
    "chunked": lambda sender, method, path: sender.ask(method, path, "Transfer-Encoding: chunked").send(
        chunk(DATA[:7]) + chunk(DATA[7:]) + LAST_CHUNK
    ),
    "form": lambda sender, method, path: sender.ask(method, path, FORM, body=form(DATA)),
    "form with its fields": lambda sender, method, path: sender.ask(
        method, path, FORM, body=form(DATA, ("authentication", "anything"), ("file-size", str(len(DATA))))
    ),
    "HTTP/1.0": lambda sender, method, path: sender.ask(method, path, body=DATA, version="1.0"),
}


# Sending.


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_file_is_stored_and_claimed_once(method: str, way: str, server: Server, key: str) -> None:
    """The sender is told as soon as the file is whole, and may leave; one receiver gets it."""
    sender = WAYS[way](peer(server), method, key)
    check_stored(sender.answer())
    sender.close()
    location = address(server, key)
    assert ADDRESS.fullmatch(location)
    answer = get(server, location)
    assert (answer.status, answer.body) == (200, DATA)
    assert answer["content-length"] == str(len(DATA))
    check_text(get(server, key), 410, CLAIMED)
    assert get(server, location).status == 404


@pytest.mark.parametrize("way", ["length", "chunked", "form"])
def test_an_empty_file_is_a_file(way: str, server: Server, key: str) -> None:
    match way:
        case "length":
            sender = peer(server).put(key, b"")
        case "chunked":
            sender = peer(server).put_chunked(key, [])
        case _:
            sender = peer(server).ask("POST", key, FORM, body=form(b"", ("file-size", "0")))
    check_stored(sender.answer(), 0)
    answer = get(server, address(server, key))
    assert (answer.status, answer.body) == (200, b"")


def test_curl_on_both_sides(server: Server, key: str, tmp_path: Path) -> None:
    """``curl -L`` claims and gets in one go; both end with 0, and the file is the same under the name of its key."""
    data = random.Random(1).randbytes(3 << 20)
    (tmp_path / "sent").write_bytes(data)
    sent = Curl("-f", "-T", tmp_path / "sent", server.url(key)).done()
    assert (sent.code, sent.out) == (0, f"stored {len(data)} bytes, to be claimed once\n")
    assert Curl("-f", "-L", "-OJ", "--output-dir", tmp_path, server.url(key)).done().code == 0
    assert (tmp_path / key.strip("/")).read_bytes() == data


def test_the_form_of_the_originals_client(server: Server, key: str, tmp_path: Path) -> None:
    """Three fields in their order; name and type are those of the form."""
    (tmp_path / "name.txt").write_bytes(DATA)
    fields = ("-F", "authentication=password", "-F", f"file-size={len(DATA)}")
    sent = Curl("-f", *fields, "-F", f"anything=@{tmp_path / 'name.txt'};type=text/x-sent", server.url(key)).done()
    assert (sent.code, sent.out) == (0, STORED)
    answer = get(server, address(server, key))
    assert (answer.body, answer["content-type"], answer["content-length"]) == (DATA, "text/x-sent", str(len(DATA)))
    assert 'attachment; filename="name.txt"' in answer["content-disposition"]


def test_the_form_of_the_originals_readme(server: Server, key: str, tmp_path: Path) -> None:
    """``curl --form file=@FILE`` is enough; a difference: the original drops it without a word."""
    (tmp_path / "name.txt").write_bytes(DATA)
    sent = Curl("-f", "--form", f"file=@{tmp_path / 'name.txt'}", server.url(key)).done()
    assert (sent.code, sent.out) == (0, STORED)
    assert take(server, key) == DATA


def test_the_file_is_the_first_part_that_is_one(server: Server, key: str) -> None:
    """Other fields are passed over; a difference: the original takes the first of another name."""
    fields = (("remark", "no file"), ("authentication", ""), ("file-size", str(len(DATA))), ("another", "x"))
    body = form(DATA, *fields, after=(("last", "y"),))
    check_stored(peer(server).ask("POST", key, FORM, body=body).answer())
    assert take(server, key) == DATA


def test_a_form_without_a_file_is_refused(server: Server, key: str) -> None:
    body = b'--edge\r\nContent-Disposition: form-data; name="file"\r\n\r\ntext\r\n--edge--\r\n'
    answer = ask(server, "POST", key, FORM, body=body)
    assert answer.status == 400
    check_text(get(server, key), 404, NOTHING)


def test_options_of_a_sender_are_ignored(server: Server, key: str) -> None:
    """Known to beam or not, with good values or bad ones."""
    queries = ["readers=2", "wait=0", "wait=zz", "ttl=-1", "store=nowhere", "name=other", "status=true", "nonsense"]
    for query in queries:
        check_stored(peer(server).put(f"{key}?{query}", DATA).answer())
        answer = get(server, address(server, key))
        assert answer.body == DATA
        assert f'filename="{key.strip("/")}"' in answer["content-disposition"]


def test_continue_is_sent_at_admission(server: Server, key: str) -> None:
    sender = peer(server).ask("PUT", key, "Expect: 100-continue", f"Content-Length: {len(DATA)}")
    assert sender.first_status() == 100
    check_stored(sender.send(DATA).answer())
    assert take(server, key) == DATA


@pytest.mark.parametrize("path", ["/", "/-/health", "/favicon.ico", "/robots.txt", "//x", "/a/../b"])
def test_a_path_that_is_no_key_takes_no_file(path: str, server: Server) -> None:
    assert peer(server).put(path, DATA).answer().status == 400


def test_beams_own_paths(server: Server) -> None:
    assert get(server, "/-/health").text == "ok\n"
    assert get(server, "/-/version").text.startswith("beam ")
    page = get(server, "/")
    assert (page.status, page["content-type"]) == (200, "text/html; charset=utf-8")


@pytest.mark.parametrize("method", ["DELETE", "PATCH"])
def test_other_methods_do_nothing(method: str, server: Server, key: str) -> None:
    """405; a difference: the original deletes for anybody."""
    store(server, key)
    answer = ask(server, method, key)
    assert answer.status == 405
    assert {"GET", "HEAD", "PUT", "POST"} <= set(answer["allow"].split(", "))
    assert take(server, key) == DATA


# The size that a form announces.


def begin_form(server: Server, path: str, *fields: tuple[str, str]) -> Peer:
    """A sender of a form that has sent half of ``DATA``, and its receiver can see it."""
    whole = form(DATA, *fields)
    cut = whole.index(DATA) + 10
    sender = peer(server).ask("POST", path, FORM, f"Content-Length: {len(whole)}").send(whole[:cut])
    until(lambda: ask(server, "HEAD", path).status == 200, "the form has its file")
    return sender


def end_form(sender: Peer, *fields: tuple[str, str]) -> Peer:
    whole = form(DATA, *fields)
    return sender.send(whole[whole.index(DATA) + 10 :])


def test_an_announced_size_becomes_the_length(server: Server, key: str) -> None:
    """A receiver of a form that still comes is told it."""
    size = ("file-size", str(len(DATA)))
    sender = begin_form(server, key, size)
    assert status(server, key)["file_size"] == len(DATA)
    assert ask(server, "HEAD", key)["content-length"] == str(len(DATA))
    receiver = peer(server).get(address(server, key))
    assert receiver.head()["content-length"] == str(len(DATA))
    check_stored(end_form(sender, size).answer(), claimed=True)
    assert receiver.answer().body == DATA


def test_without_an_announced_size_the_length_is_not_known(server: Server, key: str) -> None:
    """The receiver gets chunks, and their end."""
    sender = begin_form(server, key)
    assert status(server, key)["file_size"] is None
    assert ask(server, "HEAD", key).get("content-length") is None
    receiver = peer(server).get(address(server, key))
    assert receiver.head().get("content-length") is None
    check_stored(end_form(sender).answer(), claimed=True)
    assert receiver.answer().body == DATA


NO_SIZES = ["abc", "", "-1", "1.5", "1_0", "0x14", "20 bytes", "+20", "\u0662\u0660", "20,20", "9" * 400]


@pytest.mark.parametrize("text", NO_SIZES)
def test_a_size_that_is_no_number_is_refused(text: str, server: Server, key: str) -> None:
    answer = ask(server, "POST", key, FORM, body=form(DATA, ("file-size", text)))
    assert answer.status == 400
    assert answer["content-type"].startswith("text/plain")
    check_text(get(server, key), 404, NOTHING)


@pytest.mark.parametrize("size", [0, 1, len(DATA) - 1, len(DATA) + 1, 10**12])
def test_a_file_of_another_size_is_refused(size: int, server: Server, key: str) -> None:
    """Nothing of it is left."""
    answer = ask(server, "POST", key, FORM, body=form(DATA, ("file-size", str(size))))
    assert answer.status == 400
    check_text(get(server, key), 404, NOTHING)


@pytest.mark.parametrize("size", [10, 11, len(DATA) - 1, len(DATA) + 1])
def test_a_file_of_another_size_cuts_its_receiver(size: int, server: Server, key: str) -> None:
    """Nobody takes the part for the whole, even if so many bytes have come as were announced."""
    field = ("file-size", str(size))
    sender = begin_form(server, key, field)
    receiver = peer(server).get(address(server, key))
    assert receiver.head()["content-length"] == str(size)
    end_form(sender, field)
    assert sender.answer().status == 400
    with pytest.raises(Cut):
        receiver.answer()
    found = status(server, key)
    assert (found["upload"], found["download"]) == ("Failed", "Failed")


@pytest.mark.parametrize(
    "fields", [(FORM,), ("Content-Range: bytes 5-9/20",), ("Repr-Digest: nonsense",)], ids=["size", "part", "digest"]
)
def test_what_is_refused_replaces_nothing(fields: tuple[str, ...], server: Server, key: str) -> None:
    """The file that waits is still there."""
    store(server, key, b"the first")
    body = form(DATA, ("file-size", "abc")) if fields == (FORM,) else DATA
    assert ask(server, "POST", key, *fields, body=body).status == 400
    assert take(server, key) == b"the first"


def test_a_wrong_digest_is_refused(server: Server, key: str) -> None:
    """As everywhere in beam; nothing is left to be claimed."""
    answer = ask(server, "PUT", key, f"Repr-Digest: sha-256=:{'A' * 43}=:", body=DATA)
    assert answer.status == 422
    check_text(get(server, key), 404, NOTHING)


def test_a_form_whose_file_has_not_begun_is_nothing_yet(server: Server, key: str) -> None:
    """A receiver hears 404 at once, and claims nothing that it does not see."""
    whole = form(DATA, ("authentication", "anything"), ("file-size", str(len(DATA))))
    cut = whole.index(b'name="file-size"')
    sender = peer(server).ask("POST", key, FORM, f"Content-Length: {len(whole)}").send(whole[:cut])
    assert sender.hears_nothing()
    check_text(get(server, key), 404, NOTHING)
    check_stored(sender.send(whole[cut:]).answer())
    assert take(server, key) == DATA


def test_a_form_that_stalls_before_its_file_is_cut(tmp_path: Path, key: str) -> None:
    """A connection cannot be held for nothing."""
    with Server("--profile", "claim", "--idle-timeout", "1", log=tmp_path / "log") as server:
        before = server.descriptors()
        sender = peer(server).ask("POST", key, FORM, "Content-Length: 1000", body=b"").send(form(DATA)[:30])
        assert sender.answer().status == 408
        close_all()
        server.until_clean(before)


def test_a_field_without_end_is_refused(server: Server, key: str) -> None:
    """A secret or a size of many mebibytes is none, and takes no memory."""
    before = resident(server)
    for name in ("authentication", "file-size"):
        head = f'--edge\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode()
        sender = peer(server).ask("POST", key, FORM, f"Content-Length: {LARGE}").send(head)
        with suppress(OSError):  # refused and closed meanwhile
            sender.send(b"1" * LARGE)
        assert sender.answer().status == 400
    assert resident(server) - before < LARGE // 2


def resident(server: Server) -> int:
    """Bytes of memory of the server."""
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# The secret.

WRONG: dict[str, tuple[tuple[str, ...], bytes]] = {
    "none": ((), DATA),
    "another": (("Authorization: Bearer wrong",), DATA),
    "the beginning": ((f"Authorization: Bearer {SECRET[:-1]}",), DATA),
    "in capitals": ((f"Authorization: Bearer {SECRET.upper()}",), DATA),
    "empty": (("Authorization: Bearer ",), DATA),
    "of another scheme": ((f"Authorization: Basic {SECRET}",), DATA),
    "without a scheme": ((f"Authorization: {SECRET}",), DATA),
    "in a raw body": (("X-Authentication: " + SECRET,), SECRET.encode()),
    "a form without it": ((FORM,), form(DATA)),
    "a form with another": ((FORM,), form(DATA, ("authentication", "wrong"))),
    "a form with the beginning": ((FORM,), form(DATA, ("authentication", SECRET[:-1]))),
    "a form with more": ((FORM,), form(DATA, ("authentication", SECRET + "!"))),
    "a form with an empty one": ((FORM,), form(DATA, ("authentication", ""))),
    "behind the file": ((FORM,), form(DATA, after=(("authentication", SECRET),))),
    "in another field": ((FORM,), form(DATA, ("password", SECRET))),
}
GOOD: dict[str, tuple[tuple[str, ...], bytes]] = {
    "a raw body": ((RIGHT,), DATA),
    "the scheme in small letters": ((f"Authorization: bearer {SECRET}",), DATA),
    "a form with the header": ((RIGHT, FORM), form(DATA)),
    "a form with the field": ((FORM,), form(DATA, ("authentication", SECRET))),
    "a form with both fields": ((FORM,), form(DATA, ("authentication", SECRET), ("file-size", str(len(DATA))))),
    "a form with the size first": ((FORM,), form(DATA, ("file-size", str(len(DATA))), ("authentication", SECRET))),
}


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize(("fields", "body"), GOOD.values(), ids=GOOD)
def test_the_right_secret_opens(fields: tuple[str, ...], body: bytes, method: str, guarded: Server, key: str) -> None:
    """In the header or in the form; a receiver needs none."""
    check_stored(ask(guarded, method, key, *fields, body=body))
    assert take(guarded, key) == DATA


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize(("fields", "body"), WRONG.values(), ids=WRONG)
def test_a_wrong_secret_is_refused(
    fields: tuple[str, ...], body: bytes, method: str, guarded: Server, key: str
) -> None:
    """A difference: the original says 200 with an empty body.  Nothing is stored, and the key is free."""
    check_unauthorized(ask(guarded, method, key, *fields, body=body))
    check_text(get(guarded, key), 404, NOTHING)
    store(guarded, key, DATA, RIGHT)
    assert take(guarded, key) == DATA


def check_unauthorized(answer: Answer) -> None:
    """A sentence, and what was missing."""
    assert (answer.status, answer["www-authenticate"]) == (401, "Bearer")
    assert answer["content-type"].startswith("text/plain")
    assert answer.body.strip()
    assert SECRET not in answer.text


@pytest.mark.parametrize(("fields", "body"), WRONG.values(), ids=WRONG)
def test_a_wrong_secret_replaces_nothing(fields: tuple[str, ...], body: bytes, guarded: Server, key: str) -> None:
    """What waits at the path is still there, whether it is whole or being sent."""
    store(guarded, key, b"the first", RIGHT)
    check_unauthorized(ask(guarded, "POST", key, *fields, body=body))
    assert take(guarded, key) == b"the first"
    sender = peer(guarded).put(key, DATA[:10], RIGHT, length=len(DATA))
    until(lambda: received(guarded, key) == 10, "half has come")
    check_unauthorized(ask(guarded, "POST", key, *fields, body=body))
    check_stored(sender.send(DATA[10:]).answer())
    assert take(guarded, key) == DATA


def test_a_wrong_secret_is_refused_before_the_body(guarded: Server, key: str) -> None:
    """A sender that asks is not told to go on, and curl prints the sentence without having sent its file."""
    sender = peer(guarded).ask("PUT", key, "Expect: 100-continue", "Content-Length: 1000000")
    assert sender.first_status() == 401
    check_unauthorized(sender.answer())


def test_curl_hears_of_a_wrong_secret(guarded: Server, key: str, tmp_path: Path) -> None:
    """With a large file too, raw or in a form."""
    with (tmp_path / "large").open("wb") as file:
        file.truncate(LARGE)
    for how in (("-T", str(tmp_path / "large")), ("-F", "authentication=x", "-F", f"file=@{tmp_path / 'large'}")):
        sent = Curl("-w", "%{http_code}", "--fail-with-body", *how, guarded.url(key)).done()
        assert (sent.code, sent.out[-3:]) == (22, "401"), how
        assert sent.out[:-3].strip()


def test_a_refusal_as_json(guarded: Server, key: str) -> None:
    answer = peer(guarded).put(key, DATA, "Accept: application/json").answer()
    assert (answer.status, json.loads(answer.body)["status"]) == (401, 401)
    answer = get(guarded, key, "Accept: application/json")
    assert json.loads(answer.body) == {"error": NOTHING, "status": 404}


def test_receivers_need_no_secret(guarded: Server, key: str) -> None:
    """Neither to look nor to take; with a wrong one they are served too."""
    store(guarded, key, DATA, RIGHT)
    assert ask(guarded, "HEAD", key).status == 200
    assert status(guarded, key)["download"] == "NotStarted"
    location = address(guarded, key, "Authorization: Bearer wrong")
    assert get(guarded, location, "Authorization: Bearer wrong").body == DATA


def test_without_a_secret_anybody_may_send(server: Server, key: str) -> None:
    """A difference: the original has ``password`` then.  What a sender shows is ignored."""
    shown: tuple[tuple[tuple[str, ...], bytes], ...] = (
        ((), DATA),
        (("Authorization: Bearer anything",), DATA),
        ((FORM,), form(DATA, ("authentication", "anything"))),
    )
    for fields, body in shown:
        check_stored(ask(server, "POST", key, *fields, body=body))
        assert take(server, key) == DATA


SOURCES: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "AUTH": ({"AUTH": SECRET}, ("--profile", "claim")),
    "BEAM_AUTH": ({"BEAM_AUTH": SECRET}, ("--profile", "claim")),
    "BEAM_AUTH before AUTH": ({"AUTH": "wrong", "BEAM_AUTH": SECRET}, ("--profile", "claim")),
    "the flag before BEAM_AUTH": ({"BEAM_AUTH": "wrong"}, ("--profile", "claim", "--auth", SECRET)),
    "the flag before AUTH": ({"AUTH": "wrong"}, ("--profile", "claim", "--auth", SECRET)),
    "the profile in a variable": ({"BEAM_PROFILE": "claim", "AUTH": SECRET}, ()),
}


@pytest.mark.parametrize(("env", "flags"), SOURCES.values(), ids=SOURCES)
def test_where_the_secret_comes_from(env: dict[str, str], flags: tuple[str, ...], tmp_path: Path, key: str) -> None:
    with Server(*flags, log=tmp_path / "log", env={**os.environ, **env}) as server:
        before = server.descriptors()
        for wrong in ((), ("Authorization: Bearer wrong",)):
            check_unauthorized(peer(server).put(key, DATA, *wrong).answer())
        store(server, key, DATA, RIGHT)
        assert take(server, key) == DATA
        close_all()
        server.until_clean(before)


def test_the_bare_variable_is_read_under_the_profile_only(tmp_path: Path, key: str) -> None:
    """``AUTH`` may mean something else to those who have the profile on a mount."""
    env = {**os.environ, "AUTH": SECRET}
    with Server("--mount", "/c=claim", log=tmp_path / "log", env=env) as server:
        store(server, f"/c{key}")
        assert take(server, f"/c{key}") == DATA


def test_a_secret_guards_a_mount(tmp_path: Path, key: str) -> None:
    with Server("--mount", "/c=claim", "--auth", SECRET, log=tmp_path / "log") as server:
        check_unauthorized(peer(server).put(f"/c{key}", DATA).answer())
        store(server, f"/c{key}", DATA, RIGHT)
        assert take(server, f"/c{key}") == DATA


def test_the_log_has_no_secret(tmp_path: Path, key: str) -> None:
    """Neither the sender's, nor the address of a claimed file."""
    with Server("--profile", "claim", "--auth", SECRET, log=tmp_path / "log") as server:
        check_unauthorized(peer(server).put(key, DATA, "Authorization: Bearer something-wrong").answer())
        store(server, key, DATA, RIGHT)
        location = address(server, key)
        assert get(server, location).body == DATA
        until(lambda: "transfer" in server.log.read_text(), "the transfer is logged")
        log = server.log.read_text()
        for secret in (SECRET, "something-wrong", location.split("/")[1]):
            assert secret not in log


# One file at a path.


def test_a_second_sender_replaces_what_nobody_has_claimed(server: Server, key: str) -> None:
    store(server, key, b"the first")
    store(server, key, b"the second one")
    assert ask(server, "HEAD", key)["content-length"] == "14"
    assert take(server, key) == b"the second one"
    check_text(get(server, key), 410, CLAIMED)


def test_a_replaced_sender_hears_of_it(server: Server, key: str) -> None:
    """A difference: the original drops it without a word."""
    first = begin(server, key)
    store(server, key, b"the second one")
    check_text(first.answer(), 409, TAKEN)
    assert take(server, key) == b"the second one"


def test_a_replaced_sender_hears_of_it_as_json(server: Server, key: str) -> None:
    first = peer(server).put(key, DATA[:10], "Accept: application/json", length=len(DATA))
    until(lambda: received(server, key) == 10, "half has come")
    store(server, key)
    answer = first.answer()
    assert (answer.status, json.loads(answer.body)) == (409, {"error": TAKEN, "status": 409})
    assert take(server, key) == DATA


def test_a_replaced_sender_that_is_held_back_hears_of_it(narrow: Server, key: str) -> None:
    first = peer(narrow).ask("PUT", key, f"Content-Length: {LARGE}")
    assert first.fill(bytes(LARGE)) < LARGE
    store(narrow, key, b"the second one")
    check_text(first.answer(), 409, TAKEN)
    assert take(narrow, key) == b"the second one"


def test_a_file_can_be_replaced_again_and_again(server: Server, key: str) -> None:
    """Each leaves nothing behind but the last."""
    for n in range(20):
        store(server, key, bytes(1 << 20) + bytes([n]))
    gauges = server.gauges()
    assert gauges["pipes"] == 1
    assert gauges["memory_usage"] < 4 << 20
    assert take(server, key)[-1] == 19


def test_what_was_claimed_takes_no_memory(server: Server) -> None:
    """It is remembered for an hour that it was, but not its bytes."""
    before = resident(server)
    paths = [f"/remembered-{next(_numbers)}" for _ in range(12)]
    for path in paths:
        data = random.Random(path).randbytes(16 << 20)
        store(server, path, data)
        assert take(server, path) == data
    for path in paths:
        check_text(get(server, path), 410, CLAIMED)
    assert resident(server) - before < 64 << 20


def test_a_claimed_file_is_not_replaced(server: Server, key: str) -> None:
    """The path is free at once: the next file is at it, and the claimed one at its address."""
    store(server, key, b"the first")
    first = address(server, key)
    store(server, key, b"the second one")
    assert get(server, first).body == b"the first"
    second = address(server, key)
    assert first != second
    assert get(server, second).body == b"the second one"


def test_a_running_download_is_not_replaced(server: Server, key: str) -> None:
    """Its sender goes on too, while another file is sent to the path."""
    first = begin(server, key)
    receiver = peer(server).get(address(server, key))
    assert receiver.take(10) == DATA[:10]
    store(server, key, b"the second one")
    assert take(server, key) == b"the second one"
    check_stored(first.send(DATA[10:]).answer(), claimed=True)
    assert receiver.answer().body == DATA[10:]


def test_a_sender_that_dies_leaves_nothing(server: Server, key: str) -> None:
    """Nobody can claim a part."""
    sender = begin(server, key)
    sender.close()
    until(lambda: ask(server, "HEAD", key).status == 404, "the path is free")
    check_text(get(server, key), 404, NOTHING)
    store(server, key)
    assert take(server, key) == DATA


# The window.


def test_a_file_that_fits_needs_no_receiver(tmp_path: Path, key: str) -> None:
    """The window of the profile is a gibibyte: a sender of 200 MiB has gone before anybody comes."""
    size = 200 << 20
    with (tmp_path / "large").open("wb") as file:
        file.truncate(size - 1)
        file.seek(0, os.SEEK_END)
        file.write(b"!")
    with Server("--profile", "claim", log=tmp_path / "log") as server:
        before = server.descriptors()
        sent = Curl("-f", "-T", tmp_path / "large", server.url(key)).done()
        assert (sent.code, sent.out) == (0, f"stored {size} bytes, to be claimed once\n")
        assert server.gauges()["memory_usage"] >= size
        assert Curl("-f", "-L", "-o", tmp_path / "got", server.url(key)).done().code == 0
        assert (
            subprocess.run(["cmp", "-s", tmp_path / "large", tmp_path / "got"], check=False, timeout=60).returncode == 0
        )
        server.until_clean(before)


def test_a_file_that_does_not_fit_holds_its_sender(narrow: Server, key: str) -> None:
    """It hears nothing until a receiver has made room; then every byte arrives."""
    data = random.Random(2).randbytes(LARGE)
    sender = peer(narrow).ask("PUT", key, f"Content-Length: {LARGE}")
    sent = sender.fill(data)
    assert 0 < sent < LARGE
    found = status(narrow, key)
    assert (found["upload"], found["download"], found["sent"]) == ("InProgress", "NotStarted", 0)
    assert 0 < found["received"] <= 13 << 20  # what is behind a receiver is free before there is one
    assert narrow.gauges()["memory_usage"] < 16 << 20
    location = address(narrow, key)
    assert sender.hears_nothing()
    sending = Background(lambda: sender.send(data[sent:]))
    assert get(narrow, location).body == data
    sending.result()
    check_stored(sender.answer(), LARGE, claimed=True)


def test_a_file_that_just_fits_is_stored(narrow: Server, key: str) -> None:
    """As many bytes as the window has."""
    data = random.Random(3).randbytes(1 << 20)
    store(narrow, key, data)
    assert take(narrow, key) == data


def test_a_file_that_fills_the_memory_can_be_replaced(tmp_path: Path, key: str) -> None:
    """The first makes room for the second; senders to other paths hear 503 meanwhile."""
    with Server("--profile", "claim", "--max-memory", "8M", log=tmp_path / "log") as server:
        before = server.descriptors()
        data = [random.Random(n).randbytes(8 << 20) for n in range(2)]
        store(server, key, data[0])
        other = peer(server).put(f"{key}-other", DATA).answer()
        assert (other.status, other["retry-after"].isdecimal()) == (503, True)
        store(server, key, data[1])
        assert take(server, key) == data[1]
        store(server, f"{key}-other")
        assert take(server, f"{key}-other") == DATA
        close_all()
        server.until_clean(before)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_receiver_is_served_while_the_file_comes(chunked: bool, server: Server, key: str) -> None:
    """Each byte is there before the next one is sent, and the sender hears when it is whole."""
    sender = peer(server)
    if chunked:
        sender.put_chunked(key, [DATA[:1]], ends=False)
    else:
        sender.put(key, DATA[:1], length=len(DATA))
    until(lambda: received(server, key) == 1, "the first byte has come")
    receiver = peer(server).get(address(server, key))
    assert receiver.take(1) == DATA[:1]
    for value in DATA[1:]:
        sender.send(chunk(bytes([value])) if chunked else bytes([value]))
        assert receiver.take(1) == bytes([value])
    if chunked:
        sender.send(LAST_CHUNK)
    check_stored(sender.answer(), claimed=True)
    assert receiver.answer().body == b""


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_sender_that_dies_midway_cuts_its_receiver(chunked: bool, server: Server, key: str) -> None:
    """What came of the file has no clean end, and the path tells that it failed."""
    sender = peer(server)
    if chunked:
        sender.put_chunked(key, [DATA[:10]], ends=False)
    else:
        sender.put(key, DATA[:10], length=len(DATA))
    until(lambda: received(server, key) == 10, "half has come")
    location = address(server, key)
    receiver = peer(server).get(location)
    assert receiver.take(10) == DATA[:10]
    sender.close()
    with pytest.raises(Cut):
        receiver.answer()
    found = status(server, key)
    assert (found["upload"], found["download"]) == ("Failed", "Failed")
    assert get(server, location).status == 404


def test_a_sender_that_dies_behind_the_claim(server: Server, key: str) -> None:
    """Whoever has the address finds nothing there; the path tells why."""
    sender = begin(server, key)
    location = address(server, key)
    sender.close()
    until(lambda: ask(server, "HEAD", location).status == 404, "the file is gone")
    check_text(get(server, location), 404, NOTHING)
    check_text(get(server, key), 410, CLAIMED)
    found = status(server, key)
    assert (found["upload"], found["download"]) == ("Failed", "Failed")


def test_a_sender_that_dies_while_it_is_held_back(narrow: Server, key: str) -> None:
    """Nothing of it is left."""
    sender = peer(narrow).ask("PUT", key, f"Content-Length: {LARGE}")
    assert sender.fill(bytes(LARGE)) < LARGE
    sender.reset()
    until(lambda: ask(narrow, "HEAD", key).status == 404, "the path is free")
    check_text(get(narrow, key), 404, NOTHING)


# Looking and claiming.


def test_nothing_there_is_404_at_once(server: Server, key: str) -> None:
    """Whatever is asked for; nobody waits."""
    for query in ("", "?wait=3600", "?wait=zz", "?download=true", "?nonsense"):
        check_text(get(server, key + query), 404, NOTHING)
    assert ask(server, "HEAD", key).status == 404
    assert server.gauges()["key_waiters"] == 0


def test_a_claimed_path_says_so(server: Server, key: str) -> None:
    """From the claim on: before the download, in it, and behind it."""
    data = random.Random(4).randbytes(LARGE)
    store(server, key, data)
    location = address(server, key)
    check_text(get(server, key), 410, CLAIMED)
    assert ask(server, "HEAD", key).status == 410
    receiver = slow_peer(server).get(location)
    begun = receiver.take(1000)
    check_text(get(server, key), 410, CLAIMED)
    assert begun + receiver.answer().body == data
    check_text(get(server, key), 410, CLAIMED)
    check_text(get(server, f"{key}?download=true"), 410, CLAIMED)
    assert ask(server, "HEAD", key).status == 410


def test_a_claim_is_not_for_the_next_file(server: Server, key: str) -> None:
    """410 is gone as soon as something is at the path again."""
    store(server, key)
    assert take(server, key) == DATA
    store(server, key, b"another")
    assert ask(server, "HEAD", key).status == 200
    assert take(server, key) == b"another"
    check_text(get(server, key), 410, CLAIMED)


def test_of_many_receivers_at_once_one_claims(server: Server, key: str) -> None:
    store(server, key)
    receivers = [peer(server).get(key) for _ in range(8)]
    answers = [receiver.answer() for receiver in receivers]
    assert sorted(answer.status for answer in answers) == [307] + [410] * 7
    (location,) = (answer["location"] for answer in answers if answer.status == 307)
    assert get(server, location).body == DATA


def test_curl_without_following_claims_all_the_same(server: Server, key: str) -> None:
    """As in the original: the address is what it gets for it."""
    store(server, key)
    done = Curl("-w", "%{http_code} %{redirect_url}", server.url(key)).done()
    code, _, location = done.out.split("\n")[-1].partition(" ")
    assert code == "307"
    check_text(get(server, key), 410, CLAIMED)
    assert get(server, location.removeprefix(server.url(""))).body == DATA


def test_head_claims_nothing(server: Server, key: str) -> None:
    """It describes what is there."""
    store(server, key, DATA, "Content-Type: text/x-own")
    for _ in range(2):
        answer = ask(server, "HEAD", key)
        assert (answer.status, answer.body) == (200, b"")
        assert (answer["content-length"], answer["content-type"]) == (str(len(DATA)), "text/x-own")
        assert f'filename="{key.strip("/")}"' in answer["content-disposition"]
    assert Curl("-f", "-I", "-L", server.url(key)).done().code == 0
    assert status(server, key)["download"] == "NotStarted"
    assert take(server, key) == DATA


def test_head_of_the_address_takes_nothing(server: Server, key: str) -> None:
    store(server, key)
    location = address(server, key)
    for _ in range(2):
        answer = ask(server, "HEAD", location)
        assert (answer.status, answer["content-length"]) == (200, str(len(DATA)))
    assert get(server, location).body == DATA


BROWSERS = {
    "a navigation": ("User-Agent: Mozilla/5.0", "Accept: text/html,*/*", "Sec-Fetch-Mode: navigate"),
    "an old navigation": ("User-Agent: Mozilla/5.0", "Accept: text/html,*/*"),
    "WhatsApp": ("User-Agent: WhatsApp/2.23",),
    "Slackbot": ("User-Agent: Slackbot-LinkExpanding 1.0",),
    "Twitterbot": ("User-Agent: Twitterbot/1.0",),
    "facebookexternalhit": ("User-Agent: facebookexternalhit/1.1",),
    "TelegramBot": ("User-Agent: TelegramBot (like TwitterBot)",),
    "Discordbot": ("User-Agent: Mozilla/5.0 (compatible; Discordbot/2.0)",),
    "LinkedInBot": ("User-Agent: LinkedInBot/1.0",),
    "SkypeUriPreview": ("User-Agent: Mozilla/5.0 SkypeUriPreview",),
    "Applebot": ("User-Agent: Mozilla/5.0 (Applebot/0.1)",),
    "Googlebot": ("User-Agent: Mozilla/5.0 (compatible; Googlebot/2.1)",),
    "bingbot": ("User-Agent: Mozilla/5.0 (compatible; bingbot/2.0)",),
}
NAVIGATION = BROWSERS["a navigation"]


@pytest.mark.parametrize("fields", BROWSERS.values(), ids=BROWSERS)
def test_a_browser_or_previewer_claims_nothing(fields: tuple[str, ...], server: Server, key: str) -> None:
    """It gets a page that says that the file can be fetched once, and whose button leads to it."""
    store(server, key)
    for _ in range(2):
        answer = get(server, key, *fields)
        assert (answer.status, answer["content-type"]) == (200, "text/html; charset=utf-8")
        assert "once" in answer.text
        assert key.strip("/") in answer.text
        assert f'href="{key}?download' in answer.text
        assert f"{len(DATA)} bytes" in answer.text
    assert status(server, key)["download"] == "NotStarted"
    assert take(server, key) == DATA


@pytest.mark.parametrize("option", ["download", "download=true"])
@pytest.mark.parametrize("fields", [NAVIGATION, BROWSERS["WhatsApp"]], ids=["browser", "previewer"])
def test_a_browser_that_follows_the_button_gets_the_file(
    fields: tuple[str, ...], option: str, server: Server, key: str
) -> None:
    """At the address it is served like anybody: there is no second page."""
    store(server, key)
    answer = get(server, address(server, f"{key}?{option}", *fields), *fields)
    assert (answer.status, answer.body) == (200, DATA)
    assert answer["content-disposition"].startswith("attachment")


def test_a_program_that_calls_itself_a_browser_is_none(server: Server, key: str) -> None:
    """A difference: a Mozilla that does not ask for a page gets the file, as everywhere in beam."""
    store(server, key)
    location = address(server, key, "User-Agent: Mozilla/5.0", "Accept: */*")
    assert get(server, location).body == DATA


def test_the_page_of_a_path_with_nothing(server: Server, key: str) -> None:
    """A browser gets a page that says so."""
    answer = get(server, key, *NAVIGATION)
    assert (answer.status, answer["content-type"]) == (404, "text/html; charset=utf-8")


def test_a_browser_hears_that_a_file_was_claimed(server: Server, key: str) -> None:
    """410 as others do, and no promise that the file will come."""
    store(server, key)
    assert take(server, key) == DATA
    assert get(server, key, *NAVIGATION).status == 410


def test_the_page_shows_names_as_text(server: Server) -> None:
    """Those of the path and of the form."""
    path = f"/page-%3Cscript%3E-{next(_numbers)}"
    body = form(DATA, filename="<script>alert(1)</script>")
    check_stored(ask(server, "POST", path, FORM, body=body))
    answer = get(server, path, *NAVIGATION)
    assert answer.status == 200
    assert "<script" not in answer.text
    assert take(server, path) == DATA


# The address of a claimed file.


@pytest.mark.parametrize(
    "path",
    ["/address-{}", "/" + "long" * 120 + "-{}", "/team/2026/address-{}.pdf", "/na%C3%AFve%20%3F%23-{}", "/a%22b%25-{}"],
)
def test_the_address_can_be_followed(path: str, server: Server) -> None:
    """A name that is no plain text is escaped in it, and has no slash."""
    path = path.format(next(_numbers))
    store(server, path)
    location = address(server, path)
    assert ADDRESS.fullmatch(location)
    assert location.isascii()
    assert get(server, location).body == DATA


@pytest.mark.parametrize("filename", ["plain.txt", "two words.txt", "../up.txt", "na\u00efve.txt", "..", "a?b#c%d.txt"])
def test_the_name_of_a_form_is_safe_in_the_address(filename: str, server: Server, key: str) -> None:
    """Whatever the sender calls it."""
    check_stored(ask(server, "POST", key, FORM, body=form(DATA, filename=filename)))
    location = address(server, key)
    assert ADDRESS.fullmatch(location)
    assert location.isascii()
    answer = get(server, location)
    assert (answer.status, answer.body) == (200, DATA)
    assert ".." not in answer["content-disposition"]


def test_addresses_cannot_be_guessed(server: Server, key: str) -> None:
    """The same file at the same path has another one each time."""
    tokens = set()
    for _ in range(10):
        store(server, key)
        location = address(server, key)
        match = ADDRESS.fullmatch(location)
        assert match
        tokens.add(match[1])
        assert get(server, location).body == DATA
    assert len(tokens) == 10


def test_an_unknown_address_is_404(server: Server, key: str) -> None:
    """So is one that is almost right, and the claimed file is still there."""
    store(server, key)
    location = address(server, key)
    match = ADDRESS.fullmatch(location)
    assert match
    other = "A" if match[1][-1] != "A" else "B"
    check_text(get(server, f"/{match[1][:-1]}{other}/{match[2]}"), 404, NOTHING)
    check_text(get(server, f"/{'A' * len(match[1])}/{match[2]}"), 404, NOTHING)
    assert get(server, location).body == DATA


def test_what_comes_with_the_file(server: Server, key: str) -> None:
    fields = ("Content-Type: text/x-own", "Content-Encoding: gzip", "X-Piping: a remark")
    store(server, key, DATA, *fields)
    answer = get(server, address(server, key))
    expected = {
        "content-type": "text/x-own",
        "content-encoding": "gzip",
        "x-piping": "a remark",
        "content-length": str(len(DATA)),
        "accept-ranges": "bytes",
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "x-robots-tag": "none",
    }
    assert {name: answer.get(name) for name in expected} == expected
    assert answer["content-disposition"].startswith(f'attachment; filename="{key.strip("/")}"')
    assert answer["etag"]


def test_a_file_without_a_type_has_the_general_one(server: Server, key: str) -> None:
    store(server, key)
    assert get(server, address(server, key))["content-type"] == "application/octet-stream"


def test_a_second_receiver_at_the_address_is_refused(server: Server, key: str) -> None:
    """While one is being served: 410; behind its end: 404.  The first is not disturbed."""
    sender = begin(server, key)
    location = address(server, key)
    receiver = peer(server).get(location)
    assert receiver.take(10) == DATA[:10]
    check_text(get(server, location), 410, CLAIMED)
    check_text(get(server, location, "Range: bytes=5-"), 410, CLAIMED)
    check_stored(sender.send(DATA[10:]).answer(), claimed=True)
    assert receiver.answer().body == DATA[10:]
    assert get(server, location).status == 404


def test_a_receiver_of_old_http_gets_everything(server: Server, key: str) -> None:
    sender = peer(server).put_chunked(key, [DATA[:5]], ends=False)
    until(lambda: received(server, key) == 5, "five bytes have come")
    receiver = peer(server).get(address(server, key), version="1.0")
    assert receiver.take(5) == DATA[:5]
    sender.send(chunk(DATA[5:]) + LAST_CHUNK)
    assert receiver.answer().body == DATA[5:]
    check_stored(sender.answer(), claimed=True)


# Coming back.


def left(server: Server) -> None:
    until(lambda: server.gauges()["active_downloads"] == 0, "the receiver has left")


def test_a_receiver_that_breaks_off_comes_back(server: Server, key: str) -> None:
    """It gets the rest as 206; the download is paused meanwhile, and complete at the end."""
    sender = begin(server, key)
    location = address(server, key)
    receiver = peer(server).get(location)
    assert receiver.take(10) == DATA[:10]
    receiver.reset()
    left(server)
    assert status(server, key)["download"] == "Paused"
    again = peer(server).get(location, "Range: bytes=10-")
    assert (again.head().status, again.head()["content-range"]) == (206, "bytes 10-19/20")
    assert status(server, key)["download"] == "InProgress"
    check_stored(sender.send(DATA[10:]).answer(), claimed=True)
    assert again.answer().body == DATA[10:]
    until(lambda: status(server, key)["download"] == "Complete", "the download is complete")
    assert get(server, location).status == 404


@pytest.mark.parametrize("size", [LARGE, 12 << 20], ids=["large", "as large as the history"])
def test_no_byte_is_lost_when_receivers_break_off(size: int, server: Server, narrow: Server, key: str) -> None:
    """A difference: the original loses what was on the way.  The sender's body is whole, or still held back."""
    data = random.Random(5).randbytes(size)
    for where in (server, narrow):
        sender = peer(where)
        sending = Background(lambda sender=sender: sender.put(key, data))  # type: ignore[misc]
        held_back = where is narrow and size == LARGE
        if not held_back:
            sending.result()
            check_stored(sender.answer(), size)
        until(lambda where=where: ask(where, "HEAD", key).status == 200, "the file is there")  # type: ignore[misc]
        location = address(where, key)
        got = b""
        for part in (1 << 20, 3, 7 << 20):
            receiver = slow_peer(where).get(location, *([f"Range: bytes={len(got)}-"] if got else []))
            got += receiver.take(part)
            receiver.reset()
            left(where)
        answer = get(where, location, f"Range: bytes={len(got)}-")
        assert answer.status == 206
        assert got + answer.body == data
        if held_back:
            sending.result()
            check_stored(sender.answer(), size, claimed=True)


def test_a_receiver_that_starts_anew_gets_everything(server: Server, key: str) -> None:
    """A difference: without Range the original goes on in the middle, as if it were the beginning."""
    data = random.Random(6).randbytes(LARGE)
    store(server, key, data)
    location = address(server, key)
    receiver = slow_peer(server).get(location)
    assert receiver.take(1 << 20) == data[: 1 << 20]
    receiver.reset()
    left(server)
    answer = get(server, location)
    assert answer.status == 200
    assert answer.body == data


def test_bytes_that_are_gone_are_not_passed_over(narrow: Server, key: str) -> None:
    """Where the buffer has the beginning no more, it is 410, and the rest can still be had."""
    data = random.Random(7).randbytes(LARGE)
    sender = peer(narrow)
    sending = Background(lambda: sender.put(key, data))
    until(lambda: ask(narrow, "HEAD", key).status == 200, "the file is there")
    location = address(narrow, key)
    receiver = peer(narrow).get(location)
    got = receiver.take(30 << 20)
    receiver.reset()
    left(narrow)
    assert get(narrow, location).status == 410
    answer = get(narrow, location, f"Range: bytes={len(got)}-")
    assert answer.status == 206
    assert got + answer.body == data
    sending.result()
    check_stored(sender.answer(), LARGE, claimed=True)


def test_curl_resumes(server: Server, key: str, tmp_path: Path) -> None:
    """``curl -C -`` at the address makes the part whole."""
    data = random.Random(8).randbytes(8 << 20)
    store(server, key, data)
    location = address(server, key)
    first = peer(server).get(location)
    (tmp_path / "got").write_bytes(first.take(1 << 20))
    first.reset()
    left(server)
    assert Curl("-f", "-C", "-", "-o", tmp_path / "got", server.url(location)).done().code == 0
    assert (tmp_path / "got").read_bytes() == data


def test_a_look_takes_nothing(server: Server, key: str) -> None:
    """As in beam: a range that ends before the end is no download."""
    store(server, key)
    location = address(server, key)
    answer = get(server, location, "Range: bytes=0-3")
    assert (answer.status, answer.body) == (206, DATA[:4])
    assert get(server, location).body == DATA


def test_nobody_comes_back(hasty: Server, key: str) -> None:
    """After the time for it the file is gone, and the path tells that the download failed."""
    store(hasty, key, bytes(LARGE))
    location = address(hasty, key)
    receiver = slow_peer(hasty).get(location)
    receiver.take(1000)
    receiver.close()
    until(lambda: ask(hasty, "HEAD", location).status == 404, "the file is gone")
    check_text(get(hasty, location), 404, NOTHING)
    found = status(hasty, key)
    assert (found["upload"], found["download"]) == ("Complete", "Failed")
    check_text(get(hasty, key), 410, CLAIMED)


def test_a_sender_hears_that_nobody_came_back(hasty: Server, key: str) -> None:
    """If it is still sending: 502."""
    sender = begin(hasty, key)
    receiver = peer(hasty).get(address(hasty, key))
    assert receiver.take(10) == DATA[:10]
    receiver.close()
    assert sender.answer().status == 502
    found = status(hasty, key)
    assert (found["upload"], found["download"]) == ("Failed", "Failed")


# The status.


def test_the_status_of_a_file(server: Server, key: str) -> None:
    """From its first byte to its last: by the path all the time, by the address while it lives."""
    fixed = {"file_name": key.strip("/"), "file_size": len(DATA)}

    def check(target: str, received: int, sent: int, upload: str, download: str) -> None:
        found = status(server, target)
        expected = {**fixed, "received": received, "sent": sent, "upload": upload, "download": download}
        assert {name: found[name] for name in expected} == expected

    sender = begin(server, key)
    check(key, 10, 0, "InProgress", "NotStarted")
    location = address(server, key)
    check(key, 10, 0, "InProgress", "NotStarted")
    check(location, 10, 0, "InProgress", "NotStarted")
    receiver = peer(server).get(location)
    assert receiver.take(10) == DATA[:10]
    check(key, 10, 10, "InProgress", "InProgress")
    check(location, 10, 10, "InProgress", "InProgress")
    receiver.reset()
    left(server)
    check(key, 10, 10, "InProgress", "Paused")
    check(location, 10, 10, "InProgress", "Paused")
    check_stored(sender.send(DATA[10:]).answer(), claimed=True)
    check(key, 20, 10, "Complete", "Paused")
    assert get(server, location, "Range: bytes=10-").body == DATA[10:]
    until(lambda: status(server, key)["download"] == "Complete", "the download is complete")
    check(key, 20, 20, "Complete", "Complete")
    assert get(server, f"{location}?status=true").status == 404


def test_the_status_never_shows_the_address(server: Server, key: str) -> None:
    """Neither at the path, which anybody may know, nor at the address itself; both tell the path."""
    store(server, key)
    assert status(server, key)["path"].strip("/") == key.strip("/")
    location = address(server, key)
    for target in (key, location):
        for option in ("status", "stream"):
            watcher = peer(server).get(f"{target}?{option}=true")
            head = watcher.head()
            found = line(watcher)
            assert found["path"].strip("/") == key.strip("/"), (target, option)
            assert location.split("/")[1] not in f"{found}{head.fields}", (target, option)
    assert get(server, location).body == DATA
    assert status(server, key)["path"].strip("/") == key.strip("/")


def test_the_status_of_a_file_that_waits(server: Server, key: str) -> None:
    """It tells the form's name, takes nothing, and is the same for a browser."""
    check_stored(ask(server, "POST", key, FORM, body=form(DATA, filename="mine.txt")))
    for fields in ((), NAVIGATION, BROWSERS["WhatsApp"]):
        found = json.loads(get(server, f"{key}?status=true", *fields).body)
        check_status(found)
        assert (found["file_name"], found["file_size"]) == ("mine.txt", len(DATA))
        assert (found["upload"], found["download"]) == ("Complete", "NotStarted")
    assert take(server, key) == DATA


def test_the_status_of_a_file_of_unknown_length(server: Server, key: str) -> None:
    """The size is null until it is known."""
    sender = peer(server).put_chunked(key, [DATA[:10]], ends=False)
    until(lambda: received(server, key) == 10, "half has come")
    assert status(server, key)["file_size"] is None
    check_stored(sender.send(chunk(DATA[10:]) + LAST_CHUNK).answer())
    assert status(server, key)["file_size"] == len(DATA)
    assert take(server, key) == DATA


def test_there_is_no_status_of_nothing(server: Server, key: str) -> None:
    check_text(get(server, f"{key}?status=true"), 404, NOTHING)
    check_text(get(server, f"{key}?stream=true"), 404, NOTHING)


def test_the_status_belongs_to_the_newest_file(server: Server, key: str) -> None:
    """A new upload takes the path; the claimed one is told of at its address only."""
    store(server, key, b"the first")
    location = address(server, key)
    assert status(server, key)["file_size"] == 9
    sender = begin(server, key)
    assert (status(server, key)["file_size"], status(server, key)["upload"]) == (len(DATA), "InProgress")
    assert (status(server, location)["file_size"], status(server, location)["upload"]) == (9, "Complete")
    assert get(server, location).body == b"the first"
    assert status(server, key)["download"] == "NotStarted"
    check_stored(sender.send(DATA[10:]).answer())
    assert take(server, key) == DATA


# The stream of statuses.


def test_the_stream_tells_how_it_goes(server: Server, key: str) -> None:
    """A line at once, further ones while nothing happens, and a clean end behind the download."""
    sender = begin(server, key)
    watcher = peer(server).get(f"{key}?stream=true")
    head = watcher.head()
    assert (head.status, head["content-type"].split(";")[0]) == (200, "application/x-ndjson")
    for _ in range(3):
        found = line(watcher)
        assert (found["upload"], found["download"], found["received"]) == ("InProgress", "NotStarted", 10)
    location = address(server, key)
    check_stored(sender.send(DATA[10:]).answer(), claimed=True)
    while line(watcher)["upload"] != "Complete":
        pass
    assert get(server, location).body == DATA
    lines = watcher.answer().text.splitlines(keepends=True)
    for each in lines:
        assert each.endswith("\n")
        assert location.split("/")[1] not in each
        check_status(json.loads(each))
    last = json.loads(lines[-1])
    assert (last["upload"], last["download"], last["sent"]) == ("Complete", "Complete", len(DATA))


def test_the_stream_of_an_address(server: Server, key: str) -> None:
    """It ends with the download too."""
    store(server, key)
    location = address(server, key)
    watchers = [peer(server).get(f"{target}?stream=true") for target in (key, location)]
    for watcher in watchers:
        assert line(watcher)["download"] == "NotStarted"
    assert get(server, location).body == DATA
    for watcher in watchers:
        last = json.loads(watcher.answer().text.splitlines()[-1])
        assert (last["upload"], last["download"], last["sent"]) == ("Complete", "Complete", len(DATA))


def test_the_stream_of_what_has_ended_is_one_line(server: Server, key: str) -> None:
    store(server, key)
    assert take(server, key) == DATA
    until(lambda: status(server, key)["download"] == "Complete", "the download is complete")
    answer = get(server, f"{key}?stream=true")
    (found,) = answer.text.splitlines()
    assert (json.loads(found)["upload"], json.loads(found)["download"]) == ("Complete", "Complete")


@pytest.mark.parametrize("claimed", [False, True], ids=["unclaimed", "claimed"])
def test_the_stream_of_an_upload_that_fails(claimed: bool, server: Server, key: str) -> None:
    """The last line says so, and the end is clean."""
    sender = begin(server, key)
    watcher = peer(server).get(f"{key}?stream=true")
    assert line(watcher)["upload"] == "InProgress"
    if claimed:
        address(server, key)
    sender.close()
    assert json.loads(watcher.answer().text.splitlines()[-1])["upload"] == "Failed"


def test_the_stream_of_a_download_that_fails(hasty: Server, key: str) -> None:
    """It tells of the pause before."""
    store(hasty, key, bytes(LARGE))
    location = address(hasty, key)
    watcher = peer(hasty).get(f"{key}?stream=true")
    receiver = slow_peer(hasty).get(location)
    receiver.take(1000)
    until(lambda: line(watcher)["download"] == "InProgress", "the stream tells of the download")
    receiver.close()
    seen = [json.loads(each)["download"] for each in watcher.answer().text.splitlines()]
    assert seen[-1] == "Failed"
    assert seen.count("Failed") == 1


def test_the_stream_of_a_replaced_file_ends(server: Server, key: str) -> None:
    """It does not go over to the next one."""
    first = begin(server, key)
    watcher = peer(server).get(f"{key}?stream=true")
    line(watcher)
    store(server, key, b"the second one")
    last = json.loads(watcher.answer().text.splitlines()[-1])
    assert (last["file_size"], last["upload"]) == (len(DATA), "Failed")
    check_text(first.answer(), 409, TAKEN)
    assert take(server, key) == b"the second one"


def test_watching_takes_nothing(server: Server, key: str) -> None:
    """Watchers come and go, and neither claim nor count as receivers."""
    store(server, key)
    watchers = [peer(server).get(f"{key}?stream=true", *fields) for fields in ((), NAVIGATION)]
    for watcher in watchers:
        assert line(watcher)["download"] == "NotStarted"
    assert server.gauges()["active_downloads"] == 0
    watchers[0].close()
    watchers[1].reset()
    assert take(server, key) == DATA


# Time.

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


def test_an_hour_later(tmp_path: Path) -> None:
    """What waits for its receiver waits for an hour, and what was claimed is remembered for an hour."""
    mark = tmp_path / "mark"
    command = (sys.executable, "-c", CLOCK.format(mark=str(mark)))
    with Server("--profile", "claim", log=tmp_path / "log", command=command) as server:
        before = server.descriptors()
        store(server, "/waits")
        store(server, "/claimed")
        store(server, "/fetched")
        location = address(server, "/claimed")
        assert take(server, "/fetched") == DATA
        # Where it sets a timer right now, the server would look at two clocks.
        until(lambda: server.gauges()["pipes"] == 2, "the file that was fetched has gone")
        pass_time(mark, 3500)
        for _ in range(3):
            assert ask(server, "HEAD", "/waits").status == 200
            check_text(get(server, "/claimed"), 410, CLAIMED)
            check_text(get(server, "/fetched"), 410, CLAIMED)
            assert b'"Complete"' in get(server, "/fetched?status=true").body
        assert get(server, location).body == DATA
        until(lambda: server.gauges()["pipes"] == 1, "the file that was claimed has gone")
        pass_time(mark, 3700)
        for path in ("/waits", "/claimed", "/fetched"):
            until(lambda path=path: ask(server, "HEAD", path).status == 404, f"{path} is over")  # type: ignore[misc]
            check_text(get(server, path), 404, NOTHING)
            check_text(get(server, f"{path}?status=true"), 404, NOTHING)
        close_all()
        server.until_clean(before)


def test_nobody_claims(tmp_path: Path, key: str) -> None:
    """After the time for it the file is gone, whole or not; a sender that is held back hears of it."""
    flags = ("--profile", "claim:put-wait=1", "--store", "buffer=memory:window=1M")
    with Server(*flags, log=tmp_path / "log") as server:
        before = server.descriptors()
        store(server, key)
        held = peer(server).ask("PUT", f"{key}-held", f"Content-Length: {LARGE}")
        with suppress(OSError):
            held.fill(bytes(LARGE))
        assert held.answer().status == 504
        until(lambda: ask(server, "HEAD", key).status == 404, "the file is gone")
        check_text(get(server, key), 404, NOTHING)
        check_text(get(server, f"{key}-held"), 404, NOTHING)
        close_all()
        server.until_clean(before)


def test_a_claimed_file_that_nobody_fetches_goes(tmp_path: Path, key: str) -> None:
    """The claim keeps it from nobody for ever."""
    with Server("--profile", "claim:put-wait=1:resume-timeout=1", log=tmp_path / "log") as server:
        before = server.descriptors()
        store(server, key)
        location = address(server, key)
        until(lambda: ask(server, "HEAD", location).status == 404, "the file is gone")
        check_text(get(server, key), 410, CLAIMED)
        assert status(server, key)["download"] == "Failed"
        close_all()
        server.until_clean(before)


def test_the_time_for_a_receiver_cuts_nobody_who_is_served(tmp_path: Path, key: str) -> None:
    """Neither a receiver of a whole file that is slow, nor one of a file that still comes."""
    data = random.Random(10).randbytes(LARGE)
    with Server("--profile", "claim:put-wait=1", log=tmp_path / "log") as server:
        before = server.descriptors()
        store(server, f"{key}-whole", data)
        sender = begin(server, key)
        slow, waiting = slow_peer(server), peer(server)
        slow.get(address(server, f"{key}-whole"))
        waiting.get(address(server, key))
        got = slow.take(1000)
        assert waiting.take(10) == DATA[:10]
        assert waiting.hears_nothing(1.5)
        assert got + slow.answer().body == data
        check_stored(sender.send(DATA[10:]).answer(), claimed=True)
        assert waiting.answer().body == DATA[10:]
        close_all()
        server.until_clean(before)


def test_the_flags_of_the_server_hold_here_too(tmp_path: Path, key: str) -> None:
    """``--put-wait-timeout`` and ``--max-pipe-size`` are knobs of every profile."""
    flags = ("--profile", "claim", "--put-wait-timeout", "0.5", "--max-pipe-size", "20")
    with Server(*flags, log=tmp_path / "log") as server:
        before = server.descriptors()
        assert peer(server).put(key, DATA + b"k").answer().status == 413
        assert ask(server, "POST", key, FORM, body=form(DATA + b"k", ("file-size", "21"))).status == 413
        assert ask(server, "POST", key, FORM, body=form(DATA + b"k")).status == 413
        store(server, key)
        until(lambda: ask(server, "HEAD", key).status == 404, "the file is gone")
        close_all()
        server.until_clean(before)


def test_the_first_signal_drains(tmp_path: Path) -> None:
    """What is there can still be claimed, what runs ends as it should, new files hear 503, and the server ends."""
    with Server("--profile", "claim", log=tmp_path / "log") as server:
        store(server, "/waits")
        sender = begin(server, "/runs")
        receiver = peer(server).get(address(server, "/runs"))
        assert receiver.take(10) == DATA[:10]
        server.signal(signal.SIGTERM)
        until(lambda: get(server, "/-/health").status == 503, "the server drains")
        assert peer(server).put("/late", DATA).answer().status == 503
        check_stored(sender.send(DATA[10:]).answer(), claimed=True)
        assert receiver.answer().body == DATA[10:]
        assert take(server, "/waits") == DATA
        close_all()
        assert server.wait() == 0


def test_what_nobody_claims_does_not_hold_the_server(tmp_path: Path, key: str) -> None:
    """Nor does somebody who watches it, for longer than the time to drain."""
    with Server("--profile", "claim", "--drain-timeout", "0.5", log=tmp_path / "log") as server:
        store(server, key)
        watcher = peer(server).get(f"{key}?stream=true")
        line(watcher)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


# On mounts.


def test_a_mount_has_keys_of_its_own(mounted: Server, key: str) -> None:
    """A file at the mount is at no other path, and is fetched below the mount."""
    store(mounted, f"/c{key}")
    assert ask(mounted, "HEAD", key).status == 404
    assert ask(mounted, "HEAD", f"/h{key}").status == 404
    location = address(mounted, f"/c{key}")
    assert location.startswith("/c/")
    assert ADDRESS.fullmatch(location.removeprefix("/c"))
    assert ask(mounted, "HEAD", location.removeprefix("/c")).status == 404
    assert ask(mounted, "HEAD", location.replace("/c/", "/h/", 1)).status == 404
    answer = get(mounted, location)
    assert (answer.status, answer.body) == (200, DATA)
    assert f'filename="{key.strip("/")}"' in answer["content-disposition"]
    check_text(get(mounted, f"/c{key}"), 410, CLAIMED)
    assert get(mounted, f"{key}?wait=0").status == 404


def test_the_same_name_beside_the_mount(mounted: Server, key: str) -> None:
    """Senders to the other profiles replace nothing here, and claims take nothing there."""
    store(mounted, f"/c{key}")
    held = peer(mounted).put(f"/h{key}", b"held")
    sent = peer(mounted).put(key, b"sent")
    for path in (key, f"/h{key}"):
        until(lambda path=path: ask(mounted, "HEAD", path).status == 200, f"{path} is there")  # type: ignore[misc]
    assert mounted.gauges()["pipes"] == 3
    assert take(mounted, f"/c{key}") == DATA
    assert get(mounted, f"/h{key}").body == b"held"
    assert get(mounted, key).body == b"sent"
    assert held.answer().text == "Upload completed successfully\n"
    assert sent.answer().text == "delivered 4 bytes to 1 receiver\n"


def test_the_page_and_the_status_of_a_mount(mounted: Server, key: str) -> None:
    """The button leads below the mount; the status is by the path and by the address there."""
    store(mounted, f"/c{key}")
    answer = get(mounted, f"/c{key}", *NAVIGATION)
    assert answer.status == 200
    assert f'href="/c{key}?download' in answer.text
    assert status(mounted, f"/c{key}")["download"] == "NotStarted"
    location = address(mounted, f"/c{key}?download", *NAVIGATION)
    assert status(mounted, location)["download"] == "NotStarted"
    assert line(peer(mounted).get(f"/c{key}?stream=true"))["upload"] == "Complete"
    assert get(mounted, location, *NAVIGATION).body == DATA


def test_curl_follows_below_the_mount(mounted: Server, key: str, tmp_path: Path) -> None:
    store(mounted, f"/c{key}")
    assert Curl("-f", "-L", "-o", tmp_path / "got", mounted.url(f"/c{key}")).done().code == 0
    assert (tmp_path / "got").read_bytes() == DATA


def test_a_prefix_may_be_escaped(mounted: Server, key: str) -> None:
    """``%63`` is a ``c`` there as in a key."""
    store(mounted, f"/c{key}")
    found = ask(mounted, "HEAD", f"/%63{key}")
    assert take(mounted, f"/c{key}") == DATA
    assert found.status == 200


def test_two_mounts_of_the_profile_are_two(tmp_path: Path, key: str) -> None:
    """Neither replaces nor finds what was sent to the other."""
    with Server("--mount", "/one=claim", "--mount", "/two=claim", log=tmp_path / "log") as server:
        before = server.descriptors()
        store(server, f"/one{key}", b"one")
        check_text(get(server, f"/two{key}"), 404, NOTHING)
        store(server, f"/two{key}", b"two")
        location = address(server, f"/one{key}")
        check_text(get(server, location.replace("/one/", "/two/")), 404, NOTHING)
        assert get(server, location).body == b"one"
        assert take(server, f"/two{key}") == b"two"
        close_all()
        server.until_clean(before)


def test_a_listener_with_the_profile(tmp_path: Path, key: str) -> None:
    """``--listen claim@...`` serves the profile there, and the default elsewhere."""
    port = free_port()
    with Server("--listen", f"claim@127.0.0.1:{port}", log=tmp_path / "log") as server:
        before = server.descriptors()

        def there() -> Peer:
            return Peer(socket.create_connection(("127.0.0.1", port), timeout=BOUND))

        check_stored(there().put(key, DATA).answer())
        assert ask(server, "HEAD", key).status == 404
        location = there().get(key).answer()["location"]
        assert ask(server, "HEAD", location).status == 404
        assert there().get(location).answer().body == DATA
        close_all()
        server.until_clean(before)


def test_beside_a_mount_the_default_holds(mounted: Server) -> None:
    """A key that only begins like the mount is none of it."""
    path = f"/cx{next(_numbers)}"
    sender = peer(mounted).put(path, DATA)
    until(lambda: ask(mounted, "HEAD", path).status == 200, "somebody sends")
    assert sender.hears_nothing()
    assert get(mounted, path).body == DATA
    assert sender.answer().text == f"delivered {len(DATA)} bytes to 1 receiver\n"


def test_the_store_of_a_mount_has_its_window(mounted: Server, key: str) -> None:
    """The profile's buffer is there without a word about stores: a sender of 40 MiB needs no receiver."""
    data = random.Random(9).randbytes(LARGE)
    store(mounted, f"/c{key}", data)
    assert take(mounted, f"/c{key}") == data
