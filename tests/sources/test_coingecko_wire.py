"""CoinGecko's answers become observations and rejects, and nothing is lost between them."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptolake.errors import BadRecordError
from cryptolake.sources.coingecko import wire
from cryptolake.sources.records import MarketChart, Observation

GOLDEN = Path(__file__).parents[1] / "golden" / "coingecko"
DAY_MS = 86_400_000
RECEIVED_MS = 1_698_254_237_000  # 2023-10-25T17:17:17Z
MIDNIGHT_MS = RECEIVED_MS - RECEIVED_MS % DAY_MS


def parse(body: bytes | str, received_at_ms: int = RECEIVED_MS) -> MarketChart:
    raw = body if isinstance(body, bytes) else body.encode()
    return wire.market_chart(raw, coin_id="bitcoin", received_at_ms=received_at_ms)


def chart(prices: str, caps: str = "[]", volumes: str = "[]") -> str:
    return f'{{"prices":{prices},"market_caps":{caps},"total_volumes":{volumes}}}'


@pytest.mark.parametrize("name", ["market_chart_daily", "market_chart_minutely"])
def test_a_recorded_answer_gives_exactly_its_points(name: str):
    """A recorded body yields the doubles that the vendor printed, oldest first, and no reject."""
    expected = json.loads((GOLDEN / f"{name}.expected.json").read_text())
    parsed = parse((GOLDEN / f"{name}.json").read_bytes())
    assert [list(msgspec.structs.astuple(point)) for point in parsed.observations] == expected
    assert parsed.rejects == []
    assert (parsed.coin_id, parsed.received_at_ms) == ("bitcoin", RECEIVED_MS)


@pytest.mark.parametrize("name", ["error_401", "error_422", "error_429", "error_500"])
def test_a_recorded_error_says_its_code_and_words(name: str):
    """Whichever shape the vendor's error has, its code and message are found."""
    expected = json.loads((GOLDEN / f"{name}.expected.json").read_text())
    said = wire.vendor_error((GOLDEN / f"{name}.json").read_bytes())
    assert [said.code, said.message] == expected


@pytest.mark.parametrize(
    "body", [b"", b"<html></html>", b"[1]", b'{"error":', b"\xff\xfe", b"null", b"[" * 9999]
)
def test_an_error_body_that_says_nothing_is_no_error_of_ours(body: bytes):
    """Nonsense in place of an error body has neither code nor message."""
    assert wire.vendor_error(body).message == ""


@pytest.mark.parametrize(
    ("point", "reason"),
    [
        (f"[{MIDNIGHT_MS}, null]", "price is null"),
        (f"[{MIDNIGHT_MS}, 0]", "price is zero"),
        (f"[{MIDNIGHT_MS}, 0.0]", "price is zero"),
        (f"[{MIDNIGHT_MS}, -1.5]", "price is negative"),
        (f"[{MIDNIGHT_MS}, NaN]", "price is not finite"),
        (f"[{MIDNIGHT_MS}, Infinity]", "price is not finite"),
        (f"[{MIDNIGHT_MS}, -Infinity]", "price is not finite"),
        (f"[{MIDNIGHT_MS}, 1e999]", "price is not finite"),
        (f'[{MIDNIGHT_MS}, "33901.5"]', "price is not a number"),
        (f'[{MIDNIGHT_MS}, "NaN"]', "price is not a number"),
        (f"[{MIDNIGHT_MS}, true]", "price is not a number"),
        (f"[{RECEIVED_MS + 600_001}, 1.0]", "timestamp is in the future"),
        ("[1698192000, 1.0]", "timestamp is before 2009-01-03"),
        ('["1698192000000", 1.0]', "timestamp is unreadable"),
        ("[null, 1.0]", "timestamp is unreadable"),
        ("[NaN, 1.0]", "timestamp is unreadable"),
        (f"[{'9' * 5000}, 1.0]", "timestamp is unreadable"),
        (f"[{MIDNIGHT_MS}]", "point is not a pair of timestamp and value"),
        (f"[{MIDNIGHT_MS}, 1, 2]", "point is not a pair of timestamp and value"),
        ("null", "point is not a pair of timestamp and value"),
        ('{"t": 1}', "point is not a pair of timestamp and value"),
    ],
)
def test_a_bad_point_is_rejected_with_its_bytes_and_the_others_go_on(point: str, reason: str):
    """One point that cannot be trusted costs no other point."""
    good = f"[{MIDNIGHT_MS - DAY_MS},34500.25]"
    parsed = parse(chart(f"[{good}, {point}]"))
    assert [(reject.source, reject.reason, reject.payload) for reject in parsed.rejects] == [
        ("coingecko", reason, point.encode())
    ]
    assert [seen.price_usd for seen in parsed.observations] == [34500.25]


