"""Embeddings in OpenAI's format."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Callable
from typing import Any, Final, final

import attrs
import msgspec

from duckservice.completion import EmbeddingRequest, Embeddings, Usage
from duckservice.providers.answer_stream import what_it_is
from duckservice.providers.failures import Classifier
from duckservice.providers.openai_variant import OPENAI, OpenAIVariant
from duckservice.providers.reading import (
    UNREADABLE,
    Malformed,
    mapping_or_empty,
    text_or,
    usage_of,
)
from duckservice.providers.translation import to_json

PATH: Final = "/embeddings"


def _same_path(_: EmbeddingRequest) -> str:
    return PATH


@final
@attrs.frozen(kw_only=True)
class OpenAIEmbeddings:
    """How embeddings are asked for; *path_of* where that depends on the model."""

    provider: str
    errors: Classifier = attrs.field(repr=False)
    variant: OpenAIVariant = OPENAI
    path_of: Callable[[EmbeddingRequest], str] = attrs.field(
        default=_same_path, repr=False
    )

    def path(self, request: EmbeddingRequest) -> str:
        """Return where requests for embeddings are sent."""
        return self.path_of(request)

    def encode(self, request: EmbeddingRequest) -> bytes:
        """Return the body of a request; the vectors come as numbers."""
        body: dict[str, Any] = {"model": request.model, "input": request.input}
        if request.dimensions is not None:
            body[self.variant.dimensions] = request.dimensions
        if request.user is not None and "user" not in self.variant.unsent:
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
            return _read(answer, inputs, signed_bytes=self.variant.signed_bytes)
        except UNREADABLE as error:
            raise self.errors.bad_response(what_it_is(body, error)) from error


class _Vector(msgspec.Struct, gc=False):
    embedding: tuple[float, ...] | str
    index: int | None = None


class _Body(msgspec.Struct, gc=False):
    model: Any = None
    data: list[_Vector] | None = None
    usage: Any = None
    error: Any = None


_body: Final = msgspec.json.Decoder(_Body)


def _read(answer: _Body, inputs: int, *, signed_bytes: bool) -> Embeddings:
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
        vectors=tuple(
            _numbers(vectors[place], signed_bytes=signed_bytes)
            for place in range(inputs)
        ),
        usage=usage_of(input_tokens=usage.get("prompt_tokens"), output_tokens=0)
        if usage
        else Usage(estimated=True),
    )


LARGEST: Final = 1e6
"""Of a vector's numbers. Bytes that are no floats, read as floats, have larger ones."""


def _numbers(
    vector: tuple[float, ...] | str, *, signed_bytes: bool
) -> tuple[float, ...]:
    """Return a vector's numbers; some servers send base64 whatever they are asked for."""
    if not isinstance(vector, str):
        return vector
    try:
        raw = base64.b64decode(vector, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed("a vector that is neither numbers nor base64") from error
    floats = struct.unpack(f"<{len(raw) // 4}f", raw) if len(raw) % 4 == 0 else ()
    if floats and all(abs(number) < LARGEST for number in floats):  # and no NaN
        return floats
    if not raw or not signed_bytes:
        raise Malformed("a vector in base64 that is not of 32-bit floats")
    return tuple(map(float, struct.unpack(f"{len(raw)}b", raw)))
