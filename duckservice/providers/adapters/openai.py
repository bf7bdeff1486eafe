"""OpenAI itself."""

from __future__ import annotations

import re
from typing import Final

from duckservice.providers.adapter import Adapter, Speaker
from duckservice.providers.openai import MODELS, OpenAIDialect
from duckservice.providers.remote import Dialect


def _dialect(speaker: Speaker) -> Dialect:
    return OpenAIDialect(provider=speaker.provider, errors=speaker.errors)


ADAPTER: Final = Adapter(
    dialect=_dialect,
    models=MODELS,
    price_list="openai",
    key_shape=re.compile(r"sk-.{20,}"),
)
