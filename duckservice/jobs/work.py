"""A job's request sent the way of any other, its stream recorded, its reply encoded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias, assert_never, final

import attrs
import trio

from duckservice.assembly import Assembly, chunks_of
from duckservice.calls.call import CallOptions, NotBegun
from duckservice.completion import Completion
from duckservice.core.job import JobKind
from duckservice.errors import DuckError, Unprocessable
from duckservice.gateway.wire.openai_chat import ChatWire, decode_chat
from duckservice.gateway.wire.openai_embeddings import (
    decode_embedding,
    encode_embeddings,
)
from duckservice.gateway.wire.openai_images import decode_image_request, encode_images
from duckservice.gateway.wire.openai_reply import encode_completion
from duckservice.gateway.wire.openai_stream import ChatStreamEncoder
from duckservice.jobs.deltas import DeltaRecorder, pieces_of
from duckservice.service import Service

Record: TypeAlias = Callable[[Sequence[bytes]], Awaitable[None]]
"""Writes pieces of the stream down."""


@final
@attrs.define(eq=False)
class JobWork:
    """Asks for one job's reply."""

    service: Service
    record: Record
    result: bytes | None = None
    """The reply, from the moment it is here; its stream may not be written yet."""
    pieces: Sequence[bytes] = ()
    """What is left of the stream, to be written with the end of the job."""

    async def ask(self, kind: JobKind, body: bytes, options: CallOptions) -> bytes:
        """Return the reply as OpenAI's body.

        Raises:
            DuckError: nobody gave one, or it is too large to be kept.
            NotBegun: the options' watch did not want an attempt to be sent.
        """
        match kind:
            case "chat":
                chat = decode_chat(body)
                answer = self._stream if chat.stream else self._whole
                return await answer(chat, options)
            case "embedding":
                return self._fitting(await self._embeddings(body, options))
            case "image":
                return self._fitting(await self._images(body, options))
            case _:
                assert_never(kind)

    async def _embeddings(self, body: bytes, options: CallOptions) -> bytes:
        wire = decode_embedding(body)
        embeddings = await self.service.embed(wire.request, options)
        return encode_embeddings(embeddings.value, base64=wire.base64)

    async def _images(self, body: bytes, options: CallOptions) -> bytes:
        request = decode_image_request(body)
        images = await self.service.generate_images(request, options)
        return encode_images(images.value, now=self._now())

    async def _whole(self, chat: ChatWire, options: CallOptions) -> bytes:
        completion = (await self.service.complete(chat.request, options)).value
        result = self._encoded(chat, completion)
        pieces = pieces_of(chunks_of(completion), self._encoder(chat))
        self._must_fit(sum(map(len, pieces)))
        self.result, self.pieces = result, pieces
        return result

    async def _stream(self, chat: ChatWire, options: CallOptions) -> bytes:
        recorder = DeltaRecorder(self._encoder(chat), self.record)
        failure: DuckError | NotBegun | None = None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(recorder.run)
                try:
                    self.result = await self._streamed(chat, options, recorder)
                except (DuckError, NotBegun) as error:
                    # As a value: the nursery would wrap it into a group.
                    failure = error
                recorder.close()
        finally:
            if self.result is not None:
                # Where it was stopped now: a reply that is kept has a whole stream.
                self.pieces = recorder.left()
        if failure is not None:
            raise failure
        assert self.result is not None
        return self.result

    async def _streamed(
        self, chat: ChatWire, options: CallOptions, recorder: DeltaRecorder
    ) -> bytes:
        assembly = Assembly()
        async with self.service.stream(chat.request, options) as answer:
            async for batch in answer.batches:
                assembly.add(batch)
                await recorder.add(batch)
                self._must_fit(recorder.written)
        return self._encoded(chat, assembly.completion())

    def _encoded(self, chat: ChatWire, completion: Completion) -> bytes:
        result = encode_completion(
            completion, now=self._now(), legacy_functions=chat.legacy_functions
        )
        self._must_fit(len(result))
        return result

    def _fitting(self, result: bytes) -> bytes:
        self._must_fit(len(result))
        return result

    def _must_fit(self, size: int) -> None:
        """Refuse a reply that is too large to be kept.

        Raises:
            Unprocessable: the same request would come to the same.
        """
        most = self.service.config.store.max_result
        if size > most:
            msg = (
                "the reply is too large to be kept: a job's result, and its stream,"
                f" may have {most} bytes at most (store.max_result)"
            )
            raise Unprocessable(msg)

    def _encoder(self, chat: ChatWire) -> ChatStreamEncoder:
        return ChatStreamEncoder(
            legacy_functions=chat.legacy_functions, now=self._now()
        )

    def _now(self) -> float:
        return self.service.seams.wall_clock()
