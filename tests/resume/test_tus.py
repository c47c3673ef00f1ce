"""tus 1.0.0 word by word: each request of the protocol, right and wrong, and what receivers see of it meanwhile."""

import contextlib
import datetime
import email.utils
import hashlib
import select
import zlib
from collections.abc import Callable, Iterator

import pytest
from contract.peers import LAST_CHUNK, Answer, Background, Cut, Peer, check_refusal, chunk
from contract.server import Relay, Server
from harness import until
from resume.support import (
    BLOCK,
    BODY,
    END_SENDER,
    OCTETS,
    RESUMABLE,
    TUS,
    Tus,
    Upload,
    base64_of,
    content_range,
    crash,
    drain,
    ended,
    is_cut,
    is_dismissed,
    metadata,
    outcomes,
    receive,
    wait_for_bytes,
    wait_for_offset,
)
from resume.support import offset as plain_offset

Serve = Callable[..., Server]
Speak = Callable[..., Tus]

EXTENSIONS = {
    *("creation", "creation-with-upload", "creation-defer-length"),
    *("termination", "checksum", "expiration"),
}
ALGORITHMS: dict[str, Callable[[bytes], bytes]] = {
    "sha1": lambda data: hashlib.sha1(data).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
    "crc32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
}
LIMIT = 1 << 20
ORIGIN = "https://app.example"


def checksum(data: bytes, algorithm: str = "sha1") -> str:
    """The header that vouches for ``data``."""
    return f"Upload-Checksum: {algorithm} {base64_of(ALGORITHMS[algorithm](data))}"


def patch_chunked(upload: Upload, offset: int, *pieces: bytes, fields: tuple[str, ...] = ()) -> Peer:
    """Send bytes whose number is told at the end only."""
    fields = (OCTETS, f"Upload-Offset: {offset}", "Transfer-Encoding: chunked", *fields)
    return upload.tus.start("PATCH", upload.place, *fields).send(b"".join(map(chunk, pieces)) + LAST_CHUNK)


def finish(upload: Upload, receivers: list[Peer], here: int = 0, taken: int = 0, body: bytes = BODY) -> None:
    """Send what is missing; every receiver has the whole then, of which it took ``taken`` bytes before."""
    last = upload.start_patch(here, body[here:])
    for receiver in receivers:
        assert receiver.answer().body == body[taken:]
    upload.check_sent(upload.tus.heard(last), len(body))


def check_gone(upload: Upload) -> None:
    """It ended otherwise than well, and says so to whoever asks."""
    assert upload.head().status == 410
    check_refusal(upload.patch(0, b"abc"), 410)
    check_refusal(upload.delete(), 410)


# What the server can do.


def test_options(either: Relay) -> None:
    """Version, extensions and algorithms; whatever version the client speaks."""
    for fields in ((), (RESUMABLE,), ("Tus-Resumable: 0.2.2",)):
        answer = either.connect().ask("OPTIONS", TUS, *fields).answer()
        assert (answer.status, answer.body) == (204, b"")
        assert (answer["tus-resumable"], answer["tus-version"]) == ("1.0.0", "1.0.0")
        extensions = set(answer["tus-extension"].split(","))
        assert extensions - {"concatenation"} == EXTENSIONS
        assert "concatenation" in extensions or not either.keeps
        assert answer["tus-checksum-algorithm"] == "sha1,sha256,crc32"
        assert answer.get("tus-max-size") is None


@pytest.mark.parametrize("version", [None, "0.2.2", "1.0", ""])
@pytest.mark.parametrize("method", ["POST", "HEAD", "PATCH", "DELETE"])
def test_another_version(holding: Relay, speak: Speak, method: str, version: str | None) -> None:
    """412 with the version that is spoken here, and nothing happens."""
    upload = speak(holding).create(5)
    fields = ["Upload-Length: 5"] if method == "POST" else [OCTETS, "Upload-Offset: 0"] if method == "PATCH" else []
    fields += [] if version is None else [f"Tus-Resumable: {version}"]
    peer = holding.connect().ask(
        method, TUS if method == "POST" else upload.place, *fields, body=b"abcde" if method == "PATCH" else b""
    )
    answer = peer.answer()
    assert (answer.status, answer["tus-version"], answer["tus-resumable"]) == (412, "1.0.0", "1.0.0")
    assert upload.offset() == 0


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_another_method(holding: Relay, speak: Speak, method: str) -> None:
    """405: an upload is read under its key."""
    upload = speak(holding).create(5)
    for target in (TUS, upload.place):
        answer = holding.connect().ask(method, target, RESUMABLE).answer()
        assert (answer.status, "DELETE" in answer["allow"]) == (405, target != TUS)


# Creation.


def test_an_upload_is_read_while_it_is_written(relay: Relay, speak: Speak, key: str) -> None:
    """Receivers have each byte as it comes, long before the upload ends, with its name and type."""
    receivers = receive(relay, key)
    upload = speak(relay).create(len(BODY), key=key[1:], filename="holiday photo.jpg", filetype="image/jpeg")
    assert upload.key == key
    upload.check_sent(upload.patch(0, BODY[:1000]), 1000)
    for receiver in receivers:
        head = receiver.head()
        assert (head["content-type"], head["content-length"]) == ("image/jpeg", str(len(BODY)))
        assert "holiday photo.jpg" in head["content-disposition"]
        assert receiver.take(1000) == BODY[:1000]
    running = upload.start_patch(1000, BODY[1000:2000], length=9000)
    for receiver in receivers:
        assert receiver.take(1000) == BODY[1000:2000]
    upload.check_sent(upload.tus.heard(running.send(BODY[2000:10_000])), 10_000)
    finish(upload, receivers, 10_000, 2000)
    answer = upload.head()
    assert (answer.status, answer["upload-offset"], answer["upload-length"]) == (200, "3000000", "3000000")


def test_what_creation_answers(either: Relay, speak: Speak, key: str) -> None:
    """Where to send, where to read, and until when; the name of the key is made up if none is given."""
    tus = speak(either)
    values = {"filename": "a.bin", "type": "image/png", "other": "x", "key": key[1:]}
    answer = tus.post("Upload-Length: 5", metadata(values) + ",empty")
    upload = tus.created(answer)
    assert answer["content-location"] == key
    assert answer.body == b"" or answer["content-type"].startswith("text/plain")
    lasts = email.utils.parsedate_to_datetime(answer["upload-expires"]) - datetime.datetime.now(datetime.UTC)
    most = 86400 if either.keeps else 60
    assert most - 30 < lasts.total_seconds() <= most + 2
    head = upload.head()
    assert (head.status, head["upload-offset"], head["upload-length"]) == (200, "0", "5")
    assert head.get("upload-defer-length") is None
    assert head["upload-metadata"] == metadata(values).removeprefix("Upload-Metadata: ") + ",empty"
    assert head["cache-control"] == "no-store"
    assert email.utils.parsedate_to_datetime(head["upload-expires"])
    assert either.ask("HEAD", key)["content-type"] == "image/png"
    others = [tus.create(5) for _ in range(2)]
    assert len({upload.key, *(each.key for each in others)}) == 3
    assert all(len(each.key) > 8 for each in others)


def test_no_metadata_in_an_empty_header(holding: Relay, speak: Speak) -> None:
    """Which is what some clients send."""
    tus = speak(holding)
    upload = tus.created(tus.post("Upload-Length: 5", "Upload-Metadata: "))
    assert upload.head().get("upload-metadata") in (None, "")


