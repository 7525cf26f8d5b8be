"""A few hundred recorded trades at venues of this machine, for commands that capture them."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, sleep

from cryptolake.replay.venues.tape import Tape, Track

ROWS = 400
PATIENCE_SECONDS = 60


def short_tape(rows: int = ROWS) -> Tape:
    """Return the last *rows* recorded trades each of BTCUSDT and ETHUSDT; a few of them were made after midnight."""
    return Tape(
        "short",
        [
            Track(track.venue, track.symbol, track.rows.slice(len(track) - rows))
            for track in Tape.recorded().tracks
        ],
    )


def until(is_true: Callable[[], object]) -> None:
    """Wait until *is_true*; another process makes it so."""
    ends_at = monotonic() + PATIENCE_SECONDS
    while not is_true():
        assert monotonic() < ends_at, "it never came true"
        sleep(0.02)
