"""What is held of the trades: per instrument and day, with the ranges of ids, the gaps, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cryptolake.lake import Reader

DAYS, RANGES, GAPS = "gold.coverage_daily", "silver.held_ranges", "silver.trade_gaps"


@dataclass(frozen=True)
class IdRange:
    """Ids from *first_id* to *last_id*, both held, all between them held or absent."""

    first_id: int
    last_id: int


@dataclass(frozen=True)
class Gap:
    """Ids that are not held: *state* is `open` or `rejected`; *age_seconds* since they were missed."""

    first_id: int
    last_id: int
    state: str
    reason: str | None
    detected_at: datetime
    age_seconds: float

    @property
    def ids(self) -> int:
        """Return how many they are."""
        return self.last_id - self.first_id + 1


@dataclass(frozen=True)
class DayCoverage:
    """
    One day of an instrument; *ranges* are what is complete of it.

    *is_complete* is None where the venue's ids prove nothing; *why* says in words why it is not complete, and is
    empty where it is. *is_over*: the venue has trades of a later day.
    """

    traded_date: date
    trade_count: int
    first_trade_id: int | None
    last_trade_id: int | None
    missing_ids: int
    absent_ids: int
    rejected_ids: int
    is_complete: bool | None
    is_over: bool
    why: str
    ranges: Sequence[IdRange]


@dataclass(frozen=True)
class InstrumentCoverage:
    """An instrument: its days, oldest first, and its open and rejected gaps, newest first."""

    venue: str
    symbol: str
    days: Sequence[DayCoverage]
    gaps: Sequence[Gap]

    @property
    def instrument(self) -> str:
        """Return its name, `venue:SYMBOL`."""
        return f"{self.venue}:{self.symbol}"

    @property
    def is_captured(self) -> bool:
        """Say whether anything is known of the days asked for: a trade, or that there was none."""
        return any(day.trade_count or day.is_complete for day in self.days)


@dataclass(frozen=True)
class Days:
    """Days from *first* to *last*, inclusive; None: as far as there are any."""

    first: date | None = None
    last: date | None = None

    def __bool__(self) -> bool:
        return bool(self.first or self.last)

    def __contains__(self, day: object) -> bool:
        return (
            isinstance(day, date)
            and (self.first is None or day >= self.first)
            and (self.last is None or day <= self.last)
        )


def coverage(reader: Reader, instrument: str | None, days: Days, now: datetime) -> list[InstrumentCoverage]:
    """
    Return what is held of *instrument* (`venue:SYMBOL`), or of every one that was ever captured, on *days*.

    *now* is what ages are measured from. An instrument that was never captured has no days and no gaps.
    """
    known: list[Any] = []
    newest: dict[Any, Any] = {}
    if DAYS in reader.names:
        known = reader.rows(f"select distinct venue, symbol from {DAYS} order by all")
        newest = dict(reader.rows(f"select venue, max(traded_date) from {DAYS} group by 1"))  # type: ignore[arg-type]
    if instrument is None:
        return [_instrument(reader, venue, symbol, days, newest[venue], now) for venue, symbol in known]
    venue, _, symbol = instrument.partition(":")
    if (venue, symbol) not in known:
        return [InstrumentCoverage(venue, symbol, (), ())]
    return [_instrument(reader, venue, symbol, days, newest[venue], now)]


def exit_status(found: Sequence[InstrumentCoverage], days: Days) -> int:
    """Return 1 where ids are open or rejected, nothing was captured, or one of the *days* asked for is over and incomplete."""
    return int(
        not found
        or any(not i.is_captured or i.gaps for i in found)
        or any(day.missing_ids or day.rejected_ids for i in found for day in i.days)
        or (bool(days) and any(day.is_over and day.is_complete is not True for i in found for day in i.days))
    )


def _instrument(
    reader: Reader, venue: str, symbol: str, days: Days, newest: date, now: datetime
) -> InstrumentCoverage:
    key = [venue, symbol]
    range_rows: list[Any] = reader.rows(RANGES_OF, key)
    gap_rows: list[Any] = reader.rows(GAPS_OF, key)
    ranges = [IdRange(*row) for row in range_rows]
    gaps = [Gap(*row, age_seconds=(now - row[-1]).total_seconds()) for row in gap_rows]
    found = [_day(row, ranges, newest) for row in reader.rows(DAYS_OF, key)]
    asked = [day for day in _with_quiet_days(found, days, ranges, newest) if day.traded_date in days]
    return InstrumentCoverage(venue, symbol, asked, _of_days(gaps, found, days))


DAYS_OF = f"""
    select traded_date, trade_count, first_trade_id, last_trade_id, missing_ids, absent_ids, rejected_ids, is_complete
    from {DAYS} where venue = ? and symbol = ? order by traded_date
