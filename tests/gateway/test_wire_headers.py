from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings, strategies as st

from duckservice.calls.call import CallOptions, CallReport, Submitter
from duckservice.errors import InvalidRequest
from duckservice.gateway.wire.headers import (
    header_value,
    read_betas,
    read_options,
    report_headers,
    timestamp,
    usd,
)

NOW_WALL, NOW_TRIO = 1_700_000_000.0, 50.0


def read(*headers, **options) -> CallOptions:
    raw = [
        (
            name.lower().encode(),
            value if isinstance(value, bytes) else value.encode(),
        )
        for name, value in headers
    ]
    return read_options(raw, now_wall=NOW_WALL, now_trio=NOW_TRIO, **options)


def test_without_headers_the_defaults_hold():
    submitter = Submitter(uid=1, gid=2, pid=3)
    headers = [("content-type", "application/json"), ("accept", "*/*")]
    options = read(*headers, submitter=submitter, new_request_id=lambda: "new")
    assert options == CallOptions(submitter=submitter, request_id="new")


def test_every_header_is_read():
    options = read(
        ("Duck-Priority", "high"),
        ("Duck-Tags", "team=core, who = Zoë ,x=a=b"),
        ("Duck-Max-Cost-Usd", "1.25"),
        ("Duck-Deadline", "2.5"),
        ("Duck-Cache", "refresh"),
        ("Idempotency-Key", "k-1"),
        ("X-Request-Id", "req/1"),
    )
    assert options == CallOptions(
        priority="high",
        tags={"team": "core", "who": "Zoë", "x": "a=b"},
        max_cost=1_250_000_000_000,
        deadline=52.5,
        request_id="req/1",
        cache="refresh",
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Duck-Priority", "urgent"),
        ("Duck-Priority", ""),
        ("Duck-Priority", "HIGH"),
        ("Duck-Cache", "hit"),
        ("Duck-Tags", "team"),
        ("Duck-Tags", "=x"),
        ("Duck-Tags", "x="),
        ("Duck-Tags", "a=1,,b=2"),
        ("Duck-Tags", "a=1,a=2"),
        ("Duck-Tags", "k" * 65 + "=1"),
        ("Duck-Tags", "k=" + "v" * 257),
        ("Duck-Tags", ",".join(f"k{n}=v" for n in range(17))),
        ("Duck-Tags", "a=b\x1b[31m"),
        ("Duck-Tags", "a=b\u2028c"),
        ("Duck-Tags", b"a=\xff"),
        ("Duck-Max-Cost-Usd", "NaN"),
        ("Duck-Max-Cost-Usd", "inf"),
        ("Duck-Max-Cost-Usd", "-1"),
        ("Duck-Max-Cost-Usd", "1e3"),
        ("Duck-Max-Cost-Usd", "1,5"),
        ("Duck-Max-Cost-Usd", ""),
        ("Duck-Max-Cost-Usd", "0.0000000000001"),
        ("Duck-Max-Cost-Usd", "9" * 5000),
        ("Duck-Max-Cost-Usd", "\u0661"),
        ("Duck-Deadline", "soon"),
        ("Duck-Deadline", "-5"),
        ("Duck-Deadline", "nan"),
        ("Duck-Deadline", "1e9"),
        ("Duck-Deadline", "999999999"),
        ("Duck-Deadline", "2023-11-14T22:13:20"),
        ("Duck-Deadline", "2023-13-14T22:13:20Z"),
        ("Duck-Deadline", "2023-11-14"),
        ("Duck-Deadline", "9999-12-31T23:59:59Z"),
        ("X-Request-Id", ""),
        ("X-Request-Id", "a b"),
        ("X-Request-Id", "x" * 129),
        ("X-Request-Id", "é"),
        ("X-Request-Id", "a\r\nb"),
        ("Idempotency-Key", "k" * 256),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Content-Type", "multipart/form-data; boundary=x"),
        ("Content-Type", "text/plain"),
        ("Content-Encoding", "gzip"),
    ],
)
def test_a_bad_value_is_refused_by_the_headers_name(name, value):
    with pytest.raises(InvalidRequest) as caught:
        read((name, value))
    assert caught.value.param == name
    assert caught.value.message.startswith(f"header {name}: ")


def test_a_header_given_twice_is_refused():
    with pytest.raises(InvalidRequest, match="twice"):
        read(("Duck-Priority", "low"), ("Duck-Priority", "high"))


def betas(*values: bytes) -> tuple[str, ...]:
    others = [(b"content-type", b"application/json"), (b"anthropic-version", b"1")]
    return read_betas([*others, *((b"anthropic-beta", value) for value in values)])


