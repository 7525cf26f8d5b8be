"""Over recorded markets every table equals the oracle, and the known oddities come out right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cryptolake.contracts import load_contracts
from cryptolake.contracts.schemas import arrow_schema
from cryptolake.lake import Lake
from cryptolake.replay.recordings import Recordings
from cryptolake.transform.run import Transform
from tests.lakes import BRONZE, NOW, differences_from_the_oracle, new_lake
from tests.oracle.recordings import fifty_coins, five_years, sentiment

pytestmark = pytest.mark.slow

TEN_COINS = (
    "binancecoin",
    "bitcoin",
    "cardano",
    "chainlink",
    "ethereum",
    "litecoin",
    "ripple",
    "stellar",
    "tether",
    "usd-coin",
)


@pytest.fixture(scope="module")
def fifty_coin_lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A refined lake of the bundled recording of 50 coins and of the index."""
    index = [
        {
            "value": v.value,
            "classification": v.classification,
            "timestamp": v.timestamp,
            **lineage("alternative.me", NOW),
        }
        for v in Recordings.bundled("50-coins").index
    ]
    with refined(tmp_path_factory.mktemp("fifty"), fifty_bundled_coins(), index) as lake:
        yield lake


@pytest.fixture(scope="module")
def five_year_lake(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lake]:
    """A refined lake of the original five-year answers of 10 coins, each with its trailing intraday point."""
    prices = [row for coin_id in TEN_COINS for row in five_years(recordings, coin_id)]
    with refined(tmp_path_factory.mktemp("five"), prices, sentiment(recordings)) as lake:
        yield lake


def refined(home: Path, prices: Sequence[Mapping[str, Any]], index: Sequence[Mapping[str, Any]]) -> Lake:
    """Return a new lake with these bronze rows, refined."""
    lake = new_lake(home)
    for name, rows in zip(BRONZE, (prices, index), strict=True):
        schema = arrow_schema(load_contracts()[name])
        lake.append(name, pa.Table.from_pylist([dict(r) for r in rows], schema=schema))
    Transform(home / "dbt").run(lake, now=NOW)
    return lake


def fifty_bundled_coins() -> list[dict[str, Any]]:
    """Return the bronze rows of the bundled recording of 50 coins."""
    bundled = Recordings.bundled("50-coins")
    return [
        {
            "coin_id": coin_id,
            "timestamp_ms": ms,
            "price_usd": price,
            "market_cap_usd": cap,
            "volume_24h_usd": volume,
            **lineage("coingecko", bundled.ends_at),
        }
        for coin_id, series in bundled.coins.items()
        for ms, price, cap, volume in zip(
            series.timestamps_ms, series.prices, series.market_caps, series.volumes, strict=True
        )
    ]


def lineage(source: str, fetched_at: datetime) -> dict[str, Any]:
    """Return the lineage columns of a row that *source* answered."""
    return {"_ingested_at": fetched_at, "_source": source, "_run_id": "recorded"}


def one_row(lake: Lake, sql: str) -> tuple[Any, ...]:
    """Return the only row that *sql* gives on *lake*."""
    with lake.reader() as reader:
        [row] = reader.rows(sql)
    return row


def test_fifty_recorded_coins_equal_the_oracle_in_every_column(fifty_coin_lake: Lake) -> None:
    """Every row and column of silver and gold over 71,000 daily prices, to 1e-9."""
    assert differences_from_the_oracle(fifty_coin_lake) == {}
    assert one_row(fifty_coin_lake, "select count(*) > 71000 from gold.fact_market_daily") == (True,)


def test_the_smallest_recorded_price_survives(fifty_coin_lake: Lake) -> None:
    """SHIB once cost 5.7e-11 USD; no layer rounds it away."""
    [smallest] = one_row(fifty_coin_lake, "select min(price_usd) from gold.fact_market_daily")

    assert smallest == pytest.approx(5.7e-11, rel=0.01)
    assert one_row(
        fifty_coin_lake, "select all_time_low from gold.dim_coins where coin_id = 'shiba-inu'"
    ) == (smallest,)


