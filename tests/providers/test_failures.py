from __future__ import annotations

import json
from email.utils import formatdate

import pytest

from duckservice.core.circuit_breaker import Outcome, outcome_of
from duckservice.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    InvalidRequest,
    ModelNotFound,
    ProviderAuthError,
    ProviderError,
    ProviderTimeout,
    QuotaExceeded,
    RateLimited,
    RequestTooLarge,
    Unprocessable,
)
from duckservice.providers.failures import Classifier, until_reset, wait_in_text

KEY = "sk-canary-7f3a9c51d2e8b604"
NOW = 1_700_000_000.0


def classify(status, body, **headers):
    classifier = Classifier("duck", [KEY], wall_clock=lambda: NOW)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return classifier(status, names, raw)


def openai(message="", code=None, kind=None, param=None):
    error = {"message": message, "code": code, "type": kind, "param": param}
    return {"error": error}


def anthropic(kind, message=""):
    return {"type": "error", "error": {"type": kind, "message": message}}


@pytest.mark.parametrize(
    ("status", "body", "kind", "retryable"),
    [
        (429, openai("You exceeded your current quota"), QuotaExceeded, False),
        (429, openai("", "insufficient_quota"), QuotaExceeded, False),
        (429, openai("Rate limit reached", "rate_limit_exceeded"), RateLimited, True),
        (
            429,
            openai("Request too large for gpt-4o: Limit 30000, Requested 44158"),
            RateLimited,
            False,
        ),
        (
            429,
            openai("on requests per day (RPD): Limit 200"),
            RateLimited,
            False,
        ),
        (
            413,
            openai("Request too large", "rate_limit_exceeded"),
            RequestTooLarge,
            False,
        ),
        (413, {"error": {"type": "request_too_large"}}, RequestTooLarge, False),
        (413, b"<html>too large</html>", RequestTooLarge, False),
        (401, openai("", "invalid_api_key"), ProviderAuthError, False),
        (403, b"", ProviderAuthError, False),
        (403, anthropic("permission_error"), ProviderAuthError, False),
        (
            400,
            {"code": "x", "error": "Incorrect API key provided"},
            ProviderAuthError,
            False,
        ),
        (400, openai("API key not valid. Please pass one"), ProviderAuthError, False),
        (400, openai("bad", "context_length_exceeded"), ContextLengthExceeded, False),
        (
            400,
            openai("", None, "exceed_context_size_error"),
            ContextLengthExceeded,
            False,
        ),
        (
            400,
            anthropic("invalid_request_error", "prompt is too long: 9 tokens > 8"),
            ContextLengthExceeded,
            False,
        ),
        (400, openai("", "content_filter"), ContentFiltered, False),
        (400, openai("", "content_policy_violation"), ContentFiltered, False),
        (
            400,
            anthropic(
                "invalid_request_error", "Output blocked by content filtering policy"
            ),
            ContentFiltered,
            False,
        ),
        (404, openai("", "model_not_found"), ModelNotFound, False),
        (404, anthropic("not_found_error", "model: claude-x"), ModelNotFound, False),
        (
            404,
            openai("model 'x' not found, try pulling it first"),
            ModelNotFound,
            False,
        ),
        (400, openai("The requested model 'x' does not exist."), ModelNotFound, False),
        (404, openai("not a chat model", param="model"), ModelNotFound, False),
        (404, b"404 page not found", ProviderError, False),
        (
            400,
            anthropic("invalid_request_error", "Your credit balance is too low to"),
            QuotaExceeded,
            False,
        ),
        (402, openai("Insufficient Balance"), QuotaExceeded, False),
        (402, b"", QuotaExceeded, False),
        (422, {"detail": "no"}, Unprocessable, False),
        (400, openai("Unsupported parameter: 'stop'"), InvalidRequest, False),
        (529, anthropic("overloaded_error"), ProviderError, True),
        (503, openai("loading", None, "unavailable_error"), ProviderError, True),
        (500, b"", ProviderError, True),
        (502, b"<html>", ProviderError, True),
        (504, b"", ProviderTimeout, True),
        (408, b"", ProviderTimeout, True),
        (409, b"", ProviderError, True),
        (501, openai("no embeddings"), ProviderError, False),
        (418, b"", ProviderError, False),
    ],
)
def test_an_error_is_classified_by_status_code_and_words(status, body, kind, retryable):
    error = classify(status, body)
    assert type(error) is kind
    assert error.retryable is retryable
    assert error.provider == "duck"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *((status, b"") for status in (404, 405, 409, 418, 425, 451)),
        (400, openai("bad call", "tool_use_failed")),
    ],
)
def test_no_breaker_counts_a_refusal_as_a_failure(status, body):
    error = classify(status, body)
    assert error.upstream_status == status
    assert outcome_of(error) is Outcome.NEITHER


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *((status, b"") for status in (402, 408, 500, 501, 503, 504, 529)),
        (429, openai("", "insufficient_quota")),
        (400, openai("Your credit balance is too low")),
    ],
)
def test_a_breaker_counts_a_failure_and_an_empty_account(status, body):
    error = classify(status, body)
    assert error.upstream_status == status
    assert outcome_of(error) is Outcome.FAILURE


