"""
Measure the live path: loopback WebSocket to committed Iceberg row, with the bars refreshed as in `cryptolake stream`.

    python bench/stream.py [--quick] [--rate 20000] [--seconds 600]

A replay server in a process of its own publishes generated trades at a steady rate, on twin connections.
Prints JSON: latency from the frame's arrival to the commit that holds its row, memory, and how long the event loop was kept from
its sockets, also while the lake is down (the catalog locked by another process for a tenth of the time).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import resource
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import machine
import pyarrow as pa
import pyarrow.compute as pc
import structlog

from cryptolake.clock import Clock
from cryptolake.config import Settings
from cryptolake.lake import Committed, Lake
from cryptolake.wiring import instruments_of, open_capture, open_lake

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "LINKUSDT")
TRADES, BUCKET_MS = "bronze.realtime_trades", 50
BEAT_SECONDS = 0.01


def main() -> None:
    """Run the capture under load and print what was seen as one JSON object."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="30 seconds instead of 10 minutes")
    arguments.add_argument("--rate", type=int, default=20_000, help="trades a second")
    arguments.add_argument("--seconds", type=int, default=600)
    given = arguments.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    seconds = 30 if given.quick else given.seconds
    print(json.dumps({"machine": machine.describe(), "stream": stream(given.rate, seconds)}, indent=2))


def stream(rate: int, seconds: int) -> dict[str, Any]:
    """Capture *rate* trades a second for so many *seconds*; return the figures."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(theirs, rate, seconds), daemon=True
    )
    server.start()
    said: dict[str, Any] = ours.recv()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            home=folder, sources=said, capture={"instruments": [f"binance:{s}" for s in SYMBOLS]}
        )
        watched = Watched()
        with open_lake(settings, Clock()) as lake:
            watched.follow(lake)
            with open_capture(settings, Clock(), lake, instruments_of(settings), watched.look) as capture:
                stop, beat = (
                    threading.Event(),
                    threading.Thread(target=watched.beat, args=(capture,), daemon=True),
                )
                beat.start()
                lock = threading.Timer(
                    seconds * 0.45, watched.lock, args=(Path(folder) / "catalog.db", seconds * 0.1)
                )
                lock.start()
                threading.Thread(target=lambda: (ours.recv(), time.sleep(2), stop.set()), daemon=True).start()
                last = capture.run(stop)
                lock.join()
            rows = lake.table(TRADES).current_snapshot().summary["total-records"]  # type: ignore[union-attr,index]
        ours.send("done")
        return {
            "trades_per_second": rate,
            "seconds": seconds,
            "published": rate * seconds,
            "rows_committed": int(rows or 0),
            "gaps_opened": sum(pace.stats.gaps_opened for pace in last.instruments),
            "open_ids": last.open_ids,
            **watched.figures(),
        }


def serve(pipe: Connection, rate: int, seconds: int) -> None:
    """Publish generated trades until told to stop (in a process of its own)."""
    from cryptolake.replay.venues.generated import generate
    from cryptolake.replay.venues.server import VenueServer

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    tape = generate(rate * seconds, instruments={"binance": SYMBOLS}, trades_per_second=float(rate))
    with VenueServer.open(tape, trades_per_second=float(rate), waits_for=2) as server:
        pipe.send(
            {
                "binance": {
                    "websocket_url": server.websocket_url("binance"),
                    "rest_url": server.rest_url("binance"),
                    "archive_url": server.archive_url,
                }
            }
        )
        server.finished.wait()
        pipe.send("finished")
        pipe.recv()


class Watched:
    """What is seen of a capture: latencies of rows, memory, stalls of its event loop."""

    def __init__(self) -> None:
        self._latencies: dict[bool, Counter[int]] = {False: Counter(), True: Counter()}
        self._stalls: dict[bool, list[float]] = {False: [], True: []}
        self._memory_mb: list[float] = []
        self._is_locked = False
        self._clear_at = 0.0

    def follow(self, lake: Lake) -> None:
        """Note the age of every row when the commit that holds it is done."""
        append = lake.append

        def timed(name: str, rows: pa.Table, **options: Any) -> Committed:
            done = append(name, rows, **options)
            if name == TRADES:
                now_us = time.time_ns() // 1000
                ages = pc.divide(
                    pc.subtract(now_us, pc.cast(rows["received_at"], pa.int64())), BUCKET_MS * 1000
                )
                counts = pc.value_counts(ages.combine_chunks() if hasattr(ages, "combine_chunks") else ages)
                held_up = self._is_locked or time.monotonic() < self._clear_at
                for pair in counts.to_pylist():
                    self._latencies[held_up][pair["values"]] += pair["counts"]
            return done

        lake.append = timed  # type: ignore[method-assign]

    def look(self, _: object) -> None:
        """Note the memory of this process."""
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        self._memory_mb.append(pages * resource.getpagesize() / 2**20)

    def beat(self, capture: Any) -> None:
        """Ask the event loop for an answer again and again, and note how late it comes."""
        while (loop := capture._loop) is None:  # noqa: SLF001 (a benchmark looks inside)
            time.sleep(0.01)

        async def beat() -> None:
            while True:
                due = time.perf_counter() + BEAT_SECONDS
                await asyncio.sleep(BEAT_SECONDS)
                self._stalls[self._is_locked].append(time.perf_counter() - due)

        asyncio.run_coroutine_threadsafe(beat(), loop)

    def lock(self, catalog: Path, seconds: float) -> None:
        """Lock the catalog for so many *seconds*, as another process could."""
        with sqlite3.connect(catalog, isolation_level=None) as connection:
            connection.execute("begin immediate")
            self._is_locked = True
            time.sleep(seconds)
            connection.execute("rollback")
        self._is_locked, self._clear_at = False, time.monotonic() + 30

    def figures(self) -> dict[str, Any]:
        """Return percentiles of all that was noted."""
        fifth = max(len(self._memory_mb) // 5, 1)
        return {
            "latency_ms": _percentiles(self._latencies[False]),
            "latency_ms_around_the_outage": _percentiles(self._latencies[True]),
            "event_loop_stall_ms": {
                "lake up": _stall(self._stalls[False]),
                "lake down": _stall(self._stalls[True]),
            },
            "memory_mb_by_fifth_of_the_run": [
                round(max(self._memory_mb[n * fifth : (n + 1) * fifth] or [0])) for n in range(5)
            ],
        }


def _percentiles(counts: Counter[int]) -> dict[str, int]:
    total, seen, wanted, found = counts.total(), 0, [0.5, 0.95, 0.99], {}
    for bucket in sorted(counts):
        seen += counts[bucket]
        for share in [w for w in wanted if seen >= w * total]:
            found[f"p{share * 100:.0f}"] = (bucket + 1) * BUCKET_MS
            wanted.remove(share)
    return found | ({"max": (max(counts) + 1) * BUCKET_MS, "rows": total} if counts else {})


def _stall(late: list[float]) -> dict[str, float]:
    if not late:
        return {}
    ordered = sorted(late)
    at = lambda share: round(ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1000, 1)  # noqa: E731
    return {"p50": at(0.5), "p99": at(0.99), "max": at(1.0)}


if __name__ == "__main__":
    main()
