"""The official OpenAI SDK asks for pictures, over the socket."""

from __future__ import annotations

import json
from base64 import b64decode
from contextlib import asynccontextmanager

import openai
import pytest

from duckservice.config import ProviderConfig
from tests.e2e.running import (
    CLIENT_KEY,
    KEY,
    json_answer,
    open_duck,
    provider,
)
from tests.upstream import open_upstream

PATH = "/v1/images/generations"
MOCK = ProviderConfig(name="mock", adapter="mock")
ANSWER = {
    "created": 1_700_000_000,
    "data": [{"b64_json": "aGk="}],
    "background": "opaque",
    "output_format": "png",
    "quality": "low",
    "size": "1024x1024",
    "usage": {
        "input_tokens": 14,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": 14},
        "output_tokens": 272,
        "output_tokens_details": {"image_tokens": 272, "text_tokens": 0},
        "total_tokens": 286,
    },
}


@asynccontextmanager
async def upstream_and_duck(*answers: bytes, adapter="openai", **more):
    async with open_upstream([[a] for a in answers], limit=30) as upstream:
        config = provider("up", adapter, upstream, **more)
        async with open_duck(config) as duck:
            yield upstream, duck


async def test_pictures_come_back_as_the_provider_gave_them():
    async with upstream_and_duck(json_answer(ANSWER)) as (upstream, duck):
        reply = await duck.openai(
            lambda sdk: sdk.images.with_raw_response.generate(
                model="gpt-image-1",
                prompt="a duck",
                n=1,
                size="1024x1024",
                quality="low",
                background="opaque",
                user="u-1",
            )
        )
    images = reply.parse()
    assert images.data[0].b64_json == "aGk="
    assert (images.created, images.output_format) == (1_700_000_000, "png")
    assert images.usage.total_tokens == 286
    assert images.usage.output_tokens_details.image_tokens == 272
    assert images.usage.input_tokens_details.text_tokens == 14
    # 2 and 8 USD a million tokens, by the config.
    assert reply.headers["duck-cost-usd"] == "0.002204"
    assert "duck-cost-estimated" not in reply.headers
    (request,) = upstream.requests
    assert request.line == f"POST {PATH} HTTP/1.1"
    assert request.header("authorization") == f"Bearer {KEY}"
    assert CLIENT_KEY.encode() not in request.head
    assert json.loads(request.body) == {
        "model": "gpt-image-1",
        "prompt": "a duck",
        "n": 1,
        "size": "1024x1024",
        "quality": "low",
        "user": "u-1",
        "background": "opaque",
    }


async def test_the_providers_own_charge_is_the_cost_of_what_it_does_not_count():
    answer = {
        "data": [{"url": "https://pictures.example/1", "mime_type": "image/jpeg"}],
        "usage": {"cost_in_usd_ticks": 200_000_000},
    }
    async with upstream_and_duck(json_answer(answer), adapter="xai") as (_, duck):
        reply = await duck.openai(
            lambda sdk: sdk.images.with_raw_response.generate(
                model="grok-imagine-image", prompt="a duck"
            )
        )
    images = reply.parse()
    assert images.data[0].url == "https://pictures.example/1"
    assert images.usage is None
    assert reply.headers["duck-cost-usd"] == "0.02"


async def test_a_cost_that_nobody_says_is_not_told_as_nothing():
    answer = {"created": 1, "data": [{"url": "https://pictures.example/1"}]}
    async with upstream_and_duck(json_answer(answer)) as (_, duck):
        reply = await duck.openai(
            lambda sdk: sdk.images.with_raw_response.generate(
                model="dall-e-2", prompt="a duck"
            )
        )
        costs = await duck.get("/v1/costs")
    assert "duck-cost-usd" not in reply.headers
    total = costs["total"]
    assert (total["unpriced"], total["cost_usd"]) == (1, "0")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stream": True}, "stream"),
        ({"partial_images": 2}, "partial_images"),
        ({"n": 11}, "n"),
        ({"response_format": "url"}, "response_format"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_name_and_not_sent(fields, param):
    async with upstream_and_duck(json_answer(ANSWER)) as (upstream, duck):
        with pytest.raises(openai.BadRequestError) as caught:
            await duck.openai(
                lambda sdk: sdk.images.generate(
                    model="gpt-image-1", prompt="a duck", **fields
                )
            )
        assert upstream.requests == []
    assert caught.value.param == param


async def test_a_refusal_of_the_provider_is_the_clients():
    refusal = {
        "error": {
            "message": "Your request was rejected by the safety system.",
            "type": "image_generation_user_error",
            "code": "moderation_blocked",
            "param": None,
        }
    }
    answer = json_answer(refusal, status=b"400 Bad Request")
    async with upstream_and_duck(answer) as (_, duck):
        with pytest.raises(openai.BadRequestError) as caught:
            await duck.openai(
                lambda sdk: sdk.images.generate(model="gpt-image-1", prompt="a duck")
            )
    assert caught.value.code == "content_filtered"


async def test_a_provider_without_pictures_is_passed_over():
    refuse = provider("claude", "anthropic", "http://127.0.0.1:9", priority=1)
    async with open_upstream([[json_answer(ANSWER)]], limit=30) as upstream:
        draws = provider("up", "openai", upstream, priority=2)
        async with open_duck(refuse, draws) as duck:
            reply = await duck.openai(
                lambda sdk: sdk.images.with_raw_response.generate(
                    model="gpt-image-1", prompt="a duck"
                )
            )
    assert reply.headers["duck-provider"] == "up"
    assert reply.headers["duck-attempts"] == "1"


async def test_the_mock_draws_for_whoever_has_no_key():
    async with open_duck(MOCK) as duck:
        images = await duck.openai(
            lambda sdk: sdk.images.generate(model="mock-1", prompt="a duck", n=2)
        )
    assert len(images.data) == 2
    assert b64decode(images.data[0].b64_json).startswith(b"\x89PNG")


async def test_pictures_are_durable_jobs_over_the_socket():
    body = {"kind": "image", "request": {"model": "mock-1", "prompt": "a duck"}}
    async with open_duck(MOCK) as duck:
        job = (await duck.post("/v1/jobs", body, b"Prefer: wait=20")).json()
        assert (job["kind"], job["state"]) == ("image", "completed")
        assert job["cost_estimated"] is False
        result = await duck.get(f"/v1/jobs/{job['id']}/result")
    assert b64decode(result["data"][0]["b64_json"]).startswith(b"\x89PNG")
