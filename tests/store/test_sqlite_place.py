"""Where the database may be, who may see it, and that one process has it."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest

from duckservice.store.base import StoreUnavailable
from duckservice.store.sqlite import open_sqlite
from duckservice.store.sqlite_migrations import APPLICATION_ID, VERSION

from .conformance import Jobs
from .crash_child import DATABASE

ROOT = os.geteuid() == 0


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / DATABASE


@pytest.fixture
def open_umask():
    before = os.umask(0)
    yield
    os.umask(before)


async def refused(path: Path, why: str) -> StoreUnavailable:
    with pytest.raises(StoreUnavailable, match=why) as caught:
        async with open_sqlite(path):
            pass
    return caught.value


async def test_all_that_is_made_is_for_its_owner_alone(tmp_path, open_umask):
    path = tmp_path / "a" / "b" / DATABASE
    async with open_sqlite(path) as store:
        await Jobs().insert(store)
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700
        files = {file.name for file in path.parent.iterdir()}
        assert files == {DATABASE + end for end in ("", "-wal", "-shm", ".lock")}
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


async def test_a_file_that_others_may_read_is_closed_to_them(path):
    async with open_sqlite(path):
        pass
    path.chmod(0o644)
    async with open_sqlite(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_two_daemons_never_share_a_store(path):
    async with open_sqlite(path) as store:
        error = await refused(path, f"in use by process {os.getpid()}")
        assert not error.may_recover
        await Jobs().insert(store)
    async with open_sqlite(path) as store:
        assert sum((await store.counts()).values()) == 1


@pytest.mark.parametrize("end", ["", "-wal", "-shm", ".lock"])
async def test_no_symbolic_link_is_followed(path, end):
    target = path.with_name("target")
    path.with_name(path.name + end).symlink_to(target)
    await refused(path, "symbolic link")
    assert not target.exists()


async def test_a_file_with_a_second_name_is_refused(path):
    path.touch()
    path.with_name("other").hardlink_to(path)
    await refused(path, "second name")


@pytest.mark.skipif(not ROOT, reason="only root gives files away")
@pytest.mark.parametrize("end", ["", "-wal", ".lock"])
async def test_a_file_of_another_user_is_refused(path, end):
    its = path.with_name(path.name + end)
    its.touch()
    os.chown(its, 12345, 12345)
    await refused(path, "belongs to user 12345")


async def test_a_directory_that_others_may_write_into_is_refused(tmp_path):
    directory = tmp_path / "open"
    directory.mkdir()
    directory.chmod(0o777)
    await refused(directory / DATABASE, "chmod")
    assert list(directory.iterdir()) == []


async def test_a_directory_in_its_place_is_refused(path):
    path.mkdir()
    await refused(path, "no regular file")


async def test_a_file_in_its_directorys_place_is_refused(tmp_path):
    (tmp_path / "file").touch()
    await refused(tmp_path / "file" / DATABASE, "file")


async def test_a_newer_schema_is_refused_and_left_as_it_is(path):
    async with open_sqlite(path):
        pass
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.close()
    error = await refused(path, f"version {VERSION + 1}.*knows {VERSION}")
    assert "newer duckd" in error.message
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone() == (VERSION + 1,)
    db.close()


async def test_another_programs_database_is_refused_and_left_as_it_is(path):
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE theirs (x)")
    db.close()
    content = path.read_bytes()
    await refused(path, "another program's")
    assert path.read_bytes()[100:] == content[100:]


async def test_the_file_says_whose_it_is(path):
    async with open_sqlite(path):
        pass
    assert path.read_bytes()[68:72] == b"duck" == APPLICATION_ID.to_bytes(4, "big")


async def test_a_clean_end_leaves_one_file_and_the_lock(path):
    async with open_sqlite(path) as store:
        await Jobs().insert(store)
    assert {file.name for file in path.parent.iterdir()} == {
        DATABASE,
        DATABASE + ".lock",
    }


async def test_a_commit_is_on_the_disk_and_only_one_connection_writes(path):
    async with open_sqlite(path) as store:
        for pragma, value in (
            ("journal_mode", "wal"),
            ("synchronous", 2),
            ("foreign_keys", 1),
        ):
            found = await store.writing.run(
                lambda session, pragma=pragma: session.db.execute(
                    f"PRAGMA {pragma}"
                ).fetchone()
            )
            assert found == (value,)
        with pytest.raises(StoreUnavailable, match="read-only"):
            await store.reading.run(lambda db: db.execute("DELETE FROM job"))
        checkpoints = await store.reading.run(
            lambda db: db.execute("PRAGMA wal_autocheckpoint").fetchone()
        )
        assert checkpoints == (0,)
