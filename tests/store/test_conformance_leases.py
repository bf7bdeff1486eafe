"""What every engine must do with jobs that are to be run: leases, time, crashes."""

from __future__ import annotations

import attrs
import pytest
import trio
import trio.testing

from duckservice.core.job import (
    CRASHES_MAX,
    IllegalTransition,
    Settlement,
    claim as claimed_value,
)
from duckservice.errors import NotFound
from duckservice.store.base import (
    Cancel,
    Crash,
    Expire,
    Finish,
    Patch,
    Retry,
    Snooze,
    StaleLease,
)

from .conformance import (
    LEASE,
    NOW,
    Jobs,
    begin,
    claim_one,
    cost,
    failure,
    ids,
    run,
)

MAX_INT = 2**63 - 1


@pytest.fixture
def jobs():
    return Jobs()


# Claims and leases.


async def test_a_job_is_claimed_by_one(store, jobs):
    for _ in range(10):
        await jobs.insert(store)
    claims = list[str]()

    async def claim_some():
        claims.extend(ids(await store.claim(3, NOW, lease_until=NOW + LEASE)))

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(claim_some)
    assert len(claims) == len(set(claims)) == 10


async def test_a_claim_gives_all_that_is_needed_to_run_the_job(store, jobs):
    new = jobs.make()
    await store.insert([new])
    claimed = await claim_one(store, NOW + 1)
    assert claimed.request == new.request
    assert claimed.job == claimed_value(new.job, NOW + 1)
    assert claimed.job == await store.get(new.job.id)
    assert claimed.lease.job == new.job.id
    assert claimed.lease.until == NOW + 1 + LEASE


@pytest.mark.parametrize("limit", [0, -1])
async def test_nothing_is_claimed_for_nobody(store, jobs, limit):
    await jobs.insert(store)
    assert await store.claim(limit, NOW, lease_until=NOW) == ()


async def test_a_job_ends_with_its_result_and_its_cost(store, jobs):
    await jobs.insert(store)
    claimed = await claim_one(store)
    record = await begin(store, claimed, NOW + 1, reserved=500)
    assert record.state == "open"
    assert await store.attempts(claimed.job.id) == (record,)
    settlement = cost(123)
    done = await store.end(
        claimed.lease,
        Finish(result=b'{"ok":\xc3\xa9}'),
        NOW + 2,
        settled=(record.id, settlement),
    )
    assert done.state == "completed"
    assert (done.started_at, done.finished_at) == (NOW, NOW + 2)
    assert (done.attempt, done.cost, done.cost_known) == (1, 123, True)
    assert (done.provider, done.served_model) == ("p", "m-1")
    assert done.usage == settlement.usage
    assert done.wait_reason is None
    assert await store.get(done.id) == done
    assert await store.result(done.id) == b'{"ok":\xc3\xa9}'
    (settled,) = await store.attempts(done.id)
    assert settled == attrs.evolve(
        record, state="settled", ended_at=NOW + 2, settlement=settlement
    )


async def test_a_result_is_taken_once(store, jobs):
    await jobs.insert(store)
    claimed = await claim_one(store)
    done = await run(store, claimed)
    with pytest.raises(StaleLease):
        await store.end(claimed.lease, Finish(result=b"other"), NOW + 5)
    assert await store.get(done.id) == done
    assert await store.result(done.id) == b"{}"


async def test_a_late_result_of_a_lost_attempt_is_refused(store, jobs):
    await jobs.insert(store)
    first = await claim_one(store)
    record = await begin(store, first)
    await store.rescue_expired(NOW + LEASE)
    second = await claim_one(store, NOW + LEASE)
    assert second.lease.number > first.lease.number
    for late in (
        store.end(first.lease, Finish(result=b"late"), NOW + LEASE),
        store.end(first.lease, failure(), NOW + LEASE),
        begin(store, first),
        store.append_deltas(first.lease, record.id, [b"late"]),
    ):
        with pytest.raises(StaleLease):
            await late
    assert await store.get(second.job.id) == second.job
    done = await run(store, second, Finish(result=b"in time"), now=NOW + LEASE)
    assert await store.result(done.id) == b"in time"


