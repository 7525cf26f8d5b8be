"""Walks that venues share; how each venue's own pages are walked is in the contract suite."""

from __future__ import annotations

import pytest

from cryptolake.errors import SourceDownError, SourceRefusedError, UnknownSymbolError
from cryptolake.sources import paging
from cryptolake.sources.records import Head, Trade, TradePage

NOW_US = 1_723_161_255_342_000


@pytest.mark.parametrize("error", [SourceDownError, SourceRefusedError])
def test_a_symbol_that_is_not_answered_for_hides_no_other(error):
    """One product whose endpoint fails must not keep the heads of all others from being audited."""

    def ask(symbol: str) -> TradePage:
        if symbol == "BROKEN":
            raise error("no answer")
        if symbol == "NOSUCH":
            raise UnknownSymbolError("no such symbol")
        return TradePage([Trade(symbol, 7, "1", "1", False, NOW_US)], NOW_US)

    assert paging.heads(ask, ["BROKEN", "NOSUCH", "BTC"]) == {"BTC": Head(7, NOW_US)}
    assert paging.heads(ask, ["NOSUCH"]) == {}
    with pytest.raises(error):
        paging.heads(ask, ["NOSUCH", "BROKEN"])
