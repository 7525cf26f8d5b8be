"""A tape of trades: what a replayed venue has to tell, from a recording, the lake or a seed."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from cryptolake.errors import OperatorError
from cryptolake.sources.records import Trade

if TYPE_CHECKING:
    import pyarrow as pa

RECORDED_TRADES = "binance-trades-2024-08-08"
COLUMNS = (
    "trade_id",
    "price",
    "quantity",
    "is_buyer_maker",
    "traded_at_us",
    "event_at_us",
    "published_at_ns",
)


@dataclass(frozen=True)
class Track:
    """
    The trades of one symbol at one venue, by strictly rising id.

    *rows* has the columns `COLUMNS` (int64, string, string, bool, int64, int64, int64; event_at_us may be
    null, published_at_ns never falls), and `frame` (binary) where the frames were recorded. *is_as_recorded*
    tells that they were. Rows are counted from 0.
    """

    venue: str
    symbol: str
    rows: pa.RecordBatch

    @property
    def is_as_recorded(self) -> bool:
        """Say whether the frames are those of a recording."""
        return "frame" in self.rows.schema.names

    @cached_property
    def ids(self) -> Sequence[int]:
        """The trade ids, rising."""
        return _integers(self.rows.column("trade_id"))

    @cached_property
    def moments_ns(self) -> Sequence[int]:
        """When each trade was published, in unix nanoseconds; never falling."""
        return _integers(self.rows.column("published_at_ns"))

    @cached_property
    def newest_until_us(self) -> Sequence[int]:
        """The newest `traded_at_us` of each row and all before it: trade times may run backwards."""
        pc = _compute()
        return _integers(pc.cumulative_max(self.rows.column("traded_at_us")))

    @cached_property
    def oldest_from_us(self) -> Sequence[int]:
        """The oldest `traded_at_us` of each row and all after it."""
        pc = _compute()
        backwards = pc.cumulative_min(self.rows.column("traded_at_us")[::-1])
        return _integers(backwards[::-1])

    def __len__(self) -> int:
        """Count the trades."""
        return self.rows.num_rows

    def trades(self, start: int, stop: int) -> list[Trade]:
        """Return the trades of rows *start* to *stop* (excluded)."""
        part = self.rows.slice(start, max(stop - start, 0))
        columns = [part.column(name).to_pylist() for name in COLUMNS[:6]]
        return [Trade(self.symbol, *row) for row in zip(*columns, strict=True)]

    def frames(self, start: int, stop: int) -> list[bytes]:
        """Return the recorded frames of rows *start* to *stop* (excluded)."""
        return self.rows.column("frame").slice(start, max(stop - start, 0)).to_pylist()

    def row_of(self, trade_id: int) -> int:
        """Return the row of the first trade at or after *trade_id*."""
        return bisect_left(self.ids, trade_id)

    def row_after(self, moment_us: int) -> int:
        """Return the row of the first trade later than *moment_us*; all before it are not."""
        return bisect_right(self.newest_until_us, moment_us)

    def rows_between(self, start_us: int, end_us: int) -> tuple[int, int]:
        """Return the rows that hold every trade from *start_us* to *end_us* (excluded), and maybe others."""
        return bisect_left(self.newest_until_us, start_us), bisect_left(self.oldest_from_us, end_us)


@dataclass(frozen=True)
class Tape:
    """Trades of any number of venues and symbols; *label* says where they are from."""

    label: str
    tracks: Sequence[Track]
    is_generated: bool = False

    @property
    def venues(self) -> list[str]:
        """The venues that have trades here, sorted."""
        return sorted({track.venue for track in self.tracks})

    def __len__(self) -> int:
        """Count the trades."""
        return sum(len(track) for track in self.tracks)

    def of(self, venue: str) -> list[Track]:
        """Return the tracks of *venue*, by symbol."""
        return sorted((track for track in self.tracks if track.venue == venue), key=lambda t: t.symbol)

    @classmethod
    def recorded(cls, name: str = RECORDED_TRADES) -> Tape:
        """
        Read the bundled frames of Binance: BTCUSDT and ETHUSDT, 2024-08-08 23:54 to 24:00 UTC.

        Raises:
            OperatorError: if the package came without them.

        """
        import pyarrow.parquet as pq

        from cryptolake.replay.recordings import bundled_file

        rows = pq.read_table(bundled_file(name))
        return cls(name, _recorded_tracks(rows["received_at_ns"].to_pylist(), rows["frame"].to_pylist()))

    @classmethod
    def from_rows(cls, rows: pa.Table, label: str = "lake") -> Tape:
        """
        Return the trades of *rows*, which have the columns of `bronze.realtime_trades` or `silver.trades`.

        Each id counts once. A trade is published at its event time, or when it was made; by rising id.

        Raises:
            OperatorError: if there are no rows.

        """
        if not rows.num_rows:
            raise OperatorError("there are no trades to replay: choose another range")
        return cls(label, list(_tracks_of_rows(rows)))


class _Event(msgspec.Struct, gc=False):
    E: int
    s: str
    t: int
    p: str
    q: str
    T: int
    m: bool


class _Combined(msgspec.Struct, gc=False):
    data: _Event


def track(venue: str, symbol: str, columns: Sequence[Any], frames: Sequence[bytes] | None = None) -> Track:
    """Return a track of *columns* in the order of `COLUMNS`, and maybe the recorded *frames*."""
    import pyarrow as pa

    types = (pa.int64(), pa.string(), pa.string(), pa.bool_(), pa.int64(), pa.int64(), pa.int64())
    arrays = [
        column.cast(kind) if isinstance(column, pa.Array) else pa.array(column, kind)
        for column, kind in zip(columns, types, strict=True)
    ]
    names = list(COLUMNS)
    if frames is not None:
        arrays.append(pa.array(frames, pa.binary()))
        names.append("frame")
    return Track(venue, symbol, pa.RecordBatch.from_arrays(arrays, names))


def _recorded_tracks(received_at_ns: Sequence[int], frames: Sequence[bytes]) -> list[Track]:
    """Return one track a symbol from combined-stream frames of Binance, whose times are milliseconds."""
    decode = msgspec.json.Decoder(_Combined).decode
    by_symbol: dict[str, list[tuple[_Event, int, bytes]]] = {}
    for moment_ns, frame in zip(received_at_ns, frames, strict=True):
        event = decode(frame).data
        by_symbol.setdefault(event.s, []).append((event, moment_ns, frame))
    tracks = []
    for symbol, told in by_symbol.items():
        rows = [
            (event.t, event.p, event.q, event.m, event.T * 1000, event.E * 1000, moment_ns)
            for event, moment_ns, _ in told
        ]
        tracks.append(track("binance", symbol, list(zip(*rows, strict=True)), [frame for *_, frame in told]))
    return tracks


def _tracks_of_rows(rows: pa.Table) -> Iterable[Track]:
    pc = _compute()
    ordered = rows.sort_by([("venue", "ascending"), ("symbol", "ascending"), ("trade_id", "ascending")])
    pairs = ordered.select(["venue", "symbol"]).group_by(["venue", "symbol"]).aggregate([]).to_pylist()
    for pair in sorted(pairs, key=lambda pair: (pair["venue"], pair["symbol"])):
        of_pair = pc.and_(
            pc.equal(ordered["venue"], pair["venue"]), pc.equal(ordered["symbol"], pair["symbol"])
        )
        yield _track_of_rows(pair["venue"], pair["symbol"], ordered.filter(of_pair))


def _track_of_rows(venue: str, symbol: str, rows: pa.Table) -> Track:
    import pyarrow as pa

    pc = _compute()
    ids = rows["trade_id"].combine_chunks()
    is_first = pa.concat_arrays([pa.array([True]), pc.not_equal(ids[1:], ids[:-1])])
    once = rows.filter(is_first).combine_chunks()
    traded_at, event_at = (
        _one(once[name]).cast(pa.timestamp("us", "UTC")).cast(pa.int64())
        for name in ("traded_at", "event_at")
    )
    moments_ns = pc.cumulative_max(pc.multiply(pc.coalesce(event_at, traded_at), 1000))
    columns = (
        once["trade_id"],
        _printed(once["price"]),
        _printed(once["quantity"]),
        once["is_buyer_maker"],
        traded_at,
        event_at,
        moments_ns,
    )
    return track(venue, symbol, [_one(column) for column in columns])


def _printed(decimals: pa.ChunkedArray) -> pa.Array:
    """Return decimals as digits without exponent and without zeros at the end."""
    import pyarrow as pa

    pc = _compute()
    text = _one(decimals.cast(pa.string()))
    if pc.any(pc.match_substring(text, "E")).as_py():
        text = pa.array([f"{Decimal(digits):f}" for digits in text.to_pylist()], pa.string())
    trimmed = pc.replace_substring_regex(text, r"(\.\d*?)0+$", r"\1")
    return pc.utf8_rtrim(trimmed, characters=".")


def _compute() -> Any:
    """Return Arrow's functions, which are made as it loads, so that no checker knows them."""
    import pyarrow.compute

    return pyarrow.compute


def _one(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    import pyarrow as pa

    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _integers(column: pa.Array) -> Sequence[int]:
    """Return an int64 column without nulls as a sequence of Python integers, without a copy."""
    buffer = column.buffers()[1]
    whole = memoryview(buffer).cast("b").cast("q") if buffer is not None else memoryview(b"").cast("q")
    return whole[column.offset : column.offset + len(column)]  # type: ignore[return-value]
