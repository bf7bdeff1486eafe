"""Which of OpenAI's two APIs a provider is spoken to with, as its config says."""

from __future__ import annotations

from duckservice.providers import openai_images
from duckservice.providers.adapter import Speaker
from duckservice.providers.openai import PLAIN_PATHS, OpenAIDialect, Paths
from duckservice.providers.openai_images import ImageVariant
from duckservice.providers.openai_variant import OpenAIVariant
from duckservice.providers.remote import Dialect


def chat_or_responses(
    speaker: Speaker,
    variant: OpenAIVariant,
    *,
    paths: Paths = PLAIN_PATHS,
    pictures: ImageVariant = openai_images.COMPATIBLE,
) -> Dialect:
    """Return the dialect of the one of OpenAI's two APIs that the config asks for."""
    chat = OpenAIDialect(
        provider=speaker.provider,
        errors=speaker.errors,
        variant=variant,
        paths=paths,
        pictures=pictures,
    )
    if speaker.config.api == "chat":
        return chat
    # Only what is configured is loaded: this doubles what a chat takes.
    from duckservice.providers.responses.dialect import (  # noqa: PLC0415
        ResponsesDialect,
        variant_of,
    )

    return ResponsesDialect(
        errors=speaker.errors, variant=variant_of(speaker.config.adapter), beside=chat
    )
