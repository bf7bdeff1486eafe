"""Embeddings from Cohere, version 2 of its API.

An embedding is made for a purpose. OpenAI's format has no word for it, so that a
client may add ``input_type``; without it the texts are documents to be searched.
Cohere does not know ``user``, and no vector depends on it: it is left out.
"""

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
from duckservice.providers.translation import refusal, to_json

INPUT_TYPE: Final = "search_document"

EXTRAS: Final = frozenset({"input_type", "max_tokens", "priority", "truncate"})
"""Cohere's own fields, which go on as the client wrote them."""

INPUTS_MAX: Final = 96
"""Cohere's own limit of texts in one request."""

_KINDS: Final = ("float", "int8", "uint8")
"""The kinds of vectors that are lists of numbers; the first is asked for."""


@final
@attrs.frozen(kw_only=True)
class CohereEmbeddings:
    """How embeddings are asked for."""

    provider: str
    errors: Classifier = attrs.field(repr=False)

    def path(self, request: EmbeddingRequest) -> str:  # noqa: ARG002 - the protocol's
        """Return where requests for embeddings are sent."""
        return "/v2/embed"

    def encode(self, request: EmbeddingRequest) -> bytes:
        """Return the body of a request; the vectors come as numbers.

        Raises `InvalidRequest`, naming the field, for token ids, pictures and
        more texts than Cohere takes.
        """
        for field, reason in _untranslatable(request):
            raise refusal(self.provider, "Cohere's format", field, reason)
        given = {k: v for k, v in request.extra.items() if v is not None}
        body: dict[str, Any] = {
            "model": request.model,
            "texts": request.input,
            "input_type": INPUT_TYPE,
            **given,
            "embedding_types": [_KINDS[0]],
        }
        if request.dimensions is not None:
            body["output_dimension"] = request.dimensions
        return to_json(body, self.provider)

    def decode(self, body: bytes, inputs: int) -> Embeddings:
        """Return the embeddings of *inputs* texts in an answer's body."""
        try:
            answer = _body.decode(body)
            if answer.message is not None:
                said = text_or(answer.message, "")
                raise self.errors.in_band({"message": said})
            vectors = msgspec.convert(
                _vectors(answer.embeddings), tuple[tuple[float, ...], ...]
            )
            if len(vectors) != inputs:
                raise Malformed(f"{len(vectors)} embeddings for {inputs} inputs")
            return Embeddings(model="", vectors=vectors, usage=_usage(answer.meta))
        except UNREADABLE as error:
            raise self.errors.bad_response(what_it_is(body, error)) from error


class _Body(msgspec.Struct, gc=False):
    embeddings: Any = None
    meta: Any = None
    message: Any = None


_body: Final = msgspec.json.Decoder(_Body)


def _untranslatable(request: EmbeddingRequest) -> list[tuple[str, str]]:
    found = [
        (name, "")
        for name, value in request.extra.items()
        if name not in EXTRAS and value is not None
    ]
    if request.extra.get("input_type") == "image":
        found.append(("input_type", "the input of this API is text"))
    if len(request.input) > INPUTS_MAX:
        found.append(("input", f"Cohere takes at most {INPUTS_MAX} texts"))
    for i, given in enumerate(request.input):
        if not isinstance(given, str):
            found.append((f"input[{i}]", "Cohere takes texts, not token ids"))
    return found


def _vectors(embeddings: object) -> Any:
    """Return the vectors, whichever way they are written.

    Raises `Malformed` where there are none of numbers.
    """
    if isinstance(embeddings, list):  # version 1, without a type asked for
        return embeddings  # pyright: ignore[reportUnknownVariableType]  # any JSON
    by_kind = mapping_or_empty(embeddings)
    for kind in _KINDS:
        if by_kind.get(kind) is not None:
            return by_kind[kind]
    raise Malformed("JSON without embeddings that are numbers")


def _usage(meta: object) -> Usage:
    fields = mapping_or_empty(meta)
    tokens = mapping_or_empty(fields.get("billed_units"))
    if "input_tokens" not in tokens:
        return Usage(estimated=True)
    return usage_of(input_tokens=tokens["input_tokens"], output_tokens=0)
