"""A job's life, every action in every state, against a table of the test's own."""

from __future__ import annotations

from contextlib import suppress

import attrs
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from duckservice.calls.call import Submitter
from duckservice.completion import Usage
from duckservice.core import job as life
from duckservice.core.job import (
    CRASHES_MAX,
    ERRORS_MAX,
    FINAL,
    UNFINISHED,
    WAITING,
    IllegalTransition,
    Job,
    JobError,
    JobState,
    Settlement,
    Submission,
    submit,
)

NOW = 1000.0
ERROR = JobError(at=NOW, attempt=1, code="provider_error", message="it broke")

#: What each action does to a job of `in_state`, per state it may be done in.
#: Whatever is not here must be refused.
TABLE = {
    ("become_due", "scheduled"): "available",
    ("become_due", "retryable"): "available",
    ("claim", "available"): "executing",
    ("begin", "executing"): "executing",
    ("finish", "executing"): "completed",
    ("fail for good", "executing"): "discarded",
    ("fail for now", "executing"): "retryable",
    ("snooze", "executing"): "scheduled",
    ("snooze until now", "executing"): "available",
    ("rescue", "executing"): "available",
    ("rescue in flight", "executing"): "available",
    ("expire", "suspended"): "expired",
    ("expire", "scheduled"): "expired",
    ("expire", "available"): "expired",
    ("expire", "executing"): "expired",
    ("expire", "retryable"): "expired",
    ("cancel", "suspended"): "cancelled",
    ("cancel", "scheduled"): "cancelled",
    ("cancel", "available"): "cancelled",
    ("cancel", "executing"): "cancelled",
    ("cancel", "retryable"): "cancelled",
    ("hold", "scheduled"): "suspended",
    ("hold", "available"): "suspended",
    ("hold", "retryable"): "suspended",
    ("release", "suspended"): "available",
    ("patch", "suspended"): "suspended",
    ("patch", "scheduled"): "scheduled",
    ("patch", "available"): "available",
    ("patch", "executing"): "executing",
    ("patch", "retryable"): "retryable",
    ("retry", "retryable"): "available",
    ("retry", "discarded"): "available",
    ("retry", "cancelled"): "available",
    ("retry", "expired"): "available",
}

DO = {
    "become_due": lambda job: life.become_due(job, NOW),
    "claim": lambda job: life.claim(job, NOW),
    "begin": lambda job: life.begin(job, provider="p", model="m"),
    "finish": lambda job: life.finish(job, NOW),
    "fail for good": lambda job: life.fail(job, NOW, ERROR, retry_at=None),
    "fail for now": lambda job: life.fail(job, NOW, ERROR, retry_at=NOW + 5),
    "snooze": lambda job: life.snooze(job, NOW, until=NOW + 5, reason="paused"),
    "snooze until now": lambda job: life.snooze(job, NOW, until=NOW, reason="paused"),
    "rescue": lambda job: life.rescue(job, NOW, in_flight=False),
    "rescue in flight": lambda job: life.rescue(job, NOW, in_flight=True),
    "expire": lambda job: life.expire(attrs.evolve(job, deadline=NOW), NOW),
    "cancel": lambda job: life.cancel(job, NOW),
    "hold": life.hold,
    "release": lambda job: life.release(job, NOW),
    "patch": lambda job: life.patch(job, priority="high"),
    "retry": lambda job: life.retry(job, NOW),
}


def new(**wishes) -> Job:
    submission = Submission(**{"kind": "chat", "model": "m", "request": b"", **wishes})
    return submit(submission, id_="job_1", now=NOW)


def in_state(state: JobState) -> Job:
    over = NOW if state in ("completed", "discarded", "cancelled", "expired") else None
    waits = state in ("suspended", "scheduled", "available", "retryable")
    reason = "whatever" if waits else None
    return attrs.evolve(new(), state=state, finished_at=over, wait_reason=reason)


