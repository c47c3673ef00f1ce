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
from twisted.web.resource import IResource

from beam.broker import Broker
from beam.errors import BeamError
from beam.flags import Options, fail
from beam.interfaces import ILastingStore, IStore
from beam.log import transfer_logger
from beam.policy import Policy
from beam.profiles import files_policy, policy_of, profile_of
from beam.quota import Quota
from beam.record import decode
from beam.store import House, make_store
from beam.throttle import Shaper
from beam.web.files.api import Files
from beam.web.files.file import PREFIX
from beam.web.metrics import metrics_resource
from beam.web.proxies import Proxies
from beam.web.rate import Limiter
from beam.web.request import Channel
from beam.web.resource import Root, is_api
from beam.web.scope import Scope
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
    """Everything that runs: the stores, the brokers, their listeners and the answer to signals.

    :param listeners: sites and their endpoints, with the endpoints' names for messages.
    """

    reactor: Any
    stores: list[IStore]
    brokers: list[Broker]
    channels: dict[Channel, None]
    listeners: list[tuple[str, IStreamServerEndpoint, BeamSite]]
    drain_timeout: float
    ports: list[IListeningPort] = field(init=False, factory=list)
    signals: int = field(init=False, default=0)

    def startService(self) -> None:
        """Start the stores, then listen; what cannot be is told in one line."""
        super().startService()
        try:
            for store in self.stores:
                store.start()
        except BeamError as error:
            fail(error.sentence)
        self._recover()
        for name, where, site in self.listeners:
            self._listen(name, where, site)
        self.reactor.callWhenRunning(self._take_signals)

    def _recover(self) -> None:
        """Go on with what a former server left on the disk."""
        brokers = {broker.name: broker for broker in self.brokers}
        for store in self.stores:
            for found in store.recover() if ILastingStore.providedBy(store) else ():
                try:
                    record = decode(found.record)
                    if record.scope not in brokers:
                        raise ValueError(f"it belongs to {record.scope}, which is not served now")
                    brokers[record.scope].restore(found, record, store)
                except (ValueError, BeamError) as error:
                    log.warn("a file of a former server stays on the disk as it is: {reason}", reason=str(error))

    def _listen(self, name: str, where: IStreamServerEndpoint, site: BeamSite) -> None:
        def listening(port: IListeningPort) -> None:
            make_direct(port)
            self.ports.append(port)
            log.info("listening on {address}", address=port.getHost())

        failures: list[Any] = []
        where.listen(site).addCallbacks(listening, failures.append)
        if failures:
            self._end()
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
            self._cut()

    def _cut(self) -> None:
        for broker in self.brokers:
            broker.cut()

    async def _drain_and_stop(self) -> None:
        timer = self.reactor.callLater(self.drain_timeout, self._cut)
        for drained in [broker.drain() for broker in self.brokers]:
            await drained
        if timer.active():
            timer.cancel()
        until = self.reactor.seconds() + FAREWELL
        while self.reactor.seconds() < until and any(channel.requests for channel in self.channels):
            await deferLater(self.reactor, 0.02)
        log.info("stopping")
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)  # Python would take ours away while it ends, and die of the next one
        self.reactor.stop()

    async def _stop(self) -> None:
        for port in self.ports:
            await maybe(port.stopListening())
        self._end()

    def _end(self) -> None:
        for broker in self.brokers:
            broker.stop()
        for store in self.stores:
            store.stop()

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


