"""What the tests of forwards have in common: users with curl, a server that is looked at, and what both say."""

import hashlib
import json
import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen
from contract.peers import Curl, Peer
from harness import BOUND, Server, until

from beam.testing import some_bytes

SIZE = 24_000_017  # more than a ring and the system's buffers hold
BODY = some_bytes(SIZE)
SHORT = BODY[:100_003]
TYPE = "application/x-test"
FORWARDS = ("--allow-forward", "any", "--allow-forward-private")
TIMES = ("--forward-timeout", "1", "--put-ttl", "0.3", "--get-ttl", "0.05", "--get-wait-timeout", "30")


def sha256(data: bytes) -> str:
    """Of ``data``, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def zeros(folder: Path, size: int) -> Path:
    """A sparse file."""
    path = folder / f"zeros-{size}"
    with path.open("wb") as file:
        file.truncate(size)
    return path


def sha256_of_zeros(size: int) -> str:
    """Of so many of them."""
    digest, piece = hashlib.sha256(), bytes(1 << 20)
    for _ in range(size >> 20):
        digest.update(piece)
    digest.update(bytes(size % (1 << 20)))
    return digest.hexdigest()


@frozen
class Reply:
    """What curl heard.  ``status`` is 0 if that was nothing."""

    code: int
    status: int
    text: str


class Sender:
    """A curl that sends.

    :param how: ``raw``, ``chunked`` or ``form``.
    """

    def __init__(
        self, server: Server, path: str, file: Path, *arguments: str, to: str | None = None, how: str = "raw"
    ) -> None:
        body = {
            "raw": ("-T", str(file), "-H", f"Content-Type: {TYPE}"),
            "chunked": ("-T", str(file), "-H", f"Content-Type: {TYPE}", "-H", "Transfer-Encoding: chunked"),
            "form": ("-F", f"file=@{file};type={TYPE}"),
        }[how]
        where = () if to is None else ("-H", f"X-Forward-Url: {to}")
        self.curl = Curl("-w", "\n%{http_code}", *body, *where, *arguments, server.url(path))

    def reply(self) -> Reply:
        """What it heard, when it has ended."""
        done = self.curl.done()
        text, _, status = done.out.rpartition("\n")
        return Reply(done.code, int(status), text)


def send(
    server: Server, path: str, file: Path, *arguments: str, to: str | None = None, how: str = "raw", status: int = 200
) -> str:
    """Send ``file`` with curl, and give what beam says; it must be ``status``."""
    reply = Sender(server, path, file, *arguments, to=to, how=how).reply()
    assert reply.status == status, reply
    return reply.text


class Receiver:
    """A curl that waits for a file, and is there when this returns."""

    def __init__(self, server: Server, path: str, to: Path) -> None:
        waiting = server.gauges()["key_waiters"]
        self.path = to
        self.curl = Curl("-f", "-o", to, "-w", "%{content_type}", server.url(path))
        until(lambda: server.gauges()["key_waiters"] > waiting, "the receiver waits")

    def check(self, body: bytes, content_type: str = TYPE) -> None:
        """It gets ``body`` whole, with its type."""
        done = self.curl.done()
        assert (done.code, done.out) == (0, content_type), done
        assert self.path.read_bytes() == body


def read(server: Server, address: str) -> str:
    """The body of one of beam's own pages."""
    with urllib.request.urlopen(address if "://" in address else server.url(address), timeout=BOUND) as answer:
        return str(answer.read().decode())


def metrics(server: Server) -> str:
    """The whole page."""
    return read(server, f"http://127.0.0.1:{server.metrics_port}/metrics")


def forwards(server: Server) -> dict[str, int]:
    """How many forwards ended with which word; without those that are zero."""
    found = re.findall(r'^beam_forwards_total\{outcome="([a-z-]+)"\} (\S+)$', metrics(server), re.MULTILINE)
    return {word: int(float(count)) for word, count in found if float(count)}


def begin(server: Server, path: str, *fields: str, length: int | None, to: str | None = None) -> Peer:
    """The head of a send on a connection of its own; chunked if there is no length."""
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    where = [] if to is None else [f"X-Forward-Url: {to}"]
    return Peer(server.connect()).ask("PUT", path, *where, framing, *fields)


@contextmanager
def logged(server: Server, **fields: object) -> Iterator[None]:
    """Behind the block the log has one more line of a transfer, and it has ``fields``."""
    before = len(transfers(server))
    yield
    until(lambda: len(transfers(server)) > before, "a transfer is in the log", 5)
    (line,) = transfers(server)[before:]
    assert {name: line[name] for name in fields} == fields
    assert "forward=" in line["line"]


def transfers(server: Server) -> list[dict[str, Any]]:
    """The lines of the log that tell of a transfer's end."""
    lines = [json.loads(line.strip("\x1e")) for line in server.log.read_text().splitlines() if '"bytes_in"' in line]
    return [line for line in lines if line["line"].startswith("transfer ")]


def resident(server: Server) -> int:
    """Bytes of memory that the process has."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) << 10
