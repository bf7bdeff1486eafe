"""Mistral. It refuses fields that it does not know, and may think in its content."""

from __future__ import annotations

import re
from typing import Final

from duckservice.providers.adapter import Adapter, Speaker
from duckservice.providers.capabilities import Capabilities
from duckservice.providers.chat_or_responses import chat_or_responses
from duckservice.providers.openai_reasoning import as_mistral
from duckservice.providers.openai_variant import OpenAIVariant
from duckservice.providers.remote import Dialect

VARIANT: Final = OpenAIVariant(
    capabilities=Capabilities(embeddings=True, temperature_max=1.5, top_k=False),
    required="any",
    seed="random_seed",
    names=False,
    unknown=frozenset({"logit_bias", "store", "modalities", "audio", "verbosity"}),
    unsent=frozenset({"user"}),
    asking=as_mistral,
    thoughts="parts",
    stream_options=False,  # the usage comes with the last words in any case
    dimensions="output_dimension",
)

MODELS: Final = (
    *("mistral-*", "ministral-*", "magistral-*", "codestral-*", "devstral-*"),
    *("pixtral-*", "voxtral-*", "open-mistral-*", "open-mixtral-*"),
)


def _dialect(speaker: Speaker) -> Dialect:
    return chat_or_responses(speaker, VARIANT)


ADAPTER: Final = Adapter(
    dialect=_dialect,
    models=MODELS,
    foreign_models=("*:*",),  # Ollama's tags
    price_list="mistral",
    key_shape=re.compile(r"[A-Za-z0-9]{32}"),
)
