"""OAuth 2 over a real socket: what is sent for a token, and what comes of the answer."""

import gzip
import json
import sys
import threading
from types import SimpleNamespace
from urllib.parse import parse_qs, parse_qsl

import pytest
import trio

from duckservice.config import AuthConfig, ProviderConfig, Secret, TimeoutConfig
from duckservice.errors import (
    BadProviderResponse,
    ProviderAuthError,
    ProviderError,
    ProviderTimeout,
    RateLimited,
)
from duckservice.providers.auth import library
from duckservice.providers.auth.entra import DefaultEntraTokens, token_url
from duckservice.providers.auth.google import GoogleTokens, default_file
from duckservice.providers.auth.library import Library
from duckservice.providers.auth.table import credentials_of, token_credentials
from duckservice.providers.auth.token_endpoint import TokenEndpoint
from tests.providers.http_client import chain
from tests.recordings import FOLDER, needs_recordings
from tests.upstream import FIN, answer, closed_port, open_upstream

SECRET = "canary-client-secret-8c1d"
REFRESH = "canary-refresh-token-77ab"


def gives(token="the-token", **more) -> bytes:
    said = {"access_token": token, "expires_in": 3599, "token_type": "Bearer"} | more
    return answer(json.dumps(said).encode(), b"content-type: application/json")


def refuses(word, status=b"401 x", text="", *headers) -> bytes:
    body = json.dumps({"error": word, "error_description": text}).encode()
    return answer(body, *headers, status=status)


def config(**more) -> ProviderConfig:
    return ProviderConfig(**{"name": "duck", "adapter": "openai-compatible"} | more)


def oauth2(upstream, **more) -> AuthConfig:
    its = {
        "type": "oauth2",
        "token_url": upstream.base_url + "/oauth/token/",
        "client_id": "the-client",
        "client_secret": Secret(SECRET),
    }
    return AuthConfig(**its | more)


async def proof(credentials):
    return await credentials.headers("POST", "https://x/v1/chat", b"{}")


def recorded() -> list[dict]:
    """Return Google's exchanges of a token."""
    with gzip.open(FOLDER / "vertex.jsonl.gz", "rt") as lines:
        found = [json.loads(line) for line in lines]
    return [record for record in found if record["api"] == "oauth2.token"]


def form(request) -> dict:
    return dict(parse_qsl(request.body.decode(), strict_parsing=True))


async def test_a_client_gets_a_token_in_its_own_name():
    async with open_upstream([[gives()]]) as upstream:
        auth = oauth2(upstream, scope="llm chat", audience="https://api")
        credentials = credentials_of(config(auth=auth), key_header="api-key")
        assert await proof(credentials) == {"authorization": "Bearer the-token"}
        assert await proof(credentials) is await proof(credentials)
        await upstream.wait_all_closed()  # no connection is kept for an hour
    [request] = upstream.requests
    assert request.line == "POST /oauth/token/ HTTP/1.1"
    assert request.header("content-type") == "application/x-www-form-urlencoded"
    assert form(request) == {
        "grant_type": "client_credentials",
        "client_id": "the-client",
        "client_secret": SECRET,
        "scope": "llm chat",
        "audience": "https://api",
    }


async def test_a_refresh_token_that_is_replaced_is_not_used_again(autojump_clock):
    replaced = "canary-0a1b2c3d4e5f6071"
    script = [
        [gives(refresh_token=replaced)],
        [gives("2")],
        [refuses("x", text=replaced)],
    ]
    async with open_upstream(script, limit=1e6) as upstream:
        auth = oauth2(upstream, refresh_token=Secret(REFRESH), client_secret=None)
        credentials = token_credentials(config(), auth)
        for token in ("the-token", "2"):
            assert (await proof(credentials))["authorization"] == f"Bearer {token}"
            await trio.sleep(3600)
        with pytest.raises(ProviderAuthError) as caught:
            await proof(credentials)
    assert "[redacted]" in str(caught.value)
    assert replaced not in chain(caught.value)
    assert form(upstream.requests[0]) == {
        "grant_type": "refresh_token",
        "refresh_token": REFRESH,
        "client_id": "the-client",
    }
    tokens = [form(request)["refresh_token"] for request in upstream.requests]
    assert tokens == [REFRESH, replaced, replaced]


