"""
One polite HTTP client for every vendor: it asks slowly, waits when told to, and gives up in the end.

All waiting goes through the clock, so a test with a fake clock never waits.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TypeVar

import httpx2
import structlog
import tenacity

from cryptolake.clock import Clock
from cryptolake.errors import (
    BadRecordError,
    ConfigError,
    OperatorError,
    SourceDownError,
    SourceRefusedError,
    TransientError,
)

T = TypeVar("T")
Parse = Callable[[bytes, int], T]
Refusal = Callable[[int, str, bytes], OperatorError]

MINUTE_SECONDS = 60.0

_OK = 200
_SLOW_DOWN = 429
_FIRST_SERVER_ERROR = 500
_ASK_AGAIN = frozenset({202, 204, 408, 425, _SLOW_DOWN})
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Patience:
    """
    How long one request is worth waiting for.

    At most *attempts* requests, and *waiting_seconds* between them in all. Without the vendor's own
    word the wait before attempt n + 1 is drawn from 0 to min(*longest*, *first* x 2^(n - 1)) seconds:
    exponential backoff with full jitter.
    """

    attempts: int = 6
    waiting_seconds: float = 300.0
    first_seconds: float = 1.0
    longest_seconds: float = 60.0
    connect_seconds: float = 10.0
    answer_seconds: float = 30.0


class TokenBucket:
    """
    Hands out *per_minute* tokens; each comes back a minute after it was taken.

    So no minute, wherever it begins, sees more requests than that. None: no limit.
    """

    def __init__(self, per_minute: int | None, clock: Clock) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._taken: deque[float] = deque()

    def take(self) -> float:
        """Take a token, waiting until there is one; return the seconds waited."""
        if self._per_minute is None:
            return 0.0
        waited = 0.0
        if len(self._taken) >= self._per_minute:
            waited = max(0.0, self._taken.popleft() + MINUTE_SECONDS - self._clock.monotonic())
            if waited:
                self._clock.sleep(waited)
        self._taken.append(self._clock.monotonic())
        return waited


@dataclass(frozen=True)
class Vendor:
    """
    Who is asked: its *name*, the URL its paths begin at, and what its "no" means.

    *refusal* turns a status, a path and a body into an error that says what to do. *secret* goes
    into the header *key_header*, and is struck from everything that the vendor says.
    """

    name: str
    base_url: str
    refusal: Refusal
    key_header: str = ""
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class PoliteClient:
    """Asks one vendor, in one thread: never faster than its limit, again while that makes sense."""

    vendor: Vendor
    http: httpx2.Client
    bucket: TokenBucket
    clock: Clock
    rng: random.Random
    patience: Patience

    @classmethod
    @contextmanager
    def open(
        cls,
        vendor: Vendor,
        *,
        requests_per_minute: int | None,
        clock: Clock,
        rng: random.Random,
        patience: Patience | None = None,
    ) -> Iterator[PoliteClient]:
        """
        Open a pool of connections to *vendor*.

        Raises:
            ConfigError: if its URL or secret can never be used.

        """
        patience = patience or Patience()
        url = _checked_url(vendor)
        http = httpx2.Client(
            base_url=url,
            headers=_headers(vendor),
            timeout=httpx2.Timeout(patience.answer_seconds, connect=patience.connect_seconds),
            # A proxy of the environment must not swallow requests to this machine.
            trust_env=url.host not in _LOOPBACK,
            verify=url.scheme == "https",  # reading the certificates of the system takes a while
        )
        with http:
            yield cls(vendor, http, TokenBucket(requests_per_minute, clock), clock, rng, patience)

    def get(self, path: str, query: Mapping[str, str | int], parse: Parse[T]) -> T:
        """
        Return the parsed answer to GET *path*; *parse* is given the body and when it came (unix ms).

        Raises:
            SourceDownError: if every attempt failed, or the vendor asks for more patience than we have.
            SourceRefusedError: if the vendor says no, or whatever *refusal* makes of that.

        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(TransientError),
            wait=self._wait_seconds,
            stop=self._is_hopeless,
            sleep=self.clock.sleep,
            before_sleep=lambda state: self._log_retry(state, path),
            retry_error_callback=self._give_up,
        )
        return retrying(self._attempt, path, query, parse)

    def _attempt(self, path: str, query: Mapping[str, str | int], parse: Parse[T]) -> T:
        waited = self.bucket.take()
        if waited:
            log.debug("source.paced", source=self.vendor.name, path=path, waited_seconds=round(waited, 1))
        response = self._send(path, query)
        received_at = self.clock.now()
        where = f"{self.vendor.name} ({self.http.base_url.host}{path})"
        if response.status_code == _OK:
            try:
                return parse(response.content, int(received_at.timestamp() * 1000))
            except BadRecordError as nonsense:
                raise SourceDownError(f"{where} answered nonsense: {nonsense.reason}") from nonsense
        if response.status_code in _ASK_AGAIN or response.status_code >= _FIRST_SERVER_ERROR:
            after = retry_after_seconds(response.headers, received_at)
            asks = "asks to slow down" if response.status_code == _SLOW_DOWN else "failed"
            raise SourceDownError(f"{where} {asks}: HTTP {response.status_code}", after=after)
        raise self.vendor.refusal(response.status_code, path, self._without_secret(response.content))

    def _send(self, path: str, query: Mapping[str, str | int]) -> httpx2.Response:
        where = f"{self.vendor.name} ({self.http.base_url.host}{path})"
        try:
            return self.http.get(path, params=query)
        except (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError) as wrong:
            raise SourceRefusedError(f"{where} cannot be asked: fix its base_url in the settings") from wrong
        except httpx2.TimeoutException as late:
            raise SourceDownError(f"{where} did not answer in time") from late
        except httpx2.ConnectError as unreachable:
            raise SourceDownError(
                f"{where} cannot be reached: check the network and its base_url in the settings"
            ) from unreachable
        except httpx2.RequestError as broken:
            raise SourceDownError(f"{where} broke off its answer ({type(broken).__name__})") from broken

    def _without_secret(self, body: bytes) -> bytes:
        secret = self.vendor.secret
        return body.replace(secret.encode(), b"[secret]") if secret else body

    def _wait_seconds(self, state: tenacity.RetryCallState) -> float:
        failure = _failure(state)
        if failure.after is not None:
            return failure.after + self.rng.random()
        ceiling = self.patience.first_seconds * 2 ** (state.attempt_number - 1)
        return self.rng.uniform(0, min(self.patience.longest_seconds, ceiling))

    def _is_hopeless(self, state: tenacity.RetryCallState) -> bool:
        total = state.idle_for + state.upcoming_sleep
        return state.attempt_number >= self.patience.attempts or total > self.patience.waiting_seconds

    def _log_retry(self, state: tenacity.RetryCallState, path: str) -> None:
        log.warning(
            "source.retry",
            source=self.vendor.name,
            path=path,
            attempt=state.attempt_number,
            reason=str(_failure(state)),
            wait_seconds=round(state.upcoming_sleep, 1),
        )

    def _give_up(self, state: tenacity.RetryCallState) -> None:
        failure = _failure(state)
        tried = f"{state.attempt_number} attempt{'s' if state.attempt_number > 1 else ''}"
        asked = f", it asks to wait {failure.after:.0f} s" if failure.after is not None else ""
        raise SourceDownError(
            f"{failure}; gave up after {tried} and {state.idle_for:.0f} s of waiting{asked}; run again later",
            after=failure.after,
        ) from failure


