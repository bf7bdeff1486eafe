"""POST /v1/embeddings."""

from __future__ import annotations

from duckservice.gateway.app.exchange import Exchange
from duckservice.gateway.wire.openai_embeddings import (
    decode_embedding,
    encode_embeddings,
)


async def create_embeddings(exchange: Exchange) -> None:
    """Answer an embeddings request."""
    options = exchange.options()
    wire = decode_embedding(await exchange.body())
    answer = await exchange.host.service.embed(wire.request, options)
    body = encode_embeddings(answer.value, base64=wire.base64)
    await exchange.reply(body, answer.report)
