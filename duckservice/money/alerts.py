"""Who is told, once in each window, that a budget is half, nearly, or wholly spent.

What was told is remembered in the store, as a flag of each budget: a restart repeats
nothing, unless it comes in the moment between the two.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final, final

import attrs

from duckservice.core.budget_book import BudgetState
from duckservice.core.pricing import usd
from duckservice.events import BudgetAlert, EventSink

FLAG: Final = "budget_alert:"
WINDOWS_KEPT = 60
"""Of each budget: a clock that is put back by a day finds all of its hours."""


def _to_nobody(_event: object) -> None:
    """Stand in for those who have not said yet that they want to know."""


def _nowhere(_name: str, _value: str) -> None:
    """Stand in for a store."""


@final
@attrs.define(eq=False)
class Alerts:
    """Tells of each share of each window once."""

    emit: EventSink = _to_nobody
    remember: Callable[[str, str], None] = _nowhere
    """Has a flag of the store set, soon."""
    _told: dict[str, dict[int, int]] = attrs.field(factory=dict[str, dict[int, int]])
    """The highest share of each budget, by the beginnings of its windows."""

    def recall(self, flags: Mapping[str, str]) -> None:
        """Take note of what an earlier life of the daemon has told."""
        for flag, value in flags.items():
            if flag.startswith(FLAG):
                windows: Mapping[str, int] = json.loads(value)
                told = {int(begin): share for begin, share in windows.items()}
                self._told[flag.removeprefix(FLAG)] = told

    def forget(self, budget: str) -> None:
        """Tell anew of one that is another now."""
        self._told.pop(budget, None)

    def note(self, its: BudgetState, *, refused: bool = False) -> None:
        """Tell what is new in how a budget is; all is spent for whom it has *refused*."""
        share = 100 if refused else its.budget.reached
        told = self._told.setdefault(its.rule.name, {})
        if share <= told.get(its.since, 0):
            return
        told[its.since] = share
        if len(told) > WINDOWS_KEPT:
            del told[next(iter(told))]
        why = "so much of it is spent"
        if its.budget.reached < share:
            why = "it has refused a request that may cost more than is left"
        self.emit(
            BudgetAlert(
                budget=its.rule.name,
                share=share,
                window=its.rule.window,
                limit_usd=usd(its.budget.limit),
                spent_usd=usd(its.budget.settled),
                reserved_usd=usd(its.budget.reserved),
                since=its.since,
                until=its.until,
                why=why,
            )
        )
        self.remember(FLAG + its.rule.name, json.dumps(told))
