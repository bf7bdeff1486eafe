"""Several copies of one child under a supervisor, each for its part of the keys.

    workers: PartitionSupervisor[Worker] = PartitionSupervisor(
        "workers", lambda ref: actor(ref, Worker), partitions=4
    )
    spec = SupervisorSpec(children=[partition_supervisor(workers)])
    ...
    await workers.ref("user 17").call(Worker.note, "hello")

For state that is kept by key, and for an actor that has become a bottleneck.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Generic, TypeAlias, TypeVar, cast, final

import attrs

from supervisors._inbox import OnFull
from supervisors._inspect import ChildCount, ChildInfo
from supervisors._ref import DEFAULT_MAX_INBOX, ActorRef
from supervisors._spec import (
    ChildSpec,
    Restart,
    Shutdown,
    ShutdownTime,
    Strategy,
    SupervisorSpec,
)
from supervisors._supervisor import Supervisor, supervisor

A = TypeVar("A")

#: What can be routed by: what has the same bytes in every run of the program.
PartitionKey: TypeAlias = "str | bytes | int | tuple[PartitionKey, ...]"


@final
class PartitionSupervisor(Generic[A]):
    """The handle of a supervisor of *partitions* copies of one child.

    *child* describes a copy for the ref that it is given, whose name ends in the
    copy's number; its id becomes that number. More than *max_restarts* restarts
    of them all within *max_seconds* end the supervisor.
    """

    def __init__(
        self,
        name: str,
        child: Callable[[ActorRef[A]], ChildSpec],
        *,
        partitions: int,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        max_inbox: float = DEFAULT_MAX_INBOX,
        on_full: OnFull = OnFull.RAISE,
    ) -> None:
        if partitions < 1:
            msg = f"partitions must be at least 1, not {partitions!r}"
            raise ValueError(msg)
        self.refs: tuple[ActorRef[A], ...] = tuple(
            ActorRef(f"{name}-{number}", max_inbox=max_inbox, on_full=on_full)
            for number in range(partitions)
        )
        """The copies, by number."""
        self.supervisor = Supervisor(
            SupervisorSpec(
                children=[
                    _numbered(number, ref, child(ref))
                    for number, ref in enumerate(self.refs)
                ],
                strategy=strategy,
                max_restarts=max_restarts,
                max_seconds=max_seconds,
            ),
            name=name,
        )
        """The handle of the supervisor below."""

    @property
    def name(self) -> str:
        """The id among its siblings."""
        return self.supervisor.name

    def ref(self, key: PartitionKey) -> ActorRef[A]:
        """Return the copy that *key* belongs to: see `partition_of`."""
        return self.refs[partition_of(key, len(self.refs))]

    async def which_children(self) -> tuple[ChildInfo, ...]:
        """Return the copies, by number. Raises as `Supervisor.which_children`."""
        return await self.supervisor.which_children()

    async def count_children(self) -> ChildCount:
        """Return how many copies there are. Raises as `Supervisor.count_children`."""
        return await self.supervisor.count_children()

    def __iter__(self) -> Iterator[ActorRef[A]]:
        return iter(self.refs)

    def __len__(self) -> int:
        return len(self.refs)

    def __repr__(self) -> str:
        return f"<PartitionSupervisor {self.name!r}, {len(self.refs)} partitions>"


def partition_supervisor(
    handle: PartitionSupervisor[A],
    *,
    restart: Restart = Restart.PERMANENT,
    shutdown: ShutdownTime = Shutdown.INFINITY,
) -> ChildSpec:
    """Describe a partition supervisor as a child of another supervisor."""
    return supervisor(
        handle.name, handle.supervisor, restart=restart, shutdown=shutdown
    )


def partition_of(key: PartitionKey, partitions: int) -> int:
    """Return the partition of *key*: the same in every run, on every machine.

    An integer goes by its remainder, so that numbers in a row go round; other
    keys go by the CRC-32 of their bytes, text as UTF-8.

    Raises:
        TypeError: *key* is no text, bytes, integer, or tuple of these; others
            have no bytes that are the same in the next run.
    """
    return (key if isinstance(key, int) else _crc(key, 0)) % partitions


def _crc(key: object, before: int) -> int:
    match key:
        case str():
            return zlib.crc32(key.encode("utf-8", "surrogatepass"), before)
        case bytes():
            return zlib.crc32(key, before)
        case int():
            return zlib.crc32(b"%d" % key, before)
        case tuple():
            for part in cast("tuple[object, ...]", key):
                before = _crc(part, before)
            return before
        case _:
            msg = f"a key is text, bytes, an integer or a tuple of these, not {key!r}"
            raise TypeError(msg)


def _numbered(number: int, ref: ActorRef[A], spec: ChildSpec) -> ChildSpec:
    if spec.address is not ref:
        msg = (
            f"the child {spec.id!r} is not the actor of the ref it was made for,"
            f" {ref.name!r}: nobody would answer there"
        )
        raise ValueError(msg)
    return attrs.evolve(spec, id=str(number))
