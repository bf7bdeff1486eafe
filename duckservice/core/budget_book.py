"""All budgets together: each by its window of the calendar, and by whom it binds; pure.

A request is reserved in every budget that binds it, or in none. A budget begins anew
with each hour, day or month of UTC; what was reserved in one window is settled in
that one, however late. A clock that jumps finds the windows that it left, so that
none of them is ever spent twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count

import attrs

from duckservice.core import budget
from duckservice.core.budget import Budget
from duckservice.core.budget_rule import BudgetRule, Spender
from duckservice.core.budget_window import begin_of, end_of

WINDOWS_KEPT = 1000
"""Of each budget, those in which something was spent last: 41 days of hours. What is
reserved is never forgotten, however many windows have it."""


@attrs.frozen(kw_only=True)
class Reservation:
    """What one attempt may cost, set aside in each budget that binds it."""

    amount: int
    at: float
    """When; the attempt belongs to the windows of that time."""
    windows: tuple[tuple[str, int], ...]
    """Keys of budgets, and the beginnings of their windows."""
    edition: int = 0
    """Of the book, when it was made."""
    number: int = 0
    """Tells it from others."""
    spares_others: bool
    """Whether another provider, or model, might not have been bound by any of them."""


@attrs.frozen(kw_only=True)
class Refusal:
    """A budget that has not enough left."""

    rule: BudgetRule
    left: int
    """What may yet be reserved."""
    until: float | None
    """The end of the window, in seconds since the epoch, where it must be waited for."""
    soon: bool
    """Whether it would fit, if what is under way cost less than was set aside."""
    ever: bool
    """Whether the request would fit into an empty budget."""


@attrs.frozen(kw_only=True)
class BudgetState:
    """What is left of one budget now."""

    rule: BudgetRule
    budget: Budget
    since: int
    until: int | None
    """The end of the window, in seconds since the epoch."""


class BudgetBook:
    """Keeps every budget; nothing is ever reserved in half of them."""

    def __init__(self, rules: Sequence[BudgetRule]) -> None:
        self._rules = {rule.key: rule for rule in rules}
        self._windows: dict[str, dict[int, Budget]] = {rule.key: {} for rule in rules}
        self.edition = 0
        """It counts up with each budget that comes or goes."""
        self._under_way: dict[int, tuple[Reservation, Spender]] = {}
        self._added: dict[int, list[tuple[str, int]]] = {}
        """Of what is under way: budgets that have come since, and their windows."""
        self._numbers = count(1)

    def add(self, rule: BudgetRule) -> None:
        """Have one more budget, with nothing spent; what is under way is reserved."""
        self._rules[rule.key], self._windows[rule.key] = rule, {}
        self.edition += 1
        for number, (its, spender) in self._under_way.items():
            if rule.binds(spender):
                begin = begin_of(rule.window, its.at)
                present = self._at(rule, begin)
                reserved = present.reserved + its.amount
                self._put(rule.key, begin, attrs.evolve(present, reserved=reserved))
                self._added.setdefault(number, []).append((rule.key, begin))

    def remove(self, key: str) -> None:
        """Forget a budget; what is reserved in it binds nobody any more."""
        del self._rules[key], self._windows[key]
        self.edition += 1

    def relimit(self, key: str, limit: int) -> None:
        """Have another limit in a budget; what is spent and reserved stays."""
        self._rules[key] = attrs.evolve(self._rules[key], limit=limit)
        windows = self._windows[key]
        for begin, its in windows.items():
            windows[begin] = attrs.evolve(its, limit=limit)

    def __repr__(self) -> str:
        return f"<BudgetBook {', '.join(rule.name for rule in self.rules())}>"

    def rules(self) -> tuple[BudgetRule, ...]:
        """Return the budgets there are."""
        return tuple(self._rules.values())

    def binding(self, spender: Spender) -> tuple[BudgetRule, ...]:
        """Return the budgets that count what *spender* spends."""
        return tuple(rule for rule in self._rules.values() if rule.binds(spender))

    def reserve(
        self, now: float, spender: Spender, worst_case: int
    ) -> Reservation | Refusal:
        """Set *worst_case* aside in every budget that binds, or say which has not."""
        rules = self.binding(spender)
        refusals = list[Refusal]()
        after = list[tuple[str, int, Budget]]()
        for rule in rules:
            begin = begin_of(rule.window, now)
            present = self._at(rule, begin)
            reserved = budget.reserve(present, worst_case)
            if reserved is None:
                refusals.append(_refusal(rule, present, now, worst_case))
            else:
                after.append((rule.key, begin, reserved))
        if refusals:
            return max(refusals, key=_weight)
        for key, begin, reserved in after:
            self._put(key, begin, reserved)
        reservation = Reservation(
            amount=worst_case,
            at=now,
            windows=tuple((key, begin) for key, begin, _ in after),
            edition=self.edition,
            spares_others=all(rule.spares_others for rule in rules),
            number=next(self._numbers),
        )
        self._under_way[reservation.number] = reservation, spender
        return reservation

    def move(
        self, reservation: Reservation, now: float, spender: Spender
    ) -> Reservation | Refusal:
        """Have what was reserved belong to *now*, when it is sent.

        A refusal leaves nothing reserved: the window of now, or a budget that is
        new, has no room for it.
        """
        if reservation.edition == self.edition and all(
            begin == begin_of(self._rules[key].window, now)
            for key, begin in reservation.windows
        ):
            moved = attrs.evolve(reservation, at=now)
            self._under_way[moved.number] = moved, spender
            return moved
        self.settle(reservation, 0)
        return self.reserve(now, spender, reservation.amount)

    def settle(
        self, reservation: Reservation, actual: int
    ) -> tuple[tuple[str, int], ...]:
        """Replace what was set aside by what was spent; return where, key and window.

        That is in all budgets that bind it and are still there.
        """
        self._under_way.pop(reservation.number, None)
        added = self._added.pop(reservation.number, ())
        there = tuple(
            its for its in (*reservation.windows, *added) if its[0] in self._rules
        )
        for key, begin in there:
            present = self._at(self._rules[key], begin)
            after = budget.settle(present, reservation.amount, actual)
            self._put(key, begin, after)
        return there

    def charge(self, now: float, spender: Spender, actual: int) -> tuple[str, ...]:
        """Add what was spent without a reservation; return the budgets' keys."""
        keys = tuple(rule.key for rule in self.binding(spender))
        for key in keys:
            self.load(key, {begin_of(self._rules[key].window, now): actual})
        return keys

    def load(self, key: str, spent: Mapping[int, int]) -> None:
        """Add what was spent without this book, by windows' beginnings."""
        for begin in sorted(spent):
            present = self._at(self._rules[key], begin)
            more = attrs.evolve(present, settled=present.settled + spent[begin])
            self._put(key, begin, more)

    def states(self, now: float) -> tuple[BudgetState, ...]:
        """Return what is left of each budget."""
        return tuple(
            self.state(rule.key, begin_of(rule.window, now)) for rule in self.rules()
        )

    def state(self, key: str, begin: int) -> BudgetState:
        """Return what is left of a budget in the window that begins then."""
        rule = self._rules[key]
        return BudgetState(
            rule=rule,
            budget=self._at(rule, begin),
            since=begin,
            until=end_of(rule.window, begin),
        )

    def _at(self, rule: BudgetRule, begin: int) -> Budget:
        return self._windows[rule.key].get(begin) or Budget(rule.limit)

    def _put(self, key: str, begin: int, its: Budget) -> None:
        windows = self._windows[key]
        # The last is the latest, so the first is the longest out of use.
        windows.pop(begin, None)
        windows[begin] = its
        if len(windows) > WINDOWS_KEPT:
            unused = (begin for begin, its in windows.items() if not its.reserved)
            oldest = next(unused, begin)
            if oldest != begin:
                del windows[oldest]


def _refusal(rule: BudgetRule, its: Budget, now: float, worst_case: int) -> Refusal:
    soon = its.settled + worst_case <= its.limit
    return Refusal(
        rule=rule,
        left=its.remaining,
        # Where only reservations are in the way, they may be settled at any time.
        until=None if soon else end_of(rule.window, now),
        soon=soon,
        ever=worst_case <= rule.limit,
    )


def _weight(its: Refusal) -> tuple[bool, bool, bool, float]:
    """Return what decides which of many refusals is told: the one that lasts longest.

    Before all, the one that no other provider gets around.
    """
    return (not its.rule.spares_others, not its.ever, not its.soon, its.until or 0.0)
