"""What the process gives up at its start, so that its keys stay in it.

A core file, a debugger and ``/proc/PID/mem`` show all that a process knows. So this one
is made not dumpable: it leaves no core, and other processes of the same user can
neither trace it nor read its memory and environment; root can. ``DUCK_DUMPABLE=1``
leaves all that on, for debugging.

The variables that a configuration names as keys are taken out of the environment once
they are read, where child processes and libraries would find them. What the kernel has
put into memory at the start, and shows as ``/proc/PID/environ``, stays as it is: who may
read it is said above.
"""

from __future__ import annotations

import ctypes
import resource
from collections.abc import Mapping, MutableMapping
from typing import Final

from duckservice.config import Config
from duckservice.redaction import SECRET_CHARS_MIN, secrets_of

DUMPABLE: Final = "DUCK_DUMPABLE"

LIBRARIES_OWN: Final = ("AWS_", "AZURE_", "GOOGLE_")
"""Variables that begin so are read by the clouds' own libraries, at any time."""

_PR_SET_DUMPABLE: Final = 4


def harden(environ: Mapping[str, str]) -> bool:
    """Make this process leave no core file, and keep debuggers out.

    Returns False if it was not done, since the environment says so, or since the
    system does not allow it (a daemon that runs is better than none).
    """
    if environ.get(DUMPABLE) == "1":
        return False
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    done: int = libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    return done == 0


def scrub(environ: MutableMapping[str, str], config: Config) -> list[str]:
    """Take the variables out of *environ* whose values are secrets of *config*.

    Returns their names. What is shorter than a key (a placeholder such as
    ``ollama``) stays, and what the libraries of the clouds may look for themselves.
    """
    values = {
        value
        for secret in secrets_of(config)
        if len(value := secret.reveal()) >= SECRET_CHARS_MIN
    }
    found = [
        name
        for name, value in environ.items()
        if value in values and not name.startswith(LIBRARIES_OWN)
    ]
    for name in found:
        del environ[name]
    return found
