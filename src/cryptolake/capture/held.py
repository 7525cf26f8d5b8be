"""What the lake knows of the ids of an instrument; few rows leave the database, however many trades there are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from cryptolake.capture.ranges import Range

if TYPE_CHECKING:
    from cryptolake.capture.entries import Event
    from cryptolake.lake import Reader

Name = tuple[str, str]
"""Venue, and symbol as stored."""

ISLANDS = """
    with asked as (select unnest(?) as venue, unnest(?) as symbol, unnest(?) as above_id, unnest(?) as since),
    held as (
        select t.venue, t.symbol, t.trade_id, min(epoch_us(t.traded_at)) as at_us
        from bronze.realtime_trades t join asked a
            on t.venue = a.venue and t.symbol = a.symbol and t.trade_id > a.above_id and t.traded_at >= a.since
        where t.traded_at >= ?
        group by all
    ),
    numbered as (
        select *, trade_id - row_number() over (partition by venue, symbol order by trade_id) as island from held
    )
    select venue, symbol, min(trade_id), max(trade_id), arg_min(at_us, trade_id), arg_max(at_us, trade_id)
    from numbered group by venue, symbol, island order by 1, 2, 3
"""
STARTS = """
    select venue, symbol, min(trade_id) from bronze.realtime_trades where received_via = 'websocket' group by all
"""
STARTS_OF = """
    with asked as (select unnest(?) as venue, unnest(?) as symbol)
    select t.venue, t.symbol, min(t.trade_id)
    from bronze.realtime_trades t join asked a on t.venue = a.venue and t.symbol = a.symbol
    where t.received_via = 'websocket' group by all
"""
CLOSINGS = """
    with asked as (
        select unnest(?) as venue, unnest(?) as symbol, unnest(?) as first_id, unnest(?) as last_id
    )
    select distinct e.venue, e.symbol, e.first_id, e.last_id, e.event
    from bronze.trade_gaps e join asked a
        on e.venue = a.venue and e.symbol = a.symbol and e.last_id >= a.first_id and e.first_id <= a.last_id
    where e.event <> 'missing'
"""
NEWEST = """
    select trade_id from bronze.realtime_trades where venue = ? and symbol = ? order by traded_at desc limit ?
"""


def starts(reader: Reader, names: Iterable[Name] | None = None) -> dict[Name, int]:
    """Return the lowest id that was captured live of each of *names*, or of all; those never captured are left out."""
    asked = None if names is None else list(names)
    if asked is None:
        rows = reader.rows(STARTS)
    else:
        rows = reader.rows(STARTS_OF, _columns(asked, 2)) if asked else []
    return {(venue, symbol): first for venue, symbol, first in rows}


def islands(reader: Reader, above: Mapping[Name, tuple[int, datetime]]) -> dict[Name, list[Range]]:
    """
    Return the stretches of ids that the lake holds without a hole, lowest first.

    Args:
        reader: of a lake with `bronze.realtime_trades`.
        above: by name, the id above which to look, and a time before which there is nothing to be found.

    A range has the times of its own first and last trade.
    """
    found: dict[Name, list[Range]] = {name: [] for name in above}
    if above:
        asked = [(*name, *bound) for name, bound in above.items()]
        earliest = min(since for _, since in above.values())
        for venue, symbol, *rest in reader.rows(ISLANDS, [*_columns(asked, 4), earliest]):
            found[venue, symbol].append(Range(*rest))
    return found


def closings(reader: Reader, holes: Mapping[Name, Iterable[Range]]) -> list[tuple[Name, int, int, Event]]:
    """Return the events that closed ids of *holes*, as name, first id, last id and event."""
    asked = [(*name, hole.first, hole.last) for name, its in holes.items() for hole in its]
    rows = reader.rows(CLOSINGS, _columns(asked, 4)) if asked else []
    return [((venue, symbol), first, last, event) for venue, symbol, first, last, event in rows]


def newest_ids(reader: Reader, name: Name, count: int) -> list[int]:
    """Return the ids of the *count* trades made last, newest first."""
    return [trade_id for (trade_id,) in reader.rows(NEWEST, [*name, count])]


def _columns(rows: Sequence[tuple[object, ...]], width: int) -> list[list[object]]:
    return [[row[n] for row in rows] for n in range(width)]
