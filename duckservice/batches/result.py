"""What a job that is over says of its line in a batch; pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs
import msgspec

from duckservice.batches.lines import answer_line, failure_line
from duckservice.core.job import Job, JobState
from duckservice.errors import DuckError, InternalError
from duckservice.gateway.wire.errors import openai_error

EXPIRED: Final = "batch_expired"
CANCELLED: Final = "batch_cancelled"
WHY_NOT: Final = {
    EXPIRED: "This request could not be executed before the completion window expired.",
    CANCELLED: "This request was not executed: it was cancelled.",
}

_encode = msgspec.json.Encoder().encode

_EXPIRED_END: Final = (
    b'"error":' + _encode({"code": EXPIRED, "message": WHY_NOT[EXPIRED]}) + b"}"
)


@attrs.frozen
class Result:
    """One line of a file of results."""

    ok: bool
    """Whether it belongs to the answers; else to the errors."""
    line: bytes = attrs.field(repr=False)


def result_of(
    batch: str, number: int, custom_id: str, job: Job, answer: bytes | None
) -> Result:
    """Return what became of a line, whose *job* is over; *answer* is its result."""
    match job.state:
        case JobState.COMPLETED if answer is not None:
            line = answer_line(
                batch, number, custom_id, job=job.id, status=200, body=answer
            )
            return Result(ok=True, line=line)
        case JobState.EXPIRED:
            return not_run(batch, number, custom_id, EXPIRED)
        case JobState.CANCELLED:
            return not_run(batch, number, custom_id, CANCELLED)
        case _:
            return _failed(batch, number, custom_id, job)


def not_run(
    batch: str, number: int, custom_id: str, code: str, message: str = ""
) -> Result:
    """Return the result of a line that no provider was asked for, or in vain."""
    said = message or WHY_NOT[code]
    line = failure_line(batch, number, custom_id, code=code, message=said)
    return Result(ok=False, line=line)


def has_expired(line: bytes) -> bool:
    """Say whether *line*, of a file of results, is of a request that was too late."""
    return line.rstrip().endswith(_EXPIRED_END)


def _failed(batch: str, number: int, custom_id: str, job: Job) -> Result:
    last = job.errors[-1] if job.errors else None
    kind = _CLASSES.get("" if last is None else last.code, InternalError)
    message = "the job has no result" if last is None else last.message
    body = _encode(openai_error(kind(message)))
    line = answer_line(
        batch, number, custom_id, job=job.id, status=kind.status, body=body
    )
    return Result(ok=False, line=line)


def _below(kind: type[DuckError]) -> Iterator[type[DuckError]]:
    yield kind
    for each in kind.__subclasses__():
        if each.__module__ == DuckError.__module__:
            yield from _below(each)


# Where classes share a code, the one that has it first is the plainest.
_CLASSES: Final = {kind.code: kind for kind in reversed(list(_below(DuckError)))}
