"""GET /openapi.json: the API, as a document that programs read."""

from __future__ import annotations

from typing import final

import attrs
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from duckservice.gateway.app.replies import json_bytes


@final
@attrs.define(eq=False)
class OpenApi:
    """The API's own description; made when it is first asked for."""

    version: str
    _document: bytes | None = None

    def routes(self) -> list[Route]:
        """Return the routes of this API."""
        return [Route("/openapi.json", self.show)]

    async def show(self, _: Request) -> Response:
        """Answer with the document."""
        if self._document is None:
            from duckservice.gateway.app.openapi.document import make_document  # noqa: PLC0415 - most daemons are never asked

            self._document = msgspec.json.encode(make_document(self.version))
        return json_bytes(self._document)
