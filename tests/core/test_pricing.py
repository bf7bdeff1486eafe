from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction

import attrs
import pytest
from hypothesis import given, strategies as st

from duckservice.completion import Usage
from duckservice.core.pricing import (
    AMOUNT_MAX,
    Price,
    believable,
    cost,
    pico,
    usd,
)

PRICES = st.builds(
    Price,
    input=st.integers(0, 10**9),
    output=st.integers(0, 10**9),
    cached_input=st.one_of(st.none(), st.integers(0, 10**9)),
    cache_write=st.one_of(st.none(), st.integers(0, 10**9)),
    hour_write=st.one_of(st.none(), st.integers(0, 10**9)),
    image_output=st.one_of(st.none(), st.integers(0, 10**9)),
)
TOKENS = st.integers(-5, 10**7)
USAGES = st.builds(
    Usage,
    input_tokens=TOKENS,
    output_tokens=TOKENS,
    cached_tokens=TOKENS,
    cache_write_tokens=TOKENS,
    hour_write_tokens=TOKENS,
    image_tokens=TOKENS,
)
AMOUNTS = st.integers(0, 10**25)
NO_MONEY = [
    "nan", "NaN", "sNaN", "inf", "-inf", "Infinity", "-1", "-0.000001", "", "abc", "1,5",
    "0x10", "1e999999999", "1e-999999999", "0e999999999", "9" * 100, "1.2.3", "--1",
]  # fmt: skip


def test_gpt_4o_costs_what_its_price_list_says():
    price = Price.usd_per_mtok(input="2.50", output="10.00", cached_input="1.25")
    usage = Usage(input_tokens=1_000_000, cached_tokens=400_000, output_tokens=100_000)
    assert usd(cost(usage, price)) == "3"


def test_claude_costs_what_its_price_list_says():
    price = Price.usd_per_mtok(
        input="3", output="15", cached_input="0.30", cache_write="3.75"
    )
    usage = Usage(
        input_tokens=2100, cached_tokens=2000, cache_write_tokens=64, output_tokens=10
    )
    expected = (
        Fraction(36 * 3 + 10 * 15) + 2000 * Fraction("0.3") + 64 * Fraction("3.75")
    )
    assert Fraction(cost(usage, price), 10**12) == expected / 10**6


@given(USAGES, PRICES)
def test_each_token_is_paid_once_and_nobody_is_paid_for_a_request(usage, price):
    whole = max(0, usage.input_tokens)
    parts = [price.input] * 3
    if price.cached_input is not None:
        parts[1] = price.cached_input
    if price.cache_write is not None:
        parts[2] = price.cache_write
        if price.hour_write is not None:
            parts.append(price.hour_write)
    reply = max(0, usage.output_tokens)
    out = [price.output] * 2
    if price.image_output is not None:
        out[1] = price.image_output
    paid = cost(usage, price)
    assert whole * min(parts) + reply * min(out) <= paid
    assert paid <= whole * max(parts) + reply * max(out)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), PRICES)
def test_parts_of_the_input_are_priced_as_such(plain, cached, written, price):
    usage = Usage(
        input_tokens=plain + cached + written,
        cached_tokens=cached,
        cache_write_tokens=written,
        output_tokens=7,
    )
    cached_price = price.input if price.cached_input is None else price.cached_input
    write_price = price.input if price.cache_write is None else price.cache_write
    expected = plain * price.input + cached * cached_price + written * write_price
    assert cost(usage, price) == expected + 7 * price.output


@given(st.integers(0, 10**6), st.integers(0, 10**6), PRICES)
def test_pictures_in_the_output_are_priced_as_such(text, drawn, price):
    usage = Usage(output_tokens=text + drawn, image_tokens=drawn)
    dear = price.output if price.image_output is None else price.image_output
    assert cost(usage, price) == text * price.output + drawn * dear


def test_more_pictures_than_output_cost_what_the_output_does():
    price = Price(input=1, output=1, image_output=10)
    assert cost(Usage(output_tokens=5, image_tokens=50), price) == 50
    assert cost(Usage(output_tokens=-5, image_tokens=50), price) == 0


def test_a_price_of_zero_is_a_price():
    price = Price(input=10, output=10, cached_input=0, cache_write=0)
    usage = Usage(input_tokens=10, cached_tokens=5, cache_write_tokens=5)
    assert cost(usage, price) == 0


