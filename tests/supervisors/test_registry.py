"""The registry: names that are found at run time, and free when their actor ends."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import attrs
import pytest
import trio
from hypothesis import event, given, strategies as st
from trio.testing import MockClock

from supervisors import (
    ActorNotRunning,
    ActorRef,
    ActorStopped,
    AlreadyRegistered,
    Change,
    ChildSpec,
    Entry,
    Ignore,
    InboxFull,
    Keys,
    Killed,
    NotRegistered,
    Registered,
    Registry,
    Restart,
    StartFailed,
    Supervisor,
    SupervisorSpec,
    Unregistered,
    actor,
    monitor,
    open_supervisor,
    registered,
)
from tests.supervisors.children import Boom, Worker, settled, worker

Names = Registry[str, Worker]


def named(
    names: Names, key: str, id_: str = "a", **options: Any
) -> tuple[ActorRef[Worker], ChildSpec]:
    """Return an actor that takes the name *key* in its init."""
    ref: ActorRef[Worker] = ActorRef(id_)
    return ref, attrs.evolve(registered(names, key, ref, Worker), **options)


def tree(*children: ChildSpec, **options: Any) -> SupervisorSpec:
    """Return a supervisor that does not give up."""
    return SupervisorSpec(children=children, max_restarts=1000, **options)


async def test_an_actor_is_found_by_the_name_that_it_took_in_its_init(
    autojump_clock: MockClock,
) -> None:
    names: Names = Registry("names")
    ref, spec = named(names, "x")
    assert names.whereis("x") is None
    async with open_supervisor(tree(spec)):
        assert names.whereis("x") is ref
        assert "x" in names
        assert await names["x"].call(Worker.note, 1) == 1
        assert list(names) == ["x"]
        assert names.entries() == names.lookup("x") == (Entry("x", ref),)
    assert names.whereis("x") is None
    assert "x" not in names
    assert list(names) == []


async def test_a_name_that_nobody_has_is_not_found(autojump_clock: MockClock) -> None:
    names: Names = Registry("names")
    assert names.lookup("x") == ()
    with pytest.raises(NotRegistered, match="'x' in registry 'names'") as caught:
        names["x"]
    assert caught.value.key == "x"


async def test_a_unique_name_has_one_holder(autojump_clock: MockClock) -> None:
    names: Names = Registry("names")
    a, spec_a = named(names, "x", "a")
    b, spec_b = worker("b")
    async with open_supervisor(tree(spec_a, spec_b)):
        for ref in (a, b):
            with pytest.raises(AlreadyRegistered, match="is 'a' already") as caught:
                names.register("x", ref)
            assert caught.value.holder is a
        names.unregister("x", b)
        assert names.whereis("x") is a
        names.unregister("x", a)
        names.register("x", b)
        assert names.whereis("x") is b


async def test_a_start_that_finds_its_name_taken_fails_and_says_so(
    autojump_clock: MockClock,
) -> None:
    names: Names = Registry("names")
    _, spec_a = named(names, "x", "a")
    _, spec_b = named(names, "x", "b")
    async with open_supervisor(tree(spec_a)) as root:
        with pytest.raises(StartFailed) as caught:
            await root.start_child(spec_b)
        assert isinstance(caught.value.__cause__, AlreadyRegistered)
        assert names.count() == 1


async def test_a_restarted_incarnation_takes_its_name_again_in_its_init(
    autojump_clock: MockClock,
) -> None:
    names: Names = Registry("names")
    ref, spec = named(names, "x")
    async with open_supervisor(tree(spec)) as root:
        for _ in range(100):
            root.crash_child("a", Boom())
            await settled()
            assert names.whereis("x") is ref
        assert root.inspect().children[0].restarts == 100
        assert names.statistics().entries == 1


@pytest.mark.parametrize("error", [Boom(), Ignore()])
async def test_an_init_that_fails_leaves_no_name_behind(
    autojump_clock: MockClock, error: Exception
) -> None:
    names: Names = Registry("names")
    ref: ActorRef[Worker] = ActorRef("a")

    def init() -> Worker:
        names.register("x", ref)
        assert names.whereis("x") is ref
        raise error

    async with open_supervisor(tree()) as root:
        if isinstance(error, Ignore):
            assert not await root.start_child(actor(ref, init))
        else:
            with pytest.raises(StartFailed):
                await root.start_child(actor(ref, init))
        assert names.whereis("x") is None
        assert names.statistics().keys == 0


async def test_the_name_is_free_when_the_end_of_its_actor_is_known(
    autojump_clock: MockClock,
) -> None:
    """Whoever hears of it: by a callback before the registry's, or by a monitor."""
    names: Names = Registry("names")
    ref, spec = worker("a", restart=Restart.TEMPORARY)
    other, other_spec = worker("b")
    seen = list[object]()
    told = list[Change[str, Worker]]()
    names.listen(told.append)
    async with open_supervisor(tree(spec, other_spec)) as root:
        assert ref.process is not None

        def on_end(_: object) -> None:
            seen.append((names.whereis("x"), names.lookup("x"), names.count()))
            seen.append((names.keys(ref), "x" in names, names.entries(), list(names)))
            try:
                names.update_value("x", ref, lambda value: value)
            except NotRegistered as error:
                seen.append(type(error))
            names.register("x", other)

        ref.process.at_end(on_end)
        names.register("x", ref)
        with monitor(ref) as watch:
            root.crash_child("a", Boom())
            await watch.wait()
        assert seen == [(None, (), 0), ((), False, (), []), NotRegistered]
        assert told == [
            Registered("x", ref),
            Unregistered("x", ref),
            Registered("x", other),
        ]
        assert names.whereis("x") is other
        assert names.count() == 1


