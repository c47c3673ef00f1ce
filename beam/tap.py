"""``twist beam``: the service that the flags describe.

An occupied port or an unusable folder is told in one line on standard error, with exit status 1, before anything runs.
"""

import resource
import signal
import time
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, serverFromString
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint, IStreamServerEndpointStringParser
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.plugin import getPlugins
from twisted.web.resource import Resource

from beam.broker import Broker
from beam.errors import BeamError
from beam.flags import Options, fail
from beam.log import transfer_logger
from beam.policy import Policy
from beam.quota import Quota
from beam.store import House, make_store
from beam.web.metrics import metrics_resource
from beam.web.resource import Root
from beam.web.site import BeamSite
from beam.web.transport import make_direct

BACKLOG = 1024
SPARE_DESCRIPTORS = 64  # kept for files, the log and the listeners
FAREWELL = 2.0  # seconds for the last answers to go out when the server stops

log = Logger()


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
        allow_forward=tuple(options["allow-forward"]),
        allow_forward_private=options["allow-forward-private"],
        forward_timeout=options["forward-timeout"],
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
