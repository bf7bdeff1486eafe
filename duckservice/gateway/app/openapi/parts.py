"""The words that the document is written in: schemas, parameters, bodies, operations.

A schema says what is there; more may come in a later version, so objects in answers
are open, and the bodies that we refuse unknown fields of are closed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

Json: TypeAlias = dict[str, Any]

JSON: Final = "application/json"
SSE: Final = "text/event-stream"
NDJSON: Final = "application/x-ndjson"
BYTES: Final = "application/octet-stream"

_KINDS: Final = {
    "sse": SSE,
    "ndjson": NDJSON,
    "octets": BYTES,
    "plain": "text/plain",
    "openmetrics": "application/openmetrics-text",
}


def ref(name: str) -> Json:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def string(about: str = "", **more: Any) -> Json:
    """Return the schema of a text."""
    return _said({"type": "string", **more}, about)


def whole(about: str = "", *, least: int = 0, **more: Any) -> Json:
    """Return the schema of a whole number."""
    return _said({"type": "integer", "minimum": least, **more}, about)


def number(about: str = "", *, least: float | None = 0, **more: Any) -> Json:
    """Return the schema of a number."""
    bound = {} if least is None else {"minimum": least}
    return _said({"type": "number", **bound, **more}, about)


def flag(about: str = "") -> Json:
    """Return the schema of a yes or no."""
    return _said({"type": "boolean"}, about)


def word(*allowed: str, about: str = "") -> Json:
    """Return the schema of one of some words."""
    return _said({"type": "string", "enum": list(allowed)}, about)


def money(about: str = "") -> Json:
    """Return the schema of an exact amount of US dollars."""
    pattern = r"^-?[0-9]+(\.[0-9]{1,12})?$"
    return string(about or "US dollars, exact.", pattern=pattern)


def moment(about: str = "") -> Json:
    """Return the schema of a moment, in seconds since the epoch."""
    return number(about or "Seconds since the epoch.")


def since() -> Json:
    """Return the schema of a moment in a query."""
    return {
        "description": "A length of time such as `24h`, an ISO date or time, or seconds"
        " since the epoch.",
        "anyOf": [
            string(pattern=r"^[0-9]{1,9}[smhdw]$"),
            string(pattern=r"^[0-9]{1,11}(\.[0-9]{1,9})?$"),
            string(format="date"),
            string(format="date-time"),
        ],
    }


def array(items: Json, about: str = "", **more: Any) -> Json:
    """Return the schema of a list."""
    return _said({"type": "array", "items": items, **more}, about)


def mapping(values: Json, about: str = "", **more: Any) -> Json:
    """Return the schema of an object with any keys."""
    return _said({"type": "object", "additionalProperties": values, **more}, about)


def nullable(schema: Json, about: str = "") -> Json:
    """Return *schema*, or null."""
    return _said({"anyOf": [schema, {"type": "null"}]}, about)


def obj(
    fields: Mapping[str, Json],
    optional: Mapping[str, Json] | None = None,
    *,
    about: str = "",
    closed: bool = False,
) -> Json:
    """Return the schema of an object: *fields* are always there, *optional* maybe."""
    schema: Json = {"type": "object", "properties": {**fields, **(optional or {})}}
    if fields:
        schema["required"] = list(fields)
    if closed:
        schema["additionalProperties"] = False
    return _said(schema, about)


def free_object(
    required: Mapping[str, Json], read: Sequence[str], about: str, link: str
) -> Json:
    """Return the schema of a body in a vendor's format: *read* names what we read."""
    names = ", ".join(f"`{name}`" for name in read)
    text = f"{about} Understood here, whichever provider serves: {names}."
    schema = obj(required, about=text)
    schema["externalDocs"] = {"url": link}
    return schema


def parameter(
    place: str, name: str, schema: Json, about: str, *, required: bool = False
) -> Json:
    """Return a parameter of the path, the query or the head."""
    return {
        "name": name,
        "in": place,
        "required": required or place == "path",
        "description": about,
        "schema": schema,
    }


def in_path(name: str, about: str, schema: Json | None = None) -> Json:
    """Return a parameter of the path."""
    return parameter("path", name, schema or string(minLength=1), about)


def in_query(name: str, about: str, schema: Json | None = None) -> Json:
    """Return a parameter of the query."""
    return parameter("query", name, schema or string(), about)


def shared(name: str) -> Json:
    """Return a reference to a parameter of the document."""
    return {"$ref": f"#/components/parameters/{name}"}


def content(schemas: Mapping[str, Json]) -> Json:
    """Return what a body may be, by its type."""
    return {kind: {"schema": schema} for kind, schema in schemas.items()}


def answer(
    about: str, schema: Json | None = None, *headers: str, **others: Json
) -> Json:
    """Return an answer; *headers* are names of the document's headers.

    A schema is that of JSON; *others* are of the types in `_KINDS`, by their words.
    """
    schemas = {} if schema is None else {JSON: schema}
    schemas |= {_KINDS[kind]: its for kind, its in others.items()}
    told: Json = {"description": about}
    if headers:
        told["headers"] = {
            name: {"$ref": f"#/components/headers/{name}"} for name in headers
        }
    if schemas:
        told["content"] = content(schemas)
    return told


def _said(schema: Json, about: str) -> Json:
    return {**schema, "description": about} if about else schema
