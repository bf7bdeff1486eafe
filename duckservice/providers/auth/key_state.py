"""How a provider's keys are, as far as it may be shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import attrs

KeyTrouble: TypeAlias = Literal["limited", "used_up", "refused", "forbidden"]


@attrs.frozen(kw_only=True)
class KeyState:
    """How one key is."""

    key: str
    """Its last four characters."""
    state: Literal["ok"] | KeyTrouble
    wait: float | None = None
    """Seconds until it is tried again; None: it is in use."""


@runtime_checkable
class HasKeys(Protocol):
    """A provider that can tell how its keys are."""

    def key_states(self) -> Sequence[KeyState]:
        """Return how each key is, in the order of the config."""
        ...