@pytest.mark.parametrize("state", list(JobState))
@pytest.mark.parametrize("action", sorted(DO))
def test_every_action_in_every_state_does_what_the_table_says(action, state):
    job = in_state(state)
    if (action, state) in TABLE:
        after = DO[action](job)
        assert after.state == TABLE[action, state]
        assert (after.finished_at is not None) == after.state.final
        assert (after.wait_reason is not None) == (after.state in WAITING)
    else:
        with pytest.raises(IllegalTransition, match=f"job_1 is {state}: ") as refusal:
            DO[action](job)
        assert (refusal.value.code, refusal.value.status) == ("conflict", 409)
        assert refusal.value.state is state


@pytest.mark.parametrize("state", list(JobState))
def test_money_is_counted_in_every_state(state):
    job = attrs.evolve(in_state(state), cost=5, attempt=2)
    settled = life.settle(job, Settlement(outcome="ok", cost=7))
    assert (settled.state, settled.cost, settled.attempt) == (state, 12, 2)
    assert life.lose(job, 9).cost == 14
    assert life.lose(job, 9).maybe_billed
    late = life.reconcile(life.lose(job, 9), Settlement(outcome="ok", cost=1), lost=9)
    assert late.cost == 6
    unknown = life.settle(job, Settlement(outcome="ok", cost=None))
    assert (unknown.cost, unknown.cost_known) == (5, False)


def test_the_sets_of_states_part_them_all():
    assert FINAL.isdisjoint(UNFINISHED)
    assert set(JobState) == FINAL | UNFINISHED
    assert {state for state in JobState if state.final} == FINAL
    assert {"executing"} == UNFINISHED - WAITING


@pytest.mark.parametrize(
    ("wishes", "state", "reason", "due_at"),
    [
        ({}, "available", "queued", NOW),
        ({"not_before": NOW}, "available", "queued", NOW),
        ({"not_before": NOW - 9}, "available", "queued", NOW),
        ({"not_before": NOW + 9}, "scheduled", "not_before", NOW + 9),
        ({"hold": True}, "suspended", "held", NOW),
        ({"hold": True, "not_before": NOW + 9}, "suspended", "held", NOW + 9),
    ],
)
def test_a_new_job_waits_for_what_its_submitter_wished(wishes, state, reason, due_at):
    job = new(**wishes)
    assert (job.state, job.wait_reason, job.due_at) == (state, reason, due_at)
    assert job.queued_at == due_at
    assert (job.attempt, job.cost, job.finished_at) == (0, 0, None)


def test_a_released_job_does_not_run_before_its_time():
    held = new(hold=True, not_before=NOW + 9)
    early = life.release(held, NOW + 8)
    assert (early.state, early.wait_reason) == ("scheduled", "not_before")
    assert life.release(held, NOW + 9).state == "available"


def test_a_released_job_does_not_sit_out_its_backoff():
    failed = life.fail(in_state(JobState.EXECUTING), NOW, ERROR, retry_at=NOW + 60)
    released = life.release(life.hold(failed), NOW + 1)
    assert (released.state, released.due_at) == ("available", NOW + 1)


@pytest.mark.parametrize(
    ("attempt", "retry_at", "deadline", "state"),
    [
        (1, NOW + 5, None, "retryable"),
        (2, NOW + 5, None, "retryable"),
        (3, NOW + 5, None, "discarded"),
        (1, None, None, "discarded"),
        (1, NOW + 5, NOW + 6, "retryable"),
        (1, NOW + 5, NOW + 5, "discarded"),
    ],
)
def test_a_failure_is_final_where_no_attempt_or_time_is_left(
    attempt, retry_at, deadline, state
):
    job = attrs.evolve(
        in_state(JobState.EXECUTING), attempt=attempt, max_attempts=3, deadline=deadline
    )
    failed = life.fail(job, NOW, ERROR, retry_at=retry_at)
    assert failed.state == state
    assert failed.errors == (ERROR,)
    if state == "retryable":
        assert (failed.due_at, failed.queued_at) == (retry_at, job.queued_at)


