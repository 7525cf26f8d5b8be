"""CoinGecko's daily observations, as far as the lake does not have them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Protocol

import structlog

from cryptolake.errors import PlanLimitError, SourceDownError, SourceRefusedError
from cryptolake.ingest.landing import (
    DAY_MS,
    FIRST_HOUR_MS,
    SETTLED_MS,
    Ingested,
    Span,
    land_rejects,
    new_deliveries,
    prepare,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from cryptolake.clock import Clock
    from cryptolake.lake import Lake
    from cryptolake.sources.records import MarketChart

TABLE = "bronze.historical_prices"
SOURCE = "coingecko"
PLAN_DAYS = 365
"""The history that CoinGecko's free plans allow."""
FIRST_DAY = date(2013, 4, 28)
"""The oldest day that CoinGecko has of any coin."""
LAST_SECOND = time(23, 59, 59)
"""Of a day. The vendor counts in whole seconds, and has the next day's observation at its midnight."""
LAND_EVERY_SECONDS = 10
LAND_EVERY_ROWS = 500_000
ROUNDS = 2
"""A coin without an answer is asked once more after all others."""
DOWN_AFTER = 3
"""So many coins in a row without an answer mean that the vendor is down."""

NEW = new_deliveries(
    ["coin_id", "timestamp_ms"],
    ["price_usd", "market_cap_usd", "volume_24h_usd"],
    # a daily observation that was fetched too young to count is delivered again once it is settled
    unsettled=f"""(
        i.timestamp_ms % {DAY_MS} <= {FIRST_HOUR_MS}
        and epoch_ms(s._ingested_at) < s.timestamp_ms + {SETTLED_MS}
        and epoch_ms(i._ingested_at) >= i.timestamp_ms + {SETTLED_MS}
    )""",
)

log = structlog.get_logger(__name__)


class PriceSource(Protocol):
    """Who can be asked for daily observations."""

    def market_chart(self, coin_id: str, *, days: int | None) -> MarketChart:
        """Return the last *days* days of a coin; None asks for all."""
        ...

    def market_chart_range(self, coin_id: str, start: datetime, end: datetime) -> MarketChart:
        """Return a coin's days from *start* to *end*."""
        ...


def ingest_prices(
    lake: Lake,
    source: PriceSource,
    *,
    coins: Sequence[str],
    clock: Clock,
    run_id: str,
    restatement_days: int = 3,
    span: Span = Span(),  # noqa: B008 (frozen)
    on_progress: Callable[[int, int, int], None] = lambda *_: None,
) -> Ingested:
    """
    Land what *source* has of *coins* and the lake has not.

    A coin is asked for the days from its newest stored daily observation less the restatement window, or
    for all its history where nothing is stored, unless *span* says otherwise. Answers land every few
    seconds, so an interrupted run continues where it was. A coin that fails is asked once more after the
    others, unless the vendor as a whole is down. *on_progress* is told (coins done, coins, rows landed).

    Raises:
        ContractError: bronze does not follow its contract.
        LakeError: bronze cannot be written.
    """
    prepare(lake, TABLE)
    asker = _Asker(source, clock, span, restatement_days, _newest_days(lake))
    landing = _Landing(lake, clock, run_id)
    refused: dict[str, str] = {}
    down: dict[str, str] = dict.fromkeys(coins, "")
    for _ in range(ROUNDS):
        waiting, in_a_row = list(down), 0
        down = {}
        for coin in waiting:
            if in_a_row == DOWN_AFTER:
                down[coin] = f"not asked, since {DOWN_AFTER} coins in a row had no answer"
                continue
            try:
                landing.take(asker.ask(coin))
                in_a_row = 0
            except SourceRefusedError as e:
                refused[coin], in_a_row = str(e), 0
            except SourceDownError as e:
                down[coin] = str(e)
                in_a_row += 1
            on_progress(len(coins) - len(waiting) + waiting.index(coin) + 1, len(coins), landing.rows_added)
        if in_a_row == DOWN_AFTER:
            break  # the vendor is down: asking once more would only wait once more
    landing.land()
    for coin, reason in (failures := {**refused, **down}).items():
        log.warning("coin.failed", coin=coin, reason=reason)
    return Ingested(TABLE, len(coins), landing.rows_added, landing.rows_rejected, failures)


