"""Ask CoinGecko for the daily history of a coin."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from cryptolake.clock import Clock
from cryptolake.errors import OperatorError, PlanLimitError, SourceRefusedError
from cryptolake.sources.coingecko import wire
from cryptolake.sources.http import Patience, PoliteClient, Vendor
from cryptolake.sources.records import MarketChart

PRO_HOST = "pro-api.coingecko.com"

_DAILY = {"vs_currency": "usd", "interval": "daily", "precision": "full"}

# Codes: https://docs.coingecko.com/docs/common-errors-rate-limit
_PLAN_REACH = 10012
_CODE_ADVICE = {
    10002: "it wants an API key: set sources.coingecko.api_key",
    10005: "the plan of this key does not include the request: see https://www.coingecko.com/en/api/pricing",
    10010: "key and host do not belong together: a paid key goes with "
    f"https://{PRO_HOST}/api/v3 as sources.coingecko.base_url, a demo key with https://api.coingecko.com/api/v3",
}
_CODE_ADVICE[10011] = _CODE_ADVICE[10010]

_NOTHING_THERE = "nothing is served there; check sources.coingecko.base_url, it ends in /api/v3"
_STATUS_ADVICE = {
    401: "it does not accept the API key; check sources.coingecko.api_key",
    403: "it blocks this address or key; wait a while, or set sources.coingecko.api_key",
    **dict.fromkeys((301, 302, 303, 307, 308, 404), _NOTHING_THERE),
}
_OTHER_ADVICE = "it does not understand the request; check the settings, and report this if they are right"
_COIN_ADVICE = "there is no such coin; see https://api.coingecko.com/api/v3/coins/list for ids and fix `coins` in the settings"


@dataclass(frozen=True)
class CoinGecko:
    """
    CoinGecko's public API, polite and patient.

    Every answer is in USD, one point a day, with all the digits that the vendor has; its last point
    is an intraday one of the moment of asking.
    """

    client: PoliteClient

    @classmethod
    @contextmanager
    def open(
        cls,
        base_url: str,
        api_key: str | None,
        requests_per_minute: int | None,
        clock: Clock,
        rng: random.Random,
        patience: Patience | None = None,
    ) -> Iterator[CoinGecko]:
        """
        Open a connection to the API at *base_url* (up to and with `/api/v3`).

        *requests_per_minute* None means no limit; *rng* jitters the waits between attempts.

        Raises:
            ConfigError: if the URL or the key can never be used.

        """
        is_paid = base_url.removeprefix("https://").startswith(PRO_HOST)
        key_header = "x-cg-pro-api-key" if is_paid else "x-cg-demo-api-key"
        vendor = Vendor(wire.SOURCE, base_url, refusal, key_header, api_key)
        with PoliteClient.open(
            vendor, requests_per_minute=requests_per_minute, clock=clock, rng=rng, patience=patience
        ) as client:
            yield cls(client)

    def market_chart(self, coin_id: str, *, days: int | None) -> MarketChart:
        """
        Return the last *days* days of a coin; None asks for all there are.

        Raises:
            PlanLimitError: if the plan does not reach back that far.
            SourceRefusedError: if the vendor says no for another reason, such as an unknown coin.
            SourceDownError: if it did not answer, for all our patience.

        """
        return self._chart(coin_id, "market_chart", {"days": "max" if days is None else days})

    def market_chart_range(self, coin_id: str, start: datetime, end: datetime) -> MarketChart:
        """
        Return a coin's days from *start* to *end*, both included; raises what `market_chart` raises.

        The vendor counts in whole seconds: *end* is rounded up, so that "now" includes now.
        """
        span = {"from": math.floor(start.timestamp()), "to": math.ceil(end.timestamp())}
        return self._chart(coin_id, "market_chart/range", span)

    def _chart(self, coin_id: str, resource: str, query: Mapping[str, str | int]) -> MarketChart:
        def parse(body: bytes, received_at_ms: int) -> MarketChart:
            return wire.market_chart(body, coin_id=coin_id, received_at_ms=received_at_ms)

        return self.client.get(f"/coins/{quote(coin_id, safe='')}/{resource}", {**_DAILY, **query}, parse)


def refusal(status: int, path: str, body: bytes) -> OperatorError:
    """Turn CoinGecko's "no" into the error that says what to do about it."""
    said = wire.vendor_error(body)
    code = f", code {said.code}" if said.code else ""
    quoted = f" (HTTP {status}{code}: {said.message or 'no reason given'})"
    if said.code == _PLAN_REACH:
        return PlanLimitError(
            f"coingecko refuses {path}: its plan does not reach back that far; ask for the last 365 days, "
            f"or set sources.coingecko.api_key to the key of a plan that does{quoted}"
        )
    advice = _CODE_ADVICE.get(said.code or 0) or _STATUS_ADVICE.get(status, _OTHER_ADVICE)
    if "coin not found" in said.message.lower():
        advice = _COIN_ADVICE
    return SourceRefusedError(f"coingecko refuses {path}: {advice}{quoted}")
