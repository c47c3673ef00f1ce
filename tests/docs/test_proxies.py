"""nginx and HAProxy in front of beam, as docs/operate.md configures them: only addresses and paths are replaced.

What a proxy must not take away: bytes that come one by one, a sender at the pace of its receiver, waits, and a broken
transfer that shows.
"""

import contextlib
import re
import select
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import frozen
from docs.support import OPERATE, accepts, block, make_certificate, running
from harness import BOUND, Server, curl, free_port, read_until, until

MEGABYTE = 1 << 20
PATIENCE = "2h"  # as the documents have it
SHORT = 2  # seconds, in its place
LONGER = 4  # seconds for which a sender waits then

VERSIONS = ["--http1.1", "--http2"]

NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{text}
}}
"""


@frozen
class Proxy:
    """A proxy that runs, and the server behind it."""

    name: str
    beam: Server
    port: int
    tls_port: int
    certificate: Path

    def url(self, path: str) -> str:
        """Plain HTTP."""
        return f"http://127.0.0.1:{self.port}{path}"

    def tls_url(self, path: str) -> str:
        """TLS."""
        return f"https://localhost:{self.tls_port}{path}"

    def connect(self, tls: bool = False) -> socket.socket:
        """A connection."""
        if not tls:
            return socket.create_connection(("127.0.0.1", self.port), timeout=BOUND)
        context = ssl.create_default_context(cafile=str(self.certificate))
        plain = socket.create_connection(("127.0.0.1", self.tls_port), timeout=BOUND)
        return context.wrap_socket(plain, server_hostname="localhost")

    def version(self, asked: str) -> str:
        """What a client that asks for ``--http1.1`` or ``--http2`` gets."""
        return "2" if asked == "--http2" and self.name == "nginx" else "1.1"

    def send(self, head: str, tls: bool = False) -> socket.socket:
        """A connection on which ``head`` (lines without the last two) was sent."""
        connection = self.connect(tls)
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\nHost: localhost\r\n\r\n")
        return connection


def written_for_nginx(text: str, folder: Path, ports: tuple[int, int, int]) -> tuple[list[str], str]:
    """The command, and nginx's configuration with our addresses."""
    text = text.replace("listen 80 ", f"listen 127.0.0.1:{ports[0]} ").replace(
        "listen 443 ", f"listen 127.0.0.1:{ports[1]} "
    )
    path = folder / "nginx.conf"
    return ["nginx", "-p", str(folder), "-e", "stderr", "-c", str(path)], NGINX.format(folder=folder, text=text)


def written_for_haproxy(text: str, folder: Path, ports: tuple[int, int, int]) -> tuple[list[str], str]:
    """The command, and HAProxy's configuration with our addresses."""
    text = text.replace("bind :80\n", f"bind 127.0.0.1:{ports[0]}\n").replace(
        "bind :443 ", f"bind 127.0.0.1:{ports[1]} "
    )
    return ["haproxy", "-db", "-f", str(folder / "haproxy.conf")], text


PROXIES: dict[str, tuple[str, Callable[[str, Path, tuple[int, int, int]], tuple[list[str], str]]]] = {
    "nginx": ("# /etc/nginx/conf.d/beam.conf", written_for_nginx),
    "haproxy": ("# /etc/haproxy/haproxy.cfg", written_for_haproxy),
}


