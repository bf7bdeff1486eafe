"""Where the daemon's socket, state and configuration are; pure over an environment.

    socket   --socket > $DUCK_SOCKET > service.socket
             > $XDG_RUNTIME_DIR/duckd/duckd.sock > $HOME/.local/state/duckd/duckd.sock
    state    service.state_dir > $XDG_STATE_HOME/duckd > $HOME/.local/state/duckd
    config   --config > $DUCK_CONFIG > $XDG_CONFIG_HOME/duckd/config.toml
             > $HOME/.config/duckd/config.toml

An empty variable counts as unset, and so does a relative path in an ``XDG_``
variable, as the XDG base directory specification asks. There is no default
under ``/tmp``: whoever creates a name there first would own it. The command
line imports this module at every start, so it imports the standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

Environ: TypeAlias = Mapping[str, str]

SOCKET_PATH_BYTES_MAX: Final = 107
"""What fits into the kernel's ``sun_path`` of 108 bytes, with its final NUL."""

EXIT_UNAVAILABLE: Final = 69
EXIT_CONFIG: Final = 78


class StartupError(Exception):
    """The daemon cannot start as asked; the message says why and what to change."""

    exit_code: int = EXIT_CONFIG


class ConfigPath(NamedTuple):
    """The configuration file's place, and whether somebody asked for that place."""

    path: Path
    explicit: bool
    """Named by flag or variable: that it does not exist is then an error."""


def socket_path(
    environ: Environ,
    *,
    flag: str | Path | None = None,
    configured: Path | None = None,
) -> Path:
    """Return the socket's path.

    Raises `StartupError` if the path is too long for the kernel, or if nothing
    says where the socket is to be.
    """
    asked = flag or environ.get("DUCK_SOCKET") or configured
    if asked:
        return checked_socket_path(_expanded(asked, environ))
    runtime = _xdg(environ, "XDG_RUNTIME_DIR")
    if runtime is not None:
        return checked_socket_path(runtime / "duckd" / "duckd.sock")
    directory = _home(environ, "the socket", "--socket or $DUCK_SOCKET")
    return checked_socket_path(
        directory / ".local" / "state" / "duckd" / "duckd.sock",
    )


def state_dir(environ: Environ, *, configured: Path | None = None) -> Path:
    """Return the directory of the daemon's state; it need not exist yet.

    Raises `StartupError` if nothing says where it is to be.
    """
    if configured:
        return _expanded(configured, environ)
    state_home = _xdg(environ, "XDG_STATE_HOME")
    if state_home is not None:
        return state_home / "duckd"
    home = _home(environ, "the state directory", "service.state_dir")
    return home / ".local" / "state" / "duckd"


def config_path(
    environ: Environ, *, flag: str | Path | None = None
) -> ConfigPath | None:
    """Return where the configuration is read from; None if there is no such place.

    Where the path is not explicit, a missing file means: run on the defaults.
    """
    asked = flag or environ.get("DUCK_CONFIG")
    if asked:
        return ConfigPath(_expanded(asked, environ), explicit=True)
    config_home = _xdg(environ, "XDG_CONFIG_HOME")
    if config_home is None:
        home = environ.get("HOME")
        if not home:
            return None
        config_home = Path(home, ".config")
    return ConfigPath(config_home / "duckd" / "config.toml", explicit=False)


def checked_socket_path(path: Path) -> Path:
    """Return *path*; raise `StartupError` if the kernel cannot take it."""
    size = len(os.fsencode(path))
    if size > SOCKET_PATH_BYTES_MAX:
        raise StartupError(
            f"the socket path is {size} bytes long, and the system allows "
            f"{SOCKET_PATH_BYTES_MAX}: {path}; choose a shorter one with --socket, "
            "$DUCK_SOCKET or service.socket"
        )
    return path


def _expanded(path: str | Path, environ: Environ) -> Path:
    text = os.fspath(path)
    home = environ.get("HOME")
    if home and (text == "~" or text.startswith("~/")):
        return Path(home, text[2:])
    return Path(text)


def _xdg(environ: Environ, variable: str) -> Path | None:
    value = environ.get(variable, "")
    return Path(value) if value.startswith("/") else None


def _home(environ: Environ, what: str, remedy: str) -> Path:
    home = environ.get("HOME")
    if not home:
        raise StartupError(
            f"cannot tell where {what} is to be: $HOME is not set; say it with {remedy}"
        )
    return Path(home)
