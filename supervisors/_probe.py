"""The seam for tests: what may watch, delay or break what a tree does.

A tree takes the probe that is set where it is opened (`watched_by`); without
one, which is the rule, the checks cost nothing worth measuring. `supervisors.testing` is
the one that users are meant to use.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from supervisors._inbox import Envelope
    from supervisors._process import Process
    from supervisors._spec import Body


class Probe(Protocol):
    """Stands between a tree and its children."""

    def run(self, process: Process, body: Body) -> Awaitable[None]:
        """Run *body* in place of ``body(process)``, in the child's own task."""
        ...

    async def before(self, process: Process, envelope: Envelope) -> int:
        """Return how often an actor is to handle the message: 1, or as it likes.

        What it raises crashes the actor as if the handler had raised it.
        """
        ...

    def after(self, process: Process, envelope: Envelope) -> None:
        """Learn that the message has been handled."""
        ...


#: Where trees that are opened here get their chance from, for the jitter of backoffs.
chance: ContextVar[Callable[[], float]] = ContextVar("chance", default=random.random)

_probe: ContextVar[Probe | None] = ContextVar("probe", default=None)


def current_probe() -> Probe | None:
    """Return the probe for a tree that is opened here."""
    return _probe.get()


@contextmanager
def watched_by(probe: Probe) -> Generator[None]:
    """Give *probe* to every tree that is opened inside the block."""
    token = _probe.set(probe)
    try:
        yield
    finally:
        _probe.reset(token)
