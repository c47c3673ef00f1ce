"""One upload by tus that is broken ten times while receivers read it.

``make ordeal``: in turn a client is killed, a connection reset and, where the store
is a disk, the server killed.  Receivers come back by themselves whenever they are cut; the first may also break off.
"""

import argparse
import hashlib
import http.client
import os
import random
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

from attrs import define, field
from harness import free_port, twist, until

from beam.values import size

BREAKS = 10
STEP = 1 << 20
PATIENCE = 300.0  # seconds for any one thing
RESET = struct.pack("ii", 1, 0)  # of SO_LINGER: a close is a reset
FAULTS = (OSError, http.client.HTTPException)
TUS = {"Tus-Resumable": "1.0.0"}
PART = {**TUS, "Content-Type": "application/offset+octet-stream"}


@define(eq=False)
class Receiver:
    """Reads all of it, however often it is cut.

    :param leaves: offsets at which it breaks off of itself.
    """

    port: int
    length: int
    leaves: list[int]
    at: int = 0
    returns: int = 0
    etag: str = ""
    digest: "hashlib._Hash" = field(init=False, factory=hashlib.sha256)
    refusal: str = ""

    def run(self) -> None:
        """Until it has all, or is refused for good."""
        while self.at < self.length and not self.refusal:
            try:
                self._read()
            except FAULTS:
                time.sleep(0.1)  # the server may be starting
            self.returns += self.at < self.length

    def _read(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        back = {"Range": f"bytes={self.at}-", "If-Range": self.etag} if self.at else {}
        connection.request("GET", "/big?wait=60", headers=back)
        response = connection.getresponse()
        if response.status in (404, 503):  # the server has just begun
            raise OSError(response.read())
        if response.status != (206 if self.at else 200):
            self.refusal = f"{response.status} {response.read()!r}"
            return
        self.etag = response.headers["ETag"]
        while data := response.read1(STEP):
            self.digest.update(data)
            self.at += len(data)
            if self.leaves and self.at > self.leaves[0]:
                self.leaves.pop(0)
                connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                break
        connection.close()


@define(eq=False)
class Ordeal:
    """One upload, and everything that happens to it."""

    file: Path
    folder: Path
    store: str
    port: int = field(init=False, factory=free_port)
    where: str = ""
    peak: int = 0  # of the server, in KiB
    server: "subprocess.Popen[bytes]" = field(init=False)

    def start(self) -> None:
        """Start a server, which goes on with what the last one left."""
        store = f"disk:{self.folder}" if self.store == "disk" else "memory"
        command = [twist(), "beam", "--listen", f"127.0.0.1:{self.port}", "--put-ttl", "60", "--store", store]
        self.server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: self._answers(), "the server answers")

    def _answers(self) -> bool:
        try:
            return self.ask("GET", "/-/health").status == 200
        except FAULTS:
            return False

    def ask(self, method: str, path: str, **fields: str) -> http.client.HTTPResponse:
        """The answer to one request without a body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        connection.request(
            method, path, headers=TUS | {name.replace("_", "-"): value for name, value in fields.items()}
        )
        response = connection.getresponse()
        response.read()
        connection.close()
        return response

    def offset(self) -> int:
        """Where the upload goes on; asking ends a part that still comes."""
        return int(self.ask("HEAD", self.where).headers["Upload-Offset"])

    def came(self) -> int:
        """How much of it is there; asking so disturbs nobody."""
        return int(self.ask("HEAD", "/big").headers.get("Upload-Offset", 0))

    def client(self) -> "subprocess.Popen[bytes]":
        """A process that sends the rest."""
        at, url = self.offset(), f"http://127.0.0.1:{self.port}{self.where}"
        fields = [each for name, value in PART.items() for each in ("-H", f"{name}: {value}")]
        curl = ["curl", "-sSf", "-o", "/dev/null", "--limit-rate", "400M", "-X", "PATCH", *fields]
        with self.file.open("rb", buffering=0) as rest:
            rest.seek(at)
            return subprocess.Popen([*curl, "-H", f"Upload-Offset: {at}", "-T", "-", url], stdin=rest)

    def kill_client(self, point: int, and_server: bool = False) -> None:
        """Kill who sends when ``point`` is there, and the server as well."""
        client = self.client()
        until(lambda: self.came() >= point or client.poll() is not None, "the point is reached", PATIENCE)
        if and_server:
            self.note_peak()
            self.server.kill()
            self.server.wait()
        client.kill()
        client.wait()
        if and_server:
            self.start()

    def reset(self, point: int) -> None:
        """Send up to ``point``, and reset the connection."""
        at, length = self.offset(), self.file.stat().st_size
        fields = {**PART, "Host": "x", "Upload-Offset": str(at), "Content-Length": str(length - at)}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        with socket.create_connection(("127.0.0.1", self.port)) as peer, self.file.open("rb") as file:
            peer.sendall(f"PATCH {self.where} HTTP/1.1\r\n{head}\r\n".encode())
            file.seek(at)
            while at < point:
                data = file.read(min(STEP, point - at))
                peer.sendall(data)
                at += len(data)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    def note_peak(self) -> None:
        """Note how much memory the server has had at most."""
        found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{self.server.pid}/status").read_text())
        self.peak = max(self.peak, int(found[1]) if found else 0)

    def run(self, chance: random.Random, receivers: int, leaves: int) -> list[Receiver]:
        """All of it; the receivers, when they are done."""
        length = self.file.stat().st_size
        self.start()
        try:
            key = f"key {b64encode(b'big').decode()}"
            self.where = self.ask("POST", "/-/tus", Upload_Length=str(length), Upload_Metadata=key).headers["Location"]
            places = [sorted(chance.randrange(length) for _ in range(leaves))] + [[]] * (receivers - 1)
            reading = [Receiver(self.port, length, each) for each in places]
            threads = [threading.Thread(target=each.run, daemon=True) for each in reading]
            for thread in threads:
                thread.start()
            for number, point in enumerate(sorted(chance.randrange(length) for _ in range(BREAKS))):
                if number % 3 == 1:
                    self.reset(point)
                else:
                    self.kill_client(point, and_server=self.store == "disk" and number % 3 == 2)
            if self.offset() < length:
                assert self.client().wait(PATIENCE) == 0, "the last client sends what is missing"
            for thread in threads:
                thread.join(PATIENCE)
            self.note_peak()
            return reading
        finally:
            self.server.kill()
            self.server.wait()


def main(arguments: Sequence[str]) -> int:
    """Run one, and tell how it went; 0 if everybody has all of the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=size, default=2 << 30)
    parser.add_argument("--store", choices=("memory", "disk"), default="disk")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--receivers", type=int, default=3)
    parser.add_argument("--leaves", type=int, default=0, help="how often the first of them breaks off of itself")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        file, digest = Path(folder, "file"), hashlib.sha256()
        with file.open("wb") as target:
            for start in range(0, asked.size, STEP):
                digest.update(data := os.urandom(min(STEP, asked.size - start)))
                target.write(data)
        ordeal = Ordeal(file, Path(folder, "store"), asked.store)
        receivers = ordeal.run(random.Random(asked.seed), asked.receivers, asked.leaves)
    equal = [each.digest.digest() == digest.digest() for each in receivers]
    for each, same in zip(receivers, equal, strict=True):
        print(f"{each.at} bytes, came back {each.returns} times: {'equal' if same else each.refusal or 'different'}")
    print(f"peak of the server: {ordeal.peak >> 10} MiB")
    return 0 if all(equal) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
