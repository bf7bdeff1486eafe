"""A thought goes back to whoever has thought it, and to nobody else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from duckservice.completion import (
    ChatRequest,
    Completion,
    Message,
    ReasoningPart,
    TextPart,
)
from duckservice.gateway.wire import anthropic_reply, openai_reply, responses_reply
from duckservice.gateway.wire.anthropic_messages import decode_messages
from duckservice.gateway.wire.anthropic_stream import MessageStreamEncoder
from duckservice.gateway.wire.openai_chat import decode_chat
from duckservice.gateway.wire.openai_responses import decode_responses
from duckservice.gateway.wire.openai_stream import ChatStreamEncoder
from duckservice.gateway.wire.responses_stream import ResponseStreamEncoder
from duckservice.placed_message import PlacedMessage
from duckservice.providers.thought_marks import (
    own_thoughts,
    thinker_of,
    without_lost_thinking,
)
from tests.e2e.makers import MAKERS, Maker
from tests.e2e.running import (
    anthropic_message,
    anthropic_stream,
    json_answer,
    openai_chat,
    openai_stream,
    sse_answer,
)
from tests.providers.asking import made
from tests.providers.event_bytes import event
from tests.upstream import answer, open_upstream

SEAL = "gAAAAABzZWFs"
ASKED = {"role": "user", "content": "What is it?"}


@attrs.frozen(kw_only=True)
class Thinking:
    """A provider whose answer has a sealed thought in it."""

    maker: Maker
    model: str
    key: str
    """Those with the same one take each other's thoughts."""
    whole: bytes
    streamed: bytes


def _sse(*values: Any) -> bytes:
    return sse_answer(*(b"data: %b\n\n" % json.dumps(v).encode() for v in values))


# Claude

_THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": SEAL}
_REDACTED = {"type": "redacted_thinking", "data": SEAL}
_SAID = {"type": "text", "text": "42"}
_CLAUDE = Thinking(
    maker=MAKERS["anthropic"],
    model="claude-sonnet-4-5",
    key="claude",
    whole=json_answer(anthropic_message(_THOUGHT, _SAID)),
    streamed=sse_answer(
        *anthropic_stream(
            (
                {"type": "thinking", "thinking": "", "signature": ""},
                [
                    {"type": "thinking_delta", "thinking": "Hm."},
                    {"type": "signature_delta", "signature": SEAL},
                ],
            ),
            ({"type": "text", "text": ""}, [{"type": "text_delta", "text": "42"}]),
        )
    ),
)
_CLAUDE_REDACTED = attrs.evolve(
    _CLAUDE,
    whole=json_answer(anthropic_message(_REDACTED, _SAID)),
    streamed=sse_answer(
        *anthropic_stream(
            (_REDACTED, []),
            ({"type": "text", "text": ""}, [{"type": "text_delta", "text": "42"}]),
        )
    ),
)

# Bedrock

_CONVERSE = {
    "output": {
        "message": {
            "role": "assistant",
            "content": [
                {
                    "reasoningContent": {
                        "reasoningText": {"text": "Hm.", "signature": SEAL}
                    }
                },
                {"text": "42"},
            ],
        }
    },
    "stopReason": "end_turn",
    "usage": {"inputTokens": 9, "outputTokens": 3, "totalTokens": 12},
}


def _delta(index: int, **delta: Any) -> tuple[str, Any]:
    return "contentBlockDelta", {"contentBlockIndex": index, "delta": delta}


_FRAMES = (
    ("messageStart", {"role": "assistant"}),
    _delta(0, reasoningContent={"text": "Hm."}),
    _delta(0, reasoningContent={"signature": SEAL}),
    ("contentBlockStop", {"contentBlockIndex": 0}),
    _delta(1, text="42"),
    ("contentBlockStop", {"contentBlockIndex": 1}),
    ("messageStop", {"stopReason": "end_turn"}),
    ("metadata", {"usage": _CONVERSE["usage"]}),
)
_BEDROCK = Thinking(
    maker=MAKERS["bedrock"],
    model="eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
    key="claude",
    whole=json_answer(_CONVERSE),
    streamed=answer(
        b"".join(event(kind, value) for kind, value in _FRAMES),
        b"content-type: application/vnd.amazon.eventstream",
    ),
)

