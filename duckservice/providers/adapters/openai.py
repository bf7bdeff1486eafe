"""OpenAI itself: Chat Completions, or Responses with ``api = "responses"``."""

from __future__ import annotations

import re
from typing import Final

from duckservice.providers import openai_images
from duckservice.providers.adapter import Adapter, Speaker
from duckservice.providers.chat_or_responses import chat_or_responses
from duckservice.providers.openai import MODELS
from duckservice.providers.openai_variant import OPENAI
from duckservice.providers.remote import Dialect


def _dialect(speaker: Speaker) -> Dialect:
    return chat_or_responses(speaker, OPENAI, pictures=openai_images.OPENAI)


ADAPTER: Final = Adapter(
    dialect=_dialect,
    models=MODELS,
    price_list="openai",
    key_shape=re.compile(r"sk-.{20,}"),
)
