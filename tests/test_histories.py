"""Random histories are repeatable and hold everything that they promise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import pairwise
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings

from tests.histories import DAY_MS, History, histories, random_history
from tests.oracle.market import daily_prices, market_tables

SEEDS = range(12)


def test_a_seed_gives_the_same_history_every_time() -> None:
    """A failure is repeated by its seed."""
    assert repr(random_history(5, coins=3)) == repr(random_history(5, coins=3))
    assert repr(random_history(5, coins=3)) != repr(random_history(6, coins=3))


@given(histories())
@settings(max_examples=25, deadline=None)
def test_rows_are_as_bronze_takes_them(history: History) -> None:
    """A run answers an observation once, nothing of the future, and its rows fit the contracts."""
    for run in history.runs:
        told = Counter((p["coin_id"], p["timestamp_ms"]) for p in run.prices)
        assert set(told.values()) <= {1}
        assert all(p["timestamp_ms"] <= run.fetched_at.timestamp() * 1000 for p in run.prices)
        assert run.rows("bronze.historical_prices").num_rows == len(run.prices)
        assert run.rows("bronze.fear_greed").num_rows == len(run.index)


@given(histories())
@settings(max_examples=25, deadline=None)
def test_no_run_takes_back_a_daily_price(history: History) -> None:
    """A day that has a price keeps one, whatever lands later."""
    before: set[tuple[str, object]] = set()
    for runs in range(1, len(history.runs) + 1):
        prices, _ = history.bronze(runs)
        now = {(row["coin_id"], row["price_date"]) for row in daily_prices(prices)}
        assert now >= before
        before = now


@pytest.mark.slow
def test_everything_that_goes_wrong_happens() -> None:
    """Over a dozen seeds each trouble occurs, and each window is both full and empty."""
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        history = random_history(seed)
        seen += _troubles(history)
        tables = market_tables(*history.bronze())
        for row in tables["gold.fact_market_daily"]:
            seen.update(
                {
                    f"{column} is null" if value is None else f"{column} is known": 1
                    for column, value in row.items()
                }
            )
    promised = [
        *(
            "late day",
            "restated",
            "told again",
            "off midnight",
            "intraday",
            "too young",
            "unusable",
            "zero cap",
            "null cap",
        ),
        *("out of order", "new coin", "earlier first price", "same instant", "lands late", "index changed"),
        *(f"volatility_{n}d is {state}" for n in (7, 30, 60, 180) for state in ("null", "known")),
        *(
            "roi_365d_pct is known",
            "avg_volume_7d is null",
            "market_cap_usd is null",
            "fear_greed_value is null",
        ),
    ]
    assert [p for p in promised if not seen[p]] == []


def _troubles(history: History) -> Counter[str]:
    """Count what goes wrong in *history*."""
    seen: Counter[str] = Counter()
    known: dict[tuple[str, int], tuple[object, ...]] = {}
    index: dict[int, int] = {}
    for i, run in enumerate(history.runs):
        times_before = [other.fetched_at for other in history.runs[:i]]
        seen["same instant"] += run.fetched_at in times_before
        seen["lands late"] += any(run.fetched_at < t for t in times_before)
        stamps = [(p["coin_id"], p["timestamp_ms"]) for p in run.prices]
        seen["out of order"] += any(a > b for a, b in pairwise(stamps) if a[0] == b[0])
        spans = _spans(known)
        for p in run.prices:
            seen.update(_troubles_of_a_point(p, spans.get(p["coin_id"]), known))
            seen["new coin"] += i > 0 and p["coin_id"] not in spans
            seen["too young"] += run.fetched_at.timestamp() * 1000 - p["timestamp_ms"] < 1_800_000
        known |= {(p["coin_id"], p["timestamp_ms"]): _figures(p) for p in run.prices}
        for d in run.index:
            seen["index changed"] += index.setdefault(d["timestamp"], d["value"]) != d["value"]
    return seen


def _troubles_of_a_point(
    p: Mapping[str, Any], span: tuple[int, int] | None, known: Mapping[tuple[str, int], tuple[object, ...]]
) -> list[str]:
    ms, price = p["timestamp_ms"], p["price_usd"]
    told_before = known.get((p["coin_id"], ms))
    troubles = {
        "restated": told_before is not None and told_before != _figures(p),
        "told again": told_before == _figures(p),
        "late day": told_before is None and span is not None and span[0] < ms < span[1],
        "earlier first price": span is not None and ms // DAY_MS < span[0] // DAY_MS,
        "off midnight": 0 < ms % DAY_MS <= 3_600_000,
        "intraday": ms % DAY_MS > 3_600_000,
        "unusable": price is None or not 0 < price < inf,
        "zero cap": p["market_cap_usd"] == 0,
        "null cap": p["market_cap_usd"] is None,
    }
    return [name for name, happens in troubles.items() if happens]


def _figures(p: Mapping[str, Any]) -> tuple[object, ...]:
    return p["price_usd"], p["market_cap_usd"], p["volume_24h_usd"]


def _spans(known: Iterable[tuple[str, int]]) -> dict[str, tuple[int, int]]:
    """Return the first and last instant told of each coin."""
    instants: dict[str, list[int]] = {}
    for coin_id, ms in known:
        instants.setdefault(coin_id, []).append(ms)
    return {c: (min(of_it), max(of_it)) for c, of_it in instants.items()}
