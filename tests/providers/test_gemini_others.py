from __future__ import annotations

import json

import pytest

from duckservice.completion import (
    EmbeddingRequest,
    ImageRequest,
    Message,
    ModelInfo,
    Usage,
)
from duckservice.errors import BadProviderResponse, ContentFiltered, InvalidRequest
from tests.providers.gemini import BLOCKED, GEMINI, HELLO, answer, ask, sent

# Counting, models, embeddings


def test_the_whole_request_is_counted():
    counting = GEMINI.counting
    request = ask(messages=(Message.of("system", "s"), *HELLO))
    assert counting.path(request) == "/models/gemini-2.5-flash:countTokens"
    assert json.loads(counting.encode(request)) == {
        "generateContentRequest": {"model": "models/gemini-2.5-flash", **sent(request)}
    }
    assert counting.decode(b'{"totalTokens": 31}') == 31
    with pytest.raises(BadProviderResponse):
        counting.decode(b"{}")


def test_models_are_listed_page_by_page():
    page = {"models": [{"name": "models/gemini-2.5-flash"}], "nextPageToken": "a/b="}
    models, path = GEMINI.decode_models(json.dumps(page).encode())
    assert models == (ModelInfo(id="gemini-2.5-flash", owned_by="google"),)
    assert path == "/models?pageSize=1000&pageToken=a%2Fb%3D"
    assert GEMINI.decode_models(b'{"models": []}') == ((), None)
    with pytest.raises(BadProviderResponse):
        GEMINI.decode_models(b"{}")


def embedding(*texts, **fields) -> EmbeddingRequest:
    return EmbeddingRequest(model="gemini-embedding-001", input=texts, **fields)


def test_texts_are_embedded_in_one_batch():
    request = embedding("a", "b", dimensions=8, user="me")
    embeddings = GEMINI.embeddings
    assert embeddings.path(request) == "/models/gemini-embedding-001:batchEmbedContents"
    assert json.loads(embeddings.encode(request)) == {
        "requests": [
            {
                "model": "models/gemini-embedding-001",
                "content": {"parts": [{"text": text}]},
                "outputDimensionality": 8,
            }
            for text in ("a", "b")
        ]
    }
    body = {"embeddings": [{"values": [1, 2.5]}, {"values": [3, 4]}]}
    got = embeddings.decode(json.dumps(body).encode(), 2)
    assert got.vectors == ((1.0, 2.5), (3.0, 4.0))
    assert got.usage == Usage(estimated=True)
    with pytest.raises(BadProviderResponse, match="2 embeddings for 3 inputs"):
        embeddings.decode(json.dumps(body).encode(), 3)


def test_what_cannot_be_embedded_is_refused_by_name():
    for request, field in (
        (embedding((1, 2)), "input[0]"),
        (embedding("a", extra={"input_type": "query"}), "input_type"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            GEMINI.embeddings.encode(request)
        assert caught.value.param == field


# Pictures


def picture(model="imagen-4.0-generate-001", **fields) -> ImageRequest:
    return ImageRequest(model=model, prompt="a duck", **fields)


def drawn(request: ImageRequest) -> dict:
    GEMINI.images.check(request)
    return json.loads(GEMINI.images.encode(request))


def test_imagen_is_asked_to_predict():
    request = picture(n=2, size="1792x1024", response_format="b64_json", user="me")
    path = "/models/imagen-4.0-generate-001:predict"
    assert GEMINI.images.path(request) == path
    assert drawn(request) == {
        "instances": [{"prompt": "a duck"}],
        "parameters": {
            "sampleCount": 2,
            "includeRaiReason": True,
            "aspectRatio": "16:9",
        },
    }


def test_geminis_image_models_are_asked_to_generate():
    request = picture("gemini-2.5-flash-image", size="1024x1536", quality="auto")
    path = "/models/gemini-2.5-flash-image:generateContent"
    assert GEMINI.images.path(request) == path
    assert drawn(request) == {
        "contents": [{"role": "user", "parts": [{"text": "a duck"}]}],
        "generationConfig": {
            "responseModalities": ["TEXT", "IMAGE"],
            "imageConfig": {"aspectRatio": "2:3"},
        },
    }
    assert "imageConfig" not in str(
        drawn(picture("gemini-2.5-flash-image", size="auto"))
    )


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"n": 5}, "n"),
        ({"model": "gemini-2.5-flash-image", "n": 2}, "n"),
        ({"size": "1024x1536"}, "size"),
        ({"size": "big"}, "size"),
        ({"size": "0x0"}, "size"),
        ({"response_format": "url"}, "response_format"),
        ({"quality": "hd"}, "quality"),
        ({"extra": {"style": "vivid"}}, "style"),
        ({"extra": {"background": "transparent"}}, "background"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(fields, field):
    with pytest.raises(InvalidRequest) as caught:
        drawn(picture(**fields))
    assert caught.value.param == field


def test_pictures_are_read_from_either_answer():
    images = GEMINI.images
    predictions = [
        {"mimeType": "image/png", "bytesBase64Encoded": "QUJD", "prompt": "one duck"},
        {"mimeType": "image/jpeg", "gcsUri": "gs://b/o.jpg"},
        {"raiFilteredReason": "one was bad"},
    ]
    got = images.decode(json.dumps({"predictions": predictions}).encode())
    one, two = got.images
    assert (one.data, one.media_type, one.revised_prompt) == (
        "QUJD",
        "image/png",
        "one duck",
    )
    assert (two.url, two.data) == ("gs://b/o.jpg", None)
    assert got.usage.estimated
    data = {"inlineData": {"mimeType": "image/png", "data": "QUJD"}}
    got = images.decode(json.dumps(answer({"text": "Here:"}, data)).encode())
    assert [image.data for image in got.images] == ["QUJD"]
    assert got.model == "m-1"
    assert got.usage == Usage(input_tokens=3, output_tokens=2)


@pytest.mark.parametrize(
    "body",
    [
        {"predictions": [{"raiFilteredReason": "all were bad"}]},
        {"predictions": []},
        {"candidates": [{"finishReason": "IMAGE_SAFETY"}]},
        BLOCKED,
    ],
)
def test_pictures_that_were_filtered_out_are_an_error(body):
    with pytest.raises(ContentFiltered) as caught:
        GEMINI.images.decode(json.dumps(body).encode())
    assert caught.value.provider == "duck"


def test_what_is_no_picture_is_a_bad_response():
    for body in (b"", b"{}", b'{"predictions": [1]}', b'{"candidates": 1}'):
        with pytest.raises(BadProviderResponse):
            GEMINI.images.decode(body)
