"""The lines of a batch: its input read and checked, its results written; pure.

Two forms of input, which may be mixed in one file:

    {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {...}}
    {"prompt": "hello", "system": "be brief", "max_tokens": 100}

The first is OpenAI's. The second is the body itself, where ``prompt`` (and ``system``)
may stand in place of ``messages``; a ``custom_id`` is welcome. Blank lines are
skipped, and counted: a line's number is the one that an editor shows.

The results are OpenAI's, with the number of the line in their ``id``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, TypeAlias, final

import attrs
import msgspec

from duckservice.completion import AnyRequest
from duckservice.core.job import JobKind
from duckservice.errors import InvalidRequest
from duckservice.gateway.wire.fields import (
    Fields,
    decode_object,
    is_object,
    refuse_extras,
    refused,
    required_name,
    required_text,
    text,
    unknown,
)
from duckservice.jobs.kinds import request_of

BatchEndpoint: TypeAlias = Literal[
    "/v1/chat/completions", "/v1/embeddings", "/v1/images/generations"
]
KINDS: Final[Mapping[BatchEndpoint, JobKind]] = {
    "/v1/chat/completions": "chat",
    "/v1/embeddings": "embedding",
    "/v1/images/generations": "image",
}
"""What the lines for an endpoint become."""
ENDPOINTS: Final[tuple[BatchEndpoint, ...]] = tuple(KINDS)
LINE_BYTES_MAX: Final = 16 * 1024 * 1024
"""A longer line is bad; it is not kept in memory."""
LINES_MAX: Final = 200_000
"""The most requests of one batch."""
CUSTOM_ID_CHARS_MAX: Final = 512

_WRAPPER: Final = frozenset({"custom_id", "method", "url", "body"})
_OURS: Final = frozenset({"custom_id", "prompt", "system"})
_RESULT_ID: Final = re.compile(r"batch_req_\w+_([0-9]{1,18})", re.ASCII)
_BOM: Final = b"\xef\xbb\xbf"

_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


@attrs.frozen(kw_only=True)
class BatchLine:
    """A good line."""

    number: int
    """From 1."""
    custom_id: str
    kind: JobKind
    request: AnyRequest = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    """The request in OpenAI's format."""


@attrs.frozen(kw_only=True)
class BadLine:
    """A line that cannot be sent, and why."""

    number: int
    message: str
    param: str | None = None
    code: str = "invalid_request"


@attrs.frozen
class RawLine:
    """The bytes of a line, without its end."""

    number: int
    data: bytes | None
    """None: it is longer than `LINE_BYTES_MAX`."""


@final
@attrs.define
class LineSplitter:
    """Cuts a stream of bytes into lines; holds no more than one of them."""

    _number: int = 0
    _pending: bytearray = attrs.field(factory=bytearray)
    _too_long: bool = False

    def feed(self, data: bytes) -> Iterator[RawLine]:
        """Yield the lines that *data* completes."""
        *complete, rest = data.split(b"\n")
        for piece in complete:
            self._add(piece)
            yield self._take()
        self._add(rest)

    def finish(self) -> Iterator[RawLine]:
        """Yield the last line, if it has no end of its own."""
        if self._pending or self._too_long:
            yield self._take()

    def _add(self, piece: bytes) -> None:
        if len(self._pending) + len(piece) > LINE_BYTES_MAX:
            self._too_long = True
            self._pending.clear()
        if not self._too_long:
            self._pending += piece

    def _take(self) -> RawLine:
        self._number += 1
        data = None if self._too_long else bytes(self._pending).removesuffix(b"\r")
        if self._number == 1 and data is not None:
            data = data.removeprefix(_BOM)
        self._pending.clear()
        self._too_long = False
        return RawLine(self._number, data)


