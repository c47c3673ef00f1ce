"""The flags of ``twist beam``: one table, which is also that of the environment's variables.

A value that cannot be is told in one line on standard error, with exit status 1, before anything runs.
"""

import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NoReturn

from attrs import fields_dict, frozen
from twisted.python.usage import Options as TwistedOptions
from twisted.python.usage import UsageError

from beam import __version__
from beam.policy import Policy
from beam.profiles import PROFILES, policy_of, profile_of
from beam.values import count, media_type, network, origin, patience, pattern, rate, seconds, size, switch, word
from beam.web.rate import rates

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
    commas: bool = False  # whether they may separate, too

    def split(self, text: str) -> list[str]:
        """The values of a variable that has several."""
        return (text.replace(",", " ") if self.commas else text).split()

    @property
    def variable(self) -> str:
        """Its name in the environment, behind ``BEAM_``."""
        return self.name.upper().replace("-", "_")

    @property
    def knob(self) -> str | None:
        """The field of the policy that it sets, if it does."""
        name = self.name.replace("-", "_")
        names = (name, name.removesuffix("_timeout"), name.removesuffix("_origin"))
        return next((each for each in names if each in fields_dict(Policy)), None)


def profile(text: str) -> str:
    """``text``, if it describes a policy.

    :raises ValueError: it does not.
    """
    policy_of(text, {})
    return text


def listener(text: str) -> tuple[str | None, str]:
    """The profile, if one is named, and the endpoint of ``[PROFILE@]ENDPOINT``.

    :raises ValueError: the profile is none.
    """
    before, at, behind = text.partition("@")
    if at and before.partition(":")[0] in PROFILES:
        return profile(before), word(behind)
    return None, word(text)


def mount(text: str) -> tuple[str, str]:
    """The prefix and the profile of ``/PREFIX=PROFILE``.

    :raises ValueError: it is malformed, or the prefix is beam's own.
    """
    prefix, equals, described = text.partition("=")
    segments = prefix.split("/")
    if (
        not equals
        or segments[0]
        or len(segments) < 2
        or not all(re.fullmatch(r"[A-Za-z0-9_~.-]+", each) for each in segments[1:])
    ):
        raise ValueError(f"{text!r} does not read /PREFIX=PROFILE, such as /p=piping")
    if segments[1] in ("-", "api") or {".", ".."} & set(segments):
        raise ValueError(f"the prefix {prefix} is beam's own, or has dots only")
    return prefix, profile(described)


