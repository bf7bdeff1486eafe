"""Models, written so that both OpenAI's and Anthropic's SDK can read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from duckservice.completion import ModelInfo

_LAST_SECOND = 253_402_300_799
"""Of the year 9999, after which there is no `datetime`."""

_encode = msgspec.json.Encoder().encode


def encode_models(
    models: Sequence[ModelInfo], detail: Mapping[str, Any] | None = None
) -> bytes:
    """Write the body of a reply of ``/v1/models``: one page with all of them.

    With *detail*, each has its ``offers``; the page its ``price_list``, and who did not
    say what it has.
    """
    body: dict[str, Any] = {
        "object": "list",
        "data": [_fields(model, detail) for model in models],
        "has_more": False,
        "first_id": models[0].id if models else None,
        "last_id": models[-1].id if models else None,
    }
    if detail is not None:
        body["price_list"] = detail["price_list"]
        body["silent_providers"] = detail["silent_providers"]
    return _encode(body)


def encode_model(model: ModelInfo, detail: Mapping[str, Any] | None = None) -> bytes:
    """Write the body of a reply of ``/v1/models/{id}``."""
    return _encode(_fields(model, detail))


def _fields(model: ModelInfo, detail: Mapping[str, Any] | None) -> dict[str, Any]:
    seconds = min(max(model.created, 0), _LAST_SECOND)
    created_at = datetime.fromtimestamp(seconds, UTC)
    fields: dict[str, Any] = {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
        "type": "model",
        "display_name": model.id,
        "created_at": created_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if detail is not None:
        fields["offers"] = detail["offers"].get(model.id, [])
    return fields
