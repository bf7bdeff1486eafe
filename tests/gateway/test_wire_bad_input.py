from __future__ import annotations

import json
from random import Random

import msgspec
import pytest

from duckservice.errors import InvalidRequest
from duckservice.gateway.wire.anthropic_messages import (
    decode_count_tokens,
    decode_messages,
)
from duckservice.gateway.wire.fields import DEPTH_MAX
from duckservice.gateway.wire.openai_chat import decode_chat
from duckservice.gateway.wire.openai_embeddings import decode_embedding
from duckservice.gateway.wire.openai_responses import decode_responses

DECODERS = [
    decode_chat,
    decode_messages,
    decode_count_tokens,
    decode_embedding,
    decode_responses,
]
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}

BAD_BODIES = {
    "empty": b"",
    "no object": b"[]",
    "null": b"null",
    "half": b'{"model": "m", "messages": [{"role"',
    "two values": b"{} {}",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "NaN": b'{"model": "m", "temperature": NaN, "messages": []}',
    "infinity": b'{"model": "m", "temperature": -Infinity, "messages": []}',
    "a number beyond a float": b'{"model": "m", "temperature": 1e999}',
    "5000 digits": b'{"model": "m", "seed": ' + b"9" * 5000 + b"}",
    "deep arrays": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "deep and closed": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a key of deep arrays": b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "invalid UTF-8": b'{"model": "\xff"}',
    "a surrogate in UTF-8": b'{"model": "\xed\xa0\x80"}',
    "a lone high surrogate": rb'{"model": "\ud800"}',
    "a lone low surrogate": rb'{"model": "\udc00 and more text"}',
    "a broken pair": rb'{"model": "\ud800\u0041 and more text"}',
    "a surrogate as a key": rb'{"\ud800": 1}',
}


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
def test_what_is_no_json_object_is_an_invalid_request(decode, body):
    with pytest.raises(InvalidRequest) as caught:
        decode(body)
    caught.value.message.encode()
    assert len(caught.value.message) < 200


def nested(levels: int) -> bytes:
    inner = b"[" * (levels - 1) + b"]" * (levels - 1)
    return json.dumps(CHAT).encode()[:-1] + b', "extra_body": ' + inner + b"}"


def test_nesting_is_allowed_to_a_depth_that_can_be_encoded_again():
    wire = decode_chat(nested(DEPTH_MAX))
    assert msgspec.json.encode(wire.request.extra)
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        decode_chat(nested(DEPTH_MAX + 1))


def test_many_brackets_that_are_not_deep_are_allowed():
    body = CHAT | {"extra_body": [[] for _ in range(DEPTH_MAX + 1)]}
    assert decode_chat(json.dumps(body).encode())


def test_of_a_key_given_twice_the_last_one_holds():
    body = json.dumps(CHAT).encode()[:-1] + b', "model": "last"}'
    assert decode_chat(body).request.model == "last"


def test_surrogate_pairs_and_nul_survive_to_the_next_encoder():
    body = CHAT | {"user": "\0\U0001f986"}
    request = decode_chat(json.dumps(body).encode()).request
    assert request.user == "\0\U0001f986"
    assert request.user.encode()


WORDS = [
    *[
        "model",
        "messages",
        "role",
        "content",
        "type",
        "text",
        "image_url",
        "url",
        "detail",
        "name",
        "id",
        "user",
    ],
    *[
        "function",
        "arguments",
        "tools",
        "tool_choice",
        "tool_calls",
        "tool_call_id",
        "refusal",
    ],
    *[
        "function_call",
        "functions",
        "response_format",
        "json_schema",
        "schema",
        "strict",
        "stop",
    ],
    *["max_tokens", "max_completion_tokens", "n", "seed", "temperature", "stream"],
    *["stream_options", "include_usage", "reasoning_effort", "reasoning_content"],
    *[
        "system",
        "source",
        "media_type",
        "data",
        "tool_use",
        "tool_result",
        "input",
        "tool_use_id",
    ],
    *["is_error", "thinking", "signature", "budget_tokens", "metadata", "user_id"],
    *["output_config", "effort", "format", "input_schema", "stop_sequences", "top_k"],
    *["encoding_format", "dimensions"],
    *["call_id", "output", "summary", "encrypted_content", "instructions", "status"],
    *["reasoning", "include", "store", "verbosity", "file_id", "annotations"],
]
SENT = [
    *[
        "user",
        "assistant",
        "tool",
        "system",
        "developer",
        "function",
        "text",
        "image_url",
        "image",
    ],
    *[
        "tool_use",
        "tool_result",
        "thinking",
        "redacted_thinking",
        "json_schema",
        "auto",
        "any",
    ],
    *[
        "base64",
        "data:image/png;base64,QUJD",
        "https://h/x",
        "data:,",
        "none",
        "required",
    ],
    *["message", "function_call", "function_call_output", "reasoning", "summary_text"],
    *["input_text", "input_image", "output_text", "refusal", "item_reference"],
]


def hostile(random: Random, depth: int):
    """Return JSON of known words in places where they do not belong."""
    kind = random.randrange(8 if depth else 5)
    if kind < 3:
        return random.choice(SENT)
    if kind < 5:
        return random.choice([None, True, False, 0, -1, 7, 2.5, 2**63, "", [], {}])
    if kind == 5:
        return [hostile(random, depth - 1) for _ in range(random.randrange(3))]
    keys = random.sample(WORDS, random.randrange(6))
    return {"type": random.choice(SENT)} | {
        key: hostile(random, depth - 1) for key in keys
    }


