"""
Open the spool and the books, whatever the last run left behind.

The spool knows which ids are held. Where it is gone, damaged or older than the lake, the lake's own ids say
so, together with the blocks and marks that can still be read; what neither holds is a hole like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self

import structlog

from cryptolake.capture import held
from cryptolake.capture.folder import SpoolDamagedError, claim
from cryptolake.capture.instruments import Instrument
from cryptolake.capture.landing import GAPS, REJECTS, TRADES, parts, position
from cryptolake.capture.ledger import REMEMBERED, Ledger
from cryptolake.capture.salvage import EPOCH, by_name, finish, rebuild, save
from cryptolake.capture.spool import Spool
from cryptolake.clock import Clock
from cryptolake.sources.records import Trade
from cryptolake.sources.venue import Venue

if TYPE_CHECKING:
    from cryptolake.lake import Lake, Reader

SLACK = timedelta(days=1)
"""Trades above a mark were made after it, but for venues' clocks."""

MOST_REMEMBERED = 1_000_000
"""Trades that all ledgers together compare with."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Books:
    """
    The open *spool* and the *ledgers* of all instruments; close the spool when done.

    *notice* tells an operator of what had to be mended, if anything.
    """

    spool: Spool
    ledgers: Mapping[Instrument, Ledger]
    notice: str = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.spool.close()


def open_books(
    folder: Path, lake: Lake, instruments: Sequence[Instrument], venues: Mapping[str, Venue], clock: Clock
) -> Books:
    """
    Open the spool in *folder* (made where there is none) and the ledger of every instrument.

    The tables are made in *lake* where they are missing. A spool that is damaged, gone or older than
    the lake is rebuilt from the lake and from what can still be read of it.

    Raises:
        OperatorError: another capture uses the folder, or it cannot be written.
    """
    lock = claim(folder)
    spool: Spool | None = None
    try:
        for table in (TRADES, GAPS, REJECTS):
            lake.ensure(table)
        remembered = max(1_024, min(REMEMBERED, MOST_REMEMBERED // max(1, len(instruments))))
        ledgers = {i: new_ledger(i, venues, remembered) for i in instruments}
        spool, wrong = _opened(folder, lake)
        notice = ""
        with lake.reader(only=[TRADES, GAPS]) as reader:
            if spool is None:
                notice = rebuild(folder, lake, reader, lambda i: new_ledger(i, venues), clock)
                spool = Spool.open(folder)
                log.warning("spool.rebuilt", reason=wrong, done=notice)
                notice = f"{wrong}. {notice}"
            _restore(spool, reader, ledgers, clock)
        spool.lock_file = lock
    except BaseException:
        if spool is not None:
            spool.close()
        lock.close()
        raise
    return Books(spool, ledgers, notice)


def new_ledger(instrument: Instrument, venues: Mapping[str, Venue], remembered: int = REMEMBERED) -> Ledger:
    """Return an empty ledger; a venue that is not known any more is taken to have ids that rise."""
    kind = venues[instrument.venue].capabilities.id_kind if instrument.venue in venues else "sequential"
    return Ledger(instrument, kind, remembered=remembered)


def _opened(folder: Path, lake: Lake) -> tuple[Spool | None, str]:
    """Return the spool, or what is wrong with it."""
    finish(folder)
    try:
        spool = Spool.open(folder)
    except SpoolDamagedError as e:
        return None, e.what
    last = spool.last_seq()
    for part in parts(spool.identity):
        if (at := position(lake, part)) > last:
            spool.close()
            return None, f"the spool {spool.path} ends at block {last}, but {part.table} has it up to {at}"
    return spool, ""


def _restore(spool: Spool, reader: Reader, ledgers: Mapping[Instrument, Ledger], clock: Clock) -> None:
    """Bring *ledgers* to what was saved, and to what others have stored in the lake since."""
    named = {(i.venue, i.stored_as): ledger for i, ledger in ledgers.items()}
    for instrument, ledger in ledgers.items():
        ledger.restore(*spool.saved(instrument))
    unknown = {name for name, ledger in named.items() if ledger.has_coverage and ledger.mark is None}
    above = {
        name: (
            ledger.mark,
            EPOCH if ledger.dated_us is None else EPOCH + timedelta(microseconds=ledger.dated_us) - SLACK,
        )
        for name, ledger in named.items()
        if ledger.mark is not None
    }
    found = held.starts(reader, unknown)
    above |= {name: (start - 1, EPOCH) for name, start in found.items()}
    for name, ranges in held.islands(reader, above).items():
        for island in ranges:
            named[name].learn(island, "restart")
    for name, first, last, event in held.closings(reader, {n: ledger.open for n, ledger in named.items()}):
        named[name].apply(first, last, event)
    for name in found:
        named[name].announce("restart")
    for name, ledger in named.items():
        if not ledger.has_coverage:
            ledger.remember(_known(spool, reader, name))
    save(spool, ledgers, clock)


def _known(spool: Spool, reader: Reader, name: held.Name) -> list[Trade]:
    """Return the trades of an instrument without coverage that must not be taken again, by their ids alone."""
    ids = held.newest_ids(reader, name, REMEMBERED)[::-1]
    for _, block in spool.read(0, REMEMBERED):
        for its, rows in by_name(block):
            ids += rows["trade_id"].to_pylist() if its == name else []
    return [Trade(name[1], trade_id, "0", "0", False, 0) for trade_id in ids]
