"""Bronze rows from the original recordings, read without the package; *folder* is where they are."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def five_years(folder: Path, coin_id: str) -> list[dict[str, Any]]:
    """Return the bronze rows of five years of *coin_id* to 2023-10-25, the trailing intraday point included."""
    chart = json.loads((folder / "nortsand_coingecko_market_chart" / f"{coin_id}.json").read_bytes())
    caps, volumes = dict(chart["market_caps"]), dict(chart["total_volumes"])
    fetched_at = datetime(2023, 10, 25, 17, 16, 50, tzinfo=UTC)
    return [
        _observation(coin_id, ms, price, caps.get(ms), volumes.get(ms), fetched_at)
        for ms, price in chart["prices"]
    ]


def fifty_coins(folder: Path) -> list[dict[str, Any]]:
    """Return the bronze rows of 50 coins from 2015-01-01 to 2022-09-26."""
    fetched_at = datetime(2022, 9, 26, 12, tzinfo=UTC)
    rows = []
    for path in sorted((folder / "erfanzar_coingecko_50coins").glob("*.csv")):
        with path.open(newline="") as lines:
            for r in csv.DictReader(lines):
                ms = (datetime.fromisoformat(r["date"]).replace(tzinfo=UTC) - EPOCH) // timedelta(
                    milliseconds=1
                )
                price, cap, volume = (
                    float(r[c]) if r[c] else None for c in ("price", "market_cap", "total_volume")
                )
                rows.append(_observation(r["coin_name"], ms, price, cap, volume, fetched_at))
    return rows


def sentiment(folder: Path) -> list[dict[str, Any]]:
    """Return the bronze rows of the Fear & Greed index from 2018-02-01 to 2025-11-25."""
    answer = json.loads((folder / "fng_api_limit0_verbatim" / "fear_greed.json").read_bytes())
    fetched_at = datetime(2025, 11, 25, 12, tzinfo=UTC)
    return [
        {
            "value": int(entry["value"]),
            "classification": entry["value_classification"],
            "timestamp": int(entry["timestamp"]),
            **_lineage("alternative.me", fetched_at),
        }
        for entry in answer["data"]
    ]


def _observation(
    coin_id: str, ms: int, price: float | None, cap: float | None, volume: float | None, fetched_at: datetime
) -> dict[str, Any]:
    return {
        "coin_id": coin_id,
        "timestamp_ms": ms,
        "price_usd": price,
        "market_cap_usd": cap,
        "volume_24h_usd": volume,
        **_lineage("coingecko", fetched_at),
    }


def _lineage(source: str, fetched_at: datetime) -> dict[str, Any]:
    return {"_ingested_at": fetched_at, "_loaded_at": fetched_at, "_source": source, "_run_id": "recorded"}
