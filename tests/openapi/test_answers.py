"""What ``/api/openapi.json`` says is true: schemathesis asks a real server, with requests that are right and wrong.

Its requests are the same in every run.  ``schemathesis.toml`` says which answers are all right, and why.
"""

import http.client
import json
import re
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import Server

CONFIGURATION = ("schemathesis.toml", "hooks.py")  # found in the folder that it runs in, where it leaves things
EXAMPLES = 20  # for each operation, besides those that cover its parameters one by one
PATIENCE = 300.0  # seconds for all of them on a busy machine
SHORT = (
    *("--get-wait-timeout", "0", "--put-wait-timeout", "0.05", "--max-wait", "0.2", "--resume-timeout", "0.1"),
    *("--sender-resume-timeout", "5", "--upload-ttl", "60"),
    *("--put-ttl", "20", "--get-ttl", "20", "--max-ttl", "1", "--header-timeout", "2", "--idle-timeout", "5"),
)
KEY = "report-2026.pdf"  # the example of the document
Seen = set[tuple[str, int]]  # operations, as GET /{key}, and their answers


@contextmanager
def peers(server: Server) -> Iterator[None]:
    """Somebody who receives under ``KEY``, and somebody who sends under ``live``, again and again."""
    over = threading.Event()

    def repeat(request: urllib.request.Request) -> None:
        while not over.is_set():
            try:
                with urllib.request.urlopen(request, timeout=5) as answer:
                    answer.read()
            except (OSError, http.client.HTTPException):
                over.wait(0.005)

    receiver = urllib.request.Request(server.url(f"/{KEY}?wait=0.2"))
    sender = urllib.request.Request(server.url("/live?wait=0.2"), b"some bytes", method="PUT")
    threads = [threading.Thread(target=repeat, args=(each,)) for each in (receiver, sender)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def documented(server: Server) -> dict[str, dict[str, object]]:
    """The document's paths; from a server that has been asked too much, when it says that it may be asked again."""
    try:
        answer = urllib.request.urlopen(server.url("/api/openapi.json"), timeout=5)
    except urllib.error.HTTPError as error:
        with error:
            assert error.code == 429
            time.sleep(float(error.headers["Retry-After"]))  # as it was told
        answer = urllib.request.urlopen(server.url("/api/openapi.json"), timeout=5)
    with answer:
        paths: dict[str, dict[str, object]] = json.load(answer)["paths"]
        return paths


def ask(server: Server, folder: Path, *flags: str) -> Seen:
    """Let schemathesis ask everything; what was answered.

    :param flags: for schemathesis.
    :raises AssertionError: it found an answer that is not as the document says.
    """
    for name in CONFIGURATION:
        shutil.copy(Path(__file__).with_name(name), folder)
    program, report = Path(sys.executable).with_name("schemathesis"), folder / "all.har"
    command: list[str | Path] = [
        *(program, "run", server.url("/api/openapi.json")),
        *("--mode", "all", "--max-examples", str(EXAMPLES), "--generation-deterministic"),
        *("--continue-on-failure", "--no-color", "--request-timeout", "20"),
        *flags,
        *("--report", "har", "--report-har-path", report),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, cwd=folder)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    paths = sorted(documented(server), key=lambda path: "{" in path)
    patterns = {path: re.compile(re.sub(r"\{\w+\}", "[^/]+", path)) for path in paths}
    found = set()
    for entry in json.loads(report.read_text())["log"]["entries"]:
        target = urllib.parse.urlsplit(entry["request"]["url"]).path
        path = next((path for path, pattern in patterns.items() if pattern.fullmatch(target)), target)
        found.add((f"{entry['request']['method']} {path}", entry["response"]["status"]))
    return found


def check_server(server: Server) -> None:
    """It runs, and has met nothing that it did not expect."""
    assert server.process.poll() is None
    log = server.log.read_text()
    for sign in ("Traceback", "Unhandled", "#critical", "#error", "log_failure"):
        assert sign not in log, log[-4000:]


def test_a_server_that_holds(tmp_path: Path) -> None:
    """Every answer is documented; some of those that matter have been among them."""
    with Server("--store", "memory", *SHORT, log=tmp_path / "log") as server:
        with peers(server):
            seen = ask(server, tmp_path)
        check_server(server)
    assert seen >= {("PUT /{key}", 200), ("PUT /{key}", 400), ("PUT /{key}", 422), ("PUT /{key}", 504)}
    assert seen >= {
        ("GET /{key}", 200),
        ("GET /{key}", 404),
        ("GET /{key}", 400),
        ("OPTIONS /{key}", 204),
        ("GET /", 200),
    }
    assert seen >= {("POST /-/tus", status) for status in (201, 400, 412, 460, 504)}


def test_a_server_that_keeps(tmp_path: Path) -> None:
    """The same of a server with a disk store."""
    with Server("--store", f"disk:{tmp_path / 'store'}", *SHORT, log=tmp_path / "log") as server:
        seen = ask(server, tmp_path)
        check_server(server)
    assert seen >= {("PUT /{key}", status) for status in (201, 202, 400, 409, 422)}
    assert seen >= {("GET /{key}", status) for status in (200, 206, 400, 404, 412)}
    assert seen >= {("HEAD /{key}", status) for status in (200, 404, 412)}
    assert seen >= {("POST /-/tus", status) for status in (201, 400, 412, 460)}
    assert seen >= {("POST /api/files/upload", 201), ("POST /api/files/upload", 400), ("GET /api/files", 200)}
    assert seen >= {("POST /api/files/upload/chunked", status) for status in (200, 201, 400)}
    assert seen >= {("GET /api/files/upload/chunked", status) for status in (200, 204, 400)}
    assert seen >= {("GET /api/files/{id}", 200), ("PATCH /api/files/{id}", 200), ("DELETE /api/files/{id}", 204)}
    assert seen >= {("PATCH /-/tus/{id}", 204), ("HEAD /-/tus/{id}", 200), ("DELETE /-/tus/{id}", 204)}


def test_a_server_that_allows_little(tmp_path: Path) -> None:
    """The same of one that asks for a secret, and takes small files of few types."""
    flags = ("--auth", "secret", "--max-pipe-size", "4", "--max-file-size", "3", "--deny-types", "text/*")
    rate = ("--rate-limit", "1000000/second")  # which every answer speaks of, and nobody reaches
    with Server("--store", f"disk:{tmp_path / 'store'}", *flags, *rate, *SHORT, log=tmp_path / "log") as server:
        header = ("--header", "Authorization: Bearer secret")  # which those checks cannot leave out
        seen = ask(server, tmp_path, *header, "--exclude-checks", "missing_required_header,positive_data_acceptance")
        check_server(server)
    for path in ("PUT /{key}", "POST /-/tus", "POST /api/files/upload"):
        assert seen >= {(path, status) for status in (201, 401, 413, 415)}, path


def test_a_server_that_is_asked_too_often(tmp_path: Path) -> None:
    """Whatever is asked, it may answer 429."""
    with Server("--store", "memory", "--rate-limit", "2/second", *SHORT, log=tmp_path / "log") as server:
        seen = ask(server, tmp_path, "--exclude-checks", "positive_data_acceptance,missing_required_header")
        check_server(server)
    assert {operation for operation, status in seen if status == 429} >= {"PUT /{key}", "GET /{key}", "POST /-/tus"}


@pytest.mark.parametrize("flags", [("--store", "memory"), ("--store", "disk:{folder}"), ("--auth", "secret")])
def test_methods_that_are_not_documented_are_not_allowed(flags: tuple[str, ...], tmp_path: Path) -> None:
    """And those that are, are: of every path that the document has."""
    flags = tuple(each.format(folder=tmp_path / "store") for each in flags)
    with Server(*flags, *SHORT, log=tmp_path / "log") as server:
        for path, methods in documented(server).items():
            target = path.format(key="x", file="swagger-ui.css", id="0" * 32)
            for method in ("GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE", "PATCH", "TRACE"):
                request = urllib.request.Request(server.url(target), method=method)
                try:
                    with urllib.request.urlopen(request, timeout=5) as answer:
                        status, text = answer.status, ""
                except urllib.error.HTTPError as error:
                    with error:
                        status, text = error.code, error.read().decode()
                refused = status == 405 or (status == 400 and "reserved" in text)
                assert refused is (method.lower() not in methods), f"{method} {target}: {status} {text}"
