"""What came in one batch of frames: decoded, checked, and taken into the books."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa
import structlog

from cryptolake.capture.batch import LARGEST_ID, Checked, RejectRow, check, trade_rows
from cryptolake.capture.ledger import Ledger
from cryptolake.errors import BadRecordError
from cryptolake.sources.records import Control, Recent, Trade
from cryptolake.sources.venue import Venue

Frame = tuple[bytes, int]
"""The payload of a WebSocket frame, and when it was received (microseconds since 1970-01-01 UTC)."""

SEEN_FRAMES = 16_384
"""How many of a venue's newest frames are compared with, at times up to twice as many."""

log = structlog.get_logger(__name__)


class Seen:
    """
    The newest frames with one trade each, and its symbol: a twin's copy, byte by byte, needs no second look.

    A trade frame names its id, so the same bytes are the same trade.
    """

    def __init__(self) -> None:
        self.young: dict[bytes, str] = {}
        self.old: dict[bytes, str] = {}

    def apart(self, frames: Sequence[Frame]) -> tuple[list[Frame], list[Frame], Counter[str]]:
        """Return those of *frames* that are none of these, those that are, and how many of these by symbol."""
        if len(self.young) > SEEN_FRAMES:
            self.old, self.young = self.young, dict[bytes, str]()
        young, old = self.young, self.old
        fresh, copies, copied = list[Frame](), list[Frame](), Counter[str]()
        for frame in frames:
            symbol = young.get(frame[0]) or old.get(frame[0])
            if symbol is None:
                fresh.append(frame)
            else:
                copies.append(frame)
                copied[symbol] += 1
        return fresh, copies, copied

    def forget(self, payload: bytes) -> None:
        """Look at later copies of a frame again: its trade was refused."""
        self.young.pop(payload, None)
        self.old.pop(payload, None)


@dataclass(frozen=True)
class Stretch:
    """Trades of one ledger that came in turn, by their *positions*; from before the subscription or live."""

    ledger: Ledger
    is_recent: bool
    positions: list[int]


@dataclass(frozen=True)
class Taken:
    """What became of a stretch: how many trades were *received*, *new* and *refused*, and the *last* one and its time."""

    ledger: Ledger
    received: int
    new: int
    refused: int
    last: Trade
    received_at_us: int


class _Kept(NamedTuple):
    """New trades by their position in the batch, and by their row among those that were checked."""

    positions: list[int]
    rows: list[int]


