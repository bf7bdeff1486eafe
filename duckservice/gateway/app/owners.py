"""Whose jobs, files and batches a client sees.

Admins (`roles`) see all; everybody else sees their own, and the others' are not there.
"""

from __future__ import annotations

from duckservice.calls.call import Submitter
from duckservice.errors import PermissionDenied
from duckservice.gateway.app.exchange import peer
from duckservice.gateway.app.roles import is_admin
from duckservice.gateway.asgi import Scope


def owner_of(scope: Scope) -> Submitter:
    """Return to whom belongs what the request makes.

    Raises:
        PermissionDenied: the server does not know.
    """
    client = peer(scope)
    if client is None:
        msg = (
            "jobs and files belong to somebody,"
            " and nobody knows who is at this connection"
        )
        raise PermissionDenied(msg)
    return client


def whose(scope: Scope, owner_uid: int) -> int | None:
    """Return whose things alone the client may see; None: everybody's.

    *owner_uid* runs the daemon.

    Raises:
        PermissionDenied: the server does not know who is asking.
    """
    client = owner_of(scope)
    return None if is_admin(client, owner_uid) else client.uid
