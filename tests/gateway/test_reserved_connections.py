"""Who may only submit cannot keep admins from the daemon by opening connections."""

from __future__ import annotations

import os

import pytest

from duckservice.calls.call import Submitter
from duckservice.gateway import connection
from tests.gateway.serving import answer, serving, until

GET = b"GET / HTTP/1.1\r\nHost: duck\r\n\r\n"
OTHER, OWNER = 61_002, 61_003
MOST = 64
"""Of which a sixteenth is for admins."""


async def app(scope, receive, send):
    await answer(send)


@pytest.fixture
def comes_as(monkeypatch):
    """Have whoever connects from now on be the user with that uid."""
    real, user = connection._origin, [OTHER]

    def origin(sock):
        found = real(sock)
        if sock.family == connection.socket.AF_UNIX:
            peer = Submitter(uid=user[0], gid=0, pid=1)
            found["extensions"]["duck.peer"] = peer
        return found

    def become(uid):
        user[0] = uid

    monkeypatch.setattr(connection, "_origin", origin)
    return become


@pytest.mark.parametrize("admin", [0, OWNER])
async def test_a_flood_of_others_leaves_the_last_connections_to_admins(
    comes_as, admin, monkeypatch
):
    async with serving(app, connections_max=MOST) as s:
        # From now on: who makes the socket must be who runs this.
        monkeypatch.setattr(connection.os, "geteuid", lambda: OWNER)
        flood = [await s.connect() for _ in range(MOST + 20)]
        for client in flood[MOST - 4 :]:
            # All have been looked at, before anybody else comes.
            assert (await client.ask(GET)).status == 503
        await until(lambda: s.server.statistics().connections == MOST - 4)
        comes_as(admin)
        there = [await s.connect() for _ in range(4)]
        for client in there:
            assert (await client.ask(GET)).status == 200
        assert (await (await s.connect()).ask(GET)).status == 503
        assert s.server.statistics().connections == MOST


async def test_admins_may_take_all_of_them(comes_as):
    comes_as(os.geteuid())
    async with serving(app, connections_max=MOST) as s:
        clients = [await s.connect() for _ in range(MOST)]
        for client in clients:
            assert (await client.ask(GET)).status == 200


async def test_who_comes_over_tcp_is_nobody_yet():
    limits = {"connections_max": 16, "tcp_connections_max": 16}
    async with serving(app, tcp=True, **limits) as s:
        clients = [await s.connect() for _ in range(15)]
        for client in clients:
            assert (await client.ask(GET)).status == 200
        assert (await (await s.connect()).ask(GET)).status == 503
