"""The budgets of the config at work: asked before each attempt, told after it.

They belong to the tree, not to an actor: asking is one step without a checkpoint, so
what runs at the same time cannot overspend together, and no crash loses a cent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TypeAlias, final

import attrs

from duckservice.config import BudgetConfig, BudgetMatch
from duckservice.core.budget_book import (
    BudgetBook,
    BudgetState,
    Refusal,
    Reservation,
)
from duckservice.core.budget_rule import BudgetRule, Spender
from duckservice.core.budget_window import Window, begin_of, end_of
from duckservice.core.pricing import pico, usd
from duckservice.core.prospect import EmptyBudget, EmptyBudgets, MustWait
from duckservice.errors import BudgetExceeded
from duckservice.money.alerts import Alerts
from duckservice.money.ledger import LedgerBuffer
from duckservice.store.base import LedgerEntry, LedgerFilter, LedgerSum, Store

RETRY_SOON = 2.0
"""Seconds after which a budget is asked again that others may leave something of."""
HOUR = 3600
_EACH: Final[Mapping[Window, str]] = {
    "hour": "an hour",
    "day": "a day",
    "month": "a month",
    "total": "in total",
}

Asker: TypeAlias = tuple[tuple[str, str] | None, int | None]
OwnName: TypeAlias = Callable[[str, str], str]
"""From a provider and a client's name of a model to what the provider is asked for."""


def _same_name(_provider: str, model: str) -> str:
    return model