def test_an_empty_upload(either: Relay, speak: Speak, key: str) -> None:
    """Is complete as soon as it is made; it is read like any other, also by one who comes later."""
    receivers = receive(either, key, 1)
    upload = speak(either).create(0, key=key[1:])
    assert (upload.offset(), receivers[0].answer().body) == (0, b"")
    either.server.wait_for("pipes", 0, 3)  # as soon as it is delivered, not when nobody has come back for it
    upload = speak(either).create(0, key=key[1:])
    answer = either.ask("GET", key)
    assert (answer.status, answer.body) == (200, b"")
    assert upload.head()["upload-length"] == "0"


def test_one_connection_for_all(either: Relay, speak: Speak, key: str) -> None:
    """As clients that keep it alive do; no request disturbs the next one."""
    receivers, peer = receive(either, key, 1), either.connect()
    peer.ask("POST", TUS, RESUMABLE, "Upload-Length: 6", metadata({"key": key[1:]}), "Content-Length: 0")
    place = peer.answer()["location"]
    for offset, body in ((0, b"ab"), (2, b"c"), (3, b"def")):
        assert peer.ask("HEAD", place, RESUMABLE).answer()["upload-offset"] == str(offset)
        answer = peer.ask("PATCH", place, RESUMABLE, OCTETS, f"Upload-Offset: {offset + 1}", body=body).answer()
        assert answer.status == 409
        peer = either.connect() if answer.get("connection") == "close" else peer
        peer.ask("PATCH", place, RESUMABLE, OCTETS, f"Upload-Offset: {offset}", body=body)
        if offset == 3:
            assert receivers[0].answer().body == b"abcdef"
        assert peer.answer()["upload-offset"] == str(offset + len(body))


BAD_CREATIONS: dict[str, tuple[str, tuple[str, ...], tuple[int, ...]]] = {
    "no length": ("", (), (400,)),
    "both": ("", ("Upload-Length: 5", "Upload-Defer-Length: 1"), (400,)),
    **{f"length {n!r}": ("", (f"Upload-Length: {n}",), (400,)) for n in ("-1", "x", "1_0", "+5", "5.0", "", "0x5")},
    "an endless length": ("", (f"Upload-Length: {'9' * 30}",), (400, 413)),
    "two lengths": ("", ("Upload-Length: 5", "Upload-Length: 6"), (400,)),
    **{f"deferred {n!r}": ("", (f"Upload-Defer-Length: {n}",), (400,)) for n in ("0", "2", "true", "")},
    **{
        f"metadata {text!r}": ("", ("Upload-Length: 5", f"Upload-Metadata: {text}"), (400,))
        for text in (
            *("filename !!!", "filename YQ=", "filename YQ== YQ==", "a YQ==,a YQ==", "a YQ==,,b YQ==", ","),
            *("key /w==", "key YQ==,key Yg=="),
        )
    },
    **{
        f"key {name[:10]!r}": ("", ("Upload-Length: 5", metadata({"key": name})), (400,))
        for name in ("../x", "-/x", "a//b", "a\nb", "x" * 513, "api/files/x", "favicon.ico")
    },
    "an unknown option": ("?x=1", ("Upload-Length: 5",), (400,)),
    "no readers": ("?readers=0", ("Upload-Length: 5",), (400,)),
    "an option of the other kind": ("?downloads=1", ("Upload-Length: 5",), (400,)),
    "an unknown store": ("?store=elsewhere", ("Upload-Length: 5",), (400,)),
    "no kind of concatenation": ("", ("Upload-Length: 5", "Upload-Concat: both"), (400,)),
    "a part in a store that holds": ("", ("Upload-Length: 5", "Upload-Concat: partial"), (400,)),
    "nothing to concatenate": ("", ("Upload-Concat: final;",), (400,)),
    "concatenation of nothing": ("", (f"Upload-Concat: final;{TUS}/none",), (400,)),
}


@pytest.mark.parametrize(("query", "fields", "statuses"), BAD_CREATIONS.values(), ids=BAD_CREATIONS)
def test_a_creation_that_makes_no_sense(
    holding: Relay, speak: Speak, query: str, fields: tuple[str, ...], statuses: tuple[int, ...]
) -> None:
    """A sentence says why, and nothing is made."""
    before = holding.server.gauge("pipes")
    answer = speak(holding).post(*fields, query=query)
    assert answer.status in statuses
    check_refusal(answer, answer.status)
    assert holding.server.gauge("pipes") == before


@pytest.mark.parametrize("name", ["a\r\nX-Evil: 1", "../../etc/passwd", "a\x00b", 'a"b', "\N{RIGHT-TO-LEFT OVERRIDE}a"])
def test_a_name_cannot_smuggle(holding: Relay, speak: Speak, key: str, name: str) -> None:
    """Whatever metadata says, it becomes no header and no path."""
    tus = speak(holding)
    answer = tus.post("Upload-Length: 5", metadata({"key": key[1:], "filename": name}))
    if answer.status == 201:
        head = holding.ask("HEAD", key)
        assert head.get("x-evil") is None
        disposition = head["content-disposition"]
        assert disposition.startswith("attachment")
        assert not any(bad in disposition for bad in ("\r", "\n", "\0", "../", "/etc"))
    else:
        check_refusal(answer, 400)


@pytest.mark.parametrize("filetype", ["text/html\r\nX-Evil: 1", "no type", "", "a/b; c=d"])
def test_a_type_cannot_smuggle(holding: Relay, speak: Speak, key: str, filetype: str) -> None:
    """Nor does the type."""
    tus = speak(holding)
    answer = tus.post("Upload-Length: 5", metadata({"key": key[1:], "filetype": filetype}))
    if answer.status == 201:
        head = holding.ask("HEAD", key)
        assert (head.get("x-evil"), "\n" in head["content-type"]) == (None, False)
    else:
        check_refusal(answer, 400)


def test_a_key_in_use(either: Relay, speak: Speak, key: str) -> None:
    """409 for a second upload, for a PUT, and the other way round; the first one goes on."""
    tus, receivers = speak(either), receive(either, key)
    upload = tus.create(len(BODY), key=key[1:])
    check_refusal(tus.post("Upload-Length: 5", metadata({"key": key[1:]})), 409)
    check_refusal(either.connect().put(key, b"abc").answer(), 409)
    check_refusal(either.connect().put(f"{key}?resume", b"abc").answer(), 409)
    finish(upload, receivers)
    other = f"{key}-other"
    sender = either.connect().put(other, b"a", length=2)
    either.wait_for_offer(other)
    check_refusal(tus.post("Upload-Length: 5", metadata({"key": other[1:]})), 409)
    receiver = either.connect().get(other)
    assert receiver.take(1) == b"a"
    sender.send(b"b")
    assert receiver.answer().body == b"b"


