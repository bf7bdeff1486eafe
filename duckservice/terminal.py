"""What strings from outside may do to a terminal: nothing but print.

Model names, error texts and replies are written by others. A control sequence
in them could move the cursor, set the title or type for the user.
"""

from __future__ import annotations

import re

CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0, DEL and C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # order of writing
    "\u2028\u2029"  # separators of lines and paragraphs
    "\ud800-\udfff]"  # lone surrogates cannot be encoded
)

_SEQUENCE = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: cursor, colour, modes
    "|(?:\x1b[\\]PX^_]|[\x90\x98\x9d-\x9f])"  # OSC, DCS, SOS, PM, APC ...
    "[^\x07\x1b\x9c]*(?:\x07|\x1b\\\\|\x9c)"  # ... to their terminator
    "|\x1b[ -/]*[0-OQ-WYZ\\\\`-~]"  # other escapes
)
_STRAY = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_SEQUENCE_CHARS_MAX = 4096


def escape_controls(text: str) -> str:
    r"""Return *text* on one line, with each control character written as ``\x1b``."""
    return CONTROLS.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode("ascii")


class ReplyFilter:
    """Strips control sequences from a text that arrives in pieces.

    Lines and tabs stay. A sequence may be cut anywhere between two pieces.
    """

    def __init__(self) -> None:
        self._pending = ""

    def feed(self, piece: str) -> str:
        """Return what of the text so far may be printed now."""
        text = _SEQUENCE.sub("", self._pending + piece)
        start = _first_opener(text)
        # An opener that is never closed would hold the rest of the reply back.
        if start < 0 or len(text) - start > _SEQUENCE_CHARS_MAX:
            self._pending = ""
            return _STRAY.sub("", text)
        self._pending = text[start:]
        return _STRAY.sub("", text[:start])

    def finish(self) -> str:
        """Return the rest, when no more is to come."""
        rest, self._pending = self._pending, ""
        return _STRAY.sub("", rest)


_OPENER = re.compile("[\x1b\x90\x98\x9b\x9d-\x9f]")


def _first_opener(text: str) -> int:
    match = _OPENER.search(text)
    return match.start() if match else -1
