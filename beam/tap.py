"""``twist beam``: the flags, and the service that they describe.

Everything that a bad flag, an occupied port or an unusable folder can be told about is told in one line on standard
error, with exit status 1, before anything runs.
"""

import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NoReturn

from attrs import define, field, frozen
from twisted.application.service import Service
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, serverFromString
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint, IStreamServerEndpointStringParser
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.plugin import getPlugins
from twisted.python.usage import Options as TwistedOptions
from twisted.python.usage import UsageError
from twisted.web.resource import Resource

from beam import __version__
from beam.broker import Broker
from beam.errors import BeamError
from beam.log import transfer_logger
from beam.policy import Policy, count, seconds, size
from beam.quota import Quota
from beam.store import House, make_store
from beam.web.metrics import metrics_resource
from beam.web.resource import Root
from beam.web.site import BeamSite
from beam.web.transport import make_direct

BACKLOG = 1024
SPARE_DESCRIPTORS = 64  # kept for files, the log and the listeners
FAREWELL = 2.0  # seconds for the last answers to go out when the server stops
STDERR_PREFIX = "beam: "

log = Logger()


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
    Flag("drain-timeout", None, "60", "seconds to let transfers finish after the first signal", seconds),
    Flag("metrics-addr", None, "", "where to serve /metrics and /health, as for --listen", word),
)
SWITCHES = {"list-keys": "show keys in clear on the page and in the log"}


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
        """memory:window=4M:history=12M:cap=1G or disk:PATH:cap=10G; the first is the default; repeatable [memory]"""
        self._many.setdefault("store", []).append(value)

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
                given = [flag.default] if flag.many else flag.default or None
            try:
                if flag.many:
                    self[flag.name] = [flag.parse(value) for value in given or [""]]
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


def fail(sentence: str) -> NoReturn:
    """Say why beam cannot run, and end.

    :raises SystemExit: always.
    """
    sys.stderr.write(f"{STDERR_PREFIX}{sentence}\n")
    raise SystemExit(1)


def endpoint(reactor: Any, text: str) -> IStreamServerEndpoint:
    """The endpoint that ``HOST:PORT`` or an endpoint string names.

    :raises ValueError: it names none.
    """
    prefix = text.partition(":")[0].lower()
    if prefix in {
        "tcp",
        "unix",
        "ssl",
        *(each.prefix.lower() for each in getPlugins(IStreamServerEndpointStringParser)),
    }:
        try:
            made = serverFromString(reactor, text)
        except Exception as error:  # parsers raise whatever int(), open() and OpenSSL do
            raise ValueError(f"{text!r} is not an endpoint: {error}") from None
        assert IStreamServerEndpoint.providedBy(made)
        return made
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT, nor a Twisted endpoint string")
    host = host.removeprefix("[").removesuffix("]")
    kind: Callable[..., IStreamServerEndpoint] = TCP6ServerEndpoint if ":" in host else TCP4ServerEndpoint
    return kind(reactor, int(port), BACKLOG, host)


