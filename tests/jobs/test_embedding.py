"""Jobs of a program that embeds the service."""

from __future__ import annotations

import json

import duckservice
from duckservice.completion import EmbeddingRequest
from duckservice.core.job import JobState
from tests.jobs.conftest import mock
from tests.service.conftest import chat, mock_config


async def test_a_program_submits_and_waits(autojump_clock) -> None:
    config, providers = mock_config("a"), {"a": mock("a")}
    async with duckservice.open_service(config, providers=providers) as duck:
        job = await duck.submit(chat("hi", max_tokens=20), priority="low")
        assert job.priority == "low"
        done = await duck.wait(job.id)
        assert done.state is JobState.COMPLETED
        reply = json.loads(await duck.result(job.id))
        assert reply["choices"][0]["message"]["content"] == "hi"


async def test_embeddings_can_be_jobs(autojump_clock) -> None:
    config, providers = mock_config("a"), {"a": mock("a")}
    async with duckservice.open_service(config, providers=providers) as duck:
        request = EmbeddingRequest(model="mock-1", input=("a", "b"))
        job = await duck.submit(request)
        assert (await duck.wait(job.id)).state is JobState.COMPLETED
        assert len(json.loads(await duck.result(job.id))["data"]) == 2


async def test_a_held_job_can_be_cancelled(autojump_clock) -> None:
    config, providers = mock_config("a"), {"a": mock("a")}
    async with duckservice.open_service(config, providers=providers) as duck:
        job = await duck.submit(chat(), hold=True)
        assert (await duck.cancel(job.id)).state is JobState.CANCELLED
