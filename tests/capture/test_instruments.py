"""Instruments are named in the settings, and every mistake there has its message."""

from __future__ import annotations

import re

import pytest

from cryptolake.capture.instruments import Instrument, parse_instruments
from cryptolake.errors import ConfigError

VENUES = ("binance", "coinbase", "kraken", "okx")


def test_instruments_keep_the_spelling_of_their_venue():
    """Each once, in their order; the stored symbol is the venue's own."""
    found = parse_instruments(["kraken:BTC/USD", " binance:BTCUSDT", "kraken:BTC/USD"], {}, VENUES)
    assert found == (
        Instrument("kraken", "BTC/USD", "BTC/USD"),
        Instrument("binance", "BTCUSDT", "BTCUSDT"),
    )
    assert [i.name for i in found] == ["kraken:BTC/USD", "binance:BTCUSDT"]


def test_an_alias_changes_what_is_stored_and_not_what_is_asked_for():
    """A symbol that was listed anew is stored under its own name."""
    assert parse_instruments(["binance:LUNAUSDT"], {"binance:LUNAUSDT": "LUNAUSDT#2"}, VENUES) == (
        Instrument("binance", "LUNAUSDT", "LUNAUSDT#2"),
    )


@pytest.mark.parametrize(
    ("texts", "aliases", "message"),
    [
        (["BTCUSDT"], {}, "'BTCUSDT' is not an instrument; write venue:SYMBOL"),
        (["binance:"], {}, "is not an instrument"),
        (["binance: BTCUSDT"], {}, "is not an instrument"),
        (["binanse:BTCUSDT"], {}, "did you mean binance:BTCUSDT?"),
        (["nowhere:BTCUSDT"], {}, "venues are binance, coinbase, kraken, okx"),
        (["okx:A"], {"okx:B": "C"}, "capture.aliases has 'okx:B', which is not captured"),
        (["okx:A"], {"okx:A": " "}, "capture.aliases gives okx:A an empty symbol"),
        (["okx:A", "okx:B"], {"okx:A": "B"}, "okx:A and okx:B would both be stored as B"),
    ],
)
def test_a_wrong_instrument_is_refused_with_what_is_right(texts, aliases, message):
    """The message has the value, and what to write instead."""
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse_instruments(texts, aliases, VENUES)
