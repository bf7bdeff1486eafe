"""Tasks: async functions that run as supervised children, and have a result.

    tasks = TaskSupervisor("tasks")
    spec = SupervisorSpec(children=[task_supervisor(tasks)])
    ...
    task = await tasks.async_nolink(fetch, url)
    page = await task.wait()

Elixir's Task.Supervisor. An actor that must not wait gives long work to a task;
a crash of the task is an event, and an error for who waits, but ends nobody else.

    running ──> done:   a value │ TaskDied │ TaskStopped
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from typing import Generic, ParamSpec, TypeVar, final

import trio
from outcome import Error, Maybe, Value

from supervisors._dynamic import DynamicSupervisor, dynamic_supervisor
from supervisors._errors import (
    ActorStopped,
    ChildNotFound,
    Ignore,
    TaskDied,
    TaskStopped,
    TaskTimedOut,
)
from supervisors._exit import Crashed, Exit
from supervisors._inspect import ChildCount, ChildInfo
from supervisors._process import KILL_GRACE, Process
from supervisors._spec import ChildSpec, Restart, Shutdown, ShutdownTime
from supervisors._stream import OnTimeout, TaskStream, open_stream

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


@final
class Task(Generic[R]):
    """A function that runs, or has run, as a child of a `TaskSupervisor`."""

    def __init__(
        self,
        name: str,
        call: Callable[[], Awaitable[R]],
        supervisor: DynamicSupervisor,
        on_done: Callable[[Task[R]], None] | None = None,
    ) -> None:
        self.name = name
        """The id of the child."""
        self._call: Callable[[], Awaitable[R]] | None = call
        self._supervisor = supervisor
        self._on_done = on_done
        self._process: Process | None = None
        """As long as it runs."""
        self._exit: Exit | None = None
        self._unwanted = False
        self._limit: float | None = None
        """The seconds that it took too long for."""
        self._returned: Value[R] | None = None
        self._ended = trio.Event()

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self._ended.is_set()

    @property
    def outcome(self) -> Maybe[R]:
        """What `wait` returns or raises, as a value.

        Raises:
            trio.WouldBlock: the task still runs.
        """
        if not self.done:
            raise trio.WouldBlock
        if self._returned is not None:
            return self._returned
        return Error(self._error())

    async def wait(self) -> R:
        """Wait for the end; return the function's value.

        Any number of tasks may wait. If one of them is cancelled, this task is not.

        Raises:
            TaskDied: the function raised; that is the ``__cause__``.
            TaskStopped: it was cancelled, or its supervisor has stopped.
        """
        await self._ended.wait()
        if self._returned is not None:
            return self._returned.value
        raise self._error()

    def cancel(self) -> None:
        """Cancel the function; does not wait for its end."""
        self._unwanted = True
        if self._process is not None:
            self._process.stop()

    async def shutdown(self, seconds: float = 5.0) -> None:
        """Cancel the function and wait for its end.

        If it has not ended after *seconds* it is cancelled again; if it ignores
        that too, its supervisor gives it up (`ChildUnkillable`).
        """
        self.cancel()
        process = self._process
        if process is None:
            await trio.lowlevel.checkpoint()
            return
        with trio.move_on_after(seconds):
            await self._ended.wait()
            return
        process.kill()
        with trio.move_on_after(KILL_GRACE):
            await self._ended.wait()
            return
        # Only its supervisor can go on without it, which is busy with that.
        with suppress(ActorStopped, ChildNotFound):
            await self._supervisor.terminate_child(self.name)
        await self._ended.wait()

    def __repr__(self) -> str:
        state = "running" if not self.done else type(self.outcome).__name__.lower()
        return f"<Task {self.name!r}, {state}>"

    # For `TaskSupervisor` and `TaskStream`.

    async def start(self, shutdown: ShutdownTime) -> None:
        """Start it; if that is cancelled, it does not run, or is cancelled too."""
        spec = ChildSpec(
            id=self.name,
            body=self._run,
            restart=Restart.TEMPORARY,
            shutdown=shutdown,
        )
        try:
            id_ = await self._supervisor.start_child(spec)
        except BaseException:
            # Nobody would know that it runs.
            self.cancel()
            raise
        assert id_ is not None
        self.name = id_

    async def wait_done(self) -> None:
        """Wait for the end, whatever it is."""
        await self._ended.wait()

    @property
    def has_begun(self) -> bool:
        """Whether the function has been called."""
        return self._process is not None or self.done

    def time_out(self, seconds: float) -> None:
        """Cancel it, for it has taken longer than *seconds*."""
        self._limit = seconds
        self.cancel()

    async def _run(self, process: Process) -> None:
        # What it was called with is not kept with the result.
        call, self._call = self._call, None
        if self._unwanted or call is None:
            raise Ignore
        self._process = process
        process.at_end(self._end)
        process.started()
        value = await call()
        if not self.done:
            # What was given up as unkillable has an outcome already.
            self._returned = Value(value)

    def _end(self, process: Process) -> None:
        self._process, self._exit = None, process.exit
        if isinstance(process.exit, Crashed):
            self._returned = None
        self._ended.set()
        if self._on_done is not None:
            self._on_done(self)

    def _error(self) -> TaskDied | TaskStopped:
        """Return a new error: each that waits gets its own traceback."""
        exit_ = self._exit
        if isinstance(exit_, Crashed):
            # The name only: what an exception says may be a secret.
            kind = type(exit_.error).__name__
            died = TaskDied(self.name, f"task {self.name!r} died: {kind}")
            died.__cause__ = exit_.error
            return died
        if self._limit is not None:
            return TaskTimedOut(
                self.name, f"task {self.name!r} took longer than {self._limit:g} s"
            )
        return TaskStopped(
            self.name, f"task {self.name!r} was stopped before it had a result"
        )


@final
class TaskSupervisor:
    """The handle of a supervisor of tasks.

    Make it, give `task_supervisor(handle)` to the supervisor above it, and use
    it from anywhere. Tasks are temporary children: none is restarted. Those that
    run when the supervisor stops are cancelled, and have *shutdown* to end.
    """

    def __init__(
        self, name: str, *, max_children: int | None = None, shutdown: float = 5.0
    ) -> None:
        self.supervisor = DynamicSupervisor(name, max_children=max_children)
        """The handle of the supervisor below."""
        self._shutdown = shutdown

    @property
    def name(self) -> str:
        """The id among its siblings."""
        return self.supervisor.name

    async def async_nolink(
        self,
        function: Callable[P, Awaitable[R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Task[R]:
        """Run ``function(*args, **kwargs)`` as a child; return its `Task` at once.

        The caller does not end with the task, nor the task with the caller.

        Raises:
            TooManyChildren: ``max_children`` run already.
            ActorStopped: the supervisor is not running.
        """
        task = self._task(partial(function, *args, **kwargs), _name_of(function))
        await task.start(self._shutdown)
        return task

    async def start_child(
        self,
        function: Callable[P, Awaitable[object]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> str:
        """Run ``function(*args, **kwargs)`` as a child; return its id.

        Nobody waits for it: a crash is reported as a `ChildTerminated` event.
        Raises as `async_nolink`.
        """
        task = await self.async_nolink(function, *args, **kwargs)
        return task.name

    def async_stream(
        self,
        function: Callable[[T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        max_concurrency: int,
        ordered: bool = True,
        timeout: float | None = None,
        on_timeout: OnTimeout | str = OnTimeout.EXIT,
    ) -> AbstractAsyncContextManager[TaskStream[R]]:
        """Run ``function(item)`` for every item, a few at once; a block for the outcomes.

            async with tasks.async_stream(fetch, urls, max_concurrency=4) as pages:
                async for page in pages:
                    ...  # an outcome.Value or an outcome.Error for each

        An error is a `TaskDied` or a `TaskStopped`, as `Task.wait` raises them.
        Between the items and you there are never more than *max_concurrency*,
        running or done: an item is taken when there is room for its outcome. So
        with *ordered* a slow one holds up those behind it. What *items* itself
        raises, and an error of a start, is raised behind the outcomes of the
        items before.

        Leaving the block cancels what runs, waits for its end, and closes *items*
        if it is an async generator.

        Args:
            max_concurrency: how many, at least 1.
            ordered: outcomes come in the order of the items, else as they are done.
            timeout: seconds that each may take.
            on_timeout: `OnTimeout.EXIT` raises `TaskTimedOut` where the outcome
                would come, `OnTimeout.KILL_TASK` makes it the outcome.
        """

        def make(item: T, on_done: Callable[[Task[R]], None]) -> Task[R]:
            return self._task(partial(function, item), _name_of(function), on_done)

        stream: TaskStream[R] = TaskStream(
            max_concurrency,
            ordered=ordered,
            limit=timeout,
            on_timeout=OnTimeout(on_timeout),
            shutdown=self._shutdown,
        )
        return open_stream(make, items, stream)

    async def terminate_child(self, id: str) -> None:  # noqa: A002 - OTP's word
        """Stop a task. Raises as `DynamicSupervisor.terminate_child`."""
        await self.supervisor.terminate_child(id)

    async def which_children(self) -> tuple[ChildInfo, ...]:
        """Return the tasks that run. Raises as `DynamicSupervisor.which_children`."""
        return await self.supervisor.which_children()

    async def count_children(self) -> ChildCount:
        """Return how many run. Raises as `DynamicSupervisor.count_children`."""
        return await self.supervisor.count_children()

    def _task(
        self,
        call: Callable[[], Awaitable[R]],
        name: str,
        on_done: Callable[[Task[R]], None] | None = None,
    ) -> Task[R]:
        return Task(name, call, self.supervisor, on_done)

    def __repr__(self) -> str:
        return f"<TaskSupervisor {self.name!r}>"


def task_supervisor(
    handle: TaskSupervisor,
    *,
    restart: Restart = Restart.PERMANENT,
    shutdown: ShutdownTime = Shutdown.INFINITY,
) -> ChildSpec:
    """Describe a task supervisor as a child of another supervisor."""
    return dynamic_supervisor(handle.supervisor, restart=restart, shutdown=shutdown)


def _name_of(function: Callable[..., object]) -> str:
    return getattr(function, "__name__", "task")
