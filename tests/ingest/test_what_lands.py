"""Every delivery that says something new lands once; nothing that was delivered is lost."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from cryptolake.clock import Clock
from cryptolake.contracts import load_contracts
from cryptolake.ingest import Span, ingest_prices
from cryptolake.lake import Lake
from cryptolake.lake.catalog import local_catalog
from cryptolake.replay import faults
from cryptolake.replay.answers import Request
from cryptolake.replay.recordings import Series
from cryptolake.sources.coingecko.client import CoinGecko
from tests.replayed import (
    DAY_MS,
    NOON,
    POINTS,
    Town,
    midnights,
    milliseconds,
    recordings,
    restated,
    with_coin,
)

MANY = tuple(f"coin-{n}" for n in range(7))


def change(town: Town, coin: str, timestamp_ms: int, price: float | None) -> None:
    """Let the vendor restate a price."""
    recorded = town.server.recordings
    town.server.recordings = with_coin(recorded, coin, restated(recorded.coins[coin], timestamp_ms, price))


def down(*coins: str, times: int | None = None) -> faults.Fault | None:
    """Return a script of faults: *coins* have no answer, the first *times* times."""
    asked: Counter[str] = Counter()

    def script(request: Request) -> faults.Fault | None:
        coin = request.path.split("/")[4]
        asked[coin] += 1
        return faults.server_error() if coin in coins and (times is None or asked[coin] <= times) else None

    return script


def asked_coins(town: Town) -> list[str]:
    """Return the coins that were asked for, in order."""
    return [what.split("/")[0] for what, _ in town.asked()]


def test_a_rerun_with_the_same_answers_adds_nothing(town: Town):
    """Equal deliveries are not stored again, and nothing is committed."""
    town.ingest()
    before = town.lake.table("bronze.historical_prices").metadata_location
    assert town.ingest().rows_added == 0
    assert town.ingest(span=Span(full=True)).rows_added == 0
    assert town.lake.table("bronze.historical_prices").metadata_location == before


def test_a_restated_value_adds_one_row(town: Town):
    """What the vendor changes within the window lands beside what it said before."""
    town.ingest()
    yesterday = midnights(2)[0]
    change(town, "solana", yesterday, 42.0)
    town.go_to(NOON + timedelta(hours=1))
    done = town.ingest()
    new = town.rows(
        "select coin_id, timestamp_ms, price_usd from bronze.historical_prices where _run_id = 'run-2'"
    )
    assert (done.rows_added, set(new)) == (
        4,
        {("solana", yesterday, 42.0)}
        | {(c, milliseconds(town.at), s.prices[POINTS - 2]) for c, s in town.server.recordings.coins.items()},
    )
    assert town.rows(f"select count(*) from bronze.historical_prices where coin_id = 'solana' and timestamp_ms = {yesterday}") == [(2,)]  # fmt: skip


def test_a_value_that_is_restated_to_what_it_was_lands_again(town: Town):
    """What counts is the newest delivery, not any."""
    day = midnights(1)[0]
    was = town.server.recordings.coins["bitcoin"].prices[POINTS - 2]
    for price in (was, 42.0, was):
        change(town, "bitcoin", day, price)
        town.go_to(town.at + timedelta(hours=1))
        town.ingest("bitcoin")
    told = town.rows(
        f"select price_usd from bronze.historical_prices where timestamp_ms = {day} order by _ingested_at"
    )
    assert told == [(was,), (42.0,), (was,)]


def test_a_restatement_before_the_window_waits_for_a_full_run(town: Town):
    """Days before the window are not asked for, unless a user says so."""
    town.ingest("bitcoin")
    change(town, "bitcoin", midnights(4)[0], 42.0)
    assert town.ingest("bitcoin").rows_added == 0
    assert town.ingest("bitcoin", span=Span(full=True)).rows_added == 1


@pytest.mark.parametrize(("minutes", "rows"), [(10, 1), (29, 1), (30, 0), (31, 0)])
def test_an_observation_that_was_fetched_too_young_lands_again_once_it_is_settled(
    town: Town, minutes: int, rows: int
):
    """A daily observation less than half an hour old does not count yet; the same value counts later."""
    town.go_to(NOON.replace(hour=0, minute=minutes))
    town.ingest("bitcoin")
    town.go_to(NOON)
    today = midnights(1)[0]
    town.ingest("bitcoin")
    found = town.rows(
        f"select count(*) from bronze.historical_prices where timestamp_ms = {today} and _run_id = 'run-2'"
    )
    assert found == [(rows,)]
    assert town.ingest("bitcoin").rows_added == 0


def test_values_are_stored_as_they_were_delivered(tmp_path: Path):
    """Zeros stay zeros, nulls stay nulls, tiny prices keep every digit."""
    times = midnights(3)
    told = Series(times, [5.7e-11, 0.1 + 0.2, 7.5e9], [0.0, None, 1e300], [None, 0.0, 1.0])
    with Town.opened(tmp_path, with_coin(recordings(), "bitcoin", told)) as town:
        town.ingest("bitcoin")
        stored = town.rows(
            "select timestamp_ms, price_usd, market_cap_usd, volume_24h_usd from bronze.historical_prices order by 1"
        )
    columns = (told.timestamps_ms, told.prices, told.market_caps, told.volumes)
    rows = list(zip(*columns, strict=True))
    assert stored == [*rows, (milliseconds(NOON), *rows[-1][1:])]


def test_points_that_cannot_be_trusted_are_rejected_once_with_their_bytes(tmp_path: Path):
    """Null, zero and negative prices go to `bronze.rejects`, each once however often it is delivered."""
    times = midnights(6)
    told = Series(times, [1.0, None, 0.0, -3.5, 2.0, None], [None] * 6, [None] * 6)
    with Town.opened(tmp_path, with_coin(recordings(), "bitcoin", told)) as town:
        first = town.ingest("bitcoin")
        again = town.ingest("bitcoin", span=Span(full=True))
        rejects = town.rows(
            "select source, symbol, received_at, reason, payload, _run_id from bronze.rejects order by payload"
        )
    payloads = {
        f"[{times[1]},null]": "price is null",
        f"[{times[2]},0.0]": "price is zero",
        f"[{times[3]},-3.5]": "price is negative",
        f"[{times[5]},null]": "price is null",
        f"[{milliseconds(NOON)},null]": "price is null",
    }
    assert (first.rows_added, first.rows_rejected, first.failures) == (2, 5, {})
    assert (again.rows_added, again.rows_rejected) == (0, 0)
    assert rejects == [
        ("coingecko", "bitcoin", NOON, reason, payload.encode(), "run-1")
        for payload, reason in sorted(payloads.items())
    ]


def test_a_rejected_point_is_not_the_newest_day(tmp_path: Path):
    """The day of a point that was rejected is asked for again, until it has a price."""
    told = recordings().coins["bitcoin"]
    today = midnights(1)[0]
    with Town.opened(tmp_path, with_coin(recordings(), "bitcoin", restated(told, today, None))) as town:
        town.ingest("bitcoin")
        town.asked()
        town.ingest("bitcoin")
        [(_, query)] = town.asked()
        assert int(query["from"]) == today // 1000 - 3 * DAY_MS // 1000


def test_a_coin_that_fails_does_not_stop_the_others(town: Town):
    """What cannot be had is named with its reason; the rest lands."""
    town.server.inject(down("ethereum"))
    done = town.ingest()
    assert list(done.failures) == ["ethereum"]
    assert "HTTP 500; gave up after 6 attempts" in done.failures["ethereum"]
    assert done.rows_added == 2 * POINTS
    assert town.ingest("bitcoin", "solana").rows_added == 0


def test_a_coin_that_fails_is_asked_once_more_after_the_others(town: Town):
    """A coin that was down for a while is not missing in the end."""
    town.server.inject(down("bitcoin", times=6))
    done = town.ingest()
    assert asked_coins(town) == ["bitcoin"] * 6 + ["ethereum", "solana", "bitcoin"]
    assert (done.rows_added, done.failures) == (3 * POINTS, {})


def test_a_vendor_that_is_down_is_not_asked_for_every_coin(tmp_path: Path):
    """After three coins in a row without an answer the others are not asked, and each is named."""
    with Town.opened(tmp_path, recordings(MANY)) as town:
        town.server.inject(down(*MANY))
        done = town.ingest()
        assert asked_coins(town) == [c for c in MANY[:3] for _ in range(6)]
    assert (done.rows_added, list(done.failures)) == (0, list(MANY))
    assert [("not asked" in why) for why in done.failures.values()] == [False] * 3 + [True] * 4


def test_a_refusal_is_an_answer(tmp_path: Path):
    """Coins in a row without an answer are counted anew after a coin that the vendor does not have."""
    with Town.opened(tmp_path, recordings(MANY)) as town:
        town.server.inject(down(*MANY[:4]))
        done = town.ingest(*MANY[:2], "nowhere", *MANY[2:])
    assert done.rows_added == 3 * POINTS
    assert set(done.failures) == {*MANY[:4], "nowhere"}


def test_a_coin_that_the_vendor_does_not_have_is_not_asked_again(town: Town):
    """An unknown id is refused, with what to do, and is not retried."""
    done = town.ingest("bitcoin", "nowhere")
    assert asked_coins(town) == ["bitcoin", "nowhere"]
    assert done.rows_added == POINTS
    assert "there is no such coin" in done.failures["nowhere"]


def test_an_empty_history_is_no_failure(tmp_path: Path):
    """A coin without points adds nothing."""
    with Town.opened(tmp_path, with_coin(recordings(), "bitcoin", Series((), (), (), ()))) as town:
        done = town.ingest("bitcoin")
    assert (done.rows_added, done.failures) == (0, {})


def test_an_interrupted_ingest_continues_where_it_was(tmp_path: Path):
    """Answers land every ten seconds; what had landed is not asked for from the start again."""

    def interrupt(done: int, total: int, rows: int) -> None:
        seen.append((done, total, rows))
        if done == 5:
            raise KeyboardInterrupt

    with Town.opened(tmp_path, recordings(MANY)) as town:
        seen: list[tuple[int, int, int]] = []

        def four_seconds(request: Request) -> None:
            town.elapsed += 4

        town.server.inject(four_seconds)
        with pytest.raises(KeyboardInterrupt):
            town.ingest(on_progress=interrupt)
        assert seen == [(1, 7, 0), (2, 7, 0), (3, 7, 3 * POINTS), (4, 7, 3 * POINTS), (5, 7, 3 * POINTS)]
        town.asked()
        done = town.ingest()
        assert [what.split("/", 1)[1] for what, _ in town.asked()] == ["market_chart/range"] * 3 + [
            "market_chart"
        ] * 4
        assert (done.rows_added, done.failures) == (4 * POINTS, {})


def test_an_ingest_that_ends_between_two_commits_loses_no_reject(tmp_path: Path, monkeypatch):
    """Rejects land before the rows beside them, for once those are there their days are not asked for again."""
    old_day = midnights(100)[0]
    told = restated(recordings().coins["bitcoin"], old_day, None)
    append = Lake.append

    def append_and_end(self, *args, **options):
        append(self, *args, **options)
        raise KeyboardInterrupt

    with Town.opened(tmp_path, with_coin(recordings(), "bitcoin", told)) as town:
        monkeypatch.setattr(Lake, "append", append_and_end)
        with pytest.raises(KeyboardInterrupt):
            town.ingest("bitcoin")
        monkeypatch.setattr(Lake, "append", append)
        town.ingest("bitcoin")
        assert town.rows("select payload from bronze.rejects") == [(f"[{old_day},null]".encode(),)]
        assert town.rows("select count(*) from bronze.historical_prices") == [(POINTS - 1,)]


def test_two_ingests_at_once_double_nothing(tmp_path: Path):
    """Both have their answers before either lands, and every observation is stored once."""
    with Town.opened(tmp_path) as town:
        town.ingest("solana")
        meeting = threading.Barrier(2, timeout=30)
        added: list[int] = []

        def meet(request: Request) -> None:
            if "ethereum" in request.path:
                meeting.wait()

        def ingest(run_id: str) -> None:
            clock = Clock.fixed(NOON)
            with (
                Lake.open(local_catalog(tmp_path), load_contracts(), clock) as lake,
                CoinGecko.open(town.server.coingecko_url, None, None, clock, None) as source,
            ):
                done = ingest_prices(lake, source, coins=("bitcoin", "ethereum"), clock=clock, run_id=run_id)
                added.append(done.rows_added)

        town.server.inject(meet)
        both = [threading.Thread(target=ingest, args=(run_id,)) for run_id in ("one", "other")]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        assert sorted(added) == [0, 2 * POINTS]
        assert town.rows("select count(*), count(distinct (coin_id, timestamp_ms)) from bronze.historical_prices") == [(3 * POINTS,) * 2]  # fmt: skip
