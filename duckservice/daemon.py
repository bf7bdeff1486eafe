"""duckd: one process that owns a machine's LLM traffic.

    start     configuration, log, socket (locked), tree; then "daemon.ready"
    run       until SIGTERM, SIGINT, or POST /v1/shutdown
    drain     no new requests; those under way are answered, for drain_grace
    end       the tree stops in order; a second signal ends it at once

Exit codes: 0; 1 requests were cut off, or the tree gave up; 2 usage; 69 another
daemon serves the socket, or the store cannot be opened; 78 configuration.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import structlog
import trio

from duckservice import __version__, paths
from duckservice.config import Config, ConfigError, ProviderConfig, load
from duckservice.errors import InvalidRequest
from duckservice.gateway.app.application import make_app
from duckservice.gateway.server import Server, ServerLimits
from duckservice.gateway.unix_socket import UnixListener, bind_unix
from duckservice.log import register_config, setup as setup_log
from duckservice.paths import EXIT_CONFIG, EXIT_UNAVAILABLE, StartupError
from duckservice.providers.base import Provider
from duckservice.providers.prices import load_price_list
from duckservice.running import Json, RunningService, open_running
from duckservice.store import UnknownStore
from duckservice.store.base import StoreUnavailable
from duckservice.tree import Seams
from supervisors import StartFailed, SupervisionError

EXIT_CUT_OFF = 1

log = structlog.get_logger("duckd")


@attrs.define(eq=False)
class Daemon:
    """A service behind a socket."""

    service: RunningService
    socket: Path
    read_config: Callable[[], Config] | None = None
    """Reads the config again; None where there is no file to read."""
    _reloading: trio.Lock = attrs.field(factory=trio.Lock)
    _server: Server | None = None
    _stopping: trio.Event = attrs.field(factory=trio.Event)

    async def reload(self) -> Json:
        """Read the config again and take over the keys; return what has changed.

        Raises:
            InvalidRequest: the config is refused, and the old one kept.
        """
        if self.read_config is None:
            raise InvalidRequest("this daemon was given its config, and reads none")
        async with self._reloading:
            try:
                config = await trio.to_thread.run_sync(self.read_config)
            except ConfigError as error:
                msg = f"the configuration is refused, and the old one kept:\n{error}"
                raise InvalidRequest(msg) from error
            if config.is_default and not self.service.config.is_default:
                raise InvalidRequest(
                    "there is no config file any more; nothing changed"
                )
            register_config(config)
            answer = self.service.reload(config)
        log.info("daemon.reloaded", **answer)
        return answer

    def drain(self) -> None:
        """Finish what is there and take nothing new; the socket goes on answering."""
        self.service.drain()

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
            return True
        jobs, counters = self.service.jobs.board, self.service.counters
        log.info("daemon.draining", in_flight=counters.in_flight, jobs=len(jobs))
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
) -> AsyncGenerator[Daemon]:
    """Run the service and its socket for the length of a block.

    Jobs are kept in *state_dir*; see `running.open_running`. *read_config* reads
    the config again, in a thread, for a reload.

    Raises:
        StartupError: the socket cannot be had; the message says why.
        RestartIntensityReached: the tree has given up; the block was cancelled.
    """
    access = config.service.access
    with bind_unix(socket, access.mode, access.group) as listener:
        made = list[Daemon]()

        def gateway(service: RunningService) -> Callable[..., Awaitable[None]]:
            daemon = Daemon(service, socket, read_config)
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
    daemon: Daemon, listener: UnixListener, limits: ServerLimits
) -> Callable[..., Awaitable[None]]:
    app = make_app(
        daemon.service, control=daemon, wall_clock=daemon.service.seams.wall_clock
    )

    def make_server() -> Server:
        return Server(
            app,
            [listener],
            limits=limits,
            new_request_id=daemon.service.new_request_id,
        )

    async def serve(*, task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC128 - handed on
        await daemon.serve(make_server, task_status=task_status)

    return serve


# The process.


def main(argv: Sequence[str] | None = None) -> None:
    """Run the daemon; the entry point of ``duckd`` and ``python -m duckservice``."""
    options = _parser().parse_args(argv)
    try:
        config = _load(options.config, os.environ)
        setup_log(config.log, sys.stderr)
        register_config(config)
        socket = paths.socket_path(
            os.environ, flag=options.socket, configured=config.service.socket
        )
        state_dir = paths.state_dir(os.environ, configured=config.service.state_dir)
        read_config = partial(_load, options.config, os.environ)
        sys.exit(trio.run(_run, config, socket, state_dir, read_config))
    except ConfigError as error:
        sys.stderr.write(f"duckd: the configuration is refused\n{error}\n")
        sys.exit(EXIT_CONFIG)
    except StartupError as error:
        sys.stderr.write(f"duckd: {error}\n")
        sys.exit(error.exit_code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="duckd", description="The local daemon that owns a machine's LLM traffic."
    )
    parser.add_argument("--config", metavar="FILE", help="config.toml to read")
    parser.add_argument("--socket", metavar="PATH", help="Unix socket to serve")
    parser.add_argument("--version", action="version", version=f"duckd {__version__}")
    return parser


def _load(flag: str | None, environ: Mapping[str, str]) -> Config:
    found = paths.config_path(environ, flag=flag)
    if found is None or (not found.explicit and not found.path.exists()):
        return load(None, environ)
    return load(found.path, environ)


async def _run(
    config: Config, socket: Path, state_dir: Path, read_config: Callable[[], Config]
) -> int:
    """Run until told to stop; return the exit code."""
    since = trio.current_time()
    code = 0
    try:
        with (
            trio.open_signal_receiver(
                signal.SIGTERM, signal.SIGINT, signal.SIGHUP
            ) as signals,
            trio.CancelScope() as now,
        ):
            async with (
                open_daemon(
                    config, socket, state_dir=state_dir, read_config=read_config
                ) as daemon,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(_obey, signals, daemon, now, nursery)
                if any(_needs_price_list(its) for its in config.providers.values()):
                    # In a thread, after the socket is up: it takes 0.2 s, which
                    # the first request should not wait for.
                    nursery.start_soon(trio.to_thread.run_sync, load_price_list)
                _announce(config, daemon, trio.current_time() - since)
                finished = await daemon.stopped(config.service.drain_grace)
                code = 0 if finished else EXIT_CUT_OFF
                nursery.cancel_scope.cancel()
        if now.cancelled_caught:
            code = EXIT_CUT_OFF
    except StartFailed as error:
        return _cannot_start(error)
    except SupervisionError as error:
        log.critical("daemon.gave_up", exc_info=error)
        return EXIT_CUT_OFF
    log.info("daemon.stopped", exit_code=code)
    return code


def _cannot_start(error: StartFailed) -> int:
    match error.__cause__:
        case UnknownStore() as cause:
            log.critical("daemon.cannot_start", message=str(cause))
            return EXIT_CONFIG
        case StoreUnavailable(message=message):
            log.critical("daemon.cannot_start", message=message)
            return EXIT_UNAVAILABLE
        case _:
            log.critical("daemon.gave_up", exc_info=error)
            return EXIT_CUT_OFF


def _needs_price_list(provider: ProviderConfig) -> bool:
    return provider.adapter != "mock" and provider.price is None


def _announce(config: Config, daemon: Daemon, took: float) -> None:
    # What lives now lives until the end: the collector need not look again.
    gc.collect()
    gc.freeze()
    for warning in config.warnings:
        log.warning("config.warning", message=str(warning))
    if config.is_default:
        log.warning(
            "daemon.no_config",
            message="no config.toml was found: only the mock provider is there",
        )
    log.info(
        "daemon.ready",
        socket=str(daemon.socket),
        version=__version__,
        pid=os.getpid(),
        providers=list(config.providers),
        ms=round(took * 1000, 1),
    )


async def _obey(
    signals: AsyncIterator[int],
    daemon: Daemon,
    now: trio.CancelScope,
    nursery: trio.Nursery,
) -> None:
    """Reload at SIGHUP; drain at the first signal to stop, end at the second."""
    asked = False
    async for number in signals:
        name = signal.Signals(number).name
        if number == signal.SIGHUP:
            log.info("daemon.signal", signal=name, does="reloads the keys")
            nursery.start_soon(_reload, daemon)
        elif asked:
            log.warning("daemon.signal", signal=name, does="ends at once")
            now.cancel()
        else:
            asked = True
            log.info("daemon.signal", signal=name, does="drains, then ends")
            daemon.shutdown()


async def _reload(daemon: Daemon) -> None:
    try:
        await daemon.reload()
    except InvalidRequest as error:
        log.warning("daemon.reload_refused", message=error.message)
