"""What cannot be said in another format, by name: nothing is dropped in silence.

A request in the adapter's own format is not looked through: what its client
wrote goes to the provider as it is, and the provider judges it. A request in
another format may hold fields that only that format knows, and those are
refused, with the field's name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from duckservice.completion import (
    ChatRequest,
    OpaquePart,
    Part,
    TextPart,
    ToolResult,
    WireFormat,
)
from duckservice.errors import InvalidRequest

_SAYS_NOTHING: Final[Mapping[str, Any]] = {
    "logprobs": False,
    "store": False,
    "logit_bias": {},
    "service_tier": "auto",
    "modalities": ["text"],
}
"""Fields that many clients always send, with the value that holds anyway."""


def refusal(provider: str, target: str, field: str, reason: str = "") -> InvalidRequest:
    """Return the error for a request's *field* that *target* has no words for."""
    why = reason or f"cannot be translated to {target}"
    return InvalidRequest(f"{field}: {why}", provider=provider, param=field)


def foreign_fields(request: ChatRequest, own: WireFormat) -> Iterator[str]:
    """Yield the names of *request*'s fields that are only known in another format."""
    yield from _opaque_parts(request, own)
    if request.format == own:
        return
    for name, value in request.extra.items():
        if value is not None and _SAYS_NOTHING.get(name, _UNSET) != value:
            yield name
    for i, message in enumerate(request.messages):
        yield from _named(message_path(request, i), message.extra)
        for j, part in enumerate(message.parts):
            yield from _in_part(part_path(request, i, j), part)
    for i, tool in enumerate(request.tools):
        yield from _named(f"tools[{i}]", tool.extra)


def message_path(request: ChatRequest, index: int) -> str:
    """Return what the client calls a message.

    In Anthropic's format the system prompt stands beside the messages.
    """
    if request.format == "anthropic" and request.messages[0].role == "system":
        return f"messages[{index - 1}]" if index else "system"
    return f"messages[{index}]"


def part_path(request: ChatRequest, message: int, part: int) -> str:
    """Return what the client calls a part of a message."""
    where = message_path(request, message)
    return f"{where}[{part}]" if where == "system" else f"{where}.content[{part}]"


_UNSET: Final = object()


def _in_part(path: str, part: Part) -> Iterator[str]:
    extra = getattr(part, "extra", None)
    if extra:
        yield from _named(path, extra)
    if isinstance(part, ToolResult):
        for k, inner in enumerate(part.content):
            if not isinstance(inner, OpaquePart):
                yield from _named(f"{path}.content[{k}]", inner.extra)


def _opaque_parts(request: ChatRequest, own: WireFormat) -> Iterator[str]:
    for i, message in enumerate(request.messages):
        for j, part in enumerate(message.parts):
            if isinstance(part, OpaquePart) and part.format != own:
                yield f"{part_path(request, i, j)} ({_kind(part)})"
            if isinstance(part, ToolResult):
                yield from _opaque_results(part_path(request, i, j), part, own)


def _opaque_results(path: str, result: ToolResult, own: WireFormat) -> Iterator[str]:
    for k, inner in enumerate(result.content):
        if isinstance(inner, OpaquePart) and inner.format != own:
            yield f"{path}.content[{k}] ({_kind(inner)})"


def _kind(part: OpaquePart) -> str:
    return str(part.value.get("type", "part"))


def _named(path: str, extra: Mapping[str, Any]) -> Iterator[str]:
    return (f"{path}.{name}" for name, value in extra.items() if value is not None)


def is_plain_text(parts: tuple[Part, ...]) -> bool:
    """Say whether *parts* are one text, which every format may write as a string."""
    return len(parts) == 1 and isinstance(parts[0], TextPart) and not parts[0].extra


def _plain(value: object) -> object:
    if isinstance(value, Mapping):  # msgspec encodes dicts only
        return dict(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]  # JSON of any kind
    msg = f"a value of type {type(value).__name__} is not JSON"
    raise TypeError(msg)


_encoder: Final = msgspec.json.Encoder(enc_hook=_plain)


def to_json(body: Mapping[str, Any], provider: str) -> bytes:
    """Return *body* as JSON; `InvalidRequest` if it holds what JSON cannot."""
    try:
        return _encoder.encode(body)
    except UnicodeEncodeError as error:
        # Its text would quote the prompt.
        raise InvalidRequest(
            "the request holds half of a surrogate pair, which is no text",
            provider=provider,
        ) from error
    except (TypeError, RecursionError) as error:
        raise InvalidRequest(
            f"the request cannot be written as JSON: {error}", provider=provider
        ) from error
