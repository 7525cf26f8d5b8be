"""What the spool acknowledged is in it, whatever happens to the process, the disk or the file."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cryptolake.capture.batch import EventRow, RejectRow, check, trade_rows
from cryptolake.capture.folder import SpoolDamagedError, claim
from cryptolake.capture.ledger import Ledger
from cryptolake.capture.spool import FILE, Block, Spool, salvaged_blocks
from cryptolake.errors import OperatorError
from tests.capture.ledgers import BTC, Saved, ids_of, trades
from tests.lake.test_faults import mounted

BLOCKS_A_PAGE = 8
"""A block of the tests fills half a page and more, or shares it with others."""


def block_of(ids: range, *, rejects: int = 0) -> Block:
    """Return a block of the trades of *ids*."""
    its = trades(ids)
    checked = check(its)
    rows = trade_rows(
        [("toy", "BTC", len(its))],
        its,
        (checked.prices, checked.quantities),
        [t.traded_at_us for t in its],
        "websocket",
    )
    return Block(
        [rows],
        [EventRow("toy", "BTC", 1, 2, "missing", "sequence gap", None, 0)],
        [RejectRow("toy", None, None, None, 0, "unreadable", bytes([n])) for n in range(rejects)],
    )


def ids_in(blocks: Iterator[tuple[int, Block]] | list[tuple[int, Block]]) -> list[int]:
    """Return the trade ids of *blocks*."""
    return [i for _, block in blocks for batch in block.trades for i in batch["trade_id"].to_pylist()]


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    """A new spool."""
    with Spool.open(tmp_path) as opened:
        yield opened


def test_a_block_comes_back_as_it_was(spool):
    """Trades, events and rejects, by number, until they are trimmed."""
    block = block_of(range(5), rejects=2)
    assert [spool.append(block), spool.append(block_of(range(5, 9)))] == [1, 2]

    (seq, read), _ = spool.read(0, 100)
    assert (seq, read.events, read.rejects) == (1, block.events, block.rejects)
    assert read.trades[0].equals(block.trades[0])
    assert spool.pending() == (2, 9)

    spool.trim(1)
    assert ids_in(spool.read(0, 100)) == [5, 6, 7, 8]
    assert (spool.pending(), spool.last_seq()) == ((1, 4), 2)


def test_blocks_are_read_up_to_a_number_of_trades_and_at_least_one(spool):
    """A commit of the lake stays bounded, and goes on even where one block is larger."""
    for n in range(4):
        spool.append(block_of(range(10 * n, 10 * n + 10)))
    assert len(spool.read(0, 25)) == 2
    assert len(spool.read(0, 3)) == 1
    assert [seq for seq, _ in spool.read(2, 100)] == [3, 4]


def test_numbers_are_never_used_again(tmp_path):
    """Not even after everything was trimmed: positions in the lake count them."""
    with Spool.open(tmp_path) as spool:
        spool.append(block_of(range(3)))
        spool.trim(1)
        identity = spool.identity
    with Spool.open(tmp_path) as spool:
        assert (spool.identity, spool.last_seq(), spool.append(block_of(range(3)))) == (identity, 1, 2)


def test_an_empty_block_has_no_number(spool):
    """A mark may move without anything to land."""
    assert spool.append(Block()) == 0
    assert spool.read(0, 10) == []


def test_books_are_saved_with_their_block(tmp_path):
    """Marks and ranges come back as they were."""
    ledger, saved = Ledger(BTC, "contiguous"), Saved()
    with Spool.open(tmp_path) as spool:
        for ids in ([10, 20], [12, 13], [30], [25]):
            ledger.accept(trades(ids))
            ledger.heal([15, 17], [0, 0], "rest")
            changes = ledger.changes()
            saved.save(changes)
            spool.append(block_of(range(1)), [(BTC, changes)])
    with Spool.open(tmp_path) as spool:
        mark, ranges = spool.saved(BTC)
    assert mark == saved.mark
    assert {(state, r.first): r for state, r in ranges} == saved.ranges
    restored = Ledger(BTC, "contiguous")
    restored.restore(mark, ranges)
    assert ids_of(restored.open) == ids_of(ledger.open)


def test_space_is_used_again(spool):
    """A spool that is trimmed as fast as it grows stays small, and one that has grown gives its pages back."""
    for n in range(1, 60):
        spool.append(block_of(range(1000 * n, 1000 * n + 1000)))
        spool.trim(n - 2)
    assert spool.path.stat().st_size < 1_000_000
    assert spool.used_bytes() < 6_000_000


def test_a_second_capture_is_refused_with_the_number_of_the_first(tmp_path):
    """Two captures on one home would keep two books."""
    with claim(tmp_path / "home" / "spool"), pytest.raises(OperatorError, match="another capture") as refused:
        claim(tmp_path / "home" / "spool")
    assert f"(process {os.getpid()}) is running on {tmp_path / 'home'}" in str(refused.value)
    claim(tmp_path / "home" / "spool").close()


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    """The message names the path, and what to do."""
    (tmp_path / "home").write_text("a file")
    with pytest.raises(OperatorError, match=str(tmp_path / "home" / "spool")):
        claim(tmp_path / "home" / "spool")


@pytest.mark.slow
def test_a_full_disk_keeps_what_was_acknowledged_and_says_so(tmp_path):
    """The message has the path and the free space; with space again the spool goes on."""
    disk = tmp_path / "disk"
    with mounted(disk, "size=1m") as is_mounted:
        if not is_mounted:
            pytest.skip("needs the right to mount a small file system, as root has it")
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(300_000))
        with Spool.open(disk) as spool:
            with pytest.raises(OperatorError, match=rf"the disk is full: {disk} has [0-9,]+ bytes free"):
                append_without_end(spool)
            acknowledged = 100 * spool.last_seq()
            assert ids_in(spool.read(0, 10**9)) == list(range(acknowledged)) != []
            ballast.unlink()
            spool.trim(spool.last_seq())
            spool.append(block_of(range(acknowledged, acknowledged + 100)))


def test_a_folder_without_room_is_said_where_no_disk_can_be_mounted(spool, monkeypatch):
    """SQLite's own word for it is translated."""
    spool._write.execute(f"pragma max_page_count = {spool._write.execute('pragma page_count').fetchone()[0]}")
    with pytest.raises(OperatorError, match=r"the disk is full: .* bytes free"):
        spool.append(block_of(range(50_000)))
    assert spool.read(0, 10) == []


