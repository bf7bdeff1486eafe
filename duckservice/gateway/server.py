"""A small ASGI server on trio: accept, limit, watch and drain connections.

A connection is one task, which reads requests and runs the application in
itself (`connection`). While it works for a client it does not read, so somebody
else must notice that the client hangs up. That somebody is the kernel: an epoll
instance of the server's own holds every connection's socket, registered once,
for the hang-up alone (``EPOLLRDHUP``, one shot), and one task waits until that
instance itself becomes readable. So the watch costs a request nothing, no
system call and no task; bytes of pipelined requests stay with the kernel, which
bounds them, and do not hide a hang-up behind them.

Measured over a Unix socket with 16 connections and a bare application
(``tests/benchmarks/bench_server.py``): 30 µs of CPU a request, 11 of them for
trio and the kernel alone; 48 with Starlette. A watcher task for each request
brought the 30 to 87. A hang-up cancels the application within a millisecond.

Likewise one task looks after all idle times, by a number in each connection.

Of ASGI 3.0, HTTP is spoken: no lifespan (the daemon's tree starts and stops what
the application needs) and no WebSockets. ``date`` and ``server`` headers are not
sent. Every request's scope has the extension ``duck.peer`` where the kernel
names the client: a `duckservice.calls.call.Submitter`.

Draining closes the listeners, with what was accepted until then served; answers
carry ``Connection: close``; idle connections are closed. Cancelling `serve`
aborts at once and leaves the listeners open, so that a restarted server goes on
with the same ones and no client is refused meanwhile.
"""

from __future__ import annotations

import math
import select
import socket
import uuid
from collections.abc import Callable, Sequence
from typing import Final, Protocol, final

import attrs
import structlog
import trio

from duckservice.gateway.asgi import ASGIApp
from duckservice.gateway.connection import Connection, Shared
from duckservice.gateway.http1 import OF_NO_USE_TO_PAGES, TOO_MANY_CONNECTIONS
from duckservice.gateway.limits import ServerLimits

__all__ = ["Listener", "Server", "ServerLimits", "ServerStatistics", "serve"]

_DEFAULT_LIMITS: Final = ServerLimits()
_ACCEPTS_PER_TURN: Final = 64
_REFUSED_AT_ONCE_MAX: Final = 64
_RESERVED: Final = 16
"""One in so many connections is left to admins: who may only submit, or has not yet
shown a token, cannot take the last ones, and so keep them from the daemon."""
_ACCEPT_PAUSE: Final = 0.1
_WARNING_PERIOD: Final = 10.0
_EXPIRY_PERIOD_MAX: Final = 1.0

_log = structlog.get_logger("duckservice.gateway")


class Listener(Protocol):
    """A non-blocking listening stream socket, Unix or TCP."""

    @property
    def socket(self) -> socket.socket: ...

    def close(self) -> None:
        """Stop listening. A second call does nothing."""


@attrs.frozen(kw_only=True)
class ServerStatistics:
    """What a server is doing."""

    connections: int
    """Open now."""
    busy: int
    """Of these, with a request at the application."""
    requests: int
    """Passed to the application since the start."""
    refused: int
    """Connections refused because there were too many."""
    draining: bool


