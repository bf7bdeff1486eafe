from __future__ import annotations

import hashlib
import hmac
import json
import os
import sys
import threading
from datetime import UTC, datetime, timedelta
from functools import reduce
from urllib.parse import quote, urlsplit

import pytest
import trio
from hypothesis import given, settings, strategies as st

from duckservice.config import Secret
from duckservice.errors import (
    ProviderAuthError,
    ProviderError,
    ProviderTimeout,
    RateLimited,
)
from duckservice.providers.auth import Again
from duckservice.providers.auth.aws import AwsCredentials, sign
from duckservice.providers.auth.library import Library
from duckservice.providers.auth.renewal import RETRY
from duckservice.providers.model_segment import model_segment
from tests.providers.http_client import open_client
from tests.recordings import FOLDER, needs_recordings
from tests.upstream import open_upstream

auth = pytest.importorskip("botocore.auth", reason="needs the extra aws")
credentials = pytest.importorskip("botocore.credentials")

NOON = datetime(2027, 3, 4, 12, 0, 5, tzinfo=UTC)
KEY, SECRET = "AKIDDUCK", "quack/SECRET+key"
HOST = "https://bedrock-runtime.eu-central-1.amazonaws.com"
ARN = "arn:aws:bedrock:eu-central-1:123456789012:application-inference-profile/k3x9w2"

VECTORS = [
    # model, operation, body, session token, signature
    (
        "amazon.nova-lite-v1:0",
        "converse",
        b'{"messages":[]}',
        None,
        "cd006e454a0aeaddf2c254063fac3b1380f27b364e4de2a3d94a9e580eabdd5e",
    ),
    (
        ARN,
        "converse-stream",
        b"{}",
        None,
        "4d43c7e84f5a7bcb6a7d979613c623e11fc00a0f2ce95474c7f616257e344d42",
    ),
    (
        "amazon.titan-embed-text-v2:0",
        "invoke",
        "ä🦆".encode(),
        "tok/en==",
        "f5b1c640fb799de3225b225258572f43f83e9c902f536a890ff9bb79055e989c",
    ),
]


@pytest.fixture(autouse=True)
def noon(monkeypatch):
    set_clock(monkeypatch, NOON)


def set_clock(monkeypatch, now: datetime) -> None:
    if hasattr(auth, "get_current_datetime"):
        monkeypatch.setattr(auth, "get_current_datetime", lambda *_, **__: now)
        return

    class Frozen(datetime):
        @classmethod
        def utcnow(cls):
            return now.replace(tzinfo=None)

    class Module:
        datetime = Frozen

    monkeypatch.setattr(auth, "datetime", Module)


def keys(token=None):
    return credentials.ReadOnlyCredentials(KEY, SECRET, token)


def by_hand(method, url, body, token, headers, region="eu-central-1") -> str:
    """Return the signature, computed from AWS's description and from nothing else."""
    parts = urlsplit(url)
    stamp = NOON.strftime("%Y%m%dT%H%M%SZ")
    signed = {**headers, "host": parts.netloc, "x-amz-date": stamp}
    if token:
        signed["x-amz-security-token"] = token
    names = ";".join(sorted(signed))
    canonical = "\n".join(
        [
            method,
            quote(parts.path, safe="/-_.~"),
            "&".join(sorted(parts.query.split("&"))),
            *(f"{name}:{signed[name]}" for name in sorted(signed)),
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        ]
    )
    scope = [stamp[:8], region, "bedrock", "aws4_request"]
    to_sign = "\n".join(
        [
            "AWS4-HMAC-SHA256",
            stamp,
            "/".join(scope),
            hashlib.sha256(canonical.encode()).hexdigest(),
        ]
    )
    start = f"AWS4{SECRET}".encode()
    key = reduce(lambda k, part: hmac.digest(k, part.encode(), "sha256"), scope, start)
    return hmac.new(key, to_sign.encode(), "sha256").hexdigest()


