"""Every actor of the tree crashes once under load, as a bug in it would make it.

Sixteen clients ask two providers, half of them through the SDKs, some for streams.
At the moment of the crash requests wait for their turn, others are at the upstream
or half-way through a stream. What is promised: every caller gets an answer or a
typed error, nobody waits for ever, the other provider notices nothing, and the sums
are those of the upstreams.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence

import attrs
import openai
import pytest
import trio

from tests.e2e.running import (
    CHAT,
    Duck,
    json_answer,
    open_duck,
    openai_chat,
    openai_stream,
    post,
    provider,
)
from tests.upstream import Action, Request, Upstream, chunked, head, open_upstream

pytestmark = pytest.mark.slow

CLIENTS = 8
"""Of each provider: two in threads with the SDK, one of them for streams, and six
on raw connections, one of them for streams."""

REQUESTS = 20
"""Of each client."""

AT_ONCE = 6
"""What each provider is given at one time, so that some wait in the queue."""

TYPED = {"unavailable"}
"""What may come of a request in whose hands something has crashed."""

GONE = "connection lost"
WHOLE = json_answer(openai_chat())
STREAM = openai_stream({"content": "Hel"}, {"content": "lo!"})


@attrs.define
class ByRequest(Sequence):
    """A script that looks at the request it is to answer."""

    upstream: Upstream
    choose: Callable[[Request], list[Action]]

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, index):
        return self.choose(self.upstream.requests[index])


@attrs.define
class Side:
    """One provider: its upstream, and what its clients have got so far."""

    name: str
    upstream: Upstream
    gate: trio.Event = attrs.field(factory=trio.Event)
    """Until it is set, the upstream keeps every request waiting."""
    outcomes: list[str] = attrs.field(factory=list)
    _changed: trio.Event = attrs.field(factory=trio.Event)

    def note(self, outcome: str) -> None:
        self.outcomes.append(outcome)
        self._changed.set()
        self._changed = trio.Event()

    async def wait_for_outcomes(self, count: int) -> None:
        while len(self.outcomes) < count:
            await self._changed.wait()

    def script(self, request: Request) -> list[Action]:
        """Answer a chat when the gate opens, a stream's second half then."""
        if not json.loads(request.body).get("stream"):
            return [self.gate, WHOLE]
        begun = head(b"content-type: text/event-stream", b"transfer-encoding: chunked")
        rest = chunked(b"".join(STREAM[1:]))
        return [begun + chunked(STREAM[0], end=False), self.gate, rest]


class Load:
    """The clients of both sides, and the daemon between."""

    def __init__(self, duck: Duck, sides: Sequence[Side]) -> None:
        self.duck, self.sides = duck, sides

    async def run(self) -> None:
        """Have all clients ask all they have to ask."""
        async with trio.open_nursery() as nursery:
            for side in self.sides:
                for number in range(2):
                    nursery.start_soon(self._with_sdk, side, number == 0)
                for number in range(CLIENTS - 2):
                    nursery.start_soon(self._raw, side, number == 0)

    async def all_are_waiting(self) -> None:
        """Wait until each upstream has as many requests as it may get."""
        for side in self.sides:
            await side.upstream.wait_for_requests(AT_ONCE)

    def open_gates(self) -> None:
        for side in self.sides:
            side.gate.set()

    async def _with_sdk(self, side: Side, stream: bool) -> None:
        for _ in range(REQUESTS):
            side.note(await self.duck.openai(lambda sdk: _ask(sdk, side.name, stream)))

    async def _raw(self, side: Side, stream: bool) -> None:
        body = {"model": side.name, "messages": [], "stream": stream}
        body["messages"] = [{"role": "user", "content": "hello"}]
        data = post(CHAT, body)
        left = REQUESTS
        while left:
            async with self.duck.connection() as client:
                try:
                    while left:
                        left -= 1
                        await client.send(data)
                        status, headers = await client.head()
                        answer = await client._body(headers)
                        side.note(_outcome(status, answer, stream))
                except (EOFError, trio.BrokenResourceError):
                    side.note(GONE)


def _ask(sdk: openai.OpenAI, model: str, stream: bool) -> str:
    try:
        its = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        if not stream:
            return _said(sdk.chat.completions.create(**its).choices[0].message.content)
        chunks = sdk.chat.completions.create(**its, stream=True)
        return _said("".join(chunk.choices[0].delta.content or "" for chunk in chunks))
    except openai.APIConnectionError:
        return GONE
    except openai.APIError as error:
        return error.code
    except Exception as error:  # what the SDK's HTTP library raises in mid-stream
        if type(error).__name__ in {"RemoteProtocolError", "ReadError"}:
            return GONE
        raise


def _said(text: str) -> str:
    return "ok" if text == "Hello!" else f"a wrong answer: {text}"


def _outcome(status: int, body: bytes, stream: bool) -> str:
    if not stream or status != 200:
        return "ok" if status == 200 else json.loads(body)["error"]["code"]
    events = [event.removeprefix(b"data: ") for event in body.split(b"\n\n")]
    if b"[DONE]" in events:
        return "ok"
    return json.loads(events[-2])["error"]["code"]


