"""The messages of a request, written as items of a response's input.

A turn becomes several items where it holds more than words: thoughts, calls and
results are items of their own, in the order in which they stand in the turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias, assert_never

import attrs

from duckservice.completion import (
    ImagePart,
    Message,
    OpaquePart,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCall,
    ToolResult,
)
from duckservice.providers.responses.files import file_of
from duckservice.providers.responses.variant import ResponsesVariant
from duckservice.providers.translation import failure, is_plain_text

Json: TypeAlias = dict[str, Any]

EXTRA_CONTENT: Final = "extra_content"
"""What Gemini's calls carry, in the shape of Google's own OpenAI format."""

_CONTENT: Final = frozenset(
    {
        "input_text",
        "input_image",
        "input_file",
        "input_audio",
        "output_text",
        "refusal",
        "text",
    }
)
"""What stands inside of a message; all else of this format is an item."""


def input_items(
    messages: Iterable[Message], its: ResponsesVariant, *, foreign: bool
) -> list[Json]:
    """Return the items in which *messages* are said.

    *foreign* says that a client of another format wrote them.
    """
    writer = _Writer(its=its, foreign=foreign)
    return [item for message in messages for item in writer.items(message)]


def without_nulls(extra: Mapping[str, Any]) -> Json:
    """Return *extra* without what says nothing, and without what only Gemini knows.

    All else in it is of this format: what is of another has been refused.
    """
    return {
        name: value
        for name, value in extra.items()
        if value is not None and name != EXTRA_CONTENT
    }


@attrs.frozen(kw_only=True)
class _Writer:
    """Writes messages for one server."""

    its: ResponsesVariant
    foreign: bool

    def items(self, message: Message) -> Iterator[Json]:
        said: list[Part] = []
        for part in message.parts:
            item = self._item(part)
            if item is None:
                said.append(part)
                continue
            if said:
                yield from self._message(message, said)
                said = []
            yield item
        if said or not message.parts:
            yield from self._message(message, said)

    def _item(self, part: Part) -> Json | None:
        """Return the item that *part* is, None if it stands inside of a message."""
        match part:
            case TextPart() | ImagePart() | RefusalPart():
                return None
            case ReasoningPart():
                return self._reasoning(part)
            case ToolCall():
                return _function_call(part)
            case ToolResult():
                return self._function_call_output(part)
            case OpaquePart(value=value):
                if part.format != "responses" or value.get("type") in _CONTENT:
                    return None
                return dict(value)
            case _:
                assert_never(part)

    def _message(self, message: Message, said: list[Part]) -> Iterator[Json]:
        if message.role == "assistant":
            if self.foreign and len(message.parts) > 1:
                # Other formats write "" beside a call.
                said = [p for p in said if not isinstance(p, TextPart) or p.text]
            if said or not message.parts:
                yield self._answer(message, said)
            return
        role = "user" if message.role == "tool" else message.role
        if role == "developer" and not self.its.developer:
            role = "system"
        extra = without_nulls(message.extra)
        yield {"role": role, "content": self._content(tuple(said)), **extra}

    def _answer(self, message: Message, said: list[Part]) -> Json:
        extra = without_nulls(message.extra)
        content: str | list[Json] = [self._answer_part(part) for part in said]
        if is_plain_text(tuple(said)):
            assert isinstance(said[0], TextPart)
            content = said[0].text
            if not extra:
                return {"role": "assistant", "content": content}
        return {"type": "message", "role": "assistant", "content": content, **extra}

    def _answer_part(self, part: Part) -> Json:
        match part:
            case RefusalPart(text=text):
                return {"type": "refusal", "refusal": text}
            case TextPart(text=text, extra=extra):
                return {"type": "output_text", "text": text, **without_nulls(extra)}
            case _:
                return self._part(part)

    def _content(self, parts: tuple[Part, ...]) -> str | list[Json]:
        if is_plain_text(parts):
            assert isinstance(parts[0], TextPart)
            return parts[0].text
        return [self._part(part) for part in parts] or ""

    def _part(self, part: Part) -> Json:
        match part:
            case TextPart(text=text, extra=extra):
                return {"type": "input_text", "text": text, **without_nulls(extra)}
            case RefusalPart(text=text):
                return {"type": "input_text", "text": text}
            case ImagePart():
                return self._image(part)
            case OpaquePart(value=value):
                return file_of(part) or dict(value)
            case ReasoningPart() | ToolCall() | ToolResult():
                raise AssertionError("these are items here, not parts")
            case _:
                assert_never(part)

    def _image(self, image: ImagePart) -> Json:
        url = image.url
        if url is None:
            url = f"data:{image.media_type};base64,{image.data}"
        said: Json = {"type": "input_image", "image_url": url}
        if image.detail is not None or self.foreign:
            said["detail"] = image.detail or "auto"  # OpenAI's document demands it
        return {**said, **without_nulls(image.extra)}

    def _reasoning(self, thought: ReasoningPart) -> Json:
        if not thought.signature and self.its.open_thoughts == "content":
            # Open models take their thoughts back as they told them.
            content = {"type": "reasoning_text", "text": thought.text}
            return {"type": "reasoning", "summary": [], "content": [content]}
        summary = {"type": "summary_text", "text": thought.text}
        item: Json = {"type": "reasoning", "summary": [summary] if thought.text else []}
        if thought.signature:
            item["encrypted_content"] = thought.signature
        return item

    def _function_call_output(self, result: ToolResult) -> Json:
        return {
            "type": "function_call_output",
            "call_id": result.tool_call_id,
            "output": failure(result) or self._content(result.content),
            **without_nulls(result.extra),
        }


def _function_call(call: ToolCall) -> Json:
    return {
        "type": "function_call",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
        **without_nulls(call.extra),
    }
