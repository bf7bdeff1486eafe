"""The items of a response's output, read into parts.

An item is a message, a thought, a call, or what only this format knows (a search
that the server made, its code, its pictures): that one is kept whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from duckservice.completion import (
    NOTHING,
    OpaquePart,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCall,
)
from duckservice.providers.reading import Malformed, mapping_or_empty, text_or

CLIENT_CALLS: Final = ("function_call", "custom_tool_call")
"""Items that wait for the client: the answer ends with them, unfinished."""

_CALL_EXTRAS: Final = ("namespace", "caller")
"""What must go back with a call, where it is said."""

_encode: Final = msgspec.json.Encoder().encode


def parts_of(item: Mapping[str, Any], made_up_id: str) -> list[Part]:
    """Return the parts that an item holds; *made_up_id* is for a call without one."""
    match item.get("type"):
        case "message":
            return message_parts(item)
        case "reasoning":
            thought = thought_of(item)
            return [] if thought is None else [thought]
        case "function_call":
            return [call_of(item, made_up_id)]
        case _:
            return [OpaquePart(format="responses", value=item)]


def message_parts(item: Mapping[str, Any]) -> list[Part]:
    """Return what a message says; text may stand there without parts."""
    content = item.get("content")
    if isinstance(content, str):
        return [TextPart(text=content)]
    return [
        part
        for value in list_or_empty(content)
        if (part := _content_part(mapping_or_empty(value))) is not None
    ]


def thought_of(item: Mapping[str, Any]) -> ReasoningPart | None:
    """Return a thought, None if nothing of it is told.

    OpenAI tells a summary, open models tell the thought itself.
    """
    text = thought_text(item)
    signature = signature_of(item)
    if not text and signature is None:
        return None
    return ReasoningPart(text=text, signature=signature)


def thought_text(item: Mapping[str, Any]) -> str:
    """Return the text of a thought, the summary before the thought itself."""
    return "".join(
        text_or(mapping_or_empty(value).get("text"), "")
        for name in ("summary", "content")
        for value in list_or_empty(item.get(name))
    )


def signature_of(item: Mapping[str, Any]) -> str | None:
    """Return what carries a thought to the next turn without a store."""
    return text_or(item.get("encrypted_content"), "") or None


def call_of(item: Mapping[str, Any], made_up_id: str) -> ToolCall:
    """Return the call of a function."""
    return ToolCall(
        id=call_id_of(item) or made_up_id,
        name=text_or(item.get("name"), ""),
        arguments=arguments_of(item),
        extra=call_extra(item),
    )


def call_id_of(item: Mapping[str, Any]) -> str:
    """Return the id that the call's result must name."""
    return text_or(item.get("call_id"), "") or text_or(item.get("id"), "")


def call_extra(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what else must go back with a call."""
    extra = {name: item[name] for name in _CALL_EXTRAS if item.get(name) is not None}
    return extra or NOTHING


def arguments_of(item: Mapping[str, Any]) -> str:
    """Return a call's arguments as JSON text; some write them as an object."""
    match item.get("arguments"):
        case None:
            return ""
        case str(text):
            return text
        case value:
            return _encode(value).decode()


def list_or_empty(value: Any) -> list[Any]:
    """Return *value* if it is a JSON array, or an empty one."""
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]  # any JSON


def _content_part(value: Mapping[str, Any]) -> Part | None:
    match value:
        case {"type": "output_text" | "text", "text": str(text)}:
            annotations = value.get("annotations")
            extra = {"annotations": annotations} if annotations else NOTHING
            return TextPart(text=text, extra=extra)
        case {"type": "refusal", "refusal": str(text)}:
            return RefusalPart(text=text)
        case {"type": "output_text" | "text" | "refusal"}:
            raise Malformed("a part of a message without its text")
        case _:
            return OpaquePart(format="responses", value=value)
