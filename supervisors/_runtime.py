"""The life of one incarnation of a supervisor: start, serve the mailbox, stop.

It is one loop over one mailbox, in which exits of children, retries of failed
restarts and requests stand in the order of their arrival, as in OTP:

    ChildEnded    a child has ended        -> restart, keep, forget, or give up
    Retry         a restart had failed, or -> try again, unless something came between
                  its delay is over
    Request       start/terminate/...      -> carry it out, answer

While it starts or stops a child it serves nothing else. A polite stop and an
outer cancellation break off what it waits for, at any time; then the children
are stopped, and the supervisor ends.
"""

from __future__ import annotations

import abc
import heapq
import itertools
import math
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar, assert_never

import attrs
import trio

from supervisors._backoff import Backoff
from supervisors._child import Child
from supervisors._errors import (
    ActorStopped,
    AlreadyStarted,
    CleanExit,
    RestartIntensityReached,
    UnkillableChild,
)
from supervisors._events import (
    ChildTerminated,
    GaveUp,
    RestartDelayed,
    StartError,
    emit,
)
from supervisors._exit import cause_of
from supervisors._inspect import Node
from supervisors._process import KILL_GRACE, Process, Tree
from supervisors._reply import Reply
from supervisors._restart import RestartWindow, Verdict, is_reported, verdict
from supervisors._spec import OnUnkillable

R = TypeVar("R")


@attrs.frozen
class ChildEnded:
    """A child's process has ended."""

    child: Child
    process: Process


@attrs.frozen
class Retry:
    """A restart had failed; it is tried again behind what waits already."""

    child: Child


@attrs.frozen(order=True)
class Delayed:
    """A restart that waits by the child's `Backoff`."""

    when: float
    number: int
    child: Child = attrs.field(order=False)
    incarnation: int = attrs.field(order=False)


@attrs.frozen
class Request:
    """Something a user of the handle asked for."""

    carry_out: Callable[[], Awaitable[Any]]
    reply: Reply[Any]


MailboxItem: TypeAlias = ChildEnded | Retry | Request


class End(Exception):
    """The supervisor ends by itself; ``__cause__`` says why, if it gave up."""


