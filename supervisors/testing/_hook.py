"""The one place that touches trio's private names: who runs next in a turn of the loop.

trio runs its runnable tasks in batches and shuffles each with a module-level
`random.Random`. Its own Hypothesis plug-in makes the batches repeatable with
`_ALLOW_DETERMINISTIC_SCHEDULING`; here the `Random` is replaced as well. What is
used, and nothing more:

    trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING   sorts a batch by age of the tasks
    trio._core._run._r                                its ``shuffle`` gets each batch
    trio._core._run.GLOBAL_RUN_CONTEXT.runner.runq    takes back who is to wait a turn
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import attrs
import trio
import trio.testing

Order: TypeAlias = Callable[
    [Sequence[trio.lowlevel.Task]], Sequence[trio.lowlevel.Task]
]
"""Gets the runnable tasks, oldest first; returns who runs now, in which order.

Who is left out waits for the next turn. Somebody must run.
"""

TESTED_WITH = "0.29 to 0.35"

_NAMES = ("_ALLOW_DETERMINISTIC_SCHEDULING", "_r", "GLOBAL_RUN_CONTEXT")


class UnsupportedTrio(RuntimeError):
    """This version of trio does not let its order be chosen; ``missing`` says why."""

    def __init__(self, missing: str) -> None:
        super().__init__(
            f"trio {trio.__version__} cannot be given a schedule: {missing}. "
            f"Known to work: trio {TESTED_WITH}. Without schedules there still are: "
            "fault plans, invariants and Trace, under trio.run or pytest-trio; "
            "what fails there need not fail again."
        )
        self.missing = missing


@contextmanager
def ordered_by(order: Order) -> Generator[None]:
    """Let *order* decide in every trio loop that turns inside the block.

    Raises:
        UnsupportedTrio: trio has not got the names that this needs.
    """
    run = _trio_run()
    before = run._ALLOW_DETERMINISTIC_SCHEDULING, run._r  # noqa: SLF001 - see above
    run._ALLOW_DETERMINISTIC_SCHEDULING = True  # noqa: SLF001
    run._r = _Shuffler(order, run.GLOBAL_RUN_CONTEXT)  # noqa: SLF001
    try:
        yield
    finally:
        run._ALLOW_DETERMINISTIC_SCHEDULING, run._r = before  # noqa: SLF001


def _trio_run() -> Any:
    module: Any = getattr(getattr(trio, "_core", None), "_run", None)
    missing = [name for name in _NAMES if not hasattr(module, name)]
    if missing:
        raise UnsupportedTrio(f"it has no trio._core._run.{' and no '.join(missing)}")
    return module


@attrs.define(eq=False)
class _Shuffler:
    """Stands in for trio's `random.Random`: has what trio calls of it."""

    _order: Order
    _context: Any
    _random: random.Random = attrs.field(factory=lambda: random.Random(0))  # noqa: S311 - no secret

    def shuffle(self, batch: list[trio.lowlevel.Task]) -> None:
        """Arrange a batch, oldest first, so that trio pops it in our order."""
        chosen = list(self._order(batch))
        if len(chosen) != len(batch):
            assert chosen, "a schedule let nobody run: that would be a hang"
            running = set(chosen)
            waiting = [task for task in batch if task not in running]
            self._waiting_tasks().extend(waiting)
        chosen.reverse()
        batch[:] = chosen

    def _waiting_tasks(self) -> deque[trio.lowlevel.Task]:
        queue: deque[trio.lowlevel.Task] = self._context.runner.runq
        return queue

    def random(self) -> float:
        """Return a number, for loops that are not deterministic."""
        return self._random.random()

    def uniform(self, low: float, high: float) -> float:
        """Return a number between; trio's system clock starts there."""
        return self._random.uniform(low, high)


def check_trio() -> None:
    """See whether schedules have their effect in this trio; cheap when they had once.

    Runs a few tasks under three orders. Inside of a trio loop, where no other can
    run, it only looks whether the needed names are there.

    Raises:
        UnsupportedTrio: they have none, or trio has not got the needed names.
    """
    _trio_run()
    if _checked or trio.lowlevel.in_trio_run():
        return
    names = "abcd"
    orders: dict[str, Order] = {
        names: lambda tasks: tasks,
        names[::-1]: lambda tasks: tasks[::-1],
        # One a turn, the youngest first: this needs the queue of waiting tasks.
        f"{names[::-1]} one by one": lambda tasks: tasks[-1:],
    }
    for expected, order in orders.items():
        seen = _order_of_tasks(names, order)
        if seen != expected[: len(names)]:
            raise UnsupportedTrio(
                f"asked for the order {expected!r}, its tasks ran in {seen!r}"
            )
    _checked.append(trio.__version__)


_checked: list[str] = []
"""The version that was found good: a list, for the answer comes later."""


#: Many more turns of the loop than the check of `check_trio` takes.
ENOUGH_TURNS = 1000


def _order_of_tasks(names: str, order: Order) -> str:
    seen = list[str]()

    async def note(name: str) -> None:
        seen.append(name)
        await trio.lowlevel.checkpoint()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(note, name)

    turns = iter(range(ENOUGH_TURNS))

    def not_for_ever(tasks: Sequence[trio.lowlevel.Task]) -> Any:
        # Tasks that nobody takes back would be waited for, and never run.
        if next(turns, None) is None:
            msg = f"no end in {ENOUGH_TURNS} turns"
            raise RuntimeError(msg)
        return order(tasks)

    with ordered_by(not_for_ever):
        try:
            # With this clock the loop turns even if nobody can run.
            trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
        except trio.TrioInternalError as error:
            bury(error)
            raise UnsupportedTrio(f"its loop failed: {error.__cause__!r}") from error
    return "".join(seen)


_graveyard = list[BaseException]()


def bury(error: BaseException) -> None:
    """Keep a loop that *error* broke off, with all its tasks, until Python exits.

    If they were collected, trio would complain of each, in the middle of some
    other test.
    """
    if isinstance(error, trio.TrioInternalError):
        _graveyard.append(error)
