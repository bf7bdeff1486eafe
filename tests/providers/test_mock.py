"""The mock provider: it does what it is told, the same every time."""

import math
import struct
import zlib
from base64 import b64decode
from contextlib import AbstractAsyncContextManager
from random import Random

import attrs
import pytest
import trio
from hypothesis import given, strategies as st

from duckservice.completion import (
    ChatRequest,
    EmbeddingRequest,
    Finished,
    ImageRequest,
    Message,
    Started,
    TextDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    UsageReport,
)
from duckservice.config import PriceConfig
from duckservice.errors import (
    BadProviderResponse,
    InvalidRequest,
    ProviderError,
    RateLimited,
)
from duckservice.providers.base import Provider
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MODEL_SCRIPTS, MockReply, MockScript

CALL = ToolCall(id="call-9", name="weather", arguments='{"city": "Bonn"}')


def ask(text="Hello, little duck", model="mock-1", **more):
    return ChatRequest(model=model, messages=(Message.of("user", text),), **more)


async def chunks_of(provider, request):
    async with provider.stream(request) as batches:
        return [chunk async for batch in batches for chunk in batch]


def test_it_is_a_provider():
    provider: Provider = MockProvider("duck")
    assert provider.name == "duck"
    assert isinstance(provider.stream(ask()), AbstractAsyncContextManager)


async def test_by_default_it_echoes_the_last_user_text():
    messages = [("user", "first"), ("user", "second"), ("assistant", "no")]
    request = ChatRequest(
        model="mock-1", messages=tuple(Message.of(*message) for message in messages)
    )
    assert (await MockProvider("duck").complete(request)).text == "second"


async def test_scripted_replies_come_in_turn_and_then_the_echo():
    script = MockScript(replies=(MockReply(text="one"), MockReply(text="two")))
    provider = MockProvider("duck", script)
    texts = [(await provider.complete(ask("echo"))).text for _ in range(3)]
    assert texts == ["one", "two", "echo"]


@given(st.text(), st.integers(1, 3), st.one_of(st.none(), st.integers(0, 20)))
def test_a_stream_adds_up_to_the_completion(text, n, max_tokens):
    async def main():
        request = ask(text, n=n, max_tokens=max_tokens)
        whole = await MockProvider("duck").complete(request)
        chunks = await chunks_of(MockProvider("duck"), request)
        assert chunks[0] == Started(id=whole.id, model="mock-1")
        assert chunks[-1] == UsageReport(usage=whole.usage)
        assert chunks[-1 - n : -1] == [
            Finished(
                reason=c.finish_reason, native_reason=c.finish_reason, choice=c.index
            )
            for c in whole.choices
        ]
        for choice in whole.choices:
            deltas = [c for c in chunks if isinstance(c, TextDelta)]
            joined = "".join(c.text for c in deltas if c.choice == choice.index)
            assert joined == choice.text
        if max_tokens is not None:
            assert whole.usage.output_tokens <= n * max_tokens

    trio.run(main)


async def test_tools_are_called_if_the_script_says_so_and_the_request_has_them():
    script = MockScript(replies=(MockReply(text="wait", tool_calls=(CALL,)),) * 3)
    provider = MockProvider("duck", script)
    assert not (await provider.complete(ask())).choices[0].tool_calls
    request = ask(tools=(Tool(name="weather"),))
    choice = (await provider.complete(request)).choices[0]
    assert (choice.text, choice.tool_calls) == ("wait", (CALL,))
    assert choice.finish_reason == "tool_calls"
    chunks = await chunks_of(provider, request)
    assert [c for c in chunks if isinstance(c, ToolCallDelta)] == [
        ToolCallDelta(index=0, id="call-9", name="weather"),
        ToolCallDelta(index=0, arguments='{"city": "Bonn"}'),
    ]


async def test_latency_comes_before_the_answer_and_a_pause_before_each_further_word(
    autojump_clock,
):
    provider = MockProvider("duck", MockScript(latency=1.0, chunk_interval=0.5))
    async with provider.stream(ask("one two three")) as batches:
        times = [
            (trio.current_time(), type(batch[0]).__name__) async for batch in batches
        ]
    start = times[0][0]
    assert [(round(at - start, 3), what) for at, what in times] == [
        (0.0, "Started"),
        (0.0, "TextDelta"),
        (0.5, "TextDelta"),
        (1.0, "TextDelta"),
        (1.0, "Finished"),
        (1.0, "UsageReport"),
    ]
    before = trio.current_time()
    await provider.complete(ask())
    assert trio.current_time() - before == 1.0


