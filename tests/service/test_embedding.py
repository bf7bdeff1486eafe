"""The service inside of another trio program."""

from __future__ import annotations

import pytest
import structlog
import trio

import duckservice
from duckservice.completion import EmbeddingRequest, TextDelta
from duckservice.embedding import Duck
from duckservice.errors import NotFound
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
