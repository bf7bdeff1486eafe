"""The mock provider: scripted replies without a network, for tests and the demo.

By default a reply echoes the text of the last user message. A `MockScript`, or the
name of the model (`MODEL_SCRIPTS`: mock-slow, mock-fail, ...), makes it slow, wrong
or talkative. Tokens are counted by rule of thumb and priced, so that costs show.
The same calls with the same seed have the same results.
"""

from __future__ import annotations

import copy
import hashlib
import math
import re
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager
from random import Random
from typing import Final, assert_never, final

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
    GeneratedImage,
    HealthReport,
    ImageRequest,
    Images,
    ModelInfo,
    Part,
    Started,
    TextDelta,
    TextPart,
    ToolCall,
    ToolCallDelta,
    Usage,
    UsageReport,
)
from duckservice.config import PriceConfig
from duckservice.core.pricing import Price, cost
from duckservice.errors import (
    BadProviderResponse,
    DuckError,
    InvalidRequest,
    ProviderError,
)
from duckservice.providers.capabilities import Capabilities
from duckservice.providers.estimate import (
    BYTES_PER_TOKEN,
    input_tokens,
    prompt_tokens,
    reply_tokens,
    text_tokens,
)
from duckservice.providers.mock_picture import png
from duckservice.providers.mock_script import MODEL_SCRIPTS, MockReply, MockScript
from duckservice.providers.models import ModelNames
from duckservice.providers.prices import PriceSource, Quote, Tariff

_ECHO: Final = MockScript()
_DEFAULT_PRICE: Final = PriceConfig(input="0.15", output="0.60")
_CHOICES_MAX: Final = 128
_DIMENSIONS: Final = 8
_DIMENSIONS_MAX: Final = 4096
_IMAGES_MAX: Final = 10
_TOKENS_PER_IMAGE: Final = 256
_CAPABILITIES: Final = Capabilities(
    embeddings=True,
    image_generation=True,
    n_max=_CHOICES_MAX,
    hidden_prompt_tokens=0,
)
_WORD: Final = re.compile(r"\s*\S+\s*|\s+")


