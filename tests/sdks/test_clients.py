"""Other official SDKs of OpenAI's format as clients of a daemon, over its Unix socket.

Behind the daemon is a provider of another format. OpenAI's and Anthropic's own SDKs
are clients in `tests.e2e`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import httpx2
import pytest
import trio

from duckservice.config import PriceConfig, ProviderConfig, RetryConfig, Secret
from tests.e2e.makers import ARGUMENTS, MAKERS, NAME, TEXT, Maker
from tests.e2e.running import CLIENT_KEY, KEY, Duck, open_duck
from tests.sdks import talks
from tests.sdks.talks import PARAMETERS
from tests.upstream import Upstream, open_upstream

pytestmark = pytest.mark.slow

MODEL = "the-model"
RESULT = "18 degrees and sunny"
PROMPT = {"role": "user", "content": talks.PROMPT}
MESSAGES = [{"role": "system", "content": talks.SYSTEM}, PROMPT]
TOOL = {
    "type": "function",
    "function": {
        "name": NAME,
        "description": talks.DESCRIPTION,
        "parameters": PARAMETERS,
    },
}


class GroqClient:
    """Groq's SDK."""

    def __init__(self) -> None:
        self.module = pytest.importorskip("groq", reason="groq is not installed")

    @property
    def rate_limited(self) -> type[Exception]:
        return self.module.RateLimitError

    def use(self, socket: str, use: Callable[[Any], Any]) -> Any:
        """Return what *use* returns, called with what creates chats."""
        transport = _WithoutPrefix(uds=socket, verify=False)
        with (
            httpx.Client(transport=transport) as http,
            self.module.Groq(
                base_url="http://duck",
                api_key=CLIENT_KEY,
                max_retries=0,
                timeout=20,
                http_client=http,
            ) as sdk,
        ):
            return use(sdk.chat.completions.create)


class _WithoutPrefix(httpx.HTTPTransport):
    """Takes away what Groq's SDK writes before the path, and no base URL can change."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.removeprefix(b"/openai")
        request.url = request.url.copy_with(raw_path=path)
        return super().handle_request(request)


class MistralClient:
    """Mistral's SDK."""

    def __init__(self) -> None:
        self.module = pytest.importorskip("mistralai.client", reason="mistralai absent")

    @property
    def rate_limited(self) -> type[Exception]:
        return self.module.errors.SDKError

    def use(self, socket: str, use: Callable[[Any], Any]) -> Any:
        """Return what *use* returns, called with what creates chats."""
        transport = httpx2.HTTPTransport(uds=socket, verify=False)
        with (
            httpx2.Client(transport=transport) as http,
            self.module.Mistral(
                server_url="http://duck",
                api_key=CLIENT_KEY,
                timeout_ms=20_000,
                client=http,
            ) as sdk,
        ):

            def create(*, stream: bool = False, **asked: Any) -> Any:
                if not stream:
                    return sdk.chat.complete(**asked)
                return (event.data for event in sdk.chat.stream(**asked))

            return use(create)


@pytest.fixture
def client(request):
    return request.param()


CLIENTS = pytest.mark.parametrize("client", [GroqClient, MistralClient], indirect=True)
FOREIGN = ("gemini", "anthropic", "bedrock", "cohere", "ollama")
PROVIDERS = pytest.mark.parametrize("provider", FOREIGN)


@asynccontextmanager
async def serving(
    maker: Maker, *answers: bytes
) -> AsyncGenerator[tuple[Duck, Upstream]]:
    async with open_upstream([[each] for each in answers], limit=60) as upstream:
        config = ProviderConfig(
            name="up",
            adapter=maker.adapter,  # type: ignore[arg-type]
            api_key=Secret(KEY),
            base_url=upstream.base_url + maker.path,
            models=("*",),
            price=PriceConfig(input="2", output="8"),
            **maker.config,
        )
        async with open_duck(config, retry=RetryConfig(max_attempts=1)) as duck:
            yield duck, upstream


