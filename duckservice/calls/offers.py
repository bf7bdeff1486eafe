"""What is on offer: each model at each provider, what it can do, what it costs; pure.

Capabilities are known of a provider as a whole, and what a model is for only by its
name: `cheapest` finds who can do a request by all that is known, and a provider may
still refuse it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from typing import Any, Final, Literal, TypeAlias, assert_never, cast

import attrs

from duckservice.completion import (
    AnyRequest,
    ChatRequest,
    EmbeddingRequest,
    ImageRequest,
)
from duckservice.core.pricing import Price, cost, usd
from duckservice.errors import InvalidRequest
from duckservice.money.spending import likely_usage
from duckservice.providers.capabilities import Capabilities, check_capabilities
from duckservice.providers.price_list import price_list
from duckservice.providers.prices import Quote

Json: TypeAlias = dict[str, Any]

ModelKind: TypeAlias = Literal["chat", "embedding", "image", "other"]
"""What a model is for; ``other`` is speech, moderation, ranking and the like."""

_PER_MTOK: Final = 10**6


@attrs.frozen(kw_only=True)
class Offer:
    """One model at one provider."""

    model: str
    """What it is asked for as."""
    provider: str
    kind: ModelKind
    capabilities: Capabilities
    """The provider's; the model may do less."""
    quote: Quote | None
    """None: nobody knows its price."""


@attrs.frozen
class Priced:
    """An offer that can do a request, and what it will probably take for it."""

    offer: Offer
    cost: int
    """Picodollars."""


def cheapest(request: AnyRequest, offers: Iterable[Offer]) -> tuple[Priced, ...]:
    """Return the *offers* that can do *request*, the cheapest first.

    The model that it names does not matter. An offer without a price is left out:
    it may cost anything. Of those that cost the same the first comes first.
    """
    usage = likely_usage(request)
    able = [
        Priced(offer, cost(usage, offer.quote.tariff.price_of(usage)))
        for offer in offers
        if offer.quote is not None and can_do(offer, request)
    ]
    return tuple(sorted(able, key=lambda priced: priced.cost))


def can_do(offer: Offer, request: AnyRequest) -> bool:
    """Say whether *offer* can do *request*, by all that is known of it."""
    can = offer.capabilities
    match request:
        case EmbeddingRequest():
            return offer.kind == "embedding" and can.embeddings
        case ImageRequest():
            return offer.kind == "image" and can.image_generation
        case ChatRequest():
            return offer.kind == "chat" and _allows(can, request)
        case _:
            assert_never(request)


def kind_of(model: str, quote: Quote | None = None) -> ModelKind:
    """Return what *model* is for, by its name and by how it is sold.

    What is paid for its input alone writes nothing.
    """
    name = model.lower()
    for kind, words in _KINDS:
        if words.search(name):
            return kind
    if quote is not None and all(_reads_only(price) for _, price in quote.tariff.steps):
        return "other"
    return "chat"


_KINDS: Final[tuple[tuple[ModelKind, re.Pattern[str]], ...]] = (
    (
        "other",
        re.compile(
            r"whisper|tts|transcribe|audio|speech|realtime|moderation|guard|rerank"
            r"|\bocr\b|video|sora|\bveo-"
        ),
    ),
    ("embedding", re.compile(r"embed|\bbge-|\be5-|\bgte-|minilm")),
    ("image", re.compile(r"imag|dall-e|stable-diffusion|sdxl|\bflux")),
)


def offer_fields(offer: Offer) -> Json:
    """Return an offer as the API shows it, beside its model."""
    return {
        "provider": offer.provider,
        "kind": offer.kind,
        "capabilities": capability_fields(offer.capabilities),
        "price": None if offer.quote is None else quote_fields(offer.quote),
    }


def capability_fields(can: Capabilities) -> Json:
    """Return capabilities as plain data, under their own names."""
    fields: Json = attrs.asdict(can)
    return {name: _plain(value) for name, value in fields.items()}


def quote_fields(quote: Quote) -> Json:
    """Return a price as plain data: USD per million tokens, as decimal strings.

    Where large prompts cost more, they have their own prices in ``tiers``.
    """
    steps = quote.tariff.steps[::-1]
    fields: Json = {"source": quote.source, **_rates(steps[0][1])}
    if len(steps) > 1:
        fields["tiers"] = [
            {"above_input_tokens": start, **_rates(price)} for start, price in steps[1:]
        ]
    return fields


def price_list_fields(today: date) -> Json:
    """Return what is known, *today*, of the list that prices come from."""
    its = price_list(today)
    as_of = None if its.as_of is None else its.as_of.isoformat()
    return {"name": its.name, "version": its.version, "as_of": as_of}


def _plain(value: Any) -> Any:
    if isinstance(value, frozenset):
        return sorted(cast("frozenset[str]", value))
    return value


def _rates(price: Price) -> Json:
    rates = {
        "input": price.input,
        "output": price.output,
        "cached_input": price.cached_input,
        "cache_write": price.cache_write,
        "hour_write": price.hour_write,
        "image_output": price.image_output,
    }
    return {
        f"{name}_usd_per_mtok": usd(rate * _PER_MTOK)
        for name, rate in rates.items()
        if rate is not None
    }


def _reads_only(price: Price) -> bool:
    return price.input > 0 and price.output == 0


def _allows(can: Capabilities, request: ChatRequest) -> bool:
    try:
        check_capabilities(request, can, provider="")
    except InvalidRequest:
        return False
    return True
