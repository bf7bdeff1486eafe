"""Embeddings from Ollama.

Ollama does not know ``user``, and no vector depends on it: it is left out.
"""

from __future__ import annotations

from typing import Any, Final, final

import attrs
import msgspec

from duckservice.completion import EmbeddingRequest, Embeddings, Usage
from duckservice.providers.answer_stream import what_it_is
from duckservice.providers.failures import Classifier
from duckservice.providers.reading import UNREADABLE, Malformed, text_or, usage_of
from duckservice.providers.translation import refusal, to_json

EXTRAS: Final = frozenset({"keep_alive", "options", "truncate"})
"""Ollama's own fields, which go on as the client wrote them."""


@final
@attrs.frozen(kw_only=True)
class OllamaEmbeddings:
    """How embeddings are asked for."""

    provider: str
    errors: Classifier = attrs.field(repr=False)

    def path(self, request: EmbeddingRequest) -> str:  # noqa: ARG002 - the protocol's
        """Return where requests for embeddings are sent."""
        return "/api/embed"

    def encode(self, request: EmbeddingRequest) -> bytes:
        """Return the body of a request.

        Raises `InvalidRequest`, naming the field, for token ids and for what only
        OpenAI's format knows.
        """
        body: dict[str, Any] = {"model": request.model, "input": request.input}
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        for name, value in request.extra.items():
            if value is None:
                continue
            if name not in EXTRAS:
                raise refusal(self.provider, "Ollama's format", name)
            body[name] = value
        for i, given in enumerate(request.input):
            if not isinstance(given, str):
                reason = "Ollama takes texts, not token ids"
                raise refusal(self.provider, "Ollama's format", f"input[{i}]", reason)
        return to_json(body, self.provider)

    def decode(self, body: bytes, inputs: int) -> Embeddings:
        """Return the embeddings of *inputs* texts in an answer's body."""
        try:
            answer = _body.decode(body)
            if answer.error:
                raise self.errors.in_band({"error": answer.error})
            vectors = answer.embeddings or ()
            if len(vectors) != inputs:
                raise Malformed(f"{len(vectors)} embeddings for {inputs} inputs")
            return Embeddings(
                model=text_or(answer.model, ""),
                vectors=vectors,
                usage=Usage(estimated=True)
                if answer.prompt_eval_count is None
                else usage_of(input_tokens=answer.prompt_eval_count, output_tokens=0),
            )
        except UNREADABLE as error:
            raise self.errors.bad_response(what_it_is(body, error)) from error


class _Body(msgspec.Struct, gc=False):
    model: Any = None
    embeddings: tuple[tuple[float, ...], ...] | None = None
    prompt_eval_count: Any = None
    error: Any = None


_body: Final = msgspec.json.Decoder(_Body)