def test_options_of_the_query(serve: Serve, speak: Speak, key: str) -> None:
    """Those of a PUT: the store, how many receivers, how long to wait, the name."""
    server = serve("--store", "memory", "--store", "disk:{folder}/store", "--put-ttl", "1", "--get-ttl", "0.05")
    tus = speak(Relay(server, "memory", "tcp"))
    upload = tus.create(5, query="?store=disk&name=x.y&downloads=1", key=key[1:])
    upload.check_sent(upload.patch(0, b"abcde"), 5)
    answer = tus.relay.ask("GET", key)
    assert (answer.body, "x.y" in answer["content-disposition"]) == (b"abcde", True)
    server.wait_for("pipes", 0)
    upload = tus.create(5, query="?readers=2&wait=20", key=key[1:])
    last = upload.start_patch(0, b"abcde")
    first = tus.relay.connect().get(key)
    assert first.hears_nothing()
    assert [peer.answer().body for peer in (tus.relay.connect().get(key), first)] == [b"abcde"] * 2
    upload.check_sent(tus.heard(last), 5)
    upload = tus.create(5, query="?wait=0.2", key=key[1:])
    answer = upload.patch(0, b"abcde")
    check_refusal(answer, 504)
    check_gone(upload)


def test_below_a_mount(serve: Serve, speak: Speak) -> None:
    """An endpoint of its own, whose uploads are that namespace's."""
    server = serve("--store", "memory", "--mount", "/m=beam", "--get-wait-timeout", "30")
    relay = Relay(server, "memory", "tcp")
    receiver = relay.connect().get("/m/k")
    relay.wait_for_waiters(1)
    upload = speak(relay, "/m/-/tus").create(5, key="k")
    assert upload.key == "/m/k"
    last = upload.start_patch(0, b"abcde")
    assert receiver.answer().body == b"abcde"
    upload.check_sent(upload.tus.heard(last), 5)
    assert relay.ask("HEAD", "/k").status == 404
    other = speak(relay).create(5, key="k")
    elsewhere = Upload(upload.tus, other.place.replace(TUS, "/m/-/tus"), "")
    assert elsewhere.head().status == 404


# Sending.


BAD_PATCHES: dict[str, tuple[tuple[str, ...], bytes, int]] = {  # at offset 3 of 10
    "no type": (("Upload-Offset: 3",), b"d", 415),
    "another type": (("Content-Type: application/octet-stream", "Upload-Offset: 3"), b"d", 415),
    "no offset": ((OCTETS,), b"d", 400),
    **{f"offset {n!r}": ((OCTETS, f"Upload-Offset: {n}"), b"d", 400) for n in ("", "x", "-1", "3_0", "+3", "3.0")},
    "two offsets": ((OCTETS, "Upload-Offset: 3", "Upload-Offset: 3"), b"d", 400),
    **{f"at {n}": ((OCTETS, f"Upload-Offset: {n}"), b"d", 409) for n in (0, 2, 4, 10, 11)},
    "another length": ((OCTETS, "Upload-Offset: 3", "Upload-Length: 11"), b"d", 400),
    "beyond the end": ((OCTETS, "Upload-Offset: 3"), b"defghijk", 413),
    "an unknown algorithm": ((OCTETS, "Upload-Offset: 3", "Upload-Checksum: md5 AAAAAAAAAAAAAAAAAAAAAA=="), b"d", 400),
    "a checksum in capitals": ((OCTETS, "Upload-Offset: 3", checksum(b"d").replace("sha1", "SHA1")), b"d", 400),
    "no checksum": ((OCTETS, "Upload-Offset: 3", "Upload-Checksum: sha1"), b"d", 400),
    "a bad checksum": ((OCTETS, "Upload-Offset: 3", "Upload-Checksum: sha1 !!!"), b"d", 400),
    "a short checksum": ((OCTETS, "Upload-Offset: 3", "Upload-Checksum: sha1 YQ=="), b"d", 400),
    "a wrong checksum": ((OCTETS, "Upload-Offset: 3", checksum(b"x")), b"d", 460),
}


@pytest.mark.parametrize(("fields", "body", "status"), BAD_PATCHES.values(), ids=BAD_PATCHES)
def test_a_patch_that_makes_no_sense(
    either: Relay, speak: Speak, key: str, fields: tuple[str, ...], body: bytes, status: int
) -> None:
    """It changes nothing: neither the offset nor what receivers see."""
    receivers = receive(either, key)
    upload = speak(either).create(10, key=key[1:])
    upload.check_sent(upload.patch(0, b"abc"), 3)
    assert [receiver.take(3) for receiver in receivers] == [b"abc"] * len(receivers)
    answer = upload.tus.ask("PATCH", upload.place, *fields, body=body)
    check_refusal(answer, status)
    assert upload.offset() == 3
    assert receivers[0].hears_nothing(0.05)
    finish(upload, receivers, 3, 3, b"abcdefghij")


@pytest.mark.parametrize("fields", [("Upload-Offset: 4",), ("Upload-Offset: 3", "Upload-Checksum: md5 YQ==")])
def test_expect_is_answered_when_it_may_go_on(holding: Relay, speak: Speak, key: str, fields: tuple[str, ...]) -> None:
    """A refusal that needs no body comes before one is sent."""
    receivers = receive(holding, key)
    upload = speak(holding).create(10, key=key[1:])
    upload.check_sent(upload.patch(0, b"abc"), 3)
    expecting = ("Expect: 100-continue", "Content-Length: 7", OCTETS)
    assert upload.tus.start("PATCH", upload.place, *expecting, *fields).first_status() in (400, 409)
    right = upload.tus.start("PATCH", upload.place, *expecting, "Upload-Offset: 3")
    assert right.first_status() == 100
    right.send(b"defghij")
    assert receivers[0].answer().body == b"abcdefghij"
    upload.check_sent(upload.tus.heard(right), 10)


def test_an_upload_that_nobody_made(either: Relay, speak: Speak) -> None:
    """404, and no offset."""
    upload = Upload(speak(either), f"{TUS}/nothing", "")
    head = upload.head()
    assert (head.status, head.get("upload-offset")) == (404, None)
    check_refusal(upload.patch(0, b"abc"), 404)
    check_refusal(upload.delete(), 404)
    for place in (f"{TUS}/", f"{TUS}/a/b", f"{TUS}/..%2F..%2Fx", f"{TUS}/%00"):
        assert Upload(upload.tus, place, "").head().status in (400, 404, 405)


def test_a_chunked_patch(either: Relay, speak: Speak, key: str) -> None:
    """A body of unknown length counts as far as it came; one that does not fit is refused."""
    receivers = receive(either, key)
    upload = speak(either).create(2000, key=key[1:])
    upload.check_sent(upload.tus.heard(patch_chunked(upload, 0, BODY[:10], BODY[10:1000])), 1000)
    assert [receiver.take(1000) for receiver in receivers] == [BODY[:1000]] * len(receivers)
    assert upload.tus.heard(patch_chunked(upload, 1000, BODY[1000:2001])).status in (400, 413)
    for receiver in receivers:
        with contextlib.suppress(Cut):
            assert receiver.answer().body == BODY[1000:2000]
    assert upload.head().status == 410


def test_a_last_chunk_that_comes_late(relay: Relay, speak: Speak, key: str) -> None:
    """The upload is complete, and its client says so a little later."""
    receivers = receive(relay, key)
    upload = speak(relay).create(3000, key=key[1:])
    fields = (OCTETS, "Upload-Offset: 0", "Transfer-Encoding: chunked")
    last = upload.tus.start("PATCH", upload.place, *fields).send(chunk(BODY[:10]))
    wait_for_offset(relay, key, 10)
    last.send(chunk(BODY[10:3000]))
    wait_for_offset(relay, key, 3000)
    last.send(LAST_CHUNK)
    assert [receiver.answer().body for receiver in receivers] == [BODY[:3000]] * len(receivers)
    upload.check_sent(upload.tus.heard(last), 3000)


