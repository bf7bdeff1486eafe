"""In which order runnable tasks take their steps: schedules as plain values.

A schedule is a description; `Schedule.start` makes the state of one run of it.
Write your own with that one method, and give it to `using` or `simulate`.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeAlias
from weakref import WeakKeyDictionary

import attrs
import trio

from supervisors.testing._hook import Order, check_trio, ordered_by

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

Tasks: TypeAlias = Sequence[trio.lowlevel.Task]


class Schedule(Protocol):
    """Describes an order of steps; the same description gives the same order."""

    def start(self) -> Order:
        """Return the order of a new run; see `Order`."""
        ...


@attrs.frozen
class Fifo:
    """The oldest task first, in every turn: the plainest schedule."""

    def start(self) -> Order:
        """Return the order of a new run."""
        return _as_they_are


def _as_they_are(tasks: Tasks) -> Tasks:
    return tasks


@attrs.frozen
class Seeded:
    """A random order in every turn, as trio has it by itself, but from a seed.

    Every runnable task still takes one step a turn: none falls far behind.
    """

    seed: int

    def start(self) -> Order:
        """Return the order of a new run."""
        source = random.Random(self.seed)  # noqa: S311 - no secret

        def order(tasks: Tasks) -> Tasks:
            return source.sample(tasks, len(tasks)) if len(tasks) > 1 else tasks

        return order


def _pairs(plan: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    return tuple((gap, places) for gap, places in plan)


@attrs.frozen
class Delays:
    """First in, first out, but for a few listed delays: the easiest to understand.

    Each ``(gap, places)`` lets *gap* turns with a choice pass; in the next one,
    the first *places* tasks run last. Few delays find most races, and a short
    list says what the race is.
    """

    plan: tuple[tuple[int, int], ...] = attrs.field(default=(), converter=_pairs)

    def start(self) -> Order:
        """Return the order of a new run."""
        at = dict[int, int]()
        turn = -1
        for gap, places in self.plan:
            turn += gap + 1
            at[turn] = places
        choices = 0

        def order(tasks: Tasks) -> Tasks:
            nonlocal choices
            if len(tasks) < 2:
                return tasks
            places = at.get(choices, 0) % len(tasks)
            choices += 1
            return [*tasks[places:], *tasks[:places]] if places else tasks

        return order


@attrs.frozen
class PCT:
    """Random priorities and a few changes of them: lets a task fall far behind.

    Probabilistic concurrency testing (Burckhardt and others, 2010): only the
    task of highest priority runs; at ``depth - 1`` random turns of the first
    ``horizon`` it becomes the last. A bug that needs *depth* orderings is found
    with a probability that does not depend on how many tasks there are. A task
    that takes ``SPIN`` steps in a row without the others may be waiting for
    them, and becomes the last as well.
    """

    seed: int
    depth: int = attrs.field(default=3, validator=attrs.validators.ge(1))
    horizon: int = attrs.field(default=500, validator=attrs.validators.ge(1))

    def start(self) -> Order:
        """Return the order of a new run."""
        return _Priorities(self).order


SPIN = 40


class _Priorities:
    """The state of one run of `PCT`."""

    def __init__(self, pct: PCT) -> None:
        self._random = random.Random(pct.seed)  # noqa: S311 - no secret
        self._changes = {
            self._random.randrange(pct.horizon) for _ in range(pct.depth - 1)
        }
        self._priority = WeakKeyDictionary[trio.lowlevel.Task, float]()
        self._lowest = 0.0
        self._turn = -1
        self._last: trio.lowlevel.Task | None = None
        self._in_a_row = 0

    def order(self, tasks: Tasks) -> Tasks:
        if len(tasks) < 2:
            return tasks
        for task in tasks:
            if task not in self._priority:
                self._priority[task] = 1 + self._random.random()
        self._turn += 1
        top = self._highest(tasks)
        self._in_a_row = self._in_a_row + 1 if top is self._last else 0
        if self._turn in self._changes or self._in_a_row >= SPIN:
            self._lowest -= 1
            self._priority[top] = self._lowest
            self._in_a_row = 0
            top = self._highest(tasks)
        self._last = top
        return [top]

    def _highest(self, tasks: Tasks) -> trio.lowlevel.Task:
        return max(tasks, key=self._priority.__getitem__)


@contextmanager
def using(schedule: Schedule) -> Generator[None]:
    """Run every trio loop inside the block by *schedule*, started anew.

    Raises:
        UnsupportedTrio: this trio does not let its order be chosen.
    """
    check_trio()
    with ordered_by(schedule.start()):
        yield


def delays() -> SearchStrategy[Delays]:
    """Draw a few delays; shrinks to as few as show the failure, and to none.

    Raises:
        ImportError: Hypothesis is not installed.
    """
    from hypothesis import strategies as st  # noqa: PLC0415 - an optional dependency

    delay = st.tuples(st.integers(0, 40), st.integers(1, 4))
    return st.lists(delay, max_size=6).map(Delays)


def schedules() -> SearchStrategy[Schedule]:
    """Draw a schedule of any kind; shrinks to `Fifo` if the order does not matter.

    What needs a certain order to fail keeps a schedule of some kind, and often
    a seed, which explains nothing: try the test with `delays` then.

    Raises:
        ImportError: Hypothesis is not installed.
    """
    from hypothesis import strategies as st  # noqa: PLC0415 - an optional dependency

    seeds = st.integers(0, 2**32 - 1)
    horizons = st.sampled_from([50, 200, 1000, 5000])
    return st.one_of(
        st.just(Fifo()),
        delays(),
        st.builds(Seeded, seeds),
        st.builds(PCT, seeds, st.integers(1, 5), horizons),
    )
