"""Embeddings by ``/invoke``, where each maker has its own format.

    Titan     one text a request; the only one that says how many tokens it had
    Nova      one text a request; ``embedding_purpose`` says what the vector is for
    Cohere    up to 96 texts; ``input_type`` says what the vectors are for

Both must be told, so a request that does not say it is for texts to be found.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias, assert_never, final

import attrs
import msgspec

from duckservice.completion import EmbeddingRequest, Embeddings, Usage
from duckservice.errors import InvalidRequest
from duckservice.providers.answer_stream import what_it_is
from duckservice.providers.bedrock.models import embedder_of
from duckservice.providers.failures import Classifier
from duckservice.providers.model_segment import model_segment
from duckservice.providers.reading import UNREADABLE, Malformed, usage_of
from duckservice.providers.translation import refusal, to_json

Json: TypeAlias = dict[str, Any]
Vector: TypeAlias = tuple[float, ...]

INPUT_TYPE: Final = "search_document"
PURPOSE: Final = "GENERIC_INDEX"


class _Named(msgspec.Struct, gc=False):
    embedding: Vector


class _ByType(msgspec.Struct, rename={"floats": "float"}, gc=False):
    floats: list[Vector]


class _Answer(msgspec.Struct, rename="camel", gc=False):
    embedding: Vector | None = None
    embeddings: list[Vector | _Named] | _ByType | None = None
    input_text_token_count: Any = None


_answer: Final = msgspec.json.Decoder(_Answer)


@final
@attrs.frozen(kw_only=True)
class BedrockEmbeddings:
    """How embeddings are asked for."""

    provider: str
    errors: Classifier = attrs.field(repr=False)

    def path(self, request: EmbeddingRequest) -> str:
        """Return where a request for embeddings is sent."""
        return f"/model/{model_segment(request.model, self.provider)}/invoke"

    def encode(self, request: EmbeddingRequest) -> bytes:
        """Return the body of a request.

        Raises `InvalidRequest`, naming the field, for what the model has no words for.
        """
        if request.user is not None:
            raise self._refusal("user")
        extra = {k: v for k, v in request.extra.items() if v is not None}
        maker = embedder_of(request.model)
        match maker:
            case None:
                raise self._refusal("model", "is not known to make embeddings")
            case "titan":
                body = self._titan(request, extra)
            case "nova":
                body = self._nova(request, extra)
            case "cohere":
                body = self._cohere(request, extra)
            case _:
                assert_never(maker)
        for name in extra:  # all that is known has been taken out
            raise self._refusal(name)
        return to_json(body, self.provider)

    def decode(self, body: bytes, inputs: int) -> Embeddings:
        """Return the embeddings of *inputs* texts in an answer's body.

        Their usage is marked as estimated, and 0, where it does not say.
        """
        try:
            answer = _answer.decode(body)
            vectors = _vectors(answer)
            if len(vectors) != inputs:
                raise Malformed(f"{len(vectors)} embeddings for {inputs} inputs")
            count = answer.input_text_token_count
            used = usage_of(input_tokens=count, output_tokens=0)
        except UNREADABLE as error:
            raise self.errors.bad_response(what_it_is(body, error)) from error
        return Embeddings(
            model="",
            vectors=vectors,
            usage=Usage(estimated=True) if count is None else used,
        )

    def _titan(self, request: EmbeddingRequest, extra: Json) -> Json:
        body: Json = {"inputText": self._only_text(request)}
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        if "normalize" in extra:
            body["normalize"] = extra.pop("normalize")
        return body

    def _nova(self, request: EmbeddingRequest, extra: Json) -> Json:
        text = {"truncationMode": "NONE", "value": self._only_text(request)}
        wanted: Json = {
            "embeddingPurpose": extra.pop("embedding_purpose", PURPOSE),
            "text": text,
        }
        if request.dimensions is not None:
            wanted["embeddingDimension"] = request.dimensions
        return {"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": wanted}

    def _cohere(self, request: EmbeddingRequest, extra: Json) -> Json:
        body: Json = {
            "texts": self._texts(request),
            "input_type": extra.pop("input_type", INPUT_TYPE),
        }
        if "truncate" in extra:
            body["truncate"] = extra.pop("truncate")
        if request.dimensions is not None:
            if "embed-v4" not in request.model:
                raise self._refusal("dimensions")
            body["output_dimension"] = request.dimensions
        return body

    def _only_text(self, request: EmbeddingRequest) -> str:
        texts = self._texts(request)
        if len(texts) != 1:
            raise self._refusal("input", "this model takes one text a request")
        return texts[0]

    def _texts(self, request: EmbeddingRequest) -> list[str]:
        texts = [given for given in request.input if isinstance(given, str)]
        if len(texts) != len(request.input):
            raise self._refusal("input", "Bedrock takes texts, not token ids")
        return texts

    def _refusal(self, field: str, reason: str = "") -> InvalidRequest:
        return refusal(self.provider, "this model's format on Bedrock", field, reason)


def _vectors(answer: _Answer) -> tuple[Vector, ...]:
    match answer:
        case _Answer(embedding=tuple(vector)):
            return (vector,)
        case _Answer(embeddings=_ByType(floats=vectors)):
            return tuple(vectors)
        case _Answer(embeddings=list(several)):
            return tuple(v.embedding if isinstance(v, _Named) else v for v in several)
        case _:
            raise Malformed("JSON without embeddings")
