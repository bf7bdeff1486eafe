"""A trio loop that stands still between the calls of an ordinary function.

It is driven by trio's public guest mode, in the caller's own thread: nothing
in it happens but while `GuestLoop.run` or `GuestLoop.close` is being called.
"""

from __future__ import annotations

import queue
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn, TypeVar

import attrs
import trio
import trio.testing

from supervisors.testing._groups import control_flow_in, is_cancelled, only_error_in
from supervisors.testing._hook import Order, bury, check_trio, ordered_by
from supervisors.testing._limits import Limits
from supervisors.testing._outcome import Raised, Returned

T = TypeVar("T")


class LoopEnded(RuntimeError):
    """The loop has ended, so nothing can be run in it any more."""


@attrs.define(eq=False)
class _Job:
    """What to do in the loop, and what has become of it."""

    afn: Callable[[], Awaitable[Any]]
    done: Returned[Any] | Raised | None = None


class GuestLoop:
    """A trio loop with a mock clock, whose order of steps may be changed on the way.

    *main* gets ``serve``, an async function that carries out the jobs until
    `close` is called. A failure of *main* is raised by whatever is called then.
    """

    def __init__(
        self,
        main: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]],
        *,
        order: Order,
        max_steps: int,
        timeout: float,
        instruments: Sequence[trio.abc.Instrument] = (),
    ) -> None:
        check_trio()
        self.order = order
        clock = trio.testing.MockClock(autojump_threshold=0)
        self._main = main
        self._scope = trio.CancelScope()
        self._limits = Limits(clock, max_steps, timeout)
        self._ticks = queue.SimpleQueue[Callable[[], object]]()
        self._ended: Returned[None] | Raised | None = None
        self._job: _Job | None = None
        self._ready = False
        self._closing = False
        self._wake = trio.Event()
        trio.lowlevel.start_guest_run(
            self._run_main,
            run_sync_soon_threadsafe=self._ticks.put,
            run_sync_soon_not_threadsafe=self._ticks.put,
            done_callback=self._set_ended,
            clock=clock,
            instruments=list(instruments),
        )
        try:
            self._turn_until(lambda: self._ready)
            if not self._ready:
                self._raise_end()
        except BaseException:
            self._break_off()
            raise

    def run(self, afn: Callable[[], Awaitable[T]]) -> T:
        """Run ``afn()`` in the loop until it ends; return its value or raise its failure.

        Raises:
            SimulationStuck: it came to no end within its limits.
            LoopEnded: the loop has ended.
        """
        job = _Job(afn)
        if self._ended is None:
            self._job = job
            self._wake.set()
            self._turn_until(lambda: job.done is not None)
        if job.done is None:
            self._raise_end()
        value: T = job.done.unwrap()
        return value

    def close(self) -> None:
        """End the loop, however it is, and raise the failure of *main*, if any.

        After it no loop runs in this thread, whatever it raises.
        """
        if self._ended is not None:
            return
        self._closing = True
        if self._job is not None:
            # Ctrl-C came between two steps of it.
            self._scope.cancel()
        self._wake.set()
        try:
            self._turn_until(lambda: False)
        except BaseException:
            self._break_off()
            raise
        self._raise_failure()

    def _turn_until(self, is_enough: Callable[[], bool]) -> None:
        with ordered_by(self._limits.limit(self._current_order)):
            while self._ended is None and not is_enough():
                self._ticks.get()()

    def _current_order(
        self, tasks: Sequence[trio.lowlevel.Task]
    ) -> Sequence[trio.lowlevel.Task]:
        return self.order(tasks)

    def _break_off(self) -> None:
        self._scope.cancel()
        self._closing = True
        self._turn_until(lambda: False)

    def _set_ended(self, result: Any) -> None:
        try:
            result.unwrap()
        except BaseException as error:  # noqa: ASYNC103, BLE001 - raised to whoever runs the loop
            bury(error)
            self._ended = Raised(error)
        else:
            self._ended = Returned(None)

    def _raise_end(self) -> NoReturn:
        self._raise_failure()
        msg = "the loop has ended"
        raise LoopEnded(msg)

    def _raise_failure(self) -> None:
        if self._limits.stuck is not None:
            raise self._limits.stuck_after(self._ended)
        if isinstance(self._ended, Raised):
            raise only_error_in(self._ended.error)

    # In the loop.

    async def _run_main(self) -> None:
        with self._scope:
            self._limits.arm(self._scope)
            await self._main(self._serve)

    async def _serve(self) -> None:
        self._limits.disarm()
        self._ready = True
        try:
            while not self._closing:
                await self._wake.wait()
                self._wake = trio.Event()
                if self._job is not None:
                    self._job.done = await self._carry_out(self._job.afn)
                    self._job = None
        finally:
            # What follows is the end of all, in order or not: it has its limits too.
            self._limits.arm(self._scope)

    async def _carry_out(
        self, afn: Callable[[], Awaitable[Any]]
    ) -> Returned[Any] | Raised:
        done: Returned[Any] | Raised | None = None
        try:
            with trio.CancelScope() as scope:
                self._limits.arm(scope)
                done = Returned(await afn())
        except BaseException as error:  # noqa: ASYNC103 - raised to whoever gave us the job
            if is_cancelled(error):
                raise
            done = Raised(control_flow_in(error))
        finally:
            self._limits.disarm()
        if self._limits.stuck is not None:
            return Raised(self._limits.stuck)
        assert done is not None
        return done