@final
@attrs.define(eq=False)
class Budgets:
    """Refuses what could exceed a budget."""

    _book: BudgetBook
    _wall_clock: Callable[[], float]
    alerts: Alerts = attrs.field(factory=Alerts)
    _loaded: bool = False

    @classmethod
    def of(
        cls, config: Mapping[str, BudgetConfig], wall_clock: Callable[[], float]
    ) -> Budgets:
        """Make the budgets that the config names, with nothing spent."""
        rules = [_rule(name, its) for name, its in config.items()]
        return cls(BudgetBook(rules), wall_clock)

    @property
    def any(self) -> bool:
        """Whether there are budgets at all."""
        return bool(self._book.rules())

    @property
    def edition(self) -> int:
        """It changes with each budget that comes or goes."""
        return self._book.edition

    def now(self) -> float:
        """Return the time by which budgets count, in seconds since the epoch."""
        return self._wall_clock()

    def reserve(
        self, spender: Spender, worst: int | None, why_unknown: Callable[[], str]
    ) -> Reservation | None:
        """Set aside what an attempt may cost; None where no budget binds it.

        Raises:
            BudgetExceeded: it does not fit, or *why_unknown* its cost has no bound.
                It names the provider where another one may be free to serve.
        """
        rules = self._book.binding(spender)
        if not rules:
            return None
        if worst is None:
            raise _unbounded(rules, spender, why_unknown())
        return self._reserved(
            self._book.reserve(self._wall_clock(), spender, worst), spender, worst
        )

    def move(
        self, reservation: Reservation | None, spender: Spender
    ) -> Reservation | None:
        """Have a reservation belong to the windows of this moment: now it is sent.

        Raises:
            BudgetExceeded: a window has begun meanwhile that is full already. Nothing
                is reserved any more.
        """
        if reservation is None:
            return None
        now, worst = self._wall_clock(), reservation.amount
        its = self._book.move(reservation, now, spender)
        return self._reserved(its, spender, worst)

    def settle(self, reservation: Reservation | None, actual: int) -> None:
        """Replace what was set aside by what was spent, 0 if nothing was sent."""
        if reservation is None:
            return
        settled = self._book.settle(reservation, actual)
        if actual:
            for key, begin in settled:
                self.alerts.note(self._book.state(key, begin))

    def charge(self, spender: Spender, actual: int) -> None:
        """Count what was spent by a request that no budget bound when it was begun."""
        if self.any and actual:
            charged = self._book.charge(self._wall_clock(), spender, actual)
            for state in self.states() if charged else ():
                self.alerts.note(state)

    def never(
        self, spender: Spender, worst: int | None, why: str
    ) -> BudgetExceeded | None:
        """Return why *spender* could not even spend this of budgets that are untouched."""
        rules = self._book.binding(spender)
        if rules and worst is None:
            return _unbounded(rules, spender, why)
        for rule in rules:
            if worst is not None and worst > rule.limit:
                return _never(rule, worst)
        return None

    def states(self) -> tuple[BudgetState, ...]:
        """Return what is left of each."""
        return self._book.states(self._wall_clock())

    def empty(self, now_trio: float) -> EmptyBudgets:
        """Return which have nothing left; times are on the clock of *now_trio*."""
        now = self._wall_clock()
        return EmptyBudgets(
            tuple(
                EmptyBudget(
                    state.rule,
                    MustWait(
                        f"budget:{state.rule.name}",
                        None if state.until is None else now_trio + state.until - now,
                        passed_over=state.rule.spares_others,
                    ),
                )
                for state in self._book.states(now)
                # Of nothing at all, only what is free may be spent; that never waits.
                if 0 < state.budget.limit <= state.budget.settled
            )
        )

    async def load(self, store: Store, own_name: OwnName = _same_name) -> None:
        """Add what the ledger says was spent before this process; only once.

        What was in flight then counts with all that was reserved for it. All windows
        are read, not only the present one: the clock may be put right later. The ledger
        has the clients' names of models; *own_name* of a provider and such a name is
        what the provider was asked for.
        """
        if self._loaded:
            return
        rules = self._book.rules()
        spent = await _spent(store, rules, own_name)
        # All at once: where the store fails half-way, this is done again.
        for key, its in spent.items():
            self._book.load(key, its)
        self.alerts.recall(await store.flags() if rules else {})
        self._loaded = True
        for state in self.states():
            self.alerts.note(state)

    # Another config.

    async def bind(
        self,
        config: Mapping[str, BudgetConfig],
        ledger: LedgerBuffer,
        own_name: OwnName,
    ) -> tuple[BudgetRule, ...]:
        """Have budgets of *config* that are new, or bind others, bind from now on.

        They know what the ledger knows of what is over, and what is under way counts
        as in others. Those of before bind, too, until `change`. If it fails nothing has
        changed; `unbind` undoes it.

        Raises:
            Unavailable: the store cannot tell what was spent.
        """
        fresh = tuple(rule for rule in self._renewed(config) if self._is_new(rule))
        if not fresh or ledger.store is None:
            return self._added(fresh)
        async with ledger.held() as unwritten:
            # From here on they count; what came before is in the store, or held.
            self._added(fresh)
            try:
                spent = await _spent(
                    ledger.store, fresh, own_name, unwritten, open_too=False
                )
            except BaseException:
                self.unbind(fresh)
                raise
        for key, its in spent.items():
            self._book.load(key, its)
        return fresh

    def unbind(self, fresh: Sequence[BudgetRule]) -> None:
        """Undo what `bind` has done."""
        for rule in fresh:
            self._book.remove(rule.key)

    def change(self, config: Mapping[str, BudgetConfig]) -> None:
        """Forget what *config* has no more, and have its limits; `bind` came before."""
        kept = {rule.key: rule for rule in self._renewed(config)}
        for rule in self._book.rules():
            if rule.key not in kept:
                self._book.remove(rule.key)
                self.alerts.forget(rule.name)
            elif rule.limit != kept[rule.key].limit:
                self._book.relimit(rule.key, kept[rule.key].limit)
                self.alerts.forget(rule.name)
        for state in self.states():
            self.alerts.note(state)

    def _renewed(self, config: Mapping[str, BudgetConfig]) -> Iterator[BudgetRule]:
        """Yield the budgets of *config*, by the keys of those that bind the same."""
        rules = self._book.rules()
        # No version comes twice: what is under way may know an older one.
        version = self._book.edition + 1
        for name, its in config.items():
            rule = _rule(name, its)
            same = [old for old in rules if old.binds_the_same(rule)]
            yield attrs.evolve(rule, version=same[0].version if same else version)

    def _is_new(self, rule: BudgetRule) -> bool:
        return rule.key not in {old.key for old in self._book.rules()}

    def _added(self, fresh: tuple[BudgetRule, ...]) -> tuple[BudgetRule, ...]:
        for rule in fresh:
            self._book.add(rule)
        return fresh

    def _reserved(
        self, its: Reservation | Refusal, spender: Spender, worst: int
    ) -> Reservation:
        if isinstance(its, Reservation):
            return its
        now = self._wall_clock()
        if its.ever:
            begin = begin_of(its.rule.window, now)
            self.alerts.note(self._book.state(its.rule.key, begin), refused=True)
        raise _exceeded(its, now, spender, worst)


