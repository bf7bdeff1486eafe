"""The dashboard as a whole: a port, the application, and the collector behind it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, final

import attrs
import trio

from duckservice.dashboard.answers import SAFETY
from duckservice.dashboard.app import DashboardApp
from duckservice.dashboard.asking import Asking
from duckservice.dashboard.board import Board
from duckservice.dashboard.collector import Collector
from duckservice.dashboard.door import NAMES, Door
from duckservice.dashboard.entrance import Entrance
from duckservice.dashboard.page_files import load_page
from duckservice.gateway.client import DaemonClient
from duckservice.gateway.loopback_names import LoopbackNames
from duckservice.gateway.server import ServerLimits, serve
from duckservice.gateway.tcp_socket import bind_tcp

_HOST: Final = "127.0.0.1"
_LIMITS: Final = ServerLimits(
    head_bytes_max=16 * 1024,
    body_bytes_max=4 * 1024,
    connections_max=128,
    tcp_connections_max=128,
    idle_time=60.0,
    send_stall=30.0,
)


@final
@attrs.frozen
class Dashboard:
    """A dashboard that runs."""

    port: int
    board: Board
    _entrance: Entrance

    def new_url(self) -> str:
        """Return an address that is good once, and for five minutes."""
        return f"http://{_HOST}:{self.port}/enter?token={self._entrance.offer()}"


@asynccontextmanager
async def open_dashboard(
    client: DaemonClient,
    *,
    port: int = 0,
    period: float = 1.0,
    wall_clock: Callable[[], float] = time.time,
    limits: ServerLimits = _LIMITS,
) -> AsyncGenerator[Dashboard]:
    """Serve the dashboard of the daemon that *client* reaches, for a block's length.

    Port 0 lets the system choose; *period* is the time between two snapshots. Leaving
    the block ends all at once.

    Raises:
        StartupError: the port cannot be had.
    """
    daemon, board = Asking(client), Board()
    collector = Collector(daemon, board, wall_clock, period)
    with bind_tcp(_HOST, port) as listener:
        entrance = Entrance(listener.port, trio.current_time)
        door = Door(LoopbackNames(NAMES, listener.port), entrance)
        app = DashboardApp(door, board, daemon, load_page())
        async with trio.open_nursery() as nursery:
            await nursery.start(collector.run)
            server = partial(serve, app, [listener], limits=limits, own_headers=SAFETY)
            await nursery.start(server)
            yield Dashboard(listener.port, board, entrance)
            nursery.cancel_scope.cancel(reason="the dashboard ends")
