"""The conversations that every SDK is to express, as two clients would write them.

Each is a body of OpenAI's chat and one of Anthropic's messages that mean the same;
`None` where a format has no word for it. How a provider's own SDK says it stands in
that provider's test.
"""

from __future__ import annotations

import json
from typing import Any, Final, TypeAlias

import attrs
import pytest

from duckservice.completion import ChatRequest
from duckservice.gateway.wire.anthropic_messages import decode_messages
from duckservice.gateway.wire.openai_chat import decode_chat

Json: TypeAlias = dict[str, Any]

SYSTEM: Final = "You are a weatherman."
PROMPT: Final = "How is the weather in Paris?"
REPLY: Final = "Sunny, with 18 °C."
MORE: Final = "And in Łódź?"
MAX_TOKENS: Final = 4096
STOPS: Final = ["END", "###"]

TOOL: Final = "get_weather"
OTHER_TOOL: Final = "get_time"
DESCRIPTION: Final = "Tells the weather."
PARAMETERS: Final = {
    "type": "object",
    "properties": {"city": {"type": "string", "description": "which town"}},
    "required": ["city"],
}
CALLS: Final = (
    ("call_1", TOOL, {"city": "Paris"}),
    ("call_2", OTHER_TOOL, {"city": "Łódź"}),
)
RESULTS: Final = ({"degrees": 18, "sky": "clear"}, {"time": "12:00"})
PLAN: Final = "I look it up."

PICTURE: Final = "iVBORw0KGgoAAAANSUhEUg=="
SCHEMA: Final = {
    "type": "object",
    "properties": {"verdict": {"type": "string"}},
    "required": ["verdict"],
    "additionalProperties": False,
}
EFFORT: Final = "low"
BUDGET: Final = 2048
TEXTS: Final = ["sun", "rain"]


@attrs.frozen(kw_only=True)
class Talk:
    """One conversation; the model is added when it is asked for."""

    openai: Json | None
    anthropic: Json | None

    def request(self, form: str, model: str) -> ChatRequest:
        """Return what the gateway reads from the client's body."""
        body = getattr(self, form)
        assert body is not None, f"no {form} client can say this"
        raw = json.dumps({"model": model, **body}).encode()
        match form:
            case "openai":
                return decode_chat(raw).request
            case _:
                return decode_messages(raw).request


def _openai(*messages: Json, **more: Any) -> Json:
    return {
        "messages": [{"role": "system", "content": SYSTEM}, *messages],
        "max_completion_tokens": MAX_TOKENS,
        **more,
    }


def _anthropic(*messages: Json, **more: Any) -> Json:
    return {
        "system": SYSTEM,
        "messages": list(messages),
        "max_tokens": MAX_TOKENS,
        **more,
    }


def user(content: str | list[Json]) -> Json:
    return {"role": "user", "content": content}


def assistant(content: str | list[Json] | None, **more: Any) -> Json:
    return {"role": "assistant", "content": content, **more}


def openai_tool(name: str) -> Json:
    function = {"name": name, "description": DESCRIPTION, "parameters": PARAMETERS}
    return {"type": "function", "function": function}


def openai_call(place: int) -> Json:
    own_id, name, arguments = CALLS[place]
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"id": own_id, "type": "function", "function": function}


def openai_result(place: int) -> Json:
    content = json.dumps(RESULTS[place])
    return {"role": "tool", "tool_call_id": CALLS[place][0], "content": content}


def anthropic_tool(name: str) -> Json:
    return {"name": name, "description": DESCRIPTION, "input_schema": PARAMETERS}


def anthropic_call(place: int) -> Json:
    own_id, name, arguments = CALLS[place]
    return {"type": "tool_use", "id": own_id, "name": name, "input": arguments}


def anthropic_result(place: int) -> Json:
    content = json.dumps(RESULTS[place])
    return {"type": "tool_result", "tool_use_id": CALLS[place][0], "content": content}


