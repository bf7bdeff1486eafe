"""Gemini's streamed answers, read into chunks.

A stream has no terminal marker: it is complete when its bytes end and every candidate
has said why it stopped. Until then a reason may change, for some servers write one
with every event. What it has used is reported with every event, so that a stream that
breaks off can be billed; the last report counts.

A picture comes whole, as a `TextDelta` without text that has it under ``images`` of
its ``extra``.
"""

from __future__ import annotations

from typing import Any, Final, final

import msgspec

from duckservice.completion import (
    Chunk,
    Finished,
    ImagePart,
    Part,
    ReasoningDelta,
    ReasoningPart,
    Started,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallDelta,
    Usage,
    UsageReport,
)
from duckservice.providers.failures import Classifier
from duckservice.providers.gemini.finish import reason_of
from duckservice.providers.gemini.so_far import (
    AnswerSoFar,
    WirePiece,
    about,
    parts_of,
)
from duckservice.providers.origin import NAMELESS, Origin

_piece: Final = msgspec.json.Decoder(WirePiece)


@final
class GenerateEvents:
    """What the events of one streamed answer mean: an `EventDecoder`."""

    __slots__ = (
        "_answer",
        "_calls",
        "_started",
        "_usage",
        "complete",
        "reply_characters",
    )

    def __init__(self, errors: Classifier, origin: Origin = NAMELESS) -> None:
        self._answer = AnswerSoFar(errors, origin)
        self._calls: dict[int, int] = {}
        """How many calls each candidate has made."""
        self._started = False
        self._usage: Usage | None = None
        self.complete = False
        self.reply_characters = 0

    @property
    def usage_seen(self) -> bool:
        """Whether the server has said what the answer has used."""
        return self._answer.usage is not None

    def take(self, data: bytes, chunks: list[Chunk]) -> None:
        """Append what an event means to *chunks*."""
        answer = self._answer
        piece = _piece.decode(data)
        answer.begin(piece)
        if not self._started:
            self._started = True
            chunks.append(Started(id=answer.id, model=answer.model))
        for place, candidate in enumerate(piece.candidates or ()):
            index, reader = answer.reader(candidate, place)
            for part in reader.read(parts_of(candidate)):
                self._part(part, index, chunks)
            if said := about(candidate):
                chunks.append(TextDelta(text="", choice=index, extra=said))
        if answer.usage is not None and answer.usage != self._usage:
            self._usage = answer.usage
            chunks.append(UsageReport(usage=answer.usage))

    def end_of_bytes(self, chunks: list[Chunk]) -> bool:
        """Say whether the answer is complete; nothing but the end of its bytes says so."""
        answer = self._answer
        if not answer.reasons or None in answer.reasons.values():
            return False
        for index, native in sorted(answer.reasons.items()):
            reason = reason_of(native, calls=bool(self._calls.get(index)))
            chunks.append(Finished(reason=reason, native_reason=native, choice=index))
        if self._usage is not None:
            chunks.append(UsageReport(usage=self._usage))
        self.complete = True
        return True

    def _part(self, part: Part, choice: int, chunks: list[Chunk]) -> None:
        match part:
            case TextPart(text=text, extra=extra):
                self.reply_characters += len(text)
                if text or extra:
                    chunks.append(TextDelta(text=text, choice=choice, extra=extra))
            case ReasoningPart(text=text, signature=signature):
                self.reply_characters += len(text)
                chunks.append(
                    ReasoningDelta(text=text, signature=signature, choice=choice)
                )
            case ToolCall():
                chunks.append(self._call(part, choice))
            case ImagePart():
                extra = {"images": [_image(part)]}
                chunks.append(TextDelta(text="", choice=choice, extra=extra))
            case _:
                raise AssertionError("no part of an answer")

    def _call(self, call: ToolCall, choice: int) -> ToolCallDelta:
        index = self._calls.get(choice, 0)
        self._calls[choice] = index + 1
        self.reply_characters += len(call.name) + len(call.arguments)
        return ToolCallDelta(
            index=index,
            id=call.id,
            name=call.name,
            arguments=call.arguments,
            choice=choice,
            extra=call.extra,
        )


def _image(image: ImagePart) -> dict[str, Any]:
    url = f"data:{image.media_type};base64,{image.data}"
    return {"type": "image_url", "image_url": {"url": url}, **image.extra}
