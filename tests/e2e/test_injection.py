"""What a client says stays what it says: no header, no path, no line of the log more."""

from __future__ import annotations

import json

import pytest

from duckservice.config import RetryConfig
from tests.e2e.running import (
    CHAT,
    KEY,
    MESSAGES,
    json_answer,
    open_duck,
    openai_chat,
    post,
    provider,
)
from tests.upstream import answer, open_upstream

HELLO = [{"role": "user", "content": "hello"}]
EVIL = {
    "CRLF": "x\r\nX-Injected: yes",
    "CRLF twice": "x\r\n\r\nHTTP/1.1 200 OK\r\nX-Injected: yes\r\n\r\n",
    "LF": "x\nX-Injected: yes",
    "CR": "x\rX-Injected: yes",
    "NUL": "x\0X-Injected: yes",
    "escape": "x\x1b]0;owned\x07\x1b[2J",
    "line separators": "x\u2028\u2029\x85X-Injected: yes",
    "a letter whose byte is a CR": "x\u010d\u010aX-Injected: yes",
    "a lone surrogate": "x\udc0d\udc0a",
    "quotes": "x\"; DROP TABLE job; --'",
}


def is_whole(headers) -> bool:
    """Whether a reply has no header that nobody but the client wanted."""
    values = "".join(f"{name}{value}" for name, value in headers.items())
    return "x-injected" not in {name.lower() for name in headers} and not any(
        ord(letter) < 32 or ord(letter) == 127 for letter in values
    )


def log_is_lines_of_json(duck) -> None:
    for line in duck.written.getvalue().splitlines():
        event = json.loads(line)
        assert {"timestamp", "level", "event"} <= event.keys()
        assert line.isprintable()


@pytest.mark.parametrize("name", EVIL)
async def test_no_text_of_a_job_becomes_a_header_a_log_line_or_a_statement(
    name,
) -> None:
    evil = EVIL[name]
    async with (
        open_upstream([[json_answer(openai_chat())]], limit=30) as up,
        open_duck(provider("up", "openai", up)) as duck,
    ):
        for job in (
            {"tags": {"team": evil}},
            {"tags": {evil: "x"}},
            {"priority": evil},
            {"deadline": evil},
            {"on_interrupt": evil},
            {"request": {"model": evil, "messages": HELLO}},
            {"request": {"model": "m", "messages": HELLO, "user": evil}},
            {evil: "x"},
        ):
            body = {"request": {"model": "m", "messages": HELLO}, "hold": True, **job}
            reply = await duck.post("/v1/jobs", body)
            assert reply.status in (200, 202, 400, 422)
            assert is_whole(reply.headers)
            if reply.status == 202:
                shown = await duck.send(
                    f"GET {reply.headers['location']} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
                )
                assert is_whole(shown.headers)
        assert await duck.get("/v1/jobs")
        for request in up.requests:
            assert b"x-injected" not in request.head.lower()
        log_is_lines_of_json(duck)


HEADERS = (
    *("Duck-Tags", "Duck-Priority", "X-Request-Id", "Idempotency-Key", "Duck-Deadline"),
    *("Duck-Max-Cost-Usd", "Duck-Cache", "anthropic-beta", "User-Agent", "Prefer"),
    *(
        "OpenAI-Organization",
        "X-Stainless-Lang",
        "Cookie",
        "Authorization",
        "x-api-key",
    ),
)


