"""In what the servers differ that speak OpenAI's Chat Completions, as data.

The values for OpenAI itself, and for servers of which only the format is known, are
here; those of a named provider stand in its adapter's file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias

import attrs

from duckservice.providers import openai_reasoning
from duckservice.providers.capabilities import Capabilities
from duckservice.providers.openai_reasoning import Asking

Thoughts: TypeAlias = Literal["field", "field_with_tools", "parts", "details"]
"""How reasoning of earlier turns goes back: in a field of the message (only in
conversations with tools), in parts of its content, or in OpenRouter's details."""

EXTRA_CONTENT: Final = "extra_content"
"""What Gemini's tool calls carry, in the shape of Google's own OpenAI format."""
DETAILS: Final = "reasoning_details"
"""What OpenRouter's turns carry."""
PLAN: Final = "tool_plan"
"""What Cohere's turns carry."""

LIMIT: Final = "max_tokens"
NEWER_LIMIT: Final = "max_completion_tokens"


def limit_by_model(model: str) -> str:
    """Return OpenAI's name for the limit of a reply: reasoning models refuse the older."""
    return NEWER_LIMIT if openai_reasoning.thinks(model) else LIMIT


def older_limit(model: str) -> str:  # noqa: ARG001 - as the others
    """Return the name of the limit where there is only the older one."""
    return LIMIT


def says_nothing(value: object) -> bool:
    """Say whether *value* is one that clients send although it holds anyway."""
    return value in (None, False, 0, "auto") or value in ([], {}, ["text"])


Billed: TypeAlias = Callable[[Mapping[str, Any]], int | None]


@attrs.frozen(kw_only=True)
class OpenAIVariant:
    """What one server makes of the format. The defaults are most servers'."""

    capabilities: Capabilities
    limit: Callable[[str], str] = older_limit
    """From a model to the name of the field that limits the reply."""
    developer: bool = False
    """Whether there are developers; where not they are called system, as before 2024."""
    required: str = "required"
    """The word for a tool choice that must be one of the tools."""
    seed: str = "seed"
    names: bool = True
    """Whether messages may have a ``name``."""
    unknown: frozenset[str] = frozenset()
    """Fields of OpenAI's format that are refused here, unless they say nothing."""
    unsent: frozenset[str] = frozenset()
    """Fields about the client, not about the reply, that are left out here."""
    asking: Asking = openai_reasoning.as_effort
    """How reasoning is asked for."""
    thoughts: Thoughts | None = "field"
    """None: not at all. They are no part of the prompt where a provider says so."""
    thoughts_field: str = "reasoning_content"
    stream_options: bool = True
    """Whether a stream must be asked for its usage."""
    done_required: bool = True
    """Whether only ``[DONE]`` ends a stream."""
    carries: frozenset[str] = frozenset()
    """What a turn of another server may have left in the conversation and may go on
    here: `EXTRA_CONTENT`, `DETAILS`, `PLAN`. Where it is not known it is left out."""
    billed: Billed | None = None
    """From an answer's usage to the picodollars that it says are charged."""
    dimensions: str = "dimensions"
    """Of embeddings: the name of the field for their length."""
    signed_bytes: bool = False
    """Whether embeddings in base64 may be bytes with a sign: Perplexity's are."""


OPENAI: Final = OpenAIVariant(
    capabilities=Capabilities(
        embeddings=True,
        image_generation=True,
        stop_max=4,
        top_k=False,
        hidden_prompt_tokens=64,
    ),
    limit=limit_by_model,
    developer=True,
    asking=openai_reasoning.as_openai,
    thoughts=None,
)

_OLDER_AT_AZURE: Final = re.compile(
    r"gpt-?(?:3|4)|.*(?:grok|deepseek|mistral|ministral|codestral|llama|phi-|command)",
    re.IGNORECASE,
)


def limit_at_azure(model: str) -> str:
    """Return the name of the limit for a deployment, whose name may say nothing.

    Every model of OpenAI's takes the newer name there; those that refuse it, being
    old or of other makers, mostly are called after what they are.
    """
    return LIMIT if _OLDER_AT_AZURE.match(model) else NEWER_LIMIT


AZURE: Final = attrs.evolve(
    OPENAI,
    # It has models of other makers, too.
    capabilities=attrs.evolve(OPENAI.capabilities, hidden_prompt_tokens=512),
    limit=limit_at_azure,
    asking=openai_reasoning.as_azure,
)

COMPATIBLE: Final = OpenAIVariant(
    capabilities=Capabilities(
        embeddings=True,
        image_generation=True,
        n_max=None,
        temperature_max=None,
        hidden_prompt_tokens=512,
    ),
    limit=limit_by_model,
    done_required=False,
    carries=frozenset({EXTRA_CONTENT, DETAILS, PLAN}),
    signed_bytes=True,
)
"""A server of which nothing else is known: it is left to judge what it is sent."""


_PICO: Final = Decimal(10) ** 12
_USD_MAX: Final = 1_000_000
_PICO_PER_TICK: Final = 100


def billed_in_usd(usage: Mapping[str, Any]) -> int | None:
    """Return the picodollars of ``cost``, in USD.

    None where the request ran on a key of the user's own at the provider behind:
    most of the bill comes from there then.
    """
    cost = usage.get("cost")
    if usage.get("is_byok") is True or isinstance(cost, bool):
        return None
    if not isinstance(cost, (int, float)) or not 0 <= cost < _USD_MAX:
        return None
    return int(Decimal(str(cost)) * _PICO)


def billed_in_ticks(usage: Mapping[str, Any]) -> int | None:
    """Return the picodollars of ``cost_in_usd_ticks``, of 1e-10 USD each."""
    ticks = usage.get("cost_in_usd_ticks")
    if type(ticks) is not int or not 0 <= ticks < _USD_MAX * 10**10:
        return None
    return ticks * _PICO_PER_TICK