async def serve(
    app: ASGIApp,
    listeners: Sequence[Listener],
    *,
    limits: ServerLimits = _DEFAULT_LIMITS,
    own_headers: Sequence[tuple[bytes, bytes]] = OF_NO_USE_TO_PAGES,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve *app* to everybody who connects; started with the `Server`.

    *own_headers* are on what the server itself answers, where *app* is not asked.
    Returns after `Server.drain`, when the last connection is closed.
    """
    server = Server(app, listeners, limits=limits, own_headers=own_headers)
    task_status.started(server)
    await server.serve()


def _uuid() -> str:
    return uuid.uuid4().hex


@final
class Server:
    """The connections of one application, over any number of listeners."""

    def __init__(
        self,
        app: ASGIApp,
        listeners: Sequence[Listener],
        *,
        limits: ServerLimits = _DEFAULT_LIMITS,
        new_request_id: Callable[[], str] = _uuid,
        own_headers: Sequence[tuple[bytes, bytes]] = OF_NO_USE_TO_PAGES,
    ) -> None:
        self._shared = Shared(app, limits, new_request_id, own_headers)
        self._limits = limits
        self._listeners = list(listeners)
        self._nursery: trio.Nursery | None = None
        """Where connections run; None unless they are accepted."""
        self._connections: dict[int, Connection] = {}
        self._over_tcp = 0
        """How many of these came over TCP."""
        self._hangups = select.epoll()
        self._occupied = trio.Event()
        """Set while there are connections."""
        self._idle = trio.Event()
        """Set while there are none."""
        self._idle.set()
        self._drained = trio.Event()
        self._refused = 0
        self._warned_at = -math.inf
        self._refusing = 0
        """Refusals that are being told to their clients just now."""

    def __repr__(self) -> str:
        state = "draining" if self._shared.draining else "serving"
        return f"<Server {state}, {len(self._connections)} connections>"

    async def serve(self) -> None:
        """Serve until drained; call it once. See the module's `serve`."""
        with self._hangups:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._watch_hangups)
                nursery.start_soon(self._expire_connections)
                for listener in self._listeners:
                    nursery.start_soon(self._accept, listener)
                try:
                    await self._drained.wait()
                    await self.wait_idle()
                finally:
                    # Here, while it still takes tasks: behind the block, `drain`
                    # could come between the nursery's end and ours.
                    self._nursery = None
                nursery.cancel_scope.cancel(reason="the server is drained")

    def drain(self) -> None:
        """Take no new connection; close each one when its request is answered.

        Where `serve` does not run, or has failed, this only closes the listeners.
        A second call does nothing.
        """
        if self._shared.draining:
            return
        self._shared.draining = True
        for listener in self._listeners:
            # Closing resets those who have connected already: accept them first.
            self._accept_nowait(listener)
            trio.lowlevel.notify_closing(listener.socket)
            listener.close()
        for connection in self._connections.values():
            connection.close_if_asleep()
        self._drained.set()

    async def wait_idle(self) -> None:
        """Wait until there is no connection."""
        await trio.lowlevel.checkpoint()
        while self._connections:
            await self._idle.wait()

    def statistics(self) -> ServerStatistics:
        """Return what the server is doing."""
        return ServerStatistics(
            connections=len(self._connections),
            busy=sum(connection.busy for connection in self._connections.values()),
            requests=self._shared.requests,
            refused=self._refused,
            draining=self._shared.draining,
        )

    # Accepting.

    async def _accept(self, listener: Listener) -> None:
        while not self._shared.draining:
            try:
                await trio.lowlevel.wait_readable(listener.socket)
            except trio.ClosedResourceError:
                return
            if not self._accept_nowait(listener):
                await trio.sleep(_ACCEPT_PAUSE)

    def _accept_nowait(self, listener: Listener) -> bool:
        """Accept who waits; return False if the system does not allow it now."""
        nursery = self._nursery
        if nursery is None:
            return True
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                sock, _address = listener.socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return True
            except OSError as error:
                # No file descriptor is left, or the like. It will pass.
                self._warn(error)
                return False
            self._admit(sock, nursery)
        return True

    def _warn(self, error: OSError) -> None:
        # It is tried again ten times a second, for as long as that lasts.
        now = trio.current_time()
        if now >= self._warned_at + _WARNING_PERIOD:
            self._warned_at = now
            _log.warning("gateway.accept_failed", error=str(error))

    def _admit(self, sock: socket.socket, nursery: trio.Nursery) -> None:
        try:
            connection = Connection(sock, self._shared)
        except OSError:
            # The client is gone already.
            sock.close()
            return
        if self._has_room_for(connection):
            self._remember(connection)
            nursery.start_soon(self._run, connection)
            return
        self._refused += 1
        if self._refusing < _REFUSED_AT_ONCE_MAX:
            self._refusing += 1
            nursery.start_soon(self._turn_away, connection)
        else:
            # Telling everybody why would be a way around the limit.
            connection.close()

    def _has_room_for(self, connection: Connection) -> bool:
        if connection.over_tcp and self._over_tcp >= self._limits.tcp_connections_max:
            return False
        most = self._limits.connections_max
        if not connection.is_admins:
            most -= most // _RESERVED
        return len(self._connections) < most

    async def _run(self, connection: Connection) -> None:
        try:
            await connection.run()
        finally:
            self._forget(connection)

    async def _turn_away(self, connection: Connection) -> None:
        try:
            await connection.refuse(TOO_MANY_CONNECTIONS)
        finally:
            self._refusing -= 1
            connection.close()

    def _remember(self, connection: Connection) -> None:
        if not self._connections:
            self._idle = trio.Event()
            self._occupied.set()
        fd = connection.client.fd
        self._connections[fd] = connection
        self._over_tcp += connection.over_tcp
        self._hangups.register(fd, select.EPOLLRDHUP | select.EPOLLONESHOT)

    def _forget(self, connection: Connection) -> None:
        fd = connection.client.fd
        del self._connections[fd]
        self._over_tcp -= connection.over_tcp
        # Closing alone would not do while a child process is being forked.
        self._hangups.unregister(fd)
        connection.close()
        if not self._connections:
            self._occupied = trio.Event()
            self._idle.set()

    # Watching.

    async def _watch_hangups(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._hangups.fileno())
            for fd, _events in self._hangups.poll(0):
                self._connections[fd].hang_up()

    async def _expire_connections(self) -> None:
        limits = self._limits
        shortest = min(limits.idle_time, limits.head_time)
        period = min(_EXPIRY_PERIOD_MAX, shortest / 4)
        while True:
            await self._occupied.wait()
            await trio.sleep(period)
            now = trio.current_time()
            for connection in self._connections.values():
                connection.expire(now)
