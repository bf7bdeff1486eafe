"""Files and batches as the API shows them, and an order of a batch read; pure."""

from __future__ import annotations

import re
from typing import Any, Final, TypeAlias

from duckservice.batches.batches import BatchOrder, BatchView
from duckservice.batches.lines import ENDPOINTS, BadLine
from duckservice.batches.values import ENDED, RESULTS_KEPT, BatchDetails, Tally
from duckservice.calls.call import CallOptions
from duckservice.core.pricing import usd
from duckservice.gateway.wire.fields import (
    at,
    decode_object,
    flag,
    mapping,
    refuse_extras,
    refused,
    required_name,
    text,
    unknown,
    wrong,
)
from duckservice.store.base import StoredFile

Json: TypeAlias = dict[str, Any]

METADATA_MAX: Final = 16
WINDOW_MAX: Final = 30 * 86400.0
RESULTS_KEPT_LEAST: Final = 3600

_ORDER: Final = frozenset(
    {
        "input_file_id",
        "endpoint",
        "completion_window",
        "metadata",
        "output_expires_after",
        "model",
        "skip_bad",
    }
)
_WINDOW: Final = re.compile(r"([1-9][0-9]{0,5})([mhd])", re.ASCII)
_SECONDS: Final = {"m": 60.0, "h": 3600.0, "d": 86400.0}
_TIMES: Final = (
    "in_progress",
    "finalizing",
    "completed",
    "failed",
    "expired",
    "cancelling",
    "cancelled",
)


def read_order(body: bytes, options: CallOptions, key: str | None) -> BatchOrder:
    """Read a body of ``POST /v1/batches``; *options* are the request's headers.

    Raises:
        InvalidRequest: naming the field.
    """
    fields = decode_object(body)
    refuse_extras(fields, _ORDER, "")
    endpoint = required_name(fields, "endpoint", "")
    if endpoint not in ENDPOINTS:
        raise unknown("endpoint", endpoint, ", ".join(ENDPOINTS))
    completion_window = required_name(fields, "completion_window", "")
    window = _WINDOW.fullmatch(completion_window)
    seconds = 0.0 if window is None else int(window[1]) * _SECONDS[window[2]]
    if not 0 < seconds <= WINDOW_MAX:
        raise refused("completion_window", 'must be such as "24h", and at most "30d"')
    return BatchOrder(
        input_file=required_name(fields, "input_file_id", ""),
        endpoint=endpoint,
        completion_window=completion_window,
        window=seconds,
        metadata=_metadata(mapping(fields, "metadata", "")),
        model=text(fields, "model", ""),
        skip_bad=flag(fields, "skip_bad", "") is True,
        results_kept=_results_kept(mapping(fields, "output_expires_after", "")),
        idempotency_key=key,
        options=options,
    )


def batch_fields(view: BatchView) -> Json:
    """Return a batch as OpenAI shows it; what is ours is under ``duck``."""
    batch, its, tally = view.batch, view.details, view.tally
    over = batch.status in ENDED
    shown: Json = {
        "id": batch.id,
        "object": "batch",
        "endpoint": its.endpoint,
        "model": its.model,
        "errors": _errors(its),
        "input_file_id": batch.input_file,
        "completion_window": its.completion_window,
        "status": batch.status,
        "output_file_id": batch.output_file if over and tally.completed else None,
        "error_file_id": batch.error_file if over and tally.failed else None,
        "created_at": int(batch.created_at),
        "expires_at": int(its.expires_at),
    }
    for status in _TIMES:
        moment = its.times.get(status)
        shown[f"{status}_at"] = None if moment is None else int(moment)
    shown["request_counts"] = {
        "total": tally.total,
        "completed": tally.completed,
        "failed": tally.failed,
    }
    shown["metadata"] = its.metadata
    shown["usage"] = _usage(tally)
    shown["duck"] = _ours(view)
    return shown


def file_fields(file: StoredFile) -> Json:
    """Return a file as OpenAI shows it."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.body_bytes,
        "created_at": int(file.created_at),
        "expires_at": None if file.expires_at is None else int(file.expires_at),
        "filename": file.name,
        "purpose": file.purpose,
        "status": "processed",
        "status_details": None,
    }


def list_fields(items: list[Json], *, has_more: bool) -> Json:
    """Return a page of a list as OpenAI shows it."""
    return {
        "object": "list",
        "data": items,
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": has_more,
    }


def _ours(view: BatchView) -> Json:
    batch, its, tally = view.batch, view.details, view.tally
    return {
        # Both grow while the batch runs.
        "output_file_id": batch.output_file,
        "error_file_id": batch.error_file,
        "bad_lines": its.bad_lines,
        "skip_bad": its.skip_bad,
        "priority": its.priority,
        "tags": dict(its.tags),
        "max_cost_usd": None if its.max_cost is None else usd(its.max_cost),
        "cost_usd": usd(tally.cost),
        "cost_known": tally.cost_known,
        "maybe_billed": tally.maybe_billed,
    }


def _errors(its: BatchDetails) -> Json | None:
    if not its.bad:
        return None
    return {"object": "list", "data": [_bad(line) for line in its.bad]}


def _bad(line: BadLine) -> Json:
    return {
        "code": line.code,
        "message": line.message,
        "param": line.param,
        "line": line.number or None,
    }


def _usage(tally: Tally) -> Json:
    its = tally.usage
    return {
        "input_tokens": its.input_tokens,
        "input_tokens_details": {"cached_tokens": its.cached_tokens},
        "output_tokens": its.output_tokens,
        "output_tokens_details": {"reasoning_tokens": its.reasoning_tokens},
        "total_tokens": its.total_tokens,
    }


def _results_kept(fields: dict[str, Any] | None) -> float:
    if fields is None:
        return RESULTS_KEPT
    where = "output_expires_after"
    refuse_extras(fields, frozenset({"anchor", "seconds"}), where)
    anchor = required_name(fields, "anchor", where)
    if anchor != "created_at":
        raise unknown(at(where, "anchor"), anchor, "created_at")
    seconds = fields.get("seconds")
    if type(seconds) is not int or not RESULTS_KEPT_LEAST <= seconds <= RESULTS_KEPT:
        msg = f"must be from {RESULTS_KEPT_LEAST} to {RESULTS_KEPT:.0f}"
        raise refused(at(where, "seconds"), msg)
    return float(seconds)


def _metadata(fields: dict[str, Any] | None) -> dict[str, str] | None:
    if fields is None:
        return None
    if len(fields) > METADATA_MAX:
        raise refused("metadata", f"has more than {METADATA_MAX} keys")
    for key, value in fields.items():
        path = at("metadata", key[:64])
        if type(value) is not str:
            raise wrong(path, "a string", value)
        if len(key) > 64 or len(value) > 512:
            raise refused(path, "keys have at most 64 characters, values 512")
    return fields
