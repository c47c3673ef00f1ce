"""Plays a scene against a server on this machine, and notes what its connections heard.

A scene is a script (``scenes.py``); no rule of any server's is known here.  After each step that is not a hearing one
the player waits for three round trips on a connection of its own: a server with one thread has then seen the step,
whatever the machine is busy with, so the order of the steps is the order in which they happen.
"""

import hashlib
import json
import re
import socket
import struct
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h11
from attrs import asdict, define, field
from profiles.scenes import Act, Scene, Step

Heard = dict[str, Any]  # what one step heard, as it stands in the recording

PATIENCE = 5.0  # seconds for what must happen soon
BOUND = 10.0  # seconds after which no further step of a scene begins
A_WHILE = 0.05  # seconds for which what must not happen is watched
LAST_LOOK = 0.1  # seconds for which a recording watches, behind the last step, who is disconnected
WHOLE_IN_RECORDING = 2000  # bytes; of longer bodies the recording has the size and the digest
RECORDING = Path(__file__).with_name("piping.json")
ANYONES = ("date", "connection", "keep-alive")  # headers that are the HTTP library's, not the application's


_open: list["Connection"] = []


def leave_all() -> None:
    """Leave every connection that a failed test has left open."""
    while _open:
        _open.pop().leave()


class Cut(Exception):
    """The connection ended before the answer did."""


@define
class Connection:
    """One connection of a scene, from its first step to the end."""

    port: int
    tcp: socket.socket = field(init=False)
    left: bool = field(init=False, default=False)  # by us
    ended: str | None = field(init=False, default=None)  # by the server: closed or reset
    _methods: deque[str] = field(init=False, factory=deque)
    _parser: h11.Connection | None = field(init=False, default=None)
    _response: h11.Response | None = field(init=False, default=None)
    _interim: list[int] = field(init=False, factory=list)
    _told: bool = field(init=False, default=False)  # whether a step has heard the head
    _behind: bytes = field(init=False, default=b"")  # came behind the last answer
    _body: bytearray = field(init=False, factory=bytearray)  # came, and no step has heard it
    _whole: bool | None = field(init=False, default=None)  # of the answer's body; None: there may be more

    def __attrs_post_init__(self) -> None:
        self.tcp = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        _open.append(self)

    def send(self, data: bytes) -> None:
        """Send; that nobody takes it is for the hearing steps to say."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.tcp.sendall(data)

    def ask(self, data: bytes) -> None:
        """Send what begins with a request."""
        self._methods.append(data.split(b" ", 1)[0].decode())
        self.send(data)

    def _receive(self) -> bytes:
        if self.ended:
            return b""
        try:
            data = self.tcp.recv(1 << 18)
        except ConnectionResetError:
            self.ended = "reset"
            raise Cut("reset") from None
        if not data:
            self.ended = "closed"
        return data

    def _event(self) -> object:
        if self._parser is None:
            self._parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
            method = self._methods.popleft() if self._methods else "GET"
            self._parser.send(h11.Request(method=method, target="/", headers=[("host", "scene")]))
            self._parser.send(h11.EndOfMessage())
            if self._behind:
                self._parser.receive_data(self._behind)
                self._behind = b""
        try:
            while (event := self._parser.next_event()) is h11.NEED_DATA:
                self._parser.receive_data(self._receive())
        except h11.RemoteProtocolError as error:
            if not self.ended:
                raise AssertionError(f"no HTTP: {error}") from error
            raise Cut(str(error)) from None
        if isinstance(event, h11.ConnectionClosed):
            raise Cut("no answer")
        return event

    def head(self) -> Heard:
        """The head of the answer."""
        self._told = True
        while self._response is None:
            try:
                event = self._event()
            except Cut:
                return {"status": None}
            if isinstance(event, h11.InformationalResponse):
                self._interim.append(event.status_code)
            else:
                assert isinstance(event, h11.Response), event
                self._response = event
        return {
            "status": self._response.status_code,
            "http": self._response.http_version.decode(),
            "interim": list(self._interim),
            "headers": normal([(name.decode(), value.decode("latin-1")) for name, value in self._response.headers]),
        }

    def _head_once(self) -> Heard:
        """The head, if no step has heard it."""
        return {} if self._told else self.head()

    def _more(self) -> bool:
        """Read on in the body; whether something came."""
        if self._response is None:
            self.head()
        if self._response is None or self._whole is not None:
            return False
        try:
            event = self._event()
        except Cut:
            self._whole = False
            return False
        if isinstance(event, h11.Data):
            self._body += event.data
            return True
        assert isinstance(event, h11.EndOfMessage), event
        self._whole = True
        return False

    def take(self, n: int) -> bytes:
        """The next ``n`` bytes of the body as soon as they are there; fewer if it ends before."""
        while len(self._body) < n and self._more():
            pass
        taken = bytes(self._body[:n])
        del self._body[:n]
        return taken

    def lines(self, n: int) -> Heard:
        """The next ``n`` lines as soon as they are there; fewer if the body ends before."""
        head = self._head_once()
        while self._body.count(b"\n") < n and self._more():
            pass
        lines = bytes(self._body).decode("latin-1").splitlines(keepends=True)[:n]
        del self._body[: sum(map(len, lines))]
        return {**head, "lines": lines}

    def some(self, n: int) -> Heard:
        """The next ``n`` bytes as soon as they are there; fewer if the body ends before."""
        return {**self._head_once(), "body": in_recording(self.take(n))}

    def rest(self) -> Heard:
        """What is left of the answer, and whether all of it came."""
        while self._more():
            pass
        heard = {"body": in_recording(self.take(len(self._body))), "whole": bool(self._whole)}
        if self._whole and self._parser is not None:
            self._behind = self._parser.trailing_data[0]
            self._parser = self._response = self._whole = None
            self._told = False
            self._interim.clear()
        return heard

    def answer(self) -> Heard:
        """The answer, and whether all of it came."""
        return {**self.head(), **self.rest()}

    def end(self) -> Heard:
        """What is left of the answer, if there is one (else its status is None), and the connection's end."""
        heard = {**self._head_once(), **self.rest()}
        behind = bytearray(self._behind)
        try:
            while data := self._receive():
                behind += data
        except Cut:
            pass
        return {**heard, "behind": in_recording(bytes(behind)), "ended": True}

    def silence(self, seconds: float = A_WHILE) -> Heard:
        """Whether nothing comes, not even the end."""
        if self._body or self._behind or self.ended:
            return {"silence": False}
        self.tcp.settimeout(seconds)
        try:
            data = self._receive()
        except TimeoutError:
            return {"silence": True}
        except Cut:
            data = b""
        finally:
            self.tcp.settimeout(PATIENCE)
        if self._parser is not None:
            self._parser.receive_data(data)
        else:
            self._behind = data
        return {"silence": False}

    def last_look(self) -> str:
        """How the connection stands behind the last step: open, left (by us), closed or reset."""
        if self.left:
            return "left"
        self.tcp.settimeout(LAST_LOOK)
        try:
            while self._receive():
                pass
        except (TimeoutError, Cut):
            pass
        return self.ended or "open"

    def leave(self, reset: bool = False) -> None:
        """Close, as a program that ends does, or with a reset."""
        if reset and not self.left:
            self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.left = True
        self.tcp.close()


