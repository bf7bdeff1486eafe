"""POST /v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

import msgspec

from duckservice.gateway.app.exchange import Exchange
from duckservice.gateway.wire.anthropic_messages import (
    decode_count_tokens,
    decode_messages,
)
from duckservice.gateway.wire.anthropic_reply import encode_completion
from duckservice.gateway.wire.anthropic_stream import MessageStreamEncoder
from duckservice.gateway.wire.headers import read_betas


async def create_message(exchange: Exchange) -> None:
    """Answer a messages request, whole or as a stream."""
    options = exchange.options()
    betas = read_betas(exchange.scope["headers"])
    wire = decode_messages(await exchange.body(), betas)
    service = exchange.host.service
    if wire.stream:
        stream = service.stream(wire.request, options)
        await exchange.stream(stream, MessageStreamEncoder())
        return
    answer = await service.complete(wire.request, options)
    await exchange.reply(encode_completion(answer.value), answer.report)


async def count_tokens(exchange: Exchange) -> None:
    """Answer how long a prompt is."""
    options = exchange.options()
    betas = read_betas(exchange.scope["headers"])
    request = decode_count_tokens(await exchange.body(), betas)
    usage = await exchange.host.service.count_tokens(request, options)
    body = msgspec.json.encode({"input_tokens": usage.input_tokens})
    await exchange.reply_plain(body)
