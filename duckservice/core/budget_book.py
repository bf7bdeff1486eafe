"""All budgets together: each by its window of the calendar, and by whom it binds; pure.

A request is reserved in every budget that binds it, or in none. A budget begins anew
with each hour, day or month of UTC; what was reserved in one window is settled in
that one, however late. A clock that jumps back finds the window that it left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal, TypeAlias, assert_never

import attrs

from duckservice.core import budget
from duckservice.core.budget import Budget

Window: TypeAlias = Literal["hour", "day", "month", "total"]

WINDOWS_KEPT = 3
"""Of each budget: the present one, and those that requests may yet be settled in."""

_HOUR = 3600
_DAY = 24 * _HOUR


@attrs.frozen(kw_only=True)
class BudgetRule:
    """One budget of the config."""

    name: str
    limit: int
    """Picodollars."""
    window: Window = "day"
    tag: tuple[str, str] | None = None
    """Binds requests with this tag; None: all."""

    def binds(self, tags: Mapping[str, str]) -> bool:
        """Say whether a request with *tags* counts here."""
        return self.tag is None or tags.get(self.tag[0]) == self.tag[1]


@attrs.frozen
class Reservation:
    """What a request may cost, set aside in each budget that binds it."""

    amount: int
    windows: tuple[tuple[str, int], ...]
    """Names of budgets, and the beginnings of their windows."""


@attrs.frozen(kw_only=True)
class Refusal:
    """A budget that has not enough left."""

    name: str
    limit: int
    left: int
    """What may yet be reserved."""
    until: float | None
    """When there is more again, in seconds since the epoch; None: never, or as soon
    as requests that are under way cost less than was set aside for them."""
    ever: bool
    """Whether the request would fit into an empty budget."""


@attrs.frozen(kw_only=True)
class BudgetState:
    """What is left of one budget now."""

    rule: BudgetRule
    budget: Budget
    since: float
    until: float | None
    """The end of the window, in seconds since the epoch."""


class BudgetBook:
    """Keeps every budget; nothing is ever reserved in half of them."""

    def __init__(self, rules: Sequence[BudgetRule]) -> None:
        self._rules = {rule.name: rule for rule in rules}
        self._windows: dict[str, dict[int, Budget]] = {rule.name: {} for rule in rules}

    def __repr__(self) -> str:
        return f"<BudgetBook {', '.join(self._rules)}>"

    def binds(self, tags: Mapping[str, str]) -> bool:
        """Say whether any budget binds a request with *tags*."""
        return any(rule.binds(tags) for rule in self._rules.values())

    def reserve(
        self, now: float, tags: Mapping[str, str], worst_case: int
    ) -> Reservation | Refusal:
        """Set *worst_case* aside in every budget that binds, or say which has not."""
        rules = [rule for rule in self._rules.values() if rule.binds(tags)]
        after = list[tuple[str, int, Budget]]()
        for rule in rules:
            begin = begin_of(rule.window, now)
            present = self._at(rule, begin)
            reserved = budget.reserve(present, worst_case)
            if reserved is None:
                return _refusal(rule, present, now, worst_case)
            after.append((rule.name, begin, reserved))
        for name, begin, reserved in after:
            self._put(name, begin, reserved)
        return Reservation(worst_case, tuple((name, begin) for name, begin, _ in after))

    def settle(self, reservation: Reservation, actual: int) -> None:
        """Replace what was set aside by what was spent."""
        for name, begin in reservation.windows:
            present = self._windows[name].get(begin)
            if present is not None:
                settled = budget.settle(present, reservation.amount, actual)
                self._windows[name][begin] = settled

    def load(self, name: str, begin: int, spent: int) -> None:
        """Add what earlier lives of the daemon have spent in a window."""
        present = self._at(self._rules[name], begin)
        self._put(name, begin, attrs.evolve(present, settled=present.settled + spent))

    def rules(self) -> tuple[BudgetRule, ...]:
        """Return the budgets there are."""
        return tuple(self._rules.values())

    def states(self, now: float) -> tuple[BudgetState, ...]:
        """Return what is left of each budget."""
        return tuple(
            BudgetState(
                rule=rule,
                budget=self._at(rule, begin_of(rule.window, now)),
                since=begin_of(rule.window, now),
                until=end_of(rule.window, now),
            )
            for rule in self._rules.values()
        )

    def _at(self, rule: BudgetRule, begin: int) -> Budget:
        return self._windows[rule.name].get(begin) or Budget(rule.limit)

    def _put(self, name: str, begin: int, its: Budget) -> None:
        windows = self._windows[name]
        windows[begin] = its
        while len(windows) > WINDOWS_KEPT:
            del windows[min(windows)]


def begin_of(window: Window, now: float) -> int:
    """Return when the window around *now* begins, in seconds since the epoch."""
    match window:
        case "hour":
            return int(now // _HOUR) * _HOUR
        case "day":
            return int(now // _DAY) * _DAY
        case "month":
            return _month(now, 0)
        case "total":
            return 0
        case _:
            assert_never(window)


def end_of(window: Window, now: float) -> int | None:
    """Return when the window around *now* ends; None: never."""
    match window:
        case "hour":
            return begin_of(window, now) + _HOUR
        case "day":
            return begin_of(window, now) + _DAY
        case "month":
            return _month(now, 1)
        case "total":
            return None
        case _:
            assert_never(window)


def _month(now: float, ahead: int) -> int:
    at = datetime.fromtimestamp(now, UTC)
    years, month = divmod(at.month - 1 + ahead, 12)
    return int(datetime(at.year + years, month + 1, 1, tzinfo=UTC).timestamp())


def _refusal(rule: BudgetRule, its: Budget, now: float, worst_case: int) -> Refusal:
    would_fit = its.settled + worst_case <= its.limit
    return Refusal(
        name=rule.name,
        limit=rule.limit,
        left=its.remaining,
        # Where only reservations are in the way, they may be settled at any time.
        until=None if would_fit else end_of(rule.window, now),
        ever=worst_case <= rule.limit,
    )
