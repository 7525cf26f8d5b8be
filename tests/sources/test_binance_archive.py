"""Archive files become the trades that they print, or say why not."""

from __future__ import annotations

import hashlib
import io
import random
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from cryptolake.errors import NotPublishedError, SourceRefusedError
from cryptolake.sources.binance import VENUE, archive
from cryptolake.sources.binance.trade_lines import SCHEMA
from cryptolake.sources.venue import ArchivePiece, Places, TradeHistory
from tests.sources.answering import Answers, serving
from tests.sources.clocks import Sleeps

DAY = date(2025, 1, 1)
PATH = "/data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2025-01-01.zip"
NEW_YEAR_US = 1_735_689_600_000_000
NEW_YEAR = datetime(2025, 1, 1, tzinfo=UTC)
HEADER = "id,price,qty,quote_qty,time,is_buyer_maker,is_best_match\n"


def zipped(lines: str | bytes, name: str = "BTCUSDT-trades-2025-01-01.csv") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, lines)
    return buffer.getvalue()


def checksum(body: bytes) -> bytes:
    return f"{hashlib.sha256(body).hexdigest()}  BTCUSDT-trades-2025-01-01.zip\n".encode()


def published(lines: str | bytes, path: str = PATH) -> Answers:
    body = zipped(lines)
    return Answers("binance", files={path: [body], f"{path}.CHECKSUM": [checksum(body)]})


@contextmanager
def history(answers: Answers) -> Iterator[TradeHistory]:
    with (
        serving(answers) as url,
        VENUE.open_history(Places((), url, url), Sleeps(NEW_YEAR).clock, random.Random(5)) as opened,
    ):
        yield opened


def day(answers: Answers) -> list[ArchivePiece]:
    with history(answers) as opened:
        return list(opened.archived_day("BTCUSDT", DAY))


def only(answers: Answers) -> ArchivePiece:
    (piece,) = day(answers)
    return piece


def line(
    trade_id: object, price: object = "93000.10", at: object = NEW_YEAR_US, maker: object = "True"
) -> str:
    return f"{trade_id},{price},0.00100000,93.00010000,{at},{maker},True\n"


def test_a_file_gives_its_trades_with_every_digit():
    """Ids, decimals, sides and times are those of the file, in the types of the table."""
    piece = only(published(line(7) + line(8, "0.00000001", NEW_YEAR_US + 10866, "False")))
    assert piece.rows.schema == SCHEMA
    assert piece.rows.to_pylist() == [
        {
            "trade_id": 7,
            "price": Decimal("93000.10"),
            "quantity": Decimal("0.001"),
            "is_buyer_maker": True,
            "traded_at": NEW_YEAR,
        },
        {
            "trade_id": 8,
            "price": Decimal("0.00000001"),
            "quantity": Decimal("0.001"),
            "is_buyer_maker": False,
            "traded_at": NEW_YEAR.replace(microsecond=10866),
        },
    ]
    assert piece.rejects == []


