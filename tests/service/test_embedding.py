"""The service inside of another trio program."""

from __future__ import annotations

import asyncio
from typing import Any, get_args

import pytest
import structlog
import trio

import duckservice
from duckservice import CallOptions
from duckservice.completion import EmbeddingRequest, TextDelta
from duckservice.core.job import Job
from duckservice.embedding import Duck
from duckservice.errors import NotFound, Unavailable
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockScript
from supervisors import RestartIntensityReached

from .conftest import chat, mock_config

CONFIG = mock_config("a", max_concurrency=1)


async def test_it_serves_in_a_nursery_until_that_is_cancelled(autojump_clock) -> None:
    async with trio.open_nursery() as nursery:
        duck = await nursery.start(duckservice.run, CONFIG)
        assert (await duck.complete(chat("hello"))).text == "hello"
        embeddings = await duck.embed(EmbeddingRequest(model="mock-1", input=("x",)))
        assert len(embeddings.vectors) == 1
        async with duck.stream(chat("one two")) as chunks:
            text = [c.text async for c in chunks if isinstance(c, TextDelta)]
        assert "".join(text) == "one two"
        nursery.cancel_scope.cancel()


async def test_what_the_block_raises_comes_out_as_it_is(autojump_clock) -> None:
    with pytest.raises(KeyError):  # and in no group
        async with duckservice.open_service(CONFIG):
            raise KeyError


async def test_a_stream_that_is_left_early_ends_its_attempt(autojump_clock) -> None:
    async with duckservice.open_service(CONFIG) as duck:
        async with duck.stream(chat("one two three")) as chunks:
            await anext(chunks)
        await trio.testing.wait_all_tasks_blocked()
        assert (await duck.service.queue())["running"] == 0


async def give_up(duck: Duck) -> None:
    for _ in range(30):
        try:
            await duck.service.restart_actor("cost_tracker")
        except NotFound:
            return
        await trio.testing.wait_all_tasks_blocked()


async def test_a_tree_that_gives_up_cancels_the_block_and_says_so(
    autojump_clock, capsys
) -> None:
    assert not structlog.is_configured()
    slow = MockProvider("a", MockScript(latency=60.0))
    async with trio.open_nursery() as nursery:
        with pytest.raises(RestartIntensityReached):
            async with duckservice.open_service(CONFIG, providers={"a": slow}) as duck:
                nursery.start_soon(give_up, duck)  # noqa: ASYNC111 - it outlives the block
                await duck.complete(chat())
    assert capsys.readouterr().out == "", "stdout is the program's"


@pytest.mark.parametrize("given", [("a",), ("a", "b", "c")])
async def test_providers_of_ones_own_must_be_those_of_the_config(
    autojump_clock, given
) -> None:
    providers = {name: MockProvider(name) for name in given}
    with pytest.raises(ValueError, match=r"the config has \['a', 'b'\], given were"):
        async with duckservice.open_service(mock_config("a", "b"), providers=providers):
            pytest.fail("it has started")


@pytest.mark.parametrize("config", ["config.toml", {}])
async def test_what_is_no_config_is_refused_with_what_makes_one(config) -> None:
    with pytest.raises(TypeError, match=r"takes: Config, not (str|dict); config"):
        async with duckservice.open_service(config):
            pytest.fail("it has started")


async def test_what_is_no_request_is_refused_by_its_type(autojump_clock) -> None:
    async with duckservice.open_service(CONFIG) as duck:
        with pytest.raises(TypeError, match="takes: ChatRequest, not str"):
            await duck.complete("hello")
        with pytest.raises(TypeError, match="takes: ChatRequest, not dict"):
            duck.stream({})
        with pytest.raises(TypeError, match="takes: EmbeddingRequest, not ChatR"):
            await duck.embed(chat())
        with pytest.raises(TypeError, match="takes: ImageRequest, not ChatRequest"):
            await duck.generate_images(chat())
        with pytest.raises(TypeError, match="or ImageRequest, not NoneType"):
            await duck.submit(None)


async def test_a_priority_that_nobody_knows_crashes_nothing(autojump_clock) -> None:
    with pytest.raises(ValueError, match="'priority' must be in"):
        CallOptions(priority="urgent")


def test_a_program_of_asyncio_is_told_that_this_is_trio() -> None:
    async def main() -> None:
        async with duckservice.open_service(CONFIG):
            pytest.fail("it has started")

    with pytest.raises(RuntimeError, match="runs under trio, which does not run here"):
        asyncio.run(main())


