"""Whether a request that failed may have been accepted, and will be paid for."""

from __future__ import annotations

import httpx

from duckservice.errors import (
    BadProviderResponse,
    DuckError,
    ProviderTimeout,
    Unavailable,
)

_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout)


def may_be_accepted(error: DuckError) -> bool:
    """Say whether what failed with *error* may be worked on, or done, all the same.

    Not where no connection stood, nor where the provider itself has said that it
    failed: only where it was asked and nobody knows what it has made of it.
    """
    cause = error.__cause__
    if error.never_sent or isinstance(cause, _NEVER_SENT):
        return False
    unclear = isinstance(error, BadProviderResponse | ProviderTimeout | Unavailable)
    return unclear or isinstance(cause, httpx.TransportError)
