"""What has been seen of a reply, for the bill of one that breaks off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs
import trio

from duckservice.completion import (
    AnyRequest,
    Chunk,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReport,
)
from duckservice.money.spending import prompt_size

# A tuple: the union of classes is made anew for each chunk, and takes 5 times as long.
_TEXTS: Final = (TextDelta, ReasoningDelta, RefusalDelta)


@attrs.define(eq=False)
class Meter:
    """What has been seen of a stream: enough to bill one that breaks off."""

    reported: Usage = attrs.field(factory=Usage)
    first_content: float | None = None
    """When the first of the reply itself was here, after what only announces it."""
    model: str = ""
    """What the provider says is answering."""
    pieces: int = 0
    """In which the stream came: chunks that arrive together are one."""
    _chars: int = 0

    def read(self, batch: Sequence[Chunk]) -> None:
        """Take note of some chunks."""
        self.pieces += 1
        for chunk in batch:
            if isinstance(chunk, _TEXTS):
                self._chars += len(chunk.text)
            elif isinstance(chunk, ToolCallDelta):
                self._chars += len(chunk.arguments)
            elif isinstance(chunk, UsageReport):
                self.reported = chunk.usage
            elif isinstance(chunk, Started):
                self.model = chunk.model
        # A call without arguments is content, too.
        if self.first_content is None and (
            self._chars or any(isinstance(chunk, ToolCallDelta) for chunk in batch)
        ):
            self.first_content = trio.current_time()

    def total(self, request: AnyRequest) -> Usage:
        """Return what a whole reply used; our guess, if the provider did not say."""
        return self.reported if self.reported.total_tokens else self.estimate(request)

    def estimate(self, request: AnyRequest) -> Usage:
        """Return what was reported, and where that is less than was seen, our guess."""
        output = max(self.reported.output_tokens, -(-self._chars // 4))
        return attrs.evolve(
            self.reported,
            input_tokens=self.reported.input_tokens or prompt_size(request),
            output_tokens=output,
            estimated=True,
        )
