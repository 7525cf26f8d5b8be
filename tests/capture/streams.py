"""What the tests of the wires share: a replayed venue, a capture of all it has, and what landed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptolake.capture.instruments import Instrument, parse_instruments
from cryptolake.capture.snapshot import Snapshot
from cryptolake.capture.stream import Capture, CaptureOptions
from cryptolake.clock import Clock
from cryptolake.contracts import load_contracts
from cryptolake.lake import Lake
from cryptolake.lake.catalog import local_catalog
from cryptolake.replay.venues.generated import generate
from cryptolake.replay.venues.server import VenueServer
from cryptolake.replay.venues.tape import Tape, track
from cryptolake.sources.registry import VENUES
from cryptolake.sources.venue import Places, Venue

BTC = Instrument("binance", "BTCUSDT", "BTCUSDT")
LOOK_SECONDS = 0.02
QUICK = CaptureOptions(
    commit_seconds=0.2, refresh_seconds=0.2, audit_seconds=0.3, stall_seconds=5.0, spool_max_bytes=1 << 30
)


def tape(trades: int = 2_000, seed: int = 1, **shape: Any) -> Tape:
    """Return made-up trades of one Binance symbol, unless *shape* has other `instruments`."""
    return generate(trades, seed=seed, **{"instruments": {"binance": ["BTCUSDT"]}, **shape})


def written(moments: Sequence[datetime], *, unreadable: Collection[int] = ()) -> Tape:
    """Return trades of BTCUSDT with the ids 1, 2, …, made at *moments*; the prices of those *unreadable* are no prices."""
    ids = range(1, len(moments) + 1)
    times_us = [round(moment.timestamp() * 1e6) for moment in moments]
    prices = ["0" if i in unreadable else "60000.5" for i in ids]
    columns = (
        ids,
        prices,
        ["1"] * len(ids),
        [True] * len(ids),
        times_us,
        times_us,
        [us * 1000 for us in times_us],
    )
    return Tape("written", [track("binance", "BTCUSDT", columns)], is_generated=True)


def places(server: VenueServer) -> Mapping[str, tuple[Venue, Places]]:
    """Return the venues of *server*, and where it has them."""
    return {
        name: (
            VENUES[name],
            Places(
                tuple(server.websocket_url(name)),
                server.rest_url(name),
                server.archive_url if name == "binance" else None,
            ),
        )
        for name in server.tape.venues
    }


def instruments(server: VenueServer) -> tuple[Instrument, ...]:
    """Return all instruments of *server*."""
    return parse_instruments([f"{t.venue}:{t.symbol}" for t in server.tape.tracks], {}, VENUES)


def open_lake(home: Path) -> Lake:
    """Open the lake in *home*, made where there is none."""
    return Lake.open(local_catalog(home), load_contracts(), Clock())


class Late(AssertionError):  # noqa: N818 (it is a failure of the test)
    """Something did not happen in time."""


class Streaming:
    """A capture into *home* of all that *server* has, in a thread of its own; it is stopped at the end of the block."""

    def __init__(
        self,
        home: Path,
        server: VenueServer,
        options: CaptureOptions = QUICK,
        *,
        refresh: Callable[[threading.Event], object] | None = None,
        seconds: float | None = None,
        venues: Mapping[str, tuple[Venue, Places]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.home, self.server, self.options, self.refresh = home, server, options, refresh
        self.seconds, self.venues = seconds, venues or places(server)
        self.clock = clock or Clock()
        self.stop = threading.Event()
        self.last: Snapshot | None = None
        self.failure: BaseException | None = None
        self._lake: Lake
        self.capture: Capture
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._lake = open_lake(self.home)
        self.capture = Capture.open(
            self._lake,
            self.venues,
            instruments(self.server),
            self.options,
            self.home / "spool",
            self.clock,
            run_id="test",
            refresh=self.refresh,
        )
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()
        self.capture.__exit__(None, None, None)
        self._lake.close()
        if error is None and self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        try:
            self.last = self.capture.run(self.stop, self.seconds)
        except BaseException as e:  # noqa: BLE001 (raised in the test's thread)
            self.failure = e

    def finish(self) -> None:
        """Stop it, and wait for its end."""
        self.stop.set()
        self._thread.join()

    def until(self, is_so: Callable[[Snapshot], bool], what: str, seconds: float = 20.0) -> Snapshot:
        """Wait until something is so, and return the snapshot in which it was."""
        for _ in range(int(seconds / LOOK_SECONDS)):
            snapshot = self.capture.snapshot()
            if is_so(snapshot):
                return snapshot
            if not self._thread.is_alive():
                raise self.failure or Late(f"{what}: the capture has ended")
            self.stop.wait(LOOK_SECONDS)
        raise Late(f"{what}: not within {seconds} s; {self.capture.snapshot()}")

    def until_connected(self, connections: int = 2) -> None:
        """Wait until as many connections get trades."""
        self.until(lambda _: self.server.connections() >= connections, "connected")

    def until_complete(self, trades: int | None = None) -> Snapshot:
        """Wait until as many *trades* are held, all of the tape unless said, and none is missing."""
        wanted = len(self.server.tape) if trades is None else trades
        return self.until(lambda s: held(s) == wanted and not s.open_ids, f"{wanted} trades")


def held(snapshot: Snapshot) -> int:
    """Return how many trades were new."""
    return sum(pace.stats.new for pace in snapshot.instruments)


def landed_ids(home: Path, symbol: str = "BTCUSDT") -> list[int]:
    """Return the ids of *symbol* in bronze, every copy, sorted."""
    return [
        i
        for (i,) in rows(
            home, "select trade_id from bronze.realtime_trades where symbol = ? order by 1", symbol
        )
    ]


def rows(home: Path, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Return what a query answers in the lake of *home*."""
    with open_lake(home) as lake, lake.reader() as reader:
        return reader.rows(sql, parameters)


def gap_events(home: Path) -> list[tuple[Any, ...]]:
    """Return the gap events: event, reason, by what it was resolved, and ids, in the order in which they landed."""
    return rows(
        home,
        "select event, reason, resolved_by, last_id - first_id + 1 from bronze.trade_gaps order by _loaded_at, first_id",
    )


def open_ids(home: Path) -> set[int]:
    """Return the ids that are missing by an event, and by no other event closed."""
    events = rows(home, "select event, first_id, last_id from bronze.trade_gaps")
    missing = _ids((a, b) for event, a, b in events if event == "missing")
    return missing - _ids((a, b) for event, a, b in events if event != "missing")


def _ids(ranges: Iterable[tuple[int, int]]) -> set[int]:
    return {i for first, last in ranges for i in range(first, last + 1)}
