"""The heads of HTTP/1.1 requests and responses; no input or output here.

llhttp (through httptools) checks every byte of a request's head, with all its
leniencies off. What it leaves open and a proxy could read in another way is
checked here: the request line's spaces, the version, ``Host``, the coding of
the body. A refusal is a value: the server's own answer, in the contract's form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Final, TypeAlias, final
from urllib.parse import unquote

import attrs
import httptools

Headers: TypeAlias = list[tuple[bytes, bytes]]

#: In place of a Content-Length: the body is chunked and says itself where it ends.
CHUNKED: Final = -1

# No line end within the target: llhttp takes a bare LF there for HTTP/0.9, and what
# follows, "Name: HTTP/1.1", for a header.
_REQUEST_LINE: Final = re.compile(rb"[A-Z-]+ [^\0- \x7f]+ HTTP/1\.[01]\r\n")
_HOPELESS: Final = re.compile(rb"(?<!\r)\n|\0")
_FRAMING_HEADERS: Final = frozenset(
    {b"content-length", b"transfer-encoding", b"connection", b"expect"}
)
_HOST: Final = re.compile(rb"[A-Za-z0-9\-._~!$&'()*+;=%:\[\]]*")
_AUTHORITY: Final = re.compile(rb"https?://([^/?]*)", re.IGNORECASE)

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"


@attrs.frozen
class Refusal:
    """An answer of the server itself, after which the connection is closed."""

    status: int
    code: str
    message: str
    request_id: str = ""


OF_NO_USE_TO_PAGES: Final[Sequence[tuple[bytes, bytes]]] = (
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)
"""On what every browser of this machine can have answered: no page may make more of it."""

TOO_MANY_CONNECTIONS: Final = Refusal(503, "unavailable", "too many connections")
TOO_MUCH_AT_ONCE: Final = Refusal(
    503, "unavailable", "too many large requests at once; try again"
)
HEAD_TOO_LATE: Final = Refusal(408, "timeout", "the request's head took too long")
BODY_TOO_LATE: Final = Refusal(408, "timeout", "the request's body stopped coming")
HEAD_TOO_LONG: Final = Refusal(
    431, "request_too_large", "the request's head is too large"
)


def body_too_long(bytes_max: int) -> Refusal:
    """Return the refusal of a body of more than *bytes_max* bytes."""
    message = f"the request's body is larger than {bytes_max} bytes"
    return Refusal(413, "request_too_large", message)


def internal_error(request_id: str) -> Refusal:
    """Return what a client is told about a bug of ours."""
    message = f"internal error; the log has the details under {request_id}"
    return Refusal(500, "internal_error", message, request_id)


def malformed(reason: str) -> Refusal:
    """Return the refusal of what is not an HTTP request."""
    return Refusal(400, "invalid_request", f"malformed HTTP request: {reason}")


@final
@attrs.define
class RequestHead:
    """A request up to its body. One is made per request: frozen would cost 1 µs."""

    method: str
    raw_path: bytes
    query: bytes
    http_version: str
    headers: Headers
    """Names in lower case, in the order of the wire."""
    body: int = 0
    """Bytes of body that follow, or `CHUNKED`."""
    keep_alive: bool = True
    expects_continue: bool = False

    @property
    def path(self) -> str:
        """The path, percent-decoded."""
        text = self.raw_path.decode("ascii")
        return unquote(text) if "%" in text else text


def is_hopeless(head: bytes | bytearray, start: int) -> bool:
    """Say whether an unfinished head is malformed already, from *start* on.

    Only for what would keep it from ever ending: a bare LF in place of CRLF, and
    NUL, which every other protocol sends early.
    """
    return _HOPELESS.search(head, start) is not None


def parse_request_head(raw: bytes) -> RequestHead | Refusal:
    """Return the request whose head is *raw*, its final empty line included."""
    line = _REQUEST_LINE.match(raw)
    if line is None:
        return malformed("bad request line")
    reader = _HeadReader()
    parser = httptools.HttpRequestParser(reader)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        # An upgrade is an offer, which a server may ignore.
        pass
    except httptools.HttpParserError as error:
        return malformed(str(error))
    if not reader.complete:
        return malformed("incomplete head")
    method = parser.get_method().decode("ascii")
    if method == "CONNECT" or b"#" in reader.target:
        return malformed("bad request target")
    target, headers = reader.target, reader.headers
    if b" \r\n" in raw or b"\t\r\n" in raw:
        # llhttp leaves the white space after a value to us.
        headers = [(name, value.rstrip(b" \t")) for name, value in headers]
    if named := _AUTHORITY.match(target):
        # Then it is this that says for whom the request is, whatever Host says
        # (RFC 9112, 3.2.2), and who checks the one has to see the other.
        target = target[named.end() :]
        headers = [
            (name, named[1] if name == b"host" else value) for name, value in headers
        ]
    path, _, query = target.partition(b"?")
    version = raw[line.end() - 5 : line.end() - 2].decode("ascii")
    head = RequestHead(method, path or b"/", query, version, headers)
    return _frame(head) or head


class _HeadReader:
    """Takes what the parser finds."""

    __slots__ = ("complete", "headers", "target")

    def __init__(self) -> None:
        self.complete = False
        self.headers: Headers = []
        self.target = b""

    def on_url(self, target: bytes) -> None:
        self.target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.complete = True


def _frame(head: RequestHead) -> Refusal | None:
    """Set what the headers say about body and connection, or refuse them."""
    head.keep_alive = head.http_version == "1.1"
    hosts = 0
    for name, value in head.headers:
        if name == b"host":
            hosts += 1
            if _HOST.fullmatch(value) is None:
                return malformed("bad Host")
        elif name in _FRAMING_HEADERS:
            refusal = _note_framing(head, name, value)
            if refusal is not None:
                return refusal
    if hosts > 1 or (not hosts and head.http_version == "1.1"):
        return malformed("there must be one Host header")
    return None


def _note_framing(head: RequestHead, name: bytes, value: bytes) -> Refusal | None:
    if name == b"content-length":
        head.body = int(value)
    elif name == b"connection":
        _note_connection(head, value)
    elif name == b"expect":
        head.expects_continue = value.lower() == b"100-continue"
    # Twice chunked is refused too: it would have to be decoded twice.
    elif head.body or head.http_version == "1.0" or value.lower() != b"chunked":
        return malformed("unsupported Transfer-Encoding")
    else:
        head.body = CHUNKED
    return None


def _note_connection(head: RequestHead, value: bytes) -> None:
    value = value.lower()
    if value == b"keep-alive":
        head.keep_alive = True
        return
    options = {option.strip() for option in value.split(b",")}
    if b"close" in options:
        head.keep_alive = False
    elif b"keep-alive" in options:
        head.keep_alive = True


_STATUS_LINES: Final = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
    for status in HTTPStatus
}


def encode_response_head(
    status: int, headers: Iterable[tuple[bytes, bytes]], framing: bytes
) -> bytes:
    """Return a response's head, with the *framing* lines at its end.

    Raises `ValueError` if a header would break out of its line: a response that
    a client's text could split is worse than none.
    """
    line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    lines = [b"%b: %b\r\n" % header for header in headers]
    fields = b"".join(lines)
    count = len(lines)
    if fields.count(b"\n") != count or fields.count(b"\r") != count or b"\0" in fields:
        raise ValueError("a response header holds a control character")
    return b"%b%b%b\r\n" % (line, fields, framing)


_ERROR_TYPES: Final = {
    408: "timeout_error",
    413: "request_too_large",
    500: "api_error",
    503: "overloaded_error",
}


def encode_refusal(
    refusal: Refusal,
    *,
    without_body: bool = False,
    headers: Sequence[tuple[bytes, bytes]] = OF_NO_USE_TO_PAGES,
) -> bytes:
    """Return the whole response of a refusal, with these *headers* beside its own.

    The server does not know whose format the endpoint speaks, so its errors are of
    OpenAI's shape, of Anthropic's and of ours at once.
    """
    error = {
        "type": _ERROR_TYPES.get(refusal.status, "invalid_request_error"),
        "code": refusal.code,
        "message": refusal.message,
        "param": None,
    }
    body = json.dumps({"type": "error", "error": error}).encode()
    fields = [(b"content-type", b"application/json"), *headers]
    if refusal.request_id:
        fields.append((b"x-request-id", refusal.request_id.encode("ascii")))
    framing = b"content-length: %d\r\nconnection: close\r\n" % len(body)
    head = encode_response_head(refusal.status, fields, framing)
    return head if without_body else head + body
