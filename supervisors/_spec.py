"""What to supervise and how: child specs, supervisor specs, and their validation (pure)."""

from __future__ import annotations

import enum
import inspect
import math
import types
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeAlias

import attrs

from supervisors._backoff import Backoff

if TYPE_CHECKING:
    from supervisors._inspect import Node
    from supervisors._process import Process

P = ParamSpec("P")


class Restart(enum.Enum):
    """Whether a child that has ended is started again."""

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    TEMPORARY = "temporary"


class Strategy(enum.Enum):
    """Who else is restarted with a child that failed."""

    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"


class Shutdown(enum.Enum):
    """The ends of the scale of shutdown times; between them a number of seconds."""

    BRUTAL_KILL = "brutal_kill"
    INFINITY = "infinity"


class AutoShutdown(enum.Enum):
    """Whether a supervisor ends by itself when significant children have ended."""

    NEVER = "never"
    ANY_SIGNIFICANT = "any_significant"
    ALL_SIGNIFICANT = "all_significant"


class OnUnkillable(enum.Enum):
    """What a supervisor does about a child that ignores its cancellation.

    Either way it is reported with its stack (`ChildUnkillable`).
    """

    ABANDON = "abandon"
    """Go on without it."""
    ESCALATE = "escalate"
    """Stop the other children and end, with `UnkillableChild` as the reason."""


ShutdownTime: TypeAlias = float | Shutdown
Body: TypeAlias = "Callable[[Process], Awaitable[None]]"


class Retirable(Protocol):
    """What must learn that a child will not come back (an `ActorRef` is one)."""

    @property
    def depth(self) -> int:
        """How many messages wait."""
        ...

    def retire(self) -> None:
        """Refuse what waits and what comes, until the child is started again."""
        ...


class Subtree(Protocol):
    """What is below a child that is itself a supervisor."""

    @property
    def strategy(self) -> str:
        """The restart strategy, for people."""
        ...

    def nodes(self) -> tuple[Node, ...]:
        """Return the children as values."""
        ...

    def find(self, path: str) -> Process | None:
        """Return what runs at *path*, relative to here."""
        ...

    def retire(self) -> None:
        """Retire every address below."""
        ...


def _shutdown_time(
    _instance: object, attribute: attrs.Attribute[Any], value: Any
) -> None:
    if not isinstance(value, Shutdown) and not 0 <= value < math.inf:
        msg = (
            f"{attribute.name} must be seconds >= 0, Shutdown.INFINITY or "
            f"Shutdown.BRUTAL_KILL, not {value!r}"
        )
        raise ValueError(msg)


def check_whole_number(
    _instance: object, attribute: attrs.Attribute[Any], value: Any
) -> None:
    """Raise `ValueError` if *value* is no whole number (an attrs validator)."""
    if type(value) is not int or value < 0:
        msg = f"{attribute.name} must be a whole number from 0 on, not {value!r}"
        raise ValueError(msg)


@attrs.frozen(kw_only=True)
class ChildSpec:
    """One child: what runs, and what its end means.

    Make it with `actor`, `child`, `supervisor` or `dynamic_supervisor`.
    """

    id: str
    """Unique among its siblings, not empty, and without ``/``: paths are made of ids."""
    body: Body = attrs.field(repr=False, eq=False)
    restart: Restart = attrs.field(
        default=Restart.PERMANENT, validator=attrs.validators.instance_of(Restart)
    )
    shutdown: ShutdownTime = attrs.field(default=5.0, validator=_shutdown_time)
    """Seconds the child may take to stop before it is cancelled."""
    significant: bool = False
    backoff: Backoff | None = None
    """How long restarts wait; OTP's way, and the default, is not at all."""
    kind: str = "worker"
    address: Retirable | None = attrs.field(default=None, repr=False, eq=False)
    subtree: Subtree | None = attrs.field(default=None, repr=False, eq=False)

    def retire(self) -> None:
        """Tell every address below that nobody will answer there."""
        if self.address is not None:
            self.address.retire()
        if self.subtree is not None:
            self.subtree.retire()


