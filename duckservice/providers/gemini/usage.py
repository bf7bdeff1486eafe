"""Gemini's ``usageMetadata``, normalised.

Its totals leave out two of their parts: thoughts are not among the candidates'
tokens, and what Google's own tools have found is not among the prompt's.
"""

from __future__ import annotations

from typing import Any

import attrs

from duckservice.completion import Usage
from duckservice.providers.reading import mapping_or_empty, token_count, usage_of


def usage_in(metadata: Any) -> Usage | None:
    """Return the usage; None where nothing is said of the prompt.

    The events of a stream may say only what kind of traffic they are.
    """
    said = mapping_or_empty(metadata)
    if "promptTokenCount" not in said:
        return None
    thoughts = token_count(said.get("thoughtsTokenCount"))
    prompt = token_count(said.get("promptTokenCount"))
    usage = usage_of(
        input_tokens=prompt + token_count(said.get("toolUsePromptTokenCount")),
        output_tokens=token_count(said.get("candidatesTokenCount")) + thoughts,
        cached=said.get("cachedContentTokenCount"),
        reasoning=thoughts,
    )
    drawn = _tokens_of("IMAGE", said.get("candidatesTokensDetails"))
    if not drawn:
        return usage
    return attrs.evolve(usage, image_tokens=min(drawn, usage.output_tokens))


def _tokens_of(modality: str, details: Any) -> int:
    if not isinstance(details, list):
        return 0
    return sum(
        token_count(detail.get("tokenCount"))
        for detail in map(mapping_or_empty, details)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]  # any JSON
        if detail.get("modality") == modality
    )
