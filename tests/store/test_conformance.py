"""What every engine must do with jobs: take them, list them, and obey clients."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from duckservice.core.job import (
    IllegalTransition,
    JobState,
)
from duckservice.errors import Conflict, InvalidRequest, NotFound, QueueFull
from duckservice.store.base import (
    Cancel,
    Existing,
    Finish,
    Hold,
    Inserted,
    JobFilter,
    Patch,
    Refused,
    Release,
    Retry,
    StaleLease,
)

from .conformance import (
    NOW,
    Jobs,
    begin,
    claim_one,
    cost,
    ids,
    run,
)

MAX_INT = 2**63 - 1


@pytest.fixture
def jobs():
    return Jobs()


# Submission.


async def test_a_job_comes_out_as_it_went_in(store, jobs):
    new = jobs.make(
        uid=5,
        kind="embedding",
        model="modèle-☃",
        request=b'{"n":\xf0\x9f\xa6\x86, \x00}\r\n',
        priority="high",
        tags={"team": "core", "ö": "ü='\"%_"},
        deadline=NOW + 0.1,
        not_before=NOW + 0.01,
        max_cost=MAX_INT,
        max_attempts=5,
        on_interrupt="fail",
        batch="batch_1",
        line=17,
        idempotency_key="k'\"",
        fingerprint="f",
    )
    assert await store.insert([new]) == (Inserted(new.job),)
    assert await store.get(new.job.id) == new.job
    assert await store.request(new.job.id) == new.request
    assert await store.result(new.job.id) is None
    assert await store.attempts(new.job.id) == ()


async def test_what_is_not_there_is_not_found(store):
    for ask in (store.get, store.request, store.result, store.attempts):
        with pytest.raises(NotFound, match="job_x"):
            await ask("job_x")
    for wait in (store.wait_final, store.read_deltas):
        with pytest.raises(NotFound):
            await wait("job_x")
    with pytest.raises(NotFound):
        await store.change("job_x", Cancel(), NOW)
    with pytest.raises(NotFound):
        await store.settle_attempt("job_x.1", cost(1), NOW)


async def test_the_same_key_and_submission_is_the_old_job_whatever_became_of_it(
    store, jobs
):
    def again():
        return jobs.make(uid=1, idempotency_key="k", fingerprint="f")

    (first,) = await store.insert([again()])
    assert await store.insert([again(), again()]) == (Existing(first.job),) * 2
    done = await run(store, await claim_one(store))
    assert await store.insert([again()]) == (Existing(done),)
    assert sum((await store.counts()).values()) == 1


async def test_the_same_key_for_another_submission_is_a_conflict(store, jobs):
    old = await jobs.insert(store, uid=1, idempotency_key="k", fingerprint="f")
    other, fine = jobs.make(uid=1, idempotency_key="k", fingerprint="g"), jobs.make()
    refused, inserted = await store.insert([other, fine])
    assert isinstance(refused, Refused)
    assert isinstance(refused.error, Conflict)
    assert old.id in refused.error.message
    assert refused.error.job == old.id, "so that a program finds it"
    assert inserted == Inserted(fine.job), (
        "the others of the same commit are not harmed"
    )


async def test_a_key_is_its_submitters_own(store, jobs):
    for uid in (None, 0, 1):
        await jobs.insert(store, uid=uid, idempotency_key="k", fingerprint=str(uid))


async def test_of_many_with_one_key_at_the_same_time_one_is_inserted(store, jobs):
    outcomes = list[object]()

    async def submit_one(new):
        outcomes.extend(await store.insert([new]))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(
                submit_one, jobs.make(idempotency_key="k", fingerprint="f")
            )
    assert sum(isinstance(outcome, Inserted) for outcome in outcomes) == 1
    assert len({outcome.job.id for outcome in outcomes}) == 1


async def test_not_more_jobs_than_allowed_are_unfinished(store, jobs):
    outcomes = await store.insert([jobs.make() for _ in range(3)], unfinished_max=2)
    assert [type(outcome) for outcome in outcomes] == [Inserted, Inserted, Refused]
    assert isinstance(outcomes[2].error, QueueFull)
    await run(store, await claim_one(store))
    (outcome,) = await store.insert([jobs.make()], unfinished_max=2)
    assert isinstance(outcome, Inserted)


# Lists.


async def test_a_list_has_what_matches_newest_first(store, jobs):
    a = await jobs.insert(store, uid=1, model="a", tags={"t": "1", "u": "2"})
    b = await jobs.insert(store, NOW + 1, uid=2, model="b", batch="x", tags={"t": "1"})
    c = await jobs.insert(store, NOW + 2, uid=2, model="b", hold=True, tags={"t": "12"})

    async def found(**which):
        return ids((await store.list_jobs(JobFilter(**which))).jobs)

    assert await found() == [c.id, b.id, a.id]
    assert await found(states=frozenset({JobState.SUSPENDED})) == [c.id]
    assert await found(states=frozenset({"suspended", "available"})) == [
        c.id,
        b.id,
        a.id,
    ]
    assert await found(states=frozenset({JobState.COMPLETED})) == []
    assert await found(model="b") == [c.id, b.id]
    assert await found(tags={"t": "1"}) == [b.id, a.id]
    assert await found(tags={"t": "1", "u": "2"}) == [a.id]
    assert await found(tags={"1": "t"}) == []
    assert await found(batch="x") == [b.id]
    assert await found(since=NOW + 1) == [c.id, b.id]
    assert await found(submitter=2) == [c.id, b.id]
    assert await found(submitter=2, tags={"t": "1"}, since=NOW, model="b") == [b.id]


@pytest.mark.parametrize("oldest_first", [False, True])
async def test_pages_show_each_job_once_though_others_come(store, jobs, oldest_first):
    there = ids([await jobs.insert(store, model=m) for m in "abababa"])
    matching = there[::2]
    which, shown, cursor = JobFilter(model="a"), list[str](), None
    while True:
        page = await store.list_jobs(
            which, limit=2, cursor=cursor, oldest_first=oldest_first
        )
        shown += ids(page.jobs)
        cursor = page.cursor
        if cursor is None:
            break
        assert len(page.jobs) == 2
        await jobs.insert(store, model="b")
    assert shown == (matching if oldest_first else matching[::-1])


async def test_the_last_page_says_so_even_if_it_is_full(store, jobs):
    await jobs.insert(store)
    assert (await store.list_jobs(JobFilter(), limit=1)).cursor is None


@pytest.mark.parametrize("cursor", ["", "x", "'; --", "job_000001"])
async def test_a_cursor_that_is_none_of_ours_is_refused(store, cursor):
    with pytest.raises(InvalidRequest, match="cursor"):
        await store.list_jobs(JobFilter(), cursor=cursor)


async def test_counts_name_every_state_and_batches_apart(store, jobs):
    zero = dict.fromkeys(JobState, 0)
    assert await store.counts() == zero
    await jobs.insert(store, batch="x")
    await jobs.insert(store, batch="x", hold=True)
    await jobs.insert(store)
    await run(store, await claim_one(store))
    assert await store.counts(batch="x") == {**zero, "completed": 1, "suspended": 1}
    assert await store.counts() == {
        **zero,
        "completed": 1,
        "suspended": 1,
        "available": 1,
    }
    assert await store.counts(batch="y") == zero


# A client's wishes.


async def test_a_wish_is_obeyed_or_refused_by_naming_the_state(store, jobs):
    job = await jobs.insert(store)
    for change, state in (
        (Hold(), "suspended"),
        (Release(), "available"),
        (Patch(priority="high", deadline=NOW + 9), "available"),
        (Cancel(), "cancelled"),
    ):
        changed = await store.change(job.id, change, NOW)
        assert changed.state == state
        assert await store.get(job.id) == changed
    assert (changed.priority, changed.deadline) == ("high", NOW + 9)
    for change in (Cancel(), Hold(), Release(), Patch(priority="low")):
        with pytest.raises(IllegalTransition, match="is cancelled"):
            await store.change(job.id, change, NOW)
        assert await store.get(job.id) == changed
    assert (await store.change(job.id, Retry(), NOW + 1)).state == "available"


async def test_after_a_cancel_no_attempt_begins_and_no_result_is_taken(store, jobs):
    await jobs.insert(store)
    claimed = await claim_one(store)
    record = await begin(store, claimed)
    cancelled = await store.change(claimed.job.id, Cancel(), NOW + 1)
    with pytest.raises(StaleLease):
        await begin(store, claimed)
    with pytest.raises(StaleLease):
        await store.append_deltas(claimed.lease, record.id, [b"x"])
    with pytest.raises(StaleLease):
        await store.end(
            claimed.lease, Finish(result=b"late"), NOW, settled=(record.id, cost(30))
        )
    job = await store.get(claimed.job.id)
    assert job.state == cancelled.state == "cancelled"
    assert await store.result(job.id) is None
    assert job.cost == 30, "what was spent was spent"
    assert (await store.attempts(job.id))[0].state == "settled"
