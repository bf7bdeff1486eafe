from __future__ import annotations

import json

import pytest

from duckservice.completion import GeneratedImage, ImageRequest, Images, Usage
from duckservice.core.pricing import pico
from duckservice.errors import (
    BadProviderResponse,
    ContentFiltered,
    InvalidRequest,
    ModelNotFound,
    RateLimited,
    RequestError,
)
from duckservice.gateway.wire.openai_images import decode_image_request
from duckservice.providers.failures import Classifier
from duckservice.providers.image_tokens import image_bound, likely_images
from duckservice.providers.openai_images import AZURE, COMPATIBLE, XAI, openai_images
from duckservice.providers.prices import Prices
from tests.recordings import FOLDER, load, needs_recordings

ERRORS = Classifier("duck")
OPENAI = openai_images(provider="duck", errors=ERRORS)
ON_AZURE = openai_images(
    provider="duck",
    errors=ERRORS,
    variant=AZURE,
    path=lambda request: f"/openai/deployments/{request.model}/images/generations",
)
AT_XAI = openai_images(provider="duck", errors=ERRORS, variant=XAI)
LOCAL = openai_images(provider="duck", errors=ERRORS, variant=COMPATIBLE)

VARIANTS = {"openai": OPENAI, "azure": ON_AZURE, "xai": AT_XAI}


def ask(**fields) -> ImageRequest:
    return ImageRequest(**{"model": "gpt-image-1", "prompt": "a duck"} | fields)


def sent(request, dialect=OPENAI) -> dict:
    dialect.check(request)
    return json.loads(dialect.encode(request))


def refused(request, dialect=OPENAI) -> str | None:
    with pytest.raises(InvalidRequest) as caught:
        dialect.check(request)
    assert caught.value.provider == "duck"
    assert caught.value.param in str(caught.value)
    return caught.value.param


def read(*pictures, **more) -> Images:
    return OPENAI.decode(json.dumps({"data": list(pictures), **more}).encode())


# Requests


def test_the_smallest_request_says_no_more_than_it_must():
    assert OPENAI.encode(ask()) == b'{"model":"gpt-image-1","prompt":"a duck"}'
    assert OPENAI.path(ask()) == "/images/generations"


def test_all_that_a_client_says_goes_under_openais_names():
    request = ask(
        model="dall-e-3",
        n=1,
        size="1024x1792",
        quality="hd",
        response_format="b64_json",
        user="u",
        extra={"style": "vivid", "background": "opaque"},
    )
    assert sent(request) == {
        "model": "dall-e-3",
        "prompt": "a duck",
        "n": 1,
        "size": "1024x1792",
        "quality": "hd",
        "response_format": "b64_json",
        "user": "u",
        "style": "vivid",
        "background": "opaque",
    }


@pytest.mark.parametrize(
    "model", ["gpt-image-1", "gpt-image-1-mini", "gpt-image-2", "chatgpt-image-latest"]
)
def test_base64_is_not_asked_of_a_model_that_gives_nothing_else(model):
    request = ask(model=model, response_format="b64_json")
    assert "response_format" not in sent(request)
    assert refused(ask(model=model, response_format="url")) == "response_format"


@pytest.mark.parametrize("model", ["dall-e-2", "dall-e-3", "something-new"])
@pytest.mark.parametrize("wanted", ["url", "b64_json"])
def test_any_other_model_is_told_the_format(model, wanted):
    request = ask(model=model, response_format=wanted)
    assert sent(request)["response_format"] == wanted


def test_a_deployment_is_left_to_judge_its_name_says_nothing():
    request = ask(model="gpt-image-1", response_format="url")
    assert sent(request, ON_AZURE)["response_format"] == "url"
    path = "/openai/deployments/gpt-image-1/images/generations"
    assert ON_AZURE.path(request) == path


@pytest.mark.parametrize("field", ["size", "quality"])
def test_what_xai_does_not_know_is_refused_by_name(field):
    assert refused(ask(**{field: "auto"}), AT_XAI) == field
    assert sent(ask(**{field: "auto"}), OPENAI)[field] == "auto"


