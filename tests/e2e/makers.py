"""What the makers of models say on the wire: the same replies in each one's format.

TEXT    "Hello there." for 9 tokens in and 3 out
CALL    get_weather({"city": "Paris"}), with the id of the format where it has one
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from tests.e2e.running import (
    anthropic_message,
    anthropic_stream,
    json_answer,
    openai_chat,
    openai_stream,
    sse_answer,
)
from tests.providers.event_bytes import event
from tests.upstream import answer

WORDS = ("Hello", " there", ".")
TEXT = "".join(WORDS)
NAME = "get_weather"
ARGUMENTS = {"city": "Paris"}
CALL_ID = "call_7"
PICTURE = "iVBORw0KGgoAAAANSUhEUg=="
PICTURE_SOURCE = {"type": "base64", "media_type": "image/png", "data": PICTURE}


@attrs.frozen(kw_only=True)
class Maker:
    """One format: its adapter, and its answers."""

    adapter: str
    text: bytes
    text_stream: bytes
    call: bytes
    call_stream: bytes
    refusal: bytes
    """An answer with status 429."""
    path: str = ""
    """Of the base URL."""
    config: Mapping[str, Any] = attrs.field(factory=dict)
    keeps_ids: bool = True
    """Whether calls have ids on the wire."""
    result_of: Callable[[dict[str, Any]], str]
    """Return what the body of a request says that the tool has returned."""


def _sse(*values: Any) -> bytes:
    return sse_answer(*(b"data: %b\n\n" % json.dumps(v).encode() for v in values))


def _named(*values: dict[str, Any]) -> bytes:
    return sse_answer(
        *(
            b"event: %b\ndata: %b\n\n" % (v["type"].encode(), json.dumps(v).encode())
            for v in values
        )
    )


def _tool_message(body: dict[str, Any]) -> str:
    content = next(m for m in body["messages"] if m["role"] == "tool")["content"]
    return content if isinstance(content, str) else json.dumps(content)


# OpenAI

_OPENAI_CALL = {
    "id": CALL_ID,
    "type": "function",
    "function": {"name": NAME, "arguments": json.dumps(ARGUMENTS)},
}

OPENAI = Maker(
    adapter="openai",
    path="/v1",
    text=json_answer(openai_chat(TEXT)),
    text_stream=sse_answer(*openai_stream(*({"content": word} for word in WORDS))),
    call=json_answer(openai_chat(None, tool_calls=[_OPENAI_CALL])),
    call_stream=sse_answer(
        *openai_stream(
            {
                "tool_calls": [
                    {
                        "index": 0,
                        "id": CALL_ID,
                        "type": "function",
                        "function": {"name": NAME, "arguments": ""},
                    }
                ]
            },
            *(
                {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
                for piece in ('{"city"', ': "Paris"}')
            ),
            finish="tool_calls",
        )
    ),
    refusal=json_answer(
        {"error": {"message": "slow down", "type": "requests", "code": None}},
        status=b"429 Too Many Requests",
    ),
    result_of=_tool_message,
)

# OpenAI's Responses

_ITEM = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": TEXT, "annotations": []}],
}
_CALL_ITEM = {
    "id": "fc_1",
    "type": "function_call",
    "status": "completed",
    "call_id": CALL_ID,
    "name": NAME,
    "arguments": json.dumps(ARGUMENTS),
}


def _response(*output: Any) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_700_000_000,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": "gpt-5",
        "output": list(output),
        "usage": {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12},
    }


_BEGUN = {
    "type": "response.created",
    "response": {**_response(), "status": "in_progress", "usage": None},
}

RESPONSES = Maker(
    adapter="openai",
    path="/v1",
    config={"api": "responses"},
    text=json_answer(_response(_ITEM)),
    text_stream=_named(
        _BEGUN,
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**_ITEM, "status": "in_progress", "content": []},
        },
        *(
            {
                "type": "response.output_text.delta",
                "item_id": "msg_1",
                "output_index": 0,
                "content_index": 0,
                "delta": word,
            }
            for word in WORDS
        ),
        {"type": "response.output_item.done", "output_index": 0, "item": _ITEM},
        {"type": "response.completed", "response": _response(_ITEM)},
    ),
    call=json_answer(_response(_CALL_ITEM)),
    call_stream=_named(
        _BEGUN,
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**_CALL_ITEM, "status": "in_progress", "arguments": ""},
        },
        *(
            {
                "type": "response.function_call_arguments.delta",
                "item_id": "fc_1",
                "output_index": 0,
                "delta": piece,
            }
            for piece in ('{"city"', ': "Paris"}')
        ),
        {"type": "response.output_item.done", "output_index": 0, "item": _CALL_ITEM},
        {"type": "response.completed", "response": _response(_CALL_ITEM)},
    ),
    refusal=OPENAI.refusal,
    result_of=lambda body: next(
        item["output"]
        for item in body["input"]
        if item.get("type") == "function_call_output"
    ),
)

# Anthropic

_TOOL_USE = {"type": "tool_use", "id": CALL_ID, "name": NAME, "input": ARGUMENTS}


def _anthropic_result(body: dict[str, Any]) -> str:
    blocks = [
        block
        for message in body["messages"]
        if isinstance(message["content"], list)
        for block in message["content"]
        if block["type"] == "tool_result"
    ]
    content = blocks[0]["content"]
    return content if isinstance(content, str) else json.dumps(content)


ANTHROPIC = Maker(
    adapter="anthropic",
    text=json_answer(anthropic_message({"type": "text", "text": TEXT})),
    text_stream=sse_answer(
        *anthropic_stream(
            (
                {"type": "text", "text": ""},
                [{"type": "text_delta", "text": word} for word in WORDS],
            )
        )
    ),
    call=json_answer(anthropic_message(_TOOL_USE, stop_reason="tool_use")),
    call_stream=sse_answer(
        *anthropic_stream(
            (
                {**_TOOL_USE, "input": {}},
                [
                    {"type": "input_json_delta", "partial_json": piece}
                    for piece in ('{"city"', ': "Paris"}')
                ],
            ),
            stop="tool_use",
        )
    ),
    refusal=json_answer(
        {"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}},
        status=b"429 Too Many Requests",
    ),
    result_of=_anthropic_result,
)

# Gemini

_GEMINI_USAGE = {
    "promptTokenCount": 9,
    "candidatesTokenCount": 3,
    "totalTokenCount": 12,
}


def _gemini(*parts: Any, finish: str | None = "STOP") -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": list(parts)}}
    if finish is not None:
        candidate["finishReason"] = finish
    return {
        "candidates": [candidate],
        "usageMetadata": _GEMINI_USAGE,
        "modelVersion": "gemini-2.5-flash",
        "responseId": "r-1",
    }


_FUNCTION_CALL = {"functionCall": {"name": NAME, "args": ARGUMENTS}}

GEMINI = Maker(
    adapter="gemini",
    path="/v1beta",
    text=json_answer(_gemini({"text": TEXT})),
    text_stream=_sse(
        *(_gemini({"text": word}, finish=None) for word in WORDS[:-1]),
        _gemini({"text": WORDS[-1]}),
    ),
    call=json_answer(_gemini(_FUNCTION_CALL)),
    call_stream=_sse(_gemini(_FUNCTION_CALL)),
    refusal=json_answer(
        {"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED"}},
        status=b"429 Too Many Requests",
    ),
    keeps_ids=False,
    result_of=lambda body: next(
        json.dumps(part["functionResponse"]["response"])
        for turn in body["contents"]
        for part in turn["parts"]
        if "functionResponse" in part
    ),
)

# Bedrock

_CONVERSE_USAGE = {"inputTokens": 9, "outputTokens": 3, "totalTokens": 12}


def _converse(*content: Any, stop: str = "end_turn") -> dict[str, Any]:
    return {
        "output": {"message": {"role": "assistant", "content": list(content)}},
        "stopReason": stop,
        "usage": _CONVERSE_USAGE,
    }


def _frames(*events: tuple[str, Any]) -> bytes:
    return answer(
        b"".join(event(kind, value) for kind, value in events),
        b"content-type: application/vnd.amazon.eventstream",
    )


BEDROCK = Maker(
    adapter="bedrock",
    config={"region": "eu-central-1"},
    text=json_answer(_converse({"text": TEXT})),
    text_stream=_frames(
        ("messageStart", {"role": "assistant"}),
        *(
            ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": word}})
            for word in WORDS
        ),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "end_turn"}),
        ("metadata", {"usage": _CONVERSE_USAGE}),
    ),
    call=json_answer(
        _converse(
            {"toolUse": {"toolUseId": CALL_ID, "name": NAME, "input": ARGUMENTS}},
            stop="tool_use",
        )
    ),
    call_stream=_frames(
        ("messageStart", {"role": "assistant"}),
        (
            "contentBlockStart",
            {
                "contentBlockIndex": 0,
                "start": {"toolUse": {"toolUseId": CALL_ID, "name": NAME}},
            },
        ),
        *(
            (
                "contentBlockDelta",
                {"contentBlockIndex": 0, "delta": {"toolUse": {"input": piece}}},
            )
            for piece in ('{"city"', ': "Paris"}')
        ),
        ("contentBlockStop", {"contentBlockIndex": 0}),
        ("messageStop", {"stopReason": "tool_use"}),
        ("metadata", {"usage": _CONVERSE_USAGE}),
    ),
    refusal=json_answer(
        {"message": "Too many requests"},
        b"x-amzn-errortype: ThrottlingException:http://x/",
        status=b"429 Too Many Requests",
    ),
    result_of=lambda body: next(
        json.dumps(block["toolResult"]["content"])
        for turn in body["messages"]
        for block in turn["content"]
        if "toolResult" in block
    ),
)

# Cohere

_COHERE_USAGE = {"tokens": {"input_tokens": 9, "output_tokens": 3}}
_COHERE_CALL = {
    "id": CALL_ID,
    "type": "function",
    "function": {"name": NAME, "arguments": json.dumps(ARGUMENTS)},
}


def _cohere(finish: str, **message: Any) -> dict[str, Any]:
    return {
        "id": "c-1",
        "message": {"role": "assistant", **message},
        "finish_reason": finish,
        "usage": _COHERE_USAGE,
    }


def _cohere_end(finish: str) -> dict[str, Any]:
    return {
        "type": "message-end",
        "delta": {"finish_reason": finish, "usage": _COHERE_USAGE},
    }


_COHERE_START = {
    "type": "message-start",
    "id": "c-1",
    "delta": {"message": {"role": "assistant"}},
}

COHERE = Maker(
    adapter="cohere",
    text=json_answer(_cohere("COMPLETE", content=[{"type": "text", "text": TEXT}])),
    text_stream=_named(
        _COHERE_START,
        {
            "type": "content-start",
            "index": 0,
            "delta": {"message": {"content": {"type": "text", "text": ""}}},
        },
        *(
            {
                "type": "content-delta",
                "index": 0,
                "delta": {"message": {"content": {"text": word}}},
            }
            for word in WORDS
        ),
        {"type": "content-end", "index": 0},
        _cohere_end("COMPLETE"),
    ),
    call=json_answer(_cohere("TOOL_CALL", tool_calls=[_COHERE_CALL])),
    call_stream=_named(
        _COHERE_START,
        {
            "type": "tool-call-start",
            "index": 0,
            "delta": {
                "message": {
                    "tool_calls": {
                        **_COHERE_CALL,
                        "function": {"name": NAME, "arguments": ""},
                    }
                }
            },
        },
        *(
            {
                "type": "tool-call-delta",
                "index": 0,
                "delta": {"message": {"tool_calls": {"function": {"arguments": p}}}},
            }
            for p in ('{"city"', ': "Paris"}')
        ),
        {"type": "tool-call-end", "index": 0},
        _cohere_end("TOOL_CALL"),
    ),
    refusal=json_answer(
        {"id": "x", "message": "slow down"}, status=b"429 Too Many Requests"
    ),
    result_of=_tool_message,
)

# Ollama


def _ollama(done: bool = True, **message: Any) -> dict[str, Any]:
    value: dict[str, Any] = {
        "model": "qwen3",
        "created_at": "2026-11-20T12:00:00Z",
        "message": {"role": "assistant", "content": "", **message},
        "done": done,
    }
    if done:
        value |= {"done_reason": "stop", "prompt_eval_count": 9, "eval_count": 3}
    return value


def _lines(*values: Any) -> bytes:
    return answer(
        b"".join(json.dumps(value).encode() + b"\n" for value in values),
        b"content-type: application/x-ndjson",
    )


_OLLAMA_CALL = {"function": {"name": NAME, "arguments": ARGUMENTS}}

OLLAMA = Maker(
    adapter="ollama",
    text=json_answer(_ollama(content=TEXT)),
    text_stream=_lines(
        *(_ollama(done=False, content=word) for word in WORDS), _ollama()
    ),
    call=json_answer(_ollama(tool_calls=[_OLLAMA_CALL])),
    call_stream=_lines(_ollama(done=False, tool_calls=[_OLLAMA_CALL]), _ollama()),
    refusal=json_answer({"error": "slow down"}, status=b"429 Too Many Requests"),
    keeps_ids=False,
    result_of=_tool_message,
)

MAKERS = {
    "openai": OPENAI,
    "responses": RESPONSES,
    "anthropic": ANTHROPIC,
    "gemini": GEMINI,
    "bedrock": BEDROCK,
    "cohere": COHERE,
    "ollama": OLLAMA,
    "mistral": attrs.evolve(OPENAI, adapter="mistral"),
    "openrouter": attrs.evolve(OPENAI, adapter="openrouter", path="/api/v1"),
}
