"""Many peers at once, and limits that are reached: clear answers, and nothing left afterwards."""

import os
import resource
import selectors
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import BOUND, Server, curl, read_all, read_until, twist, until

PATIENCE = ("--get-wait-timeout", "120", "--max-wait", "3600")


@pytest.fixture(autouse=True)
def many_descriptors() -> Iterator[None]:
    """This process needs a descriptor for each of its peers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def get(server: Server, path: str) -> socket.socket:
    return server.request(f"GET {path} HTTP/1.1")


def drain(receivers: list[socket.socket], size: int) -> dict[socket.socket, int]:
    """Read all receivers until each has a head and ``size`` bytes; the bytes of the bodies."""
    got = dict.fromkeys(receivers, 0)
    heads = dict.fromkeys(receivers, b"")
    end = time.monotonic() + 2 * BOUND
    with selectors.DefaultSelector() as selector:
        for each in receivers:
            each.setblocking(False)
            selector.register(each, selectors.EVENT_READ, each)
        while selector.get_map():
            assert time.monotonic() < end, f"{len(selector.get_map())} receivers have not got everything"
            for key, _ in selector.select(1):
                each = key.data
                data = each.recv(1 << 18)
                over = not data
                if got[each] == 0 and b"\r\n\r\n" not in heads[each]:
                    heads[each] += data
                    data = heads[each].partition(b"\r\n\r\n")[2]
                got[each] += len(data)
                if got[each] >= size or over:
                    selector.unregister(each)
    return got


def test_500_receivers_on_a_key_get_every_byte(tmp_path: Path) -> None:
    """One sender, 500 receivers: each has the whole file, the sender hears so, and memory stays that of one ring."""
    size = 4 << 20
    with Server(*PATIENCE, log=tmp_path / "log") as server:
        before = server.descriptors()
        receivers = [get(server, "/k") for _ in range(500)]
        until(lambda: server.gauges()["key_waiters"] == 500, "all wait")
        sender = server.request(f"PUT /k?readers=500 HTTP/1.1\nContent-Length: {size}")
        sending = threading.Thread(target=sender.sendall, args=(b"x" * size,))
        sending.start()
        assert set(drain(receivers, size).values()) == {size}
        sending.join(BOUND)
        assert b"delivered 4194304 bytes to 500 receivers" in read_until(sender, b"receivers\n")
        for each in [sender, *receivers]:
            each.close()
        server.until_clean(before)


def test_5000_waiting_receivers_are_cheap_and_leave_without_a_trace(tmp_path: Path) -> None:
    """5,000 receivers wait; a transfer between two others runs all the same; they leave, and nothing is left."""
    with Server(*PATIENCE, "--max-waiting-per-key", "5000", log=tmp_path / "log") as server:
        before, memory_before = server.descriptors(), resident(server)
        waiting = [get(server, f"/nobody{i % 7}") for i in range(5000)]
        until(lambda: server.gauges()["key_waiters"] == 5000, "all wait")
        assert resident(server) - memory_before < 5000 * 32 << 10
        with curl("-fo", str(tmp_path / "out"), server.url("/k")) as receiver:
            subprocess.run(
                ["curl", "-sSf", "-T", "-", server.url("/k")], input=b"y" * 100_000, check=True, timeout=BOUND
            )
            assert receiver.wait(BOUND) == 0
        for each in waiting:
            each.close()
        server.until_clean(before)


def resident(server: Server) -> int:
    """Bytes of memory of the server."""
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_limits_on_waiting_receivers(tmp_path: Path) -> None:
    """One receiver too many on a key, or in all, hears 503 with Retry-After at once; a place that is left is free."""
    with Server(*PATIENCE, "--max-waiting-per-key", "2", "--max-waiting", "3", log=tmp_path / "log") as server:
        before = server.descriptors()
        waiting = [get(server, path) for path in ("/a", "/a", "/b")]
        until(lambda: server.gauges()["key_waiters"] == 3, "three wait")
        for path in ("/a", "/b"):
            with get(server, path) as refused:
                head = read_until(refused, b"\r\n\r\n").lower()
                assert head.startswith(b"http/1.1 503")
                assert b"retry-after:" in head
        waiting.pop().close()
        until(lambda: server.gauges()["key_waiters"] == 2, "one has left")
        waiting.append(get(server, "/b"))
        until(lambda: server.gauges()["key_waiters"] == 3, "its place is taken")
        for each in waiting:
            each.close()
        server.until_clean(before)


def test_one_connection_too_many_is_told_so(tmp_path: Path) -> None:
    """Above --max-connections a client reads 503 and a sentence; below it again, it is served."""
    with Server("--max-connections", "4", log=tmp_path / "log") as server:
        crowd = [server.connect() for _ in range(4)]
        with server.connect() as refused:
            answer = read_all(refused)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"Retry-After" in answer
        assert answer.endswith(b"try again later.\n")
        for each in crowd:
            each.close()

        def served() -> bool:
            with server.request("GET /-/version HTTP/1.1\nConnection: close") as again:
                return read_all(again).startswith(b"HTTP/1.1 200")

        until(served, "a place is free again")


def test_the_descriptor_limit_bounds_connections_and_files(tmp_path: Path) -> None:
    """A process that may have few descriptors answers 503 before they are used up, and recovers."""
    with Server("--store", f"disk:{tmp_path / 'store'}", most_descriptors=128, log=tmp_path / "log") as server:
        before = server.descriptors()
        # Kept files hold a descriptor each: at some point a send is refused, and the next ones too.
        answers = []
        for i in range(140):
            with server.request(f"PUT /k{i}?ttl=15 HTTP/1.1\nConnection: close\nContent-Length: 1", b"1") as sender:
                answers.append(read_all(sender)[9:12])
        assert answers[0] == b"201"
        assert b"503" in answers
        assert set(answers) <= {b"201", b"503", b""}  # out of descriptors, Twisted closes without a word

        def kept_again() -> bool:
            with server.request("PUT /again?ttl=0 HTTP/1.1\nConnection: close\nContent-Length: 1", b"1") as sender:
                return read_all(sender)[9:12] == b"201"

        until(kept_again, "descriptors are free again", 2 * BOUND)
        server.until_clean(before)


def test_a_limit_that_cannot_be_is_a_usage_error(tmp_path: Path) -> None:
    """More connections than descriptors: one line on standard error, exit status 1, nothing bound."""
    found = subprocess.run(
        [twist(), "beam", "--max-connections", "999999999"], capture_output=True, text=True, timeout=BOUND
    )
    assert found.returncode == 1
    assert found.stderr.count("\n") == 1
    assert "--max-connections" in found.stderr
