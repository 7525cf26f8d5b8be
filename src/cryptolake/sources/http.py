"""
One polite HTTP client for every vendor: it asks slowly, waits when told to, and gives up in the end.

All waiting goes through the clock, so a test with a fake clock never waits.
"""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from typing import IO, TypeVar

import httpx2
import structlog
import tenacity

from cryptolake.clock import Clock
from cryptolake.errors import (
    BadRecordError,
    ConfigError,
    NotPublishedError,
    OperatorError,
    SourceDownError,
    SourceRefusedError,
    TransientError,
)

T = TypeVar("T")
Parse = Callable[[bytes, int], T]
Refusal = Callable[[int, str, bytes], OperatorError | NotPublishedError]

MINUTE_SECONDS = 60.0

_OK = 200
_SLOW_DOWN = 429
_BANNED = 418  # Binance: requests went on after a 429
_FIRST_SERVER_ERROR = 500
_ASK_AGAIN = frozenset({202, 204, 408, _BANNED, 425, _SLOW_DOWN})
_CHUNK_BYTES = 1 << 20
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
    Hands out *tokens* in any *seconds*: each comes back that long after it was taken. None: no limit.

    So no such span of time, wherever it begins, sees more than that, but for a request that costs more
    than there ever are: it waits until all are back.
    """

    def __init__(self, tokens: int | None, clock: Clock, seconds: float = MINUTE_SECONDS) -> None:
        self._tokens = tokens
        self._clock = clock
        self._seconds = seconds
        self._taken: deque[tuple[float, int]] = deque()
        self._cost = 0

    def take(self, cost: int = 1) -> float:
        """Take *cost* tokens, waiting until there are as many; return the seconds waited."""
        if self._tokens is None:
            return 0.0
        waited = 0.0
        self._give_back(self._clock.monotonic())
        while self._taken and self._cost + cost > self._tokens:
            due = self._taken[0][0] + self._seconds
            if (wait := due - self._clock.monotonic()) > 0:
                self._clock.sleep(wait)
                waited += wait
            self._give_back(due)
        self._add(cost)
        return waited

    def reported(self, cost: int) -> None:
        """Take what the vendor has counted and we have not: others may ask from the same address."""
        if self._tokens is None:
            return
        self._give_back(self._clock.monotonic())
        if cost > self._cost:
            self._add(cost - self._cost)

    def _add(self, cost: int) -> None:
        self._taken.append((self._clock.monotonic(), cost))
        self._cost += cost

    def _give_back(self, now: float) -> None:
        while self._taken and self._taken[0][0] + self._seconds <= now:
            self._cost -= self._taken.popleft()[1]


@dataclass(frozen=True)
class Vendor:
    """
    Who is asked: its *name*, the URL its paths begin at, and what its "no" means.

    *refusal* turns a status, a path and a body into an error that says what to do. *secret* goes
    into the header *key_header*, and is struck from everything that the vendor says. *headers* go along with
    every request; in *usage_header* the vendor says what it has counted of this minute.
    """

    name: str
    base_url: str
    refusal: Refusal
    key_header: str = ""
    secret: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    usage_header: str = ""


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
        window_seconds: float = MINUTE_SECONDS,
    ) -> Iterator[PoliteClient]:
        """
        Open a pool of connections to *vendor*.

        The rate is kept in every span of *window_seconds*: 300 a minute in windows of one second are 5 in any second.

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
        tokens = requests_per_minute and max(1, int(requests_per_minute * window_seconds / MINUTE_SECONDS))
        with http:
            yield cls(vendor, http, TokenBucket(tokens, clock, window_seconds), clock, rng, patience)

    def get(self, path: str, query: Mapping[str, str | int], parse: Parse[T], *, weight: int = 1) -> T:
        """
        Return the parsed answer to GET *path*; *parse* is given the body and when it came (unix ms).

        The request costs *weight* of the rate. All waiting is done by the clock's `sleep`, and what that raises is raised.

        Raises:
            SourceDownError: if every attempt failed, or the vendor asks for more patience than we have.
            SourceRefusedError: if the vendor says no, or whatever *refusal* makes of that.

        """

        def attempt() -> T:
            self._pace(path, weight)
            response = self._answered(self._send(path, query), path)
            try:
                return parse(response.content, int(self.clock.now().timestamp() * 1000))
            except BadRecordError as nonsense:
                raise SourceDownError(
                    f"{self._where(path)} answered nonsense: {nonsense.reason}"
                ) from nonsense

        return self._patiently(path, attempt)

    def download(self, path: str, file: IO[bytes]) -> str:
        """
        Write the answer to GET *path* into *file*, from its beginning, and return its SHA-256 in hexadecimal.

        Raises what `get` raises.
        """

        def attempt() -> str:
            self._pace(path, 1)
            file.seek(0)
            file.truncate()
            digest = hashlib.sha256()
            with self._translated(path), self.http.stream("GET", path) as response:
                if response.status_code != _OK:
                    response.read()
                self._answered(response, path)
                for chunk in response.iter_bytes(_CHUNK_BYTES):
                    digest.update(chunk)
                    file.write(chunk)
            return digest.hexdigest()

        return self._patiently(path, attempt)

    def _patiently(self, path: str, attempt: Callable[[], T]) -> T:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(SourceDownError),
            wait=self._wait_seconds,
            stop=self._is_hopeless,
            sleep=self.clock.sleep,
            before_sleep=lambda state: self._log_retry(state, path),
            retry_error_callback=self._give_up,
        )
        return retrying(attempt)

    def _pace(self, path: str, weight: int) -> None:
        waited = self.bucket.take(weight)
        if waited:
            log.debug("source.paced", source=self.vendor.name, path=path, waited_seconds=round(waited, 1))

    def _where(self, path: str) -> str:
        return f"{self.vendor.name} ({self.http.base_url.host}{path})"

    def _answered(self, response: httpx2.Response, path: str) -> httpx2.Response:
        """Return *response* if it is an answer, else raise what it is."""
        used = response.headers.get(self.vendor.usage_header, "") if self.vendor.usage_header else ""
        if used.isdecimal():
            self.bucket.reported(int(used))
        status = response.status_code
        if status == _OK:
            return response
        if status in _ASK_AGAIN or status >= _FIRST_SERVER_ERROR:
            after = retry_after_seconds(response.headers, self.clock.now())
            asks = "asks to slow down" if status in {_SLOW_DOWN, _BANNED} else "failed"
            raise SourceDownError(f"{self._where(path)} {asks}: HTTP {status}", after=after)
        raise self.vendor.refusal(status, path, self._without_secret(response.content))

    def _send(self, path: str, query: Mapping[str, str | int]) -> httpx2.Response:
        with self._translated(path):
            return self.http.get(path, params=query)

    @contextmanager
    def _translated(self, path: str) -> Iterator[None]:
        """Raise what goes wrong on the way as one of our errors."""
        where = self._where(path)
        try:
            yield
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
    headers = {"user-agent": agent, "accept": "application/json", **vendor.headers}
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
