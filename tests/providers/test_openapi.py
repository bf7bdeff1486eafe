"""What is sent in OpenAI's formats is what OpenAI's own document of them allows.

The document is ``shared/openapi`` beside the project (in the folder of the
recordings' neighbours), relaxed where OpenAI itself takes more than it says.
"""

from __future__ import annotations

import functools
import gzip
import json
from typing import Any

import attrs
import jsonschema
import pytest
from hypothesis import given, settings, strategies as st

from duckservice.completion import (
    ChatRequest,
    EmbeddingRequest,
    Message,
    ReasoningPart,
    RefusalPart,
    ResponseFormat,
    TextPart,
    ToolCall,
    ToolResult,
)
from duckservice.config import ProviderConfig
from duckservice.errors import InvalidRequest
from duckservice.gateway.wire.anthropic_messages import decode_messages
from duckservice.gateway.wire.openai_chat import decode_chat
from duckservice.gateway.wire.openai_responses import decode_responses
from duckservice.providers.adapter import Speaker
from duckservice.providers.chat_or_responses import chat_or_responses
from duckservice.providers.failures import Classifier
from duckservice.providers.openai import OpenAIDialect
from duckservice.providers.openai_variant import OPENAI
from tests.gateway import strategies
from tests.recordings import FOLDER, load

DOCUMENT = FOLDER.parent / "openapi" / "openai-openapi.relaxed.json.gz"

pytestmark = pytest.mark.skipif(
    not DOCUMENT.is_file(), reason=f"no document at {DOCUMENT}"
)

needs_recordings = pytest.mark.skipif(
    not (FOLDER / "openai.jsonl.gz").is_file(), reason=f"no recordings at {FOLDER}"
)

ERRORS = Classifier("duck")
CHAT = OpenAIDialect(provider="duck", errors=ERRORS)
RESPONSES = chat_or_responses(
    Speaker(
        provider="duck",
        errors=ERRORS,
        config=ProviderConfig(name="duck", adapter="openai", api="responses"),
    ),
    OPENAI,
)

ITEMS = {
    None: ("EasyInputMessage",),
    "message": ("OutputMessage", "EasyInputMessage"),
    "function_call": ("FunctionToolCall",),
    "function_call_output": ("FunctionCallOutputItemParam",),
    "reasoning": ("ReasoningItem",),
}
"""The schemas of the items that we write, by their type."""


@functools.cache
def schemas() -> dict[str, Any]:
    return json.loads(gzip.decompress(DOCUMENT.read_bytes()))["components"]["schemas"]


@functools.cache
def validator(name: str):
    schema = {
        "$ref": f"#/components/schemas/{name}",
        "components": {"schemas": schemas()},
    }
    return jsonschema.Draft202012Validator(schema)


def complaints(name: str, body: dict) -> list[str]:
    """Return what the document has against *body*, names that it does not know too."""
    found = [
        f"{list(error.absolute_path)}: {error.message[:200]}"
        for error in validator(name).iter_errors(body)
    ]
    found += [f"{key} is unknown" for key in body.keys() - names_of(name)]
    if name == "CreateResponse" and isinstance(body.get("input"), list):
        found += [each for item in body["input"] for each in unknown_in_item(item)]
    return found


@functools.cache
def names_of(name: str) -> frozenset[str]:
    """Return the names of a schema's properties, of those that it is made of too."""
    schema = schemas()[name]
    names = set(schema.get("properties", ()))
    for part in schema.get("allOf", ()):
        names |= set(part.get("properties", ()))
        if "$ref" in part:
            names |= names_of(part["$ref"].rpartition("/")[2])
    return frozenset(names)


def unknown_in_item(item: dict) -> list[str]:
    if item.get("type") not in ITEMS:
        return []
    known = set().union(*(names_of(name) for name in ITEMS[item.get("type")]))
    return [f"{item.get('type')}.{key} is unknown" for key in item.keys() - known]


def as_chat(request: ChatRequest, *, stream: bool = False) -> dict:
    CHAT.check(request)
    return json.loads(CHAT.encode(request, stream=stream))


def as_response(request: ChatRequest, *, stream: bool = False) -> dict:
    RESPONSES.check(request)
    return json.loads(RESPONSES.encode(request, stream=stream))


# Generated requests

some_text = strategies.texts.filter(bool)
detailed = st.builds(
    attrs.evolve, strategies.images, detail=st.sampled_from([None, "low", "high"])
)
user_parts = st.lists(st.builds(TextPart, text=some_text) | detailed, min_size=1)
results = st.lists(st.builds(TextPart, text=some_text), min_size=1, max_size=2)


