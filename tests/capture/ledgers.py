"""What the tests of the books share: trades by their ids, a venue of our own, and what a ledger would save."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime

import msgspec

from cryptolake.capture.entries import Changes, GapEvent, Mark
from cryptolake.capture.instruments import Instrument
from cryptolake.capture.ledger import Ledger
from cryptolake.capture.ranges import Range
from cryptolake.errors import BadRecordError
from cryptolake.sources.records import Control, Recent, Trade
from cryptolake.sources.venue import Capabilities, Keepalive, TradeHistory, Venue

BTC = Instrument("toy", "BTC", "BTC")
ETH = Instrument("toy", "ETH", "ETH")
DAY_US = 86_400_000_000
START_US = 1_723_075_200_000_000
"""2024-08-08T00:00:00Z."""
NOON = datetime(2024, 8, 8, 12, tzinfo=UTC)


def trade(trade_id: int, symbol: str = "BTC", *, price: str = "", quantity: str = "1.5") -> Trade:
    """Return the trade that the toy venue made under *trade_id*, one a second."""
    return Trade(symbol, trade_id, price or f"{trade_id}.25", quantity, trade_id % 2 == 0, at_us(trade_id))


def trades(ids: Iterable[int], symbol: str = "BTC") -> list[Trade]:
    """Return the trades of *ids*, in their order."""
    return [trade(i, symbol) for i in ids]


def at_us(trade_id: int) -> int:
    """Return when the toy venue made *trade_id*."""
    return START_US + trade_id * 1_000_000


def ids_of(ranges: Iterable[Range | tuple[int, int]]) -> set[int]:
    """Return the ids of *ranges*."""
    return {i for r in ranges for i in range(r[0], r[1] + 1)}


def open_by_events(events: Iterable[GapEvent]) -> set[int]:
    """Return the ids that are missing after *events*, in whatever order they are read."""
    told = list(events)
    missing = ids_of((e.first_id, e.last_id) for e in told if e.event == "missing")
    return missing - ids_of((e.first_id, e.last_id) for e in told if e.event != "missing")


class Saved:
    """What a spool holds of one ledger."""

    def __init__(self) -> None:
        self.mark: Mark | None = None
        self.ranges: dict[tuple[str, int], Range] = {}
        self.events: list[GapEvent] = []

    def save(self, changes: Changes) -> None:
        """Apply *changes* as the spool does."""
        self.mark = changes.mark or self.mark
        for key in changes.dropped:
            self.ranges.pop(key, None)
        self.ranges.update({(state, saved.first): saved for state, saved in changes.put})
        self.events += changes.events

    def restored(self, instrument: Instrument = BTC) -> Ledger:
        """Return a ledger made from it."""
        ledger = Ledger(instrument, "contiguous")
        ledger.restore(self.mark, [(state, saved) for (state, _), saved in self.ranges.items()])
        return ledger


class ToyFeed:
    """
    Frames of JSON: a list of [symbol, id, price, quantity] is live trades, an object with `recent` those from before.

    Any other object is a heartbeat.
    """

    keepalive: Keepalive | None = None

    def url(self, base: str, symbols: Sequence[str]) -> str:
        """Return the address, which nobody connects to."""
        return f"{base}/{','.join(symbols)}"

    def greetings(self, symbols: Sequence[str]) -> Sequence[bytes]:
        """Return nothing: there is nobody to greet."""
        return ()

    def decode(self, frame: bytes) -> list[Trade] | Recent | Control:
        """Return what *frame* says."""
        try:
            said = msgspec.json.decode(frame)
        except msgspec.DecodeError as e:
            raise BadRecordError("toy", str(e), frame) from e
        if isinstance(said, list):
            return [_trade(*each) for each in said]
        if "recent" in said:
            return Recent([_trade(*each) for each in said["recent"]])
        return Control("heartbeat")


def _trade(symbol: str, trade_id: int, price: str, quantity: str) -> Trade:
    return Trade(symbol, trade_id, price, quantity, trade_id % 2 == 0, at_us(trade_id))


def frame(ids: Iterable[int], symbol: str = "BTC", *, price: str = "") -> tuple[bytes, int]:
    """Return a frame of live trades, received when the last was made."""
    its = trades(ids, symbol)
    said = [[t.symbol, t.trade_id, price or t.price, t.quantity] for t in its]
    return msgspec.json.encode(said), its[-1].traded_at_us


def recent_frame(ids: Iterable[int], symbol: str = "BTC") -> tuple[bytes, int]:
    """Return a frame of trades from before the subscription."""
    live, at = frame(ids, symbol)
    return b'{"recent":' + live + b"}", at


def _no_history(*_: object) -> AbstractContextManager[TradeHistory]:
    raise AssertionError("the books ask nobody")


TOY = Venue(
    "toy",
    Capabilities("contiguous", "ours", "rising", "id", True, 10, None, None),
    ToyFeed(),
    _no_history,
)
VENUES = {"toy": TOY}
