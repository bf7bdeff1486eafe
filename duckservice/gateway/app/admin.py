"""POST what changes the daemon; `roles` says who may."""

from __future__ import annotations

import attrs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from duckservice.errors import NotFound
from duckservice.gateway.app.api import (
    PROVIDER_ACTIONS,
    DaemonControl,
    ServiceApi,
)
from duckservice.gateway.app.replies import json_value


@attrs.frozen
class Admin:
    """What changes the daemon."""

    service: ServiceApi
    control: DaemonControl | None

    def routes(self) -> list[Route]:
        """Return the routes of this API."""
        post = ["POST"]
        return [
            Route("/v1/providers/check", self.check_providers, methods=post),
            Route("/v1/providers/{name:path}/{action}", self.provider, methods=post),
            Route("/v1/tree/{path:path}/restart", self.restart, methods=post),
            Route("/v1/queue/pause", self.pause, methods=post),
            Route("/v1/queue/resume", self.resume, methods=post),
            Route("/v1/reload", self.reload, methods=post),
            Route("/v1/drain", self.drain, methods=post),
            Route("/v1/shutdown", self.shutdown, methods=post),
        ]

    async def provider(self, request: Request) -> Response:
        """Enable, disable, reset or check a provider."""
        wanted = request.path_params["action"]
        for action in PROVIDER_ACTIONS:
            if action == wanted:
                name: str = request.path_params["name"]
                return json_value(await self.service.provider_action(name, action))
        allowed = ", ".join(PROVIDER_ACTIONS)
        raise NotFound(f"no such action on a provider; there are: {allowed}")

    async def check_providers(self, _: Request) -> Response:
        """Check all providers, side by side."""
        return json_value({"providers": await self.service.check_providers()})

    async def restart(self, request: Request) -> Response:
        """Crash an actor, so that its supervisor restarts it."""
        path: str = request.path_params["path"]
        await self.service.restart_actor(path)
        return json_value({"restarted": path})

    async def pause(self, _: Request) -> Response:
        """Give no more turns; requests under way go on."""
        return json_value(await self.service.pause_queue(paused=True))

    async def resume(self, _: Request) -> Response:
        """Give turns again."""
        return json_value(await self.service.pause_queue(paused=False))

    async def reload(self, _: Request) -> Response:
        """Read the config again, and take over the keys that have changed."""
        return json_value(await self._daemon().reload())

    async def drain(self, _: Request) -> Response:
        """Have the daemon finish what it has, and take nothing new."""
        self._daemon().drain()
        return json_value({"state": "draining"})

    async def shutdown(self, _: Request) -> Response:
        """Have the daemon drain, then end."""
        self._daemon().shutdown()
        return json_value({"state": "stopping"})

    def _daemon(self) -> DaemonControl:
        if self.control is None:
            raise NotFound("this service runs inside a program, not as a daemon")
        return self.control
