"""The items of a Responses request, read into messages.

    instructions                     the first message, of the system
    message                          a message, its content the parts
    reasoning, function_call         parts of the assistant's message beside them
    function_call_output             a message of the tool
    image_generation_call            the assistant's message, if we wrote the item
    item_reference                   refused: nothing is stored
    (any other)                      an `OpaquePart`, whole

What the assistant says in one turn comes as several items and becomes one
message, for that is what every other format calls it; a second ``message``
begins another, unless a call stands between the two, whose result follows them. The ids and states of items are not kept: they name what a
server has stored, and no server needs them where nothing is. Thoughts that
hold nothing but an id are left out for the same reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from duckservice.completion import (
    NOTHING,
    ImagePart,
    Message,
    OpaquePart,
    Part,
    ReasoningPart,
    RefusalPart,
    Role,
    TextPart,
    ToolCall,
    ToolResult,
)
from duckservice.gateway.wire.fields import (
    Fields,
    as_array,
    as_object,
    at,
    data_url,
    extras,
    objects,
    refused,
    required_name,
    required_text,
    text,
    unknown,
    wrong,
)
from duckservice.gateway.wire.pictures import own_picture
from duckservice.gateway.wire.responses_items import REDACTED
from duckservice.placed_message import PlacedMessage

_ROLES: frozenset[Role] = frozenset({"user", "assistant", "system", "developer"})
_MESSAGE = frozenset({"type", "role", "content", "id", "status"})
_TEXT = frozenset({"type", "text"})
_OFTEN_EMPTY = ("annotations", "logprobs")
_REFUSAL = frozenset({"type", "refusal"})
_IMAGE = frozenset({"type", "image_url", "detail"})
_DETAILS = frozenset({None, "low", "high", "auto"})
_CALL = frozenset({"type", "call_id", "name", "arguments", "id", "status"})
_RESULT = frozenset({"type", "call_id", "output", "id", "status"})
_REASONING = frozenset(
    {"type", "summary", "content", "encrypted_content", "id", "status"}
)


def read_messages(fields: Fields) -> tuple[Message, ...]:
    """Read ``instructions`` and ``input``; raise only `InvalidRequest`."""
    messages = list(_instructions(fields))
    value = fields.get("input")
    if value is None:
        raise refused("input", "is required: a string or an array")
    if type(value) is str:
        messages.append(_said("user", value, "input"))
    elif type(value) is list:
        messages += _joined(_item(item, place) for place, item in _items(fields))
    else:
        raise wrong("input", "a string or an array", value)
    if not messages:
        raise refused("input", "says nothing")
    return tuple(messages)


def _instructions(fields: Fields) -> Iterator[PlacedMessage]:
    instructions = text(fields, "instructions", "")
    if instructions:
        yield _said("system", instructions, "instructions")


def _said(role: Role, value: str, place: str) -> PlacedMessage:
    parts = (TextPart(text=value),)
    return PlacedMessage(role=role, parts=parts, place=place, places=(place,))


def _items(fields: Fields) -> list[tuple[str, Fields]]:
    items = objects(fields, "input", "")
    if not items:
        raise refused("input", "must not be empty")
    return items


def _joined(items: Iterator[PlacedMessage | None]) -> Iterator[PlacedMessage]:
    """Yield messages; what the assistant says in one turn is one of them."""
    turn: PlacedMessage | None = None
    for item in items:
        if item is None:
            continue
        if turn is not None and _is_more_of(turn, item):
            turn = attrs.evolve(
                turn,
                parts=turn.parts + item.parts,
                places=turn.places + item.places,
            )
            continue
        if turn is not None:
            yield turn
        turn = item
    if turn is not None:
        yield turn


def _is_more_of(turn: PlacedMessage, item: PlacedMessage) -> bool:
    if turn.role != "assistant" or item.role != "assistant" or item.extra:
        return False
    if not (_is_message(item) and _is_message(turn)):
        return True
    # A result ends the turn: the calls in it are still open, and in most formats
    # nothing but their results may stand behind them.
    is_calling = any(isinstance(part, ToolCall) for part in turn.parts)
    return is_calling and not turn.extra


def _is_message(message: PlacedMessage) -> bool:
    """Say whether *message* has content, and not only thoughts and calls."""
    return any(".content" in place for place in message.places)


def _item(fields: Fields, where: str) -> PlacedMessage | None:
    """Read an item; None if it holds nothing that is to be kept."""
    kind = text(fields, "type", where)
    if kind is None and fields.get("role") is None:
        kind = "item_reference" if fields.get("id") is not None else kind
    match kind:
        case "message":
            return _message(fields, where)
        case None if fields.get("role") is not None:
            return _message(fields, where)
        case None:
            raise refused(at(where, "type"), "is required: a string")
        case "item_reference":
            reason = "nothing is stored here to refer to; send the item itself"
            raise refused(where, f"item_reference: {reason}")
        case "reasoning":
            part = _reasoning(fields, where)
            return None if part is None else _alone("assistant", part, where)
        case "function_call":
            return _alone("assistant", _call(fields, where), where)
        case "function_call_output":
            return _alone("tool", _result(fields, where), where)
        case "image_generation_call" if (extra := own_picture(fields)) is not None:
            # As a chat has it, whose providers know it so.
            return PlacedMessage(
                role="assistant", parts=(), extra=extra, place=where, places=()
            )
        case _:
            # What only OpenAI's servers do; a provider that speaks this format
            # is given it as it is, any other refuses it by name.
            role: Role = "tool" if kind.endswith("_output") else "assistant"
            return _alone(role, _opaque(fields), where)


def _alone(role: Role, part: Part, where: str) -> PlacedMessage:
    return PlacedMessage(role=role, parts=(part,), place=where, places=(where,))


def _opaque(fields: Fields) -> OpaquePart:
    return OpaquePart(format="responses", value=fields)


def _message(fields: Fields, where: str) -> PlacedMessage:
    role = required_name(fields, "role", where)
    if role not in _ROLES:
        raise unknown(at(where, "role"), role, "user, assistant, system, developer")
    content = fields.get("content")
    inside = at(where, "content")
    parts: list[Part]
    places: list[str]
    if content is None:
        raise refused(inside, "is required: a string or an array")
    if type(content) is str or content == []:
        parts, places = [TextPart(text=content or "")], [inside]
    else:
        blocks = as_array(content, inside)
        places = [f"{inside}[{index}]" for index in range(len(blocks))]
        parts = [_part(*pair) for pair in zip(blocks, places, strict=True)]
    return PlacedMessage(
        role=role,
        parts=tuple(parts),
        extra=extras(fields, _MESSAGE),
        place=where,
        places=tuple(places),
    )


def _part(part: Any, where: str) -> Part:
    fields = as_object(part, where)
    match required_name(fields, "type", where):
        case "input_text" | "output_text":
            return _text(fields, where)
        case "input_image":
            return _image(fields, where) or _opaque(fields)
        case "refusal" if not extras(fields, _REFUSAL):
            return RefusalPart(text=required_text(fields, "refusal", where))
        case _:
            return _opaque(fields)


def _text(fields: Fields, where: str) -> TextPart:
    value = required_text(fields, "text", where)
    extra = extras(fields, _TEXT)
    if any(extra.get(key) == [] for key in _OFTEN_EMPTY):
        # The SDKs send a reply's empty lists back with it. They say nothing.
        extra = {
            key: extra[key]
            for key in extra
            if key not in _OFTEN_EMPTY or extra[key] != []
        }
    return TextPart(text=value, extra=extra or NOTHING)


def _image(fields: Fields, where: str) -> ImagePart | None:
    """Read an image; None if it is one that only OpenAI's servers can find."""
    detail = text(fields, "detail", where)
    if fields.get("file_id") is not None or detail not in _DETAILS:
        return None
    url = required_name(fields, "image_url", where)
    extra = extras(fields, _IMAGE)
    scheme = url[:8].lower()
    if scheme.startswith(("http://", "https://")):
        return ImagePart(url=url, detail=detail, extra=extra)
    if scheme.startswith("data:"):
        media_type, data = data_url(url, at(where, "image_url"))
        return ImagePart(data=data, media_type=media_type, detail=detail, extra=extra)
    raise refused(at(where, "image_url"), "must be an http:, https: or data: URL")


