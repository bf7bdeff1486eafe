"""What a provider's models cost: by its config, or by genai-prices.

The rates of a model are resolved once into whole picodollars; a cost is then a
few integer products. Only a model whose price changes with the date or the hour
is looked up again. A model that is not in the list has no price: None, never
that of another.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, final

import attrs

from duckservice.completion import Usage
from duckservice.core.pricing import Price, cost

if TYPE_CHECKING:
    from genai_prices.types import (
        ModelInfo as ListedModel,
        ModelPrice,
        TieredPrices,
    )

MODELS_MAX: Final = 1000
"""How many models' rates are kept: the names come from outside."""


@attrs.frozen
class Tariff:
    """The prices of one model, by the size of the prompt."""

    steps: tuple[tuple[int, Price], ...]
    """Each price with the input tokens above which it holds, the highest first."""

    @classmethod
    def flat(cls, price: Price) -> Tariff:
        """Return the tariff of a model with one price for prompts of any size."""
        return cls(((-1, price),))

    def price_of(self, usage: Usage) -> Price:
        """Return the price that all tokens of *usage* have."""
        for start, price in self.steps:
            if usage.input_tokens > start:
                return price
        return self.steps[-1][1]


PriceSource: TypeAlias = Literal["config", "adapter", "list"]
"""Who says what a model costs: the provider's table, its adapter, genai-prices."""


@attrs.frozen(kw_only=True)
class Quote:
    """The price of one model, and who says so."""

    source: PriceSource
    tariff: Tariff


_Dated: TypeAlias = Callable[[datetime], Quote | None]


@final
class Prices:
    """What the models of one provider cost.

    *override*, from the config, holds for every model. *list_id* is the
    provider's id in genai-prices; where it is None, *api_url* says which it is.
    """

    def __init__(
        self,
        *,
        override: Price | None = None,
        list_id: str | None = None,
        api_url: str | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._override = override
        self._list_id = list_id
        self._api_url = api_url
        self._wall_clock = wall_clock
        self._known: dict[str, Quote | _Dated | None] = {}

    def cost(self, usage: Usage, model: str) -> int | None:
        """Return what *usage* of *model* costs in picodollars, None if unknown.

        What the provider itself says that it charges wins over the list, but not
        over the config. The first call of the process loads the list, which takes
        some 0.2 s unless `load_price_list` has done so.
        """
        override = self._override
        if override is not None and (usage.total_tokens or usage.billed is None):
            return cost(usage, override)
        if usage.billed is not None:
            return usage.billed
        quote = self.quote(model)
        return None if quote is None else cost(usage, quote.tariff.price_of(usage))

    def quote(self, model: str) -> Quote | None:
        """Return the price of *model* now, and who says so; None if unknown."""
        if self._override is not None:
            return Quote(source="config", tariff=Tariff.flat(self._override))
        try:
            known = self._known[model]
        except KeyError:
            if len(self._known) >= MODELS_MAX:
                self._known.clear()
            known = self._known[model] = self._look_up(model)
        if known is None or isinstance(known, Quote):
            return known
        return known(datetime.fromtimestamp(self._wall_clock(), UTC))

    def _look_up(self, model: str) -> Quote | _Dated | None:
        from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - 0.2 s
        from genai_prices.types import ModelPrice  # noqa: PLC0415 - as above

        if self._list_id is None and not self._api_url:
            return None
        try:
            _, listed = get_snapshot().find_provider_model(
                model, None, self._list_id, self._api_url
            )
        except LookupError:
            return None
        if isinstance(listed.prices, ModelPrice):
            return _quote(listed.prices)
        return _dated(listed)


def load_price_list() -> None:
    """Load genai-prices. Run it in a thread at start: it takes 0.1 to 0.4 s."""
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - 0.2 s

    get_snapshot()


def _dated(listed: ListedModel) -> _Dated:
    quotes: dict[int, Quote | None] = {}

    def quote_at(now: datetime) -> Quote | None:
        price = listed.get_prices(now)
        if id(price) not in quotes:  # the list itself lives as long as the process
            quotes[id(price)] = _quote(price)
        return quotes[id(price)]

    return quote_at


def _quote(listed: ModelPrice) -> Quote | None:
    tariff = _tariff(listed)
    return None if tariff is None else Quote(source="list", tariff=tariff)


def _tariff(listed: ModelPrice) -> Tariff | None:
    rates = (
        _Rate.of(listed.input_mtok),
        _Rate.of(listed.output_mtok),
        _Rate.of(listed.cache_read_mtok),
        _Rate.of(listed.cache_write_mtok),
        _Rate.of(getattr(listed, "cache_write_1h_mtok", None)),  # not in older lists
        _Rate.of(getattr(listed, "output_image_mtok", None)),  # not in older lists
    )
    if listed.input_mtok is None:  # sold by the page, the hour, the character
        return None
    starts = sorted({start for rate in rates for start, _ in rate.steps}, reverse=True)
    return Tariff(
        tuple(
            (start, _price(*(rate.above(start) for rate in rates))) for start in starts
        )
    )


@attrs.frozen
class _Rate:
    """USD per million tokens of one kind, by the size of the prompt."""

    steps: tuple[tuple[int, Decimal], ...]
    """The rate above so many input tokens, the lowest first; none: no such rate."""

    @classmethod
    def of(cls, listed: Decimal | TieredPrices | None) -> _Rate:
        match listed:
            case None:
                return cls(())
            case Decimal():
                return cls(((-1, listed),))
            case _:
                tiers = ((tier.start, tier.price) for tier in listed.tiers)
                return cls(((-1, listed.base), *tiers))

    def above(self, start: int) -> Decimal | None:
        passed = [rate for at, rate in self.steps if at <= start]
        return passed[-1] if passed else None


def _price(
    input_rate: Decimal | None,
    output_rate: Decimal | None,
    cached_rate: Decimal | None,
    cache_write_rate: Decimal | None,
    hour_write_rate: Decimal | None,
    image_rate: Decimal | None,
) -> Price:
    return Price.usd_per_mtok(
        input=_in_picodollars(input_rate) or "0",
        output=_in_picodollars(output_rate) or "0",  # embeddings have none
        cached_input=_in_picodollars(cached_rate),
        cache_write=_in_picodollars(cache_write_rate),
        hour_write=_in_picodollars(hour_write_rate),
        image_output=_in_picodollars(image_rate),
    )


def _in_picodollars(rate: Decimal | None) -> str | None:
    # The list holds 0.18000000000000002 where floats have been at work.
    return None if rate is None else f"{rate.quantize(_PICODOLLAR_PER_TOKEN):f}"


_PICODOLLAR_PER_TOKEN: Final = Decimal("0.000001")
