"""The search for a fault plan and a schedule under which a scenario fails.

A scenario is an async function without arguments that opens its own tree, uses
it, and asserts. It is run again and again in simulation: first under many
schedules without any fault, then with drawn plans; what fails is shrunk.

    def test_no_order_is_lost() -> None:
        check(scenario)
        check_every_fault(scenario)

What counts as a failure is said in `_replay`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import attrs

from supervisors.testing._choices import DEFAULT_KINDS, Counts, FaultKind, choices
from supervisors.testing._faults import (
    FaultPlan,
)
from supervisors.testing._injector import Injector
from supervisors.testing._replay import MAX_STEPS, Scenario, run_once
from supervisors.testing._schedule import Fifo, Schedule, schedules
from supervisors.testing._strategies import plans_within

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_Case: TypeAlias = tuple[FaultPlan, Schedule]

#: How many runs a search makes, if its test does not say; shrinking comes on top.
MAX_RUNS = 200


@attrs.frozen(kw_only=True)
class Finding:
    """A plan and a schedule under which a scenario fails, and how."""

    scenario: str
    plan: FaultPlan
    schedule: Schedule
    error: Exception = attrs.field(eq=False)
    runs: int = attrs.field(eq=False)
    """How many runs it took to find it; shrinking not counted."""

    def __str__(self) -> str:
        """Say what happened, and how to see it again, as code."""
        faults = "no fault" if not self.plan else f"{len(self.plan)} fault(s)"
        return (
            f"{self.scenario} fails with {faults}: "
            f"{type(self.error).__name__}: {self.error}\n\n"
            f"    replay({self.scenario}, {self.plan!r}, schedule={self.schedule!r})\n"
        )


class FaultFound(AssertionError):
    """A scenario fails; ``findings`` says under which plans and schedules."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = findings


@attrs.frozen(kw_only=True)
class Survey:
    """What came of every single fault."""

    runs: int
    findings: tuple[Finding, ...]
    ineffective: FaultPlan
    """Faults whose point did not come again: the scenario does not repeat."""


def check(
    scenario: Scenario,
    *,
    kinds: Sequence[FaultKind] = DEFAULT_KINDS,
    max_faults: int = 3,
    max_runs: int = MAX_RUNS,
    max_steps: int = MAX_STEPS,
    seed: int = 0,
) -> None:
    """Search as `find_fault`, and raise what was found.

    Raises:
        FaultFound: the scenario fails; the text is code that repeats it.
        ImportError: Hypothesis is not installed.
    """
    found = find_fault(
        scenario,
        kinds=kinds,
        max_faults=max_faults,
        max_runs=max_runs,
        max_steps=max_steps,
        seed=seed,
    )
    if found is not None:
        raise FaultFound((found,)) from found.error


def check_every_fault(
    scenario: Scenario,
    *,
    kinds: Sequence[FaultKind] = DEFAULT_KINDS,
    schedule: Schedule | None = None,
    max_steps: int = MAX_STEPS,
) -> Survey:
    """Try as `every_fault`, and raise what was found.

    Raises:
        FaultFound: the scenario fails; the text is code that repeats it.
    """
    survey = every_fault(scenario, kinds=kinds, schedule=schedule, max_steps=max_steps)
    if survey.findings:
        raise FaultFound(survey.findings) from survey.findings[0].error
    return survey


def find_fault(
    scenario: Scenario,
    *,
    kinds: Sequence[FaultKind] = DEFAULT_KINDS,
    max_faults: int = 3,
    max_runs: int = MAX_RUNS,
    max_steps: int = MAX_STEPS,
    seed: int = 0,
) -> Finding | None:
    """Return the smallest plan and schedule found under which *scenario* fails.

    A quarter of the runs goes to schedules without faults. The same *seed*
    searches the same way.

    Raises:
        ImportError: Hypothesis is not installed.
    """
    from hypothesis import strategies as st  # noqa: PLC0415 - an optional dependency

    search = _Search(scenario, max_steps, random.Random(seed))  # noqa: S311 - no secret
    counts, error = search.first()
    if error is not None:
        return search.finding((), Fifo(), error)
    alone = max_runs // 4
    found = search.smallest(st.tuples(st.just(()), schedules()), alone)
    if found is None and counts:
        plans = plans_within(counts, max_faults=max_faults, kinds=kinds)
        found = search.smallest(st.tuples(plans, schedules()), max_runs - alone)
    return found