FLAGS = (
    Flag("profile", None, "beam", f"one of {', '.join(PROFILES)}, and knobs: drop:get-wait=30", profile),
    Flag("mount", None, "", "a profile for the keys below a prefix: /p=piping; repeatable", mount, True),
    Flag(
        "listen",
        "l",
        "0.0.0.0:3000",
        "where to listen: HOST:PORT or a Twisted endpoint string, perhaps with a profile: drop@HOST:PORT; repeatable",
        listener,
        True,
    ),
    Flag(
        "store",
        None,
        "",
        "memory:cap=1G, disk:PATH:cap=10G or forward:URL/{key}; the first is the default; repeatable [the profile's]",
        word,
        True,
    ),
    Flag("auth", None, "", "a secret that senders must show, as a bearer token", word),
    Flag("max-memory", "M", "1G", "memory for the rings of all transfers", size),
    Flag("data-dir", "d", "", "where a disk store lies if its string does not say", word),
    Flag("max-disk", "D", "10G", "what a disk store may keep if its string does not say", size),
    Flag("max-pipe-size", "P", "", "largest file that is taken", size),
    Flag("max-file-size", None, "", "the same for the files API, if it is another", size),
    Flag("bandwidth", None, "", "bytes per second of each connection", rate),
    Flag("bandwidth-per-address", None, "", "bytes per second of all connections of one address together", rate),
    Flag(
        "allow-types",
        None,
        "",
        "what files must be by their content: image/png,image/*; repeatable [anything]",
        media_type,
        True,
        True,
    ),
    Flag("deny-types", None, "", "what they must not be, also of what is allowed; repeatable", media_type, True, True),
    Flag("put-ttl", None, "30", "seconds to keep a stored file", seconds),
    Flag("get-ttl", None, "5", "seconds to keep it after a complete download", seconds),
    Flag("max-ttl", None, "86400", "cap of ?ttl=", seconds),
    Flag("get-wait-timeout", None, "5", "seconds that a receiver waits for a sender, or forever", patience),
    Flag("put-wait-timeout", None, "3600", "seconds that a sender waits for a receiver, or forever", patience),
    Flag("max-wait", None, "3600", "cap of ?wait=", seconds),
    Flag("resume-timeout", None, "30", "seconds for the last receiver to come back", seconds),
    Flag("sender-resume-timeout", None, "60", "cap of ?resume=: seconds for a sender to come back", seconds),
    Flag("upload-ttl", None, "86400", "the same for a file that goes to a disk store", seconds),
    Flag("header-timeout", None, "10", "seconds for a request head", seconds),
    Flag(
        "idle-timeout",
        None,
        "300",
        "seconds without a byte from a sender, or to a receiver, that could move one, or forever",
        patience,
    ),
    Flag("min-rate", None, "1K", "bytes per second that a receiver must take while others wait for it", size),
    Flag("max-connections", None, "", "connections at a time; below the descriptor limit if not given", count),
    Flag("max-waiting", None, "50000", "receivers that may wait", count),
    Flag("max-waiting-per-key", None, "1000", "receivers that may wait for one key", count),
    Flag("rate-limit", None, "", "requests of an address: 100/minute, or 5/second;100/minute", rates),
    Flag("trusted-proxy", None, "", "proxies that are believed: address, network or unix; repeatable", network, True),
    Flag("cors-origin", None, "", "origins whose pages may send and receive, or *; repeatable", origin, True),
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
        self.given: dict[str, Any] = {}

    def opt_listen(self, value: str) -> None:
        """where to listen: HOST:PORT or a Twisted endpoint string, perhaps with a profile as in drop@HOST:PORT;
        repeatable [0.0.0.0:3000]"""
        self._many.setdefault("listen", []).append(value)

    opt_l = opt_listen

    def opt_mount(self, value: str) -> None:
        """a profile for the keys below a prefix: /p=piping; repeatable [none]"""
        self._many.setdefault("mount", []).append(value)

    def opt_store(self, value: str) -> None:
        """memory:cap=1G, disk:PATH:cap=10G or forward:URL/{key}; the first is the default [the profile's]"""
        self._many.setdefault("store", []).append(value)

    def opt_trusted_proxy(self, value: str) -> None:
        """proxies whose X-Forwarded-For is believed: an address, a network as 10.0.0.0/8, or unix; repeatable [none]"""
        self._many.setdefault("trusted-proxy", []).extend(value.split())

    def opt_cors_origin(self, value: str) -> None:
        """origins whose pages may send and receive: https://example.org, or * for all; repeatable [none]"""
        self._many.setdefault("cors-origin", []).extend(value.split())

    def opt_allow_forward(self, value: str) -> None:
        """addresses that senders may forward to: https://*.s3.*.amazonaws.com/* or any; repeatable [none]"""
        self._many.setdefault("allow-forward", []).extend(value.split())

    def opt_allow_types(self, value: str) -> None:
        """what files must be by their content: image/png,image/*; repeatable [anything]"""
        self._many.setdefault("allow-types", []).extend(value.replace(",", " ").split())

    def opt_deny_types(self, value: str) -> None:
        """what they must not be, also of what is allowed; repeatable [nothing]"""
        self._many.setdefault("deny-types", []).extend(value.replace(",", " ").split())

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
        bare: frozenset[str] = frozenset()
        for flag in FLAGS:
            given: Any = self._many.get(flag.name) if flag.many else self[flag.name]
            origin = f"--{flag.name}"
            names = [f"BEAM_{flag.variable}", *({flag.variable} & bare)]
            variable = next((name for name in names if name in os.environ), None)
            if given is None and variable is not None:
                origin, given = variable, os.environ[variable]
                given = flag.split(given) if flag.many else given
            was_given = given is not None
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
            if was_given and flag.knob is not None:
                self.given[flag.knob] = tuple(self[flag.name]) if flag.many else self[flag.name]
            if flag.name == "profile":
                bare = profile_of(self["profile"]).variables
        for name in SWITCHES:
            variable = "BEAM_" + name.upper().replace("-", "_")
            try:
                if self[name] or variable in os.environ:
                    self.given[name.replace("-", "_")] = bool(self[name]) or switch(os.environ[variable])
            except ValueError as error:
                raise UsageError(f"{variable}: {error}") from None
