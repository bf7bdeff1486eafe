"""The OpenAPI document of the whole API, put together from its areas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from duckservice.gateway.app.openapi import (
    admin,
    batches,
    errors,
    events,
    files,
    insight,
    job_schemas,
    jobs,
    models,
    money,
    providers,
    request_schemas,
    requests,
)
from duckservice.gateway.app.openapi.headers import HEADERS, PARAMETERS
from duckservice.gateway.app.openapi.operations import Operation, paths_of
from duckservice.gateway.app.openapi.parts import Json

_ABOUT: Final = """\
The API of duckd, over its Unix socket: `curl --unix-socket PATH http://duck/v1/status`.

Whoever may open the socket may use it. `x-duck-role` says who may do what: `admin` is for
the user who runs the daemon, and root; a `submitter` sees its own jobs, files and batches.
The loopback listener (`service.http`), where there is one, asks each request for the token,
and else answers 401 or, under another name or for another site's page, 403.

Where GET is, HEAD is, too. Beside what stands with each operation, the server itself
answers 408 (head or body too slow), 413 (body over 32 MiB) and 431 (head over 64 KiB), and
then closes the connection; a path that is not there is a 404 `not_found`, a method that is
not there a 405 `invalid_request` with `Allow`."""

_AREAS: Final = (
    *(requests, models, jobs, files, batches, insight, money),
    *(events, providers, admin),
)


def operations() -> Sequence[Operation]:
    """Return every operation of the API."""
    return [operation for area in _AREAS for operation in area.OPERATIONS]


def make_document(version: str) -> Json:
    """Return the document of duckservice *version*, as plain data."""
    areas = dict.fromkeys(its.area for its in operations())
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "duckservice",
            "version": version,
            "summary": "The daemon that owns a machine's LLM traffic",
            "description": _ABOUT,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [
            {"url": "http://duck", "description": "Any host, over the Unix socket."}
        ],
        # Over the Unix socket the kernel says who asks; the loopback listener wants a token.
        "security": [{}, {"bearer": []}, {"apiKey": []}],
        "tags": [{"name": area} for area in areas],
        "paths": paths_of(operations()),
        "components": {
            "schemas": _schemas(),
            "parameters": dict(PARAMETERS),
            "headers": dict(HEADERS),
            "responses": errors.responses(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _schemas() -> Json:
    found: Json = {}
    for area in (
        *(errors, request_schemas, models, job_schemas, files, batches),
        *(insight, money, events, providers, admin),
    ):
        assert not found.keys() & area.SCHEMAS.keys(), "a schema is there twice"
        found |= area.SCHEMAS
    return found
