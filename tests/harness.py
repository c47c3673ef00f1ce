"""A real ``twist beam`` for tests: started on free loopback ports, watched from outside, ended by its starter."""

import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")
BOUND = 30.0  # seconds that anything may take on a busy machine
GAUGES = ("pipes", "key_waiters", "active_uploads", "active_downloads", "memory_usage", "disk_usage", "active_forwards")


def twist() -> str:
    """The ``twist`` beside this interpreter."""
    beside = Path(sys.executable).with_name("twist")
    return str(beside if beside.exists() else shutil.which("twist"))


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(true: Callable[[], T], what: str, bound: float = BOUND) -> T:
    """Wait until ``true()``, at most ``bound`` seconds, and return what it gave.

    :param what: for the failure, if it does not become so.
    """
    end = time.monotonic() + bound
    while not (found := true()):
        assert time.monotonic() < end, f"not within {bound:g} s: {what}"
        time.sleep(0.01)
    return found


class Server:
    """One server process.

    :param flags: beside those of a plain listener and the metrics listener.
    :param most_descriptors: limit of the process.
    :param command: what to run, if not ``twist``.
    """

    def __init__(
        self,
        *flags: str,
        log: Path,
        env: dict[str, str] | None = None,
        most_descriptors: int | None = None,
        command: tuple[str, ...] | None = None,
    ) -> None:
        def limit() -> None:
            if most_descriptors is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (most_descriptors, most_descriptors))

        def start() -> None:
            self.port, self.metrics_port = free_port(), free_port()
            with log.open("wb") as output:
                self.process = subprocess.Popen(
                    [
                        *(command or (twist(),)),
                        *("beam", "--listen", f"127.0.0.1:{self.port}"),
                        *("--metrics-addr", f"127.0.0.1:{self.metrics_port}", *flags),
                    ],
                    stdout=output,
                    stderr=output,
                    env=env,
                    preexec_fn=limit,
                )

        self.log = log
        self._start = start
        start()

    def wait_until_up(self) -> None:
        """Until both listeners accept; another process may take a free port before beam does."""

        def up() -> bool:
            if self.process.poll() is not None:
                assert "cannot listen" in self.log.read_text(), self.log.read_text()
                self._start()
            try:
                self.connect().close()
                return self.gauges() is not None
            except OSError:
                return False

        until(up, "the server is up")

    def gauges(self) -> dict[str, float]:
        """The gauges of the metrics listener by their short names."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=BOUND) as answer:
            text = answer.read().decode()
        return {name: float(value) for name, value in re.findall(r"^beam_(\w+) (\S+)$", text, re.MULTILINE)}

    def descriptors(self) -> int:
        """Open descriptors of the process."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def until_clean(self, descriptors: int) -> None:
        """Until nothing is left: every gauge zero, and at most so many descriptors open as before."""
        until(lambda: not any(self.gauges()[name] for name in GAUGES), f"the gauges are at zero: {self.gauges()}")
        until(lambda: self.descriptors() <= descriptors, "the descriptors are closed")
        log = self.log.read_text()
        assert "Traceback" not in log and "log_failure" not in log

    def connect(self) -> socket.socket:
        """A connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=BOUND)

    def request(self, head: str, body: bytes = b"") -> socket.socket:
        """A connection on which ``head`` (lines without the last two) and ``body`` have been sent."""
        connection = self.connect()
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\nHost: localhost\r\n\r\n" + body)
        return connection

    def url(self, path: str) -> str:
        """The address of ``path``."""
        return f"http://127.0.0.1:{self.port}{path}"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit status."""
        return self.process.wait(BOUND)

    def __enter__(self) -> Self:
        self.wait_until_up()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(BOUND)


def read_all(connection: socket.socket) -> bytes:
    """Everything until the peer closes or resets."""
    data = b""
    try:
        while piece := connection.recv(1 << 20):
            data += piece
    except ConnectionResetError:
        pass
    return data


def read_until(connection: socket.socket, end: bytes) -> bytes:
    """Everything up to ``end``."""
    data = b""
    while end not in data:
        piece = connection.recv(1 << 16)
        assert piece, f"closed before {end!r}: {data!r}"
        data += piece
    return data


def curl(*arguments: str, **kwargs: object) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    """A running curl, ended with the block."""
    return running("curl", "-sS", *arguments, **kwargs)


@contextmanager
def running(*command: str, **kwargs: object) -> Iterator["subprocess.Popen[bytes]"]:
    """A running ``command``, ended with the block."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **kwargs,  # type: ignore[call-overload]
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=BOUND)
