"""The page, its scripts and styles: read once, and served from memory."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Final, NamedTuple

_KINDS: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
"""What is served; other files, licences say, only lie beside it."""

INDEX: Final = "index.html"


class PageFile(NamedTuple):
    """One file, as it is sent."""

    kind: str
    body: bytes


def load_page() -> Mapping[str, PageFile]:
    """Return the files of the page by their names, `INDEX` among them."""
    found = dict[str, PageFile]()
    for file in files("duckservice.dashboard").joinpath("page").iterdir():
        kind = _KINDS.get(PurePosixPath(file.name).suffix)
        if kind is not None and file.is_file():
            found[file.name] = PageFile(kind, file.read_bytes())
    return found
