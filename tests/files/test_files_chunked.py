"""Uploads in chunks: in any order, at once, again, and after a break; and everything that cannot be."""

import hashlib
import json
import time
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

import pytest
from contract.peers import Answer, Peer
from files.support import CHUNKED, FILES, Api, Flow, file_of, form, problem
from harness import until

from beam.testing import some_bytes

DATA = some_bytes(300_001)
SIZE = 1 << 16
HOSTILE = [
    "../../x",
    "/etc/passwd",
    "..",
    ".",
    "a/b",
    "a\\b",
    "%2e%2e%2f",
    "x" * 1024,
    "ünïcödé 🙂",
    "a\0b",
    "con",
    " ",
    "-rf",
]


def message(answer: Answer) -> str:
    """What a chunk that does not end the file is answered with."""
    assert answer["content-type"] == "application/json"
    found = json.loads(answer.body)
    assert set(found) == {"message"}
    return str(found["message"])


def digest(data: bytes) -> str:
    """As RFC 9530 writes it."""
    return f"sha-256=:{b64encode(hashlib.sha256(data).digest()).decode()}:"


Send = Callable[..., Answer]


@pytest.fixture(params=["form", "raw"])
def send(api: Api, request: pytest.FixtureRequest) -> Send:
    """Both ways to send a chunk."""
    return api.chunk if request.param == "form" else api.raw_chunk


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("longer", [False, True])
@pytest.mark.parametrize("tells_size", [False, True])
def test_chunks_become_a_file(api: Api, send: Send, turned: bool, longer: bool, tells_size: bool) -> None:
    """In order and the other way round, the last one shorter or longer than the others."""
    flow = Flow(DATA, SIZE, longer=longer, tells_size=tells_size, name="ünï/a.bin")
    assert flow.chunks == (4 if longer else 5)
    order = list(range(1, flow.chunks + 1))[:: -1 if turned else 1]
    for number in order[:-1]:
        answer = send(flow, number)
        assert (answer.status, message(answer)) == (201, f"Chunk {number} uploaded successfully")
        (told,) = api.list()
        assert (told["complete"], told["filename"]) == (False, "a.bin")
        assert told["received"] == (0 if turned else number * SIZE)
        if tells_size:
            assert told["size"] == len(DATA)
    answer = send(flow, order[-1])
    file = file_of(answer, 201)
    assert answer["location"] == f"{FILES}/{file['id']}"
    assert (file["size"], file["received"], file["complete"], file["filename"]) == (len(DATA), len(DATA), True, "a.bin")
    assert api.read(file["id"]) == DATA
    assert api.list() == [file]


@pytest.mark.parametrize("data", [b"", b"1", b"12", b"123"])
@pytest.mark.parametrize("tells_size", [False, True])
def test_a_file_of_one_chunk(api: Api, send: Send, data: bytes, tells_size: bool) -> None:
    """Also one that is empty."""
    flow = Flow(data, 2, longer=True, tells_size=tells_size)
    file = file_of(send(flow, 1), 201)
    assert (file["size"], file["complete"]) == (len(data), True)
    assert api.read(file["id"]) == data
    assert file_of(send(flow, 1), 200) == file


def test_chunks_at_once(api: Api) -> None:
    """Many connections bring one chunk each."""
    flow = Flow(DATA, 4096)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: api.chunk(flow, number), range(1, flow.chunks + 1)))
    assert {answer.status for answer in answers} == {201}
    (whole,) = [answer for answer in answers if b"message" not in answer.body]
    assert api.read(file_of(whole, 201)["id"]) == DATA


def test_two_files_at_once(api: Api) -> None:
    """Each identifier is a file of its own."""
    flows = [Flow(DATA[i:], SIZE, identifier=f"file-{i}", name=f"{i}") for i in range(4)]
    for number in range(1, 6):
        answers = [api.chunk(flow, number) for flow in flows]
    for flow, answer in zip(flows, answers, strict=True):
        assert api.read(file_of(answer, 201)["id"]) == flow.data


