"""What the lake holds of a day is told by ids, whatever else a row says."""

from __future__ import annotations

from datetime import timedelta

from cryptolake.capture.holdings import Holdings
from cryptolake.capture.instruments import Instrument
from cryptolake.capture.landing import GAPS
from cryptolake.contracts import load_contracts
from tests.lake.shapes import NOON, open_lake
from tests.lake.test_trades import BRONZE, trades

BTC = Instrument("binance", "BTCUSDT", "BTCUSDT")


def test_a_second_copy_of_an_id_hides_no_other(tmp_path):
    """A copy of another source may have another time, and still is the same trade."""
    with open_lake(tmp_path, load_contracts()) as lake:
        for table in (BRONZE, GAPS):
            lake.ensure(table)
        lake.append(BRONZE, trades(*(n for n in range(1, 11) if n != 5), table=BRONZE))
        lake.append(BRONZE, trades(3, table=BRONZE, at=NOON + timedelta(minutes=1), received_via="rest"))
        with Holdings.look(lake, BTC) as holdings:
            day = holdings.day(NOON.date())
            assert [(hole.first, hole.last) for hole in day.holes] == [(5, 5)]
            assert not holdings.is_whole(NOON.date())