async def test_what_is_settled_already_spoils_the_end(store, jobs):
    await jobs.insert(store)
    claimed = await claim_one(store)
    record = await begin(store, claimed)
    await store.settle_attempt(record.id, cost(7), NOW)
    with pytest.raises(StaleLease):
        await store.end(
            claimed.lease, Finish(result=b"x"), NOW, settled=(record.id, cost(9))
        )
    job = await store.get(claimed.job.id)
    assert (job.state, job.cost) == ("executing", 7)
    with pytest.raises(NotFound):
        await store.end(
            claimed.lease, Finish(result=b"x"), NOW, settled=(job.id + ".9", cost(9))
        )
    assert (await store.get(job.id)).state == "executing"


async def test_a_failed_job_waits_for_its_next_attempt_or_is_discarded(store, jobs):
    await jobs.insert(store, max_attempts=2)
    retryable = await run(store, await claim_one(store), failure(retry_at=NOW + 5))
    assert (retryable.state, retryable.due_at) == ("retryable", NOW + 5)
    assert retryable.wait_reason == "retry_backoff"
    assert await store.claim(1, NOW + 4, lease_until=NOW) == ()
    staged = await store.stage(NOW + 4)
    assert (staged.available, staged.next_at) == (0, NOW + 5)
    assert (await store.stage(NOW + 5)).available == 1
    again = await claim_one(store, NOW + 5)
    discarded = await run(store, again, failure(retry_at=NOW + 9), now=NOW + 6)
    assert (discarded.state, discarded.attempt) == ("discarded", 2)
    assert [error.code for error in discarded.errors] == ["provider_error"] * 2
    assert discarded.cost == 140
    assert await store.get(discarded.id) == discarded


async def test_a_429_uses_up_no_attempt_however_often_it_comes(store, jobs):
    await jobs.insert(store, max_attempts=1)
    now = NOW
    for _ in range(5):
        claimed = await claim_one(store, now)
        record = await begin(store, claimed, now)
        refused = Settlement(outcome="rate_limited", counts=False)
        job = await store.end(
            claimed.lease,
            Snooze(until=now + 3, reason="rate_limited:p"),
            now,
            settled=(record.id, refused),
        )
        assert (job.state, job.attempt) == ("scheduled", 0)
        assert job.wait_reason == "rate_limited:p"
        now += 3
        assert (await store.stage(now)).available == 1
    assert [record.number for record in await store.attempts(job.id)] == [1, 2, 3, 4, 5]
    assert (await run(store, await claim_one(store, now), now=now)).state == "completed"


async def test_attempts_beyond_the_last_do_not_begin(store, jobs):
    await jobs.insert(store, max_attempts=2)
    claimed = await claim_one(store)
    for _ in range(2):
        record = await begin(store, claimed)
        await store.settle_attempt(record.id, cost(1), NOW)
    with pytest.raises(IllegalTransition, match="attempt 3 of 2"):
        await begin(store, claimed)
    assert len(await store.attempts(claimed.job.id)) == 2


async def test_a_job_that_is_put_back_at_once_is_available(store, jobs):
    await jobs.insert(store)
    claimed = await claim_one(store)
    job = await store.end(claimed.lease, Snooze(until=NOW, reason="paused"), NOW)
    assert (job.state, job.wait_reason, job.attempt) == ("available", "queued", 0)
    assert (await claim_one(store)).job.id == job.id


# Time.


async def test_a_job_is_not_run_before_its_time(store, jobs):
    job = await jobs.insert(store, not_before=NOW + 10)
    assert (job.state, job.wait_reason) == ("scheduled", "not_before")
    staged = await store.stage(NOW + 9)
    assert (staged.available, staged.next_at) == (0, NOW + 10)
    staged = await store.stage(NOW + 10)
    assert (staged.available, staged.expired, staged.next_at) == (1, (), None)
    assert (await claim_one(store, NOW + 10)).job.id == job.id


