"""Files as they are listed, read, renamed and deleted; also while they are still coming."""

import json
import re
from collections.abc import Callable
from urllib.parse import unquote

import pytest
from files.support import FILES, Api, Flow, file_of, problem
from harness import until

from beam.testing import some_bytes

DATA = some_bytes(3_000_000)

# Reading.


def test_the_head_of_a_file(api: Api) -> None:
    """HEAD has the fields of GET, its length among them."""
    file = api.upload(DATA, "a.png", "image/png")
    head, got = api.ask("HEAD", f"{FILES}/{file}"), api.ask("GET", f"{FILES}/{file}")
    assert (head.status, head.body, got.status, got.body) == (200, b"", 200, DATA)
    assert head["content-length"] == got["content-length"] == str(len(DATA))
    for name in ("content-type", "etag", "accept-ranges", "content-disposition", "x-content-type-options"):
        assert head[name] == got[name]
    assert head["content-type"] == "image/png"
    assert head["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("0-", 0, None), ("0-0", 0, 1), ("5-9", 5, 10), ("1000000-", 1_000_000, None), ("-7", len(DATA) - 7, None)],
)
def test_a_part_of_a_file(api: Api, asked: str, start: int, stop: int | None) -> None:
    """206 with these bytes and their place."""
    file = api.upload(DATA)
    answer = api.ask("GET", f"{FILES}/{file}", f"Range: bytes={asked}")
    assert (answer.status, answer.body) == (206, DATA[start:stop])
    last = (stop or len(DATA)) - 1
    assert answer["content-range"] == f"bytes {start}-{last}/{len(DATA)}"


def test_a_part_that_is_not_there(api: Api) -> None:
    """416 with the length."""
    file = api.upload(b"123")
    answer = api.ask("GET", f"{FILES}/{file}", "Range: bytes=3-")
    problem(answer, 416, "3 bytes")
    assert answer["content-range"] == "bytes */3"


def test_conditions(api: Api) -> None:
    """304 for those who have it, 412 for those who want another, a part only of what they began."""
    file = api.upload(b"12345")
    etag = api.ask("HEAD", f"{FILES}/{file}")["etag"]
    path = f"{FILES}/{file}"
    assert api.ask("GET", path, f"If-None-Match: {etag}").status == 304
    problem(api.ask("GET", path, 'If-Match: "other"'), 412)
    assert api.ask("GET", path, "Range: bytes=2-", f"If-Range: {etag}").body == b"345"
    assert api.ask("GET", path, "Range: bytes=2-", 'If-Range: "other"').body == b"12345"


def test_a_file_stays(serve: Callable[..., Api]) -> None:
    """However often it is downloaded, and however short the times of other files are."""
    api = serve("--put-ttl", "0.1", "--get-ttl", "0.1", "--idle-timeout", "1")
    file = api.upload(b"123")
    for _ in range(20):
        assert api.read(file) == b"123"
    gone = api.ask("PUT", "/key", body=b"1")
    assert gone.status == 201
    until(lambda: api.ask("HEAD", "/key").status == 404, "what is no file of the API is gone")
    assert api.read(file) == b"123"


def test_an_upload_is_listed_and_read_while_it_comes(api: Api) -> None:
    """With its progress; a reader gets each byte as it comes, and its end with the end of the upload."""
    sender = api.begin(DATA[:1000], len(DATA), "live")
    (file,) = until(lambda: [each for each in api.list() if each["received"] == 1000], "the first bytes are there")
    assert (file["size"], file["complete"], file["filename"]) == (len(DATA), False, "live")
    path = f"{FILES}/{file['id']}"
    reader, late = api.connect().get(path), api.connect().get(path, "Range: bytes=500-")
    assert reader.take(1000) == DATA[:1000]
    assert late.take(500) == DATA[500:1000]
    assert reader.hears_nothing()
    assert api.ask("HEAD", path)["content-length"] == str(len(DATA))
    sender.send(DATA[1000:5000])
    assert reader.take(4000) == DATA[1000:5000]
    sender.send(DATA[5000:])
    assert file_of(sender.answer(), 201)["id"] == file["id"]
    assert reader.answer().body == DATA[5000:]
    assert late.answer().body == DATA[1000:]


def test_an_upload_of_unknown_length(api: Api) -> None:
    """Its size is not known before its end."""
    sender = api.begin(b"123", None)
    (file,) = until(lambda: [each for each in api.list() if each["received"] == 3], "the first bytes are there")
    assert file["size"] is None
    sender.send(b"1\r\n4\r\n0\r\n\r\n")
    assert file_of(sender.answer(), 201)["size"] == 4


# Lists.


def fill(api: Api) -> list[str]:
    """Some files, the oldest first."""
    return [
        api.upload(b"1" * 3, "b.png", "image/png"),
        api.upload(b"1" * 1, "A.txt", "text/plain"),
        api.upload(b"1" * 2, "c.jpg", "image/jpeg"),
    ]


@pytest.mark.parametrize(
    ("query", "order"),
    [
        ({}, [2, 1, 0]),
        ({"sort": "created"}, [0, 1, 2]),
        ({"sort": "filename"}, [1, 0, 2]),
        ({"sort": "-size"}, [0, 2, 1]),
        ({"sort": "content_type"}, [2, 0, 1]),
        ({"filename": ".P"}, [0]),
        ({"content_type": "image/*", "sort": "size"}, [2, 0]),
        ({"content_type": "text/plain"}, [1]),
        ({"complete": "false"}, []),
        ({"complete": "true", "sort": "size", "per_page": 2}, [1, 2]),
        ({"complete": "true", "sort": "size", "per_page": 2, "page": 2}, [0]),
    ],
)
def test_lists(api: Api, query: dict[str, object], order: list[int]) -> None:
    """Sorted, filtered and paged as was asked for."""
    files = fill(api)
    assert [files.index(each["id"]) for each in api.list(**query)] == order


