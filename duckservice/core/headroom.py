"""What a provider has said is left of one of its limits, and until when that holds.

    a response says "N left, all back in R"   ─>   a cap: at most N more until then

Responses come in another order than they were written in, and the provider did not
yet count what was under way to it. So

* what was granted and not answered is taken off every cap (the caller's part), and
  what ended without an answer that speaks of this limit is charged to all of them;
* a higher number does not replace a lower one, but for this: once a request is
  answered that was sent after a moment, all that was heard before that moment is
  older than its answer, and forgotten.

Caps with a lower number and a later end make others superfluous; the rest are few.
"""

from __future__ import annotations

from typing import TypeAlias

import attrs

CAPS_MAX = 8
"""More are merged: the lower number, the later end."""

Cap: TypeAlias = tuple[int, float]
"""So much may still be taken until then."""


@attrs.define
class Headroom:
    """The caps of one limit of one key, or of a provider without several keys."""

    _caps: tuple[Cap, ...] = ()
    """By their ends, and so by their numbers."""
    _since: tuple[Cap, ...] = ()
    """Of what was heard since the mark."""
    _mark: int = 0
    """The last grant before the mark."""
    _charged: int = 0
    """Since the mark."""

    @property
    def knows(self) -> bool:
        """Whether there is, or was, any cap."""
        return bool(self._caps)

    def hear(self, left: int, until: float, *, of: int, last: int) -> None:
        """Learn of the answer to grant number *of* that *left* may be taken.

        *last* is the number of the last grant that was made. A grant whose number is
        not known is 0: what it says only ever lowers a cap.
        """
        left -= self._charged
        self._caps = _with(self._caps, (left, until))
        self._since = _with(self._since, (left, until))
        if of > self._mark:
            self._caps = self._since
            self._since, self._charged, self._mark = (), 0, last

    def charge(self, cost: int) -> None:
        """Count what was taken, and what no later answer may have counted."""
        if self._caps and cost:
            self._charged += cost
            self._caps = tuple((left - cost, end) for left, end in self._caps)
            self._since = tuple((left - cost, end) for left, end in self._since)

    def ready_at(self, now: float, cost: int) -> float:
        """Return when *cost* may be taken; it counts what is under way, too."""
        at = now
        for left, until in self._caps:
            if left < cost and until > at:
                at = until
        return at

    def left(self, now: float) -> int | None:
        """Return how much may be taken now, what is under way included; None: any."""
        return min((left for left, until in self._caps if until > now), default=None)


def _with(caps: tuple[Cap, ...], new: Cap) -> tuple[Cap, ...]:
    """Return *caps* and a *new* one, without those that say nothing beyond another."""
    left, until = new
    if any(its <= left and end >= until for its, end in caps):
        return caps
    kept = [cap for cap in caps if cap[0] < left or cap[1] > until]
    kept.append(new)
    kept.sort(key=lambda cap: cap[1])
    while len(kept) > CAPS_MAX:
        low, high = kept[0], kept[1]
        kept[:2] = [(min(low[0], high[0]), max(low[1], high[1]))]
    return tuple(kept)
