"""
What a trading venue is to us: how its WebSocket is spoken, how its history is asked, and what its ids prove.

A venue is one folder in `sources/` and one line in `registry.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Literal, Protocol

from cryptolake.clock import Clock
from cryptolake.errors import BadRecordError
from cryptolake.sources.records import Control, Head, Kline, Recent, Trade, TradePage

if TYPE_CHECKING:
    import pyarrow as pa

IdKind = Literal["contiguous", "sequential", "opaque"]


@dataclass(frozen=True)
class Rate:
    """At most *count* in any *seconds*."""

    count: int
    seconds: float


@dataclass(frozen=True)
class Capabilities:
    """
    What a venue promises, with the *evidence* for what its ids prove.

    *id_kind*: `contiguous` (every id exists), `sequential` (rising; a hole is a suspicion) or `opaque` (no proof).
    Ages in seconds; *connections* (tries at one) and *messages_per_second* (ours, control messages) are limits
    of the venue, None where it names none.
    """

    id_kind: IdKind
    evidence: str
    order_in_frame: Literal["rising", "falling", "any"]
    """By what order of ids a venue prints the trades of a frame; a feed's `decode` returns them rising, whichever it is."""
    heals_by: Literal["id", "time"] | None
    tells_maker_side: bool
    """Whether the venue prints the maker's side (else the taker's)."""
    streams_per_connection: int
    connections: Rate
    messages_per_second: float | None
    longest_connection_seconds: float | None = None
    klines_reach_minutes: int | None = None
    """How many minutes back from the newest one the venue gives its bars; None: those of any time."""


@dataclass(frozen=True)
class Keepalive:
    """A text *message* that a venue wants every *seconds* while nothing else is sent."""

    message: bytes
    seconds: float


class Feed(Protocol):
    """How a venue's trades are subscribed to and read. Pure: no socket, no clock."""

    keepalive: Keepalive | None

    def url(self, base: str, symbols: Sequence[str]) -> str:
        """Return the URL to connect to, *base* being the setting `websocket_url`."""
        ...

    def greetings(self, symbols: Sequence[str]) -> Sequence[bytes]:
        """Return the text frames to send once connected; none where the URL says it all."""
        ...

    def decode(self, frame: bytes) -> list[Trade] | Recent | Control:
        """
        Return what a text *frame* says; trades by rising id.

        Raises:
            BadRecordError: the frame or a trade of it cannot be read; the whole frame is its payload.
        """
        ...


@dataclass(frozen=True)
class Hole:
    """
    Ids of *symbol* from *first_id* to *last_id*, both inclusive, that are not held.

    *after_us* is when the nearest held trade below was made, *before_us* the one above; None where there is none.
    """

    symbol: str
    first_id: int
    last_id: int
    after_us: int | None = None
    before_us: int | None = None


@dataclass(frozen=True)
class ArchivePiece:
    """
    A piece of an archive file; the whole file is one answer, so neighbours across pieces prove absence too.

    *rows*: trade_id int64, price and quantity decimal128(28, 12), is_buyer_maker bool, traded_at timestamp[us, UTC], by
    strictly rising id. *rejects* are the lines of it that nobody can trust.
    """

    rows: pa.Table
    rejects: Sequence[BadRecordError] = ()


class TradeHistory(Protocol):
    """
    What a venue's REST and archive can give back; one thread, within the venue's request budget.

    All methods raise `SourceDownError` (try later) and `SourceRefusedError` (a person must look).
    """

    def pages(self, hole: Hole) -> Iterator[TradePage]:
        """
        Yield answers that lead over the ids from `first_id - 1` to `last_id + 1`, as far as the venue can give them.

        Where there are several, each shares at least one trade with the one before, so that
        neighbours prove what is absent between them.
        """
        ...

    def between(self, symbol: str, start_us: int, end_us: int) -> Iterator[TradePage]:
        """
        Yield answers, oldest first, that lead from the last trade before *start_us* to the first at or after *end_us*.

        Each shares at least one trade with the one before.
        """
        ...

    def heads(self, symbols: Sequence[str]) -> Mapping[str, Head]:
        """Return the newest trade of each of *symbols*; those that the venue does not know are left out."""
        ...

    def klines(self, symbol: str, start_us: int, end_us: int) -> list[Kline]:
        """Return the venue's own one-minute bars that begin in [start, end) and within its reach, oldest first."""
        ...

    def archived_day(self, symbol: str, day: date) -> Iterator[ArchivePiece]:
        """
        Yield the trades of the venue's archive file of a UTC *day*, by rising id.

        Raises:
            NotPublishedError: there is no such file, or not yet; also where the venue has no archive.
            SourceRefusedError: its checksum is wrong, twice.
        """
        ...

    def archived_month(self, symbol: str, month: date) -> Iterator[ArchivePiece]:
        """Yield the trades of the file of the UTC month that begins at *month*; as `archived_day`."""
        ...


@dataclass(frozen=True)
class Places:
    """Where a venue is reached: its settings."""

    websocket_urls: tuple[str, ...]
    rest_url: str
    archive_url: str | None = None


OpenHistory = Callable[[Places, Clock, random.Random], AbstractContextManager[TradeHistory]]


@dataclass(frozen=True)
class Venue:
    """A trading venue and all that is known of it."""

    name: str
    capabilities: Capabilities
    feed: Feed
    open_history: OpenHistory
