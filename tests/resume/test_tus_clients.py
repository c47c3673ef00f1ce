"""The clients that people have: tuspy and tus-js-client, also over a wire that breaks, while somebody receives."""

import gc
import json
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from contract.peers import Curl
from contract.server import Relay, Server
from harness import BOUND, until
from resume.support import BLOCK, RESUMABLE, TUS, WAYS_TO_BREAK, BrittleWire, crash, gaps, offset, wait_for_bytes
from tusclient.client import TusClient
from tusclient.storage.filestorage import FileStorage

from beam.testing import some_bytes

HERE = Path(__file__).parent
SIZES = {"0": 0, "1": 1, "20MB": 20_000_000}
BIG = SIZES["20MB"]
CHUNK = 3_000_000  # not a divisor of the size

Serve = Callable[..., Server]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A file of each size."""
    folder = tmp_path_factory.mktemp("files")
    for size in SIZES.values():
        (folder / str(size)).write_bytes(some_bytes(size, size))
    return {size: folder / str(size) for size in SIZES.values()}


@pytest.fixture
def file(files: dict[int, Path]) -> Path:
    """A big one."""
    return files[BIG]


@contextmanager
def received(relay: Relay, key: str, file: Path, folder: Path) -> Iterator[list[Path]]:
    """While the block runs there are receivers; behind it each of them has the file."""
    outs = [folder / f"received-{i}" for i in range(3 if relay.keeps else 1)]
    receivers = [Curl("--max-time", "100", "-fo", out, relay.url(key)) for out in outs]
    relay.wait_for_waiters(len(outs))
    yield outs
    for receiver, out in zip(receivers, outs, strict=True):
        assert receiver.done().code == 0
        assert out.read_bytes() == file.read_bytes()


def endpoint(relay: Relay, port: int | None = None) -> str:
    """Where uploads are made."""
    return f"http://127.0.0.1:{port or relay.server.port}{TUS}"


# tuspy.


def send_with_tuspy(relay: Relay, key: str, file: Path, port: int | None = None, **options: Any) -> None:
    """All of ``file``."""
    with file.open("rb") as stream:
        client = TusClient(endpoint(relay, port))
        client.uploader(file_stream=stream, metadata={"key": key[1:], "filename": "a.bin"}, **options).upload()


@pytest.mark.parametrize("upload_checksum", [True, False], ids=["checksum", "plain"])
@pytest.mark.parametrize("chunk_size", [1 << 62, CHUNK], ids=["whole", "chunks"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_tuspy(
    either: Relay, key: str, files: dict[int, Path], tmp_path: Path, size: int, chunk_size: int, upload_checksum: bool
) -> None:
    """Each file arrives, in one request or many, with a checksum for each or without."""
    if upload_checksum and not either.keeps:
        chunk_size = 1_000_000  # what the window holds
    with received(either, key, files[size], tmp_path):
        send_with_tuspy(either, key, files[size], chunk_size=chunk_size, upload_checksum=upload_checksum)


@pytest.mark.parametrize("upload_checksum", [True, False], ids=["checksum", "plain"])
@pytest.mark.parametrize("way", WAYS_TO_BREAK)
def test_tuspy_over_a_wire_that_breaks(
    either: Relay, key: str, file: Path, tmp_path: Path, way: str, upload_checksum: bool
) -> None:
    """It asks for the offset after each break, and goes on there."""
    breaks = gaps(len(way), BIG, 7)
    chunk_size = 1_000_000 if upload_checksum else CHUNK
    with received(either, key, file, tmp_path), BrittleWire(either.server.port, breaks, [way]) as wire:
        send_with_tuspy(
            *(either, key, file, wire.port),
            chunk_size=chunk_size,
            upload_checksum=upload_checksum,
            retries=20,
            retry_delay=0,
        )
        assert wire.broken == 7


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # files
def test_tuspy_resumes_from_its_storage(either: Relay, key: str, file: Path, tmp_path: Path) -> None:
    """Another run of the program, which finds the address of the upload in a file."""
    with closing(FileStorage(str(tmp_path / "storage"))) as storage, received(either, key, file, tmp_path):
        for stop_at in (CHUNK, 2 * CHUNK, None):
            client = TusClient(endpoint(either))
            uploader = client.uploader(
                str(file), store_url=True, url_storage=storage, chunk_size=CHUNK, metadata={"key": key[1:]}
            )
            assert uploader.offset == (0 if stop_at == CHUNK else (stop_at or 3 * CHUNK) - CHUNK)
            uploader.upload(stop_at=stop_at)
    del uploader
    gc.collect()


def test_tuspy_over_a_server_that_is_killed(serve: Serve, key: str, file: Path, tmp_path: Path) -> None:
    """On disk: the client goes on with the next server, and a receiver has the file."""
    relay = Relay(serve("--store", "disk:{folder}/store", "--put-ttl", "1", "--get-ttl", "0.05"), "disk", "tcp")
    with file.open("rb") as stream:
        uploader = TusClient(endpoint(relay)).uploader(
            file_stream=stream, chunk_size=CHUNK, metadata={"key": key[1:]}, upload_checksum=True
        )
        uploader.upload(stop_at=2 * CHUNK)
        wait_for_bytes(relay.server, 2 * CHUNK - BLOCK)
        crash(relay.server)
        place = uploader.url.removeprefix(endpoint(relay).removesuffix(TUS)) if uploader.url else ""
        url = endpoint(relay) + place[place.index(TUS) + len(TUS) :]
        uploader = TusClient(endpoint(relay)).uploader(file_stream=stream, chunk_size=CHUNK, url=url)
        assert 2 * CHUNK - BLOCK < uploader.offset <= 2 * CHUNK
        receiver = relay.curl("-fo", tmp_path / "out", relay.url(key))
        uploader.upload()
    assert receiver.done().code == 0
    assert (tmp_path / "out").read_bytes() == file.read_bytes()


# tus-js-client.


@pytest.fixture(scope="session")
def tus_js(node_modules: Path) -> dict[str, str]:
    """The variables with which Node finds tus-js-client."""
    return {**os.environ, "NODE_PATH": str(node_modules)}


class Js:
    """A program that uploads with tus-js-client."""

    def __init__(self, variables: dict[str, str], relay: Relay, key: str, file: Path, **more: Any) -> None:
        port, options = more.pop("port", None), more.pop("options", {})
        options = {"endpoint": endpoint(relay, port), "metadata": {"key": key[1:], "filename": "a.bin"}, **options}
        what = {"file": str(file), "options": options, **more}
        self.process = subprocess.Popen(
            ["node", str(HERE / "upload.cjs"), json.dumps(what)],
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ended(self) -> list[dict[str, Any]]:
        """What it said."""
        try:
            out, err = self.process.communicate(timeout=2 * BOUND)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        assert not err, err
        return [json.loads(line) for line in out.splitlines()]

    def kill(self) -> None:
        """With SIGKILL."""
        self.process.kill()
        self.process.communicate()

    def succeeded(self) -> list[dict[str, Any]]:
        """What it said, of which the last is that all went well."""
        said = self.ended()
        assert self.process.returncode == 0, said
        assert "url" in said[-1], said
        return said


def retrying(**options: Any) -> dict[str, Any]:
    """Options of a client that does not give up."""
    return {"retryDelays": [20] * 30, **options}


@pytest.mark.parametrize("chunks", [False, True], ids=["whole", "chunks"])
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_tus_js(
    either: Relay, key: str, files: dict[int, Path], tmp_path: Path, tus_js: dict[str, str], size: int, chunks: bool
) -> None:
    """Each file arrives, in one request or many."""
    options = {"chunkSize": CHUNK} if chunks else {}
    with received(either, key, files[size], tmp_path):
        Js(tus_js, either, key, files[size], options=options).succeeded()


@pytest.mark.parametrize(
    "options",
    [
        {"uploadDataDuringCreation": True},
        {"uploadDataDuringCreation": True, "chunkSize": CHUNK},
        {"overridePatchMethod": True, "chunkSize": CHUNK},
        {"uploadLengthDeferred": True, "chunkSize": CHUNK},
    ],
    ids=lambda options: "-".join(options),
)
def test_what_else_tus_js_can_do(
    either: Relay, key: str, file: Path, tmp_path: Path, tus_js: dict[str, str], options: dict[str, Any]
) -> None:
    """Bytes with the creation, POST for PATCH, a stream whose length is known at its end."""
    with received(either, key, file, tmp_path):
        stream = "uploadLengthDeferred" in options
        Js(tus_js, either, key, file, options=options, asStream=stream).succeeded()


@pytest.mark.parametrize("chunks", [False, True], ids=["whole", "chunks"])
def test_tus_js_over_a_wire_that_breaks(
    either: Relay, key: str, file: Path, tmp_path: Path, tus_js: dict[str, str], chunks: bool
) -> None:
    """In every way, seven times."""
    options = retrying(chunkSize=CHUNK) if chunks else retrying()
    with received(either, key, file, tmp_path), BrittleWire(either.server.port, gaps(3 + chunks, BIG, 7)) as wire:
        Js(tus_js, either, key, file, port=wire.port, options=options).succeeded()
        assert wire.broken == 7


def test_tus_js_loses_the_last_answer(
    either: Relay, key: str, file: Path, tmp_path: Path, tus_js: dict[str, str]
) -> None:
    """It asks, and hears that all has arrived."""
    with (
        received(either, key, file, tmp_path),
        BrittleWire(either.server.port, loses_answer_after=BIG) as wire,
    ):
        Js(tus_js, either, key, file, port=wire.port, options=retrying()).succeeded()
        assert wire.broken == 1


@pytest.mark.parametrize("breaks", [0, 6])
def test_tus_js_in_parallel(
    keeping: Relay, key: str, file: Path, tmp_path: Path, tus_js: dict[str, str], breaks: int
) -> None:
    """Four parts side by side, which become one file; also over a wire that breaks."""
    with (
        received(keeping, key, file, tmp_path),
        BrittleWire(keeping.server.port, gaps(5, BIG, breaks)) as wire,
    ):
        Js(tus_js, keeping, key, file, port=wire.port, options=retrying(parallelUploads=4)).succeeded()
        assert wire.broken == breaks


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "aborted"])
def test_tus_js_resumes_from_its_storage(
    either: Relay, key: str, file: Path, tmp_path: Path, tus_js: dict[str, str], killed: bool
) -> None:
    """Another run of the program, which finds the address of the upload in a file; three times."""
    storage = tmp_path / "storage"
    storage.write_text("{}")
    points = sorted(random.Random(killed).sample(range(1_000_000, BIG - 1_000_000), 3))
    with received(either, key, file, tmp_path) as outs:
        for run, point in enumerate(points):
            more: dict[str, Any] = {} if killed else {"stopAt": point}
            js = Js(tus_js, either, key, file, storage=str(storage), options={"chunkSize": 500_000}, **more)
            if killed:
                until(lambda point=point: outs[0].exists() and outs[0].stat().st_size >= point, "bytes flow")  # type: ignore[misc]
                js.kill()
            else:
                said = js.ended()
                assert ("resumed" in said[0]) == (run > 0)
        said = Js(tus_js, either, key, file, storage=str(storage), options=retrying()).succeeded()
        assert said[0] == {"resumed": 1}


def test_an_upload_that_nobody_continues(
    keeping: Relay, key: str, file: Path, tmp_path: Path, tus_js: dict[str, str]
) -> None:
    """What a client began and forgot stays readable as far as it came, until somebody ends it."""
    storage = tmp_path / "storage"
    storage.write_text("{}")
    Js(tus_js, keeping, key, file, storage=str(storage), options={"chunkSize": 500_000}, stopAt=2_000_000).ended()
    here = offset(keeping, key)
    assert 1_500_000 <= here <= BIG
    look = keeping.connect().get(key, f"Range: bytes=0-{here - 1}")
    assert look.answer().body == file.read_bytes()[:here]
    (upload,) = json.loads(storage.read_text()).values()
    place = upload["uploadUrl"].removeprefix(endpoint(keeping).removesuffix(TUS))
    assert keeping.ask("DELETE", place, RESUMABLE).status == 204
    assert keeping.ask("HEAD", key).status == 404
