"""Numbers, money and times as people read them."""

from __future__ import annotations

import pytest

from duckservice.cli import text


@pytest.mark.parametrize(
    ("usd", "shown"),
    [
        ("0", "$0.00"), ("12.3456", "$12.35"), ("1234.5", "$1,234.50"),
        ("0.0123", "$0.0123"), ("0.5", "$0.50"), ("0.00000212", "$0.000002"),
        ("0.0000001", "<$0.000001"), ("1", "$1.00"), ("nan", "unknown"),
        (None, "unknown"), ("x\x1b", "unknown"),
    ],
)  # fmt: skip
def test_money_has_cents_or_what_is_needed_below_a_dollar(usd, shown):
    assert text.money(usd) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0ms"), (0.25, "250ms"), (1, "1s"), (59.9, "59s"), (61, "1m 1s"),
        (3600, "1h"), (8047.5, "2h 14m"), (90061, "1d 1h"), (86400, "1d"),
    ],
)  # fmt: skip
def test_a_time_has_its_two_largest_units(seconds, shown):
    assert text.elapsed(seconds) == shown


def test_what_is_not_known_is_a_dash():
    assert text.count(None) == text.milliseconds(None) == text.percent(None) == "-"
    assert text.count(1234) == "1,234"
    assert text.milliseconds(8.25) == "8.2ms"
    assert text.percent(0.987) == "99%"
    assert text.plural(1, "crash") == "1 crash"
    assert text.plural(2000, "restart") == "2,000 restarts"
