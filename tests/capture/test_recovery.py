"""The books are open again whatever became of the spool: nothing that is readable is lost, nothing is doubled."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections import defaultdict
from contextlib import closing, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from cryptolake.capture import pages, wal
from cryptolake.capture.batch import check, trade_rows
from cryptolake.capture.folder import claim
from cryptolake.capture.instruments import Instrument
from cryptolake.capture.landing import GAPS, TRADES
from cryptolake.capture.recovery import new_ledger, open_books
from cryptolake.capture.spool import FILE, salvaged_blocks
from cryptolake.capture.wal import FRAME_BYTES, FRAME_HEADER_BYTES, HEADER_BYTES, PAGE_BYTES
from cryptolake.errors import OperatorError
from cryptolake.sources.records import TradePage
from tests.capture.homes import CLOCK, Home
from tests.capture.ledgers import BTC, ETH, NOON, TOY, VENUES, at_us, frame, ids_of, recent_frame, trades
from tests.capture.test_spool import ids_in
from tests.capture.test_wal import CHECKSUM_AT, flip, log_of
from tests.capture.test_writer import durable, hole


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty home."""
    return Home(tmp_path)


def capture(home: Home, *frames: tuple[bytes, int], land: bool = True) -> None:
    """Capture *frames*, each in a batch of its own, and land them or not."""
    with home.capturing() as (books, writer):
        for each in frames:
            writer.frames("toy", 1, [each])
            durable(writer)
        if land:
            home.land(books)


def backfilled(home: Home, ids: list[int], symbol: str = "BTC") -> None:
    """Store trades in the lake as a backfill does, with the events of the holes that they fill."""
    its = trades(ids, symbol)
    checked = check(its)
    rows = trade_rows(
        [("toy", symbol, len(its))],
        its,
        (checked.prices, checked.quantities),
        [at_us(999)] * len(its),
        "archive",
    )
    table = pa.Table.from_batches([rows])
    home.lake.append(TRADES, table.append_column("_run_id", pa.array(["backfill"] * len(its))))


def told(home: Home, first: int, last: int, event: str) -> None:
    """Append an event to the lake as a backfill does."""
    home.lake.append(
        GAPS,
        pa.table(
            {
                "venue": ["toy"],
                "symbol": ["BTC"],
                "first_id": [first],
                "last_id": [last],
                "event": [event],
                "reason": ["backfill"],
                "resolved_by": ["archive"],
                "occurred_at": pa.array([NOON], pa.timestamp("us", "UTC")),
                "_run_id": ["backfill"],
            }
        ),
    )


def test_a_capture_goes_on_where_it_was(home):
    """Start, mark and holes are what they were, whether the blocks have landed or not."""
    capture(home, frame([5, 6]), frame([9]), land=False)
    with home.capturing() as (books, writer):
        assert books.notice == ""
        writer.frames("toy", 1, [frame([8, 9, 10])])
        durable(writer)
        home.land(books)
    assert (home.ids(), home.open_ids()) == ([5, 6, 8, 9, 10], {7})


def test_a_spool_that_is_gone_is_made_anew_from_the_lake(home):
    """What the lake holds is held, what lies between is missing, and nothing is stored again."""
    capture(home, frame([5, 6]), frame([9]), frame([3], "ETH"))
    shutil.rmtree(home.folder / "spool")
    with home.capturing() as (books, writer):
        assert {i.symbol: (b.start, b.mark, ids_of(b.open)) for i, b in books.ledgers.items()} == {
            "BTC": (5, 9, {7, 8}),
            "ETH": (3, 3, set()),
        }
        assert [(h.after_us, h.before_us) for _, h in writer.holes("toy")] == [(at_us(6), at_us(9))]
        writer.frames("toy", 1, [frame([5, 6, 8, 9, 10])])
        durable(writer)
        home.land(books)
    assert (home.ids(), home.open_ids()) == ([5, 6, 8, 9, 10], {7})