async def test_an_actor_given_up_as_unkillable_loses_its_name(
    autojump_clock: MockClock,
) -> None:
    names: Names = Registry("names")
    ref, spec = named(names, "x", shutdown=1.0)
    async with open_supervisor(tree(spec)) as root:
        ref.cast(Worker.shielded, 100)
        await root.terminate_child("a")
        assert names.whereis("x") is None
        with pytest.raises(ActorNotRunning):
            names.register("x", ref)
        # It may have ended twice over, but a new one has the name.
        await root.restart_child("a")
        await trio.sleep(200)
        assert names.whereis("x") is ref


async def test_only_what_runs_can_have_a_name(autojump_clock: MockClock) -> None:
    names: Names = Registry("names")
    ref, spec = worker("a", restart=Restart.TEMPORARY)
    with pytest.raises(ActorNotRunning, match="'a' does not run"):
        names.register("x", ref)
    async with open_supervisor(tree(spec)) as root:
        names.register("x", ref)
        await root.terminate_child("a")
        with pytest.raises(ActorNotRunning):
            names.register("x", ref)
    assert names.keys(ref) == ()


async def test_an_actor_has_as_many_names_as_it_takes(
    autojump_clock: MockClock,
) -> None:
    names: Names = Registry("names")
    ref, spec = worker("a", restart=Restart.TEMPORARY)
    async with open_supervisor(tree(spec)) as root:
        for key in "xyz":
            names.register(key, ref)
        names.unregister("y", ref)
        assert names.keys(ref) == ("x", "z")
        assert repr(names) == "<Registry 'names', unique, 2 entries>"
        await root.terminate_child("a")
        assert names.count() == 0
        assert names.entries() == ()


async def test_a_value_can_be_left_and_changed(autojump_clock: MockClock) -> None:
    names: Names = Registry("names")
    ref, spec = worker("a")
    async with open_supervisor(tree(spec)):
        names.register("x", ref, value=1)
        names.update_value("x", ref, lambda value: value + 1)
        assert names.lookup("x") == (Entry("x", ref, 2),)
        with pytest.raises(NotRegistered, match=r"'y'.* is not 'a'"):
            names.update_value("y", ref, lambda value: value)


