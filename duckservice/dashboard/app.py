"""Which answer a request gets: the way in, the page, the stream, or the daemon's.

GET /enter?token=         a cookie, and on to /
GET /                     the page
GET /static/<name>        one of its files
GET /stream               what happens (`stream`)
GET, POST /v1/...         the daemon's answer (`allowed`)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, assert_never, final
from urllib.parse import parse_qs

import attrs

from duckservice.dashboard.allowed import Forward, NotForwarded, verdict
from duckservice.dashboard.answers import (
    HTML,
    JSON,
    answer,
    answer_error,
    answer_page,
)
from duckservice.dashboard.asking import Asking
from duckservice.dashboard.board import Board
from duckservice.dashboard.door import AGAIN, Door, came_by_link
from duckservice.dashboard.page_files import INDEX, PageFile
from duckservice.dashboard.stream import stream
from duckservice.gateway.asgi import Receive, Scope, Send
from duckservice.gateway.client import (
    DaemonError,
    DaemonNotRunning,
    DaemonUnreachable,
)

_BAD_TOKEN: Final = (
    "This address was used already, or is older than five minutes. " + AGAIN
)
_STATIC: Final = "/static/"
_TO_THE_PAGE: Final = '<meta http-equiv="refresh" content="0;url=/">'


@final
@attrs.frozen
class DashboardApp:
    """The ASGI application; see the module."""

    door: Door
    board: Board
    daemon: Asking
    page: Mapping[str, PageFile]

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Answer one request. Bodies are not read: nothing here takes one."""
        refusal = await self.door.refusal(scope)
        path = scope["raw_path"].decode("latin-1")
        if refusal is not None:
            await self._refuse(path, refusal, send)
        elif path.startswith("/v1/"):
            await self._forward(scope, send)
        elif scope["method"] != "GET":
            await _only_get(send)
        elif path == "/enter":
            await self._enter(scope, send)
        elif path == "/stream":
            await stream(self.board, scope["headers"], send)
        else:
            await self._file(path, send)

    async def _refuse(self, path: str, why: str, send: Send) -> None:
        if path in {"/", "/enter"}:
            await answer_page(send, 403, why)
        else:
            await answer_error(send, 403, "permission_denied", why)

    async def _enter(self, scope: Scope, send: Send) -> None:
        tokens = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])
        cookie = self.door.entrance.enter(tokens[0]) if len(tokens) == 1 else None
        if cookie is None:
            await answer_page(send, 403, _BAD_TOKEN)
            return
        headers = [(b"set-cookie", cookie.encode())]
        if came_by_link(scope["headers"]):
            # The browser would not show a strict cookie where a link of another site
            # has led it, redirects included: the page itself has to go on.
            await answer_page(send, 200, "Welcome.", headers, _TO_THE_PAGE)
            return
        await answer(send, 303, HTML, b"", [*headers, (b"location", b"/")])

    async def _file(self, path: str, send: Send) -> None:
        name = INDEX if path == "/" else path.removeprefix(_STATIC)
        known = path == "/" or (path.startswith(_STATIC) and name != INDEX)
        file = self.page.get(name) if known else None
        if file is None:
            await answer_error(send, 404, "not_found", "there is nothing at this path")
            return
        await answer(send, 200, file.kind, file.body)

    async def _forward(self, scope: Scope, send: Send) -> None:
        its = verdict(scope["method"], scope["raw_path"], scope["query_string"])
        match its:
            case NotForwarded(status=status, message=message, allow=allow):
                headers = [(b"allow", allow.encode())] if allow else []
                code = "not_found" if status == 404 else "invalid_request"
                await answer_error(send, status, code, message, headers)
            case Forward():
                await self._ask(its, send)
            case _:
                assert_never(its)

    async def _ask(self, its: Forward, send: Send) -> None:
        try:
            found = await self.daemon.request(its.method, its.target, its.patience)
        except DaemonError as error:
            await answer_error(send, error.status, error.code, error.message)
        except DaemonNotRunning as error:
            await answer_error(send, 503, "no_daemon", str(error))
        except DaemonUnreachable as error:
            await answer_error(send, 502, "no_answer", str(error))
        else:
            kind = found.headers.get("content-type", "")
            # Whatever it is, it is not to be shown as a page.
            shown = JSON if kind.startswith(JSON) else "text/plain; charset=utf-8"
            await answer(send, found.status, shown, found.body)


async def _only_get(send: Send) -> None:
    message = "only GET is understood here"
    allow = [(b"allow", b"GET")]
    await answer_error(send, 405, "invalid_request", message, allow)
