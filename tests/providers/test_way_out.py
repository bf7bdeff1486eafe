"""The way out of a closed network: a CA of one's own, and a proxy that makes tunnels."""

import base64
import ssl
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trustme

from duckservice.config import AuthConfig, CaFile, ProviderConfig, Proxy, Secret
from duckservice.errors import ProviderError, ProviderTimeout
from duckservice.providers.auth.table import credentials_of, handed_over
from duckservice.providers.auth.token_endpoint import TokenEndpoint
from duckservice.providers.catalog import make_provider, renewed_provider
from duckservice.providers.tunnel import HEAD_BYTES_MAX
from duckservice.providers.way_out import DIRECT, WayOut
from tests.connect_proxy import MADE, open_proxy
from tests.providers.http_client import KEY, chain, open_client, open_fds
from tests.upstream import answer, closed_port, open_upstream

HOST = "llm.example"
LOGIN = "me:canary-of-the-proxy-4b1f"


def authority(*names, ca=None):
    """Return a file with a CA, and the context of a server that it vouches for."""
    ca = ca or trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*names).configure_cert(server)
    pem = ca.cert_pem.bytes().decode()
    return CaFile(path=Path("/ca.pem"), pem=pem), server


def through(port, login=LOGIN, host="127.0.0.1"):
    return Proxy(host=host, port=port, login=login and Secret(login))


@asynccontextmanager
async def open_far(way=None, reply=MADE, script=None, **more):
    """Open an upstream called `HOST`, a proxy that leads there, and a client."""
    ca, server = authority(HOST)
    async with (
        open_upstream(script or [[answer(b"ok")]], ssl_context=server) as up,
        open_proxy(reply) as proxy,
    ):
        way = way or WayOut(ca_file=ca, proxy=through(proxy.port))
        port = up.base_url.rpartition(":")[2]
        async with open_client(f"https://{HOST}:{port}/v1", None, way=way, **more) as c:
            yield up, proxy, c


async def get(client):
    return (await client.request("GET", "/models")).body


# A CA of one's own.


async def test_a_server_of_an_own_ca_is_served_with_its_file_and_refused_without():
    ca, server = authority("localhost")
    async with open_upstream([[answer(b"ok")]], ssl_context=server) as up:
        async with open_client(up.base_url, None, way=WayOut(ca_file=ca)) as client:
            assert await get(client) == b"ok"
        async with open_client(up.base_url, None, way=DIRECT) as client:
            with pytest.raises(ProviderError, match="its certificate is refused"):
                await get(client)
        assert len(up.requests) == 1


async def test_a_file_with_an_intermediate_ca_alone_is_enough():
    intermediate = trustme.CA().create_child_ca()
    ca, server = authority("localhost", ca=intermediate)
    async with (
        open_upstream([[answer(b"ok")]], ssl_context=server) as up,
        open_client(up.base_url, None, way=WayOut(ca_file=ca)) as client,
    ):
        assert await get(client) == b"ok"


async def test_an_own_ca_vouches_for_no_other_name_and_no_other_ca():
    ca, server = authority("another.example")
    stranger, _ = authority("localhost")
    for trusted in (ca, stranger):
        async with (
            open_upstream([[answer(b"ok")]], ssl_context=server) as up,
            open_client(up.base_url, None, way=WayOut(ca_file=trusted)) as client,
        ):
            with pytest.raises(ProviderError, match="its certificate is refused"):
                await get(client)
            assert up.requests == []


def test_an_own_ca_is_beside_the_usual_ones_and_verifies_as_they_do():
    ca, _ = authority("localhost")
    usual, own = DIRECT.ssl_context(), WayOut(ca_file=ca).ssl_context()
    assert len(own.get_ca_certs()) == len(usual.get_ca_certs()) + 1 > 50
    assert (own.verify_mode, own.check_hostname) == (ssl.CERT_REQUIRED, True)
    own_flags = usual.verify_flags | ssl.VERIFY_X509_PARTIAL_CHAIN
    assert own.verify_flags == own_flags
    assert own.minimum_version == usual.minimum_version
    assert WayOut(ca_file=ca).ssl_context() is own, "made once"


# A proxy.


