"""A real duckd in a closed network: its CA, its proxy, and what a reload makes of them."""

from __future__ import annotations

import json
import ssl

import pytest
import trio
import trustme

from tests.connect_proxy import open_proxy
from tests.e2e.process import starting
from tests.e2e.running import CHAT, KEY, json_answer, openai_chat
from tests.gateway.serving import post
from tests.upstream import open_upstream

pytestmark = pytest.mark.slow

HOST = "llm.example"
PASSWORD = "canary-of-the-proxy-91c7"
ASK = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def config(url, ca_file, proxy):
    return f"""
        [providers.firm]
        adapter = "openai-compatible"
        api_key = "env:KEY_OF_THE_TEST"
        base_url = "{url}/v1"
        models = ["m"]
        ca_file = "{ca_file}"
        proxy = "{proxy}"
        [retry]
        max_attempts = 1
    """


def trusted(tmp_path):
    """Write a new CA to its file; return a server's context that it vouches for."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(HOST).configure_cert(server)
    return server


async def ask(daemon, path=CHAT, body=ASK):
    async with daemon.connection() as client:
        asked = post(b"" if body is None else json.dumps(body).encode())
        return await client.ask(asked.replace(b"POST /", b"POST " + path.encode(), 1))


async def test_a_provider_of_a_closed_network_is_served_and_reload_takes_another_way(
    tmp_path,
) -> None:
    server = trusted(tmp_path)
    file = tmp_path / "config.toml"
    async with (
        open_upstream(
            [[json_answer(openai_chat())]], ssl_context=server, limit=60
        ) as up,
        open_proxy() as first,
        open_proxy() as second,
    ):
        url = up.base_url.replace("localhost", HOST)
        environ = {
            "KEY_OF_THE_TEST": KEY,
            "HTTPS_PROXY": f"http://me:{PASSWORD}@127.0.0.1:{first.port}",
        }
        its = (url, tmp_path / "ca.pem")
        async with starting(
            tmp_path, config(*its, "env:HTTPS_PROXY"), environ=environ
        ) as daemon:
            for _ in range(2):
                assert (await ask(daemon)).status == 200
            assert len(first.heads) == 1
            assert up.requests[0].header("authorization") == f"Bearer {KEY}"

            file.write_text(config(*its, f"http://127.0.0.1:{second.port}"))
            taken = json.loads((await ask(daemon, "/v1/reload", None)).body)
            assert taken["changed"] == ["providers.firm.proxy"]
            assert (await ask(daemon)).status == 200
            assert (len(first.heads), len(second.heads)) == (1, 1)
            with trio.fail_after(20):
                await up.wait_until(lambda: up.open_connections == 1)

            trusted(tmp_path)  # another CA, in the same place
            taken = json.loads((await ask(daemon, "/v1/reload", None)).body)
            assert taken["changed"] == ["providers.firm.ca_file"]
            reply = await ask(daemon)
            assert reply.status == 502
            assert b"its certificate is refused" in reply.body
            assert (
                f"through the proxy http://127.0.0.1:{second.port}".encode()
                in reply.body
            )

            (tmp_path / "ca.pem").write_text("no certificate")
            reply = await ask(daemon, "/v1/reload", None)
            assert reply.status == 400
            assert b"providers.firm.ca_file" in reply.body
            assert len(up.requests) == 3
        told = bytes(daemon.stderr) + reply.body
        assert PASSWORD.encode() not in told
        assert KEY.encode() not in b"".join(first.heads + second.heads) + first.passed


async def test_a_file_that_is_none_is_refused_at_the_start(tmp_path) -> None:
    environ = {"KEY_OF_THE_TEST": KEY}
    wrong = config(
        "https://llm.example", tmp_path / "ca.pem", f"http://me:{PASSWORD}@p"
    )
    async with starting(tmp_path, wrong, environ=environ, wait=False) as daemon:
        assert await daemon.ended() == 78
    told = daemon.stderr.decode()
    assert "providers.firm.ca_file: found " in told
    assert "providers.firm.proxy: found " in told
    assert PASSWORD not in told
