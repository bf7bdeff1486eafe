"""GET /v1/models and /v1/models/{id}."""

from __future__ import annotations

import attrs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from duckservice.errors import ModelNotFound
from duckservice.gateway.app.api import ServiceApi
from duckservice.gateway.app.replies import json_bytes
from duckservice.gateway.wire.models import encode_model, encode_models


@attrs.frozen
class Models:
    """What can be asked for."""

    service: ServiceApi

    def routes(self) -> list[Route]:
        """Return the routes of this API."""
        return [
            Route("/v1/models", self.index),
            Route("/v1/models/{id:path}", self.show),
        ]

    async def index(self, _: Request) -> Response:
        """Answer with all models."""
        return json_bytes(encode_models(await self.service.models()))

    async def show(self, request: Request) -> Response:
        """Answer with one model."""
        wanted: str = request.path_params["id"]
        for model in await self.service.models():
            if model.id == wanted:
                return json_bytes(encode_model(model))
        raise ModelNotFound(
            "the configuration names no model of this id; a provider whose `models`"
            " hold a pattern such as gpt-* may serve it all the same",
            param="id",
        )
