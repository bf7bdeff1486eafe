"""What may be sent where: keys only over TLS or loopback, headers only if clean."""

import pytest
from hypothesis import given, strategies as st

from duckservice.config import Secret
from duckservice.errors import InvalidRequest
from duckservice.providers.endpoint import Endpoint

KEY = "sk-canary-7f3a9c51d2"
AUTH = {"Authorization": Secret(f"Bearer {KEY}")}


@pytest.mark.parametrize(
    "base_url",
    [
        "https://api.example.com/v1",
        "https://10.0.0.1",
        "http://localhost:1234",
        "http://127.0.0.1:8000/v1",
        "http://127.9.9.9",
        "http://[::1]:8000",
        "http://duck.localhost",
    ],
)
def test_a_key_goes_over_tls_or_to_this_machine(base_url):
    raw = Endpoint(base_url, AUTH).headers()
    assert (b"authorization", f"Bearer {KEY}".encode()) in raw


@pytest.mark.parametrize(
    "base_url",
    [
        "http://api.example.com/v1",
        "http://10.0.0.1",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "http://0.0.0.0",
        "http://[fe80::1]",
        "HTTP://api.example.com",
    ],
)
def test_a_key_never_goes_over_plain_http_to_another_machine(base_url):
    with pytest.raises(ValueError, match="unencrypted") as caught:
        Endpoint(base_url, AUTH)
    assert KEY not in str(caught.value)
    assert Endpoint(base_url, {"x-team": "core"}).headers()  # but what is no key does


@pytest.mark.parametrize(
    "base_url",
    [
        "", "api.example.com", "ftp://x", "https://", "https:///v1", "file:///etc/passwd",
        "https://user:sk-canary@x", "https://sk-canary@x", "https://x?key=sk-canary",
        "https://x#sk-canary", "https://x?", "https://x:port", "https://x:99999",
        "https://x/\r\nsk-canary", "https://x/a b", "https://é.example", "https://[::1",
    ],
)  # fmt: skip
def test_a_base_url_that_cannot_be_used_is_refused_without_showing_it(base_url):
    with pytest.raises(ValueError, match="URL") as caught:
        Endpoint(base_url, {})
    assert "sk-canary" not in str(caught.value)


@given(
    st.text(max_size=20),
    st.sampled_from("\r\n\x00\x7f\x1bé🦆\u2028\x85 "),
    st.text(max_size=20),
)
def test_a_value_with_what_http_does_not_allow_is_refused_unseen(before, bad, after):
    value = before + bad + after + ("" if bad != " " else " ")
    with pytest.raises(ValueError, match="'x-key'") as caught:
        Endpoint("https://x", {"x-key": Secret(value)})
    assert bad == " " or bad not in str(caught.value)
    with pytest.raises(InvalidRequest, match="'x-key'"):
        Endpoint("https://x", {}).headers({"x-key": value})


@pytest.mark.parametrize(
    "name", ["", "x y", "x:", "x\r\n", "é", "Host", "content-length", "Transfer-Encoding",
             "accept-encoding", "connection"],
)  # fmt: skip
def test_a_name_that_is_none_or_is_ours_is_refused(name):
    with pytest.raises(ValueError, match="header"):
        Endpoint("https://x", {name: "1"})
    with pytest.raises(InvalidRequest):
        Endpoint("https://x", {}).headers({name: "1"})


def test_every_request_asks_for_no_compression_and_names_the_host():
    raw = Endpoint("https://api.example.com:8443/v1/", {"X-Team": "core"}).headers(
        {"Content-Type": "application/json"}
    )
    assert raw == [
        (b"host", b"api.example.com:8443"),
        (b"accept-encoding", b"identity"),
        (b"x-team", b"core"),
        (b"content-type", b"application/json"),
    ]


def test_a_path_comes_behind_the_base_and_cannot_change_the_host():
    endpoint = Endpoint("https://x/v1/", {})
    assert endpoint.url("/chat") == "https://x/v1/chat"
    for path in ("chat", "@evil", ".evil.com/", ""):
        with pytest.raises(ValueError, match="slash"):
            endpoint.url(path)


def test_the_origin_is_what_may_be_shown():
    assert Endpoint("https://X.example.com/secret-path", {}).origin == (
        "https://x.example.com:443"
    )


# What authenticates a request


def test_what_authenticates_a_request_comes_behind_the_headers_of_all():
    endpoint = Endpoint("https://x", {"x-team": "core"}, authenticated=True)
    proof = {"authorization": f"Bearer {KEY}"}
    for _ in range(2):
        raw = endpoint.headers({"x-beta": "b"}, proof)
        assert raw[2:] == [
            (b"x-team", b"core"),
            (b"authorization", f"Bearer {KEY}".encode()),
            (b"x-beta", b"b"),
        ]
    assert endpoint.knows(proof)
    assert not endpoint.knows(dict(proof))
    other = endpoint.headers(None, {"authorization": "Bearer other"})
    assert other[-1] == (b"authorization", b"Bearer other")
    assert endpoint.headers()[2:] == [(b"x-team", b"core")]


def test_the_configs_own_header_wins_over_what_would_authenticate():
    endpoint = Endpoint("https://x", AUTH, authenticated=True)
    raw = endpoint.headers(None, {"authorization": "Bearer other", "x-date": "1"})
    assert [value for name, value in raw if name == b"authorization"] == [
        f"Bearer {KEY}".encode()
    ]
    assert (b"x-date", b"1") in raw


def test_who_will_authenticate_requests_does_not_do_so_in_clear():
    with pytest.raises(ValueError, match="unencrypted"):
        Endpoint("http://api.example.com", {}, authenticated=True)
    assert Endpoint("http://127.0.0.1:8000", {}, authenticated=True).headers()


@pytest.mark.parametrize(
    "proof", [{"authorization": "Bearer a\r\nx: y"}, {"x y": "1"}, {"host": "evil"}]
)
def test_a_proof_that_cannot_be_sent_is_refused_unseen(proof):
    endpoint = Endpoint("https://x", {}, authenticated=True)
    for _ in range(2):
        with pytest.raises(ValueError, match="header"):
            endpoint.headers(None, proof)
