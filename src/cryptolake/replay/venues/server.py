"""Trading venues on this machine: WebSocket, REST and archive of each, from one tape."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from cryptolake.clock import Clock
from cryptolake.errors import ConfigError, OperatorError
from cryptolake.replay.answers import Request
from cryptolake.replay.faults import Fault
from cryptolake.replay.listener import LOOPBACK, Listener
from cryptolake.replay.venues.binance_archive import ArchiveStyle
from cryptolake.replay.venues.cast import VENUES, Cast, Unavailable
from cryptolake.replay.venues.faults import Schedule, parse_schedule
from cryptolake.replay.venues.playback import Pace
from cryptolake.replay.venues.rest import Rest, Script
from cryptolake.replay.venues.stages import Stages
from cryptolake.replay.venues.tape import Tape
from cryptolake.replay.venues.websocket import Connection
from cryptolake.sources.records import Trade

HOSTS = 2
"""Hosts of each venue, for twin connections: each has a port and faults of its own."""


class VenueServer:
    """
    The venues of a tape on this machine; use as a context manager, or `close` it.

    REST and heads know what is published so far; a connection gets every trade that is published after
    its subscription. *venues* are those that are open. What is done to connections is done to those of the
    *venue* and *host* named, else to all.
    """

    def __init__(self, cast: Cast, stages: Stages, rest: Rest) -> None:
        self._cast = cast
        self._stages = stages
        self._rest = rest
        self._listener: Listener
        self._ports: Mapping[str, Sequence[int]] = {}

    @classmethod
    def open(  # options of one server, all by name
        cls,
        tape: Tape,
        *,
        venues: Collection[str] | None = None,
        speed: float = math.inf,
        trades_per_second: float | None = None,
        faults: Schedule | str = "",
        unavailable: Unavailable | None = None,
        archive: ArchiveStyle | None = None,
        waits_for: int | None = 0,
        port: int = 0,
    ) -> VenueServer:
        """
        Replay *tape* in the background; only *venues*, where they are given.

        *speed* is times the tape's own, or infinite: as fast as the slowest subscribed connection takes it.
        *trades_per_second* (of all venues together) takes its place. Publishing begins at once (0), after
        *waits_for* connections have subscribed (an infinite speed then also waits whenever none is), or with `start`
        (None). *unavailable* has, by venue and symbol, ids that nobody can have: lost on every connection
        and in no answer. Port 0 takes free ports; another is that of REST, and the eight after it are the hosts'.

        Raises:
            OperatorError: if a port cannot be taken.
            ConfigError: if there is no such venue or fault.

        """
        schedule = parse_schedule(faults) if isinstance(faults, str) else faults
        served = [venue for venue in VENUES if venue in (VENUES if venues is None else venues)]
        if venues is not None and set(venues) - set(VENUES):
            raise ConfigError(
                f"there is no venue {min(set(venues) - set(VENUES))!r}; there are {', '.join(VENUES)}"
            )
        stages = Stages(waits_for)
        cast = Cast(served, schedule, Pace(speed, trades_per_second), archive or ArchiveStyle())
        rest = Rest(schedule, Clock())
        server = cls(cast, stages, rest)
        server._put_on(tape, unavailable or {})
        ports = {
            venue: [port and port + 1 + HOSTS * VENUES.index(venue) + host for host in range(HOSTS)]
            for venue in served
        }
        server._ports = stages.open(ports)
        try:
            server._listener = Listener.open(LOOPBACK, port, rest)
        except OperatorError:
            stages.close()
            raise
        return server

    @property
    def tape(self) -> Tape:
        """What is replayed."""
        return self._cast.tape

    @property
    def venues(self) -> list[str]:
        """The venues that are open."""
        return list(self._cast.venues)

    @property
    def unavailable(self) -> Mapping[tuple[str, str], frozenset[int]]:
        """By venue and symbol, the ids that nobody can have: no connection and no answer has them."""
        return self._cast.unavailable

    @property
    def finished(self) -> threading.Event:
        """Set once all trades are published."""
        return self._stages.finished

    @property
    def delivered(self) -> threading.Event:
        """Set once all trades are published, and sent to all connections that are to get them."""
        return self._stages.delivered

    @property
    def requests(self) -> list[Request]:
        """What REST and the archive were asked, in order."""
        return self._rest.requests

    @property
    def rest(self) -> Rest:
        """The REST of all venues, for its limits."""
        return self._rest

    def websocket_url(self, venue: str) -> list[str]:
        """Return what `sources.<venue>.websocket_url` is set to: one URL for each host."""
        path = self._cast.dialects[venue].path
        return [f"ws://{LOOPBACK}:{port}{path}" for port in self._ports[venue]]

    def rest_url(self, venue: str) -> str:
        """Return what `sources.<venue>.rest_url` is set to."""
        del venue  # their paths differ, so one port does for all
        return self._listener.url

    @property
    def archive_url(self) -> str:
        """Return what `sources.binance.archive_url` is set to."""
        return self._listener.url

    def settings(self) -> dict[str, str]:
        """Return the environment variables that point a capture here."""
        variables = {}
        for venue in self.venues:
            prefix = f"CRYPTOLAKE_SOURCES__{venue.upper()}"
            variables[f"{prefix}__WEBSOCKET_URL"] = ",".join(self.websocket_url(venue))
            variables[f"{prefix}__REST_URL"] = self.rest_url(venue)
            if venue == "binance":
                variables[f"{prefix}__ARCHIVE_URL"] = self.archive_url
        return variables

    def published(self, venue: str, symbol: str) -> list[Trade]:
        """Return all trades published so far by id, those included that nobody can have."""
        market = self._cast.markets[venue]
        return market.tracks[symbol].trades(0, market.counts[symbol])

    def published_count(self) -> int:
        """Count the trades of all venues that are published."""
        return sum(sum(market.counts.values()) for market in self._cast.markets.values())

    def start(self) -> None:
        """Begin to publish, or go on after `pause_publishing`."""
        self._stages.call(self._stages.release)

    resume_publishing = start

    def pause_publishing(self) -> None:
        """Publish nothing until `resume_publishing`; what is published is still sent."""
        self._stages.call(self._stages.hold)

    def publish(self, count: int, venue: str | None = None) -> None:
        """Publish the next *count* trades of each venue now, whether it is held or not."""

        def advance() -> None:
            for name, stage in self._stages.stages.items():
                if venue in (None, name):
                    stage.publication.advance(stage.publication.published + count)
            self._stages.wake()

        self._stages.call(advance)

    def prepare(self, styles: Mapping[str, str]) -> None:
        """Encode all frames of the venues named beforehand, in the given style of each."""
        for venue, style in styles.items():
            self._cast.stages[venue].publication.reel.prepare(style)

    def replace(self, tape: Tape, unavailable: Unavailable | None = None) -> None:
        """
        Go on with another tape from its beginning, as where a symbol is relisted and its ids start again.

        Connections stay, and get what is published from now on.
        """
        self._stages.call(lambda: self._put_on(tape, unavailable or {}))

    def inject(self, faults: Iterable[Fault | None] | Script) -> None:
        """Spoil the next answers of REST, one each; or ask *faults* for every request from now on."""
        self._rest.inject(faults)

    def rewrite(self, change: Callable[[bytes], bytes] | None, venue: str | None = None) -> None:
        """Send what *change* makes of the payload of each trade, from now on: a venue that renames a field."""

        def put() -> None:
            for name, stage in self._stages.stages.items():
                if venue in (None, name):
                    stage.rewrite = change

        self._stages.call(put)

    def disconnect_all(
        self, venue: str | None = None, host: int | None = None, *, abruptly: bool = False
    ) -> int:
        """End connections, *abruptly* by a reset; return how many."""
        return self._each(venue, host, Connection.cut if abruptly else Connection.end)

    def stall(self, venue: str | None = None, host: int | None = None) -> int:
        """Fall silent on connections without closing them; return how many."""
        return self._each(venue, host, Connection.stall)

    def shutdown_notice(
        self, venue: str | None = None, host: int | None = None, *, grace_seconds: float = 1.0
    ) -> int:
        """Announce on connections that they end, and end them after *grace_seconds*; return how many."""
        return self._each(venue, host, lambda connection: connection.end_after(grace_seconds))

    def connections(self, venue: str | None = None) -> int:
        """Count the connections that are open and subscribed to something."""
        return self._stages.call(
            lambda: sum(c.is_subscribed for c in self._stages.connections(venue) if not c.is_over)
        )

    def close(self) -> None:
        """Stop listening and end every connection."""
        self._stages.close()
        self._listener.close()

    def __enter__(self) -> Self:
        """Return the running server."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def _put_on(self, tape: Tape, unavailable: Unavailable) -> None:
        self._cast.put_on(tape, unavailable, self._stages.wake)
        self._stages.show(self._cast.stages)
        self._rest.venues = [
            (self._cast.dialects[venue], self._cast.markets[venue]) for venue in self._cast.venues
        ]

    def _each(self, venue: str | None, host: int | None, act: Callable[[Connection], object]) -> int:
        def run() -> int:
            chosen = [c for c in self._stages.connections(venue) if host in (None, c.host)]
            for connection in chosen:
                act(connection)
            return len(chosen)

        return self._stages.call(run)
