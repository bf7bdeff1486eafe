"""A process that dies at any step of any change leaves all of it, or nothing."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from duckservice.errors import NotFound
from duckservice.store.base import Finish
from duckservice.store.sqlite import open_sqlite

from .conformance import LEASE, NOW
from .crash_child import DATABASE, DIED, GROUP, SCENARIOS, group_jobs, prepare

STEPS_MAX = 200
Dump = dict[str, list[Any]]


class Forker:
    """Runs scenarios in children of a process with one thread."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.store.crash_child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, place: Path, scenario: str, step: int, *, before_commit: bool = False
    ) -> int:
        assert self._process.stdin
        assert self._process.stdout
        request = [str(place), scenario, step, before_commit]
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    forker = Forker()
    yield forker
    forker.close()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("prepared")

    async def main() -> None:
        async with open_sqlite(place / DATABASE) as store:
            await prepare(store)

    trio.run(main)
    return place


def copy(prepared: Path, place: Path) -> Path:
    shutil.copytree(prepared, place)
    return place


def dump(place: Path) -> Dump:
    """Return all that is in the database, opened anew by the store, and sound."""

    async def main() -> None:
        async with open_sqlite(place / DATABASE):
            pass

    trio.run(main)
    db = sqlite3.connect(place / DATABASE)
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert db.execute("PRAGMA foreign_key_check").fetchall() == []
    tables = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
    found = {
        name: sorted(db.execute(f"SELECT * FROM {name}").fetchall(), key=repr)
        for (name,) in tables.fetchall()
    }
    db.close()
    return found


def acks(place: Path) -> list[str]:
    file = place / "acks"
    return file.read_text().split() if file.exists() else []


def goes_on(place: Path) -> None:
    """Check that every job that can be run still can, and ends."""

    async def main() -> None:
        async with open_sqlite(place / DATABASE) as store:
            await store.rescue_at_start(NOW + 100)
            await store.stage(NOW + 100)
            claims = await store.claim(99, NOW + 100, lease_until=NOW + 100 + LEASE)
            for claimed in claims:
                await store.end(claimed.lease, Finish(result=b"{}"), NOW + 101)
            counts = await store.counts()
            assert len(claims) >= 4
            assert counts["available"] == counts["executing"] == 0

    trio.run(main)


@pytest.mark.parametrize("scenario", sorted(SCENARIOS.keys() - {"insert_group"}))
def test_what_was_acknowledged_is_there_and_nothing_is_there_by_half(
    scenario, forker, prepared, tmp_path
):
    before = dump(copy(prepared, tmp_path / "before"))
    whole = copy(prepared, tmp_path / "whole")
    assert forker.run(whole, scenario, 0) == 0
    after, acked = dump(whole), acks(whole)
    assert acked
    assert after != before
    seen = {"before": 0, "after": 0, "acked": 0}
    for step in range(1, STEPS_MAX):
        place = copy(prepared, tmp_path / str(step))
        if forker.run(place, scenario, step) == 0:
            break
        found = dump(place)
        assert found in (before, after), f"half of it was done at step {step}"
        if acks(place):
            assert found == after, f"acknowledged and lost at step {step}"
            seen["acked"] += 1
        seen["before" if found == before else "after"] += 1
        goes_on(place)
    assert 4 < step < STEPS_MAX
    assert seen["before"]
    assert seen["after"], "it died after the commit, too"


def test_of_a_group_each_is_whole_or_absent_and_the_acknowledged_are_there(
    forker, prepared, tmp_path
):
    async def check(place: Path) -> set[str]:
        there = set[str]()
        async with open_sqlite(place / DATABASE) as store:
            for new in group_jobs():
                try:
                    assert await store.get(new.job.id) == new.job
                except NotFound:
                    continue
                assert await store.request(new.job.id) == new.request
                there.add(new.job.id)
        return there

    for step in range(1, STEPS_MAX):
        place = copy(prepared, tmp_path / str(step))
        if forker.run(place, "insert_group", step) == 0:
            break
        there = trio.run(check, place)
        assert there >= set(acks(place)), f"acknowledged and lost at step {step}"
        dump(place)
    assert 4 < step < STEPS_MAX
    assert len(acks(place)) == GROUP


def test_a_store_that_acknowledges_before_it_commits_is_found_out(
    forker, prepared, tmp_path
):
    place = copy(prepared, tmp_path / "liar")
    assert forker.run(place, "insert", 0, before_commit=True) == DIED
    assert acks(place)
    assert dump(place) == dump(copy(prepared, tmp_path / "before"))
