"""What every trading venue must do, whichever it is; a new one is taken in by being registered."""

from __future__ import annotations

import importlib
import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec
import pytest

from cryptolake.clock import Clock
from cryptolake.errors import (
    BadRecordError,
    NotPublishedError,
    SourceDownError,
    SourceRefusedError,
    UnknownSymbolError,
)
from cryptolake.sources.records import Control, Recent, Trade, TradePage
from cryptolake.sources.registry import VENUES
from cryptolake.sources.venue import Hole, Places, TradeHistory, Venue
from tests.sources import answering
from tests.sources.answering import MINUTE_US, Answers, serving
from tests.sources.clocks import Sleeps

GOLDEN = Path(__file__).parents[1] / "golden"
NOON = datetime(2024, 8, 8, 12, tzinfo=UTC)
FRAME_FILES = sorted(path for name in VENUES for path in (GOLDEN / name).glob("*.frames"))
SYMBOLS = {"binance": "BTCUSDT", "coinbase": "BTC-USD", "kraken": "BTC/USD", "okx": "BTC-USDT"}

every_venue = pytest.mark.parametrize("venue", VENUES.values(), ids=VENUES)
Outcome = dict[str, Any]


class Recorded(NamedTuple):
    """A golden frame of trades and the venue that sent it."""

    venue: Venue
    frame: bytes


