"""The Store protocol: what must hold of jobs, streams, money and files, kept safely.

Four parts, one store: `JobStore`, `DeltaStore`, `LedgerStore`, `FileStore`, and
`Upkeep` for what concerns the whole. Every method that changes something is one
transaction, and returns after its commit; whoever is cancelled while waiting does
not know whether it was done, and asks. All values are frozen. Every method raises
`StoreUnavailable` where the store cannot do its work.

*Leases.* Who claims a job has a lease of it: the job's id and the number of the
claim, which no other claim of it ever has. Beginning an attempt, appending to the
stream and ending the job need the lease, and raise `StaleLease` once the job was
cancelled, rescued or claimed anew. Money does not need it: what was spent was spent.

*Time* is an argument, in seconds since the epoch. Leases end by that same clock: who
holds some extends them before it rescues, so that a clock that jumps takes nothing
away. Where several daemons share a store, its engine measures leases by its own clock.

What a change makes of a job is decided in `core.job`, and what is written down for it
in `store.decisions`, for all engines alike; whose turn it is, in `core.job_order`.
"""

from __future__ import annotations

from typing import Protocol

from duckservice.store.delta_store import (
    Delta,
    Deltas,
    DeltaStore,
)
from duckservice.store.errors import (
    StaleLease,
    StoreUnavailable,
)
from duckservice.store.file_store import (
    Batch,
    FileStore,
    StoredFile,
)
from duckservice.store.job_store import (
    JobStore,
)
from duckservice.store.job_values import (
    AttemptRecord,
    AttemptState,
    Cancel,
    Change,
    Claimed,
    Crash,
    Existing,
    Expire,
    Fail,
    Finish,
    Hold,
    Inserted,
    InsertOutcome,
    JobFilter,
    JobPage,
    LaneLoad,
    Lease,
    NewJob,
    Outcome,
    Patch,
    Refused,
    Release,
    Retry,
    Snooze,
    Staged,
)
from duckservice.store.ledger_store import (
    LedgerEntry,
    LedgerFilter,
    LedgerStore,
    LedgerSum,
)
from duckservice.store.upkeep import (
    KEY_KEPT,
    Health,
    Pruned,
    Retention,
    StoreStatistics,
    Upkeep,
)

__all__ = [
    "KEY_KEPT",
    "AttemptRecord",
    "AttemptState",
    "Batch",
    "Cancel",
    "Change",
    "Claimed",
    "Crash",
    "Delta",
    "DeltaStore",
    "Deltas",
    "Existing",
    "Expire",
    "Fail",
    "FileStore",
    "Finish",
    "Health",
    "Hold",
    "InsertOutcome",
    "Inserted",
    "JobFilter",
    "JobPage",
    "JobStore",
    "LaneLoad",
    "Lease",
    "LedgerEntry",
    "LedgerFilter",
    "LedgerStore",
    "LedgerSum",
    "NewJob",
    "Outcome",
    "Patch",
    "Pruned",
    "Refused",
    "Release",
    "Retention",
    "Retry",
    "Snooze",
    "Staged",
    "StaleLease",
    "Store",
    "StoreStatistics",
    "StoreUnavailable",
    "StoredFile",
    "Upkeep",
]


class Store(JobStore, DeltaStore, LedgerStore, FileStore, Upkeep, Protocol):
    """Everything that must survive, in one place."""
