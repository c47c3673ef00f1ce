"""A server that is killed in earnest, in the middle of whatever its threads do: what it promised is there."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from unit.servers import Server
from unit.test_pieces import GONE, SIZE

from beam.interfaces import IFound
from beam.testing import some_bytes

SERVER = """
import sys
from pathlib import Path
from twisted.internet import reactor
from beam.errors import SenderLost, Unavailable
from beam.quota import Quota
from beam.store import House
from beam.store.disk import DiskStore
from beam.testing import some_bytes

SIZE = 100 << 10
store = DiskStore(Path(sys.argv[1]), House(reactor, Quota(64 << 20)), Quota(1 << 30), 256 << 10, 256 << 10)
store.start()

def say(*words):
    print(*words, flush=True)

def failed(error):
    say("failed", error.sentence)

def fill(spool, data, then):
    class Producer:
        at = 0
        paused = False
        def pauseProducing(self):
            self.paused = True
        def resumeProducing(self):
            self.paused = False
            reactor.callLater(0, self.go_on)
        def go_on(self):
            while self.at < len(data) and not self.paused:
                room = spool.room()[: len(data) - self.at][:50000]
                if not room:
                    self.paused = True
                    return
                room[:] = data[self.at : self.at + len(room)]
                self.at += len(room)
                spool.commit(len(room))
            if self.at == len(data) and not self.paused:
                self.paused = True
                then()
    producer = Producer()
    spool.registerProducer(producer, True)
    producer.go_on()

def whole(number):
    data = some_bytes(20 * SIZE + number, number)
    state = ["begun"]
    record = lambda: f"whole {number} {state[0]}".encode()
    spool = store.create_lasting(len(data) if number % 2 else None, failed, record)
    def finish():
        state[0] = "complete"
        spool.finish().addCallback(safe)
    def safe(_):
        say("safe", number)
        if number % 3 == 0:
            say("removing", number)
            spool.release()
            say("removed", number)
        whole(number + 1)
    def saved(_):
        say("saved", number)
        fill(spool, data, finish)
    spool.save().addCallback(saved)

def pieces(number):
    data = some_bytes(9 * SIZE, number)
    spool = store.create_pieces(len(data), failed, lambda: f"pieces {number}".encode())
    left = [5, 0, 8, 3, 1, 2, 7, 4, 6]
    missing = set(left)
    def more(_=None):
        if left:
            one = left.pop()
            given_up = spool.piece(one * SIZE, SIZE, failed)
            fill(given_up, bytes(SIZE), lambda: None)
            given_up.abort(SenderLost("gone"))
            piece = spool.piece(one * SIZE, SIZE, failed)
            fill(piece, data[one * SIZE : one * SIZE + SIZE], lambda: piece.finish().addCallback(there, one))
    def there(_, one):
        say("there", number, one)
        missing.remove(one)
        more()
        if not missing:
            spool.finish().addCallback(lambda _: pieces(number + 1))
    def saved(_):
        more()
        more()
        more()
    spool.save().addCallback(saved)

reactor.callWhenRunning(whole, 1)
reactor.callWhenRunning(pieces, 1)
reactor.run()
"""


@pytest.mark.parametrize("seed", range(6))
def test_killed_at_any_time(tmp_path: Path, seed: int) -> None:
    """Every body is right, byte for byte, and none is missing that was said to be there."""
    path = tmp_path / "data"
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-c", SERVER, str(path)], stdout=output)
        try:
            end = time.monotonic() + 30
            while not log.read_bytes():
                assert process.poll() is None and time.monotonic() < end, "it says nothing"
                time.sleep(0.005)
            time.sleep(Random(seed).uniform(0, 0.4))  # any moment is right
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait(30)
    told = [tuple(line.split()) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
    assert not any(words[0] == "failed" for words in told), told
    server = Server(path, cap=1 << 30, memory=1 << 30)
    found = {each.record: each for each in server.store.recover()}
    assert server.store.usage() >= sum(each.size for each in found.values())
    files = {each.read_bytes(): each.with_name("data") for each in path.glob("server-*/lasting/*/record")}
    assert files.keys() == found.keys()
    for record, each in found.items():
        kind, number, *state = record.decode().split()
        if kind == "whole":
            check_whole(int(number), state[0], each, files[record], told)
        else:
            check_pieces(server, int(number), each, files[record], told)
    for words in told:
        if words[0] == "safe" and ("removing", words[1]) not in told:
            assert b"whole %s complete" % words[1].encode() in found
        if words[0] == "saved" and ("removing", words[1]) not in told:
            assert any(record.startswith(b"whole %s " % words[1].encode()) for record in found)
        if words[0] == "removed":
            assert not any(record.startswith(b"whole %s " % words[1].encode()) for record in found)
        if words[0] == "there":
            assert b"pieces %s" % words[1].encode() in found
    for each in found.values():
        each.remove()
    server.end()


def check_whole(number: int, state: str, found: IFound, file: Path, told: list[tuple[str, ...]]) -> None:
    """What came of it is a beginning of it; if it was complete, it is."""
    data = some_bytes(20 * SIZE + number, number)
    content = file.read_bytes()
    assert content == data[: len(content)] and found.size == len(content)
    assert state == "begun" or content == data


def check_pieces(server: Server, number: int, found: IFound, file: Path, told: list[tuple[str, ...]]) -> None:
    """What is there is right, and what was said to be there is."""
    data, content = some_bytes(9 * SIZE, number), file.read_bytes()
    spool = server.pieces(len(data), found)
    for one in range(9):
        start = one * SIZE
        if spool.has(start, SIZE):
            assert content[start : start + SIZE] == data[start : start + SIZE]
        else:
            assert ("there", str(number), str(one)) not in told
    spool.abort(GONE)
