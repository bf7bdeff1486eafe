"""POST /v1/images/generations."""

from __future__ import annotations

from duckservice.gateway.app.exchange import Exchange
from duckservice.gateway.wire.openai_images import decode_image_request, encode_images


async def create_images(exchange: Exchange) -> None:
    """Answer a request for pictures."""
    options = exchange.options()
    request = decode_image_request(await exchange.body())
    answer = await exchange.host.service.generate_images(request, options)
    body = encode_images(answer.value, now=exchange.host.wall_clock())
    await exchange.reply(body, answer.report)
