"""Incoming HTTP/1.1 messages, read to their end; what is broken says so."""

from __future__ import annotations

import httptools
import trio


class _Reader:
    """What httptools calls while it reads one message."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.complete = False

    def on_url(self, piece: bytes) -> None:
        self.target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, piece: bytes) -> None:
        self.body += piece

    def on_message_complete(self) -> None:
        self.complete = True


class RequestIn(_Reader):
    """One request."""

    method = ""

    async def read(self, stream: trio.abc.ReceiveStream) -> bool:
        """Read it whole; return False where the other side ends before that."""
        parser = httptools.HttpRequestParser(self)
        while not self.complete:
            data = await stream.receive_some()
            if not data:
                return False
            parser.feed_data(data)
        self.method = parser.get_method().decode("ascii")
        return True


class AnswerIn(_Reader):
    """One answer, as much of it as has come."""

    status: int | None = None

    async def read(self, stream: trio.abc.ReceiveStream) -> None:
        """Read until it is whole, or breaks off; ``complete`` says which."""
        parser = httptools.HttpResponseParser(self)
        try:
            while not self.complete:
                data = await stream.receive_some()
                if not data:
                    return
                parser.feed_data(data)
                self.status = parser.get_status_code() or None
        except (trio.BrokenResourceError, httptools.HttpParserError):
            return
