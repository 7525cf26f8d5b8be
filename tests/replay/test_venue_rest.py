"""Each venue's REST and Binance's archive: pages and their edges, heads, bars, errors in the venue's words."""

from __future__ import annotations

import csv
import hashlib
import io
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from cryptolake.replay.venues.binance_archive import ArchiveStyle
from cryptolake.replay.venues.generated import generate
from cryptolake.replay.venues.server import VenueServer
from cryptolake.replay.venues.tape import Tape
from tests.replay.clients import get

MADE = generate(8_000, seed=11, trades_per_second=40, absent=0.02)
BITCOIN = {"binance": "BTCUSDT", "coinbase": "BTC-USD", "kraken": "BTC/USD", "okx": "BTC-USDT"}
TRADES = {
    venue: (track := next(t for t in MADE.of(venue) if t.symbol == symbol)).trades(0, len(track))
    for venue, symbol in BITCOIN.items()
}
OVERNIGHT = generate(
    4_000,
    seed=12,
    instruments={"binance": ["BTCUSDT"]},
    starts_at=datetime(2025, 1, 1, tzinfo=UTC) - timedelta(seconds=200),
    trades_per_second=10,
)


@pytest.fixture(scope="module")
def server() -> Iterator[VenueServer]:
    with VenueServer.open(MADE) as running:
        assert running.finished.wait(10)
        yield running


def ids(page: list[dict], name: str) -> list[int]:
    return [int(trade[name]) for trade in page]


def test_binance_pages_from_an_id_inclusive(server: VenueServer):
    """`fromId` is the first id of the page, also where it lies before all or after all; the newest without it."""
    known = [trade.trade_id for trade in TRADES["binance"]]
    ask = lambda **query: ids(  # noqa: E731
        get(server, "/api/v3/historicalTrades", symbol="BTCUSDT", **query).json(), "id"
    )
    assert ask(fromId=known[10], limit=3) == known[10:13]
    assert ask(fromId=known[-2], limit=1000) == known[-2:]
    assert ask(fromId=known[-1] + 1) == []
    assert ask(fromId=0, limit=2) == known[:2]
    assert ask() == known[-500:]
    assert ask(fromId=known[0], limit=9999) == known[:1000]


def test_a_binance_trade_is_printed_as_the_venue_does(server: VenueServer):
    """Decimals are strings of eight places, times are milliseconds unless the header asks for microseconds."""
    trade = TRADES["binance"][7]
    query = {"symbol": "BTCUSDT", "fromId": trade.trade_id, "limit": 1}
    told = get(server, "/api/v3/historicalTrades", **query).json()[0]
    worth = Decimal(trade.price) * Decimal(trade.quantity)
    assert told == {
        "id": trade.trade_id,
        "price": trade.price,
        "qty": trade.quantity,
        "quoteQty": f"{worth:.16f}"[:-8],
        "time": trade.traded_at_us // 1000,
        "isBuyerMaker": trade.is_buyer_maker,
        "isBestMatch": True,
    }
    exact = get(server, "/api/v3/historicalTrades", {"X-MBX-TIME-UNIT": "MICROSECOND"}, **query).json()[0]
    assert exact["time"] == trade.traded_at_us


def test_binance_finds_the_first_id_of_an_instant_by_its_aggregates(server: VenueServer):
    """`aggTrades` from an instant begins with the first trade at or after it."""
    trade = TRADES["binance"][900]
    first = next(t for t in TRADES["binance"] if t.traded_at_us >= trade.traded_at_us)
    query = {"symbol": "BTCUSDT", "startTime": trade.traded_at_us, "limit": 1}
    told = get(server, "/api/v3/aggTrades", **query).json()[0]
    assert (told["f"], told["l"], told["q"]) == (first.trade_id, first.trade_id, first.quantity)
    again = get(server, "/api/v3/aggTrades", symbol="BTCUSDT", fromId=told["a"], limit=1).json()
    assert again == [told]


def test_binance_tells_the_ids_of_a_day_of_one_of_some_and_of_all(server: VenueServer):
    """The ticker has the first and the last id and their count; it is how heads are audited."""
    trades = TRADES["binance"]
    one = get(server, "/api/v3/ticker/24hr", symbol="BTCUSDT").json()
    assert (one["firstId"], one["lastId"], one["count"]) == (
        trades[0].trade_id,
        trades[-1].trade_id,
        len(trades),
    )
    assert get(server, "/api/v3/ticker/24hr", symbols='["BTCUSDT"]').json() == [one]
    every = get(server, "/api/v3/ticker/24hr").json()
    assert [ticker["symbol"] for ticker in every] == ["BTCUSDT", "ETHUSDT"]