async def test_a_proxy_makes_a_tunnel_and_reads_nothing_in_it():
    async with open_far() as (up, proxy, client):
        assert [await get(client), await get(client)] == [b"ok", b"ok"]
        assert proxy.targets == [up.base_url.replace("https://localhost", HOST)]
        assert [its.header("authorization") for its in up.requests] == [
            f"Bearer {KEY}"
        ] * 2
        assert KEY.encode() not in b"".join(proxy.heads) + proxy.passed
        assert b"GET /v1" not in proxy.passed
        assert up.connections == 1, "the tunnel is used again"


async def test_its_login_is_shown_to_the_proxy_and_to_nobody_behind_it():
    async with open_far() as (up, proxy, client):
        await get(client)
        shown = b"Proxy-Authorization: Basic " + base64.b64encode(LOGIN.encode())
        assert proxy.heads[0].count(shown + b"\r\n") == 1
        assert up.requests[0].header("proxy-authorization") is None


async def test_a_proxy_without_a_login_is_shown_none():
    ca, server = authority(HOST)
    async with (
        open_upstream([[answer(b"ok")]], ssl_context=server) as up,
        open_proxy() as p,
    ):
        way = WayOut(ca_file=ca, proxy=through(p.port, None))
        url = up.base_url.replace("localhost", HOST)
        async with open_client(url, None, way=way) as client:
            await get(client)
        assert b"authorization" not in p.heads[0].lower()


async def test_the_certificate_is_verified_through_a_tunnel_as_well():
    stranger, _ = authority(HOST)
    async with open_proxy() as another:
        way = WayOut(ca_file=stranger, proxy=through(another.port))
        async with open_far(way) as (up, _, client):
            with pytest.raises(ProviderError, match="its certificate is refused"):
                await get(client)
            assert up.requests == []


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_what_is_on_loopback_is_asked_without_the_proxy(scheme):
    ca, server = authority("localhost")
    context = server if scheme == "https" else None
    async with (
        open_upstream([[answer(b"ok")]], ssl_context=context) as up,
        open_proxy() as proxy,
    ):
        way = WayOut(ca_file=ca, proxy=through(proxy.port))
        async with open_client(up.base_url, None, way=way) as client:
            assert await get(client) == b"ok"
        assert proxy.heads == []


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", ["[::1]", "127.0.0.2", "a.localhost"])
async def test_all_of_loopback_has_no_proxy(scheme, host):
    url, way = f"{scheme}://{host}:{closed_port()}/v1", WayOut(proxy=through(1))
    async with open_client(url, None, way=way) as client:
        with pytest.raises(ProviderError) as caught:
            await get(client)
    assert "proxy" not in caught.value.message


async def test_a_proxy_is_told_an_international_name_as_it_stands_in_the_config():
    name = "xn--strae-oqa.example"
    ca, server = authority(name)
    async with (
        open_upstream([[answer(b"ok")]], ssl_context=server) as up,
        open_proxy() as proxy,
    ):
        port = up.base_url.rpartition(":")[2]
        way = WayOut(ca_file=ca, proxy=through(proxy.port))
        async with open_client(f"https://{name}:{port}/v1", None, way=way) as client:
            assert await get(client) == b"ok"
        assert proxy.targets == [f"{name}:{port}"]


def test_what_would_go_through_a_proxy_in_clear_is_refused():
    config = ProviderConfig(
        name="up",
        adapter="openai-compatible",
        base_url="http://10.0.0.1/v1",
        proxy=through(1),
    )
    with pytest.raises(
        ValueError, match=r"http://10\.0\.0\.1:80 would be reached"
    ) as caught:
        make_provider(config)
    assert LOGIN[3:] not in str(caught.value)


# How a proxy fails.


REPLIES = {
    "refuses the login in its URL (407)": b"HTTP/1.1 407 %s\r\nx: %s\r\n\r\n%s",
    "(status 403)": b"HTTP/1.1 403 %s\r\n\r\n%s",
    "(status 502)": b"HTTP/1.0 502\r\n\r\n",
    "it did not answer in valid HTTP": b"SSH-2.0-%s\r\n\r\n",
    "it closed the connection before it answered": b"HTTP/1.1 200 O",
    "it answered with too large a head": b"HTTP/1.1 200 O" + b"k" * HEAD_BYTES_MAX * 3,
    "it sent something of its own into the tunnel": MADE + b"%s",
}


