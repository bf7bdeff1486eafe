"""Who may come in: this user's browser, with a page of the dashboard's own.

Each request is asked, whatever its path, in this order; the first that fails is a 403.
The kernel is asked once for each connection.

    Host             a name of this listener             no name made to lead here
    Origin           none, or the listener's own         no page of another site
    Sec-Fetch-Site   same-origin or none, where sent     likewise, where there is no Origin
    the kernel       a process of the same user          no other user of this machine
    cookie           as ``/enter`` has set it            no other program, except for
                                                         ``/enter`` itself
    for a POST       its Origin is the Host that it      an action is one of the page's
                     names; ``Duck-Dashboard: 1``        scripts

Links from elsewhere may lead to ``/enter`` alone: the URL that was printed is opened
from terminals that are pages themselves. Without its token it is of no use.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any, Final, final

import attrs
import trio

from duckservice.dashboard.answers import Header
from duckservice.dashboard.entrance import Entrance
from duckservice.dashboard.same_user import is_same_user
from duckservice.gateway.asgi import Scope
from duckservice.gateway.loopback_names import LoopbackNames

AGAIN: Final = "Run `duck dashboard` again, and open the address that it prints."
NAMES: Final = ("127.0.0.1", "localhost")

_NO_COOKIE: Final = f"You have not come in yet, or the dashboard was restarted. {AGAIN}"
_OTHER_SITE: Final = (
    "This is no place for links or scripts of other sites. Write the address into the"
    " address bar yourself."
)
_OTHER_USER: Final = (
    "Only the user who started the dashboard may use it, over a connection that is open"
    " both ways."
)
_NOT_THE_PAGE: Final = (
    "Actions are for the page of the dashboard: a POST of the same origin, with the"
    " header Duck-Dashboard: 1."
)
_READS_AT_ONCE: Final = 4
"""Of the kernel's tables, each in a thread: with thousands of connections on the
machine, one takes longer than all else that a request needs."""
_SAME_USER: Final = "duck.same_user"
"""What the kernel has said, kept where the server has what is of the connection."""


@attrs.frozen(kw_only=True)
class _Asked:
    """What the headers say."""

    host: bytes = b""
    origin: bytes = b""
    site: bytes = b""
    marked: bool = False
    cookies: str = ""


@final
@attrs.frozen
class Door:
    """Decides by the head of a request."""

    names: LoopbackNames
    entrance: Entrance
    _reads: trio.CapacityLimiter = attrs.field(
        factory=lambda: trio.CapacityLimiter(_READS_AT_ONCE)
    )

    async def refusal(self, scope: Scope) -> str | None:
        """Return why this request is a 403; None: it may pass."""
        headers: Sequence[Header] = scope["headers"]
        stranger = self.names.refusal(headers)
        if stranger is not None:
            return stranger
        asked = _asked(headers)
        entering = scope["raw_path"] == b"/enter" and scope["method"] == "GET"
        if asked.site not in {b"", b"same-origin", b"none"} and not entering:
            return _OTHER_SITE
        if not await self._is_same_user(scope):
            return _OTHER_USER
        if entering:
            return None
        if not self.entrance.knows(asked.cookies):
            return _NO_COOKIE
        if scope["method"] not in {"GET", "HEAD"} and not _is_the_page(asked):
            return _NOT_THE_PAGE
        return None

    async def _is_same_user(self, scope: Scope) -> bool:
        # This mapping is the connection's own, and goes with it: neither a port nor a
        # number that another connection gets later can be taken for this one.
        kept: MutableMapping[str, Any] = scope["extensions"]
        if _SAME_USER not in kept:
            kept[_SAME_USER] = await trio.to_thread.run_sync(
                is_same_user, scope["client"], scope["server"], limiter=self._reads
            )
        return bool(kept[_SAME_USER])


def came_by_link(headers: Sequence[Header]) -> bool:
    """Say whether a page of another site has led the browser here."""
    return _asked(headers).site in {b"cross-site", b"same-site"}


def _is_the_page(asked: _Asked) -> bool:
    return asked.marked and asked.origin == b"http://" + asked.host


def _asked(headers: Sequence[Header]) -> _Asked:
    its = dict(headers)
    cookies = [value for name, value in headers if name == b"cookie"]
    return _Asked(
        host=its.get(b"host", b"").lower(),
        origin=its.get(b"origin", b"").lower(),
        site=its.get(b"sec-fetch-site", b"").lower(),
        marked=its.get(b"duck-dashboard") == b"1",
        cookies=b"; ".join(cookies).decode("latin-1"),
    )