def test_a_home_that_cannot_be_written_is_said(tmp_path):
    """A read-only spool is no spool."""
    Spool.open(tmp_path).close()
    with Spool.open(tmp_path) as spool:
        spool._write.execute("pragma query_only = on")
        with pytest.raises(OperatorError, match=r"cannot be written .* check the folder's owner"):
            spool.append(block_of(range(1)))


def test_the_disks_other_complaints_name_the_file(tmp_path, spool):
    """Whatever it is, nothing that was acknowledged is lost."""
    spool._write.close()
    with pytest.raises(
        OperatorError, match=f"the spool {spool.path} failed: .* Nothing that was acknowledged"
    ):
        spool.append(block_of(range(1)))
    spool._write = sqlite3.connect(spool.path, isolation_level=None)


def append_for_ever(folder: Path, acknowledge: int) -> None:
    """Append blocks until killed, and write the number of each to *acknowledge* once it is durable."""
    with Spool.open(folder) as spool:
        append_without_end(spool, lambda seq: os.write(acknowledge, seq.to_bytes(8, "big")))


def append_without_end(spool: Spool, acknowledge: Callable[[int], object] = lambda _: None) -> None:
    """Append blocks of a hundred trades, whose ids go on where the spool ends."""
    while True:
        at = 100 * spool.last_seq()
        acknowledge(spool.append(block_of(range(at, at + 100))))


