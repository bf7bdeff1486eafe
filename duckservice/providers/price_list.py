"""Which price list is installed, and up to when it knows prices."""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from importlib.metadata import version
from typing import Final

import attrs

PACKAGE: Final = "genai-prices"


@attrs.frozen(kw_only=True)
class PriceList:
    """The list that prices come from where the config has none."""

    name: str
    version: str
    as_of: date | None
    """The day of the newest change of a price in it that is not still to come: it
    knows none that is later. The list itself has no date."""


@lru_cache(maxsize=1)
def price_list(today: date) -> PriceList:
    """Return what is known of the list. It takes 10 ms, the first time a day."""
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - 0.2 s
    from genai_prices.types import StartDateConstraint  # noqa: PLC0415 - as above

    changes = (
        price.constraint.start_date
        for provider in get_snapshot().providers
        for model in provider.models
        if isinstance(model.prices, list)
        for price in model.prices
        if isinstance(price.constraint, StartDateConstraint)
    )
    return PriceList(
        name=PACKAGE,
        version=version(PACKAGE),
        as_of=max((day for day in changes if day <= today), default=None),
    )
