"""Cohere itself, by version 2 of its API."""

from __future__ import annotations

import re
from typing import Final

from duckservice.config import ProviderConfig, base_url_of
from duckservice.providers.adapter import Adapter, Speaker
from duckservice.providers.cohere.dialect import MODELS, CohereDialect
from duckservice.providers.cohere.errors import RULES, read_error
from duckservice.providers.remote import Dialect


def _dialect(speaker: Speaker) -> Dialect:
    return CohereDialect(provider=speaker.provider, errors=speaker.errors)


def _base_url(config: ProviderConfig) -> str:
    # The paths have the version: Cohere's models are still listed by the first.
    url = base_url_of(config).rstrip("/")
    return url.removesuffix("/v1").removesuffix("/v2")


ADAPTER: Final = Adapter(
    dialect=_dialect,
    models=MODELS,
    base_url=_base_url,
    price_list="cohere",
    reader=read_error,
    rules=RULES,
    key_shape=re.compile(r"[A-Za-z0-9_-]{40,}"),
)
