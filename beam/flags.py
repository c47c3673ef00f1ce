"""The flags of ``twist beam``: one table, which is also that of the environment's variables.

A value that cannot be is told in one line on standard error, with exit status 1, before anything runs.
"""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NoReturn

from attrs import frozen
from twisted.python.usage import Options as TwistedOptions
from twisted.python.usage import UsageError

from beam import __version__
from beam.policy import count, seconds, size
from beam.target import Pattern, parse_pattern

STDERR_PREFIX = "beam: "


def fail(sentence: str) -> NoReturn:
    """Say why beam cannot run, and end.

    :raises SystemExit: always.
    """
    sys.stderr.write(f"{STDERR_PREFIX}{sentence}\n")
    raise SystemExit(1)


@frozen
class Flag:
    """One flag: ``--name`` on the command line, ``BEAM_NAME`` in the environment."""

    name: str
    short: str | None
    default: str
    text: str
    parse: Callable[[str], Any]
    many: bool = False


def word(text: str) -> str:
    """``text``, if there is any.

    :raises ValueError: it is empty.
    """
    if not text:
        raise ValueError("a value is missing")
    return text


def pattern(text: str) -> Pattern | None:
    """An address pattern as ``beam.target`` reads it.

    :raises ValueError: it is none.
    """
    return parse_pattern(word(text))


def a_switch(text: str) -> bool:
    """A switch as the environment gives it.

    :raises ValueError: it is neither on nor off.
    """
    if text.lower() not in ("1", "0", "yes", "no", "true", "false", "on", "off"):
        raise ValueError(f"{text!r} is neither on nor off")
    return text.lower() in ("1", "yes", "true", "on")


FLAGS = (
    Flag(
        "listen", "l", "0.0.0.0:3000", "where to listen: HOST:PORT or a Twisted endpoint string; repeatable", word, True
    ),
    Flag("store", None, "memory", "memory:..., disk:PATH:..., the first is the default; repeatable", word, True),
    Flag("max-memory", "M", "1G", "memory for the rings of all transfers", size),
    Flag("data-dir", "d", "", "where a disk store lies if its string does not say", word),
    Flag("max-disk", "D", "10G", "what a disk store may keep if its string does not say", size),
    Flag("max-pipe-size", "P", "", "largest file that is taken", size),
    Flag("put-ttl", None, "30", "seconds to keep a stored file", seconds),
    Flag("get-ttl", None, "5", "seconds to keep it after a complete download", seconds),
    Flag("max-ttl", None, "86400", "cap of ?ttl=", seconds),
    Flag("get-wait-timeout", None, "5", "seconds that a receiver waits for a sender", seconds),
    Flag("put-wait-timeout", None, "3600", "seconds that a sender waits for a receiver", seconds),
    Flag("max-wait", None, "3600", "cap of ?wait=", seconds),
    Flag("resume-timeout", None, "30", "seconds for the last receiver to come back", seconds),
    Flag("header-timeout", None, "10", "seconds for a request head", seconds),
    Flag(
        "idle-timeout",
        None,
        "300",
        "seconds without a byte from a sender, or to a receiver, that could move one",
        seconds,
    ),
    Flag("min-rate", None, "1K", "bytes per second that a receiver must take while others wait for it", size),
    Flag("max-connections", None, "", "connections at a time; below the descriptor limit if not given", count),
    Flag("max-waiting", None, "50000", "receivers that may wait", count),
    Flag("max-waiting-per-key", None, "1000", "receivers that may wait for one key", count),
    Flag(
        "allow-forward", None, "", "addresses that senders may forward to: a pattern, or any; repeatable", pattern, True
    ),
    Flag("forward-timeout", None, "60", "seconds that a forward may stand still", seconds),
    Flag("drain-timeout", None, "60", "seconds to let transfers finish after the first signal", seconds),
    Flag("metrics-addr", None, "", "where to serve /metrics and /health, as for --listen", word),
)
SWITCHES = {
    "list-keys": "show keys in clear on the page and in the log",
    "allow-forward-private": "let senders forward to addresses that are not public",
}


class Options(TwistedOptions):
    """The command line of ``twist beam``.  A flag stands before its variable, which stands before the default."""

    synopsis = "[flags]"
    longdesc = (
        "Carries a file from a sender to its receivers while it is still being sent.  Each flag is also a variable of "
        "the environment: --put-ttl is BEAM_PUT_TTL; lists are separated by spaces.  Sizes are written as 500M or 1G "
        "(powers of 1024), times in seconds."
    )
    optParameters: ClassVar = [
        [flag.name, flag.short, None, flag.text + (f" [{flag.default}]" if flag.default else "")]
        for flag in FLAGS
        if not flag.many
    ]
    optFlags: ClassVar = [[name, None, text] for name, text in SWITCHES.items()]

    def __init__(self) -> None:
        super().__init__()
        self._many: dict[str, list[str]] = {}

    def opt_listen(self, value: str) -> None:
        """where to listen: HOST:PORT or a Twisted endpoint string; repeatable [0.0.0.0:3000]"""
        self._many.setdefault("listen", []).append(value)

    opt_l = opt_listen

    def opt_store(self, value: str) -> None:
        """memory:cap=1G, disk:PATH:cap=10G or forward:URL/{key}; the first is the default; repeatable [memory]"""
        self._many.setdefault("store", []).append(value)

    def opt_allow_forward(self, value: str) -> None:
        """addresses that senders may forward to: https://*.s3.*.amazonaws.com/* or any; repeatable [none]"""
        self._many.setdefault("allow-forward", []).extend(value.split())

    def opt_version(self) -> None:
        """Display beam's version and exit."""
        print(f"beam {__version__}")
        sys.exit(0)

    def parseArgs(self, *rest: str) -> None:
        if rest:
            raise UsageError(f"{rest[0]!r} is not a flag")

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        try:
            super().parseOptions(options)
        except UsageError as error:
            fail(f"{error}; twist beam --help shows the flags")

    def postOptions(self) -> None:
        for flag in FLAGS:
            variable = "BEAM_" + flag.name.upper().replace("-", "_")
            given: Any = self._many.get(flag.name) if flag.many else self[flag.name]
            origin = f"--{flag.name}"
            if given is None and variable in os.environ:
                origin, given = variable, os.environ[variable]
                given = given.split() if flag.many else given
            if given is None:
                given = flag.default.split() if flag.many else flag.default or None
            try:
                if flag.many:
                    nothing = [""] if flag.default else []
                    self[flag.name] = [flag.parse(value) for value in given or nothing]
                else:
                    self[flag.name] = None if given is None else flag.parse(given)
            except ValueError as error:
                raise UsageError(f"{origin}: {error}") from None
        for name in SWITCHES:
            variable = "BEAM_" + name.upper().replace("-", "_")
            try:
                self[name] = bool(self[name]) or a_switch(os.environ.get(variable, "no"))
            except ValueError as error:
                raise UsageError(f"{variable}: {error}") from None
        if self["data-dir"] and not any(store.split(":")[0].endswith("disk") for store in self["store"]):
            raise UsageError("--data-dir needs a disk store: add --store disk")
