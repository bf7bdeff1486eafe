"""Who waits, and who is next: high before normal before low, and nobody starves.

Five rules, in this order:

1. *Share.* Whoever is next of a class that was passed over 17 times in a row is
   next. Those who *yield* have such a share as well, all of them together: whoever
   is first of them by the rules below. Each of the three classes, and those who
   yield, thus get at least one of any 20 turns (5 %) while they wait, however many
   of the others come in.
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

Share: TypeAlias = Literal["high", "normal", "low", "yields"]
SHARES: tuple[Share, ...] = (*PRIORITIES, "yields")
"""Who has a guaranteed share; of those that are equally late, the first is next."""

PASSED_OVER_MAX = 17
"""At most two others may be as late, and go first: 17 + 2 of 20 turns.

Two of the four, because each turn is one of some class, which then is not late.
"""

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
        self._passed_over: dict[Share, int] = dict.fromkeys(SHARES, 0)
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
        its, priority = self._class_of[waiter], self.entry(waiter).priority
        # A turn counts for those who yield if it was the first of them that had it.
        # Else the turns that low ones of them owe to their class would use up the
        # share of all, and high ones, whose class is never late, would get none.
        first = self._firsts().get("yields")
        served: set[Share] = {priority}
        if first is not None and self._class_of[first.waiter] is its:
            served.add("yields")
        self.take(waiter)
        waiting = self._firsts()
        for share in SHARES:
            if share in waiting and share not in served:
                self._passed_over[share] += 1
            else:
                self._passed_over[share] = 0
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
        firsts = self._firsts()
        if not firsts:
            return None
        latest = max(firsts, key=lambda share: self._passed_over[share])
        if self._passed_over[latest] >= PASSED_OVER_MAX:
            first = firsts[latest]
        else:
            first = min(firsts.values(), key=lambda entry: entry.rank)
        return self._class_of[first.waiter]

    def _firsts(self) -> dict[Share, Entry[W]]:
        """Return who stands first of each share, where anybody waits; by `SHARES`."""
        firsts: dict[Share, Entry[W]] = {}
        yielding: Entry[W] | None = None
        for head in self._heads():
            its = firsts.setdefault(head.priority, head)
            if head.rank < its.rank:
                firsts[head.priority] = head
            if head.yields and (yielding is None or head.rank < yielding.rank):
                yielding = head
        if yielding is not None:
            firsts["yields"] = yielding
        return firsts

    def _heads(self) -> Iterator[Entry[W]]:
        """Yield who waits longest in each class that is not empty."""
        for its in self._classes.values():
            if its.entries:
                yield next(iter(its.entries.values()))


def _classes_below(priority: Priority, *, yields: bool) -> float:
    return PRIORITIES.index(priority) + (0.5 if yields else 0)