@needs_recordings
def test_awss_own_vectors_are_met(monkeypatch):
    vectors = json.loads((FOLDER / "sigv4_bedrock.json").read_text())
    stamp = datetime.strptime(vectors["datetime"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    set_clock(monkeypatch, stamp)
    assert len(vectors["cases"]) >= 12
    for case in vectors["cases"]:
        made = sign(
            case["method"],
            case["url"],
            case["body"].encode(),
            keys=credentials.ReadOnlyCredentials(
                vectors["access_key"], vectors["secret_key"], case["session_token"]
            ),
            region=case["region"],
            service=case["service"],
            headers={k.lower(): v for k, v in case["headers_in"].items()},
        )
        wanted = {k.lower(): v for k, v in case["expected"].items()}
        assert made == wanted, case["name"]


@pytest.mark.parametrize(("model", "operation", "body", "token", "signature"), VECTORS)
async def test_our_own_vectors_are_met(model, operation, body, token, signature):
    ours = AwsCredentials(
        provider="duck",
        region="eu-central-1",
        access_key_id=Secret(KEY),
        secret_access_key=Secret(SECRET),
        session_token=None if token is None else Secret(token),
    )
    url = f"{HOST}/model/{model_segment(model, 'aws')}/{operation}"
    made = await ours.headers("POST", url, body)
    names = "content-type;host;x-amz-date" + (";x-amz-security-token" if token else "")
    wanted = {
        "authorization": "AWS4-HMAC-SHA256 "
        f"Credential={KEY}/20270304/eu-central-1/bedrock/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}",
        "x-amz-date": "20270304T120005Z",
    }
    if token:
        wanted["x-amz-security-token"] = token
    assert made == wanted
    await ours.aclose()


@settings(deadline=None, max_examples=50)
@given(
    st.text(min_size=1, max_size=30),
    st.binary(max_size=50),
    st.sampled_from([None, "a/b=="]),
    st.sampled_from(["", ":8443", ":443"]),
)
def test_every_signature_is_the_one_made_by_hand(model, body, token, port):
    with pytest.MonkeyPatch.context() as patch:
        set_clock(patch, NOON)
        url = f"https://a.example{port}/model/{model_segment(model, 'aws')}/converse"
        headers = {"content-type": "application/json"}
        made = sign(
            "POST",
            url,
            body,
            keys=keys(token),
            region="eu-central-1",
            service="bedrock",
            headers=headers,
        )
    hand = by_hand("POST", url, body, token, headers)
    assert made["authorization"].endswith(f"Signature={hand}")


async def test_what_goes_over_the_wire_is_what_was_signed():
    ours = AwsCredentials(
        provider="duck",
        region="eu-central-1",
        access_key_id=Secret(KEY),
        secret_access_key=Secret(SECRET),
    )
    script = [[b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"]]
    async with (
        open_upstream(script) as upstream,
        open_client(
            upstream.base_url,
            headers={"content-type": "application/json"},
            credentials=ours,
        ) as client,
    ):
        await client.request(
            "POST", f"/model/{model_segment(ARN, 'aws')}/converse", content=b"x"
        )
        await client.request("GET", "/async-invoke?maxResults=1")
    for request in upstream.requests:
        method, target, _ = request.line.split(" ")
        url = f"http://{request.header('host')}{target}"
        headers = {"content-type": request.header("content-type")}
        hand = by_hand(method, url, request.body, None, headers)
        assert request.header("authorization").endswith(f"Signature={hand}")
        assert request.header("x-amz-date") == "20270304T120005Z"
    assert "%3A123456789012%3A" in upstream.requests[0].line


# Where keys come from


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine without any AWS keys; the folder is where its files would be."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    return tmp_path


def found(**fields) -> AwsCredentials:
    return AwsCredentials(**{"provider": "duck", "region": "eu-central-1"} | fields)


async def key_of(ours: AwsCredentials) -> str:
    made = await ours.headers("POST", f"{HOST}/model/x/converse", b"{}")
    return made["authorization"].partition("Credential=")[2].partition("/")[0]


def write_keys(folder, access_key: str, profile: str = "default") -> None:
    (folder / "credentials").write_text(
        f"[{profile}]\naws_access_key_id = {access_key}\naws_secret_access_key = s\n"
    )


async def test_keys_of_the_environment_are_found(machine, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    assert await key_of(found()) == "AKIDENV"


async def test_a_profile_goes_before_the_environment(machine, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    write_keys(machine, "AKIDPROFILE", "pond")
    assert await key_of(found(profile="pond")) == "AKIDPROFILE"


async def test_a_machine_without_keys_is_told_where_to_put_some(machine):
    with pytest.raises(ProviderAuthError, match=r"\[providers\.duck\.auth\]") as caught:
        await key_of(found())
    assert caught.value.provider == "duck"


async def test_a_profile_that_is_not_there_is_named(machine):
    with pytest.raises(ProviderAuthError, match="pond"):
        await key_of(found(profile="pond"))


async def test_without_the_library_the_extra_is_named(machine, monkeypatch):
    monkeypatch.setitem(sys.modules, "botocore.credentials", None)
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    explicit = found(access_key_id=Secret("a"), secret_access_key=Secret("b"))
    for ours in (found(), explicit):
        with pytest.raises(
            ProviderAuthError, match=r"pip install 'duckservice\[aws\]'"
        ):
            await key_of(ours)


async def test_many_requests_look_for_keys_once(machine, monkeypatch):
    write_keys(machine, "AKIDFILE")
    looked = 0
    find = AwsCredentials._find

    def counted(self):
        nonlocal looked
        looked += 1
        return find(self)

    monkeypatch.setattr(AwsCredentials, "_find", counted)
    ours = found()
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(key_of, ours)
    assert looked == 1


async def test_keys_are_renewed_before_they_expire():
    now = datetime.now(UTC)
    fetched = iter(["AKIDSECOND", "AKIDTHIRD"])

    def fetch():
        return {
            "access_key": next(fetched),
            "secret_key": "s",
            "token": "t",
            "expiry_time": (now + timedelta(hours=6)).isoformat(),
        }

    ours = found()
    ours._found = credentials.RefreshableCredentials(
        "AKIDFIRST", "s", "t", now + timedelta(seconds=60), fetch, "test"
    )
    assert await key_of(ours) == "AKIDSECOND"
    assert await key_of(ours) == "AKIDSECOND"


async def test_keys_that_cannot_be_renewed_now_may_be_later():
    timeout = pytest.importorskip("botocore.exceptions").ConnectTimeoutError

    def fetch():
        raise timeout(endpoint_url="http://169.254.169.254")

    ours = found()
    expired = datetime.now(UTC) - timedelta(seconds=1)
    ours._found = credentials.RefreshableCredentials(
        "AKIDFIRST", "s", "t", expired, fetch, "test"
    )
    with pytest.raises(ProviderError, match="ConnectTimeoutError") as caught:
        await key_of(ours)
    assert type(caught.value) is ProviderError
    assert caught.value.retryable


async def test_many_that_wait_for_keys_share_one_failure(monkeypatch, autojump_clock):
    calls = 0

    async def hang(self, call, *, secrets=()):
        nonlocal calls
        calls += 1
        await trio.sleep(60)
        raise ProviderTimeout("took more than 60 s", provider=self.provider)

    monkeypatch.setattr(Library, "call", hang)
    ours, started, errors = found(), trio.current_time(), []

    async def ask() -> None:
        with pytest.raises(ProviderTimeout) as caught:
            await key_of(ours)
        errors.append(caught.value)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
    assert trio.current_time() == started + 60
    assert calls == 1
    assert len({id(error) for error in errors}) == 5


async def expiring(fetch) -> AwsCredentials:
    """Return credentials whose keys are to be renewed, but still hold, by now."""
    ours = found()
    now = datetime.now(UTC)
    ours._found = credentials.RefreshableCredentials(
        "AKIDFIRST", "s", "t", now + timedelta(hours=6), fetch, "test"
    )
    assert await key_of(ours) == "AKIDFIRST"
    ours._found._expiry_time = now + timedelta(minutes=12)
    return ours


async def test_while_one_renews_the_keys_the_others_go_on_with_the_old_ones():
    started, go = trio.Event(), threading.Event()

    def fetch():
        trio.from_thread.run_sync(started.set)
        go.wait()
        expiry = datetime.now(UTC) + timedelta(hours=6)
        return {
            "access_key": "AKIDSECOND",
            "secret_key": "s",
            "token": "t",
            "expiry_time": expiry.isoformat(),
        }

    ours = await expiring(fetch)
    try:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(key_of, ours)
                await started.wait()
                assert await key_of(ours) == "AKIDFIRST"
                go.set()
    finally:
        go.set()
    assert await key_of(ours) == "AKIDSECOND"


async def test_a_renewal_that_fails_is_not_tried_again_at_each_request(mock_clock):
    tries = 0

    def fetch():
        nonlocal tries
        tries += 1
        raise OSError("nobody there")

    ours = await expiring(fetch)
    assert [await key_of(ours) for _ in range(3)] == ["AKIDFIRST"] * 3
    assert tries == 1
    mock_clock.jump(RETRY)
    assert await key_of(ours) == "AKIDFIRST"
    assert tries == 2
    ours._found._expiry_time -= timedelta(minutes=13)
    with pytest.raises(ProviderError, match="nobody there"):
        await key_of(ours)


async def test_keys_that_hold_are_no_reason_for_a_thread(machine, monkeypatch):
    write_keys(machine, "AKIDFILE")
    ours = found()
    static = await key_of(ours)
    renewable = await expiring(lambda: pytest.fail("not due"))
    renewable._found._expiry_time += timedelta(hours=6)
    monkeypatch.setattr(Library, "call", lambda *_: pytest.fail("a thread"))
    assert (static, await key_of(ours)) == ("AKIDFILE", "AKIDFILE")
    assert await key_of(renewable) == "AKIDFIRST"


# Keys that are refused

EXPIRED = ProviderAuthError("the security token is expired", provider="duck")


async def test_keys_that_have_expired_are_looked_for_again(machine):
    write_keys(machine, "AKIDOLD")
    ours = found()
    sent = await ours.headers("POST", HOST, b"")
    write_keys(machine, "AKIDNEW")
    assert await key_of(ours) == "AKIDOLD"
    assert isinstance(ours.refused(sent, EXPIRED), Again)
    assert await key_of(ours) == "AKIDNEW"


async def test_the_same_keys_are_not_sent_again_and_again(machine):
    write_keys(machine, "AKIDOLD")
    ours = found()
    sent = await ours.headers("POST", HOST, b"")
    assert isinstance(ours.refused(sent, EXPIRED), Again)
    sent = await ours.headers("POST", HOST, b"")
    assert ours.refused(sent, EXPIRED) is EXPIRED
    write_keys(machine, "AKIDNEW")
    assert await key_of(ours) == "AKIDNEW"


async def test_all_requests_under_way_get_the_new_keys(machine):
    write_keys(machine, "AKIDOLD")
    ours = found()
    under_way = [await ours.headers("POST", HOST, b"") for _ in range(4)]
    assert isinstance(ours.refused(under_way[0], EXPIRED), Again)
    assert isinstance(ours.refused(under_way[1], EXPIRED), Again)
    write_keys(machine, "AKIDNEW")
    assert await key_of(ours) == "AKIDNEW"
    assert isinstance(ours.refused(under_way[2], EXPIRED), Again)
    write_keys(machine, "AKIDLATER")
    assert await key_of(ours) == "AKIDNEW"
    assert isinstance(ours.refused(under_way[3], EXPIRED), Again)


async def test_other_refusals_are_no_reason_to_look_for_keys(machine):
    write_keys(machine, "AKIDOLD")
    ours = found()
    sent = await ours.headers("POST", HOST, b"")
    write_keys(machine, "AKIDNEW")
    for error in (
        ProviderAuthError("you may not use this model", provider="duck"),
        RateLimited("expired", provider="duck"),
        ProviderTimeout("expired", provider="duck"),
    ):
        assert ours.refused(sent, error) is error
    assert await key_of(ours) == "AKIDOLD"


async def test_keys_of_the_config_are_all_there_are():
    ours = found(access_key_id=Secret(KEY), secret_access_key=Secret(SECRET))
    sent = await ours.headers("POST", HOST, b"")
    assert ours.refused(sent, EXPIRED) is EXPIRED


@pytest.mark.parametrize(
    "fields",
    [
        {"access_key_id": Secret("a")},
        {"secret_access_key": Secret("b")},
        {"session_token": Secret("c")},
        {
            "access_key_id": Secret("a"),
            "secret_access_key": Secret("b"),
            "profile": "p",
        },
    ],
)
def test_half_of_a_pair_or_two_sources_are_refused(fields):
    with pytest.raises(
        ValueError, match=r"together|without its keys|not both"
    ) as caught:
        found(**fields)
    assert "duck" in str(caught.value)


def test_keys_never_print():
    ours = found(access_key_id=Secret(KEY), secret_access_key=Secret(SECRET))
    assert repr(ours) == "<AwsCredentials of duck in eu-central-1>"
