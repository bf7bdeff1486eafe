"""A copy of the database is whole, or it is not there."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing

import pytest

from duckservice.store.errors import StoreUnavailable
from duckservice.store.sqlite import open_sqlite
from duckservice.store.sqlite_backup import back_up
from duckservice.store.sqlite_connect import connect_reader
from duckservice.store.sqlite_place import take


@pytest.fixture
def folder(tmp_path):
    tmp_path.chmod(0o700)
    return tmp_path


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_what_is_in_the_log_only_is_in_the_copy(folder):
    source, target = folder / "jobs.sqlite3", folder / "copy"
    async with open_sqlite(source) as store:
        await store.set_flag("paused", "1")
        before = names(folder)
        size = source.stat().st_size
        made = back_up(source, target)
        assert source.stat().st_size == size, "nothing was worked in"
        assert names(folder) == before | {"copy"}
        assert "paused" in await store.flags(), "the store goes on"
    assert (made.path, made.jobs) == (target, 0)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with closing(sqlite3.connect(target)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    async with open_sqlite(target) as copy:
        assert "paused" in await copy.flags()


async def test_a_reader_of_the_copy_keeps_no_writer_from_writing(folder):
    source = folder / "jobs.sqlite3"
    async with open_sqlite(source) as store:
        with closing(connect_reader(source)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM job").fetchone()
            await store.set_flag("paused", "1")
            reader.execute("ROLLBACK")


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100])
def test_what_is_no_store_is_refused_and_no_file_is_left(folder, content):
    source = folder / "jobs.sqlite3"
    source.write_bytes(content)
    with pytest.raises(StoreUnavailable):
        back_up(source, folder / "copy")
    assert names(folder) == {"jobs.sqlite3"}


async def test_a_damaged_store_makes_no_backup(folder):
    source = folder / "jobs.sqlite3"
    async with open_sqlite(source):
        pass
    data = bytearray(source.read_bytes())
    data[8192:12288] = os.urandom(4096)
    source.write_bytes(data)
    with pytest.raises(StoreUnavailable):
        back_up(source, folder / "copy")
    assert "copy" not in names(folder)
    assert "copy.part" not in names(folder)


def test_a_link_in_place_of_the_copy_is_not_followed(folder):
    source = folder / "jobs.sqlite3"
    take(source).release()
    (folder / "copy").symlink_to(folder / "elsewhere")
    with pytest.raises(FileExistsError):
        back_up(source, folder / "copy")
    assert not (folder / "elsewhere").exists()
