"""The verdict on one request, from the client's bytes and the upstreams' log.

rescued   a whole and right answer
safe      an error that says what it is, in time: as the answer, or at the end of
          a stream that has begun
failed    everything else, with the reason
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final, Literal, TypeAlias

import attrs

from duckservice.chaos.client import Seen
from duckservice.chaos.reading import decoded, first, read_stream, table
from duckservice.chaos.upstream import Call
from duckservice.chaos.wire import Json

Outcome: TypeAlias = Literal["rescued", "safe", "failed"]

CODES: Final = frozenset(
    {
        "invalid_request", "content_filtered", "context_length_exceeded",
        "permission_denied", "not_found", "model_not_found", "conflict",
        "request_too_large", "unprocessable", "provider_error",
        "provider_auth_error", "rate_limited", "quota_exceeded",
        "bad_provider_response", "timeout", "budget_exceeded", "queue_full",
        "cancelled", "no_available_provider", "circuit_open", "draining",
        "unavailable", "deadline_exceeded",
    }
)  # fmt: skip
"""The contract's words for errors. ``internal_error`` is one more, and a bug."""

_PIECE_CHARS: Final = 12

SKEW: Final = 0.02
"""Seconds that the daemon's clock and ours may differ by the time a call takes."""


@attrs.frozen
class Verdict:
    """How it went, and why."""

    outcome: Outcome
    reason: str


@attrs.frozen(kw_only=True)
class Terms:
    """What is asked of the daemon, for one request."""

    text: str
    """The right answer."""
    is_stream: bool
    limit: float
    """Seconds within which it must end."""
    calls_max: int
    """At all providers together."""
    secrets: Collection[str] = attrs.field(default=(), repr=False)
    """Must not be in any answer."""
    codes: Collection[str] = CODES
    """Which errors are a right name for the fault."""
    retry_after: float | None = None
    """Seconds that a sick provider has asked not to be asked for."""
    needs_call: bool = True
    """Whether it is a fault that nobody was asked."""


def judge(seen: Seen, calls: Sequence[Call], terms: Terms) -> Verdict:
    """Return the verdict on a request; *calls* are those that were made for it."""
    for complaint in _complaints(seen, calls, terms):
        return Verdict("failed", complaint)
    if seen.status != 200:
        return _judge_error(seen.body, seen, terms)
    return (
        _judge_stream(seen, calls, terms)
        if terms.is_stream
        else _judge_whole(seen, terms)
    )


def _complaints(seen: Seen, calls: Sequence[Call], terms: Terms) -> Iterator[str]:
    """Yield what is wrong whatever the answer is."""
    if seen.timed_out or seen.took > terms.limit:
        yield f"no end within {terms.limit:.1f} s"
    shown = seen.body.decode(errors="replace") + repr(seen.headers)
    if any(piece in shown for key in terms.secrets for piece in _pieces(key)):
        yield "a key is in the answer"
    if any(call.foreign_key for call in calls):
        yield "a provider was shown another one's key"
    if len(calls) > terms.calls_max:
        yield f"{len(calls)} calls where {terms.calls_max} are allowed"
    if terms.retry_after is not None and _asked_too_soon(calls, terms.retry_after):
        yield "a provider was asked again before its Retry-After was over"
    if seen.status is None:
        yield "the connection broke without an answer"
    if terms.needs_call and not calls:
        yield f"no provider was asked: {_said(seen.body)}"


def _pieces(key: str) -> Iterator[str]:
    """Yield what of a key is too much to be shown: any twelve characters of it."""
    for start in range(max(1, len(key) - _PIECE_CHARS + 1)):
        yield key[start : start + _PIECE_CHARS]


def _asked_too_soon(calls: Sequence[Call], wait: float) -> bool:
    for number, call in enumerate(calls):
        for later in calls[number + 1 :]:
            same = (later.provider, later.key) == (call.provider, call.key)
            if call.sick and same and later.at < call.at + wait - SKEW:
                return True
    return False


def _judge_whole(seen: Seen, terms: Terms) -> Verdict:
    answer = table(decoded(seen.body))
    if not seen.complete or not answer:
        return Verdict("failed", "a 200 that breaks off, or is no JSON")
    if "error" in answer:
        return Verdict("failed", "an error with status 200")
    choice = first(answer.get("choices"))
    text = table(choice.get("message")).get("content")
    return _judge_text(text, choice.get("finish_reason"), terms)


def _judge_text(text: object, finish: object, terms: Terms) -> Verdict:
    """Judge what the client takes for a whole answer."""
    if text != terms.text:
        half = isinstance(text, str) and terms.text.startswith(text)
        what = "a truncated answer" if half else "a wrong answer"
        return Verdict("failed", f"{what}, presented as a whole one")
    if finish != "stop":
        return Verdict("failed", "a whole answer that does not say that it is whole")
    return Verdict("rescued", "a whole and right answer")


def _judge_error(body: bytes, seen: Seen, terms: Terms) -> Verdict:
    if not seen.complete:
        return Verdict("failed", "an error that breaks off")
    error = table(table(decoded(body)).get("error"))
    return _judge_code(error, terms, f"status {seen.status}")


def _judge_code(error: Json, terms: Terms, where: str) -> Verdict:
    code, message = error.get("code"), error.get("message")
    if code == "internal_error":
        return Verdict("failed", f"an internal error, a bug: {message}")
    if code not in CODES or not message:
        return Verdict("failed", f"an untyped error ({where})")
    if code not in terms.codes:
        return Verdict("failed", f"the wrong error for this fault: {code}")
    return Verdict("safe", f"{code} ({where})")


def _judge_stream(seen: Seen, calls: Sequence[Call], terms: Terms) -> Verdict:
    told = read_stream(seen.body)
    if told.fault:
        return Verdict("failed", told.fault)
    if told.error is None:
        if not told.done or not seen.complete:
            return Verdict("failed", "the stream ended without a word of its failure")
        return _judge_text(told.text, told.finish, terms)
    if told.done or told.finish is not None:
        return Verdict("failed", "a stream that has failed, presented as whole")
    if not terms.text.startswith(told.text):
        return Verdict("failed", "a stream of which a part came twice, or is wrong")
    if told.text and _asked_after_words(calls):
        return Verdict("failed", "asked again after a part was delivered")
    size = len(told.text)
    where = f"after {size} characters" if size else "before the first word"
    return _judge_code(told.error, terms, where)


def _asked_after_words(calls: Sequence[Call]) -> bool:
    spoke = [call.spoke_at for call in calls if call.spoke_at is not None]
    return any(call.at > min(spoke) + SKEW for call in calls) if spoke else False


def _said(body: bytes) -> str:
    error = table(table(decoded(body)).get("error"))
    return str(error.get("message") or "no reason given")
