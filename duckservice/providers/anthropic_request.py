"""A `ChatRequest` in the words of Anthropic's Messages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias, assert_never

import msgspec

from duckservice.completion import (
    ChatRequest,
    ImagePart,
    Message,
    OpaquePart,
    Part,
    Reasoning,
    ReasoningPart,
    RefusalPart,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from duckservice.providers.translation import (
    are_arguments,
    foreign_fields,
    is_plain_text,
    option,
    part_path,
    refusal,
    to_json,
)

Json: TypeAlias = dict[str, Any]

MAX_TOKENS: Final = 4096
"""Anthropic demands ``max_tokens``; this is what a request without it gets.
Every model since Claude 3 can write so much; a reply that is cut says ``length``."""

THINKING_TOKENS_MIN: Final = 1024
"""Anthropic's own lower limit of ``budget_tokens``."""

EFFORT_BUDGETS: Final = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16384,
    "xhigh": 32768,
    "max": 32768,
}
"""OpenAI's efforts for models that know budgets only."""

_ADAPTIVE_EFFORTS: Final = {"minimal": "low"}
"""Efforts that have another name here."""

_TAKES_BUDGET: Final = re.compile(
    r"claude-(?:[23][-.].*|(?:opus|sonnet|haiku)-4(?:-[015])?(?:-20[0-9]{6})?)"
)
"""The models from before adaptive thinking; the list is closed."""

_COUNTED: Final = (
    "model",
    "messages",
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "cache_control",
)
"""What ``count_tokens`` takes."""


_GOOGLES: Final = "extra_content"
"""The signature of a Gemini call, which is whole without it."""

_UNDERSTOOD: Final = frozenset({_GOOGLES, "cache_control"})
"""Fields of messages, parts and tools: OpenAI's clients mark what Claude is to cache."""


def check(request: ChatRequest, *, provider: str) -> None:
    """Raise `InvalidRequest` for what this format has no words for."""
    for field in _untranslatable(request):
        raise refusal(provider, "Anthropic's format", field)


def encode(request: ChatRequest, *, stream: bool, provider: str) -> bytes:
    """Return the body of the request. What `check` refuses is not looked for again."""
    body = _body(request, provider)
    if stream:
        body["stream"] = True
    return to_json(body, provider)


def encode_for_count(request: ChatRequest, *, provider: str) -> bytes:
    """Return the body of a request to count the prompt's tokens."""
    body = _body(request, provider)
    return to_json({key: body[key] for key in _COUNTED if key in body}, provider)


def _untranslatable(request: ChatRequest) -> Iterator[str]:
    yield from foreign_fields(request, "anthropic", understood=_UNDERSTOOD)
    yield from _unknown_options(request)
    if request.format == "anthropic":
        return
    if not _has_room_for_thinking(request):
        yield option(request, "reasoning_effort")
    for i, message in enumerate(request.messages):
        if message.name is not None and message.role != "tool":
            yield f"messages[{i}].name"
        for j, part in enumerate(message.parts):
            if not isinstance(part, (TextPart, RefusalPart)):
                yield from _untranslatable_part(part_path(request, i, j), part)


def _unknown_options(request: ChatRequest) -> Iterator[str]:
    if request.n not in (None, 1):
        yield "n"
    if request.seed is not None:
        yield "seed"
    if request.presence_penalty:
        yield "presence_penalty"
    if request.frequency_penalty:
        yield "frequency_penalty"
    wanted = request.response_format
    if wanted is not None and wanted.type == "json_object":
        yield option(request, "response_format")
    if wanted is not None and wanted.description is not None:
        yield f"{option(request, 'response_format.json_schema')}.description"


def _untranslatable_part(path: str, part: Part) -> Iterator[str]:
    match part:
        case ImagePart(detail="low" | "high"):
            yield f"{path}.image_url.detail"
        case ReasoningPart(signature=None, redacted=None):
            yield f"{path} (reasoning without a signature)"
        case ToolCall(arguments=arguments) if not are_arguments(arguments):
            yield f"{path}.function.arguments"
        case ToolResult(content=content):
            for k, inner in enumerate(content):
                yield from _untranslatable_part(f"{path}.content[{k}]", inner)
        case _:
            pass


