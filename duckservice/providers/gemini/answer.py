"""Gemini's whole answers, read into completions."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from duckservice.completion import (
    NOTHING,
    Choice,
    Completion,
    Part,
    TextPart,
    ToolCall,
    Usage,
)
from duckservice.providers.answer_stream import what_it_is
from duckservice.providers.failures import Classifier
from duckservice.providers.gemini.finish import reason_of
from duckservice.providers.gemini.so_far import (
    AnswerSoFar,
    WirePiece,
    about,
    parts_of,
)
from duckservice.providers.origin import NAMELESS, Origin
from duckservice.providers.reading import UNREADABLE, Malformed

_piece: Final = msgspec.json.Decoder(WirePiece)
_pieces: Final = msgspec.json.Decoder(list[WirePiece])


def decode(body: bytes, errors: Classifier, origin: Origin = NAMELESS) -> Completion:
    """Return the completion that *body* is: an answer, or an array of its pieces.

    Raises `BadProviderResponse` for what is none, and the fitting error for one that
    came with status 200.
    """
    try:
        if body.lstrip()[:1] == b"[":
            pieces = _pieces.decode(body)
        else:
            pieces = [_piece.decode(body)]
        whole = _Whole(errors, origin)
        for piece in pieces:
            whole.take(piece)
        return whole.completion()
    except UNREADABLE as error:
        raise errors.bad_response(what_it_is(body, error)) from error


class _Whole(AnswerSoFar):
    """An answer that has come whole."""

    def __init__(self, errors: Classifier, origin: Origin) -> None:
        super().__init__(errors, origin)
        self._parts: dict[int, list[Part]] = {}
        self._extras: dict[int, dict[str, Any]] = {}

    def take(self, piece: WirePiece) -> None:
        """Add a piece, which is nearly always the only one."""
        self.begin(piece)
        for place, candidate in enumerate(piece.candidates or ()):
            index, reader = self.reader(candidate, place)
            parts = self._parts.setdefault(index, [])
            extra = self._extras.setdefault(index, about(candidate))
            for part in reader.read(parts_of(candidate)):
                if isinstance(part, TextPart) and part.extra:
                    # One signature of the last text; a text's own would go astray.
                    extra |= part.extra
                    part = TextPart(text=part.text)  # noqa: PLW2901
                if isinstance(part, TextPart) and not part.text:
                    continue
                parts.append(part)
            if not parts and self.reasons[index] is None:
                raise Malformed("a candidate with neither content nor finishReason")

    def completion(self) -> Completion:
        """Return the whole answer."""
        if not self._parts:
            raise Malformed("JSON without candidates")
        choices = tuple(
            self._choice(index, parts) for index, parts in sorted(self._parts.items())
        )
        return Completion(
            id=self.id,
            model=self.model,
            choices=choices,
            usage=self.usage or Usage(estimated=True),
        )

    def _choice(self, index: int, parts: list[Part]) -> Choice:
        native = self.reasons[index]
        calls = any(isinstance(part, ToolCall) for part in parts)
        return Choice(
            index=index,
            parts=tuple(parts),
            finish_reason=reason_of(native, calls=calls),
            native_finish_reason=native,
            extra=self._extras[index] or NOTHING,
        )