async def test_an_overdue_job_expires_wherever_it_waits_and_is_not_claimed(store, jobs):
    waiting = [
        await jobs.insert(store, deadline=NOW + 5),
        await jobs.insert(store, deadline=NOW + 5, hold=True),
        await jobs.insert(store, deadline=NOW + 5, not_before=NOW + 9),
    ]
    free = await jobs.insert(store)
    assert (await store.stage(NOW + 4)).next_at == NOW + 5
    assert ids(await store.claim(9, NOW + 5, lease_until=NOW + 50)) == [free.id]
    await store.stage(NOW + 5)
    for job in waiting:
        expired = await store.get(job.id)
        assert (expired.state, expired.finished_at) == ("expired", NOW + 5)
    assert (await store.stage(NOW + 99)).next_at is None


async def test_staging_names_who_expired_and_stops_at_its_limit(store, jobs):
    overdue = [await jobs.insert(store, deadline=NOW + 1) for _ in range(3)]
    for _ in range(3):
        await jobs.insert(store, not_before=NOW + 1)
    first = await store.stage(NOW + 2, limit=2)
    assert (first.available, len(first.expired)) == (2, 2)
    assert first.next_at is not None
    assert first.next_at <= NOW + 2
    second = await store.stage(NOW + 2, limit=2)
    assert (second.available, len(second.expired)) == (1, 1)
    assert {*first.expired, *second.expired} == set(ids(overdue))
    assert second.next_at is None


async def test_a_running_job_expires_by_the_hand_of_who_runs_it(store, jobs):
    await jobs.insert(store, deadline=NOW + 5)
    claimed = await claim_one(store)
    assert (await store.stage(NOW + 6)).expired == ()
    record = await begin(store, claimed)
    job = await store.end(
        claimed.lease, Expire(), NOW + 6, settled=(record.id, cost(4))
    )
    assert (job.state, job.cost) == ("expired", 4)


async def test_a_new_deadline_counts_at_once(store, jobs):
    job = await jobs.insert(store)
    await store.change(job.id, Patch(deadline=NOW + 3), NOW)
    assert (await store.stage(NOW + 2)).next_at == NOW + 3
    await store.change(job.id, Patch(deadline=NOW + 8), NOW)
    assert (await store.stage(NOW + 3)).expired == ()
    assert (await store.stage(NOW + 8)).expired == (job.id,)


# Crashes.


async def test_leases_that_are_extended_do_not_end(store, jobs):
    await jobs.insert(store)
    await jobs.insert(store)
    first, second = await store.claim(2, NOW, lease_until=NOW + 10)
    assert await store.extend([first.lease], until=NOW + 20) == ()
    rescued = await store.rescue_expired(NOW + 10)
    assert ids(rescued) == [second.job.id]
    assert await store.extend([first.lease, second.lease], until=NOW + 30) == (
        second.lease,
    )
    assert await store.rescue_expired(NOW + 29) == ()
    assert (await run(store, first)).state == "completed"


async def test_a_job_that_was_not_sent_yet_is_run_again_whatever_its_wish(store, jobs):
    await jobs.insert(store, on_interrupt="fail")
    await claim_one(store)
    (job,) = await store.rescue_at_start(NOW + 1)
    assert (job.state, job.maybe_billed, job.crashes) == ("available", False, 1)


async def test_a_job_in_flight_is_run_again_and_marked_if_it_may_be(store, jobs):
    await jobs.insert(store)
    claimed = await claim_one(store)
    record = await begin(store, claimed, reserved=40)
    (job,) = await store.rescue_at_start(NOW + 1)
    assert (job.state, job.maybe_billed, job.attempt) == ("available", True, 1)
    assert job.cost == 40
    (lost,) = await store.attempts(job.id)
    assert lost == attrs.evolve(record, state="lost", ended_at=NOW + 1)
    assert await store.get(job.id) == job
    assert await store.rescue_at_start(NOW + 2) == ()


async def test_a_job_in_flight_that_must_not_be_sent_twice_is_discarded(store, jobs):
    await jobs.insert(store, on_interrupt="fail")
    await begin(store, await claim_one(store))
    (job,) = await store.rescue_at_start(NOW + 1)
    assert (job.state, job.maybe_billed, job.poisoned) == ("discarded", True, False)
    assert job.finished_at == NOW + 1
    assert "not to be sent twice" in job.errors[-1].message