def test_what_is_not_published_is_not_known():
    """REST and heads only know trades that are published."""
    with VenueServer.open(MADE, waits_for=None) as held:
        assert get(held, "/api/v3/ticker/24hr", symbol="BTCUSDT").json()["lastId"] == -1
        assert get(held, "/api/v3/historicalTrades", symbol="BTCUSDT").json() == []
        assert get(held, "/products/BTC-USD/trades").json() == []
        assert get(held, "/0/public/Trades", pair="XBTUSD").json()["result"]["XXBTZUSD"] == []
        assert get(held, "/api/v5/market/history-trades", instId="BTC-USDT").json()["data"] == []
        held.publish(40, "okx")
        held.publish(60, "binance")
        count = len(held.published("binance", "BTCUSDT"))
        last = get(held, "/api/v3/ticker/24hr", symbol="BTCUSDT").json()["lastId"]
        assert last == TRADES["binance"][count - 1].trade_id
        told = get(held, "/api/v5/market/trades", instId="BTC-USDT").json()["data"]
        newest = TRADES["okx"][len(held.published("okx", "BTC-USDT")) - 1].trade_id
        assert ids(told, "tradeId")[0] == newest


def test_the_weight_of_requests_is_counted_in_the_headers():
    """Each answer says what was used in the minute; heads of all symbols cost 80, a page of trades 25."""
    with VenueServer.open(MADE) as counting:
        used = [
            get(counting, path, symbol="BTCUSDT").headers["x-mbx-used-weight-1m"]
            for path in ("/api/v3/historicalTrades", "/api/v3/aggTrades")
        ]
        used.append(get(counting, "/api/v3/ticker/24hr").headers["x-mbx-used-weight-1m"])
        assert used == ["25", "29", "109"]
        assert [request.path for request in counting.requests][-1] == "/api/v3/ticker/24hr"


def test_a_client_that_does_not_heed_the_limit_is_banned():
    """Over the weight of a minute comes 429 with the seconds to wait; who asks on gets 418."""
    with VenueServer.open(MADE) as strict:
        strict.rest.weight_limit = 50
        answers = [get(strict, "/api/v3/historicalTrades", symbol="BTCUSDT") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 418]
    assert [int(float(answer.headers["retry-after"])) > 0 for answer in answers[2:]] == [True, True]
    assert answers[2].json()["code"] == -1003


@pytest.mark.parametrize(
    ("path", "query", "status", "said"),
    [
        ("/api/v3/historicalTrades", {"symbol": "NOPE"}, 400, {"code": -1121, "msg": "Invalid symbol."}),
        ("/products/NO-PE/trades", {}, 404, {"message": "NotFound"}),
        ("/0/public/Trades", {"pair": "NOPE"}, 200, {"error": ["EQuery:Unknown asset pair"]}),
    ],
)
def test_an_unknown_symbol_is_refused_in_the_venues_words(server, path, query, status, said):
    """Errors have the shape that each venue gives them."""
    answer = get(server, path, **query)
    assert (answer.status_code, answer.json()) == (status, said)


def test_okx_refuses_with_a_code(server: VenueServer):
    """OKX says 51001 for an unknown instrument and 50014 for none."""
    path = "/api/v5/market/history-trades"
    assert get(server, path, instId="NO-PE").json()["code"] == "51001"
    assert get(server, path).json()["code"] == "50014"
    assert get(server, "/api/v3/historicalTrades").json()["code"] == -1102
    assert get(server, "/elsewhere").status_code == 404


def test_coinbase_pages_backwards_from_an_id_exclusive(server: VenueServer):
    """`after` gives older trades, newest first; `before` the newest of the newer ones; headers have the cursors."""
    known = [trade.trade_id for trade in TRADES["coinbase"]]
    ask = lambda **query: get(server, "/products/BTC-USD/trades", **query)  # noqa: E731
    page = ask(after=known[20], limit=5)
    assert ids(page.json(), "trade_id") == known[15:20][::-1]
    assert (page.headers["cb-before"], page.headers["cb-after"]) == (str(known[19]), str(known[15]))
    assert ids(ask(before=known[-4]).json(), "trade_id") == known[-3:][::-1]
    assert ids(ask(before=known[10], after=known[14]).json(), "trade_id") == known[11:14][::-1]
    assert ids(ask(limit=5000).json(), "trade_id") == known[-1000:][::-1]
    assert ask(after=known[0]).json() == []
    told, trade = page.json()[0], TRADES["coinbase"][19]
    assert (told["price"], told["size"]) == (trade.price, trade.quantity)
    assert told["side"] == ("buy" if trade.is_buyer_maker else "sell")


