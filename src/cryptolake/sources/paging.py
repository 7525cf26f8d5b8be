"""
How the ids of a hole, or the trades of a span of time, are walked through page by page.

All walks yield pages of which each shares a trade with the one before, so that neighbours prove what
is absent between them. Where such a page brings nothing new, the next one begins beside it: a venue may lack
some ids, and have others behind them. A walk ends when that brings nothing either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from cryptolake.errors import SourceDownError, SourceRefusedError, UnknownSymbolError
from cryptolake.sources.records import Head, TradePage

FromId = Callable[[int], TradePage]
"""Asks for trades from an id upwards, that id included."""

BelowId = Callable[[int], TradePage]
"""Asks for the newest trades whose ids are below one."""

IsEnough = Callable[[TradePage], bool]


def reaches_up_to(trade_id: int) -> IsEnough:
    """Tell pages that hold a trade with *trade_id* or a higher one."""
    return lambda page: bool(page.trades) and page.trades[-1].trade_id >= trade_id


def reaches_down_to(trade_id: int) -> IsEnough:
    """Tell pages that hold a trade with *trade_id* or a lower one."""
    return lambda page: bool(page.trades) and page.trades[0].trade_id <= trade_id


def reaches_time(time_us: int) -> IsEnough:
    """Tell pages that hold a trade made at *time_us* or later."""
    return lambda page: any(trade.traded_at_us >= time_us for trade in page.trades)


def upwards(ask: FromId, first_id: int, is_enough: IsEnough) -> Iterator[TradePage]:
    """Yield the pages from *first_id* upwards until one is enough."""
    at = max(0, first_id)
    while True:
        page = ask(at)
        if not page.trades and not page.rejects:
            return
        yield page
        newest = page.trades[-1].trade_id if page.trades else -1
        following = newest if newest > at else max(_ids(page), default=-1)
        if is_enough(page) or following < at:
            return
        at = following if following > at else at + 1


def downwards(ask: BelowId, below_id: int, is_enough: IsEnough) -> Iterator[TradePage]:
    """Yield the pages of ids below *below_id*, newest first, until one is enough."""
    below = below_id
    while below > 0:
        page = ask(below)
        if not page.trades and not page.rejects:
            return
        yield page
        oldest = page.trades[0].trade_id + 1 if page.trades else below
        following = oldest if oldest < below else min(_ids(page), default=below)
        if is_enough(page) or following > below:
            return
        below = following if following < below else below - 1


def heads(ask: Callable[[str], TradePage], symbols: Iterable[str]) -> dict[str, Head]:
    """
    Return the newest trade of each symbol that the venue knows; *ask* gives a page that has it.

    A symbol that it does not answer for keeps no other from being found; where there is none, that is raised.
    """
    found: dict[str, Head] = {}
    failure: Exception | None = None
    for symbol in symbols:
        try:
            trades = ask(symbol).trades
        except UnknownSymbolError:
            continue
        except (SourceDownError, SourceRefusedError) as e:
            failure = e
            continue
        if trades:
            found[symbol] = Head(trades[-1].trade_id, trades[-1].traded_at_us)
    if failure is not None and not found:
        raise failure
    return found


def between(ask: BelowId, span_us: tuple[int, int], newest_id: int, size: int) -> Iterator[TradePage]:
    """
    Yield the pages from the last trade before a span of time to the first after it, oldest first.

    For a venue that only pages downwards: *ask* returns *size* trades at most, *newest_id* is its head. No more
    than *size* ids are asked for at a time, so each page reaches down to the newest trade of the one before.
    """
    start_us, end_us = span_us
    at = last_id_before(ask, start_us, newest_id)
    if at is None:
        return
    is_enough, ahead = reaches_time(end_us), size
    while True:
        page = _from(ask(at + ahead), at)
        yield page
        newest = page.trades[-1].trade_id if page.trades else at
        if is_enough(page) or at + ahead > newest_id:
            return
        if newest > at:
            at, ahead = newest, size
        else:
            ahead += size - 1


def last_id_before(ask: BelowId, time_us: int, newest_id: int) -> int | None:
    """
    Return the id of the last trade before *time_us*, or of the oldest there is; None if none was made since.

    Searches by halves, so it takes as many questions as the number of ids has binary digits, at most.
    """
    newest = ask(newest_id + 1)
    if not newest.trades or newest.trades[-1].traded_at_us < time_us:
        return None
    earlier, later = 0, newest_id + 1  # below `earlier` the newest was made before, below `later` not
    while later - earlier > 1:
        middle = (earlier + later) // 2
        trades = ask(middle).trades
        if not trades or trades[-1].traded_at_us < time_us:
            earlier = middle
        elif trades[0].traded_at_us < time_us:
            return max(trade.trade_id for trade in trades if trade.traded_at_us < time_us)
        else:
            later = trades[0].trade_id + 1
    before = ask(earlier).trades if earlier else []
    return before[-1].trade_id if before else later - 1


def _from(page: TradePage, first_id: int) -> TradePage:
    """Leave out what is below *first_id*."""
    trades = [trade for trade in page.trades if trade.trade_id >= first_id]
    rejects = [reject for reject in page.rejects if reject.trade_id is None or reject.trade_id >= first_id]
    return msgspec.structs.replace(page, trades=trades, rejects=rejects)


def _ids(page: TradePage) -> list[int]:
    rejected = [reject.trade_id for reject in page.rejects if reject.trade_id is not None]
    return rejected + [trade.trade_id for trade in page.trades]
