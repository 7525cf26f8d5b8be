"""What to capture: instruments as the settings name them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from cryptolake.errors import ConfigError


@dataclass(frozen=True)
class Instrument:
    """*symbol* of *venue* in the venue's own spelling, and the symbol that its trades are *stored_as*."""

    venue: str
    symbol: str
    stored_as: str

    @property
    def name(self) -> str:
        """Return what the settings call it: `venue:SYMBOL`."""
        return f"{self.venue}:{self.symbol}"

    @property
    def stored_name(self) -> str:
        """Return what the lake calls it, and so `coverage`: `venue:SYMBOL`, with the symbol that it is stored as."""
        return f"{self.venue}:{self.stored_as}"


def parse_instruments(
    texts: Sequence[str], aliases: Mapping[str, str], known_venues: Collection[str]
) -> tuple[Instrument, ...]:
    """
    Return the instruments that *texts* name, each once.

    Args:
        texts: as in `binance:BTCUSDT`, the symbol in the venue's own spelling.
        aliases: by such a name, the symbol that its trades are stored under.
        known_venues: the venues that can be captured.

    Raises:
        ConfigError: a text is no instrument, an alias names none of them or its symbol is taken.

    >>> parse_instruments(["okx:BTC-USDT"], {"okx:BTC-USDT": "BTC-USDT#2"}, ["okx"])
    (Instrument(venue='okx', symbol='BTC-USDT', stored_as='BTC-USDT#2'),)
    """
    instruments = tuple(_parsed(text, aliases, known_venues) for text in dict.fromkeys(texts))
    by_name = {instrument.name: instrument for instrument in instruments}
    for name, alias in aliases.items():
        if name not in by_name:
            raise ConfigError(
                f"capture.aliases has {name!r}, which is not captured; capture.instruments are "
                f"{', '.join(by_name) or 'none'}"
            )
        if not alias.strip():
            raise ConfigError(f"capture.aliases gives {name} an empty symbol; write one, as in {name}#2")
    stored: dict[tuple[str, str], Instrument] = {}
    for instrument in by_name.values():
        other = stored.setdefault((instrument.venue, instrument.stored_as), instrument)
        if other is not instrument:
            raise ConfigError(
                f"{other.name} and {instrument.name} would both be stored as {instrument.stored_as}; "
                "give one of them another symbol in capture.aliases"
            )
    return tuple(by_name.values())


def _parsed(text: str, aliases: Mapping[str, str], known_venues: Collection[str]) -> Instrument:
    venue, colon, symbol = text.strip().partition(":")
    if not colon or not symbol or symbol != symbol.strip():
        raise ConfigError(f"{text!r} is not an instrument; write venue:SYMBOL, as in binance:BTCUSDT")
    if venue not in known_venues:
        near = get_close_matches(venue.lower(), known_venues, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]}:{symbol}?" if near else f"venues are {', '.join(known_venues)}"
        raise ConfigError(f"{text!r} names an unknown venue: {hint}")
    return Instrument(venue, symbol, aliases.get(f"{venue}:{symbol}", symbol).strip())