"""
RANGES_OF = f"select first_id, last_id from {RANGES} where venue = ? and symbol = ? order by first_id"
GAPS_OF = f"""
    select first_id, last_id, state, reason, detected_at
    from {GAPS} where venue = ? and symbol = ? and state in ('open', 'rejected') order by last_id desc
"""


def _day(row: Sequence[Any], ranges: Sequence[IdRange], newest: date) -> DayCoverage:
    traded_date, count, first, last, missing, absent, rejected, is_complete = row
    within = [
        IdRange(max(r.first_id, first), min(r.last_id, last))
        for r in ranges
        if r.first_id <= last and r.last_id >= first
    ]
    why = _why(first, last, missing, rejected, is_complete, ranges)
    is_over = traded_date < newest
    return DayCoverage(
        traded_date, count, first, last, missing, absent, rejected, is_complete, is_over, why, within
    )


def _why(
    first: int, last: int, missing: int, rejected: int, is_complete: bool | None, ranges: Sequence[IdRange]
) -> str:
    """Return in words why a day is not complete; nothing where it is."""
    if is_complete:
        return ""
    if is_complete is None:
        return "the venue's ids prove nothing"
    reasons = [
        f"{count:,} id{'' if count == 1 else 's'} {what}"
        for count, what in ((missing, "missing"), (rejected, "rejected"))
        if count
    ]
    if not any(r.first_id < first <= r.last_id for r in ranges):
        reasons.append("the trade before its first is not held")
    if not any(r.first_id <= last < r.last_id for r in ranges) and not missing:
        reasons.append("the trade after its last is not held")
    return ", ".join(reasons)


def _with_quiet_days(
    found: Sequence[DayCoverage], days: Days, ranges: Sequence[IdRange], newest: date
) -> Iterator[DayCoverage]:
    """Yield the days *found*, and where days were asked for also those between them of which no trade is held."""
    if not days or not found:
        yield from found
        return
    held = {day.traded_date: day for day in found}
    first, last = days.first or found[0].traded_date, min(days.last or found[-1].traded_date, newest)
    for n in range((last - first).days + 1):
        day = first + timedelta(days=n)
        yield held.get(day) or _quiet(day, found, ranges, newest)


def _quiet(day: date, found: Sequence[DayCoverage], ranges: Sequence[IdRange], newest: date) -> DayCoverage:
    """Return a day without trades: complete where the trades before and after it are neighbours."""
    is_complete = any(
        before.traded_date < day < after.traded_date and _meet(before, after, ranges)
        for before, after in pairwise(found)
    )
    why = "" if is_complete else "no trade of it is held"
    return DayCoverage(day, 0, None, None, 0, 0, 0, is_complete, day < newest, why, ())


def _meet(before: DayCoverage, after: DayCoverage, ranges: Sequence[IdRange]) -> bool:
    """Say whether every id between the trades of two days is held or absent."""
    low, high = before.last_trade_id, after.first_trade_id
    return (
        low is not None and high is not None and any(r.first_id <= low and high <= r.last_id for r in ranges)
    )


def _of_days(gaps: Sequence[Gap], found: Sequence[DayCoverage], days: Days) -> list[Gap]:
    """Return those of *gaps* that count towards *days*: a gap belongs to the day of the next lower held trade."""
    if not days:
        return list(gaps)
    return [g for g in gaps if any(d.traded_date in days for d in _lower(found, g))]


def _lower(found: Sequence[DayCoverage], gap: Gap) -> Sequence[DayCoverage]:
    return [day for day in found if day.first_trade_id is not None and day.first_trade_id < gap.first_id][-1:]
