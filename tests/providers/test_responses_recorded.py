from __future__ import annotations

import json
import random
from collections import Counter

import attrs
import pytest

from duckservice.completion import (
    ChatRequest,
    OpaquePart,
    ReasoningPart,
    RefusalPart,
    TextDelta,
    TextPart,
    ToolCall,
    ToolResult,
    Usage,
    UsageReport,
)
from duckservice.errors import (
    BadProviderResponse,
    ContentFiltered,
    ContextLengthExceeded,
    DuckError,
    InvalidRequest,
    ModelNotFound,
    ProviderAuthError,
    ProviderError,
    QuotaExceeded,
)
from duckservice.gateway.wire.anthropic_messages import decode_messages
from duckservice.gateway.wire.openai_chat import decode_chat
from duckservice.providers import openai_variant
from duckservice.providers.failures import Classifier
from duckservice.providers.openai import OpenAIDialect
from duckservice.providers.openai_variant import billed_in_ticks, billed_in_usd
from tests.providers import understanding
from tests.providers.responses_api import (
    COMPATIBLE,
    ERRORS,
    dialect_of,
    sent,
)
from tests.providers.understanding import json_or_text
from tests.recordings import Record, cut, load, needs_recordings, response_parts

PROVIDERS = {
    "azure": 25,
    "bedrock": 14,
    "deepseek": 13,
    "llamacpp": 1,
    "openai": 206,
    "openrouter": 7,
    "xai": 39,
}
"""How many exchanges of each must be judged, so that none cannot pass for all."""

SEVERAL_RESPONSES = "720443cf16"
"""A body that holds the answers of four requests, one behind the other. The SDK
takes the last; we end with the first."""

ERRORS_BY_SDK = {
    "BadRequestError": (
        InvalidRequest,
        ContextLengthExceeded,
        ContentFiltered,
        ModelNotFound,
        ProviderAuthError,  # xAI's is a 400
        QuotaExceeded,  # and so is one of OpenAI's
    ),
    "AuthenticationError": (ProviderAuthError,),
    "APIError": (ProviderError,),
}


def recorded(provider: str, api: str = "responses") -> list[Record]:
    return [r for r in load(provider) if r.api == api and r.expected is not None]


def dialect_for(record: Record):
    errors = Classifier(record.provider)
    known = record.provider in ("openai", "azure")
    adapter = record.provider if known else "openai-compatible"
    return dialect_of(adapter, errors=errors)


def understand(record: Record, seed: int = 0):
    dialect = dialect_for(record)
    status, headers, body = response_parts(record)
    try:
        if status >= 400:
            raise dialect.errors(status, headers, body)
        if not record.streaming:
            return understanding.of_completion(dialect.decode(body))
        stream = dialect.open_stream()
        chunks = []
        for piece in cut(body, random.Random(seed)):
            chunks += stream.feed(piece)
            if stream.ended:
                break
        chunks += stream.close()
        return understanding.of_chunks(chunks)
    except DuckError as error:
        return error


@needs_recordings
@pytest.mark.parametrize("provider", PROVIDERS)
def test_every_recorded_response_is_understood_as_by_the_sdk(provider):
    records = recorded(provider)
    assert len(records) == PROVIDERS[provider]
    for record in records:
        if record.id != SEVERAL_RESPONSES:
            judge(record, understand(record))


def judge(record: Record, understood) -> None:
    expected = record.expected
    assert expected is not None
    if not expected["ok"]:
        wanted = expected["error"]
        assert isinstance(understood, ERRORS_BY_SDK[wanted["exception"]]), record
        if "sdk_would_retry" in wanted:
            assert understood.retryable == wanted["sdk_would_retry"], record
        return
    assert not isinstance(understood, DuckError), (record, understood)
    (said,), usage = understood
    (wanted,) = expected["choices"]
    assert json_or_text(said.text) == json_or_text(wanted.get("text") or ""), record
    assert said.reasoning == (wanted.get("reasoning") or ""), record
    assert said.refusal == (wanted.get("refusal") or ""), record
    assert said.native_finish_reason == wanted["finish_reason"], record
    assert said.tool_calls() == [
        (call["id"], call["name"], json_or_text(call["arguments"]))
        for call in wanted.get("tool_calls", ())
    ], record
    judge_usage(record, usage, expected["usage"])


def judge_usage(record: Record, usage: Usage, wanted: dict) -> None:
    assert usage.input_tokens == wanted["input_tokens"], record
    assert usage.output_tokens == wanted["output_tokens"], record  # xAI's too
    assert usage.cached_tokens == wanted.get("cached_input_tokens", 0), record
    assert usage.reasoning_tokens == wanted.get("reasoning_tokens", 0), record


@needs_recordings
def test_a_recorded_body_ends_with_its_end_whatever_comes_behind_it():
    (record,) = [r for r in recorded("openai") if r.id == SEVERAL_RESPONSES]
    (said,), usage = understand(record)
    assert said.finish_reason == "tool_calls"
    assert usage.input_tokens == 134


