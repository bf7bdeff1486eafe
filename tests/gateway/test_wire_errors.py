from __future__ import annotations

import json
from inspect import isclass

import anthropic
import httpx2
import openai
import pytest

from duckservice import errors
from duckservice.errors import DuckError
from duckservice.gateway.wire.errors import encode_error, family_of

ALL = [
    value
    for value in vars(errors).values()
    if isclass(value) and issubclass(value, DuckError) and value is not DuckError
]


def make(cls=errors.RateLimited, message="no", **attributes) -> DuckError:
    retry_after = attributes.pop("retry_after", None)
    error = cls(message, retry_after=retry_after)
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


def headers_of(answer) -> dict:
    return {name.decode(): value.decode() for name, value in answer.headers}


def to_response(answer) -> httpx2.Response:
    return httpx2.Response(
        answer.status,
        headers=answer.headers,
        content=answer.body,
        request=httpx2.Request("POST", "http://duck/v1"),
    )


@pytest.mark.parametrize("cls", ALL)
def test_every_error_has_the_contracts_code_in_every_family(cls):
    error = make(cls)
    openai_body = json.loads(encode_error(error, "openai").body)["error"]
    assert openai_body.keys() == {"message", "type", "param", "code"}
    assert openai_body["code"] == cls.code
    anthropic_body = json.loads(encode_error(error, "anthropic").body)
    assert anthropic_body["type"] == "error"
    assert anthropic_body["error"]["code"] == cls.code
    assert anthropic_body["error"]["message"] == "no"
    ours = json.loads(encode_error(error, "duck").body)
    assert ours == {"error": {"code": cls.code, "message": "no"}}
    for family in ("openai", "anthropic", "duck"):
        assert encode_error(error, family).status == cls.status


OPENAI_CLASSES = {
    errors.InvalidRequest: openai.BadRequestError,
    errors.ProviderAuthError: openai.AuthenticationError,
    errors.PermissionDenied: openai.PermissionDeniedError,
    errors.ModelNotFound: openai.NotFoundError,
    errors.Conflict: openai.ConflictError,
    errors.Unprocessable: openai.UnprocessableEntityError,
    errors.RateLimited: openai.RateLimitError,
    errors.QuotaExceeded: openai.RateLimitError,
    errors.QueueFull: openai.RateLimitError,
    errors.InternalError: openai.InternalServerError,
    errors.Draining: openai.InternalServerError,
    errors.ProviderTimeout: openai.InternalServerError,
    errors.BudgetExceeded: openai.APIStatusError,
}


@pytest.mark.parametrize(("cls", "sdk"), OPENAI_CLASSES.items())
def test_the_openai_sdk_raises_its_own_class(cls, sdk):
    client = openai.OpenAI(api_key="x", base_url="http://duck/v1")
    answer = encode_error(make(cls, request_id="req-1"), "openai")
    error = client._make_status_error_from_response(to_response(answer))
    assert type(error) is sdk
    assert error.code == cls.code
    assert error.request_id == "req-1"


ANTHROPIC_CLASSES = {
    errors.InvalidRequest: (anthropic.BadRequestError, "invalid_request_error"),
    errors.ProviderAuthError: (anthropic.AuthenticationError, "authentication_error"),
    errors.PermissionDenied: (anthropic.PermissionDeniedError, "permission_error"),
    errors.NotFound: (anthropic.NotFoundError, "not_found_error"),
    errors.Conflict: (anthropic.ConflictError, "invalid_request_error"),
    errors.RequestTooLarge: (anthropic.APIStatusError, "request_too_large"),
    errors.RateLimited: (anthropic.RateLimitError, "rate_limit_error"),
    errors.InternalError: (anthropic.InternalServerError, "api_error"),
    errors.ProviderError: (anthropic.InternalServerError, "api_error"),
    errors.CircuitOpen: (anthropic.InternalServerError, "overloaded_error"),
    errors.DeadlineExceeded: (anthropic.InternalServerError, "timeout_error"),
    errors.BudgetExceeded: (anthropic.APIStatusError, "billing_error"),
}


@pytest.mark.parametrize(("cls", "expected"), ANTHROPIC_CLASSES.items())
def test_the_anthropic_sdk_raises_its_own_class(cls, expected):
    sdk, kind = expected
    client = anthropic.Anthropic(api_key="x", base_url="http://duck")
    answer = encode_error(make(cls, request_id="req-1"), "anthropic")
    error = client._make_status_error_from_response(to_response(answer))
    assert isinstance(error, sdk)
    assert error.request_id == "req-1"
    assert error.body["error"]["type"] == kind
    assert error.body["request_id"] == "req-1"


@pytest.mark.parametrize(
    ("wait", "expected"),
    [(0.2, "1"), (1.0, "1"), (59.01, "60"), (0.0, "0"), (-3.0, "0")],
)
def test_retry_after_is_whole_seconds_rounded_up(wait, expected):
    answer = encode_error(make(retry_after=wait), "duck")
    assert headers_of(answer)["retry-after"] == expected
    assert json.loads(answer.body)["error"]["retry_after"] == int(expected)


@pytest.mark.parametrize("wait", [None, float("inf"), float("nan")])
def test_a_wait_that_nobody_knows_is_not_told(wait):
    answer = encode_error(make(retry_after=wait), "duck")
    assert "retry-after" not in headers_of(answer)
    assert "retry_after" not in json.loads(answer.body)["error"]


def test_what_is_hopeless_is_not_repeated_by_the_sdks():
    client = openai.OpenAI(api_key="x", base_url="http://duck/v1")
    for cls, repeated in ((errors.QuotaExceeded, False), (errors.QueueFull, True)):
        answer = encode_error(make(cls), "openai")
        assert client._should_retry(to_response(answer)) is repeated


def test_an_error_names_its_job_and_request():
    error = make(job="job-1", request_id="req-1", provider="openai")
    answer = encode_error(error, "duck")
    assert json.loads(answer.body)["error"]["job"] == "job-1"
    headers = headers_of(answer)
    assert headers["duck-job"] == "job-1"
    assert headers["duck-provider"] == "openai"
    assert headers["x-request-id"] == "req-1"
    assert headers["content-length"] == str(len(answer.body))
    assert headers["content-type"] == "application/json"


def test_no_value_of_an_error_breaks_out_of_its_header():
    error = make(job="a\r\nset-cookie: b", request_id="\u2028é", provider="x\0y")
    for _, value in encode_error(error, "anthropic").headers:
        assert value.decode("ascii").isprintable()


def test_a_status_may_be_narrower_than_the_class():
    answer = encode_error(errors.InvalidRequest("no"), "openai", status=405)
    assert answer.status == 405
    assert json.loads(answer.body)["error"]["code"] == "invalid_request"


@pytest.mark.parametrize(
    ("path", "family"),
    [
        ("/v1/chat/completions", "openai"),
        ("/v1/embeddings", "openai"),
        ("/v1/models", "openai"),
        ("/v1/models/x", "openai"),
        ("/v1/messages", "anthropic"),
        ("/v1/messages/count_tokens", "anthropic"),
        ("/v1/messagesx", "duck"),
        ("/v1/status", "duck"),
        ("/", "duck"),
    ],
)
def test_each_endpoint_belongs_to_a_family(path, family):
    assert family_of(path) == family
