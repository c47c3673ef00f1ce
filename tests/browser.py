"""A real browser, told what to do and asked what it saw, by the DevTools protocol over two pipes; and pages for it."""

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from harness import BOUND, until

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def chromium() -> str:
    """The program; a test that needs it is skipped where there is none."""
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("chromium is not installed")
    return program


class Quiet(SimpleHTTPRequestHandler):
    """Serves the files of a folder, and writes nothing of it."""

    def log_message(self, format: str, *args: object) -> None:
        """As that of its class, without a word."""


@contextmanager
def pages_of(folder: Path) -> Iterator[str]:
    """Another server, with the files of ``folder``; its origin."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as pages:
        serving = threading.Thread(target=pages.serve_forever)
        serving.start()
        try:
            yield f"http://127.0.0.1:{pages.server_port}"
        finally:
            pages.shutdown()
            serving.join()


class Browser:
    """Chromium with one page.

    :ivar events: what it told without being asked, as far as it was read.
    """

    def __init__(self, profile: Path) -> None:
        command = [chromium(), *QUIET, "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank"]
        self.events: list[dict[str, Any]] = []
        self._answers: dict[int, dict[str, Any]] = {}
        self._number = 0
        self._incoming = b""
        commands, self._commands = os.pipe()
        self._messages, messages = os.pipe()
        # It reads from descriptor 3 and writes to 4.
        shell = f'exec "$@" 3<&{commands} 4>&{messages}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, "-", *command],
            pass_fds=(commands, messages),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(messages)
        os.set_blocking(self._messages, False)
        pages = [each for each in self.tell("Target.getTargets")["targetInfos"] if each["type"] == "page"]
        self._page = self.tell("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.tell(f"{domain}.enable")

    def tell(self, method: str, **parameters: object) -> dict[str, Any]:
        """Send a command, and wait for its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if hasattr(self, "_page"):
            message["sessionId"] = self._page
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + BOUND
        while self._number not in self._answers:
            assert time.monotonic() < end, f"no answer to {method}"
            self._read()
        answer = self._answers.pop(self._number)
        assert "error" not in answer, answer
        found: dict[str, Any] = answer["result"]
        return found

    def evaluate(self, script: str) -> Any:
        """The value of a script in the page."""
        found = self.tell("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, selector: str) -> None:
        """Click on what ``selector`` names, as soon as it is there."""
        script = f"(found => found && (found.click(), true))(document.querySelector({json.dumps(selector)}))"
        until(lambda: self.evaluate(script), f"{selector} is there")

    def seen(self, *methods: str) -> list[dict[str, Any]]:
        """The parameters of the events of these kinds."""
        self.evaluate("0")
        return [each["params"] for each in self.events if each["method"] in methods]

    def _read(self) -> None:
        try:
            data = os.read(self._messages, 1 << 20)
        except BlockingIOError:
            time.sleep(0.01)  # nothing is in the pipe yet
            return
        assert data, "the browser has ended"
        *messages, self._incoming = (self._incoming + data).split(b"\0")
        for each in map(json.loads, messages):
            if "id" in each:
                self._answers[each["id"]] = each
            else:
                self.events.append(each)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._commands)  # it ends with its master
        os.close(self._messages)
        try:
            self._process.wait(BOUND)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
