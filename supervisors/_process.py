"""One incarnation of a child: a task with its own shielded scope, and its end.

    starting ── started() ──> running ── stop() ──> stopping ──> ended
        └── raised: the start failed; `Ignore`: not needed ───────^

All tasks of a tree live in one flat nursery, so a child that will not stop
cannot hold the nursery of its supervisor open. The scope is shielded: an outer
cancellation must not reach all children at once, but through their
supervisors, in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, final

import attrs
import trio

from supervisors._errors import CleanExit, Ignore
from supervisors._events import (
    ChildStarted,
    ChildUnkillable,
    EventHook,
    StillRunning,
    emit,
    ignore,
)
from supervisors._exit import Exit, Killed, Normal, ShutDown, cause_of, exit_of
from supervisors._probe import Probe, chance, current_probe
from supervisors._spec import Body, Shutdown, ShutdownTime

if TYPE_CHECKING:
    from supervisors._child import Child

#: Seconds that a cancelled child gets before it is given up as unkillable.
KILL_GRACE = 5.0


@attrs.define(eq=False)
class Tree:
    """What all supervisors of one tree share."""

    nursery: trio.Nursery
    on_event: EventHook
    interrupt: BaseException | None = None
    """A KeyboardInterrupt or SystemExit from a child, on its way to the top."""
    stop: Callable[[], None] | None = None
    """Asks the root supervisor to end the tree."""
    chance: Callable[[], float] = attrs.field(factory=chance.get)
    """From 0 to 1, for the jitter of a `Backoff`."""
    probe: Probe | None = attrs.field(factory=current_probe)
    abandoned: list[Process] = attrs.field(factory=list["Process"])
    """What ignores its cancellation, and still runs."""

    def interrupted(self, interrupt: BaseException) -> None:
        """End the tree in order; whoever runs it raises *interrupt* then."""
        self.interrupt = interrupt
        if self.stop is not None:
            self.stop()

    def report_abandoned(self) -> None:
        """Say which children the end of the tree has to wait for."""
        left = [ChildUnkillable(each.path, each.stack()) for each in self.abandoned]
        if left:
            emit(self.on_event, StillRunning(tuple(left)))


class Driver(Protocol):
    """Who runs inside a process and knows better than to be cancelled."""

    def stop(self) -> None:
        """End, in order (a polite stop)."""
        ...

    def crash(self) -> None:
        """Break off what is being done; then `Process.raise_if_crashed`."""
        ...

    def abandon(self) -> None:
        """Learn that nobody waits for the process any more."""
        ...


class Parent(Driver, Protocol):
    """A driver with processes of its own below it."""

    def kill(self, all_below: bool) -> None:
        """End at once, and with it the workers below, or everything."""
        ...


@final
class Process:
    """One incarnation of a child."""

    __slots__ = (
        "_at_end",
        "_child",
        "_crash",
        "_done",
        "_killed",
        "_on_exit",
        "_scope",
        "_starter",
        "_task",
        "driver",
        "exit",
        "halted",
        "ignored",
        "is_started",
        "on_stop",
        "parent",
        "path",
        "stopping",
        "tree",
    )

    def __init__(
        self,
        tree: Tree,
        path: str,
        child: Child,
        on_exit: Callable[[Child, Process], None],
    ) -> None:
        self.tree = tree
        self.path = path
        self.exit: Exit | None = None
        self.is_started = False
        self.ignored = False
        self.stopping = False
        """It has been asked to end."""
        self.halted = False
        """Whatever it does is to be broken off: it stops, or crashes."""
        self.on_stop: Callable[[], None] | None = None
        """What a polite stop does without a driver; the default is to cancel the task."""
        self.driver: Driver | None = None
        self.parent: Parent | None = None
        """The driver again, if it has processes of its own."""
        self._child = child
        self._on_exit: Callable[[Child, Process], None] | None = on_exit
        self._at_end: list[Callable[[Process], None]] | None = None
        self._killed = False
        self._crash: BaseException | None = None
        self._scope = trio.CancelScope(shield=True)
        self._starter: trio.lowlevel.Task | None = None
        self._done: trio.Event | None = None
        self._task: trio.lowlevel.Task | None = None

    async def start(self, body: Body) -> bool:
        """Run *body* in a task of its own; return when it has started.

        Returns False if it has ended instead: see ``exit`` and ``ignored``.
        """
        self.tree.nursery.start_soon(self._run, body, name=self.path)
        self._starter = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._starter_gives_up)
        return self.is_started and self.exit is None

    def started(self) -> None:
        """Tell the supervisor that init is done; called by the body."""
        if self.is_started:
            return
        self.is_started = True
        if self.tree.on_event is not ignore:
            # Here, and not when the supervisor goes on: before anything it does.
            number = self._child.incarnations
            emit(self.tree.on_event, ChildStarted(self.path, number))
        self._wake_starter()

    def _wake_starter(self) -> None:
        starter, self._starter = self._starter, None
        if starter is not None:
            trio.lowlevel.reschedule(starter)

    def _starter_gives_up(self, _raise_cancel: object) -> trio.lowlevel.Abort:
        self._starter = None
        return trio.lowlevel.Abort.SUCCEEDED

    async def _run(self, body: Body) -> None:
        self._task = trio.lowlevel.current_task()
        error: BaseException | None = None
        probe = self.tree.probe
        try:
            with self._scope:
                await (body(self) if probe is None else probe.run(self, body))
        except Ignore as ignore:
            self.ignored = not self.is_started
            error = None if self.ignored else ignore
        except BaseException as raised:  # noqa: ASYNC103, BLE001 - the exit value carries it on; our shielded scope has taken its own Cancelled
            error = raised
        self._task = None
        exit_ = self._how_it_ended(error)
        if self.exit is None:
            self.exit = exit_
            self._child.gave_up = (
                error.__cause__ if isinstance(error, CleanExit) else None
            )
        else:
            self.tree.abandoned.remove(self)
        cause = cause_of(exit_)
        if cause is not None and not isinstance(cause, Exception):
            # Ctrl-C and sys.exit() are not for a supervisor to repair.
            self.tree.interrupted(cause)
        if self._at_end is not None:
            # Whoever watches it, and its names, before its supervisor.
            self._be_at_end()
        self._wake_starter()
        if self._done is not None:
            self._done.set()
        if self.is_started and self._on_exit is not None:
            self._on_exit(self._child, self)

    def at_end(self, callback: Callable[[Process], None]) -> None:
        """Call *callback* once, without waiting, when the task has ended.

        It is called before the supervisor learns of the end.
        """
        if self._at_end is None:
            self._at_end = []
        self._at_end.append(callback)

    def not_at_end(self, callback: Callable[[Process], None]) -> None:
        """Take back an `at_end`."""
        if self._at_end is not None and callback in self._at_end:
            self._at_end.remove(callback)

    def _be_at_end(self) -> None:
        callbacks, self._at_end = self._at_end or (), None
        for callback in callbacks:
            # The nursery is the whole tree's: no watcher's mistake may reach it.
            emit(callback, self)

    def _how_it_ended(self, error: BaseException | None) -> Exit:
        if error is None and self._crash is not None:
            error = self._crash
        if error is not None:
            return exit_of(error)
        if self._killed and (self.parent is not None or self._scope.cancelled_caught):
            return Killed()
        return ShutDown() if self.stopping else Normal()

    def stop(self) -> None:
        """Ask the child to end (OTP's exit signal ``shutdown``)."""
        self.stopping = self.halted = True
        if not self.is_started:
            self._scope.cancel()
        elif self.driver is not None:
            self.driver.stop()
        elif self.on_stop is not None:
            self.on_stop()
        else:
            self._scope.cancel()

    def kill(self, *, all_below: bool = False) -> None:
        """Cancel the child, whatever it does (OTP's exit signal ``kill``).

        Of a supervisor's children the workers are killed with it, while
        supervisors stop theirs in order, unless *all_below* is to go.
        """
        self._killed = self.halted = True
        if self.parent is not None:
            self.parent.kill(all_below)
        else:
            self._scope.cancel()

    def orphan(self) -> None:
        """Go down with the supervisor, which is being killed."""
        if self.parent is None:
            self.kill()
        else:
            self._killed = True
            self.stop()

    def crash(self, error: BaseException) -> None:
        """End the child as if what it is doing had raised *error*."""
        self._crash = error
        self.halted = True
        if self.driver is not None and self.is_started:
            self.driver.crash()
        else:
            self._scope.cancel()

    @property
    def may_finish(self) -> bool:
        """Whether it has time for what it must still do: it runs, or stops politely."""
        return self.exit is None and not self._killed and self._crash is None

    def raise_if_crashed(self) -> None:
        """Raise the error of `crash`; for a body that was broken off by it."""
        if self._crash is not None:
            raise self._crash

    async def terminate(self, shutdown: ShutdownTime) -> Exit:
        """Stop the child: ask, wait for *shutdown*, cancel, wait for its end."""
        if self.exit is None and shutdown is not Shutdown.BRUTAL_KILL:
            self.stop()
            await self._wait(None if isinstance(shutdown, Shutdown) else shutdown)
        self.enforce(shutdown)
        return await self.end_by(trio.current_time() + KILL_GRACE)

    def enforce(self, shutdown: ShutdownTime) -> None:
        """Kill the child, for its time is over."""
        if self.exit is None and not (shutdown == 0 and self._scope.cancel_called):
            # Without any time the request itself is the end: if that was a
            # cancellation, there is nothing to add to it.
            self.kill()

    async def end_by(self, deadline: float) -> Exit:
        """Wait for the end of a child that is being killed; after that abandon it."""
        with trio.CancelScope(deadline=deadline):
            await self.wait()
        if self.exit is None and self.parent is not None:
            self.kill(all_below=True)
            # It needs one grace itself, to abandon what it cannot kill.
            with trio.CancelScope(deadline=deadline + 2 * KILL_GRACE):
                await self.wait()
        if self.exit is None:
            self._abandon()
        assert self.exit is not None
        return self.exit

    async def _wait(self, seconds: float | None) -> None:
        with trio.CancelScope() as scope:
            if seconds is not None:
                scope.deadline = trio.current_time() + seconds
            await self.wait()

    async def wait(self) -> None:
        """Wait until the task has ended."""
        if self.exit is not None:
            await trio.lowlevel.checkpoint()
            return
        if self._done is None:
            self._done = trio.Event()
        await self._done.wait()

    def _abandon(self) -> None:
        """Go on without the child: a Python task cannot be killed against its will."""
        self.exit = Killed()
        self.stopping = True
        self._on_exit = None
        self.tree.abandoned.append(self)
        if self.driver is not None:
            self.driver.abandon()
        if self._at_end is not None:
            self._be_at_end()
        emit(self.tree.on_event, ChildUnkillable(self.path, self.stack()))

    def stack(self) -> tuple[str, ...]:
        """Return where the task is: a line for each frame, outermost first."""
        if self._task is None:
            return ()
        return tuple(
            f"{frame.f_code.co_qualname} ({frame.f_code.co_filename}:{line})"
            for frame, line in self._task.iter_await_frames()
        )
