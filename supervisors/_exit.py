"""How a child ended, as a value (pure)."""

from __future__ import annotations

from typing import TypeAlias, cast

import attrs
import trio

from supervisors._errors import CleanExit


@attrs.frozen
class Normal:
    """It returned."""


@attrs.frozen
class ShutDown:
    """It was asked to stop and did, or ended itself by `CleanExit`."""

    reason: object = None


@attrs.frozen
class Crashed:
    """It raised."""

    error: BaseException


@attrs.frozen
class Killed:
    """It was cancelled without being asked first, or did not stop in its time."""


Exit: TypeAlias = Normal | ShutDown | Crashed | Killed


def exit_of(error: BaseException | None) -> Exit:
    """Return how a task ended that raised *error*, or returned if it is None."""
    match _single(error):
        case None:
            return Normal()
        case CleanExit(reason=reason):
            return ShutDown(reason)
        case trio.Cancelled():
            return Killed()
        case cause:
            return Crashed(cause)


def is_clean(exit_: Exit) -> bool:
    """Say whether a transient child that ended so stays down."""
    return isinstance(exit_, Normal | ShutDown)


def cause_of(exit_: Exit) -> BaseException | None:
    """Return the exception behind a crash, None for any other end."""
    return exit_.error if isinstance(exit_, Crashed) else None


def _single(error: BaseException | None) -> BaseException | None:
    """Unwrap groups of one; what was merely cancelled beside a crash drops out."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    group = cast("BaseExceptionGroup[BaseException]", error)
    leaves = _leaves(group)
    crashes = [leaf for leaf in leaves if not isinstance(leaf, trio.Cancelled)]
    if not crashes:
        return leaves[0]
    return crashes[0] if len(crashes) == 1 else group


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves = list[BaseException]()
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            leaves += _leaves(cast("BaseExceptionGroup[BaseException]", error))
        else:
            leaves.append(error)
    return leaves
