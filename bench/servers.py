"""The servers of the benchmark: how beam and the baseline are started, what they have used, and how they are ended."""

from __future__ import annotations

import datetime
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

START_SECONDS = 30
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class ServerError(Exception):
    """A server did not start; the text says what it wrote last."""


@frozen
class Certificate:
    """A self-signed certificate for 127.0.0.1 and its key, as files."""

    certificate: Path
    key: Path


def beam_command(port: int, store: str, tls: Certificate | None, directory: Path) -> list[str]:
    """What a user would type, beside the interpreter that runs the benchmark."""
    listen = f"127.0.0.1:{port}"
    if tls is not None:
        listen = f"ssl:{port}:interface=127.0.0.1:privateKey={tls.key}:certKey={tls.certificate}"
    store = f"disk:{directory / 'store'}:cap=10G" if store == "disk" else store
    twist = str(Path(sys.executable).with_name("twist"))
    return [twist, "--log-format", "text", "beam", "--listen", listen, "--store", store]


def baseline_command(port: int, tls: Certificate | None) -> list[str]:
    command = [sys.executable, "-m", "bench.baseline", str(port)]
    return command if tls is None else [*command, str(tls.certificate), str(tls.key)]


@frozen
class Server:
    """A running server, seen from outside through /proc."""

    port: int
    process: subprocess.Popen[bytes]

    def cpu_seconds(self) -> float:
        """User and system time of the server, its threads and its children so far."""
        # utime, stime, cutime and cstime, counted from the field behind the process's name
        return sum(sum(map(int, fields[11:15])) for _, fields in self._processes()) / TICKS_PER_SECOND

    def peak_bytes(self) -> int:
        """The most memory that was resident at once, since the server started."""
        return self._memory("VmHWM:")

    def resident_bytes(self) -> int:
        """The memory that is resident now."""
        return self._memory("VmRSS:")

    def _memory(self, name: str) -> int:
        texts = (Path(f"/proc/{pid}/status").read_text() for pid, _ in self._processes())
        return sum(int(text.partition(name)[2].split()[0]) * 1024 for text in texts)

    def _processes(self) -> Iterator[tuple[str, list[str]]]:
        """Number and statistics of each process in the session that the server leads."""
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
                fields = (path / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == self.process.pid:
                    yield path.name, fields


@contextmanager
def running(name: str, store: str, tls: Certificate | None) -> Iterator[Server]:
    """Start ``beam`` or the ``baseline`` on a free port, wait until it accepts, and end it with its files."""

    def command(port: int, directory: Path) -> list[str]:
        return beam_command(port, store, tls, directory) if name == "beam" else baseline_command(port, tls)

    with started(name, command) as server:
        yield server


@contextmanager
def started(name: str, command: Callable[[int, Path], list[str]]) -> Iterator[Server]:
    """Start what ``command`` says for a free port and a fresh folder, wait until it accepts, and end it."""
    with TemporaryDirectory(prefix="bench-") as path, socket.socket() as finder:
        directory = Path(path)
        finder.bind(("127.0.0.1", 0))
        port = finder.getsockname()[1]
        finder.close()
        environment = {key: value for key, value in os.environ.items() if not key.startswith("BEAM_")}
        output = directory / "output"
        with output.open("wb") as sink:
            try:
                process = subprocess.Popen(
                    command(port, directory), stdout=sink, stderr=sink, env=environment, start_new_session=True
                )
            except OSError as error:
                raise ServerError(f"{name} cannot be started: {error.strerror}") from None
        try:
            _wait_until_accepting(name, port, process, output)
            yield Server(port, process)
        finally:
            with suppress(ProcessLookupError):  # it has not even started
                os.killpg(process.pid, signal.SIGKILL)  # no drain: its directory goes with it
            process.wait()


def _wait_until_accepting(name: str, port: int, process: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                last = output.read_text(errors="replace").strip().splitlines()[-1:]
                raise ServerError(f"{name} did not start: {' '.join(last).strip() or 'it wrote nothing'}") from None
            time.sleep(0.05)


def make_certificate(directory: Path) -> Certificate:
    """A self-signed certificate that lives as long as the run."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = Certificate(directory / "certificate.pem", directory / "key.pem")
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files
