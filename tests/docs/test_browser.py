"""A real browser at a link: it sees a page, and takes nothing."""

import html
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import BOUND, Server, curl, until

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)


@pytest.fixture
def beam(tmp_path: Path) -> Iterator[Server]:
    """A server."""
    with Server(log=tmp_path / "log") as beam:
        yield beam


def seen_at(url: str, profile: Path) -> str:
    """What a browser shows at ``url``, as HTML."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("chromium is not installed")
    command = [program, *QUIET, f"--user-data-dir={profile}", "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, timeout=2 * BOUND)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode()


def test_a_browser_sees_a_page_and_takes_nothing(beam: Server, tmp_path: Path) -> None:
    """The sender waits on; the page names the file; the file is still there, whole, for whoever takes it."""
    file, copy = tmp_path / "holiday photos.tar", tmp_path / "copy"
    file.write_bytes(bytes(range(256)) * 20_000)
    with curl("-F", f"file=@{file}", beam.url("/link")) as sender:
        until(lambda: beam.gauges()["pipes"] == 1, "the sender waits")
        page = seen_at(beam.url("/link"), tmp_path / "profile")
        assert re.findall(r"<h1>(.*?)</h1>", page) == ["holiday photos.tar"]
        (button,) = re.findall(r'<a class="button"[^>]* href="([^"]*)"', page)
        gauges = beam.gauges()
        assert (gauges["pipes"], gauges["active_downloads"], gauges["bytes_out_total"]) == (1, 0, 0)
        assert sender.poll() is None
        # What the button leads to is the file; asked for as a browser does.
        navigation = ("-H", "Sec-Fetch-Mode: navigate", "-H", "Accept: text/html,*/*", "-A", "Mozilla/5.0")
        with curl("-f", *navigation, "-o", str(copy), beam.url(html.unescape(button))) as receiver:
            receiver.communicate(timeout=BOUND)
            assert sender.communicate(timeout=BOUND)[0] == b"delivered %d bytes to 1 receiver\n" % file.stat().st_size
    assert (sender.returncode, receiver.returncode) == (0, 0)
    assert copy.read_bytes() == file.read_bytes()


def test_a_browser_that_comes_too_early_is_told_so(beam: Server, tmp_path: Path) -> None:
    """It does not wait as a receiver: the first sender that comes has nobody yet."""
    page = seen_at(beam.url("/nothing"), tmp_path / "profile")
    assert "Nothing is here yet" in page
    assert '<meta http-equiv="refresh" content="5">' in page
    assert beam.gauges()["key_waiters"] == 0
