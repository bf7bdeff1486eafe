"""Static keys, one or several: which one the next request takes.

A request takes the key whose last refusal is the longest ago, and stays with it
until it is refused in turn: so a provider's prompt cache, which is a key's or its
organisation's, is of use, and rate limits are used up one after the other.

    what a request with the key met            how long the key is set aside
    429                                        as long as it asks; else 10 s
    no money, no quota, nothing more this day  10 minutes
    the key is refused (400, 401)              10 minutes
    it may not do this (403)                   1 minute: it may do other things

Where all are set aside, the one is taken whose time ends first: we may be wrong,
and the provider has the last word.

All this is so where no limits of single keys are known. Where they are, the rate
limiter grants a key with each attempt: that one is sent whatever has become of it, and
no other takes its place. The limiter is told of every key that has to rest, and grants
another the next time (`request_context`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, final

import attrs
import structlog
import trio

from duckservice.config import Secret
from duckservice.core.grants import ANY_KEY
from duckservice.errors import (
    DuckError,
    ProviderAuthError,
    QuotaExceeded,
    RateLimited,
)
from duckservice.providers.auth import Again
from duckservice.providers.auth.key_state import KeyState, KeyTrouble
from duckservice.providers.endpoint import check_header
from duckservice.providers.request_context import KeyRest, current_sending
from duckservice.redaction import masked

LIMITED: Final = 10.0
"""Seconds that a key rests after a 429 that names no time."""
LIMITED_MAX: Final = 3600.0
"""What asks for more is asked again after this; 86,400 s were seen."""
REFUSED: Final = 600.0
FORBIDDEN: Final = 60.0
_LIMITED_MIN: Final = 1.0

log = structlog.get_logger()


@final
class OtherKey(RateLimited):
    """The granted key was limited or refused, and another one is free.

    The provider has done nothing, so asking it again at once, with a new grant, needs
    no pause. `__cause__` is what the key has met.
    """

    def __init__(self, refusal: DuckError) -> None:
        super().__init__(
            f"a key was refused, and another one is free: {refusal.message}",
            provider=refusal.provider,
            retry_after=0.0,
        )
        self.is_limited = isinstance(refusal, RateLimited) and refusal.retryable
        self.upstream_status = refusal.upstream_status
        self.quotes_provider = refusal.quotes_provider
        self.__cause__ = refusal


@attrs.define(eq=False, kw_only=True)
class _Key:
    shown: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    trouble: KeyTrouble = "limited"
    refused_at: float = -math.inf
    until: float = -math.inf

    def set_aside(self, trouble: KeyTrouble, now: float, pause: float) -> None:
        if self.until <= now:
            self.trouble = trouble
        self.refused_at = now
        self.until = max(self.until, now + pause)


@final
class Keys:
    """The keys of one provider, as `Credentials`."""

    def __init__(
        self,
        provider: str,
        keys: Sequence[Secret],
        *,
        header: str = "authorization",
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        """Take *keys*, at least one, the first to be used first.

        *header* carries them: with ``Bearer`` in front in ``authorization``, bare in
        any other. Raises `ValueError` for a key that no header can carry.
        """
        assert keys, "without a key there is nothing to send"
        self._provider = provider
        self._clock = clock
        self._keys = tuple(_key(header, key.reveal()) for key in keys)

    def __repr__(self) -> str:
        return f"<Keys of {self._provider}: {', '.join(k.shown for k in self._keys)}>"

    def after(self, old: Keys) -> Keys:
        """Return these keys, with what *old* knows of them; neither is changed.

        It is *old* itself where it has the same keys in the same order. Else a key that
        stays is one and the same in both, wherever it stands: what a request under
        way still meets with it in *old* is known here too. A new one begins as ok.
        """
        known = tuple(old._same(key) or key for key in self._keys)
        if known == old._keys and self._provider == old._provider:
            return old
        its = copy.copy(self)
        its._keys = known  # noqa: SLF001 - of our own class
        return its

    async def headers(
        self,
        method: str,  # noqa: ARG002 - a key is not about the request
        url: str,  # noqa: ARG002
        body: bytes,  # noqa: ARG002
    ) -> Mapping[str, str]:
        """Return the header with the key that this request takes."""
        if len(self._keys) == 1:
            return self._keys[0].headers
        sending = current_sending()
        # A reload may have left fewer keys than there were when it was granted.
        if sending is not None and 0 <= sending.key < len(self._keys):
            return self._keys[sending.key].headers
        now = self._clock()
        healthy = [key for key in self._keys if key.until <= now]
        if healthy:
            return min(healthy, key=lambda key: key.refused_at).headers
        return min(self._keys, key=lambda key: key.until).headers

    def refused(self, headers: Mapping[str, str], error: DuckError) -> DuckError:
        """Set the key aside; return `Again` if there is another one to try now."""
        met = _trouble(error)
        place = self._place(headers)
        if met is None or place is None:
            return error
        key = self._keys[place]
        trouble, pause = met
        now = self._clock()
        if key.until <= now:
            log.warning(
                "provider.key_set_aside",
                provider=self._provider,
                key=key.shown,
                why=trouble,
                for_s=round(pause, 3),
            )
        key.set_aside(trouble, now, pause)
        others = [other for other in self._keys if other is not key]
        is_free = any(other.until <= now for other in others)
        sending = current_sending()
        if sending is not None and others:
            limited = trouble == "limited"
            asked = error.retry_after if limited else pause
            sending.on_rest(KeyRest(place, asked, is_limited=limited))
        if is_free:
            is_granted = sending is not None and sending.key == place
            return OtherKey(error) if is_granted else Again(error)
        return self._none_left(error, others, now)

    def index(self, headers: Mapping[str, str] | None) -> int:
        """Return which of several keys *headers* carry, from 0; `ANY_KEY`: the only one."""
        place = None if len(self._keys) == 1 else self._place(headers)
        return ANY_KEY if place is None else place

    def states(self) -> tuple[KeyState, ...]:
        """Return how each key is."""
        now = self._clock()
        return tuple(
            KeyState(key=key.shown, state="ok")
            if key.until <= now
            else KeyState(key=key.shown, state=key.trouble, wait=key.until - now)
            for key in self._keys
        )

    async def aclose(self) -> None:
        """Nothing is open."""

    def _place(self, headers: Mapping[str, str] | None) -> int | None:
        places = enumerate(self._keys)
        return next((n for n, key in places if key.headers is headers), None)

    def _same(self, other: _Key) -> _Key | None:
        return next((key for key in self._keys if key.headers == other.headers), None)

    def _none_left(
        self, error: DuckError, others: Sequence[_Key], now: float
    ) -> DuckError:
        """Return what *error* of one key means while all *others* are set aside too.

        If one of them is only limited, waiting for it helps, whatever this one met.
        """
        waits = [key.until - now for key in others if key.trouble == "limited"]
        if not waits:
            return error
        soonest = min(waits)
        own = error.retry_after
        if isinstance(error, RateLimited) and (own is None or own <= soonest):
            return error
        limited = RateLimited(
            f"{self._provider} takes none of its {len(self._keys)} keys now; one of"
            f" them is limited for {soonest:.0f} s more",
            provider=self._provider,
            retry_after=soonest,
        )
        limited.upstream_status = error.upstream_status
        limited.__cause__ = error
        return limited


def _key(header: str, key: str) -> _Key:
    value = f"Bearer {key}" if header == "authorization" else key
    check_header(header, value)
    return _Key(shown=masked(key), headers={header: value})


def _trouble(error: DuckError) -> tuple[KeyTrouble, float] | None:
    """Return what *error* says about the key, and for how long; None: nothing."""
    match error:
        case RateLimited(retryable=True, retry_after=None):
            return "limited", LIMITED
        case RateLimited(retryable=True, retry_after=float() | int() as asked):
            return "limited", min(max(asked, _LIMITED_MIN), LIMITED_MAX)
        case RateLimited():
            # Too large for any key of this kind, or no more until tomorrow.
            used_up = "per day" in error.message.lower()
            return ("used_up", REFUSED) if used_up else None
        case QuotaExceeded():
            return "used_up", REFUSED
        case ProviderAuthError(upstream_status=403):
            return "forbidden", FORBIDDEN
        case ProviderAuthError():
            return "refused", REFUSED
        case _:
            return None