@needs_recordings
def test_recorded_items_that_are_not_ours_are_kept():
    seen = Counter()
    for record in (r for p in PROVIDERS for r in recorded(p)):
        wanted = (record.expected or {}).get("other_items")
        if not wanted:
            continue
        dialect = dialect_for(record)
        body = response_parts(record)[2]
        if record.streaming:
            stream = dialect.open_stream()
            chunks = stream.feed(body) + stream.close()
            kept = [
                chunk.extra["output_item"]["type"]
                for chunk in chunks
                if isinstance(chunk, TextDelta) and "output_item" in chunk.extra
            ]
        else:
            kept = [
                part.value["type"]
                for part in dialect.decode(body).choices[0].parts
                if isinstance(part, OpaquePart)
            ]
        assert set(kept) == set(wanted), record
        seen.update(set(kept))
    assert len(seen) >= 8


@needs_recordings
@pytest.mark.parametrize("provider", ["openai", "azure", "xai", "openrouter"])
def test_any_way_to_cut_recorded_bytes_gives_the_same(provider):
    for record in recorded(provider):
        if record.streaming:
            assert len({repr(understand(record, seed)) for seed in range(3)}) == 1


@needs_recordings
def test_a_recorded_stream_cut_short_is_never_taken_for_complete():
    chance = random.Random(0)
    streams = [
        r for p in PROVIDERS for r in recorded(p) if r.streaming and r.expected["ok"]
    ]
    assert len(streams) > 100
    for record in streams:
        body = response_parts(record)[2]
        ends = [b'"type":"response.completed"', b'"type":"response.incomplete"']
        bare = body.replace(b'"type": "', b'"type":"')
        end = min(at for mark in ends if (at := bare.find(mark)) > 0)
        for _ in range(3):
            stream = dialect_for(record).open_stream()
            stream.feed(bare[: chance.randrange(end)])
            with pytest.raises(BadProviderResponse):
                stream.close()


@needs_recordings
@pytest.mark.parametrize(
    ("provider", "billed", "least"),
    [("xai", billed_in_ticks, 30), ("openrouter", billed_in_usd, 5)],
)
def test_what_a_server_says_that_it_charges_is_read(provider, billed, least):
    told = 0
    beside = OpenAIDialect(
        provider="duck",
        errors=ERRORS,
        variant=attrs.evolve(openai_variant.COMPATIBLE, billed=billed),
    )
    dialect = attrs.evolve(COMPATIBLE, beside=beside)
    for record in recorded(provider):
        body = response_parts(record)[2]
        if b'"cost' not in body:
            continue
        if record.streaming:
            stream = dialect.open_stream()
            report = (stream.feed(body) + stream.close())[-1]
            assert isinstance(report, UsageReport)
            usage = report.usage
        else:
            usage = dialect.decode(body).usage
        assert usage.billed is not None
        told += 1
    assert told >= least


@needs_recordings
def test_recorded_counts_are_read():
    records = recorded("openai", "responses.input_tokens")
    assert len(records) == 4
    for record in records:
        counting = dialect_for(record).counting
        count = counting.decode(response_parts(record)[2])
        assert count == record.expected["input_tokens"]


@needs_recordings
@pytest.mark.parametrize(
    ("provider", "read", "least"),
    [("openai", decode_chat, 150), ("anthropic", decode_messages, 100)],
)
def test_what_is_sent_for_recorded_chats_says_what_they_say(provider, read, least):
    """Their texts, calls and results, in their order, and no other."""
    judged = 0
    for record in load(provider):
        body = record.request.get("body")
        if not isinstance(body, dict) or "messages" not in body:
            continue
        try:
            request = read(json.dumps(body).encode()).request
            said = sent(attrs.evolve(request, stop=(), seed=None), COMPATIBLE)
        except InvalidRequest:
            continue  # refused by name, which has its own tests
        assert words_of_items(said["input"]) == words_of(request), record
        judged += 1
    assert judged >= least


def words_of(request: ChatRequest) -> list:
    words = []
    for each in request.messages:
        for part in each.parts:
            match part:
                case TextPart(text=text) | RefusalPart(text=text):
                    words += [text] if text else []
                case ReasoningPart(text=text):
                    words.append(("thought", text))
                case ToolCall():
                    words.append((part.id, part.name, part.arguments))
                case ToolResult(content=content):
                    words.append(part.tool_call_id)
                    words += [p.text for p in content if isinstance(p, TextPart)]
                case _:
                    continue
    return words


def words_of_items(said: list) -> list:
    words = []
    for item in said:
        match item:
            case {"type": "function_call"}:
                words.append((item["call_id"], item["name"], item["arguments"]))
            case {"type": "function_call_output", "output": output}:
                words += [item["call_id"], *texts_of(output)]
            case {"type": "reasoning", "summary": summary}:
                parts = summary or item["content"]
                words.append(("thought", "".join(part["text"] for part in parts)))
            case {"content": content}:
                words += [text for text in texts_of(content) if text]
    return words


def texts_of(content) -> list:
    if isinstance(content, str):
        return [content]
    return [
        part.get("text", part.get("refusal"))
        for part in content
        if "text" in part or "refusal" in part
    ]
