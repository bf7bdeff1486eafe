"""The list of models, while reloads change who is there to be asked."""

from __future__ import annotations

import attrs
import pytest
import trio
import trio.testing

from duckservice.completion import ModelInfo
from duckservice.errors import ProviderError
from duckservice.listing import ASKED_AGAIN, KEPT, ModelList
from duckservice.providers.mock import MockProvider
from duckservice.tree import make_parts

from .conftest import mock_config


class Told(MockProvider):
    """Tells a model of its own, once it may; or fails, or never answers."""

    def __init__(self, name: str, model: str | None = None) -> None:
        super().__init__(name, models=("*",))
        self.model = model or f"{name}-model"
        self.asked = 0
        self.fails = False
        self.may_tell = trio.Event()
        self.may_tell.set()

    async def list_models(self):
        self.asked += 1
        model = self.model
        await self.may_tell.wait()
        if self.fails:
            raise ProviderError("it is ill", provider=self.name)
        return (ModelInfo(id=model),)

    def wait(self) -> None:
        self.may_tell = trio.Event()


def parts_of(**providers):
    config = mock_config(*providers, models=("*",))
    makers = {name: lambda its=its: its for name, its in providers.items()}
    return make_parts(config, makers, lambda: 1_000_000.0)


def reloaded(parts, *, without=(), **renewed) -> None:
    """Do with the providers what a reload does."""
    for name, provider in renewed.items():
        parts.providers[name].client.renew(lambda its=provider: its, provider)
    there = {n: its for n, its in parts.providers.items() if n not in without}
    parts.providers = there


async def ids(models) -> list[str]:
    return [model.id for model in await models.models()]


async def offered(models) -> list[str]:
    return [offer.model for offer in await models.offers()]


async def test_a_reload_that_changes_no_provider_keeps_the_list_though_none_answers(
    autojump_clock,
):
    a = Told("a")
    models = ModelList(parts_of(a=a))
    assert await ids(models) == ["a-model"]
    a.wait()
    models.forget(())
    began = trio.current_time()
    assert await ids(models) == ["a-model"]
    assert (a.asked, trio.current_time()) == (1, began)


async def test_only_those_are_asked_again_that_have_changed(autojump_clock):
    a, b = Told("a"), Told("b")
    models = ModelList(parts_of(a=a, b=b))
    await models.models()
    a.model = "a-new"
    models.forget(["a", "of-no-provider"])
    assert await ids(models) == ["a-new", "b-model"]
    assert (a.asked, b.asked) == (2, 1)


async def test_while_a_changed_one_is_asked_others_get_what_is_known(autojump_clock):
    a, b = Told("a"), Told("b")
    models = ModelList(parts_of(a=a, b=b))
    await models.models()
    a.wait()
    models.forget(["a"])
    found = []

    async def ask() -> None:
        found.append(await ids(models))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        assert await ids(models) == ["b-model"]
        assert (a.asked, found) == (2, [])
        a.may_tell.set()
    assert found == [["a-model", "b-model"]]


async def test_what_was_told_before_the_change_does_not_replace_what_is_told_after_it(
    autojump_clock,
):
    old, new = Told("a", "old"), Told("a", "new")
    parts = parts_of(a=old)
    models = ModelList(parts)
    old.wait()
    found = []

    async def ask() -> None:
        found.append(await ids(models))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        reloaded(parts, a=new)
        models.forget(["a"])
        assert await ids(models) == ["new"]
        old.may_tell.set()
    assert found == [["new"]]
    assert await ids(models) == ["new"]


async def test_who_waited_for_one_that_changed_meanwhile_hears_the_changed_one(
    autojump_clock,
):
    old, new = Told("a", "old"), Told("a", "new")
    parts = parts_of(a=old)
    models = ModelList(parts)
    old.wait()

    async with trio.open_nursery() as nursery:

        async def reload() -> None:
            await trio.sleep(1)
            reloaded(parts, a=new)
            models.forget(["a"])
            old.may_tell.set()

        nursery.start_soon(reload)
        assert await ids(models) == ["new"]
    assert (old.asked, new.asked) == (1, 1)