def _body(request: ChatRequest, provider: str) -> Json:
    first = _leading_system(request.messages)
    body: Json = {
        "model": request.model,
        "max_tokens": _max_tokens(request),
        "messages": _turns(request.messages[first:], provider),
    }
    if first:
        body["system"] = _system(request.messages[:first], provider)
    body |= _options(request)
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    parallel = request.parallel_tool_calls if request.tools else None
    choice = _tool_choice(request.tool_choice, parallel=parallel)
    if choice is not None:
        body["tool_choice"] = choice
    if request.format == "anthropic":
        for name, value in request.extra.items():
            ours: object = body.get(name)
            # What is understood only in part is in extra as it was written.
            if isinstance(ours, dict) and isinstance(value, dict):
                body[name] = {**ours, **value}
            else:
                body[name] = value
    return body


def _own(extra: Mapping[str, Any]) -> Mapping[str, Any]:
    if _GOOGLES not in extra:
        return extra
    return {name: value for name, value in extra.items() if name != _GOOGLES}


def _max_tokens(request: ChatRequest) -> int:
    if request.max_tokens is not None:
        return request.max_tokens
    budget: int = (_thinking(request) or {}).get("budget_tokens", 0)
    return MAX_TOKENS + budget  # which must be larger than the budget


def _options(request: ChatRequest) -> Json:
    output: Json = {}
    if (wanted := request.response_format) is not None and wanted.schema is not None:
        output["format"] = {"type": "json_schema", "schema": wanted.schema}
    effort = _effort(request)
    if effort is not None:
        output["effort"] = effort
    options: Json = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "stop_sequences": list(request.stop) or None,
        "thinking": _thinking(request),
        "output_config": output or None,
        "metadata": None if request.user is None else {"user_id": request.user},
    }
    return {name: value for name, value in options.items() if value is not None}


def _thinking(request: ChatRequest) -> Json | None:
    match request.reasoning:
        case None:
            return None
        case Reasoning(mode=str(mode), budget_tokens=None):
            return {"type": mode}
        case Reasoning(budget_tokens=int(budget), mode=mode):
            return {"type": mode or "enabled", "budget_tokens": budget}
        case Reasoning(effort=None):
            return None
        case Reasoning() if request.format == "anthropic":
            return None  # an effort alone is output_config's
        case Reasoning(effort="none"):
            return {"type": "disabled"}
        case Reasoning(effort=effort) if takes_budget(request.model):
            budget = EFFORT_BUDGETS.get(effort or "", EFFORT_BUDGETS["medium"])
            if request.max_tokens is not None:
                budget = min(budget, request.max_tokens - 1)
            return {
                "type": "enabled",
                "budget_tokens": max(budget, THINKING_TOKENS_MIN),
            }
        case Reasoning():
            return {"type": "adaptive"}


def _has_room_for_thinking(request: ChatRequest) -> bool:
    thinking = _thinking(request) or {}
    budget: int = thinking.get("budget_tokens", 0)
    limit = request.max_tokens
    return limit is None or limit > budget


def _effort(request: ChatRequest) -> str | None:
    reasoning = request.reasoning
    if reasoning is None or reasoning.effort in (None, "none"):
        return None
    if request.format != "anthropic" and takes_budget(request.model):
        return None
    effort = reasoning.effort or ""
    return _ADAPTIVE_EFFORTS.get(effort, effort)


def takes_budget(model: str) -> bool:
    """Say whether *model* is from before adaptive thinking."""
    return _TAKES_BUDGET.fullmatch(model) is not None


def _leading_system(messages: tuple[Message, ...]) -> int:
    """Return how many messages at the start are the system's."""
    for count, message in enumerate(messages):
        if message.role not in ("system", "developer"):
            return count
    return len(messages)


