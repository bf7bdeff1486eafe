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
from duckservice.core.extra_bound import TOKENS_PER_PART, Unbounded
from duckservice.core.input_bound import input_tokens_bound
from duckservice.providers.base import Provider
from duckservice.providers.estimate import input_tokens, prompt_tokens, text_tokens
from duckservice.providers.image_tokens import likely_images

#: Tokens that a reply may have, however few the request allows: OpenAI's newer API
#: takes no lower limit, and who sits before it raises what is lower.
LEAST_REPLY = 16

#: Tokens that a reply is reckoned with where the request sets no limit.
USUAL_REPLY = 1024


def worst_cost(provider: Provider, request: AnyRequest) -> int | None:
    """Return the picodollars that one attempt should not exceed, None if unknown.

    It is as true as its parts: the prices of the list, and what providers are known
    to add to a prompt. `why_unknown` says what it is that is not known.
    """
    try:
        most = _most(provider, request)
    except Unbounded:
        return None
    return _dearest(provider, most, request.model)


def why_unknown(provider: Provider, request: AnyRequest) -> str:
    """Return why `worst_cost` knows no limit, in words for who sent *request*."""
    try:
        _most(provider, request)
    except Unbounded as error:
        return str(error)
    return f"{provider.name!r} has no price for the model {request.model!r}"


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


def _most(provider: Provider, request: AnyRequest) -> Usage:
    """Return what *request* cannot exceed; raise `Unbounded`, saying why not."""
    match request:
        case EmbeddingRequest():
            return Usage(input_tokens=sum(map(_most_of_input, request.input)))
        case ImageRequest():
            most = provider.image_bound(request)
            if most is None:
                msg = f"nobody knows how large pictures of {request.model!r} become"
                raise Unbounded(msg)
            return most
        case ChatRequest():
            if request.max_tokens is None:
                msg = (
                    "set max_tokens (duck ask, submit, batch: --max-tokens N): without it"
                    " the reply may have any length"
                )
                raise Unbounded(msg)
            hidden = provider.capabilities.hidden_prompt_tokens
            return Usage(
                input_tokens=input_tokens_bound(request, hidden_prompt=hidden),
                output_tokens=max(request.max_tokens, LEAST_REPLY) * (request.n or 1),
            )
        case _:
            assert_never(request)


def _dearest(provider: Provider, most: Usage, model: str) -> int | None:
    # Writing to a provider's cache may cost more than reading the prompt, and a
    # picture more than text.
    costs = [
        provider.estimate_cost(usage, model)
        for usage in (
            most,
            attrs.evolve(most, cache_write_tokens=most.input_tokens),
            attrs.evolve(
                most,
                cache_write_tokens=most.input_tokens,
                hour_write_tokens=most.input_tokens,
            ),
            attrs.evolve(most, image_tokens=most.output_tokens),
        )
    ]
    known = [cost for cost in costs if cost is not None]
    return max(known) if len(known) == len(costs) else None


def _most_of_input(given: str | tuple[int, ...]) -> int:
    return TOKENS_PER_PART + len(_bytes(given) if isinstance(given, str) else given)


def _bytes(text: str) -> bytes:
    # A lone surrogate has no UTF-8 form; it counts as the three bytes it would take.
    return text.encode("utf-8", "surrogatepass")
