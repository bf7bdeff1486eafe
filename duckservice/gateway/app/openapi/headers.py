"""Headers in the document: what a request may say, and what an answer tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from duckservice.calls.call import PRIORITIES, TAGS_MAX
from duckservice.gateway.app.openapi.parts import (
    Json,
    flag,
    money,
    parameter,
    string,
    whole,
    word,
)
from duckservice.gateway.wire.headers import (
    IDEMPOTENCY_KEY_CHARS_MAX,
    REQUEST_ID_CHARS_MAX,
)

VISIBLE: Final = r"^[!-~]+$"
"""What keys and ids may hold."""
_TAG: Final = r"[!-+\--<>-~]+=[!-+\--~]+"


def _header(name: str, schema: Json, about: str) -> Json:
    return parameter("header", name, schema, about)


PARAMETERS: Final[Mapping[str, Json]] = {
    "Duck-Priority": _header(
        "Duck-Priority", word(*PRIORITIES), "Whose turn it is first; default: normal."
    ),
    "Duck-Tags": _header(
        "Duck-Tags",
        string(pattern=rf"^({_TAG}(,{_TAG})*)?$"),
        f"Up to {TAGS_MAX} tags, `k=v,k=v`, for your own bookkeeping and budgets.",
    ),
    "Duck-Max-Cost-Usd": _header(
        "Duck-Max-Cost-Usd",
        string(pattern=r"^[0-9]{1,12}(\.[0-9]{1,12})?$"),
        "Refuse the request if its worst case costs more.",
    ),
    "Duck-Deadline": _header(
        "Duck-Deadline",
        {
            "anyOf": [
                string(pattern=r"^[0-9]{1,7}(\.[0-9]{1,9})?$", examples=["30"]),
                string(format="date-time"),
            ]
        },
        "When the request ends, whatever it waits for: seconds from now, or RFC 3339;"
        " within a year.",
    ),
    "Duck-Cache": _header(
        "Duck-Cache",
        word("off", "refresh"),
        "Leave the cache alone, or have a new reply put into it.",
    ),
    "Idempotency-Key": _header(
        "Idempotency-Key",
        string(pattern=VISIBLE, minLength=1, maxLength=IDEMPOTENCY_KEY_CHARS_MAX),
        "Makes repeating a submission harmless. Where nothing is durable, only its form"
        " is checked.",
    ),
    "X-Request-Id": _header(
        "X-Request-Id",
        string(pattern=VISIBLE, minLength=1, maxLength=REQUEST_ID_CHARS_MAX),
        "Yours comes back, and is in the log.",
    ),
    "Traceparent": _header(
        "traceparent",
        string(),
        "The trace that the request is a part of, as W3C's Trace Context has it; one"
        " that is wrong is ignored.",
    ),
    "Prefer": _header(
        "Prefer",
        string(pattern=r"^wait=[0-9]{1,9}(\.[0-9]{1,9})?$"),
        "`wait=SECONDS`, up to 600: hold the answer back until the job is over.",
    ),
    "Last-Event-ID": _header(
        "Last-Event-ID",
        string(pattern=r"^[0-9]{1,16}$"),
        "The id of the last event that you have: the stream goes on after it.",
    ),
    "Anthropic-Beta": _header(
        "anthropic-beta",
        string(pattern=r"^[!-+\--~]{1,128}(,[!-+\--~]{1,128}){0,31}$"),
        "Goes to Anthropic, and what Bedrock knows of it to Bedrock.",
    ),
}
"""The request headers that are understood, by their names."""

OF_REQUESTS: Final = (
    "Duck-Priority",
    "Duck-Tags",
    "Duck-Max-Cost-Usd",
    "Duck-Deadline",
    "Duck-Cache",
    "Idempotency-Key",
    "X-Request-Id",
    "Traceparent",
)
"""Those that are understood wherever a request is made."""

_TOLD: Final[Mapping[str, tuple[str, Json]]] = {
    "Duck-Job": ("The id of the request, or of the job.", string()),
    "Duck-Provider": ("The provider that it is about.", string()),
    "Duck-Cost-Usd": (
        "What it cost, where that is known when the head leaves.",
        money(),
    ),
    "Duck-Cost-Estimated": ("Whether that rests on a guess.", word("true")),
    "Duck-Cache": ("Whether the reply came from the cache.", word("hit", "miss")),
    "Duck-Attempts": ("How many requests to providers it took.", whole()),
    "Duck-Queue-Ms": ("How long it waited for its turn.", whole()),
    "X-Request-Id": ("The request's id, yours or ours.", string()),
    "X-Should-Retry": ("Whether the same request may succeed later.", flag()),
    "Retry-After": ("Seconds after which it may succeed.", whole()),
    "Duck-Last-Event-Id": ("Where the stream begins.", string()),
    "Location": ("The job's path.", string()),
    "Content-Length": ("How many bytes follow.", whole()),
}

HEADERS: Final[Mapping[str, Json]] = {
    name: {"description": about, "schema": schema}
    for name, (about, schema) in _TOLD.items()
}
"""The headers of answers, by their names."""

OF_ANSWERS: Final = (
    "Duck-Job",
    "Duck-Provider",
    "Duck-Cost-Usd",
    "Duck-Cost-Estimated",
    "Duck-Cache",
    "Duck-Attempts",
    "Duck-Queue-Ms",
    "X-Request-Id",
)
"""Those that every answered request to a model may have."""
