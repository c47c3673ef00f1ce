"""A real browser at a link: it sees a page, and takes nothing; and a page of another origin that sends."""

import html
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import QUIET, chromium, pages_of
from harness import BOUND, Server, curl, until


@pytest.fixture
def beam(tmp_path: Path) -> Iterator[Server]:
    """A server."""
    with Server(log=tmp_path / "log") as beam:
        yield beam


def seen_at(url: str, profile: Path) -> str:
    """What a browser shows at ``url``, as HTML."""
    command = [chromium(), *QUIET, f"--user-data-dir={profile}", "--dump-dom", url]
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


# It asks while it is loaded, so that what the browser shows has the answers.
SCRIPT = """<!doctype html><title>page</title><pre></pre><script>
function ask(method, fields, body, told) {
    const asked = new XMLHttpRequest();
    try {
        asked.open(method, "BEAM/file", false);
        for (const name in fields) asked.setRequestHeader(name, fields[name]);
        asked.send(body);
        return [asked.status, asked.responseText.trim(), asked.getResponseHeader(told)].join(" | ") + "\\n";
    } catch (error) {
        return "kept from it\\n";
    }
}
document.querySelector("pre").textContent =
    ask("PUT", {"Authorization": "Bearer mellon", "Content-Disposition": "inline"}, "some text", "Location") +
    ask("PUT", {"Upload-Offset": "0", "Tus-Resumable": "1.0.0"}, "some text", "WWW-Authenticate") +
    ask("GET", {"Range": "bytes=5-", "If-Match": "*"}, null, "Content-Range") +
    ask("DELETE", {}, null, "Allow");
</script>"""


@pytest.mark.parametrize("allowed", [True, False], ids=["a page that may", "a page that may not"])
def test_a_page_of_another_origin(tmp_path: Path, allowed: bool) -> None:
    """It sends, receives and reads what it is told if its origin is named; else the browser keeps it from all of it."""
    folder = tmp_path / "page"
    folder.mkdir()
    with pages_of(folder) as origin:
        flags = ("--cors-origin", origin if allowed else "https://page.test", "--auth", "mellon")
        with Server(*flags, "--store", f"disk:{tmp_path}/store", log=tmp_path / "log") as beam:
            (folder / "index.html").write_text(SCRIPT.replace("BEAM", beam.url("")))
            page = html.unescape(seen_at(f"{origin}/", tmp_path / "profile"))
            said = page.partition("<pre>")[2].partition("</pre>")[0].splitlines()
            gauges = beam.gauges()
    if allowed:
        assert said[0] == "201 | stored 9 bytes, kept for 30 s | /file"
        assert said[1].startswith("401 | ") and said[1].endswith(" | Bearer")
        assert said[2] == "206 | text | bytes 5-8/9"
        assert said[3].startswith("405 | ") and said[3].endswith(" | GET, HEAD, POST, PUT, OPTIONS")
    else:
        assert said == ["kept from it"] * 4
        assert gauges["bytes_in_total"] == 0
