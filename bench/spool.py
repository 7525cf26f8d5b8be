"""
Measure the books: trades a second from frames and from sockets to the durable spool, and from there into the lake.

    python bench/spool.py [--quick] [--folder DIR]

Frames are Binance's, made up: 20 symbols, one trade a frame, as they come from two connections without a loss. From
sockets, a replay server in a process of its own sends frames that it has encoded before, as fast as one connection, or
two that deliver the same trades, take them. Prints JSON. Throughputs are the best of three runs; `fsync` is that of DIR.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection as Pipe
from operator import itemgetter
from pathlib import Path
from typing import Any

import machine
import structlog

from cryptolake.capture.instruments import Instrument
from cryptolake.capture.landing import Landing
from cryptolake.capture.ledger import Ledger
from cryptolake.capture.recovery import Books, open_books
from cryptolake.capture.websocket import Connection
from cryptolake.capture.writer import Writer
from cryptolake.clock import Clock
from cryptolake.contracts import load_contracts
from cryptolake.lake import Lake
from cryptolake.lake.catalog import local_catalog
from cryptolake.replay.venues.generated import generate
from cryptolake.replay.venues.server import VenueServer
from cryptolake.sources.records import Trade
from cryptolake.sources.registry import VENUES

VENUE = VENUES["binance"]
SYMBOLS = [f"COIN{n}USDT" for n in range(20)]
SERVED = SYMBOLS[:4]
INSTRUMENTS = [Instrument(VENUE.name, symbol, symbol) for symbol in SYMBOLS]
FRAMES_A_READ = 100
START_US = 1_723_161_240_000_000
Frame = tuple[bytes, int]


def main() -> None:
    """Run every measurement and print them as one JSON object."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="a tenth of the trades")
    arguments.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    given = arguments.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    trades = 1_000_000 // (10 if given.quick else 1)
    frames = made_up_frames(trades)
    runs = [through(frames, given.folder) for _ in range(3)]
    best = {name: max(run[name] for run in runs) for name in runs[0]}
    figures = {
        "machine": machine.describe(),
        "trades": trades,
        "decode_per_second": rate(trades, lambda: [VENUE.feed.decode(frame) for frame, _ in frames]),
        "accept_per_second": accept(trades),
        **{name: round(value, 2) for name, value in best.items()},
        "sockets": [sockets(trades, connections, given.folder) for connections in (1, 2)],
    }
    print(json.dumps(figures, indent=2))


def made_up_frames(trades: int) -> list[Frame]:
    """Return frames of one trade each, over all symbols, by rising ids."""
    rng = random.Random(8)
    ids = dict.fromkeys(SYMBOLS, 5_000_000_000)
    frames: list[Frame] = []
    for n in range(trades):
        symbol, at = rng.choice(SYMBOLS), START_US + 50 * n
        ids[symbol] += 1
        frame = (
            f'{{"stream":"{symbol.lower()}@trade","data":{{"e":"trade","E":{at + 900},"s":"{symbol}",'
            f'"t":{ids[symbol]},"p":"{rng.uniform(100, 60_000):.8f}","q":"{rng.uniform(0.001, 2):.8f}",'
            f'"T":{at},"m":{rng.choice(("true", "false"))},"M":true}}}}'
        )
        frames.append((frame.encode(), at + 5_000))
    return frames


def accept(trades: int) -> int:
    """Return how many trades a second a ledger takes in order."""
    ordered = [Trade("COIN", n, "1", "1", True, START_US + n) for n in range(trades)]
    return rate(trades, lambda: Ledger(INSTRUMENTS[0], "contiguous").accept(ordered))


@contextmanager
def writing(folder: Path | None) -> Iterator[tuple[Lake, Books, Writer]]:
    """Yield a lake of its own, open books, and a writer; what is left to close, is closed."""
    clock = Clock()
    with (
        tempfile.TemporaryDirectory(dir=folder) as home,
        Lake.open(local_catalog(Path(home)), load_contracts(), clock) as lake,
        open_books(Path(home, "spool"), lake, INSTRUMENTS, {VENUE.name: VENUE}, clock) as books,
    ):
        writer = Writer.open(
            books.spool,
            books.ledgers,
            {VENUE.name: VENUE},
            clock,
            on_control=lambda *_: None,
            on_failure=lambda _: None,
            spool_max_bytes=2**40,
        )
        yield lake, books, writer


