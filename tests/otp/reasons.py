"""OTP's exit reasons as exceptions of a child, and ends of this library as reasons."""

from __future__ import annotations

from typing import Any

import attrs
import trio

from supervisors import (
    CleanExit,
    Crashed,
    Exit,
    Ignore,
    Killed,
    Normal,
    ShutDown,
    StartFailed,
)


class Crash(Exception):
    """``{crash, Tag}``."""


class Raised(Exception):
    """An exception inside init."""


class BadSpec(Exception):
    """The library refused a value; the argument says which, in OTP's words."""


@attrs.frozen
class NormalAfterAll:
    """The reason of a child that was asked to stop and ended ``normal``.

    A child's return after a stop is ``shutdown`` here; with `CleanExit` it may
    give any other reason.
    """


def end_with(reason: Any) -> None:
    """Raise what ends a child with *reason*; return for ``normal``."""
    match reason:
        case "normal":
            return
        case "shutdown":
            raise CleanExit
        case ["shutdown", tag]:
            raise CleanExit(tag)
        case ["crash", tag]:
            raise Crash(tag)
        case _:
            raise AssertionError(reason)


def reason_of(end: Exit) -> Any:
    """Return the reason that OTP would give."""
    match end:
        case Normal() | ShutDown(NormalAfterAll()):
            return "normal"
        case ShutDown(None):
            return "shutdown"
        case ShutDown(tag):
            return ["shutdown", tag]
        case Killed():
            return "killed"
        case Crashed(error):
            return reason_of_error(error)


def reason_of_error(error: BaseException) -> Any:
    """Return the reason of a child that raised *error*."""
    match error:
        case Ignore():
            return "ignore"
        case trio.Cancelled():
            return "killed"
        case CleanExit(reason=tag):
            return reason_of(ShutDown(tag))
        case Crash(args=(tag,)):
            return ["crash", tag]
        case Raised(args=(tag,)):
            return ["raised", tag]
        case BadSpec(args=(detail,)):
            return detail
        case StartFailed():
            return ["failed_to_start_child", error.child, reason_of(error.exit)]
        case _:
            return ["unexpected", repr(error)]
