"""A small market: land what vendors say, transform, and look at what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa

from cryptolake.contracts.schemas import arrow_schema
from cryptolake.lake import Lake
from cryptolake.transform.run import ModelRun, Transform

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
FIRST_DAY = date(2023, 1, 1)
EPOCH = date(1970, 1, 1)
PRICES, INDEX = "bronze.historical_prices", "bronze.fear_greed"
REFINED = (
    "silver.daily_prices",
    "silver.fear_greed",
    "gold.dim_coins",
    "gold.dim_dates",
    "gold.fact_market_daily",
)
TRADES, GAPS = "bronze.realtime_trades", "bronze.trade_gaps"
TRADE_TABLES = (
    "silver.trades",
    "silver.held_ids",
    "silver.trade_gaps",
    "silver.held_ranges",
    "silver.bars_1m",
    "gold.fact_ohlcv",
    "gold.coverage_daily",
    "gold.dim_instruments",
)


@dataclass(frozen=True)
class Market:
    """A *lake* whose bronze grows by what vendors say, and the *transform* that refines it."""

    lake: Lake
    transform: Transform

    @classmethod
    def open(cls, lake: Lake, transform: Transform) -> Market:
        """Return the market of *lake*, with its bronze tables."""
        for name in (PRICES, INDEX):
            lake.ensure(name)
        return cls(lake, transform)

    def says(
        self,
        coin_id: str,
        usd_by_day: Mapping[int, float | None],
        *,
        minute: int = 0,
        fetched_at: datetime | None = None,
        volume_usd: float | None = 10.0,
    ) -> None:
        """Land the price of *coin_id* at *minute* of days counted from `FIRST_DAY`, in one commit."""
        at = fetched_at or NOW
        self._land(
            PRICES,
            [
                {
                    "coin_id": coin_id,
                    "timestamp_ms": 86_400_000 * ((FIRST_DAY - EPOCH).days + day) + 60_000 * minute,
                    "price_usd": usd,
                    "volume_24h_usd": volume_usd,
                    "_ingested_at": at,
                    "_source": "coingecko",
                    "_run_id": "run",
                }
                for day, usd in usd_by_day.items()
            ],
        )

    def feels(self, day: int, value: int, classification: str) -> None:
        """Land the index of a day."""
        seconds = 86_400 * ((FIRST_DAY - EPOCH).days + day)
        row = {"value": value, "classification": classification, "timestamp": seconds}
        self._land(INDEX, [{**row, "_ingested_at": NOW, "_source": "alternative.me", "_run_id": "run"}])

    def trades(
        self,
        venue: str,
        symbol: str,
        seconds_by_id: Mapping[int, float],
        *,
        price: float | None = None,
        **values: Any,
    ) -> None:
        """Land trades of an instrument, by id, made so many seconds into `FIRST_DAY`, in one commit; the price is the id."""
        midnight = datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day, tzinfo=UTC)
        head = {"venue": venue, "symbol": symbol, "quantity": Decimal(2), "is_buyer_maker": False}
        self.lake.ensure(TRADES)
        self._land(
            TRADES,
            [
                {
                    **head,
                    "trade_id": i,
                    "price": Decimal(str(price or i)),
                    "traded_at": midnight + timedelta(seconds=seconds),
                    "received_at": NOW,
                    "received_via": "websocket",
                    "_run_id": "run",
                    **values,
                }
                for i, seconds in seconds_by_id.items()
            ],
        )

    def misses(self, venue: str, symbol: str, first_id: int, last_id: int, event: str = "missing") -> None:
        """Land the event that a range of ids is missing, or what became of it."""
        by = None if event == "missing" else "rest"
        row = {"venue": venue, "symbol": symbol, "first_id": first_id, "last_id": last_id, "event": event}
        self.lake.ensure(GAPS)
        self._land(GAPS, [{**row, "resolved_by": by, "occurred_at": NOW, "_run_id": "run"}])

    def runs(self, **options: Any) -> dict[str, ModelRun]:
        """Transform; return what each model did, by its name."""
        return {r.name: r for r in self.transform.run(self.lake, now=NOW, **options)}

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query over the lake."""
        with self.lake.reader() as reader:
            return reader.rows(sql)

    def tables(self) -> dict[str, pa.Table]:
        """Return silver and gold without lineage, sorted by key."""
        contracts = [self.lake.contracts[name] for name in REFINED]
        with self.lake.reader() as reader:
            return {
                c.name: reader.table(
                    f"select {', '.join(n for n in c.column_names if not n.startswith('_'))}"
                    f" from {c.name} order by {', '.join(c.key)}"
                )
                for c in contracts
            }

    def snapshots(self) -> dict[str, int | None]:
        """Return the current snapshot of every table of silver and gold."""
        return {name: self.lake.table(name).metadata.current_snapshot_id for name in REFINED}

    def _land(self, name: str, rows: list[dict[str, Any]]) -> None:
        schema = arrow_schema(self.lake.contracts[name])
        self.lake.append(name, pa.Table.from_pylist(rows, schema=schema))


def day(n: int) -> date:
    """Return the day *n* days after the first."""
    return FIRST_DAY + timedelta(days=n)
