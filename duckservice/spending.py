"""What a request may cost: at most, to hold a caller's limit; probably, to compare.

A provider's price is asked of the provider. What it has no price for has no cost
here either: None, which no limit allows.
"""

from __future__ import annotations

from duckservice.completion import ChatRequest, EmbeddingRequest, Usage
from duckservice.core.input_bound import TOKENS_PER_PART, input_tokens_bound
from duckservice.providers.base import Provider
from duckservice.providers.estimate import prompt_tokens, text_tokens

#: Tokens that a reply is reckoned with where the request sets no limit.
USUAL_REPLY = 1024


def worst_cost(
    provider: Provider, request: ChatRequest | EmbeddingRequest
) -> int | None:
    """Return the picodollars that one attempt cannot exceed, None if there are none."""
    if isinstance(request, EmbeddingRequest):
        most = sum(
            TOKENS_PER_PART
            + (len(_bytes(item)) if isinstance(item, str) else len(item))
            for item in request.input
        )
        return provider.estimate_cost(Usage(input_tokens=most), request.model)
    bound = input_tokens_bound(request)
    if bound is None or request.max_tokens is None:
        return None
    output = request.max_tokens * (request.n or 1)
    # Writing to a provider's cache may cost more than reading the prompt.
    costs = [
        provider.estimate_cost(usage, request.model)
        for usage in (
            Usage(input_tokens=bound, output_tokens=output),
            Usage(input_tokens=bound, output_tokens=output, cache_write_tokens=bound),
        )
    ]
    known = [cost for cost in costs if cost is not None]
    return max(known) if len(known) == len(costs) else None


def likely_cost(
    provider: Provider, request: ChatRequest | EmbeddingRequest
) -> int | None:
    """Return the picodollars that *request* will probably cost, None if unknown."""
    return provider.estimate_cost(likely_usage(request), request.model)


def likely_usage(request: ChatRequest | EmbeddingRequest) -> Usage:
    """Return what *request* will probably use; its whole reply, if it limits it."""
    prompt = prompt_size(request)
    if isinstance(request, EmbeddingRequest):
        return Usage(input_tokens=prompt, estimated=True)
    reply = USUAL_REPLY if request.max_tokens is None else request.max_tokens
    return Usage(
        input_tokens=prompt, output_tokens=reply * (request.n or 1), estimated=True
    )


def prompt_size(request: ChatRequest | EmbeddingRequest) -> int:
    """Return a guess at the number of tokens that are sent."""
    if isinstance(request, ChatRequest):
        return prompt_tokens(request)
    return sum(
        text_tokens(item) if isinstance(item, str) else len(item)
        for item in request.input
    )


def _bytes(text: str) -> bytes:
    # A lone surrogate has no UTF-8 form; it counts as the three bytes it would take.
    return text.encode("utf-8", "surrogatepass")
