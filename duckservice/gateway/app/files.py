"""/v1/files: the files of the Batch API, in and out of the store piece by piece."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from typing import Final, final

import attrs
import trio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from duckservice.batches.as_json import file_fields, list_fields
from duckservice.calls.call import Submitter
from duckservice.errors import Conflict, InvalidRequest, NotFound, RequestTooLarge
from duckservice.gateway.app.api import ServiceApi
from duckservice.gateway.app.owners import owner_of, whose
from duckservice.gateway.app.replies import json_value
from duckservice.gateway.multipart import MultipartReader, PartBegins, PartData
from duckservice.gateway.wire.fields import (
    decode_object,
    refuse_extras,
    text as text_field,
    unknown,
)
from duckservice.store.base import Store, StoredFile

FILE_BYTES_MAX: Final = 512 * 1024 * 1024
"""The largest file; one request brings at most what the server's limits allow."""
KEPT: Final = 30 * 86400.0
"""Seconds after which a file is deleted, unless it says otherwise."""
KEPT_LEAST: Final = 3600
FIELD_BYTES_MAX: Final = 4096
NAME_CHARS_MAX: Final = 255
_PIECE_BYTES: Final = 512 * 1024
_OFFSET: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
_EXPIRY: Final = "expires_after[seconds]"
_ANCHOR: Final = "expires_after[anchor]"
_FORM: Final = frozenset({"purpose", _ANCHOR, _EXPIRY})
_QUERY: Final = frozenset({"purpose", "order", "limit", "after"})