def test_the_way_through_the_pages(api: Api) -> None:
    """The headers tell how many files there are, and where the other pages lie."""
    fill(api)
    answer = api.ask("GET", f"{FILES}?per_page=1&page=2&sort=filename")
    assert answer["x-total-count"] == "3"
    links = {name: path for path, name in re.findall(r'<([^>]*)>; rel="(\w+)"', answer["link"])}
    assert set(links) == {"first", "prev", "next", "last"}
    names = {name: json.loads(api.ask("GET", path).body)[0]["filename"] for name, path in links.items()}
    assert names == {"first": "A.txt", "prev": "A.txt", "next": "c.jpg", "last": "c.jpg"}
    head = api.ask("HEAD", f"{FILES}?per_page=1&page=2&sort=filename")
    assert (head.status, head.body, head["link"], head["x-total-count"]) == (200, b"", answer["link"], "3")


@pytest.mark.parametrize(
    "query", ["page=0", "per_page=1001", "sort=color", "complete=maybe", "color=red", "page=1&page=2"]
)
def test_lists_that_cannot_be(api: Api, query: str) -> None:
    """400 with what could be."""
    problem(api.ask("GET", f"{FILES}?{query}"), 400, query.partition("=")[0])


# Changing.


@pytest.mark.parametrize("name", ["new.txt", 'ünï "quoted"', "../x/new.txt"])
def test_a_new_name(api: Api, name: str) -> None:
    """It is told, listed and given to whoever downloads; the rest stays."""
    file = api.upload(b"123", "old.txt", "text/plain")
    old, etag = api.told(file), api.ask("HEAD", f"{FILES}/{file}")["etag"]
    assert old is not None
    kind = "Content-Type: application/json"
    told = file_of(api.ask("PATCH", f"{FILES}/{file}", kind, body=json.dumps({"filename": name}).encode()), 200)
    shown = name.rpartition("/")[2]
    assert told == {**old, "filename": shown} == api.told(file)
    head = api.ask("HEAD", f"{FILES}/{file}")
    assert unquote(head["content-disposition"].partition("filename*=UTF-8''")[2]) == shown
    assert head["etag"] == etag
    assert api.read(file) == b"123"


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b"", 400),
        ("application/json", b"{", 400),
        ("application/json", b"\xff", 400),
        ("application/json", b"[]", 400),
        ("application/json", b"{}", 400),
        ("application/json", b"[" * 9000 + b"]" * 9000, 400),
        ("application/json", b'{"filename": 3}', 400),
        ("application/json", b'{"filename": ""}', 400),
        ("application/json", b'{"filename": "\\ud800"}', 400),
        ("application/json", b'{"filename": "/"}', 400),
        ("application/json", b'{"filename": "a", "size": 3}', 400),
        ("application/json", b'{"filename": "' + b"a" * (1 << 20) + b'"}', 413),
        ("text/plain", b'{"filename": "a"}', 415),
    ],
)
def test_names_that_are_none(api: Api, kind: str, body: bytes, status: int) -> None:
    """Refused with what is wrong; the name stays."""
    file = api.upload(b"1", "old")
    peer = api.connect().ask("PATCH", f"{FILES}/{file}", f"Content-Type: {kind}", f"Content-Length: {len(body)}")
    problem(peer.send(body).answer(), status)
    told = api.told(file)
    assert told is not None and told["filename"] == "old"


def test_a_file_is_deleted(api: Api) -> None:
    """204, then 404 for everything; the disk has its space back."""
    file = api.upload(DATA)
    assert api.server.gauges()["disk_usage"] >= len(DATA)
    answer = api.ask("DELETE", f"{FILES}/{file}")
    assert (answer.status, answer.body) == (204, b"")
    for method in ("GET", "DELETE", "HEAD"):
        assert api.ask(method, f"{FILES}/{file}").status == 404
    assert api.list() == []
    until(lambda: api.server.gauges()["disk_usage"] == 0, "the space is free")


def test_a_file_is_deleted_while_it_is_read(api: Api) -> None:
    """Whoever reads it may read on to its end."""
    file = api.upload(DATA * 10)
    reader = api.connect().get(f"{FILES}/{file}")
    assert reader.take(10) == DATA[:10]
    assert api.ask("DELETE", f"{FILES}/{file}").status == 204
    assert api.ask("GET", f"{FILES}/{file}").status == 404
    assert reader.answer().body == (DATA * 10)[10:]


def test_an_upload_is_deleted_while_it_comes(api: Api) -> None:
    """Its sender hears so, its readers are cut, and nothing is left."""
    sender = api.begin(b"123", 10)
    (file,) = until(lambda: [each for each in api.list() if each["received"] == 3], "the first bytes are there")
    reader = api.connect().get(f"{FILES}/{file['id']}")
    assert reader.take(3) == b"123"
    assert api.ask("DELETE", f"{FILES}/{file['id']}").status == 204
    problem(sender.answer(), 410, "deleted")
    assert reader.is_closed()
    assert api.list() == []


def test_an_unfinished_upload_in_chunks_is_deleted(api: Api) -> None:
    """Its identifier is free again."""
    flow = Flow(b"12345", 2)
    assert api.chunk(flow, 1).status == 201
    (file,) = api.list()
    assert api.ask("DELETE", f"{FILES}/{file['id']}").status == 204
    assert api.list() == []
    assert api.probe(flow, 1).status == 204
    assert api.chunk(Flow(b"1", 3, name="other"), 1).status == 201
