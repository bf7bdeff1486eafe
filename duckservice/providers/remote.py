"""A provider at the other end of HTTP: the I/O that all wire formats share.

`RemoteProvider` sends and receives; what to say and how to understand the answer
is its `Dialect`'s business, which is pure. A new provider is a new dialect.
"""

from __future__ import annotations

import math
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Mapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager
from secrets import token_hex
from typing import Final, Protocol, TypeVar, assert_never, final

import attrs
import trio

from duckservice.completion import (
    AnyRequest,
    ChatRequest,
    Chunk,
    Completion,
    EmbeddingRequest,
    Embeddings,
    HealthReport,
    ImageRequest,
    Images,
    ModelInfo,
    Usage,
    UsageReport,
)
from duckservice.config import Option, ProviderConfig
from duckservice.errors import DuckError, InvalidRequest, RequestError
from duckservice.providers import tokenizer
from duckservice.providers.answer_stream import AnswerStream
from duckservice.providers.auth.key_state import KeyState
from duckservice.providers.capabilities import Capabilities, check_capabilities
from duckservice.providers.estimate import (
    BYTES_PER_TOKEN,
    estimated_prompt,
    input_tokens,
    prompt_tokens,
    reply_tokens,
)
from duckservice.providers.failures import Classifier
from duckservice.providers.hints import without_hints
from duckservice.providers.http import HttpClient, StreamResponse
from duckservice.providers.image_tokens import image_bound
from duckservice.providers.leaving_out import able
from duckservice.providers.models import ModelNames
from duckservice.providers.origin import NAMELESS, Origin
from duckservice.providers.prices import Prices, Quote
from duckservice.providers.thought_marks import (
    Thinker,
    marked_chunks,
    marked_completion,
    own_thoughts,
    without_lost_thinking,
)

LINGER: Final = 0.2
"""Seconds that a complete stream is read on for the end of its body, which keeps
the connection for the next request."""

PICTURE_FIRST_BYTE: Final = 300.0
"""Seconds that pictures may take, where the config does not say how long: some models
draw for minutes, and what is given up is paid for all the same."""

PAGES_MAX: Final = 20
"""Of a list of models."""

R = TypeVar("R", ChatRequest, EmbeddingRequest, ImageRequest)


class Dialect(Protocol):
    """How one provider is spoken to: pure translation, no I/O.

    Every method may raise `DuckError`, with ``provider`` set.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What the provider can do. What it cannot is refused before `check`."""
        ...

    def chat_path(self, request: ChatRequest, *, stream: bool) -> str:
        """Return where a chat is sent."""
        ...

    @property
    def models_path(self) -> str | None:
        """Where models are listed; None: nowhere."""
        ...

    @property
    def health_path(self) -> str:
        """What to GET to see whether the provider answers, without spending tokens."""
        ...

    @property
    def embeddings(self) -> EmbeddingsDialect | None:
        """How embeddings are asked for; None: there are none."""
        ...

    @property
    def images(self) -> ImagesDialect | None:
        """How pictures are asked for; None: there are none."""
        ...

    @property
    def counting(self) -> CountingDialect | None:
        """How tokens are counted; None: they are not."""
        ...

    def check(self, request: ChatRequest) -> None:
        """Raise `InvalidRequest`, naming the field, for what cannot be translated."""
        ...

    def headers(self, request: ChatRequest) -> Mapping[str, str] | None:
        """Return what of a chat, or of one to be counted, goes into headers."""
        ...

    def encode(self, request: ChatRequest, *, stream: bool) -> bytes:
        """Return the body of a chat request."""
        ...

    def decode(self, body: bytes, origin: Origin = NAMELESS) -> Completion:
        """Return the completion in an answer's body."""
        ...

    def open_stream(self, origin: Origin = NAMELESS) -> AnswerStream:
        """Return the reader of one streamed answer."""
        ...

    def decode_models(self, body: bytes) -> tuple[tuple[ModelInfo, ...], str | None]:
        """Return the models in an answer's body, and the path of the next page."""
        ...


class EmbeddingsDialect(Protocol):
    """How embeddings are asked for."""

    def path(self, request: EmbeddingRequest) -> str:
        """Return where a request for embeddings is sent."""
        ...

    def encode(self, request: EmbeddingRequest) -> bytes:
        """Return the body of a request."""
        ...

    def decode(self, body: bytes, inputs: int) -> Embeddings:
        """Return the embeddings of *inputs* texts in an answer's body."""
        ...


class ImagesDialect(Protocol):
    """How pictures are asked for."""

    def path(self, request: ImageRequest) -> str:
        """Return where a request for pictures is sent."""
        ...

    def check(self, request: ImageRequest) -> None:
        """Raise `InvalidRequest`, naming the field, for what cannot be translated."""
        ...

    def encode(self, request: ImageRequest) -> bytes:
        """Return the body of a request."""
        ...

    def decode(self, body: bytes) -> Images:
        """Return the pictures in an answer's body."""
        ...


