"""A stream of outcomes: one task for each item, bounded in what runs and what waits.

    items ── room? ──> task runs ──> done, waits ──> taken by `async for`
               ^                                        │
               └──────────── makes room ────────────────┘

There is one limit for all that is between the items and the consumer. So a slow
consumer, and a slow item that others must wait for, slow down the source.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Callable,
    Iterable,
)
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Generic, Self, TypeAlias, TypeVar, final

import attrs
import outcome
import trio

from supervisors._errors import TaskTimedOut

if TYPE_CHECKING:
    from supervisors._task import Task

R = TypeVar("R")
T = TypeVar("T")

_Make: TypeAlias = "Callable[[T, Callable[[Task[R]], None]], Task[R]]"


class OnTimeout(enum.Enum):
    """What a task that takes too long is to the consumer of a stream."""

    EXIT = "exit"
    """Its end: `TaskTimedOut` is raised."""
    KILL_TASK = "kill_task"
    """An outcome like others: the error is `TaskTimedOut`."""


@attrs.frozen(kw_only=True)
class StreamStatistics:
    """What is between the items and the consumer."""

    running: int
    """Tasks that run."""
    waiting: int
    """Outcomes that nobody has taken yet."""


@final
class TaskStream(Generic[R]):
    """The outcomes of a `TaskSupervisor.async_stream`, one for each item."""

    def __init__(
        self,
        max_concurrency: int,
        *,
        ordered: bool,
        limit: float | None,
        on_timeout: OnTimeout,
        shutdown: float,
    ) -> None:
        if max_concurrency < 1:
            msg = f"max_concurrency must be at least 1, not {max_concurrency!r}"
            raise ValueError(msg)
        self._ordered = ordered
        self._limit = limit
        self._on_timeout = on_timeout
        self._shutdown = shutdown
        self._room = trio.Semaphore(max_concurrency, max_value=max_concurrency)
        self._running: dict[Task[R], None] = {}
        self._next: deque[Task[R]] = deque()
        """In the order in which they will be taken, done or not."""
        self._exhausted = False
        self._error: BaseException | None = None
        """What ended the items before their end."""
        self.failure: BaseException | None = None
        """What the block ends with, whoever consumes."""
        self._closed = False
        self._consumers = trio.lowlevel.ParkingLot()
        # It is shielded: what is below ends when the block ends, and not before.
        self._scope = trio.CancelScope(shield=True)

    # The consumer's side.

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> outcome.Maybe[R]:
        await trio.lowlevel.checkpoint()
        while not (self._next and self._next[0].done):
            if self._closed:
                msg = "the block of this stream has been left"
                raise trio.ClosedResourceError(msg)
            if self._exhausted and not self._next and not self._running:
                self._raise_error()
                raise StopAsyncIteration
            await self._consumers.park()
        task = self._next.popleft()
        self._room.release()
        self._consumers.unpark_all()
        result = task.outcome
        if (
            self._on_timeout is OnTimeout.EXIT
            and isinstance(result, outcome.Error)
            and isinstance(result.error, TaskTimedOut)
        ):
            raise result.error
        return result

    def statistics(self) -> StreamStatistics:
        """Return what is under way."""
        done = sum(task.done for task in self._next)
        return StreamStatistics(running=len(self._running), waiting=done)

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    # The items' side.

    async def run(
        self,
        make: _Make[T, R],
        items: Iterable[T] | AsyncIterable[T],
        cancel_block: Callable[[], None],
    ) -> None:
        """Start a task for every item, until the stream is closed."""
        with self._scope:
            async with trio.open_nursery() as limits:
                try:
                    await self._start_all(make, items, limits)
                except (Exception, *_INTERRUPTS) as error:  # noqa: BLE001 - the consumer gets it, in its turn
                    if self._closed or not isinstance(error, Exception):
                        # There is no consumer any more, or no time until its turn.
                        self.failure = error
                        cancel_block()
                    else:
                        self._error = error
                finally:
                    self._exhausted = True
                    self._consumers.unpark_all()

    async def _start_all(
        self,
        make: _Make[T, R],
        items: Iterable[T] | AsyncIterable[T],
        limits: trio.Nursery,
    ) -> None:
        source = aiter(items if isinstance(items, AsyncIterable) else _each(items))
        try:
            while True:
                await self._room.acquire()
                try:
                    item = await anext(source)
                except StopAsyncIteration:
                    return
                await self._start(make(item, self._done), limits)
        finally:
            if isinstance(source, AsyncGenerator):
                # When it is cancelled, what must wait in it shields itself.
                await source.aclose()  # noqa: ASYNC102

    async def _start(self, task: Task[R], limits: trio.Nursery) -> None:
        self._running[task] = None
        if self._ordered:
            self._next.append(task)
        try:
            await task.start(self._shutdown)
        except BaseException:
            if not task.has_begun:
                del self._running[task]
                if self._ordered:
                    self._next.remove(task)
            # Else it is being cancelled, and `_done` will be called.
            raise
        if self._limit is not None and not task.done:
            limits.start_soon(self._enforce_limit, task, self._limit)

    async def _enforce_limit(self, task: Task[R], seconds: float) -> None:
        with trio.move_on_after(seconds):
            await task.wait_done()
        if not task.done:
            task.time_out(seconds)
            await task.shutdown(self._shutdown)

    def _done(self, task: Task[R]) -> None:
        del self._running[task]
        if not self._ordered:
            self._next.append(task)
        self._consumers.unpark_all()

    async def close(self) -> None:
        """Cancel what runs, and wait for its end."""
        self._closed = True
        self._scope.cancel()
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for task in self._running:
                    nursery.start_soon(task.shutdown, self._shutdown)
        self._next.clear()
        self._consumers.unpark_all()


@asynccontextmanager
async def open_stream(
    make: _Make[T, R],
    items: Iterable[T] | AsyncIterable[T],
    stream: TaskStream[R],
) -> AsyncGenerator[TaskStream[R]]:
    """Run *stream* for the length of a block; see `TaskSupervisor.async_stream`."""
    mine: BaseException | None = None
    async with trio.open_nursery() as nursery:
        cancel_block = nursery.cancel_scope.cancel
        nursery.start_soon(stream.run, make, items, cancel_block)  # noqa: ASYNC113 - the stream waits for what it does
        try:
            yield stream
        except BaseException as error:  # noqa: ASYNC103, BLE001 - raised below: our nursery must not wrap it
            mine = error
        finally:
            await stream.close()  # noqa: ASYNC102 - it shields itself, with a limit
    if stream.failure is not None:
        raise stream.failure from mine
    if mine is not None:
        raise mine


async def _each(items: Iterable[T]) -> AsyncGenerator[T]:
    for item in items:
        await trio.lowlevel.checkpoint()
        yield item


_INTERRUPTS = (KeyboardInterrupt, SystemExit)
