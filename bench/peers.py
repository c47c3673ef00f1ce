"""``python -m bench.peers``: beam beside the other relays of the field, each carrying the same bytes in turn.

A peer of ``peers.toml`` is measured when its program is on the path.  Every run has a fresh server; the runs of a case
are taken in turn, so that a slower minute of the machine hits all of them.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from attrs import evolve, field, frozen

from bench.load import Load, LoadError, make_source, run
from bench.servers import (
    Certificate,
    Server,
    ServerError,
    baseline_command,
    beam_command,
    make_certificate,
    started,
)

GIB = 1 << 30
MIB = 1 << 20
WARM_UP = MIB
SMALL = 1000  # bytes of a small transfer
TABLE = "| {:24} | {:>18} | {:>18} | {:>9} |"


@frozen
class Peer:
    """A server to measure; see ``peers.toml``."""

    name: str
    command: list[str]
    target: str = "/{name}"
    tls: list[str] = field(factory=list)
    receivers: int = 1
    files: Mapping[str, str] = field(factory=dict)
    origin: list[str] = field(factory=list)
    own: str = ""  # "baseline", "memory" or "disk": one of ours, started as ``make bench`` does


OURS = (
    Peer("beam", ["beam"], "/{name}?readers={receivers}", ["beam"], receivers=1000, own="memory"),
    Peer("beam, disk", ["beam"], "/{name}", ["beam"], receivers=1000, own="disk"),
    Peer("baseline", ["baseline"], "/{name}", ["baseline"], own="baseline"),
)


@frozen
class Case:
    """What is carried, how often, and by whom.

    :param at_once: for small transfers, how many run at a time; 0 if it is a large one.
    """

    title: str
    load: Load
    runs: int = 3
    at_once: int = 0


CASES = {
    "memory-1": Case("1 GiB, 1 receiver", Load(GIB), 7),
    "memory-4": Case("1 GiB, 4 receivers", Load(GIB, receivers=4), 7),
    "memory-16": Case("1 GiB, 16 receivers", Load(GIB, receivers=16), 7),
    "chunked": Case("1 GiB in chunks, 1 receiver", Load(GIB, chunked=True), 7),
    "tls": Case("1 GiB over TLS, 1 receiver", Load(GIB, tls=True)),
    "small-1": Case("1 KB, one after another", Load(SMALL), at_once=1),
    "small-8": Case("1 KB, 8 at a time", Load(SMALL), at_once=8),
    "small-64": Case("1 KB, 64 at a time", Load(SMALL), at_once=64),
}
SMALL_TRANSFERS = 6000


@frozen
class Result:
    """Bytes or transfers per second, processor seconds per 1e9 bytes delivered or per transfer, bytes of memory."""

    speed: float
    cpu: float
    peak: int


def peers(only: list[str] | None) -> tuple[list[Peer], list[str]]:
    """Those that can be started, and the names of those that cannot."""
    found, missing = list(OURS), []
    tables: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name("peers.toml").read_text())
    for name, table in tables.items():
        if "like" in table:
            table = {**tables[table["like"]], **table}
            del table["like"]
        peer = Peer(name, **table)
        programs = [each[0] for each in (peer.command, peer.origin) if each]
        if all(map(shutil.which, programs)):
            found.append(peer)
        else:
            missing.append(name)
    if only:
        found = [each for each in found if each.own or any(part in each.name for part in only)]
    return found, missing


def can(peer: Peer, case: Case) -> bool:
    """Whether ``peer`` takes part in ``case``."""
    if case.load.receivers > peer.receivers or (case.load.tls and not peer.tls):
        return False
    return not (peer.origin and (case.load.chunked or case.at_once))


@contextmanager
def running(peer: Peer, load: Load, certificate: Certificate, source: int) -> Iterator[Server]:
    """``peer``, and where it fetches from."""
    with ExitStack() as stack:

        def command(port: int, folder: Path) -> list[str]:
            tls = certificate if load.tls else None
            if peer.own == "baseline":
                return baseline_command(port, tls)
            if peer.own:
                return beam_command(port, peer.own, tls, folder)
            filled: Mapping[str, Any] = {
                "port": port,
                "key": certificate.key,
                "certificate": certificate.certificate,
                "folder": folder,
            }
            for name, text in peer.files.items():
                (folder / name).write_text(text.format(**filled))
            if peer.origin:
                folder.chmod(0o755)
                with (folder / "body").open("wb") as body:
                    os.lseek(source, 0, os.SEEK_SET)
                    shutil.copyfileobj(os.fdopen(os.dup(source), "rb"), body)
                origin = subprocess.Popen(
                    [each.format(**filled) for each in peer.origin], stderr=subprocess.DEVNULL, start_new_session=True
                )
                stack.callback(origin.wait)
                stack.callback(os.killpg, origin.pid, signal.SIGKILL)
                while not (folder / "origin.sock").exists():
                    time.sleep(0.02)
            return [each.format(**filled) for each in (peer.tls if load.tls else peer.command)]

        with started(peer.name, command) as server:
            yield server


def measure(peer: Peer, case: Case, source: int, certificate: Certificate) -> Result:
    """Carry what ``case`` says once through a fresh server, after a small transfer that warms it up."""
    load = evolve(case.load, fetched=bool(peer.origin))

    def carry(name: str, load: Load) -> float:
        target = peer.target.format(name=name, receivers=load.receivers)
        asked = None if peer.own else target
        return run(load, server.port, target, source, 60 + load.delivered / 30e6, asked=asked)

    with running(peer, load, certificate, source) as server:
        if case.at_once:
            return measure_small(server, peer.target, case.at_once)
        if not peer.origin:
            carry("warm-up", evolve(load, size=WARM_UP, receivers=1))
        before = server.cpu_seconds()
        seconds = carry("bench", load)
        cpu = server.cpu_seconds() - before
        return Result(load.delivered / seconds / 1e9, cpu / load.delivered * 1e9, server.peak_bytes())


def measure_small(server: Server, target: str, at_once: int) -> Result:
    """Carry small bodies through pairs of connections that stay open, ``at_once`` of them at a time."""
    body = bytes(SMALL)
    connections = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=30) for _ in range(2 * at_once)]
    pairs = list(zip(connections[::2], connections[1::2], strict=True))
    names = itertools.count()

    def turn() -> None:
        for receiver, sender in pairs:
            where = target.format(name=next(names), receivers=1)
            receiver.request("GET", where)
            sender.request("PUT", where, body)
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
    return Result(turns * at_once / seconds, cpu / (turns * at_once) * 1e3, server.peak_bytes())


def spread(values: list[float], digits: int = 2) -> str:
    """The median, and the least and the greatest behind it."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def measure_case(case: Case, those: list[Peer], runs: int | None, certificate: Certificate) -> Iterator[str]:
    """The lines of one table."""
    results: dict[str, list[Result]] = {each.name: [] for each in those if can(each, case)}
    failed: dict[str, str] = {}
    source = make_source(case.load.size)
    try:
        for _ in range(runs or case.runs):
            for peer in those:
                if peer.name in results and peer.name not in failed:
                    try:
                        results[peer.name].append(measure(peer, case, source, certificate))
                    except (LoadError, ServerError, OSError, http.client.HTTPException) as error:
                        failed[peer.name] = str(error)[:80]
    finally:
        os.close(source)
    yield f"### {case.title}\n"
    units = ("transfers/s", "CPU ms each") if case.at_once else ("GB/s delivered", "CPU s per GB")
    yield TABLE.format("", *units, "peak MiB")
    yield TABLE.format("---", "---:", "---:", "---:")
    digits = 0 if case.at_once else 2
    for name, found in results.items():
        if name in failed:
            yield f"| {name:24} | failed: {failed[name]} |"
        else:
            yield TABLE.format(
                name,
                spread([each.speed for each in found], digits),
                spread([each.cpu for each in found]),
                f"{max(each.peak for each in found) / MIB:.0f}",
            )
    yield ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description="Measures beam beside other relays.")
    parser.add_argument("--case", action="append", choices=CASES, help="only this case; may be given again")
    parser.add_argument("--peer", action="append", help="only peers with this in their name, beside ours")
    parser.add_argument("--runs", type=int, help="runs of each case (default 7, or 3)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers and files go in that case too
    those, missing = peers(options.peer)
    print(f"{os.cpu_count()} CPUs, Python {platform.python_version()}, Twisted {version('twisted')}")
    print("median (least-greatest); CPU is the server's, user and system\n")
    for name in missing:
        print(f"not on the path, and not measured: {name}")
    print()
    with TemporaryDirectory(prefix="bench-") as directory:
        certificate = make_certificate(Path(directory))
        for name, case in CASES.items():
            if name in (options.case or CASES):
                for line in measure_case(case, those, options.runs, certificate):
                    print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
