"""Plain uploads to the files API: what comes in is told, listed, read again, and refused where it cannot be."""

import hashlib
import json
import time
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, unquote
from uuid import UUID

import pytest
from contract.peers import chunk
from files.support import CHUNKED, FILES, UPLOAD, Api, Flow, file_of, form, problem
from harness import until

from beam.testing import some_bytes

DATA = some_bytes(300_000)
NAMES = ["plain.txt", "with space.txt", "ünïcödé 文件 🙂.bin", 'it\'s "quoted".txt', "100%.txt", "semi;colon,comma.txt"]


@pytest.mark.parametrize("part", ["file", "anything"])
def test_a_form_becomes_a_file(api: Api, part: str) -> None:
    """201 with what became of it, the address where it is, and the same bytes there; the field has any name."""
    before = datetime.now(UTC)
    kind, body = form({"note": "is ignored"}, DATA, "a.pdf", "application/pdf", part)
    answer = api.ask("POST", UPLOAD, f"Content-Type: {kind}", body=body)
    file = file_of(answer, 201)
    assert str(UUID(file["id"], version=4)) == file["id"]
    assert answer["location"] == f"{FILES}/{file['id']}"
    assert (file["filename"], file["size"], file["received"]) == ("a.pdf", len(DATA), len(DATA))
    assert (file["content_type"], file["complete"]) == ("application/pdf", True)
    created = datetime.fromisoformat(file["created"])
    assert abs((created - before).total_seconds()) < 60
    assert api.read(file["id"]) == DATA
    assert api.list() == [file]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_raw_body_becomes_a_file(api: Api, chunked: bool) -> None:
    """With its type, and the name that the query gives; whether its length is told or not."""
    if chunked:
        fields = ("Content-Type: text/plain", "Transfer-Encoding: chunked")
        peer = api.connect().ask("POST", f"{UPLOAD}?name=a.txt", *fields)
        answer = peer.send(chunk(DATA[:1000]) + chunk(DATA[1000:]) + b"0\r\n\r\n").answer()
    else:
        answer = api.post(DATA, "a.txt", "text/plain")
    file = file_of(answer, 201)
    assert (file["filename"], file["size"], file["content_type"]) == ("a.txt", len(DATA), "text/plain")
    assert api.read(file["id"]) == DATA


def test_an_empty_file(api: Api) -> None:
    """It is a file, too."""
    file = file_of(api.post(b""), 201)
    assert (file["size"], file["received"], file["complete"]) == (0, 0, True)
    assert api.read(file["id"]) == b""
    assert api.ask("HEAD", f"{FILES}/{file['id']}")["content-length"] == "0"


def uploaded(api: Api, name: str, raw: bool) -> dict[str, Any]:
    """A file of that name, as it is or in a form."""
    if raw:
        return file_of(api.post(b"x", name), 201)
    kind, body = form({}, b"x", name)
    return file_of(api.ask("POST", UPLOAD, f"Content-Type: {kind}", body=body), 201)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("raw", [True, False])
def test_the_name_of_a_file(api: Api, name: str, raw: bool) -> None:
    """It is told, listed and given to whoever downloads, as it was."""
    file = uploaded(api, name, raw)
    assert file["filename"] == name
    assert api.list() == [file]
    disposition = api.ask("GET", f"{FILES}/{file['id']}")["content-disposition"]
    assert disposition.startswith("attachment; ")
    assert unquote(disposition.partition("filename*=UTF-8''")[2]) == name


@pytest.mark.parametrize("name", ["../../etc/passwd", "C:\\files\\passwd", "/passwd", "a/../passwd"])
@pytest.mark.parametrize("raw", [True, False])
def test_a_name_that_is_a_path(api: Api, name: str, raw: bool) -> None:
    """Its last part is the name; nothing is written anywhere else."""
    assert uploaded(api, name, raw)["filename"] == "passwd"


def test_a_digest_is_checked(api: Api) -> None:
    """A raw body whose announced digest is another is refused, and nothing is kept."""
    good = b64encode(hashlib.sha256(DATA).digest()).decode()
    fields = ("Repr-Digest: sha-256=:" + good + ":",)
    file = file_of(api.ask("POST", f"{UPLOAD}?name=a", *fields, body=DATA), 201)
    assert api.ask("GET", f"{FILES}/{file['id']}")["repr-digest"] == f"sha-256=:{good}:"
    answer = api.ask("POST", f"{UPLOAD}?name=b", *fields, body=DATA[::-1])
    problem(answer, 422, "digest")
    assert api.list() == [file]


def test_two_files_of_one_name(api: Api) -> None:
    """Each is a file of its own."""
    first, second = api.upload(b"1", "same"), api.upload(b"2", "same")
    assert first != second
    assert (api.read(first), api.read(second)) == (b"1", b"2")


