"""The servers that the tests of resumable uploads run against, and the check that no test leaves anything behind."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from contract.fixtures import named_relay
from contract.peers import close_all
from contract.server import Certificate, Relay, Server, running
from harness import until
from resume.support import BODY, Tus, lasting_files

TIMES = ("--get-wait-timeout", "30", "--resume-timeout", "5", "--put-ttl", "1", "--get-ttl", "0.05")
ENDS = ("tcp", "tls", "haproxy")

Serve = Callable[..., Server]


def check_at_rest(server: Server) -> None:
    """Wait until nothing goes on, and no record of an upload is left."""
    try:
        server.check_at_rest()
    except AssertionError:  # what it keeps would be in the way of the next test too
        server.kill()
        shutil.rmtree(server.folder / "store", ignore_errors=True)
        server.start()
        raise
    until(lambda: not lasting_files(server), "no file of an upload is left")


@pytest.fixture
def serve(certificate: Certificate) -> Iterator[Serve]:
    """Start a server with the given flags, for one test."""
    servers: list[Server] = []

    def start(*flags: str) -> Server:
        servers.append(Server(certificate, *flags))
        return servers[-1]

    yield start
    close_all()
    try:
        for server in servers:
            if server in running:
                check_at_rest(server)
    finally:
        for server in servers:
            server.stop()


@pytest.fixture(scope="session")
def memory_server(certificate: Certificate) -> Iterator[Server]:
    """A server with the memory store, and times that do not matter."""
    server = Server(certificate, "--store", "memory:window=2M", *TIMES)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def disk_server(certificate: Certificate) -> Iterator[Server]:
    """A server with the disk store; a file goes soon after its first whole download."""
    server = Server(certificate, "--store", "disk:{folder}/store", *TIMES)
    yield server
    server.stop()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Both stores for those that want them; every kind of client for those that move bytes in a way of their own."""
    wanted = {
        "relay": [f"{store}-{ends}" for store in ("memory", "disk") for ends in ENDS],
        "either": ["memory-tcp", "disk-tcp"],
    }
    for name in wanted.keys() & set(metafunc.fixturenames):
        metafunc.parametrize(name, wanted[name], indirect=True)


@pytest.fixture
def either(request: pytest.FixtureRequest) -> Relay:
    """Both stores, over TCP."""
    return named_relay(request)


@pytest.fixture
def holding(memory_server: Server) -> Relay:
    """The store that holds."""
    return Relay(memory_server, "memory", "tcp")


@pytest.fixture
def keeping(disk_server: Server) -> Relay:
    """The store that keeps."""
    return Relay(disk_server, "disk", "tcp")


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file to send."""
    path = tmp_path_factory.mktemp("sent") / "file"
    path.write_bytes(BODY)
    return path


@pytest.fixture
def speak(serve: Serve) -> Iterator[Callable[..., Tus]]:
    """A client of tus; what it made is ended behind the test."""
    made: list[Tus] = []

    def start(relay: Relay, root: str = "/-/tus") -> Tus:
        made.append(Tus(relay, root))
        return made[-1]

    yield start
    for each in made:
        if each.relay.server in running:
            each.terminate_all()


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """After each test everything that it opened is closed, and every server has let go of everything."""
    yield
    close_all()
    for server in list(running):
        check_at_rest(server)
