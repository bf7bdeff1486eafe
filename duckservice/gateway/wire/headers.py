"""Request headers to `CallOptions`, and a `CallReport` to answer headers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TypeAlias, cast
from urllib.parse import quote

from duckservice.calls.call import (
    PRIORITIES,
    TAG_KEY_CHARS_MAX,
    TAG_VALUE_CHARS_MAX,
    TAGS_MAX,
    CacheUse,
    CallOptions,
    CallReport,
    Priority,
    Submitter,
)
from duckservice.errors import InvalidRequest

Header: TypeAlias = tuple[bytes, bytes]
"""A name in lower case and a value, as ASGI has them."""

PICODOLLARS_PER_USD = 10**12
REQUEST_ID_CHARS_MAX = 128
IDEMPOTENCY_KEY_CHARS_MAX = 255
DEADLINE_SECONDS_MAX = 366 * 86_400
BETAS_MAX = 32
BETA_CHARS_MAX = 128
TRACEPARENT_CHARS_MAX = 256

_UNDERSTOOD = {
    b"duck-priority": "Duck-Priority",
    b"duck-tags": "Duck-Tags",
    b"duck-max-cost-usd": "Duck-Max-Cost-Usd",
    b"duck-deadline": "Duck-Deadline",
    b"duck-cache": "Duck-Cache",
    b"x-request-id": "X-Request-Id",
    b"idempotency-key": "Idempotency-Key",
    b"content-type": "Content-Type",
    b"content-encoding": "Content-Encoding",
    b"traceparent": "Traceparent",
}
_JSON = re.compile(r"(application|text)/([\w.+-]+\+)?json\s*(;.*)?", re.IGNORECASE)
_DECIMAL = re.compile(r"([0-9]{1,12})(?:\.([0-9]{1,12}))?")
_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_VISIBLE = re.compile(r"[!-~]+")
_VISIBLE_BYTES = re.compile(rb"[!-~]+")


def read_options(
    headers: Iterable[Header],
    *,
    submitter: Submitter | None = None,
    now_wall: float,
    now_trio: float,
    new_request_id: Callable[[], str] = str,
) -> CallOptions:
    """Return what the headers of a request with a JSON body say about it.

    A deadline comes as a time of day or as seconds from now, and leaves on
    trio's clock: *now_wall* and *now_trio* are the same instant on the two.
    *new_request_id* is asked where the caller gave no id. Raises
    `InvalidRequest`, naming the header.
    """
    given = _collect(headers)
    _check_body(given)
    if len(given) == ("Content-Type" in given):
        return CallOptions(submitter=submitter, request_id=new_request_id())
    cache = _word(given, "Duck-Cache", ("off", "refresh"))
    _token(given, "Idempotency-Key", IDEMPOTENCY_KEY_CHARS_MAX)
    priority = _word(given, "Duck-Priority", PRIORITIES)
    return CallOptions(
        priority=cast("Priority", priority or "normal"),
        tags=_tags(given),
        max_cost=_max_cost(given),
        deadline=_deadline(given, now_wall, now_trio),
        request_id=_token(given, "X-Request-Id", REQUEST_ID_CHARS_MAX)
        or new_request_id(),
        submitter=submitter,
        cache=cast("CacheUse", cache or "use"),
        traceparent=given.get("Traceparent", ""),
    )


def own_request_id(headers: Iterable[Header]) -> Header | None:
    """Return the client's `X-Request-Id` as the header to send back, if it is one."""
    for name, value in headers:
        if name == b"x-request-id" and len(value) <= REQUEST_ID_CHARS_MAX:
            return (name, value) if _VISIBLE_BYTES.fullmatch(value) else None
    return None


def read_betas(headers: Iterable[Header]) -> tuple[str, ...]:
    """Return the features that ``anthropic-beta`` asks for, each once.

    As any list, it may come in several headers. Raises `InvalidRequest`, naming
    the header.
    """
    values = [value for name, value in headers if name == b"anthropic-beta"]
    if not values:
        return ()
    pieces = b",".join(values).decode("latin-1").split(",")
    betas = tuple(dict.fromkeys(beta for p in pieces if (beta := p.strip(" \t"))))
    if len(betas) > BETAS_MAX:
        raise _bad("Anthropic-Beta", f"has more than {BETAS_MAX} values")
    for beta in betas:
        if len(beta) > BETA_CHARS_MAX or _VISIBLE.fullmatch(beta) is None:
            allowed = f"1 to {BETA_CHARS_MAX} visible ASCII characters"
            raise _bad("Anthropic-Beta", f"its values must have {allowed}")
    return betas


def report_headers(report: CallReport, *, streaming: bool = False) -> list[Header]:
    """Return what an answer says about how it was made.

    The head of a stream leaves before its cost is known, so it has none, unless
    the reply was kept, which costs nothing.
    """
    headers: list[Header] = [
        (b"x-request-id", header_value(report.request_id)),
        (b"duck-job", header_value(report.job)),
        (b"duck-provider", header_value(report.provider)),
        (b"duck-attempts", b"%d" % report.attempts),
        (b"duck-queue-ms", b"%d" % round(report.queued * 1000)),
        # A miss as well where there is no cache: a client need not tell these apart.
        (b"duck-cache", (report.cache or "miss").encode()),
    ]
    if report.cost is not None and (not streaming or report.cache == "hit"):
        headers.append((b"duck-cost-usd", usd(report.cost).encode()))
        if report.cost_estimated:
            headers.append((b"duck-cost-estimated", b"true"))
    return headers


