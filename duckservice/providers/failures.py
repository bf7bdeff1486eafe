"""What an upstream's error means: from status, code and words to one of our errors.

Never from the status alone: a bad key may be a 400, an empty account a 429, and
an error may come inside of a 200. The rules are one ordered table; the first
that fits decides. All known envelopes are read alike, because servers that
speak one format often answer with the error of another:

    {"error": {"message", "type", "code", "param"}}       OpenAI and most others
    {"type": "error", "error": {"type", "message"}}       Anthropic
    {"error": "text", "code"?, "estimated_time"?}         xAI, Hugging Face, Ollama
    {"message", "type"?, "code"?} and {"detail"}          Mistral, FastAPI
    [{"error": {..., "details": [{"retryDelay": "7s"}]}}] Google, in OpenAI's format, too

Where a message should be there may be a list of ``{"loc", "msg"}`` (FastAPI's of a
422), and OpenRouter repeats in ``metadata`` what the provider behind it has said.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias, cast, final

import attrs
import msgspec

from duckservice.completion import NOTHING
from duckservice.errors import (
    BadProviderResponse,
    ContentFiltered,
    ContextLengthExceeded,
    DuckError,
    InvalidRequest,
    ModelNotFound,
    ProviderAuthError,
    ProviderError,
    ProviderTimeout,
    QuotaExceeded,
    RateLimited,
    RequestTooLarge,
    Unprocessable,
)
from duckservice.providers.rate_resets import seconds_until, sent_at
from duckservice.providers.reading import UNREADABLE, mapping_or_empty, text_or
from duckservice.providers.redaction import Redactor
from duckservice.providers.retry_after import parse_duration, retry_after

MESSAGE_CHARACTERS_MAX: Final = 1000
PARAM_CHARACTERS_MAX: Final = 200


@attrs.frozen(kw_only=True)
class Complaint:
    """An upstream's error, in no envelope."""

    status: int
    status_said: bool = True
    """Whether the upstream said the status, or we assume it."""
    words: frozenset[str]
    """Its code and type, in lower case."""
    message: str
    param: str | None = None
    wait: float | None = None
    """Seconds, where the body says it in a field."""
    headers: Mapping[str, str] = NOTHING
    """Of an answer that the body tells of, names in lower case; the real ones win."""


Reader: TypeAlias = Callable[[int, Mapping[str, str], object], Complaint]
"""From status, headers (names in lower case) and decoded body to the complaint."""


