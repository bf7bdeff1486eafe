"""What the judge has found, each in a few lines: interrupted jobs, and the last to fail."""

from __future__ import annotations

import pytest
import trio

from duckservice.config import BreakerConfig
from duckservice.errors import ProviderError, Unavailable
from duckservice.providers.mock_script import MockScript
from tests.jobs.conftest import job, mock, running
from tests.service.conftest import mock_config

CLIENT_CRASHED = Unavailable("the client of a was restarted", provider="a")
BUG = ZeroDivisionError("a bug")


def breaking(*errors: Exception):
    """Return a provider whose first calls end so, in the middle of the work on them."""
    provider, left = mock("a"), list(errors)
    complete = provider.complete

    async def ask(request):
        await trio.sleep(1.0)
        if left:
            raise left.pop(0)
        return await complete(request)

    provider.complete = ask  # type: ignore[method-assign]
    return provider


@pytest.mark.parametrize("error", [CLIENT_CRASHED, BUG], ids=["client", "task"])
async def test_a_crash_around_a_request_has_it_sent_twice_only_if_that_is_wished(
    autojump_clock, error
) -> None:
    for wish, state, requests in (("fail", "discarded", 1), ("retry", "completed", 2)):
        async with running(mock_config("a"), a=breaking(error)) as (service, _):
            id_ = (await service.jobs.submit(job(on_interrupt=wish))).job.id
            done = (await service.jobs.wait(id_, 100)).job
            assert done.state == state
            attempts = await service.jobs.attempts(id_)
            assert len(attempts) == requests
            assert all(each.state == "settled" for each in attempts)
            # Of a bug it is not known that anything was sent: that costs no estimate.
            assert done.maybe_billed == (wish == "fail" or error is CLIENT_CRASHED)


async def test_what_the_provider_itself_refuses_is_no_interruption(
    autojump_clock,
) -> None:
    refused = ProviderError("not now", provider="a", retryable=True)
    async with running(mock_config("a"), a=breaking(refused)) as (service, _):
        id_ = (await service.jobs.submit(job(on_interrupt="fail"))).job.id
        done = (await service.jobs.wait(id_, 100)).job
        assert (done.state, done.maybe_billed) == ("completed", False)


async def test_the_last_jobs_to_fail_do_not_wait_for_others_to_come(
    autojump_clock,
) -> None:
    error = ProviderError("not now", provider="a", retryable=True)
    script = MockScript(errors=dict.fromkeys(range(1, 41), error))
    breaker = BreakerConfig(failure_threshold=100)
    config = mock_config("a", max_concurrency=64, breaker=breaker)
    async with running(config, a=mock("a", script)) as (service, _):
        ids = [(await service.jobs.submit(job(str(n)))).job.id for n in range(40)]
        for id_ in ids:
            # Ten retries a minute is what the provider's budget gives without others.
            assert (await service.jobs.wait(id_, 300)).job.state == "completed"
