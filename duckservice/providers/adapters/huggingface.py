"""Hugging Face's router: who answers depends on the model, and so do the quirks."""

from __future__ import annotations

import re
from typing import Final

from duckservice.errors import ModelNotFound
from duckservice.providers.adapter import Adapter, Speaker
from duckservice.providers.capabilities import Capabilities
from duckservice.providers.chat_or_responses import chat_or_responses
from duckservice.providers.failures import rule
from duckservice.providers.openai_variant import OpenAIVariant
from duckservice.providers.remote import Dialect

VARIANT: Final = OpenAIVariant(
    capabilities=Capabilities(embeddings=True, n_max=None),
    thoughts_field="reasoning",
    done_required=False,  # 3 of 7 recorded streams end without
)


def _dialect(speaker: Speaker) -> Dialect:
    return chat_or_responses(speaker, VARIANT)


ADAPTER: Final = Adapter(
    dialect=_dialect,
    models=("*/*[A-Z]*", "openai/gpt-oss-*"),
    rules=(rule(ModelNotFound, 400, 404, words="model_not_supported"),),
    key_shape=re.compile(r"hf_.{20,}"),
)
