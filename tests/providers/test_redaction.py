from __future__ import annotations

import base64
import tracemalloc
from itertools import pairwise
from urllib.parse import quote

import pytest
from hypothesis import given, settings, strategies as st

from duckservice.providers.redaction import (
    MASK,
    TOKENS_MAX,
    BodyMask,
    MaskedForms,
    Redactor,
    Secrets,
)

KEYS = st.text(
    st.characters(min_codepoint=33, max_codepoint=126), min_size=16, max_size=60
)
TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)


@settings(max_examples=100, deadline=None)
@given(key=KEYS, before=TEXTS, after=TEXTS)
def test_no_piece_of_a_secret_of_12_characters_is_left(key, before, after):
    redacted = Redactor([key])(f"{before}{key}{after}{key[2:15]}")
    assert not any(key[i : i + 12] in redacted for i in range(len(key) - 11))


@settings(max_examples=100, deadline=None)
@given(key=KEYS, prefix=st.binary(max_size=5), suffix=st.binary(max_size=5))
def test_the_base64_and_url_forms_of_a_secret_are_found_too(key, prefix, suffix):
    redact = Redactor([key])
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        whole = encode(prefix + key.encode() + suffix).decode()
        redacted = redact(whole)
        assert MASK in redacted
        # The first and last characters are made of the neighbours as well.
        assert len(redacted.replace(MASK, "")) <= len(prefix + suffix) * 2 + 12
    quoted = quote(key, safe="")
    assert quoted not in redact(f"https://x/?key={quoted}")


@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-abcdefgh12345678",
        "sk-ant-api03-AAAAAAAAAAAAAAAA",
        "gsk_abcdefghijkl",
        "hf_abcdefghijkl",
        "xai-abcdefghijkl",
        "AIzaSyA1234567890abcdefgh",
        "Bearer abcdefgh12345",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc",
        "bad-key-**********test",
    ],
)
def test_what_is_shaped_like_a_key_is_masked_though_it_is_not_ours(key):
    assert Redactor()(f"the key {key} is wrong") == f"the key {MASK} is wrong"


@pytest.mark.parametrize(
    "text",
    [
        "The model `gpt-4o` does not exist or you do not have access to it.",
        "Limit 30000, Used 18928, Requested 11159. Please try again in 174ms.",
        "Invalid 'temperature': decimal above maximum value.",
        "task-oriented risk-free 2 * 3",
        "",
    ],
)
def test_other_text_is_left_alone(text):
    assert Redactor(["sk-canary-7f3a9c51d2"])(text) == text


def test_a_placeholder_is_no_secret():
    assert Redactor(["none", ""])("there is none") == "there is none"


def test_a_redactor_does_not_print_what_it_hides():
    assert "canary" not in repr(Redactor(["sk-canary-7f3a9c51d2"]))


@settings(max_examples=200, deadline=None)
@given(
    key=st.text("ABCDEFGH0123456789-_", min_size=16, max_size=60),
    before=st.text(" .,:", max_size=40),
    after=st.text(" .,:", max_size=40),
    cuts=st.sets(st.integers(1, 120)),
)
def test_a_secret_in_a_body_is_masked_wherever_the_body_is_cut(
    key, before, after, cuts
):
    mask = BodyMask(MaskedForms([key]))
    body = f"{before}{key}{after}".encode()
    edges = [0, *sorted(cut for cut in cuts if cut < len(body)), len(body)]
    pieces = [body[start:end] for start, end in pairwise(edges)]
    passed = b"".join([*map(mask.feed, pieces), mask.finish()])
    assert passed.decode() == f"{before}{MASK}{after}"


def masked_at_once(body: bytes, secrets: list[bytes]) -> bytes:
    """Return *body* masked as a whole: byte by byte, and not as we do it."""
    hidden = [False] * len(body)
    joined = [False] * len(body)  # with the byte before it, in one secret
    for at in range(len(body)):
        for secret in secrets:
            if body[at : at + len(secret)] == secret:
                hidden[at : at + len(secret)] = [True] * len(secret)
                joined[at + 1 : at + len(secret)] = [True] * (len(secret) - 1)
    out = b""
    for at, byte in enumerate(body):
        if not hidden[at]:
            out += bytes([byte])
        elif not joined[at]:
            out += MASK.encode()
    return out


