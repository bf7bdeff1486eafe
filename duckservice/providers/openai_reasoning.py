"""How much a model shall think, in the words of each server of OpenAI's format.

    OpenAI, Azure, xAI, HF      reasoning_effort
    DeepSeek                    thinking {type}, reasoning_effort
    OpenRouter                  reasoning {effort | max_tokens | enabled}
    Together                    reasoning {enabled}, reasoning_effort
    Mistral                     reasoning_effort: high or none
    Groq                        reasoning_effort, reasoning_format

An Anthropic client gives a budget of tokens, which most servers take no number for:
it is brought to the nearest effort.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from duckservice.completion import ChatRequest, Reasoning

Json: TypeAlias = dict[str, Any]

Asking: TypeAlias = Callable[[Reasoning, ChatRequest], Json | None]
"""From what is wanted to the fields that ask for it; None if they cannot."""

LOW_BUDGET: Final = 2048
MEDIUM_BUDGET: Final = 8192

_THINKS: Final = re.compile(r"(?:.*/)?(?:ft:)?(?:o[1-9]|gpt-[5-9])(?![0-9])")
_THINKS_IF_ASKED: Final = re.compile(r"(?:.*/)?(?:ft:)?gpt-(?:5\.[1-9]|[6-9])")
"""From gpt-5.1 on there is the effort ``none``, and it is the default."""


def thinks(model: str) -> bool:
    """Say whether *model* is one of OpenAI's that reason."""
    return _THINKS.match(model) is not None


def effort_of(reasoning: Reasoning) -> str | None:
    """Return the effort that is meant; a budget is brought to the nearest word."""
    if reasoning.effort is not None or reasoning.budget_tokens is None:
        return reasoning.effort
    if reasoning.budget_tokens <= LOW_BUDGET:
        return "low"
    return "medium" if reasoning.budget_tokens <= MEDIUM_BUDGET else "high"


def is_off(reasoning: Reasoning) -> bool:
    """Say whether the model shall not think at all."""
    return reasoning.mode == "disabled" or reasoning.effort == "none"


def as_effort(reasoning: Reasoning, request: ChatRequest) -> Json | None:
    """Ask with ``reasoning_effort``.

    Models without reasoning do what is asked when it shall be off; those with it
    have no common word for doing without.
    """
    if reasoning.mode == "disabled":
        return None if thinks(request.model) else {}
    return _effort(effort_of(reasoning))


def as_openai(reasoning: Reasoning, request: ChatRequest) -> Json | None:
    """Ask OpenAI, where models that do not reason refuse the field."""
    asked = as_azure(reasoning, request)
    if request.format == "anthropic" and asked and not thinks(request.model):
        return None
    return asked


def as_azure(reasoning: Reasoning, request: ChatRequest) -> Json | None:
    """Ask OpenAI's models under any name; the newer think only if they are asked to."""
    effort = effort_of(reasoning)
    if not _THINKS_IF_ASKED.match(request.model):
        # Anthropic's word for the highest.
        return _effort("high") if effort == "max" else as_effort(reasoning, request)
    if reasoning.mode == "disabled":
        return _effort("none")
    if effort is None and reasoning.mode is not None:
        effort = "medium"
    return _effort("xhigh" if effort == "max" else effort)


def as_xai(reasoning: Reasoning, request: ChatRequest) -> Json:
    """Ask xAI; its models without reasoning do not know the field."""
    if reasoning.mode == "disabled":
        return {} if "non-reasoning" in request.model else _effort("none")
    return _effort(effort_of(reasoning))


def as_deepseek(reasoning: Reasoning, request: ChatRequest) -> Json:  # noqa: ARG001 - as the others
    """Ask DeepSeek, which has a switch and an effort."""
    if is_off(reasoning):
        return {"thinking": {"type": "disabled"}}
    switch = {"thinking": {"type": "enabled"}} if reasoning.mode == "enabled" else {}
    return {**switch, **_effort(effort_of(reasoning))}


def as_openrouter(reasoning: Reasoning, request: ChatRequest) -> Json:  # noqa: ARG001 - as the others
    """Ask OpenRouter, which takes a budget or an effort, and not both."""
    if reasoning.mode == "disabled":
        return {"reasoning": {"enabled": False}}
    if reasoning.budget_tokens is not None:
        return {"reasoning": {"max_tokens": reasoning.budget_tokens}}
    if reasoning.effort is not None:
        return {"reasoning": {"effort": reasoning.effort}}
    return {"reasoning": {"enabled": True}}


def as_together(reasoning: Reasoning, request: ChatRequest) -> Json:  # noqa: ARG001 - as the others
    """Ask Together, whose hybrid models have a switch and the others an effort."""
    if is_off(reasoning):
        return {"reasoning": {"enabled": False}}
    effort = effort_of(reasoning)
    return {"reasoning": {"enabled": True}} if effort is None else _effort(effort)


def as_mistral(reasoning: Reasoning, request: ChatRequest) -> Json | None:
    """Ask Mistral, which knows ``high`` and ``none``; Magistral thinks in any case."""
    off = is_off(reasoning) or reasoning.effort == "minimal"
    if "magistral" in request.model:
        return None if off else {}
    return _effort("none" if off else "high")


def as_groq(reasoning: Reasoning, request: ChatRequest) -> Json | None:
    """Ask Groq, whose models differ in the words for an effort.

    A client of another format expects the thoughts apart from the text, where some
    of the models put them by default.
    """
    off = is_off(reasoning)
    effort = effort_of(reasoning)
    if "qwen" in request.model:
        effort = "none" if off else "default"
    elif off:
        return None
    apart = request.format != "openai" and not off
    return {**_effort(effort), **({"reasoning_format": "parsed"} if apart else {})}


def _effort(word: str | None) -> Json:
    return {} if word is None else {"reasoning_effort": word}
