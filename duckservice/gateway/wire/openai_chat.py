"""OpenAI's chat completions body, read into a `ChatRequest`.

What every provider can be told is understood. A field at the top, in a message
or in a part that only OpenAI's format knows goes into ``extra`` unchanged. A
field that is understood only in part is both: its value is in ``extra`` as it
was written, so that an OpenAI adapter loses nothing and any other refuses it by
name. Refused here, by name: custom tools (their calls carry free text, for
which the unified values have no place).

The deprecated ``functions`` and ``function_call`` are read as tools, and the
function messages as tool messages with ids made up from their places.
"""

from __future__ import annotations

from typing import Any

import attrs

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
    Role,
    TextPart,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from duckservice.gateway.wire.fields import (
    Fields,
    as_object,
    at,
    data_url,
    decode_object,
    extras,
    flag,
    integer,
    is_object,
    items,
    mapping,
    number,
    objects,
    refuse_extras,
    refused,
    required_mapping,
    required_name,
    required_text,
    text,
    texts,
    unknown,
    wrong,
)

CHOICES_MAX = 128

_TOP = frozenset(
    {
        "model",
        "messages",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "top_k",
        "n",
        "stop",
        "seed",
        "presence_penalty",
        "frequency_penalty",
        "tools",
        "tool_choice",
        "functions",
        "function_call",
        "parallel_tool_calls",
        "response_format",
        "reasoning_effort",
        "user",
        "stream",
        "stream_options",
    }
)
_SIMPLE_ROLES: frozenset[Role] = frozenset({"system", "developer", "user", "assistant"})
_PLAIN = frozenset({"role", "content", "name"})
_ASSISTANT = frozenset(
    {
        "role",
        "content",
        "name",
        "refusal",
        "tool_calls",
        "function_call",
        "reasoning_content",
        "reasoning",
    }
)
_TOOL_RESULT = frozenset({"role", "content", "name", "tool_call_id"})
_TEXT = frozenset({"type", "text"})
_IMAGE = frozenset({"type", "image_url"})
_IMAGE_URL = frozenset({"url", "detail"})
_TOOL = frozenset({"type", "function"})
_TOOL_CALL = frozenset({"id", "type", "function", "index"})
_FUNCTION = frozenset({"name", "description", "parameters", "strict"})
_FUNCTION_CALL = frozenset({"name", "arguments"})
_RESPONSE_FORMAT = frozenset({"type", "json_schema"})
_JSON_SCHEMA = frozenset({"name", "description", "schema", "strict"})
_STREAM_OPTIONS = frozenset({"include_usage", "include_obfuscation"})


@attrs.frozen(kw_only=True)
class ChatWire:
    """A request, and how its reply is to be written."""

    request: ChatRequest
    stream: bool = False
    include_usage: bool = False
    """Whether the stream's last chunk is to hold the usage."""
    legacy_functions: bool = False
    """Whether a call goes back as ``function_call``, as the request was written."""


def decode_chat(body: bytes) -> ChatWire:
    """Read a body of ``/v1/chat/completions``; raise only `InvalidRequest`."""
    return read_chat(decode_object(body))


def read_chat(fields: Fields) -> ChatWire:
    """Read a decoded body of ``/v1/chat/completions``."""
    extra = dict(extras(fields, _TOP))
    legacy = fields.get("functions") is not None
    if legacy:
        tools, tool_choice = _functions(fields)
    else:
        tools, tool_choice = _tools(fields), _tool_choice(fields, extra)
    effort = text(fields, "reasoning_effort", "")
    request = ChatRequest(
        model=required_name(fields, "model", ""),
        messages=_messages(fields),
        max_tokens=_max_tokens(fields),
        temperature=number(fields, "temperature", ""),
        top_p=number(fields, "top_p", ""),
        top_k=integer(fields, "top_k", ""),
        n=integer(fields, "n", "", least=1, most=CHOICES_MAX),
        stop=_stop(fields),
        seed=integer(fields, "seed", ""),
        presence_penalty=number(fields, "presence_penalty", ""),
        frequency_penalty=number(fields, "frequency_penalty", ""),
        tools=tools,
        tool_choice=tool_choice,
        # A function message can answer one call only.
        parallel_tool_calls=(
            False if legacy else flag(fields, "parallel_tool_calls", "")
        ),
        response_format=_response_format(fields, extra),
        reasoning=None if effort is None else Reasoning(effort=effort),
        user=text(fields, "user", ""),
        extra=extra,
    )
    return ChatWire(
        request=request,
        stream=flag(fields, "stream", "") is True,
        include_usage=_include_usage(fields),
        legacy_functions=legacy,
    )


def _max_tokens(fields: Fields) -> int | None:
    newer = integer(fields, "max_completion_tokens", "", least=1)
    older = integer(fields, "max_tokens", "", least=1)
    return older if newer is None else newer