@pytest.mark.parametrize("header", HEADERS)
async def test_no_header_of_a_client_reaches_a_provider_unasked_or_breaks_out(
    header,
) -> None:
    async with (
        open_upstream([[json_answer(openai_chat())]], limit=30) as up,
        open_duck(provider("up", "openai", up)) as duck,
    ):
        for value in (
            b"team=x%0d%0aX-Injected:%20yes",
            b"team=x\\r\\nX-Injected: yes",
            b"team=\xe2\x80\xa8X-Injected",
            b"team=\x85\xff",
            b"t=" + b"x" * 4000,
            b"canary-of-the-client",
        ):
            line = header.encode() + b": " + value
            body = {"model": "m", "messages": HELLO}
            reply = await duck.send(post(CHAT, body, line))
            assert reply.status in (200, 400)
            assert is_whole(reply.headers)
            # Into one header only what is in another: the server refuses these.
            for split in (b"\n", b"\r", b"\0", b"\n "):
                torn = line + split + b"X-Injected: yes"
                assert (await duck.send(post(CHAT, body, torn))).status == 400
        for request in up.requests:
            assert b"njected" not in request.head
            assert b"canary-of-the-client" not in request.head
            assert request.header("authorization") == f"Bearer {KEY}"
        log_is_lines_of_json(duck)


PATHS = {
    "here": ".",
    "there": "..",
    "there, encoded": "%2e%2e",
    "up": "../../../admin",
    "up, encoded": "..%2f..%2fadmin",
    "a query": "m?key=mine",
    "a fragment": "m#x",
    "an authority": "@elsewhere.example/m",
    "an absolute URL": "http://elsewhere.example/m",
    "a scheme-relative URL": "//elsewhere.example/m",
    "a new request": "m HTTP/1.1\r\nHost: elsewhere.example\r\n\r\nGET /hidden",
    "a header": "m\r\nX-Injected: yes",
    "a space": "m HTTP/1.0",
    "a backslash": "..\\..\\admin",
    "NUL": "m\0",
    "a colon": "m:deleteModel",
}


@pytest.mark.parametrize(
    "adapter", ["gemini", "azure", "bedrock", "vertex", "huggingface", "openai"]
)
@pytest.mark.parametrize("name", PATHS)
async def test_a_model_s_name_stays_in_its_place_of_the_path(adapter, name) -> None:
    more = {
        "azure": {"api_version": "2024-10-21"},
        "bedrock": {"region": "eu-central-1"},
        "vertex": {"project": "p", "location": "europe-west4"},
    }.get(adapter, {})
    async with (
        open_upstream([[answer(b"{}", status=b"400 Bad")]], limit=30) as up,
        open_duck(
            provider("up", adapter, up, **more), retry=RetryConfig(max_attempts=1)
        ) as duck,
    ):
        for model in (PATHS[name], f"gemini-{PATHS[name]}", f"a/{PATHS[name]}"):
            for path in (CHAT, MESSAGES, "/v1/embeddings", "/v1/images/generations"):
                body = {"model": model, "max_tokens": 9}
                prompt = {"messages": HELLO} if path in (CHAT, MESSAGES) else {}
                also = {"input": "x"} if path == "/v1/embeddings" else {}
                also = {"prompt": "x"} if path.endswith("generations") else also
                await duck.post(path, {**body, **prompt, **also})
        for request in up.requests:
            method, target, version = request.line.split(" ")
            assert (method, version) == ("POST", "HTTP/1.1")
            segments = target.partition("?")[0].split("/")
            assert target.startswith(("/v1", "/openai/"))
            assert {".", ".."}.isdisjoint(segments)
            assert "\\" not in target
            assert "admin" not in segments
            assert "mine" not in target.partition("?")[2]
            assert "hidden" not in segments
            assert request.header("x-injected") is None
            assert request.header("host") == up.base_url.removeprefix("http://")
        log_is_lines_of_json(duck)


@pytest.mark.parametrize("name", EVIL)
async def test_what_a_provider_says_breaks_out_of_nothing_either(name) -> None:
    evil = EVIL[name]
    refusal = {"error": {"message": evil, "type": evil, "code": evil, "param": evil}}
    async with (
        open_upstream([[json_answer(refusal, status=b"400 Bad")]], limit=30) as up,
        open_duck(
            provider("up", "openai", up), retry=RetryConfig(max_attempts=1)
        ) as duck,
    ):
        reply = await duck.post(CHAT, {"model": "m", "messages": HELLO})
        assert reply.status in (400, 502)
        assert is_whole(reply.headers)
        assert json.loads(reply.body)["error"]["code"]
        log_is_lines_of_json(duck)
