"""A running service with a store in memory, and jobs for it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random

import trio

from duckservice.config import Config
from duckservice.core.job import Submission
from duckservice.events import Event
from duckservice.jobs.as_json import read_submission
from duckservice.providers.base import Provider
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockScript
from duckservice.running import RunningService, open_running
from duckservice.store.base import Store
from duckservice.tree import Seams

EPOCH = 1_000_000.0


def wall_clock() -> float:
    return EPOCH + trio.current_time()


def job(
    text: str = "hello", *, model: str = "mock-1", stream=False, **more
) -> Submission:
    key = more.pop("idempotency_key", None)
    submitter = more.pop("submitter", None)
    request = more.pop("request", None) or {
        "model": model,
        "messages": [{"role": "user", "content": text}],
    }
    if stream:
        request["stream"] = True
    body = json.dumps({"kind": "chat", "request": request, **more}).encode()
    return read_submission(
        body, now=wall_clock(), idempotency_key=key, submitter=submitter
    )


def mock(name: str, script: MockScript | None = None, **more) -> MockProvider:
    return MockProvider(name, script or MockScript(), models=("mock-*",), **more)


@asynccontextmanager
async def running(
    config: Config, store: Store | None = None, **providers: Provider
) -> AsyncGenerator[tuple[RunningService, list[Event]]]:
    events = list[Event]()
    seams = Seams(random=Random(1), wall_clock=wall_clock, emit=events.append)
    async with open_running(
        config, providers=providers, seams=seams, store=store
    ) as service:
        yield service, events
