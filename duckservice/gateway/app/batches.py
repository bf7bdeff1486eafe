"""/v1/batches: OpenAI's Batch API, run here, against any provider."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

import attrs
import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from duckservice.batches.as_json import batch_fields, list_fields, read_order
from duckservice.batches.batches import Batches, BatchView
from duckservice.errors import InvalidRequest, NotFound
from duckservice.gateway.app.api import ServiceApi
from duckservice.gateway.app.exchange import peer
from duckservice.gateway.app.files import FileApi, read_limit
from duckservice.gateway.app.replies import json_value
from duckservice.gateway.wire.fields import refuse_extras
from duckservice.gateway.wire.headers import read_options

_QUERY: Final = frozenset({"limit", "after"})


@final
@attrs.frozen
class BatchApi:
    """Everything under /v1/batches; who sees what is as with jobs."""

    service: ServiceApi
    files: FileApi
    wall_clock: Callable[[], float]

    def routes(self) -> list[Route]:
        """Return the routes of this API."""
        one = "/v1/batches/{id}"
        return [
            Route("/v1/batches", self.collection, methods=["GET", "POST"]),
            Route(one, self.member, methods=["GET"]),
            Route(f"{one}/cancel", self.cancel, methods=["POST"]),
        ]

    async def collection(self, request: Request) -> Response:
        """Take a batch, or answer with a list of them."""
        if request.method == "GET":
            return await self._list(request)
        options = read_options(
            request.scope["headers"],
            submitter=peer(request.scope),
            now_wall=self.wall_clock(),
            now_trio=trio.current_time(),
            new_request_id=self.service.new_request_id,
        )
        if options.deadline is not None:
            msg = "header Duck-Deadline: a batch has its completion_window instead"
            raise InvalidRequest(msg, param="Duck-Deadline")
        key = request.headers.get("idempotency-key")
        order = read_order(await request.body(), options, key)
        file = await self.files.find(request, order.input_file)
        if file.purpose != "batch":
            msg = f"input_file_id: the purpose of {file.id} is not batch"
            raise InvalidRequest(msg, param="input_file_id")
        return json_value(batch_fields(await self._batches.create(order)))

    async def member(self, request: Request) -> Response:
        """Answer with a batch."""
        return json_value(batch_fields(await self._find(request)))

    async def cancel(self, request: Request) -> Response:
        """Give up what has no result yet."""
        view = await self._find(request)
        return json_value(batch_fields(await self._batches.cancel(view.batch.id)))

    async def _list(self, request: Request) -> Response:
        query = request.query_params
        refuse_extras(dict(query), _QUERY, "")
        limit = read_limit(query.get("limit"), usual=20, most=100)
        found = await self._batches.list_batches(
            submitter=self.files.sees(request),
            limit=limit + 1,
            after=query.get("after"),
        )
        page = [batch_fields(view) for view in found[:limit]]
        return json_value(list_fields(page, has_more=len(found) > limit))

    async def _find(self, request: Request) -> BatchView:
        id_: str = request.path_params["id"]
        view = await self._batches.get(id_)
        uid = self.files.sees(request)
        if uid is not None and view.batch.submitter != uid:
            msg = f"there is no batch {id_}"
            raise NotFound(msg)
        return view

    @property
    def _batches(self) -> Batches:
        return self.service.batch_jobs
