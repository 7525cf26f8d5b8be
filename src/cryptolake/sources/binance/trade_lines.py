"""Parse lines of Binance's trade files into Arrow, column by column; line by line only where one is bad."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import NamedTuple

import pyarrow as pa
from pyarrow import csv
from pyarrow.compute import call_function as compute

from cryptolake.errors import BadRecordError
from cryptolake.sources import tape
from cryptolake.sources.instants import microseconds
from cryptolake.sources.venue import ArchivePiece

SOURCE = "binance"

DECIMAL = pa.decimal128(28, 12)
SCHEMA = pa.schema(
    [
        ("trade_id", pa.int64()),
        ("price", DECIMAL),
        ("quantity", DECIMAL),
        ("is_buyer_maker", pa.bool_()),
        ("traded_at", pa.timestamp("us", "UTC")),
    ]
)

_COLUMNS = ("trade_id", "price", "quantity", "quote_quantity", "traded_at", "is_buyer_maker", "is_best_match")
_LEAST_COLUMNS = 6
_TRUE, _FALSE = ("True", "true"), ("False", "false")
_PARSE = csv.ParseOptions(quote_char=False, newlines_in_values=False)
_CONVERT = csv.ConvertOptions(
    column_types={
        "trade_id": pa.int64(),
        "price": DECIMAL,
        "quantity": DECIMAL,
        "traded_at": pa.int64(),
        "is_buyer_maker": pa.bool_(),
    },
    include_columns=["trade_id", "price", "quantity", "is_buyer_maker", "traded_at"],
    null_values=[],
    true_values=list(_TRUE),
    false_values=list(_FALSE),
)
_LEAST_MS, _MOST_MS = 10**12, 10**13
_LEAST_US, _MOST_US = 10**15, 10**16
_TOO_LARGE = 10 ** (DECIMAL.precision - DECIMAL.scale)


class _Line(NamedTuple):
    trade_id: int
    price: Decimal
    quantity: Decimal
    is_buyer_maker: bool
    traded_at_us: int


class TradeLines:
    """The lines of one file about *symbol*, given piece by piece."""

    def __init__(self, symbol: str) -> None:
        self._symbol = symbol
        self._newest_id = -1
        self._is_at_the_start = True

    def parse(self, lines: bytes) -> ArchivePiece:
        """Return the trades of *lines*, which end where a line does, and the lines that nobody can trust."""
        if self._is_at_the_start:
            lines = _without_header(lines)
            self._is_at_the_start = False
        rejects: list[BadRecordError] = []
        rows = _columns(lines)
        if rows is None or (rows.num_rows and rows["trade_id"][0].as_py() <= self._newest_id):
            rows, rejects = self._sift(lines)
        if rows.num_rows:
            self._newest_id = rows["trade_id"][-1].as_py()
        return ArchivePiece(rows, rejects)

    def _sift(self, lines: bytes) -> tuple[pa.Table, list[BadRecordError]]:
        """Read *lines* one by one: what can be trusted by rising id, and what cannot."""
        rejects: list[BadRecordError] = []
        found: dict[int, _Line] = {}
        for line in lines.splitlines():
            if not line.strip():
                continue
            try:
                row = _line(line)
                if row.trade_id <= self._newest_id:
                    raise ValueError(f"the id {row.trade_id} is not above that of the piece before")
                if found.setdefault(row.trade_id, row) != row:
                    raise ValueError(f"two different trades have the id {row.trade_id}")
            except (ValueError, InvalidOperation) as reason:
                trade_id = _readable_id(line)
                rejects.append(
                    BadRecordError(SOURCE, str(reason), line, symbol=self._symbol, trade_id=trade_id)
                )
        ordered = [found[trade_id] for trade_id in sorted(found)]
        columns = list(zip(*ordered, strict=True)) or [()] * len(SCHEMA)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
        return pa.table(arrays, schema=SCHEMA), rejects


def _without_header(lines: bytes) -> bytes:
    """Leave out a byte order mark and a row of names."""
    lines = lines.removeprefix(b"\xef\xbb\xbf")
    return lines if not lines[:1].isalpha() else lines.partition(b"\n")[2]


def _columns(lines: bytes) -> pa.Table | None:
    """Return the trades of *lines*, None if any of them is not as it should be."""
    if not lines.strip():
        return SCHEMA.empty_table()
    width = lines.partition(b"\n")[0].count(b",") + 1
    if not _LEAST_COLUMNS <= width <= len(_COLUMNS):
        return None
    reading = csv.ReadOptions(column_names=_COLUMNS[:width], block_size=len(lines) + 1, use_threads=False)
    try:
        table = csv.read_csv(pa.BufferReader(lines), reading, _PARSE, _CONVERT).combine_chunks()
    except pa.ArrowInvalid:
        return None
    times = _times(table["traded_at"])
    if times is None or not (
        _rises(table["trade_id"]) and _is_trusted(table["price"]) and _is_trusted(table["quantity"])
    ):
        return None
    return table.set_column(SCHEMA.get_field_index("traded_at"), SCHEMA.field("traded_at"), times)


def _times(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return times printed in milliseconds or microseconds, None if they are neither or both."""
    bounds = compute("min_max", [column]).as_py()
    if bounds["min"] >= _LEAST_MS and bounds["max"] < _MOST_MS:
        column = compute("multiply", [column, pa.scalar(1000)])
    elif bounds["min"] < _LEAST_US or bounds["max"] >= _MOST_US:
        return None
    return column.cast(SCHEMA.field("traded_at").type)


def _rises(ids: pa.ChunkedArray) -> bool:
    if len(ids) > 1 and not compute("all", [compute("greater", [ids[1:], ids[:-1]])]).as_py():
        return False
    return bool(ids[0].as_py() >= 0 and ids[-1].as_py() <= tape.LARGEST_ID)


def _is_trusted(column: pa.ChunkedArray) -> bool:
    """Whether all numbers are above zero, with as few digits as their type says, which reading CSV does not check."""
    bounds = compute("min_max", [column]).as_py()
    return bounds["min"] > 0 and bounds["max"] < _TOO_LARGE


def _line(line: bytes) -> _Line:
    """
    Read one line.

    Raises:
        ValueError, InvalidOperation: it cannot be trusted.

    """
    fields = line.decode("ascii").strip().split(",")
    if not _LEAST_COLUMNS <= len(fields) <= len(_COLUMNS):
        raise ValueError(f"the line has {len(fields)} fields")
    trade_id, price, quantity, _, time, is_buyer_maker = fields[:_LEAST_COLUMNS]
    if is_buyer_maker not in {*_TRUE, *_FALSE}:
        raise ValueError(f"{is_buyer_maker[:40]!r} is neither True nor False")
    return _Line(
        tape.whole_number(trade_id),
        _fitting("price", price),
        _fitting("quantity", quantity),
        is_buyer_maker in _TRUE,
        microseconds(tape.whole_number(time)),
    )


def _fitting(name: str, text: str) -> Decimal:
    number = Decimal(text)
    if not number.is_finite():
        raise ValueError(f"the {name} {text[:40]!r} is not a number")
    if number <= 0:
        raise ValueError(f"the {name} {text[:40]} is not above zero")
    exact = number.quantize(Decimal(1).scaleb(-DECIMAL.scale)) if number < _TOO_LARGE else None
    if exact is None or exact != number:
        raise ValueError(f"the {name} {text[:40]} does not fit {DECIMAL}")
    return exact


def _readable_id(line: bytes) -> int | None:
    try:
        return tape.whole_number(line.partition(b",")[0].decode("ascii").strip())
    except ValueError:
        return None
