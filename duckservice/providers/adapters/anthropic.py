"""Anthropic itself."""

from __future__ import annotations

import re
from typing import Final

from duckservice.config import ProviderConfig, base_url_of
from duckservice.providers.adapter import Adapter, Speaker
from duckservice.providers.anthropic import MODELS, VERSION, AnthropicDialect
from duckservice.providers.remote import Dialect


def _dialect(speaker: Speaker) -> Dialect:
    return AnthropicDialect(provider=speaker.provider, errors=speaker.errors)


def _base_url(config: ProviderConfig) -> str:
    return base_url_of(config).rstrip("/").removesuffix("/v1")  # the paths have it


ADAPTER: Final = Adapter(
    dialect=_dialect,
    models=MODELS,
    base_url=_base_url,
    key_header="x-api-key",
    headers={"anthropic-version": VERSION},
    price_list="anthropic",
    key_shape=re.compile(r"sk-ant-.{20,}"),
)