def test_an_empty_patch(either: Relay, speak: Speak, key: str) -> None:
    """Moves nothing, and is no error."""
    receivers = receive(either, key)
    upload = speak(either).create(5, key=key[1:])
    for offset in (0, 2):
        fields = (OCTETS, f"Upload-Offset: {offset}", "Content-Length: 0")
        upload.check_sent(upload.tus.ask("PATCH", upload.place, *fields), offset)
        if not offset:
            upload.check_sent(upload.patch(0, b"ab"), 2)
    finish(upload, receivers, 2, 0, b"abcde")


@pytest.mark.parametrize("end", END_SENDER.values(), ids=END_SENDER)
def test_a_patch_that_breaks_off(relay: Relay, speak: Speak, key: str, end: Callable[[Peer], object]) -> None:
    """What came counts; receivers wait, and go on with the next."""
    receivers = receive(relay, key)
    upload = speak(relay).create(len(BODY), key=key[1:])
    patch = upload.start_patch(0, BODY[:1_000_000], length=len(BODY))
    wait_for_offset(relay, key, 1_000_000)
    end(patch)
    assert [receiver.take(1_000_000) for receiver in receivers] == [BODY[:1_000_000]] * len(receivers)
    assert receivers[0].hears_nothing()
    assert upload.offset() == 1_000_000
    finish(upload, receivers, 1_000_000, 1_000_000)


def test_the_last_answer_is_lost(either: Relay, speak: Speak, key: str) -> None:
    """A client that never heard its 204 asks for the offset, and learns that all is well."""
    body, receivers = BODY[:100_000], receive(either, key)
    before = outcomes(either.server)
    upload = speak(either).create(len(body), key=key[1:])
    upload.start_patch(0, body).close()
    assert [receiver.answer().body for receiver in receivers] == [body] * len(receivers)
    until(lambda: upload.offset() == len(body), "the upload is complete")
    assert upload.head()["upload-length"] == str(len(body))
    either.server.wait_for("pipes", 0)
    assert outcomes(either.server) - before == {"stored" if either.keeps else "delivered": 1}
    assert upload.offset() == len(body)


def test_the_last_answer_waits_for_a_receiver(holding: Relay, speak: Speak, key: str) -> None:
    """From memory, 204 means delivered; who asks meanwhile hears that all has come, and harms nobody."""
    upload = speak(holding).create(5, key=key[1:])
    last = upload.start_patch(0, b"abcde")
    assert last.hears_nothing()
    assert upload.offset() == 5
    assert holding.ask("GET", key).body == b"abcde"
    with contextlib.suppress(Exception):
        last.answer()  # it may have been ended by HEAD
    assert upload.offset() == 5


def test_every_receiver_leaves(serve: Serve, speak: Speak, key: str) -> None:
    """The last PATCH is answered 502, as a PUT is."""
    relay = Relay(serve("--store", "memory", "--resume-timeout", "0.2", "--get-wait-timeout", "30"), "memory", "tcp")
    receiver = receive(relay, key)[0]
    upload = speak(relay).create(len(BODY), key=key[1:])
    upload.check_sent(upload.patch(0, BODY[:1000]), 1000)
    assert receiver.take(1000) == BODY[:1000]
    last = upload.start_patch(1000, BODY[1000:2000], length=len(BODY) - 1000)
    receiver.close()
    check_refusal(upload.tus.heard(last), 502)
    check_gone(upload)


# Offsets, while a client comes back of which the server does not know yet that it has left.


def test_head_ends_a_patch_that_runs(relay: Relay, speak: Speak, key: str) -> None:
    """The offset that it tells stays: what the former connection still says is not heard."""
    receivers = receive(relay, key)
    upload = speak(relay).create(len(BODY), key=key[1:])
    former = upload.start_patch(0, BODY[:1000], length=len(BODY))
    assert [receiver.take(1000) for receiver in receivers] == [BODY[:1000]] * len(receivers)
    assert upload.offset() == 1000
    with contextlib.suppress(ConnectionError):
        former.send(b"x" * 1000)
    assert is_dismissed(former)
    assert receivers[0].hears_nothing()
    assert upload.offset() == 1000
    finish(upload, receivers, 1000, 1000)


def test_a_flood_that_is_ended_by_head(either: Relay, speak: Speak, key: str) -> None:
    """The offset is right however many bytes are on their way."""
    readers = [Background(receiver.answer) for receiver in receive(either, key)]
    upload = speak(either).create(len(BODY), key=key[1:])
    for _ in range(5):
        before = upload.offset()
        former = upload.start_patch(before, BODY[before : before + 300_000], length=len(BODY) - before)
        until(lambda before=before: plain_offset(either, key) > before, "some have come")  # type: ignore[misc]
        here = upload.offset()
        assert before < here <= before + 300_000
        former.close()
        assert upload.offset() == here
    last = upload.start_patch(here, BODY[here:])
    assert all(reader.result().body == BODY for reader in readers)
    upload.check_sent(upload.tus.heard(last), len(BODY))


@contextlib.contextmanager
def undisturbed(relay: Relay, speak: Speak, key: str) -> Iterator[Upload]:
    """An upload that goes on, behind the block, with the PATCH that it is in the middle of."""
    receivers = receive(relay, key)
    upload = speak(relay).create(len(BODY), key=key[1:])
    last = upload.start_patch(0, BODY[:1000], length=len(BODY))
    wait_for_offset(relay, key, 1000)
    yield upload
    last.send(BODY[1000:])
    assert [receiver.answer().body for receiver in receivers] == [BODY] * len(receivers)
    upload.check_sent(upload.tus.heard(last), len(BODY))


def test_head_of_the_key_disturbs_nobody(either: Relay, speak: Speak, key: str) -> None:
    """It is a look: the PATCH goes on."""
    with undisturbed(either, speak, key):
        head = either.ask("HEAD", key)
        assert (head["upload-length"], head["upload-complete"]) == (str(len(BODY)), "?0")


def test_a_patch_elsewhere_while_one_runs(either: Relay, speak: Speak, key: str) -> None:
    """409, and the one that runs goes on."""
    with undisturbed(either, speak, key) as upload:
        for offset in (0, 999, 2000):
            check_refusal(upload.patch(offset, BODY[offset : offset + 10]), 409)


def test_a_patch_at_the_head_while_one_runs(relay: Relay, speak: Speak, key: str) -> None:
    """Is the client that came back: the former connection is ended."""
    receivers = receive(relay, key)
    upload = speak(relay).create(len(BODY), key=key[1:])
    former = upload.start_patch(0, BODY[:1000], length=len(BODY))
    wait_for_offset(relay, key, 1000)
    finish(upload, receivers, 1000)
    assert is_dismissed(former)


def test_two_at_once_at_the_same_offset(either: Relay, speak: Speak, key: str) -> None:
    """However they meet, the receivers' bytes are one sender's at each offset."""
    readers = [Background(receiver.answer) for receiver in receive(either, key)]
    upload = speak(either).create(len(BODY), key=key[1:])
    peers = [upload.start_patch(0, BODY[:500_000]) for _ in range(2)]
    answers = [Background(peer.answer) for peer in peers]
    for answer in answers:
        with contextlib.suppress(Exception):
            assert answer.result().status in (204, 409)
    here = upload.offset()
    assert here <= 500_000
    last = upload.start_patch(here, BODY[here:])
    assert all(reader.result().body == BODY for reader in readers)
    upload.check_sent(upload.tus.heard(last), len(BODY))


