"""Ollama: in its own format, or in OpenAI's where the base URL ends in ``/v1``."""

from __future__ import annotations

from typing import Final

from duckservice.config import ProviderConfig, base_url_of
from duckservice.providers.adapter import Adapter, Speaker
from duckservice.providers.adapters.openai_compatible import FOREIGN_MODELS
from duckservice.providers.capabilities import Capabilities
from duckservice.providers.ollama.dialect import OllamaDialect
from duckservice.providers.ollama.errors import RULES
from duckservice.providers.openai import OpenAIDialect
from duckservice.providers.openai_variant import OpenAIVariant
from duckservice.providers.remote import Dialect

VARIANT: Final = OpenAIVariant(
    capabilities=Capabilities(
        images_in=frozenset({"data"}),
        cached_usage=False,
        embeddings=True,
        n_max=1,
        temperature_max=None,
    ),
    thoughts_field="reasoning",
    done_required=False,
)


def _dialect(speaker: Speaker) -> Dialect:
    provider, errors = speaker.provider, speaker.errors
    if _base_url(speaker.config).endswith("/v1"):
        return OpenAIDialect(provider=provider, errors=errors, variant=VARIANT)
    return OllamaDialect(provider=provider, errors=errors)


def _base_url(config: ProviderConfig) -> str:
    return base_url_of(config).rstrip("/").removesuffix("/api")  # the paths have it


ADAPTER: Final = Adapter(
    dialect=_dialect,
    foreign_models=FOREIGN_MODELS,
    base_url=_base_url,
    rules=RULES,
)