def test_only_so_many_errors_are_kept_and_they_are_the_last():
    job = in_state(JobState.EXECUTING)
    for number in range(ERRORS_MAX + 5):
        error = attrs.evolve(ERROR, attempt=number)
        failed = life.fail(attrs.evolve(job, attempt=0), NOW, error, retry_at=NOW + 1)
        job = life.claim(life.become_due(failed, NOW + 1), NOW + 1)
    assert [error.attempt for error in job.errors] == list(range(5, ERRORS_MAX + 5))


@pytest.mark.parametrize("in_flight", [False, True])
@pytest.mark.parametrize("on_interrupt", ["retry", "fail"])
@pytest.mark.parametrize("attempt", [1, 2])
@pytest.mark.parametrize("crashes", [0, CRASHES_MAX - 1])
@pytest.mark.parametrize("blame", [False, True])
def test_a_crash_costs_at_most_one_duplicate_and_three_end_it(
    in_flight, on_interrupt, attempt, crashes, blame
):
    job = attrs.evolve(
        in_state(JobState.EXECUTING),
        attempt=attempt,
        max_attempts=2,
        on_interrupt=on_interrupt,
        crashes=crashes,
    )
    rescued = life.rescue(job, NOW, in_flight=in_flight, lost=50, blame=blame)
    poisoned = blame and crashes == 2
    stays_away = in_flight and (on_interrupt == "fail" or attempt == 2)
    assert rescued.state == ("discarded" if poisoned or stays_away else "available")
    assert rescued.poisoned == poisoned
    assert rescued.maybe_billed == in_flight
    assert rescued.cost == (50 if in_flight else 0)
    assert rescued.attempt == attempt
    assert len(rescued.errors) == (rescued.state == "discarded")


def test_who_skips_the_backoff_has_the_attempts_and_the_age_he_had():
    used = attrs.evolve(in_state(JobState.EXECUTING), attempt=2)
    waiting = life.fail(used, NOW, ERROR, retry_at=NOW + 60)
    job = life.retry(waiting, NOW + 5)
    assert (job.state, job.attempt, job.due_at) == ("available", 2, NOW + 5)
    assert job.queued_at == used.queued_at


def test_a_job_begun_anew_forgets_what_would_end_it_at_once():
    dead = attrs.evolve(
        in_state(JobState.DISCARDED),
        attempt=3,
        crashes=3,
        poisoned=True,
        deadline=NOW,
        cost=9,
        maybe_billed=True,
        errors=(ERROR,),
    )
    job = life.retry(dead, NOW)
    assert (job.crashes, job.poisoned, job.deadline) == (0, False, None)
    assert (job.cost, job.maybe_billed, job.errors) == (9, True, (ERROR,))
    in_time = attrs.evolve(dead, deadline=NOW + 1)
    assert life.retry(in_time, NOW).deadline == NOW + 1


@pytest.mark.parametrize(
    ("outcome", "estimated", "expected"),
    [
        ("cancelled", True, True),  # it was under way, and we do not know how far
        ("timeout", True, True),
        ("cancelled", False, False),  # it was never sent
        ("provider_error", False, False),  # the provider has refused it
        ("ok", True, False),  # the provider counts nothing; its end was seen
    ],
)
def test_what_was_broken_off_with_an_unknown_cost_may_be_billed(
    outcome, estimated, expected
):
    its = Settlement(outcome=outcome, cost=7, estimated=estimated)
    for state in (JobState.CANCELLED, JobState.EXECUTING):
        assert life.settle(in_state(state), its).maybe_billed == expected
    billed = life.lose(in_state(JobState.EXECUTING), 9)
    assert life.settle(billed, its).maybe_billed


