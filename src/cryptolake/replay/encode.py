"""
Encode the bundled recordings from their sources, bit by bit the same values.

    python -m cryptolake.replay.encode FOLDER [--to DIR]

FOLDER holds one folder for each recording, as `SOURCES` names them, each with the files of the
repository at the commit that README.md beside the recordings names.
"""

from __future__ import annotations

import argparse
import gzip
import operator
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from cryptolake.errors import OperatorError
from cryptolake.replay.formats import COIN_COLUMNS, ENDS_AT, as_series, market_chart_rows, read_folder
from cryptolake.replay.recordings import INDEX, Series, end_of
from cryptolake.replay.venues.tape import RECORDED_TRADES

if TYPE_CHECKING:
    import pyarrow as pa

    from cryptolake.sources.records import IndexValue

TRADE_STREAM = re.compile(rb'{"stream":"[a-z]+@trade",')

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Source:
    """
    Where a recording comes from: *folder* under FOLDER, the repository's *commit*, its *licence*.

    *coin* is the coin of a recording that is a single answer, *ends_at* the moment it was recorded,
    where that is known better than from its points.
    """

    folder: str
    repository: str
    commit: str
    licence: str
    coin: str | None = None
    ends_at: str | None = None

    def metadata(self, ends_at: datetime) -> dict[str | bytes, str | bytes]:
        """Return what a file of a recording that *ends_at* says about itself."""
        return {
            ENDS_AT: ends_at.isoformat(),
            b"cryptolake.source": f"{self.repository} at {self.commit}",
            b"cryptolake.licence": self.licence,
        }


SOURCES = {
    "50-coins": Source(
        "erfanzar_coingecko_50coins",
        "https://github.com/erfanzar/Coin-Predict-Ai",
        "402e593aa91c50cd0bfe6ce3a576b9c2c6c991ab",
        "MIT, Copyright (c) 2022 Erano-",
    ),
    "250-coins": Source(
        "gmorinan_coingecko_180d",
        "https://github.com/gmorinan/cryptocurrency_portfolio_optimiser",
        "e8c5b3d3e043f6ae47099f585eb32684fe3af640",
        "MIT, Copyright (c) 2024 Gareth Morinan",
    ),
    "bitcoin-90-days": Source(
        "julianfssen_coingecko_vcr/unwrapped/daily_historical_prices_for_one_coin.0.json",
        "https://github.com/julianfssen/coingecko_ruby",
        "78c00d61c20c73d90a2bfdeba4b30b164a8ce5ed",
        "MIT, Copyright (c) 2021 Julian Foo Siang Sen",
        coin="bitcoin",
        ends_at="2021-05-15T14:42:27+00:00",
    ),
    INDEX: Source(
        "fng_api_limit0_verbatim",
        "https://github.com/SamandarMansurkhodjaev2713/tg-bot-trading",
        "c6831a79140ce2b424779e9b37869d61a41fa459",
        "none stated; Alternative.me allows use with attribution next to the display",
    ),
}


TRADES = Source(
    "hftbacktest_binance_ws_2024",
    "https://github.com/nkaz001/hftbacktest",
    "5f3ec40b2afb764e0fea112f941ed85523ef4e88",
    "MIT, Copyright (c) 2022 nkaz001",
)
"""The frames of trades, as Binance sent them and byte by byte."""


def encode(folder: Path, target: Path) -> None:
    """
    Write every bundled recording into *target*, from the sources in *folder*.

    Raises:
        OperatorError: if a source is missing or cannot be read.

    """
    import pyarrow.parquet as pq

    target.mkdir(parents=True, exist_ok=True)
    encode_trades(folder, target)
    for name, source in SOURCES.items():
        table = _table(folder, source)
        path = target / f"{name}.parquet"
        pq.write_table(
            table,
            path,
            compression="zstd",
            compression_level=19,
            use_dictionary=["coin_id"] if "coin_id" in table.column_names else ["classification"],
            column_encoding={
                field.name: "BYTE_STREAM_SPLIT" for field in table.schema if field.type == "double"
            }
            | {
                "timestamp_ms" if "timestamp_ms" in table.column_names else "timestamp": "DELTA_BINARY_PACKED"
            },
        )
        log.info("recording.encoded", file=str(path), rows=table.num_rows, bytes=path.stat().st_size)


