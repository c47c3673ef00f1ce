"""What the tests of resumable uploads have in common: senders that break off, the words of tus, and a wire that breaks.

No rule of beam's is known here but the names of headers.
"""

import base64
import contextlib
import itertools
import random
import re
import select
import signal
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from attrs import define, field, frozen
from contract.peers import PATIENCE, Answer, Cut, Peer
from contract.server import Relay, Server, running
from harness import until

from beam.testing import some_bytes

BODY = some_bytes(3_000_000)
TUS = "/-/tus"
RESUMABLE = "Tus-Resumable: 1.0.0"
OCTETS = "Content-Type: application/offset+octet-stream"
END_SENDER: dict[str, Callable[[Peer], object]] = {
    "closes": Peer.close,
    "resets": Peer.reset,
    "half-closes": Peer.half_close,
}


def content_range(start: int, stop: int, total: int | str) -> str:
    """The header of a part: the bytes from ``start`` up to ``stop``, which is not one of them."""
    return f"Content-Range: bytes {start}-{stop - 1}/{total}"


def offset(relay: Relay, key: str) -> int:
    """The head of a transfer that a sender can continue."""
    return int(relay.ask("HEAD", key)["upload-offset"])


def wait_for_offset(relay: Relay, key: str, n: int) -> None:
    """Wait until ``n`` bytes have come."""
    relay.wait_for_offer(key)
    until(lambda: offset(relay, key) == n, f"{n} bytes of {key} have come")


def begin(relay: Relay, target: str, body: bytes, sent: int, *fields: str) -> Peer:
    """A sender that owes all but the first ``sent`` bytes of ``body``, which have arrived."""
    sender = relay.connect().put(target, body[:sent], *fields, length=len(body))
    wait_for_offset(relay, target.partition("?")[0], sent)
    return sender


def go_on(relay: Relay, target: str, body: bytes, start: int, stop: int | None = None, sent: int | None = None) -> Peer:
    """A sender that continues with the bytes from ``start`` up to ``stop``, or the end.

    :param sent: up to where it sends at once, if not all.
    """
    stop = len(body) if stop is None else stop
    header = content_range(start, stop, len(body))
    return relay.connect().put(target, body[start : stop if sent is None else sent], header, length=stop - start)


def receive(relay: Relay, key: str, n: int | None = None) -> list[Peer]:
    """Receivers that wait for ``key``: as many as a store can be asked for, or ``n``."""
    receivers = [relay.connect().get(key) for _ in range(n or (3 if relay.keeps else 1))]
    relay.wait_for_waiters(len(receivers))
    return receivers


def check_sent(relay: Relay, sender: Peer, size: int) -> None:
    """The sender's last part was answered as a plain PUT is."""
    answer = sender.answer()
    if relay.keeps:
        assert (answer.status, answer.text) == (201, f"stored {size} bytes, kept for 1 s\n"), answer
    else:
        assert (answer.status, answer.text) == (200, f"delivered {size} bytes to 1 receiver\n"), answer


def check_received(receivers: list[Peer], rest: bytes) -> None:
    """What each receiver still gets is ``rest``."""
    for receiver in receivers:
        assert receiver.answer().body == rest


def check_end(relay: Relay, sender: Peer, receivers: list[Peer], rest: bytes, size: int = len(BODY)) -> None:
    """It ends well for everybody."""
    check_received(receivers, rest)
    check_sent(relay, sender, size)


def outcomes(server: Server) -> Counter[str]:
    """How many transfers ended in which way."""
    found = re.compile(r'beam_transfers_total\{outcome="(.*)"\}')
    counted = ((found.fullmatch(name), value) for name, value in server.metrics().items())
    return Counter({match[1]: int(value) for match, value in counted if match and value})


def is_cut(peer: Peer) -> bool:
    """Whether the connection ends before the answer on it does."""
    try:
        peer.answer()
    except (Cut, ConnectionResetError):
        return True
    return False


def is_dismissed(peer: Peer) -> bool:
    """Whether a sender is refused or cut in the middle of its body."""
    try:
        return peer.answer().status >= 400
    except (Cut, ConnectionError):
        return True


def wait_for_records(server: Server, n: int = 1) -> None:
    """Wait until so many uploads are written down; who was answered need not."""
    until(lambda: sum(path.name == "record" for path in lasting_files(server)) == n, f"{n} uploads are written down")


