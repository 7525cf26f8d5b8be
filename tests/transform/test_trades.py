"""Trades become bars, and whatever comes late repairs exactly what it belongs to."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from threading import Event

import pytest

from cryptolake.clock import Clock
from cryptolake.contracts import load_contracts
from cryptolake.lake import Lake
from cryptolake.lake.catalog import local_catalog
from cryptolake.lake.commit import processed_by, stamp_of
from cryptolake.transform.run import COVERAGE, REFRESHED, Transform
from tests.transform.market import NOW, TRADES, Market, day

BTC = ("coinbase", "BTC-USD")
DAY = 86_400

pytestmark = pytest.mark.slow


@pytest.fixture
def traded(market: Market) -> Market:
    """A market with trades 1 to 9, one every 30 seconds, without 5, refined."""
    market.trades(*BTC, {i: 30.0 * i for i in (1, 2, 3, 4, 6, 7, 8, 9)})
    market.misses(*BTC, 5, 5)
    market.runs(select=COVERAGE)
    return market


def complete(market: Market) -> list[bool]:
    """Return which bars of a minute are complete, in the order of time."""
    return [c for (c,) in market.rows("select is_complete from silver.bars_1m order by bar_start_at")]


def bar_of(market: Market, minute: int) -> tuple:
    """Return open, close and count of the bar *minute* minutes into the first day."""
    start = f"timestamptz '{day(0)} 00:00:00+00' + interval {minute} minute"
    [bar] = market.rows(f"select open, close, trade_count from silver.bars_1m where bar_start_at = {start}")
    return bar


def test_a_gap_leaves_the_bars_around_it_incomplete_until_it_is_filled(traded: Market):
    """The trade that was missing repairs its own bar and its neighbours'; no other bar is written again."""
    assert complete(traded) == [False, True, False, False, False]
    traded.trades(*BTC, {5: 150.0}, received_via="rest")
    traded.misses(*BTC, 5, 5, "filled")

    done = traded.runs(select=REFRESHED)

    assert complete(traded) == [False, True, True, True, False]
    assert (done["bars_1m"].rows_added, done["bars_1m"].rows_replaced) == (0, 2)
    assert traded.rows("select state, resolved_by from silver.trade_gaps") == [("filled", "rest")]


def test_an_absent_id_completes_the_bars_around_it(traded: Market):
    """No trade comes, and what lies on both sides of the id is complete all the same."""
    traded.misses(*BTC, 5, 5, "absent")

    traded.runs(select=COVERAGE)

    assert complete(traded) == [False, True, True, True, False]
    assert traded.rows("select missing_ids, absent_ids, trade_count from gold.coverage_daily") == [(0, 1, 8)]


def test_a_rejected_id_stays_a_hole_until_its_trade_comes_after_all(traded: Market):
    """What contains it is incomplete, and the id is counted as rejected; a trade fills it."""
    traded.misses(*BTC, 5, 5, "rejected")
    traded.runs(select=COVERAGE)
    assert complete(traded) == [False, True, False, False, False]
    assert traded.rows("select missing_ids, rejected_ids from gold.coverage_daily") == [(0, 1)]

    traded.trades(*BTC, {5: 150.0})
    traded.runs(select=COVERAGE)

    assert complete(traded) == [False, True, True, True, False]
    assert traded.rows("select state from silver.trade_gaps") == [("filled",)]


def test_a_copy_that_changes_nothing_writes_no_row_and_is_not_looked_at_again(traded: Market):
    """The rows stay; that the copy was seen stands in the table's properties, without a snapshot."""
    before = traded.lake.table("silver.trades")
    traded.trades(*BTC, {4: 120.0}, received_at=NOW + timedelta(seconds=1))

    done = traded.runs(select=REFRESHED)

    after = traded.lake.table("silver.trades")
    assert {(r.rows_added, r.rows_replaced) for r in done.values()} == {(0, 0)}
    assert after.metadata.current_snapshot_id == before.metadata.current_snapshot_id
    assert processed_by(after)[TRADES] == stamp_of(traded.lake.table(TRADES)) > processed_by(before)[TRADES]


def test_a_better_copy_that_lands_later_replaces_the_one_held_and_a_worse_one_does_not(market: Market):
    """Websocket before REST before archive, then the first received; the bar follows."""
    market.trades(*BTC, {1: 0.0}, price=10.0, received_via="rest")
    market.runs(select=REFRESHED)
    market.trades(*BTC, {1: 0.0}, price=11.0, received_via="archive")
    market.runs(select=REFRESHED)
    assert bar_of(market, 0)[0] == Decimal(10)
    market.trades(*BTC, {1: 0.0}, price=12.0)

    market.runs(select=REFRESHED)

    assert bar_of(market, 0)[0] == Decimal(12)
    assert market.rows("select price, received_via from silver.trades") == [(Decimal(12), "websocket")]


def test_a_better_copy_of_another_time_leaves_the_bar_it_was_in(market: Market):
    """The bar that is left is built anew, and goes where no trade is left; so do the bars rolled up from it."""
    market.trades(*BTC, {1: 0.0}, received_via="archive")
    market.trades(*BTC, {2: 1.0, 3: 30 * DAY})
    market.runs(select=COVERAGE)
    market.trades(*BTC, {1: 30.0 * DAY, 3: 30.0 * DAY}, received_via="rest")
    market.runs(select=COVERAGE)
    assert bar_of(market, 0) == (Decimal(2), Decimal(2), 1)
    market.trades(*BTC, {2: 30.0 * DAY}, received_at=NOW - timedelta(days=1))

    market.runs(select=COVERAGE)

    assert market.rows("select count(*), sum(trade_count) from silver.bars_1m") == [(1, 3)]
    assert market.rows("select count(*), min(trade_count) from gold.fact_ohlcv") == [(6, 3)]
    assert market.rows("select traded_date, trade_count from gold.coverage_daily") == [(day(30), 3)]


