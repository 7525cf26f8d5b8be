"""What a venue cannot give hides nothing else that it can."""

from __future__ import annotations

from random import Random

import pytest

from cryptolake.clock import Clock
from cryptolake.replay.venues.server import VenueServer
from cryptolake.sources.registry import VENUES
from cryptolake.sources.venue import Hole, Places
from tests.faults import plans

TAPE, TRADES = 8, 4_000


@pytest.mark.parametrize("venue", VENUES.values(), ids=VENUES)
def test_pages_lead_past_ids_that_nobody_can_have(venue):
    """No page reaches over such an id, and yet all that lies behind it in the hole comes."""
    reel = plans.reel(TAPE, TRADES)
    track = reel.tape.of(venue.name)[0]
    gone = reel.gone[track.venue, track.symbol]
    first, last = (track.row_of(trade_id) for trade_id in (min(gone) - 20, max(gone) + 20))
    wanted = set(track.ids[first + 1 : last]) - gone
    assert gone < set(track.ids[first + 1 : last])
    times = track.rows.column("traded_at_us").to_pylist()
    hole = Hole(track.symbol, track.ids[first] + 1, track.ids[last] - 1, times[first], times[last])
    with VenueServer.open(reel.tape, venues=[venue.name], unavailable=reel.gone) as server:
        assert server.finished.wait(10)
        places = Places(tuple(server.websocket_url(venue.name)), server.rest_url(venue.name))
        passing = Clock(sleep=lambda _: None, monotonic=Passing().monotonic)
        with venue.open_history(places, passing, Random(1)) as history:
            pages = list(history.pages(hole))
    found = [trade.trade_id for page in pages for trade in page.trades]
    assert wanted <= set(found)
    assert not gone & set(found)
    assert len(pages) < 6 * len(gone) + len(wanted) // 50


class Passing:
    """Time that passes by a minute whenever it is asked for, so that no budget is ever spent."""

    def __init__(self) -> None:
        self._now = 0.0

    def monotonic(self) -> float:
        self._now += 60.0
        return self._now