@final
class MockProvider:
    """A `Provider` that makes its answers up.

    A model named in `MODEL_SCRIPTS` behaves by that script, any other by
    *script*. *price* holds for every model. *random* decides about failures.
    *on_request* is told of each request before it is answered.
    """

    def __init__(
        self,
        name: str,
        script: MockScript = _ECHO,
        *,
        models: Sequence[str] = ("mock-*",),
        model_map: Mapping[str, str] | None = None,
        price: PriceConfig | None = None,
        random: Random | None = None,
        sleep: Callable[[float], Awaitable[object]] = trio.sleep,
        on_request: Callable[[AnyRequest], object] | None = None,
    ) -> None:
        self._name = name
        self._script = script
        self._patterns = tuple(models)
        self._models = ModelNames(models, model_map)
        self._price_source: PriceSource = "adapter" if price is None else "config"
        price = price or _DEFAULT_PRICE
        self._price = Price.usd_per_mtok(input=price.input, output=price.output)
        self._random = random or Random(0)  # noqa: S311 - no secret depends on it
        self._sleep = sleep
        self._on_request = on_request
        self._calls = 0
        self._replies = iter(script.replies)

    @property
    def name(self) -> str:
        """The name of the provider's table in the config."""
        return self._name

    def supports_model(self, model: str) -> bool:
        """Say whether *model*, or an alias of it, is served here."""
        return self._models.serves(model)

    def names_model(self, model: str) -> bool:
        """Say whether more than a bare ``*`` says that *model* is served here."""
        return self._models.names(model)

    def own_name(self, model: str) -> str:
        """Return what the provider is asked for where a client asks for *model*."""
        return self._models.own_name(model)

    @property
    def capabilities(self) -> Capabilities:
        """Say that it can do everything; it makes it up."""
        return _CAPABILITIES

    def check(self, request: AnyRequest) -> None:
        """Refuse only what would cost too much to make up."""
        match request:
            case ChatRequest():
                self._check("n", request.n, _CHOICES_MAX)
            case EmbeddingRequest():
                self._check("dimensions", request.dimensions, _DIMENSIONS_MAX)
            case ImageRequest():
                self._check("n", request.n, _IMAGES_MAX)
            case _:
                assert_never(request)

    async def complete(self, request: ChatRequest) -> Completion:
        """Return the whole reply, after the script's latency."""
        answer = await self._answer(request)
        return Completion(
            id=answer.id,
            model=answer.model,
            choices=answer.choices,
            usage=answer.usage,
        )

    @asynccontextmanager
    async def stream(
        self, request: ChatRequest
    ) -> AsyncGenerator[AsyncIterator[Sequence[Chunk]]]:
        """Stream the reply word by word; tool calls come after the text."""
        answer = await self._answer(request)
        async with aclosing(self._batches(answer)) as batches:
            yield batches

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Return vectors of length 1 that depend on nothing but the inputs."""
        self.check(request)
        size = _DIMENSIONS if request.dimensions is None else request.dimensions
        model = self._models.own_name(request.model)
        await self._begin_call(self._script_of(model), request)
        return Embeddings(
            model=model,
            vectors=tuple(_vector(repr(text), size) for text in request.input),
            usage=Usage(input_tokens=sum(map(input_tokens, request.input))),
        )

    async def generate_images(self, request: ImageRequest) -> Images:
        """Return plain pictures, whose colour depends on nothing but the prompt.

        They are PNG in base64, though a URL is asked for: there is no server.
        """
        self.check(request)
        model = self._models.own_name(request.model)
        await self._begin_call(self._script_of(model), request)
        return Images(
            model=model,
            images=tuple(
                GeneratedImage(
                    data=png(f"{request.prompt}#{number}"), media_type="image/png"
                )
                for number in range(_replies_of(request))
            ),
            usage=_image_usage(request),
            extra={"output_format": "png"},
        )

    async def list_models(self) -> tuple[ModelInfo, ...]:
        """Return the models with exact names, and those of `MODEL_SCRIPTS`."""
        names = dict.fromkeys((*self._patterns, *MODEL_SCRIPTS))
        return tuple(
            ModelInfo(id=name, owned_by=self._name)
            for name in names
            if not set(name) & set("*?[") and self.supports_model(name)
        )

    async def count_tokens(self, request: ChatRequest) -> Usage:
        """Return the size of the prompt, as it will be billed."""
        return Usage(input_tokens=prompt_tokens(request))

    def image_bound(self, request: ImageRequest) -> Usage | None:
        """Return what making the pictures will take."""
        return _image_usage(request)

    def estimate_cost(self, usage: Usage, model: str) -> int | None:  # noqa: ARG002
        """Return the price of *usage* in picodollars."""
        return cost(usage, self._price) if usage.billed is None else usage.billed

    def quote(self, model: str) -> Quote:  # noqa: ARG002
        """Return the price that all models have."""
        return Quote(source=self._price_source, tariff=Tariff.flat(self._price))

    async def health_check(self) -> HealthReport:
        """Report well, unless every call is to fail. It is no call."""
        await self._sleep(self._script.latency)
        healthy = self._script.failure_rate < 1
        return HealthReport(
            healthy=healthy,
            latency=self._script.latency,
            detail="" if healthy else "told to fail",
        )

    async def aclose(self) -> None:
        """Do nothing: nothing is open."""

    def _check(self, field: str, wanted: int | None, most: int) -> None:
        if wanted is not None and not 1 <= wanted <= most:
            raise InvalidRequest(
                f"{field} must be from 1 to {most}", provider=self._name, param=field
            )

    async def _answer(self, request: ChatRequest) -> _Answer:
        self.check(request)
        model = self._models.own_name(request.model)
        script = self._script_of(model)
        number = await self._begin_call(script, request)
        reply = self._next_reply(script, request)
        choices = tuple(
            _choice(index, reply, request) for index in range(_replies_of(request))
        )
        return _Answer(
            id=f"mock-{number}",
            model=model,
            script=script,
            choices=choices,
            usage=Usage(
                input_tokens=prompt_tokens(request), output_tokens=reply_tokens(choices)
            ),
        )

    def _script_of(self, model: str) -> MockScript:
        return MODEL_SCRIPTS.get(model, self._script)

    async def _begin_call(self, script: MockScript, request: AnyRequest) -> int:
        """Wait as scripted, then fail as scripted or return the call's number."""
        if self._on_request is not None:
            self._on_request(request)
        self._calls += 1
        number = self._calls
        # Drawn before the wait, so that the order of arrival decides, not of waking.
        fails = self._random.random() < script.failure_rate
        await self._sleep(script.latency)
        if (error := script.errors.get(number)) is not None:
            raise self._own(error)
        if fails:
            raise ProviderError(f"{self._name} was told to fail", provider=self._name)
        return number

    def _own(self, error: DuckError) -> DuckError:
        own = copy.copy(error)  # an exception collects tracebacks: one for each call
        own.provider = self._name
        return own

    def _next_reply(self, script: MockScript, request: ChatRequest) -> MockReply:
        if script.call_tools and request.tools:
            call = ToolCall(id="call-1", name=request.tools[0].name, arguments="{}")
            return MockReply(tool_calls=(call,))
        reply = next(self._replies, None) if script is self._script else None
        return MockReply(text=_last_user_text(request)) if reply is None else reply

    async def _batches(self, answer: _Answer) -> AsyncGenerator[Sequence[Chunk]]:
        yield (Started(id=answer.id, model=answer.model),)
        words = 0
        for choice in answer.choices:
            for word in _WORD.findall(choice.text):
                if words == answer.script.cut_after:
                    raise self._cut_off()
                if words and answer.script.chunk_interval:
                    await self._sleep(answer.script.chunk_interval)
                words += 1
                yield (TextDelta(text=word, choice=choice.index),)
            for index, call in enumerate(choice.tool_calls):
                yield _deltas(index, call, choice.index)
        if answer.script.cut_after is not None:
            raise self._cut_off()
        yield tuple(_finished(choice) for choice in answer.choices)
        yield (UsageReport(usage=answer.usage),)

    def _cut_off(self) -> BadProviderResponse:
        return BadProviderResponse(
            f"{self._name} was told to break off", provider=self._name
        )


