"""SQLite forgets what follows a damaged frame of its log; a spool does not, and takes nothing else for damage."""

from __future__ import annotations

import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cryptolake.capture.folder import SpoolDamagedError
from cryptolake.capture.spool import Spool, salvaged_blocks, salvaged_identity
from cryptolake.capture.wal import FRAME_BYTES, FRAME_HEADER_BYTES, HEADER_BYTES, frames
from tests.capture.test_spool import block_of, ids_in

BLOCKS, TRADES = 50, 400
SALT_AT, CHECKSUM_AT = 8, 16
"""In the header of a frame."""


def log_of(spool: Path) -> Path:
    """Return where SQLite's log of *spool* is."""
    return spool.with_name(f"{spool.name}-wal")


def index_of(spool: Path) -> Path:
    """Return where SQLite's index of that log is."""
    return spool.with_name(f"{spool.name}-shm")


def flip(path: Path, at: int, bits: int = 1) -> None:
    """Change *bits* of the byte *at*."""
    content = bytearray(path.read_bytes())
    content[at] ^= bits
    path.write_bytes(content)


def frame_at(n: int) -> int:
    """Return where the frame *n* of a log begins."""
    return HEADER_BYTES + n * FRAME_BYTES


def append(spool: Spool, count: int) -> None:
    """Append *count* blocks that need several pages, whose ids go on where the spool ends."""
    for seq in range(spool.last_seq(), spool.last_seq() + count):
        spool.append(block_of(range(TRADES * seq, TRADES * (seq + 1))))


def killed(spool: Spool) -> Path:
    """Return a copy of *spool* as a kill would leave it now."""
    folder = spool.path.parent
    copy = shutil.copytree(folder, folder.with_name(f"{folder.name}-killed"))
    return copy / spool.path.name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder."""
    made = tmp_path / "spool"
    made.mkdir()
    return made


@pytest.fixture
def left(folder: Path) -> Path:
    """A killed spool whose blocks are in the log alone."""
    with Spool.open(folder) as spool:
        append(spool, BLOCKS)
        return killed(spool)


@pytest.fixture
def left_in_second_round(folder: Path) -> Path:
    """A killed spool whose log was written from its start again: behind the last ten blocks, older frames stand."""
    with Spool.open(folder) as spool:
        append(spool, BLOCKS - 10)
        spool._write.execute("pragma wal_checkpoint(full)").fetchall()
        append(spool, 10)
        return killed(spool)


def believed(spool: Path) -> int:
    """Return how many frames SQLite believes of a copy of *spool*."""
    copy = shutil.copytree(spool.parent, spool.parent.with_name("believed"), dirs_exist_ok=True)
    with closing(sqlite3.connect(copy / spool.name)) as db:
        return db.execute("pragma wal_checkpoint(passive)").fetchone()[1]


def overflows(spool: Path) -> list[int]:
    """Return which frames hold a part of one block alone."""
    return [n for n, each in enumerate(frames(spool)) if each.page[0] == 0]


def assert_damaged(spool: Path, lost: int = 0) -> None:
    """Check that *spool* is refused, that its log stays, and that all of its blocks but *lost* are readable then."""
    log = log_of(spool).read_bytes()
    with pytest.raises(SpoolDamagedError, match="write-ahead log"):
        Spool.open(spool.parent)
    assert salvaged_identity(spool) is not None
    assert len(dict(salvaged_blocks(spool))) == BLOCKS - lost
    assert log_of(spool).read_bytes() == log


def test_a_damaged_frame_in_the_middle_of_the_log_costs_its_own_block_alone(left):
    """What was acknowledged after it is still there, and the log is not deleted."""
    flip(log_of(left), frame_at(overflows(left)[BLOCKS // 2]) + FRAME_HEADER_BYTES + 8)
    assert_damaged(left, lost=1)


def test_no_block_is_lost_where_only_salts_or_checksums_are_damaged(left):
    """The salts of a round are known from its other frames, and a frame without them by the one that it continues."""
    last = len(frames(left)) - 1
    headers = [frame_at(n) + at for n in (0, 60, last) for at in range(SALT_AT, FRAME_HEADER_BYTES, 3)]
    for at in (*range(0, HEADER_BYTES, 3), *headers):
        flip(log_of(left), at, 0x40)
        assert_damaged(left)
        flip(log_of(left), at, 0x40)


def test_a_page_that_is_logged_under_a_wrong_number_hides_no_other(left):
    """Nor is it looked for among the thousands of millions of pages that the file would have."""
    one, other = overflows(left)[10], overflows(left)[30]
    its, others = (frames(left)[n].number for n in (one, other))
    for at, bits in ((0, 0x80), (3, its ^ others)):
        flip(log_of(left), frame_at(other) + at, bits)
        assert_damaged(left, lost=1)
        flip(log_of(left), frame_at(other) + at, bits)


def test_a_log_whose_first_page_is_gone_still_gives_what_follows(left):
    """Nothing of the header is left, nor of the first frame's."""
    content = bytearray(log_of(left).read_bytes())
    content[:4096] = bytes(4096)
    log_of(left).write_bytes(content)
    assert_damaged(left)


