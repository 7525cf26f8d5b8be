"""Options that verbs share, and how they are read."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cryptolake.clock import Clock
from cryptolake.errors import ConfigError

if TYPE_CHECKING:
    from cryptolake.config import Settings
    from cryptolake.ingest.landing import Span

Home = Annotated[
    Path | None, typer.Option(help="The folder of the lake.", show_default="as the settings say")
]
Coins = Annotated[
    str | None, typer.Option(help="CoinGecko ids, separated by commas.", show_default="as the settings say")
]
AsOf = Annotated[
    str | None, typer.Option(help="Take this time (UTC) for now, as in 2024-03-16 or 2024-03-16T12:00.")
]
Start = Annotated[str | None, typer.Option("--from", help="First day to ask for, as in 2024-01-01.")]
End = Annotated[str | None, typer.Option("--to", help="Last day to ask for.")]
Instruments = Annotated[
    str | None,
    typer.Option(
        help="What to capture, `venue:SYMBOL` in the venue's own spelling, separated by commas.",
        show_default="as the settings say",
    ),
]
Full = Annotated[bool, typer.Option("--full", help="Ask for all history again.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Debug = Annotated[bool, typer.Option("--debug", help="Log every event; show where an error happened.")]

LONGEST_AGE_SECONDS = 36_500 * 86_400
EARLIEST = datetime(2009, 1, 3, tzinfo=UTC)
"""The first Bitcoin block; there is no data before it."""
AGE = re.compile(r"(\d+)([smhd])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def settings_from(
    home: Path | None = None, coins: str | None = None, instruments: str | None = None
) -> Settings:
    """Return the settings in force, with what the command line says on top."""
    from cryptolake.config import load_settings

    return load_settings(home=home, coins=coins, **{"capture.instruments": instruments})


def one_instrument(text: str) -> str:
    """Return what `--instrument` names, which is no list."""
    if "," in text:
        raise ConfigError(f"--instrument takes one instrument, as in binance:BTCUSDT, not {text!r}")
    return text


def clock_at(as_of: str | None) -> Clock:
    """Return a clock that stands at *as_of*, or the real one."""
    return Clock.fixed(moment(as_of)) if as_of else Clock()


def span_of(start: str | None, end: str | None, full: bool) -> Span:
    """Return the days asked for by `--from`, `--to` and `--full`."""
    from cryptolake.ingest.landing import Span

    first, last = days_between(start, end)
    if full and (first or last):
        raise ConfigError("--full asks for all history; leave out --from and --to")
    return Span(first, last, full)


def days_between(start: str | None, end: str | None) -> tuple[date | None, date | None]:
    """Return the first and the last day, both inclusive, that `--from` and `--to` name."""
    first, last = (day(t) if t else None for t in (start, end))
    if first and last and first > last:
        raise ConfigError(f"--from {first} is after --to {last}")
    return first, last


def day(text: str) -> date:
    """Read a day, as in 2024-03-16."""
    try:
        return date.fromisoformat(text)
    except ValueError as e:
        raise ConfigError(f"not a day: {text!r}; write it as in 2024-03-16") from e


def moment(text: str) -> datetime:
    """Read a time; without a zone it is UTC, without a time of day it is 00:00."""
    try:
        at = datetime.fromisoformat(text)
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as e:
        raise ConfigError(f"not a time: {text!r}; write it as in 2024-03-16 or 2024-03-16T12:00 (UTC)") from e
    if at < EARLIEST:
        raise ConfigError(f"{text} is before {EARLIEST:%Y-%m-%d}, when there was no data")
    return at


def moment_or_snapshot(text: str) -> datetime | int:
    """Read a time or a snapshot id (digits only)."""
    return int(text) if text.isdecimal() else moment(text)


def age(text: str) -> timedelta:
    """Read an age, as in 3d, 12h, 30m or 0s."""
    if not (m := AGE.fullmatch(text)):
        raise ConfigError(f"not a length of time: {text!r}; write it as in 3d, 12h, 30m or 45s")
    seconds = int(m[1]) * SECONDS[m[2]]
    if seconds > LONGEST_AGE_SECONDS:
        raise ConfigError(f"{text} is too long; at most 36500d")
    return timedelta(seconds=seconds)
