"""A chat that answers with a picture, for clients whose format may have no words for it."""

from __future__ import annotations

import json

import anthropic
import pytest

from duckservice.config import ProviderConfig, RetryConfig, Secret
from tests.e2e.makers import PICTURE
from tests.e2e.running import KEY, json_answer, open_duck, sse_answer
from tests.upstream import open_upstream

PIECE = {
    "candidates": [
        {
            "content": {
                "role": "model",
                "parts": [
                    {"text": "Look:"},
                    {"inlineData": {"mimeType": "image/png", "data": PICTURE}},
                ],
            },
            "finishReason": "STOP",
        }
    ],
    "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 1290},
    "modelVersion": "gemini-2.5-flash-image",
    "responseId": "r-1",
}
WHOLE = json_answer(PIECE)
STREAM = sse_answer(b"data: %b\n\n" % json.dumps(PIECE).encode())
ASKED = [{"role": "user", "content": "Draw a duck."}]


async def drawn(answer: bytes, family: str, use):
    """Return what *use* makes of the answer, with an SDK, and how often it was asked."""
    async with open_upstream([[answer]]) as upstream:
        gemini = ProviderConfig(
            name="up",
            adapter="gemini",
            base_url=upstream.base_url + "/v1beta",
            api_key=Secret(KEY),
            models=("m",),
        )
        once = RetryConfig(max_attempts=1)
        async with open_duck(gemini, retry=once) as duck:
            return await getattr(duck, family)(use), len(upstream.requests)


async def test_a_responses_client_gets_the_picture_as_an_item():
    reply, _ = await drawn(
        WHOLE, "openai", lambda sdk: sdk.responses.create(model="m", input=ASKED)
    )
    text, picture = reply.output
    assert text.content[0].text == "Look:"
    assert (picture.type, picture.result) == ("image_generation_call", PICTURE)


async def test_a_responses_client_gets_a_streamed_picture_too():
    def use(sdk):
        events = list(sdk.responses.create(model="m", input=ASKED, stream=True))
        return events[-1].response.output

    (_, picture), _ = await drawn(STREAM, "openai", use)
    assert (picture.type, picture.result) == ("image_generation_call", PICTURE)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_messages_client_is_told_that_there_was_one_and_does_not_ask_again(
    stream,
):
    def use(sdk):
        with pytest.raises(anthropic.APIStatusError) as caught:
            list(
                sdk.with_options(max_retries=2).messages.create(
                    model="m", max_tokens=50, messages=ASKED, stream=stream
                )
            )
        return caught.value

    error, asked = await drawn(STREAM if stream else WHOLE, "anthropic", use)
    assert error.body["error"]["code"] == "unprocessable"
    assert "picture" in error.body["error"]["message"]
    assert asked == 1
