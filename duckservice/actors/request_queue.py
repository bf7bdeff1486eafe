"""The request queue actor: whose turn it is to use a provider, by priority."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import attrs
import trio

from duckservice.actors.board import Board
from duckservice.actors.rate_limiter import many_wait, whose_turn
from duckservice.calls.call import Priority, Submitter
from duckservice.core import request_queue as core
from duckservice.core.request_queue import Full, QueueStatistics, Turn, Waiting
from duckservice.errors import QueueFull, Unavailable
from supervisors import Reply

SOON = 1.0
"""Seconds after which it is worth asking again where too many wait: nobody knows."""


@attrs.define
class RequestQueue:
    """Gives turns; one for all providers, with a lane each."""

    _queue: core.RequestQueue[int]
    _board: Board
    _waiting: dict[int, Reply[Turn]] = attrs.field(factory=dict[int, Reply[Turn]])
    _clock: Callable[[], float] = trio.current_time

    @classmethod
    def start(cls, board: Board, aging: float) -> RequestQueue:
        """Make the next incarnation; requests under way keep their turns."""
        queue = core.RequestQueue[int](
            _lanes(board),
            max_size=board.queue_max,
            aging=aging,
            running={name: its.turns for name, its in board.providers.items()},
            turn_ids=board.turn_ids,
        )
        # A queue that somebody paused stays so, whatever crashes here.
        if board.paused:
            queue.pause()
        return cls(queue, board)

    def enter(
        self,
        ticket: int,
        lane: str,
        priority: Priority,
        *,
        yields: bool = False,
        submitter: Submitter | None = None,
        deadline: float | None = None,
    ) -> Reply[Turn]:
        """Give a turn of *lane*, now or later. *ticket* is the caller's, and unique.

        Who *yields* waits behind others of its priority; submitters take turns, and
        of one submitter's the earliest *deadline*, on trio's clock, goes first.

        Fails with `QueueFull` if too many wait already, over all lanes.
        """
        reply: Reply[Turn] = Reply()
        now = self._clock()
        if lane not in self._board.providers:
            msg = f"there is no provider {lane!r} any more"
            reply.fail(Unavailable(msg, provider=lane))
            return reply
        entrance = self._queue.enter(
            now,
            lane,
            priority,
            ticket,
            yields=yields,
            submitter=whose_turn(submitter),
            deadline=math.inf if deadline is None else deadline,
        )
        match entrance:
            case Turn() as turn:
                reply.send(turn)
            case Waiting():
                self._waiting[ticket] = reply
            case Full(max_size):
                msg = f"{many_wait(max_size)} already"
                reply.fail(QueueFull(msg, retry_after=SOON))
        return reply

    def forget(self, ticket: int) -> None:
        """Take out a caller that gave up waiting; harmless if it did not wait."""
        if self._waiting.pop(ticket, None) is not None:
            self._queue.remove(ticket)

    def leave(self, turn: Turn) -> None:
        """Take *turn* back."""
        self._admit(self._queue.leave(turn))

    def refresh(self) -> None:
        """Take over what the board says of lanes, and give turns that are free now."""
        self._queue.max_size = self._board.queue_max
        self._admit(self._queue.set_lanes(_lanes(self._board)))

    def pause(self) -> None:
        """Give no more turns until `resume`."""
        self._board.paused = True
        self._queue.pause()

    def resume(self) -> None:
        """Give turns again."""
        self._board.paused = False
        self._admit(self._queue.resume())

    def statistics(self) -> QueueStatistics:
        """Return how many run and wait."""
        return self._queue.statistics(self._clock())

    def _admit(self, admitted: list[tuple[int, Turn]]) -> None:
        while admitted:
            ticket, turn = admitted.pop(0)
            reply = self._waiting.pop(ticket)
            if reply.abandoned:
                admitted += self._queue.leave(turn)
            else:
                reply.send(turn)


def _lanes(board: Board) -> Mapping[str, int]:
    return {name: its.max_concurrency for name, its in board.providers.items()}
