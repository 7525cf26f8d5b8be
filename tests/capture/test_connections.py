"""Connections to a venue: their number, their pace, their hosts, and what makes them go."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from picows import WSError, WSListener, WSMsgType, ws_create_server
from structlog.testing import capture_logs

from cryptolake.capture.connections import Allowance, Connections
from cryptolake.capture.websocket import LARGEST_FRAME_BYTES, Connection
from cryptolake.clock import Clock
from cryptolake.replay.venues.server import VenueServer
from cryptolake.sources.records import Control
from cryptolake.sources.venue import Rate
from tests.capture.streams import places, tape

LOOK_SECONDS = 0.01


class Reader:
    """Keeps what connections deliver."""

    def __init__(self) -> None:
        self.read: dict[int, list[bytes]] = {}
        self.expected: list[tuple[tuple[str, ...], tuple[int, ...]]] = []

    def frames(self, venue: str, connection: int, frames: Sequence[tuple[bytes, int]]) -> None:
        self.read.setdefault(connection, []).extend(payload for payload, _ in frames)

    def expects(self, venue: str, symbols: Collection[str], connections: Collection[int]) -> None:
        self.expected.append((tuple(symbols), tuple(connections)))


@asynccontextmanager
async def connected(
    server, venue="binance", *, symbols=("BTCUSDT",), stall_seconds=10.0, websocket_urls=(), **capabilities
):
    """Hold connections to *venue* of *server*, or of other URLs, whose capabilities are changed as told."""
    known, where = places(server)[venue]
    where = replace(where, websocket_urls=tuple(websocket_urls) or where.websocket_urls)
    changed = replace(known, capabilities=replace(known.capabilities, **capabilities))
    reader = Reader()
    held = Connections(
        changed, where, symbols, reader, Clock(), random.Random(1), stall_seconds=stall_seconds
    )
    task = asyncio.create_task(held.run())
    try:
        yield held, reader
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(is_so, what, seconds=10.0):
    """Wait until something is so."""
    for _ in range(int(seconds / LOOK_SECONDS)):
        if is_so():
            return
        await asyncio.sleep(LOOK_SECONDS)
    raise AssertionError(f"{what}: not within {seconds} s")


def are_open(held):
    return all(line.state == "open" for line in held.states())


def test_twins_have_different_hosts_and_both_are_expected():
    """One host that is down takes one connection of a group with it; both are waited for at the start."""

    async def check(server):
        async with connected(server) as (held, reader):
            await until(lambda: are_open(held), "open")
            assert len({line.host for line in held.states()}) == 2
            assert reader.expected[-1] == (("BTCUSDT",), (1, 2))

    with VenueServer.open(tape(10), waits_for=None) as server:
        asyncio.run(check(server))


def test_instruments_are_spread_over_groups():
    """A connection carries no more streams than its venue allows, and every group has two."""

    async def check(server):
        async with connected(server, symbols=("A", "B", "C"), streams_per_connection=2) as (held, _):
            await until(lambda: are_open(held), "open")
            assert [group.symbols for group in held.groups] == [("A", "B"), ("C",)]
            assert [line.name for line in held.states()] == [
                "binance/0a",
                "binance/0b",
                "binance/1a",
                "binance/1b",
            ]

    with VenueServer.open(tape(10), waits_for=None) as server:
        asyncio.run(check(server))


def test_a_connection_is_replaced_before_it_grows_too_old():
    """Make before break: the successor delivers before its predecessor is closed, and no frame is missed by both."""

    async def check(server):
        async with connected(server, longest_connection_seconds=0.6) as (held, reader):
            await until(lambda: are_open(held), "open")
            await until(lambda: server.connections() == 4, "both with a successor")
            server.publish(50)
            await until(lambda: sum(len(frames) == 50 for frames in reader.read.values()) >= 3, "delivered")

    with VenueServer.open(tape(50), waits_for=None) as server:
        asyncio.run(check(server))


def test_a_subscription_that_is_refused_is_shown():
    """The venue says why, and so do we."""

    async def check(server):
        async with connected(server) as (held, _):
            await until(lambda: are_open(held), "open")
            held.heed(1, Control("refused", reason="no such channel"))
            assert [line.problem for line in held.states()] == ["subscription refused: no such channel", ""]

    with VenueServer.open(tape(10), waits_for=None) as server:
        asyncio.run(check(server))


def test_reading_pauses_and_goes_on():
    """While frames cannot be made durable fast enough nothing is read; what was sent meanwhile comes later."""

    async def check(server):
        async with connected(server) as (held, reader), connected(server) as (free, others):
            await until(lambda: are_open(held) and are_open(free), "open")
            held.pause(True)
            assert {line.state for line in held.states()} == {"paused"}
            server.publish(20)
            assert await asyncio.to_thread(server.delivered.wait, 5)  # to the paused ones too
            await until(
                lambda: [len(frames) for frames in others.read.values()] == [20, 20], "read by others"
            )
            assert [line.frames for line in held.states()] == [0, 0]
            assert reader.read == {}
            held.pause(False)
            await until(lambda: [len(frames) for frames in reader.read.values()] == [20, 20], "read")

    with VenueServer.open(tape(20), waits_for=None) as server:
        asyncio.run(check(server))


def test_a_connection_that_misses_trades_is_replaced_and_the_other_stays():
    """After an audit found trades that neither delivered, the older connection of the group is made anew."""

    async def check(server):
        async with connected(server) as (held, _):
            await until(lambda: are_open(held), "open")
            held.suspect(["ETHUSDT"])
            held.suspect(["BTCUSDT"])
            await until(lambda: sum(line.replaced for line in held.states()) == 1, "replaced")

    with VenueServer.open(tape(10), waits_for=None) as server:
        asyncio.run(check(server))


@pytest.mark.parametrize("venue", ["coinbase", "kraken", "okx"])
def test_greetings_subscribe_and_trades_come(venue):
    """A venue that is told what to send sends it on both connections."""
    symbol = {"coinbase": "BTC-USD", "kraken": "BTC/USD", "okx": "BTC-USDT"}[venue]

    async def check(server):
        async with connected(server, venue, symbols=(symbol,)) as (held, reader):
            await until(lambda: server.connections(venue) == 2, "subscribed")
            before = {number: len(frames) for number, frames in reader.read.items()}
            server.publish(30, venue)
            await until(
                lambda: (
                    sum(symbol.encode() in b"".join(f[before.get(n, 0) :]) for n, f in reader.read.items())
                    == 2
                ),
                "delivered",
            )
            assert are_open(held)

    with VenueServer.open(tape(30, instruments={venue: [symbol]}), waits_for=None) as server:
        asyncio.run(check(server))


class Sends(WSListener):
    """A server that sends *frames*, each a payload and whether it ends its message, to whoever connects."""

    def __init__(self, frames):
        self.frames = frames

    def on_ws_connected(self, transport):
        for payload, is_last in self.frames:
            transport.send(WSMsgType.TEXT, payload, fin=is_last)


@asynccontextmanager
async def connection_to(frames):
    """Yield a connection to a server that sends *frames*, and the list of messages that it delivers."""
    messages = []
    async with await ws_create_server(lambda _: Sends(frames), "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        one = await Connection.open(1, url, lambda _, batch: messages.extend(p for p, _ in batch), Clock())
        try:
            yield one, messages
        finally:
            one.close()


def test_a_message_in_parts_is_one_message():
    """Its parts are joined, and the next one begins anew."""

    async def check():
        sent = [(b"a", False), (b"b", False), (b"c", True), (b"d", True), (b"e", False), (b"f", True)]
        async with connection_to(sent) as (_, messages):
            await until(lambda: messages == [b"abc", b"d", b"ef"], "delivered")

    asyncio.run(check())


def test_a_message_in_too_many_parts_ends_the_connection():
    """Nobody can make us collect without end: what is larger than a frame may be is not taken, nor what follows it."""
    part = b"x" * (LARGEST_FRAME_BYTES // 8)

    async def check():
        sent = [(b"first", True), *[(part, False)] * 8, (b"y", False), (b"z", True), (b"later", True)]
        async with connection_to(sent) as (one, messages):
            await asyncio.wait_for(one.ended.wait(), 10)
            assert "more than 16,777,216 bytes" in one.farewell
            assert messages == [b"first"]

    asyncio.run(check())


def test_a_message_in_parts_may_be_as_large_as_a_frame():
    """The limit itself is inside, with the part that ends the message; each message is measured by itself."""
    half = b"x" * (LARGEST_FRAME_BYTES // 2)

    async def check():
        async with connection_to([(half, False), (half, True)] * 2) as (_, messages):
            await until(lambda: len(messages) == 2, "delivered")
            assert [len(message) for message in messages] == [LARGEST_FRAME_BYTES] * 2

    asyncio.run(check())


def test_a_server_that_hangs_up_during_the_handshake_is_said_to():
    """It has answered nothing, so there is nothing else to say."""

    async def hang_up(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async def check():
        async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(WSError, match="hung up during the handshake"):
                await Connection.open(1, f"ws://127.0.0.1:{port}", lambda *_: None, Clock())

    asyncio.run(check())


def test_a_connection_that_was_begun_before_the_spool_was_full_is_not_kept():
    """It would be read past the quota; once there is room, connections are made again."""
    closed = 0

    async def carry(reader, writer):
        nonlocal closed
        while data := await reader.read(65_536):
            writer.write(data)
        closed += 1
        writer.close()

    async def check(server):
        host, port = server.websocket_url("binance")[0].removeprefix("ws://").split(":")
        gate, asked = asyncio.Event(), asyncio.Event()

        async def answer_late(reader, writer):
            asked.set()
            await gate.wait()
            theirs, ours = await asyncio.open_connection(host, int(port))
            await asyncio.gather(carry(reader, ours), carry(theirs, writer))

        async with await asyncio.start_server(answer_late, "127.0.0.1", 0) as slow:
            url = f"ws://127.0.0.1:{slow.sockets[0].getsockname()[1]}"
            async with connected(server, websocket_urls=(url,)) as (held, _):
                await asyncio.wait_for(asked.wait(), 10)
                held.shut(True)
                gate.set()
                await until(lambda: closed >= 2, "closed")
                assert {line.state for line in held.states()} == {"shut"}
                held.shut(False)
                await until(lambda: are_open(held), "open")
            await until(lambda: closed == 8, "all closed, both ways")

    with VenueServer.open(tape(10), waits_for=None) as server:
        asyncio.run(check(server))


@pytest.mark.parametrize("url", ["ws://host:99999", "ws://host:abc", "ws://a..b"])
def test_an_address_that_cannot_be_is_tried_like_one_that_does_not_answer(url):
    """It ends neither the capture nor the twin at another host, and the line says what is wrong."""

    async def check(server):
        good, *_ = server.websocket_url("binance")
        async with connected(server, websocket_urls=(good, url)) as (held, _):
            await until(lambda: {line.state for line in held.states()} == {"open"}, "open elsewhere")
            assert {line.host for line in held.states()} == {good.removeprefix("ws://")}
        async with connected(server, websocket_urls=(url,)) as (held, _):
            await until(lambda: all(line.problem for line in held.states()), "failed")
            assert {line.state for line in held.states()} == {"connecting"}
            assert "cannot be connected to" in held.states()[0].problem

    with VenueServer.open(tape(10), waits_for=None) as server:
        asyncio.run(check(server))


def test_a_line_that_fails_again_and_again_logs_each_reason_once_and_then_ever_more_rarely():
    """A server that is gone must not flood the log: the first failure, a new reason, and the 2nd, 4th, 8th, … try."""

    async def check(server):
        async with connected(server, websocket_urls=("ws://host:abc", "ws://host:99999")) as (held, _):
            line = held.groups[0].lines[0]
            await until(lambda: line._refusals >= 7, "failed seven times")
            return line.name

    with VenueServer.open(tape(10), waits_for=None) as server, capture_logs() as logs:
        name = asyncio.run(check(server))
    failed = [log for log in logs if log["event"] == "connection.failed" and log["connection"] == name]
    assert [log["tries"] for log in failed] == [1, 2, 4]
    assert len({log["reason"] for log in failed[:2]}) == 2


def test_connections_are_tried_no_faster_than_the_venue_allows():
    """In no span of its rate there are more tries than that, however often they fail."""
    now = [0.0]
    allowance = Allowance(Rate(3, 60), Clock(monotonic=lambda: now[0]))
    assert [allowance.take() for _ in range(7)] == [0.0, 0.0, 0.0, 60.0, 60.0, 60.0, 120.0]
    now[0] = 150.0
    assert [allowance.take() for _ in range(3)] == [0.0, 0.0, 30.0]
