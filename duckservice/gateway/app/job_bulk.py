"""POST /v1/jobs:bulk: a submission a line in, an outcome a line out, while both flow.

    {"request": {...}}            {"line": 1, "id": "job_1", "state": ..., "created": true}
    not JSON                      {"line": 2, "error": {"code": ..., "message": ...}}

Lines that arrived together are one commit, at most `GROUP_LINES_MAX` of them. What
has an outcome with an id is committed. Nothing is kept but the line that is not whole
yet, one group, and the outcomes that the client has not read: many a client sends all
before it reads anything, so these may be many, but no more than `OUTCOMES_BYTES_MAX`.
Whoever has more unread is not read from either, and in the end hung up on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, assert_never, final

import attrs
import msgspec
import trio

from duckservice.calls.call import CallOptions, Submitter
from duckservice.core.job import Submission
from duckservice.errors import DuckError
from duckservice.gateway.asgi import Receive, Scope, Send
from duckservice.gateway.wire.errors import duck_error
from duckservice.gateway.wire.fields import decode_object, refused, text
from duckservice.gateway.wire.headers import (
    IDEMPOTENCY_KEY_CHARS_MAX,
    Header,
    header_value,
)
from duckservice.jobs.as_json import make_submission, read_submission
from duckservice.jobs.jobs import Jobs
from duckservice.store.base import Existing, Inserted, InsertOutcome, Refused

GROUP_LINES_MAX: Final = 256
OUTCOMES_BYTES_MAX: Final = 16 * 1024 * 1024
_LINES_PER_CHECKPOINT: Final = 32

_Line: TypeAlias = tuple[int, bytes]
"""Its number, from 1, and what it says."""
_Json: TypeAlias = dict[str, Any]

_KEY: Final = re.compile(rf"[!-~]{{1,{IDEMPOTENCY_KEY_CHARS_MAX}}}")

_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode_lines = msgspec.json.Encoder().encode_lines


@attrs.frozen(kw_only=True)
class LineReader:
    """Reads one line of a bulk submission."""

    options: CallOptions
    """What the request's headers say: the default for every line."""
    idempotency_key: str | None
    """Of the request; each line's own key is made from it."""
    submitter: Submitter
    max_attempts: int
    wall_clock: Callable[[], float]

    def read(self, number: int, line: bytes) -> Submission:
        """Return the submission on *line*.

        Raises:
            InvalidRequest: naming the field.
        """
        key = self.idempotency_key
        its: dict[str, Any] = {
            "now": self.wall_clock(),
            "max_attempts": self.max_attempts,
            "options": self.options,
            "options_at": trio.current_time(),
            "submitter": self.submitter,
            "idempotency_key": None if key is None else f"{key}/{number}",
        }
        if b'"idempotency_key"' not in line:
            return read_submission(line, **its)
        fields = decode_object(line)
        own_key = text(fields, "idempotency_key", "")
        if own_key is not None:
            its["idempotency_key"] = _checked(own_key)
        if fields.get("request") is None:
            raise refused("request", "is required: the body of an OpenAI request")
        beside = {
            name: value
            for name, value in fields.items()
            if name not in {"request", "idempotency_key"}
        }
        return make_submission(beside, bytes(_raw(line)["request"]), **its)


