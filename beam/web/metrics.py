"""The metrics listener: ``/health`` and ``/metrics`` in the Prometheus text format.

Gauges are read from the brokers when somebody asks; what transfers leave behind is counted as they end.
"""

from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from twisted.web.resource import Resource
from twisted.web.server import Request

from beam.broker import Broker
from beam.errors import Forwarded, Outcome
from beam.interfaces import IStore
from beam.quota import Quota
from beam.transfer import BODY_IS_COMING, Transfer

SECONDS = (0.01, 0.1, 1, 10, 60, 600, 3600, 36000)
PLAIN = ("pipes", "disk_usage", "key_waiters", "active_uploads", "active_downloads", "draining")  # file-pipe's names


class Gauges(Collector):
    """What is so now."""

    def __init__(self, brokers: Sequence[Broker], stores: Sequence[IStore], memory: Quota) -> None:
        self._brokers = brokers
        self._stores = stores
        self._memory = memory

    def collect(self) -> Iterator[Metric]:
        """Called by the registry at every scrape, in the reactor's thread."""
        brokers = self._brokers
        transfers = [each for broker in brokers for each in broker.rendezvous.transfers.values()]
        deliveries = [each for broker in brokers for each in broker.deliveries]
        forwards = [each.forward for each in transfers if each.forward is not None and each.forward.running]
        gauges: dict[str, tuple[str, float]] = {
            "beam_pipes": ("Keys in use.", len(transfers)),
            "beam_disk_usage": (
                "Bytes that count against the disk stores.",
                sum(store.usage() for store in self._stores if store.keeps),
            ),
            "beam_memory_usage": ("Bytes of the rings.", self._memory.used),
            "beam_key_waiters": (
                "Receivers that wait for a sender.",
                sum(broker.rendezvous.waiters for broker in brokers),
            ),
            "beam_active_uploads": ("Bodies that are coming.", sum(each.state in BODY_IS_COMING for each in transfers)),
            "beam_active_downloads": ("Receivers that are being served.", len(deliveries)),
            "beam_active_forwards": ("Forwards under way.", len(forwards)),
            "beam_draining": (
                "1 while the server is about to stop.",
                any(broker.drained is not None for broker in brokers),
            ),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(name, text, value=float(value))
        running_in = sum(each.spool.head for each in transfers)
        running_out = sum(each.bytes_out for each in transfers) + sum(
            max(0, each.reader.position - each.span.start) for each in deliveries
        )
        bytes_in = running_in + sum(broker.bytes_in for broker in brokers)
        yield CounterMetricFamily("beam_bytes_in", "Bytes of bodies received.", value=bytes_in)
        bytes_out = running_out + sum(broker.bytes_out for broker in brokers)
        yield CounterMetricFamily("beam_bytes_out", "Bytes of bodies delivered.", value=bytes_out)
        forwarded = sum(each.sent for each in forwards) + sum(broker.bytes_forwarded for broker in brokers)
        yield CounterMetricFamily("beam_bytes_forwarded", "Bytes of bodies given to targets.", value=forwarded)


def metrics_resource(brokers: Sequence[Broker], stores: Sequence[IStore], memory: Quota, plain: bool) -> Resource:
    """The tree of the metrics listener.

    :param plain: whether the gauges of ``PLAIN`` are there without their prefix as well.
    """
    registry = CollectorRegistry(auto_describe=True)
    registry.register(Gauges(brokers, stores, memory))
    ended = Counter("beam_transfers", "Transfers by their outcome.", ["outcome"], registry=registry)
    duration = Histogram("beam_transfer_seconds", "From admission to the end.", buckets=SECONDS, registry=registry)
    forwards = Counter("beam_forwards", "Forwards by their outcome.", ["outcome"], registry=registry)
    for outcome in Outcome:
        ended.labels(outcome.value)
    for how in Forwarded:
        forwards.labels(how.value)

    def observe(transfer: Transfer, now: float) -> None:
        ended.labels(str(transfer.outcome)).inc()
        duration.observe(now - transfer.started)
        if transfer.forward is not None and transfer.forward.outcome is not None:
            forwards.labels(str(transfer.forward.outcome)).inc()

    for broker in brokers:
        broker.observers.append(observe)
    root = Resource()
    root.putChild(b"metrics", Metrics(registry, PLAIN if plain else ()))
    root.putChild(b"health", Health())
    return root


class Metrics(Resource):
    """The metrics, in the format that the client prefers.

    :param plain: gauges that are there without their prefix as well, as whole numbers.
    """

    isLeaf = True

    def __init__(self, registry: CollectorRegistry, plain: Sequence[str]) -> None:
        super().__init__()
        self._registry = registry
        self._plain = plain

    def render_GET(self, request: Request) -> bytes:
        """Collect and encode."""
        encode, kind = choose_encoder(request.getHeader("accept") or "")
        request.setHeader("content-type", kind)
        plain = "".join(
            f"# TYPE {name} gauge\n{name} {metric.samples[0].value:.0f}\n"
            for metric in self._registry.collect()
            if (name := metric.name.removeprefix("beam_")) in self._plain
        )
        return plain.encode() + encode(self._registry)


class Health(Resource):
    """Whether the process answers."""

    isLeaf = True

    def render_GET(self, request: object) -> bytes:
        """``ok``."""
        return b"ok\n"