def test_kraken_pages_forward_by_time(server: VenueServer):
    """`since` in nanoseconds gives what is later, oldest first, and `last` where to go on."""
    trades = TRADES["kraken"]
    since = trades[30].traded_at_us
    later = [trade for trade in trades if trade.traded_at_us > since]
    ask = lambda **query: get(server, "/0/public/Trades", pair="XBTUSD", **query).json()["result"]  # noqa: E731
    page = ask(since=since * 1000, count=4)
    assert [row[6] for row in page["XXBTZUSD"]] == [trade.trade_id for trade in later[:4]]
    assert page["last"] == str(later[3].traded_at_us * 1000)
    price, quantity, seconds, side, *_ = page["XXBTZUSD"][0]
    assert (Decimal(price), Decimal(quantity)) == (Decimal(later[0].price), Decimal(later[0].quantity))
    assert side == ("s" if later[0].is_buyer_maker else "b")
    assert round(seconds * 1e6) == later[0].traded_at_us
    assert [row[6] for row in ask()["XXBTZUSD"]] == [trade.trade_id for trade in trades[-1000:]]


@pytest.mark.parametrize("pair", ["BTC/USD", "XBT/USD", "XBTUSD", "BTCUSD", "XXBTZUSD"])
def test_kraken_knows_a_pair_under_all_its_names(server: VenueServer, pair: str):
    """The answer names it as Kraken always did, or as asked with assetVersion 1."""
    assert "XXBTZUSD" in get(server, "/0/public/Trades", pair=pair, count=1).json()["result"]
    modern = get(server, "/0/public/Trades", pair=pair, count=1, assetVersion=1).json()["result"]
    assert "BTC/USD" in modern


