"""Servers that are killed, stopped and started again, and disks that are full: what was told to be there is there."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlencode

import pytest
from contract.peers import Cut
from files.support import CHUNKED, FILES, Api, Flow, file_of, form, problem
from harness import until

from beam.testing import some_bytes

DATA = some_bytes(3_000_000)
SIZE = 1 << 18


def end(api: Api, number: signal.Signals) -> None:
    """End the server of ``api``."""
    api.server.signal(number)
    api.server.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_files_outlive_the_server(serve: Callable[..., Api], number: signal.Signals) -> None:
    """Names, types, times, ETags and bytes are those from before; a draining server does not wait for files."""
    api = serve()
    flow = Flow(DATA, SIZE, name="ü/c.bin")
    ids = [api.upload(DATA, 'a "ü".txt', "text/plain"), api.upload(b"", "empty", "image/png")]
    for chunk in range(1, flow.chunks + 1):
        answer = api.chunk(flow, chunk)
    ids.append(file_of(answer, 201)["id"])
    kind = "Content-Type: application/json"
    assert api.ask("PATCH", f"{FILES}/{ids[1]}", kind, body=b'{"filename": "still empty"}').status == 200
    deleted = api.upload(b"1")
    assert api.ask("DELETE", f"{FILES}/{deleted}").status == 204
    before, heads = api.list(), [api.ask("HEAD", f"{FILES}/{id}").fields for id in ids]
    end(api, number)
    api = serve()
    assert api.list() == before
    assert {each["filename"] for each in before} == {'a "ü".txt', "still empty", "c.bin"}
    for id, fields, data in zip(ids, heads, (DATA, b"", DATA), strict=True):
        now = dict(api.ask("HEAD", f"{FILES}/{id}").fields)
        assert {name: now.get(name) for name, _ in fields if name != "date"} == {
            name: value for name, value in fields if name != "date"
        }
        assert api.read(id) == data
    assert file_of(api.chunk(flow, 1), 200)["id"] == ids[2]
    api.clear()


def test_many_files(serve: Callable[..., Api], tmp_path: Path) -> None:
    """A server stops soon, and starts with more of them than it may have descriptors: nothing is written anew."""
    api = serve()
    with ThreadPoolExecutor(8) as pool:
        assert {answer.status for answer in pool.map(api.post, [b"x"] * 500)} == {201}
    end(api, signal.SIGTERM)
    records = {path.parent.name: path.stat().st_ino for path in (tmp_path / "store").rglob("record")}
    assert len(records) == 500
    api = serve(most_descriptors=200)
    assert len(api.list(per_page=1000)) == 500
    assert {path.parent.name: path.stat().st_ino for path in (tmp_path / "store").rglob("record")} == records
    api.clear()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_unfinished_upload_in_chunks_goes_on(serve: Callable[..., Api], number: signal.Signals) -> None:
    """With the chunks that were there, under the same id; a reader goes on where it was."""
    api = serve()
    flow = Flow(DATA, SIZE, tells_size=False)
    for chunk in (1, 2, 4, flow.chunks):
        assert api.chunk(flow, chunk).status == 201
    (file,) = api.list()
    path = f"{FILES}/{file['id']}"
    etag = api.ask("HEAD", path)["etag"]
    reader = api.connect().get(path)
    assert reader.take(2 * SIZE) == DATA[: 2 * SIZE]
    if number is signal.SIGTERM:
        reader.close()  # who reads what comes is waited for
    end(api, number)
    reader.close()
    api = serve()
    assert api.list() == [file]
    there = [api.probe(flow, chunk).status for chunk in range(1, flow.chunks + 1)]
    assert there == [200 if chunk in (1, 2, 4, flow.chunks) else 204 for chunk in range(1, flow.chunks + 1)]
    reader = api.connect().get(path, f"Range: bytes={2 * SIZE}-", f"If-Range: {etag}")
    for chunk, status in enumerate(there, 1):
        if status == 204:
            answer = api.chunk(flow, chunk)
    assert file_of(answer, 201)["id"] == file["id"]
    assert (rest := reader.answer()).status == 206
    assert rest.body == DATA[2 * SIZE :]
    assert api.read(file["id"]) == DATA
    api.clear()


def test_an_unfinished_plain_upload_leaves_nothing(serve: Callable[..., Api], tmp_path: Path) -> None:
    """After a kill there is neither a file nor its bytes; also when it was renamed meanwhile."""
    api = serve()
    peers = [api.begin(DATA[:1000], len(DATA)), api.begin(DATA[:1000], None)]
    files = until(
        lambda: [each for each in api.list() if each["received"] == 1000][1:] and api.list(), "both have begun"
    )
    kind = "Content-Type: application/json"
    assert api.ask("PATCH", f"{FILES}/{files[0]['id']}", kind, body=b'{"filename": "b"}').status == 200
    end(api, signal.SIGKILL)
    for peer in peers:
        peer.close()
    api = serve()
    assert api.list() == []
    api.clear()
    assert not list((tmp_path / "store").glob("server-*/*/*"))


@pytest.mark.parametrize("seed", range(6))
def test_what_was_told_to_be_there_is_there(serve: Callable[..., Api], seed: int) -> None:
    """Killed at any moment, the server has each file that was answered with 201, and each chunk."""
    choice = random.Random(seed)
    api = serve()
    told: dict[str, bytes] = {}
    flow = Flow(DATA, 1 << 15, identifier=f"flow-{seed}")
    chunks: list[int] = []
    deleted: list[str] = []
    stopped = threading.Event()

    def send_files(number: int) -> None:
        with suppress(OSError, Cut):
            for i in range(1000):
                data = some_bytes(choice.randrange(200_000))
                id = api.upload(data, f"{number}-{i}")
                told[id] = data
                if i % 5 == 4:
                    deleted.append(id)
                    assert api.ask("DELETE", f"{FILES}/{id}").status == 204
                if stopped.is_set():
                    return

    def send_chunks() -> None:
        order = list(range(1, flow.chunks))
        choice.shuffle(order)
        with suppress(OSError, Cut):
            for number in order:
                assert api.raw_chunk(flow, number).status == 201
                chunks.append(number)
                time.sleep(0.002)

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(send_files, 1), pool.submit(send_files, 2), pool.submit(send_chunks)]
        until(lambda: chunks, "it has begun")
        time.sleep(choice.random())  # any moment is one to be killed in
        end(api, signal.SIGKILL)
        stopped.set()
        for each in running:
            each.result(30)
    api = serve()
    listed = {each["id"]: each for each in api.list(per_page=1000)}
    for id, data in told.items():
        if id in deleted:
            assert id not in listed or id == deleted[-1] or id == deleted[-2:][0]
        else:
            assert listed[id]["complete"] and listed[id]["size"] == len(data)
            assert api.read(id) == data
    assert all(api.probe(flow, number).status == 200 for number in chunks)
    for file in listed.values():
        assert file["complete"] or file["filename"] == flow.name
    for number in range(1, flow.chunks + 1):
        if api.probe(flow, number).status == 204:
            answer = api.chunk(flow, number)
    assert api.read(file_of(answer, 201)["id"]) == DATA
    api.clear()


def test_a_full_disk(small_disk: Path, serve: Callable[..., Api]) -> None:
    """507 for what does not fit; what was there stays, an upload in chunks goes on when there is space again."""
    api = serve(store=f"disk:{small_disk / 'store'}:cap=1G")
    kept = api.upload(some_bytes(1 << 20), "kept")
    filler = api.upload(some_bytes(1 << 20), "filler")
    problem(api.post(some_bytes(8 << 20)), 507, "full")
    flow = Flow(DATA[: 2 << 20], SIZE)
    answers = [api.chunk(flow, number) for number in range(1, flow.chunks + 1)]
    full = [number for number, answer in enumerate(answers, 1) if answer.status != 201]
    assert full and {answers[number - 1].status for number in full} == {507}
    problem(answers[full[0] - 1], 507, "full")
    assert api.read(kept) == some_bytes(1 << 20)
    assert api.ask("DELETE", f"{FILES}/{filler}").status == 204
    for number in range(1, flow.chunks + 1):
        if api.probe(flow, number).status == 204:
            answer = api.chunk(flow, number)
            assert answer.status == 201
    assert api.read(file_of(answer, 201)["id"]) == flow.data
    end(api, signal.SIGKILL)
    api = serve(store=f"disk:{small_disk / 'store'}:cap=1G")
    assert api.read(kept) == some_bytes(1 << 20)
    api.clear()


def test_quota_counts_what_was_there_before(serve: Callable[..., Api], tmp_path: Path) -> None:
    """After a restart the files of before count as they did."""
    store = f"disk:{tmp_path / 'store'}:cap=1M"
    api = serve(store=store)
    file = api.upload(b"x" * 900_000)
    used = api.server.gauges()["disk_usage"]
    end(api, signal.SIGKILL)
    api = serve(store=store)
    assert api.server.gauges()["disk_usage"] == used
    problem(api.post(b"x" * 300_000), 507)
    assert api.ask("DELETE", f"{FILES}/{file}").status == 204
    until(lambda: api.post(b"x" * 300_000).status == 201, "there is space again")
    api.clear()


def test_records_that_are_none(serve: Callable[..., Api], tmp_path: Path) -> None:
    """A folder that somebody has damaged does not keep the server from starting with the others."""
    api = serve()
    good, bad = api.upload(b"good"), api.upload(b"bad")
    end(api, signal.SIGKILL)
    for record in (tmp_path / "store").rglob("record"):
        if bad.encode() in record.read_bytes():
            record.write_bytes(os.urandom(100))
    api = serve()
    assert [each["id"] for each in api.list()] == [good]
    assert api.read(good) == b"good"


def test_a_draining_server(serve: Callable[..., Api]) -> None:
    """It finishes what runs, takes nothing new, and says that it is about to stop to whoever asks for a file."""
    api = serve()
    file = api.upload(b"123")
    sender = api.begin(b"123", 6)
    until(lambda: len(api.list()) == 2, "the upload has begun")
    api.server.signal(signal.SIGTERM)
    until(lambda: api.server.gauges()["draining"] == 1, "it drains")
    problem(api.post(b"1"), 503, "stop")
    problem(api.chunk(Flow(b"1", 1), 1), 503, "stop")
    problem(api.ask("GET", f"{FILES}/{file}"), 503, "stop")
    told = file_of(sender.send(b"456").answer(), 201)
    assert api.server.wait() == 0
    api = serve()
    assert {each["id"] for each in api.list()} == {file, told["id"]}
    assert api.read(told["id"]) == b"123456"
    api.clear()


def test_senders_that_stand_still(serve: Callable[..., Api]) -> None:
    """408 for a file, a chunk, the fields of a form and a new name of which nothing comes for too long."""
    api = serve("--idle-timeout", "1")
    file = api.upload(b"1", "old")
    flow = Flow(DATA, SIZE)
    assert api.chunk(flow, 1).status == 201
    kind, body = form(flow.fields(2), flow.part(2))
    there, chunked = (f"{CHUNKED}?{urlencode(flow.fields(number))}" for number in (1, 3))
    json = "Content-Type: application/json"
    peers = [
        api.begin(b"123", 10),
        api.connect().ask("POST", chunked, f"Content-Length: {SIZE}").send(b"123"),
        api.connect().ask("POST", there, f"Content-Length: {SIZE}").send(b"123"),
        api.connect().ask("POST", CHUNKED, f"Content-Type: {kind}", f"Content-Length: {len(body)}").send(body[:100]),
        api.connect().ask("POST", CHUNKED, f"Content-Type: {kind}", f"Content-Length: {len(body)}").send(body[:-100]),
        api.connect().ask("PATCH", f"{FILES}/{file}", json, "Content-Length: 20").send(b"{"),
    ]
    for peer in peers:
        problem(peer.answer(), 408)
    assert [api.probe(flow, number).status for number in (1, 2, 3)] == [200, 204, 204]
    assert api.chunk(flow, 2).status == 201
    api.clear()


def test_a_file_is_deleted_while_chunks_come(serve: Callable[..., Api]) -> None:
    """Those who send them hear so, also of chunks that are there already."""
    api = serve()
    flow = Flow(DATA, SIZE)
    assert api.chunk(flow, 1).status == 201
    (file,) = api.list()
    peers = [
        api.connect().ask("POST", f"{CHUNKED}?{urlencode(flow.fields(number))}", f"Content-Length: {SIZE}").send(b"123")
        for number in (1, 2, 3)
    ]
    until(lambda: api.raw_chunk(flow, 3).status == 409, "they are on their way")
    assert api.ask("DELETE", f"{FILES}/{file['id']}").status == 204
    for peer in peers[1:]:
        problem(peer.answer(), 410, "deleted")
    problem(peers[0].send(flow.part(1)[3:]).answer(), 410, "deleted")
    assert api.list() == []
    api.clear()
