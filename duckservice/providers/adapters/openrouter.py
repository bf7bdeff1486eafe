"""OpenRouter: models of many makers, as ``maker/model`` in lower case."""

from __future__ import annotations

import re
from typing import Final

from duckservice.errors import ModelNotFound
from duckservice.providers.adapter import Adapter, Speaker
from duckservice.providers.capabilities import Capabilities
from duckservice.providers.chat_or_responses import chat_or_responses
from duckservice.providers.failures import rule
from duckservice.providers.openai import Paths
from duckservice.providers.openai_reasoning import as_openrouter
from duckservice.providers.openai_variant import (
    DETAILS,
    OpenAIVariant,
    billed_in_usd,
    limit_by_model,
)
from duckservice.providers.remote import Dialect

VARIANT: Final = OpenAIVariant(
    capabilities=Capabilities(
        embeddings=True, cache_control=True, hidden_prompt_tokens=1280
    ),
    limit=limit_by_model,
    developer=True,
    asking=as_openrouter,
    thoughts="details",
    carries=frozenset({DETAILS}),
    billed=billed_in_usd,
)


def _dialect(speaker: Speaker) -> Dialect:
    # Its list of models is for everybody, and says nothing about the key.
    return chat_or_responses(speaker, VARIANT, paths=Paths(health="/key"))


ADAPTER: Final = Adapter(
    dialect=_dialect,
    models=("*/*",),
    # Those with capitals are called so at Hugging Face and Together; the rest at Groq.
    foreign_models=("*[A-Z]*", "meta-llama/llama-4-*-instruct", "groq/*"),
    price_list="openrouter",
    rules=(rule(ModelNotFound, 404, says=r"no endpoints found"),),
    key_shape=re.compile(r"sk-or-.{20,}"),
)
