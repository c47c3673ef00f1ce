"""Records what the original Piping Server answers in each scene, or checks the replay against it.

``PYTHONPATH=tests python -m profiles.record_piping /path/to/node_modules/.bin/piping-server`` writes ``piping.json``;
with ``--check`` the recording is replayed against that server instead, and the checks of ``test_piping.py`` are run.
``--only NAME`` (repeatable) prints what single scenes hear, and writes nothing.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import free_port
from profiles import playing, test_piping
from profiles.playing import RECORDING, Heard, digest, play
from profiles.scenes import SCENES

TIMES = 3  # that each scene is recorded


@contextmanager
def original(program: Path) -> Iterator[int]:
    """A running Piping Server; its port."""
    port = free_port()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            ["node", str(program), "--host", "127.0.0.1", "--http-port", str(port)], stdout=output, stderr=output
        )
        try:
            playing.wait_until_up(port)
            yield port
        finally:
            process.kill()
            process.wait()


def said(*command: str) -> str:
    """What a command prints."""
    return subprocess.run(command, capture_output=True, check=True, text=True, timeout=20).stdout.strip()


def record(program: Path, names: list[str]) -> tuple[dict[str, Heard], list[str]]:
    """What is stable, and complaints about what is not."""
    takes: dict[str, list[Heard]] = {name: [] for name in names}
    complaints = []
    for _ in range(TIMES):
        with original(program) as port:
            for name in names:
                try:
                    takes[name].append(play(SCENES[name], port, last_look=True))
                except AssertionError as error:
                    complaints.append(str(error))
            playing.leave_all()
    stable = {}
    for name, heard in takes.items():
        if len(heard) == TIMES and all(each == heard[0] for each in heard):
            stable[name] = {"script": digest(SCENES[name]), "page": SCENES[name].page, **heard[0]}
        else:
            complaints.append(f"{name} is not stable: {json.dumps(heard, indent=1)}")
    return stable, complaints


def write(program: Path) -> list[str]:
    """Record all scenes; complaints."""
    stable, complaints = record(program, list(SCENES))
    recording = {
        "server": f"piping-server {said('node', str(program), '--version')}",
        "node": said("node", "--version"),
        "scenes": stable,
    }
    RECORDING.write_text(json.dumps(recording, indent=1) + "\n")
    print(f"{len(stable)} of {len(SCENES)} scenes recorded")
    return complaints


def check(program: Path) -> list[str]:
    """Replay the recording, and run the checks; complaints."""
    complaints = []
    recording = json.loads(RECORDING.read_text())["scenes"]
    with original(program) as port:
        for name, expected in recording.items():
            try:
                found = test_piping.differences(expected, play(SCENES[name], port), more=())
                complaints += [f"{name}: {where} {what}" for where, what in found.items()]
            except AssertionError as error:
                complaints.append(f"{name}: {error}")
        for each in test_piping.CHECKS:
            try:
                each(port)
            except (AssertionError, OSError) as error:
                complaints.append(f"{each.__name__}: {error!r}")
            playing.leave_all()
    print(f"{len(recording)} scenes replayed, {len(test_piping.CHECKS)} checks run, {len(complaints)} complaints")
    return complaints


def main() -> int:
    """Do what the command line says; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program", type=Path, help="node_modules/.bin/piping-server")
    parser.add_argument("--check", action="store_true", help="replay instead of recording")
    parser.add_argument("--only", action="append", metavar="NAME", help="print what this scene hears")
    options = parser.parse_args()
    if options.only:
        stable, complaints = record(options.program, options.only)
        print(json.dumps(stable, indent=1))
    else:
        complaints = check(options.program) if options.check else write(options.program)
    for each in complaints:
        print(each, file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
