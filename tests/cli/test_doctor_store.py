"""What `duck doctor` says of the store, the disk and the daemon that has it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3

import pytest

from duckservice.cli.doctor import disk as doctor_disk
from duckservice.cli.text import size
from duckservice.store.sqlite_migrations import APPLICATION_ID, VERSION
from tests.cli.fake_daemon import STATUS

STORE = {
    "ok": True,
    "detail": None,
    "full": False,
    "sqlite": "3.51.3",
    "jobs": 3,
    "unfinished": 1,
    "bytes": 8 << 20,
    "used_bytes": 5 << 20,
    "free_bytes": 1 << 40,
    "max_bytes": 64 << 30,
    "retention": {"completed": 604800.0, "streams": 86400.0},
}


@pytest.fixture
def doctor(duck, daemon):
    """Return what the doctor finds, by subject, where the store's status is *store*."""
    duck.socket.chmod(0o600)
    path = duck.directory / ".local" / "state" / "duckd" / "jobs.sqlite3"

    def findings(status=0, **store):
        daemon.answers["GET /v1/status"] = {
            **STATUS,
            "jobs": {"available": 1, "completed": 2, "expired": 0},
            "store": {"path": str(path), **STORE, **store},
        }
        ended = duck("doctor", "--json")
        assert ended.status == status
        found = json.loads(ended.out)
        assert len({f["subject"] for f in found}) == len(found)
        return {f["subject"]: f for f in found}

    return findings


@pytest.fixture
def state(duck):
    path = duck.directory / ".local" / "state" / "duckd"
    path.mkdir(parents=True)
    path.chmod(0o700)
    return path


def test_a_store_that_is_well_is_told_with_its_size_jobs_and_retention(doctor):
    found = doctor()
    assert found["store"]["verdict"] == "ok"
    assert "5.0 MiB used of 64.0 GiB" in found["store"]["detail"]
    assert found["jobs"]["detail"] == "1 available, 2 completed"
    assert found["retention"]["detail"] == "completed 7d, streams 1d"


def test_a_store_that_fails_is_a_failure_in_its_own_words(doctor):
    found = doctor(1, ok=False, detail="the disk is full: make room", may_recover=True)
    assert found["store"]["verdict"] == "failed"
    assert "the disk is full: make room" in found["store"]["detail"]
    assert "tried again" in found["store"]["detail"]
    found = doctor(1, ok=False, detail="it is damaged", may_recover=False)
    assert "not pass by itself" in found["store"]["detail"]


def test_a_store_that_is_full_says_which_limit_it_is(doctor):
    found = doctor(1, full=True)
    assert "store.max_bytes" in found["store"]["advice"]


def test_a_store_that_is_full_is_not_said_to_work(doctor):
    detail = doctor(1, full=True)["store"]["detail"]
    assert detail == "it is full: 5.0 MiB used of 64.0 GiB; no jobs are taken"


def _database(state, **pragmas):
    file = state / "jobs.sqlite3"
    db = sqlite3.connect(file)
    for name, value in pragmas.items():
        db.execute(f"PRAGMA {name} = {value}")
    db.execute("CREATE TABLE t (x)")
    db.commit()
    db.close()
    file.chmod(0o600)


@pytest.mark.parametrize(
    ("version", "whose", "told"),
    [
        (99, APPLICATION_ID, f"99, and this duckd knows {VERSION} at most"),
        (1, 7, "another program's database"),
        (VERSION, APPLICATION_ID, None),
        (0, 0, None),
    ],
)
def test_a_store_that_this_duckd_would_refuse_is_a_failure(
    duck, state, version, whose, told
):
    _database(state, user_version=version, application_id=whose)
    found = {f["subject"]: f for f in json.loads(duck("doctor", "--json").out)}
    finding = found["store file"]
    if told is None:
        assert finding["verdict"] == "ok"
    else:
        assert finding["verdict"] == "failed"
        assert told in finding["detail"]
        assert "store.url" in finding["advice"]


def test_a_store_in_memory_is_told_so(doctor):
    found = doctor(used_bytes=None, sqlite=None, path=None)
    assert "in memory" in found["store"]["detail"]


@pytest.mark.parametrize(
    ("version", "verdict"),
    [
        ("3.37.0", "warning"),
        ("3.51.2", "warning"),
        ("3.51.3", "ok"),
        ("3.52.0", "ok"),
        ("4.0.0", "ok"),
    ],
)
def test_an_sqlite_with_the_fault_is_warned_about_for_other_programs(
    doctor, version, verdict
):
    finding = doctor(sqlite=version)["sqlite"]
    assert finding["verdict"] == verdict
    assert version in finding["detail"]
    assert ("no other program" in finding["advice"]) == (verdict == "warning")
    assert "daemon's" in finding["detail"], "the one that has the store counts"


def test_without_a_daemon_the_sqlite_of_this_python_is_judged(duck):
    found = {f["subject"]: f for f in json.loads(duck("doctor", "--json").out)}
    assert sqlite3.sqlite_version in found["sqlite"]["detail"]


@pytest.mark.parametrize(
    ("mode", "verdict"), [(0o700, "ok"), (0o755, "warning"), (0o770, "failed")]
)
def test_the_state_directory_is_for_its_owner(doctor, state, mode, verdict):
    state.chmod(mode)
    found = doctor(1 if verdict == "failed" else 0)["state"]
    assert (found["verdict"], str(state) in found["detail"]) == (verdict, True)


def test_the_store_is_looked_at_from_outside_only(doctor, state):
    file = state / "jobs.sqlite3"
    file.write_bytes(b"no database at all")
    file.chmod(0o600)
    before = file.stat()
    found = doctor()["store file"]
    assert (found["verdict"], "18 B" in found["detail"]) == ("ok", True)
    after = file.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert sorted(os.listdir(state)) == ["jobs.sqlite3"]
    file.chmod(0o644)
    assert doctor(1)["store file"]["verdict"] == "failed"


def test_the_state_directory_of_the_config_is_the_one_that_is_looked_at(duck):
    other = duck.directory / "elsewhere"
    config = duck.directory / ".config" / "duckd" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(f'[store]\nurl = "sqlite://{other}/x.db"\n[providers.mock]\n')
    found = {f["subject"]: f for f in json.loads(duck("doctor", "--json").out)}
    assert str(other) in found["state"]["detail"]


@pytest.mark.parametrize(("free", "verdict"), [(1 << 20, "warning"), (1 << 40, "ok")])
def test_a_disk_with_little_room_is_warned_about(
    doctor, state, monkeypatch, free, verdict
):
    usage = shutil.disk_usage(state)._replace(free=free)
    monkeypatch.setattr(doctor_disk.shutil, "disk_usage", lambda _: usage)
    found = doctor()["disk"]
    assert found["verdict"] == verdict
    assert size(free) in found["detail"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1,023 B"), (1536, "1.5 KiB"), (3 << 39, "1.5 TiB")],
)
def test_a_size_is_told_in_the_largest_unit_that_it_fills(count, text):
    assert size(count) == text


@pytest.mark.parametrize(
    ("store", "text"),
    [
        ({}, "5.0 MiB, 3 jobs"),
        ({"used_bytes": None}, "in memory, 3 jobs"),
        ({"full": True}, "FULL: 5.0 MiB"),
        ({"ok": False, "detail": "the disk is full"}, "FAILS: the disk is full"),
    ],
)
def test_the_status_shows_the_store_at_a_glance(duck, daemon, store, text):
    daemon.answers["GET /v1/status"] = {**STATUS, "store": {**STORE, **store}}
    assert text in duck("status").out
