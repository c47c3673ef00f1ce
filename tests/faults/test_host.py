"""Faults of the machine: a clock that jumps, a full disk, a folder that cannot be used."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import BOUND, Server, curl, read_all, read_until, until

JUMP = """
import sys, time
real, began = time.time, time.time()
# The clock of the system is set by a day, two seconds after the start.
time.time = lambda: real() + ({days} * 86400 if real() - began > 2 else 0)
from twisted.application.twist._twist import Twist
sys.argv[0] = "twist"
Twist.main()
"""


@pytest.mark.parametrize("days", [1, -1])
def test_a_clock_that_jumps_moves_no_deadline(days: int, tmp_path: Path) -> None:
    """Setting the system's clock neither cuts a wait short nor makes one last."""
    with Server(log=tmp_path / "log", command=(sys.executable, "-c", JUMP.format(days=days))) as server:
        began = time.monotonic()
        short = server.request("GET /short?wait=3 HTTP/1.1\nConnection: close")
        with server.request("GET /long?wait=100 HTTP/1.1") as long:
            answer = read_all(short)
            short.close()
            assert answer.startswith(b"HTTP/1.1 404")
            assert 3 <= time.monotonic() - began < BOUND
            subprocess.run(["curl", "-sSf", "-T", "-", server.url("/long")], input=b"late", check=True, timeout=BOUND)
            assert read_until(long, b"late")


@pytest.mark.parametrize("announced", [True, False])
def test_a_full_disk_fails_that_transfer_and_nothing_else(announced: bool, small_disk: Path, tmp_path: Path) -> None:
    """507 with a sentence, the receiver is cut, no file is left, and the next file that fits is taken."""
    with Server("--store", f"disk:{small_disk / 'store'}:cap=1G", log=tmp_path / "log") as server:
        before = server.descriptors()
        size = 16 << 20
        with curl("-fo", os.devnull, server.url("/k?wait=30")) as receiver:
            until(lambda: server.gauges()["key_waiters"] == 1, "the receiver waits")
            source = zeros(tmp_path, size)
            with source.open("rb") as stdin:
                sent = subprocess.run(
                    ["curl", "-sS", "-w", "%{http_code}", "-T", str(source) if announced else "-", server.url("/k")],
                    stdin=stdin,
                    capture_output=True,
                    timeout=BOUND,
                )
            assert b"disk of this server is full" in sent.stdout
            assert sent.stdout.endswith(b"507")
            assert receiver.wait(BOUND) == 18
        server.until_clean(before)
        assert not [path for path in small_disk.rglob("*") if path.parent.name in ("incoming", "kept")]
        url = server.url("/next?ttl=0")
        subprocess.run(["curl", "-sSf", "-T", "-", url], input=b"fits", check=True, timeout=BOUND)
        server.until_clean(before)


def zeros(tmp_path: Path, size: int) -> Path:
    """A sparse file."""
    path = tmp_path / "zeros"
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_a_folder_that_cannot_be_used_is_told_in_one_line(tmp_path: Path) -> None:
    """The server does not start: one line on standard error that names the folder and the reason, exit status 1."""
    (tmp_path / "file").write_text("in the way")
    server = Server("--store", f"disk:{tmp_path / 'file' / 'store'}", log=tmp_path / "log")
    assert server.wait() == 1
    lines = server.log.read_text().splitlines()
    assert len(lines) == 1
    assert str(tmp_path / "file") in lines[0]
    assert "Not a directory" in lines[0]


def test_a_folder_that_is_not_there_is_made_for_us_alone(tmp_path: Path) -> None:
    """A missing data directory is made, and nobody else may look into it."""
    folder = tmp_path / "not" / "there"
    with Server("--store", f"disk:{folder}", log=tmp_path / "log"):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_port_in_use_is_told_in_one_line(tmp_path: Path) -> None:
    """A second server on the same port says so, ends with 1, and leaves no folder behind."""
    with Server(log=tmp_path / "log") as server:
        flags = ("--listen", f"127.0.0.1:{server.port}", "--store", f"disk:{tmp_path / 'store'}")
        second = Server(*flags, log=tmp_path / "log2")
        assert second.wait() == 1
        assert "Address already in use" in second.log.read_text()
        assert second.log.read_text().count("\n") == 1
        assert not list((tmp_path / "store").glob("server-*"))
