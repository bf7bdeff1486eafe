"""What a provider's answers tell of limits is about the model that has answered."""

from __future__ import annotations

import attrs
import pytest
import trio

from duckservice.calls.call import CallOptions
from duckservice.config import Config, QueueConfig
from duckservice.errors import DeadlineExceeded, RateLimited
from duckservice.running import open_running
from tests.upstream import answer, open_upstream

from .conftest import chat
from .test_timeouts import COMPLETION, provider_config, serving

JSON = b"content-type: application/json"


def telling(limit: int, left: int):
    return [
        answer(
            COMPLETION,
            JSON,
            b"x-ratelimit-limit-requests: %d" % limit,
            b"x-ratelimit-remaining-requests: %d" % left,
            b"x-ratelimit-reset-requests: 40s",
        )
    ]


IMAGE_HAS_NOTHING_LEFT = [telling(5, 1), telling(100, 50), telling(5, 0)]


def config(name: str, base_url: str, priority: int = 1):
    its = provider_config(name, base_url, priority)
    return attrs.evolve(its, models=("image", "chat"))


async def ask(service, model: str, **options) -> None:
    await service.complete(chat(model=model), CallOptions(**options))
    # What the answer tells is learned behind it.
    await trio.testing.wait_all_tasks_blocked()


async def test_a_model_with_nothing_left_holds_back_no_other_of_its_provider():
    async with (
        open_upstream([*IMAGE_HAS_NOTHING_LEFT, telling(100, 40)]) as upstream,
        serving(config("p", upstream.base_url)) as (service, _),
    ):
        for model in ("image", "chat", "image"):
            await ask(service, model)
        with pytest.raises((RateLimited, DeadlineExceeded)):
            await ask(service, "image", deadline=trio.current_time() + 0.2)
        for _ in range(3):
            await ask(service, "chat")
        assert len(upstream.requests) == 6
        (state,) = await service.providers()
    told = state["limiter"]["told"]
    assert {model: its["requests_limit"] for model, its in told.items()} == {
        "image": 5,
        "chat": 100,
    }
    assert told["image"]["available"] == 0
    assert told["chat"]["available"] == 40


async def test_only_the_model_that_has_nothing_left_goes_to_another_provider():
    async with (
        open_upstream([*IMAGE_HAS_NOTHING_LEFT, telling(100, 40)]) as first,
        open_upstream([telling(100, 50)]) as second,
        serving(
            config("p", first.base_url), config("q", second.base_url, priority=2)
        ) as (service, _),
    ):
        for model in ("image", "chat", "image", "image", "chat"):
            await ask(service, model)
        assert (len(first.requests), len(second.requests)) == (4, 1)


async def test_both_lines_age_as_the_config_says(autojump_clock):
    providers = {"p": config("p", "http://127.0.0.1:9")}
    aged = Config(providers=providers, queue=QueueConfig(aging=7.0))
    async with open_running(aged) as service:
        limiter = service.parts.board.providers["p"].limiter
        assert limiter is not None
        assert limiter.limits.aging == 7.0