# Gemini

_GEMINI_PIECE = {
    "candidates": [
        {
            "content": {
                "role": "model",
                "parts": [
                    {
                        "functionCall": {"name": "f", "args": {}},
                        "thoughtSignature": SEAL,
                    }
                ],
            },
            "finishReason": "STOP",
        }
    ],
    "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 3},
    "modelVersion": "gemini-2.5-flash",
    "responseId": "r-1",
}
_GEMINI = Thinking(
    maker=MAKERS["gemini"],
    model="gemini-2.5-flash",
    key="gemini",
    whole=json_answer(_GEMINI_PIECE),
    streamed=_sse(_GEMINI_PIECE),
)

# OpenAI's Responses, and who else speaks them

_RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "model": "gpt-5",
    "output": [
        {"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": SEAL},
        {
            "type": "message",
            "id": "msg",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "42", "annotations": []}],
        },
    ],
    "usage": {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12},
}
_OPENAI = Thinking(
    maker=MAKERS["responses"],
    model="gpt-5",
    key="openai",
    whole=json_answer(_RESPONSE),
    streamed=_sse({"type": "response.completed", "response": _RESPONSE}),
)
_AZURE = attrs.evolve(
    _OPENAI, maker=attrs.evolve(_OPENAI.maker, adapter="azure", path=""), key="azure"
)
_XAI = attrs.evolve(
    _OPENAI, maker=attrs.evolve(_OPENAI.maker, adapter="xai"), model="grok-4", key="xai"
)

# OpenRouter

_DETAIL = {"type": "reasoning.encrypted", "data": SEAL, "format": "openai-responses-v1"}
_OPENROUTER = Thinking(
    maker=MAKERS["openrouter"],
    model="openai/gpt-5",
    key="openrouter",
    whole=json_answer(openai_chat("42", reasoning_details=[_DETAIL])),
    streamed=sse_answer(
        *openai_stream({"reasoning_details": [_DETAIL]}, {"content": "42"})
    ),
)

THINKING: Mapping[str, Thinking] = {
    "claude": _CLAUDE,
    "redacted": _CLAUDE_REDACTED,
    "bedrock": _BEDROCK,
    "gemini": _GEMINI,
    "openai": _OPENAI,
    "azure": _AZURE,
    "xai": _XAI,
    "openrouter": _OPENROUTER,
}


@attrs.frozen
class Deaf:
    """A provider that takes nobody's sealed thoughts."""

    maker: Maker
    model: str = "m"
    key: str = "nobody's"


NEXT = {
    **{name: its for name, its in THINKING.items() if name != "redacted"},
    **{name: Deaf(MAKERS[name]) for name in ("cohere", "ollama", "mistral")},
    "openai-chat": Deaf(MAKERS["openai"], "gpt-5"),
    "nova": Deaf(MAKERS["bedrock"], "amazon.nova-2-lite-v1:0"),
}


class ResponsesClient:
    """Keeps the items of the output, and sends them back."""

    def ask(self, model: str, *said: Any) -> ChatRequest:
        results = [
            {
                "type": "function_call_output",
                "call_id": item["call_id"],
                "output": "sun",
            }
            for item in said
            if item["type"] == "function_call"
        ]
        again = [ASKED] if said else []
        body = {"model": model, "input": [ASKED, *said, *results, *again]}
        return decode_responses(json.dumps(body).encode()).request

    def whole(self, completion: Completion) -> list[Any]:
        body = responses_reply.encode_completion(completion, {})
        return json.loads(body)["output"]

    def encoder(self):
        return ResponseStreamEncoder(settings={}, clock=lambda: 1.0)

    def streamed(self, raw: bytes) -> list[Any]:
        *_, last = (line for line in raw.split(b"\n") if line.startswith(b"data: "))
        return json.loads(last[6:])["response"]["output"]


