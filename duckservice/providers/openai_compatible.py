"""Servers that speak OpenAI's format: Ollama's ``/v1``, llama.cpp, vLLM and others.

They share `OpenAIDialect`, in its lenient form; this is where they differ.
"""

from __future__ import annotations

from typing import Final

from duckservice.providers import anthropic, openai
from duckservice.providers.failures import Classifier
from duckservice.providers.openai import OpenAIDialect

BASE_URL: Final = "http://127.0.0.1:11434/v1"
"""Where Ollama listens."""

MODELS: Final = ("*",)

FOREIGN_MODELS: Final = (*openai.MODELS, *anthropic.MODELS)
"""What ``*`` does not mean: a request for one of these is meant for its maker, and
would only get a 404 from a local server. A server that has them lists them."""


def compatible_dialect(provider: str, errors: Classifier) -> OpenAIDialect:
    """Return the dialect of a server that speaks OpenAI's format."""
    return OpenAIDialect(provider=provider, errors=errors, lenient=True)
