"""OAuth 2: tokens for the client itself, or for a user who has given a refresh token."""

from __future__ import annotations

from typing import final

import attrs

from duckservice.config import Secret
from duckservice.providers.auth.token_endpoint import TokenEndpoint
from duckservice.providers.auth.tokens import Token


@final
@attrs.define(eq=False, kw_only=True)
class ClientCredentials:
    """A `TokenSource`: the client asks in its own name (RFC 6749, 4.4)."""

    endpoint: TokenEndpoint
    client_id: str
    client_secret: Secret
    scope: str = ""
    audience: str = ""

    async def fetch(self) -> Token:
        """Return a new token."""
        form = {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "client_secret": self.client_secret.reveal(),
            "scope": self.scope,
            "audience": self.audience,
        }
        given = await self.endpoint.exchange({k: v for k, v in form.items() if v})
        return given.token


@final
@attrs.define(eq=False, kw_only=True)
class RefreshToken:
    """A `TokenSource`: the client asks in the name of a user (RFC 6749, 6).

    Where the endpoint gives another refresh token, that is used from then on, as
    long as this process lives.
    """

    endpoint: TokenEndpoint
    client_id: str
    client_secret: Secret | None
    refresh_token: Secret
    scope: str = ""

    async def fetch(self) -> Token:
        """Return a new token."""
        secret = self.client_secret
        form = {
            "grant_type": "refresh_token",
            "refresh_token": self.refresh_token.reveal(),
            "client_id": self.client_id,
            "client_secret": "" if secret is None else secret.reveal(),
            "scope": self.scope,
        }
        given = await self.endpoint.exchange({k: v for k, v in form.items() if v})
        if given.refresh_token is not None:
            self.go_on_with(Secret(given.refresh_token))
        return given.token

    def go_on_with(self, refresh_token: Secret) -> None:
        """Use *refresh_token* from now on."""
        self.endpoint.mask(refresh_token.reveal())
        self.refresh_token = refresh_token
