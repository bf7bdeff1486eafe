"""Budgets as a black box: random programs, against a model that remembers each call.

    python -m tests.core.budget_conformance --programs 20000 [--seed 1] [--controls]

A program is a life of the daemon and some crashes: calls reserve, are opened in the
ledger, sent, billed and settled, late, never, or for more than was thought; the clock
goes on, or jumps. The model knows nothing of windows or reservations: it has a list of
calls, what each counts with, and the calendar of `datetime`. After each step the two
must say the same. In the end every call that was lost is reconciled with its bill, and
the ledger must be the bill exactly.

With ``--controls`` the same programs run against budgets with one fault each, which
must be found.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any
from unittest.mock import patch

import attrs
import trio
from trio.testing import MockClock

from duckservice.completion import Usage
from duckservice.config import BudgetConfig, BudgetMatch
from duckservice.core import budget as budget_module, budget_book
from duckservice.core.budget import Budget
from duckservice.core.budget_book import BudgetBook, Reservation
from duckservice.core.budget_rule import BudgetRule, Spender
from duckservice.core.job import Settlement
from duckservice.core.pricing import pico, usd
from duckservice.errors import BudgetExceeded, NotFound
from duckservice.events import BudgetAlert
from duckservice.money import budgets as budgets_module, ledger as ledger_module
from duckservice.money.budgets import Budgets
from duckservice.money.ledger import LedgerBuffer
from duckservice.store.base import LedgerEntry, LedgerFilter
from duckservice.store.memory import MemoryStore

START = datetime(2024, 2, 28, 21, 40, tzinfo=UTC).timestamp()
KEYS = {"hour": "%Y-%m-%d %H", "day": "%Y-%m-%d", "month": "%Y-%m", "total": ""}
STEPS = 40
CONTROL_PROGRAMS = 500
ALIASES = {("a", "quick"): "m-1", ("b", "quick"): "n", ("b", "m-quick"): "n"}


def own_name(provider: str, model: str) -> str:
    """Return what a provider is asked for where a client says *model*."""
    return ALIASES.get((provider, model), model)


@lru_cache(100_000)
def on_the_calendar(at: float, key: str) -> str:
    """Return what somebody would call that hour, day or month."""
    return datetime.fromtimestamp(at, UTC).strftime(key)


@attrs.define
class ModelCall:
    """One call, as somebody would write it into a notebook."""

    id: str
    spender: Spender
    at: float
    worst: int
    counts: int
    """What it takes from budgets that bind it."""
    reservation: Reservation | None
    bill: int | None = None
    written: bool = False
    """Whether the store has how it ended."""
    lost: bool = False
    sure: bool = False


@attrs.define(eq=False)
class World:
    """The budgets, their ledger and store, and the model beside them."""

    chance: random.Random
    config: dict[str, BudgetConfig]
    store: MemoryStore = attrs.field(factory=MemoryStore)
    now: float = START
    calls: list[ModelCall] = attrs.field(factory=list)
    open: list[ModelCall] = attrs.field(factory=list)
    told_ever: dict[tuple[str, str], int] = attrs.field(factory=dict)
    known: dict[tuple[str, str], int] = attrs.field(factory=dict)
    """What a life knows to be told, and must not tell again."""
    kept: dict[tuple[str, str], int] = attrs.field(factory=dict)
    """What of that has got into the store."""
    due: dict[tuple[str, str], int] = attrs.field(factory=dict)
    """The highest share that must have been told of each budget and period."""
    over: bool = False
    forgiven: dict[tuple[str, str], int] = attrs.field(factory=dict)
    seen: Counter[str] = attrs.field(factory=Counter)
    log: list[str] = attrs.field(factory=list)
    budgets: Budgets = attrs.field(init=False)
    ledger: LedgerBuffer = attrs.field(init=False)

    # The model.

    def binds(self, name: str, who: Spender) -> bool:
        its = self.config[name].match or BudgetMatch()
        tag = tuple((its.tag or "=").split("="))
        return (
            (its.tag is None or tag in who.tags.items())
            and (its.submitter is None or its.submitter == who.submitter)
            and (its.provider is None or its.provider == who.provider)
            and (
                its.model is None
                or fnmatchcase(who.model, its.model)
                or fnmatchcase(who.alias, its.model)
            )
        )

    def period(self, name: str, at: float) -> str:
        return on_the_calendar(at, KEYS[self.config[name].window])

    def limit(self, name: str) -> int:
        return pico(self.config[name].limit_usd)

    def spent(self, name: str, at: float) -> int:
        period = self.period(name, at)
        counted = sum(call.counts for call in self.counted(name, period))
        return counted - self.forgiven.get((name, period), 0)

    def counted(self, name: str, period: str) -> list[ModelCall]:
        return [
            call
            for call in self.calls
            if self.binds(name, call.spender) and self.period(name, call.at) == period
        ]

    def forgive(self) -> None:
        """What was lost together never came to more than the limit."""
        self.forgiven.clear()
        for name in self.config:
            for period in {self.period(name, call.at) for call in self.calls}:
                calls = self.counted(name, period)
                sure = sum(call.counts for call in calls if call.sure)
                most = max(self.limit(name), sure)
                excess = sum(call.counts for call in calls) - most
                self.forgiven[name, period] = max(0, excess)
                self.seen["forgiven"] += excess > 0

    def refuser(self, who: Spender, worst: int, at: float) -> set[str]:
        return {
            name
            for name in self.config
            if self.binds(name, who)
            and worst
            and self.spent(name, at) + worst > self.limit(name)
        }

    # The steps.

    async def live(self, nursery: trio.Nursery) -> None:
        """Begin a life: what was under way before it is lost."""
        self.ledger = LedgerBuffer(store=self.store)
        self.budgets = Budgets.of(self.config, lambda: self.now)
        self.budgets.alerts.emit = self.told  # type: ignore[assignment]
        self.budgets.alerts.remember = self.ledger.remember
        await self.budgets.load(self.store, own_name)
        await self.store.rescue_at_start(self.now)
        nursery.start_soon(self.ledger.run, self.store)

    def told(self, event: BudgetAlert) -> None:
        key = event.budget, self.period(event.budget, event.since + 1)
        assert event.share > self.known.get(key, 0), f"told again: {event}"
        self.known[key] = event.share
        self.told_ever[key] = max(event.share, self.told_ever.get(key, 0))
        self.seen["alerts"] += 1

    async def reserve(self) -> None:
        provider = self.chance.choice("ab")
        asked = self.chance.choice(["m-1", "m-2", "n", "m-quick", "quick"])
        who = Spender(
            tags=self.chance.choice([{}, {"team": "core"}, {"team": "x", "a": "b"}]),
            submitter=self.chance.choice([None, 0, 7]),
            provider=provider,
            model=own_name(provider, asked),
            alias=asked,
        )
        worst = self.chance.choice([0, 1, 7, 20, 40, 90, 500])
        bound = [name for name in self.config if self.binds(name, who)]
        refusers = self.refuser(who, worst, self.now)
        try:
            its = self.budgets.reserve(who, worst, lambda: "?")
        except BudgetExceeded as error:
            self.refused(error, who, worst, refusers)
            return
        assert not refusers, f"admitted, though {refusers} are full"
        assert (its is None) == (not bound)
        if its is None:
            return
        id_ = f"call.{len(self.calls)}"
        call = ModelCall(id_, who, self.now, worst, worst, its)
        self.calls.append(call)
        self.seen["reserved"] += 1
        if self.chance.random() < 0.2:
            await self.wait_for_turn(call)
        if call.reservation is not None and self.chance.random() < 0.1:
            self.budgets.settle(call.reservation, 0)  # it was never sent
            call.counts, call.reservation = 0, None
            self.seen["never sent"] += 1
        if call.reservation is not None:
            await self.send(call)

    def refused(
        self, error: BudgetExceeded, who: Spender, worst: int, refusers: set[str]
    ) -> None:
        assert error.budget in refusers, f"{error.budget} is not full: {refusers}"
        self.seen["refused"] += 1
        name = error.budget
        assert error.retryable == (worst <= self.limit(name))
        only_others = all(
            (m := self.config[r].match) and (m.provider or m.model) for r in refusers
        )
        assert error.provider == (who.provider if only_others else None)
        if error.retryable:
            self.due[name, self.period(name, self.now)] = 100
        if error.retry_after is not None and error.retry_after > 2:
            later = self.now + error.retry_after
            assert self.period(name, later) != self.period(name, self.now)
            assert self.period(name, later - 1) == self.period(name, self.now)

    async def wait_for_turn(self, call: ModelCall) -> None:
        """Let time pass between the reservation and the sending."""
        self.pass_time()
        call.counts = 0
        refusers = {
            name
            for name in self.refuser(call.spender, call.worst, self.now)
            if any(
                self.period(each, call.at) != self.period(each, self.now)
                for each in self.config
                if self.binds(each, call.spender)
            )
        }
        try:
            call.reservation = self.budgets.move(call.reservation, call.spender)
        except BudgetExceeded as error:
            assert error.budget in refusers  # noqa: PT017
            if error.retryable:
                self.due[error.budget, self.period(error.budget, self.now)] = 100
            call.reservation = None
            self.seen["refused in a new window"] += 1
            return
        assert not refusers
        call.at, call.counts = self.now, call.worst

    async def send(self, call: ModelCall) -> None:
        assert call.reservation is not None
        await self.ledger.open(
            LedgerEntry(
                id=call.id,
                provider=call.spender.provider,
                model=call.spender.alias,
                tags=call.spender.tags,
                submitter=call.spender.submitter,
                at=call.reservation.at,
                reserved=call.worst,
            )
        )
        # From here on the provider may have it; what it bills is its own affair.
        share = self.chance.choice([0.0, 0.3, 1.0, 1.0, 1.7])
        call.bill = int(call.worst * share)
        self.open.append(call)

    def settle(self) -> None:
        if not self.open:
            return
        call = self.open.pop(self.chance.randrange(len(self.open)))
        assert call.reservation is not None
        assert call.bill is not None
        guess = self.chance.random() < 0.2
        call.counts = max(call.worst, call.bill) if guess else call.bill
        self.over |= call.bill > call.worst
        call.sure = not guess
        self.budgets.settle(call.reservation, call.counts)
        usage = Usage(estimated=guess)
        self.ledger.settle(
            call.id, Settlement(outcome="ok", cost=call.bill, usage=usage)
        )
        self.seen["guessed" if guess else "settled"] += 1
        if call.bill > call.worst:
            self.seen["billed too much"] += 1
        for name in self.config:
            if call.counts and self.binds(name, call.spender):
                self.must_tell(name, call.at)

    def must_tell(self, name: str, at: float) -> None:
        key, limit = (name, self.period(name, at)), self.limit(name)
        reserved = sum(c.counts for c in self.counted(*key) if c in self.open)
        settled = self.spent(name, at) - reserved
        for share in (50, 80, 100):
            if limit and settled * 100 >= limit * share:
                self.due[key] = max(self.due.get(key, 0), share)

    async def flush(self) -> None:
        await trio.sleep(5)
        self.kept = dict(self.known)
        for call in self.calls:
            ended = call.bill is not None and not call.lost
            call.written = call.written or (ended and call not in self.open)

    async def crash(self) -> None:
        """Kill the daemon: what the store has not got is gone."""
        if self.chance.random() < 0.5:
            await self.flush()
        for call in self.calls:
            if call.bill is not None and not call.written:
                call.counts, call.lost, call.sure = call.worst, True, False
                self.seen["lost"] += 1
        self.open.clear()
        self.known = dict(self.kept)
        self.forgive()

    def pass_time(self) -> None:
        self.now += self.chance.choice(
            [1, 600, 3600, 86_400, -86_400, 5 * 86_400, -3600]
        )
        self.seen["time"] += 1

    def check(self) -> None:
        for state in self.budgets.states():
            name, its = state.rule.name, state.budget
            spent = self.spent(name, self.now)
            assert its.settled + its.reserved == spent, f"{name}: {its} is not {spent}"
            assert its.reserved >= 0
            assert self.over or spent <= its.limit, f"{name} was passed: {its}"
        for key, share in self.due.items():
            told = self.told_ever.get(key, 0)
            assert told >= share, f"nobody was told that {key} reached {share}"

    async def reconcile(self) -> None:
        """Settle each call that was lost with its bill; then the sums are the bill."""
        await self.flush()
        for call in self.calls:
            if not call.lost and call not in self.open:
                continue
            end = Settlement(outcome="ok", cost=call.bill)
            try:
                await self.store.settle_entry(call.id, end)
            except NotFound:
                msg = f"the ledger knows nothing of {call.id}, which was sent"
                raise AssertionError(msg) from None
        sums = await self.store.sums(LedgerFilter())
        bill = sum(call.bill for call in self.calls if call.bill is not None)
        assert sum(one.amount for one in sums) == bill, "the ledger is not the bill"
        assert not any(one.open for one in sums)


def some_budgets(chance: random.Random) -> dict[str, BudgetConfig]:
    def maybe(*values: Any) -> Any:
        return chance.choice(values) if chance.random() < 0.4 else None

    return {
        f"b{number}": BudgetConfig(
            limit_usd=usd(chance.choice([0, 40, 100, 100, 250])),
            window=chance.choice(["hour", "day", "month", "total"]),
            match=BudgetMatch(
                tag=maybe("team=core", "a=b"),
                submitter=maybe(0, 7),
                provider=maybe("a", "b"),
                model=maybe("m-*", "n"),
            ),
        )
        for number in range(chance.randint(1, 4))
    }


async def run_program(seed: str) -> Counter[str]:
    """Run one program; raise where budgets and model disagree."""
    chance = random.Random(seed)
    world = World(chance, some_budgets(chance))
    lives = chance.randint(1, 3)
    for life in range(lives):
        async with trio.open_nursery() as nursery:
            await world.live(nursery)
            # What was lost is spent, and may be the first to be so much.
            world.check()
            for _ in range(chance.randrange(STEPS)):
                await world_step(world)
                world.check()
            if life == lives - 1:
                await world.reconcile()
            else:
                await world.crash()
                forget(world.ledger)
            nursery.cancel_scope.cancel()
    return world.seen


async def world_step(world: World) -> None:
    dice = world.chance.random()
    if dice < 0.5:
        await world.reserve()
    elif dice < 0.85:
        world.settle()
    elif dice < 0.95:
        world.pass_time()
    else:
        await world.flush()


def forget(ledger: LedgerBuffer) -> None:
    """Lose what a process had in its memory."""
    ledger._settled.clear()
    ledger._waiting.clear()
    ledger._flags.clear()


# The controls: one fault each.


def _check_then_add() -> Any:
    def reserve(its: Budget, worst: int) -> Budget | None:
        if its.settled + worst > its.limit:
            return None
        return attrs.evolve(its, reserved=its.reserved + worst)

    return patch.object(budget_module, "reserve", reserve)


def _settle_twice() -> Any:
    settle = BudgetBook.settle

    def twice(self: BudgetBook, its: Reservation, actual: int) -> Any:
        found = settle(self, its, actual)
        for name, begin in its.windows:
            present = self._windows[name][begin]
            more = attrs.evolve(present, settled=present.settled + actual)
            self._windows[name][begin] = more
        return found

    return patch.object(BudgetBook, "settle", twice)


def _released_by_a_crash() -> Any:
    by_window = budgets_module._by_window

    def only_settled(rule: BudgetRule, sums: Any, own_name: Any) -> Any:
        sure = [attrs.evolve(s, counted=s.sure) for s in sums]
        return by_window(rule, sure, own_name)

    return patch.object(budgets_module, "_by_window", only_settled)


def _written_after_it_was_sent() -> Any:
    async def later(self: LedgerBuffer, entry: LedgerEntry) -> None:
        self.add(entry)

    return patch.object(ledger_module.LedgerBuffer, "open", later)


def _a_new_window_loses_reservations() -> Any:
    put = BudgetBook._put

    def only_one(self: BudgetBook, name: str, begin: int, its: Budget) -> None:
        put(self, name, begin, its)
        for other in list(self._windows[name]):
            if other < begin:
                del self._windows[name][other]

    settle = BudgetBook.settle

    def tolerant(self: BudgetBook, its: Reservation, actual: int) -> Any:
        left = [w for w in its.windows if w[1] in self._windows[w[0]]]
        return settle(self, attrs.evolve(its, windows=tuple(left)), actual)

    return _both(
        patch.object(BudgetBook, "_put", only_one),
        patch.object(BudgetBook, "settle", tolerant),
    )


def _reserved_in_half() -> Any:
    reserve = BudgetBook.reserve

    def half(self: BudgetBook, now: float, who: Spender, worst: int) -> Any:
        its = reserve(self, now, who, worst)
        if not isinstance(its, Reservation):
            for rule in self.binding(who):
                begin = budget_book.begin_of(rule.window, now)
                after = budget_module.reserve(self._at(rule, begin), worst)
                if after is None:
                    break
                self._put(rule.name, begin, after)
        return its

    return patch.object(BudgetBook, "reserve", half)


def _days_of_another_zone() -> Any:
    begin_of = budget_book.begin_of
    ahead = timedelta(hours=5, minutes=30).total_seconds()

    def local(window: Any, now: float) -> int:
        return begin_of(window, now + ahead)

    return patch.object(budget_book, "begin_of", local)


def _settled_where_the_clock_is() -> Any:
    settle = BudgetBook.settle

    def latest(self: BudgetBook, its: Reservation, actual: int) -> Any:
        moved = []
        for name, begin in its.windows:
            last = max(self._windows[name])
            moved.append((name, last))
            if last != begin:
                present = self._at(self._rules[name], last)
                more = attrs.evolve(present, reserved=present.reserved + its.amount)
                self._windows[name][last] = more
        return settle(self, attrs.evolve(its, windows=tuple(moved)), actual)

    return patch.object(BudgetBook, "settle", latest)


def _moved_without_asking() -> Any:
    def move(self: BudgetBook, its: Reservation, now: float, _: Spender) -> Reservation:
        return attrs.evolve(its, at=now)

    return patch.object(BudgetBook, "move", move)


def _told_again_after_a_crash() -> Any:
    return patch.object(budgets_module.Alerts, "recall", lambda *_: None)


def _everybody_is_one_submitter() -> Any:
    def binds(self: BudgetRule, tags: Any, _: object) -> bool:
        return self.tag is None or tags.get(self.tag[0]) == self.tag[1]

    return patch.object(BudgetRule, "binds_asker", binds)


def _an_alias_is_a_way_around() -> Any:
    def binds_model(self: BudgetRule, *names: str) -> bool:
        return self.model is None or fnmatchcase(names[-1], self.model)

    return patch.object(BudgetRule, "binds_model", binds_model)


def _a_crash_forgets_aliases() -> Any:
    by_window = budgets_module._by_window

    def without(rule: BudgetRule, sums: Any, _: Any) -> Any:
        return by_window(rule, sums, lambda _provider, model: model)

    return patch.object(budgets_module, "_by_window", without)


def _excess_is_cut_off() -> Any:
    def settle(its: Budget, worst: int, actual: int) -> Budget:
        settled = its.settled + min(worst, actual)
        return attrs.evolve(its, settled=settled, reserved=its.reserved - worst)

    return patch.object(budget_module, "settle", settle)


@contextmanager
def _both(*patches: Any) -> Iterator[None]:
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()


CONTROLS: dict[str, Callable[[], Any]] = {
    "check, then add": _check_then_add,
    "settle twice": _settle_twice,
    "a crash releases": _released_by_a_crash,
    "written after it was sent": _written_after_it_was_sent,
    "a new window loses reservations": _a_new_window_loses_reservations,
    "reserved in half of the budgets": _reserved_in_half,
    "days of another zone": _days_of_another_zone,
    "settled where the clock is": _settled_where_the_clock_is,
    "moved without asking": _moved_without_asking,
    "alerts again after a crash": _told_again_after_a_crash,
    "everybody is one submitter": _everybody_is_one_submitter,
    "an alias is a way around": _an_alias_is_a_way_around,
    "a crash forgets aliases": _a_crash_forgets_aliases,
    "what was billed too much is cut off": _excess_is_cut_off,
}


def run_programs(programs: int, seed: int) -> Counter[str]:
    """Run so many; return how often each thing was reached."""

    async def main() -> Counter[str]:
        seen = Counter[str]()
        for number in range(programs):
            name = f"{seed}/{number}"
            try:
                seen += await run_program(name)
            except BaseExceptionGroup as group:
                group.add_note(f"program {name}")
                raise
        return seen

    return trio.run(main, clock=MockClock(autojump_threshold=0))


def found_after(control: str, programs: int, seed: int) -> tuple[int, str] | None:
    """Return which program finds a fault, and what it says; None: none does."""
    for number in range(programs):
        found = list[str]()

        async def main(name: str = f"{seed}/{number}") -> None:
            await run_program(name)

        try:
            with CONTROLS[control]():
                trio.run(main, clock=MockClock(autojump_threshold=0))
        except* AssertionError as group:
            found = [str(error) for error in leaves(group)]
        if found:
            return number + 1, found[0]
    return None


def leaves(group: BaseExceptionGroup[Any]) -> Iterator[BaseException]:
    """Return the exceptions themselves."""
    for each in group.exceptions:
        yield from leaves(each) if isinstance(each, BaseExceptionGroup) else (each,)


def main() -> None:
    parser = argparse.ArgumentParser(description="Budgets against a model.")
    parser.add_argument("--programs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--controls", action="store_true")
    its = parser.parse_args()
    if its.controls:
        for control in CONTROLS:
            found = found_after(control, CONTROL_PROGRAMS, its.seed)
            print(f"{control}: {found or 'NOT FOUND'}")
    reached = run_programs(its.programs, its.seed)
    print(f"{its.programs} programs agree with the model: {dict(reached)}")


if __name__ == "__main__":
    main()