OPENAI_TOOLS: Final = [openai_tool(TOOL), openai_tool(OTHER_TOOL)]
ANTHROPIC_TOOLS: Final = [anthropic_tool(TOOL), anthropic_tool(OTHER_TOOL)]


def _asked(openai: Json, anthropic: Json | None) -> Talk:
    """Return a talk of one question, with these further fields."""
    return Talk(
        openai=_openai(user(PROMPT), **openai),
        anthropic=None if anthropic is None else _anthropic(user(PROMPT), **anthropic),
    )


def _choosing(openai: Any, anthropic: Json) -> Talk:
    return _asked(
        {"tools": OPENAI_TOOLS, "tool_choice": openai},
        {"tools": ANTHROPIC_TOOLS, "tool_choice": anthropic},
    )


TALKS: Final = {
    "greeting": _asked({}, {}),
    "turns": Talk(
        openai=_openai(user(PROMPT), assistant(REPLY), user(MORE)),
        anthropic=_anthropic(user(PROMPT), assistant(REPLY), user(MORE)),
    ),
    "sampling": _asked(
        {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}
    ),
    "stop": _asked({"stop": STOPS}, {"stop_sequences": STOPS}),
    "penalties": _asked(
        {"seed": 7, "presence_penalty": 0.25, "frequency_penalty": 0.5}, None
    ),
    "result": Talk(
        openai=_openai(
            user(PROMPT),
            assistant(None, tool_calls=[openai_call(0)]),
            openai_result(0),
            tools=OPENAI_TOOLS[:1],
        ),
        anthropic=_anthropic(
            user(PROMPT),
            assistant([anthropic_call(0)]),
            user([anthropic_result(0)]),
            tools=ANTHROPIC_TOOLS[:1],
        ),
    ),
    "results": Talk(
        openai=_openai(
            user(PROMPT),
            assistant(PLAN, tool_calls=[openai_call(0), openai_call(1)]),
            openai_result(0),
            openai_result(1),
            user(MORE),
            tools=OPENAI_TOOLS,
        ),
        anthropic=_anthropic(
            user(PROMPT),
            assistant(
                [{"type": "text", "text": PLAN}, anthropic_call(0), anthropic_call(1)]
            ),
            user(
                [
                    anthropic_result(0),
                    anthropic_result(1),
                    {"type": "text", "text": MORE},
                ]
            ),
            tools=ANTHROPIC_TOOLS,
        ),
    ),
    "picture": Talk(
        openai=_openai(
            user(
                [
                    {"type": "text", "text": PROMPT},
                    {
                        "type": "image_url",
                        "image_url": {"url": f"data:image/png;base64,{PICTURE}"},
                    },
                ]
            )
        ),
        anthropic=_anthropic(
            user(
                [
                    {"type": "text", "text": PROMPT},
                    {
                        "type": "image",
                        "source": {
                            "type": "base64",
                            "media_type": "image/png",
                            "data": PICTURE,
                        },
                    },
                ]
            )
        ),
    ),
    "schema": _asked(
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "verdict", "schema": SCHEMA, "strict": True},
            }
        },
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    ),
    "required": _choosing("required", {"type": "any"}),
    "named": _choosing(
        {"type": "function", "function": {"name": TOOL}}, {"type": "tool", "name": TOOL}
    ),
    "none": _choosing("none", {"type": "none"}),
    "effort": _asked({"reasoning_effort": EFFORT}, None),
    "budget": Talk(
        openai=None,
        anthropic=_anthropic(
            user(PROMPT), thinking={"type": "enabled", "budget_tokens": BUDGET}
        ),
    ),
}


def sayable(*without: str) -> list[Any]:
    """Return every talk in every format that has words for it, *without* some."""
    return [
        pytest.param(name, form, id=f"{name}-{form}")
        for name, talk in TALKS.items()
        for form in ("openai", "anthropic")
        if getattr(talk, form) is not None and name not in without
    ]
