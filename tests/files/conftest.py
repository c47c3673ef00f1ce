"""The servers that the tests of the files API run against."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from contract.peers import close_all
from files.support import Api
from harness import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One with a disk store."""
    folder = tmp_path_factory.mktemp("files")
    with Server("--store", f"disk:{folder / 'store'}", log=folder / "log") as server:
        yield server
        log = server.log.read_text()
        assert "Traceback" not in log and "log_failure" not in log


@pytest.fixture
def api(server: Server) -> Iterator[Api]:
    """Its API, with nothing in it before the test and nothing left behind it."""
    api = Api(server)
    yield api
    close_all()
    api.clear()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Api]]:
    """Start a server with flags of the test's own, on the test's own folder; the one before has to have ended."""
    servers: list[Server] = []

    def start(*flags: str, store: str = "", most_descriptors: int | None = None) -> Api:
        log = tmp_path / f"log-{len(servers)}"
        flags = ("--store", store or f"disk:{tmp_path / 'store'}", *flags)
        server = Server(*flags, log=log, most_descriptors=most_descriptors)
        servers.append(server)
        server.wait_until_up()
        return Api(server)

    yield start
    close_all()
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
        server.wait()
        log = server.log.read_text()
        assert "Traceback" not in log and "log_failure" not in log
