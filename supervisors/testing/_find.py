"""The search for a fault plan and a schedule under which a scenario fails.

A scenario is an async function without arguments that opens its own tree, uses
it, and asserts. It is run again and again in simulation: first under many
schedules without any fault, then with drawn plans; what fails is shrunk.

    def test_no_order_is_lost() -> None:
        check(scenario)
        check_every_fault(scenario)

What a fault explains is no failure: an error of this library, or an
`InjectedCrash`, with nothing else as its cause, in a run in which a fault was
effective. Whatever happens, the invariants of `Watcher` must hold, and the
scenario must end.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import attrs

from supervisors._errors import SupervisionError
from supervisors.testing._choices import DEFAULT_KINDS, Counts, FaultKind, choices
from supervisors.testing._faults import FaultPlan, InjectedCrash
from supervisors.testing._injector import Injector
from supervisors.testing._invariants import InvariantViolated, Watcher
from supervisors.testing._outcome import Raised
from supervisors.testing._schedule import Fifo, Schedule, schedules
from supervisors.testing._simulate import try_simulate
from supervisors.testing._strategies import plans_within

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

Scenario: TypeAlias = Callable[[], Awaitable[object]]
_Case: TypeAlias = tuple[FaultPlan, Schedule]

#: How many runs a search makes, if its test does not say; shrinking comes on top.
MAX_RUNS = 200

#: How many steps a run may take, if its test does not say: scenarios are small.
MAX_STEPS = 5_000


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
    """Faults that changed the run so that their own point never came."""


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
    survey = every_fault(
        scenario, kinds=kinds, schedule=schedule, max_steps=max_steps
    )
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

    A first run without faults counts what each child does. A fault that
    changes the run may keep its own point from coming; those are told.
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


def replay(
    scenario: Scenario,
    plan: FaultPlan = (),
    *,
    schedule: Schedule | None = None,
    max_steps: int = MAX_STEPS,
) -> None:
    """Run *scenario* once, as `check` does, and raise its failure."""
    order = Fifo() if schedule is None else schedule
    _, error = _run(scenario, plan, order, max_steps)
    if error is not None:
        raise error


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
        return _run(self._scenario, plan, schedule, self._max_steps)

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
                    suppress_health_check=list(HealthCheck),
                ),
                random=self._random,
            )
        except NoSuchExample:
            return None
        first, error = failed[repr((plan, schedule))]
        return self.finding(plan, schedule, error, first)


def _run(
    scenario: Scenario, plan: FaultPlan, schedule: Schedule, max_steps: int
) -> tuple[Injector, Exception | None]:
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
    injected = (InjectedCrash, *(_errors_of(plan)))
    if isinstance(error, injected):
        return True
    if not isinstance(error, SupervisionError):
        return False
    return error.__cause__ is None or _is_explained(error.__cause__, plan)


def _errors_of(plan: FaultPlan) -> list[type[Any]]:
    return [fault.error for fault in plan if hasattr(fault, "error")]


def _name(scenario: Any) -> str:
    if isinstance(scenario, partial):
        return f"partial({_name(scenario.func)}, {_arguments(scenario)})"
    return getattr(scenario, "__qualname__", repr(scenario))


def _arguments(call: partial[Any]) -> str:
    words = [f"{name}={value!r}" for name, value in call.keywords.items()]
    return ", ".join([*map(repr, call.args), *words])
