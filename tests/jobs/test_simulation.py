"""Durable jobs under every single fault: none is lost, each is done once, sums agree."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar, cast

import pytest
import trio

from duckservice.calls.call import Submitter
from duckservice.config import RetryConfig
from duckservice.core.job import Submission
from duckservice.errors import ProviderError, Unavailable
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockScript
from duckservice.running import RunningService
from duckservice.store.base import LedgerFilter, Store, StoreUnavailable
from duckservice.store.memory import MemoryStore
from supervisors import SupervisionError
from supervisors.testing import (
    DEFAULT_KINDS,
    Crash,
    Seeded,
    check_every_fault,
    simulate,
)
from tests.jobs.conftest import job, mock, running
from tests.service.conftest import mock_config

T = TypeVar("T")

JOBS = 3
ME = Submitter(uid=1, gid=1, pid=1)
FULL = StoreUnavailable("no space left on the device", may_recover=True)
FINAL_WITHIN = 300.0


class Billing:
    """A provider that keeps its own bill."""

    def __init__(self, provider: MockProvider) -> None:
        self.asked: list[str] = []
        complete = provider.complete

        async def counted(request):
            self.asked.append(request.messages[0].parts[0].text)
            return await complete(request)

        provider.complete = counted  # type: ignore[method-assign]
        self.provider = provider


class Failing:
    """A store whose n-th call fails, before its work or after its commit."""

    #: These never touch the disk, or say so in another way.
    NEVER = frozenset({"wait_for_work", "wait_final", "wait_for_deltas", "aclose"})

    def __init__(self, store: MemoryStore, n: int, *, after: bool) -> None:
        self._store, self._n, self._after = store, n, after
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)
        if name in self.NEVER:
            return real

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            fails = self.calls == self._n
            if fails and not self._after:
                raise FULL
            result = await real(*args, **kwargs)
            if fails:
                raise FULL
            return result

        return call


async def until_it_can(ask: Callable[[], Awaitable[T]]) -> T:
    while True:
        try:
            return await ask()
        except Unavailable:
            await trio.sleep(0.5)


async def jobs_survive(
    fails_at: int = 0, *, after: bool = False, names: Sequence[str] = "a"
) -> int:
    """Three jobs, one of which fails at first; all must end, whatever breaks."""
    store = MemoryStore()
    failing = Failing(store, fails_at, after=after)
    script = MockScript(latency=1.0, errors={2: ProviderError("once")})
    config = mock_config(*names, max_concurrency=2, retry=RetryConfig(base_delay=0.5))
    bill = Billing(mock("a", script))
    providers = {name: mock(name) for name in names} | {"a": bill.provider}
    try:
        async with running(config, cast(Store, failing), **providers) as (
            service,
            _,
        ):
            await _jobs_survive(service, store, bill)
    except* SupervisionError:
        # The first start of a child was made to fail: nothing was accepted yet.
        assert not (await store.statistics()).jobs
    return failing.calls


async def _jobs_survive(
    service: RunningService, store: MemoryStore, bill: Billing
) -> None:
    wanted: dict[str, Submission] = {}
    for n in range(JOBS):
        submission = job(
            f"job {n}", max_attempts=5, idempotency_key=f"key-{n}", submitter=ME
        )
        # With a key, so that one whose answer was lost can be handed in again.
        done = await until_it_can(lambda its=submission: service.jobs.submit(its))
        wanted[done.job.id] = submission
    with trio.fail_after(FINAL_WITHIN):
        for id_ in wanted:
            ended = await until_it_can(lambda its=id_: service.jobs.wait(its))
            assert ended.job.state == "completed", ended.job
    await service.jobs.board.wait_idle()
    records = 0
    for id_, submission in wanted.items():
        assert await store.request(id_) == submission.request
        its = await store.get(id_)
        attempts = await store.attempts(id_)
        records += len(attempts)
        assert its.attempt <= its.max_attempts
        assert all(record.state != "open" for record in attempts)
    # No request without a record, and the ledger is the sum of the attempts.
    assert len(bill.asked) <= records
    ledger = await store.sums(LedgerFilter())
    assert sum(one.amount for one in ledger) == sum(
        [(await store.get(id_)).cost for id_ in wanted]
    )
    assert sum(one.open for one in ledger) == 0


@pytest.mark.parametrize("names", ["a", "ab"], ids=["retry", "failover"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_no_single_failure_of_the_store_loses_a_job(after: bool, names: str) -> None:
    n = 0
    while True:
        n += 1
        if simulate(partial(jobs_survive, n, after=after, names=names)).value < n:
            break  # the run had no n-th call
    assert n > 20


@pytest.mark.slow
def test_no_single_fault_loses_a_job() -> None:
    survey = check_every_fault(jobs_survive)
    assert survey.runs > 300


@pytest.mark.parametrize("seed", range(10))
def test_no_order_of_steps_loses_a_job(seed: int) -> None:
    first = simulate(jobs_survive, seed=seed)
    again = simulate(jobs_survive, seed=seed)
    assert first.digest == again.digest


@pytest.mark.slow
def test_no_single_fault_loses_a_job_in_another_order() -> None:
    # ``DUCK_LONG=1`` tries the other kinds in this order, too.
    kinds = DEFAULT_KINDS if os.environ.get("DUCK_LONG") else [Crash]
    check_every_fault(jobs_survive, schedule=Seeded(3), kinds=kinds)