def test_put_continues_what_tus_began(either: Relay, speak: Speak, key: str) -> None:
    """One transfer, two ways to send: refused or continued, but never mixed up."""
    receivers = receive(either, key)
    upload = speak(either).create(2000, key=key[1:])
    upload.check_sent(upload.patch(0, BODY[:1000]), 1000)
    answer = either.connect().put(key, BODY[1000:1500], content_range(1000, 1500, 2000)).answer()
    assert answer.status in (202, 409)
    here = upload.offset()
    assert here == (1500 if answer.status == 202 else 1000)
    finish(upload, receivers, here, 0, BODY[:2000])


# Checksums.


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_checksum_that_is_right(either: Relay, speak: Speak, key: str, algorithm: str) -> None:
    """Each of the three."""
    receivers = receive(either, key)
    upload = speak(either).create(100_000, key=key[1:])
    upload.check_sent(upload.patch(0, BODY[:50_000], checksum(BODY[:50_000], algorithm)), 50_000)
    last = upload.start_patch(50_000, BODY[50_000:100_000], checksum(BODY[50_000:100_000], algorithm))
    assert [receiver.answer().body for receiver in receivers] == [BODY[:100_000]] * len(receivers)
    upload.check_sent(upload.tus.heard(last), 100_000)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_checksum_that_is_wrong(relay: Relay, speak: Speak, key: str, algorithm: str) -> None:
    """460, the bytes are nobody's, and the right ones may follow; also as the last of the upload."""
    body, receivers = BODY[:100_000], receive(relay, key)
    upload = speak(relay).create(len(body), key=key[1:])
    for here, there in ((0, 60_000), (60_000, 100_000)):
        bad = upload.patch(here, bytes(there - here), checksum(body[here:there], algorithm))
        check_refusal(bad, 460)
        assert upload.offset() == here
        right = upload.start_patch(here, body[here:there], checksum(body[here:there], algorithm))
        assert [receiver.take(there - here) for receiver in receivers] == [body[here:there]] * len(receivers)
        upload.check_sent(upload.tus.heard(right), there)
    assert [receiver.answer().body for receiver in receivers] == [b""] * len(receivers)


def test_bytes_that_are_not_verified_are_shown_to_nobody(relay: Relay, speak: Speak, key: str) -> None:
    """Until the last of them has come; if it never does, they were never there."""
    body, receivers = BODY[:100_000], receive(relay, key)
    upload = speak(relay).create(len(body), key=key[1:])
    upload.start_patch(0, body[:90_000], checksum(body), length=len(body)).reset()
    assert upload.offset() == 0
    assert {receiver.head().status for receiver in receivers} == {200}
    last = upload.start_patch(0, body[:90_000], checksum(body), length=len(body))
    assert receivers[0].hears_nothing()
    last.send(body[90_000:])
    assert [receiver.answer().body for receiver in receivers] == [body] * len(receivers)
    upload.check_sent(upload.tus.heard(last), len(body))


def test_head_ends_a_patch_that_is_not_verified(either: Relay, speak: Speak, key: str) -> None:
    """Its bytes are gone, the offset is where it was."""
    body, receivers = BODY[:100_000], receive(either, key)
    upload = speak(either).create(len(body), key=key[1:])
    upload.check_sent(upload.patch(0, body[:1000], checksum(body[:1000])), 1000)
    former = upload.start_patch(1000, body[1000:90_000], checksum(body[1000:]), length=len(body) - 1000)
    assert upload.offset() == 1000
    assert is_dismissed(former)
    finish(upload, receivers, 1000, 0, body)


def test_a_checksum_of_more_than_the_window(keeping: Relay, speak: Speak, key: str) -> None:
    """Unverified bytes lie on disk, however many they are."""
    receivers = receive(keeping, key)
    upload = speak(keeping).create(len(BODY) * 4, key=key[1:])
    readers = [Background(receiver.answer) for receiver in receivers]
    answer = upload.patch(0, BODY * 4, checksum(BODY * 4))
    assert all(reader.result().body == BODY * 4 for reader in readers)
    upload.check_sent(answer, len(BODY) * 4)


def test_a_checksum_of_more_than_memory_holds(holding: Relay, speak: Speak, key: str) -> None:
    """413, at the latest when there is no room for more; what was sent is nobody's."""
    size = len(BODY) * 20
    upload = speak(holding).create(size, key=key[1:])
    fields = (OCTETS, "Upload-Offset: 0", checksum(BODY), "Expect: 100-continue", f"Content-Length: {size}")
    patch, sent = upload.tus.start("PATCH", upload.place, *fields), 0
    if patch.first_status() == 100:
        while sent < size and not select.select([patch.socket], [], [], 0.005)[0]:
            patch.send(BODY[: 64 << 10])
            sent += 64 << 10
    check_refusal(upload.tus.heard(patch), 413)
    assert (upload.offset(), sent < size) == (0, True)


def test_a_chunked_body_with_a_checksum(either: Relay, speak: Speak, key: str) -> None:
    """The framing makes no difference."""
    body, receivers = BODY[:100_000], receive(either, key)
    upload = speak(either).create(len(body), key=key[1:])
    check_refusal(upload.tus.heard(patch_chunked(upload, 0, b"x", body[1:], fields=(checksum(body),))), 460)
    last = patch_chunked(upload, 0, body[:10], body[10:], fields=(checksum(body),))
    assert [receiver.answer().body for receiver in receivers] == [body] * len(receivers)
    upload.check_sent(upload.tus.heard(last), len(body))


# A length that comes later.


def test_a_length_that_comes_later(either: Relay, speak: Speak, key: str) -> None:
    """HEAD says that it is not known yet; once it is, it stays."""
    receivers = receive(either, key)
    upload = speak(either).create(None, key=key[1:])
    upload.check_sent(upload.patch(0, BODY[:1000]), 1000)
    assert receivers[0].head().get("content-length") is None
    assert [receiver.take(1000) for receiver in receivers] == [BODY[:1000]] * len(receivers)
    head = upload.head()
    assert (head["upload-offset"], head["upload-defer-length"], head.get("upload-length")) == ("1000", "1", None)
    upload.check_sent(upload.patch(1000, BODY[1000:2000], "Upload-Length: 5000"), 2000)
    head = upload.head()
    assert (head["upload-offset"], head.get("upload-defer-length"), head["upload-length"]) == ("2000", None, "5000")
    check_refusal(upload.patch(2000, BODY[2000:3000], "Upload-Length: 6000"), 400)
    upload.check_sent(upload.patch(2000, BODY[2000:3000], "Upload-Length: 5000"), 3000)
    finish(upload, receivers, 3000, 1000, BODY[:5000])


def test_the_end_is_told_by_an_empty_patch(either: Relay, speak: Speak, key: str) -> None:
    """A stream whose sender notices at its end that it has ended."""
    receivers = receive(either, key)
    upload = speak(either).create(None, key=key[1:])
    upload.check_sent(upload.patch(0, b"abc"), 3)
    fields = (OCTETS, "Upload-Offset: 3", "Content-Length: 0")
    assert upload.tus.ask("PATCH", upload.place, *fields, "Upload-Length: 2").status in (400, 413)
    last = upload.tus.start("PATCH", upload.place, *fields, "Upload-Length: 3")
    assert [receiver.answer().body for receiver in receivers] == [b"abc"] * len(receivers)
    upload.check_sent(upload.tus.heard(last), 3)
    assert upload.head()["upload-length"] == "3"


