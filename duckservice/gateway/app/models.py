"""GET /v1/models and /v1/models/{id}.

With ``?details=true`` each model has its ``offers``: who has it, for what, with which
capabilities, at which price. Without, the answers have OpenAI's fields and Anthropic's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from duckservice.errors import InvalidRequest, ModelNotFound
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

    async def index(self, request: Request) -> Response:
        """Answer with all models."""
        detail = await self._detail(request)
        return json_bytes(encode_models(await self.service.models(), detail))

    async def show(self, request: Request) -> Response:
        """Answer with one model."""
        wanted: str = request.path_params["id"]
        for model in await self.service.models():
            if model.id == wanted:
                return json_bytes(encode_model(model, await self._detail(request)))
        raise ModelNotFound(
            "the configuration names no model of this id; a provider whose `models`"
            " hold a pattern such as gpt-* may serve it all the same",
            param="id",
        )

    async def _detail(self, request: Request) -> Mapping[str, Any] | None:
        word = request.query_params.get("details", "false")
        if word not in {"true", "false"}:
            raise InvalidRequest("details: must be true or false", param="details")
        return await self.service.models_in_detail() if word == "true" else None
