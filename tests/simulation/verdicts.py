"""What the judge has found: how often each promise was looked at, and broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import attrs
import trio

EXAMPLES_KEPT = 3


@attrs.define(eq=False)
class Verdicts:
    """Counts, and the first few examples of each."""

    clock: Callable[[], float] = trio.current_time
    checked: Counter[str] = attrs.field(factory=Counter[str])
    broken: Counter[str] = attrs.field(factory=Counter[str])
    examples: dict[str, list[str]] = attrs.field(factory=dict[str, list[str]])
    seen: Counter[str] = attrs.field(factory=Counter[str])
    """Interesting states that were reached: a check that none of them reached has
    shown nothing."""

    def holds(self, promise: str, *, ok: bool, what: str = "") -> None:
        """Count one look at *promise*; *what* says how it was broken."""
        self.checked[promise] += 1
        if ok:
            return
        self.broken[promise] += 1
        examples = self.examples.setdefault(promise, [])
        if len(examples) < EXAMPLES_KEPT:
            examples.append(f"at {self.clock():.3f} s: {what}")
