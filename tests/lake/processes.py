"""What the tests of the lake let other processes do."""

from __future__ import annotations

import logging
import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import structlog

from cryptolake.clock import Clock
from cryptolake.errors import StaleWriterError
from cryptolake.lake import Position
from tests.lake.shapes import NOON, PRICES, TRADES, open_lake, prices, trades

ONLY_NEW = "select * from incoming anti join stored using (trade_id)"
STREAM = "test"

_fresh = multiprocessing.get_context("forkserver")
_fresh.set_forkserver_preload(
    ["cryptolake.lake", "duckdb", "pyarrow.dataset", "pyiceberg.catalog.sql", "sqlalchemy.dialects.sqlite"]
)


def run(
    work: Callable[..., None], argument_lists: Sequence[tuple[Any, ...]], *, may_die: bool = False
) -> list[int | None]:
    """
    Run *work* in a process of its own for every list of arguments, all at the same moment; return their exit codes.

    Each must end well, unless it *may die*.
    """
    together = _fresh.Barrier(len(argument_lists))
    processes = [
        _fresh.Process(target=_run, args=(work, together, arguments)) for arguments in argument_lists
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    codes = [p.exitcode for p in processes]
    assert may_die or codes == [0] * len(codes)
    return codes


def _run(work: Callable[..., None], together: Barrier, arguments: tuple[Any, ...]) -> None:
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    together.wait()
    work(*arguments)


def create_and_append(home: Path, ids: Sequence[int]) -> None:
    """Open a lake that may be new, make its tables, and append trades."""
    with open_lake(home) as lake:
        for name in (PRICES.name, TRADES.name):
            lake.ensure(name)
        lake.append(TRADES.name, trades(ids), new=ONLY_NEW)


def append_in_steps(home: Path, ids: Sequence[int], step: int, behind: timedelta) -> None:
    """Append the trades of *ids* that are not held, *step* at a time, with a clock that is slow."""
    with open_lake(home, clock=Clock.fixed(NOON - behind)) as lake:
        for n in range(0, len(ids), step):
            lake.append(TRADES.name, trades(ids[n : n + step]), new=ONLY_NEW)


def merge_often(home: Path, coin: str, commits: int) -> None:
    """Merge a growing price of *coin* and of a coin that others merge as well, many times."""
    with open_lake(home) as lake:
        for n in range(commits):
            lake.merge(PRICES.name, prices(coin, [n], price=n + 1.0))
            lake.merge(PRICES.name, prices("shared", [n]))


def append_or_maintain(home: Path, ids: Sequence[int] | None) -> None:
    """Append the trades of *ids* one by one; without ids, maintain the lake a few times."""
    with open_lake(home) as lake:
        for n in ids or ():
            lake.append(TRADES.name, trades([n]))
        for _ in range(0 if ids else 3):
            lake.maintain(orphans_older_than_seconds=3_600, dry_run=False)


def follow_stream(home: Path, end: int, seed: int, kill_after_seconds: float | None) -> None:
    """Append a stream of trades from its committed position to *end*, and die on the way if told to."""
    chance = random.Random(seed)
    if kill_after_seconds is not None:
        threading.Timer(kill_after_seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
    with open_lake(home) as lake:
        while (at := position(lake)) < end:
            to = min(end, at + chance.randint(20, 200))
            try:
                lake.append(
                    TRADES.name, trades(range(at, to)), position=Position(STREAM, str(at or ""), str(to))
                )
            except StaleWriterError:
                continue


def position(lake: Any) -> int:
    """Return the id that the stream goes on from."""
    return int(lake.table(TRADES.name).properties.get(f"cryptolake.position.{STREAM}", "0"))
