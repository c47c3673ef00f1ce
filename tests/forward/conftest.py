"""The servers that the tests of forwards run against, and the check that no test leaves anything behind."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from contract.peers import close_all
from contract.server import Certificate
from forward.support import BODY, FORWARDS, SHORT, TIMES
from harness import Server, until

Serve = Callable[..., Server]


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Start a server with these flags, or give the one that has them; the variables are added to ours."""
    servers: dict[tuple[object, ...], Server] = {}

    def start(*flags: str, **variables: str) -> Server:
        which = (*flags, *variables.items())
        if which not in servers:
            folder = tmp_path_factory.mktemp("server")
            made = [flag.replace("{folder}", str(folder)) for flag in flags]
            servers[which] = Server(*made, log=folder / "log", env={**os.environ, **variables})
            servers[which].wait_until_up()
        return servers[which]

    yield start
    for server in servers.values():
        server.__exit__(None, None, None)


@pytest.fixture
def serve(started: Serve) -> Iterator[Serve]:
    """``started``, and behind the test every server that it used is as it was before."""
    used: dict[Server, tuple[int, int]] = {}

    def start(*flags: str, **variables: str) -> Server:
        server = started(*flags, **variables)
        used.setdefault(server, (server.descriptors(), server.log.stat().st_size))
        return server

    yield start
    close_all()
    for server, (before, logged) in used.items():
        until(lambda server=server: not server.gauges()["active_forwards"], "no forward runs")  # type: ignore[misc]
        server.until_clean(before)
        assert b'"log_failure"' not in server.log.read_bytes()[logged:]  # what a traceback is in JSON


@pytest.fixture
def beam(serve: Serve) -> Server:
    """A server that forwards to every address; memory first, and a disk store."""
    return serve("--store", "memory", "--store", "disk:{folder}/store", *FORWARDS, *TIMES)


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file to send."""
    path = tmp_path_factory.mktemp("sent") / "file"
    path.write_bytes(BODY)
    return path


@pytest.fixture(scope="session")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that fits anywhere."""
    path = tmp_path_factory.mktemp("sent") / "short"
    path.write_bytes(SHORT)
    return path


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Of targets that serve TLS."""
    return Certificate.create(tmp_path_factory.mktemp("certificate"))
