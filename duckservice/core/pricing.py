"""Money, exactly: whole picodollars (1e-12 USD), and what a request costs in them.

One USD per million tokens is a million picodollars per token, so every price that
providers publish is a whole number, and sums of costs are exact. A model without
a price has none: it is never priced as another.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

import attrs
from attrs.validators import ge, optional

from duckservice.completion import Usage

PICO_PER_USD = 10**12
AMOUNT_MAX = 2**63 - 1
"""More than nine million USD: what has cost more is no price, and fits no database."""
_PICO_PER_TOKEN = 10**6
"""At a price of one USD per million tokens."""
_DIGITS_MAX = 40


@attrs.frozen(kw_only=True)
class Price:
    """What a model costs, in picodollars per token."""

    input: int = attrs.field(validator=ge(0))
    output: int = attrs.field(validator=ge(0))
    cached_input: int | None = attrs.field(default=None, validator=optional(ge(0)))
    """Of tokens read from the provider's cache; as ``input`` where None."""
    cache_write: int | None = attrs.field(default=None, validator=optional(ge(0)))
    """Of tokens written to the provider's cache; as ``input`` where None."""
    hour_write: int | None = attrs.field(default=None, validator=optional(ge(0)))
    """Of those written to be kept for an hour; as ``cache_write`` where None."""
    image_output: int | None = attrs.field(default=None, validator=optional(ge(0)))
    """Of tokens that are pictures; as ``output`` where None."""

    @classmethod
    def usd_per_mtok(
        cls,
        *,
        input: str,  # noqa: A002 - the word of the config and of every price list
        output: str,
        cached_input: str | None = None,
        cache_write: str | None = None,
        hour_write: str | None = None,
        image_output: str | None = None,
    ) -> Price:
        """Return the price from decimal strings, in USD per million tokens.

        Raises:
            ValueError: one is negative, no number, or finer than a picodollar.
        """
        return cls(
            input=_scaled(input, _PICO_PER_TOKEN),
            output=_scaled(output, _PICO_PER_TOKEN),
            cached_input=_scaled_if_given(cached_input),
            cache_write=_scaled_if_given(cache_write),
            hour_write=_scaled_if_given(hour_write),
            image_output=_scaled_if_given(image_output),
        )


def cost(usage: Usage, price: Price) -> int:
    """Return what *usage* costs, in picodollars; never negative.

    Where the provider says how many tokens it charges, these are what is priced.
    Parts that exceed their whole (providers do report such) are cut to it.
    """
    # Called for each attempt of each request, and by whoever compares prices: `max`
    # and `min` would take three times as long as all the rest.
    tokens, reply = usage.input_tokens, usage.output_tokens
    charged = usage.billed_input_tokens
    if charged is not None:
        tokens = charged
    if usage.billed_output_tokens is not None:
        reply = usage.billed_output_tokens
    if tokens < 0:
        tokens = 0
    if reply < 0:
        reply = 0
    total = tokens * price.input + reply * price.output
    if charged is None and (usage.cached_tokens > 0 or usage.cache_write_tokens > 0):
        total += _more_for_cache(usage, tokens, price)
    if usage.image_tokens > 0:
        drawn = min(usage.image_tokens, reply)
        total += drawn * (_or_output(price.image_output, price) - price.output)
    return total


def _more_for_cache(usage: Usage, tokens: int, price: Price) -> int:
    """Return what the cached of the *tokens* cost more than others, or less: below 0."""
    more = 0
    cached = usage.cached_tokens
    if cached < 0:
        cached = 0
    elif cached > tokens:
        cached = tokens
    if price.cached_input is not None:
        more = cached * (price.cached_input - price.input)
    if usage.cache_write_tokens > 0 and price.cache_write is not None:
        written = min(usage.cache_write_tokens, tokens - cached)
        more += written * (price.cache_write - price.input)
        if usage.hour_write_tokens > 0 and price.hour_write is not None:
            kept = min(usage.hour_write_tokens, written)
            more += kept * (price.hour_write - price.cache_write)
    return more


def believable(amount: int | None) -> int | None:
    """Return what something has cost; None, not known, if it is beyond `AMOUNT_MAX`."""
    return None if amount is None or amount > AMOUNT_MAX else amount


def pico(usd: str) -> int:
    """Return an amount in USD, as a decimal string, in picodollars.

    Raises:
        ValueError: it is negative, no number, or finer than a picodollar.
    """
    return _scaled(usd, PICO_PER_USD)


def usd(amount: int) -> str:
    """Return picodollars as an exact decimal string in USD, without an exponent."""
    whole, part = divmod(abs(amount), PICO_PER_USD)
    sign = "-" if amount < 0 else ""
    return f"{sign}{whole}.{part:012d}".rstrip("0").rstrip(".")


def _or_output(price_per_token: int | None, price: Price) -> int:
    return price.output if price_per_token is None else price_per_token


def _scaled_if_given(text: str | None) -> int | None:
    return None if text is None else _scaled(text, _PICO_PER_TOKEN)


def _scaled(text: str, scale: int) -> int:
    numerator, denominator = _decimal(text).as_integer_ratio()
    amount, rest = divmod(numerator * scale, denominator)
    if rest:
        msg = f"{text!r} is finer than a picodollar"
        raise ValueError(msg)
    return amount


def _decimal(text: str) -> Decimal:
    try:
        value = Decimal(text) if len(text) <= _DIGITS_MAX else Decimal("NaN")
    except InvalidOperation:
        value = Decimal("NaN")
    # The exponent is bounded because 1e999999999 would fill the memory.
    if not value.is_finite() or value < 0 or abs(value.adjusted()) > _DIGITS_MAX:
        msg = f"{text[:_DIGITS_MAX]!r} is not an amount of money"
        raise ValueError(msg)
    return value
