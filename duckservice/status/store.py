"""The store as `/v1/status` shows it: whether it works, how full it is, what it keeps."""

from __future__ import annotations

from typing import Any, TypeAlias

import attrs

from duckservice.jobs.jobs import Jobs
from duckservice.store.base import StoreStatistics, StoreUnavailable
from duckservice.store_slot import StoreSlot

Json: TypeAlias = dict[str, Any]


async def store_status(slot: StoreSlot, jobs: Jobs) -> Json:
    """Return what operators want to know of the store; never raises for its state."""
    try:
        found, failure = await jobs.store.statistics(), slot.failure
    except StoreUnavailable as error:
        found, failure = None, error
    return {
        **_health(failure),
        "full": jobs.room.full,
        **_fullness(found),
        "max_bytes": jobs.room.limits.max_bytes,
        "retention": attrs.asdict(jobs.room.limits.retention),
    }


def no_answer(seconds: float) -> Json:
    """Return what is shown of a store that lets us wait for *seconds*."""
    msg = f"the store did not answer within {seconds:g} s: does its disk hang?"
    return _health(StoreUnavailable(msg, may_recover=True))


def _health(failure: StoreUnavailable | None) -> Json:
    if failure is None:
        return {"ok": True, "detail": None}
    return {
        "ok": False,
        "detail": failure.message,
        "may_recover": failure.may_recover,
    }


def _fullness(found: StoreStatistics | None) -> Json:
    if found is None:
        return {}
    return {
        "path": found.path,
        "sqlite": None if found.path is None else _sqlite_version(),
        "jobs": found.jobs,
        "unfinished": found.unfinished,
        "bytes": found.bytes,
        "used_bytes": found.used,
        "free_bytes": found.free,
    }


def _sqlite_version() -> str:
    import sqlite3  # noqa: PLC0415 - a store in memory needs none of it

    return sqlite3.sqlite_version