@contextlib.contextmanager
def started(name: str, folder: Path, beam: Server, beam_port: int, change: Callable[[str], str]) -> Iterator[Proxy]:
    """The proxy ``name`` with its documented configuration after ``change``."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    begins, write = PROXIES[name]
    folder.mkdir()
    certificate, key = make_certificate(folder)
    (folder / "beam.pem").write_bytes(certificate.read_bytes() + key.read_bytes())
    port, tls_port = free_port(), free_port()
    text = change(block(OPERATE, begins)).replace("/etc/beam", str(folder))
    assert "127.0.0.1:3000" in text
    text = text.replace("127.0.0.1:3000", f"127.0.0.1:{beam_port}")
    command, text = write(text, folder, (port, tls_port, beam_port))
    (folder / f"{name}.conf").write_text(text)
    log = folder / "log"
    with running(command, log) as process:
        until(lambda: process.poll() is not None or (accepts(port) and accepts(tls_port)), f"{name} listens")
        assert process.poll() is None, log.read_text()
        yield Proxy(name, beam, port, tls_port, certificate)


@pytest.fixture(scope="module")
def beam(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the memory store, and with an entrance for the PROXY protocol."""
    flags = ("--resume-timeout", "1", "--mount", f"/p=piping:early-after=forever:heartbeat={SHORT / 4}")
    with Server(*flags, log=tmp_path_factory.mktemp("beam") / "log") as server:
        yield server


@pytest.fixture(scope="module", params=list(PROXIES))
def proxy(request: pytest.FixtureRequest, beam: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Each proxy as it is documented."""
    folder = tmp_path_factory.mktemp("proxy") / "here"
    with started(request.param, folder, beam, beam.port, lambda text: text) as proxy:
        yield proxy


@pytest.fixture(scope="module", params=list(PROXIES))
def hasty(request: pytest.FixtureRequest, beam: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Each proxy with its long times made short."""
    folder = tmp_path_factory.mktemp("hasty") / "here"
    with started(request.param, folder, beam, beam.port, lambda text: text.replace(PATIENCE, f"{SHORT}s")) as proxy:
        yield proxy


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of some size."""
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 4096 * 5)
    return path


def at_rest(beam: Server) -> bool:
    """Whether nothing runs or waits."""
    gauges = beam.gauges()
    return not any(gauges[name] for name in ("pipes", "key_waiters", "active_uploads", "active_downloads"))


@pytest.fixture(autouse=True)
def nothing_left(beam: Server) -> Iterator[None]:
    """Behind each test beam has heard that everybody left."""
    yield
    until(lambda: at_rest(beam), "everything has ended")


def secure(proxy: Proxy, *arguments: str) -> tuple[str, ...]:
    """curl's arguments for the TLS side."""
    return ("--cacert", str(proxy.certificate), *arguments)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_each_byte_is_there_before_the_next_is_sent(proxy: Proxy, tls: bool, chunked: bool) -> None:
    """Nothing is gathered on the way, neither in the upload nor in the download."""
    framing = "Transfer-Encoding: chunked" if chunked else "Content-Length: 3"
    with (
        proxy.send("GET /bytes HTTP/1.1", tls) as receiver,
        proxy.send(f"PUT /bytes HTTP/1.1\n{framing}", tls) as sender,
    ):
        for byte in b"a", b"b", b"c":
            sender.sendall(b"1\r\n" + byte + b"\r\n" if chunked else byte)
            assert read_until(receiver, byte + b"\r\n" if chunked else byte)
        if chunked:
            sender.sendall(b"0\r\n\r\n")
            read_until(receiver, b"0\r\n\r\n")
        assert b"delivered 3 bytes to 1 receiver" in read_until(sender, b"receiver\n")


def push(sender: socket.socket) -> int:
    """Send until nothing more is taken for a second; how many bytes that were."""
    sender.setblocking(False)
    data, sent = bytes(64 << 10), 0
    while sent < 400 * MEGABYTE:
        try:
            sent += sender.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError):
            if not select.select([], [sender], [], 1)[1]:
                break
    return sent


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_a_receiver_that_does_not_read_holds_the_sender_back(proxy: Proxy, tls: bool) -> None:
    """What lies in beam, the proxy and all sockets between is bounded, however large the file is."""
    head = f"PUT /held HTTP/1.1\nContent-Length: {1 << 40}"
    with proxy.send("GET /held HTTP/1.1", tls) as receiver, proxy.send(head, tls) as sender:
        sent = push(sender)
        assert sent < 200 * MEGABYTE
        # It is held back by the receiver alone: as soon as that reads, it goes on.
        receiver.settimeout(BOUND)
        read = 0
        while read < 2 * sent:
            read += len(receiver.recv(MEGABYTE))
            with contextlib.suppress(BlockingIOError, ssl.SSLWantWriteError):
                sender.send(bytes(64 << 10))