def test_curl_is_told_to_go_on(api: Api) -> None:
    """A client that asks whether to send hears so before it sends."""
    peer = api.connect().ask("POST", f"{UPLOAD}?name=a", "Content-Length: 5", "Expect: 100-continue")
    assert peer.first_status() == 100
    file_of(peer.send(b"12345").answer(), 201)


def test_a_sender_that_breaks_off_leaves_nothing(api: Api) -> None:
    """A plain upload that is not whole is no file."""
    peer = api.begin(b"123", 10)
    until(lambda: api.list(complete="false"), "the upload is listed")
    peer.reset()
    until(lambda: not api.list(), "it is gone")


@pytest.mark.parametrize(
    ("kind", "body", "status", "word"),
    [
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--x--\r\n',
            400,
            "no file",
        ),
        ("multipart/form-data; boundary=x", b"--x--\r\n", 400, "no file"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nnonsense\r\n--x--\r\n", 400, "malformed"),
        ("multipart/form-data; boundary=x", b"nonsense", 400, "form"),
        ("multipart/form-data", b"--x--\r\n", 400, "boundary"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nno end',
            400,
            "no end",
        ),
    ],
)
def test_forms_that_are_none(api: Api, kind: str, body: bytes, status: int, word: str) -> None:
    """400 with what is wrong, and nothing is kept."""
    problem(api.ask("POST", UPLOAD, f"Content-Type: {kind}", body=body), status, word)
    assert api.list() == []


def test_an_unknown_option_is_refused(api: Api) -> None:
    """As everywhere in beam."""
    problem(api.ask("POST", f"{UPLOAD}?color=red", body=b"x"), 400, "color")
    problem(api.ask("POST", f"{UPLOAD}?name=a&name=b", body=b"x"), 400, "twice")
    problem(api.ask("POST", f"{UPLOAD}?name=", body=b"x"), 400, "name")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", FILES, "GET, HEAD, OPTIONS"),
        ("POST", FILES, "GET, HEAD, OPTIONS"),
        ("DELETE", FILES, "GET, HEAD, OPTIONS"),
        ("GET", UPLOAD, "POST, OPTIONS"),
        ("PUT", UPLOAD, "POST, OPTIONS"),
        ("DELETE", CHUNKED, "GET, HEAD, POST, OPTIONS"),
        ("POST", f"{FILES}/x", "GET, HEAD, DELETE, PATCH, OPTIONS"),
        ("PUT", f"{FILES}/x", "GET, HEAD, DELETE, PATCH, OPTIONS"),
    ],
)
def test_methods(api: Api, method: str, path: str, allowed: str) -> None:
    """405 and 204 tell which methods a path takes."""
    answer = api.ask(method, path, "Content-Length: 0")
    problem(answer, 405, "This path takes")
    assert answer["allow"] == allowed
    answer = api.ask("OPTIONS", path)
    assert (answer.status, answer["allow"]) == (204, allowed)


@pytest.mark.parametrize("method", ["GET", "DELETE", "PATCH"])
@pytest.mark.parametrize("id", ["00000000-0000-4000-8000-000000000000", "x", "..", "%2e%2e", "..%2f..%2fx", "%00", ""])
def test_no_such_file(api: Api, method: str, id: str) -> None:
    """404, or 400 where it can be no name of a file."""
    body = b'{"filename": "b"}' if method == "PATCH" else b""
    answer = api.ask(method, f"{FILES}/{id}", "Content-Type: application/json", body=body)
    problem(answer, answer.status)
    assert answer.status in (400, 404)


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/api", 404),
        ("/api/", 404),
        ("/api/x", 404),
        ("/api/files/x/y", 404),
        ("/api/%zz", 400),
        ("/api/files?a=%ff", 400),
    ],
)
def test_every_error_below_api_has_one_shape(api: Api, target: str, status: int) -> None:
    """Also where nothing is, and where the path is none."""
    problem(api.ask("GET", target), status)


def test_an_unknown_method(api: Api) -> None:
    """501, in the same shape."""
    problem(api.ask("BREW", FILES), 501)
    problem(api.ask("TRACE", FILES), 405)


def test_heads_of_errors_have_no_body(api: Api) -> None:
    """HEAD is GET without its body."""
    answer = api.ask("HEAD", f"{FILES}/x")
    assert (answer.status, answer.body, answer["content-type"]) == (404, b"", "application/problem+json")


SECRET = "open sesame"


