"""What every command is given: its arguments, its output and its daemon."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duckservice import paths
from duckservice.cli.exits import (
    BAD_CONFIG,
    NO_DAEMON,
    NOT_PERMITTED,
    TRY_AGAIN,
    Exit,
    status_of,
)
from duckservice.cli.output import Output

if TYPE_CHECKING:
    from duckservice.gateway.client import Answer, DaemonClient

_TIMEOUT = 10.0
"""Seconds that the daemon may take to answer what costs it nothing."""


class Session:
    """One run of one command."""

    def __init__(
        self, options: argparse.Namespace, out: Output, environ: Mapping[str, str]
    ) -> None:
        self.options = options
        self.out = out
        self.environ = environ

    def get(self, target: str) -> Any:
        """Return the daemon's answer to a GET."""
        with _as_exit():
            return self.request("GET", target, timeout=_TIMEOUT).json()

    def post(self, target: str) -> Any:
        """Return the daemon's answer to a POST without a body."""
        with _as_exit():
            return self.request("POST", target, timeout=_TIMEOUT).json()

    def request(
        self,
        method: str,
        target: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Return the daemon's answer; `Exit` is raised for whatever goes wrong."""
        with _as_exit():
            return self._client().request(method, target, body, headers, timeout)

    def stream(
        self,
        target: str,
        body: Any,
        headers: Mapping[str, str],
        on_headers: Callable[[Mapping[str, str]], object],
    ) -> Generator[str]:
        """Yield the data of each event that a POST brings, as it comes."""
        with _as_exit():
            events = self._client().stream(
                "POST", target, body, headers, on_headers=on_headers
            )
            with closing(events):
                for event in events:
                    yield event.data

    def _client(self) -> DaemonClient:
        # Here, since `duck --help` and `duck config` need no HTTP.
        from duckservice.gateway.client import DaemonClient

        return DaemonClient(self.socket())

    def socket(self) -> Path:
        """Return where the daemon's socket is to be."""
        flag = self.options.socket
        named = flag or self.environ.get("DUCK_SOCKET")
        configured = None if named else self._configured_socket()
        return paths.socket_path(self.environ, flag=flag, configured=configured)

    def config_path(self) -> paths.ConfigPath | None:
        """Return where the config file is to be; None if nothing says so."""
        return paths.config_path(self.environ, flag=self.options.config)

    def _configured_socket(self) -> Path | None:
        """Return `service.socket`; the rest of the file is the daemon's concern."""
        place = self.config_path()
        if place is None or not (place.explicit or place.path.exists()):
            return None
        import tomllib

        try:
            tables = tomllib.loads(place.path.read_text("utf-8"))
            socket = tables.get("service", {}).get("socket")
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            raise Exit(
                f"{place.path}: no usable config ({type(error).__name__});"
                " `duck config check` says more",
                BAD_CONFIG,
            ) from error
        return Path(socket) if isinstance(socket, str) else None


@contextmanager
def _as_exit() -> Generator[None]:
    """Turn what the client raises into the end of the program."""
    from duckservice.gateway.client import (
        DaemonError,
        DaemonNotRunning,
        DaemonUnreachable,
    )

    try:
        yield
    except DaemonNotRunning as error:
        raise Exit(f"{error}\n{error.hint}", NO_DAEMON) from error
    except DaemonUnreachable as error:
        raise Exit(str(error), _status_of_cause(error.__cause__)) from error
    except DaemonError as error:
        wait = f"; try again in {error.retry_after:g} s" if error.retry_after else ""
        message = f"{error.message} ({error.code}){wait}"
        raise Exit(message, status_of(error.code)) from error
    except ValueError as error:
        raise Exit("the daemon's answer is not JSON", NO_DAEMON) from error


def _status_of_cause(cause: BaseException | None) -> int:
    match cause:
        case TimeoutError():
            return TRY_AGAIN
        case PermissionError():
            return NOT_PERMITTED
        case _:
            return NO_DAEMON
