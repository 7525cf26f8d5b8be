"""HTTP on a port of this machine: a thread a connection, and answers that may be spoiled on the way."""

from __future__ import annotations

import socket
import struct
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Protocol, Self, cast
from urllib.parse import parse_qsl, urlsplit

import structlog

from cryptolake.errors import OperatorError
from cryptolake.replay.answers import Answer, Request
from cryptolake.replay.faults import Fault

LOOPBACK = "127.0.0.1"

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER for 0 seconds: closing sends a reset

log = structlog.get_logger(__name__)


class Answering(Protocol):
    """Who answers: *as_of* is the present of its answers."""

    @property
    def as_of(self) -> datetime:
        """The present, zoned."""
        ...

    def exchange(self, request: Request) -> tuple[Answer, Fault | None]:
        """Return the true answer to *request*, and what is to spoil it; called by many threads."""
        ...


class Listener(ThreadingHTTPServer):
    """The listening socket, and the connections it accepted."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], replay: Answering) -> None:
        super().__init__(address, Exchange)
        self.replay = replay
        self.closed = threading.Event()
        self._connections: set[socket.socket] = set()

    @classmethod
    def open(cls, host: str, port: int, replay: Answering) -> Self:
        """
        Listen, and answer in the background as *replay* does, until `close`; port 0 takes a free one.

        Raises:
            OperatorError: if the port cannot be taken.

        """
        try:
            listener = cls((host, port), replay)
        except OSError as taken:
            raise OperatorError(
                f"cannot listen on {host}:{port} ({taken.strerror}): choose another port, or 0 for a free one"
            ) from taken
        threading.Thread(target=listener.serve_forever, args=(0.02,), name="replay", daemon=True).start()
        return listener

    @property
    def url(self) -> str:
        """Return the root of what is served, without a slash at its end."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    def close(self) -> None:
        """Stop listening and end every connection."""
        self.shutdown()
        self.server_close()
        self.hang_up()

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


class Exchange(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one packet
    disable_nagle_algorithm = True

    @property
    def _listener(self) -> Listener:
        return cast("Listener", self.server)

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