def wait_for_bytes(server: Server, n: int) -> None:
    """Wait until the files of uploads have ``n`` bytes, also if no more come."""
    files = [path for path in lasting_files(server) if path.name == "data"]
    until(lambda: sum(path.stat().st_size for path in files) >= n, f"{n} bytes are in the files")


def crash(server: Server) -> None:
    """End the process with SIGKILL, and start another one on the same folder."""
    running.remove(server)
    server.process.kill()
    server.process.wait(PATIENCE)
    start_again(server)


def start_again(server: Server) -> None:
    """Start another process on the folder of one that has ended."""
    server.start()
    for name in [name for name in server.descriptors_at_rest if "/lasting/" in name]:
        del server.descriptors_at_rest[name]  # of what it found


def drain(server: Server) -> None:
    """Send the first signal; ``ended`` tells the rest."""
    running.remove(server)
    server.process.send_signal(signal.SIGTERM)
    until(lambda: server.gauge("draining") == 1, "it drains")


def ended(server: Server) -> int:
    """Its exit status."""
    return server.process.wait(PATIENCE)


def lasting_files(server: Server) -> list[Path]:
    """What its stores keep of uploads that may be continued."""
    return [path for path in server.folder.glob("**/lasting/**/*") if path.is_file()]


def base64_of(data: bytes | str) -> str:
    """As tus writes values."""
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def metadata(values: Mapping[str, str]) -> str:
    """The header with these values."""
    return "Upload-Metadata: " + ",".join(f"{name} {base64_of(value)}" for name, value in values.items())


@frozen
class Tus:
    """A client of the protocol that does what a test says, right or wrong.

    :ivar root: the path of the endpoint.
    """

    relay: Relay
    root: str = TUS
    made: list[str] = field(factory=list, repr=False)

    def start(self, method: str, target: str, *fields: str, body: bytes = b"", length: int | None = None) -> Peer:
        """Send a request, of whose ``length`` bytes only ``body`` comes at once, and hear nothing yet."""
        if length is not None:
            fields += (f"Content-Length: {length}",)
            return self.relay.connect().ask(method, target, RESUMABLE, *fields).send(body)
        return self.relay.connect().ask(method, target, RESUMABLE, *fields, body=body)

    def heard(self, peer: Peer) -> Answer:
        """What it answers."""
        answer = peer.answer()
        assert answer["tus-resumable"] == "1.0.0"
        if answer.status == 201:
            self.made.append(answer["location"])
        return answer

    def ask(self, method: str, target: str, *fields: str, body: bytes = b"") -> Answer:
        """One request on a connection of its own."""
        peer = self.start(method, target, *fields, body=body)
        try:
            return self.heard(peer)
        finally:
            peer.close()

    def post(self, *fields: str, query: str = "", body: bytes = b"") -> Answer:
        """Ask for an upload."""
        return self.ask("POST", self.root + query, *fields, body=body)

    def create(self, length: int | None, *fields: str, query: str = "", **values: str) -> "Upload":
        """A new upload of so many bytes, or of a length that is told later.

        :param values: its metadata.
        """
        size = "Upload-Defer-Length: 1" if length is None else f"Upload-Length: {length}"
        return self.created(self.post(size, *([metadata(values)] if values else []), *fields, query=query))

    def created(self, answer: Answer) -> "Upload":
        """The upload that ``answer`` tells of."""
        assert answer.status == 201, answer
        place = answer["location"]
        assert re.fullmatch(re.escape(self.root) + "/[-\\w]+", place)
        return Upload(self, place, answer.get("content-location") or "")

    def terminate_all(self) -> None:
        """End what was made here and still goes on."""
        for place in self.made:
            assert self.ask("DELETE", place).status in (204, 404, 410)


