"""How the server stops, in every state of a transfer: drained, cut, killed, and started again."""

import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import BOUND, Server, curl, read_all, read_until, until

BODY = b"x" * 300_000
BIG = 64 << 20  # more than all buffers on the way hold
WINDOW = 4 << 20  # what the server takes while nobody reads


def put(server: Server, key: str, length: int, body: bytes = b"") -> socket.socket:
    return server.request(f"PUT /{key} HTTP/1.1\nContent-Length: {length}", body)


def get(server: Server, key: str) -> socket.socket:
    return server.request(f"GET /{key} HTTP/1.1")


def waiting(server: Server) -> list[socket.socket]:
    """A sender whose body is coming, and nobody to receive it."""
    sockets = [put(server, "k", BIG, BODY)]
    until(lambda: server.gauges()["active_uploads"] == 1, "the sender waits")
    return sockets


def held(server: Server) -> list[socket.socket]:
    """A sender whose body is whole, and nobody to receive it."""
    sockets = [put(server, "k", len(BODY), BODY)]
    until(lambda: (server.gauges()["pipes"], server.gauges()["active_uploads"]) == (1, 0), "the body is held")
    return sockets


def receiver_waiting(server: Server) -> list[socket.socket]:
    """A receiver without a sender."""
    sockets = [get(server, "k")]
    until(lambda: server.gauges()["key_waiters"] == 1, "the receiver waits")
    return sockets


def flowing(server: Server) -> list[socket.socket]:
    """Bytes flow."""
    receiver = get(server, "k")
    sender = put(server, "k", BIG, BODY)
    read_until(receiver, b"x")
    return [sender, receiver]


def ending(server: Server) -> list[socket.socket]:
    """The body is whole, and its receiver slow."""
    receiver = get(server, "k")
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 << 10)
    sender = put(server, "k", WINDOW, b"x" * WINDOW)
    read_until(receiver, b"x")
    return [sender, receiver]


def forsaken(server: Server) -> list[socket.socket]:
    """The receiver has left, and may come back."""
    sender, receiver = flowing(server)
    receiver.close()
    until(lambda: server.gauges()["active_downloads"] == 0, "the receiver has left")
    return [sender]


HOLDING = [waiting, held, receiver_waiting, flowing, ending, forsaken]
KEEPING = [receiver_waiting, waiting, flowing]
STATES = [("memory", state) for state in HOLDING] + [("disk", state) for state in KEEPING]


def store(kind: str, tmp_path: Path) -> str:
    return f"disk:{tmp_path / 'store'}" if kind == "disk" else kind


@pytest.mark.parametrize(("kind", "state"), STATES)
@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_cuts_whatever_runs(
    kind: str, state: Callable[[Server], list[socket.socket]], first: signal.Signals, tmp_path: Path
) -> None:
    """Two signals end the server with status 0 in any state, every peer is cut or answered, and no file is left."""
    with Server("--store", store(kind, tmp_path), log=tmp_path / "log") as server:
        sockets = state(server)
        server.signal(first)
        until(lambda: "draining" in server.log.read_text(), "the first signal is heard")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        for each in sockets:
            data = read_all(each)
            assert data.count(b"x") < BIG
            each.close()
    assert "Traceback" not in server.log.read_text()
    assert not list((tmp_path / "store").glob("server-*"))


@pytest.mark.parametrize("state", [waiting, held, receiver_waiting])
def test_draining_refuses_whoever_still_waits(state: Callable[[Server], list[socket.socket]], tmp_path: Path) -> None:
    """A sender without a receiver and a receiver without a sender hear 503 with Retry-After; then it ends."""
    with Server(log=tmp_path / "log") as server:
        sockets = state(server)
        server.signal(signal.SIGTERM)
        for each in sockets:
            answer = read_all(each)
            assert answer.startswith(b"HTTP/1.1 503")
            assert b"retry-after: " in answer.lower()
            each.close()
        assert server.wait() == 0


