"""``/api/docs`` in a real browser: it shows every operation, tries them, and asks nobody else."""

import json
import re
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browser import Browser
from harness import Server, until

from beam import __version__

SHOWN = (
    "[...document.querySelectorAll('.opblock-summary')].map(each => each.innerText.split(/\\s+/).slice(0, 2).join(' '))"
)
VERSION = "#operations-about_this_server-version"
COMPLAINTS = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")


@pytest.mark.parametrize("flags", [(), ("--mount", "/team=beam")])
def test_it_shows_every_operation(flags: tuple[str, ...], tmp_path: Path) -> None:
    """Nothing is complained of, and no other host is asked; below a prefix too, where it shows that prefix's paths."""
    prefix = "/team" if flags else ""
    with Server(*flags, log=tmp_path / "log") as server, Browser(tmp_path / "profile") as browser:
        with urllib.request.urlopen(server.url(f"{prefix}/api/openapi.json"), timeout=5) as answer:
            described = json.load(answer)["paths"]
        wanted = {
            f"{method.upper()} {path}"
            for path, methods in described.items()
            for method in methods.keys() - {"parameters"}
        }
        browser.tell("Page.navigate", url=server.url(f"{prefix}/api/docs"))
        shown = until(lambda: browser.evaluate(SHOWN), "the operations are shown")
        assert {each.replace("\u200b", "") for each in shown} == wanted
        # One is opened, and asked.
        for part in (".opblock-summary-control", ".try-out__btn", ".execute"):
            browser.press(f"{VERSION} {part}")
        answered = f"document.querySelector('{VERSION} .live-responses-table')?.innerText"
        text = until(lambda: browser.evaluate(answered), "it was answered")
        assert f"beam {__version__}" in text
        assert browser.seen(*COMPLAINTS) == []
        urls = [each["request"]["url"] for each in browser.seen("Network.requestWillBeSent")]
        assert server.url(f"{prefix}/-/version") in urls
        assert {urlsplit(each).netloc for each in urls if not each.startswith("data:")} == {f"127.0.0.1:{server.port}"}


def test_its_page_lets_nothing_else_in(tmp_path: Path) -> None:
    """Not even what strangers have sent to this server: scripts and styles need the nonce, which is new each time."""
    with Server("--store", f"disk:{tmp_path / 'store'}", log=tmp_path / "log") as server:
        policies = []
        for _ in range(2):
            with urllib.request.urlopen(server.url("/api/docs"), timeout=5) as answer:
                policies.append(answer.headers["content-security-policy"])
        found = [re.findall(r"(script|style)-src 'nonce-([\w-]{20,})'(?:;|$)", each) for each in policies]
        assert [[name for name, _ in each] for each in found] == [["script", "style"]] * 2
        assert found[0][0][1] == found[0][1][1] != found[1][0][1]
        assert all(each.startswith("default-src 'none';") and "unsafe" not in each for each in policies)
        script = b"document.title = 'taken over'"
        sent = urllib.request.Request(server.url("/evil.js"), script, {"Content-Type": "text/javascript"}, method="PUT")
        urllib.request.urlopen(sent, timeout=5).close()
        with Browser(tmp_path / "profile") as browser:
            browser.tell("Page.navigate", url=server.url("/api/docs"))
            until(lambda: browser.evaluate(SHOWN), "the operations are shown")
            browser.evaluate(
                "new Promise(done => { const script = document.createElement('script'); script.src = '/evil.js';"
                " script.onload = script.onerror = done; document.body.append(script) }).then(() => 0)"
            )
            assert browser.evaluate("document.title") == "beam: its HTTP interface"
            assert any("Content Security Policy" in str(each) for each in browser.seen(*COMPLAINTS))


@pytest.mark.parametrize(
    ("name", "kind"), [("swagger-ui.css", "text/css"), ("swagger-ui-bundle.js", "text/javascript")]
)
def test_its_files_have_their_types(name: str, kind: str, tmp_path: Path) -> None:
    """And no others of the package are served."""
    with Server(log=tmp_path / "log") as server:
        with urllib.request.urlopen(server.url(f"/api/docs/{name}"), timeout=5) as answer:
            assert answer.headers.get_content_type() == kind
            assert len(answer.read()) > 100_000
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(server.url("/api/docs/../docs/index.html"), timeout=5)
