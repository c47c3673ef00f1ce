"""What the answers say: the headers of a download, its file name, digests, pages, and the texts for senders."""

import base64
import hashlib
import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest
from contract.peers import LAST_CHUNK, Answer, Cut, Peer, check_refusal, chunk
from contract.server import Relay

BOUNDARY = "x1d8f"
FORM = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"
CHROME = "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0 Safari/537.36"
HTML = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def part(disposition: str, data: bytes, *fields: str) -> bytes:
    """One part of a form."""
    head = "\r\n".join([f"--{BOUNDARY}", f"Content-Disposition: {disposition}", *fields, "", ""])
    return head.encode() + data + b"\r\n"


def file_part(filename: str, data: bytes, *fields: str) -> bytes:
    """One part of a form that is a file."""
    return part(f'form-data; name="file"; filename="{filename}"', data, *fields)


END = f"--{BOUNDARY}--\r\n".encode()


def deliver(relay: Relay, key: str, sent: Peer, receiver: Peer | None = None) -> Answer:
    """What a receiver of ``sent`` gets."""
    answer = (receiver or relay.connect().get(key)).answer()
    assert sent.answer().status == (201 if relay.keeps else 200)
    return answer


# Headers.


def test_the_headers_of_a_download(relay: Relay, key: str) -> None:
    """The sender's headers reach the receiver, beside those that keep caches, proxies and sniffers away."""
    sent = relay.connect().put(
        f"{key}.tar.gz",
        b"abc",
        "Content-Type: application/x-tar",
        "Content-Encoding: gzip",
        "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT",
        "X-Piping: one",
        "X-Piping: two",
        "X-Other: no",
        "Set-Cookie: no=no",
    )
    answer = deliver(relay, f"{key}.tar.gz", sent)
    name = f"{key}.tar.gz"[1:]
    assert answer.status == 200
    assert answer["content-type"] == "application/x-tar"
    assert answer["content-encoding"] == "gzip"
    assert answer["last-modified"] == "Wed, 21 Oct 2015 07:28:00 GMT"
    assert answer["content-length"] == "3"
    assert answer["content-disposition"] == f"attachment; filename=\"{name}\"; filename*=UTF-8''{name}"
    assert [value for each, value in answer.fields if each == "x-piping"] in (["one", "two"], ["one, two"])
    assert re.fullmatch(r'"[!#-~]+"', answer["etag"])
    assert answer["accept-ranges"] == "bytes"
    assert answer["x-content-type-options"] == "nosniff"
    assert answer["x-robots-tag"] == "none"
    assert answer["cache-control"] == "no-store"
    assert answer["x-accel-buffering"] == "no"
    assert answer.get("x-other") is None
    assert answer.get("set-cookie") is None


def test_what_the_sender_does_not_say_is_not_made_up(relay: Relay, key: str) -> None:
    """No type means bytes; a length that is not known is not told."""
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    answer = deliver(relay, key, relay.connect().put_chunked(key, [b"abc"]), receiver)
    assert answer["content-type"] == "application/octet-stream"
    assert answer.get("content-length") is None
    assert answer["transfer-encoding"] == "chunked"
    for name in ("content-encoding", "last-modified", "x-piping", "repr-digest"):
        assert answer.get(name) is None


def test_a_body_that_is_whole_has_its_length(relay: Relay, key: str) -> None:
    """Who comes when the last chunk is in is told how long the file is."""
    sender = relay.connect().put_chunked(key, [b"abc"])
    if relay.keeps:
        assert sender.first_status() == 201
    else:
        relay.wait_for_offer(key)
        relay.server.wait_for("active_uploads", 0)
    assert relay.ask("HEAD", key)["content-length"] == "3"
    answer = deliver(relay, key, sender)
    assert (answer["content-length"], answer.get("transfer-encoding"), answer.body) == ("3", None, b"abc")


