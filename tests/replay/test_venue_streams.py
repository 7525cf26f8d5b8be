"""Each venue's WebSocket: what it acknowledges, what it sends, and in which bytes."""

from __future__ import annotations

import asyncio
import json

import pyarrow.parquet as pq
import pytest
from picows import WSError

from cryptolake.config import load_settings
from cryptolake.replay.recordings import bundled_file
from cryptolake.replay.venues.generated import generate
from cryptolake.replay.venues.reel import BLOCK
from cryptolake.replay.venues.server import VenueServer
from cryptolake.replay.venues.tape import RECORDED_TRADES, Tape
from tests.replay.clients import BINANCE, Client, run, told

MADE = generate(400, seed=5)


def opened(tape: Tape = MADE, **options) -> VenueServer:
    return VenueServer.open(tape, **{"waits_for": None, **options})


def converse(server: VenueServer, venue: str, path: str = "", *messages, expect: int, publish: int = 0):
    """Return what is heard after *messages* are said, one reply each at least, and some trades are published."""

    async def scenario():
        client = await Client.connect(server.websocket_url(venue)[0] + path)
        for message in messages:
            before = len(client.heard)
            client.say(message)
            await client.hear(before + 1)
        await client.until(lambda _: server.connections(venue) or not publish)
        server.publish(publish, venue)
        return [json.loads(frame) if frame != b"pong" else frame for frame in await client.hear(expect)]

    return run(scenario())


def test_the_recording_is_sent_byte_by_byte_in_the_order_it_was_received():
    """Both twins hear every recorded frame once, as it was recorded, whatever unit the URL asks for."""
    recorded = pq.read_table(bundled_file(RECORDED_TRADES))["frame"].to_pylist()
    with opened(Tape.recorded()) as server:

        async def scenario():
            twins = [await Client.connect(url + BINANCE) for url in server.websocket_url("binance")]
            server.start()
            return [await twin.hear(len(recorded)) for twin in twins]

        one, other = run(scenario())
    assert one == recorded
    assert other == recorded


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/ws/btcusdt@trade", 1000),
        ("/stream?streams=btcusdt@trade", 1000),
        (BINANCE, 1),
        ("/stream?streams=btcusdt@trade&timeUnit=microsecond", 1),
    ],
)
def test_binance_wraps_combined_streams_and_prints_the_unit_asked_for(path: str, unit: int):
    """A raw stream is the event alone; times are milliseconds unless the URL asks for microseconds."""
    trade = MADE.of("binance")[0].trades(0, 1)[0]
    with opened() as server:
        frame = converse(server, "binance", path, expect=1, publish=9)[0]
    if path.startswith("/stream"):
        assert frame["stream"] == "btcusdt@trade"
        frame = frame["data"]
    assert frame == {
        "e": "trade",
        "E": trade.event_at_us // unit,
        "s": "BTCUSDT",
        "t": trade.trade_id,
        "p": trade.price,
        "q": trade.quantity,
        "T": trade.traded_at_us // unit,
        "m": trade.is_buyer_maker,
        "M": True,
    }


def test_the_raw_stream_of_a_recording_is_the_recorded_event():
    """What the combined frame wraps is sent alone, byte by byte."""
    tape = Tape.recorded()
    with opened(tape) as server:
        heard = told(server, query="/ws/ethusdt@trade")
    track = tape.of("binance")[1]
    assert [b'{"stream":"ethusdt@trade","data":' + event + b"}" for event in heard] == track.frames(
        0, len(track)
    )


def test_binance_acknowledges_its_control_messages():
    """Subscriptions, their list and properties are answered under the id that was sent."""
    with opened() as server:
        answers = converse(
            server,
            "binance",
            "/ws",
            {"method": "SUBSCRIBE", "params": ["btcusdt@trade", "btcusdt@depth"], "id": 1},
            {"method": "LIST_SUBSCRIPTIONS", "id": "three"},
            {"method": "SET_PROPERTY", "params": ["combined", True], "id": 5},
            {"method": "JUMP", "id": 6},
            b"{",
            expect=6,
            publish=5,
        )
    assert answers[:3] == [
        {"result": None, "id": 1},
        {"result": ["btcusdt@trade"], "id": "three"},
        {"result": None, "id": 5},
    ]
    assert [answer["code"] for answer in answers[3:5]] == [2, 3]
    assert answers[5]["stream"] == "btcusdt@trade"


