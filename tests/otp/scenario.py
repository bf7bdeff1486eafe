"""Supervisors and children of a scenario as values of this library.

Everything that OTP refuses must be refused by the library too: each value is
given to it alone, in the order of OTP's own checks, and its refusal becomes
OTP's complaint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from supervisors import (
    AutoShutdown,
    ChildSpec,
    Restart,
    Shutdown,
    Strategy,
    SupervisorSpec,
)
from tests.otp.reasons import BadSpec

KINDS = {"worker": "worker", "supervisor": "supervisor"}


async def _nothing(_process: object) -> None:
    pass


@attrs.frozen
class Flags:
    """What a scenario says of a supervisor."""

    simple: bool
    strategy: Strategy
    max_restarts: int
    max_seconds: float
    auto_shutdown: AutoShutdown
    children: tuple[Any, ...]


def flags(config: Any) -> Flags:
    """Decode a supervisor, or raise `BadSpec`."""
    strategy = config.get("strategy", "one_for_one")
    simple = strategy == "simple_one_for_one"
    decoded = Flags(
        simple=simple,
        strategy=_accept(
            "strategy", lambda v: Strategy("one_for_one" if simple else v), strategy
        ),
        max_restarts=_accept(
            "intensity",
            lambda v: SupervisorSpec(max_restarts=v).max_restarts,
            config.get("intensity", 1),
        ),
        max_seconds=_accept(
            "period",
            lambda v: SupervisorSpec(max_seconds=v).max_seconds,
            config.get("period", 5),
        ),
        auto_shutdown=_accept(
            "auto_shutdown", AutoShutdown, config.get("auto_shutdown", "never")
        ),
        children=tuple(config.get("children", ())),
    )
    if simple and len(decoded.children) != 1:
        raise BadSpec(["bad_spec", "bad_start_spec"])
    seen = set[str]()
    for spec in decoded.children:
        child_spec(spec, decoded.auto_shutdown)
        if spec["id"] in seen:
            raise BadSpec(["bad_spec", ["duplicate_child_name", spec["id"]]])
        seen.add(spec["id"])
    return decoded


def _accept(name: str, decode: Callable[[Any], Any], value: Any) -> Any:
    try:
        return decode(value)
    except (ValueError, TypeError):
        raise BadSpec(["bad_flags", [f"invalid_{name}", value]]) from None


def child_spec(spec: Any, auto_shutdown: AutoShutdown) -> ChildSpec:
    """Decode a child, without its body, or raise `BadSpec`."""
    made = ChildSpec(id=spec["id"], body=_nothing)
    restart = spec.get("restart", "permanent")
    try:
        made = attrs.evolve(made, restart=Restart(restart))
    except ValueError:
        raise BadSpec(["bad_spec", ["invalid_restart_type", restart]]) from None
    made = attrs.evolve(made, significant=spec.get("significant", False))
    try:
        SupervisorSpec(children=[made], auto_shutdown=auto_shutdown)
    except ValueError:
        never = auto_shutdown is AutoShutdown.NEVER
        with_what = ["auto_shutdown", "never"] if never else ["restart", restart]
        detail = ["bad_combination", with_what, ["significant", True]]
        raise BadSpec(["bad_spec", detail]) from None
    kind = spec.get("type", "worker")
    if kind not in KINDS:
        # A kind follows from the function that makes the spec; it is no input.
        raise BadSpec(["bad_spec", ["invalid_child_type", kind]])
    made = attrs.evolve(made, kind=KINDS[kind])
    given = spec.get("shutdown", 5000 if kind == "worker" else "infinity")
    try:
        return attrs.evolve(made, shutdown=_shutdown(given))
    except (ValueError, TypeError):
        raise BadSpec(["bad_spec", ["invalid_shutdown", given]]) from None


def _shutdown(given: Any) -> float | Shutdown:
    return Shutdown(given) if isinstance(given, str) else given / 1000


def encode(spec: ChildSpec) -> Any:
    """Return a child spec as ``get_childspec`` tells it."""
    shutdown = spec.shutdown
    return [
        "spec",
        {
            "restart": spec.restart.value,
            "shutdown": shutdown.value
            if isinstance(shutdown, Shutdown)
            else round(shutdown * 1000),
            "significant": spec.significant,
            "type": spec.kind,
        },
    ]
