"""Anthropic's Messages bodies, read into a `ChatRequest`.

The system prompt becomes the first message. A field that only Anthropic's
format knows goes into ``extra`` unchanged; one that is understood only in part
is there too, as it was written. A block with anything that its unified part
has no place for is an `OpaquePart`, whole.

Anthropic's own tools, run by the client (bash, text editor, computer, memory) or at
Anthropic (web_search, mcp_toolset), are a `Tool` without parameters whose ``extra`` is
all that was written: they go on to Anthropic, and every other provider refuses them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import msgspec

from duckservice.completion import (
    ChatRequest,
    ImagePart,
    Message,
    OpaquePart,
    Part,
    Reasoning,
    ReasoningPart,
    ResponseFormat,
    Role,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from duckservice.gateway.wire.fields import (
    Fields,
    as_array,
    as_object,
    at,
    decode_object,
    extras,
    flag,
    integer,
    is_object,
    items,
    mapping,
    number,
    objects,
    refused,
    required_mapping,
    required_name,
    required_text,
    text,
    texts,
    unknown,
)

_TOP = frozenset(
    {
        "model",
        "messages",
        "max_tokens",
        "system",
        "temperature",
        "top_p",
        "top_k",
        "stop_sequences",
        "stream",
        "tools",
        "tool_choice",
        "thinking",
        "metadata",
        "output_config",
    }
)
_SIMPLE_ROLES: frozenset[Role] = frozenset({"user", "assistant", "system"})
_MESSAGE = frozenset({"role", "content"})
_TEXT = frozenset({"type", "text"})
_IMAGE = frozenset({"type", "source"})
_BASE64 = frozenset({"type", "media_type", "data"})
_URL = frozenset({"type", "url"})
_THINKING_BLOCK = frozenset({"type", "thinking", "signature"})
_REDACTED = frozenset({"type", "data"})
_TOOL_USE = frozenset({"type", "id", "name", "input"})
_TOOL_RESULT = frozenset({"type", "tool_use_id", "content", "is_error"})
_TOOL = frozenset({"name", "description", "input_schema", "strict", "type"})
_TOOL_CHOICE = frozenset({"type", "name", "disable_parallel_tool_use"})
_THINKING = frozenset({"type", "budget_tokens"})
_METADATA = frozenset({"user_id"})
_OUTPUT_CONFIG = frozenset({"effort", "format"})
_OUTPUT_FORMAT = frozenset({"type", "schema"})

_encode = msgspec.json.Encoder().encode


@attrs.frozen(kw_only=True)
class MessagesWire:
    """A request, and whether its reply is to be streamed."""

    request: ChatRequest
    stream: bool = False


def decode_messages(body: bytes, betas: tuple[str, ...] = ()) -> MessagesWire:
    """Read a body of ``/v1/messages``; raise only `InvalidRequest`.

    *betas* come by header, as `read_betas` has them.
    """
    fields = decode_object(body)
    if fields.get("max_tokens") is None:
        raise refused("max_tokens", "is required: a whole number")
    stream = flag(fields, "stream", "") is True
    return MessagesWire(request=read_messages(fields, betas), stream=stream)


def decode_count_tokens(body: bytes, betas: tuple[str, ...] = ()) -> ChatRequest:
    """Read a body of ``/v1/messages/count_tokens``; raise only `InvalidRequest`."""
    return read_messages(decode_object(body), betas)


def read_messages(fields: Fields, betas: tuple[str, ...] = ()) -> ChatRequest:
    """Read a decoded body; ``max_tokens`` may be absent."""
    extra = dict(extras(fields, _TOP))
    tool_choice, parallel = _tool_choice(fields, extra)
    output = _part_of(fields, "output_config", _OUTPUT_CONFIG, extra)
    metadata = _part_of(fields, "metadata", _METADATA, extra)
    return ChatRequest(
        model=required_name(fields, "model", ""),
        messages=_system(fields) + _messages(fields),
        # 0 asks Anthropic to fill its cache without a reply.
        max_tokens=integer(fields, "max_tokens", "", least=0),
        temperature=number(fields, "temperature", ""),
        top_p=number(fields, "top_p", ""),
        top_k=integer(fields, "top_k", ""),
        stop=texts(fields, "stop_sequences", ""),
        tools=_tools(fields),
        tool_choice=tool_choice,
        parallel_tool_calls=parallel,
        response_format=_response_format(output, extra),
        reasoning=_reasoning(fields, output, extra),
        user=text(metadata, "user_id", "metadata"),
        format="anthropic",
        extra=extra,
        betas=betas,
    )


def _part_of(
    fields: Fields, key: str, understood: frozenset[str], extra: Fields
) -> Fields:
    """Return an object's fields; keep it in *extra* if some are not understood."""
    value = mapping(fields, key, "")
    if value is None:
        return {}
    if extras(value, understood):
        extra[key] = value
    return value


