"""Takes a config over that was read again, while requests are under way.

    prepare   make what is new: providers, the parts of the tree that guard them,
              budgets and what was spent of them; what fails here changes nothing
    take over in one step without a checkpoint: no request sees half of it
    retire    what was replaced ends when nobody uses it any more (`retirement`)

Requests under way go on as they were begun: with the provider, the key and the price
that they have. What was granted, spent and found out about a provider stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol, final

import attrs
import trio

from duckservice.actors.circuit_breaker import CircuitBreaker
from duckservice.actors.rate_limiter import RateLimiter
from duckservice.actors.request_queue import RequestQueue
from duckservice.calls.asking import tell
from duckservice.config import Config, ProviderConfig, keys_of
from duckservice.core.budget_rule import BudgetRule
from duckservice.errors import InvalidRequest, Unavailable
from duckservice.providers.base import Provider
from duckservice.reloading.changes import Changes, changes
from duckservice.reloading.retirement import Retirement, end_parts
from duckservice.tree import (
    Guarded,
    Parts,
    Seams,
    limits_of,
    make_guarded,
    policy_of,
    provider_spec,
)
from supervisors import ActorStopped, SupervisionError

WITHIN = 10.0
"""Seconds that the tree and the store have for what a reload needs."""


class ProviderMaker(Protocol):
    """Makes providers of their configs; both raise `ValueError`, free of secrets."""

    def make(self, config: ProviderConfig) -> Provider:
        """Return a provider with connections of its own; nothing is sent yet."""
        ...

    def renew(self, old: Provider, config: ProviderConfig) -> Provider:
        """Return a provider of another config, over the connections of *old*.

        It has connections of its own where the config says another way to them.
        """
        ...


@attrs.frozen(kw_only=True)
class _Prepared:
    """What is ready to be taken over."""

    found: Changes
    guarded: Mapping[str, Guarded]
    """All providers from now on."""
    added: Sequence[Guarded]
    made: Mapping[str, Provider]
    """By the names of those that are there already."""
    moved: frozenset[str]
    """Of those: which are elsewhere now."""
    budgets: Sequence[BudgetRule]


@final
@attrs.define(eq=False)
class Renewal:
    """Changes a running service's config."""

    parts: Parts
    seams: Seams
    retirement: Retirement
    maker: ProviderMaker | None
    """None: the providers were given to us, and are what they are."""
    config: Callable[[], Config]
    """Returns the one that holds."""
    on_change: Callable[[Changes], None]
    """Is told of the new one, in the step in which all of it is taken over."""

    async def take_over(self, new: Config) -> Changes:
        """Take over what *new* changes; all of it or, if it raises, nothing.

        Raises:
            InvalidRequest: a provider cannot be made from it.
            Unavailable: the tree or the store did not do its part in time.
        """
        with trio.move_on_after(WITHIN):
            async with self.retirement.ending:
                found = changes(self.config(), new)
                if self.maker is None and (found.added or found.removed):
                    msg = "providers that are made in Python come and go with a restart"
                    raise InvalidRequest(msg)
                self._take_over(await self._prepare(found))
                return found
        msg = f"a reload was not ready within {WITHIN:g} s; nothing has changed"
        raise Unavailable(msg, retry_after=1.0)

    # Prepare.

    async def _prepare(self, found: Changes) -> _Prepared:
        there, back = self._there(found)
        moved = frozenset(found.moved) | {
            name
            for name, its in back.items()
            if its.config != found.config.providers[name]
        }
        made, added = self._made(found, there, moved)
        started = list[Guarded]()
        try:
            for guarded in added:
                started.append(guarded)
                await self._start(guarded)
            budgets = await self.parts.budgets.bind(
                found.config.budgets, self.parts.ledger, self._own_name(made, added)
            )
        except BaseException:
            with trio.move_on_after(WITHIN, shield=True), suppress(ActorStopped):
                for guarded in started:
                    await end_parts(self.parts, guarded.board.name)
            raise
        new = {its.board.name: its for its in added}
        return _Prepared(
            found=found,
            guarded={
                name: new.get(name) or there[name] for name in found.config.providers
            },
            added=added,
            made=made,
            moved=moved,
            budgets=budgets,
        )

    def _there(self, found: Changes) -> tuple[dict[str, Guarded], dict[str, Guarded]]:
        """Return who is there already, and of those who was about to end."""
        leaving = {its.board.name: its for its in self.retirement.leaving()}
        back = {name: leaving[name] for name in found.added if name in leaving}
        return {**self.parts.providers, **back}, back

    def _made(
        self, found: Changes, there: Mapping[str, Guarded], moved: frozenset[str]
    ) -> tuple[dict[str, Provider], list[Guarded]]:
        maker, made, added = self.maker, dict[str, Provider](), list[Guarded]()
        if maker is None:
            return made, added
        for name, its in found.config.providers.items():
            try:
                if name not in there:
                    make = partial(maker.make, its)
                    added.append(make_guarded(its, make, whole=found.config))
                elif name in moved:
                    made[name] = maker.make(its)
                elif name in found.renewed:
                    made[name] = maker.renew(there[name].provider, its)
            except ValueError as error:
                msg = f"providers.{name}: {error}"
                raise InvalidRequest(msg) from error
        return made, added

    async def _start(self, guarded: Guarded) -> None:
        spec = provider_spec(guarded, self.parts.board, self.seams)
        try:
            await self.parts.providers_root.start_child(spec)
        except SupervisionError as error:
            msg = f"provider {guarded.board.name!r} cannot be started: {error}"
            raise Unavailable(msg) from error

    def _own_name(
        self, made: Mapping[str, Provider], added: Sequence[Guarded]
    ) -> Callable[[str, str], str]:
        new = {**made, **{its.board.name: its.provider for its in added}}

        def own_name(provider: str, model: str) -> str:
            if provider in new:
                return new[provider].own_name(model)
            return self.parts.own_name(provider, model)

        return own_name

    # Take over.

    def _take_over(self, its: _Prepared) -> None:
        parts, found, now = self.parts, its.found, trio.current_time()
        leaving = [parts.providers[name] for name in found.removed]
        for name, guarded in its.guarded.items():
            self.retirement.recall(guarded)
            config, moved = found.config.providers[name], name in its.moved
            if guarded not in its.added:
                self._relimit(guarded, config, now, found.config, moved=moved)
            if guarded.config != config and guarded not in its.added:
                self._tune(guarded, config, moved=moved)
                if name in its.made:
                    apart = moved or name in found.rerouted
                    self._give(guarded, config, its.made[name], apart=apart)
                guarded.config = config
        parts.providers = its.guarded
        board = parts.board
        board.providers = {
            **board.providers,
            **{name: guarded.board for name, guarded in its.guarded.items()},
        }
        board.queue_max = found.config.queue.max_size
        tell(self.seams.emit, lambda: parts.queue.cast(RequestQueue.refresh))
        parts.budgets.change(found.config.budgets)
        for guarded in leaving:
            self.retirement.retire(guarded)
        self.retirement.keep_tree()
        self.on_change(found)

    def _relimit(
        self,
        guarded: Guarded,
        config: ProviderConfig,
        now: float,
        whole: Config,
        *,
        moved: bool,
    ) -> None:
        """Have its limiter go by other limits, in which *whole* has a part, too."""
        board = guarded.board
        limits, kept = limits_of(config, whole), _kept(guarded.config, config)
        if moved or limits != board.limits or kept != list(range(len(kept))):
            board.relimit(now, limits, kept, elsewhere=moved)
            limiter = guarded.limiter
            tell(self.seams.emit, lambda: limiter.cast(RateLimiter.tick))

    def _tune(self, guarded: Guarded, config: ProviderConfig, *, moved: bool) -> None:
        """Have its actors go by another config; of another server nothing is known."""
        board, emit = guarded.board, self.seams.emit
        board.max_concurrency = config.max_concurrency
        board.policy = policy_of(config)
        board.by_model = config.breaker.scope == "model"
        if moved:
            board.forget()
            tell(emit, lambda: guarded.breaker.cast(CircuitBreaker.start_over))
        elif config.breaker.scope != guarded.config.breaker.scope:
            tell(emit, lambda: guarded.breaker.cast(CircuitBreaker.change_scope))

    def _give(
        self,
        guarded: Guarded,
        config: ProviderConfig,
        provider: Provider,
        *,
        apart: bool,
    ) -> None:
        """Have it use *provider*, whose connections are the same or *apart*."""
        assert self.maker is not None, "it has made the provider"
        make = partial(self.maker.make, config)
        if not apart:
            guarded.client.renew(make, provider)
            return
        left = guarded.client.replace(make, provider)
        if left is not None:
            self.retirement.close_later(guarded, left)


def _kept(old: ProviderConfig, new: ProviderConfig) -> list[int | None]:
    """Return where each of the new keys was among the old ones; None: nowhere."""
    place = {key: number for number, key in enumerate(keys_of(old))}
    return [place.get(key) for key in keys_of(new)]