def test_a_chunk_again(api: Api, send: Send) -> None:
    """200 for one that is there, without harm to it; the whole file again when it is whole."""
    flow = Flow(DATA, SIZE)
    assert send(flow, 2).status == 201
    answer = send(flow, 2)
    assert (answer.status, message(answer)) == (200, "Chunk already exists")
    answer = send(flow, 2, data=b"?" * SIZE)
    assert (answer.status, message(answer)) == (200, "Chunk already exists")
    for number in (1, 3, 4):
        assert send(flow, number).status == 201
    file = file_of(send(flow, 5), 201)
    for number in (1, 5):
        assert file_of(send(flow, number), 200) == file
    assert api.read(file["id"]) == DATA


def test_what_is_there_need_not_be_sent(api: Api) -> None:
    """A client that asks to be told before it sends hears it then."""
    flow = Flow(DATA, SIZE)
    assert api.raw_chunk(flow, 1).status == 201
    path = f"{CHUNKED}?{urlencode(flow.fields(1))}"
    peer = api.connect().ask("POST", path, f"Content-Length: {SIZE}", "Expect: 100-continue")
    assert (message(answer := peer.answer()), answer.interim) == ("Chunk already exists", ())


def test_a_probe(api: Api) -> None:
    """200 for a chunk that is there, 204 for one that is not: a client that comes back skips what is there."""
    flow = Flow(DATA, SIZE)
    assert api.probe(flow, 1).status == 204
    assert api.list() == []
    for number in (1, 3, 5):
        api.chunk(flow, number)
    assert [api.probe(flow, number).status for number in range(1, 6)] == [200, 204, 200, 204, 200]
    head = api.ask("HEAD", f"{CHUNKED}?{urlencode(flow.fields(3))}")
    assert (head.status, head.body) == (200, b"")
    for number in (2, 4):
        assert api.probe(flow, number).status == 204
        api.chunk(flow, number)
    assert [api.probe(flow, number).status for number in range(1, 6)] == [200] * 5


def test_a_probe_of_flow_js(api: Api) -> None:
    """Which has all of its parameters."""
    flow = Flow(DATA, SIZE, longer=True)
    more: dict[str, Any] = {"flowCurrentChunkSize": len(flow.part(4)), "flowRelativePath": "a.bin"}
    assert api.probe(flow, 4, **more).status == 204
    assert api.chunk(flow, 4, **more).status == 201
    assert api.probe(flow, 4, **more).status == 200


def begin_chunk(api: Api, flow: Flow, number: int, sent: int) -> Peer:
    """Begin to send a chunk."""
    data = flow.part(number)
    peer = api.connect().ask("POST", f"{CHUNKED}?{urlencode(flow.fields(number))}", f"Content-Length: {len(data)}")
    return peer.send(data[:sent])


def test_the_same_chunk_at_once(api: Api, send: Send) -> None:
    """409 for the second one; the first goes on, and its bytes are those of the file."""
    flow = Flow(DATA, SIZE)
    first = begin_chunk(api, flow, 1, 1000)
    until(api.list, "it has begun")
    problem(send(flow, 1, data=b"?" * SIZE), 409, "chunk 1")
    assert api.probe(flow, 1).status == 204
    assert send(flow, 2).status == 201
    assert first.send(flow.part(1)[1000:]).answer().status == 201
    for number in (3, 4):
        assert send(flow, number).status == 201
    assert api.read(file_of(send(flow, 5), 201)["id"]) == DATA


def test_a_chunk_that_breaks_off(api: Api, send: Send) -> None:
    """It is not there, the others are, and it can be sent again."""
    flow = Flow(DATA, SIZE)
    assert send(flow, 1).status == 201
    peer = begin_chunk(api, flow, 2, 1000)
    until(lambda: api.server.gauges()["active_uploads"] >= 1, "it has begun")
    peer.reset()
    until(lambda: send(flow, 2).status == 201, "it can be sent again")
    for number in (3, 4):
        assert send(flow, number).status == 201
    assert api.read(file_of(send(flow, 5), 201)["id"]) == DATA


