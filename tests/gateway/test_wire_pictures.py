"""A picture that a chat has made reaches the client, or an error does; it is never lost."""

from __future__ import annotations

import json

import pytest

from duckservice.completion import (
    Choice,
    Completion,
    Finished,
    ImagePart,
    Started,
    TextDelta,
    TextPart,
    Usage,
)
from duckservice.errors import InvalidRequest, Unprocessable
from duckservice.gateway.wire import anthropic_reply, responses_reply
from duckservice.gateway.wire.anthropic_stream import MessageStreamEncoder
from duckservice.gateway.wire.openai_responses import decode_responses
from duckservice.gateway.wire.responses_stream import ResponseStreamEncoder
from tests.e2e.makers import MAKERS
from tests.gateway.responses_reader import Reader
from tests.providers.asking import asked_of, made

DATA = "iVBORw0KGgo="
SIGNED = {"extra_content": {"google": {"thought_signature": "c2ln"}}}
URL = {"url": f"data:image/jpeg;base64,{DATA}"}
BESIDE = {"images": [{"type": "image_url", "image_url": URL, **SIGNED}]}
AWAY = {"images": [{"type": "image_url", "image_url": {"url": "https://h/x.png"}}]}
PART = ImagePart(data=DATA, media_type="image/jpeg", extra=SIGNED)
ITEM = {
    "id": "ig_duck_c1_1",
    "type": "image_generation_call",
    "status": "completed",
    "output_format": "jpeg",
    "result": DATA,
    **SIGNED,
}


def completion(*parts, **extra) -> Completion:
    choice = Choice(parts=(TextPart(text="Look:"), *parts), extra=extra)
    return Completion(id="c1", model="m", choices=(choice,), usage=Usage())


def stream(encoder, extra) -> bytes:
    chunks = (
        Started(id="c1", model="m"),
        TextDelta(text="Look:"),
        TextDelta(text="", extra=extra),
        TextDelta(text="There."),
        Finished(reason="stop"),
    )
    return b"".join(encoder.encode((c,)) for c in chunks) + encoder.finish()


@pytest.mark.parametrize("reply", [completion(PART), completion(**BESIDE)])
def test_a_picture_is_an_item_of_a_response(reply):
    body = json.loads(responses_reply.encode_completion(reply, {}))
    assert body["output"][1:] == [ITEM]


def test_a_streamed_picture_is_an_item_of_its_own():
    settings = decode_responses(b'{"model":"m","input":"hi"}').settings
    encoder = ResponseStreamEncoder(settings=settings, clock=lambda: 1.0)
    first, picture, last = Reader(stream(encoder, BESIDE)).output
    assert picture == ITEM
    assert first["content"][0]["text"] == "Look:"
    assert last["content"][0]["text"] == "There."


def test_a_picture_that_has_not_come_itself_is_an_error_to_a_responses_client():
    with pytest.raises(Unprocessable, match="URL"):
        responses_reply.encode_completion(completion(**AWAY), {})
    with pytest.raises(Unprocessable, match="URL"):
        stream(ResponseStreamEncoder(settings={}, clock=lambda: 1.0), AWAY)


@pytest.mark.parametrize(
    "reply", [completion(PART), completion(**BESIDE), completion(**AWAY)]
)
def test_a_picture_is_an_error_to_a_client_whose_format_has_no_words_for_it(reply):
    with pytest.raises(Unprocessable, match="picture") as caught:
        anthropic_reply.encode_completion(reply)
    assert not caught.value.retryable


def test_a_streamed_picture_is_an_error_there_too_behind_what_was_said():
    encoder = MessageStreamEncoder()
    assert b"Look:" in encoder.encode(
        (Started(id="c", model="m"), TextDelta(text="Look:"))
    )
    with pytest.raises(Unprocessable, match="picture"):
        encoder.encode((TextDelta(text="", extra=BESIDE),))


def again(model: str, *items):
    said = [{"role": "user", "content": "Draw."}, *items]
    body = {"model": model, "input": [*said, {"role": "user", "content": "Bluer."}]}
    return decode_responses(json.dumps(body).encode()).request


async def test_a_picture_goes_back_to_gemini_with_its_signature():
    body = await asked_of(MAKERS["gemini"], again("gemini-2.5-flash-image", ITEM))
    assert [turn["role"] for turn in body["contents"]] == ["user", "model", "user"]
    assert body["contents"][1]["parts"] == [
        {
            "inlineData": {"mimeType": "image/jpeg", "data": DATA},
            "thoughtSignature": "c2ln",
        }
    ]


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "gemini"])
async def test_a_picture_of_geminis_is_refused_by_name_where_nobody_can_take_it(name):
    provider = made(MAKERS[name], "http://127.0.0.1:9")
    with pytest.raises(InvalidRequest) as caught:
        provider.check(again("m", ITEM))
    await provider.aclose()
    assert caught.value.param.startswith("input[1]")


async def test_a_picture_of_openais_own_goes_back_as_the_client_wrote_it():
    own = {**ITEM, "id": "ig_68f0"}
    body = await asked_of(MAKERS["responses"], again("gpt-5", own))
    assert body["input"][1] == own
