"""How the dashboard answers: each answer with the headers that keep the page to itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Final, TypeAlias

from duckservice.gateway.asgi import Send

Header: TypeAlias = tuple[bytes, bytes]

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

SAFETY: Final[tuple[Header, ...]] = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
)
"""On every answer."""

JSON: Final = "application/json"
HTML: Final = "text/html; charset=utf-8"


async def start(
    send: Send, status: int, kind: str, headers: Sequence[Header] = ()
) -> None:
    """Begin an answer."""
    its = [*SAFETY, (b"content-type", kind.encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": its})


async def answer(
    send: Send,
    status: int,
    kind: str,
    body: bytes,
    headers: Sequence[Header] = (),
) -> None:
    """Send a whole answer."""
    await start(send, status, kind, headers)
    await send({"type": "http.response.body", "body": body})


async def answer_error(
    send: Send,
    status: int,
    code: str,
    message: str,
    headers: Sequence[Header] = (),
) -> None:
    """Send an error as the daemon's API has them."""
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    await answer(send, status, JSON, body, headers)


async def answer_page(
    send: Send, status: int, text: str, headers: Sequence[Header] = (), meta: str = ""
) -> None:
    """Send a page that says one thing."""
    body = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"{meta}<title>duck dashboard</title><p>{escape(text)}</p></html>\n"
    )
    await answer(send, status, HTML, body.encode(), headers)
