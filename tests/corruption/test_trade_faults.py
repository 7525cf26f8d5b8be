"""Every fault of trades that has been thought of is found by the check meant for it, and clean trades raise none."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tests.corruption.planting import added, changed, rejected, removed, together
from tests.corruption.test_faults import Fault
from tests.quality.clean_lake import NOW, arrow, breaches, copied
from tests.quality.clean_trades import ABSENT, BTC, build, check, tables

RAW, EVENTS = "bronze.realtime_trades", "bronze.trade_gaps"
TRADES, IDS, GAPS, RANGES = "silver.trades", "silver.held_ids", "silver.trade_gaps", "silver.held_ranges"
BARS, FACT, COVERAGE, INSTRUMENTS = (
    "silver.bars_1m",
    "gold.fact_ohlcv",
    "gold.coverage_daily",
    "gold.dim_instruments",
)
DAILY = "silver.daily_prices"
MISSED = 1_020
TRADED_DAY = {"coin_id": "bitcoin", "price_date": date(2024, 3, 15), "price_source": "trades:coinbase"}
LATER = {"_processed_at": NOW + timedelta(seconds=1)}


def lost(table: str):
    """Take the bitcoin trade `MISSED` out of *table*, as if it had never come."""
    return removed(table, lambda row: (row["symbol"], row["trade_id"]) == (BTC[1], MISSED))


def cut(table: str):
    """Cut the range of *table* that holds the trade `MISSED` in two, without it."""

    def plant(lake) -> None:
        rows = lake.table(table).scan().to_arrow().to_pylist()
        [whole] = [r for r in rows if r["symbol"] == BTC[1] and r["first_id"] <= MISSED <= r["last_id"]]
        parts = [{**whole, "last_id": MISSED - 1, "trade_count": 20}, {**whole, "first_id": MISSED + 1}]
        kept = [
            {k: v for k, v in p.items() if k in whole} for p in (*(r for r in rows if r != whole), *parts)
        ]
        lake.table(table).overwrite(arrow(table, kept))

    return plant


def priced(**values):
    """Put a price from trades into the empty table of daily prices."""
    row = {**TRADED_DAY, "price_usd": 8_571.85, "observed_at": NOW, **values}
    return lambda lake: lake.table(DAILY).append(arrow(DAILY, [row]))


FAULTS = [
    Fault("copies differ", RAW, "conflicting_copies", added(RAW, price=Decimal(1))),
    Fault("copies differ in their side", RAW, "conflicting_copies", added(RAW, is_buyer_maker=None), "passed"),
    Fault("a copy is of another time", RAW, "conflicting_copies", added(RAW, traded_at=NOW)),
    Fault("a range is upside down", EVENTS, "ranges_are_in_order", changed(EVENTS, last_id=0)),
    Fault("a trade of bronze is not in silver", TRADES, "every_trade_of_bronze_is_here", lost(TRADES)),
    Fault("a date is not that of its time", TRADES, "traded_date_is_that_of_traded_at", changed(TRADES, traded_date=NOW.date())),
    Fault("two runs meet", IDS, "runs_are_apart", changed(IDS, last_id=ABSENT)),
    Fault("a held id has no trade", IDS, "as_many_ids_as_trades", lost(TRADES)),
    Fault("two gaps overlap", GAPS, "ranges_are_apart", changed(GAPS, first_id=ABSENT)),
    Fault("a gap is open", GAPS, "no_open_gaps", changed(GAPS, state="open"), "warning"),
    Fault("an id was rejected", GAPS, "no_rejected_ids", changed(GAPS, state="rejected"), "warning"),
    Fault("what was filled is not held", GAPS, "filled_ids_are_held", changed(GAPS, state="filled", first_id=200, last_id=201), "warning"),
    Fault("two ranges meet", RANGES, "ranges_are_apart", changed(RANGES, last_id=1_400)),
    Fault("a hole is in no gap", RANGES, "no_undisclosed_holes", cut(RANGES)),
    Fault("a bar lacks a trade", BARS, "bars_equal_trades", changed(BARS, trade_count=2)),
    Fault("a bar lacks volume", BARS, "bars_equal_trades", changed(BARS, volume=Decimal(1))),
    Fault("trades have no bar", BARS, "bars_equal_trades", removed(BARS, lambda r: r["first_trade_id"] == MISSED)),
    Fault("a high is below the low", BARS, "prices_are_in_order", changed(BARS, high=Decimal(1))),
    Fault("a bar at a hole calls itself complete", BARS, "complete_bars_lie_inside_held_ids", cut(RANGES)),
    Fault("a rolled-up bar lacks a trade", FACT, "rolled_up_bars_equal_those_of_a_minute", changed(FACT, trade_count=7)),
    Fault("a rolled-up bar is gone", FACT, "rolled_up_bars_equal_those_of_a_minute", removed(FACT, lambda r: r["interval"] == "1d")),
    Fault("a day lacks trades", COVERAGE, "days_equal_trades", changed(COVERAGE, trade_count=1)),
    Fault("a stablecoin is the dollar", INSTRUMENTS, "references_are_quoted_in_usd", changed(INSTRUMENTS, is_reference=True)),
    Fault("a coin has two references", INSTRUMENTS, "one_reference_a_coin", added(INSTRUMENTS, venue="kraken")),
    Fault("a captured instrument has no row", INSTRUMENTS, "every_captured_instrument_is_here", removed(INSTRUMENTS, lambda r: r["venue"] == "okx"), "warning"),
    Fault("a price from trades is none's close", DAILY, "traded_prices_are_closes_of_complete_days", priced(price_usd=1.0)),
    Fault("a price from trades has a volume", DAILY, "traded_prices_are_closes_of_complete_days", priced(volume_24h_usd=1.0)),
]  # fmt: skip


@pytest.fixture(scope="module")
def clean_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the home of a clean lake of trades."""
    home = tmp_path_factory.mktemp("clean")
    build(home)
    return home


