"""What one hole, one endpoint or a venue that is down does to the healing of the rest; the clock moves by hand."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from datetime import date
from functools import partial
from itertools import pairwise
from threading import Event

import pytest
from structlog.testing import capture_logs

from cryptolake.capture.healing import LONGEST_PAUSE_SECONDS, Healer
from cryptolake.errors import NotPublishedError, SourceDownError, SourceRefusedError
from cryptolake.sources.records import Head, TradePage
from cryptolake.sources.venue import Places
from tests.capture.homes import CLOCK, Home
from tests.capture.ledgers import BTC, TOY, at_us, frame, trades
from tests.capture.test_writer import durable

AUDIT_SECONDS = 30.0
REQUEST_SECONDS = 0.1
HEADS = (0, 0)
"""Stands for the newest ids, where the ids of a hole are expected."""


class HandMovedStop(Event):
    """A stop whose waiting takes no time: it moves *seconds*, which is what the healer's clock says."""

    seconds = 0.0

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds += timeout or 0.0
        return self.is_set()


class ToyHistory:
    """The toy venue, asked for its past: it has every id up to *newest*, but for *errors*, and *down* for all."""

    def __init__(self, stop: HandMovedStop) -> None:
        self._stop = stop
        self.newest: int | None = None
        self.errors: dict[tuple[int, int], Callable[[str], Exception]] = {}
        self.down: Callable[[str], Exception] | None = None
        self.failing_seconds = REQUEST_SECONDS
        self.archive: Callable[[str], Exception] = NotPublishedError
        self.files_asked: list[date] = []
        self.asked: list[tuple[float, tuple[int, int]]] = []

    def _ask(self, ids: tuple[int, int]) -> None:
        self.asked.append((self._stop.seconds, ids))
        error = self.down or self.errors.get(ids)
        self._stop.seconds += self.failing_seconds if error else REQUEST_SECONDS
        if error:
            raise error(f"no answer for {ids}")

    def heads(self, symbols):
        self._ask(HEADS)
        return {"BTC": Head(self.newest)} if self.newest else {}

    def pages(self, hole) -> Iterator[TradePage]:
        self._ask((hole.first_id, hole.last_id))
        last = min(hole.last_id + 1, self.newest or hole.last_id + 1)
        yield TradePage(trades(range(hole.first_id - 1, last + 1)), at_us(last))

    def archived_day(self, symbol, day):
        self.files_asked.append(day)
        raise self.archive("the toy venue has no such file")


class Healing:
    """A healer of the toy venue on a real writer, given one turn after the other."""

    def __init__(self, writer) -> None:
        self.writer, self.stop = writer, HandMovedStop()
        self.history = ToyHistory(self.stop)
        self.healer = Healer(
            TOY,
            Places((), ""),
            [BTC],
            writer,
            replace(CLOCK, monotonic=lambda: self.stop.seconds),
            random.Random(1),
            audit_seconds=AUDIT_SECONDS,
            stop=self.stop,
            on_tail=lambda _: None,
        )

    def hold(self, *ids: int) -> None:
        """Take single live trades, so that there is a hole between any two."""
        self.writer.frames("toy", 1, [frame([i]) for i in ids])
        durable(self.writer)

    def go_on(self, seconds: float) -> None:
        """Give it turns for so many *seconds* of its clock."""
        end = self.stop.seconds + seconds
        while self.stop.seconds < end:
            self.healer._turn(self.history)

    def open_ids(self) -> list[tuple[int, int]]:
        return [(hole.first_id, hole.last_id) for _, hole in self.writer.holes("toy")]


@pytest.fixture
def healing(tmp_path) -> Iterator[Healing]:
    """A healer, and nothing held."""
    with Home(tmp_path).capturing([BTC]) as (_, writer), capture_logs():  # tracebacks take long to draw
        yield Healing(writer)


FAILURES = [SourceDownError, ValueError, SourceRefusedError]


@pytest.mark.parametrize("error", FAILURES)
def test_a_hole_whose_answer_always_fails_keeps_no_other_from_being_healed(healing, error):
    """Whatever is wrong with it, others go first and it is asked for ever less often; it is not given up."""
    healing.hold(1, 200, 400, 600)
    healing.history.errors[401, 599] = error
    healing.go_on(10)
    assert healing.open_ids() == [(401, 599)]
    healing.go_on(3_600)
    asked = [ids for _, ids in healing.history.asked]
    assert 8 < asked.count((401, 599)) < 24
    healing.history.errors.clear()
    healing.go_on(600)
    assert healing.open_ids() == []


