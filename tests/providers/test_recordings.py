"""Recorded answers are understood as the providers' own SDKs understood them."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest

from duckservice.completion import Usage
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
    RateLimited,
    RequestTooLarge,
)
from duckservice.gateway.wire.anthropic_messages import decode_messages
from duckservice.gateway.wire.openai_chat import decode_chat
from duckservice.providers.anthropic import AnthropicDialect
from duckservice.providers.failures import Classifier
from duckservice.providers.openai import OpenAIDialect
from tests.providers import understanding
from tests.providers.understanding import Said, json_or_text
from tests.recordings import Record, cut, load, needs_recordings, response_parts

pytestmark = needs_recordings

APIS = {"anthropic": "anthropic.messages"}
"""Where it is not chat_completions."""

LEAST = {"openai": 170, "anthropic": 230}
"""Exchanges that must be judged, so that none cannot pass for all."""

COMPATIBLE = (
    "azure",
    "deepseek",
    "groq",
    "huggingface",
    "llamacpp",
    "mistral",
    "openai_compat",
    "openrouter",
    "together",
    "xai",
)

SEVERAL_MESSAGES = {"75f59766ef", "64df8b02f7", "7869e0dca3"}
"""Bodies that hold the answers of several requests, one behind the other. The
SDK adds them up; we end with the first ``message_stop``."""

RESTARTED = {"22b6736ba4"}
"""A message that begins anew in the middle of a tool call. The SDK makes broken
arguments of it (``Spark{``); we say that it is no answer."""

ERRORS = {
    "BadRequestError": (InvalidRequest, ContextLengthExceeded, ContentFiltered),
    "AuthenticationError": (ProviderAuthError,),
    "NotFoundError": (ModelNotFound,),
    "RateLimitError": (RateLimited, QuotaExceeded),
    "InternalServerError": (ProviderError,),
    "OverloadedError": (ProviderError,),
    "APIStatusError": (ProviderError, RequestTooLarge, QuotaExceeded),
    "APIError": (ProviderError, InvalidRequest),
}


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_every_recorded_answer_is_understood_as_by_the_providers_own_sdk(provider):
    records = chats(provider)
    kinds = Counter(record.operation for record in records)
    assert len(records) >= LEAST[provider]
    assert min(kinds[k] for k in ("chat", "error", "stream", "tools", "vision")) >= 5
    for record in records:
        if record.id not in SEVERAL_MESSAGES | RESTARTED:
            judge(record, understand(record))


def test_an_answer_ends_with_its_end_whatever_comes_behind_it():
    by_id = {record.id: record for record in chats("anthropic")}
    for record_id in SEVERAL_MESSAGES:
        understood = understand(by_id[record_id])
        assert not isinstance(understood, DuckError)
        assert understood[0][0].native_finish_reason == "tool_use"
    for record_id in RESTARTED:
        assert type(understand(by_id[record_id])) is BadProviderResponse


@pytest.mark.parametrize("provider", ["openai", "anthropic", "huggingface", "mistral"])
def test_any_way_to_cut_the_bytes_gives_the_same_chunks(provider):
    streams = [r for r in chats(provider) if r.streaming]
    assert streams
    for record in streams[:40]:
        seen = {repr(understand(record, seed)) for seed in range(3)}
        assert len(seen) == 1


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_recorded_stream_cut_short_is_never_taken_for_complete(provider):
    chance = random.Random(0)
    checked = 0
    for record in chats(provider):
        if not record.streaming or not record.expected["ok"]:
            continue
        body = response_parts(record)[2]
        marker = b"[DONE]" if provider == "openai" else b'"message_stop"'
        end = body.index(marker)
        for _ in range(5):
            stream = dialect_of(record).open_stream()
            stream.feed(body[: chance.randrange(end)])
            with pytest.raises(BadProviderResponse):
                stream.close()
            checked += 1
    assert checked > 200


@pytest.mark.parametrize("provider", COMPATIBLE)
def test_the_answers_of_compatible_servers_are_understood(provider):
    records = chats(provider)
    assert records
    for record in records:
        judge(record, understand(record))


@pytest.mark.parametrize(
    ("provider", "read", "least"),
    [("openai", decode_chat, 150), ("anthropic", decode_messages, 180)],
)
def test_a_recorded_request_goes_on_as_it_came(provider, read, least):
    judged = 0
    for record in chats(provider):
        body = record.request.get("body")
        if not isinstance(body, dict) or "functions" in body:
            continue
        try:
            wire = read(json.dumps(body).encode())
        except InvalidRequest:
            continue  # what the gateway takes has its own tests
        dialect = dialect_of(record)
        dialect.check(wire.request)
        sent = json.loads(dialect.encode(wire.request, stream=wire.stream))
        assert normal(sent) == normal(body), record
        judged += 1
    assert judged >= least


def chats(provider: str) -> list[Record]:
    api = APIS.get(provider, "chat_completions")
    return [r for r in load(provider) if r.api == api and r.expected is not None]


def dialect_of(record: Record) -> OpenAIDialect | AnthropicDialect:
    errors = Classifier(record.provider, wall_clock=lambda: 1_700_000_000.0)
    if record.api == "anthropic.messages":
        return AnthropicDialect(provider=record.provider, errors=errors)
    lenient = record.provider != "openai"
    return OpenAIDialect(provider=record.provider, errors=errors, lenient=lenient)


def understand(
    record: Record, seed: int = 0
) -> tuple[list[Said], Usage | None] | DuckError:
    dialect = dialect_of(record)
    status, headers, body = response_parts(record)
    if status >= 400:
        return dialect.errors(status, headers, body)
    try:
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


def judge(record: Record, understood: object) -> None:
    expected = record.expected
    assert expected is not None
    if record.id in DELIBERATE:
        assert DELIBERATE[record.id](understood), record
        return
    if not expected["ok"]:
        assert isinstance(understood, DuckError), record
        judge_error(record, understood)
        return
    assert not isinstance(understood, DuckError), (record, understood)
    choices, usage = understood
    assert len(choices) == len(expected["choices"]), record
    for said, wanted in zip(choices, expected["choices"], strict=True):
        judge_choice(record, said, wanted)
    if expected.get("usage"):
        assert usage is not None, record
        judge_usage(record, usage, expected["usage"])


def judge_choice(record: Record, said: Said, wanted: dict) -> None:
    assert json_or_text(said.text) == json_or_text(wanted.get("text") or ""), record
    assert said.reasoning == (wanted.get("reasoning") or ""), record
    assert said.refusal == (wanted.get("refusal") or ""), record
    assert said.native_finish_reason == wanted.get("finish_reason"), record
    assert said.stop_sequence == wanted.get("stop_sequence"), record
    calls = said.tool_calls()
    assert len({own_id for own_id, _, _ in calls}) == len(calls), record
    wanted_calls = wanted.get("tool_calls", [])
    assert len(calls) == len(wanted_calls), record
    for (own_id, name, arguments), call in zip(calls, wanted_calls, strict=True):
        # Legacy function calls, and one of Mistral's, have no id: we make one up.
        assert own_id == call["id"] or call["id"] in (None, "null"), record
        assert name == call["name"], record
        assert arguments == json_or_text(call["arguments"]), record


def judge_usage(record: Record, usage: Usage, wanted: dict) -> None:
    read = wanted.get("cached_input_tokens", 0)
    written = wanted.get("cache_write_tokens", 0)
    reasoning = wanted.get("reasoning_tokens", 0)
    whole_input, whole_output = wanted["input_tokens"], wanted["output_tokens"]
    if record.provider == "anthropic":  # it leaves cached tokens out
        whole_input += read + written
    elif wanted.get("total_tokens") == whole_input + whole_output + reasoning:
        whole_output += reasoning  # xAI leaves reasoning out
    assert usage.input_tokens == whole_input, record
    assert usage.output_tokens == whole_output, record
    # Some answers break every rule; no part is larger than its whole.
    assert usage.cached_tokens == min(read, whole_input), record
    assert usage.cache_write_tokens == min(
        written, whole_input - min(read, whole_input)
    )
    if "reasoning_tokens" in wanted:
        assert usage.reasoning_tokens == min(reasoning, whole_output), record


def judge_error(record: Record, error: DuckError) -> None:
    wanted = record.expected["error"]
    assert error.provider == record.provider
    kinds = ERRORS.get(wanted["exception"])
    if kinds is None:  # Mistral's SDK has one class for all
        return
    if record.id in OTHERWISE:
        assert type(error).__name__ == OTHERWISE[record.id], record
        return
    assert isinstance(error, kinds), (record, error)
    would_retry = wanted.get("sdk_would_retry")
    if would_retry is not None and type(error) is not QuotaExceeded:
        # SDKs retry an empty account in vain; we do not.
        assert error.retryable == would_retry, (record, error)
    hint = wanted.get("sdk_retry_after_s")
    if hint is not None:
        assert error.retry_after == hint, record


OTHERWISE = {
    # The model wrote a call that Groq refuses: not the caller's fault.
    "f36caa4c49": "ProviderError",
    "84bad21a73": "ProviderError",  # Azure: no such path, a wrong base_url
    "b0115559af": "ProviderError",
    "8a00663229": "ModelNotFound",  # OpenRouter: a 400
}

DELIBERATE = {
    # Azure: an error inside of a 200, which the SDK takes for an answer.
    "51ab4ed786": lambda got: isinstance(got, ContentFiltered),
    # A function_call that is empty is none.
    "a9cd2b141e": lambda got: got[0][0].text == "4" and not got[0][0].calls,
    # Mistral's SDK adds two choices up.
    "1abc31a988": lambda got: [said.text for said in got[0]] == MISTRAL_TWO,
    "df448afe0e": lambda got: len(got[0]) == 2,
}

MISTRAL_TWO = ["Aardvark", "Whisper"]


def normal(body: dict) -> dict:
    """Return a request's body with all that says the same in the same words."""
    body = without_nothing(body)
    if "max_completion_tokens" in body:
        body["max_tokens"] = body.pop("max_completion_tokens")
    if not body.get("stream"):
        body.pop("stream", None)
    body.pop("stream_options", None)  # always asked for the usage; tested elsewhere
    if isinstance(body.get("stop"), str):
        body["stop"] = [body["stop"]]
    if "system" in body:
        body["system"] = as_blocks(body["system"])
    for message in body["messages"]:
        message["content"] = as_blocks(message.get("content"))
        for block in message["content"]:
            if block.get("type") == "tool_result":
                block["content"] = as_blocks(block.get("content"))
        for call in message.get("tool_calls", ()):
            call.pop("index", None)  # of a stream's delta, sent back as it was
    return body


def as_blocks(content: object) -> list:
    match content:
        case None:
            return []
        case str():
            return [{"type": "text", "text": content}]
        case list():
            return content


def without_nothing(value: object) -> object:
    match value:
        case dict():
            return {
                k: without_nothing(v)
                for k, v in value.items()
                if v is not None and v != [] and (k, v) != ("is_error", False)
            }
        case list():
            return [without_nothing(item) for item in value]
        case _:
            return value