def run_crash_test(path: str, check):
    """Run the load, crash *path* while all wait, and have *check* look at it."""

    async def run() -> None:
        async with (
            open_upstream([[]], limit=60) as a,
            open_upstream([[]], limit=60) as b,
        ):
            sides = Side("a", a), Side("b", b)
            configs = []
            for side in sides:
                side.upstream.script = ByRequest(side.upstream, side.script)
                configs.append(
                    provider(
                        side.name,
                        "openai",
                        side.upstream,
                        models=(side.name,),
                        max_concurrency=AT_ONCE,
                    )
                )
            async with open_duck(*configs, may_crash=True, limit=60) as duck:
                load = Load(duck, sides)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(load.run)
                    await load.all_are_waiting()
                    await check(duck, load, path)
                    load.open_gates()
                await _all_is_in_order(duck, load)

    return run()


async def _all_is_in_order(duck: Duck, load: Load) -> None:
    """Assert what holds after every crash: nobody waits, and the sums agree."""
    await duck.at_rest()
    costs = await duck.get("/v1/costs?by=provider")
    rows = {row["key"]: row for row in costs["rows"]}
    for side in load.sides:
        assert len(side.outcomes) == CLIENTS * REQUESTS
        row = rows[side.name]
        # Every attempt is in the books, once; a few never left, because there
        # was no client just then.
        attempts = [e for e in duck.events("attempt") if e["provider"] == side.name]
        unsent = sum(e["outcome"] == "unavailable" for e in attempts)
        assert row["requests"] == len(attempts)
        assert 0 <= len(attempts) - len(side.upstream.requests) <= unsent
        answered = sum(e["outcome"] == "ok" for e in attempts)
        assert row["requests"] - row["failures"] == answered
        assert side.outcomes.count("ok") == answered
    status = await duck.get("/v1/status")
    assert status["requests"]["in_flight"] == 0
    assert status["queue"]["running"] == status["queue"]["waiting"] == 0
    # What comes now finds everything as it was.
    for side in load.sides:
        assert await duck.openai(lambda sdk, side=side: _ask(sdk, side.name, False))


def restarts(duck: Duck) -> Counter:
    """Return how often each actor was started anew."""
    return Counter(
        event["actor"]
        for event in duck.events("actor.started")
        if event["incarnation"] > 1
    )


async def crash(duck: Duck, load: Load, path: str) -> None:
    await duck.restart(path)
    await restarted(duck, path)


async def restarted(duck: Duck, path: str) -> None:
    """Wait until *path* runs anew."""
    with trio.fail_after(5):
        while not restarts(duck)[path]:  # noqa: ASYNC110 - the log is all that tells
            await trio.sleep(0.001)


@pytest.mark.parametrize("path", ["cost_tracker", "request_queue"])
async def test_a_crash_of_what_all_share_fails_no_request(path):
    outcomes = []

    async def check(duck: Duck, load: Load, path: str) -> None:
        await crash(duck, load, path)
        outcomes.extend(load.sides)

    await run_crash_test(path, check)
    for side in outcomes:
        assert set(side.outcomes) == {"ok"}
        assert len(side.upstream.requests) == CLIENTS * REQUESTS + 1


@pytest.mark.parametrize(
    "path",
    [
        "providers/a/rate_limiter",
        "providers/a/circuit_breaker",
        "providers/a/client",
        "providers/a",
    ],
)
async def test_a_crash_at_one_provider_is_its_own_affair(path):
    seen = []

    async def check(duck: Duck, load: Load, path: str) -> None:
        await crash(duck, load, path)
        assert not any("/b" in actor for actor in restarts(duck))
        seen.extend(load.sides)

    await run_crash_test(path, check)
    a, b = seen
    assert set(b.outcomes) == {"ok"}
    assert len(b.upstream.requests) == CLIENTS * REQUESTS + 1
    assert set(a.outcomes) <= {"ok", *TYPED}
    # Only what was under way can have been hurt, and most of that is sent again.
    assert a.outcomes.count("ok") >= CLIENTS * REQUESTS - CLIENTS
    print(f"\n{path}: {dict(Counter(a.outcomes))}")


async def test_a_crash_of_the_gateway_is_known_at_once_and_refuses_nobody():
    seen = []

    async def check(duck: Duck, load: Load, path: str) -> None:
        async with duck.connection() as client:
            await client.send(post(f"/v1/tree/{path}/restart"))
            assert (await client.response()).status == 200
            # The gates are shut: whoever hears of it does so by the crash.
            with trio.fail_after(5):
                for side in load.sides:
                    await side.wait_for_outcomes(CLIENTS)
        for side in load.sides:
            assert side.outcomes[:CLIENTS] == [GONE] * CLIENTS
            await side.upstream.wait_until(
                lambda side=side: side.upstream.open_connections <= AT_ONCE
            )
        await restarted(duck, path)
        seen.extend(load.sides)

    await run_crash_test("gateway", check)
    for side in seen:
        assert side.outcomes.count(GONE) == CLIENTS
        assert set(side.outcomes[CLIENTS:]) == {"ok"}


ALL = (
    "cost_tracker",
    "request_queue",
    "providers/a/rate_limiter",
    "providers/b/circuit_breaker",
    "providers/a/client",
    "providers/b",
    "cost_tracker",
    "request_queue",
)


async def test_crashes_one_after_the_other_in_full_traffic_lose_nothing():
    seen = []

    async def check(duck: Duck, load: Load, _: str) -> None:
        load.open_gates()
        for number, path in enumerate(ALL, 1):
            for side in load.sides:
                await side.wait_for_outcomes(number * 12)
            await duck.restart(path)
        seen.extend(load.sides)

    await run_crash_test("", check)
    for side in seen:
        assert set(side.outcomes) <= {"ok", *TYPED}
        print(f"\n{side.name}: {dict(Counter(side.outcomes))}")
