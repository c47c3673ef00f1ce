"""What the tests of the documents share: fenced blocks, processes of their own, certificates.

Nothing here knows what a document says; beam itself is started by ``harness``.
"""

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).resolve().parents[2]
OPERATE = ROOT / "docs" / "operate.md"
FENCE = re.compile(r"^```(?P<tag>[^\n]*)\n(?P<text>.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)


@frozen
class Block:
    """A fenced block: the first word of its tag, the rest of the tag, its text and its line in the document."""

    language: str
    remark: str
    text: str
    line: int


def blocks(document: Path) -> list[Block]:
    """The fenced blocks of ``document``."""
    markdown = document.read_text()
    found = []
    for match in FENCE.finditer(markdown):
        language, _, remark = match["tag"].strip().partition(" ")
        found.append(Block(language, remark.strip(), match["text"], markdown.count("\n", 0, match.start()) + 1))
    return found


def block(document: Path, begins: str) -> str:
    """The text of the one block of ``document`` that begins with ``begins``."""
    (found,) = (each.text for each in blocks(document) if each.text.startswith(begins))
    return found


def accepts(port: int) -> bool:
    """Whether somebody listens on ``port`` of the loopback interface."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def end(process: "subprocess.Popen[bytes]") -> None:
    """End ``process``, which leads a group of its own, and the group with it."""
    # The first lets beam drain, the second cuts; they must not fall into one.
    for number, seconds in (signal.SIGTERM, 0.3), (signal.SIGTERM, 5), (signal.SIGKILL, 5):
        try:
            os.killpg(process.pid, number)
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            break
    process.wait(5)


@contextmanager
def running(
    command: Sequence[str | Path], log: Path, folder: Path | None = None, **environment: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """``command`` as a process, ended with the block.  What it prints goes to ``log``."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        end(process)


def make_certificate(folder: Path, name: str = "localhost") -> tuple[Path, Path]:
    """A certificate for ``name`` that signs itself, and its key."""
    certificate, key = folder / "fullchain.pem", folder / "privkey.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName=DNS:{name}", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
        timeout=30,
    )
    return certificate, key
