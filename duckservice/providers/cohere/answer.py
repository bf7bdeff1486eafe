"""Cohere's answers, read into completions.

What has no place in other formats is kept in the choice's ``extra``: the plan that
some models make before they call tools, under ``tool_plan``, neither text nor
thinking to Cohere's own SDK; and citations, under ``cohere_citations``. Usage is what
the model has read and written, Cohere's own prompt included; what is charged is less:
its ``billed_units``, which are what is priced, and in the completion's ``extra``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import attrs
import msgspec

from duckservice.completion import (
    NOTHING,
    Choice,
    Completion,
    FinishReason,
    Part,
    ReasoningPart,
    TextPart,
    ToolCall,
    Usage,
)
from duckservice.errors import DuckError
from duckservice.providers.answer_stream import what_it_is
from duckservice.providers.cohere.errors import FAILURES
from duckservice.providers.failures import Classifier
from duckservice.providers.origin import Origin
from duckservice.providers.reading import (
    TOKENS_MAX,
    UNREADABLE,
    Malformed,
    mapping_or_empty,
    text_or,
    token_count,
    usage_of,
)

PLAN: Final = "tool_plan"
CITATIONS: Final = "cohere_citations"

REASONS: Final[Mapping[str, FinishReason]] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
}


class _Block(msgspec.Struct, gc=False):
    type: Any = None
    text: str | None = None
    thinking: str | None = None


class _Function(msgspec.Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct, gc=False):
    id: Any = None
    function: _Function | None = None


class _Message(msgspec.Struct, gc=False):
    content: list[_Block] | None = None
    tool_plan: str | None = None
    tool_calls: list[_Call] | None = None
    citations: Any = None


class _Body(msgspec.Struct, gc=False):
    id: Any = None
    message: Any = None
    finish_reason: str | None = None
    usage: Any = None
    error: Any = None
    error_type: Any = None


_body: Final = msgspec.json.Decoder(_Body)


def decode(body: bytes, errors: Classifier, origin: Origin) -> Completion:
    """Return the completion that *body* is.

    Raises `BadProviderResponse` for what is none, and the fitting error for one
    that came with status 200.
    """
    try:
        answer = _body.decode(body)
        _raise_failure(answer, errors)
        if answer.message is None:
            raise Malformed("JSON without a message")
        message = msgspec.convert(answer.message, _Message)
        billed = mapping_or_empty(answer.usage).get("billed_units")
        return Completion(
            id=text_or(answer.id, "") or origin.answer_id,
            model=origin.model,
            choices=(_choice(message, answer.finish_reason, origin),),
            usage=usage(answer.usage) or Usage(estimated=True),
            extra={"billed_units": billed} if billed else NOTHING,
        )
    except UNREADABLE as error:
        raise errors.bad_response(what_it_is(body, error)) from error


def usage(value: object) -> Usage | None:
    """Return the usage that Cohere states, None if it states none."""
    fields = mapping_or_empty(value)
    billed = mapping_or_empty(fields.get("billed_units"))
    tokens = mapping_or_empty(fields.get("tokens")) or billed
    if not tokens:
        return None
    its = usage_of(
        input_tokens=tokens.get("input_tokens"),
        output_tokens=tokens.get("output_tokens"),
        cached=fields.get("cached_tokens"),
        reasoning=tokens.get("reasoning_tokens"),
    )
    return attrs.evolve(
        its,
        billed_input_tokens=_charged(billed, "input_tokens"),
        billed_output_tokens=_charged(billed, "output_tokens"),
    )


def _charged(billed: Mapping[str, Any], of: str) -> int | None:
    # What is no count is not taken for nothing: then all tokens are priced.
    count = billed.get(of)
    its = token_count(count)
    return its if its == count and its <= TOKENS_MAX else None


def failure(
    errors: Classifier, *, reason: str | None, said: object, kind: object
) -> DuckError:
    """Return the error that a generation ended with."""
    return errors.in_band(
        {
            "error": text_or(said, "") or f"the generation ended with {reason}",
            "error_type": kind,
            "finish_reason": reason,
        }
    )


def made_up_id(origin: Origin, index: int) -> str:
    """Return an id, unique in the conversation, for a call that has none."""
    return f"call_{origin.answer_id}_{index}"


def _raise_failure(answer: _Body, errors: Classifier) -> None:
    if isinstance(answer.message, str):  # Cohere's envelope of errors
        raise errors.in_band({"message": answer.message})
    if answer.finish_reason in FAILURES or (answer.error and not answer.message):
        raise failure(
            errors,
            reason=answer.finish_reason,
            said=answer.error,
            kind=answer.error_type,
        )


def _choice(message: _Message, reason: str | None, origin: Origin) -> Choice:
    return Choice(
        parts=tuple(_parts(message, origin)),
        finish_reason=REASONS.get(reason or "", "stop"),
        native_finish_reason=reason,
        extra=_extra(message),
    )


def _extra(message: _Message) -> Mapping[str, Any]:
    extra = {PLAN: message.tool_plan, CITATIONS: message.citations}
    return {name: value for name, value in extra.items() if value} or NOTHING


def _parts(message: _Message, origin: Origin) -> list[Part]:
    parts: list[Part] = []
    for block in message.content or ():
        if block.thinking:
            parts.append(ReasoningPart(text=block.thinking))
        elif block.text is not None:
            parts.append(TextPart(text=block.text))
    for index, call in enumerate(message.tool_calls or ()):
        function = call.function or _Function()
        if not function.name:
            raise Malformed("a tool call without a name")
        parts.append(
            ToolCall(
                id=text_or(call.id, "") or made_up_id(origin, index),
                name=function.name,
                arguments=function.arguments or "",
            )
        )
    return parts
