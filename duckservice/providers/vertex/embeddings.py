"""Embeddings at Vertex AI: ``:embedContent`` for Gemini's, ``:predict`` for all others."""

from __future__ import annotations

from typing import Any, final

import attrs

from duckservice.completion import EmbeddingRequest, Embeddings
from duckservice.errors import InvalidRequest
from duckservice.providers.failures import Classifier
from duckservice.providers.gemini.embeddings import dimensions, read_embeddings, texts
from duckservice.providers.gemini.models import bare_name
from duckservice.providers.translation import to_json
from duckservice.providers.vertex.place import Place


@final
@attrs.frozen(kw_only=True)
class VertexEmbeddings:
    """How Vertex AI is asked for embeddings."""

    provider: str
    place: Place
    errors: Classifier = attrs.field(repr=False)

    def path(self, request: EmbeddingRequest) -> str:
        """Return where requests for embeddings are sent."""
        method = "embedContent" if _is_gemini(request) else "predict"
        return f"/{self.place.path(request.model, self.provider)}:{method}"

    def encode(self, request: EmbeddingRequest) -> bytes:
        """Return the body of a request; `InvalidRequest` for what cannot be asked."""
        given = list(texts(request, self.provider))
        size = dimensions(request)
        body: dict[str, Any]
        if not _is_gemini(request):
            body = {"instances": [{"content": text} for text in given]}
            if size:
                body["parameters"] = size
            return to_json(body, self.provider)
        if len(given) != 1:
            raise InvalidRequest(
                "input: this model embeds one text a request at Vertex AI",
                provider=self.provider,
                param="input",
            )
        body = {"content": {"parts": [{"text": given[0]}]}}
        if size:
            body["embedContentConfig"] = size
        return to_json(body, self.provider)

    def decode(self, body: bytes, inputs: int) -> Embeddings:
        """Return the embeddings of *inputs* texts in an answer's body."""
        return read_embeddings(body, inputs, self.errors)


def _is_gemini(request: EmbeddingRequest) -> bool:
    name = bare_name(request.model)
    return name.startswith("gemini-embedding") and name != "gemini-embedding-001"
