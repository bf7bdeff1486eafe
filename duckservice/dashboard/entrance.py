"""How one comes in: with a token that is good once, and then with a cookie.

    offered --enter--> used up; the browser has a cookie
       |
       +--5 minutes--> expired

The token is in a URL, so it may be seen: on a screen, in a list of processes, in the
history of a browser. By then it is of no use. The cookie is a secret of its own, and is
good until the dashboard ends.
"""

from __future__ import annotations

import hmac
import secrets
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple, final

import attrs

TOKEN_LIFE: Final = 300.0
"""Seconds in which a token is to be used."""
_SECRET_BYTES: Final = 32
_OFFERS_MAX: Final = 16
_SESSIONS_MAX: Final = 64


class _Offer(NamedTuple):
    token: bytes
    expires_at: float


def _secret() -> str:
    return secrets.token_urlsafe(_SECRET_BYTES)


@final
@attrs.define(eq=False, repr=False)
class Entrance:
    """Hands tokens out, and knows who came in with one."""

    port: int
    """Of the dashboard. Cookies know no ports: the name of each has its own."""
    clock: Callable[[], float]
    _offers: deque[_Offer] = attrs.field(
        factory=lambda: deque[_Offer](maxlen=_OFFERS_MAX)
    )
    _sessions: deque[bytes] = attrs.field(
        factory=lambda: deque[bytes](maxlen=_SESSIONS_MAX)
    )

    def __repr__(self) -> str:
        return f"<Entrance {len(self._offers)} tokens, {len(self._sessions)} sessions>"

    @property
    def cookie_name(self) -> str:
        """The name of the cookie."""
        return f"duck-dashboard-{self.port}"

    def offer(self) -> str:
        """Return a new token."""
        token = _secret()
        self._offers.append(_Offer(token.encode(), self.clock() + TOKEN_LIFE))
        return token

    def enter(self, token: str) -> str | None:
        """Use *token* up; return the cookie to set, or None if it is not good."""
        found = None
        for offer in self._offers:
            # All are compared, so that the time says nothing about any.
            if hmac.compare_digest(offer.token, token.encode()):
                found = offer
        if found is None:
            return None
        self._offers.remove(found)
        if self.clock() >= found.expires_at:
            return None
        session = _secret()
        self._sessions.append(session.encode())
        flags = "Path=/; HttpOnly; SameSite=Strict"
        return f"{self.cookie_name}={session}; {flags}"

    def knows(self, cookies: str) -> bool:
        """Say whether a ``Cookie`` header holds a cookie that was set here."""
        known = False
        for pair in cookies.split(";"):
            name, _, value = pair.strip().partition("=")
            if name == self.cookie_name:
                given = value.encode()
                for session in self._sessions:
                    known |= hmac.compare_digest(session, given)
        return known
