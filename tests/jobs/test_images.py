"""Pictures as durable jobs, alone and in batches."""

from __future__ import annotations

import json
from base64 import b64decode

import attrs
import pytest

import duckservice
from duckservice.completion import ImageRequest
from duckservice.config import RetryConfig
from duckservice.core.job import JobState
from duckservice.errors import (
    Conflict,
    InvalidRequest,
    ModelNotFound,
    ProviderError,
    ProviderTimeout,
)
from duckservice.jobs.as_json import job_fields, read_submission
from duckservice.providers.mock_script import MockScript
from duckservice.store.memory import MemoryStore, open_memory
from tests.batches.conftest import ended, order, put, results
from tests.jobs.conftest import mock, running, wall_clock
from tests.service.conftest import mock_config

DUCK = {"model": "mock-1", "prompt": "a duck", "n": 2}


def job(**fields):
    body = json.dumps({"kind": "image", "request": DUCK | fields}).encode()
    return read_submission(body, now=wall_clock())


async def test_a_pictures_job_has_a_result_in_openais_shape(autojump_clock) -> None:
    async with running(mock_config("a"), a=mock("a")) as (service, _):
        submitted = await service.jobs.submit(job())
        assert (submitted.job.kind, submitted.job.model) == ("image", "mock-1")
        done = await service.jobs.wait(submitted.job.id)
        result = json.loads(await service.jobs.result(done.job.id))
    fields = job_fields(done)
    assert (fields["kind"], fields["state"]) == ("image", "completed")
    assert fields["cost_known"]
    assert float(fields["cost_usd"]) > 0
    assert fields["usage"]["completion_tokens"] == result["usage"]["output_tokens"]
    assert result["created"] > 0
    for picture in result["data"]:
        assert b64decode(picture["b64_json"]).startswith(b"\x89PNG")


async def test_a_request_that_fails_is_repeated(autojump_clock) -> None:
    script = MockScript(errors={1: ProviderError("down", provider="a")})
    async with running(mock_config("a"), a=mock("a", script)) as (service, _):
        id_ = (await service.jobs.submit(job())).job.id
        done = (await service.jobs.wait(id_)).job
        assert (done.state, done.attempt) == (JobState.COMPLETED, 2)


async def test_what_may_have_been_made_is_not_made_again(autojump_clock) -> None:
    script = MockScript(errors={1: ProviderTimeout("no answer", provider="a")})
    async with running(mock_config("a"), a=mock("a", script)) as (service, _):
        id_ = (await service.jobs.submit(job())).job.id
        done = (await service.jobs.wait(id_)).job
        assert (done.state, done.attempt) == (JobState.DISCARDED, 1)
        assert done.cost > 0


async def test_pictures_survive_the_service_that_took_them(autojump_clock) -> None:
    store = MemoryStore()
    async with running(mock_config("a"), store, a=mock("a")) as (service, _):
        await service.pause_queue(paused=True)
        id_ = (await service.jobs.submit(job())).job.id
    async with running(mock_config("a"), store, a=mock("a")) as (service, _):
        with pytest.raises(Conflict):
            await service.jobs.result(id_)
        await service.pause_queue(paused=False)
        await service.jobs.wait(id_)
        assert len(json.loads(await service.jobs.result(id_))["data"]) == 2


async def test_a_result_that_is_too_large_is_not_kept(autojump_clock) -> None:
    config = mock_config("a", retry=RetryConfig(max_attempts=1))
    small = attrs.evolve(config, store=attrs.evolve(config.store, max_result=1024))
    async with running(small, a=mock("a")) as (service, _):
        id_ = (await service.jobs.submit(job(n=10))).job.id
        done = (await service.jobs.wait(id_)).job
    assert done.state is JobState.DISCARDED
    assert "max_result" in done.errors[-1].message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "request.prompt"),
        ({"stream": True}, "request.stream"),
        ({"size": 7}, "request.size"),
    ],
)
async def test_what_cannot_be_read_is_never_a_job(fields, param) -> None:
    with pytest.raises(InvalidRequest) as caught:
        job(**fields)
    assert caught.value.param == param


async def test_what_nobody_can_make_is_never_a_job(autojump_clock) -> None:
    async with running(mock_config("a"), a=mock("a")) as (service, _):
        with pytest.raises(InvalidRequest) as caught:
            await service.jobs.submit(job(n=11))
        assert caught.value.param == "n"
        with pytest.raises(ModelNotFound):
            await service.jobs.submit(job(model="dall-e-3"))


async def test_a_programs_pictures_are_jobs_with_all_that_it_said(
    autojump_clock,
) -> None:
    request = ImageRequest(
        model="mock-1", prompt="x", n=2, quality="low", extra={"style": "vivid"}
    )
    config, providers = mock_config("a"), {"a": mock("a")}
    async with duckservice.open_service(config, providers=providers) as duck:
        id_ = (await duck.submit(request)).id
        assert (await duck.wait(id_)).state is JobState.COMPLETED
        assert len(json.loads(await duck.result(id_))["data"]) == 2
        assert json.loads(await duck.service.jobs.request(id_)) == {
            "model": "mock-1",
            "prompt": "x",
            "n": 2,
            "quality": "low",
            "style": "vivid",
        }


async def test_pictures_run_as_a_batch(autojump_clock) -> None:
    endpoint = "/v1/images/generations"
    plain = json.dumps(DUCK)
    wrapped = json.dumps(
        {"custom_id": "w", "method": "POST", "url": endpoint, "body": DUCK}
    )
    async with open_memory() as store:
        await put(store, f"{plain}\n{wrapped}\n".encode())
        async with running(mock_config("m"), store, m=mock("m")) as (service, _):
            made = await service.batch_jobs.create(order(endpoint=endpoint))
            view = await ended(service, made.batch.id)
            answers, errors = await results(store, view)
    assert view.batch.status == "completed"
    assert errors == []
    assert {each["custom_id"] for each in answers} == {"line-1", "w"}
    for each in answers:
        assert len(each["response"]["body"]["data"]) == 2