def test_a_length_that_comes_with_all_the_bytes(either: Relay, speak: Speak, key: str) -> None:
    """One PATCH may bring both."""
    receivers = receive(either, key)
    upload = speak(either).create(None, key=key[1:])
    last = upload.start_patch(0, b"abc", "Upload-Length: 3")
    assert [receiver.answer().body for receiver in receivers] == [b"abc"] * len(receivers)
    upload.check_sent(upload.tus.heard(last), 3)


# Creation with upload.


def test_a_creation_that_brings_bytes(relay: Relay, speak: Speak, key: str) -> None:
    """201 says how many were taken; the rest follows."""
    tus, receivers = speak(relay), receive(relay, key)
    fields = (f"Upload-Length: {len(BODY)}", metadata({"key": key[1:]}), OCTETS)
    peer = tus.start("POST", TUS, *fields, body=BODY[:500], length=1000)
    assert [receiver.take(500) for receiver in receivers] == [BODY[:500]] * len(receivers)
    answer = tus.heard(peer.send(BODY[500:1000]))
    assert answer["upload-offset"] == "1000"
    upload = tus.created(answer)
    assert email.utils.parsedate_to_datetime(answer["upload-expires"])
    finish(upload, receivers, 1000, 500)


def test_a_creation_that_brings_all(either: Relay, speak: Speak, key: str) -> None:
    """One request, and the upload is complete."""
    tus, receivers = speak(either), receive(either, key)
    peer = tus.start("POST", TUS, "Upload-Length: 5", metadata({"key": key[1:]}), OCTETS, body=b"abcde")
    assert [receiver.answer().body for receiver in receivers] == [b"abcde"] * len(receivers)
    answer = tus.heard(peer)
    assert answer["upload-offset"] == "5"
    assert tus.created(answer).offset() == 5


def test_a_creation_in_chunks_with_a_checksum(either: Relay, speak: Speak, key: str) -> None:
    """What holds for PATCH holds here."""
    tus, receivers = speak(either), receive(either, key)
    fields = ("Upload-Length: 8", metadata({"key": key[1:]}), OCTETS, checksum(b"abc"), "Transfer-Encoding: chunked")
    answer = tus.heard(tus.start("POST", TUS, *fields).send(chunk(b"a") + chunk(b"bc") + LAST_CHUNK))
    assert answer["upload-offset"] == "3"
    finish(tus.created(answer), receivers, 3, 0, b"abcdefgh")


BAD_FIRST_BYTES: dict[str, tuple[tuple[str, ...], bytes, tuple[int, ...]]] = {
    "another type": (("Content-Type: text/plain", "Upload-Length: 5"), b"abc", (400, 415)),
    "more than the length": ((OCTETS, "Upload-Length: 2"), b"abc", (400, 413)),
    "an unknown algorithm": ((OCTETS, "Upload-Length: 5", "Upload-Checksum: md5 YQ=="), b"abc", (400,)),
    "a wrong checksum": ((OCTETS, "Upload-Length: 5", checksum(b"abd")), b"abc", (460,)),
}


@pytest.mark.parametrize(("fields", "body", "statuses"), BAD_FIRST_BYTES.values(), ids=BAD_FIRST_BYTES)
def test_a_creation_whose_bytes_are_bad(
    either: Relay, speak: Speak, key: str, fields: tuple[str, ...], body: bytes, statuses: tuple[int, ...]
) -> None:
    """No upload is left of it: the client has no address to continue at, and may try again."""
    tus = speak(either)
    answer = tus.post(metadata({"key": key[1:]}), *fields, body=body)
    assert answer.status in statuses
    check_refusal(answer, answer.status)
    until(lambda: either.ask("HEAD", key).status == 404, "the key is free")


@pytest.mark.parametrize("fields", [(), (checksum(BODY[:9000]),)], ids=["plain", "checksum"])
def test_a_creation_that_breaks_off(either: Relay, speak: Speak, key: str, fields: tuple[str, ...]) -> None:
    """Its client has no address to continue at, and begins anew with the same key: nothing is in its way."""
    tus = speak(either)
    said = ("Upload-Length: 9000", metadata({"key": key[1:]}), OCTETS, *fields)
    peer = tus.start("POST", TUS, *said, body=BODY[:1000], length=9000)
    either.wait_for_offer(key)
    peer.reset()
    until(lambda: either.ask("HEAD", key).status == 404, "the key is free")
    receivers = receive(either, key)
    peer = tus.start("POST", TUS, *said, body=BODY[:9000])
    assert [receiver.answer().body for receiver in receivers] == [BODY[:9000]] * len(receivers)
    assert tus.heard(peer)["upload-offset"] == "9000"


def test_a_creation_is_refused_before_its_bytes_are_sent(holding: Relay, speak: Speak) -> None:
    """Which is what a client expects that says so."""
    tus = speak(holding)
    expecting = ("Expect: 100-continue", "Content-Length: 5", OCTETS, "Upload-Length: 5")
    assert tus.start("POST", TUS, *expecting, "Upload-Metadata: key !").first_status() == 400
    peer = tus.start("POST", TUS, *expecting, metadata({"key": "expected"}))
    assert peer.first_status() == 100
    peer.send(b"abcde")
    assert holding.ask("GET", "/expected").body == b"abcde"
    assert tus.heard(peer).status == 201


# Termination, and the end of time.


@pytest.mark.parametrize("running", [True, False])
def test_termination(relay: Relay, speak: Speak, key: str, running: bool) -> None:
    """204; receivers are cut, the key is free, and the upload is gone."""
    tus, receivers = speak(relay), receive(relay, key)
    upload = tus.create(len(BODY), key=key[1:])
    former = upload.start_patch(0, BODY[:1000], length=len(BODY) if running else None)
    assert [receiver.take(1000) for receiver in receivers] == [BODY[:1000]] * len(receivers)
    assert running or tus.heard(former).status == 204
    assert upload.delete().status == 204
    assert all(is_cut(receiver) for receiver in receivers)
    if running:
        assert is_dismissed(former)
    check_gone(upload)
    again = tus.create(5, key=key[1:])
    finish(again, [relay.connect().get(key)], 0, 0, b"abcde")


def test_termination_of_a_complete_upload(either: Relay, speak: Speak, key: str) -> None:
    """What is kept goes; what was delivered is gone already, which is no error."""
    tus = speak(either)
    receivers = receive(either, key)
    upload = tus.create(5, key=key[1:])
    finish(upload, receivers, 0, 0, b"abcde")
    assert upload.delete().status == (204 if either.keeps else 410)
    assert upload.head().status == (410 if either.keeps else 200)  # it has been delivered, and stays so
    assert either.ask("HEAD", key).status == 404


