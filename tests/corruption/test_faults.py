"""Every fault that has been thought of is found by the check meant for it, and a clean lake raises none."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from math import inf, nan
from pathlib import Path

import pytest

from tests.corruption.planting import (
    Plant,
    added,
    changed,
    doubled,
    dropped,
    kept,
    newer_than,
    of_day,
    rejected,
    removed,
    renamed,
    retyped,
    together,
    with_column,
    without_column,
)
from tests.quality.clean_lake import NOW, TODAY_MS, breaches, build, check, copied, opened

EARLIER_RUNS = 7
PRICES, INDEX, REJECTS = "bronze.historical_prices", "bronze.fear_greed", "bronze.rejects"
DAILY, CLEAN_INDEX = "silver.daily_prices", "silver.fear_greed"
FACT, DIM_COINS, DIM_DATES = "gold.fact_market_daily", "gold.dim_coins", "gold.dim_dates"
TOMORROW = NOW.date() + timedelta(days=1)
SOON_MS = TODAY_MS + 86_400_000


@dataclass(frozen=True)
class Fault:
    """Something wrong, how it comes about, and the check of *table* that must find it."""

    name: str
    table: str
    check: str
    plant: Plant
    status: str = "failed"


def everywhere(days_ago: int) -> Plant:
    """Take a day out of every layer, as if the vendor never had it."""
    return together(*(removed(t, of_day(days_ago, t)) for t in (PRICES, DAILY, FACT)))


BRONZE_PRICES = [
    Fault("a price is null", PRICES, "price_usd_not_null", changed(PRICES, price_usd=None)),
    Fault("a price is zero", PRICES, "price_usd_positive", changed(PRICES, price_usd=0.0)),
    Fault("a price is negative", PRICES, "price_usd_positive", changed(PRICES, price_usd=-1.5)),
    Fault("a price is NaN", PRICES, "price_usd_positive", changed(PRICES, price_usd=nan)),
    Fault("a price is infinite", PRICES, "price_usd_positive", changed(PRICES, price_usd=inf)),
    Fault(
        "a market cap is negative",
        PRICES,
        "market_cap_usd_not_negative",
        changed(PRICES, market_cap_usd=-1.0),
    ),
    Fault("a volume is NaN", PRICES, "volume_24h_usd_not_negative", changed(PRICES, volume_24h_usd=nan)),
    Fault("a coin is null", PRICES, "coin_id_not_null", changed(PRICES, coin_id=None)),
    Fault("a coin has no name", PRICES, "coin_id_not_empty", changed(PRICES, coin_id="")),
    Fault("an instant is null", PRICES, "timestamp_ms_not_null", changed(PRICES, timestamp_ms=None)),
    Fault(
        "an instant is in seconds",
        PRICES,
        "timestamp_ms_in_range",
        changed(PRICES, timestamp_ms=TODAY_MS // 1000),
    ),
    Fault(
        "an observation is of tomorrow",
        PRICES,
        "no_future_observations",
        changed(PRICES, timestamp_ms=SOON_MS),
    ),
    Fault("a delivery is there twice", PRICES, "unique_key", added(PRICES)),
    Fault("the source is unknown", PRICES, "_source_valid", changed(PRICES, _source="somebody")),
    Fault("the fetch time is null", PRICES, "_ingested_at_not_null", changed(PRICES, _ingested_at=None)),
    Fault("the load time is null", PRICES, "_loaded_at_not_null", changed(PRICES, _loaded_at=None)),
    Fault("the run is null", PRICES, "_run_id_not_null", changed(PRICES, _run_id=None)),
    Fault("one row is lost", PRICES, "row_count_never_falls", kept(PRICES, 182)),
    Fault("too few rows", PRICES, "row_count", kept(PRICES, 99)),
    Fault("the table is empty", PRICES, "row_count", kept(PRICES, 0)),
    Fault("there is no newest price", PRICES, "freshness", kept(PRICES, 0)),
    Fault(
        "every row landed three times",
        PRICES,
        "row_count_is_usual",
        together(doubled(PRICES), doubled(PRICES)),
        "warning",
    ),
    Fault(
        "prices are two and a half days old",
        PRICES,
        "freshness",
        removed(PRICES, newer_than(2.3, PRICES)),
        "warning",
    ),
    Fault("prices are four days old", PRICES, "freshness", removed(PRICES, newer_than(3.5, PRICES))),
    Fault(
        *("prices are four days old but for one of the future", PRICES, "freshness"),
        together(removed(PRICES, newer_than(3.5, PRICES)), added(PRICES, timestamp_ms=SOON_MS)),
    ),
    Fault(
        *("one coin is four days old", PRICES, "every_coin_is_fresh"),
        removed(PRICES, lambda row: row["coin_id"] == "solana" and newer_than(3.5, PRICES)(row)),
        "warning",
    ),
    Fault(
        *("a tracked coin was never delivered", PRICES, "every_coin_is_fresh"),
        removed(PRICES, lambda row: row["coin_id"] == "solana"),
        "warning",
    ),
    Fault("the vendor sent nonsense", PRICES, "no_rejected_observations", rejected("coingecko"), "warning"),
    Fault("the table is gone", PRICES, "exists", dropped(PRICES)),
    Fault("a check of a table that is gone", PRICES, "row_count", dropped(PRICES), "error"),
    Fault("prices are text", PRICES, "schema", retyped(PRICES, "price_usd", "string")),
    Fault("a column is renamed", PRICES, "schema", renamed(PRICES, price_usd="price")),
    Fault(
        "a check of a renamed column",
        PRICES,
        "price_usd_positive",
        renamed(PRICES, price_usd="price"),
        "error",
    ),
    Fault("a column is dropped", PRICES, "schema", without_column(PRICES, "volume_24h_usd")),
    Fault("a column nobody promised", PRICES, "schema", with_column(PRICES, "note")),
    Fault(
        *("two columns are swapped", PRICES, "schema"),
        renamed(PRICES, market_cap_usd="old", volume_24h_usd="market_cap_usd", old="volume_24h_usd"),
    ),
]
BRONZE_INDEX = [
    Fault("an index of 101", INDEX, "value_in_range", changed(INDEX, value=101)),
    Fault("an index of -1", INDEX, "value_in_range", changed(INDEX, value=-1)),
    Fault("an index is null", INDEX, "value_not_null", changed(INDEX, value=None)),
    Fault("a class is unknown", INDEX, "classification_valid", changed(INDEX, classification="Mild Panic")),
    Fault("a class is null", INDEX, "classification_not_null", changed(INDEX, classification=None)),
    Fault("a day is null", INDEX, "timestamp_not_null", changed(INDEX, timestamp=None)),
    Fault(
        "a day before the index began", INDEX, "timestamp_in_range", changed(INDEX, timestamp=1_400_000_000)
    ),
    Fault("a day in milliseconds", INDEX, "no_future_values", changed(INDEX, timestamp=TODAY_MS)),
    Fault("a value of tomorrow", INDEX, "no_future_values", changed(INDEX, timestamp=SOON_MS // 1000)),
    Fault("a day is there twice", INDEX, "unique_key", added(INDEX)),
    Fault("the index comes from elsewhere", INDEX, "_source_valid", changed(INDEX, _source="coingecko")),
    Fault(
        "the index is two and a half days old",
        INDEX,
        "freshness",
        removed(INDEX, newer_than(2.3, INDEX)),
        "warning",
    ),
    Fault("the index is four days old", INDEX, "freshness", removed(INDEX, newer_than(3.5, INDEX))),
    Fault("too few days", INDEX, "row_count", kept(INDEX, 29)),
    Fault("one value is lost", INDEX, "row_count_never_falls", kept(INDEX, 59)),
    Fault("the index landed twice", INDEX, "row_count_is_usual", doubled(INDEX), "warning"),
    Fault("the vendor sent a bad value", INDEX, "no_rejected_values", rejected("alternative.me"), "warning"),
    Fault("the index is gone", INDEX, "exists", dropped(INDEX)),
    Fault("the index is wider than promised", INDEX, "schema", retyped(INDEX, "value", "long")),
    Fault(
        "a reject without its bytes",
        REJECTS,
        "payload_not_null",
        together(rejected("x"), changed(REJECTS, payload=None)),
    ),
]
SILVER_PRICES = [
    Fault("a clean price is null", DAILY, "price_usd_not_null", changed(DAILY, price_usd=None)),
    Fault("a clean coin is null", DAILY, "coin_id_not_null", changed(DAILY, coin_id=None)),
    Fault("a clean date is null", DAILY, "price_date_not_null", changed(DAILY, price_date=None)),
    Fault("a clean price is negative", DAILY, "price_usd_positive", changed(DAILY, price_usd=-1.0)),
    Fault("a clean price is zero", DAILY, "price_usd_positive", changed(DAILY, price_usd=0.0)),
    Fault("a clean price is NaN", DAILY, "price_usd_positive", changed(DAILY, price_usd=nan)),
    Fault(
        "an unknown market cap became 0", DAILY, "market_cap_usd_positive", changed(DAILY, market_cap_usd=0.0)
    ),
    Fault("a volume is infinite", DAILY, "volume_24h_usd_positive", changed(DAILY, volume_24h_usd=inf)),
    Fault("a coin and day is there twice", DAILY, "unique_key", added(DAILY)),
    Fault("a date of tomorrow", DAILY, "no_future_dates", added(DAILY, price_date=TOMORROW)),
    Fault("a date before bitcoin", DAILY, "price_date_in_range", changed(DAILY, price_date=date(1970, 1, 1))),
    Fault("a day is missing", DAILY, "every_daily_observation_is_here", removed(DAILY, of_day(5, DAILY))),
    Fault(
        "silver stood still", DAILY, "every_daily_observation_is_here", removed(DAILY, newer_than(2, DAILY))
    ),
    Fault("a price was made up", DAILY, "every_price_was_delivered", changed(DAILY, price_usd=123.0)),
    Fault(
        "a coin that bronze does not have", DAILY, "every_price_was_delivered", added(DAILY, coin_id="luna")
    ),
    Fault("an intraday price", DAILY, "observed_in_the_first_hour", changed(DAILY, observed_at=NOW)),
    Fault(
        "a price source is unknown",
        DAILY,
        "price_source_is_known",
        changed(DAILY, price_source="forward fill"),
    ),
    Fault("a clean column is renamed", DAILY, "schema", renamed(DAILY, price_date="date")),
    Fault("the clean prices are gone", DAILY, "exists", dropped(DAILY)),
    Fault("the clean prices are empty", DAILY, "every_daily_observation_is_here", kept(DAILY, 0)),
    Fault(
        "a coin that gold does not have", DIM_COINS, "every_silver_coin_is_here", added(DAILY, coin_id="luna")
    ),
    Fault(
        "a price that gold does not have", FACT, "every_silver_price_is_here", changed(DAILY, price_usd=123.0)
    ),
    Fault("a price that only gold has", FACT, "no_row_without_silver", removed(DAILY, of_day(5, DAILY))),
]
SILVER_INDEX = [
    Fault(
        "a clean index of 101",
        CLEAN_INDEX,
        "fear_greed_value_in_range",
        changed(CLEAN_INDEX, fear_greed_value=101),
    ),
    Fault(
        "a clean index of -1",
        CLEAN_INDEX,
        "fear_greed_value_in_range",
        changed(CLEAN_INDEX, fear_greed_value=-1),
    ),
    Fault(
        "a clean class is unknown",
        CLEAN_INDEX,
        "classification_valid",
        changed(CLEAN_INDEX, classification="fear"),
    ),
    Fault("an index date is null", CLEAN_INDEX, "index_date_not_null", changed(CLEAN_INDEX, index_date=None)),
    Fault("an index date is there twice", CLEAN_INDEX, "unique_key", added(CLEAN_INDEX)),
    Fault(
        "an index date of tomorrow", CLEAN_INDEX, "no_future_dates", added(CLEAN_INDEX, index_date=TOMORROW)
    ),
    Fault(
        *("an index date is missing", CLEAN_INDEX, "every_delivered_day_is_here"),
        removed(CLEAN_INDEX, of_day(5, CLEAN_INDEX)),
    ),
    Fault(
        "an index value was made up",
        CLEAN_INDEX,
        "every_value_was_delivered",
        changed(CLEAN_INDEX, fear_greed_value=1),
    ),
    Fault("index dates are text", CLEAN_INDEX, "schema", retyped(CLEAN_INDEX, "index_date", "string")),
]
GOLD = [
    Fault("a fact is there twice", FACT, "unique_key", added(FACT)),
    Fault("a fact of an unknown coin", FACT, "coin_id_exists_in_dim_coins", added(FACT, coin_id="luna")),
    Fault(
        "a coin lost its row",
        FACT,
        "coin_id_exists_in_dim_coins",
        removed(DIM_COINS, lambda r: r["coin_id"] == "solana"),
    ),
    Fault(
        "a date lost its row",
        FACT,
        "price_date_exists_in_dim_dates",
        removed(DIM_DATES, of_day(5, DIM_DATES)),
    ),
    Fault("the calendar has a hole", DIM_DATES, "no_date_gaps", removed(DIM_DATES, of_day(5, DIM_DATES))),
    Fault("the vendor lacks a day", FACT, "no_date_gaps", everywhere(5), "warning"),
    Fault("there are no facts", FACT, "not_empty", kept(FACT, 0)),
    Fault("a price above every high", FACT, "drawdown_pct_not_positive", changed(FACT, drawdown_pct=1.0)),
    Fault("a return is infinite", FACT, "log_return_1d_finite", changed(FACT, log_return_1d=inf)),
    Fault("a sentiment is unknown", FACT, "market_sentiment_valid", changed(FACT, market_sentiment="Hope")),
]
FAULTS = [*BRONZE_PRICES, *BRONZE_INDEX, *SILVER_PRICES, *SILVER_INDEX, *GOLD]


@pytest.fixture(scope="module")
def clean_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the home of a clean lake whose bronze has been checked seven times."""
    home = tmp_path_factory.mktemp("clean")
    build(home)
    with opened(home) as lake:
        for run in range(EARLIER_RUNS):
            assert breaches(check(lake, layers=("bronze",), run_id=f"earlier-{run}")) == {}
    return home


def test_a_clean_lake_raises_no_check(clean_home: Path, tmp_path: Path) -> None:
    """Whatever is checked of a lake in which nothing is wrong passes."""
    with copied(clean_home, tmp_path) as lake:
        assert breaches(check(lake)) == {}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "_"))
def test_a_planted_fault_is_found_by_the_check_meant_for_it(
    fault: Fault, clean_home: Path, tmp_path: Path
) -> None:
    """A fault in one place of a clean lake breaks the check that is there for it, and the message says why."""
    with copied(clean_home, tmp_path) as lake:
        fault.plant(lake)
        found = check(lake, layers=(fault.table.split(".")[0],))
    result = found[f"{fault.table}.{fault.check}"]
    assert result.status == fault.status, breaches(found)
    assert result.message


def test_faults_are_many_and_each_is_of_its_own() -> None:
    """At least forty different faults are planted in bronze and silver."""
    planted = {f.name for f in FAULTS if f not in GOLD}
    assert len(planted) >= 40
    assert len({f.name for f in FAULTS}) == len(FAULTS)
