"""A `ChatRequest` in the words of Cohere's Chat, version 2.

What an OpenAI client writes beside its own format and Cohere knows (`EXTRAS`, and
the ``tool_plan`` of a message) goes on as it is. ``user`` says who asks, for a provider's own records; Cohere keeps none,
and no answer depends on it, so it is left out.
"""

from __future__ import annotations

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
    ToolResult,
    WireFormat,
)
from duckservice.providers.cohere.answer import PLAN
from duckservice.providers.translation import (
    foreign_fields,
    is_plain_text,
    message_path,
    option,
    part_path,
    refusal,
    to_json,
)

Json: TypeAlias = dict[str, Any]

EXTRAS: Final = frozenset(
    {
        "citation_options",
        "documents",
        "priority",
        "safety_mode",
        "strict_tools",
        "thinking",
    }
)
"""Cohere's own fields, which go on as the client wrote them."""

TOP_P_MAX: Final = 0.99
"""Cohere's highest ``p``; the 1 that many clients always send means the same."""

TOP_K_MAX: Final = 500

THINKING_BUDGETS: Final = {"minimal": 1024, "low": 2048, "medium": 8192}
"""The efforts that limit thinking; with any other the model thinks as it likes."""


def check(request: ChatRequest, *, provider: str) -> None:
    """Raise `InvalidRequest` for what this format has no words for."""
    for field, reason in _untranslatable(request):
        raise refusal(provider, "Cohere's format", field, reason)


def encode(request: ChatRequest, *, stream: bool, provider: str) -> bytes:
    """Return the body of the request. What `check` refuses is not looked for again."""
    body: Json = {
        "model": request.model,
        "messages": list(_messages(request)),
        "stream": stream,
    }
    body |= _options(request)
    body |= _tools(request)
    for name in EXTRAS & request.extra.keys():
        if request.extra[name] is not None:
            body[name] = request.extra[name]
    return to_json(body, provider)


def other_format(request: ChatRequest) -> WireFormat:
    """Return a format that *request* is not in: all that only its own knows is foreign."""
    return "openai" if request.format == "anthropic" else "anthropic"


def _untranslatable(request: ChatRequest) -> Iterator[tuple[str, str]]:
    for field in foreign_fields(request, other_format(request)):
        if field not in EXTRAS and not field.endswith(f"].{PLAN}"):
            yield field, ""
    yield from _options_out_of_range(request)
    for i, message in enumerate(request.messages):
        if message.name is not None and message.role != "tool":
            yield f"{message_path(request, i)}.name", ""
        for j, part in enumerate(message.parts):
            path = part_path(request, i, j)
            yield from _untranslatable_part(path, part, message)


def _options_out_of_range(request: ChatRequest) -> Iterator[tuple[str, str]]:
    if (request.top_k or 0) > TOP_K_MAX:
        yield "top_k", f"Cohere takes at most {TOP_K_MAX}"
    for name in ("presence_penalty", "frequency_penalty"):
        value: float | None = getattr(request, name)
        if value is not None and not 0 <= value <= 1:
            yield name, "Cohere takes 0 to 1"
    if request.parallel_tool_calls is False and request.tools:
        yield (
            option(request, "parallel_tool_calls"),
            "Cohere cannot be told to make one call at a time",
        )
    names = {tool.name for tool in request.tools}
    choice = request.tool_choice
    if choice is not None and choice.mode == "tool" and choice.name not in names:
        yield "tool_choice", "names a tool that is not among the tools"
    wanted = request.response_format
    if wanted is not None and wanted.description is not None:
        field = option(request, "response_format.json_schema")
        yield f"{field}.description", ""


def _untranslatable_part(
    path: str, part: Part, message: Message
) -> Iterator[tuple[str, str]]:
    match part:
        case ReasoningPart(signature=signature, redacted=redacted):
            # A thought that is signed belongs to who signed it.
            if signature or redacted or message.role != "assistant":
                yield path, ""
        case ImagePart():
            if message.role != "user":
                yield path, "Cohere takes pictures from the user only"
        case ToolResult(content=content):
            if not all(isinstance(inner, TextPart) for inner in content):
                yield f"{path}.content", "Cohere takes results of text only"
        case _:
            pass


def _options(request: ChatRequest) -> Json:
    top_p = request.top_p
    options: Json = {
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "p": None if top_p is None else min(top_p, TOP_P_MAX),
        "k": request.top_k,
        "stop_sequences": list(request.stop) or None,
        "seed": request.seed,
        "presence_penalty": request.presence_penalty,
        "frequency_penalty": request.frequency_penalty,
        "response_format": _response_format(request.response_format),
        "thinking": _thinking(request.reasoning),
    }
    return {name: value for name, value in options.items() if value is not None}


