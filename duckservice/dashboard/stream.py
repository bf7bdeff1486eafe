"""What the board shows, to one page, as server-sent events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import trio

from duckservice.dashboard.answers import Header, answer_error, start
from duckservice.dashboard.board import PAGES_MAX, Board, Page, TooManyPages
from duckservice.gateway.asgi import Send

HEARTBEAT: Final = 15.0
"""So often a silent stream shows that it is alive."""
PAUSE: Final = 0.05
"""Between two pieces: what happens meanwhile goes together."""

_KIND: Final = "text/event-stream; charset=utf-8"
_STILL_HERE: Final = b": still here\n\n"


async def stream(
    board: Board, headers: Iterable[Header], send: Send, *, heartbeat: float = HEARTBEAT
) -> None:
    """Answer with what the board shows, until the page is closed."""
    try:
        with board.open_page(_last_event_id(headers)) as page:
            await start(send, 200, _KIND)
            await _write(send, b"retry: 1000\n\n")
            await _show(board, page, send, heartbeat)
    except TooManyPages:
        message = f"{PAGES_MAX} pages of this dashboard are open: close some"
        await answer_error(send, 503, "too_many_pages", message)


async def _show(board: Board, page: Page, send: Send, heartbeat: float) -> None:
    while True:
        frames = page.read_nowait()
        if frames:
            await _write(send, b"".join(frames))
            await trio.sleep(PAUSE)
            continue
        with trio.move_on_after(heartbeat) as patience:
            await board.wait_changed()
        if patience.cancelled_caught:
            await _write(send, _STILL_HERE)


def _last_event_id(headers: Iterable[Header]) -> str:
    for name, value in headers:
        if name == b"last-event-id":
            return value.decode("latin-1")
    return ""


async def _write(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})