@frozen
class Upload:
    """One upload.

    :ivar key: the path under which it can be read; empty if there is none.
    """

    tus: Tus
    place: str
    key: str

    def head(self, *fields: str) -> Answer:
        """Ask how far it is."""
        return self.tus.ask("HEAD", self.place, *fields)

    def offset(self) -> int:
        """How far it is."""
        answer = self.head()
        assert answer.status == 200, answer
        return int(answer["upload-offset"])

    def start_patch(self, offset: int, body: bytes, *fields: str, length: int | None = None) -> Peer:
        """Send bytes, of which there may be more to come, and hear nothing yet."""
        length = len(body) if length is None else length
        return self.tus.start(
            "PATCH", self.place, OCTETS, f"Upload-Offset: {offset}", *fields, body=body, length=length
        )

    def patch(self, offset: int, body: bytes, *fields: str) -> Answer:
        """Send bytes."""
        return self.tus.heard(self.start_patch(offset, body, *fields))

    def delete(self) -> Answer:
        """End it."""
        return self.tus.ask("DELETE", self.place)

    def check_sent(self, answer: Answer, offset: int) -> None:
        """``answer`` says that the upload is at ``offset`` now."""
        assert (answer.status, answer["upload-offset"], answer.body) == (204, str(offset), b"")


BLOCK = 4096  # bytes; a server that starts anew goes on where one ends
WAYS_TO_BREAK = ("resets", "closes", "vanishes")


@define
class _Wire:
    client: socket.socket
    server: socket.socket


class BrittleWire:
    """A TCP proxy that breaks the connection on which the upload's next breaking point is reached.

    ``resets`` and ``closes`` are seen by both sides.  Of a client that ``vanishes`` the server sees nothing: its
    connection stays.

    :param gaps: bytes from clients, over all connections, from one breaking point to the next.
    :param loses_answer_after: breaks the connection on which the first answer behind so many bytes from clients comes.
    """

    def __init__(
        self,
        port: int,
        gaps: Sequence[int] = (),
        ways: Sequence[str] = WAYS_TO_BREAK,
        loses_answer_after: int | None = None,
    ) -> None:
        self.broken = 0
        self._server_port = port
        self._gaps = list(gaps)
        self._ways = itertools.cycle(ways)
        self._loses_answer_after = loses_answer_after
        self._passed = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._wires: list[_Wire] = []
        self._left: list[socket.socket] = []  # the server's side of clients that vanished
        self._ending, self._end = socket.socketpair()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> "BrittleWire":
        return self

    def __exit__(self, *_: object) -> None:
        self._end.close()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        for each in (self._listener, self._ending, *self._left):
            each.close()

    def _run(self) -> None:
        while True:
            sides = [side for wire in self._wires for side in (wire.client, wire.server)]
            ready, _, _ = select.select([self._listener, self._ending, *sides], [], [])
            if self._ending in ready:
                break
            if self._listener in ready:
                self._accept()
            for wire in list(self._wires):
                if wire.client in ready:
                    self._up(wire)
                if wire.server in ready and wire in self._wires:
                    self._down(wire)
        for wire in list(self._wires):
            self._break(wire, "closes")

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", self._server_port), PATIENCE)
        except ConnectionRefusedError:
            client.close()
            return
        client.settimeout(PATIENCE)
        self._wires.append(_Wire(client, server))

    def _up(self, wire: _Wire) -> None:
        try:
            data = wire.client.recv(64 << 10)
        except ConnectionResetError:
            return self._break(wire, "resets")
        if not data:
            return self._break(wire, "closes")
        breaks = False
        if self._gaps:
            breaks = self._gaps[0] <= len(data)
            data = data[: self._gaps[0]]
            self._gaps[0] -= len(data)
        self._passed += len(data)
        try:
            wire.server.sendall(data)
        except OSError:
            return self._break(wire, "resets")
        if breaks:
            del self._gaps[0]
            self.broken += 1
            return self._break(wire, next(self._ways))
        return None

    def _down(self, wire: _Wire) -> None:
        try:
            data = wire.server.recv(64 << 10)
        except ConnectionResetError:
            return self._break(wire, "resets")
        if not data:
            return self._break(wire, "closes")
        if self._loses_answer_after is not None and self._passed >= self._loses_answer_after:
            self._loses_answer_after = None
            self.broken += 1
            return self._break(wire, "resets")
        with contextlib.suppress(OSError):
            wire.client.sendall(data)
        return None

    def _break(self, wire: _Wire, way: str) -> None:
        self._wires.remove(wire)
        sides = [wire.client, wire.server]
        if way == "vanishes":
            self._left.append(sides.pop())
        for side in sides:
            if way != "closes":
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            side.close()


def gaps(seed: int, size: int, breaks: int) -> list[int]:
    """Distances between breaking points that lie anywhere in ``size`` bytes."""
    points = sorted(random.Random(seed).sample(range(size // 20, size), breaks))
    return [after - before for before, after in itertools.pairwise([0, *points])]
