"""How a fault strikes at a child that runs."""

from __future__ import annotations

import math
import types
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from supervisors.testing._faults import Cancel, Crash, Delay, Fault, Kill, Stall
from supervisors.testing._forked import die

if TYPE_CHECKING:
    from supervisors._inbox import Envelope
    from supervisors._process import Process


def strike(process: Process, fault: Fault) -> float:
    """Carry out *fault*; return how many seconds the child then rests."""
    match fault:
        case Delay():
            return fault.seconds
        case Stall():
            return math.inf
        case Crash():
            process.crash(crash_of(process, fault))
        case Cancel():
            process.kill()
        case Kill():
            die()
        case _:
            msg = f"{fault!r} does not strike at {fault.child!r} while it runs"
            raise AssertionError(msg)
    return 0.0


def crash_of(process: Process, fault: Crash) -> Exception:
    """Return what the child raises."""
    return fault.error(f"injected into {process.path!r} at {fault.at!r}")


def break_after(envelope: Envelope, process: Process, faults: list[Fault]) -> None:
    """Have *faults* strike when the message is handled, and not answered yet."""
    method = envelope.method

    def strike_all() -> None:
        for fault in faults:
            if isinstance(fault, Crash):
                raise crash_of(process, fault)
            strike(process, fault)

    async def finish(result: Awaitable[Any]) -> Any:
        value = await result
        strike_all()
        return value

    def handle(this: Any, *args: Any, **kwargs: Any) -> Any:
        envelope.method = method
        result = _own(this, method)(this, *args, **kwargs)
        if type(result) is types.CoroutineType:
            return finish(cast("Awaitable[Any]", result))
        strike_all()
        return result

    envelope.method = handle


def _own(this: object, method: Callable[..., Any]) -> Callable[..., Any]:
    """Find the actor's own version of *method*, as an ordinary call would."""
    owner, _, name = getattr(method, "__qualname__", "").rpartition(".")
    if not owner or owner.endswith("<locals>") or hasattr(method, "__self__"):
        return method
    return getattr(type(this), name, method)