def _newest_days(lake: Lake) -> dict[str, date]:
    """Return the day of the newest stored daily observation of every coin."""
    with lake.reader(only=(TABLE,)) as reader:
        rows = reader.rows(
            f"""
            select coin_id, max(timestamp_ms) from {TABLE}
            where timestamp_ms % {DAY_MS} <= {FIRST_HOUR_MS} and epoch_ms(_ingested_at) >= timestamp_ms + {SETTLED_MS}
            group by coin_id
            """
        )
    return {coin: datetime.fromtimestamp(ms // 1000, UTC).date() for coin, ms in rows}


@dataclass
class _Asker:
    """Asks for what is missing of one coin after the other, and remembers what the plan allows."""

    source: PriceSource
    clock: Clock
    span: Span
    restatement_days: int
    newest: dict[str, date]
    plan_is_limited: bool = False

    def ask(self, coin: str) -> MarketChart:
        start = self._start(coin)
        if start is None or self._is_beyond_the_plan(start):
            return self._history(coin)
        end = datetime.combine(self.span.end, LAST_SECOND, UTC) if self.span.end else self.clock.now()
        try:
            return self.source.market_chart_range(coin, datetime.combine(start, time.min, UTC), end)
        except PlanLimitError as e:
            if self.span.start or self.span.end:
                raise
            self._learn_limit(e)
            return self._history(coin)

    def _start(self, coin: str) -> date | None:
        """Return the first day to ask for; None for all history."""
        if self.span.start or self.span.full:
            return self.span.start
        if self.span.end:
            return FIRST_DAY
        if coin not in self.newest:
            return None
        newest = min(self.newest[coin], self.clock.now().date())  # `--as-of` may be before what is stored
        return newest - timedelta(days=max(self.restatement_days - 1, 0))

    def _is_beyond_the_plan(self, start: date) -> bool:
        """Say whether the vendor is known to refuse days since *start*, so that there is no need to ask."""
        was_said = self.span.start or self.span.end
        return self.plan_is_limited and not was_said and (self.clock.now().date() - start).days > PLAN_DAYS

    def _history(self, coin: str) -> MarketChart:
        if not self.plan_is_limited:
            try:
                return self.source.market_chart(coin, days=None)
            except PlanLimitError as e:
                self._learn_limit(e)
        return self.source.market_chart(coin, days=PLAN_DAYS)

    def _learn_limit(self, refusal: PlanLimitError) -> None:
        log.info("plan.limited", days=PLAN_DAYS, reason=str(refusal))
        self.plan_is_limited = True


@dataclass
class _Landing:
    """Gathers answers and lands them every few seconds."""

    lake: Lake
    clock: Clock
    run_id: str
    charts: list[MarketChart] = field(default_factory=list)
    rows_added: int = 0
    rows_rejected: int = 0

    def __post_init__(self) -> None:
        self.landed_at = self.clock.monotonic()

    def take(self, chart: MarketChart) -> None:
        self.charts.append(chart)
        waiting = sum(len(c.observations) for c in self.charts)
        if waiting >= LAND_EVERY_ROWS or self.clock.monotonic() - self.landed_at >= LAND_EVERY_SECONDS:
            self.land()

    def land(self) -> None:
        charts = [c for c in self.charts if c.observations or c.rejects]
        self.charts = []
        self.landed_at = self.clock.monotonic()
        for chart in charts:  # before the rows: once these have landed, their days may not be asked for again
            self.rows_rejected += land_rejects(
                self.lake,
                [(chart.coin_id, e) for e in chart.rejects],
                received_at=_time(chart),
                run_id=self.run_id,
            )
        if rows := sum(len(c.observations) for c in charts):
            stamps = [o.timestamp_ms for c in charts for o in c.observations]
            within = f"timestamp_ms >= {min(stamps)} and timestamp_ms <= {max(stamps)}"
            added = self.lake.append(
                TABLE, _table(charts, rows, self.run_id), new=NEW, within=within
            ).rows_added
            self.rows_added += added
            log.info("batch.landed", table=TABLE, coins=len(charts), delivered=rows, rows=added)


def _table(charts: Sequence[MarketChart], rows: int, run_id: str) -> pa.Table:
    import pyarrow as pa

    observations = [o for c in charts for o in c.observations]
    ingested_at = [(c.received_at_ms, len(c.observations)) for c in charts]
    return pa.table(
        {
            "coin_id": pa.concat_arrays([pa.repeat(c.coin_id, len(c.observations)) for c in charts]),
            "timestamp_ms": pa.array([o.timestamp_ms for o in observations], pa.int64()),
            "price_usd": pa.array([o.price_usd for o in observations], pa.float64()),
            "market_cap_usd": pa.array([o.market_cap_usd for o in observations], pa.float64()),
            "volume_24h_usd": pa.array([o.volume_24h_usd for o in observations], pa.float64()),
            "_ingested_at": pa.concat_arrays([pa.repeat(ms * 1000, n) for ms, n in ingested_at]).cast(
                pa.timestamp("us", "UTC")
            ),
            "_source": pa.repeat(SOURCE, rows),
            "_run_id": pa.repeat(run_id, rows),
        }
    )


def _time(chart: MarketChart) -> datetime:
    return datetime.fromtimestamp(chart.received_at_ms / 1000, UTC)
