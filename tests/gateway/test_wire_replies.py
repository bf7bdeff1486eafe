from __future__ import annotations

import json

import pytest
from anthropic.types import Message as AnthropicMessage
from hypothesis import given, settings
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion

from duckservice.completion import (
    Choice,
    Completion,
    Embeddings,
    ImagePart,
    ModelInfo,
    OpaquePart,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCall,
    Usage,
)
from duckservice.errors import BadProviderResponse, InvalidRequest
from duckservice.gateway.wire import anthropic_reply, openai_reply
from duckservice.gateway.wire.models import encode_model, encode_models
from duckservice.gateway.wire.openai_embeddings import (
    decode_embedding,
    encode_embeddings,
)
from tests.gateway import strategies as values

USAGE = Usage(
    input_tokens=100,
    output_tokens=20,
    cached_tokens=30,
    cache_write_tokens=10,
    reasoning_tokens=5,
)


def completion(*parts, **choice) -> Completion:
    return Completion(
        id="c1", model="m-1", usage=USAGE, choices=(Choice(parts=parts, **choice),)
    )


def to_openai(value: Completion, **options):
    return json.loads(openai_reply.encode_completion(value, **options))


def to_anthropic(value: Completion):
    return json.loads(anthropic_reply.encode_completion(value))


def test_an_openai_reply_has_all_of_it():
    call = ToolCall(id="t1", name="f", arguments='{"a": 1}')
    value = completion(
        ReasoningPart(text="hm", signature="s"),
        TextPart(text="Hel"),
        TextPart(text="lo"),
        call,
        finish_reason="tool_calls",
        extra={"logprobs": {"content": []}, "annotations": [1], "index": 7, "x": 1},
    )
    body = {"choices": [], "system_fingerprint": "fp", "service_tier": "flex"}
    value = Completion(
        id=value.id, model=value.model, choices=value.choices, usage=USAGE, extra=body
    )
    assert to_openai(value, now=1_700_000_000.9) == {
        "id": "c1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "m-1",
        "system_fingerprint": "fp",
        "service_tier": "flex",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "Hello",
                    "refusal": None,
                    "reasoning_content": "hm",
                    "annotations": [1],
                    "tool_calls": [
                        {
                            "id": "t1",
                            "type": "function",
                            "function": {"name": "f", "arguments": '{"a": 1}'},
                        }
                    ],
                },
                "logprobs": {"content": []},
                "finish_reason": "tool_calls",
                "x": 1,
            }
        ],
        "usage": {
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "total_tokens": 120,
            "prompt_tokens_details": {"cached_tokens": 30, "cache_write_tokens": 10},
            "completion_tokens_details": {"reasoning_tokens": 5},
        },
    }


SIGNED = {"extra_content": {"google": {"thought_signature": "c2ln"}}}


def test_what_must_come_back_with_a_call_goes_out_with_it():
    call = ToolCall(id="t1", name="f", arguments="{}", extra=SIGNED | {"caller": 1})
    [choice] = to_openai(completion(call))["choices"]
    assert choice["message"]["tool_calls"] == [
        {
            "id": "t1",
            "type": "function",
            "function": {"name": "f", "arguments": "{}"},
            **SIGNED,
        }
    ]
    [block] = to_anthropic(completion(call))["content"]
    assert block == {"type": "tool_use", "id": "t1", "name": "f", "input": {}}


def test_what_must_come_back_with_a_text_goes_out_with_the_message():
    value = completion(TextPart(text="hi"), extra=SIGNED)
    [choice] = to_openai(value)["choices"]
    assert choice["message"]["extra_content"] == SIGNED["extra_content"]
    assert "extra_content" not in to_anthropic(value)


def test_pictures_of_a_reply_are_in_the_message():
    value = completion(
        TextPart(text="look"), ImagePart(data="QUJD", media_type="image/png")
    )
    [choice] = to_openai(value)["choices"]
    assert choice["message"]["images"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}
    ]


def test_a_call_of_an_old_function_goes_back_as_one():
    call = ToolCall(id="t1", name="f", arguments="{}")
    body = to_openai(
        completion(call, finish_reason="tool_calls"), legacy_functions=True
    )
    choice = body["choices"][0]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "f", "arguments": "{}"}
    assert "tool_calls" not in choice["message"]


