"""Any server that speaks OpenAI's format: llama.cpp, vLLM, LM Studio, a custom API."""

from __future__ import annotations

from typing import Final

from duckservice.providers import anthropic, openai, openai_images
from duckservice.providers.adapter import Adapter, Speaker
from duckservice.providers.chat_or_responses import chat_or_responses
from duckservice.providers.openai_variant import COMPATIBLE
from duckservice.providers.remote import Dialect

FOREIGN_MODELS: Final = (
    *openai.MODELS,
    *anthropic.MODELS,
    "gpt-35-*",
    "gemini-*",
    "grok-*",
    "deepseek-chat",
    "deepseek-reasoner",
)
"""What ``*`` does not mean: a request for one of these is meant for its maker, and
would only get a 404 from a local server. A server that has them lists them."""


def _dialect(speaker: Speaker) -> Dialect:
    return chat_or_responses(speaker, COMPATIBLE, pictures=openai_images.COMPATIBLE)


ADAPTER: Final = Adapter(dialect=_dialect, foreign_models=FOREIGN_MODELS)
