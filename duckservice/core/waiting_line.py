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
    entered: float
    on_top: float
    """When it is, or will have been, promoted to the highest class."""
    number: int


class WaitingLine(Generic[W]):
    """A line of waiters; every operation takes the same time, however long it is."""

    def __init__(self, *, aging: float) -> None:
        """*aging* is the time in seconds after which a waiter rises by one class."""
        self._aging = aging
        self._classes: dict[Priority, OrderedDict[W, Entry[W]]] = {
            priority: OrderedDict() for priority in PRIORITIES
        }
        self._passed_over: dict[Priority, int] = dict.fromkeys(PRIORITIES, 0)
        self._numbers = count(1)

    def __len__(self) -> int:
        return sum(map(len, self._classes.values()))

    def __contains__(self, waiter: object) -> bool:
        return any(waiter in entries for entries in self._classes.values())

    def enter(self, now: float, priority: Priority, waiter: W) -> None:
        """Put *waiter* at the end of its class.

        Raises:
            ValueError: it waits already.
        """
        if waiter in self:
            msg = f"{waiter!r} waits already"
            raise ValueError(msg)
        on_top = now + PRIORITIES.index(priority) * self._aging
        self._classes[priority][waiter] = Entry(
            waiter, priority, now, on_top, next(self._numbers)
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
        del self._classes[entry.priority][entry.waiter]
        for priority, entries in self._classes.items():
            passed_over = entries and priority != entry.priority
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
        return {priority: len(entries) for priority, entries in self._classes.items()}

    def oldest(self) -> float | None:
        """Return when the one who waits longest has entered; None if nobody waits."""
        return min((entry.entered for entry in self._heads()), default=None)

    def _next(self) -> Entry[W] | None:
        heads = list(self._heads())
        if not heads:
            return None
        overdue = max(heads, key=lambda entry: self._passed_over[entry.priority])
        if self._passed_over[overdue.priority] >= PASSED_OVER_MAX:
            return overdue
        return min(heads, key=lambda entry: (entry.on_top, entry.number))

    def _heads(self) -> Iterator[Entry[W]]:
        for entries in self._classes.values():
            if entries:
                yield next(iter(entries.values()))