@final
class Classifier:
    """Turns one provider's errors into ours, with ``provider`` set and keys masked.

    *reader* knows the provider's envelope; *rules* say what is meant by words that
    are its own, and come before those of all providers.
    """

    def __init__(
        self,
        provider: str,
        secrets: Iterable[str] = (),
        *,
        reader: Reader | None = None,
        rules: Iterable[Rule] = (),
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._provider = provider
        self._redact = Redactor(secrets)
        self._read = read_complaint if reader is None else reader
        self._rules = (*rules, *_RULES)
        self._wall_clock = wall_clock

    def __call__(
        self, status: int, headers: Mapping[str, str], body: bytes
    ) -> DuckError:
        """Return the error that an answer with an error status means."""
        return self._error(self._read(status, headers, _json_or_none(body)), headers)

    def in_band(self, value: object) -> DuckError:
        """Return the error that the JSON object *value* means, come with a 200."""
        return self._error(_in_band(self._read(500, {}, value), value), {})

    def bad_response(self, reason: str) -> BadProviderResponse:
        """Return the error for what is not an answer; *reason* quotes none of it."""
        return BadProviderResponse(
            f"{self._provider} sent {reason}", provider=self._provider
        )

    def _error(self, complaint: Complaint, headers: Mapping[str, str]) -> DuckError:
        kind, retryable = verdict(complaint, self._rules)
        if headers.get("x-should-retry") == "false":
            retryable = False
        elif headers.get("x-should-retry") == "true" and retryable is None:
            retryable = True
        wait = None
        if issubclass(kind, ProviderError):
            wait = self._wait(complaint, headers)
        error = kind(
            self._text(complaint),
            provider=self._provider,
            retryable=retryable,
            retry_after=wait,
            param=self._field(complaint),
        )
        error.upstream_status = complaint.status if complaint.status_said else None
        error.quotes_provider = True
        return error

    def _field(self, complaint: Complaint) -> str | None:
        if complaint.param is None:
            return None
        param = complaint.param[:PARAM_CHARACTERS_MAX]
        return "".join(c for c in self._redact(param) if c.isprintable())

    def _text(self, complaint: Complaint) -> str:
        said = self._redact(complaint.message[: 2 * MESSAGE_CHARACTERS_MAX])
        said = " ".join(said.split())[:MESSAGE_CHARACTERS_MAX]
        said = "".join(c for c in said if c.isprintable())
        status = f"{self._provider}: {complaint.status}"
        return f"{status}: {said}" if said else status

    def _wait(self, complaint: Complaint, headers: Mapping[str, str]) -> float | None:
        now = sent_at(headers, self._wall_clock())
        headers = {**complaint.headers, **headers}
        asked = retry_after(headers, now)
        if asked is None:
            asked = complaint.wait
        if asked is None:
            asked = wait_in_text(complaint.message)
        if asked is None and complaint.status == 429:
            asked = until_reset(headers, now)
        return asked


def verdict(
    complaint: Complaint, rules: Iterable[Rule]
) -> tuple[type[DuckError], bool | None]:
    """Return which error it is, and whether to retry (None: as that error does)."""
    message = complaint.message.lower()
    for rule in rules:
        if rule.fits(complaint, message):
            return rule.error, rule.retryable
    if complaint.status >= 500:
        return ProviderError, None
    # An upstream that refuses what the others accept (405, 418, ...) is out of
    # order or not what the config says it is.
    return ProviderError, False


@attrs.frozen
class Rule:
    """What a complaint means that fits."""

    error: type[DuckError]
    statuses: frozenset[int] = frozenset()
    """Which it is about; empty: all."""
    words: frozenset[str] = frozenset()
    pattern: re.Pattern[str] | None = None
    """In the message, in lower case. With neither words nor pattern the status decides."""
    param: str | None = None
    retryable: bool | None = attrs.field(default=None, kw_only=True)

    def fits(self, complaint: Complaint, message: str) -> bool:
        """Say whether this is about *complaint*; *message* is its own in lower case."""
        if self.statuses and complaint.status not in self.statuses:
            return False
        if not (self.words or self.pattern or self.param):
            return True
        return (
            not self.words.isdisjoint(complaint.words)
            or (self.pattern is not None and self.pattern.search(message) is not None)
            or (self.param is not None and self.param == complaint.param)
        )


def rule(
    error: type[DuckError],
    *statuses: int,
    words: str = "",
    says: str = "",
    param: str | None = None,
    retryable: bool | None = None,
) -> Rule:
    """Return the rule that an answer with one of *statuses* (none: any) means *error*.

    Where *words* (codes, apart by blanks, in lower case), a pattern for what its
    message *says*, or a *param* are given, one of them must fit too.
    """
    return Rule(
        error,
        frozenset(statuses),
        frozenset(words.split()),
        re.compile(says) if says else None,
        param,
        retryable=retryable,
    )


_BAD_KEY: Final = r"(incorrect|invalid) (x-)?api[ -]?key|api key (not valid|is invalid)"
_NO_MODEL: Final = (
    r"^model: |invalid model\b|is not a valid model|no such model|try pulling it"
    r"|model\b.{0,200}(does not exist|not found)"
)
_TOO_LONG: Final = (
    r"maximum context length|prompt is too long|context (window|size|limit|length)"
    r"|length of all messages is too long|too many tokens in the prompt"
)
_NO_MONEY: Final = (
    r"exceeded your current quota|insufficient (balance|credits|funds)|more credits"
    r"|credit balance is too low|available credits|included credits|spending limit"
)

_RULES: Final = (
    # What no waiting and no other request cures comes first: it hides behind 429.
    rule(
        QuotaExceeded,
        words="insufficient_quota billing_error billing_hard_limit_reached"
        " billing_not_active insufficient_balance",
        says=_NO_MONEY,
        retryable=False,
    ),
    rule(QuotaExceeded, 402, retryable=False),
    rule(
        ProviderAuthError,
        400,
        401,
        403,
        words="invalid_api_key authentication_error api_key_invalid",
        says=_BAD_KEY,
    ),
    rule(RequestTooLarge, 413),
    rule(RequestTooLarge, words="request_too_large"),
    rule(
        RateLimited,
        429,
        says=r"request too large|per[ -]day\b",
        retryable=False,
    ),
    rule(
        ContextLengthExceeded,
        400,
        422,
        words="context_length_exceeded exceed_context_size_error"
        " too_many_prompt_tokens model_context_window_exceeded",
        says=_TOO_LONG,
    ),
    rule(
        ContentFiltered,
        400,
        403,
        words="content_filter content_policy_violation responsibleaipolicyviolation"
        " moderation_blocked",
        says=r"content (management|filtering|filter) policy|flagged|moderation",
    ),
    rule(
        ModelNotFound,
        400,
        404,
        words="model_not_found invalid_model deploymentnotfound",
        says=_NO_MODEL,
    ),
    rule(ModelNotFound, 404, param="model"),
    # The model wrote a call that its own server refuses; another try may be better.
    rule(ProviderError, 400, words="tool_use_failed", retryable=True),
    rule(InvalidRequest, 400),
    rule(ProviderAuthError, 401, 403),
    # No such path: the base_url is wrong, which is not the caller's fault.
    rule(ProviderError, 404, retryable=False),
    rule(ProviderTimeout, 408, 504),
    rule(ProviderError, 409, retryable=True),
    rule(Unprocessable, 422),
    rule(RateLimited, 429),
    rule(ProviderError, 501, retryable=False),
)


def _json_or_none(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except UNREADABLE:
        return None


def read_complaint(
    status: int,
    headers: Mapping[str, str],  # noqa: ARG001 - some say it there
    body: object,
) -> Complaint:
    """Read an error in any of the envelopes above."""
    outer = mapping_or_empty(_first(body))
    inner = outer.get("error")
    error = mapping_or_empty(inner) or outer
    told = inner if isinstance(inner, str) else error.get("message")
    if not told:
        told = error.get("detail")
    nested = mapping_or_empty(error.get("innererror"))
    metadata = mapping_or_empty(error.get("metadata"))
    said = (_message(told), text_or(metadata.get("raw"), ""))
    words = (error.get("code"), error.get("type"), nested.get("code"))
    delay = _retry_delay(error.get("details"))
    return Complaint(
        status=status,
        words=frozenset(w.lower() for w in words if isinstance(w, str)),
        message=": ".join(filter(None, said)),
        param=text_or(error.get("param"), "") or _field_at_fault(told),
        wait=_seconds_or_none(outer.get("estimated_time")) if delay is None else delay,
        headers=_texts(mapping_or_empty(metadata.get("headers"))),
    )


FAULTS_MAX: Final = 8
"""Of a list of faults, how many are told."""


def _message(told: object) -> str:
    faults = _faults(told)
    if not faults:
        return text_or(told, "")
    told_each = ((_place(fault), text_or(fault.get("msg"), "")) for fault in faults)
    return "; ".join(filter(None, (": ".join(filter(None, it)) for it in told_each)))


def _field_at_fault(told: object) -> str | None:
    faults = _faults(told)
    return (_place(faults[0]) or None) if faults else None


def _faults(told: object) -> list[dict[str, Any]]:
    """Return the faults in FastAPI's list, which may be in a ``detail`` of its own."""
    listed = mapping_or_empty(told).get("detail", told)
    if not isinstance(listed, list):
        return []
    faults = cast("list[object]", listed)[:FAULTS_MAX]
    return [mapping_or_empty(fault) for fault in faults]


def _place(fault: dict[str, Any]) -> str:
    place = fault.get("loc")
    if not isinstance(place, list):
        return ""
    steps = cast("list[object]", place)
    return ".".join(str(s) for s in steps if isinstance(s, (str, int)) and s != "body")


def _first(body: object) -> object:
    """Return the first of a list, and anything else as it is."""
    listed = cast("list[object]", body) if isinstance(body, list) else [body]
    return listed[0] if listed else None


def _retry_delay(details: object) -> float | None:
    """Return the seconds that a ``google.rpc.RetryInfo`` among *details* asks to wait."""
    if not isinstance(details, list):
        return None
    listed = map(mapping_or_empty, cast("list[object]", details))
    said = (parse_duration(text_or(each.get("retryDelay"), "")) for each in listed)
    return next((seconds for seconds in said if seconds is not None), None)


def _texts(fields: Mapping[str, Any]) -> Mapping[str, str]:
    return {k.lower(): v for k, v in fields.items() if isinstance(v, str)}


def _seconds_or_none(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value < 1e9 else None


_STATUS_OF_WORD: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "rate_limited": 429,
    "content_filter": 400,
    "context_length_exceeded": 400,
    "invalid_model": 400,
    "tool_use_failed": 400,
    "api_error": 500,
    "server_error": 500,
    "unavailable_error": 503,
    "service_tier_capacity_exceeded": 503,
    "timeout_error": 504,
    "overloaded_error": 529,
}


def _in_band(complaint: Complaint, value: object) -> Complaint:
    """Return what *value* means, which came with no status: it, or its words, may name one."""
    error = mapping_or_empty(mapping_or_empty(value).get("error"))
    for name in ("status_code", "code", "status"):
        if (status := _status_or_none(error.get(name))) is not None:
            return attrs.evolve(complaint, status=status)
    for word in complaint.words:
        if word in _STATUS_OF_WORD:
            return attrs.evolve(complaint, status=_STATUS_OF_WORD[word])
    return attrs.evolve(complaint, status_said=False)


def _status_or_none(said: object) -> int | None:
    if isinstance(said, str):  # Azure's way
        said = int(said) if _STATUS.fullmatch(said) else None
    return said if isinstance(said, int) and 400 <= said < 600 else None


_STATUS: Final = re.compile(r"[45][0-9][0-9]")

_WAIT_TEXT: Final = re.compile(
    r"(?:try again|retry)(?: again)? (?:in|after) "
    r"((?:[0-9.]{1,16}(?:ms|[dhms])){1,5}|[0-9.]{1,16} (?:milli)?seconds?)",
    re.ASCII | re.IGNORECASE,
)


def wait_in_text(message: str) -> float | None:
    """Return the seconds that a message asks to wait: ``try again in 26.604s``."""
    found = _WAIT_TEXT.search(message)
    if found is None:
        return None
    text = found[1].lower().rstrip(".")
    number, _, unit = text.partition(" ")
    return parse_duration(number + {"": "", "m": "ms"}.get(unit[:1], "s"))


def until_reset(headers: Mapping[str, str], now_wall: float) -> float | None:
    """Return the seconds until the limit that is used up is whole again.

    Of all ``*ratelimit*-reset*`` headers only those count whose ``remaining``
    is 0 or not said. Durations, RFC 3339 dates and epoch seconds or
    milliseconds occur; what is further than a day counts as not said.
    """
    waits = [
        wait
        for name, value in headers.items()
        if "ratelimit" in name.replace("rate-limit", "ratelimit")
        and "reset" in name
        and headers.get(name.replace("reset", "remaining"), "0") == "0"
        and (wait := seconds_until(value, lambda: now_wall)) is not None
    ]
    return max(waits, default=None)
