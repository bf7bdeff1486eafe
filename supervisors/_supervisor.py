"""The supervisor with a fixed list of children, started in order, stopped in reverse."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar, final

from supervisors._child import Child
from supervisors._errors import (
    ActorStopped,
    AlreadyPresent,
    AlreadyStarted,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
)
from supervisors._events import StartError, emit
from supervisors._inspect import ChildCount, ChildInfo, Node
from supervisors._process import Process, Tree
from supervisors._restart import RestartWindow, affected, shuts_down_with
from supervisors._runtime import End, Runtime, already_started, run_as_child
from supervisors._spec import (
    ChildSpec,
    Restart,
    Shutdown,
    ShutdownTime,
    SupervisorSpec,
    check_child,
)

R = TypeVar("R")


@final
class Supervisor:
    """The handle of a supervisor, valid before, between and after its incarnations.

    `open_supervisor` and `supervise` give you one for the root; for one below
    another, make it yourself and pass it to `supervisor`.
    """

    def __init__(self, spec: SupervisorSpec, *, name: str = "root") -> None:
        self.spec = spec
        self.name = name
        self._runtime: StaticRuntime | None = None

    async def start_child(self, spec: ChildSpec) -> bool:
        """Add a child and start it; return False if its init raised `Ignore`.

        Raises:
            AlreadyStarted, AlreadyPresent: there is a child of that id.
            StartFailed: its init failed; the child is not kept.
            ValueError: the spec does not fit this supervisor.
        """
        check_child(spec, self.spec.auto_shutdown)
        return await self._request(lambda runtime: runtime.start_child(spec))

    async def terminate_child(self, id: str) -> None:  # noqa: A002 - OTP's word
        """Stop a child; it is not restarted. A temporary child is forgotten.

        Raises:
            ChildNotFound: there is no such child.
        """
        await self._request(lambda runtime: runtime.terminate_child(id))

    async def restart_child(self, id: str) -> bool:  # noqa: A002 - OTP's word
        """Start a stopped child again; return False if its init raised `Ignore`.

        Raises:
            ChildNotFound, ChildRunning, ChildRestarting: as they say.
            StartFailed: its init failed; the child stays stopped.
        """
        return await self._request(lambda runtime: runtime.restart_child(id))

    async def delete_child(self, id: str) -> None:  # noqa: A002 - OTP's word
        """Forget a stopped child.

        Raises:
            ChildNotFound, ChildRunning, ChildRestarting: as they say.
        """
        await self._request(lambda runtime: runtime.delete_child(id))

    async def which_children(self) -> tuple[ChildInfo, ...]:
        """Return the children, in start order."""
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

    async def _request(self, carry_out: Callable[[StaticRuntime], Awaitable[R]]) -> R:
        runtime = self._runtime
        if runtime is None:
            raise ActorStopped(self.name, f"supervisor {self.name!r} is not running")
        return await runtime.request(lambda: carry_out(runtime))

    def stop(self) -> None:
        """Ask the supervisor to stop its children and end; does not wait."""
        if self._runtime is not None:
            self._runtime.stop()

    def inspect(self) -> Node:
        """Return the tree from here down as a value, at once."""
        return Node(
            id=self.name,
            path="",
            kind="supervisor",
            state="stopped" if self._runtime is None else "running",
            strategy=self.strategy,
            children=self.nodes(),
        )

    def crash_child(self, path: str, error: BaseException) -> None:
        """Crash what runs at *path*, as an exception in it would.

        For tests and operators; what follows is the supervisor's usual work.

        Raises:
            ChildNotFound: nothing runs there.
        """
        process = self.find(path)
        if process is None:
            raise ChildNotFound(path, f"nothing runs at {path!r}")
        process.crash(error)

    # As a child of another supervisor.

    @property
    def strategy(self) -> str:
        """The restart strategy, for people."""
        return self.spec.strategy.value

    def nodes(self) -> tuple[Node, ...]:
        """Return the children as values."""
        return () if self._runtime is None else self._runtime.nodes()

    def find(self, path: str) -> Process | None:
        """Return what runs at *path*, relative to here."""
        return None if self._runtime is None else self._runtime.find(path)

    def retire(self) -> None:
        """Tell every address below that nobody will answer there."""
        if self.is_running:
            return  # a child that did not start, as this handle was another's already
        for spec in self.spec.children:
            spec.retire()

    def open_runtime(
        self, tree: Tree, path: str, *, shutdown_limit: float = math.inf
    ) -> StaticRuntime:
        """Make the next incarnation; for `supervise` and `supervisor`.

        Raises:
            AlreadyStarted: one runs; it goes on undisturbed.
        """
        self.must_not_run()
        self._runtime = StaticRuntime(
            self.name, self.spec, tree, path, shutdown_limit=shutdown_limit
        )
        return self._runtime

    def close_runtime(self, runtime: StaticRuntime) -> None:
        """Forget the incarnation that has ended."""
        if self._runtime is runtime:
            self._runtime = None

    @property
    def is_running(self) -> bool:
        """Whether an incarnation runs that somebody waits for."""
        return self._runtime is not None and not self._runtime.has_ended

    def must_not_run(self) -> None:
        """Raise `AlreadyStarted` if an incarnation runs."""
        if self.is_running:
            raise already_started(self.name)

    def __repr__(self) -> str:
        return f"<Supervisor {self.name!r}>"


def supervisor(
    id: str,  # noqa: A002 - OTP's word, and the field's name
    spec: SupervisorSpec | Supervisor,
    *,
    restart: Restart = Restart.PERMANENT,
    shutdown: ShutdownTime = Shutdown.INFINITY,
    significant: bool = False,
) -> ChildSpec:
    """Describe a supervisor as a child of another."""
    handle = spec if isinstance(spec, Supervisor) else Supervisor(spec, name=id)

    async def body(process: Process) -> None:
        runtime = handle.open_runtime(process.tree, process.path)
        try:
            await run_as_child(runtime, process)
        finally:
            handle.close_runtime(runtime)

    return ChildSpec(
        id=id,
        body=body,
        restart=restart,
        shutdown=shutdown,
        significant=significant,
        kind="supervisor",
        subtree=handle,
    )


class StaticRuntime(Runtime):
    """One incarnation of a `Supervisor`."""

    def __init__(
        self,
        name: str,
        spec: SupervisorSpec,
        tree: Tree,
        path: str,
        *,
        shutdown_limit: float = math.inf,
    ) -> None:
        window = RestartWindow(spec.max_restarts, spec.max_seconds)
        super().__init__(
            name,
            tree,
            path,
            window,
            on_unkillable=spec.on_unkillable,
            shutdown_limit=shutdown_limit,
        )
        self._spec = spec
        self._children = dict[str, Child]()
        """In start order."""

    async def _start_children(self) -> None:
        for spec in self._spec.children:
            child = Child(spec, self.path_of(spec.id))
            self._children[spec.id] = child
            if not await self._start(child):
                assert child.last_exit is not None
                emit(self.tree.on_event, StartError(child.path, child.last_exit))
                raise child.start_failed()
            self._forget_if_not_needed(child)

    def _forget_if_not_needed(self, child: Child) -> None:
        if child.process is None and child.spec.restart is Restart.TEMPORARY:
            self._forget(child)

    async def _stop_children(self) -> None:
        for child in reversed(list(self._children.values())):
            await child.stop(self.tree)

    def _retire_children(self) -> None:
        for child in self._children.values():
            if child.spec not in self._spec.children:
                # Added at run time: no restart of this supervisor brings it back.
                child.spec.retire()

    def _affected(self, child: Child) -> Sequence[Child]:
        return affected(self._spec.strategy, self.children(), child)

    async def _stop_with(self, child: Child) -> None:
        for other in reversed(self._affected(child)):
            await self._stop(other)
            if other.spec.restart is Restart.TEMPORARY:
                self._forget(other)

    async def _restart(self, child: Child) -> None:
        await self._stop_with(child)
        for other in self._affected(child):
            if not await self._start(other):
                self._retry(other)
                return

    def _forget(self, child: Child) -> None:
        child.spec.retire()
        self._children.pop(child.spec.id, None)

    def _ended_for_good(self, child: Child) -> None:
        others_alive = any(
            other.spec.significant and (other.process is not None or other.restarting)
            for other in self._children.values()
            if other is not child
        )
        if shuts_down_with(
            self._spec.auto_shutdown,
            significant=child.spec.significant,
            others_alive=others_alive,
        ):
            raise End

    # Requests, carried out in the loop.

    async def start_child(self, spec: ChildSpec) -> bool:
        """See `Supervisor.start_child`."""
        known = self._children.get(spec.id)
        if known is not None and known.process is not None:
            raise AlreadyStarted(spec.id, f"child {spec.id!r} is running")
        if known is not None:
            raise AlreadyPresent(spec.id, f"child {spec.id!r} is known already")
        child = Child(spec, self.path_of(spec.id))
        self._children[spec.id] = child
        if not await self._start(child):
            self._forget(child)
            raise child.start_failed()
        self._forget_if_not_needed(child)
        return child.process is not None

    async def terminate_child(self, id_: str) -> None:
        """See `Supervisor.terminate_child`."""
        child = self._get(id_)
        await self._stop(child)
        if child.spec.restart is Restart.TEMPORARY:
            self._forget(child)
        else:
            child.spec.retire()

    async def restart_child(self, id_: str) -> bool:
        """See `Supervisor.restart_child`."""
        child = self._get_stopped(id_)
        if not await self._start(child):
            child.spec.retire()
            raise child.start_failed()
        return child.process is not None

    async def delete_child(self, id_: str) -> None:
        """See `Supervisor.delete_child`."""
        self._forget(self._get_stopped(id_))

    async def which_children(self) -> tuple[ChildInfo, ...]:
        """See `Supervisor.which_children`."""
        return tuple(child.info() for child in self._children.values())

    async def count_children(self) -> ChildCount:
        """See `Supervisor.count_children`."""
        return count(list(self._children.values()))

    async def get_childspec(self, id_: str) -> ChildSpec:
        """See `Supervisor.get_childspec`."""
        return self._get(id_).spec

    def _get(self, id_: str) -> Child:
        child = self._children.get(id_)
        if child is None:
            raise ChildNotFound(id_, f"supervisor {self.name!r} has no child {id_!r}")
        return child

    def _get_stopped(self, id_: str) -> Child:
        child = self._get(id_)
        if child.process is not None:
            raise ChildRunning(id_, f"child {id_!r} is running")
        if child.restarting:
            raise ChildRestarting(id_, f"child {id_!r} is being restarted")
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


def count(children: list[Child]) -> ChildCount:
    """Return how many *children* there are, of which kind."""
    supervisors = sum(child.spec.kind != "worker" for child in children)
    return ChildCount(
        specs=len(children),
        active=sum(child.is_alive for child in children),
        supervisors=supervisors,
        workers=len(children) - supervisors,
    )
