"""Embeddings in OpenAI's format."""

from __future__ import annotations

from typing import Any, Final, final

import attrs
import msgspec

from duckservice.completion import EmbeddingRequest, Embeddings, Usage
from duckservice.providers.answer_stream import what_it_is
from duckservice.providers.failures import Classifier
from duckservice.providers.reading import (
    UNREADABLE,
    Malformed,
    mapping_or_empty,
    text_or,
    usage_of,
)
from duckservice.providers.translation import to_json


@final
@attrs.frozen(kw_only=True)
class OpenAIEmbeddings:
    """How embeddings are asked for."""

    provider: str
    errors: Classifier = attrs.field(repr=False)

    def path(self, request: EmbeddingRequest) -> str:  # noqa: ARG002 - the protocol's
        """Return where requests for embeddings are sent."""
        return "/embeddings"

    def encode(self, request: EmbeddingRequest) -> bytes:
        """Return the body of a request; the vectors come as numbers."""
        body: dict[str, Any] = {"model": request.model, "input": request.input}
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        if request.user is not None:
            body["user"] = request.user
        body |= request.extra
        body["encoding_format"] = "float"
        return to_json(body, self.provider)

    def decode(self, body: bytes, inputs: int) -> Embeddings:
        """Return the embeddings of *inputs* texts in an answer's body.

        Their usage is marked as estimated, and 0, where the server does not say.
        """
        try:
            answer = _body.decode(body)
            if answer.error:
                raise self.errors.in_band({"error": answer.error})
            return _read(answer, inputs)
        except UNREADABLE as error:
            raise self.errors.bad_response(what_it_is(body, error)) from error


class _Vector(msgspec.Struct, gc=False):
    embedding: tuple[float, ...]
    index: int | None = None


class _Body(msgspec.Struct, gc=False):
    model: Any = None
    data: list[_Vector] | None = None
    usage: Any = None
    error: Any = None


_body: Final = msgspec.json.Decoder(_Body)


def _read(answer: _Body, inputs: int) -> Embeddings:
    data = answer.data or []
    vectors = {
        place if vector.index is None else vector.index: vector.embedding
        for place, vector in enumerate(data)
    }
    if len(data) != inputs or vectors.keys() != set(range(inputs)):
        raise Malformed(f"{len(data)} embeddings for {inputs} inputs")
    usage = mapping_or_empty(answer.usage)
    return Embeddings(
        model=text_or(answer.model, ""),
        vectors=tuple(vectors[place] for place in range(inputs)),
        usage=usage_of(input_tokens=usage.get("prompt_tokens"), output_tokens=0)
        if usage
        else Usage(estimated=True),
    )
