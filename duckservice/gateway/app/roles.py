"""Who may do what: the one place that decides it, by path and by user.

    admin       root, and the user who runs the daemon; over TCP, who has the token
    submitter   every other user whom the socket's mode lets connect

An admin may do all. A submitter may make requests, see and change jobs, batches and
files of its own (`owners`), and learn what it takes to do so. A path that is not in
the lists here is for admins: one that is forgotten is closed.

What the lists leave out, and why: ``/v1/tree`` shows messages of crashes,
``/v1/providers`` the ends of keys, ``/v1/costs``, ``/v1/budgets`` and ``/metrics`` what
others spend, ``/v1/events`` and ``/v1/config`` all of it; and every POST that changes
the daemon is for admins.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar, final

import attrs
from starlette.routing import BaseRoute, Route

from duckservice.calls.call import Submitter
from duckservice.errors import PermissionDenied
from duckservice.gateway.app.exchange import peer
from duckservice.gateway.asgi import ASGIApp, Receive, Scope, Send

OPEN: Final = frozenset(
    {
        "/healthz",
        "/readyz",
        "/v1/version",
        "/openapi.json",
        # How busy the daemon is, in sums: nothing of a single user, and no text.
        "/v1/status",
        "/v1/queue",
        "/v1/models",
        "/v1/models/{id:path}",
        "/v1/chat/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/embeddings",
        "/v1/images/generations",
    }
)
"""Paths of routes that are for everybody who can connect."""

OWN: Final = (
    "/v1/jobs",
    "/v1/jobs:bulk",
    "/v1/jobs/",
    "/v1/files",
    "/v1/files/",
    "/v1/batches",
    "/v1/batches/",
)
"""Likewise, and below those that end with a slash; there, each sees its own."""

_ROOT: Final = 0

AnyRoute = TypeVar("AnyRoute", bound=BaseRoute)


def is_admin(client: Submitter, owner_uid: int) -> bool:
    """Say whether *client* may do all; *owner_uid* runs the daemon."""
    return client.uid in {_ROOT, owner_uid}


def needs_admin(path: str) -> bool:
    """Say whether the route of that *path*, as it was declared, is for admins alone."""
    if path in OPEN:
        return False
    return not any(
        path == own or (own.endswith("/") and path.startswith(own)) for own in OWN
    )


def guarded(routes: Iterable[AnyRoute], owner_uid: int) -> list[AnyRoute]:
    """Return *routes*, where those for admins answer to nobody else."""
    checked = list(routes)
    for route in checked:
        if not isinstance(route, Route):
            msg = f"{route!r} has no path of its own by which its role is known"
            raise TypeError(msg)
        if needs_admin(route.path):
            route.app = _AdminsOnly(route.app, owner_uid)
    return checked


@final
@attrs.frozen(eq=False)
class _AdminsOnly:
    """Lets admins pass to an application."""

    app: ASGIApp
    owner_uid: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = peer(scope)
        if client is None or not is_admin(client, self.owner_uid):
            raise PermissionDenied("only the user who runs the daemon may do this")
        await self.app(scope, receive, send)
