"""
Silver and gold of prices and sentiment, from bronze rows, in plain Python.

Every figure is computed in IEEE doubles in the order in which its definition is written, and every sum
is a left fold in order of date. Rows are mappings by column name, as `Table.to_pylist()` gives them;
lineage columns (`_…`) are read from bronze and left out of the results.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from math import isfinite, log, sqrt
from operator import add
from typing import Any

Row = Mapping[str, Any]
Rows = list[dict[str, Any]]
Series = Sequence[float | None]  # one value a calendar day, None where there is none

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_MS = 86_400_000
LATEST_DAILY_OBSERVATION_MS = 3_600_000  # 01:00 UTC
YOUNGEST_DAILY_OBSERVATION = timedelta(minutes=30)
SCORES = {"Extreme Fear": 1, "Fear": 2, "Neutral": 3, "Greed": 4, "Extreme Greed": 5}
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def market_tables(price_deliveries: Iterable[Row], index_deliveries: Iterable[Row]) -> dict[str, Rows]:
    """Return the rows of every silver and gold table, by `layer.table`, in order of their keys."""
    prices = daily_prices(price_deliveries)
    index = fear_greed(index_deliveries)
    return {
        "silver.daily_prices": prices,
        "silver.fear_greed": index,
        "gold.dim_coins": dim_coins(prices),
        "gold.dim_dates": dim_dates(prices),
        "gold.fact_market_daily": fact_market_daily(prices, index),
    }


def daily_prices(deliveries: Iterable[Row]) -> Rows:
    """
    Return one row a coin and UTC day, from rows of bronze.historical_prices.

    Of the usable observations of a day the earliest counts, in its newest delivery, if it is of 01:00 UTC
    or before and was fetched at least 30 minutes after its instant.
    """
    days: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for delivery in deliveries:
        if _is_usable(delivery["price_usd"]):
            days[delivery["coin_id"], delivery["timestamp_ms"] // DAY_MS].append(delivery)
    rows = []
    for (coin_id, day), of_the_day in sorted(days.items()):
        earliest_ms = min(d["timestamp_ms"] for d in of_the_day)
        chosen = max((d for d in of_the_day if d["timestamp_ms"] == earliest_ms), key=_age)
        observed_at = EPOCH + timedelta(milliseconds=earliest_ms)
        in_time = earliest_ms - day * DAY_MS <= LATEST_DAILY_OBSERVATION_MS
        if in_time and chosen["_ingested_at"] - observed_at >= YOUNGEST_DAILY_OBSERVATION:
            rows.append(
                {
                    "coin_id": coin_id,
                    "price_date": observed_at.date(),
                    "price_usd": chosen["price_usd"],
                    "market_cap_usd": _known(chosen["market_cap_usd"]),
                    "volume_24h_usd": _known(chosen["volume_24h_usd"]),
                    "observed_at": observed_at,
                    "price_source": "coingecko",
                }
            )
    return rows


def fear_greed(deliveries: Iterable[Row]) -> Rows:
    """Return one row a UTC day, from rows of bronze.fear_greed: the newest usable delivery of the day."""
    newest: dict[date, Row] = {}
    for delivery in sorted(deliveries, key=_age):
        if delivery["value"] is not None and 0 <= delivery["value"] <= 100:
            newest[(EPOCH + timedelta(seconds=delivery["timestamp"])).date()] = delivery
    return [
        {"index_date": day, "fear_greed_value": d["value"], "classification": d["classification"]}
        for day, d in sorted(newest.items())
    ]


def dim_coins(prices: Sequence[Row]) -> Rows:
    """Return one row a coin, from the rows of silver.daily_prices."""
    return [_coin(coin_id, of_the_coin) for coin_id, of_the_coin in _by_coin(prices)]


def dim_dates(prices: Sequence[Row]) -> Rows:
    """Return one row a calendar day from the first to the last price of any coin."""
    if not prices:
        return []
    first = min(p["price_date"] for p in prices)
    last = max(p["price_date"] for p in prices)
    return [_calendar_day(first + timedelta(days=i)) for i in range((last - first).days + 1)]


def fact_market_daily(prices: Sequence[Row], index: Sequence[Row]) -> Rows:
    """Return one row a coin and day, from the rows of silver.daily_prices and silver.fear_greed."""
    sentiment = {i["index_date"]: i for i in index}
    return [
        row | _sentiment(sentiment.get(row["price_date"]))
        for _, of_the_coin in _by_coin(prices)
        for row in _figures(of_the_coin)
    ]


def _is_usable(amount: float | None) -> bool:
    return amount is not None and isfinite(amount) and amount > 0


def _known(amount: float | None) -> float | None:
    return amount if _is_usable(amount) else None


def _age(delivery: Row) -> tuple[Any, ...]:
    return delivery["_ingested_at"], delivery["_loaded_at"], delivery["_run_id"]


def _by_coin(prices: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    coins: dict[str, list[Row]] = defaultdict(list)
    for price in prices:
        coins[price["coin_id"]].append(price)
    return [(c, sorted(of_it, key=lambda p: p["price_date"])) for c, of_it in sorted(coins.items())]


def _coin(coin_id: str, prices: Sequence[Row]) -> dict[str, Any]:
    values = [p["price_usd"] for p in prices]
    volumes = [p["volume_24h_usd"] for p in prices if p["volume_24h_usd"] is not None]
    caps = [p["market_cap_usd"] for p in prices if p["market_cap_usd"] is not None]
    first, last = prices[0]["price_date"], prices[-1]["price_date"]
    high, low = max(values), min(values)
    return {
        "coin_id": coin_id,
        "symbol": None,
        "name": None,
        "first_tracked_date": first,
        "last_tracked_date": last,
        "total_days_tracked": len(prices),
        "missing_days": (last - first).days + 1 - len(prices),
        "all_time_high": high,
        "all_time_high_date": prices[values.index(high)]["price_date"],
        "all_time_low": low,
        "all_time_low_date": prices[values.index(low)]["price_date"],
        "avg_price": _mean(values),
        "avg_daily_volume": _mean(volumes) if volumes else None,
        "max_daily_volume": max(volumes, default=None),
        "max_market_cap": max(caps, default=None),
        "price_range_pct": (high - low) / low * 100,
    }


def _calendar_day(day: date) -> dict[str, Any]:
    iso_year, week, weekday = day.isocalendar()
    return {
        "date_day": day,
        "year": day.year,
        "quarter": (day.month + 2) // 3,
        "month": day.month,
        "month_name": MONTHS[day.month - 1],
        "week_of_year": week,
        "iso_year": iso_year,
        "day_of_month": day.day,
        "day_of_week": weekday,
        "day_name": WEEKDAYS[weekday - 1],
        "is_weekend": weekday in {6, 7},
    }


def _figures(prices: Sequence[Row]) -> Rows:
    """Return the rows of one coin, whose *prices* are in order of date, without the sentiment."""
    first = prices[0]["price_date"]
    length = (prices[-1]["price_date"] - first).days + 1
    p: list[float | None] = [None] * length
    volumes: list[float | None] = [None] * length
    for row in prices:
        p[(row["price_date"] - first).days] = row["price_usd"]
        volumes[(row["price_date"] - first).days] = row["volume_24h_usd"]
    returns = [_log_return(p, t) for t in range(length)]
    high = 0.0
    rows = []
    for row in prices:
        t = (row["price_date"] - first).days
        high = max(high, row["price_usd"])
        ma30 = _windowed_mean(p, t, 30)
        rows.append(
            {
                "coin_id": row["coin_id"],
                "price_date": row["price_date"],
                "price_usd": row["price_usd"],
                "market_cap_usd": row["market_cap_usd"],
                "volume_24h_usd": row["volume_24h_usd"],
                "price_source": row["price_source"],
                "price_change_pct_1d": _change_pct(p, t, 1),
                "log_return_1d": returns[t],
                "moving_avg_7d": _windowed_mean(p, t, 7),
                "moving_avg_30d": ma30,
                "price_stddev_7d": _windowed_stddev(p, t, 7),
                "volatility_7d": _windowed_stddev(returns, t, 7),
                "volatility_30d": _windowed_stddev(returns, t, 30),
                "volatility_60d": _windowed_stddev(returns, t, 60),
                "volatility_180d": _windowed_stddev(returns, t, 180),
                "avg_volume_7d": _windowed_mean(volumes, t, 7),
                "roi_30d_pct": _change_pct(p, t, 30),
                "roi_365d_pct": _change_pct(p, t, 365),
                "drawdown_pct": (row["price_usd"] / high - 1) * 100,
                "ma30_signal": _signal(row["price_usd"], ma30),
            }
        )
    return rows


def _sentiment(index: Row | None) -> dict[str, Any]:
    if index is None:
        return {"fear_greed_value": None, "market_sentiment": None, "sentiment_score": None}
    return {
        "fear_greed_value": index["fear_greed_value"],
        "market_sentiment": index["classification"],
        "sentiment_score": SCORES.get(index["classification"]),
    }


def _signal(price: float, average: float | None) -> str | None:
    if average is None:
        return None
    if price == average:
        return "AT_MA30"
    return "ABOVE_MA30" if price > average else "BELOW_MA30"


def _log_return(p: Series, t: int) -> float | None:
    now, before = p[t], _days_ago(p, t, 1)
    return None if now is None or before is None else log(now / before)


def _change_pct(p: Series, t: int, days: int) -> float | None:
    now, before = p[t], _days_ago(p, t, days)
    return None if now is None or before is None else (now / before - 1) * 100


def _days_ago(values: Series, t: int, days: int) -> float | None:
    return values[t - days] if t >= days else None


def _window(values: Series, t: int, days: int) -> Sequence[float] | None:
    """Return the values of the last *days* up to day *t*, or None unless each of them has one."""
    if t < days - 1:
        return None
    window = values[t - days + 1 : t + 1]
    return None if None in window else window  # type: ignore[return-value]


def _windowed_mean(values: Series, t: int, days: int) -> float | None:
    window = _window(values, t, days)
    return None if window is None else _mean(window)


def _windowed_stddev(values: Series, t: int, days: int) -> float | None:
    window = _window(values, t, days)
    if window is None:
        return None
    mean = _mean(window)
    return sqrt(_sum([(x - mean) * (x - mean) for x in window]) / (days - 1))


def _mean(values: Sequence[float]) -> float:
    return _sum(values) / len(values)


def _sum(values: Sequence[float]) -> float:
    """Add from left to right; the built-in `sum` compensates rounding since Python 3.12."""
    return reduce(add, values)