def test_head_describes_without_consuming(relay: Relay, key: str) -> None:
    """HEAD has the headers of GET and takes nothing: the sender goes on waiting for a receiver."""
    sender = relay.connect().put(key, b"abc", "Content-Type: text/x-c", "Range: bytes=1-", length=6)
    relay.wait_for_offer(key)
    heads = [relay.ask("HEAD", key), relay.ask("HEAD", key, "Range: bytes=1-2")]
    assert relay.server.gauge("active_downloads") == 0
    receiver = relay.connect().get(key)
    got = receiver.head()
    assert [head.status for head in heads] == [200, 200]
    for head in heads:
        assert head.body == b""
        assert {*head.fields} - {("date", head["date"])} == {*got.fields} - {("date", got["date"])}
    sender.send(b"def")
    assert receiver.answer().body == b"abcdef"
    assert sender.answer().status == (201 if relay.keeps else 200)


def test_each_transfer_has_an_etag_of_its_own(relay: Relay, key: str) -> None:
    """All receivers of a transfer see the same ETag, and those of the next transfer another."""
    tags = []
    for i in range(2):
        receivers = [relay.connect().get(f"{key}/{i}") for _ in range(2)]
        relay.wait_for_waiters(2)
        relay.connect().put(f"{key}/{i}", b"abc").answer()
        first, second = (receiver.answer()["etag"] for receiver in receivers)
        assert first == second
        tags.append(first)
    assert tags[0] != tags[1]


def test_a_kept_file_that_has_not_changed_is_not_sent_again(keeping: Relay, key: str) -> None:
    """If-None-Match on a kept transfer: 304 without a body, and the connection can be used again."""
    keeping.connect().put(key, b"abc").answer()
    tag = keeping.ask("HEAD", key)["etag"]
    peer = keeping.connect().get(key, f'If-None-Match: "x", {tag}')
    answer = peer.answer()
    assert (answer.status, answer.body, answer["etag"]) == (304, b"", tag)
    assert peer.ask("HEAD", key, f"If-None-Match: {tag}").answer().status == 304
    answer = peer.get(key, 'If-None-Match: "other"').answer()
    assert (answer.status, answer.body) == (200, b"abc")


def test_if_match(relay: Relay, key: str) -> None:
    """A receiver that wants this file and no other gets it, and 412 with a sentence if it is another."""
    sender = relay.connect().put(key, b"abc", length=6)
    relay.wait_for_offer(key)
    tag = relay.ask("HEAD", key)["etag"]
    check_refusal(relay.ask("GET", key, 'If-Match: "other"'), 412)
    assert relay.ask("HEAD", key, 'If-Match: "other"').status == 412
    assert relay.ask("HEAD", key, "If-Match: *").status == 200
    receiver = relay.connect().get(key, f'If-Match: "other", {tag}')
    assert receiver.head().status == 200
    sender.send(b"def")
    assert receiver.answer().body == b"abcdef"
    assert sender.answer().status == (201 if relay.keeps else 200)


# File names.

NAMES = {
    "plain": ("report 1.pdf", "report 1.pdf"),
    "a path": ("../../x", "x"),
    "an absolute path": ("/etc/passwd", "passwd"),
    "a path of Windows": ("..\\..\\x.exe", "x.exe"),
    "controls": ("a\rb\nc\x00d\x1fe\x7f\x85.txt", "abcde.txt"),
    "a header": ("x\r\nSet-Cookie: a=b", "xSet-Cookie: a=b"),
    "an override of direction": ("x\u202efdp.exe", "xfdp.exe"),
    "quotes": ('a"b;c', 'a"b;c'),
    "not ASCII": ("Grüße ☃.txt", "Grüße ☃.txt"),
    "percent": ("100%25.txt", "100%25.txt"),
}


def filename_of(answer: Answer) -> str:
    """The name under which a browser saves; both forms of it must be safe."""
    value = answer["content-disposition"]
    match = re.fullmatch(
        r"attachment; filename=\"([^\"\\]*)\"; filename\*=UTF-8''([!#$&+.^_`|~\w%-]+)", value, re.ASCII
    )
    assert match, value
    assert not re.search(r"[\x00-\x1f\x7f-\xff/\\]", match[1])
    name = unquote(match[2], errors="strict")
    assert len(match[1]) == len(name)
    return name


