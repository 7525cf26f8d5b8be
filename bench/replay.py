"""
Measure the replay of venues: messages a second from its WebSocket, as a client receives them.

    python bench/replay.py [--quick]

Prints JSON. Server and clients are processes of their own on one machine; rates are the best of three runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from typing import Any

import machine
import structlog
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from cryptolake.replay.venues.generated import INSTRUMENTS, generate
from cryptolake.replay.venues.server import VenueServer
from cryptolake.replay.venues.tape import Tape

STYLE = "combined-us"
STREAMS = "/stream?streams=btcusdt@trade/ethusdt@trade&timeUnit=MICROSECOND"
FAULTS = "lost:0.001,duplicated:0.001,reordered:0.001,damaged:0.001"


def main() -> None:
    """Run every measurement and print them as one JSON object."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="a tenth of the trades")
    arguments.add_argument("--client", nargs=2, metavar=("URL", "MESSAGES"), help=argparse.SUPPRESS)
    given = arguments.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    if given.client:
        print(json.dumps(asyncio.run(receive(given.client[0], int(given.client[1])))))
        return
    trades = 100_000 if given.quick else 1_000_000
    tape = generate(trades, seed=1, instruments={"binance": INSTRUMENTS["binance"]})
    figures = {
        "machine": machine.describe(),
        "pre_encoded": [served(tape, connections, is_prepared=True) for connections in (1, 2)],
        "encoded_as_sent": served(tape, 1, is_prepared=False),
        "with_faults": served(tape, 1, is_prepared=True, faults=FAULTS),
        "encoding": {venue: encoding(venue, trades // 10) for venue in sorted(INSTRUMENTS)},
    }
    print(json.dumps(figures, indent=2))


def served(tape: Tape, connections: int, *, is_prepared: bool, faults: str = "") -> dict[str, Any]:
    """Send *tape* as fast as possible to some *connections*, each a process of its own."""
    best = max((_served(tape, connections, is_prepared, faults) for _ in range(3)), key=lambda run: run[0])
    return {
        "connections": connections,
        "messages": len(tape),
        "messages_per_second": round(best[0]),
        "messages_per_cpu_second_of_the_server": round(best[1]),
    }


def _served(tape: Tape, connections: int, is_prepared: bool, faults: str) -> tuple[float, float]:
    with VenueServer.open(tape, venues=["binance"], waits_for=None, faults=faults) as server:
        if is_prepared:
            server.prepare({"binance": STYLE})
        expected = 0 if faults else len(tape)
        clients = [
            subprocess.Popen(
                [sys.executable, __file__, "--client", url + STREAMS, str(expected)],
                stdout=subprocess.PIPE,
                text=True,
            )
            for url in server.websocket_url("binance")[:connections]
        ]
        while server.connections() < connections:
            time.sleep(0.01)
        began = time.process_time()
        server.start()
        server.finished.wait()
        server.delivered.wait()
        if faults:
            server.disconnect_all()
        told = [json.loads(client.communicate()[0]) for client in clients]
        cpu_seconds = time.process_time() - began
    received = sum(one["messages"] for one in told)
    return received / max(one["seconds"] for one in told), received / cpu_seconds


def encoding(venue: str, trades: int) -> dict[str, Any]:
    """Encode generated trades of *venue* into frames, by one core."""
    tape = generate(trades, seed=1, instruments={venue: INSTRUMENTS[venue]})
    with VenueServer.open(tape, venues=[venue], waits_for=None) as server:
        style = {"binance": STYLE, "okx": "trades-all"}.get(venue, "")
        began = time.process_time()
        server.prepare({venue: style})
        seconds = time.process_time() - began
    return {"messages": len(tape), "messages_per_cpu_second": round(len(tape) / seconds)}


class Counter(WSListener):
    """Counts text messages, and the time from the first to the last."""

    def __init__(self, expected: int) -> None:
        super().__init__()
        self.messages = 0
        self.began = self.ended = 0.0
        self._expected = expected

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Count a message; go away after the last that is expected."""
        if frame.msg_type == WSMsgType.TEXT:
            if not self.messages:
                self.began = time.perf_counter()
            self.messages += 1
            if self.messages == self._expected:
                self.ended = time.perf_counter()
                transport.disconnect()
        elif frame.msg_type == WSMsgType.CLOSE:
            self.ended = time.perf_counter()
            transport.disconnect()


async def receive(url: str, expected: int) -> dict[str, Any]:
    """Receive *expected* messages (0: until the server ends the connection)."""
    transport, counter = await ws_connect(lambda: Counter(expected), url)
    await transport.wait_disconnected()
    return {"messages": counter.messages, "seconds": counter.ended - counter.began}


if __name__ == "__main__":
    main()
