"""Who plays which part when a tape is put on: dialect, market and stage of each venue."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from cryptolake.errors import ConfigError
from cryptolake.replay.venues.binance import Binance
from cryptolake.replay.venues.binance_archive import ArchiveStyle
from cryptolake.replay.venues.coinbase import Coinbase
from cryptolake.replay.venues.dialect import Dialect
from cryptolake.replay.venues.faults import Schedule
from cryptolake.replay.venues.kraken import Kraken
from cryptolake.replay.venues.market import Market
from cryptolake.replay.venues.okx import Okx
from cryptolake.replay.venues.playback import Pace, Publication
from cryptolake.replay.venues.reel import Reel
from cryptolake.replay.venues.tape import Tape, Track
from cryptolake.replay.venues.websocket import Stage

VENUES = ("binance", "coinbase", "kraken", "okx")

Unavailable = Mapping[tuple[str, str], Collection[int]]


class Cast:
    """The parts of *venues* for the tape that is on; *unavailable* has the ids that nobody can have."""

    def __init__(self, venues: Sequence[str], schedule: Schedule, pace: Pace, archive: ArchiveStyle) -> None:
        every: Mapping[str, Dialect] = {
            dialect.name: dialect for dialect in (Binance(archive), Coinbase(), Kraken(), Okx())
        }
        self.venues = venues
        self.dialects = {venue: every[venue] for venue in venues}
        self.tape = Tape("nothing", ())
        self.unavailable: Mapping[tuple[str, str], frozenset[int]] = {}
        self.markets: dict[str, Market] = {}
        self.stages: dict[str, Stage] = {}
        self._schedule = schedule
        self._pace = pace

    def put_on(self, tape: Tape, unavailable: Unavailable, wake: Callable[[], None]) -> None:
        """Begin *tape*; stages that are there stay, with their connections."""
        self.tape = tape
        played = [track for track in tape.tracks if track.venue in self.venues]
        gone = {(t.venue, t.symbol): self._gone_rows(t, unavailable) for t in played}
        self.unavailable = {
            (t.venue, t.symbol): frozenset(t.ids[row] for row in gone[t.venue, t.symbol]) for t in played
        }
        begins_at_ns = min((track.moments_ns[0] for track in played if len(track)), default=0)
        total = max(sum(map(len, played)), 1)
        for venue in self.venues:
            tracks = tape.of(venue)
            market = Market(tracks, {track.symbol: gone[venue, track.symbol] for track in tracks})
            reel = Reel(self.dialects[venue], tracks, market)
            publication = Publication(reel, self._pace, begins_at_ns, len(reel) / total)
            self.markets[venue] = market
            if venue in self.stages:
                self.stages[venue].go_on_with(publication)
            else:
                self.stages[venue] = Stage(publication, self._schedule, wake)

    def _gone_rows(self, track: Track, unavailable: Unavailable) -> list[int]:
        """Return the rows of *track* that nobody can have, rising."""
        asked = unavailable.get((track.venue, track.symbol), ())
        rows = {track.row_of(trade_id) for trade_id in asked}
        if len(asked) != len(rows) or not all(row < len(track) and track.ids[row] in asked for row in rows):
            raise ConfigError(
                f"not all ids that shall be unavailable are trades of {track.venue}:{track.symbol}"
            )
        return sorted(rows | set(self._schedule.gone(track)))
