"""One small file for each format; a request's path says which one it is in."""

from __future__ import annotations

from typing import Final

from duckservice.chaos.wire import Wire
from duckservice.chaos.wires import (
    anthropic,
    bedrock,
    cohere,
    gemini,
    ollama,
    openai,
    responses,
)

_BY_ENDING: Final = (
    ("/chat/completions", openai.WIRE),
    ("/responses", responses.WIRE),
    ("/messages", anthropic.WIRE),
    (":rawPredict", anthropic.WIRE),
    (":streamRawPredict", anthropic.WIRE),
    (":generateContent", gemini.WIRE),
    (":streamGenerateContent", gemini.WIRE),
    ("/v2/chat", cohere.WIRE),
    ("/api/chat", ollama.WIRE),
    ("/converse", bedrock.WIRE),
    ("/converse-stream", bedrock.WIRE),
)


def wire_of(target: str) -> Wire | None:
    """Return the format of a chat that is sent to *target*; None: it is no chat."""
    path = target.partition("?")[0]
    for ending, wire in _BY_ENDING:
        if path.endswith(ending):
            return wire
    return None