def wait_for_nobody(proxy: Proxy, file: Path) -> tuple[float, list[str]]:
    """Send a small file and one larger than the ring, which wait ``LONGER`` seconds for nobody; seconds and answers."""
    began = time.monotonic()
    large = file.with_name("large")
    with large.open("wb") as sparse:
        sparse.truncate(100 * MEGABYTE)
    commands = [
        ("-w", "%{response_code}", "-T", str(path), proxy.url(f"/{path.name}?wait={LONGER}")) for path in (file, large)
    ]
    with curl(*commands[0]) as small_one, curl(*commands[1]) as large_one:
        said = [each.communicate(timeout=BOUND)[0].decode() for each in (small_one, large_one)]
    return time.monotonic() - began, said


def test_a_sender_may_wait_as_long_as_beam_lets_it(proxy: Proxy, file: Path) -> None:
    """The documented times let beam's own answer through, whether its body is whole or held back."""
    seconds, said = wait_for_nobody(proxy, file)
    assert seconds >= LONGER
    for each in said:
        assert each.startswith(f"No receiver came within {LONGER} seconds")
        assert each.endswith("504")


def test_a_proxy_with_less_patience_would_cut_it(hasty: Proxy, file: Path) -> None:
    """The times are what the test above depends on: without them both senders are cut early, with another answer."""
    seconds, said = wait_for_nobody(hasty, file)
    assert SHORT <= seconds < LONGER
    assert not any("No receiver came" in each for each in said)


def test_a_sender_who_hears_a_line_now_and_then_is_not_cut(hasty: Proxy, file: Path) -> None:
    """Under ``piping``, with its body in the ring, even behind a proxy with less patience."""
    copy, url = file.with_name("copy"), hasty.url("/p/patient")
    with curl("-T", str(file), url) as sender:
        time.sleep(LONGER)
        assert sender.poll() is None, sender.communicate(timeout=BOUND)
        with curl("-fo", str(copy), url) as receiver:
            receiver.communicate(timeout=BOUND)
        said = sender.communicate(timeout=BOUND)[0].decode()
    assert said.count("Waiting for 1 receiver(s)...") > LONGER / SHORT
    assert said.endswith("[INFO] All receiver(s) was/were received successfully.\n")
    assert copy.read_bytes() == file.read_bytes()


def test_a_proxy_without_the_lines_on_buffering_would_gather(beam: Server, tmp_path: Path) -> None:
    """The two lines in nginx's configuration are what makes it pass bytes on."""

    def without(text: str) -> str:
        return text.replace("proxy_request_buffering off;", "")

    with (
        started("nginx", tmp_path / "here", beam, beam.port, without) as proxy,
        proxy.send("PUT /gathered HTTP/1.1\nContent-Length: 3") as sender,
    ):
        sender.sendall(b"a")
        with proxy.send("GET /gathered?wait=1 HTTP/1.1") as receiver:
            assert b"404" in read_until(receiver, b"\n")


