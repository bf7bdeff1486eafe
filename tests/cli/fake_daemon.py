"""A daemon with a script: answers on a real Unix socket, and remembers the questions."""

from __future__ import annotations

import json
import socketserver
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

STATUS = {
    "version": "0.1.0",
    "pid": 4242,
    "uptime_s": 8047.5,
    "state": "running",
    "requests": {"total": 1240, "completed": 1234, "failed": 3, "in_flight": 3},
    "queue": {
        "waiting": 12,
        "running": 3,
        "depth": {"high": 2, "normal": 10, "low": 0},
    },
    "providers": {
        "openai": {"breaker": "closed", "enabled": True, "in_flight": 3, "health": 0.987},
        "local\x1b[2J": {
            "breaker": "open", "enabled": False, "in_flight": 0, "health": 0.0,
        },
    },
    "cost_usd": "12.3456",
}  # fmt: skip

TREE = {
    "name": "root", "path": "", "kind": "supervisor", "state": "running",
    "restarts": 0, "inbox": 0, "last_crash": None, "strategy": "one_for_one",
    "children": [
        {"name": "request_queue", "path": "request_queue", "kind": "worker",
         "state": "running", "restarts": 2, "inbox": 1,
         "last_crash": "ValueError: bad\nthing \x1b[31m"},
        {"name": "providers", "path": "providers", "kind": "supervisor",
         "state": "restarting", "restarts": 0, "inbox": 0, "last_crash": None,
         "strategy": "one_for_one", "children": []},
    ],
}  # fmt: skip

PROVIDERS = {
    "providers": [
        {"name": "openai", "adapter": "openai", "models": ["a", "b", "c", "d*"],
         "breaker": "closed", "enabled": True, "in_flight": 3, "max_concurrency": 64,
         "health": 0.987, "latency_ms": 812.25, "requests": 1237, "failures": 3,
         "cost_usd": "12.3456", "limiter": {"available": 97}},
        {"name": "local", "adapter": "openai-compatible", "models": ["*"],
         "breaker": "half_open", "enabled": True, "in_flight": 0,
         "max_concurrency": 4, "health": 0.5, "latency_ms": None, "requests": 0,
         "failures": 0, "cost_usd": "0", "limiter": {"available": None}},
    ]
}  # fmt: skip

COSTS = {
    "by": "model",
    "since": None,
    "rows": [
        {"key": "gpt-4o", "requests": 1000, "input_tokens": 1234567,
         "output_tokens": 89, "cost_usd": "1234.5", "estimated": 12, "unpriced": 0},
        {"key": "llama", "requests": 1, "input_tokens": 5, "output_tokens": 6,
         "cost_usd": "0.0000021", "estimated": 0, "unpriced": 1},
    ],
    "total": {"requests": 1001, "input_tokens": 1234572, "output_tokens": 95,
              "cost_usd": "1234.5000021", "estimated": 12, "unpriced": 1},
}  # fmt: skip

CHAT = {"streaming": True, "tools": True, "images_in": ["data", "url"],
        "json_schema": True, "reasoning": False, "embeddings": True}  # fmt: skip
TEXT = CHAT | {"tools": False, "images_in": []}
LISTED = {"source": "list", "input_usd_per_mtok": "2.5", "output_usd_per_mtok": "10",
          "cached_input_usd_per_mtok": "1.25"}  # fmt: skip
TIERED = {"source": "config", "input_usd_per_mtok": "1", "output_usd_per_mtok": "2",
          "tiers": [{"above_input_tokens": 200000, "input_usd_per_mtok": "2",
                     "output_usd_per_mtok": "4"}]}  # fmt: skip


def _offer(provider, kind, capabilities, price):
    return {
        "provider": provider,
        "kind": kind,
        "capabilities": capabilities,
        "price": price,
    }


MODELS = {
    "object": "list",
    "data": [
        {"id": "gpt-4o", "object": "model", "created": 0, "owned_by": "openai",
         "offers": [_offer("openai", "chat", CHAT, LISTED),
                    _offer("azure", "chat", TEXT, TIERED)]},
        {"id": "evil\x1b]0;x\x07", "object": "model", "created": 0, "owned_by": "x",
         "offers": [_offer("x", "embedding", CHAT, None)]},
    ],
    "price_list": {"name": "genai-prices", "version": "1.2.3", "as_of": "2026-11-09"},
}  # fmt: skip

QUEUE = {"waiting": 12, "running": 3, "depth": {"high": 2, "normal": 10, "low": 0}}

ANSWERS = {
    "GET /v1/status": STATUS,
    "GET /v1/tree": TREE,
    "GET /v1/providers": PROVIDERS,
    "GET /v1/models": MODELS,
    "GET /v1/models?details=true": MODELS,
    "GET /v1/queue": QUEUE,
    "GET /v1/version": {"version": "0.1.0"},
    "GET /v1/costs?by=provider": COSTS,
    "GET /v1/costs?by=model&since=24h": COSTS,
    "POST /v1/drain": {"state": "draining"},
    "POST /v1/shutdown": {"state": "stopping"},
    "POST /v1/tree/providers/my%20one/restart": {"restarted": "providers/my one"},
    "POST /v1/providers/openai/reset": {"name": "openai", "breaker": "closed"},
    "POST /v1/providers/check": {"providers": [
        {"name": "openai", "adapter": "openai", "healthy": True, "latency_ms": 12.0,
         "detail": ""},
        {"name": "local", "adapter": "ollama", "healthy": False, "latency_ms": None,
         "detail": "cannot be reached"},
    ]},
    "POST /v1/providers/openai/check": {"name": "openai", "healthy": False,
                                        "latency_ms": 1.0, "detail": "no\x1bkey"},
}  # fmt: skip


class FakeDaemon(socketserver.ThreadingUnixStreamServer):
    """Serves `answers`; a list of strings is a stream of events."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Handler)
        self.path = path
        self.answers = dict(ANSWERS)
        self.status: dict[str, int] = {}
        self.headers = {"Duck-Provider": "openai", "Duck-Cost-Usd": "0.00123"}
        self.asked: list[tuple[str, dict, bytes]] = []


class _Handler(BaseHTTPRequestHandler):
    server: FakeDaemon

    def do_GET(self):
        size = int(self.headers.get("Content-Length", 0))
        question = f"{self.command} {self.path}"
        headers = {k.lower(): v for k, v in self.headers.items()}
        self.server.asked.append((question, headers, self.rfile.read(size)))
        answer = self.server.answers.get(question)
        if answer is None:
            message = {"code": "not_found", "message": "there is nothing at this path"}
            self._send(404, "application/json", json.dumps({"error": message}))
        elif isinstance(answer, list):
            events = "".join(f"data: {event}\n\n" for event in answer)
            self._send(200, "text/event-stream", events)
        elif isinstance(answer, str):
            self._send(200, "text/html", answer)
        else:
            status = self.server.status.get(question, 200)
            self._send(status, "application/json", json.dumps(answer))

    do_POST = do_GET  # noqa: N815 - http.server's name

    def _send(self, status, kind, body):
        self.send_response(status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass

    def address_string(self):
        return "client"


@contextmanager
def open_fake_daemon(path: Path):
    """Serve on *path* for the length of a block."""
    with FakeDaemon(path) as daemon:
        thread = threading.Thread(target=daemon.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield daemon
        finally:
            daemon.shutdown()
            thread.join()
