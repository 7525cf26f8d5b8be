"""`Ledger`: which ids of an instrument are held, missing, absent or rejected. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Literal

from cryptolake.capture.entries import Accepted, Changes, Event, GapEvent, Healed, Mark, State, Via
from cryptolake.capture.instruments import Instrument
from cryptolake.capture.ranges import Range, Ranges
from cryptolake.sources.records import Trade
from cryptolake.sources.venue import Hole, IdKind

REMEMBERED = 16_384
"""How many of its newest trades a ledger compares with, unless told otherwise; at times up to twice as many."""

LATER_US = 60_000_000
"""Trade times of one venue may disagree with its ids a little; a relisting comes much later."""


class Ledger:
    """
    The books of one instrument.

    Every id from `start` to `mark` is held, unless it is in `open`, `absent` or `rejected`. A venue whose ids
    prove nothing (`opaque`) has no start, no mark and no gaps: what is remembered is not taken twice.

    Methods that change it only collect what has to be made durable, until `changes` is called.
    """

    def __init__(self, instrument: Instrument, id_kind: IdKind, *, remembered: int = REMEMBERED) -> None:
        self.instrument = instrument
        self.has_coverage = id_kind != "opaque"
        self.start: int | None = None
        self.mark: int | None = None
        self.mark_us: int | None = None
        """When the trade `mark` was made; None where that is not known."""
        self.open, self.absent, self.rejected = Ranges(), Ranges(), Ranges()
        self.holes_opened = 0
        """Since the ledger was made or restored."""
        self._holes_before = 0
        self._young: dict[int, Trade] = {}
        self._old: dict[int, Trade] = {}
        self._remembered = remembered
        self._is_settled = False
        self._expected: frozenset[int] = frozenset()
        self._delivered: set[int] = set()
        self._events: list[GapEvent] = []
        self._saved: Mark | None = None

    def restore(self, mark: Mark | None, ranges: Iterable[tuple[State, Range]]) -> None:
        """Become what was saved: a *mark* and the *ranges* by state."""
        by_state: dict[str, list[Range]] = {"open": [], "absent": [], "rejected": []}
        for state, saved in ranges:
            by_state[state].append(saved)
        self.open, self.absent, self.rejected = (Ranges(by_state[s]) for s in ("open", "absent", "rejected"))
        self._holes_before = len(self.open)
        self._saved = mark
        if mark is not None:
            self.start, self.mark, self.mark_us = mark
            self._is_settled = True

    @property
    def holes_closed(self) -> int:
        """Return how many holes there are fewer than there were, and were opened since."""
        return max(0, self._holes_before + self.holes_opened - len(self.open))

    @property
    def is_settled(self) -> bool:
        """Say whether the start is final; see `expects`."""
        return self._is_settled or not self.has_coverage

    @property
    def dated_us(self) -> int | None:
        """Return when the mark was made or, where nobody knows, the nearest trade below it that is held."""
        if self.mark_us is None and self.mark is not None and (tail := self.open.around(self.mark)):
            return tail.after_us
        return self.mark_us

    def expects(self, connections: Collection[int]) -> None:
        """Accept trades below the start until each of *connections* has delivered once."""
        self._expected = frozenset(connections)

    def delivered(self, connections: Collection[int]) -> None:
        """Note that *connections* have delivered trades, and what they delivered was accepted."""
        self._delivered.update(connections)
        if self.start is not None and self._expected <= self._delivered:
            self._is_settled = True

    def unheld(self, trades: Sequence[Trade]) -> list[int]:
        """Return the positions of those that equal no trade remembered, nor one before them; changes nothing."""
        mark = -1 if self.mark is None else self.mark
        young, old, seen = self._young, self._old, dict[int, Trade]()
        found: list[int] = []
        for n, trade in enumerate(trades):
            trade_id = trade.trade_id
            if trade_id > mark:
                twin = seen.setdefault(trade_id, trade)
            else:
                twin = young.get(trade_id) or old.get(trade_id)
            if (
                twin is trade
                or twin is None
                or twin.price != trade.price
                or twin.quantity != trade.quantity
                or twin.traded_at_us != trade.traded_at_us
                or twin.is_buyer_maker != trade.is_buyer_maker
            ):
                found.append(n)
        return found

    def accept(self, trades: Sequence[Trade]) -> Accepted:
        """Take live *trades* in the order in which they came."""
        if not self.has_coverage:
            return self._accept_opaque(trades)
        kept: list[int] = []
        refused: list[tuple[int, str]] = []
        if not trades:
            return Accepted(kept, refused)
        if self.mark is None:
            self.start = trades[0].trade_id
            self.mark = self.start - 1
        mark, young, old, keep = self.mark, self._young, self._old, kept.append
        newest: Trade | None = None
        for n, trade in enumerate(trades):
            trade_id = trade.trade_id
            if trade_id == mark + 1:
                mark, newest = trade_id, trade
            elif trade_id <= mark:
                twin = young.get(trade_id) or old.get(trade_id)
                if (
                    twin is not None
                    and twin.price == trade.price
                    and twin.quantity == trade.quantity
                    and twin.traded_at_us == trade.traded_at_us
                    and twin.is_buyer_maker == trade.is_buyer_maker
                ):
                    continue
                self._advance(mark, newest)
                is_new, why = self._below_mark(trade, twin)
                if not is_new:
                    refused += [(n, why)] if why else ()
                    continue
            else:
                self._advance(mark, newest)
                self._open(mark + 1, trade_id - 1, "sequence gap", trade.traded_at_us)
                mark, newest = trade_id, trade
            keep(n)
            young[trade_id] = trade
        self._advance(mark, newest)
        self._forget()
        return Accepted(kept, refused)

    def accept_recent(self, trades: Sequence[Trade]) -> Accepted:
        """
        Take what a venue sends at subscription: as live trades, but what lies below the start is not asked for.

        While the start may still move it moves down step by step, so that no hole opens above it that closes at once.
        """
        by_id = sorted(range(len(trades)), key=lambda n: trades[n].trade_id)
        start = self.start if self.start is not None else -1
        wanted = [n for n in by_id if trades[n].trade_id >= start]
        if not self._is_settled:
            wanted = [n for n in reversed(by_id) if trades[n].trade_id < start] + wanted
        done = self.accept([trades[n] for n in wanted])
        return Accepted([wanted[n] for n in done.keep], [(wanted[n], why) for n, why in done.refused])

    def heal(
        self,
        ids: Sequence[int],
        times_us: Sequence[int],
        via: Via,
        *,
        rejected: Collection[int] = (),
        proves_absence: bool = True,
        after: int | None = None,
    ) -> Healed:
        """
        Take from one answer what is not held; what it says beyond the gaps changes nothing.

        Args:
            ids: of its trades, strictly rising.
            times_us: when they were made.
            via: who answered.
            rejected: ids of its records that cannot be trusted.
            proves_absence: False where one of its records has no readable id: it may be any that seems absent.
            after: the id that the answer held just before these; see `HealOutcome.last_id`.
        """
        keep: list[tuple[int, int]] = []
        if not self.has_coverage:
            return Healed(keep, 0, 0, 0)
        for begin, end in _runs(ids):
            times = (times_us[begin], times_us[end - 1])
            for first, last in self._fill(ids[begin], ids[end - 1], times, via):
                keep.append((begin + first - ids[begin], begin + last - ids[begin] + 1))
                if last == self.mark:
                    self.mark_us = times_us[begin + last - ids[begin]]
        bad = sum(self._close("rejected", wrong, wrong, via) for wrong in sorted(set(rejected) - set(ids)))
        gone = 0
        if proves_absence:
            for below, above in pairwise(ids if after is None else (after, *ids)):
                if above - below > 1:
                    gone += self._close("absent", below + 1, above - 1, via)
        return Healed(keep, sum(end - begin for begin, end in keep), gone, bad)

    def expect_up_to(self, head_id: int, reason: str) -> int:
        """Open what is between the mark and *head_id*, which the venue knows, for *reason*; return how many ids."""
        if not self.has_coverage or self.mark is None or head_id <= self.mark:
            return 0
        opened = head_id - self.mark
        self._open(self.mark + 1, head_id, reason, None)
        self.mark, self.mark_us = head_id, None
        return opened

    def learn(self, held: Range, reason: str) -> None:
        """Note that the ids of *held*, which lie above the mark, are held; what is between becomes a hole for *reason*."""
        if self.mark is None:
            self.start = held.first
        elif held.first > self.mark + 1:
            self._open(self.mark + 1, held.first - 1, reason, held.after_us)
        self.mark, self.mark_us, self._is_settled = held.last, held.before_us, True

    def answer_for(self, said: Mark, reason: str) -> None:
        """Note that all ids of *said* were held or known to be missing once; those outside what is known now are holes for *reason*."""
        if self.mark is None or self.start is None:
            self.start, self.mark = said.start, said.start - 1
        if said.start < self.start:
            self._open_range(Range(said.start, self.start - 1, None, self._made_at(self.start)), reason)
            self.start = said.start
        self.expect_up_to(said.mark, reason)
        self._is_settled = True

    def apply(self, first: int, last: int, event: Event) -> int:
        """Apply an event that is in the lake already to the open ids; return how many it closed."""
        pieces = self.open.remove(first, last) if event != "missing" else []
        if event in {"absent", "rejected"}:
            for a, b in pieces:
                (self.absent if event == "absent" else self.rejected).add(Range(a, b))
        return sum(b - a + 1 for a, b in pieces)

    def announce(self, reason: str) -> None:
        """Say of all that is open that it is missing, for *reason*; the lake may or may not know."""
        self._events = [e for e in self._events if e.event != "missing"]
        self._events += [GapEvent(hole.first, hole.last, "missing", reason) for hole in self.open]

    def holes(self) -> list[Hole]:
        """Return what is open, newest first."""
        return [
            Hole(
                self.instrument.symbol,
                hole.first,
                hole.last,
                hole.after_us if hole.after_us is not None else self._made_at(hole.first - 1),
                hole.before_us if hole.before_us is not None else self._made_at(hole.last + 1),
            )
            for hole in reversed(self.open)
        ]

    def remember(self, trades: Iterable[Trade]) -> None:
        """Compare later trades with these as well."""
        self._young.update((trade.trade_id, trade) for trade in trades)
        self._forget()

    def changes(self) -> Changes:
        """Return what has changed since the last call, and hold it to be saved."""
        mark = None
        if self.start is not None and self.mark is not None:
            mark = Mark(self.start, self.mark, self.mark_us)
        moved, self._saved = mark if mark != self._saved else None, mark
        events, self._events = self._events, list[GapEvent]()
        put: list[tuple[State, Range]] = []
        dropped: list[tuple[State, int]] = []
        states: tuple[tuple[State, Ranges], ...] = (
            ("open", self.open),
            ("absent", self.absent),
            ("rejected", self.rejected),
        )
        for state, ranges in states:
            new, gone = ranges.touched()
            put += [(state, r) for r in new]
            dropped += [(state, first) for first in gone]
        return Changes(moved, put, dropped, events)

    def _accept_opaque(self, trades: Sequence[Trade]) -> Accepted:
        kept: list[int] = []
        for n, trade in enumerate(trades):
            if trade.trade_id not in self._young and trade.trade_id not in self._old:
                self._young[trade.trade_id] = trade
                kept.append(n)
        self._forget()
        return Accepted(kept, [])

    def _below_mark(self, trade: Trade, twin: Trade | None) -> tuple[bool, str]:
        """Say whether an id at or below the mark is new, or why it cannot be; neither: it is held."""
        at_us, trade_id = trade.traded_at_us, trade.trade_id
        if twin is not None:
            return False, "" if _is_same(trade, twin) else self._reset(
                trade_id, "differs from the trade held"
            )
        start = self.start
        if start is not None and trade_id < start:
            if self._is_settled:
                return False, self._reset(trade_id, f"is below {start}, the first id captured")
            self.start = trade_id
            if start - trade_id > 1:
                hole = Range(trade_id + 1, start - 1, at_us, self._made_at(start))
                self._open_range(hole, "sequence gap")
            return True, ""
        if self._fill(trade_id, trade_id, (at_us, at_us), "twin"):
            if trade_id == self.mark:
                self.mark_us = at_us
            return True, ""
        if self.mark_us is not None and at_us > self.mark_us + LATER_US:
            return False, self._reset(trade_id, f"is held, but was made after {self.mark}")
        return False, ""

    def _reset(self, trade_id: int, what: str) -> str:
        name, symbol = self.instrument.name, self.instrument.symbol
        return (
            f"id_reset: trade {trade_id} of {name} {what}. If the symbol was listed anew, give the new listing "
            f"a symbol of its own, as in capture.aliases = {{'{name}': '{symbol}#2'}}, and start again"
        )

    def _advance(self, mark: int, newest: Trade | None) -> None:
        self.mark = mark
        if newest is not None:
            self.mark_us = newest.traded_at_us

    def _open(self, first: int, last: int, reason: str, before_us: int | None) -> None:
        self._open_range(Range(first, last, self.mark_us, before_us), reason)

    def _open_range(self, hole: Range, reason: str) -> None:
        self.open.add(hole)
        self.holes_opened += 1
        self._tell(GapEvent(hole.first, hole.last, "missing", reason))

    def _fill(self, first: int, last: int, times_us: tuple[int, int], via: Via) -> list[tuple[int, int]]:
        pieces: list[tuple[int, int]] = []
        for ranges in (self.open, self.absent, self.rejected):
            if ranges.ids:
                pieces += ranges.remove(first, last, times_us)
        pieces.sort()
        for a, b in pieces:
            self._tell(GapEvent(a, b, "filled", "received", via))
        return pieces

    def _close(self, event: Literal["absent", "rejected"], first: int, last: int, via: Via) -> int:
        closed = 0
        for a, b in self.open.remove(first, last):
            (self.absent if event == "absent" else self.rejected).add(Range(a, b))
            reason = "its neighbours are adjacent" if event == "absent" else "its record cannot be trusted"
            self._tell(GapEvent(a, b, event, reason, via))
            closed += b - a + 1
        return closed

    def _tell(self, new: GapEvent) -> None:
        """Collect an event; one that continues the last becomes part of it."""
        if self._events:
            last = self._events[-1]
            if last.last_id + 1 == new.first_id and last[2:] == new[2:]:
                self._events[-1] = last._replace(last_id=new.last_id)
                return
        self._events.append(new)

    def _made_at(self, trade_id: int) -> int | None:
        trade = self._young.get(trade_id) or self._old.get(trade_id)
        return trade.traded_at_us if trade else None

    def _forget(self) -> None:
        if len(self._young) > self._remembered:
            self._old, self._young = self._young, dict[int, Trade]()


def _is_same(a: Trade, b: Trade) -> bool:
    """Say whether two trusted trades are one, however their decimals are printed."""
    return (a.traded_at_us, a.is_buyer_maker) == (b.traded_at_us, b.is_buyer_maker) and (
        Decimal(a.price) == Decimal(b.price) and Decimal(a.quantity) == Decimal(b.quantity)
    )


def _runs(ids: Sequence[int]) -> list[tuple[int, int]]:
    """Return the positions *(begin, end)* of the stretches of *ids* without a hole."""
    if not ids:
        return []
    cuts = [n for n, (a, b) in enumerate(pairwise(ids), 1) if b - a > 1]
    return list(zip([0, *cuts], [*cuts, len(ids)], strict=True))