def frames(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def outcome(venue: Venue, frame: bytes) -> Outcome:
    said = venue.feed.decode(frame)
    if isinstance(said, Control):
        return {"control": said.kind}
    trades = said.trades if isinstance(said, Recent) else said
    rows = [list(msgspec.structs.astuple(trade)) for trade in trades]
    return {"recent" if isinstance(said, Recent) else "trades": rows}


def trade_frames() -> Iterator[Any]:
    """Yield each venue's shortest golden frame with trades, and its longest."""
    for venue in VENUES.values():
        found = [
            frame
            for path in FRAME_FILES
            if path.parent.name == venue.name
            for frame in frames(path)
            if "control" not in outcome(venue, frame)
        ]
        for frame in dict.fromkeys((min(found, key=len), max(found, key=len))):
            yield pytest.param(Recorded(venue, frame), id=f"{venue.name}-{len(frame)}")


def _with(value: Any, key: Any, changed: Any) -> Any:
    copy = value.copy()
    copy[key] = changed
    return copy


def renamed(value: Any) -> Iterator[Any]:
    """Yield copies of a JSON document, each with one member of another name."""
    if isinstance(value, dict):
        for key in value:
            yield {f"{name}_new" if name == key else name: inner for name, inner in value.items()}
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(inner, dict | list):
            yield from (_with(value, key, changed) for changed in renamed(inner))


def replaced(value: Any, new: Callable[[Any], list[Any]]) -> Iterator[Any]:
    """Yield copies of a JSON document, each with one leaf replaced by one of what *new* makes of it."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(inner, dict | list):
            yield from (_with(value, key, changed) for changed in replaced(inner, new))
        else:
            yield from (_with(value, key, changed) for changed in new(inner))


def assert_refused(recorded: Recorded, frame: bytes) -> None:
    with pytest.raises(BadRecordError) as refused:
        recorded.venue.feed.decode(frame)
    assert refused.value.payload == frame
    assert refused.value.source == recorded.venue.name


@contextmanager
def history(venue: Venue, answers: Answers, clock: Clock | None = None) -> Iterator[TradeHistory]:
    with (
        serving(answers) as url,
        venue.open_history(Places((), url, url), clock or Sleeps(NOON).clock, random.Random(5)) as opened,
    ):
        yield opened


def made_up(venue: Venue, *, count: int = 5000, first_id: int = 700_001) -> list[Trade]:
    has_holes = venue.capabilities.id_kind != "contiguous"
    return answering.tape(SYMBOLS[venue.name], count=count, first_id=first_id, has_holes=has_holes)


def hole_between(lower: Trade, upper: Trade) -> Hole:
    return Hole(lower.symbol, lower.trade_id + 1, upper.trade_id - 1, lower.traded_at_us, upper.traded_at_us)


def assert_overlapping(pages: list[TradePage]) -> list[Trade]:
    """Check that pages are in order and hang together; return their trades, each once."""
    for page in pages:
        assert all(a.trade_id < b.trade_id for a, b in pairwise(page.trades))
    for one, other in pairwise(pages):
        assert {t.trade_id for t in one.trades} & {t.trade_id for t in other.trades}
    return sorted({t.trade_id: t for page in pages for t in page.trades}.values(), key=lambda t: t.trade_id)


def asked_from(answers: Answers) -> list[int]:
    """Return the ids or times from which the venue was asked."""
    names = ("fromId", "after", "since")
    return [int(query[name]) for _, query in answers.requests for name in names if name in query]


def test_every_registered_venue_has_golden_frames_and_a_side_of_rest_in_the_tests():
    """Nothing is skipped for want of a sample: a venue without one fails here."""
    for name, venue in VENUES.items():
        assert venue.name == name
        assert list((GOLDEN / name).glob("*.frames")), name
        assert (GOLDEN / name / "trades.json").exists(), name
        assert name in answering.VENUES, name
        assert name in SYMBOLS, name


@pytest.mark.parametrize("path", FRAME_FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_golden_frame_says_exactly_what_the_venue_printed(path: Path):
    """Ids, digits, sides and times come out as the standard library reads them from the same bytes."""
    expected = json.loads(path.with_suffix(".expected.json").read_text())
    assert [outcome(VENUES[path.parent.name], frame) for frame in frames(path)] == expected


@pytest.mark.parametrize("path", FRAME_FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_ids_rise_strictly_within_a_frame(path: Path):
    """Whatever order a venue prints in, a frame's trades are by rising id."""
    for frame in frames(path):
        rows = next(iter(outcome(VENUES[path.parent.name], frame).values()))
        if isinstance(rows, list):
            assert all((a[0], a[1]) < (b[0], b[1]) for a, b in pairwise(rows))


def changes_that_matter(recorded: Recorded, documents: Iterator[Any]) -> int:
    """Check that each document says what the frame says, or is refused whole; return how many are refused."""
    true = outcome(recorded.venue, json.dumps(json.loads(recorded.frame)).encode())
    refused = 0
    for document in documents:
        frame = json.dumps(document).encode()
        try:
            found = outcome(recorded.venue, frame)
        except BadRecordError:
            assert_refused(recorded, frame)
            refused += 1
        else:
            assert found == true
    return refused


@pytest.mark.parametrize("recorded", trade_frames())
def test_a_field_of_another_name_is_refused_unless_it_does_not_matter(recorded: Recorded):
    """A renamed field never makes another trade and is never passed over: the frame is a reject, or nothing changes."""
    assert changes_that_matter(recorded, renamed(json.loads(recorded.frame))) >= 6


@pytest.mark.parametrize("recorded", trade_frames())
def test_a_value_of_another_kind_is_refused_unless_it_does_not_matter(recorded: Recorded):
    """Null, a list or an object in place of a value makes the frame a reject, or nothing changes."""
    spoilt = replaced(json.loads(recorded.frame), lambda _: [None, [], {}])
    assert changes_that_matter(recorded, spoilt) >= 3 * 6


@pytest.mark.parametrize("recorded", trade_frames())
def test_an_id_that_is_none_is_refused(recorded: Recorded):
    """Ids are whole numbers from 0 to 2^61."""
    true = outcome(recorded.venue, recorded.frame)
    ids = {row[1] for rows in true.values() for row in rows}
    wrong = [-1, 2**61 + 1, 2**63, 1.5, 10**30]

    def new(leaf: Any) -> list[Any]:
        if isinstance(leaf, bool) or not str(leaf).isdecimal() or int(leaf) not in ids:
            return []
        return [type(leaf)(bad) if isinstance(leaf, str) else bad for bad in wrong]

    changed = list(replaced(json.loads(recorded.frame), new))
    assert len(changed) >= len(wrong)
    for document in changed:
        assert_refused(recorded, json.dumps(document).encode())


@pytest.mark.parametrize("recorded", trade_frames())
def test_a_time_that_cannot_be_is_refused(recorded: Recorded):
    """Negative, in seconds, in nanoseconds or in words: no trade has such a time."""
    document = json.loads(recorded.frame)
    times = {"T", "E", "time", "timestamp", "ts"}
    wrong: list[Any] = [
        -1723161255342,
        0,
        1723161255,
        1723161255342000000,
        "yesterday",
        "2024-08-08T23:59:59",
    ]
    found = 0

    def spoilt(value: Any, bad: Any) -> Any:
        nonlocal found
        if isinstance(value, list):
            return [spoilt(inner, bad) for inner in value]
        if not isinstance(value, dict):
            return value
        found += len(times & value.keys())
        return {
            key: (str(bad) if isinstance(inner, str) else bad) if key in times else spoilt(inner, bad)
            for key, inner in value.items()
        }

    for bad in wrong:
        assert_refused(recorded, json.dumps(spoilt(document, bad)).encode())
    assert found >= len(wrong)


@pytest.mark.parametrize("recorded", trade_frames())
def test_a_damaged_frame_is_refused_whole(recorded: Recorded):
    """Cut anywhere, or with a byte that is no text, the frame is a reject with all its bytes."""
    step = max(1, len(recorded.frame) // 40)
    for end in range(0, len(recorded.frame) - 1, step):
        assert_refused(recorded, recorded.frame[:end])
    assert_refused(recorded, recorded.frame.replace(b'":', b'"\xff:', 1))
    assert_refused(recorded, recorded.frame + b"}")


@every_venue
@pytest.mark.parametrize(
    "frame", [b"", b"null", b"7", b"[]", b"{}", b'"trade"', b"\xff", b"[" * 5000, b"<html>"]
)
def test_nonsense_is_refused(venue: Venue, frame: bytes):
    """What is no message of the venue is a reject with all its bytes."""
    assert_refused(Recorded(venue, frame), frame)


@every_venue
def test_a_reject_names_the_symbol_and_the_id_where_they_can_be_read(venue: Venue):
    """A trade whose price is gone is still known by name."""
    recorded = next(param.values[0] for param in trade_frames() if param.values[0].venue is venue)
    row = next(iter(outcome(venue, recorded.frame).values()))[0]
    text = recorded.frame.decode()
    for name in ('"p":', '"price":', '"px":'):
        text = text.replace(name, '"lost":')
    with pytest.raises(BadRecordError) as refused:
        venue.feed.decode(text.encode())
    is_alone = len(next(iter(outcome(venue, recorded.frame).values()))) == 1
    assert (refused.value.symbol, refused.value.trade_id) == (row[0], row[1] if is_alone else None)


@every_venue
def test_url_and_greetings_name_every_symbol(venue: Venue):
    """Nothing is forgotten, and what is sent is JSON."""
    symbols = [f"{name}{end}" for name in ("BTC", "币安", "A-B/C") for end in ("USDT", "EUR")]
    url = venue.feed.url("wss://venue.example/path", symbols)
    greetings = venue.feed.greetings(symbols)
    assert url.startswith("wss://venue.example/path")
    assert url.isascii()
    said = unquote(url) + json.dumps([json.loads(greeting) for greeting in greetings], ensure_ascii=False)
    assert all(symbol.lower() in said.lower() for symbol in symbols)


@every_venue
def test_a_golden_page_says_exactly_what_the_venue_printed(venue: Venue):
    """An answer of REST gives the trades that it prints, by rising id."""
    wire = importlib.import_module(f"cryptolake.sources.{venue.name}.wire")
    expected = json.loads((GOLDEN / venue.name / "trades.expected.json").read_text())
    body = (GOLDEN / venue.name / "trades.json").read_bytes()
    page = wire.trade_page(body, symbol=expected["symbol"], received_at_us=7)
    assert [list(msgspec.structs.astuple(trade)) for trade in page.trades] == expected["trades"]
    assert (page.rejects, page.received_at_us) == ([], 7)


@every_venue
def test_a_bad_record_of_a_page_is_set_apart_with_its_bytes_and_its_id(venue: Venue):
    """One record that nobody can trust does not take the others with it."""
    trades = made_up(venue, count=30)
    digits = json.dumps(trades[7].quantity)
    answers = Answers(venue.name, trades, spoil=lambda body: body.replace(digits.encode(), b"null"))
    with history(venue, answers) as opened:
        (page,) = opened.pages(hole_between(trades[3], trades[12]))
    (reject,) = page.rejects
    assert (reject.symbol, reject.trade_id) == (trades[7].symbol, trades[7].trade_id)
    assert trades[7].price.encode() in reject.payload
    assert b"null" in reject.payload
    assert trades[6] in page.trades
    assert trades[7].trade_id not in {trade.trade_id for trade in page.trades}
    assert trades[8] in page.trades


@every_venue
def test_pages_lead_over_a_hole_from_neighbour_to_neighbour(venue: Venue):
    """Every existing id of a hole and one neighbour on each side comes, in pages that hang together."""
    trades = made_up(venue)
    rng = random.Random(11)
    spots = [
        (0, 4999),
        (2000, 2001),
        (10, 1012),
        (3990, 4999),
        *(rng.sample(range(5000), 2) for _ in range(12)),
    ]
    for spot in spots:
        low, high = sorted(spot)
        answers = Answers(venue.name, trades)
        with history(venue, answers) as opened:
            found = assert_overlapping(list(opened.pages(hole_between(trades[low], trades[high]))))
        assert found[0].trade_id <= trades[low].trade_id
        wanted = trades[low : high + 1]
        assert [trade for trade in found if trade.trade_id <= wanted[-1].trade_id][-len(wanted) :] == wanted


@every_venue
def test_pages_at_the_ends_of_history_end(venue: Venue):
    """A hole before the first trade or after the newest one ends without a neighbour, and nothing below 0 is asked for."""
    trades = made_up(venue, count=300, first_id=1)
    head = trades[-1]
    answers = Answers(venue.name, trades)
    holes = [
        Hole(head.symbol, 0, 0, None, trades[0].traded_at_us),
        Hole(head.symbol, 0, trades[9].trade_id - 1, None, trades[9].traded_at_us),
        Hole(head.symbol, head.trade_id + 1, head.trade_id + 5000, head.traded_at_us, None),
        Hole(head.symbol, trades[200].trade_id + 1, head.trade_id, trades[200].traded_at_us, None),
    ]
    with history(venue, answers) as opened:
        found = [assert_overlapping(list(opened.pages(hole))) for hole in holes]
    assert trades[0] in found[0]
    assert found[1][:10] == trades[:10]
    assert found[2][-1] == head
    assert found[3][-100:] == trades[200:]
    assert min(asked_from(answers)) >= 0


def set_of_ids(trades: list[Trade]) -> set[int]:
    return {trade.trade_id for trade in trades}


@every_venue
def test_a_hole_with_nothing_held_below_is_found_all_the_same(venue: Venue):
    """Without a time of the lower neighbour the venue is asked ever further back."""
    trades = made_up(venue)
    low, high = trades[700], trades[3100]
    hole = Hole(low.symbol, low.trade_id + 1, high.trade_id - 1, None, high.traded_at_us)
    with history(venue, Answers(venue.name, trades)) as opened:
        found = assert_overlapping(list(opened.pages(hole)))
    assert set_of_ids(found) >= set_of_ids(trades[700:3101])


@every_venue
def test_a_span_of_time_comes_with_a_neighbour_on_each_side(venue: Venue):
    """Oldest first, from the last trade before the span to the first at or after its end."""
    trades = made_up(venue)
    times = [trade.traded_at_us for trade in trades]
    rng = random.Random(3)
    spans = [(times[40] + 1, times[40] + 2), (times[0], times[900])]
    spans += [tuple(sorted(rng.randrange(times[0], times[-1]) for _ in range(2))) for _ in range(8)]
    for start_us, end_us in spans:
        with history(venue, Answers(venue.name, trades)) as opened:
            pages = list(opened.between(trades[0].symbol, start_us, end_us))
        found = assert_overlapping(pages)
        assert all(a.trades[-1].trade_id <= b.trades[-1].trade_id for a, b in pairwise(pages))
        inside = [trade for trade in trades if start_us <= trade.traded_at_us < end_us]
        before = [trade for trade in trades if trade.traded_at_us < start_us][-1:]
        after = [trade for trade in trades if trade.traded_at_us >= end_us][:1]
        assert set_of_ids(found) >= set_of_ids(before + inside + after)


@every_venue
def test_a_span_that_has_not_begun_is_empty_or_stops_at_the_head(venue: Venue):
    """Nothing was made there, so nothing is claimed."""
    trades = made_up(venue, count=50)
    later = trades[-1].traded_at_us + MINUTE_US
    with history(venue, Answers(venue.name, trades)) as opened:
        found = assert_overlapping(list(opened.between(trades[0].symbol, later, later + MINUTE_US)))
        cut = assert_overlapping(list(opened.between(trades[0].symbol, trades[10].traded_at_us, later)))
    assert found == trades[len(trades) - len(found) :]
    assert cut[-40:] == trades[10:]


@every_venue
def test_heads_are_the_newest_ids_and_unknown_symbols_are_left_out(venue: Venue):
    """The audit asks for what it captures; a symbol that is gone does not hide the others."""
    trades = made_up(venue, count=20)
    symbol = trades[0].symbol
    with history(venue, Answers(venue.name, trades)) as opened:
        assert opened.heads([symbol])[symbol].trade_id == trades[-1].trade_id
        found = opened.heads([symbol, "NOSUCH"])
    assert list(found) == [symbol]
    assert found[symbol].traded_at_us in {None, trades[-1].traded_at_us}


@every_venue
def test_an_unknown_symbol_is_a_person_s_business(venue: Venue):
    """Asking again would not help: the message says what to change."""
    trades = made_up(venue, count=20)
    hole = Hole("NOSUCH", 5, 6, trades[0].traded_at_us, None)
    unknown = pytest.raises(UnknownSymbolError, match=r"capture\.instruments")
    with history(venue, Answers(venue.name, trades)) as opened, unknown:
        list(opened.pages(hole))


@every_venue
def test_klines_are_those_of_the_span_oldest_first_as_printed(venue: Venue):
    """Bars begin in [start, end), with the venue's own digits."""
    trades = made_up(venue)
    bars = answering.minutes(trades)
    start = answering.START_US + 7 * MINUTE_US
    end = start + 100 * MINUTE_US
    with history(venue, Answers(venue.name, trades)) as opened:
        found = opened.klines(trades[0].symbol, start, end)
    wanted = {at: answering.bar(some) for at, some in bars.items() if start <= at < end}
    assert [(bar.start_us, (bar.open, bar.high, bar.low, bar.close)) for bar in found] == list(wanted.items())
    assert {bar.volume for bar in found} <= {"1.5", "1.50"}
    assert all(bar.trade_count in {None, len(bars[bar.start_us])} for bar in found)


@every_venue
@pytest.mark.parametrize("status", [429, 418])
def test_a_venue_that_asks_to_wait_is_waited_for(venue: Venue, status: int):
    """Its own number of seconds is kept, and the answer is had after all."""
    trades = made_up(venue, count=20)
    sleeps = Sleeps(NOON)
    answers = Answers(venue.name, trades, faults=[(status, {"retry-after": "33"}, b"{}")] * 2)
    with history(venue, answers, sleeps.clock) as opened:
        found = assert_overlapping(list(opened.pages(hole_between(trades[4], trades[9]))))
    assert set_of_ids(found) >= set_of_ids(trades[4:10])
    assert 66 <= sum(sleeps.seconds) < 80


@every_venue
def test_a_long_ban_is_told_to_the_caller(venue: Venue):
    """What takes longer than our patience ends with how long it takes."""
    trades = made_up(venue, count=20)
    answers = Answers(venue.name, trades, faults=[(418, {"retry-after": "7200"}, b"{}")])
    with history(venue, answers) as opened, pytest.raises(SourceDownError) as down:
        list(opened.pages(hole_between(trades[4], trades[9])))
    assert down.value.after == 7200


class StoppedError(Exception):
    """It is time to end."""


@every_venue
def test_waiting_can_be_interrupted(venue: Venue):
    """What the clock's sleep raises ends the request at once."""

    def stop(_: float) -> None:
        raise StoppedError

    trades = made_up(venue, count=20)
    answers = Answers(venue.name, trades, faults=[(429, {"retry-after": "33"}, b"{}")] * 9)
    clock = Clock(now=lambda: NOON, sleep=stop)
    with history(venue, answers, clock) as opened, pytest.raises(StoppedError):
        list(opened.pages(hole_between(trades[4], trades[9])))
    assert len(answers.requests) == 1


@every_venue
@pytest.mark.parametrize("body", [b"<html>busy</html>", b'{"data":7}', b"[7", b'"x"'])
def test_an_answer_of_nonsense_is_asked_for_again_and_then_given_up(venue: Venue, body: bytes):
    """A whole answer that makes no sense is a fault of the moment, not a page without trades."""
    trades = made_up(venue, count=20)
    answers = Answers(venue.name, trades, spoil=lambda _: body)
    with history(venue, answers) as opened, pytest.raises(SourceDownError, match="nonsense"):
        list(opened.pages(hole_between(trades[4], trades[9])))


@every_venue
def test_a_refusal_is_a_person_s_business(venue: Venue):
    """A firewall's 403 is not asked again."""
    trades = made_up(venue, count=20)
    answers = Answers(venue.name, trades, faults=[(403, {}, b"<html>")])
    with history(venue, answers) as opened, pytest.raises(SourceRefusedError, match=r"rest_url|firewall"):
        list(opened.pages(hole_between(trades[4], trades[9])))
    assert len(answers.requests) == 1


@every_venue
def test_a_file_that_is_not_there_is_not_published(venue: Venue):
    """A day without an archive file is for REST; so is every day of a venue without an archive."""
    with history(venue, Answers(venue.name, files={"/elsewhere": [b""]})) as opened:
        with pytest.raises(NotPublishedError):
            list(opened.archived_day(SYMBOLS[venue.name], date(2024, 8, 8)))
        with pytest.raises(NotPublishedError):
            list(opened.archived_month(SYMBOLS[venue.name], date(2024, 8, 1)))