def test_expiration(serve: Serve, speak: Speak, key: str) -> None:
    """Without a byte for that long an upload is gone; each gives it as much again, a running PATCH all it needs."""
    server = serve(
        *("--store", "memory", "--store", "disk:{folder}/store", "--get-wait-timeout", "30"),
        *("--sender-resume-timeout", "2", "--upload-ttl", "2", "--put-ttl", "1", "--get-ttl", "0.05"),
    )
    for store in ("memory", "disk"):
        relay, name = Relay(server, store, "tcp"), f"{key}-{store}"
        tus, receivers = speak(relay), receive(relay, name, 1)
        upload = tus.create(len(BODY), query=f"?store={store}", key=name[1:])
        answer = upload.patch(0, BODY[:1000])
        expires = email.utils.parsedate_to_datetime(answer["upload-expires"])
        assert abs((expires - datetime.datetime.now(datetime.UTC)).total_seconds()) < 10
        patch = upload.start_patch(1000, BODY[1000:2000], length=2000)
        assert receivers[0].take(2000) == BODY[:2000]
        assert receivers[0].hears_nothing(2.5)
        upload.check_sent(tus.heard(patch.send(BODY[2000:3000])), 3000)
        assert receivers[0].take(1000) == BODY[2000:3000]
        assert is_cut(receivers[0])
        check_gone(upload)
    server.wait_for("pipes", 0)
    assert outcomes(server) == {"sender-lost": 2}


# Concatenation.


def make_part(tus: Tus, data: bytes) -> Upload:
    """A partial upload that is complete."""
    part = tus.create(len(data), "Upload-Concat: partial")
    if data:
        part.check_sent(part.patch(0, data), len(data))
    return part


def test_concatenation(keeping: Relay, speak: Speak, key: str) -> None:
    """Parts that were sent side by side become one file in the order that the client says."""
    tus, receivers = speak(keeping), receive(keeping, key)
    pieces = [BODY[:1_000_000], BODY[1_000_000:1_000_001], BODY[1_000_001:]]
    parts = [tus.create(len(piece), "Upload-Concat: partial") for piece in pieces]
    assert [part.key for part in parts] == [""] * 3
    running = [part.start_patch(0, piece) for part, piece in zip(parts, pieces, strict=True)]
    for part, piece, peer in zip(parts, pieces, running, strict=True):
        part.check_sent(tus.heard(peer), len(piece))
        head = part.head()
        assert (head["upload-concat"], head["upload-offset"]) == ("partial", str(len(piece)))
    base = f"http://127.0.0.1:{keeping.server.port}"
    concat = f"final;{parts[0].place} {base}{parts[1].place} {parts[2].place}"
    named = metadata({"key": key[1:], "filename": "whole.bin"})
    answer = tus.post(f"Upload-Concat: {concat}", named, query="?ttl=60")  # which ends with the test
    assert answer["content-location"] == key
    final = tus.created(answer)
    for receiver in receivers:
        got = receiver.answer()
        assert got.body == BODY
        assert "whole.bin" in got["content-disposition"]
    head = final.head()
    assert (head.status, head["upload-offset"], head["upload-length"]) == (200, "3000000", "3000000")
    assert head["upload-concat"] == concat
    check_refusal(final.patch(len(BODY), b""), 403)
    check_refusal(final.patch(0, b"abc"), 403)


def test_one_part_many_times(keeping: Relay, speak: Speak, key: str) -> None:
    """The same part may be there twice; an empty one is one.  Used up, they are gone."""
    tus = speak(keeping)
    abc, empty, d = parts = [make_part(tus, data) for data in (b"abc", b"", b"d")]
    places = " ".join(part.place for part in (abc, empty, abc, d))
    tus.created(tus.post(f"Upload-Concat: final;{places}", metadata({"key": key[1:]})))
    assert keeping.ask("GET", key).body == b"abcabcd"
    assert [part.head().status for part in parts] == [410] * 3


def test_a_part_has_no_key(keeping: Relay, speak: Speak, key: str) -> None:
    """Nobody can read it, nor does it take the key that its client means for the whole."""
    tus = speak(keeping)
    answer = tus.post("Upload-Length: 3", "Upload-Concat: partial", metadata({"key": key[1:]}))
    if answer.status == 201:
        assert answer.get("content-location") is None
        assert keeping.ask("HEAD", key).status == 404
    else:
        check_refusal(answer, 400)


def test_what_cannot_be_concatenated(keeping: Relay, speak: Speak, key: str) -> None:
    """What is not complete, not a part, not there, or not here."""
    tus = speak(keeping)
    done, half, whole = make_part(tus, b"abc"), tus.create(5, "Upload-Concat: partial"), tus.create(3)
    half.check_sent(half.patch(0, b"ab"), 2)
    dead = make_part(tus, b"xyz")
    assert dead.delete().status == 204
    bad = [half.place, whole.place, f"{TUS}/none", "http://[", "/elsewhere", dead.place, f"{done.place}/x"]
    for place in bad:
        answer = tus.post(f"Upload-Concat: final;{done.place} {place}", metadata({"key": key[1:]}))
        assert answer.status in (400, 403, 404, 410), (place, answer)
        check_refusal(answer, answer.status)
    final = (f"Upload-Concat: final;{done.place}", metadata({"key": key[1:]}))
    check_refusal(tus.post(*final, "Upload-Length: 3"), 400)
    check_refusal(tus.post(*final, "Upload-Defer-Length: 1"), 400)
    assert keeping.ask("HEAD", key).status == 404
    tus.created(tus.post(*final))
    assert keeping.ask("GET", key).body == b"abc"


def test_parts_expire(serve: Serve, speak: Speak) -> None:
    """A part that nobody used, complete or not, is removed when its time is up."""
    server = serve("--store", "disk:{folder}/store", "--upload-ttl", "2")
    tus = speak(Relay(server, "disk", "tcp"))
    parts = [make_part(tus, b"abc"), tus.create(5, "Upload-Concat: partial")]
    for part in parts:
        until(lambda part=part: part.head().status in (404, 410), "the part is gone")  # type: ignore[misc]


# A server that ends.


def test_a_store_that_has_another_name_behind_a_restart(serve: Serve, speak: Speak, key: str) -> None:
    """What was in it goes on, parts with a checksum too, which are staged there."""
    server = serve("--store", "a=disk:{folder}/store", "--put-ttl", "1", "--get-ttl", "0.05")
    relay = Relay(server, "disk", "tcp")
    upload = speak(relay).create(len(BODY), key=key[1:])
    upload.check_sent(upload.patch(0, BODY[:1000]), 1000)
    server.flags[1] = server.flags[1].replace("a=", "b=")
    crash(server)
    upload.check_sent(upload.patch(1000, BODY[1000:2000], checksum(BODY[1000:2000])), 2000)
    finish(upload, [relay.connect().get(key)], 2000)


def test_an_upload_outlives_the_server(serve: Serve, speak: Speak, key: str) -> None:
    """On disk, after a SIGKILL: offset, length, metadata and key are as they were, and its client goes on."""
    relay = Relay(serve("--store", "disk:{folder}/store", "--put-ttl", "1", "--get-ttl", "0.05"), "disk", "tcp")
    tus = speak(relay)
    upload = tus.create(len(BODY), key=key[1:], filename="a b", filetype="image/x-test")
    upload.check_sent(upload.patch(0, BODY[:1000]), 1000)
    upload.check_sent(upload.patch(1000, BODY[1000:1_000_000]), 1_000_000)
    etag = relay.ask("HEAD", key)["etag"]
    deferred = tus.create(None)
    deferred.check_sent(deferred.patch(0, BODY[:BLOCK], checksum(BODY[:BLOCK])), BLOCK)
    wait_for_bytes(relay.server, 999_424 + BLOCK)
    gone = tus.create(5, key="gone")
    assert gone.delete().status == 204
    before = upload.head()
    crash(relay.server)
    head = upload.head()
    here = int(head["upload-offset"])
    assert 1_000_000 - BLOCK < here <= 1_000_000
    for name in ("upload-length", "upload-metadata"):
        assert head[name] == before[name]
    seen = relay.ask("HEAD", key)
    assert (seen["etag"], seen["content-type"], seen["upload-offset"]) == (etag, "image/x-test", str(here))
    head = deferred.head()
    assert (head["upload-offset"], head["upload-defer-length"]) == (str(BLOCK), "1")
    assert gone.head().status in (404, 410)
    assert relay.ask("HEAD", "/gone").status == 404
    finish(upload, [relay.connect().get(key)], here)
    receiver = relay.connect().get(deferred.key)
    deferred.check_sent(deferred.patch(BLOCK, b"d", f"Upload-Length: {BLOCK + 1}"), BLOCK + 1)
    assert receiver.answer().body == BODY[:BLOCK] + b"d"


