"""The daemon: a service behind a socket, which drains before it ends; see `process`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import structlog
import trio

from duckservice.config import Config, ConfigError
from duckservice.errors import InvalidRequest, Unavailable
from duckservice.gateway.activation import InheritedListener
from duckservice.gateway.app.application import make_app
from duckservice.gateway.http_listener import HttpListener, open_http
from duckservice.gateway.server import Listener, Server, ServerLimits
from duckservice.gateway.unix_socket import bind_unix
from duckservice.host.systemd import Notifier
from duckservice.log import register_config
from duckservice.providers.base import Provider
from duckservice.running import Json, RunningService, open_running
from duckservice.tree import Seams

TREE_STOPS_WITHIN = 15.0
"""Seconds that the tree may need to stop, once all is drained."""

READ_WITHIN = 10.0
"""Seconds that reading the config again may take."""

log = structlog.get_logger("duckd")


@attrs.define(eq=False)
class Daemon:
    """A service behind a socket."""

    service: RunningService
    socket: Path
    http: HttpListener
    read_config: Callable[[], Config] | None = None
    """Reads the config again; None where there is no file to read."""
    notifier: Notifier = attrs.field(factory=Notifier)
    _reloading: trio.Lock = attrs.field(factory=trio.Lock)
    _server: Server | None = None
    _stopping: trio.Event = attrs.field(factory=trio.Event)

    async def reload(self) -> Json:
        """Read the config again and take it over; return what has changed.

        Raises:
            InvalidRequest: the config is refused, and the old one kept.
            Unavailable: it could not be taken over now, and the old one is kept.
        """
        if self.read_config is None:
            raise InvalidRequest("this daemon was given its config, and reads none")
        async with self._reloading:
            try:
                config = await self._read(self.read_config)
            except ConfigError as error:
                msg = f"the configuration is refused, and the old one kept:\n{error}"
                raise InvalidRequest(msg) from error
            if config.is_default and not self.service.config.is_default:
                raise InvalidRequest(
                    "there is no config file any more; nothing changed"
                )
            if names_nobody(config) and not names_nobody(self.service.config):
                # An editor that is just writing leaves it empty for a moment.
                raise InvalidRequest(
                    "the config file names no provider any more; nothing changed"
                )
            register_config(config)
            answer = await self.service.reload(config)
        log.info("daemon.reloaded", **answer)
        return answer

    async def _read(self, read_config: Callable[[], Config]) -> Config:
        # A disk that hangs, or a pipe in the file's place, must not keep us for ever.
        with trio.move_on_after(READ_WITHIN):
            return await trio.to_thread.run_sync(read_config, abandon_on_cancel=True)
        msg = f"the config could not be read within {READ_WITHIN:g} s; nothing changed"
        raise Unavailable(msg, retry_after=READ_WITHIN)

    def drain(self) -> None:
        """Finish what is there and take nothing new; the socket goes on answering."""
        self.service.drain()
        if not self._stopping.is_set():
            self.notifier.status("draining: what is there is finished, and no more")

    def shutdown(self) -> None:
        """Drain, then end; see `stopped`."""
        self._stopping.set()

    async def stopped(self, grace: float) -> bool:
        """Wait for `shutdown`, and then for the requests and jobs under way.

        Returns False if some requests were not answered within *grace* seconds. Jobs
        that take longer are not lost: they wait again, in the store.
        """
        await self._stopping.wait()
        self.drain()
        server = self._server
        if server is None:
            self.notifier.stopping("stopping", TREE_STOPS_WITHIN)
            return True
        jobs, counters = self.service.jobs.board, self.service.counters
        log.info("daemon.draining", in_flight=counters.in_flight, jobs=len(jobs))
        under_way = f"{counters.in_flight} requests and {len(jobs)} jobs under way"
        self.notifier.stopping(f"stopping: {under_way}", grace + TREE_STOPS_WITHIN)
        server.drain()
        idle = False
        with trio.move_on_after(grace):
            await server.wait_idle()
            idle = True
            await jobs.wait_idle()
        if len(jobs):
            log.info("daemon.jobs_put_back", jobs=len(jobs), grace_s=grace)
        if not idle:
            log.warning("daemon.cut_off", in_flight=counters.in_flight, grace_s=grace)
        return idle

    async def serve(
        self,
        make_server: Callable[[], Server],
        *,
        task_status: trio.TaskStatus[None],
    ) -> None:
        """Serve the socket; the gateway's place in the tree.

        The listener outlives a crash of the gateway, so no client is refused.
        Once the daemon stops it is closed, and there is nothing left to serve.
        """
        if self._stopping.is_set():
            task_status.started()
            return
        self._server = make_server()
        task_status.started()
        await self._server.serve()


def names_nobody(config: Config) -> bool:
    """Say whether only the mock provider is there, as nothing else is configured."""
    return config.providers == Config.default().providers


@asynccontextmanager
async def open_daemon(
    config: Config,
    socket: Path,
    *,
    providers: Mapping[str, Provider] | None = None,
    seams: Seams | None = None,
    limits: ServerLimits | None = None,
    state_dir: Path | None = None,
    read_config: Callable[[], Config] | None = None,
    inherited: InheritedListener | None = None,
    notifier: Notifier | None = None,
) -> AsyncGenerator[Daemon]:
    """Run the service and its socket for the length of a block.

    Jobs are kept in *state_dir*; see `running.open_running`. *read_config* reads
    the config again, in a thread, for a reload. An *inherited* socket is served in
    place of *socket*; *notifier* is told how the daemon is.

    Raises:
        StartupError: the socket cannot be had; the message says why.
        RestartIntensityReached: the tree has given up; the block was cancelled.
    """
    access = config.service.access
    with (
        inherited or bind_unix(socket, access.mode, access.group) as listener,
        open_http(config.service) as http,
    ):
        made = list[Daemon]()

        def gateway(service: RunningService) -> Callable[..., Awaitable[None]]:
            told = notifier or Notifier()
            daemon = Daemon(service, listener.path, http, read_config, told)
            made.append(daemon)
            return _gateway(daemon, listener, limits or ServerLimits())

        async with open_running(
            config,
            providers=providers,
            seams=seams,
            gateway=gateway,
            state_dir=state_dir,
        ):
            yield made[0]


def _gateway(
    daemon: Daemon, listener: Listener, limits: ServerLimits
) -> Callable[..., Awaitable[None]]:
    app = daemon.http.guarded(
        make_app(
            daemon.service, control=daemon, wall_clock=daemon.service.seams.wall_clock
        )
    )

    def make_server() -> Server:
        return Server(
            app,
            [listener, *daemon.http.listeners],
            limits=limits,
            new_request_id=daemon.service.new_request_id,
        )

    async def serve(*, task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC128 - handed on
        await daemon.serve(make_server, task_status=task_status)

    return serve
