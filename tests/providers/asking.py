"""Ask an adapter over a real loopback upstream, and see what it has sent."""

from __future__ import annotations

import json
from typing import Any

from duckservice.completion import ChatRequest
from duckservice.config import ProviderConfig, Secret
from duckservice.providers.base import Provider
from duckservice.providers.catalog import make_provider
from tests.e2e.makers import Maker
from tests.upstream import open_upstream


def made(maker: Maker, origin: str) -> Provider:
    """Return *maker*'s adapter for an upstream at *origin*."""
    config = ProviderConfig(
        name="up",
        adapter=maker.adapter,  # type: ignore[arg-type]
        api_key=Secret("canary-key-8d51f06ae2c7"),
        base_url=origin + maker.path,
        **maker.config,
    )
    return make_provider(config)


async def asked_of(maker: Maker, request: ChatRequest) -> dict[str, Any]:
    """Return the body that *maker*'s adapter sends for *request*."""
    async with open_upstream([[maker.text]]) as upstream:
        provider = made(maker, upstream.base_url)
        await provider.complete(request)
        await provider.aclose()
    body: dict[str, Any] = json.loads(upstream.requests[0].body)
    return body