async def _spent(
    store: Store,
    rules: Sequence[BudgetRule],
    own_name: OwnName,
    unwritten: Sequence[LedgerEntry] = (),
    *,
    open_too: bool = True,
) -> Mapping[str, Mapping[int, int]]:
    """Return what the ledger, and what is yet to be written there, have of each.

    What is open there counts with its reservation, unless it is not to: where it is
    under way in this process, it is counted there.
    """
    by_asker = dict[Asker, Sequence[LedgerSum]]()
    spent = dict[str, Mapping[int, int]]()
    for rule in rules:
        asker = rule.tag, rule.submitter
        if asker not in by_asker:
            tags = {} if rule.tag is None else dict([rule.tag])
            which = LedgerFilter(tags=tags, submitter=rule.submitter)
            more = [
                _sum_of(entry)
                for entry in unwritten
                if rule.binds_asker(entry.tags, entry.submitter)
            ]
            sums = await store.sums(which)
            if not open_too:
                sums = tuple(map(_without_open, sums))
            by_asker[asker] = (*sums, *more)
        spent[rule.key] = _by_window(rule, by_asker[asker], own_name)
    return spent


def _without_open(its: LedgerSum) -> LedgerSum:
    return attrs.evolve(its, counted=its.counted - its.reserved)


def _sum_of(entry: LedgerEntry) -> LedgerSum:
    return LedgerSum(
        hour=int(entry.at // HOUR),
        provider=entry.provider,
        model=entry.model,
        counted=entry.counts_with,
        sure=entry.sure,
    )


def _by_window(
    rule: BudgetRule, sums: Sequence[LedgerSum], own_name: OwnName
) -> Mapping[int, int]:
    """Return what counts as spent in each window, by its beginning.

    The reservation of a call that was lost is the most that it may have cost. Where
    many were lost, all of them together were never allowed to cost more than the limit:
    some had ended before others were sent, and a crash came before that was written.
    """
    counted, sure = defaultdict[int, int](int), defaultdict[int, int](int)
    for one in sums:
        own = own_name(one.provider, one.model)
        if rule.provider in {None, one.provider} and rule.binds_model(own, one.model):
            # Every window begins with an hour.
            begin = begin_of(rule.window, one.hour * HOUR)
            counted[begin] += one.counted
            sure[begin] += one.sure
    return {
        begin: min(its, max(rule.limit, sure[begin])) for begin, its in counted.items()
    }


def _exceeded(its: Refusal, now: float, spender: Spender, worst: int) -> BudgetExceeded:
    provider = spender.provider if its.rule.spares_others else None
    if not its.ever:
        return _never(its.rule, worst, provider)
    if its.soon:
        wait: float | None = RETRY_SOON
    else:
        wait = None if its.until is None else its.until - now
    error = BudgetExceeded(
        f"the request may cost {usd(worst)} USD, and of the budget"
        f" {_named(its.rule)} {_left(its)} left{_until(its.rule, now)}",
        provider=provider,
        retry_after=wait,
        retryable=True,
    )
    error.budget = its.rule.name
    return error


def _never(rule: BudgetRule, worst: int, provider: str | None = None) -> BudgetExceeded:
    error = BudgetExceeded(
        f"the request may cost {usd(worst)} USD, more than the whole of the budget"
        f" {_named(rule)}",
        provider=provider,
    )
    error.budget = rule.name
    return error


def _named(rule: BudgetRule) -> str:
    return f"{rule.name!r} ({usd(rule.limit)} USD {_EACH[rule.window]})"


def _left(its: Refusal) -> str:
    under_way = ", with what is under way set aside," if its.soon else ""
    return f"{usd(its.left)} USD are{under_way}"


def _until(rule: BudgetRule, now: float) -> str:
    """Return what is to be said of the end of the window of *now*."""
    end = end_of(rule.window, now)
    if end is None:
        return ""
    at = datetime.fromtimestamp(end, UTC)
    return f"; a new {rule.window} begins at {at:%Y-%m-%d %H:%M} UTC"


def _unbounded(
    rules: Sequence[BudgetRule], spender: Spender, why: str
) -> BudgetExceeded:
    names = ", ".join(repr(rule.name) for rule in rules)
    binds = (
        f"the budget {names} binds" if len(rules) == 1 else f"the budgets {names} bind"
    )
    # Another provider may have a price, or say how long its replies become.
    return BudgetExceeded(
        f"{binds} the request, and its cost cannot be bounded: {why}",
        provider=spender.provider,
    )


def _rule(name: str, config: BudgetConfig) -> BudgetRule:
    match = config.match or BudgetMatch()
    key, _, value = (match.tag or "").partition("=")
    return BudgetRule(
        name=name,
        limit=pico(config.limit_usd),
        window=config.window,
        tag=None if match.tag is None else (key.strip(), value.strip()),
        submitter=match.submitter,
        provider=match.provider,
        model=match.model,
    )
