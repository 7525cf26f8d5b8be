"""What goes wrong on request: each fault alone, its seed, and what it leaves alone."""

from __future__ import annotations

import json
import time

import httpx2
import pytest

from cryptolake.errors import ConfigError, OperatorError
from cryptolake.replay import faults
from cryptolake.replay.venues.faults import Schedule, parse_schedule
from cryptolake.replay.venues.generated import generate
from cryptolake.replay.venues.server import VenueServer
from tests.replay.clients import BINANCE, Client, get, run, told

TRADES = 4_000
TAPE = generate(TRADES, seed=21, instruments={"binance": ["BTCUSDT", "ETHUSDT"]})
EVERYTHING = "lost:0.01,duplicated:0.01,reordered:0.01,damaged:0.01,disconnect:0.0005,shutdown:0.0002,seed:3"


def heard(script: str, host: int = 0) -> list[bytes]:
    with VenueServer.open(TAPE, venues=["binance"], faults=script, waits_for=None) as server:
        return told(server, host)


@pytest.fixture(scope="module")
def whole() -> list[bytes]:
    return heard("")


def test_without_faults_both_hosts_send_the_same(whole: list[bytes]):
    """Twins hear the same trades in the same order, and every one of them."""
    assert len(whole) == len(set(whole)) == TRADES
    assert heard("", host=1) == whole


def test_the_same_seed_sends_the_same_bytes(whole: list[bytes]):
    """A schedule is drawn from its seed alone: again the same, for another seed or host another."""
    once = heard(EVERYTHING)
    assert heard(EVERYTHING) == once
    assert heard(EVERYTHING, host=1) != once
    assert heard(EVERYTHING.replace("seed:3", "seed:4")) != once
    assert once != whole


def test_lost_frames_are_missing_and_nothing_else(whole: list[bytes]):
    """What is left is in order; about as many are lost as asked for, and different ones by each twin."""
    one, other = (heard("lost:0.05", host) for host in (0, 1))
    kept = set(one)
    assert one == [frame for frame in whole if frame in kept]
    assert 100 < TRADES - len(one) < 300
    assert set(whole) - set(one) != set(whole) - set(other)


def test_duplicated_frames_come_twice(whole: list[bytes]):
    """Every trade is there, some of them twice."""
    doubled = heard("duplicated:0.05")
    assert list(dict.fromkeys(doubled)) == whole
    assert 100 < len(doubled) - TRADES < 300


def test_reordered_frames_come_late_and_all_of_them_come(whole: list[bytes]):
    """A frame is late by a few others at the most; none is lost, at the end of the tape neither."""
    mixed = heard("reordered:0.1:5")
    assert mixed != whole
    assert sorted(mixed) == sorted(whole)
    place = {frame: n for n, frame in enumerate(whole)}
    assert max(n - place[frame] for n, frame in enumerate(mixed)) <= 5
    assert sorted(heard("reordered:1:3")) == sorted(whole)


def test_damaged_frames_cannot_be_taken_for_whole_ones(whole: list[bytes]):
    """What is damaged is no JSON at all; the others are untouched."""
    untouched = set(whole)
    broken = [frame for frame in heard("damaged:0.05") if frame not in untouched]
    assert 100 < len(broken) < 300
    for frame in broken:
        with pytest.raises(ValueError, match=r".+"):
            json.loads(frame)


@pytest.mark.parametrize("kind", ["disconnect", "stall"])
def test_a_connection_that_ends_or_falls_silent_has_sent_the_beginning(whole: list[bytes], kind: str):
    """Up to the fault everything came, after it nothing; at the same trade each time."""
    beginning = heard(f"{kind}:0.001,seed:5")
    assert beginning == whole[: len(beginning)]
    assert 0 < len(beginning) < TRADES
    assert heard(f"{kind}:0.001,seed:5") == beginning


def test_a_shutdown_is_announced_before_the_connection_ends(whole: list[bytes]):
    """`serverShutdown` comes, some trades after it, and then the end."""
    announced = heard("shutdown:0.003:50,seed:2")
    notices = [n for n, frame in enumerate(announced) if b"serverShutdown" in frame]
    assert len(announced) - notices[0] == 51
    assert [frame for frame in announced if b"serverShutdown" not in frame] == whole[: len(announced) - 1]


