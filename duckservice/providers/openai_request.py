"""A `ChatRequest` in the words of OpenAI's Chat Completions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, TypeAlias, assert_never

from duckservice.completion import (
    ChatRequest,
    ImagePart,
    Message,
    OpaquePart,
    Part,
    Reasoning,
    ReasoningPart,
    RefusalPart,
    ResponseFormat,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from duckservice.providers.translation import (
    foreign_fields,
    is_plain_text,
    part_path,
    refusal,
    to_json,
)

Json: TypeAlias = dict[str, Any]

SCHEMA_NAME: Final = "response"
"""OpenAI demands a name for a schema; Anthropic has none."""

STOPS_MAX: Final = 4
"""OpenAI's own limit."""

_REASONING_MODEL: Final = re.compile(r"(?:.*/)?(?:ft:)?(?:o[1-9]|gpt-[5-9])(?![0-9])")
"""They call the limit ``max_completion_tokens`` and refuse ``max_tokens``."""


def check(request: ChatRequest, *, provider: str, lenient: bool) -> None:
    """Raise `InvalidRequest` for what this format has no words for.

    *lenient* is for servers that only speak the format: they know more fields
    than OpenAI does (``top_k``, ``reasoning_content``) and are left to judge.
    """
    for field in _untranslatable(request, lenient=lenient):
        raise refusal(provider, "OpenAI's format", field)


def encode(
    request: ChatRequest, *, stream: bool, provider: str, lenient: bool
) -> bytes:
    """Return the body of the request. What `check` refuses is not looked for again."""
    body: Json = {
        "model": request.model,
        "messages": list(_messages(request, lenient=lenient)),
    }
    body |= _options(request)
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if request.tool_choice is not None:
        body["tool_choice"] = _tool_choice(request.tool_choice)
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls
    if request.response_format is not None:
        body["response_format"] = _response_format(
            request.response_format, foreign=request.format != "openai"
        )
    if request.format == "openai":
        body |= request.extra  # what is understood only in part is there as written
    if stream:
        body["stream"] = True
        # Without it most servers never say what a stream has used.
        options: Json = body.get("stream_options") or {}
        body["stream_options"] = {**options, "include_usage": True}
    return to_json(body, provider)


def _untranslatable(request: ChatRequest, *, lenient: bool) -> Iterator[str]:
    yield from foreign_fields(request, "openai")
    if request.top_k is not None and not lenient:
        yield "top_k"
    if request.format == "openai":
        return
    if len(request.stop) > STOPS_MAX and not lenient:
        yield "stop_sequences"
    if request.reasoning is not None and _cannot_be_told(request.reasoning, request):
        yield "thinking.type"
    for i, message in enumerate(request.messages):
        for j, part in enumerate(message.parts):
            path = part_path(request, i, j)
            yield from _untranslatable_part(path, part, lenient=lenient)


def _untranslatable_part(path: str, part: Part, *, lenient: bool) -> Iterator[str]:
    match part:
        case ReasoningPart(signature=signature, redacted=redacted):
            # A thought that is signed belongs to who signed it.
            if signature or redacted or not lenient:
                yield path
        case ToolResult(is_error=True):
            yield f"{path}.is_error"
        case ToolResult(content=content):
            if not all(isinstance(inner, TextPart) for inner in content):
                yield f"{path}.content"
        case _:
            pass


def _cannot_be_told(reasoning: Reasoning, request: ChatRequest) -> bool:
    # Models without reasoning do what is asked anyway; those with it have no
    # common word for doing without.
    return reasoning.mode == "disabled" and takes_completion_limit(request.model)


def takes_completion_limit(model: str) -> bool:
    """Say whether *model* wants ``max_completion_tokens`` in place of ``max_tokens``."""
    return _REASONING_MODEL.match(model) is not None


def _options(request: ChatRequest) -> Json:
    limit = (
        "max_completion_tokens"
        if takes_completion_limit(request.model)
        else "max_tokens"
    )
    options: Json = {
        limit: request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "n": request.n,
        "stop": list(request.stop) or None,
        "seed": request.seed,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
        "reasoning_effort": _effort(request.reasoning),
        "user": request.user,
    }
    return {name: value for name, value in options.items() if value is not None}


def _effort(reasoning: Reasoning | None) -> str | None:
    """Return the effort that is meant; a budget is brought to the nearest word."""
    if reasoning is None:
        return None
    if reasoning.effort is not None or reasoning.budget_tokens is None:
        return reasoning.effort
    if reasoning.budget_tokens <= 2048:
        return "low"
    return "medium" if reasoning.budget_tokens <= 8192 else "high"


