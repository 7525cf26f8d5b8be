"""
CoinGecko's answers, byte by byte: pure functions, no clock, no socket.

Wire format: https://docs.coingecko.com/reference/coins-id-market-chart
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import msgspec

from cryptolake.errors import BadRecordError
from cryptolake.sources.json_slices import Slice, array_slices
from cryptolake.sources.records import MarketChart, Observation, VendorError

SOURCE = "coingecko"

EARLIEST_MS = 1_230_940_800_000  # 2009-01-03, the first bitcoin block: anything before is not in milliseconds
CLOCK_SKEW_MS = 10 * 60 * 1000  # a vendor's clock may be ahead of ours by so much

_MESSAGE_LENGTH = 300


class _Body(msgspec.Struct):
    prices: list[tuple[int, float]]
    market_caps: list[tuple[int, float | None]]
    total_volumes: list[tuple[int, float | None]]


_CLEAN = msgspec.json.Decoder(_Body)


def market_chart(body: bytes, *, coin_id: str, received_at_ms: int) -> MarketChart:
    """
    Parse an answer of `market_chart` or `market_chart/range`.

    The three arrays are joined by timestamp: a price without its market cap has none. Of points
    with the same timestamp the last counts. A point that cannot be trusted becomes a reject with
    its own bytes; the others go on. A market cap or volume of a rejected price goes with it.

    Raises:
        BadRecordError: if the body as a whole is no such answer (HTML, truncated, another shape).

    >>> body = b'{"prices":[[1698192000000,33901]],"market_caps":[],"total_volumes":[[1698192000000,null]]}'
    >>> market_chart(body, coin_id="bitcoin", received_at_ms=1698192000000).observations
    [Observation(timestamp_ms=1698192000000, price_usd=33901.0, market_cap_usd=None, volume_24h_usd=None)]

    """
    newest_ms = received_at_ms + CLOCK_SKEW_MS
    observations = _clean(body, newest_ms)
    rejects: list[BadRecordError] = []
    if observations is None:
        observations, rejects = _sift(body, newest_ms)
    return MarketChart(coin_id, received_at_ms, observations, rejects)


def vendor_error(body: bytes) -> VendorError:
    """
    Return what an error body says, whichever of CoinGecko's shapes it has.

    >>> vendor_error(b'{"error":{"status":{"error_code":10012,"error_message":"Too far back."}}}')
    VendorError(code=10012, message='Too far back.')
    >>> vendor_error(b'{"error":"coin not found"}')
    VendorError(code=None, message='coin not found')

    """
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return VendorError(None, "")
    if isinstance(found, dict) and isinstance(found.get("error"), dict):
        found = found["error"]
    if isinstance(found, dict) and isinstance(found.get("status"), dict):
        found = found["status"]
    if not isinstance(found, dict):
        return VendorError(None, "")
    code = found.get("error_code")
    words = found.get("error_message") or found.get("error") or found.get("message") or ""
    return VendorError(code if isinstance(code, int) else None, str(words)[:_MESSAGE_LENGTH])


def _clean(body: bytes, newest_ms: int) -> list[Observation] | None:
    """Return the observations of a body without any oddity, None for every other."""
    try:
        chart = _CLEAN.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    times = [time for time, _ in chart.prices]
    if not times:
        return [] if not chart.market_caps and not chart.total_volumes else None
    extras = chart.market_caps, chart.total_volumes
    is_clean = (
        times[0] >= EARLIEST_MS
        and times[-1] <= newest_ms
        and all(before < after for before, after in pairwise(times))
        and all(price > 0 for _, price in chart.prices)
        and all([time for time, _ in extra] == times for extra in extras)
        and all(value is None or value >= 0 for extra in extras for _, value in extra)
    )
    if not is_clean:
        return None
    rows = zip(chart.prices, *extras, strict=True)
    return [Observation(time, price, cap, volume) for (time, price), (_, cap), (_, volume) in rows]


def _sift(body: bytes, newest_ms: int) -> tuple[list[Observation], list[BadRecordError]]:
    """Take a body apart point by point: what can be trusted, and what cannot."""
    try:
        arrays = array_slices(body, "prices", "market_caps", "total_volumes")
    except ValueError as nonsense:
        raise BadRecordError(SOURCE, f"the answer is no market chart: {nonsense}", body) from nonsense
    rejects: list[BadRecordError] = []
    prices: dict[int, float] = {}
    priced: set[int] = set()
    for point in arrays["prices"]:
        try:
            time = _timestamp_ms(point.value)
            priced.add(time)
            prices[_in_range(time, newest_ms)] = _positive(point.value[1])
        except ValueError as reason:
            rejects.append(_reject(point, str(reason)))
    caps = _beside(arrays["market_caps"], "market cap", prices, priced, rejects)
    volumes = _beside(arrays["total_volumes"], "volume", prices, priced, rejects)
    observations = [
        Observation(time, price, caps.get(time), volumes.get(time)) for time, price in sorted(prices.items())
    ]
    return observations, rejects


def _beside(
    points: list[Slice],
    label: str,
    prices: dict[int, float],
    priced: set[int],
    rejects: list[BadRecordError],
) -> dict[int, float | None]:
    """Return the values that stand beside a price; those beside a rejected price go with it."""
    values: dict[int, float | None] = {}
    for point in points:
        try:
            time = _timestamp_ms(point.value)
            if time in prices:
                values[time] = _not_negative(point.value[1], label)
            elif time not in priced:
                rejects.append(_reject(point, f"{label} has no price"))
        except ValueError as reason:
            rejects.append(_reject(point, str(reason)))
    return values


def _reject(point: Slice, reason: str) -> BadRecordError:
    return BadRecordError(SOURCE, reason, point.text.encode())


def _timestamp_ms(point: Any) -> int:
    if not isinstance(point, list) or len(point) != 2:  # noqa: PLR2004  # [timestamp, value]
        raise ValueError("point is not a pair of timestamp and value")
    time = point[0]
    if isinstance(time, bool) or not isinstance(time, int | float) or not math.isfinite(time):
        raise ValueError("timestamp is unreadable")
    return int(time)


def _in_range(time: int, newest_ms: int) -> int:
    if time < EARLIEST_MS:
        raise ValueError("timestamp is before 2009-01-03")
    if time > newest_ms:
        raise ValueError("timestamp is in the future")
    return time


def _number(value: Any, label: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{label} is not a number")  # a reason, not a wrong argument
    if not math.isfinite(value):
        raise ValueError(f"{label} is not finite")
    return float(value)


def _positive(price: Any) -> float:
    if price is None:
        raise ValueError("price is null")
    number = _number(price, "price")
    if number <= 0:
        raise ValueError("price is zero" if number == 0 else "price is negative")
    return number


def _not_negative(value: Any, label: str) -> float | None:
    if value is None:
        return None
    number = _number(value, label)
    if number < 0:
        raise ValueError(f"{label} is negative")
    return number
