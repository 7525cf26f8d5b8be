"""The recorded six minutes of trades, as rows of bronze, read without the package's own parsers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

import cryptolake.replay

BUNDLED = Path(cryptolake.replay.__file__).parent / "recordings" / "binance-trades-2024-08-08.parquet"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RECORDED = 15_863


def bundled_trades() -> list[dict[str, Any]]:
    """Return the bundled trades in the order in which they were received."""
    frames = pq.read_table(BUNDLED).to_pylist()
    return list(trades_of((f["received_at_ns"], f["frame"]) for f in frames))


def trades_of(frames: Iterable[tuple[int, bytes]]) -> Iterator[dict[str, Any]]:
    """Yield the trades in (received ns, frame), as rows of bronze; other frames are passed over."""
    for received_ns, frame in frames:
        told = json.loads(frame, parse_float=str)["data"]
        if told.get("e") == "trade":
            yield {
                "venue": "binance",
                "symbol": told["s"],
                "trade_id": told["t"],
                "price": Decimal(told["p"]),
                "quantity": Decimal(told["q"]),
                "is_buyer_maker": told["m"],
                "traded_at": EPOCH + timedelta(milliseconds=told["T"]),
                "event_at": EPOCH + timedelta(milliseconds=told["E"]),
                "received_at": EPOCH + timedelta(microseconds=received_ns // 1000),
                "received_via": "websocket",
                "_run_id": "20240808T235400Z-0a1b2c3d",
            }
