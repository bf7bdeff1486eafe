"""Whose turn it is: what every engine's claims must keep to."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from duckservice.core.job_order import LANES_MAX, Blocked, Lane
from duckservice.store.base import Cancel, Hold, Patch, Release, Snooze

from .conformance import LEASE, NOW, Jobs, claim_one, claim_order, failure, ids, run

AGING = 30.0  # what the fixture opens stores with


@pytest.fixture
def jobs():
    return Jobs()


async def test_high_goes_before_normal_before_low_and_first_come_first_served(
    store, jobs
):
    there = {
        priority: [await jobs.insert(store, priority=priority) for _ in range(3)]
        for priority in ("low", "high", "normal")
    }
    expected = ids([*there["high"], *there["normal"], *there["low"]])
    assert ids(await store.claim(9, NOW, lease_until=NOW + LEASE)) == expected


async def test_a_batch_of_claims_has_the_order_of_single_ones(engine, tmp_path):
    orders = list[list[str]]()
    for claims in (1, 7, 60):
        place = tmp_path / str(claims)
        place.mkdir()
        chance, jobs, order = random.Random(1), Jobs(), list[str]()
        async with engine.open(place, AGING) as store:
            for _ in range(60):
                await jobs.insert(
                    store,
                    NOW - chance.randrange(100),
                    uid=chance.randrange(3),
                    priority=chance.choice(["high", "normal", "low"]),
                    model=chance.choice(["a", "b"]),
                )
            while claimed := await store.claim(claims, NOW, lease_until=NOW + LEASE):
                order += ids(claimed)
        orders.append(order)
    assert len(set(orders[0])) == 60
    assert orders[0] == orders[1] == orders[2]


@pytest.mark.parametrize(
    ("waited", "first"),
    [
        (AGING - 1, "high"),  # low has not risen
        (2 * AGING - 1, "high"),  # low has risen to normal
        (2 * AGING, "low"),  # low has risen to high, and came first
        (2 * AGING + 1, "low"),
    ],
)
async def test_who_waits_rises_a_class_for_every_aging(store, jobs, waited, first):
    low = await jobs.insert(store, priority="low")
    high = await jobs.insert(store, NOW + waited, priority="high")
    claimed = await claim_one(store, NOW + waited)
    assert claimed.job.id == {"low": low, "high": high}[first].id


async def test_who_has_risen_stands_at_the_end_of_its_new_class(store, jobs):
    low = await jobs.insert(store, priority="low")
    early = await jobs.insert(store, NOW + AGING - 1, priority="normal")
    late = await jobs.insert(store, NOW + AGING + 1, priority="normal")
    order = await claim_order(store, 3, NOW + AGING + 1)
    assert order == [early.id, low.id, late.id]


async def test_a_pause_keeps_a_jobs_place(store, jobs):
    first = await jobs.insert(store)
    await jobs.insert(store, NOW + 1)
    claimed = await claim_one(store, NOW + 1)
    await store.end(claimed.lease, Snooze(until=NOW + 5, reason="paused"), NOW + 1)
    await store.stage(NOW + 5)
    assert (await claim_one(store, NOW + 5)).job.id == first.id


async def test_every_class_gets_one_of_twenty_turns_however_many_others_come(
    store, jobs
):
    for _ in range(5):
        await jobs.insert(store, priority="low")
        await jobs.insert(store, priority="normal")
    order = list[str]()
    for _ in range(40):
        await jobs.insert(store, priority="high")
        await jobs.insert(store, priority="high")
        order.append((await claim_one(store)).job.priority)
    for start in range(20):
        of_20 = Counter(order[start : start + 20])
        assert min(of_20[p] for p in ("high", "normal", "low")) >= 1, order


async def test_submitters_take_turns_however_many_jobs_one_has(store, jobs):
    for _ in range(20):
        await jobs.insert(store, uid=1)
    others = [await jobs.insert(store, NOW + 1, uid=2) for _ in range(3)]
    order = await claim_order(store, 6, NOW + 1)
    assert [job for job in order if job in ids(others)] == ids(others)
    assert sum(job in ids(others) for job in order) == 3


async def test_a_submitters_batches_and_tags_take_turns(store, jobs):
    for _ in range(20):
        await jobs.insert(store, uid=1, batch="big")
    small = await jobs.insert(store, NOW + 1, uid=1)
    tagged = await jobs.insert(store, NOW + 2, uid=1, tags={"t": "x"})
    order = await claim_order(store, 4, NOW + 2)
    assert {small.id, tagged.id} <= set(order)


async def test_many_batches_give_a_submitter_no_more_turns(store, jobs):
    for batch in "abcdefgh":
        for _ in range(3):
            await jobs.insert(store, uid=1, batch=batch)
    for _ in range(12):
        await jobs.insert(store, uid=2)
    order = [claimed.job for claimed in await store.claim(12, NOW, lease_until=NOW)]
    uids = Counter(job.submitter.uid for job in order if job.submitter)
    assert uids == {1: 6, 2: 6}


async def test_turns_do_not_go_before_priority(store, jobs):
    for _ in range(3):
        await jobs.insert(store, uid=1, priority="high")
    await jobs.insert(store, uid=2)
    claimed = await store.claim(3, NOW, lease_until=NOW + LEASE)
    assert {one.job.priority for one in claimed} == {"high"}


async def test_what_is_blocked_holds_nobody_up(store, jobs):
    for _ in range(50):
        await jobs.insert(store, model="down", priority="high")
        await jobs.insert(store, model="up", tags={"team": "poor"}, priority="high")
    free = await jobs.insert(store, model="up", priority="low", tags={"team": "rich"})
    blocked = Blocked(
        models=frozenset({"down"}), tags=frozenset({("team", "poor"), ("x", "y")})
    )
    claimed = await store.claim(9, NOW, lease_until=NOW + LEASE, blocked=blocked)
    assert ids(claimed) == [free.id]
    assert len(await store.claim(200, NOW, lease_until=NOW + LEASE)) == 100


async def test_only_some_models_may_be_claimed(store, jobs):
    await jobs.insert(store, model="a")
    b = await jobs.insert(store, model="b")
    only = Blocked(only_models=frozenset({"b", "c"}))
    assert ids(await store.claim(9, NOW, lease_until=NOW, blocked=only)) == [b.id]
    nothing = Blocked(only_models=frozenset())
    assert await store.claim(9, NOW, lease_until=NOW, blocked=nothing) == ()


async def test_the_lanes_tell_what_is_available(store, jobs):
    assert await store.lanes() == ()
    await jobs.insert(store, uid=1, model="a", tags={"z": "1", "b": "2"})
    await jobs.insert(store, NOW + 1, uid=1, model="a", tags={"b": "2", "z": "1"})
    await jobs.insert(store, NOW + 2, model="a", batch="x", priority="low")
    await jobs.insert(store, model="a", hold=True)
    await jobs.insert(store, model="a", not_before=NOW + 5)
    loads = {load.lane: (load.available, load.oldest) for load in await store.lanes()}
    tags = (("b", "2"), ("z", "1"))
    assert loads == {
        Lane(model="a", submitter=1, tags=tags): (2, NOW),
        Lane(model="a", batch="x"): (1, NOW + 2),
    }
    await store.claim(9, NOW, lease_until=NOW)
    assert await store.lanes() == ()


async def test_the_number_of_lanes_is_bounded_and_no_job_is_lost_in_them(store, jobs):
    number = LANES_MAX + 50
    new = [jobs.make(tags={"request": str(n)}) for n in range(number)]
    await store.insert(new)
    lanes = await store.lanes()
    assert len(lanes) <= LANES_MAX + 1
    assert sum(load.available for load in lanes) == number
    claimed = await store.claim(number, NOW, lease_until=NOW + LEASE)
    assert set(ids(claimed)) == {one.job.id for one in new}
    assert await store.lanes() == ()


async def test_a_job_comes_back_to_its_line_and_leaves_it_by_every_way(store, jobs):
    job = await jobs.insert(store)
    other = await jobs.insert(store, NOW + 1, priority="high")
    for _ in range(3):
        await store.change(job.id, Hold(), NOW)
        assert ids(await store.claim(0, NOW, lease_until=NOW)) == []
        assert (await store.lanes())[0].available == 1
        await store.change(job.id, Release(), NOW)
        assert (await store.lanes())[0].available == 2
    await store.change(job.id, Patch(priority="high"), NOW)
    await store.change(other.id, Patch(priority="low"), NOW)
    assert await claim_order(store, 3, NOW + 1) == [job.id, other.id]
    third = await jobs.insert(store)
    await store.change(third.id, Cancel(), NOW)
    assert await store.claim(1, NOW, lease_until=NOW) == ()


async def test_a_retried_job_is_claimed_once(store, jobs):
    job = await jobs.insert(store)
    for attempt in range(2):
        now = NOW + attempt
        claimed = await claim_one(store, now)
        await run(store, claimed, failure(retry_at=now + 1), now=now)
        assert (await store.stage(now + 1)).available == 1
    assert ids(await store.claim(5, NOW + 2, lease_until=NOW)) == [job.id]
