"""What the README of the Streaming File Server promises, and its clients do: it holds when they talk to beam.

The requests are those of its README and of its four clients: a form by curl, a script that sends chunks and comes back
after a break, HEAD and then GET, a list, a deletion, and the limits that it names.
"""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from files.support import CHUNKED, FILES, UPLOAD, Api, problem
from harness import BOUND

from beam.testing import some_bytes

DATA = some_bytes(1_000_001)
CHUNK = 256 << 10


def curl(*arguments: str | Path) -> str:
    """What curl prints."""
    done = subprocess.run(["curl", "-sS", *map(str, arguments)], capture_output=True, timeout=BOUND, check=True)
    return done.stdout.decode()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file that somebody has."""
    path = tmp_path / "report.pdf"
    path.write_bytes(DATA)
    return path


def test_upload_list_download_and_delete_with_curl(api: Api, source: Path, tmp_path: Path) -> None:
    """The way of the README from its first line to its last."""
    url = api.server.url
    told = json.loads(curl("-X", "POST", "-F", f"file=@{source}", url(UPLOAD)))
    assert {name: told[name] for name in ("filename", "size", "content_type")} == {
        "filename": "report.pdf",
        "size": len(DATA),
        "content_type": "application/pdf",
    }
    assert [each["id"] for each in json.loads(curl(url(FILES)))] == [told["id"]]
    out = tmp_path / "out"
    curl("-f", "-o", out, url(f"{FILES}/{told['id']}"))
    assert out.read_bytes() == DATA
    curl("-f", "-OJ", "--create-dirs", "--output-dir", tmp_path / "got", url(f"{FILES}/{told['id']}"))
    assert (tmp_path / "got" / "report.pdf").read_bytes() == DATA
    assert curl("-X", "DELETE", "-w", "%{http_code}", url(f"{FILES}/{told['id']}")) == "204"
    assert json.loads(curl(url(FILES))) == []


def send_chunks(api: Api, source: Path, identifier: str, most: int | None = None) -> tuple[int, dict[str, object]]:
    """As the chunked client does: probe each chunk, and send it if it is not there.

    :param most: chunks after which it is interrupted.
    """
    size = source.stat().st_size
    total = -(-size // CHUNK)
    sent = 0
    told: dict[str, object] = {}
    with source.open("rb") as file, requests.Session() as session:
        for number in range(1, total + 1):
            data = file.read(CHUNK)
            fields: dict[str, str | int] = {
                "flowChunkNumber": number,
                "flowTotalChunks": total,
                "flowChunkSize": CHUNK,
                "flowTotalSize": size,
                "flowIdentifier": identifier,
                "flowFilename": source.name,
            }
            url = api.server.url(CHUNKED)
            probe = session.get(url, params=fields, timeout=BOUND)
            assert probe.status_code in (200, 204)
            if probe.status_code == 204:
                if sent == most:
                    return sent, told
                answer = session.post(url, data=fields, files={"file": (source.name, data)}, timeout=BOUND)
                assert answer.status_code == 201
                told = answer.json()
                sent += 1
    return sent, told


def test_an_upload_in_chunks_that_is_interrupted(api: Api, source: Path) -> None:
    """The second run skips what the first has sent."""
    assert send_chunks(api, source, "report", 2) == (2, {"message": "Chunk 2 uploaded successfully"})
    sent, told = send_chunks(api, source, "report")
    assert sent == 2
    assert told["filename"] == "report.pdf"
    assert api.read(str(told["id"])) == DATA


def test_chunks_with_curl(api: Api, source: Path, tmp_path: Path) -> None:
    """The shell client: a part of the file into a file, and that into a form."""
    total = -(-len(DATA) // CHUNK)
    for number in range(1, total + 1):
        part = tmp_path / "part"
        part.write_bytes(DATA[(number - 1) * CHUNK : number * CHUNK])
        fields = {
            "flowChunkNumber": number,
            "flowTotalChunks": total,
            "flowChunkSize": CHUNK,
            "flowTotalSize": len(DATA),
            "flowIdentifier": "from-a-shell",
            "flowFilename": source.name,
        }
        form = [word for name, value in fields.items() for word in ("-F", f"{name}={value}")]
        told = json.loads(curl("-X", "POST", *form, "-F", f"file=@{part}", api.server.url(CHUNKED)))
    assert told["size"] == len(DATA)
    assert api.read(told["id"]) == DATA


def test_the_downloading_client(api: Api) -> None:
    """HEAD for the size, then GET in small steps."""
    file = api.upload(DATA, "report.pdf")
    url = api.server.url(f"{FILES}/{file}")
    head = requests.head(url, timeout=BOUND)
    assert int(head.headers["Content-Length"]) == len(DATA)
    with requests.get(url, stream=True, timeout=BOUND) as got:
        assert b"".join(got.iter_content(8192)) == DATA


def test_a_file_that_is_not_there(api: Api) -> None:
    """404, as it says."""
    for method in ("GET", "DELETE"):
        problem(api.ask(method, f"{FILES}/no-such-id"), 404)


def test_a_file_that_is_too_large(serve: Callable[..., Api], source: Path) -> None:
    """413, as it says."""
    api = serve("--max-file-size", "100K")
    assert "413" in curl("-F", f"file=@{source}", "-w", "%{http_code}", api.server.url(UPLOAD))


def test_the_documentation(api: Api) -> None:
    """A page at /api/docs."""
    answer = requests.get(api.server.url("/api/docs"), timeout=BOUND)
    assert (answer.status_code, answer.headers["Content-Type"].partition(";")[0]) == (200, "text/html")
    assert requests.get(api.server.url("/api/openapi.json"), timeout=BOUND).json()["openapi"].startswith("3.1")


def test_files_of_other_types(serve: Callable[..., Api], source: Path) -> None:
    """415, as it says, and not by the name."""
    api = serve("--allow-types", "text/plain", "--allow-types", "application/pdf")
    assert "415" in curl("-F", f"file=@{source}", "-w", "%{http_code}", api.server.url(UPLOAD))


def test_too_many_requests(serve: Callable[..., Api]) -> None:
    """429 above 100 in a minute, as it says."""
    api = serve("--rate-limit", "100/minute")
    with requests.Session() as session:
        statuses = [session.get(api.server.url(FILES), timeout=BOUND).status_code for _ in range(101)]
    assert statuses == [200] * 100 + [429]
