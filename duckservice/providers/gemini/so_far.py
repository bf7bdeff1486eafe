"""What the pieces of one Gemini answer have in common, whole or streamed.

A prompt that was blocked comes with status 200 and no candidates; it is
`ContentFiltered`, as it is at other providers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from duckservice.completion import Usage
from duckservice.providers.failures import Classifier
from duckservice.providers.gemini.parts import CandidateReader, WirePart
from duckservice.providers.gemini.usage import usage_in
from duckservice.providers.origin import Origin
from duckservice.providers.reading import Malformed, mapping_or_empty, text_or

CANDIDATES_MAX: Final = 64
"""Of one answer; Google gives 8 at most."""

_ABOUT: Final = {
    "groundingMetadata": "grounding_metadata",
    "citationMetadata": "citation_metadata",
    "urlContextMetadata": "url_context_metadata",
}
"""What is said of a candidate beside its words, and what it is called in ``extra``."""


class WireContent(msgspec.Struct, gc=False):
    """What a candidate says."""

    parts: list[WirePart] | None = None


class WireCandidate(msgspec.Struct, gc=False):
    """One of the replies, or a piece of it."""

    content: WireContent | None = None
    finishReason: str | None = None  # noqa: N815 - the wire's name
    index: int | None = None
    groundingMetadata: Any = None  # noqa: N815
    citationMetadata: Any = None  # noqa: N815
    urlContextMetadata: Any = None  # noqa: N815


class WirePiece(msgspec.Struct, gc=False):
    """A whole answer, or a piece of one."""

    candidates: list[WireCandidate] | None = None
    promptFeedback: Any = None  # noqa: N815
    usageMetadata: Any = None  # noqa: N815
    modelVersion: Any = None  # noqa: N815
    responseId: Any = None  # noqa: N815
    error: Any = None


class AnswerSoFar:
    """Takes an answer's pieces."""

    def __init__(self, errors: Classifier, origin: Origin) -> None:
        self._errors = errors
        self._origin = origin
        self.id = ""
        self.model = ""
        self.usage: Usage | None = None
        self.reasons: dict[int, str | None] = {}
        """Each candidate that was seen, and why it has stopped."""
        self.readers: dict[int, CandidateReader] = {}

    def begin(self, piece: WirePiece) -> None:
        """Take note of what is said beside the candidates; raise an error in band."""
        if piece.error:
            raise self._errors.in_band({"error": piece.error})
        if not self.id:
            self.id = text_or(piece.responseId, "") or self._origin.answer_id
            self.model = text_or(piece.modelVersion, "") or self._origin.model
        feedback = mapping_or_empty(piece.promptFeedback)
        if not (piece.candidates or self.readers):
            _refuse_blocked(feedback, self._errors)
        if not (piece.candidates or feedback or piece.usageMetadata):
            raise Malformed("JSON without candidates")
        self.usage = usage_in(piece.usageMetadata) or self.usage

    def reader(
        self, candidate: WireCandidate, place: int
    ) -> tuple[int, CandidateReader]:
        """Return the candidate's number and who reads its parts."""
        index = place if candidate.index is None else candidate.index
        if index not in self.readers:
            if len(self.readers) >= CANDIDATES_MAX:
                raise Malformed("too many candidates")
            self.readers[index] = CandidateReader(self.id, self._origin, index)
            self.reasons[index] = None
        self.reasons[index] = candidate.finishReason or self.reasons[index]
        return index, self.readers[index]


def _refuse_blocked(feedback: Mapping[str, Any], errors: Classifier) -> None:
    reason = text_or(feedback.get("blockReason"), "")
    said = text_or(feedback.get("blockReasonMessage"), "")
    if reason or said:
        message = f"the prompt was blocked ({reason or 'no reason'}) {said}"
        error = errors.in_band(
            {"error": {"code": 400, "type": "content_filter", "message": message}}
        )
        error.upstream_status = 200
        raise error


def parts_of(candidate: WireCandidate) -> Sequence[WirePart]:
    """Return the parts of a candidate."""
    content = candidate.content
    return () if content is None else content.parts or ()


def about(candidate: WireCandidate) -> dict[str, Any]:
    """Return what is said of a candidate beside its words."""
    return {
        ours: value
        for theirs, ours in _ABOUT.items()
        if (value := getattr(candidate, theirs))
    }