@pytest.mark.parametrize("fails", [False, True])
async def test_of_a_provider_that_is_removed_while_it_is_asked_nothing_is_left(
    autojump_clock, fails
):
    a, b = Told("a"), Told("b")
    parts = parts_of(a=a, b=b)
    models = ModelList(parts)
    before = parts.providers
    a.fails = fails
    a.wait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(models.models)
        await trio.testing.wait_all_tasks_blocked()
        reloaded(parts, without=("a",))
        models.forget(())
        a.may_tell.set()
    assert await ids(models) == ["b-model"]
    parts.providers = before
    assert dict(models.silent) == {}
    a.fails, a.model = False, "of-today"
    assert await ids(models) == ["of-today", "b-model"]
    assert (a.asked, b.asked) == (2, 1)


async def test_who_did_not_tell_is_no_longer_told_of_once_it_is_removed(
    autojump_clock,
):
    a, b = Told("a"), Told("b")
    a.fails = b.fails = True
    parts = parts_of(a=a, b=b)
    models = ModelList(parts)
    await models.models()
    assert dict(models.silent) == {"a": "it is ill", "b": "it is ill"}
    reloaded(parts, without=("a",))
    assert dict(models.silent) == {"b": "it is ill"}
    models.forget(["b"])
    assert dict(models.silent) == {}


async def test_offers_are_of_one_moment_whatever_a_reload_does_meanwhile(
    autojump_clock,
):
    class Many(Told):
        async def list_models(self):
            return tuple(ModelInfo(id=f"m-{n}") for n in range(50))

    a, b = Many("a"), Many("b")
    parts = parts_of(a=a, b=b)
    models = ModelList(parts)
    await models.models()
    found = []

    async def ask() -> None:
        found.extend(await models.offers())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        assert not found
        reloaded(parts, without=("b",))
        models.forget(["a"])
    assert [offer.provider for offer in found] == ["a"] * 50 + ["b"] * 50
    assert len(await models.models()) == 50
    assert len(await offered(models)) == 50


async def test_one_that_told_is_asked_again_later_and_keeps_its_list_if_it_fails_then(
    autojump_clock,
):
    a = Told("a")
    models = ModelList(parts_of(a=a))
    await models.models()
    await trio.sleep(KEPT - 1)
    a.fails = True
    assert (await ids(models), a.asked) == (["a-model"], 1)
    await trio.sleep(1)
    assert (await ids(models), a.asked) == (["a-model"], 2)
    assert dict(models.silent) == {"a": "it is ill"}
    await trio.sleep(ASKED_AGAIN - 1)
    assert (await ids(models), a.asked) == (["a-model"], 2)
    await trio.sleep(1)
    a.fails, a.model = False, "another"
    assert (await ids(models), a.asked) == (["another"], 3)
    assert dict(models.silent) == {}


async def test_who_leaves_while_a_provider_is_asked_keeps_nobody_from_asking(
    autojump_clock,
):
    a = Told("a")
    models = ModelList(parts_of(a=a))
    a.wait()
    with trio.move_on_after(1):
        await models.models()
    a.may_tell.set()
    assert await ids(models) == ["a-model"]


async def test_a_provider_that_crashes_is_not_asked_again_at_once(autojump_clock):
    class Broken(Told):
        async def list_models(self):
            self.asked += 1
            raise KeyError("models")

    a, b = Broken("a"), Told("b")
    models = ModelList(parts_of(a=a, b=b))
    with pytest.raises(ExceptionGroup):
        await models.models()
    assert "b-model" in await ids(models)
    assert a.asked == 1


async def test_names_of_the_config_are_listed_as_it_is_now(autojump_clock):
    parts = parts_of(a=Told("a"))
    models = ModelList(parts)
    assert await ids(models) == ["a-model"]
    guarded = parts.providers["a"]
    guarded.config = attrs.evolve(guarded.config, models=("exact", "a-*"))
    models.forget(["a"])
    assert await ids(models) == ["exact"]
