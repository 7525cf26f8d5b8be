"""Where a capture stands, for Prometheus: served over HTTP on a port of this machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from threading import Thread
from types import TracebackType
from typing import Self
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Histogram, start_http_server
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cryptolake.capture.snapshot import Snapshot
from cryptolake.capture.writer import InstrumentStats
from cryptolake.errors import OperatorError

LOOPBACK = "127.0.0.1"
PREFIX = "cryptolake_"
COMMIT_BUCKETS_SECONDS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
MICROSECONDS = 1_000_000


class Metrics(Collector):
    """
    The newest snapshot of a capture as Prometheus metrics, at `url`; use it as a context manager.

    Its registry is its own: two captures in a process do not meet.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.url = ""
        self._snapshot: Snapshot | None = None
        self._commits = 0
        self._server: WSGIServer | None = None
        self._thread: Thread | None = None
        self._commit_seconds = Histogram(
            f"{PREFIX}commit_seconds",
            "Seconds that a commit to the lake took.",
            buckets=COMMIT_BUCKETS_SECONDS,
            registry=registry,
        )
        registry.register(self)

    @classmethod
    def serve(cls, port: int, host: str = LOOPBACK) -> Self:
        """
        Serve on *port*, 0 for a free one.

        Raises:
            OperatorError: the port cannot be taken.
        """
        registry = CollectorRegistry()
        metrics = cls(registry)
        try:
            metrics._server, metrics._thread = start_http_server(port, host, registry)
        except (OSError, OverflowError) as e:
            reason = e.strerror if isinstance(e, OSError) else str(e)
            raise OperatorError(
                f"metrics cannot be served on {host}:{port} ({reason}): choose another port, or 0 for a free one"
            ) from e
        metrics.url = f"http://{host}:{metrics._server.server_port}/metrics"
        return metrics

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def tell(self, snapshot: Snapshot) -> None:
        """Take *snapshot* for the one that is served from now on."""
        self._snapshot = snapshot
        for _ in range(snapshot.landing.commits - self._commits):
            self._commit_seconds.observe(snapshot.landing.commit_seconds)
        self._commits = snapshot.landing.commits

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of the newest snapshot (called by prometheus_client)."""
        return () if self._snapshot is None else list(_metrics(self._snapshot))


def _metrics(snapshot: Snapshot) -> Iterator[Metric]:
    yield from _of_instruments([pace.stats for pace in snapshot.instruments])
    yield _gauge("spool_rows", "Trades on disk that have not landed.", snapshot.landing.spool_trades)
    yield _gauge("spool_bytes", "Bytes that they take.", snapshot.landing.spool_bytes)
    yield _gauge("backlog_frames", "Frames that are read and not yet on disk.", snapshot.backlog)
    yield _gauge("reading_paused", "1 while the spool is over its quota.", int(snapshot.is_full))
    yield _counter("frames_unreadable", "Frames in the rejects, of an unknown symbol.", snapshot.unreadable)
    yield _counter("landed_rows", "Trades committed to the lake.", snapshot.landing.rows_landed)
    yield from _of_connections(snapshot)


def _of_instruments(found: list[InstrumentStats]) -> Iterator[Metric]:
    counters = {
        "trades_received": ("Trades received, every copy.", [s.received for s in found]),
        "trades_new": ("Trades that were not held.", [s.new for s in found]),
        "trades_duplicate": ("Trades that were held already.", [s.duplicates for s in found]),
        "trades_rejected": ("Records that cannot be trusted.", [s.rejected for s in found]),
        "gaps_opened": ("Gaps opened.", [s.gaps_opened for s in found]),
        "gaps_closed": ("Gaps closed.", [s.gaps_closed for s in found]),
    }
    gauges = {
        "gaps_open": ("Gaps open now.", [s.open_gaps for s in found]),
        "ids_missing": ("Trade ids in them.", [s.open_ids for s in found]),
        "trade_lag_seconds": (
            "How long after the newest trade was made it was received.",
            [None if s.lag_us is None else s.lag_us / MICROSECONDS for s in found],
        ),
        "newest_trade_timestamp_seconds": (
            "When the newest trade was made, in unix seconds.",
            [None if s.traded_at_us is None else s.traded_at_us / MICROSECONDS for s in found],
        ),
    }
    labels = [(s.instrument.venue, s.instrument.stored_as) for s in found]
    for kind, families in ((CounterMetricFamily, counters), (GaugeMetricFamily, gauges)):
        for name, (meaning, values) in families.items():
            family = kind(PREFIX + name, meaning, labels=("venue", "symbol"))
            for label, value in zip(labels, values, strict=True):
                if value is not None:
                    family.add_metric(label, value)
            yield family


def _of_connections(snapshot: Snapshot) -> Iterator[Metric]:
    states = Counter((line.name.split("/")[0], line.state) for line in snapshot.lines)
    connections = GaugeMetricFamily(
        PREFIX + "connections", "Connections by state.", labels=("venue", "state")
    )
    for label, count in states.items():
        connections.add_metric(label, count)
    yield connections
    replaced = Counter[str]()
    for line in snapshot.lines:
        replaced[line.name.split("/")[0]] += line.replaced
    reconnects = CounterMetricFamily(
        PREFIX + "reconnects", "Connections that were replaced.", labels=("venue",)
    )
    for venue, count in replaced.items():
        reconnects.add_metric((venue,), count)
    yield reconnects


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, meaning, value=value)


def _counter(name: str, meaning: str, value: float) -> Metric:
    return CounterMetricFamily(PREFIX + name, meaning, value=value)
