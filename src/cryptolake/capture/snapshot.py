"""`Snapshot`: where a capture stands, for eyes and for meters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptolake.capture.healing import HealingState
from cryptolake.capture.lander import LandingState
from cryptolake.capture.line import LineState
from cryptolake.capture.writer import InstrumentStats


@dataclass(frozen=True)
class Pace:
    """An instrument's *stats*, and how many new trades a second came since the snapshot before."""

    stats: InstrumentStats
    trades_per_second: float


@dataclass(frozen=True)
class Snapshot:
    """
    Where a capture stands.

    *seconds* since it began; *backlog* frames are not yet durable; *is_full* says that the spool is over its
    quota, so nothing is read; *unreadable* frames went to the rejects and do not say what they are of; *refresh_problem* why bars were not brought up to date, empty where they were.
    """

    seconds: float
    instruments: Sequence[Pace]
    lines: Sequence[LineState]
    healing: Sequence[HealingState]
    landing: LandingState
    backlog: int
    is_full: bool
    unreadable: int = 0
    refresh_problem: str = ""

    @property
    def open_gaps(self) -> int:
        """Return how many ranges of ids are missing, over all instruments."""
        return sum(pace.stats.open_gaps for pace in self.instruments)

    @property
    def open_ids(self) -> int:
        """Return how many ids are missing, over all instruments."""
        return sum(pace.stats.open_ids for pace in self.instruments)