@pytest.mark.parametrize(
    "lines",
    {
        "microseconds": line(7) + line(8, maker="False"),
        "milliseconds": line(7, at=NEW_YEAR_US // 1000) + line(8, at=NEW_YEAR_US // 1000, maker="False"),
        "both": line(7, at=NEW_YEAR_US // 1000) + line(8, maker="False"),
        "a header": HEADER + line(7) + line(8, maker="False"),
        "a byte order mark and a header": "\ufeff" + HEADER + line(7) + line(8, maker="False"),
        "small letters": line(7, maker="true") + line(8, maker="false"),
        "no newline at the end": (line(7) + line(8, maker="False")).rstrip("\n"),
        "newlines of Windows": (line(7) + line(8, maker="False")).replace("\n", "\r\n"),
        "a blank line": line(7) + "\n" + line(8, maker="False"),
        "six columns": (line(7) + line(8, maker="False")).replace(",True\n", "\n"),
        "falling ids": line(8, maker="False") + line(7),
        "a line twice": line(7) + line(7) + line(8, maker="False"),
    }.items(),
    ids=lambda case: case[0],
)
def test_every_shape_that_files_have_had_gives_the_same_trades(lines: tuple[str, str]):
    """Units, headers, spellings and line ends of all the years."""
    piece = only(published(lines[1]))
    expected = only(published(line(7) + line(8, maker="False")))
    assert piece.rows.equals(expected.rows)
    assert piece.rejects == []


@pytest.mark.parametrize(
    ("bad", "trade_id", "reason"),
    [
        (line(8, price="nan"), 8, "not a number"),
        (line(8, price=""), 8, "ConversionSyntax"),
        (line(8, price="0.0000000000001"), 8, "does not fit"),
        (line(8, price="1" + "0" * 16), 8, "does not fit"),
        (line(8, maker="maybe"), 8, "neither True nor False"),
        (line(8, at=-5), 8, "not a trade id"),
        (line(8, at=NEW_YEAR_US // 10**6), 8, "neither in milliseconds"),
        (line(8, at=NEW_YEAR_US * 1000), 8, "neither in milliseconds"),
        (line("-8"), None, "not a trade id"),
        (line("eight"), None, "not a trade id"),
        (line(2**61 + 1), None, "too large"),
        (line(2**63), None, "too large"),
        (line(8, price="0.00"), 8, "the price 0.00 is not above zero"),
        (line(8, price="-5.0"), 8, "the price -5.0 is not above zero"),
        (line(8).replace("0.00100000", "0"), 8, "the quantity 0 is not above zero"),
        ("8,93000.10,0.001\n", 8, "3 fields"),
        ("8,93000.10,0.001,1,1,1,1,1,1\n", 8, "9 fields"),
        ("\u00e9" * 5 + "\n", None, "ascii"),
        (line(7, price="5.0"), 7, "two different trades"),
    ],
)
def test_a_bad_line_is_set_apart_with_its_bytes_and_the_others_stay(
    bad: str, trade_id: int | None, reason: str
):
    """One line that nobody can trust is a reject, with its id where that can be read."""
    piece = only(published(line(7) + bad + line(9)))
    assert piece.rows["trade_id"].to_pylist() == [7, 9]
    (reject,) = piece.rejects
    assert (reject.source, reject.symbol, reject.trade_id) == ("binance", "BTCUSDT", trade_id)
    assert reject.payload == bad.rstrip("\n").encode()
    assert reason in reject.reason


def test_trades_that_are_all_for_nothing_or_of_ids_that_cannot_be_are_no_rows():
    """Also where every line can be read as columns, a price, a quantity and an id are what they can be."""
    for lines in (
        line(8, price="0"),
        line(8, price="-1"),
        line(2**61 + 1),
        line(8).replace("0.00100000", "0"),
    ):
        piece = only(published(lines))
        assert (piece.rows.num_rows, len(piece.rejects)) == (0, 1)
    assert only(published(line(2**61))).rows["trade_id"].to_pylist() == [2**61]


def test_a_long_file_comes_in_pieces_without_losing_a_line():
    """Whatever the size of a piece, the trades are those of the file, by rising id, and memory holds one piece."""
    lines = "".join(line(trade_id, f"{trade_id}.5") for trade_id in range(1000, 3000))
    answers = published(lines)
    whole = only(answers)
    sleeps = Sleeps(NEW_YEAR)
    for size in (100, 997, 40_000):
        with serving(answers) as url, archive.opened(url, sleeps.clock, random.Random(1)) as files:
            pieces = list(archive.pieces(files, PATH, "BTCUSDT", piece_bytes=size))
        assert len(pieces) >= len(lines) // (2 * size)
        assert pa.concat_tables([piece.rows for piece in pieces]).equals(whole.rows)
        assert not any(piece.rejects for piece in pieces)


def test_an_id_below_the_piece_before_is_a_reject():
    """Rows come by rising id across pieces too."""
    answers = published(line(7) + line(8) + line(5) + line(9))
    sleeps = Sleeps(NEW_YEAR)
    with serving(answers) as url, archive.opened(url, sleeps.clock, random.Random(1)) as files:
        pieces = list(archive.pieces(files, PATH, "BTCUSDT", piece_bytes=2 * len(line(7))))
    assert [piece.rows["trade_id"].to_pylist() for piece in pieces] == [[7, 8], [9]]
    assert [reject.trade_id for piece in pieces for reject in piece.rejects] == [5]


def test_an_empty_file_has_no_trades():
    """A day on which nothing was traded."""
    assert sum(piece.rows.num_rows for piece in day(published(HEADER))) == 0
    assert day(published("")) == []


def test_a_wrong_checksum_is_fetched_again():
    """A file that was replaced while it was fetched is right the second time."""
    body = zipped(line(7))
    answers = Answers("binance", files={PATH: [body[:-9], body], f"{PATH}.CHECKSUM": [checksum(body)]})
    assert only(answers).rows.num_rows == 1
    assert [path for path, _ in answers.requests] == [f"{PATH}.CHECKSUM", PATH] * 2


@pytest.mark.parametrize("promised", [b"", b"<html>", b"\xff\xfe", b"z" * 64])
def test_a_checksum_file_that_has_no_checksum_is_named(promised: bytes):
    """What cannot be read promised nothing, so the file itself is not blamed."""
    answers = Answers("binance", files={PATH: [zipped(line(7))], f"{PATH}.CHECKSUM": [promised]})
    with pytest.raises(
        SourceRefusedError,
        match=r"the archive's checksum file \S+\.CHECKSUM of binance cannot be read, twice.*run again when",
    ):
        day(answers)
    assert len(answers.requests) == 4


def test_a_checksum_that_is_wrong_twice_is_refused_with_what_to_do():
    """Nothing of such a file is kept."""
    body, promised = zipped(line(7)), checksum(b"something else")
    answers = Answers("binance", files={PATH: [body], f"{PATH}.CHECKSUM": [promised]})
    with pytest.raises(
        SourceRefusedError,
        match=r"does not match its checksum, twice.*kept; run again when the archive was mended$",
    ):
        day(answers)
    assert len(answers.requests) == 4


@pytest.mark.parametrize("body", [b"no zip at all", zipped(line(7))[:-30]])
def test_a_file_that_is_no_zip_is_refused(body: bytes):
    """A right checksum of a broken file does not make it readable."""
    answers = Answers("binance", files={PATH: [body], f"{PATH}.CHECKSUM": [checksum(body)]})
    with pytest.raises(SourceRefusedError, match="not a zip of one CSV"):
        day(answers)


def test_a_zip_of_two_files_is_refused():
    """Which of them has the trades nobody knows."""
    buffer = io.BytesIO(zipped(line(7)))
    with zipfile.ZipFile(buffer, "a") as file:
        file.writestr("other.csv", line(8))
    body = buffer.getvalue()
    answers = Answers("binance", files={PATH: [body], f"{PATH}.CHECKSUM": [checksum(body)]})
    with pytest.raises(SourceRefusedError, match="not a zip of one CSV"):
        day(answers)


def test_a_day_that_is_not_published_is_told_without_a_download():
    """The checksum is asked for first; without it there is no file."""
    answers = published(line(7), path="/another")
    with pytest.raises(NotPublishedError, match="BTCUSDT-trades-2025-01-01"):
        day(answers)
    assert len(answers.requests) == 1


def test_a_server_error_is_asked_again_and_the_file_begins_anew():
    """What came before the fault is not kept."""
    answers = published(line(7))
    answers.faults = [(503, {}, b"busy"), (503, {}, b"busy" * 1000)]
    assert only(answers).rows.num_rows == 1


def test_a_month_has_a_file_of_its_own():
    """Named by year and month."""
    path = "/data/spot/monthly/trades/BTCUSDT/BTCUSDT-trades-2024-12.zip"
    with history(published(line(7), path=path)) as opened:
        (piece,) = opened.archived_month("BTCUSDT", date(2024, 12, 1))
    assert piece.rows.num_rows == 1


def test_without_an_archive_nothing_is_published():
    """The setting may be left out; REST has the trades too."""
    with (
        VENUE.open_history(
            Places((), "http://127.0.0.1:9"), Sleeps(NEW_YEAR).clock, random.Random(1)
        ) as opened,
        pytest.raises(NotPublishedError, match="archive_url"),
    ):
        list(opened.archived_day("BTCUSDT", DAY))