class AnthropicClient:
    """Keeps the blocks of the content, and sends them back."""

    def ask(self, model: str, *said: Any) -> ChatRequest:
        results = [
            {"type": "tool_result", "tool_use_id": block["id"], "content": "sun"}
            for block in said
            if block["type"] == "tool_use"
        ]
        again = [
            {"role": "assistant", "content": list(said)},
            {"role": "user", "content": [*results, {"type": "text", "text": "And?"}]},
        ]
        messages = [ASKED, *(again if said else [])]
        body = {"model": model, "max_tokens": 50, "messages": messages}
        return decode_messages(json.dumps(body).encode()).request

    def whole(self, completion: Completion) -> list[Any]:
        return json.loads(anthropic_reply.encode_completion(completion))["content"]

    def encoder(self):
        return MessageStreamEncoder()

    def streamed(self, raw: bytes) -> list[Any]:
        blocks: list[Any] = []
        for line in raw.split(b"\n"):
            its = json.loads(line[6:]) if line.startswith(b"data: ") else {}
            if its.get("type") == "content_block_start":
                blocks.append(its["content_block"])
            if its.get("type") == "content_block_delta":
                block = blocks[its["index"]]
                for name in ("thinking", "signature", "text"):
                    if name in its["delta"]:
                        block[name] += its["delta"][name]
        return blocks


CLIENTS = {"responses": ResponsesClient(), "anthropic": AnthropicClient()}


async def said_by(thinking: Thinking, client, *, stream: bool) -> list[Any]:
    """Return what *client* has, and sends back, of an answer."""
    body = thinking.streamed if stream else thinking.whole
    async with open_upstream([[body]]) as upstream:
        provider = made(thinking.maker, upstream.base_url)
        request = client.ask(thinking.model)
        if not stream:
            kept = client.whole(await provider.complete(request))
        else:
            encoder, raw = client.encoder(), b""
            async with provider.stream(request) as batches:
                async for batch in batches:
                    raw += encoder.encode(batch)
            kept = client.streamed(raw + encoder.finish())
        await provider.aclose()
    return kept


async def sent_to(its: Thinking | Deaf, request: ChatRequest) -> str:
    """Return the body that a provider is sent for *request*."""
    async with open_upstream([[its.maker.text]]) as upstream:
        provider = made(its.maker, upstream.base_url)
        provider.check(request)
        await provider.complete(request)
        await provider.aclose()
    return upstream.requests[0].body.decode()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS.keys())
@pytest.mark.parametrize("thinking", THINKING.values(), ids=THINKING.keys())
async def test_a_thought_goes_back_to_its_thinker_as_it_was_and_to_nobody_else(
    thinking, client, stream
):
    said = await said_by(thinking, client, stream=stream)
    assert SEAL in json.dumps(said)
    for name, its in NEXT.items():
        body = await sent_to(its, client.ask(its.model, *said))
        assert "duck:" not in body, name
        assert (SEAL in body) == (its.key == thinking.key), name
        assert "42" in body or '"f"' in body, name


# What clients of Chat Completions keep beside a message or a call

_PLANNED = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
_PLAN_END = {"finish_reason": "TOOL_CALL", "usage": {"tokens": {"input_tokens": 9}}}


def _planning(kind: str, **message: Any) -> dict[str, Any]:
    return {"type": kind, "index": 0, "delta": {"message": message}}