def test_more_new_trades_than_fit_are_taken_in_turns(tmp_path: Path, transform: Transform):
    """The memory is bounded by the trades taken at once; the result is that of one run, also of a full refresh."""
    in_turns = Transform(transform._target_path, trades_at_once=5)
    with Lake.open(local_catalog(tmp_path), load_contracts(), Clock.fixed(NOW)) as lake:
        market = Market.open(lake, in_turns)
        for first in range(1, 13, 2):
            market.trades(*BTC, {first: 30.0 * first, first + 1: 30.0 * first + 30})

        done = market.runs(select=REFRESHED)

        assert done["trades"].rows_added == 12
        assert len(market.lake.table("silver.trades").snapshots()) == 2
        assert market.rows("select count(*), sum(trade_count) from silver.bars_1m") == [(7, 12)]


def test_a_run_that_is_to_stop_takes_one_turn_and_leaves_the_rest_to_the_next(
    tmp_path: Path, transform: Transform
):
    """A capture that ends does not wait for hours of a backfill; nothing is skipped by that."""
    in_turns = Transform(transform._target_path, trades_at_once=5)
    stop = Event()
    stop.set()
    with Lake.open(local_catalog(tmp_path), load_contracts(), Clock.fixed(NOW)) as lake:
        market = Market.open(lake, in_turns)
        for first in range(1, 13, 2):
            market.trades(*BTC, {first: 30.0 * first, first + 1: 30.0 * first + 30})
        in_turns.run(lake, now=NOW, select=REFRESHED, stop=stop)
        assert 0 < market.rows("select count(*) from silver.trades")[0][0] < 12

        market.runs(select=REFRESHED)

        assert market.rows("select sum(trade_count) from silver.bars_1m") == [(12,)]


def test_a_full_refresh_in_turns_equals_one_at_once(tmp_path: Path, transform: Transform):
    """The first turn replaces what there is, the others follow."""
    in_turns = Transform(transform._target_path, trades_at_once=5)
    with Lake.open(local_catalog(tmp_path), load_contracts(), Clock.fixed(NOW)) as lake:
        market = Market.open(lake, in_turns)
        for first in range(1, 13, 2):
            market.trades(*BTC, {first: 30.0 * first, first + 1: 30.0 * first + 30})
        Market(lake, transform).runs(select=REFRESHED)
        bars = market.rows("select * exclude (_processed_at) from silver.bars_1m order by all")

        market.runs(select=REFRESHED, full_refresh=True)

        assert market.rows("select * exclude (_processed_at) from silver.bars_1m order by all") == bars


def test_a_complete_day_of_trades_is_a_daily_price_until_the_vendor_has_one(market: Market):
    """The last trade by id of the day before, without cap or volume; CoinGecko's row replaces it for good."""
    market.says("bitcoin", {0: 100.0})
    market.trades(*BTC, {1: -1.0, 2: 5.0, 3: DAY - 2.0, 4: DAY - 3.0, 5: DAY + 1.0})
    market.runs()
    prices = "select price_date, price_usd, volume_24h_usd, price_source from silver.daily_prices order by 1"
    assert market.rows(prices) == [
        (day(0), 100.0, 10.0, "coingecko"),
        (day(1), 4.0, None, "trades:coinbase"),
    ]
    assert market.rows("select price_source from gold.fact_market_daily order by price_date") == [
        ("coingecko",),
        ("trades:coinbase",),
    ]

    market.says("bitcoin", {1: 101.0})
    market.runs()

    assert market.rows(prices) == [(day(0), 100.0, 10.0, "coingecko"), (day(1), 101.0, 10.0, "coingecko")]
    assert market.runs()["daily_prices"].rows_replaced == 0


def test_instruments_that_are_captured_but_not_declared_have_a_row(market: Market):
    """They have no coin; the declared ones are there whether captured or not."""
    market.trades("okx", "LUNA-USDT#2", {1: 0.0})

    market.runs()

    known = "select coin_id, is_reference from gold.dim_instruments where symbol = '{}'"
    assert market.rows(known.format("LUNA-USDT#2")) == [(None, False)]
    assert market.rows(known.format("BTC-USD")) == [("bitcoin", True)]
    assert market.rows(known.format("BTCUSDT")) == [("bitcoin", False)]


def test_a_lake_without_trades_is_not_burdened_with_their_models(market: Market):
    """Neither the tables nor the models of trades are touched before the first trade lands."""
    market.says("bitcoin", {0: 1.0})

    done = market.runs()

    assert "trades" not in done
    assert not market.lake.exists("silver.trades")
    assert market.runs(select=COVERAGE) == {}


def test_a_refresh_opens_no_trade_of_the_days_before(traded: Market):
    """Its cost does not grow with history: the files of old trades may be damaged, and nobody notices."""
    for name in (TRADES, "silver.trades"):
        for task in traded.lake.table(name).scan().plan_files():
            Path(task.file.file_path.removeprefix("file://")).write_bytes(b"damaged")
    traded.trades(*BTC, {10: 2.0 * DAY, 11: 2.0 * DAY + 90})

    done = traded.runs(select=COVERAGE)

    assert (done["trades"].rows_added, done["bars_1m"].rows_added) == (2, 2)
    assert complete(traded) == [False, True, False, False, True, True, False]