async def test_duplicate_keys_make_a_group(autojump_clock: MockClock) -> None:
    group: Names = Registry("group", keys=Keys.DUPLICATE)
    (a, spec_a), (b, spec_b) = named(group, "g", "a"), named(group, "g", "b")
    async with open_supervisor(tree(spec_a, spec_b)) as root:
        assert [entry.ref for entry in group.lookup("g")] == [a, b]
        assert group.dispatch("g", Worker.note, "hello").sent == 2
        for ref in (a, b):
            assert await ref.call(lambda this: this.notes) == ["hello"]
        group.register("g", a, "again")
        assert group.keys(a) == ("g", "g")
        await root.terminate_child("b")
        assert [entry.value for entry in group.lookup("g")] == [None, "again"]
        group.unregister("g", a)
        assert group.lookup("g") == ()
        with pytest.raises(TypeError, match="use lookup or dispatch"):
            group.whereis("g")


async def test_one_that_cannot_take_a_message_keeps_no_other_from_it(
    autojump_clock: MockClock,
) -> None:
    group: Names = Registry("group", keys="duplicate")
    full: ActorRef[Worker] = ActorRef("full", max_inbox=1)
    gone, gone_spec = worker("gone")
    fine, fine_spec = worker("fine")
    async with open_supervisor(tree(actor(full, Worker), gone_spec, fine_spec)):
        for ref in (full, gone, fine):
            group.register("g", ref)
        full.cast(Worker.sleep, 5)
        await settled()
        full.cast(Worker.note, 1)
        # What happens when its supervisor has given it up, but it has not ended.
        assert gone.process is not None
        gone.process.exit = Killed()
        gone.retire()
        gone.process.exit = None
        result = group.dispatch("g", Worker.note, "hello")
        assert result.sent == 1
        assert [(ref, type(error)) for ref, error in result.failed] == [
            (full, InboxFull),
            (gone, ActorStopped),
        ]
        assert await fine.call(lambda this: this.notes) == ["hello"]


async def test_listeners_are_told_of_every_change_after_it(
    autojump_clock: MockClock,
) -> None:
    names: Names = Registry("names")
    told = list[tuple[Change[str, Worker], bool]]()
    listening = names.listen(lambda change: told.append((change, change.key in names)))
    ref, spec = worker("a", restart=Restart.TEMPORARY)
    async with open_supervisor(tree(spec)) as root:
        names.register("x", ref, 7)
        names.register("y", ref)
        names.unregister("y", ref)
        names.unregister("y", ref)
        await root.terminate_child("a")
    assert told == [
        (Registered("x", ref, 7), True),
        (Registered("y", ref), True),
        (Unregistered("y", ref), False),
        (Unregistered("x", ref), False),
    ]
    listening.cancel()
    listening.cancel()
    assert names.statistics().listeners == 0


async def test_a_listener_that_hears_of_an_end_finds_all_names_free(
    autojump_clock: MockClock,
) -> None:
    names: Names = Registry("names")
    left = list[int]()
    ref, spec = worker("a", restart=Restart.TEMPORARY)
    async with open_supervisor(tree(spec)) as root:
        for key in "xyz":
            names.register(key, ref)
        names.listen(lambda _: left.append(names.statistics().keys))
        await root.terminate_child("a")
    assert left == [0, 0, 0]


async def test_taking_and_giving_back_does_not_make_an_actor_grow(
    autojump_clock: MockClock,
) -> None:
    names: Names = Registry("names")
    ref, spec = worker("a")
    async with open_supervisor(tree(spec)):
        for _ in range(100):
            names.register("x", ref)
            names.unregister("x", ref)
            names.tell(ref, Worker.note).cancel()
        assert ref.process is not None
        assert len(ref.process._at_end or ()) == 1
        assert names.statistics().listeners == 0