async def test_time_passes_only_through_the_sleep_it_is_given():
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        await trio.lowlevel.checkpoint()

    provider = MockProvider("duck", MockScript(latency=3600.0), sleep=sleep)
    await provider.complete(ask())
    await provider.health_check()
    assert slept == [3600.0, 3600.0]


async def outcomes(provider, calls=100):
    results = []
    for _ in range(calls):
        try:
            await provider.complete(ask())
            results.append(True)
        except ProviderError as error:
            results.append(not (error.provider == "duck" and error.retryable))
    return results


async def test_failures_come_at_their_rate_and_the_same_for_the_same_seed():
    script = MockScript(failure_rate=0.3)
    first = await outcomes(MockProvider("duck", script, random=Random(1)))
    again = await outcomes(MockProvider("duck", script, random=Random(1)))
    other = await outcomes(MockProvider("duck", script, random=Random(2)))
    assert first == again != other
    assert 15 <= first.count(False) <= 45
    assert all(await outcomes(MockProvider("duck")))
    assert not any(await outcomes(MockProvider("duck", MockScript(failure_rate=1.0))))


async def test_scripted_errors_come_at_their_calls_each_time_a_new_one():
    slow_down = RateLimited("slow down", retry_after=2.0)
    provider = MockProvider("duck", MockScript(errors={1: slow_down, 3: slow_down}))
    seen = []
    for _ in range(4):
        try:
            async with provider.stream(ask()):
                seen.append(None)
        except RateLimited as error:
            seen.append(error)
    assert (seen[2].retry_after, seen[2].provider) == (2.0, "duck")
    assert [error is not None for error in seen] == [True, False, True, False]
    assert seen[0] is not seen[2]
    assert slow_down.provider is None
    assert slow_down.__traceback__ is None


@pytest.mark.parametrize("cut_after", [0, 1, 2, 3, 10])
async def test_a_stream_may_be_cut_off_and_then_has_no_end(cut_after):
    provider = MockProvider("duck", MockScript(cut_after=cut_after))
    seen = []
    async with provider.stream(ask("one two three")) as batches:
        with pytest.raises(BadProviderResponse):
            async for batch in batches:
                seen.extend(batch)
    assert [type(chunk) for chunk in seen] == [Started] + [TextDelta] * min(
        cut_after, 3
    )


@pytest.mark.parametrize("model", MODEL_SCRIPTS)
async def test_a_model_s_name_decides_over_the_script(model, autojump_clock):
    provider = MockProvider(
        "duck",
        MockScript(replies=(MockReply(text="scripted"),)),
        models=("gpt-4o",),
        model_map={"gpt-4o": model, "fast": model},
    )
    before = trio.current_time()
    results = {}
    for alias in ("gpt-4o", "fast"):
        try:
            request = ask("a b c d", alias, tools=(Tool(name="t"),))
            chunks = await chunks_of(provider, request)
            results[alias] = "".join(c.text for c in chunks if isinstance(c, TextDelta))
        except ProviderError as error:
            results[alias] = type(error)
    seconds = trio.current_time() - before
    match model:
        case "mock-echo":
            assert results == {"gpt-4o": "a b c d", "fast": "a b c d"}
        case "mock-slow":
            assert seconds == pytest.approx(2 * 2.3)
        case "mock-fail":
            assert set(results.values()) == {ProviderError}
        case "mock-flaky":
            assert len(set(await outcomes_of(provider))) == 2
        case "mock-cut":
            assert set(results.values()) == {BadProviderResponse}
        case "mock-tools":
            assert set(results.values()) == {""}
        case _:
            pytest.fail(f"{model} has no test")


async def outcomes_of(provider):
    results = []
    for _ in range(20):
        try:
            results.append((await provider.complete(ask(model="fast"))).text)
        except ProviderError:
            results.append(None)
    return results


async def test_embeddings_depend_on_the_input_alone_and_have_length_one():
    request = EmbeddingRequest(model="mock-1", input=("duck", "goose", "duck", (1, 2)))
    first = await MockProvider("duck").embed(request)
    again = await MockProvider("goose").embed(request)
    assert first.vectors == again.vectors
    duck, goose, same, tokens = first.vectors
    assert duck == same
    assert len({duck, goose, tokens}) == 3
    assert all(math.isclose(math.hypot(*vector), 1.0) for vector in first.vectors)
    assert first.usage.input_tokens == 6


@pytest.mark.parametrize("dimensions", [1, 3, 4096])
async def test_embeddings_have_the_dimensions_asked_for(dimensions):
    request = EmbeddingRequest(model="m", input=("duck",), dimensions=dimensions)
    [vector] = (await MockProvider("duck").embed(request)).vectors
    assert len(vector) == dimensions