def test_a_file_in_chunks_is_read_while_it_comes(api: Api) -> None:
    """A reader gets what is contiguous, and the rest as the gaps close."""
    flow = Flow(DATA, SIZE)
    api.chunk(flow, 1)
    (file,) = api.list()
    path = f"{FILES}/{file['id']}"
    reader = api.connect().get(path)
    assert reader.take(SIZE) == flow.part(1)
    api.chunk(flow, 3)
    assert reader.hears_nothing()
    api.chunk(flow, 2)
    assert reader.take(2 * SIZE) == flow.part(2) + flow.part(3)
    part = api.connect().get(path, f"Range: bytes={SIZE}-{2 * SIZE - 1}")
    assert part.answer().body == flow.part(2)
    api.chunk(flow, 5)
    api.chunk(flow, 4)
    assert reader.answer().body == flow.part(4) + flow.part(5)


def test_a_missing_chunk(api: Api) -> None:
    """The file stays unfinished, and says which bytes it has."""
    flow = Flow(DATA, SIZE)
    for number in (1, 2, 4, 5):
        assert message(api.chunk(flow, number)) == f"Chunk {number} uploaded successfully"
    (file,) = api.list()
    assert (file["complete"], file["received"]) == (False, 2 * SIZE)
    assert api.probe(flow, 3).status == 204


@pytest.mark.parametrize("good", [True, False])
def test_the_digest_of_a_chunk(api: Api, good: bool) -> None:
    """422 if it is another one; the chunk is not there then, and comes when it is sent again."""
    flow = Flow(DATA, SIZE)
    sent = digest(flow.part(1) if good else b"other")
    answers = [
        api.chunk(flow, 1, flowChunkDigest=sent),
        api.raw_chunk(flow, 2, f"Content-Digest: {digest(flow.part(2)) if good else sent}"),
    ]
    for number, answer in enumerate(answers, 1):
        if good:
            assert answer.status == 201
        else:
            problem(answer, 422, "digest")
        assert api.probe(flow, number).status == (200 if good else 204)
    if not good:
        for number in (1, 2, 3, 4):
            assert api.chunk(flow, number, flowChunkDigest=digest(flow.part(number))).status == 201
        assert api.read(file_of(api.chunk(flow, 5), 201)["id"]) == DATA


def test_a_digest_that_is_none(api: Api) -> None:
    """400 with how it reads."""
    problem(api.chunk(Flow(DATA, SIZE), 1, flowChunkDigest="md5"), 400, "digest")
    problem(api.raw_chunk(Flow(DATA, SIZE), 1, "Content-Digest: nonsense"), 400, "digest")


@pytest.mark.parametrize("identifier", HOSTILE)
def test_identifiers_are_never_paths(api: Api, identifier: str) -> None:
    """Whatever it is, it only names the upload."""
    flow = Flow(b"12345", 2, identifier=identifier)
    other = Flow(b"67890", 2, identifier=f"{identifier}!"[-1024:])
    for number in (1, 2):
        assert api.raw_chunk(flow, number).status == 201
        assert api.raw_chunk(other, number).status == 201
        assert api.probe(flow, number).status == 200
    assert api.read(file_of(api.raw_chunk(flow, 3), 201)["id"]) == b"12345"
    assert api.read(file_of(api.raw_chunk(other, 3), 201)["id"]) == b"67890"


