"""Converse's answers read into completions.

An answer names neither itself nor its model, so it is named after its request.
A call of a tool of Bedrock's own comes as any other call: we never offer one.
Blocks that we do not know are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from duckservice.completion import (
    Choice,
    Completion,
    FinishReason,
    Part,
    ReasoningPart,
    TextPart,
    ToolCall,
    Usage,
)
from duckservice.providers.answer_stream import what_it_is
from duckservice.providers.bedrock.failures import status_of
from duckservice.providers.failures import Classifier
from duckservice.providers.origin import Origin
from duckservice.providers.reading import (
    UNREADABLE,
    Malformed,
    mapping_or_empty,
    token_count,
    usage_of,
)

_REASONS: Final[Mapping[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "malformed_model_output": "stop",
    "malformed_tool_use": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}


class Camel(msgspec.Struct, rename="camel", gc=False):
    """Bedrock's names in our spelling."""


class TokenUsage(Camel):
    """What an answer has used, as Bedrock counts."""

    input_tokens: Any = None
    output_tokens: Any = None
    cache_read_input_tokens: Any = None
    cache_write_input_tokens: Any = None
    cache_details: Any = None


class ToolUse(Camel):
    """A call, whole or at its start."""

    tool_use_id: str
    name: str
    input: msgspec.Raw = msgspec.Raw(b"{}")


class _Thought(Camel):
    text: str = ""
    signature: str | None = None


class _Reasoning(Camel):
    reasoning_text: _Thought | None = None
    redacted_content: str | None = None


class _Text(Camel):
    text: str = ""


class _Cited(Camel):
    content: list[_Text] | None = None


class _Block(Camel):
    text: str | None = None
    tool_use: ToolUse | None = None
    reasoning_content: _Reasoning | None = None
    citations_content: _Cited | None = None


class _Message(Camel):
    content: list[_Block] | None = None


class _Output(Camel):
    message: _Message | None = None


class _Answer(Camel):
    output: _Output | None = None
    stop_reason: str | None = None
    usage: TokenUsage | None = None
    additional_model_response_fields: Any = None


_answer: Final = msgspec.json.Decoder(_Answer)
_any: Final = msgspec.json.Decoder()


def decode(body: bytes, origin: Origin, errors: Classifier) -> Completion:
    """Return the completion that *body* is.

    Raises `BadProviderResponse` for what is none, and the fitting error for
    one that came with status 200.
    """
    try:
        answer = _answer.decode(body)
        message = None if answer.output is None else answer.output.message
        if message is None or message.content is None:
            said = mapping_or_empty(_any.decode(body))
            if not _ERROR.isdisjoint(said):
                raise errors(status_of(said.get("__type")), {}, body)
            raise Malformed("JSON without a message")
        choice = Choice(
            parts=tuple(part for block in message.content for part in _parts(block)),
            finish_reason=finish_reason(answer.stop_reason),
            native_finish_reason=answer.stop_reason,
            stop_sequence=stop_sequence(answer.additional_model_response_fields),
        )
        return Completion(
            id=origin.answer_id,
            model=origin.model,
            choices=(choice,),
            usage=Usage(estimated=True)
            if answer.usage is None
            else usage(answer.usage),
        )
    except UNREADABLE as error:
        raise errors.bad_response(what_it_is(body, error)) from error


def finish_reason(native: str | None) -> FinishReason:
    """Return our word for why the model stopped."""
    return _REASONS.get(native or "", "stop")


def stop_sequence(fields: object) -> str | None:
    """Return the stop sequence in the additional fields of Claude's answers."""
    whole = mapping_or_empty(fields)
    for place in (whole, mapping_or_empty(whole.get("delta"))):
        if isinstance(found := place.get("stop_sequence"), str):
            return found
    return None


def usage(said: TokenUsage) -> Usage:
    """Return the usage with cached tokens in the input, where Bedrock leaves them out."""
    read = token_count(said.cache_read_input_tokens)
    written = token_count(said.cache_write_input_tokens)
    return usage_of(
        input_tokens=token_count(said.input_tokens) + read + written,
        output_tokens=said.output_tokens,
        cached=read,
        cache_write=written,
        hour_write=_kept_for_an_hour(said.cache_details),
    )


def _kept_for_an_hour(details: Any) -> int:
    said = map(mapping_or_empty, details if isinstance(details, list) else ())  # pyright: ignore[reportUnknownArgumentType]  # any JSON
    return sum(
        token_count(its.get("inputTokens")) for its in said if its.get("ttl") == "1h"
    )


_ERROR: Final = frozenset({"__type", "message", "Message"})


def _parts(block: _Block) -> Iterator[Part]:
    if block.text is not None:
        yield TextPart(text=block.text)
    if (call := block.tool_use) is not None:
        arguments = bytes(call.input).decode()
        yield ToolCall(
            id=call.tool_use_id,
            name=call.name,
            arguments="{}" if arguments == "null" else arguments,
        )
    if (reasoning := block.reasoning_content) is not None:
        yield from _thoughts(reasoning)
    if (cited := block.citations_content) is not None:
        for text in cited.content or ():
            yield TextPart(text=text.text)


def _thoughts(reasoning: _Reasoning) -> Iterator[Part]:
    if (thought := reasoning.reasoning_text) is not None:
        yield ReasoningPart(text=thought.text, signature=thought.signature)
    if reasoning.redacted_content is not None:
        yield ReasoningPart(redacted=reasoning.redacted_content)