def retry_after_seconds(headers: Mapping[str, str], now: datetime) -> float | None:
    """
    Return the seconds that a Retry-After header asks for, None without a readable one.

    A date is measured from the answer's own Date header, and from *now* only where that is missing:
    the vendor's two dates come from one clock, ours may stand still (`--as-of`).

    >>> retry_after_seconds({"retry-after": "119"}, datetime(2022, 1, 1, tzinfo=UTC))
    119.0

    """
    asked = headers.get("retry-after", "").strip()
    if asked.isdecimal():
        return float(asked)
    until = _http_date(asked)
    if until is None:
        return None
    since = _http_date(headers.get("date", "")) or now
    return max(0.0, (until - since).total_seconds())


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _failure(state: tenacity.RetryCallState) -> TransientError:
    failure = state.outcome.exception() if state.outcome else None
    if not isinstance(failure, TransientError):
        raise TypeError(f"retried without a transient failure: {failure!r}")
    return failure


def _headers(vendor: Vendor) -> dict[str, str]:
    try:
        agent = f"cryptolake/{version('cryptolake')}"
    except PackageNotFoundError:
        agent = "cryptolake"
    headers = {"user-agent": agent, "accept": "application/json"}
    secret = vendor.secret
    if secret is None:
        return headers
    if not (secret.isascii() and secret.isprintable() and secret and secret.strip() == secret):
        raise ConfigError(
            f"the API key for {vendor.name} is empty, or holds blanks or letters that no header may hold: "
            "copy it again"
        )
    return headers | {vendor.key_header: secret}


def _checked_url(vendor: Vendor) -> httpx2.URL:
    try:
        url = httpx2.URL(vendor.base_url)
    except httpx2.InvalidURL as wrong:
        raise ConfigError(f"the base_url of {vendor.name} is not a URL: {wrong}") from wrong
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigError(
            f"the base_url of {vendor.name} must begin with https:// or http:// and name a host"
        )
    return url