def quoted(name: str) -> str:
    """``name`` as an option's value."""
    return "".join(f"%{byte:02X}" for byte in name.encode())


@pytest.mark.parametrize(("name", "saved"), NAMES.values(), ids=NAMES)
def test_a_file_name_given_as_an_option(relay: Relay, key: str, name: str, saved: str) -> None:
    """``?name=`` reaches the receiver, but no path and no control character ever does."""
    assert filename_of(deliver(relay, key, relay.connect().put(f"{key}?name={quoted(name)}", b"x"))) == saved


@pytest.mark.parametrize(
    ("name", "saved"),
    [NAMES[name] for name in ("plain", "a path", "an absolute path", "a path of Windows", "not ASCII")],
)
def test_a_file_name_in_a_form(relay: Relay, key: str, name: str, saved: str) -> None:
    """The same for the name that a form gives."""
    sent = relay.connect().ask("POST", key, FORM, body=file_part(name, b"x") + END)
    assert filename_of(deliver(relay, key, sent)) == saved


def test_a_file_name_with_controls_in_a_form(relay: Relay, key: str) -> None:
    """Controls in the name of a form's file never pass; a form with them is taken without them, or refused."""
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    sent = relay.connect().ask("POST", key, FORM, body=file_part("a\x01b\tc\x7f\x85d", b"x") + END).answer()
    if sent.status == 400:
        check_refusal(sent, 400)
        assert receiver.hears_nothing()
    else:
        assert filename_of(receiver.answer()) == "abcd"


