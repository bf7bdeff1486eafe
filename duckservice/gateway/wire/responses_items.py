"""The items of a response's output, as OpenAI writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from duckservice.completion import OpaquePart, Part, ToolCall, Usage
from duckservice.gateway.wire.fields import is_array, is_object

Item: TypeAlias = dict[str, Any]
"""One item of the output, one part of its content, or one event about it."""

ItemStatus: TypeAlias = Literal["in_progress", "completed", "incomplete"]

REDACTED = "redacted_thinking:"
"""Begins an ``encrypted_content`` that is Anthropic's ``redacted_thinking``: it has
to go back as that, and not as the signature of a thought. No base64 has a colon."""

_CONTENT = frozenset({"reasoning_text", "summary_text", "text", "output_audio"})

_CALL = frozenset({"id", "type", "status", "arguments", "call_id", "name"})


def item_id(
    kind: Literal["msg", "rs", "fc", "ig_duck"], response_id: str, index: int
) -> str:
    """Return the id of the item at *index* of the output, unique in the response."""
    return f"{kind}_{response_id.removeprefix('resp_')}_{index}"


def message_item(its_id: str, content: Sequence[Item], status: ItemStatus) -> Item:
    """Return what the assistant says."""
    return {
        "id": its_id,
        "type": "message",
        "status": status,
        "content": list(content),
        "role": "assistant",
    }


def text_part(text: str, extra: Mapping[str, Any]) -> Item:
    """Return a text, with what its provider says about it in *extra*."""
    return {
        "type": "output_text",
        "annotations": annotations_of(extra),
        "logprobs": logprobs_of(extra),
        "text": text,
    }


def refusal_part(text: str) -> Item:
    """Return a refusal, which is a part of a message."""
    return {"type": "refusal", "refusal": text}


def summary_part(text: str) -> Item:
    """Return a piece of a thought."""
    return {"type": "summary_text", "text": text}


def reasoning_item(its_id: str, text: str, encrypted: str | None) -> Item:
    """Return a thought; *encrypted* is what must go back to its provider."""
    summary = [summary_part(text)] if text else []
    item: Item = {"id": its_id, "type": "reasoning", "summary": summary}
    if encrypted is not None:
        item["encrypted_content"] = encrypted
    return item


def encrypted(signature: str | None, redacted: str | None) -> str | None:
    """Return what a thought has that must go back as it was."""
    return signature if redacted is None else REDACTED + redacted


def call_item(its_id: str, call: ToolCall, status: ItemStatus) -> Item:
    """Return a tool call, with what must go back with it."""
    item: Item = {
        "id": its_id,
        "type": "function_call",
        "status": status,
        "arguments": call.arguments,
        "call_id": call.id,
        "name": call.name,
    }
    item.update((key, call.extra[key]) for key in call.extra if key not in _CALL)
    return item


def is_content(part: Part) -> bool:
    """Say whether an `OpaquePart` stands inside of a message, and is no item."""
    return isinstance(part, OpaquePart) and part.value.get("type") in _CONTENT


def usage_fields(usage: Usage) -> Item:
    """Return *usage* in the words of Responses."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


def annotations_of(extra: Mapping[str, Any]) -> list[Item]:
    """Return a text's annotations; those of a chat have their fields one level down."""
    found: Any = extra.get("annotations")
    if not is_array(found):
        return []
    return [_flat(each) for each in found if is_object(each)]


def logprobs_of(extra: Mapping[str, Any]) -> list[Any]:
    """Return the probabilities of a text's tokens; a chat's are those of a choice."""
    found: Any = extra.get("logprobs")
    if is_object(found):
        found = found.get("content")
    return found if is_array(found) else []


def _flat(annotation: Item) -> Item:
    kind = annotation.get("type")
    inner: Any = annotation.get(kind) if type(kind) is str else None
    return {"type": kind, **inner} if is_object(inner) else annotation
