"""Clients that submit without a pause, and send again what they are not sure of."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import attrs
import trio

from tests.gateway.serving import Response
from tests.kills.asking import Caller, Gone, read_lines
from tests.kills.record import Order, Record

RETRYABLE = {429, 503}
"""What a daemon that starts or struggles may answer; nothing was accepted then."""


@attrs.define
class Client:
    """One of them."""

    number: int
    record: Record
    random: random.Random
    caller: Caller
    pause: float
    """Seconds between two things that it does, on average."""
    stopped: trio.Event
    made: int = 0
    mine: list[str] = attrs.field(factory=list)
    """The ids of what was accepted, the last of them."""

    async def run(self) -> None:
        """Go on until it is stopped; then see what is under way to its end."""
        things = [self.submit, self.submit_many, self.look, self.cancel, self.repeat]
        weights = [80, 3, 8, 4, 5]
        while not self.stopped.is_set():
            [thing] = self.random.choices(things, weights)
            try:
                await thing()
            except Gone:
                await trio.sleep(0.01)
            except trio.TooSlowError:
                self.record.strange(f"{thing.__name__} was not answered within 5 s")
                self.caller.close()
            await trio.sleep(self.random.uniform(0, 2 * self.pause))
        self.caller.close()

    async def submit(self) -> None:
        """Submit one job; one with a key until it is known to be accepted."""
        order = self._order(keyed=self.random.random() < 0.5)
        await self._send(order)

    async def _send(self, order: Order) -> None:
        headers = {} if order.key is None else {"idempotency_key": order.key}
        while True:
            try:
                answer = await self.caller.ask(
                    "POST", "/v1/jobs", order.body, **headers
                )
            except Gone:
                if order.key is None:
                    raise
                self.record.resent.add(order.marker)
                await trio.sleep(0.02)
                continue
            if answer.status in (200, 202):
                self._accepted(order, json.loads(answer.body)["id"])
            elif answer.status in RETRYABLE:
                if order.key is not None:
                    await trio.sleep(0.02)
                    continue
            else:
                self._strange(answer, "a submission")
            return

    async def submit_many(self) -> None:
        """Submit some jobs as lines of one request; they all have keys."""
        orders = [self._order(keyed=True) for _ in range(self.random.randrange(3, 30))]
        lines = [
            b'{"idempotency_key":"%b",%b' % ((its.key or "").encode(), its.body[1:])
            for its in orders
        ]
        missing = set(range(1, len(orders) + 1))
        while missing:
            told = await read_lines(self.caller, "/v1/jobs:bulk", b"\n".join(lines))
            for outcome in map(json.loads, told):
                if not isinstance(outcome, dict):
                    if outcome not in RETRYABLE:
                        self.record.strange(f"bulk: status {outcome}")
                elif "id" in outcome:
                    self._accepted(orders[outcome["line"] - 1], outcome["id"])
                    missing.discard(outcome["line"])
                elif outcome["error"]["code"] != "unavailable":
                    self.record.strange(f"bulk: {outcome}")
            if missing:
                self.record.resent.update(orders[line - 1].marker for line in missing)
                await trio.sleep(0.02)

    async def look(self) -> None:
        """See how a job is, and what came of it."""
        if not self.mine:
            return
        job = self.random.choice(self.mine)
        answer = await self.caller.ask("GET", f"/v1/jobs/{job}")
        if answer.status in RETRYABLE:
            return
        if answer.status != 200:
            self._strange(answer, f"GET {job}")
            return
        state, result = json.loads(answer.body)["state"], None
        if state == "completed":
            answer = await self.caller.ask("GET", f"/v1/jobs/{job}/result")
            if answer.status in RETRYABLE:
                return
            result = digest(answer.body)
        if state in ("completed", "discarded", "cancelled", "expired"):
            self.record.show(job, state, result)

    async def cancel(self) -> None:
        """Cancel one of the last jobs; it may be too late."""
        if not self.mine:
            return
        job = self.random.choice(self.mine[-5:])
        answer = await self.caller.ask("POST", f"/v1/jobs/{job}/cancel")
        if answer.status == 200:
            self.record.cancel(job)
        elif answer.status not in {409, *RETRYABLE}:
            self._strange(answer, f"cancelling {job}")

    async def repeat(self) -> None:
        """Send an old order again, or another one under its key."""
        keyed = [
            order
            for order in list(self.record.orders.values())[-300:]
            if order.key and order.marker in self.record.accepted
        ]
        if not keyed:
            return
        order = self.random.choice(keyed)
        if self.random.random() < 0.7:
            await self._send(order)
            return
        other = order.body.replace(b"marker:", b"MARKER:")
        headers = {"idempotency_key": order.key or ""}
        answer = await self.caller.ask("POST", "/v1/jobs", other, **headers)
        if answer.status not in {409, *RETRYABLE}:
            self._strange(answer, f"another submission under {order.key}")

    def _order(self, *, keyed: bool) -> Order:
        self.made += 1
        marker = f"c{self.number}-{self.made}"
        space = " " * self.random.randrange(4)
        model = self.random.choice(["calm-1", "storm-1"])
        stream = self.random.choice(["true", "false"])
        request = (
            f'{{{space}"model" :"{model}","stream":{stream},"max_tokens":16,'
            f'"messages":[{{"content":"marker:{marker} \\u00e9ö{space}",'
            f'"role":"user"}}]{space}}}'
        )
        beside = {
            "max_attempts": self.random.choice([3, 3, 4, 6]),
            "priority": self.random.choice(["high", "normal", "low"]),
            "on_interrupt": self.random.choice(["retry", "retry", "fail"]),
        }
        key = f"key-{marker}" if keyed else None
        order = Order(marker=marker, request=request.encode(), beside=beside, key=key)
        self.record.ordered(order)
        return order

    def _accepted(self, order: Order, job: str) -> None:
        self.record.accept(order, job)
        self.mine = [*self.mine[-200:], job]

    def _strange(self, answer: Response, what: str) -> None:
        self.record.strange(f"{what}: {answer.status} {answer.body[:300]!r}")


def digest(result: bytes) -> str:
    """Return what tells one result from another."""
    return hashlib.sha256(result).hexdigest()[:16]


def make_clients(
    count: int,
    record: Record,
    socket: Path,
    seed: int,
    *,
    pause: float,
    stopped: trio.Event,
) -> list[Client]:
    """Return *count* of them, each with chances of its own."""
    return [
        Client(
            number,
            record,
            random.Random(f"{seed}/{number}"),
            Caller(socket),
            pause,
            stopped,
        )
        for number in range(count)
    ]