def test_history_before_the_first_captured_trade_is_no_gap(home):
    """A backfill of older days does not make all between a hole, not even for a spool that is made anew."""
    capture(home, frame([500]), frame([502]))
    backfilled(home, [3, 4])
    shutil.rmtree(home.folder / "spool")
    with home.books().spool as spool:
        assert spool.saved(BTC)[0] is not None
    with home.capturing() as (books, _):
        assert (books.ledgers[BTC].start, ids_of(books.ledgers[BTC].open)) == (500, {501})


def test_an_instrument_that_was_only_backfilled_was_never_captured(home):
    """Its first live trade is the start."""
    home.books().spool.close()
    backfilled(home, [3, 4])
    with home.capturing() as (books, _):
        assert books.ledgers[BTC].start is None


def test_absent_and_rejected_ids_are_known_from_the_lake(home):
    """A spool made anew does not ask for them again."""
    with home.capturing() as (books, writer):
        writer.frames("toy", 1, [frame([1]), frame([10])])
        page = TradePage(trades([1, 2, 5]), at_us(99))
        writer.heal(BTC, page, "rest", hole(2, 9)).result(20)
        home.land(books)
    told(home, 7, 7, "rejected")
    shutil.rmtree(home.folder / "spool")
    with home.capturing() as (books, _):
        book = books.ledgers[BTC]
        assert (ids_of(book.open), ids_of(book.absent), ids_of(book.rejected)) == ({6, 8, 9}, {3, 4}, {7})


def test_what_a_backfill_closed_meanwhile_is_closed(home):
    """At every start the events that others wrote are applied to the holes."""
    capture(home, frame([1]), frame([10]))
    backfilled(home, [3, 4])
    told(home, 3, 4, "filled")
    told(home, 5, 6, "absent")
    told(home, 7, 7, "rejected")
    with home.capturing() as (books, writer):
        assert ids_of(books.ledgers[BTC].open) == {2, 8, 9}
        writer.frames("toy", 1, [frame([3, 8])])
        durable(writer)
        home.land(books)
    assert (home.ids(), home.open_ids()) == ([1, 3, 4, 8, 10], {2, 9})


def test_what_a_backfill_stored_above_the_mark_is_not_fetched_again(home):
    """It is held, and what lies between it and the mark is a hole."""
    capture(home, frame([1, 2]))
    backfilled(home, [5, 6, 9])
    with home.capturing() as (books, writer):
        assert (books.ledgers[BTC].mark, ids_of(books.ledgers[BTC].open)) == (9, {3, 4, 7, 8})
        writer.frames("toy", 1, [frame([6, 7, 10])])
        durable(writer)
        home.land(books)
    assert (home.ids(), home.open_ids()) == ([1, 2, 5, 6, 7, 9, 10], {3, 4, 8})


BLOCKS_ON_TWO_PAGES = 10
"""Blocks of forty trades, or parts of them."""


def spoil(home: Home, seed: int) -> None:
    """Overwrite a page in the middle of the spool, away from its first."""
    content = bytearray(home.spool_file.read_bytes())
    at = random.Random(seed).randrange(2 * 4096, len(content) - 4096)
    content[at : at + 2048] = random.Random(seed).randbytes(2048)
    home.spool_file.write_bytes(content)


@pytest.mark.parametrize(
    "seed",
    [pytest.param(seed, marks=pytest.mark.slow if seed < 2 else pytest.mark.deep) for seed in range(12)],
)
def test_a_damaged_spool_is_set_aside_and_what_is_readable_is_saved(home, seed):
    """Readable blocks land once, the others are holes again; nothing is stored twice, and no id is forgotten."""
    capture(home, frame([1, 2]), frame([5]))
    rejected = (b"not a frame", at_us(5))
    frames = [frame([*range(50 * n, 50 * n + 40)]) for n in range(1, 40)]
    capture(home, *frames, rejected, frame([3], "ETH"), land=False)
    spoil(home, seed)
    with home.capturing() as (books, writer):
        assert "is damaged" in books.notice
        assert "was set aside as" in books.notice
        book = books.ledgers[BTC]
        home.land(books)
        held = home.ids()
        assert len(held) == len(set(held)) >= 3 + (39 - BLOCKS_ON_TWO_PAGES) * 40
        assert book.start == 1
        assert book.mark is not None
        assert set(range(1, book.mark + 1)) - set(held) == ids_of(book.open) == home.open_ids()
        writer.frames("toy", 1, frames)
        durable(writer)
        home.land(books)
    every = [1, 2, 5, *(i for n in range(1, 40) for i in range(50 * n, 50 * n + 40))]
    assert home.ids() == every
    assert home.open_ids() == set(range(1, every[-1] + 1)) - set(every)
    assert len(list(home.spool_file.parent.glob("trades.db.damaged-*Z"))) == 1