def test_gone_trades_are_lost_on_every_connection_and_in_every_answer(whole: list[bytes]):
    """They are what is named unavailable; only the count of ids knows them."""
    with VenueServer.open(TAPE, venues=["binance"], faults="gone:0.01", waits_for=None) as server:
        frames = told(server)
        gone = {
            trade_id
            for (_, symbol), ids in server.unavailable.items()
            for trade_id in ids
            if symbol == "BTCUSDT"
        }
        assert 5 < len(gone) < 60
        found, at = set(), 0
        while page := get(server, "/api/v3/historicalTrades", symbol="BTCUSDT", fromId=at, limit=1000).json():
            found |= {trade["id"] for trade in page}
            at = page[-1]["id"] + 1
        published = {trade.trade_id for trade in server.published("binance", "BTCUSDT")}
    assert published - found == gone
    assert len(frames) == TRADES - sum(map(len, server.unavailable.values()))


def test_a_reconnected_client_misses_what_was_published_meanwhile(whole: list[bytes]):
    """A new connection begins with the next trade, and the fault that ended the last one does not repeat."""

    async def scenario(server):
        client = await Client.connect(server.websocket_url("binance")[0] + BINANCE)
        server.publish(1000)
        await client.hear(1000)
        server.disconnect_all()
        await client.hear_out()
        server.publish(500)
        again = await Client.connect(server.websocket_url("binance")[0] + BINANCE)
        await again.until(lambda _: server.connections() == 1)
        server.publish(TRADES)
        return client.heard, await again.hear(TRADES - 1500)

    with VenueServer.open(TAPE, venues=["binance"], waits_for=None) as server:
        before, after = run(scenario(server))
    assert (before, after) == (whole[:1000], whole[1500:])


def test_connections_can_be_ended_reset_and_silenced_by_hand(whole: list[bytes]):
    """A goodbye has code 1001, a reset none; a silenced connection stays open and hears nothing more."""

    async def scenario(server):
        one, other = server.websocket_url("binance")
        polite, rude, silent = [await Client.connect(url + BINANCE) for url in (one, other, one)]
        await polite.until(lambda _: server.connections() == 3)
        assert server.disconnect_all(host=1, abruptly=True) == 1
        await rude.hear_out()
        server.publish(100)
        await polite.hear(100)
        assert server.stall("binance") == 2
        server.publish(100)
        fresh = await Client.connect(other + BINANCE)
        await fresh.until(lambda _: server.connections() == 3)
        server.publish(100)
        await fresh.hear(100)
        assert len(silent.heard) == 100
        assert server.disconnect_all(host=0) == 2
        await polite.hear_out()
        return rude.closed_with, polite.closed_with, silent.heard, fresh.heard

    with VenueServer.open(TAPE, venues=["binance"], waits_for=None) as server:
        reset, ended, held, later = run(scenario(server))
    assert (reset, ended) == (None, 1001)
    assert (held, later) == (whole[:100], whole[200:300])


def test_a_notice_by_hand_ends_the_connection_after_its_grace():
    """The client has the time that was given to connect anew."""

    async def scenario(server):
        client = await Client.connect(server.websocket_url("binance")[0] + "/ws/btcusdt@trade")
        await client.until(lambda _: server.connections() == 1)
        server.shutdown_notice(grace_seconds=0.05)
        return await client.hear_out()

    with VenueServer.open(TAPE, venues=["binance"], waits_for=None) as server:
        assert json.loads(run(scenario(server))[0])["e"] == "serverShutdown"


def test_a_venue_can_rename_a_field(whole: list[bytes]):
    """From then on every trade has it under the other name."""
    with VenueServer.open(TAPE, venues=["binance"], waits_for=None) as server:
        server.rewrite(lambda frame: frame.replace(b'"p":', b'"price":'))
        assert told(server) == [frame.replace(b'"p":', b'"price":') for frame in whole]