@st.composite
def conversations(draw, wire):
    """Draw a conversation with tools as clients of that wire format write it."""
    messages = []
    if draw(st.booleans()):
        roles = ["system", "developer"] if wire == "openai" else ["system"]
        messages.append(Message.of(draw(st.sampled_from(roles)), draw(some_text)))
    for _ in range(draw(st.integers(1, 3))):
        messages.append(Message(role="user", parts=tuple(draw(user_parts))))
        parts = [TextPart(text=draw(strategies.texts))]
        if draw(st.booleans()):
            parts.append(RefusalPart(text=draw(some_text)))
        calls = draw(st.lists(strategies.tool_calls, max_size=3))
        messages.append(Message(role="assistant", parts=(*parts, *calls)))
        answers = [
            ToolResult(tool_call_id=call.id, content=tuple(draw(results)))
            for call in calls
        ]
        if wire == "anthropic" and answers:
            messages.append(Message(role="user", parts=tuple(answers)))
        else:
            messages += [Message(role="tool", parts=(each,)) for each in answers]
    return tuple(messages)


fractions = st.none() | st.floats(0, 1)
limits = st.none() | st.integers(16, 10_000)
models = st.sampled_from(["gpt-4o", "gpt-5.1", "o3", "ft:gpt-4o:x"])
some_tools = st.lists(
    st.builds(
        attrs.evolve, strategies.tools, strict=st.sampled_from([None, True, False])
    ),
    max_size=3,
).map(tuple)
formats = st.none() | strategies.response_formats
formats |= st.sampled_from(["text", "json_object"]).map(
    lambda kind: ResponseFormat(type=kind)
)
extras = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.dictionaries(strategies.names, some_text, max_size=2),
        "service_tier": st.sampled_from(["auto", "default", "flex"]),
        "prompt_cache_key": strategies.names,
        "safety_identifier": strategies.names,
        "verbosity": st.sampled_from(["low", "medium", "high"]),
        "logprobs": st.just(True),
        "top_logprobs": st.integers(0, 5),
        "audio": st.none(),
    },
)


@st.composite
def requests(draw, wire="openai"):
    tools = draw(some_tools)
    return ChatRequest(
        model=draw(models),
        messages=draw(conversations(wire)),
        format=wire,
        max_tokens=draw(limits),
        temperature=draw(fractions),
        top_p=draw(fractions),
        tools=tools,
        tool_choice=draw(st.none() | strategies.tool_choices) if tools else None,
        parallel_tool_calls=draw(st.none() | st.booleans()) if tools else None,
        response_format=draw(formats),
        reasoning=draw(st.none() | strategies.efforts) if wire == "openai" else None,
        user=draw(st.none() | strategies.names),
        extra=draw(extras) if wire == "openai" else {},
    )


@settings(max_examples=50)
@given(requests(), st.booleans())
def test_any_chat_is_a_valid_body_in_both_formats(request, stream):
    assert complaints("CreateResponse", as_response(request, stream=stream)) == []
    assert (
        complaints("CreateChatCompletionRequest", as_chat(request, stream=stream)) == []
    )


@settings(max_examples=50)
@given(requests("anthropic"), st.booleans())
def test_any_chat_of_anthropics_is_a_valid_body_in_both_formats(request, stream):
    assert complaints("CreateResponse", as_response(request, stream=stream)) == []
    assert (
        complaints("CreateChatCompletionRequest", as_chat(request, stream=stream)) == []
    )


@settings(max_examples=30)
@given(
    requests(),
    st.fixed_dictionaries(
        {},
        optional={
            "n": st.integers(1, 128),
            "seed": st.integers(-(2**63), 2**63 - 1),
            "stop": st.lists(some_text, max_size=4).map(tuple),
            "presence_penalty": st.floats(-2, 2),
            "frequency_penalty": st.floats(-2, 2),
        },
    ),
)
def test_what_only_chats_have_is_valid_there(request, fields):
    body = as_chat(attrs.evolve(request, **fields))
    assert complaints("CreateChatCompletionRequest", body) == []


def test_thoughts_go_back_validly():
    thoughts = (
        ReasoningPart(text="Hm.", signature="gAAAAx"),
        ReasoningPart(signature="gAAAAy"),
        TextPart(text="Well."),
        ToolCall(id="c", name="f", arguments="{}"),
    )
    messages = (
        Message.of("user", "hello"),
        Message(role="assistant", parts=thoughts),
    )
    body = as_response(ChatRequest(model="o3", messages=messages, format="anthropic"))
    assert complaints("CreateResponse", body) == []


