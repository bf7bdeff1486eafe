"""A coroutine driven by hand, one trap of trio's after the other, to count its waits.

What stands between a task and its coroutine sees each wait begin and end
without a name that trio keeps to itself. It shows the frames of what it drives,
so that a task's stack can still be read (`trio.lowlevel.Task.iter_await_frames`).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from types import CoroutineType, FrameType
from typing import Any, cast, final

import trio


@final
class Driven(Generator[Any, Any, None]):
    """Awaits *coroutine*; calls *on_wait* before each of its waits.

    What *on_wait* returns is a rest in seconds, 0 for none: so much later the
    coroutine learns that its wait is over. A cancellation that comes in the
    rest only ends it. The wait has succeeded, and trio never cancels such a
    one; it delivers the cancellation again at the next checkpoint.
    """

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, None],
        on_wait: Callable[[], float],
    ) -> None:
        self._coroutine = coroutine
        self._on_wait = on_wait
        self._seconds = 0.0
        self._rest: Coroutine[Any, Any, None] | None = None
        self._resume: Callable[[], Any] = lambda: coroutine.send(None)
        """Goes on with the coroutine when the rest is over."""

    def __await__(self) -> Generator[Any, Any, None]:
        return self

    def send(self, value: Any, /) -> Any:
        """Go on with the outcome of the wait."""
        if self._rest is not None:
            rest = self._rest
            return self._after(lambda: rest.send(value))
        self._resume = lambda: self._coroutine.send(value)
        if self._seconds:
            seconds, self._seconds = self._seconds, 0.0
            self._rest = rest = _sleep(seconds)
            return self._after(lambda: rest.send(None))
        return self._step()

    def throw(self, error: Any, /, *_old_style: Any) -> Any:
        """Go on with *error*, and without a rest: it does not come from a wait."""
        self._rest = None
        self._seconds = 0.0
        self._resume = lambda: self._coroutine.throw(error)
        return self._step()

    def _after(self, rest: Callable[[], Any]) -> Any:
        """Rest once more; go on with the coroutine if that was the end of it."""
        interrupt: BaseException | None = None
        try:
            return rest()
        except StopIteration:
            self._rest = None
        except BaseException as error:  # noqa: ASYNC103, BLE001 - the coroutine gets it (Ctrl-C)
            interrupt = error
        return self._step() if interrupt is None else self.throw(interrupt)

    def _step(self) -> Any:
        trap = self._resume()
        self._seconds = self._on_wait()
        return trap

    @property
    def cr_frame(self) -> FrameType | None:
        """The frame of what is driven; its name is the coroutine's own."""
        return cast("CoroutineType[Any, Any, None]", self._coroutine).cr_frame

    @property
    def cr_await(self) -> Any:
        """What that awaits."""
        return cast("CoroutineType[Any, Any, None]", self._coroutine).cr_await


async def _sleep(seconds: float) -> None:
    with suppress(trio.Cancelled):
        await trio.sleep(seconds)
