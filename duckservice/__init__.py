"""The local daemon that owns a machine's LLM traffic; also to be embedded.

    async with duckservice.open_service(config) as duck:
        completion = await duck.complete(request)

The way of a request: `gateway` reads it off the socket, `service` carries it,
`core` decides, `actors` guard what is shared, `providers` send it. `tree` says
who is supervised by whom, `daemon` is the process.

Names are imported when they are first used: the command-line client must start
fast, and needs next to nothing of this.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duckservice.calls.call import (
        Answer as Answer,
        CallOptions as CallOptions,
        CallReport as CallReport,
        StreamAnswer as StreamAnswer,
    )
    from duckservice.completion import (
        ChatRequest as ChatRequest,
        Chunk as Chunk,
        Completion as Completion,
        EmbeddingRequest as EmbeddingRequest,
        Embeddings as Embeddings,
        Finished as Finished,
        GeneratedImage as GeneratedImage,
        ImageRequest as ImageRequest,
        Images as Images,
        Message as Message,
        ReasoningDelta as ReasoningDelta,
        RefusalDelta as RefusalDelta,
        Started as Started,
        TextDelta as TextDelta,
        ToolCallDelta as ToolCallDelta,
        Usage as Usage,
        UsageReport as UsageReport,
    )
    from duckservice.config import Config as Config
    from duckservice.core.job import Job as Job
    from duckservice.embedding import (
        Duck as Duck,
        open_service as open_service,
        run as run,
    )
    from duckservice.errors import DuckError as DuckError

__version__ = "0.1.0"

_HOME = {
    "Answer": "calls.call",
    "CallOptions": "calls.call",
    "CallReport": "calls.call",
    "StreamAnswer": "calls.call",
    "ChatRequest": "completion",
    "Chunk": "completion",
    "Completion": "completion",
    "EmbeddingRequest": "completion",
    "Embeddings": "completion",
    "GeneratedImage": "completion",
    "ImageRequest": "completion",
    "Images": "completion",
    "Message": "completion",
    "TextDelta": "completion",
    "Finished": "completion",
    "ReasoningDelta": "completion",
    "RefusalDelta": "completion",
    "Started": "completion",
    "ToolCallDelta": "completion",
    "UsageReport": "completion",
    "Usage": "completion",
    "Config": "config",
    "Job": "core.job",
    "DuckError": "errors",
    "Duck": "embedding",
    "open_service": "embedding",
    "run": "embedding",
}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