@define(eq=False)
class Builder:
    """Makes what the flags describe: stores and brokers, each once.

    :raises ValueError: by its methods, if something cannot be made so.
    """

    options: Options
    house: House
    stores: dict[str, tuple[str, IStore]] = field(init=False, factory=dict)  # by their strings
    scopes: dict[tuple[str, str], Scope] = field(init=False, factory=dict)
    shaper: Shaper = field(init=False)

    @shaper.default
    def _shaper(self) -> Shaper:
        return Shaper(self.house.reactor)

    def store(self, text: str) -> tuple[str, IStore]:
        """The store of that string, and its name."""
        if text not in self.stores:
            name, store = make_store(text, self.house)
            if name in [each for each, _ in self.stores.values()]:
                raise ValueError(f"two stores are named {name}; write NAME={text} for one of them")
            self.stores[text] = name, store
        return self.stores[text]

    def scope(self, profile: str, prefix: str = "") -> Scope:
        """The keys below ``prefix``, or of the listeners with that profile."""
        if (profile, prefix) not in self.scopes:
            policy = policy_of(profile, self.options.given)
            stores = [self.store(text) for text in self.options["store"] or [profile_of(profile).store]]
            for wanted, keeps, kind in ((policy.keeps, True, "disk"), (policy.claims, False, "memory")):
                if wanted:
                    stores.sort(key=lambda each: each[1].keeps is not keeps)
                    if stores[0][1].keeps is not keeps:
                        raise ValueError(f"the profile {profile} needs another store: add --store {kind}")
            name = prefix or ("" if profile == self.options["profile"] else f"{profile}@")
            broker = Broker(self.house.reactor, policy, dict(stores), name, self.shaper)
            broker.observers.append(transfer_logger(policy, prefix))
            self.scopes[profile, prefix] = Scope(prefix, broker)
        return self.scopes[profile, prefix]

    def files(self, policy: Policy) -> Files | None:
        """The files API with what the operator has said in ``policy``, if there is a store whose files last."""
        lasting = {name: store for name, store in self.stores.values() if ILastingStore.providedBy(store)}
        if not lasting:
            return None
        largest = self.options["max-file-size"]
        policy = files_policy(policy, policy.max_pipe_size if largest is None else largest)
        broker = Broker(self.house.reactor, policy, lasting, PREFIX, self.shaper)
        broker.observers.append(transfer_logger(policy, PREFIX))
        return Files(Scope(PREFIX, broker))


def makeService(options: Options) -> Relay:
    """The service that ``options`` describe; called by ``twist``."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    # Deadlines must not move when somebody sets the clock.
    reactor.seconds = time.monotonic
    memory = Quota(options["max-memory"])
    limit = descriptors() - SPARE_DESCRIPTORS
    if options["max-connections"] is not None and options["max-connections"] > limit:
        fail(f"--max-connections: this process may have {limit} connections at most; raise its limit of open files")
    channels: dict[Channel, None] = {}
    proxies = Proxies(tuple(options["trusted-proxy"]))
    limiter = Limiter(options["rate-limit"]) if options["rate-limit"] is not None else None

    def site(resource: IResource, among: dict[Channel, None]) -> BeamSite:
        most = options["max-connections"] or limit
        return BeamSite(resource, reactor, options["header-timeout"], most, among, proxies)

    builder = Builder(options, House(reactor, memory, options["data-dir"] or "", options["max-disk"]))
    try:
        for text in options["store"]:
            builder.store(text)
        prefixes = [prefix for prefix, _ in options["mount"]]
        if len(set(prefixes)) < len(prefixes):
            raise ValueError("--mount: a prefix is given twice")
        mounts = [builder.scope(text, prefix) for prefix, text in options["mount"]]
        roots = [(where, builder.scope(profile or options["profile"])) for profile, where in options["listen"]]
        files = builder.files(next((each for _, each in roots if is_api(each, "api")), roots[0][1]).policy)
        listeners = [
            (where, endpoint(reactor, where), site(Root(scope, mounts, limiter, files), channels))
            for where, scope in roots
        ]
        scopes = [*builder.scopes.values(), *([files.scope] if files is not None else [])]
        brokers, stores = [scope.broker for scope in scopes], [store for _, store in builder.stores.values()]
        if options["data-dir"] and not any(text.partition(":")[0].endswith("disk") for text in builder.stores):
            raise ValueError("--data-dir needs a disk store: add --store disk")
        where = options["metrics-addr"]
        if where is not None:
            plain = any(scope.policy.plain_metrics for scope in scopes)
            metrics = metrics_resource(brokers, stores, memory, plain)
            listeners.append((where, endpoint(reactor, where), site(metrics, {})))
    except ValueError as error:
        fail(str(error))
    return Relay(reactor, stores, brokers, channels, listeners, options["drain-timeout"])
