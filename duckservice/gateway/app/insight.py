"""GET what the daemon knows of itself: status, tree, costs, providers, queue, health."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

import attrs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from duckservice.errors import InvalidRequest
from duckservice.gateway.app.api import ServiceApi
from duckservice.gateway.app.replies import json_value

_AGO = re.compile(r"([0-9]{1,9})([smhdw])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_EPOCH = re.compile(r"[0-9]{1,11}(\.[0-9]{1,9})?", re.ASCII)
_LOST_PLUS = re.compile(r"(:[0-9]{2}(?:\.[0-9]+)?) ([0-9]{2}:?[0-9]{2})$", re.ASCII)


@attrs.frozen
class Insight:
    """What the daemon knows of itself."""

    service: ServiceApi
    version: str
    wall_clock: Callable[[], float]

    def routes(self) -> list[Route]:
        """Return the routes of this API."""
        return [
            Route("/healthz", self.health),
            Route("/readyz", self.ready),
            Route("/v1/version", self.show_version),
            Route("/v1/status", self.status),
            Route("/v1/tree", self.tree),
            Route("/v1/costs", self.costs),
            Route("/v1/budgets", self.budgets),
            Route("/v1/providers", self.providers),
            Route("/v1/queue", self.queue),
        ]

    async def health(self, _: Request) -> Response:
        """Answer, which shows that the loop runs."""
        return json_value({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """Answer whether requests can be served."""
        return json_value(await self.service.ready())

    async def show_version(self, _: Request) -> Response:
        """Answer with the version."""
        return json_value({"version": self.version})

    async def status(self, _: Request) -> Response:
        """Answer how the service is."""
        return json_value(await self.service.status())

    async def tree(self, _: Request) -> Response:
        """Answer with the supervision tree."""
        return json_value(self.service.tree())

    async def costs(self, request: Request) -> Response:
        """Answer what was spent, by provider unless the query says otherwise."""
        query = request.query_params
        since = query.get("since")
        moment = None if since is None else parse_since(since, self.wall_clock())
        return json_value(await self.service.costs(query.get("by", "provider"), moment))

    async def budgets(self, _: Request) -> Response:
        """Answer what is left of each budget."""
        return json_value({"budgets": list(self.service.budgets())})

    async def providers(self, _: Request) -> Response:
        """Answer with each provider."""
        return json_value({"providers": list(await self.service.providers())})

    async def queue(self, _: Request) -> Response:
        """Answer how many requests wait."""
        return json_value(await self.service.queue())


def parse_since(text: str, now: float) -> float:
    """Return the moment that *text* names, in seconds since the epoch.

    It is a length of time before *now* ("24h"), an ISO date or time (UTC unless
    it says otherwise), or seconds since the epoch.
    """
    if (ago := _AGO.fullmatch(text)) is not None:
        return now - int(ago[1]) * _SECONDS[ago[2]]
    if _EPOCH.fullmatch(text):
        return float(text)
    try:
        # A "+" that was not escaped in a query is a blank: of a time, its offset's.
        moment = datetime.fromisoformat(_LOST_PLUS.sub(r"\1+\2", text))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return moment.timestamp()
    except (ValueError, OverflowError):
        allowed = "an ISO date or time, a length of time such as 24h, or epoch seconds"
        raise InvalidRequest(f"since: must be {allowed}", param="since") from None
