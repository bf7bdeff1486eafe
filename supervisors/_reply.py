"""One answer to one call: given once, awaited by one task; and what follows it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast, final

import outcome
import trio

A = TypeVar("A")
P = ParamSpec("P")
R = TypeVar("R")


@final
class Reply(Generic[R]):
    """The answer to one call, now or later.

    A handler that cannot answer yet returns a `Reply`, keeps it, and calls
    `send` or `fail` when it is time. Giving an answer never blocks and never
    fails, whether or not the caller still waits; only the first one counts.
    """

    __slots__ = (
        "_abandoned",
        "_error",
        "_forward",
        "_on_done",
        "_settled",
        "_source",
        "_task",
        "_value",
    )

    def __init__(self) -> None:
        self._settled = False
        self._value: R | None = None
        self._error: BaseException | None = None
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
        return self._settled

    def send(self, value: R) -> None:
        """Answer with *value*."""
        self._settle(value, None)

    def fail(self, error: BaseException) -> None:
        """Answer by raising *error* at the caller."""
        self._settle(None, error)

    def settle(self, result: outcome.Maybe[R]) -> None:
        """Answer with an outcome."""
        if isinstance(result, outcome.Error):
            self._settle(None, result.error)
        else:
            self._settle(result.value, None)

    def _settle(self, value: R | None, error: BaseException | None) -> None:
        if self._settled:
            return
        self._settled = True
        self._value = value
        self._error = error
        if self._on_done is not None:
            self._be_done()
        if self._forward is not None:
            self._forward._settle(value, error)  # noqa: SLF001 - of our own class
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
        if self._settled:
            other._settle(self._value, self._error)
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
        if not self._settled:
            if self._task is not None:
                msg = "another task waits for this reply already"
                raise RuntimeError(msg)
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        else:
            await trio.lowlevel.checkpoint()
        return self.unwrap()

    def unwrap(self) -> R:
        """Return the answer that has been given, or raise it, without waiting.

        Raises:
            trio.WouldBlock: it has not been given yet.
        """
        if not self._settled:
            raise trio.WouldBlock
        error = self._error
        if error is None:
            return cast("R", self._value)
        try:
            raise error
        finally:
            # A frame in its own traceback must not keep the error alive.
            del error, self

    def abandon(self) -> None:
        """Give up on the answer; a message that was not handled yet is skipped.

        An answer that has been given stays given: see `settled`.
        """
        if not self._settled:
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


@final
class Continue(Generic[R]):
    """A handler's result, and what the actor does before its next message.

    OTP's ``{reply, Value, State, {continue, Arg}}``: the caller is answered with
    *value* at once, then ``method(actor, *args)`` runs, ahead of everything:

        def put(self, item) -> Continue[int]:
            self.items.append(item)
            return Continue(len(self.items), Store.flush)

    An actor that has a method ``handle_continue`` has it called so after init. A
    polite stop waits until nothing is left to continue with.
    """

    __slots__ = ("args", "kwargs", "method", "value")

    def __init__(
        self,
        value: R,
        method: Callable[Concatenate[Any, P], object],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        self.value = value
        self.method: Callable[..., object] = method
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs

    def __await__(self) -> Generator[Any, Any, R]:
        """For type checkers: the value of a call is what it is continued with."""
        msg = "a Continue is what a handler returns; it cannot be awaited"
        raise TypeError(msg)

    def __repr__(self) -> str:
        name = getattr(self.method, "__qualname__", repr(self.method))
        return f"Continue({self.value!r}, {name})"
