"""The servers that the contract tests run against, and the check that no test leaves anything behind."""

from collections.abc import Callable, Iterator

import pytest
from contract.fixtures import named_relay
from contract.peers import close_all
from contract.server import Certificate, Relay, Server, running


@pytest.fixture(scope="module")
def serve(certificate: Certificate) -> Iterator[Callable[..., Server]]:
    """Start a server with the given flags, for the rest of the module."""
    servers: list[Server] = []

    def start(*flags: str) -> Server:
        servers.append(Server(certificate, *flags))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def memory_server(certificate: Certificate) -> Iterator[Server]:
    """A server with the memory store, and times that do not matter."""
    server = Server(certificate, "--store", "memory", "--get-wait-timeout", "30", "--resume-timeout", "5")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def disk_server(certificate: Certificate) -> Iterator[Server]:
    """A server with the disk store; a file goes soon after its first whole download."""
    server = Server(
        certificate,
        *("--store", "disk:{folder}/store", "--get-wait-timeout", "30"),
        *("--put-ttl", "4", "--get-ttl", "0.25", "--resume-timeout", "1"),
    )
    yield server
    server.stop()


MODULES_OF_ALL_ENDS = ("transfers", "ranges", "faults")  # elsewhere it makes no difference who moves the bytes


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every kind of client for those that want one: TCP and TLS, for direct ends, and one for producer ends."""
    stores = {"relay": ("memory", "disk"), "holding": ("memory",), "keeping": ("disk",)}
    ends = ["tcp", "tls"]
    if metafunc.module.__name__.endswith(MODULES_OF_ALL_ENDS):
        ends.append("haproxy")
    for name in stores.keys() & set(metafunc.fixturenames):
        metafunc.parametrize(name, [f"{store}-{each}" for store in stores[name] for each in ends], indirect=True)


@pytest.fixture
def holding(request: pytest.FixtureRequest) -> Relay:
    """The store that holds."""
    return named_relay(request)


@pytest.fixture
def keeping(request: pytest.FixtureRequest) -> Relay:
    """The store that keeps."""
    return named_relay(request)


@pytest.fixture
def plain(memory_server: Server) -> Relay:
    """Plain TCP and the memory store, for what depends on neither."""
    return Relay(memory_server, "memory", "tcp")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """After each test everything that it opened is closed, and every server has let go of everything."""
    yield
    close_all()
    for server in list(running):
        server.check_at_rest()
