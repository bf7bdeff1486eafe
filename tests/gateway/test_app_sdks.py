"""The official SDKs against the application on a real Unix socket."""

from __future__ import annotations

from contextlib import asynccontextmanager

import anthropic
import httpx2
import openai
import pytest
import trio

from duckservice.completion import (
    Choice,
    Completion,
    Finished,
    ImagePart,
    ReasoningDelta,
    ReasoningPart,
    Started,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallDelta,
    ToolResult,
    UsageReport,
)
from duckservice.errors import BadProviderResponse, ModelNotFound, RateLimited
from duckservice.gateway.app import make_app
from tests.gateway.fake_service import USAGE, FakeService
from tests.gateway.serving import serving

USER = [{"role": "user", "content": "hi"}]
PNG = "iVBORw0KGgo="
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
CALLS = Completion(
    id="c1",
    model="m-1",
    usage=USAGE,
    choices=(
        Choice(
            parts=(
                TextPart(text="one moment"),
                ToolCall(id="call_1", name="weather", arguments='{"city": "Ulm"}'),
            ),
            finish_reason="tool_calls",
        ),
    ),
)
RICH_BATCHES = (
    (Started(id="c1", model="m-1"),),
    (ReasoningDelta(text="let me "), ReasoningDelta(text="think")),
    (ReasoningDelta(signature="sig"), TextDelta(text="Gr"), TextDelta(text="üße")),
    (ToolCallDelta(index=0, id="call_1", name="weather", arguments='{"city"'),),
    (ToolCallDelta(index=0, arguments=': "Ulm"}'),),
    (ToolCallDelta(index=1, id="call_2", name="time", arguments="{}"),),
    (Finished(reason="tool_calls"), UsageReport(usage=USAGE)),
)


@asynccontextmanager
async def on_a_socket(service, method, *arguments):
    """Run the (blocking) SDK in a thread; yield what *method* returned."""
    async with serving(make_app(service)) as s:
        with trio.fail_after(20):
            yield await trio.to_thread.run_sync(
                method, str(s.listener.path), *arguments
            )


def with_openai(path, use):
    http = openai.DefaultHttpxClient(transport=httpx2.HTTPTransport(uds=path))
    with openai.OpenAI(
        http_client=http, base_url="http://duck/v1", api_key="x", max_retries=0
    ) as client:
        return use(client)


def with_anthropic(path, use):
    http = anthropic.DefaultHttpxClient(transport=httpx2.HTTPTransport(uds=path))
    with anthropic.Anthropic(
        http_client=http, base_url="http://duck", api_key="x", max_retries=0
    ) as client:
        return use(client)


async def test_openai_chat():
    service = FakeService()

    def use(client):
        return client.chat.completions.with_raw_response.create(
            model="gpt-4o",
            messages=[
                {"role": "system", "content": "be brief"},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "what is it?"},
                        {
                            "type": "image_url",
                            "image_url": {"url": f"data:image/png;base64,{PNG}"},
                        },
                    ],
                },
            ],
            max_completion_tokens=9,
            metadata={"a": "b"},
            extra_headers={"Duck-Priority": "low"},
        )

    async with on_a_socket(service, with_openai, use) as raw:
        reply = raw.parse()
        assert reply.choices[0].message.content == "quack"
        assert reply.choices[0].finish_reason == "stop"
        assert reply.usage.prompt_tokens_details.cached_tokens == 4
        assert reply.usage.completion_tokens_details.reasoning_tokens == 1
        assert raw.headers["duck-cost-usd"] == "0.0012345"
        assert raw.request_id == "made-1"
    ((request, options),) = service.asked
    assert request.messages[1].parts == (
        TextPart(text="what is it?"),
        ImagePart(data=PNG, media_type="image/png"),
    )
    assert request.max_tokens == 9
    assert request.extra == {"metadata": {"a": "b"}}
    assert options.priority == "low"
    assert options.submitter is not None


async def test_openai_tools():
    service = FakeService(completion=CALLS)

    def use(client):
        tools = [
            {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}
        ]
        first = client.chat.completions.create(
            model="m", messages=USER, tools=tools, tool_choice="required"
        )
        (call,) = first.choices[0].message.tool_calls
        result = {"role": "tool", "tool_call_id": call.id, "content": "rain"}
        client.chat.completions.create(
            model="m", messages=[*USER, first.choices[0].message, result], tools=tools
        )
        return call

    async with on_a_socket(service, with_openai, use) as call:
        assert call.function.name == "weather"
        assert call.function.arguments == '{"city": "Ulm"}'
    (_, (second, _)) = service.asked
    assert second.messages[1].parts == CALLS.choices[0].parts
    (result,) = second.messages[2].parts
    assert result == ToolResult(tool_call_id="call_1", content=(TextPart(text="rain"),))
    # Whatever the SDK sent back of the reply, another format can be told.
    assert second.messages[1].extra == {}


async def test_openai_stream():
    def use(client):
        with client.chat.completions.stream(
            model="m", messages=USER, stream_options={"include_usage": True}
        ) as stream:
            return stream.get_final_completion()

    service = FakeService(batches=RICH_BATCHES)
    async with on_a_socket(service, with_openai, use) as reply:
        (choice,) = reply.choices
        assert choice.message.content == "Grüße"
        assert choice.finish_reason == "tool_calls"
        calls = [
            (call.id, call.function.name, call.function.arguments)
            for call in choice.message.tool_calls
        ]
        assert calls == [
            ("call_1", "weather", '{"city": "Ulm"}'),
            ("call_2", "time", "{}"),
        ]
        assert reply.usage.total_tokens == USAGE.total_tokens


