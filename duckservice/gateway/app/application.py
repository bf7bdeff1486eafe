"""The HTTP application: every path, and who answers it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from duckservice import __version__
from duckservice.errors import DuckError
from duckservice.gateway.app.admin import Admin
from duckservice.gateway.app.api import DaemonControl, ServiceApi
from duckservice.gateway.app.batches import BatchApi
from duckservice.gateway.app.chat import create_completion
from duckservice.gateway.app.embeddings import create_embeddings
from duckservice.gateway.app.events import Events
from duckservice.gateway.app.exchange import Endpoint, Handler, Host
from duckservice.gateway.app.files import FileApi
from duckservice.gateway.app.images import create_images
from duckservice.gateway.app.insight import Insight
from duckservice.gateway.app.jobs import JobApi
from duckservice.gateway.app.messages import count_tokens, create_message
from duckservice.gateway.app.models import Models
from duckservice.gateway.app.openapi.route import OpenApi
from duckservice.gateway.app.replies import (
    answer_bug,
    answer_error,
    answer_http_error,
)
from duckservice.gateway.app.responses import create_response
from duckservice.gateway.app.roles import guarded
from duckservice.gateway.asgi import Message, Receive, Scope, Send
from duckservice.gateway.wire.errors import family_of
from duckservice.gateway.wire.headers import own_request_id

_REQUESTS: dict[str, Handler] = {
    "/v1/chat/completions": create_completion,
    "/v1/responses": create_response,
    "/v1/messages": create_message,
    "/v1/messages/count_tokens": count_tokens,
    "/v1/embeddings": create_embeddings,
    "/v1/images/generations": create_images,
}


def make_app(
    service: ServiceApi,
    *,
    control: DaemonControl | None = None,
    wall_clock: Callable[[], float] = time.time,
    owner_uid: int | None = None,
) -> Starlette:
    """Return the ASGI application in front of *service*.

    Args:
        control: The daemon; without one nothing can be drained or shut down.
        wall_clock: Seconds since the epoch.
        owner_uid: Who is an admin beside root (see `roles`); by default the user
            whom this process runs as.
    """
    host = Host(service=service, wall_clock=wall_clock)
    requests = {
        path: Endpoint(family_of(path), host, handle)
        for path, handle in _REQUESTS.items()
    }
    uid = os.geteuid() if owner_uid is None else owner_uid
    files = FileApi(service, uid, wall_clock)
    routes = [
        *(Route(path, end, methods=["POST"]) for path, end in requests.items()),
        *JobApi(service, uid, wall_clock).routes(),
        *files.routes(),
        *BatchApi(service, files, wall_clock).routes(),
        *Models(service).routes(),
        *Insight(service, __version__, wall_clock).routes(),
        *Events(service, wall_clock).routes(),
        *Admin(service, control).routes(),
        *OpenApi(__version__).routes(),
    ]
    app = _Application(requests, guarded(routes, uid))
    # A redirect would make a client send its prompt twice.
    app.router.redirect_slashes = False
    return app


@final
class _Application(Starlette):
    """Starlette, with a short way to the endpoints that make requests.

    Their paths are looked up before the routes are tried one after the other,
    which saves 20 µs a request; with another method than POST they take the
    way of all others.
    """

    def __init__(self, requests: dict[str, Endpoint], routes: list[Route]) -> None:
        super().__init__(
            routes=routes,
            exception_handlers={
                DuckError: answer_error,
                HTTPException: answer_http_error,
                Exception: answer_bug,
            },
        )
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            endpoint = self._requests.get(scope["path"])
            if endpoint is not None:
                await endpoint(scope, receive, send)
                return
        await super().__call__(scope, receive, _naming(scope, send))


def _naming(scope: Scope, send: Send) -> Send:
    """Return a *send* that gives the client's own `X-Request-Id` back.

    Endpoints that make requests do it themselves, and name those without one.
    """
    named = own_request_id(scope["headers"]) if scope["type"] == "http" else None
    if named is None:
        return send

    async def send_named(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = message.get("headers", ())
            if all(name != named[0] for name, _ in headers):
                message = {**message, "headers": [*headers, named]}
        await send(message)

    return send_named
