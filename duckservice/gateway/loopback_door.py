"""Who may come in over TCP: whoever asks for this place by its name, and has the token.

Every local user can connect to a port, and so can every page in a browser: by a name
that leads here (DNS rebinding), or by this address itself. So each request is asked,
whatever its path, in this order:

    Host      one of the listener's own names, with its port         else 403
    Origin    none, or the listener's own: no page of another site   else 403
    token     ``Authorization: Bearer`` or ``x-api-key``, where      else 401
              the SDKs send their ``api_key``

There is no answer with CORS headers, to a preflight neither. Who has the token is
taken for its owner, who runs the daemon: an admin. Requests over the Unix socket pass
untouched, for there the kernel says who asks.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from typing import Any, Final, final

import structlog
import trio

from duckservice.calls.call import Submitter
from duckservice.config import Secret
from duckservice.errors import PermissionDenied
from duckservice.gateway.asgi import ASGIApp, Receive, Scope, Send
from duckservice.gateway.http1 import OF_NO_USE_TO_PAGES
from duckservice.gateway.loopback_names import LoopbackNames
from duckservice.gateway.wire.errors import encode_error, family_of

LOG_PERIOD: Final = 10.0
"""Refusals are logged so often at most, however many there are."""

_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")
_BEARER: Final = b"bearer "

_log = structlog.get_logger("duckservice.gateway")


@final
class LoopbackDoor:
    """An ASGI application before another one; see the module."""

    def __init__(
        self, app: ASGIApp, *, host: str, port: int, token: Secret, owner: Submitter
    ) -> None:
        own = f"[{host}]" if ":" in host else host
        self._app = app
        self._names = LoopbackNames((*_NAMES, own), port)
        self._token = token.reveal().encode()
        self._owner = owner
        self._refused = 0
        """Since the last line in the log."""
        self._logged_at: float | None = None

    def __repr__(self) -> str:
        return "<LoopbackDoor>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request pass, or answer why not."""
        # The server knows no address of a client at a Unix socket.
        if scope["client"] is None:
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope["headers"])
        if refusal is not None:
            await self._refuse(scope, send, *refusal)
            return
        extensions: Mapping[str, Any] = scope["extensions"]
        # A new mapping: this one belongs to the connection, and the next request on
        # it has to show the token again.
        scope["extensions"] = {**extensions, "duck.peer": self._owner}
        await self._app(scope, receive, send)

    def _refusal(
        self, headers: Sequence[tuple[bytes, bytes]]
    ) -> tuple[int, str] | None:
        stranger = self._names.refusal(headers)
        if stranger is not None:
            return 403, stranger
        known = False
        for name, value in headers:
            if name == b"authorization":
                scheme, given = value[: len(_BEARER)], value[len(_BEARER) :]
                known |= scheme.lower() == _BEARER and self._is_token(given.strip())
            elif name == b"x-api-key":
                known |= self._is_token(value)
        if not known:
            return 401, (
                "the token is missing or wrong: send what is in service.token_file"
                " as the API key (Authorization: Bearer, or x-api-key)"
            )
        return None

    def _is_token(self, given: bytes) -> bool:
        return hmac.compare_digest(given, self._token)

    async def _refuse(
        self, scope: Scope, send: Send, status: int, message: str
    ) -> None:
        self._note(scope, message)
        answer = encode_error(
            PermissionDenied(message), family_of(scope["path"]), status=status
        )
        headers = [*answer.headers, *OF_NO_USE_TO_PAGES, (b"connection", b"close")]
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await send(
            {"type": "http.response.start", "status": status, "headers": headers}
        )
        await send({"type": "http.response.body", "body": answer.body})

    def _note(self, scope: Scope, why: str) -> None:
        """Log a refusal, unless one was logged just now: anybody can cause them."""
        self._refused += 1
        now = trio.current_time()
        if self._logged_at is not None and now < self._logged_at + LOG_PERIOD:
            return
        _log.warning(
            "gateway.http_refused",
            why=why,
            refused=self._refused,
            method=scope["method"],
        )
        self._refused, self._logged_at = 0, now