def _response_format(wanted: ResponseFormat | None) -> Json | None:
    if wanted is None or wanted.type == "text":
        return None
    if wanted.schema is None:
        return {"type": "json_object"}
    return {"type": "json_object", "json_schema": wanted.schema}


def _thinking(reasoning: Reasoning | None) -> Json | None:
    match reasoning:
        case None:
            return None
        case Reasoning(mode="disabled") | Reasoning(effort="none"):
            return {"type": "disabled"}
        case Reasoning(budget_tokens=int(budget)):
            return {"type": "enabled", "token_budget": budget}
        case Reasoning(effort=None, mode=None):
            return None
        case Reasoning(effort=effort):
            limit = THINKING_BUDGETS.get(effort or "")
            if limit is None:
                return {"type": "enabled"}
            return {"type": "enabled", "token_budget": limit}


def _tools(request: ChatRequest) -> Json:
    """Return the tools and which to use.

    One tool alone can only be demanded by offering no other one.
    """
    choice = request.tool_choice
    offered = request.tools
    if choice is not None and choice.mode == "tool":
        offered = tuple(tool for tool in offered if tool.name == choice.name)
    body: Json = {}
    if offered:
        body["tools"] = [_tool(tool) for tool in offered]
        if any(tool.strict for tool in offered):
            body["strict_tools"] = True  # there is one word for all of them
    if choice is not None and choice.mode != "auto":
        body["tool_choice"] = "NONE" if choice.mode == "none" else "REQUIRED"
    return body


def _tool(tool: Tool) -> Json:
    function: Json = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    function["parameters"] = tool.parameters or {"type": "object", "properties": {}}
    return {"type": "function", "function": function}


def _messages(request: ChatRequest) -> Iterator[Json]:
    for message in request.messages:
        match message.role:
            case "assistant":
                yield _assistant(message)
            case "system" | "developer" | "user" | "tool":
                yield from _other(message)
            case _:
                assert_never(message.role)


def _other(message: Message) -> Iterator[Json]:
    """Yield the messages of a turn: each tool result is one of its own."""
    role = "system" if message.role == "developer" else message.role
    rest: list[Part] = []
    for part in message.parts:
        if not isinstance(part, ToolResult):
            rest.append(part)
            continue
        if rest:
            yield {"role": role, "content": _content(tuple(rest))}
            rest = []
        yield _tool_message(part)
    if rest or not message.parts:
        yield {"role": role, "content": _content(tuple(rest))}


def _tool_message(result: ToolResult) -> Json:
    content: str | list[Json] = _content(result.content)
    if result.is_error:
        # A result is a text or a document, and only a document has named fields.
        said = "\n".join(p.text for p in result.content if isinstance(p, TextPart))
        content = [{"type": "document", "document": {"data": {"error": said}}}]
    return {"role": "tool", "tool_call_id": result.tool_call_id, "content": content}


def _assistant(message: Message) -> Json:
    calls = [part for part in message.parts if isinstance(part, ToolCall)]
    thoughts = [p for p in message.parts if isinstance(p, ReasoningPart) and p.text]
    said = [
        part
        for part in message.parts
        if not isinstance(part, (ToolCall, ReasoningPart))
        # Other formats write "" beside a call.
        and not (calls and isinstance(part, TextPart) and not part.text)
    ]
    body: Json = {"role": "assistant"}
    if said or thoughts or not calls:
        body["content"] = _content((*thoughts, *said))
    if calls:
        body["tool_calls"] = [_tool_call(call) for call in calls]
    if message.extra.get(PLAN):
        body[PLAN] = message.extra[PLAN]
    return body


def _tool_call(call: ToolCall) -> Json:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _content(parts: tuple[Part, ...]) -> str | list[Json]:
    if is_plain_text(parts):
        assert isinstance(parts[0], TextPart)
        return parts[0].text
    return [_block(part) for part in parts] or ""


def _block(part: Part) -> Json:
    match part:
        case TextPart(text=text) | RefusalPart(text=text):
            return {"type": "text", "text": text}
        case ImagePart():
            return {"type": "image_url", "image_url": _image_url(part)}
        case ReasoningPart(text=text):
            return {"type": "thinking", "thinking": text}
        case ToolCall() | ToolResult() | OpaquePart():
            raise AssertionError("calls and results are no blocks; the rest is refused")
        case _:
            assert_never(part)


def _image_url(image: ImagePart) -> Json:
    url = image.url or f"data:{image.media_type};base64,{image.data}"
    return (
        {"url": url} if image.detail is None else {"url": url, "detail": image.detail}
    )