WORDS = st.text("ab", min_size=16, max_size=90)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_what_is_masked_does_not_depend_on_where_a_body_is_cut(data):
    # Of two letters: secrets overlap, begin alike, and repeat themselves.
    secrets = data.draw(st.lists(WORDS, min_size=1, max_size=2))
    if data.draw(st.booleans()):
        around = st.text("ab", max_size=40)
        secrets.append(data.draw(around) + secrets[0] + data.draw(around))
    forms = MaskedForms(secrets)
    parts = st.one_of(
        st.sampled_from(secrets),
        st.sampled_from(secrets).flatmap(
            lambda s: st.integers(0, len(s)).flatmap(
                lambda n: st.sampled_from([s[:n], s[n:]])
            )
        ),
        st.text("ab.", max_size=20),
    )
    body = "".join(data.draw(st.lists(parts, max_size=8))).encode()
    cuts = data.draw(st.sets(st.integers(0, len(body))))
    edges = sorted({0, len(body), *cuts})
    pieces = [body[start:end] for start, end in pairwise(edges)]
    if data.draw(st.booleans()):
        pieces = [bytes([byte]) for byte in body]
    mask = BodyMask(forms)
    passed = b"".join([*map(mask.feed, pieces), mask.finish()])
    assert passed == masked_at_once(body, [s.encode() for s in secrets])


@pytest.mark.parametrize("prefix", [b"", b"B", b"Be", b"Bearer "])
def test_the_base64_of_a_secret_in_a_body_is_masked_too(prefix):
    secret = "sk-canary-7f3a9c51d2"
    mask = BodyMask(MaskedForms([secret]))
    passed = mask.feed(base64.b64encode(prefix + secret.encode())) + mask.finish()
    assert MASK.encode() in passed
    assert len(passed) <= len(MASK) + 16


@settings(max_examples=100, deadline=None)
@given(key=KEYS, pieces=st.lists(st.binary(min_size=1, max_size=40), max_size=8))
def test_a_body_without_the_secret_is_passed_on_as_it_is(key, pieces):
    mask = BodyMask(MaskedForms([key]))
    assert b"".join([*map(mask.feed, pieces), mask.finish()]) == b"".join(pieces)


def test_an_event_is_not_held_back():
    mask = BodyMask(MaskedForms(["sk-canary-7f3a9c51d2"]))
    assert mask.feed(b'data: {"a": "sk-can"}\n\n') == b'data: {"a": "sk-can"}\n\n'
    assert mask.feed(b"key sk-canary-7f3a9c51d2") == f"key {MASK}".encode()


def test_a_word_that_stands_in_for_a_key_is_not_masked_in_answers():
    mask = BodyMask(MaskedForms(["not-needed"]))
    assert mask.feed(b"a key is not-needed") == b"a key is not-needed"


@pytest.mark.parametrize("turn", [1, -1])
def test_of_two_secrets_that_may_have_begun_neither_is_passed_on(turn):
    first, second = "a" * 20 + "b" * 100, "b" * 100 + "c" * 20
    mask = BodyMask(MaskedForms([first, second][::turn]))
    assert mask.feed(b"." + first[:-10].encode()) == b"."
    assert mask.feed(b"b" * 10 + b"c" * 19) == MASK.encode()
    assert mask.feed(b"c.") + mask.finish() == b"."


def test_a_secret_in_the_beginning_of_another_is_masked_where_the_body_ends():
    inner, outer = "b" * 20, "a" * 10 + "b" * 20 + "c" * 10
    mask = BodyMask(MaskedForms([inner, outer]))
    assert mask.feed(b"." + outer[:-5].encode()) == b"."
    assert mask.finish() == f"{'a' * 10}{MASK}{'c' * 5}".encode()
    assert mask.finish() == b""


def test_what_is_kept_to_find_a_token_is_no_multiple_of_its_prefixes():
    token = "".join(f"{number:x}." for number in range(1000))
    tracemalloc.start()
    try:
        forms = MaskedForms([token])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * len(token)
    mask = BodyMask(forms)
    passed = mask.feed(token[:3000].encode()) + mask.feed(token[3000:].encode())
    assert passed == MASK.encode()


# Secrets that come and go


def test_a_token_that_is_learned_later_is_masked_in_errors_and_answers():
    token = "canary-token-0123456789"
    secrets = Secrets(["canary-configured-0123456789"])
    redact = Redactor(secrets)
    assert redact(f"no {token}") == f"no {token}"
    before = secrets.masked
    assert secrets.masked is before
    secrets.learn(token)
    assert "canary" not in redact(f"no {token}, nor canary-configured-0123456789")
    assert "canary" not in redact(f"no {token[:15]}")
    mask = BodyMask(secrets.masked)
    assert b"canary" not in mask.feed(f"no {token}!".encode()) + mask.finish()
    assert secrets.masked is not before
    version = secrets.version
    for known in (token, "canary-configured-0123456789"):
        secrets.learn(known)
    assert secrets.version == version, "what is known costs nothing"
    assert "canary" not in repr(secrets)


def test_old_tokens_are_forgotten_and_configured_secrets_never():
    secrets = Secrets(["the-configured-secret"])
    for number in range(100):
        secrets.learn(f"token-{number}")
    assert set(secrets) == {
        "the-configured-secret",
        *(f"token-{number}" for number in range(100 - TOKENS_MAX, 100)),
    }
