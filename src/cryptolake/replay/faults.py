"""What can go wrong between a vendor and us, on demand."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from cryptolake.errors import ConfigError
from cryptolake.replay import coingecko
from cryptolake.replay.answers import Answer

HTML = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head><body>Checking your browser</body></html>"


@dataclass(frozen=True)
class Fault:
    """
    One spoiled answer: *instead* of the true one, or the true one cut to *keep* of its bytes.

    *resets* breaks the connection without an answer; *promises_more* announces more bytes than
    come; *delay_seconds* keeps the client waiting first. Alone, a delay is followed by the true answer.
    """

    instead: Answer | None = None
    keep: float = 1.0
    promises_more: bool = False
    resets: bool = False
    delay_seconds: float = 0.0

    def spoil(self, answer: Answer) -> Answer:
        """Return what is sent in place of *answer*."""
        spoiled = self.instead or answer
        return replace(spoiled, body=spoiled.body[: int(len(spoiled.body) * self.keep)])


def server_error(status: int = 500) -> Fault:
    """Return a fault: the vendor is broken, in the body it was recorded with."""
    return Fault(Answer.json({"status": status, "error": "Internal Server Error"}, status))


def too_many_requests(retry_after: str | None = None) -> Fault:
    """Return a fault: one request too many; *retry_after* is seconds or an HTTP date, as sent."""
    limited = coingecko.rate_limit(0)
    headers = {name: value for name, value in limited.headers.items() if name != "retry-after"}
    return Fault(replace(limited, headers=headers | ({"retry-after": retry_after} if retry_after else {})))


def html(status: int = 200) -> Fault:
    """Return a fault: a page for people where JSON should be."""
    return Fault(Answer(status, HTML, {"content-type": "text/html; charset=UTF-8"}))


def truncated() -> Fault:
    """Return a fault: the first half of the true answer, passed off as the whole."""
    return Fault(keep=0.5)


def cut_off() -> Fault:
    """Return a fault: the connection ends in the middle of the true answer."""
    return Fault(keep=0.5, promises_more=True)


def empty() -> Fault:
    """Return a fault: status 200 and no body."""
    return Fault(keep=0.0)


def reset() -> Fault:
    """Return a fault: the connection is reset before any answer."""
    return Fault(resets=True)


def slow(seconds: float) -> Fault:
    """Return a fault: the true answer, *seconds* late."""
    return Fault(delay_seconds=seconds)


_BY_NAME = {
    "500": server_error,
    "502": lambda: server_error(502),
    "503": lambda: server_error(503),
    "429": too_many_requests,
    "html": html,
    "truncated": truncated,
    "cut-off": cut_off,
    "empty": empty,
    "reset": reset,
}


def parse_faults(script: str) -> list[Fault | None]:
    """
    Return the faults that *script* names, for the next requests in order; `ok` is a true answer.

    Names are 429 (`429:30` with Retry-After), 500, 502, 503, html, truncated, cut-off, empty, reset,
    slow:SECONDS and ok; `*3` after a name repeats it.

    Raises:
        ConfigError: if a name is unknown.

    >>> len(parse_faults("500*3,ok,429:30,slow:0.5"))
    6

    """
    faults: list[Fault | None] = []
    for part in filter(None, (part.strip() for part in script.split(","))):
        name, _, times = part.partition("*")
        name, _, argument = name.partition(":")
        try:
            faults += [_fault(name, argument)] * int(times or 1)
        except (KeyError, ValueError) as unknown:
            known = ", ".join([*_BY_NAME, "429:SECONDS", "slow:SECONDS", "ok"])
            raise ConfigError(
                f"there is no fault {part!r}; there are {known}, each with *TIMES or without"
            ) from unknown
    return faults


def _fault(name: str, argument: str) -> Fault | None:
    if name == "ok" and not argument:
        return None
    if name == "slow":
        return slow(_seconds(argument))
    if name == "429" and argument:
        _seconds(argument)
        return too_many_requests(argument)
    if argument:
        raise ValueError(argument)
    return _BY_NAME[name]()


def _seconds(text: str) -> float:
    if not 0 <= (seconds := float(text)) < math.inf:
        raise ValueError(text)
    return seconds