@given(used=st.lists(st.integers(0, 4), min_size=1, max_size=5))
def test_a_job_begun_anew_has_as_many_attempts_again_and_goes_on_counting(used):
    job, before = attrs.evolve(in_state(JobState.CANCELLED), max_attempts=4), 0
    for attempts in used:
        job = life.retry(job, NOW)
        assert (job.attempt, job.max_attempts) == (before, before + 4)
        job = life.claim(job, NOW)
        for _ in range(attempts):
            job = life.begin(job, provider="p", model="m")
        if attempts == 4:
            with pytest.raises(IllegalTransition):
                life.begin(job, provider="p", model="m")
        job, before = life.cancel(job, NOW), before + attempts


def test_what_ends_after_a_job_was_begun_anew_gives_it_no_attempt_more():
    job = attrs.evolve(in_state(JobState.CANCELLED), attempt=1, max_attempts=3)
    job = life.settle(life.retry(job, NOW), Settlement(outcome="x", counts=False))
    assert (job.attempt, job.max_attempts) == (1, 4)


@given(refunds=st.lists(st.booleans(), max_size=8), max_attempts=st.integers(1, 4))
def test_attempts_that_do_not_count_are_given_back(refunds, max_attempts):
    job = attrs.evolve(in_state(JobState.EXECUTING), max_attempts=max_attempts)
    used = 0
    for refund in refunds:
        if used == max_attempts:
            with pytest.raises(IllegalTransition):
                life.begin(job, provider="p", model="m")
            return
        job = life.begin(job, provider="p", model="m")
        job = life.settle(job, Settlement(outcome="x", counts=not refund))
        used += not refund
        assert job.attempt == used


class LifeMachine(RuleBasedStateMachine):
    """Random lives; what must hold of every job at every time."""

    def __init__(self):
        super().__init__()
        self.job = new(max_attempts=3)
        self.asked = 0
        self.shown: Job | None = None

    @rule(data=st.data())
    def something_legal(self, data):
        legal = sorted(a for a in DO if (a, self.job.state) in TABLE)
        if legal:
            self.anything(data.draw(st.sampled_from(legal)))

    @rule()
    def it_is_run(self):
        for action in ("become_due", "release", "claim", "begin"):
            self.anything(action)

    @rule(action=st.sampled_from(sorted(DO)))
    def anything(self, action):
        before = self.job
        if action == "become_due":
            before = attrs.evolve(before, due_at=NOW)
        try:
            self.job = DO[action](before)
        except IllegalTransition:
            full = action == "begin" and before.attempt >= before.max_attempts
            assert full or (action, before.state) not in TABLE
            return
        if action == "begin":
            self.asked += 1
        if action == "retry" and before.state.final:
            self.shown = None

    @invariant()
    def it_is_asked_for_at_most_as_often_as_allowed(self):
        assert self.asked == self.job.attempt <= self.job.max_attempts

    @invariant()
    def the_end_never_changes(self):
        if self.shown is not None:
            assert self.job == self.shown
        if self.job.state.final:
            self.shown = self.job

    @invariant()
    def it_is_never_stuck(self):
        assert self.job.state.final or any(
            (action, self.job.state) in TABLE for action in DO
        )
        assert self.job.crashes < CRASHES_MAX or self.job.state == "discarded"


def test_a_job_ends_once_and_is_never_stuck():
    run_state_machine_as_test(LifeMachine, settings=settings(stateful_step_count=40))


def test_every_state_is_reached_from_the_first():
    reached: dict[str, Job] = {}
    waiting = [new(max_attempts=3), new(hold=True), new(not_before=NOW + 5)]
    while waiting:
        job = waiting.pop()
        if job.state in reached:
            continue
        reached[job.state] = job
        for action, do in DO.items():
            due = attrs.evolve(job, due_at=NOW) if action == "become_due" else job
            with suppress(IllegalTransition):
                waiting.append(do(due))
    assert set(reached) == set(JobState)


