"""Ask Alternative.me for the Crypto Fear & Greed Index."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cryptolake.clock import Clock
from cryptolake.errors import OperatorError, SourceRefusedError
from cryptolake.sources.alternative_me import wire
from cryptolake.sources.http import Patience, PoliteClient, Vendor
from cryptolake.sources.records import IndexHistory


@dataclass(frozen=True)
class AlternativeMe:
    """Alternative.me's public API, polite and patient; it needs no key."""

    client: PoliteClient

    @classmethod
    @contextmanager
    def open(
        cls,
        base_url: str,
        requests_per_minute: int | None,
        clock: Clock,
        rng: random.Random,
        patience: Patience | None = None,
    ) -> Iterator[AlternativeMe]:
        """
        Open a connection to the API whose root is *base_url*.

        *requests_per_minute* None means no limit; *rng* jitters the waits between attempts.

        Raises:
            ConfigError: if the URL can never be used.

        """
        vendor = Vendor(wire.SOURCE, base_url, refusal)
        with PoliteClient.open(
            vendor, requests_per_minute=requests_per_minute, clock=clock, rng=rng, patience=patience
        ) as client:
            yield cls(client)

    def fng(self, limit: int) -> IndexHistory:
        """
        Return the index of the newest *limit* days; 0 asks for all there are.

        Raises:
            SourceRefusedError: if the vendor says no.
            SourceDownError: if it did not answer, for all our patience.

        """
        return self.client.get("/fng/", {"limit": limit, "format": "json"}, _parse)


def refusal(status: int, path: str, body: bytes) -> OperatorError:
    """Turn Alternative.me's "no" into the error that says what to do about it."""
    said = wire.vendor_error(body).message or "no reason given"
    advice = "check sources.alternative_me.base_url, and wait a while if it is right"
    return SourceRefusedError(f"alternative.me refuses {path}: {advice} (HTTP {status}: {said})")


def _parse(body: bytes, received_at_ms: int) -> IndexHistory:
    return wire.fng(body, received_at_ms=received_at_ms)
