"""Where fuzzing begins: what the project's own tests send, and some that is nasty."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tests.fuzz.cuts import with_cuts
from tests.gateway.serving import GET, post
from tests.gateway.test_server_robustness import CHUNKED, REQUESTS
from tests.providers import event_bytes, test_anthropic, test_cohere, test_ollama
from tests.providers.test_openai import WHOLE as OPENAI_STREAM
from tests.upstream import answer, chunked, head

ROOT = Path(__file__).parents[2]

_CHAT = {
    "model": "m",
    "max_tokens": 5,
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "quack"}]},
        {"role": "assistant", "content": "quack", "tool_calls": []},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
    "stream": True,
    "temperature": 0.5,
}


def _both(samples: Iterable[bytes]) -> list[bytes]:
    """Return each in one piece, and cut at three places."""
    found = list[bytes]()
    for sample in samples:
        found += (with_cuts(sample), with_cuts(sample, 1, len(sample) // 2, 40))
    return found


def requests() -> list[bytes]:
    """Return requests, alone and in rows."""
    return _both(
        [
            *REQUESTS,
            GET + GET,
            CHUNKED + GET,
            post(b"x", b"Expect: 100-continue"),
            post(b"x", b"Connection: close") + GET,
            post(b"hello", b"Transfer-Encoding: chunked"),
            b"GET http://x/y?z HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            b"\0\n",
        ]
    )


def chunked_bodies() -> list[bytes]:
    """Return bodies in the chunked coding."""
    return _both(
        [
            chunked(b"hello", b"!"),
            chunked(b"x" * 300) + b"more",
            b"5;a=b\r\nhello\r\n0\r\nT: u\r\n\r\n",
            b"ffffffff\r\n",
            b"0x1\r\n",
        ]
    )


def forms() -> list[bytes]:
    """Return bodies of forms with the boundary ``duck``."""
    field = b'--duck\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n'
    file = field.replace(b'"a"', b'"file"; filename="x.jsonl"')
    return _both(
        [field + b"--duck--\r\n", field + file + b"--duck--", b"--duck \r\n\r\n", file]
    )


def answer_heads() -> list[bytes]:
    """Return answers of upstreams as HTTP."""
    return _both(
        [
            answer(b"hello", b"content-type: text/plain"),
            head(b"transfer-encoding: chunked") + chunked(b"a", b"b"),
            head(b"connection: close") + b"to the end",
            b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"x"),
            answer(b"x", status=b"204 No Content", length=0),
            answer(b"a") + answer(b"b"),
        ]
    )


def events() -> list[bytes]:
    """Return server-sent events."""
    return _both(
        [
            b"data: a\n\ndata: b\r\n\r\n",
            b"\xef\xbb\xbfevent: x\rdata: 1\rdata: 2\r\r: ping\n\n",
            b"data: " + b"x" * 250 + b"\n\n",
            b"id: 1\nretry: 5\ndata\n\ndata: cut",
        ]
    )


def lines() -> list[bytes]:
    """Return lines of JSON."""
    return _both([b'{"a":1}\n\n{"b":2}\r\n', b"x" * 250 + b"\n", b'{"cut'])


def messages() -> list[bytes]:
    """Return messages of the binary event stream, and what is made into some."""
    its = {":message-type": "event", ":event-type": "contentBlockDelta"}
    headers = b"".join(event_bytes.string(k, v) for k, v in its.items())
    payload = b'{"delta":{"text":"hi"}}'
    error = {":message-type": "error", ":error-code": "E", ":error-message": "m"}
    return [
        *_both(
            [
                event_bytes.message(its, payload) * 2,
                event_bytes.message(error),
                event_bytes.framed(headers, payload)[:-1] + b"x",
            ]
        ),
        b"\0" + headers + b"\n" + payload + b"\n\n" + headers + b"\n" + payload,
    ]


def answers() -> list[bytes]:
    """Return replies, streamed and whole, in each provider's format."""
    start = json.dumps({"candidates": [{"content": {"parts": [{"text": "hi"}]}}]})
    done = {"type": "response.completed", "response": {"id": "r", "output": []}}
    its = {":message-type": "event", ":event-type": "messageStart"}
    streams = [
        OPENAI_STREAM,
        test_anthropic.WHOLE,
        f"data: {start}\n\n".encode(),
        f"data: {json.dumps(done)}\n\n".encode(),
        event_bytes.message(its, b'{"role":"assistant"}'),
        test_cohere.WHOLE,
        test_ollama.WHOLE,
        OPENAI_STREAM,
    ]
    message = {"role": "assistant", "content": "hi"}
    text = {"type": "text", "text": "hi"}
    bodies = [
        {"id": "c", "choices": [{"message": message, "finish_reason": "stop"}]},
        {"type": "message", "role": "assistant", "content": [text], "usage": {}},
        json.loads(start),
        {"id": "r", "status": "completed", "output": []},
        {"output": {"message": {"role": "assistant", "content": [{"text": "hi"}]}}},
        {"id": "c", "message": {"role": "assistant", "content": [text]}},
        {"model": "m", "message": message, "done": True},
        {"choices": [{"text": "hi"}]},
    ]
    found = list[bytes]()
    for index, (stream, body) in enumerate(zip(streams, bodies, strict=True)):
        found.append(bytes([index]) + with_cuts(stream, len(stream) // 2))
        found.append(bytes([index]) + with_cuts(json.dumps(body).encode()))
    return found


def bodies() -> list[bytes]:
    """Return requests of each endpoint, and what is poison to a decoder."""
    samples = [
        json.dumps(_CHAT),
        json.dumps({"model": "m", "input": ["a", "b"], "prompt": "p", "size": "1x1"}),
        json.dumps({"model": "m", "input": [{"role": "user", "content": "hi"}]}),
        '{"a":' * 600 + "1" + "}" * 600,
        '{"a": 1e999, "b": NaN, "c": -0, "d": 1' + "0" * 4400 + "}",
        r'{"a": "\ud800", "b": "\u0000", "a": 18446744073709551616}',
    ]
    return [
        bytes([index]) + sample.encode() for sample in samples for index in range(5)
    ]


def configs() -> list[bytes]:
    """Return the complete example, with its keys commented out and not, and pieces of it."""
    text = (ROOT / "config.toml").read_text()
    tables = text.replace("\n# [", "\n[").split("\n[")
    return [
        text.encode(),
        b'[providers.o]\nadapter = "openai"\napi_key = "env:KEY"\nbase_url = "http://x"',
        b'[budgets.b]\nlimit_usd = 1e400\nmatch = { tag = "env:KEY" }',
        b"a = " + b"[" * 2000,
        b"[providers.x]\nrequests_per_minute = 1" + b"0" * 5000,
        *(f"[{table}".encode() for table in tables[1:20]),
    ]
