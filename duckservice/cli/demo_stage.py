"""What `duck demo` plays: a service on a real socket, its clients, and a saboteur.

Three providers serve one model. One fails most of the time, so its breaker opens;
one is healthy; one is slow. Clients ask through the socket as any program would:
what is refused for the moment, or broken off, is asked again a few times, and a
request is lost only if it never gets its reply.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

import attrs
import trio

from duckservice.calls.call import Priority
from duckservice.config import (
    BreakerConfig,
    Config,
    ProviderConfig,
    RetryConfig,
)
from duckservice.daemon import open_daemon
from duckservice.events import AttemptEnded, Event
from duckservice.gateway.client import (
    DaemonClient,
    DaemonError,
    DaemonNotRunning,
    DaemonUnreachable,
)
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockScript
from duckservice.tree import Seams
from supervisors import ChildStarted

Json: TypeAlias = dict[str, Any]

MODEL: Final = "duck-1"
CLIENTS: Final = 40
_CRASH_EVERY: Final = 0.3
_LOOK_EVERY: Final = 0.15
_TRIES_MAX: Final = 20
_PAUSE_MAX: Final = 0.5
_TIMEOUT: Final = 10.0
_SEED: Final = 7

_SCRIPTS: Final = {
    "failing": MockScript(latency=0.05, failure_rate=0.7),
    "healthy": MockScript(latency=0.15),
    "slow": MockScript(latency=0.9),
}
_CONCURRENCY: Final = {"failing": 8, "healthy": 12, "slow": 8}


@attrs.define
class Tally:
    """What has happened so far."""

    submitted: int = 0
    completed: int = 0
    lost: int = 0
    asked_again: int = 0
    failovers: int = 0
    crashes: int = 0
    seconds: float = 0.0
    spend: Decimal = Decimal(0)
    by_provider: Counter[str] = attrs.field(factory=Counter[str])
    by_priority: Counter[str] = attrs.field(factory=Counter[str])
    restarts: Counter[str] = attrs.field(factory=Counter[str])

    def as_json(self) -> Json:
        """Return the summary as data."""
        return {
            "submitted": self.submitted,
            "completed": self.completed,
            "lost": self.lost,
            "asked_again": self.asked_again,
            "crashes": self.crashes,
            "restarts": dict(self.restarts),
            "failovers": self.failovers,
            "completed_by_provider": dict(self.by_provider),
            "completed_by_priority": dict(self.by_priority),
            "spend_usd": str(self.spend),
            "seconds": round(self.seconds, 1),
        }


class Picture(Protocol):
    """Shows the play while it runs."""

    def show(self, tally: Tally, total: int, status: Json, tree: Json, /) -> None:
        """Show the present state."""
        ...

    def close(self) -> None:
        """Show no more."""
        ...


async def play(requests: int, picture: Picture, tally: Tally) -> None:
    """Run the demo to its end, and count in *tally* what happens."""
    start = trio.current_time()
    seams = Seams(emit=_Witness(tally))
    try:
        with tempfile.TemporaryDirectory(prefix="duck-demo-") as directory:
            socket = Path(directory, "duckd.sock")
            async with open_daemon(
                _config(), socket, providers=_providers(), seams=seams
            ):
                await _perform(_Stage(DaemonClient(socket), tally, picture), requests)
    finally:
        picture.close()
    tally.seconds = trio.current_time() - start


def _config() -> Config:
    providers = {
        name: ProviderConfig(
            name=name,
            adapter="mock",
            models=(MODEL,),
            # It is asked first, so that there is something to fail over from.
            priority=1 if name == "failing" else 2,
            max_concurrency=concurrency,
            breaker=BreakerConfig(reset_timeout=0.5, success_threshold=1),
        )
        for name, concurrency in _CONCURRENCY.items()
    }
    return Config(
        providers=providers,
        retry=RetryConfig(base_delay=0.05, max_delay=0.2),
    )


def _providers() -> dict[str, MockProvider]:
    return {
        name: MockProvider(name, script, models=(MODEL,))
        for name, script in _SCRIPTS.items()
    }


@attrs.define
class _Witness:
    """Counts what the service says of itself: restarts and failovers."""

    tally: Tally
    _failed_at: dict[str, str] = attrs.field(factory=dict[str, str])
    """The provider that failed last, by job."""

    def __call__(self, event: Event) -> None:
        match event:
            case ChildStarted(path, incarnation) if incarnation > 1:
                self.tally.restarts[path] += 1
            case AttemptEnded(outcome="ok"):
                failed_at = self._failed_at.pop(event.job, event.provider)
                self.tally.failovers += failed_at != event.provider
            case AttemptEnded():
                self._failed_at[event.job] = event.provider
            case _:
                pass


@attrs.frozen
class _Stage:
    client: DaemonClient
    tally: Tally
    picture: Picture
    _threads: trio.CapacityLimiter = attrs.field(
        factory=partial(trio.CapacityLimiter, CLIENTS + 2)
    )

    async def send(
        self,
        method: str,
        target: str,
        body: Json | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[Any, Mapping[str, str]]:
        """Return the decoded answer and its headers."""
        answer = await trio.to_thread.run_sync(
            partial(self.client.request, method, target, body, headers, _TIMEOUT),
            abandon_on_cancel=True,
            limiter=self._threads,
        )
        return answer.json(), answer.headers


async def _perform(stage: _Stage, requests: int) -> None:
    jobs = _jobs(requests)
    async with trio.open_nursery() as around:
        around.start_soon(_crash_actors, stage)
        around.start_soon(_look, stage, requests)
        async with trio.open_nursery() as clients:
            for _ in range(min(CLIENTS, requests)):
                clients.start_soon(_ask_all, stage, jobs)
        around.cancel_scope.cancel()


@attrs.frozen
class _Job:
    number: int
    priority: Priority

    @property
    def text(self) -> str:
        return f"quack number {self.number}"


def _jobs(requests: int) -> Iterator[_Job]:
    dice = random.Random(_SEED)  # noqa: S311 - a play, and the same one every time
    priorities: tuple[Priority, ...] = ("high", "normal", "low")
    for number in range(requests):
        [priority] = dice.choices(priorities, weights=(2, 5, 3))
        yield _Job(number, priority)


async def _ask_all(stage: _Stage, jobs: Iterator[_Job]) -> None:
    """Be one client: ask until there is nothing left to ask."""
    tally = stage.tally
    for job in jobs:
        tally.submitted += 1
        if await _ask(stage, job):
            tally.completed += 1
            tally.by_priority[job.priority] += 1
        else:
            tally.lost += 1


async def _ask(stage: _Stage, job: _Job) -> bool:
    """Ask until the right reply is here; say whether it ever was."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": job.text}]}
    for attempt in range(_TRIES_MAX):
        try:
            reply, headers = await stage.send(
                "POST", "/v1/chat/completions", body, {"Duck-Priority": job.priority}
            )
        except (DaemonUnreachable, DaemonNotRunning):
            pass  # the gateway was crashed while it had the request
        except DaemonError as error:
            if error.status < 500 and error.status != 429:
                return False
        else:
            stage.tally.spend += Decimal(headers.get("duck-cost-usd", "0"))
            stage.tally.by_provider[headers["duck-provider"]] += 1
            return bool(reply["choices"][0]["message"]["content"] == job.text)
        stage.tally.asked_again += 1
        await trio.sleep(min(_PAUSE_MAX, 0.05 * 2**attempt))
    return False


async def _crash_actors(stage: _Stage) -> None:
    """Crash one actor after the other, each in its turn, for as long as it lasts."""
    turn = 0
    while True:
        await trio.sleep(_CRASH_EVERY)
        try:
            tree, _ = await stage.send("GET", "/v1/tree")
            paths = list(_workers(tree))
            await stage.send("POST", f"/v1/tree/{paths[turn % len(paths)]}/restart")
            stage.tally.crashes += 1
        except (DaemonError, DaemonUnreachable, DaemonNotRunning):
            stage.tally.crashes += 1  # it was the gateway's own turn
        turn += 1


def _workers(node: Json) -> Iterator[str]:
    if node["kind"] == "worker":
        yield node["path"]
    for inner in node.get("children", ()):
        yield from _workers(inner)


async def _look(stage: _Stage, requests: int) -> None:
    """Show how it goes; whoever looks while something is down looks again."""
    while True:
        try:
            status, _ = await stage.send("GET", "/v1/status")
            tree, _ = await stage.send("GET", "/v1/tree")
        except (DaemonError, DaemonUnreachable, DaemonNotRunning):
            pass
        else:
            stage.picture.show(stage.tally, requests, status, tree)
        await trio.sleep(_LOOK_EVERY)
