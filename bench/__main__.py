"""``python -m bench``: what is measured, beside what, against which bounds, and how it is printed.

Each row carries the same bytes through beam and through the baseline in turn, each time through a fresh server, so that
a peak of memory belongs to its row and a slower minute of the machine hits both. Ratios are made pair by pair.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from attrs import evolve, frozen

from bench.figures import GIB, MIB, spread
from bench.load import Load, LoadError, make_source, run
from bench.servers import Certificate, ServerError, make_certificate, running

SLOW = 20e6
MEMORY_BOUND = 60 * MIB + 20 * MIB  # of the server, and of its one running transfer
WARM_UP = MIB
TABLE = "{:31} {:>7} {:12} {:>20} {:>20} {:>15}"


@frozen
class Row:
    """One case; ``cpu`` and ``speed`` are its bounds, as ratios of beam to the baseline with one receiver.

    :param beside: another load through beam that stands in the baseline's place.
    :param other: what stands there.
    """

    title: str
    load: Load
    store: str = "memory"
    cpu: float | None = None
    speed: float | None = None
    once: bool = False
    beside: Load | None = None
    other: str = "baseline"


ROWS = {
    "memory-1": Row("memory, 1 receiver", Load(GIB), cpu=0.37, speed=2.0),
    "memory-4": Row("memory, 4 receivers", Load(GIB, receivers=4), cpu=0.35),
    "memory-16": Row("memory, 16 receivers", Load(GIB, receivers=16), cpu=0.32),
    "disk-1": Row("disk, 1 receiver", Load(GIB), store="disk", cpu=0.8),
    "disk-4": Row("disk, 4 receivers", Load(GIB, receivers=4), store="disk"),
    "tls": Row("TLS up and down", Load(GIB, tls=True), cpu=0.75),
    "chunked": Row("chunked up and down", Load(GIB, chunked=True), cpu=0.5),
    "forward": Row(
        "forward",
        Load(GIB, chunked=True, forwarded=True),
        cpu=2.0,
        beside=Load(GIB, chunked=True, unframed=True),
        other="producer end",
    ),
    "tus": Row("tus, parts of 16 MiB", Load(GIB, part=16 * MIB), cpu=1.5, beside=Load(GIB), other="one PUT"),
    "tus-disk": Row(
        "tus to disk, parts of 16 MiB",
        Load(GIB, part=16 * MIB),
        store="disk",
        cpu=1.5,
        beside=Load(GIB),
        other="one PUT",
    ),
    "slow": Row("receiver at 20 MB/s", Load(200 * 10**6, pace=SLOW)),
    "huge": Row("at 20 MB/s for 20 s", Load(20 * GIB, pace=SLOW, pace_seconds=20), once=True),
}


@frozen
class Result:
    """What one transfer cost: bytes per second, processor seconds per 1e9 bytes delivered, bytes of memory."""

    speed: float
    cpu: float
    peak: int


def measure(name: str, row: Row, source: int, certificate: Certificate) -> Result:
    """Carry the row's bytes once through a fresh server, after a small transfer that warms it up."""
    load = row.load if name == "beam" else row.beside or evolve(row.load, receivers=1)
    store = row.store
    sink = None
    if load.forwarded:
        sink = socket.create_server(("127.0.0.1", 0))
        store = f"forward:http://127.0.0.1:{sink.getsockname()[1]}/{{key}}"
    server_name = "baseline" if name == "baseline" and row.beside is None else "beam"
    with running(server_name, store, certificate if load.tls else None) as server, sink or nullcontext():
        run(evolve(load, size=WARM_UP, receivers=1, pace=None), server.port, "/warm-up", source, 30, sink)
        before = server.cpu_seconds()
        # beam starts when all are there; the baseline, and a store that keeps, have no such option
        gathers = server_name == "beam" and store == "memory"
        target = f"/bench?readers={load.receivers}" if gathers else "/bench"
        seconds = run(load, server.port, target, source, 60 + load.delivered / 30e6, sink)
        cpu = server.cpu_seconds() - before
        return Result(load.delivered / seconds, cpu / load.delivered * 1e9, server.peak_bytes())