def test_binance_ends_a_connection_that_says_too_much():
    """Five messages a second are allowed; one more ends the connection."""

    async def scenario(server):
        client = await Client.connect(server.websocket_url("binance")[0] + "/ws")
        for number in range(6):
            client.say({"method": "LIST_SUBSCRIPTIONS", "id": number})
        return len(await client.hear_out()), client.closed_with

    with opened() as server:
        assert run(scenario(server)) == (5, 1008)


def test_an_unknown_path_is_not_found():
    """Only the venue's own paths are served."""

    async def scenario(url):
        with pytest.raises(WSError, match="404"):
            await Client.connect(url)

    with opened() as server:
        run(scenario(server.websocket_url("binance")[0] + "/elsewhere"))
        run(scenario(server.websocket_url("kraken")[0].replace("/v2", "/v1")))


def test_coinbase_tells_the_last_match_first_and_then_each_new_one():
    """A subscription is answered with `last_match`, then acknowledged; matches have the maker's side."""
    first, second = MADE.of("coinbase")[0].trades(0, 2)
    command = {"type": "subscribe", "product_ids": ["BTC-USD"], "channels": ["matches", "heartbeat"]}
    with opened() as server:
        server.publish(next(n for n in range(1, 99) if MADE_ORDER[:n].count("BTC-USD") == 1), "coinbase")
        last, acknowledged, match = converse(server, "coinbase", "", command, expect=3, publish=9)
    assert (last["type"], last["trade_id"]) == ("last_match", first.trade_id)
    assert acknowledged["type"] == "subscriptions"
    assert [channel["name"] for channel in acknowledged["channels"]] == ["matches", "heartbeat"]
    assert (match["type"], match["trade_id"], match["price"]) == ("match", second.trade_id, second.price)
    assert match["size"] == second.quantity
    assert match["side"] == ("buy" if second.is_buyer_maker else "sell")
    assert match["time"].endswith("Z")


def test_coinbase_beats_each_second_with_the_id_of_the_newest_trade():
    """The heartbeat is how a silent loss is found: it names the newest trade there is."""
    command = {"type": "subscribe", "product_ids": ["ETH-USD"], "channels": ["heartbeat"]}

    async def scenario(server):
        client = await Client.connect(server.websocket_url("coinbase")[0])
        client.say(command)
        await client.until(lambda c: any(b'"heartbeat","last' in frame for frame in c.heard))
        return json.loads(client.heard[-1])

    with opened(waits_for=0) as server:
        beat = run(scenario(server))
    assert beat["last_trade_id"] == MADE.of("coinbase")[1].ids[-1]
    assert beat["product_id"] == "ETH-USD"


@pytest.mark.parametrize(
    "message", [b"{", {"type": "subscribe", "product_ids": ["NO"], "channels": ["matches"]}]
)
def test_coinbase_refuses_what_it_does_not_know(message):
    """A wrong product or no JSON is an error, and no subscription."""
    with opened() as server:
        assert converse(server, "coinbase", "", message, expect=1)[0]["type"] == "error"


def test_kraken_greets_acknowledges_and_gives_a_snapshot_of_fifty():
    """Status, acknowledgement, snapshot of the last 50 oldest first, then updates with JSON numbers."""
    track = MADE.of("kraken")[0]
    command = {"method": "subscribe", "params": {"channel": "trade", "symbol": ["BTC/USD"]}, "req_id": 4}
    with opened() as server:
        server.publish(80, "kraken")
        held = len(server.published("kraken", "BTC/USD"))

        async def scenario():
            client = await Client.connect(server.websocket_url("kraken")[0])
            client.say(command)
            await client.hear(3)
            server.publish(20, "kraken")
            return await client.hear(4)

        status, acknowledged, snapshot, update = run(scenario())
    assert json.loads(status)["channel"] == "status"
    assert json.loads(acknowledged) | {"time_in": "", "time_out": ""} == {
        "method": "subscribe",
        "req_id": 4,
        "result": {"channel": "trade", "symbol": "BTC/USD", "snapshot": True},
        "success": True,
        "time_in": "",
        "time_out": "",
    }
    last = json.loads(snapshot)
    expected = [trade.trade_id for trade in track.trades(max(held - 50, 0), held)]
    assert (last["type"], [trade["trade_id"] for trade in last["data"]]) == ("snapshot", expected)
    trade = track.trades(held, held + 1)[0]
    assert f'"price":{trade.price},"qty":{trade.quantity},'.encode() in update
    assert json.loads(update)["data"][0]["side"] == ("sell" if trade.is_buyer_maker else "buy")


