"""What a rate limiter is told and what it answers: plain values, and the grant."""

from __future__ import annotations

from typing import TypeAlias

import attrs
from attrs.validators import ge, gt, optional

from duckservice.core.allowance import Holding
from duckservice.core.cooldown import GUESS_MAX
from duckservice.core.token_bucket import Never
from duckservice.core.told_group import Cost
from duckservice.core.waiting_line import PATIENCE

ANY_KEY = -1
"""In place of a key's number: whichever, or the only one."""


@attrs.frozen(kw_only=True)
class Limits:
    """What one provider allows; what is None is not limited."""

    capacity: int | None = None
    """Requests that the token bucket holds; goes with ``refill_rate``."""
    refill_rate: float | None = None
    """Requests per second."""
    requests_per_minute: int | None = attrs.field(
        default=None, validator=optional(ge(1))
    )
    tokens_per_minute: int | None = attrs.field(default=None, validator=optional(ge(1)))
    keys: int = attrs.field(default=0, validator=ge(0))
    """How many there are."""
    key_requests_per_minute: int | None = attrs.field(
        default=None, validator=optional(ge(1))
    )
    """With each of the keys."""
    key_tokens_per_minute: int | None = attrs.field(
        default=None, validator=optional(ge(1))
    )
    guard: float = attrs.field(default=0.5, validator=ge(0))
    """Seconds by which our minute is longer than the provider's: requests that we
    send a minute apart may arrive closer together than that."""
    waiting_max: int = attrs.field(default=1000, validator=ge(0))
    aging: float = attrs.field(default=30.0, validator=gt(0))
    """Seconds after which a waiter rises by one class."""
    patience: float = attrs.field(default=PATIENCE, validator=ge(0))
    """Seconds after which who has set no deadline counts as due."""
    guess_max: float = attrs.field(default=GUESS_MAX, validator=ge(0))
    """No pause after a 429 that names no time is longer (seconds)."""

    def __attrs_post_init__(self) -> None:
        if (self.capacity is None) != (self.refill_rate is None):
            msg = "capacity and refill_rate go together"
            raise ValueError(msg)


@attrs.define(eq=False)
class Grant:
    """The leave to send one request now; end it with `settle` or `give_back`, once."""

    tokens: int
    """So many were reserved."""
    key: int = ANY_KEY
    """The key to send it with, by its place in the config; `ANY_KEY`: the sender's
    choice, as neither the config nor the provider has told limits of keys."""
    number: int = 0
    """Later grants have higher ones."""
    at: float = 0.0
    model: str = ""
    """What the request is for: what its answer tells of limits is about that."""
    settled: bool = False
    whole: Holding | None = attrs.field(default=None, repr=False)
    """What was taken of the provider's limits."""
    of_key: Holding | None = attrs.field(default=None, repr=False)
    key_held: int = attrs.field(default=ANY_KEY, repr=False)
    """The key whose limits hold it, told or not."""
    layout: int = attrs.field(default=0, repr=False)
    """Of the keys, when it was given."""


@attrs.frozen
class Waits:
    """Not now; a grant will come from `due`, or `remove` ends it."""


@attrs.frozen
class LineFull:
    """Too many wait already; this one does not."""

    waiting_max: int


@attrs.frozen
class Late:
    """No grant will come before the deadline; one would have come about then."""

    ready_at: float


Acquired: TypeAlias = Grant | Waits | LineFull | Never | Late


@attrs.frozen(kw_only=True)
class KeyStatistics:
    """What is left of the limits of one key; None is unlimited."""

    requests_available: int | None
    tokens_available: int | None
    rests_until: float | None
    """Until then it is not granted; None: it may be."""


@attrs.frozen(kw_only=True)
class ModelStatistics:
    """What the provider has told of one model; None is unlimited, or not told.

    Models whose limits look the same have one count, which is shown for each.
    """

    model: str
    requests_limit: int | None
    tokens_limit: int | None
    requests_available: int | None
    tokens_available: int | None


@attrs.frozen(kw_only=True)
class LimiterStatistics:
    """What the dashboard shows of a limiter; None is unlimited."""

    waiting: int
    blocked_until: float | None
    requests_available: int | None
    tokens_available: int | None
    keys: tuple[KeyStatistics, ...] = ()
    """Empty where there are not several."""
    told: tuple[ModelStatistics, ...] = ()
    """Of each model of which the provider has told something, by name."""


def cost_of(tokens: int, input_tokens: int) -> Cost:
    """Return what one request costs."""
    assert tokens >= 0, "a negative number of tokens would make room"
    read = max(0, min(input_tokens, tokens))
    return 1, tokens, read, tokens - read
