"""What the lake holds of a day is told by ids, whatever else a row says."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cryptolake.capture.holdings import Holdings
from cryptolake.capture.instruments import Instrument
from cryptolake.capture.landing import GAPS
from cryptolake.clock import Clock
from cryptolake.contracts import load_contracts
from cryptolake.lake import Lake
from cryptolake.lake.catalog import local_catalog
from cryptolake.serving.coverage import Days, coverage
from cryptolake.transform.run import COVERAGE, Transform
from tests.lake.shapes import NOON, open_lake
from tests.lake.test_trades import BRONZE, trades
from tests.transform.market import NOW, Market, day

BTC = Instrument("binance", "BTCUSDT", "BTCUSDT")


def test_a_second_copy_of_an_id_hides_no_other(tmp_path):
    """A copy of another source may have another time, and still is the same trade."""
    with open_lake(tmp_path, load_contracts()) as lake:
        for table in (BRONZE, GAPS):
            lake.ensure(table)
        lake.append(BRONZE, trades(*(n for n in range(1, 11) if n != 5), table=BRONZE))
        lake.append(BRONZE, trades(3, table=BRONZE, at=NOON + timedelta(minutes=1), received_via="rest"))
        with Holdings.look(lake, BTC) as holdings:
            held = holdings.day(NOON.date())
            assert [(hole.first, hole.last) for hole in held.holes] == [(5, 5)]
            assert not holdings.known(NOON.date(), NOON.date())[NOON.date()].is_settled


LAKES = {
    # name: (the ids held of each day, what became of ids, the days that are complete, those with something left to ask for)
    "complete day": ({0: (1, 2), 1: (3, 4), 2: (5,)}, {}, {1}, {-1, 0, 2, 3}),
    "quiet days": ({0: (1, 2), 3: (3, 4), 4: (5,)}, {}, {1, 2, 3}, {-1, 0, 4, 5}),
    "open gap": ({0: (1,), 1: (2, 4), 2: (5, 6), 3: (7,)}, {3: "missing"}, {2}, {-1, 0, 1, 3, 4}),
    "open gap between days": ({0: (1,), 1: (2, 3), 2: (5, 6), 3: (7,)}, {4: "missing"}, set(), {-1, 0, 1, 2, 3, 4}),
    "open gap on a quiet day": ({0: (1,), 1: (2,), 3: (4,), 4: (5,)}, {3: "missing"}, set(), set(range(-1, 6))),
    "hole of which no event tells": ({0: (1,), 1: (2, 4), 2: (5, 6), 3: (7,)}, {}, {2}, {-1, 0, 1, 3, 4}),
    "rejected": ({0: (1,), 1: (2, 4), 2: (5, 6), 3: (7,)}, {3: "rejected"}, {2}, {-1, 0, 3, 4}),
    "rejected between days": ({0: (1,), 1: (2, 3), 2: (5, 6), 3: (7,)}, {4: "rejected"}, set(), {-1, 0, 3, 4}),
    "rejected on a quiet day": ({0: (1,), 1: (2,), 3: (4,), 4: (5,)}, {3: "rejected"}, set(), {-1, 0, 4, 5}),
    "rejected, and held all the same": ({0: (1,), 1: (2, 3, 4), 2: (5,)}, {3: "rejected"}, {1}, {-1, 0, 2, 3}),
    "absent": ({0: (1,), 1: (2, 4), 2: (6, 7), 3: (8,)}, {3: "absent", 5: "absent"}, {1, 2}, {-1, 0, 3, 4}),
    "absent beside rejected": (
        {0: (1,), 1: (4,), 2: (5, 6), 3: (7,)}, {2: "absent", 3: "rejected"}, {2}, {-1, 0, 3, 4}),
    "ten days between trades": (
        {0: (1,), 10: (2,), 20: (3,), 30: (4,)}, {}, set(range(1, 30)), {-1, 0, 30, 31}),
    "ten days, and a gap": (
        {0: (1,), 10: (2,), 20: (4,), 30: (5,)}, {3: "missing"}, set(range(1, 10)) | set(range(21, 30)),
        {-1, 0, *range(10, 21), 30, 31}),
}  # fmt: skip


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """A lake in which each of `LAKES` is an instrument, with its coverage."""
    home, project = tmp_path_factory.mktemp("lake"), tmp_path_factory.mktemp("dbt")
    with Lake.open(local_catalog(home), load_contracts(), Clock.fixed(NOW)) as lake:
        market = Market.open(lake, Transform(project))
        for name, (held, events, _, _) in LAKES.items():
            at = {i: 86_400 * n + i for n, ids in held.items() for i in ids}
            market.trades("binance", name, at)
            for i, event in events.items():
                market.misses("binance", name, i, i, event)
        market.runs(select=COVERAGE)
        yield lake


@pytest.mark.slow
@pytest.mark.parametrize("name", LAKES)
def test_a_day_is_complete_where_its_coverage_says_so(judged, name):
    """One rule for both: every id from the trade below a day to the one above is held or absent, and these two are held."""
    held, _, complete, left = LAKES[name]
    first, last = day(-1), day(max(held) + 1)
    with Holdings.look(judged, Instrument("binance", name, name)) as holdings:
        known = holdings.known(first, last)
        alone = {d: holdings.known(d, d)[d] for d in known}
    with judged.reader() as reader:
        [covered] = coverage(reader, f"binance:{name}", Days(first, last), NOW)
    told = {d.traded_date for d in covered.days if d.is_complete}
    assert told == {d for d in known if known[d].is_complete} == {day(n) for n in complete}
    assert {d for d in known if not known[d].is_settled} == {day(n) for n in left}
    assert alone == known