class Arrivals:
    """The trades of one batch, in the order in which they came."""

    def __init__(self, ledgers: Mapping[tuple[str, str], Ledger], seen: Mapping[str, Seen]) -> None:
        self._ledgers, self._seen = ledgers, seen
        self._is_starting = not all(ledger.is_settled for ledger in ledgers.values())
        self._heard: dict[Ledger, set[int]] = {}
        self._trades: list[Trade] = []
        self._origins: list[Frame] = []
        self._stretches: list[Stretch] = []
        self._current: dict[str, dict[str, list[int] | None]] = {}
        self.frame_count = 0
        self.copies = Counter[Ledger]()
        """Frames that were copies of frames seen before."""
        self._copied: list[Frame] = []
        self.rejects: list[RejectRow] = []

    def read(
        self,
        venue: Venue,
        connection: int,
        frames: Sequence[Frame],
        on_control: Callable[[str, int, Control], None],
    ) -> None:
        """Decode *frames* that a *connection* of *venue* read; frames that are not trades go to *on_control*."""
        begin = len(self._trades)
        decode, trades, origins = venue.feed.decode, self._trades, self._origins
        current = self._current.setdefault(venue.name, {})
        fresh, copies, copied = self._seen[venue.name].apart(frames)
        seen = self._seen[venue.name].young
        for frame in fresh:
            try:
                said = decode(frame[0])
            except BadRecordError as e:
                self._reject(venue.name, e, frame)
                continue
            if isinstance(said, list):
                for trade in said:
                    positions = current.get(trade.symbol)
                    if positions is None:
                        positions = self._begin(venue.name, trade.symbol, is_recent=False)
                        if positions is None:
                            continue
                    positions.append(len(trades))
                    trades.append(trade)
                    origins.append(frame)
                    if len(said) == 1:
                        seen[frame[0]] = trade.symbol
            elif isinstance(said, Recent):
                self._add_recent(venue.name, said, frame)
            else:
                on_control(venue.name, connection, said)
        self.frame_count += len(frames)
        self._copied += copies
        self.copies.update({self._ledgers[venue.name, symbol]: n for symbol, n in copied.items()})
        if self._is_starting:
            self._hear(venue.name, connection, {*copied, *(trade.symbol for trade in trades[begin:])})

    def take(self) -> tuple[list[pa.RecordBatch], list[Taken]]:
        """Take all into the ledgers; return the rows that are new, and what became of each stretch."""
        for reject in self.rejects[:1]:
            log.error("frames.rejected", venue=reject.venue, frames=len(self.rejects), reason=reject.reason)
        unheld = [
            [s.positions[n] for n in s.ledger.unheld([self._trades[p] for p in s.positions])]
            for s in self._stretches
        ]
        checked = self._check(unheld)
        bad: dict[int, str] = {}
        if checked.bad:  # then every copy is looked at, as each that is refused has a row of its own
            unheld = [s.positions for s in self._stretches]
            checked = self._check(unheld)
            every = [p for positions in unheld for p in positions]
            bad = {every[n]: reason for n, reason in checked.bad}
            unheld = [[p for p in positions if p not in bad] for positions in unheld]
        kept, rows, names, taken = _Kept([], []), 0, list[tuple[str, str, int]](), list[Taken]()
        for stretch, positions in zip(self._stretches, unheld, strict=True):
            ledger, trades = stretch.ledger, [self._trades[p] for p in positions]
            done = ledger.accept_recent(trades) if stretch.is_recent else ledger.accept(trades)
            kept.positions.extend([positions[n] for n in done.keep])
            kept.rows.extend([rows + n for n in done.keep])
            rows += len(positions)
            names.append((ledger.instrument.venue, ledger.instrument.stored_as, len(done.keep)))
            refused = {positions[n]: why for n, why in done.refused}
            if refused:
                refused |= self._copies_of(refused, stretch)
            refused |= {p: bad[p] for p in stretch.positions if p in bad} if bad else {}
            taken.append(self._taken(stretch, len(done.keep), self._refuse(ledger, refused)))
        for ledger, connections in self._heard.items():
            ledger.delivered(connections)
        return self._rows(kept, names, checked), taken

    def _hear(self, venue: str, connection: int, symbols: Collection[str]) -> None:
        for symbol in symbols:
            self._heard.setdefault(self._ledgers[venue, symbol], set()).add(connection)

    def _check(self, positions: Sequence[Sequence[int]]) -> Checked:
        return check([self._trades[p] for its in positions for p in its])

    def _rows(
        self, kept: _Kept, names: Sequence[tuple[str, str, int]], checked: Checked
    ) -> list[pa.RecordBatch]:
        if not kept.rows:
            return []
        prices, quantities = checked.prices, checked.quantities
        if len(kept.rows) < len(prices):
            wanted = pa.array(kept.rows, pa.int64())
            prices, quantities = prices.take(wanted), quantities.take(wanted)
        trades = [self._trades[p] for p in kept.positions]
        received = [self._origins[p][1] for p in kept.positions]
        return [trade_rows(names, trades, (prices, quantities), received, "websocket")]

    def _taken(self, stretch: Stretch, new: int, refused: int) -> Taken:
        last = stretch.positions[-1]
        received_at_us = self._origins[last][1]
        return Taken(stretch.ledger, len(stretch.positions), new, refused, self._trades[last], received_at_us)

    def _begin(self, venue: str, symbol: str, *, is_recent: bool) -> list[int] | None:
        ledger = self._ledgers.get((venue, symbol))
        if ledger is None:
            log.debug("trade.not_asked_for", venue=venue, symbol=symbol)
            return None
        positions: list[int] = []
        self._stretches.append(Stretch(ledger, is_recent, positions))
        self._current[venue][symbol] = None if is_recent else positions
        return positions

    def _add_recent(self, venue: str, recent: Recent, frame: Frame) -> None:
        for symbol in dict.fromkeys(trade.symbol for trade in recent.trades):
            if (positions := self._begin(venue, symbol, is_recent=True)) is not None:
                its = [trade for trade in recent.trades if trade.symbol == symbol]
                positions += range(len(self._trades), len(self._trades) + len(its))
                self._trades += its
                self._origins += [frame] * len(its)

    def _reject(self, venue: str, e: BadRecordError, frame: Frame) -> None:
        ledger = self._ledgers.get((venue, e.symbol or ""))
        symbol = ledger.instrument.stored_as if ledger else e.symbol
        trade_id = e.trade_id if e.trade_id is not None and 0 <= e.trade_id <= LARGEST_ID else None
        self.rejects.append(
            RejectRow(venue, venue, symbol, trade_id, frame[1], e.reason, e.payload or frame[0])
        )

    def _copies_of(self, refused: Mapping[int, str], stretch: Stretch) -> dict[int, str]:
        """Return those of *stretch* that equal a trade that was *refused*, with the reason: each copy has a row."""
        reasons = {_facts(self._trades[p]): why for p, why in refused.items()}
        facts = {p: _facts(self._trades[p]) for p in stretch.positions}
        return {p: reasons[facts[p]] for p in stretch.positions if facts[p] in reasons}

    def _refuse(self, ledger: Ledger, refused: Mapping[int, str]) -> int:
        """Set the trades at these positions apart, and all frames of this batch that are copies of theirs; return how many."""
        if not refused:
            return 0
        copies: dict[bytes, list[int]] = {}
        for payload, at_us in self._copied:
            copies.setdefault(payload, []).append(at_us)
        before = len(self.rejects)
        for position, reason in refused.items():
            payload, received_at_us = self._origins[position]
            self._seen[ledger.instrument.venue].forget(payload)
            for at_us in (received_at_us, *copies.pop(payload, ())):
                self.rejects.append(reject_of(ledger, self._trades[position], reason, at_us, payload))
        count = len(self.rejects) - before
        log.error(
            "trades.rejected",
            instrument=ledger.instrument.name,
            trades=count,
            reason=next(iter(refused.values())),
        )
        return count


def _facts(trade: Trade) -> tuple[int, str, str, int, bool]:
    return trade.trade_id, trade.price, trade.quantity, trade.traded_at_us, trade.is_buyer_maker


def reject_of(ledger: Ledger, trade: Trade, reason: str, received_at_us: int, payload: bytes) -> RejectRow:
    """Return the row of a *trade* that is not taken for a *reason*."""
    instrument = ledger.instrument
    trade_id = trade.trade_id if 0 <= trade.trade_id <= LARGEST_ID else None
    return RejectRow(
        instrument.venue, instrument.venue, instrument.stored_as, trade_id, received_at_us, reason, payload
    )