@pytest.mark.parametrize("why", REPLIES)
async def test_a_proxy_that_makes_no_tunnel_is_named_without_its_login(why):
    before = open_fds()
    reply = REPLIES[why].replace(b"%s", LOGIN.encode())
    async with open_far(reply=reply) as (up, proxy, client):
        with pytest.raises(ProviderError) as caught:
            await get(client)
        assert why in caught.value.message
        assert f"the proxy http://127.0.0.1:{proxy.port}" in caught.value.message
        assert caught.value.retryable
        assert "canary" not in chain(caught.value) + repr(client)
        assert up.requests == []
    assert open_fds() == before


async def test_a_proxy_that_wants_a_login_says_so_where_there_is_none():
    reply = b"HTTP/1.1 407 No\r\n\r\n"
    async with open_proxy(reply) as proxy:
        way = WayOut(proxy=through(proxy.port, None))
        async with open_client(f"https://{HOST}/v1", None, way=way) as client:
            with pytest.raises(ProviderError, match=r"it asks for a login \(407\)"):
                await get(client)


async def test_a_proxy_that_is_not_there_is_named():
    port = closed_port()
    way = WayOut(proxy=through(port))
    async with open_client(f"https://{HOST}/v1", None, way=way) as client:
        with pytest.raises(ProviderError) as caught:
            await get(client)
    assert caught.value.message == (
        f"duck cannot be reached: the proxy http://127.0.0.1:{port}: Connection refused"
    )


async def test_a_proxy_that_says_nothing_is_left_at_the_limit_for_connecting():
    before = open_fds()
    limits = {"timeout": {"connect": 0.05}}
    async with open_far(reply=b"HANG", **limits) as (_, proxy, client):
        with pytest.raises(ProviderTimeout) as caught:
            await get(client)
    assert caught.value.message == (
        f"duck could not be connected to through the proxy"
        f" http://127.0.0.1:{proxy.port} within 0.05 s (timeout.connect)"
    )
    assert open_fds() == before


async def test_who_gives_up_waiting_for_a_tunnel_leaves_nothing_open():
    before = open_fds()
    async with (
        open_far(reply=b"HANG") as (_, proxy, client),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(get, client)
        while not proxy.heads:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert open_fds() == before


# Tokens, and another way.


async def test_tokens_are_fetched_the_same_way():
    ca, server = authority(HOST)
    token = b'{"access_token": "t", "token_type": "Bearer"}'
    async with (
        open_upstream([[answer(token)]], ssl_context=server) as up,
        open_proxy() as proxy,
    ):
        endpoint = TokenEndpoint(
            provider="up",
            url=up.base_url.replace("localhost", HOST) + "/token",
            secrets=[],
            way=WayOut(ca_file=ca, proxy=through(proxy.port)),
        )
        assert (await endpoint.exchange({})).token.value == "t"
        assert len(proxy.heads) == 1


def config(**more):
    base = {"name": "up", "adapter": "openai", "base_url": f"https://{HOST}/v1"}
    return ProviderConfig(**base | {"api_key": Secret(KEY)} | more)


async def test_another_way_has_connections_of_its_own_and_the_keys_as_they_are():
    old = make_provider(config())
    same = renewed_provider(old, config(priority=5))
    other = renewed_provider(old, config(proxy=through(1)))
    trusting = renewed_provider(old, config(ca_file=authority(HOST)[0]))
    assert same.http.transport is old.http.transport
    assert len({id(its.http.transport) for its in (old, other, trusting)}) == 3
    assert list(other.http.key_states()) == list(old.http.key_states()) != []
    for its in (other, trusting, old):
        await its.aclose()


def test_a_refresh_token_that_the_server_has_replaced_outlives_another_way():
    auth = AuthConfig(
        type="oauth2",
        token_url="https://login.example/token",
        client_id="duck",
        refresh_token=Secret("the-first-one"),
    )
    before = config(auth=auth, api_key=None)
    now = config(auth=auth, api_key=None, proxy=through(1))
    old, new = (credentials_of(its, key_header="x") for its in (before, now))
    old.source.go_on_with(Secret("the-second-one"))
    taken = handed_over(old, new, before=before, now=now)
    assert taken is new
    assert taken.source.refresh_token.reveal() == "the-second-one"
    assert handed_over(old, new, before=before, now=before) is old