def test_a_secret(serve: Callable[..., Api]) -> None:
    """Whoever changes something has to show it; whoever reads has not."""
    anybody = serve("--auth", SECRET)
    knower = Api(anybody.server, f"Authorization: Bearer {SECRET}")
    stranger = Api(anybody.server, "Authorization: Bearer wrong")
    file = knower.upload(b"1")
    flow = Flow(b"123", 1)
    assert knower.chunk(flow, 1).status == 201
    for api in (anybody, stranger):
        kind, body = form({}, b"x")
        for answer in (
            api.post(b"x"),
            api.ask("POST", UPLOAD, f"Content-Type: {kind}", body=body),
            api.chunk(flow, 2),
            api.raw_chunk(flow, 2),
            api.ask("DELETE", f"{FILES}/{file}"),
            api.ask("PATCH", f"{FILES}/{file}", "Content-Type: application/json", body=b'{"filename": "b"}'),
        ):
            problem(answer, 401, "bearer token")
            assert answer["www-authenticate"] == "Bearer"
        assert len(api.list()) == 2
        assert api.read(file) == b"1"
        assert api.probe(flow, 1).status == 200
    assert knower.ask("DELETE", f"{FILES}/{file}").status == 204


def test_a_file_that_is_too_large(serve: Callable[..., Api]) -> None:
    """413 before the body is sent where its length is told, else as soon as it is too long; nothing is kept."""
    api = serve("--max-file-size", "100K", "--max-pipe-size", "10")
    peer = api.connect().ask("POST", f"{UPLOAD}?name=a", f"Content-Length: {200 << 10}", "Expect: 100-continue")
    problem(peer.answer(), 413, str(100 << 10))
    kind, body = form({}, DATA)
    problem(api.ask("POST", UPLOAD, f"Content-Type: {kind}", body=body), 413)
    flow = Flow(DATA, 64 << 10)
    problem(api.chunk(flow, 1), 413)
    silent = Flow(DATA, 64 << 10, tells_size=False)
    problem(api.chunk(silent, 1), 413)
    assert api.list() == []
    assert file_of(api.post(DATA[: 100 << 10]), 201)["size"] == 100 << 10


def test_the_largest_file_is_that_of_the_server_if_nothing_else_is_said(serve: Callable[..., Api]) -> None:
    """--max-pipe-size holds here, too."""
    api = serve("--max-pipe-size", "100K")
    problem(api.post(DATA), 413)


def test_there_is_no_space(serve: Callable[..., Api], tmp_path: str) -> None:
    """507 with a sentence, nothing is kept of it, and what fits is taken."""
    api = serve(store=f"disk:{tmp_path}/store:cap=1M")
    problem(api.post(b"x" * (1 << 20) + b"x"), 507, "space")
    kind, body = form({}, b"x" * (1 << 20) + b"x")
    problem(api.ask("POST", UPLOAD, f"Content-Type: {kind}", body=body), 507)
    problem(api.chunk(Flow(b"x" * (1 << 21)), 1), 507)
    silent = Flow(b"x" * (1 << 21), tells_size=False)
    answers = [api.chunk(silent, number).status for number in range(1, 20)]
    assert answers[:10] == [201] * 10
    assert answers[-1] == 507
    for each in api.list():
        assert api.ask("DELETE", f"{FILES}/{each['id']}").status == 204
    assert file_of(api.post(b"x" * (1 << 20)), 201)["size"] == 1 << 20


PNG = b"\x89PNG\r\n\x1a\n" + bytes(200_000)
ELF = b"\x7fELF" + bytes(200_000)
PICTURES = ("--allow-types", "image/*", "--deny-types", "image/svg+xml")


def test_types(serve: Callable[..., Api]) -> None:
    """415 by what a file is and not by what it is called, as soon as that shows; nothing is kept."""
    api = serve(*PICTURES)
    assert api.post(PNG, "a.png", "image/png").status == 201
    before = api.list()
    for data, name in ((ELF, "a.png"), (b"<svg></svg>", "a.png"), (b"some text", "a.png")):
        problem(api.post(data, name, "image/png"), 415, "image/*")
        kind, body = form({}, data, name, "image/png")
        problem(api.ask("POST", UPLOAD, f"Content-Type: {kind}", body=body), 415, "image/*")
    peer = api.begin(ELF[:5000], 1 << 30, "a.png")
    problem(peer.answer(), 415, "application/x-executable")
    until(lambda: api.list() == before, "nothing is kept")