@pytest.mark.parametrize(
    ("reason", "native", "openai", "anthropic"),
    [
        ("stop", None, "stop", "end_turn"),
        ("stop", "end_turn", "stop", "end_turn"),
        ("stop", "pause_turn", "stop", "pause_turn"),
        ("tool_calls", "stop", "tool_calls", "tool_use"),
        ("tool_calls", "tool_use", "tool_calls", "tool_use"),
        ("length", "MAX_TOKENS", "length", "max_tokens"),
        ("length", "model_context_window_exceeded", "length", "as native"),
        ("content_filter", "refusal", "content_filter", "refusal"),
        ("content_filter", "SAFETY", "content_filter", "refusal"),
    ],
)
def test_finish_reasons_are_in_the_clients_words(reason, native, openai, anthropic):
    value = completion(finish_reason=reason, native_finish_reason=native)
    assert to_openai(value)["choices"][0]["finish_reason"] == openai
    expected = native if anthropic == "as native" else anthropic
    assert to_anthropic(value)["stop_reason"] == expected


def test_an_anthropic_reply_has_all_of_it():
    server = {"type": "server_tool_use", "id": "s", "name": "x", "input": {}}
    value = completion(
        ReasoningPart(text="hm", signature="sig"),
        ReasoningPart(redacted="xyz"),
        TextPart(text="a", extra={"citations": [1]}),
        ToolCall(id="t1", name="f", arguments='{"n": 12345678901234567890.5}'),
        ToolCall(id="t2", name="g", arguments=""),
        OpaquePart(format="anthropic", value=server),
        OpaquePart(format="openai", value={"type": "audio"}),
        finish_reason="tool_calls",
        extra={"stop_details": None, "logprobs": {}},
    )
    raw = anthropic_reply.encode_completion(value)
    assert b'{"n": 12345678901234567890.5}' in raw
    assert json.loads(raw) == {
        "id": "c1",
        "type": "message",
        "role": "assistant",
        "model": "m-1",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "sig"},
            {"type": "redacted_thinking", "data": "xyz"},
            {"type": "text", "text": "a", "citations": [1]},
            {
                "type": "tool_use",
                "id": "t1",
                "name": "f",
                "input": {"n": 12345678901234567890.5},
            },
            {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
            server,
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "stop_details": None,
        "usage": {
            "input_tokens": 60,
            "cache_creation_input_tokens": 10,
            "cache_creation": {
                "ephemeral_5m_input_tokens": 10,
                "ephemeral_1h_input_tokens": 0,
            },
            "cache_read_input_tokens": 30,
            "output_tokens": 20,
            "output_tokens_details": {"thinking_tokens": 5},
        },
    }


def test_a_refusal_reads_as_one_in_both_formats():
    value = completion(RefusalPart(text="no"))
    message = to_openai(value)["choices"][0]["message"]
    assert (message["refusal"], message["content"]) == ("no", None)
    body = to_anthropic(value)
    assert body["content"] == [{"type": "text", "text": "no"}]
    assert body["stop_reason"] == "refusal"


def test_a_stop_sequence_is_told():
    body = to_anthropic(completion(stop_sequence="END"))
    assert (body["stop_reason"], body["stop_sequence"]) == ("stop_sequence", "END")


@pytest.mark.parametrize("arguments", ["{", "[]", "null", "[" * 100_000])
def test_arguments_that_are_no_object_are_a_bad_response_to_anthropic(arguments):
    value = completion(ToolCall(id="t", name="f", arguments=arguments))
    with pytest.raises(BadProviderResponse, match="'f'"):
        anthropic_reply.encode_completion(value)
    call = to_openai(value)["choices"][0]["message"]["tool_calls"][0]
    assert call["function"]["arguments"] == arguments


def test_cached_tokens_never_make_input_negative():
    odd = Completion(
        id="c", model="m", choices=(), usage=Usage(input_tokens=1, cached_tokens=9)
    )
    assert to_anthropic(odd)["usage"]["input_tokens"] == 0


