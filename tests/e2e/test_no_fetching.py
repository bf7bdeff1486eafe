"""A client cannot send the daemon anywhere: it connects to configured providers alone.

Each request here names a trap, an HTTP server on loopback, in some place. Whatever
becomes of the request, nobody may come to the trap.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from duckservice.config import RetryConfig
from tests.e2e.process import starting
from tests.e2e.running import (
    CHAT,
    KEY,
    MESSAGES,
    Duck,
    anthropic_message,
    json_answer,
    open_duck,
    openai_chat,
    post,
    provider,
)
from tests.upstream import Upstream, answer, open_upstream

TRAP = "http://TRAP/latest/meta-data"
HELLO = [{"role": "user", "content": "hello"}]


def user(*parts: object) -> dict[str, object]:
    content = [{"type": "text", "text": "look"}, *parts]
    return {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": content}],
    }


def item(*parts: object) -> dict[str, object]:
    return {"model": "m", "input": [{"role": "user", "content": list(parts)}]}


URLS_IN_PROMPTS = {
    "a picture": (CHAT, user({"type": "image_url", "image_url": {"url": TRAP}})),
    "a picture as text": (CHAT, user({"type": "image_url", "image_url": TRAP})),
    "a sound": (CHAT, user({"type": "input_audio", "input_audio": {"data": TRAP, "format": "wav"}})),
    "a file": (CHAT, user({"type": "file", "file": {"file_data": TRAP, "filename": "a.pdf"}})),
    "a picture of Anthropic's": (
        MESSAGES,
        user({"type": "image", "source": {"type": "url", "url": TRAP}}),
    ),
    "a document of Anthropic's": (
        MESSAGES,
        user({"type": "document", "source": {"type": "url", "url": TRAP}}),
    ),
    "tools on a server": (
        MESSAGES,
        {
            **user(),
            "mcp_servers": [{"type": "url", "url": TRAP, "name": "x"}],
        },
    ),
    "a picture for Responses": (
        "/v1/responses",
        item({"type": "input_image", "image_url": TRAP}),
    ),
    "a file for Responses": (
        "/v1/responses",
        item({"type": "input_file", "file_url": TRAP}),
    ),
    "a tool of Responses": (
        "/v1/responses",
        {"model": "m", "input": "x", "tools": [{"type": "mcp", "server_url": TRAP}]},
    ),
    "a file: URL": (
        CHAT,
        user({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}),
    ),
    "an embedding": ("/v1/embeddings", {"model": "m", "input": TRAP}),
    "a drawing": ("/v1/images/generations", {"model": "m", "prompt": TRAP, "image": TRAP}),
}  # fmt: skip

OVERRIDES = (
    *("base_url", "api_base", "endpoint", "url", "proxy", "api_url", "server"),
    *("custom_llm_provider", "webhook_url", "callback_url", "token_url"),
)


@asynccontextmanager
async def trapped(
    adapter: str, *answers: bytes
) -> AsyncGenerator[tuple[Upstream, Duck]]:
    """Run a daemon with one provider; nobody may come to the trap."""
    good = json_answer(anthropic_message() if adapter == "anthropic" else openai_chat())
    async with (
        open_upstream([[answer(b"caught")]], limit=30) as trap,
        open_upstream([[each] for each in answers] or [[good]], limit=30) as up,
        open_duck(
            provider("up", adapter, up), retry=RetryConfig(max_attempts=1)
        ) as duck,
    ):
        duck.trap = trap.base_url.removeprefix("http://")
        yield up, duck
        await duck.at_rest()
        assert trap.connections == 0


def baited(duck: Duck, body: object) -> object:
    return json.loads(json.dumps(body).replace("TRAP", duck.trap))


@pytest.mark.parametrize(
    "adapter", ["openai", "anthropic", "gemini", "ollama", "cohere", "mistral"]
)
async def test_no_url_in_a_prompt_is_fetched(adapter) -> None:
    async with trapped(adapter) as (_, duck):
        for path, body in URLS_IN_PROMPTS.values():
            reply = await duck.post(path, baited(duck, body))
            assert b"caught" not in reply.body
            assert b"root:" not in reply.body


@pytest.mark.parametrize("adapter", ["openai", "anthropic"])
async def test_a_picture_s_url_goes_to_the_provider_as_the_text_that_it_is(
    adapter,
) -> None:
    async with trapped(adapter) as (up, duck):
        path, body = URLS_IN_PROMPTS["a picture"]
        assert (await duck.post(path, baited(duck, body))).status == 200
        [request] = up.requests
        assert duck.trap.encode() in request.body


@pytest.mark.parametrize("path", [CHAT, MESSAGES, "/v1/responses", "/v1/embeddings"])
@pytest.mark.parametrize("field", OVERRIDES)
async def test_no_field_of_a_request_says_where_it_goes(path, field) -> None:
    async with trapped("openai") as (up, duck):
        body = {"model": "m", "max_tokens": 9, "messages": HELLO, "input": "hello"}
        if path in (CHAT, MESSAGES):
            del body["input"]
        else:
            del body["messages"], body["max_tokens"]
        for value in (TRAP, {"url": TRAP}, [TRAP]):
            await duck.post(path, baited(duck, {**body, field: value}))
        job = {"request": baited(duck, {"model": "m", "messages": HELLO})}
        reply = await duck.post("/v1/jobs", {**job, field: baited(duck, TRAP)})
        assert reply.status == 400, "a job says nothing of where it goes"
        for request in up.requests:
            assert request.header("host") == up.base_url.removeprefix("http://")


@pytest.mark.parametrize(
    "header",
    [
        "Host: {}",
        "X-Forwarded-Host: {}",
        "X-Forwarded-Server: {}",
        "Forwarded: host={}",
        "X-Original-URL: http://{}/",
        "X-Rewrite-URL: http://{}/",
        "Duck-Base-Url: http://{}/",
        "OpenAI-Base-Url: http://{}/",
        "Referer: http://{}/",
        "Location: http://{}/",
        "Proxy: http://{}/",
        "X-Api-Base: http://{}/",
    ],
)
async def test_no_header_of_a_request_says_where_it_goes_or_what_is_sent_along(
    header,
) -> None:
    async with trapped("openai") as (up, duck):
        body = json.dumps({"model": "m", "messages": HELLO}).encode()
        line = header.format(duck.trap)
        own_host = [] if line.startswith("Host:") else ["Host: duck"]
        head = [
            f"POST {CHAT} HTTP/1.1", *own_host, f"Content-Length: {len(body)}", line
        ]  # fmt: skip
        reply = await duck.send("\r\n".join([*head, "", ""]).encode() + body)
        assert reply.status == 200
        [request] = up.requests
        assert duck.trap.encode() not in request.head + request.body
        assert request.header("host") == up.base_url.removeprefix("http://")
        assert request.header("authorization") == f"Bearer {KEY}"


async def test_a_target_with_another_host_is_still_this_daemon() -> None:
    async with trapped("openai") as (up, duck):
        body = {"model": "m", "messages": HELLO}
        reply = await duck.send(post(f"http://{duck.trap}{CHAT}", body))
        assert reply.status == 200
        assert len(up.requests) == 1


async def test_a_line_of_a_batch_names_an_endpoint_and_no_place() -> None:
    async with trapped("openai") as (up, duck):
        for url in (f"http://{duck.trap}{CHAT}", f"//{duck.trap}{CHAT}", "/../x"):
            line = json.dumps(
                {
                    "custom_id": "1",
                    "method": "POST",
                    "url": url,
                    "body": {"model": "m", "messages": HELLO},
                }
            )
            form = (
                '--xx\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
                '--xx\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n'
                f"\r\n{line}\r\n--xx--\r\n"
            ).encode()
            kind = b"content-type: multipart/form-data; boundary=xx"
            file = (await duck.post("/v1/files", form, kind)).json()["id"]
            order = {
                "input_file_id": file,
                "endpoint": CHAT,
                "completion_window": "24h",
            }
            batch = (await duck.post("/v1/batches", order)).json()
            while batch["status"] not in ("failed", "completed"):
                batch = await duck.get(f"/v1/batches/{batch['id']}")
            assert batch["status"] == "failed"
        assert up.requests == []


@pytest.mark.parametrize("code", [b"301", b"302", b"303", b"307", b"308"])
async def test_no_redirect_is_followed_with_or_without_the_key(code) -> None:
    async with open_upstream([[answer(b"caught")]], limit=30) as trap:
        place = f"location: {trap.base_url}/v1/chat/completions".encode()
        moved = answer(b"", place, status=code + b" Moved")
        async with (
            open_upstream([[moved]], limit=30) as up,
            open_duck(
                provider("up", "openai", up), retry=RetryConfig(max_attempts=1)
            ) as duck,
        ):
            reply = await duck.post(CHAT, {"model": "m", "messages": HELLO})
            assert reply.status == 502
            assert trap.connections == 0


async def test_a_picture_that_a_provider_has_put_somewhere_is_not_fetched() -> None:
    async with open_upstream([[answer(b"caught")]], limit=30) as trap:
        drawn = json_answer({"created": 1, "data": [{"url": f"{trap.base_url}/a.png"}]})
        async with (
            open_upstream([[drawn]], limit=30) as up,
            open_duck(provider("up", "openai", up)) as duck,
        ):
            order = {"model": "m", "prompt": "a duck"}
            reply = await duck.post("/v1/images/generations", order)
            assert reply.status == 200
            assert reply.json()["data"] == [{"url": f"{trap.base_url}/a.png"}]
            assert trap.connections == 0


@pytest.mark.slow
async def test_a_proxy_in_the_environment_is_not_used(tmp_path) -> None:
    async with (
        open_upstream([[answer(b"caught")]], limit=60) as trap,
        open_upstream([[json_answer(openai_chat())]], limit=60) as up,
    ):
        names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
        environ = {
            form: trap.base_url for name in names for form in (name, name.lower())
        }
        config = f"""
            [providers.openai]
            api_key = "env:KEY_OF_THE_TEST"
            base_url = "{up.base_url}/v1"
            models = ["m"]
        """
        environ["KEY_OF_THE_TEST"] = KEY
        async with (
            starting(tmp_path, config, environ=environ) as daemon,
            daemon.connection() as client,
        ):
            body = {"model": "m", "messages": HELLO}
            assert (await client.ask(post(CHAT, body))).status == 200
        assert trap.connections == 0