@given(
    st.lists(
        st.text(min_size=1) | st.lists(st.integers(0, 10**5), min_size=1).map(tuple),
        min_size=1,
        max_size=4,
    ),
    st.none() | st.integers(1, 3000),
    st.none() | strategies.names,
)
def test_any_request_for_embeddings_is_valid(inputs, dimensions, user):
    texts = [each for each in inputs if isinstance(each, str)]
    same_kind = texts or inputs  # texts and tokens are not mixed
    request = EmbeddingRequest(
        model="text-embedding-3-small",
        input=tuple(same_kind),
        dimensions=dimensions,
        user=user,
    )
    assert CHAT.embeddings is not None
    body = json.loads(CHAT.embeddings.encode(request))
    assert complaints("CreateEmbeddingRequest", body) == []


# Recorded requests


READERS = {
    "chat_completions": decode_chat,
    "anthropic.messages": decode_messages,
    "responses": decode_responses,
}
OWN = {
    "chat_completions": "CreateChatCompletionRequest",
    "anthropic.messages": None,
    "responses": "CreateResponse",
}


@needs_recordings
@pytest.mark.parametrize(
    ("provider", "api", "way", "least"),
    [
        ("openai", "chat_completions", "CreateChatCompletionRequest", 150),
        ("openai", "chat_completions", "CreateResponse", 120),
        ("openai", "responses", "CreateResponse", 140),
        ("anthropic", "anthropic.messages", "CreateChatCompletionRequest", 50),
        ("anthropic", "anthropic.messages", "CreateResponse", 50),
    ],
)
def test_recorded_requests_are_sent_as_valid_bodies(provider, api, way, least):
    encode = as_response if way == "CreateResponse" else as_chat
    judged = 0
    for record in load(provider):
        body = record.request.get("body")
        answered = record.response["status"] < 400
        if record.api != api or not isinstance(body, dict) or not answered:
            continue
        if OWN[api] == way and complaints(way, body):
            continue  # OpenAI takes what its document does not allow
        try:
            wire = READERS[api](json.dumps(body).encode())
            sent = encode(wire.request, stream=wire.stream)
        except InvalidRequest:
            continue  # refused by name, which has its own tests
        assert complaints(way, sent) == [], record
        judged += 1
    assert judged >= least


# The document can say no


GOOD_RESPONSE = {
    "model": "gpt-4o",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "hello"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "1"},
    ],
    "tools": [{"type": "function", "name": "f", "parameters": {}, "strict": False}],
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}},
    "store": False,
}
GOOD_CHAT = {
    "model": "gpt-4o",
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "hello"}]},
        {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": "c",
                    "type": "function",
                    "function": {"name": "f", "arguments": "{}"},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c", "content": "1"},
    ],
    "tools": [{"type": "function", "function": {"name": "f"}}],
}


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("CreateResponse", ("input",), 3),
        ("CreateResponse", ("input", 0, "role"), "nobody"),
        ("CreateResponse", ("input", 0, "content", 0, "type"), "text"),
        ("CreateResponse", ("input", 0, "content", 0, "text"), None),
        ("CreateResponse", ("input", 1, "arguments"), {}),
        ("CreateResponse", ("input", 1, "status"), "finished"),
        ("CreateResponse", ("input", 1, "index"), 0),
        ("CreateResponse", ("input", 2, "output"), 1),
        ("CreateResponse", ("tools", 0, "type"), "functions"),
        ("CreateResponse", ("tools", 0, "name"), 1),
        ("CreateResponse", ("tools", 0, "strict"), "yes"),
        ("CreateResponse", ("text", "format", "type"), "schema"),
        ("CreateResponse", ("store",), "no"),
        ("CreateResponse", ("max_tokens",), 9),
        ("CreateResponse", ("temperature",), "hot"),
        ("CreateResponse", ("tool_choice",), {"type": "function"}),
        ("CreateChatCompletionRequest", ("messages",), []),
        ("CreateChatCompletionRequest", ("messages", 0, "role"), "nobody"),
        ("CreateChatCompletionRequest", ("messages", 0, "content", 0, "type"), "x"),
        ("CreateChatCompletionRequest", ("messages", 2, "tool_call_id"), None),
        ("CreateChatCompletionRequest", ("tools", 0, "function", "name"), None),
        ("CreateChatCompletionRequest", ("max_output_tokens",), 9),
        ("CreateChatCompletionRequest", ("n",), 1000),
        ("CreateChatCompletionRequest", ("stop",), ["a", "b", "c", "d", "e"]),
    ],
)
def test_a_broken_body_is_refused(name, path, value):
    good = GOOD_RESPONSE if name == "CreateResponse" else GOOD_CHAT
    assert complaints(name, good) == []
    broken = json.loads(json.dumps(good))
    place = broken
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert complaints(name, broken)
