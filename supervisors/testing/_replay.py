"""One run of a scenario under a fault plan and a schedule, and the judgement on it.

What a fault explains is no failure: an error of this library, or an
`InjectedCrash`, with nothing else as its cause, in a run in which a fault was
effective. Whatever happens, the invariants of `Watcher` must hold, and the
scenario must end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias, cast

from supervisors._errors import SupervisionError
from supervisors.testing._faults import (
    Crash,
    FailCleanup,
    FailInit,
    FaultPlan,
    InjectedCrash,
)
from supervisors.testing._injector import Injector
from supervisors.testing._invariants import InvariantViolated, Watcher
from supervisors.testing._outcome import Raised
from supervisors.testing._schedule import Fifo, Schedule
from supervisors.testing._simulate import try_simulate

Scenario: TypeAlias = Callable[[], Awaitable[object]]

#: How many steps a run may take, if its test does not say: scenarios are small.
MAX_STEPS = 5_000


def replay(
    scenario: Scenario,
    plan: FaultPlan = (),
    *,
    schedule: Schedule | None = None,
    max_steps: int = MAX_STEPS,
) -> None:
    """Run *scenario* once, as `check` does, and raise its failure."""
    order = Fifo() if schedule is None else schedule
    _, error = run_once(scenario, plan, order, max_steps)
    if error is not None:
        raise error


def run_once(
    scenario: Scenario, plan: FaultPlan, schedule: Schedule, max_steps: int
) -> tuple[Injector, Exception | None]:
    """Return how it failed, or None; and the injector, for what it has seen."""
    injector = Injector(plan)
    watcher = Watcher(injector)
    result = try_simulate(
        scenario, schedule=schedule, seed=0, faults=watcher, max_steps=max_steps
    )
    ended = result.outcome
    error = ended.error if isinstance(ended, Raised) else None
    if error is not None and not (injector.effective and _is_explained(error, plan)):
        return injector, cast("Exception", error)
    try:
        watcher.check()
    except InvariantViolated as violated:
        return injector, violated
    return injector, None


def _is_explained(error: BaseException, plan: FaultPlan) -> bool:
    """Say whether a fault alone can have led to *error*."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return all(_is_explained(each, plan) for each in group.exceptions)
    if isinstance(error, (InjectedCrash, *_injected(plan))):
        return True
    if not isinstance(error, SupervisionError):
        return False
    return error.__cause__ is None or _is_explained(error.__cause__, plan)


def _injected(plan: FaultPlan) -> list[type[Exception]]:
    return [
        each.error for each in plan if isinstance(each, Crash | FailInit | FailCleanup)
    ]
