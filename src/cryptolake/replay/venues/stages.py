"""The event loop that publishes: one thread with the WebSocket servers of all replayed venues."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from picows import ws_create_server

from cryptolake.errors import OperatorError
from cryptolake.replay.listener import LOOPBACK
from cryptolake.replay.venues.playback import Timeline
from cryptolake.replay.venues.websocket import LEAD, Connection, Stage

T = TypeVar("T")

_TICK_SECONDS = 0.005
_BEAT_SECONDS = 1.0


class Stages:
    """
    The stages of all venues and the thread that they run in.

    Publishing is held until `start`, or until *waits_for* connections in all have subscribed (0: not
    held, None: only `start`). *finished* is set once everything is published, *delivered* once it is sent.
    """

    def __init__(self, waits_for: int | None) -> None:
        self.stages: dict[str, Stage] = {}
        self.finished = threading.Event()
        self.delivered = threading.Event()
        self.waits_for = waits_for
        self._waits = waits_for != 0
        self._timeline = Timeline(is_held=waits_for != 0)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="replay-venues", daemon=True)
        self._servers: list[asyncio.Server] = []
        self._is_due = False

    def open(self, ports: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
        """
        Listen on *ports*, one for each host of each venue, 0 for a free one; return those taken.

        Raises:
            OperatorError: if a port cannot be taken.

        """
        self._thread.start()
        opening = asyncio.run_coroutine_threadsafe(self._open(ports), self._loop)
        try:
            return opening.result()
        except OSError as taken:
            self.close()
            raise OperatorError(
                f"cannot listen on {LOOPBACK} ({taken.strerror}): choose another port, or 0 for free ones"
            ) from taken

    def show(self, stages: Mapping[str, Stage]) -> None:
        """Take *stages*, whose time begins now."""
        self.stages = dict(stages)
        self.finished.clear()
        self.delivered.clear()
        self._timeline = Timeline(is_held=self._timeline.is_held)

    def call(self, function: Callable[[], T]) -> T:
        """Return what *function* returns, called between two events of the loop."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(function())
            except BaseException as error:  # noqa: BLE001  # it belongs to who called
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return done.result()

    def hold(self) -> None:
        """Publish nothing until `release`."""
        self._timeline.turn(self._loop.time())
        self._timeline.is_held = True

    def release(self) -> None:
        """Publish on."""
        self._timeline.turn(self._loop.time())
        self._timeline.is_held = False
        self.wake()

    def wake(self) -> None:
        """Let the stages take their turn soon."""
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._turn)

    def close(self) -> None:
        """End every connection and the thread."""
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _open(self, ports: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
        taken: dict[str, list[int]] = {}
        for venue, wanted in ports.items():
            for host, port in enumerate(wanted):
                accept = partial(self.stages[venue].accept, host)
                server = await ws_create_server(accept, LOOPBACK, port)
                self._servers.append(server)
                taken.setdefault(venue, []).append(server.sockets[0].getsockname()[1])
        self._loop.call_later(_BEAT_SECONDS, self._beat)
        self._loop.call_soon(self._tick)
        return taken

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        ending = [connection for stage in self.stages.values() for connection in list(stage.connections)]
        for connection in ending:
            connection.cut()
        await asyncio.sleep(0)
        await asyncio.gather(*(server.wait_closed() for server in self._servers))
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    def _tick(self) -> None:
        """Take a turn every few milliseconds: a bounded pace has something due."""
        self.wake()
        self._loop.call_later(_TICK_SECONDS, self._tick)

    def _beat(self) -> None:
        for stage in self.stages.values():
            stage.beat()
        self._loop.call_later(_BEAT_SECONDS, self._beat)

    def _turn(self) -> None:
        """Publish what is due, and send it."""
        self._is_due = False
        if self._timeline.is_held and self.waits_for and self._subscribed() >= self.waits_for:
            self.waits_for = 0
            self._timeline.turn(self._loop.time())
            self._timeline.is_held = False
        elapsed = self._timeline.turn(self._loop.time())
        can_go_on = False
        for stage in self.stages.values():
            before = stage.publication.published
            if not self._timeline.is_held:
                stage.publication.advance(self._position(stage, elapsed))
            can_go_on |= stage.pump() or stage.publication.published > before
        if can_go_on:
            self.wake()
        if not self.delivered.is_set():
            self._look_for_the_end()

    def _look_for_the_end(self) -> None:
        if all(stage.publication.is_over for stage in self.stages.values()):
            self.finished.set()
            if all(stage.slowest in (None, stage.publication.published) for stage in self.stages.values()):
                self.delivered.set()

    def _position(self, stage: Stage, elapsed: float) -> int:
        """Return up to where a stage publishes now."""
        publication = stage.publication
        if not publication.pace.is_unbounded:
            return publication.due(elapsed)
        slowest = stage.slowest
        if slowest is not None:
            return slowest + LEAD
        return publication.published if self._waits else len(publication.reel)

    def _subscribed(self) -> int:
        return sum(stage.subscribed for stage in self.stages.values())

    def connections(self, venue: str | None = None) -> list[Connection]:
        """Return the connections to *venue*, or all."""
        return [
            connection
            for name, stage in self.stages.items()
            if venue in (None, name)
            for connection in stage.connections
        ]
