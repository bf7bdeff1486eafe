"""Jobs in the document: what is submitted, and what is shown of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, get_args

from duckservice.calls.call import PRIORITIES
from duckservice.core.job import ATTEMPTS_MAX, JobKind, JobState, OnInterrupt
from duckservice.gateway.app.openapi.headers import VISIBLE
from duckservice.gateway.app.openapi.parts import (
    Json,
    array,
    flag,
    mapping,
    moment,
    money,
    nullable,
    number,
    obj,
    ref,
    string,
    whole,
    word,
)
from duckservice.gateway.wire.headers import (
    DEADLINE_SECONDS_MAX,
    IDEMPOTENCY_KEY_CHARS_MAX,
)

_WHERE: Final = "(rate_limited|breaker_open|concurrency|budget):.+"
_WAITS: Final = rf"^(queued|not_before|retry_backoff|held|paused|{_WHERE})$"

_SAID: Final[Mapping[str, Json]] = {
    "kind": word(*get_args(JobKind), about="Default: chat."),
    "priority": word(*PRIORITIES),
    "tags": mapping(string(minLength=1, maxLength=256), maxProperties=16),
    "deadline": ref("When"),
    "not_before": ref("When"),
    "max_cost_usd": {
        "type": ["string", "number"],
        "minimum": 0,
        "pattern": r"^[0-9]{1,12}(\.[0-9]{1,12})?$",
        "description": "US dollars that the job may cost at most.",
    },
    "max_attempts": whole(least=1, maximum=ATTEMPTS_MAX),
    "on_interrupt": word(
        *get_args(OnInterrupt),
        about="What becomes of a request that was in flight when the daemon died:"
        " `retry` may pay twice, `fail` never does.",
    ),
    "hold": flag("Wait until it is released."),
}
_MAYBE: Final = {name: nullable(schema) for name, schema in _SAID.items()}
"""As everywhere, null says nothing."""
_BODY: Final[Mapping[str, Json]] = {
    "request": {
        "type": "object",
        "description": "OpenAI's body of a chat completion, of an embeddings request, or"
        " of an image generation.",
    }
}

SCHEMAS: Final[Mapping[str, Json]] = {
    "When": {
        "description": "Seconds from now, or RFC 3339; within a year.",
        "anyOf": [
            number(maximum=DEADLINE_SECONDS_MAX),
            string(pattern=r"^[0-9]{1,7}(\.[0-9]{1,9})?$"),
            string(format="date-time"),
        ],
    },
    "Submission": obj(_BODY, _MAYBE, closed=True, about="A job to be run."),
    "BulkLine": obj(
        _BODY,
        {**_MAYBE, "idempotency_key": nullable(ref("Key"))},
        closed=True,
        about="A line of a bulk submission.",
    ),
    "Key": string(pattern=VISIBLE, minLength=1, maxLength=IDEMPOTENCY_KEY_CHARS_MAX),
    "BulkOutcome": {
        "description": "What became of a line: what has an id is on the disk.",
        "oneOf": [
            obj(
                {
                    "line": whole("From 1.", least=1),
                    "id": string(),
                    "state": ref("JobState"),
                    "created": flag("False: the key was known, and this is its job."),
                }
            ),
            obj({"line": whole(least=1), "error": ref("ErrorFields")}),
        ],
    },
    "ErrorFields": obj(
        {"code": ref("ErrorCode"), "message": string()},
        {"retry_after": whole(), "job": string()},
    ),
    "JobChanges": obj(
        {},
        {"priority": word(*PRIORITIES), "deadline": ref("When")},
        closed=True,
        about="What is to be changed.",
    ),
    "JobState": word(*JobState, about="The last four are final."),
    "Job": obj(
        {
            "id": string("Sorts by the time of submission."),
            "kind": word(*get_args(JobKind)),
            "state": ref("JobState"),
            "priority": word(*PRIORITIES),
            "tags": mapping(string()),
            "submitter": nullable(
                obj({"uid": whole(), "gid": whole(), "pid": whole()})
            ),
            "attempt": whole("Attempts that count, so far."),
            "max_attempts": whole("Rises when the job is begun anew.", least=1),
            "wait_reason": nullable(string(pattern=_WAITS), "What it waits for."),
            "wait_until": nullable(moment(), "Until when, where that is known."),
            "errors": array(ref("JobError"), "The last ones."),
            "provider": nullable(string()),
            "model": string("What was asked for."),
            "served_model": nullable(string("What the provider says that it is.")),
            "usage": nullable(ref("Usage")),
            "cost_usd": money(),
            "cost_known": flag(),
            "cost_estimated": flag(),
            "created_at": moment(),
            "started_at": nullable(moment()),
            "finished_at": nullable(moment()),
            "not_before": nullable(moment()),
            "deadline": nullable(moment()),
            "max_cost_usd": nullable(money()),
            "on_interrupt": word(*get_args(OnInterrupt)),
            "maybe_billed": flag("A request was broken off, and may be charged."),
            "poisoned": flag("It has taken its processor down too often."),
            "batch": nullable(string()),
            "line": nullable(whole("Of the batch's input.")),
        }
    ),
    "JobError": obj(
        {
            "at": moment(),
            "attempt": whole(),
            "code": ref("ErrorCode"),
            "message": string(),
            "provider": nullable(string()),
        }
    ),
    "JobPage": obj(
        {
            "jobs": array(ref("Job"), "The newest first."),
            "cursor": nullable(string("Of the next page.")),
        }
    ),
    "Attempt": obj(
        {
            "id": string(),
            "number": whole(least=1),
            "state": word("open", "settled", "lost"),
            "provider": string(),
            "model": string(),
            "why": string("Why this provider was asked."),
            "began_at": moment(),
            "ended_at": nullable(moment()),
            "outcome": nullable(string("`ok`, `cancelled`, or an error's code.")),
            "counts": nullable(flag("Whether it used up an attempt.")),
            "usage": nullable(ref("Usage")),
            "reserved_usd": money("What it may cost at most."),
            "cost_usd": nullable(money()),
            "estimated": nullable(flag()),
        },
        about="One request to one provider.",
    ),
    "AttemptList": obj({"attempts": array(ref("Attempt"))}),
}
