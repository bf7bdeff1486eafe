"""Talk to a running daemon over its Unix socket; made to be imported fast.

Blocking, and on the standard library's ``http.client`` alone: a command of the
CLI is over before trio or httpx would have been imported. Redirects are not
followed, and nothing is retried.
"""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from http.client import (
    HTTPConnection,
    HTTPException,
    HTTPResponse,
    IncompleteRead,
    RemoteDisconnected,
)
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias, cast
from urllib.parse import quote

JSON: TypeAlias = Any

_READ_BYTES: Final = 64 * 1024
LINE_BYTES_MAX: Final = 16 * 1024 * 1024
"""A longer line of a stream is an error, not memory."""
FOLLOW_SILENCE: Final = 60.0
"""Seconds that a job's stream may be silent: the daemon shows that it is alive more
often than that."""


class DaemonNotRunning(Exception):
    """Nobody serves the socket."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"no daemon answers at {path}: {reason}")
        self.path = path
        self.hint = "start one with: duckd"
        """What the user can do."""


class DaemonUnreachable(Exception):
    """The daemon broke the connection off, did not answer in time, or talked
    something else than HTTP."""


class DaemonError(Exception):
    """The daemon's answer is an error; the attributes are the answer's."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int,
        retry_after: float | None = None,
        job: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.retry_after = retry_after
        """Seconds."""
        self.job = job

    def __repr__(self) -> str:
        return f"DaemonError({self.code!r}, {self.message!r}, status={self.status})"


