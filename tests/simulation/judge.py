"""Sees every call and every end of a run, and holds them against the promises."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

import attrs
import trio

from duckservice.config import Config
from duckservice.events import BreakerMoved, Event
from tests.simulation.checks_calls import CallChecks, checks_of
from tests.simulation.checks_money import MoneyChecks
from tests.simulation.checks_service import (
    Done,
    judge_neighbour,
    judge_recovery,
    judge_shares,
    recoveries,
)
from tests.simulation.load import Order
from tests.simulation.policy import Book, Ledger
from tests.simulation.upstream import Seen, Upstream
from tests.simulation.verdicts import Verdicts
from tests.simulation.world import World


@attrs.define(eq=False)
class Judge:
    """The witness of one run."""

    world: World
    config: Config
    seconds: float
    """In which orders come."""
    books: Callable[[], Sequence[Book]] = tuple
    """The policy's, as soon as there is one."""
    verdicts: Verdicts = attrs.field(factory=Verdicts)
    done: list[Done] = attrs.field(factory=list[Done])
    recovered: list[float] = attrs.field(factory=list[float])
    money: MoneyChecks = attrs.field(init=False)
    _calls: dict[str, CallChecks] = attrs.field(init=False)
    _digest: hashlib.blake2b = attrs.field(
        init=False, factory=lambda: hashlib.blake2b(digest_size=8)
    )

    def __attrs_post_init__(self) -> None:
        self.money = MoneyChecks(self.world.budgets, self.verdicts)
        self._calls = checks_of(self.config, self.verdicts)

    @property
    def digest(self) -> str:
        """Equal for runs in which the same happened, at the same times, in order."""
        return self._digest.hexdigest()

    def arrived(self, seen: Seen) -> None:
        """See a call begin."""
        self._write("call", seen.provider, seen.order.id)
        self._calls[seen.provider].arrived(seen)
        self.money.look(self.books())

    def ended(self, seen: Seen) -> None:
        """See a call end."""
        self._write(seen.fate, seen.provider, seen.order.id, seen.bill)
        self._calls[seen.provider].ended(seen)
        self.money.ended(seen)
        self.money.look(self.books())

    def event(self, event: Event) -> None:
        """Hear what the policy says of itself."""
        if isinstance(event, BreakerMoved):
            self._write(event.now, event.provider)
            self._calls[event.provider].moved(event)

    def finished(self, order: Order, how: str) -> None:
        """See an order end."""
        now = trio.current_time()
        if how == "ok" and order.deadline is not None and now > order.deadline:
            how = "late"
        self._write(how, order.id)
        self.done.append(Done(order, now, how))
        self.verdicts.seen[f"order {how}"] += 1
        self.money.look(self.books())
        if order.deadline is not None:
            what = f"order {order.id} ended {now - order.deadline:.3f} s late"
            self.verdicts.holds("I26", ok=now <= order.deadline + 1.0, what=what)

    def close(self, upstreams: Mapping[str, Upstream], ledger: Ledger | None) -> None:
        """Judge what can be judged at the end only."""
        self.money.close(ledger, self.seconds)
        for name, upstream in upstreams.items():
            self._calls[name].close(upstream.log)
        first = next(iter(upstreams.values()))
        if self.world.steady:
            self.recovered = recoveries(self.done, first.spells)
        if self.world.heals:
            judge_recovery(self.verdicts, self.config, self.recovered)
        if self.world.saturated:
            judge_shares(self.verdicts, self.world, first.log)
        if self.world.alone is not None:
            for upstream in upstreams.values():
                judge_neighbour(self.verdicts, self.world.alone, upstream.log)

    def _write(self, *what: object) -> None:
        self._digest.update(repr((trio.current_time(), *what)).encode())
