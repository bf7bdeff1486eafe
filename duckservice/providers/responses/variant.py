"""In what the servers differ that speak Responses, as data."""

from __future__ import annotations

from typing import Final, Literal

import attrs

from duckservice.providers import openai_reasoning
from duckservice.providers.openai_reasoning import Asking


@attrs.frozen(kw_only=True)
class ResponsesVariant:
    """What one server makes of the format. The defaults are most servers'."""

    asking: Asking = openai_reasoning.as_effort
    """How much a model shall think, in the words of the chat format."""
    open_thoughts: Literal["content", "summary"] | None = "content"
    """Where a thought goes back that is not encrypted; None: only its own, encrypted,
    are taken."""
    developer: bool = False
    """Whether there are developers; where not they are called system."""
    top_k: bool = True
    output_tokens_min: int = 0
    """The least limit of a reply that it takes."""
    counts: bool = False
    """Whether it counts the tokens of a prompt."""


OPENAI: Final = ResponsesVariant(
    asking=openai_reasoning.as_openai,
    open_thoughts=None,
    developer=True,
    top_k=False,
    output_tokens_min=16,
    counts=True,
)

AZURE: Final = attrs.evolve(OPENAI, asking=openai_reasoning.as_azure, counts=False)

XAI: Final = ResponsesVariant(asking=openai_reasoning.as_xai, open_thoughts="summary")

COMPATIBLE: Final = ResponsesVariant()
"""A server of which nothing else is known: it is left to judge what it is sent."""
