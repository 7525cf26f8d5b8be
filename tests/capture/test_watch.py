"""When a connection has stalled, and when its market is only quiet."""

from __future__ import annotations

from itertools import pairwise

from cryptolake.capture.watch import LONGEST_QUIET_SECONDS, Quiet, Signs, Watchdog

STALL = 10.0
NEVER = float("-inf")


def signs(traded_at=NEVER, *, opened_at=0.0, told_at=None, seen_at=None) -> Signs:
    told = max(opened_at, traded_at) if told_at is None else told_at
    return Signs(opened_at, told if seen_at is None else seen_at, told, traded_at)


def replacements(seconds, *, frames=(), stall=STALL):
    """Return when the connections of a group are replaced whose venue says something only at *frames*, and answers pings."""
    quiet, watchdogs, told, done = Quiet(stall, 0.0), [Watchdog(stall), Watchdog(stall)], 0.0, []
    opened = [0.0, 0.0]
    for tick in range(int(seconds * 10)):
        now = tick / 10
        if now in frames:
            told = now
            quiet.broken(told)
        for own, twin in ((0, 1), (1, 0)):
            states = [Signs(at, now, max(at, told), told or NEVER) for at in opened]
            if watchdogs[own].stalled(now, states[own], states[twin], quiet):
                done.append(now)
                opened[own], watchdogs[own] = now, Watchdog(stall)
    return done


def test_a_connection_without_a_sign_of_life_has_stalled():
    """Not even a pong came for longer than a stall."""
    watchdog, quiet = Watchdog(STALL), Quiet(STALL, 0.0)
    assert watchdog.stalled(10.0, signs(0.0), signs(0.0), quiet) is None
    assert watchdog.stalled(10.1, signs(0.0, told_at=0.0), None, quiet) == "no sign of life"


def test_a_connection_whose_twin_trades_on_has_stalled():
    """Heartbeats are no trades: where only the twin has those, and for longer than a stall, something is wrong."""
    watchdog, quiet = Watchdog(STALL), Quiet(STALL, 0.0)
    found = {}
    for now in range(1, 40):
        twin = signs(float(now), told_at=float(now))
        found[now] = watchdog.stalled(float(now), signs(5.0, told_at=float(now)), twin, quiet)
    assert next(now for now, why in found.items() if why) == 18
    assert found[18] == "its twin has trades, it has none"


def test_a_market_that_stops_is_no_stall_of_the_one_that_was_told_first():
    """The last trade reaches one connection a little later than the other; that says nothing."""
    watchdog, quiet = Watchdog(STALL), Quiet(STALL, 0.0)
    quiet.broken(5.4)
    own, twin = signs(5.0, seen_at=100.0, told_at=99.0), signs(5.4, seen_at=100.0, told_at=99.0)
    assert [watchdog.stalled(now, own, twin, quiet) for now in (6.0, 20.0, 60.0, 100.0)] == [None] * 4


def test_a_successor_is_not_taken_for_one_that_trades():
    """A connection that was just made has had no trades, so its twin is not behind it."""
    watchdog, quiet = Watchdog(STALL), Quiet(STALL, 95.0)
    own, fresh = signs(5.0, seen_at=100.0, told_at=99.0), signs(opened_at=50.0, seen_at=100.0, told_at=99.0)
    assert watchdog.stalled(61.0, own, fresh, quiet) is None
    assert watchdog.stalled(100.0, own, fresh, quiet) is None


def test_a_silent_group_is_replaced_one_at_a_time_and_ever_less_often():
    """Nobody can tell a quiet market from a stall of both, so each is tried anew, but it is no storm."""
    found = replacements(900)
    pauses = [b - a for a, b in pairwise(found)]
    assert 10 < found[0] < 11
    assert min(pauses) > 10
    assert pauses == sorted(pauses)
    assert len(found) <= 7


def test_a_market_that_is_used_to_be_quiet_is_left_alone():
    """Once a silence has turned out to be the market's own, one that is as long is no reason."""
    found = replacements(600, frames=[float(n) for n in range(0, 600, 15)])
    assert len(found) <= 2


def test_patience_has_a_limit():
    """However quiet a market is, its connections are tried anew now and then."""
    quiet = Quiet(STALL, 0.0)
    quiet.broken(1e6)
    assert quiet.patience == LONGEST_QUIET_SECONDS
