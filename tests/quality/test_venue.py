"""Our bars against the venues' own: what agrees, what does not, and what is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cryptolake.errors import SourceDownError
from cryptolake.lake import Lake
from cryptolake.quality import CheckResult
from cryptolake.quality.venue import check_with_venues
from cryptolake.sources.records import Kline
from cryptolake.sources.registry import VENUES
from tests.quality.clean_lake import NOW, copied
from tests.quality.clean_trades import BTC, LUNA, build, tables

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE_US = 60_000_000
BARS = [b for b in tables()["silver.bars_1m"] if b["is_complete"]]
Change = Callable[[Kline], Kline | None]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the home of a clean lake of trades."""
    home = tmp_path_factory.mktemp("clean")
    build(home)
    return home


@pytest.fixture
def lake(home: Path, tmp_path: Path) -> Iterator[Lake]:
    """Return a copy of the clean lake."""
    with copied(home, tmp_path) as lake:
        yield lake


@dataclass
class Venues:
    """
    Venues that have our bars, printed with *places* decimals, but for what *change* does to each.

    Where they have a *reach*, they give no more than so many minutes, back from one that is *ahead* of our last bar.
    """

    places: int = 18
    change: Change = lambda kline: kline
    reach: int | None = None
    ahead: int = 0
    asked: list[tuple[Any, ...]] = field(default_factory=list)

    def klines(self, venue: str, symbol: str, start_us: int, end_us: int) -> Sequence[Kline]:
        """Return the bars of a venue from *start_us* until *end_us*."""
        self.asked.append((venue, symbol, start_us, end_us))
        told = [self._kline(b) for b in BARS if (b["venue"], b["symbol"]) == (venue, symbol)]
        if self.reach is not None:
            newest_us = told[-1].start_us + self.ahead * MINUTE_US
            told.append(msgspec.structs.replace(told[-1], start_us=newest_us))
            told = [k for k in told if k.start_us > newest_us - self.reach * MINUTE_US]
        inside = [k for k in told if start_us <= k.start_us < end_us]
        return [k for kline in inside if (k := self.change(kline)) is not None]

    def _kline(self, bar: dict[str, Any]) -> Kline:
        unit = Decimal(1).scaleb(-self.places)
        figures = {f: bar[f] for f in msgspec.structs.asdict(Kline(0, *"00000")) if f != "start_us"}
        printed = {
            f: v if isinstance(v, int) else f"{v.quantize(unit, ROUND_DOWN):f}" for f, v in figures.items()
        }
        return Kline((bar["bar_start_at"] - EPOCH) // timedelta(microseconds=1), **printed)


def checked(lake: Lake, venues: Venues, **options: Any) -> list[CheckResult]:
    """Return the result of a check with *venues*."""
    known = {
        name: replace(venue, capabilities=replace(venue.capabilities, klines_reach_minutes=venues.reach))
        for name, venue in VENUES.items()
    }
    with lake.reader() as reader:
        return check_with_venues(lake, reader, venues.klines, run_id="run", now=NOW, venues=known, **options)


def of_the_last(minutes: int, instrument: tuple[str, str] = BTC) -> list[dict[str, Any]]:
    """Return our complete bars of the *minutes* that end with the newest one."""
    its = [b for b in BARS if (b["venue"], b["symbol"]) == instrument]
    return [b for b in its if b["bar_start_at"] > its[-1]["bar_start_at"] - timedelta(minutes=minutes)]


@pytest.mark.parametrize("places", [8, 12, 24])
def test_bars_equal_the_venues_at_the_scale_it_prints(lake: Lake, places: int) -> None:
    """What the venue cuts off is no difference; only the result is kept, with what was compared."""
    [result] = checked(lake, Venues(places))

    assert (result.check_name, result.status, result.metric_value) == ("bars_equal_venue_klines", "passed", 0)
    assert "coinbase:BTC-USD: 125 minutes compared" in str(result.message)
    with lake.reader() as reader:
        kept = "select check_name, status, run_id from quality.check_results"
        assert reader.rows(kept) == [("bars_equal_venue_klines", "passed", "run")]


@pytest.mark.parametrize(
    "figures",
    [{"high": "99999.99"}, {"volume": "0.000001"}, {"trade_count": 7}, {"taker_buy_quote_volume": "1.000000000000000001"}],
)  # fmt: skip
def test_a_figure_that_differs_fails_and_names_its_minute(lake: Lake, figures: dict[str, Any]) -> None:
    """The message has the minute, both figures and the instrument."""
    wrong = BARS[40]
    start_us = (wrong["bar_start_at"] - EPOCH) // timedelta(microseconds=1)

    def change(kline: Kline) -> Kline:
        return msgspec.structs.replace(kline, **figures) if kline.start_us == start_us else kline

    [result] = checked(lake, Venues(change=change))

    assert result.status == "failed"
    assert result.metric_value == 2  # one of each instrument
    [(figure, told)] = figures.items()
    said = f"{wrong['venue']}:{wrong['symbol']} {wrong['bar_start_at']:%Y-%m-%d %H:%M} UTC: {figure}"
    assert said in str(result.message)
    assert f"is {told} at the venue" in str(result.message)


def test_what_the_venue_does_not_print_is_not_compared(lake: Lake) -> None:
    """A venue without counts and quote volumes has the other figures compared."""

    def change(kline: Kline) -> Kline:
        untold = dict.fromkeys(
            ("quote_volume", "trade_count", "taker_buy_volume", "taker_buy_quote_volume"), None
        )
        return msgspec.structs.replace(kline, **untold)

    assert checked(lake, Venues(change=change))[0].status == "passed"


@pytest.mark.parametrize(
    ("later_us", "said"),
    [(None, "the venue has no bar"), (60_000_000, "the venue has trades, we have none")],
)
def test_a_bar_that_one_of_us_lacks_is_a_difference(lake: Lake, later_us: int | None, said: str) -> None:
    """A minute of ours that the venue has not, or a minute of the venue's between two of our complete bars."""
    at_us = (BARS[40]["bar_start_at"] - EPOCH) // timedelta(microseconds=1)

    def change(kline: Kline) -> Kline | None:
        if kline.start_us != at_us:
            return kline
        return later_us and msgspec.structs.replace(kline, start_us=at_us + later_us)

    [result] = checked(lake, Venues(change=change))

    assert result.status == "failed"
    assert said in str(result.message)


def test_only_the_newest_complete_bars_are_asked_for_in_one_question_a_stretch(lake: Lake) -> None:
    """A question begins with the first bar and ends after the last; a pause of hours makes two of it."""
    venues = Venues()
    checked(lake, venues, newest_bars=10)

    assert [a[:2] for a in venues.asked] == [BTC, LUNA]
    _, _, start_us, end_us = venues.asked[0]
    assert (end_us - start_us) // 60_000_000 == 19

    venues.asked.clear()
    checked(lake, venues)
    assert len(venues.asked) == 4  # history lies a day and a half before what was captured


@pytest.mark.parametrize(("reach", "ahead"), [(60, 0), (60, 20), (2880, 0)])
def test_bars_older_than_what_the_venue_still_gives_are_not_compared(
    lake: Lake, reach: int, ahead: int
) -> None:
    """A venue that has forgotten a minute does not contradict it; its own newest minute says what it has forgotten."""
    venues = Venues(reach=reach, ahead=ahead)

    [result] = checked(lake, venues)

    assert (result.status, result.metric_value) == ("passed", 0)
    for instrument in (BTC, LUNA):
        count = len(of_the_last(reach - ahead, instrument))
        assert f"{':'.join(instrument)}: {count} minutes compared" in str(result.message)
    assert len(of_the_last(60)) < len(of_the_last(2880)) == 125
    assert [a[:2] for a in venues.asked] == [BTC, LUNA]


def test_a_bar_within_reach_that_the_venue_lacks_is_a_difference(lake: Lake) -> None:
    """Also the oldest one that it must still have."""
    oldest, *_, newest = ((b["bar_start_at"] - EPOCH) // timedelta(microseconds=1) for b in of_the_last(60))

    def change(kline: Kline) -> Kline | None:
        return kline if kline.start_us not in {oldest, newest} else None

    [result] = checked(lake, Venues(change=change, reach=(newest - oldest) // MINUTE_US + 2, ahead=1))

    assert result.status == "failed"
    assert str(result.message).count("coinbase:BTC-USD 2") == 2
    assert "the venue has no bar" in str(result.message)


@pytest.mark.parametrize("ahead", [60, 61, 600])
def test_where_all_bars_are_out_of_reach_nothing_is_called_right(lake: Lake, ahead: int) -> None:
    """A warning that nothing was compared, not a check that passed."""
    [result] = checked(lake, Venues(reach=60, ahead=ahead))

    assert (result.status, result.metric_value) == ("warning", 0)
    said = "coinbase:BTC-USD: 0 minutes compared, all are older than what the venue still gives"
    assert said in str(result.message)


def test_a_venue_that_does_not_answer_is_an_error_and_hides_no_other(lake: Lake) -> None:
    """The check could not run for it; what was compared with the others is said."""

    def klines(venue: str, symbol: str, start_us: int, end_us: int) -> Sequence[Kline]:
        if venue == "okx":
            raise SourceDownError("okx did not answer")
        return Venues().klines(venue, symbol, start_us, end_us)

    with lake.reader() as reader:
        [result] = check_with_venues(lake, reader, klines, run_id="run", now=NOW)

    assert result.status == "error"
    assert "okx:LUNA-USDT#2: okx did not answer" in str(result.message)
    assert "coinbase:BTC-USD: 125 minutes compared" in str(result.message)


def test_without_complete_bars_there_is_nothing_to_ask(lake: Lake) -> None:
    """No result is kept where nothing was compared."""
    lake.table("silver.bars_1m").delete()

    assert checked(lake, Venues()) == []
    assert lake.table("quality.check_results").current_snapshot() is None
