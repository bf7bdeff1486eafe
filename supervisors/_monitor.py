"""Learning of the end of an actor that one does not own: one `Down` for each monitor.

    with monitor(ref) as watch:         # in a task that can wait
        down = await watch.wait()

    notify(ref, me, Manager.worker_down, worker_id)     # in an actor

What is monitored is the incarnation that runs now, as in OTP. If none does, the
`Down` comes at once, with `NotRunning`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeAlias, TypeVar, final

import attrs
import trio

from supervisors._exit import Exit
from supervisors._inbox import Envelope
from supervisors._process import Process
from supervisors._ref import ActorRef

A = TypeVar("A")
P = ParamSpec("P")


@attrs.frozen
class NotRunning:
    """There was nothing to monitor (OTP's ``noproc``)."""


@attrs.frozen
class Down:
    """What was monitored has ended."""

    ref: ActorRef[Any]
    reason: Exit | NotRunning


_Then: TypeAlias = Callable[[Down], None]


@final
class Monitor:
    """Waits for the end of one incarnation of one actor."""

    __slots__ = ("_down", "_event", "_owner", "_process", "_ref", "_then")

    def __init__(
        self,
        ref: ActorRef[Any],
        then: _Then | None = None,
        owner: Process | None = None,
    ) -> None:
        self._ref = ref
        self._owner: Process | None = None
        self._then = then
        self._down: Down | None = None
        self._event = trio.Event()
        process = ref.process
        self._process: Process | None = process
        if process is None or process.exit is not None:
            self._end(NotRunning())
        else:
            process.at_end(self._ended)
            if owner is not None and owner.exit is None:
                self._owner = owner
                owner.at_end(self._owner_ended)

    def demonitor(self) -> None:
        """Do not tell of the end (any more); `wait` would wait for ever."""
        self._then = None
        if self._process is not None:
            self._process.not_at_end(self._ended)
            self._process = None
        self._forget_owner()

    def _forget_owner(self) -> None:
        if self._owner is not None:
            self._owner.not_at_end(self._owner_ended)
            self._owner = None

    def _owner_ended(self, _owner: Process) -> None:
        self._owner = None
        self.demonitor()

    @property
    def down(self) -> Down | None:
        """The end, if it has come."""
        return self._down

    async def wait(self) -> Down:
        """Wait for the end."""
        await self._event.wait()
        assert self._down is not None
        return self._down

    def _ended(self, process: Process) -> None:
        assert process.exit is not None
        self._end(process.exit)

    def _end(self, reason: Exit | NotRunning) -> None:
        self._process = None
        self._forget_owner()
        self._down = Down(self._ref, reason)
        self._event.set()
        then, self._then = self._then, None
        if then is not None:
            then(self._down)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.demonitor()


def monitor(ref: ActorRef[Any]) -> Monitor:
    """Watch the incarnation of *ref* that runs now."""
    return Monitor(ref)


def notify(
    ref: ActorRef[Any],
    listener: ActorRef[A],
    method: Callable[Concatenate[A, Down, P], object],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> Monitor:
    """Watch *ref*; have ``method(listener, down, *args)`` run when it has ended.

    The message is a control message: it comes ahead of others, and a full inbox
    does not keep it off. The monitor belongs to the incarnation of the listener
    that runs now, and ends with it.
    """

    def then(down: Down) -> None:
        if not listener.is_retired:
            message = Envelope(method, (down, *args), kwargs)
            listener.inbox.put_ahead(message)

    return Monitor(ref, then, listener.process)