def test_a_recorded_market_cap_of_zero_is_unknown(fifty_coin_lake: Lake) -> None:
    """The vendor says 0 on 580 days of WBTC; bronze keeps the 0, silver and gold have null."""
    of_wbtc = "where coin_id = 'wrapped-bitcoin' and market_cap_usd"

    assert one_row(fifty_coin_lake, f"select count(*) from bronze.historical_prices {of_wbtc} = 0") == (580,)
    for table in ("silver.daily_prices", "gold.fact_market_daily"):
        assert one_row(fifty_coin_lake, f"select count(*) from {table} {of_wbtc} is null") == (580,)
        assert one_row(fifty_coin_lake, f"select count(*) from {table} where market_cap_usd = 0") == (0,)


def test_recorded_gaps_are_counted_and_not_filled(fifty_coin_lake: Lake) -> None:
    """The recording lacks 23 days of USDT; they are missing days, and no row stands for them."""
    tether = "coin_id = 'tether'"

    assert one_row(fifty_coin_lake, f"select missing_days from gold.dim_coins where {tether}") == (23,)
    assert one_row(
        fifty_coin_lake,
        f"select count(*), max(price_date) - min(price_date) from silver.daily_prices where {tether}",
    ) == (2748, 2770)


@pytest.mark.recordings
def test_the_bundled_recording_is_the_original_one(recordings: Path) -> None:
    """Re-encoding lost no observation and no bit."""
    figures = ("coin_id", "timestamp_ms", "price_usd", "market_cap_usd", "volume_24h_usd")
    bundled, original = (
        [tuple(row[f] for f in figures) for row in rows]
        for rows in (fifty_bundled_coins(), fifty_coins(recordings))
    )

    assert sorted(bundled, key=lambda r: r[:2]) == sorted(original, key=lambda r: r[:2])


@pytest.mark.recordings
def test_ten_coins_of_five_recorded_years_equal_the_oracle(five_year_lake: Lake) -> None:
    """Every row and column of silver and gold, to 1e-9."""
    assert differences_from_the_oracle(five_year_lake) == {}


@pytest.mark.recordings
def test_a_trailing_intraday_point_never_becomes_a_daily_price(five_year_lake: Lake) -> None:
    """Each answer ended at 17:16 UTC; the day has the price of its midnight."""
    late = "select count(*) from bronze.historical_prices where timestamp_ms % 86400000 > 3600000"
    wrong = "select count(*) from silver.daily_prices where hour(observed_at) > 0 or cast(observed_at as date) <> price_date"

    assert one_row(five_year_lake, late) == (10,)
    assert one_row(five_year_lake, wrong) == (0,)


@pytest.mark.recordings
def test_bitcoin_on_the_last_recorded_day_has_the_published_figures(five_year_lake: Lake) -> None:
    """The figures of 2023-10-25 were computed twice before, with Decimal and with fsum."""
    row = one_row(
        five_year_lake,
        "select moving_avg_7d, moving_avg_30d, volatility_30d from gold.fact_market_daily "
        "where coin_id = 'bitcoin' and price_date = '2023-10-25'",
    )
    deepest = one_row(
        five_year_lake,
        "select round(drawdown_pct, 3), price_date from gold.fact_market_daily "
        "where coin_id = 'bitcoin' order by drawdown_pct limit 1",
    )
    high = one_row(
        five_year_lake,
        "select all_time_high, all_time_high_date from gold.dim_coins where coin_id = 'bitcoin'",
    )

    assert row == pytest.approx((30494.40403438531, 28056.23298807123, 0.022500366557472), rel=1e-12)
    assert deepest == (-76.718, date(2022, 11, 10))
    assert high == (67617.0155448617, date(2021, 11, 9))
