"""The oracle gives the numbers that a person works out by hand from the definitions."""

from __future__ import annotations

import math
import statistics
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.oracle.market import (
    daily_prices,
    dim_coins,
    dim_dates,
    fact_market_daily,
    fear_greed,
    market_tables,
)
from tests.oracle.recordings import fifty_coins, five_years, sentiment

DAY_MS = 86_400_000
JUNE_FIRST_MS = 1_717_200_000_000  # 2024-06-01T00:00:00Z
LATER = datetime(2026, 1, 1, tzinfo=UTC)


def delivery(
    day: int = 0,
    price: float | None = 1.0,
    *,
    ms: int = 0,
    cap: float | None = None,
    volume: float | None = None,
    at: datetime = LATER,
    loaded: datetime = LATER,
    run: str = "a",
    coin: str = "bitcoin",
) -> dict[str, Any]:
    """Return a bronze row of an observation *ms* into the *day*-th day after 2024-06-01."""
    return {
        "coin_id": coin,
        "timestamp_ms": JUNE_FIRST_MS + day * DAY_MS + ms,
        "price_usd": price,
        "market_cap_usd": cap,
        "volume_24h_usd": volume,
        "_ingested_at": at,
        "_loaded_at": loaded,
        "_run_id": run,
    }


def index_delivery(
    value: int | None, classification: str, *, day: int = 0, at: datetime = LATER
) -> dict[str, Any]:
    """Return a bronze row of the index of the *day*-th day after 2024-06-01."""
    seconds = (JUNE_FIRST_MS + day * DAY_MS) // 1000
    return {
        "value": value,
        "classification": classification,
        "timestamp": seconds,
        "_ingested_at": at,
        "_loaded_at": at,
        "_run_id": "a",
    }


def prices_of(*deliveries: dict[str, Any]) -> list[float]:
    """Return the daily prices that *deliveries* make."""
    return [row["price_usd"] for row in daily_prices(deliveries)]


