"""How long to wait, in all the ways in which providers put it."""

import math

import pytest
from hypothesis import given, strategies as st

from duckservice.providers.retry_after import parse_duration, retry_after

NOW = 1445412470.0  # 10 s before the date below
DATE = "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "86400"}, 86400.0),
        ({"retry-after": "17ms"}, 0.017),
        ({"retry-after": "26.604s"}, 26.604),
        ({"retry-after": "2m59.56s"}, 179.56),
        ({"retry-after": "9m38.016s"}, 578.016),
        ({"retry-after": "6m0s"}, 360.0),
        ({"retry-after": "1h"}, 3600.0),
        ({"retry-after": "1d2h3m4s5ms"}, 93784.005),
        ({"retry-after": DATE}, 10.0),
        ({"retry-after": "Wednesday, 21-Oct-15 07:28:00 GMT"}, 10.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:20:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 -0000"}, 10.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250.5", "retry-after": "1"}, 0.2505),
        ({"retry-after-ms": "soon", "retry-after": "1"}, 1.0),
        ({"retry-after-ms": "-1", "retry-after": "1"}, 1.0),
        ({"retry-after-ms": "nan", "retry-after": "1"}, 1.0),
    ],
)
def test_a_hint_is_read_as_seconds(headers, seconds):
    assert retry_after(headers, NOW) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    [
        "", " ", "-1", "+1", "nan", "NaN", "inf", "-inf", "infinity", "1e5", "1_000", "0x10",
        "\uff11\uff12", "s", "ms", "1 s", "s1", "1s1m", "--", "soon", "-17ms", "9" * 400,
        "Wed, 99 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 99999 07:28:00 GMT", "1,2", "\x00", ",",
    ],
)  # fmt: skip
def test_what_is_no_wait_counts_as_not_said(value):
    assert retry_after({"retry-after": value}, NOW) is None
    assert retry_after({"retry-after-ms": value}, NOW) is None


def test_no_header_is_no_hint():
    assert retry_after({}, NOW) is None


@given(st.text(alphabet="0123456789.dhms -+einaf:,GMTWedOct") | st.text())
def test_a_hint_is_never_negative_nor_infinite_and_never_raises(value):
    for name in ("retry-after", "retry-after-ms"):
        seconds = retry_after({name: value}, NOW)
        assert seconds is None or (seconds >= 0 and math.isfinite(seconds))


@given(st.integers(0, 9), st.integers(0, 59), st.integers(0, 59_999))
def test_the_parts_of_a_duration_add_up(hours, minutes, milliseconds):
    text = f"{hours}h{minutes}m{milliseconds / 1000}s"
    expected = hours * 3600 + minutes * 60 + milliseconds / 1000
    assert parse_duration(text) == pytest.approx(expected)
