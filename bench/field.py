"""``python -m bench.field``: beam beside the other relays of the field, each carrying the same bytes in turn.

Every run has a fresh server, and the runs of a case are taken in turn, so that a slower minute of the machine hits all
of them.  ``--docs`` writes the tables into ``docs/performance.md`` and the README; nobody writes them by hand.
"""

from __future__ import annotations

import argparse
import http.client
import os
import platform
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from attrs import evolve, frozen

from bench import many
from bench.figures import GIB, MIB, spread
from bench.load import Load, LoadError, make_source, run
from bench.peers import Peer, peers, running
from bench.servers import Certificate, Server, ServerError, make_certificate

WARM_UP = MIB
ROW = "| {:24} | {:>20} | {:>20} | {:>9} |"
CARRIED = ("GB/s delivered", "CPU s per GB")
README = ("memory-1", "memory-16", "chunked", "tls", "disk-1")  # the lines that matter
IN_README = ("beam", "Piping Server, Rust", "Piping Server, Go", "Piping Server, Node", "baseline")


@frozen
class Run:
    """One server under one load."""

    server: Server
    peer: Peer
    load: Load
    source: int

    def where(self, name: str, receivers: int = 1) -> str:
        """Where to send under ``name``."""
        return self.peer.target.format(name=name, receivers=receivers)

    def carry(self, name: str, load: Load) -> float:
        """Seconds that ``load`` takes."""
        target = self.where(name, load.receivers)
        asked = None if self.peer.own else target
        return run(load, self.server.port, target, self.source, 60 + load.delivered / 30e6, asked=asked)


@frozen
class Bound:
    """What one number of beam's has to be: at most, or at least, ``factor`` times that of ``beside``.

    :param beside: a peer, or ``*`` for each of them but the baseline; nothing if the number itself is bounded.
    """

    column: int
    factor: float
    beside: str = ""
    at_least: bool = False


@frozen
class Case:
    """What is carried, how it is measured, and what beam has to reach.

    :param measure: gives the two numbers that ``units`` name.
    :param own: which of our stores takes part.
    """

    title: str
    load: Load
    measure: Callable[[Run], tuple[float, float]]
    units: tuple[str, str] = CARRIED
    digits: tuple[int, int] = (2, 2)
    runs: int = 3
    own: str = "memory"
    bounds: tuple[Bound, ...] = ()


def carried(this: Run) -> tuple[float, float]:
    """Gigabytes per second, and processor seconds per gigabyte, both of what is delivered."""
    load, server = this.load, this.server
    if not load.fetched:
        this.carry("warm-up", evolve(load, size=WARM_UP, receivers=1))
    before = server.cpu_seconds()
    seconds = this.carry("bench", load)
    return load.delivered / seconds / 1e9, (server.cpu_seconds() - before) / load.delivered * 1e9


def carried_late(this: Run) -> tuple[float, float]:
    """The same to receivers that come when the sender has left; the baseline has none, and serves one that waits."""
    if this.peer.own != "disk":
        return carried(evolve(this, load=evolve(this.load, receivers=1)))
    this.carry("bench", evolve(this.load, receivers=1))
    return carried(evolve(this, load=evolve(this.load, fetched=True)))


def small(at_once: int) -> Callable[[Run], tuple[float, float]]:
    """Transfers per second, and processor milliseconds of each."""
    return lambda this: many.small(this.server, this.where, at_once)


def slowed_by_waiting(this: Run) -> tuple[float, float]:
    """KiB that a waiting receiver takes, and what of a transfer's speed is left beside 10,000 of them."""

    def speed() -> float:
        return median(this.load.size / this.carry(f"beside-{time.monotonic_ns()}", this.load) for _ in range(3))

    alone = speed()
    suffix = "?wait=3600" if this.peer.own in ("memory", "disk") else ""
    with many.waiting(this.server, lambda name: this.where(name).partition("?")[0] + suffix) as each:
        return each / 1024, speed() / alone


def latency(this: Run) -> tuple[float, float]:
    """Milliseconds to the first byte, and those that each byte takes longer than on a direct connection."""
    first = many.first_byte(this.server, this.where)
    return first, many.byte_by_byte(this.server, this.where) - many.byte_by_byte(None, this.where)


def by_curl(this: Run) -> tuple[float, float]:
    """As ``carried``, by curl."""
    speed, cpu = many.curl(this.server, this.where, this.load.size)
    return speed / 1e9, cpu


