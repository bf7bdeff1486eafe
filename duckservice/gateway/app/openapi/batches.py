"""Batches, in the document: OpenAI's, and what we add under `duck`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, get_args

from duckservice.batches.as_json import METADATA_MAX, RESULTS_KEPT_LEAST
from duckservice.batches.lines import ENDPOINTS
from duckservice.batches.values import RESULTS_KEPT, BatchStatus
from duckservice.calls.call import PRIORITIES
from duckservice.gateway.app.openapi.files import AREA, page_of
from duckservice.gateway.app.openapi.headers import OF_REQUESTS
from duckservice.gateway.app.openapi.operations import Operation
from duckservice.gateway.app.openapi.parts import (
    JSON,
    Json,
    answer,
    array,
    flag,
    in_query,
    mapping,
    money,
    nullable,
    obj,
    ref,
    string,
    whole,
    word,
)

_ONE: Final = "/v1/batches/{id}"
_ID: Final = {"id": "The batch's id."}
_HEADERS: Final = tuple(name for name in OF_REQUESTS if name != "Duck-Deadline")
_OTHERS: Final = ("not_found", "permission_denied")
_TIMES: Final = (
    *("in_progress_at", "finalizing_at", "completed_at", "failed_at"),
    *("expired_at", "cancelling_at", "cancelled_at"),
)

OPERATIONS: Final = (
    Operation(
        method="post",
        path="/v1/batches",
        name="createBatch",
        area=AREA,
        summary="Run a file of requests, by any provider",
        about="`Duck-Max-Cost-Usd` limits what the whole batch costs; `Duck-Priority` and"
        " `Duck-Tags` count for every line.",
        headers=_HEADERS,
        body={JSON: ref("BatchOrder")},
        links=("getBatch", "cancelBatch"),
        answers={200: answer("The batch, which is committed.", ref("Batch"))},
        codes=(*_OTHERS, "conflict", "queue_full", "draining"),
    ),
    Operation(
        method="get",
        path="/v1/batches",
        name="listBatches",
        area=AREA,
        summary="List batches, the latest first",
        parameters=[
            in_query("limit", "On a page.", whole(least=1, maximum=100, default=20)),
            in_query("after", "The id of the last batch on the page before."),
        ],
        answers={200: answer("A page of batches.", ref("BatchList"))},
        codes=_OTHERS,
    ),
    Operation(
        method="get",
        path=_ONE,
        name="getBatch",
        area=AREA,
        summary="Show a batch",
        path_is=_ID,
        answers={200: answer("The batch.", ref("Batch"))},
        codes=_OTHERS,
    ),
    Operation(
        method="post",
        path=f"{_ONE}/cancel",
        name="cancelBatch",
        area=AREA,
        summary="Give up what has no result yet",
        path_is=_ID,
        answers={200: answer("The batch.", ref("Batch"))},
        codes=(*_OTHERS, "conflict"),
    ),
)

_METADATA: Final[Json] = mapping(
    string(maxLength=512), maxProperties=METADATA_MAX, propertyNames={"maxLength": 64}
)

SCHEMAS: Final[Mapping[str, Json]] = {
    "BatchOrder": obj(
        {
            "input_file_id": string(minLength=1),
            "endpoint": word(*ENDPOINTS),
            "completion_window": string(
                "From `1m` to `30d`.", pattern="^[1-9][0-9]{0,5}[mhd]$"
            ),
        },
        {
            "metadata": nullable(_METADATA),
            "output_expires_after": nullable(
                obj(
                    {
                        "anchor": word("created_at"),
                        "seconds": whole(
                            least=RESULTS_KEPT_LEAST, maximum=int(RESULTS_KEPT)
                        ),
                    },
                    closed=True,
                )
            ),
            "model": nullable(string("For lines that name none.")),
            "skip_bad": nullable(flag("Leave bad lines out.")),
        },
        closed=True,
    ),
    "Batch": obj(
        {
            "id": string(),
            "object": word("batch"),
            "endpoint": word(*ENDPOINTS),
            "model": nullable(string()),
            "errors": nullable(
                obj({"object": word("list"), "data": array(ref("BatchError"))})
            ),
            "input_file_id": string(),
            "completion_window": string(),
            "status": word(*get_args(BatchStatus)),
            "output_file_id": nullable(string()),
            "error_file_id": nullable(string()),
            "created_at": whole(),
            "expires_at": whole(),
            **{name: nullable(whole()) for name in _TIMES},
            "request_counts": obj(
                {"total": whole(), "completed": whole(), "failed": whole()}
            ),
            "metadata": nullable(mapping(string())),
            "usage": ref("BatchUsage"),
            "duck": ref("BatchDetails"),
        },
        about="A batch, as OpenAI shows it.",
    ),
    "BatchList": page_of("Batch"),
    "BatchError": obj(
        {
            "code": string(),
            "message": string(),
            "param": nullable(string()),
            "line": nullable(whole(least=1)),
        },
        about="Why a line is bad.",
    ),
    "BatchUsage": obj(
        {
            "input_tokens": whole(),
            "input_tokens_details": obj({"cached_tokens": whole()}),
            "output_tokens": whole(),
            "output_tokens_details": obj({"reasoning_tokens": whole()}),
            "total_tokens": whole(),
        }
    ),
    "BatchDetails": obj(
        {
            "output_file_id": nullable(string("It grows while the batch runs.")),
            "error_file_id": nullable(string("It grows, too.")),
            "bad_lines": whole(),
            "skip_bad": flag(),
            "priority": word(*PRIORITIES),
            "tags": mapping(string()),
            "max_cost_usd": nullable(money()),
            "cost_usd": money(),
            "cost_known": flag(),
            "maybe_billed": whole(
                "Requests that were lost, and may have been charged."
            ),
        },
        about="What OpenAI's batches have not.",
    ),
}
