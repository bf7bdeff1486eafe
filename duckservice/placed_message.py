"""A message whose parts remember what the client calls them."""

from __future__ import annotations

import attrs

from duckservice.completion import Message


@attrs.frozen(kw_only=True)
class PlacedMessage(Message):
    """A message read from a format that has no list of messages.

    OpenAI's Responses are a list of items, of which several make one message;
    so where a part stood cannot be told from where it stands now.
    """

    place: str
    """The path of what ``extra`` was written in, e.g. ``input[3]``."""
    places: tuple[str, ...]
    """The path of each part, e.g. ``input[3].content[0]``, or ``input[4]`` for a
    part that is an item of its own."""
