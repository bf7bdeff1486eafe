"""How structlog is set up: JSON lines, or one line an event on a terminal.

An event passes through these, in this order, once its level is high enough:

    level and time -> plain traceback, without locals -> no secret -> one line

No part of it can fail a request: what cannot be encoded is escaped, and what
cannot be written is dropped.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Final, TextIO, TypeAlias, cast

import attrs
import msgspec
import structlog

from duckservice.config import LogConfig
from duckservice.redaction import (
    holds_secret,
    redact,
    register_config,
    register_environment,
    register_secret,
)
from duckservice.terminal import CONTROLS, escape_controls

__all__ = ["register_config", "register_environment", "register_secret", "setup"]

Event: TypeAlias = MutableMapping[str, Any]

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_SILENCED: Final = ("httpx", "httpcore", "hpack", "opentelemetry", "urllib3")
_CHARS_MAX: Final = 16 * 1024
_DEPTH_MAX: Final = 8
_PLAIN: Final = frozenset({int, float, bool, type(None)})


def setup(
    config: LogConfig,
    stream: TextIO,
    *,
    environ: Mapping[str, str] = os.environ,
    now: Callable[[], datetime] | None = None,
) -> None:
    """Send all log events of this process to *stream*, from now on.

    Loggers that are in use already follow to the new stream and format, but keep
    the level that they had.
    """
    on_terminal = stream.isatty()
    console = config.format == "console" or (config.format == "auto" and on_terminal)
    _sink.write = stream.write
    _sink.flush = stream.flush
    _sink.now = now or _utc_now
    if console:
        _sink.render = _Console(colour=on_terminal and not environ.get("NO_COLOR"))
    else:
        _sink.render = _json_line
    structlog.configure(
        processors=[_process],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[config.level]),
        logger_factory=lambda *_: _sink,
        cache_logger_on_first_use=True,
    )
    _route_standard_logging()


def _utc_now() -> datetime:
    return datetime.now(UTC)


@attrs.define
class _Sink:
    """Where all loggers write to; it can be turned while they hold it."""

    write: Callable[[str], object]
    flush: Callable[[], object]
    now: Callable[[], datetime]
    render: Callable[[Event], str]
    dropped: int = 0

    def msg(self, line: str) -> None:
        """Write one event."""
        try:
            self.write(line)
            self.flush()
        except (OSError, ValueError):
            # A full disk, a closed pipe or a closed stream is no reason to fail
            # whoever had something to say.
            self.dropped += 1

    debug = info = warning = warn = error = critical = exception = log = fatal = msg


def _process(_: object, method: str, event: Event) -> str:
    """Return an event as the line to be written."""
    line: Event = {
        "timestamp": _iso(_sink.now()),
        "level": _level(method),
        "event": event.pop("event", ""),
    }
    exc_info = event.pop("exc_info", None)
    line.update(event)
    if exc_info:
        line["exception"] = _traceback(exc_info)
    if not _is_clean(line):
        line = _clean_table(line, 0)
    return _sink.render(line)


def _iso(now: datetime) -> str:
    return now.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _level(method: str) -> str:
    match method:
        case "warn":
            return "warning"
        case "exception":
            return "error"
        case "fatal":
            return "critical"
        case _:
            return method


def _traceback(exc_info: object) -> str:
    """Return a traceback without locals, which may hold prompts and keys."""
    error = exc_info if isinstance(exc_info, BaseException) else sys.exc_info()[1]
    if isinstance(exc_info, tuple):
        info = cast("tuple[Any, BaseException | None, Any]", exc_info)
        error = info[1]
    return "".join(traceback.format_exception(error)).rstrip("\n") if error else ""


def _is_clean(event: Event) -> bool:
    """Say whether *event* may be written as it is; fast, and never wrongly True."""
    texts: list[str] = []
    for value in event.values():
        kind: type = value.__class__
        if kind is str:
            texts.append(value)
        elif kind not in _PLAIN:
            return False
    text = "\n".join(texts)
    return len(text) <= _CHARS_MAX and not holds_secret(text)


def _clean(value: Any, depth: int) -> Any:
    """Return *value* as plain data without secrets, of bounded size and depth."""
    match value:
        case str():
            text = redact(value)
            return text if len(text) <= _CHARS_MAX else text[:_CHARS_MAX] + "…"
        case None | bool() | int() | float():
            return value
        case Mapping() if depth < _DEPTH_MAX:
            return _clean_table(cast("Mapping[object, Any]", value), depth + 1)
        case list() | tuple() | set() | frozenset() if depth < _DEPTH_MAX:
            items = cast("Iterable[Any]", value)
            return [_clean(item, depth + 1) for item in items]
        case Decimal() | PurePath():
            return _clean(str(value), depth)
        case _:
            return _clean(_repr(value), depth)


def _repr(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - a value's own repr may raise anything
        return f"<{type(value).__name__} whose repr raises {type(error).__name__}>"


def _clean_table(table: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    return {redact(str(key)): _clean(item, depth) for key, item in table.items()}


_encode = msgspec.json.Encoder().encode


def _json_line(event: Event) -> str:
    try:
        line = _encode(event).decode()
    except (UnicodeError, ValueError, TypeError, OverflowError):
        # A lone surrogate, or an integer of more than 64 bits.
        line = _encode(_encodable(event)).decode()
    if not line.isascii():
        # JSON allows some line separators and control characters; readers do not.
        line = CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", line)
    return line + "\n"


def _encodable(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case int() if not -(2**63) <= value < 2**64:
            return str(value) if value.bit_length() < 4096 else "a huge integer"
        case dict():
            items = cast("dict[str, Any]", value).items()
            return {_encodable(key): _encodable(item) for key, item in items}
        case list():
            return [_encodable(item) for item in cast("Iterable[Any]", value)]
        case _:
            return value


_COLOURS: Final = {
    "debug": "2",
    "info": "32",
    "warning": "33",
    "error": "31",
    "critical": "31;1",
}


@attrs.frozen
class _Console:
    """Renders an event for eyes: time, level, event, then its values."""

    colour: bool

    def __call__(self, event: Event) -> str:
        level = event.pop("level")
        time = event.pop("timestamp")[11:19]
        title = escape_controls(str(event.pop("event")))
        values = " ".join(f"{key}={_bare(value)}" for key, value in event.items())
        paint = self._painted(_COLOURS.get(level, "0"), f"{level:<8}")
        line = f"{time} {paint} {self._painted('1', title)} {values}"
        return line.rstrip() + "\n"

    def _painted(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text


def _bare(value: Any) -> str:
    """Return *value* on one line, in quotes where it has spaces."""
    text = escape_controls(str(value))
    if not text or " " in text or '"' in text:
        return '"' + text.replace('"', '\\"') + '"'
    return text


_sink = _Sink(write=lambda _: None, flush=lambda: None, now=_utc_now, render=_json_line)


class _ToStructlog(logging.Handler):
    """Carries what libraries log the standard way into our log."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger()
        write = log.error if record.levelno >= logging.ERROR else log.warning
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - whatever a library's arguments raise
            message = str(record.msg)
        write("library", message=message, logger=record.name, exc_info=record.exc_info)


def _route_standard_logging() -> None:
    root = logging.getLogger()
    root.handlers = [h for h in root.handlers if not isinstance(h, _ToStructlog)]
    root.addHandler(_ToStructlog(logging.WARNING))
    for name in _SILENCED:
        # They log URLs and headers, and both may carry a key.
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL + 1)
        logger.propagate = False
