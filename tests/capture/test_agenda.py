"""Which hole is asked for, and when."""

from __future__ import annotations

import random
from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from cryptolake.capture.agenda import LONGEST_RETRY_SECONDS, TWIN_SECONDS, Agenda, days_of, joined
from cryptolake.capture.instruments import Instrument
from cryptolake.sources.venue import Hole

BTC = Instrument("binance", "BTCUSDT", "BTCUSDT")
DAY_US = 86_400_000_000


def hole(first, last, **times):
    return BTC, Hole("BTCUSDT", first, last, **times)


def test_a_new_hole_waits_for_the_twin():
    """The other connection may have the trades in a moment; a venue is not asked for those."""
    agenda = Agenda(random.Random(1))
    assert agenda.due([hole(1, 5)], 100.0) is None
    assert agenda.due([hole(1, 5)], 100.0 + TWIN_SECONDS) == hole(1, 5)


def test_a_hole_that_was_never_asked_for_goes_before_one_that_was_in_vain():
    """Holes that nobody can fill do not keep others from being filled, however slow the venue is."""
    agenda = Agenda(random.Random(1))
    hopeless, other = hole(50, 60), hole(1, 5)
    agenda.due([hopeless, other], 100.0)
    assert agenda.due([hopeless, other], 101.0) == hopeless
    agenda.left_open(hopeless[1], 101.0)
    assert agenda.due([hopeless, other], 101.0 + LONGEST_RETRY_SECONDS) == other


def test_what_is_left_of_a_hole_is_due_at_once():
    """An answer made it smaller; the next answer may follow."""
    agenda = Agenda(random.Random(1))
    agenda.due([hole(1, 50)], 100.0)
    assert agenda.due([hole(20, 50)], 100.1) == hole(20, 50)
    assert agenda.due([hole(20, 30)], 100.2) == hole(20, 30)


def test_holes_are_taken_in_their_order_and_one_in_vain_lets_others_go_first():
    """One hole that nobody can close keeps no other from being healed."""
    agenda = Agenda(random.Random(1))
    both = [hole(90, 99), hole(1, 5)]
    agenda.due(both, 0.0)
    assert agenda.due(both, 1.0) == both[0]
    agenda.left_open(both[0][1], 1.0)
    assert agenda.due(both, 1.0) == both[1]


def test_a_hole_that_stays_open_is_asked_for_ever_less_often():
    """Never a busy loop, and never given up: at least every ten minutes."""
    agenda = Agenda(random.Random(1))
    waits = [agenda.left_open(hole(1, 5)[1], 0.0) for _ in range(20)]
    assert waits[0] <= 1.0
    assert max(waits) <= LONGEST_RETRY_SECONDS
    assert min(waits[12:]) >= LONGEST_RETRY_SECONDS / 2


def test_a_file_that_is_not_there_is_not_asked_for_again_soon():
    """An archive publishes once a day."""
    agenda, day = Agenda(random.Random(1)), date(2024, 8, 8)
    agenda.unpublished(hole(1, 5)[1], day, 0.0)
    assert list(agenda.files(hole(1, 5)[1], [day, date(2024, 8, 7)], 60.0)) == [date(2024, 8, 7)]
    assert list(agenda.files(hole(1, 5)[1], [day], 3_600.0)) == [day]


def test_days_are_told_by_trades_and_not_by_our_clock():
    """A day is over where trades of a later one are known."""
    known = Hole("X", 2, 9, after_us=DAY_US // 2, before_us=3 * DAY_US + 1)
    assert days_of(known, None) == (
        [date(1970, 1, 3), date(1970, 1, 2)],
        [date(1970, 1, 4), date(1970, 1, 1)],
    )
    tail = Hole("X", 2, 9, after_us=DAY_US // 2)
    assert days_of(tail, None) == ([], [])
    assert days_of(tail, DAY_US - 1) == ([], [date(1970, 1, 1)])


@given(
    firsts=st.lists(st.integers(1, 300), min_size=1, max_size=20, unique=True),
    near=st.integers(1, 200),
)
def test_a_hole_is_asked_for_with_those_close_below_it(firsts, near):
    """One answer covers them all; what lies further down, or is another symbol's, waits for its own."""
    newest, *others = [Hole("X", first, first, after_us=first) for first in sorted(firsts, reverse=True)]
    asked = joined(newest, [*others, Hole("Y", newest.first_id, newest.last_id)], near)
    close = [other for other in others if newest.last_id - other.first_id < near]
    lowest = close[-1] if close else newest
    assert (asked.symbol, asked.first_id, asked.last_id) == ("X", lowest.first_id, newest.last_id)
    assert asked.after_us == lowest.after_us
