"""POST /v1/responses."""

from __future__ import annotations

from duckservice.gateway.app.exchange import Exchange
from duckservice.gateway.wire.openai_responses import decode_responses
from duckservice.gateway.wire.responses_reply import encode_completion
from duckservice.gateway.wire.responses_stream import ResponseStreamEncoder


async def create_response(exchange: Exchange) -> None:
    """Answer a Responses request, whole or as a stream."""
    options = exchange.options()
    wire = decode_responses(await exchange.body())
    service, clock = exchange.host.service, exchange.host.wall_clock
    if wire.stream:
        encoder = ResponseStreamEncoder(settings=wire.settings, clock=clock)
        await exchange.stream(service.stream(wire.request, options), encoder)
        return
    answer = await service.complete(wire.request, options)
    body = encode_completion(answer.value, wire.settings, now=clock())
    await exchange.reply(body, answer.report)
