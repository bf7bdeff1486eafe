"""Jobs and requests share the turns of a provider: who goes first, who never starves."""

from __future__ import annotations

import trio

from duckservice.calls.call import CallOptions
from duckservice.providers.mock_script import MockScript
from tests.jobs.conftest import job, mock, running
from tests.service.conftest import chat, mock_config

ONE_SECOND = MockScript(latency=1.0)
ONE_TURN = mock_config("a", max_concurrency=1)


async def test_requests_of_the_same_priority_go_first(autojump_clock) -> None:
    async with running(ONE_TURN, a=mock("a", ONE_SECOND)) as (service, _):
        ids = [(await service.jobs.submit(job(str(n)))).job.id for n in range(3)]
        await trio.sleep(0.5)
        ended = []

        async def ask() -> None:
            await service.complete(chat())
            ended.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ask)
        # The first job had its turn when they came; all others wait for them.
        assert ended == [2.0, 3.0, 4.0, 5.0, 6.0]
        states = [(await service.jobs.get(id_)).job.state for id_ in ids]
        assert states.count("completed") == 1


async def test_a_job_of_higher_priority_goes_before_requests(autojump_clock) -> None:
    async with (
        running(ONE_TURN, a=mock("a", ONE_SECOND)) as (service, _),
        trio.open_nursery() as nursery,
    ):
        for _ in range(10):
            nursery.start_soon(service.complete, chat(), CallOptions(priority="low"))
        await trio.sleep(0.5)
        id_ = (await service.jobs.submit(job())).job.id
        done = (await service.jobs.wait(id_)).job
        assert done.finished_at - done.created_at < 2.0


async def test_jobs_do_not_starve_behind_requests(autojump_clock) -> None:
    async with (
        running(ONE_TURN, a=mock("a", ONE_SECOND)) as (service, _),
        trio.open_nursery() as nursery,
    ):

        async def flood() -> None:
            while True:
                nursery.start_soon(
                    service.complete, chat(), CallOptions(priority="high")
                )
                await trio.sleep(1.0)

        for _ in range(20):
            nursery.start_soon(service.complete, chat(), CallOptions(priority="high"))
        nursery.start_soon(flood)
        await trio.sleep(1.5)
        ids = [
            (await service.jobs.submit(job(str(n), priority="low"))).job.id
            for n in range(5)
        ]
        await trio.sleep(140)
        states = [(await service.jobs.get(id_)).job.state for id_ in ids]
        assert states == ["completed"] * 5
        nursery.cancel_scope.cancel()


async def test_a_batch_of_one_submitter_does_not_delay_another(autojump_clock) -> None:
    config = mock_config("a", max_concurrency=2)
    async with running(config, a=mock("a", ONE_SECOND)) as (service, _):
        for n in range(100):
            await service.jobs.submit(job(str(n), tags={"batch": "big"}))
        await trio.sleep(0.5)
        id_ = (await service.jobs.submit(job(tags={"batch": "small"}))).job.id
        done = (await service.jobs.wait(id_)).job
        assert done.finished_at - done.created_at < 4.0


async def test_why_a_job_waits_for_its_turn_is_told(autojump_clock) -> None:
    async with running(ONE_TURN, a=mock("a", ONE_SECOND)) as (service, _):
        ids = [(await service.jobs.submit(job(str(n)))).job.id for n in range(4)]
        await trio.sleep(0.5)
        views = [await service.jobs.get(id_) for id_ in ids]
        assert [v.wait_reason for v in views] == [
            None,
            "concurrency:a",
            "concurrency:a",
            "concurrency:a",
        ]
        # The second was claimed, to stand in the provider's line; it asks nobody yet.
        assert [v.job.state for v in views] == [
            "executing",
            "executing",
            "available",
            "available",
        ]
