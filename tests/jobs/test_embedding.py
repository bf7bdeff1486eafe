"""Jobs of a program that embeds the service."""

from __future__ import annotations

import json

import attrs
import pytest

import duckservice
from duckservice import CallOptions
from duckservice.completion import EmbeddingRequest
from duckservice.config import ServiceConfig
from duckservice.core.job import JobState
from duckservice.store.base import StoreUnavailable
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


async def test_a_store_that_is_in_use_says_so_as_itself(
    autojump_clock, tmp_path
) -> None:
    autojump_clock.autojump_threshold = 0.05  # the store has threads
    service = ServiceConfig(state_dir=tmp_path)
    config = attrs.evolve(mock_config("a"), service=service)
    async with duckservice.open_service(config):
        with pytest.raises(StoreUnavailable, match="in use by process"):
            async with duckservice.open_service(config):
                pytest.fail("two services have one store")


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


@pytest.mark.parametrize(
    "wrong",
    [
        {"priority": "urgent"},
        {"priority": None},
        {"tags": {"team": 1}},
        {"deadline": "tomorrow"},
        {"deadline": float("nan")},
        {"not_before": float("inf")},
        {"max_cost": -1},
        {"max_cost": "0.05"},
        {"max_attempts": 0},
        {"max_attempts": "3"},
        {"max_attempts": True},
        {"deadline": True},
        {"max_cost": True},
        {"on_interrupt": "again"},
        {"hold": "yes"},
        {"idempotency_key": 7},
    ],
    ids=str,
)
async def test_a_wrong_wish_fails_its_caller_and_nobody_else(
    autojump_clock, wrong
) -> None:
    config, providers = mock_config("a"), {"a": mock("a")}
    async with duckservice.open_service(config, providers=providers) as duck:
        with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
            await duck.submit(chat(), **wrong)
        job = await duck.submit(chat())
        assert (await duck.wait(job.id)).state is JobState.COMPLETED


def test_a_request_has_a_priority_that_there_is() -> None:
    with pytest.raises(ValueError, match="priority"):
        CallOptions(priority="urgent")
