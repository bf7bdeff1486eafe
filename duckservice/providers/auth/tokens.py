"""Bearer tokens that expire, renewed in time, as `Renewal` says.

A token that is refused is not used again; a new one is fetched, once: if that is
refused soon as well, the error is the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol, final

import attrs
import trio

from duckservice.errors import DuckError, ProviderAuthError
from duckservice.providers.auth import Again
from duckservice.providers.auth.renewal import Renewal

EARLY: Final = 120.0
"""Seconds before its end at which a token is renewed; a fifth of a short life."""
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
        self.source: Final = source
        """Where tokens come from."""
        self._clock = clock
        self._held: _Held | None = None
        self._was_refused = False
        self._renewal = Renewal(
            fresh=self._fresh, valid=self._valid, fetch=self._fetch, clock=clock
        )

    def __repr__(self) -> str:
        return f"<BearerTokens of {self.source!r}>"

    async def headers(
        self,
        method: str,  # noqa: ARG002 - a token is not about the request
        url: str,  # noqa: ARG002
        body: bytes,  # noqa: ARG002
    ) -> Mapping[str, str]:
        """Return the header with a token that holds; it may wait for one."""
        return await self._renewal.get()

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

    def _fresh(self) -> Mapping[str, str] | None:
        held = self._held
        if held is None or self._clock() >= held.renew_at:
            return None
        return held.headers

    def _valid(self) -> Mapping[str, str] | None:
        held = self._held
        if held is None or self._clock() >= held.expires_at:
            return None
        return held.headers

    async def _fetch(self) -> Mapping[str, str]:
        token = await self.source.fetch()
        now = self._clock()
        new = self._held = _Held(
            headers={"authorization": f"Bearer {token.value}"},
            since=now,
            renew_at=now + max(token.lifetime - EARLY, token.lifetime * 0.8),
            expires_at=now + token.lifetime,
            replaces_refused=self._was_refused,
        )
        self._was_refused = False
        return new.headers
