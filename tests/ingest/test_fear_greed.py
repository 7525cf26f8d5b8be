"""The index lands as the prices do: what is missing is asked for, what changed lands beside it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest

from cryptolake.ingest import Span
from cryptolake.replay import faults
from cryptolake.replay.answers import Answer
from cryptolake.replay.faults import Fault
from cryptolake.sources.records import IndexValue
from tests.replayed import KNOWN_DAYS, NOON, Town


def test_the_first_run_asks_for_all_there_is(town: Town):
    """A limit of 0 means all days."""
    done = town.ingest_index()
    assert town.asked() == [("fng", {"limit": "0"})]
    assert (done.rows_added, done.rows_rejected, done.failures) == (KNOWN_DAYS, 0, {})


@pytest.mark.parametrize(("days_later", "limit"), [(0, "3"), (1, "4"), (10, "13")])
def test_the_next_run_asks_from_the_restatement_window_on(town: Town, days_later: int, limit: str):
    """The newest stored day, the two before it and all days since are asked for."""
    town.ingest_index()
    town.next_day(days_later)
    town.asked()
    assert town.ingest_index().rows_added == days_later
    assert town.asked() == [("fng", {"limit": limit})]


def test_a_rerun_adds_nothing(town: Town):
    """The same answer is not stored again."""
    town.ingest_index()
    assert town.ingest_index().rows_added == 0
    assert town.ingest_index(span=Span(full=True)).rows_added == 0
    assert [query["limit"] for _, query in town.asked()] == ["0", "3", "0"]


def test_a_changed_value_adds_one_row(town: Town):
    """A value or a class that the vendor changes lands beside what it said before."""
    town.ingest_index()
    today = town.server.recordings.index[KNOWN_DAYS - 1]
    changed = replace_value(town, IndexValue(99, "Extreme Greed", today.timestamp))
    town.go_to(NOON + timedelta(hours=1))
    assert town.ingest_index().rows_added == 1
    told = town.rows(
        f"select value, classification, _run_id from bronze.fear_greed where timestamp = {today.timestamp} order by 3"
    )
    assert told == [
        (today.value, today.classification, "run-1"),
        (changed.value, changed.classification, "run-2"),
    ]


def replace_value(town: Town, value: IndexValue) -> IndexValue:
    """Let the vendor change a day's value."""
    recorded = town.server.recordings
    index = [value if v.timestamp == value.timestamp else v for v in recorded.index]
    town.server.recordings = replace(recorded, index=index)
    return value


@pytest.mark.parametrize(
    ("span", "limit", "first", "last"),
    [
        (Span(date(2024, 3, 1), date(2024, 3, 5)), "16", date(2024, 3, 1), date(2024, 3, 5)),
        (Span(start=date(2024, 3, 10)), "7", date(2024, 3, 10), NOON.date()),
        (Span(end=date(2024, 1, 5)), "0", NOON.date() - timedelta(days=KNOWN_DAYS - 1), date(2024, 1, 5)),
    ],
    ids=["from and to", "from", "to"],
)
def test_a_user_may_say_which_days(town: Town, span: Span, limit: str, first: date, last: date):
    """`--from` and `--to` are days, both included; the vendor's newest days that were not asked for stay out."""
    town.ingest_index(span=span)
    assert town.asked() == [("fng", {"limit": limit})]
    days = "cast(to_timestamp(min(timestamp)) as date), cast(to_timestamp(max(timestamp)) as date), count(*)"
    assert town.rows(f"select {days} from bronze.fear_greed") == [(first, last, (last - first).days + 1)]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (faults.server_error(503), "HTTP 503; gave up after 6 attempts"),
        (faults.html(), "nonsense"),
        (faults.truncated(), "nonsense"),
        (faults.reset(), "broke off its answer"),
        (faults.html(403), "refuses /fng/"),
    ],
    ids=["503", "html", "truncated", "reset", "403"],
)
def test_an_index_that_cannot_be_had_is_named(town: Town, fault: Fault, said: str):
    """A failure is told, not raised, and nothing lands."""
    town.server.inject(lambda request: fault)
    done = town.ingest_index()
    assert (done.rows_added, list(done.failures)) == (0, ["fear_greed"])
    assert said in done.failures["fear_greed"]


def test_entries_that_cannot_be_trusted_are_rejected_once(town: Town):
    """An index of 101, or one without a class, goes to `bronze.rejects`; the others land."""
    entries = [
        {"value": "101", "value_classification": "Extreme Greed", "timestamp": "1710547200"},
        {"value": "50", "value_classification": "Neutral", "timestamp": "1710460800"},
    ]
    answer = Fault(
        Answer.json({"name": "Fear and Greed Index", "data": entries, "metadata": {"error": None}})
    )
    town.server.inject(lambda request: answer)
    first, again = town.ingest_index(), town.ingest_index()
    assert (first.rows_added, first.rows_rejected) == (1, 1)
    assert (again.rows_added, again.rows_rejected) == (0, 0)
    [(source, symbol, reason, payload, run_id)] = town.rows(
        "select source, symbol, reason, payload, _run_id from bronze.rejects"
    )
    assert (source, symbol, run_id) == ("alternative.me", None, "run-1")
    assert (b'"101"' in payload, reason) == (True, "value is outside 0 to 100")