@pytest.mark.parametrize(
    ("changed", "status", "word"),
    [
        ({"flowTotalChunks": 6, "flowTotalSize": None}, 409, "identifier"),
        ({"flowChunkSize": SIZE + 1}, 409, "identifier"),
        ({"flowTotalSize": len(DATA) - 1}, 409, "identifier"),
        ({"flowFilename": "b.bin"}, 409, "identifier"),
        ({"flowTotalChunks": 99}, 400, "flowTotalChunks"),
        ({"flowTotalSize": 5}, 400, "flowTotalSize"),
        ({"flowChunkNumber": 0}, 400, "flowChunkNumber"),
        ({"flowChunkNumber": 6}, 400, "flowChunkNumber"),
        ({"flowChunkNumber": "x"}, 400, "flowChunkNumber"),
        ({"flowCurrentChunkSize": 5}, 400, "5 bytes"),
        ({"flowChunkNumber": None}, 400, "flowChunkNumber is missing"),
        ({"flowTotalChunks": None}, 400, "flowTotalChunks is missing"),
        ({"flowChunkSize": None}, 400, "flowChunkSize is missing"),
        ({"flowIdentifier": None}, 400, "flowIdentifier is missing"),
        ({"flowFilename": None}, 400, "flowFilename is missing"),
        ({"flowIdentifier": "x" * 1025}, 400, "flowIdentifier"),
    ],
)
def test_chunks_that_do_not_fit(api: Api, send: Send, changed: dict[str, object], status: int, word: str) -> None:
    """Refused with what is wrong, also when probed; the upload goes on as it was."""
    flow = Flow(DATA, SIZE)
    assert send(flow, 1).status == 201
    problem(send(flow, 2, **changed), status, word)
    problem(api.probe(flow, 2, **changed), status, word)
    assert len(api.list()) == 1
    for number in (2, 3, 4):
        assert send(flow, number).status == 201
    assert api.read(file_of(send(flow, 5), 201)["id"]) == DATA


@pytest.mark.parametrize(
    ("number", "length"), [(2, SIZE - 1), (2, SIZE + 1), (2, 0), (5, len(DATA) % SIZE - 1), (5, SIZE)]
)
def test_chunks_of_another_length(api: Api, send: Send, number: int, length: int) -> None:
    """400; the chunk is not there."""
    flow = Flow(DATA, SIZE)
    assert send(flow, 1).status == 201
    problem(send(flow, number, data=b"x" * length), 400, "bytes")
    assert api.probe(flow, number).status == 204


def test_sizes_that_differ(api: Api) -> None:
    """Once somebody has told how large the file is, nobody else may tell something else."""
    silent = Flow(DATA, SIZE, tells_size=False)
    assert api.raw_chunk(silent, 1).status == 201
    assert api.raw_chunk(silent, 5).status == 201
    problem(
        api.raw_chunk(silent, 5, flowTotalSize=len(DATA) - 1, data=b"x" * (len(DATA) % SIZE - 1)), 409, "identifier"
    )
    problem(api.raw_chunk(silent, 5, data=b"x"), 400, "1 bytes")
    assert api.raw_chunk(silent, 5, flowTotalSize=len(DATA)).status == 200


def test_a_file_that_is_said_to_be_empty(api: Api, send: Send) -> None:
    """And is not: it is not taken, and can be sent again."""
    flow = Flow(b"", SIZE)
    problem(send(flow, 1, data=b"x"), 400)
    assert api.list() == []
    assert file_of(send(flow, 1), 201)["size"] == 0


@pytest.mark.parametrize("length", [0, 2 * SIZE])
def test_a_last_chunk_that_cannot_be(api: Api, send: Send, length: int) -> None:
    """Where nobody has said how large the file is, it has at least one byte, and not as many as two others."""
    flow = Flow(DATA, SIZE, tells_size=False)
    assert send(flow, 1).status == 201
    problem(send(flow, 5, data=b"x" * length), 400, "bytes")
    for number in (2, 3, 4):
        assert send(flow, number).status == 201
    assert api.read(file_of(send(flow, 5), 201)["id"]) == DATA


def test_a_last_chunk_of_which_nobody_says_how_long_it_is(api: Api) -> None:
    """400 with what has to be sent; it comes when it is sent so."""
    flow = Flow(DATA, SIZE, tells_size=False)
    problem(api.chunk(flow, 5, flowCurrentChunkSize=None), 400, "flowCurrentChunkSize")
    assert api.list() == []
    assert api.chunk(flow, 5).status == 201