class CountingDialect(Protocol):
    """How the tokens of a prompt are counted."""

    def path(self, request: ChatRequest) -> str:
        """Return where a request to count is sent."""
        ...

    def encode(self, request: ChatRequest) -> bytes:
        """Return the body of a request."""
        ...

    def decode(self, body: bytes) -> int:
        """Return the number of tokens in an answer's body."""
        ...


@final
@attrs.frozen(kw_only=True)
class RemoteProvider:
    """A `Provider` over HTTP; see there for what its methods promise."""

    name: str
    config: ProviderConfig = attrs.field(repr=False)
    """What it was made of."""
    dialect: Dialect = attrs.field(repr=False)
    http: HttpClient
    errors: Classifier = attrs.field(repr=False)
    models: ModelNames = attrs.field(repr=False)
    prices: Prices = attrs.field(repr=False)
    leave_out: tuple[Option, ...] = ()
    """Options that are left out where the provider lacks them."""
    thinker: Callable[[str], Thinker] = attrs.field(repr=False)
    """From a model to whose its thoughts are."""

    @property
    def capabilities(self) -> Capabilities:
        """What the provider can do."""
        return self.dialect.capabilities

    def supports_model(self, model: str) -> bool:
        """Say whether *model*, or an alias of it, is served here."""
        return self.models.serves(model)

    def names_model(self, model: str) -> bool:
        """Say whether more than a bare ``*`` says that *model* is served here."""
        return self.models.names(model)

    def own_name(self, model: str) -> str:
        """Return what the provider is asked for where a client asks for *model*."""
        return self.models.own_name(model)

    def check(self, request: AnyRequest) -> None:
        """Raise `InvalidRequest`, naming the field, if *request* cannot be translated."""
        match request:
            case ChatRequest():
                self._own_chat(request)
            case EmbeddingRequest():
                # What cannot be translated is found out while it is written.
                self._embeddings().encode(self._own(request))
            case ImageRequest():
                self._images().check(self._own(request))
            case _:
                assert_never(request)

    async def complete(self, request: ChatRequest) -> Completion:
        """Return the whole reply."""
        own = self._own_chat(request)
        answer = await self.http.request(
            "POST",
            self.dialect.chat_path(own, stream=False),
            content=self.dialect.encode(own, stream=False),
            headers=self.dialect.headers(own),
        )
        completion = self.dialect.decode(answer.body, _origin(own))
        completion = marked_completion(completion, self.thinker(own.model), own.format)
        if completion.usage.estimated:
            return attrs.evolve(completion, usage=_estimated(own, completion))
        return completion

    @asynccontextmanager
    async def stream(
        self, request: ChatRequest
    ) -> AsyncGenerator[AsyncIterator[Sequence[Chunk]]]:
        """Stream the reply, as batches of the chunks that arrived together."""
        own = self._own_chat(request)
        body = self.dialect.encode(own, stream=True)
        async with self.http.stream(
            "POST",
            self.dialect.chat_path(own, stream=True),
            content=body,
            headers=self.dialect.headers(own),
        ) as answer:
            await self._refuse_what_is_no_stream(answer)
            async with aclosing(self._batches(own, answer)) as batches:
                yield batches

    async def embed(self, request: EmbeddingRequest) -> Embeddings:
        """Return the embeddings of the inputs."""
        embeddings, own = self._embeddings(), self._own(request)
        answer = await self.http.request(
            "POST", embeddings.path(own), content=embeddings.encode(own)
        )
        reply = embeddings.decode(answer.body, len(request.input))
        reply = attrs.evolve(reply, model=reply.model or own.model)
        if not reply.usage.estimated:
            return reply
        size = sum(map(input_tokens, request.input))
        return attrs.evolve(reply, usage=Usage(input_tokens=size, estimated=True))

    async def generate_images(self, request: ImageRequest) -> Images:
        """Return the pictures that are asked for."""
        images, own = self._images(), self._own(request)
        images.check(own)
        answer = await self.http.request(
            "POST",
            images.path(own),
            content=images.encode(own),
            first_byte=PICTURE_FIRST_BYTE,
        )
        reply = images.decode(answer.body)
        return reply if reply.model else attrs.evolve(reply, model=own.model)

    async def list_models(self) -> tuple[ModelInfo, ...]:
        """Ask the provider which models it has."""
        found: list[ModelInfo] = []
        path = self.dialect.models_path
        if path is None:
            return ()
        for _ in range(PAGES_MAX):
            answer = await self.http.request("GET", path)
            models, next_path = self.dialect.decode_models(answer.body)
            found += models
            if next_path is None:
                break
            path = next_path
        return tuple(found)

    async def count_tokens(self, request: ChatRequest) -> Usage:
        """Return the prompt's size: from the provider's endpoint, if it has one.

        Else OpenAI's own tokenizer counts, if it knows the model and is here with
        its data, or it is estimated.
        """
        counting = self.dialect.counting
        if counting is None:
            return await _counted_here(self._own(request))
        own = self._own_chat(request)
        answer = await self.http.request(
            "POST",
            counting.path(own),
            content=counting.encode(own),
            headers=self.dialect.headers(own),
        )
        return Usage(input_tokens=counting.decode(answer.body))

    def image_bound(self, request: ImageRequest) -> Usage | None:
        """Return what making the pictures cannot exceed, None where nobody can say."""
        return image_bound(self._own(request))

    def estimate_cost(self, usage: Usage, model: str) -> int | None:
        """Return the price of *usage* in picodollars, None if unknown."""
        return self.prices.cost(usage, self.models.own_name(model))

    def quote(self, model: str) -> Quote | None:
        """Return the price of *model* and who says so, None if unknown."""
        return self.prices.quote(self.models.own_name(model))

    async def health_check(self) -> HealthReport:
        """Ask for the list of models, which costs nothing."""
        started = trio.current_time()
        try:
            await self.http.request("GET", self.dialect.health_path)
        except DuckError as error:
            # It answered, if not with a list: that was the question.
            healthy = isinstance(error, RequestError)
            detail = str(error)
        else:
            healthy, detail = True, ""
        latency = trio.current_time() - started
        return HealthReport(healthy=healthy, latency=latency, detail=detail)

    def key_states(self) -> Sequence[KeyState]:
        """Return how each key of the config is."""
        return self.http.key_states()

    async def aclose(self) -> None:
        """Close the connections. The provider is not used again."""
        await self.http.aclose()

    def _check(self, own: ChatRequest) -> None:
        check_capabilities(own, self.dialect.capabilities, provider=self.name)
        self.dialect.check(own)

    def _embeddings(self) -> EmbeddingsDialect:
        if self.dialect.embeddings is None:
            raise InvalidRequest(
                f"{self.name} has no embeddings", provider=self.name, param="model"
            )
        return self.dialect.embeddings

    def _images(self) -> ImagesDialect:
        if self.dialect.images is None:
            raise InvalidRequest(
                f"{self.name} makes no pictures", provider=self.name, param="model"
            )
        return self.dialect.images

    def _own_chat(self, request: ChatRequest) -> ChatRequest:
        """Return *request* in the provider's names, checked.

        Raises `InvalidRequest`, naming the field, for what cannot be translated.
        """
        can = self.dialect.capabilities
        if request.format == "anthropic" and not can.messages_as_written:
            request = without_hints(request, cached=can.cache_control)
        own = self._own(request)
        thinker = self.thinker(own.model)
        own = without_lost_thinking(own_thoughts(own, thinker), thinker)
        return able(own, self.leave_out, self._check)

    def _own(self, request: R) -> R:
        own_name = self.models.own_name(request.model)
        if own_name == request.model:
            return request
        return attrs.evolve(request, model=own_name)

    async def _refuse_what_is_no_stream(self, answer: StreamResponse) -> None:
        kind = _media_type(answer.headers)
        if kind not in ("application/json", "text/html"):
            return  # some servers name none, or another
        body = b"".join([piece async for piece in answer.iter_bytes()])
        if kind == "application/json":
            self.dialect.decode(body)  # raises the error that it may be
        raise self.errors.bad_response(f"{kind} in place of a stream of events")

    async def _batches(
        self, request: ChatRequest, answer: StreamResponse
    ) -> AsyncGenerator[Sequence[Chunk]]:
        stream = self.dialect.open_stream(_origin(request))
        thinker = self.thinker(request.model)
        pieces = answer.iter_bytes()
        async for piece in pieces:
            chunks = stream.feed(piece)
            if stream.complete and not stream.usage_seen:
                chunks.append(_estimated_report(request, stream))
            if chunks:
                yield marked_chunks(chunks, thinker, request.format)
            if stream.ended:
                break
        was_complete = stream.complete
        chunks = stream.close()
        if not was_complete and not stream.usage_seen:
            chunks.append(_estimated_report(request, stream))
        if chunks:
            yield marked_chunks(chunks, thinker, request.format)
        # Nobody waits for what comes after the end, or takes harm from it.
        with trio.move_on_after(LINGER):
            try:
                async for _ in pieces:
                    pass
            except DuckError:
                pass


async def _counted_here(request: ChatRequest) -> Usage:
    if not tokenizer.may_know(request.model):
        return estimated_prompt(request)
    # To load its data takes up to a second, to count a long prompt a tenth of one.
    return await trio.to_thread.run_sync(
        tokenizer.prompt_usage, request, abandon_on_cancel=True
    )


def _origin(request: ChatRequest) -> Origin:
    return Origin(request.model, f"duck-{token_hex(16)}")


def _estimated(request: ChatRequest, completion: Completion) -> Usage:
    return Usage(
        input_tokens=prompt_tokens(request),
        output_tokens=reply_tokens(completion.choices),
        estimated=True,
    )


def _estimated_report(request: ChatRequest, stream: AnswerStream) -> UsageReport:
    return UsageReport(
        usage=Usage(
            input_tokens=prompt_tokens(request),
            output_tokens=math.ceil(stream.reply_characters / BYTES_PER_TOKEN),
            estimated=True,
        )
    )


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()
