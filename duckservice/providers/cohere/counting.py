"""The tokens of a prompt, counted by Cohere's tokenizer endpoint.

It takes one text. What is counted is the texts of the messages and the tools, which
is about what Cohere bills; the prompt of its own around them is not in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, assert_never, final

import attrs
import msgspec

from duckservice.completion import (
    ChatRequest,
    ImagePart,
    OpaquePart,
    Part,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCall,
    ToolResult,
)
from duckservice.providers.answer_stream import what_it_is
from duckservice.providers.failures import Classifier
from duckservice.providers.reading import UNREADABLE, Malformed, text_or
from duckservice.providers.translation import part_path, refusal, to_json

CHARACTERS_MAX: Final = 65_536
"""Of a text that Cohere counts."""


@final
@attrs.frozen(kw_only=True)
class CohereCounting:
    """How the tokens of a prompt are counted."""

    provider: str
    errors: Classifier = attrs.field(repr=False)

    def path(self, request: ChatRequest) -> str:  # noqa: ARG002 - the protocol's
        """Return where requests to count are sent."""
        return "/v1/tokenize"

    def encode(self, request: ChatRequest) -> bytes:
        """Return the body of a request.

        Raises `InvalidRequest` for pictures and for more text than is counted.
        """
        text = "\n".join(_texts(request, self.provider))
        if not 0 < len(text) <= CHARACTERS_MAX:
            reason = f"Cohere counts texts of 1 to {CHARACTERS_MAX} characters"
            raise refusal(self.provider, "Cohere's format", "messages", reason)
        return to_json({"model": request.model, "text": text}, self.provider)

    def decode(self, body: bytes) -> int:
        """Return the number of tokens in an answer's body."""
        try:
            answer = _body.decode(body)
            if answer.tokens is None:
                if said := text_or(answer.message, ""):
                    raise self.errors.in_band({"message": said})
                raise Malformed("JSON without tokens")
            return len(answer.tokens)
        except UNREADABLE as error:
            raise self.errors.bad_response(what_it_is(body, error)) from error


class _Body(msgspec.Struct, gc=False):
    tokens: list[int] | None = None
    message: Any = None


_body: Final = msgspec.json.Decoder(_Body)


def _texts(request: ChatRequest, provider: str) -> Iterator[str]:
    for tool in request.tools:
        function = (tool.name, tool.description or "", dict(tool.parameters or {}))
        yield to_json({"function": function}, provider).decode()
    for i, message in enumerate(request.messages):
        for j, part in enumerate(message.parts):
            yield from _text(part, part_path(request, i, j), provider)


def _text(part: Part, path: str, provider: str) -> Iterator[str]:
    match part:
        case TextPart(text=text) | ReasoningPart(text=text) | RefusalPart(text=text):
            yield text
        case ToolCall(name=name, arguments=arguments):
            yield f"{name} {arguments}"
        case ToolResult(content=content):
            for inner in content:
                yield from _text(inner, path, provider)
        case ImagePart() | OpaquePart():
            raise refusal(
                provider, "Cohere's format", path, "Cohere counts the tokens of texts"
            )
        case _:
            assert_never(part)
