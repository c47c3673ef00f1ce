"""Those who use the files API: requests as clients make them, and what every answer has to look like."""

import json
import secrets
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from attrs import frozen
from contract.peers import Answer, Peer
from harness import GAUGES, Server, until

FILES = "/api/files"
UPLOAD = "/api/files/upload"
CHUNKED = "/api/files/upload/chunked"
FIELDS = {"id", "filename", "size", "content_type", "created", "received", "complete"}


def form(
    fields: dict[str, str], data: bytes, name: str = "a.bin", kind: str = "", part: str = "file"
) -> tuple[str, bytes]:
    """The Content-Type and the body of a form whose file stands behind ``fields``, as curl writes them."""
    boundary = secrets.token_hex(16)
    lines = []
    for field, value in fields.items():
        lines.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode())
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{part}"; filename="{escaped}"\r\n'
    if kind:
        head += f"Content-Type: {kind}\r\n"
    lines.append(head.encode() + b"\r\n" + data + f"\r\n--{boundary}--\r\n".encode())
    return f"multipart/form-data; boundary={boundary}", b"".join(lines)


def problem(answer: Answer, status: int, *words: str) -> str:
    """``answer`` refuses with ``status``, in the one shape of all errors (RFC 9457); its sentence has ``words``."""
    assert answer.status == status, answer
    assert answer["content-type"] == "application/problem+json"
    found = json.loads(answer.body)
    assert set(found) == {"type", "title", "status", "detail"}
    assert (found["type"], found["title"], found["status"]) == ("about:blank", HTTPStatus(status).phrase, status)
    detail = str(found["detail"])
    assert detail.endswith((".", "?"))
    for word in words:
        assert word in detail, detail
    for secret in ("Traceback", "/tmp", ".py"):
        assert secret not in detail
    return detail


def file_of(answer: Answer, status: int) -> dict[str, Any]:
    """The file that ``answer`` tells of."""
    assert answer.status == status, answer
    assert answer["content-type"] == "application/json"
    found: dict[str, Any] = json.loads(answer.body)
    assert set(found) == FIELDS
    return found


@frozen
class Flow:
    """A file that is sent in chunks.

    :param longer: whether the last chunk has the rest, as with Flow.js, so that none is short.
    :param tells_size: whether every chunk says how large the file is.
    """

    data: bytes
    size: int = 1 << 16
    identifier: str = "some-file"
    name: str = "a.bin"
    longer: bool = False
    tells_size: bool = True

    @property
    def chunks(self) -> int:
        """How many there are."""
        return max(1, len(self.data) // self.size if self.longer else -(-len(self.data) // self.size))

    def part(self, number: int) -> bytes:
        """The bytes of one."""
        start = (number - 1) * self.size
        return self.data[start:] if number == self.chunks else self.data[start : start + self.size]

    def fields(self, number: int, **changed: object) -> dict[str, str]:
        """The parameters of one; those that are ``None`` are left out."""
        fields: dict[str, object] = {
            "flowChunkNumber": number,
            "flowTotalChunks": self.chunks,
            "flowChunkSize": self.size,
            "flowTotalSize": len(self.data) if self.tells_size else None,
            "flowIdentifier": self.identifier,
            "flowFilename": self.name,
            **changed,
        }
        return {name: str(value) for name, value in fields.items() if value is not None}


class Api:
    """The API of ``server``, as one client sees it.

    :param fields: of every request, such as a secret.
    """

    def __init__(self, server: Server, *fields: str) -> None:
        self.server = server
        self._fields = fields

    def connect(self) -> Peer:
        """A new connection."""
        return Peer(self.server.connect())

    def ask(self, method: str, path: str, *fields: str, body: bytes = b"") -> Answer:
        """One request on a connection of its own."""
        peer = self.connect()
        try:
            return peer.ask(method, path, *self._fields, *fields, body=body).answer()
        finally:
            peer.close()

    # Plain uploads.

    def post(self, data: bytes, name: str = "a.bin", kind: str = "application/octet-stream") -> Answer:
        """Send a raw body."""
        length = () if data else ("Content-Length: 0",)
        return self.ask("POST", f"{UPLOAD}?name={quote(name)}", f"Content-Type: {kind}", *length, body=data)

    def upload(self, data: bytes, name: str = "a.bin", kind: str = "application/octet-stream") -> str:
        """Send a raw body; the id of the file."""
        return str(file_of(self.post(data, name, kind), 201)["id"])

    def begin(self, data: bytes, length: int | None, name: str = "a.bin") -> Peer:
        """Send the start of a raw body of ``length`` bytes, or of one whose end is not known."""
        framing = f"Content-Length: {length}" if length is not None else "Transfer-Encoding: chunked"
        peer = self.connect().ask("POST", f"{UPLOAD}?name={quote(name)}", *self._fields, framing)
        peer.send(data if length is not None else b"%x\r\n%b\r\n" % (len(data), data))
        return peer

    # Chunks.

    def chunk(self, flow: Flow, number: int, *fields: str, data: bytes | None = None, **changed: object) -> Answer:
        """Send a chunk as a form, which has to say how long the last one is."""
        part = flow.part(number) if data is None else data
        if not flow.tells_size:
            changed = {"flowCurrentChunkSize": len(part), **changed}
        kind, body = form(flow.fields(number, **changed), part, "blob")
        return self.ask("POST", CHUNKED, f"Content-Type: {kind}", *fields, body=body)

    def raw_chunk(self, flow: Flow, number: int, *fields: str, data: bytes | None = None, **changed: object) -> Answer:
        """Send a chunk as a raw body."""
        body = flow.part(number) if data is None else data
        length = () if body else ("Content-Length: 0",)
        return self.ask("POST", f"{CHUNKED}?{urlencode(flow.fields(number, **changed))}", *fields, *length, body=body)

    def probe(self, flow: Flow, number: int, **changed: object) -> Answer:
        """Ask whether a chunk is there."""
        return self.ask("GET", f"{CHUNKED}?{urlencode(flow.fields(number, **changed))}")

    # Files.

    def list(self, **query: object) -> list[dict[str, Any]]:
        """The files that a list shows."""
        answer = self.ask("GET", f"{FILES}?{urlencode(query)}" if query else FILES)
        assert answer.status == 200, answer
        assert answer["content-type"] == "application/json"
        found: list[dict[str, Any]] = json.loads(answer.body)
        return found

    def told(self, file: str) -> dict[str, Any] | None:
        """What the list tells of a file."""
        return next((each for each in self.list(per_page=1000) if each["id"] == file), None)

    def read(self, file: str) -> bytes:
        """The bytes of a file."""
        answer = self.ask("GET", f"{FILES}/{file}")
        assert answer.status == 200, answer
        return answer.body

    def clear(self) -> None:
        """Delete everything, and see that nothing is left of it."""
        for each in self.list(per_page=1000):
            assert self.ask("DELETE", f"{FILES}/{each['id']}").status in (204, 404)
        until(lambda: not any(self.server.gauges()[name] for name in GAUGES), "nothing is left")
