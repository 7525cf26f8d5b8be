"""
Binance's archive, data.binance.vision: daily and monthly zip files of trades and klines, each with its CHECKSUM.

A file is published once its day or month is over by the venue's own time. Source:
github.com/binance/binance-public-data.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from cryptolake.replay.answers import Answer
from cryptolake.replay.venues.market import EPOCH, Market
from cryptolake.replay.venues.minutes import MINUTE_US, Minute, at_least, minutes, printed
from cryptolake.sources.records import Trade

DIGITS = 8
MICROSECONDS_SINCE = date(2025, 1, 1)
"""From this day on the archive's times are microseconds, before it milliseconds."""

_TRADES_HEADER = "id,price,qty,quoteQty,time,isBuyerMaker,isBestMatch"
_KLINES_HEADER = "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
_FILE = re.compile(
    r"/data/spot/(?P<period>daily|monthly)/(?P<kind>trades|klines)/(?P<symbol>[^/]+)/(?:1m/)?"
    r"(?P=symbol)-(?:trades|1m)-(?P<day>\d{4}-\d\d(?:-\d\d)?)\.zip(?P<checksum>\.CHECKSUM)?"
)
_NOT_FOUND = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>'
_ROWS_AT_ONCE = 50_000
_FILES_KEPT = 4


@dataclass(frozen=True)
class ArchiveStyle:
    """
    How the files look: *unit* of their times (`ms`, `us`, None as the venue does by date), with a header or without.

    The first *wrong_checksums* answers for the checksum of each file are wrong.
    """

    unit: str | None = None
    has_header: bool = False
    wrong_checksums: int = 0


@dataclass(frozen=True)
class _Asked:
    """A file: its symbol, what is in it, and its days from *start_us* to *end_us* (excluded)."""

    kind: str
    symbol: str
    start_us: int
    end_us: int
    name: str
    scale: int


class Archive:
    """The files in a *style*; the last few are kept as they were made."""

    def __init__(self, style: ArchiveStyle) -> None:
        self.style = style
        self._spoiled: Counter[str] = Counter()
        self._made: dict[tuple[str, int, int], bytes] = {}

    def answer(self, path: str, market: Market) -> Answer:
        """Return the file at *path* or its checksum."""
        found = _FILE.fullmatch(path)
        asked = _asked(found, self.style) if found else None
        content = self._file(asked, market) if asked else None
        if found is None or asked is None or content is None:
            return Answer(404, _NOT_FOUND, {"content-type": "application/xml"})
        if not found["checksum"]:
            etag = hashlib.md5(content, usedforsecurity=False).hexdigest()
            return Answer(200, content, {"content-type": "application/zip", "etag": f'"{etag}"'})
        digest = hashlib.sha256(content).hexdigest()
        if self._spoiled[asked.name] < self.style.wrong_checksums:
            self._spoiled[asked.name] += 1
            digest = digest[::-1]
        body = f"{digest}  {asked.name}.zip\n".encode()
        return Answer(200, body, {"content-type": "binary/octet-stream"})

    def _file(self, asked: _Asked, market: Market) -> bytes | None:
        """Return a file, None where there is none: not yet, no trades, or some of them cannot be had."""
        if asked.symbol not in market.tracks or market.time_us < asked.end_us:
            return None
        start, stop = market.tracks[asked.symbol].rows_between(asked.start_us, asked.end_us)
        stop = min(stop, market.counts[asked.symbol])
        if start >= stop or not market.is_whole(asked.symbol, start, stop):
            return None
        key = (asked.name, start, stop)
        if key not in self._made:
            if len(self._made) >= _FILES_KEPT:
                self._made.pop(next(iter(self._made)))
            self._made[key] = _file(asked, market, range(start, stop), has_header=self.style.has_header)
        return self._made[key]


def quote_quantity(trade: Trade) -> str:
    """Return what a trade was worth, as the venue prints it."""
    return printed(Decimal(trade.price) * Decimal(trade.quantity), DIGITS)


def kline(bar: Minute, scale: int) -> list[Any]:
    """Return a bar as the venue's REST and archive order its twelve fields; *scale* is microseconds a unit of time."""
    return [
        bar.start_us // scale,
        *(at_least(price, DIGITS) for price in (bar.open, bar.high, bar.low, bar.close)),
        printed(bar.volume, DIGITS),
        (bar.start_us + MINUTE_US) // scale - 1,
        printed(bar.quote_volume, DIGITS),
        bar.trade_count,
        printed(bar.taker_buy_volume, DIGITS),
        printed(bar.taker_buy_quote_volume, DIGITS),
        "0",
    ]


def _asked(found: re.Match[str], style: ArchiveStyle) -> _Asked | None:
    daily = found["period"] == "daily"
    try:
        first = date.fromisoformat(found["day"] if daily else f"{found['day']}-01")
    except ValueError:
        return None
    after = first + timedelta(days=1) if daily else (first + timedelta(days=31)).replace(day=1)
    unit = style.unit or ("us" if first >= MICROSECONDS_SINCE else "ms")
    kind = "trades" if found["kind"] == "trades" else "1m"
    return _Asked(
        kind=found["kind"],
        symbol=found["symbol"],
        start_us=_midnight_us(first),
        end_us=_midnight_us(after),
        name=f"{found['symbol']}-{kind}-{found['day']}",
        scale=1 if unit == "us" else 1000,
    )


def _file(asked: _Asked, market: Market, rows: range, *, has_header: bool) -> bytes:
    if asked.kind == "klines":
        bars = minutes(market, asked.symbol, asked.start_us, asked.end_us)
        lines: Iterable[str] = (",".join(map(str, kline(bar, asked.scale))) for bar in bars)
        header = _KLINES_HEADER
    else:
        lines, header = _trade_lines(asked, market, rows), _TRADES_HEADER
    return _zipped(asked.name, [header, *lines] if has_header else lines)


def _trade_lines(asked: _Asked, market: Market, rows: range) -> Iterator[str]:
    track = market.tracks[asked.symbol]
    for row in rows[::_ROWS_AT_ONCE]:
        for trade in track.trades(row, min(row + _ROWS_AT_ONCE, rows.stop)):
            if asked.start_us <= trade.traded_at_us < asked.end_us:
                yield (
                    f"{trade.trade_id},{at_least(trade.price, DIGITS)},{at_least(trade.quantity, DIGITS)},"
                    f"{quote_quantity(trade)},{trade.traded_at_us // asked.scale},{trade.is_buyer_maker},True"
                )


def _zipped(name: str, lines: Iterable[str]) -> bytes:
    """Return a zip of one CSV file; the same lines give the same bytes."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo(f"{name}.csv", (2025, 1, 1, 0, 0, 0))
        entry.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(entry, "".join(f"{line}\n" for line in lines))
    return held.getvalue()


def _midnight_us(day: date) -> int:
    return (datetime(day.year, day.month, day.day, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
