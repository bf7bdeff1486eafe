"""Who waits, and who is next: high before normal before low, and nobody starves.

Five rules, in this order:

1. *Share.* Whoever is next of a class that was passed over 17 times in a row is
   next. With three classes, a class that waits thus gets at least one of any 20
   turns (5 %), however many of the others come in.
2. *Ageing.* Who waits rises one class every `aging` seconds, to the end of it.
   So the order within "high" is the order in which they *got* there, and that
   moment is known from the start: entry time plus one `aging` for each class
   below "high". A class stands where the one who waits longest in it stands.
3. *Turns.* Within a class submitters take turns: users first, and the processes of
   one user among themselves (see `shares`). Who has 1,000 waiting delays who has
   one by one turn.
4. *Deadlines.* Within what one submitter has waiting, the earliest goes first.
   Without a deadline, or with one far away, it counts as `patience` after entry; so
   who comes later than that is behind, whatever its deadline.
5. *First come, first served* for the rest.

Who *yields* stands half a class behind others of its priority: they go first, unless
they came half an `aging` later or more. It counts as of its class in all else.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from itertools import count
from typing import Generic, Literal, TypeAlias

import attrs

from duckservice.core.shares import ANYBODY, Shares, Standing, Submitters, W

Priority: TypeAlias = Literal["high", "normal", "low"]
PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")

PASSED_OVER_MAX = 17
"""The other two classes may be as overdue, and go first: 17 + 2 of 20 turns."""

PATIENCE = 60.0
"""Seconds after which who has set no deadline counts as due."""


@attrs.frozen
class Entry(Generic[W]):
    """One who waits."""

    waiter: W
    priority: Priority
    yields: bool
    entered: float
    on_top: float
    """When it is, or will have been, promoted to the highest class."""
    standing: Standing
    submitter: Submitters

    @property
    def rank(self) -> tuple[float, int]:
        """What the order between classes goes by."""
        return self.on_top, self.standing[1]


@attrs.define(eq=False)
class _Class(Generic[W]):
    """Those of one priority who all yield, or all do not."""

    entries: OrderedDict[W, Entry[W]] = attrs.field(factory=OrderedDict[W, Entry[W]])
    """By entry: the first waits longest."""
    shares: Shares[W] = attrs.field(factory=Shares[W])


class WaitingLine(Generic[W]):
    """A line of waiters; no operation takes much longer where many wait."""

    def __init__(self, *, aging: float, patience: float = PATIENCE) -> None:
        """*aging* is the time in seconds after which a waiter rises by one class."""
        self._aging = aging
        self._patience = patience
        self._classes: dict[tuple[Priority, bool], _Class[W]] = {
            (priority, yields): _Class[W]()
            for priority in PRIORITIES
            for yields in (False, True)
        }
        self._class_of: dict[W, _Class[W]] = {}
        self._passed_over: dict[Priority, int] = dict.fromkeys(PRIORITIES, 0)
        self._numbers = count(1)

    def __len__(self) -> int:
        return len(self._class_of)

    def __contains__(self, waiter: object) -> bool:
        return waiter in self._class_of

    def enter(
        self,
        now: float,
        priority: Priority,
        waiter: W,
        *,
        yields: bool = False,
        submitter: Submitters = ANYBODY,
        deadline: float = math.inf,
    ) -> None:
        """Let *waiter* wait, behind those of its class whose turn is earlier.

        Raises:
            ValueError: it waits already.
        """
        if waiter in self._class_of:
            msg = f"{waiter!r} waits already"
            raise ValueError(msg)
        its = self._classes[priority, yields]
        on_top = now + _classes_below(priority, yields=yields) * self._aging
        standing = self._due(now, deadline), next(self._numbers)
        entry = Entry(waiter, priority, yields, now, on_top, standing, submitter)
        its.entries[waiter] = entry
        its.shares.add(submitter, standing, waiter)
        self._class_of[waiter] = its

    def next(self) -> W | None:
        """Return who is next, without letting it go; None if nobody waits."""
        its = self._next_class()
        return None if its is None else its.shares.next()

    def first(self) -> W:
        """Return who is next, without letting it go.

        Raises:
            IndexError: nobody waits.
        """
        its = self._next_class()
        if its is None:
            msg = "nobody waits"
            raise IndexError(msg)
        return its.shares.next()

    def pop(self) -> W:
        """Let the next one go, and note whom it passed over.

        Raises:
            IndexError: nobody waits.
        """
        waiter = self.first()
        priority = self.entry(waiter).priority
        self.take(waiter)
        for other, waiting in self.depths().items():
            passed_over = waiting and other != priority
            self._passed_over[other] = (
                self._passed_over[other] + 1 if passed_over else 0
            )
        return waiter

    def take(self, waiter: W) -> None:
        """Let *waiter* go before its time; it counts as its submitter's turn.

        Raises:
            KeyError: it does not wait.
        """
        its = self._class_of.pop(waiter)
        entry = its.entries.pop(waiter)
        its.shares.remove(entry.submitter, entry.standing, turn_taken=True)

    def remove(self, waiter: W) -> bool:
        """Take out one who gave up; say whether it was there."""
        its = self._class_of.pop(waiter, None)
        if its is None:
            return False
        entry = its.entries.pop(waiter)
        its.shares.remove(entry.submitter, entry.standing, turn_taken=False)
        return True

    def entry(self, waiter: W) -> Entry[W]:
        """Return what is known of one who waits; `KeyError` if it does not."""
        return self._class_of[waiter].entries[waiter]

    def ahead(
        self,
        now: float,
        priority: Priority,
        *,
        yields: bool = False,
        submitter: Submitters = ANYBODY,
        deadline: float = math.inf,
    ) -> int:
        """Return about how many would go before one who entered now.

        Those of higher classes, and those of its own by turns and deadlines; who of
        a lower class has aged, or is owed a share, is not counted.
        """
        below = _classes_below(priority, yields=yields)
        higher = sum(
            len(its.entries)
            for (other, other_yields), its in self._classes.items()
            if _classes_below(other, yields=other_yields) < below
        )
        own = self._classes[priority, yields].shares
        return higher + own.ahead(submitter, self._due(now, deadline))

    def depths(self) -> dict[Priority, int]:
        """Return how many of each class wait."""
        return {
            priority: len(self._classes[priority, False].entries)
            + len(self._classes[priority, True].entries)
            for priority in PRIORITIES
        }

    def oldest(self) -> float | None:
        """Return when the one who waits longest has entered; None if nobody waits."""
        return min((entry.entered for entry in self._heads()), default=None)

    def _due(self, now: float, deadline: float) -> float:
        return min(deadline, now + self._patience)

    def _next_class(self) -> _Class[W] | None:
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
        first = min(heads, key=lambda entry: entry.rank)
        return self._classes[first.priority, first.yields]

    def _heads(self) -> Iterator[Entry[W]]:
        """Yield who waits longest in each class that is not empty."""
        for its in self._classes.values():
            if its.entries:
                yield next(iter(its.entries.values()))


def _classes_below(priority: Priority, *, yields: bool) -> float:
    return PRIORITIES.index(priority) + (0.5 if yields else 0)
