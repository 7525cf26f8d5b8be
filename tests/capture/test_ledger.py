"""The books of one instrument: every id is held once, or known to be missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryptolake.capture.entries import GapEvent
from cryptolake.capture.ledger import Ledger
from cryptolake.capture.ranges import Range, Ranges
from tests.capture.ledgers import BTC, DAY_US, Saved, at_us, ids_of, open_by_events, trade, trades


def ledger_with(ids: list[int], *, settled: bool = True) -> Ledger:
    """Return a ledger that has accepted *ids*, whose start is final if it is *settled*."""
    ledger = Ledger(BTC, "contiguous")
    ledger.expects([1, 2])
    ledger.accept(trades(ids))
    ledger.delivered([1, 2] if settled else [1])
    return ledger


def test_a_jump_opens_a_hole_and_the_twin_fills_it():
    """An id above the next one leaves a gap; a trade that arrives in a gap fills it."""
    ledger = ledger_with([10, 11, 15])
    assert ids_of(ledger.open) == {12, 13, 14}

    assert ledger.accept(trades([13])).keep == [0]
    assert ids_of(ledger.open) == {12, 14}
    assert ledger.changes().events == [
        GapEvent(12, 14, "missing", "sequence gap"),
        GapEvent(13, 13, "filled", "received", "twin"),
    ]


def test_the_ids_that_fill_a_hole_in_turn_are_one_event():
    """A hole that the twin fills trade by trade does not make an event a trade."""
    ledger = ledger_with([1, 100])
    ledger.changes()
    ledger.accept(trades(range(2, 100)))
    assert ledger.changes().events == [GapEvent(2, 99, "filled", "received", "twin")]
    assert (ledger.holes_opened, ledger.holes_closed) == (1, 1)


def test_an_equal_duplicate_is_dropped_however_its_decimals_are_printed():
    """1.50 and 1.5 are one quantity."""
    ledger = ledger_with([1, 2])
    done = ledger.accept([trade(2), trade(1, quantity="1.50")])
    assert done == ([], [])


@pytest.mark.parametrize("change", ["price", "quantity"])
def test_a_trade_that_differs_from_the_one_held_is_an_id_reset(change):
    """It is refused, and the message says how to go on."""
    done = ledger_with([1, 2]).accept([trade(2, **{change: "7"})])
    assert done.keep == []
    ((position, why),) = done.refused
    assert position == 0
    assert why.startswith("id_reset: trade 2 of toy:BTC differs")
    assert "capture.aliases = {'toy:BTC': 'BTC#2'}" in why


def test_an_id_below_the_start_is_an_id_reset():
    """What is neither held nor in a gap, at or below the mark, cannot be a duplicate."""
    done = ledger_with([500, 501]).accept([trade(3)])
    assert "is below 500, the first id captured" in done.refused[0][1]


def test_a_listing_that_starts_again_is_noticed_even_where_nothing_is_remembered():
    """A held id that was made long after the newest one belongs to another listing."""
    ledger = Ledger(BTC, "contiguous", remembered=4)
    for n in range(1, 100):
        ledger.accept(trades([n]))
    ledger.delivered([])
    again = trade(5)
    again.traded_at_us = at_us(99) + DAY_US
    assert "is held, but was made after 99" in ledger.accept([again]).refused[0][1]
    assert ledger.accept([trade(6)]) == ([], [])


def test_what_was_healed_up_to_the_venue_s_head_is_held_like_any_trade():
    """A snapshot that repeats it long after the last live trade is no reset; a new listing still is."""
    ledger = Ledger(BTC, "contiguous", remembered=4)
    ledger.accept(trades([1, 2, 3]))
    ledger.delivered([])
    ledger.expect_up_to(300, "tail")
    assert (ledger.mark_us, ledger.dated_us) == (None, at_us(3))

    ids = range(3, 302)
    assert ledger.heal(ids, [at_us(i) for i in ids], "rest").filled == 297
    assert (ledger.mark_us, ledger.dated_us) == (at_us(300), at_us(300))
    assert ledger.accept_recent(trades(range(251, 301))) == ([], [])
    again = trade(200)
    again.traded_at_us = at_us(300) + DAY_US
    assert "is held, but was made after 300" in ledger.accept([again]).refused[0][1]

    ledger.accept(trades([310]))
    assert [(hole.first_id, hole.after_us) for hole in ledger.holes()] == [(301, at_us(300))]


def test_the_twin_s_copy_of_the_venue_s_head_says_when_it_was_made():
    """As an answer of REST does."""
    ledger = ledger_with([1, 2])
    ledger.expect_up_to(4, "tail")
    ledger.accept(trades([4]))
    assert ledger.mark_us == at_us(4)


def test_ids_below_the_first_are_accepted_until_every_connection_has_delivered():
    """The slower twin may begin earlier: the lowest id is the start, and holes above it are gaps."""
    ledger = ledger_with([100, 101], settled=False)
    assert ledger.accept(trades([95, 96])).keep == [0, 1]
    assert (ledger.start, ids_of(ledger.open)) == (95, {97, 98, 99})

    ledger.delivered([2])
    assert len(ledger.accept(trades([94])).refused) == 1


def test_recent_trades_below_the_start_are_not_asked_for():
    """A snapshot at subscription reaches back behind the start; that is no reset, and nothing to store."""
    ledger = ledger_with([100, 103])
    done = ledger.accept_recent(trades([104, 101, 99, 98]))
    assert (sorted(done.keep), done.refused) == ([0, 1], [])
    assert (ledger.mark, ids_of(ledger.open)) == (104, {102})


def test_recent_trades_can_be_the_start():
    """Kraken's snapshot and Coinbase's last_match come first, and count."""
    ledger = Ledger(BTC, "sequential")
    ledger.expects([1])
    assert ledger.accept_recent(trades([7, 8])).keep == [0, 1]
    ledger.delivered([1])
    ledger.accept(trades([9]))
    assert (ledger.start, ledger.mark, len(ledger.open)) == (7, 9, 0)


def test_a_snapshot_that_begins_below_the_first_makes_no_gap_that_closes_at_once():
    """The twin's reaches back a little farther: between the two nothing was ever missing."""
    ledger = Ledger(BTC, "sequential")
    ledger.expects([1, 2])
    ledger.accept_recent(trades(range(10, 14)))
    done = ledger.accept_recent(trades([5, 6, 8, 9, 10, 11, 12, 13, 14]))
    assert sorted(done.keep) == [0, 1, 2, 3, 8]
    assert (ledger.start, ledger.mark, ids_of(ledger.open)) == (5, 14, {7})
    assert ledger.changes().events == [GapEvent(7, 7, "missing", "sequence gap")]