def normal(fields: list[tuple[str, str]]) -> dict[str, list[str]]:
    """Headers by their names in lower case, without those that say nothing about the application."""
    found: dict[str, list[str]] = {}
    for name, value in fields:
        if name.lower() not in ANYONES:
            found.setdefault(name.lower(), []).append(re.sub(r"'nonce-[^']+'", "'nonce-...'", value))
    return {name: sorted(values) for name, values in sorted(found.items())}


def in_recording(data: bytes) -> str:
    """``data`` as it stands in the recording."""
    if len(data) <= WHOLE_IN_RECORDING:
        return data.decode("latin-1")
    return f"{len(data)} bytes, sha-256 {hashlib.sha256(data).hexdigest()}"


def digest(scene: Scene) -> str:
    """What changes when the scene's script does."""
    steps = [{**asdict(step), "act": step.act.name, "data": in_recording(step.data)} for step in scene.steps]
    return hashlib.sha256(json.dumps(steps).encode()).hexdigest()[:16]


def round_trips(port: int) -> None:
    """Wait until the server has come round three times."""
    connection = Connection(port)
    try:
        for _ in range(3):
            connection.ask(b"GET /version HTTP/1.1\r\nHost: scene\r\n\r\n")
            assert connection.answer()["status"] == 200, "/version does not answer"
    finally:
        connection.leave()


@contextmanager
def _named(scene: Scene, number: int, step: Step) -> Iterator[None]:
    try:
        yield
    except (OSError, AssertionError) as error:
        raise AssertionError(
            f"{scene.name}, step {number}: {step.who} {step.act.value} {step.data[:60]!r}: {error}"
        ) from error


def _hear(connection: Connection, step: Step) -> Heard:
    match step.act:
        case Act.HEAD:
            return connection.head()
        case Act.LINES:
            return connection.lines(step.count)
        case Act.BYTES:
            return connection.some(step.count)
        case Act.REST:
            return connection.rest()
        case Act.ANSWER:
            return connection.answer()
        case Act.END:
            return connection.end()
        case _:
            return connection.silence()


def _do(connection: Connection, step: Step) -> None:
    match step.act:
        case Act.ASK:
            connection.ask(step.data)
        case Act.SEND:
            connection.send(step.data)
        case Act.HALF_CLOSE:
            connection.tcp.shutdown(socket.SHUT_WR)
        case _:
            connection.leave(reset=step.act is Act.RESET)


def play(scene: Scene, port: int, last_look: bool = False) -> Heard:
    """Play ``scene``, and return what was heard in the order of its steps.

    :param port: of the server on this machine.
    :param last_look: note as well how each connection stands behind the last step.
    :raises AssertionError: a step heard neither what it waits for nor an end in ``PATIENCE`` seconds.
    """
    cast: dict[str, Connection] = {}
    heard = []
    began = time.monotonic()
    try:
        for number, step in enumerate(scene.steps):
            with _named(scene, number, step):
                assert time.monotonic() - began < BOUND, f"the scene is longer than {BOUND:g} s"
                if step.who not in cast:
                    cast[step.who] = Connection(port)
                if step.act.hears:
                    heard.append({"who": step.who, "act": step.act.value, **_hear(cast[step.who], step)})
                    if scene.page and "headers" in heard[-1]:
                        heard[-1].pop("body", None)
                        heard[-1]["headers"] = {"content-type": heard[-1]["headers"].get("content-type", [])}
                else:
                    _do(cast[step.who], step)
                    round_trips(port)
        ended = {who: connection.last_look() for who, connection in cast.items()} if last_look else {}
    finally:
        for connection in cast.values():
            connection.leave()
    return {"heard": heard, "ended": ended}


def wait_until_up(port: int, patience: float = 20.0) -> None:
    """Until somebody accepts on ``port``."""
    end = time.monotonic() + patience
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < end, f"nobody listens on {port}"
            time.sleep(0.02)
