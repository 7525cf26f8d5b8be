"""
The venues' side of REST, as small as their documents allow: one function a venue, over made-up trades.

A venue's function is given a request's path and query and returns its body, or None for what it does not know.
"""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

from cryptolake.sources.records import Trade

Query = Mapping[str, str]
Body = bytes | None
MINUTE_US = 60_000_000
START_US = 1_723_075_200_000_000  # 2024-08-08T00:00Z


def tape(symbol: str, *, count: int, first_id: int, has_holes: bool, seed: int = 1) -> list[Trade]:
    """Return *count* made-up trades of some seconds each, times in whole milliseconds, now and then two in one."""
    rng = random.Random(seed)
    trades, trade_id, at_ms = [], first_id, START_US // 1000
    for _ in range(count):
        price, quantity = (
            f"{rng.randrange(1, 9)}.{rng.randrange(10**8):08}",
            f"0.{rng.randrange(1, 10**8):08}",
        )
        trades.append(Trade(symbol, trade_id, price, quantity, rng.random() < 0.5, at_ms * 1000))
        trade_id += rng.choice((1, 1, 1, 2, 7)) if has_holes else 1
        at_ms += rng.choice((0, 1, 800, 3000))
    return trades


def minutes(trades: Sequence[Trade]) -> dict[int, list[Trade]]:
    """Return the trades of each minute that has any, by its start in microseconds."""
    found: dict[int, list[Trade]] = {}
    for trade in trades:
        found.setdefault(trade.traded_at_us // MINUTE_US * MINUTE_US, []).append(trade)
    return found


def bar(trades: Sequence[Trade]) -> tuple[str, str, str, str]:
    """Return open, high, low and close."""
    prices = [trade.price for trade in trades]
    return prices[0], max(prices), min(prices), prices[-1]


def binance(trades: Sequence[Trade], path: str, query: Query) -> Body:
    """Answer as https://github.com/binance/binance-spot-api-docs/blob/master/rest-api.md says."""
    symbols = {trade.symbol for trade in trades}
    if path == "/api/v3/ticker/24hr":
        asked = json.loads(query["symbols"]) if "symbols" in query else ["IDLEUSDT", *symbols]
        if not set(asked) <= {"IDLEUSDT", *symbols}:
            return None
        last = {trade.symbol: trade.trade_id for trade in trades}
        return _json([{"symbol": symbol, "lastId": last.get(symbol, -1)} for symbol in asked])
    if query.get("symbol") not in symbols:
        return None
    limit = int(query["limit"])
    rows: list[object] = []
    if path == "/api/v3/historicalTrades":
        rows = [_binance_record(trade) for trade in trades if trade.trade_id >= int(query["fromId"])]
    elif path == "/api/v3/aggTrades":
        at = int(query["startTime"]) * 1000
        rows = [{"a": 1, "f": t.trade_id, "l": t.trade_id} for t in trades if t.traded_at_us >= at]
    elif path == "/api/v3/klines":
        start, end = int(query["startTime"]) * 1000, int(query["endTime"]) * 1000
        rows = [
            [at, *bar(some), "1.5", at + 59_999_999, "2.5", len(some), "0.5", "0.7", "0"]
            for at, some in minutes(trades).items()
            if start <= at <= end
        ]
    return _json(rows[:limit])


def _binance_record(trade: Trade) -> dict[str, object]:
    return {
        "id": trade.trade_id,
        "price": trade.price,
        "qty": trade.quantity,
        "quoteQty": "0",
        "time": trade.traded_at_us,
        "isBuyerMaker": trade.is_buyer_maker,
        "isBestMatch": True,
    }


def coinbase(trades: Sequence[Trade], path: str, query: Query) -> Body:
    """Answer as https://docs.cdp.coinbase.com/exchange/rest-api says."""
    _, products, symbol, resource = path.split("/")
    mine = [trade for trade in trades if trade.symbol == unquote(symbol)]
    if products != "products" or not mine:
        return None
    if resource == "trades":
        below = [trade for trade in mine if "after" not in query or trade.trade_id < int(query["after"])]
        found = below[-int(query["limit"]) :]
        return _json(
            [
                {
                    "time": _iso(t.traded_at_us),
                    "trade_id": t.trade_id,
                    "price": t.price,
                    "size": t.quantity,
                    "side": "buy" if t.is_buyer_maker else "sell",
                }
                for t in reversed(found)
            ]
        )
    start, end = (_us(query[name]) for name in ("start", "end"))
    found = [(at, some) for at, some in minutes(mine).items() if start <= at <= end]
    assert (end - start) / MINUTE_US < 300
    rows = [(at // 1_000_000, *bar(some)) for at, some in reversed(found)]
    return (
        "["
        + ",".join(f"[{at},{low},{high},{first},{last},1.50]" for at, first, high, low, last in rows)
        + "]"
    ).encode()


def kraken(trades: Sequence[Trade], path: str, query: Query) -> Body:
    """Answer as https://docs.kraken.com/api/docs/rest-api/get-recent-trades says."""
    mine = [trade for trade in trades if trade.symbol == query["pair"]]
    if not mine:
        return b'{"error":["EQuery:Unknown asset pair"]}'
    since = int(query.get("since", -1))
    if path == "/0/public/OHLC":
        bars = [
            [at // 1_000_000, *bar(some), "0.0", "1.5", len(some)]
            for at, some in minutes(mine).items()
            if at // 1_000_000 > since
        ]
        return _json({"error": [], "result": {"XXBTZUSD": bars[-720:], "last": 1}})
    if path != "/0/public/Trades":
        return None
    limit = int(query["count"])
    later = [trade for trade in mine if trade.traded_at_us * 1000 > since]
    found = later[:limit] if "since" in query else later[-limit:]
    rows = [
        f'["{t.price}","{t.quantity}",{t.traded_at_us // 10**6}.{t.traded_at_us % 10**6:06}3,'
        f'"{"s" if t.is_buyer_maker else "b"}","l","",{t.trade_id}]'
        for t in found
    ]
    last = found[-1].traded_at_us * 1000 if found else since
    return ('{"error":[],"result":{"XXBTZUSD":[' + ",".join(rows) + f'],"last":"{last}"}}}}').encode()


def okx(trades: Sequence[Trade], path: str, query: Query) -> Body:
    """Answer as https://www.okx.com/docs-v5/en says."""
    mine = [trade for trade in trades if trade.symbol == query["instId"]]
    if not mine:
        return b'{"code":"51001","data":[],"msg":"Instrument ID does not exist"}'
    limit = int(query["limit"])
    assert limit <= 100
    if path == "/api/v5/market/history-candles":
        after, before = int(query["after"]) * 1000, int(query["before"]) * 1000
        found = [(at, some) for at, some in minutes(mine).items() if before < at < after][-limit:]
        rows = [[str(at // 1000), *bar(some), "1.5", "9", "2.5", "1"] for at, some in reversed(found)]
        return _json({"code": "0", "msg": "", "data": rows})
    if path == "/api/v5/market/history-trades":
        assert query["type"] == "1"
        mine = [trade for trade in mine if trade.trade_id < int(query["after"])]
    elif path != "/api/v5/market/trades":
        return None
    records = [
        {
            "instId": t.symbol,
            "side": "sell" if t.is_buyer_maker else "buy",
            "sz": t.quantity,
            "px": t.price,
            "tradeId": str(t.trade_id),
            "ts": str(t.traded_at_us // 1000),
        }
        for t in reversed(mine[-limit:])
    ]
    return _json({"code": "0", "msg": "", "data": records})


VENUES: Mapping[str, Callable[[Sequence[Trade], str, Query], Body]] = {
    "binance": binance,
    "coinbase": coinbase,
    "kraken": kraken,
    "okx": okx,
}
UNKNOWN = {
    "binance": (400, b'{"code":-1121,"msg":"Invalid symbol."}'),
    "coinbase": (404, b'{"message":"NotFound"}'),
}


@dataclass
class Answers:
    """A REST server of made-up trades: *faults* are answered first, *spoil* may change a body."""

    venue: str
    trades: Sequence[Trade] = ()
    faults: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    spoil: Callable[[bytes], bytes] = lambda body: body
    files: dict[str, list[bytes]] = field(default_factory=dict)
    """By path, the bodies that are answered in turn; the last one stays."""
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    url: str = ""

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body."""
        self.requests.append((path, query))
        if self.faults:
            return self.faults.pop(0)
        if self.files:
            bodies = self.files.get(path, [])
            return (
                (200, {}, bodies.pop(0) if len(bodies) > 1 else bodies[0]) if bodies else (404, {}, b"no key")
            )
        body = VENUES[self.venue](self.trades, path, query)
        if body is None:
            status, words = UNKNOWN[self.venue]
            return status, {}, words
        return 200, {"x-mbx-used-weight-1m": "7"}, self.spoil(body)


@contextmanager
def serving(answers: Answers) -> Iterator[str]:
    """Serve *answers* on this machine, and yield the URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 20  # an answer in one piece, so that nothing waits for an acknowledgement

        def do_GET(self) -> None:
            asked = urlsplit(self.path)
            answers.headers.append(dict(self.headers))
            status, headers, body = answers.answer(asked.path, dict(parse_qsl(asked.query)))
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        answers.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield answers.url
        finally:
            server.shutdown()
            thread.join()


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _iso(time_us: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)).strftime(
        "%Y-%m-%dT%H:%M:%S.%fZ"
    )


def _us(text: str) -> int:
    return (datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
