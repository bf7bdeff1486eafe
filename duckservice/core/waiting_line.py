"""Who waits, and who is next: high before normal before low, and nobody starves.

Three rules, in this order:

1. *Share.* Whoever is next of a class that was passed over 17 times in a row is
   next. With three classes, a class that waits thus gets at least one of any 20
   turns (5 %), however many of the others come in.
2. *Ageing.* Who waits rises one class every `aging` seconds, to the end of it.
   So the order within "high" is the order in which they *got* there, and that
   moment is known from the start: entry time plus one `aging` for each class
   below "high". The order by that moment is the order by class and time.
3. *First come, first served* within a class.

Who *yields* stands half a class behind others of its priority: they go first, unless
they came half an `aging` later or more. It counts as of its class in all else.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from itertools import count
from typing import Generic, Literal, TypeAlias, TypeVar

import attrs

Priority: TypeAlias = Literal["high", "normal", "low"]
PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")

PASSED_OVER_MAX = 17
"""The other two classes may be as overdue, and go first: 17 + 2 of 20 turns."""

W = TypeVar("W", bound=Hashable)


@attrs.frozen
class Entry(Generic[W]):
    """One who waits."""

    waiter: W
    priority: Priority
    yields: bool
    entered: float
    on_top: float
    """When it is, or will have been, promoted to the highest class."""
    number: int


class WaitingLine(Generic[W]):
    """A line of waiters; every operation takes the same time, however long it is."""

    def __init__(self, *, aging: float) -> None:
        """*aging* is the time in seconds after which a waiter rises by one class."""
        self._aging = aging
        self._classes: dict[tuple[Priority, bool], OrderedDict[W, Entry[W]]] = {
            (priority, yields): OrderedDict()
            for priority in PRIORITIES
            for yields in (False, True)
        }
        self._passed_over: dict[Priority, int] = dict.fromkeys(PRIORITIES, 0)
        self._numbers = count(1)

    def __len__(self) -> int:
        return sum(map(len, self._classes.values()))

    def __contains__(self, waiter: object) -> bool:
        return any(waiter in entries for entries in self._classes.values())

    def enter(
        self, now: float, priority: Priority, waiter: W, *, yields: bool = False
    ) -> None:
        """Put *waiter* at the end of its class, or behind it if it *yields*.

        Raises:
            ValueError: it waits already.
        """
        if waiter in self:
            msg = f"{waiter!r} waits already"
            raise ValueError(msg)
        classes_below = PRIORITIES.index(priority) + (0.5 if yields else 0)
        on_top = now + classes_below * self._aging
        self._classes[priority, yields][waiter] = Entry(
            waiter, priority, yields, now, on_top, next(self._numbers)
        )

    def next(self) -> W | None:
        """Return who is next, without letting it go; None if nobody waits."""
        entry = self._next()
        return None if entry is None else entry.waiter

    def pop(self) -> W:
        """Let the next one go, and note whom it passed over.

        Raises:
            IndexError: nobody waits.
        """
        entry = self._next()
        if entry is None:
            msg = "nobody waits"
            raise IndexError(msg)
        del self._classes[entry.priority, entry.yields][entry.waiter]
        for priority, waiting in self.depths().items():
            passed_over = waiting and priority != entry.priority
            self._passed_over[priority] = (
                self._passed_over[priority] + 1 if passed_over else 0
            )
        return entry.waiter

    def remove(self, waiter: W) -> bool:
        """Take out one who gave up; say whether it was there."""
        return any(
            entries.pop(waiter, None) is not None for entries in self._classes.values()
        )

    def depths(self) -> dict[Priority, int]:
        """Return how many of each class wait."""
        return {
            priority: len(self._classes[priority, False])
            + len(self._classes[priority, True])
            for priority in PRIORITIES
        }

    def oldest(self) -> float | None:
        """Return when the one who waits longest has entered; None if nobody waits."""
        return min((entry.entered for entry in self._heads()), default=None)

    def _next(self) -> Entry[W] | None:
        heads = list(self._heads())
        if not heads:
            return None
        late = max(self._passed_over[entry.priority] for entry in heads)
        if late >= PASSED_OVER_MAX:
            overdue = next(
                entry.priority
                for entry in heads
                if self._passed_over[entry.priority] == late
            )
            heads = [entry for entry in heads if entry.priority == overdue]
        return min(heads, key=lambda entry: (entry.on_top, entry.number))

    def _heads(self) -> Iterator[Entry[W]]:
        for entries in self._classes.values():
            if entries:
                yield next(iter(entries.values()))
