"""The clients of pages, in a real browser: tus-js-client and Flow.js, on a page of another origin."""

import json
import shutil
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from browser import Browser, pages_of
from harness import BOUND, Server, curl, until
from resume.support import BrittleWire, gaps

from beam.testing import some_bytes

NAME = "ünïcödé 文件.bin"
SIZE = 20_000_000
PART = 3_000_000  # not a divisor of the size
CHUNK = 1_000_000
CHUNKS = SIZE // CHUNK
LIBRARIES = ("tus-js-client/dist/tus.min.js", "@flowjs/flow.js/dist/flow.min.js")
PAGE = "".join(f'<script src="{Path(each).name}"></script>' for each in LIBRARIES)
THE_FILE = f'new File([await (await fetch("big.bin")).blob()], {json.dumps(NAME)}, {{type: "image/x-test"}})'


@frozen
class Place:
    """A browser at a page of another origin, and the server that it sends to.

    :param file: what the page sends; it has it from its own server.
    """

    browser: Browser
    server: Server
    origin: str
    file: Path

    def open(self) -> None:
        """Load the page, perhaps anew: what it was doing is over."""
        self.browser.tell("Page.navigate", url=f"{self.origin}/")
        until(lambda: self.browser.evaluate("!!window.tus && !!window.Flow"), "the page is there")

    def run(self, script: str, **values: object) -> Any:
        """What ``script``, the body of an async function, returns; each of ``values`` is a constant in it."""
        constants = "".join(f"const {name} = {json.dumps(value)};" for name, value in values.items())
        function = f"async () => {{ {constants} const file = {THE_FILE}; {script} }}"
        self.browser.evaluate(f"({function})().catch(String).then(said => {{ window.said = said }}); 0")
        said = until(lambda: self.browser.evaluate("window.said"), "the page is done", 4 * BOUND)
        self.browser.evaluate("delete window.said")
        return said

    def files(self) -> list[dict[str, Any]]:
        """What the files API lists."""
        with urllib.request.urlopen(self.server.url("/api/files"), timeout=5) as answer:
            found: list[dict[str, Any]] = json.load(answer)
            return found

    def uploaded(self) -> int:
        """How many chunks the pages have been told to be there because of them."""
        return sum(each["response"]["status"] == 201 for each in self.browser.seen("Network.responseReceived"))


@pytest.fixture(params=[True, False], ids=["named", "not-named"])
def is_named(request: pytest.FixtureRequest) -> bool:
    """Whether the operator has named the page's origin."""
    return bool(request.param)


@pytest.fixture
def place(tmp_path: Path, node_modules: Path, is_named: bool) -> Iterator[Place]:
    """The page is loaded."""
    folder = tmp_path / "page"
    folder.mkdir()
    for each in LIBRARIES:
        shutil.copy(node_modules / each, folder)
    file = folder / "big.bin"
    file.write_bytes(some_bytes(SIZE))
    (folder / "index.html").write_text(PAGE)
    with pages_of(folder) as origin:
        flags = ("--cors-origin", origin if is_named else "https://page.test", "--store", f"disk:{tmp_path / 'store'}")
        with Server(*flags, log=tmp_path / "log") as server, Browser(tmp_path / "profile") as browser:
            place = Place(browser, server, origin, file)
            place.open()
            yield place
            log = server.log.read_text()
            assert "Traceback" not in log and "log_failure" not in log


TUS = """
return await new Promise(done => new tus.Upload(file, {
    endpoint, chunkSize, retryDelays: Array(30).fill(20), metadata: {key: "by-page", filename: file.name},
    onSuccess: () => done("sent"), onError: error => done(String(error)),
}).start());
"""


def test_tus(place: Place, is_named: bool, tmp_path: Path) -> None:
    """Over a wire that breaks, while somebody receives; a page that is not named begins nothing."""
    copy = tmp_path / "copy"
    breaks = gaps(1, SIZE, 5) if is_named else []
    with (
        curl("-fo", str(copy), place.server.url("/by-page?wait=60")) as receiver,
        BrittleWire(place.server.port, breaks) as wire,
    ):
        said = place.run(TUS, endpoint=f"http://127.0.0.1:{wire.port}/-/tus", chunkSize=PART)
        if not is_named:
            assert "failed to create upload" in said
            assert place.server.gauges()["pipes"] == 0
            return
        assert said == "sent"
        assert wire.broken == 5
        receiver.communicate(timeout=BOUND)
    assert receiver.returncode == 0
    assert copy.read_bytes() == place.file.read_bytes()


FLOW = """
const flow = new Flow({target, chunkSize, simultaneousUploads: 3, maxChunkRetries: 20, chunkRetryInterval: 500});
return await new Promise(done => {
    flow.on("fileError", (file, message) => done(message));
    flow.on("fileSuccess", (file, message) => done(message));
    flow.on("fileProgress", file => { if (file.progress() > until) done("enough") });
    flow.addFile(file);
    flow.upload();
});
"""


def test_flow(place: Place, is_named: bool) -> None:
    """The page is closed in the middle, and the next one sends what is not there; over a wire that breaks."""
    target = place.server.url("/api/files/upload/chunked")
    if not is_named:
        # To the page it looks as if nobody were there, so that Flow.js would go on trying.
        assert "NetworkError" in place.run('return await fetch(target).catch(() => "NetworkError")', target=target)
        assert place.files() == []
        return
    assert place.run(FLOW, target=target, chunkSize=CHUNK, until=0.4) == "enough"
    place.open()
    (listed,) = place.files()
    assert not listed["complete"] and listed["received"] >= 0.2 * SIZE
    before = place.uploaded()
    with BrittleWire(place.server.port, gaps(2, SIZE // 3, 3)) as wire:
        target = f"http://127.0.0.1:{wire.port}/api/files/upload/chunked"
        told = json.loads(place.run(FLOW, target=target, chunkSize=CHUNK, until=2))
        assert wire.broken == 3
    assert place.uploaded() - before <= CHUNKS - listed["received"] // CHUNK
    (file,) = place.files()
    assert file == told
    assert (file["filename"], file["size"], file["complete"]) == (NAME, SIZE, True)
    with urllib.request.urlopen(place.server.url(f"/api/files/{file['id']}"), timeout=BOUND) as answer:
        assert answer.read() == place.file.read_bytes()
        assert urllib.parse.quote(NAME) in answer.headers["content-disposition"]
