"""GET /v1/jobs/{id}/stream: a job's deltas as server-sent events, to its end.

    id: 7                                   id: 9
    event: delta                            event: done            (or: error)
    data: {"attempt":"job_1.1",...}         data: {"id":"job_1","state":...}

A delta is a chunk of OpenAI's stream with the id of its attempt: where that changes,
an attempt broke off, and the reply begins anew. A stream that ends without ``done``
or ``error`` is not over, but the daemon could not go on with it: the client comes
back with ``Last-Event-ID``. So a reader costs no more than one page of deltas, and
may be as slow as the server allows any client to be.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any, Final, Literal, TypeAlias, assert_never, final

import attrs
import msgspec
import trio

from duckservice.core.job import Job, JobState
from duckservice.errors import DuckError
from duckservice.gateway.asgi import Receive, Scope, Send
from duckservice.gateway.wire.headers import Header, header_value
from duckservice.jobs.as_json import job_fields
from duckservice.jobs.jobs import Following, JobEnded, Jobs
from duckservice.store.base import Delta

HEARTBEAT: Final = 15.0
"""So often a silent stream shows that it is alive."""
PARTING: Final = 1.0
"""A daemon that drains ends a stream that is silent for so long."""

_HEADERS: Final[tuple[Header, ...]] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # Proxies of nginx's kind hold a stream back unless they are told.
    (b"x-accel-buffering", b"no"),
)
_RETRY: Final = b"retry: 1000\n\n"
_STILL_HERE: Final = b": still here\n\n"

_Next: TypeAlias = Delta | JobEnded | Literal["silence", "parting"]

_encode = msgspec.json.Encoder().encode


@final
@attrs.frozen(eq=False)
class JobStream:
    """The answer that follows one job; an ASGI application."""

    jobs: Jobs
    until_draining: Callable[[], AbstractContextManager[trio.CancelScope]]
    job: str
    after: int
    only_head: bool = False

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the events that come after `after`, until the job is over."""
        headers = [*_HEADERS, (b"duck-job", header_value(self.job))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if self.only_head:
            await _write(send, b"", more=False)
            return
        await _write(send, _RETRY)
        # Where the store cannot read, or the job was pruned meanwhile, who comes back
        # is told so with a status; here, `error` would say that the job has failed.
        with suppress(DuckError):
            await self._follow(send)
        await _write(send, b"", more=False)

    async def _follow(self, send: Send) -> None:
        following = self.jobs.follow(self.job, after=self.after)
        while True:
            event = await self._next(following)
            match event:
                case Delta():
                    await _write(send, encode_delta(event))
                case JobEnded():
                    await _write(send, encode_end(event, self.jobs))
                    return
                case "silence":
                    await _write(send, _STILL_HERE)
                case "parting":
                    return
                case _:
                    assert_never(event)

    async def _next(self, following: Following) -> _Next:
        event: _Next = "silence"
        with self.until_draining() as draining, trio.move_on_after(HEARTBEAT):
            event = await anext(following)
        if draining.cancelled_caught:
            event = "parting"
            with trio.move_on_after(PARTING):
                event = await anext(following)
        return event


def encode_delta(delta: Delta) -> bytes:
    """Return a delta as an event."""
    attempt = _encode(delta.attempt)
    chunk = delta.data.removeprefix(b"{")
    return b'id: %d\nevent: delta\ndata: {"attempt":%b,%b\n\n' % (
        delta.id,
        attempt,
        chunk,
    )


def encode_end(ended: JobEnded, jobs: Jobs) -> bytes:
    """Return the event that a stream ends with: `done` for a completed job only."""
    job = ended.job
    fields = job_fields(jobs.view(job))
    if job.state is JobState.COMPLETED:
        return _event(ended.id, b"done", fields)
    error = {**_why(job), "job": job.id}
    return _event(ended.id, b"error", {"error": error, "job": fields})


def _event(id_: int, name: bytes, fields: dict[str, Any]) -> bytes:
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (id_, name, _encode(fields))


def _why(job: Job) -> dict[str, str]:
    if job.state is JobState.CANCELLED:
        return {"code": "cancelled", "message": "the job was cancelled"}
    if job.state is JobState.EXPIRED:
        return {"code": "deadline_exceeded", "message": "the job's deadline has passed"}
    if not job.errors:
        return {"code": "internal_error", "message": f"the job was {job.state}"}
    last = job.errors[-1]
    return {"code": last.code, "message": last.message}


async def _write(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
