"""
Random histories of a market: what vendors answered, run after run, with everything that goes wrong.

`random_history(seed)` gives the same history every time. Coins are independent of each other: each draws
from its own stream, so one lake of many coins tests as many histories.

What happens in them: days that arrive late or never, a first price that moves back, coins tracked from a
later run, restated and repeated deliveries, several observations of one day (00:05, 00:50, 01:00 and a
millisecond later, intraday), observations too young to count, unusable prices, caps and volumes that are 0
or null, prices that repeat so that highs and lows tie, answers out of order, runs that land in another
order than they fetched or at the same instant; and an index with changed values and missing days.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from math import exp, inf, nan
from random import Random
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from cryptolake.contracts import load_contracts
from cryptolake.contracts.schemas import arrow_schema

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY_MS, MINUTE_MS = 86_400_000, 60_000
SHORTEST_DAYS = 60
MIDNIGHT_MS = 0
OFF_MIDNIGHT_MS = (5 * MINUTE_MS, 50 * MINUTE_MS, 60 * MINUTE_MS, 60 * MINUTE_MS + 1, 180 * MINUTE_MS)
INTRADAY_MS = 17 * 60 * MINUTE_MS + 16 * MINUTE_MS + 37_000
FETCH_TIMES_OF_DAY = tuple(
    timedelta(hours=h, minutes=m)
    for h, m in ((0, 10), (0, 30), (0, 35), (0, 40), (1, 25), (2, 0), (9, 30), (17, 16), (23, 59))
)
FIRST_PRICES_USD = (5.7e-11, 3.1e-8, 0.02, 1.0, 31.5, 1_800.0, 64_000.0, 7.5e9)
UNUSABLE_PRICES_USD = (None, 0.0, -1.25, nan, inf)
CLASS_LIMITS = {25: "Extreme Fear", 46: "Fear", 54: "Neutral", 75: "Greed", 100: "Extreme Greed"}


@dataclass(frozen=True)
class Run:
    """What one run was answered: rows of bronze without `_loaded_at`, which a commit stamps."""

    run_id: str
    fetched_at: datetime
    prices: tuple[Mapping[str, Any], ...]
    index: tuple[Mapping[str, Any], ...]

    def rows(self, table: str) -> pa.Table:
        """Return the run's rows of *table*, bronze.historical_prices or bronze.fear_greed, to append."""
        schema = arrow_schema(load_contracts()[table])
        schema = schema.remove(schema.get_field_index("_loaded_at"))
        rows = self.prices if table == "bronze.historical_prices" else self.index
        return pa.Table.from_pylist([dict(r) for r in rows], schema=schema)

    def market_chart(self, coin_id: str) -> dict[str, list[list[float | None]]]:
        """Return CoinGecko's answer for *coin_id* that would have made these rows."""
        points = [p for p in self.prices if p["coin_id"] == coin_id]
        return {
            "prices": [[p["timestamp_ms"], p["price_usd"]] for p in points],
            "market_caps": [[p["timestamp_ms"], p["market_cap_usd"]] for p in points],
            "total_volumes": [[p["timestamp_ms"], p["volume_24h_usd"]] for p in points],
        }


