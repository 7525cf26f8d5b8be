"""The replay speaks the vendors' protocols: paths, parameters, errors, limits and the trailing point."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import msgspec
import pytest

from cryptolake.errors import ConfigError, OperatorError
from cryptolake.replay import faults
from cryptolake.replay.faults import parse_faults
from cryptolake.replay.recordings import Recordings, Series
from cryptolake.replay.server import ReplayServer
from cryptolake.sources.records import IndexValue
from tests.sources.clocks import Sleeps

DAY_MS = 86_400_000
NOON = datetime(2023, 10, 25, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp() * 1000)
MIDNIGHT_MS = NOON_MS - DAY_MS // 2
DAYS = [MIDNIGHT_MS - days * DAY_MS for days in reversed(range(10))]
DAILY = Series(DAYS, [float(n) for n in range(10)], [None] * 10, [0.0] * 10)
TRAILING = DAILY.repeated_at(NOON_MS - 1000)
INDEX = [IndexValue(40 + n, "Fear", day // 1000) for n, day in enumerate(DAYS)]
RECORDINGS = Recordings(
    "test", NOON, {"daily": DAILY, "trailing": TRAILING, "none": Series((), (), (), ())}, INDEX
)


@pytest.fixture
def replay() -> Iterator[ReplayServer]:
    with ReplayServer.open(RECORDINGS) as server:
        yield server


def get(server: ReplayServer, path: str, **query: object) -> httpx2.Response:
    return httpx2.get(f"{server.url}{path}", params=query, trust_env=False)


def chart(server: ReplayServer, coin: str, **query: object) -> list[list[Any]]:
    path = f"/api/v3/coins/{coin}/market_chart{'/range' if 'from' in query else ''}"
    return get(server, path, vs_currency="usd", interval="daily", **query).json()["prices"]


def test_ping_answers_as_the_vendor_does(replay: ReplayServer):
    """The health check of the API has the vendor's words."""
    answer = get(replay, "/api/v3/ping")
    assert answer.json() == {"gecko_says": "(V3) To the Moon!"}
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers["date"] == "Wed, 25 Oct 2023 12:00:00 GMT"


def test_a_chart_holds_three_arrays_with_recorded_nulls_and_zeros(replay: ReplayServer):
    """The three arrays share their timestamps; null stays null and 0 stays 0."""
    body = get(replay, "/api/v3/coins/daily/market_chart", vs_currency="usd", days=1).json()
    assert body == {
        "prices": [[MIDNIGHT_MS, 9.0], [NOON_MS, 9.0]],
        "market_caps": [[MIDNIGHT_MS, None], [NOON_MS, None]],
        "total_volumes": [[MIDNIGHT_MS, 0.0], [NOON_MS, 0.0]],
    }


@pytest.mark.parametrize(("days", "points"), [("max", 11), (3, 4), (365, 11), (0, 1)])
def test_days_count_back_from_the_servers_now(replay: ReplayServer, days: str | int, points: int):
    """N days are the N midnights before now, and the intraday point."""
    assert len(chart(replay, "daily", days=days)) == points


def test_the_intraday_point_is_the_recorded_one_where_there_is_one(replay: ReplayServer):
    """A recording that ends within a day is served as it ends."""
    assert chart(replay, "trailing", days=1)[-1] == [NOON_MS - 1000, 9.0]
    replay.as_of = NOON + timedelta(hours=3)
    assert chart(replay, "trailing", days=1)[-1] == [NOON_MS - 1000, 9.0]


