"""Serve recordings over HTTP as the vendors serve the real thing."""

from __future__ import annotations

import math
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import parse_qsl, urlsplit

import structlog

from cryptolake.clock import Clock
from cryptolake.errors import OperatorError
from cryptolake.replay import alternative_me, coingecko
from cryptolake.replay.answers import Answer, Request
from cryptolake.replay.faults import Fault
from cryptolake.replay.recordings import Recordings

Script = Callable[[Request], Fault | None]

LOOPBACK = "127.0.0.1"

_MINUTE_SECONDS = 60.0
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER for 0 seconds: closing sends a reset

log = structlog.get_logger(__name__)


class ReplayServer:
    """
    CoinGecko and Alternative.me on a port of this machine, answering from recordings.

    Nothing newer than *as_of* is served. *history_days* and *requests_per_minute* are limits that
    CoinGecko's plans have (None: without limit). *requests* lists what was asked, in order.
    All public attributes may be changed while the server runs; a changed *as_of* is a later day.
    """

    def __init__(
        self,
        listener: _Listener,
        recordings: Recordings,
        *,
        as_of: datetime,
        history_days: int | None,
        requests_per_minute: int | None,
        clock: Clock,
    ) -> None:
        self.recordings = recordings
        self.as_of = as_of
        self.history_days = history_days
        self.requests_per_minute = requests_per_minute
        self.requests: list[Request] = []
        self._listener = listener
        self._clock = clock
        self._lock = threading.Lock()
        self._faults: deque[Fault | None] = deque()
        self._script: Script | None = None
        self._limited_at: deque[float] = deque()

    @classmethod
    def open(  # options of one server, all by name
        cls,
        recordings: Recordings,
        *,
        as_of: datetime | None = None,
        history_days: int | None = None,
        requests_per_minute: int | None = None,
        faults: Iterable[Fault | None] | Script = (),
        clock: Clock | None = None,
        host: str = LOOPBACK,
        port: int = 0,
    ) -> ReplayServer:
        """
        Start serving *recordings* in the background; use as a context manager, or `close` it.

        *as_of* defaults to the recording's end; port 0 takes a free one. *faults* spoils the next
        answers, one each (None: a true answer), or is asked for each request.

        Raises:
            OperatorError: if the port cannot be taken.

        """
        try:
            listener = _Listener((host, port), _Exchange)
        except OSError as taken:
            raise OperatorError(
                f"cannot listen on {host}:{port} ({taken.strerror}): choose another port, or 0 for a free one"
            ) from taken
        server = cls(
            listener,
            recordings,
            as_of=as_of or recordings.ends_at,
            history_days=history_days,
            requests_per_minute=requests_per_minute,
            clock=clock or Clock(),
        )
        server.inject(faults)
        listener.replay = server
        threading.Thread(target=listener.serve_forever, args=(0.02,), name="replay", daemon=True).start()
        return server

    @property
    def url(self) -> str:
        """Return the server's root, without a slash at its end."""
        host, port = self._listener.server_address[:2]
        return f"http://{host!s}:{port}"

    @property
    def coingecko_url(self) -> str:
        """Return what `sources.coingecko.base_url` is set to."""
        return f"{self.url}{coingecko.ROOT}"

    @property
    def alternative_me_url(self) -> str:
        """Return what `sources.alternative_me.base_url` is set to."""
        return self.url

    def inject(self, faults: Iterable[Fault | None] | Script) -> None:
        """Spoil the answers to the next requests, one each; or ask *faults* for every request from now on."""
        if callable(faults):
            self._script = faults
        else:
            self._faults.extend(faults)

    def close(self) -> None:
        """Stop listening and end every connection."""
        self._listener.shutdown()
        self._listener.server_close()
        self._listener.hang_up()

    def __enter__(self) -> Self:
        """Return the running server."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def exchange(self, request: Request) -> tuple[Answer, Fault | None]:
        """Return the true answer to *request*, and what is to spoil it."""
        with self._lock:
            self.requests.append(request)
            fault = self._faults.popleft() if self._faults else None
            after_seconds = self._over_limit() if request.path.startswith(f"{coingecko.ROOT}/") else None
        if fault is None and self._script is not None:
            fault = self._script(request)
        if after_seconds is not None:
            return coingecko.rate_limit(after_seconds), fault
        as_of = self.as_of.astimezone(UTC)
        answer = coingecko.answer(request, self.recordings, as_of, self.history_days)
        answer = answer or alternative_me.answer(request, self.recordings, as_of)
        return answer or Answer.json({"error": f"nothing is replayed at {request.path}"}, 404), fault

    def _over_limit(self) -> int | None:
        """Count a request; return the seconds to wait if it is one too many."""
        if self.requests_per_minute is None:
            return None
        now = self._clock.monotonic()
        while self._limited_at and self._limited_at[0] <= now - _MINUTE_SECONDS:
            self._limited_at.popleft()
        if len(self._limited_at) >= self.requests_per_minute:
            return math.ceil(self._limited_at[0] + _MINUTE_SECONDS - now)
        self._limited_at.append(now)
        return None


class _Listener(ThreadingHTTPServer):
    """The listening socket, and the connections it accepted."""

    replay: ReplayServer
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self.closed = threading.Event()
        self._connections: set[socket.socket] = set()

    def server_bind(self) -> None:
        """Bind without asking the network for this machine's name, as HTTPServer does."""
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection and serve it in a thread of its own."""
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget the connection."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End every connection that is still open."""
        self.closed.set()
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  # socketserver's signature
        """Say in the log why a connection broke; a client that went away is no event worth a warning."""
        error = sys.exception()
        level = "debug" if isinstance(error, OSError) else "error"
        getattr(log, level)("replay.broken", client=str(client_address), error=repr(error), exc_info=error)


class _Exchange(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one packet
    disable_nagle_algorithm = True

    @property
    def _listener(self) -> _Listener:
        return cast("_Listener", self.server)

    def do_GET(self) -> None:  # the name that http.server calls
        """Answer one request."""
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(url.path, dict(parse_qsl(url.query, keep_blank_values=True)), headers)
        answer, fault = self._listener.replay.exchange(request)
        log.debug("replay.request", path=url.path, status=answer.status, is_spoiled=fault is not None)
        if fault is None:
            self._send(answer, len(answer.body))
            return
        if fault.delay_seconds:
            self._listener.closed.wait(fault.delay_seconds)
        if fault.resets:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.connection.close()  # before the server says goodbye, which would be no reset
            self.close_connection = True
            return
        spoiled = fault.spoil(answer)
        self._send(spoiled, len((fault.instead or answer).body) if fault.promises_more else len(spoiled.body))
        self.close_connection |= fault.promises_more

    def _send(self, answer: Answer, length: int) -> None:
        self.send_response_only(answer.status)
        self.send_header("date", format_datetime(self._listener.replay.as_of.astimezone(UTC), usegmt=True))
        self.send_header("content-length", str(length))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  # http.server's own name
        """Keep quiet: requests are logged as events."""