def _stop(fields: Fields) -> tuple[str, ...]:
    if type(stop := fields.get("stop")) is str:
        return (stop,)
    return texts(fields, "stop", "")


def _include_usage(fields: Fields) -> bool:
    options = mapping(fields, "stream_options", "")
    if options is None:
        return False
    refuse_extras(options, _STREAM_OPTIONS, "stream_options")
    # Obfuscation pads chunks against eavesdroppers on a network; there is none.
    flag(options, "include_obfuscation", "stream_options")
    return flag(options, "include_usage", "stream_options") is True


def _response_format(fields: Fields, extra: Fields) -> ResponseFormat | None:
    where = "response_format"
    value = mapping(fields, where, "")
    if value is None:
        return None
    kind = required_text(value, "type", where)
    if kind not in {"text", "json_object", "json_schema"}:
        extra[where] = value
        return None
    if extras(value, _RESPONSE_FORMAT):
        extra[where] = value
    if kind == "text":
        return ResponseFormat(type="text")
    if kind == "json_object":
        return ResponseFormat(type="json_object")
    schema = required_mapping(value, "json_schema", where)
    where = "response_format.json_schema"
    if extras(schema, _JSON_SCHEMA):
        extra["response_format"] = value
    return ResponseFormat(
        type="json_schema",
        name=required_name(schema, "name", where),
        schema=mapping(schema, "schema", where),
        strict=flag(schema, "strict", where),
        description=text(schema, "description", where),
    )


def _tools(fields: Fields) -> tuple[Tool, ...]:
    if "tools" not in fields:
        return ()
    return tuple(_tool(tool, where) for where, tool in objects(fields, "tools", ""))


def _tool(fields: Fields, where: str) -> Tool:
    kind = text(fields, "type", where)
    if kind not in (None, "function"):  # some clients leave it out
        raise unknown(at(where, "type"), kind, "function")
    function = required_mapping(fields, "function", where)
    return _function(function, at(where, "function"), extra=extras(fields, _TOOL))


def _function(fields: Fields, where: str, *, extra: Any) -> Tool:
    refuse_extras(fields, _FUNCTION, where)
    return Tool(
        name=required_name(fields, "name", where),
        description=text(fields, "description", where),
        parameters=mapping(fields, "parameters", where),
        strict=flag(fields, "strict", where),
        extra=extra,
    )


def _tool_choice(fields: Fields, extra: Fields) -> ToolChoice | None:
    choice = fields.get("tool_choice")
    match choice:
        case None:
            return None
        case "auto" | "none" | "required":
            return ToolChoice(mode=choice)
        case "any":  # Mistral's word
            return ToolChoice(mode="required")
        case {"type": "allowed_tools"}:
            extra["tool_choice"] = choice
            return None
        case {"type": "function"} | {"function": {}}:
            where = "tool_choice.function"
            function = required_mapping(choice, "function", "tool_choice")
            return ToolChoice(mode="tool", name=required_name(function, "name", where))
        case {"type": kind}:
            raise unknown("tool_choice.type", kind, "function, allowed_tools")
        case _:
            raise unknown("tool_choice", choice, "auto, none, required, or an object")


def _functions(fields: Fields) -> tuple[tuple[Tool, ...], ToolChoice | None]:
    for newer in ("tools", "tool_choice"):
        if fields.get(newer) is not None:
            raise refused(newer, "cannot be used together with functions")
    tools = tuple(
        _function(function, where, extra={})
        for where, function in objects(fields, "functions", "")
    )
    choice = fields.get("function_call")
    match choice:
        case None:
            return tools, None
        case "auto" | "none":
            return tools, ToolChoice(mode=choice)
        case {"name": str(name)}:
            return tools, ToolChoice(mode="tool", name=name)
        case _:
            raise unknown("function_call", choice, 'auto, none, {"name": ...}')


