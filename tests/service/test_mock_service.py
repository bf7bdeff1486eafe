"""What `duckservice.testing` gives to the tests of an embedding program."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest
import trio

from duckservice.completion import EmbeddingRequest, ImageRequest
from duckservice.errors import NoAvailableProvider, ProviderError, RateLimited
from duckservice.testing import MockReply, MockScript, open_mock_service

from .conftest import chat, mock_config


async def test_without_a_word_it_echoes_any_model(autojump_clock) -> None:
    async with open_mock_service() as mock:
        assert (await mock.duck.complete(chat("quack", model="gpt-4o"))).text == "quack"
        assert list(mock.providers) == ["mock"]


async def test_replies_and_errors_come_in_turn(autojump_clock) -> None:
    script = ["one", RateLimited("not now"), MockReply(text="two"), "three"]
    async with open_mock_service({"a": script}) as mock:
        said = [(await mock.duck.complete(chat("echo"))).text for _ in range(4)]
        assert said == ["one", "two", "three", "echo"]
        assert len(mock.requests["a"]) == 5, "the retry is one of them"


async def test_the_first_name_is_preferred_and_what_each_was_asked_is_seen(
    autojump_clock,
) -> None:
    broken = MockScript(failure_rate=1.0)
    async with open_mock_service({"z": broken, "a": ["fine"]}) as mock:
        assert (await mock.duck.complete(chat("x"))).text == "fine"
        await mock.duck.embed(EmbeddingRequest(model="e", input=("quack",)))
        await mock.duck.generate_images(ImageRequest(model="i", prompt="a duck"))
        async with mock.duck.stream(chat("y")) as chunks:
            async for _ in chunks:
                pass
    for name in ("z", "a"):
        kinds = [type(request).__name__ for request in mock.requests[name]]
        asked = ["ChatRequest", "EmbeddingRequest", "ImageRequest", "ChatRequest"]
        assert kinds == asked


async def outcomes(seed: int) -> list[object]:
    flaky = MockScript(failure_rate=0.5)
    async with open_mock_service({"a": flaky, "b": flaky}, seed=seed) as mock:
        for _ in range(10):
            try:
                await mock.duck.complete(chat())
            except (NoAvailableProvider, ProviderError):
                await trio.sleep(1)
    return [its for its in mock.events if "job_" in repr(its)]


async def test_chance_is_the_seeds(autojump_clock) -> None:
    first, again, other = [
        re.sub(r"\d+\.\d+", "_", repr(await outcomes(s))) for s in (1, 1, 2)
    ]
    assert "attempt" in first
    assert first == again
    assert first != other


async def test_a_jobs_time_of_day_goes_by_trios_clock(autojump_clock) -> None:
    async with open_mock_service() as mock:
        began = trio.current_time()
        job = await mock.duck.submit(chat(), not_before=mock.now() + 3600)
        assert (await mock.duck.wait(job.id)).state == "completed"
        assert 3600 <= trio.current_time() - began < 3700


async def test_a_config_of_ones_own_keeps_all_but_its_providers_and_its_files(
    autojump_clock, tmp_path: Path
) -> None:
    config = mock_config("a", "b", models=("gpt-*",))
    service = attrs.evolve(config.service, state_dir=tmp_path)
    config = attrs.evolve(config, service=service)
    async with open_mock_service({"b": ["from b"]}, config=config) as mock:
        assert (await mock.duck.complete(chat("echo", model="gpt-4o"))).text == "echo"
        await mock.duck.submit(chat(model="gpt-4o"))
        assert mock.providers.keys() == {"a", "b"}
    assert not [*map(str, await trio.Path(tmp_path).iterdir())]
    with pytest.raises(ValueError, match="no providers c in the config; it has: a, b"):
        async with open_mock_service({"c": []}, config=config):
            pass


async def test_one_text_in_place_of_a_list_is_refused(autojump_clock) -> None:
    with pytest.raises(TypeError, match=r"a list of replies, not 'Because\.'"):
        async with open_mock_service({"a": "Because."}):
            pass