def _system(messages: tuple[Message, ...], provider: str) -> str | list[Json]:
    return _content(tuple(p for m in messages for p in m.parts), provider)


def _turns(messages: tuple[Message, ...], provider: str) -> list[Json]:
    turns: list[Json] = []
    results: list[Json] | None = None  # the open turn of tool results
    for message in messages:
        match message.role:
            case "tool":
                blocks = [_block(part, provider) for part in message.parts]
                if results is None:
                    results = blocks
                    turns.append({"role": "user", "content": results})
                else:
                    results += blocks
                continue
            case "developer":
                role = "system"
            case "system" | "user" | "assistant":
                role = message.role
            case _:
                assert_never(message.role)
        results = None
        content = _content(message.parts, provider)
        turns.append({"role": role, "content": content, **_own(message.extra)})
    return turns


def _content(parts: tuple[Part, ...], provider: str) -> str | list[Json]:
    if is_plain_text(parts):
        assert isinstance(parts[0], TextPart)
        return parts[0].text
    # Other formats write "" beside a call; here an empty text is an error.
    said = [p for p in parts if not (isinstance(p, TextPart) and not p.text)]
    return [_block(part, provider) for part in said or parts]


def _block(part: Part, provider: str) -> Json:
    match part:
        case TextPart(text=text, extra=extra):
            return {"type": "text", "text": text, **extra}
        case ImagePart(extra=extra):
            return {"type": "image", "source": _source(part), **extra}
        case ReasoningPart(redacted=str(redacted)):
            return {"type": "redacted_thinking", "data": redacted}
        case ReasoningPart(text=text, signature=signature):
            return {"type": "thinking", "thinking": text, "signature": signature or ""}
        case RefusalPart(text=text):
            return {"type": "text", "text": text}
        case ToolCall():
            return _tool_use(part, provider)
        case ToolResult():
            return _tool_result(part, provider)
        case OpaquePart(value=value):
            return dict(value)
        case _:
            assert_never(part)


def _source(image: ImagePart) -> Json:
    if image.data is not None:
        return {
            "type": "base64",
            "media_type": image.media_type,
            "data": image.data,
        }
    return {"type": "url", "url": image.url}


def _tool_use(call: ToolCall, provider: str) -> Json:
    if not are_arguments(call.arguments):
        raise refusal(
            provider,
            "Anthropic's format",
            "messages[].tool_calls[].function.arguments",
            f"the call {call.id!r} has arguments that are no JSON object",
        )
    # Not read into values and written anew: numbers stay as the model wrote them.
    return {
        "type": "tool_use",
        "id": call.id,
        "name": call.name,
        "input": msgspec.Raw(call.arguments.encode() or b"{}"),
        **_own(call.extra),
    }


def _tool_result(result: ToolResult, provider: str) -> Json:
    block: Json = {
        "type": "tool_result",
        "tool_use_id": result.tool_call_id,
        "content": _content(result.content, provider),
    }
    if result.is_error:
        block["is_error"] = True
    return {**block, **result.extra}


def _tool(tool: Tool) -> Json:
    if "type" in tool.extra:  # a kind that only this format knows
        return dict(tool.extra)
    schema = tool.parameters or {"type": "object", "properties": {}}
    body: Json = {"name": tool.name, "input_schema": schema, **tool.extra}
    if tool.description is not None:
        body["description"] = tool.description
    if tool.strict is not None:
        body["strict"] = tool.strict
    return body


_MODES: Final = {"auto": "auto", "none": "none", "required": "any", "tool": "tool"}


def _tool_choice(choice: ToolChoice | None, *, parallel: bool | None) -> Json | None:
    if choice is None and parallel is not False:
        return None
    body: Json = {"type": "auto" if choice is None else _MODES[choice.mode]}
    if choice is not None and choice.mode == "tool":
        body["name"] = choice.name
    if parallel is not None and body["type"] != "none":
        body["disable_parallel_tool_use"] = not parallel
    return body
