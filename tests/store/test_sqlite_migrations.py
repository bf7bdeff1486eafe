"""A database of any version that was ever released opens, and all is still there."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from duckservice.core.job import UNFINISHED
from duckservice.store.base import Finish
from duckservice.store.sqlite import open_sqlite
from duckservice.store.sqlite_migrations import VERSION

from .conformance import LEASE, NOW
from .make_fixture import FIXTURES

OLD = sorted(FIXTURES.glob("*.sqlite3"))


@pytest.fixture(params=OLD, ids=lambda path: path.stem)
def old(request, tmp_path) -> Path:
    return Path(shutil.copy(request.param, tmp_path))


def schema(path: Path) -> set[str]:
    db = sqlite3.connect(path)
    found = {sql for (sql,) in db.execute("SELECT sql FROM sqlite_schema") if sql}
    db.close()
    return found


def test_there_is_a_file_of_every_version():
    assert [path.stem for path in OLD] == [
        f"version-{version:04}" for version in range(1, VERSION + 1)
    ]


async def test_an_old_database_has_the_present_schema_once_it_was_opened(old, tmp_path):
    async with open_sqlite(old), open_sqlite(tmp_path / "new"):
        pass
    assert schema(old) == schema(tmp_path / "new")


async def test_jobs_of_an_old_database_are_as_they_were(old):
    async with open_sqlite(old) as store:
        counts = await store.counts()
        assert {state: n for state, n in counts.items() if n} == {
            "executing": 2,
            "completed": 1,
            "available": 3,
            "scheduled": 1,
        }
        over = await store.get("job_000003")
        assert (over.cost, over.attempt, over.finished_at) == (70, 1, NOW)
        assert await store.request(over.id) == b'{"n": 3}'
        assert await store.result(over.id) == b'{"done":1}'
        (record,) = await store.attempts(over.id)
        assert record.settlement is not None
        assert record.settlement.usage.output_tokens == 5
        deltas = await store.read_deltas(over.id)
        assert [delta.data for delta in deltas.items] == [b"a", b"b"]
        assert deltas.final
        tagged = await store.get("job_000005")
        assert (tagged.batch, tagged.tags) == ("b", {"t": "x"})


async def test_money_files_batches_and_flags_of_an_old_database_are_there(old):
    async with open_sqlite(old) as store:
        assert await store.flags() == {"paused": "yes"}
        opened = [entry.id for entry in await store.open_entries()]
        assert sorted(opened) == ["entry", "job_000002.1"]
        assert await store.read_file("file", size=99) == b"line 1\nline 2\n"
        batch = await store.get_batch("batch")
        assert (batch.version, batch.status) == (1, "in_progress")


async def test_who_asked_is_known_since_version_2_and_before_that_of_jobs(old):
    db = sqlite3.connect(old)
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version == 1:
        with db:
            db.execute("UPDATE job SET owner = 9 WHERE id = 'job_000002'")
    db.close()
    async with open_sqlite(old) as store:
        opened = {entry.id: entry.submitter for entry in await store.open_entries()}
    known = {"entry": None, "job_000002.1": 9}
    assert opened == (known if version == 1 else {"entry": 7, "job_000002.1": None})


async def test_the_jobs_of_an_old_database_run_to_their_end(old):
    async with open_sqlite(old) as store:
        await store.rescue_at_start(NOW + 10)
        assert (await store.stage(NOW + 10)).expired == ("job_000006",)
        for claimed in await store.claim(9, NOW + 10, lease_until=NOW + LEASE):
            await store.end(claimed.lease, Finish(result=b"{}"), NOW + 11)
        counts = await store.counts()
        assert not any(counts[state] for state in UNFINISHED)
