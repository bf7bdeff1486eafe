"""Each limit on a provider's time, on real sockets, through the provider and the service.

The times are real, and as short as can be told from none. What has no part in a test
takes longer than the test may.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from duckservice.calls.call import CallOptions
from duckservice.completion import TextDelta
from duckservice.config import (
    Config,
    ProviderConfig,
    RetryConfig,
    Secret,
    TimeoutConfig,
)
from duckservice.errors import DeadlineExceeded, ProviderTimeout
from duckservice.events import AttemptEnded, Event
from duckservice.providers.catalog import make_provider
from duckservice.running import RunningService, open_running
from duckservice.tree import Seams
from tests.providers.http_client import open_fds
from tests.upstream import (
    HANG,
    Action,
    Pause,
    Repeat,
    answer,
    chunked,
    head,
    open_upstream,
)

from .conftest import chat
from .test_deadlines import at_rest

SHORT = 0.15
LONG = 60.0
CHUNKED = b"transfer-encoding: chunked"
SSE = head(CHUNKED, b"content-type: text/event-stream")
KEEPALIVE = chunked(b": keepalive\n\n", end=False)


def event(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    chunk = {"id": "c", "created": 1, "model": "m", "choices": [choice]}
    return chunked(b"data: %s\n\n" % json.dumps(chunk).encode(), end=False)


COMPLETION = json.dumps(
    {
        "id": "c",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "fine"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
).encode()
FINE = [answer(COMPLETION, b"content-type: application/json")]


@attrs.frozen
class Case:
    limit: str
    """The one that is short."""
    actions: list[Action]
    says: str
    streamed: bool = False
    text: str = ""
    """What has come before."""


CASES = {
    "no head": Case("first_byte", [HANG], r"0.15 s \(timeout.first_byte\)"),
    "no head of a stream": Case(
        "first_byte", [HANG], r"0.15 s \(timeout.first_byte\)", streamed=True
    ),
    "a head that does not end": Case(
        "first_byte",
        [b"HTTP/1.1 200 OK\r\nx: ", Repeat(b"x", 0.02)],
        r"0.15 s \(timeout.first_byte\)",
    ),
    "a body that stops": Case(
        "idle", [answer(b'{"id"', length=900), HANG], r"0.15 s .*\(timeout.idle\)"
    ),
    "a stream without a first event": Case(
        "idle", [SSE, HANG], r"0.15 s .*\(timeout.idle\)", streamed=True
    ),
    "a stream that stops": Case(
        "idle",
        [SSE, event("one "), Pause(0.05), event("two"), HANG],
        r"0.15 s .*\(timeout.idle\)",
        streamed=True,
        text="one two",
    ),
    "a body that drips": Case(
        "total",
        [answer(b"{", length=900), Repeat(b" ", 0.02)],
        r"0.15 s \(timeout.total\)",
    ),
    "a stream that is only kept alive": Case(
        "total",
        [SSE, event("one"), Repeat(KEEPALIVE, 0.02)],
        r"0.15 s \(timeout.total\)",
        streamed=True,
        text="one",
    ),
    "no head, and no time at all": Case("total", [HANG], r"0.15 s \(timeout.total\)"),
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def provider_config(name: str, base_url: str, priority: int = 1, **short: float):
    limits = dict.fromkeys(("connect", "first_byte", "idle", "total"), LONG)
    return ProviderConfig(
        name=name,
        adapter="openai_compatible",
        base_url=base_url,
        api_key=Secret("sk-canary-7f3a9c51d2"),
        models=("m",),
        priority=priority,
        timeout=TimeoutConfig(**{**limits, **short}),
    )


@asynccontextmanager
async def serving(
    *providers: ProviderConfig,
    retry: RetryConfig | None = None,
) -> AsyncGenerator[tuple[RunningService, list[AttemptEnded]]]:
    """Run the service with *providers*; by default each is asked once."""
    events = list[Event]()
    config = Config(
        providers={each.name: each for each in providers},
        retry=retry or RetryConfig(max_attempts=len(providers)),
    )
    async with open_running(config, seams=Seams(emit=events.append)) as service:
        ended = list[AttemptEnded]()
        yield service, ended
        ended += [each for each in events if isinstance(each, AttemptEnded)]


async def whole(service: RunningService, *, streamed: bool, **options: float) -> str:
    """Return the reply's text, also where it breaks off; the error is raised behind."""
    its = CallOptions(**options)
    if not streamed:
        return (await service.complete(chat(model="m"), its)).value.text
    text = ""
    try:
        async with service.stream(chat(model="m"), its) as streaming:
            async for batch in streaming.batches:
                text += "".join(c.text for c in batch if isinstance(c, TextDelta))
    except ProviderTimeout as error:
        error.add_note(text)
        raise
    return text


