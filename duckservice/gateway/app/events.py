"""GET /v1/events, what happens as server-sent events, and GET /metrics for Prometheus.

    id: 19a9f3c2b1d-42
    event: attempt
    data: {"type":"attempt","at":1763752800.123,"provider":"openai","outcome":"ok",...}

A stream begins with the events after ``Last-Event-ID``, else with those since
``since``, else with the next one. Where some were missed, because the reader was
slow or away for too long, there is a ``gap`` in their place. The events of a slow
reader wait in the hub, which has a limit; one that reads nothing at all is aborted by
the server. Both are for admins (`roles`), as they tell of everybody's requests and
money. The stream ends when the daemon drains: come back with the last id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Final, TypeAlias, assert_never, final

import attrs
import trio
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from duckservice.errors import InvalidRequest
from duckservice.event_stream.as_json import encode, fields_of
from duckservice.event_stream.hub import Entry, EventHub, EventId, Gap, Item, Reader
from duckservice.event_stream.words import WORDS
from duckservice.gateway.app.api import ServiceApi
from duckservice.gateway.app.insight import parse_since
from duckservice.gateway.asgi import Receive, Scope, Send
from duckservice.gateway.wire.fields import refused, unknown
from duckservice.gateway.wire.headers import Header

HEARTBEAT: Final = 15.0
"""So often a silent stream shows that it is alive."""

_SSE: Final[tuple[Header, ...]] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # Proxies of nginx's kind hold a stream back unless they are told.
    (b"x-accel-buffering", b"no"),
)
_STILL_HERE: Final = b": still here\n\n"
_PARAMETERS: Final = ("types", "since")

_Draining: TypeAlias = Callable[[], AbstractContextManager[trio.CancelScope]]


@final
@attrs.frozen
class Events:
    """What happens, and what has happened in sum."""

    service: ServiceApi
    wall_clock: Callable[[], float]

    def routes(self) -> list[Route]:
        """Return the routes of this API."""
        return [
            Route("/v1/events", self.events, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
        ]

    async def events(self, request: Request) -> EventStream:
        """Answer with what happens."""
        query, hub = request.query_params, self.service.events
        words, since = self._read(query)
        after = read_event_id(request.scope["headers"])
        reader = hub.follow(after=after, since=since, words=words)
        only_head = request.method == "HEAD"
        return EventStream(hub, reader, self.service.until_draining, only_head)

    async def metrics(self, request: Request) -> Response:
        """Answer with all metrics."""
        accept = request.headers.get("accept", "")
        body, content_type = await self.service.metrics(accept)
        return Response(body, headers={"content-type": content_type})

    def _read(self, query: QueryParams) -> tuple[frozenset[str] | None, float | None]:
        for name in query:
            if name not in _PARAMETERS:
                raise unknown("query", name, ", ".join(_PARAMETERS))
        since = query.get("since")
        at = None if since is None else parse_since(since, self.wall_clock())
        return _words(query.getlist("types")), at


@final
@attrs.frozen(eq=False)
class EventStream:
    """The answer that follows the events; an ASGI application."""

    hub: EventHub
    reader: Reader
    until_draining: _Draining
    only_head: bool = False

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send events until the service drains."""
        first = str(self.reader.last_id).encode()
        headers = [*_SSE, (b"duck-last-event-id", first)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if self.only_head:
            await _write(send, b"", more=False)
            return
        # Who breaks off before the first event resumes here, too.
        await _write(send, b"retry: 1000\nid: %b\n\n" % first)
        with self.reader:
            while await self._send_some(send):
                pass
        await _write(send, b"", more=False)

    async def _send_some(self, send: Send) -> bool:
        """Send what there is, or that there is nothing; False: there will be no more."""
        items = list[Item]()
        with self.until_draining() as draining, trio.move_on_after(HEARTBEAT):
            items = await self.reader.read()
        if draining.cancelled_caught:
            # What led to the end is told, as far as it has happened.
            while rest := self.reader.read_nowait():
                await _write(send, self._encoded(rest))
            return False
        await _write(send, self._encoded(items) if items else _STILL_HERE)
        return True

    def _encoded(self, items: Iterable[Item]) -> bytes:
        return b"".join(encode_item(item, self.hub) for item in items)


def encode_item(item: Item, hub: EventHub) -> bytes:
    """Return one event as it is sent."""
    match item:
        case Gap(missed=missed):
            word, fields = "gap", {"missed": missed}
        case Entry(word=word, event=event):
            fields = fields_of(word, event, quotes=hub.quotes)
        case _:
            assert_never(item)
    data = encode(word, item.at, fields)
    id_ = f"{hub.life}-{item.number}"
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (id_.encode(), word.encode(), data)


def read_event_id(headers: Iterable[Header]) -> EventId | None:
    """Return the id in ``Last-Event-ID``; None without one.

    Raises:
        InvalidRequest: it is none of this stream's.
    """
    given = [value for name, value in headers if name == b"last-event-id" and value]
    if not given:
        return None
    found = EventId.parse(given[0].decode("latin-1"))
    if found is None or len(given) > 1:
        msg = "header Last-Event-ID: must be the id of an event of this stream"
        raise InvalidRequest(msg, param="Last-Event-ID")
    return found


def _words(given: list[str]) -> frozenset[str] | None:
    """Return the types that are asked for; None: all."""
    if not given:
        return None
    words = [word for value in given for word in value.split(",")]
    if words == [""]:
        raise refused("types", "names none")
    for word in words:
        if word not in WORDS:
            raise unknown("types", word, ", ".join(WORDS))
    return frozenset(words)


async def _write(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