_COHERE = Thinking(
    maker=MAKERS["cohere"],
    model="command-a",
    key="cohere",
    whole=json_answer(
        {
            "id": "c-1",
            "message": {
                "role": "assistant",
                "tool_plan": SEAL,
                "tool_calls": [_PLANNED],
            },
            **_PLAN_END,
        }
    ),
    streamed=_sse(
        {"id": "c-1", **_planning("message-start", role="assistant")},
        _planning("tool-plan-delta", tool_plan=SEAL[:5]),
        _planning("tool-plan-delta", tool_plan=SEAL[5:]),
        _planning("tool-call-start", tool_calls=_PLANNED),
        {"type": "tool-call-end", "index": 0},
        {"type": "message-end", "delta": _PLAN_END},
    ),
)


class ChatClient:
    """Keeps the message, and sends it back; a stream's it has put together."""

    def ask(self, model: str, *said: Any) -> ChatRequest:
        results = [
            {"role": "tool", "tool_call_id": call["id"], "content": "sun"}
            for message in said
            for call in message.get("tool_calls", ())
        ]
        again = [ASKED] if said else []
        body = {"model": model, "messages": [ASKED, *said, *results, *again]}
        return decode_chat(json.dumps(body).encode()).request

    def whole(self, completion: Completion) -> list[Any]:
        body = json.loads(openai_reply.encode_completion(completion))
        message = body["choices"][0]["message"]
        return [{name: value for name, value in message.items() if value is not None}]

    def encoder(self):
        return ChatStreamEncoder()

    def streamed(self, raw: bytes) -> list[Any]:
        message: dict[str, Any] = {}
        for line in raw.split(b"\n"):
            if line.startswith(b"data: {"):
                for name, value in json.loads(line[6:])["choices"][0]["delta"].items():
                    message[name] = message[name] + value if name in message else value
        return [message]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("thinking", [_GEMINI, _OPENROUTER, _COHERE])
async def test_what_stands_beside_a_message_goes_back_to_who_said_it(thinking, stream):
    client = ChatClient()
    said = await said_by(thinking, client, stream=stream)
    assert SEAL in json.dumps(said)
    for name, its in {**NEXT, "cohere": _COHERE}.items():
        body = await sent_to(its, client.ask(its.model, *said))
        assert (SEAL in body) == (its.key == thinking.key), name
        assert "42" in body or '"f"' in body, name


@pytest.mark.parametrize(
    ("client", "said", "takers"),
    [
        ("anthropic", (_THOUGHT, _SAID), {"claude", "bedrock"}),
        ("anthropic", (_REDACTED, _SAID), {"claude", "bedrock"}),
        ("responses", _RESPONSE["output"], {"openai", "azure", "xai"}),
    ],
)
async def test_what_was_not_handed_out_here_goes_to_who_speaks_the_clients_format(
    client, said, takers
):
    for name, its in NEXT.items():
        body = await sent_to(its, CLIENTS[client].ask(its.model, *said))
        assert (SEAL in body) == (name in takers), name


async def test_a_client_of_claudes_format_has_claudes_thoughts_as_they_are():
    assert await said_by(_CLAUDE, CLIENTS["anthropic"], stream=False) == [
        _THOUGHT,
        _SAID,
    ]


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS.keys())
@pytest.mark.parametrize("thinking", [_CLAUDE, _CLAUDE_REDACTED, _BEDROCK])
async def test_claudes_thoughts_go_to_claude_behind_openrouter(thinking, client):
    said = await said_by(thinking, client, stream=False)
    behind = Deaf(MAKERS["openrouter"], "anthropic/claude-sonnet-4.5")
    body = await sent_to(behind, client.ask(behind.model, *said))
    assert SEAL in body
    assert "duck:" not in body


OPEN = {"type": "thinking", "thinking": "Let me see.", "signature": ""}