@given(value=values.completions())
@settings(max_examples=100, deadline=None)
def test_the_openai_sdk_understands_every_completion(value):
    reply = ChatCompletion.model_validate_json(openai_reply.encode_completion(value))
    assert (reply.id, reply.model) == (value.id, value.model)
    assert len(reply.choices) == len(value.choices)
    for got, choice in zip(reply.choices, value.choices, strict=True):
        assert got.index == choice.index
        assert (got.message.content or "") == choice.text
        thought = got.message.model_extra.get("reasoning_content", "")
        assert thought == choice.reasoning
        calls = [
            (call.id, call.function.name, call.function.arguments)
            for call in got.message.tool_calls or []
        ]
        expected = [(c.id, c.name, c.arguments) for c in choice.tool_calls]
        assert calls == expected
    assert reply.usage.total_tokens == value.usage.total_tokens
    details = reply.usage.completion_tokens_details
    assert details.reasoning_tokens == value.usage.reasoning_tokens


@given(value=values.completions(choices_max=1))
@settings(max_examples=100, deadline=None)
def test_the_anthropic_sdk_understands_every_completion(value):
    reply = AnthropicMessage.model_validate_json(
        anthropic_reply.encode_completion(value)
    )
    (choice,) = value.choices
    said = "".join(block.text for block in reply.content if block.type == "text")
    refusal = "".join(p.text for p in choice.parts if isinstance(p, RefusalPart))
    assert sorted(said) == sorted(choice.text + refusal)
    calls = [(b.id, b.name, b.input) for b in reply.content if b.type == "tool_use"]
    assert calls == [(c.id, c.name, json.loads(c.arguments)) for c in choice.tool_calls]
    usage = reply.usage
    assert (
        usage.input_tokens
        + usage.cache_read_input_tokens
        + usage.cache_creation_input_tokens
        == value.usage.input_tokens
    )
    assert usage.output_tokens == value.usage.output_tokens


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("one", ("one",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
    ],
)
def test_embedding_inputs_are_read(given_, expected):
    body = {"model": "e", "input": given_, "dimensions": 8, "extra": 1}
    wire = decode_embedding(json.dumps(body).encode())
    assert wire.request.input == expected
    assert wire.request.dimensions == 8
    assert wire.request.extra == {"extra": 1}
    assert not wire.base64


@pytest.mark.parametrize(
    "given_",
    [None, [], 5, [[]], ["a", 1], [1, "a"], [-1], [[1.5]], [True], ["a"] * 2049],
)
def test_embedding_inputs_that_make_no_sense_are_refused(given_):
    with pytest.raises(InvalidRequest, match="input"):
        decode_embedding(json.dumps({"model": "e", "input": given_}).encode())


def test_an_unknown_encoding_of_embeddings_is_refused():
    body = {"model": "e", "input": "x", "encoding_format": "int8"}
    with pytest.raises(InvalidRequest, match="encoding_format"):
        decode_embedding(json.dumps(body).encode())


def test_embeddings_are_written_as_numbers_or_base64():
    value = Embeddings(model="e", vectors=((0.5, -2.0), (1.0, 0.1)), usage=USAGE)
    plain = CreateEmbeddingResponse.model_validate_json(
        encode_embeddings(value, base64=False)
    )
    assert [item.embedding for item in plain.data] == [[0.5, -2.0], [1.0, 0.1]]
    assert plain.usage.prompt_tokens == 100
    coded = json.loads(encode_embeddings(value, base64=True))
    assert coded["data"][0]["embedding"] == "AAAAPwAAAMA="


def test_models_are_written_for_both_sdks():
    models = (ModelInfo(id="a", created=10**18, owned_by="o"), ModelInfo(id="b/c"))
    body = json.loads(encode_models(models))
    assert body["object"] == "list"
    assert body["has_more"] is False
    assert (body["first_id"], body["last_id"]) == ("a", "b/c")
    assert json.loads(encode_model(models[1])) == body["data"][1]
    assert body["data"][1]["created_at"] == "1970-01-01T00:00:00Z"
    assert json.loads(encode_models(()))["data"] == []
