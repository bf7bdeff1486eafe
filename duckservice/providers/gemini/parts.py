"""The parts of one candidate, read into ours.

A function call needs an id to be answered by; where Google gives none, one is made
of the answer's. What a model has signed comes twice: beside the call, for clients of
OpenAI's format, and as the signature of a thought in front of it, for Anthropic's.
Steps of Google's own tools (code that it ran, pages that it read) are left out: the
text says what came of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from duckservice.completion import (
    ImagePart,
    Part,
    ReasoningPart,
    TextPart,
    ToolCall,
)
from duckservice.providers.gemini.partial_arguments import PartialArguments
from duckservice.providers.gemini.signatures import signed
from duckservice.providers.origin import Origin
from duckservice.providers.reading import Malformed, mapping_or_empty, text_or

CALLS_MAX: Final = 1024
"""Of one candidate."""

_ID_PIECE: Final = re.compile(r"[A-Za-z0-9_-]{1,28}")
"""Others allow only such characters in an id, and 40 of them."""

_encode: Final = msgspec.json.Encoder().encode


class WireCall(msgspec.Struct, gc=False):
    """A function call."""

    id: Any = None
    name: str | None = None
    args: dict[str, Any] | None = None
    partialArgs: Any = None  # noqa: N815 - the wire's name
    willContinue: Any = None  # noqa: N815


class WirePart(msgspec.Struct, gc=False):
    """A part of a candidate's content."""

    text: str | None = None
    thought: Any = None
    thoughtSignature: str | None = None  # noqa: N815
    functionCall: WireCall | None = None  # noqa: N815
    inlineData: Any = None  # noqa: N815


class CandidateReader:
    """Reads the parts of one candidate, in the order in which they come."""

    def __init__(self, answer_id: str, origin: Origin, index: int) -> None:
        self._answer = (
            answer_id if _ID_PIECE.fullmatch(answer_id) else origin.answer_id[-24:]
        )
        self._index = index
        self._calls = 0
        self._growing: tuple[WirePart, PartialArguments] | None = None
        """A call of which not all arguments have come."""

    def read(self, parts: Iterable[WirePart]) -> Iterator[Part]:
        """Yield what *parts* are."""
        for part in parts:
            if part.functionCall is not None:
                yield from self._call(part, part.functionCall)
            elif part.text is not None:
                yield from _text(part, part.text)
            elif part.inlineData is not None:
                yield from _picture(part, mapping_or_empty(part.inlineData))
            elif part.thoughtSignature:
                yield TextPart(text="", extra=signed(part.thoughtSignature))

    def _call(self, part: WirePart, call: WireCall) -> Iterator[Part]:
        if self._growing is None and call.willContinue is not True:
            yield from self._made(part, call.args or {})
            return
        begun, arguments = self._growing or (part, PartialArguments())
        arguments.add(call.partialArgs)
        if call.willContinue is True:
            self._growing = begun, arguments
            return
        self._growing = None
        yield from self._made(begun, arguments.values)

    def _made(self, part: WirePart, arguments: dict[str, Any]) -> Iterator[Part]:
        call = part.functionCall
        assert call is not None
        if not call.name:
            raise Malformed("a function call without a name")
        if self._calls >= CALLS_MAX:
            raise Malformed("too many function calls")
        if part.thoughtSignature:
            yield ReasoningPart(signature=part.thoughtSignature)
        made_up = f"call_{self._answer}_{self._index}_{self._calls}"
        self._calls += 1
        yield ToolCall(
            id=text_or(call.id, "") or made_up,
            name=call.name,
            arguments=_encode(arguments).decode(),
            extra=signed(part.thoughtSignature),
        )


def _text(part: WirePart, text: str) -> Iterator[Part]:
    if part.thought is True:
        if text or part.thoughtSignature:
            yield ReasoningPart(text=text, signature=part.thoughtSignature or None)
    elif text or part.thoughtSignature:
        yield TextPart(text=text, extra=signed(part.thoughtSignature))


def _picture(part: WirePart, blob: dict[str, Any]) -> Iterator[Part]:
    media_type = text_or(blob.get("mimeType"), "")
    data = text_or(blob.get("data"), "")
    if data and media_type.startswith("image/"):
        extra = signed(part.thoughtSignature)
        yield ImagePart(data=data, media_type=media_type, extra=extra)
