"""A `ChatRequest` in the words of OpenAI's Responses.

Nothing is left at the provider: ``store`` is false unless a client of this very
format says otherwise, and models that reason are asked for their thoughts in
encrypted form, so that the next turn can bring them back.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, TypeAlias, assert_never

from duckservice.completion import (
    ChatRequest,
    Message,
    ResponseFormat,
    TextPart,
    Tool,
    ToolChoice,
)
from duckservice.placed_message import PlacedMessage
from duckservice.providers.responses.chat_fields import from_chat
from duckservice.providers.responses.input_items import input_items, without_nulls
from duckservice.providers.responses.variant import ResponsesVariant
from duckservice.providers.translation import to_json

Json: TypeAlias = dict[str, Any]

SCHEMA_NAME: Final = "response"
"""OpenAI demands a name for a schema; Anthropic has none."""

ENCRYPTED: Final = "reasoning.encrypted_content"

_REASONS: Final = re.compile(
    r"(?:.*[/.])?(?:ft:)?(?:o[1-9]|gpt-[5-9])(?![0-9])(?!.*-chat)"
)
"""Models that reason; those for chats (``gpt-5-chat-latest``) do not."""

_COUNTED: Final = (
    "model",
    "input",
    "instructions",
    "previous_response_id",
    "conversation",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "text",
    "reasoning",
    "truncation",
)
"""What the counting of tokens takes."""


def encode(
    request: ChatRequest, its: ResponsesVariant, *, stream: bool, provider: str
) -> bytes:
    """Return the body of the request. What is refused is not looked for again."""
    body = _body(request, its)
    if stream:
        body["stream"] = True
    return to_json(body, provider)


def encode_for_count(
    request: ChatRequest, its: ResponsesVariant, *, provider: str
) -> bytes:
    """Return the body of a request to count the prompt's tokens."""
    body = _body(request, its)
    return to_json({name: body[name] for name in _COUNTED if name in body}, provider)


def reasons(model: str) -> bool:
    """Say whether *model* is one of OpenAI's that reason."""
    return _REASONS.match(model) is not None


def _body(request: ChatRequest, its: ResponsesVariant) -> Json:
    foreign = request.format != "responses"
    instructions, messages = _instructions(request)
    body: Json = {
        "model": request.model,
        "input": input_items(messages, its, foreign=foreign),
        "instructions": instructions,
        "store": False,
        "tools": [_tool(tool, foreign=foreign) for tool in request.tools] or None,
        "tool_choice": _tool_choice(request.tool_choice),
    }
    body |= _options(request, its)
    body = {name: value for name, value in body.items() if value is not None}
    match request.format:
        case "responses":
            # What is understood only in part is there as it was written.
            return body | without_nulls(request.extra)
        case "openai":
            return _joined(body, from_chat(request.extra))
        case "anthropic":
            return body
        case _:
            assert_never(request.format)


def _instructions(request: ChatRequest) -> tuple[str | None, Sequence[Message]]:
    """Return what a client of this format wrote beside its input, and the rest.

    Those of other formats stay where they are, among the messages: there they keep
    their role and their place.
    """
    first = request.messages[0]
    if not isinstance(first, PlacedMessage) or first.place != "instructions":
        return None, request.messages
    text = "".join(part.text for part in first.parts if isinstance(part, TextPart))
    return text, request.messages[1:]


def _options(request: ChatRequest, its: ResponsesVariant) -> Json:
    reasoning = _reasoning(request, its)
    same = request.user == request.extra.get("safety_identifier")
    return {
        "max_output_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "parallel_tool_calls": request.parallel_tool_calls,
        "user": None if same else request.user,
        "text": _text(request),
        "reasoning": reasoning,
        "include": [ENCRYPTED] if _is_to_think(request, reasoning) else None,
    }


def _is_to_think(request: ChatRequest, reasoning: Json | None) -> bool:
    if request.format == "responses":
        return False  # its clients say themselves what is to be included
    # The names of deployments and of other makers' models say nothing.
    asked = (reasoning or {}).get("effort", "none")
    return reasons(request.model) or asked != "none"


def _reasoning(request: ChatRequest, its: ResponsesVariant) -> Json | None:
    wanted = request.reasoning
    if wanted is None:
        return None
    if request.format == "responses":
        effort = wanted.effort
    else:
        effort = (its.asking(wanted, request) or {}).get("reasoning_effort")
    said: Json = {} if effort is None else {"effort": effort}
    if wanted.mode not in (None, "disabled"):
        said["summary"] = "auto"  # Anthropic's clients are shown what is thought
    return said or None


def _text(request: ChatRequest) -> Json | None:
    wanted = request.response_format
    if wanted is None:
        return None
    return {"format": _format(wanted, foreign=request.format == "anthropic")}


def _format(wanted: ResponseFormat, *, foreign: bool) -> Json:
    if wanted.type != "json_schema":
        return {"type": wanted.type}
    # Anthropic always keeps to a schema; here it must be asked for.
    strict = True if foreign and wanted.strict is None else wanted.strict
    said: Json = {
        "name": wanted.name or SCHEMA_NAME,
        "description": wanted.description,
        "schema": wanted.schema or {},
        "strict": strict,
    }
    said = {name: value for name, value in said.items() if value is not None}
    return {"type": "json_schema", **said}


def _tool(tool: Tool, *, foreign: bool) -> Json:
    if "type" in tool.extra:  # a kind that only this format knows
        return dict(tool.extra)
    said: Json = {"type": "function", "name": tool.name}
    if tool.description is not None:
        said["description"] = tool.description
    if tool.parameters is not None or foreign:
        said["parameters"] = tool.parameters or {"type": "object", "properties": {}}
    # What is not said means strict here, and not strict in every other format.
    strict = False if foreign and tool.strict is None else tool.strict
    if strict is not None:
        said["strict"] = strict
    return {**said, **without_nulls(tool.extra)}


def _tool_choice(choice: ToolChoice | None) -> str | Json | None:
    if choice is None:
        return None
    if choice.mode == "tool":
        return {"type": "function", "name": choice.name}
    return choice.mode


def _joined(body: Json, fields: Json) -> Json:
    """Return *body* with *fields*: what both say something in has what both say."""
    joined = {**body, **fields}
    text = {**body.get("text", {}), **fields.get("text", {})}
    include = [*body.get("include", ()), *fields.get("include", ())]
    if text:
        joined["text"] = text
    if include:
        joined["include"] = include
    return joined
