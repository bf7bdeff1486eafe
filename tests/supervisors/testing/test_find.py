"""The search: what counts as a failure, what it reports, and that it repeats."""

from __future__ import annotations

import pytest
import trio

from supervisors import (
    ActorDied,
    ActorRef,
    RestartIntensityReached,
    StartFailed,
    SupervisorSpec,
    actor,
    open_supervisor,
    supervisor,
)
from supervisors._supervisor import StaticRuntime
from supervisors.testing import (
    ALL_KINDS,
    Cancel,
    Checkpoint,
    Crash,
    Delay,
    FailInit,
    FaultFound,
    FaultPlan,
    Fifo,
    Hang,
    HangCleanup,
    HangInit,
    InvariantViolated,
    Livelock,
    Message,
    Stall,
    check,
    check_every_fault,
    every_fault,
    find_fault,
    replay,
)
from tests.supervisors.children import Boom, Worker, idle, worker


async def two_calls() -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])):
        await ref.call(Worker.note, "x")
        await ref.call(Worker.note, "y")


async def impatient() -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])):
        await ref.call(Worker.note, "x")
        with trio.fail_after(30):
            await ref.call(Worker.note, "y")


def test_a_scenario_that_bears_everything_passes() -> None:
    check(two_calls)
    assert check_every_fault(two_calls).findings == ()


GIVES_UP = (
    Crash("a", at=Message(1)),
    *(FailInit("a", n=n) for n in range(2, 9)),
)


@pytest.mark.parametrize(
    ("plan", "raised"),
    [
        ((Crash("a", at=Message(1)),), ActorDied),
        ((Crash("a", at=Message(1), error=OSError),), ActorDied),
        ((FailInit("a"),), StartFailed),
        (GIVES_UP, RestartIntensityReached),
    ],
    ids=str,
)
def test_what_a_fault_explains_is_no_failure(
    plan: FaultPlan, raised: type[Exception]
) -> None:
    seen = list[BaseException]()

    async def scenario() -> None:
        try:
            ref, spec = worker("a")
            async with open_supervisor(SupervisorSpec(children=[spec])):
                if raised is ActorDied:
                    await ref.call(Worker.note, "x")
                ref.cast(Worker.note, "y")
                await trio.sleep(10)
        except Exception as error:
            seen.append(error)
            raise

    replay(scenario, plan)
    assert isinstance(seen[0], raised)


async def own_crash() -> None:
    ref, spec = worker("a")
    async with open_supervisor(SupervisorSpec(children=[spec])):
        await ref.call(Worker.note, "x")
        await ref.call(Worker.crash, Boom("mine"))


def test_an_error_with_another_cause_is_a_failure_even_beside_a_fault() -> None:
    with pytest.raises(ActorDied):
        replay(own_crash, (Delay("a", 1.0, at=Message(1)),))


def test_an_error_of_a_run_without_an_effective_fault_is_a_failure() -> None:
    async def scenario() -> None:
        raise ActorDied("a", "by itself")

    with pytest.raises(ActorDied):
        replay(scenario, (Crash("a", at=Message(9)),))


def test_a_failure_without_faults_is_found_in_the_first_run() -> None:
    found = find_fault(own_crash)
    assert found is not None
    assert (found.runs, found.plan, found.schedule) == (1, (), Fifo())


def test_a_broken_invariant_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forwards(self: StaticRuntime) -> None:
        for each in self._children.values():
            await each.stop(self.tree)

    monkeypatch.setattr(StaticRuntime, "_stop_children", forwards)

    async def scenario() -> None:
        async with open_supervisor(SupervisorSpec(children=[idle("a"), idle("b")])):
            pass

    found = find_fault(scenario)
    assert found is not None
    assert isinstance(found.error, InvariantViolated)


def test_a_supervisor_is_not_made_to_hang() -> None:
    async def scenario() -> None:
        below = SupervisorSpec(children=[idle("b")])
        async with open_supervisor(SupervisorSpec(children=[supervisor("sub", below)])):
            pass

    survey = every_fault(scenario, kinds=[Stall, HangInit, HangCleanup])
    assert {finding.plan[0].child for finding in survey.findings} == {"sub/b"}
    with pytest.raises(Hang):
        replay(scenario, (HangInit("sub"),))


def test_what_was_found_is_told_as_code_that_repeats_it() -> None:
    with pytest.raises(FaultFound) as found:
        check(impatient)
    (finding,) = found.value.findings
    assert finding.plan == (Delay("a", 60.0, at=Message(2)),)
    assert (
        "replay(impatient, (Delay('a', 60.0, at=Message(2)),), schedule=Fifo())"
        in str(found.value)
    )
    assert found.value.__cause__ is finding.error
    with pytest.raises(trio.TooSlowError):
        replay(impatient, finding.plan, schedule=finding.schedule)


def test_the_same_seed_searches_the_same_way() -> None:
    first, second = find_fault(impatient, seed=3), find_fault(impatient, seed=3)
    assert first is not None
    assert second is not None
    assert first == second
    assert first.runs == second.runs


def test_no_more_runs_are_made_than_allowed() -> None:
    runs = 0

    async def counted() -> None:
        nonlocal runs
        runs += 1
        await two_calls()

    assert find_fault(counted, max_runs=40) is None
    assert 20 <= runs <= 41


def test_every_single_fault_is_tried_once_and_by_count() -> None:
    seen = list[str]()

    async def scenario() -> None:
        ref: ActorRef[Worker] = ActorRef("a")
        async with open_supervisor(SupervisorSpec(children=[actor(ref, Worker)])):
            for text in ("x", "y"):
                try:
                    await ref.call(Worker.note, text)
                except ActorDied:
                    seen.append(text)

    survey = every_fault(scenario, kinds=[Crash, FailInit])
    # Before and after each of two messages, at each wait, and at the start.
    assert seen.count("x") == seen.count("y") == 2
    assert survey.runs == 1 + 2 * 2 + 3 + 1
    assert survey.findings == ()
    assert survey.ineffective == ()


def test_a_survey_tells_every_failing_fault() -> None:
    survey = every_fault(impatient)
    assert [finding.plan for finding in survey.findings] == [
        (Delay("a", 60.0, at=Message(2)),),
        (Delay("a", 60.0, at=Checkpoint(2)),),
    ]
    with pytest.raises(FaultFound):
        check_every_fault(impatient)


def test_a_scenario_that_does_not_repeat_is_told_by_its_ineffective_faults() -> None:
    runs = 0

    async def scenario() -> None:
        nonlocal runs
        runs += 1
        ref, spec = worker("a")
        async with open_supervisor(SupervisorSpec(children=[spec])):
            if runs == 1:
                await ref.call(Worker.note, "x")

    survey = every_fault(scenario, kinds=[Cancel])
    assert Cancel("a", at=Message(1)) in survey.ineffective


def test_a_program_that_does_not_end_is_a_failure() -> None:
    with pytest.raises(Hang):
        replay(two_calls, (HangInit("a"),))
    assert find_fault(two_calls, kinds=ALL_KINDS) is not None

    async def round_and_round() -> None:
        while True:
            await trio.lowlevel.checkpoint()

    with pytest.raises(Livelock):
        replay(round_and_round, max_steps=1000)
