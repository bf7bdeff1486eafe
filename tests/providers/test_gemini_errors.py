from __future__ import annotations

import json

import pytest

from duckservice.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    DuckError,
    InvalidRequest,
    ModelNotFound,
    NotFound,
    ProviderAuthError,
    ProviderError,
    ProviderTimeout,
    QuotaExceeded,
    RateLimited,
    RequestTooLarge,
)
from tests.providers.gemini import ERRORS, decoded

# Errors


def failure(status: int, message="", *details, word="", **fields) -> DuckError:
    error = {"code": status, "message": message, "status": word, **fields}
    if details:
        error["details"] = list(details)
    return ERRORS(status, {}, json.dumps({"error": error}).encode())


QUOTA = (
    "You exceeded your current quota, please check your plan and billing details.\n"
    "* Quota exceeded for metric: generate_content_free_tier_requests, limit: 10"
)


def quota(quota_id: str) -> dict:
    return {
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [{"quotaId": quota_id}],
    }


@pytest.mark.parametrize(
    ("status", "message", "details", "kind", "retryable"),
    [
        (400, "Request contains an invalid argument.", (), InvalidRequest, False),
        (
            400,
            "API key not valid. Please pass a valid API key.",
            ({"reason": "API_KEY_INVALID"},),
            ProviderAuthError,
            False,
        ),
        (
            400,
            "other words",
            ({"reason": "API_KEY_INVALID"},),
            ProviderAuthError,
            False,
        ),
        (400, "API key expired. Please renew it.", (), ProviderAuthError, False),
        (
            400,
            "User location is not supported for the API use.",
            (),
            ProviderAuthError,
            False,
        ),
        (
            400,
            (
                "The input token count (1253892) exceeds the maximum number of tokens"
                " allowed (1048575)."
            ),
            (),
            ContextLengthExceeded,
            False,
        ),
        (
            400,
            (
                "Unable to submit request because the input token count is 33044 but model"
                " only supports up to 32768."
            ),
            (),
            ContextLengthExceeded,
            False,
        ),
        (
            400,
            "Request payload size exceeds the limit: 20971520 bytes.",
            (),
            RequestTooLarge,
            False,
        ),
        (
            400,
            (
                "This prompt contains sensitive words that violate Google's Responsible AI"
                " practices."
            ),
            (),
            ContentFiltered,
            False,
        ),
        (401, "Request had invalid authentication.", (), ProviderAuthError, False),
        (403, "Permission denied on resource.", (), ProviderAuthError, False),
        (
            404,
            "models/x is not found for API version v1beta, or is not supported",
            (),
            ModelNotFound,
            False,
        ),
        (
            404,
            "Publisher Model `projects/p/models/x` not found.",
            (),
            ModelNotFound,
            False,
        ),
        (404, "Not found: cache content metadata 875.", (), NotFound, False),
        (404, "", (), ProviderError, False),
        (429, "Resource exhausted. Please try again later.", (), RateLimited, True),
        (429, QUOTA, (), RateLimited, True),
        (
            429,
            QUOTA,
            (quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier"),),
            RateLimited,
            True,
        ),
        (
            429,
            QUOTA,
            (quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"),),
            RateLimited,
            False,
        ),
        (429, "Quota exceeded, limit: 0, model: m", (), RateLimited, False),
        (429, "Your prepayment credits are depleted.", (), QuotaExceeded, False),
        (499, "The operation was cancelled.", (), ProviderError, False),
        (500, "An internal error has occurred.", (), ProviderError, True),
        (
            503,
            "The model is overloaded. Please try again later.",
            (),
            ProviderError,
            True,
        ),
        (504, "Deadline expired.", (), ProviderTimeout, True),
    ],
)
def test_every_error_is_of_its_class(status, message, details, kind, retryable):
    error = failure(status, message, *details)
    assert type(error) is kind
    assert error.retryable is retryable
    assert error.upstream_status == status


def test_how_long_to_wait_is_in_the_details_or_in_the_words():
    delay = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "42.5s"}
    assert failure(429, "", delay).retry_after == 42.5
    words = "Please retry in 20.04466179s."
    assert failure(429, words).retry_after == pytest.approx(20.04466179)
    assert failure(429, "", {"retryDelay": "soon"}).retry_after is None


def test_an_error_in_an_array_is_the_same():
    error = {"error": {"code": 429, "message": "Resource exhausted.", "status": "R"}}
    got = ERRORS(429, {}, json.dumps([error]).encode())
    assert type(got) is RateLimited
    assert "Resource exhausted" in str(got)
    with pytest.raises(RateLimited):
        decoded([error])
    with pytest.raises(RateLimited):
        decoded(error)


@pytest.mark.parametrize("details", [1, [1], [{"violations": 1}], {"a": 1}, [None]])
def test_details_of_any_kind_are_survived(details):
    error = {"error": {"code": 400, "message": "m", "details": details}}
    assert type(ERRORS(400, {}, json.dumps(error).encode())) is InvalidRequest
