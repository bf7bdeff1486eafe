"""The document is sound, and is of the API that there is: no more, and no less."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, get_args

import attrs
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from duckservice import errors
from duckservice.gateway.app import application, make_app
from duckservice.gateway.app.roles import needs_admin
from duckservice.gateway.wire import (
    anthropic_messages,
    openai_chat,
    openai_embeddings,
    openai_images,
    openai_responses,
)
from duckservice.jobs.as_json import _TOP as SUBMISSION_FIELDS
from duckservice.providers.auth.key_state import KeyTrouble
from duckservice.providers.capabilities import Capabilities
from duckservice.providers.prices import PriceSource
from supervisors import Strategy
from tests.gateway.fake_service import OWNER, FakeControl, FakeService, ask
from tests.openapi.described import DOCUMENT, answer_faults, at, operations, parameters

SCHEMAS = DOCUMENT["components"]["schemas"]


def routes() -> list[Route]:
    app = make_app(FakeService(), control=FakeControl(), owner_uid=OWNER.uid)
    return [route for route in app.routes if isinstance(route, Route)]


def plain(path: str) -> str:
    return re.sub(r"\{(\w+):path\}", r"{\1}", path)


def test_the_document_is_openapi() -> None:
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


def test_every_route_is_in_the_document_with_its_methods_and_nothing_else_is() -> None:
    served = {
        (method, plain(route.path))
        for route in routes()
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert {(method, path) for method, path, _ in operations()} == served


def test_every_endpoint_that_makes_requests_is_in_the_document() -> None:
    posted = {path for method, path, _ in operations() if method == "POST"}
    assert set(application._REQUESTS) <= posted


def test_an_operation_says_whom_it_is_for() -> None:
    roles = {
        (method, plain(route.path)): "admin" if needs_admin(route.path) else "submitter"
        for route in routes()
        for method in (route.methods or set()) - {"HEAD"}
    }
    said = {(m, path): its["x-duck-role"] for m, path, its in operations()}
    assert said == roles


def test_every_name_in_a_path_is_a_parameter() -> None:
    for _, path, its in operations():
        named = {name for place, name in parameters(its) if place == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", path)), path


def test_no_two_operations_have_one_name() -> None:
    names = Counter(its["operationId"] for _, _, its in operations())
    assert [name for name, count in names.items() if count > 1] == []


def test_every_reference_leads_somewhere_and_every_schema_is_used() -> None:
    targets = set(re.findall(r'"(#/components/[^"]+)"', json.dumps(DOCUMENT)))
    for target in targets:
        assert at(target)
    unused = {f"#/components/schemas/{name}" for name in SCHEMAS} - targets
    assert unused == set()


def all_errors(
    cls: type[errors.DuckError] = errors.DuckError,
) -> set[type[errors.DuckError]]:
    own = {sub for sub in cls.__subclasses__() if sub.__module__ == errors.__name__}
    return own | {sub for its in own for sub in all_errors(its)}


def test_every_error_code_is_listed_with_its_status_and_nothing_else_is() -> None:
    codes = {its.code: its.status for its in all_errors()}
    assert set(SCHEMAS["ErrorCode"]["enum"]) == set(codes)
    for code, status in codes.items():
        assert f"| `{code}` | {status} |" in SCHEMAS["ErrorCode"]["description"]
    requests = DOCUMENT["paths"]["/v1/chat/completions"]["post"]["responses"]
    for code, status in codes.items():
        assert f"`{code}`" in requests[str(status)]["description"]


@pytest.mark.parametrize(
    ("schema", "read"),
    [
        ("ChatRequest", openai_chat._TOP),
        ("ResponsesRequest", openai_responses._TOP),
        ("MessagesRequest", anthropic_messages._TOP),
        ("CountTokensRequest", anthropic_messages._TOP),
        ("EmbeddingsRequest", openai_embeddings._TOP),
        ("ImagesRequest", openai_images._TOP),
    ],
)
def test_the_fields_that_are_said_to_be_read_are_those_that_are(
    schema: str, read: frozenset[str]
) -> None:
    text = SCHEMAS[schema]["description"].partition("serves: ")[2]
    beyond = {"safety_identifier"} if schema == "ResponsesRequest" else set()
    unserved = {"stream", "partial_images"} if schema == "ImagesRequest" else set()
    assert set(re.findall(r"`(\w+)`", text)) - beyond == read - unserved


def test_words_that_stand_in_the_document_are_all_that_there_are() -> None:
    # The gateway knows neither providers nor supervisors, so it has them as texts.
    words = {
        "Capabilities": {its.name for its in attrs.fields(Capabilities)},
        "source": set(get_args(PriceSource)),
        "state": {"ok", *get_args(KeyTrouble)},
        "strategy": {its.value for its in Strategy},
    }
    key = SCHEMAS["ProviderCheck"]["properties"]["keys"]["items"]["properties"]
    found = {
        "Capabilities": set(SCHEMAS["Capabilities"]["properties"]),
        "source": set(SCHEMAS["Price"]["properties"]["source"]["enum"]),
        "state": set(key["state"]["enum"]),
        "strategy": set(
            SCHEMAS["TreeNode"]["properties"]["strategy"]["anyOf"][0]["enum"]
        ),
    }
    assert found == words


def test_a_submission_has_the_fields_that_are_read() -> None:
    assert set(SCHEMAS["Submission"]["properties"]) == SUBMISSION_FIELDS


async def test_the_document_is_served_to_everybody() -> None:
    app = make_app(FakeService(), owner_uid=OWNER.uid)
    reply = await ask(app, "GET", "/openapi.json", peer=None)
    assert reply.status == 200
    assert reply.json() == DOCUMENT


@pytest.mark.parametrize(
    ("method", "path", "its"),
    [each for each in operations() if each[2]["x-duck-role"] == "admin"],
)
async def test_who_is_no_admin_is_told_so_in_the_declared_shape(
    method: str, path: str, its: dict[str, Any]
) -> None:
    app = make_app(FakeService(), control=FakeControl(), owner_uid=OWNER.uid)
    reply = await ask(app, method, re.sub(r"\{\w+\}", "x", path), peer=None)
    assert reply.status == 403
    headers = {name.decode(): value.decode() for name, value in reply.raw_headers}
    assert answer_faults(its, 403, headers, b"".join(reply.pieces)) == []
