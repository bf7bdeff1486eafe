"""What has become of all attempts of a call, as the one error that its caller gets; pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from duckservice.errors import (
    BudgetExceeded,
    CircuitOpen,
    DuckError,
    ModelNotFound,
    NoAvailableProvider,
    PermissionDenied,
    RequestError,
)

QUOTED_MAX: Final = 200
"""So many characters of each error are quoted where there are several."""


def verdict(errors: Sequence[DuckError]) -> DuckError:
    """Return the error that says what became of all attempts; *errors* are theirs.

    The request's own fault is that of all. Else the only provider's error is told as
    it is; of several all are, each once.
    """
    last = errors[-1]
    if isinstance(last, RequestError) and not _is_of_one_only(errors):
        return last
    for kind in (CircuitOpen, BudgetExceeded):
        if all(isinstance(error, kind) for error in errors):
            return min(errors, key=_how_long)
    if is_dear(last):
        return last
    if len({error.provider for error in errors}) == 1:
        # Not that its breaker has opened meanwhile: what has opened it.
        told = [error for error in errors if not isinstance(error, CircuitOpen)]
        return told[-1]
    return _of_several(errors)


def is_dear(error: DuckError) -> bool:
    """Say whether a budget of all has refused; a cheaper provider may yet fit."""
    return isinstance(error, BudgetExceeded) and error.provider is None


def _is_of_one_only(errors: Sequence[DuckError]) -> bool:
    """Say whether the last is about one provider, and that others failed may pass.

    It lacks the model, or our key for it may not use it.
    """
    last = errors[-1]
    lacks_it = isinstance(last, ModelNotFound | PermissionDenied)
    may_pass = any(error.retryable for error in errors)
    return lacks_it and last.provider is not None and may_pass


def _of_several(errors: Sequence[DuckError]) -> NoAvailableProvider:
    told = dict.fromkeys(map(_quoted, errors))
    waits = [error.retry_after for error in errors if error.retry_after is not None]
    result = NoAvailableProvider(
        f"no provider could serve the request ({'; '.join(told)})",
        retry_after=min(waits, default=None),
    )
    result.quotes_provider = any(error.quotes_provider for error in errors)
    result.__cause__ = ExceptionGroup("every provider failed", list(errors))
    return result


def _quoted(error: DuckError) -> str:
    who, message = error.provider or "duckservice", error.message
    if len(message) > QUOTED_MAX:
        message = message[: QUOTED_MAX - 1] + "…"
    # Most messages begin with the provider's name already.
    message = message.removeprefix(f"{who}: ")
    return f"{who}: {error.code}: {message}"


def _how_long(error: DuckError) -> tuple[bool, float]:
    """Return how long it takes until the same may succeed, for a comparison."""
    wait = error.retry_after
    return not error.retryable, math.inf if wait is None else wait
