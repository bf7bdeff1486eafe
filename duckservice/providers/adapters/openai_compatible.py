"""Any server that speaks OpenAI's format: llama.cpp, vLLM, LM Studio, a custom API."""

from __future__ import annotations

from typing import Final

from duckservice.providers import anthropic, openai
from duckservice.providers.adapter import Adapter, Speaker
from duckservice.providers.openai import OpenAIDialect
from duckservice.providers.remote import Dialect

FOREIGN_MODELS: Final = (*openai.MODELS, *anthropic.MODELS)
"""What ``*`` does not mean: a request for one of these is meant for its maker, and
would only get a 404 from a local server. A server that has them lists them."""


def _dialect(speaker: Speaker) -> Dialect:
    return OpenAIDialect(provider=speaker.provider, errors=speaker.errors, lenient=True)


ADAPTER: Final = Adapter(dialect=_dialect, foreign_models=FOREIGN_MODELS)