@pytest.mark.parametrize(
    ("said", "kind", "retryable", "wait"),
    [
        (refuses("invalid_client"), ProviderAuthError, False, None),
        (refuses("invalid_grant", b"400 x"), ProviderAuthError, False, None),
        (refuses("unauthorized_client", b"403 x"), ProviderAuthError, False, None),
        (refuses("invalid_client", b"200 OK"), ProviderAuthError, False, None),
        (refuses("server_error", b"400 x"), ProviderError, True, None),
        (refuses("x", b"503 x", "", b"retry-after: 4"), ProviderError, True, 4.0),
        (refuses("x", b"429 x", "", b"retry-after: 5"), RateLimited, True, 5.0),
        (answer(b"<html>", status=b"502 x"), ProviderError, True, None),
        (answer(b"nothing", status=b"401 x"), ProviderAuthError, False, None),
        (answer(b"<html>"), BadProviderResponse, True, None),
        (answer(b"[]"), BadProviderResponse, True, None),
        (gives(""), BadProviderResponse, True, None),
        (gives(5), BadProviderResponse, True, None),
        (gives("a\nb"), BadProviderResponse, True, None),
        (gives("a b"), BadProviderResponse, True, None),
        (gives("x" * 40_000), BadProviderResponse, True, None),
        (gives(expires_in="soon"), BadProviderResponse, True, None),
        (gives(expires_in=-1), BadProviderResponse, True, None),
        (gives(expires_in=True), BadProviderResponse, True, None),
        (gives(token_type="mac"), BadProviderResponse, True, None),
        (answer(b" " * 300_000), BadProviderResponse, True, None),
        (answer(b"", b"location: https://evil", status=b"302 x"),
         BadProviderResponse, True, None),
        (FIN, ProviderError, True, None),
    ],
)  # fmt: skip
async def test_no_token_is_an_error_of_the_right_kind(said, kind, retryable, wait):
    async with open_upstream([[said]]) as upstream:
        with pytest.raises(ProviderError) as caught:
            await proof(token_credentials(config(), oauth2(upstream)))
    error = caught.value
    assert type(error) is kind
    assert (error.retryable, error.retry_after) == (retryable, wait)
    assert error.provider == "duck"
    assert "the token endpoint of duck" in str(error)
    assert SECRET not in chain(error)


async def test_a_secret_that_the_endpoint_echoes_reaches_nobody():
    echo = refuses("invalid_client", text=f"no {SECRET} \x1b[2J here\r\n" + "x" * 9000)
    async with open_upstream([[echo]]) as upstream:
        with pytest.raises(ProviderAuthError) as caught:
            await proof(token_credentials(config(), oauth2(upstream)))
    text = str(caught.value)
    assert "canary" not in chain(caught.value)
    assert "invalid_client: no [redacted]" in text
    assert text.isprintable()
    assert len(text) < 600
    assert not caught.value.quotes_provider, "it has seen no prompt"


async def test_a_secret_that_is_echoed_in_disguise_reaches_nobody_either():
    escaped = "".join(f"\\u{ord(c):04x}" for c in SECRET)
    body = b'{"error": "no %b"}' % escaped.encode()
    async with open_upstream([[answer(body, status=b"401 x")]]) as upstream:
        with pytest.raises(ProviderAuthError, match=r"no \[redacted\]") as caught:
            await proof(token_credentials(config(), oauth2(upstream)))
    assert "canary" not in chain(caught.value)


async def test_an_endpoint_that_is_not_there_is_a_failure_that_may_pass():
    auth = oauth2(SimpleNamespace(base_url=f"http://127.0.0.1:{closed_port()}"))
    with pytest.raises(ProviderError, match="cannot be reached") as caught:
        await proof(token_credentials(config(), auth))
    assert caught.value.retryable
    assert caught.value.provider == "duck"


@pytest.mark.parametrize("url", ["http://login.example/token", "ftp://x", "https://"])
def test_a_secret_never_goes_over_plain_http_to_another_machine(url):
    with pytest.raises(ValueError, match=r"URL|unencrypted"):
        TokenEndpoint(provider="duck", url=url, secrets=[SECRET])


@pytest.mark.parametrize(
    ("said", "lifetime"),
    [({}, 3599.0), ({"expires_in": "600"}, 600.0), ({"expires_in": 10**9}, 86_400.0),
     ({"expires_in": None}, 300.0), ({"token_type": "bearer"}, 3599.0)],
)  # fmt: skip
async def test_how_long_a_token_lives_is_read_as_servers_say_it(said, lifetime):
    async with open_upstream([[gives(**said)]]) as upstream:
        endpoint = TokenEndpoint(provider="d", url=upstream.base_url, secrets=[])
        given = await endpoint.exchange({"a": "b"})
    assert given.token.lifetime == lifetime
    assert "the-token" not in repr(given)


def test_no_secret_is_in_what_can_be_printed():
    auth = oauth2(SimpleNamespace(base_url="https://x"), refresh_token=Secret(REFRESH))
    credentials = token_credentials(config(auth=auth), auth)
    printed = f"{credentials!r} {vars(credentials)} {auth!r}"
    assert "canary" not in printed


# Google


@pytest.fixture(scope="module")
def private_key():
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return key, pem.decode()


