"""Plain clients that make well-known mistakes: what the service is compared with.

They are also the proof that the judge can see: each promise is broken by one of them.
"""

from __future__ import annotations

import heapq
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

import attrs
import trio

from duckservice.completion import Usage
from duckservice.core.pricing import PICO_PER_USD, pico
from duckservice.errors import BudgetExceeded, CircuitOpen, ProviderError
from duckservice.events import BreakerMoved
from tests.simulation.load import Order
from tests.simulation.policy import Book, Client, Ledger, Policy, Setting
from tests.simulation.provider import SimProvider


def naive(make: Callable[[Setting], Client]) -> Policy:
    """Return the policy of a plain client."""

    @asynccontextmanager
    async def open_client(setting: Setting) -> AsyncGenerator[Client]:
        yield make(setting)

    return Policy(open_client)


@attrs.define(eq=False)
class Retrying:
    """Asks the first provider up to four times, then the next, whatever goes wrong."""

    setting: Setting
    delay: Callable[[int], float] = attrs.field(default=lambda n: 2.0**n, kw_only=True)
    """Seconds before retry number n, from 0."""
    tries: int = attrs.field(default=4, kw_only=True)
    """At each provider."""

    async def ask(self, order: Order) -> None:
        """See `Client.ask`."""
        last = ProviderError("nobody serves it")
        for provider in self.setting.providers.values():
            if not provider.supports_model(order.request.model):
                continue
            for attempt in range(self.tries):
                if attempt:
                    await trio.sleep(self.delay(attempt - 1))
                try:
                    await self.send(provider, order)
                except ProviderError as error:
                    last = error
                else:
                    return
        raise last

    async def send(self, provider: SimProvider, order: Order) -> Usage:
        """Make one call; return what it used."""
        if not order.stream:
            return (await provider.complete(order.request)).usage
        usage = Usage()
        async with provider.stream(order.request) as batches:
            async for batch in batches:
                for chunk in batch:
                    usage = getattr(chunk, "usage", usage)
        return usage

    def books(self) -> Sequence[Book]:
        """See `Client.books`."""
        return ()

    async def ledger(self) -> Ledger | None:
        """See `Client.ledger`."""
        await trio.lowlevel.checkpoint()
        return None


@attrs.define(eq=False)
class CheckThenAdd(Retrying):
    """Reads what was spent, calls, and adds the cost to it after, in floating point."""

    _spent: float = 0.0
    _all: float = 0.0
    _hour: int = 0

    async def send(self, provider: SimProvider, order: Order) -> Usage:
        """Make one call; return what it used."""
        budget = self.setting.config.budgets.get("all")
        if int(trio.current_time() // 3600) != self._hour:
            self._hour, self._spent = int(trio.current_time() // 3600), 0.0
        if budget is not None and self._spent >= float(budget.limit_usd):
            msg = "it is all spent"
            raise BudgetExceeded(msg)
        usage = await super().send(provider, order)
        its = (provider.estimate_cost(usage, "m") or 0) / PICO_PER_USD
        self._spent += its
        self._all += its
        return usage

    def books(self) -> Sequence[Book]:
        """See `Client.books`."""
        budget = self.setting.config.budgets.get("all")
        if budget is None:
            return ()
        spent = round(self._spent * PICO_PER_USD)
        return [Book(name="all", limit=pico(budget.limit_usd), spent=spent, reserved=0)]

    async def ledger(self) -> Ledger | None:
        """See `Client.ledger`."""
        await trio.lowlevel.checkpoint()
        amount = int(self._all * PICO_PER_USD)
        return Ledger(amount=amount, exact=amount, guessed=0, open=0, estimated=0)


@attrs.define(eq=False)
class TokenBucket(Retrying):
    """Holds "60 a minute" by a bucket of 60 that one a second flows into."""

    _level: float = 60.0
    _at: float = 0.0
    _line: trio.Lock = attrs.field(factory=trio.Lock)

    async def send(self, provider: SimProvider, order: Order) -> Usage:
        """Make one call; return what it used."""
        async with self._line:
            self._flow()
            while self._level < 1.0:
                await trio.sleep(1.0 - self._level + 1e-9)
                self._flow()
            self._level -= 1.0
        return await super().send(provider, order)

    def _flow(self) -> None:
        now = trio.current_time()
        self._level = min(60.0, self._level + now - self._at)
        self._at = now


@attrs.define(eq=False)
class NaiveBreaker(Retrying):
    """Has a breaker, and asks it only before the first try; half open, all may pass."""

    _failures: int = 0
    _until: float | None = None

    async def ask(self, order: Order) -> None:
        """See `Client.ask`."""
        if self._until is not None and trio.current_time() < self._until:
            msg = "open"
            raise CircuitOpen(msg)
        if self._until is not None:
            self._move("open", "half_open")
            self._until = None
        await super().ask(order)

    async def send(self, provider: SimProvider, order: Order) -> Usage:
        """Make one call; return what it used."""
        try:
            usage = await super().send(provider, order)
        except ProviderError:
            self._failures += 1
            if self._failures >= 5 and self._until is None:
                self._until = trio.current_time() + 60.0
                self._move("closed", "open")
            raise
        if self._failures:
            self._failures, self._until = 0, None
            self._move("half_open", "closed")
        return usage

    def _move(self, was: str, now: str) -> None:
        first = next(iter(self.setting.providers))
        self.setting.emit(BreakerMoved(provider=first, was=was, now=now))


@attrs.define(eq=False)
class OneLine(Retrying):
    """One line for all providers, strictly by priority, and four workers.

    Each takes an order in 4.1 s at most, so that 60 a minute are never exceeded.
    """

    tries: int = attrs.field(default=1, kw_only=True)
    _waiting: list[tuple[int, int, trio.Event]] = attrs.field(
        factory=list[tuple[int, int, trio.Event]]
    )
    _busy: int = 0

    async def ask(self, order: Order) -> None:
        """See `Client.ask`."""
        place = ("high", "normal", "low").index(order.source.priority)
        ticket = (place, order.id, trio.Event())
        heapq.heappush(self._waiting, ticket)
        self._let_in()
        try:
            await ticket[2].wait()
        except trio.Cancelled:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
                heapq.heapify(self._waiting)
            else:
                self._leave()
            raise
        began = trio.current_time()
        try:
            await super().ask(order)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep_until(max(trio.current_time(), began + 4.1))
            self._leave()

    def _leave(self) -> None:
        self._busy -= 1
        self._let_in()

    def _let_in(self) -> None:
        while self._busy < 4 and self._waiting:
            self._busy += 1
            heapq.heappop(self._waiting)[2].set()
