"""A `ChatRequest` in the words of OpenAI's Chat Completions, and of its variants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, assert_never

from duckservice.completion import (
    ChatRequest,
    ImagePart,
    Message,
    OpaquePart,
    Part,
    ReasoningPart,
    RefusalPart,
    ResponseFormat,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from duckservice.providers import openai_thoughts
from duckservice.providers.hints import CACHE_CONTROL
from duckservice.providers.openai_variant import (
    DETAILS,
    EXTRA_CONTENT,
    OPENAI,
    PLAN,
    OpenAIVariant,
    says_nothing,
)
from duckservice.providers.translation import (
    failure,
    foreign_fields,
    is_plain_text,
    message_path,
    option,
    part_path,
    refusal,
    to_json,
)

Json: TypeAlias = dict[str, Any]

SCHEMA_NAME: Final = "response"
"""OpenAI demands a name for a schema; Anthropic has none."""


def check(
    request: ChatRequest, *, provider: str, variant: OpenAIVariant = OPENAI
) -> None:
    """Raise `InvalidRequest` for what this format has no words for."""
    for field in _untranslatable(request, variant):
        raise refusal(provider, "OpenAI's format", field)


def encode(
    request: ChatRequest,
    *,
    stream: bool,
    provider: str,
    variant: OpenAIVariant = OPENAI,
) -> bytes:
    """Return the body of the request. What `check` refuses is not looked for again."""
    its = variant
    body: Json = {
        "model": request.model,
        "messages": list(_messages(request, its)),
    }
    body |= _options(request, its)
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if request.tool_choice is not None:
        body["tool_choice"] = _tool_choice(request.tool_choice, its)
    if request.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = request.parallel_tool_calls
    if request.response_format is not None:
        body["response_format"] = _response_format(
            request.response_format, foreign=request.format != "openai"
        )
    if request.format == "openai":
        # What is understood only in part is there as it was written.
        body |= {k: v for k, v in request.extra.items() if k not in its.unknown}
    elif its.capabilities.cache_control and CACHE_CONTROL in request.extra:
        body[CACHE_CONTROL] = request.extra[CACHE_CONTROL]
    if stream:
        body |= _streaming(body, its)
    return to_json(body, provider)


def _streaming(body: Json, its: OpenAIVariant) -> Json:
    if not its.stream_options:
        return {"stream": True}
    # Without it most servers never say what a stream has used.
    options: Json = body.get("stream_options") or {}
    return {"stream": True, "stream_options": {**options, "include_usage": True}}


def _untranslatable(request: ChatRequest, its: OpenAIVariant) -> Iterator[str]:
    for field in foreign_fields(request, "openai"):
        hint = field.rpartition(".")[2] == CACHE_CONTROL
        known = hint and its.capabilities.cache_control
        # The signature of a Gemini call is for Gemini; the call is whole without it.
        if not known and not field.endswith(f".{EXTRA_CONTENT}"):
            yield field
    if request.top_k is not None and not its.capabilities.top_k:
        yield "top_k"
    wanted = request.reasoning
    if wanted is not None and its.asking(wanted, request) is None:
        yield option(request, "reasoning_effort")
    if not its.names:
        yield from _names(request)
    if request.format == "openai":
        yield from _unknown(request, its)
    else:
        yield from _foreign(request, its)


def _unknown(request: ChatRequest, its: OpenAIVariant) -> Iterator[str]:
    for name, value in request.extra.items():
        if name in its.unknown and not says_nothing(value):
            yield name


def _foreign(request: ChatRequest, its: OpenAIVariant) -> Iterator[str]:
    most = its.capabilities.stop_max
    if most is not None and len(request.stop) > most:
        yield option(request, "stop")
    for i, message in enumerate(request.messages):
        for j, part in enumerate(message.parts):
            yield from _untranslatable_part(part_path(request, i, j), part, its)


def _names(request: ChatRequest) -> Iterator[str]:
    for i, message in enumerate(request.messages):
        # A result is known by its call's id; its name says nothing more.
        if message.name is not None and message.role != "tool":
            yield f"{message_path(request, i)}.name"


def _untranslatable_part(path: str, part: Part, its: OpenAIVariant) -> Iterator[str]:
    match part:
        case ReasoningPart(signature=signature, redacted=redacted):
            # A thought that is signed belongs to who signed it.
            sealed = bool(signature or redacted) and its.thoughts != "details"
            if sealed or its.thoughts is None:
                yield path
        case ToolResult(content=content):
            if not all(isinstance(inner, TextPart) for inner in content):
                yield f"{path}.content"
        case _:
            pass


def _options(request: ChatRequest, its: OpenAIVariant) -> Json:
    options: Json = {
        its.limit(request.model): request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_k": request.top_k,
        "n": request.n,
        "stop": list(request.stop) or None,
        its.seed: request.seed,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
        "user": None if "user" in its.unsent else request.user,
    }
    if request.reasoning is not None:
        options |= its.asking(request.reasoning, request) or {}
    return {name: value for name, value in options.items() if value is not None}


def _messages(request: ChatRequest, its: OpenAIVariant) -> Iterator[Json]:
    thoughts = openai_thoughts.writer(request, its)
    for message in request.messages:
        match message.role:
            case "assistant":
                yield _assistant(message, its, thoughts)
            case "system" | "developer" | "user" | "tool":
                yield from _other(message, its)
            case _:
                assert_never(message.role)


def _other(message: Message, its: OpenAIVariant) -> Iterator[Json]:
    """Yield the messages of a turn: each tool result is one of its own."""
    rest: list[Part] = []
    for part in message.parts:
        if not isinstance(part, ToolResult):
            rest.append(part)
            continue
        if rest:
            yield _plain_message(message, rest, its)
            rest = []
        yield _tool_message(message, part, its)
    if rest or not message.parts:
        yield _plain_message(message, rest, its)


def _plain_message(message: Message, parts: Sequence[Part], its: OpenAIVariant) -> Json:
    role = message.role
    if role == "developer" and not its.developer:
        role = "system"
    body: Json = {"role": role, "content": _content(tuple(parts))}
    return _with_name_and_extra(body, message)


def _tool_message(message: Message, result: ToolResult, its: OpenAIVariant) -> Json:
    body: Json = {
        "role": "tool",
        "tool_call_id": result.tool_call_id,
        "content": failure(result) or _content(result.content),
        **result.extra,
    }
    if message.role != "tool":
        return body
    body = _with_name_and_extra(body, message)
    if not its.names:
        body.pop("name", None)
    return body


def _assistant(
    message: Message, its: OpenAIVariant, thoughts: openai_thoughts.Writer
) -> Json:
    said: list[Part] = []
    calls: list[Json] = []
    thought: list[ReasoningPart] = []
    refusals: list[str] = []
    for part in message.parts:
        match part:
            case ToolCall():
                calls.append(_tool_call(part, its))
            case ReasoningPart():
                thought.append(part)
            case RefusalPart(text=text):
                refusals.append(text)
            case TextPart() | ImagePart() | OpaquePart() | ToolResult():
                said.append(part)
            case _:
                assert_never(part)
    content = _content(tuple(said)) if said else None  # "" stays ""
    body: Json = {"role": "assistant", "content": content}
    if refusals:
        body["refusal"] = "".join(refusals)
    if calls:
        body["tool_calls"] = calls
    body |= thoughts(thought, body)
    body = _with_name_and_extra(body, message)
    for name in (DETAILS, EXTRA_CONTENT, PLAN):
        if name not in its.carries:
            body.pop(name, None)
    return body


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


def _tool_call(call: ToolCall, its: OpenAIVariant) -> Json:
    extra: Mapping[str, Any] = call.extra
    if EXTRA_CONTENT in extra and EXTRA_CONTENT not in its.carries:
        extra = {key: extra[key] for key in extra if key != EXTRA_CONTENT}
    if "type" in extra:  # a kind that only this format knows
        return {"id": call.id, **extra}
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function, **extra}


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


def _tool_choice(choice: ToolChoice, its: OpenAIVariant) -> str | Json:
    if choice.mode == "tool":
        return {"type": "function", "function": {"name": choice.name}}
    return its.required if choice.mode == "required" else choice.mode


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
