"""The polite client retries what may pass, refuses what will not, and never waits on the wall clock."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
import structlog

from cryptolake.errors import ConfigError, PlanLimitError, SourceDownError, SourceRefusedError
from cryptolake.replay import faults
from cryptolake.replay.answers import Answer
from cryptolake.replay.faults import Fault
from cryptolake.replay.recordings import Recordings, Series
from cryptolake.replay.server import ReplayServer
from cryptolake.sources.alternative_me.client import AlternativeMe
from cryptolake.sources.coingecko.client import CoinGecko
from cryptolake.sources.http import Patience, TokenBucket, retry_after_seconds
from cryptolake.sources.records import IndexValue
from tests.sources.clocks import Sleeps

DAY_MS = 86_400_000
NOON = datetime(2023, 10, 25, 12, tzinfo=UTC)
MIDNIGHT_MS = int(NOON.timestamp() * 1000) - DAY_MS // 2
TIMES = [MIDNIGHT_MS - days * DAY_MS for days in reversed(range(400))]
SERIES = Series(TIMES, [1.0 + day for day in range(400)], [None] * 400, [5.0] * 400)
INDEX = [IndexValue(40, "Fear", time // 1000) for time in TIMES]
KEY = "CG-not-a-real-key"


@pytest.fixture
def replay() -> Iterator[ReplayServer]:
    with ReplayServer.open(Recordings("test", NOON, {"bitcoin": SERIES}, INDEX)) as server:
        yield server


@contextmanager
def coingecko(server: ReplayServer, sleeps: Sleeps, **options: object) -> Iterator[CoinGecko]:
    arguments = {"api_key": None, "requests_per_minute": None} | options
    with CoinGecko.open(
        server.coingecko_url, clock=sleeps.clock, rng=random.Random(7), **arguments
    ) as client:
        yield client


PASSING = {
    "500": faults.server_error(),
    "503": faults.server_error(503),
    "429 without a word": faults.too_many_requests(),
    "an HTML page": faults.html(),
    "a 429 as an HTML page": faults.html(429),
    "truncated JSON": faults.truncated(),
    "a connection cut off": faults.cut_off(),
    "an empty body": faults.empty(),
    "a connection reset": faults.reset(),
    "JSON of another shape": Fault(
        Answer.json({"status": {"error_code": 429, "error_message": "Slow down"}})
    ),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_passing_fault_is_tried_again_until_the_true_answer_comes(replay: ReplayServer, fault: Fault):
    """What may pass costs a wait, not the answer."""
    sleeps = Sleeps(NOON)
    replay.inject([fault, fault])
    with coingecko(replay, sleeps) as client:
        chart = client.market_chart("bitcoin", days=3)
    assert [point.price_usd for point in chart.observations] == [398.0, 399.0, 400.0, 400.0]
    assert len(replay.requests) == 3
    assert len(sleeps.seconds) == 2


def test_a_slow_answer_is_given_up_and_asked_again(replay: ReplayServer):
    """An answer that does not come in time is asked for again."""
    sleeps = Sleeps(NOON)
    replay.inject([faults.slow(30)])
    with coingecko(replay, sleeps, patience=Patience(answer_seconds=0.05)) as client:
        assert len(client.market_chart("bitcoin", days=1).observations) == 2
    assert len(sleeps.seconds) == 1


def test_after_six_attempts_it_gives_up_and_says_so(replay: ReplayServer):
    """Patience has an end; the message names vendor, path, reason and number of attempts."""
    sleeps = Sleeps(NOON)
    replay.inject(lambda _: faults.server_error())
    with coingecko(replay, sleeps) as client, pytest.raises(SourceDownError) as failed:
        client.market_chart("bitcoin", days=1)
    assert len(replay.requests) == 6
    assert (
        "coingecko (127.0.0.1/coins/bitcoin/market_chart) failed: HTTP 500; gave up after 6 attempts"
        in str(failed.value)
    )


def test_waits_double_with_full_jitter_from_the_given_randomness(replay: ReplayServer):
    """The wait before attempt n + 1 is drawn from 0 to 2^(n-1) seconds; the same seed gives the same waits."""
    runs = []
    for _ in range(2):
        sleeps = Sleeps(NOON)
        replay.inject([faults.server_error()] * 5)
        with coingecko(replay, sleeps) as client:
            client.market_chart("bitcoin", days=1)
        runs.append(sleeps.seconds)
    assert runs[0] == runs[1]
    assert all(0 <= wait <= 2**attempt for attempt, wait in enumerate(runs[0]))
    assert len(set(runs[0])) == 5


@pytest.mark.parametrize("asked", ["37", "Wed, 25 Oct 2023 12:00:37 GMT"])
def test_retry_after_is_obeyed_in_seconds_and_as_a_date(replay: ReplayServer, asked: str):
    """The vendor's own wait counts, plus less than a second so that not everybody comes back at once."""
    sleeps = Sleeps(datetime(2030, 1, 1, tzinfo=UTC))  # the answer's Date header counts, not our clock
    sleeps.at = NOON.replace(year=2024)
    replay.inject([faults.too_many_requests(asked)])
    with coingecko(replay, sleeps) as client:
        client.market_chart("bitcoin", days=1)
    assert 37 <= sleeps.seconds[0] < 38