def figures(*prices: float | None, index: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    """Return the fact rows of one coin with *prices* from 2024-06-01 on; None is a day without one."""
    rows = [delivery(day, p, volume=p * 100) for day, p in enumerate(prices) if p is not None]
    return fact_market_daily(daily_prices(rows), fear_greed(index or []))


def test_a_daily_price_carries_the_day_of_its_observation_and_the_exact_instant() -> None:
    """price_date is the UTC day of the observation; observed_at is its instant."""
    [row] = daily_prices([delivery(price=67_540.5, ms=318_000, cap=1.3e12, volume=2.1e10)])

    assert row == {
        "coin_id": "bitcoin",
        "price_date": date(2024, 6, 1),
        "price_usd": 67_540.5,
        "market_cap_usd": 1.3e12,
        "volume_24h_usd": 2.1e10,
        "observed_at": datetime(2024, 6, 1, 0, 5, 18, tzinfo=UTC),
        "price_source": "coingecko",
    }


def test_the_earliest_observation_of_a_day_counts() -> None:
    """Of several observations of one UTC day the earliest is the daily price, however late it came."""
    assert prices_of(
        delivery(price=2.0, ms=300_000), delivery(price=1.0), delivery(price=3.0, ms=61_000)
    ) == [1.0]


@pytest.mark.parametrize(("ms", "counts"), [(3_600_000, True), (3_600_001, False), (62_197_000, False)])
def test_an_observation_after_one_o_clock_is_never_a_daily_price(ms: int, counts: bool) -> None:
    """01:00:00.000 UTC is the last instant of a daily observation."""
    assert prices_of(delivery(price=1.0, ms=ms)) == ([1.0] if counts else [])


@pytest.mark.parametrize(("minutes", "counts"), [(29, False), (30, True), (31, True)])
def test_an_observation_counts_once_it_is_half_an_hour_old(minutes: int, counts: bool) -> None:
    """A daily observation is at least 30 minutes older than its fetch."""
    fetched = datetime(2024, 6, 1, 0, minutes, tzinfo=UTC)

    assert prices_of(delivery(price=1.0, at=fetched)) == ([1.0] if counts else [])


def test_a_day_whose_earliest_observation_is_too_young_has_no_price() -> None:
    """A later observation does not stand in for the earliest; the next delivery makes the row."""
    young = delivery(price=1.0, ms=600_000, at=datetime(2024, 6, 1, 0, 20, tzinfo=UTC))
    later = delivery(price=2.0, ms=1_200_000)

    assert prices_of(young, later) == []
    assert prices_of(young, later, {**young, "_ingested_at": LATER}) == [1.0]


def test_of_several_deliveries_the_newest_counts() -> None:
    """Newest by (_ingested_at, _loaded_at, _run_id), in this order."""
    second = timedelta(seconds=1)

    assert prices_of(delivery(price=2.0, at=LATER + second), delivery(price=1.0, loaded=LATER + second)) == [
        2.0
    ]
    assert prices_of(delivery(price=2.0, loaded=LATER + second), delivery(price=1.0, run="b")) == [2.0]
    assert prices_of(delivery(price=2.0, run="b"), delivery(price=1.0, run="a")) == [2.0]


@pytest.mark.parametrize("price", [None, 0.0, -1.0, math.nan, math.inf])
def test_an_unusable_price_is_as_if_never_delivered(price: float | None) -> None:
    """It makes no row, hides no later observation and replaces no earlier delivery."""
    newer = LATER + timedelta(days=1)

    assert prices_of(delivery(price=price)) == []
    assert prices_of(delivery(price=price), delivery(price=2.0, ms=300_000)) == [2.0]
    assert prices_of(delivery(price=1.0), delivery(price=price, at=newer)) == [1.0]


@pytest.mark.parametrize("amount", [0.0, None, -1.0])
def test_a_cap_or_volume_of_zero_is_unknown(amount: float | None) -> None:
    """The vendor's 0 means that it does not know."""
    [row] = daily_prices([delivery(cap=amount, volume=amount)])

    assert (row["market_cap_usd"], row["volume_24h_usd"]) == (None, None)


def test_the_newest_usable_value_of_the_index_counts() -> None:
    """One row a day; a value outside 0 to 100 is as if never delivered."""
    newer = LATER + timedelta(days=1)
    rows = fear_greed(
        [
            index_delivery(30, "Fear", at=newer),
            index_delivery(20, "Extreme Fear"),
            index_delivery(101, "Extreme Greed", at=newer + timedelta(days=1)),
            index_delivery(None, "Neutral", day=1),
        ]
    )

    assert rows == [{"index_date": date(2024, 6, 1), "fear_greed_value": 30, "classification": "Fear"}]


def test_changes_and_returns_are_against_the_calendar_day_before() -> None:
    """10 to 11 is +10 %; after a missing day there is neither change nor return."""
    first, second, after_gap = figures(10.0, 11.0, None, 12.0)

    assert (first["price_change_pct_1d"], first["log_return_1d"]) == (None, None)
    assert second["price_change_pct_1d"] == pytest.approx(10.0, rel=1e-12)
    assert second["log_return_1d"] == pytest.approx(0.0953101798043249, rel=1e-12)
    assert (after_gap["price_change_pct_1d"], after_gap["log_return_1d"]) == (None, None)


def test_seven_day_figures_over_one_to_seven() -> None:
    """Mean of 1…7 is 4, their sample variance is 28/6; with six days there is neither."""
    rows = figures(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)

    assert rows[5]["moving_avg_7d"] is None
    assert rows[5]["price_stddev_7d"] is None
    assert rows[5]["avg_volume_7d"] is None
    assert rows[6]["moving_avg_7d"] == 4.0
    assert rows[6]["price_stddev_7d"] == pytest.approx(2.160246899469287, rel=1e-15)
    assert rows[6]["avg_volume_7d"] == 400.0


def test_a_missing_day_empties_every_window_that_holds_it() -> None:
    """The window is of calendar days: the seventh day after the gap is the first with a mean again."""
    rows = figures(*[1.0] * 7, None, *[1.0] * 7)

    assert [r["moving_avg_7d"] for r in rows] == [None] * 6 + [1.0] + [None] * 6 + [1.0]


def test_one_unknown_volume_empties_the_mean_volume() -> None:
    """avg_volume_7d is null if any of the seven volumes is."""
    rows = [delivery(day, 1.0, volume=0.0 if day == 3 else 5.0) for day in range(11)]
    facts = fact_market_daily(daily_prices(rows), [])

    assert [r["avg_volume_7d"] for r in facts] == [None] * 10 + [5.0]


def test_a_volatility_of_seven_days_needs_eight_prices() -> None:
    """Returns of ±ln 2 in turn: four up, three down, mean ln2/7, sample variance (48/49)·ln2²·7/6."""
    rows = figures(1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0)

    assert rows[6]["volatility_7d"] is None
    assert rows[7]["volatility_7d"] == pytest.approx(math.log(2) * math.sqrt(8 / 7), rel=1e-12)


def test_a_roi_needs_only_its_two_end_days() -> None:
    """Thirty days after 10 stands 15: +50 %, though the days between have no price."""
    rows = figures(10.0, *[None] * 29, 15.0)

    assert rows[-1]["roi_30d_pct"] == 50.0
    assert rows[-1]["moving_avg_30d"] is None


def test_a_year_of_roi() -> None:
    """2 against 8 of 365 days before is -75 %."""
    rows = figures(8.0, *[None] * 364, 2.0)

    assert rows[-1]["roi_365d_pct"] == -75.0


def test_drawdown_is_against_the_highest_price_so_far() -> None:
    """4, 8, 2, 8, 9: 0 at every high, -75 % in between."""
    assert [r["drawdown_pct"] for r in figures(4.0, 8.0, 2.0, 8.0, 9.0)] == [0.0, 0.0, -75.0, 0.0, 0.0]


@pytest.mark.parametrize(("last", "signal"), [(2.0, "ABOVE_MA30"), (0.5, "BELOW_MA30"), (1.0, "AT_MA30")])
def test_the_signal_tells_where_the_price_stands(last: float, signal: str) -> None:
    """Null while there is no 30-day mean, then above, below or at it."""
    rows = figures(*[1.0] * 29, last)

    assert [r["ma30_signal"] for r in rows] == [None] * 29 + [signal]


def test_sentiment_is_of_the_same_date() -> None:
    """Value and class are the vendor's; a day without the index has neither, nor a score."""
    index = [index_delivery(12, "Extreme Fear", day=0), index_delivery(80, "Extreme Greed", day=1)]
    rows = figures(1.0, 1.0, 1.0, index=index)

    assert [(r["fear_greed_value"], r["market_sentiment"], r["sentiment_score"]) for r in rows] == [
        (12, "Extreme Fear", 1),
        (80, "Extreme Greed", 5),
        (None, None, None),
    ]


def test_a_coin_is_summed_up_over_its_tracked_days() -> None:
    """Ties of highs and lows go to the first day; unknown volumes are skipped; gaps are counted."""
    rows = [
        delivery(0, 3.0, volume=10.0, cap=100.0),
        delivery(1, 5.0, volume=0.0, cap=0.0),
        delivery(4, 5.0, volume=30.0, cap=300.0),
        delivery(5, 2.0),
        delivery(6, 2.0),
    ]

    [coin] = dim_coins(daily_prices(rows))

    assert coin == {
        "coin_id": "bitcoin",
        "symbol": None,
        "name": None,
        "first_tracked_date": date(2024, 6, 1),
        "last_tracked_date": date(2024, 6, 7),
        "total_days_tracked": 5,
        "missing_days": 2,
        "all_time_high": 5.0,
        "all_time_high_date": date(2024, 6, 2),
        "all_time_low": 2.0,
        "all_time_low_date": date(2024, 6, 6),
        "avg_price": 3.4,
        "avg_daily_volume": 20.0,
        "max_daily_volume": 30.0,
        "max_market_cap": 300.0,
        "price_range_pct": 150.0,
    }


def test_a_coin_without_any_volume_has_no_mean_volume() -> None:
    """Unknown stays unknown."""
    [coin] = dim_coins(daily_prices([delivery()]))

    assert (coin["avg_daily_volume"], coin["max_daily_volume"], coin["max_market_cap"]) == (None, None, None)


def test_the_calendar_runs_from_the_first_to_the_last_price_of_any_coin() -> None:
    """Days without a price are in it too."""
    rows = [delivery(5, coin="ethereum"), delivery(2), delivery(9)]

    days = [r["date_day"] for r in dim_dates(daily_prices(rows))]

    assert days == [date(2024, 6, 3) + timedelta(days=i) for i in range(8)]
    assert dim_dates([]) == []


def test_a_calendar_day_has_iso_week_and_year() -> None:
    """Sunday 2021-01-03 is in week 53 of ISO year 2020."""
    [row] = dim_dates([{"price_date": date(2021, 1, 3)}])

    assert row == {
        "date_day": date(2021, 1, 3),
        "year": 2021,
        "quarter": 1,
        "month": 1,
        "month_name": "January",
        "week_of_year": 53,
        "iso_year": 2020,
        "day_of_month": 3,
        "day_of_week": 7,
        "day_name": "Sunday",
        "is_weekend": True,
    }


def test_windows_agree_with_exact_arithmetic() -> None:
    """Means and deviations in doubles lie within 1e-12 of those in fractions, over 400 random days."""
    random = Random(7)
    prices = [math.exp(random.gauss(8, 0.5)) for _ in range(400)]
    rows = figures(*prices)
    returns = [math.log(b / a) for a, b in pairwise(prices)]

    for t in (29, 180, 250, 399):
        assert rows[t]["moving_avg_30d"] == pytest.approx(
            float(sum(map(Fraction, prices[t - 29 : t + 1])) / 30), rel=1e-12
        )
        assert rows[t]["price_stddev_7d"] == pytest.approx(statistics.stdev(prices[t - 6 : t + 1]), rel=1e-12)
    for t in (180, 250, 399):
        for n in (7, 30, 60, 180):
            assert rows[t][f"volatility_{n}d"] == pytest.approx(
                statistics.stdev(returns[t - n : t]), rel=1e-12
            )
        assert rows[t]["roi_30d_pct"] == pytest.approx((prices[t] / prices[t - 30] - 1) * 100, rel=1e-12)


@pytest.mark.recordings
def test_five_recorded_years_of_bitcoin_give_the_published_figures(recordings: Path) -> None:
    """The figures of 2023-10-25 were computed twice before, with Decimal and with fsum."""
    tables = market_tables(five_years(recordings, "bitcoin"), sentiment(recordings))

    facts = tables["gold.fact_market_daily"]
    [coin] = tables["gold.dim_coins"]
    deepest = min(facts, key=lambda r: r["drawdown_pct"])
    assert facts[-1]["price_date"] == date(2023, 10, 25)
    assert facts[-1]["moving_avg_7d"] == pytest.approx(30494.40403438531, rel=1e-12)
    assert facts[-1]["moving_avg_30d"] == pytest.approx(28056.23298807123, rel=1e-12)
    assert facts[-1]["volatility_30d"] == pytest.approx(0.022500366557472, rel=1e-12)
    assert (coin["all_time_high"], coin["all_time_high_date"]) == (67617.0155448617, date(2021, 11, 9))
    assert (round(deepest["drawdown_pct"], 3), deepest["price_date"]) == (-76.718, date(2022, 11, 10))
    assert len(facts) == coin["total_days_tracked"] == 1826


@pytest.mark.recordings
def test_fifty_recorded_coins_keep_their_smallest_prices_and_lose_their_zero_caps(recordings: Path) -> None:
    """SHIB's 5.7e-11 survives, 580 zero caps of WBTC are unknown, 23 days of USDT are missing."""
    tables = market_tables(fifty_coins(recordings), sentiment(recordings))

    coins = {c["coin_id"]: c for c in tables["gold.dim_coins"]}
    unknown = [r for r in tables["silver.daily_prices"] if r["market_cap_usd"] is None]
    assert len(coins) == 50
    assert 5.6e-11 < coins["shiba-inu"]["all_time_low"] < 5.8e-11
    assert sum(r["coin_id"] == "wrapped-bitcoin" for r in unknown) == 580
    assert coins["tether"]["missing_days"] == 23