def test_requests_are_refused_slowed_and_broken_at_their_rates():
    """Answers to requests are spoiled by the seed alone, in the venue's words."""

    def statuses(script: str) -> list[int]:
        with VenueServer.open(TAPE, faults=script) as server:
            path = "/api/v3/historicalTrades"
            return [get(server, path, symbol="BTCUSDT", limit=1).status_code for _ in range(60)]

    once = statuses("429:0.2:7,418:0.1,500:0.1,seed:1")
    assert once == statuses("429:0.2:7,418:0.1,500:0.1,seed:1")
    assert all(once.count(status) > 2 for status in (200, 429, 418, 500))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/api/v3/historicalTrades?symbol=BTCUSDT", "-1003"),
        ("/products/BTC-USD/trades", "Public rate limit exceeded"),
        ("/0/public/Trades?pair=XBTUSD", "EGeneral:Too many requests"),
        ("/api/v5/market/history-trades?instId=BTC-USDT", "50011"),
    ],
)
def test_a_refusal_has_the_venues_words_and_the_seconds_to_wait(path: str, said: str):
    """429 has a Retry-After at every venue."""
    with VenueServer.open(generate(80, seed=1), faults="429:1:3") as server:
        answer = httpx2.get(f"{server.rest_url('okx')}{path}", trust_env=False)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
    assert said in answer.text


def test_a_slow_answer_is_true_and_late():
    """The client waits, and gets what it asked for."""
    with VenueServer.open(TAPE, faults="slow:1:0.2") as server:
        began = time.perf_counter()
        assert get(server, "/api/v3/time").status_code == 200
        assert time.perf_counter() - began >= 0.2


def test_answers_can_be_spoiled_one_by_one():
    """A test says what happens to the next requests."""
    with VenueServer.open(TAPE) as server:
        server.inject([faults.server_error(503), None, faults.html()])
        answers = [get(server, "/api/v3/time") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 200, 200]
    assert answers[2].text.startswith("<!DOCTYPE")


def test_a_script_says_kinds_rates_and_arguments():
    """What is written is what is drawn from; an unknown kind is refused with those that there are."""
    assert parse_schedule("lost:0.5, 429:0.25:9,seed:8") == Schedule(
        8, {"lost": 0.5, "429": 0.25}, {"429": 9.0}
    )
    with pytest.raises(ConfigError, match="kinds are lost"):
        parse_schedule("lots:0.5")


def test_a_port_that_is_taken_and_a_venue_that_is_unknown_are_refused():
    """The message says what to choose."""
    with VenueServer.open(TAPE, venues=["binance"]) as server:
        taken = int(server.websocket_url("binance")[0].rpartition(":")[2])
        with pytest.raises(OperatorError, match="choose another port"):
            VenueServer.open(TAPE, venues=["binance"], port=taken - 1)
    with pytest.raises(ConfigError, match="there are binance"):
        VenueServer.open(TAPE, venues=["bitmex"])


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("lost:2", "the rate of lost must be from 0 to 1, not 2;"),
        ("lost:-0.1", "the rate of lost must be from 0 to 1, not -0.1;"),
        ("429:nan", "the rate of 429 must be from 0 to 1, not nan;"),
        ("lost", "the rate of lost must be from 0 to 1, not nothing;"),
        ("lost:0.1:5", "lost takes no argument, not 5;"),
        ("reordered:0.1:-5", "the argument of reordered must be a number from 0 on, not -5"),
        ("429:0.1:-3", "the argument of 429 must be a number from 0 on, not -3"),
        ("slow:0.1:soon", "the argument of slow must be a number from 0 on, not soon"),
        ("slow:0.1:inf", "the argument of slow must be a number from 0 on, not inf"),
        ("lost:0.1,lost:0.2", r"the fault lost comes twice \('lost:0.2'\)"),
        ("lots:0.1", "there is no fault 'lots:0.1': write KIND:RATE"),
        ("seed:lucky", "the seed must be a whole number, as in seed:7, not 'seed:lucky'"),
    ],
)
def test_a_fault_that_cannot_be_meant_is_refused_with_what_is_right(script: str, said: str):
    """Nothing of a script is passed over: each kind once, with a rate, and an argument only where it takes one."""
    with pytest.raises(ConfigError, match=said):
        parse_schedule(script)
