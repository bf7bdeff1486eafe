"""An upstream in OpenAI's format that keeps its own bill, and has its moods."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence

import attrs

from tests.kills.record import Call, Record
from tests.upstream import (
    FIN,
    RESET,
    Action,
    Pause,
    Request,
    Upstream,
    answer,
    chunked,
    head,
)

MARKER = re.compile(rb"marker:([a-z0-9-]+)")
JSON = b"content-type: application/json"
SSE = b"content-type: text/event-stream"
REPLY_TOKENS = 7


@attrs.define
class Moody(Sequence[list[Action]]):
    """The script: looks at each request, writes it down, and decides."""

    record: Record
    random: random.Random
    upstream: Upstream | None = None

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, index: int) -> list[Action]:  # type: ignore[override]
        assert self.upstream is not None
        request = self.upstream.requests[index]
        # Thousands come: only the last is needed.
        self.upstream.requests[index] = Request(b"", b"", 0)
        return self._answer(request)

    def _answer(self, request: Request) -> list[Action]:
        found = MARKER.search(request.body)
        if found is None:
            self.record.strange(f"a request without a marker: {request.body!r}")
            return [answer(status=b"400 Bad Request")]
        marker, fields = found[1].decode(), json.loads(request.body)
        chance = self.random.random()
        stormy = fields["model"].startswith("storm")
        if stormy and chance < 0.02:
            self.record.call(marker, "nothing")
            return [_error(b"429 Too Many Requests", b"retry-after-ms: 50")]
        if chance < 0.035:
            self.record.call(marker, "nothing")
            return [self._pause(), _error(b"500 Internal Server Error")]
        torn = chance < 0.05
        call = self.record.call(marker, "torn" if torn else "all")
        reply = _stream if fields.get("stream") else _whole
        return reply(call, f"echo {marker}", self._pause(), torn=torn)

    def _pause(self) -> Pause:
        slow = self.random.random() < 0.15
        return Pause(
            self.random.uniform(0.2, 0.8) if slow else self.random.random() / 30
        )


def _error(status: bytes, *headers: bytes) -> bytes:
    body = b'{"error":{"message":"not now","type":"server_error","code":null}}'
    return answer(body, JSON, *headers, status=status)


def _whole(call: Call, text: str, pause: Pause, *, torn: bool) -> list[Action]:
    body = json.dumps(
        {
            "id": f"chatcmpl-{call.number}",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": "m",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "stop",
                }
            ],
            "usage": _usage(call),
        }
    ).encode()
    if torn:
        return [pause, answer(body[:40], JSON, length=len(body)), RESET]
    return [pause, answer(body, JSON)]


def _stream(call: Call, text: str, pause: Pause, *, torn: bool) -> list[Action]:
    middle = len(text) // 2
    first = chunked(_event(call, {"content": text[:middle]}), end=False)
    begun = head(SSE, b"transfer-encoding: chunked") + first
    if torn:
        return [begun, pause, FIN]
    rest = [
        _event(call, {"content": text[middle:]}),
        _event(call, {}, finish="stop"),
        b"data: %b\n\n" % json.dumps({**_chunk(call), "usage": _usage(call)}).encode(),
        b"data: [DONE]\n\n",
    ]
    return [begun, pause, chunked(b"".join(rest))]


def _event(call: Call, delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: %b\n\n" % json.dumps({**_chunk(call), "choices": [choice]}).encode()


def _chunk(call: Call) -> dict[str, object]:
    return {
        "id": f"chatcmpl-{call.number}",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "m",
        "choices": [],
        "usage": None,
    }


def _usage(call: Call) -> dict[str, int]:
    return {
        "prompt_tokens": call.tokens,
        "completion_tokens": REPLY_TOKENS,
        "total_tokens": call.tokens + REPLY_TOKENS,
    }
