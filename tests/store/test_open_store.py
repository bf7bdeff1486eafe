"""Which engine a URL opens, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from duckservice.store import DATABASE, UnknownStore, open_store, sqlite_path

from .conformance import NOW, Jobs

STATE = Path("/state")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("memory", None),
        ("sqlite", STATE / DATABASE),
        ("sqlite:///var/jobs.db", Path("/var/jobs.db")),
        ("sqlite:////var/jobs.db", Path("/var/jobs.db")),
    ],
)
def test_a_url_names_a_file_or_the_memory(url, path):
    assert sqlite_path(url, STATE) == path


@pytest.mark.parametrize(
    "url",
    ["", "sqlite:", "sqlite://", "sqlite:///", "sqlite:jobs.db", "mysql://x", "Memory"],
)
def test_another_url_is_refused_and_told_what_there_is(url):
    with pytest.raises(UnknownStore, match="sqlite, sqlite:///path or memory"):
        sqlite_path(url, STATE)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
async def test_postgresql_is_refused_without_showing_its_password(scheme):
    with pytest.raises(UnknownStore, match="this version has no PostgreSQL") as refusal:
        async with open_store(f"{scheme}://me:hunter2@db/jobs", state_dir=STATE):
            pass
    assert "hunter2" not in str(refusal.value)


async def test_what_the_url_names_is_opened(tmp_path):
    jobs = Jobs()
    for url in ("memory", "sqlite", f"sqlite://{tmp_path}/other.db"):
        async with open_store(url, state_dir=tmp_path) as store:
            job = await jobs.insert(store, NOW)
            assert await store.get(job.id) == job
    names = {path.name for path in tmp_path.iterdir()}
    assert {DATABASE, "other.db"} <= names
