"""What surrounds a request: the caller's wishes, and the account of what was done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Generic, Literal, TypeAlias, TypeVar

import attrs

from duckservice.completion import Chunk

Priority: TypeAlias = Literal["high", "normal", "low"]
PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Submitter:
    """The process at the other end of the socket, as the kernel names it."""

    uid: int
    gid: int
    pid: int


@attrs.frozen(kw_only=True)
class CallOptions:
    """What the caller says about a request, beside the request itself."""

    priority: Priority = "normal"
    tags: Mapping[str, str] = attrs.field(factory=dict[str, str])
    max_cost: int | None = None
    """Picodollars (1e-12 USD); a request that could cost more is refused."""
    deadline: float | None = None
    """On trio's clock."""
    request_id: str = ""
    """The caller's `X-Request-Id`; one is made up where it is empty."""
    submitter: Submitter | None = None


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