def test_a_page_fills_what_is_open_and_nothing_else():
    """Healing writes only ids that are not held, and nothing above the mark or below the start."""
    ledger = ledger_with([10, 13, 20])
    ids = [8, 9, 10, 11, 12, 13, 14, 21, 22]
    done = ledger.heal(ids, [at_us(i) for i in ids], "rest")
    assert [ids[n] for begin, end in done.keep for n in range(begin, end)] == [11, 12, 14]
    assert (ledger.mark, ledger.start) == (20, 10)


def test_neighbours_in_one_page_prove_what_is_between_them_absent():
    """Not so what lies before the first or behind the last: a page that is short proves nothing."""
    ledger = ledger_with([10, 20])
    done = ledger.heal([13, 17], [at_us(13), at_us(17)], "rest")
    assert (done.filled, done.absent) == (2, 3)
    assert ids_of(ledger.open) == {11, 12, 18, 19}
    assert ids_of(ledger.absent) == {14, 15, 16}


def test_a_piece_of_a_file_is_joined_to_the_one_before():
    """A whole file is one answer, so neighbours prove absence across its pieces."""
    ledger = ledger_with([10, 20])
    assert ledger.heal([12], [at_us(12)], "archive", after=10).absent == 1
    assert ledger.heal([20], [at_us(20)], "archive", after=12).absent == 7
    assert len(ledger.open) == 0


def test_a_bad_record_closes_its_own_id_and_is_not_absent():
    """A record of REST or archive that cannot be trusted, but has an id, is not fetched again."""
    ledger = ledger_with([10, 14])
    done = ledger.heal([10, 13, 14], [at_us(i) for i in (10, 13, 14)], "rest", rejected=[12])
    assert (done.filled, done.absent, done.rejected) == (1, 1, 1)
    assert (ids_of(ledger.absent), ids_of(ledger.rejected), len(ledger.open)) == ({11}, {12}, 0)