def _reasoning(fields: Fields, output: Fields, extra: Fields) -> Reasoning | None:
    thinking = _part_of(fields, "thinking", _THINKING, extra)
    effort = text(output, "effort", "output_config")
    if not thinking and effort is None:
        return None
    return Reasoning(
        effort=effort,
        budget_tokens=integer(thinking, "budget_tokens", "thinking", least=0),
        mode=required_name(thinking, "type", "thinking") if thinking else None,
    )


def _response_format(output: Fields, extra: Fields) -> ResponseFormat | None:
    where = "output_config.format"
    value = mapping(output, "format", "output_config")
    if value is None:
        return None
    kind = required_name(value, "type", where)
    if kind != "json_schema":
        raise unknown(at(where, "type"), kind, "json_schema")
    if extras(value, _OUTPUT_FORMAT):
        extra["output_config"] = output
    schema = required_mapping(value, "schema", where)
    return ResponseFormat(type="json_schema", schema=schema)


def _tools(fields: Fields) -> tuple[Tool, ...]:
    if "tools" not in fields:
        return ()
    return tuple(_tool(tool, where) for where, tool in objects(fields, "tools", ""))


def _tool(fields: Fields, where: str) -> Tool:
    kind = text(fields, "type", where)
    if kind is None or kind == "custom":
        return Tool(
            name=required_name(fields, "name", where),
            description=text(fields, "description", where),
            parameters=required_mapping(fields, "input_schema", where),
            strict=flag(fields, "strict", where),
            extra=extras(fields, _TOOL),
        )
    # Anthropic's own, run by the client (bash) or at Anthropic (web_search, mcp_toolset):
    # passed on as written, and refused by every other provider.
    return Tool(name=text(fields, "name", where) or kind, extra=fields)


def _tool_choice(
    fields: Fields, extra: Fields
) -> tuple[ToolChoice | None, bool | None]:
    choice = _part_of(fields, "tool_choice", _TOOL_CHOICE, extra)
    if not choice:
        return None, None
    disabled = flag(choice, "disable_parallel_tool_use", "tool_choice")
    parallel = None if disabled is None else not disabled
    match kind := required_name(choice, "type", "tool_choice"):
        case "auto" | "none":
            return ToolChoice(mode=kind), parallel
        case "any":
            return ToolChoice(mode="required"), parallel
        case "tool":
            name = required_name(choice, "name", "tool_choice")
            return ToolChoice(mode="tool", name=name), parallel
        case _:
            raise unknown("tool_choice.type", kind, "auto, any, tool, none")


def _system(fields: Fields) -> tuple[Message, ...]:
    system = fields.get("system")
    if not system:
        return ()
    if type(system) is str:
        return (Message.of("system", system),)
    parts = _blocks(as_array(system, "system"), "system", _system_block)
    return (Message(role="system", parts=parts),)


def _system_block(block: Any, where: str) -> Part:
    fields = as_object(block, where)
    kind = required_name(fields, "type", where)
    if kind != "text":
        raise unknown(at(where, "type"), kind, "text")
    return _text(fields, where)


def _messages(fields: Fields) -> tuple[Message, ...]:
    if "messages" not in fields:
        raise refused("messages", "is required: an array")
    messages = items(fields, "messages", "")
    if not messages:
        raise refused("messages", "must not be empty")
    return tuple(
        [
            _simple(message) or _message(message, f"messages[{index}]")
            for index, message in enumerate(messages)
        ]
    )