@pytest.mark.parametrize(
    ("cap", "reason"),
    [
        (f"[{MIDNIGHT_MS},-1]", "market cap is negative"),
        (f"[{MIDNIGHT_MS},NaN]", "market cap is not finite"),
        (f'[{MIDNIGHT_MS},"7"]', "market cap is not a number"),
        (f"[{MIDNIGHT_MS - 1},7]", "market cap has no price"),
    ],
)
def test_a_bad_market_cap_is_rejected_and_its_price_has_none(cap: str, reason: str):
    """A market cap that cannot be trusted does not cost the price."""
    parsed = parse(chart(f"[[{MIDNIGHT_MS},1.5]]", f"[{cap}]", f"[[{MIDNIGHT_MS},9]]"))
    assert parsed.observations == [Observation(MIDNIGHT_MS, 1.5, None, 9.0)]
    assert [(reject.reason, reject.payload) for reject in parsed.rejects] == [(reason, cap.encode())]


def test_a_rejected_price_takes_its_market_cap_and_volume_along():
    """One bad observation is one reject, not three."""
    parsed = parse(chart(f"[[{MIDNIGHT_MS},null]]", f"[[{MIDNIGHT_MS},5]]", f"[[{MIDNIGHT_MS},6]]"))
    assert parsed.observations == []
    assert [reject.payload for reject in parsed.rejects] == [f"[{MIDNIGHT_MS},null]".encode()]


def test_arrays_that_do_not_line_up_are_joined_by_timestamp():
    """A price without its market cap has none, never that of another day."""
    first, second = MIDNIGHT_MS - DAY_MS, MIDNIGHT_MS
    parsed = parse(chart(f"[[{first},1.0],[{second},2.0]]", f"[[{second},20.0]]", f"[[{first},10.0]]"))
    assert parsed.observations == [Observation(first, 1.0, None, 10.0), Observation(second, 2.0, 20.0, None)]
    assert parsed.rejects == []


def test_points_out_of_order_come_back_oldest_first():
    """The order of an answer carries no meaning, save for repeated timestamps."""
    first, second = MIDNIGHT_MS - DAY_MS, MIDNIGHT_MS
    parsed = parse(chart(f"[[{second},2],[{first},1]]"))
    assert [(point.timestamp_ms, point.price_usd) for point in parsed.observations] == [
        (first, 1.0),
        (second, 2.0),
    ]


def test_of_a_timestamp_that_comes_twice_the_last_counts():
    """The last point of the body wins; a bad one never wins over a good one."""
    parsed = parse(chart(f"[[{MIDNIGHT_MS},1],[{MIDNIGHT_MS},2],[{MIDNIGHT_MS},null]]"))
    assert [point.price_usd for point in parsed.observations] == [2.0]
    assert [reject.reason for reject in parsed.rejects] == ["price is null"]


def test_whole_numbers_and_fractional_timestamps_are_read():
    """Numbers flip between int and float; an instant is kept to the millisecond."""
    parsed = parse(chart(f"[[{MIDNIGHT_MS}.75,33901]]", f"[[{MIDNIGHT_MS}.0,5]]"))
    assert parsed.observations == [Observation(MIDNIGHT_MS, 33901.0, 5.0, None)]


def test_zero_and_null_market_caps_are_kept_as_delivered():
    """Bronze holds what the vendor printed: 0 as 0, null as none."""
    first, second = MIDNIGHT_MS - DAY_MS, MIDNIGHT_MS
    parsed = parse(chart(f"[[{first},1],[{second},2]]", f"[[{first},0.0],[{second},null]]"))
    assert [point.market_cap_usd for point in parsed.observations] == [0.0, None]


