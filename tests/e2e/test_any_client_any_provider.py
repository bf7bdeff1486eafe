"""Every client format over every provider's wire format, with the official SDKs."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import ClassVar

import anthropic
import openai
import pytest

from duckservice.config import PriceConfig, ProviderConfig, RetryConfig, Secret
from tests.e2e.makers import (
    ARGUMENTS,
    CALL_ID,
    MAKERS,
    NAME,
    PICTURE,
    PICTURE_SOURCE,
    TEXT,
    Maker,
)
from tests.e2e.running import KEY, Duck, open_duck
from tests.upstream import Upstream, open_upstream

pytestmark = pytest.mark.slow

MODEL = "the-model"
PROMPT = "How is the weather in Paris?"
RESULT = "18 degrees and sunny"
SCHEMA = {
    "type": "object",
    "properties": {"verdict": {"type": "string"}},
    "required": ["verdict"],
    "additionalProperties": False,
}
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "which town"}},
    "required": ["city"],
}
SYSTEM = "You are a weatherman."

ALL = pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS.keys())


class Chat:
    """OpenAI's SDK, Chat Completions."""

    tool: ClassVar = {
        "type": "function",
        "function": {"name": NAME, "description": "d", "parameters": PARAMETERS},
    }

    async def ask(self, duck: Duck, **more):
        messages = more.pop(
            "messages",
            [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": PROMPT},
            ],
        )
        return await duck.openai(
            lambda sdk: sdk.chat.completions.create(
                model=MODEL, messages=messages, **more
            )
        )

    async def text(self, duck: Duck):
        reply = await self.ask(duck)
        assert reply.choices[0].finish_reason == "stop"
        return (
            reply.choices[0].message.content,
            reply.usage.prompt_tokens,
            reply.usage.completion_tokens,
        )

    async def streamed(self, duck: Duck) -> str:
        def read(sdk: openai.OpenAI) -> str:
            stream = sdk.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": PROMPT}], stream=True
            )
            return "".join(
                c.choices[0].delta.content or "" for c in stream if c.choices
            )

        return await duck.openai(read)

    async def call(self, duck: Duck):
        reply = await self.ask(duck, tools=[self.tool])
        [call] = reply.choices[0].message.tool_calls
        assert reply.choices[0].finish_reason == "tool_calls"
        return call.id, call.function.name, json.loads(call.function.arguments), reply

    async def streamed_call(self, duck: Duck):
        def read(sdk: openai.OpenAI):
            stream = sdk.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": PROMPT}],
                tools=[self.tool],
                stream=True,
            )
            name, arguments = "", ""
            for chunk in stream:
                for choice in chunk.choices:
                    for piece in choice.delta.tool_calls or ():
                        name += piece.function.name or ""
                        arguments += piece.function.arguments or ""
            return name, json.loads(arguments)

        return await duck.openai(read)

    async def answered(self, duck: Duck, reply, call_id: str) -> str:
        message = reply.choices[0].message.model_dump(exclude_none=True)
        final = await self.ask(
            duck,
            messages=[
                {"role": "user", "content": PROMPT},
                message,
                {"role": "tool", "tool_call_id": call_id, "content": RESULT},
            ],
            tools=[self.tool],
        )
        return final.choices[0].message.content

    async def shown(self, duck: Duck) -> None:
        url = f"data:image/png;base64,{PICTURE}"
        content = [
            {"type": "text", "text": PROMPT},
            {"type": "image_url", "image_url": {"url": url}},
        ]
        await self.ask(duck, messages=[{"role": "user", "content": content}])

    async def shaped(self, duck: Duck) -> None:
        schema = {"name": "verdict", "schema": SCHEMA, "strict": True}
        await self.ask(
            duck, response_format={"type": "json_schema", "json_schema": schema}
        )

    rate_limited = openai.RateLimitError


class Responses(Chat):
    """OpenAI's SDK, Responses."""

    tool: ClassVar = {
        "type": "function",
        "name": NAME,
        "parameters": PARAMETERS,
        "strict": False,
    }

    async def ask(self, duck: Duck, **more):
        asked = {"instructions": SYSTEM, "input": PROMPT, **more}
        return await duck.openai(lambda sdk: sdk.responses.create(model=MODEL, **asked))

    async def text(self, duck: Duck):
        reply = await self.ask(duck)
        assert reply.status == "completed"
        return reply.output_text, reply.usage.input_tokens, reply.usage.output_tokens

    async def streamed(self, duck: Duck) -> str:
        def read(sdk: openai.OpenAI) -> str:
            with sdk.responses.stream(model=MODEL, input=PROMPT) as stream:
                return stream.get_final_response().output_text

        return await duck.openai(read)

    async def call(self, duck: Duck):
        reply = await self.ask(duck, tools=[self.tool])
        [call] = [item for item in reply.output if item.type == "function_call"]
        return call.call_id, call.name, json.loads(call.arguments), reply

    async def streamed_call(self, duck: Duck):
        def read(sdk: openai.OpenAI):
            with sdk.responses.stream(
                model=MODEL, input=PROMPT, tools=[self.tool]
            ) as stream:
                output = stream.get_final_response().output
            [call] = [item for item in output if item.type == "function_call"]
            return call.name, json.loads(call.arguments)

        return await duck.openai(read)

    async def answered(self, duck: Duck, reply, call_id: str) -> str:
        items = [
            {"role": "user", "content": PROMPT},
            *(item.model_dump(exclude_none=True) for item in reply.output),
            {"type": "function_call_output", "call_id": call_id, "output": RESULT},
        ]
        return (await self.ask(duck, input=items, tools=[self.tool])).output_text

    async def shown(self, duck: Duck) -> None:
        url = f"data:image/png;base64,{PICTURE}"
        content = [
            {"type": "input_text", "text": PROMPT},
            {"type": "input_image", "image_url": url},
        ]
        await self.ask(duck, input=[{"role": "user", "content": content}])

    async def shaped(self, duck: Duck) -> None:
        wanted = {
            "type": "json_schema",
            "name": "verdict",
            "schema": SCHEMA,
            "strict": True,
        }
        await self.ask(duck, text={"format": wanted})