def test_a_program_of_asyncio_can_have_trio_as_a_guest() -> None:
    async def ask() -> str:
        async with duckservice.open_service(CONFIG) as duck:
            return (await duck.complete(chat("hello"))).text

    async def main() -> str:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        trio.lowlevel.start_guest_run(
            ask,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=done.set_result,
        )
        return (await done).unwrap()

    assert asyncio.run(main()) == "hello"


async def test_the_handle_is_shown_short(autojump_clock) -> None:
    async with duckservice.open_service(CONFIG) as duck:
        assert repr(duck) == "<Duck, providers: a>"


AFTER_THE_END = {
    "complete": lambda duck, _: duck.complete(chat()),
    "embed": lambda duck, _: duck.embed(EmbeddingRequest(model="m", input=("x",))),
    "stream": lambda duck, _: duck.stream(chat()).__aenter__(),
    "submit": lambda duck, _: duck.submit(chat()),
    "wait": lambda duck, job: duck.wait(job),
    "result": lambda duck, job: duck.result(job),
    "cancel": lambda duck, job: duck.cancel(job),
    "status": lambda duck, _: duck.service.status(),
    "queue": lambda duck, _: duck.service.queue(),
    "providers": lambda duck, _: duck.service.providers(),
    "ready": lambda duck, _: duck.service.ready(),
    "reload": lambda duck, _: duck.service.reload(CONFIG),
    "pause": lambda duck, _: duck.service.pause_queue(paused=True),
}


@pytest.mark.parametrize("what", AFTER_THE_END)
async def test_who_asks_after_the_end_is_told_not_to_try_again(
    autojump_clock, what
) -> None:
    async with duckservice.open_service(CONFIG) as duck:
        job = await duck.submit(chat(), hold=True)
    with pytest.raises(Unavailable, match="the service has ended") as refused:
        await AFTER_THE_END[what](duck, job.id)
    assert not refused.value.retryable


BAD_TAGS = [
    ({"x": 1}, "text, not 1"),
    ({1: "a"}, "text, not 1"),
    (["x"], "mapping"),
    ({"": "a"}, "keys of tags have 1 to 64"),
    ({"k" * 65: "a"}, "keys of tags have 1 to 64"),
    ({"x": ""}, "values of tags have 1 to 256"),
    ({"x": "a" * 257}, "values of tags have 1 to 256"),
    ({"x": "a\nb"}, "control character"),
    ({str(n): "a" for n in range(17)}, "at most 16"),
]


@pytest.mark.parametrize(("tags", "why"), BAD_TAGS)
async def test_tags_that_http_refuses_are_refused_where_they_are_given(
    autojump_clock, tags, why
) -> None:
    with pytest.raises((TypeError, ValueError), match=why):
        CallOptions(tags=tags)
    async with duckservice.open_service(CONFIG) as duck:
        with pytest.raises((TypeError, ValueError), match=why):
            await duck.submit(chat(), tags=tags)
        good = {"k" * 64: "v" * 256}
        job = await duck.submit(chat(), tags=good)
        assert (await duck.wait(job.id)).tags == good


def test_tags_of_a_job_that_is_stored_do_not_crash_its_run() -> None:
    # An older version, or a header beside a body, may have stored more than 16.
    tags = {str(n): "a" for n in range(17)}
    assert CallOptions(tags=tags, job="job_1").tags == tags


def test_all_that_a_stream_yields_and_a_job_are_at_hand() -> None:
    for kind in (*get_args(duckservice.Chunk), Job):
        assert getattr(duckservice, kind.__name__) is kind
        assert kind.__name__ in dir(duckservice)


async def test_a_bug_in_a_provider_of_ones_own_comes_out_as_itself(
    autojump_clock, monkeypatch
) -> None:
    async def buggy(_: object) -> None:
        raise ZeroDivisionError

    broken, fine = MockProvider("a"), MockProvider("b")
    monkeypatch.setattr(broken, "complete", buggy)
    providers = {"a": broken, "b": fine}
    config = mock_config("a", "b")
    async with duckservice.open_service(config, providers=providers) as duck:
        with pytest.raises(ZeroDivisionError):
            await duck.complete(chat())
        assert [its["in_flight"] for its in await duck.service.providers()] == [0, 0]
        its = duck.service.parts.providers
        assert (its["a"].board.failures, its["b"].board.requests) == (1, 0)
