"""What is in an exception group that must not stay hidden there."""

from __future__ import annotations

from typing import cast

import trio


def is_cancelled(error: BaseException) -> bool:
    """Say whether trio waits for *error*, or for a part of it."""
    return any(isinstance(leaf, trio.Cancelled) for leaf in _leaves(error))


def control_flow_in(error: BaseException) -> BaseException:
    """Return what is no error in *error*: Ctrl-C, or one of Hypothesis' signals.

    If there is nothing such, return *error* itself.
    """
    if isinstance(error, Exception):
        return error
    leaves = _leaves(error)
    return next(leaf for leaf in leaves if not isinstance(leaf, Exception))


def only_error_in(error: BaseException) -> BaseException:
    """Return the error that is alone in groups of one: from nurseries of ours."""
    inner = _inner(error)
    while len(inner) == 1:
        error = inner[0]
        inner = _inner(error)
    return control_flow_in(error)


def _inner(error: BaseException) -> tuple[BaseException, ...]:
    if not isinstance(error, BaseExceptionGroup):
        return ()
    return cast("BaseExceptionGroup[BaseException]", error).exceptions


def _leaves(error: BaseException) -> list[BaseException]:
    inner = _inner(error)
    if not inner:
        return [error]
    return [leaf for part in inner for leaf in _leaves(part)]