def usd(picodollars: int) -> str:
    """Return an amount of picodollars as exact decimal dollars."""
    whole, rest = divmod(abs(picodollars), PICODOLLARS_PER_USD)
    sign = "-" if picodollars < 0 else ""
    return f"{sign}{whole}.{rest:012d}".rstrip("0").rstrip(".")


def header_value(value: str) -> bytes:
    """Return *value* as a header's bytes; what could break out of it is escaped."""
    if value.isascii() and value.isprintable():
        return value.encode()
    return quote(value, safe=" ").encode()


def timestamp(text: str) -> float | None:
    """Return the seconds since the epoch that an RFC 3339 time names."""
    if _RFC3339.fullmatch(text) is None:
        return None
    try:
        return datetime.fromisoformat(text.upper()).timestamp()
    except (ValueError, OverflowError):
        return None


def _collect(headers: Iterable[Header]) -> dict[str, str]:
    given: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name = _UNDERSTOOD.get(raw_name)
        if name is None:
            continue
        if name == "Traceparent":
            given[name] = "" if name in given else _traceparent(raw_value)
            continue
        if name in given:
            raise _bad(name, "is given twice")
        try:
            given[name] = raw_value.decode()
        except UnicodeDecodeError:
            raise _bad(name, "is not UTF-8") from None
    return given


def _traceparent(value: bytes) -> str:
    """Return it as it is; nothing where it is wrong, for that fails no request."""
    if len(value) > TRACEPARENT_CHARS_MAX or not value.isascii():
        return ""
    return value.decode()


def _check_body(given: Mapping[str, str]) -> None:
    content_type = given.get("Content-Type")
    if (
        content_type is not None
        and content_type != "application/json"
        and _JSON.fullmatch(content_type) is None
    ):
        raise _bad("Content-Type", "must be application/json, or absent")
    if given.get("Content-Encoding", "identity").lower() != "identity":
        raise _bad("Content-Encoding", "must be identity, or absent")


def _word(given: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str | None:
    word = given.get(name)
    if word is None or word in allowed:
        return word
    raise _bad(name, f"must be one of {', '.join(allowed)}")


def _token(given: Mapping[str, str], name: str, chars_max: int) -> str | None:
    value = given.get(name)
    if value is None:
        return None
    if len(value) > chars_max or _VISIBLE.fullmatch(value) is None:
        raise _bad(name, f"must have 1 to {chars_max} visible ASCII characters")
    return value


def _tags(given: Mapping[str, str]) -> dict[str, str]:
    tags: dict[str, str] = {}
    value = given.get("Duck-Tags", "")
    if not value.strip():
        return tags
    for pair in value.split(","):
        key, equals, tag = (piece.strip() for piece in pair.partition("="))
        if not equals or not key or not tag:
            raise _bad("Duck-Tags", "must read key=value,key=value")
        if len(key) > TAG_KEY_CHARS_MAX or len(tag) > TAG_VALUE_CHARS_MAX:
            limits = f"{TAG_KEY_CHARS_MAX} and {TAG_VALUE_CHARS_MAX}"
            raise _bad("Duck-Tags", f"keys and values have at most {limits} characters")
        if not (key.isprintable() and tag.isprintable()):
            raise _bad("Duck-Tags", "must not hold control characters")
        if key in tags:
            raise _bad("Duck-Tags", "has the same key twice")
        tags[key] = tag
    if len(tags) > TAGS_MAX:
        raise _bad("Duck-Tags", f"has more than {TAGS_MAX} tags")
    return tags


def _max_cost(given: Mapping[str, str]) -> int | None:
    value = given.get("Duck-Max-Cost-Usd")
    if value is None:
        return None
    match = _DECIMAL.fullmatch(value)
    if match is None:
        allowed = "a decimal number of dollars, with at most 12 decimal places"
        raise _bad("Duck-Max-Cost-Usd", f"must be {allowed}")
    whole, fraction = match.groups(default="")
    return int(whole) * PICODOLLARS_PER_USD + int(fraction.ljust(12, "0"))


def _deadline(
    given: Mapping[str, str], now_wall: float, now_trio: float
) -> float | None:
    value = given.get("Duck-Deadline")
    if value is None:
        return None
    if _SECONDS.fullmatch(value):
        seconds = float(value)
    elif (moment := timestamp(value)) is not None:
        # One that has passed is for the service to refuse, as any other that
        # passes before its turn.
        seconds = moment - now_wall
    else:
        allowed = "an RFC 3339 time with its offset, or seconds from now"
        raise _bad("Duck-Deadline", f"must be {allowed}")
    if seconds > DEADLINE_SECONDS_MAX:
        raise _bad("Duck-Deadline", "must be within a year")
    return now_trio + seconds


def _bad(name: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"header {name}: {reason}", param=name)