def test_kraken_refuses_a_pair_and_answers_a_ping():
    """An unknown pair is named in the refusal; a ping gets its pong."""
    command = {"method": "subscribe", "params": {"channel": "trade", "symbol": ["NO/PE"]}}
    with opened() as server:
        _, refused, pong = converse(server, "kraken", "", command, {"method": "ping", "req_id": 9}, expect=3)
    assert (refused["success"], refused["symbol"]) == (False, "NO/PE")
    assert (pong["method"], pong["req_id"]) == ("pong", 9)


def test_okx_acknowledges_each_argument_and_answers_ping():
    """Subscriptions are acknowledged one by one, an unknown one with code 60018; all values are strings."""
    arguments = [{"channel": "trades-all", "instId": name} for name in ("BTC-USDT", "NO-PE")]
    with opened() as server:
        pong, acknowledged, refused, push = converse(
            server, "okx", "", b"ping", {"op": "subscribe", "args": arguments}, expect=4, publish=50
        )
    trade = MADE.of("okx")[0].trades(0, 1)[0]
    assert pong == b"pong"
    assert (acknowledged["event"], acknowledged["arg"]) == ("subscribe", arguments[0])
    assert (refused["event"], refused["code"]) == ("error", "60018")
    assert push == {
        "arg": arguments[0],
        "data": [
            {
                "instId": "BTC-USDT",
                "tradeId": str(trade.trade_id),
                "px": trade.price,
                "sz": trade.quantity,
                "side": "sell" if trade.is_buyer_maker else "buy",
                "ts": str(trade.traded_at_us // 1000),
                "source": "0",
            }
        ],
    }


def test_a_connection_gets_only_what_is_published_after_it_subscribed():
    """Neither what was published before, nor symbols that it did not ask for."""
    track = MADE.of("binance")[0]

    async def scenario(server):
        server.publish(30, "binance")
        held = len(server.published("binance", "BTCUSDT"))
        client = await Client.connect(server.websocket_url("binance")[0] + "/ws/btcusdt@trade")
        server.start()
        frames = await client.hear(len(track) - held)
        return held, [json.loads(frame)["t"] for frame in frames]

    with opened() as server:
        held, ids = run(scenario(server))
    assert ids == list(track.ids[held:])


def test_publishing_waits_for_the_connections_it_was_told_to_wait_for():
    """Nothing is published before the second twin has subscribed, so that neither misses the beginning."""

    async def scenario(server):
        one, other = server.websocket_url("binance")
        first = await Client.connect(one + BINANCE)
        await first.until(lambda _: server.connections() == 1)
        assert server.published_count() == 0
        second = await Client.connect(other + BINANCE)
        return await first.hear(100) == await second.hear(100)

    with opened(waits_for=2, venues=["binance"]) as server:
        assert run(scenario(server))


def test_an_unbounded_pace_is_never_far_ahead_of_the_slowest_twin():
    """A client that does not read holds publishing back: the server keeps nothing for it but its place."""
    tape = generate(200_000, seed=8, instruments={"binance": ["BTCUSDT"]})

    async def scenario(server):
        quick, slow = [await Client.connect(url + BINANCE) for url in server.websocket_url("binance")]
        slow.transport.underlying_transport.pause_reading()
        server.start()
        while (held := server.published_count()) != await asyncio.to_thread(settled, server):
            pass
        assert held < len(tape) // 2
        assert len(quick.heard) <= held
        slow.transport.underlying_transport.resume_reading()
        return len(await quick.hear(len(tape))) + len(await slow.hear(len(tape)))

    with opened(tape, venues=["binance"]) as server:
        assert run(scenario(server)) == 2 * len(tape)


def settled(server: VenueServer) -> int:
    """Return how much is published after a while of publishing on."""
    server.finished.wait(0.2)
    return server.published_count()


def test_the_pace_is_that_of_the_tape_or_of_a_rate():
    """At twice the speed half the time passes; a rate does not ask what the times of the tape are."""
    tape = generate(2_000, seed=9, trades_per_second=1_000, instruments={"binance": ["BTCUSDT"]})
    track = tape.tracks[0]
    with opened(tape, speed=4.0) as server:
        reel = server._cast.stages["binance"].publication
        half = (track.moments_ns[1000] - track.moments_ns[0]) / 1e9
        assert reel.due(half / 4 + 1e-6) >= 1001
        assert reel.due(half / 4 - 0.01) <= 1000
    with opened(tape, trades_per_second=500) as server:
        assert server._cast.stages["binance"].publication.due(1.5) == 750


def test_a_bounded_pace_goes_on_without_connections_and_can_be_paused():
    """Time passes whether anyone listens or not; while it is paused nothing is published."""
    with opened(generate(3_000, seed=4), trades_per_second=100_000, waits_for=0) as server:
        assert server.finished.wait(10)
        assert server.published_count() == 3_000
    with opened(generate(3_000, seed=4), trades_per_second=1) as server:
        server.publish(10)
        server.pause_publishing()
        assert server.published_count() == 40
        server.resume_publishing()
        assert not server.finished.is_set()


def test_another_tape_goes_on_over_the_same_connections():
    """A relisted symbol starts its ids again: connections stay, and REST knows only the new trades."""
    one, other = (generate(BLOCK, seed=seed, instruments={"binance": ["BTCUSDT"]}) for seed in (1, 2))

    async def scenario(server):
        client = await Client.connect(server.websocket_url("binance")[0] + "/ws/btcusdt@trade")
        server.start()
        await client.hear(BLOCK)
        server.replace(other)
        return [json.loads(frame)["t"] for frame in await client.hear(2 * BLOCK)]

    with opened(one, venues=["binance"]) as server:
        assert run(scenario(server)) == [*one.tracks[0].ids, *other.tracks[0].ids]
        assert server.published("binance", "BTCUSDT")[0].trade_id == other.tracks[0].ids[0]


def test_a_server_opens_again_on_the_ports_that_it_had():
    """With a port of one's own, REST is there and the hosts of each venue follow in an order that does not change."""
    with opened(venues=["okx"]) as server:
        port = int(server.rest_url("okx").rpartition(":")[2])
    for _ in range(2):
        with opened(venues=["okx"], port=port) as again:
            assert again.rest_url("okx").endswith(f":{port}")
            assert [url.split("/")[2] for url in again.websocket_url("okx")] == [
                f"127.0.0.1:{port + 7}",
                f"127.0.0.1:{port + 8}",
            ]
            assert converse(again, "okx", "", b"ping", expect=1) == [b"pong"]


@pytest.mark.slow
def test_coinbase_ends_a_connection_that_subscribes_to_nothing():
    """A client has five seconds to say what it wants."""

    async def scenario(server):
        client = await Client.connect(server.websocket_url("coinbase")[0])
        await client.hear_out()
        return client.closed_with

    with opened() as server:
        assert run(scenario(server)) == 1008


def test_the_settings_point_a_capture_at_both_hosts_of_each_venue():
    """The variables are those of the settings, and their values are taken by them."""
    with opened() as server:
        variables = server.settings()
        assert set(variables) > {
            "CRYPTOLAKE_SOURCES__OKX__REST_URL",
            "CRYPTOLAKE_SOURCES__BINANCE__ARCHIVE_URL",
        }
        with pytest.MonkeyPatch.context() as patched:
            for name, value in variables.items():
                patched.setenv(name, value)
            sources = load_settings().sources
        assert list(sources.kraken.websocket_url) == server.websocket_url("kraken")
        assert sources.binance.archive_url == server.archive_url


def order_of(venue: str) -> list[str]:
    """Return the symbol of each trade of MADE at *venue*, in the order of publishing."""
    tracks = MADE.of(venue)
    moments = [(moment, t.symbol) for t in tracks for moment in t.moments_ns]
    return [symbol for _, symbol in sorted(moments)]


MADE_ORDER = order_of("coinbase")