def test_parts_outlive_the_server(serve: Serve, speak: Speak, key: str) -> None:
    """Complete ones and others; the whole is made of them afterwards."""
    relay = Relay(serve("--store", "disk:{folder}/store", "--put-ttl", "1", "--get-ttl", "0.05"), "disk", "tcp")
    tus = speak(relay)
    first, second = make_part(tus, BODY[:1000]), tus.create(len(BODY) - 1000, "Upload-Concat: partial")
    second.check_sent(second.patch(0, BODY[1000 : 1000 + BLOCK]), BLOCK)
    wait_for_bytes(relay.server, 1000 + BLOCK)
    crash(relay.server)
    assert (first.offset(), second.offset()) == (1000, BLOCK)
    assert second.head()["upload-concat"] == "partial"
    second.check_sent(second.patch(BLOCK, BODY[1000 + BLOCK :]), len(BODY) - 1000)
    crash(relay.server)
    assert second.offset() == len(BODY) - 1000
    tus.created(tus.post(f"Upload-Concat: final;{first.place} {second.place}", metadata({"key": key[1:]})))
    assert relay.ask("GET", key).body == BODY
    for part in (first, second):
        part.delete()


def test_draining(serve: Serve, speak: Speak, key: str) -> None:
    """No new upload; one that runs is finished."""
    relay = Relay(serve("--store", "memory", "--get-wait-timeout", "30"), "memory", "tcp")
    tus, receivers = speak(relay), receive(relay, key)
    upload = tus.create(len(BODY), key=key[1:])
    upload.check_sent(upload.patch(0, BODY[:1000]), 1000)
    assert receivers[0].take(1000) == BODY[:1000]
    drain(relay.server)
    answer = tus.post("Upload-Length: 5")
    check_refusal(answer, 503)
    assert int(answer["retry-after"]) > 0
    finish(upload, receivers, upload.offset(), 1000)
    assert ended(relay.server) == 0


# Limits, and what else a client may say.


def test_the_largest_upload(serve: Serve, speak: Speak, key: str) -> None:
    """``--max-pipe-size`` is told beforehand, and no way leads around it."""
    relay = Relay(
        serve("--store", "memory", "--max-pipe-size", str(LIMIT), "--get-wait-timeout", "30"), "memory", "tcp"
    )
    tus = speak(relay)
    assert relay.connect().ask("OPTIONS", TUS).answer()["tus-max-size"] == str(LIMIT)
    check_refusal(tus.post(f"Upload-Length: {LIMIT + 1}"), 413)
    receivers = receive(relay, key)
    finish(tus.create(LIMIT, key=key[1:]), receivers, 0, 0, BODY[:LIMIT])
    relay.server.wait_for("pipes", 0)
    receivers = receive(relay, key)
    upload = tus.create(None, key=key[1:])
    upload.check_sent(upload.patch(0, BODY[:1000]), 1000)
    check_refusal(upload.patch(1000, BODY[1000:2000], f"Upload-Length: {LIMIT + 1}"), 413)
    check_refusal(upload.patch(1000, BODY[1000 : LIMIT + 1]), 413)
    assert upload.head().status in (200, 410)


def overriding(tus: Tus, method: str, target: str, *fields: str, body: bytes = b"") -> Answer:
    """A request whose method stands in a header."""
    return tus.ask("POST", target, f"X-HTTP-Method-Override: {method}", *fields, body=body)


def test_method_override(either: Relay, speak: Speak, key: str) -> None:
    """For clients that can send GET and POST only."""
    tus = speak(either)
    upload = tus.create(5, key=key[1:])
    answer = overriding(tus, "PATCH", upload.place, OCTETS, "Upload-Offset: 0", body=b"abc")
    upload.check_sent(answer, 3)
    assert upload.offset() == 3
    assert overriding(tus, "DELETE", upload.place).status == 204
    assert upload.head().status == 410


def cors_fields(answer: Answer) -> dict[str, str]:
    """What an answer tells browsers."""
    return {name: value for name, value in answer.fields if name.startswith("access-control-")}


def words(value: str) -> set[str]:
    """The members of a list, in lower case."""
    return {each.strip().lower() for each in value.split(",")}


def test_no_origin_is_allowed_by_default(holding: Relay, speak: Speak) -> None:
    """A page elsewhere gets nothing from here unless the operator says so."""
    tus = speak(holding)
    asked = (f"Origin: {ORIGIN}", "Access-Control-Request-Method: POST")
    assert not cors_fields(holding.connect().ask("OPTIONS", TUS, *asked).answer())
    answer = tus.post("Upload-Length: 5", f"Origin: {ORIGIN}")
    assert (answer.status, cors_fields(answer)) == (201, {})


def test_an_origin_that_is_allowed(serve: Serve, speak: Speak) -> None:
    """``--cors-origin``: the preflight lets pass what clients of tus send, and answers show what they read."""
    relay = Relay(serve("--store", "memory", "--cors-origin", ORIGIN), "memory", "tcp")
    tus = speak(relay)
    asked = (
        "Access-Control-Request-Method: PATCH",
        "Access-Control-Request-Headers: tus-resumable,upload-offset,content-type",
    )
    preflight = relay.connect().ask("OPTIONS", TUS, f"Origin: {ORIGIN}", *asked).answer()
    fields = cors_fields(preflight)
    assert (preflight.status, fields["access-control-allow-origin"]) == (204, ORIGIN)
    assert words(fields["access-control-allow-methods"]) >= {"post", "head", "patch", "delete"}
    sent = {"tus-resumable", "upload-length", "upload-offset", "upload-metadata", "upload-checksum", "content-type"}
    assert words(fields["access-control-allow-headers"]) >= {
        *sent,
        *("upload-defer-length", "upload-concat", "x-http-method-override"),
    }
    answer = tus.post("Upload-Length: 5", f"Origin: {ORIGIN}")
    fields = cors_fields(answer)
    assert fields["access-control-allow-origin"] == ORIGIN
    read = {"location", "tus-resumable", "upload-offset", "upload-length", "upload-metadata", "upload-expires"}
    assert words(fields["access-control-expose-headers"]) >= read
    upload = tus.created(answer)
    for each in (upload.head(f"Origin: {ORIGIN}"), upload.patch(3, b"abc", f"Origin: {ORIGIN}")):
        assert cors_fields(each)["access-control-allow-origin"] == ORIGIN
    other = relay.connect().ask("OPTIONS", TUS, "Origin: https://evil.example", *asked).answer()
    assert cors_fields(other).get("access-control-allow-origin") is None
