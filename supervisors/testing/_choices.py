"""Which faults can hit a child: by kind, and by what the child has done (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeAlias

import attrs

from supervisors.testing._faults import (
    Cancel,
    Checkpoint,
    Crash,
    Delay,
    DuplicateCast,
    FailCleanup,
    FailInit,
    Fault,
    Handled,
    HangCleanup,
    HangInit,
    Message,
    Point,
    Stall,
)


@attrs.frozen(kw_only=True)
class Counts:
    """What one child has done so far, in all its incarnations."""

    checkpoints: int = 0
    messages: int = 0
    casts: int = 0
    starts: int = 0
    ends: int = 0
    is_supervisor: bool = False
    """Then it does not hang by itself: its loop is this library's."""


FaultKind: TypeAlias = type[
    Crash
    | Delay
    | Cancel
    | DuplicateCast
    | FailInit
    | FailCleanup
    | Stall
    | HangInit
    | HangCleanup
]

#: What is tried if nothing else is said, the simplest first: what every tree
#: should bear.
DEFAULT_KINDS: Sequence[FaultKind] = (Crash, Delay, Cancel, FailInit, FailCleanup)

#: With what only some promise to bear: casts that come twice, and children that
#: hang, which needs time limits around every start, call and stop. Not `Kill`:
#: that needs `forked`, and a judge outside.
ALL_KINDS: Sequence[FaultKind] = (
    *DEFAULT_KINDS,
    DuplicateCast,
    Stall,
    HangInit,
    HangCleanup,
)

_HANGING = (Stall, HangInit, HangCleanup)

#: How long a `Delay` is: about a step of a program, or longer than most time limits.
DELAYS = (1.0, 60.0)


@attrs.frozen
class Choice:
    """One fault for each number from 1 to *last*."""

    make: Callable[[int], Fault]
    last: int

    def all(self) -> Iterator[Fault]:
        """Return them, the earliest first."""
        return (self.make(n) for n in range(1, self.last + 1))


def choices(kind: FaultKind, path: str, counts: Counts) -> list[Choice]:
    """Return what faults of *kind* can hit a child, the simplest first."""
    if counts.is_supervisor and kind in _HANGING:
        return []
    found = list[Choice]()
    if kind is Crash or kind is Cancel or kind is Stall:
        found += _at_points(kind, path, counts)
    if kind is Crash:
        found.append(Choice(_at(partial(Crash, path), Handled), counts.messages))
    if kind is Delay:
        for seconds in DELAYS:
            found += _at_points(partial(Delay, seconds=seconds), path, counts)
    if kind is DuplicateCast:
        found.append(Choice(lambda n: DuplicateCast(path, n=n), counts.casts))
    if kind is FailInit or kind is HangInit:
        found.append(Choice(lambda n: kind(path, n=n), counts.starts))
    if kind is FailCleanup or kind is HangCleanup:
        found.append(Choice(lambda n: kind(path, n=n), counts.ends))
    return [choice for choice in found if choice.last]


def _at_points(
    make: Callable[..., Fault], path: str, counts: Counts
) -> tuple[Choice, Choice]:
    return (
        Choice(_at(partial(make, path), Message), counts.messages),
        Choice(_at(partial(make, path), Checkpoint), counts.checkpoints),
    )


def _at(make: Callable[..., Fault], point: type[Point]) -> Callable[[int], Fault]:
    return lambda n: make(at=point(n))
