"""
Our bars against the venue's own: the one check that asks somebody else.

Only the result is kept. The newest complete bars of each instrument are compared, figure by figure, at the scale
that the venue prints: what it cuts off or rounds away does not count. A minute between two complete bars in which
we have no trade must have none at the venue either. Bars that are older than what a venue still gives are not compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Context, Decimal
from typing import TYPE_CHECKING, Any

import structlog

from cryptolake.errors import BadRecordError, OperatorError, TransientError
from cryptolake.quality.result import CheckResult, Status
from cryptolake.quality.run import keep_results
from cryptolake.sources.records import Kline
from cryptolake.sources.registry import VENUES
from cryptolake.sources.venue import Venue

if TYPE_CHECKING:
    from cryptolake.lake import Lake, Reader

AskKlines = Callable[[str, str, int, int], Sequence[Kline]]
"""Ask a venue (its name, our symbol, from and until microseconds) for its bars of one minute; errors as `TradeHistory`."""

TABLE, CHECK = "silver.bars_1m", "bars_equal_venue_klines"
NEWEST_BARS = 1440
LONGEST_PAUSE = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
SHOWN_MINUTES = 5
FIGURES = (
    *("open", "high", "low", "close", "volume", "quote_volume", "trade_count"),
    *("taker_buy_volume", "taker_buy_quote_volume"),
)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EXACT = Context(prec=60)

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Compared:
    """What came of one instrument: the *minutes* compared, what *differs*, a sentence each, or the *error* why not."""

    instrument: str
    minutes: Sequence[datetime]
    differs: Sequence[str] = ()
    error: str | None = None

    @property
    def text(self) -> str:
        """Say what was compared."""
        if self.error:
            return f"{self.instrument}: {self.error}"
        if not self.minutes:
            return f"{self.instrument}: 0 minutes compared, all are older than what the venue still gives"
        count = len(self.minutes)
        span = f"{self.minutes[0]:%Y-%m-%d %H:%M} to {self.minutes[-1]:%Y-%m-%d %H:%M} UTC"
        return f"{self.instrument}: {count:,} minute{'s'[: count != 1]} compared, {span}"


def check_with_venues(
    lake: Lake,
    reader: Reader,
    ask: AskKlines,
    *,
    run_id: str,
    now: datetime,
    newest_bars: int = NEWEST_BARS,
    venues: Mapping[str, Venue] = VENUES,
) -> list[CheckResult]:
    """
    Compare complete bars with the venues' own, and append the result to `quality.check_results`.

    Args:
        lake: where the bars and the results are.
        reader: SQL over *lake*; it is refreshed first.
        ask: how to ask a venue for its bars.
        run_id: names this run in the results.
        now: the data's present (a zoned datetime).
        newest_bars: so many complete bars of each instrument are compared, as far back as its venue's reach.
        venues: the venues by name, for how far back their own bars reach.

    Returns:
        One result, whose figure is the number of minutes that differ; none where no bar is complete. An instrument of
        which nothing could be compared makes it a `warning`, a venue that cannot be asked an `error`, unless
        another differs.
    """
    reader.refresh()
    if TABLE not in reader.names:
        return []
    began = lake.clock.monotonic()
    instruments = reader.rows(f"select distinct venue, symbol from {TABLE} where is_complete order by all")
    compared = [
        _compare(reader, ask, (str(v), str(s)), newest_bars, venues[v].capabilities.klines_reach_minutes)
        for v, s in instruments
    ]
    if not compared:
        return []
    result = _result(lake, compared, run_id, now, (lake.clock.monotonic() - began) * 1000)
    keep_results(lake, [result])
    return [result]


def _compare(
    reader: Reader, ask: AskKlines, instrument: tuple[str, str], newest_bars: int, reach_minutes: int | None
) -> Compared:
    name = ":".join(instrument)
    columns = ("bar_start_at", *FIGURES)
    rows = reader.rows(
        f"""
        select {", ".join(columns)} from {TABLE}
        where venue = ? and symbol = ? and is_complete order by bar_start_at desc limit {newest_bars}
        """,
        instrument,
    )
    bars = [dict(zip(columns, row, strict=True)) for row in reversed(rows)]
    first, last = bars[0]["bar_start_at"], bars[-1]["bar_start_at"]
    others = reader.rows(
        f"select bar_start_at from {TABLE} where venue = ? and symbol = ? and not is_complete and bar_start_at between ? and ?",
        [*instrument, first, last],
    )
    incomplete = {at for (at,) in others}
    minutes: list[datetime] = []
    differs: list[str] = []
    try:
        for run, klines in _answered(ask, instrument, bars, reach_minutes):
            minutes += [bar["bar_start_at"] for bar in run]
            differs += [f"{name} {told}" for told in _differences(run, klines, incomplete)]
    except (TransientError, OperatorError, BadRecordError) as e:
        return Compared(name, (), differs, error=str(e))
    return Compared(name, minutes, differs)


def _answered(
    ask: AskKlines, instrument: tuple[str, str], bars: Sequence[dict[str, Any]], reach_minutes: int | None
) -> Iterator[tuple[list[dict[str, Any]], Sequence[Kline]]]:
    """
    Yield stretches of *bars*, each with the venue's own of its time; none of those that the venue no longer gives.

    A reach is counted back from the newest bar that the venue has, which goes on growing. So all stretches within it are
    asked for at once, until where a bar of the venue's would put them all out of reach.
    """
    if reach_minutes is None:
        for run in _runs(bars):
            yield run, ask(*instrument, _us(run[0]["bar_start_at"]), _us(run[-1]["bar_start_at"] + MINUTE))
        return
    first, last, reach = bars[0]["bar_start_at"], bars[-1]["bar_start_at"], reach_minutes * MINUTE
    klines = ask(*instrument, _us(first), _us(last + reach + MINUTE))
    oldest = max((_start(k) for k in klines), default=last + reach) - reach + MINUTE
    for run in _runs([bar for bar in bars if bar["bar_start_at"] >= oldest]):
        yield run, [k for k in klines if run[0]["bar_start_at"] <= _start(k) <= run[-1]["bar_start_at"]]


def _runs(bars: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield bars that are worth one question: no more than an hour without a bar lies between two of them."""
    run: list[dict[str, Any]] = []
    for bar in bars:
        if run and bar["bar_start_at"] - run[-1]["bar_start_at"] > LONGEST_PAUSE:
            yield run
            run = []
        run.append(bar)
    if run:
        yield run


