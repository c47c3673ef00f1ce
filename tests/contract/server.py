"""The server as operators start it: ``twist beam`` in a process of its own, and what can be seen of it from outside."""

import contextlib
import datetime
import ipaddress
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from attrs import field, frozen
from contract.peers import PATIENCE, Answer, Curl, Peer, SharedTLS
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from harness import GAUGES, free_port, until

PROXIED = b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n"  # what a proxy in front says first

running: list["Server"] = []


@frozen
class Certificate:
    """A self-signed certificate for 127.0.0.1, and its key, as files."""

    key: Path
    certificate: Path

    @classmethod
    def create(cls, folder: Path) -> "Certificate":
        """A new one in ``folder``."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
            .sign(key, hashes.SHA256())
        )
        made = cls(folder / "key.pem", folder / "certificate.pem")
        encoding = serialization.Encoding.PEM
        made.key.write_bytes(
            key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        made.certificate.write_bytes(certificate.public_bytes(encoding))
        return made


class Server:
    """A running ``twist beam`` that listens on TCP, TLS, a UNIX socket and behind a proxy, and for metrics.

    :param flags: of the command line, besides the listeners; ``{folder}`` stands for a folder of its own.
    :ivar flags: with that folder, for the next start.
    """

    def __init__(self, certificate: Certificate, *flags: str) -> None:
        self.certificate = certificate
        self.folder = Path(tempfile.mkdtemp(prefix="beam-contract-"))
        self.unix = self.folder / "socket"
        self.log = self.folder / "log"
        self.flags = [flag.format(folder=self.folder) for flag in flags]
        self._read_log = 0
        self.start()

    def start(self) -> None:
        """Start the process, and wait until it answers."""
        for _ in range(3):  # somebody may take a free port before beam does
            self.port, self.tls_port, self.haproxy_port, self.metrics_port = (free_port() for _ in range(4))
            if self._started():
                break
        else:
            raise AssertionError(f"beam did not start: {self.log.read_text()}")
        assert self.get_metrics("/health").text == "ok\n"
        self.descriptors_at_rest = self._stable_descriptors()
        running.append(self)

    def _started(self) -> bool:
        pem = f"privateKey={self.certificate.key}:certKey={self.certificate.certificate}"
        command = [
            str(Path(sys.executable).with_name("twist")),
            "--log-format=text",
            "beam",
            *("--listen", f"127.0.0.1:{self.port}"),
            *("--listen", f"ssl:{self.tls_port}:interface=127.0.0.1:{pem}"),
            *("--listen", f"unix:{self.unix}"),
            *("--listen", f"haproxy:tcp:{self.haproxy_port}:interface=127.0.0.1"),
            *("--metrics-addr", f"127.0.0.1:{self.metrics_port}"),
            *self.flags,
        ]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BEAM_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, cwd=self.folder
            )

        def listening() -> bool:
            if self.process.poll() is not None:
                return True
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.metrics_port)) == 0

        until(listening, "beam listens", 60)
        return self.process.poll() is None

    def stop(self) -> None:
        """End the process and remove its folder."""
        self.kill()
        self._check_log()
        shutil.rmtree(self.folder)

    def kill(self) -> None:
        """End the process: two signals cut everything."""
        if self in running:
            running.remove(self)
        for _ in range(2):
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(0.2)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def restart(self) -> None:
        """End the process, and start another one that has nothing to do."""
        self.kill()
        self._check_log()
        self.start()

    # What can be seen of it.

    def connect(self, ends: str = "tcp", receive_buffer: int | None = None) -> Peer:
        """A new connection.

        :param ends: ``tcp``, ``tls``, ``unix``, ``haproxy`` or ``metrics``.
        :param receive_buffer: bytes that the system takes before the peer reads; as much as it likes if not given.
        """
        plain = socket.socket(socket.AF_UNIX if ends == "unix" else socket.AF_INET)
        try:
            plain.settimeout(PATIENCE)
            if receive_buffer is not None:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            if ends == "unix":
                plain.connect(str(self.unix))
            else:
                ports = {
                    "tcp": self.port,
                    "tls": self.tls_port,
                    "haproxy": self.haproxy_port,
                    "metrics": self.metrics_port,
                }
                plain.connect(("127.0.0.1", ports[ends]))
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if ends == "haproxy":
                plain.sendall(PROXIED)
            if ends != "tls":
                return Peer(plain)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(self.certificate.certificate)
            return Peer(SharedTLS(context.wrap_socket(plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False)))
        except BaseException:
            plain.close()
            raise

    def get_metrics(self, path: str = "/metrics") -> Answer:
        """What the metrics listener answers."""
        peer = self.connect("metrics")
        try:
            return peer.get(path, "Connection: close").answer()
        finally:
            peer.close()

    def metrics(self) -> dict[str, float]:
        """All metrics by name, labels included."""
        lines = self.get_metrics().text.splitlines()
        return {
            name: float(value)
            for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))
        }

    def gauge(self, name: str) -> float:
        """The gauge ``beam_name``."""
        return self.metrics()[f"beam_{name}"]

    def wait_for(self, name: str, value: float, patience: float = PATIENCE) -> None:
        """Wait until the gauge ``beam_name`` has ``value``."""
        until(lambda: self.gauge(name) == value, f"beam_{name} is {value:g}", patience)

    def descriptors(self) -> Counter[str]:
        """The open descriptors by what they are."""
        found: Counter[str] = Counter()
        folder = Path(f"/proc/{self.process.pid}/fd")
        for each in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):
                found[re.sub(r":\[\d+\]", "", os.readlink(folder / each))] += 1
        return found

    def _stable_descriptors(self) -> Counter[str]:
        """The descriptors once they have not changed for a moment."""
        seen = [self.descriptors()]

        def stable() -> bool:
            time.sleep(0.02)  # five looks are the moment
            seen.append(self.descriptors())
            return len(seen) > 5 and all(each == seen[-1] for each in seen[-5:])

        until(stable, "the descriptors stay as they are")
        return seen[-1]

    def files(self) -> list[Path]:
        """The files of its disk stores that are no locks."""
        return [path for path in self.folder.glob("**/server-*/*/*") if path.is_file()]

    def _left(self) -> dict[str, object]:
        """What is there that is not there when nothing runs."""
        metrics = self.metrics()
        left: dict[str, object] = {name: metrics[f"beam_{name}"] for name in GAUGES if metrics[f"beam_{name}"]}
        descriptors = self.descriptors()
        if descriptors != self.descriptors_at_rest:
            left["descriptors"] = f"{dict(descriptors)}, at rest {dict(self.descriptors_at_rest)}"
        if files := self.files():
            left["files"] = files
        return left

    def check_at_rest(self) -> None:
        """Wait until every gauge is zero, and descriptors and files are what they were; see that nothing was logged.

        A server that fails this is started anew, so that the next test does not suffer from it.
        """
        left: dict[str, object] = {}

        def nothing_left() -> bool:
            left.clear()
            left.update(self._left())
            return not left

        try:
            assert self.process.poll() is None, f"beam has ended: {self.log.read_text()[-2000:]}"
            self._check_log()
            try:
                until(nothing_left, "all is over")
            except AssertionError:
                raise AssertionError(f"something is left behind: {left}") from None
        except BaseException:
            self.kill()
            self.start()
            raise

    def _check_log(self) -> None:
        """Nothing in the log, since this was last asked, tells of a failure in the program."""
        text = self.log.read_text()[self._read_log :]
        self._read_log += len(text)
        for sign in ("Traceback", "Unhandled", "[critical]", "[error]", "#critical", "#error"):
            assert sign not in text, text[-4000:]


@frozen
class Relay:
    """A server as one kind of client reaches it.

    :ivar ends: ``tcp``, ``tls`` or ``unix`` for direct ends, ``haproxy`` for producer ends.
    """

    server: Server = field(repr=False)
    store: str
    ends: str

    @property
    def keeps(self) -> bool:
        """Whether a transfer is done when it is stored."""
        return self.store == "disk"

    def connect(self, receive_buffer: int | None = None) -> Peer:
        """A new connection."""
        return self.server.connect(self.ends, receive_buffer)

    def url(self, path: str) -> str:
        """``path`` as curl wants it."""
        if self.ends == "tls":
            return f"https://127.0.0.1:{self.server.tls_port}{path}"
        port = self.server.haproxy_port if self.ends == "haproxy" else self.server.port
        return f"http://127.0.0.1:{port}{path}"

    def curl(self, *arguments: str | Path, stdin: Path | None = None) -> Curl:
        """Start curl."""
        if self.ends == "unix":
            return Curl("--unix-socket", self.server.unix, *arguments, stdin=stdin)
        if self.ends == "haproxy":
            return Curl("--haproxy-protocol", *arguments, stdin=stdin)
        return Curl("--cacert", self.server.certificate.certificate, *arguments, stdin=stdin)

    def ask(self, method: str, target: str, *fields: str) -> Answer:
        """One request on a connection of its own."""
        peer = self.connect()
        try:
            return peer.ask(method, target, *fields).answer()
        finally:
            peer.close()

    def wait_for_offer(self, path: str) -> None:
        """Wait until somebody sends under ``path``, as a receiver sees it."""
        until(lambda: self.ask("HEAD", path).status == 200, f"HEAD {path} finds something")

    def wait_for_waiters(self, n: int) -> None:
        """Wait until ``n`` receivers wait."""
        self.server.wait_for("key_waiters", n)
