"""AWS Bedrock, by its own Converse API."""

from __future__ import annotations

import re
from typing import Final

from duckservice.providers.adapter import Adapter, Speaker
from duckservice.providers.bedrock import failures, place
from duckservice.providers.bedrock.dialect import BedrockDialect
from duckservice.providers.bedrock.models import MODELS
from duckservice.providers.remote import Dialect


def _dialect(speaker: Speaker) -> Dialect:
    return BedrockDialect(provider=speaker.provider, errors=speaker.errors)


ADAPTER: Final = Adapter(
    dialect=_dialect,
    models=MODELS,
    base_url=place.base_url,
    credentials=place.credentials,
    price_list="aws",
    reader=failures.read,
    rules=failures.RULES,
    key_shape=re.compile(r"(ABSK|bedrock-api-key-).{20,}"),
)
