"""Supervision trees for trio, with the semantics of Erlang/OTP.

    queue: ActorRef[Queue] = ActorRef("queue")
    spec = SupervisorSpec(children=[actor(queue, Queue)])
    async with open_supervisor(spec) as root:
        await queue.call(Queue.put, "job")
        print(format_tree(root.inspect()))

An actor is a plain class, its message a method. A supervisor starts its
children in order, restarts by policy what crashes, and stops them in reverse
order, each in its time.

The package, from the values up: `_errors`, `_exit` (how a child ended), `_backoff`
and `_spec` (what to supervise), `_restart` (the decision, pure), `_events`,
`_inspect`; `_reply`, `_inbox` and `_ref` (calls, and where they wait), `_probe` (the
seam for tests), `_process` (one task and its end), `_monitor`, `_actor` (the loop of
an actor), `_timer`; `_child`, `_runtime` (the loop of a supervisor), `_supervisor`
and `_dynamic` (its two kinds), `_root`; on top of these `_registry` (names),
`_partition` (copies, by key), `_task` and `_stream` (work with a result). Beside
them `structlog` (events as lines of a log) and `testing`.
"""

from supervisors._actor import actor as actor, actor_spec as actor_spec
from supervisors._backoff import Backoff as Backoff
from supervisors._dynamic import (
    DynamicSupervisor as DynamicSupervisor,
    dynamic_supervisor as dynamic_supervisor,
)
from supervisors._errors import (
    ActorDied as ActorDied,
    ActorNotRunning as ActorNotRunning,
    ActorStopped as ActorStopped,
    AlreadyPresent as AlreadyPresent,
    AlreadyRegistered as AlreadyRegistered,
    AlreadyStarted as AlreadyStarted,
    CallError as CallError,
    CallExpired as CallExpired,
    CallingSelf as CallingSelf,
    ChildError as ChildError,
    ChildNotFound as ChildNotFound,
    ChildRestarting as ChildRestarting,
    ChildRunning as ChildRunning,
    CleanExit as CleanExit,
    Ignore as Ignore,
    InboxFull as InboxFull,
    MessageDropped as MessageDropped,
    NotRegistered as NotRegistered,
    RegistryError as RegistryError,
    RestartIntensityReached as RestartIntensityReached,
    StartFailed as StartFailed,
    SupervisionError as SupervisionError,
    TaskDied as TaskDied,
    TaskStopped as TaskStopped,
    TaskTimedOut as TaskTimedOut,
    TooManyChildren as TooManyChildren,
    UnkillableChild as UnkillableChild,
)
from supervisors._events import (
    ChildStarted as ChildStarted,
    ChildTerminated as ChildTerminated,
    ChildUnkillable as ChildUnkillable,
    Event as Event,
    EventHook as EventHook,
    GaveUp as GaveUp,
    RestartDelayed as RestartDelayed,
    ShutdownError as ShutdownError,
    StartError as StartError,
    StillRunning as StillRunning,
    emit as emit,
)
from supervisors._exit import (
    Crashed as Crashed,
    Exit as Exit,
    Killed as Killed,
    Normal as Normal,
    ShutDown as ShutDown,
)
from supervisors._inbox import InboxStatistics as InboxStatistics, OnFull as OnFull
from supervisors._inspect import (
    ChildCount as ChildCount,
    ChildInfo as ChildInfo,
    Node as Node,
    format_tree as format_tree,
)
from supervisors._monitor import (
    Down as Down,
    Monitor as Monitor,
    NotRunning as NotRunning,
    monitor as monitor,
    notify as notify,
)
from supervisors._partition import (
    PartitionSupervisor as PartitionSupervisor,
    partition_of as partition_of,
    partition_supervisor as partition_supervisor,
)
from supervisors._ref import ActorRef as ActorRef, Address as Address
from supervisors._registry import (
    Change as Change,
    Dispatched as Dispatched,
    Entry as Entry,
    Keys as Keys,
    Listening as Listening,
    Registered as Registered,
    Registry as Registry,
    RegistryStatistics as RegistryStatistics,
    Unregistered as Unregistered,
    registered as registered,
)
from supervisors._reply import Continue as Continue, Reply as Reply
from supervisors._root import open_supervisor as open_supervisor, supervise as supervise
from supervisors._spec import (
    AutoShutdown as AutoShutdown,
    ChildSpec as ChildSpec,
    OnUnkillable as OnUnkillable,
    Restart as Restart,
    Shutdown as Shutdown,
    Strategy as Strategy,
    SupervisorSpec as SupervisorSpec,
    child as child,
)
from supervisors._stream import (
    OnTimeout as OnTimeout,
    StreamStatistics as StreamStatistics,
    TaskStream as TaskStream,
)
from supervisors._supervisor import Supervisor as Supervisor, supervisor as supervisor
from supervisors._task import (
    Task as Task,
    TaskSupervisor as TaskSupervisor,
    task_supervisor as task_supervisor,
)
from supervisors._timer import (
    StateTimeout as StateTimeout,
    Timer as Timer,
    send_after as send_after,
    send_at as send_at,
    send_interval as send_interval,
)