def test_a_record_without_an_id_may_be_any_that_seems_absent():
    """So nothing is proven by the page that has it."""
    ledger = ledger_with([10, 14])
    done = ledger.heal([10, 14], [at_us(10), at_us(14)], "rest", proves_absence=False)
    assert (done.absent, ids_of(ledger.open)) == (0, {11, 12, 13})


@pytest.mark.parametrize("rejected", [[], [11]])
def test_a_trade_that_arrives_for_an_absent_or_rejected_id_fills_it(rejected):
    """Whatever was proven, a trade is a trade."""
    ledger = ledger_with([10, 12])
    ledger.heal([10, 12], [at_us(10), at_us(12)], "rest", rejected=rejected)
    assert ledger.accept(trades([11])).keep == [0]
    assert (len(ledger.absent), len(ledger.rejected)) == (0, 0)


def test_a_head_above_the_mark_is_a_hole():
    """No later trade shows a missing tail, but the venue's own head does; a live trade in it still counts."""
    ledger = ledger_with([1, 2])
    assert ledger.expect_up_to(5, "tail") == 3
    assert ledger.expect_up_to(5, "tail") == 0
    assert ledger.accept(trades([3, 6])).keep == [0, 1]
    assert (ids_of(ledger.open), ledger.mark) == ({4, 5}, 6)
    assert ledger.changes().events[0] == GapEvent(3, 5, "missing", "tail")


def test_an_instrument_that_was_never_captured_has_no_tail():
    """A head alone is no start: what came before the first trade is not a gap."""
    assert Ledger(BTC, "contiguous").expect_up_to(5, "restart") == 0


def test_a_hole_knows_when_its_neighbours_were_made():
    """Venues that are asked by time need it, after a restart too."""
    ledger = ledger_with([10, 20])
    ledger.accept(trades([15]))
    saved = Saved()
    saved.save(ledger.changes())
    for book in (ledger, saved.restored()):
        assert [(h.first_id, h.after_us, h.before_us) for h in book.holes()] == [
            (16, at_us(15), at_us(20)),
            (11, at_us(10), at_us(15)),
        ]


def test_opaque_ids_are_stored_once_and_prove_nothing():
    """A venue without ids in order has no gaps, and still no duplicates."""
    ledger = Ledger(BTC, "opaque")
    assert ledger.accept(trades([9, 3, 9, 70])).keep == [0, 1, 3]
    assert ledger.accept_recent(trades([3, 70, 4])).keep == [2]
    assert (len(ledger.open), ledger.mark, ledger.expect_up_to(100, "tail")) == (0, None, 0)
    assert ledger.changes() == type(ledger.changes())(None, [], [], [])


def test_what_the_lake_holds_above_the_mark_is_learnt():
    """What a backfill stored while nothing was captured is not fetched again; what is between is a hole."""
    ledger = ledger_with([1, 2])
    ledger.learn(Range(5, 9, at_us(5), at_us(9)), "restart")
    assert (ids_of(ledger.open), ledger.mark) == ({3, 4}, 9)
    assert ledger.accept(trades([7, 10])).keep == [1]


@dataclass
class Model:
    """The same books, as sets of ids: slow, and plainly right."""

    start: int | None = None
    mark: int | None = None
    held: set[int] = field(default_factory=set)
    absent: set[int] = field(default_factory=set)
    rejected: set[int] = field(default_factory=set)
    is_settled: bool = False

    @property
    def open(self) -> set[int]:
        if self.start is None or self.mark is None:
            return set()
        return set(range(self.start, self.mark + 1)) - self.held - self.absent - self.rejected

    def accept(self, ids: list[int]) -> tuple[list[int], int]:
        """Return the ids that are new, and how many are resets."""
        new, resets = [], 0
        for i in ids:
            if self.start is None or self.mark is None:
                self.start = self.mark = i
            elif i < self.start:
                if self.is_settled:
                    resets += 1
                    continue
                self.start = i
            if i not in self.held:
                new.append(i)
                self._hold(i)
        return new, resets

    def accept_recent(self, ids: list[int]) -> list[int]:
        floor = self.start if self.is_settled and self.start is not None else -1
        return self.accept(sorted(i for i in ids if i >= floor))[0]

    def heal(self, ids: list[int], rejected: set[int], *, proves_absence: bool) -> list[int]:
        new = [i for i in ids if i in self.open | self.absent | self.rejected]
        for i in new:
            self._hold(i)
        self.rejected |= self.open & rejected - set(ids)
        if proves_absence:
            for a, b in pairwise(ids):
                self.absent |= self.open & set(range(a + 1, b))
        return new

    def expect_up_to(self, head: int) -> None:
        if self.mark is not None:
            self.mark = max(self.mark, head)

    def _hold(self, i: int) -> None:
        self.held.add(i)
        self.absent.discard(i)
        self.rejected.discard(i)
        self.mark = max(self.mark or i, i)


