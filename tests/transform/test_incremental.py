"""An incremental run leaves silver and gold as a full refresh would, and touches nothing else."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.transform.market import Market, day

TOO_EARLY = datetime(2023, 1, 5, 0, 6, tzinfo=UTC)

pytestmark = pytest.mark.slow


@pytest.fixture
def refined(market: Market) -> Market:
    """A market of two coins over 400 and 40 days that has been transformed once."""
    market.says("bitcoin", {n: 100.0 + (n * 37 % 50) for n in range(400)})
    market.says("ethereum", {n: 10.0 + (n * 7 % 5) for n in range(360, 400) if n != 370})
    market.feels(0, 20, "Extreme Fear")
    market.feels(395, 60, "Greed")
    market.runs()
    return market


def assert_equals_full_refresh(market: Market) -> None:
    built = market.tables()
    market.runs(full_refresh=True)
    assert market.tables() == built


def test_nothing_new_commits_nothing(refined: Market):
    """A second run finds nothing to do: no snapshot, not even an empty one."""
    before = refined.snapshots()

    done = refined.runs()

    assert refined.snapshots() == before
    assert {(r.rows_added, r.rows_replaced, r.files_rewritten) for r in done.values()} == {(0, 0, 0)}


def test_a_new_day_is_appended(refined: Market):
    """One more day is one more row in silver, in the calendar and in the fact; no older row is written again."""
    refined.says("bitcoin", {400: 111.0})

    done = refined.runs()

    assert {name: (r.rows_added, r.rows_replaced) for name, r in done.items()} == {
        "daily_prices": (1, 0),
        "fear_greed": (0, 0),
        "dim_coins": (0, 1),
        "dim_dates": (1, 0),
        "fact_market_daily": (1, 0),
    }


def test_a_restated_price_changes_the_rows_that_depend_on_it(refined: Market):
    """A value restated 390 days back reaches every window, return and drawdown after it, of its coin only."""
    refined.says("bitcoin", {10: 400.0})

    done = refined.runs()

    assert (done["daily_prices"].rows_added, done["daily_prices"].rows_replaced) == (0, 1)
    highs = refined.rows(
        "select all_time_high, all_time_high_date from gold.dim_coins where coin_id = 'bitcoin'"
    )
    assert highs == [(400.0, day(10))]
    drawdowns = refined.rows(
        "select drawdown_pct from gold.fact_market_daily where price_date = '2024-01-31'"
    )
    assert min(drawdowns) == ((refined_price(395) / 400.0 - 1) * 100,)
    assert_equals_full_refresh(refined)


def refined_price(n: int) -> float:
    return 100.0 + (n * 37 % 50)


def test_a_late_day_fills_the_windows_around_it(refined: Market):
    """The day that was missing arrives: the rows after it get their windows."""
    window = "select moving_avg_7d is null from gold.fact_market_daily where coin_id = 'ethereum' and price_date = '2024-01-11'"
    assert day(375).isoformat() == "2024-01-11"
    assert refined.rows(window) == [(True,)]
    refined.says("ethereum", {370: 12.0})

    refined.runs()

    assert refined.rows(window) == [(False,)]
    assert_equals_full_refresh(refined)


def test_an_earlier_first_price_extends_the_calendar_backwards(refined: Market):
    """History that begins earlier than known adds its days to the calendar, and a coin its missing days."""
    refined.says("ethereum", {-10: 9.0})

    done = refined.runs()

    assert done["dim_dates"].rows_added == 10
    assert_equals_full_refresh(refined)


def test_a_coin_that_is_added_later_joins_in(refined: Market):
    """Its days lie among those that are there already."""
    refined.says("solana", {n: 5.0 + n for n in range(100, 120)})

    done = refined.runs()

    assert (done["fact_market_daily"].rows_added, done["fact_market_daily"].rows_replaced) == (20, 0)


def test_a_changed_index_changes_its_day_for_every_coin_and_no_other_row(refined: Market):
    """The figures of the day stay as they are; a value for a day that had none counts as well."""
    refined.feels(395, 40, "Fear")
    refined.feels(200, 50, "Neutral")

    done = refined.runs()

    assert (done["fact_market_daily"].rows_added, done["fact_market_daily"].rows_replaced) == (0, 3)
    assert refined.rows(
        "select coin_id, sentiment_score from gold.fact_market_daily where price_date = '2024-01-31' order by all"
    ) == [("bitcoin", 2), ("ethereum", 2)]
    assert_equals_full_refresh(refined)


def test_a_delivery_that_makes_no_row_is_seen_again_when_its_day_gets_one(refined: Market):
    """The intraday point of a day is no price; the observation that comes later in a batch of its own is."""
    refined.says("bitcoin", {400: 120.0}, minute=1000)
    assert refined.runs()["daily_prices"].rows_added == 0
    refined.says("ethereum", {400: 11.0})
    refined.runs()
    refined.says("bitcoin", {400: 119.0})

    refined.runs()

    assert refined.rows(
        "select price_usd from silver.daily_prices where price_date = '2024-02-05' order by 1"
    ) == [
        (11.0,),
        (119.0,),
    ]
    assert_equals_full_refresh(refined)


def test_deliveries_of_many_commits_are_all_taken(refined: Market):
    """A run takes every commit since the last one, whichever coin the newest is of."""
    refined.says("bitcoin", {400: 120.0})
    refined.says("ethereum", {400: 12.0})
    refined.says("bitcoin", {401: 121.0, 400: 120.5})
    refined.says("bitcoin", {400: 120.5})

    assert refined.runs()["daily_prices"].rows_added == 3


def test_an_older_delivery_that_lands_later_changes_nothing(refined: Market):
    """Fetched earlier and landed later is not newer."""
    refined.says("bitcoin", {10: 999.0}, fetched_at=datetime(2023, 6, 1, tzinfo=UTC))

    assert refined.runs()["daily_prices"].rows_replaced == 0


def test_a_price_that_turns_out_to_be_none_leaves_every_layer(refined: Market):
    """An earlier point of the day shows the price to be an intraday one: its row goes, and the coin's only day with it."""
    refined.says("luna", {-5: 3.0}, minute=10)
    refined.says("ethereum", {-5: 3.0}, minute=10)
    refined.runs()
    assert refined.rows("select count(*) from gold.dim_dates where date_day < '2023-01-01'") == [(5,)]
    for coin in ("luna", "ethereum"):
        refined.says(coin, {-5: 2.0}, minute=5, fetched_at=datetime(2022, 12, 27, 0, 6, tzinfo=UTC))

    refined.runs()

    assert refined.rows("select coin_id from gold.dim_coins order by 1") == [("bitcoin",), ("ethereum",)]
    assert refined.rows("select min(date_day) from gold.dim_dates") == [(day(0),)]
    assert_equals_full_refresh(refined)


def test_gold_catches_up_with_silver_that_was_refined_alone(refined: Market):
    """Models may be run one by one: gold is built by what silver holds, not by when it was built."""
    refined.says("bitcoin", {10: 400.0, 400: 120.0})
    refined.runs(select=["daily_prices"])

    done = refined.runs(select=["fact_market_daily", "dim_coins", "dim_dates"])

    assert set(done) == {"fact_market_daily", "dim_coins", "dim_dates"}
    assert_equals_full_refresh(refined)


def test_a_row_that_stays_the_same_keeps_its_time(refined: Market):
    """Lineage alone rewrites nothing: `_processed_at` is that of the delivery that last changed the row."""
    before = refined.rows("select _processed_at from silver.daily_prices where price_date = '2023-01-11'")
    refined.says("bitcoin", {10: refined_price(10)})

    refined.runs()

    assert (
        refined.rows("select _processed_at from silver.daily_prices where price_date = '2023-01-11'")
        == before
    )