@attrs.frozen(kw_only=True)
class _Answer:
    """What is to be answered, whole or in pieces."""

    id: str
    model: str
    script: MockScript
    choices: tuple[Choice, ...]
    usage: Usage


def _replies_of(request: ChatRequest | ImageRequest) -> int:
    return 1 if request.n is None else request.n


def _image_usage(request: ImageRequest) -> Usage:
    drawn = _TOKENS_PER_IMAGE * _replies_of(request)
    return Usage(
        input_tokens=text_tokens(request.prompt),
        output_tokens=drawn,
        image_tokens=drawn,
    )


def _choice(index: int, reply: MockReply, request: ChatRequest) -> Choice:
    calls = reply.tool_calls if request.tools else ()
    text = _cut(reply.text, request.max_tokens)
    parts: list[Part] = [TextPart(text=text)] if text else []
    parts.extend(calls)
    if reply.finish_reason is not None:
        reason = reply.finish_reason
    elif len(text) < len(reply.text):
        reason = "length"
    else:
        reason = "tool_calls" if calls else "stop"
    return Choice(
        index=index,
        parts=tuple(parts),
        finish_reason=reason,
        native_finish_reason=reason,
    )


def _cut(text: str, max_tokens: int | None) -> str:
    if max_tokens is None:
        return text
    start = text.encode("utf-8", "replace")[: max(0, max_tokens) * BYTES_PER_TOKEN]
    return start.decode("utf-8", "ignore")


def _deltas(index: int, call: ToolCall, choice: int) -> tuple[Chunk, ...]:
    return (
        ToolCallDelta(index=index, id=call.id, name=call.name, choice=choice),
        ToolCallDelta(index=index, arguments=call.arguments, choice=choice),
    )


def _finished(choice: Choice) -> Finished:
    return Finished(
        reason=choice.finish_reason,
        native_reason=choice.native_finish_reason,
        choice=choice.index,
    )


def _last_user_text(request: ChatRequest) -> str:
    for message in reversed(request.messages):
        if message.role == "user":
            return "".join(p.text for p in message.parts if isinstance(p, TextPart))
    return ""


def _vector(text: str, size: int) -> tuple[float, ...]:
    digest = hashlib.shake_256(text.encode("utf-8", "replace")).digest(2 * size)
    # From -1 to 1, and never 0: the length is divided by.
    raw = [
        (int.from_bytes(digest[i : i + 2], "big") - 32767.5) / 32767.5
        for i in range(0, 2 * size, 2)
    ]
    length = math.hypot(*raw)
    return tuple(x / length for x in raw)