def hostile_body(random: Random):
    body = {"model": "m", "max_tokens": 1, "input": "x"}
    messages = []
    for _ in range(random.randrange(1, 3)):
        role = random.choice(["user", "assistant", "tool", "system", "function", []])
        content = random.choice(["text", [hostile(random, 3)], hostile(random, 3)])
        message = {"role": role, "content": content}
        for key in random.sample(WORDS, random.randrange(4)):
            message[key] = hostile(random, 3)
        messages.append(message)
    body["messages"] = messages
    if random.randrange(2):
        items = [hostile(random, 3) for _ in range(random.randrange(3))]
        body["input"] = random.choice([messages, [*messages, *items], items])
    for key in random.sample(WORDS, random.randrange(4)):
        body[key] = hostile(random, 3)
    return body


@pytest.mark.parametrize("decode", DECODERS)
def test_whatever_the_types_are_only_invalid_request_is_raised(decode):
    accepted = 0
    for seed in range(3000):
        body = hostile_body(Random(seed))
        try:
            wire = decode(json.dumps(body).encode())
        except InvalidRequest as error:
            complaint = error
        except Exception as error:
            raise AssertionError(f"seed {seed}: {body}") from error
        else:
            # Whatever was accepted must not break who sends it on.
            assert msgspec.json.encode(wire, enc_hook=dict)
            accepted += 1
            continue
        assert complaint.param
        assert complaint.message.startswith(complaint.param)
    assert accepted > 20


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_tokens", 2**63),
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("max_tokens", True),
        ("max_completion_tokens", -1),
        ("seed", 10**30),
        ("seed", -(2**63) - 1),
        ("n", 0),
        ("n", 129),
        ("temperature", "0.1"),
        ("temperature", 10**30),
        ("top_p", []),
        ("stop", 5),
        ("stop", ["a", 5]),
        ("stream", "yes"),
        ("stream_options", {"include_usage": 1}),
        ("stream_options", {"chunk_size": 1}),
        ("tools", {}),
        ("tools", [{"type": "web_search"}]),
        ("tools", [{"type": "custom", "custom": {"name": "x"}}]),
        ("tools", [{"type": "function", "function": {"name": ""}}]),
        ("tools", [{"type": "function", "function": {"name": "f", "returns": {}}}]),
        ("tool_choice", "every"),
        ("tool_choice", {"type": "custom", "custom": {"name": "x"}}),
        ("function_call", {"name": 5}),
        ("response_format", "json"),
        ("response_format", {"type": "json_schema"}),
        ("reasoning_effort", 1),
        ("model", ""),
        ("model", None),
        ("messages", []),
        ("messages", {"role": "user"}),
    ],
)
def test_a_field_that_cannot_be_meant_is_named(field, value):
    body = CHAT | {field: value}
    if field == "function_call":
        body["functions"] = [{"name": "f"}]
    with pytest.raises(InvalidRequest) as caught:
        decode_chat(json.dumps(body).encode())
    assert field in caught.value.message
    assert field in caught.value.param


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"content": "x"}, "messages[1].role"),
        ({"role": "usr", "content": "x"}, "messages[1].role"),
        ({"role": "user"}, "messages[1].content"),
        ({"role": "user", "content": None}, "messages[1].content"),
        ({"role": "user", "content": ["x"]}, "messages[1].content[0]"),
        ({"role": "user", "content": [{"text": "x"}]}, "messages[1].content[0].type"),
        (
            {"role": "user", "content": [{"type": "text", "text": 1}]},
            "messages[1].content[0].text",
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": "x"}]},
            "messages[1].content[0].image_url.url",
        ),
        (
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}
                ],
            },
            "messages[1].content[0].image_url.url",
        ),
        (
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "data:x"}}],
            },
            "messages[1].content[0].image_url.url",
        ),
        ({"role": "assistant"}, "messages[1].content"),
        (
            {"role": "assistant", "tool_calls": [{"id": "1", "type": []}]},
            "messages[1].tool_calls[0].type",
        ),
        (
            {"role": "assistant", "tool_calls": [{"id": "1", "type": "custom"}]},
            "messages[1].tool_calls[0].type",
        ),
        (
            {
                "role": "assistant",
                "tool_calls": [{"id": "1", "function": {"name": "f"}}],
            },
            "messages[1].tool_calls[0].function.arguments",
        ),
        ({"role": "tool", "content": "x"}, "messages[1].tool_call_id"),
        ({"role": "function", "name": "f", "content": "x"}, "messages[1].name"),
    ],
)
def test_a_complaint_says_in_which_message(message, param):
    body = CHAT | {"messages": [{"role": "user", "content": "hi"}, message]}
    with pytest.raises(InvalidRequest) as caught:
        decode_chat(json.dumps(body).encode())
    assert caught.value.param == param
    assert param in caught.value.message


def test_a_complaint_never_quotes_a_prompt():
    secret = "my password is swordfish " * 10
    for body in (
        CHAT | {"messages": [{"role": secret, "content": secret}]},
        CHAT | {"messages": [{"role": "user", "content": {"text": secret}}]},
        CHAT | {"messages": secret},
    ):
        with pytest.raises(InvalidRequest) as caught:
            decode_chat(json.dumps(body).encode())
        assert "swordfish " * 2 not in caught.value.message
        assert len(caught.value.message) < 200
