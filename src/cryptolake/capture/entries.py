"""What a ledger writes down: marks, events, and what became of trades."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from cryptolake.capture.ranges import Range

State = Literal["open", "absent", "rejected"]
Event = Literal["missing", "filled", "absent", "rejected"]
Via = Literal["twin", "rest", "archive"]


class GapEvent(NamedTuple):
    """What became of the ids from *first_id* to *last_id*; *resolved_by* is None for what is missing."""

    first_id: int
    last_id: int
    event: Event
    reason: str
    resolved_by: Via | None = None


class Mark(NamedTuple):
    """The lowest and the highest id that a ledger answers for, and when the newest trade held was made."""

    start: int
    mark: int
    mark_us: int | None


@dataclass(frozen=True)
class Changes:
    """What has to be made durable: the *mark* if it moved, ranges by state that are new or gone, and events."""

    mark: Mark | None
    put: list[tuple[State, Range]]
    dropped: list[tuple[State, int]]
    events: list[GapEvent]


class Accepted(NamedTuple):
    """Positions of the trades to *keep*, and of those that are *refused*, with the reason; the others are held."""

    keep: list[int]
    refused: list[tuple[int, str]]


class Healed(NamedTuple):
    """Positions to keep, as slices *(begin, end)*, and how many ids were filled, proven absent and rejected."""

    keep: list[tuple[int, int]]
    filled: int
    absent: int
    rejected: int
