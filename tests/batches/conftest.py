"""Batches on a running service whose store outlives it."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import trio

from duckservice.batches.batches import BatchOrder, BatchView
from duckservice.calls.call import CallOptions
from duckservice.running import RunningService
from duckservice.store.base import Store, StoredFile, StoreUnavailable


def plain(*texts: str, model: str = "mock-1", **more: Any) -> bytes:
    lines = [{"prompt": text, "model": model, **more} for text in texts]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


async def put(store: Store, data: bytes, file: str = "file-in") -> str:
    meta = StoredFile(id=file, name="in.jsonl", purpose="batch", created_at=0.0)
    await store.create_file(meta)
    await store.append_to_file(file, data)
    return file


def order(file: str = "file-in", **more: Any) -> BatchOrder:
    max_cost = more.pop("max_cost", None)
    return BatchOrder(
        **{
            "input_file": file,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "window": 86400.0,
            "options": CallOptions(max_cost=max_cost),
            **more,
        }
    )


async def ended(
    service: RunningService, batch: str, seconds: float = 3600
) -> BatchView:
    with trio.fail_after(seconds):
        while True:
            with suppress(StoreUnavailable):
                view = await service.batch_jobs.get(batch)
                if view.batch.status in {"completed", "failed", "cancelled", "expired"}:
                    return view
            await trio.sleep(0.5)


async def results(store: Store, view: BatchView) -> tuple[list[Any], list[Any]]:
    """Return the answers and the errors, in the order in which they came."""
    return (
        await read(store, view.batch.output_file),
        await read(store, view.batch.error_file),
    )


async def read(store: Store, file: str | None) -> list[Any]:
    assert file is not None
    size = (await store.get_file(file)).body_bytes
    data = await store.read_file(file, size=size)
    assert not data or data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


def number(result: Any) -> int:
    return int(result["id"].rpartition("_")[2])
