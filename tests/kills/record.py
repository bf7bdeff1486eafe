"""What the judge has seen with its own eyes, appended to a file of its own."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Literal

import attrs


@attrs.frozen(kw_only=True)
class Order:
    """One submission, as a client makes it, however often it has to send it."""

    marker: str
    """Unique; it is in the prompt, so that the upstream can tell whose request it is."""
    request: bytes
    """The body for the provider, whose bytes must come back as they are."""
    beside: dict[str, Any]
    key: str | None = None

    @property
    def body(self) -> bytes:
        beside = json.dumps(self.beside).encode()[1:-1]
        return b'{"request":%b%b%b}' % (self.request, b"," * bool(beside), beside)

    @property
    def max_attempts(self) -> int:
        return int(self.beside["max_attempts"])

    @property
    def once_only(self) -> bool:
        """Whether it must not be sent again after an interruption."""
        return self.beside.get("on_interrupt") == "fail"


@attrs.frozen(kw_only=True)
class Call:
    """A request that the upstream has read whole."""

    number: int
    at: float
    bill: Literal["nothing", "all", "torn"]
    """What it charges: ``torn`` charges for a reply that broke off in the middle."""
    tokens: int
    """Of the prompt, as billed: no two calls have the same."""


@attrs.define
class Record:
    """Everything that was promised, shown or billed."""

    path: Path
    orders: dict[str, Order] = attrs.field(factory=dict)
    """By marker."""
    accepted: dict[str, list[str]] = attrs.field(factory=dict)
    """The ids of each 202 that a marker's order has got."""
    calls: dict[str, list[Call]] = attrs.field(factory=dict)
    shown: dict[str, tuple[str, str | None]] = attrs.field(factory=dict)
    """What a client was told of a job that was over: its state and its result."""
    cancelled: dict[str, float] = attrs.field(factory=dict)
    """When each job's cancellation was acknowledged."""
    faults: list[tuple[float, float]] = attrs.field(factory=list)
    """Between which two moments each kill, or crash of an actor, has happened."""
    odd: list[str] = attrs.field(factory=list)
    """What must not happen at all."""
    resent: set[str] = attrs.field(factory=set)
    """The markers of orders that had to be sent more than once."""
    calls_seen: int = 0

    def ordered(self, order: Order) -> None:
        """Take note of a submission before it is first sent."""
        self.orders[order.marker] = order
        self._append("order", marker=order.marker, body=order.body.decode())

    def accept(self, order: Order, job: str) -> None:
        """Take note of a 202."""
        self.accepted.setdefault(order.marker, []).append(job)
        self._append("accepted", job=job, marker=order.marker)

    def call(self, marker: str, bill: Literal["nothing", "all", "torn"]) -> Call:
        """Take note of a request at the upstream; it decides what it will charge."""
        self.calls_seen += 1
        number = self.calls_seen
        call = Call(number=number, at=time.time(), bill=bill, tokens=number + 100)
        self.calls.setdefault(marker, []).append(call)
        self._append("call", marker=marker, **attrs.asdict(call))
        return call

    def show(self, job: str, state: str, result: str | None) -> None:
        """Take note of the end of a job, which must be the same ever after."""
        before = self.shown.setdefault(job, (state, result))
        self._append("shown", job=job, state=state, result=result)
        if before[0] != state or (result and before[1] and before[1] != result):
            self.odd.append(f"{job} was shown {before}, and then {(state, result)}")
        if before[1] is None:
            self.shown[job] = state, result

    def cancel(self, job: str) -> None:
        """Take note that a job was cancelled."""
        self.cancelled[job] = time.time()
        self._append("cancelled", job=job)

    def fault(self, since: float, until: float) -> None:
        """Take note of a kill."""
        self.faults.append((since, until))
        self._append("fault", since=since, until=until)

    def strange(self, what: str) -> None:
        """Take note of what must not happen."""
        self.odd.append(what)
        self._append("strange", told=what)

    def _append(self, kind: str, **more: object) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"kind": kind, **more}) + "\n")
