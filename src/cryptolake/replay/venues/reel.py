"""The order in which a venue publishes its trades, and their WebSocket frames, encoded a block at a time."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property

from cryptolake.replay.venues.dialect import Dialect
from cryptolake.replay.venues.market import Market
from cryptolake.replay.venues.tape import Track

BLOCK = 512
"""Trades that are encoded at once."""

_BLOCKS_KEPT = 256
_SHORT, _MEDIUM = 126, 1 << 16


class Reel:
    """
    One venue's trades in the order in which they are published: by time, then symbol, each symbol by id.

    A position counts them from 0.
    """

    def __init__(self, dialect: Dialect, tracks: Sequence[Track], market: Market) -> None:
        self.dialect = dialect
        self.tracks = list(tracks)
        self.market = market
        self._gone = [frozenset(market.unavailable.get(track.symbol, ())) for track in self.tracks]
        self._encoded: OrderedDict[tuple[str, int], list[bytes]] = OrderedDict()
        self._keeps_all = False
        self._rows_before = [[0] * len(self.tracks)]

    def __len__(self) -> int:
        """Count the trades."""
        return sum(len(track) for track in self.tracks)

    @cached_property
    def order(self) -> Sequence[int]:
        """The number of the track that each position is of."""
        import pyarrow as pa

        if len(self.tracks) == 1:
            return bytes(len(self))
        keys = pa.table(
            {
                "moment": pa.concat_arrays([t.rows.column("published_at_ns") for t in self.tracks]),
                "track": pa.concat_arrays(
                    [pa.repeat(pa.scalar(n, pa.uint16()), len(t)) for n, t in enumerate(self.tracks)]
                ),
                "row": pa.concat_arrays([pa.array(range(len(t)), pa.int64()) for t in self.tracks]),
            }
        )
        ordered = keys.sort_by([(name, "ascending") for name in keys.column_names])
        return memoryview(ordered["track"].combine_chunks().buffers()[1]).cast("b").cast("H")[: len(self)]  # type: ignore[return-value]

    @cached_property
    def moments_ns(self) -> Sequence[int]:
        """When each position was published, in unix nanoseconds."""
        if len(self.tracks) == 1:
            return self.tracks[0].moments_ns
        return sorted(moment for track in self.tracks for moment in track.moments_ns)

    def due(self, moment_ns: float) -> int:
        """Return how many trades were published up to *moment_ns*."""
        return bisect_right(self.moments_ns, moment_ns)

    def counts(self, start: int, stop: int) -> Mapping[str, int]:
        """Return how many trades of each symbol are at positions *start* to *stop* (excluded)."""
        counted = Counter(self.order[start:stop])
        return {self.tracks[number].symbol: count for number, count in counted.items()}

    def encoded(self, style: str, block: int) -> Sequence[bytes]:
        """
        Return the WebSocket frames (server to client, unmasked) of a block, one a position.

        That of a trade which cannot be had is empty.
        """
        key = (style, block)
        frames = self._encoded.get(key)
        if frames is None:
            frames = self._encoded[key] = self._encode(style, block)
            if len(self._encoded) > _BLOCKS_KEPT and not self._keeps_all:
                self._encoded.popitem(last=False)
        return frames

    def prepare(self, style: str) -> None:
        """Encode every block now, and keep them all."""
        self._keeps_all = True
        for block in range(-(-len(self) // BLOCK)):
            self.encoded(style, block)

    def _encode(self, style: str, block: int) -> list[bytes]:
        order = self.order[block * BLOCK : (block + 1) * BLOCK]
        rows = self._rows_at(block)
        told = {
            number: iter(self._frames(number, rows[number], count, style))
            for number, count in Counter(order).items()
        }
        return [next(told[number]) for number in order]

    def _frames(self, number: int, row: int, count: int, style: str) -> list[bytes]:
        gone = self._gone[number]
        payloads = self.dialect.frames(self.tracks[number], row, row + count, style)
        return [b"" if at in gone else framed(payload) for at, payload in enumerate(payloads, row)]

    def _rows_at(self, block: int) -> list[int]:
        """Return, for each track, its first row at or after the beginning of *block*."""
        while len(self._rows_before) <= block:
            done = len(self._rows_before) - 1
            rows = list(self._rows_before[done])
            for number, count in Counter(self.order[done * BLOCK : (done + 1) * BLOCK]).items():
                rows[number] += count
            self._rows_before.append(rows)
        return self._rows_before[block]


def framed(payload: bytes) -> bytes:
    r"""
    Return *payload* as one WebSocket text frame from a server (RFC 6455, section 5.2).

    >>> framed(b"{}")
    b'\x81\x02{}'

    """
    size = len(payload)
    if size < _SHORT:
        return bytes((0x81, size)) + payload
    if size < _MEDIUM:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


def payload_of(frame: bytes) -> bytes:
    """Return what is in a frame that `framed` made."""
    return frame[{_SHORT: 4, _SHORT + 1: 10}.get(frame[1], 2) :]
