"""What surrounds a request: the caller's wishes, and the account of what was done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar, cast

import attrs

from duckservice.completion import Chunk, Usage
from duckservice.errors import DuckError

Priority: TypeAlias = Literal["high", "normal", "low"]
CacheUse: TypeAlias = Literal["use", "off", "refresh"]
PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")

TAGS_MAX = 16
TAG_KEY_CHARS_MAX = 64
TAG_VALUE_CHARS_MAX = 256

T = TypeVar("T")


def check_tags(_: object, __: attrs.Attribute[Any], value: object) -> None:
    """Refuse tags that HTTP's `Duck-Tags` would (an attrs validator).

    Raises:
        TypeError: they are no mapping of texts to texts.
        ValueError: they are too many, empty, too long or hold control characters.
    """
    if not isinstance(value, Mapping):
        msg = f"tags must be a mapping of texts to texts, not {type(value).__name__}"
        raise TypeError(msg)
    tags = cast("Mapping[object, object]", value)
    if len(tags) > TAGS_MAX:
        msg = f"tags are at most {TAGS_MAX}, not {len(tags)}"
        raise ValueError(msg)
    for key, tag in tags.items():
        _check_text("keys of tags", key, TAG_KEY_CHARS_MAX)
        _check_text("values of tags", tag, TAG_VALUE_CHARS_MAX)


def _check_text(what: str, text: object, chars_max: int) -> None:
    if not isinstance(text, str):
        msg = f"{what} must be text, not {text!r}"
        raise TypeError(msg)
    if not 1 <= len(text) <= chars_max or not text.isprintable():
        msg = (
            f"{what} have 1 to {chars_max} characters, none of them a control character"
        )
        raise ValueError(msg)


def _check_own_tags(
    options: CallOptions, field: attrs.Attribute[Any], value: object
) -> None:
    # A job's were checked when it was handed in, and crash nobody when it is run.
    if not options.job:
        check_tags(options, field, value)


@attrs.frozen(kw_only=True)
class Submitter:
    """The process at the other end of the socket, as the kernel names it."""

    uid: int
    gid: int
    pid: int


@attrs.frozen(kw_only=True)
class AttemptInfo:
    """One request to one provider that is about to be sent."""

    provider: str
    model: str
    """What the provider is asked for."""
    reserved: int
    """Picodollars that it may cost; 0 where nobody can tell."""
    at: float | None = None
    """When it counts as begun, for the budgets that bind it, in seconds since the
    epoch; None: none does."""
    why: str = ""
    """Why this provider is asked, in words."""


@attrs.frozen(kw_only=True)
class AttemptEnd:
    """How a request to a provider has ended."""

    outcome: str
    """``ok``, ``cancelled`` or an error's code."""
    usage: Usage
    cost: int | None
    """Picodollars, None if it is not known."""
    error: DuckError | None = None


class NotBegun(Exception):
    """Whoever watches a call does not want the attempt to be sent; it was not."""


class AttemptWatch(Protocol):
    """Who keeps the record of a call's attempts, as a durable job must.

    Pauses between attempts are the watcher's, too: within the call other providers
    are asked, but nobody waits to ask the same one again.
    """

    @property
    def attempts_max(self) -> int:
        """How many attempts this call may make."""
        ...

    def asked_before(self, provider: str) -> bool:
        """Say whether *provider* has failed an earlier call for the same just now.

        To ask it again is a retry.
        """
        ...

    def permitted(self, provider: str) -> None:
        """Take note that *provider* may be asked now."""
        ...

    async def before_send(self, info: AttemptInfo) -> None:
        """Write the attempt down; when this returns, its first byte is sent.

        Raises:
            NotBegun: it is not to be sent.
        """
        ...

    def ended(self, end: AttemptEnd) -> None:
        """Take note of how the attempt that was written down last has ended."""
        ...


@attrs.frozen(kw_only=True)
class CallOptions:
    """What the caller says about a request, beside the request itself."""

    priority: Priority = attrs.field(
        default="normal", validator=attrs.validators.in_(PRIORITIES)
    )
    tags: Mapping[str, str] = attrs.field(
        factory=dict[str, str], validator=_check_own_tags
    )
    max_cost: int | None = None
    """Picodollars (1e-12 USD); a request that could cost more is refused."""
    deadline: float | None = None
    """On trio's clock."""
    request_id: str = ""
    """The caller's `X-Request-Id`; one is made up where it is empty."""
    submitter: Submitter | None = None
    job: str = ""
    """The durable job that the request is made for; empty: it is no job."""
    cache: CacheUse = "use"
    """Whether a reply that is kept will do (``use``), a new one is wanted that is
    kept in its place (``refresh``), or the cache is to be left alone (``off``)."""
    watch: AttemptWatch | None = attrs.field(default=None, eq=False, repr=False)
    """Who is told of each attempt before it is sent."""
    traceparent: str = ""
    """W3C's header, for the trace that the request is a part of; no provider gets it."""


@attrs.define(kw_only=True)
class CallReport:
    """How a request went. It is complete when the request has ended.

    While a stream runs, `provider`, `attempts` and `queued` are already final.
    """

    job: str
    request_id: str
    model: str = ""
    """The model that served, as the provider was asked for it."""
    provider: str = ""
    attempts: int = 0
    queued: float = 0.0
    """Seconds spent waiting for a turn and for the rate limit."""
    cost: int | None = None
    """Picodollars; None while unknown, and where the model has no price."""
    cost_estimated: bool = False
    cache: Literal["hit", "miss"] | None = None
    """Whether the reply was kept; None where the cache was not asked."""


@attrs.define(eq=False)
class Call:
    """One request of a client, over all its attempts."""

    options: CallOptions
    report: CallReport
    unpriced: bool = False
    """Whether an attempt had a cost that is not known, so that there is no sum."""
    at_most: int = 0
    """Picodollars that the attempts so far, those under way included, may cost; kept
    only where the caller has set a limit."""
    _entries: int = 0

    def new_entry(self) -> str:
        """Return an id for the ledger that no other attempt has, sent or not."""
        self._entries += 1
        return f"{self.report.job}.{self._entries}"

    def charge(self, cost: int | None, *, estimated: bool) -> None:
        """Add what an attempt has cost: *cost*, None if that is not known."""
        report = self.report
        self.unpriced |= cost is None
        report.cost = None if self.unpriced else (report.cost or 0) + (cost or 0)
        report.cost_estimated |= estimated


@attrs.frozen
class Answer(Generic[T]):
    """A reply and the account of it."""

    value: T
    report: CallReport


@attrs.frozen
class StreamAnswer:
    """A reply that is still coming in, as batches of chunks that arrived together."""

    batches: AsyncIterator[Sequence[Chunk]]
    report: CallReport
