from __future__ import annotations

import gzip
import json
from pathlib import Path

import attrs
import pytest

from duckservice.completion import GeneratedImage, ImageRequest, Images, Usage
from duckservice.errors import ContentFiltered, InvalidRequest
from duckservice.gateway.app import make_app
from duckservice.gateway.wire.openai_images import decode_image_request, encode_images
from tests.gateway.fake_service import IMAGES, FakeService, ask

PATH = "/v1/images/generations"
DUCK = {"model": "gpt-image-1", "prompt": "a duck"}

OPENAPI = Path(__file__).parents[3] / "shared/openapi/openai-openapi.relaxed.json.gz"


@pytest.fixture
def service():
    return FakeService()


@pytest.fixture
def app(service):
    return make_app(service, wall_clock=lambda: 1_700_000_000.0, owner_uid=4711)


def read(**fields) -> ImageRequest:
    return decode_image_request(json.dumps(DUCK | fields).encode())


def written(images: Images) -> dict:
    return json.loads(encode_images(images, now=5.0))


async def test_a_request_for_pictures_reaches_the_service_and_its_reply_the_client(
    app, service
):
    reply = await ask(app, "POST", PATH, DUCK, [("Duck-Priority", "low")])
    ((request, options),) = service.asked
    assert request == ImageRequest(model="gpt-image-1", prompt="a duck")
    assert options.priority == "low"
    assert reply.status == 200
    assert reply.headers["duck-provider"] == "openai"
    assert reply.headers["duck-cost-usd"] == "0.0012345"
    assert reply.json() == {
        "created": 1_700_000_000,
        "data": [{"b64_json": "aGk=", "mime_type": "image/png"}],
        "output_format": "png",
        "usage": {
            "input_tokens": 9,
            "input_tokens_details": {
                "text_tokens": 9,
                "image_tokens": 0,
                "cached_tokens": 0,
            },
            "output_tokens": 272,
            "output_tokens_details": {"text_tokens": 0, "image_tokens": 272},
            "total_tokens": 281,
        },
    }


async def test_a_failure_has_openais_shape(app, service):
    service.error = ContentFiltered("refused by the safety system", provider="openai")
    reply = await ask(app, "POST", PATH, DUCK)
    assert reply.status == 400
    error = reply.json()["error"]
    assert (error["code"], error["type"]) == (
        "content_filtered",
        "invalid_request_error",
    )


async def test_only_post_makes_pictures(app):
    reply = await ask(app, "GET", PATH)
    assert reply.status == 405
    assert reply.headers["allow"] == "POST"


async def test_what_cannot_be_read_never_reaches_the_service(app, service):
    reply = await ask(app, "POST", PATH, DUCK | {"stream": True})
    assert (reply.status, reply.json()["error"]["param"]) == (400, "stream")
    assert service.asked == []


def test_all_that_a_client_says_is_read():
    fields = {
        "n": 2,
        "size": "1536x1024",
        "quality": "high",
        "response_format": "b64_json",
        "user": "u",
        "stream": False,
        "partial_images": 0,
        "background": "transparent",
        "output_compression": 80,
        "moderation": None,
    }
    assert read(**fields) == ImageRequest(
        model="gpt-image-1",
        prompt="a duck",
        n=2,
        size="1536x1024",
        quality="high",
        response_format="b64_json",
        user="u",
        extra={"background": "transparent", "output_compression": 80},
    )


def test_nulls_are_read_as_not_said():
    nulls = dict.fromkeys(
        ("n", "size", "quality", "response_format", "user", "stream", "partial_images")
    )
    assert read(**nulls) == read()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ["a duck"]}, "prompt"),
        ({"n": 0}, "n"),
        ({"n": 1.5}, "n"),
        ({"n": True}, "n"),
        ({"size": 1024}, "size"),
        ({"quality": {}}, "quality"),
        ({"response_format": "png"}, "response_format"),
        ({"response_format": {"type": "url"}}, "response_format"),
        ({"user": 7}, "user"),
        ({"stream": True}, "stream"),
        ({"stream": "no"}, "stream"),
        ({"partial_images": 2}, "partial_images"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(fields, param):
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    assert caught.value.param == param
    assert param in str(caught.value)


def test_an_empty_prompt_is_the_providers_to_judge():
    assert read(prompt="").prompt == ""


def test_an_account_that_the_provider_does_not_give_is_left_out():
    images = attrs.evolve(IMAGES, usage=Usage(estimated=True), created=7)
    assert "usage" not in written(images)
    assert written(images)["created"] == 7


def test_what_a_picture_does_not_have_is_left_out():
    picture = GeneratedImage(url="https://p.example/1", revised_prompt="two ducks")
    images = attrs.evolve(IMAGES, images=(picture,))
    assert written(images)["data"] == [
        {"url": "https://p.example/1", "revised_prompt": "two ducks"}
    ]


@pytest.mark.skipif(not OPENAPI.is_file(), reason=f"no document at {OPENAPI}")
def test_the_fields_are_those_of_openais_document():
    schemas = json.loads(gzip.decompress(OPENAPI.read_bytes()))["components"]["schemas"]
    known = schemas["CreateImageRequest"]["properties"].keys()
    assert {"model", "prompt", "n", "size", "quality", "response_format"} <= known
    body = written(attrs.evolve(IMAGES, created=1))
    answer = schemas["ImagesResponse"]
    assert body.keys() <= answer["properties"].keys()
    assert body.keys() >= set(answer["required"])
    assert body["usage"].keys() == schemas["ImageGenUsage"]["properties"].keys()
    assert body["usage"].keys() >= set(schemas["ImageGenUsage"]["required"])