def killed(home: Home, *frames: tuple[bytes, int], emptied_after: int = 0) -> None:
    """
    Leave a spool as a kill does after *frames*, with what SQLite has not yet brought from its log into the file.

    After *emptied_after* of them it has brought all, and goes on at the start of the log, over what stands there.
    """
    left = home.folder / "left"
    with home.capturing() as (books, writer):
        for n, each in enumerate(frames, 1):
            writer.frames("toy", 1, [each])
            durable(writer)
            if n == emptied_after:
                books.spool._write.execute("pragma wal_checkpoint(full)").fetchall()
        shutil.copytree(home.spool_file.parent, left)
    shutil.rmtree(home.spool_file.parent)
    left.rename(home.spool_file.parent)


def blocks_by_page(spool: Path) -> dict[int, set[int]]:
    """Return by its number which blocks stand on a page, or a part of them."""
    content, found = spool.read_bytes(), defaultdict[int, set[int]](set)
    logged = {each.number: each.page for each in wal.frames(spool)}
    visited: list[int] = []

    def page(number: int) -> bytes:
        visited.append(number)
        return logged.get(number, content[(number - 1) * PAGE_BYTES : number * PAGE_BYTES])

    for number in range(2, max(len(content) // PAGE_BYTES, *logged) + 1):
        leaf = page(number)
        for n in range(int.from_bytes(leaf[3:5], "big") if leaf[0] == pages.LEAF_OF_TABLE else 0):
            visited[:] = [number]
            with suppress(IndexError, ValueError):
                seq, record = pages._cell(leaf, n, page, 1 << 30)
                pages._values(record, 4)
                for each in visited:
                    found[each].add(seq)
    return found


def page_at(spool: Path, path: Path, at: int) -> int:
    """Return the number of the page that the byte *at* of the file or its log belongs to; 0 where it is of no use."""
    numbers = [each.number for each in wal.frames(spool)]
    if path == spool:
        number = at // PAGE_BYTES + 1
        return 0 if number in numbers else number
    frame = (at - HEADER_BYTES) // FRAME_BYTES
    is_newest = 0 <= frame < len(numbers) and numbers[frame] not in numbers[frame + 1 :]
    return numbers[frame] if is_newest else 0


FIRST_HEADERS = HEADER_BYTES + FRAME_HEADER_BYTES
"""Of a log and its first frame, or most of a file's."""


@pytest.mark.parametrize(
    "seed",
    [pytest.param(seed, marks=pytest.mark.slow if seed < 2 else pytest.mark.deep) for seed in range(12)],
)
def test_a_damaged_byte_anywhere_costs_no_block_but_those_on_its_page(home, seed):
    """After a kill, in the file or in its log: all others are saved, and what was acknowledged in these is a hole."""
    chance, made = random.Random(seed), home.spool_file.parent
    blocks = [[*range(50 * n, 50 * n + chance.randrange(1, 50, 7))] for n in range(1, 40)]
    acknowledged = {1, 2, 5}.union(*blocks)
    capture(home, frame([1, 2]), frame([5]))
    killed(home, *(frame(ids) for ids in blocks), emptied_after=25)
    landed, on_page = {*home.ids()}, blocks_by_page(home.spool_file)
    ids = {seq: {*ids_in([(seq, block)])} for seq, block in salvaged_blocks(home.spool_file)}
    assert acknowledged == landed.union(*ids.values())
    noticed = 0
    for n in range(40):
        path = made / chance.choice([FILE, f"{FILE}-wal"])
        at = chance.randrange(path.stat().st_size if n % 4 else FIRST_HEADERS)
        folder = home.folder / f"copy-{n}"
        shutil.copytree(made, folder)
        flip(folder / path.name, at, chance.randrange(1, 256))
        with open_books(folder, home.lake, [BTC], VENUES, CLOCK) as books:
            saved, book = ids_in(books.spool.read(0, 10**9)), books.ledgers[BTC]
            noticed += bool(books.notice)
        lost = acknowledged - landed - {*saved}
        assert lost <= set().union(
            *(ids.get(seq, set()) for seq in on_page[page_at(home.spool_file, path, at)])
        )
        assert len(saved) == len({*saved} - landed)
        assert book.mark is not None
        assert lost <= ids_of(book.open) == {*range(1, book.mark + 1)} - landed - {*saved}
        shutil.rmtree(folder)
    assert noticed > 15


@pytest.mark.parametrize(
    ("damaged", "missing"), [(1, {10, 11}), (2, {12, 13}), (3, {14, 15}), (0, {*range(10, 16)})]
)
def test_what_was_acknowledged_in_a_damaged_block_is_missing_wherever_it_lay(home, damaged, missing):
    """Nothing has landed: the marks of the old spool say where the capture began and ended; 0 stands for every block."""
    for ids in ([10, 11], [12, 13], [14, 15]):
        capture(home, frame(ids), land=False)
    with closing(sqlite3.connect(home.spool_file)) as spool, spool:
        spool.execute("update block set checksum = checksum + 1 where seq = ? or ? = 0", (damaged, damaged))
    with home.capturing() as (books, writer):
        book = books.ledgers[BTC]
        assert (book.start, book.mark, ids_of(book.open)) == (10, 15, missing)
        writer.heal(BTC, TradePage(trades(sorted(missing)), at_us(20)), "rest", hole(10, 15)).result(20)
        home.land(books)
    assert home.ids() == [*range(10, 16)]
    assert home.open_ids() == set()


def test_a_spool_that_is_no_database_is_set_aside(home):
    """Nothing of it can be read; the lake says what is held, and the rest is asked for."""
    capture(home, frame([1, 2]), frame([5]))
    home.spool_file.write_bytes(b"garbage" * 5000)
    with home.capturing() as (books, _):
        assert "its header is not SQLite's" in books.notice
        assert ids_of(books.ledgers[BTC].open) == {3, 4}


def test_a_spool_that_is_older_than_the_lake_is_not_trusted(home):
    """A copy from a backup would give numbers again that the lake has passed, and lose what comes under them."""
    capture(home, frame([1, 2]), land=False)
    old = home.folder / "old.db"
    shutil.copy(home.spool_file, old)
    capture(home, frame([3]), frame([6]))
    shutil.copy(old, home.spool_file)
    with home.capturing() as (books, writer):
        assert "but bronze." in books.notice
        writer.frames("toy", 1, [frame([5, 6, 7])])
        durable(writer)
        home.land(books)
    assert (home.ids(), home.open_ids()) == ([1, 2, 3, 5, 6, 7], {4})


@pytest.mark.parametrize("leave_old", [True, False])
def test_a_rebuild_that_was_interrupted_begins_again_or_is_finished(home, leave_old):
    """The old file stays until the new one is whole; then the new one takes its place."""
    capture(home, frame([1, 2]), frame([5]), land=False)
    rebuilt = home.spool_file.with_name("trades.db.rebuilt")
    if leave_old:
        rebuilt.write_bytes(b"half of a spool")
    else:
        home.spool_file.rename(rebuilt)
    with home.capturing() as (books, _):
        home.land(books)
    assert (home.ids(), home.open_ids()) == ([1, 2, 5], {3, 4})
    assert not leave_old or rebuilt.exists()


class StoppedError(BaseException):
    """Stands for a crash."""


@pytest.mark.parametrize("done", range(4))
def test_a_rebuild_that_was_interrupted_while_files_change_places_loses_nothing(home, done, monkeypatch):
    """Whichever rename was the last: the next start has the old file with its log, or the new one alone."""
    killed(home, frame([1, 2]), frame([5]), frame([8, 9]))
    flip(log_of(home.spool_file), HEADER_BYTES + CHECKSUM_AT)
    renamed: list[Path] = []

    def rename(old: Path, new: Path) -> None:
        if len(renamed) == done:
            raise StoppedError
        renamed.append(new)
        old.replace(new)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename)
        with pytest.raises(StoppedError):
            home.books()
    with home.capturing() as (books, _):
        assert ids_of(books.ledgers[BTC].open) == {3, 4, 6, 7}
        home.land(books)
    assert (home.ids(), home.open_ids()) == ([1, 2, 5, 8, 9], {3, 4, 6, 7})
    asides = {path.name[-4:] for path in home.spool_file.parent.glob("trades.db.damaged-*")}
    assert {"-wal", "-shm"} < asides
    assert len(asides) == 3


def test_blocks_of_an_instrument_that_is_no_longer_captured_are_saved_too(home):
    """The settings may have changed since."""
    capture(home, frame([1]), frame([3], "ETH"), frame([6], "ETH"), land=False)
    home.spool_file.write_bytes(_without_meta(home.spool_file))
    with home.capturing([BTC]) as (books, _):
        assert "is damaged" in books.notice
        home.land(books)
    assert (home.ids("BTC"), home.ids("ETH"), home.open_ids("ETH")) == ([1], [3, 6], {4, 5})


def _without_meta(path: Path) -> bytes:
    """Return the file at *path* with another identity than the one that was checked."""
    with sqlite3.connect(path) as db:
        db.execute("update meta set value = 'x' || value where key = 'identity'")
    db.close()
    return path.read_bytes()


def test_opaque_ids_are_not_taken_again_after_a_restart(home):
    """Without order among ids, the lake and the spool say which were taken."""
    venues = {"toy": _opaque()}
    for frames in ([frame([9, 3])], [frame([3, 70])], [recent_frame([9, 3, 70, 4])]):
        books = open_books(home.folder / "spool", home.lake, [BTC], venues, CLOCK)
        with books.spool:
            writer = home.writer(books)
            writer.frames("toy", 1, frames)
            durable(writer)
            writer.close()
            if frames[0] != frame([3, 70]):
                home.land(books)
    assert (home.ids(), home.open_ids()) == ([3, 4, 9, 70], set())


def _opaque():
    return replace(TOY, capabilities=replace(TOY.capabilities, id_kind="opaque"))


def test_a_second_capture_on_a_home_is_refused_before_it_touches_anything(home):
    """The first goes on; the message names its process."""
    with home.capturing() as (books, writer):
        with pytest.raises(OperatorError, match="another capture"):
            home.books()
        writer.frames("toy", 1, [frame([1])])
        durable(writer)
        home.land(books)
    assert home.ids() == [1]
    claim(home.folder / "spool").close()


def test_clocks_do_not_matter(home):
    """A clock that is off by seconds or a day changes no id and opens no hole."""
    capture(home, frame([1, 2]))
    for off in (timedelta(seconds=-2), timedelta(days=-1), timedelta(days=400)):
        clock = CLOCK.fixed(NOON + off)
        books = open_books(home.folder / "spool", home.lake, [BTC, ETH], {"toy": TOY}, clock)
        with books.spool:
            assert (books.ledgers[BTC].mark, len(books.ledgers[BTC].open)) == (2, 0)


def test_an_instrument_of_a_venue_that_is_gone_still_has_books():
    """A release may drop a venue whose blocks are still there."""
    assert new_ledger(Instrument("gone", "A", "A"), {}).has_coverage