@pytest.mark.slow
@pytest.mark.parametrize("spool", ["left", "left_in_second_round"])
def test_a_log_is_refused_exactly_where_sqlite_would_forget_a_part_of_it(spool, request):
    """Whatever byte is changed; those behind the round are of no use to either."""
    path, chance = request.getfixturevalue(spool), random.Random(3)
    log, whole = log_of(path), believed(path)
    assert len(frames(path)) == whole
    headers = [
        frame_at(n) + at for n in (0, whole // 2, whole - 1, whole) for at in range(FRAME_HEADER_BYTES)
    ]
    size = log.stat().st_size
    places = [*range(HEADER_BYTES), *headers, *(chance.randrange(size) for _ in range(60))]
    for at in places:
        if at < size:
            bits = chance.randrange(1, 256)
            flip(log, at, bits)
            is_damaged = not all(each.is_sound for each in frames(path))
            assert is_damaged == (believed(path) < whole), at
            flip(log, at, bits)


def test_a_commit_that_is_none_any_more_is_damage(left):
    """The last frame of a transaction says how large the file is then; without that it would not have ended."""
    last = len(frames(left)) - 1
    with log_of(left).open("rb+") as log:
        log.seek(frame_at(last) + 4)
        log.write(bytes(4))
    assert_damaged(left)


def test_a_log_that_is_cut_off_or_empty_or_not_there_is_sound(left):
    """A kill may leave half a frame, a header, or nothing."""
    index_of(left).unlink()
    for size in (frame_at(60) + 100, frame_at(1) - 1, HEADER_BYTES, 5, 0):
        with log_of(left).open("rb+") as log:
            log.truncate(size)
        assert all(each.is_sound for each in frames(left))
        assert len(frames(left)) == believed(left)
    log_of(left).unlink()
    assert frames(left) == []


def test_a_log_that_was_begun_again_without_a_frame_is_empty(left_in_second_round):
    """What follows the header is of the round before it."""
    index_of(left_in_second_round).unlink()
    content = log_of(left_in_second_round).read_bytes()
    older = content[frame_at(len(frames(left_in_second_round))) :]
    log_of(left_in_second_round).write_bytes(content[:HEADER_BYTES] + older)
    assert frames(left_in_second_round) == []


def test_a_transaction_that_a_kill_has_cut_off_is_no_damage_now_or_later(folder):
    """Its frames stay in the log behind shorter ones of the next run; a second kill does not make damage of them."""
    with Spool.open(folder) as spool:
        append(spool, 5)
        spool._write.execute("pragma cache_size = 10")
        spool._write.execute("begin")
        spool._write.executemany(
            "insert into block values (?, 1, ?, 1)", ((n, bytes(50_000)) for n in range(6, 30))
        )
        once = killed(spool)
        spool._write.execute("rollback")
    assert log_of(once).stat().st_size > frame_at(len(frames(once)) + 100)
    with Spool.open(once.parent) as spool:
        assert spool.last_seq() == 5
        append(spool, 1)
        twice = killed(spool)
    with Spool.open(twice.parent) as spool:
        assert ids_in(spool.read(0, 10**9)) == [*range(6 * TRADES)]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_log_whose_file_is_gone_is_not_deleted(left, is_there):
    """SQLite would do so, and begin a new file."""
    left.write_bytes(b"")
    if not is_there:
        left.unlink()
    assert_damaged(left)


def test_a_spool_that_is_settled_is_whole_without_its_log(folder, tmp_path):
    """The file may be moved alone."""
    with Spool.open(folder) as spool:
        append(spool, BLOCKS)
        spool.settle()
        assert log_of(spool.path).stat().st_size == 0
        shutil.copy(spool.path, tmp_path)
    with Spool.open(tmp_path) as spool:
        assert spool.pending() == (BLOCKS, BLOCKS * TRADES)