@pytest.mark.parametrize("error", FAILURES)
def test_new_holes_are_healed_soon_while_one_always_fails(healing, error):
    """One bad answer puts the venue off for moments only, as long as it answers otherwise."""
    healing.hold(1, 200)
    healing.history.errors[2, 199] = error
    for last in range(400, 8_000, 200):
        healing.hold(last)
        healing.go_on(20)
        assert healing.open_ids() == [(2, 199)]


@pytest.mark.parametrize("failing_seconds", [REQUEST_SECONDS, 2 * AUDIT_SECONDS])
@pytest.mark.parametrize("error", FAILURES)
def test_holes_are_healed_while_the_newest_ids_cannot_be_had(healing, error, failing_seconds):
    """The endpoint of the audit is one of several; however long it takes to fail, holes get their turn."""
    healing.hold(1, 200, 400, 600)
    healing.history.errors[HEADS] = error
    healing.history.failing_seconds = failing_seconds
    healing.go_on(failing_seconds + 10)
    assert healing.open_ids() == []
    healing.go_on(1_000)
    assert 2 < [ids for _, ids in healing.history.asked].count(HEADS) < 40
    for last in range(800, 2_000, 200):
        healing.hold(last)
        healing.go_on(failing_seconds + 10)
        assert healing.open_ids() == []


def test_a_hole_is_asked_for_between_two_audits_that_are_put_off(healing):
    """An endpoint that asks for more patience each time than audits have gets it, and holes are healed in between."""
    healing.hold(1, 200, 400)
    healing.history.errors[HEADS] = partial(SourceDownError, after=5 * AUDIT_SECONDS)
    healing.go_on(4 * AUDIT_SECONDS)
    assert [ids for _, ids in healing.history.asked] == [HEADS]
    healing.go_on(15 * AUDIT_SECONDS)
    assert healing.open_ids() == []


@pytest.mark.parametrize("error", FAILURES)
def test_a_venue_that_is_down_is_asked_ever_less_often_until_it_answers(healing, error):
    """Also one that refuses. Pauses grow to two minutes for all holes together; an answer about any hole makes the next ones short again."""
    healing.hold(*range(1, 8_000, 200))
    healing.history.down = error
    healing.go_on(1_800)
    settled = healing.stop.seconds
    healing.go_on(7_200)
    asked = [at for at, _ in healing.history.asked if at >= settled]
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    assert LONGEST_PAUSE_SECONDS / 2 < max(pauses) < LONGEST_PAUSE_SECONDS + 1
    assert 30 < sum(pauses) / len(pauses) < 90
    assert healing.healer.state().state == "waiting"

    healing.history.down = None
    healing.history.errors[HEADS] = error
    healing.hold(8_001)
    healing.go_on(2 * LONGEST_PAUSE_SECONDS)
    healing.history.errors[8_002, 8_200] = error
    healing.hold(8_201)
    healing.go_on(1)
    for last in range(8_401, 10_000, 200):
        healing.hold(last)
        healing.go_on(20)
        assert (last - 199, last - 1) not in healing.open_ids()


def test_a_head_that_is_refused_leaves_its_hole_to_be_asked_for(healing):
    """When the newest trade was made is good to know, and not needed."""
    healing.hold(1)
    healing.history.newest = 2_500
    healing.history.errors[2_500, 2_500] = SourceRefusedError
    healing.go_on(10)
    assert (2_500, 2_500) in [ids for _, ids in healing.history.asked]
    assert healing.open_ids() == []
    assert healing.healer.state().filled == 2_499


@pytest.mark.parametrize("error", [NotPublishedError, SourceDownError, SourceRefusedError])
def test_what_the_archive_does_not_give_comes_by_rest(healing, error):
    """Whole past days are asked of the archive first; a REST that is well does not wait for it."""
    healing.history.archive = error
    healing.hold(1, 200_000)  # more than two days, a trade a second
    healing.go_on(10)
    assert len(healing.history.files_asked) > 0
    assert healing.open_ids() == []


class JustInTime(Future[int]):
    """An answer that comes while its waiter is told that it has not."""

    def result(self, timeout: float | None = None) -> int:
        if self.done():
            return super().result(timeout)
        self.set_result(7)
        raise TimeoutError


def test_an_answer_of_the_writer_that_comes_just_then_is_taken(healing):
    """It was waited for in vain a moment ago, which says nothing any more."""
    assert healing.healer._settled(JustInTime()) == 7
