"""What a run did, step by step: a digest to compare runs by, and where tasks are.

Nothing in it depends on addresses, hash seeds or the clock of the machine.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from weakref import WeakKeyDictionary

import trio

_TRIO = str(Path(trio.__file__).parent)
_US = str(Path(__file__).parent)
_TRIOS_OWN = ("<init>", "<TrioToken", "trio._core")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class Trace(trio.abc.Instrument):
    """An instrument that digests every step of every task, in their order.

    Two runs with the same digest, on the same Python, took the same steps.
    ``lines`` keeps the last *keep* of them, to see where two runs part.
    """

    def __init__(self, *, keep: int = 0) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._numbers = WeakKeyDictionary[trio.lowlevel.Task, int]()
        self._tasks = 0
        self._keep = keep
        self._lines = list[str]()
        self.steps = 0

    @property
    def digest(self) -> str:
        """The digest of all steps so far, in hexadecimal."""
        return self._hash.hexdigest()

    @property
    def lines(self) -> tuple[str, ...]:
        """The last steps: number of the task, its name, and where it went on."""
        return tuple(self._lines[-self._keep :]) if self._keep else ()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Take note of a step; trio calls it."""
        self.steps += 1
        number = self._numbers.get(task)
        if number is None:
            number = self._numbers[task] = self._tasks
            self._tasks += 1
        self.note(f"#{number} {task_name(task)} {where(task)}")

    def note(self, line: str) -> None:
        """Add a line that is not a step to the digest: an event, a result."""
        line = without_addresses(line)
        self._hash.update(line.encode(errors="backslashreplace") + b"\0")
        if self._keep:
            self._lines.append(line)
            if len(self._lines) >= 2 * self._keep:
                del self._lines[: -self._keep]

    def __repr__(self) -> str:
        return f"<Trace {self.steps} steps {self.digest}>"


def without_addresses(text: str) -> str:
    """Return *text* without what differs from run to run in a default repr."""
    return _ADDRESS.sub("", text) if " at 0x" in text else text


def task_name(task: trio.lowlevel.Task) -> str:
    """Return the name of a task, the same in every run."""
    return without_addresses(task.name)


def where(task: trio.lowlevel.Task) -> str:
    """Return the innermost place outside of trio where a task waits."""
    places = list(_places(task))
    return places[-1] if places else ""


def where_everybody_is() -> tuple[str, ...]:
    """Return a line for every task of this trio loop: its name and where it waits.

    Innermost place first. The tasks that trio keeps for itself are left out.
    """
    root = trio.lowlevel.current_root_task()
    return () if root is None else tuple(_walk(root, 0))


def _walk(task: trio.lowlevel.Task, depth: int) -> Iterator[str]:
    name = task_name(task)
    if not name.startswith(_TRIOS_OWN):
        chain = " <- ".join(reversed(list(_places(task))))
        yield f"{'  ' * depth}{name}: {chain}" if chain else f"{'  ' * depth}{name}"
        depth += 1
    for nursery in task.child_nurseries:
        # A nursery's tasks are a set: the text has to put them in order.
        for below in sorted(list(_walk(child, depth)) for child in nursery.child_tasks):
            yield from below


def _places(task: trio.lowlevel.Task) -> Iterator[str]:
    for frame, line in task.iter_await_frames():
        code = frame.f_code
        if not code.co_filename.startswith((_TRIO, _US)):
            yield f"{code.co_qualname} ({Path(code.co_filename).name}:{line})"
