"""What a backfill writes is compared with what is stored of the same ids, and with nothing else."""

from __future__ import annotations

from pathlib import Path

from cryptolake.capture.deliveries import Deliveries
from cryptolake.capture.holdings import Holdings
from cryptolake.capture.landing import GAPS, TRADES
from cryptolake.capture.ranges import Range
from cryptolake.clock import Clock
from tests.capture.streams import BTC, open_lake


def test_events_are_compared_with_those_of_their_ids_only(tmp_path: Path):
    """An event that is stored is not stored again; files of other ids may be damaged, and nobody notices."""
    with open_lake(tmp_path) as lake:
        lake.ensure(TRADES)
        lake.ensure(GAPS)
        with Holdings.look(lake, BTC) as holdings:
            taken = Deliveries(lake, BTC, holdings, has_coverage=True, clock=Clock(), run_id="test")
        taken.note("absent", [Range(5, 9)], "its neighbours are adjacent", "rest")
        taken.flush()
        [old] = lake.table(GAPS).scan().plan_files()
        Path(old.file.file_path.removeprefix("file://")).write_bytes(b"damaged")

        for ranges in ([Range(50, 59)], [Range(50, 59), Range(70, 79)]):
            taken.note("absent", ranges, "its neighbours are adjacent", "archive")
            taken.flush()

        added = [int(s.summary["added-records"]) for s in lake.table(GAPS).snapshots() if s.summary]
    assert added == [1, 1, 1]
