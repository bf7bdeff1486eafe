"""Embeddings, in the three ways in which Google's doors give them.

Gemini API            :batchEmbedContents  {"embeddings": [{"values"}]}
Vertex, of Gemini     :embedContent        {"embedding": {"values"}}, one text
Vertex, all others    :predict             {"predictions": [{"embeddings": {...}}]}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, final

import attrs
import msgspec

from duckservice.completion import EmbeddingRequest, Embeddings, Usage
from duckservice.errors import InvalidRequest
from duckservice.providers.answer_stream import what_it_is
from duckservice.providers.failures import Classifier
from duckservice.providers.gemini.models import model_path
from duckservice.providers.reading import (
    UNREADABLE,
    Malformed,
    mapping_or_empty,
    token_count,
    usage_of,
)
from duckservice.providers.translation import to_json


@final
@attrs.frozen(kw_only=True)
class GeminiEmbeddings:
    """How the Gemini API is asked for embeddings."""

    provider: str
    errors: Classifier = attrs.field(repr=False)

    def path(self, request: EmbeddingRequest) -> str:
        """Return where requests for embeddings are sent."""
        return f"/{model_path(request.model, self.provider)}:batchEmbedContents"

    def encode(self, request: EmbeddingRequest) -> bytes:
        """Return the body of a request."""
        model = model_path(request.model, self.provider)
        size = dimensions(request)
        requests = [
            {"model": model, "content": {"parts": [{"text": text}]}, **size}
            for text in texts(request, self.provider)
        ]
        return to_json({"requests": requests}, self.provider)

    def decode(self, body: bytes, inputs: int) -> Embeddings:
        """Return the embeddings of *inputs* texts in an answer's body."""
        return read_embeddings(body, inputs, self.errors)


def texts(request: EmbeddingRequest, provider: str) -> Iterator[str]:
    """Yield the inputs; `InvalidRequest`, naming the field, for what cannot be asked."""
    for field, value in request.extra.items():
        if value is not None:
            raise _refusal(provider, field, "cannot be translated to Gemini's format")
    for place, text in enumerate(request.input):
        if not isinstance(text, str):
            raise _refusal(provider, f"input[{place}]", "Gemini takes no token ids")
        yield text


def dimensions(request: EmbeddingRequest) -> Mapping[str, int]:
    """Return how long the vectors are to be, if the client says so."""
    size = request.dimensions
    return {} if size is None else {"outputDimensionality": size}


def _refusal(provider: str, field: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {reason}", provider=provider, param=field)


class _Vector(msgspec.Struct, gc=False):
    values: tuple[float, ...]
    statistics: Any = None


class _Prediction(msgspec.Struct, gc=False):
    embeddings: _Vector


class _Body(msgspec.Struct, gc=False):
    embeddings: list[_Vector] | None = None
    embedding: _Vector | None = None
    predictions: list[_Prediction] | None = None
    usageMetadata: Any = None  # noqa: N815 - the wire's name
    error: Any = None


_body: Final = msgspec.json.Decoder(_Body)


def read_embeddings(body: bytes, inputs: int, errors: Classifier) -> Embeddings:
    """Return the embeddings of *inputs* texts in an answer of any of the three ways.

    Their usage is marked as estimated, and 0, where nothing is said: the Gemini API
    never does.
    """
    try:
        answer = _body.decode(body)
        if answer.error:
            raise errors.in_band({"error": answer.error})
        vectors = list(_vectors(answer))
        if len(vectors) != inputs:
            raise Malformed(f"{len(vectors)} embeddings for {inputs} inputs")
        return Embeddings(
            model="",
            vectors=tuple(vector.values for vector in vectors),
            usage=_usage(answer, vectors),
        )
    except UNREADABLE as error:
        raise errors.bad_response(what_it_is(body, error)) from error


def _vectors(answer: _Body) -> Iterator[_Vector]:
    yield from answer.embeddings or ()
    if answer.embedding is not None:
        yield answer.embedding
    for prediction in answer.predictions or ():
        yield prediction.embeddings


def _usage(answer: _Body, vectors: list[_Vector]) -> Usage:
    said = mapping_or_empty(answer.usageMetadata)
    tokens = token_count(said.get("promptTokenCount")) or sum(
        token_count(mapping_or_empty(vector.statistics).get("token_count"))
        for vector in vectors
    )
    if not tokens:
        return Usage(estimated=True)
    return usage_of(input_tokens=tokens, output_tokens=0)