def test_clean_trades_raise_no_check(clean_home: Path, tmp_path: Path) -> None:
    """Whatever is checked of trades in which nothing is wrong passes, also the source of a price from them."""
    with copied(clean_home, tmp_path) as lake:
        assert breaches(check(lake, list(tables()))) == {}


def test_trades_that_came_since_the_models_ran_are_no_fault(clean_home: Path, tmp_path: Path) -> None:
    """A check beside a running capture sees a moment in between; what is newer than a model is not held against it."""
    with copied(clean_home, tmp_path) as lake:
        late = {"trade_id": 5_000, "traded_at": NOW, **LATER}
        together(added(TRADES, **late), added(RAW, trade_id=5_001, _loaded_at=NOW + timedelta(seconds=2)))(
            lake
        )

        found = breaches(check(lake, [TRADES, IDS, BARS, FACT, COVERAGE]))

    assert found == {"silver.trades.traded_date_is_that_of_traded_at": "failed"}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "_"))
def test_a_planted_fault_of_trades_is_found_by_the_check_meant_for_it(
    fault: Fault, clean_home: Path, tmp_path: Path
) -> None:
    """A fault in one place of clean trades breaks the check that is there for it, and the message says why."""
    with copied(clean_home, tmp_path) as lake:
        fault.plant(lake)
        found = check(lake, [fault.table])
    result = found[f"{fault.table}.{fault.check}"]
    assert result.status == fault.status, breaches(found)
    assert result.message or fault.status == "passed"


def test_rejected_trades_are_a_warning(clean_home: Path, tmp_path: Path) -> None:
    """What a venue sent and nobody can read is said for a week."""
    with copied(clean_home, tmp_path) as lake:
        rejected("okx", venue="okx")(lake)
        assert breaches(check(lake, [RAW])) == {f"{RAW}.no_rejected_trades": "warning"}
