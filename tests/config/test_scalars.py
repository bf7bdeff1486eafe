"""What a single value may be."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given, strategies as st

from duckservice import config as values
from duckservice.config_toml import scalars
from duckservice.config_toml.refused import Refused, shown

NO_NUMBERS = [True, False, "1", None, [], {}, Decimal("nan"), Decimal("inf")]


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("5s", 5.0),
        ("500ms", 0.5),
        ("10m", 600.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("2d", 172800.0),
        ("1m500ms", 60.5),
        (7, 7.0),
        (Decimal("0.25"), 0.25),
    ],
)
def test_a_duration_is_text_with_units_or_seconds(written, seconds):
    assert scalars.duration(values.Duration(), written) == seconds


@pytest.mark.parametrize(
    "written",
    [
        "", "5", "s", "5 s", "-5s", "+5s", "5S", "1e3s", "5s ", "\u0665s", "5s\n", "0s",
        "0.0s", "." * 100, "9" * 12 + "d", "1.2.3s", 0, -1, Decimal("-0.5"),
        Decimal("1e-400"), Decimal("1e999999"), 10**400, *NO_NUMBERS,
    ],
)  # fmt: skip
def test_what_is_no_length_of_time_is_refused(written):
    with pytest.raises(Refused):
        scalars.duration(values.Duration(), written)


def test_zero_is_a_duration_only_where_it_makes_sense():
    assert scalars.duration(values.Duration(zero=True), "0s") == 0.0
    assert scalars.duration(values.Duration(zero=True), 0) == 0.0
    with pytest.raises(Refused):
        scalars.duration(values.Duration(zero=True), "-1s")


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 999))
def test_the_parts_of_a_duration_add_up(hours, minutes, millis):
    total = hours * 3600 + minutes * 60 + millis / 1000
    text = f"{hours}h{minutes}m{millis}ms"
    found = scalars.duration(values.Duration(zero=True), text)
    assert math.isclose(found, total)


@given(st.integers())
def test_a_whole_number_is_taken_between_its_bounds_only(number):
    marker = values.Whole(1, 1000)
    if 1 <= number <= 1000:
        assert scalars.whole(marker, number) == number
    else:
        with pytest.raises(Refused, match="from 1 to 1000"):
            scalars.whole(marker, number)


@pytest.mark.parametrize("written", [*NO_NUMBERS, Decimal("1.0")])
def test_a_boolean_or_a_float_is_no_whole_number(written):
    with pytest.raises(Refused):
        scalars.whole(values.Whole(0, 10), written)


@pytest.mark.parametrize(
    "written", [*NO_NUMBERS, 0, -1, 11, Decimal("-0.0"), Decimal("1e-500")]
)
def test_a_number_is_finite_and_above_zero(written):
    with pytest.raises(Refused):
        scalars.number(values.Number(10), written)
    assert scalars.number(values.Number(10), Decimal("0.1")) == 0.1


@pytest.mark.parametrize(
    ("written", "exact"),
    [
        (Decimal("2.5"), "2.5"),
        (10, "10"),
        (0, "0"),
        (Decimal("0.1"), "0.1"),
        (Decimal("1e2"), "100"),
        (Decimal("-0.0"), "0.0"),
        (Decimal("0.000000000001"), "0.000000000001"),
    ],
)
def test_a_price_is_kept_exactly(written, exact):
    assert scalars.money(values.Money(), written) == exact


@pytest.mark.parametrize(
    "written",
    [
        *NO_NUMBERS, -1, 10**10, Decimal("0.0000000000001"), Decimal("1e999999999"),
        Decimal("1e-999999999"), Decimal("-0.01"),
    ],
)  # fmt: skip
def test_a_price_that_is_negative_or_absurd_is_refused(written):
    with pytest.raises(Refused):
        scalars.money(values.Money(), written)


@pytest.mark.parametrize("written", ["0600", "600", "0o600"])
def test_a_mode_is_octal_text(written):
    assert scalars.octal_mode(values.OctalMode((0o600, 0o660)), written) == 0o600


@pytest.mark.parametrize("written", [600, 0o600, "0666", "0777", "rw", "", True])
def test_another_mode_is_refused(written):
    with pytest.raises(Refused, match='"0600" or "0660"'):
        scalars.octal_mode(values.OctalMode((0o600, 0o660)), written)


@pytest.mark.parametrize("written", ["", "a\nb", "a\x1b[31m", "x" * 9, 5, "\ud800"])
def test_a_text_has_a_length_and_no_control_characters(written):
    with pytest.raises(Refused):
        scalars.text(values.Text(chars_max=8), written)
    assert scalars.text(values.Text(chars_max=8), "höhe") == "höhe"
    assert scalars.text(values.Text(chars_max=8, empty=True), "") == ""


@pytest.mark.parametrize("written", ["", "a b", "a:b", "a\r\nb", "ü", "Host", 5])
def test_a_header_name_is_a_token_that_we_do_not_send_ourselves(written):
    with pytest.raises(Refused):
        scalars.header_name(values.HeaderName(), written)
    assert scalars.header_name(values.HeaderName(), "X-Team") == "X-Team"


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\0", "\x1b", "\x7f", "ü"])
def test_a_header_value_cannot_break_out_and_is_not_quoted(end):
    with pytest.raises(Refused) as refusal:
        scalars.header_value(values.HeaderValue(), f"canary-value{end}")
    assert "canary" not in refusal.value.found


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("https://api.example.com/v1", "https://api.example.com/v1"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080"),
        ("http://[::1]:1/v1//", "http://[::1]:1/v1"),
    ],
)
def test_a_base_url_loses_the_slashes_at_its_end(written, url):
    assert scalars.base_url(values.BaseUrl(), written) == url


@pytest.mark.parametrize(
    "written",
    [
        "", "example.com", "ftp://example.com", "https://", "https:///v1", 5,
        "https://canary@example.com", "https://user:canary@example.com",
        "https://example.com?key=canary", "https://example.com/#canary",
        "https://example.com:99999", "https://example.com:canary", "https://[canary",
        "https://exam ple.com", "https://example.com\n", "https://example.com\\@x",
        "https://exämple.com", "https://example.com/" + "x" * 3000,
    ],
)  # fmt: skip
def test_another_url_is_refused_without_being_quoted(written):
    with pytest.raises(Refused) as refusal:
        scalars.base_url(values.BaseUrl(), written)
    assert "canary" not in refusal.value.found


@pytest.mark.parametrize("written", ["", "x", "./x", "~", "~me/x", "/a\0b", 5])
def test_a_path_is_absolute(written):
    with pytest.raises(Refused):
        scalars.path(written)
    assert str(scalars.path("~/x")) == "~/x"


def test_what_was_found_is_shown_short_and_on_one_line():
    assert shown("a\nb\x1b") == '"a\\nb\\u001b" (a string)'
    assert len(shown("x" * 10_000)) < 100
    assert len(shown(10**4000)) < 100
    assert shown(True) == "true (a boolean)"
    assert shown({}) == "a table"
    assert shown([1]) == "an array"
    assert "sk-abc" not in shown("sk-abcdefghijklmnopqrst")
