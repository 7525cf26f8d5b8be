"""The judge of the schedules finds whatever is wrong, and nothing where nothing is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults import plans
from tests.faults.judging import Folded, Landed, Truth, faults_of, is_whole

TRUTH = Truth(exist=(10, 11, 12, 13, 16, 17, 18, 19), gone=frozenset({12, 18}), start=11, head=19)
HELD = [11, 13, 16, 17, 19]


def said(event: str, first: int, last: int) -> dict[str, Any]:
    return {"event": event, "first_id": first, "last_id": last}


def events() -> list[dict[str, Any]]:
    """Return what a sound capture says: two ids that cannot be had, two that do not exist, one that came late."""
    missing = [said("missing", first, last) for first, last in ((12, 12), (13, 15), (18, 18))]
    return [*missing, said("filled", 13, 13), said("absent", 14, 15)]


def test_nothing_is_wrong_with_a_sound_capture():
    """All that can be had is held, what cannot be had is open, and what does not exist is absent."""
    assert faults_of(Landed(HELD, events()), TRUTH) == []
    assert is_whole(Landed(HELD, events()), TRUTH)


@pytest.mark.parametrize(
    ("ids", "told", "fault"),
    [
        ([i for i in HELD if i != 16], events(), "that REST can give are not in bronze: 1 (16)"),
        ([i for i in HELD if i != 16], events(), "neither held nor disclosed: 1 (16)"),
        ([*HELD, 15], events(), "that nobody published are in bronze: 1 (15)"),
        ([*HELD, 16], events(), "written twice: 1 (16)"),
        ([*HELD, 10], events(), "below the start or above the head are in bronze: 1 (10)"),
        (
            HELD,
            [*events(), said("missing", 17, 17)],
            "held and yet said to be missing, absent or rejected: 1 (17)",
        ),
        (HELD, [*events(), said("filled", 12, 12)], "that cannot be had are not open: 1 (12)"),
        (HELD, [*events(), said("missing", 20, 21)], "open and should not be: 2 (20, 21)"),
        (HELD, events()[:-1], "do not exist are not absent: 2 (14, 15)"),
        (HELD, [*events(), said("absent", 18, 18)], "absent and should not be: 1 (18)"),
        (HELD, [*events(), said("rejected", 18, 18)], "rejected and should not be: 1 (18)"),
    ],
)
def test_whatever_is_wrong_is_found(ids, told, fault):
    """Each kind of lie about an id has words of its own."""
    landed = Landed(ids, told)
    assert any(found.endswith(fault) for found in faults_of(landed, TRUTH)), faults_of(landed, TRUTH)


def test_what_lies_beside_an_id_that_cannot_be_had_cannot_be_proven_absent():
    """Only an answer that holds both neighbours proves absence, and none reaches over such an id."""
    truth = Truth(exist=(1, 3, 6, 8), gone=frozenset({3}), start=1, head=8)
    assert truth.not_held() == ({2, 3, 4, 5}, {7})


def test_events_count_once_however_often_they_are_told():
    """Applying an event twice changes nothing."""
    once = Folded.of(events())
    assert Folded.of(events() * 2) == once
    assert (once.open, once.absent, once.rejected) == ({12, 18}, {14, 15}, set())


def test_a_schedule_is_a_function_of_its_seed():
    """The same seed gives the same trades, faults and kills, and another seed others."""
    assert plans.plan(17, 4, 2_000) == plans.plan(17, 4, 2_000)
    assert plans.plan(17, 4, 2_000) != plans.plan(18, 4, 2_000)
    again = plans.reel.__wrapped__(4, 2_000)
    reel = plans.reel(4, 2_000)
    assert (again.gone, again.calm) == (reel.gone, reel.calm)
    assert [track.rows for track in again.tape.tracks] == [track.rows for track in reel.tape.tracks]