def test_xai_is_told_what_only_it_knows():
    request = ask(extra={"aspect_ratio": "16:9", "resolution": "2k"})
    assert sent(request, AT_XAI)["aspect_ratio"] == "16:9"
    assert refused(ask(extra={"style": "vivid"}), AT_XAI) == "style"


@pytest.mark.parametrize("n", [0, -1, 11])
def test_too_many_pictures_are_refused(n):
    assert refused(ask(n=n)) == "n"
    assert sent(ask(n=n), LOCAL)["n"] == n
    assert sent(ask(n=10))["n"] == 10


@pytest.mark.parametrize("field", ["stream", "partial_images"])
def test_a_stream_of_pictures_is_refused_by_name(field):
    assert refused(ask(extra={field: 1})) == field


def test_a_prompt_that_is_no_text_is_refused_without_quoting_it():
    with pytest.raises(InvalidRequest) as caught:
        OPENAI.encode(ask(prompt="secret \ud800"))
    assert "secret" not in str(caught.value)


# Answers


def test_pictures_come_as_base64_or_as_a_url():
    images = read(
        {"b64_json": "aGk=", "revised_prompt": "two ducks"},
        {"url": "https://pictures.example/1", "mime_type": "image/jpeg"},
        created=7,
        output_format="webp",
        size="1024x1024",
    )
    assert images.images == (
        GeneratedImage(
            data="aGk=", media_type="image/webp", revised_prompt="two ducks"
        ),
        GeneratedImage(url="https://pictures.example/1", media_type="image/jpeg"),
    )
    assert images.created == 7
    assert images.extra == {"output_format": "webp", "size": "1024x1024"}


def test_the_tokens_of_pictures_are_told_apart_from_text():
    usage = {
        "input_tokens": 14,
        "input_tokens_details": {"text_tokens": 14, "cached_tokens": 4},
        "output_tokens": 300,
        "output_tokens_details": {"image_tokens": 272, "text_tokens": 28},
    }
    assert read({"b64_json": "aGk="}, usage=usage).usage == Usage(
        input_tokens=14, output_tokens=300, cached_tokens=4, image_tokens=272
    )


def test_output_that_is_not_told_apart_is_all_pictures():
    usage = {"input_tokens": 1, "output_tokens": 4160}
    assert read({"url": "u"}, usage=usage).usage.image_tokens == 4160


def test_more_pictures_than_output_are_cut_to_it():
    usage = {"output_tokens": 5, "output_tokens_details": {"image_tokens": 9}}
    assert read({"url": "u"}, usage=usage).usage.image_tokens == 5


def test_a_price_that_xai_says_is_kept():
    body = {"data": [{"url": "u"}], "usage": {"cost_in_usd_ticks": 200_000_000}}
    assert AT_XAI.decode(json.dumps(body).encode()).usage == Usage(billed=pico("0.02"))


@pytest.mark.parametrize("dialect", [OPENAI, ON_AZURE, LOCAL])
def test_a_price_that_any_other_server_says_is_no_price(dialect):
    body = {"data": [{"url": "u"}], "usage": {"cost_in_usd_ticks": 200_000_000}}
    usage = dialect.decode(json.dumps(body).encode()).usage
    assert usage == Usage(estimated=True)


def test_a_usage_that_nobody_says_is_marked():
    assert read({"url": "u"}).usage == Usage(estimated=True)
    for ticks in (-1, 0, "1", 10**400):
        body = {"data": [{"url": "u"}], "usage": {"cost_in_usd_ticks": ticks}}
        usage = AT_XAI.decode(json.dumps(body).encode()).usage
        assert usage == Usage(estimated=True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"data": null}',
        b'{"data": []}',
        b'{"data": {}}',
        b'{"data": [7]}',
        b'{"data": [{}]}',
        b'{"data": [{"b64_json": ""}]}',
        b'{"data": [{"b64_json": 7}]}',
        b'{"data": [{"url": ["u"]}]}',
        b'{"data": [{"url": "u"}, {}]}',
        b'{"data": [{"url": "\xff"}]}',
        json.dumps({"data": [{"url": "u"}] * 101}).encode(),
        b'{"data":' + b"[" * 100_000,
    ],
)
def test_what_is_no_answer_is_an_error_and_not_quoted(body):
    with pytest.raises(BadProviderResponse) as caught:
        OPENAI.decode(body)
    assert caught.value.provider == "duck"
    assert len(str(caught.value)) < 200


