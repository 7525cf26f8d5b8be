"""`Capture`: connections, writer, landing, healing and refreshing, run together until told to stop."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Self

import structlog

from cryptolake.capture.compacting import HourlyCompaction
from cryptolake.capture.connections import Connections
from cryptolake.capture.healing import Healer
from cryptolake.capture.lander import Lander
from cryptolake.capture.landing import Landing
from cryptolake.capture.recovery import Books, open_books
from cryptolake.capture.refreshing import Refresher
from cryptolake.capture.snapshot import Pace, Snapshot
from cryptolake.capture.writer import Writer
from cryptolake.sources.venue import Places, Venue

if TYPE_CHECKING:
    from cryptolake.capture.instruments import Instrument
    from cryptolake.clock import Clock
    from cryptolake.lake import Lake
    from cryptolake.sources.records import Control

REFINED = "silver.trades"
LOOK_SECONDS = 0.05
SNAPSHOT_SECONDS = 1.0
STOPPING_SECONDS = 1.0
"""How long threads that wait for a venue are waited for at the end; they touch nothing any more."""
MOST_BACKLOG, LEAST_BACKLOG = 100_000, 20_000
"""Frames in memory at which reading pauses, and goes on."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class CaptureOptions:
    """How often trades are committed, bars refreshed and heads audited; when a connection has stalled; the spool's quota."""

    commit_seconds: float
    refresh_seconds: float
    audit_seconds: float
    stall_seconds: float
    spool_max_bytes: int


