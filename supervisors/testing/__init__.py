"""Tests of programs on supervision trees: runs that repeat, and faults on purpose.

    def test_orders_survive_crashes(simulation):
        simulation(place_orders)            # 20 seeds, each its own order of steps

    simulate(place_orders, seed=7)          # one of them again

* `simulate` runs an async function under a `Schedule` and a virtual clock;
  equal runs have equal digests, and a hang is a failure.
* `SupervisedMachine` is the base for stateful Hypothesis tests around a tree.
* The pytest plug-in has the fixtures ``simulation`` and ``fault_seed``, and the
  options ``--fault-runs`` and ``--fault-seed``.

Strategies and the machine need Hypothesis; the rest does without.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from supervisors.testing._hook import (
    Order as Order,
    UnsupportedTrio as UnsupportedTrio,
    check_trio as check_trio,
)
from supervisors.testing._limits import (
    Hang as Hang,
    Livelock as Livelock,
    SimulationStuck as SimulationStuck,
)
from supervisors.testing._outcome import Raised as Raised, Returned as Returned
from supervisors.testing._schedule import (
    PCT as PCT,
    Delays as Delays,
    Fifo as Fifo,
    Schedule as Schedule,
    Seeded as Seeded,
    delays as delays,
    schedules as schedules,
    using as using,
)
from supervisors.testing._simulate import (
    Faults as Faults,
    Result as Result,
    current_random as current_random,
    record as record,
    simulate as simulate,
    try_simulate as try_simulate,
)
from supervisors.testing._trace import (
    Trace as Trace,
    where as where,
    where_everybody_is as where_everybody_is,
)

# faults
from supervisors.testing._choices import (  # isort: skip
    ALL_KINDS as ALL_KINDS,
    DEFAULT_KINDS as DEFAULT_KINDS,
    Counts as Counts,
    FaultKind as FaultKind,
)
from supervisors.testing._faults import (  # isort: skip
    Cancel as Cancel,
    Checkpoint as Checkpoint,
    Crash as Crash,
    Delay as Delay,
    DuplicateCast as DuplicateCast,
    FailCleanup as FailCleanup,
    FailInit as FailInit,
    Fault as Fault,
    FaultPlan as FaultPlan,
    Handled as Handled,
    HangCleanup as HangCleanup,
    HangInit as HangInit,
    InjectedCrash as InjectedCrash,
    Kill as Kill,
    Message as Message,
    Point as Point,
    Stall as Stall,
)
from supervisors.testing._find import (  # isort: skip
    FaultFound as FaultFound,
    Finding as Finding,
    Survey as Survey,
    check as check,
    check_every_fault as check_every_fault,
    every_fault as every_fault,
    find_fault as find_fault,
)
from supervisors.testing._forked import forked as forked  # isort: skip
from supervisors.testing._injector import Injector as Injector  # isort: skip
from supervisors.testing._invariants import (  # isort: skip
    InvariantViolated as InvariantViolated,
    Watcher as Watcher,
)
from supervisors.testing._replay import (  # isort: skip
    Scenario as Scenario,
    replay as replay,
)
from supervisors.testing._strategies import fault_plans as fault_plans  # isort: skip
# end of faults

if TYPE_CHECKING:
    from supervisors.testing._machine import (
        SupervisedMachine as SupervisedMachine,
        initialize as initialize,
        invariant as invariant,
        rule as rule,
    )

#: What is imported when it is asked for, since it needs Hypothesis, and from where.
_NEEDS_HYPOTHESIS = {
    "SupervisedMachine": "_machine",
    "initialize": "_machine",
    "invariant": "_machine",
    "rule": "_machine",
}


def __getattr__(name: str) -> Any:
    module = _NEEDS_HYPOTHESIS.get(name)
    if module is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{module}"), name)