@asynccontextmanager
async def full_backlog() -> AsyncGenerator[str]:
    """Have a port whose system answers no further SYN: its accept queue is full."""
    listener = trio.socket.socket()
    await listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    port = listener.getsockname()[1]
    with listener, trio.socket.socket() as first:
        await first.connect(("127.0.0.1", port))
        with trio.fail_after(10):
            yield f"http://127.0.0.1:{port}"


@cases
async def test_a_provider_names_the_limit_that_is_over_and_closes_the_connection(case):
    async with open_upstream([case.actions]) as upstream:
        config = provider_config("p", upstream.base_url, **{case.limit: SHORT})
        provider = make_provider(config)
        text = ""
        with pytest.raises(ProviderTimeout, match=case.says) as caught:
            if case.streamed:
                async with provider.stream(chat(model="m")) as batches:
                    async for batch in batches:
                        text += "".join(
                            chunk.text
                            for chunk in batch
                            if isinstance(chunk, TextDelta)
                        )
            else:
                await provider.complete(chat(model="m"))
        await upstream.wait_all_closed()
        await provider.aclose()
    assert text == case.text
    assert caught.value.provider == "p"
    assert not caught.value.never_sent


@cases
async def test_the_client_of_the_service_gets_it_and_nothing_is_left_behind(case):
    fds = open_fds()
    async with open_upstream([case.actions]) as upstream:
        config = provider_config("p", upstream.base_url, **{case.limit: SHORT})
        async with serving(config) as (service, ended):
            started = time.monotonic()
            with pytest.raises(ProviderTimeout, match=case.says) as caught:
                await whole(service, streamed=case.streamed)
            assert SHORT * 0.9 < time.monotonic() - started < 3.0
            await upstream.wait_all_closed()
            await trio.testing.wait_all_tasks_blocked()
            await at_rest(service)
    assert getattr(caught.value, "__notes__", [""]) == [case.text]
    assert [(each.outcome, each.provider) for each in ended] == [("timeout", "p")]
    assert upstream.connections == 1
    assert open_fds() == fds


async def test_a_connection_that_does_not_come_about_is_given_up_in_its_own_time():
    fds = open_fds()
    async with full_backlog() as base_url:
        config = provider_config("p", base_url, connect=SHORT)
        async with serving(config) as (service, ended):
            with pytest.raises(ProviderTimeout, match=r"0.15 s \(timeout.connect\)"):
                await whole(service, streamed=False)
            await trio.testing.wait_all_tasks_blocked()
            await at_rest(service)
    assert [each.cost_usd for each in ended] == ["0"]
    assert open_fds() == fds


@pytest.mark.parametrize(
    "case",
    [case for case in CASES.values() if not case.text],
    ids=[name for name, case in CASES.items() if not case.text],
)
async def test_before_the_first_text_another_provider_answers_instead(case):
    stream = [SSE, event("fine"), chunked(b"data: [DONE]\n\n")]
    instead = stream if case.streamed else FINE
    async with open_upstream([case.actions]) as slow, open_upstream([instead]) as good:
        first = provider_config("slow", slow.base_url, **{case.limit: SHORT})
        async with serving(first, provider_config("good", good.base_url, 2)) as (
            service,
            ended,
        ):
            assert await whole(service, streamed=case.streamed) == "fine"
            await slow.wait_all_closed()
    assert [each.outcome for each in ended] == ["timeout", "ok"]


@cases
async def test_a_deadline_that_is_sooner_than_the_limit_wins(case):
    fds = open_fds()
    async with open_upstream([case.actions]) as upstream:
        config = provider_config("p", upstream.base_url, **{case.limit: LONG})
        async with serving(config) as (service, ended):
            started = trio.current_time()
            with pytest.raises(DeadlineExceeded):
                await whole(
                    service, streamed=case.streamed, deadline=started + SHORT * 2
                )
            assert SHORT * 1.9 < trio.current_time() - started < 3.0
            await upstream.wait_all_closed()
            await trio.testing.wait_all_tasks_blocked()
            await at_rest(service)
    assert [each.outcome for each in ended] == ["cancelled"]
    assert open_fds() == fds


async def test_a_deadline_ends_a_connection_that_does_not_come_about():
    fds = open_fds()
    async with (
        full_backlog() as base_url,
        serving(provider_config("p", base_url)) as (service, _),
    ):
        deadline = trio.current_time() + SHORT
        with pytest.raises(DeadlineExceeded):
            await whole(service, streamed=False, deadline=deadline)
        await trio.testing.wait_all_tasks_blocked()
        await at_rest(service)
    assert open_fds() == fds
