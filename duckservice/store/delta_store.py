"""The part of the Store protocol that keeps the streams of jobs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import attrs

from duckservice.store.job_values import Lease


@attrs.frozen(kw_only=True)
class Delta:
    """A piece of a job's stream."""

    id: int
    """Increases within a job, from 1, over all its attempts; never used again."""
    attempt: str
    data: bytes


@attrs.frozen(kw_only=True)
class Deltas:
    """Some pieces of a stream, and whether the job was over when they were read."""

    items: tuple[Delta, ...]
    final: bool
    """Whether the job is over and nothing is left after the last of `items`."""
    last: int = 0
    """The id of the last piece that the stream has had by then; 0 before the first."""


PAGE_BYTES = 256 * 1024
"""What is read of a stream at once."""


def page_of(items: Iterable[Delta], limit: int) -> tuple[Sequence[Delta], bool]:
    """Return as many as are read at once, and whether there are more."""
    page, size = list[Delta](), 0
    for item in items:
        size += len(item.data)
        if len(page) == limit or (page and size > PAGE_BYTES):
            return page, True
        page.append(item)
    return page, False


class DeltaStore(Protocol):
    """Keeps the streams of jobs, so that readers may come late or come back."""

    async def append_deltas(
        self, lease: Lease, attempt: str, data: Sequence[bytes]
    ) -> int:
        """Add pieces to the stream of the lease's job; return the last one's id.

        Raises:
            StaleLease: the lease is not valid any more.
        """
        ...

    async def read_deltas(
        self, job: str, *, after: int = 0, limit: int = 100
    ) -> Deltas:
        """Return the pieces that come next after that id; none if there are none yet.

        They are *limit* at most, and of `PAGE_BYTES` together, or one that is larger:
        a thousand slow readers must not hold as many large pages.

        Raises:
            NotFound: there is no such job.
        """
        ...

    async def wait_for_deltas(self, job: str, *, after: int) -> None:
        """Wait until there are pieces after that id, or the job is over.

        Raises:
            NotFound: there is no such job, or not any more.
        """
        ...
