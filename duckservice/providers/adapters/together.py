"""Together: open models, as ``Maker/Model`` with capitals."""

from __future__ import annotations

import re
from typing import Final

from duckservice.errors import ContextLengthExceeded, ModelNotFound
from duckservice.providers.adapter import Adapter, Speaker
from duckservice.providers.capabilities import Capabilities
from duckservice.providers.chat_or_responses import chat_or_responses
from duckservice.providers.failures import rule
from duckservice.providers.openai_reasoning import as_together
from duckservice.providers.openai_variant import OpenAIVariant
from duckservice.providers.remote import Dialect

VARIANT: Final = OpenAIVariant(
    capabilities=Capabilities(embeddings=True),
    asking=as_together,
    thoughts_field="reasoning",
)


def _dialect(speaker: Speaker) -> Dialect:
    return chat_or_responses(speaker, VARIANT)


ADAPTER: Final = Adapter(
    dialect=_dialect,
    models=("*/*[A-Z]*", "openai/gpt-oss-*"),
    price_list="together",
    rules=(
        rule(ModelNotFound, 400, 404, words="model_not_available"),
        rule(ContextLengthExceeded, 400, 422, says=r"`?max_new_tokens`? must be"),
    ),
    key_shape=re.compile(r"[0-9a-f]{64}|tgp_v1_.{20,}"),
)
