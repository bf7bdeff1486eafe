"""What clients may say of their traces, and what is made of it."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import (
    TraceContextTextMapPropagator,
)

from duckservice.gateway.wire.headers import read_options
from duckservice.otel.traceparent import Traceparent, parse_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"

BAD = (
    *("", "x", GOOD[:-1], f"{GOOD}0", f"{GOOD}-more", f" {GOOD}", f"{GOOD}\n"),
    *(GOOD.upper(), f"ff-{TRACE}-{SPAN}-01", f"0-{TRACE}-{SPAN}-01"),
    *(f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01"),
    *(
        f"00-{TRACE}-{SPAN}-xx",
        f"00-{TRACE[1:]}-{SPAN}-01",
        "\N{ARABIC-INDIC DIGIT ZERO}" * 55,
    ),
)


def test_a_good_one_names_the_clients_span():
    expected = Traceparent(int(TRACE, 16), int(SPAN, 16), sampled=True)
    assert parse_traceparent(GOOD) == expected


@pytest.mark.parametrize("flags", ["00", "02", "fe"])
def test_the_last_bit_says_whether_the_client_keeps_it(flags):
    its = parse_traceparent(f"00-{TRACE}-{SPAN}-{flags}")
    assert its is not None
    assert not its.sampled


def test_a_later_version_is_read_as_far_as_it_is_known():
    assert parse_traceparent(f"01-{TRACE}-{SPAN}-01-more") is not None


@pytest.mark.parametrize("text", BAD)
def test_a_bad_one_is_none(text):
    assert parse_traceparent(text) is None


_HEX = st.text("0123456789abcdefABCDEF-g", max_size=33)


@given(
    st.one_of(
        st.builds("{}-{}-{}-{}".format, _HEX, _HEX, _HEX, _HEX),
        st.builds(
            "{:02x}-{:032x}-{:016x}-{:02x}".format,
            st.sampled_from([0, 1, 0xFE, 0xFF]),
            st.integers(0, 2**128 - 1),
            st.integers(0, 2**64 - 1),
            st.integers(0, 255),
        ),
    )
)
def test_it_is_understood_as_opentelemetrys_own_reader_does(text):
    context = TraceContextTextMapPropagator().extract({"traceparent": text})
    theirs = get_current_span(context).get_span_context()
    ours = parse_traceparent(text)
    assert (ours is not None) == theirs.is_valid
    if ours is not None:
        assert (ours.trace_id, ours.span_id) == (theirs.trace_id, theirs.span_id)
        assert ours.sampled == theirs.trace_flags.sampled


def options(*headers):
    return read_options(headers, now_wall=0.0, now_trio=0.0)


def test_the_header_comes_along_with_the_request():
    assert options((b"traceparent", GOOD.encode())).traceparent == GOOD
    assert options().traceparent == ""


@pytest.mark.parametrize(
    "headers",
    [
        [(b"traceparent", b"\xff" * 55)],
        [(b"traceparent", b"0" * 257)],
        [(b"traceparent", GOOD.encode()), (b"traceparent", GOOD.encode())],
    ],
)
def test_a_header_that_is_none_fails_no_request(headers):
    assert options(*headers).traceparent == ""
