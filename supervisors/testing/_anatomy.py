"""Where in a running tree something is, as the invariants need to know it.

They judge a tree from outside; here is all that they know of its insides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisors._runtime import Runtime
from supervisors._supervisor import StaticRuntime

if TYPE_CHECKING:
    from supervisors._child import Child
    from supervisors._process import Process, Tree
    from supervisors._restart import RestartWindow


def runtime_at(tree: Tree, path: str) -> Runtime | None:
    """Return the supervisor that runs at *path*, the root's being empty."""
    found: Any = getattr(tree.stop, "__self__", None)
    at = ""
    for id_ in path.split("/") if path else ():
        if not isinstance(found, Runtime):
            return None
        at = f"{at}/{id_}" if at else id_
        child = _child_of(found, at)
        subtree = None if child is None else child.spec.subtree
        found = getattr(subtree, "_runtime", None)
    return found if isinstance(found, Runtime) else None


def child_at(tree: Tree, path: str) -> Child | None:
    """Return the child at *path*."""
    runtime = runtime_at(tree, path.rpartition("/")[0])
    return None if runtime is None else _child_of(runtime, path)


def _child_of(runtime: Runtime, path: str) -> Child | None:
    for child in runtime.children():
        if child.path == path:
            return child
    return None


def is_supervisor(tree: Tree, path: str) -> bool:
    """Say whether the child at *path* has children of its own."""
    child = child_at(tree, path)
    return child is not None and child.spec.subtree is not None


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


def is_finishing(tree: Tree, path: str) -> bool:
    """Say whether the supervisor of *path* is stopping its children, in its order.

    A child that is stopped on request is nobody's turn, and one that is killed
    does not wait for it.
    """
    child = child_at(tree, path)
    if child is None or child.process is None or child.process._killed:  # noqa: SLF001
        return False
    supervisor = path.rpartition("/")[0]
    task = tree.nursery.parent_task
    if supervisor:
        above = child_at(tree, supervisor)
        process: Process | None = None if above is None else above.process
        if process is None or process._task is None:  # noqa: SLF001
            return False
        task = process._task  # noqa: SLF001
    return any(
        frame.f_code is Runtime._finish.__code__  # noqa: SLF001
        for frame, _ in task.iter_await_frames()
    )