def test_the_server_may_forbid_a_retry_and_allow_one_but_not_of_an_empty_account():
    assert not classify(500, b"", x_should_retry="false").retryable
    assert not classify(429, b"", x_should_retry="false").retryable
    assert classify(400, b"", x_should_retry="true").retryable
    empty = openai("", "insufficient_quota")
    assert not classify(429, empty, x_should_retry="true").retryable


def test_the_field_at_fault_is_kept():
    assert classify(400, openai("no", param="temperature")).param == "temperature"


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Please try again in 174ms. Visit", 0.174),
        ("Please try again in 26.604s. Visit", 26.604),
        ("Please try again in 9m38.016s. Visit", 578.016),
        ("try again in 1h2m3s.", 3723.0),
        ("Please retry after 86400 seconds.", 86400.0),
        ("Please try again later", None),
        ("try again in 5 moons", None),
        ("", None),
    ],
)
def test_the_wait_is_found_in_the_text(message, seconds):
    assert wait_in_text(message) == (
        None if seconds is None else pytest.approx(seconds)
    )
    assert classify(429, openai(message)).retry_after == wait_in_text(message)


def test_a_header_says_better_than_the_text_how_long_to_wait():
    body = openai("Please try again in 6.78s")
    assert classify(429, body, retry_after="2").retry_after == 2.0
    assert classify(429, body, retry_after_ms="1500").retry_after == 1.5


def test_the_reset_of_the_limit_that_is_used_up_is_the_last_hint():
    headers = {
        "x-ratelimit-remaining-requests": "99",
        "x-ratelimit-reset-requests": "2m59.56s",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "7.66s",
    }
    assert until_reset(headers, NOW) == pytest.approx(7.66)
    assert until_reset({"X": "1"}, NOW) is None
    rfc = {"anthropic-ratelimit-tokens-reset": "2023-11-14T22:14:20Z"}
    assert until_reset(rfc, NOW) == 60.0
    assert until_reset({"x-ratelimit-reset": "1700000005000"}, NOW) == 5.0
    assert until_reset({"x-ratelimit-reset": "1700000005"}, NOW) == 5.0
    assert until_reset({"x-ratelimit-reset": "soon"}, NOW) is None
    assert classify(429, b"", x_ratelimit_reset="3s").retry_after == 3.0
    assert classify(500, b"", x_ratelimit_reset="3s").retry_after is None


def test_googles_retry_info_is_heard_in_openais_format_too():
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7.5s"}
    error = {"code": 429, "message": "Quota exceeded", "details": [{}, 7, info]}
    for body in ({"error": error}, [{"error": error}]):
        found = classify(429, body)
        assert isinstance(found, RateLimited)
        assert found.retry_after == 7.5
        assert classify(429, body, retry_after="3").retry_after == 3.0


@pytest.mark.parametrize("details", [None, 7, "x", [], [None], [{"retryDelay": "-1s"}]])
def test_details_without_a_delay_are_no_wait(details):
    assert classify(429, {"error": {"details": details}}).retry_after is None
    assert classify(429, [details]).retry_after is None


def test_what_is_said_in_a_field_comes_before_what_is_said_in_words():
    words = openai("Please try again in 1.5s")
    reset = {"x_ratelimit_remaining_tokens": "0", "x_ratelimit_reset_tokens": "59s"}
    assert classify(429, words).retry_after == 1.5
    assert classify(429, words, retry_after="20").retry_after == 20.0
    assert classify(429, words, retry_after_ms="1700").retry_after == 1.7
    # Until all of the limit is back is longer than until this request fits.
    assert classify(429, words, **reset).retry_after == 1.5
    assert classify(429, openai(""), **reset).retry_after == 59.0


def test_a_date_is_held_against_the_clock_of_who_wrote_it():
    at = formatdate(NOW + 3630, usegmt=True)
    date = formatdate(NOW + 3600, usegmt=True)
    assert classify(429, b"", retry_after=at).retry_after == 3630.0
    assert classify(429, b"", retry_after=at, date=date).retry_after == 30.0
    assert classify(429, b"", retry_after=at, date="never").retry_after == 3630.0


def test_a_wait_is_no_property_of_the_callers_own_fault():
    assert classify(400, openai("try again in 5s"), retry_after="9").retry_after is None