@dataclass(frozen=True)
class History:
    """The *runs* of one lake in the order in which they land; *seed* makes it again."""

    seed: int
    runs: tuple[Run, ...]

    def bronze(self, runs: int | None = None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the price and index rows after the first *runs*, each run landed a minute after the last."""
        prices: list[dict[str, Any]] = []
        index: list[dict[str, Any]] = []
        for i, run in enumerate(self.runs[:runs]):
            landed = {"_loaded_at": self.runs[-1].fetched_at + timedelta(days=2, minutes=i)}
            prices += [{**row, **landed} for row in run.prices]
            index += [{**row, **landed} for row in run.index]
        return prices, index


def random_history(seed: int, *, coins: int = 25, days: int = 450, runs: int = 6) -> History:
    """
    Return the history number *seed* of *coins* coins over at most *days* days, told in *runs* runs.

    Coins have between 60 and *days* days; the first run comes when most of them have passed.
    """
    random = Random(seed)
    first_day = date(2018, 6, 1) + timedelta(days=random.randrange(2000))
    times = _fetch_times(random, first_day, days, runs)
    deliveries = [
        _coin_deliveries(Random(f"{seed}/{coin}"), f"coin-{seed}-{coin}", first_day, days, times)
        for coin in range(coins)
    ]
    index = _index_deliveries(Random(f"{seed}/index"), first_day, times)
    return History(
        seed,
        tuple(
            Run(
                run_id=f"run-{seed}-{i}",
                fetched_at=at,
                prices=tuple(
                    _stamped([d for coin in deliveries for d in coin[i]], at, f"run-{seed}-{i}", "coingecko")
                ),
                index=tuple(_stamped(index[i], at, f"run-{seed}-{i}", "alternative.me")),
            )
            for i, at in enumerate(times)
        ),
    )


def histories(*, coins: int = 3, days: int = 250, runs: int = 4) -> st.SearchStrategy[History]:
    """Return the Hypothesis strategy of random histories of that size."""
    return st.integers(0, 2**32 - 1).map(lambda seed: random_history(seed, coins=coins, days=days, runs=runs))


def sentiment_class(value: int) -> str:
    """Return the vendor's class of an index *value*, as observed over eight years."""
    return next(name for limit, name in CLASS_LIMITS.items() if value <= limit)


def _stamped(
    rows: Iterable[Mapping[str, Any]], at: datetime, run_id: str, source: str
) -> list[dict[str, Any]]:
    return [{**row, "_ingested_at": at, "_source": source, "_run_id": run_id} for row in rows]


def _fetch_times(random: Random, first_day: date, days: int, runs: int) -> list[datetime]:
    """
    Return when each run fetched, in the order in which they land.

    Mostly that is the order of time. Two neighbours may have fetched at the same instant, or in the other
    order: then at 09:30, when no daily observation is too young, so that no answer takes back a day.
    """
    start = datetime(first_day.year, first_day.month, first_day.day, tzinfo=UTC)
    ages = [*sorted(random.sample(range(int(days * 0.6), days), runs - 1)), days]
    times = [start + timedelta(days=age) + random.choice(FETCH_TIMES_OF_DAY) for age in ages]
    for i in range(runs - 1):
        what = random.random()
        if what < 0.1:
            times[i + 1] = times[i]
        elif what < 0.3:
            times[i : i + 2] = [at.replace(hour=9, minute=30) for at in reversed(times[i : i + 2])]
    return times


def _coin_deliveries(
    random: Random, coin_id: str, first_day: date, days: int, times: list[datetime]
) -> list[list[dict[str, Any]]]:
    """Return one coin's points as each run was answered: first those new to it, then the ones told again."""
    is_tidy = random.random() < 0.4  # every day at midnight and in time, so that the longest windows fill
    length = random.randint(int(days * 0.7) if is_tidy else min(SHORTEST_DAYS, days), days + 1)
    start_ms = _to_ms(first_day) + random.randint(0, days + 1 - length) * DAY_MS
    points = _points(random, coin_id, start_ms, length, is_tidy=is_tidy)
    tracked_from = random.choice([0, 0, 0, random.randrange(len(times))])
    backfilled = (
        0 if is_tidy else random.choice([0, 0, random.randrange(length)])
    )  # so many first days come later
    lateness = 0.0 if is_tidy else random.choice([0.0, 0.01, 0.05, 0.7])
    restlessness = random.choice([0.0, 0.003, 0.02])
    answers: list[list[dict[str, Any]]] = [[] for _ in times]
    for point in points:
        possible = [
            i for i, at in enumerate(times) if i >= tracked_from and _to_ms(at) >= point["timestamp_ms"]
        ]
        if not possible:
            continue
        is_late = random.random() < lateness or point["timestamp_ms"] < start_ms + backfilled * DAY_MS
        first = random.choice(possible) if is_late else possible[0]
        answers[first].append(point)
        told = point
        for i in (i for i in possible if i > first):
            if random.random() < _chance_to_repeat(
                point["timestamp_ms"], times[i], times[first], restlessness
            ):
                told = _restated(random, told)
                answers[i].append(told)
    for i, at in enumerate(times):
        answers[i] += _trailing_point(random, answers[i], at)
        if random.random() < 0.3:
            random.shuffle(answers[i])
    return answers


def _chance_to_repeat(timestamp_ms: int, at: datetime, first: datetime, restlessness: float) -> float:
    was_too_young = abs(_to_ms(first) - timestamp_ms) < 60 * MINUTE_MS
    is_in_restatement_window = _to_ms(at) - timestamp_ms < 4 * DAY_MS
    return 0.8 if was_too_young or is_in_restatement_window else restlessness


def _points(
    random: Random, coin_id: str, start_ms: int, length: int, *, is_tidy: bool
) -> list[dict[str, Any]]:
    """Return the observations of a coin: most days one at midnight, some none (but where tidy), some several."""
    has_volume, has_cap = random.random() < 0.9, random.random() < 0.9
    gap = range(g := random.randrange(length), g + (0 if is_tidy else random.choice([0, 1, 12])))
    gap_rate, off_rate, unusable_rate = (
        0.0 if is_tidy else random.choice([0.0, 0.0, rate]) for rate in (0.02, 0.03, 0.01)
    )
    price = random.choice(FIRST_PRICES_USD)
    seen: list[float] = []
    points: list[dict[str, Any]] = []
    for day in range(length):
        price = _next_price(random, price, seen)
        seen.append(price)
        if day in gap or random.random() < gap_rate:
            continue
        offsets = {MIDNIGHT_MS} if random.random() >= off_rate else {random.choice(OFF_MIDNIGHT_MS)}
        if random.random() < 0.06:
            offsets |= {random.choice((*OFF_MIDNIGHT_MS, INTRADAY_MS)) for _ in range(2)}
        points += [
            {
                "coin_id": coin_id,
                "timestamp_ms": start_ms + day * DAY_MS + offset,
                "price_usd": _sometimes_unusable(random, unusable_rate, price * (1 + offset / DAY_MS / 100)),
                "market_cap_usd": _sometimes_unknown(random, price * 19.5e6) if has_cap else None,
                "volume_24h_usd": _sometimes_unknown(random, price * random.uniform(1e3, 1e5))
                if has_volume
                else 0.0,
            }
            for offset in sorted(offsets)
        ]
    return points


def _next_price(random: Random, price: float, seen: list[float]) -> float:
    what = random.random()
    if what < 0.06 or not seen:
        return price
    if what < 0.08:
        return max(seen)
    if what < 0.10:
        return min(seen)
    return price * exp(random.gauss(0, 0.04))


def _sometimes_unusable(random: Random, rate: float, price: float) -> float | None:
    return random.choice(UNUSABLE_PRICES_USD) if random.random() < rate else price


def _sometimes_unknown(random: Random, amount: float) -> float | None:
    what = random.random()
    return None if what < 0.005 else 0.0 if what < 0.01 else amount


def _restated(random: Random, point: Mapping[str, Any]) -> dict[str, Any]:
    """Return the point as it is told again: half the time as it was, else with one value changed."""
    what = random.random()
    if what < 0.5:
        return dict(point)
    if what < 0.52:
        return {**point, "price_usd": random.choice(UNUSABLE_PRICES_USD)}
    column = random.choice(["price_usd", "price_usd", "market_cap_usd", "volume_24h_usd"])
    value = point[column]
    if value is None or not 0 < value < inf:
        return {**point, column: 1.0}
    if column != "price_usd" and what < 0.75:
        return {**point, column: random.choice([None, 0.0])}
    return {**point, column: value * random.choice([1 + 2**-52, 0.97, 1.0001, 1.6])}


def _trailing_point(random: Random, answered: list[dict[str, Any]], at: datetime) -> list[dict[str, Any]]:
    """Return the intraday point that ends an answer, some seconds before it was fetched."""
    last = max(answered, key=lambda p: p["timestamp_ms"], default=None)
    if last is None or random.random() < 0.3 or last["price_usd"] is None:
        return []
    timestamp_ms = _to_ms(at) - random.choice([1_000, 23_000])
    if any(p["timestamp_ms"] == timestamp_ms for p in answered):
        return []
    return [{**last, "timestamp_ms": timestamp_ms, "price_usd": last["price_usd"] * 1.01}]


def _index_deliveries(random: Random, first_day: date, times: list[datetime]) -> list[list[dict[str, Any]]]:
    """Return the index as each run was answered: late and missing days, changed values and classes."""
    answers: list[list[dict[str, Any]]] = [[] for _ in times]
    start_ms, end_ms = _to_ms(first_day - timedelta(days=10)), max(_to_ms(at) for at in times)
    for day_ms in range(start_ms, end_ms, DAY_MS):
        possible = [i for i, at in enumerate(times) if _to_ms(at) >= day_ms]
        if random.random() < 0.05:
            continue
        first = random.choice(possible) if random.random() < 0.05 else possible[0]
        value = random.randint(0, 100)
        for i in possible:
            if i == first or (
                i > first and random.random() < _chance_to_repeat(day_ms, times[i], times[first], 0.02)
            ):
                named = value if random.random() < 0.98 else random.randint(0, 100)
                answers[i].append(
                    {"value": value, "classification": sentiment_class(named), "timestamp": day_ms // 1000}
                )
                value = random.choice([value, random.randint(0, 100)])
    for answer in answers:
        answer.reverse()  # the vendor tells the newest day first
    return answers


def _to_ms(at: date | datetime) -> int:
    moment = at if isinstance(at, datetime) else datetime(at.year, at.month, at.day, tzinfo=UTC)
    return (moment - EPOCH) // timedelta(milliseconds=1)
