"""`Ranges`: a set of ids as sorted, disjoint ranges, each with the times of the trades beside it."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator
from typing import NamedTuple


class Range(NamedTuple):
    """
    Ids from *first* to *last*, both inclusive.

    *after_us* is when the trade below was made, *before_us* the one above, where known.
    """

    first: int
    last: int
    after_us: int | None = None
    before_us: int | None = None


class Ranges:
    """
    A set of ids.

    >>> ids = Ranges([Range(1, 9)])
    >>> ids.remove(4, 6), list(ids)
    ([(4, 6)], [Range(first=1, last=3, after_us=None, before_us=None), Range(first=7, last=9, after_us=None, before_us=None)])
    """

    def __init__(self, ranges: Iterator[Range] | list[Range] | tuple[Range, ...] = ()) -> None:
        self._by_first = {r.first: r for r in ranges}
        self._firsts = sorted(self._by_first)
        self._touched: set[int] = set()
        self.ids = sum(r.last - r.first + 1 for r in self)
        """How many ids there are."""

    def __iter__(self) -> Iterator[Range]:
        return (self._by_first[first] for first in self._firsts)

    def __reversed__(self) -> Iterator[Range]:
        return (self._by_first[first] for first in reversed(self._firsts))

    def __len__(self) -> int:
        return len(self._firsts)

    def around(self, wanted: int) -> Range | None:
        """Return the range that has the id *wanted*."""
        at = bisect_right(self._firsts, wanted) - 1
        if at >= 0 and wanted <= (found := self._by_first[self._firsts[at]]).last:
            return found
        return None

    def within(self, first: int, last: int) -> list[Range]:
        """Return the ranges that have an id from *first* to *last*, uncut."""
        at = max(0, bisect_right(self._firsts, first) - 1)
        found: list[Range] = []
        while at < len(self._firsts) and self._firsts[at] <= last:
            found.append(self._by_first[self._firsts[at]])
            at += 1
        return found if not found or found[0].last >= first else found[1:]

    def add(self, new: Range) -> None:
        """Take in the ids of *new*, none of which may be there yet; adjacent ranges become one."""
        self.ids += new.last - new.first + 1
        if below := self.around(new.first - 1):
            self._drop(below.first)
            new = new._replace(first=below.first, after_us=below.after_us)
        if above := self._by_first.get(new.last + 1):
            self._drop(above.first)
            new = new._replace(last=above.last, before_us=above.before_us)
        self._put(new)

    def remove(self, first: int, last: int, times_us: tuple[int, int] | None = None) -> list[tuple[int, int]]:
        """
        Take out the ids from *first* to *last*; return those that were there, as pieces (first, last).

        Args:
            first: the lowest id.
            last: the highest id.
            times_us: when the trades *first* and *last* were made, where they are held now.
        """
        pieces: list[tuple[int, int]] = []
        for old in self.within(first, last):
            self._drop(old.first)
            pieces.append((max(first, old.first), min(last, old.last)))
            if old.first < first:
                self._put(
                    Range(old.first, first - 1, old.after_us, times_us[0] if times_us else old.before_us)
                )
            if old.last > last:
                self._put(Range(last + 1, old.last, times_us[1] if times_us else old.after_us, old.before_us))
        self.ids -= sum(b - a + 1 for a, b in pieces)
        return pieces

    def touched(self) -> tuple[list[Range], list[int]]:
        """Return what has changed since the last call: ranges that are new, and the firsts of those that are gone."""
        touched, self._touched = self._touched, set()
        return (
            [self._by_first[first] for first in touched if first in self._by_first],
            [first for first in touched if first not in self._by_first],
        )

    def _put(self, new: Range) -> None:
        insort(self._firsts, new.first)
        self._by_first[new.first] = new
        self._touched.add(new.first)

    def _drop(self, first: int) -> None:
        del self._by_first[first]
        self._firsts.pop(bisect_right(self._firsts, first) - 1)
        self._touched.add(first)
