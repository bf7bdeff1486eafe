"""DeepSeek: text only. Thoughts go back where tools are in play, and only there."""

from __future__ import annotations

import re
from typing import Final

from duckservice.errors import ContentFiltered
from duckservice.providers.adapter import Adapter, Speaker
from duckservice.providers.capabilities import Capabilities
from duckservice.providers.chat_or_responses import chat_or_responses
from duckservice.providers.failures import rule
from duckservice.providers.openai_reasoning import as_deepseek
from duckservice.providers.openai_variant import OpenAIVariant
from duckservice.providers.remote import Dialect

VARIANT: Final = OpenAIVariant(
    capabilities=Capabilities(
        images_in=frozenset(), json_schema=False, n_max=1, stop_max=16, top_k=False
    ),
    asking=as_deepseek,
    thoughts="field_with_tools",
)


def _dialect(speaker: Speaker) -> Dialect:
    return chat_or_responses(speaker, VARIANT)


ADAPTER: Final = Adapter(
    dialect=_dialect,
    models=("deepseek-*",),
    # The open models at others: Hugging Face's names, Ollama's tags, Groq's.
    foreign_models=("*/*", "*:*", "deepseek-r1-distill-*"),
    price_list="deepseek",
    rules=(rule(ContentFiltered, 400, says=r"content exists risk"),),
    key_shape=re.compile(r"sk-.{20,}"),
)
