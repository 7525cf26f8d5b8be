"""
A small lake of trades in which nothing is wrong, to copy and break; what the oracle says of its bronze.

Two instruments over parts of two days; one id is absent, one gap was filled, and history lies before a hole that is
no gap.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from cryptolake.contracts import load_contracts
from cryptolake.lake import Lake
from cryptolake.quality import CheckResult, run_checks
from tests.oracle.trades import trade_tables
from tests.quality.clean_lake import NOW, SHARED_FILES, arrow, opened

BTC, LUNA = ("coinbase", "BTC-USD"), ("okx", "LUNA-USDT#2")
START = datetime(2024, 3, 14, 22, tzinfo=UTC)
TABLES = ("bronze.rejects", "silver.daily_prices", *(n for n, c in load_contracts().items() if c.is_optional))
FIRST_CAPTURED, ABSENT, FILLED = 1_000, 1_050, 1_080


def copies() -> list[dict[str, Any]]:
    """Return the rows of bronze.realtime_trades: two minutes apart, one trade there twice."""
    rows = []
    for venue, symbol in (BTC, LUNA):
        for i in [*range(100, 110), *range(FIRST_CAPTURED, FIRST_CAPTURED + 120)]:
            if i == ABSENT:
                continue
            via = "archive" if i < FIRST_CAPTURED else "rest" if i == FILLED else "websocket"
            at = START + timedelta(minutes=2 * (i - FIRST_CAPTURED), seconds=i % 7)
            rows.append(
                {
                    "venue": venue,
                    "symbol": symbol,
                    "trade_id": i,
                    "price": Decimal(60_000 + i % 13) / 7 // Decimal("0.01") / 100,
                    "quantity": Decimal(i % 9 + 1).scaleb(-8),
                    "is_buyer_maker": i % 3 == 0,
                    "traded_at": at,
                    "received_at": at,
                    "received_via": via,
                    "_run_id": "clean",
                    "_loaded_at": NOW - timedelta(seconds=1),
                }
            )
    return [*rows, rows[40]]


def events() -> list[dict[str, Any]]:
    """Return the rows of bronze.trade_gaps: a gap that was filled, and an id that does not exist."""
    head = {"venue": BTC[0], "symbol": BTC[1], "_run_id": "clean", "_loaded_at": NOW - timedelta(seconds=1)}
    return [
        {
            **head,
            "first_id": i,
            "last_id": i,
            "event": event,
            "reason": "stall",
            "resolved_by": by,
            "occurred_at": NOW,
        }
        for i, event, by in (
            (ABSENT, "missing", None),
            (FILLED, "missing", None),
            (ABSENT, "absent", "rest"),
            (FILLED, "filled", "rest"),
        )
    ] + [
        {**head, "venue": LUNA[0], "symbol": LUNA[1], "first_id": ABSENT, "last_id": ABSENT}
        | {"event": "absent", "reason": "stall", "resolved_by": "rest", "occurred_at": NOW}
    ]


def build(home: Path) -> None:
    """Make the clean lake under *home*, which exists."""
    with opened(home) as lake:
        for name in (*TABLES, "quality.check_results"):
            with lake.ensure(name).transaction() as tx:
                tx.set_properties(SHARED_FILES)
        for name, rows in tables().items():
            lake.table(name).append(arrow(name, rows))


def tables() -> dict[str, list[dict[str, Any]]]:
    """Return the rows of every table that has some."""
    trades, gaps = copies(), events()
    refined = trade_tables(trades, gaps)
    refined["gold.dim_instruments"] = [
        {
            "venue": BTC[0],
            "symbol": BTC[1],
            "coin_id": "bitcoin",
            "base_currency": "BTC",
            "quote_currency": "USD",
        }
        | {"is_reference": True},
        {"venue": LUNA[0], "symbol": LUNA[1], "is_reference": False},
    ]
    return {
        "bronze.realtime_trades": trades,
        "bronze.trade_gaps": gaps,
        **{name: list(_stamped(name, rows)) for name, rows in refined.items()},
    }


def _stamped(table: str, rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    columns = load_contracts()[table].column_names
    for row in rows:
        all_of_it = {**row, "_processed_at": NOW, "_loaded_at": NOW}
        yield {k: v for k, v in all_of_it.items() if k in columns}


def check(lake: Lake, names: Sequence[str]) -> Mapping[str, CheckResult]:
    """Run the checks of the tables *names* and return their results by `layer.table.check`."""
    everything = lake.contracts
    lake.contracts = {n: c for n, c in everything.items() if n in {*names, "quality.check_results"}}
    layers = list(dict.fromkeys(name.split(".")[0] for name in names))
    with lake.reader(only=[*TABLES, "quality.check_results"]) as reader:
        results = run_checks(lake, reader, layers=layers, coins=(), run_id="checked", now=NOW)
    lake.contracts = everything
    return {f"{r.table_name}.{r.check_name}": r for r in results}
