"""A vendor's blocking login library, called in a thread, its errors made ours."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Final, TypeVar, final

import attrs
import trio

from duckservice.errors import (
    DuckError,
    ProviderAuthError,
    ProviderError,
    ProviderTimeout,
)
from duckservice.providers.redaction import Redactor
from duckservice.redaction import environment_secrets

T = TypeVar("T")

LIMIT: Final = 60.0
"""Seconds: metadata servers and command lines are slow to say that they are not there."""
MESSAGE_CHARACTERS_MAX: Final = 300


@final
@attrs.define(eq=False, kw_only=True)
class Library:
    """What one provider's credentials call, one call at a time.

    Nobody can end a thread: one that is not waited for any more goes on. It keeps
    its credentials from the next call, so that there is never more than one of it,
    and it takes nothing from other credentials.
    """

    provider: str
    extra: str
    """What to install for it."""
    passing: Callable[[Exception], bool] = lambda _: False
    """Says which of its errors may be retried."""
    _thread: trio.CapacityLimiter = attrs.field(
        factory=lambda: trio.CapacityLimiter(1), init=False, repr=False
    )

    async def call(self, call: Callable[[], T], *, secrets: Iterable[str] = ()) -> T:
        """Return what *call* returns, made in a thread.

        Raises `DuckError`, free of *secrets* and of those that the library finds in
        the environment: without the library one that names the extra to install, and a timeout after `LIMIT` seconds, or at once while an
        earlier call that nobody waits for has not come back.
        """
        if self._thread.borrowed_tokens:
            raise self._timeout(
                "an earlier call of the login library has not come back yet"
            )
        failure: DuckError = self._timeout(
            f"the login library took more than {LIMIT:g} s"
        )
        with trio.move_on_after(LIMIT):
            try:
                return await trio.to_thread.run_sync(
                    call, abandon_on_cancel=True, limiter=self._thread
                )
            except ImportError as error:
                raise self._missing() from error
            except DuckError:
                raise
            except Exception as error:  # noqa: BLE001 - these libraries raise anything
                kind = ProviderError if self.passing(error) else ProviderAuthError
                redact = Redactor(
                    (
                        *secrets,
                        *(its.reveal() for its in environment_secrets(os.environ)),
                    )
                )
                said = " ".join(redact(str(error)).split())
                failure = kind(
                    f"{self.provider} has no token: {type(error).__name__}:"
                    f" {said[:MESSAGE_CHARACTERS_MAX]}",
                    provider=self.provider,
                )
        # Raised here, and not above: what the library's error holds may be secret, so
        # it must not hang on to ours.
        raise failure

    def _timeout(self, why: str) -> ProviderTimeout:
        return ProviderTimeout(
            f"{self.provider} has no token: {why}", provider=self.provider
        )

    def _missing(self) -> ProviderAuthError:
        return ProviderAuthError(
            f"{self.provider} needs a library that is not installed:"
            f" pip install 'duckservice[{self.extra}]'",
            provider=self.provider,
        )
