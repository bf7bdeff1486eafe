"""duckd: one process that owns a machine's LLM traffic.

    start     configuration, log, socket (locked, or systemd's), tree; then
              "daemon.ready", and systemd is told so
    run       until SIGTERM, SIGINT, or POST /v1/shutdown; SIGHUP reads the config
              again, SIGUSR1 writes down what all tasks do
    drain     no new requests; those under way are answered, for drain_grace
    end       the tree stops in order; a second signal ends it at once

Exit codes: 0; 1 requests were cut off, or the tree gave up; 2 usage; 69 another
daemon serves the socket, or the store cannot be opened; 78 configuration.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TextIO, cast

import attrs
import structlog
import trio

from duckservice import __version__, paths
from duckservice.config import Config, ConfigError, ProviderConfig, load
from duckservice.daemon import Daemon, open_daemon
from duckservice.errors import DuckError
from duckservice.gateway.activation import (
    InheritedListener,
    say_who_may_connect,
    take_inherited,
)
from duckservice.host.dump import dump_text, write_dump
from duckservice.host.hardening import harden, scrub
from duckservice.host.standard_error import PatientOutput, open_standard_streams
from duckservice.host.systemd import Notifier
from duckservice.host.watchdog import keep_watchdog
from duckservice.log import (
    register_config,
    register_environment,
    setup as setup_log,
)
from duckservice.otel.settings import HEADERS, with_environment
from duckservice.paths import EXIT_CONFIG, EXIT_UNAVAILABLE, StartupError
from duckservice.providers.prices import load_price_list
from duckservice.store import UnknownStore
from duckservice.store.base import StoreUnavailable
from supervisors import StartFailed, SupervisionError

EXIT_CUT_OFF = 1
READY_AGAIN = 0.5
"""Seconds until readiness is looked for again."""

log = structlog.get_logger("duckd")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the daemon; the entry point of ``duckd`` and ``python -m duckservice``."""
    open_standard_streams()
    options = _parser().parse_args(argv)
    # A fatal signal, as the watchdog's SIGABRT, leaves the stacks: no values in them.
    faulthandler.enable()
    output = PatientOutput(sys.stderr.fileno())
    try:
        code = _main(options, output)
    except ConfigError as error:
        output.write(f"duckd: the configuration is refused\n{error}\n")
        code = EXIT_CONFIG
    except StartupError as error:
        output.write(f"duckd: {error}\n")
        code = error.exit_code
    output.finish()
    sys.exit(code)


def _main(options: argparse.Namespace, output: PatientOutput) -> int:
    notifier = Notifier.take(os.environ)
    inherited = take_inherited(os.environ)
    harden(os.environ)
    # A reload reads the config again, which needs the keys that are taken out.
    environ = dict(os.environ)
    config = _load(options.config, environ)
    setup_log(config.log, cast("TextIO", output))
    register_config(config)
    register_environment(environ)
    scrub(os.environ, config)
    os.environ.pop(HEADERS, None)  # they are in the config now, and may be secret
    socket = inherited.path if inherited else _socket_path(options.socket, config)
    if inherited:
        say_who_may_connect(socket)
    setting = _Setting(
        config=config,
        socket=socket,
        state_dir=paths.state_dir(environ, configured=config.service.state_dir),
        read_config=partial(_load, options.config, environ),
        inherited=inherited,
        notifier=notifier,
    )
    return trio.run(_run, setting)


@attrs.frozen(kw_only=True)
class _Setting:
    """What the daemon is started with."""

    config: Config
    socket: Path
    state_dir: Path
    read_config: Callable[[], Config]
    inherited: InheritedListener | None
    notifier: Notifier


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
        return with_environment(load(None, environ), environ)
    return with_environment(load(found.path, environ), environ)


def _socket_path(flag: str | None, config: Config) -> Path:
    configured = config.service.socket
    return paths.socket_path(os.environ, flag=flag, configured=configured)


