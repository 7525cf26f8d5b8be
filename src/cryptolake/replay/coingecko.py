"""
CoinGecko's side of the protocol, answered from recordings: pure functions of the request.

Recorded are days, so every answer is daily, whether it was asked with `interval=daily` or not.
Like the vendor's, an answer that reaches up to now ends with an intraday point: the recorded one
where the recording has it, else the newest recorded observation once more, stamped with now.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import unquote

from cryptolake.replay.answers import Answer, Request
from cryptolake.replay.recordings import DAY_MS, Recordings, Series

ROOT = "/api/v3"

RATE_LIMIT_MESSAGE = (
    "You've exceeded the Rate Limit. Please visit https://www.coingecko.com/en/api/pricing "
    "to subscribe to our API plans for higher rate limits."
)
PLAN_LIMIT_MESSAGE = (
    "Your request exceeds the allowed time range. Public API users are limited to querying historical data "
    "within the past 365 days. Upgrade to a paid plan to enjoy full historical data access: "
    "https://www.coingecko.com/en/api/pricing."
)

_CHART = re.compile(rf"{ROOT}/coins/(?P<coin>[^/]+)/market_chart(?P<range>/range)?")


@dataclass(frozen=True)
class Span:
    """The instants asked for, both included, in unix milliseconds."""

    first_ms: float
    last_ms: float


def answer(
    request: Request, recordings: Recordings, as_of: datetime, history_days: int | None = None
) -> Answer | None:
    """
    Return what CoinGecko answers at *as_of*, None for a path that is not CoinGecko's.

    *history_days* is how far back the plan reaches (None: without limit).
    """
    if not request.path.startswith(f"{ROOT}/"):
        return None
    if request.path == f"{ROOT}/ping":
        return Answer.json({"gecko_says": "(V3) To the Moon!"})
    asked = _CHART.fullmatch(request.path)
    if asked is None:
        return Answer.json({"error": "Incorrect path. Please check https://www.coingecko.com/api/"}, 404)
    span = _span(request, as_of, is_range=asked["range"] is not None)
    if isinstance(span, Answer):
        return span
    return _chart_answer(recordings.coins.get(unquote(asked["coin"])), span, as_of, history_days)


def _chart_answer(series: Series | None, span: Span, as_of: datetime, history_days: int | None) -> Answer:
    if series is None:
        return Answer.json({"error": "coin not found"}, 404)
    now_ms = _milliseconds(as_of)
    # A range counts in whole seconds, so the reach does too.
    if history_days is not None and span.first_ms < now_ms - now_ms % 1000 - history_days * DAY_MS:
        return plan_limit(as_of)
    return Answer.json(_chart(served(series, span, now_ms)))


def served(series: Series, span: Span, now_ms: int) -> Series:
    """Return the points of *span* that the vendor knows at *now_ms*, with the intraday one at the end."""
    known = series.between(0, now_ms)
    if span.last_ms < now_ms:
        return known.between(span.first_ms, span.last_ms)
    if len(known) and not known.ends_intraday() and known.timestamps_ms[-1] < now_ms:
        known = known.repeated_at(now_ms)
    return known.between(span.first_ms, now_ms)


def rate_limit(after_seconds: int) -> Answer:
    """Return the answer to one request too many, which may be asked again *after_seconds*."""
    status = {"error_code": 429, "error_message": RATE_LIMIT_MESSAGE}
    return Answer.json({"status": status}, 429, retry_after=str(after_seconds))


def plan_limit(as_of: datetime) -> Answer:
    """Return the answer to a request that reaches back further than the plan."""
    said_at = as_of.isoformat(timespec="milliseconds")
    status = {"timestamp": said_at, "error_code": 10012, "error_message": PLAN_LIMIT_MESSAGE}
    return Answer.json({"error": {"status": status}}, 401)


def _span(request: Request, as_of: datetime, *, is_range: bool) -> Span | Answer:
    """Return the instants that the request asks for, or the answer to a wrong request."""
    for name in ("vs_currency", "from", "to") if is_range else ("vs_currency", "days"):
        if not request.query.get(name):
            return Answer.json({"error": f"Missing parameter {name}"}, 422)
    if request.query["vs_currency"].lower() != "usd":
        return Answer.json({"error": "invalid vs_currency"}, 422)
    now_ms = _milliseconds(as_of)
    try:
        if is_range:
            return Span(float(request.query["from"]) * 1000, float(request.query["to"]) * 1000)
        days = request.query["days"]
        return Span(float("-inf") if days == "max" else now_ms - float(days) * DAY_MS, now_ms)
    except ValueError:
        return Answer.json({"error": "invalid time range"}, 422)


def _chart(series: Series) -> dict[str, list[tuple[int, float | None]]]:
    times = series.timestamps_ms
    return {
        "prices": list(zip(times, series.prices, strict=True)),
        "market_caps": list(zip(times, series.market_caps, strict=True)),
        "total_volumes": list(zip(times, series.volumes, strict=True)),
    }


def _milliseconds(moment: datetime) -> int:
    return (moment - datetime.fromtimestamp(0, moment.tzinfo)) // timedelta(milliseconds=1)