def encode_trades(folder: Path, target: Path) -> None:
    """
    Write the recorded frames of trades into *target*: each with the nanosecond at which it was received.

    Raises:
        OperatorError: if the source in *folder* is missing or holds no such frames.

    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [row for path in sorted((folder / TRADES.folder).glob("spot_*.gz")) for row in _trade_frames(path)]
    if not rows:
        raise OperatorError(f"{folder / TRADES.folder} holds no recorded frames of trades (spot_*.gz)")
    rows.sort(key=operator.itemgetter(0))
    received_at_ns, frames = zip(*rows, strict=True)
    table = pa.table(
        {"received_at_ns": pa.array(received_at_ns, pa.int64()), "frame": pa.array(frames, pa.binary())}
    )
    path = target / f"{RECORDED_TRADES}.parquet"
    pq.write_table(
        table.replace_schema_metadata(
            TRADES.metadata(datetime.fromtimestamp(received_at_ns[-1] // 10**9, UTC))
        ),
        path,
        compression="zstd",
        compression_level=19,
        use_dictionary=False,
        column_encoding={"received_at_ns": "DELTA_BINARY_PACKED", "frame": "PLAIN"},
        data_page_size=1 << 26,  # one page: the frames are much alike
    )
    log.info("recording.encoded", file=str(path), rows=table.num_rows, bytes=path.stat().st_size)


def _trade_frames(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the frames of trades in a file of lines `<nanoseconds> <frame>`, as they stand there."""
    with gzip.open(path) as lines:
        for line in lines:
            received_at_ns, _, frame = line.rstrip(b"\n").partition(b" ")
            if TRADE_STREAM.match(frame):
                yield int(received_at_ns), frame


def _table(folder: Path, source: Source) -> pa.Table:
    coins, index = _read(folder / source.folder, source.coin)
    ends_at = datetime.fromisoformat(source.ends_at) if source.ends_at else end_of(coins, index)
    return (_coin_table(coins) if coins else _index_table(index)).replace_schema_metadata(
        source.metadata(ends_at)
    )


def _read(path: Path, coin: str | None) -> tuple[dict[str, Series], list[IndexValue]]:
    if coin is None:
        return read_folder(path)
    try:
        rows = market_chart_rows(path.read_bytes())
    except OSError as missing:
        raise OperatorError(f"the recording {path} cannot be read: {missing}") from missing
    return {coin: as_series(rows or ())}, []


def _coin_table(coins: Mapping[str, Series]) -> pa.Table:
    import pyarrow as pa

    every = coins.values()
    columns = (
        [coin for coin, series in coins.items() for _ in series.timestamps_ms],
        [time for series in every for time in series.timestamps_ms],
        [price for series in every for price in series.prices],
        [cap for series in every for cap in series.market_caps],
        [volume for series in every for volume in series.volumes],
    )
    types = (pa.string(), pa.int64(), pa.float64(), pa.float64(), pa.float64())
    return pa.table(list(columns), schema=pa.schema(list(zip(COIN_COLUMNS, types, strict=True))))


def _index_table(index: list[IndexValue]) -> pa.Table:
    import pyarrow as pa

    schema = pa.schema([("value", pa.int32()), ("classification", pa.string()), ("timestamp", pa.int64())])
    columns = [[getattr(day, name) for day in index] for name in schema.names]
    return pa.table(columns, schema=schema)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m cryptolake.replay.encode", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--to", type=Path, default=Path(__file__).parent / "recordings")
    given = parser.parse_args()
    encode(given.folder, given.to)