def test_a_vendor_that_asks_for_an_hour_is_not_waited_for(replay: ReplayServer):
    """Waiting has a limit in all; the error carries how long the vendor asked for."""
    sleeps = Sleeps(NOON)
    replay.inject([faults.too_many_requests("3600")])
    with (
        coingecko(replay, sleeps) as client,
        pytest.raises(SourceDownError, match="asks to wait 3600 s") as failed,
    ):
        client.market_chart("bitcoin", days=1)
    assert sleeps.seconds == []
    assert failed.value.after == 3600


def test_the_sum_of_all_waits_is_limited(replay: ReplayServer):
    """Three waits of 119 seconds are more than 300."""
    sleeps = Sleeps(NOON)
    replay.inject(lambda _: faults.too_many_requests("119"))
    with coingecko(replay, sleeps) as client, pytest.raises(SourceDownError):
        client.market_chart("bitcoin", days=1)
    assert len(sleeps.seconds) == 2


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "Wed, 25 Oct 2023 12:01:00 GMT"}, 60.0),
        ({"retry-after": "Wed, 25 Oct 2023 11:00:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 25 Oct 2023 12:01:00 GMT", "date": "Wed, 25 Oct 2023 12:00:50 GMT"}, 10.0),
    ],
)
def test_retry_after_is_read_in_all_its_forms(headers: dict[str, str], seconds: float | None):
    """Seconds, a date, a date that has passed, nonsense."""
    assert retry_after_seconds(headers, NOON) == seconds


def test_no_minute_sees_more_requests_than_the_limit():
    """Tokens come back a minute after they were taken, so every window of 60 seconds keeps the limit."""
    sleeps = Sleeps(NOON)
    bucket = TokenBucket(3, sleeps.clock)
    taken = []
    for _ in range(10):
        bucket.take()
        taken.append(sleeps.clock.monotonic())
        sleeps.clock.sleep(7)
    assert all(later - earlier >= 60 for earlier, later in zip(taken, taken[3:], strict=False))
    assert taken[:3] == [0, 7, 14]


def test_a_client_that_keeps_the_limit_is_never_told_to_slow_down(replay: ReplayServer):
    """Client and server count the same way: 25 requests at 10 a minute take two minutes and no 429."""
    sleeps = Sleeps(NOON)
    with ReplayServer.open(replay.recordings, requests_per_minute=10, clock=sleeps.clock) as limited:
        with coingecko(limited, sleeps, requests_per_minute=10) as client:
            for _ in range(25):
                client.market_chart("bitcoin", days=1)
        assert len(limited.requests) == 25
    assert sum(sleeps.seconds) == 120


