"""A vendor's blocking login library, called in a thread, its errors made ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeVar

import trio

from duckservice.errors import (
    DuckError,
    ProviderAuthError,
    ProviderError,
    ProviderTimeout,
)
from duckservice.providers.redaction import Redactor

T = TypeVar("T")

LIMIT: Final = 60.0
"""Seconds: metadata servers and command lines are slow to say that they are not there."""
MESSAGE_CHARACTERS_MAX: Final = 300

# Of their own, so that a library that hangs takes no thread from anything else.
_THREADS: Final = trio.CapacityLimiter(4)


async def call_library(
    provider: str,
    call: Callable[[], T],
    *,
    extra: str,
    secrets: Iterable[str] = (),
    passing: Callable[[Exception], bool] = lambda _: False,
) -> T:
    """Return what *call* returns, made in a thread.

    Raises `DuckError`, free of *secrets*: without the library one that names the
    *extra* to install, after `LIMIT` seconds a timeout, and for what *passing*
    says of one that may be retried.
    """
    failure: DuckError = ProviderTimeout(
        f"{provider} has no token: the login library took more than {LIMIT:g} s",
        provider=provider,
    )
    with trio.move_on_after(LIMIT):
        try:
            return await trio.to_thread.run_sync(
                call, abandon_on_cancel=True, limiter=_THREADS
            )
        except ImportError as error:
            raise missing(provider, extra) from error
        except DuckError:
            raise
        except Exception as error:  # noqa: BLE001 - these libraries raise anything
            kind = ProviderError if passing(error) else ProviderAuthError
            said = " ".join(Redactor(secrets)(str(error)).split())
            failure = kind(
                f"{provider} has no token: {type(error).__name__}:"
                f" {said[:MESSAGE_CHARACTERS_MAX]}",
                provider=provider,
            )
    # Raised here, and not above: what the library's error holds may be secret, so
    # it must not hang on to ours.
    raise failure


def missing(provider: str, extra: str) -> ProviderAuthError:
    """Return the error for a login that needs what is not installed."""
    return ProviderAuthError(
        f"{provider} needs a library that is not installed:"
        f" pip install 'duckservice[{extra}]'",
        provider=provider,
    )
