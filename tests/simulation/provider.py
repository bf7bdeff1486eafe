"""A simulated provider in the place of an adapter: the `Provider` protocol over it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import final

import attrs
import trio

from duckservice.completion import (
    AnyRequest,
    ChatRequest,
    Choice,
    Chunk,
    Completion,
    EmbeddingRequest,
    Embeddings,
    Finished,
    HealthReport,
    ImageRequest,
    Images,
    ModelInfo,
    Started,
    TextDelta,
    TextPart,
    Usage,
    UsageReport,
)
from duckservice.config import TimeoutConfig
from duckservice.core.pricing import cost
from duckservice.errors import (
    InvalidRequest,
    ProviderError,
    ProviderTimeout,
    RateLimited,
)
from duckservice.providers.capabilities import Capabilities
from duckservice.providers.estimate import prompt_tokens
from duckservice.providers.prices import Quote, Tariff
from tests.simulation.load import Order, order_id
from tests.simulation.upstream import Failed, Limited, Refused, Seen, Upstream

_CAN = Capabilities(hidden_prompt_tokens=0)
_PIECES = 3
"""So many pieces of text a stream has."""
_FIRST = 0.3
"""The share of the time that passes before the first of them."""


@final
@attrs.define(eq=False)
class SimProvider:
    """What the service, or a plain client, talks to."""

    upstream: Upstream
    orders: Mapping[int, Order]
    timeout: TimeoutConfig

    @property
    def name(self) -> str:
        """The name of the provider's table in the config."""
        return self.upstream.traits.name

    @property
    def capabilities(self) -> Capabilities:
        """Say that it adds nothing to a prompt."""
        return _CAN

    def supports_model(self, model: str) -> bool:
        """Say whether *model* is served here."""
        return model in self.upstream.traits.models

    def names_model(self, model: str) -> bool:
        """Say the same: there are no globs here."""
        return self.supports_model(model)

    def own_name(self, model: str) -> str:
        """Return *model*: there are no aliases here."""
        return model

    def check(self, request: AnyRequest) -> None:
        """Refuse nothing."""

    async def complete(self, request: ChatRequest) -> Completion:
        """Return the whole reply."""
        seen = self._arrive(request)
        with self._billing(seen):
            takes = await self._head(seen, share=1.0)
            if takes > 0:
                await trio.sleep(takes)
            self.upstream.end(seen, "ok", done=1.0)
        text = TextPart(text="quack")
        return Completion(
            id=f"{self.name}-{seen.number}",
            model=request.model,
            choices=(Choice(parts=(text,)),),
            usage=self.upstream.usage(seen),
        )

    @asynccontextmanager
    async def stream(
        self, request: ChatRequest
    ) -> AsyncGenerator[AsyncIterator[Sequence[Chunk]]]:
        """Stream the reply in a few pieces."""
        seen = self._arrive(request)
        with self._billing(seen):
            takes = await self._head(seen, share=_FIRST)
            async with aclosing(self._pieces(seen, takes)) as pieces:
                yield pieces

    async def _pieces(
        self, seen: Seen, takes: float
    ) -> AsyncGenerator[Sequence[Chunk]]:
        yield (Started(id=f"{self.name}-{seen.number}", model="m"),)
        for _ in range(_PIECES):
            await trio.sleep(takes / _PIECES)
            yield (TextDelta(text="quack "),)
        self.upstream.end(seen, "ok", done=1.0)
        yield (Finished(reason="stop"), UsageReport(usage=self.upstream.usage(seen)))

    def _arrive(self, request: ChatRequest) -> Seen:
        order = self.orders[order_id(request)]
        return self.upstream.arrive(order, prompt_tokens(request))

    async def _head(self, seen: Seen, share: float) -> float:
        """Wait for the first of the answer, as an adapter does: not for ever.

        Returns the seconds that the rest takes.
        """
        try:
            with trio.fail_after(self.timeout.first_byte):
                takes = await self.upstream.work(seen)
                await trio.sleep(takes * share)
        except trio.TooSlowError:
            self._leave(seen)
            raise ProviderTimeout("too slow", provider=self.name) from None
        except Refused:
            self.upstream.end(seen, "refused")
            refused = ProviderError("connection refused", provider=self.name)
            refused.never_sent = True
            raise refused from None
        except Limited as error:
            seen.retry_after = error.retry_after
            self.upstream.end(seen, "limited")
            limited = RateLimited(
                "429", provider=self.name, retry_after=error.retry_after
            )
            limited.upstream_status = 429
            raise limited from None
        except Failed:
            self.upstream.end(seen, "failed")
            failed = ProviderError("503", provider=self.name)
            failed.upstream_status = 503
            raise failed from None
        return takes * (1.0 - share)

    @contextmanager
    def _billing(self, seen: Seen) -> Generator[None]:
        """Bill what was made of a reply whose client has gone."""
        try:
            yield
        finally:
            if not seen.fate:
                self._leave(seen)

    def _leave(self, seen: Seen) -> None:
        spent = trio.current_time() - seen.at
        made = spent / (spent + self.upstream.traits.latency)
        self.upstream.end(seen, "left", done=0.0 if seen.down else made)

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Refuse: nobody orders any."""
        raise InvalidRequest("no embeddings here", provider=self.name)

    async def generate_images(self, request: ImageRequest) -> Images:
        """Refuse: nobody orders any."""
        raise InvalidRequest("no pictures here", provider=self.name)

    async def list_models(self) -> tuple[ModelInfo, ...]:
        """Return the models."""
        return tuple(ModelInfo(id=model) for model in self.upstream.traits.models)

    async def count_tokens(self, request: ChatRequest) -> Usage:
        """Return what the prompt is charged as."""
        return Usage(input_tokens=prompt_tokens(request))

    def image_bound(self, request: ImageRequest) -> Usage | None:
        """Return that nobody can say."""
        return None

    def estimate_cost(self, usage: Usage, model: str) -> int | None:
        """Return the price of *usage* by the price list, which is true here."""
        return cost(usage, self.upstream.traits.price)

    def quote(self, model: str) -> Quote:
        """Return the price."""
        return Quote(source="config", tariff=Tariff.flat(self.upstream.traits.price))

    async def health_check(self) -> HealthReport:
        """Report what the weather is like."""
        spell = self.upstream.spell(trio.current_time())
        await trio.lowlevel.checkpoint()
        return HealthReport(healthy=spell is None, latency=0.0)

    async def aclose(self) -> None:
        """Do nothing: nothing is open."""
