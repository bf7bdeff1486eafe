"""Azure OpenAI, where a model is a deployment with a name of its own.

``base_url`` is the resource, ``https://NAME.openai.azure.com``, and its v1 API is
spoken; an ``api_version`` with a date speaks the older one of ``/deployments/``.
"""

from __future__ import annotations

import re
from typing import Final

from duckservice.providers import openai_images
from duckservice.providers.adapter import Adapter, Speaker
from duckservice.providers.azure import base_url, paths
from duckservice.providers.chat_or_responses import chat_or_responses
from duckservice.providers.openai import MODELS
from duckservice.providers.openai_variant import AZURE
from duckservice.providers.remote import Dialect


def _dialect(speaker: Speaker) -> Dialect:
    return chat_or_responses(
        speaker, AZURE, paths=paths(speaker.config), pictures=openai_images.AZURE
    )


ADAPTER: Final = Adapter(
    dialect=_dialect,
    models=(*MODELS, "gpt-35-*"),
    base_url=base_url,
    key_header="api-key",
    price_list="azure",
    key_shape=re.compile(r"[A-Za-z0-9]{32,}"),
)