def _differences(
    bars: Sequence[dict[str, Any]], klines: Sequence[Kline], incomplete: set[datetime]
) -> Iterator[str]:
    told = {_start(k): k for k in klines}
    scales = {figure: max((_scale(getattr(k, figure)) for k in klines), default=0) for figure in FIGURES}
    for bar in bars:
        at = bar["bar_start_at"]
        if (kline := told.pop(at, None)) is None:
            yield f"{at:%Y-%m-%d %H:%M} UTC: the venue has no bar"
            continue
        wrong = [
            f"{figure} {bar[figure]} is {printed} at the venue"
            for figure in FIGURES
            if (printed := getattr(kline, figure)) is not None
            and not _agree(Decimal(bar[figure]), Decimal(printed), scales[figure])
        ]
        if wrong:
            yield f"{at:%Y-%m-%d %H:%M} UTC: {', '.join(wrong)}"
    held = [bar["bar_start_at"] for bar in bars]
    for at, kline in told.items():
        if held[0] < at < held[-1] and Decimal(kline.volume) and not _touches(at, held, incomplete):
            yield f"{at:%Y-%m-%d %H:%M} UTC: the venue has trades, we have none"


def _touches(at: datetime, held: Sequence[datetime], incomplete: set[datetime]) -> bool:
    """Say whether a bar that is not complete lies between the complete ones around *at*."""
    before, after = max(h for h in held if h < at), min(h for h in held if h > at)
    return any(before < i < after for i in incomplete)


def _agree(ours: Decimal, printed: Decimal, scale: int) -> bool:
    """Say whether *ours* is *printed*, once it is cut off or rounded to *scale* places."""
    unit = Decimal(1).scaleb(-scale)
    return any(
        ours.quantize(unit, rounding, context=EXACT) == printed for rounding in (ROUND_DOWN, ROUND_HALF_EVEN)
    )


def _scale(printed: str | int | None) -> int:
    return max(-int(Decimal(printed).as_tuple().exponent), 0) if printed is not None else 0


def _start(kline: Kline) -> datetime:
    return EPOCH + timedelta(microseconds=kline.start_us)


def _us(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def _result(
    lake: Lake, compared: Sequence[Compared], run_id: str, now: datetime, duration_ms: float
) -> CheckResult:
    differs = [told for c in compared for told in c.differs]
    status = Status.PASSED if all(c.minutes for c in compared) else Status.WARNING
    if any(c.error for c in compared):
        status = Status.ERROR
    if differs:
        status = Status.FAILED
    found = f" For example: {'; '.join(differs[:SHOWN_MINUTES])}." if differs else ""
    snapshot = lake.table(TABLE).current_snapshot()
    if status != Status.PASSED:
        log.warning("check.not_passed", table=TABLE, check=CHECK, status=status.value)
    return CheckResult(
        run_id=run_id,
        checked_at=now,
        check_name=CHECK,
        layer="silver",
        table_name=TABLE,
        column_name=None,
        dimension="accuracy",
        severity="error",
        status=status,
        metric_value=float(len(differs)),
        threshold="= 0",
        message=f"{'; '.join(c.text for c in compared)}.{found}",
        snapshot_id=snapshot.snapshot_id if snapshot else None,
        duration_ms=duration_ms,
    )