def _messages(fields: Fields) -> tuple[Message, ...]:
    if "messages" not in fields:
        raise refused("messages", "is required: an array")
    messages = items(fields, "messages", "")
    if not messages:
        raise refused("messages", "must not be empty")
    calls: dict[str, str] = {}
    return tuple(
        [
            _simple(message) or _message(message, f"messages[{index}]", calls)
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


def _message(message: Any, where: str, calls: dict[str, str]) -> Message:
    """Read a message. *calls* has the made-up id of each function's last call."""
    fields = as_object(message, where)
    role = fields.get("role")
    match role:
        case "system" | "user" | "developer":
            return Message(
                role=role,
                parts=_content(fields, where),
                name=text(fields, "name", where),
                extra=extras(fields, _PLAIN),
            )
        case "assistant":
            return _assistant(fields, where, calls)
        case "tool":
            call_id = required_name(fields, "tool_call_id", where)
            return _result(fields, where, call_id)
        case "function":
            name = required_name(fields, "name", where)
            if name not in calls:
                raise refused(at(where, "name"), "no earlier message calls it")
            return _result(fields, where, calls[name])
        case None:
            raise refused(at(where, "role"), "is required: a string")
        case _:
            allowed = "system, developer, user, assistant, tool, function"
            raise unknown(at(where, "role"), role, allowed)


def _assistant(fields: Fields, where: str, calls: dict[str, str]) -> Message:
    parts: list[Part] = []
    # Both words are in use for the same; see the wire facts of the providers.
    thought = text(fields, "reasoning_content", where)
    if thought is None:
        thought = text(fields, "reasoning", where)
    if thought:
        parts.append(ReasoningPart(text=thought))
    if fields.get("content") is not None:
        parts.extend(_content(fields, where))
    refusal = text(fields, "refusal", where)
    if refusal is not None:
        parts.append(RefusalPart(text=refusal))
    if "tool_calls" in fields:
        parts.extend(
            _tool_call(call, place)
            for place, call in objects(fields, "tool_calls", where)
        )
    if (call := mapping(fields, "function_call", where)) is not None:
        parts.append(_function_call(call, where, calls))
    extra = extras(fields, _ASSISTANT)
    if extra.get("annotations") == []:
        # The SDKs send a reply's empty list back with it. It says nothing, and
        # kept it would bar every provider of another format.
        extra = {key: extra[key] for key in extra if key != "annotations"}
    if not parts and not extra:
        raise refused(at(where, "content"), "is required where nothing is called")
    return Message(
        role="assistant",
        parts=tuple(parts),
        name=text(fields, "name", where),
        extra=extra,
    )


def _tool_call(fields: Fields, where: str) -> ToolCall:
    kind = fields.get("type")
    if kind is not None and kind != "function":
        raise unknown(at(where, "type"), kind, "function")
    function = required_mapping(fields, "function", where)
    inside = at(where, "function")
    refuse_extras(function, _FUNCTION_CALL, inside)
    return ToolCall(
        id=required_name(fields, "id", where),
        name=required_name(function, "name", inside),
        arguments=required_text(function, "arguments", inside),
        extra=extras(fields, _TOOL_CALL),
    )


def _function_call(fields: Fields, where: str, calls: dict[str, str]) -> ToolCall:
    inside = at(where, "function_call")
    refuse_extras(fields, _FUNCTION_CALL, inside)
    name = required_name(fields, "name", inside)
    calls[name] = f"call_{len(calls)}_{where[9:-1]}"
    return ToolCall(
        id=calls[name],
        name=name,
        arguments=required_text(fields, "arguments", inside),
    )


def _result(fields: Fields, where: str, call_id: str) -> Message:
    content: list[TextPart | ImagePart] = []
    for index, part in enumerate(_content(fields, where)):
        if not isinstance(part, (TextPart, ImagePart)):
            path = f"{at(where, 'content')}[{index}].type"
            raise refused(path, "is not supported here; allowed: text, image_url")
        content.append(part)
    result = ToolResult(tool_call_id=call_id, content=tuple(content))
    name = text(fields, "name", where)
    extra = extras(fields, _TOOL_RESULT)
    return Message(role="tool", parts=(result,), name=name, extra=extra)


def _content(fields: Fields, where: str) -> tuple[Part, ...]:
    content = fields.get("content")
    if type(content) is str:
        return (TextPart(text=content),)
    if content is None:
        raise refused(at(where, "content"), "is required: a string or an array")
    if type(content) is not list:
        raise wrong(at(where, "content"), "a string or an array", content)
    return tuple(
        [
            _part(part, f"{where}.content[{index}]")
            for index, part in enumerate(items(fields, "content", where))
        ]
    )


def _part(part: Any, where: str) -> Part:
    fields = as_object(part, where)
    kind = required_name(fields, "type", where)
    if kind == "text":
        value = required_text(fields, "text", where)
        return TextPart(text=value, extra=extras(fields, _TEXT))
    if kind == "image_url":
        return _image(fields, where)
    if kind == "refusal":
        return RefusalPart(text=required_text(fields, "refusal", where))
    return OpaquePart(format="openai", value=fields)


def _image(fields: Fields, where: str) -> Part:
    if type(fields.get("image_url")) is str:  # undocumented, and taken everywhere
        fields = {**fields, "image_url": {"url": fields["image_url"]}}
    image = required_mapping(fields, "image_url", where)
    inside = at(where, "image_url")
    url = required_name(image, "url", inside)
    detail = text(image, "detail", inside)
    if extras(image, _IMAGE_URL):
        return OpaquePart(format="openai", value=fields)
    extra = extras(fields, _IMAGE)
    scheme = url[:8].lower()
    if scheme.startswith(("http://", "https://")):
        return ImagePart(url=url, detail=detail, extra=extra)
    if scheme.startswith("data:"):
        media_type, data = data_url(url, at(inside, "url"))
        return ImagePart(data=data, media_type=media_type, detail=detail, extra=extra)
    raise refused(at(inside, "url"), "must be an http:, https: or data: URL")
