"""Where in a running tree something is, as the invariants need to know it.

They judge a tree from outside; here is all that they know of its insides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from supervisors._runtime import Runtime
from supervisors._supervisor import StaticRuntime

if TYPE_CHECKING:
    from supervisors._child import Child
    from supervisors._process import Process, Tree
    from supervisors._restart import RestartWindow
    from supervisors._spec import ChildSpec


def runtime_at(tree: Tree, path: str) -> Runtime | None:
    """Return the supervisor that runs at *path*, the root's being empty."""
    # The root's own method, as long as it runs.
    found = getattr(tree.stop, "__self__", None)
    at = ""
    for id_ in path.split("/") if path else ():
        if not isinstance(found, Runtime):
            return None
        at = f"{at}/{id_}" if at else id_
        child = _child_of(found, at)
        found = None if child is None else getattr(child.spec.subtree, "_runtime", None)
    return found if isinstance(found, Runtime) else None


def _child_of(runtime: Runtime, path: str) -> Child | None:
    for child in runtime.children():
        if child.path == path:
            return child
    return None


def spec_of(process: Process) -> ChildSpec:
    """Return the spec of the child that *process* is an incarnation of."""
    return process._child.spec  # noqa: SLF001


def window(tree: Tree, supervisor: str) -> RestartWindow | None:
    """Return how often a supervisor may restart."""
    runtime = runtime_at(tree, supervisor)
    return None if runtime is None else runtime._window  # noqa: SLF001 - see above


def later_siblings(tree: Tree, path: str) -> list[str]:
    """Return the paths that must have ended when *path* is stopped with them."""
    runtime = runtime_at(tree, path.rpartition("/")[0])
    if not isinstance(runtime, StaticRuntime):
        # A dynamic supervisor stops all its children at once.
        return []
    paths = [child.path for child in runtime.children()]
    return paths[paths.index(path) + 1 :] if path in paths else []


def is_finishing(process: Process) -> bool:
    """Say whether the supervisor of *process* is stopping its children, in its order.

    A child that is stopped on request is nobody's turn, and one that is killed
    does not wait for it.
    """
    if not process.stopping or process._killed:  # noqa: SLF001
        return False
    task = _task_of(process.tree, process.path.rpartition("/")[0])
    return task is not None and any(
        frame.f_code is Runtime._finish.__code__  # noqa: SLF001
        for frame, _ in task.iter_await_frames()
    )


def _task_of(tree: Tree, supervisor: str) -> trio.lowlevel.Task | None:
    if not supervisor:
        return tree.nursery.parent_task
    above = runtime_at(tree, supervisor.rpartition("/")[0])
    child = None if above is None else _child_of(above, supervisor)
    if child is None or child.process is None:
        return None
    return child.process._task  # noqa: SLF001
