"""Commits expire what the contract lets go, so that metadata stays small and every promised time stays readable."""

from __future__ import annotations

from bisect import bisect_right
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptolake.contracts import Retention
from cryptolake.lake import Lake
from cryptolake.lake.retention import NEWEST_KEPT, expired
from tests.lake.shapes import NOON, PRICES, TRADES, Calendar, held, open_lake, prices, snapshots_of, trades

HOUR_MS = 3_600_000
THINNED = Retention(timedelta(hours=1), timedelta(minutes=5))
WHOLE = Retention(timedelta(hours=1))

logs = st.lists(st.integers(0, 3 * HOUR_MS), min_size=1, max_size=200).map(
    lambda times: [(ms, i) for i, ms in enumerate(sorted(times), start=1)]
)


def current_at(log: list[tuple[int, int]], ms: int) -> int | None:
    """Return the snapshot that a time is answered with."""
    at = bisect_right([t for t, _ in log], ms)
    return log[at - 1][1] if at else None


@given(log=logs, later_ms=st.integers(0, HOUR_MS), ago_ms=st.integers(0, HOUR_MS - 1))
def test_every_time_within_the_age_keeps_its_answer(
    log: list[tuple[int, int]], later_ms: int, ago_ms: int
) -> None:
    """Where snapshots are not thinned, expiry changes no answer of the last *age*."""
    now_ms = log[-1][0] + later_ms
    gone = set(expired(log, now_ms, WHOLE))
    kept = [(ms, i) for ms, i in log if i not in gone]

    assert current_at(kept, now_ms - ago_ms) == current_at(log, now_ms - ago_ms)


@given(log=logs, later_ms=st.integers(0, HOUR_MS))
def test_what_no_time_within_the_age_needs_is_let_go(log: list[tuple[int, int]], later_ms: int) -> None:
    """No snapshot is kept that was replaced before the age began; the current one always stays."""
    now_ms = log[-1][0] + later_ms
    gone = expired(log, now_ms, WHOLE)

    assert log[-1][1] not in gone
    assert gone == [old for (_, old), (ms, _) in pairwise(log) if ms <= now_ms - HOUR_MS]


@given(log=logs, protected=st.sets(st.integers(1, 200)))
def test_protected_snapshots_stay(log: list[tuple[int, int]], protected: set[int]) -> None:
    """Tags and heads of branches outlive their age."""
    assert not set(expired(log, log[-1][0] + 9 * HOUR_MS, THINNED, protected)) & protected


@given(log=logs, ago_ms=st.integers(0, HOUR_MS - 1))
def test_a_thinned_table_stays_bounded_and_answers_to_its_resolution(
    log: list[tuple[int, int]], ago_ms: int
) -> None:
    """Beyond the newest twenty there is one snapshot a step; a time is answered as it was, or as its step began."""
    now_ms, step_ms = log[-1][0], 5 * 60_000
    gone = set(expired(log, now_ms, THINNED))
    kept = [(ms, i) for ms, i in log if i not in gone]
    at_ms = now_ms - ago_ms
    step_began_ms = at_ms - at_ms % step_ms

    assert len(kept) <= NEWEST_KEPT + HOUR_MS // step_ms + 2
    assert all(i not in gone for ms, i in log[-NEWEST_KEPT:] if ms > now_ms - HOUR_MS)
    if step_began_ms > now_ms - HOUR_MS:
        assert current_at(kept, at_ms) in {current_at(log, at_ms), current_at(log, step_began_ms - 1)}


@given(log=logs, cut=st.integers(1, 199))
def test_thinning_little_by_little_ends_as_thinning_at_once(log: list[tuple[int, int]], cut: int) -> None:
    """Each commit expires what it finds; the order of the work does not matter."""
    now_ms = log[-1][0]
    head = log[:cut]
    early = set(expired(head, head[-1][0], THINNED))
    rest = [(ms, i) for ms, i in log if i not in early]
    late = set(expired(rest, now_ms, THINNED))

    assert early | late >= set(expired(log, now_ms, THINNED))
    assert log[-1][1] not in early | late


@pytest.mark.slow
def test_a_streamed_table_keeps_few_snapshots_over_many_commits(lake: Lake, calendar: Calendar) -> None:
    """A commit a minute for 100 minutes: the newest twenty, one each five minutes of the hour, and no more."""
    lake.ensure(TRADES.name)
    for n in range(100):
        calendar.at = NOON + timedelta(minutes=n)
        lake.append(TRADES.name, trades([n]))

    table = lake.table(TRADES.name)
    at = [round((s.timestamp_ms / 1000 - NOON.timestamp()) / 60) for s in table.snapshots()]
    assert at == [39, 44, 49, 54, 59, 64, 69, 74, 79, *range(80, 100)]
    assert len(table.metadata.metadata_log) <= 20
    assert held(lake, "select count(*) from bronze.trades") == [(100,)]


def test_a_daily_tag_keeps_the_last_snapshot_of_a_day_for_a_week(lake: Lake, calendar: Calendar) -> None:
    """The first commit of a day tags the last of the day before, and drops the tag that is eight days old."""
    lake.ensure(TRADES.name)
    for day in range(10):
        for hour in (0, 5):
            calendar.at = NOON + timedelta(days=day, hours=hour)
            lake.append(TRADES.name, trades([10 * day + hour]))

    refs = lake.table(TRADES.name).metadata.refs
    assert sorted(set(refs) - {"main"}) == [f"day-2024-06-{day:02d}" for day in range(3, 10)]
    with lake.reader(as_of=refs["day-2024-06-05"].snapshot_id) as reader:
        assert reader.rows("select max(trade_id) from bronze.trades") == [(45,)]
    assert len(lake.table(TRADES.name).snapshots()) == 9


def test_a_day_is_tagged_once_though_the_clock_goes_back(lake: Lake, calendar: Calendar) -> None:
    """A commit that believes it is yesterday again does no harm."""
    lake.ensure(TRADES.name)
    for hours in (0, 24, 1, 25, 2, 26):
        calendar.at = NOON + timedelta(hours=hours)
        lake.append(TRADES.name, trades([hours]))

    assert held(lake, "select count(*) from bronze.trades") == [(6,)]
    assert lake.table(TRADES.name).current_snapshot().snapshot_id == snapshots_of(lake, TRADES.name)[-1]


def test_a_table_without_daily_tags_has_none(lake: Lake, calendar: Calendar) -> None:
    """Tags are what the contract asks for."""
    lake.ensure(PRICES.name)
    for day in range(3):
        calendar.at = NOON + timedelta(days=day)
        lake.merge(PRICES.name, prices("bitcoin", [day]))

    assert set(lake.table(PRICES.name).metadata.refs) == {"main"}


@pytest.mark.slow
def test_a_daily_table_keeps_thirty_days(tmp_path: Path, calendar: Calendar) -> None:
    """The snapshot that was current thirty days ago is the oldest that is kept."""
    with open_lake(tmp_path) as lake:
        lake.ensure(PRICES.name)
        for day in range(40):
            calendar.at = NOON + timedelta(days=day)
            lake.merge(PRICES.name, prices("bitcoin", [day]))
        assert len(snapshots_of(lake, PRICES.name)) == 31
        with lake.reader(as_of=NOON + timedelta(days=9, hours=1)) as reader:
            assert reader.rows("select count(*) from silver.prices") == [(10,)]
