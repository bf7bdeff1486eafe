"""One run of an async function that repeats exactly: schedule, clock, faults, limits.

result = simulate(program, seed=7)
assert simulate(program, seed=7).digest == result.digest
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from contextvars import ContextVar
from typing import Any, Generic, Protocol, TypeVar

import attrs
import trio
import trio.testing

from supervisors._probe import chance
from supervisors.testing._hook import bury, check_trio, ordered_by
from supervisors.testing._limits import Limits
from supervisors.testing._outcome import Raised, Returned
from supervisors.testing._schedule import Fifo, Schedule, Seeded
from supervisors.testing._trace import Trace, without_addresses

T = TypeVar("T")

#: How many steps of tasks a run may take, if its test does not say.
MAX_STEPS = 100_000

#: How many virtual seconds a run may take, if its test does not say.
TIMEOUT = 3600.0


class Faults(Protocol):
    """What breaks things in a simulated run, by a plan of its own."""

    @property
    def instruments(self) -> Sequence[trio.abc.Instrument]:
        """What is to watch the trio loop; may be empty."""
        ...

    def installed(self) -> AbstractContextManager[None]:
        """Return a block around the whole run."""
        ...


@attrs.frozen(kw_only=True)
class Result(Generic[T]):
    """How a simulated run ended, and what to compare it by."""

    outcome: Returned[T] | Raised
    digest: str
    """Equal for equal runs on the same Python, byte for byte; see `Trace`."""
    steps: int
    """How many steps all tasks took together."""
    events: tuple[tuple[float, object], ...] = attrs.field(repr=False)
    """What was given to `record`, and at which virtual time."""

    @property
    def value(self) -> T:
        """What the function returned; raises what it raised."""
        return self.outcome.unwrap()


@attrs.define(eq=False)
class _Run:
    """What `record` and `current_random` find in the run they are called in."""

    trace: Trace
    random: random.Random
    events: list[tuple[float, object]] = attrs.field(factory=list[tuple[float, object]])


_run: ContextVar[_Run] = ContextVar("run")


def simulate(
    afn: Callable[..., Awaitable[T]],
    *args: Any,
    schedule: Schedule | None = None,
    seed: int | None = None,
    faults: Faults | None = None,
    trace: Trace | None = None,
    max_steps: int = MAX_STEPS,
    timeout: float = TIMEOUT,
) -> Result[T]:
    """Run ``afn(*args)`` in a trio loop that does the same every time; raise its failure.

    Time is virtual, and jumps whenever everybody waits. *seed* stands for
    ``schedule=Seeded(seed)`` and is the seed of `current_random`; with
    neither, tasks run first in, first out. Threads, sockets, and whatever else
    comes from outside do not repeat. A failure is raised with notes that say
    how to repeat it.

    Raises:
        Hang: it did not end in *timeout* virtual seconds.
        Livelock: its tasks took more than *max_steps* steps.
        UnsupportedTrio: this trio does not let its order be chosen.
    """
    result = try_simulate(
        afn,
        *args,
        schedule=schedule,
        seed=seed,
        faults=faults,
        trace=trace,
        max_steps=max_steps,
        timeout=timeout,
    )
    result.outcome.unwrap()
    return result


def try_simulate(
    afn: Callable[..., Awaitable[T]],
    *args: Any,
    schedule: Schedule | None = None,
    seed: int | None = None,
    faults: Faults | None = None,
    trace: Trace | None = None,
    max_steps: int = MAX_STEPS,
    timeout: float = TIMEOUT,
) -> Result[T]:
    """Do as `simulate`, but keep the failure in the result, to look at or to compare.

    Only an `Exception` is kept: Ctrl-C ends the test.
    """
    check_trio()
    if schedule is None:
        schedule = Fifo() if seed is None else Seeded(seed)
    trace = Trace() if trace is None else trace
    run = _Run(trace, random.Random(f"program {seed}"))  # noqa: S311 - no secret
    clock = trio.testing.MockClock(autojump_threshold=0)
    limits = Limits(clock, max_steps, timeout)

    async def main() -> T:
        _run.set(run)
        chance.set(random.Random(f"chance {seed}").random)  # noqa: S311 - no secret
        with trio.CancelScope() as scope:
            limits.arm(scope)
            return await afn(*args)
        assert limits.stuck is not None
        raise limits.stuck

    # The first task is known by the name of what it runs.
    main.__module__, main.__qualname__ = getattr(afn, "__module__", ""), _name_of(afn)
    instruments: list[trio.abc.Instrument] = [trace]
    ended: Returned[T] | Raised
    try:
        with ExitStack() as stack:
            if faults is not None:
                stack.enter_context(faults.installed())
                instruments.extend(faults.instruments)
            stack.enter_context(ordered_by(limits.limit(schedule.start())))
            ended = Returned(trio.run(main, clock=clock, instruments=instruments))
    except Exception as error:  # noqa: BLE001 - the outcome carries it on
        bury(error)
        ended = Raised(error)
    if limits.stuck is not None:
        # Whatever came of the cancellation: this was the failure.
        ended = Raised(limits.stuck_after(ended))
    if isinstance(ended, Raised):
        _add_notes(ended.error, afn, schedule, seed, faults, trace)
    return Result(
        outcome=ended, digest=trace.digest, steps=trace.steps, events=tuple(run.events)
    )


def _add_notes(
    error: BaseException,
    afn: Callable[..., object],
    schedule: Schedule,
    seed: int | None,
    faults: Faults | None,
    trace: Trace,
) -> None:
    how = [f"schedule={schedule!r}"]
    if seed is not None:
        how = [f"seed={seed}"] if schedule == Seeded(seed) else [*how, f"seed={seed}"]
    if faults is not None:
        how.append(f"faults={without_addresses(repr(faults))}")
    error.add_note(f"simulated: {trace.steps} steps, digest {trace.digest}")
    error.add_note(f"to repeat it: simulate({_name_of(afn)}, ..., {', '.join(how)})")


def _name_of(afn: Callable[..., object]) -> str:
    name: str = getattr(afn, "__qualname__", without_addresses(repr(afn)))
    return name


def record(event: object) -> None:
    """Add *event* to the result's ``events`` and, by its repr, to the digest.

    Fits as the ``on_event`` of `open_supervisor`. Must be called in a simulation.

    Raises:
        RuntimeError: no simulation runs here.
    """
    run = _current("record")
    at = trio.current_time()
    run.events.append((at, event))
    run.trace.note(f"{at!r} {event!r}")


def current_random() -> random.Random:
    """Return this simulation's source of random numbers, by its seed.

    For programs that draw: what they draw repeats with the run. It is not the
    source of the schedule, so drawing more does not change the order of steps.

    Raises:
        RuntimeError: no simulation runs here.
    """
    return _current("current_random").random


def _current(what: str) -> _Run:
    run = _run.get(None)
    if run is None:
        msg = f"{what}() was called outside of simulate()"
        raise RuntimeError(msg)
    return run
