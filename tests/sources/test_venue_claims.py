"""What every trading venue claims of itself, held against the frames it sent: a part of the venue contract suite."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from cryptolake.errors import BadRecordError
from cryptolake.sources.records import Control, Recent, Trade
from cryptolake.sources.venue import Venue
from tests.sources.answering import MINUTE_US, START_US, Answers
from tests.sources.test_venue_contract import GOLDEN, SYMBOLS, every_venue, frames, history

IDS, SIDES = ("trade_id", "tradeId", "t"), ("side", "m")
BY_HAND = "derived"


class Printed(NamedTuple):
    """A trade as its frame has it: its id, and whether the side that is printed buys."""

    trade_id: int
    buys: bool


def trades_of(venue: Venue, frame: bytes) -> list[Trade]:
    try:
        said = venue.feed.decode(frame)
    except BadRecordError:
        return []
    if isinstance(said, Control):
        return []
    return said.trades if isinstance(said, Recent) else said


def printed(value: Any) -> Iterator[Printed]:
    """Yield the trades of a JSON document, in the order in which it has them."""
    if isinstance(value, dict):
        trade_id = next((value[name] for name in IDS if name in value), None)
        side = next((value[name] for name in SIDES if name in value), None)
        if trade_id is not None and side is not None:
            yield Printed(int(trade_id), side in {"buy", True})
            return
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from printed(inner)


def golden(venue: Venue, *, least: int = 1, by_hand: bool = True) -> list[tuple[bytes, list[Trade]]]:
    """Return the golden frames that have *least* trades, with those; not *by_hand*, only such as a venue has printed."""
    files: list[Path] = sorted((GOLDEN / venue.name).glob("*.frames"))
    read = [
        (frame, trades_of(venue, frame))
        for file in files
        if by_hand or file.stem != BY_HAND
        for frame in frames(file)
    ]
    return [(frame, trades) for frame, trades in read if len(trades) >= least]


def turned(value: Any) -> Any:
    """Return a JSON document with all its lists from their end."""
    if isinstance(value, list):
        return [turned(inner) for inner in reversed(value)]
    return {name: turned(inner) for name, inner in value.items()} if isinstance(value, dict) else value


@every_venue
def test_what_the_ids_prove_has_evidence(venue: Venue):
    """A claim about ids stands beside what it rests on, and limits are numbers that can be kept."""
    claims = venue.capabilities
    assert len(claims.evidence.split()) >= 15
    assert claims.heals_by or claims.id_kind == "opaque"
    assert claims.streams_per_connection > 0
    assert claims.connections.count > 0 < claims.connections.seconds


@every_venue
def test_the_order_in_a_frame_is_as_the_venue_is_said_to_print_it(venue: Venue):
    """Where a venue prints several trades at once, their ids stand in the order of its record."""
    found = golden(venue, by_hand=False)
    assert found
    for frame, _ in found:
        ids = [trade.trade_id for trade in printed(json.loads(frame))]
        rises = [a < b for a, b in pairwise(ids)]
        assert all(rises) or venue.capabilities.order_in_frame != "rising"
        assert not any(rises) or venue.capabilities.order_in_frame != "falling"


@every_venue
def test_trades_come_out_rising_whatever_the_order_in_their_frame(venue: Venue):
    """A frame and the same frame from its end say the same, by rising id; a venue of no order has such a frame here."""
    found = golden(venue, least=2)
    assert found or venue.capabilities.order_in_frame == "rising"
    for frame, trades in found:
        document = json.loads(frame)
        one, other = (trades_of(venue, json.dumps(said).encode()) for said in (document, turned(document)))
        assert len(one) == len(trades)
        assert one == other
        assert all(a.trade_id < b.trade_id for a, b in pairwise(one))


@every_venue
def test_the_maker_is_found_from_the_side_that_the_venue_is_said_to_print(venue: Venue):
    """The side in the frame is the maker's or the taker's, as the venue's record says."""
    sides = set()
    for frame, trades in golden(venue):
        its = {trade.trade_id: trade.buys for trade in printed(json.loads(frame))}
        sides |= set(its.values())
        for trade in trades:
            assert trade.is_buyer_maker == (its[trade.trade_id] == venue.capabilities.tells_maker_side)
    assert sides == {True, False}


@every_venue
def test_bars_reach_as_far_back_as_the_venue_is_said_to_give_them(venue: Venue):
    """Counted from the newest one, whatever is asked for; a venue without such a limit gives all."""
    symbol, minutes = SYMBOLS[venue.name], 1500
    trades = [Trade(symbol, n + 1, "5.0", "1.5", True, START_US + n * MINUTE_US) for n in range(minutes)]
    with history(venue, Answers(venue.name, trades)) as opened:
        found = opened.klines(symbol, START_US, START_US + minutes * MINUTE_US)
    reach = venue.capabilities.klines_reach_minutes or minutes
    assert [bar.start_us for bar in found] == [trade.traded_at_us for trade in trades[-reach:]]
