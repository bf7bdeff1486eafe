"""`duck __names KIND SOCKET CONFIG`: what the daemon knows by name, for a shell's completion.

Run at a press of a key by the scripts of `completion`, so it says nothing but names,
ends with 0 whatever is wrong, and takes no longer than a person would not notice.

Names are other people's text, and what a shell is offered stands on its command line
next: a name that means anything to a shell but itself is left out.
"""

from __future__ import annotations

import argparse
import importlib
import io
import re
import signal
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final, NamedTuple

from duckservice.cli.exits import OK, Exit
from duckservice.cli.output import Output
from duckservice.cli.session import Session
from duckservice.paths import StartupError

COMMAND: Final = "__names"
"""Not in the parser: it is no command for people, and building that takes time."""

PATIENCE: Final = 0.3
"""Seconds for all that is asked, once Python has started."""

_NAMES_MAX: Final = 1_000
_SAFE: Final = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.:/@+,=-]{0,255}", re.ASCII)
"""What bash, fish and zsh take as it stands, and nobody for an option."""


def run(words: Sequence[str], out: Output, environ: Mapping[str, str]) -> int:
    """Print the names of a kind, one a line; print nothing if anything is amiss."""
    kind, socket, config = [*words, "", "", ""][:3]
    if kind not in KINDS:
        return OK
    options = argparse.Namespace(socket=socket or None, config=config or None)
    session = Session(options, Output(out.stdout, io.StringIO(), environ), environ)
    for name in _asked(session, KINDS[kind]):
        out.data(name)
    return OK


class _TooSlow(Exception):
    """The time is up."""


class _Kind(NamedTuple):
    target: str
    names: Callable[[Any], Iterator[Any]]


def _asked(session: Session, kind: _Kind) -> list[str]:
    # Before the time runs: how slowly Python imports is not the daemon's fault.
    importlib.import_module("duckservice.gateway.client")
    try:
        with _at_most(PATIENCE):
            known = kind.names(session.get(kind.target))
            safe = (n for n in known if isinstance(n, str) and _SAFE.fullmatch(n))
            return list(islice(safe, _NAMES_MAX))
    except (Exit, StartupError, OSError, _TooSlow):
        return []
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return []  # whoever answered is no daemon of ours


@contextmanager
def _at_most(seconds: float) -> Generator[None]:
    """Raise `_TooSlow` within the block when *seconds* have passed.

    A timeout of the socket limits one silence, and a daemon may be slow in many; the
    config, which says where the socket is, may lie on a disk that does not answer.
    """

    def stop(*_: object) -> None:
        raise _TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _of(list_: str, name: str) -> Callable[[Any], Iterator[Any]]:
    return lambda answer: (its[name] for its in answer[list_])


def _paths(node: Any) -> Iterator[Any]:
    """Yield the path of each actor, from the root on; the root itself has none."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        waiting.extend(reversed(node.get("children", ())))
        yield node["path"]


def _jobs(*states: str) -> _Kind:
    wanted = "&".join(f"state={state}" for state in states)
    return _Kind(f"/v1/jobs?{wanted}" if wanted else "/v1/jobs", _of("jobs", "id"))


_WAITING: Final = ("scheduled", "available", "retryable")

KINDS: Final[Mapping[str, _Kind]] = {
    "actors": _Kind("/v1/tree", _paths),
    "batches": _Kind("/v1/batches", _of("data", "id")),
    "budgets": _Kind("/v1/budgets", _of("budgets", "name")),
    "jobs": _jobs(),
    "jobs-to-cancel": _jobs("suspended", *_WAITING, "executing"),
    "jobs-to-hold": _jobs(*_WAITING),
    "jobs-to-release": _jobs("suspended"),
    "jobs-to-retry": _jobs("retryable", "discarded", "cancelled", "expired"),
    "models": _Kind("/v1/models", _of("data", "id")),
    "providers": _Kind("/v1/providers", _of("providers", "name")),
}