@attrs.frozen(kw_only=True)
class SupervisorSpec:
    """A supervisor: its children in start order, and when it gives up.

    More than ``max_restarts`` restarts within ``max_seconds`` end it.
    """

    children: Sequence[ChildSpec] = ()
    strategy: Strategy = attrs.field(
        default=Strategy.ONE_FOR_ONE, validator=attrs.validators.instance_of(Strategy)
    )
    max_restarts: int = attrs.field(default=3, validator=check_whole_number)
    max_seconds: float = attrs.field(default=5.0, validator=attrs.validators.gt(0))
    auto_shutdown: AutoShutdown = attrs.field(
        default=AutoShutdown.NEVER,
        validator=attrs.validators.instance_of(AutoShutdown),
    )
    on_unkillable: OnUnkillable = attrs.field(
        default=OnUnkillable.ABANDON,
        validator=attrs.validators.instance_of(OnUnkillable),
    )

    def __attrs_post_init__(self) -> None:
        seen = set[str]()
        for spec in self.children:
            check_child(spec, self.auto_shutdown)
            if spec.id in seen:
                msg = f"two children have the id {spec.id!r}"
                raise ValueError(msg)
            seen.add(spec.id)


def check_child(spec: ChildSpec, auto_shutdown: AutoShutdown) -> None:
    """Raise `ValueError` if *spec* does not fit such a supervisor."""
    _check_kind(spec)
    if not spec.id or "/" in spec.id:
        # An empty path is the supervisor itself, and "a/b" is b below a.
        msg = f"a child's id is not empty and has no '/' in it, and this is {spec.id!r}"
        raise ValueError(msg)
    if not spec.significant:
        return
    if auto_shutdown is AutoShutdown.NEVER:
        msg = (
            f"child {spec.id!r} is significant, but the supervisor has no auto_shutdown"
        )
        raise ValueError(msg)
    if spec.restart is Restart.PERMANENT:
        msg = f"child {spec.id!r} is significant and permanent: it never ends for good"
        raise ValueError(msg)


def _check_kind(spec: object) -> None:
    # For those without a type checker: an AttributeError further on says nothing.
    if not isinstance(spec, ChildSpec):
        msg = (
            "a child is what actor(), child(), supervisor() or dynamic_supervisor()"
            f" returns, not {spec!r}"
        )
        raise TypeError(msg)


def child(
    id: str,  # noqa: A002 - OTP's word, and the field's name
    function: Callable[P, Awaitable[object]],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> ChildSpec:
    """Describe an async function as a child.

    If it takes a ``task_status``, its start has succeeded when it calls
    ``task_status.started()``; otherwise at once. It stops by being cancelled.
    Type checkers want it to have a default: ``= trio.TASK_STATUS_IGNORED``.

    Raises:
        TypeError: it can be seen that *function* is none. One that only turns out not
            to be async when it is called fails to start, with the same error.
    """
    _check_function(id, function)
    call = partial(function, *args, **kwargs)
    return ChildSpec(id=id, body=_function_body(id, call, _takes_status(function)))


def _check_function(id_: str, function: object) -> None:
    # For those without a type checker. A plain function may return an awaitable.
    code: types.CodeType | None = getattr(function, "__code__", None)
    flags = 0 if code is None else code.co_flags
    is_generator = flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR)
    # A generator may be a coroutine: `types.coroutine` says so.
    never = is_generator and not flags & inspect.CO_ITERABLE_COROUTINE
    if never or not callable(function):
        raise _not_async(id_, function, "")


def _not_async(id_: str, function: object, but: str) -> TypeError:
    name = getattr(function, "__qualname__", None) or repr(function)
    msg = f"child {id_!r} takes an async function, uncalled, and {name} is none{but}"
    return TypeError(msg)


def _takes_status(function: Callable[..., object]) -> bool:
    code: types.CodeType | None = getattr(function, "__code__", None)
    if code is not None and not hasattr(function, "__wrapped__"):
        # A hundred times as fast as a signature, and this is done for every task.
        named = code.co_argcount + code.co_kwonlyargcount
        return "task_status" in code.co_varnames[:named]
    return "task_status" in inspect.signature(function).parameters


def _function_body(id_: str, call: partial[Any], has_status: bool) -> Body:

    async def body(process: Process) -> None:
        work = call(task_status=_Status(process)) if has_status else call()
        if type(work) is not types.CoroutineType and not isinstance(work, Awaitable):
            # Before it counts as started: no restart would make it async.
            raise _not_async(id_, call.func, f": it returned {type(work).__name__}")
        if not has_status:
            process.started()
        await work

    return body


@attrs.frozen
class _Status:
    """A `trio.TaskStatus` whose ``started`` is the supervisor's handshake."""

    _process: Process

    def started(self, _value: Any = None) -> None:
        self._process.started()
