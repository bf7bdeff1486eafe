"""POST /v1/chat/completions."""

from __future__ import annotations

from duckservice.gateway.app.exchange import Exchange
from duckservice.gateway.wire.openai_chat import decode_chat
from duckservice.gateway.wire.openai_reply import encode_completion
from duckservice.gateway.wire.openai_stream import ChatStreamEncoder


async def create_completion(exchange: Exchange) -> None:
    """Answer a chat request, whole or as a stream."""
    options = exchange.options()
    wire = decode_chat(await exchange.body())
    service, now = exchange.host.service, exchange.host.wall_clock()
    if wire.stream:
        encoder = ChatStreamEncoder(
            include_usage=wire.include_usage,
            legacy_functions=wire.legacy_functions,
            now=now,
        )
        await exchange.stream(service.stream(wire.request, options), encoder)
        return
    answer = await service.complete(wire.request, options)
    body = encode_completion(
        answer.value, now=now, legacy_functions=wire.legacy_functions
    )
    await exchange.reply(body, answer.report)