RUST = "Piping Server, Rust"
CASES = {
    "memory-1": Case(
        "1 GiB, 1 receiver",
        Load(GIB),
        carried,
        runs=7,
        bounds=(Bound(1, 0.30, "baseline"), Bound(1, 1, "*"), Bound(0, 2.2, "baseline", True), Bound(0, 1, "*", True)),
    ),
    "memory-4": Case(
        "1 GiB, 4 receivers",
        Load(GIB, receivers=4),
        carried,
        runs=7,
        bounds=(Bound(1, 0.35, "baseline"), Bound(1, 1, "*")),
    ),
    "memory-16": Case(
        "1 GiB, 16 receivers",
        Load(GIB, receivers=16),
        carried,
        runs=7,
        bounds=(Bound(1, 0.32, "baseline"), Bound(1, 1, "*")),
    ),
    "chunked": Case(
        "1 GiB in chunks up and down",
        Load(GIB, chunked=True),
        carried,
        runs=7,
        bounds=(Bound(1, 0.5, "baseline"), Bound(1, 1, RUST)),
    ),
    "disk-1": Case(
        "1 GiB through the disk store, 1 live receiver",
        Load(GIB),
        carried,
        own="disk",
        bounds=(Bound(1, 0.80, "baseline"),),
    ),
    "disk-4": Case("1 GiB through the disk store, 4 live receivers", Load(GIB, receivers=4), carried, own="disk"),
    "disk-late-4": Case(
        "1 GiB from the disk store, 4 receivers that come late",
        Load(GIB, receivers=4),
        carried_late,
        own="disk",
        bounds=(Bound(1, 0.30, "baseline"),),
    ),
    "tls": Case(
        "1 GiB over TLS up and down",
        Load(GIB, tls=True),
        carried,
        bounds=(Bound(1, 0.75, "baseline"), Bound(1, 1, RUST), Bound(1, 1, "Piping Server, Node")),
    ),
    "form": Case("1 GiB as the file of a form", Load(GIB, form=True), carried),
    "curl": Case("1 GiB from curl to curl", Load(GIB), by_curl),
    "small-1": Case(
        "1 KB, one after another",
        Load(many.SMALL),
        small(1),
        ("transfers/s", "CPU ms each"),
        (0, 2),
        bounds=(Bound(1, 1.4, "baseline"), Bound(1, 1, "Piping Server, Node")),
    ),
    "small-8": Case("1 KB, 8 at a time", Load(many.SMALL), small(8), ("transfers/s", "CPU ms each"), (0, 2)),
    "small-64": Case("1 KB, 64 at a time", Load(many.SMALL), small(64), ("transfers/s", "CPU ms each"), (0, 2)),
    "waiting": Case(
        "10,000 waiting receivers",
        Load(GIB // 4),
        slowed_by_waiting,
        ("KiB each", "speed left beside them"),
        (1, 2),
        bounds=(Bound(0, 10), Bound(1, 0.9, at_least=True)),
    ),
    "slow": Case(
        "1,000 transfers of 1 MB at once, 100 kB/s each",
        Load(many.SLOW_SIZE),
        lambda this: many.slow(this.server, this.where),
        ("s until all are done", "CPU s per GB"),
        (1, 2),
    ),
    "latency": Case(
        "Latency",
        Load(many.SMALL),
        latency,
        ("ms to the first byte", "ms more per byte"),
        (2, 2),
        bounds=(Bound(0, 1), Bound(1, 1)),
    ),
}


@frozen
class Result:
    """The two numbers of a case, and bytes of memory at the peak."""

    numbers: tuple[float, float]
    peak: int


def load_of(peer: Peer, case: Case) -> Load | None:
    """What ``peer`` carries in ``case``; ``None`` if it takes no part."""
    load = case.load
    if peer.own and peer.own not in (case.own, "baseline"):
        return None
    if case.own == "disk" and not peer.own and (peer.name != "file-pipe" or case.measure is carried_late):
        return None  # the others keep nothing on a disk
    if peer.origin and (case.measure is not carried or load != Load(GIB, receivers=load.receivers)):
        return None
    if (load.tls and not peer.tls) or (load.form and not peer.forms):
        return None
    if peer.own == "baseline":
        return evolve(load, receivers=1)
    return evolve(load, fetched=bool(peer.origin)) if load.receivers <= peer.receivers else None


def measure(case: Case, those: list[Peer], runs: int, certificate: Certificate) -> dict[str, list[Result] | str]:
    """The results of each server by its name, or why there are none."""
    found: dict[str, list[Result] | str] = {}
    source = make_source(case.load.size)
    try:
        for _ in range(runs):
            for peer in those:
                load, results = load_of(peer, case), found.setdefault(peer.name, [])
                if load is None or isinstance(results, str):
                    continue
                try:
                    with running(peer, load.tls, certificate, source) as server:
                        numbers = case.measure(Run(server, peer, load, source))
                        results.append(Result(numbers, server.peak_bytes()))
                except (LoadError, ServerError, OSError, http.client.HTTPException) as error:
                    found[peer.name] = str(error)[:80]
    finally:
        os.close(source)
    return {name: results for name, results in found.items() if results}


def middle(results: list[Result], column: int) -> float:
    """The median of one number."""
    return median(each.numbers[column] for each in results)


def table(case: Case, found: dict[str, list[Result] | str]) -> Iterator[str]:
    """The lines of one case."""
    yield ROW.format("", *case.units, "peak MiB")
    yield ROW.format("---", "---:", "---:", "---:")
    for name, results in found.items():
        if isinstance(results, str):
            yield f"| {name:24} | failed: {results} | | |"
            continue
        columns = [spread([each.numbers[i] for each in results], case.digits[i]) for i in (0, 1)]
        yield ROW.format(name, *columns, f"{max(each.peak for each in results) / MIB:.0f}")
    yield ""
    yield from (f"- {line}" for line in verdicts(case, found))


def verdicts(case: Case, found: dict[str, list[Result] | str]) -> Iterator[str]:
    """What beam had to reach, and whether it did."""
    measured = {name: results for name, results in found.items() if not isinstance(results, str)}
    ours = next((results for name, results in measured.items() if name.startswith("beam")), None)
    for bound in case.bounds if ours else ():
        value = middle(ours or [], bound.column)
        sign = "at least" if bound.at_least else "at most"
        unit = case.units[bound.column]
        if bound.beside == "*":
            others = [name for name in measured if not name.startswith("beam") and name != "baseline"]
            if bound.at_least:  # of those that bring two together; a proxy has both already
                others = [name for name in others if not name.startswith("HAProxy")]
        else:
            others = [bound.beside]
        if not bound.beside:
            met = value >= bound.factor if bound.at_least else value <= bound.factor
            yield f"{unit}: {value:.2f}, {sign} {bound.factor:g} was to reach: {'met' if met else '**missed**'}"
        for other in others if bound.beside else ():
            if other in measured:
                ratio = value / middle(measured[other], bound.column)
                met = ratio >= bound.factor if bound.at_least else ratio <= bound.factor
                verdict = "met" if met else "**missed**"
                yield f"{unit}: {ratio:.2f} of {other}, {sign} {bound.factor:.2f} was to reach: {verdict}"


def readme_table(results: dict[str, dict[str, list[Result] | str]]) -> str:
    """The lines that matter: processor seconds per gigabyte."""
    lines = ["| CPU seconds per GB delivered | " + " | ".join(IN_README) + " |", "| --- |" + " ---: |" * len(IN_README)]
    for case in README:
        cells = []
        for name in IN_README:
            found = results[case].get(name) or (results[case].get("beam, disk") if name == "beam" else None)
            cells.append(f"{middle(found, 1):.2f}" if isinstance(found, list) else "-")
        lines.append(f"| {CASES[case].title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def rewrite(page: Path, blocks: dict[str, str]) -> None:
    """Put each of ``blocks`` into its place in ``page``, if it has one there."""

    def new(match: re.Match[str]) -> str:
        name = match[1]
        return f"<!-- bench: {name} -->\n{blocks[name]}<!-- end -->" if name in blocks else match[0]

    page.write_text(re.sub(r"<!-- bench: (\S+) -->\n.*?<!-- end -->", new, page.read_text(), flags=re.DOTALL))


def machine(missing: list[str]) -> str:
    """Where and with what it was measured."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    processor = model[1] if model else platform.machine()
    lines = [
        f"{os.cpu_count()} CPUs ({processor}), Linux {platform.release().split('-')[0]}, "
        f"Python {platform.python_version()}, Twisted {version('twisted')}; {time.strftime('%Y-%m-%d')}.",
        *(f"Not on the path, and not measured: {name}." for name in missing),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.field", description="Measures beam beside other relays.")
    parser.add_argument("--case", action="append", choices=CASES, help="only this case; may be given again")
    parser.add_argument("--peer", action="append", help="only peers with this in their name, beside ours")
    parser.add_argument("--runs", type=int, help="runs of each case (default 7, or 3)")
    parser.add_argument("--docs", action="store_true", help="write the tables into docs/performance.md and the README")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers and files go in that case too
    those, missing = peers(options.peer)
    print(f"{machine(missing)}\nMedian (least-greatest); CPU is the server's, user and system.\n")
    blocks = {"machine": machine(missing)}
    results = {}
    with TemporaryDirectory(prefix="bench-") as directory:
        certificate = make_certificate(Path(directory))
        for name, case in CASES.items():
            if name in (options.case or CASES):
                results[name] = measure(case, those, options.runs or case.runs, certificate)
                blocks[name] = "".join(f"{line}\n" for line in table(case, results[name]))
                print(f"### {case.title}\n\n{blocks[name]}", flush=True)
    if options.docs:
        if results.keys() >= set(README):
            blocks["readme"] = readme_table(results)
        root = Path(__file__).parent.parent
        for page in (root / "docs" / "performance.md", root / "README.md"):
            rewrite(page, blocks)
    return 0


if __name__ == "__main__":
    sys.exit(main())