def test_an_impatient_client_is_told_to_slow_down_and_obeys(replay: ReplayServer):
    """Without a limit of its own the client finds the vendor's through 429 and Retry-After."""
    sleeps = Sleeps(NOON)
    with ReplayServer.open(replay.recordings, requests_per_minute=2, clock=sleeps.clock) as limited:
        with coingecko(limited, sleeps) as client:
            for _ in range(4):
                client.market_chart("bitcoin", days=1)
        assert len(limited.requests) == 5
    assert 60 <= sum(sleeps.seconds) < 62


def test_a_plan_that_does_not_reach_back_is_a_limit_with_advice(replay: ReplayServer):
    """The 401 with code 10012 is told apart from every other refusal, and is not retried."""
    replay.history_days = 365
    with coingecko(replay, Sleeps(NOON)) as client:
        with pytest.raises(PlanLimitError, match="ask for the last 365 days"):
            client.market_chart("bitcoin", days=None)
        with pytest.raises(PlanLimitError):
            client.market_chart_range("bitcoin", datetime(2020, 1, 1, tzinfo=UTC), NOON)
        assert len(client.market_chart("bitcoin", days=365).observations) == 366
    assert len(replay.requests) == 3


def test_an_unknown_coin_is_refused_with_the_way_out(replay: ReplayServer):
    """The message says where the ids are and what to fix."""
    advice = r"coins/list for ids and fix `coins`.*coin not found"
    with coingecko(replay, Sleeps(NOON)) as client, pytest.raises(SourceRefusedError, match=advice):
        client.market_chart("bitcon/../x", days=1)
    assert [request.path for request in replay.requests] == ["/api/v3/coins/bitcon%2F..%2Fx/market_chart"]


def code(number: int) -> dict[str, object]:
    return {"error": {"status": {"error_code": number, "error_message": "No."}}}


@pytest.mark.parametrize(
    ("status", "body", "advice"),
    [
        (401, code(10002), "set sources.coingecko.api_key"),
        (401, code(10005), "plan of this key"),
        (400, code(10010), "key and host do not belong together"),
        (400, code(10011), "key and host do not belong together"),
        (401, {"error": "Invalid API key"}, "check sources.coingecko.api_key"),
        (403, {"error": "Forbidden"}, "blocks this address"),
        (404, {"error": "Incorrect path"}, "it ends in /api/v3"),
        (301, {}, "check sources.coingecko.base_url"),
        (422, {"error": "Missing parameter vs_currency"}, "report this.*Missing parameter vs_currency"),
    ],
)
def test_a_refusal_says_what_to_do_and_is_not_retried(
    replay: ReplayServer, status: int, body: dict, advice: str
):
    """Whatever the vendor will refuse tomorrow as well stops at once, with advice."""
    replay.inject([Fault(Answer.json(body, status))])
    with coingecko(replay, Sleeps(NOON)) as client, pytest.raises(SourceRefusedError, match=advice):
        client.market_chart("bitcoin", days=1)
    assert len(replay.requests) == 1


def test_the_key_is_sent_and_never_shown(replay: ReplayServer):
    """The key goes into its header; an error or a log line never has it, even where the vendor repeats it."""
    replay.inject([faults.server_error(), Fault(Answer.json({"error": f"bad key {KEY}"}, 401))])
    with structlog.testing.capture_logs() as lines, coingecko(replay, Sleeps(NOON), api_key=KEY) as client:
        with pytest.raises(SourceRefusedError) as refused:
            client.market_chart("bitcoin", days=1)
        assert KEY not in f"{client!r} {refused.value} {lines}"
    assert "bad key [secret]" in str(refused.value)
    assert {request.headers["x-cg-demo-api-key"] for request in replay.requests} == {KEY}
    assert replay.requests[0].headers["user-agent"].startswith("cryptolake")


