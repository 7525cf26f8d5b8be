"""The recordings are exactly what was recorded, say where they come from, and may be replaced."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cryptolake.errors import OperatorError
from cryptolake.replay import encode
from cryptolake.replay.recordings import BUNDLED, INDEX, Recordings, Series, bundled_file
from cryptolake.replay.venues.tape import RECORDED_TRADES

EPOCH = datetime.fromtimestamp(0, UTC)
ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"


@pytest.fixture
def originals(recordings: Path) -> Path:
    """The folder with the original recordings, all that the bundled ones are made from."""
    missing = [
        source.folder
        for source in (*encode.SOURCES.values(), encode.TRADES)
        if not (recordings / source.folder).exists()
    ]
    if missing:
        pytest.skip(f"needs {', '.join(missing)} in {recordings}")
    return recordings


def points(series: Series) -> list[tuple]:
    return list(zip(series.timestamps_ms, series.prices, series.market_caps, series.volumes, strict=True))


def csv_points(path: Path, names: tuple[str, str, str], coin_column: str) -> Iterator[tuple[str, tuple]]:
    with path.open() as lines:
        for row in csv.DictReader(lines):
            moment = datetime.fromisoformat(row["date"]).replace(tzinfo=UTC)
            values = (float(row[name]) if row[name] else None for name in names)
            yield row[coin_column], ((moment - EPOCH) // timedelta(milliseconds=1), *values)


@pytest.mark.recordings
def test_the_50_coins_are_exactly_the_recorded_ones(originals: Path):
    """Every point of every file is there, bit by bit, and no other."""
    bundled = Recordings.bundled("50-coins")
    files = sorted((originals / encode.SOURCES["50-coins"].folder).glob("*.csv"))
    assert {path.stem for path in files} == set(bundled.coins)
    for path in files:
        recorded = csv_points(path, ("price", "market_cap", "total_volume"), "coin_name")
        assert points(bundled.coins[path.stem]) == [point for _, point in recorded], path.stem


@pytest.mark.recordings
def test_the_250_coins_are_exactly_the_recorded_ones(originals: Path):
    """Every row of the file is there, bit by bit, and no other."""
    bundled = Recordings.bundled("250-coins")
    path = originals / encode.SOURCES["250-coins"].folder / "prices.csv"
    recorded = list(csv_points(path, ("prices", "market_caps", "total_volumes"), "coin"))
    served = [(coin, point) for coin, series in bundled.coins.items() for point in points(series)]
    assert sorted(served) == sorted(recorded)


@pytest.mark.recordings
def test_the_index_is_exactly_the_recorded_one(originals: Path):
    """Every day of the recorded answer is there, and no other."""
    recorded = json.loads((originals / encode.SOURCES[INDEX].folder / "fear_greed.json").read_text())["data"]
    served = [(day.value, day.classification, day.timestamp) for day in Recordings.bundled().index]
    assert served == [
        (int(day["value"]), day["value_classification"], int(day["timestamp"])) for day in reversed(recorded)
    ]


@pytest.mark.recordings
def test_encoding_the_originals_again_gives_the_bundled_values(originals: Path, tmp_path: Path):
    """The bundled files are what the documented command makes."""
    encode.encode(originals, tmp_path)
    for name in (*encode.SOURCES, RECORDED_TRADES):
        made, bundled = pq.read_table(tmp_path / f"{name}.parquet"), pq.read_table(bundled_file(name))
        assert made.equals(bundled, check_metadata=True), name


def test_the_recorded_answer_for_bitcoin_is_exactly_the_golden_one():
    """The 90 days of bitcoin are the recorded body, point by point."""
    expected = json.loads((GOLDEN / "coingecko" / "market_chart_daily.expected.json").read_text())
    bundled = Recordings.bundled("bitcoin-90-days")
    assert [list(point) for point in points(bundled.coins["bitcoin"])] == expected
    assert bundled.coins["bitcoin"].ends_intraday()
    assert bundled.ends_at == datetime(2021, 5, 15, 14, 42, 27, tzinfo=UTC)


def test_the_oddities_of_the_recordings_are_kept():
    """Off-midnight instants, a null and zero market caps, and a price of a hundred-thousandth of a cent."""
    coins = Recordings.bundled().coins
    assert sum(len(series) for series in coins.values()) == 71_428
    assert (1_517_270_718_718, 11095.2106891266) in list(zip(*points_of(coins["bitcoin"]), strict=True))
    assert coins["bitcoin"].market_caps.count(None) == 1
    assert coins["wrapped-bitcoin"].market_caps.count(0.0) == 580
    assert min(price for price in coins["shiba-inu"].prices if price) < 1e-10


def points_of(series: Series) -> tuple:
    return series.timestamps_ms, series.prices


@pytest.mark.parametrize(
    ("name", "coins", "ends_at"),
    [
        ("50-coins", 50, datetime(2022, 9, 26, 12, tzinfo=UTC)),
        ("250-coins", 250, datetime(2024, 3, 16, 12, tzinfo=UTC)),
    ],
)
def test_a_daily_recording_ends_at_noon_of_its_last_day(name: str, coins: int, ends_at: datetime):
    """The demo's clock is the recording's end; every set comes with the whole index."""
    recordings = Recordings.bundled(name)
    assert (len(recordings.coins), recordings.ends_at, len(recordings.index)) == (coins, ends_at, 2851)


@pytest.mark.parametrize("name", [*sorted(encode.SOURCES), RECORDED_TRADES])
def test_a_recording_says_where_it_comes_from(name: str):
    """Source, commit and licence stand in the file, in the README beside it and in NOTICE."""
    source = encode.SOURCES.get(name, encode.TRADES)
    said = pq.read_schema(bundled_file(name)).metadata
    assert said[b"cryptolake.source"].decode() == f"{source.repository} at {source.commit}"
    assert said[b"cryptolake.licence"].decode() == source.licence
    readme = (bundled_file(name).parent / "README.md").read_text()
    assert all(text in readme for text in (f"{name}.parquet", source.repository, source.commit))
    notice = (ROOT / "NOTICE").read_text()
    assert all(text in notice for text in (f"{name}.parquet", source.repository.removeprefix("https://")))
    if source.licence.startswith("MIT, "):
        assert all(source.licence.removeprefix("MIT, ") in text for text in (readme, notice))


def test_the_bundled_files_are_a_few_megabytes():
    """The package stays small."""
    assert sum(bundled_file(name).stat().st_size for name in (*BUNDLED, INDEX)) < 4_000_000


def test_a_folder_of_recordings_may_hold_every_known_form(tmp_path: Path):
    """Charts as JSON, both kinds of CSV, Parquet as bundled, and an index; other files are left out."""
    midnight = 1_698_192_000_000
    chart = {
        "prices": [[midnight, 1], [midnight + 60_000_000, 2.5]],
        "market_caps": [[midnight, None]],
        "total_volumes": [],
    }
    (tmp_path / "alpha.json").write_text(json.dumps(chart))
    (tmp_path / "beta.csv").write_text(
        "date,price,total_volume,market_cap,coin_name\n2023-10-25 00:05:00.250,3.5,,0.0,beta\n"
    )
    (tmp_path / "many.csv").write_text(
        "date,prices,market_caps,total_volumes,coin\n2023-10-25,4.5,5,6,gamma\n"
    )
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty.json").write_text("{}")
    (tmp_path / "README.md").write_text("notes")
    (tmp_path / "fng.json").write_bytes((GOLDEN / "alternative_me" / "fng_limit_2.json").read_bytes())
    (tmp_path / "bundled.parquet").write_bytes(bundled_file("bitcoin-90-days").read_bytes())
    recordings = Recordings.read(tmp_path)
    assert sorted(recordings.coins) == ["alpha", "beta", "bitcoin", "gamma"]
    assert points(recordings.coins["alpha"]) == [
        (midnight, 1.0, None, None),
        (midnight + 60_000_000, 2.5, None, None),
    ]
    assert points(recordings.coins["beta"]) == [(midnight + 300_250, 3.5, 0.0, None)]
    assert points(recordings.coins["gamma"]) == [(midnight, 4.5, 5.0, 6.0)]
    assert len(recordings.coins["bitcoin"]) == 91
    assert len(recordings.index) == 2
    assert recordings.ends_at == datetime(2023, 10, 25, 16, 40, tzinfo=UTC)


def test_a_folder_without_an_index_gets_the_bundled_one(tmp_path: Path):
    """Prices alone are enough for a run of everything."""
    (tmp_path / "beta.csv").write_text("date,price\n2023-10-25,3.5\n")
    recordings = Recordings.read(tmp_path)
    assert len(recordings.index) == 2851
    assert recordings.ends_at == datetime(2023, 10, 25, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bad.json", "{"),
        ("bad.csv", "date,price\nyesterday,1\n"),
        ("bad.csv", "date,price\n2023-10-25,x\n"),
        ("bad.parquet", "x"),
    ],
)
def test_a_broken_recording_is_an_error_that_names_the_file(tmp_path: Path, name: str, content: str):
    """A recording that cannot be read stops, rather than being left out."""
    (tmp_path / name).write_text(content)
    with pytest.raises(OperatorError, match=name):
        Recordings.read(tmp_path)


def test_missing_recordings_are_errors_that_say_what_to_do(tmp_path: Path):
    """No folder, nothing in it, no such set."""
    with pytest.raises(OperatorError, match="there is no folder"):
        Recordings.read(tmp_path / "nowhere")
    with pytest.raises(OperatorError, match="holds no recordings"):
        Recordings.read(tmp_path)
    with pytest.raises(OperatorError, match="there are 50-coins, 250-coins, bitcoin-90-days"):
        Recordings.bundled("51-coins")
    with pytest.raises(OperatorError, match="install the wheel"):
        bundled_file("51-coins")


@pytest.mark.recordings
def test_the_bundled_frames_are_those_of_the_source(originals: Path):
    """Every `@trade` frame of the source is bundled, with the nanosecond of its receipt, and nothing else."""
    files = sorted((originals / encode.TRADES.folder).glob("spot_*.gz"))
    texts = [gzip.decompress(path.read_bytes()) for path in files]
    lines = [line.partition(b" ") for text in texts for line in text.splitlines()]
    expected = sorted((int(ns), frame) for ns, _, frame in lines if b'@trade"' in frame[:40])
    table = pq.read_table(bundled_file(RECORDED_TRADES))
    found = zip(table["received_at_ns"].to_pylist(), table["frame"].to_pylist(), strict=True)
    assert sorted(found) == expected
