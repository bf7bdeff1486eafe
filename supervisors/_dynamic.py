"""The supervisor of children on demand: many, alike, in no order.

OTP's ``simple_one_for_one``, Elixir's DynamicSupervisor: children are started
by request, restarted one for one, and stopped all at once under one time
limit, the longest of theirs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar, final

import attrs
import trio

from supervisors._child import Child
from supervisors._errors import ActorStopped, ChildNotFound, TooManyChildren
from supervisors._events import ShutdownError, emit
from supervisors._exit import Exit
from supervisors._inspect import ChildCount, ChildInfo, Node
from supervisors._process import KILL_GRACE, Process
from supervisors._restart import RestartWindow, is_orderly_stop, shuts_down_with
from supervisors._runtime import End, Runtime, already_started, run_as_child
from supervisors._spec import (
    AutoShutdown,
    ChildSpec,
    OnUnkillable,
    Restart,
    Shutdown,
    ShutdownTime,
    check_child,
    check_whole_number,
)
from supervisors._supervisor import count

R = TypeVar("R")


@final
@attrs.define(eq=False)
class DynamicSupervisor:
    """The handle of a dynamic supervisor, and its settings.

    Make it, give `dynamic_supervisor(handle)` to the supervisor above it, and
    use it from anywhere.
    """

    name: str
    max_children: int | None = attrs.field(
        default=None,
        kw_only=True,
        validator=attrs.validators.optional(check_whole_number),
    )
    """It may be changed while the supervisor runs; nobody is stopped by that."""
    max_restarts: int = attrs.field(
        default=3, kw_only=True, validator=check_whole_number
    )
    max_seconds: float = attrs.field(
        default=5.0, kw_only=True, validator=attrs.validators.gt(0)
    )
    auto_shutdown: AutoShutdown = attrs.field(default=AutoShutdown.NEVER, kw_only=True)
    on_unkillable: OnUnkillable = attrs.field(
        default=OnUnkillable.ABANDON, kw_only=True
    )
    _runtime: _DynamicRuntime | None = attrs.field(default=None, init=False, repr=False)

    async def start_child(self, spec: ChildSpec) -> str | None:
        """Start a child; return its id here, or None if its init raised `Ignore`.

        Several children may have the same ``spec.id``: theirs here are made
        unique by a number.

        Raises:
            TooManyChildren: there are ``max_children`` already.
            StartFailed: its init failed.
            ActorStopped: the supervisor is not running.
            ValueError: the spec does not fit this supervisor.
        """
        check_child(spec, self.auto_shutdown)
        return await self._request(lambda runtime: runtime.start_child(spec))

    async def terminate_child(self, id: str) -> None:  # noqa: A002 - OTP's word
        """Stop a child, and forget it.

        Raises:
            ChildNotFound: there is no such child.
        """
        await self._request(lambda runtime: runtime.terminate_child(id))

    async def which_children(self) -> tuple[ChildInfo, ...]:
        """Return the children."""
        return await self._request(lambda runtime: runtime.which_children())

    async def count_children(self) -> ChildCount:
        """Return how many children there are, of which kind."""
        return await self._request(lambda runtime: runtime.count_children())

    async def get_childspec(self, id: str) -> ChildSpec:  # noqa: A002 - OTP's word
        """Return the spec of a child.

        Raises:
            ChildNotFound: there is no such child.
        """
        return await self._request(lambda runtime: runtime.get_childspec(id))

    async def _request(self, carry_out: Callable[[_DynamicRuntime], Awaitable[R]]) -> R:
        runtime = self._runtime
        if runtime is None:
            raise ActorStopped(self.name, f"supervisor {self.name!r} is not running")
        return await runtime.request(lambda: carry_out(runtime))

    # As a child of another supervisor.

    @property
    def strategy(self) -> str:
        """The restart strategy, for people."""
        return "one_for_one"

    def nodes(self) -> tuple[Node, ...]:
        """Return the children as values."""
        return () if self._runtime is None else self._runtime.nodes()

    def find(self, path: str) -> Process | None:
        """Return what runs at *path*, relative to here."""
        return None if self._runtime is None else self._runtime.find(path)

    def retire(self) -> None:
        """Nothing to tell: a dynamic child is retired when it ends."""

    async def run(self, process: Process) -> None:
        """Run one incarnation (the body of the child spec)."""
        if self._runtime is not None and not self._runtime.has_ended:
            raise already_started(self.name)
        runtime = self._runtime = _DynamicRuntime(self, process)
        try:
            await run_as_child(runtime, process)
        finally:
            if self._runtime is runtime:
                self._runtime = None


def dynamic_supervisor(
    handle: DynamicSupervisor,
    *,
    restart: Restart = Restart.PERMANENT,
    shutdown: ShutdownTime = Shutdown.INFINITY,
) -> ChildSpec:
    """Describe a dynamic supervisor as a child of another supervisor."""
    return ChildSpec(
        id=handle.name,
        body=handle.run,
        restart=restart,
        shutdown=shutdown,
        kind="dynamic",
        subtree=handle,
    )


class _DynamicRuntime(Runtime):
    """One incarnation of a `DynamicSupervisor`."""

    def __init__(self, handle: DynamicSupervisor, process: Process) -> None:
        window = RestartWindow(handle.max_restarts, handle.max_seconds)
        super().__init__(
            handle.name,
            process.tree,
            process.path,
            window,
            on_unkillable=handle.on_unkillable,
        )
        self._handle = handle
        self._auto_shutdown = handle.auto_shutdown
        self._children = dict[str, Child]()

    async def _start_children(self) -> None:
        await trio.lowlevel.checkpoint()

    async def _stop_children(self) -> None:
        children = [child for child in self._children.values() if child.process]
        await self._end_all(
            [(c.process, c.spec.shutdown) for c in children if c.process]
        )
        unexpected = dict[str, list[Exit]]()
        for child in children:
            spec, exit_ = child.spec, child.process and child.process.exit
            assert exit_ is not None
            if not is_orderly_stop(spec.restart, spec.shutdown, exit_):
                # Errors of one kind are not equal, but look alike.
                unexpected.setdefault(repr(exit_), []).append(exit_)
        for alike in unexpected.values():
            event = ShutdownError(self.path_of("*"), alike[0], len(alike))
            emit(self.tree.on_event, event)

    async def _end_all(self, running: list[tuple[Process, ShutdownTime]]) -> None:
        """End all at once: the time limits are common, too."""
        for process, shutdown in running:
            if shutdown is not Shutdown.BRUTAL_KILL:
                process.stop()
            else:
                process.kill()
        limited = [each for each in running if each[1] is not Shutdown.INFINITY]
        seconds = [limit for _, limit in limited if not isinstance(limit, Shutdown)]
        with trio.move_on_after(max(seconds, default=0.0)):
            for process, _ in limited:
                await process.wait()
        for process, shutdown in limited:
            process.enforce(shutdown)
        deadline = trio.current_time() + KILL_GRACE
        for process, _ in limited:
            await process.end_by(deadline)
        for process, shutdown in running:
            if shutdown is Shutdown.INFINITY:
                await process.wait()

    def _retire_children(self) -> None:
        for child in self._children.values():
            child.spec.retire()
        self._children.clear()

    async def _stop_with(self, child: Child) -> None:
        """Nobody is restarted with a dynamic child."""

    async def _restart(self, child: Child) -> None:
        if not await self._start(child):
            self._retry(child)
        elif child.process is None:
            # Its init says that it is not needed (any more). OTP keeps it
            # without a process, and crashes over it later: erlang/otp#8215.
            self._forget(child)

    def _forget(self, child: Child) -> None:
        child.spec.retire()
        self._children.pop(child.id, None)

    def _ended_for_good(self, child: Child) -> None:
        self._forget(child)
        if shuts_down_with(
            self._auto_shutdown,
            significant=child.spec.significant,
            others_alive=any(
                other.spec.significant for other in self._children.values()
            ),
        ):
            raise End

    # Requests, carried out in the loop.

    async def start_child(self, spec: ChildSpec) -> str | None:
        """See `DynamicSupervisor.start_child`."""
        most = self._handle.max_children
        if most is not None and len(self._children) >= most:
            raise TooManyChildren(spec.id, f"{self.name!r} has {most} children already")
        id_ = spec.id if spec.id not in self._children else self._unique(spec.id)
        child = Child(spec, self.path_of(id_), id=id_)
        self._children[id_] = child
        if not await self._start(child):
            self._forget(child)
            raise child.start_failed()
        if child.process is None:
            self._forget(child)
            return None
        return id_

    def _unique(self, id_: str) -> str:
        while (candidate := f"{id_}-{next(self._numbers)}") in self._children:
            pass
        return candidate

    async def terminate_child(self, id_: str) -> None:
        """See `DynamicSupervisor.terminate_child`."""
        child = self._get(id_)
        await self._stop(child)
        self._forget(child)

    async def which_children(self) -> tuple[ChildInfo, ...]:
        """See `DynamicSupervisor.which_children`."""
        return tuple(child.info() for child in self._children.values())

    async def count_children(self) -> ChildCount:
        """See `DynamicSupervisor.count_children`."""
        children = list(self._children.values())
        # OTP asks the processes of a static supervisor, but not these.
        active = sum(child.process is not None for child in children)
        return attrs.evolve(count(children), active=active)

    async def get_childspec(self, id_: str) -> ChildSpec:
        """See `DynamicSupervisor.get_childspec`."""
        return self._get(id_).spec

    def _get(self, id_: str) -> Child:
        child = self._children.get(id_)
        if child is None:
            raise ChildNotFound(id_, f"supervisor {self.name!r} has no child {id_!r}")
        return child

    def children(self) -> list[Child]:
        """Return the children, in start order."""
        return list(self._children.values())

    def nodes(self) -> tuple[Node, ...]:
        """Return the children as values."""
        return tuple(child.node() for child in self._children.values())

    def find(self, path: str) -> Process | None:
        """Return what runs at *path*, relative to here."""
        head, _, rest = path.partition("/")
        child = self._children.get(head)
        return None if child is None else child.find(rest)
