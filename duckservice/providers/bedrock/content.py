"""What is said in a conversation, in Converse's blocks.

Converse takes turns: what stands side by side in one role (the results of several
calls, and the question behind them) becomes one turn of as many blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias, assert_never

import msgspec

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
from duckservice.providers.bedrock.models import family_of
from duckservice.providers.translation import are_arguments, refusal

Json: TypeAlias = dict[str, Any]

_IMAGE_FORMATS: Final = {
    "image/png": "png",
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
}


def untranslatable(part: Part, path: str, *, model: str) -> Iterator[tuple[str, str]]:
    """Yield the fields of a part that Converse has no words for, each with the reason."""
    match part:
        case ImagePart(detail="low" | "high"):
            yield f"{path}.image_url.detail", ""
        case ImagePart(url=None, media_type=kind) if kind not in _IMAGE_FORMATS:
            yield path, "Bedrock takes PNG, JPEG, GIF and WebP"
        case ReasoningPart(signature=None, redacted=None):
            if family_of(model) == "claude":
                yield path, "Claude takes no reasoning back without its signature"
        case ToolCall(arguments=arguments) if not are_arguments(arguments):
            yield f"{path}.function.arguments", "must be a JSON object"
        case ToolResult(content=inner_parts):
            for k, inner in enumerate(inner_parts):
                yield from untranslatable(inner, f"{path}.content[{k}]", model=model)
        case _:
            pass


def leading_system(messages: Sequence[Message]) -> int:
    """Return how many messages at the start are the system's."""
    for count, message in enumerate(messages):
        if message.role not in ("system", "developer"):
            return count
    return len(messages)


def has_calls(messages: Sequence[Message]) -> bool:
    """Say whether tools have been used in the conversation."""
    return any(
        isinstance(part, ToolCall | ToolResult) for m in messages for part in m.parts
    )


def system(messages: Sequence[Message], provider: str) -> list[Json]:
    """Return the system prompt's blocks."""
    return _blocks(tuple(part for m in messages for part in m.parts), provider)


def turns(messages: Sequence[Message], provider: str) -> list[Json]:
    """Return the conversation behind the system prompt."""
    found: list[Json] = []
    for message in messages:
        role = _role(message)
        blocks = _blocks(message.parts, provider)
        if found and found[-1]["role"] == role:
            found[-1]["content"] += blocks
        else:
            found.append({"role": role, "content": blocks})
    return found


def cache_points(extra: Mapping[str, Any]) -> Iterator[Json]:
    """Yield the cache point that Anthropic's ``cache_control`` means, if it is there."""
    control = extra.get("cache_control")
    if control is None:
        return
    point = {"type": "default"}
    if isinstance(control, Mapping) and "ttl" in control:
        point["ttl"] = control["ttl"]
    yield {"cachePoint": point}


def _role(message: Message) -> str:
    match message.role:
        case "user" | "tool":
            return "user"
        case "developer" | "system":
            return "system"
        case "assistant":
            return "assistant"
        case _:
            assert_never(message.role)


def _blocks(parts: tuple[Part, ...], provider: str) -> list[Json]:
    # Other formats write "" beside a call; here an empty text is an error.
    said = [p for p in parts if not (isinstance(p, TextPart) and not p.text)]
    blocks: list[Json] = []
    for part in said or parts:
        blocks.append(_block(part, provider))
        blocks += cache_points(getattr(part, "extra", {}))
    return blocks


def _block(part: Part, provider: str) -> Json:
    match part:
        case TextPart(text=text) | RefusalPart(text=text):
            return {"text": text}
        case ImagePart():
            return {"image": _image(part)}
        case ReasoningPart(redacted=str(redacted)):
            return {"reasoningContent": {"redactedContent": redacted}}
        case ReasoningPart(text=text, signature=signature):
            thought = {"text": text}
            if signature is not None:
                thought["signature"] = signature
            return {"reasoningContent": {"reasoningText": thought}}
        case ToolCall():
            return {"toolUse": _tool_use(part, provider)}
        case ToolResult():
            return {"toolResult": _tool_result(part, provider)}
        case OpaquePart():
            raise AssertionError("of another format, and refused")
        case _:
            assert_never(part)


def _image(image: ImagePart) -> Json:
    kind = _IMAGE_FORMATS.get(image.media_type or "", "")
    return {"format": kind, "source": {"bytes": image.data}}


def _tool_use(call: ToolCall, provider: str) -> Json:
    if not are_arguments(call.arguments):
        raise refusal(
            provider,
            "Bedrock's Converse",
            "messages[].tool_calls[].function.arguments",
            f"the call {call.id!r} has arguments that are no JSON object",
        )
    # Not read into values and written anew: numbers stay as the model wrote them.
    arguments = msgspec.Raw(call.arguments.encode() or b"{}")
    return {"toolUseId": call.id, "name": call.name, "input": arguments}


def _tool_result(result: ToolResult, provider: str) -> Json:
    said = [p for p in result.content if not (isinstance(p, TextPart) and not p.text)]
    block: Json = {
        "toolUseId": result.tool_call_id,
        "content": [_block(part, provider) for part in said],
    }
    if result.is_error:
        block["status"] = "error"
    return block
