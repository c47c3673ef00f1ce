"""The servers that beam is measured beside: which there are, and how each is started.

A peer of ``peers.toml`` is there when its program is on the path.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from attrs import field, frozen

from bench.servers import Certificate, Server, baseline_command, beam_command, started


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
    forms: bool = True
    own: str = ""  # "baseline", "memory" or "disk": one of ours, started as ``make bench`` does


OURS = (
    Peer("beam", ["beam"], "/{name}?readers={receivers}", ["beam"], receivers=1000, own="memory"),
    Peer("beam, disk", ["beam"], "/{name}", ["beam"], receivers=1000, own="disk"),
    Peer("baseline", ["baseline"], "/{name}", ["baseline"], forms=False, own="baseline"),
)


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


@contextmanager
def running(peer: Peer, tls: bool, certificate: Certificate, source: int) -> Iterator[Server]:
    """``peer``, and where it fetches ``source`` from if it is a proxy."""
    with ExitStack() as stack:

        def command(port: int, folder: Path) -> list[str]:
            own_tls = certificate if tls else None
            if peer.own == "baseline":
                return baseline_command(port, own_tls)
            if peer.own:
                return beam_command(port, peer.own, own_tls, folder)
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
            return [each.format(**filled) for each in (peer.tls if tls else peer.command)]

        with started(peer.name, command) as server:
            yield server
