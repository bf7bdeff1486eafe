"""The endpoints that make requests to models, in OpenAI's formats and in Anthropic's.

What they take and answer is the vendors' to describe: here are the fields that are
needed and read, and the headers that are ours.
"""

from __future__ import annotations

from typing import Final

from duckservice.gateway.app.openapi.errors import STATUS_OF
from duckservice.gateway.app.openapi.headers import OF_ANSWERS, OF_REQUESTS
from duckservice.gateway.app.openapi.operations import Operation
from duckservice.gateway.app.openapi.parts import (
    JSON,
    Json,
    answer,
    ref,
)

AREA: Final = "Requests to models"

_STREAMED: Final = (
    "Or, with `stream`, the events of the vendor's format. What fails after the head"
    " has left is an event of that format, and no end marker follows."
)
_CODES: Final = tuple(STATUS_OF)


def _request(
    path: str, name: str, summary: str, body: str, reply: str, *, streams: bool = True
) -> Operation:
    told = f"The reply. {_STREAMED}" if streams else "The reply."
    events: dict[str, Json] = {"sse": {}} if streams else {}
    headers = (*OF_REQUESTS, "Anthropic-Beta") if "messages" in path else OF_REQUESTS
    return Operation(
        method="post",
        path=path,
        name=name,
        area=AREA,
        summary=summary,
        headers=headers,
        body={JSON: ref(body)},
        answers={200: answer(told, ref(reply), *OF_ANSWERS, **events)},
        codes=_CODES,
    )


OPERATIONS: Final = (
    _request(
        "/v1/chat/completions",
        "createChatCompletion",
        "Complete a chat, in OpenAI's format",
        "ChatRequest",
        "ChatReply",
    ),
    _request(
        "/v1/responses",
        "createResponse",
        "Answer in the format of OpenAI's Responses API; nothing is kept",
        "ResponsesRequest",
        "ResponsesReply",
    ),
    _request(
        "/v1/messages",
        "createMessage",
        "Complete a chat, in Anthropic's format",
        "MessagesRequest",
        "MessagesReply",
    ),
    _request(
        "/v1/messages/count_tokens",
        "countTokens",
        "Count a prompt's tokens; an estimate, where the provider cannot say",
        "CountTokensRequest",
        "TokenCount",
        streams=False,
    ),
    _request(
        "/v1/embeddings",
        "createEmbeddings",
        "Embed texts, in OpenAI's format",
        "EmbeddingsRequest",
        "EmbeddingsReply",
        streams=False,
    ),
    _request(
        "/v1/images/generations",
        "createImages",
        "Make pictures, in OpenAI's format",
        "ImagesRequest",
        "ImagesReply",
        streams=False,
    ),
)
