"""How a replayed venue speaks: what each of the four implements, without a socket and without a clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from cryptolake.replay.answers import Answer, Request
from cryptolake.replay.venues.market import Market
from cryptolake.replay.venues.tape import Track


@dataclass
class Session:
    """
    One connection's conversation: what it is subscribed to, and in which *style* trades are printed on it.

    *beats* are the symbols whose heartbeats it wants.
    """

    style: str = ""
    symbols: set[str] = field(default_factory=set)
    beats: set[str] = field(default_factory=set)
    is_refused: bool = False
    """The venue ends the connection after its reply."""


@dataclass(frozen=True)
class Manners:
    """
    What a venue expects of a connection: seconds and messages, None where it does not care.

    *ping_seconds*: how often it pings; *subscribe_seconds*: when it ends a connection that subscribed to nothing;
    *idle_seconds*: when it ends one on which nothing was said by either side.
    """

    messages_per_second: int | None = None
    ping_seconds: float | None = None
    subscribe_seconds: float | None = None
    idle_seconds: float | None = None


class Dialect(Protocol):
    """One venue's side of its WebSocket and of its REST."""

    name: str
    path: str
    """The path of its WebSocket, for the settings."""
    manners: Manners

    def opened(self, url: str, market: Market, session: Session) -> list[bytes] | None:
        """Return the first frames of a connection to *url* (path and query); None where nothing is served there."""
        ...

    def received(self, message: bytes, market: Market, session: Session) -> list[bytes]:
        """Return the replies to a text frame of the client."""
        ...

    def frames(self, track: Track, start: int, stop: int, style: str) -> list[bytes]:
        """Return the frames of rows *start* to *stop* (excluded) of *track*."""
        ...

    def heartbeats(self, market: Market, session: Session) -> list[bytes]:
        """Return the frames of one heartbeat, which comes each second."""
        ...

    def shutdown_notice(self, market: Market, session: Session) -> bytes | None:
        """Return the frame that says that the connection will be closed soon; None where the venue says nothing."""
        ...

    def answer(self, request: Request, market: Market) -> Answer | None:
        """Return what its REST answers; None for a path that is not its."""
        ...

    def weight(self, request: Request) -> int:
        """Return what a request costs."""
        ...

    def refusal(self, status: int, retry_after: float) -> Answer:
        """Return the answer to one request too many (429), or to a banned client (418), in the venue's words."""
        ...


def asked_integer(request: Request, name: str, default: int | None = None) -> int | None:
    """
    Return a parameter of a request as an integer, *default* where it is not given.

    Raises:
        ValueError: if it is none.

    """
    given = request.query.get(name, "")
    return int(given) if given else default
