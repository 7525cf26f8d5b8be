"""What an answer of a venue's REST or archive brings to the books."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec
import pyarrow as pa

from cryptolake.capture.arrivals import reject_of
from cryptolake.capture.batch import LARGEST_ID, RejectRow, archive_rows, check, trade_rows
from cryptolake.capture.entries import Healed
from cryptolake.capture.ledger import Ledger
from cryptolake.capture.spool import Block
from cryptolake.errors import BadRecordError
from cryptolake.sources.records import TradePage
from cryptolake.sources.venue import ArchivePiece


class Answered(NamedTuple):
    """What of an answer is new, what it did, and the last id that the next piece may be joined to."""

    block: Block
    healed: Healed
    last_id: int | None


def take_answer(
    ledger: Ledger,
    answer: TradePage | ArchivePiece,
    via: Literal["rest", "archive"],
    after: int | None,
    received_at_us: int,
) -> Answered:
    """
    Take from *answer* what *ledger* does not hold; *after* is the id before it in the same answer, if it is a piece.

    A record without a readable id may be any of those that seem absent, so then nothing is proven absent.
    """
    unreadable = any(e.trade_id is None for e in answer.rejects)
    bad_ids = {e.trade_id for e in answer.rejects if e.trade_id is not None}
    rejects = [_reject_row(ledger, e, received_at_us) for e in answer.rejects]
    if isinstance(answer, TradePage):
        return _take_page(ledger, answer, via, after, (rejects, bad_ids, unreadable))
    rows = answer.rows
    ids = rows["trade_id"].to_pylist()
    times_us = rows["traded_at"].cast(pa.int64()).to_pylist()
    healed = ledger.heal(
        ids,
        times_us,
        via,
        rejected=bad_ids,
        proves_absence=not unreadable,
        after=None if unreadable else after,
    )
    new = [rows.slice(begin, end - begin) for begin, end in healed.keep]
    batches: list[pa.RecordBatch] = []
    if new:
        name = (ledger.instrument.venue, ledger.instrument.stored_as)
        batches = archive_rows(*name, pa.concat_tables(new), received_at_us).combine_chunks().to_batches()
    return Answered(Block(batches, [], rejects), healed, _last(ids, after, unreadable=unreadable))


def _take_page(
    ledger: Ledger,
    page: TradePage,
    via: Literal["rest", "archive"],
    after: int | None,
    refused: tuple[list[RejectRow], set[int], bool],
) -> Answered:
    rejects, bad_ids, unreadable = refused
    checked = check(page.trades)
    for position, reason in checked.bad:
        trade = page.trades[position]
        rejects.append(reject_of(ledger, trade, reason, page.received_at_us, msgspec.json.encode(trade)))
        bad_ids.add(trade.trade_id)
    trades = [page.trades[p] for p in checked.good]
    ids = [trade.trade_id for trade in trades]
    healed = ledger.heal(
        ids,
        [trade.traded_at_us for trade in trades],
        via,
        rejected=bad_ids,
        proves_absence=not unreadable,
        after=None if unreadable else after,
    )
    new = [n for begin, end in healed.keep for n in range(begin, end)]
    batches: list[pa.RecordBatch] = []
    if new:
        wanted = pa.array(new, pa.int64())
        name = (ledger.instrument.venue, ledger.instrument.stored_as, len(new))
        decimals = (checked.prices.take(wanted), checked.quantities.take(wanted))
        received = [page.received_at_us] * len(new)
        batches = [trade_rows([name], [trades[n] for n in new], decimals, received, via)]
    return Answered(Block(batches, [], rejects), healed, _last(ids, after, unreadable=unreadable))


def _last(ids: Sequence[int], after: int | None, *, unreadable: bool) -> int | None:
    if unreadable:
        return None
    return ids[-1] if ids else after


def _reject_row(ledger: Ledger, e: BadRecordError, received_at_us: int) -> RejectRow:
    instrument = ledger.instrument
    trade_id = e.trade_id if e.trade_id is not None and 0 <= e.trade_id <= LARGEST_ID else None
    return RejectRow(
        instrument.venue,
        instrument.venue,
        instrument.stored_as,
        trade_id,
        received_at_us,
        e.reason,
        e.payload,
    )