@pytest.mark.slow
def test_blocks_that_were_acknowledged_survive_kills(tmp_path):
    """SIGKILL at any moment: every acknowledged block is there, whole, and at most one more."""
    chance = random.Random(11)
    context = multiprocessing.get_context("fork")
    for _ in range(12):
        receive, send = os.pipe()
        process = context.Process(target=append_for_ever, args=(tmp_path, send))
        process.start()
        os.close(send)
        os.read(receive, 8)
        process.join(chance.uniform(0.0, 0.03))
        assert process.pid
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        acknowledged = 0
        while told := os.read(receive, 8):
            acknowledged = int.from_bytes(told, "big")
        os.close(receive)
        with Spool.open(tmp_path) as spool:
            last = spool.last_seq()
            assert acknowledged <= last
            assert ids_in(spool.read(0, 10**9)) == list(range(100 * last))


@pytest.mark.slow
def test_damage_at_any_byte_is_noticed_or_harms_nothing(tmp_path):
    """A spool with a flipped byte is refused, or holds exactly what was written."""
    made, chance = tmp_path / "made", random.Random(5)
    made.mkdir()
    ledger = Ledger(BTC, "contiguous")
    with Spool.open(made) as spool:
        for n in range(30):
            ledger.accept(trades([3 * n]))
            spool.append(block_of(range(40 * n, 40 * n + 40)), [(BTC, ledger.changes())])
        original = dict(spool.read(0, 10**9))
        spool.trim(3)
        written, saved, identity = spool.read(0, 10**9), spool.saved(BTC), spool.identity
    whole = (made / FILE).read_bytes()
    noticed = 0
    for n in range(120):
        folder = tmp_path / f"copy-{n}"
        folder.mkdir()
        spoilt = bytearray(whole)
        spoilt[chance.randrange(len(whole)) if n > 30 else n * 3] ^= chance.randrange(1, 256)
        (folder / FILE).write_bytes(spoilt)
        try:
            with Spool.open(folder) as spool:
                assert spool.read(0, 10**9) == written
                assert (*spool.saved(BTC)[:1], sorted(spool.saved(BTC)[1])) == (saved[0], sorted(saved[1]))
                assert (spool.identity, spool.last_seq()) == (identity, 30)
        except SpoolDamagedError:
            noticed += 1
            original = dict(written)
            for seq, block in salvaged_blocks(folder / FILE):
                assert block.trades == original[seq].trades
        shutil.rmtree(folder)
    assert noticed > 40


def test_blocks_that_only_the_log_has_are_saved_too(tmp_path):
    """What was acknowledged last is in the write-ahead log; there, too, one block that is damaged is one lost."""
    copy = tmp_path / "copy.db"
    with Spool.open(tmp_path) as spool:
        for n in range(4):
            spool.append(block_of(range(1000 * n, 1000 * n + 1000)))
        for ending in ("", "-wal"):
            shutil.copy(f"{spool.path}{ending}", f"{copy}{ending}")
        written = dict(spool.read(0, 10**9))
    copy.write_bytes(b"x" * 100 + copy.read_bytes()[100:])
    found = dict(salvaged_blocks(copy))
    assert {seq: block.trades for seq, block in found.items()} == {
        seq: block.trades for seq, block in written.items()
    }


def test_a_spool_of_another_release_is_not_touched(tmp_path):
    """It says which release reads it."""
    with Spool.open(tmp_path) as spool:
        spool._write.execute(
            "update meta set value = '9', checksum = ? where key = 'format'", (_crc("format", "9"),)
        )
    with pytest.raises(OperatorError, match="written by another release") as refused:
        Spool.open(tmp_path)
    assert not isinstance(refused.value, SpoolDamagedError)


def _crc(*values: str) -> int:
    from cryptolake.capture.spool import _checksum

    return _checksum(*values)