def test_a_form_without_a_file(api: Api) -> None:
    """400 with how one is sent."""
    flow = Flow(DATA, SIZE)
    body = b'--x\r\nContent-Disposition: form-data; name="flowChunkNumber"\r\n\r\n1\r\n--x--\r\n'
    problem(api.ask("POST", CHUNKED, "Content-Type: multipart/form-data; boundary=x", body=body), 400, "no file")
    kind, body = form({}, flow.part(1))
    problem(api.ask("POST", CHUNKED, f"Content-Type: {kind}", body=body), 400, "before the file")
    kind, body = form(flow.fields(1), flow.part(1))
    problem(api.ask("POST", CHUNKED, f"Content-Type: {kind}", body=body[:-4]), 400, "no end")
    assert api.probe(flow, 1).status == 204


def test_parameters_of_a_form_in_the_query(api: Api) -> None:
    """They may stand there, too."""
    flow = Flow(b"123", 3)
    kind, body = form({}, flow.data)
    answer = api.ask("POST", f"{CHUNKED}?{urlencode(flow.fields(1))}", f"Content-Type: {kind}", body=body)
    assert api.read(file_of(answer, 201)["id"]) == b"123"


def test_an_unfinished_upload_has_its_time(serve: Callable[..., Api]) -> None:
    """--upload-ttl after its last byte it is gone, and each chunk makes it begin again."""
    api = serve("--upload-ttl", "4")
    flow = Flow(DATA, 10_000)
    for number in range(1, 9):
        until(lambda: api.chunk(flow, number).status == 201, "the chunk is there")  # noqa: B023
        assert api.list()[0]["received"] == number * 10_000
        peer = begin_chunk(api, flow, number + 1, 10)
        assert peer.hears_nothing(0.6)  # eight times: more than it has in all
        peer.reset()
    until(lambda: not api.list(), "it is gone")
    assert api.probe(flow, 1).status == 204


def test_a_chunk_whose_sender_vanished(api: Api) -> None:
    """Whoever sends it again has its place when nothing has come for a while; the file is whole in the end."""
    flow = Flow(DATA[:25_000], 10_000)
    assert api.chunk(flow, 1).status == 201
    last = None
    for number in (2, 3):
        vanished = begin_chunk(api, flow, number, 10)
        answer = api.chunk(flow, number)
        problem(answer, 409, "Another connection")
        assert answer["retry-after"] == "1"
        last = until(lambda number=number: taken(api.chunk(flow, number)), "its place is free")  # type: ignore[misc]
        problem(vanished.answer(), 409, "another connection")
    assert last is not None
    assert api.read(file_of(last, 201)["id"]) == DATA[:25_000]


def taken(answer: Answer) -> Answer | None:
    """``answer``, if it is no 409."""
    return None if answer.status == 409 else answer


def test_a_chunk_whose_sender_is_slow(api: Api) -> None:
    """It keeps its place for as long as bytes come."""
    flow = Flow(DATA[:20_000], 10_000)
    slow = begin_chunk(api, flow, 1, 10)
    for at in range(10, 18):
        time.sleep(0.8)  # twice as long, in all, as one may stand still
        slow.send(DATA[at : at + 1])
        problem(api.chunk(flow, 1), 409, "Another connection")
    assert slow.send(DATA[18:10_000]).answer().status == 201


def test_a_file_that_is_there_keeps_its_identifier(api: Api) -> None:
    """A name given later does not change what its chunks are called."""
    flow = Flow(b"12345", 5)
    file = file_of(api.chunk(flow, 1), 201)["id"]
    kind = "Content-Type: application/json"
    assert api.ask("PATCH", f"{FILES}/{file}", kind, body=b'{"filename": "b"}').status == 200
    assert file_of(api.chunk(flow, 1), 200)["filename"] == "b"
    problem(api.chunk(Flow(b"123", 5), 1), 409, "identifier")