async def test_a_job_that_takes_its_processor_down_thrice_is_not_run_again(store, jobs):
    harmless = await jobs.insert(store, priority="low")
    poison = await jobs.insert(store, max_attempts=9)
    for crash in range(1, CRASHES_MAX + 1):
        claimed = await claim_one(store)
        assert claimed.job.id == poison.id
        await begin(store, claimed, reserved=5)
        job = await store.end(claimed.lease, Crash(), NOW + crash)
        assert job.crashes == crash
    assert (job.state, job.poisoned, job.maybe_billed) == ("discarded", True, True)
    assert job.cost == 15
    assert (await claim_one(store)).job.id == harmless.id


async def test_a_crash_that_is_not_its_fault_is_not_counted(store, jobs):
    await jobs.insert(store)
    for _ in range(CRASHES_MAX + 1):
        await claim_one(store)
        (job,) = await store.rescue_at_start(NOW, blame=False)
        assert (job.state, job.crashes) == ("available", 0)


async def test_a_lost_attempt_may_still_be_settled_once(store, jobs):
    await jobs.insert(store)
    record = await begin(store, await claim_one(store), reserved=40)
    await store.rescue_at_start(NOW + 1)
    settled = await store.settle_attempt(record.id, cost(25), NOW + 2)
    assert settled.state == "settled"
    job = await store.get(record.job)
    assert (job.state, job.cost, job.attempt) == ("available", 25, 1)
    with pytest.raises(StaleLease):
        await store.settle_attempt(record.id, cost(26), NOW + 3)
    assert (await store.get(record.job)).cost == 25


async def test_an_open_attempt_of_a_job_that_is_over_is_lost_at_the_start(store, jobs):
    await jobs.insert(store)
    record = await begin(store, await claim_one(store), reserved=40)
    await store.change(record.job, Cancel(), NOW)
    assert await store.rescue_at_start(NOW + 1) == ()
    job = await store.get(record.job)
    assert (job.state, job.cost, job.maybe_billed) == ("cancelled", 40, True)
    assert (await store.attempts(job.id))[0].state == "lost"


async def test_a_job_begun_anew_has_all_its_attempts_again(store, jobs):
    await jobs.insert(store, max_attempts=1)
    discarded = await run(store, await claim_one(store), failure())
    assert discarded.state == "discarded"
    again = await store.change(discarded.id, Retry(), NOW + 1)
    assert (again.state, again.finished_at) == ("available", None)
    assert (again.attempt, again.max_attempts) == (1, 2)
    done = await run(store, await claim_one(store, NOW + 1), now=NOW + 2)
    assert done.state == "completed"
    assert done.cost == 140
    assert [record.number for record in await store.attempts(done.id)] == [1, 2]
    assert (done.attempt, done.max_attempts) == (2, 2)


# Waiting.


async def test_who_waits_for_work_misses_none(store, jobs):
    await jobs.insert(store)
    seen = await store.wait_for_work(0)
    for news in (
        jobs.insert(store),
        store.set_flag("paused", "yes"),
        jobs.insert(store, not_before=NOW + 5),
        jobs.insert(store, deadline=NOW + 5, hold=True),
    ):
        await news
        later = await store.wait_for_work(seen)
        assert later > seen
        seen = later


async def test_who_waits_for_work_is_woken(store, jobs):
    await jobs.insert(store)
    seen = await store.wait_for_work(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.wait_for_work, seen)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert nursery.child_tasks
        await jobs.insert(store)


@pytest.mark.parametrize("number", [1, 3])
async def test_who_waits_for_the_end_gets_the_job_as_it_ended(store, jobs, number):
    job = await jobs.insert(store)
    ended = list[object]()

    async def wait():
        ended.append(await store.wait_final(job.id))

    async with trio.open_nursery() as nursery:
        for _ in range(number):
            nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked(0.01)
        done = await run(store, await claim_one(store))
    assert ended == [done] * number
    assert await store.wait_final(job.id) == done