def google(file, **environ) -> GoogleTokens:
    return GoogleTokens(
        provider="duck",
        credentials_file=file,
        environ=environ,
        wall_clock=lambda: 1_700_000_000.0,
    )


async def test_a_service_account_signs_for_its_token(tmp_path, private_key):
    jwt = pytest.importorskip("google.auth.jwt")
    key, pem = private_key
    file = tmp_path / "google.json"
    async with open_upstream([[gives()]]) as upstream:
        account = {
            "type": "service_account",
            "client_email": "duck@project.iam.gserviceaccount.com",
            "private_key_id": "key-1",
            "private_key": pem,
            "token_uri": upstream.base_url + "/token",
        }
        file.write_text(json.dumps(account))
        token = await google(file).fetch()
    assert (token.value, token.lifetime) == ("the-token", 3599.0)
    [request] = upstream.requests
    sent = form(request)
    assert sent["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    header, claims, _, _ = jwt._unverified_decode(sent["assertion"])
    assert (header["alg"], header["kid"]) == ("RS256", "key-1")
    assert claims == {
        "iss": "duck@project.iam.gserviceaccount.com",
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "aud": upstream.base_url + "/token",
        "iat": 1_700_000_000,
        "exp": 1_700_003_600,
    }
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    signed, _, signature = sent["assertion"].rpartition(".")
    raw = jwt._helpers.padded_urlsafe_b64decode(signature)
    key.public_key().verify(raw, signed.encode(), padding.PKCS1v15(), hashes.SHA256())


async def test_gclouds_own_login_is_a_refresh_token(tmp_path):
    folder = tmp_path / ".config" / "gcloud"
    folder.mkdir(parents=True)
    async with open_upstream([[gives()]]) as upstream:
        user = {
            "type": "authorized_user",
            "client_id": "the-client",
            "client_secret": SECRET,
            "refresh_token": REFRESH,
            "token_uri": upstream.base_url,
        }
        file = folder / "application_default_credentials.json"
        file.write_text(json.dumps(user))
        token = await google(None, HOME=str(tmp_path)).fetch()
    assert token.value == "the-token"
    assert form(upstream.requests[0])["refresh_token"] == REFRESH


def test_the_default_file_is_where_googles_own_tools_look(tmp_path):
    file = tmp_path / "application_default_credentials.json"
    assert default_file({}) is None
    assert default_file({"HOME": str(tmp_path)}) is None
    assert default_file({"CLOUDSDK_CONFIG": str(tmp_path)}) is None
    file.touch()
    assert default_file({"CLOUDSDK_CONFIG": str(tmp_path)}) == file
    named = {"GOOGLE_APPLICATION_CREDENTIALS": "/x", "CLOUDSDK_CONFIG": str(tmp_path)}
    assert str(default_file(named)) == "/x"


@pytest.mark.parametrize(
    "content",
    [None, "", "[]", "\x00", '{"type": "service_account", "private_key": "canary"}',
     '{"type": "authorized_user", "token_uri": "http://far.example/canary"}',
     '{"type": "canary-unknown"}'],
)  # fmt: skip
async def test_a_credentials_file_that_is_of_no_use_is_a_typed_error(tmp_path, content):
    pytest.importorskip("google.auth")
    file = tmp_path / "google.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ProviderAuthError) as caught:
        await google(file).fetch()
    assert caught.value.provider == "duck"
    assert not caught.value.retryable


@needs_recordings
async def test_googles_recorded_answers_are_understood(tmp_path):
    found = recorded()
    assert len(found) == 4
    for record in found:
        said = record["response"]
        status = b"%d x" % said["status"]
        reply = answer(json.dumps(said["body"]).encode(), status=status)
        async with open_upstream([[reply]]) as upstream:
            sent = {k: v[0] for k, v in parse_qs(record["request"]["body"]).items()}
            endpoint = TokenEndpoint(provider="d", url=upstream.base_url, secrets=[])
            if said["status"] != 200:
                with pytest.raises(ProviderAuthError, match="client was not found"):
                    await endpoint.exchange(sent)
                continue
            given = await endpoint.exchange(sent)
        assert given.token.value == said["body"]["access_token"]
        assert given.token.lifetime == 3599
        assert (
            upstream.requests[0].header("content-type")
            == (record["request"]["headers"]["content-type"])
        )


@needs_recordings
async def test_what_a_user_of_google_sends_is_what_was_recorded(tmp_path):
    bodies = [record["request"]["body"] for record in recorded()]
    refreshed = [set(parse_qs(body)) for body in bodies if "refresh_token=" in body]
    assert refreshed
    file = tmp_path / "user.json"
    async with open_upstream([[gives()]]) as upstream:
        user = {"type": "authorized_user", "client_id": "c", "client_secret": SECRET,
                "refresh_token": REFRESH, "token_uri": upstream.base_url}  # fmt: skip
        file.write_text(json.dumps(user))
        await google(file).fetch()
    assert [set(form(upstream.requests[0]))] * len(refreshed) == refreshed


# Entra


async def test_an_application_of_entra_is_a_plain_client():
    async with open_upstream([[gives()]]) as upstream:
        auth = AuthConfig(
            type="entra",
            tenant_id="tenant",
            client_id="the-client",
            client_secret=Secret(SECRET),
            token_url=upstream.base_url + "/tenant/oauth2/v2.0/token",
        )
        credentials = token_credentials(config(adapter="azure", auth=auth), auth)
        assert await proof(credentials) == {"authorization": "Bearer the-token"}
    assert form(upstream.requests[0])["scope"] == (
        "https://cognitiveservices.azure.com/.default"
    )
    assert token_url("t") == "https://login.microsoftonline.com/t/oauth2/v2.0/token"


async def test_the_machines_login_at_azure_is_asked_in_a_thread():
    asked = []

    def get_token(*scopes):
        with pytest.raises(RuntimeError):
            trio.lowlevel.current_task()
        asked.append(scopes)
        return SimpleNamespace(token="the-token", expires_on=1_700_000_900)

    source = DefaultEntraTokens(
        provider="duck",
        make=lambda: SimpleNamespace(get_token=get_token),
        wall_clock=lambda: 1_700_000_000.0,
    )
    token = await source.fetch()
    assert (token.value, token.lifetime) == ("the-token", 900.0)
    assert asked == [("https://cognitiveservices.azure.com/.default",)]


# Libraries


@pytest.mark.parametrize(
    ("auth", "module", "extra"),
    [
        (AuthConfig(type="google"), "google", "gcp"),
        (AuthConfig(type="entra"), "azure.identity", "azure"),
    ],
)
async def test_a_login_without_its_library_says_what_to_install(
    monkeypatch, auth, module, extra
):
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    credentials = token_credentials(config(), auth, environ={})
    with pytest.raises(ProviderAuthError) as caught:
        await proof(credentials)
    assert f"pip install 'duckservice[{extra}]'" in str(caught.value)


async def test_what_a_library_raises_is_ours_and_shows_no_secret():
    def fails():
        raise KeyError(
            f"no such thing: {SECRET}\n sk-ant-0123456789abcdef " + "x" * 999
        )

    for passing, kind in ((False, ProviderAuthError), (True, ProviderError)):
        with pytest.raises(ProviderError) as caught:
            await Library(
                provider="duck", extra="x", passing=lambda _, it=passing: it
            ).call(fails, secrets=[SECRET])
        assert type(caught.value) is kind
        assert caught.value.retryable is passing
        assert "KeyError: 'no such thing: [redacted]" in str(caught.value)
        assert "0123456789" not in chain(caught.value)
        assert len(str(caught.value)) < 400


async def test_a_library_that_hangs_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(library, "LIMIT", 0.05)
    end = threading.Event()
    try:
        with pytest.raises(ProviderError, match="took more than") as caught:
            await Library(provider="duck", extra="x").call(end.wait)
        assert caught.value.retryable
    finally:
        end.set()


async def test_a_library_that_hangs_fails_its_own_credentials_at_once_and_no_others():
    its = Library(provider="duck", extra="x")
    started, end = trio.Event(), threading.Event()

    def hang() -> None:
        trio.from_thread.run_sync(started.set)
        end.wait()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(its.call, hang)
            await started.wait()
            nursery.cancel_scope.cancel()
        for _ in range(2):
            with (
                trio.fail_after(20),
                pytest.raises(ProviderTimeout, match="not come back") as caught,
            ):
                await its.call(lambda: 1)
            assert caught.value.retryable
            assert caught.value.provider == "duck"
        for number in range(8):
            other = Library(provider=f"goose-{number}", extra="x")
            with trio.fail_after(20):
                assert await other.call(lambda: 1) == 1
    finally:
        end.set()
    with trio.fail_after(20):
        async with its._thread:
            pass
        assert await its.call(lambda: 1) == 1


def test_keys_come_before_tokens_and_what_the_adapter_has_made_before_both():
    auth = AuthConfig(type="entra")
    key = Secret("k" * 20)
    both = config(auth=auth, api_keys=(key,), timeout=TimeoutConfig())
    assert type(credentials_of(both, key_header="api-key")).__name__ == "Keys"
    made = object()
    assert credentials_of(both, key_header="x", made=lambda _: made) is made
    found = credentials_of(both, key_header="x", made=lambda _: None)
    assert type(found).__name__ == "Keys"
    assert credentials_of(config(), key_header="x") is None