def test_draining_lets_a_running_transfer_finish_and_takes_no_other(tmp_path: Path) -> None:
    """What runs is delivered whole; meanwhile a new send, a new receiver and the health page say 503."""
    out = tmp_path / "out"
    with Server(log=tmp_path / "log") as server:
        sender = put(server, "k", len(BODY), BODY[:1000])
        with curl("-fo", str(out), server.url("/k")) as receiver:
            until(lambda: server.gauges()["active_downloads"] == 1, "it flows")
            server.signal(signal.SIGINT)
            until(lambda: server.gauges()["draining"] == 1, "it drains")
            for what, body in (("PUT /new", b"1"), ("GET /new", b""), ("GET /-/health", b"")):
                with server.request(f"{what} HTTP/1.1\nConnection: close\nContent-Length: {len(body)}", body) as new:
                    assert read_all(new)[9:12] == b"503"
            sender.sendall(BODY[1000:])
            assert receiver.wait(BOUND) == 0
        assert b"delivered 300000 bytes to 1 receiver" in read_until(sender, b"receiver\n")
        sender.close()
        assert server.wait() == 0
    assert out.read_bytes() == BODY


def test_draining_ends_at_its_time(tmp_path: Path) -> None:
    """A transfer that does not finish within --drain-timeout is cut; the server still ends with 0."""
    with Server("--drain-timeout", "0.5", log=tmp_path / "log") as server:
        sender, receiver = flowing(server)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        read_all(receiver)
        assert b"503" in read_all(sender)
        sender.close()
        receiver.close()


def test_a_kept_file_can_be_had_while_the_server_drains(tmp_path: Path) -> None:
    """What the disk store keeps stays until its time is up; then the server goes."""
    with Server("--store", f"disk:{tmp_path / 'store'}", "--get-ttl", "0.2", log=tmp_path / "log") as server:
        subprocess.run(["curl", "-sSf", "-T", "-", server.url("/k")], input=BODY, check=True, timeout=BOUND)
        server.signal(signal.SIGTERM)
        until(lambda: server.gauges()["draining"] == 1, "it drains")
        got = subprocess.run(["curl", "-sSf", server.url("/k")], capture_output=True, check=True, timeout=BOUND)
        assert got.stdout == BODY
        assert server.wait() == 0
    assert not list((tmp_path / "store").glob("server-*"))


@pytest.mark.parametrize(("kind", "state"), STATES)
def test_a_killed_server_leaves_nothing_that_the_next_one_does_not_remove(
    kind: str, state: Callable[[Server], list[socket.socket]], tmp_path: Path
) -> None:
    """SIGKILL in any state: receivers see a cut; the next server removes the leftovers, and works."""
    text = store(kind, tmp_path)
    with Server("--store", text, log=tmp_path / "log") as server:
        sockets = state(server)
        server.signal(signal.SIGKILL)
        server.wait()
        for each in sockets:
            assert read_all(each).count(b"x") < BIG
            each.close()
    left = set((tmp_path / "store").glob("server-*"))
    assert len(left) == (kind == "disk")
    with Server("--store", text, log=tmp_path / "log") as again:
        assert not left & set((tmp_path / "store").glob("server-*"))
        with curl("-fo", str(tmp_path / "out"), again.url("/k")) as receiver:
            subprocess.run(["curl", "-sSf", "-T", "-", again.url("/k")], input=BODY, check=True, timeout=BOUND)
            assert receiver.wait(BOUND) == 0
        assert (tmp_path / "out").read_bytes() == BODY


def test_two_servers_share_a_directory(tmp_path: Path) -> None:
    """A second server on the same directory leaves the files of the first alone, also when it starts and stops."""
    text = f"disk:{tmp_path / 'store'}"
    with Server("--store", text, log=tmp_path / "log1") as one:
        subprocess.run(["curl", "-sSf", "-T", "-", one.url("/k")], input=BODY, check=True, timeout=BOUND)
        with Server("--store", text, log=tmp_path / "log2") as two:
            two.signal(signal.SIGTERM)
            assert two.wait() == 0
        got = subprocess.run(["curl", "-sSf", one.url("/k")], capture_output=True, check=True, timeout=BOUND)
        assert got.stdout == BODY
