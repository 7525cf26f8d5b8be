"""What a replayed venue has published by now: all that its REST knows."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from cryptolake.replay.venues.tape import Track
from cryptolake.sources.records import Trade

EPOCH = datetime.fromtimestamp(0, UTC)


class Market:
    """
    One venue's trades as far as they are published.

    *counts* says how many of each symbol are. *unavailable* rows, rising by symbol, were published, but nobody can have
    them again: no page reaches over one, so that none proves anything about its id.
    """

    def __init__(self, tracks: Sequence[Track], unavailable: Mapping[str, Sequence[int]]) -> None:
        self.tracks: Mapping[str, Track] = {track.symbol: track for track in tracks}
        self.unavailable = unavailable
        self.counts = dict.fromkeys(self.tracks, 0)

    @property
    def symbols(self) -> list[str]:
        """The symbols that trade here, sorted."""
        return sorted(self.tracks)

    @property
    def time_us(self) -> int:
        """The venue's time: that of the newest published trade, else that of the first one to come."""
        newest = [
            track.newest_until_us[count - 1]
            for symbol, track in self.tracks.items()
            if (count := self.counts[symbol])
        ]
        coming = [track.newest_until_us[0] for track in self.tracks.values() if len(track)]
        return max(newest) if newest else min(coming, default=0)

    @property
    def time(self) -> datetime:
        """The venue's time."""
        return EPOCH + timedelta(microseconds=self.time_us)

    def newest_row(self, symbol: str) -> int | None:
        """Return the row of the newest published trade, to be had or not; None before the first."""
        return self.counts[symbol] - 1 if self.counts[symbol] else None

    def page(self, symbol: str, row: int, limit: int) -> list[Trade]:
        """Return up to *limit* trades from the first to be had at or after *row*, by rising id."""
        row, stop = max(row, 0), self.counts[symbol]
        gone = self.unavailable.get(symbol, ())
        at = bisect_left(gone, row)
        while at < len(gone) and gone[at] == row:
            row, at = row + 1, at + 1
        stop = min(stop, row + limit, gone[at] if at < len(gone) else stop)
        return self.tracks[symbol].trades(row, stop)

    def page_before(self, symbol: str, row: int, limit: int) -> list[Trade]:
        """Return up to *limit* trades up to the last to be had below *row*, by rising id."""
        stop = min(max(row, 0), self.counts[symbol])
        gone = self.unavailable.get(symbol, ())
        at = bisect_left(gone, stop)
        while at > 0 and gone[at - 1] == stop - 1:
            stop, at = stop - 1, at - 1
        start = max(stop - limit, 0, gone[at - 1] + 1 if at > 0 else 0)
        return self.tracks[symbol].trades(start, stop)

    def recent(self, symbol: str, limit: int) -> list[Trade]:
        """Return the newest trades to be had, up to *limit*, by rising id."""
        return self.page_before(symbol, self.counts[symbol], limit)

    def is_whole(self, symbol: str, start: int, stop: int) -> bool:
        """Say whether all rows from *start* to *stop* (excluded) can be had."""
        gone = self.unavailable.get(symbol, ())
        return bisect_left(gone, start) == bisect_left(gone, stop)


def iso(moment_us: int) -> str:
    """
    Return an instant as venues print it where it is text, with six places of a second.

    >>> iso(1_756_092_957_198_335)
    '2025-08-25T03:35:57.198335Z'

    """
    return f"{_second(moment_us // 1_000_000)}.{moment_us % 1_000_000:06d}Z"


@lru_cache(maxsize=4096)
def _second(second: int) -> str:
    return (EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S")