def begun(times: int = 1, **more) -> Job:
    """Return a job that runs, with so many attempts begun."""
    job = submit(
        Submission(kind="chat", model="m", request=b"{}", **more), id_="j", now=NOW
    )
    job = life.claim(job, NOW)
    for _ in range(times):
        job = life.begin(job, provider="a", model="m")
    return job


def test_a_job_has_all_that_its_submission_says():
    submission = Submission(
        kind="image",
        model="m",
        request=b"{}",
        priority="high",
        tags={"a": "b"},
        submitter=Submitter(uid=7, gid=7, pid=7),
        deadline=NOW + 9,
        not_before=NOW + 1,
        max_cost=5,
        max_attempts=7,
        on_interrupt="fail",
        batch="its batch",
        line=3,
        idempotency_key="its key",
        fingerprint="its print",
    )
    job, usual = submit(submission, id_="j", now=NOW), attrs.fields_dict(Submission)
    for name in usual.keys() & attrs.fields_dict(Job).keys():
        assert getattr(job, name) == getattr(submission, name) != usual[name].default


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("costs", [(3, 4), (3, None), (None, 4), (None, None)])
@pytest.mark.parametrize("guessed", [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_a_cost_is_known_and_no_guess_only_if_that_of_each_attempt_is(
    costs, guessed, late
):
    first, second = (
        Settlement(outcome="ok", cost=cost, estimated=bool(guess))
        for cost, guess in zip(costs, guessed, strict=True)
    )
    job = life.settle(begun(2), first)
    if late:
        job = life.reconcile(life.lose(job, 100), second, lost=100)
    else:
        job = life.settle(job, second)
    assert job.cost == sum(cost or 0 for cost in costs)
    assert job.cost_known == (None not in costs)
    assert job.cost_estimated == any(guessed)


def test_an_attempt_that_does_not_count_gives_back_itself_and_no_other():
    job = life.settle(begun(2), Settlement(outcome="cancelled", counts=False))
    assert job.attempt == 1
    for _ in range(3):
        job = life.settle(job, Settlement(outcome="cancelled", counts=False))
    assert job.attempt == 0


def test_a_settlement_without_its_figures_has_none_that_a_store_could_refuse():
    usage = Usage(input_tokens=2**70, output_tokens=2**70, billed=2**70)
    its = Settlement(outcome="ok", usage=usage, cost=2**70, counts=False)
    assert its.without_cost() == Settlement(
        outcome="ok", usage=Usage(), cost=None, estimated=True, counts=False
    )


def test_a_job_has_started_when_it_was_first_claimed():
    job = life.snooze(begun(), NOW + 1, until=NOW + 1, reason="queued")
    assert life.claim(job, NOW + 5).started_at == NOW


@pytest.mark.parametrize("in_flight", [False, True])
def test_only_what_was_in_flight_is_told_with_its_provider(in_flight):
    job = attrs.evolve(begun(), crashes=CRASHES_MAX - 1)
    error = life.rescue(job, NOW, in_flight=in_flight).errors[-1]
    assert error.provider == ("a" if in_flight else None)
    assert "took its processor down 3 times" in error.message


@pytest.mark.parametrize(
    ("wish", "why"), [("fail", "not to be sent twice"), ("retry", "no attempt left")]
)
def test_what_was_lost_in_flight_is_told_why_it_is_not_sent_again(wish, why):
    job = life.rescue(begun(on_interrupt=wish, max_attempts=1), NOW, in_flight=True)
    assert (job.state, job.poisoned) == (JobState.DISCARDED, False)
    assert why in job.errors[-1].message


def test_what_cannot_be_done_to_a_job_is_said_for_people_and_for_programs():
    with pytest.raises(IllegalTransition, match=r"job j is executing: cannot hold it"):
        life.hold(begun())
    with pytest.raises(IllegalTransition) as caught:
        life.become_due(begun(), NOW)
    its = caught.value
    assert (its.job, its.action, its.state) == ("j", "become due", JobState.EXECUTING)
