"""What a provider's response headers say of its rate limits: plain values."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class RateHints:
    """The limits, what is left of them, and when they are full again.

    None is what the provider did not say. Counts are whole numbers; a reset is in
    seconds from the moment at which the headers came. Nothing here is checked: it
    comes off the wire, and who learns from it decides what to believe.

    Some providers count input and output tokens apart; their hints are in fields of
    their own, beside those for tokens of both kinds.
    """

    requests_limit: int | None = None
    requests_remaining: int | None = None
    requests_reset: float | None = None
    tokens_limit: int | None = None
    tokens_remaining: int | None = None
    tokens_reset: float | None = None
    input_tokens_limit: int | None = None
    input_tokens_remaining: int | None = None
    input_tokens_reset: float | None = None
    output_tokens_limit: int | None = None
    output_tokens_remaining: int | None = None
    output_tokens_reset: float | None = None

    def __bool__(self) -> bool:
        """Say whether the provider has said anything at all."""
        return self != _NOTHING


_NOTHING = RateHints()
