"""Requests that cost more than one, vendors that count for others too, and files that are written as they come."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from cryptolake.errors import NotPublishedError, OperatorError, SourceDownError, SourceRefusedError
from cryptolake.sources.http import PoliteClient, TokenBucket, Vendor
from tests.sources.answering import Answers, serving
from tests.sources.clocks import Sleeps

NOON = datetime(2024, 8, 8, 12, tzinfo=UTC)


def refusal(status: int, path: str, body: bytes) -> OperatorError | NotPublishedError:
    return NotPublishedError(path) if status == 404 else SourceRefusedError(f"{path} {status} {body!r}")


@contextmanager
def client(answers: Answers, sleeps: Sleeps, **options: object) -> Iterator[PoliteClient]:
    arguments = {"requests_per_minute": 100} | options
    with serving(answers) as url:
        vendor = Vendor("weigher", url, refusal, headers={"x-unit": "MICROSECOND"}, usage_header="x-used")
        with PoliteClient.open(vendor, clock=sleeps.clock, rng=random.Random(1), **arguments) as opened:
            yield opened


def get(opened: PoliteClient, weight: int = 1) -> bytes:
    return opened.get("/x", {}, lambda body, _: body, weight=weight)


def test_no_minute_sees_more_weight_than_the_limit():
    """Whatever requests cost, the sum in any 60 seconds stays within the limit."""
    sleeps = Sleeps(NOON)
    bucket = TokenBucket(100, sleeps.clock)
    rng = random.Random(7)
    taken: list[tuple[float, int]] = []
    for _ in range(300):
        cost = rng.choice((1, 4, 25, 80))
        bucket.take(cost)
        taken.append((sleeps.clock.monotonic(), cost))
        if rng.random() < 0.3:
            sleeps.clock.sleep(rng.random() * 10)
    for at, _ in taken:
        assert sum(cost for when, cost in taken if at - 59.999 < when <= at) <= 100


def test_a_request_that_costs_more_than_there_is_waits_for_all_of_it():
    """It is sent all the same, alone in its minute."""
    sleeps = Sleeps(NOON)
    bucket = TokenBucket(10, sleeps.clock)
    assert bucket.take(50) == 0
    assert bucket.take(1) == 60


def test_a_rate_can_be_kept_in_every_second():
    """300 a minute in windows of one second are never more than five in a second."""
    sleeps = Sleeps(NOON)
    answers = Answers("", files={"/x": [b"1"]})
    times = []
    with client(answers, sleeps, requests_per_minute=300, window_seconds=1) as opened:
        for _ in range(21):
            get(opened)
            times.append(sleeps.clock.monotonic())
    assert all(times.count(at) == 5 for at in range(4))
    assert times[-1] == 4


def test_what_the_vendor_has_counted_of_others_is_left_for_them():
    """Another program at our address used 90 of 100: a request of 25 waits until those are a minute old."""
    sleeps = Sleeps(NOON)
    answers = Answers("", faults=[(200, {"x-used": "90"}, b"1"), (200, {"x-used": "nonsense"}, b"1")])
    with client(answers, sleeps) as opened:
        get(opened)
        get(opened, weight=25)
    assert sum(sleeps.seconds) == 60


def test_headers_of_the_vendor_go_along():
    """As Binance's unit of time."""
    answers = Answers("", files={"/x": [b"1"]})
    with client(answers, Sleeps(NOON)) as opened:
        get(opened)
    assert {name.lower(): value for name, value in answers.headers[0].items()}["x-unit"] == "MICROSECOND"


def test_a_download_gives_the_digest_and_keeps_nothing_of_failed_attempts():
    """The file holds the last answer alone."""
    answers = Answers(
        "", faults=[(500, {}, b"oh no"), (429, {"retry-after": "9"}, b"slow")], files={"/x": [b"abc"]}
    )
    file, sleeps = io.BytesIO(b"older and longer"), Sleeps(NOON)
    with client(answers, sleeps) as opened:
        digest = opened.download("/x", file)
    assert file.getvalue() == b"abc"
    assert digest == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sum(sleeps.seconds) >= 9


def test_a_file_that_is_not_there_is_not_asked_for_again():
    """A 404 may be mended tomorrow, not by asking six times."""
    answers = Answers("", files={"/y": [b"abc"]})
    with client(answers, Sleeps(NOON)) as opened, pytest.raises(NotPublishedError):
        opened.download("/x", io.BytesIO())
    assert len(answers.requests) == 1


def test_a_server_that_is_gone_is_down():
    """A download that cannot begin is a passing fault."""
    answers = Answers("")
    with serving(answers):
        pass
    with (
        PoliteClient.open(
            Vendor("weigher", answers.url, refusal),
            requests_per_minute=None,
            clock=Sleeps(NOON).clock,
            rng=random.Random(1),
        ) as opened,
        pytest.raises(SourceDownError, match="cannot be reached"),
    ):
        opened.download("/x", io.BytesIO())