class Answer(NamedTuple):
    """A successful answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    def json(self) -> JSON:
        """Return the body decoded; raises `ValueError` if it is not JSON."""
        return json.loads(self.body)


class Event(NamedTuple):
    """One server-sent event, or one line of a body that is not an event stream."""

    data: str
    name: str = "message"
    id: str = ""


class DaemonClient:
    """Sends requests to the daemon at *path*; each over a connection of its own.

    Every method raises `DaemonNotRunning`, `DaemonUnreachable`, or `DaemonError`
    for a status from 300 on.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def request(
        self,
        method: str,
        path: str,
        body: JSON = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Return the answer to one request.

        Args:
            method: ``GET``, ``POST`` and so on.
            path: with the query, percent-encoded.
            body: bytes are sent as they are; anything else, None excepted, as JSON.
            headers: in addition to those that *body* needs.
            timeout: seconds that the daemon may be silent; None: for ever.

        """
        connection = _UnixConnection(self.path, timeout)
        try:
            response = _open(connection, method, path, body, headers)
            return Answer(response.status, _headers(response), response.read())
        except (OSError, HTTPException) as error:
            raise _unreachable(error) from error
        finally:
            connection.close()

    def stream(
        self,
        method: str,
        path: str,
        body: JSON = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        on_headers: Callable[[Mapping[str, str]], object] | None = None,
    ) -> Generator[Event]:
        """Yield what a streaming answer brings, as it comes.

        Of ``text/event-stream``, its events; of anything else, its lines. Closing
        the generator hangs up, which cancels the work for it. The arguments are
        those of `request`; *timeout* applies to each silence. *on_headers* is given
        the answer's headers, names in lower case, before the first event.
        """
        connection = _UnixConnection(self.path, timeout)
        try:
            response = _open(connection, method, path, body, headers)
            if on_headers is not None:
                on_headers(_headers(response))
            kind = response.getheader("content-type", "")
            if kind.startswith("text/event-stream"):
                yield from _events(response)
            else:
                for line in _lines(response):
                    yield Event(line)
        except (OSError, HTTPException) as error:
            raise _unreachable(error) from error
        finally:
            connection.close()

    def follow(
        self,
        job: str,
        after: int = 0,
        on_headers: Callable[[Mapping[str, str]], object] | None = None,
    ) -> Generator[Event]:
        """Yield the events of a job's stream that come after the one of that id.

        The last one is ``done`` or ``error``. A stream that stops before it raises
        `DaemonUnreachable`: follow again, after the last id, when the daemon is back.
        *on_headers* is as for `stream`: the daemon was there.
        """
        target = f"/v1/jobs/{quote(job, safe='')}/stream"
        last = {"Last-Event-ID": str(after)} if after else None
        stream = self.stream(
            "GET", target, None, last, timeout=FOLLOW_SILENCE, on_headers=on_headers
        )
        with closing(stream) as events:
            for event in events:
                yield event
                if event.name in {"done", "error"}:
                    return
        raise DaemonUnreachable("the stream broke off")


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(str(self._path))
        except OSError as error:
            self.close()
            if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ECONNREFUSED}:
                raise DaemonNotRunning(self._path, _reason(error)) from error
            raise


def _open(
    connection: _UnixConnection,
    method: str,
    path: str,
    body: JSON,
    headers: Mapping[str, str] | None,
) -> HTTPResponse:
    """Send the request and return the answer up to its body; raise its error."""
    sent = dict(headers or {})
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        sent.setdefault("Content-Type", "application/json")
    try:
        connection.request(method, path, body, sent)
    except (BrokenPipeError, ConnectionResetError):
        # A daemon that refuses a request may say so before it was sent to its end.
        if connection.sock is None:
            raise
    response = connection.getresponse()
    if response.status >= 300:
        raise _decoded(response)
    return response


def _unreachable(error: OSError | HTTPException) -> DaemonUnreachable:
    if isinstance(error, TimeoutError):
        return DaemonUnreachable("the daemon did not answer in time")
    if isinstance(error, RemoteDisconnected):
        return DaemonUnreachable(
            "the daemon ended before it answered; what was asked of it may have been"
            " done"
        )
    if isinstance(error, OSError):
        return DaemonUnreachable(
            f"the connection to the daemon broke: {_reason(error)}"
        )
    if isinstance(error, IncompleteRead):
        return DaemonUnreachable("the daemon ended in the middle of its answer")
    return DaemonUnreachable(f"the daemon's answer is broken: {type(error).__name__}")


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def _headers(response: HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.getheaders()}


def _decoded(response: HTTPResponse) -> DaemonError:
    """Return the error that an answer holds, of our form, OpenAI's or Anthropic's."""
    error = _error_object(response.read())
    message = error.get("message") or f"HTTP status {response.status}"
    return DaemonError(
        str(error.get("code") or error.get("type") or "internal_error"),
        str(message),
        status=response.status,
        retry_after=_seconds(
            error.get("retry_after", response.getheader("retry-after"))
        ),
        job=str(error.get("job") or ""),
    )


def _error_object(body: bytes) -> dict[str, Any]:
    try:
        answer: Any = json.loads(body)
    except ValueError:
        return {}
    error = cast("dict[str, Any]", answer).get("error") if _is_table(answer) else None
    return cast("dict[str, Any]", error) if _is_table(error) else {}


def _is_table(value: object) -> bool:
    return isinstance(value, dict)


def _seconds(value: object) -> float | None:
    try:
        return float(cast("str", value))
    except (TypeError, ValueError):
        return None


def _events(response: HTTPResponse) -> Generator[Event]:
    """Yield a stream's events; one that is cut off by the end is dropped."""
    data: list[str] = []
    name, last_id = "", ""
    for line in _lines(response):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield Event("\n".join(data), name or "message", last_id)
            data, name = [], ""
        elif field == "data":
            data.append(value)
        elif field == "event":
            name = value
        elif field == "id":
            last_id = value


def _lines(response: HTTPResponse) -> Generator[str]:
    # Not `readline`, which takes a chunked body that is cut off for its end.
    pending = b""
    while data := response.read1(_READ_BYTES):
        *lines, pending = (pending + data).split(b"\n")
        if len(pending) > LINE_BYTES_MAX:
            raise HTTPException("a line of the stream is too long")
        for line in lines:
            yield line.removesuffix(b"\r").decode(errors="replace")
    if response.length:
        raise IncompleteRead(b"", response.length)
    if pending:
        yield pending.decode(errors="replace")