def test_nothing_newer_than_now_is_served(replay: ReplayServer):
    """An earlier clock sees an earlier world, with an intraday point of its own."""
    replay.as_of = NOON - timedelta(days=2)
    assert [point[0] for point in chart(replay, "trailing", days=1)] == [DAYS[-3], NOON_MS - 2 * DAY_MS]
    assert get(replay, "/fng/").json()["data"][0]["timestamp"] == str(DAYS[-3] // 1000)
    replay.as_of = datetime(2020, 1, 1, tzinfo=UTC)
    assert chart(replay, "daily", days="max") == []
    assert get(replay, "/fng/", limit=0).json()["data"] == []


def test_at_midnight_itself_the_daily_point_is_the_last(replay: ReplayServer):
    """The newest point is not repeated at its own instant."""
    replay.as_of = NOON - timedelta(hours=12)
    assert [point[0] for point in chart(replay, "daily", days=1)] == [DAYS[-2], DAYS[-1]]


def test_a_range_has_the_intraday_point_only_if_it_reaches_now(replay: ReplayServer):
    """From and to are unix seconds, both included."""
    span = {"from": DAYS[-3] // 1000, "to": DAYS[-1] // 1000}
    assert [point[0] for point in chart(replay, "daily", **span)] == DAYS[-3:]
    assert [point[0] for point in chart(replay, "daily", **span | {"to": NOON_MS // 1000})] == [
        *DAYS[-3:],
        NOON_MS,
    ]
    assert [point[0] for point in chart(replay, "daily", **span | {"to": 9_999_999_999})] == [
        *DAYS[-3:],
        NOON_MS,
    ]


def test_a_coin_without_points_has_an_empty_chart(replay: ReplayServer):
    """No history is no error."""
    assert chart(replay, "none", days="max") == []


@pytest.mark.parametrize(
    ("path", "query", "status", "error"),
    [
        ("coins/daily/market_chart", {"days": 1}, 422, "Missing parameter vs_currency"),
        ("coins/daily/market_chart", {"vs_currency": "usd"}, 422, "Missing parameter days"),
        ("coins/daily/market_chart", {"vs_currency": "eur", "days": 1}, 422, "invalid vs_currency"),
        ("coins/daily/market_chart", {"vs_currency": "usd", "days": "all"}, 422, "invalid time range"),
        ("coins/daily/market_chart/range", {"vs_currency": "usd", "from": 1}, 422, "Missing parameter to"),
        ("coins/unknown/market_chart", {"vs_currency": "usd", "days": 1}, 404, "coin not found"),
        ("coins/daily/tickers", {}, 404, "Incorrect path. Please check https://www.coingecko.com/api/"),
        ("coins", {}, 404, "Incorrect path. Please check https://www.coingecko.com/api/"),
    ],
)
def test_wrong_requests_get_the_vendors_errors(
    replay: ReplayServer, path: str, query: dict, status: int, error: str
):
    """Errors have the vendor's statuses and shape."""
    answer = get(replay, f"/api/v3/{path}", **query)
    assert (answer.status_code, answer.json()) == (status, {"error": error})


def test_a_path_that_nobody_serves_is_404(replay: ReplayServer):
    """Other paths are neither vendor's."""
    assert get(replay, "/elsewhere").status_code == 404


def test_the_plan_limits_history_only_if_asked_to(replay: ReplayServer):
    """More history than the plan has is a 401 with code 10012, for days, max and ranges."""
    replay.history_days = 5
    too_far = {"days": 6}, {"days": "max"}, {"from": DAYS[0] // 1000, "to": NOON_MS // 1000}
    for query in too_far:
        path = f"/api/v3/coins/daily/market_chart{'/range' if 'from' in query else ''}"
        answer = get(replay, path, vs_currency="usd", **query)
        assert (answer.status_code, answer.json()["error"]["status"]["error_code"]) == (401, 10012)
    assert len(chart(replay, "daily", days=5)) == 6
    assert len(chart(replay, "daily", **{"from": NOON_MS // 1000 - 5 * 86_400, "to": NOON_MS // 1000})) == 6


def test_the_rate_limit_answers_429_until_the_minute_is_over():
    """One request too many is told when to come back; Alternative.me has no limit."""
    sleeps = Sleeps(NOON)
    with ReplayServer.open(RECORDINGS, requests_per_minute=2, clock=sleeps.clock) as server:
        assert [get(server, "/api/v3/ping").status_code for _ in range(2)] == [200, 200]
        sleeps.clock.sleep(20.5)
        limited = get(server, "/api/v3/ping")
        assert (limited.status_code, limited.headers["retry-after"]) == (429, "40")
        assert limited.json()["status"]["error_code"] == 429
        assert get(server, "/fng/").status_code == 200
        sleeps.clock.sleep(40)
        assert get(server, "/api/v3/ping").status_code == 200


def test_the_index_comes_newest_first_in_strings(replay: ReplayServer):
    """Only the newest entry says when it will change: at the next midnight."""
    assert get(replay, "/fng/", limit=2, format="json").json() == {
        "name": "Fear and Greed Index",
        "data": [
            {
                "value": "49",
                "value_classification": "Fear",
                "timestamp": str(DAYS[-1] // 1000),
                "time_until_update": "43200",
            },
            {"value": "48", "value_classification": "Fear", "timestamp": str(DAYS[-2] // 1000)},
        ],
        "metadata": {"error": None},
    }
    assert len(get(replay, "/fng/").json()["data"]) == 1
    assert len(get(replay, "/fng/", limit=0).json()["data"]) == 10
    assert get(replay, "/fng/", date_format="world").json()["data"][0]["timestamp"] == "25-10-2023"
    assert get(replay, "/fng/", limit="x").json()["metadata"] == {"error": "Invalid limit"}


def test_faults_spoil_the_next_answers_in_order(replay: ReplayServer):
    """Each fault takes one request; then the truth is served again."""
    replay.inject(parse_faults("500,html,truncated,empty,429:7,ok"))
    answers = [get(replay, "/api/v3/ping") for _ in range(7)]
    assert [answer.status_code for answer in answers] == [500, 200, 200, 200, 429, 200, 200]
    assert answers[1].headers["content-type"].startswith("text/html")
    assert answers[2].content == answers[6].content[: len(answers[6].content) // 2]
    assert answers[3].content == b""
    assert answers[4].headers["retry-after"] == "7"


@pytest.mark.parametrize(
    ("fault", "error"), [("reset", httpx2.ReadError), ("cut-off", httpx2.RemoteProtocolError)]
)
def test_a_broken_connection_is_broken_on_the_wire(replay: ReplayServer, fault: str, error: type[Exception]):
    """Resets and answers cut off in the middle reach the client as such."""
    replay.inject(parse_faults(fault))
    with pytest.raises(error):
        get(replay, "/api/v3/ping")
    assert get(replay, "/api/v3/ping").status_code == 200


def test_a_script_is_asked_for_every_request(replay: ReplayServer):
    """A function may spoil one coin and leave the others alone."""
    replay.inject(lambda request: faults.server_error() if "/daily/" in request.path else None)
    assert get(replay, "/api/v3/coins/daily/market_chart", vs_currency="usd", days=1).status_code == 500
    assert get(replay, "/api/v3/coins/trailing/market_chart", vs_currency="usd", days=1).status_code == 200


def test_a_fault_script_with_an_unknown_name_says_which_there_are():
    """A typo in a fault script is an error that names the faults."""
    with pytest.raises(ConfigError, match="no fault '5oo'; there are 500"):
        parse_faults("ok,5oo")


@pytest.mark.parametrize("script", ["html:5", "429:-3", "429:soon", "slow:-1", "slow:inf", "ok:1"])
def test_a_fault_script_with_an_argument_that_makes_no_sense_is_refused(script: str):
    """An argument is seconds, of those that take one."""
    with pytest.raises(ConfigError, match=f"no fault '{script}'"):
        parse_faults(script)


def test_the_server_remembers_what_was_asked(replay: ReplayServer):
    """Tests can see that only what was missing was asked for."""
    get(replay, "/fng/", limit=3)
    assert [(request.path, request.query) for request in replay.requests] == [("/fng/", {"limit": "3"})]


def test_a_taken_port_is_an_error_that_says_so(replay: ReplayServer):
    """Two servers cannot share a port."""
    port = int(replay.url.rpartition(":")[2])
    with pytest.raises(OperatorError, match="choose another port"):
        ReplayServer.open(RECORDINGS, port=port)


def test_a_closed_server_ends_its_connections():
    """Closing does not wait for idle clients, and nobody is left hanging."""
    with httpx2.Client(trust_env=False) as client:
        with ReplayServer.open(RECORDINGS) as server:
            assert client.get(f"{server.url}/api/v3/ping").status_code == 200
        with pytest.raises(httpx2.TransportError):
            client.get(f"{server.url}/api/v3/ping")


def test_the_bundled_recordings_are_served_at_once():
    """All 50 coins with all their days take far less than a second, and every double arrives."""
    recordings = Recordings.bundled()
    with (
        ReplayServer.open(recordings) as server,
        httpx2.Client(base_url=server.coingecko_url, trust_env=False) as client,
    ):
        began = time.process_time()
        bodies = {
            coin: client.get(
                f"/coins/{coin}/market_chart", params={"vs_currency": "usd", "days": "max"}
            ).content
            for coin in recordings.coins
        }
        assert time.process_time() - began < 1
    for coin, body in bodies.items():
        series = recordings.coins[coin].repeated_at(1_664_193_600_000)
        chart = msgspec.json.decode(body, type=dict[str, list[tuple[int, float | None]]])
        wanted = (series.prices, series.market_caps, series.volumes)
        assert list(chart.values()) == [
            list(zip(series.timestamps_ms, values, strict=True)) for values in wanted
        ]
