"""What the daemon does just now, as a text for whoever looks for a fault: SIGUSR1.

Two trees: the supervision tree with restarts and waiting messages, and trio's tasks,
each with the places in the code where it waits. There are no values of variables in
it: they may be keys and prompts. Its size is bounded, and so is the disk that it
takes: there is one file, and the next dump replaces it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any, Final

import trio

from duckservice import __version__
from duckservice.redaction import redact
from supervisors import Node, format_tree

FILE_NAME: Final = "dump.txt"
CHARS_MAX: Final = 1024 * 1024
TASKS_MAX: Final = 2000
FRAMES_MAX: Final = 12
"""The innermost ones are kept."""
_DEPTH_SHOWN_MAX: Final = 20
_TRAPS: Final = "trio/_core/_traps.py"


def dump_text(tree: Node | None, now: datetime | None = None) -> str:
    """Return both trees as text; to be called in the loop."""
    time = (now or datetime.now(UTC)).isoformat(timespec="seconds")
    root = trio.lowlevel.current_root_task()
    tasks = [] if root is None else list(_tasks(root))
    statistics = trio.lowlevel.current_statistics()
    text = "\n".join(
        (
            f"duckd {__version__}, pid {os.getpid()}, {time}",
            "",
            "# Supervision tree",
            "the supervision tree is not up" if tree is None else format_tree(tree),
            "",
            f"# Tasks: {statistics.tasks_living}, {statistics.tasks_runnable} runnable",
            *_lines(tasks),
        )
    )
    if len(text) > CHARS_MAX:
        text = f"{text[:CHARS_MAX]}\n… cut off after {CHARS_MAX} characters"
    return redact(text) + "\n"


def write_dump(directory: Path, text: str) -> Path:
    """Put *text* into the directory in place of the last dump, for us alone to read.

    Raises:
        OSError: the disk is full, or the directory cannot be written.
    """
    path = directory / FILE_NAME
    new = directory / f"{FILE_NAME}.new"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    new.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(new, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)
    return path


def _tasks(task: trio.lowlevel.Task) -> Iterator[tuple[int, trio.lowlevel.Task]]:
    """Yield each task below *task*, parents first, with its depth."""
    # Not recursive: nurseries can be nested deeper than Python's calls.
    left = [(0, task)]
    while left:
        depth, its = left.pop()
        yield depth, its
        children = [c for n in its.child_nurseries for c in n.child_tasks]
        children.sort(key=lambda child: child.name, reverse=True)
        left += [(depth + 1, child) for child in children]


def _lines(tasks: list[tuple[int, trio.lowlevel.Task]]) -> Iterator[str]:
    for depth, task in tasks[:TASKS_MAX]:
        indent = "  " * min(depth, _DEPTH_SHOWN_MAX)
        yield f"{indent}{task.name}"
        frames = [f"{_place(frame)}:{line}" for frame, line in _waits(task)]
        if len(frames) > FRAMES_MAX:
            yield f"{indent}    … {len(frames) - FRAMES_MAX} more"
        for frame in frames[-FRAMES_MAX:]:
            yield f"{indent}    {frame}"
    if len(tasks) > TASKS_MAX:
        yield f"… {len(tasks) - TASKS_MAX} more tasks"


def _waits(task: trio.lowlevel.Task) -> Iterator[tuple[FrameType, int]]:
    """Yield where the task waits, the outermost place first."""
    try:
        for frame, line in task.iter_await_frames():
            # Every wait ends in trio's traps: they say nothing.
            if not frame.f_code.co_filename.endswith(_TRAPS):
                yield frame, line
    except Exception:  # noqa: BLE001 - a running task, or a frame of another kind: no reason to fail a dump
        return


def _place(frame: FrameType) -> str:
    code: Any = frame.f_code
    file = "/".join(Path(code.co_filename).parts[-3:])
    return f"{code.co_qualname} {file}"