async def test_changes_made_by_a_listener_are_told_in_their_order(
    autojump_clock: MockClock,
) -> None:
    names: Names = Registry("names")
    ref, spec = worker("a")
    told = list[Change[str, Worker]]()

    def meddle(change: Change[str, Worker]) -> None:
        if change == Registered("x", ref):
            names.unregister("x", ref)

    names.listen(meddle)
    names.listen(told.append)
    async with open_supervisor(tree(spec)):
        names.register("x", ref)
        assert told == [Registered("x", ref), Unregistered("x", ref)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_listener_that_fails_harms_nobody(autojump_clock: MockClock) -> None:
    names: Names = Registry("names")
    told = list[Change[str, Worker]]()

    def fail(_: Change[str, Worker]) -> None:
        raise Boom

    names.listen(fail)
    names.listen(told.append)
    _, spec = named(names, "x")
    async with open_supervisor(tree(spec)):
        assert "x" in names
        assert len(told) == 1


async def test_an_actor_can_listen_for_as_long_as_it_lives(
    autojump_clock: MockClock,
) -> None:
    names: Names = Registry("names")
    ref, spec = worker("a")
    manager: ActorRef[Worker] = ActorRef("manager")

    def init() -> Worker:
        names.tell(manager, Worker.note)
        return Worker()

    with pytest.raises(ActorNotRunning):
        names.tell(manager, Worker.note)
    async with open_supervisor(tree(actor(manager, init), spec)) as root:
        for _ in range(3):
            root.crash_child("manager", Boom())
            await settled()
        names.register("x", ref)
        names.unregister("x", ref)
        notes = await manager.call(lambda this: this.notes)
        assert notes == [Registered("x", ref), Unregistered("x", ref)]
        assert names.statistics().listeners == 1
    assert names.statistics().listeners == 0


async def test_an_actor_that_cannot_take_a_change_has_it_counted(
    autojump_clock: MockClock,
) -> None:
    names: Names = Registry("names")
    slow: ActorRef[Worker] = ActorRef("slow", max_inbox=1)
    ref, spec = worker("a")
    async with open_supervisor(tree(actor(slow, Worker), spec)):
        listening = names.tell(slow, Worker.note)
        for key in "wxyz":
            names.register(key, ref)
        assert listening.missed == 3
        listening.cancel()
        await settled()
        assert await slow.call(lambda this: this.notes) == [Registered("w", ref)]


async def test_who_waits_for_a_name_gets_who_takes_it(
    autojump_clock: MockClock,
) -> None:
    names: Names = Registry("names")
    ref, spec = named(names, "x")
    found = list[ActorRef[Worker]]()

    async def wait() -> None:
        found.append(await names.wait_for("x"))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(wait)
        await settled()
        assert names.statistics().waiting == 1
        async with open_supervisor(tree(spec)):
            await settled()
            assert found == [ref, ref, ref]
            assert await names.wait_for("x") is ref
    assert names.statistics().waiting == 0


async def test_who_waits_for_a_name_is_not_given_one_that_is_gone_again(
    autojump_clock: MockClock,
) -> None:
    names: Names = Registry("names")
    (a, spec_a), (b, spec_b) = worker("a"), worker("b")
    async with open_supervisor(tree(spec_a, spec_b)), trio.open_nursery() as nursery:

        async def wait() -> None:
            assert await names.wait_for("x") is b

        nursery.start_soon(wait)
        await settled()
        names.register("x", a)
        names.unregister("x", a)
        await settled()
        names.register("x", b)


async def test_whoever_gives_up_waiting_for_a_name_leaves_nothing_behind(
    autojump_clock: MockClock,
) -> None:
    names: Names = Registry("names")
    async with trio.open_nursery() as nursery:

        async def wait(seconds: float) -> None:
            with trio.move_on_after(seconds):
                await names.wait_for("x")

        nursery.start_soon(wait, 1)
        nursery.start_soon(wait, 2)
        await trio.sleep(1.5)
        assert names.statistics().waiting == 1
    assert names.statistics().waiting == 0


# Against a model: one dictionary from name to the incarnations that have it.

ACTORS = ["a", "b", "c"]
KEYS = ["x", "y"]

steps = st.one_of(
    st.tuples(
        st.sampled_from(["register", "unregister", "update"]),
        st.sampled_from(ACTORS),
        st.sampled_from(KEYS),
    ),
    st.tuples(
        st.sampled_from(["crash", "terminate", "restart"]),
        st.sampled_from(ACTORS),
        st.just(""),
    ),
)


@attrs.define
class Model:
    """What must hold, told by what was done and not by what the registry says."""

    unique: bool
    alive: set[str] = attrs.field(factory=lambda: set(ACTORS))
    held: list[list[Any]] = attrs.field(factory=list[list[Any]])
    """Name, actor and value, in the order of registration."""
    changes: list[tuple[str, str, str]] = attrs.field(factory=list)

    def register(self, name: str, key: str, value: int) -> type[Exception] | None:
        if name not in self.alive:
            return ActorNotRunning
        if self.unique and any(each[0] == key for each in self.held):
            return AlreadyRegistered
        self.held.append([key, name, value])
        self.changes.append(("+", key, name))
        return None

    def unregister(self, name: str, key: str | None = None) -> None:
        gone = [
            each for each in self.held if each[1] == name and key in (None, each[0])
        ]
        self.held = [each for each in self.held if each not in gone]
        self.changes += [("-", each[0], name) for each in gone]

    def update(self, name: str, key: str, value: int) -> bool:
        changed = [each for each in self.held if each[:2] == [key, name]]
        for each in changed:
            each[2] = value
        return bool(changed)


@given(keys=st.sampled_from(Keys), program=st.lists(steps, max_size=40))
async def test_the_registry_says_what_the_model_says(
    keys: Keys, program: list[tuple[str, str, str]]
) -> None:
    model = Model(unique=keys is Keys.UNIQUE)
    names: Names = Registry("names", keys=keys)
    changes = list[tuple[str, str, str]]()
    names.listen(
        lambda change: changes.append(
            (
                "+" if isinstance(change, Registered) else "-",
                change.key,
                change.ref.name,
            )
        )
    )
    children = {
        name: worker(
            name, restart=Restart.TRANSIENT if name == "a" else Restart.PERMANENT
        )
        for name in ACTORS
    }
    refs = {name: ref for name, (ref, _) in children.items()}
    async with open_supervisor(tree(*(spec for _, spec in children.values()))) as root:
        for number, (step, name, key) in enumerate(program):
            await carry_out(step, name, key, number, model, names, refs, root)
            check(model, names, refs)
        assert changes == model.changes
        event(f"{keys.value}, {len(model.changes) // 5 * 5} changes or more")


async def carry_out(
    step: str,
    name: str,
    key: str,
    number: int,
    model: Model,
    names: Names,
    refs: dict[str, ActorRef[Worker]],
    root: Supervisor,
) -> None:
    """Do one step in the model and in the registry."""
    match step:
        case "register":
            expected = model.register(name, key, number)
            with expected_error(expected):
                names.register(key, refs[name], number)
        case "unregister":
            model.unregister(name, key)
            names.unregister(key, refs[name])
        case "update":
            changed = model.update(name, key, number)
            with expected_error(None if changed else NotRegistered):
                names.update_value(key, refs[name], lambda _: number)
        case "crash" if name in model.alive:
            model.unregister(name)
            root.crash_child(name, Boom())
        case "terminate" if name in model.alive:
            model.unregister(name)
            model.alive.remove(name)
            await root.terminate_child(name)
        case "restart" if name not in model.alive:
            model.alive.add(name)
            await root.restart_child(name)
    await settled()


def expected_error(kind: type[Exception] | None) -> AbstractContextManager[object]:
    return nullcontext() if kind is None else pytest.raises(kind)


def check(model: Model, names: Names, refs: dict[str, ActorRef[Worker]]) -> None:
    """Compare everything that can be asked."""
    for key in KEYS:
        expected = [(name, value) for k, name, value in model.held if k == key]
        assert [(e.ref.name, e.value) for e in names.lookup(key)] == expected
        assert (key in names) is bool(expected)
        if model.unique:
            assert len(expected) <= 1
            assert names.whereis(key) is (refs[expected[0][0]] if expected else None)
    for name, ref in refs.items():
        assert list(names.keys(ref)) == [k for k, n, _ in model.held if n == name]
    assert names.count() == len(model.held)
    statistics = names.statistics()
    assert statistics.entries == len(model.held)
    assert statistics.keys == len({each[0] for each in model.held})


async def test_members_leave_a_large_group_one_by_one(
    autojump_clock: MockClock,
) -> None:
    group: Names = Registry("group", keys=Keys.DUPLICATE)
    specs = [named(group, "g", f"a{number}")[1] for number in range(100)]
    async with open_supervisor(tree(*specs)) as root:
        for number in range(100):
            await root.terminate_child(f"a{number}")
            assert len(group.lookup("g")) == 99 - number
        assert group.statistics().keys == 0
