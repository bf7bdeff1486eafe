"""How long pictures are waited for, and which failures leave open if they are made."""

from __future__ import annotations

import attrs
import httpx
import pytest
import trio

from duckservice.completion import ImageRequest
from duckservice.config import ProviderConfig, Secret, TimeoutConfig
from duckservice.errors import DuckError, ProviderTimeout
from duckservice.providers.catalog import make_provider
from duckservice.providers.failures import Classifier
from duckservice.providers.http import HttpClient
from duckservice.providers.remote import PICTURE_FIRST_BYTE, RemoteProvider
from duckservice.providers.sending import may_be_accepted


class Failing(httpx.AsyncBaseTransport):
    """Answers as is said, after a while."""

    def __init__(self, outcome: Exception | httpx.Response, after: float = 0.0) -> None:
        self.outcome, self.after = outcome, after

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await trio.sleep(self.after)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


def provider(
    transport: Failing, timeout: TimeoutConfig | None = None, credentials=None
) -> RemoteProvider:
    made = make_provider(
        ProviderConfig(name="a", adapter="openai", api_key=Secret("k" * 40))
    )
    assert isinstance(made, RemoteProvider)
    http = HttpClient(
        provider="a",
        base_url="https://api.example/v1",
        headers={},
        timeout=timeout or TimeoutConfig(),
        classify=Classifier("a"),
        transport=transport,
        credentials=credentials,
    )
    return attrs.evolve(made, http=http)


async def failure(
    transport: Failing, first_byte: float | None = None, credentials=None
) -> DuckError:
    timeout = None if first_byte is None else TimeoutConfig(first_byte=first_byte)
    with pytest.raises(DuckError) as caught:
        await provider(transport, timeout, credentials).generate_images(
            ImageRequest(model="gpt-image-1", prompt="x")
        )
    return caught.value


@pytest.mark.parametrize(
    ("outcome", "open_"),
    [
        (httpx.ConnectError("refused"), False),
        (httpx.ConnectTimeout(""), False),
        (httpx.Response(500, content=b"{}"), False),
        (httpx.Response(429, content=b"{}"), False),
        (httpx.Response(504, content=b"{}"), True),
        (httpx.Response(200, content=b"{}"), True),
        (httpx.ReadError(""), True),
        (httpx.WriteError(""), True),
        (httpx.RemoteProtocolError(""), True),
    ],
)
async def test_what_was_asked_for_and_not_refused_may_be_accepted(
    autojump_clock, outcome, open_
):
    assert may_be_accepted(await failure(Failing(outcome))) == open_


async def test_pictures_are_waited_for_longer_than_chats(autojump_clock):
    slow = Failing(httpx.ReadError(""), after=1000.0)
    started = trio.current_time()
    error = await failure(slow)
    assert trio.current_time() - started == PICTURE_FIRST_BYTE
    assert isinstance(error, ProviderTimeout)
    assert f"{PICTURE_FIRST_BYTE:g} s (timeout.first_byte)" in error.message
    assert may_be_accepted(error)


@pytest.mark.parametrize("seconds", [10.0, 400.0])
async def test_how_long_pictures_are_waited_for_is_what_the_config_says(
    autojump_clock, seconds
):
    slow = Failing(httpx.ReadError(""), after=1000.0)
    started = trio.current_time()
    await failure(slow, first_byte=seconds)
    assert trio.current_time() - started == seconds


async def test_what_its_credentials_came_too_late_for_was_never_sent(autojump_clock):
    class Hanging:
        async def headers(self, method, url, body):
            await trio.sleep_forever()

    error = await failure(Failing(httpx.ReadError("")), credentials=Hanging())
    assert isinstance(error, ProviderTimeout)
    assert not may_be_accepted(error)