def test_more_cached_tokens_than_input_tokens_cost_what_the_input_does():
    price = Price(input=10, output=10, cached_input=1)
    assert cost(Usage(input_tokens=5, cached_tokens=50), price) == 5
    assert cost(Usage(input_tokens=-5, output_tokens=-5, cached_tokens=9), price) == 0


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("cached_tokens", 1),
        ("cache_write_tokens", 20),
        ("hour_write_tokens", 40),
        ("image_tokens", 300),
    ],
)
def test_a_single_token_of_a_kind_has_the_price_of_its_kind(kind, expected):
    price = Price(
        input=10, output=100, cached_input=1, cache_write=20, hour_write=40,
        image_output=300,
    )  # fmt: skip
    written = {"cache_write_tokens": 1} if kind == "hour_write_tokens" else {}
    whole = {"output_tokens" if kind == "image_tokens" else "input_tokens": 1}
    assert cost(Usage(**{**whole, **written, kind: 1}), price) == expected


@pytest.mark.parametrize(
    "kind",
    ["cached_tokens", "cache_write_tokens", "hour_write_tokens", "image_tokens"],
)
def test_what_is_counted_below_zero_is_none_and_takes_nothing_off(kind):
    price = Price(
        input=10, output=100, cached_input=1, cache_write=20, hour_write=40,
        image_output=300,
    )  # fmt: skip
    usage = Usage(
        input_tokens=9, output_tokens=9, cached_tokens=2, cache_write_tokens=3
    )
    without = attrs.evolve(usage, **{kind: 0})
    assert cost(attrs.evolve(usage, **{kind: -1}), price) == cost(without, price)


def test_a_price_list_is_read_kind_by_kind():
    price = Price.usd_per_mtok(
        input="1", output="2", cached_input="3", cache_write="4", hour_write="5",
        image_output="6",
    )  # fmt: skip
    assert attrs.astuple(price) == tuple(n * 10**6 for n in range(1, 7))


def test_what_is_more_than_anything_can_cost_is_not_known():
    assert believable(None) is None
    assert [believable(amount) for amount in (0, AMOUNT_MAX)] == [0, AMOUNT_MAX]
    assert believable(AMOUNT_MAX + 1) is None


@given(USAGES, PRICES, TOKENS, TOKENS)
def test_where_the_provider_says_what_it_charges_this_is_priced(
    usage, price, read, written
):
    its = attrs.evolve(
        usage, billed_input_tokens=read, billed_output_tokens=written, image_tokens=0
    )
    expected = max(0, read) * price.input + max(0, written) * price.output
    assert cost(its, price) == expected


@given(AMOUNTS)
def test_an_amount_survives_being_written_down(amount):
    text = usd(amount)
    assert "e" not in text.lower()
    with localcontext(prec=60):
        assert Decimal(text) * 10**12 == amount
    if len(text) <= 40:
        assert pico(text) == amount


def test_amounts_are_written_without_exponent_and_without_needless_zeros():
    assert [usd(a) for a in (0, 1, 10**12, 10**13, 1_250_000, -5 * 10**11)] == [
        "0",
        "0.000000000001",
        "1",
        "10",
        "0.00000125",
        "-0.5",
    ]


@pytest.mark.parametrize("text", NO_MONEY)
def test_what_is_no_amount_is_refused(text):
    with pytest.raises(ValueError, match="is not an amount of money"):
        pico(text)
    with pytest.raises(ValueError, match="is not an amount of money"):
        Price.usd_per_mtok(input=text, output="1")
    with pytest.raises(ValueError, match="is not an amount of money"):
        Price.usd_per_mtok(input="1", output="1", cache_write=text)


@pytest.mark.parametrize("text", ["0.0000000000001", "1e-13"])
def test_what_is_finer_than_a_picodollar_is_refused(text):
    with pytest.raises(ValueError, match="finer"):
        pico(text)
    with pytest.raises(ValueError, match="finer"):
        Price.usd_per_mtok(input=text, output="1")


def test_numbers_as_people_and_programs_write_them_are_read_exactly():
    assert pico("20.00") == 20 * 10**12
    assert pico("2.5e-05") == 25_000_000
    assert pico("0.1000000000000000000") == 10**11
    assert Price.usd_per_mtok(input="0.075", output="0.3").input == 75_000


@pytest.mark.parametrize("field", ["input", "output", "cached_input", "cache_write"])
def test_a_negative_price_is_refused(field):
    with pytest.raises(ValueError, match=field):
        Price(**({"input": 1, "output": 1} | {field: -1}))


def test_what_is_written_for_an_hour_costs_more_than_what_is_for_minutes():
    price = Price.usd_per_mtok(
        input="3", output="15", cache_write="3.75", hour_write="6"
    )
    usage = Usage(input_tokens=1000, cache_write_tokens=300, hour_write_tokens=100)
    assert cost(usage, price) == pico("0.00345")  # 700 x 3, 200 x 3.75, 100 x 6
    without = attrs.evolve(price, hour_write=None)
    assert cost(usage, without) == pico("0.003225")
    too_many = attrs.evolve(usage, hour_write_tokens=9999)
    assert cost(too_many, price) == pico("0.0039")
