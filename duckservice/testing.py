"""For the tests of who embeds the service: all of it in one line, over mock providers.

    async with open_mock_service({"openai": ["Because."]}) as mock:
        await my_code(mock.duck)
    assert mock.requests["openai"][0].model == "gpt-4o"

Nothing leaves the process and nothing is left behind: jobs are kept in memory, chance
comes from a seed, and the time of day goes by trio's clock, so that with
`trio.testing.MockClock` (pytest-trio's `autojump_clock`) hours pass at once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Final, TypeAlias, final

import attrs
import trio

from duckservice.completion import AnyRequest
from duckservice.config import Config, ProviderConfig
from duckservice.embedding import Duck, open_service
from duckservice.errors import DuckError
from duckservice.events import Event
from duckservice.providers.mock import MockProvider
from duckservice.providers.mock_script import MockReply, MockScript
from duckservice.tree import Seams

__all__ = [
    "BEGINNING",
    "MockProvider",
    "MockReply",
    "MockScript",
    "MockService",
    "Script",
    "open_mock_service",
]

Script: TypeAlias = MockScript | Sequence[str | MockReply | DuckError]
"""What a provider does: a whole script, or what its calls give or raise, in turn; after
that it echoes the last user text."""

BEGINNING: Final = 1_767_225_600.0
"""The time of day when the block begins, in seconds since the epoch: 2026 began then."""


@final
@attrs.frozen(kw_only=True, eq=False)
class MockService:
    """A service over mock providers, and what its test wants to look at."""

    duck: Duck
    """For the code under test: what `open_service` gives."""
    providers: Mapping[str, MockProvider]
    requests: Mapping[str, Sequence[AnyRequest]]
    """What each provider was asked, in order: its failures too, and each retry."""
    events: Sequence[Event]
    """What has happened, as `duckservice.events`."""
    began: float
    """When the block began, on trio's clock."""

    def now(self) -> float:
        """Return the service's time of day, for a job's `deadline` or `not_before`."""
        return BEGINNING + trio.current_time() - self.began


@asynccontextmanager
async def open_mock_service(
    scripts: Mapping[str, Script] | None = None,
    *,
    config: Config | None = None,
    seed: int = 0,
) -> AsyncGenerator[MockService]:
    """Run a whole service for the length of a block, over mock providers.

    *scripts* has one for each provider by its name, the preferred one first; they serve
    any model. With neither scripts nor a config it is one, ``mock``. With a *config* of
    your own, its providers are replaced, and those without a script echo. Of the models
    in `MODEL_SCRIPTS` (``mock-slow``) each has its own.

    Raises:
        ValueError: *scripts* names a provider that *config* does not have.
    """
    scripts = scripts or {}
    config = _config_of(scripts) if config is None else _in_memory(config)
    if unknown := sorted(scripts.keys() - config.providers.keys()):
        names = ", ".join(config.providers)
        msg = f"no providers {', '.join(unknown)} in the config; it has: {names}"
        raise ValueError(msg)
    requests = {name: list[AnyRequest]() for name in config.providers}
    providers = {
        name: MockProvider(
            name,
            _script_of(scripts.get(name, ())),
            models=its.models or ("*",),
            model_map=its.model_map,
            price=its.price,
            random=Random(f"{seed} {name}"),  # noqa: S311 - no secret depends on it
            on_request=requests[name].append,
        )
        for name, its in config.providers.items()
    }
    events, began = list[Event](), trio.current_time()
    seams = Seams(
        wall_clock=lambda: BEGINNING + trio.current_time() - began,
        random=Random(seed),  # noqa: S311 - no secret depends on it
        emit=events.append,
    )
    async with open_service(config, providers=providers, seams=seams) as duck:
        yield MockService(
            duck=duck,
            providers=providers,
            requests=requests,
            events=events,
            began=began,
        )


def _config_of(scripts: Mapping[str, Script]) -> Config:
    return Config(
        providers={
            name: ProviderConfig(name=name, adapter="mock", priority=priority)
            for priority, name in enumerate(scripts or ["mock"], 1)
        }
    )


def _in_memory(config: Config) -> Config:
    return attrs.evolve(
        config,
        service=attrs.evolve(config.service, state_dir=None),
        store=attrs.evolve(config.store, url="memory"),
    )


def _script_of(given: Script) -> MockScript:
    if isinstance(given, MockScript):
        return given
    if isinstance(given, str):
        # A text is a sequence of texts: each letter would be a reply.
        msg = f"a script is a MockScript or a list of replies, not {given!r}"
        raise TypeError(msg)
    replies, errors = list[MockReply](), dict[int, DuckError]()
    for number, each in enumerate(given, 1):
        match each:
            case DuckError():
                errors[number] = each
            case MockReply():
                replies.append(each)
            case _:
                replies.append(MockReply(text=each))
    return MockScript(replies=tuple(replies), errors=errors)