def test_a_paid_key_goes_into_the_header_of_its_host():
    """The paid host wants another header than the public one."""
    options = {"requests_per_minute": None, "clock": Sleeps(NOON).clock, "rng": random.Random(7)}
    with CoinGecko.open("https://pro-api.coingecko.com/api/v3", KEY, **options) as client:
        assert client.client.http.headers["x-cg-pro-api-key"] == KEY
        assert "x-cg-demo-api-key" not in client.client.http.headers


@pytest.mark.parametrize("key", ["", "CG-é", "CG-1\n", " CG-1"])
def test_a_key_that_no_header_may_hold_is_a_wrong_setting(replay: ReplayServer, key: str):
    """A key copied wrongly is found before anything is sent, and not repeated."""
    with (
        pytest.raises(ConfigError, match="copy it again") as wrong,
        coingecko(replay, Sleeps(NOON), api_key=key),
    ):
        pass
    assert "CG-" not in str(wrong.value)


@pytest.mark.parametrize("url", ["", "api.coingecko.com", "ftp://host/", "http://", "http://[::"])
def test_a_base_url_that_cannot_be_asked_is_a_wrong_setting(url: str):
    """A wrong URL is a setting to fix, not a vendor to retry."""
    options = {"requests_per_minute": None, "clock": Sleeps(NOON).clock, "rng": random.Random(7)}
    with pytest.raises(ConfigError, match="base_url"), AlternativeMe.open(url, **options):
        pass


def test_a_vendor_that_is_not_there_is_down(replay: ReplayServer):
    """Nobody listening is a passing fault; the message points at network and setting."""
    sleeps = Sleeps(NOON)
    replay.close()
    with coingecko(replay, sleeps) as client, pytest.raises(SourceDownError, match="cannot be reached"):
        client.market_chart("bitcoin", days=1)
    assert len(sleeps.seconds) == 5


def test_retries_are_events_with_their_reason(replay: ReplayServer):
    """Every retry is logged with the vendor, the path, the attempt, the reason and the wait."""
    replay.inject([faults.html()])
    with structlog.testing.capture_logs() as lines, coingecko(replay, Sleeps(NOON)) as client:
        client.market_chart("bitcoin", days=1)
    retries = [line for line in lines if line["event"] == "source.retry"]
    assert [(line["source"], line["path"], line["attempt"]) for line in retries] == [
        ("coingecko", "/coins/bitcoin/market_chart", 1)
    ]
    assert "answered nonsense" in retries[0]["reason"]


def test_every_request_asks_for_daily_dollars_with_all_digits(replay: ReplayServer):
    """The same currency, interval and precision always; "now" is rounded up to a whole second."""
    with coingecko(replay, Sleeps(NOON)) as client:
        client.market_chart("bitcoin", days=None)
        start = datetime(2023, 10, 23, tzinfo=UTC)
        client.market_chart_range("bitcoin", start, NOON.replace(microsecond=1))
    always = {"vs_currency": "usd", "interval": "daily", "precision": "full"}
    assert [request.query for request in replay.requests] == [
        always | {"days": "max"},
        always | {"from": str(int(start.timestamp())), "to": str(int(NOON.timestamp()) + 1)},
    ]


def test_the_index_comes_through_the_same_patience(replay: ReplayServer):
    """Alternative.me is retried, parsed and limited like the other vendor."""
    sleeps = Sleeps(NOON)
    replay.inject([faults.truncated()])
    with AlternativeMe.open(replay.alternative_me_url, None, sleeps.clock, random.Random(7)) as client:
        assert [day.timestamp for day in client.fng(2).values] == [time // 1000 for time in TIMES[-2:]]
        assert len(client.fng(0).values) == 400
        replay.inject([Fault(Answer.json({}, 404))])
        with pytest.raises(SourceRefusedError, match=r"check sources\.alternative_me\.base_url"):
            client.fng(1)
    assert len(sleeps.seconds) == 1
