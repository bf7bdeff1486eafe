"""What must hold of money: I30 at every step, I31 at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, floor

import attrs
import trio

from duckservice.config import BudgetConfig
from duckservice.core.pricing import pico, usd
from tests.simulation.policy import Book, Ledger
from tests.simulation.upstream import Seen
from tests.simulation.verdicts import Verdicts

HOUR = 3600.0


@attrs.define(eq=False)
class MoneyChecks:
    """Compares what is booked with what providers bill."""

    budgets: Mapping[str, BudgetConfig]
    verdicts: Verdicts
    bills: dict[str, int] = attrs.field(factory=dict[str, int])
    """By budget, what providers have billed for what it binds."""
    delivered: int = 0
    """Of all calls whose replies arrived whole."""
    unknown: int = 0
    """Calls that broke off: only the provider knows what they cost."""
    use: dict[str, float] = attrs.field(factory=dict[str, float])
    """By budget, the share that was billed; known at the end."""

    def ended(self, seen: Seen) -> None:
        """Add a bill."""
        if seen.fate == "ok":
            self.delivered += seen.bill
        elif seen.bill:
            self.unknown += 1
        for name, config in self.budgets.items():
            if _binds(config, seen):
                self.bills[name] = self.bills.get(name, 0) + seen.bill

    def look(self, books: Sequence[Book]) -> None:
        """Judge the books as they are now."""
        hours = floor(trio.current_time() / HOUR) + 1
        for book in books:
            taken = book.spent + book.reserved
            what = f"{book.name}: {usd(taken)} of {usd(book.limit)} USD are taken"
            self.verdicts.holds("I30", ok=taken <= book.limit, what=what)
            bill = self.bills.get(book.name, 0)
            what = f"{book.name}: {usd(bill)} USD are billed in {hours} h"
            self.verdicts.holds("I30", ok=bill <= hours * book.limit, what=what)
            if hours == 1:
                what = f"{book.name}: {usd(taken)} USD booked, {usd(bill)} USD billed"
                self.verdicts.holds("I30", ok=taken >= bill, what=what)

    def close(self, ledger: Ledger | None, seconds: float) -> None:
        """Judge the ledger, at the end of a run with so many seconds of orders."""
        hours = max(1, ceil(seconds / HOUR))
        for name, config in self.budgets.items():
            whole = pico(config.limit_usd) * hours
            self.use[name] = self.bills.get(name, 0) / whole
        if ledger is None:
            return
        self.verdicts.seen["estimated entries"] += ledger.estimated
        what = f"ledger {usd(ledger.exact)} USD, bills {usd(self.delivered)} USD"
        self.verdicts.holds("I31", ok=ledger.exact == self.delivered, what=what)
        total = ledger.exact + ledger.guessed
        what = f"ledger {usd(ledger.amount)} USD, its attempts {usd(total)} USD"
        self.verdicts.holds("I31", ok=ledger.amount == total, what=what)
        what = f"{ledger.open} entries are open"
        self.verdicts.holds("I31", ok=not ledger.open, what=what)


def _binds(config: BudgetConfig, seen: Seen) -> bool:
    if config.match is None or config.match.tag is None:
        return True
    key, _, value = config.match.tag.partition("=")
    return seen.order.source.tags.get(key) == value
