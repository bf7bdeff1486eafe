"""Where the config file says that the socket is; the rest of it is the daemon's concern."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import cast

from duckservice.cli.exits import BAD_CONFIG, Exit


class Unreadable(Exception):
    """The file cannot be read, or is not TOML; the message says where, in plain words."""


def configured_socket(path: Path) -> Path | None:
    """Return `service.socket` of the config file at *path*; None where it has none.

    Raises:
        Unreadable: nobody can tell what it says.
        Exit: it is not there, though somebody has named it.
    """
    service: object = _tables(path).get("service", {})
    if not isinstance(service, dict):
        raise Unreadable(f"{path}: `service` is no table")
    socket = cast("dict[str, object]", service).get("socket")
    return Path(socket) if isinstance(socket, str) else None


def _tables(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError as error:
        # A name that is mistyped may mean another daemon: it is not guessed around.
        raise Exit(f"{path}: there is no such config file", BAD_CONFIG) from error
    except OSError as error:
        why = f"cannot be read ({(error.strerror or 'unknown').lower()})"
    except UnicodeDecodeError as error:
        why = f"is not UTF-8 text: there is an invalid byte at {_place(error)}"
    except tomllib.TOMLDecodeError as error:
        # Not chained: the text in the error's frames may hold keys.
        why = f"is not TOML: {error}"
    except (RecursionError, ValueError):
        why = "is not TOML: it is nested too deeply, or has too long a number"
    raise Unreadable(f"{path} {why}")


def _place(error: UnicodeDecodeError) -> str:
    before = error.object[: error.start]
    line = before.count(b"\n") + 1
    column = error.start - before.rfind(b"\n")
    return f"line {line}, column {column}"
