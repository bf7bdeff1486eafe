"""How far a batch has come, on stderr: a bar on a terminal, elsewhere nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Final

from duckservice.cli.output import Output
from duckservice.cli.text import count, elapsed, money

RATE_OVER: Final = 15.0
"""Seconds that the rate is taken over."""
_BAR: Final = 24
_CLEAR: Final = "\r\x1b[2K"


class BatchProgress:
    """Shows what the daemon says of a batch."""

    def __init__(self, out: Output, clock: Callable[[], float] = monotonic) -> None:
        self._out = out
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()
        self._drawn = False

    def show(self, batch: Mapping[str, Any]) -> None:
        """Show the batch as it is now."""
        if not self._out.shows_progress:
            return
        now = self._clock()
        counts = batch["request_counts"]
        over = counts["completed"] + counts["failed"]
        self._seen.append((now, over))
        while now - self._seen[0][0] > RATE_OVER:
            self._seen.popleft()
        share = over / counts["total"] if counts["total"] else 0.0
        self._draw(f"{_bar(share)} {self._text(batch, over)}")

    def clear(self) -> None:
        """Take the bar away."""
        if self._drawn:
            self._out.stderr.write(_CLEAR)
            self._out.stderr.flush()
            self._drawn = False

    def _text(self, batch: Mapping[str, Any], over: int) -> str:
        counts, its = batch["request_counts"], batch["duck"]
        if batch["status"] == "validating":
            return "the daemon checks the lines"
        tokens = batch["usage"]["total_tokens"]
        parts = [
            f"{count(over)}/{count(counts['total'])} done",
            f"{count(counts['failed'])} failed",
        ]
        rate = self._rate()
        if rate > 0:
            parts.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s")
        parts += [f"{count(tokens)} tokens", money(its["cost_usd"])]
        left = counts["total"] - over
        if rate > 0 and left:
            parts.append(f"ETA {elapsed(max(1.0, left / rate))}")
        return " · ".join(parts)

    def _rate(self) -> float:
        began, before = self._seen[0]
        now, over = self._seen[-1]
        return (over - before) / (now - began) if now > began else 0.0

    def _draw(self, text: str) -> None:
        columns = self._out.console().width
        self._out.stderr.write(_CLEAR + text[: max(1, columns - 1)])
        self._out.stderr.flush()
        self._drawn = True


def _bar(share: float) -> str:
    full = int(share * _BAR)
    return "█" * full + "░" * (_BAR - full)
