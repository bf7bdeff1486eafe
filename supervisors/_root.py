"""A tree from its root: run it in a nursery of the caller's, or as a block.

    async with open_supervisor(spec) as root: ...
    root = await nursery.start(supervise, spec)

All children live in one nursery that is opened here. An outer cancellation is
caught at the root, which stops the tree in order and under one time limit, and
lets the cancellation go on. What ends the tree comes out as itself, not in a
group: the nursery is ours, and the user need not know of it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
import trio

from supervisors._errors import CallError, CleanExit, StartFailed
from supervisors._events import EventHook, ignore
from supervisors._process import Tree
from supervisors._spec import SupervisorSpec
from supervisors._supervisor import StaticRuntime, Supervisor

#: Seconds that a whole tree gets to stop in order, before what is left is killed.
SHUTDOWN_LIMIT = 60.0


async def supervise(
    spec: SupervisorSpec | Supervisor,
    *,
    on_event: EventHook = ignore,
    shutdown_limit: float = SHUTDOWN_LIMIT,
    task_status: trio.TaskStatus[Supervisor] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a tree until its root ends, or the caller is cancelled.

    ``started`` is called with the root's handle when all children are up.
    Returns when the root was stopped (`Supervisor.stop`) or shut itself down.

    Raises:
        AlreadyStarted: it is the handle of a supervisor that runs.
        StartFailed: a child did not start; the others have been stopped.
        RestartIntensityReached: the root gave up, and has stopped its children.
        KeyboardInterrupt, SystemExit: raised in a child; the tree is stopped.
    """
    root = spec if isinstance(spec, Supervisor) else Supervisor(spec)
    error: BaseException | None = None
    tree: Tree | None = None
    runtime: StaticRuntime | None = None
    root.must_not_run()
    try:
        async with trio.open_nursery() as nursery:
            tree = Tree(nursery, on_event)
            runtime = root.open_runtime(tree, "", shutdown_limit=shutdown_limit)
            tree.stop = runtime.stop
            try:
                await runtime.run(lambda: task_status.started(root))
            except StartFailed as failed:
                error = failed
            except CleanExit as end:
                error = end.__cause__
            finally:
                tree.report_abandoned()
    finally:
        if runtime is not None:
            root.close_runtime(runtime)
        root.retire()
        if tree is not None and tree.interrupt is not None:
            # Even if the caller has been cancelled meanwhile, as the block of
            # `open_supervisor` does when a call in it fails by the same crash.
            raise tree.interrupt
    if error is not None:
        raise error


@asynccontextmanager
async def open_supervisor(
    spec: SupervisorSpec | Supervisor,
    *,
    on_event: EventHook = ignore,
    shutdown_limit: float = SHUTDOWN_LIMIT,
) -> AsyncGenerator[Supervisor]:
    """Run a tree for the length of a block, whose value is the root's handle.

    If the root gives up, the block is cancelled and `RestartIntensityReached`
    is raised at its end. Raises as `supervise`, and what the block raises.
    """
    tree: BaseException | None = None
    mine: BaseException | None = None
    async with trio.open_nursery() as nursery:
        block = trio.CancelScope()
        status = _Started()

        async def run() -> None:
            nonlocal tree
            try:
                await supervise(
                    spec,
                    on_event=on_event,
                    shutdown_limit=shutdown_limit,
                    task_status=status,
                )
            except (Exception, *_INTERRUPTS) as end:  # noqa: BLE001 - raised below, outside our nursery
                tree = end
            block.cancel()
            status.up.set()

        nursery.start_soon(run, name="supervisor")  # noqa: ASYNC113 - its handshake is waited for
        with block:
            await status.up.wait()
            if status.root is not None:
                try:
                    yield status.root
                except (Exception, *_INTERRUPTS) as end:  # noqa: BLE001 - raised below, outside our nursery
                    mine = end
        nursery.cancel_scope.cancel()
    if tree is None and mine is not None:
        raise mine
    if tree is not None and (mine is None or _follows_from_a_call(mine)):
        raise tree
    if tree is not None and mine is not None:
        msg = "the block and its supervision tree both failed"
        raise BaseExceptionGroup(msg, [tree, mine])


def _follows_from_a_call(error: BaseException | None) -> bool:
    """Say whether a failed call is behind *error*: one cause then, and not two.

    When a tree gives up, calls to its actors fail.
    """
    while error is not None:
        if isinstance(error, CallError):
            return True
        error = error.__cause__
    return False


_INTERRUPTS = (KeyboardInterrupt, SystemExit)


@attrs.define(eq=False)
class _Started:
    """The handshake of the root: trio's own would outlast a cancelled caller."""

    up: trio.Event = attrs.field(factory=trio.Event)
    root: Supervisor | None = None

    def started(self, value: Supervisor | None = None) -> None:
        self.root = value
        self.up.set()
