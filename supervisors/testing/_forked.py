"""A function in a process of its own, so that a test can kill it in the middle."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import NoReturn, ParamSpec

import trio

P = ParamSpec("P")

#: How a process ends that `Kill` has hit: as the shell tells of SIGKILL.
KILLED = 137

_in_child = False


def forked(function: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> int:
    """Call *function* in a forked process and return how that has ended.

    0: it returned; 1: it raised, and the traceback is on stderr; 137: a `Kill`
    hit it; 128 plus the signal: a signal ended it. Nothing in the child runs
    after it, no ``finally`` of the caller's and no exit handler.

    Raises:
        RuntimeError: called inside a trio run, which cannot be in two processes.
    """
    if trio.lowlevel.in_trio_run():
        msg = "forked() inside a trio run: let the function call trio.run() instead"
        raise RuntimeError(msg)
    with warnings.catch_warnings():
        # Threads that wait idly are no danger to a child that only runs trio.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        _run_and_exit(lambda: function(*args, **kwargs))
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _run_and_exit(function: Callable[[], object]) -> NoReturn:
    global _in_child  # noqa: PLW0603 - it says which process this is
    _in_child = True
    code = 1
    try:
        function()
        code = 0
    except BaseException:  # noqa: ASYNC103, BLE001 - the process ends here, whatever it was
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def is_forked() -> bool:
    """Say whether this process is the child of `forked`."""
    return _in_child


def die() -> NoReturn:
    """End this process at once, as SIGKILL would."""
    os._exit(KILLED)
