"""What changes the daemon, in the document; and the document itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from duckservice.gateway.app.openapi.operations import Operation
from duckservice.gateway.app.openapi.parts import (
    Json,
    answer,
    array,
    obj,
    ref,
    string,
    word,
)

AREA: Final = "Operating"


def _post(
    path: str,
    name: str,
    summary: str,
    schema: Json,
    path_is: Mapping[str, str] | None = None,
    codes: Sequence[str] = ("not_found",),
) -> Operation:
    return Operation(
        method="post",
        path=path,
        name=name,
        area=AREA,
        summary=summary,
        path_is=path_is or {},
        answers={200: answer("It is done, or has begun.", schema)},
        codes=codes,
        admin=True,
    )


OPERATIONS: Final = (
    _post(
        "/v1/queue/pause",
        "pauseQueue",
        "Give no more turns and begin no job; what is under way goes on",
        ref("Queue"),
        codes=(),
    ),
    _post(
        "/v1/queue/resume", "resumeQueue", "Give turns again", ref("Queue"), codes=()
    ),
    _post(
        "/v1/reload",
        "reload",
        "Read the configuration again, and take over keys, auth, headers and prices",
        ref("Reloaded"),
    ),
    _post(
        "/v1/drain",
        "drain",
        "Take no new requests, finish what is under way",
        obj({"state": word("draining")}),
    ),
    _post(
        "/v1/shutdown", "shutdown", "Drain, then end", obj({"state": word("stopping")})
    ),
    _post(
        "/v1/tree/{path}/restart",
        "restartActor",
        "Crash an actor as an exception in it would",
        obj({"restarted": string()}),
        {"path": "Its path in the tree; it may hold slashes."},
    ),
    Operation(
        method="get",
        path="/openapi.json",
        name="getOpenApi",
        area=AREA,
        summary="Show this document",
        answers={200: answer("OpenAPI 3.1.", {"type": "object"})},
    ),
)

SCHEMAS: Final[Mapping[str, Json]] = {
    "Reloaded": obj(
        {
            "changed": array(string(), "Paths of keys that were taken over."),
            "added": array(string(), "Of these: providers and budgets that are new."),
            "removed": array(string(), "Of these: those that are gone."),
            "needs_restart": array(string(), "Paths of keys that were not."),
            "warnings": array(string()),
        }
    ),
}