class Runtime(abc.ABC):
    """What static and dynamic supervisors have in common."""

    def __init__(
        self,
        name: str,
        tree: Tree,
        path: str,
        window: RestartWindow,
        *,
        on_unkillable: OnUnkillable = OnUnkillable.ABANDON,
        shutdown_limit: float = math.inf,
    ) -> None:
        self.name = name
        self.tree = tree
        self._path = path
        self._window = window
        self._on_unkillable = on_unkillable
        self._shutdown_limit = shutdown_limit
        self._delayed = list[Delayed]()
        self._numbers = itertools.count(1)
        # Unbounded: an exit notice must never be lost. There is at most one for
        # each child, one retry for each child, and one request for each caller.
        self._post, self._mailbox = trio.open_memory_channel[MailboxItem](math.inf)
        self._scope = trio.CancelScope()
        self._stop_scope = trio.CancelScope(shield=True)
        self._ended = False

    # The life.

    async def run(self, started: Callable[[], None]) -> None:
        """Start the children, supervise them, stop them.

        Raises:
            StartFailed: a child did not start; the others have been stopped.
            CleanExit: it gave up (the cause says so), or shut itself down.
        """
        try:
            with self._scope:
                await self._start_children()
                started()
                await self._serve()
        except End as end:
            raise CleanExit from end.__cause__
        finally:
            await self._finish()  # noqa: ASYNC102 - it shields itself, with a limit

    def stop(self) -> None:
        """End, whatever is being waited for."""
        self._scope.cancel()

    def crash(self) -> None:
        """End in order; whoever runs it raises the crash then."""
        self.stop()

    def abandon(self) -> None:
        """Refuse requests: nobody waits for it any more."""
        self._ended = True

    @property
    def has_ended(self) -> bool:
        """Whether it takes no more requests, for good."""
        return self._ended

    def kill(self, all_below: bool = False) -> None:
        """End, and give the children no time; see `Process.kill`."""
        self._scope.cancel()
        self._stop_scope.cancel()
        if all_below:
            for process in self._processes():
                process.kill(all_below=True)

    async def request(self, carry_out: Callable[[], Awaitable[R]]) -> R:
        """Have *carry_out* run in the loop, in its turn, and return what it returns."""
        if self._ended:
            raise self._stopped()
        reply: Reply[R] = Reply()
        self._post.send_nowait(Request(carry_out, reply))
        return await reply.wait()

    async def _serve(self) -> None:
        while True:
            item = await self._next_item()
            match item:
                case ChildEnded(child, process):
                    # One that was terminated meanwhile has been dealt with.
                    if child.process is process:
                        await self._on_end(child, process)
                case Retry(child):
                    if child.restarting:
                        await self._restart_counted(child)
                case Request():
                    await self._carry_out(item)
                case _:
                    assert_never(item)

    async def _next_item(self) -> MailboxItem:
        """Return what is next in the mailbox, or a restart whose delay is over."""
        delayed = self._delayed
        while delayed:
            first = delayed[0]
            with trio.CancelScope(deadline=first.when):
                return await self._mailbox.receive()
            heapq.heappop(delayed)
            if first.child.incarnations == first.incarnation:
                return Retry(first.child)
        return await self._mailbox.receive()

    async def _carry_out(self, request: Request) -> None:
        if request.reply.abandoned:
            return
        try:
            request.reply.send(await request.carry_out())
        except (trio.Cancelled, End):
            request.reply.fail(self._stopped())
            raise
        except Exception as error:  # noqa: BLE001 - it belongs to the asker, who gets it
            request.reply.fail(error)

    async def _finish(self) -> None:
        """Stop every child, whatever else happens, and refuse what still waits."""
        killed = self._stop_scope.cancel_called
        if not killed:
            self._stop_scope.deadline = trio.current_time() + self._shutdown_limit
            with self._stop_scope:
                await self._stop_children()
            if self._stop_scope.cancelled_caught:
                killed = True
                self.kill(all_below=True)
        if killed:
            with trio.CancelScope(shield=True):
                await self._kill_children()
        self._retire_children()
        self._ended = True
        while True:
            try:
                item = self._mailbox.receive_nowait()
            except trio.WouldBlock:
                return
            if isinstance(item, Request):
                item.reply.fail(self._stopped())

    def _stopped(self) -> ActorStopped:
        return ActorStopped(self.name, f"supervisor {self.name!r} is not running")

    async def _kill_children(self) -> None:
        """End every child as the killed end of a supervisor ends them."""
        processes = self._processes()
        for process in processes:
            process.orphan()
        deadline = trio.current_time() + KILL_GRACE
        for process in reversed(processes):
            if process.parent is None:
                await process.end_by(deadline)
            else:
                # In its own order, and in its own time.
                await process.wait()

    def _processes(self) -> list[Process]:
        """Return what has not ended, in start order."""
        processes = [child.process for child in self.children()]
        return [process for process in processes if process and process.exit is None]

    # The end of a child.

    async def _on_end(self, child: Child, process: Process) -> None:
        exit_ = child.ended(process)
        if is_reported(child.spec.restart, exit_):
            emit(self.tree.on_event, ChildTerminated(child.path, exit_))
        if self.tree.interrupt is not None:
            # The whole tree is about to stop: nothing is started any more.
            return
        match verdict(child.spec.restart, exit_):
            case Verdict.RESTART:
                if child.spec.backoff is None:
                    await self._restart_counted(child)
                else:
                    await self._stop_with(child)
                    self._delay_restart(child, child.spec.backoff)
            case Verdict.KEEP:
                child.spec.retire()
                self._ended_for_good(child)
            case Verdict.FORGET:
                self._forget(child)
                self._ended_for_good(child)

    async def _restart_counted(self, child: Child) -> None:
        if self._window.admit(trio.current_time()):
            await self._restart(child)
            return
        emit(self.tree.on_event, GaveUp(self._path, child.id))
        child.restarting = False
        raise End from self._gave_up(child)

    def _retry(self, failed: Child) -> None:
        """Try the restart again, behind what waits already: a stop may be among it."""
        assert failed.last_exit is not None
        emit(self.tree.on_event, StartError(failed.path, failed.last_exit))
        if failed.spec.backoff is not None:
            self._delay_restart(failed, failed.spec.backoff)
        else:
            failed.restarting = True
            self._post.send_nowait(Retry(failed))

    def _delay_restart(self, child: Child, backoff: Backoff) -> None:
        seconds = backoff.delay(child.failures, self.tree.chance())
        emit(self.tree.on_event, RestartDelayed(child.path, seconds))
        child.restarting = True
        when = trio.current_time() + seconds
        delayed = Delayed(when, next(self._numbers), child, child.incarnations)
        heapq.heappush(self._delayed, delayed)

    def _gave_up(self, child: Child) -> RestartIntensityReached:
        window = self._window
        error = RestartIntensityReached(
            self.name,
            f"supervisor {self.name!r} saw more than {window.max_restarts} restarts"
            f" within {window.max_seconds:g} s, the last one of {child.path!r}",
        )
        if child.last_exit is not None:
            error.__cause__ = cause_of(child.last_exit) or child.gave_up
        return error

    async def _start(self, child: Child) -> bool:
        return await child.start(self.tree, self._child_ended)

    async def _stop(self, child: Child) -> None:
        """Stop a child, and give up if it cannot be stopped and that is the policy."""
        process = child.process
        await child.stop(self.tree)
        if (
            process in self.tree.abandoned
            and self._on_unkillable is OnUnkillable.ESCALATE
        ):
            assert process is not None
            emit(self.tree.on_event, GaveUp(self._path, child.id))
            raise End from UnkillableChild(
                child.id,
                f"child {child.path!r} of supervisor {self.name!r} ignores its"
                " cancellation",
                process.stack(),
            )

    def _child_ended(self, child: Child, process: Process) -> None:
        self._post.send_nowait(ChildEnded(child, process))

    def path_of(self, id_: str) -> str:
        """Return the path of the child *id_*."""
        return f"{self._path}/{id_}" if self._path else id_

    # What differs between the kinds.

    @abc.abstractmethod
    async def _start_children(self) -> None: ...

    @abc.abstractmethod
    async def _stop_children(self) -> None: ...

    @abc.abstractmethod
    def _retire_children(self) -> None: ...

    @abc.abstractmethod
    async def _stop_with(self, child: Child) -> None:
        """Stop those who are restarted with *child*."""

    @abc.abstractmethod
    async def _restart(self, child: Child) -> None: ...

    @abc.abstractmethod
    def _forget(self, child: Child) -> None: ...

    @abc.abstractmethod
    def _ended_for_good(self, child: Child) -> None: ...

    @abc.abstractmethod
    def children(self) -> list[Child]:
        """Return the children, in start order."""

    @abc.abstractmethod
    def nodes(self) -> tuple[Node, ...]:
        """Return the children as values."""

    @abc.abstractmethod
    def find(self, path: str) -> Process | None:
        """Return what runs at *path*, relative to here."""


async def run_as_child(runtime: Runtime, process: Process) -> None:
    """Run a supervisor as a child of another."""
    process.driver = process.parent = runtime
    await runtime.run(process.started)
    process.raise_if_crashed()


def already_started(name: str) -> AlreadyStarted:
    """Return the error for a handle whose supervisor is to run a second time."""
    msg = f"supervisor {name!r} runs already; another one needs a handle of its own"
    return AlreadyStarted(name, msg)