async def test_openai_errors():
    def use(client):
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="m", messages=USER)
        return caught.value

    error = RateLimited("slow down", retry_after=3)
    async with on_a_socket(FakeService(error=error), with_openai, use) as raised:
        assert raised.code == "rate_limited"
        assert raised.response.headers["retry-after"] == "3"

    def use_badly(client):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="m", messages=[], n=0)
        return caught.value

    async with on_a_socket(FakeService(), with_openai, use_badly) as raised:
        assert raised.param in {"messages", "n"}


async def test_openai_raises_when_a_stream_fails():
    def use(client):
        said = []
        with pytest.raises(openai.APIError, match="cut off") as caught:
            for chunk in client.chat.completions.create(
                model="m", messages=USER, stream=True
            ):
                said.append(chunk.choices[0].delta.content)  # noqa: PERF401 - it raises in between
        return said, caught.value

    service = FakeService(stream_error=BadProviderResponse("cut off"))
    async with on_a_socket(service, with_openai, use) as (said, error):
        assert "".join(filter(None, said)) == "quack"
        assert error.code == "bad_provider_response"


async def test_openai_embeddings_and_models():
    def use(client):
        # The SDK asks for base64 unless it is told otherwise.
        vectors = client.embeddings.create(model="e", input=["a", "b"])
        models = [model.id for model in client.models.list()]
        one = client.models.retrieve("meta/llama-3")
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("nope")
        return vectors, models, one

    async with on_a_socket(FakeService(), with_openai, use) as (vectors, models, one):
        assert [item.embedding for item in vectors.data] == [[0.5, -0.25, 1.0]] * 2
        assert models == ["gpt-4o", "meta/llama-3"]
        assert one.id == "meta/llama-3"


async def test_anthropic_messages():
    completion = Completion(
        id="c1",
        model="claude-1",
        usage=USAGE,
        choices=(
            Choice(
                parts=(ReasoningPart(text="hm", signature="s"), TextPart(text="hey")),
                native_finish_reason="end_turn",
            ),
        ),
    )
    service = FakeService(completion=completion)

    def use(client):
        source = {"type": "base64", "media_type": "image/png", "data": PNG}
        content = [{"type": "image", "source": source}]
        first = client.messages.create(
            model="claude",
            max_tokens=2048,
            system="be brief",
            messages=[{"role": "user", "content": content}],
            thinking={"type": "enabled", "budget_tokens": 1024},
        )
        again = [{"role": "assistant", "content": first.content}, *USER]
        client.messages.create(model="claude", max_tokens=5, messages=again)
        count = client.messages.count_tokens(model="claude", messages=USER)
        return first, count

    async with on_a_socket(service, with_anthropic, use) as (reply, count):
        assert [block.type for block in reply.content] == ["thinking", "text"]
        assert reply.model == "claude-1"
        assert reply.stop_reason == "end_turn"
        assert reply.usage.input_tokens == 5
        assert reply.usage.cache_read_input_tokens == 4
        assert reply._request_id == "made-1"
        assert count.input_tokens == 42
    (first, _), (again, _), _ = service.asked
    assert first.messages[1].parts == (ImagePart(data=PNG, media_type="image/png"),)
    assert again.messages[0].parts == completion.choices[0].parts


async def test_anthropic_tools():
    def use(client):
        return client.messages.create(
            model="claude",
            max_tokens=5,
            messages=USER,
            tools=[{"name": "weather", "input_schema": SCHEMA}],
            tool_choice={"type": "tool", "name": "weather"},
        )

    service = FakeService(completion=CALLS)
    async with on_a_socket(service, with_anthropic, use) as reply:
        text, call = reply.content
        assert text.text == "one moment"
        assert (call.id, call.name, call.input) == (
            "call_1",
            "weather",
            {"city": "Ulm"},
        )
        assert reply.stop_reason == "tool_use"


async def test_anthropic_stream():
    def use(client):
        with client.messages.stream(
            model="claude", max_tokens=5, messages=USER
        ) as stream:
            return stream.get_final_message()

    service = FakeService(batches=RICH_BATCHES)
    async with on_a_socket(service, with_anthropic, use) as reply:
        thinking, text, weather, time = reply.content
        assert (thinking.thinking, thinking.signature) == ("let me think", "sig")
        assert text.text == "Grüße"
        assert (weather.name, weather.input) == ("weather", {"city": "Ulm"})
        assert (time.id, time.input) == ("call_2", {})
        assert reply.stop_reason == "tool_use"
        assert reply.usage.input_tokens == 5
        assert reply.usage.output_tokens == 3


async def test_anthropic_errors():
    def use(client):
        with pytest.raises(anthropic.NotFoundError) as caught:
            client.messages.create(model="claude", max_tokens=5, messages=USER)
        return caught.value

    service = FakeService(error=ModelNotFound("no such model"))
    async with on_a_socket(service, with_anthropic, use) as error:
        assert error.body["error"]["type"] == "not_found_error"
        assert error.request_id == "made-1"


async def test_anthropic_raises_when_a_stream_fails():
    def use(client):
        said = []
        with (
            pytest.raises(anthropic.APIStatusError, match="cut off"),
            client.messages.stream(
                model="claude", max_tokens=5, messages=USER
            ) as stream,
        ):
            said.extend(stream.text_stream)
        return said

    service = FakeService(stream_error=BadProviderResponse("cut off"))
    async with on_a_socket(service, with_anthropic, use) as said:
        assert "".join(said) == "quack"


async def test_anthropic_reads_the_models_too():
    def use(client):
        return [model.id for model in client.models.list()]

    async with on_a_socket(FakeService(), with_anthropic, use) as models:
        assert models == ["gpt-4o", "meta/llama-3"]
