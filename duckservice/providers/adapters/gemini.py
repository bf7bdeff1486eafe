"""Google's Gemini API, as of AI Studio."""

from __future__ import annotations

import re
from typing import Final

from duckservice.providers.adapter import Adapter, Speaker
from duckservice.providers.gemini.dialect import GeminiDialect
from duckservice.providers.gemini.failures import RULES, read_status
from duckservice.providers.gemini.models import MODELS
from duckservice.providers.remote import Dialect


def _dialect(speaker: Speaker) -> Dialect:
    return GeminiDialect(provider=speaker.provider, errors=speaker.errors)


ADAPTER: Final = Adapter(
    dialect=_dialect,
    models=MODELS,
    key_header="x-goog-api-key",
    price_list="google",
    reader=read_status,
    rules=RULES,
    key_shape=re.compile(r"(?:AIza|AQ\.).{20,}"),
)
