"""Clients of the benchmark that do not carry one large body: many small ones, waiting ones, slow ones, single bytes.

Each function has a server under load for a bounded time, checks that it did what it must, and says what it cost.
"""

from __future__ import annotations

import http.client
import itertools
import multiprocessing
import selectors
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from bench.load import LoadError
from bench.servers import Server

SMALL = 1000  # bytes of a small transfer
SMALL_TRANSFERS = 2000
WAITING = 10_000
SLOW_TRANSFERS, SLOW_SIZE, SLOW_PACE = 1000, 1_000_000, 100_000
TICK = 0.05  # seconds between two portions of the slow senders
BYTES = 1000  # that are sent one at a time
BOUND = 60.0  # seconds for anything here


def small(server: Server, where: Callable[[str], str], at_once: int) -> tuple[float, float]:
    """Small bodies through pairs of connections that stay open: transfers per second, and CPU milliseconds of each."""
    body = bytes(SMALL)
    connections = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=30) for _ in range(2 * at_once)]
    pairs = list(zip(connections[::2], connections[1::2], strict=True))
    names = itertools.count()

    def turn() -> None:
        for receiver, sender in pairs:
            target = where(f"small-{next(names)}")
            receiver.request("GET", target.partition("?")[0])
            sender.request("PUT", target, body)
        for pair in pairs:
            for each in pair:
                answer = each.getresponse()
                length = len(answer.read())
                if answer.status not in (200, 201) or (each is pair[0] and length != SMALL):
                    raise LoadError(f"{answer.status}, {length} bytes")

    for _ in range(max(1, 100 // at_once)):
        turn()
    before, began = server.cpu_seconds(), time.monotonic()
    turns = SMALL_TRANSFERS // at_once
    for _ in range(turns):
        turn()
    seconds, cpu = time.monotonic() - began, server.cpu_seconds() - before
    for each in connections:
        each.close()
    return turns * at_once / seconds, cpu / (turns * at_once) * 1e3


@contextmanager
def waiting(server: Server, where: Callable[[str], str]) -> Iterator[float]:
    """``WAITING`` receivers, each at a key of its own; bytes of the server's memory that each takes."""
    with ExitStack() as stack:

        def ask(i: int) -> None:
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), BOUND))
            connection.sendall(f"GET {where(f'waiting-{i}')} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())

        for i in range(WAITING // 10):  # what the first ones cost is not theirs
            ask(i)
        time.sleep(0.5)
        before = server.resident_bytes()
        for i in range(WAITING // 10, WAITING // 10 + WAITING):
            ask(i)
        time.sleep(1)
        yield (server.resident_bytes() - before) / WAITING


def slow(server: Server, where: Callable[[str], str]) -> tuple[float, float]:
    """``SLOW_TRANSFERS`` at once, each paced by its sender: seconds until all are done, CPU seconds per 1e9 bytes."""
    before, began = server.cpu_seconds(), time.monotonic()
    context = multiprocessing.get_context("fork")
    jobs = [context.Process(target=work, args=(server.port, where)) for work in (_slow_receivers, _slow_senders)]
    for job in jobs:
        job.start()
        time.sleep(0.5)
    try:
        for job in jobs:
            job.join(max(0, began + BOUND - time.monotonic()))
            if job.exitcode != 0:
                raise LoadError("not all of the slow transfers were carried")
        seconds = time.monotonic() - began
    finally:
        for job in jobs:
            job.kill()
            job.join()
    cpu = server.cpu_seconds() - before
    return seconds, cpu / (SLOW_TRANSFERS * SLOW_SIZE) * 1e9


def _slow_receivers(port: int, where: Callable[[str], str]) -> None:
    left: dict[socket.socket, int] = {}
    buffer = bytearray(1 << 16)
    with selectors.DefaultSelector() as selector:
        for i in range(SLOW_TRANSFERS):
            connection = socket.create_connection(("127.0.0.1", port), BOUND)
            target = where(f"slow-{i}").partition("?")[0]
            connection.sendall(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            selector.register(connection, selectors.EVENT_READ)
            left[connection] = -1
        while left:
            for key, _ in selector.select():
                connection = key.fileobj  # type: ignore[assignment]
                n = connection.recv_into(buffer)
                if left[connection] < 0:  # heads are short, and come whole
                    _, end, body = bytes(buffer[:n]).partition(b"\r\n\r\n")
                    assert end, bytes(buffer[:n])
                    left[connection], n = SLOW_SIZE, len(body)
                else:
                    assert n, "cut"
                left[connection] -= n
                if not left[connection]:
                    del left[connection]
                    selector.unregister(connection)
                    connection.close()


def _slow_senders(port: int, where: Callable[[str], str]) -> None:
    connections = []
    for i in range(SLOW_TRANSFERS):
        connection = socket.create_connection(("127.0.0.1", port), BOUND)
        head = f"PUT {where(f'slow-{i}')} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {SLOW_SIZE}\r\n\r\n"
        connection.sendall(head.encode())
        connections.append(connection)
    portion = bytes(int(SLOW_PACE * TICK))
    began = time.monotonic()
    for turn in range(SLOW_SIZE // len(portion)):
        time.sleep(max(0, began + turn * TICK - time.monotonic()))
        for connection in connections:
            connection.sendall(portion)
    for connection in connections:
        assert connection.recv(100), "no answer"


def first_byte(server: Server, where: Callable[[str], str]) -> float:
    """Milliseconds from a request with a small body to the body's first byte at a receiver that waits: the median."""
    found = []
    for i in range(100):
        target = where(f"first-{i}")
        with (
            socket.create_connection(("127.0.0.1", server.port), BOUND) as receiver,
            socket.create_connection(("127.0.0.1", server.port), BOUND) as sender,
        ):
            receiver.sendall(f"GET {target.partition('?')[0]} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            time.sleep(0.01)
            began = time.monotonic()
            sender.sendall(
                f"PUT {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {SMALL}\r\n\r\n".encode() + bytes(SMALL)
            )
            data = b""
            while not data.partition(b"\r\n\r\n")[2]:
                more = receiver.recv(1 << 16)
                if not more:
                    raise LoadError("cut before the first byte")
                data += more
            found.append((time.monotonic() - began) * 1e3)
    return median(found)


def byte_by_byte(server: Server | None, where: Callable[[str], str]) -> float:
    """Milliseconds for each of ``BYTES`` bytes that are sent one at a time: the median; directly without a server."""
    with ExitStack() as stack:
        if server is None:
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            sender = stack.enter_context(socket.create_connection(listening.getsockname(), BOUND))
            receiver, _ = listening.accept()
            stack.enter_context(receiver)
        else:
            target = where("bytes")
            receiver = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), BOUND))
            receiver.sendall(f"GET {target.partition('?')[0]} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            time.sleep(0.1)
            sender = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), BOUND))
            sender.sendall(f"PUT {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {BYTES + 1}\r\n\r\n.".encode())
            data = b""
            while not data.endswith(b"."):
                data += receiver.recv(1 << 16)
        sender.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found = []
        for _ in range(BYTES):
            began = time.monotonic()
            sender.sendall(b"x")
            if not receiver.recv(1):
                raise LoadError("cut")
            found.append((time.monotonic() - began) * 1e3)
            time.sleep(0.001)
        return median(found)


def curl(server: Server, where: Callable[[str], str], size: int) -> tuple[float, float]:
    """One file of ``size`` bytes from curl to curl: bytes per second, CPU seconds per 1e9 bytes."""
    target = f"http://127.0.0.1:{server.port}{where('curl')}"
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = Path(folder) / "file"
        with path.open("wb") as file:
            file.truncate(size)
        before, began = server.cpu_seconds(), time.monotonic()
        receiver = subprocess.Popen(["curl", "-fsNo", "/dev/null", target.partition("?")[0]])
        try:
            sender = subprocess.run(["curl", "-fsS", "-o", "/dev/null", "-T", str(path), target], timeout=BOUND)
            if sender.returncode or receiver.wait(BOUND):
                raise LoadError(f"curl ended with {sender.returncode} and {receiver.returncode}")
        except subprocess.TimeoutExpired:
            raise LoadError(f"curl was not done in {BOUND:.0f} s") from None
        finally:
            receiver.kill()
            receiver.wait()
        return size / (time.monotonic() - began), (server.cpu_seconds() - before) / size * 1e9
