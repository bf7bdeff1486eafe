"""Streams that are read late, again, by many, and slowly: for every engine."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from duckservice.core.job import Settlement
from duckservice.errors import NotFound
from duckservice.store.base import (
    Cancel,
    Crash,
    Delta,
    Deltas,
    Finish,
    Snooze,
    StaleLease,
)

from .conformance import NOW, Jobs, begin, claim_one, run


@pytest.fixture
def jobs():
    return Jobs()


async def read_all(store, job, *, after=0, limit=3):
    """Read on until the job's end, as a client that is always there does."""
    items = list[Delta]()
    while True:
        deltas = await store.read_deltas(job, after=after, limit=limit)
        items += deltas.items
        after = items[-1].id if items else after
        if deltas.final:
            return items
        if not deltas.items:
            await store.wait_for_deltas(job, after=after)


async def test_a_stream_is_read_from_any_place_while_it_runs_and_afterwards(
    store, jobs
):
    job = await jobs.insert(store)
    assert await store.read_deltas(job.id) == Deltas(items=(), final=False)
    claimed = await claim_one(store)
    record = await begin(store, claimed)
    assert (
        await store.append_deltas(claimed.lease, record.id, [b"a", b"\x00", b""]) == 3
    )
    assert await store.append_deltas(claimed.lease, record.id, [b"d"]) == 4
    expected = tuple(
        Delta(id=n, attempt=record.id, data=data)
        for n, data in enumerate((b"a", b"\x00", b"", b"d"), start=1)
    )
    for final in (False, True):
        for after in range(5):
            for limit in (1, 2, 9):
                deltas = await store.read_deltas(job.id, after=after, limit=limit)
                assert deltas.items == expected[after : after + limit]
                assert deltas.final == (final and after + limit >= 4)
                assert deltas.last == 4
        beyond = await store.read_deltas(job.id, after=99)
        assert beyond == Deltas(items=(), final=final, last=4)
        if not final:
            await run(store, claimed)


async def test_large_pieces_are_read_in_small_pages_and_all_of_them(store, jobs):
    job = await jobs.insert(store)
    claimed = await claim_one(store)
    record = await begin(store, claimed)
    pieces = [b"x" * size for size in (100_000, 100_000, 100_000, 900_000, 1, 2)]
    await store.append_deltas(claimed.lease, record.id, pieces)
    await run(store, claimed)
    pages, after, final = [], 0, False
    while not final:
        page = await store.read_deltas(job.id, after=after, limit=100)
        pages.append([len(delta.data) for delta in page.items])
        after, final = page.items[-1].id, page.final
    assert pages == [[100_000, 100_000], [100_000], [900_000], [1, 2]]


async def test_nothing_appended_changes_nothing(store, jobs):
    await jobs.insert(store)
    claimed = await claim_one(store)
    record = await begin(store, claimed)
    assert await store.append_deltas(claimed.lease, record.id, []) == 0
    assert await store.append_deltas(claimed.lease, record.id, [b"x"]) == 1
    assert await store.append_deltas(claimed.lease, record.id, []) == 1


async def test_ids_go_on_over_attempts_crashes_and_retries(store, jobs):
    job = await jobs.insert(store, max_attempts=9)
    seen = list[int]()
    for outcome in (Crash(), Snooze(until=NOW, reason="paused"), Crash()):
        claimed = await claim_one(store)
        record = await begin(store, claimed)
        seen.append(await store.append_deltas(claimed.lease, record.id, [b"x", b"y"]))
        settled = (record.id, Settlement(outcome="ok"))
        crashed = isinstance(outcome, Crash)
        await store.end(
            claimed.lease, outcome, NOW, settled=None if crashed else settled
        )
    assert seen == [2, 4, 6]
    items = (await store.read_deltas(job.id)).items
    assert [delta.id for delta in items] == [1, 2, 3, 4, 5, 6]
    assert len({delta.attempt for delta in items}) == 3


async def test_many_readers_get_all_of_it_whenever_they_come(store, jobs):
    job = await jobs.insert(store)
    claimed = await claim_one(store)
    record = await begin(store, claimed)
    got = dict[int, list[bytes]]()

    async def read(after):
        items = await read_all(store, job.id, after=after)
        got[after] = [delta.data for delta in items]

    async with trio.open_nursery() as nursery:
        for after in range(5):
            nursery.start_soon(read, after)
            await store.append_deltas(claimed.lease, record.id, [b"%d" % after, b"."])
        await run(store, claimed)
    whole = [piece for n in range(5) for piece in (b"%d" % n, b".")]
    assert got == {after: whole[after:] for after in range(5)}


async def test_a_reader_is_told_of_the_end_though_nothing_came(store, jobs):
    job = await jobs.insert(store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_all, store, job.id)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await store.change(job.id, Cancel(), NOW)
    await store.wait_for_deltas(job.id, after=0)
    with pytest.raises(NotFound):
        await store.wait_for_deltas("job_x", after=0)


async def test_what_a_stale_lease_appends_is_refused_whole(store, jobs):
    job = await jobs.insert(store)
    claimed = await claim_one(store)
    record = await begin(store, claimed)
    await store.rescue_at_start(NOW)
    with pytest.raises(StaleLease):
        await store.append_deltas(claimed.lease, record.id, [b"x", b"y"])
    assert (await store.read_deltas(job.id)).items == ()


async def test_the_last_of_a_stream_is_written_with_the_end(store, jobs):
    job = await jobs.insert(store)
    claimed = await claim_one(store)
    record = await begin(store, claimed)
    assert await store.append_deltas(claimed.lease, record.id, [b"a"]) == 1
    await store.end(
        claimed.lease,
        Finish(result=b"{}"),
        NOW,
        settled=(record.id, Settlement(outcome="ok")),
        deltas=(record.id, [b"b", b"c"]),
    )
    read = await store.read_deltas(job.id)
    assert [(delta.id, delta.data) for delta in read.items] == [
        (1, b"a"),
        (2, b"b"),
        (3, b"c"),
    ]
    assert read.final
    assert {delta.attempt for delta in read.items} == {record.id}


async def test_a_stale_end_writes_nothing_of_the_stream(store, jobs):
    job = await jobs.insert(store)
    claimed = await claim_one(store)
    record = await begin(store, claimed)
    await store.change(job.id, Cancel(), NOW)
    with pytest.raises(StaleLease):
        await store.end(
            claimed.lease,
            Finish(result=b"{}"),
            NOW,
            settled=(record.id, Settlement(outcome="ok")),
            deltas=(record.id, [b"b"]),
        )
    assert (await store.read_deltas(job.id)).items == ()
    assert (await store.attempts(job.id))[0].state == "settled"
