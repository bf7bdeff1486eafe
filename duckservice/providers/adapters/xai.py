"""xAI. Its errors are plain texts, and a bad key is a 400."""

from __future__ import annotations

import re
from typing import Final

from duckservice.errors import ContentFiltered, QuotaExceeded
from duckservice.providers import openai_images
from duckservice.providers.adapter import Adapter, Speaker
from duckservice.providers.capabilities import Capabilities
from duckservice.providers.chat_or_responses import chat_or_responses
from duckservice.providers.failures import rule
from duckservice.providers.openai_reasoning import as_xai
from duckservice.providers.openai_variant import OpenAIVariant, billed_in_ticks
from duckservice.providers.remote import Dialect

VARIANT: Final = OpenAIVariant(
    capabilities=Capabilities(
        image_generation=True, stop_max=4, top_k=False, hidden_prompt_tokens=512
    ),
    asking=as_xai,
    billed=billed_in_ticks,
)


def _dialect(speaker: Speaker) -> Dialect:
    return chat_or_responses(speaker, VARIANT, pictures=openai_images.XAI)


ADAPTER: Final = Adapter(
    dialect=_dialect,
    models=("grok-*",),
    price_list="x-ai",
    rules=(
        rule(QuotaExceeded, 403, says=r"doesn't have any credits", retryable=False),
        rule(ContentFiltered, 400, 403, says=r"violates (our )?usage"),
    ),
    key_shape=re.compile(r"xai-.{20,}"),
)