@final
@attrs.frozen
class FileApi:
    """Everything under /v1/files; who sees what is as with jobs."""

    service: ServiceApi
    owner_uid: int
    wall_clock: Callable[[], float]
    _appending: trio.Lock = attrs.field(factory=trio.Lock)

    def routes(self) -> list[Route]:
        """Return the routes of this API."""
        one = "/v1/files/{id}"
        return [
            Route("/v1/files", self.collection, methods=["GET", "POST"]),
            Route(one, self.member, methods=["GET", "DELETE"]),
            Route(f"{one}/content", self.content, methods=["GET", "POST"]),
        ]

    async def collection(self, request: Request) -> Response:
        """Take a file, or answer with a list of them."""
        if request.method == "GET":
            return await self._list(request)
        if request.headers.get("content-type", "").startswith("application/json"):
            return await self._create_empty(request)
        upload = _Upload(self, owner_of(request.scope))
        reader = MultipartReader.of(request.headers.get("content-type", ""))
        try:
            async for data in request.stream():
                for event in reader.feed(data):
                    await upload.take(event)
            reader.finish()
            return json_value(file_fields(await upload.finish()))
        except ClientDisconnect:
            return Response(status_code=499)
        finally:
            # Whoever has not got its id cannot use it.
            with trio.CancelScope(shield=True):
                await upload.drop()

    async def member(self, request: Request) -> Response:
        """Answer with a file's description, or delete it."""
        file = await self.find(request, request.path_params["id"])
        if request.method == "GET":
            return json_value(file_fields(file))
        if self.service.batch_jobs.uses(file.id):
            msg = f"file {file.id} is in use by a batch that runs; cancel that first"
            raise Conflict(msg)
        await self.store.delete_file(file.id)
        return json_value({"id": file.id, "object": "file", "deleted": True})

    async def content(self, request: Request) -> Response:
        """Answer with bytes, from ``offset`` on; or take more of them, at the end."""
        file = await self.find(request, request.path_params["id"])
        offset = _bytes(request, "offset", 0)
        if request.method == "POST":
            return await self._append(request, file, offset)
        end = min(file.body_bytes, offset + _bytes(request, "limit", file.body_bytes))
        size = max(0, end - offset)
        return StreamingResponse(
            self._pieces(file.id, offset, end),
            media_type="application/octet-stream",
            headers={"content-length": str(size)},
        )

    async def find(self, request: Request, id_: str) -> StoredFile:
        """Return a file that the client may see.

        Raises:
            NotFound: there is none.
        """
        file = await self.store.get_file(id_)
        uid = self.sees(request)
        if uid is not None and file.submitter != uid:
            msg = f"there is no file {id_}"
            raise NotFound(msg)
        return file

    def sees(self, request: Request) -> int | None:
        """Return whose things the client sees; None: everybody's."""
        return whose(request.scope, self.owner_uid)

    @property
    def store(self) -> Store:
        """Where the files are."""
        return self.service.jobs.store

    def describe(self, name: str, owner: Submitter, kept: float) -> StoredFile:
        """Return a new file, which is not in the store yet."""
        now = self.wall_clock()
        return StoredFile(
            id=f"file-{self.service.jobs.service.new_id()}",
            name=name[:NAME_CHARS_MAX] or "batch.jsonl",
            purpose="batch",
            created_at=now,
            submitter=owner.uid,
            expires_at=now + kept,
        )

    async def _list(self, request: Request) -> Response:
        files = await self.store.list_files(submitter=self.sees(request))
        query = request.query_params
        refuse_extras(dict(query), _QUERY, "")
        purpose, order = query.get("purpose"), query.get("order", "desc")
        if order not in {"asc", "desc"}:
            raise unknown("order", order, "asc, desc")
        shown = [f for f in files if purpose is None or f.purpose == purpose]
        if order == "asc":
            shown.reverse()
        if (after := query.get("after")) is not None:
            ids = [file.id for file in shown]
            if after not in ids:
                msg = f"there is no file {after}"
                raise NotFound(msg)
            shown = shown[ids.index(after) + 1 :]
        limit = read_limit(query.get("limit"), usual=10_000, most=10_000)
        page = [file_fields(file) for file in shown[:limit]]
        return json_value(list_fields(page, has_more=len(shown) > limit))

    async def _create_empty(self, request: Request) -> Response:
        fields = decode_object(await request.body())
        refuse_extras(fields, frozenset({"purpose", "filename"}), "")
        check_purpose(text_field(fields, "purpose", ""))
        name = text_field(fields, "filename", "") or ""
        file = self.describe(name, owner_of(request.scope), KEPT)
        await self.store.create_file(file)
        return json_value(file_fields(file))

    async def _append(
        self, request: Request, file: StoredFile, offset: int
    ) -> Response:
        if file.purpose != "batch" or self.service.batch_jobs.uses(file.id):
            msg = f"file {file.id} cannot be added to: a batch uses it"
            raise Conflict(msg)
        data = await request.body()
        async with self._appending:
            # Only now: whoever has sent this piece twice must not add it twice.
            size = (await self.store.get_file(file.id)).body_bytes
            if offset != size:
                msg = f"file {file.id} has {size} bytes: go on from there"
                raise Conflict(msg)
            check_size(size + len(data))
            # Shielded: the next must find what a client that has gone has added.
            with trio.CancelScope(shield=True):
                file = await self.store.append_to_file(file.id, data)
        return json_value(file_fields(file))

    async def _pieces(self, file: str, offset: int, end: int) -> AsyncIterator[bytes]:
        while offset < end:
            size = min(_PIECE_BYTES, end - offset)
            data = await self.store.read_file(file, offset=offset, size=size)
            offset += len(data)
            yield data