def test_types_of_files_in_chunks(serve: Callable[..., Api]) -> None:
    """The first chunk is enough, or the last one that lacks; the type that is told is that of the content."""
    api = serve(*PICTURES)
    whole, small, turned = (
        Flow(data, size, name="a.png") for data, size in ((PNG, 1 << 16), (PNG, 1000), (ELF, 1 << 16))
    )
    for flow in (whole, small):
        for number in range(1, flow.chunks + 1):
            answer = api.raw_chunk(flow, number)
        file = file_of(answer, 201)
        assert file["content_type"] == "image/png"
        assert api.ask("DELETE", f"{FILES}/{file['id']}").status == 204
    problem(api.raw_chunk(turned, 1), 415, "application/x-executable")
    assert api.list() == []
    for number in range(2, turned.chunks + 1):
        assert api.raw_chunk(turned, number).status == 201
    problem(api.raw_chunk(turned, 1), 415, "application/x-executable")
    assert api.list() == []
    text = Flow(b"some text " * 1000, 1000, name="a.png")
    for number in range(1, text.chunks):
        assert api.chunk(text, number).status == 201
    problem(api.chunk(text, text.chunks), 415, "text/plain")
    assert api.list() == []
    until(lambda: api.server.gauges()["disk_usage"] == 0, "nothing is kept")


def test_requests_are_limited(serve: Callable[..., Api]) -> None:
    """429 with when to come back, in the shape of all errors."""
    api = serve("--rate-limit", "3/minute")
    for _ in range(3):
        assert api.ask("GET", FILES)["ratelimit-limit"] == "3"
    answer = api.ask("GET", FILES)
    problem(answer, 429)
    assert int(answer["retry-after"]) <= 60


def test_pages_of_other_origins(serve: Callable[..., Api]) -> None:
    """Those that are allowed may use the API."""
    api = serve("--cors-origin", "https://here.example")
    origin = "Origin: https://here.example"
    asked = api.ask("OPTIONS", UPLOAD, origin, "Access-Control-Request-Method: DELETE")
    assert (asked.status, "DELETE" in asked["access-control-allow-methods"]) == (204, True)
    assert api.ask("GET", FILES, origin)["access-control-allow-origin"] == "https://here.example"
    assert api.ask("GET", FILES, "Origin: https://there.example").get("access-control-allow-origin") is None


def test_bandwidth(serve: Callable[..., Api]) -> None:
    """Uploads, chunks and downloads keep the pace of the operator."""
    api = serve("--bandwidth", "1M")
    data = some_bytes(2 << 20)
    flow = Flow(data, 2 << 20)
    for act in (lambda: api.post(data), lambda: api.raw_chunk(flow, 1), lambda: api.chunk(Flow(data, 2 << 20, "b"), 1)):
        began = time.monotonic()
        file = file_of(act(), 201)
        assert time.monotonic() - began > 0.7
    began = time.monotonic()
    assert api.read(file["id"]) == data
    assert time.monotonic() - began > 0.7


def test_without_a_disk_store_there_is_no_files_api(serve: Callable[..., Api]) -> None:
    """404 with what the operator has to do."""
    api = serve(store="memory")
    for method, path in (
        *(("GET", FILES), ("POST", UPLOAD), ("DELETE", f"{FILES}/x"), ("GET", f"{FILES}/x")),
        *(("PUT", "/api/key"), ("PUT", "/%61pi/key")),
    ):
        problem(api.ask(method, path, "Content-Length: 0"), 404, "disk store")


def test_files_are_none_of_the_keys(api: Api) -> None:
    """What lies below /api/files cannot be sent to or had elsewhere, and keys are no files."""
    file = api.upload(b"1")
    assert api.ask("GET", f"/{file}?wait=0").status == 404
    assert api.ask("PUT", f"/{file}?ttl=0", body=b"2").status == 201
    assert api.read(file) == b"1"
    assert [each["id"] for each in api.list()] == [file]


def test_a_browser_gets_the_file_and_no_page(api: Api) -> None:
    """Links to files work where links to transfers show a page first."""
    file = api.upload(DATA)
    fields = ("User-Agent: Mozilla/5.0", "Accept: text/html", "Sec-Fetch-Mode: navigate")
    assert api.ask("GET", f"{FILES}/{file}", *fields).body == DATA


@pytest.mark.parametrize("scheme", ["ünï", "a b"])
def test_names_come_from_the_disposition_of_a_raw_body_too(api: Api, scheme: str) -> None:
    """As in the rest of beam; the option stands before it."""
    field = f"Content-Disposition: attachment; filename*=UTF-8''{quote(scheme)}"
    assert file_of(api.ask("POST", UPLOAD, field, body=b"x"), 201)["filename"] == scheme
    assert file_of(api.ask("POST", f"{UPLOAD}?name=b", field, body=b"x"), 201)["filename"] == "b"


def test_json_is_utf_8(api: Api) -> None:
    """Names are readable in what curl shows."""
    api.upload(b"x", "ü")
    assert "ü" in api.ask("GET", FILES).text
    assert json.loads(api.ask("GET", FILES).body)[0]["filename"] == "ü"