@final
@attrs.frozen(eq=False)
class BulkSubmission:
    """The answer to one bulk submission; an ASGI application."""

    jobs: Jobs
    reader: LineReader

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Submit line by line, and answer while lines still come."""
        outcomes = _Outcomes()
        headers: list[Header] = [
            (b"content-type", b"application/x-ndjson"),
            (b"cache-control", b"no-cache"),
            (b"x-request-id", header_value(self.reader.options.request_id)),
        ]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_answer, send, headers, outcomes)
            await self._submit_all(receive, outcomes)
            outcomes.close()

    async def _submit_all(self, receive: Receive, outcomes: _Outcomes) -> None:
        lines = _Lines()
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            more = message.get("more_body", False)
            found = lines.feed(message.get("body", b""), last=not more)
            for start in range(0, len(found), GROUP_LINES_MAX):
                group = found[start : start + GROUP_LINES_MAX]
                told = await self._submit(group)
                await outcomes.put(_encode_lines(told))

    async def _submit(self, group: Sequence[_Line]) -> list[_Json]:
        """Submit a group in one commit; return the outcomes in the lines' order."""
        told: list[_Json] = []
        good: list[tuple[int, Submission]] = []
        for count, (number, line) in enumerate(group, 1):
            try:
                submission = self.reader.read(number, line)
                self.jobs.check(submission)
            except DuckError as error:
                told.append(_failed(number, error))
            else:
                good.append((number, submission))
            if not count % _LINES_PER_CHECKPOINT:
                # Decoding must not keep other clients waiting.
                await trio.lowlevel.checkpoint()
        if good:
            numbers = [number for number, _ in good]
            told += await self._commit(numbers, [submission for _, submission in good])
            told.sort(key=lambda outcome: outcome["line"])
        return told

    async def _commit(
        self, numbers: Sequence[int], submissions: Sequence[Submission]
    ) -> list[_Json]:
        try:
            outcomes = await self.jobs.submit_many(submissions)
        except DuckError as error:
            return [_failed(number, error) for number in numbers]
        return list(map(_told, numbers, outcomes))


@attrs.define
class _Lines:
    """Cuts a body that comes in pieces into its lines; blank ones only count."""

    _pending: bytearray = attrs.field(factory=bytearray)
    _number: int = 0

    def feed(self, data: bytes, *, last: bool) -> list[_Line]:
        """Return the lines that *data* completes."""
        if b"\n" not in data and not last:
            self._pending += data
            return []
        *whole, rest = bytes(self._pending + data).split(b"\n")
        if last:
            whole.append(rest)
            rest = b""
        self._pending = bytearray(rest)
        first = self._number + 1
        self._number += len(whole)
        return [(n, line) for n, line in enumerate(whole, first) if line.strip()]


@attrs.define(eq=False)
class _Outcomes:
    """What is to be sent, between who submits and who sends."""

    _waiting: bytearray = attrs.field(factory=bytearray)
    _closed: bool = False
    _something: trio.Event = attrs.field(factory=trio.Event)
    _room: trio.Event = attrs.field(factory=trio.Event)

    async def put(self, data: bytes) -> None:
        """Add some; waits while too much is there."""
        self._waiting += data
        self._something.set()
        while len(self._waiting) > OUTCOMES_BYTES_MAX:
            await self._room.wait()

    def close(self) -> None:
        """Say that there will be no more."""
        self._closed = True
        self._something.set()

    async def take(self) -> bytes:
        """Return all that waits; nothing, when there is no more."""
        if not self._waiting and not self._closed:
            self._something = trio.Event()
            await self._something.wait()
        taken, self._waiting = bytes(self._waiting), bytearray()
        room, self._room = self._room, trio.Event()
        room.set()
        return taken


async def _answer(send: Send, headers: list[Header], outcomes: _Outcomes) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while data := await outcomes.take():
        await send({"type": "http.response.body", "body": data, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _told(number: int, outcome: InsertOutcome) -> _Json:
    match outcome:
        case Inserted(job):
            return _taken(number, job.id, job.state, created=True)
        case Existing(job):
            return _taken(number, job.id, job.state, created=False)
        case Refused(error):
            return _failed(number, error)
        case _:
            assert_never(outcome)


def _taken(number: int, job: str, state: str, *, created: bool) -> _Json:
    return {"line": number, "id": job, "state": str(state), "created": created}


def _failed(number: int, error: DuckError) -> _Json:
    return {"line": number, **duck_error(error)}


def _checked(key: str) -> str:
    if _KEY.fullmatch(key) is None:
        allowed = f"1 to {IDEMPOTENCY_KEY_CHARS_MAX} visible ASCII characters"
        raise refused("idempotency_key", f"must have {allowed}")
    return key
