"""`duck config check|show|path`: the config file, without a daemon."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from duckservice.cli.exits import BAD_CONFIG, OK, Exit
from duckservice.cli.session import Session
from duckservice.terminal import escape_controls

if TYPE_CHECKING:
    from duckservice.config import Config, ConfigError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what is to be done with the file."""
    parser.add_argument(
        "action",
        choices=("check", "show", "path"),
        help="check: all that is wrong in it; show: what holds, without secrets;"
        " path: where it is",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="refuse secrets that are not in this environment; without it they are"
        " warned of, as duckd's own decides",
    )


def run(session: Session) -> int:
    """Check or show the config, or say where it is."""
    match session.options.action:
        case "check":
            return _check(session)
        case "show":
            return _show(session)
        case _:
            return _path(session)


def _check(session: Session) -> int:
    from duckservice.config import ConfigError

    file = _file(session)
    elsewhere: list[str] = []
    try:
        config = _load(session, elsewhere)
    except ConfigError as error:
        if session.options.json:
            session.out.json(_refused(file, error))
        else:
            session.out.note(str(error))
        return BAD_CONFIG
    warnings = [*config.warnings, *map(_put_off, elsewhere)]
    if session.options.json:
        session.out.json(
            {"ok": True, "file": file, "complaints": [], "warnings": warnings}
        )
        return OK
    for warning in warnings:
        session.out.note(f"warning: {warning}")
    session.out.data(f"{escape_controls(file or 'built-in defaults')}: ok")
    return OK


def _put_off(found: str) -> str:
    return f"{found} here: what duckd has in its own environment decides"


def _refused(file: str | None, error: ConfigError) -> dict[str, Any]:
    complaints = [
        {
            "key": complaint.key,
            "found": complaint.found,
            "allowed": complaint.allowed,
            "hint": complaint.hint,
        }
        for complaint in error.complaints
    ]
    return {"ok": False, "file": file, "complaints": complaints, "warnings": []}


def _show(session: Session) -> int:
    from duckservice.config import ConfigError

    try:
        tables = _load(session, []).redacted()
    except ConfigError as error:
        raise Exit(str(error), BAD_CONFIG) from error
    if session.options.json:
        session.out.json(tables)
    else:
        session.out.data("\n".join(_toml(tables, ())).strip())
    return OK


def _path(session: Session) -> int:
    place = session.config_path()
    exists = place is not None and place.path.exists()
    path = None if place is None else str(place.path)
    if session.options.json:
        session.out.json({"path": path, "exists": exists})
    else:
        session.out.data(escape_controls(path or ""))
        if not exists:
            session.out.note("there is no such file: the built-in defaults hold")
    return OK


def _load(session: Session, elsewhere: list[str]) -> Config:
    """Return the config; *elsewhere* takes the secrets that are not to be had here."""
    from duckservice.config import Config, load

    file = _file(session)
    if file is None:
        return Config.default()
    if session.options.strict:
        return load(Path(file), session.environ)
    # Here, because cattrs takes long to import, and `path` needs none of it.
    from duckservice.config_toml.load import load_file

    return load_file(Path(file), session.environ, elsewhere=elsewhere)


def _file(session: Session) -> str | None:
    place = session.config_path()
    if place is None or not (place.explicit or place.path.exists()):
        return None
    return str(place.path)


def _toml(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """Yield *table* as lines of TOML: its own keys first, then its sub-tables."""
    values = {k: v for k, v in table.items() if not isinstance(v, Mapping)}
    if values and path:
        yield ""
        yield f"[{'.'.join(map(_key, path))}]"
    for key, value in values.items():
        # A JSON string, number, boolean or array of them is TOML as well.
        yield f"{_key(key)} = {json.dumps(value)}"
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _toml(cast("Mapping[str, Any]", value), (*path, key))


def _key(key: str) -> str:
    bare = key.replace("-", "").replace("_", "")
    return key if bare.isascii() and bare.isalnum() else json.dumps(key)
