"""What a daemon answers is what the document says, in every place and when it fails."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
import trio

from tests.openapi.described import Asked, answer_faults, operations
from tests.openapi.tour import Tour, touring

CHAT = "/v1/chat/completions"
SAID = [{"role": "user", "content": "Why do ducks quack?"}]


def chat(model: str = "mock-echo", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": SAID, "max_tokens": 20, **more}


async def requests(tour: Tour) -> None:
    post = tour.post
    await post(CHAT, chat(), Duck_Tags="team=core", Duck_Cache="refresh")
    await post(CHAT, chat(stream=True), X_Request_Id="mine", Duck_Deadline="30")
    limited = chat(temperature=0)
    await post(CHAT, limited, Duck_Max_Cost_Usd="0.5", Duck_Priority="high")
    await post(CHAT, limited)
    for body in (chat(), chat(stream=True)):
        body["input"] = body.pop("messages")
        body["max_output_tokens"] = body.pop("max_tokens")
        await post("/v1/responses", body)
    for stream in (False, True):
        await post("/v1/messages", chat(stream=stream), anthropic_beta="a,b")
    await post("/v1/messages/count_tokens", chat())
    for encoding in ("float", "base64"):
        body = {"model": "mock-embed", "input": "quack", "encoding_format": encoding}
        await post("/v1/embeddings", body)
    await post("/v1/images/generations", {"model": "mock-image", "prompt": "a duck"})


async def failing_requests(tour: Tour) -> None:
    for path in (CHAT, "/v1/messages", "/v1/responses", "/v1/embeddings"):
        await tour.post(path, b"{", 400)
        await tour.post(path, b"{}", 400, Duck_Priority="urgent")
    await tour.post("/v1/messages/count_tokens", b"[]", 400)
    await tour.post("/v1/images/generations", {"model": "mock-image"}, 400)
    dear = {"Duck_Max_Cost_Usd": "0.000000000001"}
    for path in (CHAT, "/v1/messages"):
        await tour.post(path, chat("no-such-model"), 404)
        await tour.post(path, chat(max_tokens=2000), 402, **dear)
        await tour.post(path, chat("mock-fail"), 502)
        await tour.post(path, chat(), 504, Duck_Deadline="0")
    await tour.post(CHAT, chat("nobody-serves-it"), 502)
    await tour.post(CHAT, chat("nobody-serves-it"), 503)
    # A stream that breaks off has its error in the vendor's format.
    await tour.post(CHAT, chat("mock-cut", stream=True))


async def models(tour: Tour) -> None:
    await tour.get("/v1/models")
    listed = (await tour.get("/v1/models?details=true")).json()
    assert listed["data"][0]["offers"][0]["price"]
    await tour.get("/v1/models/mock-echo?details=true")
    await tour.get("/v1/models/mock-echo?details=perhaps", 400)
    await tour.get("/v1/models/no/such", 404)


async def jobs(tour: Tour) -> None:
    submit = partial(tour.post, "/v1/jobs")
    body = {"request": chat(), "kind": "chat", "tags": {"team": "core"}}
    done = (await submit(body, 200, Prefer="wait=30", Idempotency_Key="k")).json()
    assert done["state"] == "completed"
    await submit({"request": chat("mock-tools")}, 409, Idempotency_Key="k")
    one = f"/v1/jobs/{done['id']}"
    await tour.get(one, Prefer="wait=1")
    for tail in ("result", "request", "attempts"):
        await tour.get(f"{one}/{tail}")
    told = await tour.get(f"{one}/stream", Last_Event_ID="0")
    assert b"event: done" in told.body
    for action in ("cancel", "retry", "hold", "release"):
        await tour.post(f"{one}/{action}", b"", 409)
    await submit({"request": chat(), "bogus": 1}, 400)
    await submit({"request": chat("no-such-model")}, 404)

    later = {
        "request": {"model": "mock-embed", "input": "quack"},
        "kind": "embedding",
        "not_before": 3000,
        "deadline": "2031-01-01T00:00:00Z",
        "max_attempts": 2,
        "on_interrupt": "fail",
        "max_cost_usd": 0.5,
    }
    later["deadline"] = 7200
    waiting = (await submit({**later, "priority": "low"}, 202)).json()
    one = f"/v1/jobs/{waiting['id']}"
    await tour.get(f"{one}/result", 409)
    await tour.ask(200, "PATCH", one, {"priority": "high", "deadline": 9000})
    await tour.ask(400, "PATCH", one, {"priority": "urgent"})
    for action in ("hold", "release", "cancel", "retry"):
        await tour.post(f"{one}/{action}")
    await tour.post(f"{one}/cancel")
    await tour.get(one)

    failing = {"request": chat("mock-fail"), "max_attempts": 1}
    failed = (await submit(failing, 200, Prefer="wait=30")).json()
    assert (failed["state"], len(failed["errors"])) == ("discarded", 1)
    told = await tour.get(f"/v1/jobs/{failed['id']}/stream")
    assert b"event: error" in told.body
    await tour.get("/v1/jobs?state=completed,cancelled&tag=team%3Dcore&since=24h")
    page = (await tour.get("/v1/jobs?limit=1&model=mock-echo")).json()
    await tour.get(f"/v1/jobs?limit=1&cursor={page['cursor'] or 'x'}", 400)
    await tour.get("/v1/jobs?bogus=1", 400)
    for tail in ("", "/result", "/request", "/attempts", "/stream"):
        await tour.get(f"/v1/jobs/job_none{tail}", 404)
    lines = [json.dumps({"request": chat(), "idempotency_key": "a"}), "no JSON", "{}"]
    bulk = "\n".join(lines).encode()
    told = await tour.post("/v1/jobs:bulk", bulk, Idempotency_Key="b")
    assert len(told.body.splitlines()) == 3
    await tour.post("/v1/jobs:bulk", bulk, 400, Content_Type="text/html")


def form(*parts: tuple[str, bytes]) -> bytes:
    pieces = [
        b'--x\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
        % (name.encode(), value)
        for name, value in parts
    ]
    return b"".join(pieces) + b"--x--\r\n"


async def batch_at(tour: Tour, batch: str, status: str) -> dict[str, Any]:
    """Return the batch when it has come to *status*."""
    with trio.fail_after(20):
        while True:
            shown: dict[str, Any] = (await tour.get(f"/v1/batches/{batch}")).json()
            if shown["status"] == status:
                return shown
            await trio.sleep(0.01)


async def batches(tour: Tour) -> None:
    lines = [{"prompt": "Name a duck.", "model": "mock-echo", "max_tokens": 20}] * 2
    data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    kind = {"Content_Type": "multipart/form-data; boundary=x"}
    sent = form(("purpose", b"batch"), ("file", data))
    file = (await tour.post("/v1/files", sent, **kind)).json()["id"]
    await tour.post("/v1/files", form(("purpose", b"assistants")), 400, **kind)
    empty = {"purpose": "batch", "filename": "mine.jsonl"}
    made = await tour.post("/v1/files", empty, Content_Type="application/json")
    mine = f"/v1/files/{made.json()['id']}"
    await tour.post(f"{mine}/content?offset=0", data)
    await tour.post(f"{mine}/content?offset=0", data, 409)
    await tour.get(f"{mine}/content?offset=2&limit=7")
    await tour.get(f"{mine}/content?offset=x", 400)
    await tour.get(mine)
    await tour.get("/v1/files?purpose=batch&order=asc&limit=1")
    await tour.get("/v1/files?order=up", 400)

    order = {
        "input_file_id": file,
        "endpoint": CHAT,
        "completion_window": "24h",
        "metadata": {"mine": "yes"},
    }
    batch = (await tour.post("/v1/batches", order, Duck_Max_Cost_Usd="1")).json()["id"]
    one = f"/v1/batches/{batch}"
    shown = await batch_at(tour, batch, "completed")
    assert shown["request_counts"]["completed"] == 2
    await tour.get("/v1/batches?limit=1")
    await tour.get("/v1/batches?limit=0", 400)
    await tour.post(f"{one}/cancel", b"", 409)
    await tour.post("/v1/batches", {**order, "bogus": 1}, 400)
    await tour.post("/v1/batches", {**order, "input_file_id": "file-none"}, 404)

    bad = (await tour.post(f"{mine}/content?offset={len(data)}", b"no JSON\n")).json()
    refused = (
        await tour.post("/v1/batches", {**order, "input_file_id": bad["id"]})
    ).json()
    await batch_at(tour, refused["id"], "failed")

    await tour.daemon.service.pause_queue(paused=True)
    held = (await tour.post("/v1/batches", order)).json()["id"]
    await tour.ask(409, "DELETE", f"/v1/files/{file}")
    await tour.post(f"/v1/batches/{held}/cancel")
    await tour.daemon.service.pause_queue(paused=False)
    await tour.ask(200, "DELETE", mine)
    await tour.ask(404, "DELETE", mine)
    await tour.get(f"{mine}/content", 404)
    await tour.get("/v1/batches/batch_none", 404)


async def looking_in(tour: Tour) -> None:
    for path in ("/healthz", "/readyz", "/openapi.json", "/v1/version", "/v1/status"):
        await tour.get(path)
    for path in ("/v1/queue", "/v1/tree", "/v1/budgets", "/v1/providers"):
        await tour.get(path)
    for by in ("provider", "model", "day", "hour", "total"):
        await tour.get(f"/v1/costs?by={by}&since=24h")
    await tour.get("/v1/costs")
    await tour.get("/v1/costs?by=year", 400)
    await tour.get("/metrics")
    await tour.get("/metrics", Accept="application/openmetrics-text")
    await tour.get("/v1/events?types=quacks", 400)


async def operating(tour: Tour) -> None:
    await tour.post("/v1/providers/check")
    for action in ("disable", "enable", "reset", "check"):
        await tour.post(f"/v1/providers/mock/{action}")
        await tour.get("/v1/providers")
    await tour.post("/v1/providers/mock/paint", b"", 404)
    await tour.post("/v1/providers/none/reset", b"", 404)
    for action in ("pause", "resume"):
        await tour.post(f"/v1/queue/{action}")
    await tour.post("/v1/tree/providers/mock/circuit_breaker/restart")
    await tour.post("/v1/tree/no/such/restart", b"", 404)
    tree = await tour.get("/v1/tree")
    assert b"RestartRequested" in tree.body
    await tour.post("/v1/reload")


async def ending(tour: Tour) -> None:
    await tour.post("/v1/drain")
    await tour.get("/readyz", 503)
    # It tells what was kept, and ends, as the daemon does.
    told = await tour.get("/v1/events?since=1h&types=job,attempt")
    assert b"event: attempt" in told.body
    await tour.post(CHAT, chat(), 503)
    await tour.get("/v1/status")
    await tour.post("/v1/shutdown")


async def test_every_answer_of_a_tour_is_as_the_document_says() -> None:
    async with touring() as tour:
        for part in (looking_in, requests, models, jobs, batches, operating):
            await part(tour)
        await failing_requests(tour)
        await looking_in(tour)
        await ending(tour)
    declared = {
        (method, path, int(status))
        for method, path, its in operations()
        for status in its["responses"]
    }
    assert {its for its in declared - tour.visited if its[2] < 300} == set()
    assert tour.visited - declared == set()
    assert tour.codes >= {
        *("invalid_request", "model_not_found", "not_found", "conflict"),
        *("budget_exceeded", "provider_error", "circuit_open", "draining"),
        *("deadline_exceeded", "unavailable"),
    }


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"surprise": 1}, "Additional properties are not allowed"),
        ({"waiting": "three"}, "'three' is not of type 'integer'"),
        ({"paused": None}, "None is not of type 'boolean'"),
    ],
)
def test_an_answer_that_differs_is_noticed(
    change: dict[str, Any], complaint: str
) -> None:
    right: dict[str, Any] = {
        "waiting": 0,
        "running": 0,
        "lanes": {},
        "oldest_wait_s": 0.0,
        "depth": {"high": 0, "normal": 0, "low": 0},
        "paused": False,
        "max_size": 7,
    }
    asked = Asked("GET", "/v1/queue")
    found = asked.operation()
    assert found is not None
    told = {"content-type": "application/json"}
    its = found[1]
    assert answer_faults(its, 200, told, json.dumps(right).encode()) == []
    (fault,) = answer_faults(its, 200, told, json.dumps(right | change).encode())
    assert complaint in fault
    (fault,) = answer_faults(its, 418, told, b"{}")
    assert "418" in fault
