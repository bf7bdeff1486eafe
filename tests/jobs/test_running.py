"""From the submission of a job to its result."""

from __future__ import annotations

import json

from duckservice.core.job import JobState
from tests.jobs.conftest import job, mock, running
from tests.service.conftest import mock_config


async def test_a_job_is_run_and_its_result_kept(autojump_clock) -> None:
    async with running(mock_config("a"), a=mock("a")) as (service, _):
        submitted = await service.jobs.submit(job("hi there"))
        assert submitted.created
        done = (await service.jobs.wait(submitted.job.id, 10)).job
        assert done.state is JobState.COMPLETED
        assert done.attempt == 1
        assert done.provider == "a"
        assert done.cost > 0
        result = json.loads(await service.jobs.result(done.id))
        assert result["choices"][0]["message"]["content"] == "hi there"
        [attempt] = await service.jobs.attempts(done.id)
        assert attempt.state == "settled"
