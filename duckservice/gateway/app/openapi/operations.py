"""One operation of the document, and the paths of an area put together from them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

import attrs

from duckservice.gateway.app.openapi.errors import error_answers
from duckservice.gateway.app.openapi.parts import Json, content, in_path, shared
from duckservice.gateway.wire.errors import family_of

Method: TypeAlias = Literal["get", "post", "patch", "delete"]

_NAMED: Final = re.compile(r"\{(\w+)\}")


@attrs.frozen(kw_only=True)
class Operation:
    """What one method of one path does."""

    method: Method
    path: str
    name: str
    """Unique in the document: generated clients call their function so."""
    area: str
    summary: str
    about: str = ""
    headers: Sequence[str] = ()
    """Names of the document's parameters."""
    path_is: Mapping[str, str] = attrs.field(factory=dict[str, str])
    """What each name in the path stands for."""
    parameters: Sequence[Json] = ()
    body: Mapping[str, Json] | None = None
    """What may be sent: schemas by their types."""
    body_may_miss: bool = False
    answers: Mapping[int, Json]
    codes: Sequence[str] = ()
    """Of errors, beside those that any operation may have."""
    links: Sequence[str] = ()
    """Names of operations whose ``id`` is the ``id`` in the answer."""
    admin: bool = False
    """Whether it is for admins alone, as `roles` has it."""


def paths_of(operations: Sequence[Operation]) -> dict[str, Json]:
    """Return the path items of *operations*."""
    paths: dict[str, Json] = {}
    for its in operations:
        item = paths.setdefault(its.path, {})
        assert its.method not in item, f"{its.method} {its.path} is there twice"
        item[its.method] = _fields(its)
    return paths


def _fields(its: Operation) -> Json:
    written = {p["name"] for p in its.parameters if p.get("in") == "path"}
    named = [name for name in _NAMED.findall(its.path) if name not in written]
    parameters = [
        *(in_path(name, its.path_is[name]) for name in named),
        *its.parameters,
        *map(shared, its.headers),
    ]
    said: Json = {"operationId": its.name, "tags": [its.area], "summary": its.summary}
    if its.about:
        said["description"] = its.about
    if parameters:
        said["parameters"] = parameters
    if its.body is not None:
        said["requestBody"] = {
            "required": not its.body_may_miss,
            "content": content(its.body),
        }
    good = {str(status): _linked(its, answer) for status, answer in its.answers.items()}
    codes = [*its.codes, *(["permission_denied"] if its.admin else [])]
    said["responses"] = {**good, **error_answers(codes, family_of(its.path))}
    said["x-duck-role"] = "admin" if its.admin else "submitter"
    return said


def _linked(its: Operation, answer: Json) -> Json:
    if not its.links:
        return answer
    links = {
        name: {"operationId": name, "parameters": {"id": "$response.body#/id"}}
        for name in its.links
    }
    return {**answer, "links": links}