class Capture:
    """
    A capture of *instruments* into *lake*; use it as a context manager, and `run` it once.

    One event loop holds the sockets; every other part has a thread of its own, so nothing that is slow
    keeps frames from being read.
    """

    def __init__(
        self,
        lake: Lake,
        venues: Mapping[str, tuple[Venue, Places]],
        instruments: Sequence[Instrument],
        books: Books,
        options: CaptureOptions,
        *,
        clock: Clock,
        run_id: str,
        refresh: Callable[[Event], object] | None,
        on_snapshot: Callable[[Snapshot], None],
    ) -> None:
        self._books, self._options, self._clock, self._on_snapshot = books, options, clock, on_snapshot
        self._halt = Event()
        self._failure: BaseException | None = None
        self._began = self._paced_at = clock.monotonic()
        self._paced: dict[Instrument, int] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer = Writer.open(
            books.spool,
            books.ledgers,
            {name: venue for name, (venue, _) in venues.items()},
            clock,
            on_control=self._heed,
            on_failure=self._fail,
            spool_max_bytes=options.spool_max_bytes,
        )
        landing = Landing(lake, books.spool, run_id)
        self._lander = Lander(
            landing,
            books.spool,
            clock,
            commit_seconds=options.commit_seconds,
            stop=self._halt,
        )
        compaction = HourlyCompaction(lake, REFINED)
        self._refresher = Refresher(
            refresh,
            lambda: compaction.when_due(landing.newest),
            self._lander,
            options.refresh_seconds,
            clock,
            self._halt,
        )
        self._connections: dict[str, Connections] = {}
        self._healers: list[Healer] = []
        for name, (venue, places) in venues.items():
            self._add(venue, places, [one for one in instruments if one.venue == name])

    @classmethod
    def open(
        cls,
        lake: Lake,
        venues: Mapping[str, tuple[Venue, Places]],
        instruments: Sequence[Instrument],
        options: CaptureOptions,
        folder: Path,
        clock: Clock,
        *,
        run_id: str,
        refresh: Callable[[Event], object] | None = None,
        on_snapshot: Callable[[Snapshot], None] = lambda _: None,
    ) -> Self:
        """
        Open the spool and the books in *folder*.

        Args:
            lake: where trades land.
            venues: by name, and where each is reached.
            instruments: what to capture.
            options: intervals and limits.
            folder: what the capture keeps between runs; one capture at a time.
            clock: the time, and waiting.
            run_id: stands in every row.
            refresh: brings bars up to date; called in a thread of its own when trades have landed, with an event
                that is set when the capture ends: it should not take long from then on.
            on_snapshot: told once a second, in a thread of its own, where the capture stands.

        Raises:
            OperatorError: another capture uses the folder, or it or the lake cannot be written.
        """
        books = open_books(
            folder, lake, instruments, {name: venue for name, (venue, _) in venues.items()}, clock
        )
        try:
            return cls(
                lake,
                venues,
                instruments,
                books,
                options,
                clock=clock,
                run_id=run_id,
                refresh=refresh,
                on_snapshot=on_snapshot,
            )
        except BaseException:
            books.spool.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._halt.set()
        self._writer.close()
        self._books.spool.close()

    def run(self, stop: Event, seconds: float | None = None) -> Snapshot:
        """
        Capture until *stop* is set, or for *seconds*; then land everything, and return where it stands.

        Open gaps are no failure. Where the lake is down at the end, what is in the spool stays there.

        Raises:
            OperatorError: nothing more could be acknowledged or landed, and a person has to see to it.
        """
        healers = [self._start(f"healing-{healer.venue.name}", healer.run) for healer in self._healers]
        workers = [
            self._start("landing", self._lander.run),
            self._start("refreshing", self._refresher.run),
            self._start("snapshots", self._tell),
        ]
        try:
            asyncio.run(self._read(stop, seconds))
        finally:
            log.info("capture.stopping", reason="what was received is being committed")
            self._halt.set()
            until = self._clock.monotonic() + STOPPING_SECONDS
            for thread in healers:
                thread.join(max(0.0, until - self._clock.monotonic()))
            self._writer.close()
            for thread in workers:
                thread.join()
        if self._failure is None and self._writer.failure is not None:
            self._failure = self._writer.failure
        if self._failure is not None:
            raise self._failure
        self._lander.finish()
        self._refresher.finish()
        last = self.snapshot()
        self._on_snapshot(last)
        log.info(
            "capture.ended", rows=last.landing.rows_landed, open_gaps=last.open_gaps, open_ids=last.open_ids
        )
        return last

    def snapshot(self) -> Snapshot:
        """Return where the capture stands."""
        now = self._clock.monotonic()
        since, self._paced_at = max(now - self._paced_at, 1e-3), now
        paces: list[Pace] = []
        for stats in self._writer.stats():
            before = self._paced.get(stats.instrument, 0)
            self._paced[stats.instrument] = stats.new
            paces.append(Pace(stats, (stats.new - before) / since))
        return Snapshot(
            seconds=now - self._began,
            instruments=paces,
            lines=[state for connections in self._connections.values() for state in connections.states()],
            healing=[healer.state() for healer in self._healers],
            landing=self._lander.state,
            backlog=self._writer.backlog,
            is_full=self._writer.is_full,
            unreadable=self._writer.unreadable,
            refresh_problem=self._refresher.problem,
        )

    def _add(self, venue: Venue, places: Places, instruments: Sequence[Instrument]) -> None:
        rng = random.Random()  # noqa: S311 (jitter)
        symbols = [instrument.symbol for instrument in instruments]
        connections = Connections(
            venue, places, symbols, self._writer, self._clock, rng, stall_seconds=self._options.stall_seconds
        )
        self._connections[venue.name] = connections

        def suspect(missing: Collection[str]) -> None:
            self._in_loop(lambda: connections.suspect(missing))

        self._healers.append(
            Healer(
                venue,
                places,
                instruments,
                self._writer,
                self._clock,
                random.Random(),  # noqa: S311 (jitter)
                audit_seconds=self._options.audit_seconds,
                stop=self._halt,
                on_tail=suspect,
            )
        )

    async def _read(self, stop: Event, seconds: float | None) -> None:
        """Hold the connections until it is time to stop."""
        self._loop = asyncio.get_running_loop()
        until = self._began + seconds if seconds is not None else float("inf")
        running = [asyncio.create_task(one.run()) for one in self._connections.values()]
        try:
            while not stop.is_set() and self._failure is None and self._clock.monotonic() < until:
                self._brake()
                done, _ = await asyncio.wait(
                    running, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_EXCEPTION
                )
                for task in done:
                    task.result()  # a task that ends has failed
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            self._loop = None

    def _brake(self) -> None:
        """Read no more than can be made durable."""
        is_full, backlog = self._writer.is_full, self._writer.backlog
        for connections in self._connections.values():
            if connections.may_connect.is_set() == is_full:
                log.warning("spool.full" if is_full else "spool.has_room", venue=connections.venue.name)
            connections.shut(is_full)
            connections.pause(backlog > (LEAST_BACKLOG if connections.is_paused else MOST_BACKLOG))

    def _start(self, name: str, work: Callable[[], None]) -> Thread:
        def guarded() -> None:
            try:
                work()
            except BaseException as e:  # noqa: BLE001 (whatever ends a thread ends the capture)
                self._fail(e)

        thread = Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread

    def _tell(self) -> None:
        while not self._halt.wait(SNAPSHOT_SECONDS):
            self._on_snapshot(self.snapshot())

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error

    def _heed(self, venue: str, connection: int, control: Control) -> None:
        if control.kind in {"shutdown", "refused"}:
            self._in_loop(lambda: self._connections[venue].heed(connection, control))

    def _in_loop(self, work: Callable[[], None]) -> None:
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # the loop has just ended
                loop.call_soon_threadsafe(work)
