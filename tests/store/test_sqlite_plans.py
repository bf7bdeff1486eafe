"""Every statement finds its rows by an index, however many jobs there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from duckservice.core.job import JobState
from duckservice.store.base import (
    JobFilter,
    LedgerFilter,
)
from duckservice.store.sqlite import open_sqlite

from .conformance import LEASE, NOW
from .crash_child import DATABASE, FLYING, SCENARIOS, prepare

SCAN = re.compile(
    r"SCAN (job|request|result|attempt|delta|ledger|file_part)\b(?! USING)"
)
SORT = "USE TEMP B-TREE FOR ORDER BY"


async def explain(store, statement: str) -> list[str]:
    plan = await store.reading.run(
        lambda db: db.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
    )
    return [step[3] for step in plan]


def explainable(statements: list[str]) -> set[str]:
    """Return those that have a plan, with their values in them."""
    return {one for one in statements if re.match(r"\s*(SELECT|UPDATE|DELETE)", one)}


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
async def test_a_change_reads_no_more_than_it_needs(tmp_path: Path, scenario):
    statements = list[str]()
    async with open_sqlite(tmp_path / DATABASE, fault=statements.append) as store:
        await prepare(store)
        statements.clear()
        await SCENARIOS[scenario](store, lambda _: None)
        await store.rescue_expired(NOW + LEASE)
        for statement in explainable(statements):
            plan = await explain(store, statement)
            assert not any(map(SCAN.match, plan)), (statement, plan)
            assert SORT not in plan, statement


@pytest.mark.parametrize(
    "which",
    [
        JobFilter(),
        JobFilter(states=frozenset({JobState.AVAILABLE})),
        JobFilter(states=frozenset({JobState.AVAILABLE, JobState.COMPLETED})),
        JobFilter(batch="b"),
        JobFilter(batch="b", states=frozenset({JobState.AVAILABLE})),
    ],
    ids=repr,
)
@pytest.mark.parametrize("oldest_first", [False, True])
async def test_a_list_is_read_in_its_order(tmp_path: Path, which, oldest_first):
    statements = list[str]()
    async with open_sqlite(tmp_path / DATABASE) as store:
        await prepare(store)
        await store.reading.run(lambda db: db.set_trace_callback(statements.append))
        page = await store.list_jobs(which, limit=1, oldest_first=oldest_first)
        await store.list_jobs(
            which, limit=1, cursor=page.cursor, oldest_first=oldest_first
        )
        await store.reading.run(lambda db: db.set_trace_callback(None))
        assert explainable(statements)
        for statement in explainable(statements):
            plan = await explain(store, statement)
            assert not any(map(SCAN.match, plan)), (statement, plan)
            assert SORT not in plan, statement


async def test_reading_one_job_reads_no_other(tmp_path: Path):
    statements = list[str]()
    async with open_sqlite(tmp_path / DATABASE) as store:
        await prepare(store)
        await store.reading.run(lambda db: db.set_trace_callback(statements.append))
        for ask in (store.get, store.request, store.result, store.attempts):
            await ask(FLYING)
        await store.read_deltas(FLYING)
        await store.counts(batch="b")
        await store.open_entries()
        await store.sums(LedgerFilter(since=NOW))
        await store.reading.run(lambda db: db.set_trace_callback(None))
        for statement in explainable(statements):
            plan = await explain(store, statement)
            assert not any(map(SCAN.match, plan)), (statement, plan)
