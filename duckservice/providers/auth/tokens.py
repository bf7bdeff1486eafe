"""Bearer tokens that expire: kept, renewed in time, and fetched by one for all.

    fresh      it is used
    ageing     one request renews it, the others go on with the old one
    expired    one request fetches a new one, the others wait for it
    refused    it is not used again; a new one is fetched, once: if that is refused
               soon as well, the error is the answer

A renewal that fails while the old token still holds is tried again later.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Final, Protocol, final

import attrs
import trio

from duckservice.errors import DuckError, ProviderAuthError
from duckservice.providers.auth import Again

EARLY: Final = 120.0
"""Seconds before its end at which a token is renewed; a fifth of a short life."""
RETRY: Final = 10.0
"""Seconds between two tries to renew a token that still holds."""
REFUSAL_HOLDS: Final = 5.0
"""Seconds for which a refusal that waiting does not cure is not asked for again."""
RENEWED: Final = 60.0
"""Seconds in which a token that replaces a refused one is not replaced again."""


@attrs.frozen(kw_only=True)
class Token:
    """A token as it was just given."""

    value: str = attrs.field(repr=False)
    lifetime: float
    """Seconds."""


class TokenSource(Protocol):
    """Where tokens come from."""

    async def fetch(self) -> Token:
        """Return a new token; raises `DuckError`, with ``provider`` set."""
        ...


@attrs.frozen(kw_only=True)
class _Held:
    headers: Mapping[str, str] = attrs.field(repr=False)
    since: float
    renew_at: float
    expires_at: float
    replaces_refused: bool


@final
class BearerTokens:
    """The tokens of one source, as `Credentials`."""

    def __init__(
        self,
        source: TokenSource,
        *,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._source = source
        self._clock = clock
        self._lock = trio.Lock()
        self._fetches = 0
        """How many have come to an end."""
        self._held: _Held | None = None
        self._failure: DuckError | None = None
        self._not_before = -math.inf
        """When to ask again after a failure."""
        self._was_refused = False

    def __repr__(self) -> str:
        return f"<BearerTokens of {self._source!r}>"

    async def headers(
        self,
        method: str,  # noqa: ARG002 - a token is not about the request
        url: str,  # noqa: ARG002
        body: bytes,  # noqa: ARG002
    ) -> Mapping[str, str]:
        """Return the header with a token that holds; it may wait for one."""
        held, now = self._held, self._clock()
        if held is not None:
            if now < held.renew_at:
                return held.headers
            busy = self._lock.locked() or now < self._not_before
            if now < held.expires_at and busy:
                return held.headers
        return await self._renewed()

    def refused(self, headers: Mapping[str, str], error: DuckError) -> DuckError:
        """Drop the token, and return `Again`, if a new one may do better."""
        if not isinstance(error, ProviderAuthError) or error.upstream_status == 403:
            return error  # who may not do it may not do it with another token
        held = self._held
        if held is None or held.headers is not headers:
            return Again(error)  # another request has seen to it
        if held.replaces_refused and self._clock() < held.since + RENEWED:
            return error
        self._held, self._was_refused = None, True
        return Again(error)

    async def aclose(self) -> None:
        """Nothing is open."""

    async def _renewed(self) -> Mapping[str, str]:
        before = self._fetches
        async with self._lock:
            held, now = self._held, self._clock()
            if held is not None and now < held.renew_at:
                return held.headers
            failure = self._failure
            if failure is not None and (
                self._fetches != before or now < self._not_before
            ):
                if held is not None and now < held.expires_at:
                    return held.headers
                # One error in many tasks would collect all their tracebacks.
                raise copy.copy(failure)
            return await self._fetched(held)

    async def _fetched(self, held: _Held | None) -> Mapping[str, str]:
        try:
            token = await self._source.fetch()
        except DuckError as error:
            now = self._clock()
            self._fetches += 1
            self._failure = error
            if held is not None and now < held.expires_at:
                self._not_before = now + RETRY
                return held.headers
            self._not_before = now if error.retryable else now + REFUSAL_HOLDS
            raise
        now = self._clock()
        self._fetches += 1
        self._failure = None
        new = self._held = _Held(
            headers={"authorization": f"Bearer {token.value}"},
            since=now,
            renew_at=now + max(token.lifetime - EARLY, token.lifetime * 0.8),
            expires_at=now + token.lifetime,
            replaces_refused=self._was_refused,
        )
        self._was_refused = False
        return new.headers