def test_what_stands_beside_the_pictures_may_be_of_any_kind():
    odd = {"usage": [], "created": "x", "size": 7, "quality": None, "model": {}}
    images = read({"url": "u", "revised_prompt": 7, "mime_type": []}, **odd)
    assert images.images == (GeneratedImage(url="u"),)
    assert images.extra == {}


def test_every_truncation_is_an_error():
    body = json.dumps({"created": 1, "data": [{"b64_json": "aGk="}]}).encode()
    OPENAI.decode(body)
    for length in range(len(body)):
        with pytest.raises(BadProviderResponse):
            OPENAI.decode(body[:length])


def test_an_error_with_a_status_of_success_is_one():
    with pytest.raises(ContentFiltered):
        OPENAI.decode(b'{"error": {"code": 403, "message": "flagged by moderation"}}')
    with pytest.raises(RateLimited):
        OPENAI.decode(b'{"error": {"code": 429, "message": "slow down"}}')


# Sizes and prices


@pytest.mark.parametrize(
    ("quality", "most"), [("low", 408), ("medium", 1584), ("high", 6240), (None, 6240)]
)
def test_the_bound_holds_for_the_dearest_size_of_the_published_table(quality, most):
    bound = image_bound(ask(quality=quality, n=3))
    assert bound is not None
    assert bound.image_tokens == bound.output_tokens >= 3 * most
    assert bound.input_tokens > len("a duck")


@pytest.mark.parametrize("model", ["gpt-image-1.5", "gpt-image-2", "dall-e-3", "x"])
def test_of_other_models_nothing_is_promised(model):
    assert image_bound(ask(model=model)) is None
    assert likely_images(ask(model=model)).estimated


def test_pictures_have_the_price_of_pictures():
    prices = Prices(list_id="openai")
    usage = Usage(input_tokens=10, output_tokens=110, image_tokens=100)
    # 5 USD a million tokens in, 10 for text, 32 for pictures.
    listed = prices.cost(usage, "gpt-image-1.5")
    assert listed == pico("0.00335")
    assert prices.cost(usage, "dall-e-3") is None


def test_a_model_without_a_price_of_its_own_for_pictures_has_that_of_text():
    prices = Prices(list_id="openai")
    usage = Usage(input_tokens=10, output_tokens=100, image_tokens=100)
    assert prices.cost(usage, "gpt-image-1") == pico("0.00405")


# Recorded traffic

CALLS = [
    pytest.param(record, id=record.id)
    for provider in VARIANTS
    for record in (load(provider) if FOLDER.is_dir() else ())
    if record.api == "images"
]


@needs_recordings
def test_the_recordings_are_all_there():
    assert len(CALLS) == 13


@needs_recordings
@pytest.mark.parametrize("record", CALLS)
def test_recorded_answers_are_understood_as_by_the_sdk(record):
    dialect, expected = VARIANTS[record.provider], record.expected
    body = json.dumps(record.response["body"]).encode()
    if record.operation == "error":
        status, headers = record.response["status"], record.response["headers"]
        error = ERRORS(status, headers, body)
        assert isinstance(error, RequestError)
        assert not error.retryable
        wrong_model = "does not exist" in str(error)
        assert isinstance(error, ModelNotFound) == wrong_model
        assert error.param == expected["error"]["param"]
        return
    images = dialect.decode(body)
    kinds = ["b64" if picture.data else "url" for picture in images.images]
    assert kinds == expected["images"]
    said = record.response["body"].get("usage", {})
    assert images.usage.total_tokens == said.get("total_tokens", 0)


@needs_recordings
@pytest.mark.parametrize("record", CALLS)
def test_recorded_requests_are_sent_as_they_were(record):
    asked = record.request["body"]
    if not isinstance(asked, dict):
        pytest.skip("the request was not recorded")
    request = decode_image_request(json.dumps(asked).encode())
    assert sent(request, VARIANTS[record.provider]) == asked
