"""The budgets of the config at work: asked before each attempt, told after it.

They belong to the tree, not to an actor: asking is one step without a checkpoint, so
what runs at the same time cannot overspend together, and no crash loses a cent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import final

import attrs

from duckservice.config import BudgetConfig
from duckservice.core.budget_book import (
    BudgetBook,
    BudgetRule,
    BudgetState,
    Refusal,
    Reservation,
    begin_of,
)
from duckservice.core.pricing import pico, usd
from duckservice.core.prospect import EmptyBudgets, MustWait, Tag
from duckservice.errors import BudgetExceeded
from duckservice.store.base import LedgerFilter, Store

RETRY_SOON = 2.0
"""Seconds after which a budget is asked again that others may leave something of."""


@final
@attrs.define(eq=False)
class Budgets:
    """Refuses what could exceed a budget."""

    _book: BudgetBook
    _wall_clock: Callable[[], float]
    _loaded: bool = False

    @classmethod
    def of(
        cls, config: Mapping[str, BudgetConfig], wall_clock: Callable[[], float]
    ) -> Budgets:
        """Make the budgets that the config names, with nothing spent."""
        rules = [
            BudgetRule(
                name=name,
                limit=pico(its.limit_usd),
                window=its.window,
                tag=_tag(its),
            )
            for name, its in config.items()
        ]
        return cls(BudgetBook(rules), wall_clock)

    @property
    def any(self) -> bool:
        """Whether there are budgets at all."""
        return bool(self._book.rules())

    def now(self) -> float:
        """Return the time by which budgets count, in seconds since the epoch."""
        return self._wall_clock()

    def reserve(self, tags: Mapping[str, str], worst: int | None) -> Reservation | None:
        """Set aside what a request may cost; None where no budget binds it.

        Raises:
            BudgetExceeded: it does not fit, or its cost cannot be bounded.
        """
        if not self._book.binds(tags):
            return None
        if worst is None:
            msg = (
                "a budget binds the request, and its cost cannot be bounded"
                " (set max_tokens; the model needs a price)"
            )
            raise BudgetExceeded(msg)
        now = self._wall_clock()
        its = self._book.reserve(now, tags, worst)
        if isinstance(its, Reservation):
            return its
        raise _exceeded(its, now, worst)

    def settle(self, reservation: Reservation | None, actual: int) -> None:
        """Replace what was set aside by what was spent, 0 if nothing was sent."""
        if reservation is not None:
            self._book.settle(reservation, actual)

    def states(self) -> tuple[BudgetState, ...]:
        """Return what is left of each."""
        return self._book.states(self._wall_clock())

    def empty(self, now_trio: float) -> EmptyBudgets:
        """Return which have nothing left; times are on the clock of *now_trio*."""
        all_jobs: MustWait | None = None
        tags = dict[Tag, MustWait]()
        now = self._wall_clock()
        for state in self._book.states(now):
            its = state.budget
            if its.settled < its.limit:
                continue
            at = None if state.until is None else now_trio + state.until - now
            why = MustWait(f"budget:{state.rule.name}", at)
            if state.rule.tag is None:
                all_jobs = all_jobs or why
            else:
                tags[state.rule.tag] = why
        return EmptyBudgets(all_jobs=all_jobs, tags=tags)

    async def load(self, store: Store) -> None:
        """Add what the ledger says was spent before this process; only once.

        What was in flight then counts with all that was reserved for it.
        """
        if self._loaded:
            return
        now = self._wall_clock()
        found = list[tuple[str, int, int]]()
        for rule in self._book.rules():
            begin = begin_of(rule.window, now)
            tags = {} if rule.tag is None else dict([rule.tag])
            sums = await store.sums(LedgerFilter(since=begin, tags=tags))
            spent = sum(one.amount + one.reserved for one in sums)
            found.append((rule.name, begin, spent))
        # All at once: where the store fails half-way, this is done again.
        for name, begin, spent in found:
            self._book.load(name, begin, spent)
        self._loaded = True


def _exceeded(refusal: Refusal, now: float, worst: int) -> BudgetExceeded:
    name, left = refusal.name, usd(refusal.left)
    error = BudgetExceeded(
        f"the request may cost {usd(worst)} USD, and of the budget {name!r}"
        f" ({usd(refusal.limit)} USD) {left} USD are left",
        retry_after=RETRY_SOON if refusal.until is None else refusal.until - now,
        retryable=refusal.ever,
    )
    error.budget = name
    return error


def _tag(config: BudgetConfig) -> Tag | None:
    if config.match is None or config.match.tag is None:
        return None
    key, _, value = config.match.tag.partition("=")
    return key.strip(), value.strip()
