"""Microsoft Entra's tokens from what the machine is logged in with: azure-identity."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, final

import attrs

from duckservice.providers.auth.library import Library
from duckservice.providers.auth.tokens import Token

SCOPE: Final = "https://cognitiveservices.azure.com/.default"
EXTRA: Final = "azure"


def token_url(tenant_id: str) -> str:
    """Return where the directory *tenant_id* gives tokens."""
    return f"https://login.microsoftonline.com/{tenant_id}/oauth2/v2.0/token"


@final
@attrs.define(eq=False, kw_only=True)
class DefaultEntraTokens:
    """A `TokenSource`: environment, managed identity, ``az login``, and so on."""

    provider: str
    scope: str = SCOPE
    wall_clock: Callable[[], float] = time.time
    make: Callable[[], Any] | None = attrs.field(default=None, repr=False)
    """Makes the library's credential; by default ``DefaultAzureCredential``."""
    _credential: Any = attrs.field(default=None, init=False, repr=False)
    _library: Library = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        """Prepare the calls of the library; nothing is imported yet."""
        self._library = Library(provider=self.provider, extra=EXTRA, passing=_may_pass)

    async def fetch(self) -> Token:
        """Return a new token."""
        return await self._library.call(self._fetch)

    def _fetch(self) -> Token:
        if self._credential is None:
            self._credential = (self.make or _default_credential)()
        given = self._credential.get_token(*self.scope.split())
        lifetime = float(given.expires_on) - self.wall_clock()
        return Token(value=given.token, lifetime=max(lifetime, 1.0))


def _default_credential() -> Any:
    return import_module("azure.identity").DefaultAzureCredential()


def _may_pass(error: Exception) -> bool:
    return "ServiceRequestError" in {kind.__name__ for kind in type(error).__mro__}