@final
@attrs.define
class LineReader:
    """Reads lines of one file, in their order."""

    endpoint: BatchEndpoint
    model: str | None = None
    """For lines that name none."""
    requests: int = 0
    """Good lines so far."""
    _seen: set[bytes] = attrs.field(factory=set[bytes])

    def read(self, line: RawLine) -> BatchLine | BadLine | None:
        """Return what the line says; None if it is blank."""
        if line.data is None:
            message = f"is longer than {LINE_BYTES_MAX:,} bytes"
            return BadLine(number=line.number, message=message)
        if not line.data.strip():
            return None
        try:
            its = self._read(line.number, line.data)
        except InvalidRequest as error:
            message = error.message.replace("the body", "the line", 1)
            return BadLine(number=line.number, message=message, param=error.param)
        self.requests += 1
        if self.requests > LINES_MAX:
            message = f"a batch has at most {LINES_MAX:,} requests"
            return BadLine(number=line.number, message=message)
        return its

    def _read(self, number: int, data: bytes) -> BatchLine:
        fields = decode_object(data)
        if "body" in fields or "url" in fields:
            custom_id, body = self._openai(fields, data)
        else:
            custom_id, body = self._plain(fields, number)
        kind = KINDS[self.endpoint]
        request = request_of(kind, body)
        self._must_be_new(custom_id)
        return BatchLine(
            number=number, custom_id=custom_id, kind=kind, request=request, body=body
        )

    def _openai(self, fields: Fields, data: bytes) -> tuple[str, bytes]:
        refuse_extras(fields, _WRAPPER, "")
        custom_id = _custom_id(fields)
        if custom_id is None:
            raise refused("custom_id", "is required: a string")
        method = required_text(fields, "method", "")
        if method != "POST":
            raise unknown("method", method, "POST")
        url = required_text(fields, "url", "")
        if url != self.endpoint:
            raise unknown("url", url, f"{self.endpoint}, the batch's endpoint")
        body: object = fields.get("body")
        if not is_object(body):
            raise refused("body", "is required: an object")
        if self.model is not None and body.get("model") is None:
            return custom_id, _encode({**body, "model": self.model})
        return custom_id, bytes(_raw(data)["body"])

    def _plain(self, fields: Fields, number: int) -> tuple[str, bytes]:
        custom_id = _custom_id(fields) or f"line-{number}"
        is_chat = self.endpoint == "/v1/chat/completions"
        ours = _OURS if is_chat else {"custom_id"}
        body = {key: value for key, value in fields.items() if key not in ours}
        if is_chat:
            if "prompt" in fields or "system" in fields:
                if body.get("messages") is not None:
                    raise refused("messages", "not together with prompt or system")
                body["messages"] = _messages(fields)
            elif body.get("messages") is None:
                raise refused("prompt", "is required: a string; or messages, an array")
        if self.model is not None and body.get("model") is None:
            body["model"] = self.model
        return custom_id, _encode(body)

    def _must_be_new(self, custom_id: str) -> None:
        digest = hashlib.blake2b(custom_id.encode(), digest_size=8).digest()
        if digest in self._seen:
            raise refused("custom_id", "another line has the same")
        self._seen.add(digest)


def endpoint_of(data: bytes) -> BatchEndpoint | None:
    """Return the endpoint that a line names, if it names one."""
    try:
        url = decode_object(data).get("url")
    except InvalidRequest:
        return None
    return next((endpoint for endpoint in ENDPOINTS if endpoint == url), None)


# The results.


def answer_line(
    batch: str, number: int, custom_id: str, *, job: str, status: int, body: bytes
) -> bytes:
    """Return the line of a request that was answered; *body* is JSON."""
    response = {"status_code": status, "request_id": job, "body": msgspec.Raw(body)}
    return _result(batch, number, custom_id, response, None)


def failure_line(
    batch: str, number: int, custom_id: str, *, code: str, message: str
) -> bytes:
    """Return the line of a request that has not got so far."""
    error = {"code": code, "message": message}
    return _result(batch, number, custom_id, None, error)


def line_number(result: bytes) -> int | None:
    """Return the number of the line that *result* belongs to; None: it is no result."""
    try:
        fields = _raw(result)
        found = _RESULT_ID.fullmatch(msgspec.json.decode(fields["id"], type=str))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError):
        return None
    return None if found is None else int(found[1])


def _result(
    batch: str,
    number: int,
    custom_id: str,
    response: dict[str, Any] | None,
    error: dict[str, str] | None,
) -> bytes:
    its = {
        "id": f"batch_req_{batch.removeprefix('batch_')}_{number}",
        "custom_id": custom_id,
        "response": response,
        "error": error,
    }
    return _encode(its) + b"\n"


def _custom_id(fields: Fields) -> str | None:
    custom_id = text(fields, "custom_id", "")
    if custom_id is None:
        return None
    if not 0 < len(custom_id) <= CUSTOM_ID_CHARS_MAX:
        raise refused("custom_id", f"must have 1 to {CUSTOM_ID_CHARS_MAX} characters")
    return custom_id


def _messages(fields: Fields) -> list[dict[str, str]]:
    messages = [{"role": "user", "content": required_name(fields, "prompt", "")}]
    system = text(fields, "system", "")
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    return messages