def test_hugging_face_says_when_the_model_is_loaded():
    body = {"error": "Model is loading", "estimated_time": 20.5}
    assert classify(503, body).retry_after == 20.5


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"error": {"type": "overloaded_error"}}, ProviderError),
        ({"error": {"type": "api_error"}}, ProviderError),
        ({"error": {"type": "rate_limit_error"}}, RateLimited),
        ({"error": {"type": "invalid_request_error"}}, InvalidRequest),
        ({"error": {"type": "server_error", "code": None}}, ProviderError),
        ({"error": {"code": 429, "message": "slow down"}}, RateLimited),
        ({"error": {"code": "x", "status_code": 401}}, ProviderAuthError),
        ({"error": "boom"}, ProviderError),
        ({"error": {"code": "insufficient_quota"}}, QuotaExceeded),
        ({"error": {"code": "429"}}, RateLimited),
        ({"error": {"code": "content_filter"}}, ContentFiltered),
        ({"error": {"code": "context_length_exceeded"}}, ContextLengthExceeded),
        ({"error": {"code": "tool_use_failed"}}, ProviderError),
        ({"error": {"type": "unavailable_error"}}, ProviderError),
        ({"error": {"code": "9999"}}, ProviderError),
        ({"error": {"code": True}}, ProviderError),
        ({}, ProviderError),
        (None, ProviderError),
        ([1], ProviderError),
    ],
)
def test_an_error_inside_of_a_200_finds_its_class_by_its_words(value, kind):
    assert type(Classifier("duck").in_band(value)) is kind


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ({"error": {"code": 409}}, 409),
        ({"error": {"code": "x", "status_code": 503}}, 503),
        ({"error": {"code": "429"}}, 429),
        ({"error": {"code": "\u0664\u0662\u0669"}}, None),
        ({"error": {"code": "tool_use_failed"}}, 400),
        ({"error": {"type": "not_found_error"}}, 404),
        ({"error": {"type": "overloaded_error"}}, 529),
        ({"error": {"type": "unheard of"}}, None),
        ({"error": "boom"}, None),
        (None, None),
    ],
)
def test_an_error_inside_of_a_200_has_the_status_that_it_names(value, status):
    assert Classifier("duck").in_band(value).upstream_status == status


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"error": {"message": 5, "code": {}, "type": []}}',
        b'{"error": {"message": "' + b"x" * 100_000 + b'"}}',
        b'{"estimated_time": 1e300}',
        b'"text"',
    ],
)
def test_any_body_of_an_error_becomes_a_bounded_message(body):
    error = classify(500, body)
    assert type(error) is ProviderError
    assert len(str(error)) < 1200


def test_a_message_has_no_control_characters():
    error = classify(400, openai("a\x1b[31mb\r\nc\x00d"))
    assert str(error) == "duck: 400: a[31mb cd"


def test_a_key_that_an_upstream_echoes_is_not_passed_on():
    said = f"Incorrect API key provided: {KEY}. Bearer {KEY} {KEY[3:17]}"
    error = classify(401, openai(said))
    for start in range(len(KEY) - 11):
        assert KEY[start : start + 12] not in str(error)


def test_a_key_in_the_place_of_the_field_is_not_passed_on_either():
    error = classify(400, openai("bad", param=KEY))
    assert error.param is not None
    assert KEY[:12] not in error.param


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        (
            {"detail": [{"loc": ["body", "user"], "msg": "Extra inputs", "type": "x"}]},
            "user: Extra inputs",
            "user",
        ),
        (
            {
                "object": "error",
                "message": {
                    "detail": [
                        {"loc": ["body", "messages", 0, "name"], "msg": "no"},
                        {"msg": "and no"},
                    ]
                },
            },
            "messages.0.name: no; and no",
            "messages.0.name",
        ),
        ({"detail": "Not Found"}, "Not Found", None),
        ({"detail": [5, None, {"loc": 5, "msg": []}]}, "", None),
        ({"message": {"detail": {"detail": []}}}, "", None),
    ],
)
def test_a_list_of_faults_is_told_with_the_field(body, message, param):
    error = classify(422, body)
    assert type(error) is Unprocessable
    assert str(error) == (f"duck: 422: {message}" if message else "duck: 422")
    assert error.param == param


def test_an_endless_list_of_faults_is_told_in_part():
    faults = [{"loc": ["a"], "msg": f"fault {n}"} for n in range(50)]
    assert "fault 7" in str(classify(422, {"detail": faults}))
    assert "fault 8" not in str(classify(422, {"detail": faults}))


def test_what_the_provider_behind_a_router_said_counts_too():
    error = {
        "message": "Provider returned error",
        "code": 429,
        "metadata": {
            "raw": "slow down please",
            "headers": {"X-RateLimit-Reset": "1700000005000", "X-Odd": 5},
        },
    }
    found = classify(429, {"error": error})
    assert type(found) is RateLimited
    assert str(found) == "duck: 429: Provider returned error: slow down please"
    assert found.retry_after == 5.0
    own = classify(429, {"error": error}, x_ratelimit_reset="1700000009000")
    assert own.retry_after == 9.0
    empty = {"code": 400, "metadata": {"raw": "You exceeded your current quota"}}
    assert type(classify(400, {"error": empty})) is QuotaExceeded


def test_a_limit_per_day_is_not_waited_for_however_it_is_spelt():
    said = "Rate limit exceeded: free-models-per-day. Add 10 credits"
    error = classify(429, openai(said))
    assert type(error) is RateLimited
    assert not error.retryable
