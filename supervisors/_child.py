"""One child as its supervisor knows it, and how it is started and stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

import attrs
import trio

from supervisors._errors import StartFailed
from supervisors._events import ShutdownError, emit
from supervisors._exit import Crashed, Exit, Killed, Normal, ShutDown, cause_of
from supervisors._inspect import ChildInfo, Node
from supervisors._process import Process, Tree
from supervisors._restart import is_orderly_stop
from supervisors._spec import ChildSpec


@attrs.define(eq=False)
class Child:
    """A child: its spec, the incarnation that runs, and what is remembered."""

    spec: ChildSpec
    path: str
    id: str = attrs.field(
        default=attrs.Factory(lambda self: self.spec.id, takes_self=True), kw_only=True
    )
    """The id of the spec, or a unique one under a dynamic supervisor."""
    process: Process | None = None
    restarting: bool = False
    incarnations: int = 0
    last_exit: Exit | None = None
    last_crash: BaseException | None = None
    gave_up: BaseException | None = None
    """Why the last incarnation ended itself: of a supervisor, what it gave up over."""
    failures: int = 0
    """In a row, for the spec's `Backoff`."""
    _started_at: float = 0.0

    @property
    def is_alive(self) -> bool:
        """Whether its process is there and has not ended."""
        return self.process is not None and self.process.exit is None

    @property
    def state(self) -> str:
        """The state, in the words of `Node`."""
        if self.restarting:
            return "restarting"
        if self.process is None:
            return "stopped"
        if self.process.stopping:
            return "stopping"
        return "running" if self.process.is_started else "starting"

    async def start(self, tree: Tree, on_end: Callable[[Child, Process], None]) -> bool:
        """Start an incarnation. False if its init failed: see ``last_exit``.

        After True it runs, or has ended at once (*on_end* was told so), or
        was not needed: then ``process`` is None.
        """
        self.restarting = False
        self.incarnations += 1
        process = Process(tree, self.path, self, on_end)
        self.process = process
        if self.spec.backoff is not None:
            self._started_at = trio.current_time()
        await process.start(self.spec.body)
        if process.is_started:
            return True
        self.process = None
        if process.ignored:
            self.spec.retire()
            return True
        self.ended(process)
        return False

    async def stop(self, tree: Tree) -> Exit | None:
        """Stop what runs, by the spec's shutdown time; report an unexpected end."""
        self.restarting = False
        process = self.process
        if process is None:
            return None
        exit_ = await process.terminate(self.spec.shutdown)
        self.process = None
        self.last_exit = exit_
        orderly = is_orderly_stop(self.spec.restart, self.spec.shutdown, exit_)
        if process.is_started and not orderly:
            emit(tree.on_event, ShutdownError(self.path, exit_))
        return exit_

    def ended(self, process: Process) -> Exit:
        """Take note of the end of *process*, which was not asked for."""
        assert process.exit is not None
        self.process = None
        self.last_exit = process.exit
        backoff = self.spec.backoff
        if backoff is not None:
            ran = trio.current_time() - self._started_at if process.is_started else 0.0
            self.failures = backoff.failures_after(self.failures, ran)
        cause = cause_of(process.exit)
        if cause is not None:
            self.last_crash = cause
        return process.exit

    def start_failed(self) -> StartFailed:
        """Return the error for whoever wanted the child to start."""
        assert self.last_exit is not None
        message = f"child {self.path!r} failed to start: {_why(self.last_exit)}"
        error = StartFailed(self.spec.id, message, self.last_exit)
        error.__cause__ = cause_of(self.last_exit)
        return error

    def info(self) -> ChildInfo:
        """Return the child as ``which_children`` tells it."""
        return ChildInfo(id=self.id, state=self.state, kind=self.spec.kind)

    def node(self) -> Node:
        """Return the child, and all below it, as a value."""
        address, subtree = self.spec.address, self.spec.subtree
        return Node(
            id=self.id,
            path=self.path,
            kind=self.spec.kind,
            state=self.state,
            restarts=max(0, self.incarnations - 1),
            inbox=0 if address is None else address.depth,
            last_crash=None
            if self.last_crash is None
            else type(self.last_crash).__name__,
            strategy=None if subtree is None else subtree.strategy,
            children=() if subtree is None else subtree.nodes(),
        )

    def find(self, path: str) -> Process | None:
        """Return what runs at *path* below this child; the child itself if empty."""
        if not self.is_alive or not path:
            return self.process if self.is_alive else None
        return None if self.spec.subtree is None else self.spec.subtree.find(path)


def _why(exit_: Exit) -> str:
    match exit_:
        case Crashed(error):
            # The name only: what an exception says may be a secret.
            return type(error).__name__
        case Normal():
            return "it returned without having called task_status.started()"
        case ShutDown():
            return "it ended itself (CleanExit)"
        case Killed():
            return "it was killed"
        case _:
            assert_never(exit_)