class Messages:
    """Anthropic's SDK."""

    tool: ClassVar = {"name": NAME, "description": "d", "input_schema": PARAMETERS}

    async def ask(self, duck: Duck, **more):
        asked = {
            "system": SYSTEM,
            "max_tokens": 100,
            "messages": [{"role": "user", "content": PROMPT}],
            **more,
        }
        return await duck.anthropic(
            lambda sdk: sdk.messages.create(model=MODEL, **asked)
        )

    async def text(self, duck: Duck):
        reply = await self.ask(duck)
        assert reply.stop_reason == "end_turn"
        return (
            reply.content[0].text,
            reply.usage.input_tokens,
            reply.usage.output_tokens,
        )

    async def streamed(self, duck: Duck) -> str:
        def read(sdk: anthropic.Anthropic) -> str:
            with sdk.messages.stream(
                model=MODEL,
                max_tokens=100,
                messages=[{"role": "user", "content": PROMPT}],
            ) as stream:
                return stream.get_final_text()

        return await duck.anthropic(read)

    async def call(self, duck: Duck):
        reply = await self.ask(duck, tools=[self.tool])
        assert reply.stop_reason == "tool_use"
        [call] = [block for block in reply.content if block.type == "tool_use"]
        return call.id, call.name, call.input, reply

    async def streamed_call(self, duck: Duck):
        def read(sdk: anthropic.Anthropic):
            with sdk.messages.stream(
                model=MODEL,
                max_tokens=100,
                messages=[{"role": "user", "content": PROMPT}],
                tools=[self.tool],
            ) as stream:
                message = stream.get_final_message()
            [call] = [block for block in message.content if block.type == "tool_use"]
            return call.name, call.input

        return await duck.anthropic(read)

    async def answered(self, duck: Duck, reply, call_id: str) -> str:
        result = {"type": "tool_result", "tool_use_id": call_id, "content": RESULT}
        blocks = [block.model_dump(exclude_none=True) for block in reply.content]
        final = await self.ask(
            duck,
            messages=[
                {"role": "user", "content": PROMPT},
                {"role": "assistant", "content": blocks},
                {"role": "user", "content": [result]},
            ],
            tools=[self.tool],
        )
        return final.content[0].text

    async def shown(self, duck: Duck) -> None:
        content = [
            {"type": "text", "text": PROMPT},
            {"type": "image", "source": PICTURE_SOURCE},
        ]
        await self.ask(duck, messages=[{"role": "user", "content": content}])

    async def shaped(self, duck: Duck) -> None:
        wanted = {"type": "json_schema", "schema": SCHEMA}
        await self.ask(duck, output_config={"format": wanted})

    rate_limited = anthropic.RateLimitError


EVERY = pytest.mark.parametrize(
    "client",
    [Chat(), Responses(), Messages()],
    ids=["chat", "responses", "messages"],
)


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
        retry = RetryConfig(max_attempts=1)
        async with open_duck(config, retry=retry) as duck:
            yield duck, upstream


def body(upstream: Upstream, number: int = 0) -> dict:
    return json.loads(upstream.requests[number].body)


@EVERY
@ALL
async def test_a_reply_and_what_it_used_reach_the_client(client, maker):
    async with serving(maker, maker.text) as (duck, upstream):
        assert await client.text(duck) == (TEXT, 9, 3)
        sent = json.dumps(body(upstream))
        assert PROMPT in sent
        assert SYSTEM in sent


@EVERY
@ALL
async def test_a_stream_reaches_the_client(client, maker):
    async with serving(maker, maker.text_stream) as (duck, _):
        assert await client.streamed(duck) == TEXT


@EVERY
@ALL
async def test_a_call_reaches_the_client_and_its_result_the_provider(client, maker):
    async with serving(maker, maker.call, maker.text) as (duck, upstream):
        call_id, name, arguments, reply = await client.call(duck)
        assert (name, arguments) == (NAME, ARGUMENTS)
        assert call_id
        if maker.keeps_ids:
            assert call_id == CALL_ID
        assert "which town" in json.dumps(body(upstream))
        assert await client.answered(duck, reply, call_id) == TEXT
        assert RESULT in maker.result_of(body(upstream, 1))
        assert json.dumps(body(upstream, 1)).count(NAME) >= 2


@EVERY
@ALL
async def test_a_streamed_call_reaches_the_client(client, maker):
    async with serving(maker, maker.call_stream) as (duck, _):
        assert await client.streamed_call(duck) == (NAME, ARGUMENTS)


@EVERY
@ALL
async def test_a_picture_and_a_schema_reach_the_provider(client, maker):
    async with serving(maker, maker.text) as (duck, upstream):
        await client.shown(duck)
        assert PICTURE in json.dumps(body(upstream))
        await client.shaped(duck)
        assert "verdict" in json.dumps(body(upstream, 1))


@EVERY
@ALL
async def test_a_rate_limit_is_the_clients_own_error(client, maker):
    async with serving(maker, maker.refusal) as (duck, _):
        with pytest.raises(client.rate_limited):
            await client.text(duck)
