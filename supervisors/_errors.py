"""Everything this library raises, as one tree.

    SupervisionError
    ├── CallError                     a call got no answer
    │   ├── ActorDied                 · the actor crashed while it handled it
    │   ├── ActorStopped              · the actor is not running and nobody will restart it
    │   ├── InboxFull                 · too many messages wait already (also for casts)
    │   │   └── MessageDropped        · and the inbox's policy gave this one up
    │   ├── CallExpired               · its deadline passed before its turn
    │   ├── CallingSelf               · the call would have waited for itself
    │   ├── TaskDied                  · the task crashed
    │   └── TaskStopped               · the task was stopped before it had a result
    │       └── TaskTimedOut          · because its time was over
    ├── StartFailed                   a child's init failed
    ├── RestartIntensityReached       a supervisor gave up
    ├── UnkillableChild               a supervisor gave up: a child ignores its cancellation
    ├── RegistryError                 a request to a registry cannot be carried out
    │   ├── AlreadyRegistered         · the key is taken
    │   ├── NotRegistered             · nobody has the key
    │   └── ActorNotRunning           · only what runs can have a name
    └── ChildError                    a request about a child cannot be carried out
        ├── ChildNotFound
        ├── ChildRunning
        ├── ChildRestarting
        ├── AlreadyStarted            · the same id, alive
        ├── AlreadyPresent            · the same id, not alive
        └── TooManyChildren

Two exceptions are signals from a child to its supervisor, not errors: `Ignore`
(init: "I am not needed") and `CleanExit` ("I end, and that is fine").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from supervisors._exit import Exit
    from supervisors._ref import ActorRef


class SupervisionError(Exception):
    """Base of every error that this library raises on purpose."""


class CallError(SupervisionError):
    """A call got no answer; ``actor`` names who was called."""

    def __init__(self, actor: str, message: str) -> None:
        super().__init__(message)
        self.actor = actor


class ActorDied(CallError):
    """The actor crashed while it handled the call; the crash is the ``__cause__``.

    The message is not repeated. Whether the actor comes back is its
    supervisor's decision; another call simply waits for it.
    """


class ActorStopped(CallError):
    """The actor is not running, and no supervisor is about to start it again."""


class InboxFull(CallError):
    """The actor's inbox is at its limit; the message was not taken."""


class MessageDropped(InboxFull):
    """The inbox was full, and by its policy this message was the one to go."""


class CallExpired(CallError):
    """The call's deadline had passed when its turn came; it was not carried out."""


class CallingSelf(CallError):
    """An actor called itself, directly or through other actors: it would wait for ever."""


class TaskDied(CallError):
    """The task raised; that is the ``__cause__``. ``actor`` names the task."""


class TaskStopped(CallError):
    """The task was cancelled, by itself or with its supervisor, and has no result."""


class TaskTimedOut(TaskStopped):
    """The task was stopped because it took longer than it may."""


class StartFailed(SupervisionError):
    """The init of ``child`` failed: it ended by ``exit`` before it had started.

    If it raised, that is the ``__cause__``.
    """

    def __init__(self, child: str, message: str, exit_: Exit) -> None:
        super().__init__(message)
        self.child = child
        self.exit = exit_


class RestartIntensityReached(SupervisionError):
    """A supervisor saw more restarts than it allows, and has stopped its children.

    The last crash is the ``__cause__``: of a supervisor below that gave up, its
    own `RestartIntensityReached`, and so on down to what crashed.
    """

    def __init__(self, supervisor: str, message: str) -> None:
        super().__init__(message)
        self.supervisor = supervisor


class UnkillableChild(SupervisionError):
    """A child ignored its cancellation, and ``on_unkillable`` says: escalate.

    Its task may still run. ``stack`` says where it was, innermost frame last.
    """

    def __init__(self, child: str, message: str, stack: tuple[str, ...]) -> None:
        super().__init__(message)
        self.child = child
        self.stack = stack


class RegistryError(SupervisionError):
    """A request about ``key`` cannot be carried out by a registry."""

    def __init__(self, key: object, message: str) -> None:
        super().__init__(message)
        self.key = key


class AlreadyRegistered(RegistryError):
    """The key is unique, and ``holder`` has it, until it gives it back or ends."""

    def __init__(self, key: object, message: str, holder: ActorRef[Any]) -> None:
        super().__init__(key, message)
        self.holder = holder


class NotRegistered(RegistryError):
    """Nobody that runs has the key."""


class ActorNotRunning(RegistryError):
    """The actor does not run, and a name is had only by what runs.

    Let the actor take its name itself, in its init: then it has it after every
    restart, too.
    """


class ChildError(SupervisionError):
    """A request about the child ``child`` cannot be carried out."""

    def __init__(self, child: str, message: str) -> None:
        super().__init__(message)
        self.child = child


class ChildNotFound(ChildError):
    """The supervisor has no child of that id."""


class ChildRunning(ChildError):
    """The child is running; terminate it first."""


class ChildRestarting(ChildError):
    """The child is about to be restarted."""


class AlreadyStarted(ChildError):
    """A child of the same id is running, or one with the same ref or handle."""


class AlreadyPresent(ChildError):
    """A child of the same id is known, though not running; restart or delete it."""


class TooManyChildren(ChildError):
    """The dynamic supervisor is at its ``max_children``."""


class Ignore(Exception):
    """Raised by a child's init: it is not needed, and that is no error."""


class CleanExit(Exception):
    """Raised by a child to end with a reason that is not a crash.

    OTP's ``exit(shutdown)`` and ``exit({shutdown, Reason})``: a transient child
    that ends so is not restarted.
    """

    def __init__(self, reason: object = None) -> None:
        super().__init__() if reason is None else super().__init__(reason)
        self.reason = reason