@define(eq=False)
class Relay(Service):
    """Everything that runs: the broker, its listeners and the answer to signals.

    :param addresses: endpoints with their names, for messages.
    """

    reactor: Any
    broker: Broker
    site: BeamSite
    addresses: list[tuple[str, IStreamServerEndpoint]]
    metrics: tuple[str, IStreamServerEndpoint, Resource] | None
    drain_timeout: float
    ports: list[IListeningPort] = field(init=False, factory=list)
    signals: int = field(init=False, default=0)

    def startService(self) -> None:
        """Start the stores, then listen; what cannot be is told in one line."""
        super().startService()
        try:
            self.broker.startService()
        except BeamError as error:
            fail(error.sentence)
        for name, where in self.addresses:
            self._listen(name, where, self.site)
        if self.metrics is not None:
            name, where, root = self.metrics
            site = BeamSite(root, self.reactor, self.site.header_timeout, self.site.max_connections)
            self._listen(name, where, site)
        self.reactor.callWhenRunning(self._take_signals)

    def _listen(self, name: str, where: IStreamServerEndpoint, site: BeamSite) -> None:
        def listening(port: IListeningPort) -> None:
            make_direct(port)
            self.ports.append(port)
            log.info("listening on {address}", address=port.getHost())

        failures: list[Any] = []
        where.listen(site).addCallbacks(listening, failures.append)
        if failures:
            self.broker.stopService()
            reason = getattr(failures[0].value, "socketError", failures[0].value)
            fail(f"cannot listen on {name}: {getattr(reason, 'strerror', None) or reason}")

    def _take_signals(self) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, lambda number, frame: self.reactor.callFromThread(self.signalled))

    def signalled(self) -> None:
        """The first time drain, the second time cut; then stop."""
        self.signals += 1
        if self.signals == 1:
            log.info("draining for at most {seconds:g} s; a second signal cuts", seconds=self.drain_timeout)
            ensureDeferred(self._drain_and_stop())
        elif self.signals == 2:
            log.info("cutting what still runs")
            self.broker.cut()

    async def _drain_and_stop(self) -> None:
        timer = self.reactor.callLater(self.drain_timeout, self.broker.cut)
        await self.broker.drain()
        if timer.active():
            timer.cancel()
        until = self.reactor.seconds() + FAREWELL
        while self.reactor.seconds() < until and any(channel.requests for channel in self.site.channels):
            await deferLater(self.reactor, 0.02)
        log.info("stopping")
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)  # Python would take ours away while it ends, and die of the next one
        self.reactor.stop()

    async def _stop(self) -> None:
        for port in self.ports:
            await maybe(port.stopListening())
        self.broker.stopService()

    def stopService(self) -> Deferred[None]:
        """Stop listening, end what is left, and stop the stores."""
        super().stopService()
        return ensureDeferred(self._stop())


async def maybe(result: Any) -> Any:
    """``result``, awaited if it is a ``Deferred``."""
    return await result if isinstance(result, Deferred) else result


def descriptors() -> int:
    """Raise the soft limit on descriptors to the hard one; how many there are."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


def makeService(options: Options) -> Relay:
    """The service that ``options`` describe; called by ``twist``."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    # Deadlines must not move when somebody sets the clock.
    reactor.seconds = time.monotonic
    policy = Policy(
        max_pipe_size=options["max-pipe-size"],
        put_ttl=options["put-ttl"],
        get_ttl=options["get-ttl"],
        max_ttl=options["max-ttl"],
        get_wait=options["get-wait-timeout"],
        put_wait=options["put-wait-timeout"],
        max_wait=options["max-wait"],
        resume_timeout=options["resume-timeout"],
        idle_timeout=options["idle-timeout"],
        min_rate=options["min-rate"],
        max_waiting=options["max-waiting"],
        max_waiting_per_key=options["max-waiting-per-key"],
        list_keys=options["list-keys"],
    )
    memory = Quota(options["max-memory"])
    house = House(reactor, memory, options["data-dir"] or "", options["max-disk"])
    limit = descriptors() - SPARE_DESCRIPTORS
    if options["max-connections"] is not None and options["max-connections"] > limit:
        fail(f"--max-connections: this process may have {limit} connections at most; raise its limit of open files")
    stores = {}
    try:
        for text in options["store"]:
            name, store = make_store(text, house)
            if name in stores:
                raise ValueError(f"two stores are named {name}; write NAME={text} for one of them")
            stores[name] = store
        addresses = [(text, endpoint(reactor, text)) for text in options["listen"]]
        where = options["metrics-addr"]
        metrics_endpoint = None if where is None else endpoint(reactor, where)
    except ValueError as error:
        fail(str(error))
    broker = Broker(reactor, policy, stores)
    broker.observers.append(transfer_logger(policy))
    site = BeamSite(Root(broker), reactor, options["header-timeout"], options["max-connections"] or limit)
    metrics = None if metrics_endpoint is None else (where, metrics_endpoint, metrics_resource(broker, memory))
    return Relay(reactor, broker, site, addresses, metrics, options["drain-timeout"])
