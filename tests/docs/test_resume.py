"""The shell function of docs/resume.md, with curls and servers that are killed while it sends."""

import contextlib
import os
import random
import re
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from docs.support import ROOT, block
from harness import BOUND, Server, curl, free_port, running, until

from beam.testing import some_bytes

FUNCTION = block(ROOT / "docs" / "resume.md", "# beam_send FILE URL").partition("\n}\n")[0] + "\n}\n"
SIZE = 20_000_000
KILLS = 4


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """A file to send."""
    path = tmp_path / "big.bin"
    path.write_bytes(some_bytes(SIZE))
    return path


@contextlib.contextmanager
def beam_send(shell: str, *arguments: str | Path) -> Iterator["subprocess.Popen[bytes]"]:
    """The function with ``arguments``, run by ``shell``."""
    script = FUNCTION + 'beam_send "$@"'
    command = [shell, "-c", script, shell, *map(str, arguments)]
    with running(*command) as process:
        yield process


def children(pid: int) -> list[int]:
    """Those of ``pid``, and theirs."""
    try:
        direct = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
    return [each for child in direct for each in (child, *children(child))]


def kill_curl(shell: int) -> bool:
    """Kill the curls that ``shell`` runs; whether there was one."""
    killed = False
    for pid in children(shell):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/comm").read_text() == "curl\n":
                os.kill(pid, signal.SIGKILL)
                killed = True
    return killed


def head(beam: Server, path: str) -> bytes:
    """What HEAD says."""
    with curl("-I", beam.url(path)) as asked:
        return asked.communicate(timeout=BOUND)[0]


def received(beam: Server) -> int:
    """Bytes that the server has."""
    said = re.search(rb"Upload-Offset: (\d+)", head(beam, "/big"))
    return int(said[1]) if said else 0


def has(beam: Server, n: int) -> bool:
    """Whether it has ``n`` bytes."""
    return received(beam) >= n


@pytest.mark.parametrize("store", ["memory", "disk"])
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_function_goes_on_until_all_is_there(shell: str, store: str, big: Path, tmp_path: Path) -> None:
    """Its curl is killed again and again; from disk the server too, and it starts again a second later."""
    points = sorted(random.Random(shell + store).sample(range(SIZE // 10, SIZE * 8 // 10), KILLS))
    place = f"disk:{tmp_path}/disk" if store == "disk" else "memory"
    flags = ("--listen", f"127.0.0.1:{(port := free_port())}", "--store", place)
    with contextlib.ExitStack() as stack:
        beam = stack.enter_context(Server(*flags, log=tmp_path / "log"))
        url = f"http://127.0.0.1:{port}/big"
        copy = tmp_path / "copy"
        sender = stack.enter_context(beam_send(shell, big, url, "--limit-rate", "15M"))
        until(lambda: received(beam) > 0 or sender.poll() is not None, "it sends")
        receiver = stack.enter_context(curl("-fo", str(copy), url)) if store == "memory" else None
        for turn, point in enumerate(points):
            until(partial(has, beam, point), f"{point} bytes are there")
            assert sender.poll() is None
            if store == "disk" and turn == 1:
                beam.signal(signal.SIGKILL)
                beam.wait()
                beam = stack.enter_context(Server(*flags, log=tmp_path / "log-2"))
            else:
                until(lambda: kill_curl(sender.pid), "a curl runs")
        out, err = sender.communicate(timeout=BOUND)
        assert sender.returncode == 0, err.decode()
        assert (b"delivered" if store == "memory" else b"stored") in out
        if receiver is None:
            receiver = stack.enter_context(curl("-fo", str(copy), url))
        assert receiver.wait(BOUND) == 0
        assert copy.read_bytes() == big.read_bytes()


def test_the_function_says_that_the_server_refuses(big: Path, tmp_path: Path) -> None:
    """It does not ask for ever: a key that is in use, one that cannot be, and another file than the one that began."""
    small = tmp_path / "small"
    small.write_bytes(b"small")
    with Server(log=tmp_path / "log") as beam, curl("-f", "-T", str(small), beam.url("/used")) as other:
        until(lambda: beam.gauges()["pipes"] == 1, "the key is in use")
        begun = beam.request(f"PUT /begun?resume HTTP/1.1\nContent-Length: {SIZE}", bytes(1000))
        until(lambda: b"1000" in head(beam, "/begun"), "an upload has begun")
        begun.close()
        for key, status, said in (
            ("/used", 22, b"in use"),
            ("/-/key", 22, b"reserved"),
            ("/begun", 18, b"already completely uploaded"),
        ):
            with beam_send("sh", small, beam.url(key)) as sender:
                out, err = sender.communicate(timeout=BOUND)
                assert (sender.returncode, said in out + err) == (status, True), out + err
        with curl("-f", beam.url("/used")) as receiver:
            assert receiver.communicate(timeout=BOUND)[0] == b"small"
        assert other.wait(BOUND) == 0


def test_another_run_of_the_function_goes_on(big: Path, tmp_path: Path) -> None:
    """The whole shell was killed; the second run does not begin anew."""
    with Server("--store", f"disk:{tmp_path}/disk", log=tmp_path / "log") as beam:
        url = beam.url("/big?ttl=60")
        with beam_send("sh", big, url, "--limit-rate", "10M") as sender:
            until(lambda: received(beam) > SIZE // 5, "a part is there")
            until(lambda: kill_curl(sender.pid), "a curl runs")
            sender.kill()
        with beam_send("sh", big, url) as sender:
            out, err = sender.communicate(timeout=BOUND)
            assert (sender.returncode, out.endswith(b"stored %d bytes, kept for 60 s\n" % SIZE)) == (0, True), err
        with curl("-f", beam.url("/big")) as receiver:
            assert receiver.communicate(timeout=BOUND)[0] == big.read_bytes()


def test_the_function_goes_on_where_nothing_has_come(big: Path, tmp_path: Path) -> None:
    """The first connection broke behind its head: the part that begins at 0 is a part all the same."""
    with Server("--store", f"disk:{tmp_path}/disk", log=tmp_path / "log") as beam:
        beam.request(f"PUT /big?resume HTTP/1.1\nContent-Length: {SIZE}").close()
        until(lambda: b"Upload-Offset: 0\r\n" in head(beam, "/big"), "an upload has begun")
        with beam_send("sh", big, beam.url("/big")) as sender:
            out, err = sender.communicate(timeout=BOUND)
            assert (sender.returncode, out.endswith(b"stored %d bytes, kept for 30 s\n" % SIZE)) == (0, True), err