@pytest.mark.parametrize(
    ("name", "is_told"),
    [
        ("claude", False),
        ("bedrock", False),
        ("openai", False),
        ("openai-chat", False),
        ("gemini", True),
        ("mistral", True),
        ("ollama", True),
        ("cohere", True),
        ("openrouter", True),
    ],
)
async def test_a_thought_without_a_seal_goes_to_whoever_takes_such(name, is_told):
    its = NEXT[name]
    request = CLIENTS["anthropic"].ask(its.model, OPEN, _SAID)
    assert ("Let me see." in await sent_to(its, request)) == is_told


def test_a_message_that_is_nothing_but_anothers_thought_is_left_out():
    thought = Message(role="assistant", parts=(ReasoningPart(signature="duck:x:y"),))
    given = (Message.of("user", "a"), thought, Message.of("user", "b"))
    request = ChatRequest(model="m", messages=given)
    own = own_thoughts(request, thinker_of("gemini", "chat", "m"))
    assert own.messages == (given[0], given[2])
    assert own_thoughts(own, thinker_of("gemini", "chat", "m")) is own


def test_what_is_left_keeps_its_place():
    message = PlacedMessage(
        role="assistant",
        parts=(ReasoningPart(signature="duck:x:y"), TextPart(text="a")),
        place="input[0]",
        places=("input[0]", "input[1].content"),
    )
    request = ChatRequest(model="m", messages=(message,), format="responses")
    (own,) = own_thoughts(request, thinker_of("gemini", "chat", "m")).messages
    assert isinstance(own, PlacedMessage)
    assert (own.parts, own.places) == ((TextPart(text="a"),), ("input[1].content",))


@pytest.mark.parametrize(
    ("adapter", "api", "model", "name"),
    [
        ("vertex", "chat", "claude-sonnet-4@20250514", "claude"),
        ("vertex", "chat", "gemini-2.5-pro", "gemini"),
        ("bedrock", "chat", "us.anthropic.claude-opus-4-v1:0", "claude"),
        ("bedrock", "chat", "amazon.nova-2-lite-v1:0", "bedrock"),
        ("anthropic", "chat", "deepseek-chat", "anthropic"),
        ("deepseek", "chat", "deepseek-chat", "deepseek"),
        ("deepseek", "responses", "deepseek-chat", "deepseek-responses"),
    ],
)
def test_the_same_model_is_one_thinker_wherever_it_is_asked(adapter, api, model, name):
    assert thinker_of(adapter, api, model).name == name


CALLED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ],
}
ANSWERED = {"role": "tool", "tool_call_id": "c", "content": "done"}
ASKED = {"role": "user", "content": "go"}


@pytest.mark.parametrize(
    ("messages", "thinks"),
    [
        ([ASKED], True),
        ([ASKED, CALLED, ANSWERED], False),
        ([ASKED, CALLED, ANSWERED, ASKED], True),
        ([ASKED, {"role": "assistant", "content": "hm"}, ASKED], True),
    ],
)
def test_claude_thinks_but_amid_calls_whose_thoughts_are_lost(messages, thinks):
    body = {"model": "claude-x", "messages": messages, "reasoning_effort": "low"}
    request = decode_chat(json.dumps(body).encode()).request
    claude = thinker_of("bedrock", "chat", "claude-x")
    own = without_lost_thinking(request, claude)
    assert (own.reasoning is not None) == thinks
    others = thinker_of("gemini", "chat", "gemini-x")
    assert without_lost_thinking(request, others) is request


def test_claude_goes_on_thinking_where_its_thoughts_came_back():
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    call = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "c", "content": "done"}
    body = {
        "model": "claude-x",
        "max_tokens": 5000,
        "thinking": {"type": "enabled", "budget_tokens": 2000},
        "messages": [
            ASKED,
            {"role": "assistant", "content": [thought, call]},
            {"role": "user", "content": [result]},
        ],
    }
    request = decode_messages(json.dumps(body).encode()).request
    claude = thinker_of("anthropic", "chat", "claude-x")
    assert without_lost_thinking(request, claude) is request
    foreign = attrs.evolve(request, format="responses")
    assert without_lost_thinking(foreign, claude) is foreign