def _messages(request: ChatRequest, *, lenient: bool) -> Iterator[Json]:
    for message in request.messages:
        match message.role:
            case "assistant":
                yield _assistant(message)
            case "system" | "developer" | "user" | "tool":
                yield from _other(message, lenient=lenient)
            case _:
                assert_never(message.role)


def _other(message: Message, *, lenient: bool) -> Iterator[Json]:
    """Yield the messages of a turn: each tool result is one of its own."""
    rest: list[Part] = []
    for part in message.parts:
        if not isinstance(part, ToolResult):
            rest.append(part)
            continue
        if rest:
            yield _plain_message(message, tuple(rest), lenient=lenient)
            rest = []
        yield _tool_message(message, part)
    if rest or not message.parts:
        yield _plain_message(message, tuple(rest), lenient=lenient)


def _plain_message(message: Message, parts: tuple[Part, ...], *, lenient: bool) -> Json:
    role = message.role
    if role == "developer" and lenient:
        role = "system"  # its name before 2024, and still so elsewhere
    body: Json = {"role": role, "content": _content(parts)}
    return _with_name_and_extra(body, message)


def _tool_message(message: Message, result: ToolResult) -> Json:
    body: Json = {
        "role": "tool",
        "tool_call_id": result.tool_call_id,
        "content": _content(result.content),
        **result.extra,
    }
    return _with_name_and_extra(body, message) if message.role == "tool" else body


def _assistant(message: Message) -> Json:
    said: list[Part] = []
    calls: list[Json] = []
    thoughts: list[str] = []
    refusals: list[str] = []
    for part in message.parts:
        match part:
            case ToolCall():
                calls.append(_tool_call(part))
            case ReasoningPart(text=text):
                thoughts.append(text)
            case RefusalPart(text=text):
                refusals.append(text)
            case TextPart() | ImagePart() | OpaquePart() | ToolResult():
                said.append(part)
            case _:
                assert_never(part)
    content = _content(tuple(said)) if said else None  # "" stays ""
    body: Json = {"role": "assistant", "content": content}
    if thoughts:
        body["reasoning_content"] = "".join(thoughts)
    if refusals:
        body["refusal"] = "".join(refusals)
    if calls:
        body["tool_calls"] = calls
    return _with_name_and_extra(body, message)


def _with_name_and_extra(body: Json, message: Message) -> Json:
    if message.name is not None:
        body["name"] = message.name
    if message.extra:
        body |= message.extra
    return body


def _content(parts: tuple[Part, ...]) -> str | list[Json]:
    if is_plain_text(parts):
        assert isinstance(parts[0], TextPart)
        return parts[0].text
    return [_part(part) for part in parts] or ""


def _part(part: Part) -> Json:
    match part:
        case TextPart(text=text, extra=extra):
            return {"type": "text", "text": text, **extra}
        case ImagePart(extra=extra):
            return {"type": "image_url", "image_url": _image_url(part), **extra}
        case RefusalPart(text=text):
            return {"type": "refusal", "refusal": text}
        case ReasoningPart(text=text):
            return {"type": "text", "text": text}
        case OpaquePart(value=value):
            return dict(value)
        case ToolCall() | ToolResult():
            raise AssertionError("calls and results are messages here, not parts")
        case _:
            assert_never(part)


def _image_url(image: ImagePart) -> Json:
    url = image.url
    if url is None:
        url = f"data:{image.media_type};base64,{image.data}"
    return (
        {"url": url} if image.detail is None else {"url": url, "detail": image.detail}
    )


def _tool_call(call: ToolCall) -> Json:
    if "type" in call.extra:  # a kind that only this format knows
        return {"id": call.id, **call.extra}
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function, **call.extra}


def _tool(tool: Tool) -> Json:
    if "type" in tool.extra:  # a kind that only this format knows
        return dict(tool.extra)
    function: Json = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = tool.parameters
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function, **tool.extra}


def _tool_choice(choice: ToolChoice) -> str | Json:
    if choice.mode == "tool":
        return {"type": "function", "function": {"name": choice.name}}
    return choice.mode


def _response_format(wanted: ResponseFormat, *, foreign: bool) -> Json:
    if wanted.type != "json_schema":
        return {"type": wanted.type}
    schema: Json = {"name": wanted.name or SCHEMA_NAME}
    if wanted.description is not None:
        schema["description"] = wanted.description
    if wanted.schema is not None:
        schema["schema"] = wanted.schema
    # Anthropic always keeps to a schema; here it must be asked for.
    strict = True if foreign and wanted.strict is None else wanted.strict
    if strict is not None:
        schema["strict"] = strict
    return {"type": "json_schema", "json_schema": schema}
