"""The files of batches, in the document: OpenAI's, and what we add."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from duckservice.gateway.app.files import KEPT, KEPT_LEAST
from duckservice.gateway.app.openapi.operations import Operation
from duckservice.gateway.app.openapi.parts import (
    BYTES,
    JSON,
    Json,
    answer,
    array,
    flag,
    in_query,
    nullable,
    obj,
    ref,
    string,
    whole,
    word,
)

AREA: Final = "Batches"

_ONE: Final = "/v1/files/{id}"
_ID: Final = {"id": "The file's id."}
_OTHERS: Final = ("not_found", "permission_denied")
_FORM: Final = "multipart/form-data"

OPERATIONS: Final = (
    Operation(
        method="post",
        path="/v1/files",
        name="createFile",
        area=AREA,
        summary="Store a file from a form as it comes; or, with JSON, make an empty one",
        body={_FORM: ref("FileForm"), JSON: ref("NewFile")},
        links=("getFile", "deleteFile", "getFileContent", "appendToFile"),
        answers={200: answer("The file.", ref("File"))},
        codes=("permission_denied", "request_too_large"),
    ),
    Operation(
        method="get",
        path="/v1/files",
        name="listFiles",
        area=AREA,
        summary="List files, the newest first",
        parameters=[
            in_query("purpose", "Only those for this."),
            in_query("order", "By their age.", word("asc", "desc")),
            in_query("limit", "Files on a page.", whole(least=1, maximum=10_000)),
            in_query("after", "The id of the last file on the page before."),
        ],
        answers={200: answer("A page of files.", ref("FileList"))},
        codes=_OTHERS,
    ),
    Operation(
        method="get",
        path=_ONE,
        name="getFile",
        area=AREA,
        summary="Show what is known of a file",
        path_is=_ID,
        answers={200: answer("The file.", ref("File"))},
        codes=_OTHERS,
    ),
    Operation(
        method="delete",
        path=_ONE,
        name="deleteFile",
        area=AREA,
        summary="Delete a file, unless a batch that runs uses it",
        path_is=_ID,
        answers={200: answer("It is gone.", ref("FileDeleted"))},
        codes=(*_OTHERS, "conflict"),
    ),
    Operation(
        method="get",
        path=f"{_ONE}/content",
        name="getFileContent",
        area=AREA,
        summary="Read a file, or a part of it",
        path_is=_ID,
        parameters=[
            in_query("offset", "The first byte.", whole(maximum=10**12 - 1)),
            in_query("limit", "Bytes at most.", whole(maximum=10**12 - 1)),
        ],
        answers={
            200: answer("The bytes.", None, "Content-Length", octets=string()),
        },
        codes=_OTHERS,
    ),
    Operation(
        method="post",
        path=f"{_ONE}/content",
        name="appendToFile",
        area=AREA,
        summary="Add bytes at the end of a file",
        path_is=_ID,
        parameters=[
            in_query(
                "offset",
                "Where they go: the end, else 409.",
                whole(maximum=10**12 - 1, default=0),
            ),
        ],
        body={BYTES: string()},
        body_may_miss=True,
        answers={200: answer("The file.", ref("File"))},
        codes=(*_OTHERS, "conflict", "request_too_large"),
    ),
)


def page_of(items: str) -> Json:
    """Return the schema of a page of a list as OpenAI shows it."""
    return obj(
        {
            "object": word("list"),
            "data": array(ref(items)),
            "first_id": nullable(string()),
            "last_id": nullable(string()),
            "has_more": flag(),
        }
    )


SCHEMAS: Final[Mapping[str, Json]] = {
    "FileForm": obj(
        {"purpose": word("batch"), "file": string()},
        {
            "expires_after[anchor]": word("created_at"),
            "expires_after[seconds]": whole(
                "Comes before the file.", least=KEPT_LEAST, maximum=int(KEPT)
            ),
        },
        closed=True,
    ),
    "NewFile": obj(
        {"purpose": word("batch")}, {"filename": nullable(string())}, closed=True
    ),
    "File": obj(
        {
            "id": string(),
            "object": word("file"),
            "bytes": whole(),
            "created_at": whole(),
            "expires_at": nullable(whole()),
            "filename": string(),
            "purpose": word("batch", "batch_output"),
            "status": word("processed"),
            "status_details": {"type": "null"},
        },
        about="A file, as OpenAI shows it.",
    ),
    "FileList": page_of("File"),
    "FileDeleted": obj(
        {"id": string(), "object": word("file"), "deleted": {"const": True}}
    ),
}