def measure_row(row: Row, runs: int, certificate: Certificate) -> Iterator[tuple[bool, str]]:
    """Measure one row and print its lines of the table; yields for each bound whether it is met, and a sentence."""
    source = make_source(row.load.size)
    pairs = []
    try:
        for _ in range(1 if row.once else runs):
            pairs.append([measure(name, row, source, certificate) for name in ("beam", "baseline")])
    except (LoadError, ServerError) as error:
        print(f"{row.title:31} failed", flush=True)
        yield False, f"{row.title}: failed: {error}"
        return
    finally:
        os.close(source)
    sizes = row.title, f"{row.load.size / 1e6:.0f}"
    for which, name in enumerate(("beam", row.other)):
        results = [pair[which] for pair in pairs]
        speed, cpu = spread([result.speed / 1e9 for result in results]), spread([result.cpu for result in results])
        print(TABLE.format(*sizes, name, speed, cpu, spread([result.peak / MIB for result in results], 0)))
        sizes = "", ""
    speeds = [beam.speed / baseline.speed for beam, baseline in pairs]
    # A transfer may be too small for the clock of processor time: then there is no ratio, and its bound is missed.
    cpus = [beam.cpu / baseline.cpu if baseline.cpu else float("nan") for beam, baseline in pairs]
    print(TABLE.format(*sizes, "ratio", spread(speeds), spread(cpus), ""), flush=True)
    if row.cpu is not None:
        cpu_ratio = median(cpus)
        yield cpu_ratio <= row.cpu, f"{row.title}: CPU {cpu_ratio:.2f} of {row.other} (bound {row.cpu})"
    if row.speed is not None:
        speed_ratio = median(speeds)
        yield speed_ratio >= row.speed, f"{row.title}: throughput {speed_ratio:.2f} of {row.other} (bound {row.speed})"
    if row.store == "memory":
        peak = max(beam.peak for beam, _ in pairs)
        yield peak <= MEMORY_BOUND, f"{row.title}: peak {peak / MIB:.0f} MiB (bound {MEMORY_BOUND // MIB})"


def size(text: str) -> int:
    """A number of bytes: ``64M``, ``1G`` (1024), or digits."""
    factor = {"K": 1 << 10, "M": MIB, "G": GIB}.get(text[-1:].upper(), 1)
    value = int(text if factor == 1 else text[:-1]) * factor
    if value < 1:
        raise ValueError("no bytes to send")
    return value


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures beam beside a minimal relay.")
    parser.add_argument("--case", action="append", choices=ROWS, help="only this row; may be given again")
    parser.add_argument("--runs", type=int, default=3, help="transfers through each server per row (default 3)")
    parser.add_argument("--size", type=size, help="bytes per transfer in every row, such as 64M")
    parser.add_argument("--no-huge", action="store_true", help="leave the row of 20 GiB out")
    options = parser.parse_args()
    rows = {name: row for name, row in ROWS.items() if name in (options.case or ROWS)}
    if options.no_huge:
        rows.pop("huge", None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers and files go in that case too
    print(f"{os.cpu_count()} CPUs, Python {platform.python_version()}, Twisted {version('twisted')}")
    print("median (least-greatest); CPU is the server's, user and system, per 1e9 bytes delivered\n")
    print(TABLE.format("case", "MB sent", "server", "GB/s delivered", "CPU s per GB", "peak MiB"))
    bounds: list[tuple[bool, str]] = []
    with TemporaryDirectory(prefix="bench-") as directory:
        certificate = make_certificate(Path(directory))
        for row in rows.values():
            if options.size:
                row = evolve(row, load=evolve(row.load, size=options.size))
            bounds += measure_row(row, options.runs, certificate)
    print()
    for met, text in bounds:
        print(f"{text}: {'met' if met else 'MISSED'}")
    return 0 if all(met for met, _ in bounds) else 1


if __name__ == "__main__":
    sys.exit(main())
