"""One answer to one call: given once, awaited by one task."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar, final

import outcome
import trio

R = TypeVar("R")


@final
class Reply(Generic[R]):
    """The answer to one call, now or later.

    A handler that cannot answer yet returns a `Reply`, keeps it, and calls
    `send` or `fail` when it is time. Giving an answer never blocks and never
    fails, whether or not the caller still waits; only the first one counts.
    """

    __slots__ = ("_abandoned", "_forward", "_on_done", "_result", "_source", "_task")

    def __init__(self) -> None:
        self._result: outcome.Maybe[R] | None = None
        self._task: trio.lowlevel.Task | None = None
        self._abandoned = False
        self._forward: Reply[R] | None = None
        self._source: Reply[R] | None = None
        self._on_done: Callable[[Reply[R]], object] | None = None

    @property
    def abandoned(self) -> bool:
        """Whether the caller has given up; an answer would go nowhere."""
        return self._abandoned or (
            self._forward is not None and self._forward.abandoned
        )

    @property
    def settled(self) -> bool:
        """Whether the answer has been given."""
        return self._result is not None

    def send(self, value: R) -> None:
        """Answer with *value*."""
        self.settle(outcome.Value(value))

    def fail(self, error: BaseException) -> None:
        """Answer by raising *error* at the caller."""
        self.settle(outcome.Error(error))

    def settle(self, result: outcome.Maybe[R]) -> None:
        """Answer with an outcome."""
        if self._result is not None:
            return
        self._result = result
        self._be_done()
        if self._forward is not None:
            self._forward.settle(result)
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task)

    def forward_to(
        self, other: Reply[R], on_done: Callable[[Reply[R]], object]
    ) -> None:
        """Answer *other* when this one is answered; for the loop of an actor.

        *on_done* is called when that has happened, or the caller has given up.
        """
        if self._forward is not None:
            msg = "this reply has been promised to another call already"
            raise RuntimeError(msg)
        self._forward = other
        if self._result is not None:
            other.settle(self._result)
        else:
            other._source = self
            self._on_done = on_done

    def _be_done(self) -> None:
        on_done, self._on_done = self._on_done, None
        if on_done is not None:
            on_done(self)

    async def wait(self) -> R:
        """Wait for the answer. A task that is cancelled here has given up on it.

        An answer that was given before the cancellation arrived is not lost:
        it is returned, and the cancellation comes at the next checkpoint.
        """
        if self._result is None:
            if self._task is not None:
                msg = "another task waits for this reply already"
                raise RuntimeError(msg)
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        else:
            await trio.lowlevel.checkpoint()
        return self.unwrap()

    def unwrap(self) -> R:
        """Return the answer that has been given, or raise it, without waiting; once.

        Raises:
            trio.WouldBlock: it has not been given yet.
        """
        if self._result is None:
            raise trio.WouldBlock
        return self._result.unwrap()

    def abandon(self) -> None:
        """Give up on the answer; a message that was not handled yet is skipped.

        An answer that has been given stays given: see `settled`.
        """
        if self._result is None:
            self._abandoned = True
            if self._source is not None:
                self._source._be_done()  # noqa: SLF001 - of our own class

    def _abort(self, _raise_cancel: Callable[[], Any]) -> trio.lowlevel.Abort:
        self._task = None
        self.abandon()
        return trio.lowlevel.Abort.SUCCEEDED

    def __await__(self) -> Generator[Any, Any, R]:
        return self.wait().__await__()

    def __repr__(self) -> str:
        state = "settled" if self.settled else "abandoned" if self.abandoned else "open"
        return f"<Reply {state}>"
