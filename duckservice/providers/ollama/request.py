"""A `ChatRequest` in Ollama's own words.

What an OpenAI client writes beside its own format and Ollama knows (`EXTRAS`) goes
on as it is, and wins over what we would say. ``user`` says who asks, for a provider's
own records; Ollama keeps none, and no answer depends on it, so it is left out.

The size of the context (``num_ctx``) is never touched: a change of it makes Ollama
load the model anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, assert_never

import msgspec

from duckservice.completion import (
    ChatRequest,
    ImagePart,
    Message,
    Part,
    Reasoning,
    ReasoningPart,
    RefusalPart,
    ResponseFormat,
    TextPart,
    Tool,
    ToolCall,
    ToolResult,
    WireFormat,
)
from duckservice.providers.translation import (
    are_arguments,
    failure,
    foreign_fields,
    has_unsayable_failure,
    message_path,
    option,
    part_path,
    refusal,
    to_json,
)

Json: TypeAlias = dict[str, Any]

EXTRAS: Final = frozenset({"keep_alive", "options", "think"})
"""Ollama's own fields, which go on as the client wrote them."""

_LEVELS: Final = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}
_HAS_LEVELS: Final = re.compile(r"(?:.*/)?gpt-oss")
"""The models that are told how much to think; all others only whether."""


def check(request: ChatRequest, *, provider: str) -> None:
    """Raise `InvalidRequest` for what this format has no words for."""
    for field, reason in _untranslatable(request):
        raise refusal(provider, "Ollama's format", field, reason)


def encode(request: ChatRequest, *, stream: bool, provider: str) -> bytes:
    """Return the body of the request. What `check` refuses is not looked for again."""
    body: Json = {
        "model": request.model,
        "messages": list(_messages(request)),
        "stream": stream,  # it streams where nothing is said
    }
    if request.tools and not _no_tools(request):
        body["tools"] = [_tool(tool) for tool in request.tools]
    wanted = _format(request.response_format)
    if wanted is not None:
        body["format"] = wanted
    think = _think(request.reasoning, request.model)
    if think is not None:
        body["think"] = think
    given = {k: v for k, v in request.extra.items() if k in EXTRAS and v is not None}
    options = {**_options(request), **given.pop("options", {})}
    if options:
        body["options"] = options
    return to_json(body | given, provider)


def _untranslatable(request: ChatRequest) -> Iterator[tuple[str, str]]:
    # In this format all is foreign that only the client's own knows.
    other: WireFormat = "openai" if request.format == "anthropic" else "anthropic"
    for field in foreign_fields(request, other):
        if field not in EXTRAS:
            yield field, ""
    if not isinstance(request.extra.get("options") or {}, Mapping):
        yield "options", "must be an object"
    if request.parallel_tool_calls is False and not _no_tools(request):
        yield (
            option(request, "parallel_tool_calls"),
            "Ollama cannot be told to make one call at a time",
        )
    wanted = request.response_format
    if wanted is not None and wanted.description is not None:
        field = option(request, "response_format.json_schema")
        yield f"{field}.description", ""
    yield from _untranslatable_messages(request)


def _untranslatable_messages(request: ChatRequest) -> Iterator[tuple[str, str]]:
    for i, message in enumerate(request.messages):
        if message.name is not None and message.role != "tool":
            yield f"{message_path(request, i)}.name", ""
        for j, part in enumerate(message.parts):
            path = part_path(request, i, j)
            yield from _untranslatable_part(path, part, message)
        calls = (part for part in message.parts if isinstance(part, ToolCall))
        for k, call in enumerate(calls):
            if not are_arguments(call.arguments):
                path = f"{message_path(request, i)}.tool_calls[{k}].function.arguments"
                yield path, "Ollama takes a JSON object"


def _untranslatable_part(
    path: str, part: Part, message: Message
) -> Iterator[tuple[str, str]]:
    match part:
        case ReasoningPart(signature=signature, redacted=redacted):
            # A thought that is signed belongs to who signed it.
            if signature or redacted or message.role != "assistant":
                yield path, ""
        case ImagePart(detail="low" | "high"):
            yield f"{path}.image_url.detail", "Ollama sees pictures in one way"
        case ToolResult() if has_unsayable_failure(part):
            yield f"{path}.is_error", ""
        case ToolResult(content=content):
            for k, inner in enumerate(content):
                inside = f"{path}.content[{k}]"
                yield from _untranslatable_part(inside, inner, message)
        case _:
            pass


