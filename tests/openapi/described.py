"""The OpenAPI document, ready to hold requests and answers against it.

Answers are held more strictly than by their readers: a field that the document does
not know is a fault here, though clients must bear with it.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import attrs
from jsonschema import Draft202012Validator

from duckservice import __version__
from duckservice.gateway.app.openapi.document import make_document

DOCUMENT = make_document(__version__)
METHODS = ("get", "post", "patch", "delete")
TOLD_ANYWAY = {"content-type", "content-length", "transfer-encoding", "allow"}
TOLD_ANYWAY |= {"cache-control", "x-accel-buffering", "connection", "request-id"}
"""Headers of answers that HTTP and the vendors' SDKs know without us."""


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the method, the path and the rest of each operation."""
    for path, item in DOCUMENT["paths"].items():
        for method in METHODS:
            if method in item:
                yield method.upper(), path, item[method]


def at(pointer: str) -> Any:
    """Return what a reference of the document points at."""
    found = DOCUMENT
    for name in pointer.removeprefix("#/").split("/"):
        found = found[name]
    return found


def resolved(value: dict[str, Any]) -> dict[str, Any]:
    """Return *value*, or what it refers to."""
    return at(value["$ref"]) if "$ref" in value else value


def closed(value: Any) -> Any:
    """Return a copy of schemas whose objects may have no fields but their own."""
    if isinstance(value, list):
        return [closed(item) for item in value]
    if not isinstance(value, dict):
        return value
    copied = {key: closed(item) for key, item in value.items()}
    if value.get("type") == "object" and "properties" in value:
        copied.setdefault("additionalProperties", False)
    return copied


_STRICT = {"components": {"schemas": closed(DOCUMENT["components"]["schemas"])}}
_AS_IT_IS = {"components": DOCUMENT["components"]}


def faults(value: Any, schema: Mapping[str, Any], *, strict: bool = True) -> list[str]:
    """Return what is wrong with *value* by *schema*; nothing, if it is right."""
    whole = {**(closed(schema) if strict else schema)}
    whole |= copy.copy(_STRICT if strict else _AS_IT_IS)
    errors = Draft202012Validator(whole).iter_errors(value)
    return [f"{error.json_path}: {error.message[:300]}" for error in errors]


@attrs.frozen
class Asked:
    """A request, and where it belongs."""

    method: str
    target: str
    headers: Mapping[str, str] = attrs.field(factory=dict)
    body: bytes = b""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    def operation(self) -> tuple[str, dict[str, Any]] | None:
        """Return the path and the rest of the operation that it is; the closest one."""
        found = [
            (path, operation)
            for method, path, operation in operations()
            if method == self.method and _matches(path, self.path)
        ]
        # As the router does: a path without names comes first.
        return min(found, key=lambda its: its[0].count("{"), default=None)


DEEP = ("/v1/models/{id}", "/v1/providers/{name}/{action}", "/v1/tree/{path}/restart")
"""Paths in which a name may hold slashes."""


def _matches(template: str, path: str) -> bool:
    name = ".+" if template in DEEP else "[^/]+"
    pattern = re.sub(r"\\\{\w+\\\}", name, re.escape(template))
    return re.fullmatch(pattern, path) is not None


def parameters(operation: Mapping[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the parameters of an operation by their places and names."""
    listed = map(resolved, operation.get("parameters", ()))
    return {(its["in"], its["name"].lower()): its for its in listed}


def request_faults(asked: Asked, operation: Mapping[str, Any]) -> list[str]:
    """Return what the document does not allow in a request that was served."""
    known, found = parameters(operation), list[str]()
    for name, value in parse_qsl(urlsplit(asked.target).query):
        its = known.get(("query", name))
        if its is None:
            found.append(f"query {name} is not in the document")
        elif its["schema"].get("type") == "string":
            found += faults(value, its["schema"])
    for name, value in asked.headers.items():
        its = known.get(("header", name.lower()))
        if name.lower() in {"accept", "content-type", "host"}:
            continue
        if its is None:
            found.append(f"header {name} is not in the document")
        else:
            found += faults(value, its["schema"])
    bodies = operation.get("requestBody", {}).get("content", {})
    if asked.body and "application/json" in bodies and asked.body.startswith(b"{"):
        schema = bodies["application/json"]["schema"]
        found += faults(json.loads(asked.body), schema, strict=False)
    return found


def answer_faults(
    operation: Mapping[str, Any], status: int, headers: Mapping[str, str], body: bytes
) -> list[str]:
    """Return what the document does not say of an answer."""
    declared = operation["responses"].get(str(status))
    if declared is None:
        return [f"status {status} is not in the document: {body[:200]!r}"]
    declared = resolved(declared)
    told = {name.lower() for name in declared.get("headers", ())}
    found = [
        f"header {name} is not in the document"
        for name in headers
        if name not in told | TOLD_ANYWAY
    ]
    kind = headers.get("content-type", "").partition(";")[0]
    schema = declared.get("content", {}).get(kind)
    if schema is None:
        return [*found, f"{kind!r} is not in the document for {status}"]
    match kind:
        case "application/json":
            found += faults(json.loads(body), schema["schema"])
        case "application/x-ndjson":
            for line in body.splitlines():
                found += faults(json.loads(line), schema["schema"])
        case "text/event-stream":
            found += _event_faults(body)
        case _:
            pass  # bytes
    return found


def _event_faults(body: bytes) -> list[str]:
    """Hold the last event of a job's stream against what the document says of it."""
    found = []
    for event in body.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in event.split("\n") if ": " in line)
        ref = {"$ref": "#/components/schemas/Job"}
        if fields.get("event") == "done":
            found += faults(json.loads(fields["data"]), ref)
        elif fields.get("event") == "error" and "id" in fields:
            found += faults(json.loads(fields["data"])["job"], ref)
    return found
