"""The registry: names for actors that are found at run time.

    rooms: Registry[str, Room] = Registry("rooms")

    rooms.register("lobby", ref)                # in the actor's init
    await rooms["lobby"].call(Room.say, "hello")

    free ── register() ──> taken ── unregister(), or the incarnation ends ──> free

A name belongs to the incarnation that took it. It is free as soon as that has
ended, before its supervisor hears of it, so the next one can take it again in
its init, and nobody is ever shown an actor that is dead.

With `Keys.DUPLICATE` a key is a group, as in OTP's ``pg``: every member joins by
`Registry.register`, and `Registry.dispatch` reaches them all.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import (
    Any,
    Concatenate,
    Generic,
    ParamSpec,
    TypeAlias,
    TypeVar,
    final,
    overload,
)

import attrs
import trio

from supervisors._actor import actor_spec
from supervisors._errors import (
    ActorNotRunning,
    AlreadyRegistered,
    CallError,
    NotRegistered,
)
from supervisors._events import emit
from supervisors._process import Process
from supervisors._ref import ActorRef
from supervisors._spec import ChildSpec

K = TypeVar("K", bound=Hashable)
A = TypeVar("A")
B = TypeVar("B")
P = ParamSpec("P")


class Keys(enum.Enum):
    """How many actors may have one key."""

    UNIQUE = "unique"
    DUPLICATE = "duplicate"


@attrs.frozen
class Entry(Generic[K, A]):
    """An actor under a key, and what it has left there for others to see."""

    key: K
    ref: ActorRef[A]
    value: Any = None


@attrs.frozen
class Registered(Generic[K, A]):
    """An actor has taken a key."""

    key: K
    ref: ActorRef[A]
    value: Any = None


@attrs.frozen
class Unregistered(Generic[K, A]):
    """An actor has given a key back, or has ended."""

    key: K
    ref: ActorRef[A]


Change: TypeAlias = Registered[K, A] | Unregistered[K, A]


@attrs.frozen
class Dispatched(Generic[A]):
    """Whom a `Registry.dispatch` has reached."""

    sent: int
    """How many have the message in their inbox."""
    failed: tuple[tuple[ActorRef[A], CallError], ...] = ()
    """Who has not, and why."""


@attrs.frozen(kw_only=True)
class RegistryStatistics:
    """How much there is in a registry."""

    keys: int
    entries: int
    listeners: int
    waiting: int
    """Keys that somebody waits for."""


@attrs.define(eq=False)
class _Registration(Generic[K, A]):
    """What the registry knows of an entry."""

    key: K
    ref: ActorRef[A]
    process: Process
    value: Any

    @property
    def is_live(self) -> bool:
        """Whether its actor runs; not so for a moment, while others learn of the end."""
        return self.process.exit is None


@final
@attrs.define(eq=False)
class Listening:
    """A listener of a registry; `cancel` ends it."""

    missed: int = attrs.field(default=0, init=False)
    """Changes that an actor was not told of, for its inbox was full."""
    _end: Callable[[], None] | None = attrs.field(default=None, repr=False)

    def cancel(self) -> None:
        """Do not tell of changes (any more)."""
        end, self._end = self._end, None
        if end is not None:
            end()


@final
class Registry(Generic[K, A]):
    """Names for running actors of type *A*.

    Everything is done at once: nothing here waits but `wait_for`.
    """

    def __init__(
        self, name: str = "registry", *, keys: Keys | str = Keys.UNIQUE
    ) -> None:
        self.name = name
        self._unique = Keys(keys) is Keys.UNIQUE
        # Ordered sets: of a large group any one must be able to leave quickly.
        self._by_key = dict[K, dict[_Registration[K, A], None]]()
        self._by_process = dict[Process, dict[_Registration[K, A], None]]()
        self._listeners = dict[Callable[[Change[K, A]], None], None]()
        self._untold = deque[Change[K, A]]()
        self._awaited = dict[K, trio.Event]()

    # Names are taken and given back.

    def register(self, key: K, ref: ActorRef[A], value: Any = None) -> None:
        """Give *ref*'s running incarnation the name *key*, until it ends.

        In its init an actor counts as running. With duplicate keys it may have
        the same one several times.

        Raises:
            AlreadyRegistered: the key is unique and taken, be it by *ref* itself.
            ActorNotRunning: *ref* has no incarnation.
        """
        process = self._running(key, ref)
        if self._unique:
            for held in list(self._by_key.get(key, ())):
                if held.is_live:
                    raise AlreadyRegistered(
                        key, f"{self._at(key)} is {held.ref.name!r} already", held.ref
                    )
                self._ended(held.process)
        registration = _Registration(key, ref, process, value)
        self._by_key.setdefault(key, {})[registration] = None
        if process not in self._by_process:
            self._by_process[process] = {}
            process.at_end(self._ended)
        self._by_process[process][registration] = None
        awaited = self._awaited.pop(key, None)
        if awaited is not None:
            awaited.set()
        self._tell(Registered(key, ref, value))

    def unregister(self, key: K, ref: ActorRef[A]) -> None:
        """Take *key* back from *ref*, as often as it has it; else do nothing."""
        for held in self._held(key, ref):
            self._drop(held)
            del self._by_process[held.process][held]
            self._tell(Unregistered(key, ref))

    def update_value(
        self, key: K, ref: ActorRef[A], update: Callable[[Any], Any]
    ) -> None:
        """Replace the value that *ref* has left under *key* by ``update(value)``.

        Raises:
            NotRegistered: *ref* does not have the key.
        """
        held = self._held(key, ref)
        if not held:
            raise NotRegistered(key, f"{self._at(key)} is not {ref.name!r}")
        for each in held:
            each.value = update(each.value)

    # Who has which.

    def lookup(self, key: K) -> tuple[Entry[K, A], ...]:
        """Return what runs under *key*, in the order of registration."""
        return tuple(
            Entry(key, held.ref, held.value)
            for held in self._by_key.get(key, ())
            if held.is_live
        )

    def whereis(self, key: K) -> ActorRef[A] | None:
        """Return who has the unique *key*, None if nobody has.

        The answer is true now; after the next checkpoint the actor may have ended.
        """
        if not self._unique:
            msg = f"registry {self.name!r} has duplicate keys: use lookup or dispatch"
            raise TypeError(msg)
        for held in self._by_key.get(key, ()):
            if held.is_live:
                return held.ref
        return None

    def __getitem__(self, key: K) -> ActorRef[A]:
        """Return who has the unique *key*.

        Raises:
            NotRegistered: nobody has it.
        """
        ref = self.whereis(key)
        if ref is None:
            raise NotRegistered(key, f"{self._at(key)} is nobody that runs")
        return ref

    def __contains__(self, key: K) -> bool:
        return any(held.is_live for held in self._by_key.get(key, ()))

    def __iter__(self) -> Iterator[K]:
        return iter([key for key in self._by_key if key in self])

    def keys(self, ref: ActorRef[A]) -> tuple[K, ...]:
        """Return the keys that *ref*'s running incarnation has."""
        process = ref.process
        if process is None or process.exit is not None:
            return ()
        return tuple(held.key for held in self._by_process.get(process, ()))

    def entries(self) -> tuple[Entry[K, A], ...]:
        """Return everything that is registered."""
        return tuple(entry for key in self._by_key for entry in self.lookup(key))

    def count(self) -> int:
        """Return how many entries there are."""
        return sum(
            len(held)
            for process, held in self._by_process.items()
            if process.exit is None
        )

    async def wait_for(self, key: K) -> ActorRef[A]:
        """Wait until somebody has *key*; return who, the first if there are several."""
        await trio.lowlevel.checkpoint()
        while not (entries := self.lookup(key)):
            event = self._awaited.setdefault(key, trio.Event())
            try:
                await event.wait()
            finally:
                # The last to give up leaves nothing behind.
                if not event.statistics().tasks_waiting and not event.is_set():
                    del self._awaited[key]
        return entries[0].ref

    def dispatch(
        self,
        key: K,
        method: Callable[Concatenate[A, P], object],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Dispatched[A]:
        """Cast ``method(actor, *args, **kwargs)`` to all who have *key*.

        One that cannot take the message keeps no other from getting it.
        """
        sent = 0
        failed = list[tuple[ActorRef[A], CallError]]()
        for entry in self.lookup(key):
            try:
                entry.ref.cast(method, *args, **kwargs)
            except CallError as error:
                failed.append((entry.ref, error))
            else:
                sent += 1
        return Dispatched(sent, tuple(failed))

    # Listeners.

    def listen(self, callback: Callable[[Change[K, A]], object]) -> Listening:
        """Have *callback* called at every change, after it.

        It must not wait. What it raises goes to `sys.unraisablehook`. A change of
        a value is none.
        """

        def tell(change: Change[K, A]) -> None:
            callback(change)

        return self._listen(tell)

    def tell(
        self,
        listener: ActorRef[B],
        method: Callable[Concatenate[B, Change[K, A], P], object],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Listening:
        """Cast ``method(listener, change, *args)`` at every change.

        It ends with the listener's incarnation, which asks for it in its init.
        Changes that do not fit into its inbox are counted in `Listening.missed`.

        Raises:
            ActorNotRunning: *listener* has no incarnation.
        """
        process = self._running(None, listener)

        def tell(change: Change[K, A]) -> None:
            try:
                listener.cast(method, change, *args, **kwargs)
            except CallError:
                listening.missed += 1

        def ended(_process: Process) -> None:
            listening.cancel()

        listening = self._listen(tell, lambda: process.not_at_end(ended))
        process.at_end(ended)
        return listening

    def statistics(self) -> RegistryStatistics:
        """Return how much there is."""
        return RegistryStatistics(
            keys=len(self._by_key),
            entries=self.count(),
            listeners=len(self._listeners),
            waiting=len(self._awaited),
        )

    def __repr__(self) -> str:
        kind = "unique" if self._unique else "duplicate"
        return f"<Registry {self.name!r}, {kind}, {self.count()} entries>"

    # Inside.

    def _running(self, key: object, ref: ActorRef[Any]) -> Process:
        process = ref.process
        if process is None or process.exit is not None:
            raise ActorNotRunning(
                key,
                f"actor {ref.name!r} does not run: registry {self.name!r} refuses it",
            )
        return process

    def _at(self, key: K) -> str:
        return f"{key!r} in registry {self.name!r}"

    def _held(self, key: K, ref: ActorRef[A]) -> list[_Registration[K, A]]:
        held = self._by_key.get(key, ())
        return [each for each in held if each.ref is ref and each.is_live]

    def _drop(self, registration: _Registration[K, A]) -> None:
        of_key = self._by_key[registration.key]
        del of_key[registration]
        if not of_key:
            del self._by_key[registration.key]

    def _ended(self, process: Process) -> None:
        gone = self._by_process.pop(process, {})
        for registration in gone:
            self._drop(registration)
        for registration in gone:
            self._tell(Unregistered(registration.key, registration.ref))

    def _listen(
        self,
        tell: Callable[[Change[K, A]], None],
        at_end: Callable[[], None] = lambda: None,
    ) -> Listening:
        def end() -> None:
            self._listeners.pop(tell, None)
            at_end()

        self._listeners[tell] = None
        return Listening(end)

    def _tell(self, change: Change[K, A]) -> None:
        self._untold.append(change)
        if len(self._untold) > 1:
            # A listener has made it: all are told of the first change first.
            return
        try:
            while self._untold:
                for listener in list(self._listeners):
                    emit(listener, self._untold[0])
                self._untold.popleft()
        finally:
            self._untold.clear()


@overload
def registered(
    registry: Registry[K, A],
    key: K,
    ref: ActorRef[A],
    factory: Callable[P, AbstractAsyncContextManager[A]],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> ChildSpec: ...
@overload
def registered(
    registry: Registry[K, A],
    key: K,
    ref: ActorRef[A],
    factory: Callable[P, A],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> ChildSpec: ...
def registered(
    registry: Registry[K, A],
    key: K,
    ref: ActorRef[A],
    factory: Callable[..., Any],
    /,
    *args: Any,
    **kwargs: Any,
) -> ChildSpec:
    """Describe an actor as `actor` does, that takes the name *key* before its init.

    If the key is taken its start fails, with `AlreadyRegistered` as the cause.
    """

    def init() -> Any:
        registry.register(key, ref)
        return factory(*args, **kwargs)

    return actor_spec(ref, init)