def _no_tools(request: ChatRequest) -> bool:
    """Say whether no tool may be called, which is told by offering none."""
    choice = request.tool_choice
    return not request.tools or (choice is not None and choice.mode == "none")


def _options(request: ChatRequest) -> Json:
    options: Json = {
        "num_predict": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "stop": list(request.stop) or None,
        "seed": request.seed,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
    }
    return {name: value for name, value in options.items() if value is not None}


def _format(wanted: ResponseFormat | None) -> str | Mapping[str, Any] | None:
    if wanted is None or wanted.type == "text":
        return None
    return "json" if wanted.schema is None else wanted.schema


def _think(reasoning: Reasoning | None, model: str) -> bool | str | None:
    match reasoning:
        case None | Reasoning(effort=None, budget_tokens=None, mode=None):
            return None
        case Reasoning(mode="disabled") | Reasoning(effort="none"):
            return False
        case Reasoning() if not _HAS_LEVELS.match(model):
            return True
        case Reasoning(effort=str(effort)):
            return _LEVELS.get(effort, effort)
        case Reasoning(budget_tokens=int(budget)):
            return _level(budget)
        case Reasoning():
            return True


def _level(budget: int) -> str:
    if budget <= 2048:
        return "low"
    return "medium" if budget <= 8192 else "high"


def _tool(tool: Tool) -> Json:
    function: Json = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = tool.parameters or {"type": "object", "properties": {}}
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _messages(request: ChatRequest) -> Iterator[Json]:
    names: dict[str, str] = {}
    for message in request.messages:
        match message.role:
            case "assistant":
                yield _assistant(message, names)
            case "system" | "developer" | "user" | "tool":
                yield from _other(message, names)
            case _:
                assert_never(message.role)


def _other(message: Message, names: Mapping[str, str]) -> Iterator[Json]:
    """Yield the messages of a turn: each tool result is one of its own."""
    role = "system" if message.role == "developer" else message.role
    rest: list[Part] = []
    for part in message.parts:
        if not isinstance(part, ToolResult):
            rest.append(part)
            continue
        if rest:
            yield {"role": role, **_content(rest)}
            rest = []
        yield _tool_message(part, names.get(part.tool_call_id) or message.name)
    if rest or not message.parts:
        yield {"role": role, **_content(rest)}


def _tool_message(result: ToolResult, name: str | None) -> Json:
    body: Json = {"role": "tool", **_content(result.content)}
    if (failed := failure(result)) is not None:
        body["content"] = failed
    if name is not None:
        body["tool_name"] = name
    body["tool_call_id"] = result.tool_call_id
    return body


def _assistant(message: Message, names: dict[str, str]) -> Json:
    """Return the message; *names* learns what its calls' ids stand for."""
    thoughts = [p.text for p in message.parts if isinstance(p, ReasoningPart)]
    calls = [part for part in message.parts if isinstance(part, ToolCall)]
    body: Json = {"role": "assistant", **_content(message.parts)}
    if any(thoughts):
        body["thinking"] = "".join(thoughts)
    if calls:
        body["tool_calls"] = [_tool_call(call) for call in calls]
        names.update((call.id, call.name) for call in calls)
    return body


def _tool_call(call: ToolCall) -> Json:
    # Not read into values and written anew: numbers stay as the model wrote them.
    arguments = msgspec.Raw(call.arguments.encode("utf-8", "replace") or b"{}")
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id, "type": "function", "function": function}


def _content(parts: Sequence[Part]) -> Json:
    """Return text and pictures, each kind by itself: a content is one text here."""
    texts = [p.text for p in parts if isinstance(p, (TextPart, RefusalPart))]
    pictures = [part.data for part in parts if isinstance(part, ImagePart)]
    content: Json = {"content": "\n".join(texts)}
    if pictures:
        content["images"] = pictures
    return content