def _simple(message: Any) -> Message | None:
    # Nearly every message is one, and it is read in half the time.
    if is_object(message) and len(message) == 2:
        role, content = message.get("role"), message.get("content")
        if type(content) is str and type(role) is str and role in _SIMPLE_ROLES:
            return Message(role=role, parts=(TextPart(text=content),))
    return None


def _message(message: Any, where: str) -> Message:
    fields = as_object(message, where)
    role = required_name(fields, "role", where)
    if role not in _SIMPLE_ROLES:
        raise unknown(at(where, "role"), role, "user, assistant, system")
    content = fields.get("content")
    inside = at(where, "content")
    if content is None:
        raise refused(inside, "is required: a string or an array")
    return Message(
        role=role,
        parts=(
            (TextPart(text=content),)
            if type(content) is str
            else _blocks(as_array(content, inside), inside, _block)
        ),
        extra=extras(fields, _MESSAGE),
    )


def _blocks(
    blocks: list[Any], where: str, read: Callable[[Any, str], Part]
) -> tuple[Part, ...]:
    return tuple(
        [read(block, f"{where}[{index}]") for index, block in enumerate(blocks)]
    )


def _block(block: Any, where: str) -> Part:
    fields = as_object(block, where)
    match required_name(fields, "type", where):
        case "text":
            return _text(fields, where)
        case "image":
            return _image(fields, where) or _opaque(fields)
        case "tool_use":
            return _tool_use(fields, where)
        case "tool_result":
            return _tool_result(fields, where)
        case "thinking":
            return _thinking(fields, where)
        case "redacted_thinking" if not extras(fields, _REDACTED):
            return ReasoningPart(redacted=required_text(fields, "data", where))
        case _:
            return _opaque(fields)


def _opaque(fields: Fields) -> OpaquePart:
    return OpaquePart(format="anthropic", value=fields)


def _text(fields: Fields, where: str) -> TextPart:
    value = required_text(fields, "text", where)
    return TextPart(text=value, extra=extras(fields, _TEXT))


def _image(fields: Fields, where: str) -> ImagePart | None:
    """Read an image; None if its source is one that only Anthropic knows."""
    source = required_mapping(fields, "source", where)
    inside = at(where, "source")
    extra = extras(fields, _IMAGE)
    kind = required_name(source, "type", inside)
    if kind == "base64" and not extras(source, _BASE64):
        return ImagePart(
            data=required_name(source, "data", inside),
            media_type=required_name(source, "media_type", inside),
            extra=extra,
        )
    if kind == "url" and not extras(source, _URL):
        url = required_name(source, "url", inside)
        if not url[:8].lower().startswith(("http://", "https://")):
            raise refused(at(inside, "url"), "must be an http: or https: URL")
        return ImagePart(url=url, extra=extra)
    return None


def _thinking(fields: Fields, where: str) -> Part:
    if extras(fields, _THINKING_BLOCK):
        return _opaque(fields)
    return ReasoningPart(
        text=required_text(fields, "thinking", where),
        signature=text(fields, "signature", where),
    )


def _tool_use(fields: Fields, where: str) -> ToolCall:
    return ToolCall(
        id=required_name(fields, "id", where),
        name=required_name(fields, "name", where),
        arguments=_encode(required_mapping(fields, "input", where)).decode(),
        extra=extras(fields, _TOOL_USE),
    )


def _tool_result(fields: Fields, where: str) -> ToolResult:
    content = fields.get("content")
    inside = at(where, "content")
    parts: tuple[TextPart | ImagePart | OpaquePart, ...] = ()
    if type(content) is str:
        parts = (TextPart(text=content),)
    elif content is not None:
        parts = tuple(
            _result_block(block, f"{inside}[{index}]")
            for index, block in enumerate(as_array(content, inside))
        )
    return ToolResult(
        tool_call_id=required_name(fields, "tool_use_id", where),
        content=parts,
        is_error=flag(fields, "is_error", where) is True,
        extra=extras(fields, _TOOL_RESULT),
    )


def _result_block(block: Any, where: str) -> TextPart | ImagePart | OpaquePart:
    fields = as_object(block, where)
    kind = required_name(fields, "type", where)
    if kind == "text":
        return _text(fields, where)
    if kind == "image" and (image := _image(fields, where)) is not None:
        return image
    return _opaque(fields)  # documents, references to tools and the like
