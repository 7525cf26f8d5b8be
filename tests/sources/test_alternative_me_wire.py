"""Alternative.me's answers become index values and rejects."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptolake.errors import BadRecordError
from cryptolake.sources.alternative_me import wire
from cryptolake.sources.records import IndexHistory

GOLDEN = Path(__file__).parents[1] / "golden" / "alternative_me"
RECEIVED_MS = 1_777_200_000_000  # 2026-04-26T10:40:00Z
TODAY = 1_777_161_600


def parse(body: bytes | str) -> IndexHistory:
    return wire.fng(body if isinstance(body, bytes) else body.encode(), received_at_ms=RECEIVED_MS)


def entry(**changes: object) -> dict[str, object]:
    return {"value": "33", "value_classification": "Fear", "timestamp": str(TODAY)} | changes


def test_a_recorded_answer_gives_exactly_its_days():
    """A recorded body yields its days, oldest first, as whole numbers."""
    expected = json.loads((GOLDEN / "fng_limit_2.expected.json").read_text())
    parsed = parse((GOLDEN / "fng_limit_2.json").read_bytes())
    assert [list(msgspec.structs.astuple(day)) for day in parsed.values] == expected
    assert parsed.rejects == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"value": "101"}, "value is outside 0 to 100"),
        ({"value": "-1"}, "value is outside 0 to 100"),
        ({"value": "33.5"}, "value is not a whole number"),
        ({"value": 33.0}, "value is not a whole number"),
        ({"value": ""}, "value is not a whole number"),
        ({"value": None}, "value is not a whole number"),
        ({"value": True}, "value is not a whole number"),
        ({"value_classification": "Panic"}, "classification is unknown"),
        ({"value_classification": None}, "classification is unknown"),
        ({"timestamp": "26-04-2026"}, "timestamp is not a whole number"),
        ({"timestamp": "9" * 5000}, "timestamp is not a whole number"),
        ({"timestamp": "0"}, "timestamp is before 2018-02-01"),
        ({"timestamp": str(TODAY + 86_400)}, "timestamp is in the future"),
    ],
)
def test_a_bad_entry_is_rejected_with_its_bytes_and_the_others_go_on(changes: dict[str, object], reason: str):
    """One entry that cannot be trusted costs no other entry."""
    bad = json.dumps(entry(**changes), indent="\t")
    parsed = parse(f'{{"data": [{json.dumps(entry(timestamp=str(TODAY - 86_400)))}, {bad}]}}')
    assert [(reject.source, reject.reason, reject.payload) for reject in parsed.rejects] == [
        ("alternative.me", reason, bad.encode())
    ]
    assert [day.timestamp for day in parsed.values] == [TODAY - 86_400]


def test_numbers_that_are_not_strings_are_read_too():
    """The vendor prints strings today; whole numbers mean the same."""
    parsed = parse(json.dumps({"data": [entry(value=33, timestamp=TODAY)]}))
    assert [(day.value, day.timestamp) for day in parsed.values] == [(33, TODAY)]


def test_a_timestamp_within_a_day_stands_for_its_day():
    """The index has one value a day, so its instant is 00:00 UTC."""
    parsed = parse(json.dumps({"data": [entry(timestamp=str(TODAY + 3_599))]}))
    assert [day.timestamp for day in parsed.values] == [TODAY]


def test_of_a_day_that_comes_twice_the_last_counts():
    """The last entry of the body wins."""
    parsed = parse(json.dumps({"data": [entry(value="33"), entry(value="34")]}))
    assert [day.value for day in parsed.values] == [34]


@pytest.mark.parametrize(
    "body", ["", "<html>", "[]", "{}", '{"data":null}', '{"data":[', '{"data":[]} x', b"\xff"]
)
def test_a_body_that_is_no_index_is_one_bad_record(body: bytes | str):
    """HTML, nothing, half a document and other shapes are refused as a whole."""
    with pytest.raises(BadRecordError, match="the answer is no index"):
        parse(body)


@pytest.mark.parametrize(
    "body", ['{"data":[],"metadata":{"error":"Down"}}', '{"data":null,"metadata":{"error":"Down"}}']
)
def test_the_vendors_complaint_is_passed_on(body: str):
    """An answer that is only a complaint is refused in the vendor's words."""
    with pytest.raises(BadRecordError, match="the vendor complains: Down"):
        parse(body)


anything = st.one_of(st.none(), st.booleans(), st.integers(-5, 105), st.floats(), st.text(max_size=4))
fields = st.fixed_dictionaries(
    {},
    optional={
        "value": st.integers(-5, 105).map(str) | anything,
        "value_classification": st.sampled_from(wire.CLASSES) | anything,
        "timestamp": st.integers(TODAY - 9 * 86_400, TODAY + 86_400).map(str) | anything,
    },
)


@given(st.lists(fields | anything, max_size=12))
def test_every_entry_ends_as_a_value_or_a_reject(entries: list):
    """Whatever a body holds, each entry is a value, replaced by a later one of its day, or rejected."""
    parsed = parse(json.dumps({"data": entries}))
    rejected = [reject.payload.decode() for reject in parsed.rejects]
    days = [day.timestamp for day in parsed.values]
    for one in entries:
        if json.dumps(one) not in rejected:
            assert int(one["timestamp"]) // 86_400 * 86_400 in days
    assert days == sorted(set(days))
