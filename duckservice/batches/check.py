"""The check of a batch's whole file, before any of it is run."""

from __future__ import annotations

from contextlib import aclosing

import attrs

from duckservice.batches.files import read_lines
from duckservice.batches.lines import BadLine, BatchLine, LineReader
from duckservice.batches.values import ERRORS_MAX, BatchDetails
from duckservice.errors import BudgetExceeded, DuckError, NotFound
from duckservice.jobs.jobs import Jobs
from duckservice.money.spending import why_unknown, worst_cost
from duckservice.store.base import Store

_NOTHING = BadLine(number=0, code="empty_file", message="the file has no request in it")


@attrs.frozen(kw_only=True)
class Checked:
    """What was found."""

    total: int
    """Good lines."""
    bad_lines: int
    bad: tuple[BadLine, ...]
    """The first of the bad, or what is wrong with the file (line 0)."""


async def check(store: Store, file: str, its: BatchDetails, jobs: Jobs) -> Checked:
    """Read all lines of *file*, and ask of each whether anybody could serve it."""
    reader = LineReader(its.endpoint, its.model)
    bad, bad_lines, total = list[BadLine](), 0, 0
    try:
        async with aclosing(read_lines(store, file)) as lines:
            async for raw in lines:
                line = checked(reader.read(raw), its, jobs)
                total += isinstance(line, BatchLine)
                if isinstance(line, BadLine):
                    bad_lines += 1
                    if len(bad) < ERRORS_MAX:
                        bad.append(line)
    except NotFound as error:
        gone = BadLine(number=0, code=error.code, message=error.message)
        return Checked(total=0, bad_lines=0, bad=(gone,))
    if not total and not bad:
        bad.append(_NOTHING)
    return Checked(total=total, bad_lines=bad_lines, bad=tuple(bad))


def checked(
    line: BatchLine | BadLine | None, its: BatchDetails, jobs: Jobs
) -> BatchLine | BadLine | None:
    """Return *line*, as a bad one if nobody here could serve it.

    So is one whose cost nobody can bound, in a batch that has a limit: it would never
    be run.
    """
    if not isinstance(line, BatchLine):
        return line
    try:
        jobs.room.check_size(len(line.body))
        jobs.service.check(line.request)
    except DuckError as error:
        return BadLine(
            number=line.number,
            message=error.message,
            param=error.param,
            code=error.code,
        )
    if its.max_cost is not None and cost_bound(line, jobs) is None:
        provider = jobs.service.candidates(line.request.model)[0].provider
        why = why_unknown(provider, line.request)
        message = f"its cost has no bound, as the batch's limit needs it: {why}"
        return BadLine(number=line.number, message=message, code=BudgetExceeded.code)
    return line


def cost_bound(line: BatchLine, jobs: Jobs) -> int | None:
    """Return the most that one attempt may cost; None if nobody can say."""
    serving = jobs.service.candidates(line.request.model)
    costs = [worst_cost(each.provider, line.request) for each in serving]
    return max((cost for cost in costs if cost is not None), default=None)
