"""Groq. It has neither embeddings nor pictures, and refuses what it does not know."""

from __future__ import annotations

import re
from typing import Final

from duckservice.errors import ModelNotFound, ProviderError
from duckservice.providers.adapter import Adapter, Speaker
from duckservice.providers.capabilities import Capabilities
from duckservice.providers.chat_or_responses import chat_or_responses
from duckservice.providers.failures import rule
from duckservice.providers.openai_reasoning import as_groq
from duckservice.providers.openai_variant import OpenAIVariant
from duckservice.providers.remote import Dialect

VARIANT: Final = OpenAIVariant(
    capabilities=Capabilities(n_max=1, stop_max=4, top_k=False),
    names=False,
    unknown=frozenset({"logprobs", "top_logprobs", "logit_bias", "store", "metadata"}),
    asking=as_groq,
    thoughts_field="reasoning",
)

MODELS: Final = (
    *(
        "llama-3.*",
        "llama3-*",
        "meta-llama/llama-*-instruct",
        "meta-llama/llama-*guard-*",
    ),
    *("openai/gpt-oss-*", "moonshotai/kimi-k2-instruct*", "qwen/qwen3-32b", "groq/*"),
    *("allam-2-*", "gemma2-*-it", "deepseek-r1-distill-llama-70b"),
)


def _dialect(speaker: Speaker) -> Dialect:
    return chat_or_responses(speaker, VARIANT)


ADAPTER: Final = Adapter(
    dialect=_dialect,
    models=MODELS,
    price_list="groq",
    rules=(
        # The model wrote JSON that its own server refuses; another try may be better.
        rule(ProviderError, 400, words="json_validate_failed", retryable=True),
        rule(ModelNotFound, 400, words="model_decommissioned"),
        rule(ProviderError, 498, retryable=True),  # the flex tier is full
    ),
    key_shape=re.compile(r"gsk_.{20,}"),
)
