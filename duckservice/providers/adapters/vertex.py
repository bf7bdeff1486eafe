"""Google's Vertex AI: Gemini, Claude and Imagen in a project of Google Cloud."""

from __future__ import annotations

from typing import Final

from duckservice.config import AuthConfig, ProviderConfig, keys_of
from duckservice.providers.adapter import Adapter, Speaker
from duckservice.providers.auth import Credentials
from duckservice.providers.auth.table import token_credentials
from duckservice.providers.gemini.failures import RULES, read_status
from duckservice.providers.gemini.models import MODELS
from duckservice.providers.remote import Dialect
from duckservice.providers.vertex.dialect import VertexDialect
from duckservice.providers.vertex.place import Place, base_url


def _dialect(speaker: Speaker) -> Dialect:
    return VertexDialect(
        provider=speaker.provider,
        place=Place.of(speaker.config),
        errors=speaker.errors,
    )


def _credentials(config: ProviderConfig) -> Credentials | None:
    """Return what the machine has for Google Cloud, where the config says nothing."""
    said = any(name.lower() == "authorization" for name in config.headers)
    if said or keys_of(config):
        return None
    return token_credentials(config, config.auth or AuthConfig(type="google"))


ADAPTER: Final = Adapter(
    dialect=_dialect,
    models=(*MODELS, "claude-*@*", "text-multilingual-embedding-*"),
    base_url=base_url,
    key_header="x-goog-api-key",
    price_list="google",
    reader=read_status,
    rules=RULES,
    credentials=_credentials,
)
