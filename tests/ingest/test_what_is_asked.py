"""A source is asked for what the lake does not have, and for the days that may have changed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from cryptolake.ingest import Span
from tests.replayed import NOON, POINTS, Town, recordings

TODAY = NOON.date()


def seconds(day: date) -> str:
    """Return the begin of a day as the vendor is told it."""
    return str(int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()))


def last_second(day: date) -> str:
    """Return the last second of a day as the vendor is told it."""
    return str(int(datetime(day.year, day.month, day.day, 23, 59, 59, tzinfo=UTC).timestamp()))


def since(day: date, until: datetime) -> dict[str, str]:
    """Return the query for the days from *day* to *until*."""
    return {"from": seconds(day), "to": str(int(until.timestamp()))}


def test_the_first_run_asks_for_all_there_is(town: Town):
    """Of a coin that the lake does not have, the longest history is asked for, and all of it lands."""
    done = town.ingest()
    assert town.asked() == [(f"{c}/market_chart", {"days": "max"}) for c in ("bitcoin", "ethereum", "solana")]
    assert (done.asked, done.rows_added, done.rows_rejected, done.failures) == (3, 3 * POINTS, 0, {})
    assert town.rows(
        "select coin_id, count(*), max(_ingested_at) from bronze.historical_prices group by 1 order by 1"
    ) == [(c, POINTS, NOON) for c in ("bitcoin", "ethereum", "solana")]


def test_daily_points_are_asked_for_always(town: Town):
    """Every request says `interval=daily`, whatever the span."""
    town.ingest("bitcoin")
    town.next_day()
    town.ingest("bitcoin")
    assert [r.query["interval"] for r in town.server.requests] == ["daily", "daily"]


def test_what_the_plan_allows_is_learnt_once(town: Town):
    """After one refusal of all history, the other coins of the run are asked for 365 days at once."""
    town.server.history_days = 365
    done = town.ingest()
    assert [query["days"] for _, query in town.asked()] == ["max", "365", "365", "365"]
    assert (done.rows_added, done.failures) == (3 * POINTS, {})


def test_the_next_run_asks_from_the_restatement_window_on(town: Town):
    """The newest stored daily day and the two before it are asked for again, up to now."""
    town.ingest("bitcoin")
    town.asked()
    town.next_day()
    assert town.ingest("bitcoin").rows_added == 2
    assert town.asked() == [("bitcoin/market_chart/range", since(TODAY - timedelta(days=2), town.at))]


@pytest.mark.parametrize(("window_days", "days_back"), [(0, 0), (1, 0), (7, 6)])
def test_the_restatement_window_is_a_setting(town: Town, window_days: int, days_back: int):
    """The window counts the newest stored day; without a window that day alone is asked for again."""
    town.ingest("bitcoin")
    town.asked()
    town.ingest("bitcoin", restatement_days=window_days)
    assert town.asked() == [("bitcoin/market_chart/range", since(TODAY - timedelta(days=days_back), NOON))]


def test_an_intraday_point_is_not_the_newest_day(town: Town):
    """A day counts as stored once its daily observation is, not its intraday point."""
    town.go_to(NOON.replace(hour=23))
    town.ingest("bitcoin", span=Span(start=TODAY, end=TODAY))
    town.go_to(NOON.replace(hour=0, minute=10) + timedelta(days=1))  # too young to count
    town.ingest("bitcoin")
    town.next_day()
    town.asked()
    town.ingest("bitcoin")
    [(_, query)] = town.asked()
    assert query["from"] == seconds(TODAY - timedelta(days=2))


def test_a_coin_added_later_is_asked_for_all_its_history(town: Town):
    """Each coin has its own newest day."""
    town.ingest("bitcoin")
    town.asked()
    done = town.ingest("bitcoin", "solana")
    assert town.asked() == [
        ("bitcoin/market_chart/range", since(TODAY - timedelta(days=2), NOON)),
        ("solana/market_chart", {"days": "max"}),
    ]
    assert done.rows_added == POINTS


@pytest.mark.parametrize(
    ("span", "query", "first", "days"),
    [
        (Span(date(2024, 3, 1), date(2024, 3, 5)), {"from": seconds(date(2024, 3, 1)), "to": last_second(date(2024, 3, 5))}, 1, 5),
        (Span(start=date(2024, 3, 10)), {"from": seconds(date(2024, 3, 10)), "to": str(int(NOON.timestamp()))}, 10, 8),
        (Span(end=date(2023, 11, 20)), {"from": seconds(date(2013, 4, 28)), "to": last_second(date(2023, 11, 20))}, 18, 3),
    ],
    ids=["from and to", "from", "to"],
)  # fmt: skip
def test_a_user_may_say_which_days(town: Town, span: Span, query: dict[str, str], first: int, days: int):
    """`--from` and `--to` are days, both asked for whole."""
    town.ingest("bitcoin", span=span)
    assert town.asked() == [("bitcoin/market_chart/range", query)]
    [(oldest, rows)] = town.rows("select min(timestamp_ms), count(*) from bronze.historical_prices")
    assert (datetime.fromtimestamp(oldest / 1000, UTC).day, rows) == (first, days)


def test_a_user_may_ask_for_all_again(town: Town):
    """`--full` asks for all history of a coin that is stored; what is equal is not stored again."""
    town.ingest("bitcoin", span=Span(start=TODAY))
    town.asked()
    assert town.ingest("bitcoin", span=Span(full=True)).rows_added == POINTS - 2
    assert town.asked() == [("bitcoin/market_chart", {"days": "max"})]


def test_a_gap_that_is_longer_than_the_plan_is_filled_as_far_as_the_plan_reaches(tmp_path):
    """Where the vendor refuses the days since the newest stored one, it is asked for what the plan has, at once."""
    with Town.opened(tmp_path, recordings(days=500)) as town:
        town.go_to(NOON - timedelta(days=450))
        town.ingest()
        town.go_to(NOON)
        town.server.history_days = 365
        town.asked()
        done = town.ingest()
        asked = [(what.split("/", 1)[1], query.get("days")) for what, query in town.asked()]
        assert asked == [("market_chart/range", None), *[("market_chart", "365")] * 3]
        assert (done.rows_added, done.failures) == (3 * 366, {})


def test_days_that_a_user_asks_for_beyond_the_plan_are_a_failure(town: Town):
    """What was asked for by name is not replaced by something else; the message says what can be had."""
    town.server.history_days = 30
    done = town.ingest("bitcoin", span=Span(start=date(2024, 1, 1)))
    assert done.rows_added == 0
    assert "its plan does not reach back that far" in done.failures["bitcoin"]


def test_a_clock_set_back_asks_for_days_that_were(town: Town):
    """With `--as-of` before the newest stored day, the window ends at that time and is not empty."""
    town.ingest("bitcoin")
    town.next_day(-10)
    town.asked()
    town.ingest("bitcoin")
    assert town.asked() == [("bitcoin/market_chart/range", since(TODAY - timedelta(days=12), town.at))]
