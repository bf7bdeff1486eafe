"""The pause after a provider's 429: as long as it asks, or twice as long each time."""

from __future__ import annotations

import math

import attrs

RETRY_AFTER_MAX = 120.0
"""Longer pauses than this (seconds) are not believed."""

FIRST_PAUSE = 1.0
"""After a 429 that names no time; each further one in a row doubles it."""
GUESS_MAX = 10.0
"""No pause that nobody asked for is longer, if nothing else is configured."""


@attrs.define
class Cooldown:
    """How long one key, or a provider without several keys, is left alone."""

    until: float = -math.inf
    """No grant before."""
    _in_a_row: int = 0
    _last_grant: int = 0
    """The last one before the latest pause."""

    def block(self, now: float, seconds: float) -> None:
        """Wait *seconds*, 120 at most; it never shortens a pause that is under way."""
        pause = min(seconds, RETRY_AFTER_MAX)
        # False for a NaN too: the hint comes off the wire.
        if pause > 0:
            self.until = max(self.until, now + pause)

    def refused(
        self,
        now: float,
        retry_after: float | None,
        *,
        of: int,
        last: int,
        guess_max: float = GUESS_MAX,
    ) -> None:
        """Take note of a 429 to grant number *of*, *last* being the latest one.

        Where it names no time, no pause is longer than *guess_max*. Those that were
        under way together count as one, or a burst of them would make the longest
        pause of its first.
        """
        guess = self.guess(of=of, guess_max=guess_max)
        if self._is_new(of):
            self._in_a_row += 1
            self._last_grant = last
        # It comes off the wire: a NaN or a negative number names no time either.
        if retry_after is not None and retry_after >= 0:
            self.block(now, retry_after)
        else:
            self.block(now, guess)

    def guess(self, *, of: int, guess_max: float = GUESS_MAX) -> float:
        """Return the pause that a 429 to grant number *of* makes if it names no time."""
        before = self._in_a_row if self._is_new(of) else self._in_a_row - 1
        return min(guess_max, FIRST_PAUSE * 2.0 ** min(before, 30))

    def succeeded(self, *, of: int) -> None:
        """Begin again with the shortest pause, if grant *of* came after the last one."""
        if of > self._last_grant:
            self._in_a_row = 0

    def _is_new(self, of: int) -> bool:
        return of > self._last_grant or not self._in_a_row