@pytest.mark.parametrize("length", ["length", "no-length"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_killed_sender_shows_at_the_receiver(proxy: Proxy, file: Path, length: str, version: str) -> None:
    """A part never looks like the whole: curl ends with 18, over HTTP/2 with 92."""
    what = ("--limit-rate", "64K", "-T", str(file)) if length == "length" else ("-T", "-")
    url = proxy.tls_url("/killed")
    with curl(version, *secure(proxy, *what, url), stdin=subprocess.PIPE) as sender:
        assert sender.stdin is not None
        sender.stdin.write(file.read_bytes()[:1000])
        sender.stdin.flush()
        with curl(version, *secure(proxy, "-N", url)) as receiver:
            assert receiver.stdout is not None
            assert receiver.stdout.read(1000) == file.read_bytes()[:1000]
            sender.kill()
            receiver.communicate(timeout=BOUND)
    assert receiver.returncode == (92 if proxy.version(version) == "2" else 18)


def test_a_killed_receiver_is_heard_of(proxy: Proxy) -> None:
    """The sender of a receiver that left and does not come back gets 502."""
    with proxy.send("PUT /left HTTP/1.1\nContent-Length: 1000") as sender:
        sender.sendall(b"first")
        with proxy.send("GET /left HTTP/1.1") as receiver:
            read_until(receiver, b"first")
        assert b" 502 " in read_until(sender, b"came back in time")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_receiver_that_waits_and_leaves_is_forgotten(proxy: Proxy, version: str) -> None:
    """The proxy tells beam; the next sender does not take it for a receiver."""
    with curl(version, *secure(proxy, proxy.tls_url("/soon?wait=600"))):
        until(lambda: proxy.beam.gauges()["key_waiters"] == 1, "it waits")
    until(lambda: proxy.beam.gauges()["key_waiters"] == 0, "it is forgotten")


def test_a_sender_that_waits_and_leaves_is_forgotten(proxy: Proxy, file: Path) -> None:
    """Its key is free again."""
    with curl("-T", str(file), proxy.url("/soon")):
        until(lambda: proxy.beam.gauges()["pipes"] == 1, "it waits")
    until(lambda: proxy.beam.gauges()["pipes"] == 0, "it is forgotten")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("body", ["-T", "-F"])
def test_a_file_goes_through_whole(proxy: Proxy, file: Path, version: str, body: str) -> None:
    """Over HTTP/1.1 and HTTP/2, raw and as a form; the answers are beam's."""
    what = f"file=@{file}" if body == "-F" else str(file)
    copy, url = file.with_name("copy"), proxy.tls_url("/whole")
    with (
        curl(version, *secure(proxy, "--fail-with-body", body, what, url)) as sender,
        curl(version, *secure(proxy, "-fo", str(copy), "-w", "%{http_version}", url)) as receiver,
    ):
        assert receiver.communicate(timeout=BOUND)[0] == proxy.version(version).encode()
        assert sender.communicate(timeout=BOUND)[0] == b"delivered %d bytes to 1 receiver\n" % file.stat().st_size
    assert (sender.returncode, receiver.returncode) == (0, 0)
    assert copy.read_bytes() == file.read_bytes()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_refusal_is_read_by_the_sender(proxy: Proxy, file: Path, version: str) -> None:
    """Whoever answers Expect: curl prints beam's sentence and ends with 22."""
    with proxy.send("PUT /taken HTTP/1.1\nContent-Length: 1000"):
        until(lambda: proxy.beam.gauges()["pipes"] == 1, "the key is taken")
        with curl(version, *secure(proxy, "--fail-with-body", "-T", str(file), proxy.tls_url("/taken"))) as second:
            assert b"The key is in use" in second.communicate(timeout=BOUND)[0]
        assert second.returncode == 22


def test_a_download_resumes_through_the_proxy(proxy: Proxy, file: Path) -> None:
    """Ranges, their answers and the key pass as they are."""
    part = file.with_name("part")
    part.write_bytes(file.read_bytes()[:MEGABYTE])
    with (
        curl("--fail-with-body", "-T", str(file), proxy.url("/with%2Fslash")) as sender,
        curl("-f", "-C", "-", "-o", str(part), proxy.url("/with/slash")) as receiver,
    ):
        receiver.communicate(timeout=BOUND)
        sender.communicate(timeout=BOUND)
    assert (sender.returncode, receiver.returncode) == (0, 0)
    assert part.read_bytes() == file.read_bytes()


def test_the_pages_name_the_host_that_was_asked_for(proxy: Proxy) -> None:
    """The curl lines of /-/help lead back through the proxy."""
    with curl(proxy.url("/-/help")) as plain, curl("--http2", *secure(proxy, proxy.tls_url("/-/help"))) as tls:
        assert f"http://127.0.0.1:{proxy.port}/KEY".encode() in plain.communicate(timeout=BOUND)[0]
        assert f"://localhost:{proxy.tls_port}/KEY".encode() in tls.communicate(timeout=BOUND)[0]


@pytest.mark.parametrize("name", PROXIES)
def test_a_trusted_proxy_brings_the_addresses(name: str, tmp_path: Path, file: Path) -> None:
    """To the log and to the limit, whatever the client itself writes; and the scheme to the pages."""
    text = " ".join(OPERATE.read_text().split())
    (trusted,) = set(re.findall(r"`--trusted-proxy ([0-9.]+)`", text))
    flags = ("--trusted-proxy", trusted, "--rate-limit", "4/day")
    lie = ("-H", "X-Forwarded-For: 203.0.113.1", "-H", "X-Forwarded-Proto: gopher")
    with (
        Server(*flags, log=tmp_path / "log") as beam,
        started(name, tmp_path / "here", beam, beam.port, lambda text: text) as proxy,
    ):

        def asked(client: str, *arguments: str) -> str:
            with curl("--interface", client, *lie, *arguments) as asking:
                return asking.communicate(timeout=BOUND)[0].decode()

        copy = file.with_name("copy")
        with (
            curl("--interface", "127.0.0.5", *lie, "-T", str(file), proxy.url("/file")) as sender,
            curl("--interface", "127.0.0.6", *lie, "-fo", str(copy), proxy.url("/file")) as receiver,
        ):
            receiver.communicate(timeout=BOUND)
            sender.communicate(timeout=BOUND)
        assert (sender.returncode, receiver.returncode) == (0, 0)
        assert '"sender": "127.0.0.5"' in beam.log.read_text()
        assert '"peers": "127.0.0.6"' in beam.log.read_text()
        assert f" http://127.0.0.1:{proxy.port}/KEY" in asked("127.0.0.5", proxy.url("/-/help"))
        page = asked(
            "127.0.0.5", *secure(proxy, "--resolve", f"localhost:{proxy.tls_port}:127.0.0.1"), proxy.tls_url("/-/help")
        )
        assert f" https://localhost:{proxy.tls_port}/KEY" in page
        said = [asked("127.0.0.5", "-w", "%{response_code}", proxy.url("/-/version"))[-3:] for _ in range(3)]
        assert said == ["200", "429", "429"]
        refused = asked("127.0.0.5", "-w", "%{response_code}", "-T", str(file), proxy.url("/file"))
        assert refused.startswith("This server takes 4 requests per day") and refused.endswith("429")
        assert asked("127.0.0.6", "-w", "%{response_code}", proxy.url("/-/version")).endswith("200")


def test_the_proxy_protocol_brings_the_addresses(tmp_path: Path, file: Path) -> None:
    """The two lines for HAProxy that the document names, for a log with the clients' addresses."""
    text = " ".join(OPERATE.read_text().split())
    (listen,) = re.findall(r"`--listen (haproxy:\S+)`", text)
    (server,) = re.findall(r"`server (beam \S+ send-proxy)`", text)
    port = free_port()

    def change(text: str) -> str:
        return text.replace("server beam 127.0.0.1:3000", f"server {server} # 127.0.0.1:3000").replace(
            ":3001", f":{port}"
        )

    log, copy = tmp_path / "log", file.with_name("copy")
    with (
        Server("--listen", listen.replace(":3001:", f":{port}:"), log=log) as beam,
        started("haproxy", tmp_path / "here", beam, beam.port, change) as proxy,
        curl("--interface", "127.0.0.5", "-T", str(file), proxy.url("/file")) as sender,
        curl("-fo", str(copy), proxy.url("/file")) as receiver,
    ):
        receiver.communicate(timeout=BOUND)
        sender.communicate(timeout=BOUND)
    assert (sender.returncode, receiver.returncode) == (0, 0)
    assert copy.read_bytes() == file.read_bytes()
    assert '"sender": "127.0.0.5"' in log.read_text()