def test_the_smallest_price_survives():
    """A price of 5.7e-11 is a price."""
    assert parse(chart(f"[[{MIDNIGHT_MS},5.7e-11]]")).observations[0].price_usd == 5.7e-11


def test_a_point_of_the_next_ten_minutes_is_no_future():
    """The vendor's clock may be a little ahead of ours."""
    assert parse(chart(f"[[{RECEIVED_MS + 600_000},1.0]]")).rejects == []


def test_an_answer_without_points_is_an_answer():
    """A coin without history has none; that is no error."""
    assert parse(chart("[]")).observations == []


@pytest.mark.parametrize(
    "body",
    [
        "",
        "   ",
        "<!DOCTYPE html><html></html>",
        "null",
        "[]",
        "{}",
        '{"error":"coin not found"}',
        '{"prices":null,"market_caps":[],"total_volumes":[]}',
        '{"prices":[],"market_caps":[]}',
        '{"prices":{},"market_caps":[],"total_volumes":[]}',
        chart(f"[[{MIDNIGHT_MS},1.0]]")[:-1],
        chart(f"[[{MIDNIGHT_MS},1.0]]")[:25],
        chart(f"[[{MIDNIGHT_MS},1.0]]") + "x",
        chart(f"[[{MIDNIGHT_MS},1.0],]"),
        '{"prices":' + "[" * 100_000,
        b"\xff\xfe\x00",
    ],
)
def test_a_body_that_is_no_market_chart_is_one_bad_record(body: bytes | str):
    """HTML, nothing, half a document and other shapes are refused as a whole, so that they are asked again."""
    with pytest.raises(BadRecordError, match="the answer is no market chart"):
        parse(body)


numbers = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**13),
    st.floats(),
    st.text(max_size=5),
    st.floats(1e-12, 1e6),
)
times = st.one_of(
    st.integers(MIDNIGHT_MS - 9 * DAY_MS, MIDNIGHT_MS + 2 * DAY_MS), st.sampled_from([MIDNIGHT_MS]), numbers
)
points = st.lists(st.one_of(st.tuples(times, numbers), st.lists(numbers, max_size=3), numbers), max_size=12)


@given(points, points, points)
def test_every_price_point_ends_as_an_observation_or_a_reject(prices: list, caps: list, volumes: list):
    """Whatever a body holds, each price point is observed, replaced by a later one of its instant, or rejected."""
    body = json.dumps({"prices": prices, "market_caps": caps, "total_volumes": volumes})
    parsed = parse(body)
    rejected = [reject.payload.decode() for reject in parsed.rejects]
    observed = {point.timestamp_ms for point in parsed.observations}
    for point in prices:
        if json.dumps(point) not in rejected:
            assert int(point[0]) in observed
    assert len(parsed.observations) + len(rejected) <= len(prices) + len(caps) + len(volumes)
    assert all(
        point.price_usd > 0 and point.timestamp_ms <= RECEIVED_MS + 600_000 for point in parsed.observations
    )
    assert sorted(observed) == [point.timestamp_ms for point in parsed.observations]


good_points = st.lists(
    st.tuples(
        st.integers(MIDNIGHT_MS - 9 * DAY_MS, MIDNIGHT_MS),
        st.floats(1e-12, 1e9, exclude_min=True),
        st.none() | st.floats(0, 1e15),
    ),
    unique_by=lambda point: point[0],
    max_size=12,
)


@given(good_points)
def test_the_fast_path_and_the_patient_path_agree(rows: list[tuple[int, float, float | None]]):
    """A clean body gives the same observations as the same body with one oddity in it."""
    ordered = sorted(rows)
    clean = chart(*(json.dumps([[row[0], row[column]] for row in ordered]) for column in (1, 2, 2)))
    odd = clean.replace('"prices": [', '"prices":[').replace(
        '{"prices":[', '{"prices":[null,' if rows else '{"prices":[null'
    )
    assert parse(clean).observations == parse(odd).observations
    assert (len(parse(clean).rejects), len(parse(odd).rejects)) == (0, 1)