@final
@attrs.define(eq=False)
class _Upload:
    """A form on its way into the store: its file in pieces, its fields whole."""

    _api: FileApi
    _owner: Submitter
    _fields: dict[str, bytes] = attrs.field(factory=dict[str, bytes])
    _field: str | None = None
    """Which field comes; None: the file."""
    _file: StoredFile | None = None
    _pending: bytearray = attrs.field(factory=bytearray)
    _size: int = 0
    _finished: bool = False

    async def take(self, event: PartBegins | PartData) -> None:
        """Take the next piece of the form."""
        match event:
            case PartBegins(name="file", filename=filename):
                if self._file is not None:
                    raise InvalidRequest("file: is given twice", param="file")
                self._field = None
                self._file = await self._create(filename or "")
            case PartBegins(name=name):
                if name not in _FORM:
                    allowed = ", ".join(["file", *sorted(_FORM)])
                    msg = f"{name[:64]}: unknown field; allowed: {allowed}"
                    raise InvalidRequest(msg, param=name[:64])
                self._field = name
                self._fields[name] = b""
            case PartData(data):
                await self._add(data, self._field)

    async def finish(self) -> StoredFile:
        """Return the file, complete.

        Raises:
            InvalidRequest: there is none, or its purpose is not ours.
        """
        if self._file is None:
            raise InvalidRequest("file: is required", param="file")
        check_purpose(self._text("purpose"))
        if (anchor := self._text(_ANCHOR)) not in {None, "created_at"}:
            raise unknown(_ANCHOR, anchor, "created_at")
        if self._kept() != KEPT and self._file.expires_at is not None:
            kept = self._file.expires_at - self._file.created_at
            if kept != self._kept():
                raise InvalidRequest(
                    f"{_EXPIRY}: must come before the file", param=_EXPIRY
                )
        await self._flush()
        self._finished = True
        return await self._api.store.get_file(self._file.id)

    async def drop(self) -> None:
        """Delete what was stored, unless the form was complete."""
        if self._file is not None and not self._finished:
            await self._api.store.delete_file(self._file.id)

    async def _create(self, name: str) -> StoredFile:
        file = self._api.describe(name, self._owner, self._kept())
        await self._api.store.create_file(file)
        return file

    async def _add(self, data: bytes, field: str | None) -> None:
        if field is not None:
            self._fields[field] += data
            if len(self._fields[field]) > FIELD_BYTES_MAX:
                raise InvalidRequest(f"{field}: is too long", param=field)
            return
        self._size += len(data)
        check_size(self._size)
        self._pending += data
        if len(self._pending) >= _PIECE_BYTES:
            await self._flush()

    async def _flush(self) -> None:
        assert self._file is not None
        if self._pending:
            data, self._pending = bytes(self._pending), bytearray()
            await self._api.store.append_to_file(self._file.id, data)

    def _kept(self) -> float:
        text = self._text(_EXPIRY)
        if text is None:
            return KEPT
        if not (_OFFSET.fullmatch(text) and KEPT_LEAST <= int(text) <= KEPT):
            msg = f"{_EXPIRY}: must be from {KEPT_LEAST} to {KEPT:.0f}"
            raise InvalidRequest(msg, param=_EXPIRY)
        return float(text)

    def _text(self, field: str) -> str | None:
        value = self._fields.get(field)
        return None if value is None else value.decode("utf-8", "replace")


def check_purpose(purpose: str | None) -> None:
    """Raise `InvalidRequest` unless *purpose* is the one that is served here."""
    if purpose is None:
        raise InvalidRequest('purpose: is required: "batch"', param="purpose")
    if purpose != "batch":
        msg = 'purpose: only "batch" is supported here'
        raise InvalidRequest(msg, param="purpose")


def check_size(size: int) -> None:
    """Raise `RequestTooLarge` for a file that is."""
    if size > FILE_BYTES_MAX:
        msg = f"a file has at most {FILE_BYTES_MAX // 1024 // 1024} MiB"
        raise RequestTooLarge(msg)


def read_limit(text: str | None, *, usual: int, most: int) -> int:
    """Return a ``limit`` of the query.

    Raises:
        InvalidRequest: it is no number from 1 to *most*.
    """
    if text is None:
        return usual
    if not (_OFFSET.fullmatch(text) and 1 <= int(text) <= most):
        raise InvalidRequest(f"limit: must be from 1 to {most}", param="limit")
    return int(text)


def _bytes(request: Request, key: str, usual: int) -> int:
    text = request.query_params.get(key)
    if text is None:
        return usual
    if not _OFFSET.fullmatch(text):
        raise InvalidRequest(f"{key}: must be a number of bytes", param=key)
    return int(text)