def every_fault(
    scenario: Scenario,
    *,
    kinds: Sequence[FaultKind] = DEFAULT_KINDS,
    schedule: Schedule | None = None,
    max_steps: int = MAX_STEPS,
) -> Survey:
    """Run *scenario* once with each single fault that can hit it, by count.

    A first run without faults counts what each child does; each further run
    is the same up to the point of its fault.
    """
    order = Fifo() if schedule is None else schedule
    search = _Search(scenario, max_steps, random.Random(0), order)  # noqa: S311 - no secret
    counts, error = search.first()
    if error is not None:
        first = search.finding((), order, error)
        return Survey(runs=1, findings=(first,), ineffective=())
    findings = list[Finding]()
    ineffective = list[FaultPlan]()
    for plan in _single_faults(counts, kinds):
        injector, error = search.run(plan, order)
        if error is not None:
            findings.append(search.finding(plan, order, error))
        ineffective.append(injector.ineffective)
    return Survey(
        runs=search.runs,
        findings=tuple(findings),
        ineffective=tuple(fault for plan in ineffective for fault in plan),
    )


def _single_faults(
    counts: Mapping[str, Counts], kinds: Sequence[FaultKind]
) -> Iterator[FaultPlan]:
    for path, count in counts.items():
        for kind in kinds:
            for choice in choices(kind, path, count):
                for fault in choice.all():
                    yield (fault,)


class _Search:
    """Runs a scenario, and counts how often."""

    def __init__(
        self,
        scenario: Scenario,
        max_steps: int,
        source: random.Random,
        order: Schedule | None = None,
    ) -> None:
        self.runs = 0
        self._max_steps = max_steps
        self._scenario = scenario
        self._random = source
        self._order: Schedule = Fifo() if order is None else order

    def first(self) -> tuple[dict[str, Counts], Exception | None]:
        """Run without any fault; return what each child did."""
        injector, error = self.run((), self._order)
        return injector.counts(), error

    def run(
        self, plan: FaultPlan, schedule: Schedule
    ) -> tuple[Injector, Exception | None]:
        self.runs += 1
        return run_once(self._scenario, plan, schedule, self._max_steps)

    def finding(
        self, plan: FaultPlan, schedule: Schedule, error: Exception, runs: int = 0
    ) -> Finding:
        return Finding(
            scenario=_name(self._scenario),
            plan=plan,
            schedule=schedule,
            error=error,
            runs=runs or self.runs,
        )

    def smallest(self, cases: SearchStrategy[_Case], runs: int) -> Finding | None:
        """Return the smallest of *cases* that fails, if *runs* runs find one."""
        from hypothesis import HealthCheck, Phase, find, settings  # noqa: PLC0415 - optional
        from hypothesis.errors import NoSuchExample  # noqa: PLC0415

        failed = dict[str, tuple[int, Exception]]()

        def fails(case: _Case) -> bool:
            _, error = self.run(*case)
            if error is not None:
                runs, _ = next(iter(failed.values()), (self.runs, error))
                failed[repr(case)] = runs, error
            return error is not None

        try:
            plan, schedule = find(
                cases,
                fails,
                settings=settings(
                    database=None,
                    deadline=None,
                    max_examples=max(1, runs),
                    phases=[Phase.generate, Phase.shrink],
                    suppress_health_check=[
                        HealthCheck.too_slow,
                        HealthCheck.filter_too_much,
                        HealthCheck.data_too_large,
                        HealthCheck.large_base_example,
                    ],
                ),
                random=self._random,
            )
        except NoSuchExample:
            return None
        first, error = failed[repr((plan, schedule))]
        return self.finding(plan, schedule, error, first)


def _name(scenario: object) -> str:
    func: object = getattr(scenario, "func", None)
    if func is None:
        return getattr(scenario, "__qualname__", repr(scenario))
    # A `functools.partial`, whose repr tells an address.
    args: tuple[object, ...] = getattr(scenario, "args", ())
    keywords: dict[str, object] = getattr(scenario, "keywords", {})
    words = [f"{name}={value!r}" for name, value in keywords.items()]
    return f"partial({', '.join([_name(func), *map(repr, args), *words])})"
