"""What a request may cost: at most, to hold a caller's limit; probably, to compare.

A provider's price is asked of the provider. What it has no price for has no cost
here either: None, which no limit allows.
"""

from __future__ import annotations

from typing import assert_never

import attrs

from duckservice.completion import (
    AnyRequest,
    ChatRequest,
    EmbeddingRequest,
    ImageRequest,
    Usage,
)
from duckservice.core.input_bound import TOKENS_PER_PART, input_tokens_bound
from duckservice.providers.base import Provider
from duckservice.providers.estimate import input_tokens, prompt_tokens, text_tokens
from duckservice.providers.image_tokens import likely_images

#: Tokens that a reply is reckoned with where the request sets no limit.
USUAL_REPLY = 1024


def worst_cost(provider: Provider, request: AnyRequest) -> int | None:
    """Return the picodollars that one attempt cannot exceed, None if there are none."""
    most = _most(provider, request)
    if most is None:
        return None
    # Writing to a provider's cache may cost more than reading the prompt, and a
    # picture more than text.
    costs = [
        provider.estimate_cost(usage, request.model)
        for usage in (
            most,
            attrs.evolve(most, cache_write_tokens=most.input_tokens),
            attrs.evolve(most, image_tokens=most.output_tokens),
        )
    ]
    known = [cost for cost in costs if cost is not None]
    return max(known) if len(known) == len(costs) else None


def likely_cost(provider: Provider, request: AnyRequest) -> int | None:
    """Return the picodollars that *request* will probably cost, None if unknown."""
    return provider.estimate_cost(likely_usage(request), request.model)


def likely_usage(request: AnyRequest) -> Usage:
    """Return what *request* will probably use; its whole reply, if it limits it."""
    match request:
        case EmbeddingRequest():
            return Usage(input_tokens=prompt_size(request), estimated=True)
        case ImageRequest():
            return likely_images(request)
        case ChatRequest():
            reply = USUAL_REPLY if request.max_tokens is None else request.max_tokens
            return Usage(
                input_tokens=prompt_size(request),
                output_tokens=reply * (request.n or 1),
                estimated=True,
            )
        case _:
            assert_never(request)


def prompt_size(request: AnyRequest) -> int:
    """Return a guess at the number of tokens that are sent."""
    match request:
        case ChatRequest():
            return prompt_tokens(request)
        case EmbeddingRequest():
            return sum(map(input_tokens, request.input))
        case ImageRequest():
            return text_tokens(request.prompt)
        case _:
            assert_never(request)


def _most(provider: Provider, request: AnyRequest) -> Usage | None:
    match request:
        case EmbeddingRequest():
            return Usage(input_tokens=sum(map(_most_of_input, request.input)))
        case ImageRequest():
            return provider.image_bound(request)
        case ChatRequest():
            bound = input_tokens_bound(request)
            if bound is None or request.max_tokens is None:
                return None
            output = request.max_tokens * (request.n or 1)
            return Usage(input_tokens=bound, output_tokens=output)
        case _:
            assert_never(request)


def _most_of_input(given: str | tuple[int, ...]) -> int:
    return TOKENS_PER_PART + len(_bytes(given) if isinstance(given, str) else given)


def _bytes(text: str) -> bytes:
    # A lone surrogate has no UTF-8 form; it counts as the three bytes it would take.
    return text.encode("utf-8", "surrogatepass")
