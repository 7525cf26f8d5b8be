"""Recorded histories of coins and of the Fear & Greed Index, exactly as they were recorded."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path

from cryptolake.errors import OperatorError
from cryptolake.sources.records import IndexValue

DAY_MS = 86_400_000
HOUR_MS = 3_600_000

BUNDLED = ("50-coins", "250-coins", "bitcoin-90-days")
DEFAULT = "50-coins"
INDEX = "fear-greed"


@dataclass(frozen=True)
class Series:
    """One coin's recorded points, oldest first: four columns of one length; None where a null was."""

    timestamps_ms: Sequence[int]
    prices: Sequence[float | None]
    market_caps: Sequence[float | None]
    volumes: Sequence[float | None]

    def __len__(self) -> int:
        """Count the points."""
        return len(self.timestamps_ms)

    def between(self, first_ms: float, last_ms: float) -> Series:
        """Return the points from *first_ms* to *last_ms*, both included."""
        part = slice(bisect_left(self.timestamps_ms, first_ms), bisect_right(self.timestamps_ms, last_ms))
        return Series(self.timestamps_ms[part], self.prices[part], self.market_caps[part], self.volumes[part])

    def ends_intraday(self) -> bool:
        """Say whether the last point is no daily one: later than 01:00 UTC of its day."""
        return len(self) > 0 and self.timestamps_ms[-1] % DAY_MS > HOUR_MS

    def repeated_at(self, timestamp_ms: int) -> Series:
        """Return the points with the last one once more, stamped *timestamp_ms*."""
        return Series(
            [*self.timestamps_ms, timestamp_ms],
            [*self.prices, self.prices[-1]],
            [*self.market_caps, self.market_caps[-1]],
            [*self.volumes, self.volumes[-1]],
        )


@dataclass(frozen=True)
class Recordings:
    """What a replay serves: coins by CoinGecko id, the index oldest first, and when the recording ends."""

    name: str
    ends_at: datetime
    coins: Mapping[str, Series]
    index: Sequence[IndexValue]

    @classmethod
    def bundled(cls, name: str = DEFAULT) -> Recordings:
        """
        Read one of the sets that come with the package (`BUNDLED`), and the index.

        Raises:
            OperatorError: if there is no such set, or the package came without it.

        """
        from cryptolake.replay import formats

        if name not in BUNDLED:
            raise OperatorError(
                f"there are no bundled recordings {name!r}; there are {', '.join(BUNDLED)}, "
                "or name a folder with recordings of your own"
            )
        coins, ends_at = formats.read_coins(bundled_file(name))
        return cls(name, ends_at or end_of(coins, ()), coins, formats.read_index(bundled_file(INDEX)))

    @classmethod
    def read(cls, folder: Path) -> Recordings:
        """
        Read every recording in *folder*; without an index of its own it gets the bundled one.

        Understood are CoinGecko's market charts (`<coin>.json`), Alternative.me's index (any `.json`
        with its shape), CSV files (date, price, total_volume, market_cap, coin_name; or the plural
        names, and coin) and Parquet files as bundled. Other files are left out, with a warning.

        Raises:
            OperatorError: if the folder or its recordings cannot be read, or there are none.

        """
        from cryptolake.replay import formats

        coins, index = formats.read_folder(folder)
        ends_at = end_of(coins, index)
        return cls(folder.name, ends_at, coins, index or formats.read_index(bundled_file(INDEX)))


def bundled_file(name: str) -> Path:
    """
    Return the file of a bundled recording.

    Raises:
        OperatorError: if the package came without it.

    """
    path = Path(str(files("cryptolake.replay"))) / "recordings" / f"{name}.parquet"
    if not path.is_file():
        raise OperatorError(
            f"this installation has no recordings {name!r} ({path}): install the wheel, which holds them, "
            "or name a folder with recordings of your own"
        )
    return path


def end_of(coins: Mapping[str, Series], index: Sequence[IndexValue]) -> datetime:
    """
    Return the moment a recording ends: that of its newest point.

    A recording of daily points ends at noon of its last day, so that this day has begun for sure.
    """
    newest_ms = [series.timestamps_ms[-1] for series in coins.values() if len(series)]
    newest_ms += [index[-1].timestamp * 1000] if index and not newest_ms else []
    last_ms = max(newest_ms, default=0)
    if last_ms % DAY_MS <= HOUR_MS:
        last_ms += DAY_MS // 2 - last_ms % DAY_MS
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=last_ms)
