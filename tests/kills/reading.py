"""All jobs as the daemon shows them when everything is over."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import attrs
import trio

from tests.kills.asking import Caller, Gone
from tests.kills.provider import MARKER

READERS = 4
UNFINISHED = ("suspended", "scheduled", "available", "executing", "retryable")


@attrs.frozen(kw_only=True)
class Found:
    """A job, with everything that belongs to it."""

    fields: dict[str, Any]
    request: bytes
    result: bytes | None
    attempts: list[dict[str, Any]]
    events: list[str] | None
    """The names of its stream's events; None where nobody has looked."""

    @property
    def id(self) -> str:
        return str(self.fields["id"])

    @property
    def state(self) -> str:
        return str(self.fields["state"])

    @property
    def marker(self) -> str:
        found = MARKER.search(self.request)
        return found[1].decode() if found else ""

    def in_state(self, state: str) -> list[dict[str, Any]]:
        """Return the attempts in that state."""
        return [each for each in self.attempts if each["state"] == state]


async def get(caller: Caller, target: str) -> Any:
    """Return what is there, which must be JSON."""
    answer = await caller.ask("GET", target)
    assert answer.status == 200, (target, answer)
    return json.loads(answer.body)


async def drained(caller: Caller, limit: float) -> dict[str, int]:
    """Wait until no job is left to be run; return how many are, if that fails."""
    since = time.monotonic()
    while True:
        # A daemon that has just been started may not be there yet.
        try:
            counts = (await get(caller, "/v1/status"))["jobs"]
        except Gone:
            counts = None
        if counts is not None:
            left = {state: counts[state] for state in UNFINISHED if counts[state]}
            if not left or time.monotonic() - since > limit:
                return left
        elif time.monotonic() - since > limit:
            return {"unknown": 1}
        await trio.sleep(0.1)


async def read_all(socket: Path, *, streams_every: int) -> dict[str, Found]:
    """Return all jobs, by id; of every so-manieth with its stream."""
    caller, listed = Caller(socket), list[dict[str, Any]]()
    target: str | None = "/v1/jobs?limit=500"
    while target is not None:
        page = await get(caller, target)
        listed += page["jobs"]
        more = page["cursor"]
        target = more and f"/v1/jobs?limit=500&cursor={more}"
    caller.close()
    found = dict[str, Found]()
    numbered = iter(list(enumerate(listed)))

    async def read_some() -> None:
        caller = Caller(socket)
        for number, fields in numbered:
            stream = number % streams_every == 0
            found[fields["id"]] = await _read(caller, fields, stream=stream)
        caller.close()

    async with trio.open_nursery() as nursery:
        for _ in range(READERS):
            nursery.start_soon(read_some)
    return found


async def _read(caller: Caller, fields: dict[str, Any], *, stream: bool) -> Found:
    target = f"/v1/jobs/{fields['id']}"
    result, events = None, None
    answer = await caller.ask("GET", f"{target}/result")
    if answer.status == 200:
        result = answer.body
    request = await caller.ask("GET", f"{target}/request")
    attempts = await get(caller, f"{target}/attempts")
    if stream and fields["state"] not in UNFINISHED:
        told = (await caller.ask("GET", f"{target}/stream")).body.split(b"\n")
        events = [line[7:].decode() for line in told if line.startswith(b"event: ")]
    return Found(
        fields=fields,
        request=request.body,
        result=result,
        attempts=attempts["attempts"],
        events=events,
    )