async def asked(duck: Duck, client: Any, use: Callable[[Any], Any]) -> Any:
    """Return what *use* returns, called in a thread."""
    return await trio.to_thread.run_sync(client.use, str(duck.socket), use)


@CLIENTS
@PROVIDERS
async def test_a_reply_and_its_usage_reach_the_client(client, provider):
    maker = MAKERS[provider]
    async with serving(maker, maker.text) as (duck, upstream):
        reply = await asked(
            duck,
            client,
            lambda create: create(
                model=MODEL, messages=MESSAGES, max_tokens=100, temperature=0.5
            ),
        )
        assert reply.choices[0].message.content == TEXT
        assert reply.choices[0].finish_reason == "stop"
        assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (9, 3)
        sent = json.dumps(json.loads(upstream.requests[0].body))
        assert talks.PROMPT in sent
        assert talks.SYSTEM in sent


@CLIENTS
@PROVIDERS
async def test_a_stream_reaches_the_client(client, provider):
    def read(create: Any) -> str:
        chunks = create(model=MODEL, messages=MESSAGES, stream=True)
        choices = (choice for chunk in chunks for choice in chunk.choices)
        return "".join(choice.delta.content or "" for choice in choices)

    maker = MAKERS[provider]
    async with serving(maker, maker.text_stream) as (duck, _):
        assert await asked(duck, client, read) == TEXT


@pytest.mark.parametrize("client", [GroqClient, MistralClient], indirect=True)
@PROVIDERS
async def test_a_call_reaches_the_client_and_its_result_the_provider(client, provider):
    def talk(create: Any) -> str:
        reply = create(model=MODEL, messages=[PROMPT], tools=[TOOL])
        message = reply.choices[0].message
        [call] = message.tool_calls
        assert reply.choices[0].finish_reason == "tool_calls"
        assert call.function.name == NAME
        assert json.loads(call.function.arguments) == ARGUMENTS
        result = {"role": "tool", "tool_call_id": call.id, "content": RESULT}
        said = message.model_dump(exclude_none=True)
        final = create(model=MODEL, messages=[PROMPT, said, result], tools=[TOOL])
        return final.choices[0].message.content

    maker = MAKERS[provider]
    async with serving(maker, maker.call, maker.text) as (duck, upstream):
        assert await asked(duck, client, talk) == TEXT
        assert RESULT in maker.result_of(json.loads(upstream.requests[1].body))


# Mistral's SDK wants a name in every piece of a call, which OpenAI's format has in the
# first alone: it reads the calls that a provider sends whole.
@pytest.mark.parametrize(
    ("client", "provider"),
    [
        *((GroqClient, provider) for provider in FOREIGN),
        *((MistralClient, provider) for provider in ("gemini", "ollama")),
    ],
    indirect=["client"],
)
async def test_a_streamed_call_reaches_the_client(client, provider):
    def read(create: Any) -> tuple[str, Any]:
        chunks = create(model=MODEL, messages=[PROMPT], tools=[TOOL], stream=True)
        name, arguments = "", ""
        for chunk in chunks:
            for choice in chunk.choices:
                for piece in choice.delta.tool_calls or ():
                    name += piece.function.name or ""
                    arguments += piece.function.arguments or ""
        return name, json.loads(arguments)

    maker = MAKERS[provider]
    async with serving(maker, maker.call_stream) as (duck, _):
        assert await asked(duck, client, read) == (NAME, ARGUMENTS)


@CLIENTS
@PROVIDERS
async def test_a_rate_limit_is_the_clients_own_error(client, provider):
    maker = MAKERS[provider]
    async with serving(maker, maker.refusal) as (duck, _):

        def refused(create: Any) -> int:
            with pytest.raises(client.rate_limited) as raised:
                create(model=MODEL, messages=MESSAGES)
            return raised.value.status_code

        assert await asked(duck, client, refused) == 429