@pytest.mark.parametrize(
    ("values", "read"),
    [
        ([], ()),
        ([b""], ()),
        ([b"a-2025-01-01"], ("a-2025-01-01",)),
        ([b"a,b , c", b"d"], ("a", "b", "c", "d")),
        ([b", a,,\tb,"], ("a", "b")),
        ([b"a,b,a"], ("a", "b")),
        ([b"x" * 128], ("x" * 128,)),
        ([b",".join(b"%d" % n for n in range(32))], tuple(map(str, range(32)))),
    ],
)
def test_the_features_that_a_client_asks_for_are_read(values, read):
    assert betas(*values) == read


@pytest.mark.parametrize(
    "value",
    [
        b"x" * 129,
        b"a b",
        b"a,\x1b[31m",
        "é".encode(),
        b"\xff",
        b",".join(b"%d" % n for n in range(33)),
    ],
)
def test_a_bad_list_of_features_is_refused_by_the_headers_name(value):
    with pytest.raises(InvalidRequest) as caught:
        betas(value)
    assert caught.value.param == "Anthropic-Beta"
    assert caught.value.message.startswith("header Anthropic-Beta: ")


@pytest.mark.parametrize(
    "value",
    ["application/json", "Application/JSON; charset=utf-8", "application/x+json"],
)
def test_json_may_be_called_by_several_names(value):
    assert read(("Content-Type", value)) == CallOptions()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("3600", 3600.0),
        ("2023-11-14T22:13:30Z", 10.0),
        ("2023-11-14t23:13:30.5+01:00", 10.5),
        ("2023-11-14T22:13:10Z", -10.0),
    ],
)
def test_a_deadline_is_a_time_of_day_or_seconds_from_now(value, seconds):
    assert read(("Duck-Deadline", value)).deadline == NOW_TRIO + seconds


@given(picodollars=st.integers(0, 10**24 - 1))
@settings(max_examples=100)
def test_dollars_are_exact_in_both_directions(picodollars):
    text = usd(picodollars)
    assert Decimal(text) * 10**12 == picodollars
    assert "e" not in text.lower()
    assert read(("Duck-Max-Cost-Usd", text)).max_cost == picodollars


def test_dollars_are_written_without_what_says_nothing():
    written = [usd(n) for n in (0, 1, 10**12, 1_500_000_000_000, 10**14, -(10**11))]
    assert written == ["0", "0.000000000001", "1", "1.5", "100", "-0.1"]


def test_a_report_becomes_headers():
    report = CallReport(
        job="job-1",
        request_id="req-1",
        provider="openai",
        attempts=2,
        queued=0.0125,
        cost=1_234_500_000,
    )
    headers = {
        b"x-request-id": b"req-1",
        b"duck-job": b"job-1",
        b"duck-provider": b"openai",
        b"duck-cache": b"miss",
        b"duck-attempts": b"2",
        b"duck-queue-ms": b"12",
    }
    assert dict(report_headers(report, streaming=True)) == headers
    cost = {b"duck-cost-usd": b"0.0012345"}
    assert dict(report_headers(report)) == headers | cost
    report.cost = None
    assert dict(report_headers(report)) == headers


@pytest.mark.parametrize("streaming", [False, True])
def test_an_answer_from_the_cache_says_so_and_that_it_costs_nothing(streaming):
    report = CallReport(job="job-1", request_id="req-1", cost=0, cache="hit")
    headers = dict(report_headers(report, streaming=streaming))
    assert headers[b"duck-cache"] == b"hit"
    assert headers[b"duck-cost-usd"] == b"0"
    assert headers[b"duck-attempts"] == b"0"


def test_an_answer_that_the_cache_did_not_have_says_so():
    report = CallReport(job="job-1", request_id="req-1", cost=7, cache="miss")
    assert dict(report_headers(report))[b"duck-cache"] == b"miss"
    head = dict(report_headers(report, streaming=True))
    assert head[b"duck-cache"] == b"miss"
    assert b"duck-cost-usd" not in head


@given(value=st.text())
@settings(max_examples=200)
def test_no_value_breaks_out_of_a_header(value):
    assert header_value(value).decode("ascii").isprintable()


@given(value=st.text() | st.from_regex(r"[0-9T:Zz.+-]{1,30}", fullmatch=True))
@settings(max_examples=200)
def test_no_text_breaks_the_reading_of_times(value):
    assert timestamp(value) is None or timestamp(value) == timestamp(value)


@given(value=st.binary())
@settings(max_examples=200)
@pytest.mark.parametrize(
    "name", ["Duck-Tags", "Duck-Deadline", "Duck-Max-Cost-Usd", "X-Request-Id"]
)
def test_no_bytes_raise_anything_but_invalid_request(name, value):
    try:
        read((name, value))
    except InvalidRequest as error:
        complaint = error
    else:
        return
    assert complaint.param == name
