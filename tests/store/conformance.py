"""What the suites over all engines say often: jobs, and ways through their life."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count
from typing import Any

import attrs

from duckservice.calls.call import Submitter
from duckservice.completion import Usage
from duckservice.core.job import Job, JobError, Settlement, Submission, submit
from duckservice.store.base import (
    AttemptRecord,
    Claimed,
    Fail,
    Finish,
    Inserted,
    NewJob,
    Outcome,
    Store,
)

NOW = 1_800_000_000.0
LEASE = 60.0


@attrs.define
class Jobs:
    """Makes jobs with ids in the order of their making."""

    _numbers: count[int] = attrs.field(factory=lambda: count(1))

    def make(
        self, now: float = NOW, *, uid: int | None = None, **wishes: Any
    ) -> NewJob:
        number = next(self._numbers)
        submission = Submission(
            **{
                "kind": "chat",
                "model": "m",
                "request": b'{"n": %d}' % number,
                "submitter": None if uid is None else Submitter(uid=uid, gid=7, pid=8),
                **wishes,
            }
        )
        job = submit(submission, id_=f"job_{number:06}", now=now)
        return NewJob(job=job, request=submission.request)

    async def insert(self, store: Store, now: float = NOW, **wishes: Any) -> Job:
        (outcome,) = await store.insert([self.make(now, **wishes)])
        assert isinstance(outcome, Inserted)
        return outcome.job


async def claim_one(store: Store, now: float = NOW) -> Claimed:
    (claimed,) = await store.claim(1, now, lease_until=now + LEASE)
    return claimed


async def claim_order(store: Store, number: int, now: float = NOW) -> list[str]:
    """Return the ids of so many jobs as they are claimed one by one."""
    order = list[str]()
    for _ in range(number):
        order += ids(await store.claim(1, now, lease_until=now + LEASE))
    return order


async def begin(
    store: Store, claimed: Claimed, now: float = NOW, *, reserved: int = 100
) -> AttemptRecord:
    return await store.begin_attempt(
        claimed.lease, provider="p", model="m-1", reserved=reserved, now=now
    )


def cost(amount: int | None, **others: Any) -> Settlement:
    usage = Usage(input_tokens=3, output_tokens=5)
    return Settlement(**{"outcome": "ok", "usage": usage, "cost": amount, **others})


def failure(*, retry_at: float | None = None, now: float = NOW) -> Fail:
    error = JobError(at=now, attempt=1, code="provider_error", message="it broke")
    return Fail(error=error, retry_at=retry_at)


async def run(
    store: Store,
    claimed: Claimed,
    outcome: Outcome | None = None,
    *,
    amount: int = 70,
    now: float = NOW,
) -> Job:
    """Take a claimed job through one attempt to *outcome*, completed by default."""
    record = await begin(store, claimed, now)
    return await store.end(
        claimed.lease,
        outcome or Finish(result=b"{}"),
        now,
        settled=(record.id, cost(amount)),
    )


def ids(jobs: Iterable[Job | Claimed]) -> list[str]:
    return [one.job.id if isinstance(one, Claimed) else one.id for one in jobs]
