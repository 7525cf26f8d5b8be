"""
Measure how fast WebSocket frames become trades, one core, venue by venue; and lines of Binance's archive.

    python bench/decode.py [--quick]

Prints JSON. The frames are generated, with the fields and lengths of recorded ones, one trade a frame; they are decoded in
batches of 1,000, whose trades are kept until the next. Rates are frames a second of processor time, the best of five runs.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import machine

from cryptolake.sources.binance.trade_lines import TradeLines
from cryptolake.sources.registry import VENUES

BATCH = 1_000
RUNS = 5
START = datetime(2024, 8, 8, tzinfo=UTC)


def main() -> None:
    """Run every measurement and print them as one JSON object."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="a tenth of the frames")
    count = 200_000 // (10 if arguments.parse_args().quick else 1)
    figures = {
        "machine": machine.describe(),
        "decode": {name: decode(name.partition(" ")[0], frame, count) for name, frame in FRAMES.items()},
        "archive": archive(10 * count),
    }
    print(json.dumps(figures, indent=2))


def decode(venue: str, frame: Callable[[int, random.Random], str], count: int) -> dict[str, Any]:
    """Decode *count* frames of a venue."""
    rng = random.Random(7)
    frames = [frame(n, rng).encode() for n in range(count)]
    read = VENUES[venue].feed.decode

    def run() -> None:
        for start in range(0, count, BATCH):
            kept = [read(frame) for frame in frames[start : start + BATCH]]
        assert len(kept[-1]) == 1  # type: ignore[arg-type]  # a list of one trade

    return {"frames": count, "bytes_a_frame": len(frames[0]), "frames_per_second": round(count / _best(run))}


def archive(count: int) -> dict[str, Any]:
    """Parse *count* lines of an archive file, unzipped, as one piece."""
    rng = random.Random(7)
    lines = "".join(
        f"{5_000_000_000 + n},{_price(rng)},{_quantity(rng)},93.00010000,{_micros(n)},{n % 3 == 0},True\n"
        for n in range(count)
    ).encode()
    best = _best(lambda: TradeLines("BTCUSDT").parse(lines))
    return {"lines": count, "bytes_a_line": len(lines) // count, "lines_per_second": round(count / best)}


def _binance(n: int, rng: random.Random, unit_us: int = 1) -> str:
    return (
        f'{{"stream":"btcusdt@trade","data":{{"e":"trade","E":{_micros(n) // unit_us + 1},"s":"BTCUSDT",'
        f'"t":{3_735_683_259 + n},"p":"{_price(rng)}","q":"{_quantity(rng)}","T":{_micros(n) // unit_us},'
        f'"m":{("true", "false")[n % 2]},"M":true}}}}'
    )


def _coinbase(n: int, rng: random.Random) -> str:
    return (
        f'{{"type":"match","trade_id":{1_081_862_675 + n},"maker_order_id":"27fff20b-af29-4f45-8744-56dd1ef57dc0",'
        f'"taker_order_id":"1da6ce16-c8da-4732-9f71-6049f4c6aaf8","side":"{("buy", "sell")[n % 2]}",'
        f'"size":"{_quantity(rng)}","price":"{_price(rng)[:-6]}","product_id":"BTC-USD",'
        f'"sequence":{134_905_860_111 + n},"time":"{_iso(n)}"}}'
    )


def _kraken(n: int, rng: random.Random) -> str:
    return (
        '{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD",'
        f'"side":"{("buy", "sell")[n % 2]}","price":{_price(rng)[:-7]},"qty":{_quantity(rng)},"ord_type":"limit",'
        f'"trade_id":{71_000_000 + n},"timestamp":"{_iso(n)}"}}]}}'
    )


def _okx(n: int, rng: random.Random) -> str:
    return (
        '{"arg":{"channel":"trades-all","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT",'
        f'"tradeId":"{338_476_307 + n}","px":"{_price(rng)[:-7]}","sz":"{_quantity(rng)}",'
        f'"side":"{("buy", "sell")[n % 2]}","ts":"{_micros(n) // 1000}"}}]}}'
    )


FRAMES: dict[str, Callable[[int, random.Random], str]] = {
    "binance": _binance,
    "binance in milliseconds": lambda n, rng: _binance(n, rng, 1000),
    "coinbase": _coinbase,
    "kraken": _kraken,
    "okx": _okx,
}


def _price(rng: random.Random) -> str:
    return f"{rng.randrange(60_000, 70_000)}.{rng.randrange(100):02}000000"


def _quantity(rng: random.Random) -> str:
    return f"0.{rng.randrange(1, 10**8):08}"


def _micros(n: int) -> int:
    return int(START.timestamp()) * 1_000_000 + n * 20_003


def _iso(n: int) -> str:
    return (START + timedelta(microseconds=n * 20_003)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _best(run: Callable[[], object]) -> float:
    """Return the least processor time of some runs, in seconds."""
    seconds = []
    for _ in range(RUNS):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return min(seconds)


if __name__ == "__main__":
    main()
