"""Keeps the board: follows the daemon's events, and looks at it while a page is open.

    follow   always; events become news, and points
    retell   what the daemon had kept, as it comes: the history of pages that are open
    look     every second while a page is open; however many there are, once for all
    tick     every two seconds; the point that is complete

The daemon is lost when `follow` or `look` cannot reach it, and found when both can.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, final

import attrs
import trio

from duckservice.dashboard.asking import Asking
from duckservice.dashboard.board import Board
from duckservice.dashboard.points import POINT_SECONDS, Points
from duckservice.gateway.client import (
    Answer,
    DaemonError,
    DaemonNotRunning,
    DaemonUnreachable,
    Event,
)

_AWAY: Final = (DaemonError, DaemonNotRunning, DaemonUnreachable)

_EVENTS: Final = "/v1/events"
_PARTS: Final = ("status", "tree", "providers", "queue", "budgets")

_TIMEOUT: Final = 5.0
_TICK_LATE: Final = 0.25
"""A point is closed so much after its end: its last events are on their way."""
_RETELL: Final = 0.5
"""Between two histories, while what the daemon had kept still comes."""


@final
@attrs.define(eq=False)
class Collector:
    """Asks one daemon for all pages; see the module."""

    _daemon: Asking
    _board: Board
    _wall_clock: Callable[[], float]
    """Seconds since the epoch."""
    _period: float = 1.0
    _pause: float = 0.5
    """Before another try, when the daemon is away."""
    _points: Points = attrs.field(init=False)
    _troubles: dict[str, str] = attrs.field(factory=dict[str, str])
    """Why the daemon is lost, by who has noticed."""
    _last_id: str = ""
    _connected_at: float = 0.0
    """Events before it had been kept; a page that is open was told points without."""
    _grown: trio.Event = attrs.field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        self._points = Points(self._wall_clock())
        self._board.history_from(self._history)

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Keep the board; started at once, the history comes behind."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow)
            nursery.start_soon(self._retell)
            nursery.start_soon(self._look)
            nursery.start_soon(self._tick)
            task_status.started()

    async def _greet(self) -> None:
        [answer] = await self._daemon.get_all(["/v1/status"], _TIMEOUT)
        status = answer.json()
        self._board.hello(
            {
                "version": status["version"],
                "socket": str(self._daemon.socket),
                "pid": status["pid"],
                "started_at": round(self._wall_clock() - status["uptime_s"], 3),
            }
        )

    # Events.

    async def _follow(self) -> None:
        while True:
            target = _EVENTS if self._last_id else f"{_EVENTS}?since=30m"
            try:
                await self._greet()
                await self._daemon.follow(
                    target, self._last_id, self._opened, self._happened
                )
            except _AWAY as error:
                self._trouble(_EVENTS, str(error))
            await trio.sleep(self._pause)

    def _opened(self, _headers: object) -> None:
        self._connected_at = self._wall_clock()
        self._well(_EVENTS)

    def _happened(self, event: Event) -> None:
        self._last_id = event.id or self._last_id
        try:
            its: dict[str, Any] = json.loads(event.data)
        except ValueError:
            # It is shown as an object of JSON, or not at all.
            return
        self._points.take(its)
        self._board.news(event.data, event.id)
        at = its.get("at")
        if isinstance(at, int | float) and at < self._connected_at:
            self._grown.set()

    async def _retell(self) -> None:
        while True:
            await self._grown.wait()
            self._grown = trio.Event()
            self._board.history_grew()
            await trio.sleep(_RETELL)

    # Looking.

    async def _look(self) -> None:
        while True:
            await self._board.wait_watched()
            # Where the events are away, it is for them to find the daemon again.
            if _EVENTS not in self._troubles:
                try:
                    await self._look_once()
                except _AWAY as error:
                    self._trouble("look", str(error))
                else:
                    self._well("look")
            await trio.sleep(self._period)

    async def _look_once(self) -> None:
        now = self._wall_clock()
        today = datetime.fromtimestamp(now, UTC).date().isoformat()
        targets = [f"/v1/{part}" for part in _PARTS]
        targets.append(f"/v1/costs?by=provider&since={today}")
        answers = await self._daemon.get_all(targets, _TIMEOUT)
        bodies = zip((*_PARTS, "costs"), answers, strict=True)
        fields = [f'"{name}":{_text(answer)}' for name, answer in bodies]
        self._board.snapshot(f'{{"at":{now:.3f},{",".join(fields)}}}')
        status = answers[0].json()
        depth = status["queue"]["depth"]
        self._points.look(now, depth, status["requests"]["in_flight"])

    # Points.

    async def _tick(self) -> None:
        while True:
            late = (self._wall_clock() - _TICK_LATE) % POINT_SECONDS
            await trio.sleep(POINT_SECONDS - late)
            for point in self._points.close(self._wall_clock()):
                self._board.point(point)

    def _history(self) -> dict[str, Any]:
        return {"points": self._points.history()}

    # Lost and found.

    def _trouble(self, who: str, reason: str) -> None:
        self._troubles[who] = reason
        self._board.lost(reason)

    def _well(self, who: str) -> None:
        self._troubles.pop(who, None)
        if not self._troubles:
            self._board.found()


def _text(answer: Answer) -> str:
    return answer.body.decode("utf-8", "replace")
