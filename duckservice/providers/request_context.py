"""What an attempt and the HTTP client that carries it out tell each other.

The attempt is above the provider, the client below it, and between them is the
translation, which has nothing to do with keys or limits. So they talk past it,
through a variable of the task that both run in:

    attempt -> client    which key the rate limiter has granted, if it grants keys
    client -> attempt    what an answer says of limits; which key has to rest

Who decides which of several keys is sent: where limits of each key are known, the
rate limiter. The client then sends the key that was granted and no other. Where none
are, nothing is granted, and `auth.keys` chooses, and changes keys within an attempt.
What a refusal means for a key, and for how long, is in both cases for `auth.keys` to
say, and the attempt passes it on to the limiter.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

import attrs

from duckservice.core.rate_hints import RateHints


@attrs.frozen
class KeyRest:
    """One of several keys was limited or refused, and should rest."""

    key: int
    """Its place among the provider's keys, from 0."""
    seconds: float | None
    """For so long; None: a 429 names no time."""
    is_limited: bool
    """Whether that is a 429, and not the key's own fault."""


@attrs.define(eq=False)
class Sending:
    """One attempt, as far as the HTTP client has to do with it."""

    key: int
    """Which of the provider's keys was granted, from 0, or `core.grants.ANY_KEY`."""
    on_hints: Callable[[RateHints, int], None]
    """Called with what an answer says of limits, before its body is read, and with the
    key that they are of: `ANY_KEY` is the only one."""
    on_rest: Callable[[KeyRest], None]
    """Called for each key that is refused, before any error is raised."""
    _is_over: bool = False

    def begin(self) -> None:
        """Have the requests that this task sends from now on belong to this attempt."""
        _current.set(self)

    def end(self) -> None:
        """Have what the task sends from now on belong to none. May be called again.

        It may be another task that ends it: so the variable itself is left alone. What
        it leads to is let go, as the variable lasts as long as its task: a connection
        that is kept open would hold its last request in memory, body and all.
        """
        self._is_over = True
        self.on_hints = self.on_rest = _nobody

    @property
    def is_over(self) -> bool:
        """Whether the attempt has ended."""
        return self._is_over


def _nobody(*_: object) -> None:
    """Hear what is said too late."""


def current_sending() -> Sending | None:
    """Return the attempt that this task is sending; None: it sends for nobody."""
    sending = _current.get()
    return None if sending is None or sending.is_over else sending


_current: ContextVar[Sending | None] = ContextVar("sending", default=None)
