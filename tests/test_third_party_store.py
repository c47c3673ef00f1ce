"""The store of ``docs/stores.md``, taken from that page, works as a package of its own."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import beam
from beam.testing import some_bytes

PAGE = Path(__file__).parent.parent / "docs" / "stores.md"
BLOCK = re.compile(r"`([\w/]+\.py)`[^`\n]*\n+```python\n(.*?)```", re.DOTALL)
FILES = dict(BLOCK.findall(PAGE.read_text()))
STORE, PLUGIN, SUITE = "shelf/store.py", "twisted/plugins/shelf_plugin.py", "test_shelf.py"
BOUND = 30.0  # seconds that anything may take on a busy machine


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example's files, as the page says."""
    root = tmp_path_factory.mktemp("third-party")
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture(scope="module")
def environment(package: Path) -> dict[str, str]:
    """The environment of a user who tries it: the package is on ``PYTHONPATH``, and beam is the one under test."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("BEAM_", "PYTEST_"))}
    return {**plain, "PYTHONPATH": os.pathsep.join([str(package), str(Path(beam.__file__).parent.parent)])}


@pytest.fixture
def server(package: Path, environment: dict[str, str], tmp_path: Path) -> Iterator[Path]:
    """A running ``twist beam --store shelf:1M``; the socket where it listens."""
    where, log = tmp_path / "socket", tmp_path / "log"
    command = [sys.executable, "-m", "twisted", "beam", "--listen", f"unix:{where}", "--store", "shelf:1M"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=output, stderr=output)
    try:
        end = time.monotonic() + BOUND
        while not where.exists():
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.01)
        yield where
        process.send_signal(signal.SIGTERM)
        while not curl(where, "http://beam/-/health").endswith("503\n"):
            assert time.monotonic() < end + BOUND, "it does not drain"
        process.send_signal(signal.SIGTERM)  # at once, with what is kept
        assert process.wait(BOUND) == 0
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait(BOUND)


def curl(where: Path, *arguments: str) -> str:
    """What curl says; the last line is the status."""
    command = [
        "curl",
        "-sS",
        "--max-time",
        str(BOUND),
        "--unix-socket",
        str(where),
        "-w",
        r"%{http_code}\n",
        *arguments,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_page_has_the_files() -> None:
    """A store, its plug-in file and its tests."""
    assert FILES.keys() == {STORE, PLUGIN, SUITE}


def test_it_is_short() -> None:
    """Under 60 lines, empty ones among them; with its plug-in file, under 60 that say something."""
    assert len(FILES[STORE].splitlines()) < 60
    assert sum(bool(line.strip()) for line in (FILES[STORE] + FILES[PLUGIN]).splitlines()) < 60


def test_it_passes_the_suite(package: Path, environment: dict[str, str]) -> None:
    """All of the contract, nothing left out."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", SUITE]
    done = subprocess.run(command, env=environment, cwd=package, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r"\d{2,} passed in .*", done.stdout.splitlines()[-1])


def test_a_broken_one_does_not(package: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """The suite tells: one that gives nothing back, one that mixes bytes up."""
    for good, bad in (
        ("self._quota.give(self.head)", "pass"),
        ("at = reader.position", "at = max(0, reader.position - 1)"),
    ):
        broken = tmp_path / good[:4]
        for name, text in FILES.items():
            (broken / name).parent.mkdir(parents=True, exist_ok=True)
            (broken / name).write_text(text.replace(good, bad))
        (broken / "conftest.py").write_text("from beam.testing import rehearsal\n\nrehearsal.PATIENCE = 0.5\n")
        assert good in FILES[STORE]
        path = environment["PYTHONPATH"].replace(str(package), str(broken))
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", SUITE]
        done = subprocess.run(
            command, env={**environment, "PYTHONPATH": path}, cwd=broken, capture_output=True, text=True
        )
        assert done.returncode == 1, done.stdout + done.stderr
        assert "1 failed" in done.stdout


def test_it_runs(server: Path, tmp_path: Path) -> None:
    """``twist beam`` finds it by its word; a file goes in and comes out, and the store's limit is an answer."""
    sent, got, large = tmp_path / "sent", tmp_path / "got", tmp_path / "large"
    sent.write_bytes(some_bytes(300_001))
    large.write_bytes(bytes(2 << 20))
    assert curl(server, "-T", str(sent), "http://beam/file") == "stored 300001 bytes, kept for 30 s\n201\n"
    assert curl(server, "-o", str(got), "http://beam/file") == "200\n"
    assert got.read_bytes() == sent.read_bytes()
    assert curl(server, "-T", str(large), "http://beam/large").endswith("send a smaller one.\n507\n")
    with large.open("rb") as body:
        chunked = subprocess.run(
            ["curl", "-s", "--unix-socket", str(server), "-w", r"%{http_code}", "-T", "-", "http://beam/large"],
            stdin=body,
            capture_output=True,
            text=True,
        )
    assert chunked.stdout.endswith("send a smaller file.\n507")
    assert curl(server, "-o", str(got), "-r", "300000-", "http://beam/file") == "206\n"
    assert got.read_bytes() == sent.read_bytes()[300_000:]
