"""What response headers say of rate limits: in all dialects, and whatever is sent."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import formatdate, parsedate_to_datetime

import attrs
import pytest
from hypothesis import example, given, strategies as st

from duckservice.core.rate_hints import RateHints
from duckservice.providers.rate_header_names import meaning_of
from duckservice.providers.rate_headers import COUNT_MAX, rate_hints, says_limits
from duckservice.providers.rate_resets import RESET_MAX, sent_at
from tests.recordings import FOLDER, load, needs_recordings, response_parts

NOW = 1_792_000_000.0
DATE = formatdate(NOW, usegmt=True)


def read(**headers: str) -> dict[str, float]:
    """Return what was understood, without what was not said; ``_`` stands for ``-``."""
    plain = {name.replace("_", "-"): value for name, value in headers.items()}
    assert says_limits(plain)
    return said(rate_hints(plain, NOW))


def said(hints: RateHints) -> dict[str, float]:
    return {k: v for k, v in attrs.asdict(hints).items() if v is not None}


def at(seconds: float) -> str:
    """Return the time so many seconds from now, as RFC 3339 has it."""
    return datetime.fromtimestamp(NOW + seconds, UTC).isoformat()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("120ms", 0.12),
        ("1h2m3.5s", 3723.5),
        ("0", 0.0),
        ("33011.382867", 33011.382867),
        ("2m59.56s", 179.56),
        (str(int(NOW) + 7), 7.0),
        (str(int(NOW * 1000) + 7500), 7.5),
        (str(int(NOW) - 7), 0.0),
        (at(12.5), 12.5),
        ("86400", 86_400.0),
        ("86401", None),
    ],
)
def test_a_reset_is_read_in_every_way_in_which_it_is_written(value, seconds):
    found = read(x_ratelimit_reset_requests=value).get("requests_reset")
    assert found == (None if seconds is None else pytest.approx(seconds))


OPENAI_READ = (5000, 4999, 0.012, 160_000, 159_970, 0.011)
OPENAI = {
    "x-ratelimit-limit-requests": "5000",
    "x-ratelimit-remaining-requests": "4999",
    "x-ratelimit-reset-requests": "12ms",
    "x-ratelimit-limit-tokens": "160000",
    "x-ratelimit-remaining-tokens": "159970",
    "x-ratelimit-reset-tokens": "11ms",
}
ANTHROPIC = {
    f"anthropic-ratelimit-{kind}-{field}": value
    for kind, values in {
        "requests": ("4000", "3999", at(1)),
        "tokens": ("280000", "80000", at(2)),
        "input-tokens": ("200000", "0", at(63)),
        "output-tokens": ("80000", "79000", at(4)),
    }.items()
    for field, value in zip(("limit", "remaining", "reset"), values, strict=True)
}


def test_openai_s_six_are_read():
    assert attrs.astuple(rate_hints(OPENAI, NOW)) == (*OPENAI_READ, *(None,) * 6)


def test_anthropic_s_twelve_are_read_by_the_clock_of_who_sent_them():
    wrong = NOW + 3600.0
    assert said(rate_hints({**ANTHROPIC, "date": DATE}, wrong)) == {
        "requests_limit": 4000,
        "requests_remaining": 3999,
        "requests_reset": 1.0,
        "tokens_limit": 280000,
        "tokens_remaining": 80000,
        "tokens_reset": 2.0,
        "input_tokens_limit": 200000,
        "input_tokens_remaining": 0,
        "input_tokens_reset": 63.0,
        "output_tokens_limit": 80000,
        "output_tokens_remaining": 79000,
        "output_tokens_reset": 4.0,
    }
    assert rate_hints(ANTHROPIC, NOW).requests_reset == 1.0


@pytest.mark.parametrize(
    ("date", "believed"),
    [
        (DATE, True),
        (formatdate(NOW - 90_000, usegmt=True), True),
        ("Thu, 01 Jan 1970 00:00:00 GMT", False),
        ("yesterday", False),
        ("Wed, 99 Oct 2015 07:28:00 GMT", False),
        ("\xff\x00", False),
    ],
)
def test_a_date_that_is_days_off_is_not_believed(date, believed):
    assert (sent_at({"date": date}, NOW + 1.5) != NOW + 1.5) is believed


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        # Azure names the window; in its other dialect it writes rate-limit.
        (
            {
                "x_ratelimit_limit_requests": "40",
                "x_ratelimit_remaining_requests": "39",
                "x_ratelimit_renewalperiod_requests": "10",
            },
            {"requests_limit": 240, "requests_remaining": 39, "requests_reset": 10.0},
        ),
        ({"x_rate_limit_reset_tokens": "26"}, {"tokens_reset": 26.0}),
        # OpenAI: the tighter one speaks.
        (
            {
                "x_ratelimit_limit_tokens": "90000",
                "x_ratelimit_remaining_tokens": "80000",
                "x_ratelimit_reset_tokens": "6s",
                "x_ratelimit_limit_tokens_usage_based": "50000",
                "x_ratelimit_remaining_tokens_usage_based": "100",
                "x_ratelimit_reset_tokens_usage_based": "59s",
            },
            {"tokens_limit": 50000, "tokens_remaining": 100, "tokens_reset": 59.0},
        ),
        (
            {
                "x_ratelimit_remaining_tokens": "80000",
                "x_ratelimit_remaining_project_tokens": "7",
            },
            {"tokens_remaining": 7},
        ),
        # Cerebras: the day is nearly over, so a minute's limit is not what binds.
        (
            {
                "x_ratelimit_limit_requests_day": "14400",
                "x_ratelimit_remaining_requests_day": "3",
                "x_ratelimit_reset_requests_day": "33011.38",
                "x_ratelimit_limit_requests_minute": "30",
                "x_ratelimit_remaining_requests_minute": "29",
                "x_ratelimit_reset_requests_minute": "11",
            },
            {"requests_remaining": 3, "requests_reset": 33011.38},
        ),
        # Groq's requests are by the day.
        (
            {
                "x_ratelimit_limit_requests": "14400",
                "x_ratelimit_remaining_requests": "14370",
                "x_ratelimit_reset_requests": "2m59.56s",
            },
            {"requests_remaining": 14370, "requests_reset": 179.56},
        ),
        # Mistral
        (
            {
                "x_ratelimit_limit_req_10_second": "60",
                "x_ratelimit_remaining_req_10_second": "59",
                "x_ratelimit_limit_tokens_month": "1000000000",
                "x_ratelimit_remaining_tokens_month": "99",
                "x_ratelimit_tokens_query_cost": "21",
            },
            {
                "requests_limit": 360,
                "requests_remaining": 59,
                "requests_reset": 10.0,
                "tokens_remaining": 99,
            },
        ),
        # Fireworks
        (
            {
                "x_ratelimit_limit_tokens_prompt": "60000",
                "x_ratelimit_remaining_tokens_generated": "11",
                "x_ratelimit_over_limit": "no",
            },
            {"input_tokens_limit": 60000, "output_tokens_remaining": 11},
        ),
        # OpenRouter: of an unknown window, in milliseconds since the epoch.
        (
            {
                "x_ratelimit_limit": "20",
                "x_ratelimit_remaining": "0",
                "x_ratelimit_reset": str(int(NOW * 1000) + 41_000),
            },
            {"requests_remaining": 0, "requests_reset": 41.0},
        ),
        # Together: by the second, without saying so.
        (
            {
                "x_ratelimit_limit": "10",
                "x_ratelimit_remaining": "9",
                "x_ratelimit_limit_tokens": "3000",
                "x_tokenlimit_remaining": "2999",
            },
            {"requests_remaining": 9, "tokens_remaining": 2999},
        ),
        # Cohere
        (
            {
                "x_trial_endpoint_call_limit": "40",
                "x_trial_endpoint_call_remaining": "39",
                "x_endpoint_monthly_call_limit": "1000",
            },
            {"requests_limit": 40, "requests_remaining": 39},
        ),
        # IETF, from the early drafts to the last
        (
            {
                "ratelimit_limit": "100, 100;w=60",
                "ratelimit_remaining": "50",
                "ratelimit_reset": "30",
            },
            {"requests_limit": 100, "requests_remaining": 50, "requests_reset": 30.0},
        ),
        (
            {"ratelimit": "limit=100, remaining=50, reset=30"},
            {"requests_remaining": 50, "requests_reset": 30.0},
        ),
        (
            {
                "ratelimit": "limit=10, remaining=5, reset=3",
                "ratelimit_policy": "10;w=6",
            },
            {"requests_limit": 100, "requests_remaining": 5, "requests_reset": 3.0},
        ),
        (
            {
                "ratelimit_policy": '"burst";q=100;w=60,"daily";q=1000;w=86400',
                "ratelimit": '"daily";r=40;t=36000, "burst";r=99;t=30',
            },
            {"requests_remaining": 40, "requests_reset": 36000.0},
        ),
        (
            {
                "ratelimit_policy": '"size";q=65535;qu="content-bytes";w=10',
                "ratelimit": '"size";r=0;t=5',
            },
            {},
        ),
    ],
)  # fmt: skip
def test_every_other_dialect_is_read_as_its_owner_means_it(headers, expected):
    assert read(**headers) == pytest.approx(expected)


@pytest.mark.parametrize(
    "value",
    [
        "", " ", "-1", "+5", "nan", "NaN", "inf", "-inf", "1e3", "0x10", "1_000", "5, 7",
        "5,7", "\uff15", "\u0665", "\xb2", "9" * 20, "9" * 400, "10000000000001", "five",
        "5.5", "\x00", "5;w=60", "5, 6;w=60", "5, 5;w=60, 5;w=1", "X-RATELIMIT-XXX",
    ],
)  # fmt: skip
def test_what_is_no_count_counts_as_not_said(value):
    for name in ("limit", "remaining"):
        assert not rate_hints({f"x-ratelimit-{name}-requests": value}, NOW)


@pytest.mark.parametrize(
    "value",
    [
        "", "-1", "-1s", "nan", "inf", "1e3", "soon", "9" * 17, "5, 7", "\xb2s", "1d1s",
        "2026-99-01T00:00:00Z", "2026-10-14T01:47:00", "9999-12-31T23:59:59Z",
        "0001-01-01T00:00:00", "PT1M", "000000000d000000000h000000000m000000001s1ms",
        "0" * 15 + "1." + "0" * 16 + " " * 9 + "s",
    ],
)  # fmt: skip
def test_what_is_no_reset_counts_as_not_said(value):
    assert not rate_hints({"x-ratelimit-reset-tokens": value}, NOW)


def test_a_limit_of_nothing_counts_as_not_said():
    assert read(x_ratelimit_limit_requests="0") == {}
    assert read(x_ratelimit_limit_requests="0", x_ratelimit_remaining_requests="0") == {
        "requests_remaining": 0
    }


@pytest.mark.parametrize(
    "name",
    [
        "x-ratelimit-key", "x-ratelimit-abusepenalty-active", "x-ratelimit-tokens-query-cost",
        "x-ratelimit-limit-input-images", "anthropic-ratelimit-unified-reset",
        "x-ratelimit-limit-remaining-requests", "x-ratelimit-", "x-ratelimit-reset-",
        "x-ratelimit--tokens", "llm_provider-x-ratelimit-limit-requests",
        "x-ratelimit-limit-requests" + "-usage" * 20, "content-length-limit",
        "x-ratelimit-limit-0-second-of",
    ],
)  # fmt: skip
def test_what_is_about_something_else_is_left_alone(name):
    assert not rate_hints({name: "5"}, NOW)


def test_answers_without_such_headers_are_not_looked_at():
    assert not says_limits({"content-type": "application/json", "date": DATE})


names = st.sampled_from([*OPENAI, *ANTHROPIC]) | st.builds(
    "-".join,
    st.lists(
        st.sampled_from(
            [
                "x",
                "ratelimit",
                "rate",
                "limit",
                "remaining",
                "reset",
                "requests",
                "tokens",
                "req",
                "10",
                "second",
                "day",
                "minute",
                "input",
                "anthropic",
                "policy",
                "project",
                "renewalperiod",
            ]
        ),
        max_size=6,
    ),
)
values = (
    st.text(alphabet='0123456789.dhms-+ ,;=rtqw"TZ:', max_size=40)
    | st.text(max_size=20)
    | st.integers(-5, 10**20).map(str)
)


@given(st.dictionaries(names | st.just("date") | st.just("ratelimit"), values))
@example({"ratelimit": ',;=,;=,"', "ratelimit-policy": ";w="})
@example({"x-ratelimit-limit-requests": "5", "x-ratelimit-renewalperiod-requests": "0"})
@example({"ratelimit": '"a";r=1;t=1', "ratelimit-policy": '"a";w=0.0000000001;q=9'})
def test_whatever_is_sent_nothing_raises_and_nothing_absurd_is_said(headers):
    for name, value in said(rate_hints(headers, NOW)).items():
        if name.endswith("_reset"):
            assert isinstance(value, float)
            assert 0 <= value <= RESET_MAX
        else:
            assert isinstance(value, int)
            assert 0 <= value <= 60 * COUNT_MAX


# What was recorded: one of each set of headers, as a person reads it.

READ = {
    ("openai", "5beb46cf9d"): OPENAI_READ,
    ("openai", "5cc6ddbfb2"): (10000, 9999, 0.006, 30_000_000, 29_999_227, 0.001),
    ("openai", "b5dca01449"): (3500, 3499, 0.017, 90000, 89980, 0.012),
    ("openai", "5b43d6f6db"): (3000, 2999, 0.02, 250000, 249983, 0.003),
    ("anthropic", "43d51c9631"): (5, 4, 41.0, 10000, 10000, 41.0),
    ("anthropic", "537808c20e"): (5, 0, 1.0, 25000, 16000, 1.0),
    ("anthropic", "ddb1f7f13e"): (4000, 3999, 0.0, 2_400_000, 2_400_000, 0.0),
    ("azure", "fe03279a0a"): (None, 119, None, None, 119984, None),
    ("azure", "9bd3d4a99b"): (250, 249, 0.0, 250000, 249993, 0.0),
    ("cohere", "1882cfafee"): (10, 9, None, None, None, None),
    ("groq", "ff667e41ea"): (None, 14370, 179.56, 18000, 17997, 7.66),
    ("huggingface", "073abd649f"): (None, 1999, None, None, None, None),
    ("huggingface", "ce09e5ece8"): (400, 399, 19.0, None, None, None),
    ("mistral", "ed1e24fd3d"): (100, 92, None, 100000, 97715, None),
    ("mistral", "b83da973ee"): (60, 52, None, 500000, 499497, None),
    ("mistral", "07128eb297"): (360, 352, None, None, None, None),
    ("mistral", "b8c5aa373c"): (360, 59, 10.0, 20_000_000, 19_999_979, None),
    ("mistral", "72334f84a9"): (None, None, None, 500000, 307190, 46.0),
    ("together", "c37fdd1504"): (None, 59, 2.0, None, 3000, None),
    ("xai", "85a76f8927"): (1800, 1800, None, 10_000_000, 10_000_000, None),
    ("xai", "f288a062bb"): (300, 300, None, None, None, None),
}


def recorded(provider: str):
    """Yield each record that says something of limits, with its headers."""
    for record in load(provider):
        _, headers, _ = response_parts(record)
        if any("ratelimit" in name or "call-limit" in name for name in headers):
            yield record, headers


def understood(headers) -> tuple:
    date = headers.get("date")
    now = parsedate_to_datetime(date).timestamp() if date else NOW
    return attrs.astuple(rate_hints(headers, now))


@needs_recordings
@pytest.mark.parametrize(("provider", "id_"), READ)
def test_what_was_recorded_is_read_as_a_person_reads_it(provider, id_):
    [headers] = [its for record, its in recorded(provider) if record.id == id_]
    assert understood(headers)[:6] == READ[provider, id_]


@needs_recordings
def test_an_anthropic_answer_was_recorded_with_all_twelve():
    [headers] = [its for r, its in recorded("anthropic") if r.id == "26eef32ae7"]
    date = formatdate(1_748_877_272.0)  # 16 s before the minute is over
    assert attrs.astuple(rate_hints({**headers, "date": date}, 1_748_877_272.0)) == (
        *(4000, 4000, 13.0, 280000, 80000, 13.0),
        *(200000, 0, 76.0, 80000, 80000, 13.0),
    )


MASKED = ("XXX", "REDACTED")
"""What recorders have put in the place of values."""


@needs_recordings
def test_all_that_was_recorded_with_such_headers_is_understood():
    seen = 0
    for file in sorted(FOLDER.glob("*.jsonl.gz")):
        provider = file.name.removesuffix(".jsonl.gz")
        for record, headers in recorded(provider):
            about = {k: v for k, v in headers.items() if meaning_of(k) is not None}
            assert about, record
            plain = [v for v in about.values() if not v.endswith(MASKED)]
            assert any(x is not None for x in understood(headers)) == bool(plain), (
                record
            )
            seen += 1
    assert seen > 400


NO_LIMITS = {
    "x-endpoint-monthly-call-limit",  # of which nobody says what is left
    "x-ratelimit-abusepenalty-active",
    "x-ratelimit-key",
    "x-ratelimit-limit-input-images",
    "x-ratelimit-remaining-input-images",
    "x-ratelimit-reset-input-images",
    "x-ratelimit-tokens-query-cost",
    "ratelimitbysize-query-cost",
}


@needs_recordings
def test_no_header_that_was_recorded_is_overlooked():
    overlooked = set()
    for file in sorted(FOLDER.glob("*.jsonl.gz")):
        for _, headers in recorded(file.name.removesuffix(".jsonl.gz")):
            about = {n for n in headers if "limit" in n or "call-remaining" in n}
            overlooked |= {name for name in about if meaning_of(name) is None}
    assert overlooked == NO_LIMITS
