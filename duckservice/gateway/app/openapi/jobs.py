"""Everything under /v1/jobs, in the document."""

from __future__ import annotations

from typing import Final

from duckservice.core.job import JobState
from duckservice.gateway.app.openapi.headers import OF_REQUESTS
from duckservice.gateway.app.openapi.operations import Method, Operation
from duckservice.gateway.app.openapi.parts import (
    JSON,
    NDJSON,
    Json,
    answer,
    array,
    in_query,
    ref,
    since,
    string,
    whole,
    word,
)
from duckservice.jobs.jobs import LIST_MAX

AREA: Final = "Jobs"

_ONE: Final = "/v1/jobs/{id}"
_ID: Final = {"id": "The job's id."}
_ABOUT: Final = ("Duck-Job", "Duck-Attempts", "Duck-Provider", "Duck-Cost-Usd")
_SUBMITTED: Final = (*_ABOUT, "Location", "X-Request-Id")
_OTHERS: Final = ("not_found", "permission_denied")
_LINKS: Final = (
    *("getJob", "getJobResult", "getJobRequest", "listAttempts", "streamJob"),
    *("changeJob", "cancelJob", "retryJob", "holdJob", "releaseJob"),
)
_TAKEN: Final = (
    *("permission_denied", "conflict", "model_not_found", "queue_full"),
    *("request_too_large", "budget_exceeded", "context_length_exceeded", "draining"),
)


def _one(
    method: Method,
    tail: str,
    name: str,
    summary: str,
    schema: Json,
    *codes: str,
    about: str = "",
) -> Operation:
    return Operation(
        method=method,
        path=_ONE + tail,
        name=name,
        area=AREA,
        summary=summary,
        about=about,
        path_is=_ID,
        answers={200: answer("As it is then.", schema)},
        codes=(*_OTHERS, *codes),
    )


def _change(action: str, summary: str) -> Operation:
    return _one("post", f"/{action}", f"{action}Job", summary, ref("Job"), "conflict")


def _queries() -> list[Json]:
    states = array(word(*JobState))
    return [
        in_query("state", "Any of these; several times, or with commas.", states),
        in_query("model", "What was asked for."),
        in_query(
            "tag",
            "`key=value`; several: all of them.",
            array(string(pattern="^.+=.+$")),
        ),
        in_query("batch", "A batch's id."),
        in_query("since", "Created since then.", since()),
        in_query(
            "limit", "Jobs on a page.", whole(least=1, maximum=LIST_MAX, default=100)
        ),
        in_query("cursor", "The `cursor` of the page before.", string(minLength=1)),
    ]


OPERATIONS: Final = (
    Operation(
        method="post",
        path="/v1/jobs",
        name="submitJob",
        area=AREA,
        summary="Submit a job: once it is answered, it is on the disk",
        headers=(*OF_REQUESTS, "Prefer"),
        body={JSON: ref("Submission")},
        links=_LINKS,
        answers={
            200: answer("The job, which is over already.", ref("Job"), *_SUBMITTED),
            202: answer("The job, which is committed.", ref("Job"), *_SUBMITTED),
        },
        codes=_TAKEN,
    ),
    Operation(
        method="post",
        path="/v1/jobs:bulk",
        name="submitJobs",
        area=AREA,
        summary="Submit a job a line, and read an outcome a line while lines still come",
        about="A line that is refused stops no other. Lines that arrive together are one"
        " commit. With an `Idempotency-Key` each line has that key and its number.",
        headers=OF_REQUESTS,
        body={NDJSON: ref("BulkLine")},
        body_may_miss=True,
        answers={
            200: answer(
                "An outcome for each line.",
                None,
                "X-Request-Id",
                ndjson=ref("BulkOutcome"),
            )
        },
        codes=("permission_denied",),
    ),
    Operation(
        method="get",
        path="/v1/jobs",
        name="listJobs",
        area=AREA,
        summary="List jobs, the newest first; those that you may see",
        parameters=_queries(),
        answers={200: answer("A page of jobs.", ref("JobPage"))},
        codes=("permission_denied",),
    ),
    Operation(
        method="get",
        path=_ONE,
        name="getJob",
        area=AREA,
        summary="Show a job, and why it waits",
        path_is=_ID,
        headers=("Prefer",),
        answers={200: answer("The job.", ref("Job"))},
        codes=_OTHERS,
    ),
    Operation(
        method="patch",
        path=_ONE,
        name="changeJob",
        area=AREA,
        summary="Change a job's priority or deadline",
        path_is=_ID,
        body={JSON: ref("JobChanges")},
        answers={200: answer("The job.", ref("Job"))},
        codes=(*_OTHERS, "conflict"),
    ),
    Operation(
        method="get",
        path=f"{_ONE}/result",
        name="getJobResult",
        area=AREA,
        summary="Show what came of a completed job, as OpenAI's body",
        path_is=_ID,
        answers={200: answer("OpenAI's body.", {"type": "object"}, *_ABOUT)},
        codes=(*_OTHERS, "conflict"),
    ),
    _one(
        "get",
        "/request",
        "getJobRequest",
        "Show the request as it was submitted, byte for byte",
        {"type": "object"},
    ),
    _one(
        "get",
        "/attempts",
        "listAttempts",
        "List the requests to providers that were made for the job",
        ref("AttemptList"),
    ),
    Operation(
        method="get",
        path=f"{_ONE}/stream",
        name="streamJob",
        area=AREA,
        summary="Follow a job's reply as it comes, also long after",
        about="Events `delta` (a chunk of OpenAI's stream and the id of its `attempt`:"
        " where that changes, the reply begins anew), then `done` (a Job) or `error`"
        " (`error` and `job`). A stream that ends without either is not over: come back"
        " with `Last-Event-ID`.",
        path_is=_ID,
        headers=("Last-Event-ID",),
        answers={
            200: answer("Server-sent events.", None, "Duck-Job", sse={}),
        },
        codes=_OTHERS,
    ),
    _change("cancel", "Give a job up"),
    _change("retry", "Run a job that has failed once more"),
    _change("hold", "Keep a job from being begun"),
    _change("release", "Let a job that is held be begun"),
)
