"""Fault plans as plain values: what goes wrong, in which child, and when.

    plan = (Crash("queue", at=Message(3)), Delay("store", 2.0, at=Checkpoint(1)))

A child is named by its path or by a pattern (``"workers/*"``, as `fnmatch` has
it). Each fault happens once. Its number counts from 1 over the whole life of
the path, through all incarnations: a restart does not begin anew. With a
pattern it counts what happens in all children that match, together.

    Checkpoint(n)   the n-th time that the child's own task waits, or lets others run
    Message(n)      the n-th call or cast, before it is handled
    Handled(n)      the n-th call or cast, handled but not answered yet
    n of an init    the n-th start; of a cleanup: the n-th end; of a cast: the n-th cast

Tasks that a child starts are not counted, only its own.
"""

from __future__ import annotations

from typing import Any, TypeAlias, cast

import attrs


class InjectedCrash(Exception):
    """What a child raises that a fault plan has crashed."""


class _Value:
    __slots__ = ()

    def __repr__(self) -> str:
        """Return code that makes the value, without what has its default."""
        words = list[str]()
        for field in attrs.fields(cast("type[attrs.AttrsInstance]", type(self))):
            value = getattr(self, field.name)
            if value == field.default:
                continue
            text = value.__name__ if isinstance(value, type) else repr(value)
            words.append(f"{field.name}={text}" if field.kw_only else text)
        return f"{type(self).__name__}({', '.join(words)})"


def _number() -> Any:
    return attrs.field(validator=attrs.validators.ge(1))


def _nth() -> Any:
    return attrs.field(default=1, kw_only=True, validator=attrs.validators.ge(1))


@attrs.frozen(repr=False)
class Checkpoint(_Value):
    """At the n-th checkpoint of the child's task."""

    n: int = _number()


@attrs.frozen(repr=False)
class Message(_Value):
    """When the actor is about to handle its n-th message."""

    n: int = _number()


@attrs.frozen(repr=False)
class Handled(_Value):
    """When the actor has handled its n-th message, and not answered it yet."""

    n: int = _number()


Point: TypeAlias = Checkpoint | Message | Handled


@attrs.frozen(repr=False)
class Crash(_Value):
    """The child raises; at a checkpoint its wait is cancelled first, as trio does it."""

    child: str
    at: Point = attrs.field(kw_only=True)
    error: type[Exception] = attrs.field(default=InjectedCrash, kw_only=True)
    """Made with one argument, a text that says where."""


@attrs.frozen(repr=False)
class Cancel(_Value):
    """The child is killed: cancelled without having been asked to stop."""

    child: str
    at: Checkpoint | Message = attrs.field(kw_only=True)


@attrs.frozen(repr=False)
class Stall(_Value):
    """The child goes on no more, until it is cancelled."""

    child: str
    at: Checkpoint | Message = attrs.field(kw_only=True)


@attrs.frozen(repr=False)
class Delay(_Value):
    """The child goes on *seconds* later: its checkpoint is over, it has not noticed yet."""

    child: str
    seconds: float = attrs.field(validator=attrs.validators.ge(0))
    at: Checkpoint | Message = attrs.field(kw_only=True)


@attrs.frozen(repr=False)
class FailInit(_Value):
    """The n-th start of the child raises, and its body does not run."""

    child: str
    n: int = _nth()
    error: type[Exception] = attrs.field(default=InjectedCrash, kw_only=True)


@attrs.frozen(repr=False)
class HangInit(_Value):
    """The n-th start of the child hangs until it is cancelled."""

    child: str
    n: int = _nth()


@attrs.frozen(repr=False)
class FailCleanup(_Value):
    """The child raises at its n-th end, after its own cleanup."""

    child: str
    n: int = _nth()
    error: type[Exception] = attrs.field(default=InjectedCrash, kw_only=True)


@attrs.frozen(repr=False)
class HangCleanup(_Value):
    """The child hangs at its n-th end, after its own cleanup.

    Until it is cancelled, or for *seconds*. With *shield* no cancellation
    reaches it, so it needs a time: nothing else would ever end it.
    """

    child: str
    n: int = _nth()
    shield: bool = attrs.field(default=False, kw_only=True)
    seconds: float | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if self.shield and self.seconds is None:
            msg = "HangCleanup(shield=True) needs seconds=: nothing else would end it"
            raise ValueError(msg)


@attrs.frozen(repr=False)
class DuplicateCast(_Value):
    """The n-th cast that the actor takes is handled twice; calls never are."""

    child: str
    n: int = _nth()


@attrs.frozen(repr=False)
class Kill(_Value):
    """The whole operating system process ends, as by SIGKILL; only in `forked`."""

    child: str
    at: Point = attrs.field(kw_only=True)


Fault: TypeAlias = (
    Crash
    | Cancel
    | Stall
    | Delay
    | FailInit
    | HangInit
    | FailCleanup
    | HangCleanup
    | DuplicateCast
    | Kill
)
FaultPlan: TypeAlias = tuple[Fault, ...]