def sockets(trades: int, connections: int, folder: Path | None) -> dict[str, int]:
    """Return the best of three runs of `from_sockets`."""
    runs = [from_sockets(trades, connections, folder) for _ in range(3)]
    return max(runs, key=itemgetter("trades_per_second"))


def through(frames: list[Frame], folder: Path | None) -> dict[str, float]:
    """Return the rates of the spool with one connection, of the twin's copies, and of landing what is new."""
    with writing(folder) as (lake, books, writer):
        new = spooled(writer, 1, frames)
        copies = spooled(writer, 2, frames)
        writer.close()
        waiting = books.spool.used_bytes()
        landed = rate(len(frames), lambda: land(Landing(lake, books.spool, "bench")))
        assert not any(len(ledger.open) for ledger in books.ledgers.values())
    return {
        "spooled_per_second": new,
        "duplicates_per_second": copies,
        "spool_bytes_per_trade": waiting / len(frames),
        "landed_per_second": landed,
    }


def from_sockets(trades: int, connections: int, folder: Path | None) -> dict[str, int]:
    """Return how many trades a second come from so many WebSockets into the spool, and what was missed."""
    ours, theirs = multiprocessing.Pipe()
    serving = multiprocessing.get_context("spawn").Process(
        target=serve, args=(theirs, trades, connections), daemon=True
    )
    serving.start()
    urls = [VENUE.feed.url(base, SERVED) for base in ours.recv()[:connections]]
    with writing(folder) as (_, books, writer):
        seconds = asyncio.run(received(urls, trades, writer, ours))
        writer.close()
        spooled = books.spool.pending()[1]
        missing = sum(ledger.open.ids for ledger in books.ledgers.values())
    ours.send("done")
    return {
        "connections": connections,
        "trades_spooled": spooled,
        "ids_missing": missing,
        "trades_per_second": round(trades / seconds),
        "frames_per_second": round(trades * connections / seconds),
    }


async def received(urls: list[str], trades: int, writer: Writer, server: Pipe) -> float:
    """Read *trades* from each of *urls*; return the seconds from the first to where all are durable."""
    opened = [
        await Connection.open(n, url, partial(writer.frames, VENUE.name), Clock())
        for n, url in enumerate(urls, start=1)
    ]
    server.send("start")
    began = time.perf_counter()
    while sum(one.frames for one in opened) < trades * len(urls) or writer.backlog:  # noqa: ASYNC110 (the writer is a thread)
        await asyncio.sleep(0.001)
    seconds = time.perf_counter() - began
    for one in opened:
        one.close()
    return seconds


def serve(pipe: Pipe, trades: int, connections: int) -> None:
    """Send made-up trades, encoded before, once told to (in a process of its own)."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    tape = generate(trades, instruments={VENUE.name: SERVED})
    with VenueServer.open(tape, waits_for=None) as server:
        server.prepare({VENUE.name: "combined-us"})
        pipe.send(server.websocket_url(VENUE.name))
        pipe.recv()
        while server.connections() < connections:
            time.sleep(0.01)
        server.start()
        pipe.recv()


def spooled(writer: Writer, connection: int, frames: list[Frame]) -> int:
    """Return how many *frames* a second of *connection* are made durable."""

    def work() -> None:
        for n in range(0, len(frames), FRAMES_A_READ):
            writer.frames(VENUE.name, connection, frames[n : n + FRAMES_A_READ])
        while writer.backlog:
            time.sleep(0.001)

    return rate(len(frames), work)


def land(landing: Landing) -> None:
    """Land all that waits."""
    while landing.land_once().behind:
        pass


def rate(count: int, work: Callable[[], Any]) -> int:
    """Return how many of *count* a second *work* does."""
    began = time.perf_counter()
    work()
    return round(count / (time.perf_counter() - began))


if __name__ == "__main__":
    main()