ids = st.integers(0, 40)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("live"), st.lists(ids, min_size=1, max_size=6)),
        st.tuples(st.just("rising"), st.lists(ids, min_size=1, max_size=12).map(sorted)),
        st.tuples(st.just("recent"), st.lists(ids, min_size=1, max_size=6)),
        st.tuples(st.just("page"), st.sets(ids, max_size=15), st.sets(ids, max_size=3), st.booleans()),
        st.tuples(st.just("head"), ids),
        st.tuples(st.just("delivered"), st.sampled_from([1, 2])),
        st.tuples(st.just("restart")),
    ),
    max_size=25,
)


@settings(max_examples=300, deadline=None)
@given(steps=steps)
def test_whatever_comes_in_whatever_order_the_books_are_those_of_the_model(steps):
    """Every id is held exactly once, and what is open is what a set of ids says; restarts and events agree."""
    ledger, model, saved = Ledger(BTC, "contiguous"), Model(), Saved()
    ledger.expects([1, 2])
    delivered: set[int] = set()
    kept: list[int] = []
    for step in steps:
        kept += take(step, ledger, model)
        if step[0] == "delivered":
            delivered.add(step[1])
            ledger.delivered([step[1]])
            model.is_settled = model.is_settled or (model.start is not None and delivered == {1, 2})
        saved.save(ledger.changes())
        if step[0] == "restart":
            ledger = saved.restored()
            ledger.expects([1, 2])
            delivered = set()
            model.is_settled = model.start is not None
        assert len(kept) == len(set(kept))
        assert set(kept) == model.held
        assert (ledger.start, ledger.mark) == (model.start, model.mark)
        for book in (ledger, saved.restored()):
            assert ids_of(book.open) == model.open == open_by_events(saved.events)
            assert ids_of(book.absent) == model.absent
            assert ids_of(book.rejected) == model.rejected
            assert book.open.ids == len(model.open)


def take(step: tuple, ledger: Ledger, model: Model) -> list[int]:
    """Do *step* in both; return the ids that are new."""
    match step:
        case ["live" | "rising", ids]:
            done = ledger.accept(trades(ids))
            new, resets = model.accept(ids)
            assert len(done.refused) == resets
            assert [ids[n] for n in done.keep] == new
            return new
        case ["recent", ids]:
            done = ledger.accept_recent(trades(ids))
            new = model.accept_recent(ids)
            assert sorted(ids[n] for n in done.keep) == sorted(new)
            return new
        case ["page", ids, rejected, proves_absence]:
            page = sorted(ids)
            times = [at_us(i) for i in page]
            done = ledger.heal(page, times, "rest", rejected=rejected, proves_absence=proves_absence)
            new = model.heal(page, rejected, proves_absence=proves_absence)
            assert [page[n] for begin, end in done.keep for n in range(begin, end)] == new
            return new
        case ["head", head]:
            ledger.expect_up_to(head, "tail")
            model.expect_up_to(head)
    return []


@settings(max_examples=200, deadline=None)
@given(steps=st.lists(st.tuples(st.booleans(), ids, st.integers(0, 8)), max_size=20))
def test_ranges_are_the_set_of_their_ids(steps):
    """Adding and removing stretches gives what a set gives, as few ranges as can be."""
    ranges, model = Ranges(), set[int]()
    for adds, first, more in steps:
        wanted = set(range(first, first + more + 1))
        if adds:
            for i in sorted(wanted - model):
                ranges.add(Range(i, i))
            model |= wanted
        else:
            assert ids_of(ranges.remove(first, first + more)) == wanted & model
            model -= wanted
        assert ids_of(ranges) == model
        assert ranges.ids == len(model)
        assert all(b.first > a.last + 1 for a, b in pairwise(ranges))
        assert ids_of(ranges.within(first, first + more)) >= wanted & model
        assert {i for i in range(50) if ranges.around(i)} == model