def test_okx_pages_backwards_by_id_and_by_time(server: VenueServer):
    """Type 1 pages by id, type 2 by milliseconds, both exclusive and newest first, at most 100."""
    trades = TRADES["okx"]
    known = [trade.trade_id for trade in trades]
    path = "/api/v5/market/history-trades"
    ask = lambda **query: ids(get(server, path, instId="BTC-USDT", **query).json()["data"], "tradeId")  # noqa: E731
    assert ask(after=known[50], limit=3) == known[47:50][::-1]
    assert ask(before=known[-3]) == known[-2:][::-1]
    assert ask(limit=500) == known[-100:][::-1]
    moment_ms = trades[300].traded_at_us // 1000
    earlier = [trade.trade_id for trade in trades if trade.traded_at_us // 1000 < moment_ms]
    assert ask(type=2, after=moment_ms, limit=7) == earlier[-7:][::-1]


def test_an_id_that_cannot_be_had_is_in_no_answer_and_on_no_page_between_its_neighbours():
    """It is lost for good: only the head says that there are ids up to it and beyond."""
    gone = TRADES["binance"][100].trade_id
    unavailable = {("binance", "BTCUSDT"): {gone}, ("okx", "BTC-USDT"): {TRADES["okx"][9].trade_id}}
    with VenueServer.open(MADE, unavailable=unavailable) as server:
        assert server.finished.wait(10)
        path, query = "/api/v3/historicalTrades", {"symbol": "BTCUSDT"}
        assert ids(get(server, path, fromId=gone - 3, **query).json(), "id") == [gone - 3, gone - 2, gone - 1]
        assert ids(get(server, path, fromId=gone, **query).json(), "id")[0] == gone + 1
        assert server.unavailable["binance", "BTCUSDT"] == {gone}
        okx = [trade.trade_id for trade in TRADES["okx"]]
        asked = get(server, "/api/v5/market/history-trades", instId="BTC-USDT", after=okx[12]).json()["data"]
        assert ids(asked, "tradeId") == [okx[11], okx[10]]
        assert len(server.published("binance", "BTCUSDT")) == len(TRADES["binance"])


def by_minute(venue: str) -> dict[int, list]:
    """Return the trades of each minute, computed here."""
    found: dict[int, list] = {}
    for trade in TRADES[venue]:
        found.setdefault(trade.traded_at_us // 60_000_000 * 60, []).append(trade)
    return found


def expected_bar(trades: list) -> tuple:
    prices = [Decimal(trade.price) for trade in trades]
    volume = sum(Decimal(trade.quantity) for trade in trades)
    return prices[0], max(prices), min(prices), prices[-1], volume


@pytest.mark.parametrize("venue", sorted(BITCOIN))
def test_a_venues_own_bars_are_true(server: VenueServer, venue: str):
    """Open, high, low, close and volume of each minute are those of its trades, in the venue's own order."""
    symbol = BITCOIN[venue]
    if venue == "binance":
        rows = get(server, "/api/v3/klines", symbol=symbol, interval="1m").json()
        bars = {row[0] // 1000: row[1:6] for row in rows}
    elif venue == "coinbase":
        start, end = min(by_minute(venue)), max(by_minute(venue))
        query = {"granularity": 60, "start": start, "end": end}
        rows = get(server, f"/products/{symbol}/candles", **query).json()
        bars = {row[0]: [row[3], row[2], row[1], row[4], row[5]] for row in rows}
    elif venue == "kraken":
        rows = get(server, "/0/public/OHLC", pair=symbol, interval=1).json()["result"]["XXBTZUSD"]
        bars = {row[0]: [*row[1:5], row[6]] for row in rows}
    else:
        rows = get(server, "/api/v5/market/history-candles", instId=symbol, bar="1m").json()["data"]
        bars = {int(row[0]) // 1000: row[1:6] for row in rows}
    told = {start: tuple(Decimal(str(value)) for value in bar) for start, bar in bars.items()}
    assert told == {start: expected_bar(trades) for start, trades in by_minute(venue).items()}


def archived(server: VenueServer, name: str, period: str = "daily", kind: str = "trades") -> list[list[str]]:
    """Return the rows of an archive file, after its checksum."""
    folder = f"BTCUSDT/{'1m/' if kind == 'klines' else ''}"
    path = f"/data/spot/{period}/{kind}/{folder}{name}.zip"
    body = get(server, path).content
    digest, _, named = get(server, f"{path}.CHECKSUM").text.strip().partition("  ")
    assert (digest, named) == (hashlib.sha256(body).hexdigest(), f"{name}.zip")
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.namelist() == [f"{name}.csv"]
        return list(csv.reader(io.StringIO(archive.read(f"{name}.csv").decode())))


def test_the_archive_has_a_day_once_it_is_over_by_the_venues_time():
    """The day and month that are over are there, milliseconds before 2025; the one that runs is not."""
    trades = OVERNIGHT.tracks[0].trades(0, len(OVERNIGHT))
    before = [t for t in trades if t.traded_at_us < 1_735_689_600_000_000]
    with VenueServer.open(OVERNIGHT, waits_for=None) as server:
        path = "/data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2024-12-31.zip"
        server.publish(len(before))
        assert get(server, path).status_code == 404
        server.publish(len(trades))
        rows = archived(server, "BTCUSDT-trades-2024-12-31")
        assert rows == archived(server, "BTCUSDT-trades-2024-12", "monthly")
        assert get(server, path.replace("2024-12-31", "2025-01-01")).status_code == 404
        bars = archived(server, "BTCUSDT-1m-2024-12-31", kind="klines")
    first = before[0]
    assert rows[0][:3] == [str(first.trade_id), first.price, first.quantity]
    assert rows[0][4:] == [str(first.traded_at_us // 1000), str(first.is_buyer_maker), "True"]
    assert [int(row[0]) for row in rows] == [trade.trade_id for trade in before]
    assert sum(int(bar[8]) for bar in bars) == len(before)


def test_the_archive_can_have_microseconds_a_header_and_wrong_checksums():
    """As many wrong checksums as asked for, for each file; then the right one."""
    style = ArchiveStyle(unit="us", has_header=True, wrong_checksums=1)
    with VenueServer.open(OVERNIGHT, archive=style) as server:
        assert server.finished.wait(10)
        with pytest.raises(AssertionError):
            archived(server, "BTCUSDT-trades-2024-12-31")
        header, first, *_ = archived(server, "BTCUSDT-trades-2024-12-31")
    assert header == ["id", "price", "qty", "quoteQty", "time", "isBuyerMaker", "isBestMatch"]
    assert first[4] == str(OVERNIGHT.tracks[0].trades(0, 1)[0].traded_at_us)


def test_a_day_of_which_something_cannot_be_had_has_no_file():
    """A whole file would prove that what it leaves out never existed."""
    gone = OVERNIGHT.tracks[0].ids[20]
    with VenueServer.open(OVERNIGHT, unavailable={("binance", "BTCUSDT"): {gone}}) as server:
        assert server.finished.wait(10)
        path = "/data/spot/daily/trades/BTCUSDT/BTCUSDT-trades-2024-12-31.zip"
        assert get(server, path).status_code == 404


def test_the_recorded_minutes_are_those_of_the_recorded_frames():
    """The bars of the recording count every recorded trade once."""
    with VenueServer.open(Tape.recorded()) as server:
        assert server.finished.wait(10)
        bars = get(server, "/api/v3/klines", symbol="BTCUSDT", interval="1m").json()
    assert len(bars) == 7
    assert sum(bar[8] for bar in bars) == 9757
