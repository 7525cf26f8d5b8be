"""A home with a lake and a spool, opened and closed as a capture does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cryptolake.capture.entries import GapEvent
from cryptolake.capture.instruments import Instrument
from cryptolake.capture.landing import Landing
from cryptolake.capture.ledger import Ledger
from cryptolake.capture.recovery import Books, open_books
from cryptolake.capture.spool import Spool
from cryptolake.capture.writer import Writer
from cryptolake.clock import Clock
from cryptolake.contracts import load_contracts
from cryptolake.lake import Lake
from cryptolake.lake.catalog import local_catalog
from cryptolake.sources.records import Control
from tests.capture.ledgers import BTC, ETH, NOON, VENUES, open_by_events

CLOCK = Clock.fixed(NOON)


class Home:
    """A lake, and the books beside it."""

    def __init__(self, folder: Path, *, busy_seconds: float = 30) -> None:
        self.folder = folder
        catalog = local_catalog(folder)
        catalog["uri"] += f"?timeout={busy_seconds}"
        self.lake = Lake.open(catalog, load_contracts(), CLOCK)
        self.controls: list[tuple[str, int, Control]] = []
        self.failures: list[BaseException] = []

    @property
    def spool_file(self) -> Path:
        """Return where the spool is."""
        return self.folder / "spool" / "trades.db"

    def books(self, instruments: Sequence[Instrument] = (BTC, ETH)) -> Books:
        """Open the books."""
        return open_books(self.folder / "spool", self.lake, instruments, VENUES, CLOCK)

    def writer(self, books: Books, *, spool_max_bytes: int = 10**9) -> Writer:
        """Start a writer on *books*; what it tells is kept here."""
        return writer_on(books.spool, books.ledgers, self, spool_max_bytes=spool_max_bytes)

    @contextmanager
    def capturing(self, instruments: Sequence[Instrument] = (BTC, ETH)) -> Iterator[tuple[Books, Writer]]:
        """Open books and writer; close both at the end, and land nothing."""
        books = self.books(instruments)
        with books.spool:
            writer = self.writer(books)
            try:
                yield books, writer
            finally:
                writer.close()

    def land(self, books: Books, *, max_rows: int = 500_000) -> None:
        """Land all that waits in the spool."""
        landing = Landing(self.lake, books.spool, "run", max_rows=max_rows)
        while landing.land_once().behind:
            pass

    def ids(self, symbol: str = "BTC") -> list[int]:
        """Return the ids that the lake holds, in their order, as often as it holds them."""
        return [
            i
            for (i,) in self._rows(
                "bronze.realtime_trades", f"select trade_id {FROM} where symbol = '{symbol}' order by 1"
            )
        ]

    def open_ids(self, symbol: str = "BTC") -> set[int]:
        """Return the ids that are missing, as the lake tells it."""
        rows = self._rows(
            "bronze.trade_gaps",
            f"select first_id, last_id, event, reason, resolved_by from bronze.trade_gaps where symbol = '{symbol}'",
        )
        return open_by_events(GapEvent(*row) for row in rows)

    def rejects(self) -> list[tuple[object, ...]]:
        """Return source, symbol, id, reason and bytes of what was not taken."""
        return self._rows(
            "bronze.rejects",
            "select source, symbol, trade_id, reason, payload from bronze.rejects order by all",
        )

    def _rows(self, table: str, sql: str) -> list[tuple[object, ...]]:
        with self.lake.reader(only=[table]) as reader:
            return reader.rows(sql)


FROM = "from bronze.realtime_trades"


def writer_on(
    spool: Spool, ledgers: Mapping[Instrument, Ledger], home: Home, *, spool_max_bytes: int = 10**9
) -> Writer:
    """Start a writer that tells *home* what happens."""
    return Writer.open(
        spool,
        ledgers,
        VENUES,
        CLOCK,
        on_control=lambda *told: home.controls.append(told),
        on_failure=home.failures.append,
        spool_max_bytes=spool_max_bytes,
    )