@pytest.mark.parametrize("dimensions", [0, -1, 4097])
async def test_absurd_dimensions_are_refused_by_name(dimensions):
    request = EmbeddingRequest(model="m", input=("duck",), dimensions=dimensions)
    with pytest.raises(InvalidRequest) as caught:
        await MockProvider("duck").embed(request)
    assert caught.value.param == "dimensions"


async def test_pictures_are_png_and_depend_on_the_prompt_alone():
    request = ImageRequest(model="mock-1", prompt="a duck", n=2)
    first = await MockProvider("duck").generate_images(request)
    again = await MockProvider("goose").generate_images(request)
    assert first.images == again.images
    one, two = (b64decode(picture.data) for picture in first.images)
    assert one != two
    assert one[:8] == b"\x89PNG\r\n\x1a\n"
    assert one[12:16] == b"IHDR"
    assert struct.unpack(">II", one[16:24]) == (8, 8)
    chunks = dict(png_chunks(one))
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    rows = zlib.decompress(chunks[b"IDAT"])
    assert len(rows) == 8 * (1 + 3 * 8)
    assert len({rows[1 + i : 4 + i] for i in range(0, 24, 3)}) == 1


def png_chunks(data):
    at = 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 8 : at + 8 + length]
        (check,) = struct.unpack_from(">I", data, at + 8 + length)
        assert check == zlib.crc32(data[at + 4 : at + 8 + length])
        yield data[at + 4 : at + 8], body
        at += 12 + length


async def test_pictures_take_what_they_are_bounded_by():
    provider = MockProvider("duck")
    request = ImageRequest(model="mock-1", prompt="a duck", n=3)
    usage = (await provider.generate_images(request)).usage
    assert usage == provider.image_bound(request)
    assert usage.image_tokens == usage.output_tokens > 0


async def test_pictures_fail_as_scripted():
    script = MockScript(errors={1: RateLimited("slow down")})
    provider = MockProvider("duck", script)
    request = ImageRequest(model="mock-1", prompt="a duck")
    with pytest.raises(RateLimited) as caught:
        await provider.generate_images(request)
    assert caught.value.provider == "duck"
    assert (await provider.generate_images(request)).images
    with pytest.raises(ProviderError):
        await provider.generate_images(attrs.evolve(request, model="mock-fail"))


@pytest.mark.parametrize("n", [0, 11])
async def test_an_absurd_number_of_pictures_is_refused_by_name(n):
    with pytest.raises(InvalidRequest) as caught:
        await MockProvider("duck").generate_images(
            ImageRequest(model="mock-1", prompt="a duck", n=n)
        )
    assert caught.value.param == "n"


@pytest.mark.parametrize("n", [0, -1, 129])
def test_an_absurd_number_of_choices_is_refused_by_name(n):
    with pytest.raises(InvalidRequest) as caught:
        MockProvider("duck").check(ask(n=n))
    assert caught.value.param == "n"


async def test_models_are_those_configured():
    provider = MockProvider("duck", models=("gpt-4o", "claude-*"))
    assert [
        m for m in ("gpt-4o", "claude-3", "mock-1") if provider.supports_model(m)
    ] == [
        "gpt-4o",
        "claude-3",
    ]
    assert [info.id for info in await provider.list_models()] == ["gpt-4o"]
    assert {info.id for info in await MockProvider("duck").list_models()} == set(
        MODEL_SCRIPTS
    )


async def test_tokens_are_counted_and_priced():
    request = ask("x" * 400)
    provider = MockProvider("duck", price=PriceConfig(input="2.5", output="10"))
    counted = await provider.count_tokens(request)
    usage = (await provider.complete(request)).usage
    assert usage.input_tokens == counted.input_tokens == 104
    assert usage.output_tokens == 100
    expected = 104 * 2_500_000 + 100 * 10_000_000
    assert provider.estimate_cost(usage, "mock-1") == expected
    assert MockProvider("duck").estimate_cost(usage, "mock-1") > 0


async def test_a_health_check_is_no_call_and_costs_none_of_the_failures():
    script = MockScript(errors={1: RateLimited("slow down")})
    provider = MockProvider("duck", script)
    assert (await provider.health_check()).healthy
    with pytest.raises(RateLimited):
        await provider.complete(ask())
    broken = MockProvider("duck", MockScript(failure_rate=1.0))
    assert not (await broken.health_check()).healthy


@pytest.mark.parametrize(
    "wrong",
    [
        {"latency": -1.0},
        {"failure_rate": 1.1},
        {"chunk_interval": -0.1},
        {"cut_after": -1},
    ],
)
def test_a_script_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        MockScript(**wrong)
