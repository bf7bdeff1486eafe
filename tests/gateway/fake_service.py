"""A service of canned answers, and a way to ask the application without a server."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager

import attrs

from duckservice.calls.call import Answer, CallReport, StreamAnswer, Submitter
from duckservice.completion import (
    Choice,
    Completion,
    Embeddings,
    Finished,
    GeneratedImage,
    Images,
    ModelInfo,
    Started,
    TextDelta,
    TextPart,
    Usage,
    UsageReport,
)

USAGE = Usage(input_tokens=9, output_tokens=3, cached_tokens=4, reasoning_tokens=1)
COMPLETION = Completion(
    id="cmpl-1",
    model="gpt-4o-2024-08-06",
    created=1_700_000_000,
    choices=(Choice(parts=(TextPart(text="quack"),)),),
    usage=USAGE,
)
BATCHES = (
    (Started(id="cmpl-1", model="gpt-4o-2024-08-06"), TextDelta(text="qu")),
    (TextDelta(text="ack"),),
    (Finished(reason="stop"), UsageReport(usage=USAGE)),
)
IMAGES = Images(
    model="gpt-image-1",
    images=(GeneratedImage(data="aGk=", media_type="image/png"),),
    usage=Usage(input_tokens=9, output_tokens=272, image_tokens=272),
    extra={"output_format": "png"},
)
OWNER = Submitter(uid=4711, gid=4711, pid=1)


@attrs.define
class FakeService:
    """Answers with what it is given, and keeps what it was asked."""

    completion: Completion = COMPLETION
    images: Images = IMAGES
    batches: tuple = BATCHES
    error: Exception | None = None
    """Raised in place of an answer; for a stream, before it begins."""
    stream_error: Exception | None = None
    """Raised after the batches."""
    closed: bool = False
    """Whether the last stream's batches were closed."""
    left: bool = False
    """Whether the last stream's context was left."""
    asked: list = attrs.field(factory=list)
    _ids: int = 0

    def report(self, options) -> CallReport:
        return CallReport(
            job="job-1",
            request_id=options.request_id,
            model="gpt-4o",
            provider="openai",
            attempts=2,
            queued=0.0125,
            cost=1_234_500_000,
        )

    def _note(self, *asked):
        self.asked.append(asked)
        if self.error is not None:
            raise self.error

    async def complete(self, request, options):
        self._note(request, options)
        return Answer(self.completion, self.report(options))

    @asynccontextmanager
    async def stream(self, request, options):
        self._note(request, options)
        try:
            yield StreamAnswer(self._batches(), self.report(options))
        finally:
            self.left = True

    async def _batches(self):
        self.closed = False
        try:
            for batch in self.batches:
                yield batch
            if self.stream_error is not None:
                raise self.stream_error
        finally:
            self.closed = True

    async def embed(self, request, options):
        self._note(request, options)
        vectors = tuple((0.5, -0.25, 1.0) for _ in request.input)
        value = Embeddings(model="embedder", vectors=vectors, usage=USAGE)
        return Answer(value, self.report(options))

    async def generate_images(self, request, options):
        self._note(request, options)
        return Answer(self.images, self.report(options))

    async def count_tokens(self, request, options):
        self._note(request, options)
        return Usage(input_tokens=42)

    async def models(self):
        self._note("models")
        return (
            ModelInfo(id="gpt-4o", created=1_700_000_000, owned_by="openai"),
            ModelInfo(id="meta/llama-3", owned_by="local"),
        )

    async def models_in_detail(self):
        self._note("models_in_detail")
        offer = {
            "provider": "openai",
            "kind": "chat",
            "capabilities": {"tools": True, "images_in": ["data", "url"]},
            "price": {"source": "list", "input_usd_per_mtok": "2.5"},
        }
        return {
            "offers": {"gpt-4o": [offer]},
            "price_list": {"name": "l", "version": "1", "as_of": "2026-11-09"},
            "silent_providers": {"local": "cannot be reached"},
        }

    async def status(self):
        self._note("status")
        return {"state": "running"}

    def tree(self):
        return {"name": "root"}

    async def costs(self, by, since):
        self._note("costs", by, since)
        return {"by": by}

    def budgets(self):
        return [{"name": "daily"}]

    async def providers(self):
        return ({"name": "openai"},)

    async def pause_queue(self, *, paused):
        self._note("pause_queue", paused)
        return {"waiting": 0, "paused": paused}

    async def queue(self):
        return {"waiting": 0}

    async def ready(self):
        self._note("ready")
        return {"status": "ready"}

    async def provider_action(self, name, action):
        self._note("provider_action", name, action)
        return {"name": name, "did": action}

    async def check_providers(self):
        self._note("check_providers")
        return ({"name": "openai", "healthy": True},)

    async def restart_actor(self, path):
        self._note("restart_actor", path)

    def new_request_id(self):
        self._ids += 1
        return f"made-{self._ids}"


@attrs.define
class FakeControl:
    did: list = attrs.field(factory=list)

    async def reload(self):
        self.did.append("reload")
        return {"changed": [], "needs_restart": [], "warnings": []}

    def drain(self):
        self.did.append("drain")

    def shutdown(self):
        self.did.append("shutdown")


@attrs.define
class Reply:
    status: int
    raw_headers: list
    pieces: list

    @property
    def headers(self) -> dict:
        return {name.decode(): value.decode() for name, value in self.raw_headers}

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def json(self):
        return json.loads(self.body)


async def ask(
    app,
    method,
    path,
    body=b"",
    headers=(),
    *,
    query=b"",
    peer=OWNER,
    pieces=None,
) -> Reply:
    """Send one request to an ASGI application; raise what it raises."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    incoming = list(pieces) if pieces is not None else [body]
    reply = Reply(0, [], [])
    ended = False

    async def receive():
        if not incoming:
            return {"type": "http.disconnect"}
        piece = incoming.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(incoming)}

    async def send(message):
        nonlocal ended
        assert not ended
        if message["type"] == "http.response.start":
            assert not reply.status
            reply.status = message["status"]
            reply.raw_headers = list(message["headers"])
        else:
            reply.pieces.append(message["body"])
            ended = not message.get("more_body", False)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "root_path": "",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": [(n.lower().encode(), v.encode()) for n, v in headers],
        "client": None,
        "server": ("/run/duckd.sock", None),
        "extensions": {} if peer is None else {"duck.peer": peer},
        "state": {},
    }
    await app(scope, receive, send)
    assert ended
    return reply
