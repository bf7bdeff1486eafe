"""How the tokens of a prompt are counted at Vertex AI, Gemini's and Claude's."""

from __future__ import annotations

from typing import final

import attrs

from duckservice.completion import ChatRequest
from duckservice.providers import anthropic_request
from duckservice.providers.failures import Classifier
from duckservice.providers.gemini.counting import read_count
from duckservice.providers.gemini.request import body_of
from duckservice.providers.translation import to_json
from duckservice.providers.vertex import claude
from duckservice.providers.vertex.place import ANTHROPIC_VERSION, Place, is_claude


@final
@attrs.frozen(kw_only=True)
class VertexCounting:
    """How tokens are counted."""

    provider: str
    place: Place
    errors: Classifier = attrs.field(repr=False)

    def path(self, request: ChatRequest) -> str:
        """Return where requests to count are sent."""
        if is_claude(request.model):
            return f"/{ANTHROPIC_VERSION}/{self.place.folder}{claude.COUNTER}"
        return f"/{self.place.path(request.model, self.provider)}:countTokens"

    def encode(self, request: ChatRequest) -> bytes:
        """Return the body of a request."""
        if is_claude(request.model):
            body = anthropic_request.encode_for_count(request, provider=self.provider)
            return claude.rewrapped(body, with_model=True)
        whole = body_of(request)
        counted = {key: whole[key] for key in _COUNTED if key in whole}
        return to_json(counted, self.provider)

    def decode(self, body: bytes) -> int:
        """Return the number of tokens in an answer's body."""
        return read_count(body, self.errors)


_COUNTED = ("contents", "systemInstruction", "tools", "generationConfig")
"""What Vertex's ``countTokens`` takes."""
