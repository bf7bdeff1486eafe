"""What the SQLite engine does when the disk, the file or a value is bad."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from duckservice.errors import InvalidRequest
from duckservice.store import sqlite_connect, sqlite_writer
from duckservice.store.base import Existing, Inserted, StoreUnavailable
from duckservice.store.sqlite import open_sqlite

from .conformance import Jobs, begin, claim_one
from .crash_child import DATABASE

ROOT = os.geteuid() == 0
DISK_BYTES = 4 * 2**20


@pytest.fixture
def jobs():
    return Jobs()


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / DATABASE


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir(mode=0o700)
    options = f"size={DISK_BYTES},mode=0700"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk]
    if not ROOT or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system can be mounted by root only")
    yield disk
    subprocess.run(["umount", disk], check=True)


def remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", disk], check=True)


def error_of_disk(code: int = sqlite3.SQLITE_IOERR) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = code
    return error


async def insert_until_full(store, jobs, *, bytes_each: int = 100_000):
    """Return what was acknowledged, and the error of the first that was not."""
    acked = []
    while len(acked) * bytes_each < 10 * DISK_BYTES:
        new = jobs.make(request=os.urandom(bytes_each))
        try:
            await store.insert([new])
        except StoreUnavailable as error:
            return acked, error
        acked.append(new)
    raise AssertionError("the disk is never full")


async def all_are_there(store, acked) -> None:
    for new in acked:
        assert await store.request(new.job.id) == new.request
        assert await store.get(new.job.id) == new.job


# The disk.


async def test_a_full_disk_refuses_clearly_loses_nothing_and_is_left_when_it_has_room(
    small_disk, jobs
):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(DISK_BYTES // 2))
    async with open_sqlite(small_disk / DATABASE) as store:
        acked, error = await insert_until_full(store, jobs)
        assert "full" in error.message
        assert (error.code, error.may_recover) == ("unavailable", True)
        health = await store.check()
        if not health.ok:
            assert health.may_recover
        with pytest.raises(StoreUnavailable):
            await store.insert([jobs.make(request=os.urandom(1_000_000))])
        await all_are_there(store, acked)
        ballast.unlink()
        late = jobs.make(request=os.urandom(100_000))
        assert await store.insert([late]) == (Inserted(late.job),)
        assert (await store.check()).ok
        await all_are_there(store, [*acked, late])
    async with open_sqlite(small_disk / DATABASE) as store:
        await all_are_there(store, [*acked, late])


async def test_a_disk_that_fails_to_write_refuses_until_it_can_again(path, jobs):
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with open_sqlite(path) as store:
        first = jobs.make()
        await store.insert([first])
        try:
            # What is written beyond is refused with EFBIG: not full, but failing.
            resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, hard))
            acked, error = await insert_until_full(store, jobs)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        assert "I/O" in error.message
        late = jobs.make()
        await store.insert([late])
        await all_are_there(store, [first, *acked, late])
    async with open_sqlite(path) as store:
        await all_are_there(store, [first, *acked, late])


@pytest.mark.skipif(not ROOT, reason="a file system can be mounted by root only")
async def test_a_read_only_disk_is_named_at_the_start(small_disk):
    async with open_sqlite(small_disk / DATABASE):
        pass
    remount(small_disk, "ro")
    with pytest.raises(StoreUnavailable, match="Read-only") as caught:
        async with open_sqlite(small_disk / DATABASE):
            pass
    assert caught.value.may_recover
    remount(small_disk, "rw")


async def test_a_database_that_may_not_be_written_says_so(path, jobs):
    async with open_sqlite(path) as store:
        await store.writing.run(
            lambda session: session.db.execute("PRAGMA query_only = ON")
        )
        with pytest.raises(StoreUnavailable, match="read-only"):
            await store.insert([jobs.make()])
        assert (await store.check()).ok, "a new connection was tried out, and writes"


@pytest.mark.parametrize("step", ["begin", "commit", "committed"])
async def test_nothing_is_acknowledged_when_a_step_fails_and_a_key_tells_what_was_done(
    path, jobs, step
):
    failing = set[str]()

    def fault(name: str) -> None:
        if name in failing:
            raise error_of_disk()

    async with open_sqlite(path, fault=fault) as store:
        new = jobs.make(idempotency_key="k", fingerprint="f")
        failing |= {step, "reopen"}
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="disk") as caught:
                await store.insert([new])
            assert caught.value.may_recover
            assert not (await store.check()).ok
        failing.clear()
        (outcome,) = await store.insert([new])
        expected = Existing if step == "committed" else Inserted
        assert outcome == expected(new.job)
        assert sum((await store.counts()).values()) == 1
        assert await claim_one(store)


async def test_after_a_failure_nothing_is_accepted_until_a_write_was_read_back(
    path, jobs, monkeypatch
):
    failing = {"commit"}

    def fault(name: str) -> None:
        if failing and name == "commit" and opened:
            failing.clear()
            raise error_of_disk()

    opened = False
    async with open_sqlite(path.with_name("other")):
        pass
    async with open_sqlite(path, fault=fault) as store:
        opened = True
        with pytest.raises(StoreUnavailable):
            await store.insert([jobs.make()])
        monkeypatch.setattr(
            sqlite_connect,
            "connect_reader",
            lambda _path: sqlite3.connect(path.with_name("other")),
        )
        with pytest.raises(StoreUnavailable, match="not what is read"):
            await store.insert([jobs.make()])


async def test_after_a_failure_the_log_is_worked_in_before_anything_is_accepted(
    path, jobs
):
    """What a failed fsync has dropped is then written anew, into the database."""

    def fault(name: str) -> None:
        if name == "commit" and fails:
            raise error_of_disk()

    fails = False
    async with open_sqlite(path, fault=fault) as store:
        new = jobs.make(request=b"find me in the file")
        await store.insert([new])
        # While a reader is there, closing the writer's connection works nothing in.
        assert await store.request(new.job.id) == new.request
        assert new.request not in await trio.Path(path).read_bytes()
        fails = True
        with pytest.raises(StoreUnavailable):
            await store.insert([jobs.make()])
        fails = False
        assert new.request not in await trio.Path(path).read_bytes()
        await store.insert([jobs.make()])
        assert new.request in await trio.Path(path).read_bytes()


async def test_every_statement_may_fail_and_the_next_try_succeeds(
    path, jobs, monkeypatch
):
    statements = 0
    fails_at = 0

    class Failing(sqlite3.Connection):
        def execute(self, *args):
            nonlocal statements
            statements += 1
            if statements == fails_at:
                raise error_of_disk(sqlite3.SQLITE_FULL)
            return super().execute(*args)

    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3,
        "connect",
        lambda *args, **kwargs: connect(*args, factory=Failing, **kwargs),
    )
    failures = 0
    async with open_sqlite(path) as store:
        await store.check()
        for at in range(1, 100):
            new = jobs.make(
                idempotency_key=str(at), fingerprint="f", tags={"t": str(at)}
            )
            statements, fails_at = 0, at
            try:
                (outcome,) = await store.insert([new])
            except StoreUnavailable:
                failures += 1
                (outcome,) = await store.insert([new])
            needed, fails_at = statements, 0
            assert outcome in (Inserted(new.job), Existing(new.job))
            assert (await store.counts())["available"] == at
            if needed < at:
                break
        assert needed < at < 100
        assert failures >= 5
        claimed = await store.claim(999, 2e9, lease_until=3e9)
        assert len(claimed) == at


# The file.


async def make_damaged(path: Path, jobs: Jobs, *, clean: bool) -> bytes:
    """Make a database with a damaged page; return its bytes."""
    async with open_sqlite(path) as store:
        await store.insert([jobs.make(request=b"x" * 500) for _ in range(200)])
    async with open_sqlite(path) as store:
        await store.insert([jobs.make()])
        if not clean:
            # The log as it is when the process is killed.
            shutil.copy(f"{path}-wal", f"{path}.log")
    if not clean:
        shutil.move(f"{path}.log", f"{path}-wal")
    return damage(path)


def damage(path: Path) -> bytes:
    with path.open("r+b") as file:
        for page in range(2, path.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(os.urandom(4096))
    return path.read_bytes()


async def test_a_damaged_file_is_refused_after_a_crash_and_left_as_it_is(path, jobs):
    content = await make_damaged(path, jobs, clean=False)
    with pytest.raises(StoreUnavailable, match="damaged") as caught:
        async with open_sqlite(path):
            pass
    assert not caught.value.may_recover
    assert "backup" in caught.value.message
    assert path.read_bytes() == content


async def test_damage_that_is_met_later_stops_all_changes_for_good(path, jobs):
    def fault(name: str) -> None:
        if name == "commit" and met:
            raise error_of_disk(sqlite3.SQLITE_CORRUPT)

    met = False
    async with open_sqlite(path, fault=fault) as store:
        await store.insert([jobs.make()])
        met = True
        with pytest.raises(StoreUnavailable, match="damaged"):
            await store.insert([jobs.make()])
        met = False
        with pytest.raises(StoreUnavailable, match="damaged"):
            await store.insert([jobs.make()])
        health = await store.check()
        assert (health.ok, health.may_recover) == (False, False)


async def test_a_damaged_page_that_is_read_is_reported(path, jobs):
    await make_damaged(path, jobs, clean=True)
    with pytest.raises(StoreUnavailable, match="damaged"):
        async with open_sqlite(path) as store:
            await store.request("job_000001")


@pytest.mark.parametrize(
    "content", [b"no database at all " * 300, b"SQLite format 3\0"]
)
async def test_what_is_no_database_is_refused_and_left_as_it_is(path, content):
    path.write_bytes(content)
    with pytest.raises(StoreUnavailable, match="no database"):
        async with open_sqlite(path):
            pass
    assert path.read_bytes() == content


@pytest.mark.parametrize("end", ["", ".lock"])
async def test_a_database_that_goes_away_takes_no_jobs_and_is_not_made_anew(
    path, jobs, end
):
    its, elsewhere = path.with_name(path.name + end), path.with_name("elsewhere")
    async with open_sqlite(path) as store:
        await store.insert([jobs.make()])
        its.rename(elsewhere)
        with pytest.raises(StoreUnavailable, match="moved or deleted"):
            await store.insert([jobs.make()])
        assert not its.exists()
        elsewhere.rename(its)
        await store.insert([jobs.make()])
        assert sum((await store.counts()).values()) == 2


# Values.

POISON = {
    "half a surrogate pair in a tag": {"tags": {"t": "\ud800"}},
    "half a surrogate pair in a key": {"idempotency_key": "\udfff", "fingerprint": "f"},
    "half a surrogate pair in a model": {"model": "\ud800"},
    "a uid that is too large": {"uid": 2**63},
}


@pytest.mark.parametrize("wish", POISON)
async def test_a_value_that_cannot_be_stored_is_refused_alone(path, jobs, wish):
    commits = list[str]()

    async def submit(new, outcomes):
        try:
            outcomes.append((await store.insert([new]))[0])
        except InvalidRequest as error:
            outcomes.append(error)

    async with open_sqlite(path, fault=commits.append) as store:
        fine = [jobs.make(tags={"t": str(n)}) for n in range(6)]
        poison = jobs.make(**POISON[wish])
        outcomes: list[object] = []
        async with trio.open_nursery() as nursery:
            for new in (*fine[:3], poison, *fine[3:]):
                nursery.start_soon(submit, new, outcomes)
        errors = [one for one in outcomes if isinstance(one, InvalidRequest)]
        assert len(errors) == 1
        assert "cannot be stored" in errors[0].message
        for new in fine:
            assert await store.get(new.job.id) == new.job
        counts = await store.counts()
        assert counts["available"] == sum(counts.values()) == 6
        assert len(await store.claim(9, 2e9, lease_until=3e9)) == 6


async def test_a_bulk_with_one_that_cannot_be_stored_is_refused_whole(path, jobs):
    async with open_sqlite(path) as store:
        with pytest.raises(InvalidRequest):
            await store.insert([jobs.make(tags={"a": "b"}), jobs.make(model="\ud800")])
        assert sum((await store.counts()).values()) == 0
        assert await store.lanes() == ()
        await store.insert([jobs.make(tags={"a": "b"})])
        assert await claim_one(store)


async def test_money_that_cannot_be_stored_leaves_job_attempt_and_ledger_in_step(
    path, jobs
):
    async with open_sqlite(path) as store:
        await jobs.insert(store)
        claimed = await claim_one(store)
        with pytest.raises(InvalidRequest, match="too large"):
            await begin(store, claimed, reserved=2**63)
        assert (await store.get(claimed.job.id)).attempt == 0
        assert await store.open_entries() == ()
        assert await store.attempts(claimed.job.id) == ()
        assert (await begin(store, claimed)).number == 1


async def test_a_bug_in_one_operation_reaches_its_caller_and_nobody_else(path, jobs):
    def bug(session):
        session.db.execute("INSERT INTO flag VALUES ('half', 'done')")
        return 1 / 0

    async def meet_it():
        with pytest.raises(ZeroDivisionError):
            await store.writing.run(bug)

    async with open_sqlite(path) as store:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.insert, [jobs.make()])
            nursery.start_soon(meet_it)
            nursery.start_soon(store.insert, [jobs.make()])
        assert (await store.counts())["available"] == 2
        assert await store.flags() == {}


def test_the_thread_of_the_writer_alone_holds_a_connection_that_writes():
    source = Path(sqlite_writer.__file__).parent
    users = {p.name for p in source.glob("*.py") if "connect_writer(" in p.read_text()}
    assert users == {"sqlite_connect.py", "sqlite_writer.py"}
