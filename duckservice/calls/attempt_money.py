"""The money of one attempt: what is set aside for it, and what it has cost.

Set aside are its worst case in the budgets that bind it, and in the limit that its
caller has set; the ledger holds what a budget has set aside before anything is sent.
Each of these ends once: booked, or released. The prices of an attempt are those of its
beginning: a config that is read again meanwhile is about the next one.
"""

from __future__ import annotations

from typing import final

import attrs

from duckservice.calls.call import Call
from duckservice.completion import AnyRequest, ImageRequest, Usage
from duckservice.core.budget_book import Reservation
from duckservice.core.budget_rule import Spender
from duckservice.core.job import Settlement
from duckservice.core.pricing import believable, usd
from duckservice.errors import BudgetExceeded, Unavailable
from duckservice.money.ledger import UNSENT
from duckservice.money.spending import why_unknown, worst_cost
from duckservice.providers.base import Provider
from duckservice.store.base import LedgerEntry
from duckservice.store.decisions import settled_entry
from duckservice.tree import Guarded, Parts


@final
@attrs.define(eq=False)
class AttemptMoney:
    """What one attempt may cost, and has cost."""

    parts: Parts
    call: Call
    guarded: Guarded
    provider: Provider
    """Who has priced what is set aside, and prices what it comes to."""
    request: AnyRequest
    entry: str
    """The id of what it costs, in the ledger."""
    reservation: Reservation | None = None
    """In the budgets that bind the request."""
    _at_most: int = 0
    """What it was reckoned with in `Call.at_most`."""
    _is_open: bool = False
    """Whether the ledger holds it."""

    @classmethod
    def set_aside(
        cls, parts: Parts, call: Call, guarded: Guarded, request: AnyRequest
    ) -> AttemptMoney:
        """Set aside what *request* may cost, everywhere or nowhere.

        Raises:
            BudgetExceeded: a budget has not enough left, or the caller's own limit.
        """
        provider, limit = guarded.provider, call.options.max_cost
        its = cls(parts, call, guarded, provider, request, call.new_entry())
        worst: int | None = None
        if parts.budgets.any or limit is not None:
            worst = worst_cost(provider, request)
        if limit is not None and (worst is None or call.at_most + worst > limit):
            # It was found to fit before; but another attempt may have come between.
            msg = f"with what was sent before it may cost more than {usd(limit)} USD"
            raise BudgetExceeded(msg, provider=guarded.config.name)
        if parts.budgets.any:
            its.reservation = parts.budgets.reserve(
                its._spender(), worst, lambda: why_unknown(provider, request)
            )
        if limit is not None:
            its._at_most = worst or 0
            call.at_most += its._at_most
        return its

    @property
    def at(self) -> float | None:
        """When it was set aside, in seconds since the epoch; None where no budget binds."""
        return None if self.reservation is None else self.reservation.at

    def release(self) -> None:
        """Give all of it back: nothing was sent."""
        self.parts.budgets.settle(self.reservation, 0)
        self.reservation = None
        if self._is_open:
            self.parts.ledger.settle(self.entry, UNSENT)
        self.call.at_most -= self._at_most
        self._at_most = 0

    def belong_to_now(self) -> None:
        """Have the budgets count it in the windows of this moment.

        Raises:
            BudgetExceeded: one that has just begun is full.
        """
        its, self.reservation = self.reservation, None
        self.reservation = self.parts.budgets.move(its, self._spender())

    def obey_new_budgets(self) -> None:
        """Have budgets bind it that have come with a reload since it was set aside.

        Raises:
            BudgetExceeded: one of them has no room for it.
        """
        its = self.reservation
        if its is not None and its.edition != self.parts.budgets.edition:
            self.belong_to_now()

    async def open_entry(self) -> None:
        """Have the ledger hold what a budget has set aside, unless a job does.

        Raises:
            Unavailable: the store cannot write.
        """
        its = self.reservation
        if its is None or self.call.options.watch is not None:
            return
        try:
            await self.parts.ledger.open(self._entry(at=its.at, reserved=its.amount))
            self._is_open = True
        except Unavailable as error:
            if its.spares_others:
                error.provider = self.guarded.config.name
            raise

    def cost(self, usage: Usage, *, ok: bool) -> int | None:
        """Return the picodollars that *usage* costs, None if nobody knows.

        What no request can have cost is not known: a provider has miscounted.
        """
        if not usage.total_tokens and usage.billed is None:
            # A picture costs something, though its provider counts no tokens.
            return None if ok and isinstance(self.request, ImageRequest) else 0
        return believable(self.provider.estimate_cost(usage, self.request.model))

    def book(self, outcome: str, usage: Usage, cost: int | None) -> None:
        """Replace what was set aside by what it has cost, in all the books."""
        self.call.charge(cost, estimated=usage.estimated)
        # What we only guess at, or cannot price, may have cost all of it.
        sure = cost is not None and not usage.estimated
        if self.call.options.max_cost is not None and sure:
            self.call.at_most += (cost or 0) - self._at_most
        its = self.reservation
        if its is not None:
            least = 0 if sure else its.amount
            self.parts.budgets.settle(its, max(least, cost or 0))
        elif cost and self.parts.budgets.any:
            # One may have come with a reload since it was begun.
            self.parts.budgets.charge(self._spender(), cost)
        self._note(outcome, usage, cost)

    def _note(self, outcome: str, usage: Usage, cost: int | None) -> None:
        """Write it into the ledger."""
        ledger = self.parts.ledger
        if self.call.options.watch is not None or not ledger.enabled:
            return  # whoever watches has its own record
        end = Settlement(
            outcome=outcome, usage=usage, cost=cost, estimated=usage.estimated
        )
        if self.reservation is not None:
            ledger.settle(self.entry, end)  # it was opened before it was sent
        else:
            now = self.parts.budgets.now()
            ledger.add(settled_entry(self._entry(at=now, reserved=cost or 0), end))

    def _entry(self, *, at: float, reserved: int) -> LedgerEntry:
        submitter = self.call.options.submitter
        return LedgerEntry(
            id=self.entry,
            provider=self.guarded.config.name,
            model=self.request.model,
            tags=self.call.options.tags,
            submitter=None if submitter is None else submitter.uid,
            at=at,
            reserved=reserved,
        )

    def _spender(self) -> Spender:
        submitter = self.call.options.submitter
        return Spender(
            tags=self.call.options.tags,
            submitter=None if submitter is None else submitter.uid,
            provider=self.guarded.config.name,
            model=self.provider.own_name(self.request.model),
            alias=self.request.model,
        )
