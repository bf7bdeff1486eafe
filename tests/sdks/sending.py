"""What is sent over a real loopback connection: by an SDK, and by our adapter."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import attrs
import trio

from duckservice.completion import ChatRequest, EmbeddingRequest
from duckservice.config import ProviderConfig, Secret
from duckservice.providers.base import Provider
from duckservice.providers.catalog import make_provider
from tests.e2e.makers import Maker
from tests.upstream import Request, open_upstream

KEY: Final = "canary-key-8d51f06ae2c7b3a94d5e6f708192a3b4"

_SIGNATURE: Final = re.compile(r"(?<=/)\d{8}(?=/)|, ?SignedHeaders=.*")
"""What no two signatures of AWS's have in common: the day, and all behind the scope."""


@attrs.frozen(kw_only=True)
class Sent:
    """One request, with all that must be the same whoever has sent it."""

    line: str
    """Method and target, with the query."""
    key: tuple[tuple[str, str], ...]
    """The headers that carry the key, it being replaced by ``KEY``."""
    body: Any
    request: Request = attrs.field(eq=False, repr=False)
    """All of it."""

    @classmethod
    def of(cls, request: Request) -> Sent:
        lines = request.head.decode("latin-1").split("\r\n")
        headers = (line.split(": ", 1) for line in lines[1:])
        return cls(
            line=lines[0].removesuffix(" HTTP/1.1"),
            key=tuple(
                sorted(
                    (name.lower(), _SIGNATURE.sub("", value).replace(KEY, "KEY"))
                    for name, value in headers
                    if KEY in value
                )
            ),
            body=json.loads(request.body),
            request=request,
        )


async def sent_by_sdk(answer: bytes, use: Callable[[str], object]) -> Sent:
    """Return what *use*, given the URL of an upstream that gives *answer*, sends."""
    async with open_upstream([[answer]], limit=30) as upstream:
        # The SDKs know threads; each has a timeout of its own.
        await trio.to_thread.run_sync(use, upstream.base_url)
        [request] = upstream.requests
        return Sent.of(request)


async def sent_by_us(
    maker: Maker,
    request: ChatRequest | EmbeddingRequest,
    answer: bytes,
    *,
    stream: bool = False,
) -> Sent:
    """Return what *maker*'s adapter sends for *request*."""
    async with open_upstream([[answer]], limit=30) as upstream:
        async with provider_at(maker, upstream.base_url) as provider:
            if isinstance(request, EmbeddingRequest):
                await provider.embed(request)
            elif stream:
                async with provider.stream(request) as chunks:
                    async for _ in chunks:
                        pass
            else:
                await provider.complete(request)
        [sent] = upstream.requests
        return Sent.of(sent)


@asynccontextmanager
async def provider_at(maker: Maker, url: str) -> AsyncGenerator[Provider]:
    """Make *maker*'s adapter talk to the upstream at *url*."""
    config = ProviderConfig(
        **{
            "name": "up",
            "adapter": maker.adapter,
            "api_key": Secret(KEY),
            "base_url": url + maker.path,
            **maker.config,
        }
    )
    provider = make_provider(config)
    try:
        yield provider
    finally:
        await provider.aclose()
