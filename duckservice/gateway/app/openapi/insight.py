"""What the daemon knows of itself, in the document: health, status, queue, tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import attrs

from duckservice.calls.call import PRIORITIES
from duckservice.config import RetentionConfig
from duckservice.core.job import JobState
from duckservice.gateway.app.openapi.operations import Operation
from duckservice.gateway.app.openapi.parts import (
    Json,
    answer,
    array,
    flag,
    mapping,
    money,
    nullable,
    number,
    obj,
    ref,
    string,
    whole,
    word,
)

AREA: Final = "Looking in"


def get(
    path: str,
    name: str,
    summary: str,
    schema: Json,
    parameters: Sequence[Json] = (),
    *,
    admin: bool = False,
) -> Operation:
    """Return the operation that only shows something."""
    return Operation(
        method="get",
        path=path,
        name=name,
        area=AREA,
        summary=summary,
        parameters=parameters,
        answers={200: answer("As it is now.", schema)},
        admin=admin,
    )


OPERATIONS: Final = (
    get(
        "/healthz",
        "getHealth",
        "Say that the loop runs",
        obj({"status": word("ok")}),
    ),
    get(
        "/readyz",
        "getReadiness",
        "Say that the root supervisor, the actors and the store answer",
        obj({"ready": {"const": True}}),
    ),
    get(
        "/v1/version",
        "getVersion",
        "Show the version",
        obj({"version": string()}),
    ),
    get("/v1/status", "getStatus", "Show the whole at a glance", ref("Status")),
    get("/v1/queue", "getQueue", "Show how many wait and run", ref("Queue")),
    get(
        "/v1/tree", "getTree", "Show the supervision tree", ref("TreeNode"), admin=True
    ),
)

_STORE: Final[Json] = obj(
    {
        "ok": flag(),
        "detail": nullable(string("What is wrong.")),
        "ledger_dropped": whole("Attempts whose cost is not in the ledger."),
    },
    {
        "may_recover": flag(),
        "full": flag(),
        "max_bytes": whole(),
        "retention": obj(
            {its.name: number("Seconds.") for its in attrs.fields(RetentionConfig)}
        ),
        "path": nullable(string()),
        "sqlite": nullable(string("Its version.")),
        "jobs": whole(),
        "unfinished": whole(),
        "bytes": whole(),
        "used_bytes": whole(),
        "free_bytes": nullable(whole()),
    },
    about="What is optional is there where the store can tell.",
)

SCHEMAS: Final[Mapping[str, Json]] = {
    "Status": obj(
        {
            "version": string(),
            "pid": whole(),
            "uptime_s": number(),
            "state": word("running", "draining"),
            "requests": obj(
                {
                    "total": whole(),
                    "completed": whole(),
                    "failed": whole(),
                    "in_flight": whole(),
                }
            ),
            "queue": ref("Queue"),
            "providers": mapping(ref("ProviderHealth")),
            "jobs": nullable(
                obj({}, {state: whole() for state in JobState}),
                "How many jobs are in each state; null while the store cannot tell.",
            ),
            "store": _STORE,
            "cache": nullable(
                obj(
                    {
                        "entries": whole(),
                        "bytes": whole(),
                        "hits": whole(),
                        "misses": whole(),
                        "coalesced": whole(),
                    }
                ),
                "Null: it is not enabled.",
            ),
            "cost_usd": money(),
        }
    ),
    "Queue": obj(
        {
            "waiting": whole(),
            "running": whole(),
            "depth": obj({name: whole() for name in PRIORITIES}),
            "lanes": mapping(
                obj({"waiting": whole(), "running": whole()}), "By provider."
            ),
            "oldest_wait_s": number(),
            "paused": flag(),
            "max_size": whole(),
        }
    ),
    "TreeNode": obj(
        {
            "name": string(),
            "path": string("From the root's children down; the root's is empty."),
            "kind": word("supervisor", "dynamic", "worker"),
            "state": word("starting", "running", "stopping", "restarting", "stopped"),
            "restarts": whole(),
            "inbox": whole("Messages that wait."),
            "last_crash": nullable(string("The type of the last exception.")),
        },
        {
            "strategy": nullable(word("one_for_one", "one_for_all", "rest_for_one")),
            "children": array(ref("TreeNode")),
        },
        about="A supervisor or a child, with all that is below it.",
    ),
}