@pytest.mark.parametrize("letter", ["x", "ü", "☃"])
def test_a_file_name_of_4_kb(relay: Relay, key: str, letter: str) -> None:
    """A name that no file system takes is shortened to one that they do, between two characters."""
    name = (letter * 4096)[: 4096 // len(letter.encode())]
    for i, sent in enumerate(
        (
            relay.connect().put(f"{key}/0?name={quoted(name)}", b"x"),
            relay.connect().ask("POST", f"{key}/1", FORM, body=file_part(name, b"x") + END),
            relay.connect().put(f"{key}/2", b"x", f'Content-Disposition: attachment; filename="{name}"'),
        )
    ):
        saved = filename_of(deliver(relay, f"{key}/{i}", sent))
        assert saved and name.startswith(saved)
        assert len(saved.encode()) <= 255


@pytest.mark.parametrize(
    ("disposition", "saved"),
    [
        ('attachment; filename="a b.txt"', "a b.txt"),
        ("attachment; filename=a.txt", "a.txt"),
        ("inline; filename=a.txt", "a.txt"),
        ('attachment; filename="../../x"', "x"),
        ("attachment; filename=\"plain\"; filename*=UTF-8''%c3%bc.txt", "ü.txt"),
        ("attachment; filename*=UTF-8''..%2F..%2Fx%0d%0a", "x"),
        ("attachment; filename*=iso-8859-1'de'%fc.txt", "ü.txt"),
        ('attachment; filename="ü.txt"', "ü.txt"),
    ],
)
def test_a_file_name_that_the_sender_gives(relay: Relay, key: str, disposition: str, saved: str) -> None:
    """A sender's Content-Disposition names the file; it is always an attachment."""
    sent = relay.connect().put(key, b"x", f"Content-Disposition: {disposition}")
    assert filename_of(deliver(relay, key, sent)) == saved


def test_the_file_name_is_the_end_of_the_key(relay: Relay, key: str) -> None:
    """If nobody names it, the file is called like its key; the option stands before the header."""
    for i, (query, fields, saved) in enumerate(
        (
            ("", (), "r%C3%BC.pdf"),
            ("?name=a.pdf", ('Content-Disposition: attachment; filename="b.pdf"',), "a.pdf"),
            ("", ('Content-Disposition: attachment; filename="b.pdf"',), "b.pdf"),
        )
    ):
        path = f"{key}/{i}/r%C3%BC.pdf"
        sent = relay.connect().put(path + query, b"x", *fields)
        assert filename_of(deliver(relay, path, sent)) == unquote(saved)


def test_curl_saves_under_the_name_and_nowhere_else(relay: Relay, key: str, tmp_path: Path) -> None:
    """``curl -OJ`` puts the file into the folder where it runs, whatever the sender wrote."""
    folder = tmp_path / "inside" / "deeper"
    folder.mkdir(parents=True)
    (tmp_path / "bad").write_bytes(b"found")
    sent = relay.curl("-F", f"file=@{tmp_path}/bad;filename=../../outside", relay.url(key))
    if relay.keeps:
        assert sent.done().code == 0
    else:
        relay.wait_for_offer(key)
    command = ["curl", "-sSfOJ", "--cacert", str(relay.server.certificate.certificate), relay.url(key)]
    subprocess.run(command, cwd=folder, check=True, timeout=20)
    assert [path.name for path in folder.iterdir()] == ["outside"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "inside"]
    assert sent.done().code == 0


# Forms.


def test_the_first_file_of_a_form_is_the_transfer(relay: Relay, key: str) -> None:
    """Fields before it are passed over, files behind it too; its own type goes to the receiver."""
    body = (
        b"a preamble\r\n"
        + part('form-data; name="comment"', b"not a file")
        + part('form-data; name="none"; filename=""', b"", "Content-Type: application/octet-stream")
        + file_part("first.txt", b"the first", "Content-Type: text/x-first")
        + file_part("second.txt", b"the second")
        + END
        + b"an epilogue"
    )
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    answer = deliver(relay, key, relay.connect().ask("POST", key, FORM, body=body), receiver)
    assert (answer.body, answer["content-type"], filename_of(answer)) == (b"the first", "text/x-first", "first.txt")


def test_a_form_may_be_put_and_chunked(relay: Relay, key: str) -> None:
    """``curl -X PUT -F`` and a form of unknown length are forms as well."""
    body = file_part("a.txt", b"abc") + END
    sender = relay.connect().put_chunked(key, [body[:5], body[5:30], body[30:]], FORM)
    answer = deliver(relay, key, sender)
    assert (answer.body, filename_of(answer)) == (b"abc", "a.txt")


def test_what_looks_like_a_boundary_is_not_lost(relay: Relay, key: str) -> None:
    """Bytes that nearly are the boundary belong to the file."""
    data = f"a\r\n--{BOUNDARY[:-1]}\r\n-\r\n--\r\n\r\n--{BOUNDARY[:-1]}z--\r\n\r".encode()
    body = file_part("x", data) + END
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    sender = relay.connect().put_chunked(key, [body[i : i + 1] for i in range(len(body))], FORM)
    assert deliver(relay, key, sender, receiver).body == data


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary="])
def test_a_form_without_a_boundary_is_refused(plain: Relay, key: str, content_type: str) -> None:
    """Nobody could say where its parts are; it is refused before the body."""
    answer = plain.connect().put(key, b"", f"Content-Type: {content_type}", "Expect: 100-continue", length=9).answer()
    check_refusal(answer, 400, "boundary")
    assert answer.interim == ()


# Digests.


def digest(data: bytes, algorithm: str = "sha-256") -> str:
    """``data``'s digest as a field's value."""
    value = hashlib.new(algorithm.replace("-", ""), data).digest()
    return f"{algorithm}=:{base64.b64encode(value).decode()}:"


@pytest.mark.parametrize("algorithm", ["sha-256", "sha-512"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_digest_is_computed_on_the_way(relay: Relay, key: str, algorithm: str, chunked: bool) -> None:
    """``?digest=`` tells the sender what was received, and receivers that come later what they get."""
    data = b"some data" * 100_000
    target = f"{key}?digest={algorithm}"
    sender = relay.connect()
    if chunked:
        sender.put_chunked(target, [data[:5], data[5:]])
    else:
        sender.put(target, data)
    if relay.keeps:
        sender.first_status()
    else:
        relay.wait_for_offer(key)
        relay.server.wait_for("active_uploads", 0)
    receiver = relay.connect().get(key).answer()
    assert receiver["repr-digest"] == digest(data, algorithm)
    assert receiver.body == data
    sent = sender.answer()
    assert (sent.status, sent["repr-digest"]) == (201 if relay.keeps else 200, digest(data, algorithm))


@pytest.mark.parametrize("field", ["Repr-Digest", "Content-Digest"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_an_announced_digest_that_is_right(relay: Relay, key: str, field: str, chunked: bool) -> None:
    """A file that arrived as it was announced is delivered as always; digests that nobody knows are passed over."""
    data = b"0123456789"
    fields = f"{field}: crc32c=:AAAAAA==:, {digest(data)}", f"{field}: {digest(data, 'sha-512')}"
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    sender = relay.connect()
    answer = deliver(
        relay, key, sender.put_chunked(key, [data], *fields) if chunked else sender.put(key, data, *fields), receiver
    )
    assert (answer.status, answer.body) == (200, data)


@pytest.mark.parametrize("field", ["Repr-Digest", "Content-Digest"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_an_announced_digest_that_is_wrong(relay: Relay, key: str, field: str, chunked: bool) -> None:
    """The sender reads 422, and no receiver ever has the whole: it is cut before the end."""
    data = b"0123456789"
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    fields = f"{field}: {digest(b'other')}"
    sender = relay.connect()
    (sender.put_chunked(key, [data], fields) if chunked else sender.put(key, data, fields))
    check_refusal(sender.answer(), 422, "digest")
    with pytest.raises((Cut, ConnectionResetError)):
        receiver.answer()
    check_refusal(relay.ask("GET", f"{key}?wait=0"), 404)


@pytest.mark.parametrize("data", [b"1", b"22"])
def test_curl_sees_that_a_file_with_a_wrong_digest_is_not_whole(
    relay: Relay, key: str, tmp_path: Path, data: bytes
) -> None:
    """A real receiver ends with an error, also when the file has one byte only."""
    receiver = relay.curl("-fo", tmp_path / "out", relay.url(key))
    relay.wait_for_waiters(1)
    check_refusal(relay.connect().put(key, data, f"Repr-Digest: {digest(b'other')}").answer(), 422)
    assert receiver.done().code == 18


def test_an_empty_file_with_a_wrong_digest_reaches_nobody(relay: Relay, key: str) -> None:
    """Its head would be its end: a receiver is cut or goes on waiting, and never takes nothing for the file."""
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    check_refusal(relay.connect().put(key, b"", f"Repr-Digest: {digest(b'other')}").answer(), 422)
    if not receiver.hears_nothing():
        with pytest.raises((Cut, ConnectionResetError)):
            receiver.answer()


def test_the_last_byte_is_held_back_until_the_digest_is_right(relay: Relay, key: str) -> None:
    """All but the last byte flow as they come; the last comes when all is known to be right."""
    data = b"0123456789"
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    sender = relay.connect().put(key, data[:9], f"Repr-Digest: {digest(data)}", length=10)
    assert receiver.take(9) == data[:9]
    sender.send(data[9:])
    assert receiver.answer().body == data[9:]
    assert sender.answer().status == (201 if relay.keeps else 200)


@pytest.mark.parametrize(
    "value", ["sha-256=abc", "sha-256=:***:", "sha-256=:YWJj", "x", f"{digest(b'a')}, {digest(b'b')}"]
)
def test_a_digest_that_is_none_is_refused(plain: Relay, key: str, value: str) -> None:
    """What cannot be a digest is refused before the body."""
    answer = plain.connect().put(key, b"", f"Repr-Digest: {value}", "Expect: 100-continue", length=3).answer()
    check_refusal(answer, 400, "digest")
    assert answer.interim == ()


@pytest.mark.parametrize("field", ["Repr-Digest", "Content-Digest"])
def test_a_digest_of_a_form_is_refused(plain: Relay, key: str, field: str) -> None:
    """It would be that of the form, not of the file."""
    fields = FORM, f"{field}: {digest(b'abc')}", "Expect: 100-continue"
    answer = plain.connect().put(key, b"", *fields, length=3).answer()
    check_refusal(answer, 400, "form")
    assert answer.interim == ()


def test_an_asked_digest_of_a_form_is_that_of_the_file(relay: Relay, key: str) -> None:
    """``?digest=`` covers what the receivers get."""
    sent = relay.connect().ask("POST", f"{key}?digest=sha-256", FORM, body=file_part("x", b"abc") + END)
    assert relay.connect().get(key).answer().body == b"abc"
    assert sent.answer()["repr-digest"] == digest(b"abc")


# What the sender reads.


def test_the_location_of_a_kept_file(keeping: Relay, key: str) -> None:
    """201 says where the file is, as a path, and for how long."""
    sent = keeping.connect().put(f"{key}/ü%20x?ttl=0.5", b"abc").answer()
    assert (sent.status, sent["location"]) == (201, f"{key}/%C3%BC%20x")
    assert sent.text == "stored 3 bytes, kept for 0.5 s\n"
    assert keeping.ask("GET", sent["location"]).body == b"abc"


def test_numbers_have_no_separators(holding: Relay, key: str) -> None:
    """The count can be read by a program."""
    receiver = holding.connect().get(key)
    sent = holding.connect().put(key, b"x" * 1_234_567)
    assert len(receiver.answer().body) == 1_234_567
    assert sent.answer().text == "delivered 1234567 bytes to 1 receiver\n"


def test_who_left_early_is_told(holding: Relay, key: str) -> None:
    """One of two receivers has it all: 200, and the other is not kept quiet."""
    stays, leaves = holding.connect().get(key), holding.connect().get(key)
    holding.wait_for_waiters(2)
    sender = holding.connect().put(key, b"abc", length=6)
    assert (stays.take(3), leaves.take(3)) == (b"abc", b"abc")
    leaves.close()
    holding.server.wait_for("active_downloads", 1)
    sender.send(b"def")
    assert stays.answer().body == b"def"
    assert sender.answer().text == "delivered 6 bytes to 1 receiver, 1 left early\n"


# People who look.

PREVIEWERS = [
    "WhatsApp/2.23.20.0",
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "Twitterbot/1.0",
    "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
    "TelegramBot (like TwitterBot)",
    "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)",
    "LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpClient +http://www.linkedin.com)",
    "Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5",
    "Mozilla/5.0 (Macintosh) AppleWebKit/600.2.5 (KHTML, like Gecko) Version/8.0.2 Safari/600.2.5 (Applebot/0.1)",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
]
LOOKS = [
    pytest.param([CHROME, HTML], id="a browser"),
    pytest.param([CHROME, HTML, "Sec-Fetch-Mode: navigate"], id="a browser that navigates"),
    pytest.param([HTML, "Sec-Fetch-Mode: navigate"], id="whoever navigates"),
    *(pytest.param([f"User-Agent: {agent}", "Accept: */*"], id=agent.split()[0]) for agent in PREVIEWERS),
]


@pytest.mark.parametrize("fields", LOOKS)
def test_a_look_consumes_nothing(relay: Relay, key: str, fields: list[str]) -> None:
    """A browser or a previewer at the link gets a page; the file waits for its receiver."""
    sender = relay.connect().put(f"{key}?name=the-file.bin", b"abc", "Content-Type: text/x-c", length=20_480)
    relay.wait_for_offer(key)
    before = relay.server.metrics()["beam_bytes_out_total"]
    page = relay.connect().get(key, *fields).answer()
    assert (page.status, page["content-type"]) == (200, "text/html; charset=utf-8")
    assert "the-file.bin" in page.text
    assert "20.0 KiB" in page.text
    assert f'href="{key}?download' in page.text
    assert page["x-robots-tag"] == "none"
    after = relay.server.metrics()
    assert (after["beam_bytes_out_total"], after["beam_active_downloads"]) == (before, 0)
    sender.close()


BYTES = [
    pytest.param("", ["User-Agent: curl/7.88.1", "Accept: */*"], id="curl"),
    pytest.param("", [], id="nobody in particular"),
    pytest.param("", [CHROME, "Accept: */*"], id="a script in a browser, of old"),
    pytest.param("", [CHROME, HTML, "Sec-Fetch-Mode: cors"], id="a script in a browser"),
    pytest.param("", ["User-Agent: Wget/1.21", HTML], id="a program that takes HTML"),
    pytest.param("?download", [CHROME, HTML, "Sec-Fetch-Mode: navigate"], id="a click on the button"),
    pytest.param("?download=true", ["User-Agent: WhatsApp/2.23"], id="a previewer that insists"),
]


@pytest.mark.parametrize(("query", "fields"), BYTES)
def test_who_wants_the_bytes_gets_them(plain: Relay, key: str, query: str, fields: list[str]) -> None:
    """Programs, and people who click on the button, get the file."""
    receiver = plain.connect().get(key + query, *fields)
    plain.wait_for_waiters(1)
    answer = deliver(plain, key, plain.connect().put(key, b"abc"), receiver)
    assert (answer.status, answer.body) == (200, b"abc")


def test_a_browser_that_comes_too_early_looks_again(plain: Relay, key: str) -> None:
    """With nothing there the page comes at once, with 404, and asks again by itself."""
    page = plain.connect().get(key, CHROME, HTML).answer()
    assert (page.status, page["content-type"]) == (404, "text/html; charset=utf-8")
    assert 'http-equiv="refresh"' in page.text or "Refresh" in dict(page.fields)
    assert plain.server.gauge("key_waiters") == 0


def test_a_page_shows_names_and_does_not_run_them(plain: Relay, key: str) -> None:
    """Whatever key, name or type a sender makes up: it is text on the page."""
    evil = "%3Cscript%3Ealert(1)%3C%2Fscript%3E%22%27%26"
    path = f"{key}/{evil.replace('%2F', '')}"
    sender = plain.connect().put(
        f"{path}?name=%3Cimg%20src=x%3E%22%27", b"a", "Content-Type: text/<script>alert(2)</script>", length=3
    )
    plain.wait_for_offer(path)
    pages = [plain.connect().get(path, CHROME, HTML).answer().text, plain.ask("GET", "/").text]
    sender.close()
    plain.server.wait_for("pipes", 0)
    pages.append(plain.connect().get(path, CHROME, HTML).answer().text)
    pages.append(plain.connect().get(path, CHROME, HTML, 'X-Forwarded-Host: "><script>').answer().text)
    for page in pages:
        assert not re.search(r"<(script|img)", page)
        assert not re.search(r"""(href|content)=["'][^"']*[<>]""", page)


def test_a_sender_that_dies_lets_its_page_go(plain: Relay, key: str) -> None:
    """The page is about what is there now."""
    sender = plain.connect().put_chunked(key, [b"abc"], ends=False)
    plain.wait_for_offer(key)
    assert plain.connect().get(key, CHROME, HTML).answer().status == 200
    sender.close()
    plain.server.wait_for("pipes", 0)
    assert plain.connect().get(key, CHROME, HTML).answer().status == 404


def test_the_end_of_a_live_digest_comes_with_its_chunk(relay: Relay, key: str) -> None:
    """A chunked file with an announced digest flows as it comes; its end is told when the digest is right."""
    receiver = relay.connect().get(key)
    relay.wait_for_waiters(1)
    sender = relay.connect().put_chunked(key, [b"abc"], f"Repr-Digest: {digest(b'abcdef')}", ends=False)
    assert receiver.take(3) == b"abc"
    sender.send(chunk(b"def") + LAST_CHUNK)
    assert receiver.answer().body == b"def"
    assert sender.answer().status == (201 if relay.keeps else 200)
