"""Turns between submitters: who has many waiting delays the others by one each.

    users in a ring ── the processes of each in a ring ── what each has waiting,
                                                          the earliest due first

Whose turn it was goes to the end of its ring, and so does who is new. A user is its
uid, a process of the user its pid; for whoever is neither, as a library's own caller,
both are None, and all of them are one submitter.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeAlias, TypeVar

import attrs

W = TypeVar("W", bound=Hashable)

Submitters: TypeAlias = tuple[int | None, int | None]
"""A user and one of its processes: uid and pid."""

ANYBODY: Submitters = (None, None)

Standing: TypeAlias = tuple[float, int]
"""When somebody is due, and its number: nobody has the same."""


@attrs.define(eq=False)
class _Process(Generic[W]):
    # Turned round, so that who is next is at the cheap end of the list.
    order: list[Standing] = attrs.field(factory=list[Standing])
    waiters: dict[Standing, W] = attrs.field(factory=dict[Standing, W])


@attrs.define(eq=False)
class _User(Generic[W]):
    waiting: int = 0
    processes: OrderedDict[int | None, _Process[W]] = attrs.field(
        factory=OrderedDict[int | None, _Process[W]]
    )


class Shares(Generic[W]):
    """Those of one class, in the order of their turns."""

    def __init__(self) -> None:
        self._users = OrderedDict[int | None, _User[W]]()
        self._waiting = 0

    def __len__(self) -> int:
        return self._waiting

    def add(self, submitter: Submitters, standing: Standing, waiter: W) -> None:
        """Let *waiter* wait for one of the turns of *submitter*."""
        uid, pid = submitter
        user = self._users.setdefault(uid, _User())
        process = user.processes.setdefault(pid, _Process())
        insort(process.order, _turned(standing))
        process.waiters[standing] = waiter
        user.waiting += 1
        self._waiting += 1

    def next(self) -> W:
        """Return whose turn it is; somebody must be there."""
        user = next(iter(self._users.values()))
        process = next(iter(user.processes.values()))
        return process.waiters[_turned(process.order[-1])]

    def remove(
        self, submitter: Submitters, standing: Standing, *, turn_taken: bool
    ) -> None:
        """Take out one who waits, whether it is its turn or not."""
        uid, pid = submitter
        user = self._users[uid]
        process = user.processes[pid]
        del process.waiters[standing]
        del process.order[bisect_left(process.order, _turned(standing))]
        user.waiting -= 1
        self._waiting -= 1
        if not process.order:
            del user.processes[pid]
        elif turn_taken:
            user.processes.move_to_end(pid)
        if not user.processes:
            del self._users[uid]
        elif turn_taken:
            self._users.move_to_end(uid)

    def ahead(self, submitter: Submitters, due: float) -> int:
        """Return about how many go before one of *submitter* that is due then."""
        uid, pid = submitter
        user = self._users.get(uid)
        if user is None:
            return len(self._users)
        process = user.processes.get(pid)
        if process is None:
            own = len(user.processes)
        else:
            before = len(process.order) - bisect_left(process.order, (-due, -math.inf))
            others = user.waiting - len(process.order)
            own = before + min(others, before * (len(user.processes) - 1))
        others = self._waiting - user.waiting
        return own + min(others, own * (len(self._users) - 1))


def _turned(standing: Standing) -> Standing:
    return -standing[0], -standing[1]
