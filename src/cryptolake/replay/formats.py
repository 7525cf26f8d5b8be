"""Read recordings from files: Parquet as bundled, CoinGecko's and Alternative.me's JSON, CSV."""

from __future__ import annotations

import csv
import json
import operator
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from cryptolake.errors import BadRecordError, OperatorError
from cryptolake.replay.recordings import Series
from cryptolake.sources.alternative_me import wire as alternative_me
from cryptolake.sources.records import IndexValue

Row = tuple[int, float | None, float | None, float | None]

ENDS_AT = b"cryptolake.ends_at"
COIN_COLUMNS = ("coin_id", "timestamp_ms", "price_usd", "market_cap_usd", "volume_24h_usd")
INDEX_COLUMNS = ("value", "classification", "timestamp")

_EPOCH = datetime.fromtimestamp(0, UTC)
_MILLISECOND = timedelta(milliseconds=1)
_END_OF_TIME_MS = 1 << 53

log = structlog.get_logger(__name__)


def read_folder(folder: Path) -> tuple[dict[str, Series], list[IndexValue]]:
    """
    Read every recording in *folder*: coins by id, and the index (empty where there is none).

    Raises:
        OperatorError: if the folder or one of its recordings cannot be read, or there are none.

    """
    if not folder.is_dir():
        raise OperatorError(f"there is no folder {folder}: name one that holds recordings")
    rows: dict[str, list[Row]] = defaultdict(list)
    index: list[IndexValue] = []
    for path in sorted(folder.iterdir()):
        reader = _READERS.get(path.suffix)
        if reader is None:
            continue
        try:
            found = reader(path)
        except (OSError, ValueError, KeyError, TypeError, BadRecordError) as broken:
            raise OperatorError(f"the recording {path} cannot be read: {broken}") from broken
        if found is None:
            log.warning("recordings.skipped", file=str(path), reason="it is no recording")
        elif isinstance(found, list):
            index = found
        else:
            for coin_id, points in found.items():
                rows[coin_id] += points
    if not rows and not index:
        raise OperatorError(
            f"{folder} holds no recordings: put CoinGecko market charts (<coin>.json), CSV files, "
            "Parquet files as bundled, or an answer of api.alternative.me/fng/?limit=0 there"
        )
    return {coin_id: as_series(points) for coin_id, points in rows.items()}, index


def read_coins(path: Path) -> tuple[dict[str, Series], datetime | None]:
    """Read a bundled Parquet file of coins, and when its recording ends."""
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    rows: dict[str, list[Row]] = defaultdict(list)
    columns = (table[name].to_pylist() for name in COIN_COLUMNS)
    for coin_id, *row in zip(*columns, strict=True):
        rows[coin_id].append(tuple(row))
    said = (table.schema.metadata or {}).get(ENDS_AT)
    ends_at = datetime.fromisoformat(said.decode()) if said else None
    return {coin_id: as_series(points) for coin_id, points in rows.items()}, ends_at


def read_index(path: Path) -> list[IndexValue]:
    """Read a bundled Parquet file of the index, oldest first."""
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=list(INDEX_COLUMNS))
    columns = (table[name].to_pylist() for name in INDEX_COLUMNS)
    days = [IndexValue(*row) for row in zip(*columns, strict=True)]
    return sorted(days, key=operator.attrgetter("timestamp"))


def as_series(rows: Iterable[Row]) -> Series:
    """Return rows as columns, oldest first; rows of one instant stay in their order."""
    ordered = sorted(rows, key=operator.itemgetter(0))
    times, prices, caps, volumes = zip(*ordered, strict=True) if ordered else ((), (), (), ())
    return Series(times, prices, caps, volumes)


def market_chart_rows(body: bytes) -> list[Row] | None:
    """Return the points of a recorded market chart, joined by timestamp; None if it is no market chart."""
    chart = json.loads(body)
    if not isinstance(chart, dict) or not isinstance(chart.get("prices"), list):
        return None
    caps, volumes = (dict(map(tuple, chart.get(name) or ())) for name in ("market_caps", "total_volumes"))
    return [
        (time, _double(price), _double(caps.get(time)), _double(volumes.get(time)))
        for time, price in chart["prices"]
    ]


def csv_rows(path: Path) -> Iterator[tuple[str, Row]] | None:
    """Yield the coin and the points of a CSV recording, None if it is none."""
    with path.open(newline="", encoding="utf-8") as lines:
        records = list(csv.DictReader(lines))
    if not records or not {"date"} < set(records[0]) or not {"price", "prices"} & set(records[0]):
        return None
    return ((_first(record, "coin_name", "coin") or path.stem, _csv_row(record)) for record in records)


def _csv_row(record: Mapping[str, str]) -> Row:
    moment = datetime.fromisoformat(record["date"])
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    values = (
        _first(record, "price", "prices"),
        _first(record, "market_cap", "market_caps"),
        _first(record, "total_volume", "total_volumes"),
    )
    price, cap, volume = (float(value) if value else None for value in values)
    return (moment - _EPOCH) // _MILLISECOND, price, cap, volume


def _first(record: Mapping[str, str], *names: str) -> str:
    return next((record[name] for name in names if name in record), "")


def _double(value: float | None) -> float | None:
    return None if value is None else float(value)


def _read_json(path: Path) -> dict[str, Sequence[Row]] | list[IndexValue] | None:
    body = path.read_bytes()
    rows = market_chart_rows(body)
    if rows is not None:
        return {path.stem: rows}
    document: Any = json.loads(body)
    if not isinstance(document, dict) or not isinstance(document.get("data"), list):
        return None
    history = alternative_me.fng(body, received_at_ms=_END_OF_TIME_MS)
    for reject in history.rejects:
        raise reject
    return history.values


def _read_csv(path: Path) -> dict[str, list[Row]] | None:
    found = csv_rows(path)
    if found is None:
        return None
    rows: dict[str, list[Row]] = defaultdict(list)
    for coin_id, row in found:
        rows[coin_id].append(row)
    return rows


def _read_parquet(path: Path) -> dict[str, list[Row]] | list[IndexValue] | None:
    import pyarrow.parquet as pq

    names = set(pq.read_schema(path).names)
    if names >= set(COIN_COLUMNS):
        coins, _ = read_coins(path)
        return {
            coin_id: list(
                zip(series.timestamps_ms, series.prices, series.market_caps, series.volumes, strict=True)
            )
            for coin_id, series in coins.items()
        }
    return read_index(path) if names >= set(INDEX_COLUMNS) else None


_READERS = {".json": _read_json, ".csv": _read_csv, ".parquet": _read_parquet}
