"""Which snapshots a commit expires, so that metadata and commit time stay flat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from itertools import pairwise

from cryptolake.contracts import Retention

NEWEST_KEPT = 20
"""A thinned table keeps this many of its newest snapshots whole."""


def expired(
    log: Sequence[tuple[int, int]], now_ms: int, retention: Retention, protected: Iterable[int] = ()
) -> list[int]:
    """
    Return the ids of the snapshots that *retention* no longer keeps.

    Args:
        log: (timestamp_ms, snapshot id) of the main branch, oldest first.
        now_ms: the time of the commit, milliseconds.
        retention: the promise of the table's contract.
        protected: ids that stay whatever their age (heads of branches, tags).

    A snapshot is kept while it was the current one at some moment within the age, so every
    `--as-of` within the age has its answer.

    >>> expired([(0, 1), (10, 2), (20, 3), (9_000, 4)], 10_000, Retention(timedelta(seconds=5)))
    [1, 2]
    """
    cutoff = now_ms - _ms(retention.age)
    gone = {old for (_, old), (replaced_ms, _) in pairwise(log) if replaced_ms <= cutoff}
    if retention.resolution:
        step = _ms(retention.resolution)
        older = log[:-NEWEST_KEPT]
        gone |= {
            i for (ms, i), (next_ms, _) in zip(older, log[1:], strict=False) if ms // step == next_ms // step
        }
    return [i for _, i in log if i in gone - set(protected)]


def _ms(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)