async def _run(setting: _Setting) -> int:
    """Run until told to stop; return the exit code."""
    since = trio.current_time()
    config, code = setting.config, 0
    try:
        with (
            trio.open_signal_receiver(
                signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1
            ) as signals,
            trio.CancelScope() as now,
        ):
            async with (
                open_daemon(
                    config,
                    setting.socket,
                    state_dir=setting.state_dir,
                    read_config=setting.read_config,
                    inherited=setting.inherited,
                    notifier=setting.notifier,
                ) as daemon,
                trio.open_nursery() as nursery,
            ):
                signalled = _Signals(daemon, setting.state_dir, now, nursery)
                nursery.start_soon(signalled.obey, signals)
                if any(_needs_price_list(its) for its in config.providers.values()):
                    # In a thread, after the socket is up: it takes 0.2 s, which
                    # the first request should not wait for.
                    nursery.start_soon(trio.to_thread.run_sync, load_price_list)
                _announce(config, daemon, trio.current_time() - since)
                nursery.start_soon(_tell_ready, daemon)
                nursery.start_soon(keep_watchdog, daemon.service, daemon.notifier)
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
            message="no config.toml was found: it runs on built-in defaults, and only"
            " the mock provider is there",
        )
    log.info(
        "daemon.ready",
        socket=str(daemon.socket),
        http=daemon.http.address,
        version=__version__,
        pid=os.getpid(),
        providers=list(config.providers),
        ms=round(took * 1000, 1),
    )


async def _tell_ready(daemon: Daemon) -> None:
    """Tell systemd that requests are served, once all parts have answered."""
    while True:
        try:
            await daemon.service.ready()
        except DuckError as error:
            daemon.notifier.status(f"not ready: {error.message}")
        else:
            if daemon.notifier.ready(_serving(daemon)):
                return
        await trio.sleep(READY_AGAIN)


def _serving(daemon: Daemon) -> str:
    if daemon.service.draining:
        return "draining: what is there is finished, and no more"
    providers = ", ".join(daemon.service.config.providers)
    return f"serving {daemon.socket} with {providers}"


@attrs.define
class _Signals:
    """Does what signals ask of the daemon."""

    daemon: Daemon
    state_dir: Path
    _now: trio.CancelScope
    _nursery: trio.Nursery
    _asked: bool = False

    async def obey(self, signals: AsyncIterator[int]) -> None:
        """Obey each signal that comes, in order."""
        async for number in signals:
            self._obey(signal.Signals(number))

    def _obey(self, number: signal.Signals) -> None:
        match number:
            case signal.SIGHUP:
                log.info(
                    "daemon.signal",
                    signal=number.name,
                    does="reads the configuration again",
                )
                self._nursery.start_soon(_reload, self.daemon)
            case signal.SIGUSR1:
                root = self.daemon.service.root
                text = dump_text(None if root is None else root.inspect())
                self._nursery.start_soon(_write_dump, self.state_dir, text)
            case _ if self._asked:
                log.warning("daemon.signal", signal=number.name, does="ends at once")
                self._now.cancel()
            case _:
                self._asked = True
                log.info("daemon.signal", signal=number.name, does="drains, then ends")
                self.daemon.shutdown()


async def _reload(daemon: Daemon) -> None:
    """Read the config again, and tell systemd when that begins and is over."""
    daemon.notifier.reloading()
    status = _serving(daemon)
    try:
        await daemon.reload()
    except DuckError as error:
        log.warning("daemon.reload_refused", message=error.message)
        status += "; the last reload was refused, and the log says why"
    except Exception as error:
        # Nobody waits for the answer: a bug here must not end the daemon.
        log.exception("daemon.reload_failed", exc_info=error)
        status += "; the last reload has failed, and the log says why"
    daemon.notifier.ready(status)


async def _write_dump(directory: Path, text: str) -> None:
    try:
        path = await trio.to_thread.run_sync(write_dump, directory, text)
    except OSError as error:
        # The log takes as much of it as one value may have.
        log.warning("daemon.dump_failed", message=str(error), dump=text)
    else:
        log.info("daemon.dumped", path=str(path), chars=len(text))
