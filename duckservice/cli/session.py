"""What every command is given: its arguments, its output and its daemon."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duckservice import paths
from duckservice.cli.exits import (
    NO_DAEMON,
    NOT_PERMITTED,
    TRY_AGAIN,
    Exit,
    status_of,
)
from duckservice.cli.output import Output
from duckservice.terminal import escape_controls

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
        self._socket: Path | None = None

    def get(self, target: str) -> Any:
        """Return the daemon's answer to a GET."""
        with self._as_exit():
            return self.request("GET", target, timeout=_TIMEOUT).json()

    def post(self, target: str) -> Any:
        """Return the daemon's answer to a POST without a body."""
        with self._as_exit():
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
        with self._as_exit():
            return self._client().request(method, target, body, headers, timeout)

    def stream(
        self,
        target: str,
        body: Any,
        headers: Mapping[str, str],
        on_headers: Callable[[Mapping[str, str]], object],
    ) -> Generator[str]:
        """Yield the data of each event that a POST brings, as it comes."""
        with self._as_exit():
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
        """Return where the daemon's socket is to be.

        A config that cannot be read is warned of once: only the daemon needs the rest
        of it, and the socket is most likely in its usual place.
        """
        if self._socket is None:
            self._socket = self._find_socket()
        return self._socket

    def _find_socket(self) -> Path:
        flag = self.options.socket
        if flag or self.environ.get("DUCK_SOCKET"):
            return paths.socket_path(self.environ, flag=flag)
        place = self.config_path()
        if place is None or not (place.explicit or place.path.exists()):
            return paths.socket_path(self.environ)
        # Here, since it takes time to import, and is needed for this alone.
        from duckservice.cli.configured_socket import Unreadable, configured_socket

        try:
            configured = configured_socket(place.path)
        except Unreadable as error:
            usual = paths.socket_path(self.environ)
            self.out.note(
                escape_controls(
                    f"duck: warning: {error}; the daemon is looked for at {usual}"
                )
            )
            return usual
        return paths.socket_path(self.environ, configured=configured)

    def config_path(self) -> paths.ConfigPath | None:
        """Return where the config file is to be; None if nothing says so."""
        return paths.config_path(self.environ, flag=self.options.config)

    @contextmanager
    def _as_exit(self) -> Generator[None]:
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
            wait = (
                f"; try again in {error.retry_after:g} s" if error.retry_after else ""
            )
            known = self._known_models() if error.code == "model_not_found" else ""
            message = f"{error.message} ({error.code}){wait}{known}"
            raise Exit(message, status_of(error.code)) from error
        except ValueError as error:
            raise Exit("the daemon's answer is not JSON", NO_DAEMON) from error

    def _known_models(self) -> str:
        """Return where to find a model that there is, and which was perhaps meant."""
        from duckservice.config_toml.refused import did_you_mean
        from duckservice.gateway.client import (
            DaemonError,
            DaemonNotRunning,
            DaemonUnreachable,
        )

        meant = ""
        asked = getattr(self.options, "model", None)
        try:
            answer = self._client().request("GET", "/v1/models", timeout=_TIMEOUT)
            names = [str(its["id"]) for its in answer.json()["data"]]
            meant = did_you_mean(asked, names) if asked else ""
        except (DaemonError, DaemonNotRunning, DaemonUnreachable):
            pass  # what was asked for has failed already
        except (KeyError, TypeError, ValueError):
            pass
        return "; `duck models` shows what there is" + (f"; {meant}" if meant else "")


def _status_of_cause(cause: BaseException | None) -> int:
    match cause:
        case TimeoutError():
            return TRY_AGAIN
        case PermissionError():
            return NOT_PERMITTED
        case _:
            return NO_DAEMON
