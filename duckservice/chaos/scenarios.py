"""The scenarios: what befalls whom, and what a right answer to it is."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal, TypeAlias

import attrs

from duckservice.chaos import faults
from duckservice.chaos.faults import Fault, refusing
from duckservice.chaos.judge import CODES

Kind: TypeAlias = Literal["request", "refused", "outage", "recovery"]

SOON: Final = 1.0
"""Seconds of a short Retry-After: the shortest that can be written everywhere."""
LATE: Final = 3600.0


@attrs.frozen(kw_only=True)
class Scenario:
    """One row of the table."""

    name: str
    title: str
    kind: Kind = "request"
    """How it is run: `request` and `refused` judge one request, the others many."""
    fault: Fault = faults.healthy
    everywhere: bool = False
    """Whether all providers have it, and not only the one that is asked first."""
    once: bool = False
    """Whether only the first call has it."""
    retry_after: float | None = None
    """Seconds that the fault asks for."""
    codes: Collection[str] = CODES
    """Which errors are a right name for it."""
    per_key: bool = False
    """Whether it is about the key, so that a provider may be asked with each of its."""
    hopeless: bool = False
    """Whether it is the request that is at fault, so that nobody else is asked."""


_NOBODY: Final = frozenset({"no_available_provider", "circuit_open"})


def _after(seconds: float) -> dict[str, str]:
    return {"retry-after": f"{seconds:.0f}"}


SCENARIOS: Final = (
    Scenario(
        name="429-soon",
        title="429 with a short Retry-After, once",
        per_key=True,
        fault=refusing("rate", _after(SOON)),
        once=True,
        retry_after=SOON,
    ),
    Scenario(
        name="429-late",
        title="429 with a Retry-After of an hour",
        per_key=True,
        fault=refusing("rate", _after(LATE)),
        retry_after=LATE,
        codes=_NOBODY | {"rate_limited"},
    ),
    Scenario(
        name="429-bare",
        title="429 without Retry-After",
        per_key=True,
        fault=refusing("rate"),
        codes=_NOBODY | {"rate_limited"},
    ),
    Scenario(
        name="429-quota",
        title="429 because the account is used up",
        per_key=True,
        fault=refusing("quota"),
        # The daemon may take an account without a month's quota for a slow one.
        codes=_NOBODY | {"quota_exceeded", "rate_limited"},
    ),
    Scenario(name="500", title="500 every time", fault=refusing("server")),
    Scenario(name="503", title="503 every time", fault=refusing("overloaded")),
    Scenario(
        name="503-soon",
        title="503 with a short Retry-After, once",
        fault=refusing("overloaded", _after(SOON)),
        once=True,
    ),
    Scenario(name="refused", title="connection refused", kind="refused"),
    Scenario(name="reset", title="reset before headers", fault=faults.reset_unanswered),
    Scenario(
        name="closed", title="closed before headers", fault=faults.close_unanswered
    ),
    Scenario(name="hang", title="hang before headers", fault=faults.hang),
    Scenario(name="slow", title="slow first byte", fault=faults.slow_first_byte),
    Scenario(
        name="stall-early",
        title="stall before the first word",
        fault=faults.stall_early,
    ),
    Scenario(name="stall", title="stall in mid-answer", fault=faults.stall),
    Scenario(name="cut-fin", title="cut in mid-answer, FIN", fault=faults.cut_in_order),
    Scenario(name="cut-rst", title="cut in mid-answer, RST", fault=faults.cut_by_reset),
    Scenario(
        name="error-late",
        title="an error in mid-stream",
        fault=faults.error_after_words,
    ),
    Scenario(name="malformed", title="malformed JSON", fault=faults.malformed),
    Scenario(name="empty", title="empty body", fault=faults.empty),
    Scenario(name="web-page", title="a web page with 200", fault=faults.web_page),
    Scenario(
        name="error-in-200", title="an error inside 200", fault=faults.error_in_200
    ),
    Scenario(
        name="wrong-key",
        title="wrong key, 401",
        per_key=True,
        fault=refusing("key"),
        codes=_NOBODY | {"provider_auth_error"},
    ),
    Scenario(
        name="context",
        title="context too long",
        fault=refusing("context"),
        codes={"context_length_exceeded"},
        hopeless=True,
    ),
    Scenario(
        name="filter",
        title="content filter",
        fault=refusing("filter"),
        codes={"content_filtered"},
        hopeless=True,
    ),
    Scenario(
        name="all-429",
        title="429 at every provider",
        per_key=True,
        fault=refusing("rate"),
        everywhere=True,
        codes=_NOBODY | {"rate_limited"},
    ),
    Scenario(
        name="all-500",
        title="500 at every provider",
        fault=refusing("server"),
        everywhere=True,
    ),
    Scenario(
        name="all-hang",
        title="hang at every provider",
        fault=faults.hang,
        everywhere=True,
    ),
    Scenario(
        name="outage",
        title="outage under load",
        kind="outage",
        fault=refusing("overloaded"),
    ),
    Scenario(
        name="recovery",
        title="recovery after all were away",
        kind="recovery",
        everywhere=True,
        fault=refusing("overloaded"),
    ),
)
