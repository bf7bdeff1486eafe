"""A running service with mock providers, for the tests of the service."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random

from duckservice.completion import ChatRequest, Message
from duckservice.config import (
    BreakerConfig,
    Config,
    ProviderConfig,
    QueueConfig,
    RetryConfig,
    RoutingConfig,
)
from duckservice.events import Event
from duckservice.providers.mock import MockProvider
from duckservice.running import RunningService, open_running
from duckservice.tree import Seams


def chat(text: str = "hello", *, model: str = "mock-1", **more) -> ChatRequest:
    return ChatRequest(model=model, messages=(Message.of("user", text),), **more)


def mock_config(
    *names: str, retry=None, queue=None, fallbacks=None, **provider
) -> Config:
    return Config(
        providers={
            name: ProviderConfig(
                name=name,
                adapter="mock",
                priority=number,
                **{
                    "breaker": BreakerConfig(failure_threshold=3, reset_timeout=10.0),
                    **provider,
                },
            )
            for number, name in enumerate(names, 1)
        },
        retry=retry or RetryConfig(),
        queue=queue or QueueConfig(),
        routing=RoutingConfig(fallbacks=fallbacks or {}),
    )


@asynccontextmanager
async def running(
    config: Config, **providers: MockProvider
) -> AsyncGenerator[tuple[RunningService, list[Event]]]:
    events = list[Event]()
    seams = Seams(random=Random(1), wall_clock=lambda: 1_000_000.0, emit=events.append)
    async with open_running(config, providers=providers, seams=seams) as service:
        yield service, events