def _reasoning(fields: Fields, where: str) -> Part | None:
    summary = _thoughts(fields, "summary", "summary_text", where)
    thoughts = _thoughts(fields, "content", "reasoning_text", where)
    if summary is None or thoughts is None or extras(fields, _REASONING):
        return _opaque(fields)
    # Where a provider shows its thoughts themselves, the summary is of them.
    value = "\n\n".join(thoughts or summary)
    signature = text(fields, "encrypted_content", where)
    if signature is not None and signature.startswith(REDACTED):
        return ReasoningPart(redacted=signature.removeprefix(REDACTED))
    if not value and not signature:
        return None
    return ReasoningPart(text=value, signature=signature or None)


def _thoughts(fields: Fields, key: str, kind: str, where: str) -> list[str] | None:
    """Return the texts of a list; None if it has parts of another kind."""
    found: list[str] = []
    for place, part in objects(fields, key, where):
        if required_name(part, "type", place) != kind:
            return None
        found.append(required_text(part, "text", place))
    return found


def _call(fields: Fields, where: str) -> ToolCall:
    return ToolCall(
        id=required_name(fields, "call_id", where),
        name=required_name(fields, "name", where),
        arguments=required_text(fields, "arguments", where),
        extra=extras(fields, _CALL),
    )


def _result(fields: Fields, where: str) -> ToolResult:
    call_id = required_name(fields, "call_id", where)
    output = fields.get("output")
    inside = at(where, "output")
    if output is None:
        raise refused(inside, "is required: a string or an array")
    content: tuple[TextPart | ImagePart | OpaquePart, ...]
    if type(output) is str:
        content = (TextPart(text=output),)
    else:
        blocks = enumerate(as_array(output, inside))
        content = tuple(_shown(block, f"{inside}[{index}]") for index, block in blocks)
    return ToolResult(
        tool_call_id=call_id,
        content=content,
        extra=extras(fields, _RESULT),
    )


def _shown(part: Any, where: str) -> TextPart | ImagePart | OpaquePart:
    value = _part(part, where)
    if isinstance(value, (TextPart, ImagePart, OpaquePart)):
        return value
    raise refused(at(where, "type"), "refusal is nothing that a tool can show")
