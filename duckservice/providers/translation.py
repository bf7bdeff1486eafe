"""What cannot be said in another format, by name: nothing is dropped in silence.

A request in the adapter's own format is not looked through: what its client
wrote goes to the provider as it is, and the provider judges it. A request in
another format may hold fields that only that format knows, and those are
refused, with the field's name.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
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
from duckservice.placed_message import PlacedMessage
from duckservice.providers.responses_fields import foreign_in_responses

_SAYS_NOTHING: Final[Mapping[str, Any]] = {
    "logprobs": False,
    "store": False,
    "logit_bias": {},
    "service_tier": "auto",
    "modalities": ["text"],
}
"""Fields that many clients always send, with the value that holds anyway."""


_PART_SAYS_NOTHING: Final[Mapping[str, Any]] = {"prefix": False}
"""The same of messages: Mistral's own SDK writes it into each."""


def refusal(provider: str, target: str, field: str, reason: str = "") -> InvalidRequest:
    """Return the error for a request's *field* that *target* has no words for."""
    why = reason or f"cannot be translated to {target}"
    return InvalidRequest(f"{field}: {why}", provider=provider, param=field)


def foreign_fields(
    request: ChatRequest,
    own: WireFormat,
    *,
    understood: Container[str] = (),
    opaque: bool = True,
) -> Iterator[str]:
    """Yield the names of *request*'s fields that are only known in another format.

    Fields of messages, parts and tools that are *understood* all the same are not among
    them, nor, unless *opaque*, are parts that only another format has.
    """
    if opaque:
        yield from _opaque_parts(request, own)
    if request.format == own:
        return
    yield from _foreign_extra(request)
    for i, message in enumerate(request.messages):
        if message.extra:
            yield from _named(message_path(request, i), message.extra, understood)
        for j, part in enumerate(message.parts):
            # Nearly no part has any, and to name its place takes longer than to look.
            if getattr(part, "extra", None) or isinstance(part, ToolResult):
                path = part_path(request, i, j)
                yield from _in_part(request, path, part, understood)
    for i, tool in enumerate(request.tools):
        if tool.extra:
            yield from _named(f"tools[{i}]", tool.extra, understood)


def _foreign_extra(request: ChatRequest) -> Iterator[str]:
    if request.format == "responses":
        yield from foreign_in_responses(request)
        return
    for name, value in request.extra.items():
        if value is not None and _SAYS_NOTHING.get(name, _UNSET) != value:
            yield name


def message_path(request: ChatRequest, index: int) -> str:
    """Return what the client calls a message.

    In Anthropic's format the system prompt stands beside the messages, in Responses
    each has its own place.
    """
    message = request.messages[index]
    if isinstance(message, PlacedMessage):
        return message.place
    if request.format == "anthropic" and request.messages[0].role == "system":
        return f"messages[{index - 1}]" if index else "system"
    return f"messages[{index}]"


def part_path(request: ChatRequest, message: int, part: int) -> str:
    """Return what the client calls a part of a message."""
    its = request.messages[message]
    if isinstance(its, PlacedMessage):
        return its.places[part]
    where = message_path(request, message)
    return f"{where}[{part}]" if where == "system" else f"{where}.content[{part}]"


_OPTIONS: Final[Mapping[WireFormat, Mapping[str, str]]] = {
    "openai": {},
    "anthropic": {
        "stop": "stop_sequences",
        "reasoning_effort": "thinking.type",
        "response_format": "output_config.format",
        "response_format.json_schema": "output_config.format",
        "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    },
    "responses": {
        "max_tokens": "max_output_tokens",
        "reasoning_effort": "reasoning.effort",
        "response_format": "text.format",
        "response_format.json_schema": "text.format",
    },
}


def option(request: ChatRequest, name: str) -> str:
    """Return what the client calls the option that OpenAI's chats call *name*."""
    its = request.reasoning
    if name == "reasoning_effort" and request.format == "anthropic" and its is not None:
        return "output_config.effort" if its.mode is None else "thinking.type"
    return _OPTIONS[request.format].get(name, name)


def result_path(request: ChatRequest, path: str, part: int) -> str:
    """Return what the client calls a part of the tool result at *path*."""
    name = "output" if request.format == "responses" else "content"
    return f"{path}.{name}[{part}]"


_UNSET: Final = object()


def _in_part(
    request: ChatRequest, path: str, part: Part, understood: Container[str]
) -> Iterator[str]:
    extra = getattr(part, "extra", None)
    if extra:
        yield from _named(path, extra, understood)
    if isinstance(part, ToolResult):
        for k, inner in enumerate(part.content):
            if not isinstance(inner, OpaquePart):
                inside = result_path(request, path, k)
                yield from _named(inside, inner.extra, understood)


def _opaque_parts(request: ChatRequest, own: WireFormat) -> Iterator[str]:
    for i, message in enumerate(request.messages):
        for j, part in enumerate(message.parts):
            if isinstance(part, OpaquePart) and part.format != own:
                yield f"{part_path(request, i, j)} ({_kind(part)})"
            if isinstance(part, ToolResult):
                path = part_path(request, i, j)
                for k, inner in enumerate(part.content):
                    if isinstance(inner, OpaquePart) and inner.format != own:
                        yield f"{result_path(request, path, k)} ({_kind(inner)})"


def _kind(part: OpaquePart) -> str:
    return str(part.value.get("type", "part"))


def _named(
    path: str, extra: Mapping[str, Any], understood: Container[str]
) -> Iterator[str]:
    return (
        f"{path}.{name}"
        for name, value in extra.items()
        if value is not None
        and name not in understood
        and _PART_SAYS_NOTHING.get(name, _UNSET) != value
    )


def is_plain_text(parts: tuple[Part, ...]) -> bool:
    """Say whether *parts* are one text, which every format may write as a string."""
    return len(parts) == 1 and isinstance(parts[0], TextPart) and not parts[0].extra


def failure(result: ToolResult) -> str | None:
    """Return the content of a result that is marked as failed, None if it is not.

    For formats without such a mark: the text stands under ``error``, as tools say it.
    """
    if not result.is_error:
        return None
    said = "\n".join(p.text for p in result.content if isinstance(p, TextPart))
    return _encoder.encode({"error": said}).decode()


def has_unsayable_failure(result: ToolResult) -> bool:
    """Say whether *result* has failed with more than text, which `failure` cannot say."""
    return result.is_error and not all(isinstance(p, TextPart) for p in result.content)


_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def are_arguments(text: str) -> bool:
    """Say whether *text* is a JSON object, or empty, as some models write for none.

    For formats in which a call's arguments are an object. They still go on as they were
    written: read into values and written anew, numbers would lose digits.
    """
    if not text:
        return True
    try:
        _members.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return True


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
