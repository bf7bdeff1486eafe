"""Money, files, pruning, flags and health: for every engine."""

from __future__ import annotations

import attrs
import pytest
import trio
import trio.testing

from duckservice.calls.call import Submitter
from duckservice.completion import Usage
from duckservice.core.job import JobState, Settlement
from duckservice.errors import Conflict, NotFound
from duckservice.store.base import (
    KEY_KEPT,
    Batch,
    Cancel,
    Crash,
    Inserted,
    LedgerEntry,
    LedgerFilter,
    Retention,
    Retry,
    StaleLease,
    StoredFile,
    StoreUnavailable,
)

from .conformance import LEASE, NOW, Jobs, begin, claim_one, cost, failure, run

HOUR = 3600.0


@pytest.fixture
def jobs():
    return Jobs()


def entry(id_: str, **others) -> LedgerEntry:
    return LedgerEntry(
        **{
            "id": id_,
            "provider": "p",
            "model": "m",
            "at": NOW,
            "reserved": 50,
            **others,
        }
    )


async def spent(store, **which) -> int:
    sums = await store.sums(LedgerFilter(**which))
    return sum(one.amount for one in sums)


# Money.


async def test_the_ledger_has_every_attempt_and_agrees_with_the_jobs(store, jobs):
    await jobs.insert(store, tags={"team": "core"})
    claimed = await claim_one(store)
    first = await begin(store, claimed, reserved=500)
    assert await store.open_entries() == (
        LedgerEntry(
            id=first.id,
            job=claimed.job.id,
            provider="p",
            model="m-1",
            tags={"team": "core"},
            at=NOW,
            reserved=500,
        ),
    )
    (one,) = await store.sums(LedgerFilter())
    assert (one.entries, one.open, one.amount, one.reserved) == (1, 1, 0, 500)
    await store.settle_attempt(first.id, cost(30, outcome="provider_error"), NOW + 1)
    second = await begin(store, claimed, NOW + 2, reserved=500)
    await store.end(claimed.lease, failure(), NOW + 3, settled=(second.id, cost(None)))
    job = await store.get(claimed.job.id)
    assert (job.cost, job.cost_known) == (30, False)
    assert await store.open_entries() == ()
    (one,) = await store.sums(LedgerFilter())
    assert (one.hour, one.provider, one.model) == (int(NOW // HOUR), "p", "m-1")
    assert (one.entries, one.failures, one.unpriced) == (2, 1, 1)
    assert (one.open, one.reserved, one.amount, one.estimated) == (0, 0, 30, 0)
    assert (one.usage.input_tokens, one.usage.output_tokens) == (6, 10)


async def test_what_was_guessed_is_told_apart(store, jobs):
    guess = Usage(input_tokens=3, estimated=True)
    for usage in (Usage(input_tokens=5), guess, guess):
        await jobs.insert(store)
        record = await begin(store, await claim_one(store), reserved=9)
        settled = Settlement(
            outcome="ok", usage=usage, cost=1, estimated=usage.estimated
        )
        await store.settle_attempt(record.id, settled, NOW + 1)
        job = await store.get(record.job)
        assert job.cost_estimated == usage.estimated
    (one,) = await store.sums(LedgerFilter())
    assert (one.entries, one.estimated, one.amount) == (3, 2, 3)


async def test_a_lost_attempt_counts_with_all_that_was_reserved(store, jobs):
    await jobs.insert(store)
    record = await begin(store, await claim_one(store), reserved=77)
    await store.rescue_at_start(NOW + 1)
    assert await store.open_entries() == ()
    assert await spent(store) == (await store.get(record.job)).cost == 77
    await store.settle_attempt(record.id, cost(11), NOW + 2)
    assert await spent(store) == (await store.get(record.job)).cost == 11


async def test_a_crash_leaves_no_reservation_behind(store, jobs):
    for _ in range(2):
        await jobs.insert(store)
    crashed, forgotten = await store.claim(2, NOW, lease_until=NOW + LEASE)
    for claimed in (crashed, forgotten):
        await begin(store, claimed, reserved=40)
    assert [one.counts_with for one in await store.open_entries()] == [40, 40]
    await store.end(crashed.lease, Crash(), NOW + 1)
    assert len(await store.open_entries()) == 1
    await store.rescue_expired(NOW + LEASE)
    assert await store.open_entries() == ()
    assert await spent(store) == 80


async def test_requests_that_are_no_jobs_are_in_the_ledger_too(store):
    done = entry("r1", state="settled", amount=9, outcome="ok", tags={"a": "b"})
    await store.record([done, entry("r2"), entry("r3")])
    assert [one.id for one in await store.open_entries()] == ["r2", "r3"]
    settled = await store.settle_entry("r2", cost(20))
    assert (settled.state, settled.amount, settled.counts_with) == ("settled", 20, 20)
    assert await store.rescue_at_start(NOW) == ()
    assert await store.open_entries() == ()
    assert await spent(store) == 9 + 20 + 50
    assert (await store.settle_entry("r3", cost(1))).amount == 1
    for entry_id in ("r1", "r2", "r3"):
        with pytest.raises(StaleLease):
            await store.settle_entry(entry_id, cost(2))
    with pytest.raises(NotFound):
        await store.settle_entry("r9", cost(2))
    assert await spent(store) == 9 + 20 + 1


async def test_many_are_settled_in_one_commit_and_each_once(store):
    await store.record([entry("r1"), entry("r2"), entry("r3")])
    for _ in range(2):
        await store.settle_entries(
            [("r1", cost(1)), ("gone", cost(9)), ("r2", cost(2)), ("r1", cost(7))]
        )
    assert [one.id for one in await store.open_entries()] == ["r3"]
    await store.rescue_at_start(NOW)
    assert await spent(store) == 1 + 2 + 50
    await store.settle_entries([("r3", cost(4))])
    assert await spent(store) == 1 + 2 + 4


async def test_what_is_no_certain_cost_counts_with_the_reservation(store):
    guess = Usage(output_tokens=1, estimated=True)
    ended = {"state": "settled", "outcome": "ok", "reserved": 50}
    entries = [
        entry("open"),
        entry("sure", amount=8, **ended),
        entry("dear", amount=80, **ended),
        entry("guess", amount=3, usage=guess, **ended),
        entry("dear guess", amount=70, usage=guess, **ended),
        entry("no price", amount=None, **ended),
        entry("lost", state="lost", amount=50, outcome="lost"),
    ]
    counts = [50, 8, 80, 50, 70, 50, 50]
    assert [each.counts_with for each in entries] == counts
    for each, counted in zip(entries, counts, strict=True):
        await store.record([attrs.evolve(each, provider=each.id)])
        (one,) = await store.sums(LedgerFilter(provider=each.id))
        assert (one.counted, one.sure) == (counted, each.sure)
    assert {each.id for each in entries if each.sure} == {"sure", "dear"}


async def test_sums_of_one_submitter_are_of_nobody_else(store, jobs):
    submitter = Submitter(uid=7, gid=7, pid=1)
    await jobs.insert(store, submitter=submitter)
    await begin(store, await claim_one(store), reserved=4)
    await store.record(
        [entry("r1", submitter=0), entry("r2", submitter=7), entry("r3")]
    )
    for uid, entries in ((7, 2), (0, 1), (9, 0), (None, 4)):
        sums = await store.sums(LedgerFilter(submitter=uid))
        assert sum(one.entries for one in sums) == entries


async def test_what_is_recorded_twice_is_refused_whole(store):
    await store.record([entry("r1")])
    with pytest.raises(Conflict):
        await store.record([entry("r2"), entry("r1")])
    assert len(await store.open_entries()) == 1


async def test_sums_are_by_hour_provider_and_model_and_of_what_is_asked(store):
    hour = NOW // HOUR * HOUR

    def settled(id_, **others):
        return entry(id_, state="settled", outcome="ok", **others)

    await store.record(
        [
            settled("1", at=hour + HOUR, amount=1),
            settled("2", at=hour, amount=2, model="n"),
            settled("3", at=hour + HOUR - 0.5, amount=4, tags={"t": "x", "u": "y"}),
            settled("4", at=hour, amount=8, provider="o", tags={"t": "x"}),
            settled("5", at=hour, amount=2**62, tags={"t": "xx"}),
        ]
    )
    sums = await store.sums(LedgerFilter())
    n = int(hour // HOUR)
    assert [(s.hour - n, s.provider, s.model, s.entries, s.amount) for s in sums] == [
        (0, "o", "m", 1, 8),
        (0, "p", "m", 2, 4 + 2**62),
        (0, "p", "n", 1, 2),
        (1, "p", "m", 1, 1),
    ]
    assert await spent(store, since=hour + HOUR) == 1
    assert await spent(store, since=hour + 1, before=hour + HOUR) == 4
    assert await spent(store, tags={"t": "x"}) == 12
    assert await spent(store, tags={"t": "x", "u": "y"}) == 4
    assert await spent(store, provider="o") == 8
    assert await spent(store, provider="p", model="n") == 2


# Files and batches.


async def test_a_file_grows_and_is_read_in_pieces(store):
    file = StoredFile(
        id="f1", name="a.jsonl", purpose="batch", created_at=NOW, submitter=4
    )
    await store.create_file(file)
    assert await store.get_file("f1") == file
    assert await store.read_file("f1", size=9) == b""
    await store.append_to_file("f1", b"\x00one\n")
    grown = await store.append_to_file("f1", b"two\n")
    assert grown == attrs.evolve(file, body_bytes=9) == await store.get_file("f1")
    assert await store.read_file("f1", size=100) == b"\x00one\ntwo\n"
    for offset in range(10):
        for size in (1, 3, 9):
            expected = b"\x00one\ntwo\n"[offset : offset + size]
            assert await store.read_file("f1", offset=offset, size=size) == expected
    with pytest.raises(Conflict):
        await store.create_file(file)


async def test_files_are_listed_and_deleted(store):
    for n, uid in enumerate((1, 2, 1)):
        await store.create_file(
            StoredFile(
                id=f"f{n}", name="", purpose="", created_at=NOW + n, submitter=uid
            )
        )
    assert [file.id for file in await store.list_files()] == ["f2", "f1", "f0"]
    assert [file.id for file in await store.list_files(submitter=1)] == ["f2", "f0"]
    await store.append_to_file("f1", b"x")
    await store.delete_file("f1")
    for ask in (store.get_file, store.delete_file):
        with pytest.raises(NotFound):
            await ask("f1")
    with pytest.raises(NotFound):
        await store.read_file("f1", size=1)
    with pytest.raises(NotFound):
        await store.append_to_file("f1", b"y")
    await store.create_file(
        StoredFile(id="f1", name="", purpose="", created_at=NOW + 9)
    )
    assert await store.read_file("f1", size=1) == b"", "nothing of the old one is left"


async def test_a_batch_is_updated_by_who_knows_its_present_version(store):
    batch = Batch(id="b1", created_at=NOW, status="validating", details=b'{"x":1}')
    await store.create_batch(batch)
    assert await store.get_batch("b1") == batch
    with pytest.raises(Conflict):
        await store.create_batch(batch)
    updated = await store.update_batch(attrs.evolve(batch, status="in_progress"))
    assert updated == attrs.evolve(batch, status="in_progress", version=1)
    with pytest.raises(Conflict):
        await store.update_batch(attrs.evolve(batch, status="failed"))
    assert await store.get_batch("b1") == updated
    for ask in (
        store.get_batch,
        lambda b: store.update_batch(attrs.evolve(batch, id=b)),
    ):
        with pytest.raises(NotFound):
            await ask("b9")


async def test_batches_are_listed_page_by_page(store):
    for n in range(5):
        await store.create_batch(
            Batch(id=f"b{n}", created_at=NOW + n, status="x", submitter=n % 2)
        )

    async def listed(**which):
        return [batch.id for batch in await store.list_batches(**which)]

    assert await listed() == ["b4", "b3", "b2", "b1", "b0"]
    assert await listed(limit=2) == ["b4", "b3"]
    assert await listed(limit=2, after="b3") == ["b2", "b1"]
    assert await listed(submitter=0, after="b3") == ["b2", "b0"]
    with pytest.raises(NotFound):
        await listed(after="b9")


# Upkeep.


async def test_flags_are_kept_until_they_are_taken_away(store):
    assert await store.flags() == {}
    await store.set_flag("paused", "by hand")
    await store.set_flag("paused", "again")
    await store.set_flag("x", "")
    assert await store.flags() == {"paused": "again", "x": ""}
    await store.set_flag("paused", None)
    await store.set_flag("paused", None)
    assert await store.flags() == {"x": ""}


KEEP_NOTHING = Retention(
    completed=0.0, discarded=0.0, cancelled=0.0, expired=0.0, deltas=0.0, ledger=0.0
)


async def test_pruning_deletes_what_is_over_for_long_and_nothing_else(store, jobs):
    kept = [
        await jobs.insert(store, hold=True),
        await jobs.insert(store, not_before=NOW + 10**9),
    ]
    done = await jobs.insert(store)
    await run(store, await claim_one(store))
    cancelled = await jobs.insert(store)
    await store.change(cancelled.id, Cancel(), NOW)
    running = await jobs.insert(store)
    claimed = await claim_one(store)
    await begin(store, claimed)
    waiting = await jobs.insert(store)
    retention = Retention(completed=100.0, cancelled=200.0, ledger=10**9)
    assert (await store.prune(retention, NOW + 99)).jobs == 0
    assert (await store.prune(retention, NOW + 100)).jobs == 1
    with pytest.raises(NotFound):
        await store.get(done.id)
    for ask in (store.request, store.result, store.attempts, store.read_deltas):
        with pytest.raises(NotFound):
            await ask(done.id)
    assert (await store.prune(retention, NOW + 200)).jobs == 1
    assert (await store.prune(KEEP_NOTHING, NOW + 10**8)).jobs == 0
    for job in (*kept, running, waiting):
        assert await store.get(job.id)
    assert sum((await store.counts()).values()) == 4


async def test_the_ledger_outlives_its_jobs_but_not_for_ever(store, jobs):
    job = await jobs.insert(store)
    await run(store, await claim_one(store), amount=33)
    await store.record([entry("open")])
    retention = attrs.evolve(KEEP_NOTHING, ledger=1000.0)
    assert (await store.prune(retention, NOW + 999)).jobs == 1
    assert await spent(store) == 33
    pruned = await store.prune(retention, NOW + 1000)
    assert (pruned.entries, pruned.more) == (1, False)
    assert await spent(store) == 0
    assert [one.id for one in await store.open_entries()] == ["open"]
    with pytest.raises(NotFound):
        await store.settle_attempt(job.id + ".1", cost(1), NOW)


async def test_streams_go_before_their_jobs(store, jobs):
    job = await jobs.insert(store)
    claimed = await claim_one(store)
    record = await begin(store, claimed)
    await store.append_deltas(claimed.lease, record.id, [b"x"])
    await run(store, claimed)
    retention = Retention(deltas=10.0)
    assert (await store.prune(retention, NOW + 9)).streams == 0
    assert (await store.prune(retention, NOW + 10)).streams == 1
    deltas = await store.read_deltas(job.id)
    assert (deltas.items, deltas.final) == ((), True)
    assert (await store.prune(retention, NOW + 11)).streams == 0
    assert (await store.get(job.id)).state == "completed"


async def test_ids_of_a_stream_that_was_pruned_are_not_used_again(store, jobs):
    job = await jobs.insert(store)
    claimed = await claim_one(store)
    record = await begin(store, claimed)
    await store.append_deltas(claimed.lease, record.id, [b"x", b"y"])
    await store.change(job.id, Cancel(), NOW)
    await store.prune(Retention(deltas=0.0), NOW + 1)
    await store.change(job.id, Retry(), NOW + 1)
    again = await claim_one(store, NOW + 1)
    record = await begin(store, again)
    assert await store.append_deltas(again.lease, record.id, [b"z"]) == 3


async def test_a_key_is_remembered_for_a_week_at_least(store, jobs):
    job = await jobs.insert(store, idempotency_key="k", fingerprint="f")
    await store.change(job.id, Cancel(), NOW)
    assert (await store.prune(KEEP_NOTHING, NOW + KEY_KEPT - 1)).jobs == 0
    assert (await store.get(job.id)).state == "cancelled"
    assert (await store.prune(KEEP_NOTHING, NOW + KEY_KEPT)).jobs == 1
    (outcome,) = await store.insert(
        [jobs.make(idempotency_key="k", fingerprint="other")]
    )
    assert isinstance(outcome, Inserted)


async def test_a_job_begun_anew_is_not_pruned(store, jobs):
    job = await jobs.insert(store)
    await store.change(job.id, Cancel(), NOW)
    await store.change(job.id, Retry(), NOW + 1)
    assert (await store.prune(KEEP_NOTHING, NOW + 10**7)).jobs == 0
    await store.change(job.id, Cancel(), NOW + 10**7)
    retention = attrs.evolve(KEEP_NOTHING, cancelled=5.0)
    assert (await store.prune(retention, NOW + 10**7 + 4)).jobs == 0
    assert (await store.prune(retention, NOW + 10**7 + 5)).jobs == 1


async def test_money_that_comes_after_the_end_does_not_trouble_pruning(store, jobs):
    job = await jobs.insert(store)
    record = await begin(store, await claim_one(store))
    await store.change(job.id, Cancel(), NOW)
    await store.settle_attempt(record.id, cost(5), NOW + 1)
    pruned = await store.prune(KEEP_NOTHING, NOW + 2)
    assert (pruned.jobs, pruned.more) == (1, False)
    assert (await store.prune(KEEP_NOTHING, NOW + 3)).jobs == 0


async def test_pruning_stops_at_its_limit_and_says_so(store, jobs):
    for _ in range(5):
        job = await jobs.insert(store)
        await store.change(job.id, Cancel(), NOW)
    deleted = list[int]()
    while True:
        pruned = await store.prune(KEEP_NOTHING, NOW, limit=2)
        deleted.append(pruned.jobs)
        if not pruned.more:
            break
    assert deleted == [2, 2, 1]


async def test_files_that_have_expired_are_pruned(store):
    for id_, expires_at in (("never", None), ("soon", NOW + 5)):
        await store.create_file(
            StoredFile(
                id=id_, name="", purpose="", created_at=NOW, expires_at=expires_at
            )
        )
    assert (await store.prune(Retention(), NOW + 4)).files == 0
    assert (await store.prune(Retention(), NOW + 5)).files == 1
    assert [file.id for file in await store.list_files()] == ["never"]


async def test_who_waits_for_a_job_that_is_pruned_is_told(store, jobs):
    job = await jobs.insert(store)
    async with trio.open_nursery() as nursery:

        async def wait():
            with pytest.raises(NotFound):
                while True:
                    await store.wait_final(job.id)

        nursery.start_soon(wait)
        await store.change(job.id, Cancel(), NOW)
        await store.prune(KEEP_NOTHING, NOW)


async def test_a_store_tells_how_full_and_how_well_it_is(store, jobs):
    await jobs.insert(store)
    await jobs.insert(store)
    await run(store, await claim_one(store))
    statistics = await store.statistics()
    assert (statistics.jobs, statistics.unfinished) == (2, 1)
    assert statistics.bytes is None or statistics.bytes > 0
    health = await store.check()
    assert health.ok
    assert health.detail


async def test_a_closed_store_says_so_to_all_also_to_those_who_wait(store, jobs):
    job = await jobs.insert(store)
    seen = await store.wait_for_work(0)

    async def is_refused(ask, *args, **kwargs):
        with pytest.raises(StoreUnavailable) as refusal:
            await ask(*args, **kwargs)
        assert not refusal.value.may_recover

    async with trio.open_nursery() as nursery:
        nursery.start_soon(is_refused, store.wait_final, job.id)
        nursery.start_soon(is_refused, store.wait_for_work, seen)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await store.aclose()
    await store.aclose()
    for ask, *args in (
        (store.get, job.id),
        (store.insert, [jobs.make()]),
        (store.flags,),
        (store.open_entries,),
        (store.list_files,),
        (store.wait_final, job.id),
    ):
        await is_refused(ask, *args)
    assert not (await store.check()).ok


async def test_every_state_has_a_retention():
    assert {field.name for field in attrs.fields(Retention)} >= {
        state.value for state in JobState if state.final
    }
